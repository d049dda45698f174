"""The cells of a level, written as a whole, in parts, or from a stream."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from zarr_vectors_lazy.errors import StoreError
from zarr_vectors_lazy.format.manifests import encode_tiling
from zarr_vectors_lazy.format.registry import CURRENT
from zarr_vectors_lazy.format.v09.documents import with_notes
from zarr_vectors_lazy.format.vectors import MISSING, encode_rows
from zarr_vectors_lazy.kernels import routing
from zarr_vectors_lazy.kernels.routing import Arranged, FragmentTable, Routed, corners, stored, take
from zarr_vectors_lazy.kernels.rows import Records, attribute_field, block_of
from zarr_vectors_lazy.model.objects import Manifests
from zarr_vectors_lazy.model.writing import (
    ArrayDraft,
    Cells,
    Encoding,
    Grid,
    LevelDraft,
    LevelRecord,
    LinkFamilyDraft,
    Notes,
    merge_records,
)
from zarr_vectors_lazy.plan.blocks import cut_units, shards_of, spread_chunks
from zarr_vectors_lazy.progress import progress_bar
from zarr_vectors_lazy.requests import Put
from zarr_vectors_lazy.storage.fetch import connect, fetch
from zarr_vectors_lazy.storage.spec import StoreSpec
from zarr_vectors_lazy.types import BoolArray, Buffer, ChunkCoords, IntArray, Json, Vertices
from zarr_vectors_lazy.write.job import (
    ObjectTable,
    Prepared,
    WriteJob,
    arrange,
    bridges,
    check_cells,
    in_manifest_order,
    prepare,
    route_rows,
)
from zarr_vectors_lazy.write.records import BlockReader, BlockStatistics, flat, merge_statistics, take_rows
from zarr_vectors_lazy.write.scratch import INDEX, Exchange, Scratch, Step, index_runs, run_step
from zarr_vectors_lazy.write.session import WriteSession, begin_write, new_write_id

# The tasks that write the cells of a level, and the step that makes it a level once all are written.

VERTICES = "vertices"


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelWriter:
    """Writes one level: small and picklable, so that tasks carry it.

    Each task calls `write` with the cells of one or more chunks for all arrays, and returns the record; `finish`
    makes the level's metadata from all records. Before that there is no level: the store's root, which makes it a
    store, is put by `write.session`.

    Parameters
    ----------
    spec
        The store.
    level
        Index of the level.
    grid
        Chunk grid of all its arrays.
    encoding
        How cells are stored. With shards, one call of `write` must have all chunks of each shard that it touches.
    session
        The write that the level is part of, once it has begun; it never replaces an object of another write.
    """

    spec: StoreSpec
    level: int
    grid: Grid
    encoding: Encoding
    session: WriteSession | None = None

    def under(self, session: WriteSession) -> Self:
        """Return a copy for tasks of a write that has begun."""
        return replace(self, session=session)

    def _put(self, puts: Sequence[Put]) -> None:
        if self.session is None:
            fetch(connect(self.spec), puts)
        else:
            self.session.put(puts)

    def write(self, coords: ChunkCoords, vertices: Sequence[Vertices], cells: Iterable[Cells] = ()) -> LevelRecord:
        """Encode and put cells, all puts concurrently; return what was written.

        Parameters
        ----------
        coords
            (n, K) chunks, all with rows.
        vertices
            (N, D) positions of each chunk, in the dtype of the draft.
        cells
            Payloads of the other arrays.

        Raises
        ------
        StoreError
            If a put fails, or another write has taken the place.
        SelectionError
            If a cell is 4 GiB or larger.
        """
        positions = Cells(path=VERTICES, coords=coords, payloads=[encode_rows(rows) for rows in vertices])
        puts: list[Put] = []
        written: dict[str, ChunkCoords] = {}
        content: dict[str, int] = {}
        for array in (positions, *cells):
            if not len(array.coords):
                continue
            made, content[array.path] = encode_cells(self.level, array, self.grid, self.encoding)
            written[array.path] = array.coords
            puts += made
        self._put(puts)
        far = np.full(coords.shape[1], np.inf)  # without vertices: links only
        extents = [corners(rows) for rows in vertices] or [(far, -far)]
        return LevelRecord(
            cells=written,
            coords=coords,
            counts=np.fromiter(map(len, vertices), np.int64, len(vertices)),
            lo=np.stack([lo for lo, _ in extents]).min(axis=0),
            hi=np.stack([hi for _, hi in extents]).max(axis=0),
            content=content,
        )

    def finish(
        self, draft: LevelDraft, records: Sequence[LevelRecord], puts: Sequence[Put] = (), notes: Notes | None = None
    ) -> LevelRecord:
        """Put the metadata of the level's arrays and ``puts`` (objects, groups), then the level's own node.

        Parameters
        ----------
        notes
            Further members of these documents, if the store is a copy.

        Returns
        -------
        All records joined.

        Raises
        ------
        StoreError
            If a put fails, or another write has taken the place.
        """
        joined = merge_records(records)
        made = [*puts, *CURRENT.level_puts(draft, joined, self.grid, self.encoding, beside=puts)]
        *arrays, node = made if notes is None else (with_notes(put, notes) for put in made)
        self._put(arrays)
        self._put([node])
        return joined


def encode_cells(level: int, cells: Cells, grid: Grid, encoding: Encoding) -> tuple[list[Put], int]:
    """Puts of the cells of an array, and a number that changes with their content."""
    puts = CURRENT.cell_puts(level, cells, grid, encoding)
    return puts, sum(int(CURRENT.digest(put, checked=encoding.checksum), 16) for put in puts) % 2**64


# A whole store from arrays: chunks encoded and put by a few threads, metadata last.

T = TypeVar("T")
THREADS = min(4, os.cpu_count() or 1)
Summary = Callable[[Prepared, LevelRecord], dict[str, Any]]
BATCH_NBYTES = 4 * 1024**2  # bytes of rows that a thread holds at once: gathered, encoded and compressed
CHUNK_NBYTES = 4 * 1024  # bytes for the cells of a chunk in addition to its rows: coordinates, views, requests


def write_store(job: WriteJob, summarise: Summary) -> dict[str, Any]:
    """Write a store; return ``summarise`` of what was written.

    Raises
    ------
    SelectionError
        If a cell would have 4 GiB or more; nothing has been written then.
    StoreError
        If the place may not be overwritten, or a request fails; the store then says that its write is unfinished.
    """
    prepared = prepare(job, THREADS)
    check_cells(job, prepared.routed.coords, prepared.routed.counts)
    session = begin_write(job.spec, job.mode)
    writer = LevelWriter(spec=job.spec, level=0, grid=job.grid, encoding=job.encoding, session=session)
    parts = batches(prepared)
    records = _threaded(partial(write_chunks, prepared, writer), parts, [*map(len, parts)], shown=job.progress)
    return summarise(prepared, finish(prepared, writer, session, [empty_record(job.positions.shape[1]), *records]))


def _threaded(work: Callable[[Any], T], items: Sequence[Any], sizes: Sequence[int], *, shown: bool) -> list[T]:
    """Results of ``work`` for items, on a few threads; a bar counts their sizes if ``shown``."""
    done = []
    with ThreadPoolExecutor(THREADS) as pool, progress_bar("writing", sum(sizes), shown=shown) as advance:
        for found, size in zip(pool.map(work, items), sizes, strict=True):
            done.append(found)
            advance(size)
    return done


def finish(
    prepared: Prepared, writer: LevelWriter, session: WriteSession, records: Sequence[LevelRecord]
) -> LevelRecord:
    """Put what remains once cells are written: objects, metadata, what is copied, and the root last."""
    copied = prepared.job.copied
    notes = None if copied is None else copied.notes
    draft = level_draft(prepared)
    done = writer.finish(draft, records, dense_puts(prepared), notes)
    if copied is not None:
        copied.put(session)
    session.commit(CURRENT.root(prepared.job.store, draft.arrays, notes))
    return done


def empty_record(ndim: int, rank: int | None = None) -> LevelRecord:
    """Record of nothing, so that a store without chunks has one; ``rank`` is for chunks with more than the axes."""
    none = np.empty((0, rank or ndim), np.int64)
    far = np.full(ndim, np.inf)
    return LevelRecord(cells={}, coords=none, counts=np.empty(0, np.int64), lo=far, hi=-far)


def batches(prepared: Prepared) -> list[IntArray]:
    """Numbers of the chunks that are written together: about `BATCH_NBYTES`, and whole shards."""
    return batches_of(prepared.job, prepared.routed.coords, prepared.routed.counts * prepared.job.row_nbytes)


def batches_of(job: WriteJob, coords: ChunkCoords, nbytes: IntArray) -> list[IntArray]:
    """Numbers in ``coords`` of the chunks that are written together, each of ``nbytes``."""
    return cut_units(shards_of(coords, job.grid, job.encoding), nbytes + CHUNK_NBYTES, BATCH_NBYTES)


class Payloads:
    """Cells of several chunks, by path."""

    def __init__(self) -> None:
        self._cells: dict[str, tuple[list[ArrayLike], list[Buffer]]] = {}

    def add(self, path: str, coord: ArrayLike, payload: Buffer) -> None:
        """Add the cell of a chunk."""
        coords, payloads = self._cells.setdefault(path, ([], []))
        coords.append(coord)
        payloads.append(payload)

    def cells(self) -> list[Cells]:
        """Return everything, one item for each path."""
        return [
            Cells(path=path, coords=np.stack(coords), payloads=payloads)
            for path, (coords, payloads) in self._cells.items()
        ]


def write_chunks(prepared: Prepared, writer: LevelWriter, chunks: IntArray) -> LevelRecord:
    """Write the cells of some chunks for all arrays."""
    job = prepared.job
    out = Payloads()
    vertices = []
    for chunk in chunks.tolist():
        coord, part = prepared.routed.coords[chunk], prepared.arranged(chunk)
        vertices.append(stored(take(job.positions, part.rows), job.dtype))
        _add_rows(prepared, out, coord, part)
        _add_links(prepared, out, coord, chunk)
    return writer.write(prepared.routed.coords[chunks], vertices, out.cells())


def write_links(prepared: Prepared, writer: LevelWriter, chunks: IntArray) -> LevelRecord:
    """Write the cells of the links of some chunks, whose other cells are already written."""
    out = Payloads()
    for chunk in chunks.tolist():
        _add_links(prepared, out, prepared.routed.coords[chunk], chunk)
    return writer.write(prepared.routed.coords[:0], [], out.cells())


def _add_rows(prepared: Prepared, out: Payloads, coord: IntArray, part: Arranged) -> None:
    job = prepared.job
    out.add("vertex_fragments", coord, encode_tiling(part.counts))
    for name, column in job.attributes.items():
        out.add(f"vertex_attributes/{name}", coord, encode_rows(take(column.values, part.rows)))
    if part.owners is not None and job.objects is not None:
        owners = encode_rows(job.objects.ids[part.owners])
        for draft in job.fragment_owners:
            out.add(draft.path, coord, owners)


def _add_links(prepared: Prepared, out: Payloads, coord: IntArray, chunk: int) -> None:
    placed, which = prepared.placed, prepared.link_rows
    if placed is None:
        return
    for cell in range(*np.searchsorted(placed.sources, [chunk, chunk + 1]).tolist()):
        segment, members = placed.segments[cell], placed.members(cell)
        out.add(CURRENT.link_path(0, segment), coord, placed.payload(cell))
        if CURRENT.is_within(0, segment):
            out.add(CURRENT.link_fragments, coord, encode_tiling(np.asarray([len(members)], np.int64)))
        for name, values in prepared.job.link_values.items():
            rows = members if which is None else which[members]
            out.add(CURRENT.link_attribute_path(name, 0, segment), coord, encode_rows(values[rows]))


def level_draft(prepared: Prepared) -> LevelDraft:
    """Arrays and families of the level."""
    job = prepared.job
    arrays: list[ArrayDraft] = [CURRENT.vertices(job.dtype), CURRENT.fragments()]
    for name, column in job.attributes.items():
        shape = column.values.shape[1:]
        said: Json | None = {"aggregate": job.aggregate[name]} if name in job.aggregate else None
        arrays.append(CURRENT.attribute(name, column.values.dtype, shape, dictionary=column.dictionary, ours=said))
    families: tuple[LinkFamilyDraft, ...] = ()
    width = 2 if job.links is None else job.links.shape[1]
    if prepared.link_counts is not None:
        values = {name: (array.dtype, array.shape[1:]) for name, array in job.link_values.items()}
        count = sum(prepared.link_counts)
        families = (
            LinkFamilyDraft(delta=0, width=width, directed=False, count=count, values=values, fills=job.link_fills),
        )
    present = []
    if job.objects is not None:
        arrays += job.fragment_owners
        parts = {
            "object_index": True,
            "object_attributes": True,
            "groups": job.objects.groups,
            "group_attributes": job.objects.group_attributes,
        }
        present = [name for name, part in parts.items() if part]
    attributes = {"fragments_tile": True, "arrays_present": present}
    rank = len(job.grid.shape)
    return LevelDraft(level=0, rank=rank, arrays=tuple(arrays), families=families, attributes=attributes)


def dense_puts(prepared: Prepared) -> list[Put]:
    """Objects, groups and their attributes."""
    job, objects = prepared.job, prepared.job.objects
    if objects is None:
        return []
    rank, encoding = len(job.grid.shape), job.encoding
    ids = None if np.array_equal(objects.ids, np.arange(len(objects.ids))) else objects.ids
    table = prepared.fragments
    assert table is not None
    counts = np.bincount(table.owners, minlength=len(objects.ids))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    manifests = Manifests(offsets, prepared.routed.coords[table.chunks], table.fragments)
    puts = CURRENT.object_puts(0, ids, manifests, rank, encoding)
    vertices = np.bincount(table.owners, weights=table.counts, minlength=len(objects.ids)).astype(np.int64)
    copied = job.copied is not None and bool(job.copied.notes.root)
    attributes = CURRENT.recounted(objects.attributes, vertices) if copied else objects.attributes
    puts += CURRENT.dense_puts(0, "object_attributes", attributes, encoding)
    segments = objects.ids if job.kind == "trees" else ids  # for skeletons, the order is needed even without rows
    puts += CURRENT.told_puts(0, segments, vertices, attributes, encoding)
    if objects.groups:
        puts += CURRENT.group_puts(0, objects.groups, objects.group_names, encoding)
        puts += CURRENT.dense_puts(0, "group_attributes", objects.group_attributes, encoding)
    return puts


# A store written in parts: each task has all rows of some chunks, and the last one puts links, objects and metadata.

Finalise = Callable[[BlockStatistics], tuple[WriteJob, IntArray | None]]
"""Completes a job from what all blocks say; and (paths,) object id of each path, None if it is its number."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """What is known once every input block was seen, before the first byte is put.

    Parameters
    ----------
    job
        What to write, without rows.
    dtype
        Dtype of the records.
    coords, counts, parts
        (C, D) chunks in lexicographic order, the rows of each, and the part that writes it.
    blocks
        Numbers of the input blocks.
    starts, firsts
        Paths and rows before each input block.
    runs
        Ascending places where paths begin, if rows come with their place along all paths.
    ids
        Object id of each path; None if it is its number.
    codes
        By attribute and block: the store's code for each of the block's codes.
    """

    job: WriteJob
    dtype: np.dtype[np.void]
    coords: ChunkCoords
    counts: IntArray
    parts: IntArray
    blocks: tuple[int, ...]
    starts: IntArray
    firsts: IntArray
    runs: IntArray
    ids: IntArray | None
    codes: Mapping[str, Mapping[int, IntArray]]

    def find(self, coords: ChunkCoords) -> IntArray:
        """(n,) number of each of (n, D) chunks."""
        grid = self.job.grid
        return np.searchsorted(flat(self.coords, grid), flat(coords, grid))

    def parts_of(self, coords: ChunkCoords) -> IntArray:
        """(n,) part that writes each of (n, D) chunks."""
        return self.parts[self.find(coords)]

    def writer(self, begun: WriteSession) -> LevelWriter:
        """Writer of level 0, in the write that has begun."""
        job = self.job
        return LevelWriter(spec=job.spec, level=0, grid=job.grid, encoding=job.encoding, session=begun)


def make_plan(finalise: Finalise, dtype: np.dtype[np.void], parts: int, statistics: BlockStatistics) -> Plan:
    """Plan the write, once every input block was seen.

    Raises
    ------
    SelectionError
        If the blocks together are wrong: bounds, objects, a cell of 4 GiB or more.
    """
    job, ids = finalise(statistics)
    blocks = tuple(sorted(statistics.paths))
    paths, rows = (np.asarray([of[block] for block in blocks], np.int64) for of in (statistics.paths, statistics.rows))
    categories = {name: column.dictionary.categories for name, column in job.attributes.items() if column.dictionary}
    return Plan(
        job=job,
        dtype=dtype,
        coords=statistics.coords,
        counts=statistics.counts,
        parts=spread_chunks(statistics.coords, statistics.counts, job.grid, job.encoding, parts),
        blocks=blocks,
        starts=np.cumsum(paths) - paths,
        firsts=np.cumsum(rows) - rows,
        runs=statistics.runs[:, 0],
        ids=ids,
        codes={
            name: {block: np.searchsorted(categories[name], own) for block, own in of_blocks.items()}
            for name, of_blocks in statistics.categories.items()
        },
    )


def without_tables(plan: Plan) -> Plan:
    """The plan as the parts need it, without objects' attributes, groups and what is copied."""
    job = replace(plan.job, objects=None, copied=None, owners=plan.job.fragment_owners)
    return replace(plan, job=job)


