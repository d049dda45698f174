"""Link records of a view as Dask arrays, one block a cell."""

from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from zarr_vectors_lazy.access.attributes import nullable
from zarr_vectors_lazy.access.level import Source
from zarr_vectors_lazy.access.links import LinkCell, link_rows, link_values, selected_links
from zarr_vectors_lazy.access.probe import link_row_shape
from zarr_vectors_lazy.access.tables import Table, table_rows, table_values
from zarr_vectors_lazy.errors import CorruptChunkError
from zarr_vectors_lazy.graph.array import NAN, empty_array, make_array
from zarr_vectors_lazy.graph.choose import choice_graph
from zarr_vectors_lazy.graph.layers import Dict, GraphNode, Key, List, RecipeLayer, Task, TaskRef
from zarr_vectors_lazy.graph.numbering import RowNumbers, number_view
from zarr_vectors_lazy.graph.reads import cell_name
from zarr_vectors_lazy.graph.view import LevelView
from zarr_vectors_lazy.model.arrays import CellSpec, DenseArray
from zarr_vectors_lazy.model.chunks import dotted
from zarr_vectors_lazy.model.links import LinkCoding, LinkFamily, LinkValues
from zarr_vectors_lazy.types import BoolArray, ChunkCoords, IntArray, Raw

