"""Opening a store: its root, its levels' nodes, and levels that refine coarser ones."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias, TypeVar

import numpy as np

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.base import Found, Generation
from zarr_vectors_lazy.format.chain import ChainColumn, FixedColumn, chain_cells, with_level
from zarr_vectors_lazy.format.registry import generation_of
from zarr_vectors_lazy.model.arrays import CellArray, DenseArray, LinkFamily, LinkSegment, LinkValues
from zarr_vectors_lazy.model.levels import LevelMeta, StoreMeta
from zarr_vectors_lazy.model.objects import GroupIndex, ObjectIndex
from zarr_vectors_lazy.plan.selection import Placement, StackedPlacement
from zarr_vectors_lazy.read import level as fresh
from zarr_vectors_lazy.read.level import LevelData
from zarr_vectors_lazy.read.metadata import DOC, MetaTree
from zarr_vectors_lazy.read.objects import forget, read_ids, read_manifests, rows_of_ids
from zarr_vectors_lazy.storage.spec import StoreSpec
from zarr_vectors_lazy.types import IntArray

# A level that refines coarser ones, shown complete (spec next, 4): its chain of levels as one level.

T = TypeVar("T")


class ChainData(LevelData):
    """Metadata of a level that refines others, as if it stored everything that they do.

    Rows, records and chunks are those of the finest level first; a chunk's coordinate begins with the level that stores
    it.

    Parameters
    ----------
    parts
        The levels, finest first, each as it is stored.
    """

    def __init__(self, parts: Sequence[LevelData]) -> None:
        first = parts[0]
        meta = replace(
            first.meta,
            vertex_count=None,
            chunk_attribute=None,
            chunk_bins="",
            fragments_tile=all(part.meta.fragments_tile for part in parts),
            edges_lost=next((part.meta.edges_lost for part in parts if part.meta.edges_lost), ""),
        )
        digest = "".join(part.digest for part in parts)
        super().__init__(first.tree, first.generation, first.store, meta, digest)
        self.parts = tuple(parts)

    def __reduce__(self) -> tuple[Any, ...]:
        return ChainData, (self.parts,)

    @property
    def row_count(self) -> int | None:
        """Rows of all of them by the metadata; None if those of one do not state them."""
        counts = [part.row_count for part in self.parts]
        return None if None in counts else sum(filter(None, counts))

    @cached_property
    def vertices(self) -> CellArray:
        """The positions."""
        if any(part.vertices.chunks.rank > self.store.ndim for part in self.parts):
            raise FormatError(
                "levels that refine each other are chunked by an attribute: not supported", where=self.url
            )
        return self._cells(lambda part: part.vertices)

    @cached_property
    def placement(self) -> Placement:
        """Where the vertices of a chunk may lie: as on its own level."""
        return StackedPlacement.of_levels({part.meta.index: part.placement for part in self.parts})

    @cached_property
    def fragments(self) -> CellArray:
        """The fragment indexes."""
        return self._cells(lambda part: part.fragments)

    @cached_property
    def fragment_owners(self) -> CellArray | None:
        """None, because only manifests state them."""
        return None

    def load_paths(self, *, owners: bool, names: bool) -> None:
        """Read them level by level."""
        for part in self.parts:
            part.load_paths(owners=owners, names=names)

    @cached_property
    def attribute_names(self) -> tuple[str, ...]:
        """Attributes that every level with vertices has."""
        names = [set(part.attribute_names) for part in self._filled]
        return tuple(sorted(set.intersection(*names))) if names else ()

    def has_attribute(self, name: str) -> bool:
        """Whether every level with vertices has it."""
        return name in self.attribute_names

    def attribute(self, name: str) -> CellArray:
        """Return a vertex attribute."""
        filled = self._filled
        return self._once(
            self._attributes, name, lambda: chain_cells([(part.meta.index, part.attribute(name)) for part in filled])
        )

    def load_attributes(self) -> None:
        """Read the metadata of all vertex attributes, concurrently."""
        for part in self._filled:
            part.load_attributes()

    @cached_property
    def deltas(self) -> tuple[int, ...]:
        """Only that of the links inside the level, if there are any: none lead to other levels."""
        return (0,) if any(0 in part.deltas for part in self.parts) else ()

    def links(self, delta: int) -> LinkFamily | None:
        """Return the links inside the level."""
        return self._once(self._families, delta, lambda: None if delta else self._joined_links())

    @cached_property
    def link_fragments(self) -> CellArray | None:
        """The fragment indexes of the links inside chunks; None if there are none."""
        found = [(part.meta.index, part.link_fragments) for part in self.parts]
        arrays = [(level, array) for level, array in found if array is not None]
        return chain_cells(arrays) if arrays else None

    @cached_property
    def link_attribute_names(self) -> tuple[str, ...]:
        """Attributes that the links of every level with links have."""
        names = [set(part.link_attribute_names) for part in self.parts if part.links(0) is not None]
        return tuple(sorted(set.intersection(*names))) if names else ()

    def link_attribute(self, family: LinkFamily, name: str) -> LinkValues:
        """Return an attribute of the links."""
        return self._once(self._link_attributes, name, lambda: self._joined_values(name))

    @cached_property
    def object_index(self) -> ObjectIndex | None:
        """Where the manifests are: each object's on the first level that has it."""
        indexes = [(part, part.object_index) for part in self.parts]
        found = [(part.meta.index, index) for part, index in indexes if index is not None]
        if not found:
            return None
        ids = self._slots(found)
        same = np.array_equal(ids, np.arange(len(ids)))
        return ObjectIndex(
            count=len(ids),
            rank=self.vertices.chunks.rank,
            manifests=None,
            ids=None if same else self._id_column(found, ids),
            digest="".join(index.digest for _, index in found),
            parts=tuple(found),
            lost=next((index.lost for _, index in found if index.lost), ""),
        )

    @cached_property
    def object_attributes(self) -> dict[str, DenseArray]:
        """Arrays over objects: each row from the level that stores the object, or else from the finest."""
        index = self.object_index
        if index is None:
            return self.parts[0].object_attributes
        ids = read_ids(self.source, index)
        levels = [part for part in self.parts if part.object_index is not None]
        rows = [rows_of_ids(read_ids(part.source, _index(part)), ids) for part in levels]
        home = np.full(len(ids), -1, np.int64)
        for number, part in reversed(list(enumerate(levels))):
            here = np.diff(read_manifests(part.source, _index(part)).offsets) > 0
            home[(rows[number] >= 0) & here[rows[number]]] = number
        names = sorted({name for part in levels for name in part.object_attributes})
        return {name: _column(name, levels, rows, home) for name in names}

    @cached_property
    def group_index(self) -> GroupIndex | None:
        """Groups of the finest level that has them."""
        return next((part.group_index for part in self.parts if part.group_index is not None), None)

    @cached_property
    def group_attributes(self) -> dict[str, DenseArray]:
        """Arrays over groups, from that level."""
        return next((part.group_attributes for part in self.parts if part.group_index is not None), {})

    @cached_property
    def _filled(self) -> list[LevelData]:
        return [part for part in self.parts if len(part.vertices.chunks)]

    def _cells(self, of: Callable[[LevelData], CellArray]) -> CellArray:
        return chain_cells([(part.meta.index, of(part)) for part in self.parts])

    def _slots(self, found: Sequence[tuple[int, ObjectIndex]]) -> IntArray:
        """Ids in the order of the finest level, then those that only the next ones have."""
        every = np.concatenate([read_ids(self.source, index) for _, index in found])
        _, first = np.unique(every, return_index=True)
        return np.asarray(every[np.sort(first)])

    def _id_column(self, found: Sequence[tuple[int, ObjectIndex]], ids: IntArray) -> DenseArray:
        path = f"{found[0][0]}/object_index/object_ids"
        stored = FixedColumn(ids)
        return DenseArray(
            path=path, name="object_ids", shape=ids.shape, dtype=ids.dtype, chunk_rows=max(len(ids), 1), stored=stored
        )

    def _joined_links(self) -> LinkFamily | None:
        families = [(part.meta.index, part.links(0)) for part in self.parts]
        found = [(level, family) for level, family in families if family is not None]
        if not found:
            return None
        first = found[0][1]
        if len({(family.width, family.directed) for _, family in found}) > 1:
            raise FormatError("levels that refine each other have links of different kinds", where=self.url)
        stated = [family.stated for _, family in found]
        return replace(
            first,
            segments=tuple(_segment(level, segment) for level, family in found for segment in family.segments),
            stated=None if None in stated else sum(count or 0 for count in stated),
            parted=any(family.parted for _, family in found),
        )

    def _joined_values(self, name: str) -> LinkValues:
        cells: dict[str, CellArray] = {}
        for part in self.parts:
            family = part.links(0)
            if family is not None:
                values = part.link_attribute(family, name).cells
                level = part.meta.index
                cells |= {f"{level}:{segment}": chain_cells([(level, array)]) for segment, array in values.items()}
        return LinkValues(cells=cells)


