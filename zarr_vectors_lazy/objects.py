"""Objects of a level by id, and attributes by name."""

import gc
import inspect
import operator
from collections.abc import Callable, ItemsView, Iterable, Iterator, Mapping, Sequence, Set, ValuesView
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

import dask
import dask.array as da
import numpy as np
import xarray as xr

from zarr_vectors_lazy import display
from zarr_vectors_lazy.convert.frames import to_awkward
from zarr_vectors_lazy.convert.xarray import object_dataset, told_attrs
from zarr_vectors_lazy.errors import NotFoundError, SelectionError, counted, listed, printable
from zarr_vectors_lazy.files import neighbours
from zarr_vectors_lazy.files.outgoing import Outgoing
from zarr_vectors_lazy.keywords import Named, suggesting
from zarr_vectors_lazy.model.arrays import Dictionary
from zarr_vectors_lazy.model.objects import ranges
from zarr_vectors_lazy.plan.selection import Condition, Region
from zarr_vectors_lazy.read.columns import (
    attribute_array,
    candidate_objects,
    coding_of,
    require_objects,
    select_values,
    select_where,
)
from zarr_vectors_lazy.read.links import edge_attribute_array, link_attribute_array
from zarr_vectors_lazy.read.objects import read_groups, rows_of_ids
from zarr_vectors_lazy.read.paths import path_arrays
from zarr_vectors_lazy.read.view import LevelView
from zarr_vectors_lazy.types import BoolArray, IntArray, Vertices

if TYPE_CHECKING:
    from zarr_vectors_lazy.level import ZVLevel

# Attributes of vertices and links by name.


class NamedArrays(Named[str, da.Array]):
    """A mapping of names to lazy arrays, displayed as a table."""

    kind = "vertex attributes"

    def __repr__(self) -> str:
        return printable(f"<{len(self)} {self.kind}: {', '.join(self)}>")

    def _repr_html_(self) -> str:
        return display.arrays_html(self.kind, self)


class Attributes(NamedArrays):
    """The vertex attributes of a level by name, decoded or as stored codes."""

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

    def items(self) -> ItemsView[str, da.Array]:
        """Names and arrays; the metadata of all are read together."""
        self._view.data.load_attributes()
        return super().items()

    def values(self) -> ValuesView[da.Array]:
        """The arrays; the metadata of all are read together."""
        self._view.data.load_attributes()
        return super().values()

    def _repr_html_(self) -> str:
        units = {name: told_attrs(self._view, name).get("units", "") for name in self}
        return display.arrays_html(self.kind, self, {"unit": units})


class Categories(Named[str, np.ndarray[Any, Any]]):
    """Categories of dictionary-encoded attributes by name."""

    def __init__(self, view: LevelView) -> None:
        self._view = view

    def __getitem__(self, name: str) -> np.ndarray[Any, Any]:
        found = require_coding(self._view, name)
        if found.plain:
            text = f"attribute {name!r} has no categories: its codes are the values themselves, and {found.fill} means"
            raise NotFoundError(f"{text} a missing value")
        return found.categories

    def __iter__(self) -> Iterator[str]:
        codings = {name: coding_of(self._view, name) for name in self._view.data.attribute_names}
        return iter([name for name, found in codings.items() if found is not None and not found.plain])

    def __repr__(self) -> str:
        counts = ", ".join(f"{name} ({len(values):,})" for name, values in self.items())
        return printable(f"<categories of {len(self)} attribute{'s'[: len(self) != 1]}: {counts or 'none'}>")

    def _repr_html_(self) -> str:
        rows = [
            [name, display.some(display.in_order(values.tolist())), f"{len(values):,}"] for name, values in self.items()
        ]
        return display.html_table("categories", ["attribute", "values", "count"], rows, left=2)


class LinkAttributes(NamedArrays):
    """The attributes of the links within a level, by name."""

    kind = "link attributes"

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


