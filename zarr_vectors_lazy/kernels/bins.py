"""Bins of coarse chunks: which vertex lies in which, and back."""

from dataclasses import dataclass

import numpy as np

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.types import Floats, IntArray, Vertices

NUDGES = 4  # steps of one unit in the last place until a vertex on a face lies inside


@dataclass(frozen=True, slots=True, eq=False)
class BinGrid:
    """The bins of some coarse chunks, which they tile; numbered chunk by chunk, in C order in each.

    Parameters
    ----------
    chunks
        (g, D) coordinates of the chunks.
    shape
        (D,) bins of a chunk along each axis.
    edge, chunk_edge
        (D,) edge lengths of a bin, and of a chunk.
    """

    chunks: IntArray
    shape: IntArray
    edge: Floats
    chunk_edge: Floats

    @property
    def cells(self) -> int:
        """Bins of a chunk."""
        return int(np.prod(self.shape))


def bins_of(positions: Vertices, which: IntArray, grid: BinGrid) -> IntArray:
    """(N,) bin of each vertex; a quotient that rounding puts outside its chunk is put back.

    Parameters
    ----------
    which
        (N,) chunk of each vertex.

    Raises
    ------
    FormatError
        If a position is not finite.
    """
    index = np.zeros(len(positions), np.float64)
    for axis, (count, edge) in enumerate(zip(grid.shape.tolist(), grid.edge, strict=True)):
        column = positions[:, axis].astype(np.float64)
        column /= edge
        np.floor(column, out=column)
        column -= (grid.chunks[:, axis] * count).astype(np.float64)[which]
        np.clip(column, 0, count - 1, out=column)
        index *= count
        index += column
    if not np.isfinite(index).all():
        raise FormatError("a vertex has a coordinate that is not a number")
    return index.astype(np.int64) + which * grid.cells


def place_in_bins(means: Floats, bins: IntArray, grid: BinGrid, dtype: np.dtype[np.floating]) -> Vertices:
    """(C, D) means in the stored dtype, each inside its bin, so that every reader finds it in this chunk."""
    out, every = np.empty(means.shape, dtype), len(grid.chunks) * grid.cells
    named, rows = (np.arange(every), bins) if every < len(bins) else (bins, np.arange(len(bins)))  # faces once a bin
    which, local = np.divmod(named, grid.cells)
    for axis in reversed(range(means.shape[1])):
        local, along = np.divmod(local, grid.shape[axis])
        chunk = grid.chunks[which, axis]
        first = chunk * grid.shape[axis] + along
        column = _inside(means[:, axis].astype(dtype), first * grid.edge[axis], (first + 1) * grid.edge[axis], rows)
        _keep_in_chunk(column, chunk[rows], float(grid.chunk_edge[axis]))
        out[:, axis] = column
    return out


def _inside(values: Vertices, lower: Floats, upper: Floats, rows: IntArray) -> Vertices:
    """Values clamped to [lower, upper), in their own dtype; ``rows`` (N,) tells which of the bounds are each's."""
    dtype = values.dtype
    low, high = lower.astype(dtype), upper.astype(dtype)
    off = np.flatnonzero((values <= low[rows]) | (values >= high[rows]))  # few
    rows = rows[off]
    low, high, lower, upper = low[rows], high[rows], lower[rows], upper[rows]
    low = np.where(low.astype(np.float64) < lower, np.nextafter(low, dtype.type(np.inf)), low)
    high = np.where(high.astype(np.float64) >= upper, np.nextafter(high, dtype.type(-np.inf)), high)
    values[off] = np.clip(values[off], low, high)
    return values


def _keep_in_chunk(values: Vertices, chunk: IntArray, edge: float) -> None:
    """Move values that division rounds into the next chunk by a unit in the last place, in place."""
    for _ in range(NUDGES):
        found = np.floor(values.astype(np.float64) / edge)
        off = np.flatnonzero(found != chunk)
        if not len(off):
            return
        towards = np.where(found[off] < chunk[off], np.inf, -np.inf).astype(values.dtype)
        values[off] = np.nextafter(values[off], towards)


def root_slots(positions: Vertices, which: IntArray, grid: BinGrid, shape: IntArray) -> IntArray:
    """(C,) bin of each vertex among ``shape`` (D,) bins of a chunk, as `bins_of`."""
    return bins_of(positions, which, BinGrid(grid.chunks, shape, grid.chunk_edge / shape, grid.chunk_edge))
