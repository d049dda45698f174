"""Generation 0.7 behind the interface of ``format.base``."""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.base import (
    COMPLETE,
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
    check_rank,
    parse_dense,
    parse_dtype,
    parse_integers,
    parse_level,
    parse_root,
)
from zarr_vectors_lazy.format.v07.cells import DenseBlob, LostColumn, RaggedBlob, find_cells
from zarr_vectors_lazy.model.arrays import (
    CellArray,
    DenseArray,
    LinkCoding,
    LinkFamily,
    LinkSegment,
    LinkTable,
    LinkValues,
)
from zarr_vectors_lazy.model.levels import LevelMeta, StoreMeta
from zarr_vectors_lazy.model.objects import GroupIndex, ObjectIndex
from zarr_vectors_lazy.types import Json

TREE = "implicit_sequential_with_branches"
PATHS = frozenset({"line", "polyline", "streamline"})
CHUNK_ATTRIBUTE = ("chunk_attribute_name", "chunk_attribute_values")

WITHIN, ACROSS = "links", "cross_chunk_links"
VALUES_WITHIN, VALUES_ACROSS = "link_attributes", "cross_chunk_link_attributes"
INSIDE = "same chunk"
MAX_WIDTH = 64
INTEGER = np.dtype("<i8")
LAYOUT = "vlen_manifests_v1"
OBJECT = np.dtype(object)


