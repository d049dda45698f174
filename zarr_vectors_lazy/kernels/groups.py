"""Rows that become one: connected ones, labels, and what is made of the values of each group."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any, Literal, TypeAlias

import numpy as np

from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.kernels.records import Hashes
from zarr_vectors_lazy.types import BoolArray, Floats, IntArray

# Rows that become one: labels, and what is made of the values of each group.
#
# Sums run in the order of the rows, one after another, in float64, so that a result depends on nothing but its
# members.

Rule: TypeAlias = Literal["mean", "min", "max", "sum", "mode", "first"]
RULES: tuple[Rule, ...] = ("mean", "min", "max", "sum", "mode", "first")
NUMBERS = ("mean", "min", "max", "sum")
DENSE_SHARE = 8  # numbers are counted in a table where it has at most so many cells for each row


@dataclass(frozen=True, eq=False)
class Groups:
    """A partition of rows.

    Parameters
    ----------
    labels
        (M,) group of each row, 0 to ``count`` - 1; no group is empty.
    count
        Number of groups.
    """

    labels: IntArray
    count: int

    @cached_property
    def order(self) -> IntArray:
        """(M,) rows by group, within a group in their own order."""
        small = self.labels.astype(np.uint16) if self.count <= 2**16 else self.labels  # radix sort
        return np.argsort(small, kind="stable")

    @cached_property
    def sizes(self) -> IntArray:
        """(count,) rows of each group."""
        return np.bincount(self.labels, minlength=self.count)

    @cached_property
    def starts(self) -> IntArray:
        """(count,) where each group begins in `order`."""
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
    if bound <= DENSE_SHARE * len(keys) + 1024:
        occupied = np.bincount(keys, minlength=bound) > 0
        rank = np.cumsum(occupied) - 1
        return Groups(rank[keys], int(occupied.sum())), np.flatnonzero(occupied)
    found, labels = np.unique(keys, return_inverse=True)
    return Groups(labels.reshape(-1), len(found)), found


def weighted_means(groups: Groups, values: np.ndarray[Any, Any], weights: IntArray | None) -> Floats:
    """(count, ...) float64 means, each row counted ``weights`` times; None: once.

    Values of 64 bits are summed twice, the second time what the first left over: many roundings become about one.
    """
    total = groups.sizes if weights is None else sums(groups, weights)
    total = total.reshape(-1, *(1,) * (values.ndim - 1))
    means: Floats = sums(groups, values, weights) / total
    if values.dtype.itemsize < 8:  # float64 has digits to spare
        return means
    with np.errstate(invalid="ignore"):
        rest = sums(groups, values - means[groups.labels], weights) / total
    return np.where(np.isfinite(rest), means + rest, means)


def sums(groups: Groups, values: np.ndarray[Any, Any], weights: IntArray | None = None) -> np.ndarray[Any, Any]:
    """(count, ...) sums: int64 of whole numbers without weights, else float64."""
    if values.dtype.kind in "iub" and weights is None:
        wide = values.astype(np.uint64 if values.dtype.kind == "u" else np.int64)
        return _reduced(groups, wide, np.add)
    columns = values.reshape(len(values), -1)
    out = np.empty((groups.count, columns.shape[1]), np.float64)
    for i, column in enumerate(columns.T):
        wide = column.astype(np.float64)
        if weights is not None:
            wide *= weights
        out[:, i] = np.bincount(groups.labels, wide, groups.count)
    return out.reshape(groups.count, *values.shape[1:])


def check_rule(rule: Any, dtype: np.dtype[Any], what: str, *, coded: bool) -> None:
    """Raise SelectionError if an attribute's values cannot be joined so; ``coded`` where they stand for categories."""
    if rule not in RULES:
        raise SelectionError(f"{what} must be None or one of {', '.join(RULES)}, found {rule!r}")
    kinds = "iufb" if rule in ("min", "max") else "iuf"
    if rule in NUMBERS and (coded or dtype.kind not in kinds):
        raise SelectionError(f"{what} is {rule!r}, and its values are no numbers: 'mode' or 'first'")