def stored_twice(data: LevelData) -> list[int]:
    """Ids of objects stored both on a refining level and on one that it refines, as a faulty conversion leaves."""
    found: list[IntArray] = []
    for part in data.parts if isinstance(data, ChainData) else ():
        if part.object_index is not None:
            present = np.diff(read_manifests(part.source, part.object_index).offsets) > 0
            found.append(read_ids(part.source, part.object_index)[present])
    first, rest = found[:1], found[1:]
    return np.intersect1d(np.concatenate(first), np.concatenate(rest)).tolist() if rest else []


def _index(part: LevelData) -> ObjectIndex:
    index = part.object_index
    assert index is not None
    return index


def _segment(level: int, segment: LinkSegment) -> LinkSegment:
    return replace(
        segment,
        array=chain_cells([(level, segment.array)]),
        name=f"{level}:{segment.name}",
        offsets=with_level(segment.offsets, 0),
    )


def _column(name: str, levels: Sequence[LevelData], rows: Sequence[IntArray], home: IntArray) -> DenseArray:
    """An array over objects, for the slots of several levels."""
    having = [number for number, part in enumerate(levels) if name in part.object_attributes]
    arrays = [levels[number].object_attributes[name] for number in having]
    first = arrays[0]
    if len({array.shape[1:] for array in arrays}) > 1:
        raise FormatError("levels that refine each other have rows of different shapes", where=first.path)
    text = [array.dtype.hasobject or array.dtype.kind == "U" for array in arrays]
    if any(text) and not all(text):
        raise FormatError("levels that refine each other have text and numbers", where=first.path)
    dtype = np.dtype(object) if any(text) else np.result_type(*(array.dtype for array in arrays))
    part, row = np.full(len(home), -1, np.int64), np.zeros(len(home), np.int64)
    for at, number in reversed(list(enumerate(having))):  # if no level that stores the object has it: the finest
        here = rows[number] >= 0
        part[here], row[here] = at, rows[number][here]
    for at, number in enumerate(having):
        here = home == number
        part[here], row[here] = at, rows[number][here]
    shape = (len(home), *first.shape[1:])
    column = ChainColumn(
        paths=tuple(array.path for array in arrays), part=part, row=row, shape=shape, dtype=dtype, missing=first.missing
    )
    return replace(first, shape=shape, dtype=dtype, chunk_rows=max(len(home), 1), stored=column, present=None)


