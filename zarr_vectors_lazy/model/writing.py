"""What a write, or the building of a pyramid, leaves behind, task by task."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np

from zarr_vectors_lazy.types import Buffer, ChunkCoords, Floats, IntArray, Json

# The parts of a write: how cells are stored, which arrays there are, and the records that tasks leave.

Compressor: TypeAlias = Literal["zstd", "blosc"] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """How the cells of a store are stored.

    Parameters
    ----------
    compressor
        Compressor of each cell; None for none.
    checksum
        Whether a crc32c follows each cell, so that a flipped bit is an error for any Zarr reader.
    shard_shape
        Chunks that share an object along each chunk axis; None for one object per chunk.
    """

    compressor: Compressor = "zstd"
    checksum: bool = True
    shard_shape: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The chunk grid that all arrays of a level share; known before the first cell is written, as it names cells.

    Parameters
    ----------
    origin
        (K,) chunk coordinate of the cell with index 0.
    shape
        (K,) cells along each axis.
    """

    origin: tuple[int, ...]
    shape: tuple[int, ...]

    @classmethod
    def of_bounds(cls, lo: Floats, hi: Floats, chunk_shape: Floats) -> "Grid":
        """Grid of the chunks from that of ``lo`` to that of ``hi`` (spec 0.9, 4.2)."""
        first = np.floor(lo / chunk_shape).astype(np.int64)
        last = np.floor(hi / chunk_shape).astype(np.int64)
        return cls(origin=tuple(first.tolist()), shape=tuple(np.maximum(1, last - first + 1).tolist()))


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayDraft:
    """An array of cells to write, made by the generation.

    Parameters
    ----------
    path
        Below the level, e.g. ``"vertices"`` or ``"links/0/+1.0.0"``.
    attributes
        Its own attributes, without the list of its cells.
    """

    path: str
    attributes: Json


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cells:
    """Payloads of some cells of one array.

    Parameters
    ----------
    path
        Path of the array, below the level.
    coords
        (n, K) their chunks.
    payloads
        One for each, not encoded.
    """

    path: str
    coords: ChunkCoords
    payloads: Sequence[Buffer]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LevelRecord:
    """What a task wrote; small, so that one task can gather all records; `merge_records` joins them.

    Parameters
    ----------
    cells
        (n, K) chunks of the cells written, by the array's path below the level.
    coords, counts
        (n, K) chunks of ``vertices`` and the rows of each.
    lo, hi
        (D,) corners of the vertices written; inf and -inf if there are none.
    content
        By path, a number that changes when a stored cell does, whatever the order of the cells.
    """

    cells: dict[str, ChunkCoords]
    coords: ChunkCoords
    counts: IntArray
    lo: Floats
    hi: Floats
    content: dict[str, int] = field(default_factory=dict)

    @property
    def vertex_count(self) -> int:
        """Rows written."""
        return int(self.counts.sum())