class EdgeAttributes(LinkAttributes):
    """Link attributes aligned with edges (or with the faces of a mesh): NaN for implied edges, which have no record."""

    kind = "edge attributes"

    def __getitem__(self, name: str) -> da.Array:
        return edge_attribute_array(self._view, name)


class PathAttributes(NamedArrays):
    """The vertex attributes along the path of an object, by name."""

    def __init__(self, view: LevelView, row: IntArray) -> None:
        self._view = view
        self._row = row

    def __getitem__(self, name: str) -> da.Array:
        require_attribute(self._view, name)
        return path_arrays(self._view, self._row, positions=False, attributes=(name,)).attributes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._view.data.attribute_names)


def require_attribute(view: LevelView, name: str) -> None:
    """Raise NotFoundError if the level has no such vertex attribute."""
    if not view.data.has_attribute(name):
        known = view.data.attribute_names
        if name in view.data.object_attributes:
            told = f"no attribute {name!r} of vertices; there is {listed(known)}"
            raise NotFoundError(f"{told}; objects have it: .objects.attributes[{name!r}]", where=view.data.url)
        raise NotFoundError.among("attribute", name, known, where=view.data.url)


def value_dtype(view: LevelView, name: str) -> np.dtype[Any]:
    """Dtype of an attribute's values, of its categories if it has a dictionary; raises NotFoundError."""
    require_attribute(view, name)
    by = view.data.chunk_attribute
    if by is not None and by[0] == name:
        return np.dtype(by[1].dtype)
    spec = view.data.attribute(name).spec
    return spec.dtype if spec.dictionary is None else spec.dictionary.categories.dtype


def require_coding(view: LevelView, name: str) -> Dictionary:
    """What an attribute's stored integers stand for; raises NotFoundError if they are not codes."""
    require_attribute(view, name)
    found = coding_of(view, name)
    if found is None:
        coded = [known for known in view.data.attribute_names if coding_of(view, known)]
        raise NotFoundError.among("attribute with codes", name, coded, where=view.data.url)
    return found


# Objects of a level by id, their attributes and groups.

OFFERED = 1000  # most ids that Tab offers