def begin(plan: Plan, scratch: Scratch, *_checked: object) -> WriteSession:
    """Put the root that says "writing"; repeat it, if this write has put it already."""
    session = begin_write(plan.job.spec, plan.job.mode, scratch.write_id)
    scratch.remove_others()
    return session


@dataclass(frozen=True, slots=True, eq=False)
class PartRecord:
    """What one part wrote.

    Parameters
    ----------
    record
        Its cells.
    fragments
        Fragments, with the plan's chunk numbers, object ids and row numbers; None if there are no objects.
    links
        Number of links that it found and sent on.
    start
        Start of the write at that time; None if nothing was put.
    """

    record: LevelRecord
    fragments: FragmentTable | None
    links: int = 0
    start: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """All rows of some chunks, and (n,) the number of each; links follow once all fragments are known."""

    prepared: Prepared
    numbers: IntArray

    @classmethod
    def of(cls, plan: Plan, records: Records, order: tuple[IntArray, BoolArray] | None = None) -> Self:
        """Make a part from records; ``order`` is that of trees, as `arrange` takes it."""
        numbers: IntArray = records["along" if is_tracked(plan) else "number"]
        attributes = {
            name: replace(column, values=_values(plan, name, records)) for name, column in plan.job.attributes.items()
        }
        objects = None
        if plan.job.kind != "points":
            ids, owners = np.unique(_owners(plan, records), return_inverse=True)
            objects = ObjectTable(owners=owners.reshape(-1), ids=ids)
        job = replace(plan.job, positions=records["positions"], attributes=attributes, objects=objects)
        routed = route_rows(job, threads=1)
        chunks = None if objects is None else arrange(job, routed, order, numbers)
        return cls(Prepared(job=job, routed=routed, chunks=chunks), numbers)

    def table(self, plan: Plan) -> FragmentTable | None:
        """Fragments in the form of `PartRecord`."""
        objects, chunks = self.prepared.job.objects, self.prepared.chunks
        if objects is None or chunks is None:
            return None
        found = routing.fragment_table(chunks)
        return replace(
            found,
            chunks=plan.find(self.prepared.routed.coords)[found.chunks],
            owners=objects.ids[found.owners],
            rows=self.numbers[found.rows],
        )


