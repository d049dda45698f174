"""How chunks are cut into Dask blocks."""

import bisect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.plan.batches import cut_batches
from zarr_vectors_lazy.types import IntArray


@dataclass(frozen=True, slots=True)
class UpTo:
    """Blocks of neighbouring chunks, bounded by bytes of their positions and by number."""

    nbytes: float
    chunks: int


Chunking: TypeAlias = int | str | UpTo | None
"""None (also given as {}): a block a chunk; "auto": up to Dask's ``array.chunk-size``; an int: so many chunks."""


def check_chunking(chunks: object) -> Chunking:
    """Return ``chunks`` if it is a way to cut blocks.

    Raises
    ------
    SelectionError
        If it is not.
    """
    if chunks is None or (isinstance(chunks, Mapping) and not chunks):  # {}: as xarray calls a block a chunk
        return None
    if isinstance(chunks, str) and chunks == "auto":
        return chunks
    if isinstance(chunks, int | np.integer) and not isinstance(chunks, bool) and chunks > 0:
        return int(chunks)
    raise SelectionError(f"chunks must be None, 'auto' or a number of Zarr Vectors chunks a block, found {chunks!r}")


def cut_blocks(n: int, chunking: Chunking, sizes: npt.NDArray[Any] | float, target: int) -> IntArray:
    """Bounds of the blocks of ``n`` chunks.

    Parameters
    ----------
    n
        Number of chunks, in order.
    chunking
        How to cut.
    sizes
        Bytes of each chunk, (n,), or of any.
    target
        Bytes of a block for ``"auto"``, at most; at least one chunk.

    Returns
    -------
    (blocks + 1,) int64: block b has chunks ``bounds[b]:bounds[b + 1]``.
    """
    if isinstance(chunking, UpTo):
        nbytes = np.broadcast_to(np.asarray(sizes, np.float64), (n,))
        return cut_batches(nbytes, slots=1, cells=chunking.chunks, budget=chunking.nbytes)
    if chunking == "auto":
        ends = np.cumsum(np.broadcast_to(np.asarray(sizes, np.float64), (n,))).tolist()
        bounds = [0]
        while bounds[-1] < n:
            start = bounds[-1]
            full = bisect.bisect_right(ends, (ends[start - 1] if start else 0.0) + target)
            bounds.append(max(full, start + 1))  # a chunk that is larger is a block of its own
        return np.asarray(bounds, np.int64)
    step = chunking if isinstance(chunking, int) else 1
    return np.append(np.arange(0, n, step), n).astype(np.int64)
