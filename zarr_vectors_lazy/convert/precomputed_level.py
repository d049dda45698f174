"""A level as Neuroglancer's precomputed sources: the bytes of each key, read from the chunks that it needs.

Metadata, manifests and the first vertex of each fragment are kept. Chunks are read below Dask (see `read.direct`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

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
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.model.arrays import Dictionary
from zarr_vectors_lazy.model.levels import ChunkTable, distinct_chunks
from zarr_vectors_lazy.model.objects import ranges
from zarr_vectors_lazy.model.world import World, metres
from zarr_vectors_lazy.read.columns import ColumnCells, candidate_objects, refuse_unlisted, sized
from zarr_vectors_lazy.read.direct import ChunkReader, Joins
from zarr_vectors_lazy.read.layers import cut_evenly
from zarr_vectors_lazy.read.links import PATHS
from zarr_vectors_lazy.read.objects import read_dense, read_groups
from zarr_vectors_lazy.read.store import ChainData
from zarr_vectors_lazy.read.view import LevelView
from zarr_vectors_lazy.types import BBox, BoolArray, Floats, IntArray

SECONDS = {"s", "second", "seconds"}
MOST_PROPERTIES = 8  # most numbers of each annotation or vertex: every one is another cell to read
MOST_DESCRIBED = 200_000  # most segments whose properties are given: they are in one document
MOST_SIZED = 4096  # most chunks that are asked for their number of rows if metadata do not state it
APART = 32  # bits of the row in the number of a vertex, if sizes of chunks are unknown

SLANT = 1e-6  # part of what an axis contributes to another that may be due to rounding


# ---- the spatial index: cells that are chunks, in world coordinates


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """A level of the spatial index, and the chunks from which its cells have rows.

    Parameters
    ----------
    grid
        The level.
    table, bounds, chunks
        Cells that have chunks; those of cell i are ``chunks[bounds[i]:bounds[i + 1]]``.
    cut
        Whether a chunk may have rows in several cells.
    """

    grid: Grid
    table: ChunkTable
    bounds: IntArray
    chunks: IntArray
    cut: bool

    def of(self, cell: Sequence[int]) -> IntArray:
        """Numbers of the chunks, ascending."""
        at = self.table.row(cell)
        found = self.chunks[self.bounds[at] : self.bounds[at + 1]] if at >= 0 else self.chunks[:0]
        return found if len(found) < 2 else np.sort(found)


def linear(world: World) -> tuple[Floats, Floats]:
    """(C, D) and (C,): displayed coordinates are the first times stored ones, plus the second."""
    rank = len(world.axes)
    shift = world.show(np.zeros((1, rank)))[0]
    return (world.show(np.eye(rank)) - shift).T, shift


def spatial_cells(view: LevelView, counts: Array) -> tuple[tuple[Cells, ...], BBox]:
    """Levels of a spatial index, the coarsest first, and their bounds.

    The chunks are its cells; for a level that refines others, the chunks of each. If axes are rotated, or levels do not
    nest, the cells of a single level are as large as the largest chunk, and a chunk has rows in several.

    Parameters
    ----------
    counts
        (n,) rows of each chunk.
    """
    data, coords = view.data, view.table.coords
    scale, shift = linear(data.store.world)
    parts = data.parts if isinstance(data, ChainData) else (data,)
    shapes = np.asarray([part.meta.chunk_shape for part in parts])
    ratios = shapes.max(axis=0) / shapes
    whole = np.rint(ratios).astype(np.int64)
    nested = bool((np.abs(ratios - whole) < 1e-9 * ratios).all())
    if not (len(coords) and nested and _is_straight(scale)):
        bounds, shape, size, chunks, cells = _crossing(data.placement.bounds(coords), scale, shift)
        return (_indexed("cells", shape, size, chunks=chunks, cells=cells, counts=counts, cut=True),), bounds
    axes = np.argmax(np.abs(scale), axis=1)
    signs = scale[np.arange(len(axes)), axes]
    part_of = np.searchsorted([part.meta.index for part in parts], coords[:, 0]) if len(parts) > 1 else None
    ratio = whole[0 if part_of is None else part_of]
    spatial = coords[:, coords.shape[1] - len(axes) :]
    low, high = (spatial // ratio).min(axis=0), (spatial // ratio).max(axis=0) + 1  # in chunks of the coarsest level
    ends = np.stack([low, high]) * shapes.max(axis=0)
    ends = ends[:, axes] * signs + shift
    extents = (high - low) * whole
    cells = (spatial - low * ratio)[:, axes]
    found = []
    for number, part in reversed(list(enumerate(parts))):
        mine = np.arange(len(coords)) if part_of is None else np.flatnonzero(part_of == number)
        extent = extents[number][axes]
        of_part = np.where(signs > 0, cells[mine], extent - 1 - cells[mine])
        key = "cells" if part_of is None else f"cells{part.meta.index}"
        size = np.abs(signs) * shapes[number][axes]
        found.append(_indexed(key, extent, size, chunks=mine, cells=of_part, counts=counts, cut=False))
    return tuple(found), (ends.min(axis=0), ends.max(axis=0))


def _is_straight(scale: Floats) -> bool:
    """Whether each displayed axis is a stored one, scaled or reversed."""
    there = np.abs(scale) > SLANT * np.abs(scale).max()
    return bool((there.sum(axis=0) == 1).all() and (there.sum(axis=1) == 1).all())


def _indexed(
    key: str, shape: IntArray, size: Floats, *, chunks: IntArray, cells: IntArray, counts: Array, cut: bool
) -> Cells:
    """Level of an index: (m,) chunks, and (m, D) cells that have rows of them; ``counts``: rows of each chunk."""
    table, number = distinct_chunks(cells)
    order = np.argsort(number, kind="stable")
    limit = np.bincount(number, weights=counts[chunks]).max(initial=1.0)
    grid = Grid(key, tuple(shape.tolist()), size, int(np.ceil(limit)))
    return Cells(grid, table, np.searchsorted(number[order], np.arange(len(table) + 1)), chunks[order], cut)


def _crossing(boxes: Floats, scale: Floats, shift: Floats) -> tuple[BBox, IntArray, Floats, IntArray, IntArray]:
    """Grid over the boxes that stored boxes, (n, 2, D), become, as fine as the largest; and the cells that each meets.

    Returns
    -------
    Its bounds, shape and size; and (m,) boxes, with (m, D) the cells that they meet.
    """
    ends = boxes[:, :, None, :] * scale  # (n, 2, C, D)
    lo, hi = ends.min(axis=1).sum(axis=2) + shift, ends.max(axis=1).sum(axis=2) + shift
    if not len(boxes):
        one = np.ones(len(shift))
        return (shift, shift + 1), one.astype(np.int64), one, np.empty(0, np.int64), np.empty((0, len(shift)), np.int64)
    lower, size = lo.min(axis=0), (hi - lo).max(axis=0)
    shape = np.maximum(np.ceil((hi.max(axis=0) - lower) / size - 1e-9), 1).astype(np.int64)
    first = np.clip(np.floor((lo - lower) / size), 0, shape - 1).astype(np.int64)
    last = np.clip(np.floor((hi - lower) / size), 0, shape - 1).astype(np.int64)
    spans = last - first + 1
    totals = spans.prod(axis=1)
    chunks = np.repeat(np.arange(len(boxes)), totals)
    left, cells = ranges(np.zeros(len(totals), np.int64), totals), np.empty((len(chunks), len(shift)), np.int64)
    for axis in range(len(shift)):
        left, cells[:, axis] = np.divmod(left, spans[chunks, axis])
    return (lower, lower + shape * size), shape, size, chunks, cells + first[chunks]


# ---- sources


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """A vertex attribute in the form that the viewer takes.

    Parameters
    ----------
    cells
        How it is read.
    name
        Name in the store.
    coding
        What codes stand for, if they are given with labels.
    shown
        The property of annotations.
    """

    cells: ColumnCells
    name: str
    coding: Dictionary | None
    shown: Property

    @property
    def for_skeletons(self) -> Property:
        """The same for skeletons, because the viewer (2.41) draws no integers there."""
        return replace(self.shown, dtype=np.dtype("<f4"), labels=())

    def values(self, found: Array) -> Array:
        """The values read, as numbers in the viewer's dtype; missing integers are 0."""
        if self.coding is not None:
            last = len(self.coding.categories)
            found = np.where((found >= 0) & (found < last), found, last)
        dtype = self.shown.dtype
        if dtype.kind == "f":
            with np.errstate(over="ignore"):
                return found.astype(dtype)
        return np.nan_to_num(found).astype(dtype) if found.dtype.kind == "f" else found.astype(dtype)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Entries:
    """Entries of a level's manifests, E in all.

    Parameters
    ----------
    chunks, owners
        (E,) chunk of each, -1 if it is not shown, and manifest row.
    follows
        (E,) the next shown entry of the same object, or -1.
    order, bounds
        Those of chunk i are ``order[bounds[i]:bounds[i + 1]]``.
    firsts, known
        (E, D) first vertex of each, NaN if it has none, and (n,) the chunks for which they have been read.
    """

    chunks: IntArray
    owners: IntArray
    follows: IntArray
    order: IntArray
    bounds: IntArray
    firsts: Floats
    known: BoolArray

    def of(self, chunks: IntArray) -> IntArray:
        """Entries of some chunks, one chunk after another."""
        return self.order[ranges(self.bounds[chunks], self.bounds[chunks + 1] - self.bounds[chunks])]


