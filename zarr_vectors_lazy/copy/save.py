"""A level or a selection as a store of its own, without ever being in memory as a whole."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from dask.utils import parse_bytes

from zarr_vectors_lazy.errors import SelectionError, counted, listed
from zarr_vectors_lazy.format.vectors import MISSING, code_dtype, missing_codes
from zarr_vectors_lazy.kernels.rows import ids_of_intervals, joined
from zarr_vectors_lazy.model.arrays import DenseArray, Dictionary
from zarr_vectors_lazy.model.objects import ranges
from zarr_vectors_lazy.model.writing import LevelRecord
from zarr_vectors_lazy.plan.blocks import UpTo
from zarr_vectors_lazy.read.columns import attribute_array, coding_of, has_holes, vertices_array
from zarr_vectors_lazy.read.links import edges_array, faces_array, link_attribute_array, links_array
from zarr_vectors_lazy.read.objects import read_dense, read_groups, rows_of_ids
from zarr_vectors_lazy.read.paths import owners_of, taken_rows, tracks_array
from zarr_vectors_lazy.read.rows import read_row_counts
from zarr_vectors_lazy.read.view import LevelView
from zarr_vectors_lazy.settings import setting
from zarr_vectors_lazy.types import IntArray
from zarr_vectors_lazy.write import arguments, run
from zarr_vectors_lazy.write.exchange import Blocks, optimized
from zarr_vectors_lazy.write.job import Column, Prepared
from zarr_vectors_lazy.write.lazy import EDGE_WIDTHS, FACE_WIDTHS, labelled, read_links
from zarr_vectors_lazy.write.links import LinkBlock, link_layout
from zarr_vectors_lazy.write.part import Summary
from zarr_vectors_lazy.write.records import Block, BlockStatistics, layout
from zarr_vectors_lazy.write.session import left_out, read_copied

if TYPE_CHECKING:
    from zarr_vectors_lazy.level import ZVLevel
    from zarr_vectors_lazy.write.job import Kind

# Rows of a level in the blocks that Dask computes, with the objects that pass through them.
#
# Attributes are kept as they are stored: codes with their categories, integers with the one that means missing. A
# decoded array could express neither missing values nor the order of categories, and would round what float64 does not
# hold.

Codings = Mapping[str, Dictionary | None]
"""What stored values of attributes stand for, in the order in which the attributes are read."""
Owners = Literal["none", "one", "tracks"]
TRUTHS = np.array([False, True])


def stored_attributes(view: LevelView) -> tuple[Codings, dict[str, Any]]:
    """What the attributes' stored values stand for; and these values, by the names that errors use."""
    codings = {name: _coding(view, name) for name in view.data.attribute_names}
    arrays = {
        name: attribute_array(view, name, decode=coding is None or coding.categories is TRUTHS)
        for name, coding in codings.items()
    }
    return codings, labelled(arrays)


def _coding(view: LevelView, name: str) -> Dictionary | None:
    found = coding_of(view, name)
    if found is None and not view.data.cuts_chunks(name):
        array = view.data.attribute(name)
        if array.spec.dtype.kind == "b" and has_holes(view, array):  # as stored, they have no code for missing
            return Dictionary(categories=TRUTHS)
    return found


def columns_of(codings: Codings, values: Sequence[Any], rows: int) -> dict[str, Column]:
    """Attributes of a block as they are stored; raises FormatError if a code stands for nothing."""
    given = dict(zip(codings, values, strict=True))
    plain = {name: of_rows for name, of_rows in given.items() if codings[name] is None}
    found = arguments.parse_columns(plain, rows)
    for name, coding in codings.items():
        if coding is not None:
            found[name] = _coded(given[name], coding)
    return {name: found[name] for name in codings}


def _coded(codes: Any, coding: Dictionary) -> Column:
    if codes.dtype.kind == "f":  # chunks without values, for an attribute that has no code for missing
        codes = np.where(np.isnan(codes), MISSING, codes).astype(code_dtype(len(coding.categories), missing=True))
        coding = replace(coding, fill=MISSING)
    missing_codes(codes, coding)
    return Column(codes, coding, whole=True)


