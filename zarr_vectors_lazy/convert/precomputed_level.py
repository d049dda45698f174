"""A level as Neuroglancer's precomputed sources: the bytes of each key, read from the chunks that have them.

Nothing is kept but metadata, manifests and the first vertex of each fragment. What a whole level draws is read below
Dask, by the functions that its tasks run; what depends on a selection of rows, or on links, through it.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import dask
import dask.array as da
import numpy as np

from zarr_vectors_lazy.convert.precomputed import (
    Annotations,
    Array,
    Grid,
    Property,
    Sharding,
    annotation_info,
    cell_key,
    dump,
    encode_mesh,
    encode_polylines,
    encode_shapes,
    encode_skeleton,
    mesh_info,
    packing_order,
    properties_info,
    property_ids,
    skeleton_info,
    small_dtype,
)
from zarr_vectors_lazy.convert.precomputed_cells import Cells, linear, spatial_cells
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.model.arrays import Dictionary
from zarr_vectors_lazy.model.objects import ranges
from zarr_vectors_lazy.model.world import metres
from zarr_vectors_lazy.read.batches import cut_evenly
from zarr_vectors_lazy.read.cells import read_batch, read_fragment_run, read_row_run
from zarr_vectors_lazy.read.choose import attribute_member, column_of, fragment_spec
from zarr_vectors_lazy.read.columns import attribute_array, candidate_objects, select_objects, vertices_array
from zarr_vectors_lazy.read.edges import edges_array, faces_array
from zarr_vectors_lazy.read.layers import wanted_cells
from zarr_vectors_lazy.read.links import list_cells, sized
from zarr_vectors_lazy.read.objects import read_dense, read_groups, rows_of_ids
from zarr_vectors_lazy.read.paths import PathReader, Visits, join_paths, read_paths, refuse_unlisted
from zarr_vectors_lazy.read.rows import Column, column_run
from zarr_vectors_lazy.read.tracks import owners_array, tracks_array
from zarr_vectors_lazy.read.view import FRAGMENTS, VERTICES, LevelView
from zarr_vectors_lazy.types import BBox, Floats, IntArray, Raw

PATHS = {"line", "polyline", "streamline"}
SECONDS = {"s", "second", "seconds"}
MOST_PROPERTIES = 8  # numbers of each annotation or vertex: every one is a cell more to read
MOST_DESCRIBED = 200_000  # segments whose properties are given: they are one document
MOST_SIZED = 4096  # chunks that are asked how many rows they have, where metadata do not tell
APART = 32  # bits of the row in the number of a vertex, where sizes of chunks are unknown


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """A vertex attribute as the viewer takes it.

    Parameters
    ----------
    column, member, present
        How it is read; (n,) which chunks have a cell of it.
    name
        In the store.
    coding
        What codes stand for, where they are given with labels.
    shown
        As annotations have it.
    """

    column: Column
    member: str
    present: Array
    name: str
    coding: Dictionary | None
    shown: Property

    @property
    def for_skeletons(self) -> Property:
        """The same as skeletons have it: the viewer (2.41) draws none of whole numbers."""
        return replace(self.shown, dtype=np.dtype("<f4"), labels=())

    def values(self, found: Array) -> Array:
        """What was read as numbers of the viewer's dtype; missing whole numbers are 0."""
        if self.coding is not None:
            last = len(self.coding.categories)
            found = np.where((found >= 0) & (found < last), found, last)
        dtype = self.shown.dtype
        if dtype.kind == "f":
            with np.errstate(over="ignore"):
                return found.astype(dtype)
        return np.nan_to_num(found).astype(dtype) if found.dtype.kind == "f" else found.astype(dtype)


