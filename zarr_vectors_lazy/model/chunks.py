"""Chunk coordinates."""

from typing import Any

import numpy as np

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.types import ChunkCoords, IntArray

MAX_GRID_CELLS = 2**62
DENSE_GRID = 2**20  # cells of a grid of which a table is kept, where many are looked up


class ChunkTable:
    """Chunk coordinates in lexicographic order, searchable.

    Parameters
    ----------
    coords
        (n, K) int64 in any order, without repeats.

    Attributes
    ----------
    coords
        (n, K) int64, ascending.
    order
        (n,) positions in the input of the sorted rows.
    """

    __slots__ = ("_dense", "_extent", "_lo", "_scalar", "coords", "order")

    def __init__(self, coords: ChunkCoords) -> None:
        coords = np.ascontiguousarray(coords, np.int64)
        n, rank = coords.shape
        self._lo = coords.min(axis=0) if n else np.zeros(rank, np.int64)
        self._extent = (coords.max(axis=0) - self._lo + 1) if n else np.ones(rank, np.int64)
        if np.prod(self._extent.astype(np.float64)) > MAX_GRID_CELLS:
            raise FormatError(f"chunks spread over an absurd grid of {self._extent.tolist()} cells")
        scalar = self._pack(coords)
        self.order = np.argsort(scalar, kind="stable")
        self._scalar = scalar[self.order]
        self.coords = coords[self.order]
        self._dense: IntArray | None = None
        if n > 1 and (self._scalar[1:] == self._scalar[:-1]).any():
            repeat = self.coords[1:][self._scalar[1:] == self._scalar[:-1]][0]
            raise FormatError(f"chunk {dotted(repeat)!r} is listed twice")

    def __len__(self) -> int:
        return len(self.coords)

    def __reduce__(self) -> tuple[Any, ...]:
        return ChunkTable, (self.coords,)

    @property
    def rank(self) -> int:
        """Components of a coordinate, K."""
        return int(self.coords.shape[1])

    def _pack(self, coords: ChunkCoords) -> IntArray:
        packed = np.zeros(len(coords), np.int64)
        for axis in range(coords.shape[1]):
            packed = packed * self._extent[axis] + (coords[:, axis] - self._lo[axis])
        return packed

    def find(self, coords: ChunkCoords) -> IntArray:
        """(m,) row of each of (m, K) coordinates in the table, -1 where it is not listed."""
        coords = np.asarray(coords, np.int64).reshape(-1, self.coords.shape[1])
        if not len(self):
            return np.full(len(coords), -1, np.int64)
        inside, packed = np.ones(len(coords), np.bool_), np.zeros(len(coords), np.int64)
        for axis in range(coords.shape[1]):
            column = coords[:, axis] - self._lo[axis]
            inside &= column.view(np.uint64) < np.uint64(self._extent[axis])  # what is negative is large
            packed *= self._extent[axis]
            packed += column
        every = bool(inside.all())
        packed = packed if every else np.where(inside, packed, 0)
        at = self._look_up(packed)
        return at if every else np.where(inside, at, -1)

    def _look_up(self, packed: IntArray) -> IntArray:
        """Rows of cells of the grid, -1 where there is none."""
        cells = int(np.prod(self._extent))
        if cells > max(DENSE_GRID, 4 * len(self)) or len(packed) < cells // 8:
            at = np.minimum(np.searchsorted(self._scalar, packed), len(self) - 1)
            return np.where(self._scalar[at] == packed, at, -1)
        if self._dense is None:
            dense = np.full(cells, -1, np.int64)
            dense[self._scalar] = np.arange(len(self))
            self._dense = dense
        return self._dense[packed]

    def take(self, rows: IntArray) -> "ChunkTable":
        """Return a table of some rows, ascending."""
        return ChunkTable(self.coords[rows])


def distinct_chunks(coords: ChunkCoords) -> tuple[ChunkTable, IntArray]:
    """Table of the different ones of (n, K) coordinates, and (n,) the row of each in it."""
    if not len(coords):
        return ChunkTable(coords), np.zeros(0, np.int64)
    corners = ChunkTable(np.unique([coords.min(axis=0), coords.max(axis=0)], axis=0))
    packed = corners._pack(np.asarray(coords, np.int64))
    cells = int(np.prod(corners._extent))
    if cells <= 4 * len(packed) + 1024:
        occupied = np.bincount(packed, minlength=cells) > 0
        found, number = np.flatnonzero(occupied), (np.cumsum(occupied) - 1)[packed]
    else:
        found, number = np.unique(packed, return_inverse=True)
    out = np.empty((len(found), coords.shape[1]), np.int64)
    for axis in reversed(range(coords.shape[1])):
        found, out[:, axis] = np.divmod(found, corners._extent[axis])
    return ChunkTable(out + corners._lo), number.reshape(-1)


def dotted(coord: Any) -> str:
    """Chunk coordinate as the format writes it, e.g. ``"3.0.-1"``."""
    return ".".join(str(int(c)) for c in coord)
