"""Connected vertices."""

import numpy as np

from zarr_vectors_lazy.types import IntArray


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
    while len(edges):
        ends = root[edges]
        apart = ends[:, 0] != ends[:, 1]
        edges = edges[apart]
        if not len(edges):
            break
        low, high = ends[apart].min(axis=1), ends[apart].max(axis=1)
        np.minimum.at(root, high, low)
        while not np.array_equal(above := root[root], root):
            root = above
    return root


def distinct_rows(rows: IntArray) -> IntArray:
    """Numbers of the first of each of the different rows of (E, W) whole numbers, ascending."""
    if not len(rows):
        return np.zeros(0, np.int64)
    order = np.lexsort(rows.T[::-1])
    ranked = rows[order]
    first = np.concatenate([[True], (ranked[1:] != ranked[:-1]).any(axis=1)])
    return np.sort(order[first])  # lexsort is stable: the first of equals comes first


def smallest_first(faces: IntArray) -> IntArray:
    """Faces (F, W) rotated so that their smallest corner leads; winding kept."""
    width = faces.shape[1]
    shift = faces.argmin(axis=1) if len(faces) else np.zeros(0, np.int64)
    return np.take_along_axis(faces, (shift[:, None] + np.arange(width)) % width, axis=1)


def proper(records: IntArray) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    """(E,) whether all ends of a record (E, W) differ."""
    ranked = np.sort(records, axis=1)
    return np.asarray((ranked[:, 1:] != ranked[:, :-1]).all(axis=1))
