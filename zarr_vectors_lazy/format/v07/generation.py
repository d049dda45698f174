"""Generation 0.7 behind the interface of ``format.base``."""

import math
from dataclasses import replace

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.base import COMPLETE, Children, Found, MetaSteps, Node
from zarr_vectors_lazy.format.draco import draco_vertices
from zarr_vectors_lazy.format.metadata import NAMED, check_rank, family_of, find_headers, parse_level, parse_root
from zarr_vectors_lazy.format.v07 import objects
from zarr_vectors_lazy.format.v07 import objects as links
from zarr_vectors_lazy.format.v07.cells import find_cells
from zarr_vectors_lazy.model.arrays import CellArray, DenseArray, LinkFamily, LinkValues
from zarr_vectors_lazy.model.levels import LevelMeta, StoreMeta
from zarr_vectors_lazy.model.objects import GroupIndex, ObjectIndex
from zarr_vectors_lazy.types import Json

TREE = "implicit_sequential_with_branches"
PATHS = frozenset({"line", "polyline", "streamline"})
CHUNK_ATTRIBUTE = ("chunk_attribute_name", "chunk_attribute_values")


FAMILIES = {
    **NAMED,
    "links": 2,
    "cross_chunk_links": 2,
    "link_attributes": 3,
    "cross_chunk_link_attributes": 3,
}


class Generation07:
    """Stores written by zarr-vectors 0.2.0."""

    name = "0.7"
    changeable = False
    capabilities: frozenset[str] = frozenset()

    def family(self, key: str) -> tuple[int | None, str]:
        """Level and family of an object: links by delta, inside chunks and across (spec 0.7, 3.3)."""
        return family_of(key, FAMILIES)

    def trusts_consolidated(self, consolidated: Json) -> bool:
        """Whether a complete writer left its mark: Zarr's own leave out nodes (spec 0.7, 3.1)."""
        return COMPLETE in consolidated

    def parse_store(self, root: Found, children: tuple[str, ...] | None) -> StoreMeta:
        """Parse the root (spec 0.7, 2)."""
        meta = parse_root(root, children)
        if "skeleton" in meta.geometry_types:  # the root's convention is the first writer's
            return replace(meta, links_convention=TREE)
        return meta

    def level_nodes(self, level: int) -> tuple[str, str]:
        """Paths of a level's own node and of its vertices."""
        return str(level), f"{level}/vertices"

    def parse_level(self, node: Found, store: StoreMeta, level: int) -> LevelMeta:
        """Parse a level's node (spec 0.7, 2); a chunk axis without values is no attribute (3.2)."""
        block = node.attributes.get("zarr_vectors_level")
        if isinstance(block, dict) and None in (block.get(name) for name in CHUNK_ATTRIBUTE):
            bare = {name: value for name, value in block.items() if name not in CHUNK_ATTRIBUTE}
            doc = {**node.doc, "attributes": {**node.attributes, "zarr_vectors_level": bare}}
            node = replace(node, doc=doc)
        meta = parse_level(node, store, level)
        return replace(meta, count_is_sure=False, edges_lost=_edges_lost(meta, store))

    def relate(self, levels: dict[int, LevelMeta], store: StoreMeta) -> dict[int, LevelMeta]:
        """Return the levels as they are: each says all of itself."""
        return levels

    def headers(self) -> MetaSteps[dict[str, Json]]:
        """Opaque headers by format name (spec 0.7, 6)."""
        return find_headers()

    def vertices(self, level: LevelMeta, store: StoreMeta) -> MetaSteps[CellArray]:
        """The positions (spec 0.7, 4.1)."""
        path = f"{level.index}/vertices"
        node, finest = yield [Node(path), Node("0/vertices")]
        if node is None or len(store.geometry_types) > 1:
            (composite,) = yield [Node(f"{level.index}/geometry_index")]
            if composite is not None:
                raise FormatError(f"level {level.index} is of several geometries, which are not read", where=path)
        if node is None:
            raise FormatError(f"level {level.index} has no group 'vertices'", where=path)
        encoding = node.attributes.get("encoding", "raw")
        if encoding not in ("raw", "draco"):
            raise FormatError(f"vertices are encoded as {encoding!r}; 'raw' and 'draco' can be read", where=path)
        _check_coarsening(level, finest)
        array = yield from find_cells(path, _ranks(level, store), dtype="float32", row_shape=(store.ndim,))
        assert array is not None  # its node is there
        if level.vertex_count and not len(array.chunks):
            raise FormatError(f"the level states {level.vertex_count} vertices and has no chunk", where=path)
        if array.spec.dtype.kind not in "fiu":
            raise FormatError(f"vertices must be numbers, found dtype {array.spec.dtype}", where=path)
        by = level.chunk_attribute
        if by is not None and ((array.chunks.coords[:, 0] < -1) | (array.chunks.coords[:, 0] >= len(by[1]))).any():
            raise FormatError(f"chunks have values of {by[0]!r} beyond the {len(by[1])} that are listed", where=path)
        return _counted(array) if encoding == "raw" else draco_vertices(array)

    def fragments(self, level: LevelMeta, vertices: CellArray) -> MetaSteps[CellArray]:
        """The fragment indexes (spec 0.7, 4.2)."""
        path = f"{level.index}/vertex_fragments"
        array = yield from find_cells(path, (vertices.chunks.rank,), dtype="uint8", row_shape=(), headed=True)
        if array is None:
            raise FormatError(f"level {level.index} has no group 'vertex_fragments'", where=path)
        return array

    def fragment_owners(self, level: LevelMeta, vertices: CellArray) -> MetaSteps[CellArray | None]:
        """None: only manifests tell."""
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
            raise FormatError(f"vertex_attributes/{name} is not there", where=path)
        return check_rank(array, vertices.chunks.rank)

    def deltas(self, level: LevelMeta) -> MetaSteps[tuple[int, ...]]:
        """Deltas of the link families, ascending."""
        return links.find_deltas(level.index)

    def links(self, level: LevelMeta, store: StoreMeta, delta: int) -> MetaSteps[LinkFamily | None]:
        """Return a link family; None where there is none."""
        return links.find_family(level.index, _ranks(level, store), delta)

    def link_fragments(self, level: LevelMeta, vertices: CellArray) -> MetaSteps[CellArray | None]:
        """The fragment indexes of the links inside chunks; None where there are none (spec 0.7, 4.3)."""
        path = f"{level.index}/link_fragments"
        return find_cells(path, (vertices.chunks.rank,), dtype="uint8", row_shape=(), headed=True)

    def link_attribute_names(self, level: LevelMeta, delta: int) -> MetaSteps[tuple[str, ...]]:
        """Names of the attributes of a link family, sorted."""
        return links.find_attribute_names(level.index, delta)

    def link_attribute(self, level: LevelMeta, family: LinkFamily, name: str) -> MetaSteps[LinkValues]:
        """Return an attribute of a link family."""
        ranks = {segment.array.chunks.rank for segment in family.segments}
        if family.table is not None:
            ranks.add(family.table.records.shape[2] - 1)
        return links.find_attribute(level.index, tuple(ranks), family, name)

    def objects(self, level: LevelMeta, vertices: CellArray) -> MetaSteps[ObjectIndex | None]:
        """Where the manifests are; None where the level has no objects."""
        return objects.find_index(level.index, vertices.chunks.rank)

    def object_attributes(self, level: LevelMeta) -> MetaSteps[dict[str, DenseArray]]:
        """Per-object arrays by name."""
        return objects.find_object_attributes(level.index)

    def groups(self, level: LevelMeta) -> MetaSteps[GroupIndex | None]:
        """Where the groups are; None where there are none."""
        return objects.find_groups(level.index)

    def group_attributes(self, level: LevelMeta) -> MetaSteps[dict[str, DenseArray]]:
        """Per-group arrays by name."""
        return objects.find_group_attributes(level.index)


