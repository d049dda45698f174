"""Which vertices of a level without objects are kept: those of smallest hash, up to a threshold found by counting."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from zarr_vectors_lazy.access.pyramid.step import Step, Thinning
from zarr_vectors_lazy.access.pyramid.tasks import Begun
from zarr_vectors_lazy.access.read import read_batch, read_row_count
from zarr_vectors_lazy.access.wanted import Wanted
from zarr_vectors_lazy.kernels.hashing import hash_rows
from zarr_vectors_lazy.model.pyramid import ChunkRecord
from zarr_vectors_lazy.types import ChunkCoords, IntArray

BITS = 16  # of a hash, by which a first pass counts
ROWS = 2**20  # that are hashed at once
BATCH = 1024  # heads of cells fetched at once


def row_threshold(
    step: Step,
    thinning: Thinning,
    coords: ChunkCoords,
    counts: IntArray | None,
    below: list[list[ChunkRecord]],
    begun: Begun,
) -> int:
    """Largest hash of a vertex that is kept.

    Parameters
    ----------
    coords, counts
        Chunks of the finer level and their rows, where these are known beforehand.
    below
        Records of the tasks that made the finer level, where it is made in the same graph.
    begun
        The build that has begun.
    """
    if below:
        records = sorted((r for group in below for r in group if r.rows), key=lambda record: record.chunk)
        coords = np.asarray([record.chunk for record in records], np.int64)
        counts = np.asarray([record.rows for record in records], np.int64)
    elif counts is None:
        counts = _read_counts(step, coords)
    total = int(counts.sum())
    keep = min(total, max(1, round(total * thinning.keep)))
    shift = np.uint64(64 - BITS)
    table = np.zeros(2**BITS, np.int64)
    for some in _some(counts):
        table += np.bincount(
            hash_rows(thinning.seed, step.level, coords[some], counts[some]) >> shift, minlength=2**BITS
        )
    below_bucket = np.cumsum(table) - table
    bucket = np.uint64(np.searchsorted(below_bucket, keep) - 1)
    near = [np.zeros(0, np.uint64)]
    for some in _some(counts):
        hashes = hash_rows(thinning.seed, step.level, coords[some], counts[some])
        near.append(hashes[hashes >> shift == bucket])
    found = np.sort(np.concatenate(near))
    return int(found[keep - int(below_bucket[int(bucket)]) - 1]) if len(found) else 0


def _some(counts: IntArray) -> Iterator[slice]:
    """Runs of chunks that have about `ROWS` rows, at least one chunk each."""
    turns = np.flatnonzero(np.diff(np.cumsum(counts) // ROWS, prepend=0))
    for first, last in pairwise(np.unique([0, *turns, len(counts)]).tolist()):
        yield slice(first, last)


def _read_counts(step: Step, coords: ChunkCoords) -> IntArray:
    found = []
    for start in range(0, len(coords), BATCH):
        part = coords[start : start + BATCH]
        raws = read_batch(step.source, [Wanted("", step.vertices, tuple(range(len(part))), part, head=True)])
        found += [
            read_row_count(step.source, step.vertices, coord, raws["", i]) for i, coord in enumerate(part.tolist())
        ]
    return np.asarray(found, np.int64)
