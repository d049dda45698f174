"""Checks of a root, and of a level once its chunks are known."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from zarr_vectors_lazy.check.chunk import UNKNOWN, Remarks, Summary
from zarr_vectors_lazy.errors import FormatError, counted, listed
from zarr_vectors_lazy.model.arrays import CellArray, DenseArray
from zarr_vectors_lazy.model.levels import Check, ChunkTable, Finding, Severity, StoreMeta, dotted
from zarr_vectors_lazy.model.objects import GroupIndex, Manifests, ObjectIndex
from zarr_vectors_lazy.read.level import LevelData, Source
from zarr_vectors_lazy.read.links import CellList
from zarr_vectors_lazy.read.objects import forget, read_dense, read_groups, read_ids, read_manifests
from zarr_vectors_lazy.read.store import OpenStore, stored_twice
from zarr_vectors_lazy.requests import ListSizes
from zarr_vectors_lazy.storage.fetch import fetch
from zarr_vectors_lazy.types import BoolArray, ChunkCoords, IntArray, Json
from zarr_vectors_lazy.write.in_place import read_nodes

# Checks of a level once its chunks are known: totals, ends of links, manifests, groups.


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FamilyCheck:
    """A link family whose ends are checked.

    Parameters
    ----------
    path
        Path of the family.
    other
        Level of the endpoints after the first; None for this level.
    stated
        Number of records that its metadata state, or None.
    members
        Name of each segment's cells.
    cells
        Its cells.
    table
        Records that name their chunks.
    """

    path: str
    other: int | None
    stated: int | None
    members: tuple[str, ...]
    cells: CellList
    table: DenseArray | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WholeCheck:
    """The checks of a level as a whole.

    Parameters
    ----------
    source
        The level.
    coords
        (n, K) its chunks.
    stated, sure
        Number of vertices that its metadata state, and whether its format makes that binding.
    families
        Its links.
    objects, groups
        Where manifests and groups are.
    dense
        Arrays with a row for each object, including those that repeat what manifests say.
    group_dense
        Arrays with a row for each group.
    """

    source: Source
    coords: ChunkCoords
    stated: int | None
    sure: bool
    families: tuple[FamilyCheck, ...]
    objects: ObjectIndex | None
    groups: GroupIndex | None
    dense: tuple[DenseArray, ...]
    group_dense: tuple[DenseArray, ...]
    tables: Mapping[int, ChunkCoords] = field(default_factory=dict)


def join_summaries(summaries: Sequence[Summary]) -> Summary:
    """Join the summaries of all chunks of a level."""
    joined = Summary()
    for summary in summaries:
        for name in ("rows", "fragments", "links", "owners", "sizes", "strays"):
            getattr(joined, name).update(getattr(summary, name))
        joined.findings.extend(summary.findings)
    return joined


def check_level(check: WholeCheck, summaries: Mapping[int, Summary]) -> list[Finding]:
    """Findings of a level, including those of its chunks.

    Parameters
    ----------
    summaries
        Of this level and of those that its links lead to.
    """
    here = summaries[check.source.level]
    found = list(here.findings)
    where = str(check.source.level)
    parts: tuple[tuple[Check, str, Callable[[], Remarks]], ...] = (
        ("counts", where, lambda: _totals(check, here)),
        *(("links", family.path, lambda f=family: _ends(check, f, summaries)) for family in check.families),
        ("manifests", f"{where}/object_index", lambda: _manifests(check, here)),
        ("manifests", f"{where}/groups", lambda: _groups(check)),
        *(("structure", array.path, lambda a=array: _dense(check, a, "objects")) for array in check.dense),
        *(("structure", array.path, lambda a=array: _dense(check, a, "groups")) for array in check.group_dense),
    )
    forget([check.source])  # what this process has read before may be damaged by now
    for kind, place, run in parts:
        try:
            found += [Finding(of, severity, place, message) for of, severity, message in run()]
        except FormatError as error:
            found.append(Finding(kind, "error", place, error.message))
    return found


def _array(values: Mapping[int, int], n: int) -> IntArray:
    out = np.full(n + 1, UNKNOWN, np.int64)  # the last entry is for chunk -1
    out[list(values)] = list(values.values())
    return out


def _totals(check: WholeCheck, here: Summary) -> Remarks:
    total = sum(here.rows.values())
    if check.stated is not None and len(here.rows) == len(check.coords) and total != check.stated:
        severity: Severity = "error" if check.sure and check.stated else "warning"
        yield "counts", severity, f"vertex_count states {check.stated!r}, but its chunks have {total}"
    strays = sum(count for count, _ in here.strays.values())
    if strays:
        farthest = max(reach for _, reach in here.strays.values())
        text = f"{counted(strays, 'row')} up to {farthest:.6g} outside their chunk, as in coarse levels of "
        yield "structure", "warning", text + "zarr-vectors-tools 0.3.0; boxes are widened, and stay exact"


def _ends(check: WholeCheck, family: FamilyCheck, summaries: Mapping[int, Summary]) -> Remarks:
    here = summaries[check.source.level]
    rows = _array(here.rows, len(check.coords))
    other = rows if family.other is None else _array(summaries[family.other].rows, len(check.tables[family.other]))
    total = 0
    cells = family.cells
    for segment, source, ends in zip(cells.segments.tolist(), cells.sources.tolist(), cells.ends, strict=True):
        count, tops = here.links.get((family.members[segment], source), (UNKNOWN, ()))
        if count == UNKNOWN:
            continue
        total += count
        for slot, (top, end) in enumerate(zip(tops, ends.tolist(), strict=True)):
            known = (other if slot else rows)[end]
            at = f"chunk {dotted(check.coords[source])}: a link"
            if top >= 0 and end < 0:
                yield "links", "error", f"{at} of {family.members[segment]} leads to a chunk that does not exist"
            elif known != UNKNOWN and top >= known:
                yield "links", "error", f"{at} of {family.members[segment]} names row {top} of a chunk that has {known}"
    if family.table is not None:
        records = read_dense(check.source, family.table)
        total += len(records)
        yield from _table(check, family, records, rows, other)
    if family.stated is not None and family.stated != total:
        yield "counts", "error", f"num_links states {family.stated}, but its cells have {total}"


def _table(check: WholeCheck, family: FamilyCheck, records: IntArray, rows: IntArray, other: IntArray) -> Remarks:
    for end in range(records.shape[1]):
        there = end > 0 and family.other is not None
        coords = check.tables[family.other] if there and family.other is not None else check.coords
        chunk = ChunkTable(coords).find(records[:, end, :-1])
        counts = (other if there else rows)[chunk]
        if (chunk < 0).any():
            yield "links", "error", f"{counted(int((chunk < 0).sum()), 'record')} leading to chunks that do not exist"
        wrong = (chunk >= 0) & (counts != UNKNOWN) & ((records[:, end, -1] >= counts) | (records[:, end, -1] < 0))
        if wrong.any():
            yield "links", "error", f"{counted(int(wrong.sum()), 'record')} naming rows that their chunks do not have"


def _manifests(check: WholeCheck, here: Summary) -> Remarks:
    index = check.objects
    if index is None:
        return
    for remark in index.remarks:
        yield "manifests", "warning", remark
    ids = read_ids(check.source, index)
    if len(np.unique(ids)) != len(ids):
        yield "manifests", "error", f"{len(ids) - len(np.unique(ids))} object ids occur twice"
    manifests = read_manifests(check.source, index)
    present = int(np.count_nonzero(np.diff(manifests.offsets)))
    if index.present is not None and present != index.present:
        yield "counts", "error", f"num_present states {index.present}, but {present} manifests are not empty"
    chunk = ChunkTable(check.coords).find(manifests.chunks)
    if (chunk < 0).any():
        coord = dotted(manifests.chunks[chunk < 0][0])
        strange = counted(int((chunk < 0).sum()), "entry")
        yield "manifests", "error", f"{strange} naming chunks that do not exist, such as {coord}"
    fragments = _array(here.fragments, len(check.coords))[chunk]
    wrong = (chunk >= 0) & (fragments != UNKNOWN) & ((manifests.fragments >= fragments) | (manifests.fragments < 0))
    if wrong.any():
        at = int(np.argmax(wrong))
        such = f"{manifests.fragments[at]} of chunk {dotted(manifests.chunks[at])}, which has {fragments[at]}"
        strange = counted(int(wrong.sum()), "entry")
        yield "manifests", "error", f"{strange} naming fragments that do not exist, such as {such}"
    stated, known = _of_fragments(here.owners, len(check.coords), manifests, chunk)
    wrong = int((stated != ids[manifests.owners[known]]).sum())
    if wrong:
        strange = counted(wrong, "fragment")
        yield "manifests", "error", f"{strange} of another object than that whose manifest names them"
    yield from _told(check, here, manifests, chunk, ids)


def _of_fragments(
    values: Mapping[int, IntArray], chunks: int, manifests: Manifests, chunk: IntArray
) -> tuple[IntArray, BoolArray]:
    """Values, by chunk and fragment, of the fragments that manifest entries name; (E,) of the entries that have one."""
    counts = np.zeros(chunks + 1, np.int64)
    for number, of_chunk in values.items():
        counts[number] = len(of_chunk)
    starts = np.cumsum(counts) - counts
    flat = np.concatenate([np.empty(0, np.int64), *(values[number] for number in sorted(values))])
    known = np.asarray((manifests.fragments >= 0) & (manifests.fragments < counts[chunk]))
    return flat[(starts[chunk] + manifests.fragments)[known]], known


def _told(check: WholeCheck, here: Summary, manifests: Manifests, chunk: IntArray, ids: IntArray) -> Remarks:
    """Compare what is stored about objects, for readers without manifests, with the manifests."""
    sizes, known = _of_fragments(here.sizes, len(check.coords), manifests, chunk)
    rows = np.bincount(manifests.owners[known], weights=sizes, minlength=len(manifests)).astype(np.int64)
    whole = np.bincount(manifests.owners[~known], minlength=len(manifests)) == 0  # other values are not known
    for array in check.dense:
        if not counts_vertices(array) and array.repeats != "ids":
            continue
        right = ids if array.repeats == "ids" else rows
        stated = read_dense(check.source, array)[: len(ids)]
        n = len(stated)
        # Older software leaves absent objects at the fill value, or at their value on a finer level.
        held = whole[:n] if array.repeats else whole[:n] & (rows[:n] > 0)
        wrong = np.flatnonzero((stated.astype(np.int64) != right[:n]) & held)
        if len(wrong):
            at = int(wrong[0])
            such = f"{stated[at]} of object {ids[at]}, not {right[at]}"
            text = f"{array.name} of {counted(len(wrong), 'object')} does not match their manifests, such as {such}"
            yield "counts", "error" if array.repeats else "warning", text


def counts_vertices(array: DenseArray) -> bool:
    """Whether an array of objects states how many vertices each has, as viewers read it."""
    return array.repeats == "vertices" or (
        array.name == "vertex_count" and array.dtype.kind in "iu" and len(array.shape) == 1
    )


def _groups(check: WholeCheck) -> Remarks:
    if check.groups is None:
        return
    names = check.groups.names
    if names and len(names) != check.groups.count:
        yield "counts", "error", f"{len(names)} group_names for {counted(check.groups.count, 'group')}"
    if len(set(names)) != len(names):
        yield "metadata", "warning", "two groups have the same name, which only finds the first"
    members = read_groups(check.source, check.groups)
    known = np.empty(0, np.int64) if check.objects is None else read_ids(check.source, check.objects)
    strangers = sum(int((~np.isin(ids, known)).sum()) for ids in members.values())
    if strangers:
        yield "manifests", "warning", f"{counted(strangers, 'member')} of groups not among the objects of the level"


def _dense(check: WholeCheck, array: DenseArray, of: Literal["objects", "groups"]) -> Remarks:
    """Rows of an array of objects or groups; each stored chunk is read once."""
    index = check.objects if of == "objects" else check.groups
    stored = array.shape[0] if array.present is None else array.present
    if index is not None and stored != index.count:
        severity: Severity = "error" if of == "groups" else "warning"
        yield "counts", severity, f"{counted(stored, 'row')} for {index.count} {of}: missing rows have the fill value"
    for start in range(0, array.shape[0], array.chunk_rows):
        read_dense(check.source, array, start, min(start + array.chunk_rows, array.shape[0]))


# Checks of what the root and the levels state, without reading any chunk.

GEOMETRIES = {"point_cloud", "line", "polyline", "streamline", "graph", "skeleton", "mesh"}
CONVENTIONS = {"implicit_sequential", "explicit", "implicit_sequential_with_branches"}
EXPLICIT = {"graph", "mesh"}
ADDITIVE = "additive_levels"
CELL = re.compile(r"(.+)/c[/.][0-9][0-9/.]*")


def check_root(opened: OpenStore) -> Iterator[Finding]:
    """Findings about the root, and about each level's place in the pyramid."""
    meta = opened.meta
    yield from _root(meta)
    if not opened.levels:
        yield Finding("structure", "error", "", "the store has no levels")
    for level in meta.level_names:
        if level not in opened.levels:
            yield Finding("structure", "warning", str(level), "the root names a level that does not exist")
    for data in opened.levels.values():
        if data.meta.deferred:
            text = "the level is still being written: arrays may list no chunks yet"
            yield Finding("metadata", "warning", str(data.meta.index), text)
        if data.meta.index not in meta.bins:
            text = "multiscales of the root does not name the level or state its bins"
            yield Finding("metadata", "warning", str(data.meta.index), text)
        yield from _level(data, opened)


