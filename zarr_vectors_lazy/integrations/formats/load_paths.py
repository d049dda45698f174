"""Skeletons from SWC, streamlines from TRK, TCK and TRX."""

from pathlib import Path
from typing import Any

import numpy as np

from zarr_vectors_lazy.integrations.formats.loaded import Loaded, wrong
from zarr_vectors_lazy.integrations.formats.optional import library


def load_swc(path: Path) -> Loaded:
    """Read SWC: one skeleton, with ``type`` and ``radius``."""
    try:
        table = np.loadtxt(path, ndmin=2, usecols=range(7))
    except ValueError as error:
        raise wrong(path, str(error)) from error
    ids, parents = table[:, 0].astype(np.int64), table[:, 6].astype(np.int64)
    order = np.argsort(ids)
    children = np.flatnonzero(parents >= 0)
    at = np.minimum(np.searchsorted(ids[order], parents[children]), len(ids) - 1)
    rows = order[at]
    if len(np.unique(ids)) != len(ids) or (ids[rows] != parents[children]).any():
        raise wrong(path, "an id is there twice, or a parent is not there")
    return Loaded(
        kind="skeleton",
        positions=table[:, 2:5].astype(np.float32),
        attributes={"type": table[:, 1].astype(np.int32), "radius": table[:, 5].astype(np.float32)},
        joins=np.column_stack([children, rows]),
    )


def load_streamlines(path: Path) -> Loaded:
    """Read TrackVis or MRtrix streamlines in RAS millimetres, with what is stored for each point."""
    nibabel = library("nibabel")
    try:
        tractogram = nibabel.streamlines.load(path).tractogram
    except (nibabel.streamlines.tractogram_file.HeaderError, nibabel.streamlines.tractogram_file.DataError) as error:
        raise wrong(path, str(error)) from error
    per_point = {name: values.get_data() for name, values in tractogram.data_per_point.items()}
    return _of_sequence(tractogram.streamlines, per_point)


def load_trx(path: Path) -> Loaded:
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
    return Loaded(kind="streamlines", positions=positions, attributes=attributes, joins=offsets)