INTEGER = np.dtype(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CellList:
    """The link cells of a view, in canonical order.

    Parameters
    ----------
    segments
        (B,) segment of each cell.
    sources
        (B,) its chunk among the view's; -1 where it is none of them.
    coords
        (B, K) its chunk.
    ends
        (B, L) for each slot its chunk among those of the level that it lies on; -1 where there is none.
    """

    segments: IntArray
    sources: IntArray
    coords: ChunkCoords
    ends: IntArray

    def __len__(self) -> int:
        return len(self.segments)


def list_cells(view: LevelView, family: LinkFamily, other: LevelView | None = None, *, cut: bool = False) -> CellList:
    """Cells of a family whose records may be selected.

    Parameters
    ----------
    other
        The level of endpoints 1.., whole, where that is another one.
    cut
        Also cells of which some end is selected and another is not.
    """
    rank = view.table.coords.shape[1]
    segments, sources, places, ends = [], [], [], []
    for number, segment in enumerate(family.segments):
        coords = segment.array.chunks.coords[segment.listed]
        source = view.table.find(coords)
        offsets = np.concatenate([np.zeros((1, rank), np.int64), segment.offsets])
        anchor = coords if other is None else _anchor(coords, view, other)
        if other is not None and family.same_key:
            anchor = coords
        table = view.table if other is None else other.table
        slots = [source, *(table.find(anchor + offset) for offset in offsets[1:])]
        end = np.stack(slots, axis=1)
        selected = _selected(view, end, other is None, cut)
        segments.append(np.full(int(selected.sum()), number))
        sources.append(source[selected])
        places.append(coords[selected])
        ends.append(end[selected])
    empty = np.empty(0, np.int64)
    return CellList(
        segments=np.concatenate([empty, *segments]),
        sources=np.concatenate([empty, *sources]),
        coords=np.concatenate([np.empty((0, rank), np.int64), *places]),
        ends=np.concatenate([np.empty((0, family.width), np.int64), *ends]),
    )


def check_sources(view: LevelView, family: LinkFamily, cells: CellList) -> None:
    """Raise CorruptChunkError if a level has links of a chunk that has no vertices."""
    lost = np.flatnonzero(cells.sources < 0)
    if view.rows is None and len(lost):
        coord = dotted(cells.coords[lost[0]])
        reason = f"links name rows of chunk {coord}, which has no vertices"
        path = family.segments[int(cells.segments[lost[0]])].array.spec.path
        raise CorruptChunkError(reason, level=view.data.meta.index, array=path, chunk=coord, url=view.data.tree.url)


def _selected(view: LevelView, ends: IntArray, within: bool, cut: bool) -> BoolArray:
    """(B,) which cells may have selected records; all of them where the level is whole."""
    if view.rows is None:
        return np.ones(len(ends), np.bool_)
    if not within:
        return ends[:, 0] >= 0
    return np.asarray((ends >= 0).any(axis=1) if cut else (ends >= 0).all(axis=1))


def _anchor(coords: ChunkCoords, view: LevelView, other: LevelView) -> ChunkCoords:
    """Chunk of another level below which a chunk lies (spec 0.9, 7.4)."""
    root = view.data.store.chunk_shape
    here, there = (np.rint(v.data.meta.chunk_shape / root).astype(np.int64) for v in (view, other))
    spatial = coords[:, coords.shape[1] - len(root) :] * here // there
    return np.concatenate([coords[:, : coords.shape[1] - len(root)], spatial], axis=1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LinkRecipe:
    """Makes the tasks that resolve link cells: (rows, which records are selected)."""

    source: Source
    specs: tuple[CellSpec, ...]
    codings: tuple[LinkCoding, ...]
    members: tuple[str, ...]
    reads: str
    coords: ChunkCoords
    cells: CellList
    here: RowNumbers
    there: RowNumbers | None
    choice: str | None
    filters: BoolArray
    table: Table | None

    def task(self, key: Key, block: int) -> GraphNode:
        """Task of one cell; the last one is that of the table, where there is one."""
        if self.table is not None and block == len(self.cells):
            there = None if self.there is None else self.there.all()
            return Task(key, table_rows, self.table, self.here.all(), there, kept_of(self.choice, self.filters))
        segment, source = int(self.cells.segments[block]), int(self.cells.sources[block])
        ends = tuple(self.cells.ends[block].tolist())
        cell = LinkCell(
            spec=self.specs[segment],
            coding=self.codings[segment],
            coord=tuple(self.cells.coords[block].tolist()),
            ends=ends,
        )
        mine = len(ends) if self.there is None else 1
        kept = [
            TaskRef((self.choice, end)) if slot < mine and self.choice is not None and self.filters[end] else None
            for slot, end in enumerate(ends)
        ]
        raw = TaskRef((cell_name(self.reads, self.members[segment]), source))
        unknown = (-1,) * (len(ends) - mine)
        here = self.here.argument((*ends[:mine], *unknown))
        there = None if self.there is None else self.there.argument((-1, *ends[1:]))
        return Task(key, link_rows, self.source, cell, raw, here, there, List(*kept))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EachRecipe:
    """Makes tasks of one function over the blocks of another layer."""

    function: Any
    layer: str

    def task(self, key: Key, block: int) -> GraphNode:
        """Task of one block."""
        return Task(key, self.function, TaskRef((self.layer, block)))


@dataclass(frozen=True, slots=True, eq=False)
class Resolved:
    """A layer of resolved link cells: ``(rows, selected)`` by ``(name, block)``."""

    name: str
    cells: CellList
    graph: HighLevelGraph
    tabled: bool

    def __len__(self) -> int:
        return len(self.cells) + self.tabled


def kept_of(choice: str | None, filters: BoolArray) -> Dict:
    """References to the chosen rows of the chunks of which rows are chosen, by chunk."""
    if choice is None:
        return Dict({})
    return Dict({chunk: TaskRef((choice, chunk)) for chunk in np.flatnonzero(filters).tolist()})


def table_of(view: LevelView, family: LinkFamily, other: LevelView | None = None) -> Table | None:
    """The records of a family that name their chunks; None where there are none, or no chunk is selected."""
    if family.table is None or not len(view):
        return None
    return Table(
        source=view.source,
        records=family.table.records,
        here=view.reads.coords,
        there=None if other is None else other.reads.coords,
        whole=view.rows is None,
    )


def resolve(view: LevelView, family: LinkFamily, other: LevelView | None = None) -> Resolved | None:
    """Layer of the resolved cells of a family, and of its table; None where nothing is selected."""
    cells, table = list_cells(view, family, other), table_of(view, family, other)
    if not len(cells) and table is None:
        return None
    check_sources(view, family, cells)
    names = tuple(f"links:{family.delta}:{segment.name}" for segment in family.segments)
    for name, segment in zip(names, family.segments, strict=True):
        view.member(name, segment.array)
    here, here_graph = number_view(view)
    there, there_graph = (None, None) if other is None else number_view(other)
    choice = choice_graph(view)
    recipe = LinkRecipe(
        source=view.source,
        specs=tuple(segment.array.spec for segment in family.segments),
        codings=tuple(segment.coding for segment in family.segments),
        members=names,
        reads=view.reads.name,
        coords=view.reads.coords,
        cells=cells,
        here=here,
        there=there,
        choice=None if choice is None else choice.name,
        filters=view.filters,
        table=table,
    )
    digests = [*(segment.array.digest for segment in family.segments), family.table.digest if family.table else None]
    other_token = None if other is None else other.token
    name = f"zv-resolve-{tokenize(view.token, family.delta, digests, other_token)}"
    parts = (view.read_graph(), here_graph, there_graph, None if choice is None else choice.graph)
    graphs = [graph for graph in parts if graph is not None]
    blocks = len(cells) + (table is not None)
    return Resolved(name, cells, view.graph(RecipeLayer(name, recipe, blocks), *graphs), table is not None)


def links_array(view: LevelView, family: LinkFamily | None, other: LevelView | None = None) -> da.Array:
    """Records of a family as rows; (L, W) int64, in canonical order."""
    width = 2 if family is None else family.width
    resolved = None if family is None else resolve(view, family, other)
    if resolved is None:
        return empty_array((width,), INTEGER)
    name = resolved.name.replace("resolve", "links")
    layer = RecipeLayer(name, EachRecipe(function=selected_links, layer=resolved.name), len(resolved), 1)
    return make_array(view.graph(layer, resolved.graph), name, [NAN] * len(resolved), (width,), INTEGER)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LinkValueRecipe:
    """Makes the tasks that give the values of link cells."""

    source: Source
    specs: tuple[CellSpec | None, ...]
    members: tuple[str, ...]
    reads: str
    coords: ChunkCoords
    cells: CellList
    present: BoolArray
    row_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    resolved: str
    table: DenseArray | None

    def task(self, key: Key, block: int) -> GraphNode:
        """Task of one cell; the last one is that of the table, where there is one."""
        resolved = TaskRef((self.resolved, block))
        if block == len(self.cells):
            if self.table is not None:
                return Task(key, table_values, self.source, self.table, self.dtype, resolved)
            return Task(key, link_values, self.source, None, (), None, self.row_shape, self.dtype, resolved)
        segment, source = int(self.cells.segments[block]), int(self.cells.sources[block])
        listed = bool(self.present[block])
        raw: TaskRef | Raw = TaskRef((cell_name(self.reads, self.members[segment]), source)) if listed else None
        spec = self.specs[segment] if listed else None
        coord = tuple(self.coords[source].tolist())
        return Task(key, link_values, self.source, spec, coord, raw, self.row_shape, self.dtype, resolved)


def link_attribute_array(view: LevelView, family: LinkFamily, values: LinkValues, name: str) -> da.Array:
    """Values of a link attribute, aligned with ``links_array(view, family)``; never stored ones are NaN."""
    arrays = values.cells
    dtypes = [array.spec.dtype for array in arrays.values()] + ([values.table.dtype] if values.table else [])
    row_shape = link_row_shape(view.data, family, values)
    dtype = dtypes[0] if dtypes else np.dtype(np.float64)
    if _incomplete(family, values):
        dtype = nullable(dtype)
    resolved = resolve(view, family)
    if resolved is None:
        return empty_array(row_shape, dtype)
    members, present = [], np.zeros(len(resolved.cells), np.bool_)
    for number, segment in enumerate(family.segments):
        member = f"link_attributes:{name}:{segment.name}"
        members.append(member)
        array = arrays.get(segment.name)
        if array is not None:
            of_segment = resolved.cells.segments == number
            listed = view.member(member, array).present
            present[of_segment] = listed[resolved.cells.sources[of_segment]]
    recipe = LinkValueRecipe(
        source=view.source,
        specs=tuple(arrays[s.name].spec if s.name in arrays else None for s in family.segments),
        members=tuple(members),
        reads=view.reads.name,
        coords=view.reads.coords,
        cells=resolved.cells,
        present=present,
        row_shape=row_shape,
        dtype=dtype,
        resolved=resolved.name,
        table=values.table,
    )
    label = f"zv-link-{name}-{tokenize(resolved.name, name, [array.digest for array in arrays.values()])}"
    layer = RecipeLayer(label, recipe, len(resolved), len(row_shape))
    graph = view.graph(layer, resolved.graph, view.read_graph())
    return make_array(graph, label, [NAN] * len(resolved), row_shape, dtype)


def _incomplete(family: LinkFamily, values: LinkValues) -> bool:
    """Whether some records have no values."""
    if family.table is not None and values.table is None:
        return True
    for segment in family.segments:
        array = values.cells.get(segment.name)
        if len(segment.array.chunks) and (array is None or (array.chunks.find(segment.array.chunks.coords) < 0).any()):
            return True
    return False
