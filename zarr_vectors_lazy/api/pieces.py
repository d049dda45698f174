"""Views of a level by kind of geometry: polylines, skeletons, meshes, one object at a time."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import dask.array as da

from zarr_vectors_lazy.api.keywords import Named
from zarr_vectors_lazy.api.objects import Objects, whole_id

if TYPE_CHECKING:
    from zarr_vectors_lazy.api.columns import Attributes, EdgeAttributes
    from zarr_vectors_lazy.api.level import ZVLevel


class Polylines(Named[int, da.Array]):
    """Polylines by object id: (n, D) Dask arrays, in path order.

    Each has ``attributes``, a mapping of its vertex attributes aligned with it; what is made of it has none.
    """

    def __init__(self, level: "ZVLevel") -> None:
        self._objects = Objects(level)

    def __getitem__(self, object_id: int) -> da.Array:
        array = self._objects[object_id]
        array.attributes = self._objects.attributes_of(object_id)  # type: ignore[attr-defined]
        return array

    def __iter__(self) -> Iterator[int]:
        return iter(self._objects)

    def __len__(self) -> int:
        return len(self._objects)

    def _ipython_key_completions_(self) -> list[int]:
        return self._objects._ipython_key_completions_()


class Piece:
    """One object as a level of its own: its vertices in storage order, and what joins them."""

    def __init__(self, level: "ZVLevel") -> None:
        self._level = level

    @property
    def vertices(self) -> da.Array:
        """(n, D) positions."""
        return self._level.vertices

    @property
    def attributes(self) -> "Attributes":
        """Vertex attributes by name, aligned with `vertices`."""
        return self._level.attributes


class Skeleton(Piece):
    """One skeleton."""

    @property
    def edges(self) -> da.Array:
        """(e, 2) int64 ``[child, parent]`` rows of `vertices`."""
        return self._level.edges

    @property
    def edge_attributes(self) -> "EdgeAttributes":
        """Link attributes by name, aligned with `edges`; NaN where an edge is implied."""
        return self._level.edge_attributes


class Mesh(Piece):
    """One mesh."""

    @property
    def faces(self) -> da.Array:
        """(f, W) int64 rows of `vertices`."""
        return self._level.faces


class Skeletons(Named[int, Skeleton]):
    """Skeletons by object id."""

    def __init__(self, level: "ZVLevel") -> None:
        self._level = level

    def __getitem__(self, object_id: int) -> Skeleton:
        return Skeleton(self._level.sel(objects=whole_id(object_id)))

    def __iter__(self) -> Iterator[int]:
        return iter(self._level.objects)

    def __len__(self) -> int:
        return len(self._level.objects)

    def _ipython_key_completions_(self) -> list[int]:
        return self._level.objects._ipython_key_completions_()


class Meshes(Named[int, Mesh]):
    """Meshes by object id."""

    def __init__(self, level: "ZVLevel") -> None:
        self._level = level

    def __getitem__(self, object_id: int) -> Mesh:
        return Mesh(self._level.sel(objects=whole_id(object_id)))

    def __iter__(self) -> Iterator[int]:
        return iter(self._level.objects)

    def __len__(self) -> int:
        return len(self._level.objects)

    def _ipython_key_completions_(self) -> list[int]:
        return self._level.objects._ipython_key_completions_()
