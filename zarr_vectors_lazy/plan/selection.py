"""What a user selected: boxes, objects and conditions that rows must all meet."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from zarr_vectors_lazy.errors import SelectionError, listed
from zarr_vectors_lazy.plan.conditions import Test
from zarr_vectors_lazy.types import BBox, BoolArray, IntArray


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
    test: Test | Callable[..., Any]
    passes: BoolArray | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Selection:
    """Rows meet all of it.

    Parameters
    ----------
    box
        Intersection of the boxes, or None.
    objects
        Ids of the objects, sorted, or None for all rows whatever their object.
    conditions
        Masks from attributes.
    """

    box: BBox | None = None
    objects: IntArray | None = None
    conditions: tuple[Condition, ...] = ()

    def with_box(self, box: BBox) -> "Selection":
        """Intersect with another box; boxes that do not meet select nothing."""
        if self.box is not None:
            box = (np.maximum(self.box[0], box[0]), np.minimum(self.box[1], box[1]))
        return replace(self, box=box)

    def with_objects(self, ids: IntArray) -> "Selection":
        """Keep only these objects."""
        ids = np.unique(ids)
        return replace(self, objects=ids if self.objects is None else np.intersect1d(self.objects, ids))

    def token(self) -> tuple[Any, ...]:
        """What tells this selection from another, for Dask's tokenize."""
        return ("selection", self.box, self.objects, self.conditions)


def parse_box(bbox: Any, slices: Mapping[str, Any], axes: Sequence[str]) -> BBox | None:
    """Box of ``sel``'s arguments, in float64; None where there is none.

    Parameters
    ----------
    bbox
        (lo, hi) or None.
    slices
        ``slice(lo, hi)`` by axis name; an open end is infinite.
    axes
        The store's axis names.

    Raises
    ------
    SelectionError
        If the box is malformed or an axis unknown.
    """
    ndim = len(axes)
    lo, hi = np.full(ndim, -np.inf), np.full(ndim, np.inf)
    if bbox is not None:
        lo, hi = _corners(bbox, ndim)
    for name, part in slices.items():
        if name not in axes:
            raise SelectionError(f"no axis {name!r}; the axes are {listed(axes)}")
        if not isinstance(part, slice) or part.step is not None:
            raise SelectionError(f"{name}= must be slice(lo, hi), found {part!r}")
        d = list(axes).index(name)
        first, last = _end(part.start, -np.inf, name), _end(part.stop, np.inf, name)
        if first > last:
            raise SelectionError(f"{name}=slice({first:g}, {last:g}) has its lower end above its upper end")
        lo[d], hi[d] = max(lo[d], first), min(hi[d], last)
    return None if bbox is None and not slices else (lo, hi)


def _corners(bbox: Any, ndim: int) -> BBox:
    try:
        lo, hi = (np.asarray(corner, np.float64) for corner in bbox)
    except (TypeError, ValueError, OverflowError) as error:
        raise SelectionError(f"bbox must be (lo, hi), {ndim} numbers each; found {bbox!r}") from error
    if lo.shape != (ndim,) or hi.shape != (ndim,):
        raise SelectionError(f"bbox must be (lo, hi), {ndim} numbers each; found shapes {lo.shape} and {hi.shape}")
    if np.isnan(lo).any() or np.isnan(hi).any():
        raise SelectionError(f"bbox has NaN: {bbox!r}")
    if (lo > hi).any():
        raise SelectionError(f"bbox has lo > hi on axis {int(np.argmax(lo > hi))}: lo {lo.tolist()}, hi {hi.tolist()}")
    return lo.copy(), hi.copy()


def _end(value: Any, default: float, name: str) -> float:
    if value is None:
        return default
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise SelectionError(f"{name}= must be slice(lo, hi) of numbers, found {value!r}") from error
    if np.isnan(number):
        raise SelectionError(f"{name}= has NaN")
    return number