class Objects(Named[int, da.Array]):
    """The objects of a level by id: the ordered vertices of each, as a Dask array that reads only the chunks it needs.

    The objects of a selection are cut to it.
    """

    def __init__(self, level: "ZVLevel") -> None:
        self._level = level
        self._view = level._view

    @cached_property
    def slots(self) -> IntArray:
        """(O,) all ids, including those of objects without vertices here; for a selection, the same as `ids`."""
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
        # Only the chosen rows show which objects have a selected vertex. A vertex that objects share is selected with
        # any of them, so each object must have a vertex in the boxes that it had to touch.
        every = dask.compute([path_arrays(part, rows).offsets for part in (view, *view.touched)])[0]
        return np.asarray(rows[np.logical_and.reduce([np.diff(offsets) > 0 for offsets in every])])

    @cached_property
    def ids(self) -> IntArray:
        """(o,) int64 ids of the objects present; for a box, those with a vertex in it (this reads its chunks)."""
        return self._view.object_ids[self.rows]

    def __getitem__(self, object_id: int) -> da.Array:
        return path_arrays(self._view, self._row(object_id)).positions

    def attributes_of(self, object_id: int) -> PathAttributes:
        """Return the vertex attributes of one object by name, aligned with its vertices."""
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
        view = self._view  # objects that the chunks may have: Tab reads no chunk
        known = view.object_ids if view.rows is None else view.object_ids[candidate_objects(view)]
        return known[:OFFERED].tolist() if view.data.object_index is not None else []

    @property
    def attributes(self) -> xr.Dataset:
        """Attributes of all `slots`, over the dimension ``object``; absent objects have the fill value."""
        whole = self._view.rows is None or self._view.data.object_index is None
        known = self.slots if whole else self._view.object_ids
        rows = None if whole else rows_of_ids(known, self.slots)
        return object_dataset(self._view.source, self._view.data.object_attributes, known, rows)

    @property
    def groups(self) -> "Groups":
        """Groups of objects by id and by name."""
        return Groups(self._level)

    @suggesting
    def ragged(self, attributes: str | Sequence[str] = ()) -> "Ragged":
        """Return all objects present as ``(vertices, offsets)``; object k of `ids` is rows offsets[k]:offsets[k + 1].

        Parameters
        ----------
        attributes
            Vertex attributes to read as well: names, or ``"all"``.

        Returns
        -------
        Ragged
            (M, D) vertices and (O + 1,) int64 offsets; ``attributes`` has (M,) or (M, C) arrays by name.

        Raises
        ------
        NotFoundError
            If there is no such attribute.
        """
        if isinstance(attributes, str):
            attributes = self._view.data.attribute_names if attributes == "all" else (attributes,)
        names = tuple(attributes or ())
        for name in names:
            require_attribute(self._view, name)
        found = path_arrays(self._view, self.rows, attributes=names)
        return Ragged(found.positions, found.offsets, found.attributes)

    def to_awkward(self, attributes: str | Sequence[str] = ()) -> Any:
        """Compute all objects present as an awkward array (see `Ragged.to_awkward`); this needs awkward."""
        return self.ragged(attributes).to_awkward()

    @suggesting
    def to_navis(self, attributes: Sequence[str] | None = None, *, world: bool = True) -> Any:
        """Return the objects as a `navis.NeuronList` of TreeNeurons or, for a mesh, MeshNeurons, in the store's units.

        Vertex attributes become columns of the node table, and object attributes become attributes of the neuron. A
        path becomes a tree whose root is its first vertex. Graphs must not have cycles, and faces become triangles.

        Parameters
        ----------
        attributes
            Names of the vertex attributes to include; None for all.
        world
            True for positions in world coordinates (`ZVStore.to_world`), False for positions as stored.

        Raises
        ------
        SelectionError
            If the objects are points, or if edges form a cycle.
        ImportError
            If navis is not installed.
        """
        return neighbours.to_navis(Outgoing(self._level, attributes, world))

    @suggesting
    def to_cloudvolume(self, attributes: Sequence[str] | None = None, *, world: bool = True) -> dict[int, Any]:
        """Return each object as a CloudVolume Skeleton or Mesh, by id, in nanometres.

        Radii and types go to CloudVolume's own fields, and other numbers become extra attributes of a skeleton. Faces
        become triangles.

        Parameters
        ----------
        attributes, world
            As for `to_navis`.

        Raises
        ------
        SelectionError
            If the objects are points.
        ImportError
            If CloudVolume is not installed.
        """
        return neighbours.to_cloudvolume(Outgoing(self._level, attributes, world))

    def __repr__(self) -> str:
        return display.objects_text(self._level, "objects")

    def _repr_html_(self) -> str:
        return display.objects_html(self._level, "objects")


class Ragged(tuple[da.Array, da.Array]):
    """The pair (vertices, offsets) of concatenated objects, and ``attributes`` by name, aligned with the vertices."""

    attributes: dict[str, da.Array]
    vertices = property(operator.itemgetter(0), doc="(M, D) vertices.")
    offsets = property(operator.itemgetter(1), doc="(O + 1,) int64: where each object begins, and the last one ends.")

    def __new__(
        cls, vertices: da.Array, offsets: da.Array, attributes: Mapping[str, da.Array] | None = None
    ) -> "Ragged":
        """Make the pair."""
        made = super().__new__(cls, (vertices, offsets))
        made.attributes = dict(attributes or {})
        return made

    def __getnewargs__(self) -> tuple[da.Array, da.Array, dict[str, da.Array]]:
        return self[0], self[1], self.attributes

    def __repr__(self) -> str:
        listed = f", attributes {', '.join(self.attributes)}" if self.attributes else ""
        return printable(f"<{counted(len(self[1]) - 1, 'object')}, not computed: vertices, offsets{listed}>")

    def to_awkward(self) -> Any:
        """Compute an awkward array of type ``objects * var * axes``; this needs awkward.

        With attributes it is an array of records, ``objects * var * {vertices, name, ...}``.
        """
        return to_awkward(*dask.compute(self[0], self[1], self.attributes))


