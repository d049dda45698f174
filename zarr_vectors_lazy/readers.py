"""Complete reads in one line: a store's geometry as NumPy arrays.

Names, arguments and results are those of the reference package's functions. All arrays of a result are computed
together, so that each chunk is fetched once.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import dask
import numpy as np

from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.keywords import suggesting
from zarr_vectors_lazy.level import ZVLevel
from zarr_vectors_lazy.objects import ObjectRows, asked_ids, object_rows, select_by_values
from zarr_vectors_lazy.plan.selection import parse_region
from zarr_vectors_lazy.read.columns import select_chunks
from zarr_vectors_lazy.read.layers import batched
from zarr_vectors_lazy.store import open_zv
from zarr_vectors_lazy.types import Box, IntArray, StorePath

Ids: TypeAlias = Sequence[int] | IntArray | None
Names: TypeAlias = str | Sequence[str] | None
Filter: TypeAlias = Mapping[str, Any] | None


@suggesting
def read_points(
    path: StorePath,
    *,
    level: int = 0,
    bbox: Box | None = None,
    object_ids: Ids = None,
    group_ids: Ids = None,
    chunks: Any = None,
    attribute_names: Names = None,
    attribute_filter: Filter = None,
    backend: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    **backend_kwargs: Any,
) -> dict[str, Any]:
    """Read the vertices of a level.

    Parameters
    ----------
    path
        URL or path, ``os.PathLike``, or a ``zarr.abc.store.Store``.
    level
        The level to read.
    bbox
        (lo, hi), inclusive on both faces; or a list of several boxes, for their union.
    object_ids, group_ids
        Objects, and groups of objects by id or name; if both are given, those of the objects that are in these groups.
    chunks
        Coordinates of the chunks to read.
    attribute_names
        Attributes to read: names, ``"all"``, or None for none.
    attribute_filter
        Read only vertices whose attributes have these values, as ``where`` of `ZVLevel.sel` does.
    backend, storage_options, **backend_kwargs
        As for `open_zv`.

    Returns
    -------
    dict
        ``positions`` (N, D) in the stored dtype; ``vertex_attributes`` by name, (N,) or (N, C); ``vertex_count``; and
        ``object_ids`` (N,) int64 if objects or groups were requested. Vertices are in storage order. If objects were
        requested, vertices come object by object, in the order of the ids given (for groups, in ascending order), and a
        vertex that two of the objects share comes twice.

    Raises
    ------
    NotFoundError
        If a level, object, group or attribute does not exist.
    SelectionError
        If an argument is malformed.
    FormatError, StoreError
        As for `open_zv`, or if the data are damaged or cannot be reached.

    Examples
    --------
    >>> box = ([1000, 1500, 1000], [2000, 2500, 2000])
    >>> found = zvl.read_points(zvl.example("cloud"), bbox=box, attribute_names="all")
    >>> found["positions"].shape, sorted(found["vertex_attributes"])
    ((299, 3), ['confidence', 'to_node', 'type'])
    """
    whole = _opened(path, level, backend=backend, storage_options=storage_options, **backend_kwargs)
    names = _names(whole, attribute_names, ())
    ids = _ids(whole, object_ids, group_ids)
    part = _part(whole, bbox, ids, chunks, attribute_filter)
    if ids is None:
        positions, attributes = dask.compute(part.vertices, {name: part.attributes[name] for name in names})
        return {"positions": positions, "vertex_attributes": attributes, "vertex_count": len(positions)}
    found = object_rows(part, ids, names)
    return {
        "positions": found.vertices,
        "object_ids": found.owners,
        "vertex_attributes": found.attributes,
        "vertex_count": len(found.vertices),
    }


@suggesting
def read_polylines(
    path: StorePath,
    *,
    level: int = 0,
    object_ids: Ids = None,
    group_ids: Ids = None,
    bbox: Box | None = None,
    chunks: Any = None,
    attribute_names: Names = "all",
    attribute_filter: Filter = None,
    backend: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    **backend_kwargs: Any,
) -> dict[str, Any]:
    """Read polylines or streamlines.

    Parameters
    ----------
    bbox
        (lo, hi), inclusive on both faces, to read all polylines with a vertex in this box, in full.
    chunks
        Coordinates of chunks, to which polylines are cut.
    attribute_names
        Attributes to read: names, ``"all"``, or None for none.
    path, level, object_ids, group_ids, attribute_filter, backend, storage_options, **backend_kwargs
        As for `read_points`.

    Returns
    -------
    dict
        ``polylines``, for each polyline a list of its pieces, (n, D) arrays, one for each fragment; ``object_ids``, a
        list of their ids; ``vertex_attributes`` by name, with the rows of all polylines one after another; ``ndim``,
        ``polyline_count`` and ``vertex_count``. Polylines without vertices are left out.

    Raises
    ------
    NotFoundError, SelectionError, FormatError, StoreError
        As for `read_points`.

    Examples
    --------
    >>> found = zvl.read_polylines(zvl.example("tracts"), object_ids=[0, 5])
    >>> found["polyline_count"], [len(pieces) for pieces in found["polylines"]]
    (2, [7, 5])
    """
    whole = _opened(path, level, backend=backend, storage_options=storage_options, **backend_kwargs)
    some = object_ids is not None or group_ids is not None
    whole._view.data.load_paths(owners=not some, names=attribute_names is not None)
    found = _paths(
        whole, bbox, _ids(whole, object_ids, group_ids), chunks, attribute_filter, names=attribute_names
    ).longer(1)
    return {
        "polylines": found.pieces(),
        "object_ids": found.ids.tolist(),
        "vertex_attributes": found.attributes,
        "ndim": whole.store.ndim,
        "polyline_count": len(found.ids),
        "vertex_count": len(found.vertices),
    }


@suggesting
def read_lines(
    path: StorePath,
    *,
    level: int = 0,
    object_ids: Ids = None,
    bbox: Box | None = None,
    attribute_names: Names = "all",
    attribute_filter: Filter = None,
    backend: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    **backend_kwargs: Any,
) -> dict[str, Any]:
    """Read line segments.

    Parameters
    ----------
    bbox
        (lo, hi), inclusive on both faces, to read all lines with an end in this box, in full.
    path, level, object_ids, attribute_names, attribute_filter, backend, storage_options, **backend_kwargs
        As for `read_polylines`.

    Returns
    -------
    dict
        ``endpoints`` (M, 2, D) in the stored dtype; ``vertex_attributes`` by name, (2M,) or (2M, C), aligned with the
        ends; ``line_count``. Lines with fewer than two vertices are left out.

    Raises
    ------
    NotFoundError, SelectionError, FormatError, StoreError
        As for `read_points`.

    Examples
    --------
    >>> ends = np.array([[[0, 0, 0], [9, 0, 0]], [[1, 2, 3], [4, 5, 6]]], float)
    >>> _ = zvl.write_lines("lines.zarrvectors", ends, chunk_shape=10)
    >>> zvl.read_lines("lines.zarrvectors")["endpoints"].shape
    (2, 2, 3)
    """
    whole = _opened(path, level, backend=backend, storage_options=storage_options, **backend_kwargs)
    whole._view.data.load_paths(owners=object_ids is None, names=attribute_names is not None)
    found = _paths(whole, bbox, _ids(whole, object_ids, None), None, attribute_filter, names=attribute_names).longer(2)
    ends = np.stack([found.offsets[:-1], found.offsets[1:] - 1], axis=1)
    return {
        "endpoints": found.vertices[ends],
        "vertex_attributes": {name: values[ends.reshape(-1)] for name, values in found.attributes.items()},
        "line_count": len(ends),
    }


@suggesting
def read_graph(
    path: StorePath,
    *,
    level: int = 0,
    object_ids: Ids = None,
    bbox: Box | None = None,
    chunks: Any = None,
    attribute_names: Names = None,
    attribute_filter: Filter = None,
    backend: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    **backend_kwargs: Any,
) -> dict[str, Any]:
    """Read a graph or a skeleton.

    Parameters
    ----------
    path, level, object_ids, bbox, chunks, attribute_names, attribute_filter, backend, storage_options, **backend_kwargs
        As for `read_points`.

    Returns
    -------
    dict
        ``positions`` (N, D) in storage order; ``edges`` (E, 2) int64 rows of ``positions``, for skeletons
        ``[child, parent]``, for all edges whose two ends were read; ``node_count``, ``edge_count``; and
        ``vertex_attributes`` if any were requested.

    Raises
    ------
    NotFoundError, SelectionError, FormatError, StoreError
        As for `read_points`.

    Examples
    --------
    >>> found = zvl.read_graph(zvl.example("neuron"))
    >>> found["positions"].shape, found["edges"].shape
    ((8515, 3), (8511, 2))
    """
    whole = _opened(path, level, backend=backend, storage_options=storage_options, **backend_kwargs)
    part = _part(whole, bbox, _ids(whole, object_ids, None), chunks, attribute_filter)
    positions, edges, attributes = dask.compute(part.vertices, part.edges, _attributes(part, attribute_names))
    result = {"positions": positions, "edges": edges, "node_count": len(positions), "edge_count": len(edges)}
    return result if attribute_names is None else result | {"vertex_attributes": attributes}


@suggesting
def read_mesh(
    path: StorePath,
    *,
    level: int = 0,
    bbox: Box | None = None,
    object_ids: Ids = None,
    chunks: Any = None,
    attribute_names: Names = None,
    attribute_filter: Filter = None,
    backend: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    **backend_kwargs: Any,
) -> dict[str, Any]:
    """Read a mesh.

    Parameters
    ----------
    path, level, bbox, object_ids, chunks, attribute_names, attribute_filter, backend, storage_options, **backend_kwargs
        As for `read_points`.

    Returns
    -------
    dict
        ``vertices`` (N, D) in storage order; ``faces`` (F, W) int64 rows of ``vertices``, with their winding, for all
        faces whose corners were all read; ``vertex_count``, ``face_count``; and ``vertex_attributes`` if any were
        requested.

    Raises
    ------
    NotFoundError, SelectionError, FormatError, StoreError
        As for `read_points`.

    Examples
    --------
    >>> found = zvl.read_mesh(zvl.example("surface"))
    >>> found["vertices"].shape, found["faces"].shape
    ((2562, 3), (5120, 3))
    """
    whole = _opened(path, level, backend=backend, storage_options=storage_options, **backend_kwargs)
    part = _part(whole, bbox, _ids(whole, object_ids, None), chunks, attribute_filter)
    vertices, faces, attributes = dask.compute(part.vertices, part.faces, _attributes(part, attribute_names))
    result = {"vertices": vertices, "faces": faces, "vertex_count": len(vertices), "face_count": len(faces)}
    return result if attribute_names is None else result | {"vertex_attributes": attributes}


def _opened(path: Any, level: int, **options: Any) -> ZVLevel:
    """A level whose blocks are batches: what is computed all at once does not need a key for each chunk."""
    found = open_zv(path, **options)[level]
    return ZVLevel(found.store, batched(found._view))


def _ids(level: ZVLevel, object_ids: Ids, group_ids: Any) -> IntArray | None:
    """Requested objects, in the order to return; None for all."""
    ids = None if object_ids is None else asked_ids(object_ids, level.objects, "object_ids")
    if group_ids is None:
        return ids
    groups: list[Any] = (
        [group_ids] if isinstance(group_ids, str | int | np.integer) else _several(group_ids, "group_ids")
    )
    members = np.unique(np.concatenate([np.empty(0, np.int64), *(level.objects.groups[group] for group in groups)]))
    if ids is None:
        return members
    level.sel(objects=ids)  # an unknown one is an error, whether it is in the groups or not
    return ids[np.isin(ids, members)]


def _names(level: ZVLevel, names: Names, default: tuple[str, ...]) -> tuple[str, ...]:
    """Requested attributes."""
    if names is None:
        return default
    if isinstance(names, str):
        return tuple(level.attribute_names) if names == "all" else (names,)
    return tuple(_several(names, "attribute_names"))


def _several(values: Any, name: str) -> list[Any]:
    if not isinstance(values, Iterable):
        raise SelectionError(f"{name}= must be a sequence, found {values!r}")
    return list(values)


def _attributes(level: ZVLevel, names: Names) -> dict[str, Any]:
    return {name: level.attributes[name] for name in _names(level, names, ())}


def _part(
    level: ZVLevel, bbox: Any, ids: IntArray | None, chunks: Any, values: Filter, *, whole_objects: bool = False
) -> ZVLevel:
    """Rows of a level that meet all conditions."""
    view = level._view
    if chunks is not None:
        view = select_chunks(view, _coords(chunks, view.table.rank))
    if values is not None:
        view = select_by_values(view, values, "attribute_filter")
    return ZVLevel(level.store, view).sel(bbox, objects=ids, whole_objects=whole_objects)


def _coords(chunks: Any, rank: int) -> IntArray:
    coords = np.asarray(chunks)
    if not coords.size:
        return np.empty((0, rank), np.int64)
    if coords.dtype.kind not in "iu" or coords.ndim != 2 or coords.shape[1] != rank:
        raise SelectionError(f"chunks= must be coordinates of {rank} whole numbers each, found {chunks!r}")
    return coords.astype(np.int64)


def _paths(level: ZVLevel, bbox: Any, ids: IntArray | None, chunks: Any, values: Filter, *, names: Names) -> ObjectRows:
    """Objects cut to chunks and values, if they then have a vertex in a box."""
    region = parse_region(bbox, {}, level.store.axes)
    joined = level._view.data.object_index is not None
    part = _part(level, bbox if joined else None, ids, chunks, values, whole_objects=region is not None and joined)
    found = object_rows(part, ids, _names(level, names, ()))
    # Objects may share vertices: one in the box does not select the others that have its vertices.
    return found if region is None else found.touching(region)
