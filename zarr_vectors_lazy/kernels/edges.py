"""Edges that a format implies."""

import numpy as np

from zarr_vectors_lazy.model.objects import Fragments
from zarr_vectors_lazy.types import BoolArray, IntArray


def implied_parents(fragments: Fragments, n_rows: int) -> IntArray:
    """Parent row of each row of a chunk: its predecessor in its fragment; (n_rows,) int64, -1 for none.

    A row is a root where it is the first of a fragment (spec 0.9, 10, "Skeleton").
    """
    parent = np.full(n_rows, -1, np.int64)
    rows = fragments.rows(np.arange(len(fragments)))
    if len(rows) > 1:
        ends = np.cumsum(fragments.counts)
        starts = (ends - fragments.counts)[fragments.counts > 0]
        inner = np.ones(len(rows), np.bool_)
        inner[starts] = False
        at = np.flatnonzero(inner)
        parent[rows[at]] = rows[at - 1]
    return parent


def crossing(fragments: Fragments, n_rows: int, first: IntArray, second: IntArray) -> BoolArray:
    """Which pairs of rows of a chunk do not lie in one fragment; (n,)."""
    owner = np.full(n_rows, -1, np.int64)
    every = np.arange(len(fragments))
    owner[fragments.rows(every)] = np.repeat(every, fragments.counts)
    return np.asarray(owner[first] != owner[second])
