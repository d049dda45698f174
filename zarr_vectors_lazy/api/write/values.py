"""Arrays that writers are given."""

from collections.abc import Mapping
from typing import Any

import dask
import numpy as np

from zarr_vectors_lazy.access.write.job import Values
from zarr_vectors_lazy.errors import SelectionError


def as_array(value: Any, name: str) -> Values:
    """An array of what was given; memory-mapped it stays.

    Raises
    ------
    SelectionError
        If it is a Dask collection, its rows differ in length, or some values are masked: what lies below a mask would
        be stored as values. Or as `column_values`.
    """
    if type(value) is np.ndarray:  # most are, of paths a million
        return value
    if dask.is_dask_collection(value):
        raise SelectionError(f"{name} is a Dask collection, and must be in memory here: compute it first")
    if is_column(value):
        return column_values(value, name)
    try:
        array: Values = np.asanyarray(value)
        if array.dtype.kind == "U" and not hasattr(value, "dtype"):  # a list, in which NumPy makes text of numbers
            array = np.asarray(value, object)
    except ValueError as error:
        raise SelectionError(f"{name} must be one array: {error}") from error
    if isinstance(array, np.ma.MaskedArray):
        if np.ma.is_masked(array):
            raise SelectionError(f"{name} has masked values, which are not stored: fill them or leave them out")
        return array.data
    return array


def is_column(value: Any) -> bool:
    """Whether it is a pandas series, index or extension array."""
    kind = type(value)  # not the object, of which a Dask Delayed has every attribute
    return hasattr(kind, "isna") and hasattr(kind, "to_numpy") and not hasattr(kind, "columns")


def column_values(column: Any, name: str) -> Values:
    """Values of a pandas column; of text and categories of text None where they are missing.

    Raises
    ------
    SelectionError
        If values are missing from a dtype that has no NaN.
    """
    if isinstance(column.dtype, np.dtype) and column.dtype.kind != "O":
        return np.asarray(column)
    categories = getattr(column.dtype, "categories", None)
    if categories is not None and isinstance(categories.dtype, np.dtype) and categories.dtype.kind in "biufc":
        plain: Any = categories.dtype
    else:
        plain = getattr(column.dtype, "numpy_dtype", column.dtype)
    missing = np.asarray(column.isna(), np.bool_)
    values: Values
    if isinstance(plain, np.dtype) and plain.kind != "O":
        if missing.any() and plain.kind not in "fc":
            raise SelectionError(f"{name} of {column.dtype} has missing values: fill them")
        values = column.to_numpy(plain, na_value=np.nan) if missing.any() else column.to_numpy(plain)
        return values
    values = np.array(column.astype(object), object)
    values[missing] = None
    return values


def by_name(values: Any, what: str) -> Mapping[str, Any]:
    """Arrays by name, none where nothing was given; raises SelectionError if it is something else."""
    if values is not None and not isinstance(values, Mapping):
        raise SelectionError(f"{what} must be arrays by name, found {type(values).__name__}")
    return values or {}
