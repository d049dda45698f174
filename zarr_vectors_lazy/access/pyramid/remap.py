"""Edges and faces of a coarse level: those of the finer one, between the vertices that its vertices became."""

from collections.abc import Sequence

import numpy as np

from zarr_vectors_lazy.access.pyramid.cells import Outbox, Payload, encode, read_records, record_key
from zarr_vectors_lazy.access.pyramid.ends import Ends, read_ends, with_implied
from zarr_vectors_lazy.access.pyramid.maps import read_maps
from zarr_vectors_lazy.access.pyramid.read import FRAGMENTS
from zarr_vectors_lazy.access.pyramid.step import Part, Step
from zarr_vectors_lazy.access.pyramid.tasks import LINKS, Begun, alive_part
from zarr_vectors_lazy.access.read import read_batch, read_fragments
from zarr_vectors_lazy.access.wanted import Wanted
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.writing import CURRENT, encode_tiling, place_links
from zarr_vectors_lazy.kernels.clusters import distinct_rows, proper, smallest_first
from zarr_vectors_lazy.model.chunks import ChunkTable
from zarr_vectors_lazy.model.objects import Fragments
from zarr_vectors_lazy.model.pyramid import ChunkKey, ChunkRecord
from zarr_vectors_lazy.storage.connect import connect
from zarr_vectors_lazy.types import ChunkCoords, IntArray

ROW_BITS = 36  # rows of a chunk: cells end at 4 GiB


def remap_part(
    step: Step,
    part: Part,
    begun: Begun,
    records: Sequence[Sequence[ChunkRecord]],
    links: Sequence[Sequence[ChunkRecord]],
    below: Sequence[Sequence[ChunkRecord]],
) -> list[ChunkRecord]:
    """Task: write the edges or faces that some coarse chunks store.

    Which chunk stores one depends on its ends alone, so that all its copies meet there and become one.

    Parameters
    ----------
    records
        Of the tasks that made the chunks of this level.
    links, below
        Of those that wrote the links and the chunks of the finer level, where these are made in the same graph.
    """
    backend = connect(step.source.spec)
    alive = {record.chunk for group in records for record in group if record.rows}
    keys = [key for i in range(len(part)) if (key := part.key(i)) in alive]
    journal = record_key(step.level, LINKS, part.key(0))
    found = read_records(backend, journal) if begun.resumed else {}
    todo = {key for key in keys if key not in found}
    work = alive_part(part.take([i for i in range(len(part)) if part.key(i) in todo]), below)
    outbox = Outbox(backend, journal, found)
    made = found | (_write(step, outbox, work, links, sorted(todo)) if todo else {})
    outbox.flush()
    return [made[key] for key in keys]


def _write(
    step: Step, outbox: Outbox, work: Part, links: Sequence[Sequence[ChunkRecord]], todo: list[ChunkKey]
) -> dict[ChunkKey, ChunkRecord]:
    ends = read_ends(step, work, links)
    maps = read_maps(connect(step.source.spec), step, np.concatenate([work.fine, ends.chunks.reshape(-1, step.rank)]))
    if step.kind == "tree":
        counts = [len(maps[tuple(chunk)]) for chunk in work.fine.tolist()]
        ends = with_implied(work.fine, ends, _fragments(step, work), counts)
    coords, ids = _coarse_ends(step, ends, maps)
    ids = _one_of_each(step, ids)
    first = ids[:, 0] if step.directed else ids.min(axis=1, initial=2**62)
    table = ChunkTable(coords)
    owner = np.full(len(coords), -1, np.int64)
    places = table.find(np.asarray(todo, np.int64))
    owner[places[places >= 0]] = np.flatnonzero(places >= 0)
    ids = ids[owner[first >> ROW_BITS] >= 0]
    placed = place_links(ids >> ROW_BITS, ids & (2**ROW_BITS - 1), coords, directed=step.directed)
    made = {}
    for number, key in enumerate(todo):
        payloads = []
        for cell in np.flatnonzero(owner[placed.sources] == number).tolist():
            count, segment = int(placed.bounds[cell + 1] - placed.bounds[cell]), placed.segments[cell]
            payloads.append(Payload(step.level, CURRENT.link_path(0, segment), key, count, placed.payload(cell)))
            if CURRENT.is_within(0, segment):
                data = encode_tiling(np.asarray([count], np.int64))
                payloads.append(Payload(step.level, CURRENT.link_fragments, key, count, data))
        encoded = [encode(payload, step.grid, step.encoding) for payload in payloads]
        total = sum(p.count for p in payloads if p.path != CURRENT.link_fragments)
        made[key] = ChunkRecord(key, total, tuple(record for _, record in encoded))
        outbox.add([put for put, _ in encoded], made[key])
    return made


def _fragments(step: Step, part: Part) -> list[Fragments]:
    assert step.fragments is not None
    rows = tuple(range(len(part.fine)))
    raws = read_batch(step.source, [Wanted(FRAGMENTS, step.fragments, rows, part.fine)])
    return [
        read_fragments(step.source, step.fragments, coord, raws[FRAGMENTS, i])
        for i, coord in enumerate(part.fine.tolist())
    ]


def _coarse_ends(step: Step, ends: Ends, maps: dict[ChunkKey, IntArray]) -> tuple[ChunkCoords, IntArray]:
    """Coarse chunks, and ends as numbers that ascend with (chunk, row); what collapsed or was dropped is left out."""
    fine = ChunkTable(np.asarray(sorted(maps), np.int64).reshape(-1, step.rank))
    at = fine.find(ends.chunks.reshape(-1, step.rank))
    became = np.concatenate([np.empty(0, np.int64), *(maps[tuple(key)] for key in fine.coords.tolist())])
    sizes = np.asarray([len(maps[tuple(key)]) for key in fine.coords.tolist()], np.int64)
    rows = ends.rows.reshape(-1)
    wrong = (rows < 0) | (rows >= sizes[at])
    if wrong.any():
        raise FormatError(
            f"a link of level {step.source.level} names row {int(rows[wrong][0])} of a chunk that has fewer",
            where=step.source.spec.url,
        )
    row = became[(np.cumsum(sizes) - sizes)[at] + rows]
    coords = np.unique(step.parent(fine.coords), axis=0)
    chunk = ChunkTable(coords).find(step.parent(fine.coords))[at]
    ids = np.where(row >= 0, (chunk << ROW_BITS) | row, -1).reshape(ends.rows.shape)
    return coords, ids[(ids >= 0).all(axis=1) & proper(ids)]


def _one_of_each(step: Step, ids: IntArray) -> IntArray:
    """Records without copies, ascending: edges whatever their direction where it means nothing, faces turned alike."""
    if step.kind == "faces":
        ids = smallest_first(ids)
    key = np.sort(ids, axis=1) if step.kind == "graph" and not step.directed else ids
    ids = ids[distinct_rows(key)]
    return ids[np.lexsort(ids.T[::-1])]
