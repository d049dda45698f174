"""What a user selected: boxes, objects and conditions that rows must all meet."""

import math
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from itertools import count
from typing import Any, TypeAlias

import numpy as np

from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.model.levels import ChunkTable
from zarr_vectors_lazy.plan.boxes import Region
from zarr_vectors_lazy.plan.nearest import Near
from zarr_vectors_lazy.types import BBox, BoolArray, ChunkCoords, IntArray

# Values that rows are wanted by: what ``where=`` and ``attribute_filter=`` say, checked against the dtype.

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
    if hasattr(wanted, "to_pylist"):  # Arrow's, whose values are no Python numbers
        return list(wanted.to_pylist())
    return list(wanted) if isinstance(wanted, Iterable) and not isinstance(wanted, str | bytes) else [wanted]


def _checked(name: str, wanted: Any, value: Any, dtype: np.dtype[Any]) -> Any:
    """A value that can be compared with the attribute: text, a time, or a number, whole ones as Python's."""
    if isinstance(value, np.bool_ | np.integer):
        value = value.item()
    number = isinstance(value, bool | int | float | np.floating) or (dtype.kind == "c" and isinstance(value, complex))
    if dtype.kind in "mM":
        try:
            value = _time(value, dtype)
        except (TypeError, ValueError) as error:
            raise _refused(name, wanted, f"values of {dtype} cannot be compared with {value!r}") from error
    elif (dtype.kind == "U") != isinstance(value, str) or not (number or isinstance(value, str)):
        kind = _KINDS.get(dtype.kind, str(dtype))
        raise _refused(name, wanted, f"values of {kind if kind == 'text' else dtype} cannot be compared with {value!r}")
    if not isinstance(value, str) and value != value:  # noqa: PLR0124  NaN and NaT
        raise _refused(name, wanted, "it has NaN; what is missing is None")
    return value


def _time(value: Any, dtype: np.dtype[Any]) -> Any:
    """A time as NumPy has it; raises TypeError or ValueError if it is none, or has a zone, as stored ones have not."""
    if np.asarray(value).dtype.kind in "biufc":
        raise TypeError(value)
    if getattr(value, "tzinfo", None) is not None:
        raise ValueError(value)
    known = getattr(value, "to_datetime64" if dtype.kind == "M" else "to_timedelta64", None)  # pandas', of nanoseconds
    return known() if known is not None else np.datetime64(value) if dtype.kind == "M" else np.timedelta64(value)


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


# Names of columns that attributes become: one rule for data frames, xarray and files.

OBJECT_ID = "object_id"


def column_names(
    widths: Mapping[str, int | None], taken: Collection[str], known: Container[str] = (), suffix: str = "attribute"
) -> dict[str, tuple[str, ...]]:
    """Names of the columns of each attribute, no two alike.

    An attribute of one value a row keeps its own name, unless that is taken: then it has ``_attribute`` (the suffix)
    behind it. A vector's columns are ``name_0``, ``name_1``, ... What is made up so gives way to the names that
    attributes have, and to what came before it: with as many ``_`` behind it as it takes. So names depend neither on
    the order in which a store lists its attributes nor, but where two made-up names meet, on which of them are asked
    for.

    Parameters
    ----------
    widths
        By attribute the number of its columns; None for one value a row.
    taken
        Names that no attribute may have: of the axes, ``object_id`` where there are objects, of dimensions.
    known
        Names of attributes that are there and not among ``widths``.

    Examples
    --------
    >>> column_names({"rgb": 2, "rgb_0": None, "x": None}, ("x", "y"))
    {'rgb': ('rgb_0_', 'rgb_1'), 'rgb_0': ('rgb_0',), 'x': ('x_attribute',)}
    """
    used = {*taken, *widths}
    found: dict[str, tuple[str, ...]] = dict.fromkeys(widths, ())
    for name in sorted(widths):
        columns: list[str] = []
        for wanted in _wanted(name, widths[name], taken, suffix):
            free = (text for k in count() if (text := wanted + "_" * k) not in used and text not in known)
            columns.append(wanted if wanted == name else next(free))
            used.add(columns[-1])
        found[name] = tuple(columns)
    return found


def _wanted(name: str, width: int | None, taken: Collection[str], suffix: str) -> Iterator[str]:
    if width is None:
        yield f"{name}_{suffix}" if name in taken else name
    for column in range(width or 0):
        yield f"{name}_{column}"


# What a user selected: boxes, objects and conditions that rows must all meet.


@dataclass(frozen=True, eq=False)
class Picks:
    """Rows of chunks by their numbers there; the test of a condition that reads no attribute.

    Parameters
    ----------
    coords
        (m, K) chunks, in lexicographic order.
    starts
        (m + 1,) where the rows of each begin.
    rows
        Their rows, ascending in each.
    """

    coords: ChunkCoords
    starts: IntArray
    rows: IntArray

    def of(self, coord: tuple[int, ...]) -> "Picks":
        """Those of one chunk."""
        at = int(ChunkTable(self.coords).find(np.asarray([coord]))[0])
        part = slice(self.starts[at], self.starts[at + 1]) if at >= 0 else slice(0)
        rows = self.rows[part]
        return Picks(np.asarray([coord]), np.array([0, len(rows)]), rows)

    def __call__(self, count: int) -> BoolArray:
        """(count,) mask of the rows of the one chunk that it is of."""
        mask = np.zeros(count, np.bool_)
        mask[self.rows] = True
        return mask


@dataclass(frozen=True, eq=False)
class Condition:
    """A row mask from vertex attributes.

    Parameters
    ----------
    names
        Attributes that it reads.
    test
        What tells the rows of one attribute's values, or a callable of the attributes' rows that gives a mask.
    passes
        (n,) which categories of a dictionary-encoded attribute pass; the test is then one of truth values.
    """

    names: tuple[str, ...]
    test: Test | Picks | Callable[..., Any]
    passes: BoolArray | None = None


Area: TypeAlias = Region | Near


@dataclass(frozen=True, kw_only=True, eq=False)
class Selection:
    """Rows meet all of it.

    Parameters
    ----------
    regions
        Boxes that rows lie in: in each of them.
    objects
        Ids of the objects, sorted, or None for all rows whatever their object.
    conditions
        Masks from attributes.
    """

    regions: tuple[Area, ...] = ()
    objects: IntArray | None = None
    conditions: tuple[Condition, ...] = ()

    @property
    def box(self) -> BBox | None:
        """Box in stored coordinates that holds all that is selected, or None where there are no boxes."""
        if not self.regions:
            return None
        lo, hi = zip(*(region.bounds for region in self.regions), strict=True)
        return np.max(lo, axis=0), np.min(hi, axis=0)

    def with_region(self, region: Area) -> "Selection":
        """Intersect with boxes, or what is near points; those that do not meet select nothing."""
        boxes = [part for part in (*self.regions, region) if isinstance(part, Region) and part.is_box]
        others = [part for part in (*self.regions, region) if not part.is_box]
        return replace(self, regions=(*([reduce(Region.__and__, boxes)] if boxes else ()), *others))

    def with_objects(self, ids: IntArray) -> "Selection":
        """Keep only these objects."""
        ids = np.unique(ids)
        return replace(self, objects=ids if self.objects is None else np.intersect1d(self.objects, ids))

    def token(self) -> tuple[Any, ...]:
        """What tells this selection from another, for Dask's tokenize."""
        return ("selection", self.regions, self.objects, self.conditions)
