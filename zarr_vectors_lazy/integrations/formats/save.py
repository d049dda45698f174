"""Which suffix is written how."""

from collections.abc import Callable
from pathlib import Path

from zarr_vectors_lazy.api.level import ZVLevel
from zarr_vectors_lazy.errors import SelectionError, listed
from zarr_vectors_lazy.integrations.formats.geometry import save_npz, save_obj, save_ply
from zarr_vectors_lazy.integrations.formats.paths import save_streamlines, save_swc, save_trx
from zarr_vectors_lazy.integrations.formats.tables import save_csv, save_parquet

SAVERS: dict[str, Callable[[ZVLevel, Path], int]] = {
    ".csv": save_csv,
    ".npz": save_npz,
    ".obj": save_obj,
    ".parquet": save_parquet,
    ".ply": save_ply,
    ".swc": save_swc,
    ".tck": save_streamlines,
    ".trk": save_streamlines,
    ".trx": save_trx,
}


def save(level: ZVLevel, path: Path) -> int:
    """Write a level or a selection to a file; its suffix says how. Returns the number of vertices written.

    The file is written beside its place and moved there when it is whole.

    Raises
    ------
    SelectionError
        If no suffix of ours says how, or what is selected does not fit the format.
    ImportError
        If the library that writes it is not installed.
    """
    saver = SAVERS.get(path.suffix.lower())
    if saver is None:
        raise SelectionError(f"no format {path.suffix!r} for {path.name!r}; there is {listed(SAVERS)}")
    if not path.parent.is_dir():
        raise SelectionError(f"no folder {str(path.parent)!r}")
    unfinished = path.with_name(f".unfinished-{path.name}")
    try:
        count = saver(level, unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return count
