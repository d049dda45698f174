"""Vertices and attributes of a view as Dask arrays, in parts, and counted on a grid; and selections."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from operator import getitem
from typing import Any, NamedTuple, TypeVar

import dask
import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.core import flatten
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph

from zarr_vectors_lazy.errors import FormatError, NotFoundError, SelectionError, counted, in_line
from zarr_vectors_lazy.kernels.bins import Binned, Grid, bin_rows, dense_grid, merge_binned
from zarr_vectors_lazy.kernels.rows import first_row_numbers
from zarr_vectors_lazy.model.arrays import CellArray, CellSpec, Dictionary, integers_with_missing
from zarr_vectors_lazy.model.objects import Manifests, ranges
from zarr_vectors_lazy.plan.selection import (
    AnyOf,
    Area,
    Between,
    Boxes,
    Condition,
    Picks,
    Test,
    nearest_rows,
    parse_test,
)
from zarr_vectors_lazy.read.cells import count_rows, vertex_row_shape
from zarr_vectors_lazy.read.layers import (
    Blocks,
    BlockTasks,
    GraphNode,
    List,
    Needs,
    Of,
    Per,
    Task,
    TaskRef,
    array_over,
    batched,
    blocks_of,
    blocks_over,
    cell_name,
    cut_runs,
    empty_array,
    make_array,
    read_graph,
    task_over,
    task_tree,
    tasks_over,
)
from zarr_vectors_lazy.read.level import Source
from zarr_vectors_lazy.read.objects import read_owners, rows_of_ids
from zarr_vectors_lazy.read.records import number_rows, span_table, spans_of
from zarr_vectors_lazy.read.rows import (
    Chooser,
    Column,
    choose_alone,
    choose_rows,
    column_values,
    find_hits,
    find_owned,
    missing_value,
    nullable,
    read_row_counts,
    value_block,
    vertex_block,
)
from zarr_vectors_lazy.read.view import FRAGMENTS, HEADS, MANIFESTS, VERTICES, LevelView, Named
from zarr_vectors_lazy.types import Array, BoolArray, Floats, IntArray, Vertices

# How attributes are read, and their values before any selection, for conditions on them.

PATHS = {"polyline", "streamline"}


class ColumnCells(NamedTuple):
    """A vertex attribute to read: how, the name of its cells, and (n,) which chunks of the view have one."""

    column: Column
    member: str
    present: BoolArray

    @classmethod
    def of(cls, view: LevelView, name: str, *, decode: bool = True) -> "ColumnCells":
        """Those of an attribute of a view."""
        column, array = column_of(view, name, decode=decode)
        return cls(column, *attribute_member(view, array, name, sized=column.sized))


def cell_needs(
    reads: str, member: str, chunks: BoolArray, listed: BoolArray, column: Column, counts: IntArray | None
) -> dict[str, BoolArray]:
    """Every cell of an attribute that some chunks have, and heads if nothing else gives the number of rows."""
    heads = chunks & ((~listed | column.sized) & (counts is None))
    return {cell_name(reads, member): chunks & listed, cell_name(reads, HEADS): heads}


def column_of(view: LevelView, name: str, *, decode: bool = True) -> tuple[Column, CellArray | None]:
    """How an attribute of the view's level is read, and its cells; None if chunks are cut by it."""
    data = view.data
    by = data.chunk_attribute
    if by is not None and by[0] == name:
        constants = by[1]
        if (data.vertices.chunks.coords[:, 0] < 0).any():  # bin -1 holds rows without a value (spec 0.7, 3.2)
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
    """Whether some chunks of the view's level have no values of an attribute.

    Raises
    ------
    FormatError
        If they have none because the level is still being written.
    """
    found = bool((array.chunks.find(view.data.vertices.chunks.coords) < 0).any())
    if found and view.data.meta.deferred:
        text = f"chunks have vertices, but no values of {array.spec.path!r}{view.data.state}"
        raise FormatError(text, where=view.data.url)
    return found


def coding_of(view: LevelView, name: str) -> Dictionary | None:
    """What an attribute's stored integers stand for; None if they are values, none of which is missing."""
    if view.data.cuts_chunks(name):
        return None
    array = view.data.attribute(name)
    spec = array.spec
    if spec.dictionary is None and spec.dtype.kind in "iu" and has_holes(view, array):
        return integers_with_missing(spec.dtype)
    return spec.dictionary


