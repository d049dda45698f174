"""Values that rows are wanted by: what ``where=`` and ``attribute_filter=`` say, checked against the dtype."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.types import BoolArray

Column: TypeAlias = np.ndarray[Any, Any]
_KINDS = {"U": "text", "M": "a time", "b": "a number"}


@dataclass(frozen=True, slots=True, eq=False)
class Between:
    """Values from lo to hi, both included, in the order of their dtype; text by code points.

    Parameters
    ----------
    lo, hi
        Ends; None leaves one open.
    fill
        The stored integer that says that a value is missing, or None.
    """

    lo: Any
    hi: Any
    fill: int | None = None
    missing = False

    def __call__(self, column: Column) -> BoolArray:
        """(n,) mask of a (n,) column; of (n, C) rows all of whose values pass."""
        mask = self.among(column)
        if self.fill is not None or (self.lo is None and self.hi is None):  # NaN lies between no others
            mask &= ~missing_in(column, self.fill)
        return np.asarray(mask.all(axis=tuple(range(1, mask.ndim))) if mask.ndim > 1 else mask, np.bool_)

    def among(self, values: Column) -> BoolArray:
        """Mask of values none of which is missing; of their shape."""
        mask = np.ones(values.shape, np.bool_)
        if self.lo is not None:
            mask &= values >= self.lo
        if self.hi is not None:
            mask &= values <= self.hi
        return mask


@dataclass(frozen=True, slots=True, eq=False)
class AnyOf:
    """Values that are among some.

    Parameters
    ----------
    values
        (n,) of the column's dtype.
    missing
        Whether what is missing passes too.
    fill
        As for `Between`.
    """

    values: Column
    missing: bool = False
    fill: int | None = None

    def __call__(self, column: Column) -> BoolArray:
        """(n,) mask of a (n,) column."""
        if column.ndim > 1:
            raise SelectionError(f"there are {column.shape[1]} values a vertex: they take a range (lo, hi)")
        if not self.missing and self.fill is None:
            return self.among(column)
        return np.where(missing_in(column, self.fill), self.missing, self.among(column))

    def among(self, values: Column) -> BoolArray:
        """Mask of values none of which is missing; of their shape."""
        return np.isin(values, self.values)


Test: TypeAlias = Between | AnyOf


def missing_in(column: Column, fill: int | None = None) -> BoolArray:
    """Mask of what is missing: NaN, NaT, empty text, or the integer that says so."""
    if column.dtype.kind == "U":
        return np.asarray(column == "", np.bool_)
    if column.dtype.kind in "fcmM":
        return np.isnan(column)
    return np.zeros(column.shape, np.bool_) if fill is None else np.asarray(column == fill, np.bool_)


def parse_test(name: str, wanted: Any, dtype: np.dtype[Any], fill: int | None = None) -> Test:
    """Test of one attribute's values.

    Parameters
    ----------
    name, dtype, fill
        The attribute, the dtype of its values, and the integer that is none.
    wanted
        A tuple of two or a slice: a range. A list, set, array or other collection: membership. None: what is missing.
        Anything else: one value.

    Raises
    ------
    SelectionError
        If a range has not two ends, or they descend; or a value is NaN or of another kind than the attribute.
    """
    if isinstance(wanted, slice):
        if wanted.step is not None:
            raise _refused(name, wanted, "a range has no step")
        wanted = (wanted.start, wanted.stop)
    if isinstance(wanted, tuple):
        if len(wanted) != 2:
            raise _refused(
                name, wanted, f"a tuple is a range (lo, hi), it has {len(wanted)} values; a list is any of them"
            )
        lo, hi = (None if end is None else _checked(name, wanted, end, dtype) for end in wanted)
        if lo is not None and hi is not None and lo > hi:
            raise _refused(name, wanted, "the range has lo > hi")
        if dtype.kind in "iu":  # compared as integers: a float would make floats of the column
            lo = math.ceil(lo) if isinstance(lo, float) and math.isfinite(lo) else lo
            hi = math.floor(hi) if isinstance(hi, float) and math.isfinite(hi) else hi
        return Between(lo, hi, fill)
    items = _items(name, wanted)
    values = [_checked(name, wanted, item, dtype) for item in items if item is not None]
    return AnyOf(_column(values, dtype), len(values) < len(items), fill)


def _items(name: str, wanted: Any) -> list[Any]:
    if isinstance(wanted, Mapping) or hasattr(type(wanted), "__dask_graph__"):
        raise _refused(name, wanted, "expected a range (lo, hi), a list of values, one value, or None")
    if isinstance(wanted, np.ndarray | np.generic):
        if wanted.ndim > 1:
            raise _refused(name, wanted, f"values must be in one dimension, found {wanted.ndim}")
        # A time of nanoseconds would be given as an integer.
        return list(np.atleast_1d(wanted)) if wanted.dtype.kind in "mM" else np.atleast_1d(wanted).tolist()
    return list(wanted) if isinstance(wanted, Iterable) and not isinstance(wanted, str | bytes) else [wanted]


def _checked(name: str, wanted: Any, value: Any, dtype: np.dtype[Any]) -> Any:
    """A value that can be compared with the attribute: text, a time, or a number, whole ones as Python's."""
    if isinstance(value, np.bool_ | np.integer):
        value = value.item()
    number = isinstance(value, bool | int | float | np.floating) or (dtype.kind == "c" and isinstance(value, complex))
    if dtype.kind in "mM" and not number:
        try:
            value = np.datetime64(value) if dtype.kind == "M" else np.timedelta64(value)
        except (TypeError, ValueError) as error:
            raise _refused(name, wanted, f"values of {dtype} cannot be compared with {value!r}") from error
    elif (dtype.kind == "U") != isinstance(value, str) or not (number or isinstance(value, str)):
        kind = _KINDS.get(dtype.kind, str(dtype))
        raise _refused(name, wanted, f"values of {kind if kind == 'text' else dtype} cannot be compared with {value!r}")
    if not isinstance(value, str) and value != value:  # noqa: PLR0124  NaN and NaT
        raise _refused(name, wanted, "it has NaN; what is missing is None")
    return value


def _column(values: list[Any], dtype: np.dtype[Any]) -> Column:
    """Values as a column of the attribute's dtype, those left out that it cannot hold."""
    if dtype.kind in "iub":
        low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        whole = [v for v in values if math.isfinite(v) and v == math.floor(v) and low <= v <= high]
        return np.array([int(v) for v in whole], dtype)
    if dtype.kind == "U":
        return np.array(values, np.str_) if values else np.empty(0, "<U1")
    if dtype.kind in "mM":
        return np.array(values) if values else np.empty(0, dtype)
    wide = np.array(values, np.complex128 if dtype.kind == "c" else np.float64)
    with np.errstate(over="ignore"):
        fitting = wide.astype(dtype)
    return np.asarray(fitting[np.isfinite(fitting) | ~np.isfinite(wide)])


def _refused(name: str, wanted: Any, why: str) -> SelectionError:
    shown = repr(wanted)
    return SelectionError(f"{{{name!r}: {shown if len(shown) < 200 else shown[:200] + '...'}}}: {why}")
