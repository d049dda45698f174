"""Which chunks a box needs (spec 0.9, 4.2: a vertex lies in chunk floor(position / chunk shape), in float64)."""

import numpy as np

from zarr_vectors_lazy.types import BBox, BoolArray, ChunkCoords, Floats


def chunks_in_box(coords: ChunkCoords, chunk_shape: Floats, box: BBox) -> tuple[BoolArray, BoolArray]:
    """Tell the chunks that may hold vertices of a box from those that cannot.

    Parameters
    ----------
    coords
        (n, K) chunk coordinates; the last D of the K components are spatial.
    chunk_shape
        (D,) edge lengths.
    box
        (lo, hi), inclusive.

    Returns
    -------
    touched
        (n,) whether the chunk can hold a vertex of the box. Division and floor are monotone, so no vertex of the box
        lies outside ``floor(lo / shape) .. floor(hi / shape)``.
    inside
        (n,) whether all that the chunk can hold is in the box: strictly between those two.
    """
    spatial = coords[:, coords.shape[1] - len(chunk_shape) :]
    first, last = np.floor(box[0] / chunk_shape), np.floor(box[1] / chunk_shape)
    touched = ((spatial >= first) & (spatial <= last)).all(axis=1) & bool((box[0] <= box[1]).all())
    inside = touched & (((spatial > first) | (box[0] == -np.inf)) & ((spatial < last) | (box[1] == np.inf))).all(axis=1)
    return np.asarray(touched), np.asarray(inside)
