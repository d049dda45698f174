"""xarray datasets as arguments of writers: those made from levels, and others, such as CF's ragged arrays."""

import functools
import inspect
import json
import os
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import dask
import dask.array as da
import numpy as np
import xarray as xr

from zarr_vectors_lazy.errors import NotFoundError, SelectionError, counted, listed
from zarr_vectors_lazy.keywords import Suggesting
from zarr_vectors_lazy.types import IntArray
from zarr_vectors_lazy.write import arguments
from zarr_vectors_lazy.write.arguments import Labelled

P = ParamSpec("P")
R = TypeVar("R")
OWNERS, IDS, COUNTS, ROWS = "vertex_object_id", "object_id", "row_size", "object_rows"
JOINED = {"write_graph": "edges", "write_mesh": "faces"}


def taking_datasets(function: Callable[P, R]) -> Callable[P, R]:
    """Let a writer take a dataset in place of positions; what it contains applies unless an argument is given."""
    names = list(inspect.signature(function).parameters)
    first = names[1]
    call: Callable[..., R] = function

    @functools.wraps(function)
    def taking(*given: P.args, **named: P.kwargs) -> R:
        told: dict[str, Any] = {**dict(zip(names, given, strict=False)), **named}
        dataset = told.pop(first, None)
        if hasattr(type(dataset), "to_crs"):  # of GeoPandas
            return call(**{**told, **_of_places(dataset, function.__name__, first, told.get("crs"))})
        if not isinstance(dataset, xr.Dataset):
            if len(given) > 1 or first in named:
                _check_kind(dataset, first)
            return function(*given, **named)
        if any(variable.chunks for variable in dataset.variables.values()):
            dataset = dataset.chunk()  # if one is a Dask array, all are
        beside = {name: value for name, value in told.items() if value is not None}
        found = _Given(dataset, beside).arguments(function.__name__, first)
        for name in ("vertex_attributes", "object_attributes"):
            if name in beside and name in found:
                found[name] = {**found[name], **beside.pop(name)}
        if isinstance(beside.get("object_ids"), str):
            del beside["object_ids"]
        return call(**(found | beside))

    return taking


def _check_kind(value: Any, name: str) -> None:
    """Raise SelectionError for a part of a store, or for what is no array at all, with what may be meant instead."""
    if isinstance(value, Suggesting):
        hint = "save() copies levels and selections; writers take level.to_xarray(), or arrays such as level.vertices"
    elif isinstance(value, str | bytes | os.PathLike):
        hint = "the path of the store comes first; zvl.ingest(file, path) writes a file as a store"
    elif value is None or isinstance(value, Mapping):
        hint = "give one of the arrays in it" if value else "give an array"
    elif isinstance(value, Iterator) and name != "polylines":
        hint = "only polylines can be an iterator; numpy.concatenate joins blocks of rows"
    else:
        return
    raise SelectionError(f"{name} must be given as arrays, found {type(value).__name__}: {hint}")


def crs_of(system: Any) -> dict[str, Any]:
    """Reference system of pyproj as a store keeps it; for a compound one, the code is that of the horizontal part."""
    codes = (part.to_epsg() for part in (system, *system.sub_crs_list))
    return {"name": system.name, "epsg": next((code for code in codes if code), None), "wkt": system.to_wkt()}


def _of_places(frame: Any, writer: str, first: str, crs: Any) -> dict[str, Any]:
    """Arguments of a writer for GeoPandas points: a data frame with coordinates and the other columns."""
    frame = frame if hasattr(type(frame), "columns") else frame.to_frame(name="geometry")
    if writer != "write_points":
        lines = "[numpy.asarray(line.coords) for line in frame.geometry] are polylines"
        raise SelectionError(f"{writer} takes no objects of GeoPandas, only write_points does; of lines, {lines}")
    if dask.is_dask_collection(frame):
        raise SelectionError("write_points takes no frames of dask-geopandas; frame.compute() is one in memory")
    places = frame.geometry
    kinds = set(places.geom_type.fillna("none")) | ({"empty"} if places.is_empty.any() else set())
    if kinds - {"Point"}:
        raise SelectionError(f"the geometry has {listed(sorted(kinds))}; write_points takes points alone")
    points, table = places.get_coordinates(include_z=bool(places.has_z.any())), frame.drop(columns=places.name)
    for axis in points:
        if axis in table and not np.array_equal(table[axis], points[axis]):
            raise SelectionError(f"the column {axis!r} differs from the {axis} of the geometry: drop or rename it")
    crs = crs_of(frame.crs) if crs is None and frame.crs is not None else crs
    return {first: table.assign(**{axis: points[axis].to_numpy() for axis in points}), "crs": crs}


