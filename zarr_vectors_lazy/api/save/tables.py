"""Attributes and groups of the objects of a level that are written into a store of their own."""

from collections.abc import Callable
from typing import Any

import numpy as np

from zarr_vectors_lazy.access.objects import read_dense, read_groups
from zarr_vectors_lazy.graph.view import LevelView
from zarr_vectors_lazy.model.arrays import DenseArray
from zarr_vectors_lazy.model.objects import ragged_arange
from zarr_vectors_lazy.types import IntArray

Values = np.ndarray[Any, Any]


def object_tables(view: LevelView, rows: IntArray, ids: IntArray) -> dict[str, Any]:
    """Attributes of objects, one row for each, and groups of those that are there, as writers take them.

    Parameters
    ----------
    rows
        (o,) manifest row of each object that is written, in the order in which the writer takes them.
    ids
        (o,) its id in the new store.
    """
    data = view.data
    found: dict[str, Any] = {
        "object_attributes": {name: _dense(view, array)[rows] for name, array in data.object_attributes.items()}
    }
    index = data.group_index
    if index is None or not index.count:
        return found
    members, renamed = read_groups(data.source, index), _renaming(view.object_ids[rows], ids)
    groups = {group: renamed(members[group]) for group in range(index.count)}  # names are what the array says
    attributes = {name: _dense(view, array) for name, array in data.group_attributes.items()}
    return found | {"groups": groups, "group_attributes": attributes}


def _renaming(old: IntArray, new: IntArray) -> Callable[[IntArray], IntArray]:
    """Function that gives the new ids of those of some old ids that have any, in their order."""
    order = np.argsort(old, kind="stable")
    known, renamed = old[order], new[order]

    def of(wanted: IntArray) -> IntArray:
        first, last = (np.searchsorted(known, wanted, side) for side in ("left", "right"))
        counts = last - first
        found: IntArray = renamed[np.repeat(first, counts) + ragged_arange(counts)]
        return found

    return of


def _dense(view: LevelView, array: DenseArray) -> Values:
    values = read_dense(view.source, array)
    return values.astype(str) if values.dtype.hasobject else values
