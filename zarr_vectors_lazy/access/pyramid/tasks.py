"""The task that makes the cells of some coarse chunks."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from zarr_vectors_lazy.access.pyramid.cells import Outbox, encode, read_records
from zarr_vectors_lazy.access.pyramid.join import Joined, join_paths, join_points, join_sets
from zarr_vectors_lazy.access.pyramid.make import chunk_payloads
from zarr_vectors_lazy.access.pyramid.owners import owned_by, read_owners
from zarr_vectors_lazy.access.pyramid.pieces import pieces_put
from zarr_vectors_lazy.access.pyramid.read import FineRows, decode_rows, fetch_part
from zarr_vectors_lazy.access.pyramid.step import Part, Step
from zarr_vectors_lazy.kernels.hashing import hash_rows
from zarr_vectors_lazy.model.pyramid import ChunkKey, ChunkRecord
from zarr_vectors_lazy.storage.connect import connect
from zarr_vectors_lazy.types import BoolArray

CELLS = "cells"


@dataclass(frozen=True, slots=True)
class Begun:
    """A build that may write.

    Parameters
    ----------
    build
        Names it, for what processes keep while it runs.
    resumed
        Whether an earlier run may have finished chunks.
    """

    build: str
    resumed: bool


def coarsen_part(
    step: Step,
    part: Part,
    begun: Begun,
    threshold: int | None,
    below: Sequence[Sequence[ChunkRecord]],
    after: object = None,
) -> list[ChunkRecord]:
    """Make some coarse chunks: fetch all that they need at once, put their cells, leave a record of each.

    Parameters
    ----------
    threshold
        Largest hash of a vertex that is kept, where vertices are dropped one by one.
    below
        Records of the tasks that made the finer chunks, where these are made in the same graph.
    after
        What must have been done before, beside these.
    """
    backend = connect(step.source.spec)
    keys = [part.key(i) for i in range(len(part))]
    found = read_records(backend, step.level, CELLS, keys) if begun.resumed else [None] * len(keys)
    work = _alive(part.take([i for i, record in enumerate(found) if record is None]), below)
    raws = fetch_part(step, work) if len(work.fine) else {}
    outbox = Outbox(backend, step.level, CELLS)
    made: dict[ChunkKey, ChunkRecord] = {}
    for i in range(len(work)):
        key = work.key(i)
        fine = decode_rows(step, work, i, raws) if work.below(i) else None
        made[key] = _coarsen(step, key, fine, begun, threshold, outbox)
    outbox.flush()
    return [record or made[key] for key, record in zip(keys, found, strict=True)]


def _alive(part: Part, below: Sequence[Sequence[ChunkRecord]]) -> Part:
    """Leave out finer chunks that turned out to be empty."""
    if not below:
        return part
    rows = {record.chunk: record.rows for group in below for record in group}
    alive = np.asarray([rows[tuple(key)] > 0 for key in part.fine.tolist()], np.bool_)
    if alive.all():
        return part
    kept = np.concatenate([[0], np.cumsum(alive)])
    return Part(
        chunks=part.chunks,
        fine=part.fine[alive],
        bounds=kept[part.bounds].astype(np.int64),
        missing={name: mask[alive] for name, mask in part.missing.items()},
        cells=part.cells,
    )


def _coarsen(
    step: Step, key: ChunkKey, fine: FineRows | None, begun: Begun, threshold: int | None, outbox: Outbox
) -> ChunkRecord:
    joined = None if fine is None else join(step, key, fine, begun, threshold)
    if fine is None or joined is None or not joined.groups.count:
        record = ChunkRecord(key, 0)
        outbox.add([], record)
        return record
    puts, cells = [], []
    for payload in chunk_payloads(step, key, fine, joined):
        put, cell = encode(payload, step.grid if payload.level == step.level else step.fine_grid, step.encoding)
        puts.append(put)
        cells.append(cell)
    shards: tuple[int, ...] = ()
    if joined.pieces.owners is not None and step.index is not None:
        table, shards = pieces_put(step.level, key, joined.pieces, step.index.count)
        puts.append(table)
    record = ChunkRecord(key, joined.groups.count, tuple(cells), shards)
    outbox.add(puts, record)
    return record


def join(step: Step, key: ChunkKey, fine: FineRows, begun: Begun, threshold: int | None) -> Joined:
    """Which rows become one, by the kind of geometry."""
    grid = step.bin_grid(key)
    owned = owned_by(step, fine.chunks, begun.build)
    if step.kind == "points" or owned is None:
        keep = None if threshold is None else _kept_rows(step, fine, threshold)
        return join_points(fine, grid, keep)
    if step.kind == "paths":
        assert step.index is not None
        owners = read_owners(step.source, step.index, begun.build)
        visits = owners.visits(step.scale)
        least = np.where(visits[owned.objects] < step.least, step.least, 1)
        return join_paths(fine, grid, owned, least, owners.lengths[owned.objects])
    return join_sets(fine, grid, owned)


def _kept_rows(step: Step, fine: FineRows, threshold: int) -> BoolArray:
    assert step.thinning is not None
    sizes = np.diff(fine.starts).tolist()
    hashes = [hash_rows(step.thinning.seed, step.level, key, n) for key, n in zip(fine.chunks, sizes, strict=True)]
    return np.concatenate(hashes) <= np.uint64(threshold)


def gathered(parts: Iterable[list[ChunkRecord]]) -> list[ChunkRecord]:
    """Task: records of several tasks in one list."""
    return [record for part in parts for record in part]
