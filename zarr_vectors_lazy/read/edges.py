"""Edges and faces of a view."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.core import flatten
from dask.highlevelgraph import HighLevelGraph

from zarr_vectors_lazy.errors import FormatError, NotFoundError
from zarr_vectors_lazy.model.arrays import CellSpec, LinkFamily, LinkValues
from zarr_vectors_lazy.model.levels import ChunkTable
from zarr_vectors_lazy.read.batches import NAN, Blocks, array_over, blocks_of, cells_of, empty_array
from zarr_vectors_lazy.read.cells import link_row_shape
from zarr_vectors_lazy.read.choose import Choice, choice_graph, fragment_spec
from zarr_vectors_lazy.read.layers import (
    BlockTasks,
    Each,
    List,
    Member,
    Per,
    Reads,
    Task,
    TaskRef,
    blocks_over,
    read_graph,
    shared_reads,
    task_over,
)
from zarr_vectors_lazy.read.links import (
    INTEGER,
    TREE,
    CellList,
    Reaches,
    RowNumbers,
    check_sources,
    kept_of,
    link_attribute_array,
    link_cells,
    links_array,
    list_cells,
    number_view,
    table_of,
    value_cells,
    value_dtype,
    with_missing,
)
from zarr_vectors_lazy.read.objects import read_dense
from zarr_vectors_lazy.read.paths import path_edges_array
from zarr_vectors_lazy.read.records import (
    TreeRun,
    sort_records,
    table_parents,
    tree_edges,
    tree_rows,
    tree_values,
    values_of_edges,
)
from zarr_vectors_lazy.read.view import FRAGMENTS, LevelView
from zarr_vectors_lazy.types import BoolArray, IntArray

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
class TreeCells:
    """The link cells of skeletons by the chunks of a view that may hold children of their records.

    Parameters
    ----------
    view, family, cells
        The records.
    blocks
        The view's chunks, a task for each block of them.
    reaches
        The same by chunk.
    halo, halo_rows
        Name of the reads of the cells that lie in chunks outside the view, and each cell's chunk among theirs.
    """

    view: LevelView
    family: LinkFamily
    cells: CellList
    blocks: Blocks
    reaches: Reaches
    halo: str
    halo_rows: IntArray

    def of(self, first: int, last: int) -> IntArray:
        """Cells of some neighbouring chunks: in canonical order, but of each segment the view's own first."""
        mine = self.reaches.near(np.arange(first, last))
        outside = self.cells.sources[mine] < 0
        return mine[np.lexsort((mine, outside, self.cells.segments[mine]))]

    def raws(self, cells: IntArray, prefix: str, present: BoolArray | None = None) -> List:
        """References to encoded cells in parts, of the records or of what belongs to them."""
        cells = cells if present is None else cells[present[cells]]
        sources, segments = self.cells.sources[cells], self.cells.segments[cells]
        cuts = np.flatnonzero((np.diff(segments) != 0) | (np.diff(sources < 0) != 0)) + 1
        parts = []
        for part in np.split(cells, cuts) if len(cells) else ():
            member = f"{prefix}:{self.family.segments[int(self.cells.segments[part[0]])].name}"
            inside = bool(self.cells.sources[part[0]] >= 0)
            rows = self.cells.sources[part] if inside else self.halo_rows[part]
            parts.append(cells_of(self.view.reads.name if inside else self.halo, member, rows))
        return List(*parts)