class Generation07(Generation):
    """Stores written by zarr-vectors 0.2.0."""

    name = "0.7"
    changeable = False
    capabilities: frozenset[str] = frozenset()
    families = NAMED | {"links": 2, "cross_chunk_links": 2, "link_attributes": 3, "cross_chunk_link_attributes": 3}

    def trusts_consolidated(self, consolidated: Json) -> bool:
        """Whether a complete writer left its mark, because Zarr's own leaves out nodes (spec 0.7, 3.1)."""
        return COMPLETE in consolidated

    def parse_store(self, root: Found, children: tuple[str, ...] | None) -> StoreMeta:
        """Parse the root (spec 0.7, 2)."""
        meta = parse_root(root, children)
        if "skeleton" in meta.geometry_types:  # the root's convention is that of the first writer
            return replace(meta, links_convention=TREE)
        return meta

    def parse_level(self, node: Found, store: StoreMeta, level: int) -> LevelMeta:
        """Parse a level's node (spec 0.7, 2); a chunk axis without values is not an attribute (3.2)."""
        block = node.attributes.get("zarr_vectors_level")
        if isinstance(block, dict) and None in (block.get(name) for name in CHUNK_ATTRIBUTE):
            bare = {name: value for name, value in block.items() if name not in CHUNK_ATTRIBUTE}
            doc = {**node.doc, "attributes": {**node.attributes, "zarr_vectors_level": bare}}
            node = replace(node, doc=doc)
        meta = parse_level(node, store, level)
        return replace(meta, count_is_sure=False, edges_lost=_edges_lost(meta, store))

    def vertices(self, level: LevelMeta, store: StoreMeta) -> MetaSteps[CellArray]:
        """The positions (spec 0.7, 4.1)."""
        path = f"{level.index}/vertices"
        node, finest = yield [Node(path), Node("0/vertices")]
        if node is None or len(store.geometry_types) > 1:
            (composite,) = yield [Node(f"{level.index}/geometry_index")]
            if composite is not None:
                raise FormatError(f"level {level.index} has several geometries, which is not supported", where=path)
        if node is None:
            raise FormatError(f"level {level.index} has no group 'vertices'", where=path)
        encoding = node.attributes.get("encoding", "raw")
        if encoding not in ("raw", "draco"):
            raise FormatError(f"vertices are encoded as {encoding!r}; 'raw' and 'draco' can be read", where=path)
        _check_coarsening(level, finest)
        array = yield from find_cells(path, _ranks(level, store), dtype="float32", row_shape=(store.ndim,))
        assert array is not None  # its node exists
        if level.vertex_count and not len(array.chunks):
            raise FormatError(f"the level states {level.vertex_count} vertices but has no chunk", where=path)
        if array.spec.dtype.kind not in "fiu":
            raise FormatError(f"vertices must be numbers, found dtype {array.spec.dtype}", where=path)
        by = level.chunk_attribute
        if by is not None and ((array.chunks.coords[:, 0] < -1) | (array.chunks.coords[:, 0] >= len(by[1]))).any():
            raise FormatError(f"chunks have values of {by[0]!r} beyond the {len(by[1])} listed", where=path)
        return _counted(array) if encoding == "raw" else draco_vertices(array)

    def fragments(self, level: LevelMeta, vertices: CellArray) -> MetaSteps[CellArray]:
        """The fragment indexes (spec 0.7, 4.2)."""
        path = f"{level.index}/vertex_fragments"
        array = yield from find_cells(path, (vertices.chunks.rank,), dtype="uint8", row_shape=(), headed=True)
        if array is None:
            raise FormatError(f"level {level.index} has no group 'vertex_fragments'", where=path)
        return array

    def fragment_owners(self, level: LevelMeta, vertices: CellArray) -> MetaSteps[CellArray | None]:
        """None, because only manifests state them."""
        yield from ()
        return None

    def attribute_names(self, level: LevelMeta) -> MetaSteps[tuple[str, ...]]:
        """Names of the stored vertex attributes, sorted."""
        (names,) = yield [Children(f"{level.index}/vertex_attributes")]
        return tuple(sorted(names))

    def has_attribute(self, level: LevelMeta, name: str) -> MetaSteps[bool]:
        """Whether there is such a stored vertex attribute."""
        names = yield from self.attribute_names(level)
        return name in names

    def attribute(self, level: LevelMeta, vertices: CellArray, name: str) -> MetaSteps[CellArray]:
        """Return a stored vertex attribute (spec 0.7, 4.6)."""
        path = f"{level.index}/vertex_attributes/{name}"
        array = yield from find_cells(path, (vertices.chunks.rank,))
        if array is None:
            raise FormatError(f"vertex_attributes/{name} does not exist", where=path)
        return check_rank(array, vertices.chunks.rank)

    def deltas(self, level: LevelMeta) -> MetaSteps[tuple[int, ...]]:
        """Deltas of the families that have records, ascending."""
        within, across = yield [Children(f"{level.index}/{WITHIN}"), Children(f"{level.index}/{ACROSS}")]
        cells, tables = sorted(parse_deltas(within)), sorted(parse_deltas(across))
        listed = yield [Children(f"{level.index}/{WITHIN}/{format_delta(delta)}") for delta in cells]
        nodes = yield [Node(f"{level.index}/{ACROSS}/{format_delta(delta)}") for delta in tables]
        found = {delta for delta, names in zip(cells, listed, strict=True) if names}
        found |= {delta for delta, node in zip(tables, nodes, strict=True) if node is not None and _records(node)}
        return tuple(sorted(found))

    def links(self, level: LevelMeta, store: StoreMeta, delta: int) -> MetaSteps[LinkFamily | None]:
        """Read where a family's records are; None if there are none.

        Records inside chunks come first, by chunk, followed by those that name their chunks, in the order in which they
        were written.
        """
        ranks = _ranks(level, store)
        paths = [f"{level.index}/{kind}/{format_delta(delta)}" for kind in (WITHIN, ACROSS)]
        within, across = yield list(map(Node, paths))
        cells = yield from find_cells(paths[0], ranks, dtype="int64", row_shape=(), headed=delta != 0)
        table = None if across is None or not _records(across) else _table(across, ranks)
        if cells is not None and not len(cells.chunks):
            cells = None
        if cells is None and table is None:
            return None
        widths = {_width(node) for node, used in ((within, cells), (across, table)) if used is not None}
        if len(widths) != 1 or 0 in widths:
            raise FormatError(f"link_width is {sorted(widths)} for records of one family", where=paths[0])
        (width,) = widths
        segments = () if cells is None else (_segment(cells, width, delta),)
        return LinkFamily(
            delta=delta, width=width, directed=True, segments=segments, table=table, same_key=True, parted=True
        )

    def link_fragments(self, level: LevelMeta, vertices: CellArray) -> MetaSteps[CellArray | None]:
        """The fragment indexes of the links inside chunks; None if there are none (spec 0.7, 4.3)."""
        path = f"{level.index}/link_fragments"
        return find_cells(path, (vertices.chunks.rank,), dtype="uint8", row_shape=(), headed=True)

    def link_attribute_names(self, level: LevelMeta, delta: int) -> MetaSteps[tuple[str, ...]]:
        """Names of the attributes of a family, sorted."""
        folders = [f"{level.index}/{kind}" for kind in (VALUES_WITHIN, VALUES_ACROSS)]
        listed = yield list(map(Children, folders))
        paths = [(name, f"{folder}/{name}") for folder, names in zip(folders, listed, strict=True) for name in names]
        deltas = yield [Children(path) for _, path in paths]
        return tuple(
            sorted({name for (name, _), below in zip(paths, deltas, strict=True) if delta in parse_deltas(below)})
        )

    def link_attribute(self, level: LevelMeta, family: LinkFamily, name: str) -> MetaSteps[LinkValues]:
        """Values of a family's links; for links that name their chunks the writer stored none (spec 0.7, 9.3)."""
        delta = format_delta(family.delta)
        ranks = {segment.array.chunks.rank for segment in family.segments}
        if family.table is not None:
            ranks.add(family.table.records.shape[2] - 1)
        cells = yield from find_cells(f"{level.index}/{VALUES_WITHIN}/{name}/{delta}", tuple(ranks))
        path = f"{level.index}/{VALUES_ACROSS}/{name}/{delta}"
        (node,) = yield [Node(path)]
        table = None if node is None or family.table is None else parse_stored(node, f"{path}/data", name)
        if table is not None and family.table is not None and table.shape[0] != family.table.records.shape[0]:
            raise FormatError(f"{table.shape[0]} values for {family.table.records.shape[0]} links", where=path)
        return LinkValues(cells={} if cells is None else {INSIDE: cells}, table=table)

    def objects(self, level: LevelMeta, vertices: CellArray) -> MetaSteps[ObjectIndex | None]:
        """Read where a level's manifests are.

        Raises
        ------
        FormatError
            If the layout is unknown or an array of it is missing.
        """
        path, rank = f"{level.index}/object_index", vertices.chunks.rank
        group, manifests = yield [Node(path), Node(f"{path}/manifests")]
        if group is None:
            return None
        # a placeholder, which the writer leaves if there were no objects
        if group.attributes.get("num_objects") is None:
            (data,) = yield [Node(f"{path}/data")]
            if manifests is None and data is None:
                return None
        layout, declared = group.attributes.get("layout"), group.attributes.get("sid_ndim", rank)
        if layout not in (None, LAYOUT):
            raise FormatError(f"object index layout must be {LAYOUT!r} or absent, found {layout!r}", where=path)
        if declared != rank:
            raise FormatError(f"manifests have {declared!r} chunk components, but the vertices {rank}", where=path)
        count = _count(group, "num_objects")
        if not count:
            return ObjectIndex(count=0, rank=rank, manifests=None, ids=None, digest=group.digest)
        if layout is None:
            rows = _ragged(path, "manifests", count)
            return ObjectIndex(
                count=count, rank=rank, manifests=rows, ids=None, digest=group.digest, blank_is_lost=True
            )
        if manifests is None:
            raise FormatError(f"the index states {count} objects but has no manifests", where=path)
        rows = parse_dense(manifests, "manifests")
        if not rows.dtype.hasobject or rows.shape != (count,):
            raise FormatError(f"manifests {rows.shape} of {rows.dtype} for {count} objects", where=rows.path)
        digest = group.digest + manifests.digest
        return ObjectIndex(count=count, rank=rank, manifests=rows, ids=None, digest=digest, blank_is_lost=True)

    def object_attributes(self, level: LevelMeta) -> MetaSteps[dict[str, DenseArray]]:
        """Arrays over objects by name, sorted; rows of dropped objects have the fill value."""
        (index,) = yield [Node(f"{level.index}/object_index")]
        arrays = yield from _find_dense(level.index, "object_attributes")
        count = None if index is None or "num_objects" not in index.attributes else _count(index, "num_objects")
        for array in arrays.values():
            if count is not None and array.shape[0] != count:
                raise FormatError(f"{array.shape[0]} rows for {count} objects", where=array.path)
        return arrays

    def groups(self, level: LevelMeta) -> MetaSteps[GroupIndex | None]:
        """Where a level's groups are; None if there are none."""
        path = f"{level.index}/groups"
        (node,) = yield [Node(path)]
        if node is None or node.attributes.get("num_groups") is None:
            return None
        count = _count(node, "num_groups")
        return GroupIndex(members=_ragged(path, "groups", count), count=count, names=(), ranges={})

    def group_attributes(self, level: LevelMeta) -> MetaSteps[dict[str, DenseArray]]:
        """Arrays over groups, by name."""
        return _find_dense(level.index, "group_attributes")


