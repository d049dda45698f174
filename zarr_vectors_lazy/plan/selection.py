"""What rows must meet: boxes, distances, values; and the chunks that may hold such rows."""

import math
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import count, repeat
from typing import Any, ClassVar, TypeAlias

import numpy as np

from zarr_vectors_lazy.errors import SelectionError, counted, listed, meant
from zarr_vectors_lazy.model.levels import ChunkTable
from zarr_vectors_lazy.model.world import World, by_axes
from zarr_vectors_lazy.types import Array, BBox, BoolArray, ChunkCoords, Floats, IntArray, Vertices

# Where the vertices of a chunk lie, and which chunks a box needs.
#
# A vertex lies in chunk floor(position / chunk shape), in float64 (spec 0.9, 4.2). Coarse levels of zarr-vectors-
# tools 0.3.0 break that rule by up to a bin (spec next, 14).

WHOLE = 1e-6  # tolerance of a quotient that counts as whole


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Placement:
    """Where the vertices of the chunks of a level lie.

    Parameters
    ----------
    chunk_shape
        (D,) edge lengths of a chunk.
    bin_shape
        (D,) edge lengths of bins, a whole number of which makes a chunk; ``chunk_shape`` if there are none.
    strays
        Edge lengths, each (D,), of bins whose rows are stored in a chunk that the bin meets, but may lie outside it.
    known
        False if a chunk's coordinate does not show what it holds.
    """

    chunk_shape: Floats
    bin_shape: Floats
    strays: tuple[Floats, ...] = ()
    known: bool = True

    def spatial(self, coords: ChunkCoords) -> ChunkCoords:
        """(n, D) the spatial components of (n, K) chunk coordinates, which are the last."""
        return coords[:, coords.shape[1] - len(self.chunk_shape) :]

    def bounds(self, coords: ChunkCoords) -> Floats:
        """(n, 2, D) lower and upper corner of the region in which the vertices of (n, K) chunks lie."""
        spatial = self.spatial(coords)
        out = np.stack([spatial * self.chunk_shape, (spatial + 1) * self.chunk_shape], axis=1)
        for edge in self.strays:
            first, last = spatial * self.chunk_shape / edge, (spatial + 1) * self.chunk_shape / edge
            lower, upper = np.floor(_whole(first)) * edge, np.ceil(_whole(last)) * edge
            # Means were rounded to float32, also outwards.
            out[:, 0] = np.minimum(out[:, 0], np.nextafter(lower.astype(np.float32), np.float32(-np.inf)))
            out[:, 1] = np.maximum(out[:, 1], np.nextafter(upper.astype(np.float32), np.float32(np.inf)))
        return out

    def meets(self, coords: ChunkCoords, box: BBox) -> tuple[BoolArray, BoolArray]:
        """Find the chunks, (n, K), that may hold vertices of a box, and those whose vertices must all lie in it."""
        if not self.known:  # bins that do not tile chunks, or none stated: any chunk may hold anything
            return np.ones(len(coords), np.bool_), np.zeros(len(coords), np.bool_)
        if not self.strays:
            return chunks_in_box(coords, self.chunk_shape, self.bin_shape, box)
        bounds = self.bounds(coords)
        touched = ((bounds[:, 0] <= box[1]) & (bounds[:, 1] >= box[0])).all(axis=1) & bool((box[0] <= box[1]).all())
        inside = ((bounds[:, 0] >= box[0]) & (bounds[:, 1] <= box[1])).all(axis=1)
        return np.asarray(touched), np.asarray(touched & inside)

    def outside(self, vertices: Vertices, coord: ChunkCoords) -> BoolArray:
        """(N,) whether vertices, (N, D), of the chunk at (K,) lie clearly outside the region of the chunk."""
        if not self.known or not len(vertices):
            return np.zeros(len(vertices), np.bool_)
        out = outside_chunk(vertices, self.spatial(coord[None])[0].astype(np.float64), self.chunk_shape)
        if self.strays and out.any():
            (lo, hi) = self.bounds(coord[None])[0]
            beyond = (vertices[out] < lo) | (vertices[out] > hi)
            out[out] = beyond.any(axis=1)
        return out

    def reach(self, vertices: Vertices, coord: ChunkCoords) -> tuple[int, float]:
        """How many vertices, (N, D), lie outside the chunk at (K,), and how far the farthest is, along an axis."""
        lower = self.spatial(coord[None])[0] * self.chunk_shape
        far = np.maximum(lower - vertices, vertices - (lower + self.chunk_shape)).max(axis=1, initial=0.0)
        return int(np.count_nonzero(far > 0)), float(far.max(initial=0.0))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StackedPlacement(Placement):
    """Where the vertices of the chunks of several levels lie; the first component of a chunk names the level."""

    levels: Mapping[int, Placement]

    @classmethod
    def of_levels(cls, levels: Mapping[int, Placement]) -> "StackedPlacement":
        """Make it from the placement of each level, the finest first."""
        first = next(iter(levels.values()))
        known = all(placement.known for placement in levels.values())
        return cls(chunk_shape=first.chunk_shape, bin_shape=first.bin_shape, known=known, levels=levels)

    def bounds(self, coords: ChunkCoords) -> Floats:
        """(n, 2, D) lower and upper corner of the region in which the vertices of (n, K) chunks lie."""
        out = np.empty((len(coords), 2, len(self.chunk_shape)))
        for level, placement in self.levels.items():
            at = coords[:, 0] == level
            out[at] = placement.bounds(coords[at])
        return out

    def meets(self, coords: ChunkCoords, box: BBox) -> tuple[BoolArray, BoolArray]:
        """Find the chunks, (n, K), that may hold vertices of a box, and those whose vertices must all lie in it."""
        touched, inside = np.zeros((2, len(coords)), np.bool_)
        for level, placement in self.levels.items():
            at = coords[:, 0] == level
            touched[at], inside[at] = placement.meets(coords[at], box)
        return touched, inside

    def outside(self, vertices: Vertices, coord: ChunkCoords) -> BoolArray:
        """(N,) whether vertices, (N, D), of the chunk at (K,) lie clearly outside the region of the chunk."""
        return self.levels[int(coord[0])].outside(vertices, coord)


