"""Levels as the reference package makes them, planned."""

from dataclasses import replace

import numpy as np

from zarr_vectors_lazy.access.level import LevelData, Source
from zarr_vectors_lazy.access.pyramid.objects import ObjectTables
from zarr_vectors_lazy.access.pyramid.planning import (
    Asked,
    Options,
    PlannedLevel,
    encoding_of,
    grid_of,
    kind_of,
    moved_index,
    scale_of,
)
from zarr_vectors_lazy.access.pyramid.step import Step, Thinning
from zarr_vectors_lazy.access.store import OpenStore
from zarr_vectors_lazy.errors import FormatError, SelectionError
from zarr_vectors_lazy.format.writing import CURRENT
from zarr_vectors_lazy.model.chunks import ChunkTable
from zarr_vectors_lazy.model.writing import Grid
from zarr_vectors_lazy.plan.parts import chunks_below
from zarr_vectors_lazy.plan.pyramid import LevelScale, next_scale
from zarr_vectors_lazy.types import ChunkCoords, Floats

POSITIONS = np.dtype(np.float32)


def plan_shared(opened: OpenStore, data: LevelData, asked: list[Asked], options: Options) -> list[PlannedLevel]:
    """Plan levels, each from the one before.

    Raises
    ------
    SelectionError
        If a factor is wrong, or attributes are to be joined: they are not carried.
    FormatError
        If the level has no vertices, or chunks cut by an attribute.
    """
    kind_of(data)
    if options.aggregate:
        raise SelectionError("method='reference' carries no vertex attributes: aggregate has no meaning for it")
    if not len(data.vertices.chunks) or data.vertices.chunks.rank != data.store.ndim:
        raise FormatError("method='reference' needs a level with vertices, and chunks of space alone", where=data.url)
    planned = [_first(opened, data, asked[0], options)]
    for item in asked[1:]:
        planned.append(_next(opened, planned[-1], item, options))
    return planned


def _first(opened: OpenStore, data: LevelData, asked: Asked, options: Options) -> PlannedLevel:
    fine, fine_coords = scale_of(opened, data), data.vertices.chunks.coords
    scale = next_scale(fine, asked.level, asked.factor, asked.chunk_scale, must_tile=False)
    found = data.object_index
    index = found if found is not None and found.has_manifests else None
    coords, order, bounds = chunks_below(fine_coords, scale.ratio // fine.ratio)
    step = Step(
        source=data.source,
        level=asked.level,
        kind="shared",
        vertices=data.vertices.spec,
        fragments=data.fragments.spec,
        attributes=(),
        weight="",
        weights=None,
        index=index,
        thinning=None,
        segments=(),
        width=2,
        directed=False,
        least=1,
        scale=scale.ratio // fine.ratio,
        bins=scale.bins,
        bin_shape=scale.bin_shape,
        chunk_shape=scale.chunk_shape,
        root_bins=None,
        cross=options.storage,
        fine_grid=_grid(opened, fine_coords, data.meta.chunk_shape, options.shift),
        grid=_grid(opened, coords, scale.chunk_shape, options.shift),
        encoding=encoding_of(data),
    )
    tables = None
    if index is not None:
        tables = ObjectTables(source=data.source, index=index, attributes=data.object_attributes, carried=())
    return PlannedLevel(
        step=replace(step, thinning=_thinning(opened, step, asked, scale, options)),
        scale=scale,
        coords=coords,
        order=order,
        bounds=bounds,
        fine=fine_coords,
        table=ChunkTable(coords),
        counts=data.vertices.counts,
        missing={},
        row_nbytes=data.vertices.spec.dtype.itemsize * opened.meta.ndim,
        arrays=(CURRENT.vertices(POSITIONS), CURRENT.fragments()),
        links=None,
        tables=tables,
    )


def _next(opened: OpenStore, below: PlannedLevel, asked: Asked, options: Options) -> PlannedLevel:
    old = below.step
    scale = next_scale(below.scale, asked.level, asked.factor, asked.chunk_scale, must_tile=False)
    specs = {draft.path: CURRENT.cell_spec(old.level, draft, old.grid, old.encoding) for draft in below.arrays}
    coords, order, bounds = chunks_below(below.coords, scale.ratio // below.scale.ratio)
    step = replace(
        old,
        source=Source(old.source.spec, old.level),
        level=asked.level,
        vertices=replace(specs["vertices"], row_shape=(opened.meta.ndim,)),
        fragments=specs["vertex_fragments"],
        index=None if old.index is None else moved_index(old.index, old.level, options.build),
        scale=scale.ratio // below.scale.ratio,
        bins=scale.bins,
        bin_shape=scale.bin_shape,
        chunk_shape=scale.chunk_shape,
        fine_grid=old.grid,
        grid=_grid(opened, coords, scale.chunk_shape, options.shift),
    )
    return replace(
        below,
        step=replace(step, thinning=_thinning(opened, step, asked, scale, options)),
        scale=scale,
        coords=coords,
        order=order,
        bounds=bounds,
        fine=below.coords,
        table=ChunkTable(coords),
        counts=None,
    )


def _thinning(opened: OpenStore, step: Step, asked: Asked, scale: LevelScale, options: Options) -> Thinning | None:
    sparsity = float(asked.factor[1])
    if step.index is None or (sparsity <= 1 and (options.drawn or scale.keep >= 1)):
        return None
    if options.drawn:
        return Thinning(seed=options.seed, keep=1 / sparsity, base=step.source, index=step.index, drawn=True)
    base = opened.levels.get(0)
    index = step.index if base is None else base.object_index
    return Thinning(seed=options.seed, keep=scale.keep, base=step.source if base is None else base.source, index=index)


def _grid(opened: OpenStore, coords: ChunkCoords, chunk_shape: Floats, shift: int) -> Grid:
    """Grid that holds the chunks of the bounds, too: where means lie is not known before."""
    corners = [np.floor(corner / chunk_shape).astype(np.int64) for corner in opened.meta.bounds]
    return grid_of(np.concatenate([coords, corners]), shift)
