"""The writers: points, lines, polylines, graphs and meshes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.kernels.bins import Rule
from zarr_vectors_lazy.keywords import suggesting
from zarr_vectors_lazy.model.writing import Compressor
from zarr_vectors_lazy.types import Lengths, StorePath
from zarr_vectors_lazy.write import arguments, run
from zarr_vectors_lazy.write.arguments import Profile, as_table, is_frame
from zarr_vectors_lazy.write.datasets import taking_datasets
from zarr_vectors_lazy.write.lazy import (
    EDGE_WIDTHS,
    FACE_WIDTHS,
    flat_attributes,
    flat_lines,
    flat_paths,
    refuse_mixed,
    take_frame,
    write_lazy_graph,
    write_lazy_lines,
    write_lazy_mesh,
    write_lazy_paths,
    write_lazy_points,
)
from zarr_vectors_lazy.write.out_of_core import is_lazy
from zarr_vectors_lazy.write.run import Shape, Tables, WriteOptions, make_job, run_job
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
        (N, D) numbers, finite, D from 2 to 4; an array in memory or memory-mapped, or a Dask array; then attributes and
        object ids are Dask arrays too. Or a data frame, Dask's or pandas': columns x, y, z, w or those named by
        ``axes``, all others attributes. Or an `xarray.Dataset`, of a level or with such variables, which also tells
        units, objects and, of a level, ``chunk_shape``; so do the other writers take one.
    chunk_shape
        (D,) edge lengths of a chunk, or one for all axes.
    bin_shape
        (D,) edge lengths of the bins by which the rows of a chunk are ordered; a whole number of them makes a chunk.
        With ``object_ids`` rows are ordered by object, and bins are what a pyramid begins with.
    vertex_attributes
        (N,) or (N, C) by name: numbers, bool, times, or (N,) text, which is dictionary-encoded. Values may be missing:
        NaN, NaT, None, masked, or null in columns of pandas, polars and pyarrow; whole numbers stay exact.
    object_ids
        (N,) object of each point; of a data frame the name of a column.
    object_attributes
        (O,) or (O, C) by name, aligned with the distinct ids, ascending.
    link_attributes
        None: points have no links.
    groups
        Object ids by group number (0, 1, ...) or by name.
    group_attributes
        (G,) or (G, C) by name, in the order of the groups.
    bounds
        (lo, hi) that hold every vertex; those of the positions where not given.
    axes, units
        Names of the axes (x, y, z, w), and their units: one for all, or one for each.
    crs
        Coordinate reference system: anything that JSON can hold.
    dtype
        ``"float32"`` or ``"float64"``; as given where not named.
    aggregate
        How `build_pyramid` is to join the values of attributes, by name: ``"mean"``, ``"min"``, ``"max"``, ``"sum"``,
        ``"mode"``, ``"first"``, or None to leave one out; it is kept with the attribute. Whole numbers that measure
        (intensity, a colour) want ``"mean"``, where the default is the most frequent.
    headers
        What files that this is of say of themselves, by name of their format: mappings that JSON can hold.
    compressor, checksum
        How cells are stored, see the page "Write a store".
    shard_shape
        Chunks along each axis that share an object.
    profile
        ``"viewer"``: for viewers that read raw cells, see the page "Viewers": no compressor, checksum or shards; bins
        with which levels are of use, where ``bin_shape`` gives none; and these levels, each with bins and chunks twice
        as large as the one before, which ``pyramid`` of the result tells of. With ``compute=False``, level 0 alone.
    mode
        ``"w-"`` refuses what is there; ``"w"`` replaces a Zarr Vectors store, and nothing else.
    compute
        False: return a Delayed that writes; arguments are checked now.
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
    columns = arguments.parse_columns(vertex_attributes, rows, "vertex_attributes")
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
        (N, 2, D) ends of each line; in memory or a Dask array, then attributes and object ids are Dask arrays too.
    vertex_attributes
        (N, 2) or (N, 2, C) by name.
    object_ids
        (N,) id of each line; 0, 1, ... where not given.
    object_attributes
        (N,) or (N, C) by name.
    link_attributes
        None: the two ends of a line are no stored link.
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
    options, tables = WriteOptions.of(locals()), Tables.of(locals())
    arguments.refuse_links(link_attributes, "lines")
    if is_lazy(endpoints, vertex_attributes, object_ids):
        return write_lazy_lines(path, endpoints, vertex_attributes, object_ids, tables=tables, options=options)
    positions, lengths = flat_lines(endpoints)
    ids = arguments.parse_path_ids(object_ids, len(lengths))
    objects = tables.objects(np.repeat(np.arange(len(lengths)), lengths), ids)
    flat = flat_attributes(vertex_attributes, lengths, width=2)
    columns = arguments.parse_columns(flat, len(positions), "vertex_attributes")
    shape = Shape(geometry="line", kind="paths", name="endpoints")
    job = make_job(path, positions, shape, options, columns=columns, objects=objects)
    return run_job(job, run.of_lines, options)


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
        A sequence of (n, D) arrays, or all vertices and the first row of each: ``((N, D), (O + 1,) offsets)``. Or an
        iterator or a Dask bag of blocks of these, each alone or in a mapping as ``"polylines"`` beside its
        ``"vertex_attributes"`` and ``"object_ids"``.
    geometry_type
        What they are called.
    vertex_attributes
        By name a sequence of (n,) or (n, C) arrays, one a polyline, or all of them as (N,) or (N, C).
    object_ids
        (O,) id of each; 0, 1, ... where not given.
    object_attributes
        (O,) or (O, C) by name.
    link_attributes
        None: consecutive vertices are no stored links.
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
    options, tables = WriteOptions.of(locals()), Tables.of(locals())
    if geometry_type not in ("polyline", "streamline"):
        raise SelectionError(f"geometry_type must be 'polyline' or 'streamline', found {geometry_type!r}")
    arguments.refuse_links(link_attributes, "polylines")
    if is_lazy(polylines) or isinstance(polylines, Iterator):
        tables = replace(tables, ids=object_ids)
        return write_lazy_paths(path, polylines, geometry_type, vertex_attributes, tables=tables, options=options)
    refuse_mixed(vertex_attributes=vertex_attributes, object_ids=object_ids)
    positions, lengths = flat_paths(polylines)
    ids = arguments.parse_path_ids(object_ids, len(lengths))
    objects = tables.objects(np.repeat(np.arange(len(lengths)), lengths), ids)
    flat = flat_attributes(vertex_attributes, lengths)
    columns = arguments.parse_columns(flat, len(positions), "vertex_attributes")
    shape = Shape(geometry=geometry_type, kind="paths", name="polylines")
    job = make_job(path, positions, shape, options, columns=columns, objects=objects)
    return run_job(job, run.of_polylines, options)


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
        (N, D) nodes. They, what goes with them and ``edges`` may all be Dask arrays, which are written out of core, as
        by `write_points`.
    edges
        (M, 2) rows of ``positions``, in blocks of their own where they are a Dask array; of a
        skeleton ``[child, parent]``, a parent for each child but the roots.
    kind
        ``"skeleton"`` stores trees in depth-first order, and only the edges that this order does not imply. An edge
        lies inside an object. Of Dask arrays, all nodes of an object must fit into the memory of one task, about 200
        bytes for each; without ``object_ids`` that is all nodes.
    vertex_attributes, object_ids, object_attributes, groups, group_attributes
        As `write_points`; without ``object_ids`` all nodes are object 0.
    link_attributes
        (M,) or (M, C) numbers by name, whole ones perhaps masked, cut as ``edges`` where those are a Dask array. Those
        of a skeleton make it store every edge.
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
    options, tables = WriteOptions.of(locals()), Tables.of(locals())
    if kind not in ("graph", "skeleton"):
        raise SelectionError(f"kind must be 'graph' or 'skeleton', found {kind!r}")
    if is_lazy(positions, edges, vertex_attributes, object_ids, link_attributes):
        given = {"kind": kind, "object_ids": object_ids, "tables": tables, "options": options}
        attributes = {"vertex": vertex_attributes, "link": link_attributes}
        return write_lazy_graph(path, positions, edges, attributes=attributes, **given)
    labels = arguments.labels_of(positions)
    positions, _ = arguments.parse_positions(positions, dtype)
    rows = len(positions)
    links = arguments.parse_links(edges, EDGE_WIDTHS, rows, "edges")
    owners = np.zeros(rows, np.int64) if object_ids is None else arguments.parse_ids(object_ids, rows)
    objects = tables.objects(owners)
    columns = arguments.parse_columns(vertex_attributes, rows, "vertex_attributes", labels)
    if kind == "skeleton":
        arguments.check_trees(links, objects.owners)
    values = arguments.parse_numbers(link_attributes, len(links))
    shape = Shape(geometry=kind, kind="trees" if kind == "skeleton" else "objects")
    job = make_job(path, positions, shape, options, columns=columns, objects=objects, links=links, link_values=values)
    return run_job(job, run.of_graph, options)


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
        (V, D) corners. They, what goes with them and ``faces`` may all be Dask arrays, which are written out of core,
        as by `write_points`.
    faces
        (F, L) rows of ``vertices``, in blocks of their own where they are a Dask array, L of 3 or more; their
        winding is kept. Of more than 20 corners, none may cross chunks; of Dask arrays there must be one chunk.
    vertex_attributes, object_ids, object_attributes, groups, group_attributes
        As `write_points`; without ``object_ids`` all vertices are object 0.
    link_attributes
        (F,) or (F, C) numbers by name, whole ones perhaps masked, cut as ``faces`` where those are a Dask array.
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
    options, tables = WriteOptions.of(locals()), Tables.of(locals())
    if is_lazy(vertices, faces, vertex_attributes, object_ids, link_attributes):
        given = {"object_ids": object_ids, "tables": tables, "options": options}
        attributes = {"vertex": vertex_attributes, "link": link_attributes}
        return write_lazy_mesh(path, vertices, faces, attributes=attributes, **given)
    labels = arguments.labels_of(vertices)
    vertices, _ = arguments.parse_positions(vertices, dtype, "vertices")
    rows = len(vertices)
    links = arguments.parse_links(faces, FACE_WIDTHS, rows, "faces")
    owners = np.zeros(rows, np.int64) if object_ids is None else arguments.parse_ids(object_ids, rows)
    objects = tables.objects(owners)
    columns = arguments.parse_columns(vertex_attributes, rows, "vertex_attributes", labels)
    values = arguments.parse_numbers(link_attributes, len(links))
    shape = Shape(geometry="mesh", kind="objects", name="vertices")
    job = make_job(path, vertices, shape, options, columns=columns, objects=objects, links=links, link_values=values)
    return run_job(job, run.of_mesh, options)
