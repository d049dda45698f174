"""Vertices and attributes of a view as Dask arrays, one block a chunk or several."""

from dataclasses import dataclass
from typing import Any

import dask.array as da
import dask.config
import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph
from dask.utils import parse_bytes

from zarr_vectors_lazy.access.level import Source
from zarr_vectors_lazy.access.read import read_vertices
from zarr_vectors_lazy.graph.array import NAN, empty_array, make_array
from zarr_vectors_lazy.graph.choose import choice_graph
from zarr_vectors_lazy.graph.layers import GraphNode, Key, List, RecipeLayer, Task, TaskRef
from zarr_vectors_lazy.graph.values import column_of, values_of
from zarr_vectors_lazy.graph.view import VERTICES, LevelView
from zarr_vectors_lazy.kernels.rows import Kept
from zarr_vectors_lazy.model.arrays import CellSpec
from zarr_vectors_lazy.plan.blocks import cut_blocks
from zarr_vectors_lazy.types import BoolArray, ChunkCoords, IntArray, Raw, Vertices


def vertex_rows(
    source: Source, spec: CellSpec, coord: tuple[int, ...], count: int | None, raw: Raw, kept: Kept | None
) -> Vertices:
    """Task: selected positions of one chunk; (n, D)."""
    found = read_vertices(source, spec, coord, raw, count)
    return found if kept is None else kept.take(found)


def value_rows(values: np.ndarray[Any, Any], kept: Kept | None) -> np.ndarray[Any, Any]:
    """Task: selected rows of one chunk's values."""
    return values if kept is None else kept.take(values)


def joined(parts: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """Task: rows of several chunks, one after another."""
    return np.concatenate(parts)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VertexRecipe:
    """Makes the tasks that decode positions, one a chunk."""

    source: Source
    spec: CellSpec
    reads: str
    coords: ChunkCoords
    counts: IntArray | None
    choice: str | None
    filters: BoolArray

    def task(self, key: Key, block: int) -> GraphNode:
        """Task of one chunk."""
        count = None if self.counts is None else int(self.counts[block])
        raw = TaskRef((self.reads, VERTICES, block))
        kept = TaskRef((self.choice, block)) if self.choice is not None and self.filters[block] else None
        return Task(key, vertex_rows, self.source, self.spec, tuple(self.coords[block].tolist()), count, raw, kept)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SelectRecipe:
    """Makes the tasks that select rows of values, one a chunk."""

    values: str
    choice: str | None
    filters: BoolArray

    def task(self, key: Key, block: int) -> GraphNode:
        """Task of one chunk."""
        kept = TaskRef((self.choice, block)) if self.choice is not None and self.filters[block] else None
        return Task(key, value_rows, TaskRef((self.values, block)), kept)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JoinRecipe:
    """Makes the tasks that join chunks into blocks."""

    chunks: str
    bounds: IntArray
    trailing: int

    def task(self, key: Key, block: int) -> GraphNode:
        """Task of one block."""
        zeros = (0,) * self.trailing
        chunks = range(int(self.bounds[block]), int(self.bounds[block + 1]))
        return Task(key, joined, List(*(TaskRef((self.chunks, chunk, *zeros)) for chunk in chunks)))


def vertices_array(view: LevelView) -> da.Array:
    """Positions of the selected rows; (N, D), stored dtype."""
    spec = view.data.vertices.spec
    assert spec.row_shape is not None
    if not len(view):
        return empty_array(spec.row_shape, spec.dtype)
    member = view.vertex_member()
    choice = choice_graph(view)
    recipe = VertexRecipe(
        source=view.source,
        spec=spec,
        reads=view.reads.name,
        coords=view.reads.coords,
        counts=view.stored_counts,
        choice=None if choice is None else choice.name,
        filters=view.filters,
    )
    graphs = [view.read_graph()] if choice is None else [view.read_graph(), choice.graph]
    return _blocks(view, f"zv-vertices-{view.token}", recipe, graphs, spec.row_shape, spec.dtype, member.nbytes)


def attribute_array(view: LevelView, name: str, *, decode: bool = True) -> da.Array:
    """Values of a vertex attribute for the selected rows; (N,) or (N, C), aligned with `vertices_array`."""
    column, array = column_of(view, name, decode=decode)
    if not len(view):
        return empty_array(column.row_shape, column.dtype)
    values = values_of(view, column, array, name)
    choice = choice_graph(view)
    recipe = SelectRecipe(
        values=values.name, choice=None if choice is None else choice.name, filters=view.filters
    )
    graphs = [values.graph] if choice is None else [values.graph, choice.graph]
    label = f"zv-{'' if decode else 'codes-'}{name}-{tokenize(view.token, values.name)}"
    nbytes = view.vertex_member().nbytes
    return _blocks(view, label, recipe, graphs, column.row_shape, column.dtype, nbytes)


def _blocks(
    view: LevelView,
    name: str,
    recipe: VertexRecipe | SelectRecipe,
    graphs: list[HighLevelGraph],
    row_shape: tuple[int, ...],
    dtype: np.dtype[Any],
    nbytes: float,
) -> da.Array:
    """Array of one block a chunk, or of joined ones where the view asks for that."""
    trailing = len(row_shape)
    sizes = view.sizes
    graph = view.graph(RecipeLayer(name, recipe, len(view), trailing), *graphs)
    if view.chunking is None or view.chunking == 1:
        rows = [NAN] * len(view) if sizes is None else sizes.tolist()
        return make_array(graph, name, rows, row_shape, dtype)
    # Cut by the size of the positions, so that attributes have the same blocks.
    estimates = nbytes if sizes is None else sizes * (nbytes / max(float(sizes.mean()), 1.0))
    bounds = cut_blocks(len(view), view.chunking, estimates, parse_bytes(dask.config.get("array.chunk-size")))
    wide = f"{name}-{tokenize(bounds)}"
    join = JoinRecipe(chunks=name, bounds=bounds, trailing=trailing)
    graph = view.graph(RecipeLayer(wide, join, len(bounds) - 1, trailing), graph)
    rows = [NAN] * (len(bounds) - 1) if sizes is None else np.add.reduceat(sizes, bounds[:-1]).tolist()
    return make_array(graph, wide, rows, row_shape, dtype)
