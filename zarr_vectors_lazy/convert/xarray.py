"""Levels as xarray datasets: over ``vertex`` and ``axis``, ``object``, and where asked for what joins vertices."""

import json
from collections.abc import Collection
from functools import partial
from typing import Any

import dask
import dask.array as da
import numpy as np
import xarray as xr
from xarray.core import indexing

from zarr_vectors_lazy.convert import accessor  # noqa: F401  registers ``dataset.zv``
from zarr_vectors_lazy.convert.dense import check_rows, dense_array, described
from zarr_vectors_lazy.convert.lazy import SOURCE, LazyDense, LazyRows, LazySizes, Make, PreferredChunks, RowsVariable
from zarr_vectors_lazy.convert.positions import Part, PositionIndex
from zarr_vectors_lazy.graph.columns import attribute_array, vertices_array
from zarr_vectors_lazy.graph.edges import edges_array, faces_array
from zarr_vectors_lazy.graph.narrow import candidate_objects
from zarr_vectors_lazy.graph.numbering import sized
from zarr_vectors_lazy.graph.paths import path_arrays
from zarr_vectors_lazy.graph.tracks import owners_array
from zarr_vectors_lazy.graph.values import column_of
from zarr_vectors_lazy.graph.view import LevelView
from zarr_vectors_lazy.model.levels import StoreMeta
from zarr_vectors_lazy.plan.names import column_names
from zarr_vectors_lazy.types import Json

OWN = frozenset({"vertices", "axis", "edges", "faces", "object_id", "object_rows", "row_size", "vertex_object_id"})
DIMS = frozenset({"vertex", "object", "object_vertex", "edge", "end", "face", "corner"})
Variables = dict[str, xr.Variable]


def level_dataset(
    view: LevelView, *, objects: bool = False, edges: bool = False, drop: Collection[str] = ()
) -> xr.Dataset:
    """Dataset of Dask arrays, blocks as the view cuts them.

    Parameters
    ----------
    view
        Part of a level; its sizes are read where they are not known.
    objects
        Whether `ragged_index` is part of it, which reads manifests and fragment indexes.
    edges
        Whether edges and faces are part of it, which reads what tells their number.
    drop
        Names of variables to leave out.
    """
    view = sized(view)
    rows = {name: xr.Variable(dims, make(view), _row_attrs(view, name)) for name, (dims, make) in _rows(view, drop)}
    dense = {} if view.rows is not None else _object_variables(view, lazy=False)
    sizes = LazySizes(view)
    part = Part(sizes, int(sizes.starts()[-1]))
    return _assemble(view, part, rows | dense, objects=objects, edges=edges, drop=drop)


def lazy_level_dataset(
    view: LevelView, *, objects: bool = False, edges: bool = False, drop: Collection[str] = ()
) -> xr.Dataset:
    """Dataset that reads when it is indexed, without Dask; parameters as for `level_dataset`.

    Nothing is read but metadata where the level states its number of vertices.
    """
    sizes = LazySizes(view)
    total = view.data.meta.vertex_count or _counted_rows(sizes)  # where it is wrong, reads say so
    rows: Variables = {}
    for name, (dims, make) in _rows(view, drop):
        like = make(view)
        data = LazyRows(sizes, make, (total, *like.shape[1:]), like.dtype)
        encoding = {"preferred_chunks": PreferredChunks(sizes, vertices_array), SOURCE: data}
        rows[name] = RowsVariable(dims, indexing.LazilyIndexedArray(data), _row_attrs(view, name), encoding)
    dense = _object_variables(view, lazy=True)
    return _assemble(view, Part(sizes, total), rows | dense, objects=objects, edges=edges, drop=drop)


def _counted_rows(sizes: LazySizes) -> int:
    """Rows of a level that does not state them, as streaming writers leave it: read."""
    counts = sizes.sized().sizes
    return 0 if counts is None else int(counts.sum())


def root_dataset(store: StoreMeta) -> xr.Dataset:
    """Dataset without variables, whose attributes describe a store."""
    return xr.Dataset(attrs=_store_attrs(store))


