"""Levels as the reference package makes them."""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from zarr_vectors_lazy.errors import FormatError, SelectionError
from zarr_vectors_lazy.format.registry import CURRENT, PlacedLinks, encode_rows, encode_tiling, place_links
from zarr_vectors_lazy.kernels.bins import SharedBins, share_bins
from zarr_vectors_lazy.model.levels import ChunkTable
from zarr_vectors_lazy.model.objects import Manifests
from zarr_vectors_lazy.model.writing import CellRecord, ChunkRecord, Grid
from zarr_vectors_lazy.plan.blocks import chunks_below
from zarr_vectors_lazy.plan.levels import LevelScale, next_scale
from zarr_vectors_lazy.pyramid.coarsen import Begun
from zarr_vectors_lazy.pyramid.finer import FineRows, Owned, decode_rows, fetch_part, kept_objects, read_owners
from zarr_vectors_lazy.pyramid.merge import member_rows
from zarr_vectors_lazy.pyramid.planning import (
    Asked,
    Options,
    PlannedLevel,
    encoding_of,
    grid_of,
    kind_of,
    moved_index,
    scale_of,
)
from zarr_vectors_lazy.pyramid.session import ObjectTables, Shard
from zarr_vectors_lazy.pyramid.step import JOURNAL, Outbox, Part, Payload, Step, Thinning, encode
from zarr_vectors_lazy.read.level import LevelData, Source
from zarr_vectors_lazy.read.store import OpenStore
from zarr_vectors_lazy.requests import Get, Put
from zarr_vectors_lazy.storage.base import Backend
from zarr_vectors_lazy.storage.fetch import connect, fetch
from zarr_vectors_lazy.types import BoolArray, ChunkCoords, Floats, IntArray

# A whole level as the reference package makes it: vertices that objects share, unweighted means, no edges.
#
# For those who compare. It holds the finer level in memory, as the reference does: bins need not tile chunks, so that
# no chunk can be made by itself.

Shards = list[Shard]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reach:
    """A level that links lead to.

    Parameters
    ----------
    level, grid
        Its index, and the grid of its links.
    scale
        (D,) its chunks of a coarse chunk along each axis.
    """

    level: int
    grid: Grid
    scale: IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Became:
    """What the rows of a level became on the next.

    Parameters
    ----------
    chunks, starts
        (n, K) its chunks, and (n + 1,) the numbers of their rows.
    parents
        (N,) row of the next level, -1 for none; rows are numbered by chunk.
    """

    chunks: ChunkCoords
    starts: IntArray
    parents: IntArray


def shared_level(
    step: Step,
    coords: ChunkCoords,
    begun: Begun,
    below: Sequence[Sequence[ChunkRecord]],
    reaches: Sequence[Reach],
    after: object = None,
) -> tuple[list[ChunkRecord], Shards]:
    """Task: make a level; give the records of its chunks, and how many vertices its objects have.

    Parameters
    ----------
    coords
        (n, K) chunks of the finer level; those that ``below`` names, where it is made in the same graph.
    reaches
        Levels that links lead to, the finer level first; none where no links are stored.
    """
    backend = connect(step.source.spec)
    found = _finished(backend, step) if begun.resumed else None
    if found is not None:
        return found
    if below:
        coords = np.asarray(sorted(r.chunk for group in below for r in group if r.rows), np.int64)
    part = Part(chunks=coords[:1], fine=coords, bounds=np.asarray([0, len(coords)], np.int64), missing={})
    fine = decode_rows(step, part, fetch_part(step, part))
    rows, objects = _members(step, fine, begun)
    bins = share_bins(fine.positions.astype(np.float32), rows, step.bin_shape, step.chunk_shape)
    became = Became(coords, fine.starts, bins.parents)
    outbox = Outbox(backend, _key(step, "cells"), {})
    records = _chunks(step, bins, outbox)
    links = _links(step, backend, became, bins, reaches, outbox)
    if records:
        first = records[0]
        records[0] = ChunkRecord(first.chunk, first.rows, (*first.cells, *links))
    outbox.flush()
    shards = _manifests(step, backend, bins, objects)
    fetch(backend, [Put(_key(step, "became"), _packed(became)), Put(_key(step, "done"), _summary(records, shards))])
    return records, shards


def _members(step: Step, fine: FineRows, begun: Begun) -> tuple[IntArray, IntArray]:
    """Rows that count, each as often as kept objects name it, and the object of each; in path order."""
    if step.index is None:
        assert fine.fragments is not None
        rows = fine.fragments.fragments.rows(np.arange(len(fine.fragments.fragments)))
        return rows, np.zeros(len(rows), np.int64)
    owned: Owned = read_owners(step, begun.build).of_chunks(fine.chunks, fine.coarse)
    if step.thinning is not None:
        mask = _drawn(step) if step.thinning.drawn else kept_objects(step.thinning, begun.build)
        owned = owned if mask is None else owned.take(mask[owned.objects])
    rows, entries = member_rows(fine, owned)
    return rows, owned.objects[entries]


def _drawn(step: Step) -> BoolArray:
    """Objects that NumPy's generator draws, as the reference does: among all rows, at every level anew."""
    assert step.index is not None
    assert step.thinning is not None
    count = step.index.count
    mask = np.zeros(count, np.bool_)
    keep = max(1, round(count * step.thinning.keep))
    mask[np.random.default_rng(step.thinning.seed).choice(count, keep, replace=False)] = True
    return mask


