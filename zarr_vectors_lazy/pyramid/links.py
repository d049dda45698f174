"""Links of a coarse level: within a part, between parts, and across levels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.base import format_deltas
from zarr_vectors_lazy.format.registry import CURRENT, encode_rows
from zarr_vectors_lazy.kernels.bins import every
from zarr_vectors_lazy.model.arrays import LinkCoding
from zarr_vectors_lazy.model.levels import ChunkTable, distinct_chunks, dotted
from zarr_vectors_lazy.model.objects import ragged_arange
from zarr_vectors_lazy.model.writing import ArrayDraft, ChunkKey, ChunkRecord, Grid, following
from zarr_vectors_lazy.pyramid.coarsen import LINKS, Begun, alive_part, link_payloads, put_links
from zarr_vectors_lazy.pyramid.finer import (
    Ends,
    LinkIndex,
    Owners,
    incident,
    last_of_each_child,
    misplaced,
    read_ends,
    read_owners,
)
from zarr_vectors_lazy.pyramid.merge import CHUNK, FIRST, LAST, OWNER, START, STOP, made_parts, read_maps, read_pieces
from zarr_vectors_lazy.pyramid.step import LevelBuild, Part, Payload, read_records, record_key
from zarr_vectors_lazy.read.cells import Requested, read_batch, read_links
from zarr_vectors_lazy.read.level import Source
from zarr_vectors_lazy.storage.fetch import connect
from zarr_vectors_lazy.types import BoolArray, ChunkCoords, IntArray

# Links across more than one level: what the levels between lead to.

CODING = LinkCoding(width=2, dtype=np.dtype("<i8"), grouped=True, permuted=False)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FarStep:
    """Links from a level to one that is made from one that is made from it, and so on.

    Parameters
    ----------
    step
        The last step, which makes the coarsest level.
    level, grid
        The finest level, and the grid of its links.
    scale, last
        (D,) finest chunks, and chunks of the level before the coarsest, of a coarse chunk along each axis.
    """

    step: LevelBuild
    level: int
    grid: Grid
    scale: IntArray
    last: IntArray

    @property
    def delta(self) -> int:
        """Levels that the links reach across."""
        return self.step.level - self.level

    @property
    def stage(self) -> str:
        """Under which the journal keeps records."""
        return f"far{self.delta}"


def far_part(
    far: FarStep,
    keys: Sequence[ChunkKey],
    finest: ChunkCoords,
    begun: Begun,
    upper: Sequence[Sequence[ChunkRecord]],
    lower: Sequence[Sequence[ChunkRecord]],
) -> list[ChunkRecord]:
    """Task: write the links of some coarse chunks to a level far below, and back.

    Parameters
    ----------
    keys
        The coarse chunks.
    finest
        (f, K) the chunks of the finest level below them, in lexicographic order.
    upper, lower
        Records of the tasks that wrote the links from the level before the coarsest, and to it.
    """
    step, backend = far.step, connect(far.step.source.spec)
    journal = record_key(step.level, far.stage, keys[0])
    if begun.resumed and (found := read_records(backend, journal, keys)):
        return found
    onward = _read(far, step.source.level, 1, step.fine_grid, upper)
    first = _read(far, far.level, far.delta - 1, far.grid, lower)
    coarse, middle = _divided(finest, far.scale), _divided(finest, far.scale // far.last)
    payloads: list[list[Payload]] = []
    for key in keys:
        mine, of_chunk = (coarse == np.asarray(key)).all(axis=1), []
        for chunk, through in zip(finest[mine].tolist(), middle[mine].tolist(), strict=True):
            pairs = _composed(first.get(tuple(chunk)), onward.get(tuple(through)))
            of_chunk += _payloads(far, key, tuple(chunk), pairs)
        payloads.append(of_chunk)
    return put_links(step, journal, keys, payloads, far.grid)


def _divided(chunks: ChunkCoords, scale: IntArray) -> ChunkCoords:
    lead = chunks.shape[1] - len(scale)
    return np.concatenate([chunks[:, :lead], chunks[:, lead:] // scale], axis=1)


def _path(delta: int, rank: int) -> str:
    return CURRENT.link_path(delta, ".".join("0" * rank))


def _read(
    far: FarStep, level: int, delta: int, grid: Grid, records: Sequence[Sequence[ChunkRecord]]
) -> dict[ChunkKey, IntArray]:
    """Pairs (row, row of the coarser level) of the cells that were written, by chunk."""
    path, source = _path(delta, far.step.rank), Source(far.step.source.spec, level)
    keys = sorted({c.chunk for group in records for r in group for c in r.cells if c.level == level and c.path == path})
    draft = ArrayDraft(path=path, attributes={"dtype": "int64", "row_shape": []})
    spec = CURRENT.cell_spec(level, draft, grid, far.step.encoding)
    coords = np.asarray(keys, np.int64).reshape(-1, far.step.rank)
    raws = read_batch(source, [Requested("", spec, tuple(range(len(keys))), coords)])
    return {key: read_links(source, spec, key, raws["", i], CODING)[:, 1] for i, key in enumerate(keys)}


def _composed(first: IntArray | None, onward: IntArray | None) -> IntArray:
    """Pairs that lead over a row of the level between; (n, 2), by first row."""
    if first is None or onward is None:
        return np.empty((0, 2), np.int64)
    begins = np.searchsorted(onward[:, 0], first[:, 1], side="left")
    counts = np.searchsorted(onward[:, 0], first[:, 1], side="right") - begins
    at = np.repeat(begins, counts) + ragged_arange(counts)
    return np.stack([np.repeat(first[:, 0], counts), onward[at, 1]], axis=1)


def _payloads(far: FarStep, key: ChunkKey, chunk: ChunkKey, pairs: IntArray) -> list[Payload]:
    if not len(pairs):
        return []
    step, head = far.step, np.asarray([[1, 0]], np.int64)
    n, rank = len(pairs), step.rank
    found = [Payload(far.level, _path(far.delta, rank), chunk, n, encode_rows(np.concatenate([head, pairs])))]
    if step.cross == "explicit":
        lead = rank - len(far.scale)
        corner = np.concatenate([np.asarray(key[:lead], np.int64), np.asarray(key[lead:], np.int64) * far.scale])
        (segment,) = format_deltas((np.asarray(chunk) - corner)[None])
        back = encode_rows(np.concatenate([head, pairs[:, ::-1]]))
        found.append(Payload(step.level, CURRENT.link_path(-far.delta, segment), key, n, back))
    return found


# Edges and faces of a coarse level: those of the finer one, between the vertices that its vertices became.
#
# Those inside a part are written by its own task, which has all that they need; those across by a second task, which
# asks the journal what vertices of other parts became. Which chunk stores one depends on its ends alone, so that all
# its copies meet there and become one.


def remap_part(
    step: LevelBuild,
    part: Part,
    cuts: Sequence[int],
    begun: Begun,
    links: LinkIndex | None,
    below: Sequence[Sequence[ChunkRecord]],
    records: Sequence[Sequence[ChunkRecord]],
) -> list[ChunkRecord]:
    """Task: write the edges or faces that some coarse chunks store and that lead out of their part.

    Parameters
    ----------
    part, cuts
        Coarse chunks; ``[cuts[i]]:[cuts[i + 1]]`` of them are a part that one task made.
    links, below
        The links of the finer level, and records of the tasks that wrote its chunks, where these are made in the same
        graph.
    records
        Of the tasks that made the chunks of this level.
    """
    backend = connect(step.source.spec)
    keys, journal = part.keys, record_key(step.level, LINKS, part.key(0))
    if begun.resumed and (found := read_records(backend, journal, keys)):
        return found
    work = alive_part(part, below)
    segments, cells = incident(step, work, links)
    across = cells.parted(work.number(cells.chunks, cuts))[1]
    if not step.directed:  # stored with the lowest of their chunks, and parts are cut from these in ascending order
        across = across.without(_before(step.parent(across.chunks), part.chunks[:1]))
    if not len(across.chunks):
        return []
    ends = read_ends(across, step, segments)
    if step.kind == "tree":
        ends = last_of_each_child(ends)
    coords, starts, became = _coarse_ends(step, ends, made_parts(records))
    owners = ChunkTable(part.chunks).find(coords).tolist()
    payloads = link_payloads(step, coords, starts, became, owners, len(part))
    return put_links(step, journal, keys, payloads)


def _before(chunks: ChunkCoords, first: ChunkCoords) -> BoolArray:
    """(n,) which chunks come before one."""
    number = distinct_chunks(np.concatenate([first, chunks]))[1]
    return np.asarray(number[1:] < number[0])


def _coarse_ends(
    step: LevelBuild, ends: Ends, parts: Sequence[Sequence[ChunkRecord]]
) -> tuple[ChunkCoords, IntArray, IntArray]:
    """Coarse chunks, the numbers of their rows, and (M, L) rows that ends became; what was dropped is left out."""
    backend, known = connect(step.source.spec), [record for part in parts for record in part]
    coarse = ChunkTable(np.asarray([record.chunk for record in known], np.int64))
    number = coarse.find(step.parent(ends.chunks))
    used = np.unique(np.repeat(np.arange(len(parts)), [len(part) for part in parts])[number[number >= 0]])
    chunks, counts, became = read_maps(backend, step, [parts[i][0].chunk for i in used.tolist()])
    table = ChunkTable(chunks)
    at = table.find(ends.chunks)
    if (at < 0).any():
        missing = dotted(ends.chunks[np.argmin(at)])
        raise FormatError(
            f"a link of level {step.source.level} leads to chunk {missing!r}, which the level does not list",
            where=backend.url,
        )
    slot = table.order[at]
    wrong = (ends.rows < 0) | (ends.rows >= counts[slot][ends.at])
    if wrong.any():
        raise misplaced(step, int(ends.rows[wrong][0]))
    row = became[(np.cumsum(counts) - counts)[slot][ends.at] + ends.rows]
    starts = np.concatenate([[0], np.cumsum([record.rows for record in known])])
    kept = every(row >= 0)
    return coarse.coords, starts, starts[number[ends.at[kept]]] + row[kept]


# Links between the pieces of paths that go on in another chunk.


def bridge_part(
    step: LevelBuild, part: Part, cuts: Sequence[int], begun: Begun, records: Sequence[Sequence[ChunkRecord]]
) -> list[ChunkRecord]:
    """Task: link the pieces of some coarse chunks to those in later parts that precede and follow them.

    A link is stored with the lower of its two chunks, and parts are cut from the chunks in ascending order; the task
    that made a part, ``[cuts[i]]:[cuts[i + 1]]`` of the chunks, has linked what lies in it.
    """
    backend, keys, journal = connect(step.source.spec), part.keys, record_key(step.level, LINKS, part.key(0))
    if begun.resumed and (found := read_records(backend, journal, keys)):
        return found
    parts = made_parts(records)
    of_chunk = {record.chunk: i for i, made in enumerate(parts) for record in made}
    mine = [parts[i] for i in sorted({of_chunk[key] for key in keys})]
    table = read_pieces(backend, step.level, mine)
    later = _later(step, read_owners(step, begun.build), keys[-1], table)
    beyond = [parts[i] for i in sorted({of_chunk[key] for key in later})]
    others = read_pieces(backend, step.level, beyond)
    others[CHUNK] += len(keys)
    table = np.concatenate([table, others], axis=1)
    known = [record for made in (*mine, *beyond) for record in made]
    of_part = np.repeat(np.arange(len(mine) + 1), [*map(len, mine), len(known) - len(keys)])
    starts = np.concatenate([[0], np.cumsum([record.rows for record in known])])
    one, other = following(table[OWNER], table[FIRST], table[LAST])
    part_of = of_part.take(table[CHUNK])
    across = np.flatnonzero(part_of.take(one) != part_of.take(other))
    one, other, begin = one[across], other[across], starts.take(table[CHUNK])
    ends = np.stack([(begin + table[STOP] - 1).take(one), (begin + table[START]).take(other)], axis=1)
    coords = np.asarray([record.chunk for record in known], np.int64)
    stored = [*range(len(keys)), *(-1 for _ in known[len(keys) :])]
    payloads = link_payloads(step, coords, starts, ends, stored, len(keys))
    return put_links(step, journal, keys, payloads)


def _later(step: LevelBuild, owners: Owners, last: Sequence[int], mine: IntArray) -> list[tuple[int, ...]]:
    """Chunks after a part's ``last`` in which its paths go on, or come from, ascending."""
    first, end = owners.offsets.take(mine[OWNER]), owners.offsets[1:].take(mine[OWNER])
    onward, back = first + mine[LAST] + 1, first + mine[FIRST] - 1
    used = np.zeros(len(owners.table), np.bool_)
    for entries, inside in ((onward, onward < end), (back, back >= first)):
        used[owners.chunk_of.take(entries[inside])] = True
    return after(step.parent(owners.table.coords[used]), last)


def after(chunks: ChunkCoords, last: Sequence[int]) -> list[tuple[int, ...]]:
    """Different ones of some chunks that come after ``last``, ascending."""
    found = map(tuple, distinct_chunks(chunks)[0].coords.tolist())
    return [key for key in found if key > tuple(last)]
