"""Vertices and attributes of a view as Dask arrays; the chunks that a selection may touch."""

from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any

import dask
import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph

from zarr_vectors_lazy.errors import FormatError, NotFoundError, SelectionError, in_line
from zarr_vectors_lazy.model.objects import Manifests, ranges
from zarr_vectors_lazy.plan.nearest import Boxes, nearest_rows
from zarr_vectors_lazy.plan.selection import AnyOf, Area, Between, Condition, Picks, parse_test
from zarr_vectors_lazy.read.batches import Blocks, array_over, batched, blocks_of, empty_array
from zarr_vectors_lazy.read.choose import attribute_member, cell_needs, choice_graph, column_of
from zarr_vectors_lazy.read.layers import BlockTasks, List, Needs, Of, TaskRef, cell_name, read_graph
from zarr_vectors_lazy.read.objects import read_owners, rows_of_ids
from zarr_vectors_lazy.read.rows import Column, value_block, vertex_block
from zarr_vectors_lazy.read.view import HEADS, MANIFESTS, VERTICES, LevelView
from zarr_vectors_lazy.types import BoolArray, Floats, IntArray, Vertices

# Vertices and attributes of a view as Dask arrays, one block a chunk or several.


def _vertex_needs(blocks: Blocks, wanted: BoolArray) -> Needs:
    """Every cell, and the choices of rows."""
    chunks, chosen = blocks.needs(wanted)
    return {cell_name(blocks.reads, VERTICES): chunks, **chosen}


def _value_inputs(column: Column, member: str, listed: BoolArray, blocks: Blocks, block: int) -> tuple[Any, ...]:
    """What the task is given that decodes an attribute of a block."""
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
    """Every cell that there is, heads where nothing else tells the number of rows, and the choices of rows."""
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


# Selections of a view: the chunks that they may touch, worked out before any task is made.

NOBODY, SEVERAL = -1, -2  # in place of the id of the object of a fragment (spec next, 20)


def select_region(view: LevelView, region: Area) -> LevelView:
    """Rows of a view that lie in boxes, or near points; only the chunks that they meet remain."""
    selection = view.selection.with_region(region)
    keep, inside = region.chunks(view.table.coords, view.data.placement)
    return view.narrowed(keep, selection=selection, inside=view.inside & inside)


def select_objects(view: LevelView, ids: IntArray) -> LevelView:
    """Rows of a view that belong to some objects; only the chunks that they touch remain.

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

    The chunks that remain are those of every object with a fragment in a chunk that they meet; which of them have a
    vertex in one is seen when the graph runs.
    """
    require_objects(view)
    touched = select_region(view, region)
    objects = candidate_objects(touched)
    selection = view.selection
    if len(objects) < len(view.object_ids):  # then tasks need not read the manifests of the others
        selection = selection.with_objects(view.object_ids[objects])
    keep = _touched(view, view.manifests_of(objects))
    return view.narrowed(keep, selection=selection, touched=(*view.touched, touched))


def select_where(view: LevelView, condition: Condition) -> LevelView:
    """Rows of a view that meet a condition; no chunk can be left out beforehand."""
    selection = replace(view.selection, conditions=(*view.selection.conditions, condition))
    return view.narrowed(np.ones(len(view), np.bool_), selection=selection)


def select_values(view: LevelView, name: str, wanted: Any) -> LevelView:
    """Rows of a view by the values of an attribute, as `parse_test` takes them; codes are compared, not decoded.

    Whole chunks are left out where the level is cut by the attribute.

    Raises
    ------
    SelectionError
        If the values cannot be compared with the attribute's.
    """
    by = view.data.chunk_attribute
    if by is not None and by[0] == name:
        test = parse_test(name, wanted, by[1].dtype)
        passes = np.append(test.among(by[1]), test.missing)  # a bin -1 holds what has no value (spec 0.7, 3.2)
        return view.narrowed(passes[view.table.coords[:, 0]])
    spec = view.data.attribute(name).spec
    if spec.dictionary is None or spec.dictionary.plain:
        test = parse_test(name, wanted, spec.dtype, None if spec.dictionary is None else spec.dictionary.fill)
        shape = () if isinstance(test, Between) else column_of(view, name)[0].row_shape
        if shape:
            raise SelectionError(f"{{{name!r}: ...}}: there are {shape[0]} values a vertex: they take a range (lo, hi)")
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
        # A cell for each chunk instead of every manifest, where that is fewer requests.
        stored = -(-index.count // index.stored_rows)
        if MANIFESTS not in view.data.__dict__ and owners.spec.layout.requests(view.table.coords) < stored:
            ids = read_owners(view.source, owners, view.table.coords)
            rows = rows_of_ids(view.object_ids, ids)
            missing = ids[(rows < 0) & (ids != NOBODY)].tolist()
            if missing and missing[0] != SEVERAL:
                raise FormatError(f"fragments belong to object {missing[0]}, which is not there", where=view.data.url)
            if not missing:  # else only manifests tell which
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
    """(E,) chunk of the view of each entry, -1 where it is another of the level."""
    at = view.table.find(manifests.chunks)
    others = manifests.chunks[at < 0]
    refuse_unlisted(view.source.spec.url, others, view.data.vertices.chunks.find(others))
    return at


def refuse_unlisted(url: str, coords: IntArray, at: IntArray) -> None:
    """Raise FormatError if one of the chunks that manifests name, (E, K), is none of the level: -1 in ``at`` (E,)."""
    if (at < 0).any():
        coord = coords[at < 0][0].tolist()
        raise FormatError(f"a manifest names chunk {coord}, the level does not list it", where=url)


def select_chunks(view: LevelView, coords: IntArray) -> LevelView:
    """Rows of a view that lie in some chunks, (n, K) coordinates; those that the level does not list are empty."""
    keep = np.zeros(len(view), np.bool_)
    at = view.table.find(coords)
    keep[at[at >= 0]] = True
    return view.narrowed(keep)


def pick_rows(view: LevelView, rows: IntArray) -> LevelView:
    """Some rows of a view of known sizes, (n,) ascending; where rows were chosen before, it is read which."""
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
