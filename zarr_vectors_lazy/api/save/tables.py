"""Attributes and groups of the objects of a level that are written into a store of their own."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from zarr_vectors_lazy.access.objects import read_dense, read_groups
from zarr_vectors_lazy.graph.view import LevelView
from zarr_vectors_lazy.model.arrays import DenseArray
from zarr_vectors_lazy.types import IntArray

Values = np.ndarray[Any, Any]


def same_ids(ids: IntArray) -> dict[int, IntArray]:
    """New ids by old id, where they stay."""
    return {int(i): np.asarray([i]) for i in ids}


def object_tables(view: LevelView, rows: IntArray, renamed: Mapping[int, IntArray]) -> dict[str, Any]:
    """Attributes of objects, one row for each, and groups of those that are there, as writers take them.

    Parameters
    ----------
    rows
        Manifest row of each object that is written, in the order in which the writer takes them.
    renamed
        New ids by old id.
    """
    data = view.data
    found: dict[str, Any] = {
        "object_attributes": {name: _dense(view, array)[rows] for name, array in data.object_attributes.items()}
    }
    index = data.group_index
    if index is None or not index.count:
        return found
    members = read_groups(data.source, index)
    none = np.empty(0, np.int64)
    groups = {
        index.names[group] if index.names else group: np.concatenate(
            [none, *(renamed[i] for i in members[group].tolist() if i in renamed)]
        )
        for group in range(index.count)
    }
    attributes = {name: _dense(view, array) for name, array in data.group_attributes.items()}
    return found | {"groups": groups, "group_attributes": attributes}


def _dense(view: LevelView, array: DenseArray) -> Values:
    values = read_dense(view.source, array)
    return values.astype(str) if values.dtype.hasobject else values
