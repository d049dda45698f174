"""Generation 0.9 behind the interface of ``format.base``, and how levels depend on each other."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.base import (
    MAX_DIGITS,
    NAMED,
    Children,
    Found,
    Generation,
    MetaSteps,
    Node,
    format_delta,
    parse_deltas,
)
from zarr_vectors_lazy.format.codecs import draco_vertices
from zarr_vectors_lazy.format.metadata import (
    MAX_INDEX,
    check_rank,
    parse_dense,
    parse_level,
    parse_root,
)
from zarr_vectors_lazy.format.v09.arrays import OUR_KEY, parse_cells, with_presence
from zarr_vectors_lazy.model.arrays import CellArray, DenseArray, LinkCoding, LinkFamily, LinkSegment, LinkValues
from zarr_vectors_lazy.model.levels import LevelMeta, StoreMeta
from zarr_vectors_lazy.model.objects import GroupIndex, ObjectIndex
from zarr_vectors_lazy.requests import together
from zarr_vectors_lazy.types import Floats, IntArray, Json

# What levels say in addition to their fields: how they were chunked, and about each other (spec next, 4, 14 and 16).

PLACED = frozenset({"none", "manual", "aggregate", "mesh_cluster"})
"""Methods that place every row by its position; others, except ``per_object``, may keep the chunks of their parent."""
REPLACE, ADD = "replace", "add"


LOST = "the store was rechunked by zarr-vectors, which dropped its links and the order of its vertices"
UNSAID = ("spatial", "object_id")
"""First chunk axes whose bins would be misunderstood: one for all, and ranges of ids."""
PRESENCE, DEFERRED = "zarr_vectors_presence", "deferred"


def read_further(meta: LevelMeta, store: StoreMeta) -> LevelMeta:
    """A level, with whether it is still being written, and the meaning of a first chunk axis that is not spatial.

    Spec next, 7 and 16.
    """
    block = meta.block
    if DEFERRED in (meta.attributes.get(PRESENCE), block.get(PRESENCE)):
        meta = replace(meta, deferred=True)
    dims, by = block.get("chunk_dims"), meta.chunk_attribute
    if not isinstance(dims, list) or len(dims) != store.ndim + 1 or not isinstance(dims[0], str):
        return meta
    lost = "" if by is None or (dims[0] == by[0] and by[1].dtype.kind in "iubU") else by[0]
    known = None if lost else by
    kinds = set(store.geometry_types) - {"point_cloud"} if known is None or not meta.vertex_count else set()
    return replace(
        meta,
        chunk_attribute=known,
        chunk_bins=dims[0] if by is None and dims[0] not in (*UNSAID, *store.axes) else "",
        chunk_lost=lost,
        edges_lost=LOST if kinds else "",
        objects_lost=LOST if kinds - {"graph", "mesh"} else "",
    )


def relate_levels(levels: Mapping[int, LevelMeta], store: StoreMeta) -> dict[int, LevelMeta]:
    """Add to each level what its metadata and those of the others say together.

    Raises
    ------
    FormatError
        If a level refines one that does not exist, or in a way that the format does not know.
    """
    return {
        index: replace(
            meta,
            strays=_strays(index, levels, store),
            chain=_chain(index, levels),
            vertex_count=None if _loose(meta) else meta.vertex_count,  # which counts bins, not rows
        )
        for index, meta in levels.items()
    }


def _loose(meta: LevelMeta) -> bool:
    """Whether zarr-vectors-tools 0.3.0 filed each bin's mean in the chunks of its source vertices."""
    block = meta.block
    return meta.index > 0 and block.get("coarsening_method") == "per_object" and not block.get("shared_fragments")


def _strays(index: int, levels: Mapping[int, LevelMeta], store: StoreMeta) -> tuple[Floats, ...] | None:
    """Bins by which rows of a level may lie outside their chunk: its own, or those of levels whose chunks it kept."""
    while index in levels:
        meta, block = levels[index], levels[index].block
        if _loose(meta):
            return (meta.bin_shape,) if index in store.bins else None
        parent = block.get("parent_level")
        placed = block.get("coarsening_method", "none") in PLACED or block.get("shared_fragments")
        if placed or not isinstance(parent, int) or not 0 <= parent < index:
            break
        index = parent
    return ()


