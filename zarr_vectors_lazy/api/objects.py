"""Objects of a level by id, their attributes and groups."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import numpy as np
import xarray as xr

from zarr_vectors_lazy.access.objects import read_groups, rows_of_ids
from zarr_vectors_lazy.api.columns import PathAttributes, require_attribute
from zarr_vectors_lazy.api.keywords import Named
from zarr_vectors_lazy.convert.awkward import to_awkward
from zarr_vectors_lazy.convert.dense import object_dataset
from zarr_vectors_lazy.errors import NotFoundError, SelectionError, printable
from zarr_vectors_lazy.graph.narrow import candidate_objects, require_objects
from zarr_vectors_lazy.graph.paths import path_arrays
from zarr_vectors_lazy.types import IntArray

if TYPE_CHECKING:
    from zarr_vectors_lazy.api.level import ZVLevel

OFFERED = 1000  # ids on Tab


class Objects(Named[int, da.Array]):
    """Objects of a level by id: the ordered vertices of each, as a Dask array that reads only the chunks it touches.

    Of a selection, objects are cut to it.
    """

    def __init__(self, level: "ZVLevel") -> None:
        self._level = level
        self._view = level._view

    @cached_property
    def slots(self) -> IntArray:
        """(O,) all ids, also of objects that have no vertices here; of a selection, `ids`."""
        if self._view.data.object_index is None:
            return np.arange(self._view.data.object_rows, dtype=np.int64)
        return self._view.object_ids if self._view.rows is None else self.ids

    @cached_property
    def rows(self) -> IntArray:
        """(o,) manifest rows of `ids`."""
        if self._view.data.object_index is None:
            return np.empty(0, np.int64)
        view = self._view
        if view.rows is None:
            return np.flatnonzero(np.diff(view.manifests.offsets) > 0)
        rows = candidate_objects(view)
        if not view.filters.any() or not len(rows):
            return rows
        # Which objects have a selected vertex is known only when rows have been chosen. A vertex that several share is
        # selected with any of them, so each must have one in the boxes that it had to touch.
        every = dask.compute([path_arrays(part, rows).offsets for part in (view, *view.touched)])[0]
        found: IntArray = rows[np.logical_and.reduce([np.diff(offsets) > 0 for offsets in every])]
        return found

    @cached_property
    def ids(self) -> IntArray:
        """(o,) int64 ids of the objects present; of a box, those with a vertex in it (its chunks are then read)."""
        return self._view.object_ids[self.rows]

    def __getitem__(self, object_id: int) -> da.Array:
        return path_arrays(self._view, self._row(object_id)).positions

    def attributes_of(self, object_id: int) -> PathAttributes:
        """Vertex attributes of one object by name, aligned with its vertices."""
        return PathAttributes(self._view, self._row(object_id))

    def _row(self, object_id: int) -> IntArray:
        require_objects(self._view)
        row = rows_of_ids(self._view.object_ids, np.asarray([whole_id(object_id)], np.int64))
        if row[0] < 0:
            raise NotFoundError.among("object", object_id, self.slots.tolist(), where=self._view.data.url)
        return row

    def __iter__(self) -> Iterator[int]:
        return iter(self.ids.tolist())

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, object_id: object) -> bool:
        return bool(np.isin(object_id, self.ids).all()) if isinstance(object_id, int | np.integer) else False

    def _ipython_key_completions_(self) -> list[int]:
        view = self._view  # objects that chunks may have: Tab reads no chunk
        known = view.object_ids if view.rows is None else view.object_ids[candidate_objects(view)]
        return known[:OFFERED].tolist() if view.data.object_index is not None else []

    @property
    def attributes(self) -> xr.Dataset:
        """Attributes of all `slots` over ``object``; absent objects are at the fill value."""
        whole = self._view.rows is None or self._view.data.object_index is None
        known = self.slots if whole else self._view.object_ids
        rows = None if whole else rows_of_ids(known, self.slots)
        return object_dataset(self._view.source, self._view.data.object_attributes, known, rows)

    @property
    def groups(self) -> "Groups":
        """Groups of objects by id and by name."""
        return Groups(self._level)

    def ragged(self, attributes: str | Sequence[str] = ()) -> "Ragged":
        """All objects present, flat: ``(vertices, offsets)``; object k of `ids` is rows offsets[k]:offsets[k + 1].

        Parameters
        ----------
        attributes
            Vertex attributes to read with them: names, or ``"all"``.

        Returns
        -------
        Ragged
            (M, D) vertices and (O + 1,) int64 offsets; its ``attributes`` are (M,) or (M, C) by name.

        Raises
        ------
        NotFoundError
            If there is no such attribute.
        """
        if isinstance(attributes, str):
            attributes = self._view.data.attribute_names if attributes == "all" else (attributes,)
        for name in attributes:
            require_attribute(self._view, name)
        found = path_arrays(self._view, self.rows, attributes=tuple(attributes))
        return Ragged(found.positions, found.offsets, found.attributes)

    def to_awkward(self, attributes: str | Sequence[str] = ()) -> Any:
        """All objects present, computed, as an awkward array, see `Ragged.to_awkward`; needs awkward."""
        return self.ragged(attributes).to_awkward()

    def __repr__(self) -> str:
        return f"<objects of {self._level.index} at {self._view.data.tree.url}>"


class Ragged(tuple[da.Array, da.Array]):
    """(vertices, offsets) of objects one after another, and ``attributes`` by name, aligned with the vertices."""

    attributes: dict[str, da.Array]

    def __new__(
        cls, vertices: da.Array, offsets: da.Array, attributes: Mapping[str, da.Array] | None = None
    ) -> "Ragged":
        """Make the pair."""
        made = super().__new__(cls, (vertices, offsets))
        made.attributes = dict(attributes or {})
        return made

    def __getnewargs__(self) -> tuple[da.Array, da.Array, dict[str, da.Array]]:
        return self[0], self[1], self.attributes

    def to_awkward(self) -> Any:
        """Computed, as an awkward array of type ``objects * var * axes``; needs awkward.

        With attributes it has records, ``objects * var * {vertices, name, ...}``.
        """
        return to_awkward(*dask.compute(self[0], self[1], self.attributes))


class Groups(Named[int | str, IntArray]):
    """Object ids of groups, by group id, and by name where the store names its groups."""

    def __init__(self, level: "ZVLevel") -> None:
        self._data = level._view.data

    @cached_property
    def _members(self) -> dict[int, IntArray]:
        index = self._data.group_index
        return {} if index is None else read_groups(self._data.source, index)

    @property
    def names(self) -> tuple[str, ...]:
        """Names by group id; empty where the store names none."""
        return () if self._data.group_index is None else self._data.group_index.names

    def __getitem__(self, group: int | str) -> IntArray:
        number = self.names.index(group) if isinstance(group, str) and group in self.names else group
        if not is_whole(number) or number not in self._members:
            raise NotFoundError.among("group", group, [*self._members, *self.names], where=self._data.url)
        return self._members[int(number)]

    def __iter__(self) -> Iterator[int | str]:
        return iter(self._members)

    def _ipython_key_completions_(self) -> list[int | str]:
        return [*self.names] or [*self._members]

    def __len__(self) -> int:
        return len(self._members)

    @property
    def attributes(self) -> xr.Dataset:
        """Attributes of the groups over ``group``."""
        ids = np.arange(len(self), dtype=np.int64)
        return object_dataset(self._data.source, self._data.group_attributes, ids, None, dim="group")

    def __repr__(self) -> str:
        return printable(f"<{len(self)} groups: {', '.join(self.names) or ', '.join(map(str, self._members))}>")


def is_whole(value: object) -> bool:
    """Whether a value is a whole number, which True is not."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def whole_id(object_id: Any) -> int:
    """Return an object id, or raise SelectionError if it is no whole number."""
    if not is_whole(object_id):
        raise SelectionError(f"an object id is a whole number, found {object_id!r}")
    return int(object_id)