def attribute_member(view: LevelView, array: CellArray | None, name: str, *, sized: bool) -> tuple[str, BoolArray]:
    """Arrange for an attribute to be read: name of its cells, and (n,) which chunks have one."""
    member = f"attribute:{name}"
    present = np.zeros(len(view), np.bool_) if array is None else view.member(member, array, role="values").present
    if sized or not present.all():
        view.member(HEADS, view.data.vertices, head=True)
    return member, present


def tested_values(view: LevelView, name: str, condition: Condition) -> ColumnCells:
    """An attribute's values for every row of the view's chunks, as a condition takes them.

    The test takes stored integers, which holes do not turn into floats; or for a dictionary, whether a category passes.
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
    return ColumnCells(column, *attribute_member(view, array, name, sized=column.sized))


# Layers that choose and count the rows of chunks.


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Choice:
    """Chosen rows of a view's chunks, by block: each returns a list, with None for chunks whose rows are all selected.

    Parameters
    ----------
    name
        Name of the layer that chooses.
    bounds
        (b + 1,) block k has the chunks ``bounds[k]:bounds[k + 1]``.
    filters
        (n,) chunks in which rows are chosen.
    """

    name: str
    bounds: IntArray
    filters: BoolArray

    def each(self, chunks: IntArray) -> list[Any]:
        """What a task is given for each of some chunks."""
        block = np.searchsorted(self.bounds, chunks, "right") - 1
        at = (chunks - self.bounds[block]).tolist()
        return [
            Task(None, getitem, TaskRef((self.name, number)), i) if chosen else None
            for number, i, chosen in zip(block.tolist(), at, self.filters[chunks].tolist(), strict=True)
        ]

    def run(self, chunks: IntArray) -> Any:
        """What a task is given for a run of chunks: a list, or nothing if all rows of all chunks are selected."""
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
class Choosing:
    """Inputs and needs of the tasks that choose rows, one for each block."""

    chooser: Chooser
    blocks: Blocks
    masked: BoolArray
    owned: str | None
    values: tuple[ColumnCells, ...]
    filters: BoolArray

    def inputs(self, block: int) -> tuple[List]:
        """Parts of one block's task, one for each chunk."""
        chunks = self.blocks.of(block).tolist()
        return (List(*(self._part(chunk) if self.filters[chunk] else None for chunk in chunks)),)

    def _part(self, chunk: int) -> GraphNode:
        return Task(None, choose_rows, *self.of_chunk(chunk))

    def of_chunk(self, chunk: int) -> tuple[Any, ...]:
        """What `choose_rows` is given for one chunk."""
        reads, counts = self.blocks.reads, self.blocks.counts
        count = None if counts is None else int(counts[chunk])
        masked, coord = bool(self.masked[chunk]), tuple(self.blocks.coords[chunk].tolist())
        vertices = TaskRef((cell_name(reads, VERTICES), chunk)) if masked else None
        told = count is not None or masked or self.values
        head = None if told else TaskRef((cell_name(reads, HEADS), chunk))
        fragments = owned = None
        if self.owned is not None:
            fragments, owned = TaskRef((cell_name(reads, FRAGMENTS), chunk)), TaskRef((self.owned,))
        values = List(*(self._values(chunk, coord, count, *values) for values in self.values)) if self.values else ()
        return self.chooser.of(coord), coord, count, vertices, head, fragments, owned, values, masked

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
        """Cells if a box cuts the chunk, heads if nothing else gives the number of rows, values for conditions."""
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
    """Layer of the chosen rows of the view's blocks (`kernels.rows.Kept`); None if every row is selected."""
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
    choosing = Choosing(
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
    if len(view.bounds) - 1 == len(view):  # blocks of one chunk: no parts of tasks, which Dask would walk through
        recipe = BlockTasks(choose_alone, choosing.of_chunk, choosing.needs)
    else:
        recipe = BlockTasks(list, choosing.inputs, choosing.needs)
    graph = blocks_over(name, recipe, len(view.bounds) - 1, *graphs)
    return Choice(name=name, bounds=view.bounds, filters=view.filters), [graph]


def fragment_spec(view: LevelView) -> CellSpec:
    """Fragment indexes of the view's chunks, which must all exist (spec 0.9, 5.2)."""
    member = view.member(FRAGMENTS, view.data.fragments)
    if not member.present.all():
        coord = view.table.coords[~member.present][0].tolist()
        text = f"chunk {coord} has vertices, but no fragment index is listed for it"
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
    """Parts of a task that find the fragments with a selected row, one for each chunk."""
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


# Row numbers of chunks, which edges, faces and links refer to.


@dataclass(frozen=True, slots=True, eq=False)
class RowNumbers:
    """Where each chunk's selected rows begin among those of a view.

    Parameters
    ----------
    name
        Key of the task that computes them.
    starts
        (n + 1,) int64 if sizes are known beforehand, otherwise None.
    stops
        (n,) where each chunk's rows end; None if the next chunk's begin there.
    """

    name: str
    starts: IntArray | None
    stops: IntArray | None = None

    def of(self, chunks: IntArray) -> Any:
        """First row and number of rows, (..., 2), of some chunks, (0, -1) for chunk -1; or a task for them."""
        if self.starts is None:
            return Task(None, spans_of, TaskRef((self.name,)), chunks)
        starts = self.starts
        sizes = np.diff(starts) if self.stops is None else self.stops - starts[:-1]
        return span_table(starts, sizes, chunks)

    def all(self) -> Any:
        """Input of a task that needs the row numbers of all chunks."""
        return TaskRef((self.name,)) if self.starts is None else self.starts


def number_view(view: LevelView) -> tuple[RowNumbers, HighLevelGraph]:
    """Row numbers of a view, and the graph that computes them; empty if they are known."""
    name, sizes = f"zv-rows-{view.token}", view.sizes
    if view.apart is not None:
        starts = first_row_numbers(len(view) + 1)
        return RowNumbers(name, starts, starts[:-1] + view.apart), HighLevelGraph({}, {})
    if sizes is not None:
        return RowNumbers(name, np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)), HighLevelGraph({}, {})
    apart, filtered, counts = np.flatnonzero(~view.filters), np.flatnonzero(view.filters), view.stored_counts
    graphs: list[HighLevelGraph] = []
    known: list[Any] = [] if counts is None else [counts[apart]]
    if counts is None:
        runs = cut_runs(view, apart)
        view.member(HEADS, view.data.vertices, head=True)
        counted = f"zv-count-{tokenize(view.token, runs.bounds)}"
        inputs = (view.source, view.data.vertices.spec, Of(runs.coords_of), Of(partial(runs.cells, HEADS)))
        graphs.append(blocks_over(counted, BlockTasks(count_rows, inputs), len(runs), read_graph(view.reads)))
        known = [TaskRef((counted, run)) for run in range(len(runs))]
    choice, chosen = choice_graph(view)
    kept = [] if choice is None else choice.each(filtered)
    graphs += chosen
    task = Task((name,), number_rows, len(view), apart, List(*known), filtered, List(*kept))
    return RowNumbers(name, None), task_over(name, task, *graphs)