def _chain(index: int, levels: Mapping[int, LevelMeta]) -> tuple[int, ...]:
    """Levels that together make up a level, beginning with itself."""
    chain = [index]
    while True:
        refinement = levels[chain[-1]].block.get("refinement", REPLACE)
        if refinement not in (REPLACE, ADD):
            text = f"refinement must be {REPLACE!r} or {ADD!r}, found {refinement!r}"
            raise FormatError(text, where=str(chain[-1]))
        if refinement == REPLACE:
            return tuple(chain) if len(chain) > 1 else ()
        if chain[-1] + 1 not in levels:
            text = f"level {chain[-1]} refines level {chain[-1] + 1}, which does not exist"
            raise FormatError(text, where=str(chain[-1]))
        chain.append(chain[-1] + 1)


# Generation 0.9 behind the interface of ``format.base``.

SELF = "self"
MAX_WIDTH = 64
_SEGMENT = re.compile(r"self|[-+0-9][-+0-9._]*")
LAYOUTS = ("vlen_manifests_v1", "vlen_manifests_v2")
DENSE = "dense_manifests_v1"

CAPABILITIES = frozenset(
    {
        "preserved_object_ids",
        "shared_fragments",
        "fragment_index",
        "multiscale_links",
        "fragment_link_groups",
        "additive_levels",
        "dense_manifests",
    }
)
FRAGMENT_OWNERS = "fragment_attributes/object_id"
SEGMENT_ID, VERTEX_COUNT = "segment_id", "vertex_count"
SEGMENTS = f"fragment_attributes/{SEGMENT_ID}"


