"""Connected vertices."""

from itertools import combinations

import numpy as np

from zarr_vectors_lazy.types import BoolArray, IntArray

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
    mask = every(records >= 0)
    found: IntArray = records if mask.all() else records[mask]
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