def row_sizes(view: LevelView) -> Delayed:
    """Selected rows of each chunk of a view, (n,) int64, computed from what choosing them needs."""
    rows, graph = number_view(view)
    name = f"zv-sizes-{view.token}"
    task = Task((name,), np.diff, rows.starts if rows.starts is not None else TaskRef((rows.name,)))
    return Delayed((name,), task_over(name, task, graph), layer=name)


def sized(view: LevelView) -> LevelView:
    """Return a view with known sizes; reads as little as the store allows if they are not known."""
    if view.sizes is not None:
        return view.with_sizes(view.sizes)
    if not view.filters.any():
        return view.with_sizes(read_row_counts(view.data, view.rows))
    return view.with_sizes(np.asarray(dask.compute(row_sizes(view))[0]))


# Vertices and attributes of a view as Dask arrays, with one or more chunks per block.


def _vertex_needs(blocks: Blocks, wanted: BoolArray) -> Needs:
    """Every cell, and the choices of rows."""
    chunks, chosen = blocks.needs(wanted)
    return {cell_name(blocks.reads, VERTICES): chunks, **chosen}


def _value_inputs(column: Column, member: str, listed: BoolArray, blocks: Blocks, block: int) -> tuple[Any, ...]:
    """Inputs of the task that decodes an attribute of a block."""
    chunks = blocks.of(block)
    here = tuple(listed[chunks].tolist())
    described, kept = blocks.described(block), blocks.kept(block)
    if all(here) and not column.sized:
        return column, described, here, blocks.cell(member, block), (), kept
    cells, heads = cell_name(blocks.reads, member), cell_name(blocks.reads, HEADS)
    numbered = list(zip(chunks.tolist(), here, strict=True))
    raws = [TaskRef((cells, chunk)) if there else None for chunk, there in numbered]
    counted = blocks.counts is not None
    sizes = [None if counted or (there and not column.sized) else TaskRef((heads, chunk)) for chunk, there in numbered]
    return column, described, here, List(*raws), List(*sizes), kept


