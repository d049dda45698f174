"""Arrays that writers are given."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from zarr_vectors_lazy.access.write.job import Values
from zarr_vectors_lazy.errors import SelectionError


def as_array(value: Any, name: str) -> Values:
    """An array of what was given; memory-mapped it stays.

    Raises
    ------
    SelectionError
        If its rows differ in length, or some values are masked: what lies below a mask would be stored as values.
    """
    try:
        array: Values = np.asanyarray(value)
    except ValueError as error:
        raise SelectionError(f"{name} must be one array: {error}") from error
    if isinstance(array, np.ma.MaskedArray):
        if np.ma.is_masked(array):
            raise SelectionError(f"{name} has masked values, which are not stored: fill them or leave them out")
        return array.data
    return array


def by_name(values: Any, what: str) -> Mapping[str, Any]:
    """Arrays by name, none where nothing was given; raises SelectionError if it is something else."""
    if values is not None and not isinstance(values, Mapping):
        raise SelectionError(f"{what} must be arrays by name, found {type(values).__name__}")
    return values or {}
