"""From the caller's arguments to planned levels: refuses what is impossible, and writes nothing."""

import hashlib
import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from zarr_vectors_lazy.errors import FormatError, NotFoundError, SelectionError, StoreError
from zarr_vectors_lazy.format.codecs import byte_codecs
from zarr_vectors_lazy.format.registry import CURRENT
from zarr_vectors_lazy.model.arrays import CellArray, DenseArray
from zarr_vectors_lazy.model.levels import ChunkTable
from zarr_vectors_lazy.model.objects import ObjectIndex
from zarr_vectors_lazy.model.writing import LINKED, ArrayDraft, Encoding, Grid, Kind
from zarr_vectors_lazy.plan.blocks import LevelScale, chunks_below, grown, next_scale
from zarr_vectors_lazy.pyramid.coarsen import position_dtype
from zarr_vectors_lazy.pyramid.finer import LinkIndex
from zarr_vectors_lazy.pyramid.merge import OURS, plan_attributes, stated_rule
from zarr_vectors_lazy.pyramid.session import (
    METHOD,
    STRATEGY,
    LevelPlan,
    LevelRequest,
    ObjectTables,
    PyramidOptions,
    Session,
    continues,
    describe_parameters,
    find_shift,
    read_journals,
)
from zarr_vectors_lazy.pyramid.step import EndSegment, LevelBuild, Thinning
from zarr_vectors_lazy.read.level import LevelData, Source
from zarr_vectors_lazy.read.store import OpenStore
from zarr_vectors_lazy.requests import ListDir
from zarr_vectors_lazy.settings import block_nbytes
from zarr_vectors_lazy.storage.fetch import fetch
from zarr_vectors_lazy.types import ChunkCoords, IntArray, Json

# From a store's metadata to the steps that build its levels; cells are read only to find out a shape.

KINDS: dict[str, Kind] = {
    "point_cloud": "points",
    "line": "paths",
    "polyline": "paths",
    "streamline": "paths",
    "graph": "graph",
    "skeleton": "tree",
    "mesh": "faces",
}
UNKNOWN_ROWS = 16384  # assumed rows of a chunk, if nothing states them
FULLEST = 4  # times the content of level 0's fullest chunk that a coarse chunk may always hold
PLACED = ("nonempty_chunks", "chunk_grid_origin", OURS)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlannedLevel:
    """A level to be built.

    Parameters
    ----------
    step
        The step that its tasks share.
    coords, table
        (n, K) chunks that it may have.
    order, bounds
        The finer chunks of each; see `plan.blocks.chunks_below`.
    fine
        (f, K) chunks of the finer level.
    counts
        (f,) their rows, if known beforehand.
    missing
        Attributes that some of the finer chunks lack, and which.
    arrays
        Its own arrays of cells.
    links
        Cells of the links of the finer level, if it exists.
    tables
        What is carried over about objects, or None if there are none.
    """

    step: LevelBuild
    coords: ChunkCoords
    order: IntArray
    bounds: IntArray
    fine: ChunkCoords
    table: ChunkTable
    counts: IntArray | None = None
    missing: dict[str, np.ndarray[Any, np.dtype[np.bool_]]] = field(default_factory=dict)
    arrays: tuple[ArrayDraft, ...]
    links: LinkIndex | None = None
    tables: ObjectTables | None

    @property
    def row_nbytes(self) -> int:
        """Stored bytes of a vertex with its attributes."""
        step = self.step
        nbytes = step.vertices.dtype.itemsize * len(step.scale) + (8 if step.weights is not None else 0)
        columns = (item.column for item in step.attributes)
        return nbytes + sum(each.dtype.itemsize * math.prod(each.row_shape) for each in columns)

    def chunks_below(self, chunks: ChunkCoords) -> ChunkCoords:
        """(f, K) chunks of the finer level below some of this one's, in lexicographic order."""
        at = self.table.find(chunks)
        parts = [self.order[self.bounds[i] : self.bounds[i + 1]] for i in at.tolist()]
        return self.fine[np.sort(np.concatenate(parts))]


