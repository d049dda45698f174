"""Boxes that users type, in stored or in world coordinates: which chunks they need, which rows lie in them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np

from zarr_vectors_lazy.errors import SelectionError, listed, meant
from zarr_vectors_lazy.model.world import World
from zarr_vectors_lazy.plan.bbox import Placement
from zarr_vectors_lazy.types import BBox, BoolArray, ChunkCoords, Floats, Vertices


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
    if isinstance(part, tuple | list) and len(part) == 2:
        part = slice(*part)
    if not isinstance(part, slice) or part.step is not None:
        raise SelectionError(f"{name}= must be slice(lo, hi), found {part!r}")
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
        raise SelectionError(f"{name}= must be slice(lo, hi) of numbers, found {value!r}") from error
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
