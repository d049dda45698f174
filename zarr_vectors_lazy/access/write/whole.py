"""A whole store from arrays: chunks encoded and put by a few threads, metadata last."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from zarr_vectors_lazy.access.progress import progress_bar
from zarr_vectors_lazy.access.write.job import Prepared, WriteJob, check_cells
from zarr_vectors_lazy.access.write.level import LevelWriter
from zarr_vectors_lazy.access.write.session import WriteSession, begin_write
from zarr_vectors_lazy.format.writing import CURRENT, encode_rows, encode_tiling
from zarr_vectors_lazy.kernels.arrange import Arranged
from zarr_vectors_lazy.kernels.routing import stored, take
from zarr_vectors_lazy.model.writing import ArrayDraft, Cells, LevelDraft, LevelRecord, LinkFamilyDraft
from zarr_vectors_lazy.requests import Put
from zarr_vectors_lazy.types import Buffer, ChunkCoords, IntArray, Json

THREADS = min(4, os.cpu_count() or 1)
BATCH_NBYTES = 4 * 1024**2  # of rows that a thread holds at once; it has them gathered, encoded and compressed
CHUNK_NBYTES = 4 * 1024  # of the cells of a chunk beside its rows: coordinates, views, requests


def write_store(job: WriteJob, summarise: Callable[[Prepared, LevelRecord], dict[str, Any]]) -> dict[str, Any]:
    """Write a store; return ``summarise`` of what was written.

    Raises
    ------
    SelectionError
        If a cell would have 4 GiB or more; nothing has been put then.
    StoreError
        If what is there may not be replaced, or a request fails; the store then says that its write is unfinished.
    """
    prepared = Prepared(job, THREADS)
    check_cells(job, prepared.routed.coords, prepared.routed.counts)
    session = begin_write(job.spec, job.mode)
    writer = LevelWriter(spec=job.spec, level=0, grid=job.grid, encoding=job.encoding, session=session)
    records = [empty_record(job.positions.shape[1])]
    with (
        ThreadPoolExecutor(THREADS) as pool,
        progress_bar("writing", len(prepared.routed), shown=job.progress) as advance,
    ):
        parts = list(batches(prepared))
        for part, record in zip(parts, pool.map(lambda part: write_chunks(prepared, writer, part), parts), strict=True):
            records.append(record)
            advance(len(part))
    return summarise(prepared, finish(prepared, writer, session, records))


def finish(
    prepared: Prepared, writer: LevelWriter, session: WriteSession, records: Sequence[LevelRecord]
) -> LevelRecord:
    """Put what is left when cells are written: objects, metadata, what is copied, and the root last."""
    copied = prepared.job.copied
    notes = None if copied is None else copied.notes
    draft = level_draft(prepared)
    done = writer.finish(draft, records, dense_puts(prepared), notes)
    if copied is not None:
        copied.put(session)
    session.commit(CURRENT.root(prepared.job.store, draft.arrays, notes))
    return done


def empty_record(ndim: int) -> LevelRecord:
    """Record of nothing, so that a store without chunks has one."""
    none = np.empty((0, ndim), np.int64)
    far = np.full(ndim, np.inf)
    return LevelRecord(cells={}, coords=none, counts=np.empty(0, np.int64), lo=far, hi=-far)


def batches(prepared: Prepared) -> Iterator[IntArray]:
    """Numbers of the chunks that are written at once: about `BATCH_NBYTES`, and whole shards."""
    return batches_of(prepared.job, prepared.routed.coords, prepared.routed.counts * prepared.job.row_nbytes)


def batches_of(job: WriteJob, coords: ChunkCoords, nbytes: IntArray) -> Iterator[IntArray]:
    """Numbers in ``coords`` of the chunks that are written at once, ``nbytes`` of each."""
    order, units = np.arange(len(coords)), np.arange(len(coords))
    if job.encoding.shard_shape is not None and len(coords):
        shards = (coords - np.asarray(job.grid.origin)) // np.asarray(job.encoding.shard_shape)
        _, units = np.unique(shards, axis=0, return_inverse=True)
        order = np.argsort(units.reshape(-1), kind="stable")
        units = units.reshape(-1)[order]
    ends = np.flatnonzero(np.diff(units, append=-1)) + 1
    sizes = np.cumsum(nbytes[order] + CHUNK_NBYTES)
    start = 0
    while start < len(order):
        full = np.searchsorted(sizes[ends - 1], (sizes[start - 1] if start else 0) + BATCH_NBYTES, side="right")
        stop = int(max(ends[max(int(full) - 1, 0)], ends[np.searchsorted(ends, start, side="right")]))
        yield order[start:stop]
        start = stop


class _Payloads:
    """Cells of several chunks, by path."""

    def __init__(self) -> None:
        self._cells: dict[str, tuple[list[IntArray], list[Buffer]]] = {}

    def add(self, path: str, coord: IntArray, payload: Buffer) -> None:
        coords, payloads = self._cells.setdefault(path, ([], []))
        coords.append(coord)
        payloads.append(payload)

    def cells(self) -> list[Cells]:
        return [
            Cells(path=path, coords=np.stack(coords), payloads=payloads)
            for path, (coords, payloads) in self._cells.items()
        ]


def write_chunks(prepared: Prepared, writer: LevelWriter, chunks: IntArray) -> LevelRecord:
    """Write the cells of some chunks for all arrays."""
    job = prepared.job
    out = _Payloads()
    vertices = []
    for chunk in chunks.tolist():
        coord, part = prepared.routed.coords[chunk], prepared.arranged(chunk)
        vertices.append(stored(take(job.positions, part.rows), job.dtype))
        _add_rows(prepared, out, coord, part)
        _add_links(prepared, out, coord, chunk)
    return writer.write(prepared.routed.coords[chunks], vertices, out.cells())


def write_links(prepared: Prepared, writer: LevelWriter, chunks: IntArray) -> LevelRecord:
    """Write the cells of the links of some chunks, whose other cells are written already."""
    out = _Payloads()
    for chunk in chunks.tolist():
        _add_links(prepared, out, prepared.routed.coords[chunk], chunk)
    return writer.write(prepared.routed.coords[:0], [], out.cells())


def _add_rows(prepared: Prepared, out: _Payloads, coord: IntArray, part: Arranged) -> None:
    job = prepared.job
    out.add("vertex_fragments", coord, encode_tiling(part.counts))
    for name, column in job.attributes.items():
        out.add(f"vertex_attributes/{name}", coord, encode_rows(take(column.values, part.rows)))
    if part.owners is not None and job.objects is not None:
        owners = encode_rows(job.objects.ids[part.owners])
        for draft in job.fragment_owners:
            out.add(draft.path, coord, owners)


def _add_links(prepared: Prepared, out: _Payloads, coord: IntArray, chunk: int) -> None:
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
        families = (LinkFamilyDraft(delta=0, width=width, directed=False, count=count, values=values),)
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
    puts = CURRENT.object_puts(0, ids, prepared.manifests, rank, encoding)
    table = prepared.fragments
    vertices = np.bincount(table.owners, weights=table.counts, minlength=len(objects.ids)).astype(np.int64)
    copied = job.copied is not None and job.copied.is_store
    attributes = CURRENT.recounted(objects.attributes, vertices) if copied else objects.attributes
    puts += CURRENT.dense_puts(0, "object_attributes", attributes, encoding)
    segments = objects.ids if job.kind == "trees" else ids  # those of skeletons are asked for, rows or not
    puts += CURRENT.told_puts(0, segments, vertices, attributes, encoding)
    if objects.groups:
        puts += CURRENT.group_puts(0, objects.groups, objects.group_names, encoding)
        puts += CURRENT.dense_puts(0, "group_attributes", objects.group_attributes, encoding)
    return puts
