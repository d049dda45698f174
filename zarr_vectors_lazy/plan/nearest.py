"""What is near some points: the nearest of vertices, of which only the chunks are read that may have them; balls."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np

from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.plan.boxes import Placement
from zarr_vectors_lazy.types import BBox, BoolArray, ChunkCoords, Floats, IntArray, Vertices

Reader: TypeAlias = Callable[[IntArray], tuple[IntArray, Vertices, IntArray]]
"""Gives of (m,) boxes, ascending, the rows of their points, (p, D) positions, and (m,) how many points each has."""
MOST_PAIRS = 2_000_000  # of points and boxes, or points and points, held at once
SLACK = 4 * float(np.finfo(np.float32).eps)  # by which float32 rounding puts a vertex outside its chunk


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
    """Boxes of points.

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
        """Boxes of chunks, (K, 2, D) corners; unless these are ``known`` their points may be anywhere."""
        lo, hi = bounds[:, 0], bounds[:, 1]
        if not known:
            return cls(np.full_like(lo, -np.inf), np.full_like(hi, np.inf), counts)
        slack = SLACK * (np.abs(lo) + np.abs(hi) + (hi - lo))
        return cls(lo - slack, hi + slack, counts)

    @classmethod
    def of_points(cls, positions: Vertices) -> "Boxes":
        """One box of points that are known."""
        points = np.asarray(positions, np.float64)
        if not len(points):
            return cls(
                np.full((1, points.shape[1]), np.inf), np.full((1, points.shape[1]), -np.inf), np.zeros(1, np.int64)
            )
        return cls(points.min(axis=0)[None], points.max(axis=0)[None], np.array([len(points)]))

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
        """(n, K) least distance that a point of each box may have; infinite of empty boxes."""
        gap = np.maximum(np.maximum(self.lo - points[:, None], points[:, None] - self.hi), 0)
        return np.where(self.counts > 0, np.sqrt((gap**2).sum(axis=2)), np.inf)


def nearest_rows(points: Floats, k: int, boxes: Boxes, read: Reader) -> tuple[IntArray, Floats]:
    """Rows of the k nearest of each point, and their distances, both (n, k): of equal ones the least row first.

    Boxes are read in two rounds, all of a round at once: those nearest that have k points, and those that may have
    nearer ones. Where there are fewer than k, the row is -1 and the distance infinite.
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
    """What is nearest of what was found and of the points of wanted boxes; (n, K) which point wants which box."""
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
    """What lies no farther than a distance from one of some points; a region, in stored coordinates.

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
        """Box in stored coordinates that holds it."""
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
        """Tell the chunks, (n, K), that may hold vertices of it; none is sure to lie in it wholly."""
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


def parse_points(value: Any, ndim: int) -> Floats:
    """(n, D) points of a user, of one alone (1, D); raises SelectionError."""
    try:
        points = np.atleast_2d(np.asarray(value, np.float64))
    except (TypeError, ValueError) as error:
        raise SelectionError(f"points must be (n, {ndim}) numbers, found {value!r}") from error
    if points.size == 0:
        points = points.reshape(0, ndim)
    if points.shape[1:] != (ndim,) or not np.isfinite(points).all():
        raise SelectionError(f"points must be (n, {ndim}) finite numbers, found shape {np.shape(value)}")
    return points
