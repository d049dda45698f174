"""Fragments of chunks, manifests of objects, groups."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.model.arrays import DenseArray
from zarr_vectors_lazy.types import BoolArray, ChunkCoords, IntArray


@dataclass(frozen=True, kw_only=True, eq=False)
class ObjectIndex:
    """Where the manifests of a level are.

    Parameters
    ----------
    count
        Number of object rows.
    rank
        Components of a chunk coordinate in a manifest, K.
    manifests
        One variable-length row for each object; None if there are none.
    spans, blocks
        Instead of manifests: (count, 2) first row and number of rows of ``blocks``, and (B, K + 1) chunks and
        fragments.
    parts
        Instead of manifests: the indexes of other levels, each with the first component of its chunks here. An object
        is where the first of them has it.
    ids
        Ids by row; None if the id is the row number.
    present
        Number of rows with a manifest, as the store states it, or None.
    digest
        Changes when the index's metadata change.
    blank_is_lost
        Whether an empty manifest shows that a stored chunk is missing; absent objects have four bytes.
    exclusive
        Whether two objects that name one fragment cannot be separated.
    lost
        Why objects cannot be read at all; empty if they can.
    remarks
        What the metadata state, but the arrays do not confirm, and readers ignore.
    """

    count: int
    rank: int
    manifests: DenseArray | None
    ids: DenseArray | None
    present: int | None = None
    digest: str = ""
    blank_is_lost: bool = False
    spans: DenseArray | None = None
    blocks: DenseArray | None = None
    parts: "tuple[tuple[int, ObjectIndex], ...]" = ()
    exclusive: bool = False
    lost: str = ""
    remarks: tuple[str, ...] = ()

    @property
    def has_manifests(self) -> bool:
        """Whether any object may have vertices."""
        return self.manifests is not None or self.spans is not None or bool(self.parts)

    @property
    def stored_rows(self) -> int:
        """Object rows whose manifests are stored, and read, together."""
        rows = self.manifests or self.spans
        return rows.chunk_rows if rows is not None else max(self.count, 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class GroupIndex:
    """Groups of objects.

    Parameters
    ----------
    members
        One variable-length row for each group; None if all are ranges.
    count
        Number of groups.
    names
        Names by group id.
    ranges
        Group id to (start, stop) of object ids, overriding the row.
    """

    members: DenseArray | None
    count: int
    names: tuple[str, ...]
    ranges: dict[int, tuple[int, int]]


MAX_ROWS = 2**27  # rows that fragments may name at once: no chunk has so many, and memory is finite


def ragged_arange(counts: IntArray) -> IntArray:
    """0..c-1 for each count c, concatenated; (sum(counts),) int64."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total, dtype=np.int64) - np.repeat(ends - counts, counts)


def ranges(first: IntArray, counts: IntArray) -> IntArray:
    """``first[k], first[k] + 1, ...``, ``counts[k]`` of each, concatenated; (sum(counts),) int64."""
    if not counts.all():
        first, counts = first[counts > 0], counts[counts > 0]
    out = np.ones(int(counts.sum()), np.int64)
    if len(out):
        starts = np.cumsum(counts[:-1])
        out[0] = first[0]
        out[starts] = first[1:] - first[:-1] - counts[:-1] + 1
        np.cumsum(out, out=out)
    return out


def check_fragments(
    fragments: IntArray, sizes: IntArray | np.int64, chunks: ChunkCoords | None = None, named: BoolArray | None = None
) -> None:
    """Raise FormatError if one of (n,) fragments, or of those ``named``, is not in its chunk, which has ``sizes``."""
    wrong = (fragments < 0) | (fragments >= sizes)
    wrong = wrong if named is None else wrong & named
    if wrong.any():
        at = int(np.argmax(wrong))
        where = "" if chunks is None else f" of chunk {chunks[at].tolist()}"
        size = np.broadcast_to(sizes, wrong.shape)[at]
        raise FormatError(f"there is no fragment {fragments[at]}{where}: the chunk has {size}")


@dataclass(frozen=True, slots=True, eq=False)
class Fragments:
    """The fragments of one chunk: sets of rows of its cell.

    Parameters
    ----------
    first
        (F,) first row of a range, or first position in ``listed`` of an explicit fragment.
    counts
        (F,) rows of each.
    explicit
        (F,) whether rows are listed.
    listed
        Rows of the explicit fragments, one after another.
    """

    first: IntArray
    counts: IntArray
    explicit: BoolArray
    listed: IntArray

    def __len__(self) -> int:
        return len(self.first)

    def rows(self, fragments: IntArray) -> IntArray:
        """Rows of some fragments, concatenated in the given order; (sum of their counts,) int64.

        Raises
        ------
        FormatError
            If a fragment does not exist, or if they name absurdly many rows.
        """
        check_fragments(fragments, np.int64(len(self)))
        counts = self.counts[fragments]
        total = float(counts.sum(dtype=np.float64))
        if total > MAX_ROWS:
            raise FormatError(f"{len(fragments)} fragments name {total:.0f} rows: no chunk has that many")
        at = ranges(self.first[fragments], counts)
        if not len(self.listed):
            return at
        listed = np.repeat(self.explicit[fragments], counts)
        return np.where(listed, self.listed[np.where(listed, at, 0)], at)

    def check(self, n_rows: int) -> None:
        """Raise FormatError if a fragment names a row that a cell with ``n_rows`` does not have."""
        ranges = (self.counts > 0) & ~self.explicit
        top = int((self.first[ranges] + self.counts[ranges]).max(initial=0))
        top = max(top, int(self.listed.max(initial=-1)) + 1)
        low = min(int(self.first[ranges].min(initial=0)), int(self.listed.min(initial=0)))
        if top > n_rows or low < 0:
            raise FormatError(
                f"fragments refer to row {top - 1 if top > n_rows else low}, but the chunk has {n_rows} "
                "(or its stored count is wrong: run zvl.index)"
            )


