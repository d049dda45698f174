"""From a store's metadata to the steps that build its levels; no cell is read but to learn a shape."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from zarr_vectors_lazy.errors import FormatError, SelectionError
from zarr_vectors_lazy.format.registry import CURRENT
from zarr_vectors_lazy.kernels.groups import Rule
from zarr_vectors_lazy.model.arrays import CellArray, DenseArray
from zarr_vectors_lazy.model.levels import ChunkTable
from zarr_vectors_lazy.model.objects import ObjectIndex
from zarr_vectors_lazy.model.writing import ArrayDraft, CrossStorage, Encoding, Grid, Kind
from zarr_vectors_lazy.plan.blocks import chunks_below
from zarr_vectors_lazy.plan.levels import LevelScale, grown, next_scale
from zarr_vectors_lazy.pyramid.coarsen import position_dtype
from zarr_vectors_lazy.pyramid.finer import LinkIndex
from zarr_vectors_lazy.pyramid.merge import OURS, plan_attributes, stated_rule
from zarr_vectors_lazy.pyramid.session import ObjectTables
from zarr_vectors_lazy.pyramid.step import EndSegment, Step, Thinning
from zarr_vectors_lazy.read.level import LevelData, Source, block_nbytes
from zarr_vectors_lazy.read.store import OpenStore
from zarr_vectors_lazy.types import ChunkCoords, IntArray, Json

KINDS: dict[str, Kind] = {
    "point_cloud": "points",
    "line": "paths",
    "polyline": "paths",
    "streamline": "paths",
    "graph": "graph",
    "skeleton": "tree",
    "mesh": "faces",
}
UNKNOWN_ROWS = 16384  # rows of a chunk, where nothing tells
FULLEST = 4  # times what level 0's fullest chunk holds: so much a coarse chunk may hold in any case
PLACED = ("nonempty_chunks", "chunk_grid_origin", OURS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How levels are built, as checked; see `zvl.build_pyramid`."""

    seed: int
    storage: CrossStorage
    aggregate: Mapping[str, Rule | None]
    least: int
    shift: int
    build: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One level as the caller asks for it."""

    level: int
    factor: tuple[Any, Any]
    chunk_scale: Any


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlannedLevel:
    """A level to be built.

    Parameters
    ----------
    step
        What its tasks share.
    scale
        Its grid.
    coords, table
        (n, K) the chunks that it may have.
    order, bounds
        The finer chunks of each; see `plan.parts.chunks_below`.
    fine
        (f, K) chunks of the finer level.
    counts
        (f,) their rows, where known beforehand.
    missing
        Attributes that some of the finer chunks lack, and which.
    row_nbytes
        Stored bytes of a vertex with its attributes.
    arrays
        What its own arrays of cells are.
    links
        Cells of the links of the finer level, where it is there.
    tables
        What is carried of objects, or None where there are none.
    """

    step: Step
    scale: LevelScale
    coords: ChunkCoords
    order: IntArray
    bounds: IntArray
    fine: ChunkCoords
    table: ChunkTable
    counts: IntArray | None
    missing: dict[str, np.ndarray[Any, np.dtype[np.bool_]]]
    row_nbytes: int
    arrays: tuple[ArrayDraft, ...]
    links: LinkIndex | None
    tables: ObjectTables | None

    def chunks_below(self, chunks: ChunkCoords) -> ChunkCoords:
        """(f, K) chunks of the finer level below some of this one's, in lexicographic order."""
        at = self.table.find(chunks)
        parts = [self.order[self.bounds[i] : self.bounds[i + 1]] for i in at.tolist()]
        return self.fine[np.sort(np.concatenate(parts))]


def kind_of(data: LevelData) -> Kind:
    """How the vertices of a level are joined.

    Raises
    ------
    FormatError
        If the store has several geometries or none, or paths without an object index.
    """
    types = data.store.geometry_types
    if len(types) != 1 or types[0] not in KINDS:
        raise FormatError(f"a pyramid needs one geometry of {', '.join(KINDS)}; found {list(types)}", where=data.url)
    kind = KINDS[types[0]]
    has_objects = _has_manifests(data)
    if kind == "paths" and not has_objects:
        raise FormatError("paths are told by an object index, and there is none", where=data.url)
    return "sets" if kind == "points" and has_objects else kind


def _has_manifests(data: LevelData) -> bool:
    return data.object_index is not None and data.object_index.has_manifests