def axis_coordinates(store: StoreMeta) -> dict[str, str]:
    """Names of the coordinates of vertices, by axis: as the axes, but for names that are ours."""
    names = column_names(dict.fromkeys(store.axes), OWN | DIMS, suffix="axis")
    return {axis: names[axis][0] for axis in store.axes}


def variable_names(view: LevelView) -> dict[str, str]:
    """Names of vertex attributes' variables: their own, or with ``_attribute`` where a variable of ours has it."""
    store = view.data.store
    taken = OWN | DIMS | {*store.axes, *axis_coordinates(store).values()}
    return {name: names[0] for name, names in column_names(dict.fromkeys(view.data.attribute_names), taken).items()}


def _assemble(
    view: LevelView, part: Part, variables: Variables, *, objects: bool, edges: bool, drop: Collection[str]
) -> xr.Dataset:
    if edges:
        variables |= _joins(part.sizes.sized())
    if objects:
        variables |= ragged_index(part.sizes.sized())
    axis = xr.Variable("axis", np.asarray(view.data.store.axes), _axis_attrs(view.data.store))
    kept = {name: variable for name, variable in variables.items() if name not in drop}
    coords = {name: kept.pop(name) for name in ("object_id",) if name in kept}
    names = list(axis_coordinates(view.data.store).values())
    places = {name: kept.pop(name) for name in names if name in kept}
    dataset = xr.Dataset(kept, coords={"axis": axis, **coords}, attrs=_level_attrs(view))
    if len(places) < len(names):
        return dataset.assign_coords(places)
    index = PositionIndex([part], names, "vertex", view.data.vertices.spec.dtype)
    return dataset.assign_coords(xr.Coordinates(places, indexes=dict.fromkeys(names, index)))


def _rows(view: LevelView, drop: Collection[str]) -> list[tuple[str, tuple[tuple[str, ...], Make]]]:
    found: list[tuple[str, tuple[tuple[str, ...], Make]]] = [("vertices", (("vertex", "axis"), vertices_array))]
    for axis, name in enumerate(axis_coordinates(view.data.store).values()):
        found.append((name, (("vertex",), partial(axis_array, axis=axis))))
    if view.data.object_index is not None:
        found.append(("vertex_object_id", (("vertex",), owners_array)))
    names = variable_names(view)
    for attribute, name in names.items():
        if name not in drop:
            shape = column_of(view, attribute)[0].row_shape
            dims = ("vertex", *_own_dims(name, len(shape), names.values()))
            found.append((name, (dims, partial(attribute_array, name=attribute))))
    return [item for item in found if item[0] not in drop]


def axis_array(view: LevelView, axis: int) -> da.Array:
    """(N,) coordinates of one axis, blocks as those of `vertices_array`."""
    column: da.Array = vertices_array(view)[:, axis]
    return column


def _own_dims(name: str, count: int, taken: Collection[str]) -> tuple[str, ...]:
    """Dimensions of a variable's further axes, which no variable is called."""
    own = {f"{name}_{k}": None for k in range(1, count + 1)}
    return tuple(names[0] for names in column_names(own, taken, suffix="axis").values())


def _object_variables(view: LevelView, *, lazy: bool) -> Variables:
    """Per-object arrays of a whole level over ``object``, and the ids."""
    index, source = view.data.object_index, view.data.source
    if index is None or view.rows is not None:
        return {}
    out: Variables = {}
    arrays = view.data.object_attributes
    taken = (
        OWN
        | DIMS
        | {*view.data.store.axes, *axis_coordinates(view.data.store).values(), *variable_names(view).values()}
    )
    labels = {name: names[0] for name, names in column_names(dict.fromkeys(arrays), taken, suffix="of_object").items()}
    for name, array in arrays.items():
        check_rows(source, array, index.count)
        label = labels[name]
        dims = ("object", *_own_dims(label, len(array.shape) - 1, taken | {*labels.values()}))
        values = indexing.LazilyIndexedArray(LazyDense(source, array)) if lazy else dense_array(source, array)
        out[label] = xr.Variable(dims, values, described(array.attributes))
    if index.ids is None:
        ids: Any = np.arange(index.count, dtype=np.int64)
    else:
        ids = indexing.LazilyIndexedArray(LazyDense(source, index.ids)) if lazy else view.object_ids
    return out | {"object_id": xr.Variable("object", ids, {"long_name": "object id"})}


