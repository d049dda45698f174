"""The spatial index of a level in a viewer: cells that are its chunks, in world coordinates."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zarr_vectors_lazy.convert.precomputed import Grid
from zarr_vectors_lazy.model.levels import ChunkTable, distinct_chunks
from zarr_vectors_lazy.model.objects import ranges
from zarr_vectors_lazy.model.world import World
from zarr_vectors_lazy.read.store import ChainData
from zarr_vectors_lazy.read.view import LevelView
from zarr_vectors_lazy.types import BBox, Floats, IntArray

Array = np.ndarray[Any, Any]
SLANT = 1e-6  # of what an axis contributes to another one, that rounding may leave


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """A level of the spatial index, and the chunks that its cells have rows of.

    Parameters
    ----------
    grid
        The level.
    table, bounds, chunks
        Cells that have any; those of cell i are ``chunks[bounds[i]:bounds[i + 1]]``.
    cut
        Whether a chunk may have rows of several cells.
    """

    grid: Grid
    table: ChunkTable
    bounds: IntArray
    chunks: IntArray
    cut: bool

    def of(self, cell: Sequence[int]) -> IntArray:
        """Numbers of the chunks, ascending."""
        (at,) = self.table.find(np.asarray([cell], np.int64)).tolist()
        return self.chunks[:0] if at < 0 else np.sort(self.chunks[self.bounds[at] : self.bounds[at + 1]])


def linear(world: World) -> tuple[Floats, Floats]:
    """(C, D) and (C,): shown coordinates are the one times stored ones plus the other."""
    rank = len(world.axes)
    shift = world.show(np.zeros((1, rank)))[0]
    return (world.show(np.eye(rank)) - shift).T, shift


def spatial_cells(view: LevelView, counts: Array) -> tuple[tuple[Cells, ...], BBox]:
    """Levels of a spatial index, the coarsest first, and their bounds.

    The chunks are its cells; of a level that refines others, those of each. Where axes are turned, or levels do not
    nest, cells of one level are as large as the largest chunk, and a chunk has rows of several.

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
    low, high = (spatial // ratio).min(axis=0), (spatial // ratio).max(axis=0) + 1  # in chunks of the coarsest
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
    """Whether each shown axis is a stored one, as long or longer, or turned round."""
    there = np.abs(scale) > SLANT * np.abs(scale).max()
    return bool((there.sum(axis=0) == 1).all() and (there.sum(axis=1) == 1).all())


def _indexed(
    key: str, shape: IntArray, size: Floats, *, chunks: IntArray, cells: IntArray, counts: Array, cut: bool
) -> Cells:
    """Level of an index: (m,) chunks, and (m, D) cells that have rows of them; ``counts`` rows of each chunk."""
    table, number = distinct_chunks(cells)
    order = np.argsort(number, kind="stable")
    limit = np.bincount(number, weights=counts[chunks]).max(initial=1.0)
    grid = Grid(key, tuple(shape.tolist()), size, int(np.ceil(limit)))
    return Cells(grid, table, np.searchsorted(number[order], np.arange(len(table) + 1)), chunks[order], cut)


def _crossing(boxes: Floats, scale: Floats, shift: Floats) -> tuple[BBox, IntArray, Floats, IntArray, IntArray]:
    """Grid over the boxes that stored ones, (n, 2, D), become, as fine as the largest; its cells that each meets.

    Returns
    -------
    Its bounds, shape and size; and (m,) boxes with (m, D) the cells that they meet.
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