def scale_of(opened: OpenStore, data: LevelData) -> LevelScale:
    """Grid of a level that is there."""
    meta, root = data.meta, opened.meta
    ratio = np.rint(meta.chunk_shape / root.chunk_shape).astype(np.int64)
    if not np.allclose(ratio * root.chunk_shape, meta.chunk_shape, rtol=1e-9) or (ratio < 1).any():
        raise FormatError(
            f"chunks of {meta.chunk_shape.tolist()} are no multiples of the root's {root.chunk_shape.tolist()}",
            where=data.url,
        )
    block = meta.attributes.get("zarr_vectors_level", {})
    return LevelScale(
        level=meta.index,
        bin_shape=meta.bin_shape,
        chunk_shape=meta.chunk_shape,
        ratio=ratio,
        fold=meta.bin_shape / root.bin_shape,
        keep=float(block.get("object_sparsity") or 1.0),
    )


def encoding_of(data: LevelData) -> Encoding:
    """Store coarse cells as the level's own are, where they are of codecs that we write."""
    pipeline = getattr(data.vertices.spec.layout, "pipeline", None)
    names = ("zstd",) if pipeline is None else pipeline.names
    known = [name for name in names if name != "crc32c"]
    compressor: Any = known[0] if known in (["zstd"], ["blosc"]) else "zstd" if known else None
    return Encoding(compressor=compressor, checksum=pipeline is None or "crc32c" in names)


def grid_of(coords: ChunkCoords, shift: int) -> Grid:
    """Grid that holds some chunks; ``shift`` moves its cells to keys that no cell had before a rebuild."""
    lo, hi = coords.min(axis=0), coords.max(axis=0)
    origin, shape = lo.copy(), hi - lo + 1
    origin[0] -= shift
    shape[0] += shift
    return Grid(origin=tuple(origin.tolist()), shape=tuple(shape.tolist()))


