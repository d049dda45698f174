"""Levels as xarray datasets, and ``dataset.zv``."""

import json
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

import dask
import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from xarray.core import indexing

from zarr_vectors_lazy.convert.index import (
    SOURCE,
    LazyDense,
    LazyRows,
    LazySizes,
    Make,
    Part,
    PositionIndex,
    PreferredChunks,
    RowsVariable,
    index_of,
)
from zarr_vectors_lazy.errors import FormatError, NotFoundError, SelectionError, counted
from zarr_vectors_lazy.format.base import check_array
from zarr_vectors_lazy.kernels.bins import Grid
from zarr_vectors_lazy.model.arrays import DenseArray
from zarr_vectors_lazy.model.levels import StoreMeta
from zarr_vectors_lazy.plan.selection import Region, column_names, parse_region
from zarr_vectors_lazy.read.columns import (
    attribute_array,
    binned_array,
    candidate_objects,
    column_of,
    sized,
    vertices_array,
)
from zarr_vectors_lazy.read.layers import Task, make_array
from zarr_vectors_lazy.read.level import Source
from zarr_vectors_lazy.read.links import edges_array, faces_array
from zarr_vectors_lazy.read.objects import read_dense
from zarr_vectors_lazy.read.paths import owners_array, path_arrays
from zarr_vectors_lazy.read.view import LevelView
from zarr_vectors_lazy.types import BBox, IntArray, Json

# Arrays over objects and groups as xarray datasets.


def object_dataset(
    source: Source, arrays: Mapping[str, DenseArray], ids: IntArray, rows: IntArray | None, *, dim: str = "object"
) -> xr.Dataset:
    """Dataset of dense arrays over ``dim``, lazy, one Dask block for each stored chunk.

    Parameters
    ----------
    ids
        (O,) ids of all rows.
    rows
        Rows to include, or None for all.

    An attribute with the name ``dim`` gets the suffix ``_attribute``, because ``dim`` names the ids.
    """
    variables: dict[str, tuple[tuple[str, ...], Any, dict[str, str]]] = {}
    labels = column_names(dict.fromkeys(arrays), (dim,))
    for name, array in arrays.items():
        check_rows(source, array, len(ids), dim)
        values = dense_array(source, array)
        dims = (dim, *(f"{name}_{axis}" for axis in range(1, len(array.shape))))
        variables[labels[name][0]] = (dims, values if rows is None else values[rows], described(array.attributes))
    return xr.Dataset(variables, coords={dim: ids if rows is None else ids[rows]})


def described(attributes: Mapping[str, Any]) -> dict[str, str]:
    """Unit and description of an array in xarray's form, if its metadata state them (spec 0.9, 6)."""
    named = {"units": attributes.get("unit"), "description": attributes.get("description")}
    return {name: value for name, value in named.items() if isinstance(value, str) and value}


def check_rows(source: Source, array: DenseArray, count: int, dim: str = "object") -> None:
    """Raise FormatError if an array does not have a row for each object or group."""
    if array.shape[0] != count:
        raise FormatError(
            f"{counted(array.shape[0], 'row')} of {array.path!r} for {count} {dim}s", where=source.spec.url
        )


def dense_array(source: Source, array: DenseArray) -> da.Array:
    """A dense array of the store as a Dask array; (rows, ...), stored dtype."""
    dtype = array.dtype
    if dtype.hasobject:  # text without a fixed width: its dtype is known only when it is read
        text: da.Array = da.from_array(read_text(source, array), chunks=-1)
        return text
    name = f"zv-dense-{tokenize(source, array.path, array.shape, str(dtype))}"
    starts = range(0, array.shape[0], array.chunk_rows) if array.shape[0] else range(1)
    sizes = tuple(min(array.chunk_rows, array.shape[0] - start) for start in starts)
    zeros = (0,) * (len(array.shape) - 1)
    keys = [(name, block, *zeros) for block in range(len(starts))]
    tasks = {
        key: Task(key, read_dense, source, array, start, start + size)
        for key, start, size in zip(keys, starts, sizes, strict=True)
    }
    graph = HighLevelGraph({name: MaterializedLayer(tasks)}, {name: set()})
    return make_array(graph, name, sizes, array.shape[1:], dtype)


