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
    owner = _owners(fragments, n_rows)
    return np.asarray(owner[first] != owner[second])


def follow_fragments(groups: Fragments, rows: IntArray, fragments: Fragments, n_rows: int) -> str:
    """Why groups of link records are not those of the fragments of their chunk; empty if they are (spec next, 8).

    Parameters
    ----------
    groups
        Of the records.
    rows
        (M, L) that records name.
    fragments, n_rows
        Of the chunk.
    """
    if len(groups) != len(fragments):
        return f"{len(groups)} groups for {len(fragments)} fragments"
    named = fragments.rows(np.arange(len(fragments)))
    if len(np.unique(named)) < len(named):
        return "fragments share rows"
    listed = groups.rows(np.arange(len(groups)))
    if len(listed) != len(rows) or len(np.unique(listed)) != len(rows):
        return f"{len(np.unique(listed))} of {len(rows)} records are in a group, {len(listed)} are listed"
    owner, group = _owners(fragments, n_rows), _owners(groups, len(rows))
    strangers = int((owner[rows] != group[:, None]).any(axis=1).sum())
    return f"{strangers} records do not lie in the fragment of their group" if strangers else ""


def _owners(fragments: Fragments, n_rows: int) -> IntArray:
    """(n_rows,) fragment of each row, -1 for none."""
    owner = np.full(n_rows, -1, np.int64)
    every = np.arange(len(fragments))
    owner[fragments.rows(every)] = np.repeat(every, fragments.counts)
    return owner
