"""Boxes, in stored or in world coordinates: which chunks they need, which rows lie in them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np

from zarr_vectors_lazy.errors import SelectionError, listed, meant
from zarr_vectors_lazy.model.world import World
from zarr_vectors_lazy.types import BBox, BoolArray, ChunkCoords, Floats, Vertices

# Where the vertices of a chunk lie, and which chunks a box needs.
#
# A vertex lies in chunk floor(position / chunk shape), in float64 (spec 0.9, 4.2). Coarse levels of zarr-vectors-
# tools 0.3.0 break that by up to a bin (spec next, 14).

WHOLE = 1e-6  # by so much a quotient that counts as whole may be off


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Placement:
    """Where the vertices of the chunks of a level lie.

    Parameters
    ----------
    chunk_shape
        (D,) edge lengths of a chunk.
    bin_shape
        (D,) edge lengths of bins of which a whole number makes a chunk; ``chunk_shape`` where there are none.
    strays
        Edge lengths, each (D,), of bins whose rows lie in a chunk that the bin meets and not always inside it.
    known
        False: a chunk's coordinate does not tell what it holds.
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
            # Means were rounded to float32, outwards too.
            out[:, 0] = np.minimum(out[:, 0], np.nextafter(lower.astype(np.float32), np.float32(-np.inf)))
            out[:, 1] = np.maximum(out[:, 1], np.nextafter(upper.astype(np.float32), np.float32(np.inf)))
        return out

    def meets(self, coords: ChunkCoords, box: BBox) -> tuple[BoolArray, BoolArray]:
        """Tell the chunks, (n, K), that may hold vertices of a box, and those whose vertices must all lie in it."""
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
        """How many vertices, (N, D), lie outside the chunk at (K,), and how far the farthest along an axis."""
        lower = self.spatial(coord[None])[0] * self.chunk_shape
        far = np.maximum(lower - vertices, vertices - (lower + self.chunk_shape)).max(axis=1, initial=0.0)
        return int(np.count_nonzero(far > 0)), float(far.max(initial=0.0))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StackedPlacement(Placement):
    """Where the vertices of the chunks of several levels lie; the first component of a chunk says whose it is."""

    levels: Mapping[int, Placement]

    @classmethod
    def of_levels(cls, levels: Mapping[int, Placement]) -> "StackedPlacement":
        """Make it of the placement of each level, the finest first."""
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
        """Tell the chunks, (n, K), that may hold vertices of a box, and those whose vertices must all lie in it."""
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
    """Tell the chunks that may hold vertices of a box from those that cannot.

    Parameters
    ----------
    coords
        (n, K) chunk coordinates; the last D of the K components are spatial.
    chunk_shape
        (D,) edge lengths.
    bin_shape
        (D,) edge lengths of bins of which a whole number makes a chunk; ``chunk_shape`` where there are none.
    box
        (lo, hi), inclusive.

    Returns
    -------
    touched
        (n,) whether the chunk can hold a vertex of the box. Division and floor are monotone, so no vertex of the box
        lies outside the chunks from that of ``lo`` to that of ``hi``.
    inside
        (n,) whether all that the chunk can hold is in the box: strictly between those two.
    """
    spatial = coords[:, coords.shape[1] - len(chunk_shape) :]
    first, last = (_chunks_of(corner, chunk_shape, bin_shape) for corner in box)
    touched = ((spatial >= first[0]) & (spatial <= last[1])).all(axis=1) & bool((box[0] <= box[1]).all())
    above, below = (spatial > first[1]) | (box[0] == -np.inf), (spatial < last[0]) | (box[1] == np.inf)
    return np.asarray(touched), np.asarray(touched & (above & below).all(axis=1))


def _chunks_of(corner: Floats, chunk_shape: Floats, bin_shape: Floats) -> Floats:
    """(2, D) lowest and highest chunk that writers may put a position in.

    Some divide by the chunk's edge, some by the bin's (spec 0.9, 5.1), which can round apart: 0.3 / 0.3 is 1, and
    0.3 / 0.1 less than 3.
    """
    by_bin = np.floor(np.floor(corner / bin_shape) / np.rint(chunk_shape / bin_shape))
    return np.sort([np.floor(corner / chunk_shape), by_bin], axis=0)


