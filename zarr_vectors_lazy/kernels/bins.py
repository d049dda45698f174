"""Bins and grids: which vertex lies in which, and the merging of vertices in a bin."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any, Literal, TypeAlias

import numpy as np

from zarr_vectors_lazy.errors import FormatError, SelectionError
from zarr_vectors_lazy.kernels.rows import Hashes
from zarr_vectors_lazy.model.levels import ranked
from zarr_vectors_lazy.model.objects import ranges
from zarr_vectors_lazy.types import Array, BoolArray, Floats, IntArray, Vertices

# Bins of coarse chunks: which vertex lies in which, and back.

BLOCK = 8192  # rows whose bins are found at once
NUDGES = 4  # most steps of one unit in the last place until a vertex on a face lies inside


@dataclass(frozen=True, slots=True, eq=False)
class BinGrid:
    """The bins of some coarse chunks, which they tile; numbered chunk by chunk, in C order in each.

    Parameters
    ----------
    chunks
        (g, D) coordinates of the chunks.
    shape
        (D,) number of bins of a chunk along each axis.
    edge, chunk_edge
        (D,) edge lengths of a bin, and of a chunk.
    """

    chunks: IntArray
    shape: IntArray
    edge: Floats
    chunk_edge: Floats

    @property
    def cells(self) -> int:
        """Number of bins of a chunk."""
        return int(np.prod(self.shape))


def bins_of(positions: Vertices, which: IntArray, grid: BinGrid) -> IntArray:
    """(N,) bin of each vertex; a quotient that rounding puts outside its chunk is put back.

    Parameters
    ----------
    which
        (N,) chunk of each vertex.

    Raises
    ------
    FormatError
        If a position is not finite.
    """
    bins = np.empty(len(positions), np.int64)
    for first in range(0, len(positions), BLOCK):  # what it takes stays in the processor's cache
        rows = slice(first, first + BLOCK)
        some = which[rows]
        index = np.zeros(len(some), np.float64)
        for axis, (count, edge) in enumerate(zip(grid.shape.tolist(), grid.edge, strict=True)):
            column = positions[rows, axis].astype(np.float64)
            column /= edge
            np.floor(column, out=column)
            column -= (grid.chunks[:, axis] * count).astype(np.float64).take(some)
            np.clip(column, 0, count - 1, out=column)
            index *= count
            index += column
        if not np.isfinite(index).all():
            raise FormatError("a vertex has a coordinate that is not a number")
        bins[rows] = index
        bins[rows] += some * grid.cells
    return bins


def place_in_bins(means: Floats, bins: IntArray, grid: BinGrid, dtype: np.dtype[np.floating]) -> Vertices:
    """(C, D) means in the stored dtype, each inside its bin, so that every reader finds it in this chunk."""
    out, every = np.empty(means.shape, dtype), len(grid.chunks) * grid.cells
    # faces, once for each bin
    named, rows = (np.arange(every), bins) if every < len(bins) else (bins, np.arange(len(bins)))
    which, local = np.divmod(named, grid.cells)
    for axis in reversed(range(means.shape[1])):
        local, along = np.divmod(local, grid.shape[axis])
        chunk = grid.chunks[which, axis]
        first = chunk * grid.shape[axis] + along
        low, high = _within(first * grid.edge[axis], (first + 1) * grid.edge[axis], out.dtype)
        column = _clamped(means[:, axis].astype(dtype), low, high, rows)
        edge = float(grid.chunk_edge[axis])
        if (_chunk_of(low, edge) != chunk).any() or (
            _chunk_of(high, edge) != chunk
        ).any():  # otherwise none between is outside
            _keep_in_chunk(column, chunk[rows], edge)
        out[:, axis] = column
    return out


def _within(lower: Floats, upper: Floats, dtype: np.dtype[Any]) -> tuple[Vertices, Vertices]:
    """Smallest and largest values of a dtype in [lower, upper)."""
    low, high = lower.astype(dtype), upper.astype(dtype)
    low = np.where(low.astype(np.float64) < lower, np.nextafter(low, dtype.type(np.inf)), low)
    high = np.where(high.astype(np.float64) >= upper, np.nextafter(high, dtype.type(-np.inf)), high)
    return low, high


def _clamped(values: Vertices, low: Vertices, high: Vertices, rows: IntArray) -> Vertices:
    """Values clamped to bounds, in place; ``rows`` (N,) says which bounds are each value's."""
    off = np.flatnonzero((values < low.take(rows)) | (values > high.take(rows)))  # only a few
    values[off] = np.clip(values[off], low[rows[off]], high[rows[off]])
    return values