def is_tracked(plan: Plan) -> bool:
    """Whether rows come with their place along all paths."""
    return "along" in (plan.dtype.names or ())


def _owners(plan: Plan, records: Records) -> IntArray:
    """(n,) object id of each row."""
    if is_tracked(plan):
        assert plan.ids is not None
        return plan.ids[np.searchsorted(plan.runs, records["along"], side="right") - 1]
    owners: IntArray = records["owner"]
    if plan.job.kind != "paths":
        return owners
    numbers = plan.starts[np.searchsorted(plan.blocks, block_of(records["number"]))] + owners
    return numbers if plan.ids is None else plan.ids[numbers]


def _values(plan: Plan, name: str, records: Records) -> np.ndarray[Any, Any]:
    values: np.ndarray[Any, Any] = records[attribute_field(name)]
    if name not in plan.codes:
        return values
    nothing = np.empty(0, np.int64)
    tables = [plan.codes[name].get(block, nothing) for block in plan.blocks]
    sizes = np.asarray([len(table) for table in tables], np.int64)
    first = (np.cumsum(sizes) - sizes)[np.searchsorted(plan.blocks, block_of(records["number"]))]
    known = np.concatenate([*tables, [MISSING]]).astype(np.int64)
    at = np.where(values < 0, len(known) - 1, first + values)
    return known[at].astype(plan.job.attributes[name].values.dtype)


