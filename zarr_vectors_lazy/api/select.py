"""Arguments of ``sel`` that name objects, groups and attributes."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Set
from typing import TYPE_CHECKING, Any

import numpy as np

from zarr_vectors_lazy.api.columns import require_attribute
from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.graph.narrow import select_values, select_where
from zarr_vectors_lazy.graph.view import LevelView
from zarr_vectors_lazy.plan.selection import Condition
from zarr_vectors_lazy.types import IntArray

if TYPE_CHECKING:
    from zarr_vectors_lazy.api.objects import Objects


def parse_ids(objects: "Objects", ids: Any, groups: Any) -> IntArray:
    """Object ids that ``objects=`` and ``groups=`` both name.

    Raises
    ------
    SelectionError
        If ids are no whole numbers.
    NotFoundError
        If there is no such group.
    """
    chosen: IntArray | None = None
    if ids is not None:
        chosen = np.unique(_masked(ids, objects) if is_mask(ids) else whole_numbers(ids, "objects"))
    if groups is not None:
        names: list[Any] = list(groups) if isinstance(groups, Iterable) and not isinstance(groups, str) else [groups]
        members = [objects.groups[name] for name in names]
        of_groups = np.unique(np.concatenate([np.empty(0, np.int64), *members]))
        chosen = of_groups if chosen is None else np.intersect1d(chosen, of_groups)
    assert chosen is not None
    return chosen


def is_mask(ids: Any) -> bool:
    """Whether ``objects=`` is truth values; an xarray ``level.objects.attributes["length"] > 3`` is."""
    return not isinstance(ids, Set) and np.asarray(ids).dtype == np.bool_


def _masked(mask: Any, objects: "Objects") -> IntArray:
    slots, chosen = objects.slots, np.asarray(mask)
    if chosen.shape != slots.shape:
        raise SelectionError(
            f"a mask objects= goes with .objects.slots, {len(slots)} of them, found {chosen.shape} truth values"
        )
    found: IntArray = slots[chosen]
    return found


def whole_numbers(value: Any, name: str) -> IntArray:
    """(n,) int64 of one id or several."""
    array = np.atleast_1d(np.asarray(list(value) if isinstance(value, Set) else value))
    if array.size == 0:
        return np.empty(0, np.int64)
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise SelectionError(f"{name}= must be whole numbers, found {value!r}")
    return array.astype(np.int64)


def select_by_values(view: LevelView, where: Mapping[str, Any] | Callable[..., Any], what: str = "where") -> LevelView:
    """Rows of a view that meet ``where=`` or ``attribute_filter=``.

    Raises
    ------
    SelectionError
        If it is neither values by name nor a callable with named parameters, or values are of another kind.
    NotFoundError
        If there is no such attribute.
    """
    if isinstance(where, Mapping):
        for name, wanted in where.items():
            require_attribute(view, name)
            try:
                view = select_values(view, name, wanted)
            except SelectionError as error:
                raise SelectionError(f"{what}={error.message}") from error
        return view
    if not callable(where):
        raise SelectionError(f"{what}= must be {{name: (lo, hi)}} or a callable of attributes, found {where!r}")
    names = _parameters(where)
    for name in names:
        require_attribute(view, name)
    return select_where(view, Condition(names, where))


def _parameters(where: Callable[..., Any]) -> tuple[str, ...]:
    parameters = inspect.signature(where).parameters.values()
    plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if not parameters or any(parameter.kind not in plain for parameter in parameters):
        raise SelectionError("a callable where= must name the attributes that it reads as plain parameters")
    return tuple(parameter.name for parameter in parameters if parameter.default is inspect.Parameter.empty)
