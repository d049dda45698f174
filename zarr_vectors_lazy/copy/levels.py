"""A store's levels copied into another store of the written format: rows, fragments, links."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
from dask.delayed import delayed

from zarr_vectors_lazy.copy.recompress import shared
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.manifests import encode_fragments, encode_tiling
from zarr_vectors_lazy.format.registry import CURRENT
from zarr_vectors_lazy.format.v09.documents import root_attributes, root_with_notes
from zarr_vectors_lazy.format.v09.writing import place_links
from zarr_vectors_lazy.format.vectors import encode_rows
from zarr_vectors_lazy.model.arrays import CellArray, CellSpec, DenseArray, LinkCoding, LinkFamily
from zarr_vectors_lazy.model.levels import ChunkTable
from zarr_vectors_lazy.model.objects import GroupIndex, Manifests, ObjectIndex, check_fragments
from zarr_vectors_lazy.model.writing import (
    ArrayDraft,
    Encoding,
    Grid,
    LevelDraft,
    LevelRecord,
    LinkFamilyDraft,
    Notes,
    StoreDraft,
)
from zarr_vectors_lazy.plan.blocks import shards_of
from zarr_vectors_lazy.plan.selection import Selection
from zarr_vectors_lazy.pyramid.merge import stated_rule
from zarr_vectors_lazy.read.cells import (
    Requested,
    error_context,
    link_row_shape,
    read_batch,
    read_fragments,
    read_links,
    read_payload,
    read_vertices,
    vertex_row_shape,
)
from zarr_vectors_lazy.read.columns import PATHS
from zarr_vectors_lazy.read.layers import chunk_runs, requested_of
from zarr_vectors_lazy.read.level import LevelData, Source
from zarr_vectors_lazy.read.objects import read_dense, read_groups, read_ids, read_manifests
from zarr_vectors_lazy.read.paths import Track, Tracker, find_tracks
from zarr_vectors_lazy.read.rows import read_text_width
from zarr_vectors_lazy.read.store import OpenStore
from zarr_vectors_lazy.read.view import LevelView
from zarr_vectors_lazy.requests import Put
from zarr_vectors_lazy.storage.spec import StoreSpec
from zarr_vectors_lazy.types import Buffer, ChunkCoords, Floats, IntArray, Json, Raw
from zarr_vectors_lazy.write.part import LevelWriter, Payloads, empty_record
from zarr_vectors_lazy.write.session import Copied, Mode, WriteSession, begin_write, new_write_id, read_copied

# The tasks that copy link records: decoded, and placed as the current format places them.


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CopiedFamily:
    """A link family.

    Parameters
    ----------
    delta
        Level of the other endpoints, minus this level.
    member, spec, coding
        The cells of records inside chunks, or between chunks with the same coordinate; None if there are none.
    values
        By attribute: member, and how it is read.
    scale
        (here, there) (K,) edges of a chunk of this and of the other level in chunks of the root.
    """

    delta: int
    member: str
    spec: CellSpec | None
    coding: LinkCoding | None
    values: dict[str, tuple[str, CellSpec]] = field(default_factory=dict)
    scale: tuple[IntArray, IntArray] | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LinkPart:
    """The records of one segment that begin in one chunk.

    Parameters
    ----------
    segment
        Its name.
    payload
        As stored.
    count
        Records.
    values
        Payloads of attributes, aligned.
    """

    segment: str
    payload: Buffer
    count: int
    values: dict[str, Buffer]

    def fragments(self) -> bytes:
        """Their fragment index: one range."""
        return encode_tiling(np.asarray([self.count], np.int64))


TablePart: TypeAlias = dict[int, list[LinkPart]] | dict[int, IntArray]
"""By chunk: placed records inside the level; or records to another level, (R, L, K + 1)."""


def place_table(
    source: Source, table: DenseArray, coords: ChunkCoords, values: Mapping[str, DenseArray], runs: Sequence[IntArray]
) -> list[dict[int, list[LinkPart]]]:
    """Place the records of a table inside a level; for each run of chunks, those that begin there."""
    records = read_dense(source, table)
    chunks = ChunkTable(coords).find(records[:, :, :-1].reshape(-1, coords.shape[1])).reshape(records.shape[:2])
    if (chunks < 0).any():
        raise FormatError("a link leads to a chunk that does not exist", where=f"{source.spec.url}/{table.path}")
    read = {name: read_dense(source, array) for name, array in values.items()}
    cells = place_links(chunks, records[:, :, -1], np.asarray(coords, np.int64))
    found: dict[int, list[LinkPart]] = {}
    for cell, (segment, chunk) in enumerate(zip(cells.segments, cells.sources.tolist(), strict=True)):
        members = cells.members(cell)
        part = LinkPart(
            segment=segment,
            payload=cells.payload(cell),
            count=len(members),
            values={name: encode_rows(column[members]) for name, column in read.items()},
        )
        found.setdefault(chunk, []).append(part)
    return [{chunk: found[chunk] for chunk in run.tolist() if chunk in found} for run in runs]


def split_table(
    source: Source, table: DenseArray, coords: ChunkCoords, runs: Sequence[IntArray]
) -> list[dict[int, IntArray]]:
    """Split the records of a table to another level; for each run of chunks, those whose first end lies there."""
    records = read_dense(source, table)
    chunk = ChunkTable(coords).find(records[:, 0, :-1])
    if (chunk < 0).any():
        raise FormatError("a link begins in a chunk that does not exist", where=f"{source.spec.url}/{table.path}")
    order = np.argsort(chunk, kind="stable")
    named, firsts = np.unique(chunk[order], return_index=True)
    parts = dict(zip(named.tolist(), np.split(records[order], firsts[1:]), strict=True)) if len(named) else {}
    return [{number: parts[number] for number in run.tolist() if number in parts} for run in runs]


def link_parts(
    source: Source,
    family: CopiedFamily,
    chunk: int,
    coord: tuple[int, ...],
    raws: Mapping[tuple[str, int], Raw],
    table: TablePart | None,
) -> list[LinkPart]:
    """Records of a family that begin in a chunk."""
    own: IntArray | None = None
    if family.spec is not None and family.coding is not None and (family.member, chunk) in raws:
        own = read_links(source, family.spec, coord, raws[family.member, chunk], family.coding)[:, 1]
        own = own if len(own) else None
    found: Any = (table or {}).get(chunk)
    if family.delta:
        return _across(family, coord, own, found)
    placed: list[LinkPart] = found or []
    if own is None:
        return placed
    cells = place_links(np.zeros_like(own), own, np.asarray([coord], np.int64))
    values: dict[str, Buffer] = {}
    for name, (member, spec) in family.values.items():
        if (member, chunk) in raws:
            values[name] = read_payload(source, spec, coord, raws[member, chunk])
    part = LinkPart(segment=cells.segments[0], payload=cells.payload(0), count=len(own), values=values)
    if any(other.segment == part.segment for other in placed):
        raise FormatError(f"records inside chunk {coord} are stored twice", where=source.spec.url)
    return [part, *placed]


def _across(
    family: CopiedFamily, coord: tuple[int, ...], own: IntArray | None, table: IntArray | None
) -> list[LinkPart]:
    assert family.scale is not None
    here = np.asarray(coord, np.int64)
    ends, rows = [], []
    if own is not None:
        ends.append(np.broadcast_to(here, (len(own), len(here))))
        rows.append(own)
    if table is not None:
        ends.append(table[:, 1, :-1])
        rows.append(table[:, :, -1])
    if not rows:
        return []
    other, at = np.unique(np.concatenate(ends), axis=0, return_inverse=True)
    chunks = np.stack([np.zeros(len(at), np.int64), at.reshape(-1)], axis=1)
    anchor = here * family.scale[0] // family.scale[1]
    cells = place_links(
        chunks, np.concatenate(rows), here[None], directed=True, delta=family.delta, other=other, anchors=anchor[None]
    )
    return [
        LinkPart(segment=segment, payload=cells.payload(cell), count=len(cells.members(cell)), values={})
        for cell, segment in enumerate(cells.segments)
    ]


# The tasks that find out, for each copied fragment, to which object it belongs.


def split_owners(tracker: Tracker, runs: Sequence[IntArray]) -> list[dict[int, Track]]:
    """Manifest entries by chunk, for each run of chunks; nothing if objects share a fragment."""
    tracks = find_tracks(tracker, None)
    if any(len(np.unique(track.fragments)) < len(track.fragments) for track in tracks):
        return [{} for _ in runs]
    return [{chunk: tracks[chunk] for chunk in run.tolist()} for run in runs]


def fragment_owners(track: Track | None, fragments: int) -> IntArray | None:
    """(fragments,) id of the object of each fragment of a chunk; None unless each has one."""
    if track is None or len(track.fragments) != fragments or int(track.fragments.max(initial=-1)) >= fragments:
        return None
    ids = np.empty(fragments, np.int64)
    ids[track.fragments] = track.owners
    return ids


# The tasks that copy the chunks of a level into another store, rows and fragments unchanged.

VERTICES, FRAGMENTS = "vertices", "fragments"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CopiedAttribute:
    """A vertex attribute.

    Parameters
    ----------
    member
        Name in the batch.
    path
        Path of the copy, below the level.
    spec
        How it is read.
    row_shape
        Shape of one row.
    dtype
        Dtype in which values are written; for text, whose width may vary between cells, the widest.
    """

    member: str
    path: str
    spec: CellSpec
    row_shape: tuple[int, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CopyPlan:
    """How the chunks of a level are copied; shared by its tasks.

    Parameters
    ----------
    source
        The level.
    writer
        The new level.
    vertices, fragments
        How they are read.
    attributes, families
        What else is copied.
    owners
        Path of the fragments' object ids.
    objects, groups
        How manifests and groups are read; if there are objects, their vertices are counted.
    draft
        What is known about the level beforehand, which does not yet include the counts of any family.
    dense
        Per-object and per-group arrays by family.
    notes
        Other members of the documents.
    """

    source: Source
    writer: LevelWriter
    vertices: CellSpec
    fragments: CellSpec
    attributes: tuple[CopiedAttribute, ...]
    families: tuple[CopiedFamily, ...]
    owners: str
    objects: ObjectIndex | None
    groups: GroupIndex | None
    draft: LevelDraft
    dense: dict[str, tuple[DenseArray, ...]]
    notes: Notes


@dataclass(frozen=True, slots=True, eq=False)
class CopiedCells:
    """What a task copied: what it wrote (None for nothing), link records by delta, rows of each chunk's fragments."""

    record: LevelRecord | None
    links: dict[int, int]
    sizes: tuple[IntArray, ...] = ()


