"""The root of a store, its levels and their chunks, and the findings of a check."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np

from zarr_vectors_lazy.errors import FormatError, in_line
from zarr_vectors_lazy.model.world import World
from zarr_vectors_lazy.types import Array, ChunkCoords, Floats, IntArray, Json

# Chunk coordinates.

MAX_GRID_CELLS = 2**62
DENSE_SHARE = 8  # numbers are counted in a table if it needs at most so many cells for each of them
DENSE_GRID = 2**20  # cells of a grid for which a table is kept, if many are looked up


class ChunkTable:
    """Chunk coordinates in lexicographic order, searchable.

    Parameters
    ----------
    coords
        (n, K) int64, distinct, in any order.

    Attributes
    ----------
    coords
        (n, K) int64, ascending.
    order
        (n,) positions of the sorted rows in the input.
    """

    __slots__ = ("_cells", "_dense", "_extent", "_lo", "_scalar", "coords", "order")

    def __init__(self, coords: ChunkCoords) -> None:
        coords = np.ascontiguousarray(coords, np.int64)
        n, rank = coords.shape
        self._lo = coords.min(axis=0) if n else np.zeros(rank, np.int64)
        self._extent = (coords.max(axis=0) - self._lo + 1) if n else np.ones(rank, np.int64)
        self._cells = math.prod(self._extent.tolist())
        if self._cells > MAX_GRID_CELLS:
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
        """(m,) row of each of (m, K) coordinates in the table, -1 if it is not listed."""
        coords = np.asarray(coords, np.int64).reshape(-1, self.coords.shape[1])
        if not len(self):
            return np.full(len(coords), -1, np.int64)
        inside, packed = np.ones(len(coords), np.bool_), np.zeros(len(coords), np.int64)
        for axis in range(coords.shape[1]):
            column = coords[:, axis] - self._lo[axis]
            inside &= column.view(np.uint64) < np.uint64(self._extent[axis])  # negative numbers count as large
            packed *= self._extent[axis]
            packed += column
        every = bool(inside.all())
        packed = packed if every else np.where(inside, packed, 0)
        at = self._look_up(packed)
        return at if every else np.where(inside, at, -1)

    def row(self, coord: Sequence[int]) -> int:
        """Row of one coordinate, -1 if it is not listed: for servers, at a tenth of the cost of `find`."""
        packed = 0
        for part, low, extent in zip(coord, self._lo.tolist(), self._extent.tolist(), strict=True):
            if not low <= part < low + extent:
                return -1
            packed = packed * extent + part - low
        at = int(np.searchsorted(self._scalar, packed))
        return at if at < len(self) and self._scalar[at] == packed else -1

    def _look_up(self, packed: IntArray) -> IntArray:
        """Rows of cells of the grid, -1 if there are none."""
        cells = self._cells
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


def ranked(keys: IntArray, bound: int) -> tuple[IntArray, IntArray]:
    """(n,) rank of each of some integers, 0 to ``bound`` - 1, among the distinct ones, and these, ascending."""
    if bound <= DENSE_SHARE * len(keys) + 1024:
        occupied = np.bincount(keys, minlength=bound) > 0
        return (np.cumsum(occupied) - 1)[keys], np.flatnonzero(occupied)
    found, places = np.unique(keys, return_inverse=True)
    return places.reshape(-1), found


def distinct_chunks(coords: ChunkCoords) -> tuple[ChunkTable, IntArray]:
    """Table of the distinct ones of (n, K) coordinates, and (n,) the row of each in it."""
    if not len(coords):
        return ChunkTable(coords), np.zeros(0, np.int64)
    columns = list(coords.T)  # column by column: across short rows NumPy takes ten times as long
    ends = [[column.min() for column in columns], [column.max() for column in columns]]
    corners = ChunkTable(np.unique(np.asarray(ends, np.int64), axis=0))
    number, found = ranked(corners._pack(np.asarray(coords, np.int64)), corners._cells)
    out = np.empty((len(found), coords.shape[1]), np.int64)
    for axis in reversed(range(coords.shape[1])):
        found, out[:, axis] = np.divmod(found, corners._extent[axis])
    return ChunkTable(out + corners._lo), number


def by_key(coords: ChunkCoords) -> tuple[list[str], list[int]]:
    """Dotted keys of (n, K) chunks, and the numbers of the chunks in the order of their keys as text."""
    keys = [".".join(map(str, coord)) for coord in coords.tolist()]
    return keys, sorted(range(len(keys)), key=keys.__getitem__)


def dotted(coord: Any) -> str:
    """Chunk coordinate as the format writes it, such as ``"3.0.-1"``."""
    return ".".join(str(int(c)) for c in coord)


# The root of a store and its levels.


@dataclass(frozen=True, kw_only=True, eq=False)
class StoreMeta:
    """The root of a store.

    Parameters
    ----------
    version
        The format version found.
    chunk_shape, bin_shape
        (D,) edge lengths at level 0, in the units of the axes.
    bounds
        (lo, hi), each (D,).
    bins
        Bin edge lengths by level, if the root states them.
    told
        By name of a vertex attribute, the dtype and the number of values per row (None for as many as its bytes hold)
        that the user gives.
    """

    version: str
    axes: tuple[str, ...]
    units: tuple[str | None, ...]
    chunk_shape: Floats
    bin_shape: Floats
    bounds: tuple[Floats, Floats]
    geometry_types: tuple[str, ...]
    links_convention: str
    level_names: tuple[int, ...]
    bins: dict[int, Floats]
    crs: Any
    coordinate_offset: Floats | None
    attributes: Json
    told: Mapping[str, tuple[np.dtype[Any], int | None]] = field(default_factory=dict)

    def specified(self, name: str) -> Json:
        """What the root's ``attribute_specs`` say about a vertex attribute."""
        found: Any = self.attributes.get("zarr_vectors", {}).get("attribute_specs")
        for key in ("vertex", name):
            found = found.get(key) if isinstance(found, dict) else None
        return found if isinstance(found, dict) else {}

    @property
    def ndim(self) -> int:
        """Number of spatial axes, D."""
        return len(self.axes)

    @cached_property
    def world(self) -> World:
        """How stored coordinates become world coordinates."""
        return World(axes=self.axes, units=self.units, offset=self.coordinate_offset, crs=self.crs)


