"""A store written in parts: each task has all rows of some chunks, the last one puts links, objects and metadata."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from zarr_vectors_lazy.access.write.intake import Tally
from zarr_vectors_lazy.access.write.job import ObjectTable, Prepared, WriteJob
from zarr_vectors_lazy.access.write.level import LevelWriter
from zarr_vectors_lazy.access.write.session import WriteSession, begin_write
from zarr_vectors_lazy.access.write.spill import SpillFolder, flat
from zarr_vectors_lazy.access.write.whole import (
    batches,
    empty_record,
    finish,
    write_chunks,
    write_links,
)
from zarr_vectors_lazy.errors import StoreError
from zarr_vectors_lazy.format.writing import MISSING
from zarr_vectors_lazy.kernels import arrange
from zarr_vectors_lazy.kernels.arrange import Arranged, FragmentTable
from zarr_vectors_lazy.kernels.records import Records, attribute_field, block_of
from zarr_vectors_lazy.kernels.routing import Routed
from zarr_vectors_lazy.model.writing import LevelRecord, merge_records
from zarr_vectors_lazy.plan.spread import spread_chunks
from zarr_vectors_lazy.types import ChunkCoords, IntArray

Settle = Callable[[Tally], tuple[WriteJob, IntArray | None]]
"""Completes a job by what all blocks say; and (paths,) object id of each path, None where it is its number."""
Summary = Callable[[Prepared, LevelRecord], dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """What is known once every input block was seen, before the first byte is put.

    Parameters
    ----------
    job
        What to write, without rows.
    dtype
        Of the records.
    coords, counts, parts
        (C, D) chunks in lexicographic order, the rows of each, and the part that writes it.
    blocks
        Numbers of the input blocks.
    starts, firsts
        Paths and rows before each input block.
    runs
        Ascending places where paths begin, where rows come with their place along all of them.
    ids
        Object id of each path; None: its number.
    codes
        By attribute and block: codes of the store's categories for the block's own.
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

    def writer(self, begun: WriteSession) -> LevelWriter:
        """Of level 0, in the write that has begun."""
        job = self.job
        return LevelWriter(spec=job.spec, level=0, grid=job.grid, encoding=job.encoding, session=begun)


def make_plan(settle: Settle, dtype: np.dtype[np.void], parts: int, tally: Tally) -> Plan:
    """Plan the write, when every input block was seen.

    Raises
    ------
    SelectionError
        If what all blocks together say is wrong: bounds, objects, a cell of 4 GiB or more.
    """
    job, ids = settle(tally)
    blocks = tuple(sorted(tally.paths))
    paths, rows = (np.asarray([of[block] for block in blocks], np.int64) for of in (tally.paths, tally.rows))
    categories = {name: column.dictionary.categories for name, column in job.attributes.items() if column.dictionary}
    return Plan(
        job=job,
        dtype=dtype,
        coords=tally.coords,
        counts=tally.counts,
        parts=spread_chunks(tally.coords, tally.counts, job.grid, job.encoding, parts),
        blocks=blocks,
        starts=np.cumsum(paths) - paths,
        firsts=np.cumsum(rows) - rows,
        runs=tally.runs[:, 0],
        ids=ids,
        codes={
            name: {block: np.searchsorted(categories[name], own) for block, own in of_blocks.items()}
            for name, of_blocks in tally.categories.items()
        },
    )


def without_tables(plan: Plan) -> Plan:
    """The plan as the parts need it: objects' attributes, groups and what is copied stay behind."""
    job = replace(plan.job, objects=None, copied=None, owners=plan.job.fragment_owners)
    return replace(plan, job=job)


def begin(plan: Plan, write_id: str, *_checked: object) -> WriteSession:
    """Put the root that says "writing"; again, if this write has put it already."""
    return begin_write(plan.job.spec, plan.job.mode, write_id)


@dataclass(frozen=True, slots=True, eq=False)
class PartRecord:
    """What one part wrote.

    Parameters
    ----------
    record
        Its cells.
    fragments
        With numbers of the plan's chunks, object ids for owners and row numbers; None where there are no objects.
    links
        Links that it found and sent on.
    start
        Of the write, as it was then; None where nothing was put.
    """

    record: LevelRecord
    fragments: FragmentTable | None
    links: int = 0
    start: str | None = None