def owned_rows(view: LevelView, name: str, owners: Owners) -> tuple[dict[str, Any], Any]:
    """Arrays of rows by the names that errors use, the positions as ``name``, and what makes their blocks."""
    codings, attributes = stored_attributes(view)
    tracks = {"objects": tracks_array(view, along=False)} if owners == "tracks" else {}
    return {name: vertices_array(view), **attributes, **tracks}, partial(read_owned, codings, name, owners)


def path_rows(view: LevelView, *, line: bool) -> run.Source:
    """Source of the vertices of paths."""
    codings, attributes = stored_attributes(view)
    arrays = {"positions": vertices_array(view), **attributes, "objects": tracks_array(view, along=True, ends=line)}
    return run.array_source(arrays, partial(read_tracked, codings))


def read_owned(codings: Codings, name: str, owners: Owners, positions: Any, *rest: Any) -> Block:
    """Block of rows; the last array are their tracks if these give the object; else all are of object 0, or none."""
    array, stored = arguments.parse_positions(positions, None, name)
    ids = None if owners == "none" else np.zeros(len(array), np.int64)
    if owners == "tracks":
        *rest, tracks = rest  # type: ignore[assignment]
        ids = owners_of(tracks, len(array))
    return Block(positions=array, dtype=stored, attributes=columns_of(codings, rest, len(array)), owners=ids)


def read_tracked(codings: Codings, positions: Any, *rest: Any) -> Block:
    """Block of the vertices of paths, repeated for each path through them; the last array are their tracks."""
    *values, tracks = rest
    rows = taken_rows(tracks, len(positions))
    array, stored = arguments.parse_positions(positions[rows], None)
    return Block(
        positions=array,
        dtype=stored,
        attributes=columns_of(codings, [of_rows[rows] for of_rows in values], len(array)),
        owners=tracks[:, 1],
        along=tracks[:, 2],
        left=len(positions) - len(np.unique(rows)),
    )


# Graphs, skeletons and meshes of a level written as a store of their own without ever being in memory as a whole.
#
# Links name the chunk and the row of each end, rather than rows counted over all chunks, so that none has to wait until
# it is known how many rows are selected in all chunks.


def linked_level(view: LevelView, kind: str) -> tuple[run.Source, run.LinkSource]:
    """Sources of the rows and of the edges or faces of a level."""
    counts = view.stored_counts
    view = view.with_chunking(None).with_rows_apart(read_row_counts(view.data, view.rows) if counts is None else counts)
    owners: Owners = "one" if view.data.object_index is None else "tracks"
    rows, read = owned_rows(view, "vertices" if kind == "mesh" else "positions", owners)
    links, values = _links(view, kind)
    arrays = run.aligned(rows)
    computed = iter(optimized(*arrays, *links.values(), *values.values()))
    of_rows, of_links, of_values = (list(islice(computed, len(some))) for some in (arrays, links, values))
    source = run.source_of(of_rows, read)
    blocks = Blocks(source.blocks.keys, [*of_rows, *of_links, *of_values])
    family, total = view.data.links(0), view.data.meta.vertex_count
    stated = 0 if family is None else family.stated
    link_source = _link_source(of_links, tuple(links), len(view), most=total if kind == "skeleton" else stated)
    if values:
        link_source = replace(link_source, values=_link_source(of_values, tuple(values), len(view), most=stated))
    return replace(source, blocks=blocks), link_source