def _chunk_of(values: Vertices, edge: float) -> Floats:
    return np.asarray(np.floor(values.astype(np.float64) / edge))


def _keep_in_chunk(values: Vertices, chunk: IntArray, edge: float) -> None:
    """Move values that division rounds into the next chunk by units in the last place, in place."""
    for _ in range(NUDGES):
        found = _chunk_of(values, edge)
        off = np.flatnonzero(found != chunk)
        if not len(off):
            return
        towards = np.where(found[off] < chunk[off], np.inf, -np.inf).astype(values.dtype)
        values[off] = np.nextafter(values[off], towards)


def root_slots(positions: Vertices, which: IntArray, grid: BinGrid, shape: IntArray) -> IntArray:
    """(C,) bin of each vertex among ``shape`` (D,) bins of a chunk, as for `bins_of`."""
    return bins_of(positions, which, BinGrid(grid.chunks, shape, grid.chunk_edge / shape, grid.chunk_edge))


# Rows counted in the cells of a regular grid.


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Grid:
    """Cells of equal size.

    Parameters
    ----------
    lower, upper
        (D,) corners of the box in which rows must lie, both inclusive; rows on the upper face are in the last cell.
    columns
        (d,) coordinate columns that are the axes of the grid.
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
        """(n,) flat number of the cell in which each of (n, D) positions lies, -1 outside."""
        points, columns = np.asarray(positions, np.float64), list(self.columns)
        inside = np.asarray(((points >= self.lower) & (points <= self.upper)).all(axis=1))
        at = np.floor((points[:, columns] - self.lower[columns]) / self.edges)
        at = np.minimum(np.where(inside[:, None], at, 0), np.asarray(self.shape) - 1).astype(np.int64)
        return np.where(inside, np.ravel_multi_index(tuple(at.T), self.shape), -1)


@dataclass(frozen=True, slots=True, eq=False)
class Binned:
    """Rows by cell; only cells that have any.

    Parameters
    ----------
    cells
        (c,) flat numbers, ascending.
    counts
        (c,) rows in each.
    sums
        (c,) sum of their values, zeros if none are given.
    outside
        Number of rows outside all cells.
    """

    cells: IntArray
    counts: IntArray
    sums: Floats
    outside: int


def bin_rows(grid: Grid, positions: Vertices, values: Array | None = None) -> Binned:
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


def dense_grid(grid: Grid, binned: Binned, *, mean: bool) -> Array:
    """Array of the grid's shape: counts (int64), or means of values (float64), NaN if there are no rows."""
    if mean:
        out = np.full(int(np.prod(grid.shape)), np.nan)
        out[binned.cells] = binned.sums / binned.counts
    else:
        out = np.zeros(int(np.prod(grid.shape)), np.int64)
        out[binned.cells] = binned.counts
    return out.reshape(grid.shape)


# Merging rows: labels, and what becomes of the values of each group.
#
# Sums run in the order of the rows, one after another, in float64, so that a result depends only on its
# members.

Rule: TypeAlias = Literal["mean", "min", "max", "sum", "mode", "first"]
RULES: tuple[Rule, ...] = ("mean", "min", "max", "sum", "mode", "first")
NUMBERS = ("mean", "min", "max", "sum")


@dataclass(frozen=True, eq=False)
class Groups:
    """A partition of rows.

    Parameters
    ----------
    labels
        (M,) group of each row, 0 to ``count`` - 1; no group is empty.
    count
        Number of groups.
    runs
        (count,) where each group begins, if the rows are in the order of their groups; None if that is not known.
    """

    labels: IntArray
    count: int
    runs: IntArray | None = None

    @cached_property
    def order(self) -> IntArray:
        """(M,) rows by group, within a group in their own order."""
        if self.runs is not None:
            return np.arange(len(self.labels))
        small = self.labels.astype(np.uint16) if self.count <= 2**16 else self.labels  # radix sort
        return np.argsort(small, kind="stable")

    @cached_property
    def sizes(self) -> IntArray:
        """(count,) rows of each group."""
        if self.runs is not None:
            return np.diff(self.runs, append=len(self.labels))
        return np.bincount(self.labels, minlength=self.count)

    @cached_property
    def starts(self) -> IntArray:
        """(count,) where each group begins in `order`."""
        if self.runs is not None:
            return self.runs
        ends = np.cumsum(self.sizes)
        return ends - self.sizes


