"""The task that makes the cells of some coarse chunks."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from zarr_vectors_lazy.access.pyramid.cells import Outbox, Payload, encode, read_records, record_key
from zarr_vectors_lazy.access.pyramid.ends import EndCells, LinkIndex, rows_of_ends, tree_edges
from zarr_vectors_lazy.access.pyramid.join import (
    Binned,
    Joined,
    join_clusters,
    join_paths,
    join_points,
    join_sets,
    owners_of_rows,
    rows_alone,
)
from zarr_vectors_lazy.access.pyramid.make import chunk_payloads, link_payloads
from zarr_vectors_lazy.access.pyramid.maps import map_puts
from zarr_vectors_lazy.access.pyramid.owners import owned_by, read_owners
from zarr_vectors_lazy.access.pyramid.pieces import pieces_put
from zarr_vectors_lazy.access.pyramid.read import FineRows, decode_rows, fetch_part
from zarr_vectors_lazy.access.pyramid.step import Part, Step
from zarr_vectors_lazy.kernels.bins import bins_of
from zarr_vectors_lazy.kernels.clusters import whole
from zarr_vectors_lazy.kernels.hashing import hash_rows
from zarr_vectors_lazy.model.chunks import ChunkTable
from zarr_vectors_lazy.model.pyramid import ChunkKey, ChunkRecord
from zarr_vectors_lazy.requests import Put
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
    links: LinkIndex | None = None,
    after: object = None,
) -> list[ChunkRecord]:
    """Make some coarse chunks: fetch all that they need at once, put their cells, leave a record of each.

    Parameters
    ----------
    threshold
        Largest hash of a vertex that is kept, where vertices are dropped one by one.
    below, links
        Records of the tasks that made the finer chunks, and their links, where these are made in the same graph.
    after
        What must have been done before, beside these.
    """
    backend = connect(step.source.spec)
    keys = [part.key(i) for i in range(len(part))]
    journal = record_key(step.level, CELLS, keys[0])
    found = read_records(backend, journal) if begun.resumed else {}
    if (step.linked or step.kind == "paths") and not all(key in found for key in keys):
        found = {}  # links between them need all of them
    work = alive_part(part.take([i for i, key in enumerate(keys) if key not in found]), below)
    outbox = Outbox(backend, journal, found)
    made = dict(found)
    if len(work):
        for record, puts in _coarsen(step, work, begun, threshold, links):
            made[record.chunk] = record
            outbox.add(puts, record)
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
    step: Step, part: Part, begun: Begun, threshold: int | None, links: LinkIndex | None
) -> Iterator[tuple[ChunkRecord, list[Put]]]:
    """Records and puts of the chunks of a part."""
    if not len(part.fine):
        yield from ((ChunkRecord(part.key(i), 0), []) for i in range(len(part)))
        return
    fine = decode_rows(step, part, fetch_part(step, part))
    puts: list[list[Put]] = [[] for _ in range(len(part))]
    rows = None
    if step.linked:
        cells = EndCells.of(step, part, links)
        inside, across = cells.parted(ChunkTable(part.fine))
        rows = rows_of_ends(step, fine, (cells if step.kind == "tree" else inside).read(step))
    roots = None
    if step.kind == "tree":
        assert rows is not None
        rows, roots = tree_edges(fine, rows)
    joined = join(step, part, fine, begun, threshold, rows, roots)
    inner: list[list[Payload]] = [[] for _ in range(len(part))]
    if step.kind == "paths" and len(part) > 1:
        inner = link_payloads(step, part.chunks, joined.rows, joined.pieces.bridges(), range(len(part)), len(part))
    if rows is not None:
        inner = _inner_links(step, part, fine, joined, rows)
        for i, put in map_puts(step, fine, joined, across.named()):
            puts[i].append(put)
    for i, payloads in enumerate(chunk_payloads(step, part.chunks, fine, joined, inner)):
        key, made = part.key(i), [encode(p, step.grid_of(p.level), step.encoding) for p in payloads]
        puts[i] += [put for put, _ in made]
        shards: tuple[int, ...] = ()
        if payloads and joined.pieces.owners is not None and step.index is not None:
            table, shards = pieces_put(step.level, key, joined.chunk_pieces(i), step.index.count)
            puts[i].append(table)
        count = int(joined.rows[i + 1] - joined.rows[i])
        yield ChunkRecord(key, count, tuple(record for _, record in made), shards), puts[i]


def join(
    step: Step,
    part: Part,
    fine: FineRows,
    begun: Begun,
    threshold: int | None,
    edges: IntArray | None,
    roots: BoolArray | None,
) -> Joined:
    """Which rows become one, by the kind of geometry."""
    grid = step.bin_grid(part.chunks)
    binned = Binned(fine, bins_of(fine.positions, fine.coarse_of_rows, grid), grid.cells)
    owned = owned_by(step, fine.chunks, fine.coarse, begun.build)
    if step.kind == "points" or (owned is None and step.kind in ("sets", "faces")):
        return join_points(binned, None if threshold is None else _kept_rows(step, fine, threshold))
    if step.linked:  # what a row became must be one vertex
        owners = np.zeros(len(fine), np.int64) if owned is None else owners_of_rows(fine, *owned)
    if step.kind in ("graph", "tree"):
        assert edges is not None
        return join_clusters(binned, owners, edges, roots)
    assert owned is not None
    if step.kind != "paths":
        return join_sets(binned, owned[1], rows_alone(fine, owned[0]))
    everything, objects = read_owners(step, begun.build), owned[1].objects
    least = np.where(everything.visits[objects] < step.least, step.least, 1)
    return join_paths(binned, owned[1], least, everything.lengths[objects])


def _inner_links(step: Step, part: Part, fine: FineRows, joined: Joined, rows: IntArray) -> list[list[Payload]]:
    """Payloads of each coarse chunk of the links inside a part, whose ends are (M, L) finer rows."""
    became = np.full(len(fine), -1, np.int64)
    members, labels = joined.became
    became[members] = labels
    ends = whole(became[whole(rows)])
    return link_payloads(step, part.chunks, joined.rows, ends, range(len(part)), len(part))


def put_links(
    step: Step,
    outbox: Outbox,
    payloads: Mapping[ChunkKey, Sequence[Payload]],
    found: Mapping[ChunkKey, ChunkRecord],
) -> list[ChunkRecord]:
    """Put the links that some coarse chunks store, but for those ``found`` to be there; return a record of each."""
    made = dict(found)
    for key, of_chunk in payloads.items():
        if key not in found:
            encoded = [encode(payload, step.grid, step.encoding) for payload in of_chunk]
            made[key] = ChunkRecord(key, len(encoded), tuple(record for _, record in encoded))
            outbox.add([put for put, _ in encoded], made[key])
    outbox.flush()
    return list(made.values())


def _kept_rows(step: Step, fine: FineRows, threshold: int) -> BoolArray:
    assert step.thinning is not None
    hashes = hash_rows(step.thinning.seed, step.level, fine.chunks, np.diff(fine.starts))
    return np.asarray(hashes <= np.uint64(threshold))


def gathered(parts: Iterable[list[ChunkRecord]]) -> list[ChunkRecord]:
    """Task: records of several tasks in one list."""
    return [record for part in parts for record in part]