def _ranks(level: LevelMeta, store: StoreMeta) -> tuple[int, ...]:
    """Components that chunks may have: one more than there are axes if the level is chunked by an attribute."""
    return (store.ndim + 1,) if level.chunk_attribute is not None else (store.ndim, store.ndim + 1)


def _edges_lost(level: LevelMeta, store: StoreMeta) -> str:
    """Why edges and faces of a level cannot be read (spec 0.7, 9.6 and 9.7), or an empty text."""
    kinds = set(store.geometry_types)
    block = level.block
    by_attribute = block.get("chunk_attribute_name") is not None
    if block.get("chunk_dims") and not (by_attribute and level.vertex_count) and kinds - {"point_cloud"}:
        return "the store was rechunked by zarr-vectors 0.2.0, which dropped its links and the order of its vertices"
    rules = [kinds & PATHS, kinds & {"graph", "mesh"}, kinds & {"skeleton"}]
    if sum(map(bool, rules)) > 1 or ("skeleton" in kinds and len(kinds) > 1):
        return f"{sorted(kinds)} were written to one path, and which vertices are joined by which rule was not stored"
    return ""


def _counted(array: CellArray) -> CellArray:
    """The positions with their counts, if packs state them (spec 0.7, 3.4)."""
    if array.places is None or (array.places.pack < 0).any():
        return array
    sizes = array.places.stops - array.places.starts
    row = array.spec.dtype.itemsize * math.prod(array.spec.row_shape or ())
    if (sizes % row).any():
        bad = int(sizes[sizes % row != 0][0])
        raise FormatError(
            f"a packed chunk of {bad} bytes is not a whole number of {row}-byte rows", where=array.spec.path
        )
    return replace(array, counts=sizes // row)


def _check_coarsening(level: LevelMeta, finest: Found | None) -> None:
    """Refuse coarse levels that the 0.2.0 builder made from positions that it misread (spec 0.7, 9.5)."""
    method = level.block.get("coarsening_method")
    stated = "float32" if finest is None else finest.attributes.get("dtype", "float32")
    dtype = parse_dtype(stated, "" if finest is None else finest.path)
    if level.index and method == "per_object" and dtype != np.float32:
        raise FormatError(
            f"level {level.index} was built by zarr-vectors 0.2.0 from {dtype} positions read as float32: its vertices "
            "are garbage; level 0 is correct",
            where=f"{level.index}/vertices",
        )


def parse_stored(node: Found, path: str, name: str, mask: str | None = None) -> DenseArray:
    """Dense rows with the dtype and shape that a group states (spec 0.7, 4.8).

    Raises
    ------
    FormatError
        If it does not state them.
    """
    shape = parse_integers(node.attributes.get("shape"), "shape", node.path)
    if not shape or min(shape) < 0:
        raise FormatError(f"expected rows, found shape {list(shape)}", where=node.path)
    dtype = parse_dtype(node.attributes.get("dtype"), node.path)
    stored = DenseBlob(path=path, dtype=dtype, shape=shape, mask=mask)
    return DenseArray(path=node.path, name=name, shape=shape, dtype=dtype, chunk_rows=max(shape[0], 1), stored=stored)


def _segment(cells: CellArray, width: int, delta: int) -> LinkSegment:
    if cells.spec.dtype.kind not in "iu":
        raise FormatError(f"links must be integers, found dtype {cells.spec.dtype}", where=cells.spec.path)
    return LinkSegment(
        array=cells,
        name=INSIDE,
        offsets=np.zeros((width - 1, cells.chunks.rank), np.int64),
        by_key=False,
        coding=LinkCoding(width=width, dtype=cells.spec.dtype, grouped=delta != 0, permuted=False),
    )


def _table(node: Found, ranks: tuple[int, ...]) -> LinkTable:
    rank = _number(node, "sid_ndim")
    if rank not in ranks:
        raise FormatError(f"sid_ndim is {rank}, chunks have {' or '.join(map(str, ranks))} components", where=node.path)
    shape = (_records(node), _width(node), rank + 1)
    path = f"{node.path}/data"
    # Records of zeros would lead from a chunk to itself: they are not kept here.
    stored = DenseBlob(path=path, dtype=INTEGER, shape=shape, never_zeros=shape[1] > 1)
    records = DenseArray(path=path, name=ACROSS, shape=shape, dtype=INTEGER, chunk_rows=shape[0], stored=stored)
    return LinkTable(records=records, digest=node.digest)


def _records(node: Found) -> int:
    """Number of records; 0 for a placeholder, which does not say."""
    return 0 if node.attributes.get("num_links") is None else _number(node, "num_links")


def _width(node: Found | None) -> int:
    return 0 if node is None else _number(node, "link_width", 1, MAX_WIDTH)


def _number(node: Found, name: str, least: int = 0, most: int = 2**40) -> int:
    value: Any = node.attributes.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise FormatError(f"{name} must be a number from {least} to {most}, found {value!r}", where=node.path)
    return value


def _find_dense(level: int, family: str) -> MetaSteps[dict[str, DenseArray]]:
    (names,) = yield [Children(f"{level}/{family}")]
    nodes = yield [Node(f"{level}/{family}/{name}") for name in names]
    for name, node in zip(names, nodes, strict=True):
        if node is None:
            raise FormatError("a column has no metadata", where=f"{level}/{family}/{name}")
    return {name: _dense(node, name) for name, node in zip(names, nodes, strict=True)}


def _dense(node: Found, name: str) -> DenseArray:
    if node.attributes.get("dtype") == "object":
        rows = parse_integers(node.attributes.get("shape"), "shape", node.path)
        lost = LostColumn(path=node.path)
        dtype = np.dtype(np.float64)
        return DenseArray(path=node.path, name=name, shape=rows, dtype=dtype, chunk_rows=max(rows[0], 1), stored=lost)
    mask = f"{node.path}/present_mask" if node.attributes.get("has_present_mask") else None
    return parse_stored(node, f"{node.path}/data", name, mask)


def _ragged(path: str, name: str, count: int) -> DenseArray:
    stored = RaggedBlob(path=path, count=count)
    return DenseArray(path=path, name=name, shape=(count,), dtype=OBJECT, chunk_rows=max(count, 1), stored=stored)


def _count(node: Found, name: str) -> int:
    (count,) = parse_integers([node.attributes.get(name)], name, node.path)
    if count < 0:
        raise FormatError(f"{name} must not be negative, found {count}", where=node.path)
    return count