class Generation09(Generation):
    """Stores written by zarr-vectors 0.9.x."""

    name = "0.9"
    changeable = True
    capabilities = CAPABILITIES
    families = NAMED | {"links": 3, "link_attributes": 4}

    def trusts_consolidated(self, consolidated: Json) -> bool:
        """True: Zarr finds every node."""
        return True

    def parse_store(self, root: Found, children: tuple[str, ...] | None) -> StoreMeta:
        """Parse the root (spec 0.9, 3.1 to 3.3)."""
        return parse_root(root, children)

    def parse_level(self, node: Found, store: StoreMeta, level: int) -> LevelMeta:
        """Parse a level's node (spec 0.9, 3.4)."""
        return read_further(parse_level(node, store, level), store)

    def relate(self, levels: dict[int, LevelMeta], store: StoreMeta) -> dict[int, LevelMeta]:
        """Add to each level what its metadata and those of the others say together (spec next, 4 and 14)."""
        return relate_levels(levels, store)

    def vertices(self, level: LevelMeta, store: StoreMeta) -> MetaSteps[CellArray]:
        """The positions (spec 0.9, 5.1)."""
        path = f"{level.index}/vertices"
        (node,) = yield [Node(path)]
        node = yield from with_presence(node, level)
        if node is None:
            raise FormatError(f"level {level.index} has no array 'vertices'", where=path)
        encoding = node.attributes.get("encoding", "raw")
        if encoding not in ("raw", "draco"):
            raise FormatError(f"vertices are encoded as {encoding!r}; 'raw' and 'draco' can be read", where=path)
        array = parse_cells(node, row_shape=(store.ndim,))
        if array.spec.dtype.kind not in "fiu":
            raise FormatError(f"vertices must be numbers, found dtype {array.spec.dtype}", where=path)
        check_rank(array, store.ndim, store.ndim + 1)
        return array if encoding == "raw" else draco_vertices(array)

    def fragments(self, level: LevelMeta, vertices: CellArray) -> MetaSteps[CellArray]:
        """The fragment indexes (spec 0.9, 5.2)."""
        path = f"{level.index}/vertex_fragments"
        (node,) = yield [Node(path)]
        node = yield from with_presence(node, level)
        if node is None:
            raise FormatError(f"level {level.index} has no array 'vertex_fragments'", where=path)
        return check_rank(parse_cells(node, default_dtype="uint8", row_shape=(), beside=vertices), vertices.chunks.rank)

    def fragment_owners(self, level: LevelMeta, vertices: CellArray) -> MetaSteps[CellArray | None]:
        """Return the id of the object of each fragment (spec 0.9, 6); None unless all chunks have them."""
        node = None
        if OUR_KEY in vertices.attributes:  # ours are ids where others are rows (spec next, 20), under the same name
            (node,) = yield [Node(f"{level.index}/{SEGMENTS}")]
            ours = {} if node is None else node.attributes.get(OUR_KEY)
            node = node if isinstance(ours, dict) and ours.get("owners") == "ids" else None
        if node is None:
            (node,) = yield [Node(f"{level.index}/{FRAGMENT_OWNERS}")]
        if node is None or level.deferred or level.block.get("shared_fragments"):
            return None
        array = check_rank(parse_cells(node, row_shape=(), beside=vertices), vertices.chunks.rank)
        same = np.array_equal(array.chunks.coords, vertices.chunks.coords)
        return array if same and array.spec.dtype.kind in "iu" else None

    def attribute_names(self, level: LevelMeta) -> MetaSteps[tuple[str, ...]]:
        """Names of the stored vertex attributes, sorted (spec 0.9, 6)."""
        folder = f"{level.index}/vertex_attributes"
        (names,) = yield [Children(folder)]
        nodes = yield [Node(f"{folder}/{name}") for name in names]
        return tuple(
            sorted(name for name, node in zip(names, nodes, strict=True) if node is None or not node.unfinished)
        )

    def has_attribute(self, level: LevelMeta, name: str) -> MetaSteps[bool]:
        """Whether there is such a stored vertex attribute; requests no other document, which may list 10^6 chunks."""
        folder = f"{level.index}/vertex_attributes"
        (names,) = yield [Children(folder)]
        if name not in names:
            return False
        (node,) = yield [Node(f"{folder}/{name}")]
        return node is None or not node.unfinished

    def attribute(self, level: LevelMeta, vertices: CellArray, name: str) -> MetaSteps[CellArray]:
        """Return a stored vertex attribute (spec 0.9, 6)."""
        path = f"{level.index}/vertex_attributes/{name}"
        (node,) = yield [Node(path)]
        node = yield from with_presence(node, level)
        if node is None:
            raise FormatError(f"vertex_attributes/{name} has no zarr.json", where=path)
        return check_rank(parse_cells(node, default_dtype="", beside=vertices), vertices.chunks.rank)

    def deltas(self, level: LevelMeta) -> MetaSteps[tuple[int, ...]]:
        """Deltas of a level's families, ascending (spec 0.9, 7.1)."""
        (names,) = yield [Children(f"{level.index}/links")]
        return tuple(sorted(parse_deltas(names)))

    def links(self, level: LevelMeta, store: StoreMeta, delta: int) -> MetaSteps[LinkFamily | None]:
        """Read a family's policy and its segments; None if there is no usable one (spec 0.9, 7.1)."""
        path = f"{level.index}/links/{format_delta(delta)}"
        group, names = yield [Node(path), Children(path)]
        if group is None and names:
            raise FormatError("a family of links has segments but no zarr.json of its own", where=path)
        if group is None or "link_width" not in group.attributes or "sid_ndim" not in group.attributes:
            return None
        width, rank = _small(group, "link_width"), _small(group, "sid_ndim")
        if rank not in (store.ndim, store.ndim + 1):
            raise FormatError(f"sid_ndim {rank} is not possible in a store of {store.ndim} axes", where=group.path)
        directed, duplicate = (
            bool(group.attributes.get("directed", False)),
            group.attributes.get("store") == "duplicate",
        )
        nodes = yield [Node(f"{path}/{name}") for name in sorted(names)]
        if level.deferred:
            nodes = yield from together([with_presence(node, level) for node in nodes])
        segments = []
        for name, node in zip(sorted(names), nodes, strict=True):
            if node is None and _SEGMENT.fullmatch(name):
                raise FormatError("it is listed but has no zarr.json", where=f"{path}/{name}")
            if node is None or node.doc.get("node_type") != "array":
                continue
            offsets = parse_offsets(name, width, rank, node.path)
            if duplicate and not _leads(offsets):
                continue  # a duplicate: the one that begins in its lowest chunk is kept
            intra = not offsets.any()
            permuted = not intra and delta == 0 and (duplicate or not directed)
            array = check_rank(parse_cells(node, default_dtype="int64", row_shape=()), rank)
            coding = LinkCoding(
                width=width,
                dtype=array.spec.dtype,
                grouped=not intra or delta != 0,
                permuted=bool(node.attributes.get("has_perm", permuted)),
                reversed=directed and not intra and delta == 0 and "skeleton" in store.geometry_types,
            )
            if array.spec.dtype.kind not in "iu":
                raise FormatError(f"links must be integers, found dtype {array.spec.dtype}", where=node.path)
            segments.append(LinkSegment(array=array, name=name, offsets=offsets, coding=coding))
        stated = group.attributes.get("num_links")
        return LinkFamily(
            delta=delta,
            width=width,
            directed=directed,
            segments=tuple(segments),
            stated=stated if isinstance(stated, int) else None,
        )

    def link_fragments(self, level: LevelMeta, vertices: CellArray) -> MetaSteps[CellArray | None]:
        """The fragment indexes of the links inside chunks; None if there are none (spec 0.9, 5.2)."""
        (node,) = yield [Node(f"{level.index}/link_fragments")]
        node = yield from with_presence(node, level)
        return None if node is None else parse_cells(node, default_dtype="uint8", row_shape=())

    def link_attribute_names(self, level: LevelMeta, delta: int) -> MetaSteps[tuple[str, ...]]:
        """Names of the attributes of a family, sorted (spec 0.9, 7.5)."""
        (names,) = yield [Children(f"{level.index}/link_attributes")]
        families = yield [Children(f"{level.index}/link_attributes/{name}") for name in names]
        return tuple(sorted(name for name, below in zip(names, families, strict=True) if delta in parse_deltas(below)))

    def link_attribute(self, level: LevelMeta, family: LinkFamily, name: str) -> MetaSteps[LinkValues]:
        """Cells of an attribute by segment name; segments without values are left out (spec 0.9, 7.5)."""
        path = f"{level.index}/link_attributes/{name}/{format_delta(family.delta)}"
        nodes = yield [Node(f"{path}/{segment.name}") for segment in family.segments]
        if level.deferred:
            nodes = yield from together([with_presence(node, level) for node in nodes])
        found = zip(family.segments, nodes, strict=True)
        return LinkValues(
            cells={at.name: parse_cells(node, default_dtype="") for at, node in found if node is not None}
        )

    def objects(self, level: LevelMeta, vertices: CellArray) -> MetaSteps[ObjectIndex | None]:
        """Read where a level's manifests are (spec 0.9, 8; spec next, 5 and 6).

        Raises
        ------
        FormatError
            If the layout is unknown or an array of it is missing.
        """
        path, rank = f"{level.index}/object_index", vertices.chunks.rank
        group, manifests, ids = yield [Node(path), Node(f"{path}/manifests"), Node(f"{path}/object_ids")]
        if group is None:
            if manifests is not None or ids is not None:
                raise FormatError("an object index has arrays but no zarr.json of its own", where=path)
            return None
        layout = group.attributes.get("layout", LAYOUTS[0])
        if layout not in (*LAYOUTS, DENSE):
            raise FormatError(f"object index layout must be one of {(*LAYOUTS, DENSE)}, found {layout!r}", where=path)
        declared = group.attributes.get("sid_ndim", rank)
        if declared != rank:
            raise FormatError(f"manifests have {declared!r} chunk components, but the vertices {rank}", where=path)
        nodes: list[Found | None] = [None, None]
        if layout == DENSE or manifests is None:  # a dense index may claim to be another: its arrays decide
            nodes = yield [Node(f"{path}/manifest_spans"), Node(f"{path}/manifest_blocks")]
        count, present = group.attributes.get("num_objects"), group.attributes.get("num_present")
        if nodes[0] is None and manifests is None and layout != DENSE:
            if count:
                raise FormatError(f"the index states {count} objects but has no manifests", where=path)
            return ObjectIndex(count=0, rank=rank, manifests=None, ids=None, digest=group.digest)
        dense = nodes[0] is not None or layout == DENSE
        rows = _spans(nodes, rank) if dense else {"manifests": _vlen(manifests)}
        first = next(iter(rows.values()))
        total = _committed(count, first.shape[0], path)
        if layout == LAYOUTS[1] and ids is None and not dense:
            raise FormatError(f"layout {layout!r} needs the array 'object_ids'", where=path)
        id_rows = parse_dense(ids, "object_ids") if ids is not None and (dense or layout == LAYOUTS[1]) else None
        if id_rows is not None and (
            id_rows.shape[0] < total or len(id_rows.shape) != 1 or id_rows.dtype.kind not in "iu"
        ):
            raise FormatError(f"object_ids {id_rows.shape} of {id_rows.dtype} for {total} objects", where=path)
        digests = [node.digest for node in (manifests, *nodes, ids) if node is not None]
        return ObjectIndex(
            count=total,
            rank=rank,
            manifests=None if dense else replace(first, shape=(total,)),
            spans=replace(first, shape=(total, 2)) if dense else None,
            blocks=rows.get("blocks"),
            ids=None if id_rows is None else replace(id_rows, shape=(total,)),
            present=present if isinstance(present, int) and present <= total else None,
            digest=group.digest + "".join(digests),
            exclusive=rank > len(level.chunk_shape) and not level.block.get("shared_fragments"),
            lost=level.objects_lost,
            remarks=_remarks(first.shape[0], total, layout if dense else DENSE),
        )

    def object_attributes(self, level: LevelMeta) -> MetaSteps[dict[str, DenseArray]]:
        """Arrays over objects by name, marked if our writers repeat in them what manifests say."""
        found = yield from _find_dense(level.index, "object_attributes")
        ours = {name: array.attributes.get(OUR_KEY) for name, array in found.items()}
        told = {name: str(said.get("repeats") or "") for name, said in ours.items() if isinstance(said, dict)}
        return {name: replace(array, repeats=told.get(name, "")) for name, array in found.items()}

    def groups(self, level: LevelMeta) -> MetaSteps[GroupIndex | None]:
        """Where a level's groups are; None if there are none (spec 0.9, 8)."""
        (node,) = yield [Node(f"{level.index}/groups")]
        if node is None:
            return None
        members = parse_dense(node, "groups")
        names = node.attributes.get("group_names") or []
        ranges = node.attributes.get("group_ranges") or {}
        if not isinstance(names, list) or not isinstance(ranges, dict):
            raise FormatError(f"group_names must be a list, group_ranges an object; found {names!r}", where=node.path)
        return GroupIndex(
            members=members,
            count=members.shape[0],
            names=tuple(str(name) for name in names),
            ranges={_group(group, node.path): _range(bounds, node.path) for group, bounds in ranges.items()},
        )

    def group_attributes(self, level: LevelMeta) -> MetaSteps[dict[str, DenseArray]]:
        """Arrays over groups, by name."""
        return _find_dense(level.index, "group_attributes")


