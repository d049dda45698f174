"""Bins of a coarse chunk: which vertex lies in which, and back."""

from dataclasses import dataclass

import numpy as np

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.types import Floats, IntArray, Vertices

NUDGES = 4  # steps of one unit in the last place until a vertex on a face lies inside


@dataclass(frozen=True, slots=True, eq=False)
class BinGrid:
    """The bins of one coarse chunk; they tile it.

    Parameters
    ----------
    first
        (D,) bin coordinate of the chunk's lowest bin, signed.
    shape
        (D,) bins along each axis.
    edge
        (D,) edge lengths of a bin.
    chunk
        (D,) coordinate of the chunk.
    chunk_edge
        (D,) edge lengths of the chunk.
    """

    first: IntArray
    shape: IntArray
    edge: Floats
    chunk: IntArray
    chunk_edge: Floats

    @property
    def cells(self) -> int:
        """Bins of the chunk."""
        return int(np.prod(self.shape))


def bins_of(positions: Vertices, grid: BinGrid) -> IntArray:
    """(N,) bin of each vertex in C order; a quotient that rounding puts outside the chunk is put back.

    Raises
    ------
    FormatError
        If a position is not finite.
    """
    index = np.zeros(len(positions), np.float64)
    for axis, (first, count, edge) in enumerate(zip(grid.first, grid.shape, grid.edge, strict=True)):
        column = positions[:, axis].astype(np.float64)
        column /= edge
        np.floor(column, out=column)
        column -= first
        np.clip(column, 0, count - 1, out=column)
        index *= count
        index += column
    if not np.isfinite(index).all():
        raise FormatError("a vertex has a coordinate that is not a number")
    return index.astype(np.int64)


def place_in_bins(means: Floats, bins: IntArray, grid: BinGrid, dtype: np.dtype[np.floating]) -> Vertices:
    """(C, D) means in the stored dtype, each inside its bin, so that every reader finds it in this chunk."""
    out = np.empty(means.shape, dtype)
    local = np.unravel_index(bins, tuple(grid.shape.tolist()))
    for axis in range(means.shape[1]):
        lower = (grid.first[axis] + local[axis]) * grid.edge[axis]
        upper = (grid.first[axis] + local[axis] + 1) * grid.edge[axis]
        out[:, axis] = _inside(means[:, axis].astype(dtype), lower, upper)
        _keep_in_chunk(out[:, axis], int(grid.chunk[axis]), float(grid.chunk_edge[axis]))
    return out


def _inside(values: Vertices, lower: Floats, upper: Floats) -> Vertices:
    """Values clamped to [lower, upper), in their own dtype."""
    dtype = values.dtype
    low, high = lower.astype(dtype), upper.astype(dtype)
    low = np.where(low.astype(np.float64) < lower, np.nextafter(low, dtype.type(np.inf)), low)
    high = np.where(high.astype(np.float64) >= upper, np.nextafter(high, dtype.type(-np.inf)), high)
    return np.where(values < low, low, np.where(values > high, high, values))


def _keep_in_chunk(values: Vertices, chunk: int, edge: float) -> None:
    """Move values that division rounds into the next chunk by a unit in the last place, in place."""
    for _ in range(NUDGES):
        found = np.floor(values.astype(np.float64) / edge)
        off = found != chunk
        if not off.any():
            return
        towards = np.where(found[off] < chunk, np.inf, -np.inf).astype(values.dtype)
        values[off] = np.nextafter(values[off], towards)


def root_slots(positions: Vertices, grid: BinGrid, shape: IntArray) -> IntArray:
    """(C,) bin of each vertex among ``shape`` (D,) bins of the chunk, in C order."""
    edge = grid.chunk_edge / shape
    return bins_of(positions, BinGrid(grid.chunk * shape, shape, edge, grid.chunk, grid.chunk_edge))