def read_text(source: Source, array: DenseArray) -> np.ndarray[Any, Any]:
    """Text rows as ``<U..``."""
    rows = read_dense(source, array)
    widest = max((len(str(value)) for value in rows.ravel()), default=0)
    check_array(4 * widest * rows.size, f"text of {array.path!r}", source.spec.url)
    return rows.astype(str)


# ``dataset.zv``: boxes and grids of datasets over ``vertex``.

MOST_CELLS = 2**28


@xr.register_dataset_accessor("zv")  # type: ignore[no-untyped-call]
class Accessor:
    """Selects boxes of a dataset with ``vertices(vertex, axis)``, and bins it on grids.

    Parameters
    ----------
    dataset
        From `ZVLevel.to_xarray`, ``xr.open_dataset(..., engine="zarr_vectors")``, or made from one of these.
    """

    def __init__(self, dataset: xr.Dataset) -> None:
        self._dataset = dataset

    def sel(self, bbox: Any = None, *, method: str | None = None, tolerance: Any = None, **axes: Any) -> xr.Dataset:
        """Select the rows in a box from all variables over ``vertex``, and renumber edges, faces and object rows.

        Xarray's own ``dataset.sel(x=slice(lo, hi), ...)`` selects the same rows, but does not take a ``bbox`` and does
        not renumber. The positions of the chunks that the box meets are read immediately; if the dataset has lost its
        index over the positions, all of them are read.

        Parameters
        ----------
        bbox
            (lo, hi), inclusive on both faces, compared in float64; or a list of several boxes, for their union.
        method, tolerance
            ``"nearest"`` with a value for each axis, and how far away the vertex may be, as for ``dataset.sel``.
        **axes
            ``x=slice(100, 300)`` by axis name.

        Raises
        ------
        SelectionError
            If the box is missing or malformed.
        """
        if method is not None or tolerance is not None:
            if bbox is not None:
                raise SelectionError("method= and tolerance= need a value for each axis, and do not go with bbox=")
            return self._dataset.sel(axes, method=method, tolerance=tolerance)
        region = parse_region(bbox, axes, self._axes())
        if region is None:
            raise SelectionError("sel() needs a box: bbox=(lo, hi), or slices by axis name")
        return take_rows(self._dataset, rows_in(self._dataset, region))

    def bin(
        self,
        resolution: float | Sequence[float],
        attribute: str | None = None,
        *,
        bbox: Any = None,
        axes: Sequence[str] | None = None,
    ) -> xr.DataArray:
        """Count vertices on a regular grid, or average an attribute there, as a lazy image.

        Parameters
        ----------
        resolution
            Edge length of a cell, one for all axes or one for each.
        attribute
            A variable over ``vertex`` to average; by default vertices are counted.
        bbox
            (lo, hi) of the grid over all axes of the data, inclusive; by default the bounds that the store states.
            Vertices outside a given box are left out.
        axes
            Names of the axes of the image, by default all; vertices are projected along the others.

        Returns
        -------
        xarray.DataArray
            An image over the axes, with coordinates at the centres of cells: int64 counts, or float64 means that are
            NaN in empty cells.

        Raises
        ------
        SelectionError
            If an argument is malformed, or if the grid is too large.
        NotFoundError
            If there is no such attribute or axis.
        FormatError
            When computed, if a vertex lies outside the stated bounds.
        """
        names = self._axes()
        wanted = names if axes is None else tuple(axes)
        for name in wanted:
            if name not in names:
                raise NotFoundError.among("axis", name, names)
        stated = bbox is None
        box = self._stated_bounds() if stated else one_box(bbox, names)
        grid = make_grid(box, resolution, [names.index(name) for name in wanted])
        values = None if attribute is None else self._values(attribute)
        strict = "the bounds that the store states: give bbox=" if stated else ""
        arrays = as_blocks(self._dataset, values, None if stated else Region.of(box))
        image = binned_array(*arrays, grid, strict=strict)
        coords = dict(zip(wanted, grid.centres, strict=True))
        label = "count" if attribute is None else attribute
        return xr.DataArray(image, coords, wanted, label, {"cell_edges": grid.edges.tolist()})

    def _axes(self) -> tuple[str, ...]:
        if "vertices" not in self._dataset or "axis" not in self._dataset.coords:
            raise NotFoundError.among("variable", "vertices", map(str, self._dataset.variables))
        return tuple(str(name) for name in self._dataset["axis"].values)

    def _stated_bounds(self) -> BBox:
        attrs = self._dataset.attrs
        if "lower_bounds" not in attrs or "upper_bounds" not in attrs:
            raise SelectionError("the dataset no longer has the bounds of its store: give bbox=(lo, hi)")
        return np.asarray(attrs["lower_bounds"], np.float64), np.asarray(attrs["upper_bounds"], np.float64)

    def _values(self, attribute: str) -> xr.DataArray:
        known = [str(name) for name, variable in self._dataset.data_vars.items() if variable.dims == ("vertex",)]
        if attribute not in known:
            raise NotFoundError.among("attribute with one number for each vertex", attribute, known)
        return self._dataset[attribute]