def _value_needs(column: Column, member: str, listed: BoolArray, blocks: Blocks, wanted: BoolArray) -> Needs:
    """Every existing cell, heads if nothing else gives the number of rows, and the choices of rows."""
    chunks, chosen = blocks.needs(wanted)
    return {**cell_needs(blocks.reads, member, chunks, listed, column, blocks.counts), **chosen}


def cut(view: LevelView) -> tuple[Blocks, list[HighLevelGraph]]:
    """Blocks of a view, and the graphs that they need."""
    choice, graphs = choice_graph(view)
    view.vertex_member()
    blocks = blocks_of(view, choice=choice)
    blocks = blocks if view.filters.any() else replace(blocks, counts=view.sizes)
    return blocks, [read_graph(view.reads), *graphs]


def vertices_array(view: LevelView) -> da.Array:
    """Positions of the selected rows; (N, D), stored dtype."""
    spec = view.data.vertices.spec
    assert spec.row_shape is not None
    if not len(view):
        return empty_array(spec.row_shape, spec.dtype)
    blocks, graphs = cut(view)
    inputs = (view.source, spec, Of(blocks.described), Of(partial(blocks.cell, VERTICES)), Of(blocks.kept))
    recipe = BlockTasks(vertex_block, inputs, partial(_vertex_needs, blocks))
    name = f"zv-vertices-{tokenize(view.token, blocks.bounds)}"
    return array_over(name, recipe, blocks.rows(view.sizes), spec.row_shape, spec.dtype, *graphs)


def attribute_array(view: LevelView, name: str, *, decode: bool = True) -> da.Array:
    """Values of a vertex attribute for the selected rows; (N,) or (N, C), aligned with `vertices_array`."""
    column, array = column_of(view, name, decode=decode)
    if not len(view):
        return empty_array(column.row_shape, column.dtype)
    member, present = attribute_member(view, array, name, sized=column.sized)
    blocks, graphs = cut(view)
    digest = None if array is None else array.digest
    label = f"zv-attribute:{in_line(name)}-{tokenize(view.token, blocks.bounds, name, decode, digest)}"
    of_values = (column, member, present, blocks)
    recipe = BlockTasks(value_block, partial(_value_inputs, *of_values), partial(_value_needs, *of_values))
    return array_over(label, recipe, blocks.rows(view.sizes), column.row_shape, column.dtype, *graphs)


# Selections of a view: the chunks that they may touch, computed before any task is made.

NOBODY, SEVERAL = -1, -2  # replaces the id of the object of a fragment (spec next, 20)


def select_region(view: LevelView, region: Area) -> LevelView:
    """Rows of a view that lie in boxes, or near points; only chunks that these meet remain."""
    selection = view.selection.with_region(region)
    keep, inside = region.chunks(view.table.coords, view.data.placement)
    return view.narrowed(keep, selection=selection, inside=view.inside & inside)


def select_objects(view: LevelView, ids: IntArray) -> LevelView:
    """Rows of a view that belong to some objects; only chunks that these touch remain.

    Raises
    ------
    NotFoundError
        If the level has no such object.
    """
    require_objects(view)
    rows = rows_of_ids(view.object_ids, ids)
    if (rows < 0).any():
        raise NotFoundError.among("object", int(ids[rows < 0][0]), present_ids(view).tolist(), where=view.data.url)
    keep = _touched(view, view.manifests_of(rows))
    return view.narrowed(keep, selection=view.selection.with_objects(ids))


