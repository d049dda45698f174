"""Streamlines in TRK, TCK and TRX."""

from pathlib import Path
from typing import Any

import numpy as np

from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.files.loaded import Asked, Loaded, library
from zarr_vectors_lazy.files.outgoing import Outgoing


def load_streamlines(path: Path, asked: Asked) -> Loaded:
    """Read TrackVis or MRtrix streamlines in RAS millimetres, with what is stored for each point."""
    library("nibabel")
    tractogram = library("nibabel.streamlines", "nibabel").load(path).tractogram
    per_point = {name: values.get_data() for name, values in tractogram.data_per_point.items()}
    return _of_sequence(tractogram.streamlines, per_point)


def load_trx(path: Path, asked: Asked) -> Loaded:
    """Read TRX, with what is stored for each point."""
    trx_file_memmap = library("trx.trx_file_memmap", "trx-python")
    trx = trx_file_memmap.load(str(path))
    try:
        per_point = {name: np.array(values.get_data()) for name, values in trx.data_per_vertex.items()}
        return _of_sequence(trx.streamlines, per_point)
    finally:
        trx.close()


def _of_sequence(lines: Any, per_point: dict[str, np.ndarray[Any, Any]]) -> Loaded:
    """Streamlines of nibabel's array sequence."""
    counts = np.array([len(line) for line in lines], np.int64)
    positions = np.concatenate([np.empty((0, 3), np.float32), *(np.asarray(line, np.float32) for line in lines)])
    attributes = {name: values[:, 0] if values.shape[1:] == (1,) else values for name, values in per_point.items()}
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Loaded(kind="streamlines", positions=positions, attributes=attributes, offsets=offsets, unit="millimeter")


def save_streamlines(out: Outgoing, path: Path) -> int:
    """Write TrackVis or MRtrix streamlines in RAS millimetres."""
    library("nibabel")
    tracts = library("nibabel.streamlines", "nibabel")
    paths = _some(out)
    lines = np.split(paths.vertices.astype(np.float32), paths.offsets[1:-1])
    tractogram = tracts.Tractogram(lines, affine_to_rasmm=np.eye(4))
    is_tck = ".tck" in path.name.lower()
    file = tracts.TckFile(tractogram) if is_tck else tracts.TrkFile(tractogram)
    file.save(str(path))
    return len(paths.vertices)


def save_trx(out: Outgoing, path: Path) -> int:
    """Write TRX in RAS millimetres."""
    trx_file_memmap = library("trx.trx_file_memmap", "trx-python")
    paths = _some(out)
    trx = trx_file_memmap.TrxFile(nb_vertices=len(paths.vertices), nb_streamlines=len(paths.ids))
    trx.streamlines._data = paths.vertices.astype(np.float32)
    trx.streamlines._offsets = paths.offsets[:-1].astype(np.uint32)
    trx.streamlines._lengths = np.diff(paths.offsets).astype(np.uint32)
    trx_file_memmap.save(trx, str(path))
    trx.close()
    return len(paths.vertices)


def _some(out: Outgoing) -> Any:
    paths = out.paths
    if not len(paths.ids):
        raise SelectionError("there are no streamlines in what is selected")
    return paths