@xr.register_datatree_accessor("zv")  # type: ignore[no-untyped-call]
class TreeAccessor:
    """Selects boxes of a tree whose nodes are levels; xarray's own ``tree.sel`` only knows dimensions.

    Parameters
    ----------
    tree
        From ``xr.open_datatree(..., engine="zarr_vectors")`` or `ZVStore.to_datatree`.
    """

    def __init__(self, tree: xr.DataTree) -> None:
        self._tree = tree

    def sel(self, bbox: Any = None, **options: Any) -> xr.DataTree:
        """Select the rows in a box, or the nearest vertex, on every level, as `Accessor.sel` does."""
        found = {
            path: node.to_dataset(inherit=False).zv.sel(bbox, **options) if "vertices" in node else node.to_dataset()
            for path, node in self._tree.subtree_with_keys
        }
        tree: xr.DataTree = xr.DataTree.from_dict(found, name=self._tree.name)
        return tree


def one_box(bbox: Any, names: Sequence[str]) -> BBox:
    """A single box over all axes; raises SelectionError."""
    region = parse_region(bbox, {}, names)
    assert region is not None
    if not region.is_box:
        raise SelectionError(f"an image takes one box, found {len(region.lo)}")
    return region.bounds


def make_grid(box: BBox, resolution: Any, columns: list[int]) -> Grid:
    """Grid of cells over some axes of a box; raises SelectionError."""
    extent = (box[1] - box[0])[columns]
    try:
        edges = np.broadcast_to(np.asarray(resolution, np.float64), (len(columns),)).copy()
    except (TypeError, ValueError) as error:
        raise SelectionError(
            f"resolution must be a number, or one for each of {len(columns)} axes, found {resolution!r}"
        ) from error
    if not (edges > 0).all() or not np.isfinite(extent).all():
        raise SelectionError(f"resolution must be positive and the box finite, found {resolution!r} over {extent}")
    shape = np.maximum(np.ceil(np.round(extent / edges, 6)), 1)
    if np.prod(shape) > MOST_CELLS:
        raise SelectionError(f"{shape.astype(int).tolist()} cells are too many: choose a coarser resolution")
    cells = tuple(shape.astype(int).tolist())
    return Grid(lower=box[0], upper=box[1], columns=tuple(columns), edges=edges, shape=cells)


def rows_in(dataset: xr.Dataset, region: Region) -> IntArray:
    """Rows of a dataset that lie in boxes, ascending; if the dataset has lost its index, all positions are read."""
    index = index_of(dataset)
    if index is not None:
        return index.inside(region)[0]
    return np.flatnonzero(region.rows(dataset["vertices"].values))