def write_part(plan: Plan, records: Records, begun: WriteSession) -> PartRecord:
    """Encode and put chunks whose rows are given, those of each chunk in the order of the input."""
    if not len(records):
        return PartRecord(empty_record(plan.coords.shape[1]), None)
    if is_tracked(plan):
        records = records.take(np.argsort(records["along"], kind="stable"))
    return write_arranged(plan, Part.of(plan, records), begun)


def write_sent(rows: Records, plan: Plan, begun: WriteSession) -> tuple[tuple[()], PartRecord]:
    """Write the chunks of a part whose rows were received."""
    return (), write_part(plan, rows, begun)


def index_rows(
    scratch: Scratch, rows: Exchange, blocks: Sequence[int], name: str, plan: Plan, _begun: WriteSession
) -> None:
    """Put an index of rows that were sent, once the write has begun: what is refused deletes what was sent."""
    index_runs(scratch, rows, blocks, name, receivers_of=plan.parts_of, width=plan.coords.shape[1])


def write_arranged(plan: Plan, part: Part, begun: WriteSession) -> PartRecord:
    """Encode and put the chunks of a part."""
    whole = part.prepared
    written = [write_chunks(whole, plan.writer(begun), chunks) for chunks in batches(whole)]
    done = merge_records([empty_record(plan.coords.shape[1]), *written])
    _check_rows(plan, done)
    return PartRecord(done, part.table(plan), start=begun.start)