class Part(Prepared):
    """All rows of some chunks; links between chunks are for when all fragments are known."""

    def __init__(self, plan: Plan, records: Records) -> None:
        self.numbers: IntArray = records["along" if is_tracked(plan) else "number"]
        attributes = {
            name: replace(column, values=_values(plan, name, records)) for name, column in plan.job.attributes.items()
        }
        objects = None
        if plan.job.kind != "points":
            ids, owners = np.unique(_owners(plan, records), return_inverse=True)
            objects = ObjectTable(owners=owners.reshape(-1), ids=ids)
        job = replace(plan.job, positions=records["positions"], attributes=attributes, objects=objects)
        super().__init__(job, threads=1)

    def _maker(self) -> Callable[[IntArray], Arranged]:
        if self.job.kind == "paths" and self.job.objects is not None:
            return partial(arrange.arrange_runs, owners=self.job.objects.owners, numbers=self.numbers)
        return super()._maker()

    def _place(self) -> None:
        return None

    def table(self, plan: Plan) -> FragmentTable | None:
        """Fragments as `PartRecord` has them."""
        if self.job.objects is None or self._arranged is None:
            return None
        found = arrange.fragment_table(self._arranged)
        grid = plan.job.grid
        chunks = np.searchsorted(flat(plan.coords, grid), flat(self.routed.coords, grid))
        return replace(
            found,
            chunks=chunks[found.chunks],
            owners=self.job.objects.ids[found.owners],
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
    """Encode and put the chunks whose rows are given, those of a chunk in the order of the input."""
    if not len(records):
        return PartRecord(empty_record(plan.coords.shape[1]), None)
    if is_tracked(plan):
        records = records.take(np.argsort(records["along"], kind="stable"))
    return write_arranged(plan, Part(plan, records), begun)


def write_arranged(plan: Plan, part: Part, begun: WriteSession) -> PartRecord:
    """Encode and put the chunks of a part."""
    written = [write_chunks(part, plan.writer(begun), chunks) for chunks in batches(part)]
    done = merge_records([empty_record(plan.coords.shape[1]), *written])
    _check_rows(plan, done)
    return PartRecord(done, part.table(plan), start=begun.start)


def _check_rows(plan: Plan, done: LevelRecord) -> None:
    """Raise StoreError if rows were lost or doubled on their way, or the rows of a chunk came apart."""
    grid = plan.job.grid
    at = np.searchsorted(flat(plan.coords, grid), flat(done.coords, grid))
    wrong = np.flatnonzero(plan.counts[at] != done.counts)
    if len(wrong):
        chunk = int(wrong[0])
        raise StoreError(
            f"chunk {done.coords[chunk].tolist()} has {plan.counts[at[chunk]]} rows, but {done.counts[chunk]} arrived; "
            "the write is unfinished",
            where=plan.job.spec.url,
        )


def write_spilled(plan: Plan, folder: SpillFolder, part: int, begun: WriteSession) -> PartRecord:
    """Write a part whose rows are in files."""
    return write_part(plan, spilled_rows(plan, folder, part), begun)


def spilled_rows(plan: Plan, folder: SpillFolder, part: int) -> Records:
    """Rows of a part from files, in the order of the input."""
    grid = plan.job.grid
    known = flat(plan.coords, grid)

    def part_of(coords: ChunkCoords) -> IntArray:
        return plan.parts[np.searchsorted(known, flat(coords, grid))]

    return folder.read(part, plan.blocks, part_of, plan.dtype)


class Whole(Prepared):
    """All fragments of a store whose parts are written."""

    def __init__(self, plan: Plan, parts: Sequence[PartRecord]) -> None:
        self.job = plan.job
        bounds = np.concatenate([[0], np.cumsum(plan.counts)]).astype(np.int64)
        self.routed = Routed(plan.coords, bounds, np.empty(0, np.uint32))
        self._arranged = None
        tables = [part.fragments for part in parts if part.fragments is not None]
        none = np.empty(0, np.int64)
        columns = [
            np.concatenate([none, *(getattr(table, name) for table in tables)]) for name in FragmentTable.__slots__
        ]
        self._table = FragmentTable(*columns)
        self.placed = self._place()

    @cached_property
    def fragments(self) -> FragmentTable:
        """All fragments of objects, in the order of their objects' manifests."""
        assert self.job.objects is not None
        table = replace(self._table, owners=np.searchsorted(self.job.objects.ids, self._table.owners))
        along = table.rows if self.job.kind == "paths" else table.chunks
        return table.take(np.lexsort((table.fragments, along, table.owners)))


def finish_write(
    plan: Plan, session: WriteSession, summarise: Summary, parts: Sequence[PartRecord], folder: SpillFolder | None
) -> dict[str, Any]:
    """Put links, objects and metadata, the root last; return ``summarise`` of it all.

    Raises
    ------
    StoreError
        If a put fails, another write took the place, or this one began anew.
    """
    session.check_start(part.start for part in parts if part.start is not None)
    whole = Whole(plan, parts)
    records = [part.record for part in parts]
    if whole.placed is not None:
        records += [write_links(whole, plan.writer(session), chunks) for chunks in batches(whole)]
    return commit_write(plan, session, summarise, whole, records, folder)


def commit_write(
    plan: Plan,
    session: WriteSession,
    summarise: Summary,
    whole: Prepared,
    written: Sequence[LevelRecord],
    folder: SpillFolder | None,
) -> dict[str, Any]:
    """Put objects and metadata of what was ``written``, the root last; return ``summarise`` of it all."""
    records = [empty_record(plan.coords.shape[1]), *written]
    if sum(record.vertex_count for record in records) != int(plan.counts.sum()):
        raise StoreError("rows were lost or doubled on their way; the write is unfinished", where=plan.job.spec.url)
    done = finish(whole, plan.writer(session), session, records)
    if folder is not None:
        folder.remove()
    return summarise(whole, done)
