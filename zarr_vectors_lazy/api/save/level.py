"""A level written as a store of its own without ever being in memory.

A path that the selection interrupts becomes one path for each run of its selected vertices.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from dask.utils import parse_bytes

from zarr_vectors_lazy.access.objects import read_dense, read_groups, rows_of_ids
from zarr_vectors_lazy.access.write.copied import left_out, read_copied
from zarr_vectors_lazy.access.write.intake import Tally, layout
from zarr_vectors_lazy.access.write.job import Prepared
from zarr_vectors_lazy.api.save.linked import linked_level
from zarr_vectors_lazy.api.save.rows import path_rows, point_rows
from zarr_vectors_lazy.api.write import summaries
from zarr_vectors_lazy.api.write.job import Options, Shape, Summary
from zarr_vectors_lazy.api.write.out_of_core import Source, Tables, write_source
from zarr_vectors_lazy.errors import SelectionError, listed
from zarr_vectors_lazy.graph.view import LevelView
from zarr_vectors_lazy.kernels.intervals import ids_of_intervals
from zarr_vectors_lazy.model.arrays import CellArray, DenseArray
from zarr_vectors_lazy.model.objects import ranges
from zarr_vectors_lazy.model.writing import LevelRecord
from zarr_vectors_lazy.plan.blocks import UpTo
from zarr_vectors_lazy.settings import setting
from zarr_vectors_lazy.types import IntArray

if TYPE_CHECKING:
    from zarr_vectors_lazy.access.write.job import Kind
    from zarr_vectors_lazy.api.level import ZVLevel

BATCHES = 16  # of cells of one array that a block has, at most
NOTHING = "nothing is selected: there is nothing to save"
WHOLE = "select with whole_objects=True"
LINKED = {"graph": summaries.of_graph, "skeleton": summaries.of_graph, "mesh": summaries.of_mesh}
GEOMETRIES = ("point_cloud", "line", "polyline", "streamline", *LINKED)
GIVEN = {
    "bounds": None,
    "dtype": None,
    "aggregate": None,
    "headers": None,
    "backend": None,
    "storage_options": None,
    "progress": False,
    "mode": "w-",
}


def save_level(level: "ZVLevel", path: Any, arguments: Mapping[str, Any], remade: Iterable[int] = ()) -> Any:
    """Write a level as a new store; return what the writer of its geometry returns, or a Delayed of it.

    ``left_out`` in it names what the store has and the new one does not have.

    Parameters
    ----------
    arguments
        Of the writer, ``compute`` and ``progress`` among them.
    remade
        Other levels that are made anew.

    Raises
    ------
    SelectionError
        If nothing is selected, objects share vertices or are cut in a way that the format cannot say, or the store has
        several geometries, or one that has no writer.
    """
    store = level.store
    kinds = set(store.geometry_types)
    if len(kinds) != 1:
        raise SelectionError(f"a level of one geometry can be saved, this has {sorted(kinds) or 'none'}")
    (kind,) = kinds
    if kind not in GEOMETRIES:
        raise SelectionError(f"a level of {kind!r} cannot be saved; there are writers of {listed(GEOMETRIES)}")
    common = {"axes": store.axes, "units": store.units, "crs": None, **arguments}  # it is carried as it stands
    return save_lazily(level, path, kind, common, remade)


def save_lazily(level: "ZVLevel", path: Any, kind: str, arguments: Mapping[str, Any], remade: Iterable[int]) -> Any:
    """Write a level; with ``compute=False`` return a Delayed that does.

    The bytes are those that the writer of the geometry puts for the same rows in memory, and besides what a copy has.

    Parameters
    ----------
    remade
        Other levels that are made anew.

    Raises
    ------
    SelectionError
        If nothing is selected, vertices belong to several objects, lines have not two ends, both selected, or the edges
        of a skeleton are no trees inside objects.
    """
    view = _cut_for_writing(level._view)
    if not len(view):
        raise SelectionError(NOTHING)
    options = _options(arguments)
    owned = view.data.object_index is not None
    if kind == "point_cloud":
        shape = Shape(geometry=kind, kind="objects" if owned else "points")
        source, links = point_rows(view), None
        tables, summarise = partial(object_tables_of, view), summaries.of_points
    elif kind in LINKED:
        rows: Kind = "trees" if kind == "skeleton" else "objects"
        shape = Shape(geometry=kind, kind=rows, name="vertices" if kind == "mesh" else "positions")
        source, links = linked_level(view, kind)
        tables, summarise = partial(object_tables_of, view), LINKED[kind]
    else:
        line = kind == "line"
        shape = Shape(geometry=kind, kind="paths", name="endpoints" if line else "polylines")
        source, links = path_rows(view, line=line), None
        tables = partial(path_tables, view, line)
        summarise = summaries.of_lines if line else summaries.of_polylines
    copied = read_copied(view.data.tree, view.data.store, {0: view.data})
    names = left_out(view.data, [level.index, *remade], links=kind in LINKED, objects=owned)
    said = partial(summary_of_copy, summarise, names)
    sized = _sized(source, view)
    return write_source(path, sized, shape, options, tables, summarise=said, links=links, copied=copied)


def summary_of_copy(summarise: Summary, names: Sequence[str], whole: Prepared, done: LevelRecord) -> dict[str, Any]:
    """What the writer of the geometry returns, and what was left out."""
    lost = whole.job.left
    return {**summarise(whole, done), "left_out": [*names, *([f"{lost} vertices of no object"] if lost else [])]}


def _sized(source: Source, view: LevelView) -> Source:
    """Source of which it is known how many bytes it has at most, or about, so that no more tasks write than need be."""
    if not np.isnan(source.nbytes):
        return source
    counts, total = view.stored_counts, view.data.meta.vertex_count
    rows = counts.sum() if counts is not None else np.nan if total is None else total
    return replace(source, nbytes=float(rows) * layout(source.sample).itemsize)


def _cut_for_writing(view: LevelView) -> LevelView:
    """View whose blocks are what a task of a write has; single chunks where only a read tells how many rows one has."""
    if view.stored_counts is None:
        return view.with_chunking(None)
    if view.chunking is not None:
        return view
    row = [view.estimated_nbytes(array) for array in (view.data.vertices, *_stored_attributes(view))]
    share = row[0] / max(sum(row), 1.0)  # blocks are cut by the size of positions
    return view.with_chunking(UpTo(parse_bytes(setting("write-bytes")) * share, BATCHES * int(setting("batch-chunks"))))


def _stored_attributes(view: LevelView) -> list[CellArray]:
    by = view.data.chunk_attribute
    return [view.data.attribute(name) for name in view.data.attribute_names if by is None or name != by[0]]


def _options(arguments: Mapping[str, Any]) -> Options:
    named = {field.name for field in fields(Options)} - {"backend_kwargs"}
    known = {name: value for name, value in arguments.items() if name in named}
    rest = {name: value for name, value in arguments.items() if name not in named}
    return Options(**{**GIVEN, **known}, backend_kwargs=rest)


def object_tables_of(view: LevelView, tally: Tally) -> Tables:
    """Attributes and groups of the objects that were seen; raises SelectionError if no row was."""
    _check_rows(tally)
    return Tables() if view.data.object_index is None else _tables(view, tally.owners, tally.owners)


def path_tables(view: LevelView, line: bool, tally: Tally) -> Tables:
    """Ids, attributes and groups of the runs that were seen.

    Raises
    ------
    SelectionError
        If there are none; or, of lines, if one has not two vertices, or one of them is not selected.
    """
    _check_rows(tally)
    start, stop, owners = tally.runs.T
    if line:
        _check_lines(start, stop, owners)
    largest = int(view.object_ids.max())
    if largest > np.iinfo(np.int64).max - (len(owners) - len(np.unique(owners))):
        raise SelectionError(f"there are no ids for interrupted paths above the largest, {largest}")
    return _tables(view, owners, ids_of_intervals(owners, largest))


def _check_rows(tally: Tally) -> None:
    if not len(tally.counts):
        raise SelectionError(NOTHING)


def _check_lines(start: IntArray, stop: IntArray, owners: IntArray) -> None:
    others, parted = len(np.unique(owners[start < 0])), int((stop - start != 2).sum())
    if others:
        raise SelectionError(f"{others} lines have not two vertices, which a writer cannot say")
    if parted:
        raise SelectionError(f"{parted} lines have one selected end; {WHOLE}")


def _tables(view: LevelView, owners: IntArray, ids: IntArray) -> Tables:
    """Tables of objects that take those of ``owners`` and have ``ids``."""
    found = object_tables(view, rows_of_ids(view.object_ids, owners), ids)
    return Tables(
        ids=ids,
        attributes=found["object_attributes"],
        groups=found.get("groups"),
        group_attributes=found.get("group_attributes"),
    )


def object_tables(view: LevelView, rows: IntArray, ids: IntArray) -> dict[str, Any]:
    """Attributes of objects, one row for each, and groups of those that are there, as writers take them.

    Parameters
    ----------
    rows
        (o,) manifest row of each object that is written, in the order in which the writer takes them.
    ids
        (o,) its id in the new store.
    """
    data = view.data
    found: dict[str, Any] = {
        "object_attributes": {name: _dense(view, array)[rows] for name, array in data.object_attributes.items()}
    }
    index = data.group_index
    if index is None or not index.count:
        return found
    members, renamed = read_groups(data.source, index), _renaming(view.object_ids[rows], ids)
    groups = {group: renamed(members[group]) for group in range(index.count)}  # names are what the array says
    attributes = {name: _dense(view, array) for name, array in data.group_attributes.items()}
    return found | {"groups": groups, "group_attributes": attributes}


def _renaming(old: IntArray, new: IntArray) -> Callable[[IntArray], IntArray]:
    """Function that gives the new ids of those of some old ids that have any, in their order."""
    order = np.argsort(old, kind="stable")
    known, renamed = old[order], new[order]

    def of(wanted: IntArray) -> IntArray:
        first, last = (np.searchsorted(known, wanted, side) for side in ("left", "right"))
        counts = last - first
        found: IntArray = renamed[ranges(first, counts)]
        return found

    return of


def _dense(view: LevelView, array: DenseArray) -> np.ndarray[Any, Any]:
    values = read_dense(view.source, array)
    return values.astype(str) if values.dtype.hasobject else values