def take_rows(dataset: xr.Dataset, rows: IntArray) -> xr.Dataset:
    """Return some rows of a dataset; whatever refers to rows is renumbered, and cut to what is complete."""
    new = np.full(dataset.sizes["vertex"], -1, np.int64)
    new[rows] = np.arange(len(rows))
    out = dataset.isel(vertex=rows)
    for name, dim in (("edges", "edge"), ("faces", "face")):
        if name in dataset:
            ends = new[dataset[name].values]
            kept = (ends >= 0).all(axis=1)
            out = out.isel({dim: kept}).assign({name: (dataset[name].dims, ends[kept])})
    if "object_rows" in dataset:
        path = new[dataset["object_rows"].values]
        sizes = dataset["row_size"].values
        owners = np.repeat(np.arange(len(sizes)), sizes)[path >= 0]
        size = dataset["row_size"].copy(data=np.bincount(owners, minlength=len(sizes)).astype(np.int64))
        attrs = dataset["object_rows"].attrs
        kept_rows = ("object_vertex", path[path >= 0], attrs)
        out = out.drop_dims("object_vertex").assign(row_size=size, object_rows=kept_rows)
    return out


def as_blocks(
    dataset: xr.Dataset, values: xr.DataArray | None, region: Region | None
) -> tuple[da.Array, da.Array | None]:
    """Dask arrays of positions and values, aligned along the rows; for a box, at least its rows."""
    index, vertices = index_of(dataset), dataset["vertices"]
    if not vertices.chunks:
        whole = index is not None and [part.rows is None for part in index.parts] == [True]
        chunks = vertices.encoding.get("preferred_chunks", {}).get("vertex", -1) if whole else -1
        vertices = vertices.chunk({"vertex": chunks, "axis": -1})
    if region is not None and index is not None:
        near = index.near(region)
        vertices = vertices.isel(vertex=near)
        values = None if values is None else values.isel(vertex=near)
    positions = vertices.data.rechunk({1: -1})
    return positions, None if values is None else values.chunk({"vertex": positions.chunks[0]}).data


# Levels as xarray datasets: over ``vertex`` and ``axis``, ``object``, and if requested what joins vertices.

OWN = frozenset({"vertices", "axis", "edges", "faces", "object_id", "object_rows", "row_size", "vertex_object_id"})
DIMS = frozenset({"vertex", "object", "object_vertex", "edge", "end", "face", "corner"})
Variables = dict[str, xr.Variable]


def level_dataset(view: LevelView, *, objects: bool = False, edges: bool = False) -> xr.Dataset:
    """Dataset of Dask arrays, with the blocks of the view.

    Parameters
    ----------
    view
        Part of a level; its sizes are read if they are not known.
    objects
        Whether to include `ragged_index`, which reads manifests and fragment indexes.
    edges
        Whether to include edges and faces, which reads whatever is needed to count them.
    """
    view = sized(view)
    rows = {name: xr.Variable(dims, make(view), _row_attrs(view, name)) for name, (dims, make) in _rows(view, ())}
    dense = {} if view.rows is not None else _object_variables(view, lazy=False)
    sizes = LazySizes(view)
    part = Part(sizes, int(sizes.starts()[-1]))
    return _assemble(view, part, rows | dense, objects=objects, edges=edges, drop=())


def lazy_level_dataset(
    view: LevelView, *, objects: bool = False, edges: bool = False, drop: Collection[str] = ()
) -> xr.Dataset:
    """Dataset that reads when it is indexed, without Dask; parameters as for `level_dataset`, and names to leave out.

    Only metadata are read if the level states its number of vertices.
    """
    sizes = LazySizes(view)
    total = view.data.meta.vertex_count or int(sizes.starts()[-1])  # if it is wrong, reads report it
    rows: Variables = {}
    for name, (dims, make) in _rows(view, drop):
        like = make(view)
        data = LazyRows(sizes, make, (total, *like.shape[1:]), like.dtype)
        encoding = {"preferred_chunks": PreferredChunks(sizes, vertices_array), SOURCE: data}
        rows[name] = RowsVariable(dims, indexing.LazilyIndexedArray(data), _row_attrs(view, name), encoding)
    dense = _object_variables(view, lazy=True)
    return _assemble(view, Part(sizes, total), rows | dense, objects=objects, edges=edges, drop=drop)


def root_dataset(store: StoreMeta) -> xr.Dataset:
    """Dataset without variables, whose attributes describe a store."""
    return xr.Dataset(attrs=_store_attrs(store))


def axis_coordinates(store: StoreMeta) -> dict[str, str]:
    """Names of the coordinates of vertices, by axis: the axes' names, unless they are ours."""
    names = column_names(dict.fromkeys(store.axes), OWN | DIMS, suffix="axis")
    return {axis: names[axis][0] for axis in store.axes}


