"""Rows chosen in each chunk, and the values that conditions ask for."""

from dataclasses import dataclass, replace
from functools import partial
from operator import getitem
from typing import Any

import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.model.arrays import CellArray, CellSpec, Dictionary, integers_with_missing
from zarr_vectors_lazy.plan.selection import Condition, Test
from zarr_vectors_lazy.read.batches import Blocks, blocks_of
from zarr_vectors_lazy.read.cells import vertex_row_shape
from zarr_vectors_lazy.read.layers import (
    BlockTasks,
    GraphNode,
    Key,
    List,
    Needs,
    Task,
    TaskRef,
    blocks_over,
    cell_name,
    read_graph,
    task_over,
)
from zarr_vectors_lazy.read.level import Source
from zarr_vectors_lazy.read.rows import (
    Chooser,
    Column,
    choose_rows,
    column_values,
    find_hits,
    find_owned,
    missing_value,
    nullable,
)
from zarr_vectors_lazy.read.view import FRAGMENTS, HEADS, VERTICES, LevelView, Named
from zarr_vectors_lazy.types import BoolArray, IntArray

# How attributes are read, and their values before any selection, for conditions on them.

PATHS = {"polyline", "streamline"}


Values = tuple[Column, str, BoolArray]
"""How an attribute is read, the name of its cells, and (n,) which chunks of the view have one."""


def cell_needs(
    reads: str, member: str, chunks: BoolArray, listed: BoolArray, column: Column, counts: IntArray | None
) -> dict[str, BoolArray]:
    """Every cell of an attribute that some chunks have, and heads where nothing else tells the number of rows."""
    heads = chunks & ((~listed | column.sized) & (counts is None))
    return {cell_name(reads, member): chunks & listed, cell_name(reads, HEADS): heads}


def column_of(view: LevelView, name: str, *, decode: bool = True) -> tuple[Column, CellArray | None]:
    """How an attribute of the view's level is read, and its cells; None where chunks are cut by it."""
    data = view.data
    by = data.chunk_attribute
    if by is not None and by[0] == name:
        constants = by[1]
        if (data.vertices.chunks.coords[:, 0] < 0).any():  # a bin -1 holds what has no value (spec 0.7, 3.2)
            dtype = nullable(constants.dtype)
            constants = np.append(constants.astype(dtype), missing_value(dtype))
        column = Column(
            source=view.source,
            spec=None,
            vertices=data.vertices.spec,
            row_shape=(),
            dtype=constants.dtype,
            decode=False,
            constants=constants,
        )
        return column, None
    array = data.attribute(name)
    spec = array.spec
    coding = coding_of(view, name)
    decodes = decode and spec.dictionary is not None
    dtype = spec.dictionary.dtype if decodes and spec.dictionary is not None else spec.dtype
    fill = None if decode or coding is None else coding.fill
    if fill is None and has_holes(view, array):
        dtype = nullable(dtype)
    loose = spec.dtype.kind == "U" and spec.dictionary is None and bool(PATHS & set(data.store.geometry_types))
    column = Column(
        source=view.source,
        spec=spec,
        vertices=data.vertices.spec,
        row_shape=spec.row_shape or () if loose else vertex_row_shape(data, array),
        dtype=dtype,
        decode=decode,
        fill=fill,
        loose=loose,
        checked=array.told,
    )
    return column, array


def has_holes(view: LevelView, array: CellArray) -> bool:
    """Whether chunks of the view's level have no values of an attribute.

    Raises
    ------
    FormatError
        If they have none because the level is still being written.
    """
    found = bool((array.chunks.find(view.data.vertices.chunks.coords) < 0).any())
    if found and view.data.meta.deferred:
        text = f"chunks have vertices and no values of {array.spec.path!r}{view.data.state}"
        raise FormatError(text, where=view.data.url)
    return found


def coding_of(view: LevelView, name: str) -> Dictionary | None:
    """What an attribute's stored integers stand for; None where they are values, none of which is missing."""
    by = view.data.chunk_attribute
    if by is not None and by[0] == name:
        return None
    array = view.data.attribute(name)
    spec = array.spec
    if spec.dictionary is None and spec.dtype.kind in "iu" and has_holes(view, array):
        return integers_with_missing(spec.dtype)
    return spec.dictionary