def _tree_inputs(
    trees: TreeCells, fragments: CellSpec, rows: RowNumbers, choice: Choice | None, parents: str | None, block: int
) -> tuple[Any, ...]:
    """What the task is given that makes the edges of a block of chunks."""
    view, chunks = trees.view, trees.blocks.of(block)
    first, last = int(chunks[0]), int(chunks[-1]) + 1
    mine = trees.of(first, last)
    cells = link_cells(trees.family, trees.cells, mine)
    tree = TreeRun(
        first=first,
        coords=trees.blocks.coords_of(block),
        fragments=fragments,
        cells=cells,
        whole=view.rows is None,
        parted=trees.family.parted,
    )
    ends = np.unique(np.concatenate([chunks, cells.ends[cells.ends >= 0]]))
    raws, kept = trees.raws(mine, "links:0"), kept_of(choice, ends)
    spans = rows.of(chunks), rows.of(cells.ends)
    named = None if parents is None else TaskRef((parents,))
    return view.source, tree, trees.blocks.cells(FRAGMENTS, block), raws, *spans, kept, named


def _tree_value_inputs(
    trees: TreeCells, edges: str, prefix: str, values: LinkValues, about: dict[str, Any], block: int
) -> tuple[Any, ...]:
    """What the task is given that gives the values of a block's edges; ``about``: fields of `ValueCells`."""
    chunks, source = trees.blocks.of(block), trees.view.source
    mine = trees.of(int(chunks[0]), int(chunks[-1]) + 1)
    cells = value_cells(trees.family, values.cells, trees.cells, mine, **about)
    table = None if values.table is None else Task(None, read_dense, source, values.table)
    return source, cells, trees.raws(mine, prefix, about["present"]), table, TaskRef((edges, block))


@dataclass(frozen=True, slots=True, eq=False)
class Trees:
    """A layer of the edges of skeletons: keys ``(name, block)``, see `read.records.Tree`."""

    name: str
    cells: TreeCells
    graph: HighLevelGraph
    halo: Reads

    def __len__(self) -> int:
        return len(self.cells.blocks)


def _trees(view: LevelView, family: LinkFamily) -> Trees:
    fragments = fragment_spec(view)
    cells = list_cells(view, family, cut=True)
    for segment in family.segments:
        view.member(f"links:0:{segment.name}", segment.array)
    halo, halo_rows = _halo(view, family, cells)
    rows, row_graph = number_view(view)
    choice, chosen = choice_graph(view)
    digests = [*(segment.array.digest for segment in family.segments), family.table.digest if family.table else None]
    graphs = [read_graph(view.reads), read_graph(halo), row_graph, *chosen]
    table = table_of(view, family)
    parents = None if table is None else f"zv-parents-{tokenize(view.token, digests)}"
    if parents is not None:
        kept = kept_of(choice)
        graphs.append(task_over(parents, Task((parents,), table_parents, table, rows.all(), kept), *graphs))
    trees = TreeCells(
        view=view,
        family=family,
        cells=cells,
        blocks=blocks_of(view),
        reaches=Reaches.of(cells.ends, len(view)),  # by every end: the child may be any of them
        halo=halo.name,
        halo_rows=halo_rows,
    )
    recipe = BlockTasks(tree_edges, partial(_tree_inputs, trees, fragments, rows, choice, parents))
    name = f"zv-trees-{tokenize(view.token, digests, view.bounds)}"
    return Trees(name, trees, blocks_over(name, recipe, len(trees.blocks), *graphs), halo)


def tree_edges_array(view: LevelView, family: LinkFamily | None) -> da.Array:
    """[child, parent] edges of skeletons, by child."""
    family = family or LinkFamily(delta=0, width=2, directed=False, segments=())
    check_sources(view, family, list_cells(view, family, cut=True))
    if not len(view):
        return empty_array((2,), INTEGER)
    trees = _trees(view, family)
    name = trees.name.replace("trees", "edges")
    recipe = BlockTasks(tree_rows, (Each(trees.name),))
    return array_over(name, recipe, [NAN] * len(trees), (2,), INTEGER, trees.graph)