# Link families and their attributes (spec 0.9, 7).


def parse_offsets(segment: str, width: int, rank: int, where: str) -> IntArray:
    """(width - 1, rank) chunk offsets that a segment's name states (spec 0.9, 7.1).

    Raises
    ------
    FormatError
        If the name has another number of offsets or components.
    """
    if segment == SELF and width == 1:
        return np.empty((0, rank), np.int64)
    try:
        offsets = [[int(part) for part in offset.split(".")] for offset in segment.split("_")]
    except ValueError as error:
        raise FormatError(f"{segment!r} states no chunk offsets", where=where) from error
    if len(offsets) != width - 1 or any(len(offset) != rank for offset in offsets):
        raise FormatError(f"{segment!r} must state {width - 1} offsets of {rank} components", where=where)
    if any(abs(part) > MAX_INDEX for offset in offsets for part in offset):
        raise FormatError(f"{segment!r} states absurd offsets", where=where)
    return np.asarray(offsets, np.int64).reshape(width - 1, rank)


def _leads(offsets: IntArray) -> bool:
    """Whether endpoint 0 lies in the lowest chunk of the record."""
    first = [next((int(part) for part in offset if part), 0) for offset in offsets]
    return all(part >= 0 for part in first)


def _small(group: Found, name: str) -> int:
    value = group.attributes[name]
    if not isinstance(value, int) or not 1 <= value <= MAX_WIDTH:
        raise FormatError(f"{name} must be a number from 1 to {MAX_WIDTH}, found {value!r}", where=group.path)
    return value