def _whole(quotient: Floats) -> Floats:
    near = np.rint(quotient)
    return np.where(np.abs(quotient - near) <= WHOLE * np.maximum(1, np.abs(near)), near, quotient)


# Boxes that users type, in stored or in world coordinates: which chunks they need, which rows lie in them.


@dataclass(frozen=True, eq=False)
class Region:
    """What lies in one of some boxes: both faces inclusive, compared in float64.

    Parameters
    ----------
    lo, hi
        (n, C) corners; ends may be infinite, and a box whose lower end is above its upper one is empty.
    world
        Where they are world coordinates: how positions become these; C is then the number of its columns, else D.
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
        """Whether it is one box in stored coordinates."""
        return len(self.lo) == 1 and self.world is None

    def stored(self) -> tuple[Floats, Floats]:
        """(n, D) corners of boxes in stored coordinates that hold it."""
        return (self.lo, self.hi) if self.world is None else self.world.stored_boxes(self.lo, self.hi)

    @property
    def bounds(self) -> BBox:
        """Box in stored coordinates that holds it."""
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
            for box in np.flatnonzero(~((self.lo > last) | (self.hi < first)).any(axis=1)):  # of many, those near
                mask |= rows_in_box(points, (self.lo[box], self.hi[box]))
        return mask

    def chunks(self, coords: ChunkCoords, placement: Placement) -> tuple[BoolArray, BoolArray]:
        """Tell the chunks, (n, K), that may hold vertices of it, and those whose vertices must all lie in it."""
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
        # As lists: Dask takes the text of what is given here, and that of an array rounds.
        world = None if self.world is None else (self.world.axes, *map(_listed, (self.world.offset, self.world.affine)))
        return ("region", self.lo.tolist(), self.hi.tolist(), world)


def _listed(array: Floats | None) -> list[Any] | None:
    return None if array is None else array.tolist()


def _slabs(
    first: Floats, last: Floats, coords: ChunkCoords, placement: Placement
) -> Iterator[np.ndarray[Any, np.dtype[np.intp]]]:
    """Of many boxes the chunks that each has to look at: those about its stretch of the first axis."""
    lower, upper = placement.bounds(coords)[:, :, 0].T
    order, margin = np.argsort(lower, kind="stable"), 2 * (upper - lower).max(initial=0.0)
    starts = np.searchsorted(lower[order], first - margin)
    stops = np.searchsorted(lower[order], last + margin, side="right")
    return (order[start:stop] for start, stop in zip(starts.tolist(), stops.tolist(), strict=True))


def parse_region(
    bbox: Any, slices: Mapping[str, Any], axes: Sequence[str], world: World | None = None
) -> Region | None:
    """Region of ``sel``'s arguments, in float64; None where there is none.

    Parameters
    ----------
    bbox
        (lo, hi), several of them, or None.
    slices
        ``slice(lo, hi)`` or ``(lo, hi)`` by axis name; an open end is infinite.
    axes
        The store's axis names.
    world
        Whose coordinates the numbers are; None: stored ones.

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
    """(n, C) corners of one box or several."""
    ndim = len(names)
    wanted = f"bbox must be (lo, hi), {ndim} numbers each, or several of these"
    try:
        parts = [np.asarray(part, np.float64) for part in bbox]
    except (TypeError, ValueError, OverflowError) as error:
        raise SelectionError(f"{wanted}; found {bbox!r}") from error
    shapes = {part.shape for part in parts} or {np.shape(bbox)[1:]}
    several = shapes == {(2, ndim)}
    if not several and (shapes != {(ndim,)} or len(parts) != 2):
        short = all(part.shape[-1:] < (ndim,) for part in parts)
        hint = f"; for some axes alone: {names[0]}=slice(lo, hi)" if short else ""
        found = f"shapes {', '.join(str(part.shape) for part in parts[:4])}" if parts else repr(bbox)
        raise SelectionError(f"{wanted}; found {found}{hint}")
    corners = np.reshape(parts, (-1, 2, ndim))
    lo, hi = corners[:, 0], corners[:, 1]
    if np.isnan(corners).any():
        raise SelectionError(f"bbox has NaN: {bbox!r}")
    if (lo > hi).any():
        box, axis = np.argwhere(lo > hi)[0]
        which = f" of box {box}" if several else ""
        raise SelectionError(f"bbox has lo > hi on axis {axis}{which}: lo {lo[box].tolist()}, hi {hi[box].tolist()}")
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
