"""The order of a chunk's rows and the fragments that they make (spec 0.9, 5.1 and 10)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from zarr_vectors_lazy.kernels.routing import Routed
from zarr_vectors_lazy.types import BoolArray, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Arranged:
    """Rows of one chunk as they are stored; its fragments, in order, partition them.

    Parameters
    ----------
    rows
        (n,) row numbers in the input.
    counts
        (F,) rows of each fragment.
    owners
        (F,) number of the object of each fragment; None where there are no objects.
    """

    rows: IntArray
    counts: IntArray
    owners: IntArray | None = None


Arrange: TypeAlias = Callable[[IntArray], Arranged]
"""Gives the arrangement of a chunk from its (n,) rows, ascending."""


def arrange_whole(rows: IntArray) -> Arranged:
    """One fragment."""
    return Arranged(rows, np.asarray([len(rows)], np.int64))


def arrange_bins(rows: IntArray, bins: IntArray, total: int) -> Arranged:
    """A fragment a bin, empty ones too, in the order of the bins; ``bins`` (n,) of each row, below ``total``."""
    order = np.argsort(bins.astype(np.uint16) if total <= 2**16 else bins, kind="stable")
    return Arranged(rows[order], np.bincount(bins, minlength=total))


def arrange_runs(rows: IntArray, owners: IntArray, numbers: IntArray | None = None) -> Arranged:
    """A fragment for each run of consecutive rows of one object.

    Parameters
    ----------
    owners, numbers
        (N,) object of each row, and by what rows are consecutive; None: themselves.
    """
    of_row = owners[rows]
    starts = (np.diff(rows if numbers is None else numbers[rows], prepend=-2) != 1) | (np.diff(of_row, prepend=-1) != 0)
    return cut(rows, of_row, starts)


def arrange_objects(rows: IntArray, owners: IntArray) -> Arranged:
    """A fragment an object, ascending; ``owners`` (N,) of all rows."""
    of_row = owners[rows]
    order = np.argsort(of_row, kind="stable")
    of_row = of_row[order]
    return cut(rows[order], of_row, np.diff(of_row, prepend=-1) != 0)


def arrange_trees(rows: IntArray, owners: IntArray, position: IntArray, roots: BoolArray) -> Arranged:
    """Fragments of trees in depth-first order: a root is the first of its fragment.

    Parameters
    ----------
    owners, position, roots
        (N,) object of each row, its place in depth-first order, and whether it is a root.
    """
    order = np.lexsort((position[rows], owners[rows]))
    rows = rows[order]
    of_row = owners[rows]
    return cut(rows, of_row, (np.diff(of_row, prepend=-1) != 0) | roots[rows])


def cut(rows: IntArray, owners: IntArray, starts: BoolArray) -> Arranged:
    """Fragments that begin where ``starts`` (n,) says."""
    at = np.flatnonzero(starts)
    return Arranged(rows, np.diff(at, append=len(rows)), owners[at])


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Where each row of the input is stored.

    Parameters
    ----------
    chunks
        (N,) number of its chunk.
    rows
        (N,) row in it.
    """

    chunks: IntArray
    rows: IntArray


def places_of(routed: Routed, arranged: list[Arranged]) -> Places:
    """Return the inverse of the arrangement of all chunks."""
    rows = np.empty(len(routed.order), np.int64)
    for chunk in arranged:
        rows[chunk.rows] = np.arange(len(chunk.rows))
    return Places(routed.chunk_of_row(), rows)


@dataclass(frozen=True, slots=True, eq=False)
class FragmentTable:
    """Fragments of many chunks.

    Parameters
    ----------
    chunks, fragments
        (E,) number of the chunk, and of the fragment in it.
    owners
        (E,) number of the object.
    rows
        (E,) first row in the input.
    starts, counts
        (E,) first row in the chunk, and rows.
    """

    chunks: IntArray
    fragments: IntArray
    owners: IntArray
    rows: IntArray
    starts: IntArray
    counts: IntArray

    def take(self, at: IntArray) -> "FragmentTable":
        """Some fragments, in the order given."""
        return FragmentTable(*(getattr(self, name)[at] for name in self.__slots__))


def fragment_table(arranged: list[Arranged]) -> FragmentTable:
    """All fragments, those of one chunk after another; every one must have an owner."""
    none = np.empty(0, np.int64)
    parts: list[tuple[IntArray, ...]] = [(none,) * 6]
    for chunk, part in enumerate(arranged):
        assert part.owners is not None
        starts = np.cumsum(part.counts) - part.counts
        fragments = np.arange(len(part.counts))
        parts.append((np.full(len(fragments), chunk), fragments, part.owners, part.rows[starts], starts, part.counts))
    return FragmentTable(*(np.concatenate(column).astype(np.int64) for column in zip(*parts, strict=True)))
