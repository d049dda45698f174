"""Edges and faces of a view."""

from dataclasses import dataclass

import dask.array as da
import numpy as np
from dask.base import tokenize

from zarr_vectors_lazy.access.level import Source
from zarr_vectors_lazy.access.links import LinkCell, TreeChunk, tree_edges
from zarr_vectors_lazy.access.tables import table_parents
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.graph.array import NAN, empty_array, make_array
from zarr_vectors_lazy.graph.choose import choice_graph, fragment_spec
from zarr_vectors_lazy.graph.layers import Dict, GraphNode, Key, List, RecipeLayer, Task, TaskRef, task_over
from zarr_vectors_lazy.graph.links import INTEGER, CellList, check_sources, kept_of, links_array, list_cells, table_of
from zarr_vectors_lazy.graph.numbering import RowNumbers, number_view
from zarr_vectors_lazy.graph.paths import path_edges_array
from zarr_vectors_lazy.graph.reads import Member, Reads, cell_name, read_graph, shared_reads
from zarr_vectors_lazy.graph.view import FRAGMENTS, LevelView
from zarr_vectors_lazy.model.arrays import CellSpec
from zarr_vectors_lazy.model.chunks import ChunkTable
from zarr_vectors_lazy.model.links import LinkCoding, LinkFamily
from zarr_vectors_lazy.types import BoolArray, ChunkCoords, IntArray

TREE = "implicit_sequential_with_branches"
PATHS = {"line", "polyline", "streamline"}


def edges_array(view: LevelView) -> da.Array:
    """Every edge of the view; (E, 2) int64 rows (spec 0.9, 10)."""
    store = view.data.store
    check_edges(view)
    if store.links_convention == TREE:
        return tree_edges_array(view, view.data.links(0))
    if PATHS & set(store.geometry_types):
        return path_edges_array(view)
    family = view.data.links(0)
    return links_array(view, family if family is not None and family.width == 2 else None)


def faces_array(view: LevelView) -> da.Array:
    """Every face of the view; (F, W) int64 rows, W >= 3."""
    check_edges(view)
    family = view.data.links(0)
    if family is None or family.width < 3:
        return empty_array((3,), INTEGER)
    return links_array(view, family)


def check_edges(view: LevelView) -> None:
    """Raise FormatError where the level does not tell its edges and faces."""
    data = view.data
    if data.meta.edges_lost:
        raise FormatError(data.meta.edges_lost, where=data.url)
    if len(data.store.geometry_types) > 1:
        _ = data.vertices  # refuses a level that keeps each geometry apart


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TreeRecipe:
    """Makes the tasks that give the edges of a skeleton, one a chunk."""

    source: Source
    fragments: CellSpec
    specs: tuple[CellSpec, ...]
    codings: tuple[LinkCoding, ...]
    members: tuple[str, ...]
    reads: str
    halo: str
    halo_rows: IntArray
    whole: bool
    parted: bool
    coords: ChunkCoords
    cells: CellList
    order: IntArray
    bounds: IntArray
    rows: RowNumbers
    choice: str | None
    filters: BoolArray
    parents: str | None

    def task(self, key: Key, block: int) -> GraphNode:
        """Task of one chunk."""
        mine = np.sort(self.order[self.bounds[block] : self.bounds[block + 1]]).tolist()
        cells, raws = [], []
        for at in mine:
            segment, source = int(self.cells.segments[at]), int(self.cells.sources[at])
            coord = tuple(self.cells.coords[at].tolist())
            ends = tuple(self.cells.ends[at].tolist())
            cells.append(LinkCell(spec=self.specs[segment], coding=self.codings[segment], coord=coord, ends=ends))
            reads, chunk = (self.reads, source) if source >= 0 else (self.halo, int(self.halo_rows[at]))
            raws.append(TaskRef((cell_name(reads, self.members[segment]), chunk)))
        chunks = sorted({block, *(end for cell in cells for end in cell.ends if end >= 0)})
        known = self.rows.argument(chunks)
        spans = known if isinstance(known, TaskRef) else dict(zip(chunks, known, strict=True))
        kept = {end: TaskRef((self.choice, end)) for end in chunks if self.choice is not None and self.filters[end]}
        tree = TreeChunk(
            chunk=block,
            coord=tuple(self.coords[block].tolist()),
            fragments=self.fragments,
            cells=tuple(cells),
            whole=self.whole,
            parted=self.parted,
        )
        fragments = TaskRef((cell_name(self.reads, FRAGMENTS), block))
        parents = None if self.parents is None else TaskRef((self.parents,))
        return Task(key, tree_edges, self.source, tree, fragments, spans, List(*raws), Dict(kept), parents)


