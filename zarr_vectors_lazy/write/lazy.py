"""What writers take out of core: Dask arrays, data frames, iterators of polylines."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any

import dask
import dask.array as da
import numpy as np
from dask.bag import Bag

from zarr_vectors_lazy.errors import NotFoundError, SelectionError, counted, listed
from zarr_vectors_lazy.kernels.rows import joined
from zarr_vectors_lazy.types import IntArray, Vertices
from zarr_vectors_lazy.write import arguments, run
from zarr_vectors_lazy.write.arguments import as_array, attribute_values, by_labels, by_name, is_frame
from zarr_vectors_lazy.write.exchange import Blocks, optimized
from zarr_vectors_lazy.write.job import Values
from zarr_vectors_lazy.write.links import LinkBlock, link_layout
from zarr_vectors_lazy.write.part import write_stream
from zarr_vectors_lazy.write.records import Block
from zarr_vectors_lazy.write.run import (
    LinkSource,
    Shape,
    Source,
    Tables,
    WriteOptions,
    aligned,
    array_source,
    block_keys,
    empty_rows,
    is_lazy,
    make_reader,
    part_nbytes,
    source_of,
    template,
    write_source,
)
from zarr_vectors_lazy.write.session import check_place

# Lines and polylines as writers take them, joined one after another.

Arrays = Sequence[np.ndarray[Any, Any]]


def flat_lines(endpoints: Any) -> tuple[Vertices, IntArray]:
    """(2 N, D) ends, and (N,) twos; raises SelectionError if ``endpoints`` is not (N, 2, D)."""
    array = as_array(endpoints, "endpoints")
    check_lines(array)
    return array.reshape(-1, array.shape[2]), np.full(len(array), 2, np.int64)


def check_lines(array: Any) -> None:
    """Raise SelectionError if an array, in memory or from Dask, is not (N, 2, D)."""
    if array.ndim != 3 or array.shape[1] != 2:
        hint = (
            "; numpy.stack([starts, ends], axis=1) makes it of two arrays"
            if 2 in array.shape[:1] or array.ndim == 2
            else ""
        )
        raise SelectionError(f"endpoints must be (N, 2, D), found shape {array.shape}{hint}")


def flat_paths(polylines: Any) -> tuple[Vertices, IntArray]:
    """(N, D) vertices, and the (O,) number of vertices of each path.

    Parameters
    ----------
    polylines
        A sequence of (n, D) arrays, or ``(vertices, offsets)``.

    Raises
    ------
    SelectionError
        If it is neither, or if axes or dtypes differ.
    """
    if not isinstance(polylines, Iterable) or isinstance(polylines, Mapping):
        raise SelectionError(f"polylines must be a sequence of (n, D) arrays, found {type(polylines).__name__}")
    parts = [as_array(part, "polylines") for part in polylines]
    if len(parts) == 2 and parts[0].ndim == 2 and parts[1].ndim == 1:
        return parts[0], _lengths(parts[1], len(parts[0]))
    if not parts:
        raise SelectionError(
            "there are no polylines, so their number of axes is not known; give (np.empty((0, D)), [0]) and bounds"
        )
    for at, part in enumerate(parts):
        if part.ndim != 2 or part.shape[1] != parts[0].shape[1]:
            width = f", D {parts[0].shape[1]} like the first" if at else ""
            alone = "; [array] is one polyline" if part.ndim == 1 and hasattr(polylines, "ndim") else ""
            raise SelectionError(
                f"polylines must be (n, D) arrays, one for each{width}; number {at} has shape {part.shape}{alone}"
            )
    return np.concatenate(parts), np.fromiter(map(len, parts), np.int64, len(parts))


def _lengths(offsets: np.ndarray[Any, Any], rows: int) -> IntArray:
    lengths = np.diff(offsets)
    whole = offsets.dtype.kind in "iu" and len(offsets) and offsets[0] == 0 and offsets[-1] == rows
    if not whole or (offsets[1:] < offsets[:-1]).any():
        raise SelectionError(
            f"offsets must ascend from 0 to the {counted(rows, 'vertex')}, found {offsets[:5].tolist()}"
        )
    return lengths.astype(np.int64)


def flat_attributes(
    attributes: Mapping[str, Any] | None, lengths: IntArray, *, width: int | None = None
) -> dict[str, np.ndarray[Any, Any]]:
    """Attributes with one row for each vertex.

    Parameters
    ----------
    attributes
        By name, an array for each path, or an array of all rows; with ``width``, (O, width) or (O, width, C).
    lengths
        (O,) number of vertices of each path.

    Raises
    ------
    SelectionError
        If an array has the wrong number of rows.
    """
    return {
        name: _flat_lines(name, value, len(lengths), width) if width else _flat_paths(name, value, lengths)
        for name, value in by_name(attributes, "vertex_attributes").items()
    }


def _flat_lines(name: str, value: Any, lines: int, width: int) -> np.ndarray[Any, Any]:
    array = attribute_values(value, f"vertex_attributes[{name!r}]")
    if array.ndim not in (2, 3) or array.shape[:2] != (lines, width):
        raise SelectionError(
            f"vertex_attributes[{name!r}] must be ({lines}, {width}) or ({lines}, {width}, C), found {array.shape}"
        )
    flat: np.ndarray[Any, Any] = array.reshape(-1, *array.shape[2:])
    return flat


def _flat_paths(name: str, value: Any, lengths: IntArray) -> np.ndarray[Any, Any]:
    if isinstance(value, np.ndarray) and len(value) == int(lengths.sum()) and _is_flat(value):
        return value
    if not isinstance(value, Iterable):
        raise SelectionError(f"vertex_attributes[{name!r}] must be an array for each polyline, found {value!r}")
    parts = [attribute_values(part, f"vertex_attributes[{name!r}]") for part in value]
    found = np.asarray([len(part) if part.ndim else -1 for part in parts], np.int64)
    if not np.array_equal(found, lengths):
        at = int(np.argmax(found != lengths)) if len(found) == len(lengths) else min(len(found), len(lengths))
        raise SelectionError(
            f"vertex_attributes[{name!r}] must have an array for each of the {len(lengths)} polylines, as long as it; "
            f"found {len(parts)}, no. {at} does not fit"
        )
    shapes = {part.shape[1:] for part in parts}
    if len(shapes) > 1:
        raise SelectionError(f"vertex_attributes[{name!r}] has rows of several shapes: {sorted(shapes)}")
    filled = [part for part in parts if len(part)]  # an empty list would become float64
    return joined(filled or parts) if parts else np.empty(0)


def _is_flat(values: np.ndarray[Any, Any]) -> bool:
    """Whether an array has one value for each row (which may be text), rather than an array for each path."""
    return values.dtype != object or all(np.ndim(value) == 0 for value in values[:1])


# What writers take out of core: Dask arrays, and blocks of polylines, each as a `Source`.

BLOCK_NBYTES = 32 * 1024**2
PARTS = ("polylines", "vertex_attributes", "object_ids")


def points_source(positions: Any, attributes: Mapping[str, Any] | None, object_ids: Any, dtype: Any) -> Source:
    """Source of points in Dask arrays."""
    if isinstance(positions, da.Array):  # before looking at a block without rows, whose shape would not help anybody
        arguments.check_positions(positions, "positions")
    return _array_source(read_points, {"positions": positions}, attributes, object_ids, dtype)


def _array_source(
    read: Callable[..., Block], rows: Mapping[str, Any], attributes: Mapping[str, Any] | None, ids: Any, dtype: Any
) -> Source:
    arrays = {**rows, **labelled(attributes), **({} if ids is None else {"object_ids": ids})}
    return array_source(arrays, partial(read, tuple(attributes or ()), dtype, ids is not None))


def labelled(attributes: Mapping[str, Any] | None, what: str = "vertex_attributes") -> dict[str, Any]:
    """Attributes, by the names that errors use for them."""
    for name in attributes or {}:
        arguments.check_name(name, what)
    return {f"{what}[{name!r}]": value for name, value in (attributes or {}).items()}


def read_points(
    names: Sequence[str], dtype: Any, owned: bool, positions: Any, *rest: Any, name: str = "positions"
) -> Block:
    """Block of points: positions, attributes in the order of ``names``, object ids if ``owned``."""
    array, stored = arguments.parse_positions(positions, dtype, name)
    columns = arguments.parse_columns(dict(zip(names, rest, strict=False)), len(array))
    owners = arguments.parse_ids(rest[-1], len(array)) if owned else None
    return Block(positions=array, dtype=stored, attributes=columns, owners=owners)


def lines_source(endpoints: Any, attributes: Mapping[str, Any] | None, object_ids: Any, dtype: Any) -> Source:
    """Source of lines in Dask arrays."""
    if isinstance(endpoints, da.Array):
        check_lines(endpoints)
    return _array_source(read_lines, {"endpoints": endpoints}, attributes, object_ids, dtype)


def read_lines(names: Sequence[str], dtype: Any, owned: bool, endpoints: Any, *rest: Any) -> Block:
    """Block of lines: ends, attributes in the order of ``names``, object ids if ``owned``."""
    positions, lengths = flat_lines(endpoints)
    flat = flat_attributes(dict(zip(names, rest, strict=False)), lengths, width=2)
    return _paths_block(positions, lengths, flat, ids=rest[-1] if owned else None, dtype=dtype, name="endpoints")


def bag_source(bag: Any, dtype: Any) -> Source:
    """Source of paths in a Dask bag whose items are those of `read_paths`.

    The first partition that has any is computed, to find out its dtypes.

    Raises
    ------
    SelectionError
        If there are none, or if it is not a bag.
    """
    if not isinstance(bag, Bag):
        raise SelectionError(f"polylines must be a Dask bag of blocks of polylines, found {type(bag).__name__}")
    (computed,) = optimized(bag)
    read = partial(read_paths, dtype)
    for part in bag.to_delayed():
        sample = read(part.compute())
        if sample is not None:
            keys = [(key,) for key in computed.__dask_keys__()]
            return Source(blocks=Blocks(keys, [computed]), read=read, sample=sample, nbytes=math.nan)
    raise SelectionError("there are no polylines, so their number of axes is not known")


def streamed(items: Iterator[Any]) -> Iterator[list[Any]]:
    """Blocks, each in a list of its own; single paths are gathered up to `BLOCK_NBYTES`."""
    return ([_held(block)] for block in _grouped(items, BLOCK_NBYTES))


def _held(item: Any) -> Any:
    """A block without iterators, so that it can be read twice."""
    if isinstance(item, Iterator):
        return list(item)
    return {name: _held(part) for name, part in item.items()} if isinstance(item, Mapping) else item


def read_paths(dtype: Any, items: Iterable[Any]) -> Block | None:
    """Block of paths from (n, D) arrays, or from blocks of arrays; None if there are none.

    Parameters
    ----------
    items
        Each is an (n, D) array, or a sequence of these, or ``((N, D), (O + 1,) offsets)``, or a mapping with one of the
        last two as ``"polylines"``, and perhaps ``"vertex_attributes"`` by name and ``"object_ids"``.

    Raises
    ------
    SelectionError
        If an item is none of these, or if items do not match.
    """
    parts = [_flat_block(item) for item in map(_parts_of, _grouped(items)) if len(item["polylines"])]
    if not parts:
        return None
    names = {tuple(sorted(flat)) for _, _, flat, _ in parts}
    if len(names) > 1 or len({ids is None for *_, ids in parts}) > 1:
        raise SelectionError(f"blocks of polylines must have the same attributes, and object_ids all or none: {names}")
    positions, lengths, flat, ids = zip(*parts, strict=True)
    columns = {name: joined([of_block[name] for of_block in flat]) for name in flat[0]}
    owners = None if ids[0] is None else np.concatenate(ids)
    return _paths_block(
        np.concatenate(positions), np.concatenate(lengths), columns, ids=owners, dtype=dtype, name="polylines"
    )


def _grouped(items: Iterable[Any], most: float = math.inf) -> Iterator[Any]:
    """Blocks; consecutive single paths are joined to one, or to several of about ``most`` bytes."""
    single: list[Any] = []
    nbytes = 0
    for item in items:
        path = isinstance(item, np.ndarray) and item.ndim == 2
        if single and (not path or nbytes > most):
            yield single
            single, nbytes = [], 0
        if path:
            single.append(item)
            nbytes += item.nbytes
        else:
            yield item
    if single:
        yield single


def _parts_of(item: Any) -> Mapping[str, Any]:
    """Parts of a block by name."""
    item = _held(item)
    parts = item if isinstance(item, Mapping) else {"polylines": item}
    unknown = [name for name in parts if name not in PARTS]
    if unknown or "polylines" not in parts:
        raise SelectionError(f"a block of polylines has {listed(PARTS)}, found {listed(parts)}")
    if not isinstance(parts["polylines"], Sized):
        raise SelectionError(f"a block of polylines must be a sequence of (n, D) arrays, found {parts['polylines']!r}")
    return parts


def _flat_block(parts: Mapping[str, Any]) -> tuple[Any, Any, dict[str, Any], Any]:
    positions, lengths = flat_paths(parts["polylines"])
    ids = parts.get("object_ids")
    return (
        positions,
        lengths,
        flat_attributes(parts.get("vertex_attributes"), lengths),
        None if ids is None else arguments.parse_ids(ids, len(lengths)),
    )


def _paths_block(positions: Any, lengths: Any, flat: Mapping[str, Any], *, ids: Any, dtype: Any, name: str) -> Block:
    array, stored = arguments.parse_positions(positions, dtype, name)
    return Block(
        positions=array,
        dtype=stored,
        attributes=arguments.parse_columns(flat, len(array)),
        owners=np.repeat(np.arange(len(lengths)), lengths),
        paths=len(lengths),
        ids=None if ids is None else arguments.parse_ids(ids, len(lengths)),
    )


# Graphs and meshes written out of core.

EDGE_WIDTHS = (2,)
FACE_WIDTHS = range(3, 65)


def linked_sources(
    rows: tuple[str, Any], links: tuple[str, Any], given: Mapping[str, Any], widths: Sequence[int]
) -> tuple[Source, LinkSource]:
    """Sources of rows and of their links in Dask arrays, optimized together so that what both need is computed once.

    Parameters
    ----------
    rows, links
        Positions and ends, each with the name of its argument.
    given
        All arguments of the writer.
    widths
        Numbers of ends that a link may have.

    Raises
    ------
    SelectionError
        If one is not a Dask array, or if they do not match.
    """
    (name, positions), (link_name, ends) = rows, links
    vertex_attributes, link_attributes = given["vertex_attributes"], given["link_attributes"]
    object_ids, dtype = given["object_ids"], given["dtype"]
    of_vertices = {name: positions, **labelled(vertex_attributes)}
    of_ends = {link_name: ends, **labelled(link_attributes, "link_attributes")}
    owned = {} if object_ids is None else {"object_ids": object_ids}
    row_arrays, link_arrays = aligned({**of_vertices, **owned}), aligned(of_ends)
    computed = optimized(*row_arrays, *link_arrays)
    of_rows, of_links = computed[: len(row_arrays)], computed[len(row_arrays) :]
    names = tuple(vertex_attributes or ())
    source = source_of(of_rows, partial(read_owned_rows, names, dtype, object_ids is not None, name))
    read = partial(read_links, tuple(link_attributes or ()), widths, link_name)
    sample = read(*empty_rows(of_links))
    link_source = LinkSource(
        keys=block_keys(of_links),
        read=read,
        name=link_name,
        sample=sample,
        nbytes=float(link_layout(sample).itemsize * of_links[0].shape[0]),
        sizes=None if np.isnan(of_rows[0].shape[0]) else np.asarray(of_rows[0].chunks[0], np.int64),
    )
    return replace(source, blocks=Blocks(source.blocks.keys, computed)), link_source


def read_owned_rows(names: Sequence[str], dtype: Any, owned: bool, name: str, positions: Any, *rest: Any) -> Block:
    """Block of rows; without object ids all belong to object 0."""
    ids = [] if owned else [np.zeros(len(positions), np.int64)]
    return read_points(names, dtype, True, positions, *rest, *ids, name=name)


def read_links(names: Sequence[str], widths: Sequence[int], name: str, links: Any, *values: Any) -> LinkBlock:
    """Block of links: rows, and attributes in the order of ``names``."""
    array = arguments.parse_links(links, widths, None, name)
    return LinkBlock(links=array, values=arguments.parse_numbers(dict(zip(names, values, strict=True)), len(array)))


# Points in a data frame, from Dask or pandas: some columns are the axes, one the objects, all others attributes.


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameColumns:
    """The roles of a data frame's columns.

    Parameters
    ----------
    axes, attributes
        Names of columns.
    names
        Names of the axes.
    object_ids
        Name of a column, or None if points have no objects.
    """

    axes: tuple[str, ...]
    names: tuple[str, ...]
    attributes: tuple[str, ...]
    object_ids: str | None

    @classmethod
    def of(cls, frame: Any, axes: Sequence[str] | None, object_ids: str | None) -> "FrameColumns":
        """Assign roles by a writer's arguments; by default, axes are the existing columns of x, y, z, w, in order.

        Columns X, Y, Z are the axes x, y, z if there are no columns with these names.

        Raises
        ------
        NotFoundError
            If a named column does not exist.
        SelectionError
            If fewer than two of x, y, z, w exist, if a name occurs twice, or if a column's name cannot be that of an
            attribute.
        """
        columns = list(frame.columns)
        twice = [name for at, name in enumerate(columns) if name in columns[:at]]
        if twice:
            raise SelectionError(f"columns {listed(twice)} occur more than once")
        named, names = (tuple(axes), tuple(axes)) if axes is not None else arguments.axes_among(columns)
        for name in [*named, *([] if object_ids is None else [object_ids])]:
            if name not in columns:
                raise NotFoundError.among("column", name, columns)
        others = tuple(name for name in columns if name not in named and name != object_ids)
        for name in others:
            arguments.check_name(name, "columns")
        return cls(axes=named, names=names, attributes=others, object_ids=object_ids)

    def take(self, frame: Any) -> tuple[Values, dict[str, Values], Values | None]:
        """Positions, attributes and object ids of a pandas frame."""
        positions = arguments.side_by_side(frame, self.axes)
        owners = None if self.object_ids is None else as_array(frame[self.object_ids], _label(self.object_ids))
        return positions, {name: attribute_values(frame[name], _label(name)) for name in self.attributes}, owners


def take_frame(
    frame: Any, axes: Sequence[str] | None, attributes: Mapping[str, Any] | None, object_ids: Any
) -> tuple[tuple[str, ...], Values, dict[str, Any], Any]:
    """Axes, positions, attributes and object ids of a pandas frame, with further attributes.

    Raises
    ------
    NotFoundError, SelectionError
        As for `FrameColumns.of`; or if an attribute has the name of a column.
    """
    columns = FrameColumns.of(frame, axes, object_ids if isinstance(object_ids, str) else None)
    positions, found, owners = columns.take(frame)
    labels = getattr(frame, "index", None)
    beside = {
        name: value if labels is None else by_labels(value, labels, f"vertex_attributes[{name!r}]", "frame's index")
        for name, value in by_name(attributes, "vertex_attributes").items()
    }
    both = [name for name in beside if name in found]
    if both:
        raise SelectionError(f"vertex_attributes {listed(both)} are columns of the data frame too")
    if owners is None and labels is not None:
        owners = by_labels(object_ids, labels, "object_ids", "frame's index")
    return columns.names, positions, {**found, **beside}, object_ids if owners is None else owners


def frame_source(frame: Any, columns: FrameColumns, dtype: Any) -> Source:
    """Source of points in a Dask data frame."""
    (computed,) = optimized(frame)
    read = partial(read_frame, columns, dtype)
    keys = [(key,) for key in computed.__dask_keys__()]
    return Source(blocks=Blocks(keys, [computed]), read=read, sample=read(frame._meta), nbytes=math.nan)


def read_frame(columns: FrameColumns, dtype: Any, frame: Any) -> Block:
    """Block of points from a pandas frame."""
    positions, attributes, owners = columns.take(frame)
    parts = [*attributes.values(), *([] if owners is None else [owners])]
    return read_points(columns.attributes, dtype, owners is not None, positions, *parts)


def _label(name: str) -> str:
    return f"column {name!r}"


# Points, lines and polylines written out of core.


def write_lazy_points(
    path: Any,
    positions: Any,
    attributes: Mapping[str, Any] | None,
    object_ids: Any,
    *,
    tables: Tables,
    options: WriteOptions,
) -> Any:
    """`write_points` of Dask arrays, or of a Dask data frame."""
    shape = Shape(geometry="point_cloud", kind="points" if object_ids is None else "objects")
    if object_ids is None:
        tables.refuse()
    if is_frame(positions) and dask.is_dask_collection(positions):
        if attributes is not None:
            raise SelectionError(
                "vertex_attributes are the other columns of the data frame: assign or drop columns instead"
            )
        if not isinstance(object_ids, str | None):
            raise SelectionError(
                f"object_ids must name a column of the Dask data frame, found {type(object_ids).__name__}"
            )
        columns = FrameColumns.of(positions, options.axes, object_ids)
        source = frame_source(positions, columns, options.dtype)
        options = replace(options, axes=columns.names)
    else:
        source = points_source(positions, attributes, object_ids, options.dtype)
    return write_source(path, source, shape, options, tables, summarise=run.of_points)


def write_lazy_paths(
    path: Any,
    polylines: Any,
    shape: Shape,
    attributes: Mapping[str, Any] | None,
    *,
    tables: Tables,
    options: WriteOptions,
) -> Any:
    """`write_polylines` of a Dask bag, or of an iterator."""
    refuse_mixed(object_ids=tables.ids)
    if attributes is not None:
        raise SelectionError(
            "vertex_attributes come with the blocks of polylines: {'polylines': ..., 'vertex_attributes': ...} each"
        )
    if dask.is_dask_collection(polylines):
        source = bag_source(polylines, options.dtype)
        return write_source(path, source, shape, options, tables, summarise=run.of_polylines)
    return _write_iterator(path, polylines, shape, options, tables)


def _write_iterator(path: Any, polylines: Iterator[Any], shape: Shape, options: WriteOptions, tables: Tables) -> Any:
    if not options.compute:
        raise SelectionError("an iterator can only be read right away: compute=False needs a Dask bag, or a list")
    blocks = streamed(polylines)
    first: list[Any] = []
    sample = None
    for block in blocks:
        first.append(block)
        sample = read_paths(options.dtype, block)
        if sample is not None:
            break
    if sample is None:
        raise SelectionError("there are no polylines, so their number of axes is not known")
    job = template(path, sample, shape, options)
    check_place(job.spec, job.mode)
    return write_stream(
        job.spec,
        make_reader(job, shape, sample, partial(read_paths, options.dtype)),
        partial(run.finalise, job, shape, options.bounds, tables),
        run.of_polylines,
        chain(first, blocks),
        part_nbytes=part_nbytes(),
        progress=options.progress,
    )


def refuse_mixed(**arguments: Any) -> None:
    """Raise SelectionError if arguments for all polylines together are Dask collections."""
    for name, value in arguments.items():
        if is_lazy(value):
            raise SelectionError(f"{name} is a Dask collection: give it in blocks of a Dask bag, like the polylines")
