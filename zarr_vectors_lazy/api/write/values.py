"""Arrays that writers are given."""

from collections.abc import Mapping, Sequence
from typing import Any

import dask
import numpy as np

from zarr_vectors_lazy.access.write.job import Values
from zarr_vectors_lazy.errors import SelectionError


def as_array(value: Any, name: str) -> Values:
    """An array of what was given, no value of it missing but NaN; memory-mapped it stays.

    Raises
    ------
    SelectionError
        If it is a Dask collection, its rows differ in length, or values are masked or missing where a dtype has no NaN.
    """
    if type(value) is np.ndarray:  # most are, of paths a million
        return value
    array = _given(value, name)
    if isinstance(array, np.ma.MaskedArray):
        if np.ma.is_masked(array):
            raise SelectionError(f"{name} has masked values, or missing ones: here none may be")
        return np.asarray(array.data)
    return array


def attribute_values(value: Any, name: str) -> Values:
    """An array of values some of which may be missing; memory-mapped it stays.

    Returns
    -------
    Of whole numbers and truth values a masked array, if some are missing or the given type says that they may be. Of
    other numbers and times with NaN and NaT, of text with None where a value is missing.

    Raises
    ------
    SelectionError
        If it is a Dask collection, or its rows differ in length.
    """
    array = value if type(value) is np.ndarray else _given(value, name)
    if array.dtype == object and array.ndim == 1:
        array = _whole(array)
    if not isinstance(array, np.ma.MaskedArray) or array.dtype.kind in "iub":
        return array
    if array.dtype.kind in "fcmM":
        gone: Any = np.array("NaT", array.dtype) if array.dtype.kind in "mM" else np.nan
        return np.asarray(array.filled(gone))
    text = array.data.astype(object)
    text[np.ma.getmaskarray(array)] = None
    return np.asarray(text)


def joined(parts: Sequence[Values]) -> Values:
    """Arrays one after another; masked if one of them is."""
    if any(isinstance(part, np.ma.MaskedArray) for part in parts):
        return np.ma.concatenate(parts)  # type: ignore[no-untyped-call, no-any-return]
    return np.concatenate(parts)


def _given(value: Any, name: str) -> Values:
    if dask.is_dask_collection(value):
        raise SelectionError(f"{name} is a Dask collection, and must be in memory here: compute it first")
    if is_column(value):
        return column_values(value, name)
    if is_arrow(value):
        return arrow_values(value, name)
    try:
        array: Values = np.asanyarray(value)
        if array.dtype.kind == "U" and not hasattr(value, "dtype"):  # a list, in which NumPy makes text of numbers
            array = np.asarray(value, object)
    except ValueError as error:
        raise SelectionError(f"{name} must be one array: {error}") from error
    return array


def _whole(items: Values) -> Values:
    """Whole numbers or truth values that are objects because some are None, as a masked array; others as they are."""
    kinds = set(map(type, items))
    known = kinds - {type(None)}
    if kinds == known or not known or not (known == {bool} or known <= {int, *_INTEGERS}):
        return items
    missing = np.asarray(items == None, np.bool_)  # noqa: E711  elementwise
    try:
        values = np.asarray(np.where(missing, False if known == {bool} else 0, items).tolist())
    except OverflowError:
        return items
    return items if values.dtype.kind not in "iub" else np.ma.MaskedArray(values, missing)


_INTEGERS = (np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64)


def is_column(value: Any) -> bool:
    """Whether it is a pandas series, index or extension array."""
    kind = type(value)  # not the object, of which a Dask Delayed has every attribute
    return hasattr(kind, "isna") and hasattr(kind, "to_numpy") and not hasattr(kind, "columns")


def is_arrow(value: Any) -> bool:
    """Whether it is a column of Arrow's memory format: of pyarrow, polars and others."""
    kind = type(value)
    return any(hasattr(kind, name) for name in ("__arrow_c_array__", "__arrow_c_stream__"))


