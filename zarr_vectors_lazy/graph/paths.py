"""Objects of a view as Dask arrays: what their paths go through, and their edges."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer

from zarr_vectors_lazy.access.attributes import Column
from zarr_vectors_lazy.access.limits import block_nbytes
from zarr_vectors_lazy.access.paths import (
    Joined,
    PathReader,
    Router,
    begins_of,
    ends_of,
    join_paths,
    name_fragments,
    offsets_of,
    path_edges,
    piece_of,
    read_fragments_of_paths,
    read_paths,
    refuse_unlisted,
    route_paths,
)
from zarr_vectors_lazy.graph.array import NAN, empty_array, make_array
from zarr_vectors_lazy.graph.choose import choice_graph, fragment_spec
from zarr_vectors_lazy.graph.layers import (
    BlockTasks,
    Each,
    Every,
    Key,
    List,
    Per,
    RecipeLayer,
    Task,
    TaskRef,
    layer_over,
    task_over,
)
from zarr_vectors_lazy.graph.links import INTEGER
from zarr_vectors_lazy.graph.narrow import objects_of_chunks
from zarr_vectors_lazy.graph.numbering import number_view
from zarr_vectors_lazy.graph.runs import Runs, cells_of, cut_evenly, cut_runs
from zarr_vectors_lazy.graph.values import attribute_member, column_of
from zarr_vectors_lazy.graph.view import FRAGMENTS, VERTICES, LevelView, Named
from zarr_vectors_lazy.plan.selection import Selection
from zarr_vectors_lazy.types import BoolArray, IntArray

Shape = tuple[tuple[int, ...], np.dtype[Any]]
BEGINS: Shape = ((), np.dtype(np.bool_))


@dataclass(frozen=True, slots=True, eq=False)
class PathArrays:
    """What objects go through, one object after another, each in path order.

    Parameters
    ----------
    offsets
        (o + 1,) object k has the rows ``offsets[k]:offsets[k + 1]``.
    begins
        (M,) whether what an object names in one fragment begins here.
    vertices, rows
        (M, D) positions, and (M,) rows of the view, where asked for.
    attributes
        (M,) or (M, C) by name.
    """

    offsets: da.Array
    begins: da.Array
    vertices: da.Array | None
    rows: da.Array | None
    attributes: dict[str, da.Array]

    @property
    def positions(self) -> da.Array:
        """The vertices, which were asked for."""
        assert self.vertices is not None
        return self.vertices


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Wish:
    """What of the rows of objects is wanted: positions, rows of the view, attributes."""

    positions: bool
    rows: bool
    columns: dict[str, Column]
    members: dict[str, tuple[str, BoolArray]]

    def shapes(self, view: LevelView) -> list[Shape]:
        """Shape and dtype of one row of each, in this order."""
        spec = view.data.vertices.spec
        found: list[Shape] = [(spec.row_shape or (), spec.dtype)] if self.positions else []
        found += [((), INTEGER)] if self.rows else []
        return found + [(column.row_shape, column.dtype) for column in self.columns.values()]


def path_arrays(
    view: LevelView,
    objects: IntArray,
    *,
    positions: bool = True,
    rows: bool = False,
    attributes: Sequence[str] = (),
    whole: bool = False,
) -> PathArrays:
    """What objects go through, as far as it is selected; every cell is read once, whatever the number of blocks.

    Parameters
    ----------
    objects
        (o,) manifest rows, in the order wanted.
    positions, rows, attributes
        What of it is wanted.
    whole
        Whether all objects are to be one block, whatever their size.
    """
    view = view if rows else _of_objects(view, objects)
    found = {name: column_of(view, name) for name in attributes}
    wish = Wish(
        positions=positions,
        rows=rows,
        columns={name: column for name, (column, _) in found.items()},
        members={
            name: attribute_member(view, array, name, sized=column.sized) for name, (column, array) in found.items()
        },
    )
    shapes = wish.shapes(view)
    chunks, entries = _visited(view, objects)
    if not len(chunks):
        arrays = [empty_array(*shape) for shape in (*shapes, BEGINS)]
        return _named(wish, arrays, da.zeros(len(objects) + 1, dtype=np.int64, chunks=-1))
    runs = cut_runs(view, chunks)
    cuts = np.asarray([0, len(objects)], np.int64) if whole else _cut_objects(view, entries, shapes)
    token = tokenize(view.token, view.data.fragments.digest, objects, cuts, positions, rows, list(attributes))
    routed = Named(f"zv-route-{token}", _routed(view, objects, cuts, runs, f"zv-route-{token}"))
    read = _read(view, wish, runs, routed, f"zv-path-runs-{token}")
    return _joined(read, wish, shapes, sizes=np.diff(cuts), runs=len(runs), token=token)


def path_edges_array(view: LevelView) -> da.Array:
    """Edges between consecutive vertices of each object; (E, 2) int64, in the block of their first vertex.

    Inside fragments they follow from the fragments, between them from the manifests (`access.paths.name_fragments`).
    """
    if view.data.object_index is None or not len(view):
        return empty_array((2,), INTEGER)
    # Not only the selected objects: others may go through the same rows where objects share fragments.
    objects = np.arange(len(view.manifests)) if view.rows is None else objects_of_chunks(view)
    if not len(objects):
        return empty_array((2,), INTEGER)
    reader = PathReader(source=view.source, fragments=fragment_spec(view), vertices=view.data.vertices.spec)
    runs = _runs_of_blocks(view)
    rows, row_graph = number_view(view)
    choice = choice_graph(view)
    chosen = None if choice is None else choice.name
    token = tokenize(view.token, view.data.fragments.digest, view.bounds)
    read, named, name = f"zv-path-fragments-{token}", f"zv-path-named-{token}", f"zv-path-edges-{token}"
    inputs = (reader, runs.coords(), runs.cells(FRAGMENTS), runs.spans(rows), runs.kept(chosen))
    graphs = [view.read_graph(), row_graph, *([] if choice is None else [choice.graph])]
    graph = view.graph(RecipeLayer(read, BlockTasks(read_fragments_of_paths, inputs), len(runs)), *graphs)
    ends = f"{read}-ends"
    graph = view.graph(RecipeLayer(ends, BlockTasks(ends_of, (Each(read),)), len(runs)), graph)
    every = List(*(TaskRef((ends, run)) for run in range(len(runs))))
    router = _router(view, objects, np.asarray([0, len(objects)], np.int64), runs)
    graph = task_over(named, Task((named,), name_fragments, router, every), graph)
    picks = BlockTasks(_item, (TaskRef((named,)), Per(range(len(runs)))))
    graph = view.graph(RecipeLayer(f"{named}-runs", picks, len(runs)), graph)
    first = np.searchsorted(view.bounds, runs.bounds)
    inner = [view.bounds[start : stop + 1] - view.bounds[start] for start, stop in pairwise(first.tolist())]
    edges = BlockTasks(path_edges, (Each(read), Each(f"{named}-runs"), Per(inner)))
    graph = view.graph(RecipeLayer(f"{name}-runs", edges, len(runs)), graph)
    run_of = np.repeat(np.arange(len(runs)), np.diff(first))
    places = [(int(run), block - int(first[run])) for block, run in enumerate(run_of)]
    refs = Per([TaskRef((f"{name}-runs", run)) for run, _ in places])
    picks = BlockTasks(_item, (refs, Per([at for _, at in places])))
    graph = view.graph(RecipeLayer(name, picks, len(places), 1), graph)
    return make_array(graph, name, [NAN] * len(places), (2,), INTEGER)


def _runs_of_blocks(view: LevelView) -> Runs:
    """Runs of whole blocks of the view's chunks."""
    every = np.arange(len(view))
    cuts = np.searchsorted(view.bounds, cut_runs(view, every).bounds)
    return Runs(view, every, np.unique(view.bounds[cuts]))