def outside_chunk(vertices: Vertices, coord: Floats, chunk_shape: Floats) -> BoolArray:
    """(N,) whether a vertex lies clearly outside its chunk: by more than float32 rounding of the quotient."""
    at = vertices.astype(np.float64, copy=False) / chunk_shape - coord
    slack = 4 * np.finfo(np.float32).eps * (1 + np.abs(coord))
    return np.asarray(((at < -slack) | (at > 1 + slack)).any(axis=1))


def chunks_in_box(
    coords: ChunkCoords, chunk_shape: Floats, bin_shape: Floats, box: BBox
) -> tuple[BoolArray, BoolArray]:
    """Distinguish the chunks that may hold vertices of a box from those that cannot.

    Parameters
    ----------
    coords
        (n, K) chunk coordinates; the last D of the K components are spatial.
    chunk_shape
        (D,) edge lengths.
    bin_shape
        (D,) edge lengths of bins, a whole number of which makes a chunk; ``chunk_shape`` if there are none.
    box
        (lo, hi), inclusive.

    Returns
    -------
    touched
        (n,) whether the chunk can hold a vertex of the box. Division and floor are monotone, so no vertex of the box
        lies outside the chunks from that of ``lo`` to that of ``hi``.
    inside
        (n,) whether everything that the chunk can hold is in the box: strictly between those two.
    """
    spatial = coords[:, coords.shape[1] - len(chunk_shape) :]
    first, last = (_chunks_of(corner, chunk_shape, bin_shape) for corner in box)
    touched = ((spatial >= first[0]) & (spatial <= last[1])).all(axis=1) & bool((box[0] <= box[1]).all())
    above, below = (spatial > first[1]) | (box[0] == -np.inf), (spatial < last[0]) | (box[1] == np.inf)
    return np.asarray(touched), np.asarray(touched & (above & below).all(axis=1))


def _chunks_of(corner: Floats, chunk_shape: Floats, bin_shape: Floats) -> Floats:
    """(2, D) lowest and highest chunk in which writers may put a position.

    Some divide by the chunk's edge and some by the bin's (spec 0.9, 5.1), which may round differently: 0.3 / 0.3 is 1,
    but 0.3 / 0.1 is less than 3.
    """
    by_bin = np.floor(np.floor(corner / bin_shape) / np.rint(chunk_shape / bin_shape))
    return np.sort([np.floor(corner / chunk_shape), by_bin], axis=0)


def _whole(quotient: Floats) -> Floats:
    near = np.rint(quotient)
    return np.where(np.abs(quotient - near) <= WHOLE * np.maximum(1, np.abs(near)), near, quotient)


# Boxes that users type, in stored or world coordinates: which chunks they need, and which rows lie in them.