def check_additive(opened: OpenStore) -> Iterator[Finding]:
    """Findings about levels that refine others (spec next, 4); this reads the ids of their objects."""
    adding = sorted(level for level, data in opened.levels.items() if data.meta.chain)
    if not adding:
        return
    for stated in ("required_capabilities", "format_capabilities"):
        if ADDITIVE not in (opened.meta.attributes["zarr_vectors"].get(stated) or []):
            verb = "requires" if stated.startswith("required") else "states"
            text = (
                f"levels {adding} refine others, but the root {verb} no {ADDITIVE!r}: readers take a part for the whole"
            )
            yield Finding("metadata", "error", "", text)
    for level in adding:
        try:
            twice = stored_twice(opened.complete[level])
        except FormatError as error:
            yield Finding("manifests", "error", f"{level}/object_index", error.message)
            continue
        if len(twice):
            text = f"objects {listed(twice)} are stored both here and on a level that this one refines"
            yield Finding("manifests", "error", f"{level}/object_index", text)


def _root(meta: StoreMeta) -> Iterator[Finding]:
    lo, hi = meta.bounds
    if not np.isfinite([lo, hi]).all() or (lo > hi).any():
        yield Finding("metadata", "error", "", f"bounds {lo.tolist()} to {hi.tolist()} are not a box")
    if meta.ndim < 2:
        yield Finding("metadata", "error", "", f"a store must have at least two axes, found {meta.axes}")
    if len(set(meta.axes)) != len(meta.axes):
        yield Finding("metadata", "error", "", f"two axes have the same name: {meta.axes}")
    for name in sorted(set(meta.geometry_types) - GEOMETRIES):
        yield Finding("metadata", "warning", "", f"geometry type {name!r} is not one of the format's")
    if meta.links_convention not in CONVENTIONS:
        yield Finding("metadata", "error", "", f"links_convention {meta.links_convention!r} is not one of the format's")
    elif EXPLICIT & set(meta.geometry_types) and meta.links_convention != "explicit" and len(meta.geometry_types) == 1:
        text = f"a {meta.geometry_types[0]} has explicit links, but links_convention states {meta.links_convention!r}"
        yield Finding("metadata", "warning", "", text)


