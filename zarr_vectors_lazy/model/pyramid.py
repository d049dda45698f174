"""What building a pyramid leaves behind, task by task."""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from zarr_vectors_lazy.types import IntArray, Json

CrossStorage: TypeAlias = Literal["none", "implicit", "explicit"]
Kind: TypeAlias = Literal["points", "sets", "paths", "graph", "tree", "faces", "shared"]
"""How vertices are joined: all of a bin; those of an object in a bin (points with objects); runs of a path; connected
ones, without and with a direction; those of an object in a bin, with faces; all of a bin, as the reference does."""

ChunkKey: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CellRecord:
    """A cell that was written.

    Parameters
    ----------
    level
        Its level.
    path
        Of its array, below the level.
    chunk
        Its chunk.
    count
        Vertices or records in it.
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
    """A coarse chunk that is finished; small, it travels and is kept in the journal.

    Parameters
    ----------
    chunk
        Its coordinate.
    rows
        Vertices in it; a chunk without any has no cells.
    cells
        What was written for it, on its own level and on finer ones.
    shards
        (shards + 1,) where the rows of its table of pieces end for each shard of objects.
    """

    chunk: ChunkKey
    rows: int
    cells: tuple[CellRecord, ...] = ()
    shards: tuple[int, ...] = ()

    def to_json(self) -> Json:
        """Return it as plain values."""
        cells = [[cell.level, cell.path, list(cell.chunk), cell.count, cell.content] for cell in self.cells]
        return {"chunk": list(self.chunk), "rows": self.rows, "cells": cells, "shards": list(self.shards)}

    @classmethod
    def from_json(cls, found: Any) -> "ChunkRecord":
        """Restore what `to_json` gave."""
        cells = tuple(CellRecord(level, path, tuple(chunk), *rest) for level, path, chunk, *rest in found["cells"])
        return cls(tuple(found["chunk"]), found["rows"], cells, tuple(found["shards"]))


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """Fragments of a coarse chunk: rows of its cell that belong to one object and follow one another.

    Parameters
    ----------
    starts
        (F + 1,) rows of fragment f are ``starts[f]:starts[f + 1]``.
    owners
        (F,) manifest row of the object of each, ascending; -1 for none. None: there are no objects.
    first, last
        (F,) where each begins and ends among the fragments of its object on the finer level; only of paths.
    """

    starts: IntArray
    owners: IntArray | None = None
    first: IntArray | None = None
    last: IntArray | None = None

    def bridges(self) -> IntArray:
        """(B, 2) rows between which paths go from a piece to the next."""
        assert self.owners is not None
        assert self.first is not None
        assert self.last is not None
        one, other = following(self.owners, self.first, self.last)
        return np.stack([self.starts[one + 1] - 1, self.starts[other]], axis=1)


def following(owners: IntArray, first: IntArray, last: IntArray) -> tuple[IntArray, IntArray]:
    """Pieces of which one follows the other on the path of an object: numbers of the one, and of the other."""
    order = np.argsort(owners * (int(last.max(initial=0)) + 2) + first, kind="stable")
    one, other = order[:-1], order[1:]
    meet = np.flatnonzero((owners[one] == owners[other]) & (last[one] + 1 == first[other]))
    return one[meet], other[meet]