def select_touching(view: LevelView, region: Area) -> LevelView:
    """All rows of the objects that have a vertex in some boxes.

    The chunks that remain are those of every object with a fragment in a chunk that the boxes meet; which of these
    objects have a vertex in a box is found when the graph runs.
    """
    require_objects(view)
    touched = select_region(view, region)
    objects = candidate_objects(touched)
    selection = view.selection
    if len(objects) < len(view.object_ids):  # so that tasks need not read the manifests of the others
        selection = selection.with_objects(view.object_ids[objects])
    keep = _touched(view, view.manifests_of(objects))
    return view.narrowed(keep, selection=selection, touched=(*view.touched, touched))


def select_where(view: LevelView, condition: Condition) -> LevelView:
    """Rows of a view that meet a condition; no chunk can be excluded beforehand."""
    selection = replace(view.selection, conditions=(*view.selection.conditions, condition))
    return view.narrowed(np.ones(len(view), np.bool_), selection=selection)


def select_values(view: LevelView, name: str, wanted: Any) -> LevelView:
    """Rows of a view by the values of an attribute, as `parse_test` takes them; codes are compared, not decoded.

    Whole chunks are excluded if the level is cut by the attribute.

    Raises
    ------
    SelectionError
        If the values cannot be compared with the attribute's.
    """
    by = view.data.chunk_attribute
    if by is not None and by[0] == name:
        test = parse_test(name, wanted, by[1].dtype)
        passes = np.append(test.among(by[1]), test.missing)  # bin -1 holds rows without a value (spec 0.7, 3.2)
        return view.narrowed(passes[view.table.coords[:, 0]])
    spec = view.data.attribute(name).spec
    if spec.dictionary is None or spec.dictionary.plain:
        test = parse_test(name, wanted, spec.dtype, None if spec.dictionary is None else spec.dictionary.fill)
        shape = () if isinstance(test, Between) else column_of(view, name)[0].row_shape
        if shape:
            raise SelectionError(
                f"{{{name!r}: ...}}: each vertex has {counted(shape[0], 'value')}: only a range (lo, hi) is possible"
            )
        return select_where(view, Condition((name,), test))
    categories = spec.dictionary.categories
    test = parse_test(name, wanted, categories.dtype) if len(categories) else AnyOf(categories, wanted is None)
    return select_where(view, Condition((name,), AnyOf(np.ones(1), test.missing), test.among(categories)))


def require_objects(view: LevelView) -> None:
    """Raise NotFoundError if the level has no object index."""
    if view.data.object_index is None:
        raise NotFoundError("the level has no objects", where=view.data.url)


def present_ids(view: LevelView) -> IntArray:
    """Ids of the objects that have a manifest on the whole level."""
    return view.object_ids[np.diff(view.manifests.offsets) > 0]


def candidate_objects(view: LevelView) -> IntArray:
    """Manifest rows of the objects that may have selected rows."""
    selection = view.selection
    hit = np.zeros(len(view.object_ids), np.bool_)
    hit[objects_of_chunks(view)] = True
    if selection.objects is not None:
        hit &= np.isin(view.object_ids, selection.objects)
    return np.flatnonzero(hit)