def copy_chunks(
    plan: CopyPlan,
    wanted: Sequence[Requested],
    tables: Sequence[TablePart | None],
    owners: Mapping[int, Track] | None,
    session: WriteSession,
) -> CopiedCells:
    """Read the cells of some chunks and write them; chunks without rows are left out.

    Parameters
    ----------
    tables
        For each family, what its table has for these chunks.
    owners
        Manifest entries by chunk, if each fragment belongs to one object.
    session
        The write that this is part of, which has begun.
    """
    raws = read_batch(plan.source, wanted)
    coords = {row: tuple(coord) for want in wanted for row, coord in zip(want.rows, want.coords.tolist(), strict=True)}
    payloads = Payloads()
    rows, sizes = {}, []
    counts = {family.delta: 0 for family in plan.families}
    for chunk in sorted(coords):
        coord = coords[chunk]
        vertices = read_vertices(plan.source, plan.vertices, coord, raws.get((VERTICES, chunk)), None)
        if not len(vertices):
            continue
        rows[chunk] = vertices
        index = read_fragments(plan.source, plan.fragments, coord, raws.get((FRAGMENTS, chunk)))
        with error_context(plan.source, plan.fragments, coord):
            index.check(len(vertices))
        sizes += [index.counts] if plan.objects is not None else []
        found: list[tuple[str, Buffer]] = [("vertex_fragments", encode_fragments(index))]
        ids = fragment_owners((owners or {}).get(chunk), len(index))
        if ids is not None:
            found.append((plan.owners, encode_rows(ids)))
        for attribute in plan.attributes:
            raw = raws.get((attribute.member, chunk))
            if raw is not None:
                found.append((attribute.path, _values(plan, attribute, coord, raw, len(vertices))))
        for family, table in zip(plan.families, tables, strict=True):
            parts = link_parts(plan.source, family, chunk, coord, raws, table)
            found += _link_cells(family, parts)
            counts[family.delta] += sum(part.count for part in parts)
        for path, payload in found:
            payloads.add(path, coord, payload)
    if not rows:
        return CopiedCells(None, counts)
    places = np.asarray([coords[chunk] for chunk in rows], np.int64)
    record = plan.writer.under(session).write(places, list(rows.values()), payloads.cells())
    return CopiedCells(record, counts, tuple(sizes))