def _check_rows(plan: Plan, done: LevelRecord) -> None:
    """Raise StoreError if rows were lost or duplicated on their way, or if the rows of a chunk were split up."""
    at = plan.find(done.coords)
    wrong = np.flatnonzero(plan.counts[at] != done.counts)
    if len(wrong):
        chunk = int(wrong[0])
        raise StoreError(
            f"chunk {done.coords[chunk].tolist()} has {plan.counts[at[chunk]]} rows, but {done.counts[chunk]} arrived; "
            "the write is unfinished",
            where=plan.job.spec.url,
        )


def whole_of(plan: Plan, parts: Sequence[PartRecord]) -> Prepared:
    """All fragments of a store whose parts are written."""
    bounds = np.concatenate([[0], np.cumsum(plan.counts)]).astype(np.int64)
    prepared = Prepared(job=plan.job, routed=Routed(plan.coords, bounds, np.empty(0, np.uint32)))
    objects = plan.job.objects
    if objects is None:
        return prepared
    tables = [part.fragments for part in parts if part.fragments is not None]
    none = np.empty(0, np.int64)
    columns = [np.concatenate([none, *(getattr(table, name) for table in tables)]) for name in FragmentTable.__slots__]
    table = FragmentTable(*columns)
    table = in_manifest_order(plan.job, replace(table, owners=np.searchsorted(objects.ids, table.owners)))
    placed = bridges(prepared.routed, table) if plan.job.kind == "paths" else None
    return replace(prepared, fragments=table, placed=placed)


