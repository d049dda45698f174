"""Objects of a view as Dask arrays: paths, their edges, ragged tables."""

from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer

from zarr_vectors_lazy.access.paths import (
    PathBlock,
    offsets_of,
    path_edges,
    path_rows,
    path_vertices,
    trace_paths,
)
from zarr_vectors_lazy.graph.array import NAN, empty_array, make_array
from zarr_vectors_lazy.graph.choose import choice_graph, fragment_spec
from zarr_vectors_lazy.graph.layers import GraphNode, Key, List, RecipeLayer, Task, TaskRef
from zarr_vectors_lazy.graph.links import INTEGER
from zarr_vectors_lazy.graph.narrow import objects_of_chunks
from zarr_vectors_lazy.graph.numbering import RowNumbers, number_view
from zarr_vectors_lazy.graph.reads import cell_name
from zarr_vectors_lazy.graph.view import FRAGMENTS, VERTICES, LevelView, Named
from zarr_vectors_lazy.types import BoolArray, IntArray


def path_blocks(view: LevelView, objects: IntArray) -> list[PathBlock]:
    """Objects cut into blocks along the stored chunks of manifests, with the chunks that each block touches.

    Parameters
    ----------
    objects
        (o,) manifest rows, in the order wanted.
    """
    if not len(objects) or not len(view):
        return []
    index = view.data.object_index
    assert index is not None
    size = index.stored_rows
    fragments = fragment_spec(view)
    cuts = np.flatnonzero(np.diff(objects // size)) + 1
    blocks = []
    for part in np.split(objects, cuts):
        at = view.table.find(view.manifests_of(part).chunks)
        chunks = np.unique(at[at >= 0])
        is_run = len(part) > 1 and bool((np.diff(part) == 1).all())
        blocks.append(
            PathBlock(
                source=view.source,
                index=index,
                fragments=fragments,
                vertices=view.data.vertices.spec,
                objects=range(int(part[0]), int(part[-1]) + 1) if is_run else part,
                chunks=chunks,
                coords=view.reads.coords[chunks],
                whole=view.rows is None,
            )
        )
    return blocks


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TraceRecipe:
    """Makes the tasks that trace objects, one a block."""

    blocks: tuple[PathBlock, ...]
    reads: str

    def task(self, key: Key, block: int) -> GraphNode:
        """Task of one block."""
        of = self.blocks[block]
        return Task(
            key, trace_paths, of, List(*(TaskRef((cell_name(self.reads, FRAGMENTS), c)) for c in of.chunks.tolist()))
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PathRowRecipe:
    """Makes the tasks that give what row numbers of objects tell, `path_edges` or `path_rows`, one a block."""

    function: Callable[..., Any]
    blocks: tuple[PathBlock, ...]
    trace: str
    rows: RowNumbers
    choice: str | None
    filters: BoolArray

    def task(self, key: Key, block: int) -> GraphNode:
        """Task of one block."""
        of = self.blocks[block]
        kept = _kept(of, self.choice, self.filters)
        return Task(key, self.function, of, TaskRef((self.trace, block)), self.rows.argument(of.chunks.tolist()), kept)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PathVertexRecipe:
    """Makes the tasks that give the vertices of objects, one a block."""

    blocks: tuple[PathBlock, ...]
    trace: str
    reads: str
    choice: str | None
    filters: BoolArray

    def task(self, key: Key, block: int) -> GraphNode:
        """Task of one block."""
        of = self.blocks[block]
        raws = List(*(TaskRef((cell_name(self.reads, VERTICES), c)) for c in of.chunks.tolist()))
        return Task(key, path_vertices, of, TaskRef((self.trace, block)), raws, _kept(of, self.choice, self.filters))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PartRecipe:
    """Makes the tasks that pick one part of what another layer gives."""

    layer: str
    item: int

    def task(self, key: Key, block: int) -> GraphNode:
        """Task of one block."""
        return Task(key, itemgetter(self.item), TaskRef((self.layer, block)))


def path_edges_array(view: LevelView) -> da.Array:
    """Edges between consecutive vertices of each object; (E, 2) int64, one block a stored chunk of manifests."""
    if view.data.object_index is None:
        return empty_array((2,), INTEGER)
    # Not only the selected objects: others may go through the same rows where objects share fragments.
    objects = np.arange(view.data.object_index.count) if view.rows is None else objects_of_chunks(view)
    blocks = path_blocks(view, objects)
    if not blocks:
        return empty_array((2,), INTEGER)
    recipe, graphs = _numbered(view, blocks, path_edges)
    name = f"zv-path-edges-{tokenize(view.token, view.data.fragments.digest)}"
    graph = view.graph(RecipeLayer(name, recipe, len(blocks), 1), *graphs)
    return make_array(graph, name, [NAN] * len(blocks), (2,), INTEGER)


def path_rows_arrays(view: LevelView, objects: IntArray) -> tuple[da.Array, da.Array, da.Array]:
    """Rows of the view that objects go through, in path order.

    Parameters
    ----------
    objects
        (o,) manifest rows, ascending.

    Returns
    -------
    (M,) rows, (M,) numbers that differ between neighbours of two fragments of an object, and (o + 1,) offsets; int64.
    """
    blocks = path_blocks(view, objects)
    if not blocks:
        none = empty_array((), INTEGER)
        return none, none, da.zeros(len(objects) + 1, dtype=np.int64, chunks=-1)
    recipe, graphs = _numbered(view, blocks, path_rows)
    token = tokenize(view.token, view.data.fragments.digest, objects)
    parts = f"zv-path-row-parts-{token}"
    graph = view.graph(RecipeLayer(parts, recipe, len(blocks)), *graphs)
    arrays = []
    for item, word in enumerate(("rows", "entries")):
        name = f"zv-path-{word}-{token}"
        layer = RecipeLayer(name, PartRecipe(layer=parts, item=item), len(blocks))
        arrays.append(make_array(view.graph(layer, graph), name, [NAN] * len(blocks), (), INTEGER))
    offsets = _offsets(graph, parts, f"zv-path-row-offsets-{token}", len(blocks), len(objects), item=2)
    return arrays[0], arrays[1], offsets


def _numbered(
    view: LevelView, blocks: list[PathBlock], function: Callable[..., Any]
) -> tuple[PathRowRecipe, list[HighLevelGraph]]:
    """Recipe over the row numbers of traced objects, and the graphs that it needs."""
    traced = _traced(view, blocks)
    rows, row_graph = number_view(view)
    choice = choice_graph(view)
    recipe = PathRowRecipe(
        function=function,
        blocks=tuple(blocks),
        trace=traced.name,
        rows=rows,
        choice=None if choice is None else choice.name,
        filters=view.filters,
    )
    return recipe, [traced.graph, row_graph, *([] if choice is None else [choice.graph])]


def paths_array(view: LevelView, objects: IntArray) -> tuple[da.Array, da.Array]:
    """Vertices of objects one after another, (M, D), and (o + 1,) int64 offsets.

    Parameters
    ----------
    objects
        (o,) manifest rows.
    """
    spec = view.data.vertices.spec
    assert spec.row_shape is not None
    blocks = path_blocks(view, objects)
    if not blocks:
        return empty_array(spec.row_shape, spec.dtype), da.zeros(len(objects) + 1, dtype=np.int64, chunks=-1)
    view.vertex_member()
    traced = _traced(view, blocks)
    choice = choice_graph(view)
    recipe = PathVertexRecipe(
        blocks=tuple(blocks),
        trace=traced.name,
        reads=view.reads.name,
        choice=None if choice is None else choice.name,
        filters=view.filters,
    )
    token = tokenize(view.token, view.data.fragments.digest, objects)
    pairs, flat = f"zv-path-pairs-{token}", f"zv-path-{token}"
    graphs = [traced.graph, *([] if choice is None else [choice.graph])]
    graph = view.graph(RecipeLayer(pairs, recipe, len(blocks)), *graphs)
    rows = view.graph(RecipeLayer(flat, PartRecipe(layer=pairs, item=0), len(blocks), 1), graph)
    vertices = make_array(rows, flat, [NAN] * len(blocks), spec.row_shape, spec.dtype)
    return vertices, _offsets(graph, pairs, f"zv-path-offsets-{token}", len(blocks), len(objects), item=1)


def _offsets(graph: HighLevelGraph, parts: str, name: str, blocks: int, objects: int, *, item: int) -> da.Array:
    # Only the counts travel to the one task that adds them up.
    counts, pick = f"{name}-counts", itemgetter(item)
    tasks = {(counts, block): Task((counts, block), pick, TaskRef((parts, block))) for block in range(blocks)}
    task = Task((name, 0), offsets_of, List(*(TaskRef(key) for key in tasks)))
    layers = {**graph.layers, name: MaterializedLayer({**tasks, task.key: task})}
    whole = HighLevelGraph(layers, {**graph.dependencies, name: set(graph.layers)})
    return make_array(whole, name, [objects + 1], (), INTEGER)


def _traced(view: LevelView, blocks: list[PathBlock]) -> Named:
    objects = [np.asarray(block.objects) for block in blocks]
    name = f"zv-trace-{tokenize(view.token, view.data.fragments.digest, objects)}"
    recipe = TraceRecipe(blocks=tuple(blocks), reads=view.reads.name)
    return Named(name, view.graph(RecipeLayer(name, recipe, len(blocks)), view.read_graph()))


def _kept(block: PathBlock, choice: str | None, filters: BoolArray) -> List:
    return List(*(TaskRef((choice, c)) if choice is not None and filters[c] else None for c in block.chunks.tolist()))
