"""Bins of a whole level, shared by all objects: the arithmetic of the reference package's ``per_object``."""

from dataclasses import dataclass

import numpy as np

from zarr_vectors_lazy.types import ChunkCoords, Floats, IntArray, Vertices


@dataclass(frozen=True, slots=True, eq=False)
class SharedBins:
    """The vertices of a level, one for each bin that a member lies in; numbered by chunk.

    Parameters
    ----------
    chunks, starts
        (n, K) chunks, and (n + 1,) the numbers of their vertices.
    positions
        (C, D) float32.
    members
        (M,) vertex of each member.
    parents
        (N,) vertex of each row, also of those that are no members; -1 where the bin has none.
    """

    chunks: ChunkCoords
    starts: IntArray
    positions: Vertices
    members: IntArray
    parents: IntArray


def share_bins(positions: Vertices, rows: IntArray, bin_shape: Floats, chunk_shape: Floats) -> SharedBins:
    """Unweighted means of the members of each bin.

    Parameters
    ----------
    positions
        (N, D) float32.
    rows
        (M,) members: rows, as often as they count.
    """
    bins = np.floor(positions / bin_shape).astype(np.int64)
    # Bins are ordered as their little-endian bytes are, axis by axis.
    swapped = np.ascontiguousarray(bins).view(np.uint64).byteswap().reshape(bins.shape)
    _, number = np.unique(swapped, axis=0, return_inverse=True)
    number = number.reshape(-1)
    used = np.zeros(int(number.max(initial=-1)) + 1, np.bool_)
    used[number[rows]] = True
    rank = np.where(used, np.cumsum(used) - 1, -1)
    members, total = rank[number[rows]], int(used.sum())
    counts = np.bincount(members, minlength=total)
    sums = [np.bincount(members, column[rows].astype(np.float64), total) for column in positions.T]
    means = (np.stack(sums, axis=1) / counts[:, None]).astype(np.float32)
    home = np.floor(means / chunk_shape).astype(np.int64)
    chunks, chunk = np.unique(home, axis=0, return_inverse=True)
    order = np.argsort(chunk.reshape(-1), kind="stable")
    place = np.empty(total + 1, np.int64)
    place[order] = np.arange(total)
    place[-1] = -1  # of rows whose bin has no member
    starts = np.concatenate([[0], np.cumsum(np.bincount(chunk.reshape(-1), minlength=len(chunks)))]).astype(np.int64)
    return SharedBins(chunks, starts, means[order], place[members], place[rank[number]])
