"""Per-object and per-group arrays as xarray datasets."""

from collections.abc import Mapping
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer

from zarr_vectors_lazy.access.level import Source
from zarr_vectors_lazy.access.objects import read_dense
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.limits import check_array
from zarr_vectors_lazy.graph.array import make_array
from zarr_vectors_lazy.graph.layers import Task
from zarr_vectors_lazy.model.arrays import DenseArray
from zarr_vectors_lazy.plan.names import column_names
from zarr_vectors_lazy.types import IntArray


def object_dataset(
    source: Source, arrays: Mapping[str, DenseArray], ids: IntArray, rows: IntArray | None, *, dim: str = "object"
) -> xr.Dataset:
    """Dataset of dense arrays over ``dim``, lazy, one Dask block a stored chunk.

    Parameters
    ----------
    ids
        (O,) ids of all rows.
    rows
        Rows wanted, or None for all.

    An attribute that is called as ``dim`` gets ``_attribute`` at its end, as ``dim`` names the ids.
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
    """Unit and description of an array as xarray has them, where its metadata tell them (spec 0.9, 6)."""
    named = {"units": attributes.get("unit"), "description": attributes.get("description")}
    return {name: value for name, value in named.items() if isinstance(value, str) and value}


def check_rows(source: Source, array: DenseArray, count: int, dim: str = "object") -> None:
    """Raise FormatError if an array has another number of rows than there are objects or groups."""
    if array.shape[0] != count:
        raise FormatError(f"{array.shape[0]} rows of {array.path!r} for {count} {dim}s", where=source.spec.url)


def dense_array(source: Source, array: DenseArray) -> da.Array:
    """A dense array of the store as a Dask array; (rows, ...), stored dtype."""
    dtype = array.dtype
    if dtype.hasobject:  # text of no fixed width: its dtype is known when it is read
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