def tree_edges_array(view: LevelView, family: LinkFamily | None) -> da.Array:
    """[child, parent] edges of skeletons, one block a chunk."""
    family = family or LinkFamily(delta=0, width=2, directed=False, segments=())
    cells = list_cells(view, family, cut=True)
    check_sources(view, family, cells)
    if not len(view):
        return empty_array((2,), INTEGER)
    fragments = fragment_spec(view)
    names = tuple(f"links:0:{segment.name}" for segment in family.segments)
    for name, segment in zip(names, family.segments, strict=True):
        view.member(name, segment.array)
    halo, halo_rows = _halo(view, family, cells, names)
    # A cell belongs to every chunk that one of its ends lies in: the child may be any of them.
    chunk = cells.ends.reshape(-1)
    cell = np.repeat(np.arange(len(cells)), family.width)
    pairs = np.unique(np.stack([chunk, cell], axis=1)[chunk >= 0], axis=0)
    rows, row_graph = number_view(view)
    choice = choice_graph(view)
    digests = [*(segment.array.digest for segment in family.segments), family.table.digest if family.table else None]
    graphs = [view.read_graph(), read_graph(halo), row_graph, *([] if choice is None else [choice.graph])]
    table = table_of(view, family)
    parents = None if table is None else f"zv-parents-{tokenize(view.token, digests)}"
    if parents is not None:
        kept = kept_of(None if choice is None else choice.name, view.filters)
        graphs.append(task_over(parents, Task((parents,), table_parents, table, rows.all(), kept), *graphs))
    recipe = TreeRecipe(
        source=view.source,
        fragments=fragments,
        specs=tuple(segment.array.spec for segment in family.segments),
        codings=tuple(segment.coding for segment in family.segments),
        members=names,
        reads=view.reads.name,
        halo=halo.name,
        halo_rows=halo_rows,
        whole=view.rows is None,
        parted=family.parted,
        coords=view.reads.coords,
        cells=cells,
        order=pairs[:, 1],
        bounds=np.searchsorted(pairs[:, 0], np.arange(len(view) + 1)),
        rows=rows,
        choice=None if choice is None else choice.name,
        filters=view.filters,
        parents=parents,
    )
    name = f"zv-edges-{tokenize(view.token, digests)}"
    graph = view.graph(RecipeLayer(name, recipe, len(view), 1), *graphs)
    return make_array(graph, name, [NAN] * len(view), (2,), INTEGER)


def _halo(view: LevelView, family: LinkFamily, cells: CellList, names: tuple[str, ...]) -> tuple[Reads, IntArray]:
    """Reads of the cells that lie in chunks outside the view, and for each cell its chunk among theirs."""
    table = ChunkTable(np.unique(cells.coords[cells.sources < 0], axis=0))
    reads = shared_reads(f"zv-read-halo-{tokenize(view.reads.name, table.coords)}", view.source, table.coords)
    for name, segment in zip(names, family.segments, strict=True):
        present = segment.array.chunks.find(table.coords) >= 0
        reads.members.setdefault(name, Member(spec=segment.array.spec, present=present, nbytes=4096.0))
    return reads, table.find(cells.coords)
