"""Vertices and attributes of a view as Dask arrays, one block a chunk or several."""

from dataclasses import dataclass

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from zarr_vectors_lazy.access.attributes import Column
from zarr_vectors_lazy.access.blocks import Block, value_block, vertex_block
from zarr_vectors_lazy.access.level import Source
from zarr_vectors_lazy.graph.array import NAN, empty_array, make_array
from zarr_vectors_lazy.graph.choose import choice_graph
from zarr_vectors_lazy.graph.layers import GraphNode, Key, List, Needs, RecipeLayer, Task, TaskRef
from zarr_vectors_lazy.graph.reads import cell_name
from zarr_vectors_lazy.graph.values import attribute_member, column_of
from zarr_vectors_lazy.graph.view import HEADS, VERTICES, LevelView
from zarr_vectors_lazy.model.arrays import CellSpec
from zarr_vectors_lazy.types import BoolArray, ChunkCoords, IntArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Blocks:
    """Chunks of a view cut into blocks, and how their rows are chosen.

    Parameters
    ----------
    reads
        Name of the reads.
    coords, counts
        Coordinates and promised rows of the chunks.
    bounds
        (b + 1,) block k has chunks ``bounds[k]:bounds[k + 1]``.
    choice
        Name of the layer that chooses rows, or None.
    filters
        (n,) chunks of which rows are chosen.
    """

    reads: str
    coords: ChunkCoords
    counts: IntArray | None
    bounds: IntArray
    choice: str | None
    filters: BoolArray

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def chunks(self, block: int) -> range:
        """Chunks of a block."""
        return range(int(self.bounds[block]), int(self.bounds[block + 1]))

    def described(self, block: int) -> Block:
        """What a task is told of a block."""
        part = slice(int(self.bounds[block]), int(self.bounds[block + 1]))
        counts = None if self.counts is None else tuple(self.counts[part].tolist())
        return Block(coords=self.coords[part], counts=counts)

    def kept(self, block: int) -> List | tuple[()]:
        """References to the chosen rows of a block's chunks; none where all rows are selected."""
        choice, filters = self.choice, self.filters
        if choice is None:
            return ()
        return List(*(TaskRef((choice, c)) if filters[c] else None for c in self.chunks(block)))

    def cells(self, member: str, block: int) -> TaskRef:
        """Reference to the encoded cells of a block's chunks: one cell, or a list of them."""
        chunks = self.chunks(block)
        span = (chunks[0],) if len(chunks) == 1 else (chunks[0], chunks[-1] + 1)
        return TaskRef((cell_name(self.reads, member), *span))

    def needs(self, blocks: BoolArray) -> tuple[BoolArray, Needs]:
        """(n,) chunks of some blocks, and what choosing their rows needs."""
        chunks = np.repeat(blocks, np.diff(self.bounds))
        return chunks, {} if self.choice is None else {self.choice: chunks & self.filters}

    def rows(self, sizes: IntArray | None) -> list[float]:
        """Rows of each block, NaN where unknown."""
        return [NAN] * len(self) if sizes is None else np.add.reduceat(sizes, self.bounds[:-1]).tolist()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VertexRecipe:
    """Makes the tasks that decode positions, one a block."""

    source: Source
    spec: CellSpec
    blocks: Blocks

    def task(self, key: Key, block: int) -> GraphNode:
        """Task of one block."""
        blocks = self.blocks
        cells = blocks.cells(VERTICES, block)
        return Task(key, vertex_block, self.source, self.spec, blocks.described(block), cells, blocks.kept(block))

    def needs(self, blocks: BoolArray) -> Needs:
        """Every cell, and the choices of rows."""
        chunks, chosen = self.blocks.needs(blocks)
        return {cell_name(self.blocks.reads, VERTICES): chunks, **chosen}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ValueRecipe:
    """Makes the tasks that decode an attribute, one a block."""

    column: Column
    member: str
    present: BoolArray
    blocks: Blocks

    def task(self, key: Key, block: int) -> GraphNode:
        """Task of one block."""
        blocks, chunks = self.blocks, self.blocks.chunks(block)
        present = tuple(self.present[chunks[0] : chunks[-1] + 1].tolist())
        described, kept = blocks.described(block), blocks.kept(block)
        if all(present) and not self.column.sized:
            return Task(key, value_block, self.column, described, present, blocks.cells(self.member, block), (), kept)
        cells, heads = cell_name(blocks.reads, self.member), cell_name(blocks.reads, HEADS)
        raws = [TaskRef((cells, chunk)) if here else None for chunk, here in zip(chunks, present, strict=True)]
        missing = [
            None if (here and not self.column.sized) or blocks.counts is not None else TaskRef((heads, c))
            for c, here in zip(chunks, present, strict=True)
        ]
        return Task(key, value_block, self.column, described, present, List(*raws), List(*missing), kept)

    def needs(self, blocks: BoolArray) -> Needs:
        """Every cell that there is, heads where nothing else tells the number of rows, and the choices of rows."""
        chunks, chosen = self.blocks.needs(blocks)
        counted = self.blocks.counts is not None
        heads = chunks & ((~self.present | self.column.sized) & (not counted))
        cells, heads_name = cell_name(self.blocks.reads, self.member), cell_name(self.blocks.reads, HEADS)
        return {cells: chunks & self.present, heads_name: heads, **chosen}


def cut(view: LevelView) -> tuple[Blocks, list[HighLevelGraph]]:
    """Blocks of a view, and the graphs that they need."""
    choice = choice_graph(view)
    view.vertex_member()
    blocks = Blocks(
        reads=view.reads.name,
        coords=view.reads.coords,
        counts=view.sizes if not view.filters.any() else view.stored_counts,
        bounds=view.bounds,
        choice=None if choice is None else choice.name,
        filters=view.filters,
    )
    return blocks, [view.read_graph(), *([] if choice is None else [choice.graph])]


def vertices_array(view: LevelView) -> da.Array:
    """Positions of the selected rows; (N, D), stored dtype."""
    spec = view.data.vertices.spec
    assert spec.row_shape is not None
    if not len(view):
        return empty_array(spec.row_shape, spec.dtype)
    blocks, graphs = cut(view)
    name = f"zv-vertices-{tokenize(view.token, blocks.bounds)}"
    recipe = VertexRecipe(source=view.source, spec=spec, blocks=blocks)
    graph = view.graph(RecipeLayer(name, recipe, len(blocks), 1), *graphs)
    return make_array(graph, name, blocks.rows(view.sizes), spec.row_shape, spec.dtype)


def attribute_array(view: LevelView, name: str, *, decode: bool = True) -> da.Array:
    """Values of a vertex attribute for the selected rows; (N,) or (N, C), aligned with `vertices_array`."""
    column, array = column_of(view, name, decode=decode)
    if not len(view):
        return empty_array(column.row_shape, column.dtype)
    member, present = attribute_member(view, array, name, sized=column.sized)
    blocks, graphs = cut(view)
    digest = None if array is None else array.digest
    label = f"zv-attribute:{name}-{tokenize(view.token, blocks.bounds, name, decode, digest)}"
    recipe = ValueRecipe(column=column, member=member, present=present, blocks=blocks)
    graph = view.graph(RecipeLayer(label, recipe, len(blocks), len(column.row_shape)), *graphs)
    return make_array(graph, label, blocks.rows(view.sizes), column.row_shape, column.dtype)