@dataclass(frozen=True, eq=False)
class Region:
    """The union of some boxes: both faces inclusive, compared in float64.

    Parameters
    ----------
    lo, hi
        (n, C) corners; ends may be infinite, and a box whose lower end is above its upper one is empty.
    world
        For world coordinates: how positions become these; C is then the number of world columns, otherwise D.
    """

    lo: Floats
    hi: Floats
    world: World | None = None

    @classmethod
    def of(cls, box: BBox) -> "Region":
        """Return the region of one box in stored coordinates."""
        return cls(box[0][None], box[1][None])

    @property
    def is_box(self) -> bool:
        """Whether it is a single box in stored coordinates."""
        return len(self.lo) == 1 and self.world is None

    def stored(self) -> tuple[Floats, Floats]:
        """(n, D) corners of boxes in stored coordinates that enclose it."""
        return (self.lo, self.hi) if self.world is None else self.world.stored_boxes(self.lo, self.hi)

    @property
    def bounds(self) -> BBox:
        """Box in stored coordinates that encloses it."""
        lo, hi = self.stored()
        return lo.min(axis=0, initial=np.inf), hi.max(axis=0, initial=-np.inf)

    def rows(self, vertices: Vertices) -> BoolArray:
        """(N,) whether each stored position lies in it."""
        points = vertices if self.world is None else self.world.to_world(vertices)
        if len(self.lo) == 1:
            return rows_in_box(points, (self.lo[0], self.hi[0]))
        mask = np.zeros(len(points), np.bool_)
        if len(points):
            first, last = np.fmin.reduce(points, axis=0), np.fmax.reduce(points, axis=0)
            # if there are many, only those near
            for box in np.flatnonzero(~((self.lo > last) | (self.hi < first)).any(axis=1)):
                mask |= rows_in_box(points, (self.lo[box], self.hi[box]))
        return mask

    def chunks(self, coords: ChunkCoords, placement: Placement) -> tuple[BoolArray, BoolArray]:
        """Find the chunks, (n, K), that may hold vertices of it, and those whose vertices must all lie in it."""
        lo, hi = self.stored()
        touched, inside = np.zeros((2, len(coords)), np.bool_)
        slabs: Iterable[Any] = repeat(slice(None))
        if len(lo) > 1 and placement.known:
            slabs = _slabs(lo[:, 0], hi[:, 0], coords, placement)
        for box, near in zip(zip(lo, hi, strict=True), slabs, strict=False):
            meets, holds = placement.meets(coords[near], box)
            touched[near] |= meets
            inside[near] |= holds
        return touched, inside if self.world is None else np.zeros(len(coords), np.bool_)

    def __and__(self, other: "Region") -> "Region":
        """Intersection of two boxes."""
        return Region(np.maximum(self.lo, other.lo), np.minimum(self.hi, other.hi))

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        # As lists: Dask uses the text of what is returned here, and that of an array is rounded.
        world = None if self.world is None else (self.world.axes, *map(_listed, (self.world.offset, self.world.affine)))
        return ("region", self.lo.tolist(), self.hi.tolist(), world)


def _listed(array: Floats | None) -> list[Any] | None:
    return None if array is None else array.tolist()


def _slabs(
    first: Floats, last: Floats, coords: ChunkCoords, placement: Placement
) -> Iterator[np.ndarray[Any, np.dtype[np.intp]]]:
    """For many boxes, the chunks that each has to consider: those near its interval of the first axis."""
    lower, upper = placement.bounds(coords)[:, :, 0].T
    order, margin = np.argsort(lower, kind="stable"), 2 * (upper - lower).max(initial=0.0)
    starts = np.searchsorted(lower[order], first - margin)
    stops = np.searchsorted(lower[order], last + margin, side="right")
    return (order[start:stop] for start, stop in zip(starts.tolist(), stops.tolist(), strict=True))


def parse_region(
    bbox: Any, slices: Mapping[str, Any], axes: Sequence[str], world: World | None = None
) -> Region | None:
    """Region from ``sel``'s arguments, in float64; None if there are none.

    Parameters
    ----------
    bbox
        (lo, hi), several of them, or None.
    slices
        ``slice(lo, hi)`` or ``(lo, hi)`` by axis name; an open end is infinite.
    axes
        The store's axis names.
    world
        The world whose coordinates the numbers are; None for stored ones.

    Raises
    ------
    SelectionError
        If a box is malformed or an axis unknown.
    """
    names = list(axes if world is None else world.names)
    lo, hi = np.full((2, 1, len(names)), [[[-np.inf]], [[np.inf]]])
    if bbox is not None:
        lo, hi = _corners(bbox, names)
    for name, part in slices.items():
        known = name.lower() if world is not None and name not in names else name
        if known not in names:
            of = "" if world is None else " of the world"
            raise SelectionError(f"no axis {name!r}; the axes{of} are {listed(names)}{meant(name, names)}")
        axis, (first, last) = names.index(known), _ends(name, part)
        lo[:, axis], hi[:, axis] = np.maximum(lo[:, axis], first), np.minimum(hi[:, axis], last)
    if bbox is None and not slices:
        return None
    return Region(lo, hi, None if world is None or world.plain else world)


