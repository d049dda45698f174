"""Paths cut into runs that stay in one bin."""

import numpy as np

from zarr_vectors_lazy.kernels.groups import Groups
from zarr_vectors_lazy.types import BoolArray, IntArray


def cut_runs(bins: IntArray, pieces: IntArray, least: IntArray) -> Groups:
    """Maximal runs of vertices of one piece in one bin, and more where a piece would keep too few.

    Parameters
    ----------
    bins
        (M,) bin of each vertex, pieces one after another, each in path order.
    pieces
        (M,) piece of each vertex, ascending from 0 without gaps.
    least
        (P,) runs that each piece must have, if it has so many vertices: its last ones then become runs of their own.

    Returns
    -------
    Groups in path order.
    """
    begins = _begins(bins, pieces)
    if not len(begins):
        return Groups(np.zeros(0, np.int64), 0)
    runs = np.bincount(pieces[begins], minlength=len(least))
    lack = np.minimum(least, np.bincount(pieces, minlength=len(least))) - runs
    if (lack > 0).any():
        inner = np.cumsum(~begins)
        ends = np.append(np.flatnonzero(np.diff(pieces)), len(pieces) - 1)
        from_end = inner[ends][pieces] - inner
        begins |= ~begins & (from_end < lack[pieces])
    labels = np.cumsum(begins) - 1
    return Groups(labels, int(labels[-1]) + 1)


def _begins(bins: IntArray, pieces: IntArray) -> BoolArray:
    changes = (np.diff(bins) != 0) | (np.diff(pieces) != 0)
    return np.concatenate([np.ones(min(1, len(bins)), np.bool_), changes])