def group_by(keys: IntArray, bound: int) -> tuple[Groups, IntArray]:
    """Group rows with equal keys.

    Parameters
    ----------
    keys
        (M,) whole numbers from 0 to ``bound`` - 1.

    Returns
    -------
    The groups by ascending key, and (count,) the key of each.
    """
    labels, found = ranked(keys, bound)
    return Groups(labels, len(found)), found


def weighted_means(groups: Groups, values: Array, weights: IntArray | None) -> Floats:
    """(count, ...) float64 means, each row counted ``weights`` times; None for once.

    64-bit values are summed twice, the second time the residuals of the first: many roundings become about one.
    """
    total = groups.sizes if weights is None else summed_weights(groups, weights)
    total = total.reshape(-1, *(1,) * (values.ndim - 1))
    means: Floats = sums(groups, values, weights) / total
    if values.dtype.itemsize < 8:  # float64 has digits to spare
        return means
    with np.errstate(invalid="ignore"):
        rest = sums(groups, values - means[groups.labels], weights) / total
    return np.where(np.isfinite(rest), means + rest, means)


def summed_weights(groups: Groups, weights: IntArray) -> IntArray:
    """(count,) sums of (M,) numbers of vertices, which together are fewer than 2^53, so that float64 is exact."""
    return np.bincount(groups.labels, weights, groups.count).astype(np.int64)


def sums(groups: Groups, values: Array, weights: IntArray | None = None) -> Array:
    """(count, ...) sums: int64 for integers without weights, otherwise float64."""
    if values.dtype.kind in "iub" and weights is None:
        wide = values.astype(np.uint64 if values.dtype.kind == "u" else np.int64)
        return _reduced(groups, wide, np.add)
    columns = values.reshape(len(values), -1)
    out = np.empty((groups.count, columns.shape[1]), np.float64)
    weights = None if weights is None else weights.astype(np.float64)
    wide = np.empty(len(values), np.float64)
    for i, column in enumerate(columns.T):
        if weights is None:
            wide[:] = column
        else:
            np.multiply(column, weights, out=wide)
        out[:, i] = np.bincount(groups.labels, wide, groups.count)
    return out.reshape(groups.count, *values.shape[1:])


def check_known(rule: Any, what: str) -> None:
    """Raise SelectionError if it is no rule."""
    if rule not in RULES:
        raise SelectionError(f"{what} must be one of {', '.join(RULES)}, found {rule!r}")


def check_rule(rule: Any, dtype: np.dtype[Any], what: str, *, coded: bool, fill: bool = False) -> None:
    """Raise SelectionError if an attribute's values cannot be combined so.

    ``coded``: they stand for categories; ``fill``: one of them stands for missing integers.
    """
    check_known(rule, what)
    if rule == "sum" and fill and not coded and dtype.itemsize < 8:
        raise SelectionError(
            f"{what} is 'sum', but sums of {dtype} may equal the number that stands for a missing value: use 64-bit "
            "integers, or 'mean'"
        )
    kinds = "iufb" if rule in ("min", "max") else "iuf"
    if rule in NUMBERS and (coded or dtype.kind not in kinds):
        raise SelectionError(f"{what} is {rule!r}, but its values are not numbers: use 'mode' or 'first'")


