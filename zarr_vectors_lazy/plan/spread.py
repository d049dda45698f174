"""Chunks spread over the tasks that write them."""

import numpy as np

from zarr_vectors_lazy.model.writing import Encoding, Grid
from zarr_vectors_lazy.types import ChunkCoords, IntArray


def spread_chunks(coords: ChunkCoords, counts: IntArray, grid: Grid, encoding: Encoding, parts: int) -> IntArray:
    """(C,) part that writes each chunk: about equal rows, all chunks of a shard in one, neighbours together."""
    units = np.arange(len(coords))
    if encoding.shard_shape is not None and len(coords):
        shards = shard_of(coords, grid.origin, encoding.shard_shape)
        units = np.unique(shards, axis=0, return_inverse=True)[1].reshape(-1)
    rows = np.bincount(units, counts, minlength=1)
    middle = np.cumsum(rows) - rows / 2
    of_unit = np.minimum(middle / max(rows.sum(), 1) * parts, parts - 1).astype(np.int64)
    found: IntArray = of_unit[units]
    return found


def shard_of(coords: ChunkCoords, origin: tuple[int, ...], shard_shape: tuple[int, ...]) -> IntArray:
    """(C, K) shard of each chunk."""
    found: IntArray = (coords - np.asarray(origin, np.int64)) // np.asarray(shard_shape, np.int64)
    return found