def _halo(view: LevelView, family: LinkFamily, cells: CellList) -> tuple[Reads, IntArray]:
    """Reads of the cells that lie in chunks outside the view, and for each cell its chunk among theirs."""
    table = ChunkTable(np.unique(cells.coords[cells.sources < 0], axis=0))
    reads = shared_reads(f"zv-read-halo-{tokenize(view.reads.name, table.coords)}", view.source, table.coords)
    for segment in family.segments:
        present = segment.array.chunks.find(table.coords) >= 0
        spec, name = segment.array.spec, f"links:0:{segment.name}"
        reads.members.setdefault(name, Member(spec=spec, present=present, nbytes=4096.0))
    return reads, table.find(cells.coords)


def edge_attribute_array(view: LevelView, name: str) -> da.Array:
    """Values of a link attribute, aligned with `edges_array`; NaN for edges that are implied and have none, or masked.

    Raises
    ------
    NotFoundError
        If there is no such attribute.
    """
    data, family = view.data, view.data.links(0)
    if family is None or name not in data.link_attribute_names:
        raise NotFoundError.among("link attribute", name, data.link_attribute_names, where=data.url)
    values = data.link_attribute(family, name)
    check_edges(view)
    paths = bool(PATHS & set(data.store.geometry_types))
    if data.store.links_convention != TREE and not paths:
        return link_attribute_array(view, family, values, name)
    row_shape, dtype = link_row_shape(data, family, values), with_missing(value_dtype(family, values))
    if not len(view):
        return empty_array(row_shape, dtype)
    make = _tree_values if data.store.links_convention == TREE else _matched_values
    return make(view, family, name, row_shape, dtype)


def _tree_values(
    view: LevelView, family: LinkFamily, name: str, row_shape: tuple[int, ...], dtype: np.dtype[Any]
) -> da.Array:
    values = view.data.link_attribute(family, name)
    trees = _trees(view, family)
    cells, prefix = trees.cells.cells, f"link_attributes:{name}"
    present = np.zeros(len(cells), np.bool_)
    for number, segment in enumerate(family.segments):
        array, mine = values.cells.get(segment.name), cells.segments == number
        if array is None:
            continue
        member = f"{prefix}:{segment.name}"
        view.member(member, array)
        here = array.chunks.find(trees.halo.coords) >= 0
        trees.halo.members.setdefault(member, Member(spec=array.spec, present=here, nbytes=4096.0))
        present[mine] = array.chunks.find(cells.coords[mine]) >= 0
    about = {"present": present, "row_shape": row_shape, "dtype": dtype, "fill": values.fill}
    recipe = BlockTasks(tree_values, partial(_tree_value_inputs, trees.cells, trees.name, prefix, values, about))
    label = f"zv-edge-{name}-{tokenize(trees.name, name, [array.digest for array in values.cells.values()])}"
    masked = dtype.kind in "iu"
    return array_over(label, recipe, [NAN] * len(trees), row_shape, dtype, trees.graph, masked=masked)


def _matched_values(
    view: LevelView, family: LinkFamily, name: str, row_shape: tuple[int, ...], dtype: np.dtype[Any]
) -> da.Array:
    """Values of the stored records that say what is implied: one task looks up the edges of each block among them."""
    values = view.data.link_attribute(family, name)
    edges, links = path_edges_array(view), links_array(view, family)
    stored = link_attribute_array(view, family, values, name)
    label = f"zv-edge-{name}-{tokenize(edges.name, stored.name)}"
    found, blocks = f"{label}-records", edges.numblocks[0]
    below = HighLevelGraph.merge(*(array.__dask_graph__() for array in (edges, links, stored)))
    parts = [List(*map(TaskRef, flatten(array.__dask_keys__()))) for array in (links, stored)]
    graph = task_over(found, Task((found,), sort_records, *parts, dtype), below)
    keys = Per([TaskRef(key) for key in flatten(edges.__dask_keys__())])
    recipe = BlockTasks(values_of_edges, (keys, TaskRef((found,))))
    return array_over(label, recipe, [NAN] * blocks, row_shape, dtype, graph, masked=dtype.kind in "iu")