def _values(plan: CopyPlan, attribute: CopiedAttribute, coord: tuple[int, ...], raw: Raw, n_rows: int) -> Buffer:
    payload = read_payload(plan.source, attribute.spec, coord, raw)
    with error_context(plan.source, attribute.spec, coord):
        size = n_rows * int(np.prod(attribute.row_shape, dtype=np.int64))
        if not size or len(payload) % size:
            raise FormatError(f"{len(payload)} bytes cannot be the values of {n_rows} rows")
        stored = attribute.spec.dtype
        if attribute.dtype.kind == "U":
            stored = np.dtype(f"<U{len(payload) // size // 4}")
        if len(payload) != size * stored.itemsize:
            raise FormatError(f"{len(payload)} bytes for {n_rows} rows of {attribute.row_shape} {stored}")
        return encode_rows(np.frombuffer(payload, stored).astype(attribute.dtype, copy=False))


def _link_cells(family: CopiedFamily, parts: Sequence[LinkPart]) -> list[tuple[str, Buffer]]:
    """Payloads of the records that begin in a chunk, by path."""
    found: list[tuple[str, Buffer]] = []
    for part in parts:
        found.append((CURRENT.link_path(family.delta, part.segment), part.payload))
        found += [
            (CURRENT.link_attribute_path(name, family.delta, part.segment), values)
            for name, values in part.values.items()
        ]
        if CURRENT.is_within(family.delta, part.segment):
            found.append((CURRENT.link_fragments, part.fragments()))
    return found


