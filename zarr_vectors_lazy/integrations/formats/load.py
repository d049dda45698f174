"""Which suffix is read how."""

from collections.abc import Callable
from pathlib import Path

from zarr_vectors_lazy.errors import SelectionError, listed
from zarr_vectors_lazy.integrations.formats.load_geometry import load_las, load_npz, load_obj, load_ply
from zarr_vectors_lazy.integrations.formats.load_paths import load_streamlines, load_swc, load_trx
from zarr_vectors_lazy.integrations.formats.load_tables import load_csv, load_parquet
from zarr_vectors_lazy.integrations.formats.loaded import Loaded

LOADERS: dict[str, Callable[[Path], Loaded]] = {
    ".csv": load_csv,
    ".las": load_las,
    ".laz": load_las,
    ".npz": load_npz,
    ".obj": load_obj,
    ".parquet": load_parquet,
    ".ply": load_ply,
    ".swc": load_swc,
    ".tck": load_streamlines,
    ".trk": load_streamlines,
    ".trx": load_trx,
}


def load(path: Path) -> Loaded:
    """Read a file of the field; its suffix says how.

    Raises
    ------
    SelectionError
        If there is no such file, no suffix of ours says how, or it is not what its suffix says.
    ImportError
        If the library that reads it is not installed.
    """
    loader = LOADERS.get(path.suffix.lower())
    if loader is None:
        raise SelectionError(f"no format {path.suffix!r} for {path.name!r}; there is {listed(LOADERS)}")
    if not path.is_file():
        raise SelectionError(f"no file {str(path)!r}")
    return loader(path)