class PrecomputedLevel:
    """Sources of a level, or of a selection of it.

    ``points/`` and ``lines/`` are annotations, ``skeletons/`` and ``mesh/`` segments by object id; which there are,
    `kinds` says. All is in world coordinates, axes as `World.shown` has them; lengths of an unknown unit are taken as
    nanometres.

    Parameters
    ----------
    view
        What is shown.
    """

    def __init__(self, view: LevelView) -> None:
        self.view = view
        self.data = view.data
        self.world = view.data.store.world
        self._firsts: dict[int, Floats] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return PrecomputedLevel, (self.view,)

    @property
    def index(self) -> int:
        """Number of the level."""
        return self.data.meta.index

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """Sources that there are, what shows the level best first."""
        geometry = set(self.data.store.geometry_types)
        index = self.data.object_index
        tells = not self.data.meta.edges_lost
        owned = index is not None and index.has_manifests and not index.lost
        found = ["mesh"] if "mesh" in geometry and tells else []
        if geometry - {"point_cloud", "mesh"} and tells:
            found += ["lines", "skeletons"] if owned else ["lines"]
        return (*found, "points")

    def get(self, path: str) -> bytes | None:
        """Bytes of a key, such as ``points/info`` or ``skeletons/17``; None where there is nothing.

        Raises
        ------
        ZVError
            If what it needs cannot be read, or cannot be shown.
        """
        kind, _, key = path.partition("/")
        if kind not in self.kinds:
            return None
        if kind in {"skeletons", "mesh"}:
            return self._described_segment(kind, key)
        if key == "info":
            return dump(self.annotation_info(kind))
        folder, _, name = key.partition("/")
        if folder == "by_id":
            number = _number(name)
            return None if number is None else (self._point if kind == "points" else self._line)(number)
        if folder == "object" and kind == "lines" and self.whole_paths:
            row = self._row_of(name)
            return None if row is None else self.object_lines(np.asarray([row], np.int64))[0].cell()
        return self._cell(kind, folder, name)

    def _cell(self, kind: str, folder: str, name: str) -> bytes | None:
        cells = next((each for each in self.cells if each.grid.key == folder), None)
        cell = [number for part in name.split("_") if (number := _number(part)) is not None]
        if cells is None or cell_key(cell) != name or len(cell) != len(cells.grid.shape):
            return None
        if any(part >= size for part, size in zip(cell, cells.grid.shape, strict=True)):
            return None
        found = (self.points_of if kind == "points" else self.lines_of)(cells, cell)
        return found.shuffled(int(found.ids[0]) if len(found) else 0).cell()

    # ---- axes, grids, attributes

    @cached_property
    def dimensions(self) -> dict[str, tuple[float, str]]:
        """Scale and unit of each axis."""
        _, names, units = self.world.shown
        out: dict[str, tuple[float, str]] = {}
        for at, (name, unit) in enumerate(zip(property_ids(names), units, strict=True)):
            size = metres(unit)
            if unit in SECONDS:
                out[name] = 1.0, "s"
            elif size is not None or at < len(self.world.names):
                out[name] = 1e-9 if size is None else float(size), "m"
            else:
                out[name] = 1.0, ""
        return out

    @cached_property
    def nanometres(self) -> tuple[float, float, float]:
        """Nanometres in a unit of each of three world axes; of a third that the store has not, those of the first."""
        found = [scale * 1e9 if unit == "m" else 1.0 for scale, unit in self.dimensions.values()][:3]
        found = [float(f"{scale:.12g}") for scale in found]
        return (*found, *found[:1] * (3 - len(found)))  # type: ignore[return-value]

    @property
    def unitless(self) -> bool:
        """Whether the store states no unit of length, so that nanometres are a guess."""
        return any(metres(unit) is None and unit not in SECONDS for unit in self.world.world_units)

    @cached_property
    def _grids(self) -> tuple[tuple[Cells, ...], BBox]:
        view = self.view
        counts = np.full(len(view), 4 * view.estimated_rows) if self.sizes is None else self.sizes
        return spatial_cells(view, counts)

    @property
    def cells(self) -> tuple[Cells, ...]:
        """Levels of the spatial index: the chunks; of a level that refines others, of each, the coarsest first."""
        return self._grids[0]

    @property
    def bounds(self) -> BBox:
        """(lo, hi) of the grids."""
        return self._grids[1]

    @property
    def seen(self) -> BBox:
        """(lo, hi) of what is shown: the store's bounds, of a selection those of its chunks."""
        lo, hi = self.data.store.bounds
        whole = self.view.rows is None and bool(np.isfinite([lo, hi]).all())
        if not whole:
            return self.bounds
        scale, shift = linear(self.world)
        ends = np.stack([lo, hi])[:, None, :] * scale
        return ends.min(axis=0).sum(axis=1) + shift, ends.max(axis=0).sum(axis=1) + shift

    @cached_property
    def sizes(self) -> IntArray | None:
        """(n,) rows of each chunk, from the heads of cells where metadata do not tell; None of a selection, of many."""
        view = self.view
        if view.sizes is None and not view.filters.any() and len(view) <= MOST_SIZED:
            return sized(view).sizes
        return view.sizes

    @cached_property
    def starts(self) -> IntArray:
        """(n + 1,) number of the first vertex of each chunk: its row, where sizes of chunks are known."""
        sizes = self.sizes
        if sizes is None:
            return np.arange(len(self.view) + 1, dtype=np.int64) << APART
        return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)

    @cached_property
    def attributes(self) -> tuple[Given, ...]:
        """The first vertex attributes that are numbers or categories, up to `MOST_PROPERTIES` numbers."""
        names, found, used = self.data.attribute_names, [], 0
        self.data.load_attributes()
        ids = dict(zip(names, property_ids(names), strict=True))
        for name in names:
            given = self._given(name, ids[name])
            if given is not None and used + given.shown.components <= MOST_PROPERTIES:
                found.append(given)
                used += given.shown.components
        return tuple(found)

    def _given(self, name: str, label: str) -> Given | None:
        column, array = column_of(self.view, name)
        coding = None if column.spec is None else column.spec.dictionary
        if coding is not None and coding.categories.dtype.kind == "U" and not coding.plain:
            column, array = column_of(self.view, name, decode=False)
            last = len(coding.categories)
            labels = (*map(str, coding.categories.tolist()), "(none)")
            dtype = np.dtype("u1" if last < 2**8 else "<u2" if last < 2**16 else "<u4")
            shown = Property(label, dtype, name, labels)
        else:
            small, coding = small_dtype(column.dtype), None
            if small is None or len(column.row_shape) > 1:
                return None
            shown = Property(label, small, name, components=int(np.prod(column.row_shape, dtype=int)))
        member, present = attribute_member(self.view, array, name, sized=column.sized)
        return Given(column, member, present, name, coding, shown)

    @cached_property
    def _packed(self) -> list[tuple[Property, int, int | None]]:
        """Properties of points in the order of records: the attribute of each, and which of its numbers."""
        every: list[tuple[Property, int, int | None]] = []
        for at, given in enumerate(self.attributes):
            each = given.shown
            if not given.column.row_shape:
                every.append((each, at, None))
                continue
            every += [
                (Property(f"{each.id}_{i}", each.dtype, f"{each.name} {i}"), at, i) for i in range(each.components)
            ]
        order = packing_order([each for each, _, _ in every])
        return sorted(every, key=lambda item: order.index(item[0]))

    # ---- rows

    def _raws(self, chunks: IntArray, members: Sequence[str]) -> dict[tuple[str, int], Raw]:
        """Encoded cells of some chunks, by member and position among them."""
        reads = self.view.reads
        wanted = []
        for name in members:
            member = reads.members[name]
            here = chunks[member.present[chunks]]
            if len(here):
                wanted.append(wanted_cells(name, member, self.view.table.coords, here))
        return read_batch(self.view.source, wanted) if wanted else {}

    def _rows(self, chunks: IntArray, attributes: Sequence[Given]) -> tuple[Array, list[Array], IntArray]:
        """Stored positions and values of all rows of some chunks, and (c + 1,) where those of each begin."""
        view = self.view
        if view.filters[chunks].any():
            return self._selected(chunks, attributes)
        view.vertex_member()
        raws = self._raws(chunks, [VERTICES, *(each.member for each in attributes)])
        numbers, spec = chunks.tolist(), self.data.vertices.spec
        coords, counts = view.table.coords[chunks], view.stored_counts
        cells = [raws[VERTICES, chunk] for chunk in numbers]
        promised = None if counts is None else counts[chunks]
        vertices, starts = read_row_run(view.source, spec, coords, cells, spec.row_shape or (), promised)
        values = [self._values(each, chunks, starts, raws) for each in attributes]
        return vertices, values, starts

    def _values(self, given: Given, chunks: IntArray, starts: IntArray, raws: Mapping[tuple[str, int], Raw]) -> Array:
        present = given.present[chunks].tolist()
        cells = [raws[given.member, chunk] for chunk in chunks[given.present[chunks]].tolist()]
        return given.values(column_run(given.column, self.view.table.coords[chunks], starts, present, cells))

    def _selected(self, chunks: IntArray, attributes: Sequence[Given]) -> tuple[Array, list[Array], IntArray]:
        """The same of the selected rows, through Dask."""
        part = self.view.take(chunks).with_chunking(None)
        arrays = [attribute_array(part, each.name, decode=each.coding is None) for each in attributes]
        positions = vertices_array(part)
        vertices, counts, *values = dask.compute(positions, _counted(positions), *arrays, scheduler="sync")
        given = [each.values(found) for each, found in zip(attributes, values, strict=True)]
        return vertices, given, np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    # ---- annotations

    def annotation_info(
        self,
        kind: str,
        bounds: BBox | None = None,
        grids: Sequence[Grid] | None = None,
        index: Sharding | None = None,
    ) -> dict[str, Any]:
        """Document ``info`` of points or lines, by default with the spatial index that `get` answers for."""
        paths = kind == "lines" and self.whole_paths
        if grids is None:
            grids = [cells.grid for cells in self.cells]
            if kind == "lines":
                grids = [replace(grid, limit=1) for grid in grids]  # all lines of a cell are to be drawn
        properties = [
            each for each, *_ in (self._packed if kind == "points" else self._line_properties if paths else ())
        ]
        return annotation_info(
            "point" if kind == "points" else "polyline" if paths else "line",
            self.dimensions,
            self.bounds if bounds is None else bounds,
            grids,
            properties=properties,
            relationships=("object",) if paths else (),
            index=index,
        )

    def parts(self, kind: str, rows: int) -> tuple[list[IntArray], float]:
        """Chunks, of paths objects, in parts of about so many vertices; and about how many annotations there are."""
        if kind == "lines" and self.whole_paths:
            objects, _ = self.segments
            entries = np.diff(self.view.manifests.offsets)[objects]
            vertices = self.view.estimated_rows * len(self.view.data.vertices.chunks)
            bounds = cut_evenly(entries, int(np.ceil(vertices / rows)))
            return [objects[start:stop] for start, stop in pairwise(bounds.tolist())], float(len(objects))
        sizes = np.full(len(self.view), self.view.estimated_rows) if self.sizes is None else self.sizes.astype(float)
        bounds = cut_evenly(sizes + 1, int(np.ceil(sizes.sum() / rows)))
        return [np.arange(start, stop) for start, stop in pairwise(bounds.tolist())], float(sizes.sum())

    def annotations(self, kind: str, part: IntArray) -> tuple[Annotations, Floats, IntArray]:
        """Annotations of a part, (n, D) where their vertices are, and (n,) the annotation of each of these."""
        if kind == "points":
            found, positions = self._points(part)
        elif not self.whole_paths:
            found, positions = self._edges_of(part)
        else:
            found, positions = self.object_lines(part)
            return found, positions, np.repeat(np.arange(len(found)), found.words[found.offsets[:-1]].astype(np.int64))
        return found, positions, np.arange(len(found))

    def largest_id(self, kind: str) -> int:
        """At least the largest id of an annotation."""
        if kind == "lines":
            return int(self.segments[1].max(initial=0)) if self.whole_paths else len(self.view) << APART
        return int(self.starts[-1])

    def index_shards(self, kind: str, sharding: Sharding) -> list[tuple[str, int]]:
        """Folders of indexes, and shards of each that may hold annotations."""
        if kind == "lines" and self.whole_paths:
            shards = np.unique(sharding.shards(self.segments[1]))
            return [(folder, shard) for folder in ("by_id", "object") for shard in shards.tolist()]
        starts = self._numbers(kind)
        first, last = sharding.shards(starts[:-1]), sharding.shards(np.maximum(starts[1:] - 1, starts[:-1]))
        return [("by_id", shard) for shard in np.unique(ranges(first, last - first + 1)).tolist()]

    def _numbers(self, kind: str) -> IntArray:
        """(n + 1,) first id of the annotations of each chunk."""
        return self.starts if kind == "points" else np.arange(len(self.view) + 1, dtype=np.int64) << APART

    def numbered(self, kind: str, sharding: Sharding, shard: int) -> Annotations:
        """Annotations of a shard, by ascending id."""
        if kind == "lines" and self.whole_paths:
            rows, segments = self.segments
            mine = rows[sharding.shards(segments) == shard]
        else:
            first, last = sharding.span(shard)
            starts = self._numbers(kind)
            mine = np.flatnonzero((starts[:-1] <= last) & (starts[1:] > first))
        found, _, _ = self.annotations(kind, mine)
        rows = np.flatnonzero(sharding.shards(found.ids) == shard)
        return found.take(rows[np.argsort(found.ids[rows], kind="stable")])

    # ---- points

    def points_of(self, cells: Cells, cell: Sequence[int]) -> Annotations:
        """Vertices in a cell."""
        found, positions = self._points(cells.of(cell))
        if not cells.cut:
            return found
        mine = (cells.grid.cells(positions, self.bounds[0]) == np.asarray(cell)).all(axis=1)
        return found.take(np.flatnonzero(mine))

    def _points(self, chunks: IntArray) -> tuple[Annotations, Floats]:
        if not len(chunks):
            vertices, values, starts = np.empty((0, self.data.store.ndim)), None, np.zeros(1, np.int64)
        else:
            vertices, values, starts = self._rows(chunks, self.attributes)
        first = self.starts[chunks]
        ids = ranges(first, np.diff(starts)) if len(chunks) else np.empty(0, np.int64)
        positions = self.world.show(vertices)
        packed = [
            np.empty(0, each.dtype) if values is None else values[at] if i is None else values[at][:, i]
            for each, at, i in self._packed
        ]
        return encode_shapes(positions, ids, packed), positions

    def _point(self, number: int) -> bytes | None:
        if number >= self.starts[-1]:
            return None
        chunk = int(np.searchsorted(self.starts, number, "right")) - 1
        found, _ = self._points(np.asarray([chunk], np.int64))
        row = number - int(self.starts[chunk])
        return found.take(np.asarray([row], np.int64)).singles(related=False)[0] if row < len(found) else None

    # ---- objects

    @cached_property
    def segments(self) -> tuple[IntArray, IntArray]:
        """(n,) rows of the objects that are shown, and (n,) the segment of each; of a level without objects one, 0.

        Raises
        ------
        FormatError
            If a segment is negative: the viewer has no such.
        """
        if self.data.object_index is None or not self.data.object_index.has_manifests:
            return np.zeros(1, np.int64), np.zeros(1, np.int64)
        view = self.view
        whole = view.rows is None
        rows = np.flatnonzero(np.diff(view.manifests.offsets) > 0) if whole else candidate_objects(view)
        ids = view.object_ids
        stated = self.data.object_attributes.get("segment_id")
        if stated is not None and stated.dtype.kind in "iu" and len(stated.shape) == 1:
            ids = read_dense(view.source, stated).astype(np.int64)
        if (ids[rows] < 0).any():
            negative = int(ids[rows].min())
            raise FormatError(f"object {negative} cannot be shown: segments are not negative", where=self.data.url)
        return rows, ids[rows]

    def _row_of(self, name: str) -> int | None:
        rows, ids = self.segments
        segment = _number(name)
        if segment is None or segment >= 2**63:
            return None
        (at,) = rows_of_ids(ids, np.asarray([segment], np.int64)).tolist()
        return None if at < 0 else int(rows[at])

    def _described_segment(self, kind: str, key: str) -> bytes | None:
        described = self.described
        if key == "info":
            return dump(self.segment_info(kind))
        if key == "props/info":
            return dump(self.property_info()) if described else None
        name, colon, rest = key.partition(":")
        row = self._row_of(name)
        if row is None or (kind == "mesh") != bool(colon):
            return None
        if kind == "skeletons":
            return self.skeletons(np.asarray([row], np.int64))[0]
        return (
            dump({"fragments": [f"{name}:0:0"]})
            if rest == "0"
            else self.meshes(np.asarray([row], np.int64))[0]
            if rest == "0:0"
            else None
        )

    def segment_info(self, kind: str, sharding: Sharding | None = None) -> dict[str, Any]:
        """Document ``info`` of skeletons or meshes."""
        if kind == "mesh":
            return mesh_info(self.described)
        properties = [each.for_skeletons for each in self.attributes]
        return skeleton_info(self.nanometres, properties, sharding, self.described)

    @cached_property
    def described(self) -> bool:
        """Whether there are properties of segments, `property_info`."""
        index = self.data.object_index
        return index is not None and index.count <= MOST_DESCRIBED

    def property_info(self) -> dict[str, Any]:
        """Document ``props/info``: object attributes, groups as tags."""
        rows, segments = self.segments
        values: dict[str, Array] = {}
        arrays = self.data.object_attributes
        for name, label in zip(arrays, property_ids(list(arrays)), strict=True):
            if name != "segment_id" and len(arrays[name].shape) == 1:
                values[label] = read_dense(self.view.source, arrays[name])[rows]
        labels = next((name for name in ("name", "label") if name in values and values[name].dtype.kind in "OU"), "")
        groups, index = {}, self.data.group_index
        if index is not None:
            known = self.view.object_ids[rows]
            for number, ids in read_groups(self.view.source, index).items():
                name = index.names[number] if number < len(index.names) else str(number)
                groups[name] = segments[np.isin(known, ids)]
        return properties_info(segments, values, groups, labels=labels)

    def skeletons(self, rows: IntArray) -> list[bytes]:
        """Bytes of the skeletons of some objects."""
        if not self.whole_paths:
            found = self._objects(rows, edges_array, self.attributes)
            return [self._skeleton(vertices, edges, values) for vertices, values, edges in found]
        vertices, values, counts = self.walk(rows)
        ends = np.cumsum(counts).tolist()
        steps = np.arange(int(counts.max(initial=1)) - 1)
        edges = np.stack([steps, steps + 1], axis=1)
        return [
            self._skeleton(vertices[start:end], edges[: max(end - start - 1, 0)], [each[start:end] for each in values])
            for start, end in pairwise([0, *ends])
        ]

    def _skeleton(self, vertices: Array, edges: IntArray, values: Sequence[Array]) -> bytes:
        return encode_skeleton(self._in_space(vertices), edges, [each.astype("<f4") for each in values])

    def meshes(self, rows: IntArray) -> list[bytes]:
        """Bytes of the meshes of some objects; one of all faces where the level has no objects."""
        found = self._objects(rows, faces_array, ())
        return [encode_mesh(self._in_space(vertices) * self.nanometres, faces) for vertices, _, faces in found]

    def _objects(
        self, rows: IntArray, joins: Callable[[LevelView], Any], attributes: Sequence[Given]
    ) -> list[tuple[Array, list[Array], IntArray]]:
        """Vertices, values, and edges or faces of objects, each as `ZVLevel.sel` of it alone gives them."""
        index, view = self.data.object_index, self.view
        owned = index is not None and index.has_manifests
        if owned:
            view = select_objects(view, view.object_ids[rows])
        arrays = [attribute_array(view, each.name, decode=each.coding is None) for each in attributes]
        together = owned and len(rows) > 1
        told = (owners_array(view), tracks_array(view, along=False)) if together else ()
        vertices, joined, arrays, told = dask.compute(vertices_array(view), joins(view), arrays, told, scheduler="sync")
        values = [each.values(found) for each, found in zip(attributes, arrays, strict=True)]
        if not together:
            return [(vertices, values, joined)]
        owners, tracks = told
        if len(tracks) != len(owners):  # objects share vertices
            return [self._objects(rows[[at]], joins, attributes)[0] for at in range(len(rows))]
        ids = self.view.object_ids[rows]
        order, joined_order = np.argsort(owners, kind="stable"), np.argsort(owners[joined[:, 0]], kind="stable")
        of_rows, of_joined = owners[order], owners[joined[joined_order, 0]]
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order)) - np.searchsorted(of_rows, of_rows)
        out = []
        for number in ids.tolist():
            mine = order[slice(*np.searchsorted(of_rows, [number, number + 1]))]
            own = joined_order[slice(*np.searchsorted(of_joined, [number, number + 1]))]
            out.append((vertices[mine], [each[mine] for each in values], place[joined[own]]))
        return out

    def _in_space(self, vertices: Array) -> Floats:
        """(N, 3) world positions; a third axis that the store has not is 0."""
        found = self.world.to_world(vertices)
        return np.pad(found, ((0, 0), (0, 3 - found.shape[1])))

    # ---- paths

    @cached_property
    def whole_paths(self) -> bool:
        """Whether lines are what manifests say of whole objects; else they are edges, one by one."""
        selection = self.view.selection
        cut = bool(selection.regions or selection.conditions or self.view.touched)
        return "skeletons" in self.kinds and not cut and set(self.data.store.geometry_types) <= PATHS

    @cached_property
    def _reader(self) -> PathReader:
        columns = tuple(each.column for each in self.attributes)
        spec = self.data.vertices.spec
        self.view.vertex_member()
        return PathReader(
            source=self.view.source, fragments=fragment_spec(self.view), vertices=spec, positions=True, columns=columns
        )

    def walk(self, rows: IntArray) -> tuple[Array, list[Array], IntArray]:
        """Positions and values of whole paths of some objects, one after another, and (o,) vertices of each."""
        view, reader = self.view, self._reader
        manifests = view.manifests_of(rows)
        at = view.table.find(manifests.chunks)
        if view.rows is None or (at < 0).any():
            refuse_unlisted(view.source, manifests, at)
        chunks, mine = np.unique(at, return_inverse=True)
        numbers, counts = chunks.tolist(), view.stored_counts
        raws = self._raws(chunks, [VERTICES, FRAGMENTS, *(each.member for each in self.attributes)])
        visits = Visits(
            mine.reshape(-1), manifests.fragments, np.arange(len(at)), manifests.owners, np.array([0, len(at)])
        )
        attributes = [
            (given.present[chunks].tolist(), [raws[given.member, c] for c in chunks[given.present[chunks]].tolist()])
            for given in self.attributes
        ]
        pieces = read_paths(
            reader,
            view.table.coords[chunks],
            None if counts is None else counts[chunks],
            visits,
            [raws[FRAGMENTS, chunk] for chunk in numbers],
            [raws[VERTICES, chunk] for chunk in numbers],
            attributes,
            None,
            (),
        )
        found = join_paths(pieces, len(rows))
        vertices, *values = found.values
        return vertices, [each.values(v) for each, v in zip(self.attributes, values, strict=True)], found.counts

    @cached_property
    def _line_properties(self) -> list[tuple[Property, Array]]:
        """Object attributes that are numbers, a value for each manifest row, in the order of records."""
        arrays, found = self.data.object_attributes, list[tuple[Property, Array]]()
        for name, label in zip(arrays, property_ids(list(arrays)), strict=True):
            dtype = small_dtype(arrays[name].dtype)
            if (
                dtype is not None
                and len(arrays[name].shape) == 1
                and len(found) < MOST_PROPERTIES
                and name != "segment_id"
            ):
                found.append((Property(label, dtype, name), read_dense(self.view.source, arrays[name]).astype(dtype)))
        order = packing_order([each for each, _ in found])
        return sorted(found, key=lambda item: order.index(item[0]))

    @cached_property
    def _entries(self) -> tuple[IntArray, IntArray, IntArray, IntArray, IntArray]:
        """Entries of the manifests.

        Of each its chunk, -1 where it is not shown, and object row; the segment of each object; entries by chunk: those
        of chunk i are the fourth's ``fifth[i]:fifth[i + 1]``.
        """
        manifests = self.view.manifests
        chunk = self.view.table.find(manifests.chunks)
        if self.view.rows is None:
            refuse_unlisted(self.view.source, manifests, chunk)
        rows, ids = self.segments
        segments = np.full(len(manifests), -1, np.int64)
        segments[rows] = ids
        owners = manifests.owners
        chunk = np.where(segments[owners] >= 0, chunk, -1)
        order = np.argsort(chunk, kind="stable")
        return chunk, owners, segments, order, np.searchsorted(chunk[order], np.arange(len(self.view) + 1))

    def lines_of(self, cells: Cells, cell: Sequence[int]) -> Annotations:
        """Lines of a cell: what objects have in it and the way to the next vertex, or edges that begin in it."""
        chunks = cells.of(cell)
        if not self.whole_paths:
            found, starts = self._edges_of(chunks)
        else:
            found, starts = self._pieces_of(chunks)
        if not cells.cut:
            return found
        mine = (cells.grid.cells(starts, self.bounds[0]) == np.asarray(cell)).all(axis=1)
        return found.take(np.flatnonzero(mine))

    def _pieces_of(self, chunks: IntArray) -> tuple[Annotations, Floats]:
        """Pieces of paths in some chunks, and (n, D) where each begins."""
        of_entry, owners, _, order, bounds = self._entries
        entries = np.sort(order[ranges(bounds[chunks], bounds[chunks + 1] - bounds[chunks])])
        if not len(entries):
            return self._polylines(np.empty((0, self.data.store.ndim)), np.empty(0, np.int64), np.empty(0, np.int64))
        run, vertices = self._fragments_of(chunks)
        manifests = self.view.manifests
        named = run.at(np.searchsorted(chunks, of_entry[entries]), manifests.fragments[entries])
        rows, counts = run.fragments.rows(named), run.fragments.counts[named]
        follows = self._following(entries)
        reached = np.isfinite(follows).all(axis=1)
        sizes = counts + reached
        positions = np.empty((int(sizes.sum()), vertices.shape[1]), np.float64)
        firsts = np.cumsum(sizes) - sizes
        positions[ranges(firsts, counts)] = vertices[rows]
        positions[(firsts + counts)[reached]] = follows[reached]
        drawn = sizes > 1
        kept = np.repeat(drawn, sizes)
        return self._polylines(positions[kept], sizes[drawn], owners[entries][drawn])

    def _fragments_of(self, chunks: IntArray) -> tuple[Any, Array]:
        """Fragments and positions of some chunks; where each fragment begins is kept."""
        view, spec = self.view, self.data.vertices.spec
        reader = self._reader
        raws = self._raws(chunks, [VERTICES, FRAGMENTS])
        numbers, coords, counts = chunks.tolist(), view.table.coords[chunks], view.stored_counts
        promised = None if counts is None else counts[chunks]
        cells = [raws[VERTICES, chunk] for chunk in numbers]
        vertices, starts = read_row_run(view.source, spec, coords, cells, spec.row_shape or (), promised)
        cells = [raws[FRAGMENTS, chunk] for chunk in numbers]
        run = read_fragment_run(view.source, reader.fragments, coords, cells, starts)
        fragments, listed = run.fragments, run.fragments.listed
        some = fragments.counts > 0
        at = fragments.first[some]
        if len(listed):
            at = np.where(fragments.explicit[some], listed[np.where(fragments.explicit[some], at, 0)], at)
        firsts = np.full((len(fragments), vertices.shape[1]), np.nan)
        firsts[some] = vertices[at]
        with self._lock:
            for number, chunk in enumerate(numbers):
                self._firsts[chunk] = firsts[run.bounds[number] : run.bounds[number + 1]]
        return run, vertices

    def _following(self, entries: IntArray) -> Floats:
        """(e, D) the vertex that follows each entry on the path of its object; NaN where none does."""
        of_entry, owners, *_ = self._entries
        fragments = self.view.manifests.fragments
        found = np.full((len(entries), self.data.store.ndim), np.nan)
        left, after = np.arange(len(entries)), entries + 1
        while True:
            there = after < len(owners)
            there[there] = (owners[after[there]] == owners[entries[left[there]]]) & (of_entry[after[there]] >= 0)
            left, after = left[there], after[there]
            if not len(left):
                return found
            unknown = np.asarray([c for c in np.unique(of_entry[after]).tolist() if c not in self._firsts], np.int64)
            if len(unknown):
                self._fragments_of(unknown)
            for chunk in np.unique(of_entry[after]).tolist():
                mine = of_entry[after] == chunk
                wanted = fragments[after[mine]]
                if len(wanted) and int(wanted.max()) >= len(self._firsts[chunk]):
                    text = f"fragment {int(wanted.max())} is named, the chunk has {len(self._firsts[chunk])}"
                    raise FormatError(text, where=self.data.url)
                found[left[mine]] = self._firsts[chunk][wanted]
            empty = np.isnan(found[left]).any(axis=1)  # a fragment without rows: the next one follows
            left, after = left[empty], after[empty] + 1

    def _polylines(self, positions: Array, sizes: IntArray, owners: IntArray) -> tuple[Annotations, Floats]:
        values = [of_all[owners] for _, of_all in self._line_properties]
        shown = self.world.show(positions)
        segments = self._entries[2][owners]
        return encode_polylines(shown, sizes, segments, values), shown[np.cumsum(sizes) - sizes]

    def object_lines(self, rows: IntArray) -> tuple[Annotations, Floats]:
        """Whole paths of some objects of two vertices and more, and where their vertices are."""
        vertices, _, counts = self.walk(rows)
        drawn = counts > 1
        kept = np.repeat(drawn, counts)
        found, _ = self._polylines(vertices[kept], counts[drawn], rows[drawn])
        return found, self.world.show(vertices[kept])

    def _line(self, number: int) -> bytes | None:
        if self.whole_paths:
            row = self._row_of(str(number))
            found = None if row is None else self.object_lines(np.asarray([row], np.int64))[0]
            return found.singles(related=True)[0] if found is not None and len(found) else None
        chunk = number >> APART
        if chunk >= len(self.view):
            return None
        found, _ = self._edges_of(np.asarray([chunk], np.int64))
        at = number & (2**APART - 1)
        return found.take(np.asarray([at])).singles(related=False)[0] if at < len(found) else None

    # ---- edges

    def _edges_of(self, chunks: IntArray) -> tuple[Annotations, Floats]:
        """Edges whose first end lies in some chunks, and where that is."""
        parts = [self._edges_of_chunk(chunk) for chunk in chunks.tolist()]
        rank = self.data.store.ndim
        ends = np.concatenate([np.empty((0, 2, len(self.world.shown[0]))), *(shown for shown, _ in parts)])
        ids = np.concatenate([np.empty(0, np.int64), *(numbers for _, numbers in parts)])
        return encode_shapes(ends.reshape(-1, 2 * rank), ids), ends[:, 0]

    def _edges_of_chunk(self, chunk: int) -> tuple[Floats, IntArray]:
        involved = self._involved(chunk)
        part = self.view.take(involved).with_chunking(None)
        positions = vertices_array(part)
        vertices, counts, edges = dask.compute(positions, _counted(positions), edges_array(part), scheduler="sync")
        starts = np.concatenate([[0], np.cumsum(counts)])
        at = int(np.searchsorted(involved, chunk))
        mine = edges[(edges[:, 0] >= starts[at]) & (edges[:, 0] < starts[at + 1])]
        shown = self.world.show(vertices)[mine]
        return shown, (chunk << APART) + np.arange(len(mine))

    def _involved(self, chunk: int) -> IntArray:
        """Chunks that the edges which begin in a chunk reach, and itself."""
        if self._reaches is None:
            return np.arange(len(self.view))
        order, bounds, ends = self._reaches
        found = ends[order[bounds[chunk] : bounds[chunk + 1]]].reshape(-1)
        return np.unique(np.append(found[found >= 0], chunk))

    @cached_property
    def _reaches(self) -> tuple[IntArray, IntArray, IntArray] | None:
        """Groups of chunks that edges join, by chunk; None where any chunk may be joined with any."""
        if set(self.data.store.geometry_types) & PATHS:
            manifests = self.view.manifests
            at = self.view.table.find(manifests.chunks)
            ends = np.stack([at[:-1], at[1:]], axis=1)[np.diff(manifests.owners) == 0]
            ends = np.unique(ends[ends[:, 0] != ends[:, 1]], axis=0)
        else:
            family = self.data.links(0)
            if family is not None and family.table is not None:
                return None
            ends = np.empty((0, 2), np.int64) if family is None else list_cells(self.view, family, cut=True).ends
        chunk = ends.reshape(-1)
        number = np.repeat(np.arange(len(ends)), ends.shape[1])
        order = np.argsort(chunk, kind="stable")
        bounds = np.searchsorted(chunk[order], np.arange(len(self.view) + 1))
        return number[order], bounds, ends


def _counted(positions: da.Array) -> da.Array:
    """Rows of each block."""
    chunks = ((1,) * positions.numblocks[0],)
    counts: da.Array = da.map_blocks(_rows_of_block, positions, drop_axis=1, chunks=chunks, dtype=np.int64)
    return counts


def _rows_of_block(block: Array) -> IntArray:
    return np.array([len(block)])


def _number(text: str) -> int | None:
    """A whole number in its usual spelling; None: it is none."""
    plain = text.isascii() and text.isdecimal() and (text == "0" or text[0] != "0") and len(text) <= 20
    return int(text) if plain else None
