"""Rows that become one: labels, and what is made of the values of each group.

Sums run in the order of the rows, one after another, in float64, so that a result depends on nothing but its members.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np

from zarr_vectors_lazy.types import Floats, IntArray

Rule: TypeAlias = Literal["mean", "min", "max", "sum", "mode", "first"]
RULES: tuple[Rule, ...] = ("mean", "min", "max", "sum", "mode", "first")
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


def aggregate(
    groups: Groups, values: np.ndarray[Any, Any], weights: IntArray | None, rule: Rule
) -> np.ndarray[Any, Any]:
    """(count, ...) one value a group, in the dtype of `aggregated_dtype`.

    Parameters
    ----------
    values
        (M, ...) of the rows.
    weights
        (M,) how many original vertices each row stands for, or None: one.
    rule
        ``"mean"`` is weighted, and rounded to the nearest for whole numbers; ``"mode"`` is the value of the greatest
        weight, the smallest among equals, column by column; ``"first"`` the one of the first row.
    """
    dtype = aggregated_dtype(values.dtype, rule)
    if rule == "mean":
        means = weighted_means(groups, values, weights)
        return (means if dtype.kind == "f" else np.rint(means)).astype(dtype)
    if rule == "sum":
        return sums(groups, values).astype(dtype)
    if rule == "mode":
        columns = values.reshape(len(values), -1)
        found = [mode(groups, column, weights) for column in columns.T]
        return np.stack(found, axis=1).reshape(groups.count, *values.shape[1:]) if found else values[: groups.count]
    if rule == "first":
        return values[groups.order[groups.starts]]
    return _reduced(groups, values, np.minimum if rule == "min" else np.maximum)


def aggregated_dtype(dtype: np.dtype[Any], rule: Rule) -> np.dtype[Any]:
    """Dtype of aggregated values: the stored one, but sums of whole numbers have 64 bits."""
    if rule == "sum" and dtype.kind in "iub":
        return np.dtype(np.uint64 if dtype.kind == "u" else np.int64)
    return dtype


def mode(groups: Groups, values: np.ndarray[Any, Any], weights: IntArray | None) -> np.ndarray[Any, Any]:
    """(count,) the value of the greatest weight in each group, the smallest of equals."""
    if not len(values):
        return values
    distinct, codes = np.unique(values, return_inverse=True)
    pairs = groups.labels * len(distinct) + codes.reshape(-1)
    found, key = group_by(pairs, groups.count * len(distinct))
    weight = found.sizes if weights is None else sums(found, weights)
    owner = key // len(distinct)
    best = np.lexsort((np.arange(len(key)), -weight, owner))
    first = np.searchsorted(owner, np.arange(groups.count))  # owner ascends, and lexsort keeps its runs in place
    winners: np.ndarray[Any, Any] = distinct[key[best[first]] % len(distinct)]
    return winners


def _reduced(groups: Groups, values: np.ndarray[Any, Any], ufunc: Callable[..., Any]) -> np.ndarray[Any, Any]:
    if not groups.count:
        return values[:0]
    out: np.ndarray[Any, Any] = ufunc.reduceat(values[groups.order], groups.starts, axis=0)  # type: ignore[attr-defined]
    return out