def tiles(bins: Floats, chunk: Floats) -> bool:
    """Whether a whole number of bins makes a chunk, per axis."""
    ratio = chunk / bins
    return bool((np.abs(ratio - np.rint(ratio)) < 1e-6).all() and (np.rint(ratio) >= 1).all())


def content_of(attributes: Json) -> str:
    """Digest of a level's data that its node states, if we wrote it."""
    ours = attributes.get("zarr_vectors_lazy")
    found = ours.get("content") if isinstance(ours, dict) else None
    return found if isinstance(found, str) else ""


@dataclass(frozen=True, kw_only=True, eq=False)
class LevelMeta:
    """One level, without its arrays.

    Parameters
    ----------
    index
        Level number.
    chunk_shape, bin_shape
        (D,) edge lengths at this level.
    vertex_count
        Declared rows, or None.
    chunk_attribute
        Name and values of the attribute that is the first chunk axis, or None.
    chunk_bins
        Name of a first chunk axis that is not an attribute; empty if there is none.
    chunk_lost
        Name of an attribute by which chunks were binned, whose values were lost; empty if there is none.
    fragments_tile
        Whether fragments, in order, partition the rows of every chunk.
    count_is_sure
        Whether the declared number of rows is reliable enough to check reads against it.
    edges_lost
        Why the level's edges and faces cannot be read; empty if they can.
    objects_lost
        Why its objects cannot be read; empty if they can.
    strays
        Bin edge lengths, each (D,): rows may lie outside their chunk by as much as these bins reach out of it. None if
        they may lie anywhere.
    deferred
        Whether it is still being written: arrays may list no chunks yet.
    chain
        Levels that together make up this one, beginning with itself; empty for itself alone.
    link_groups
        Whether the metadata say that groups of link records inside chunks follow the fragments of vertices.
    """

    index: int
    chunk_shape: Floats
    bin_shape: Floats
    vertex_count: int | None
    chunk_attribute: tuple[str, Array] | None
    fragments_tile: bool
    attributes: Json
    count_is_sure: bool = True
    edges_lost: str = ""
    objects_lost: str = ""
    chunk_bins: str = ""
    chunk_lost: str = ""
    deferred: bool = False
    strays: tuple[Floats, ...] | None = ()
    chain: tuple[int, ...] = ()
    link_groups: bool = False

    @property
    def stated_count(self) -> int | None:
        """Rows that the metadata state, right or wrong; None if they state none."""
        count: int | None = self.block.get("vertex_count")
        return count

    @property
    def block(self) -> Json:
        """What the node says of the level (``zarr_vectors_level``); empty where it says nothing."""
        found: Json = self.attributes.get("zarr_vectors_level", {})
        return found

    @property
    def content(self) -> str:
        """What distinguishes the data of the level from others in the same place; empty if the store does not say."""
        return content_of(self.attributes)

    @cached_property
    def bins_tile(self) -> bool:
        """Whether a whole number of bins makes a chunk, per axis."""
        return tiles(self.bin_shape, self.chunk_shape)


# The findings of a check.

Check: TypeAlias = Literal["structure", "metadata", "counts", "fragments", "links", "manifests"]
CHECKS: tuple[Check, ...] = ("structure", "metadata", "counts", "fragments", "links", "manifests")
"""In the order in which a report lists them."""
Severity: TypeAlias = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a store.

    Parameters
    ----------
    check
        Which check found it.
    severity
        ``"error"``: the store contradicts the format or itself. ``"warning"``: legal, but probably not intended.
    where
        Path in the store, and the chunk if it concerns one; empty for the root.
    message
        What was found and what was expected.
    """

    check: Check
    severity: Severity
    where: str
    message: str

    def __str__(self) -> str:
        place = f"{self.check}, {self.where}" if self.where else self.check
        return in_line(f"{self.severity} in {place}: {self.message}")
