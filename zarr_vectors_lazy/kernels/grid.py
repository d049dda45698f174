"""Rows counted in the cells of a regular grid."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from zarr_vectors_lazy.types import Floats, IntArray, Vertices


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


def bin_rows(grid: Grid, positions: Vertices, values: np.ndarray[Any, Any] | None) -> Binned:
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