def attribute_member(view: LevelView, array: CellArray | None, name: str, *, sized: bool) -> tuple[str, BoolArray]:
    """Let an attribute be read: name of its cells, and (n,) which chunks have one."""
    member = f"attribute:{name}"
    present = np.zeros(len(view), np.bool_) if array is None else view.member(member, array, role="values").present
    if sized or not present.all():
        view.member(HEADS, view.data.vertices, head=True)
    return member, present


def tested_values(view: LevelView, name: str, condition: Condition) -> Values:
    """An attribute's values for every row of the view's chunks, as a condition takes them.

    Its test takes what is stored, which no hole makes floats of; or of a dictionary whether a category passes.
    """
    column, array = column_of(view, name)
    if isinstance(condition.test, Test):
        spec = column.spec
        assert spec is not None
        if spec.dictionary is not None and condition.passes is not None:
            spec = replace(spec, dictionary=replace(spec.dictionary, categories=condition.passes))
            column = replace(column, spec=spec, dtype=np.dtype(np.float64))
        else:
            column = replace(column, dtype=spec.dtype, decode=False)
    return column, *attribute_member(view, array, name, sized=column.sized)


# Layers that choose and count the rows of chunks.


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Choice:
    """Chosen rows of a view's chunks, by block: each gives a list, None of a chunk whose rows are all selected.

    Parameters
    ----------
    name
        Of the layer that chooses.
    bounds
        (b + 1,) block k has the chunks ``bounds[k]:bounds[k + 1]``.
    filters
        (n,) chunks of which rows are chosen.
    """

    name: str
    bounds: IntArray
    filters: BoolArray

    def each(self, chunks: IntArray) -> list[Any]:
        """What a task is given of each of some chunks."""
        block = np.searchsorted(self.bounds, chunks, "right") - 1
        at = (chunks - self.bounds[block]).tolist()
        return [
            Task(None, getitem, TaskRef((self.name, number)), i) if chosen else None
            for number, i, chosen in zip(block.tolist(), at, self.filters[chunks].tolist(), strict=True)
        ]

    def run(self, chunks: IntArray) -> Any:
        """What a task is given of a run of chunks: a list, or nothing where all rows of all are selected."""
        if not self.filters[chunks].any():
            return ()
        block = int(np.searchsorted(self.bounds, chunks[0], "right")) - 1
        if np.array_equal(chunks, np.arange(self.bounds[block], self.bounds[block + 1])):
            return TaskRef((self.name, block))
        return List(*self.each(chunks))

    def needs(self, chunks: BoolArray) -> Needs:
        """Blocks that choose rows of some chunks, a mask."""
        return {self.name: np.logical_or.reduceat(chunks & self.filters, self.bounds[:-1])}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChoiceRecipe:
    """Makes the tasks that choose rows, one a block."""

    chooser: Chooser
    blocks: Blocks
    masked: BoolArray
    owned: str | None
    values: tuple[Values, ...]
    filters: BoolArray

    def task(self, key: Key, block: int) -> GraphNode:
        """Task of one block."""
        chunks = self.blocks.of(block).tolist()
        return Task(key, list, List(*(self._chosen(chunk) if self.filters[chunk] else None for chunk in chunks)))

    def _chosen(self, chunk: int) -> GraphNode:
        """Part of a task that chooses the rows of one chunk."""
        reads, counts = self.blocks.reads, self.blocks.counts
        count = None if counts is None else int(counts[chunk])
        masked, coord = bool(self.masked[chunk]), tuple(self.blocks.coords[chunk].tolist())
        vertices = TaskRef((cell_name(reads, VERTICES), chunk)) if masked else None
        told = count is not None or masked or self.values
        head = None if told else TaskRef((cell_name(reads, HEADS), chunk))
        fragments = owned = None
        if self.owned is not None:
            fragments, owned = TaskRef((cell_name(reads, FRAGMENTS), chunk)), TaskRef((self.owned,))
        values = List(*(self._values(chunk, coord, count, *values) for values in self.values))
        own = (vertices, head, fragments, owned, values, masked)
        return Task(None, choose_rows, self.chooser.of(coord), coord, count, *own)

    def _values(
        self, chunk: int, coord: tuple[int, ...], count: int | None, column: Column, member: str, present: BoolArray
    ) -> GraphNode:
        """Part of a task that decodes an attribute of one chunk, whatever is selected."""
        listed, reads = bool(present[chunk]), self.blocks.reads
        raw = TaskRef((cell_name(reads, member), chunk)) if listed else None
        counted = count is not None or (listed and not column.sized)
        head = None if counted else TaskRef((cell_name(reads, HEADS), chunk))
        return Task(None, column_values, column, coord, count, listed, raw, head)

    def needs(self, wanted: BoolArray) -> Needs | None:
        """Cells where a box cuts, heads where nothing else tells the number of rows, values for conditions."""
        if self.owned is not None:
            return None
        reads, counts = self.blocks.reads, self.blocks.counts
        chunks = self.blocks.needs(wanted)[0] & self.filters
        counted = counts is not None or bool(self.values)
        cells, heads = cell_name(reads, VERTICES), cell_name(reads, HEADS)
        found = {cells: chunks & self.masked, heads: chunks & (~self.masked & (not counted))}
        for column, member, present in self.values:
            for name, mask in cell_needs(reads, member, chunks, present, column, counts).items():
                found[name] = found[name] | mask if name in found else mask
        return found