def objects_of_chunks(view: LevelView) -> IntArray:
    """Manifest rows of the objects that have a fragment in the view's chunks, ascending, selected or not."""
    owners = view.data.fragment_owners
    index = view.data.object_index
    assert index is not None
    if owners is not None and index.has_manifests:
        # A cell for each chunk instead of every manifest, if that is fewer requests.
        stored = -(-index.count // index.stored_rows)
        if MANIFESTS not in view.data.__dict__ and owners.spec.layout.requests(view.table.coords) < stored:
            ids = read_owners(view.source, owners, view.table.coords)
            rows = rows_of_ids(view.object_ids, ids)
            missing = ids[(rows < 0) & (ids != NOBODY)].tolist()
            if missing and missing[0] != SEVERAL:
                raise FormatError(f"fragments belong to object {missing[0]}, which does not exist", where=view.data.url)
            if not missing:  # otherwise only manifests show which
                return np.sort(rows[rows >= 0])
    manifests = view.manifests
    if view.rows is None:
        return np.flatnonzero(np.diff(manifests.offsets))
    at = _slots(view, manifests)
    return np.flatnonzero(np.bincount(manifests.owners[at >= 0], minlength=len(manifests)))


def _touched(view: LevelView, manifests: Manifests) -> BoolArray:
    keep = np.zeros(len(view), np.bool_)
    at = _slots(view, manifests)
    keep[at[at >= 0]] = True
    return keep


def _slots(view: LevelView, manifests: Manifests) -> IntArray:
    """(E,) chunk of the view of each entry, -1 if the view does not have it."""
    at = view.table.find(manifests.chunks)
    others = manifests.chunks[at < 0]
    refuse_unlisted(view.source.spec.url, others, view.data.vertices.chunks.find(others))
    return at


def refuse_unlisted(url: str, coords: IntArray, at: IntArray) -> None:
    """Raise FormatError if a chunk that manifests name, (E, K), does not exist, given as -1 in ``at`` (E,)."""
    if (at < 0).any():
        coord = coords[at < 0][0].tolist()
        raise FormatError(f"a manifest names chunk {coord}, which the level does not list", where=url)


def select_chunks(view: LevelView, coords: IntArray) -> LevelView:
    """Rows of a view that lie in some chunks, (n, K) coordinates; chunks that the level does not list are empty."""
    keep = np.zeros(len(view), np.bool_)
    at = view.table.find(coords)
    keep[at[at >= 0]] = True
    return view.narrowed(keep)


def pick_rows(view: LevelView, rows: IntArray) -> LevelView:
    """Some rows of a view of known sizes, (n,) ascending; if rows were already chosen, this reads which."""
    assert view.sizes is not None
    starts = np.concatenate([[0], np.cumsum(view.sizes)])
    of_rows = np.searchsorted(starts, rows, "right") - 1
    chunks, first, counts = np.unique(of_rows, return_index=True, return_counts=True)
    picked = rows - starts[of_rows]
    part = view.take(chunks)
    choice, graphs = choice_graph(part)
    if choice is not None:
        blocks = [Delayed((choice.name, block), graphs[0], layer=choice.name) for block in range(len(part.bounds) - 1)]
        every = chain.from_iterable(dask.compute(*blocks))
        for kept, start, count in zip(every, first.tolist(), counts.tolist(), strict=True):
            if kept is not None and kept.rows is not None:
                picked[start : start + count] = kept.rows[picked[start : start + count]]
    picks = Picks(part.table.coords.astype(np.int64), np.concatenate([[0], np.cumsum(counts)]), picked)
    keep = np.zeros(len(view), np.bool_)
    keep[chunks] = True
    selection = replace(view.selection, conditions=(Condition((), picks),))
    return view.narrowed(keep, selection=selection).with_sizes(counts)


def nearest_of_view(view: LevelView, points: Floats, k: int) -> tuple[IntArray, Floats]:
    """Rows of a view of known sizes nearest to (n, D) points, and their distances, both (n, k); see `nearest_rows`."""
    sizes = view.sizes
    assert sizes is not None
    starts = np.cumsum(sizes) - sizes
    placement = view.data.placement
    boxes = Boxes.of_chunks(placement.bounds(view.table.coords), sizes, known=placement.known)

    def read(chunks: IntArray) -> tuple[IntArray, Vertices, IntArray]:
        counts = sizes[chunks]
        found: Vertices = vertices_array(batched(view.take(chunks))).compute()
        return ranges(starts[chunks], counts), found, counts

    return nearest_rows(points, k, boxes, read)


# A level in parts: delayed values of its blocks, and its chunks one after another.

Part = dict[str, Any]
T = TypeVar("T")


def joined_part(names: tuple[str, ...], vertices: Any, *attributes: Any) -> Part:
    """Rows of a block: ``{"vertices": (n, D), "attributes": {name: (n,) or (n, C)}}``."""
    return {"vertices": vertices, "attributes": dict(zip(names, attributes, strict=True))}


def delayed_parts(view: LevelView) -> list[Delayed]:
    """One value for each block (see `joined_part`); their graph is shared."""
    names = view.data.attribute_names
    arrays: list[da.Array] = [vertices_array(view), *(attribute_array(view, name) for name in names)]
    if not len(view):
        return []
    name = f"zv-part-{tokenize(*(array.name for array in arrays))}"
    below = HighLevelGraph.merge(*(array.__dask_graph__() for array in arrays))
    refs = tuple(Per([TaskRef(key) for key in flatten(array.__dask_keys__())]) for array in arrays)
    blocks = len(refs[0].values)
    graph = blocks_over(name, BlockTasks(joined_part, (names, *refs)), blocks, below)
    return [Delayed((name, block), graph, layer=name) for block in range(blocks)]


def iterate_chunks(view: LevelView, prefetch: int) -> Iterator[tuple[tuple[int, ...], Part]]:
    """Chunks in order, with their rows; at most ``prefetch`` are read ahead."""
    keys = (tuple(coord.tolist()) for coord in view.table.coords)
    return zip(keys, _ahead(len(view), prefetch, lambda number: read_chunk(view, number)), strict=True)


def iterate_blocks(blocks: LevelView, prefetch: int, read: Callable[[LevelView], T]) -> Iterator[T]:
    """Results of ``read`` for a view's blocks, in order; at most ``prefetch`` are read ahead."""
    bounds = blocks.bounds.tolist()
    return _ahead(len(bounds) - 1, prefetch, lambda block: read(blocks.span(*bounds[block : block + 2])))


def _ahead(count: int, prefetch: int, make: Callable[[int], T]) -> Iterator[T]:
    """Results for numbers, in order, at most ``prefetch`` of them computed ahead."""
    if not prefetch:
        yield from map(make, range(count))
        return
    ahead: deque[Future[T]] = deque()
    with ThreadPoolExecutor(prefetch, "zarr-vectors-prefetch") as threads:
        numbers = iter(range(count))

        def start() -> None:
            number = next(numbers, None)
            if number is not None:  # the context says which client or scheduler is active
                ahead.append(threads.submit(copy_context().run, make, number))

        try:
            for _ in range(prefetch):
                start()
            for _ in range(count):
                part = ahead.popleft().result()
                start()
                yield part
        finally:
            for future in ahead:
                future.cancel()


def read_chunk(view: LevelView, number: int) -> Part:
    """Selected rows of one chunk."""
    one = view.span(number, number + 1)
    names = view.data.attribute_names
    arrays = dask.compute(vertices_array(one), *(attribute_array(one, name) for name in names))
    return joined_part(names, *map(np.asarray, arrays))


# Images of rows counted on a grid, as Dask arrays.


def binned_array(vertices: da.Array, values: da.Array | None, grid: Grid, *, strict: str = "") -> da.Array:
    """Counts of rows on a grid, or means of their values; one block.

    Parameters
    ----------
    vertices, values
        (N, D) and (N,), blocks aligned along the rows.
    strict
        Text for the error if a row lies outside the grid; empty to leave such rows out.
    """
    arrays = [vertices] if values is None else [vertices, values]
    refs = [Per([TaskRef(key) for key in flatten(array.__dask_keys__())]) for array in arrays]
    name = f"zv-bins-{tokenize(*(array.name for array in arrays), grid.columns, grid.lower, grid.upper, grid.edges)}"
    recipe, parts, blocks = BlockTasks(bin_rows, (grid, *refs)), f"{name}-parts", len(refs[0].values)
    graph = blocks_over(parts, recipe, blocks, *(array.dask for array in arrays))
    last = (name, *(0,) * len(grid.shape))
    tasks, root = task_tree(f"{name}-sums", [(parts, block) for block in range(blocks)], merge_binned)
    tasks[last] = Task(last, _finish, grid, TaskRef(root), values is not None, strict)
    graph = tasks_over(name, tasks, graph)
    dtype = np.dtype(np.int64 if values is None else np.float64)
    return make_array(graph, name, [grid.shape[0]], grid.shape[1:], dtype)


def _finish(grid: Grid, binned: Binned, mean: bool, strict: str) -> Array:
    if strict and binned.outside:
        raise FormatError(f"{counted(binned.outside, 'vertex')} outside {strict}")
    return dense_grid(grid, binned, mean=mean)