def _of_objects(view: LevelView, objects: IntArray) -> LevelView:
    """Return a view of the same chunks without a choice of rows where it chose but objects, and all of these.

    What objects go through is selected with them.
    """
    selection = view.selection
    ids = selection.objects
    if ids is None or view.touched or selection.regions or selection.conditions:
        return view
    if not np.isin(view.object_ids[objects], ids).all():
        return view
    return view.narrowed(np.ones(len(view), np.bool_), selection=Selection())


def _visited(view: LevelView, objects: IntArray) -> tuple[IntArray, IntArray]:
    """Chunks of the view that objects go through, ascending, and (o,) how often each object enters one."""
    if not len(objects) or (not len(view) and view.rows is not None):  # manifests may name what a level lacks
        return np.empty(0, np.int64), np.zeros(len(objects), np.int64)
    manifests = view.manifests_of(objects)
    at = view.table.find(manifests.chunks)
    if view.rows is None:
        refuse_unlisted(view.source, manifests, at)
    return np.flatnonzero(np.bincount(at[at >= 0], minlength=len(view))), np.diff(manifests.offsets)


def _cut_objects(view: LevelView, entries: IntArray, shapes: Sequence[Shape]) -> IntArray:
    """Bounds of the blocks of objects: up to ``array.chunk-size`` each, or as many as the chunks have."""
    if isinstance(view.chunking, int):
        blocks = len(view.bounds) - 1
    else:
        row = sum(dtype.itemsize * int(np.prod(shape, dtype=np.int64)) for shape, dtype in shapes) or 8
        share = float(entries.sum()) / max(len(view.manifests.fragments) if view.has_manifests else entries.sum(), 1)
        rows = view.estimated_rows * len(view.data.vertices.chunks) * min(share, 1.0)
        blocks = max(1, int(np.ceil(rows * row / block_nbytes())))
    return cut_evenly(entries + 1, min(blocks, len(entries)))


