"""Numbers that look random and depend on nothing but their key."""

import numpy as np
import numpy.typing as npt

from zarr_vectors_lazy.types import ChunkCoords, IntArray

Hashes = npt.NDArray[np.uint64]
_MASK = 2**64 - 1


def hash_ids(seed: int, ids: IntArray) -> Hashes:
    """(n,) 64-bit hash of (seed, id)."""
    return _mix(np.uint64(_mix_one(seed)) ^ ids.astype(np.int64).view(np.uint64))


def hash_rows(seed: int, level: int, chunks: ChunkCoords, counts: IntArray) -> Hashes:
    """(N,) 64-bit hashes of (seed, level, chunk, row) of all rows of some chunks, one chunk after another.

    Parameters
    ----------
    chunks, counts
        (n, K) chunks, and rows of each.
    """
    state = np.full(len(chunks), _mix_one(seed) ^ (level & _MASK), np.uint64)
    for part in np.asarray(chunks, np.int64).view(np.uint64).T:
        state = _mix(state) ^ part
    rows = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return _mix(np.repeat(_mix(state), counts) ^ rows.astype(np.uint64))


def kept_ids(seed: int, ids: IntArray, keep: int) -> "npt.NDArray[np.bool_]":
    """(n,) whether an id is among the ``keep`` of smallest hash; ties by id."""
    order = np.lexsort((ids, hash_ids(seed, ids)))
    mask = np.zeros(len(ids), np.bool_)
    mask[order[:keep]] = True
    return mask


def _mix_one(value: int) -> int:
    return int(_mix(np.asarray([value & _MASK], np.uint64))[0])


def _mix(values: Hashes) -> Hashes:
    """Finalizer of splitmix64 (Steele, Lea, Flood 2014)."""
    with np.errstate(over="ignore"):
        values = values + np.uint64(0x9E3779B97F4A7C15)
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
