"""What a writer of files gets from a level; everything is read when it is first used."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import dask
import numpy as np

from zarr_vectors_lazy.convert.frames import FrameColumn, frame_columns, make_frame, read_frame, source_arrays
from zarr_vectors_lazy.errors import NotFoundError, SelectionError
from zarr_vectors_lazy.files.loaded import with_missing
from zarr_vectors_lazy.format.vectors import missing_codes
from zarr_vectors_lazy.kernels.trees import branches
from zarr_vectors_lazy.model.arrays import DenseArray, Dictionary, float64_holds
from zarr_vectors_lazy.model.objects import ranges
from zarr_vectors_lazy.model.world import unit_factors
from zarr_vectors_lazy.read.columns import iterate_blocks
from zarr_vectors_lazy.read.layers import batched
from zarr_vectors_lazy.read.paths import path_arrays
from zarr_vectors_lazy.types import IntArray, Vertices

Values = np.ndarray[Any, Any]
FILL = "_FillValue"  # which integer means that a value of an object or group is missing
PREFETCH = 2  # blocks of chunks that are read ahead of the one being written


LINKS = {"mesh": "faces", "graph": "edges", "skeleton": "edges"} | dict.fromkeys(
    ("line", "polyline", "streamline"), "order of vertices along paths"
)
"""What joins the vertices of a geometry, in the words of ``left_out``."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Paths:
    """Objects, or their branches, one after another in path order.

    Parameters
    ----------
    ids
        (P,) object of each; a branching skeleton has a path for each branch.
    offsets
        (P + 1,) first row of each path.
    rows
        (M,) the level's vertex in each row.
    vertices
        (M, 3).
    attributes
        (M,) or (M, C) by name.
    """

    ids: IntArray
    offsets: IntArray
    rows: IntArray
    vertices: Vertices
    attributes: Mapping[str, Values]


