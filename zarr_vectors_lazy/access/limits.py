"""The limits of this process, from its settings."""

from functools import cache

import dask.config
from dask.utils import parse_bytes

from zarr_vectors_lazy.format.limits import LIMITS
from zarr_vectors_lazy.settings import setting


def adopt_limits() -> None:
    """Let what decodes know the settings as they are now."""
    LIMITS.cell_nbytes = _nbytes(setting("max-cell-bytes"))
    LIMITS.array_nbytes = _nbytes(setting("max-array-bytes"))


def block_nbytes() -> int:
    """Bytes of a block of a Dask array: its setting ``array.chunk-size``."""
    return _nbytes(dask.config.get("array.chunk-size"))


@cache
def _nbytes(value: int | str) -> int:
    return int(parse_bytes(value))