def finish_level(plan: CopyPlan, done: Sequence[CopiedCells], session: WriteSession) -> LevelRecord:
    """Write objects, groups and metadata of a level; return everything that was written for it."""
    draft, owners = plan.draft, plan.owners
    records = [copied.record for copied in done if copied.record is not None]
    records = records or [empty_record((plan.vertices.row_shape or (draft.rank,))[0], draft.rank)]
    families = tuple(
        replace(family, count=sum(copied.links[family.delta] for copied in done)) for family in draft.families
    )
    owned = any(owners in record.cells for record in records)
    arrays = tuple(array for array in draft.arrays if owned or array.path != owners)
    coords = np.concatenate([record.coords for record in records])
    puts = _object_puts(plan, coords, [rows for copied in done for rows in copied.sizes])
    whole = replace(draft, arrays=arrays, families=families)
    return plan.writer.under(session).finish(whole, records, puts, plan.notes)


def _object_puts(plan: CopyPlan, coords: IntArray, sizes: Sequence[IntArray]) -> list[Put]:
    """Puts of what is stored about objects; ``sizes`` are the rows of the fragments of each chunk of ``coords``."""
    source, level, encoding = plan.source, plan.draft.level, plan.writer.encoding
    puts: list[Put] = []
    values = {family: {a.name: read_dense(source, a) for a in arrays} for family, arrays in plan.dense.items()}
    if plan.objects is not None:
        manifests = _without(read_manifests(source, plan.objects), coords)
        ids = None if plan.objects.ids is None else read_ids(source, plan.objects)
        puts += CURRENT.object_puts(level, ids, manifests, plan.draft.rank, encoding)
        vertices = _count_vertices(manifests, coords, sizes)
        values["object_attributes"] = CURRENT.recounted(values["object_attributes"], vertices)
        puts += CURRENT.told_puts(level, ids, vertices, values["object_attributes"], encoding)
    if plan.groups is not None:
        members = read_groups(source, plan.groups)
        ordered = [members[group] for group in range(plan.groups.count)]
        puts += CURRENT.group_puts(level, ordered, plan.groups.names or None, encoding)
    for family, arrays in values.items():
        puts += CURRENT.dense_puts(level, family, arrays, encoding)
    return puts