def kind_of(data: LevelData) -> Kind:
    """Decide how the vertices of a level are merged.

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
        raise FormatError("paths need an object index, but there is none", where=data.url)
    return "sets" if kind == "points" and has_objects else kind


def _has_manifests(data: LevelData) -> bool:
    return data.object_index is not None and data.object_index.has_manifests


def scale_of(opened: OpenStore, data: LevelData) -> LevelScale:
    """Grid of an existing level."""
    meta, root = data.meta, opened.meta
    ratio = np.rint(meta.chunk_shape / root.chunk_shape).astype(np.int64)
    if not np.allclose(ratio * root.chunk_shape, meta.chunk_shape, rtol=1e-9) or (ratio < 1).any():
        raise FormatError(
            f"chunks of {meta.chunk_shape.tolist()} are not multiples of the root's {root.chunk_shape.tolist()}",
            where=data.url,
        )
    return LevelScale(
        level=meta.index,
        bin_shape=meta.bin_shape,
        chunk_shape=meta.chunk_shape,
        ratio=ratio,
        fold=meta.bin_shape / root.bin_shape,
        keep=float(meta.block.get("object_sparsity") or 1.0),
    )


def encoding_of(data: LevelData) -> Encoding:
    """Encode coarse cells like those of the level, if it uses codecs that we write."""
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


def choose_scales(opened: OpenStore, data: LevelData, asked: Sequence[LevelRequest]) -> list[Any]:
    """Chunk scale of each level, also of those that leave it open.

    A chunk grows by its level's coarsening, so that it has as many bins on each level, unless the fullest would hold
    more than 4 times what level 0's fullest holds and more than Dask's ``array.chunk-size``: then the smallest that
    tiles
    is used. How many vertices a chunk will hold is not known beforehand: it is estimated as all that lie below it,
    but no more than its bins if all vertices of a bin become one. If a store does not state how many vertices its
    chunks have (`zvl index` adds this), each is assumed to have `UNKNOWN_ROWS`.

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
        least = next_scale(at, *item)
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
    """(n,) vertices of the chunks of a level, as far as they are known."""
    counts = data.vertices.counts
    return np.full(len(data.vertices.chunks), UNKNOWN_ROWS, np.int64) if counts is None else counts