def _ranks(level: LevelMeta, store: StoreMeta) -> tuple[int, ...]:
    """Components that chunks may have: a first one beside the axes on levels that are chunked by an attribute."""
    return (store.ndim + 1,) if level.chunk_attribute is not None else (store.ndim, store.ndim + 1)


def _edges_lost(level: LevelMeta, store: StoreMeta) -> str:
    """Why edges and faces of a level cannot be told (spec 0.7, 9.6 and 9.7), or an empty text."""
    kinds = set(store.geometry_types)
    block = level.attributes["zarr_vectors_level"]
    by_attribute = block.get("chunk_attribute_name") is not None
    if block.get("chunk_dims") and not (by_attribute and level.vertex_count) and kinds - {"point_cloud"}:
        return "the store was rechunked by zarr-vectors 0.2.0, which dropped its links and the order of its vertices"
    rules = [kinds & PATHS, kinds & {"graph", "mesh"}, kinds & {"skeleton"}]
    if sum(map(bool, rules)) > 1 or ("skeleton" in kinds and len(kinds) > 1):
        return f"{sorted(kinds)} were written to one path: which vertices are joined by which rule is not stored"
    return ""


def _counted(array: CellArray) -> CellArray:
    """The positions with their counts, which packs state (spec 0.7, 3.4)."""
    if array.places is None or (array.places.pack < 0).any():
        return array
    sizes = array.places.stops - array.places.starts
    row = array.spec.dtype.itemsize * math.prod(array.spec.row_shape or ())
    if (sizes % row).any():
        bad = int(sizes[sizes % row != 0][0])
        raise FormatError(f"a packed chunk of {bad} bytes is no whole number of rows of {row}", where=array.spec.path)
    return replace(array, counts=sizes // row)


def _check_coarsening(level: LevelMeta, finest: Found | None) -> None:
    """Refuse coarse levels that the 0.2.0 builder made of positions that it misread (spec 0.7, 9.5)."""
    method = level.attributes.get("zarr_vectors_level", {}).get("coarsening_method")
    dtype = "float32" if finest is None else finest.attributes.get("dtype", "float32")
    if level.index and method == "per_object" and dtype != "float32":
        raise FormatError(
            f"level {level.index} was built by zarr-vectors 0.2.0 from {dtype} positions read as float32: its vertices "
            "are garbage; level 0 is sound",
            where=f"{level.index}/vertices",
        )
