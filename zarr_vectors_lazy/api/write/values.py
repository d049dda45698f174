"""Arrays that writers are given."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dask
import numpy as np
import xarray as xr

from zarr_vectors_lazy.access.write.job import Values
from zarr_vectors_lazy.errors import SelectionError, listed


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
    speaks = any(hasattr(kind, name) for name in ("__arrow_c_array__", "__arrow_c_stream__"))
    return speaks and not issubclass(kind, xr.DataArray)  # which speaks it as a table of its coordinates


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
    pa = pyarrow()
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
    """Arrays by name, none where nothing was given: of a mapping, a dataset, or the columns of a table.

    Of a table about objects a column ``object_id`` says whose the rows are.

    Raises
    ------
    SelectionError
        If it is something else.
    """
    if values is None or isinstance(values, Mapping):
        return values or {}
    table = as_table(values)
    if not is_frame(table) or dask.is_dask_collection(table):
        raise SelectionError(f"{what} must be arrays by name, found {type(values).__name__}")
    names = list(table.columns)
    if what == "object_attributes" and "object_id" in names:
        ids = as_array(table["object_id"], f"column 'object_id' of {what}")
        return {name: Labelled(table[name], ids) for name in names if name != "object_id"}
    return {name: table[name] for name in names}


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """Values, and the label of each."""

    values: Any
    index: Values


class ArrowFrame:
    """A table of Arrow's memory format, with what writers use of a data frame."""

    iloc = None

    def __init__(self, table: Any) -> None:
        self._table = table
        self.columns: list[str] = list(table.column_names)

    def __getitem__(self, name: str) -> Any:
        return self._table.column(self.columns.index(name))


def is_frame(value: Any) -> bool:
    """Whether it is a data frame: pandas', Dask's, or an `ArrowFrame`."""
    kind = type(value)  # not the object, of which a Dask Delayed has every attribute
    return kind is ArrowFrame or (hasattr(kind, "columns") and hasattr(kind, "iloc"))


def as_table(value: Any) -> Any:
    """An `ArrowFrame` of a table of another library: polars, pyarrow, whatever speaks Arrow or ``__dataframe__``.

    Data frames of pandas and Dask, columns and arrays are given back as they are.
    """
    kind = type(value)
    speaks = [hasattr(kind, name) for name in ("__arrow_c_stream__", "__arrow_c_array__", "__dataframe__")]
    if (
        not any(speaks)
        or is_frame(value)
        or is_column(value)
        or isinstance(value, xr.DataArray)
        or dask.is_dask_collection(value)
    ):
        return value
    pa = pyarrow()
    if not speaks[0] and not speaks[1]:
        return ArrowFrame(importlib.import_module("pyarrow.interchange").from_dataframe(value))
    if isinstance(value, pa.RecordBatch):
        return ArrowFrame(pa.Table.from_batches([value]))
    if isinstance(value, pa.Array | pa.ChunkedArray):
        return value
    try:
        return ArrowFrame(pa.table(value))
    except (TypeError, ValueError):  # of which Arrow's own errors are: a column, or a stream of columns
        return value


def pyarrow() -> Any:
    """Import pyarrow; raises ImportError that says how it is installed."""
    try:
        return importlib.import_module("pyarrow")
    except ImportError as error:
        raise ImportError(
            "tables and columns of Arrow need pyarrow: pip install 'zarr-vectors-lazy[dataframe]'"
        ) from error


def by_labels(value: Any, labels: Any, name: str, what: str) -> Any:
    """Values of a Series, a DataArray or `Labelled` in the order of ``labels``; others as they are.

    An index that is a plain range from 0 counts rows, and so is no label. Any other must be exactly the labels, in any
    order.

    Parameters
    ----------
    labels
        (n,) distinct labels; of vertices the index of their data frame, or how many there are: 0, 1, ...
    name, what
        Of the values, and what labels are of, for errors.

    Raises
    ------
    SelectionError
        If a label is missing, there twice, or none of those.
    """
    index = _index_of(value)
    if index is None:
        return value
    named = isinstance(value, Labelled)
    found = attribute_values(value.values if named else value, name)
    given = _comparable(index)
    if not named and given.dtype.kind == "i" and np.array_equal(given, np.arange(len(given))):
        return found
    wanted = _comparable(np.arange(labels) if isinstance(labels, int) else labels)
    if np.array_equal(given, wanted):
        return found
    if given.dtype.kind != wanted.dtype.kind:
        raise SelectionError(
            f"{name} is labelled by {given.dtype}, {what} are {wanted.dtype}: drop the index, or mend it"
        )
    order = np.argsort(given, kind="stable")
    for these, whose in ((given[order], "its index has"), (np.sort(wanted), f"{what} have")):
        twice = these[1:][these[1:] == these[:-1]]
        if len(twice):
            raise SelectionError(f"{name} is taken by its labels, and {whose} {listed(twice.tolist())} twice")
    at = np.searchsorted(given, wanted, sorter=order)
    there = np.zeros(len(wanted), np.bool_)
    there[at < len(given)] = given[order[at[at < len(given)]]] == wanted[at < len(given)]
    if not there.all():
        raise SelectionError(f"{name} is labelled, and lacks the {what} {listed(wanted[~there].tolist())}")
    if len(given) > len(wanted):
        more = np.setdiff1d(given, wanted)
        raise SelectionError(f"{name} is labelled with {listed(more.tolist())}, which are none of the {what}")
    rows = order[at]
    return found[rows]


def _index_of(value: Any) -> Any:
    """Labels of values; None where they have none."""
    if isinstance(value, Labelled):
        return value.index
    if isinstance(value, xr.DataArray):
        return value.indexes.get(value.dims[0]) if value.dims else None
    return value.index if is_column(value) and hasattr(type(value), "iloc") else None


def _comparable(labels: Any) -> Values:
    """Labels as an array that sorts: whole numbers as int64, text as such."""
    array = np.asarray(labels)
    if array.dtype.kind == "O" and all(isinstance(label, str) for label in array):
        return array.astype(np.str_)
    return array.astype(np.int64) if array.dtype.kind in "iu" else array
