"""The arguments of the writers: options, bounds and arrays, checked before the first byte is put."""

import importlib
import importlib.util
import inspect
import json
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeVar

import dask
import numpy as np
import xarray as xr

from zarr_vectors_lazy.errors import SelectionError, ZVWarning, counted, listed, optional
from zarr_vectors_lazy.format.vectors import encode_categories, encode_integers, is_number, is_time, parse_text
from zarr_vectors_lazy.kernels.bins import Rule, check_known, check_rule
from zarr_vectors_lazy.kernels.routing import extent
from zarr_vectors_lazy.model.arrays import is_coded
from zarr_vectors_lazy.model.world import meant_unit
from zarr_vectors_lazy.model.writing import Encoding
from zarr_vectors_lazy.read.rows import missing_value
from zarr_vectors_lazy.types import Floats, IntArray, Vertices
from zarr_vectors_lazy.write.job import Column, Values
from zarr_vectors_lazy.write.links import joins_objects, several_parents

T = TypeVar("T")

# Bounds of a new store: as given, or the corners of the positions.

MAX_INDEX = 2**62


def parse_bounds(
    bounds: Any, positions: Vertices, dtype: np.dtype[Any], chunk_shape: Floats, *, name: str, threads: int
) -> tuple[Floats, Floats]:
    """(lo, hi) of the store: as given, or those of the positions.

    Raises
    ------
    SelectionError
        If a position is NaN or infinite, or lies outside, or if the grid of chunks is absurd.
    """
    lo, hi, bad = extent(positions, dtype, threads)
    if bad >= 0:
        raise SelectionError(
            f"{name} must be finite as {dtype.name}; row {bad} is {np.asarray(positions[bad]).tolist()}"
        )
    exact = extent(positions, positions.dtype)[:2] if bounds is not None and len(positions) else (lo, hi)
    return bounds_of_store(bounds, (lo, hi), exact, chunk_shape, name=name)


def bounds_of_store(
    bounds: Any, stored: tuple[Floats, Floats], exact: tuple[Floats, Floats], chunk_shape: Floats, *, name: str
) -> tuple[Floats, Floats]:
    """(lo, hi) of the store: as given, or the corners of the positions.

    Parameters
    ----------
    stored, exact
        Corners of the positions as stored and as given, inf and -inf if there are none; storing them may round them
        outward.

    Raises
    ------
    SelectionError
        As for `parse_bounds`, except for NaN and infinite positions.
    """
    lo, hi = stored
    if bounds is not None:
        lo, hi = _given_bounds(bounds, lo, hi, exact)
    elif (lo > hi).any():
        raise SelectionError(f"there are no {name}: give bounds=(lo, hi)")
    edges = np.abs(np.stack([lo, hi]) / chunk_shape)
    if not (edges < MAX_INDEX).all() or np.prod((hi - lo) / chunk_shape + 2) > MAX_INDEX:
        raise SelectionError(
            f"chunk_shape {chunk_shape.tolist()} is absurdly small for positions from {lo.tolist()} to {hi.tolist()}"
        )
    return lo, hi