def settle_scales(opened: OpenStore, data: LevelData, asked: Sequence[Asked]) -> list[Any]:
    """Chunk scale of each level, of those that leave it open too.

    A chunk grows by its level's coarsening, so that it has as many bins on each level; not where the fullest would hold
    more than 4 times what level 0's fullest holds and more than Dask's ``array.chunk-size``: then the least that tiles
    is taken. How many vertices a chunk will hold is not known before it is made: it is taken for all that lie below it,
    but no more than it has bins where all of a bin become one. A store that does not say how many vertices its chunks
    have (`zvl index` makes it do so) is taken to have `UNKNOWN_ROWS` in each.

    Raises
    ------
    SelectionError
        If a factor or a scale is wrong, or bins do not tile chunks.
    """
    at, coords = scale_of(opened, data), data.vertices.chunks.coords
    rows = _rows_by_chunk(data)
    base = _rows_by_chunk(opened.levels.get(0, data))
    row_nbytes = data.vertices.spec.dtype.itemsize * opened.meta.ndim
    limit = max(FULLEST * int(base.max(initial=0)), block_nbytes() // row_nbytes)
    merges = kind_of(data) in ("points", "faces") and not _has_manifests(data)
    scales: list[Any] = []
    for item in asked:
        least = next_scale(at, item.level, item.factor, item.chunk_scale)
        tried = [least] if item.chunk_scale is not None else [grown(at, least), least]
        for found in tried:
            parents, order, bounds = chunks_below(coords, found.ratio // at.ratio)
            below = np.add.reduceat(rows[order], bounds[:-1]) if len(order) else rows
            most = np.minimum(below, np.prod(found.bins)) if merges else below
            if most.max(initial=0) <= limit:
                break
        scales.append((found.ratio // at.ratio).tolist())
        at, coords, rows = found, parents, most
    return scales


def _rows_by_chunk(data: LevelData) -> IntArray:
    """(n,) vertices of the chunks of a level, as far as that is known."""
    counts = data.vertices.counts
    return np.full(len(data.vertices.chunks), UNKNOWN_ROWS, np.int64) if counts is None else counts


def plan_first(opened: OpenStore, data: LevelData, asked: Asked, options: Options) -> PlannedLevel:
    """Plan the level that is made from one that is there.

    Raises
    ------
    SelectionError
        If a factor or rule is wrong, or bins do not tile chunks.
    NotFoundError
        If ``aggregate`` names an attribute that the level does not have.
    """
    kind = kind_of(data)
    fine = scale_of(opened, data)
    scale = next_scale(fine, asked.level, asked.factor, asked.chunk_scale)
    table = data.vertices.chunks
    if not len(table):
        raise FormatError("the level has no vertices: there is nothing to build a pyramid from", where=data.url)
    own = data.meta.attributes.get("zarr_vectors_level", {}).get("zarr_vectors_lazy") or {}
    weight = own.get("weight") if data.meta.index else None
    items, missing = plan_attributes(data, options.aggregate, weight)
    if kind in ("graph", "tree", "faces") and data.object_index is None and float(asked.factor[1]) > 1:
        raise SelectionError("sparsity drops whole objects, and this level has none", where=data.url)
    thinning = (
        drop_rows(data.source, options, asked)
        if kind == "points" or data.object_index is None
        else drop_objects(opened.levels.get(0, data), options, scale)
    )
    coords, order, bounds = chunks_below(table.coords, scale.ratio // fine.ratio)
    links, family = _link_index(data, kind), data.links(0) if kind not in ("points", "sets") else None
    name = weight or ("zv_count" if "count" in data.attribute_names else "count")
    step = Step(
        source=data.source,
        level=asked.level,
        kind=kind,
        vertices=data.vertices.spec,
        fragments=data.fragments.spec if kind != "points" else None,
        attributes=tuple(items),
        weight=name,
        weights=data.attribute(weight).spec if weight else None,
        index=data.object_index if kind != "points" and _has_manifests(data) else None,
        owners=CURRENT.fragment_owners(data.object_attributes) if kind != "points" and _has_manifests(data) else None,
        thinning=thinning,
        segments=() if links is None else links.segments,
        width=2 if family is None else family.width,
        directed=family is not None and family.directed and kind == "graph",
        least=options.least,
        scale=scale.ratio // fine.ratio,
        bins=scale.bins,
        bin_shape=scale.bin_shape,
        chunk_shape=scale.chunk_shape,
        root_bins=_root_bins(opened, kind, scale),
        cross=options.storage,
        fine_grid=grid_of(table.coords, options.shift),
        grid=grid_of(coords, options.shift),
        encoding=encoding_of(data),
    )
    sources = {item.name: data.attribute(item.name) for item in items if item.column.spec is not None}
    return PlannedLevel(
        step=step,
        scale=scale,
        coords=coords,
        order=order,
        bounds=bounds,
        fine=table.coords,
        table=ChunkTable(coords),
        counts=data.vertices.counts,
        missing=missing,
        row_nbytes=_row_nbytes(step),
        arrays=_arrays(step, sources),
        links=links,
        tables=_tables(data) if step.index is not None else None,
    )


def plan_next(opened: OpenStore, below: PlannedLevel, asked: Asked, options: Options) -> PlannedLevel:
    """Plan the level that is made from one that is planned; errors as `plan_first`."""
    old = below.step
    scale = next_scale(below.scale, asked.level, asked.factor, asked.chunk_scale)
    source = Source(old.source.spec, old.level)
    specs = {draft.path: CURRENT.cell_spec(old.level, draft, old.grid, old.encoding) for draft in below.arrays}
    dtype = position_dtype(old.vertices.dtype)
    vertices = replace(specs["vertices"], dtype=dtype, row_shape=old.vertices.row_shape)
    items = []
    for item in old.attributes:
        spec = replace(specs[f"vertex_attributes/{item.name}"], row_shape=item.column.row_shape, dictionary=None)
        column = replace(item.column, source=source, spec=spec, vertices=vertices, dtype=item.dtype, constants=None)
        items.append(replace(item, column=column))
    coords, order, bounds = chunks_below(below.coords, scale.ratio // below.scale.ratio)
    base = opened.levels.get(0)
    if old.index is not None and base is not None:
        thinning = drop_objects(base, options, scale)
    else:
        thinning = drop_rows(source, options, asked)
    step = replace(
        old,
        source=source,
        level=asked.level,
        segments=(),
        vertices=vertices,
        fragments=None if old.fragments is None else specs["vertex_fragments"],
        attributes=tuple(items),
        weights=replace(specs[f"vertex_attributes/{old.weight}"], row_shape=()),
        index=None if old.index is None else moved_index(old.index, old.level, options.build),
        thinning=thinning,
        scale=scale.ratio // below.scale.ratio,
        bins=scale.bins,
        bin_shape=scale.bin_shape,
        chunk_shape=scale.chunk_shape,
        root_bins=_root_bins(opened, old.kind, scale),
        fine_grid=old.grid,
        grid=grid_of(coords, options.shift),
    )
    return PlannedLevel(
        step=step,
        scale=scale,
        coords=coords,
        order=order,
        bounds=bounds,
        fine=below.coords,
        table=ChunkTable(coords),
        counts=None,
        missing={},
        row_nbytes=_row_nbytes(step),
        arrays=below.arrays,
        links=None,
        tables=below.tables,
    )


def _tables(data: LevelData) -> ObjectTables:
    assert data.object_index is not None
    return ObjectTables(source=data.source, index=data.object_index, attributes=data.object_attributes)


def moved_index(index: ObjectIndex, level: int, build: str) -> ObjectIndex:
    """The object index that a level will have, from that of the level below; no other build's is taken for it."""
    digest, rows = f"{build}:{level}", min(CURRENT.shard_rows, index.count)

    def made(name: str, dtype: type) -> DenseArray:
        path = f"{level}/object_index/{name}"
        shape = (index.count,)
        return DenseArray(path=path, name=name, shape=shape, dtype=np.dtype(dtype), chunk_rows=rows, digest=digest)

    return ObjectIndex(
        count=index.count,
        rank=index.rank,
        manifests=made("manifests", object) if index.has_manifests else None,
        ids=None if index.ids is None else made("object_ids", np.int64),
        digest=digest,
    )


def drop_objects(base: LevelData, options: Options, scale: LevelScale) -> Thinning | None:
    """Which of the base level's objects are dropped; None: none is."""
    if scale.keep >= 1:
        return None
    return Thinning(seed=options.seed, keep=scale.keep, base=base.source, index=base.object_index)


def drop_rows(source: Source, options: Options, asked: Asked) -> Thinning | None:
    """Which of the finer level's vertices are dropped; None: none is."""
    sparsity = float(asked.factor[1])
    return None if sparsity <= 1 else Thinning(seed=options.seed, keep=1 / sparsity, base=source, index=None)


def _link_index(data: LevelData, kind: Kind) -> LinkIndex | None:
    """Cells of the links inside a level, where these are carried."""
    if kind not in ("graph", "tree", "faces"):
        return None
    family = data.links(0)
    if family is not None and family.table is not None:
        raise FormatError("links in a table are not read here", where=data.url)
    segments = () if family is None else family.segments
    return LinkIndex(
        tuple(EndSegment(spec=s.array.spec, coding=s.coding, offsets=s.offsets) for s in segments),
        tuple(s.array.chunks for s in segments),
    )


def _root_bins(opened: OpenStore, kind: Kind, scale: LevelScale) -> IntArray | None:
    """Level-0 bins of a chunk, where the reference takes fragments for them (PYRAMID.md, peer-readability)."""
    root = opened.meta
    declared = root.attributes["zarr_vectors"].get("base_bin_shape") is not None
    bins = np.rint(root.chunk_shape / root.bin_shape).astype(np.int64)
    tiled = np.allclose(bins * root.bin_shape, root.chunk_shape, rtol=1e-9) and (bins >= 1).all()
    if kind != "points" or not declared or not tiled or (scale.ratio != 1).any() or int(np.prod(bins)) == 1:
        return None
    return bins


def _row_nbytes(step: Step) -> int:
    nbytes = step.vertices.dtype.itemsize * len(step.bins)
    for item in step.attributes:
        nbytes += item.column.dtype.itemsize * int(np.prod(item.column.row_shape, dtype=np.int64))
    return nbytes + (8 if step.weights is not None else 0)


def _arrays(step: Step, sources: Mapping[str, CellArray]) -> tuple[ArrayDraft, ...]:
    """Arrays of cells of a coarse level, attributes described as on the finer one."""
    found = [CURRENT.vertices(position_dtype(step.vertices.dtype)), CURRENT.fragments()]
    for item in step.attributes:
        base = CURRENT.attribute(item.name, item.dtype, item.column.row_shape)
        kept = {key: value for key, value in sources[item.name].attributes.items() if key not in PLACED}
        stated: Json = {**kept, "dtype": base.attributes["dtype"], "row_shape": base.attributes["row_shape"]}
        if item.column.row_shape and not isinstance(kept.get("channel_names"), list):
            stated["channel_names"] = base.attributes["channel_names"]
        if rule := stated_rule(sources[item.name].attributes):
            stated[OURS] = rule
        found.append(ArrayDraft(path=base.path, attributes=stated))
    if step.owners is not None:
        found.append(step.owners)
    return (*found, CURRENT.attribute(step.weight, np.dtype(np.int64)))