@dataclass(eq=False)  # not frozen: results are kept
class Outgoing:
    """A level or a selection, for a writer of files.

    Parameters
    ----------
    level
        A `ZVLevel`, which belongs to a higher layer.
    names
        Vertex attributes to write; None for all.
    world
        Whether positions are in world coordinates and the file's unit, rather than as stored.
    unit
        Unit of positions in this format; None for any.
    triangulate
        Whether faces with more corners may become triangles.
    like, reference
        A file whose header, or an image whose space, a tractogram gets.
    left_out
        What the format cannot hold; writers add to it.
    """

    level: Any
    names: Sequence[str] | None = None
    world: bool = True
    unit: str | None = None
    triangulate: bool = False
    like: Path | None = None
    reference: Path | None = None
    left_out: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if isinstance(self.names, str):
            self.names = None if self.names == "all" else (self.names,)
        # Data that are read all at once do not need a key for each chunk.
        self.level = type(self.level)(self.level.store, batched(self.level._view))

    def leave(self, *what: str) -> None:
        """Report something that the format cannot hold, unless it is already reported, perhaps with a reason."""
        for text in what:
            if not any(said == text or said.startswith(f"{text} (") for said in self.left_out):
                self.left_out.append(text)

    @property
    def geometry(self) -> str:
        """Kind of geometry, as the store's format names it."""
        return str(self.level.store.geometry_types[0])

    @property
    def crs(self) -> Any:
        """Reference system as the store states it."""
        return self.level.store.crs

    @property
    def attribute_names(self) -> tuple[str, ...]:
        """Vertex attributes to write, without ``object_id``, which is always given; raises NotFoundError."""
        known = self.level.attribute_names
        names = [name for name in self.names or () if name in known or name != "object_id" or not self.has_objects]
        for name in names:
            if name not in known:
                raise NotFoundError.among("attribute", name, known, where=self.level.store.url)
        return tuple(known if self.names is None else names)

    @cached_property
    def _columns(self) -> list[FrameColumn]:
        taken = (*self.level.store.axes, *self.axes, *(["object_id"] if self.has_objects else []))
        return frame_columns(self.level._view, self.attribute_names, taken=taken)

    @cached_property
    def _read(self) -> dict[str | None, Any]:
        """Positions, stored values of attributes by name, edges and faces, from one pass over the data."""
        wanted: dict[str | None, Any] = source_arrays(self.level._view, self._columns)
        if self.geometry == "mesh":
            wanted["/faces"] = self.level.faces  # no attribute has such a name
        elif self.geometry != "point_cloud":
            wanted["/edges"] = self.level.edges
        return dict(zip(wanted, dask.compute(*wanted.values()), strict=True))

    @property
    def _extra_axes(self) -> list[int]:
        """Stored axes that world coordinates do not include."""
        world = self.level._view.data.store.world
        return [axis for axis in range(len(world.axes)) if axis not in world.columns]

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the columns of `flat`."""
        world = self.level._view.data.store.world
        return (*world.names, *(world.axes[axis] for axis in self._extra_axes)) if self.world else world.axes

    @property
    def units(self) -> tuple[str | None, ...]:
        """Units of the columns of `flat`."""
        world = self.level._view.data.store.world
        first = (self.unit,) * len(world.names) if self.unit else world.world_units
        return (*first, *(world.units[axis] for axis in self._extra_axes)) if self.world else world.units

    def moved(self, positions: Vertices) -> Vertices:
        """(N, D) world coordinates in the file's unit, then axes that these do not include; or positions as stored.

        The same array if coordinates do not change.
        """
        world = self.level._view.data.store.world
        if not self.world:
            return positions
        world.warn()
        factors = unit_factors(world.world_units, self.unit) if self.unit else np.ones(1)
        if world.plain and (factors == 1).all():
            return positions
        return np.column_stack([world.to_world(positions) * factors, positions[:, self._extra_axes]])

    @cached_property
    def flat(self) -> Vertices:
        """(N, D) positions as they are written, all axes; they keep their dtype if they do not change."""
        return self.moved(self._read[None])

    @cached_property
    def positions(self) -> Vertices:
        """(N, 3) positions; a plane lies at z = 0, and further axes are left out."""
        self.leave(*(f"axis {name}" for name in self.axes[3:]))
        flat = self.flat[:, :3]
        return np.pad(flat, ((0, 0), (0, 3 - flat.shape[1])))

    @cached_property
    def exact(self) -> dict[str, Values]:
        """(N,) or (N, C) attributes by name; integers with missing values are masked arrays, missing text is None."""
        coded = {column.attribute: column.categories for column in self._columns}
        return {name: _exact(self._read[name], coded[name]) for name in self.attribute_names}

    @cached_property
    def attributes(self) -> dict[str, Values]:
        """As `exact`, for formats without missing values: numbers with NaN, text ``""``, others left out."""
        return self._without_missing(self.exact, "attribute")

    def _without_missing(self, exact: Mapping[str, Values], what: str) -> dict[str, Values]:
        found = {}
        for name, values in exact.items():
            if values.dtype.kind in "mMc":
                self.leave(f"{what} {name} ({'complex numbers' if values.dtype.kind == 'c' else 'times'})")
            elif isinstance(values, np.ma.MaskedArray):
                if not np.ma.is_masked(values):
                    found[name] = np.asarray(values.data)
                elif float64_holds(values.compressed()):
                    found[name] = np.where(np.ma.getmaskarray(values), np.nan, values.data)
                else:
                    self.leave(f"{what} {name} (some values are missing, and floats cannot hold the others)")
            elif values.dtype == object:
                found[name] = np.where(values == None, "", values).astype(np.str_)  # noqa: E711  elementwise
            else:
                found[name] = values
        return found

    @property
    def edges(self) -> IntArray | None:
        """(E, 2) rows; None for points and meshes."""
        return self._read.get("/edges")

    @property
    def faces(self) -> IntArray | None:
        """(F, W) rows; None except for meshes."""
        return self._read.get("/faces")

    @cached_property
    def link_attributes(self) -> dict[str, Values]:
        """As `exact_links`, for formats without missing values: as `attributes`."""
        return self._without_missing(self.exact_links, "link attribute")

    @cached_property
    def exact_links(self) -> dict[str, Values]:
        """(E,), (F,) or with several columns, by name, aligned with edges or faces; masked if some are missing."""
        aligned = self.geometry in ("mesh", "graph")  # what joins their vertices is itself stored
        found = self.level.link_attributes if aligned else getattr(self.level, "edge_attributes", None) or {}
        return dict(zip(found, dask.compute(*found.values()), strict=True))

    @property
    def has_objects(self) -> bool:
        """Whether the store says which object its vertices belong to."""
        return self.level._view.data.object_index is not None

    @cached_property
    def object_ids(self) -> IntArray:
        """(o,) ids of the objects present, ascending; unless they are paths, of those that own a vertex."""
        ids = np.asarray(self.level.objects.ids)
        owning = ids if LINKS.get(self.geometry) == LINKS["line"] else ids[np.isin(ids, self._owners)]
        self.leave(*(["objects that share all their vertices"] if len(owning) < len(ids) else []))
        return owning

    @cached_property
    def object_rows(self) -> tuple[IntArray, IntArray]:
        """Rows of the objects present, one after another in path order, and (o + 1,) where each begins."""
        found = path_arrays(self.level._view, self.level.objects.rows, positions=False, rows=True, whole=True)
        rows, offsets = dask.compute(found.rows, found.offsets)
        return rows, offsets

    @cached_property
    def vertex_object_ids(self) -> IntArray | None:
        """(N,) object of each vertex, the smallest of several, -1 for none; None without objects."""
        if not self.has_objects:
            return None
        return self._owners_of(0, len(self._read[None]))

    @cached_property
    def _owners(self) -> IntArray:
        """(n,) object of each vertex up to the last that has one; otherwise as `vertex_object_ids`."""
        rows, offsets = self.object_rows
        owner = np.full(int(rows.max(initial=-1)) + 1, np.iinfo(np.int64).max)
        np.minimum.at(owner, rows, np.repeat(np.asarray(self.level.objects.ids), np.diff(offsets)))
        return np.where(owner == np.iinfo(np.int64).max, -1, owner)

    def _owners_of(self, start: int, stop: int) -> IntArray:
        found = self._owners[start:stop]
        return np.pad(found, (0, stop - start - len(found)), constant_values=-1)

    @property
    def cut(self) -> bool:
        """Whether the selection may include some vertices of an object but not others."""
        selection = self.level._view.selection
        return selection.box is not None or bool(selection.conditions)

    @cached_property
    def path_rows(self) -> tuple[IntArray, IntArray, IntArray]:
        """Ids, offsets and rows of `paths`; raises SelectionError if the selection cuts them."""
        if self.cut:
            raise SelectionError("streamlines are written whole: give whole_objects=True with a box, and no where=")
        rows, offsets = self.object_rows
        ids = self.object_ids
        if self.geometry == "skeleton":
            edges = self._read["/edges"]
            parents = np.full(len(self._read[None]), -1)
            parents[edges[:, 0]] = edges[:, 1]
            rows, offsets = branches(parents)
            owners = self.vertex_object_ids
            ids = np.zeros(len(offsets) - 1, np.int64) if owners is None else owners[rows[offsets[:-1]]]
            order = np.argsort(ids, kind="stable")
            counts = np.diff(offsets)[order]
            rows, offsets, ids = rows[ranges(offsets[:-1][order], counts)], np.cumsum([0, *counts]), ids[order]
        return ids, offsets, rows

    @cached_property
    def paths(self) -> Paths:
        """Objects in path order, and the branches of skeletons; raises SelectionError if the selection cuts them."""
        ids, offsets, rows = self.path_rows
        attributes = {name: values[rows] for name, values in self.attributes.items()}
        return Paths(ids=ids, offsets=offsets, rows=rows, vertices=self.positions[rows], attributes=attributes)

    def of_paths(self, tables: Mapping[str, Values]) -> dict[str, Values]:
        """Tables of objects, as tables of `paths`."""
        at = np.searchsorted(self.object_ids, self.path_rows[0])
        return {name: values[at] for name, values in tables.items()}

    @cached_property
    def exact_objects(self) -> dict[str, Values]:
        """(o,) or (o, C) by name, aligned with `object_ids`; masked if some are stored as missing."""
        if not self.has_objects:
            return {}
        at = np.searchsorted(self.level.objects.slots, self.object_ids)
        found = _told(self.level.objects.attributes, self.level._view.data.object_attributes)
        return {name: values[at] for name, values in found.items()}

    @cached_property
    def object_attributes(self) -> dict[str, Values]:
        """As `exact_objects`, for formats without missing values: as `attributes`."""
        return self._without_missing(self.exact_objects, "object attribute")

    @cached_property
    def groups(self) -> dict[str, IntArray]:
        """Ids of the objects present in each group, by name or number."""
        groups = self.level.objects.groups
        members = [(names, groups[number]) for number, names in enumerate(groups.names or map(str, groups))]
        return {name: ids[np.isin(ids, self.object_ids)] for name, ids in members}

    @cached_property
    def exact_groups(self) -> dict[str, Values]:
        """(G,) or (G, C) by name, in the order of `groups`; as `exact_objects`."""
        return _told(self.level.objects.groups.attributes, self.level._view.data.group_attributes)

    @cached_property
    def group_attributes(self) -> dict[str, Values]:
        """As `exact_groups`, for formats without missing values: as `attributes`."""
        return self._without_missing(self.exact_groups, "group attribute")

    def frames(self) -> Iterator[Any]:
        """Pandas frames of blocks of chunks, at least one: positions, attributes, and ``object_id`` if any.

        A plane has two columns of positions; axes other than x, y and z are columns as stored. An
        attribute named like an axis or ``object_id`` gets the suffix ``_attribute``.
        """
        view, start = self.level._view, 0
        self.leave(*(f"attribute {one.attribute} (complex numbers)" for one in self._columns if one.dtype.kind == "c"))
        columns = [column for column in self._columns if column.dtype.kind != "c"]
        width = sum(column.dtype.itemsize for column in columns)
        blocks = batched(view, width / (len(view.data.store.axes) * columns[0].dtype.itemsize))
        for frame, stored in iterate_blocks(blocks, PREFETCH, partial(read_frame, columns)):
            owners = self._owners_of(start, start + len(frame)) if self.has_objects else None
            yield self._framed(frame, stored, owners)
            start += len(frame)
        if not len(view):
            arrays = dask.compute(*source_arrays(view, columns).values())
            owners = np.empty(0, np.int64) if self.has_objects else None
            yield self._framed(make_frame(columns, None, *arrays), arrays[0], owners)

    def _framed(self, frame: Any, stored: Vertices, owners: IntArray | None) -> Any:
        """Frame with positions as they are written, and objects."""
        placed = self.moved(stored)
        if placed is not stored:
            frame = placed_frame(frame, self.level.store.axes, self.axes, placed)
        if owners is not None:
            frame["object_id"] = owners
        return frame

    def leave_but(self, keeps: frozenset[str]) -> None:
        """Report everything other than positions that a format does not keep as left out.

        Parameters
        ----------
        keeps
            Some of ``attributes``, ``objects``, ``links`` (edges, faces, the order of paths), ``link_attributes``,
            ``object_attributes``, ``groups``, ``group_attributes`` and ``crs``.
        """
        data = self.level._view.data
        there = {
            "attributes": [f"attribute {name}" for name in self.attribute_names],
            "objects": ["object ids"] if self.has_objects and len(self.object_ids) > 1 else [],
            "links": [LINKS[self.geometry]] if self.geometry in LINKS else [],
            "link_attributes": [f"link attribute {name}" for name in self.level.link_attributes],
            "object_attributes": [f"object attribute {name}" for name in data.object_attributes],
            "groups": ["groups"] if self.has_objects and len(self.level.objects.groups) else [],
            "group_attributes": [f"group attribute {name}" for name in data.group_attributes],
            "crs": ["crs"] if self.crs else [],
        }
        self.leave(*(text for part, texts in there.items() if part not in keeps for text in texts))


def at_least_two(offsets: IntArray) -> tuple[IntArray, IntArray]:
    """Vertices of paths, and the number in each: a path of one vertex gets it twice, because a line needs two."""
    counts = np.diff(offsets)
    twice = np.where(counts == 1, 2, 1)
    return np.repeat(np.arange(int(offsets[-1])), np.repeat(twice, counts)), counts * twice


def placed_frame(frame: Any, axes: Sequence[str], names: Sequence[str], placed: Vertices) -> Any:
    """Pandas frame with other positions, (N, C), first, in place of the columns of the stored axes."""
    frame = frame.drop(columns=list(axes))
    for at, name in enumerate(names):
        frame.insert(at, name, placed[:, at])
    return frame


def _told(dataset: Any, arrays: Mapping[str, DenseArray]) -> dict[str, Values]:
    """Values of objects or groups; integers that their array defines as missing are masked."""
    found = {}
    for (name, array), values in zip(arrays.items(), dataset.data_vars.values(), strict=True):
        table, fill = np.asarray(values), array.attributes.get(FILL)
        found[name] = table if fill is None or table.dtype.kind not in "iu" else with_missing(table, table == fill)
    return found


def _exact(values: Values, dictionary: Dictionary | None) -> Values:
    """Stored values, with the missing ones marked."""
    if dictionary is None:
        return values
    missing = missing_codes(values, dictionary)
    if not dictionary.plain:
        known = dictionary.categories if len(dictionary.categories) else np.zeros(1, dictionary.categories.dtype)
        values = known[np.where(missing, 0, values)]
    return with_missing(values, missing)
