"""Which chunks a box needs (spec 0.9, 4.2: a vertex lies in chunk floor(position / chunk shape), in float64)."""

import numpy as np

from zarr_vectors_lazy.types import BBox, BoolArray, ChunkCoords, Floats


def chunks_in_box(
    coords: ChunkCoords, chunk_shape: Floats, bin_shape: Floats, box: BBox
) -> tuple[BoolArray, BoolArray]:
    """Tell the chunks that may hold vertices of a box from those that cannot.

    Parameters
    ----------
    coords
        (n, K) chunk coordinates; the last D of the K components are spatial.
    chunk_shape
        (D,) edge lengths.
    bin_shape
        (D,) edge lengths of bins of which a whole number makes a chunk; ``chunk_shape`` where there are none.
    box
        (lo, hi), inclusive.

    Returns
    -------
    touched
        (n,) whether the chunk can hold a vertex of the box. Division and floor are monotone, so no vertex of the box
        lies outside the chunks from that of ``lo`` to that of ``hi``.
    inside
        (n,) whether all that the chunk can hold is in the box: strictly between those two.
    """
    spatial = coords[:, coords.shape[1] - len(chunk_shape) :]
    first, last = (_chunks_of(corner, chunk_shape, bin_shape) for corner in box)
    touched = ((spatial >= first[0]) & (spatial <= last[1])).all(axis=1) & bool((box[0] <= box[1]).all())
    above, below = (spatial > first[1]) | (box[0] == -np.inf), (spatial < last[0]) | (box[1] == np.inf)
    return np.asarray(touched), np.asarray(touched & (above & below).all(axis=1))


def _chunks_of(corner: Floats, chunk_shape: Floats, bin_shape: Floats) -> Floats:
    """(2, D) lowest and highest chunk that writers may put a position in.

    Some divide by the chunk's edge, some by the bin's (spec 0.9, 5.1), which can round apart: 0.3 / 0.3 is 1, and
    0.3 / 0.1 less than 3.
    """
    by_bin = np.floor(np.floor(corner / bin_shape) / np.rint(chunk_shape / bin_shape))
    return np.sort([np.floor(corner / chunk_shape), by_bin], axis=0)
