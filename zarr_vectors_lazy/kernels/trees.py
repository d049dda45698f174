"""Rooted trees as arrays of parents, and edges that a format implies."""

import numpy as np

from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.model.objects import Fragments
from zarr_vectors_lazy.types import BoolArray, IntArray

# Rooted trees as arrays of parents.


def depth_first(parents: IntArray, names: IntArray | None = None) -> IntArray:
    """Place of each vertex in depth-first order, with children and roots in the order of their numbers.

    The tour down and up every edge is a linked list; doubling pointers ranks it in log2(2 N) steps, whatever
    the depth.

    Parameters
    ----------
    parents
        (N,) parent of each vertex, -1 for roots.
    names
        (N,) names of the vertices for errors; None for their numbers.

    Raises
    ------
    SelectionError
        If there is a cycle.
    """
    n = len(parents)
    if not n:
        return np.empty(0, np.int64)
    down, up, end = np.arange(n), np.arange(n) + n, 2 * n
    following = _tour(parents, down, up, end)
    left = np.zeros(end + 1, np.int64)  # vertices entered from here to the end
    left[down] = 1
    for _ in range(int(end).bit_length() + 1):
        if (following == end).all():
            break
        left = left + left[following]
        following = following[following]
    if not (following == end).all():
        vertex = int(np.flatnonzero(following[:n] != end)[0])
        vertex = vertex if names is None else int(names[vertex])
        raise SelectionError(f"the edges of a skeleton must be trees; vertex {vertex} is on a cycle, or below one")
    return n - left[down]


def branches(parents: IntArray) -> tuple[IntArray, IntArray]:
    """Rows of the branches of trees, one after another, and the (B + 1,) first row of each.

    A branch leads from a root or a fork, which is its first row, to the next fork or tip; a tree of one vertex is one.

    Raises
    ------
    SelectionError
        As for `depth_first`.
    """
    order = np.argsort(depth_first(parents))
    children = np.bincount(parents[parents >= 0], minlength=len(parents))
    above = parents[order]
    roots = above < 0
    begins = roots | (children[above] != 1)
    kept = ~(roots & (children[order] > 1))  # a root that forks is the first row of other branches
    forks = np.flatnonzero(begins & ~roots)
    rows = np.insert(order, forks, above[forks])
    first = np.insert(begins, forks, True)
    first[forks + np.arange(len(forks)) + 1] = False
    stays = np.insert(kept, forks, True)
    return rows[stays], np.append(np.flatnonzero(first[stays]), stays.sum())


def _tour(parents: IntArray, down: IntArray, up: IntArray, end: int) -> IntArray:
    """Return the next step of each step of the tour; the list ends in ``end``, which follows itself."""
    n = len(parents)
    order = np.argsort(parents, kind="stable")  # siblings together, roots first
    sorted_parents = parents[order]
    first = np.diff(sorted_parents, prepend=-2) != 0
    last = np.append(first[1:], True)
    following = np.empty(end + 1, np.int64)
    following[end] = end
    following[down] = up  # of leaves
    heads = order[first]
    inner = parents[heads] >= 0
    following[down[parents[heads[inner]]]] = down[heads[inner]]
    sibling = np.append(order[1:], -1)
    after = np.where(last, np.where(sorted_parents >= 0, n + sorted_parents, end), sibling)
    following[up[order]] = after
    return following


def rooted(edges: IntArray, count: int) -> IntArray:
    """(count,) parent of each vertex of undirected trees, -1 for roots: the smallest vertex of each.

    Each edge is walked twice, and followed by the next edge that leaves its end: tours, one around each tree, and
    more around anything else. Doubling pointers finds the first step of each, then the place of every step.

    Raises
    ------
    SelectionError
        If edges form a cycle, or join two vertices twice.
    """
    parents = np.full(count, -1, np.int64)
    if not len(edges):
        return parents
    order = np.argsort(np.concatenate([edges[:, 0], edges[:, 1]]), kind="stable")
    start, end = (np.concatenate([edges[:, one], edges[:, 1 - one]])[order] for one in (0, 1))
    steps, at = len(order), np.empty(len(order), np.int64)
    at[order] = np.arange(steps)
    twin = at[(order + len(edges)) % steps]
    first = np.flatnonzero(np.diff(start, prepend=-1))
    beside = np.arange(1, steps + 1)
    beside[np.append(first[1:], steps) - 1] = first
    following = beside[twin]
    least, ahead = np.arange(steps), following
    for _ in range(steps.bit_length()):
        least, ahead = np.minimum(least, least[ahead]), ahead[ahead]
    heads = np.unique(least)
    # V - E is 1 for a tree, and less than the number of tours for anything else (Euler)
    if len(edges) + len(heads) != len(first):
        raise SelectionError("the edges must be trees, but they form a cycle or join two vertices twice")
    is_head = np.zeros(steps, bool)
    is_head[heads] = True
    following = np.append(np.where(is_head[following], steps, following), steps)
    left = np.append(np.ones(steps, np.int64), 0)
    for _ in range(steps.bit_length()):
        left, following = left + left[following], following[following]
    down = left[:-1] > left[twin]
    parents[end[down]] = start[down]
    return parents


# Edges that a format implies.


def implied_parents(fragments: Fragments, n_rows: int, *, tiles: bool = False, first: int = 0) -> IntArray:
    """Parent row of each row of a chunk: its predecessor in its fragment; (n_rows,) int64, -1 for none.

    A row is a root if it is the first of a fragment (spec 0.9, 10, "Skeleton").

    Parameters
    ----------
    tiles
        See `FragmentRun`.
    first
        Number of the chunk's first row.
    """
    if tiles:
        parent = np.arange(first - 1, first + n_rows - 1)
        parent[fragments.first[fragments.counts > 0]] = -1
        return parent
    parent = np.full(n_rows, -1, np.int64)
    rows = fragments.rows(np.arange(len(fragments)))
    if len(rows) > 1:
        ends = np.cumsum(fragments.counts)
        starts = (ends - fragments.counts)[fragments.counts > 0]
        inner = np.ones(len(rows), np.bool_)
        inner[starts] = False
        at = np.flatnonzero(inner)
        parent[rows[at]] = rows[at - 1] + first
    return parent


def crossing(fragments: Fragments, n_rows: int, first: IntArray, second: IntArray) -> BoolArray:
    """Which pairs of rows of a chunk lie in different fragments; (n,)."""
    owner = _owners(fragments, n_rows)
    return np.asarray(owner[first] != owner[second])


def follow_fragments(groups: Fragments, rows: IntArray, fragments: Fragments, n_rows: int) -> str:
    """Why groups of link records do not match the fragments of their chunk; empty if they do (spec next, 8).

    Parameters
    ----------
    groups
        Groups of the records.
    rows
        (M, L) rows that the records name.
    fragments, n_rows
        Fragments and rows of the chunk.
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
