"""Rows chosen in each chunk, and the values that conditions ask for."""

from dataclasses import dataclass, replace

import numpy as np
from dask.base import tokenize

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.model.arrays import CellArray, CellSpec, Dictionary, integers_with_missing
from zarr_vectors_lazy.plan.selection import Condition, Test
from zarr_vectors_lazy.read.cells import vertex_row_shape
from zarr_vectors_lazy.read.layers import GraphNode, Key, List, Needs, RecipeLayer, Task, TaskRef, cell_name, task_over
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
from zarr_vectors_lazy.types import BoolArray, ChunkCoords, IntArray

# How attributes are read, and layers of their values before any selection, for conditions on them.

PATHS = {"polyline", "streamline"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WholeValueRecipe:
    """Makes the tasks that decode an attribute, one a chunk."""

    column: Column
    reads: str
    member: str
    coords: ChunkCoords
    counts: IntArray | None
    present: BoolArray

    def task(self, key: Key, block: int) -> GraphNode:
        """Task of one chunk."""
        count = None if self.counts is None else int(self.counts[block])
        listed = bool(self.present[block])
        raw = TaskRef((cell_name(self.reads, self.member), block)) if listed else None
        counted = count is not None or (listed and not self.column.sized)
        head = None if counted else TaskRef((cell_name(self.reads, HEADS), block))
        return Task(key, column_values, self.column, tuple(self.coords[block].tolist()), count, listed, raw, head)

    def needs(self, blocks: BoolArray) -> Needs:
        """Every cell that there is, and heads where nothing else tells the number of rows."""
        counted = self.counts is not None
        heads = blocks & ((~self.present | self.column.sized) & (not counted))
        return {cell_name(self.reads, self.member): blocks & self.present, cell_name(self.reads, HEADS): heads}


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


def tested_graph(view: LevelView, name: str, condition: Condition) -> Named:
    """Layer of an attribute's values for every row of the view's chunks, as a condition takes them.

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
    member, present = attribute_member(view, array, name, sized=column.sized)
    recipe = WholeValueRecipe(
        column=column,
        reads=view.reads.name,
        member=member,
        coords=view.reads.coords,
        counts=view.stored_counts,
        present=present,
    )
    layer = f"zv-values-{tokenize(view.reads.name, name, condition.passes, array.digest if array else None)}"
    return Named(layer, view.graph(RecipeLayer(layer, recipe, len(view)), view.read_graph()))


# Layers that choose and count the rows of chunks.


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChoiceRecipe:
    """Makes the tasks that choose rows, one a chunk."""

    chooser: Chooser
    reads: str
    coords: ChunkCoords
    counts: IntArray | None
    masked: BoolArray
    owned: str | None
    values: tuple[str, ...]

    def task(self, key: Key, block: int) -> GraphNode:
        """Task of one chunk."""
        count = None if self.counts is None else int(self.counts[block])
        masked, coord = bool(self.masked[block]), tuple(self.coords[block].tolist())
        vertices = TaskRef((cell_name(self.reads, VERTICES), block)) if masked else None
        head = (
            TaskRef((cell_name(self.reads, HEADS), block)) if count is None and not masked and not self.values else None
        )
        fragments = None if self.owned is None else TaskRef((cell_name(self.reads, FRAGMENTS), block))
        return Task(
            key,
            choose_rows,
            self.chooser.of(coord),
            coord,
            count,
            vertices,
            head,
            fragments,
            None if self.owned is None else TaskRef((self.owned,)),
            List(*(TaskRef((name, block)) for name in self.values)),
            masked,
        )

    def needs(self, blocks: BoolArray) -> Needs | None:
        """Cells where a box cuts, heads where nothing else tells the number of rows, values for conditions."""
        if self.owned is not None:
            return None
        counted = self.counts is not None or bool(self.values)
        cells, heads = cell_name(self.reads, VERTICES), cell_name(self.reads, HEADS)
        values = dict.fromkeys(self.values, blocks)
        return {cells: blocks & self.masked, heads: blocks & (~self.masked & (not counted)), **values}


def choice_graph(view: LevelView) -> Named | None:
    """Layer of the chosen rows of each chunk (`kernels.rows.Kept`); None where every row is selected."""
    if not view.filters.any():
        return None
    selection = view.selection
    view.vertex_member()
    view.member(HEADS, view.data.vertices, head=True)
    graphs = [view.read_graph()]
    fragments: CellSpec | None = None
    owned: str | None = None
    if view.by_object:
        fragments = fragment_spec(view)
        owner = _owned_graph(view)
        owned = owner.name
        graphs.append(owner.graph)
    values = []
    for condition in selection.conditions:
        for name in condition.names:
            layer = tested_graph(view, name, condition)
            values.append(layer.name)
            graphs.append(layer.graph)
    recipe = ChoiceRecipe(
        chooser=Chooser(
            source=view.source,
            vertices=view.data.vertices.spec,
            fragments=fragments,
            regions=selection.regions,
            conditions=selection.conditions,
            placement=view.data.placement,
        ),
        reads=view.reads.name,
        coords=view.reads.coords,
        counts=view.stored_counts,
        masked=~view.inside if selection.regions else np.zeros(len(view), np.bool_),
        owned=owned,
        values=tuple(values),
    )
    name = f"zv-choose-{view.token}"
    return Named(name, view.graph(RecipeLayer(name, recipe, len(view)), *graphs))


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
    graphs = [view.read_graph()]
    per_view = []
    for touched in view.touched:
        layer = _hits_graph(touched)
        graphs.append(layer.graph)
        per_view.append(List(*(TaskRef((layer.name, chunk)) for chunk in range(len(touched)))))
    name = f"zv-owned-{view.token}"
    task = Task((name,), find_owned, view.source, index, view.selection.objects, List(*per_view))
    return Named(name, task_over(name, task, *graphs))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HitRecipe:
    """Makes the tasks that find fragments with a selected row, one a chunk."""

    source: Source
    fragments: CellSpec
    reads: str
    coords: ChunkCoords
    choice: str | None
    filters: BoolArray

    def task(self, key: Key, block: int) -> GraphNode:
        """Task of one chunk."""
        kept = TaskRef((self.choice, block)) if self.choice is not None and self.filters[block] else None
        coord = tuple(self.coords[block].tolist())
        return Task(
            key, find_hits, self.source, self.fragments, coord, TaskRef((cell_name(self.reads, FRAGMENTS), block)), kept
        )


def _hits_graph(touched: LevelView) -> Named:
    """Layer of the fragments that have a row in a view, by chunk."""
    fragments = fragment_spec(touched)
    choice = choice_graph(touched)
    recipe = HitRecipe(
        source=touched.source,
        fragments=fragments,
        reads=touched.reads.name,
        coords=touched.reads.coords,
        choice=None if choice is None else choice.name,
        filters=touched.filters,
    )
    name = f"zv-hit-{touched.token}"
    graphs = [touched.read_graph(), *([] if choice is None else [choice.graph])]
    return Named(name, touched.graph(RecipeLayer(name, recipe, len(touched)), *graphs))