class Groups(Named[int | str, IntArray]):
    """The object ids of each group, by group id, or by name if the store names its groups."""

    def __init__(self, level: "ZVLevel") -> None:
        self._data = level._view.data

    @cached_property
    def _members(self) -> dict[int, IntArray]:
        index = self._data.group_index
        return {} if index is None else read_groups(self._data.source, index)

    @property
    def names(self) -> tuple[str, ...]:
        """Names by group id; empty if the store does not name its groups."""
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

    @property
    def attributes(self) -> xr.Dataset:
        """Attributes of the groups, over the dimension ``group``."""
        ids = np.arange(len(self), dtype=np.int64)
        return object_dataset(self._data.source, self._data.group_attributes, ids, None, dim="group")

    def __repr__(self) -> str:
        return printable(
            f"<{counted(len(self), 'group')}: {', '.join(self.names) or ', '.join(map(str, self._members))}>"
        )

    def _repr_html_(self) -> str:
        names = dict(enumerate(self.names))
        rows = [
            [str(group), names.get(group, ""), display.some(ids.tolist()), f"{len(ids):,}"]
            for group, ids in list(self._members.items())[: display.MOST_ROWS]
        ]
        more = f", the first {display.MOST_ROWS}" if len(self) > display.MOST_ROWS else ""
        title = f"{counted(len(self), 'group')} of objects{more}"
        return display.html_table(title, ["group", "name", "ids", "objects"], rows, left=3)