def finish_write(
    plan: Plan, session: WriteSession, summarise: Summary, parts: Sequence[PartRecord], scratch: Scratch
) -> dict[str, Any]:
    """Put links, objects and metadata, the root last; return ``summarise`` of everything.

    Raises
    ------
    StoreError
        If a put fails, another write took the place, or this one started again.
    """
    session.check_start(part.start for part in parts if part.start is not None)
    whole = whole_of(plan, parts)
    records = [part.record for part in parts]
    if whole.placed is not None:
        records += [write_links(whole, plan.writer(session), chunks) for chunks in batches(whole)]
    return commit_write(plan, session, summarise, whole, records, scratch)


def commit_write(
    plan: Plan,
    session: WriteSession,
    summarise: Summary,
    whole: Prepared,
    written: Sequence[LevelRecord],
    scratch: Scratch,
) -> dict[str, Any]:
    """Put objects and metadata of what was ``written``, the root last; return ``summarise`` of everything."""
    records = [empty_record(plan.coords.shape[1]), *written]
    if sum(record.vertex_count for record in records) != int(plan.counts.sum()):
        raise StoreError("rows were lost or duplicated on the way; the write is unfinished", where=plan.job.spec.url)
    scratch.remove()  # while the root says "writing": no complete store has any
    return summarise(whole, finish(whole, plan.writer(session), session, records))