def _links(view: LevelView, kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Links and their attributes by name, in the same blocks; and stored records with the values of some links.

    The edges of a skeleton are not its records, which imply some of them: values then come with records.
    """
    joined = {"faces": faces_array(view)} if kind == "mesh" else {"edges": edges_array(view)}
    family = view.data.links(0)
    if family is None or not view.data.link_attribute_names:
        return joined, {}
    values = {
        name: link_attribute_array(view, family, view.data.link_attribute(family, name), name, exact=True)
        for name in view.data.link_attribute_names
    }
    return (joined, {"links": links_array(view, family), **values}) if kind == "skeleton" else (joined | values, {})


def _link_source(computed: Sequence[Any], names: Sequence[str], blocks: int, *, most: int | None) -> run.LinkSource:
    """Cells gathered into about as many blocks as there are of rows; at most ``most`` links in all, None if unknown."""
    name, *attributes = names
    widths = FACE_WIDTHS if name == "faces" else EDGE_WIDTHS
    cells = run.block_keys(computed)
    size = max(-(-len(cells) // max(blocks, 1)), 1)
    read = partial(read_cells, tuple(attributes), widths, name)
    sample = read(*run.empty_rows(computed))
    return run.LinkSource(
        keys=[tuple(key for cell in cells[at : at + size] for key in cell) for at in range(0, len(cells), size)],
        read=read,
        name=name,
        sample=sample,
        nbytes=float("nan") if most is None else float(most * link_layout(sample).itemsize),
        apart=True,
    )


def read_cells(names: Sequence[str], widths: Sequence[int], name: str, *parts: Any) -> LinkBlock:
    """Block of links from some cells: for each the links, then its values in the order of ``names``."""
    each = len(names) + 1
    return read_links(names, widths, name, *(joined(parts[at::each]) for at in range(each)))


# A level written as a store of its own without ever being in memory as a whole.
#
# A path that the selection interrupts becomes one path for each run of its selected vertices.

BATCHES = 16  # most cells of one array in a block
NOTHING = "nothing is selected, so there is nothing to save"
WHOLE = "select with whole_objects=True"
LINKED = {"graph": run.of_graph, "skeleton": run.of_graph, "mesh": run.of_mesh}
GEOMETRIES = ("point_cloud", "line", "polyline", "streamline", *LINKED)


def save_level(level: "ZVLevel", path: Any, arguments: Mapping[str, Any], remade: Iterable[int] = ()) -> Any:
    """Write a level as a new store; return what its geometry's writer returns, or a Delayed of it.

    The bytes are those that the geometry's writer puts for the same rows in memory, plus what a copy has in addition.
    ``left_out`` in the result names what the store has but the new one does not.

    Parameters
    ----------
    arguments
        Arguments of the writer, including ``compute`` and ``progress``.
    remade
        Other levels that are rebuilt.

    Raises
    ------
    SelectionError
        If the store has several geometries, or one without a writer; if nothing is selected, if vertices belong to
        several objects, if lines do not have two selected ends, or if the edges of a skeleton are not trees inside
        objects.
    """
    store = level.store
    kinds = set(store.geometry_types)
    if len(kinds) != 1:
        raise SelectionError(f"only a level with one geometry can be saved; this one has {sorted(kinds) or 'none'}")
    (kind,) = kinds
    if kind not in GEOMETRIES:
        raise SelectionError(f"a level of {kind!r} cannot be saved; there are writers of {listed(GEOMETRIES)}")
    view = _cut_for_writing(level._view)
    if not len(view):
        raise SelectionError(NOTHING)
    options = _options({"axes": store.axes, "units": store.units, "crs": None, **arguments})  # crs is copied unchanged
    owned = view.data.object_index is not None
    if kind == "point_cloud":
        shape = run.Shape(geometry=kind, kind="objects" if owned else "points")
        source, links = run.array_source(*owned_rows(view, "positions", "tracks" if owned else "none")), None
        tables, summarise = partial(object_tables_of, view), run.of_points
    elif kind in LINKED:
        rows: Kind = "trees" if kind == "skeleton" else "objects"
        shape = run.Shape(geometry=kind, kind=rows, name="vertices" if kind == "mesh" else "positions")
        source, links = linked_level(view, kind)
        tables, summarise = partial(object_tables_of, view), LINKED[kind]
    else:
        line = kind == "line"
        shape = run.Shape(geometry=kind, kind="paths", name="endpoints" if line else "polylines")
        source, links = path_rows(view, line=line), None
        tables = partial(path_tables, view, line)
        summarise = run.of_lines if line else run.of_polylines
    copied = read_copied(view.data.tree, view.data.store, {0: view.data})
    names = left_out(view.data, [level.index, *remade], links=kind in LINKED, objects=owned)
    said = partial(summary_of_copy, summarise, names)
    sized = _sized(source, view)
    return run.write_source(path, sized, shape, options, tables, summarise=said, links=links, copied=copied)


def summary_of_copy(summarise: Summary, names: Sequence[str], whole: Prepared, done: LevelRecord) -> dict[str, Any]:
    """What the geometry's writer returns, and what was left out."""
    lost = whole.job.left
    return {
        **summarise(whole, done),
        "left_out": [*names, *([f"{counted(lost, 'vertex')} without an object"] if lost else [])],
    }


def _sized(source: run.Source, view: LevelView) -> run.Source:
    """Source with a known maximum or approximate number of bytes, so that no more tasks write than necessary."""
    if not np.isnan(source.nbytes):
        return source
    counts, total = view.stored_counts, view.data.meta.vertex_count
    rows = counts.sum() if counts is not None else np.nan if total is None else total
    return replace(source, nbytes=float(rows) * layout(source.sample).itemsize)


def _cut_for_writing(view: LevelView) -> LevelView:
    """View with blocks that suit a writing task; single chunks if only a read shows how many rows each has."""
    if view.stored_counts is None:
        return view.with_chunking(None)
    if view.chunking is not None:
        return view
    arrays = (view.data.vertices, *map(view.data.attribute, view.data.stored_names))
    row = [view.estimated_nbytes(array) for array in arrays]
    share = row[0] / max(sum(row), 1.0)  # blocks are cut by the size of positions
    return view.with_chunking(UpTo(parse_bytes(setting("write-bytes")) * share, BATCHES * int(setting("batch-chunks"))))


def _options(arguments: Mapping[str, Any]) -> run.WriteOptions:
    named = {field.name for field in fields(run.WriteOptions)} - {"backend_kwargs"}
    known = {name: value for name, value in arguments.items() if name in named}
    rest = {name: value for name, value in arguments.items() if name not in named}
    return run.WriteOptions(**known, backend_kwargs=rest)


def object_tables_of(view: LevelView, statistics: BlockStatistics) -> run.Tables:
    """Attributes and groups of the objects that were seen; raises SelectionError if there are no rows."""
    _check_rows(statistics)
    return run.Tables() if view.data.object_index is None else _tables(view, statistics.owners, statistics.owners)


def path_tables(view: LevelView, line: bool, statistics: BlockStatistics) -> run.Tables:
    """Ids, attributes and groups of the runs that were seen.

    Raises
    ------
    SelectionError
        If there are none; or for lines, if one does not have two vertices, both of them selected.
    """
    _check_rows(statistics)
    start, stop, owners = statistics.runs.T
    if line:
        _check_lines(start, stop, owners)
    largest = int(view.object_ids.max())
    if largest > np.iinfo(np.int64).max - (len(owners) - len(np.unique(owners))):
        raise SelectionError(f"interrupted paths need new ids, but there are none above {largest}")
    return _tables(view, owners, ids_of_intervals(owners, largest))


def _check_rows(statistics: BlockStatistics) -> None:
    if not len(statistics.counts):
        raise SelectionError(NOTHING)


def _check_lines(start: IntArray, stop: IntArray, owners: IntArray) -> None:
    others, parted = len(np.unique(owners[start < 0])), int((stop - start != 2).sum())
    if others:
        raise SelectionError(f"{counted(others, 'line')} without two vertices, which write_lines needs")
    if parted:
        raise SelectionError(f"{counted(parted, 'line')} with only one selected end; {WHOLE}")


def _tables(view: LevelView, owners: IntArray, ids: IntArray) -> run.Tables:
    """Tables of objects with (o,) ``ids``, in the writer's order, that inherit those of ``owners``."""
    data, rows = view.data, rows_of_ids(view.object_ids, owners)
    attributes = {name: _dense(view, array)[rows] for name, array in data.object_attributes.items()}
    index = data.group_index
    if index is None or not index.count:
        return run.Tables(ids=ids, attributes=attributes)
    members, renamed = read_groups(data.source, index), _renaming(view.object_ids[rows], ids)
    groups = {group: renamed(members[group]) for group in range(index.count)}  # the array says what names are
    of_groups = {name: _dense(view, array) for name, array in data.group_attributes.items()}
    return run.Tables(ids=ids, attributes=attributes, groups=groups, group_attributes=of_groups)


def _renaming(old: IntArray, new: IntArray) -> Callable[[IntArray], IntArray]:
    """Function that returns the new ids of some old ids, in their order."""
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