def _level(data: LevelData, opened: OpenStore) -> Iterator[Finding]:
    meta, where = data.meta, str(data.meta.index)
    ratio = meta.chunk_shape / opened.meta.chunk_shape
    if (np.abs(ratio - np.rint(ratio)) > 1e-6).any() or (np.rint(ratio) < 1).any():
        text = f"chunk_shape {meta.chunk_shape.tolist()} is not a multiple of the root's"
        yield Finding("metadata", "error", where, text)
    if meta.index == 0 and not meta.bins_tile:
        text = f"bins {meta.bin_shape.tolist()} do not divide chunks {meta.chunk_shape.tolist()}"
        yield Finding("metadata", "warning", where, text)
    parent = meta.block.get("parent_level")
    if parent is not None and parent not in opened.levels:
        yield Finding("metadata", "warning", where, f"parent_level {parent!r} is not a level of the store")


def check_stray(data: LevelData, arrays: list[CellArray]) -> Iterator[Finding]:
    """Warnings about cells that are stored but not listed: readers ignore them (spec 0.9, 4.2).

    This makes one listing of the level, if the store can be listed and its metadata list chunks.
    """
    keys = {array.spec.path: array.spec.layout.object_keys(array.chunks.coords) for array in arrays}
    if not data.tree.backend.listable or not any(listed is not None for listed in keys.values()):
        return
    (sizes,) = fetch(data.tree.backend, [ListSizes(str(data.meta.index))])
    stored: dict[str, list[str]] = {}
    for key in sizes:
        cell = CELL.fullmatch(key)
        if cell:
            stored.setdefault(cell[1], []).append(key)
    for path, known in keys.items():
        if known is not None:
            stray = sorted(set(stored.get(path, ())).difference(known))
            if stray:
                text = f"{len(stray)} stored cells are not listed, and are therefore not read, such as {stray[0]!r}"
                yield Finding("structure", "warning", path, text)