@dataclass(frozen=True, eq=False)
class _Given:
    """A dataset, and the other arguments of a writer by name."""

    dataset: xr.Dataset
    named: Mapping[str, Any]

    @functools.cached_property
    def columns(self) -> dict[Hashable, str]:
        """Variables that are axes, with one dimension, by name, and the names of the axes."""
        dataset, axes = self.dataset, self.named.get("axes")
        if "vertices" in dataset and "axis" in dataset.coords:
            return {str(name): str(name) for name in dataset["axis"].values}
        if axes is not None:
            missing = [name for name in axes if name not in dataset.variables]
            if missing:
                raise NotFoundError.among("variable", missing[0], map(str, dataset.variables))
            return {name: name for name in axes}
        flat = [name for name, variable in dataset.variables.items() if variable.ndim == 1]
        stated = {str(dataset[name].attrs.get("axis", "")).lower(): name for name in flat}
        if "x" in stated and "y" in stated:
            return {stated[axis]: axis for axis in arguments.AXES if axis in stated}
        return dict(zip(*arguments.axes_among(flat), strict=True))

    @functools.cached_property
    def dim(self) -> Hashable:
        """Dimension of the vertices."""
        if self._own:
            return self.dataset["vertices"].dims[0]
        dims = {self.dataset[name].dims for name in self.columns}
        if len(dims) > 1 or {len(each) for each in dims} != {1}:
            raise SelectionError(
                f"{listed(self.columns)} lie along {listed(sorted(map(str, dims)))}: coordinates must have "
                "one dimension; for a grid: dataset.stack()"
            )
        return dims.pop()[0]

    @property
    def _own(self) -> bool:
        return "vertices" in self.dataset and "axis" in self.dataset.coords

    def positions(self) -> Any:
        """(N, D) array; a Dask array if the dataset's are."""
        if self._own:
            return self.dataset["vertices"].data
        columns = [self.dataset[name].data for name in self.columns]
        return (da if any(map(dask.is_dask_collection, columns)) else np).stack(columns, axis=1)

    def units(self) -> Any:
        """Units of the axes; None if none are stated."""
        names = [name if name in self.dataset.variables else None for name in self.columns]
        found = [None if name is None else self.dataset[name].attrs.get("units") for name in names]
        return found if any(found) else None

    def attributes(self) -> dict[str, Any]:
        """Variables over the vertices that are not axes, by name."""
        named = self.named.get("object_ids")
        taken = {"vertices", OWNERS, self.dim, *self.columns, named if isinstance(named, str) else None}
        axes = {f"{name}_axis" for name in self.columns} if self._own else set()
        found = {name: v.data for name, v in self.dataset.variables.items() if v.dims[:1] == (self.dim,)}
        return {str(name): values for name, values in found.items() if name not in taken | axes}

    def owners(self) -> Any:
        """(N,) object of each vertex; None without objects."""
        wanted = self.named.get("object_ids")
        if isinstance(wanted, str):
            if wanted not in self.dataset.variables:
                raise NotFoundError.among("variable", wanted, map(str, self.dataset.variables))
            return self.dataset[wanted].data
        if wanted is not None:
            return wanted
        if OWNERS in self.dataset:
            return self.dataset[OWNERS].data
        counts = self.counts()
        if counts is None or ROWS in self.dataset:
            return None
        owners = np.repeat(self.ids(counts), counts.values)
        return da.from_array(owners) if counts.chunks else owners

    def counts(self) -> xr.DataArray | None:
        """(O,) vertices of each object of a ragged array; None if it is not one."""
        dims = {self.dim, "object_vertex"} if ROWS in self.dataset else {self.dim}
        stated = [name for name, v in self.dataset.variables.items() if v.attrs.get("sample_dimension") in dims]
        found = stated[0] if stated else COUNTS if COUNTS in self.dataset else None
        return None if found is None else self.dataset[found]

    def ids(self, counts: xr.DataArray) -> IntArray:
        """(O,) ids of the objects of a ragged array: ``object_id``, the ids in CF's sense, or 0, 1, ..."""
        variables = self.dataset.variables
        told = [n for n, v in variables.items() if v.attrs.get("cf_role") == "trajectory_id" and v.dtype.kind in "iu"]
        name = next((name for name in (IDS, *told) if name in variables and variables[name].dims == counts.dims), None)
        return np.arange(len(counts)) if name is None else np.asarray(self.dataset[name].values, np.int64)

    def objects(self) -> tuple[Hashable, IntArray] | None:
        """Dimension of the objects and their ids; None without objects."""
        ids, counts = self.dataset.variables.get(IDS), self.counts()
        if ids is not None:
            return ids.dims[0], np.asarray(ids.values)
        return None if counts is None else (counts.dims[0], self.ids(counts))

    def of_objects(self, present: Any) -> dict[str, Any]:
        """Variables over the objects, for those that are present, by name."""
        objects, counts = self.objects(), self.counts()
        if objects is None:
            return {}
        dim, ids = objects
        kept = np.isin(ids, present)
        known = {IDS, dim, None if counts is None else counts.name}
        found = {name: v for name, v in self.dataset.variables.items() if v.dims[:1] == (dim,) and name not in known}
        return {str(name): Labelled(variable.values[kept], ids[kept]) for name, variable in found.items()}

    def arguments(self, writer: str, first: str) -> dict[str, Any]:
        """Arguments of a writer."""
        attrs = self.dataset.attrs
        found: dict[str, Any] = {"axes": tuple(self.columns.values()), "units": self.units()}
        if "crs" in attrs:
            found["crs"] = _crs(attrs["crs"])
        if "chunk_shape" in attrs and "chunk_shape" not in self.named:
            found |= {name: attrs[name] for name in ("chunk_shape", "bin_shape") if name in attrs}
        geometry = str(attrs.get("geometry_types", "")).partition(",")[0]
        if writer in ("write_lines", "write_polylines"):
            named = writer == "write_polylines" and geometry == "polyline"
            return found | self._paths(first) | ({"geometry_type": "polyline"} if named else {})
        owners = self.owners()
        found |= {first: self.positions(), "vertex_attributes": self.attributes(), "object_ids": owners}
        if owners is not None:
            found["object_attributes"] = self.of_objects(np.unique(np.asarray(owners))) or None
        if JOINED.get(writer) in self.dataset:
            found[JOINED[writer]] = self.dataset[JOINED[writer]].data
        return found | ({"kind": "skeleton"} if writer == "write_graph" and geometry == "skeleton" else {})

    def _paths(self, first: str) -> dict[str, Any]:
        """Arguments of a writer of paths: a ragged array, read into memory."""
        counts = self.counts()
        if counts is None:
            raise SelectionError(
                "objects must be a ragged array: to_xarray(objects=True), or a variable of counts whose "
                f"attribute sample_dimension is {str(self.dim)!r}"
            )
        positions, attributes = dask.compute(self.positions(), self.attributes())
        rows = self.dataset[ROWS].values if ROWS in self.dataset else np.arange(len(positions))
        if rows.max(initial=-1) >= len(positions):
            raise SelectionError(
                f"{ROWS} name row {rows.max()} of {counted(len(positions), 'vertex')}: dataset.zv.sel renumbers, where "
                "dataset.sel does not"
            )
        positions, attributes = positions[rows], {name: values[rows] for name, values in attributes.items()}
        lengths, ids = np.asarray(counts.values, np.int64), self.ids(counts)
        lengths, ids = lengths[lengths > 0], ids[lengths > 0]
        table = {name: values.values for name, values in self.of_objects(ids).items()}
        found = {"vertex_attributes": attributes, "object_ids": ids, "object_attributes": table or None}
        if first == "polylines":
            return found | {first: (positions, np.concatenate([[0], np.cumsum(lengths)]))}
        if (lengths != 2).any():
            raise SelectionError("lines must have two vertices each: use write_polylines for others")
        ends = {name: values.reshape(-1, 2, *values.shape[1:]) for name, values in attributes.items()}
        return found | {first: positions.reshape(-1, 2, positions.shape[1]), "vertex_attributes": ends}


def _crs(stated: Any) -> Any:
    """Reference system as a store states it; `level_dataset` stores mappings as JSON."""
    if not isinstance(stated, str):
        return stated
    try:
        return json.loads(stated)
    except ValueError:
        return stated