# Object index, object attributes and groups (spec 0.9, 8).


def _remarks(rows: int, total: int, layout: str) -> tuple[str, ...]:
    """What is odd about an index but harmless for our readers; ``layout`` is what a dense one states."""
    found = []
    if rows > total:
        text = f"{rows - total} rows past num_objects ({total}), reserved or left by a killed append: not objects"
        found.append(text)
    if layout != DENSE:
        found.append(f"the index is dense, but its layout states {layout!r}: readers that trust it find no objects")
    return tuple(found)


def _vlen(node: Found | None) -> DenseArray:
    rows = parse_dense(node, "manifests")
    if not rows.dtype.hasobject or len(rows.shape) != 1:
        raise FormatError(f"manifests must be bytes, found {rows.shape} of {rows.dtype}", where=rows.path)
    return rows


def _spans(nodes: Sequence[Found | None], rank: int) -> dict[str, DenseArray]:
    spans, blocks = parse_dense(nodes[0], "manifest_spans"), parse_dense(nodes[1], "manifest_blocks")
    for array, width in ((spans, 2), (blocks, rank + 1)):
        if array.dtype.kind not in "iu" or array.shape[1:] != (width,):
            text = f"{array.name} must be whole numbers, {width} in each row, found {array.shape} of {array.dtype}"
            raise FormatError(text, where=array.path)
    return {"spans": spans, "blocks": blocks}