# Opening a store: its root, its levels' nodes, and nothing else.

Told: TypeAlias = Mapping[str, tuple[np.dtype[Any], int | None]]
"""Dtype of attributes by name, and the number of values per row."""
MOST_LEVELS = 256  # each at least twice as coarse as the one below


@dataclass(frozen=True, eq=False)
class OpenStore:
    """The result of opening.

    Parameters
    ----------
    tree, generation, meta
        The store's nodes, the generation that reads them, and the parsed root.
    levels
        The levels whose groups exist, by index, each as it is stored.
    digest
        Changes when the root does.
    """

    tree: MetaTree
    generation: Generation
    meta: StoreMeta
    levels: dict[int, LevelData]
    digest: str

    @cached_property
    def complete(self) -> dict[int, LevelData]:
        """The levels as they are read: those that refine others include what these store (spec next, 4)."""
        return {
            level: ChainData([self.levels[index] for index in data.meta.chain]) if data.meta.chain else data
            for level, data in self.levels.items()
        }

    def refuse_deferred(self) -> None:
        """Raise FormatError if a level is still being written."""
        writing = sorted(level for level, data in self.levels.items() if data.meta.deferred)
        if writing:
            raise FormatError(f"levels {writing} are still being written: wait for them", where=self.tree.url)

    def refuse_additive(self, what: str) -> None:
        """Raise FormatError if a level refines others: what is made of it, or without them, would be incomplete."""
        adding = sorted(level for level, data in self.levels.items() if data.meta.chain)
        if adding:
            raise FormatError(
                f"{what} would break levels {adding}, each of which holds only what the next coarser one does not "
                f"(refinement 'add'): save a level, such as open_zv(...)[{adding[0]}].save(...), which is complete, "
                "and go on from that store",
                where=self.tree.url,
            )