# A store written from an iterator: its blocks wait, then a few threads write the chunks.


def write_stream(
    spec: StoreSpec,
    reader: BlockReader,
    finalise: Finalise,
    summarise: Summary,
    blocks: Iterable[Any],
    *,
    part_nbytes: int,
    progress: bool,
) -> dict[str, Any]:
    """Write a store of paths; return ``summarise`` of what was written.

    Parameters
    ----------
    spec
        The store.
    blocks
        Blocks as ``reader.read`` takes them.
    part_nbytes
        Bytes of rows that a thread writes at once.

    Raises
    ------
    SelectionError
        If a block is wrong; nothing has been written then.
    StoreError
        If a request fails; the store then says that its write is unfinished.
    """
    with Scratch.of(spec, new_write_id()) as scratch:
        rows, seen = Exchange(name="rows", dtype=reader.dtype, receivers=0), []
        for number, block in enumerate(blocks):
            step = Step(scratch=scratch, work=take_rows, number=number, sends=[rows])
            seen.append(run_step(step, None, reader, number, block))
        statistics = merge_statistics(seen, paths=True)
        parts = int(statistics.counts.sum()) * reader.dtype.itemsize // part_nbytes + 1
        plan = make_plan(finalise, reader.dtype, parts, statistics)
        session = begin(plan, scratch)
        part_plan, rows = without_tables(plan), replace(rows, receivers=parts)
        index_rows(scratch, rows, part_plan.blocks, INDEX, part_plan, session)

        def write(part: int) -> PartRecord:
            step = Step(scratch=scratch, work=write_sent, number=part, takes=[rows])
            done: PartRecord = run_step(step, None, part_plan, session)
            return done

        done = _threaded(write, range(parts), [1] * parts, shown=progress)
        return finish_write(plan, session, summarise, done, scratch)