def choice_graph(view: LevelView) -> tuple[Choice | None, list[HighLevelGraph]]:
    """Layer of the chosen rows of the view's blocks (`kernels.rows.Kept`); None where every row is selected."""
    if not view.filters.any():
        return None, []
    selection = view.selection
    view.vertex_member()
    view.member(HEADS, view.data.vertices, head=True)
    graphs = [read_graph(view.reads)]
    fragments: CellSpec | None = None
    owned: str | None = None
    if view.by_object:
        fragments = fragment_spec(view)
        owner = _owned_graph(view)
        owned = owner.name
        graphs.append(owner.graph)
    recipe = ChoiceRecipe(
        chooser=Chooser(
            source=view.source,
            vertices=view.data.vertices.spec,
            fragments=fragments,
            regions=selection.regions,
            conditions=selection.conditions,
            placement=view.data.placement,
        ),
        blocks=blocks_of(view),
        masked=~view.inside if selection.regions else np.zeros(len(view), np.bool_),
        owned=owned,
        values=tuple(tested_values(view, name, one) for one in selection.conditions for name in one.names),
        filters=view.filters,
    )
    name = f"zv-choose-{tokenize(view.token, view.bounds)}"
    graph = blocks_over(name, recipe, len(view.bounds) - 1, *graphs)
    return Choice(name=name, bounds=view.bounds, filters=view.filters), [graph]


def fragment_spec(view: LevelView) -> CellSpec:
    """Fragment indexes of the view's chunks, which must all be there (spec 0.9, 5.2)."""
    member = view.fragment_member()
    if not member.present.all():
        coord = view.table.coords[~member.present][0].tolist()
        text = f"chunk {coord} has vertices and no fragment index is listed for it"
        raise FormatError(text + view.data.state, where=view.data.url)
    return member.spec


def _owned_graph(view: LevelView) -> Named:
    """One task: the fragments of the selected objects, by chunk."""
    index = view.data.object_index
    assert index is not None
    graphs = [read_graph(view.reads)]
    per_view = []
    for touched in view.touched:
        layer = _hits_graph(touched)
        graphs.append(layer.graph)
        per_view.append(List(*(TaskRef((layer.name, block)) for block in range(len(touched.bounds) - 1))))
    name = f"zv-owned-{view.token}"
    task = Task((name,), find_owned, view.source, index, view.selection.objects, List(*per_view))
    return Named(name, task_over(name, task, *graphs))


def _hit_inputs(source: Source, fragments: CellSpec, blocks: Blocks, block: int) -> tuple[Any, ...]:
    """Parts of a task that find the fragments with a selected row, one a chunk."""
    chunks = blocks.of(block)
    kept = [None] * len(chunks) if blocks.choice is None else blocks.choice.each(chunks)
    name, coords = cell_name(blocks.reads, FRAGMENTS), map(tuple, blocks.coords[chunks].tolist())
    found = (
        Task(None, find_hits, source, fragments, coord, TaskRef((name, chunk)), rows)
        for chunk, coord, rows in zip(chunks.tolist(), coords, kept, strict=True)
    )
    return (List(*found),)


def _hits_graph(touched: LevelView) -> Named:
    """Layer of the fragments that have a row in a view, by block and chunk."""
    fragments = fragment_spec(touched)
    choice, graphs = choice_graph(touched)
    blocks = blocks_of(touched, choice=choice)
    recipe = BlockTasks(list, partial(_hit_inputs, touched.source, fragments, blocks))
    name = f"zv-hit-{tokenize(touched.token, touched.bounds)}"
    return Named(name, blocks_over(name, recipe, len(blocks), read_graph(touched.reads), *graphs))
