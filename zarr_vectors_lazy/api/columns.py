"""Attributes of vertices and links by name."""

from collections.abc import ItemsView, Iterator, ValuesView
from typing import Any

import dask.array as da
import numpy as np

from zarr_vectors_lazy.api.keywords import Named
from zarr_vectors_lazy.errors import NotFoundError, printable
from zarr_vectors_lazy.graph.columns import attribute_array
from zarr_vectors_lazy.graph.edges import edge_attribute_array
from zarr_vectors_lazy.graph.links import link_attribute_array
from zarr_vectors_lazy.graph.paths import path_arrays
from zarr_vectors_lazy.graph.values import coding_of
from zarr_vectors_lazy.graph.view import LevelView
from zarr_vectors_lazy.model.arrays import Dictionary
from zarr_vectors_lazy.types import IntArray


class Attributes(Named[str, da.Array]):
    """Vertex attributes of a level by name: decoded, or their stored codes."""

    def __init__(self, view: LevelView, *, decode: bool) -> None:
        self._view = view
        self._decode = decode

    def __getitem__(self, name: str) -> da.Array:
        if not self._decode:
            require_coding(self._view, name)
        require_attribute(self._view, name)
        return attribute_array(self._view, name, decode=self._decode)

    def __iter__(self) -> Iterator[str]:
        names = self._view.data.attribute_names
        return iter(names if self._decode else [name for name in names if coding_of(self._view, name)])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def items(self) -> ItemsView[str, da.Array]:
        """Names and arrays; the metadata of all of them are read at once."""
        self._view.data.load_attributes()
        return super().items()

    def values(self) -> ValuesView[da.Array]:
        """Arrays, by name; the metadata of all of them are read at once."""
        self._view.data.load_attributes()
        return super().values()

    def __repr__(self) -> str:
        return printable(f"<{len(self)} vertex attributes: {', '.join(self)}>")


class Categories(Named[str, np.ndarray[Any, Any]]):
    """Categories of dictionary-encoded attributes by name."""

    def __init__(self, view: LevelView) -> None:
        self._view = view

    def __getitem__(self, name: str) -> np.ndarray[Any, Any]:
        found = require_coding(self._view, name)
        if found.plain:
            raise NotFoundError(f"the codes of {name!r} are its values, {found.fill} is missing: it has no categories")
        return found.categories

    def __iter__(self) -> Iterator[str]:
        codings = {name: coding_of(self._view, name) for name in self._view.data.attribute_names}
        return iter([name for name, found in codings.items() if found is not None and not found.plain])

    def __len__(self) -> int:
        return sum(1 for _ in self)


class LinkAttributes(Named[str, da.Array]):
    """Attributes of the links inside a level by name."""

    def __init__(self, view: LevelView) -> None:
        self._view = view

    def __getitem__(self, name: str) -> da.Array:
        data = self._view.data
        family = data.links(0)
        if family is None or name not in data.link_attribute_names:
            raise NotFoundError.among("link attribute", name, data.link_attribute_names, where=data.url)
        return link_attribute_array(self._view, family, data.link_attribute(family, name), name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._view.data.link_attribute_names)

    def __len__(self) -> int:
        return len(self._view.data.link_attribute_names)


class EdgeAttributes(LinkAttributes):
    """The same, aligned with edges: NaN for those that are implied and have no record (for meshes with faces)."""

    def __getitem__(self, name: str) -> da.Array:
        return edge_attribute_array(self._view, name)


class PathAttributes(Named[str, da.Array]):
    """Vertex attributes along the path of an object by name."""

    def __init__(self, view: LevelView, row: IntArray) -> None:
        self._view = view
        self._row = row

    def __getitem__(self, name: str) -> da.Array:
        require_attribute(self._view, name)
        return path_arrays(self._view, self._row, positions=False, attributes=(name,)).attributes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._view.data.attribute_names)

    def __len__(self) -> int:
        return len(self._view.data.attribute_names)


def require_attribute(view: LevelView, name: str) -> None:
    """Raise NotFoundError if the level has no such vertex attribute."""
    if not view.data.has_attribute(name):
        raise NotFoundError.among("attribute", name, view.data.attribute_names, where=view.data.url)


def value_dtype(view: LevelView, name: str) -> np.dtype[Any]:
    """Dtype of an attribute's values: of its categories where it has a dictionary; raises NotFoundError."""
    require_attribute(view, name)
    by = view.data.chunk_attribute
    if by is not None and by[0] == name:
        dtype: np.dtype[Any] = by[1].dtype
        return dtype
    spec = view.data.attribute(name).spec
    return spec.dtype if spec.dictionary is None else spec.dictionary.categories.dtype


def require_coding(view: LevelView, name: str) -> Dictionary:
    """What an attribute's stored integers stand for; raises NotFoundError where that is nothing else."""
    require_attribute(view, name)
    found = coding_of(view, name)
    if found is None:
        coded = [known for known in view.data.attribute_names if coding_of(view, known)]
        raise NotFoundError.among("attribute with codes", name, coded, where=view.data.url)
    return found