def _router(view: LevelView, objects: IntArray, cuts: IntArray, runs: Runs) -> Router:
    index = view.data.object_index
    assert index is not None
    is_run = len(objects) > 1 and bool((np.diff(objects) == 1).all())
    return Router(
        source=view.source,
        index=index,
        objects=range(int(objects[0]), int(objects[-1]) + 1) if is_run else objects,
        cuts=cuts,
        coords=view.reads.coords[runs.chunks],
        bounds=runs.bounds,
        whole=view.rows is None,
    )


def _routed(view: LevelView, objects: IntArray, cuts: IntArray, runs: Runs, name: str) -> HighLevelGraph:
    """Layer of the entries of each run."""
    router, every = _router(view, objects, cuts, runs), f"{name}-all"
    graph = task_over(every, Task((every,), route_paths, router))
    picks = BlockTasks(_item, (TaskRef((every,)), Per(range(len(runs)))))
    return view.graph(RecipeLayer(name, picks, len(runs)), graph)


def _read(view: LevelView, wish: Wish, runs: Runs, routed: Named, name: str) -> Named:
    """Layer of what each run gives the blocks of objects."""
    reader = PathReader(
        source=view.source,
        fragments=fragment_spec(view),
        vertices=view.data.vertices.spec,
        positions=wish.positions,
        columns=tuple(wish.columns.values()),
    )
    choice = choice_graph(view)
    graphs = [view.read_graph(), routed.graph, *([] if choice is None else [choice.graph])]
    numbers: Any = None
    if wish.rows:
        rows, graph = number_view(view)
        numbers = runs.spans(rows)
        graphs.append(graph)
    view.vertex_member()
    counted = wish.positions or (not wish.rows and view.stored_counts is None)  # the rows of chunks must be known
    attributes = [_AttributeOfRuns(runs, member, present) for member, present in wish.members.values()]
    inputs = (
        reader,
        runs.coords(),
        runs.counts(view.stored_counts),
        Each(routed.name),
        runs.cells(FRAGMENTS),
        runs.cells(VERTICES) if counted else (),
        Every(tuple(attributes)),
        numbers,
        runs.kept(None if choice is None else choice.name),
    )
    return Named(name, view.graph(RecipeLayer(name, BlockTasks(read_paths, inputs), len(runs)), *graphs))