def _count_vertices(manifests: Manifests, coords: IntArray, sizes: Sequence[IntArray]) -> IntArray:
    """(O,) rows that the manifests name."""
    chunk = ChunkTable(coords).find(manifests.chunks)
    totals = np.fromiter(map(len, sizes), np.int64, len(sizes))
    check_fragments(manifests.fragments, totals[chunk])
    first = np.cumsum(totals) - totals
    rows = np.concatenate([np.empty(0, np.int64), *sizes])[first[chunk] + manifests.fragments]
    return np.bincount(manifests.owners, weights=rows, minlength=len(manifests)).astype(np.int64)


def _without(manifests: Manifests, coords: IntArray) -> Manifests:
    """Manifests without the entries of chunks that have no rows."""
    keep = ChunkTable(coords).find(manifests.chunks) >= 0
    if keep.all():
        return manifests
    offsets = np.concatenate([[0], np.cumsum(keep)])[manifests.offsets].astype(np.int64)
    return Manifests(offsets, manifests.chunks[keep], manifests.fragments[keep])


def commit_store(
    session: WriteSession,
    attributes: Json,
    bins: Mapping[int, Floats],
    copied: Copied,
    records: Mapping[int, LevelRecord],
) -> dict[int, int]:
    """Write the root, which is the last put of all; return the number of vertices of each level.

    Its bounds are widened to hold every vertex.

    Parameters
    ----------
    attributes
        Attributes of the root, with bounds as the source states them.
    bins
        (D,) bin shape of each level.
    copied
        What lies outside levels.
    """
    block = attributes["zarr_vectors"]
    lo = np.min([block["bounds"][0], *(record.lo for record in records.values())], axis=0)
    hi = np.max([block["bounds"][1], *(record.hi for record in records.values())], axis=0)
    base = next(iter(bins.values())) if 0 not in bins else bins[0]
    above = {level: shape for level, shape in bins.items() if level}
    copied.put(session)
    session.commit(CURRENT.root_with_levels(attributes, above, base, {"bounds": [lo.tolist(), hi.tolist()]}))
    return {level: record.vertex_count for level, record in records.items()}


# Copying a store's levels into another store of the current format, as one Dask graph.

STILL_TRUE = (
    "object_sparsity",
    "coarsening_method",
    "parent_level",
    "chunk_shape",
    "chunk_dims",
    "chunk_attribute_name",
    "chunk_attribute_values",
    "preserves_object_ids",
    "inherited_num_objects",
    "shared_fragments",
)
"""Members of a level's block that remain true (spec 0.9, 3.4)."""
ROOT = ("format_capabilities", "cross_level_depth", "cross_level_storage", "reduction_factor", "base_bin_shape")
UNSURE = PATHS | {"line"}  # their records inside a level repeat the manifests, or are garbled (spec 0.7, 7.2)


def copy_store(
    opened: OpenStore, spec: StoreSpec, encoding: Encoding, mode: Mode, leave_out: Collection[str] = ()
) -> Any:
    """Delayed copy of a whole store, without some named attributes (or ``"parametric"``); gives vertices by level.

    Raises
    ------
    FormatError
        If something cannot be copied and is not left out.
    """
    if "parametric" in (opened.tree.children("") or ()) and "parametric" not in leave_out:
        raise FormatError(
            "the store has parametric objects, which cannot be copied; leave_out=['parametric'] leaves them out",
            where=opened.tree.url,
        )
    opened.refuse_additive("a copy without what they refine")
    copied = read_copied(opened.tree, opened.meta, opened.levels)
    plans = [_LevelPlanner(opened, data, spec, encoding, leave_out) for _, data in sorted(opened.levels.items())]
    attributes = _root(opened, spec, copied.notes, plans[0].drafts if plans else ())
    bins = {data.meta.index: data.meta.bin_shape for data in opened.levels.values()}
    session = delayed(begin_write, pure=False)(spec, mode, new_write_id())
    records = {plan.level: plan.delayed(session, copied.notes) for plan in plans}
    return delayed(commit_store, pure=False)(session, attributes, bins, shared(copied), records)


def _root(opened: OpenStore, spec: StoreSpec, notes: Notes, arrays: Sequence[ArrayDraft]) -> Json:
    meta = opened.meta
    made = root_attributes(
        StoreDraft(
            chunk_shape=meta.chunk_shape,
            bin_shape=meta.bin_shape,
            bounds=meta.bounds,
            geometry_types=meta.geometry_types,
            links_convention=meta.links_convention,
            axes=meta.axes,
            units=meta.units,
            crs=meta.crs,
            bins_apart=True,
            name=spec.url.rpartition("/")[2],
        ),
        arrays,
    )
    block = meta.attributes["zarr_vectors"]
    true = {name: block[name] for name in ROOT if block.get(name) is not None}
    return root_with_notes({**made, "zarr_vectors": {**made["zarr_vectors"], **true}}, notes)