def _chunks(step: Step, bins: SharedBins, outbox: Outbox) -> list[ChunkRecord]:
    records = []
    for i, chunk in enumerate(bins.chunks.tolist()):
        key, lo, hi = tuple(chunk), int(bins.starts[i]), int(bins.starts[i + 1])
        payloads = [
            Payload(step.level, "vertex_fragments", key, hi - lo, encode_tiling(np.ones(hi - lo, np.int64))),
            Payload(step.level, "vertices", key, hi - lo, encode_rows(bins.positions[lo:hi])),
        ]
        encoded = [encode(payload, step.grid, step.encoding) for payload in payloads]
        records.append(ChunkRecord(key, hi - lo, tuple(record for _, record in encoded)))
        outbox.add([put for put, _ in encoded], records[-1])
    return records


def _links(
    step: Step, backend: Backend, became: Became, bins: SharedBins, reaches: Sequence[Reach], outbox: Outbox
) -> list[CellRecord]:
    """Links to every level within reach: the parents of its rows, followed up to this level."""
    cells: list[CellRecord] = []
    for reach in reaches:
        chain = [_unpacked(backend, level) for level in range(reach.level + 1, step.level)]
        chain.append(became)
        parents = chain[0].parents
        for between in chain[1:]:
            parents = np.where(parents >= 0, between.parents[parents], -1)
        finest = chain[0]
        rows = np.flatnonzero(parents >= 0)
        here = np.searchsorted(finest.starts, rows, side="right") - 1
        there = np.searchsorted(bins.starts, parents[rows], side="right") - 1
        ends = np.stack([rows - finest.starts[here], parents[rows] - bins.starts[there]], axis=1)
        numbers = np.stack([here, there], axis=1)
        delta = step.level - reach.level
        up = place_links(
            numbers,
            ends,
            finest.chunks,
            directed=True,
            delta=delta,
            other=bins.chunks,
            anchors=finest.chunks // reach.scale,
        )
        cells += _family(step, outbox, Family(reach.level, reach.grid, delta, finest.chunks), up)
        if step.cross == "explicit":
            numbers, ends, anchors = numbers[:, ::-1], ends[:, ::-1], bins.chunks * reach.scale
            down = place_links(
                numbers, ends, bins.chunks, directed=True, delta=-delta, other=finest.chunks, anchors=anchors
            )
            cells += _family(step, outbox, Family(step.level, step.grid, -delta, bins.chunks), down)
    return cells


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """Links of one level to another: the level, the grid of its links, and the chunks of their first ends."""

    level: int
    grid: Grid
    delta: int
    chunks: ChunkCoords


def _family(step: Step, outbox: Outbox, family: Family, placed: PlacedLinks) -> list[CellRecord]:
    cells = []
    for cell, segment in enumerate(placed.segments):
        key = tuple(family.chunks[placed.sources[cell]].tolist())
        count = int(placed.bounds[cell + 1] - placed.bounds[cell])
        path = CURRENT.link_path(family.delta, segment)
        put, record = encode(Payload(family.level, path, key, count, placed.payload(cell)), family.grid, step.encoding)
        outbox.put(put)
        cells.append(record)
    return cells


def _manifests(step: Step, backend: Backend, bins: SharedBins, objects: IntArray) -> Shards:
    """Manifests of all objects: the bins that each passes through, one after another."""
    if step.index is None:
        return []
    change = np.ones(len(objects), np.bool_)
    change[1:] = (np.diff(objects) != 0) | (np.diff(bins.members) != 0)
    of, passed = objects[change], bins.members[change]
    chunk = np.searchsorted(bins.starts, passed, side="right") - 1
    count, size = step.index.count, CURRENT.shard_rows
    offsets = np.concatenate([[0], np.cumsum(np.bincount(of, minlength=count))]).astype(np.int64)
    whole = Manifests(offsets, bins.chunks[chunk], passed - bins.starts[chunk])
    shards: Shards = []
    for shard, first in enumerate(range(0, count, size)):
        part = whole.take(np.arange(first, min(first + size, count), dtype=np.int64))
        put = CURRENT.manifest_put(step.level, shard, part, count, step.encoding)
        fetch(backend, [put])
        shards.append((np.diff(part.offsets), CURRENT.digest(put)))  # each fragment is a vertex
    return shards


def _key(step: Step, name: str) -> str:
    return f"{JOURNAL}/{step.level}/shared/{name}"


def _packed(became: Became) -> bytes:
    data = io.BytesIO()
    np.savez(data, chunks=became.chunks, starts=became.starts, parents=became.parents)
    return data.getvalue()


def _unpacked(backend: Backend, level: int) -> Became:
    key = f"{JOURNAL}/{level}/shared/became"
    (raw,) = fetch(backend, [Get(key)])
    if raw is None:
        raise FormatError(f"the journal has no {key!r}; build again with overwrite=True", where=backend.url)
    with np.load(io.BytesIO(bytes(raw))) as found:
        return Became(found["chunks"], found["starts"], found["parents"])


def _summary(records: Sequence[ChunkRecord], shards: Shards) -> bytes:
    doc = {
        "records": [record.to_json() for record in records],
        "shards": [[vertices.tolist(), digest] for vertices, digest in shards],
    }
    return json.dumps(doc, separators=(",", ":")).encode()


def _finished(backend: Backend, step: Step) -> tuple[list[ChunkRecord], Shards] | None:
    (raw,) = fetch(backend, [Get(_key(step, "done"))])
    if raw is None:
        return None
    doc: Any = json.loads(bytes(raw))
    shards = [(np.asarray(vertices, np.int64), str(digest)) for vertices, digest in doc["shards"]]
    return [ChunkRecord.from_json(record) for record in doc["records"]], shards


# Levels as the reference package makes them, planned.

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
