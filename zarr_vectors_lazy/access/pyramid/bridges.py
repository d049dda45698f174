"""Links between the pieces of paths that go on in another chunk."""

from collections.abc import Sequence

import numpy as np

from zarr_vectors_lazy.access.pyramid.cells import Outbox, Payload, encode, read_records, record_key
from zarr_vectors_lazy.access.pyramid.owners import Owners, read_owners
from zarr_vectors_lazy.access.pyramid.pieces import FIRST, LAST, OWNER, START, STOP, read_pieces
from zarr_vectors_lazy.access.pyramid.step import Part, Step
from zarr_vectors_lazy.access.pyramid.tasks import LINKS, Begun
from zarr_vectors_lazy.format.writing import CURRENT, place_links
from zarr_vectors_lazy.model.pyramid import ChunkKey, ChunkRecord
from zarr_vectors_lazy.storage.connect import connect
from zarr_vectors_lazy.types import IntArray


def bridge_part(
    step: Step, part: Part, begun: Begun, records: Sequence[Sequence[ChunkRecord]], *_: object
) -> list[ChunkRecord]:
    """Task: link the pieces of some coarse chunks to those that precede and follow them.

    A link is stored with the lower of its two chunks, and is written by the task of that chunk alone.
    """
    assert step.index is not None
    backend = connect(step.source.spec)
    owners = read_owners(step, begun.build)
    alive = {record.chunk for group in records for record in group if record.rows}
    keys = [part.key(i) for i in range(len(part)) if part.key(i) in alive]
    journal = record_key(step.level, LINKS, part.key(0))
    found = read_records(backend, journal) if begun.resumed else {}
    outbox = Outbox(backend, journal, found)
    todo = [key for key in keys if key not in found]
    tables = dict(zip(todo, read_pieces(backend, step.level, todo), strict=True))
    later = {key: _later(step, owners, key, tables[key]) & alive for key in todo}
    others = sorted(set().union(*later.values()) - set(todo))
    tables |= dict(zip(others, read_pieces(backend, step.level, others), strict=True))
    made = dict(found)
    for key in todo:
        made[key] = _bridge(step, key, sorted(later[key]), tables, outbox)
    outbox.flush()
    return [made[key] for key in keys]


def _later(step: Step, owners: Owners, key: ChunkKey, mine: IntArray) -> set[ChunkKey]:
    """Chunks above this one in which its paths go on, or come from."""
    coarse = step.parent(owners.table.coords)
    found: set[ChunkKey] = set()
    for column, towards in ((LAST, 1), (FIRST, -1)):
        place = mine[:, column] + towards
        inside = (place >= 0) & (place < owners.lengths[mine[:, OWNER]])
        entries = owners.offsets[mine[inside, OWNER]] + place[inside]
        chunks = np.unique(owners.chunk_of[entries])
        found |= {chunk for chunk in map(tuple, coarse[chunks].tolist()) if chunk > key}
    return found


def _bridge(
    step: Step, key: ChunkKey, later: list[ChunkKey], tables: dict[ChunkKey, IntArray], outbox: Outbox
) -> ChunkRecord:
    ends = [_meeting(tables[key], tables[chunk], number + 1) for number, chunk in enumerate(later)]
    joined = np.concatenate([np.empty((0, 6), np.int64), *ends])
    joined = joined[np.lexsort((joined[:, 1], joined[:, 0]))]
    puts, cells = [], []
    coords = np.asarray([key, *later], np.int64)
    placed = place_links(joined[:, 2:4], joined[:, 4:6], coords)
    for cell, segment in enumerate(placed.segments):
        assert placed.sources[cell] == 0
        count = int(placed.bounds[cell + 1] - placed.bounds[cell])
        payload = Payload(step.level, CURRENT.link_path(0, segment), key, count, placed.payload(cell))
        put, record = encode(payload, step.grid, step.encoding)
        puts.append(put)
        cells.append(record)
    made = ChunkRecord(key, len(joined), tuple(cells))
    outbox.add(puts, made)
    return made


def _meeting(mine: IntArray, other: IntArray, number: int) -> IntArray:
    """Links of this chunk's pieces and those of chunk ``number``: object, place, both chunks, both rows; path order."""
    onward = _pairs(mine[:, [OWNER, LAST]], other[:, [OWNER, FIRST]])
    back = _pairs(other[:, [OWNER, LAST]], mine[:, [OWNER, FIRST]])
    parts = []
    for (left, right), (a, b), (one, two) in ((onward, (mine, other), (0, number)), (back, (other, mine), (number, 0))):
        n = np.ones(len(left), np.int64)
        rows = (a[left, OWNER], a[left, LAST], one * n, two * n, a[left, STOP] - 1, b[right, START])
        parts.append(np.stack(rows, axis=1))
    return np.concatenate(parts)


def _pairs(ends: IntArray, begins: IntArray) -> tuple[IntArray, IntArray]:
    """Rows of (object, last) and of (object, first) of which the second follows the first."""
    span = max(int(ends[:, 1].max(initial=0)), int(begins[:, 1].max(initial=0))) + 2
    wanted, there = ends[:, 0] * span + ends[:, 1] + 1, begins[:, 0] * span + begins[:, 1]
    order = np.argsort(there, kind="stable")
    at = np.searchsorted(there[order], wanted)
    at[at == len(there)] = 0
    if not len(there):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    hit = there[order][at] == wanted
    return np.flatnonzero(hit), order[at[hit]]
