"""Row masks and row numbers of one chunk."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.types import BoolArray, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """Rows of a chunk that are selected.

    Parameters
    ----------
    total
        Rows that the chunk has.
    rows
        The selected ones, ascending; None for all.
    """

    total: int
    rows: IntArray | None

    def __len__(self) -> int:
        return self.total if self.rows is None else len(self.rows)

    def take(self, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return the selected rows of the chunk's values.

        Raises
        ------
        FormatError
            If there are not as many values as the chunk has rows.
        """
        if len(values) != self.total:
            raise FormatError(f"{len(values)} values for {self.total} vertices of a chunk")
        return values if self.rows is None else values[self.rows]

    def renumber(self, rows: IntArray) -> IntArray:
        """Positions of chunk rows among the selected ones, -1 where they are not; any shape."""
        if self.rows is None:
            return rows
        at = np.full(self.total, -1, np.int64)
        at[self.rows] = np.arange(len(self.rows))
        return at[rows]


class Chosen:
    """Rows of chunks of which not all are selected, to look up those of many chunks at once.

    Parameters
    ----------
    kept
        Selected rows by number of the chunk.
    """

    def __init__(self, kept: Mapping[int, Kept]) -> None:
        self._chunks = np.asarray(sorted(kept), np.int64)
        ordered = [kept[chunk] for chunk in self._chunks.tolist()]
        self._totals = np.asarray([choice.total for choice in ordered], np.int64)
        self._begins = np.cumsum(self._totals) - self._totals
        self._table = np.full(int(self._totals.sum()), -1, np.int64)
        for begin, choice in zip(self._begins.tolist(), ordered, strict=True):
            part = self._table[begin : begin + choice.total]
            part[slice(None) if choice.rows is None else choice.rows] = np.arange(len(choice))

    def _find(self, chunks: IntArray) -> tuple[IntArray, BoolArray]:
        at = np.minimum(np.searchsorted(self._chunks, chunks), len(self._chunks) - 1)
        return at, np.asarray(self._chunks[at] == chunks)

    def totals(self, chunks: IntArray, sizes: IntArray) -> IntArray:
        """Rows that chunks have, whether selected or not; ``sizes`` of them where all are."""
        if not len(self._chunks):
            return sizes
        at, found = self._find(chunks)
        return np.where(found, self._totals[at], sizes)

    def renumber(self, chunks: IntArray, rows: IntArray) -> IntArray:
        """Positions of rows of chunks among those that are selected, -1 where they are not."""
        if not len(self._chunks):
            return rows
        at, found = self._find(chunks)
        return np.where(found, self._table[np.where(found, self._begins[at] + rows, 0)], rows)


def row_table(starts: IntArray, firsts: IntArray | None, kept: Sequence[Kept | None]) -> IntArray | None:
    """For each row of a run of chunks its row in a view, -1 where it is not selected.

    Parameters
    ----------
    starts
        (c + 1,) chunk k has the rows ``starts[k]:starts[k + 1]`` of the run.
    firsts
        (c,) row of the view with which each chunk begins; None: only whether rows are selected matters.
    kept
        Chosen rows of each chunk, None for all; empty where all are of all.

    Returns
    -------
    (N,) int64; None where all are selected and nothing else matters.

    Raises
    ------
    FormatError
        If rows were chosen of a chunk of another size.
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
    """Rows where a mask is true."""
    rows = np.flatnonzero(mask)
    return Kept(len(mask), None if len(rows) == len(mask) else rows)


def joined(parts: Sequence[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """Arrays one after another; masked if one of them is."""
    if any(isinstance(part, np.ma.MaskedArray) for part in parts):
        masked: Any = np.ma  # typed from NumPy 2.5 on alone
        found: np.ndarray[Any, Any] = masked.concatenate(parts)
        return found
    return np.concatenate(parts)
