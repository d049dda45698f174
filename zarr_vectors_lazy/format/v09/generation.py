"""Generation 0.9 behind the interface of ``format.base``, and what levels say of each other."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.base import Children, Found, MetaSteps, Node
from zarr_vectors_lazy.format.draco import draco_vertices
from zarr_vectors_lazy.format.metadata import NAMED, check_rank, family_of, find_headers, parse_level, parse_root
from zarr_vectors_lazy.format.v09 import links, objects
from zarr_vectors_lazy.format.v09.arrays import OUR_KEY, parse_cells, with_presence
from zarr_vectors_lazy.model.arrays import CellArray, DenseArray, LinkFamily, LinkValues
from zarr_vectors_lazy.model.levels import LevelMeta, StoreMeta
from zarr_vectors_lazy.model.objects import GroupIndex, ObjectIndex
from zarr_vectors_lazy.types import Floats, Json

# What levels say beyond their fields: how they were chunked, and of each other (spec next, 4, 14 and 16).

PLACED = frozenset({"none", "manual", "aggregate", "mesh_cluster"})
"""Methods that place every row by its position; others but ``per_object`` may keep the chunks of their parent."""
REPLACE, ADD = "replace", "add"


LOST = "the store was rechunked by zarr-vectors, which dropped its links and the order of its vertices"
UNSAID = ("spatial", "object_id")
"""First chunk axes whose bins would be taken for something else: one for all, and ranges of ids."""
PRESENCE, DEFERRED = "zarr_vectors_presence", "deferred"


def read_further(meta: LevelMeta, store: StoreMeta) -> LevelMeta:
    """A level, told whether it is still being written, and what a first chunk axis is that is none of space.

    Spec next, 7 and 16.
    """
    block = _block(meta)
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
    """Levels, each told what its metadata and those of the others say together.

    Raises
    ------
    FormatError
        If a level refines one that is not there, or otherwise than the format knows.
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


def _block(meta: LevelMeta) -> Json:
    block: Json = meta.attributes["zarr_vectors_level"]
    return block


def _loose(meta: LevelMeta) -> bool:
    """Whether zarr-vectors-tools 0.3.0 filed each bin's mean in the chunks of its source vertices."""
    block = _block(meta)
    return meta.index > 0 and block.get("coarsening_method") == "per_object" and not block.get("shared_fragments")


def _strays(index: int, levels: Mapping[int, LevelMeta], store: StoreMeta) -> tuple[Floats, ...] | None:
    """Bins by which rows of a level may lie outside their chunk: its own, or those of levels whose chunks it kept."""
    while index in levels:
        meta, block = levels[index], _block(levels[index])
        if _loose(meta):
            return (meta.bin_shape,) if index in store.bins else None
        parent = block.get("parent_level")
        placed = block.get("coarsening_method", "none") in PLACED or block.get("shared_fragments")
        if placed or not isinstance(parent, int) or not 0 <= parent < index:
            break
        index = parent
    return ()


def _chain(index: int, levels: Mapping[int, LevelMeta]) -> tuple[int, ...]:
    """Levels whose content makes up that of a level, it first."""
    chain = [index]
    while True:
        refinement = _block(levels[chain[-1]]).get("refinement", REPLACE)
        if refinement not in (REPLACE, ADD):
            text = f"refinement must be {REPLACE!r} or {ADD!r}, found {refinement!r}"
            raise FormatError(text, where=str(chain[-1]))
        if refinement == REPLACE:
            return tuple(chain) if len(chain) > 1 else ()
        if chain[-1] + 1 not in levels:
            text = f"level {chain[-1]} refines level {chain[-1] + 1}, which is not there"
            raise FormatError(text, where=str(chain[-1]))
        chain.append(chain[-1] + 1)


# Generation 0.9 behind the interface of ``format.base``.

FAMILIES = {**NAMED, "links": 3, "link_attributes": 4}

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