def merge_records(records: Sequence[LevelRecord]) -> LevelRecord:
    """Join what several tasks wrote, with chunks in the order of the records; at least one record."""
    parts: dict[str, list[ChunkCoords]] = {}
    content: dict[str, int] = {}
    for record in records:
        for path, coords in record.cells.items():
            parts.setdefault(path, []).append(coords)
            content[path] = (content.get(path, 0) + record.content.get(path, 0)) % 2**64
    return LevelRecord(
        cells={path: np.concatenate(coords) for path, coords in parts.items()},
        coords=np.concatenate([record.coords for record in records]),
        counts=np.concatenate([record.counts for record in records]),
        lo=np.stack([record.lo for record in records]).min(axis=0),
        hi=np.stack([record.hi for record in records]).max(axis=0),
        content=content,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkFamilyDraft:
    """A link family to write.

    Parameters
    ----------
    delta
        Level of endpoints 1.. minus this level.
    width
        Endpoints of a record, L.
    directed
        Whether the order of endpoints is that of the record.
    count
        Number of records.
    values
        Dtype and row shape of each link attribute, by name.
    fills
        The integer that stands for a missing value, for attributes that have one.
    """

    delta: int
    width: int
    directed: bool
    count: int
    values: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = field(default_factory=dict)
    fills: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LevelDraft:
    """A level to write, except what its cells' records show.

    Parameters
    ----------
    level
        Its index.
    rank
        Components of a chunk coordinate, K.
    arrays
        Vertices, fragments and attributes; link arrays follow from their families.
    families
        Its link families.
    attributes
        Other members of ``zarr_vectors_level`` (spec 0.9, 3.4): ``parent_level``, ``chunk_shape``, ...
    """

    level: int
    rank: int
    arrays: tuple[ArrayDraft, ...]
    families: tuple[LinkFamilyDraft, ...] = ()
    attributes: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Notes:
    """What a copy keeps of a store's metadata, in addition to what its writer states.

    Parameters
    ----------
    root
        The source's root attributes; empty if there is no source.
    nodes
        Attributes of the copy's other nodes, by path, that do not describe layout; the last part of a path may be
        ``*``.
    """

    root: Json = field(default_factory=dict)
    nodes: dict[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoreDraft:
    """The root of a store to write (spec 0.9, 3.1 to 3.3).

    Parameters
    ----------
    chunk_shape, bin_shape
        (D,) at level 0.
    bounds
        (lo, hi), each (D,); they enclose every vertex.
    geometry_types, links_convention
        By their names in the format.
    axes, units
        Names and units of the axes; a unit may be None.
    crs
        As given, None for none.
    bins_apart
        Whether rows are not sorted by bin, so that only the level's transformation states the bin shape.
    name
        Name of the collection.
    """

    chunk_shape: Floats
    bin_shape: Floats
    bounds: tuple[Floats, Floats]
    geometry_types: tuple[str, ...]
    links_convention: str
    axes: tuple[str, ...]
    units: tuple[str | None, ...]
    crs: Any = None
    bins_apart: bool = False
    name: str = ""


# What building a pyramid leaves behind, task by task.

CrossStorage: TypeAlias = Literal["none", "implicit", "explicit"]
Kind: TypeAlias = Literal["points", "sets", "paths", "graph", "tree", "faces"]
"""How vertices are joined: all of a bin; those of an object in a bin (points with objects); runs of a path; connected
ones, without and with a direction; those of an object in a bin, with faces."""
LINKED: tuple[Kind, ...] = ("graph", "tree", "faces")
"""Kinds whose links a build reads; paths follow from manifests."""

ChunkKey: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CellRecord:
    """A cell that was written.

    Parameters
    ----------
    level
        Its level.
    path
        Path of its array, below the level.
    chunk
        Its chunk.
    count
        Number of vertices or records in it.
    content
        A number that changes with its bytes.
    """

    level: int
    path: str
    chunk: ChunkKey
    count: int
    content: int


@dataclass(frozen=True, slots=True)
class ChunkRecord:
    """A finished coarse chunk; small, because it travels and is kept in the journal.

    Parameters
    ----------
    chunk
        Its coordinate.
    rows
        Number of vertices in it; a chunk without any has no cells.
    cells
        What was written for it, on its own level and on finer ones.
    shards
        (shards + 1,) where the rows of its table of pieces end for each shard of objects.
    """

    chunk: ChunkKey
    rows: int
    cells: tuple[CellRecord, ...] = ()
    shards: tuple[int, ...] = ()

    def __reduce__(self) -> tuple[Any, ...]:  # plain values travel several times as fast
        return ChunkRecord.from_json, (self.to_json(),)

    def to_json(self) -> Json:
        """Return it as plain values."""
        cells = [[cell.level, cell.path, list(cell.chunk), cell.count, cell.content] for cell in self.cells]
        return {"chunk": list(self.chunk), "rows": self.rows, "cells": cells, "shards": list(self.shards)}

    @classmethod
    def from_json(cls, found: Any) -> "ChunkRecord":
        """Restore what `to_json` returned."""
        cells = tuple(CellRecord(level, path, tuple(chunk), *rest) for level, path, chunk, *rest in found["cells"])
        return cls(tuple(found["chunk"]), found["rows"], cells, tuple(found["shards"]))


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """Fragments of a coarse chunk: consecutive rows of its cell that belong to one object.

    Parameters
    ----------
    starts
        (F + 1,) rows of fragment f are ``starts[f]:starts[f + 1]``.
    owners
        (F,) manifest row of the object of each, ascending; -1 for none. None if there are no objects.
    first, last
        (F,) where each begins and ends among the fragments of its object on the finer level; only for paths.
    """

    starts: IntArray
    owners: IntArray | None = None
    first: IntArray | None = None
    last: IntArray | None = None

    def bridges(self) -> IntArray:
        """(B, 2) rows between which paths lead from one piece to the next."""
        assert self.owners is not None
        assert self.first is not None
        assert self.last is not None
        one, other = following(self.owners, self.first, self.last)
        return np.stack([self.starts[one + 1] - 1, self.starts[other]], axis=1)


def following(owners: IntArray, first: IntArray, last: IntArray) -> tuple[IntArray, IntArray]:
    """Pairs of consecutive pieces on the path of an object: numbers of the first, and of the second."""
    order = np.argsort(owners * (int(last.max(initial=0)) + 2) + first, kind="stable")
    one, other = order[:-1], order[1:]
    meet = np.flatnonzero((owners[one] == owners[other]) & (last[one] + 1 == first[other]))
    return one[meet], other[meet]