def variable_names(view: LevelView) -> dict[str, str]:
    """Names of vertex attributes' variables: their own, or with ``_attribute`` if one of our variables has it."""
    names = column_names(dict.fromkeys(view.data.attribute_names), _taken(view.data.store))
    return {name: labels[0] for name, labels in names.items()}


def _taken(store: StoreMeta) -> set[str]:
    return {*OWN, *DIMS, *store.axes, *axis_coordinates(store).values()}


def _assemble(
    view: LevelView, part: Part, variables: Variables, *, objects: bool, edges: bool, drop: Collection[str]
) -> xr.Dataset:
    if edges:
        variables |= _joins(part.sizes.sized())
    if objects:
        variables |= ragged_index(part.sizes.sized())
    store = view.data.store
    units = {"units": ", ".join(unit or "none" for unit in store.units)} if any(store.units) else {}
    axis = xr.Variable("axis", np.asarray(store.axes), units)
    kept = {name: variable for name, variable in variables.items() if name not in drop}
    coords = {name: kept.pop(name) for name in ("object_id",) if name in kept}
    names = list(axis_coordinates(store).values())
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
    """(N,) coordinates of one axis, with the blocks of `vertices_array`."""
    column: da.Array = vertices_array(view)[:, axis]
    return column


def _own_dims(name: str, count: int, taken: Collection[str]) -> tuple[str, ...]:
    """Dimensions of a variable's further axes, with names that no variable has."""
    own = {f"{name}_{k}": None for k in range(1, count + 1)}
    return tuple(names[0] for names in column_names(own, taken, suffix="axis").values())


def _object_variables(view: LevelView, *, lazy: bool) -> Variables:
    """Arrays over the objects of a whole level, over ``object``, and the ids."""
    index, source = view.data.object_index, view.data.source
    if index is None or view.rows is not None:
        return {}
    out: Variables = {}
    arrays = view.data.object_attributes
    taken = _taken(view.data.store) | {*variable_names(view).values()}
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
    """Edges or faces as rows of ``vertex``, whichever the geometry has."""
    mesh = "mesh" in view.data.store.geometry_types
    array = faces_array(view) if mesh else edges_array(view)
    if np.isnan(array.chunks[0]).any():
        array = array.compute_chunk_sizes()
    return {"faces": xr.Variable(("face", "corner"), array)} if mesh else {"edges": xr.Variable(("edge", "end"), array)}


def ragged_index(view: LevelView) -> Variables:
    """Objects as a CF ragged index: the rows of ``vertex`` through which each passes, in path order.

    Object k has ``row_size[k]`` of the ``object_rows``, one object after another; ``object_id`` names it. A vertex that
    several objects share, as on coarser levels, is in the rows of each. For a whole level these are all slots, for a
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
        return told_attrs(view, named[name])
    units = set(store.units)
    common = units.pop() if name == "vertices" and len(units) == 1 else None
    positions = {"long_name": "vertex positions"} if name == "vertices" else {}
    return {**positions, **({"units": common} if common else {})}


def told_attrs(view: LevelView, name: str) -> Json:
    """Unit and description of a vertex attribute, from the array's metadata or the root's (spec next, 10)."""
    own = {} if view.data.cuts_chunks(name) else view.data.attribute(name).attributes
    return described(view.data.store.specified(name) | own)


def _store_attrs(store: StoreMeta) -> Json:
    lo, hi = store.bounds
    attrs = {"zarr_vectors_version": store.version, "geometry_types": ", ".join(store.geometry_types)}
    attrs |= {"lower_bounds": lo.tolist(), "upper_bounds": hi.tolist()}
    if store.crs is not None:
        attrs["crs"] = store.crs if isinstance(store.crs, str) else json.dumps(store.crs)
    return attrs


def _level_attrs(view: LevelView) -> Json:
    meta = view.data.meta
    own = {"level": meta.index, "chunk_shape": meta.chunk_shape.tolist(), "bin_shape": meta.bin_shape.tolist()}
    return _store_attrs(view.data.store) | own