def is_whole(value: object) -> bool:
    """Whether a value is a whole number; True is not."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def whole_id(object_id: Any) -> int:
    """Return an object id; SelectionError if it is not a whole number, NotFoundError if int64 cannot hold it."""
    if not is_whole(object_id):
        text = f"an object id must be a whole number, found {object_id!r}; for several ids use level.sel(objects=[...])"
        raise SelectionError(text)
    if not -(2**63) <= int(object_id) < 2**63:
        raise NotFoundError(f"no object {object_id}; ids are int64")
    return int(object_id)


# Views of a level by kind of geometry: polylines, skeletons, meshes, one object at a time.


T = TypeVar("T")


class PerObject(Named[int, T]):
    """A mapping of object ids to one thing for each object of a level."""

    def __init__(self, level: "ZVLevel") -> None:
        self._level = level

    def __iter__(self) -> Iterator[int]:
        return iter(self._level.objects)

    def __len__(self) -> int:
        return len(self._level.objects)

    def _ipython_key_completions_(self) -> list[int]:
        return self._level.objects._ipython_key_completions_()

    def __repr__(self) -> str:
        return display.objects_text(self._level, type(self).__name__.lower())

    def _repr_html_(self) -> str:
        return display.objects_html(self._level, type(self).__name__.lower())


class Polylines(PerObject[da.Array]):
    """Polylines by object id: (n, D) Dask arrays, in path order.

    Each array has ``attributes``, a mapping of its vertex attributes, aligned with it; arrays computed from it do not.
    """

    def __getitem__(self, object_id: int) -> da.Array:
        objects = self._level.objects
        array = objects[object_id]
        array.attributes = objects.attributes_of(object_id)  # type: ignore[attr-defined]
        return array


class Piece:
    """One object of a level: its vertices in storage order, and the edges or faces that join them."""

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

    def _arrays(self) -> dict[str, da.Array]:
        return {"vertices": self.vertices, **self.attributes}

    def __repr__(self) -> str:
        return printable(f"<{type(self).__name__}: {', '.join(self._arrays())}>")

    def _repr_html_(self) -> str:
        return display.arrays_html(type(self).__name__, self._arrays())


class Skeleton(Piece):
    """One skeleton."""

    @property
    def edges(self) -> da.Array:
        """(e, 2) int64 ``[child, parent]`` rows of `vertices`."""
        return self._level.edges

    @property
    def edge_attributes(self) -> "EdgeAttributes":
        """Link attributes by name, aligned with `edges`; NaN for implied edges."""
        return self._level.edge_attributes

    def _arrays(self) -> dict[str, da.Array]:
        return {"vertices": self.vertices, "edges": self.edges, **self.attributes}


class Mesh(Piece):
    """One mesh."""

    @property
    def faces(self) -> da.Array:
        """(f, W) int64 rows of `vertices`."""
        return self._level.faces

    def _arrays(self) -> dict[str, da.Array]:
        return {"vertices": self.vertices, "faces": self.faces, **self.attributes}


class Skeletons(PerObject[Skeleton]):
    """Skeletons by object id."""

    def __getitem__(self, object_id: int) -> Skeleton:
        return Skeleton(self._level.sel(objects=whole_id(object_id)))


class Meshes(PerObject[Mesh]):
    """Meshes by object id."""

    def __getitem__(self, object_id: int) -> Mesh:
        return Mesh(self._level.sel(objects=whole_id(object_id)))


# Objects as rows of a level, computed once and then cut into pieces, lines and vertices of objects.


@dataclass(frozen=True, slots=True, eq=False)
class ObjectRows:
    """Vertices of objects, one object after another, each in path order, computed.

    Parameters
    ----------
    ids
        (o,) object ids.
    offsets
        (o + 1,) vertices of object k are ``offsets[k]:offsets[k + 1]``.
    begins
        (M,) whether an object's part of a fragment begins here.
    vertices
        (M, D) positions.
    attributes
        (M,) or (M, C) by name.
    """

    ids: IntArray
    offsets: IntArray
    begins: BoolArray
    vertices: Vertices
    attributes: dict[str, np.ndarray[Any, Any]]

    @property
    def counts(self) -> IntArray:
        """(o,) number of vertices of each object."""
        return np.diff(self.offsets)

    @property
    def owners(self) -> IntArray:
        """(M,) object id of each vertex."""
        return np.repeat(self.ids, self.counts)

    def take(self, objects: IntArray) -> "ObjectRows":
        """Return some objects, by position, in the order given."""
        if np.array_equal(objects, np.arange(len(self.ids))):
            return self
        counts = self.counts[objects]
        at = ranges(self.offsets[:-1][objects], counts)
        return ObjectRows(
            self.ids[objects],
            np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            self.begins[at],
            self.vertices[at],
            {name: values[at] for name, values in self.attributes.items()},
        )

    def longer(self, least: int) -> "ObjectRows":
        """Objects with at least this many vertices."""
        return self.take(np.flatnonzero(self.counts >= least))

    def touching(self, region: Region) -> "ObjectRows":
        """Objects that have a vertex in some boxes."""
        inside = np.concatenate([[0], np.cumsum(region.rows(self.vertices))])
        return self.take(np.flatnonzero(np.diff(inside[self.offsets]) > 0))

    def pieces(self) -> list[list[Vertices]]:
        """Positions of each object, cut at the ends of fragments."""
        starts = np.flatnonzero(self.begins)
        vertices = self.vertices
        cuts = np.searchsorted(starts, self.offsets).tolist()
        collects = gc.isenabled()
        gc.disable()  # it would pass over all lists again and again: half of the time of a million
        try:
            parts = [vertices[start:stop] for start, stop in pairwise([*starts.tolist(), len(vertices)])]
            return [parts[first:last] for first, last in pairwise(cuts)]
        finally:
            if collects:
                gc.enable()


def object_rows(level: "ZVLevel", ids: IntArray | None, names: "Sequence[str]") -> ObjectRows:
    """Compute the objects of a level, cut to its selection, in one go.

    Parameters
    ----------
    ids
        Objects, in the order to return; None for all that the selection may touch, in the order of their manifests.
    names
        Attributes to read.
    """
    view = level._view
    if view.data.object_index is None:
        rows = np.empty(0, np.int64)
    elif ids is not None:
        rows = rows_of_ids(view.object_ids, ids)
    else:
        rows = candidate_objects(view)
    objects, order = np.unique(rows, return_inverse=True)
    found = path_arrays(view, objects, attributes=names, whole=True)
    members = (found.vertices, found.attributes, found.begins, found.offsets)
    vertices, attributes, begins, offsets = dask.compute(*members)
    walks = ObjectRows(view.object_ids[objects], offsets, begins, vertices, attributes)
    return walks.take(order.reshape(-1))


# Arguments of ``sel`` that name objects, groups and attributes.


def parse_ids(objects: "Objects", ids: Any, groups: Any) -> IntArray:
    """Ids of the objects that both ``objects=`` and ``groups=`` name.

    Raises
    ------
    SelectionError
        If ids are not whole numbers.
    NotFoundError
        If there is no such group.
    """
    chosen: IntArray | None = None
    if ids is not None:
        chosen = np.unique(asked_ids(ids, objects, "objects"))
    if groups is not None:
        names: list[Any] = (
            list(groups) if isinstance(groups, Iterable) and not isinstance(groups, str | bytes) else [groups]
        )
        members = [objects.groups[name] for name in names]
        of_groups = np.unique(np.concatenate([np.empty(0, np.int64), *members]))
        chosen = of_groups if chosen is None else np.intersect1d(chosen, of_groups)
    assert chosen is not None
    return chosen


def is_mask(ids: Any) -> bool:
    """Whether ``objects=`` is a mask, such as xarray's ``level.objects.attributes["length"] > 3``."""
    return not isinstance(ids, Set) and np.asarray(ids).dtype == np.bool_


