"""Writers of graphs, skeletons and meshes."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from zarr_vectors_lazy.access.write.session import Mode
from zarr_vectors_lazy.api.keywords import suggesting
from zarr_vectors_lazy.api.write import args, summaries
from zarr_vectors_lazy.api.write.datasets import taking_datasets
from zarr_vectors_lazy.api.write.job import Options, Shape, make_job, make_objects, run_job
from zarr_vectors_lazy.api.write.lazy_linked import EDGE_WIDTHS, FACE_WIDTHS, write_lazy_graph, write_lazy_mesh
from zarr_vectors_lazy.api.write.out_of_core import Tables, is_lazy
from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.kernels.groups import Rule
from zarr_vectors_lazy.model.writing import Compressor


@suggesting
@taking_datasets
def write_graph(
    path: Any,
    positions: Any,
    edges: Any,
    *,
    kind: Literal["graph", "skeleton"] = "graph",
    chunk_shape: Any,
    bin_shape: Any = None,
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
        (M,) or (M, C) numbers by name, cut as ``edges`` where those are a Dask array. Those of a
        skeleton make it store every edge.
    chunk_shape, bin_shape, bounds, axes, units, crs, dtype, aggregate, headers, compressor, checksum, shard_shape
        As `write_points`.
    mode, compute, progress
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
    """
    options = Options.of(locals())
    if kind not in ("graph", "skeleton"):
        raise SelectionError(f"kind must be 'graph' or 'skeleton', found {kind!r}")
    if is_lazy(positions, edges, vertex_attributes, object_ids, link_attributes):
        tables = Tables(attributes=object_attributes, groups=groups, group_attributes=group_attributes)
        given = {"kind": kind, "object_ids": object_ids, "tables": tables, "options": options}
        attributes = {"vertex": vertex_attributes, "link": link_attributes}
        return write_lazy_graph(path, positions, edges, attributes=attributes, **given)
    labels = args.labels_of(positions)
    positions, _ = args.parse_positions(positions, dtype)
    rows = len(positions)
    links = args.parse_links(edges, EDGE_WIDTHS, rows, "edges")
    objects = make_objects(
        np.zeros(rows, np.int64) if object_ids is None else args.parse_ids(object_ids, rows),
        attributes=object_attributes,
        groups=groups,
        group_attributes=group_attributes,
    )
    columns = args.parse_columns(vertex_attributes, rows, "vertex_attributes", labels)
    if kind == "skeleton":
        args.check_trees(links, objects.owners)
    values = args.parse_numbers(link_attributes, len(links), "link_attributes")
    shape = Shape(geometry=kind, kind="trees" if kind == "skeleton" else "objects")
    job = make_job(path, positions, shape, options, columns=columns, objects=objects, links=links, link_values=values)
    return run_job(job, summaries.of_graph, options)


@suggesting
@taking_datasets
def write_mesh(
    path: Any,
    vertices: Any,
    faces: Any,
    *,
    chunk_shape: Any,
    bin_shape: Any = None,
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
        (F,) or (F, C) numbers by name, cut as ``faces`` where those are a Dask array.
    chunk_shape, bin_shape, bounds, axes, units, crs, dtype, aggregate, headers, compressor, checksum, shard_shape
        As `write_points`.
    mode, compute, progress
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
    """
    options = Options.of(locals())
    if is_lazy(vertices, faces, vertex_attributes, object_ids, link_attributes):
        tables = Tables(attributes=object_attributes, groups=groups, group_attributes=group_attributes)
        given = {"object_ids": object_ids, "tables": tables, "options": options}
        attributes = {"vertex": vertex_attributes, "link": link_attributes}
        return write_lazy_mesh(path, vertices, faces, attributes=attributes, **given)
    labels = args.labels_of(vertices)
    vertices, _ = args.parse_positions(vertices, dtype, "vertices")
    rows = len(vertices)
    links = args.parse_links(faces, FACE_WIDTHS, rows, "faces")
    objects = make_objects(
        np.zeros(rows, np.int64) if object_ids is None else args.parse_ids(object_ids, rows),
        attributes=object_attributes,
        groups=groups,
        group_attributes=group_attributes,
    )
    columns = args.parse_columns(vertex_attributes, rows, "vertex_attributes", labels)
    values = args.parse_numbers(link_attributes, len(links), "link_attributes")
    shape = Shape(geometry="mesh", kind="objects", name="vertices")
    job = make_job(path, vertices, shape, options, columns=columns, objects=objects, links=links, link_values=values)
    return run_job(job, summaries.of_mesh, options)
