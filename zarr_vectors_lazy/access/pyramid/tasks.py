"""The task that makes the cells of some coarse chunks."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from zarr_vectors_lazy.access.pyramid.cells import Outbox, encode, read_records, record_key
from zarr_vectors_lazy.access.pyramid.ends import Ends, read_ends, with_implied
from zarr_vectors_lazy.access.pyramid.join import (
    Joined,
    join_clusters,
    join_paths,
    join_points,
    join_sets,
    owners_of_rows,
    rows_alone,
)
from zarr_vectors_lazy.access.pyramid.make import chunk_payloads, owner_payloads
from zarr_vectors_lazy.access.pyramid.maps import map_puts
from zarr_vectors_lazy.access.pyramid.owners import owned_by, read_owners
from zarr_vectors_lazy.access.pyramid.pieces import pieces_put
from zarr_vectors_lazy.access.pyramid.read import FineRows, decode_rows, fetch_part
from zarr_vectors_lazy.access.pyramid.step import Part, Step
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.kernels.hashing import hash_rows
from zarr_vectors_lazy.model.chunks import ChunkTable
from zarr_vectors_lazy.model.pyramid import ChunkKey, ChunkRecord
from zarr_vectors_lazy.storage.connect import connect
from zarr_vectors_lazy.types import BoolArray, IntArray

CELLS, LINKS = "cells", "links"
"""Stages of which the journal keeps records."""


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
    links: Sequence[Sequence[ChunkRecord]] = (),
    after: object = None,
) -> list[ChunkRecord]:
    """Make some coarse chunks: fetch all that they need at once, put their cells, leave a record of each.

    Parameters
    ----------
    threshold
        Largest hash of a vertex that is kept, where vertices are dropped one by one.
    below, links
        Records of the tasks that made the finer chunks and their links, where these are made in the same graph.
    after
        What must have been done before, beside these.
    """
    backend = connect(step.source.spec)
    keys = [part.key(i) for i in range(len(part))]
    journal = record_key(step.level, CELLS, keys[0])
    found = read_records(backend, journal) if begun.resumed else {}
    work = alive_part(part.take([i for i, key in enumerate(keys) if key not in found]), below)
    raws = fetch_part(step, work) if len(work.fine) else {}
    ends = read_ends(step, work, links) if step.linked else None
    outbox = Outbox(backend, journal, found)
    made = dict(found)
    for i in range(len(work)):
        key = work.key(i)
        fine = decode_rows(step, work, i, raws) if work.below(i) else None
        made[key] = _coarsen(step, key, fine, begun, threshold, ends, outbox)
    outbox.flush()
    return [made[key] for key in keys]


def alive_part(part: Part, below: Sequence[Sequence[ChunkRecord]]) -> Part:
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
    step: Step,
    key: ChunkKey,
    fine: FineRows | None,
    begun: Begun,
    threshold: int | None,
    ends: Ends | None,
    outbox: Outbox,
) -> ChunkRecord:
    joined = None if fine is None else join(step, key, fine, begun, threshold, ends)
    puts, cells = [], []
    if step.linked and fine is not None and joined is not None:
        became = np.full(len(fine), -1, np.int64)
        became[joined.rows()] = joined.groups.labels
        puts += map_puts(step, fine.chunks, fine.starts, became)
    if fine is None or joined is None or not joined.groups.count:
        record = ChunkRecord(key, 0)
        outbox.add(puts, record)
        return record
    for payload in (*owner_payloads(step, key, joined), *chunk_payloads(step, key, fine, joined)):
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


def join(step: Step, key: ChunkKey, fine: FineRows, begun: Begun, threshold: int | None, ends: Ends | None) -> Joined:
    """Which rows become one, by the kind of geometry."""
    grid = step.bin_grid(key)
    owned = owned_by(step, fine.chunks, begun.build)
    if step.kind == "points" or (owned is None and step.kind in ("sets", "faces")):
        keep = None if threshold is None else _kept_rows(step, fine, threshold)
        return join_points(fine, grid, keep)
    if step.linked:  # what a row became must be one vertex
        owners = np.zeros(len(fine), np.int64) if owned is None else owners_of_rows(fine, *owned)
    if ends is not None and step.kind != "faces":
        return join_clusters(fine, grid, owners, *_inner_edges(step, fine, ends))
    assert owned is not None
    if step.kind != "paths":
        return join_sets(fine, grid, owned[1], rows_alone(fine, owned[0]))
    assert step.index is not None
    everything, objects = read_owners(step, begun.build), owned[1].objects
    least = np.where(everything.visits[objects] < step.least, step.least, 1)
    return join_paths(fine, grid, owned[1], least, everything.lengths[objects])


def _inner_edges(step: Step, fine: FineRows, ends: Ends) -> tuple[IntArray, BoolArray | None]:
    """Edges between rows of a coarse chunk's finer chunks, and, of trees, which rows have no parent."""
    chunks = np.asarray(fine.chunks, np.int64)
    sizes = np.diff(fine.starts).tolist()
    if step.kind == "tree":
        ends = with_implied(chunks, ends, fine.fragments, sizes)
    at = ChunkTable(chunks).find(ends.chunks.reshape(-1, step.rank)).reshape(ends.rows.shape)
    rows = np.where(at >= 0, fine.starts[at] + ends.rows, -1)
    if (rows >= np.where(at >= 0, fine.starts[at + 1], 0)).any():
        raise FormatError(f"a link of level {step.source.level} names a row that its chunk does not have")
    roots = None
    if step.kind == "tree":
        roots = np.ones(len(fine), np.bool_)
        roots[rows[rows[:, 0] >= 0, 0]] = False
    return rows[(rows >= 0).all(axis=1)], roots


def _kept_rows(step: Step, fine: FineRows, threshold: int) -> BoolArray:
    assert step.thinning is not None
    hashes = hash_rows(step.thinning.seed, step.level, np.asarray(fine.chunks), np.diff(fine.starts))
    return np.asarray(hashes <= np.uint64(threshold))


def gathered(parts: Iterable[list[ChunkRecord]]) -> list[ChunkRecord]:
    """Task: records of several tasks in one list."""
    return [record for part in parts for record in part]