@dataclass(frozen=True, slots=True, eq=False)
class FragmentRun:
    """The fragments of several chunks, one chunk after another, with rows numbered consecutively.

    Parameters
    ----------
    fragments
        All fragments; rows of chunk c begin at ``starts[c]``.
    bounds
        (c + 1,) the fragments of chunk c are ``bounds[c]:bounds[c + 1]``.
    starts
        (c + 1,) rows of chunk c are ``starts[c]:starts[c + 1]``.
    tiles
        Whether it is known that fragments are ranges which, in order, are all rows of their chunks.
    """

    fragments: Fragments
    bounds: IntArray
    starts: IntArray
    tiles: bool = False

    def at(self, chunks: IntArray, fragments: IntArray) -> IntArray:
        """Numbers in the run of fragments of its chunks; raises FormatError if one does not exist."""
        sizes = np.diff(self.bounds)[chunks]
        check_fragments(fragments, sizes)
        return np.asarray(self.bounds[:-1][chunks] + fragments)

    def outside(self) -> tuple[int, int] | None:
        """Return a chunk, and a row that its fragments name but that it does not have; None if all exist."""
        fragments, totals = self.fragments, np.diff(self.starts)
        if self.tiles:
            return None
        chunk = np.repeat(np.arange(len(totals)), np.diff(self.bounds))
        first, ranges = fragments.first - self.starts[:-1][chunk], (fragments.counts > 0) & ~fragments.explicit
        wrong = np.flatnonzero(ranges & ((first < 0) | (first + fragments.counts > totals[chunk])))
        if len(wrong):
            at = wrong[0]
            return int(chunk[at]), int(first[at] + fragments.counts[at] - 1 if first[at] >= 0 else first[at])
        chunk = np.repeat(chunk[fragments.explicit], fragments.counts[fragments.explicit])
        rows = fragments.listed - self.starts[:-1][chunk]
        wrong = np.flatnonzero((rows < 0) | (rows >= totals[chunk]))
        return (int(chunk[wrong[0]]), int(rows[wrong[0]])) if len(wrong) else None


def join_fragments(parts: Sequence[Fragments], starts: IntArray) -> FragmentRun:
    """Number the fragments of several chunks consecutively; chunk c's rows begin at ``starts[c]``; (c + 1,)."""
    sizes = np.fromiter(map(len, parts), np.int64, len(parts))
    listed = np.fromiter((len(part.listed) for part in parts), np.int64, len(parts))
    empty = np.empty(0, np.int64)
    first = np.concatenate([empty, *(part.first for part in parts)])
    explicit = np.concatenate([np.empty(0, np.bool_), *(part.explicit for part in parts)])
    first += np.where(explicit, np.repeat(np.cumsum(listed) - listed, sizes), np.repeat(starts[:-1], sizes))
    rows = np.concatenate([empty, *(part.listed for part in parts)]) + np.repeat(starts[:-1], listed)
    counts = np.concatenate([empty, *(part.counts for part in parts)])
    bounds = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return FragmentRun(Fragments(first, counts, explicit, rows), bounds, starts)


@dataclass(frozen=True, slots=True, eq=False)
class Manifests:
    """Paths of objects through chunks: for each object, an ordered list of (chunk, fragment).

    Parameters
    ----------
    offsets
        (O + 1,) entries of object row r are ``offsets[r]:offsets[r + 1]``.
    chunks
        (E, K) chunk coordinate of each entry.
    fragments
        (E,) fragment of each entry, local to its chunk.
    """

    offsets: IntArray
    chunks: ChunkCoords
    fragments: IntArray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def take(self, rows: IntArray) -> "Manifests":
        """Manifests of some object rows, in the given order."""
        if len(rows) == len(self) and np.array_equal(rows, np.arange(len(self))):
            return self
        first = self.offsets[rows]
        counts = self.offsets[rows + 1] - first
        at = ranges(first, counts)
        return Manifests(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), self.chunks[at], self.fragments[at])

    @property
    def owners(self) -> IntArray:
        """(E,) object row of each entry."""
        return np.repeat(np.arange(len(self), dtype=np.int64), np.diff(self.offsets))


def concatenate_manifests(parts: list[Manifests], rank: int) -> Manifests:
    """All objects of several manifests, one part after another."""
    starts = np.cumsum([0, *(len(part.fragments) for part in parts)])
    offsets = [np.zeros(1, np.int64), *(part.offsets[1:] + start for part, start in zip(parts, starts, strict=False))]
    chunks = [np.empty((0, rank), np.int64), *(part.chunks for part in parts)]
    fragments = [np.empty(0, np.int64), *(part.fragments for part in parts)]
    return Manifests(np.concatenate(offsets), np.concatenate(chunks), np.concatenate(fragments))
