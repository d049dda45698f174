"""Points, lines and polylines written out of core."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any

import dask

from zarr_vectors_lazy.access.write.session import check_place
from zarr_vectors_lazy.access.write.stream import write_stream
from zarr_vectors_lazy.api.write import summaries
from zarr_vectors_lazy.api.write.blocks import (
    bag_source,
    lines_source,
    points_source,
    read_paths,
    streamed,
)
from zarr_vectors_lazy.api.write.frames import FrameColumns, frame_source
from zarr_vectors_lazy.api.write.job import Options, Shape
from zarr_vectors_lazy.api.write.out_of_core import (
    Tables,
    is_lazy,
    make_intake,
    make_settle,
    part_nbytes,
    template,
    write_source,
)
from zarr_vectors_lazy.api.write.values import is_frame
from zarr_vectors_lazy.errors import SelectionError


def write_lazy_points(
    path: Any,
    positions: Any,
    attributes: Mapping[str, Any] | None,
    object_ids: Any,
    *,
    tables: Tables,
    options: Options,
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
            raise SelectionError(f"object_ids of a Dask data frame name a column, found {type(object_ids).__name__}")
        columns = FrameColumns.of(positions, options.axes, object_ids)
        source = frame_source(positions, columns, options.dtype)
        options = replace(options, axes=columns.names)
    else:
        source = points_source(positions, attributes, object_ids, options.dtype)
    return write_source(path, source, shape, options, tables, summarise=summaries.of_points)


def write_lazy_lines(
    path: Any,
    endpoints: Any,
    attributes: Mapping[str, Any] | None,
    object_ids: Any,
    *,
    tables: Tables,
    options: Options,
) -> Any:
    """`write_lines` of Dask arrays."""
    source = lines_source(endpoints, attributes, object_ids, options.dtype)
    shape = Shape(geometry="line", kind="paths", name="endpoints")
    return write_source(path, source, shape, options, tables, summarise=summaries.of_lines)


def write_lazy_paths(
    path: Any, polylines: Any, geometry: str, attributes: Mapping[str, Any] | None, *, tables: Tables, options: Options
) -> Any:
    """`write_polylines` of a Dask bag, or of an iterator."""
    refuse_mixed(object_ids=tables.ids)
    if attributes is not None:
        raise SelectionError(
            "vertex_attributes come with the blocks of polylines: {'polylines': ..., 'vertex_attributes': ...} each"
        )
    shape = Shape(geometry=geometry, kind="paths", name="polylines")
    if dask.is_dask_collection(polylines):
        source = bag_source(polylines, options.dtype)
        return write_source(path, source, shape, options, tables, summarise=summaries.of_polylines)
    return _write_iterator(path, polylines, shape, options, tables)


def _write_iterator(path: Any, polylines: Iterator[Any], shape: Shape, options: Options, tables: Tables) -> Any:
    if not options.compute:
        raise SelectionError("an iterator can be read only now: compute=False needs a Dask bag, or a list")
    blocks = streamed(polylines)
    first: list[Any] = []
    sample = None
    for block in blocks:
        first.append(block)
        sample = read_paths(options.dtype, block)
        if sample is not None:
            break
    if sample is None:
        raise SelectionError("there are no polylines: their number of axes is not known")
    job = template(path, sample, shape, options)
    check_place(job.spec, job.mode)
    return write_stream(
        make_intake(job, shape, sample, partial(read_paths, options.dtype)),
        make_settle(job, shape, options, tables),
        summaries.of_polylines,
        chain(first, blocks),
        part_nbytes=part_nbytes(),
        progress=options.progress,
    )


def refuse_mixed(**arguments: Any) -> None:
    """Raise SelectionError if what goes with polylines as a whole is a Dask collection."""
    for name, value in arguments.items():
        if is_lazy(value):
            raise SelectionError(f"{name} is a Dask collection: give it in blocks of a Dask bag, as the polylines")