def _given_bounds(bounds: Any, lo: Floats, hi: Floats, exact: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
    ndim = len(lo)
    try:
        given = np.asarray(bounds, np.float64)
    except (TypeError, ValueError) as error:
        raise SelectionError(f"bounds must be (lo, hi), {counted(ndim, 'number')} each; found {bounds!r}") from error
    if given.shape != (2, ndim) or not np.isfinite(given).all() or (given[0] > given[1]).any():
        raise SelectionError(f"bounds must be (lo, hi), {ndim} finite numbers each, lo <= hi; found {bounds!r}")
    outside = (exact[0] < given[0]) | (exact[1] > given[1])
    if outside.any():
        axis = int(np.argmax(outside))
        raise SelectionError(
            f"bounds leave data out: on axis {axis} the data go from {exact[0][axis]:g} to {exact[1][axis]:g}, "
            f"but the bounds from {given[0][axis]:g} to {given[1][axis]:g}"
        )
    return np.minimum(given[0], lo), np.maximum(given[1], hi)


# Arrays given to writers.


def as_array(value: Any, name: str) -> Values:
    """An array of what was given, without missing values except NaN; a memory-mapped one stays memory-mapped.

    Raises
    ------
    SelectionError
        If it is a Dask collection, if rows differ in length, or if values are masked, or missing in a dtype without
        NaN.
    """
    if type(value) is np.ndarray:  # the usual case, a million times for paths
        return value
    array = _given(value, name)
    if isinstance(array, np.ma.MaskedArray):
        if np.ma.is_masked(array):
            raise SelectionError(f"{name} has masked values, or missing ones, which are not allowed here")
        return np.asarray(array.data)
    return array


def attribute_values(value: Any, name: str) -> Values:
    """An array of values, some of which may be missing; a memory-mapped one stays memory-mapped.

    Returns
    -------
    For integers and booleans a masked array, if some are missing or the given type allows it. For
    other numbers and times NaN and NaT, and for text None, where a value is missing.

    Raises
    ------
    SelectionError
        If it is a Dask collection, or if rows differ in length.
    """
    array = value if type(value) is np.ndarray else _given(value, name)
    if array.dtype == object and array.ndim == 1:
        array = _whole(array)
    if not isinstance(array, np.ma.MaskedArray) or array.dtype.kind in "iub":
        return array
    if array.dtype.kind in "fcmM":
        return np.asarray(array.filled(missing_value(array.dtype)))
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
        # in a list, NumPy would turn numbers into text
        if array.dtype.kind == "U" and not hasattr(value, "dtype"):
            array = np.asarray(value, object)
    except ValueError as error:
        ragged = "its rows differ in length" if "inhomogeneous" in str(error) else str(error)
        raise SelectionError(f"{name} must be one array: {ragged}") from error
    return array


def _whole(items: Values) -> Values:
    """Integers or booleans stored as objects because some are None, as a masked array; others unchanged."""
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
    kind = type(value)  # check the class: a Dask Delayed has every attribute
    return hasattr(kind, "isna") and hasattr(kind, "to_numpy") and not hasattr(kind, "columns")


def is_arrow(value: Any) -> bool:
    """Whether it is a column of Arrow's memory format: of pyarrow, polars and others."""
    kind = type(value)
    speaks = any(hasattr(kind, name) for name in ("__arrow_c_array__", "__arrow_c_stream__"))
    return speaks and not issubclass(kind, xr.DataArray) and not hasattr(kind, "columns")  # tables


def column_values(column: Any, name: str) -> Values:
    """Values of a pandas column, as for `attribute_values`; integers and booleans are masked if the dtype is nullable.

    Raises
    ------
    SelectionError
        If it has times with a zone, which cannot be stored.
    """
    dtype = column.dtype
    if isinstance(dtype, np.dtype) and dtype.kind != "O":
        return np.asarray(column)
    if getattr(dtype, "tz", None) is not None:
        raise SelectionError(
            f"{name} has times in the zone {dtype.tz}, which cannot be stored: use .dt.tz_convert(None)"
        )
    if hasattr(dtype, "pyarrow_dtype"):
        return arrow_values(pyarrow().array(getattr(column, "array", column)), name)
    missing = np.asarray(column.isna(), np.bool_)
    categories: Any = getattr(dtype, "categories", None)
    of: Any = None if categories is None else getattr(categories.dtype, "numpy_dtype", categories.dtype)
    if isinstance(of, np.dtype) and of.kind in "biufcmM":
        codes = np.asarray(getattr(column, "cat", column).codes, np.int64)
        known = categories.to_numpy(of) if len(categories) else np.zeros(1, of)
        return _masked(known[np.where(missing, 0, codes)], missing)
    plain: Any = getattr(dtype, "numpy_dtype", dtype)
    if isinstance(plain, np.dtype) and plain.kind in "iub":
        return np.ma.MaskedArray(column.to_numpy(plain, na_value=plain.type(0)), missing)
    if isinstance(plain, np.dtype) and plain.kind != "O":
        gone = {"na_value": missing_value(plain)} if missing.any() else {}
        return np.asarray(column.to_numpy(plain, **gone))
    values = np.array(column.astype(object), object)
    values[missing] = None
    return values


def arrow_values(value: Any, name: str) -> Values:
    """Values of an Arrow column, as for `column_values`; (N, C) for lists of one length.

    Raises
    ------
    SelectionError
        If it has times with a zone, lists of several lengths, or missing lists.
    """
    pa = pyarrow()
    whole = pa.array(value) if hasattr(type(value), "__arrow_c_array__") else pa.chunked_array(value)
    column = whole.combine_chunks() if isinstance(whole, pa.ChunkedArray) else whole
    kind, types = column.type, pa.types
    if types.is_dictionary(kind) and types.is_string_view(kind.value_type):  # which Arrow cannot decode itself
        return np.array(column.to_pylist(), object)
    if types.is_dictionary(kind):
        return arrow_values(column.dictionary_decode(), name)
    if types.is_timestamp(kind) and kind.tz is not None:
        raise SelectionError(f"{name} has times in the zone {kind.tz}, which cannot be stored: cast them first")
    if types.is_fixed_size_list(kind):
        if column.null_count:
            raise SelectionError(f"{name} has lists, and some are missing: fill them first")
        return arrow_values(column.flatten(), name).reshape(len(column), kind.list_size)
    if types.is_integer(kind) or types.is_boolean(kind):
        filled = column.fill_null(pa.scalar(0).cast(kind)) if column.null_count else column
        return np.ma.MaskedArray(filled.to_numpy(zero_copy_only=False), np.asarray(column.is_null()))
    text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    if text or types.is_floating(kind) or types.is_temporal(kind) or types.is_null(kind):
        return np.asarray(column.to_numpy(zero_copy_only=False), object if text else None)
    raise SelectionError(
        f"{name} has values of the Arrow type {kind}; only numbers, bool, text and times can be stored"
    )


def _masked(values: Values, missing: Values) -> Values:
    """Values with missing ones masked, or for floats NaN, for times NaT."""
    if values.dtype.kind in "iub":
        return np.ma.MaskedArray(values, missing)
    values[missing] = missing_value(values.dtype)
    return values


def by_name(values: Any, what: str) -> Mapping[str, Any]:
    """Arrays by name, from a mapping, a dataset, or the columns of a table; empty if nothing was given.

    In a table about objects, a column ``object_id`` says to which object each row belongs.

    Raises
    ------
    SelectionError
        If it is anything else.
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
    """Values with a label each."""

    values: Any
    index: Values


class ArrowFrame:
    """A table in Arrow's memory format, with the interface of a data frame that writers use."""

    iloc = None

    def __init__(self, table: Any) -> None:
        self._table = table
        self.columns: list[str] = list(table.column_names)

    def __getitem__(self, name: str) -> Any:
        return self._table.column(self.columns.index(name))


def is_frame(value: Any) -> bool:
    """Whether it is a data frame, from pandas or Dask, or an `ArrowFrame`."""
    kind = type(value)  # check the class: a Dask Delayed has every attribute
    return kind is ArrowFrame or (hasattr(kind, "columns") and hasattr(kind, "iloc"))


def as_table(value: Any) -> Any:
    """An `ArrowFrame` from a table of polars, pyarrow, or anything with Arrow's or ``__dataframe__``'s interface.

    Data frames of pandas and Dask, columns and arrays are returned unchanged.
    """
    is_lazy_frame = type(value).__module__.startswith("polars.") and hasattr(type(value), "collect")
    value = value.collect() if is_lazy_frame else value
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
    except (TypeError, ValueError):  # the base of Arrow's own errors: a column, or a stream of columns
        return value


def pyarrow() -> Any:
    """Import pyarrow; raises ImportError that says how to install it."""
    return optional("pyarrow", "tables and columns of Arrow need pyarrow", "dataframe")


def by_labels(value: Any, labels: Any, name: str, what: str) -> Any:
    """Values of a Series, a DataArray or `Labelled` in the order of ``labels``; others unchanged.

    An index that is a plain range from 0 counts rows, and is not a label. Any other must be exactly the labels, in any
    order.

    Parameters
    ----------
    labels
        (n,) distinct labels; for vertices the index of their data frame, or their number, for 0, 1, ...; None for as
        many as values.
    name, what
        Name of the values, and what the labels are, for errors.

    Raises
    ------
    SelectionError
        If a label is missing, occurs twice, or is not one of those.
    """
    index = _index_of(value)
    if index is None:
        return value
    named = isinstance(value, Labelled)
    found = attribute_values(value.values if named else value, name)
    given = _comparable(index)
    if not named and given.dtype.kind == "i" and np.array_equal(given, np.arange(len(given))):
        return found
    rows = len(given) if labels is None else labels
    wanted = _comparable(np.arange(rows) if isinstance(rows, int) else rows)
    if np.array_equal(given, wanted):
        return found
    if given.dtype.kind != wanted.dtype.kind:
        raise SelectionError(
            f"{name} is labelled by {given.dtype}, but {what} are {wanted.dtype}: drop or correct the index"
        )
    order = np.argsort(given, kind="stable")
    for these, whose in ((given[order], "its index has"), (np.sort(wanted), f"{what} have")):
        twice = these[1:][these[1:] == these[:-1]]
        if len(twice):
            raise SelectionError(
                f"{name} is matched by its labels, but {whose} {listed(np.unique(twice).tolist())} more than once"
            )
    at = np.searchsorted(given, wanted, sorter=order)
    there = np.zeros(len(wanted), np.bool_)
    there[at < len(given)] = given[order[at[at < len(given)]]] == wanted[at < len(given)]
    if not there.all():
        raise SelectionError(f"{name} is labelled, but lacks the {what} {listed(wanted[~there].tolist())}")
    if len(given) > len(wanted):
        more = np.setdiff1d(given, wanted)
        raise SelectionError(f"{name} is labelled with {listed(more.tolist())}, which are not among the {what}")
    rows = order[at]
    return found[rows]


def _index_of(value: Any) -> Any:
    """Labels of values; None if they have none."""
    if isinstance(value, Labelled):
        return value.index
    if isinstance(value, xr.DataArray):
        return value.indexes.get(value.dims[0]) if value.dims else None
    return value.index if is_column(value) and hasattr(type(value), "iloc") else None


def _comparable(labels: Any) -> Values:
    """Labels as an array that can be sorted: integers as int64, text as text."""
    array = np.asarray(labels)
    if array.dtype.kind == "O" and all(isinstance(label, str) for label in array):
        return array.astype(np.str_)
    return array.astype(np.int64) if array.dtype.kind in "iu" else array


# Arguments of the writers, checked before the first byte is put.

Profile: TypeAlias = Literal["viewer"] | None
AXES = ("x", "y", "z", "w")
MAX_BINS = 2**23  # most bins of a chunk: an index of 128 MiB
MAX_NAME = 200
MAX_SHARD_CHUNKS = 2**22  # an index of 64 MiB
_CONTROL = re.compile(r"[\x00-\x1f/\\]")
TOLERANCE = 1e-9


def parse_positions(value: Any, dtype: Any, name: str = "positions") -> tuple[Vertices, np.dtype[Any]]:
    """(N, D) positions, and the dtype in which they are stored.

    Raises
    ------
    SelectionError
        If they are not numbers in 2 to 4 axes, or if the dtype is neither float32 nor float64.
    """
    table = as_table(value)
    if is_frame(table):
        columns, _ = axes_among(list(table.columns))
        others = [column for column in table.columns if column not in columns]
        if others:
            raise SelectionError(
                f"{name} has columns {listed(others)} in addition to {listed(columns)}, which are not positions"
            )
        table = side_by_side(table, columns)
    array = as_array(table, name)
    check_positions(array, name)
    _check_exact(array, name)
    if dtype is not None:
        stored = _dtype(dtype)
    elif array.dtype.kind == "f":
        stored = np.dtype("f8") if array.dtype.itemsize > 4 else np.dtype("f4")
    else:
        stored = np.dtype(np.float64)
    return array, stored


def axes_among(columns: Sequence[Any]) -> tuple[tuple[Any, ...], tuple[str, ...]]:
    """Columns that are axes, in the order x, y, z, w, and their names; raises SelectionError if there is one."""
    spelled = {axis: next((name for name in (axis, axis.upper()) if name in columns), None) for axis in AXES}
    found = {axis: name for axis, name in spelled.items() if name is not None}
    if len(found) < 2:
        raise SelectionError(f"no axes among the columns {listed(columns)}: name the columns of positions with axes=")
    return tuple(found.values()), tuple(found)


def side_by_side(frame: Any, columns: Sequence[str]) -> Values:
    """(N, D) positions from the columns of a table.

    Raises
    ------
    SelectionError
        If values are missing, or integers lie beyond 2**53.
    """
    arrays = [as_array(frame[column], f"column {column!r}") for column in columns]
    for column, array in zip(columns, arrays, strict=True):
        _check_exact(array, f"column {column!r}")
    return np.stack(arrays, axis=1)


def _check_exact(array: Values, name: str) -> None:
    if array.dtype.kind in "iu" and (outside := (array > 2**53) | (array < -(2**53))).any():
        example = array[outside][0]
        raise SelectionError(
            f"{name} has whole numbers beyond 2**53 ({example}), which float64 cannot hold exactly: subtract an origin"
        )


def check_positions(array: Any, name: str) -> None:
    """Raise SelectionError if an array, in memory or from Dask, is not (N, D) numbers."""
    if array.ndim != 2 or not 2 <= array.shape[1] <= len(AXES) or array.dtype.kind not in "fiu":
        turned = array.ndim == 2 and 2 <= array.shape[0] <= len(AXES)
        found = f"found shape {array.shape}, {array.dtype}" if array.ndim else f"found {array.dtype.name}, not an array"
        hint = "; did you swap axes and rows?" if turned else ""
        raise SelectionError(f"{name} must be (N, D) numbers, D from 2 to 4; {found}{hint}")


def _dtype(value: Any) -> np.dtype[Any]:
    try:
        dtype = np.dtype(value)
    except TypeError as error:
        raise SelectionError(f"dtype must be 'float32' or 'float64', found {value!r}") from error
    if dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise SelectionError(f"dtype must be 'float32' or 'float64', found {value!r}")
    named: np.dtype[Any] = dtype.newbyteorder("=")
    return named


def parse_shape(value: Any, ndim: int, name: str) -> Floats:
    """(D,) positive edge lengths; a single number is used for all axes.

    Raises
    ------
    SelectionError
        If it is anything else.
    """
    wanted = f"{name} must be {ndim} positive numbers, found {value!r} (one number is for all axes)"
    try:
        given = np.asarray(value)
        shape = np.broadcast_to(given.astype(np.float64), (ndim,)).copy()
    except (TypeError, ValueError) as error:
        raise SelectionError(wanted) from error
    if given.dtype.kind not in "iuf" or not (np.isfinite(shape) & (shape > 0)).all():
        raise SelectionError(wanted)
    return shape


def parse_bins(bin_shape: Any, chunk_shape: Floats) -> Floats:
    """(D,) edge lengths of bins; by default those of the chunk.

    Raises
    ------
    SelectionError
        If a chunk is not a whole number of bins.
    """
    if bin_shape is None:
        return chunk_shape
    bins = parse_shape(bin_shape, len(chunk_shape), "bin_shape")
    ratio = chunk_shape / bins
    if (np.rint(ratio) < 1).any() or (np.abs(ratio - np.rint(ratio)) > TOLERANCE * ratio).any():
        times = f"{chunk_shape.tolist()} is {ratio.round(3).tolist()} times {bins.tolist()}"
        raise SelectionError(f"bin_shape must divide chunk_shape: {times}")
    return bins


def check_bin_count(bins: Floats, chunk_shape: Floats) -> None:
    """Raise SelectionError if a chunk of points has absurdly many bins, each of which is a fragment."""
    total = float(np.prod(np.rint(chunk_shape / bins)))
    if total > MAX_BINS:
        raise SelectionError(
            f"bin_shape {bins.tolist()} makes {total:.0f} bins in each chunk, at 16 bytes each in its index; at most "
            f"{MAX_BINS} are possible: choose larger bins or smaller chunks"
        )


def parse_axes(axes: Any, units: Any, ndim: int) -> tuple[tuple[str, ...], tuple[str | None, ...]]:
    """Names and units of the axes; by default x, y, z, w without units. Warns about misspelt units of length.

    Raises
    ------
    SelectionError
        If there is not one for each axis, or if a name occurs twice.
    """
    names = AXES[:ndim] if axes is None else _several(axes)
    if len(names) != ndim or len(set(names)) != ndim or not all(isinstance(name, str) and name for name in names):
        raise SelectionError(f"axes must be {ndim} different names; found {axes!r}")
    of_axes = (units,) * ndim if units is None or isinstance(units, str) else _several(units)
    if len(of_axes) != ndim or not all(unit is None or (isinstance(unit, str) and unit) for unit in of_axes):
        raise SelectionError(f"units must be one name, or {ndim} names or None; found {units!r}")
    for unit in dict.fromkeys(of_axes):
        if unit is not None and (near := meant_unit(unit)):
            text = f"{unit!r} is not a known unit of length; did you mean {' or '.join(map(repr, near))}?"
            warnings.warn(text, ZVWarning, stacklevel=_level_of_user())
    return names, of_axes


def _level_of_user() -> int:
    """Stack level, for the calling function, of the first frame outside this package."""
    frame, level = inspect.currentframe(), -1
    while frame is not None and frame.f_globals.get("__name__", "").startswith("zarr_vectors_lazy."):
        frame, level = frame.f_back, level + 1
    return level + 1


def _several(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, Iterable) else ()


def check_json(value: Any, name: str) -> None:
    """Raise SelectionError if ``value`` cannot be stored as JSON."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise SelectionError(f"{name} must be something that can be stored as JSON: {error}") from error


def parse_encoding(compressor: Any, checksum: Any, shard_shape: Any, ndim: int, profile: Any = None) -> Encoding:
    """How cells are stored; ``profile="viewer"`` means raw, one object for each.

    Raises
    ------
    SelectionError
        If the compressor or the profile is unknown, if the shard shape is not in whole chunks, or if the profile is
        combined with what it excludes.
    """
    if profile not in ("viewer", None):
        raise SelectionError(f"profile must be 'viewer' or None, found {profile!r}")
    if compressor not in ("zstd", "blosc", None):
        raise SelectionError(f"compressor must be 'zstd', 'blosc' or None, found {compressor!r}")
    if shard_shape is not None:
        shape = np.asarray(shard_shape)
        if shape.dtype.kind not in "iu" or shape.shape not in ((), (ndim,)) or (shape < 1).any():
            raise SelectionError(f"shard_shape must be {ndim} whole numbers of chunks, found {shard_shape!r}")
        shard_shape = tuple(np.broadcast_to(shape, (ndim,)).tolist())
        if np.prod(np.asarray(shard_shape, np.float64)) > MAX_SHARD_CHUNKS:
            raise SelectionError(f"shard_shape {shard_shape} makes shards of an absurd number of chunks")
    if not isinstance(checksum, bool | np.bool_):
        raise SelectionError(f"checksum must be True or False, found {checksum!r}")
    if profile is None:
        return Encoding(compressor=compressor, checksum=bool(checksum), shard_shape=shard_shape)
    if compressor == "blosc" or shard_shape is not None:
        raise SelectionError(
            "profile='viewer' writes raw cells, each as an object: it cannot be combined with compressor or shard_shape"
        )
    return Encoding(compressor=None, checksum=False)


def parse_columns(values: Mapping[str, Any] | None, rows: int, labels: Any = None) -> dict[str, Column]:
    """Vertex attributes as they are stored, rows checked, in the order of ``labels``; text becomes codes.

    Raises
    ------
    SelectionError
        If a name is not a path segment, or an array has the wrong number of rows, or a dtype that cannot be stored.
    """
    return _parsed(values, rows, "vertex_attributes", labels, _column)


def _parsed(
    values: Mapping[str, Any] | None, rows: int, what: str, labels: Any, stored: Callable[[Values], T]
) -> dict[str, T]:
    found = {}
    for name, value in by_name(values, what).items():
        array = _array(name, value, rows, what, labels)
        try:
            found[name] = stored(array)
        except SelectionError as error:
            raise SelectionError(f"{what}[{name!r}]: {error.message}") from error
    return found


def _column(array: Values) -> Column:
    masked = isinstance(array, np.ma.MaskedArray)
    if masked and array.dtype.kind in "iu":
        return Column(*encode_integers(np.ma.asarray(array)))
    if not masked and (is_number(array.dtype) or is_time(array.dtype)):
        return Column(array)
    if array.ndim > 1:
        raise SelectionError(
            f"it has shape {array.shape}; text, and booleans with missing values, must have one value per row"
        )
    return Column(*encode_categories(array))


def parse_dense(values: Mapping[str, Any] | None, rows: int, what: str, labels: Any) -> dict[str, Values]:
    """Attributes of objects or groups, in the order of ``labels``; text stays text.

    Raises
    ------
    SelectionError
        As for `parse_columns`.
    """
    return _parsed(values, rows, what, labels, _dense)


def _dense(array: Values) -> Values:
    """Numbers, with missing ones masked and the fill value that absent rows have; or text as ``<U..``."""
    if isinstance(array, np.ma.MaskedArray):
        if array.dtype.kind == "b" and np.ma.is_masked(array):
            raise SelectionError("some of its booleans are missing, which can only be stored for vertices")
        missing = np.ma.getmaskarray(array)
        stored = np.asarray(array.data) if array.dtype.kind == "b" else encode_integers(array)[0]
        return np.ma.MaskedArray(stored, missing) if missing.any() else stored
    if is_number(array.dtype):
        return array
    if is_time(array.dtype):
        raise SelectionError(f"it has values of {array.dtype}, which can only be stored for vertices: give numbers")
    text, missing = parse_text(array)
    if missing.any():
        raise SelectionError(
            "some of its text is missing, which the format cannot distinguish from empty text: use '' or another word"
        )
    return text if text.dtype.itemsize else text.astype("<U1")


def _array(name: Any, value: Any, rows: int, what: str, labels: Any = None) -> Values:
    check_name(name, what)
    label = f"{what}[{name!r}]"
    kind = "groups" if what.startswith("group") else "object ids" if what.startswith("object") else "row labels"
    array = attribute_values(by_labels(value, rows if labels is None else labels, label, kind), label)
    if not is_number(array.dtype) and not is_time(array.dtype) and array.dtype.kind not in "UTO":
        raise SelectionError(
            f"{what}[{name!r}] has dtype {array.dtype}; only numbers, bool, text and times can be stored"
        )
    if array.ndim not in (1, 2) or len(array) != rows or 0 in array.shape[1:]:
        raise SelectionError(f"{what}[{name!r}] must be ({rows},) or ({rows}, C), found shape {array.shape}")
    return array


def check_name(name: Any, what: str) -> None:
    """Raise SelectionError if ``name`` cannot be a segment of a path in a store."""
    if (
        not isinstance(name, str)
        or not name
        or name.startswith((".", "__"))
        or name == "zarr.json"
        or name != name.strip()
        or _CONTROL.search(name)
        or len(name.encode("utf-8", "replace")) > MAX_NAME
    ):
        raise SelectionError(
            f"{what}: a name must be a segment of a path, of at most {MAX_NAME} bytes, without '/', '\\', control "
            f"characters, spaces around it, leading '.' and '__', and not 'zarr.json'; found {name!r}"
        )


def storable_names(names: Iterable[str]) -> dict[str, str]:
    """Names that `check_name` accepts, by the original ones, unchanged if possible; ``_`` replaces what is not allowed.

    Examples
    --------
    >>> storable_names(["fa", "a/b", "a_b", ".x"])
    {'fa': 'fa', 'a/b': 'a_b_', 'a_b': 'a_b', '.x': '_x'}
    """
    given = dict.fromkeys(names)
    found, used = {}, set(given)
    for name in given:
        text = _CONTROL.sub("_", name).strip()
        text = re.sub(r"^(\.|_(?=_))+", "_" if text.startswith(".") else "", text) or "unnamed"
        text = text.encode("utf-8", "replace")[:MAX_NAME].decode("utf-8", "ignore")
        text = text.replace(".", "_") if text == "zarr.json" else text
        while text != name and text in used:
            text += "_"
        found[name] = text
        used.add(text)
    return found


def parse_ids(value: Any, rows: int, name: str = "object_ids", labels: Any = None) -> IntArray:
    """(rows,) int64 object ids; ``labels`` are those of the rows, None for their numbers.

    Raises
    ------
    SelectionError
        If they are not whole numbers, or not one for each row.
    """
    array = as_array(by_labels(value, rows if labels is None else labels, name, "row labels"), name)
    if not array.size and not hasattr(value, "dtype"):  # NumPy turns an empty list into floats
        array = array.astype(np.int64)
    if array.shape != (rows,) or array.dtype.kind not in "iu":
        raise SelectionError(f"{name} must be ({rows},) whole numbers, found shape {array.shape} of {array.dtype}")
    if array.dtype.kind == "u" and len(array) and int(array.max()) > np.iinfo(np.int64).max:
        raise SelectionError(f"{name} must be below 2**63, found {int(array.max())}")
    return array.astype(np.int64)


def parse_links(value: Any, widths: Sequence[int], rows: int | None, name: str) -> IntArray:
    """(M, L) int64 rows; ``rows`` is None if their number is not known yet.

    Raises
    ------
    SelectionError
        If it is not a table with that many columns, or names a row that does not exist.
    """
    array = as_array(value, name)
    if array.size == 0 and array.ndim != 2:
        array = np.empty((0, widths[0]), np.int64)
    if array.ndim != 2 or array.shape[1] not in widths or (array.dtype.kind not in "iu" and array.size):
        shape = (
            f"(M, L) whole numbers, L {widths[0]} to {widths[-1]}"
            if len(widths) > 1
            else f"(M, {widths[0]}) whole numbers"
        )
        raise SelectionError(f"{name} must be {shape}; found shape {array.shape} of {array.dtype}")
    lowest, highest = (int(array.min()), int(array.max())) if array.size else (0, -1)
    if lowest < 0 or highest >= (np.iinfo(np.int64).max if rows is None else rows):
        there = "rows are" if rows is None else f"there are {rows},"
        raise SelectionError(f"{name} name row {lowest if lowest < 0 else highest}; {there} counted from 0")
    return array.astype(np.int64)


def parse_groups(
    groups: Mapping[Any, Any] | None, ids: IntArray
) -> tuple[tuple[IntArray, ...], tuple[str, ...] | None]:
    """Members by group number, and names if groups are given by name.

    Raises
    ------
    SelectionError
        If numbers are not 0, 1, 2, ..., if names and numbers are mixed, or if a member is not an object.
    """
    if groups is not None and not isinstance(groups, Mapping):
        raise SelectionError(f"groups must be object ids by group name or number, found {type(groups).__name__}")
    if not groups:
        return (), None
    named = all(isinstance(key, str) for key in groups)
    if not named and sorted(groups, key=str) != sorted(range(len(groups)), key=str):
        raise SelectionError(f"groups must be given by name, or by number starting at 0; found {listed(groups)}")
    keys = list(groups) if named else list(range(len(groups)))
    members = []
    for key in keys:
        found = _members(groups[key], f"groups[{key!r}]")
        unknown = found[~np.isin(found, ids)]
        if len(unknown):
            raise SelectionError(f"groups[{key!r}] has objects that do not exist: {listed(unknown.tolist())}")
        members.append(found)
    return tuple(members), tuple(map(str, keys)) if named else None


def _members(value: Any, name: str) -> IntArray:
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise SelectionError(f"{name} must be object ids, found {value!r}")
    wanted = list(value)
    return parse_ids(wanted or np.empty(0, np.int64), len(wanted), name)


def parse_path_ids(value: Any, paths: int) -> IntArray:
    """(paths,) int64 ids; by default 0, 1, ..."""
    return np.arange(paths, dtype=np.int64) if value is None else parse_ids(value, paths)


def parse_numbers(values: Mapping[str, Any] | None, rows: int) -> dict[str, Values]:
    """Link attributes by name, with rows checked; integers are masked if they may be missing.

    Raises
    ------
    SelectionError
        As `parse_columns`; or if one has text, times, or truth values of which some are missing.
    """
    what = "link_attributes"
    found = {name: _array(name, value, rows, what) for name, value in by_name(values, what).items()}
    for name, array in found.items():
        if not is_number(array.dtype):
            raise SelectionError(f"{what}[{name!r}] has dtype {array.dtype}; links can only have numbers and bool")
        if isinstance(array, np.ma.MaskedArray) and array.dtype.kind == "b":
            if np.ma.is_masked(array):
                raise SelectionError(f"{what}[{name!r}] has booleans, some of which are missing: give numbers")
            found[name] = np.asarray(array.data)
    return found


def fill_numbers(values: Mapping[str, Values]) -> tuple[dict[str, Values], dict[str, int]]:
    """The result of `parse_numbers` as it is stored, and the integers that stand for missing values.

    Raises
    ------
    SelectionError
        If that integer also occurs as a value.
    """
    found, fills = dict(values), {}
    for name, array in values.items():
        if isinstance(array, np.ma.MaskedArray):
            try:
                found[name], coding = encode_integers(array)
            except SelectionError as error:
                raise SelectionError(f"link_attributes[{name!r}]: {error.message}") from error
            if coding is not None and coding.fill is not None:
                fills[name] = coding.fill
    return found, fills


def parse_headers(headers: Any) -> dict[str, Any]:
    """Headers by name; raises SelectionError if one is not a mapping that JSON can hold, or has an impossible name."""
    found = dict(by_name(headers, "headers"))
    for name, of in found.items():
        check_name(name, "headers")
        if not isinstance(of, Mapping):
            raise SelectionError(f"headers[{name!r}] must be a mapping, found {type(of).__name__}")
        check_json(of, f"headers[{name!r}]")
    return found


def rules_by_name(rules: Any) -> dict[str, Any]:
    """Rules of ``aggregate=``; raises SelectionError if it is not a mapping."""
    if not isinstance(rules, Mapping | None):
        raise SelectionError(f"aggregate must be rules by attribute, such as {{'intensity': 'mean'}}, found {rules!r}")
    for name, rule in (rules or {}).items():
        if rule is not None:
            check_known(rule, f"aggregate[{name!r}]")
    return dict(rules or {})


def parse_rules(rules: Any, columns: Mapping[str, Column]) -> dict[str, Rule | None]:
    """How values are combined on coarser levels, by attribute.

    Raises
    ------
    SelectionError
        If an attribute does not exist, or a rule does not suit its values.
    """
    found = rules_by_name(rules)
    for name, rule in found.items():
        if name not in columns:
            raise SelectionError(f"aggregate has {name!r}, which is not a vertex attribute; there is {listed(columns)}")
        if rule is not None:
            dtype, dictionary = columns[name].values.dtype, columns[name].dictionary
            fill = dictionary is not None
            check_rule(rule, dtype, f"aggregate[{name!r}]", coded=is_coded(dictionary), fill=fill)
    return found


def refuse_links(link_attributes: Mapping[str, Any] | None, what: str) -> None:
    """Raise SelectionError if there are link attributes for a geometry that has no links."""
    if link_attributes:
        raise SelectionError(f"{what} have no links, so they cannot have link_attributes {listed(link_attributes)}")


def refuse_tables(*tables: Mapping[Any, Any] | None) -> None:
    """Raise SelectionError if there is anything about objects but there are no objects."""
    if any(table is not None and len(table) for table in tables):
        raise SelectionError("object_attributes, groups and group_attributes need object_ids")


def check_trees(edges: IntArray, owners: IntArray) -> None:
    """Raise SelectionError if a child has two parents, or one in another object; ``owners`` (N,) is for all rows."""
    children, counts = np.unique(edges[:, 0], return_counts=True)
    if (counts > 1).any():
        raise SelectionError(several_parents(int(children[counts > 1][0]), int(counts.max())))
    apart = owners[edges[:, 0]] != owners[edges[:, 1]]
    if apart.any():
        raise SelectionError(joins_objects(*edges[apart][0].tolist()))
