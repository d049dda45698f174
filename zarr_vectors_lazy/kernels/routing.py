"""To which chunk, bin, place and fragment each row belongs, and the order of a chunk's rows."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from zarr_vectors_lazy.kernels.rows import block_of, row_in_block
from zarr_vectors_lazy.types import Array, BoolArray, ChunkCoords, Floats, IntArray, Vertices

# To which chunk and bin each row belongs, and the rows of each chunk (spec 0.9, 4.2 and 5.1).

BLOCK = 2**18  # rows processed at once, so that temporaries stay in the cache, and float64 copies small
TABLE = 2**24  # most grid cells for which a full table is kept
RADIX = 2**16  # NumPy sorts 16-bit integers by radix, in linear time
Order: TypeAlias = np.ndarray[Any, np.dtype[np.unsignedinteger[Any]]]


@dataclass(frozen=True, slots=True, eq=False)
class Routed:
    """Rows by chunk.

    Parameters
    ----------
    coords
        (C, K) chunks that have rows, in lexicographic order.
    bounds
        (C + 1,) rows of chunk i are ``order[bounds[i]:bounds[i + 1]]``.
    order
        (N,) row numbers, ascending inside each chunk.
    """

    coords: ChunkCoords
    bounds: IntArray
    order: Order

    def __len__(self) -> int:
        return len(self.coords)

    @property
    def counts(self) -> IntArray:
        """(C,) rows of each chunk."""
        return np.diff(self.bounds)

    def rows(self, chunk: int) -> IntArray:
        """Row numbers of a chunk, ascending."""
        return self.order[self.bounds[chunk] : self.bounds[chunk + 1]].astype(np.int64)

    def chunk_of_row(self) -> IntArray:
        """(N,) number of the chunk of each row."""
        found = np.empty(len(self.order), np.int64)
        found[self.order] = np.repeat(np.arange(len(self)), self.counts)
        return found


def blocks(n: int) -> Iterator[slice]:
    """Slices of at most `BLOCK` rows."""
    return (slice(start, min(start + BLOCK, n)) for start in range(0, n, BLOCK))


def stored(rows: Vertices, dtype: np.dtype[Any]) -> Vertices:
    """Rows as they are stored; what does not fit becomes infinite."""
    with np.errstate(over="ignore"):
        return np.asarray(rows).astype(dtype, copy=False)


def corners(rows: Vertices) -> tuple[Floats, Floats]:
    """(D,) lo and (D,) hi of one or more rows, in float64."""
    columns = np.ascontiguousarray(rows.T)  # 40 times faster than along the first axis with so few columns
    return columns.min(axis=1).astype(np.float64), columns.max(axis=1).astype(np.float64)


def take(values: Array, rows: IntArray) -> Array:
    """Some rows; four times faster than by index, but NumPy would copy the whole of an array that is not in C order."""
    array = np.asarray(values)
    return array.take(rows, axis=0) if array.flags.c_contiguous else array[rows]


def extent(positions: Vertices, dtype: np.dtype[Any], threads: int = 1) -> tuple[Floats, Floats, int]:
    """Corners of positions as they will be stored, and the first row that is not finite.

    Returns
    -------
    (D,) lo, (D,) hi in float64 (inf and -inf without rows), and the first row that is NaN or infinite, -1 for none.
    """

    def of(part: slice) -> tuple[Floats, Floats, int]:
        rows = stored(positions[part], dtype)
        lo, hi = corners(rows)
        if np.isfinite(lo).all() and np.isfinite(hi).all():  # NaN passes through both
            return lo, hi, -1
        return lo, hi, part.start + int(np.argmin(np.isfinite(rows).all(axis=1)))

    found = _threaded(of, list(blocks(len(positions))), threads)
    ndim = positions.shape[1]
    bad = next((row for _, _, row in found if row >= 0), -1)
    lo = np.min([np.full(ndim, np.inf), *(lo for lo, _, _ in found)], axis=0)
    hi = np.max([np.full(ndim, -np.inf), *(hi for _, hi, _ in found)], axis=0)
    return lo, hi, bad


def bins_in_chunk(positions: Vertices, coord: IntArray, bin_shape: Floats, ratio: IntArray) -> IntArray:
    """(N,) bin of each position in its chunk, in C order over the chunk's bins.

    ``floor(position / bin_shape)`` in float64, clamped to the chunk, because the quotients may round differently.

    Parameters
    ----------
    coord
        (D,) coordinate of the chunk.
    ratio
        (D,) bins of a chunk along each axis.
    """
    local = np.floor(np.divide(positions, bin_shape, dtype=np.float64)).astype(np.int64) - coord * ratio
    return np.asarray(np.ravel_multi_index(tuple(np.clip(local, 0, ratio - 1).T), tuple(ratio.tolist())))


def route(
    positions: Vertices,
    dtype: np.dtype[Any],
    chunk_shape: Floats,
    origin: IntArray,
    shape: IntArray,
    *,
    threads: int = 1,
) -> Routed:
    """Sort rows by chunk, stably.

    Parameters
    ----------
    positions
        (N, D), finite.
    dtype
        Dtype in which they are stored; they are routed as they will be read.
    origin, shape
        (D,) origin and shape of a grid that holds them all.
    threads
        Threads that work on blocks of rows.
    """
    cells = int(np.prod(shape.astype(object)))
    ids = np.empty(len(positions), _unsigned(cells))

    def fill(part: slice) -> None:
        rows = stored(positions[part], dtype)
        packed = np.zeros(len(rows), np.int64)
        for axis, (first, edges) in enumerate(zip(origin.tolist(), shape.tolist(), strict=True)):
            at = np.floor(np.divide(rows[:, axis], chunk_shape[axis], dtype=np.float64))
            packed *= edges
            packed += at.astype(np.int64)
            packed -= first
        ids[part] = packed

    _threaded(fill, list(blocks(len(positions))), threads)
    present, ids, counts = _compact(ids, cells)
    coords = np.stack(np.unravel_index(present, tuple(shape.tolist())), axis=1) + origin
    bounds = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Routed(coords.astype(np.int64), bounds, stable_order(ids, len(present)))


def _compact(ids: Array, cells: int) -> tuple[IntArray, Array, IntArray]:
    """Cells present, ascending; the number of each row's cell among them; rows of each."""
    if cells > TABLE:
        present, inverse, counts = np.unique(ids, return_inverse=True, return_counts=True)
        return present.astype(np.int64), inverse.reshape(-1).astype(_unsigned(len(present))), counts
    seen = np.zeros(cells, np.bool_)
    for part in blocks(len(ids)):
        seen[ids[part]] = True
    present = np.flatnonzero(seen)
    if len(present) < cells:
        table = np.zeros(cells, _unsigned(len(present)))
        table[present] = np.arange(len(present))
        ids = table[ids]
    counts = np.zeros(len(present), np.int64)
    for part in blocks(len(ids)):
        counts += np.bincount(ids[part], minlength=len(present))
    return present, ids, counts