class Generation09:
    """Stores written by zarr-vectors 0.9.x."""

    name = "0.9"
    changeable = True
    capabilities = CAPABILITIES

    def family(self, key: str) -> tuple[int | None, str]:
        """Level and family of an object: links by delta and offsets (spec 0.9, 2)."""
        return family_of(key, FAMILIES)

    def trusts_consolidated(self, consolidated: Json) -> bool:
        """True: Zarr finds every node."""
        return True

    def parse_store(self, root: Found, children: tuple[str, ...] | None) -> StoreMeta:
        """Parse the root (spec 0.9, 3.1 to 3.3)."""
        return parse_root(root, children)

    def level_nodes(self, level: int) -> tuple[str, str]:
        """Paths of a level's own node and of its vertices."""
        return str(level), f"{level}/vertices"

    def parse_level(self, node: Found, store: StoreMeta, level: int) -> LevelMeta:
        """Parse a level's node (spec 0.9, 3.4)."""
        return read_further(parse_level(node, store, level), store)

    def relate(self, levels: dict[int, LevelMeta], store: StoreMeta) -> dict[int, LevelMeta]:
        """Levels, each told what its metadata and those of the others say together (spec next, 4 and 14)."""
        return relate_levels(levels, store)

    def headers(self) -> MetaSteps[dict[str, Json]]:
        """Opaque headers by format name (spec 0.9, 9)."""
        return find_headers()

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
        return check_rank(parse_cells(node, default_dtype="uint8", row_shape=()), vertices.chunks.rank)

    def fragment_owners(self, level: LevelMeta, vertices: CellArray) -> MetaSteps[CellArray | None]:
        """Return the id of the object of each fragment (spec 0.9, 6); None where not all chunks have them."""
        node = None
        if OUR_KEY in vertices.attributes:  # ours have ids where others have rows (spec next, 20): both are called so
            (node,) = yield [Node(f"{level.index}/{SEGMENTS}")]
            ours = {} if node is None else node.attributes.get(OUR_KEY)
            node = node if isinstance(ours, dict) and ours.get("owners") == "ids" else None
        if node is None:
            (node,) = yield [Node(f"{level.index}/{FRAGMENT_OWNERS}")]
        if node is None or level.deferred or level.attributes["zarr_vectors_level"].get("shared_fragments"):
            return None
        array = check_rank(parse_cells(node, row_shape=()), vertices.chunks.rank)
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
        """Whether there is such a stored vertex attribute; asks for no other's document, which may list 10^6 chunks."""
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
        return check_rank(parse_cells(node, default_dtype=""), vertices.chunks.rank)

    def deltas(self, level: LevelMeta) -> MetaSteps[tuple[int, ...]]:
        """Deltas of the link families, ascending."""
        return links.find_deltas(level.index)

    def links(self, level: LevelMeta, store: StoreMeta, delta: int) -> MetaSteps[LinkFamily | None]:
        """Return a link family; None where there is none."""
        return links.find_family(level, store, delta)

    def link_fragments(self, level: LevelMeta, vertices: CellArray) -> MetaSteps[CellArray | None]:
        """The fragment indexes of the links inside chunks; None where there are none (spec 0.9, 5.2)."""
        (node,) = yield [Node(f"{level.index}/link_fragments")]
        node = yield from with_presence(node, level)
        return None if node is None else parse_cells(node, default_dtype="uint8", row_shape=())

    def link_attribute_names(self, level: LevelMeta, delta: int) -> MetaSteps[tuple[str, ...]]:
        """Names of the attributes of a link family, sorted."""
        return links.find_attribute_names(level.index, delta)

    def link_attribute(self, level: LevelMeta, family: LinkFamily, name: str) -> MetaSteps[LinkValues]:
        """Return an attribute of a link family, by segment name."""
        return links.find_attribute(level, family, name)

    def objects(self, level: LevelMeta, vertices: CellArray) -> MetaSteps[ObjectIndex | None]:
        """Where the manifests are; None where the level has no objects."""
        return objects.find_index(level, vertices.chunks.rank)

    def object_attributes(self, level: LevelMeta) -> MetaSteps[dict[str, DenseArray]]:
        """Per-object arrays by name, and whether writers of ours repeat in them for others what manifests tell."""
        found = yield from objects.find_dense(level.index, "object_attributes")
        ours = {name: array.attributes.get(OUR_KEY) for name, array in found.items()}
        told = {name: str(said.get("repeats") or "") for name, said in ours.items() if isinstance(said, dict)}
        return {name: replace(array, repeats=told.get(name, "")) for name, array in found.items()}

    def groups(self, level: LevelMeta) -> MetaSteps[GroupIndex | None]:
        """Where the groups are; None where there are none."""
        return objects.find_groups(level.index)

    def group_attributes(self, level: LevelMeta) -> MetaSteps[dict[str, DenseArray]]:
        """Per-group arrays by name."""
        return objects.find_dense(level.index, "group_attributes")