def column_values(column: Any, name: str) -> Values:
    """Values of a pandas column: as `attribute_values`, whole numbers and truth values masked if the dtype is nullable.

    Raises
    ------
    SelectionError
        If it has times of a zone, which is not stored.
    """
    dtype = column.dtype
    if isinstance(dtype, np.dtype) and dtype.kind != "O":
        return np.asarray(column)
    if getattr(dtype, "tz", None) is not None:
        raise SelectionError(f"{name} has times of zone {dtype.tz}, which is not stored: use .dt.tz_convert(None)")
    missing = np.asarray(column.isna(), np.bool_)
    categories = getattr(dtype, "categories", None)
    if categories is not None and isinstance(categories.dtype, np.dtype) and categories.dtype.kind in "biufc":
        codes = np.asarray(getattr(column, "cat", column).codes, np.int64)
        known = np.asarray(categories) if len(categories) else np.zeros(1, categories.dtype)
        return _masked(known[np.where(missing, 0, codes)], missing)
    plain: Any = getattr(dtype, "numpy_dtype", dtype)
    if isinstance(plain, np.dtype) and plain.kind in "iub":
        return np.ma.MaskedArray(column.to_numpy(plain, na_value=plain.type(0)), missing)
    if isinstance(plain, np.dtype) and plain.kind != "O":
        gone = np.array("NaT", plain)[()] if plain.kind in "mM" else np.nan
        values: Values = column.to_numpy(plain, na_value=gone) if missing.any() else column.to_numpy(plain)
        return values
    values = np.array(column.astype(object), object)
    values[missing] = None
    return values


def arrow_values(value: Any, name: str) -> Values:
    """Values of an Arrow column, as `column_values`; of lists of one length (N, C).

    Raises
    ------
    SelectionError
        If it has times of a zone, lists of several lengths, or lists of which some are missing.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415  optional
    except ImportError as error:
        raise ImportError("columns of Arrow need pyarrow: pip install 'zarr-vectors-lazy[dataframe]'") from error
    whole = pa.array(value) if hasattr(type(value), "__arrow_c_array__") else pa.chunked_array(value)
    column = whole.combine_chunks() if isinstance(whole, pa.ChunkedArray) else whole
    kind, types = column.type, pa.types
    if types.is_dictionary(kind):
        kind = kind.value_type
        column = column if _is_text(types, kind) else column.dictionary_decode()
    if types.is_timestamp(kind) and kind.tz is not None:
        raise SelectionError(f"{name} has times of the zone {kind.tz}, which is not stored: cast them first")
    if types.is_fixed_size_list(kind):
        if column.null_count:
            raise SelectionError(f"{name} has lists of which some are missing: fill them")
        return attribute_values(column.flatten(), name).reshape(-1, kind.list_size)
    missing = np.asarray(column.is_null())
    if types.is_integer(kind) or types.is_boolean(kind):
        filled = column.fill_null(False if types.is_boolean(kind) else 0) if column.null_count else column
        return np.ma.MaskedArray(filled.to_numpy(zero_copy_only=False), missing)
    if types.is_floating(kind) or types.is_temporal(kind) or types.is_null(kind):
        found: Values = column.to_numpy(zero_copy_only=False)
        return found
    if _is_text(types, kind):
        return np.array(column.to_pylist(), object)
    raise SelectionError(f"{name} has values of the Arrow type {kind}; stored are numbers, bool, text and times")


def _is_text(types: Any, kind: Any) -> bool:
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _masked(values: Values, missing: Values) -> Values:
    """Values with those masked that are missing; of floats NaN."""
    if values.dtype.kind in "iub":
        return np.ma.MaskedArray(values, missing)
    values[missing] = np.nan
    return values


def by_name(values: Any, what: str) -> Mapping[str, Any]:
    """Arrays by name, none where nothing was given; raises SelectionError if it is something else."""
    if values is not None and not isinstance(values, Mapping):
        raise SelectionError(f"{what} must be arrays by name, found {type(values).__name__}")
    return values or {}
