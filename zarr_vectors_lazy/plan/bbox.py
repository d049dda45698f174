"""Where the vertices of a chunk lie, and which chunks a box needs.

A vertex lies in chunk floor(position / chunk shape), in float64 (spec 0.9, 4.2). Coarse levels of zarr-vectors-tools
0.3.0 break that by up to a bin (spec next, 14).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from zarr_vectors_lazy.types import BBox, BoolArray, ChunkCoords, Floats, Vertices

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