class _LevelPlanner:
    """Plans what is copied of one level."""

    def __init__(
        self, opened: OpenStore, data: LevelData, spec: StoreSpec, encoding: Encoding, leave_out: Collection[str]
    ) -> None:
        self.opened, self.data, self.leave_out = opened, data, leave_out
        self.view = LevelView(data, Selection(), None)
        self.level = data.meta.index
        self.rank = data.vertices.chunks.rank
        self.arrays: list[tuple[str, CellArray]] = [(VERTICES, data.vertices), (FRAGMENTS, data.fragments)]
        self.drafts: list[ArrayDraft] = [CURRENT.vertices(data.vertices.spec.dtype), CURRENT.fragments()]
        self.owners = self._owners()
        self._check_rank()
        self.writer = LevelWriter(spec=spec, level=self.level, grid=self._grid(), encoding=encoding)
        self.attributes = [self._attribute(name) for name in data.stored_names if name not in leave_out]
        self.families: list[tuple[CopiedFamily, LinkFamilyDraft, LinkFamily]] = []
        for delta in data.deltas:
            self._family(delta)

    def _check_rank(self) -> None:
        by, coords = self.data.chunk_attribute, self.data.vertices.chunks.coords
        if self.rank != self.data.store.ndim + (by is not None) or (by is not None and (coords[:, 0] < 0).any()):
            raise FormatError(
                "its chunks are cut by groups without values, which the written format cannot say", where=self.data.url
            )

    def _owners(self) -> Tracker | None:
        """Where the object of each fragment is found, if it can have only one."""
        index = self.data.object_index
        shared = self.data.meta.block.get("shared_fragments")
        if index is None or shared:
            return None
        self.drafts.append(CURRENT.fragment_owners(self._object_names()))
        return Tracker(source=self.data.source, index=index, coords=self.view.table.coords, whole=False)

    def _object_names(self) -> list[str]:
        return [name for name in self.data.object_attributes if name not in self.leave_out]

    def _grid(self) -> Grid:
        coords = self.data.vertices.chunks.coords
        if not len(coords):
            return Grid(origin=(0,) * self.rank, shape=(1,) * self.rank)
        lo, hi = coords.min(axis=0), coords.max(axis=0)
        if self.data.chunk_attribute is not None:
            lo[0], hi[0] = 0, len(self.data.chunk_attribute[1]) - 1
        return Grid(origin=tuple(lo.tolist()), shape=tuple((hi - lo + 1).tolist()))

    def _attribute(self, name: str) -> CopiedAttribute:
        array = self.data.attribute(name)
        spec, member = array.spec, f"attribute:{name}"
        loose = spec.dtype.kind == "U" and spec.dictionary is None
        row_shape = spec.row_shape or () if loose else vertex_row_shape(self.data, array)
        dtype = np.dtype(f"<U{read_text_width(self.data, array, row_shape)}") if loose else spec.dtype
        self.arrays.append((member, array))
        draft = CURRENT.attribute(
            name, dtype, row_shape, dictionary=spec.dictionary, ours=stated_rule(array.attributes)
        )
        self.drafts.append(draft)
        return CopiedAttribute(member=member, path=draft.path, spec=spec, row_shape=row_shape, dtype=dtype)

    def _family(self, delta: int) -> None:
        data = self.data
        if delta == 0 and UNSURE & set(data.store.geometry_types):
            return
        family = data.links(delta)
        if family is None or (delta and self.level + delta not in self.opened.levels):
            return
        member = f"links:{delta}"
        segment = family.segments[0] if family.segments else None
        if segment is not None:
            self.arrays.append((member, segment.array))
        values = self._link_values(family) if delta == 0 else {}
        stated = {name: self.data.link_attribute(family, name).fill for name in values}
        fills = {name: fill for name, fill in stated.items() if fill is not None}
        copied = CopiedFamily(
            delta=delta,
            member=member,
            spec=None if segment is None else segment.array.spec,
            coding=None if segment is None else segment.coding,
            values={name: (f"link:{name}", array.spec) for name, (array, _) in values.items() if array is not None},
            scale=self._scale(delta) if delta else None,
        )
        draft = LinkFamilyDraft(
            delta=delta,
            width=family.width,
            directed=delta != 0,
            count=0,
            values={name: kind for name, (_, kind) in values.items()},
            fills=fills,
        )
        self.families.append((copied, draft, family))

    def _link_values(
        self, family: LinkFamily
    ) -> dict[str, tuple[CellArray | None, tuple[np.dtype[Any], tuple[int, ...]]]]:
        found: dict[str, tuple[CellArray | None, tuple[np.dtype[Any], tuple[int, ...]]]] = {}
        for name in self.data.link_attribute_names:
            if name in self.leave_out:
                continue
            values = self.data.link_attribute(family, name)
            array = next(iter(values.cells.values()), None)
            dtype = array.spec.dtype if array is not None else values.table.dtype if values.table is not None else None
            if dtype is None:
                continue
            if array is not None:
                self.arrays.append((f"link:{name}", array))
            found[name] = array, (dtype, link_row_shape(self.data, family, values))
        return found

    def _scale(self, delta: int) -> tuple[IntArray, IntArray]:
        root = self.data.store.chunk_shape
        metas = (self.data.meta, self.opened.levels[self.level + delta].meta)
        first = np.ones(self.rank - len(root), np.int64)
        here, there = (np.concatenate([first, np.rint(m.chunk_shape / root).astype(np.int64)]) for m in metas)
        return here, there

    def _draft(self) -> LevelDraft:
        block = self.data.meta.block
        attributes = {name: block[name] for name in STILL_TRUE if block.get(name) is not None}
        present = {
            "object_index": self.data.object_index,
            "groups": self.data.group_index,
            "object_attributes": self.data.object_attributes or self.data.object_index,
            "group_attributes": self.data.group_attributes,
        }
        attributes["arrays_present"] = [name for name, value in present.items() if value]
        families = tuple(draft for _, draft, _ in self.families)
        return LevelDraft(
            level=self.level, rank=self.rank, arrays=tuple(self.drafts), families=families, attributes=attributes
        )

    def delayed(self, session: Any, notes: Notes) -> Any:
        """Delayed record of the level."""
        runs = chunk_runs(
            self.view, self.arrays, shards_of(self.view.table.coords, self.writer.grid, self.writer.encoding)
        )
        tables = [self._tables(copied, family, runs) for copied, _, family in self.families]
        owners = None if self.owners is None else delayed(split_owners, pure=False)(self.owners, runs)
        dense = {"object_attributes": self.data.object_attributes, "group_attributes": self.data.group_attributes}
        plan = shared(
            CopyPlan(
                source=self.data.source,
                writer=self.writer,
                vertices=self.data.vertices.spec,
                fragments=self.data.fragments.spec,
                attributes=tuple(self.attributes),
                families=tuple(copied for copied, _, _ in self.families),
                owners=CURRENT.fragment_owners(self._object_names()).path,
                objects=self.data.object_index,
                groups=self.data.group_index,
                draft=self._draft(),
                dense={
                    family: tuple(array for name, array in arrays.items() if name not in self.leave_out)
                    for family, arrays in dense.items()
                },
                notes=notes,
            )
        )
        task, done = delayed(copy_chunks, pure=False), []
        for run, wanted in enumerate(requested_of(self.view, self.arrays, runs)):
            of_run = [None if table is None else table[run] for table in tables]
            done.append(task(plan, wanted, of_run, None if owners is None else owners[run], session))
        return delayed(finish_level, pure=False)(plan, done, session)

    def _tables(self, copied: CopiedFamily, family: LinkFamily, runs: Sequence[IntArray]) -> Any:
        if family.table is None:
            return None
        coords, records = self.view.table.coords, family.table.records
        if copied.delta:
            return delayed(split_table, pure=True)(self.data.source, records, coords, runs)
        names = self.data.link_attribute_names
        tables = {name: self.data.link_attribute(family, name).table for name in names}
        values = {name: table for name, table in tables.items() if table is not None}
        return delayed(place_table, pure=True)(self.data.source, records, coords, values, runs)