def _corners(bbox: Any, names: Sequence[str]) -> tuple[Floats, Floats]:
    """(n, C) corners of one or more boxes."""
    ndim = len(names)
    wanted = f"bbox= must be (lo, hi), {counted(ndim, 'number')} each, or several of these"
    alone = f"for some axes alone: {names[0]}=slice(lo, hi)"
    try:
        parts = [np.asarray(np.ma.filled(np.ma.asanyarray(part, np.float64), np.nan)) for part in bbox]
    except (TypeError, ValueError, OverflowError) as error:
        found = f"a {type(bbox).__name__}" if hasattr(bbox, "columns") else repr(bbox)
        raise SelectionError(f"{wanted}; found {found}; {alone}") from error
    shapes = {part.shape for part in parts} or {np.shape(bbox)[1:]}
    several = shapes == {(2, ndim)}
    if not several and (shapes != {(ndim,)} or len(parts) != 2):
        short = all(part.shape[-1:] < (ndim,) for part in parts)
        hint = f"; {alone}" if short else ""
        if (shapes, len(parts)) in (({()}, 2 * ndim), ({(2,)}, ndim)):  # flat, or (lo, hi) of each axis
            lo, hi = np.reshape(parts, (2, ndim)) if shapes == {()} else np.transpose(parts)
            hint = f"; did you mean {(lo.tolist(), hi.tolist())}?"
        found = f"shapes {', '.join(str(part.shape) for part in parts[:4])}" if shapes - {()} else repr(bbox)
        raise SelectionError(f"{wanted}; found {found}{hint}")
    corners = np.reshape(parts, (-1, 2, ndim))
    lo, hi = corners[:, 0], corners[:, 1]
    if np.isnan(corners).any():
        raise SelectionError(f"bbox= has NaN: {bbox!r}")
    if (lo > hi).any():
        box, axis = np.argwhere(lo > hi)[0]
        which = f" of box {box}" if several else ""
        raise SelectionError(f"bbox= has lo > hi on axis {axis}{which}: lo {lo[box].tolist()}, hi {hi[box].tolist()}")
    return lo.copy(), hi.copy()


def _ends(name: str, part: Any) -> tuple[float, float]:
    """Ends of ``x=slice(lo, hi)``."""
    if isinstance(part, tuple | list | np.ndarray) and len(part) == 2:
        part = slice(*part)
    if not isinstance(part, slice) or part.step is not None:
        raise SelectionError(f"{name}= must be slice(lo, hi) or (lo, hi), found {part!r}")
    first, last = _end(part.start, -np.inf, name), _end(part.stop, np.inf, name)
    if first > last:
        raise SelectionError(f"{name}=slice({first:g}, {last:g}) has its lower end above its upper end")
    return first, last


def _end(value: Any, default: float, name: str) -> float:
    if value is None:
        return default
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise SelectionError(f"{name}= must be slice(lo, hi) or (lo, hi) of numbers, found {value!r}") from error
    if np.isnan(number):
        raise SelectionError(f"{name}= has NaN")
    return number


def rows_in_box(vertices: Vertices, box: BBox) -> BoolArray:
    """(N,) whether each vertex lies in the box, both faces included, compared in float64."""
    mask = np.ones(len(vertices), np.bool_)
    for axis, (lo, hi) in enumerate(zip(*box, strict=True)):
        column = vertices[:, axis].astype(np.float64, copy=False)
        if lo > -np.inf:
            mask &= column >= lo
        if hi < np.inf:
            mask &= column <= hi
    return mask


# What is near some points: the nearest vertices, reading only chunks that may have them; balls.

Reader: TypeAlias = Callable[[IntArray], tuple[IntArray, Vertices, IntArray]]
"""Returns, for (m,) boxes, ascending, the rows of their points, (p, D) positions, and (m,) points in each."""
MOST_PAIRS = 2_000_000  # pairs of points and boxes, or points and points, held at once
SLACK = 4 * float(np.finfo(np.float32).eps)  # by which float32 rounding may put a vertex outside its chunk


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
    """Boxes that contain points.

    Parameters
    ----------
    lo, hi
        (K, D) corners.
    counts
        (K,) points in each.
    """

    lo: Floats
    hi: Floats
    counts: IntArray

    def __len__(self) -> int:
        return len(self.lo)

    @classmethod
    def of_chunks(cls, bounds: Floats, counts: IntArray, *, known: bool) -> "Boxes":
        """Boxes of chunks, (K, 2, D) corners; unless ``known``, their points may be anywhere."""
        lo, hi = bounds[:, 0], bounds[:, 1]
        if not known:
            return cls(np.full_like(lo, -np.inf), np.full_like(hi, np.inf), counts)
        slack = SLACK * (np.abs(lo) + np.abs(hi) + (hi - lo))
        return cls(lo - slack, hi + slack, counts)

    @classmethod
    def of_points(cls, positions: Vertices) -> "Boxes":
        """A single box of known points."""
        points = np.asarray(positions, np.float64)
        lo, hi = points.min(axis=0, initial=np.inf), points.max(axis=0, initial=-np.inf)
        return cls(lo[None], hi[None], np.array([len(points)]))

    @classmethod
    def joined(cls, parts: Sequence["Boxes"], ndim: int) -> "Boxes":
        """Boxes of several, one after another."""
        none = np.empty((0, ndim))
        return cls(
            np.concatenate([none, *(part.lo for part in parts)]),
            np.concatenate([none, *(part.hi for part in parts)]),
            np.concatenate([np.empty(0, np.int64), *(part.counts for part in parts)]),
        )

    def distances(self, points: Floats) -> Floats:
        """(n, K) least distance that a point of each box may have; infinite for empty boxes."""
        gap = np.maximum(np.maximum(self.lo - points[:, None], points[:, None] - self.hi), 0)
        return np.where(self.counts > 0, np.sqrt((gap**2).sum(axis=2)), np.inf)