def stable_order(ids: Array, n: int) -> Order:
    """Rows sorted by id, in ascending order within an id; ids are below ``n``."""
    small = np.dtype(np.uint32 if len(ids) <= 2**32 else np.uint64)
    if n <= RADIX:
        return np.argsort(ids.astype(np.uint16, copy=False), kind="stable").astype(small)
    low = np.argsort((ids & (RADIX - 1)).astype(np.uint16), kind="stable").astype(small)
    return np.asarray(low[stable_order((ids >> 16)[low], -(-n // RADIX))])


def _unsigned(n: int) -> np.dtype[Any]:
    """Smallest unsigned dtype for numbers below ``n``."""
    return np.dtype(np.uint16 if n <= 2**16 else np.uint32 if n <= 2**32 else np.uint64)


def _threaded(work: Any, parts: list[slice], threads: int) -> list[Any]:
    if threads < 2 or len(parts) < 2:
        return [work(part) for part in parts]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, parts))


# The order of a chunk's rows, and the fragments that they form (spec 0.9, 5.1 and 10).


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
        (F,) number of the object of each fragment; None if there are no objects.
    """

    rows: IntArray
    counts: IntArray
    owners: IntArray | None = None


def arrange_bins(rows: IntArray, bins: IntArray, total: int) -> Arranged:
    """A fragment for each bin, even if empty, in the order of the bins; ``bins`` (n,) of each row, below ``total``."""
    order = np.argsort(bins.astype(np.uint16) if total <= 2**16 else bins, kind="stable")
    return Arranged(rows[order], np.bincount(bins, minlength=total))


def arrange_runs(rows: IntArray, owners: IntArray, numbers: IntArray | None = None) -> Arranged:
    """A fragment for each run of consecutive rows of one object.

    Parameters
    ----------
    owners, numbers
        (N,) object of each row, and numbers by which rows are consecutive; None for the rows themselves.
    """
    of_row = owners[rows]
    starts = (np.diff(rows if numbers is None else numbers[rows], prepend=-2) != 1) | (np.diff(of_row, prepend=-1) != 0)
    return cut(rows, of_row, starts)


def arrange_objects(rows: IntArray, owners: IntArray) -> Arranged:
    """A fragment for each object, ascending; ``owners`` (N,) is for all rows."""
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
    """Fragments that begin where ``starts`` (n,) is true."""
    at = np.flatnonzero(starts)
    return Arranged(rows, np.diff(at, append=len(rows)), owners[at])


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Where each row of the input is stored.

    Parameters
    ----------
    chunks
        (N,) number of the chunk of each row.
    rows
        (N,) row in that chunk.
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
        """Some fragments, in the given order."""
        return FragmentTable(*(getattr(self, name)[at] for name in self.__slots__))


def fragment_table(arranged: list[Arranged]) -> FragmentTable:
    """All fragments, chunk by chunk; each must have an owner."""
    none = np.empty(0, np.int64)
    parts: list[tuple[IntArray, ...]] = [(none,) * 6]
    for chunk, part in enumerate(arranged):
        assert part.owners is not None
        starts = np.cumsum(part.counts) - part.counts
        fragments = np.arange(len(part.counts))
        parts.append((np.full(len(fragments), chunk), fragments, part.owners, part.rows[starts], starts, part.counts))
    return FragmentTable(*(np.concatenate(column).astype(np.int64) for column in zip(*parts, strict=True)))


# Where rows are stored, and which task knows it: how the ends of links are resolved out of core.
#
# A place is the number of a chunk and a row in it, in one integer: places sort as the format sorts the ends of a
# link. Rows are distributed to owners in stripes, so that any number of rows spreads evenly over the owners.

ROW_BITS = 32  # a cell is smaller than 4 GiB
STRIPE = 256
UNKNOWN = -1
PLACE = np.dtype([("row", "<i8"), ("place", "<i8")])


def pack_places(chunks: IntArray, rows: IntArray) -> IntArray:
    """Places of rows of chunks."""
    return np.asarray((chunks << ROW_BITS) | rows)


def chunk_of_places(places: IntArray) -> IntArray:
    """Number of the chunk of each place."""
    return np.asarray(places >> ROW_BITS)


def row_of_places(places: IntArray) -> IntArray:
    """Row in its chunk of each place."""
    return np.asarray(places & ((1 << ROW_BITS) - 1))


@dataclass(frozen=True, slots=True)
class RowOwners:
    """Which task knows where a row is stored.

    Parameters
    ----------
    count
        Number of such tasks.
    apart
        Whether rows are named by their block and the row in it (`kernels.rows.row_numbers`); otherwise they are counted
        over all blocks.
    """

    count: int
    apart: bool = False

    def of(self, rows: IntArray) -> IntArray:
        """Owner of each row."""
        return np.asarray((block_of(rows) if self.apart else rows // STRIPE) % self.count)

    def names(self, numbers: IntArray, firsts: IntArray) -> IntArray:
        """The names of rows with given numbers; ``firsts`` (B,) are the rows before each block."""
        return numbers if self.apart else firsts[block_of(numbers)] + row_in_block(numbers)

    def look_up(self, rows: IntArray, values: IntArray, wanted: IntArray, sizes: IntArray) -> IntArray:
        """Values of requested rows of one owner, `UNKNOWN` for those that do not exist.

        Parameters
        ----------
        rows, values
            (n,) rows of the owner and their values, 0 or more, in any order.
        wanted
            Rows of the same owner.
        sizes
            (B,) rows of each block.
        """
        seats, asked = self._seats(rows, sizes), self._seats(wanted, sizes)
        # the last is for rows that do not exist
        table = np.full(max(seats.max(initial=-1), asked.max(initial=-1)) + 2, UNKNOWN)
        table[seats] = values
        return np.asarray(table[asked])

    def _seats(self, rows: IntArray, sizes: IntArray) -> IntArray:
        """Number of each row among those of its owner, without gaps if all exist; -1 if its block is shorter."""
        if not self.apart:
            return np.asarray(rows // (STRIPE * self.count) * STRIPE + rows % STRIPE)
        block, row = block_of(rows), row_in_block(rows)
        return np.where(row < sizes[block], self._before(sizes)[block] + row, -1)

    def _before(self, sizes: IntArray) -> IntArray:
        """(B,) rows of the blocks before each one that have the same owner."""
        table = np.zeros(-(-len(sizes) // self.count) * self.count, np.int64)
        table[: len(sizes)] = sizes
        rounds = table.reshape(-1, self.count)
        return np.asarray((np.cumsum(rounds, axis=0) - rounds).reshape(-1)[: len(sizes)])