def open_tree(spec: StoreSpec, consolidated: bool | None, told: Told | None = None) -> OpenStore:
    """Open a store; reads metadata only. ``told`` is what its user says about its attributes.

    One request if the root has consolidated metadata; otherwise the root, then a listing of it and the nodes of its
    levels, concurrently.

    Raises
    ------
    FormatError
        If it is not a complete Zarr Vectors store of a known generation.
    StoreError
        If it cannot be reached.
    """
    tree = MetaTree(spec)
    root = tree.read_root()
    generation = generation_of(root, where=tree.url)
    tree.use_consolidated(root, wanted=consolidated, trusted=generation.trusts_consolidated)
    store = _parse(tree, root, told or {}, {})
    sources = [data.source for data in store.levels.values()]
    fresh.opened(source for source in sources if source.content)
    if tree.backend.stamp(DOC) is None:  # so that nothing shows when another writer has replaced a level
        forget([source for source in sources if not source.content])
    return store


def reopen(tree: MetaTree, told: Told | None = None, contents: Mapping[int, str] | None = None) -> OpenStore:
    """Open again from a tree that travelled; reads only what did not travel.

    ``contents`` are the digests that the levels' nodes had, because their data may have been replaced since.
    """
    root = tree.node("")
    if root is None:
        raise FormatError("the root is gone", where=tree.url)
    return _parse(tree, root, told or {}, contents or {})


def _parse(tree: MetaTree, root: Found, told: Told, contents: Mapping[int, str]) -> OpenStore:
    generation = generation_of(root, where=tree.url)
    meta = _placed(tree, root, generation, None)
    nodes = _there(tree, {level: generation.level_nodes(level) for level in meta.level_names})
    if tree.complete and any(node[0] not in tree.known for node in nodes.values()):
        tree.check_consolidated([node[0] for node in nodes.values()])
    tree.prefetch([path for node in nodes.values() for path in node], folder="")
    meta = replace(_placed(tree, root, generation, tree.children("", required=False)), told=told)
    nodes = _there(tree, {level: generation.level_nodes(level) for level in meta.level_names})
    tree.prefetch([path for node in nodes.values() for path in node])
    parsed: dict[int, LevelMeta] = {}
    digests: dict[int, str] = {}
    for level, (path, _) in nodes.items():
        found = tree.node(path)
        if found is not None:
            try:
                parsed[level] = generation.parse_level(found, meta, level)
            except FormatError as error:
                raise type(error)(error.message, where=f"{tree.url}/{path}") from error
            digests[level] = root.digest + found.digest
    try:
        related = generation.relate(parsed, meta)
    except FormatError as error:
        raise type(error)(error.message, where=f"{tree.url}/{error.where}") from error
    levels = {
        level: LevelData(tree, generation, meta, one, digests[level], contents.get(level))
        for level, one in related.items()
    }
    return OpenStore(tree, generation, meta, levels, root.digest)


def _there(tree: MetaTree, nodes: dict[int, tuple[str, ...]]) -> dict[int, tuple[str, ...]]:
    """Nodes of levels; if there are absurdly many, only those in a listing: no request for each."""
    unknown = [level for level, (path, *_) in nodes.items() if path not in tree.known]
    if len(unknown) <= MOST_LEVELS:
        return nodes
    names = tree.listed("")
    if names is None:
        raise FormatError(f"the root names {len(nodes)} levels, but the store cannot be listed", where=tree.url)
    there = {level: node for level, node in nodes.items() if node[0] in tree.known or node[0].split("/")[0] in names}
    if len(there) > MOST_LEVELS:
        raise FormatError(f"the root names {len(there)} levels; {MOST_LEVELS} are the most possible", where=tree.url)
    return there


def _placed(tree: MetaTree, root: Found, generation: Generation, children: tuple[str, ...] | None) -> StoreMeta:
    try:
        return generation.parse_store(root, children)
    except FormatError as error:
        raise type(error)(error.message, where=tree.url) from error
