"""Rows: as records that travel, as numbers that look random, as masks of a chunk, and as paths."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.model.objects import Fragments, ranges
from zarr_vectors_lazy.types import Array, BoolArray, ChunkCoords, IntArray

# Rows as records of one packed dtype, which travel from an input block to the task that writes their chunk.

Records: TypeAlias = np.ndarray[Any, np.dtype[np.void]]
WORD = 8
BLOCK_BITS = 40  # a row number is the number of its input block, then its row in it: ascending like the input
GAP = "gap"  # field of a link that marks it as having no values
FIELDS = ("number", "owner", "along", "positions")


def attribute_field(name: str) -> str:
    """Name of the field of an attribute, different from all `FIELDS`."""
    return f"attribute:{name}"


def record_dtype(
    positions: tuple[np.dtype[Any], int],
    attributes: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]],
    *,
    owned: bool,
    tracked: bool = False,
) -> np.dtype[np.void]:
    """Packed dtype of a row, a whole number of 8-byte words.

    Parameters
    ----------
    positions
        Stored dtype and number of axes.
    attributes
        Dtype and row shape by name.
    owned
        Whether rows belong to objects.
    tracked
        Whether rows come with their place along all objects.
    """
    fields: list[tuple[Any, ...]] = [("number", "<i8")]
    if owned:
        fields.append(("owner", "<i8"))
    if tracked:
        fields.append(("along", "<i8"))
    fields.append(("positions", positions[0], (positions[1],)))
    return _filled([*fields, *_attribute_fields(attributes)])


def link_dtype(
    width: int, attributes: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]], *, gaps: bool = False
) -> np.dtype[np.void]:
    """Packed dtype of a link of ``width`` ends, a whole number of 8-byte words; with `GAP` if values may be missing."""
    gap = [(GAP, "?")] if gaps else []
    return _filled([("number", "<i8"), ("ends", "<i8", (width,)), *_attribute_fields(attributes), *gap])


def rename_rows(rows: IntArray, firsts: IntArray) -> IntArray:
    """Numbers of rows counted over all blocks; ``firsts`` (B,) are the rows before each block."""
    block = np.searchsorted(firsts, rows, side="right") - 1
    return np.asarray((block << BLOCK_BITS) + rows - firsts[block])


def _attribute_fields(attributes: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]) -> list[tuple[Any, ...]]:
    return [(attribute_field(name), dtype.newbyteorder("<"), shape) for name, (dtype, shape) in attributes.items()]


def _filled(fields: list[tuple[Any, ...]]) -> np.dtype[np.void]:
    free = -np.dtype(fields).itemsize % WORD
    return np.dtype([*fields, ("filling", "u1", (free,))] if free else fields)


def pack(dtype: np.dtype[np.void], columns: Mapping[str, Array], rows: int) -> Records:
    """(rows,) records of columns by field."""
    out: Records = np.zeros(rows, dtype)
    for name, values in columns.items():
        out[name] = values
    return out


def row_numbers(block: int, rows: int) -> IntArray:
    """(rows,) numbers of the rows of an input block."""
    return (np.int64(block) << BLOCK_BITS) + np.arange(rows, dtype=np.int64)


def first_row_numbers(blocks: int) -> IntArray:
    """(blocks,) number of the first row of each input block."""
    return np.asarray(np.arange(blocks, dtype=np.int64) << BLOCK_BITS)


def row_in_block(numbers: IntArray) -> IntArray:
    """Row in its input block of each row number."""
    return np.asarray(numbers & ((1 << BLOCK_BITS) - 1))


def block_of(numbers: IntArray) -> IntArray:
    """Input block of each row number."""
    return np.asarray(numbers >> BLOCK_BITS)


def in_order(records: Records) -> Records:
    """Return the records by their number."""
    return records.take(np.argsort(records["number"], kind="stable"))


# Numbers that look random and depend only on their key.

Hashes = npt.NDArray[np.uint64]
_MASK = 2**64 - 1


def hash_ids(seed: int, ids: IntArray) -> Hashes:
    """(n,) 64-bit hash of (seed, id)."""
    return _mix(np.uint64(_mix_one(seed)) ^ ids.astype(np.int64).view(np.uint64))


def hash_rows(seed: int, level: int, chunks: ChunkCoords, counts: IntArray) -> Hashes:
    """(N,) 64-bit hashes of (seed, level, chunk, row) of all rows of some chunks, one chunk after another.

    Parameters
    ----------
    chunks, counts
        (n, K) chunks, and rows of each.
    """
    state = np.full(len(chunks), _mix_one(seed) ^ (level & _MASK), np.uint64)
    for part in np.asarray(chunks, np.int64).view(np.uint64).T:
        state = _mix(state) ^ part
    rows = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return _mix(np.repeat(_mix(state), counts) ^ rows.astype(np.uint64))


def kept_ids(seed: int, ids: IntArray, keep: int) -> "npt.NDArray[np.bool_]":
    """(n,) whether an id is among the ``keep`` with the smallest hashes; ties are decided by id."""
    order = np.lexsort((ids, hash_ids(seed, ids)))
    mask = np.zeros(len(ids), np.bool_)
    mask[order[:keep]] = True
    return mask


def _mix_one(value: int) -> int:
    return int(_mix(np.asarray([value & _MASK], np.uint64))[0])


def _mix(values: Hashes) -> Hashes:
    """Finalizer of splitmix64 (Steele, Lea, Flood 2014)."""
    with np.errstate(over="ignore"):
        values = values + np.uint64(0x9E3779B97F4A7C15)
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


# Row masks and row numbers of one chunk.


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """Rows of a chunk that are selected.

    Parameters
    ----------
    total
        Number of rows of the chunk.
    rows
        The selected rows, ascending; None for all.
    """

    total: int
    rows: IntArray | None

    def __len__(self) -> int:
        return self.total if self.rows is None else len(self.rows)

    def take(self, values: Array) -> Array:
        """Return the selected rows of the chunk's values.

        Raises
        ------
        FormatError
            If there are not as many values as rows in the chunk.
        """
        if len(values) != self.total:
            raise FormatError(f"{len(values)} values for {self.total} vertices of a chunk")
        return values if self.rows is None else values[self.rows]

    def renumber(self, rows: IntArray) -> IntArray:
        """Positions of chunk rows among the selected ones, -1 if they are not selected; any shape."""
        if self.rows is None:
            return rows
        at = np.full(self.total, -1, np.int64)
        at[self.rows] = np.arange(len(self.rows))
        return at[rows]


class Chosen:
    """The selected rows of chunks that have unselected ones, to look up those of many chunks at once.

    Parameters
    ----------
    kept
        Selected rows by number of the chunk.
    """

    def __init__(self, kept: Mapping[int, Kept]) -> None:
        self._chunks = np.asarray(sorted(kept), np.int64)
        if not kept:  # the usual case, in which nothing is looked up
            self._totals = self._begins = self._table = self._chunks
            return
        ordered = [kept[chunk] for chunk in self._chunks.tolist()]
        self._totals = np.asarray([choice.total for choice in ordered], np.int64)
        self._begins = np.cumsum(self._totals) - self._totals
        self._table = np.full(int(self._totals.sum()), -1, np.int64)
        for begin, choice in zip(self._begins.tolist(), ordered, strict=True):
            part = self._table[begin : begin + choice.total]
            part[slice(None) if choice.rows is None else choice.rows] = np.arange(len(choice))

    def _of(self, values: IntArray, chunks: IntArray, otherwise: IntArray) -> IntArray:
        if not len(self._chunks):
            return otherwise
        at = np.minimum(np.searchsorted(self._chunks, chunks), len(self._chunks) - 1)
        return np.where(self._chunks[at] == chunks, values[at], otherwise)

    def totals(self, chunks: IntArray, sizes: IntArray) -> IntArray:
        """Rows that chunks have, selected or not; ``sizes`` for chunks whose rows are all selected."""
        return self._of(self._totals, chunks, sizes)

    def places(self, chunks: IntArray) -> IntArray:
        """Where chunks are looked up, as `renumber` takes it."""
        return self._of(self._begins, chunks, np.full(chunks.shape, -1, np.int64))

    def renumber(self, places: IntArray, rows: IntArray) -> IntArray:
        """Positions of rows among the selected ones, -1 if they are not selected; ``places`` of their chunks."""
        some = places >= 0
        if some.all():
            return np.asarray(self._table[places + rows])
        return np.where(some, self._table[np.where(some, places + rows, 0)] if some.any() else rows, rows)


def row_table(starts: IntArray, firsts: IntArray | None, kept: Sequence[Kept | None]) -> IntArray | None:
    """For each row of a run of chunks, its row in a view, -1 if it is not selected.

    Parameters
    ----------
    starts
        (c + 1,) chunk k has the rows ``starts[k]:starts[k + 1]`` of the run.
    firsts
        (c,) row of the view with which each chunk begins; None if only the selection matters.
    kept
        Chosen rows of each chunk, None for all; empty if all rows of all chunks are selected.

    Returns
    -------
    (N,) int64; None if all are selected and only that matters.

    Raises
    ------
    FormatError
        If rows were chosen for a chunk of another size.
    """
    if firsts is None and not any(choice is not None for choice in kept):
        return None
    offsets = np.zeros(len(starts) - 1, np.int64) if firsts is None else firsts - starts[:-1]
    table = np.arange(starts[-1]) + np.repeat(offsets, np.diff(starts))
    for chunk, choice in enumerate(kept):
        if choice is None or choice.rows is None:
            continue
        start, stop = int(starts[chunk]), int(starts[chunk + 1])
        if choice.total != stop - start:
            raise FormatError(f"{stop - start} values for {choice.total} vertices of a chunk")
        part = np.full(stop - start, -1, np.int64)
        part[choice.rows] = np.arange(len(choice.rows)) + (0 if firsts is None else firsts[chunk])
        table[start:stop] = part
    return table


def kept_of_mask(mask: BoolArray) -> Kept:
    """Rows for which a mask is true."""
    rows = np.flatnonzero(mask)
    return Kept(len(mask), None if len(rows) == len(mask) else rows)


def joined(parts: Sequence[Array]) -> Array:
    """Arrays one after another; masked if one of them is."""
    if any(isinstance(part, np.ma.MaskedArray) for part in parts):
        masked: Any = np.ma  # typed from NumPy 2.5 on alone
        found: Array = masked.concatenate(parts)
        return found
    return np.concatenate(parts)


# Objects as paths through the rows of fragments.


def fragment_ends(fragments: Fragments, table: IntArray | None) -> tuple[IntArray, IntArray, IntArray]:
    """Rows of each fragment, and the table's values for its first and last row; -1 for fragments without rows.

    Parameters
    ----------
    table
        (N,) the value for each row; None for the row itself.
    """
    counts = fragments.counts
    if table is None:
        last = fragments.first + counts - 1
        return counts, np.where(counts > 0, fragments.first, -1), np.where(counts > 0, last, -1)
    ends = []
    for step in (np.zeros(len(counts), np.int64), counts - 1):
        at = fragments.first + step
        found = np.full(len(counts), -1, np.int64)
        ranges = (counts > 0) & ~fragments.explicit
        found[ranges] = table[at[ranges]]
        listed = (counts > 0) & fragments.explicit
        found[listed] = table[fragments.listed[at[listed]]]
        ends.append(found)
    return counts, ends[0], ends[1]


def fragment_edges(fragments: Fragments, table: IntArray | None, times: IntArray | None) -> tuple[IntArray, IntArray]:
    """Edges between consecutive rows of fragments.

    Parameters
    ----------
    table
        (N,) the value for each row, -1 to leave it out; None for the row itself, if all fragments are ranges.
    times
        (F,) how often to repeat the edges of each fragment; None for once.

    Returns
    -------
    (E, 2) int64, fragment by fragment, without those with a left-out end, and (F,) how many each has.
    """
    lengths = np.maximum(fragments.counts - 1, 0)
    if table is None and times is None:
        rows = ranges(fragments.first, lengths)
        edges = np.empty((len(rows), 2), np.int64)
        edges[:, 0] = rows
        np.add(rows, 1, out=edges[:, 1])
        return edges, lengths
    named = np.repeat(np.arange(len(fragments)), 1 if times is None else times)
    named = named[lengths[named] > 0]
    counts, rows = fragments.counts[named], fragments.rows(named)
    rows = rows if table is None else table[rows]
    inner = np.ones(len(rows), np.bool_)
    inner[np.cumsum(counts) - counts] = False
    at = np.flatnonzero(inner)
    edges, owners = np.stack([rows[at - 1], rows[at]], axis=1), np.repeat(named, counts - 1)
    whole = (edges >= 0).all(axis=1)
    return edges[whole], np.bincount(owners[whole], minlength=len(fragments))


# Paths as intervals of consecutive places along them.

INTERVAL = 3  # columns: first place, one past the last, owner


def join_intervals(intervals: IntArray) -> IntArray:
    """(R, 3) intervals by ascending place; adjacent ones of the same owner are joined.

    Parameters
    ----------
    intervals
        (n, 3) first place, one past the last, and owner of each; no two share a place.
    """
    ordered = intervals[np.argsort(intervals[:, 0], kind="stable")]
    start, stop, owner = ordered.T
    apart = (start[1:] != stop[:-1]) | (owner[1:] != owner[:-1])
    begins = np.concatenate([np.ones(min(1, len(ordered)), np.bool_), apart])
    ends = np.concatenate([apart, np.ones(min(1, len(ordered)), np.bool_)])
    return np.stack([start[begins], stop[ends], owner[begins]], axis=1)


def intervals_of(places: IntArray, owners: IntArray) -> IntArray:
    """(R, 3) intervals formed by (M,) distinct places and their owners."""
    return join_intervals(np.stack([places, places + 1, owners], axis=1))


def ids_of_intervals(owners: IntArray, largest: int) -> IntArray:
    """(R,) an id for each interval: its owner's for an owner's first one, otherwise a new one above ``largest``.

    Parameters
    ----------
    owners
        (R,) of the intervals, those of one owner after another.
    """
    again = np.concatenate([np.zeros(min(1, len(owners)), np.bool_), owners[1:] == owners[:-1]])
    return np.where(again, largest + np.cumsum(again), owners)