def asked_ids(ids: Any, objects: "Objects", name: str) -> IntArray:
    """Ids that an argument names: numbers, or a mask with a boolean for each of ``objects.slots``."""
    if isinstance(ids, Objects):
        return ids.ids
    if isinstance(ids, Mapping):  # groups, a dataset: NumPy would look into it
        raise SelectionError(f"{name}= must be whole numbers, found a {type(ids).__name__}")
    if np.ma.is_masked(ids):
        raise SelectionError(f"{name}= has masked values: {ids!r}")
    return _masked(ids, objects) if is_mask(ids) else whole_numbers(ids, name)


def _masked(mask: Any, objects: "Objects") -> IntArray:
    slots, chosen = objects.slots, np.asarray(mask)
    if chosen.shape != slots.shape:
        raise SelectionError(
            f"a mask passed as objects= must have one boolean for each of .objects.slots, which has shape "
            f"{slots.shape}; found {chosen.shape}"
        )
    return np.asarray(slots[chosen])


def whole_numbers(value: Any, name: str) -> IntArray:
    """(n,) int64 of one or several ids."""
    array = np.atleast_1d(np.asarray(list(value) if isinstance(value, Set) else value))
    if array.size == 0:
        return np.empty(0, np.int64)
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise SelectionError(f"{name}= must be whole numbers, found {value!r}")
    if int(array.max()) >= 2**63:
        raise NotFoundError(f"no object {array.max()}; ids are int64")
    return array.astype(np.int64)


def select_by_values(view: LevelView, where: Mapping[str, Any] | Callable[..., Any], what: str = "where") -> LevelView:
    """Select the rows of a view that meet ``where=`` or ``attribute_filter=``.

    Raises
    ------
    SelectionError
        If it is neither values by name nor a callable with named parameters, or values are of another kind than the
        attribute.
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
        raise SelectionError(f"{what}= must be {{name: (lo, hi)}} or a callable of attributes; found {where!r}")
    names = _parameters(where)
    for name in names:
        require_attribute(view, name)
    return select_where(view, Condition(names, where))


def _parameters(where: Callable[..., Any]) -> tuple[str, ...]:
    parameters = inspect.signature(where).parameters.values()
    plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if not parameters or any(parameter.kind not in plain for parameter in parameters):
        raise SelectionError("a callable passed as where= must take the attributes that it reads as plain parameters")
    return tuple(parameter.name for parameter in parameters if parameter.default is inspect.Parameter.empty)