class PrecomputedLevel:
    """Sources of a level, or of a selection of it.

    ``points/`` and ``lines/`` are annotations, ``skeletons/`` and ``mesh/`` segments by object id; `kinds` says which
    there are. Everything is in world coordinates, with the axes of `World.shown`; lengths in an unknown unit are taken
    as nanometres.

    Parameters
    ----------
    view
        The level or selection.
    """

    def __init__(self, view: LevelView) -> None:
        self.view = view
        self.data = view.data
        self.world = view.data.store.world
        self._readers: dict[Joins, ChunkReader] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return PrecomputedLevel, (self.view,)

    @property
    def index(self) -> int:
        """Number of the level."""
        return self.data.meta.index

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """The sources, the most suitable for showing the level first."""
        geometry = set(self.data.store.geometry_types)
        index = self.data.object_index
        tells = not self.data.meta.edges_lost
        owned = index is not None and index.has_manifests and not index.lost
        found = ["mesh"] if "mesh" in geometry and tells else []
        if geometry - {"point_cloud", "mesh"} and tells:
            found += ["lines", "skeletons"] if owned else ["lines"]
        return (*found, "points")

    def get(self, path: str) -> bytes | None:
        """Bytes of a key, such as ``points/info`` or ``skeletons/17``; None if it does not exist.

        Raises
        ------
        ZVError
            If what it needs cannot be read or shown.
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
        read = self._points if kind == "points" else self._pieces_of if self.whole_paths else self._edges_of
        found, starts = read(cells.of(cell))
        if cells.cut:
            mine = (cells.grid.cells(starts, self.bounds[0]) == np.asarray(cell)).all(axis=1)
            found = found.take(np.flatnonzero(mine))
        if kind == "points":  # all lines are drawn
            found = found.shuffled(int(found.ids[0]) if len(found) else 0)
        return found.cell()

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
        """Nanometres in a unit of each of three world axes; a third axis that the store lacks is like the first."""
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
        """Levels of the spatial index: the chunks; for a level that refines others, those of each; coarsest first."""
        return self._grids[0]

    @property
    def bounds(self) -> BBox:
        """(lo, hi) of the grids."""
        return self._grids[1]

    @property
    def seen(self) -> BBox:
        """(lo, hi) of what is shown: the store's bounds, for a selection cut to its boxes and chunks."""
        view, boxes = self.view, [self.data.store.bounds]
        if view.rows is not None and len(view):
            chunks = self.data.placement.bounds(view.table.coords)
            boxes += [(chunks[:, 0].min(axis=0), chunks[:, 1].max(axis=0)), view.selection.box or boxes[0]]
        lo, hi = (join.reduce(ends) for join, ends in zip((np.fmax, np.fmin), zip(*boxes, strict=True), strict=True))
        if not (np.isfinite([lo, hi]).all() and (lo <= hi).all()):
            return self.bounds
        scale, shift = linear(self.world)
        ends = np.stack([lo, hi])[:, None, :] * scale
        return ends.min(axis=0).sum(axis=1) + shift, ends.max(axis=0).sum(axis=1) + shift

    @cached_property
    def sizes(self) -> IntArray | None:
        """(n,) rows of each chunk, from heads of cells if necessary; None for a selection, or many chunks."""
        view = self.view
        if view.sizes is None and not view.filters.any() and len(view) <= MOST_SIZED:
            return sized(view).sizes
        return view.sizes

    @cached_property
    def starts(self) -> IntArray:
        """(n + 1,) number of the first vertex of each chunk: its row, if sizes of chunks are known."""
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
        cells = ColumnCells.of(self.view, name)
        coding = None if cells.column.spec is None else cells.column.spec.dictionary
        if coding is not None and coding.categories.dtype.kind == "U" and not coding.plain:
            cells = ColumnCells.of(self.view, name, decode=False)
            last = len(coding.categories)
            labels = (*map(str, coding.categories.tolist()), "(none)")
            dtype = np.dtype("u1" if last < 2**8 else "<u2" if last < 2**16 else "<u4")
            return Given(cells, name, coding, Property(label, dtype, name, labels))
        small, shape = small_dtype(cells.column.dtype), cells.column.row_shape
        if small is None or len(shape) > 1:
            return None
        return Given(cells, name, None, Property(label, small, name, components=int(np.prod(shape, dtype=int))))

    @cached_property
    def _packed(self) -> list[tuple[Property, int, int | None]]:
        """Properties of points in the order of records: the attribute of each, and which of its numbers."""
        every: list[tuple[Property, int, int | None]] = []
        for at, given in enumerate(self.attributes):
            each = given.shown
            if not given.cells.column.row_shape:
                every.append((each, at, None))
                continue
            every += [
                (Property(f"{each.id}_{i}", each.dtype, f"{each.name} {i}"), at, i) for i in range(each.components)
            ]
        order = packing_order([each for each, _, _ in every])
        return sorted(every, key=lambda item: order.index(item[0]))

    # ---- rows

    def _shown(self, vertices: Array) -> Array:
        """(N, D) stored positions as `World.show` has them; no wider than records have them where they are these."""
        plain = self.world.plain and vertices.dtype == np.float32
        return vertices if plain else self.world.show(vertices)

    def _reader(self, joins: Joins = "") -> ChunkReader:
        """A reader of chunks, with those of their edges or faces that are needed."""
        found = self._readers.get(joins)
        if found is None:
            found = self._readers[joins] = ChunkReader(self.view, joins)
        return found

    # ---- annotations

    def annotation_info(
        self, kind: str, bounds: BBox | None = None, grids: Sequence[Grid] | None = None, index: Sharding | None = None
    ) -> dict[str, Any]:
        """The ``info`` document of points or lines, by default with the spatial index for which `get` answers."""
        paths = kind == "lines" and self.whole_paths
        if grids is None:
            grids = [cells.grid for cells in self.cells]
            if kind == "lines":
                grids = [replace(grid, limit=1) for grid in grids]  # all lines of a cell are drawn
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
        """Chunks, or objects of paths, in parts of about a given size; and roughly how many annotations there are."""
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
        """Annotations of a part: (n, D) positions of their vertices, and (n,) the annotation of each."""
        if kind == "points":
            found, positions = self._points(part)
        elif not self.whole_paths:
            found, positions = self._edges_of(part)
        else:
            found, positions = self.object_lines(part)
            return found, positions, np.repeat(np.arange(len(found)), found.words[found.offsets[:-1]].astype(np.int64))
        return found, positions, np.arange(len(found))

    def largest_id(self, kind: str) -> int:
        """An upper bound of the ids of annotations."""
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

    def _points(self, chunks: IntArray) -> tuple[Annotations, Floats]:
        read = self._reader().read(chunks, [each.cells for each in self.attributes])
        read = read.take(read.selected)
        values = [given.values(found) for given, found in zip(self.attributes, read.values, strict=True)]
        ids = ranges(self.starts[chunks], np.diff(read.starts))
        positions = self._shown(read.vertices)
        packed = [values[at] if i is None else values[at][:, i] for _, at, i in self._packed]
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
        """(n,) rows of the objects shown, and (n,) the segment of each; a single 0 for a level without objects.

        Raises
        ------
        FormatError
            If a segment is negative, which the viewer does not allow.
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
            raise FormatError(f"object {negative} cannot be shown: segments have no negative ids", where=self.data.url)
        return rows, ids[rows]

    @cached_property
    def _by_segment(self) -> tuple[IntArray, IntArray]:
        """Segments, ascending, and the manifest row of each."""
        rows, ids = self.segments
        order = np.argsort(ids, kind="stable")
        return ids[order], rows[order]

    def _row_of(self, name: str) -> int | None:
        ids, rows = self._by_segment
        segment = _number(name)
        if segment is None or segment >= 2**63:
            return None
        at = int(np.searchsorted(ids, segment))
        return int(rows[at]) if at < len(ids) and ids[at] == segment else None

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
        if rest == "0":
            return dump({"fragments": [f"{name}:0:0"]})
        return self.meshes(np.asarray([row], np.int64))[0] if rest == "0:0" else None

    def segment_info(self, kind: str, sharding: Sharding | None = None) -> dict[str, Any]:
        """The ``info`` document of skeletons or meshes."""
        if kind == "mesh":
            return mesh_info(self.described)
        properties = [each.for_skeletons for each in self.attributes]
        return skeleton_info(self.nanometres, properties, sharding, self.described)

    @cached_property
    def described(self) -> bool:
        """Whether there is a document of segment properties, `property_info`."""
        index = self.data.object_index
        return index is not None and index.count <= MOST_DESCRIBED

    def property_info(self) -> dict[str, Any]:
        """The ``props/info`` document: object attributes, and groups as tags."""
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
            found = self._objects(rows, "edges", self.attributes)
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
        """Bytes of the meshes of some objects, or of one mesh with all faces if the level has no objects."""
        found = self._objects(rows, "faces", ())
        return [encode_mesh(self._in_space(vertices) * self.nanometres, faces) for vertices, _, faces in found]

    def _entries_of(self, rows: IntArray) -> tuple[IntArray, IntArray, IntArray, IntArray]:
        """Chunks in the manifests of objects, ascending; for each entry its chunk's position, fragment and owner."""
        manifests = self.view.manifests_of(rows)
        at = self.view.table.find(manifests.chunks)
        here = at >= 0
        if self.view.rows is None:
            refuse_unlisted(self.view.source.spec.url, manifests.chunks, at)
        chunks, mine = np.unique(at[here], return_inverse=True)
        return chunks, mine.reshape(-1), manifests.fragments[here], manifests.owners[here]

    def _objects(
        self, rows: IntArray, joins: Joins, attributes: Sequence[Given]
    ) -> list[tuple[Array, list[Array], IntArray]]:
        """Vertices, values, and edges or faces of objects, each as `ZVLevel.sel` of it alone would return them."""
        index, reader, columns = self.data.object_index, self._reader(joins), [each.cells for each in attributes]
        if index is None or not index.has_manifests:
            read = reader.read(np.arange(len(self.view)), columns)
            read = read.take(read.selected)
            values = [each.values(found) for each, found in zip(attributes, read.values, strict=True)]
            return [(read.vertices, values, read.joins)]
        chunks, mine, fragments, owners = self._entries_of(rows)
        read = reader.read(chunks, columns, fragments=True)
        named, counts = read.rows_of(mine, fragments)
        owner, owners = np.full(len(read.vertices), -1), np.repeat(owners, counts)
        owner[named] = owners
        if (owner[named] != owners).any():  # objects share vertices
            return [self._objects(rows[[at]], joins, attributes)[0] for at in range(len(rows))]
        if read.selected is not None:
            owner[~read.selected] = -1
        own, joined = np.flatnonzero(owner >= 0), read.joins
        if len(own) < len(owner):
            joined = joined.compress(owner.take(joined[:, 0]) >= 0, axis=0)
        owners = owner.take(joined)
        inside = (owners == owners[:, :1]).all(axis=1)
        joined = joined if inside.all() else joined[inside]
        order, joined_order = (np.argsort(each, kind="stable") for each in (owner[own], owner[joined[:, 0]]))
        order, joined = own[order], joined[joined_order]
        bounds, joined_bounds = (
            np.searchsorted(owner[each], np.arange(len(rows) + 1)) for each in (order, joined[:, 0])
        )
        place = np.empty(len(owner), np.int64)
        place[order] = np.arange(len(order)) - bounds[owner[order]]
        values = [each.values(found) for each, found in zip(attributes, read.values, strict=True)]
        out = []
        for span, joined_span in zip(pairwise(bounds.tolist()), pairwise(joined_bounds.tolist()), strict=True):
            own, edges = order[slice(*span)], joined[slice(*joined_span)]
            out.append((read.vertices[own], [each[own] for each in values], place[edges]))
        return out

    def _in_space(self, vertices: Array) -> Floats:
        """(N, 3) world positions; a third axis that the store does not have is 0."""
        found = self.world.to_world(vertices)
        return np.pad(found, ((0, 0), (0, 3 - found.shape[1])))

    # ---- paths

    @cached_property
    def whole_paths(self) -> bool:
        """Whether lines are whole objects as manifests list them; otherwise they are single edges."""
        selection = self.view.selection
        cut = bool(selection.regions or selection.conditions or self.view.touched)
        return "skeletons" in self.kinds and not cut and set(self.data.store.geometry_types) <= PATHS

    def walk(self, rows: IntArray) -> tuple[Array, list[Array], IntArray]:
        """Positions and values of whole paths of some objects, one after another, and (o,) vertices of each."""
        chunks, mine, fragments, owners = self._entries_of(rows)
        read = self._reader().read(chunks, [each.cells for each in self.attributes], fragments=True)
        named, counts = read.rows_of(mine, fragments)
        values = [given.values(found[named]) for given, found in zip(self.attributes, read.values, strict=True)]
        return read.vertices[named], values, np.bincount(owners, counts, len(rows)).astype(np.int64)

    @cached_property
    def _line_properties(self) -> list[tuple[Property, Array]]:
        """Object attributes that are numbers, a value for each manifest row, in the order of records."""
        arrays, found = self.data.object_attributes, list[tuple[Property, Array]]()
        for name, label in zip(arrays, property_ids(list(arrays)), strict=True):
            array, dtype = arrays[name], small_dtype(arrays[name].dtype)
            own = len(array.shape) == 1 and name != "segment_id"
            if own and dtype is not None and len(found) < MOST_PROPERTIES:
                found.append((Property(label, dtype, name), read_dense(self.view.source, array).astype(dtype)))
        order = packing_order([each for each, _ in found])
        return sorted(found, key=lambda item: order.index(item[0]))

    @cached_property
    def _segment_of_row(self) -> IntArray:
        """(O,) segment of each manifest row, -1 if it is not shown."""
        found = np.full(len(self.view.manifests), -1, np.int64)
        found[self.segments[0]] = self.segments[1]
        return found

    @cached_property
    def _entries(self) -> Entries:
        manifests = self.view.manifests
        chunks = self.view.table.find(manifests.chunks)
        if self.view.rows is None:
            refuse_unlisted(self.view.source.spec.url, manifests.chunks, chunks)
        owners = manifests.owners
        chunks = np.where(self._segment_of_row[owners] >= 0, chunks, -1)
        follows = np.full(len(chunks), -1, np.int64)
        some = np.flatnonzero((owners[1:] == owners[:-1]) & (chunks[1:] >= 0))
        follows[some] = some + 1
        return Entries(
            chunks=chunks,
            owners=owners,
            follows=follows,
            order=np.argsort(chunks, kind="stable"),
            bounds=np.searchsorted(np.sort(chunks), np.arange(len(self.view) + 1)),
            firsts=np.full((len(chunks), self.data.store.ndim), np.nan),
            known=np.zeros(len(self.view), np.bool_),
        )

    def _pieces_of(self, chunks: IntArray) -> tuple[Annotations, Floats]:
        """Pieces of paths in some chunks, each with the next vertex of its path, and (n, D) where each begins."""
        known = self._entries
        after = known.follows[known.of(chunks)]
        near = known.chunks[after[after >= 0]]
        around = np.union1d(chunks, near[~known.known[near]])  # the chunks in which they continue are read with them
        entries, vertices, rows, counts = self._fragments_of(around)
        if len(around) > len(chunks):
            own = np.isin(known.chunks[entries], chunks)
            rows, entries, counts = rows[np.repeat(own, counts)], entries[own], counts[own]
        follows = self._following(entries)
        reached = np.isfinite(follows).all(axis=1)
        sizes = counts + reached
        drawn = sizes > 1
        last = np.zeros(int(sizes.sum()), np.bool_)
        last[np.cumsum(sizes)[reached] - 1] = True
        at = np.empty(len(last), np.int64)  # each vertex among those that were read, followed by the next
        at[~last], at[last] = rows, np.arange(len(vertices), len(vertices) + int(reached.sum()))
        positions = np.concatenate([vertices, follows[reached]]).take(at[np.repeat(drawn, sizes)], axis=0)
        return self._polylines(positions, sizes[drawn], known.owners[entries[drawn]])

    def _fragments_of(self, chunks: IntArray) -> tuple[IntArray, Array, IntArray, IntArray]:
        """Entries of some chunks, their vertices, the rows of each entry, and their number; first vertices are kept."""
        known = self._entries
        entries = known.of(chunks)
        read = self._reader().read(chunks, fragments=True)
        at = np.searchsorted(chunks, known.chunks[entries])
        rows, counts = read.rows_of(at, self.view.manifests.fragments[entries])
        some = counts > 0
        known.firsts[entries[some]] = read.vertices[rows[(np.cumsum(counts) - counts)[some]]]
        known.known[chunks] = True
        return entries, read.vertices, rows, counts

    def _following(self, entries: IntArray) -> Floats:
        """(e, D) the vertex that follows each entry on the path of its object; NaN if there is none."""
        known, found = self._entries, np.full((len(entries), self.data.store.ndim), np.nan)
        after = known.follows[entries]
        left = np.flatnonzero(after >= 0)
        while len(left):
            chunks = known.chunks[after[left]]
            if not known.known[chunks].all():
                self._fragments_of(np.unique(chunks[~known.known[chunks]]))
            found[left] = known.firsts[after[left]]
            left = left[np.isnan(found[left]).any(axis=1)]  # a fragment without rows: take the next one
            after[left] = known.follows[after[left]]
            left = left[after[left] >= 0]
        return found

    def _polylines(self, positions: Array, sizes: IntArray, owners: IntArray) -> tuple[Annotations, Floats]:
        values = [of_all[owners] for _, of_all in self._line_properties]
        shown = self._shown(positions)
        segments = self._segment_of_row[owners]
        return encode_polylines(shown, sizes, segments, values), shown[np.cumsum(sizes) - sizes]

    def object_lines(self, rows: IntArray) -> tuple[Annotations, Floats]:
        """Whole paths of some objects, of two vertices or more, and the positions of their vertices."""
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
        """Edges whose first end lies in some chunks, and the position of that end."""
        reader, rank = self._reader("edges"), self.data.store.ndim
        around = reader.reaches.around(chunks)
        read = reader.read(around, own=chunks)
        read = read.take(read.selected)
        edges, own = read.joins, chunks
        if len(chunks) > 1:
            own = np.repeat(around, np.diff(read.starts))[edges[:, 0]]
            order = np.argsort(own, kind="stable")
            edges, own = edges[order], own[order]
        ends = self._shown(read.vertices.take(edges.reshape(-1), axis=0)).reshape(len(edges), 2 * rank)
        ids = (own << APART) + np.arange(len(edges))
        ids = ids - np.searchsorted(own, own) if len(chunks) > 1 else ids
        return encode_shapes(ends, ids), ends[:, :rank]


def _number(text: str) -> int | None:
    """An integer in its usual notation; None for anything else."""
    plain = text.isascii() and text.isdecimal() and (text == "0" or text[0] != "0") and len(text) <= 20
    return int(text) if plain else None