def _joins(view: LevelView) -> Variables:
    """Edges and faces as rows of ``vertex``, whichever the geometry has."""
    out: Variables = {}
    if "mesh" in view.data.store.geometry_types:
        out["faces"] = xr.Variable(("face", "corner"), _counted(faces_array(view)))
    else:
        out["edges"] = xr.Variable(("edge", "end"), _counted(edges_array(view)))
    return out


def _counted(array: da.Array) -> da.Array:
    """Return an array with known chunk sizes."""
    return array.compute_chunk_sizes() if any(np.isnan(size) for size in array.chunks[0]) else array


def ragged_index(view: LevelView) -> Variables:
    """Objects as a CF ragged index: the rows of ``vertex`` that each goes through, in path order.

    Object k has ``row_size[k]`` of the ``object_rows``, one object after another; ``object_id`` names it. A vertex that
    several objects share, as on coarser levels, is in the rows of each. Of a whole level these are all slots, of a
    selection the objects that have a vertex in it.
    """
    if view.data.object_index is None:
        return {}
    whole = view.rows is None
    slots = np.flatnonzero(np.diff(view.manifests.offsets) > 0) if whole else candidate_objects(view)
    found = path_arrays(view, slots, positions=False, rows=True)
    rows, offsets = dask.compute(found.rows, found.offsets)
    counts = np.zeros(len(view.manifests), np.int64)
    counts[slots] = np.diff(offsets)
    kept = np.arange(len(counts)) if whole else np.flatnonzero(counts)
    attrs = {"sample_dimension": "object_vertex", "long_name": "vertices of each object"}
    return {
        "row_size": xr.Variable("object", counts[kept], attrs),
        "object_rows": xr.Variable("object_vertex", rows, {"long_name": "rows of vertex, object by object"}),
        "object_id": xr.Variable("object", view.object_ids[kept], {"long_name": "object id"}),
    }


def _row_attrs(view: LevelView, name: str) -> Json:
    store = view.data.store
    if name == "vertex_object_id":
        return {"long_name": "object id of each vertex, -1 where it has none"}
    of_axis = {coordinate: axis for axis, coordinate in axis_coordinates(store).items()}
    if name in of_axis:
        axis = of_axis[name]
        unit = store.units[list(store.axes).index(axis)]
        cf = {"axis": axis.upper()} if axis.upper() in ("X", "Y", "Z") else {}
        return {"long_name": f"{axis} of vertices", **cf, **({"units": unit} if unit else {})}
    named = {variable: attribute for attribute, variable in variable_names(view).items()}
    if name in named:
        return _told_attrs(view, named[name])
    units = set(store.units)
    common = units.pop() if name == "vertices" and len(units) == 1 else None
    positions = {"long_name": "vertex positions"} if name == "vertices" else {}
    return {**positions, **({"units": common} if common else {})}


def _told_attrs(view: LevelView, name: str) -> Json:
    """Unit and description of a vertex attribute, by the array's own word or the root's (spec next, 10)."""
    by = view.data.chunk_attribute
    own = {} if by is not None and by[0] == name else view.data.attribute(name).attributes
    return described(view.data.store.specified(name) | own)


def _axis_attrs(store: StoreMeta) -> Json:
    return {"units": [unit or "" for unit in store.units]} if any(store.units) else {}


def _store_attrs(store: StoreMeta) -> Json:
    lo, hi = store.bounds
    attrs = {
        "zarr_vectors_version": store.version,
        "geometry_types": list(store.geometry_types),
        "lower_bounds": lo.tolist(),
        "upper_bounds": hi.tolist(),
    }
    if store.crs is not None:
        attrs["crs"] = store.crs if isinstance(store.crs, str) else json.dumps(store.crs)
    return attrs


def _level_attrs(view: LevelView) -> Json:
    meta = view.data.meta
    return {
        **_store_attrs(view.data.store),
        "level": meta.index,
        "chunk_shape": meta.chunk_shape.tolist(),
        "bin_shape": meta.bin_shape.tolist(),
    }