def aggregate(
    groups: Groups, values: Array, weights: IntArray | None, rule: Rule, picks: Hashes | None = None
) -> Array:
    """(count, ...) one value for each group, in the dtype of `aggregated_dtype`.

    Parameters
    ----------
    values
        (M, ...) values of the rows.
    weights
        (M,) how many original vertices each row stands for; None for one.
    rule
        ``"mean"`` is weighted, and for integers rounded to the nearest, halves to even; ``"mode"`` is the value with
        the largest weight, column by column; ``"first"`` is that of the first row.
    picks
        (M,) numbers: among modes of equal weight, the row with the smallest of them decides, so that a tie
        favours no value; None for the first row.
    """
    dtype = aggregated_dtype(values.dtype, rule)
    if rule == "mean":
        if dtype.kind != "f":
            return whole_means(groups, values, weights)
        return weighted_means(groups, values, weights).astype(dtype)
    if rule == "sum":
        return sums(groups, values).astype(dtype)
    if rule == "mode":
        columns = values.reshape(len(values), -1)
        found = [mode(groups, column, weights, picks) for column in columns.T]
        return np.stack(found, axis=1).reshape(groups.count, *values.shape[1:]) if found else values[: groups.count]
    if rule == "first":
        return values[groups.order[groups.starts]]
    return _reduced(groups, values, np.minimum if rule == "min" else np.maximum)


def aggregated_dtype(dtype: np.dtype[Any], rule: Rule) -> np.dtype[Any]:
    """Dtype of aggregated values: the stored one, except that sums of integers have 64 bits."""
    if rule == "sum" and dtype.kind in "iub":
        return np.dtype(np.uint64 if dtype.kind == "u" else np.int64)
    return dtype


def whole_means(groups: Groups, values: Array, weights: IntArray | None) -> Array:
    """(count, ...) means of integers, rounded; 64-bit ones are exact if the values of a group are within 2^53."""
    if values.dtype.itemsize < 8:
        return np.rint(weighted_means(groups, values, weights)).astype(values.dtype)
    first = values[groups.order[groups.starts]] // 2 * 2  # even, so that halves go to even
    apart = values.view(np.int64) - first.view(np.int64)[groups.labels]  # wraps if they are further apart
    near = np.abs(values.astype(np.float64) - first.astype(np.float64)[groups.labels]) < 2.0**52
    if near.all():
        means = np.rint(weighted_means(groups, apart, weights)).astype(np.int64)
        return (first.view(np.int64) + means).view(values.dtype)
    span = np.iinfo(values.dtype)
    means = np.rint(weighted_means(groups, values, weights))
    top = np.nextafter(float(span.max), 0)  # the largest float64 that is not beyond
    return np.clip(means, float(span.min), top).astype(values.dtype)


def mode(groups: Groups, values: Array, weights: IntArray | None, picks: Hashes | None = None) -> Array:
    """(count,) the value with the largest weight in each group; of several, that of the row that ``picks`` favours."""
    if not len(values):
        return values
    distinct, codes = np.unique(values, return_inverse=True)
    pairs = groups.labels * len(distinct) + codes.reshape(-1)
    found, key = group_by(pairs, groups.count * len(distinct))
    weight = found.sizes if weights is None else sums(found, weights)
    owner = key // len(distinct)
    starts = np.searchsorted(owner, np.arange(groups.count))  # already ascending
    most = weight == np.maximum.reduceat(weight, starts)[owner]
    rows = np.flatnonzero(most[found.labels])
    numbers = rows.astype(np.uint64) if picks is None else picks[rows]
    of = groups.labels[rows]
    least = np.full(groups.count, np.iinfo(np.uint64).max)
    np.minimum.at(least, of, numbers)
    picked = np.flatnonzero(numbers == least[of])[::-1]  # of equal numbers, the first row's is assigned last
    winners = np.empty(groups.count, values.dtype)
    winners[of[picked]] = values[rows[picked]]
    return winners


def _reduced(groups: Groups, values: Array, ufunc: Callable[..., Any]) -> Array:
    if not groups.count:
        return values[:0]
    out: Array = ufunc.reduceat(values[groups.order], groups.starts, axis=0)  # type: ignore[attr-defined]
    return out


# Connected vertices.

FEW_ENDS = 4  # pairs of ends of a record, compared one by one


def components(n: int, edges: IntArray) -> IntArray:
    """(n,) smallest vertex to which each vertex is connected.

    Parameters
    ----------
    n
        Number of vertices.
    edges
        (E, 2) edges between them, in any direction.
    """
    root = np.arange(n, dtype=np.int64)
    one, other = edges[:, 0], edges[:, 1]
    while True:
        low, high = root[one], root[other]
        apart = np.flatnonzero(low != high)
        if not len(apart):
            return root
        one, other, low, high = one[apart], other[apart], low[apart], high[apart]
        np.minimum.at(root, np.maximum(low, high), np.minimum(low, high))
        while not np.array_equal(above := root[root], root):
            root = above