@dataclass(frozen=True, slots=True, eq=False)
class _AttributeOfRuns:
    """Cells of an attribute of the chunks of a run, as `read_paths` takes them."""

    runs: Runs
    member: str
    present: BoolArray

    def of(self, run: int) -> List:
        """Of one run: which chunks have a cell, and the cells."""
        chunks = self.runs.of(run)
        here = self.present[chunks]
        if not here.any():
            return List(here.tolist(), [])
        return List(here.tolist(), cells_of(self.runs.view.reads.name, self.member, chunks[here]))


def _joined(read: Named, wish: Wish, shapes: Sequence[Shape], *, sizes: IntArray, runs: int, token: str) -> PathArrays:
    """Arrays out of what runs give the blocks of objects, of which each has ``sizes`` objects."""
    blocks, joined = len(sizes), f"zv-path-blocks-{token}"
    tasks: dict[Key, Task] = {}
    for block in range(blocks):
        # A task of its own picks what a run has for a block: all that it has would wait for the last block.
        parts = [
            Task((f"{joined}-parts", run, block), piece_of, TaskRef((read.name, run)), block) for run in range(runs)
        ]
        tasks |= {part.key: part for part in parts}
        key = (joined, block)
        tasks[key] = Task(key, join_paths, List(*(TaskRef(part.key) for part in parts)), int(sizes[block]))
    graph = _over(joined, tasks, read.graph)
    arrays = []
    for item, (shape, dtype) in enumerate((*shapes, BEGINS)):
        name = f"zv-path-{item}-{token}"
        get = _value if item < len(shapes) else begins_of
        layer = RecipeLayer(name, BlockTasks(get, (Each(joined), item)), blocks, len(shape))
        arrays.append(make_array(_layer(layer, graph), name, [NAN] * blocks, shape, dtype))
    counts, offsets = f"zv-path-counts-{token}", f"zv-path-offsets-{token}"
    graph = _layer(RecipeLayer(counts, BlockTasks(_counts, (Each(joined),)), blocks), graph)  # they alone travel
    last_key: Key = (offsets, 0)
    last = Task(last_key, offsets_of, List(*(TaskRef((counts, block)) for block in range(blocks))))
    graph = _over(offsets, {last_key: last}, graph)
    return _named(wish, arrays, make_array(graph, offsets, [int(sizes.sum()) + 1], (), INTEGER))


def _over(name: str, tasks: dict[Key, Task], below: HighLevelGraph) -> HighLevelGraph:
    return layer_over(name, MaterializedLayer(tasks), [below])


def _layer(layer: RecipeLayer, below: HighLevelGraph) -> HighLevelGraph:
    return layer_over(layer.name, layer, [below])


def _named(wish: Wish, arrays: Sequence[da.Array], offsets: da.Array) -> PathArrays:
    """Name arrays that come in the order of `Wish.shapes`, `BEGINS` last."""
    left = list(arrays)
    vertices = left.pop(0) if wish.positions else None
    rows = left.pop(0) if wish.rows else None
    return PathArrays(offsets, left[-1], vertices, rows, dict(zip(wish.columns, left, strict=False)))


def _item(parts: Sequence[Any], at: int) -> Any:
    return parts[at]


def _value(joined: Joined, at: int) -> np.ndarray[Any, Any]:
    return joined.values[at]


def _counts(joined: Joined) -> IntArray:
    return joined.counts