def _committed(count: Any, rows: int, where: str) -> int:
    """Rows that are objects: those past ``num_objects`` were reserved, or left by a killed append."""
    if count is None:
        return rows
    if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= rows:
        raise FormatError(f"num_objects is {count!r}, but the index has {rows} rows", where=where)
    return count


def _find_dense(level: int, family: str) -> MetaSteps[dict[str, DenseArray]]:
    """Dense arrays below ``<level>/<family>``, by name, sorted."""
    (names,) = yield [Children(f"{level}/{family}")]
    nodes = yield [Node(f"{level}/{family}/{name}") for name in names]
    found = zip(names, nodes, strict=True)
    return {name: parse_dense(node, name) for name, node in found if node and node.doc.get("node_type") == "array"}


def _group(name: str, where: str) -> int:
    if not name.isdecimal() or len(name) > MAX_DIGITS:
        raise FormatError(f"group_ranges names the group {name!r}, expected its number", where=where)
    return int(name)


def _range(bounds: Any, where: str) -> tuple[int, int]:
    if not isinstance(bounds, list) or len(bounds) != 2 or not all(isinstance(b, int) for b in bounds):
        raise FormatError(f"a group range must be [start, stop], found {bounds!r}", where=where)
    if not -MAX_INDEX <= bounds[0] <= bounds[1] <= MAX_INDEX:
        raise FormatError(f"a group range must ascend, found {bounds!r}", where=where)
    return bounds[0], bounds[1]