def aggregate(
    groups: Groups,
    values: np.ndarray[Any, Any],
    weights: IntArray | None,
    rule: Rule,
    picks: Hashes | None = None,
) -> np.ndarray[Any, Any]:
    """(count, ...) one value a group, in the dtype of `aggregated_dtype`.

    Parameters
    ----------
    values
        (M, ...) of the rows.
    weights
        (M,) how many original vertices each row stands for, or None: one.
    rule
        ``"mean"`` is weighted, and rounded to the nearest for whole numbers, halves to even; ``"mode"`` is the value of
        the greatest weight, column by column; ``"first"`` the one of the first row.
    picks
        (M,) numbers: among modes of equal weight the value is taken of the row of the least of them, so that a tie
        favours no value; None: of the first row.
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
    """Dtype of aggregated values: the stored one, but sums of whole numbers have 64 bits."""
    if rule == "sum" and dtype.kind in "iub":
        return np.dtype(np.uint64 if dtype.kind == "u" else np.int64)
    return dtype


def whole_means(groups: Groups, values: np.ndarray[Any, Any], weights: IntArray | None) -> np.ndarray[Any, Any]:
    """(count, ...) means of whole numbers, rounded; of 64 bits exact where the values of a group are within 2^53."""
    if values.dtype.itemsize < 8:
        return np.rint(weighted_means(groups, values, weights)).astype(values.dtype)
    first = values[groups.order[groups.starts]] // 2 * 2  # even, so that halves go to even
    apart = values.view(np.int64) - first.view(np.int64)[groups.labels]  # wraps where they are further apart
    near = np.abs(values.astype(np.float64) - first.astype(np.float64)[groups.labels]) < 2.0**52
    if near.all():
        means = np.rint(weighted_means(groups, apart, weights)).astype(np.int64)
        return (first.view(np.int64) + means).view(values.dtype)
    span = np.iinfo(values.dtype)
    means = np.rint(weighted_means(groups, values, weights))
    top = np.nextafter(float(span.max), 0)  # the greatest float64 that is not beyond
    return np.clip(means, float(span.min), top).astype(values.dtype)


def mode(
    groups: Groups, values: np.ndarray[Any, Any], weights: IntArray | None, picks: Hashes | None = None
) -> np.ndarray[Any, Any]:
    """(count,) the value of the greatest weight in each group; of several that of the row that ``picks`` says."""
    if not len(values):
        return values
    distinct, codes = np.unique(values, return_inverse=True)
    pairs = groups.labels * len(distinct) + codes.reshape(-1)
    found, key = group_by(pairs, groups.count * len(distinct))
    weight = found.sizes if weights is None else sums(found, weights)
    owner = key // len(distinct)
    starts = np.searchsorted(owner, np.arange(groups.count))  # it ascends
    most = weight == np.maximum.reduceat(weight, starts)[owner]
    rows = np.flatnonzero(most[found.labels])
    numbers = rows.astype(np.uint64) if picks is None else picks[rows]
    of = groups.labels[rows]
    least = np.full(groups.count, np.iinfo(np.uint64).max)
    np.minimum.at(least, of, numbers)
    picked = np.flatnonzero(numbers == least[of])[::-1]  # of equal numbers the first row's is assigned last
    winners = np.empty(groups.count, values.dtype)
    winners[of[picked]] = values[rows[picked]]
    return winners


def _reduced(groups: Groups, values: np.ndarray[Any, Any], ufunc: Callable[..., Any]) -> np.ndarray[Any, Any]:
    if not groups.count:
        return values[:0]
    out: np.ndarray[Any, Any] = ufunc.reduceat(values[groups.order], groups.starts, axis=0)  # type: ignore[attr-defined]
    return out


# Connected vertices.

FEW_ENDS = 4  # of a record, which are compared pair by pair


def components(n: int, edges: IntArray) -> IntArray:
    """(n,) smallest vertex that each vertex is connected to.

    Parameters
    ----------
    n
        Number of vertices.
    edges
        (E, 2) between them, in any direction.
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
    """Different rows of (E, W) whole numbers from 0 on, in lexicographic order."""
    if not len(rows):
        return rows
    bound = int(rows.max()) + 1
    if float(bound) ** rows.shape[1] < 2.0**63:
        key = rows[:, 0]
        for column in rows.T[1:]:
            key = key * bound + column
        key = np.sort(key)
        key = key[np.concatenate([[True], key[1:] != key[:-1]])]
        out = np.empty((len(key), rows.shape[1]), np.int64)
        for at in reversed(range(rows.shape[1])):
            key, out[:, at] = np.divmod(key, bound)
        return out
    ranked = rows[np.lexsort(rows.T[::-1])]
    first: IntArray = ranked[np.concatenate([[True], (ranked[1:] != ranked[:-1]).any(axis=1)])]
    return first


def every(mask: BoolArray) -> BoolArray:
    """(E,) whether all of a few columns hold, (E, W); many times faster than NumPy's ``all`` along short rows."""
    found = mask[:, 0].copy() if mask.shape[1] else np.ones(len(mask), np.bool_)
    for column in mask.T[1:]:
        found &= column
    return found


def whole(records: IntArray) -> IntArray:
    """Records (E, W) all of whose ends are there: none is -1."""
    if records.min(initial=0) >= 0:
        return records
    found: IntArray = records.take(np.flatnonzero(every(records >= 0)), axis=0)
    return found


def smallest_first(faces: IntArray) -> IntArray:
    """Faces (F, W) rotated so that their smallest corner leads; winding kept."""
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