def distinct_rows(rows: IntArray) -> IntArray:
    """Distinct rows of (E, W) integers from 0 on, in lexicographic order."""
    if not len(rows):
        return rows
    bits = int(rows.max()).bit_length()
    if bits * rows.shape[1] <= 63:
        key = rows[:, 0]
        for column in rows.T[1:]:
            key = key << bits | column
        key = np.sort(key)
        key = key[np.concatenate([[True], key[1:] != key[:-1]])]
        out = np.empty((len(key), rows.shape[1]), np.int64)
        for at in reversed(range(rows.shape[1])):  # shifts, because a division takes ten times as long
            out[:, at] = key & ((1 << bits) - 1)
            key >>= bits
        return out
    ranked = rows[np.lexsort(rows.T[::-1])]
    return np.asarray(ranked[np.concatenate([[True], (ranked[1:] != ranked[:-1]).any(axis=1)])])


def every(mask: BoolArray) -> BoolArray:
    """(E,) whether all of a few columns, (E, W), hold; many times faster than NumPy's ``all`` along short rows."""
    found = mask[:, 0].copy() if mask.shape[1] else np.ones(len(mask), np.bool_)
    for column in mask.T[1:]:
        found &= column
    return found


def whole(records: IntArray) -> IntArray:
    """Records (E, W) whose ends all exist: none is -1."""
    if records.min(initial=0) >= 0:
        return records
    return np.asarray(records.take(np.flatnonzero(every(records >= 0)), axis=0))


def smallest_first(faces: IntArray) -> IntArray:
    """Faces (F, W) rotated so that their smallest corner comes first; the winding is kept."""
    width = faces.shape[1]
    shift = faces.argmin(axis=1) if len(faces) else np.zeros(0, np.int64)
    return np.take_along_axis(faces, (shift[:, None] + np.arange(width)) % width, axis=1)


def proper(records: IntArray) -> BoolArray:
    """(E,) whether all ends of a record (E, W) differ."""
    width = records.shape[1]
    if width <= FEW_ENDS:
        found = np.ones(len(records), np.bool_)
        for one, other in combinations(range(width), 2):
            found &= records[:, one] != records[:, other]
        return found
    ranked = np.sort(records, axis=1)
    return np.asarray((ranked[:, 1:] != ranked[:, :-1]).all(axis=1))


# Paths cut into runs that stay in one bin.


def cut_runs(bins: IntArray, starts: IntArray, least: IntArray) -> Groups:
    """Maximal runs of vertices of one piece in one bin, and more if a piece would keep too few.

    Parameters
    ----------
    bins
        (M,) bin of each vertex, pieces one after another, each in path order.
    starts
        (P + 1,) vertices of piece p are ``starts[p]:starts[p + 1]``, at least one.
    least
        (P,) runs that each piece must have, if it has that many vertices: then its last ones become runs of their own.

    Returns
    -------
    Groups in path order.
    """
    if not len(bins):
        return Groups(np.zeros(0, np.int64), 0)
    begins = np.empty(len(bins), np.bool_)
    np.not_equal(bins[1:], bins[:-1], out=begins[1:])
    begins[starts[:-1]] = True
    some = np.flatnonzero(least > 1)
    sizes = (starts[1:] - starts[:-1])[some]
    rows = ranges(starts[some], sizes)
    firsts = np.cumsum(sizes) - sizes
    inner = ~begins[rows]
    lack = (
        np.minimum(least[some], sizes) - (sizes - np.add.reduceat(inner, firsts, dtype=np.int64))
        if len(some)
        else sizes
    )
    if (lack > 0).any():
        count = np.cumsum(inner)
        from_end = np.repeat(count[firsts + sizes - 1], sizes) - count
        begins[rows[inner & (from_end < np.repeat(lack, sizes))]] = True
    runs = np.flatnonzero(begins)
    labels = np.cumsum(begins, dtype=np.int32).astype(np.int64)  # twice as fast as a sum in 64 bits
    labels -= 1
    return Groups(labels, len(runs), runs)