def vertices_or_finding(data: LevelData) -> CellArray | Finding:
    """Return the vertices of a level, or why they cannot be read."""
    try:
        return data.vertices
    except FormatError as error:
        check: Check = "counts" if "vertex_counts" in error.message else "metadata"
        return Finding(check, "error", f"{data.meta.index}/vertices", error.message)


# Whether the root's consolidated metadata still match the documents of the nodes.

SAID = ("node_type", "shape", "data_type", "chunk_grid", "attributes")
REMEDY = "consolidate updates them, and consolidated=False ignores them"


def check_consolidated(opened: OpenStore) -> Iterator[Finding]:
    """Findings about the root's consolidated metadata, for a store that was opened without them.

    An error if this package's readers would use them, otherwise a warning, because Zarr always uses them. A node that
    they lack is not reported if they are not used. This reads the metadata of every node, if there are any.
    """
    root = opened.tree.node("")
    inline = None if root is None else root.doc.get("consolidated_metadata")
    entries = inline.get("metadata") if isinstance(inline, dict) else None
    if not isinstance(inline, dict) or not isinstance(entries, dict) or not opened.tree.backend.listable:
        return
    believed = opened.generation.trusts_consolidated(inline)
    severity: Severity = "error" if believed else "warning"
    nodes = {path: _said(doc) for path, doc in read_nodes(opened.tree).items()}
    stated = {path.strip("/"): _said(doc) for path, doc in entries.items()}
    gone = sorted(path for path in stated.keys() - nodes.keys())
    other = sorted(path for path in stated.keys() & nodes.keys() if stated[path] != nodes[path])
    unnamed = sorted(nodes.keys() - stated.keys()) if believed else []
    for paths, text in (
        (other, "contradict the node's own document"),
        (gone, "name a node that does not exist"),
        (unnamed, "do not name the node"),
    ):
        if paths:
            more = f", and of {len(paths) - 1} more" if len(paths) > 1 else ""
            yield Finding("metadata", severity, paths[0], f"the root's consolidated metadata {text}{more}; {REMEDY}")


def _said(doc: Any) -> Json:
    """The parts of a document that readers use, because Zarr's own consolidated metadata spell out other defaults."""
    if not isinstance(doc, dict):
        return {}
    codecs = [codec.get("name") for codec in doc.get("codecs") or () if isinstance(codec, dict)]
    said = {name: doc[name] for name in SAID if name in doc}
    return {**said, "attributes": doc.get("attributes") or {}, "codecs": codecs}