def nearest_rows(points: Floats, k: int, boxes: Boxes, read: Reader) -> tuple[IntArray, Floats]:
    """Rows of the k nearest to each point, and their distances, both (n, k): among equal ones the lowest row first.

    Boxes are read in two rounds, each of them concurrently: the nearest ones with k points, then those that may have
    nearer ones. If there are fewer than k, the row is -1 and the distance infinite.
    """
    rows, far = np.full((len(points), k), -1, np.int64), np.full((len(points), k), np.inf)
    step = max(1, MOST_PAIRS // max(len(boxes), 1))
    for start in range(0, len(points), step):
        part = slice(start, start + step)
        rows[part], far[part] = _nearest(points[part], k, boxes, read)
    return rows, far


def _nearest(points: Floats, k: int, boxes: Boxes, read: Reader) -> tuple[IntArray, Floats]:
    found = np.full((len(points), k), -1, np.int64), np.full((len(points), k), np.inf)
    if not len(boxes) or not len(points):
        return found
    least = boxes.distances(points)
    order = np.argsort(least, axis=1, kind="stable")
    before = np.cumsum(boxes.counts[order], axis=1) - boxes.counts[order]
    wanted: BoolArray = np.zeros(least.shape, np.bool_)
    np.put_along_axis(wanted, order, before < k, axis=1)
    wanted &= least < np.inf
    found = _among(points, found, wanted, read)
    more = ~wanted & (least <= found[1][:, -1:]) & (least < np.inf)
    return _among(points, found, more, read)


def _among(
    points: Floats,
    found: tuple[IntArray, Floats],
    wanted: np.ndarray[tuple[int, int], np.dtype[np.bool_]],
    read: Reader,
) -> tuple[IntArray, Floats]:
    """The nearest among those found and the points of further boxes; (n, K) which point needs which box."""
    boxes = np.flatnonzero(wanted.any(axis=0))
    if not len(boxes):
        return found
    rows, positions, counts = read(boxes)
    starts = np.concatenate([[0], np.cumsum(counts)])
    best_rows, best = found[0].copy(), found[1].copy()
    for number, box in enumerate(boxes.tolist()):
        at = slice(starts[number], starts[number + 1])
        of_box, coordinates = rows[at], np.asarray(positions[at], np.float64)
        asking = np.flatnonzero(wanted[:, box])
        steps = min(len(asking), -(-len(asking) * len(of_box) // MOST_PAIRS))
        for some in np.array_split(asking, max(steps, 1)):
            best_rows[some], best[some] = _merged(points[some], best_rows[some], best[some], of_box, coordinates)
    return best_rows, best


def _merged(
    points: Floats, rows: IntArray, far: Floats, others: IntArray, positions: Floats
) -> tuple[IntArray, Floats]:
    k = rows.shape[1]
    between = distances(points, positions)
    every = np.concatenate([far, between], axis=1)
    names = np.concatenate([rows, np.broadcast_to(others, between.shape)], axis=1)
    if every.shape[1] > 4 * k:  # all that are no farther than the k-th, among which rows decide
        limit = np.partition(every, k - 1, axis=1)[:, k - 1 : k]
        width = int((every <= limit).sum(axis=1).max())
        kept = np.argsort(every > limit, axis=1, kind="stable")[:, :width]
        every, names = np.take_along_axis(every, kept, axis=1), np.take_along_axis(names, kept, axis=1)
    order = np.lexsort((names, every), axis=1)[:, :k]
    return np.take_along_axis(names, order, axis=1), np.take_along_axis(every, order, axis=1)


@dataclass(frozen=True, eq=False)
class Near:
    """Everything within a distance of one of some points; a region, in stored coordinates.

    Parameters
    ----------
    points
        (n, D) float64.
    radius
        The distance.
    """

    points: Floats
    radius: float
    is_box: ClassVar[bool] = False

    @property
    def bounds(self) -> BBox:
        """Box in stored coordinates that encloses it."""
        lo, hi = self.points.min(axis=0, initial=np.inf), self.points.max(axis=0, initial=-np.inf)
        return lo - self.radius, hi + self.radius

    def rows(self, vertices: Vertices) -> BoolArray:
        """(N,) whether each stored position lies in it."""
        mask = np.zeros(len(vertices), np.bool_)
        if not len(vertices):
            return mask
        points = vertices.astype(np.float64, copy=False)
        first, last = points.min(axis=0) - self.radius, points.max(axis=0) + self.radius
        near = self.points[((self.points >= first) & (self.points <= last)).all(axis=1)]
        step = max(1, MOST_PAIRS // len(points))
        for start in range(0, len(near), step):
            mask |= (distances(near[start : start + step], points) <= self.radius).any(axis=0)
        return mask

    def chunks(self, coords: ChunkCoords, placement: Placement) -> tuple[BoolArray, BoolArray]:
        """Find the chunks, (n, K), that may hold vertices of it; none is sure to lie in it completely."""
        boxes = Boxes.of_chunks(placement.bounds(coords), np.ones(len(coords), np.int64), known=placement.known)
        touched = np.zeros(len(coords), np.bool_)
        step = max(1, MOST_PAIRS // max(len(coords), 1))
        for start in range(0, len(self.points), step):
            touched |= (boxes.distances(self.points[start : start + step]) <= self.radius).any(axis=0)
        return touched, np.zeros(len(coords), np.bool_)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return ("near", self.points.tolist(), self.radius)


def distances(points: Floats, others: Floats) -> Floats:
    """(n, m) distances between two sets of points."""
    squares = sum((points[:, d, None] - others[:, d]) ** 2 for d in range(points.shape[1]))
    return np.asarray(np.sqrt(squares))


def parse_points(value: Any, axes: Sequence[str]) -> Floats:
    """(n, D) points from a user, (1, D) for a single one; raises SelectionError."""
    ndim, value = len(axes), by_axes(value, axes)
    try:
        points = np.atleast_2d(np.ma.filled(np.ma.asanyarray(value, np.float64), np.nan))
    except (TypeError, ValueError) as error:
        raise SelectionError(f"points must be (n, {ndim}) numbers, found {value!r}") from error
    if points.size == 0:
        points = points.reshape(0, ndim)
    if points.shape[1:] != (ndim,) or not np.isfinite(points).all():
        raise SelectionError(f"points must be (n, {ndim}) finite numbers, found shape {np.shape(value)}")
    return points


# Values that rows must have: ``where=`` and ``attribute_filter=``, checked against the dtype.

Column: TypeAlias = Array
_KINDS = {"U": "text", "M": "a time", "b": "a number"}


@dataclass(frozen=True, slots=True, eq=False)
class Between:
    """Values from lo to hi, both included, in the order of their dtype; text by code point.

    Parameters
    ----------
    lo, hi
        Ends; None leaves one open.
    fill
        The stored integer that stands for a missing value, or None.
    """

    lo: Any
    hi: Any
    fill: int | None = None
    missing = False

    def __call__(self, column: Column) -> BoolArray:
        """(n,) mask of a (n,) column, or of (n, C) rows whose values all pass."""
        mask = self.among(column)
        if self.fill is not None or (self.lo is None and self.hi is None):  # NaN lies between no others
            mask &= ~missing_in(column, self.fill)
        return np.asarray(mask.all(axis=tuple(range(1, mask.ndim))) if mask.ndim > 1 else mask, np.bool_)

    def among(self, values: Column) -> BoolArray:
        """Mask of values none of which is missing, in their shape."""
        mask = np.ones(values.shape, np.bool_)
        if self.lo is not None:
            mask &= values >= self.lo
        if self.hi is not None:
            mask &= values <= self.hi
        return mask


@dataclass(frozen=True, slots=True, eq=False)
class AnyOf:
    """Values that are among given ones.

    Parameters
    ----------
    values
        (n,) of the column's dtype.
    missing
        Whether missing values pass too.
    fill
        As for `Between`.
    """

    values: Column
    missing: bool = False
    fill: int | None = None

    def __call__(self, column: Column) -> BoolArray:
        """(n,) mask of a (n,) column."""
        if column.ndim > 1:
            raise SelectionError(
                f"each vertex has {counted(column.shape[1], 'value')}: only a range (lo, hi) is possible"
            )
        if not self.missing and self.fill is None:
            return self.among(column)
        return np.where(missing_in(column, self.fill), self.missing, self.among(column))

    def among(self, values: Column) -> BoolArray:
        """Mask of values none of which is missing, in their shape."""
        return np.isin(values, self.values)


Test: TypeAlias = Between | AnyOf


def missing_in(column: Column, fill: int | None = None) -> BoolArray:
    """Mask of missing values: NaN, NaT, empty text, or the integer that stands for them."""
    if column.dtype.kind == "U":
        return np.asarray(column == "", np.bool_)
    if column.dtype.kind in "fcmM":
        return np.isnan(column)
    return np.zeros(column.shape, np.bool_) if fill is None else np.asarray(column == fill, np.bool_)


def parse_test(name: str, wanted: Any, dtype: np.dtype[Any], fill: int | None = None) -> Test:
    """Test of one attribute's values.

    Parameters
    ----------
    name, dtype, fill
        The attribute, the dtype of its values, and the integer that stands for missing ones.
    wanted
        A tuple of two or a slice: a range. A list, set, array or other collection: membership. None: missing values.
        Anything else: one value.

    Raises
    ------
    SelectionError
        If a range does not have two ascending ends, or if a value is NaN or of another kind than the attribute.
    """
    if isinstance(wanted, slice):
        if wanted.step is not None:
            raise _refused(name, wanted, "a range cannot have a step")
        wanted = (wanted.start, wanted.stop)
    if isinstance(wanted, tuple):
        if len(wanted) != 2:
            raise _refused(
                name,
                wanted,
                f"a tuple is a range (lo, hi), but this one has {counted(len(wanted), 'value')}; "
                "use a list to match several",
            )
        lo, hi = (None if end is None else _checked(name, wanted, end, dtype) for end in wanted)
        if lo is not None and hi is not None and lo > hi:
            raise _refused(name, wanted, "the range has lo > hi")
        if dtype.kind in "iu":  # compared as integers: a float would turn the column into floats
            lo = math.ceil(lo) if isinstance(lo, float) and math.isfinite(lo) else lo
            hi = math.floor(hi) if isinstance(hi, float) and math.isfinite(hi) else hi
        return Between(lo, hi, fill)
    items = _items(name, wanted)
    values = [_checked(name, wanted, item, dtype) for item in items if item is not None]
    return AnyOf(_column(values, dtype), len(values) < len(items), fill)


def _items(name: str, wanted: Any) -> list[Any]:
    if isinstance(wanted, Mapping) or hasattr(type(wanted), "__dask_graph__"):
        raise _refused(name, wanted, "expected a range (lo, hi), a list of values, one value, or None")
    if isinstance(wanted, np.ndarray | np.generic):
        if wanted.ndim > 1:
            raise _refused(name, wanted, f"values must have one dimension, found {wanted.ndim}")
        # A time in nanoseconds would be returned as an integer.
        return list(np.atleast_1d(wanted)) if wanted.dtype.kind in "mM" else np.atleast_1d(wanted).tolist()
    if hasattr(wanted, "to_pylist"):  # Arrow's, whose values are not Python numbers
        return list(wanted.to_pylist())
    return list(wanted) if isinstance(wanted, Iterable) and not isinstance(wanted, str | bytes) else [wanted]


def _checked(name: str, wanted: Any, value: Any, dtype: np.dtype[Any]) -> Any:
    """A value that can be compared with the attribute: text, a time, or a number; integers as Python's."""
    if isinstance(value, np.bool_ | np.integer):
        value = value.item()
    number = isinstance(value, bool | int | float | np.floating) or (dtype.kind == "c" and isinstance(value, complex))
    if dtype.kind in "mM":
        try:
            value = _time(value, dtype)
        except (TypeError, ValueError) as error:
            raise _refused(name, wanted, f"values of {dtype} cannot be compared with {value!r}") from error
    elif (dtype.kind == "U") != isinstance(value, str) or not (number or isinstance(value, str)):
        kind = _KINDS.get(dtype.kind, str(dtype))
        raise _refused(name, wanted, f"values of {kind if kind == 'text' else dtype} cannot be compared with {value!r}")
    if not isinstance(value, str) and value != value:  # noqa: PLR0124  NaN and NaT
        raise _refused(name, wanted, "it has NaN; use None for missing values")
    return value


def _time(value: Any, dtype: np.dtype[Any]) -> Any:
    """A time as NumPy has it; raises TypeError or ValueError if it is none, or has a zone, unlike stored times."""
    if np.asarray(value).dtype.kind in "biufc":
        raise TypeError(value)
    if getattr(value, "tzinfo", None) is not None:
        raise ValueError(value)
    known = getattr(value, "to_datetime64" if dtype.kind == "M" else "to_timedelta64", None)  # pandas', in nanoseconds
    return known() if known is not None else np.datetime64(value) if dtype.kind == "M" else np.timedelta64(value)


def _column(values: list[Any], dtype: np.dtype[Any]) -> Column:
    """Values as a column of the attribute's dtype, without those that it cannot hold."""
    if dtype.kind in "iub":
        low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        whole = [v for v in values if math.isfinite(v) and v == math.floor(v) and low <= v <= high]
        return np.array([int(v) for v in whole], dtype)
    if dtype.kind == "U":
        return np.array(values, np.str_) if values else np.empty(0, "<U1")
    if dtype.kind in "mM":
        return np.array(values) if values else np.empty(0, dtype)
    wide = np.array(values, np.complex128 if dtype.kind == "c" else np.float64)
    with np.errstate(over="ignore"):
        fitting = wide.astype(dtype)
    return np.asarray(fitting[np.isfinite(fitting) | ~np.isfinite(wide)])


def _refused(name: str, wanted: Any, why: str) -> SelectionError:
    shown = repr(wanted)
    return SelectionError(f"{{{name!r}: {shown if len(shown) < 200 else shown[:200] + '...'}}}: {why}")


# Names of columns that attributes become: one rule for data frames, xarray and files.

OBJECT_ID = "object_id"


def column_names(
    widths: Mapping[str, int | None], taken: Collection[str], known: Container[str] = (), suffix: str = "attribute"
) -> dict[str, tuple[str, ...]]:
    """Names of the columns of each attribute, all different.

    An attribute with one value per row keeps its own name, unless that is taken: then it gets the suffix ``_attribute``
    (``suffix``). A vector's columns are ``name_0``, ``name_1``, ... Such made-up names give way to the names that
    attributes have, and to earlier ones, by appending as many ``_`` as necessary. So names do not depend on
    the order in which a store lists its attributes, nor, unless two made-up names clash, on which attributes are
    requested.

    Parameters
    ----------
    widths
        The number of columns by attribute; None for one value per row.
    taken
        Names that no attribute may have: of the axes, of dimensions, ``object_id`` if there are objects.
    known
        Names of existing attributes that are not among ``widths``.

    Examples
    --------
    >>> column_names({"rgb": 2, "rgb_0": None, "x": None}, ("x", "y"))
    {'rgb': ('rgb_0_', 'rgb_1'), 'rgb_0': ('rgb_0',), 'x': ('x_attribute',)}
    """
    used = {*taken, *widths}
    found: dict[str, tuple[str, ...]] = dict.fromkeys(widths, ())
    for name in sorted(widths):
        columns: list[str] = []
        for wanted in _wanted(name, widths[name], taken, suffix):
            free = (text for k in count() if (text := wanted + "_" * k) not in used and text not in known)
            columns.append(wanted if wanted == name else next(free))
            used.add(columns[-1])
        found[name] = tuple(columns)
    return found


def _wanted(name: str, width: int | None, taken: Collection[str], suffix: str) -> Iterator[str]:
    if width is None:
        yield f"{name}_{suffix}" if name in taken else name
    for column in range(width or 0):
        yield f"{name}_{column}"


# What a user selected: boxes, objects and conditions that rows must all meet.


@dataclass(frozen=True, eq=False)
class Picks:
    """Rows of chunks by number; the test of a condition that reads no attribute.

    Parameters
    ----------
    coords
        (m, K) chunks, in lexicographic order.
    starts
        (m + 1,) where the rows of each begin.
    rows
        Their rows, ascending in each.
    """

    coords: ChunkCoords
    starts: IntArray
    rows: IntArray

    def of(self, coord: tuple[int, ...]) -> "Picks":
        """Those of one chunk."""
        at = int(ChunkTable(self.coords).find(np.asarray([coord]))[0])
        part = slice(self.starts[at], self.starts[at + 1]) if at >= 0 else slice(0)
        rows = self.rows[part]
        return Picks(np.asarray([coord]), np.array([0, len(rows)]), rows)

    def __call__(self, count: int) -> BoolArray:
        """(count,) mask of the rows of its single chunk."""
        mask = np.zeros(count, np.bool_)
        mask[self.rows] = True
        return mask


@dataclass(frozen=True, eq=False)
class Condition:
    """A row mask from vertex attributes.

    Parameters
    ----------
    names
        Attributes that it reads.
    test
        A test of one attribute's values, or a callable that turns the attributes' rows into a mask.
    passes
        (n,) which categories of a dictionary-encoded attribute pass; the test is then one of booleans.
    """

    names: tuple[str, ...]
    test: Test | Picks | Callable[..., Any]
    passes: BoolArray | None = None


Area: TypeAlias = Region | Near


@dataclass(frozen=True, kw_only=True, eq=False)
class Selection:
    """Conditions that rows must all meet.

    Parameters
    ----------
    regions
        Regions; rows must lie in each of them.
    objects
        Ids of the objects, sorted, or None for all rows.
    conditions
        Masks from attributes.
    """

    regions: tuple[Area, ...] = ()
    objects: IntArray | None = None
    conditions: tuple[Condition, ...] = ()

    @property
    def box(self) -> BBox | None:
        """Box in stored coordinates that encloses the selection, or None if there are no boxes."""
        if not self.regions:
            return None
        lo, hi = zip(*(region.bounds for region in self.regions), strict=True)
        return np.max(lo, axis=0), np.min(hi, axis=0)

    def with_region(self, region: Area) -> "Selection":
        """Intersect with boxes, or what is near points; regions that do not meet select nothing."""
        boxes = [part for part in (*self.regions, region) if isinstance(part, Region) and part.is_box]
        others = [part for part in (*self.regions, region) if not part.is_box]
        return replace(self, regions=(*([reduce(Region.__and__, boxes)] if boxes else ()), *others))

    def with_objects(self, ids: IntArray) -> "Selection":
        """Keep only these objects."""
        ids = np.unique(ids)
        return replace(self, objects=ids if self.objects is None else np.intersect1d(self.objects, ids))

    def token(self) -> tuple[Any, ...]:
        """What distinguishes this selection from others, for Dask's tokenize."""
        return ("selection", self.regions, self.objects, self.conditions)