def plan_first(opened: OpenStore, data: LevelData, asked: LevelRequest, options: PyramidOptions) -> PlannedLevel:
    """Plan the level that is made from an existing one.

    Raises
    ------
    SelectionError
        If a factor or rule is wrong, or bins do not tile chunks.
    NotFoundError
        If ``aggregate`` names an attribute that the level does not have.
    """
    kind = kind_of(data)
    fine = scale_of(opened, data)
    scale = next_scale(fine, *asked)
    table = data.vertices.chunks
    if not len(table):
        raise FormatError("the level has no vertices: there is nothing to build a pyramid from", where=data.url)
    own = data.meta.block.get("zarr_vectors_lazy") or {}
    weight = own.get("weight") if data.meta.index else None
    items, missing = plan_attributes(data, options.aggregate, weight)
    if kind in LINKED and data.object_index is None and float(asked.factor[1]) > 1:
        raise SelectionError("sparsity drops whole objects, but this level has none", where=data.url)
    base = opened.levels.get(0, data)
    if kind == "points" or data.object_index is None:
        thinning = thinned(options, 1 / float(asked.factor[1]), data.source)
    else:
        thinning = thinned(options, scale.keep, base.source, base.object_index)
    coords, order, bounds = chunks_below(table.coords, scale.ratio // fine.ratio)
    links, family = _link_index(data, kind), data.links(0) if kind in LINKED else None
    name = weight or ("zv_count" if "count" in data.attribute_names else "count")
    step = LevelBuild(
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
        min_vertices=options.min_vertices,
        emptied=kind == "paths" and not data.meta.fragments_tile,
        scale=scale.ratio // fine.ratio,
        at=scale,
        root_bins=_root_bins(opened, kind, scale),
        cross_level_storage=options.links,
        fine_grid=grid_of(table.coords, options.shift),
        grid=grid_of(coords, options.shift),
        encoding=encoding_of(data),
    )
    sources = {item.name: data.attribute(item.name) for item in items if item.column.spec is not None}
    tables = None
    if step.index is not None:
        tables = ObjectTables(source=data.source, index=step.index, attributes=data.object_attributes)
    return PlannedLevel(
        step=step,
        coords=coords,
        order=order,
        bounds=bounds,
        fine=table.coords,
        table=ChunkTable(coords),
        counts=data.vertices.counts,
        missing=missing,
        arrays=_arrays(step, sources),
        links=links,
        tables=tables,
    )


def plan_next(opened: OpenStore, below: PlannedLevel, asked: LevelRequest, options: PyramidOptions) -> PlannedLevel:
    """Plan the level that is made from a planned one; errors as for `plan_first`."""
    old = below.step
    scale = next_scale(old.at, *asked)
    source = Source(old.source.spec, old.level)
    specs = {draft.path: CURRENT.cell_spec(old.level, draft, old.grid, old.encoding) for draft in below.arrays}
    dtype = position_dtype(old.vertices.dtype)
    vertices = replace(specs["vertices"], dtype=dtype, row_shape=old.vertices.row_shape)
    items = []
    for item in old.attributes:
        spec = replace(specs[f"vertex_attributes/{item.name}"], row_shape=item.column.row_shape, dictionary=None)
        column = replace(item.column, source=source, spec=spec, vertices=vertices, dtype=item.dtype, constants=None)
        items.append(replace(item, column=column))
    coords, order, bounds = chunks_below(below.coords, scale.ratio // old.at.ratio)
    base = opened.levels.get(0)
    if old.index is not None and base is not None:
        thinning = thinned(options, scale.keep, base.source, base.object_index)
    else:
        thinning = thinned(options, 1 / float(asked.factor[1]), source)
    step = replace(
        old,
        source=source,
        level=asked.level,
        segments=(),
        vertices=vertices,
        fragments=None if old.fragments is None else specs["vertex_fragments"],
        attributes=tuple(items),
        weights=replace(specs[f"vertex_attributes/{old.weight}"], row_shape=()),
        index=None if old.index is None else moved_index(old.index, old.level, options.build, old.encoding),
        thinning=thinning,
        emptied=False,
        scale=scale.ratio // old.at.ratio,
        at=scale,
        root_bins=_root_bins(opened, old.kind, scale),
        fine_grid=old.grid,
        grid=grid_of(coords, options.shift),
    )
    return PlannedLevel(
        step=step,
        coords=coords,
        order=order,
        bounds=bounds,
        fine=below.coords,
        table=ChunkTable(coords),
        arrays=below.arrays,
        tables=below.tables,
    )


def moved_index(index: ObjectIndex, level: int, build: str, encoding: Encoding) -> ObjectIndex:
    """The object index that a level will have, from that of the level below; its keys were used by no other build."""
    digest, rows = f"{build}:{level}", min(CURRENT.shard_rows, index.count)

    def made(name: str, dtype: type) -> DenseArray:
        path = f"{level}/object_index/{name}"
        shape = (index.count,)
        return DenseArray(path=path, name=name, shape=shape, dtype=np.dtype(dtype), chunk_rows=rows, digest=digest)

    codecs = tuple(codec["name"] for codec in byte_codecs(encoding))
    return ObjectIndex(
        count=index.count,
        rank=index.rank,
        manifests=replace(made("manifests", object), codecs=codecs, direct=True) if index.has_manifests else None,
        ids=None if index.ids is None else made("object_ids", np.int64),
        digest=digest,
    )


def thinned(options: PyramidOptions, keep: float, base: Source, index: ObjectIndex | None = None) -> Thinning | None:
    """Which objects of a level are dropped, or without them which of its vertices; None if none is."""
    return Thinning(sparsity_seed=options.sparsity_seed, keep=keep, base=base, index=index) if keep < 1 else None


def _link_index(data: LevelData, kind: Kind) -> LinkIndex | None:
    """Cells of the links inside a level, if these are carried over."""
    if kind not in LINKED:
        return None
    family = data.links(0)
    if family is not None and family.table is not None:
        raise FormatError("links in a table are not supported", where=data.url)
    segments = () if family is None else family.segments
    found = [EndSegment(spec=s.array.spec, coding=s.coding, offsets=s.offsets) for s in segments]
    width = 2 if family is None else family.width
    return LinkIndex.of(found, [s.array.chunks for s in segments], width, data.vertices.chunks.rank)


def _root_bins(opened: OpenStore, kind: Kind, scale: LevelScale) -> IntArray | None:
    """Level-0 bins of a chunk, where the reference takes fragments for them (PYRAMID.md, peer-readability)."""
    root = opened.meta
    declared = root.attributes["zarr_vectors"].get("base_bin_shape") is not None
    bins = np.rint(root.chunk_shape / root.bin_shape).astype(np.int64)
    tiled = np.allclose(bins * root.bin_shape, root.chunk_shape, rtol=1e-9) and (bins >= 1).all()
    if kind != "points" or not declared or not tiled or (scale.ratio != 1).any() or int(np.prod(bins)) == 1:
        return None
    return bins


def _arrays(step: LevelBuild, sources: Mapping[str, CellArray]) -> tuple[ArrayDraft, ...]:
    """Arrays of cells of a coarse level, with attributes described as on the finer one."""
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


# From the caller's arguments to a session and planned levels: refuses what is impossible, and writes nothing.

CAPABILITIES = ("preserved_object_ids", "shared_fragments", "multiscale_links")
CHUNKING = ("chunk_dims", "chunk_attribute_name", "chunk_attribute_values")


def prepare(
    opened: OpenStore, options: PyramidOptions, slots: int
) -> tuple[Session, list[PlannedLevel], list[LevelPlan]]:
    """Plan a build for ``slots`` tasks at once.

    Raises
    ------
    StoreError
        If the store's generation cannot be written, or levels or another build are in the way.
    NotFoundError, SelectionError, FormatError
        If levels cannot be built as requested.
    """
    if opened.generation.name != CURRENT.name:
        raise StoreError(
            f"stores of format {opened.meta.version} cannot be written to; migrate it first: zvl.migrate(src, dst)",
            where=opened.tree.url,
        )
    opened.refuse_additive("a pyramid")
    opened.refuse_deferred()
    data = opened.levels.get(options.source)
    if data is None:
        raise NotFoundError.among("level", options.source, sorted(opened.levels), where=opened.tree.url)
    backend = opened.tree.backend
    options = replace(options, chunk_scale_factors=choose_scales(opened, data, options.asked))
    parameters = describe_parameters(_stated(options), fingerprint(opened, data))
    journals = read_journals(backend)
    resumed = bool(journals) and continues(journals, options.levels, parameters) and options.resume
    replaced = tuple(sorted(level for level in opened.levels if level in options.levels or (options.whole and level)))
    kept = tuple(level for level in sorted(opened.levels) if level not in replaced)
    journal = next(iter(journals.values())) if resumed else {}
    shift = int(journal.get("shift", 0))
    if options.overwrite and not resumed:
        shift = find_shift(backend, kept, {*options.levels, *replaced})
    options = replace(options, shift=shift, build=uuid.uuid4().hex)
    levels = plan_levels(opened, data, options)
    if not resumed:  # after impossible arguments, which overwriting would not mend
        _refuse(opened, options, journals, replaced)
    root = opened.tree.existing("")
    session = Session(
        spec=opened.tree.spec,
        options=options,
        parameters=parameters,
        resumed=resumed,
        published=resumed and any(doc.get("state") == "published" for doc in journals.values()),
        replaced=replaced,
        kept=kept,
        root=root.attributes,
        bins={level: opened.levels[level].meta.bin_shape for level in kept if level}
        | {planned.step.level: planned.step.at.bin_shape for planned in levels},
        base=opened.levels[0].meta.bin_shape if 0 in opened.levels else opened.meta.bin_shape,
        block=_block(opened, options, levels),
        consolidated=bool(journal.get("consolidated")) or root.consolidated,
        slots=int(journal.get("slots", slots)),
        summary={
            "method": METHOD,
            "cross_level_depth": options.cross_level_depth,
            "cross_level_storage": options.cross_level_storage,
            "left_out": left_out(data, levels[0].step),
        },
    )
    return session, levels, _plans(opened, data, options, levels)


def left_out(data: LevelData, step: LevelBuild) -> list[str]:
    """Paths, below the existing level, of attributes, links and groups that coarse levels do not get from it."""
    level, joined = data.meta.index, {item.name for item in step.attributes}
    gone = joined | {step.weight if step.weights is not None else None}
    found = [f"vertex_attributes/{name}" for name in data.stored_names if name not in gone]
    fragments = data.tree.children(f"{level}/fragment_attributes", required=False) or ()
    owned = CURRENT.owner_names if step.owners is not None else ()
    found += [f"fragment_attributes/{name}" for name in fragments if name not in owned]
    found += [f"link_attributes/{name}" for name in data.link_attribute_names]
    return found


def fingerprint(opened: OpenStore, data: LevelData) -> str:
    """Digest of the metadata of everything that a build reads; they change when the source is rewritten."""
    block = {
        name: value
        for name, value in opened.meta.attributes["zarr_vectors"].items()
        if not name.startswith("cross_level") and name != "format_capabilities"
    }
    parts = [repr(sorted(block.items())), data.vertices.digest]
    parts += [data.attribute(name).digest for name in data.stored_names]
    parts += [] if data.object_index is None else [data.object_index.digest]
    family = data.links(0) if kind_of(data) in LINKED else None
    parts += [] if family is None else [segment.array.digest for segment in family.segments]
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()


def _stated(options: PyramidOptions) -> Json:
    factors = [[np.asarray(value, np.float64).tolist() for value in pair] for pair in options.factors]
    scales = [None if scale is None else np.asarray(scale).tolist() for scale in options.chunk_scale_factors]
    return {
        "source": options.source,
        "levels": options.levels,
        "whole": options.whole,
        "seed": options.sparsity_seed,
        "depth": options.cross_level_depth,
        "storage": options.cross_level_storage,
        "min_vertices": options.min_vertices,
        "factors": factors,
        "scales": scales,
        "aggregate": options.aggregate,
    }


def _refuse(opened: OpenStore, options: PyramidOptions, journals: dict[int, Json], replaced: tuple[int, ...]) -> None:
    """Refuse to take a place that is not free."""
    if options.overwrite:
        return
    if journals:
        raise StoreError(
            f"levels {sorted(journals)} are being built, or their build was interrupted, with other parameters or from "
            "another source; overwrite=True discards that",
            where=opened.tree.url,
        )
    if replaced:
        raise StoreError(
            f"level{'s' if len(replaced) > 1 else ''} {', '.join(map(str, replaced))} already "
            f"{'exist' if len(replaced) > 1 else 'exists'}; overwrite=True replaces what is there",
            where=opened.tree.url,
        )
    folders = fetch(opened.tree.backend, [ListDir(str(level), required=False) for level in options.levels])
    left = [level for level, names in zip(options.levels, folders, strict=True) if names]
    if left:
        raise StoreError(
            f"folders {left} hold files that belong to no level; overwrite=True deletes them", where=opened.tree.url
        )


def plan_levels(opened: OpenStore, data: LevelData, options: PyramidOptions) -> list[PlannedLevel]:
    """Plan all levels, each from the one before."""
    first, *others = options.asked
    planned = [plan_first(opened, data, first, options)]
    for item in others:
        planned.append(plan_next(opened, planned[-1], item, options))
    return planned


def _block(opened: OpenStore, options: PyramidOptions, levels: Sequence[PlannedLevel]) -> Json:
    known = opened.meta.attributes["zarr_vectors"].get("format_capabilities") or []
    capabilities = [name for name in known if name not in CAPABILITIES or not options.whole]
    if levels[0].step.index is not None:
        capabilities.append("preserved_object_ids")
    if options.links != "none":
        capabilities.append("multiscale_links")
    found: Json = {"format_capabilities": list(dict.fromkeys(capabilities))}
    stated = ("cross_level_depth", "cross_level_storage") if options.whole else ()
    return found | {name: getattr(options, name) for name in stated}


def _plans(
    opened: OpenStore, data: LevelData, options: PyramidOptions, levels: Sequence[PlannedLevel]
) -> list[LevelPlan]:
    first = levels[0].step
    plans = [LevelPlan(step=replace(first, level=options.source, grid=first.fine_grid))]  # the existing level
    for one in levels:
        attributes = _level_attributes(opened, data, options, one)
        plans.append(LevelPlan(step=one.step, arrays=one.arrays, attributes=attributes))
    return plans


def _level_attributes(opened: OpenStore, data: LevelData, options: PyramidOptions, planned: PlannedLevel) -> Json:
    step = planned.step
    found: Json = {"parent_level": step.source.level, "fragments_tile": True}
    found |= {"coarsening_method": METHOD, "object_sparsity": planned.step.at.keep}
    rules: Json = {"aggregate": options.aggregate} if options.aggregate else {}
    rules |= {"min_vertices": options.min_vertices} if options.min_vertices > 2 else {}
    found["zarr_vectors_lazy"] = {"weight": step.weight, **rules, **_sparsity_rule(options, planned)}
    if not np.array_equal(step.at.chunk_shape, opened.meta.chunk_shape):
        found["chunk_shape"] = step.at.chunk_shape.tolist()
    if step.index is not None:
        found |= {"preserves_object_ids": True, "inherited_num_objects": step.index.count}
        found["arrays_present"] = ["object_index", "object_attributes"]
    block = data.meta.block
    return found | {name: block[name] for name in CHUNKING if name in block}


def _sparsity_rule(options: PyramidOptions, planned: PlannedLevel) -> Json:
    if planned.step.at.keep >= 1:
        return {}
    of = "objects" if planned.step.index is not None else "vertices"
    return {"sparsity": {"strategy": STRATEGY, "seed": options.sparsity_seed, "of": of, "nested": of == "objects"}}
