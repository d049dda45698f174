"""Links between the pieces of paths that go on in another chunk."""

from collections.abc import Sequence

import numpy as np

from zarr_vectors_lazy.access.pyramid.cells import Outbox, read_records, record_key
from zarr_vectors_lazy.access.pyramid.make import link_payloads
from zarr_vectors_lazy.access.pyramid.owners import Owners, read_owners
from zarr_vectors_lazy.access.pyramid.pieces import FIRST, LAST, OWNER, START, STOP, read_pieces
from zarr_vectors_lazy.access.pyramid.step import Part, Step
from zarr_vectors_lazy.access.pyramid.tasks import LINKS, Begun, put_links
from zarr_vectors_lazy.model.chunks import distinct_chunks
from zarr_vectors_lazy.model.pyramid import ChunkRecord, following
from zarr_vectors_lazy.storage.connect import connect
from zarr_vectors_lazy.types import ChunkCoords, IntArray


def bridge_part(step: Step, part: Part, begun: Begun, records: Sequence[Sequence[ChunkRecord]]) -> list[ChunkRecord]:
    """Task: link the pieces of some coarse chunks to those in later parts that precede and follow them.

    A link is stored with the lower of its two chunks, and parts are cut from the chunks in ascending order; the task
    that made a part has linked what lies in it.
    """
    backend, journal = connect(step.source.spec), record_key(step.level, LINKS, part.key(0))
    found = read_records(backend, journal) if begun.resumed else {}
    alive = {record.chunk for group in records for record in group if record.rows}
    keys = [key for i in range(len(part)) if (key := part.key(i)) in alive]
    if not keys or all(key in found for key in keys):
        return list(found.values())
    tables = read_pieces(backend, step.level, keys)
    later = [
        key for key in _later(step, read_owners(step, begun.build), keys[-1], np.concatenate(tables)) if key in alive
    ]
    tables += read_pieces(backend, step.level, later)
    coords = np.asarray([*keys, *later], np.int64)
    sizes = [int(table[:, STOP].max(initial=0)) for table in tables]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    table = np.concatenate(tables)
    chunk = np.repeat(np.arange(len(tables)), [len(found) for found in tables])
    one, other = following(table[:, OWNER], table[:, FIRST], table[:, LAST])
    across = (chunk[one] < len(keys)) != (chunk[other] < len(keys))
    one, other = one[across], other[across]
    ends = np.stack([starts[chunk[one]] + table[one, STOP] - 1, starts[chunk[other]] + table[other, START]], axis=1)
    stored = [i if i < len(keys) else -1 for i in range(len(coords))]
    payloads = link_payloads(step, coords, starts, ends, stored, len(keys))
    return put_links(step, Outbox(backend, journal, found), dict(zip(keys, payloads, strict=True)), found)


def _later(step: Step, owners: Owners, last: Sequence[int], mine: IntArray) -> list[tuple[int, ...]]:
    """Chunks after a part's ``last`` in which its paths go on, or come from, ascending."""
    entries = []
    for column, towards in ((LAST, 1), (FIRST, -1)):
        place = mine[:, column] + towards
        inside = (place >= 0) & (place < owners.lengths[mine[:, OWNER]])
        entries.append(owners.offsets[mine[inside, OWNER]] + place[inside])
    used = np.zeros(len(owners.table), np.bool_)
    used[owners.chunk_of[np.concatenate(entries)]] = True
    return after(step.parent(owners.table.coords[used]), last)


def after(chunks: ChunkCoords, last: Sequence[int]) -> list[tuple[int, ...]]:
    """Different ones of some chunks that come after ``last``, ascending."""
    found = map(tuple, distinct_chunks(chunks)[0].coords.tolist())
    return [key for key in found if key > tuple(last)]
