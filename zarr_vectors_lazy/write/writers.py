"""The writers: points, lines, polylines, graphs and meshes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.kernels.bins import Rule
from zarr_vectors_lazy.keywords import suggesting
from zarr_vectors_lazy.model.writing import Compressor
from zarr_vectors_lazy.types import IntArray, Lengths, StorePath, Vertices
from zarr_vectors_lazy.write import arguments, run
from zarr_vectors_lazy.write.arguments import Profile, as_table, is_frame
from zarr_vectors_lazy.write.datasets import taking_datasets
from zarr_vectors_lazy.write.lazy import (
    EDGE_WIDTHS,
    FACE_WIDTHS,
    flat_attributes,
    flat_lines,
    flat_paths,
    lines_source,
    linked_sources,
    refuse_mixed,
    take_frame,
    write_lazy_paths,
    write_lazy_points,
)
from zarr_vectors_lazy.write.part import Summary
from zarr_vectors_lazy.write.run import Shape, Tables, WriteOptions, is_lazy, make_job, run_job, write_source
from zarr_vectors_lazy.write.session import Mode

# Writers of points, lines and polylines.


@suggesting
@taking_datasets
def write_points(
    path: StorePath,
    positions: Any,
    *,
    chunk_shape: Lengths,
    bin_shape: Lengths | None = None,
    vertex_attributes: Mapping[str, Any] | None = None,
    object_ids: Any = None,
    object_attributes: Mapping[str, Any] | None = None,
    link_attributes: Mapping[str, Any] | None = None,
    groups: Mapping[Any, Any] | None = None,
    group_attributes: Mapping[str, Any] | None = None,
    bounds: Any = None,
    axes: Sequence[str] | None = None,
    units: Any = None,
    crs: Any = None,
    dtype: Any = None,
    aggregate: Mapping[str, Rule | None] | None = None,
    headers: Mapping[str, Any] | None = None,
    compressor: Compressor = "zstd",
    checksum: bool = True,
    shard_shape: Any = None,
    profile: Profile = None,
    mode: Mode = "w-",
    compute: bool = True,
    progress: bool = False,
    backend: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    **backend_kwargs: Any,
) -> Any:
    """Write a point cloud as a new store of format 0.9.2.

    Parameters
    ----------
    path
        Path, URL or zarr store object.
    positions
        (N, D) finite numbers, D from 2 to 4: an array in memory or memory-mapped, or a Dask array, in which case
        attributes and object ids must be Dask arrays too. Or a Dask or pandas data frame, with positions in the columns
        x, y, z, w (or those named by ``axes``) and attributes in all others. Or an `xarray.Dataset`, from a level or
        with such variables, which also provides units, objects and, if it is from a level, ``chunk_shape``; the other
        writers accept a dataset as well.
    chunk_shape
        (D,) edge lengths of a chunk, or one for all axes.
    bin_shape
        (D,) edge lengths of the bins by which the rows of a chunk are ordered; they must divide a chunk evenly. With
        ``object_ids``, rows are ordered by object instead, and the bins are only what a pyramid starts from.
    vertex_attributes
        (N,) or (N, C) by name: numbers, booleans, times, or (N,) text, which is dictionary-encoded. Values may be
        missing: NaN, NaT, None, masked, or null in columns of pandas, polars and pyarrow; integers stay exact.
    object_ids
        (N,) id of the object of each point; with a data frame, the name of a column.
    object_attributes
        (O,) or (O, C) by name, aligned with the distinct ids in ascending order.
    link_attributes
        None: points have no links.
    groups
        Object ids by group number (0, 1, ...) or by name.
    group_attributes
        (G,) or (G, C) by name, in the order of the groups.
    bounds
        (lo, hi) of a box that holds every vertex; by default that of the positions.
    axes, units
        Names of the axes (x, y, z, w), and their units: one for all, or one for each. A misspelt unit of length
        causes a `ZVWarning`.
    crs
        Coordinate reference system: anything that JSON can hold.
    dtype
        ``"float32"`` or ``"float64"``; by default that of the positions.
    aggregate
        How `build_pyramid` should combine the values of attributes, by name: ``"mean"``, ``"min"``, ``"max"``,
        ``"sum"``, ``"mode"``, ``"first"``, or None to leave one out; this is stored with the attribute. For integers
        that measure something (intensity, a colour) choose ``"mean"``: the default is the most frequent value.
    headers
        Headers of the files that the data come from, by the name of the format: mappings that JSON can hold.
    compressor, checksum
        How cells are stored; see the page "Write a store".
    shard_shape
        The number of chunks along each axis that share an object.
    profile
        ``"viewer"`` for viewers that read raw cells (see the page "Viewers"): no compressor, checksum or shards; bins
        that suit a pyramid, unless ``bin_shape`` is given; and coarser levels, each with bins and chunks twice as large
        as those of the level before, which ``pyramid`` in the result describes. With ``compute=False`` only level 0 is
        written.
    mode
        ``"w-"`` to fail if something already exists there; ``"w"`` to replace a Zarr Vectors store, and nothing else.
    compute
        False to return a Delayed that writes; the arguments are checked immediately.
    progress
        Whether to show a bar.
    backend, storage_options, **backend_kwargs
        As `open_zv`.

    Returns
    -------
    dict with ``vertex_count``, ``chunk_count``, ``object_count``, ``group_count`` and ``bins_per_chunk``.

    Raises
    ------
    SelectionError
        If an argument is wrong; nothing has been put then.
    StoreError
        If something is there that may not be replaced, or a request fails.

    Examples
    --------
    >>> points = np.random.default_rng(0).uniform(0, 100, (1000, 3))
    >>> mass = {"mass": np.ones(1000)}
    >>> done = zvl.write_points("points.zarrvectors", points, chunk_shape=50, bin_shape=10, vertex_attributes=mass)
    >>> done["vertex_count"], done["chunk_count"]
    (1000, 8)
    """
    options, tables = WriteOptions.of(locals()), Tables.of(locals())
    arguments.refuse_links(link_attributes, "points")
    positions = as_table(positions)
    if is_lazy(positions, vertex_attributes, object_ids):
        return write_lazy_points(path, positions, vertex_attributes, object_ids, tables=tables, options=options)
    if is_frame(positions):
        axes, positions, vertex_attributes, object_ids = take_frame(positions, axes, vertex_attributes, object_ids)
        options = replace(options, axes=axes)
    rows = len(arguments.parse_positions(positions, dtype)[0])
    objects = None
    if object_ids is None:
        tables.refuse()
    else:
        objects = tables.objects(arguments.parse_ids(object_ids, rows))
    columns = arguments.parse_columns(vertex_attributes, rows)
    shape = Shape(geometry="point_cloud", kind="points" if objects is None else "objects")
    job = make_job(path, positions, shape, options, columns=columns, objects=objects)
    return run_job(job, run.of_points, options)


@suggesting
@taking_datasets
def write_lines(
    path: StorePath,
    endpoints: Any,
    *,
    chunk_shape: Lengths,
    bin_shape: Lengths | None = None,
    vertex_attributes: Mapping[str, Any] | None = None,
    object_ids: Any = None,
    object_attributes: Mapping[str, Any] | None = None,
    link_attributes: Mapping[str, Any] | None = None,
    groups: Mapping[Any, Any] | None = None,
    group_attributes: Mapping[str, Any] | None = None,
    bounds: Any = None,
    axes: Sequence[str] | None = None,
    units: Any = None,
    crs: Any = None,
    dtype: Any = None,
    aggregate: Mapping[str, Rule | None] | None = None,
    headers: Mapping[str, Any] | None = None,
    compressor: Compressor = "zstd",
    checksum: bool = True,
    shard_shape: Any = None,
    profile: Profile = None,
    mode: Mode = "w-",
    compute: bool = True,
    progress: bool = False,
    backend: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    **backend_kwargs: Any,
) -> Any:
    """Write line segments as a new store of format 0.9.2, each an object.

    Parameters
    ----------
    path
        Path, URL or zarr store object.
    endpoints
        (N, 2, D) ends of each line, in memory or as a Dask array; attributes and object ids must then be Dask arrays
        too.
    vertex_attributes
        (N, 2) or (N, 2, C) by name.
    object_ids
        (N,) id of each line; by default 0, 1, ...
    object_attributes
        (N,) or (N, C) by name.
    link_attributes
        None: the link between the two ends of a line is not stored.
    groups, group_attributes
        As `write_points`.
    chunk_shape, bin_shape, bounds, axes, units, crs, dtype, aggregate, headers, compressor, checksum, shard_shape
        As `write_points`.
    profile, mode, compute, progress
        As `write_points`.
    backend, storage_options, **backend_kwargs
        As `open_zv`.

    Returns
    -------
    dict with ``line_count``, ``chunk_count`` and ``cross_chunk_count``.

    Raises
    ------
    SelectionError
        If an argument is wrong; nothing has been put then.
    StoreError
        If something is there that may not be replaced, or a request fails.

    Examples
    --------
    >>> ends = np.array([[[0, 0, 0], [9, 0, 0]], [[1, 2, 3], [4, 5, 6]]], float)  # (2, 2, 3)
    >>> zvl.write_lines("lines.zarrvectors", ends, chunk_shape=10)["line_count"]
    2
    """
    given = locals()
    arguments.refuse_links(link_attributes, "lines")
    shape = Shape(geometry="line", kind="paths", name="endpoints")
    if is_lazy(endpoints, vertex_attributes, object_ids):
        source = lines_source(endpoints, vertex_attributes, object_ids, dtype)
        return write_source(path, source, shape, WriteOptions.of(given), Tables.of(given), summarise=run.of_lines)
    return _write_paths(given, shape, *flat_lines(endpoints), run.of_lines, width=2)


@suggesting
@taking_datasets
def write_polylines(
    path: StorePath,
    polylines: Any,
    *,
    geometry_type: Literal["polyline", "streamline"] = "streamline",
    chunk_shape: Lengths,
    bin_shape: Lengths | None = None,
    vertex_attributes: Mapping[str, Any] | None = None,
    object_ids: Any = None,
    object_attributes: Mapping[str, Any] | None = None,
    link_attributes: Mapping[str, Any] | None = None,
    groups: Mapping[Any, Any] | None = None,
    group_attributes: Mapping[str, Any] | None = None,
    bounds: Any = None,
    axes: Sequence[str] | None = None,
    units: Any = None,
    crs: Any = None,
    dtype: Any = None,
    aggregate: Mapping[str, Rule | None] | None = None,
    headers: Mapping[str, Any] | None = None,
    compressor: Compressor = "zstd",
    checksum: bool = True,
    shard_shape: Any = None,
    profile: Profile = None,
    mode: Mode = "w-",
    compute: bool = True,
    progress: bool = False,
    backend: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    **backend_kwargs: Any,
) -> Any:
    """Write polylines or streamlines as a new store of format 0.9.2, each an object.

    Parameters
    ----------
    path
        Path, URL or zarr store object.
    polylines
        A sequence of (n, D) arrays, or all vertices and the first row of each polyline: ``((N, D), (O + 1,) offsets)``.
        Or an iterator or a Dask bag of blocks of polylines, each a sequence, or a mapping with ``"polylines"`` and
        their ``"vertex_attributes"`` and ``"object_ids"``.
    geometry_type
        ``"polyline"`` or ``"streamline"``.
    vertex_attributes
        By name, a sequence of (n,) or (n, C) arrays, one for each polyline, or a single (N,) or (N, C) array.
    object_ids
        (O,) id of each polyline; by default 0, 1, ...
    object_attributes
        (O,) or (O, C) by name.
    link_attributes
        None: the links between consecutive vertices are not stored.
    groups, group_attributes
        As `write_points`.
    chunk_shape, bin_shape, bounds, axes, units, crs, dtype, aggregate, headers, compressor, checksum, shard_shape
        As `write_points`.
    profile, mode, compute, progress
        As `write_points`.
    backend, storage_options, **backend_kwargs
        As `open_zv`.

    Returns
    -------
    dict with ``polyline_count``, ``vertex_count``, ``chunk_count``, ``cross_chunk_link_count`` and ``group_count``.

    Raises
    ------
    SelectionError
        If an argument is wrong; nothing has been put then.
    StoreError
        If something is there that may not be replaced, or a request fails.

    Examples
    --------
    >>> paths = [np.array([[0, 0, 0], [1, 1, 0], [2, 1, 1]], float), np.array([[5, 5, 5], [6, 5, 5]], float)]
    >>> done = zvl.write_polylines("paths.zarrvectors", paths, chunk_shape=10, groups={"left": [0]})
    >>> done["polyline_count"], done["vertex_count"]
    (2, 5)
    >>> zvl.open_zv("paths.zarrvectors")[0].objects[1].compute().shape
    (2, 3)
    """
    given = locals()
    if geometry_type not in ("polyline", "streamline"):
        raise SelectionError(f"geometry_type must be 'polyline' or 'streamline', found {geometry_type!r}")
    arguments.refuse_links(link_attributes, "polylines")
    shape = Shape(geometry=geometry_type, kind="paths", name="polylines")
    if is_lazy(polylines) or isinstance(polylines, Iterator):
        options, tables = WriteOptions.of(given), replace(Tables.of(given), ids=object_ids)
        return write_lazy_paths(path, polylines, shape, vertex_attributes, tables=tables, options=options)
    refuse_mixed(vertex_attributes=vertex_attributes, object_ids=object_ids)
    return _write_paths(given, shape, *flat_paths(polylines), run.of_polylines)


def _write_paths(
    given: Mapping[str, Any],
    shape: Shape,
    positions: Vertices,
    lengths: IntArray,
    summarise: Summary,
    *,
    width: int | None = None,
) -> Any:
    """Write paths with given numbers of vertices; ``given`` are the arguments of their writer."""
    options, tables = WriteOptions.of(given), Tables.of(given)
    ids = arguments.parse_path_ids(given["object_ids"], len(lengths))
    objects = tables.objects(np.repeat(np.arange(len(lengths)), lengths), ids)
    flat = flat_attributes(given["vertex_attributes"], lengths, width=width)
    columns = arguments.parse_columns(flat, len(positions))
    job = make_job(given["path"], positions, shape, options, columns=columns, objects=objects)
    return run_job(job, summarise, options)


# Writers of graphs, skeletons and meshes.


@suggesting
@taking_datasets
def write_graph(
    path: StorePath,
    positions: Any,
    edges: Any,
    *,
    kind: Literal["graph", "skeleton"] = "graph",
    chunk_shape: Lengths,
    bin_shape: Lengths | None = None,
    vertex_attributes: Mapping[str, Any] | None = None,
    object_ids: Any = None,
    object_attributes: Mapping[str, Any] | None = None,
    link_attributes: Mapping[str, Any] | None = None,
    groups: Mapping[Any, Any] | None = None,
    group_attributes: Mapping[str, Any] | None = None,
    bounds: Any = None,
    axes: Sequence[str] | None = None,
    units: Any = None,
    crs: Any = None,
    dtype: Any = None,
    aggregate: Mapping[str, Rule | None] | None = None,
    headers: Mapping[str, Any] | None = None,
    compressor: Compressor = "zstd",
    checksum: bool = True,
    shard_shape: Any = None,
    profile: Profile = None,
    mode: Mode = "w-",
    compute: bool = True,
    progress: bool = False,
    backend: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    **backend_kwargs: Any,
) -> Any:
    """Write a graph or skeletons as a new store of format 0.9.2.

    Parameters
    ----------
    path
        Path, URL or zarr store object.
    positions
        (N, D) nodes. Nodes, their attributes and ids, and ``edges`` may all be Dask arrays, which are written out of
        core, as by `write_points`.
    edges
        (M, 2) rows of ``positions``; a Dask array may have blocks of its own. The edges of a skeleton are
        ``[child, parent]``, with one parent for each node except the roots.
    kind
        ``"skeleton"`` stores trees in depth-first order, and only the edges that this order does not imply. An edge
        must lie within one object. With Dask arrays, all nodes of an object (without ``object_ids``, all nodes) must
        fit into the memory of one task, at about 200 bytes a node.
    vertex_attributes, object_ids, object_attributes, groups, group_attributes
        As `write_points`; without ``object_ids`` all nodes are object 0.
    link_attributes
        (M,) or (M, C) numbers by name; integers may be masked. A Dask array must have the blocks of ``edges``. A
        skeleton with link attributes stores every edge.
    chunk_shape, bin_shape, bounds, axes, units, crs, dtype, aggregate, headers, compressor, checksum, shard_shape
        As `write_points`.
    profile, mode, compute, progress
        As `write_points`.
    backend, storage_options, **backend_kwargs
        As `open_zv`.

    Returns
    -------
    dict with ``node_count``, ``edge_count``, ``chunk_count``, ``intra_edge_count`` and ``cross_edge_count`` (stored
    records in and across chunks), ``object_count`` and ``kind``.

    Raises
    ------
    SelectionError
        If an argument is wrong, or a block of a Dask array; nothing has been put then.
    StoreError
        If something is there that may not be replaced, or a request fails.

    Examples
    --------
    >>> nodes = np.array([[0, 0, 0], [1, 0, 0], [2, 1, 0], [2, -1, 0]], float)
    >>> edges = np.array([[1, 0], [2, 1], [3, 1]])  # child, parent
    >>> ids = [7, 7, 7, 7]
    >>> _ = zvl.write_graph("tree.zarrvectors", nodes, edges, chunk_shape=10, kind="skeleton", object_ids=ids)
    >>> zvl.open_zv("tree.zarrvectors")[0].skeletons[7].edges.compute().shape
    (3, 2)
    """
    given = locals()
    if kind not in ("graph", "skeleton"):
        raise SelectionError(f"kind must be 'graph' or 'skeleton', found {kind!r}")
    shape = Shape(geometry=kind, kind="trees" if kind == "skeleton" else "objects")
    return _write_linked(given, shape, positions, ("edges", edges), EDGE_WIDTHS, run.of_graph)


@suggesting
@taking_datasets
def write_mesh(
    path: StorePath,
    vertices: Any,
    faces: Any,
    *,
    chunk_shape: Lengths,
    bin_shape: Lengths | None = None,
    vertex_attributes: Mapping[str, Any] | None = None,
    object_ids: Any = None,
    object_attributes: Mapping[str, Any] | None = None,
    link_attributes: Mapping[str, Any] | None = None,
    groups: Mapping[Any, Any] | None = None,
    group_attributes: Mapping[str, Any] | None = None,
    bounds: Any = None,
    axes: Sequence[str] | None = None,
    units: Any = None,
    crs: Any = None,
    dtype: Any = None,
    aggregate: Mapping[str, Rule | None] | None = None,
    headers: Mapping[str, Any] | None = None,
    compressor: Compressor = "zstd",
    checksum: bool = True,
    shard_shape: Any = None,
    profile: Profile = None,
    mode: Mode = "w-",
    compute: bool = True,
    progress: bool = False,
    backend: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    **backend_kwargs: Any,
) -> Any:
    """Write a mesh as a new store of format 0.9.2.

    Parameters
    ----------
    path
        Path, URL or zarr store object.
    vertices
        (V, D) corners. Corners, their attributes and ids, and ``faces`` may all be Dask arrays, which are written out
        of core, as by `write_points`.
    faces
        (F, L) rows of ``vertices``, L of 3 or more; a Dask array may have blocks of its own. The winding is kept. A
        face with more than 20 corners must lie in one chunk; if it comes from a Dask array, the store must have only
        one chunk.
    vertex_attributes, object_ids, object_attributes, groups, group_attributes
        As `write_points`; without ``object_ids`` all vertices are object 0.
    link_attributes
        (F,) or (F, C) numbers by name; integers may be masked. A Dask array must have the blocks of ``faces``.
    chunk_shape, bin_shape, bounds, axes, units, crs, dtype, aggregate, headers, compressor, checksum, shard_shape
        As `write_points`.
    profile, mode, compute, progress
        As `write_points`.
    backend, storage_options, **backend_kwargs
        As `open_zv`.

    Returns
    -------
    dict with ``vertex_count``, ``face_count``, ``chunk_count``, ``intra_face_count``, ``cross_face_count`` and
    ``encoding``.

    Raises
    ------
    SelectionError
        If an argument is wrong, or a block of a Dask array; nothing has been put then.
    StoreError
        If something is there that may not be replaced, or a request fails.

    Examples
    --------
    >>> corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], float)
    >>> faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    >>> zvl.write_mesh("solid.zarrvectors", corners, faces, chunk_shape=10)["face_count"]
    4
    """
    given = locals()
    shape = Shape(geometry="mesh", kind="objects", name="vertices")
    return _write_linked(given, shape, vertices, ("faces", faces), FACE_WIDTHS, run.of_mesh)


def _write_linked(
    given: Mapping[str, Any],
    shape: Shape,
    positions: Any,
    ends: tuple[str, Any],
    widths: Sequence[int],
    summarise: Summary,
) -> Any:
    """Write vertices and their links, called ``ends``; ``given`` are the arguments of their writer."""
    options, tables = WriteOptions.of(given), Tables.of(given)
    attributes, link_attributes, ids = (given[name] for name in ("vertex_attributes", "link_attributes", "object_ids"))
    if is_lazy(positions, ends[1], attributes, ids, link_attributes):
        source, links = linked_sources((shape.name, positions), ends, given, widths)
        return write_source(given["path"], source, shape, options, tables, summarise=summarise, links=links)
    labels = getattr(positions, "index", None) if is_frame(positions) else None
    positions, _ = arguments.parse_positions(positions, options.dtype, shape.name)
    rows = len(positions)
    joined = arguments.parse_links(ends[1], widths, rows, ends[0])
    objects = tables.objects(np.zeros(rows, np.int64) if ids is None else arguments.parse_ids(ids, rows, labels=labels))
    columns = arguments.parse_columns(attributes, rows, labels)
    if shape.kind == "trees":
        arguments.check_trees(joined, objects.owners)
    values = arguments.parse_numbers(link_attributes, len(joined))
    more: dict[str, Any] = {"columns": columns, "objects": objects, "links": joined, "link_values": values}
    return run_job(make_job(given["path"], positions, shape, options, **more), summarise, options)
