"""Bins and grids: which vertex lies in which."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.types import Floats, IntArray, Vertices

# Bins of coarse chunks: which vertex lies in which, and back.

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


# Rows counted in the cells of a regular grid.


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Grid:
    """Cells of equal size.

    Parameters
    ----------
    lower, upper
        (D,) corners of the box that rows must lie in, both inclusive; what is on the upper face is in the last cell.
    columns
        (d,) coordinate columns that the axes of the grid are.
    edges
        (d,) edge lengths of a cell.
    shape
        (d,) number of cells.
    """

    lower: Floats
    upper: Floats
    columns: tuple[int, ...]
    edges: Floats
    shape: tuple[int, ...]

    @property
    def centres(self) -> list[Floats]:
        """Centres of the cells along each axis."""
        lower = self.lower[list(self.columns)]
        return [low + (np.arange(n) + 0.5) * edge for low, edge, n in zip(lower, self.edges, self.shape, strict=True)]

    def cells(self, positions: Vertices) -> IntArray:
        """(n,) flat number of the cell that each of (n, D) positions lies in, -1 outside."""
        points, columns = np.asarray(positions, np.float64), list(self.columns)
        inside = np.asarray(((points >= self.lower) & (points <= self.upper)).all(axis=1))
        at = np.floor((points[:, columns] - self.lower[columns]) / self.edges)
        at = np.minimum(np.where(inside[:, None], at, 0), np.asarray(self.shape) - 1).astype(np.int64)
        return np.where(inside, np.ravel_multi_index(tuple(at.T), self.shape), -1)


@dataclass(frozen=True, slots=True, eq=False)
class Binned:
    """Rows by cell, only cells that have any.

    Parameters
    ----------
    cells
        (c,) flat numbers, ascending.
    counts
        (c,) rows in each.
    sums
        (c,) sum of their values, zeros where none are given.
    outside
        Rows in no cell.
    """

    cells: IntArray
    counts: IntArray
    sums: Floats
    outside: int


def bin_rows(grid: Grid, positions: Vertices, values: np.ndarray[Any, Any] | None = None) -> Binned:
    """Count rows, and sum their values, by cell."""
    flat = grid.cells(positions)
    inside = flat >= 0
    cells, at = np.unique(flat[inside], return_inverse=True)
    weights = np.zeros(len(at)) if values is None else np.asarray(values, np.float64)[inside]
    return Binned(
        cells=cells,
        counts=np.bincount(at, minlength=len(cells)).astype(np.int64),
        sums=np.bincount(at, weights, minlength=len(cells)).astype(np.float64),
        outside=int(np.count_nonzero(~inside)),
    )


def merge_binned(parts: list[Binned]) -> Binned:
    """Add parts up, in their order."""
    cells, at = np.unique(np.concatenate([part.cells for part in parts]), return_inverse=True)
    counts = np.zeros(len(cells), np.int64)
    np.add.at(counts, at, np.concatenate([part.counts for part in parts]))
    sums = np.bincount(at, np.concatenate([part.sums for part in parts]), minlength=len(cells)).astype(np.float64)
    return Binned(cells, counts, sums, sum(part.outside for part in parts))


def dense_grid(grid: Grid, binned: Binned, *, mean: bool) -> np.ndarray[Any, Any]:
    """Array of the grid's shape: counts (int64), or means of values (float64), NaN where there are no rows."""
    if mean:
        out = np.full(int(np.prod(grid.shape)), np.nan)
        out[binned.cells] = binned.sums / binned.counts
    else:
        out = np.zeros(int(np.prod(grid.shape)), np.int64)
        out[binned.cells] = binned.counts
    return out.reshape(grid.shape)
