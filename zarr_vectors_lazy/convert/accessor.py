"""``dataset.zv``: boxes and grids of datasets over ``vertex``."""

from collections.abc import Sequence
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from zarr_vectors_lazy.convert.positions import index_of
from zarr_vectors_lazy.errors import NotFoundError, SelectionError
from zarr_vectors_lazy.graph.bins import binned_array
from zarr_vectors_lazy.kernels.grid import Grid
from zarr_vectors_lazy.plan.regions import Region, parse_region
from zarr_vectors_lazy.types import BBox, IntArray

MOST_CELLS = 2**28


@xr.register_dataset_accessor("zv")  # type: ignore[no-untyped-call]
class Accessor:
    """Boxes and grids of a dataset with ``vertices(vertex, axis)``.

    Parameters
    ----------
    dataset
        From `ZVLevel.to_xarray`, ``xr.open_dataset(..., engine="zarr_vectors")``, or made from one of these.
    """

    def __init__(self, dataset: xr.Dataset) -> None:
        self._dataset = dataset

    def sel(self, bbox: Any = None, *, method: str | None = None, tolerance: Any = None, **axes: Any) -> xr.Dataset:
        """Rows in a box, with every variable over ``vertex``; edges, faces and object rows are renumbered.

        As ``dataset.sel(x=slice(lo, hi), ...)`` of the coordinates, which takes no box and does not renumber. Positions
        of the chunks that the box meets are read here; where the dataset lost its index over them, all.

        Parameters
        ----------
        bbox
            (lo, hi), inclusive on both faces, compared in float64; or several boxes, of depth 3: their union.
        method, tolerance
            ``"nearest"``, and how far the vertex may be: as ``dataset.sel``, with a value of each axis.
        **axes
            ``x=slice(100, 300)`` by axis name.

        Raises
        ------
        SelectionError
            If there is no box, or it is malformed.
        """
        if method is not None or tolerance is not None:
            if bbox is not None:
                raise SelectionError(
                    "a box has no nearest vertex: give method= and tolerance= with a value of each axis"
                )
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
        """Density of vertices on a regular grid, or the mean of an attribute, as a lazy image.

        Parameters
        ----------
        resolution
            Edge length of a cell, for all axes or one for each.
        attribute
            Variable over ``vertex`` to take the mean of; without it vertices are counted.
        bbox
            (lo, hi) of the grid over all axes of the data, inclusive; by default the bounds that the store states.
            Vertices outside a box that is given are left out.
        axes
            Names of the axes of the image, by default all; vertices are projected along the others.

        Returns
        -------
        xarray.DataArray
            Over the axes, coordinates at the centres of cells: int64 counts, or float64 means, NaN in empty cells.

        Raises
        ------
        SelectionError
            If an argument is malformed, or the grid too large.
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
            raise SelectionError("the dataset no longer carries the bounds of its store: give bbox=(lo, hi)")
        return np.asarray(attrs["lower_bounds"], np.float64), np.asarray(attrs["upper_bounds"], np.float64)

    def _values(self, attribute: str) -> xr.DataArray:
        known = [str(name) for name, variable in self._dataset.data_vars.items() if variable.dims == ("vertex",)]
        if attribute not in known:
            raise NotFoundError.among("attribute of one number a vertex", attribute, known)
        return self._dataset[attribute]


@xr.register_datatree_accessor("zv")  # type: ignore[no-untyped-call]
class TreeAccessor:
    """Boxes of a tree whose nodes are levels; xarray's own ``tree.sel`` takes dimensions alone.

    Parameters
    ----------
    tree
        From ``xr.open_datatree(..., engine="zarr_vectors")`` or `ZVStore.to_datatree`.
    """

    def __init__(self, tree: xr.DataTree) -> None:
        self._tree = tree

    def sel(self, bbox: Any = None, **options: Any) -> xr.DataTree:
        """Rows in a box, or the nearest vertex, of every level; as `Accessor.sel`."""
        found = {
            path: node.to_dataset(inherit=False).zv.sel(bbox, **options) if "vertices" in node else node.to_dataset()
            for path, node in self._tree.subtree_with_keys
        }
        tree: xr.DataTree = xr.DataTree.from_dict(found, name=self._tree.name)
        return tree


def one_box(bbox: Any, names: Sequence[str]) -> BBox:
    """One box over all axes; raises SelectionError."""
    region = parse_region(bbox, {}, names)
    assert region is not None
    if not region.is_box:
        raise SelectionError(f"an image has one box, found {len(region.lo)}")
    return region.bounds


def make_grid(box: BBox, resolution: Any, columns: list[int]) -> Grid:
    """Grid of cells over some axes of a box; raises SelectionError."""
    extent = (box[1] - box[0])[columns]
    try:
        edges = np.broadcast_to(np.asarray(resolution, np.float64), (len(columns),)).copy()
    except (TypeError, ValueError) as error:
        raise SelectionError(f"resolution must be a number or {len(columns)}, found {resolution!r}") from error
    if not (edges > 0).all() or not np.isfinite(extent).all():
        raise SelectionError(f"resolution must be positive and the box finite, found {resolution!r} over {extent}")
    shape = np.maximum(np.ceil(np.round(extent / edges, 6)), 1)
    if np.prod(shape) > MOST_CELLS:
        raise SelectionError(f"{shape.astype(int).tolist()} cells are too many for one image: a coarser resolution")
    cells = tuple(shape.astype(int).tolist())
    return Grid(lower=box[0], upper=box[1], columns=tuple(columns), edges=edges, shape=cells)


def rows_in(dataset: xr.Dataset, region: Region) -> IntArray:
    """Rows of a dataset that lie in boxes, ascending; of one that lost its index all positions are read."""
    index = index_of(dataset)
    if index is not None:
        return index.inside(region)[0]
    return np.flatnonzero(region.rows(dataset["vertices"].values))


def take_rows(dataset: xr.Dataset, rows: IntArray) -> xr.Dataset:
    """Return some rows of a dataset; what counts in rows is renumbered, and cut to those whose rows are all there."""
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
        out = out.drop_dims("object_vertex").assign(
            row_size=size, object_rows=("object_vertex", path[path >= 0], attrs)
        )
    return out


def as_blocks(
    dataset: xr.Dataset, values: xr.DataArray | None, region: Region | None
) -> tuple[da.Array, da.Array | None]:
    """Dask arrays of positions and values, aligned along the rows; of a box at least its rows."""
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
