"""A level as files in Neuroglancer's precomputed formats, written by a Dask graph.

Annotations are spread over levels that add up, each a random sample of those not in coarser ones. First their cells are
counted, then their records are written in the order of cells, one scratch object per task, then joined cell by cell.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import dask
import numpy as np
from dask.delayed import delayed

from zarr_vectors_lazy.convert.precomputed import Annotations, Grid, Sharding, cell_key, dump, thresholds, uniform
from zarr_vectors_lazy.convert.precomputed_level import PrecomputedLevel
from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.storage.fetch import connect, delete_below
from zarr_vectors_lazy.storage.requests import Delete, Get, Put
from zarr_vectors_lazy.storage.spec import StoreSpec
from zarr_vectors_lazy.types import Floats, IntArray
from zarr_vectors_lazy.write.scratch import Scratch
from zarr_vectors_lazy.write.session import new_write_id

LIMIT = 5000  # annotations in a cell
ROWS = 100_000  # approximate vertices of a task
SEGMENTS = 500  # objects of a task that writes a file for each
MOST_BITS = 60  # bits of the number of a cell
SCRATCH = "scratch"

Written = tuple[int, int]
"""Number of objects, and of bytes."""


@dataclass(frozen=True, eq=False)
class Export:
    """What is exported, and where to.

    Parameters
    ----------
    level, kind
        The level, and the kind of source.
    target
        Where files are written.
    sharded
        Whether cells and segments share files.
    limit
        Approximate number of annotations in a cell.
    """

    level: PrecomputedLevel
    kind: str
    target: StoreSpec
    sharded: bool
    limit: int = LIMIT

    def put(self, objects: Sequence[tuple[str, bytes]]) -> Written:
        """Write objects."""
        connect(self.target).fetch([Put(key, data) for key, data in objects])
        return len(objects), sum(len(data) for _, data in objects)


def export_level(export: Export, overwrite: bool = False) -> dict[str, Any]:
    """Write a source of a level; its ``info`` document comes last.

    Returns
    -------
    dict with ``kind``, ``count`` of annotations or segments, ``levels`` of the spatial index, ``files`` and ``bytes``.

    Raises
    ------
    SelectionError
        If the level has no such source, or an export already exists.
    """
    level = export.level
    if export.kind not in level.kinds:
        raise SelectionError(f"level {level.index} has no {export.kind}: it has {', '.join(level.kinds)}")
    _make_room(export, overwrite)
    if export.kind in {"skeletons", "mesh"}:
        info, count, done = _export_segments(export)
    else:
        info, count, done = _export_annotations(export)
    done.append(export.put([("info", dump(info))]))
    levels = len(info.get("spatial", ()))
    files, nbytes = np.sum(done, axis=0).tolist()
    return {"kind": export.kind, "count": count, "levels": levels, "files": files, "bytes": nbytes}


def _make_room(export: Export, overwrite: bool) -> None:
    """Delete an older export if requested; raises SelectionError if it is not, or if something else is there."""
    backend = connect(export.target)
    (there,) = backend.fetch([Get("info")])
    if there is None:
        return
    if not overwrite:
        raise SelectionError(f"{export.target.url} already has an info file: overwrite=True replaces it")
    if b"neuroglancer_" not in bytes(there):
        raise SelectionError(f"{export.target.url} is not such an export, and is not replaced")
    backend.fetch([Delete(("info",))])
    delete_below(backend, "")


# ---- segments


def _export_segments(export: Export) -> tuple[dict[str, Any], int, list[Written]]:
    level = export.level
    rows, segments = level.segments
    order = np.argsort(segments, kind="stable")
    rows, segments = rows[order], segments[order]
    sharding = None
    if export.sharded:
        if export.kind == "mesh":
            raise SelectionError("meshes cannot be sharded in this format: leave out sharded= (--sharded)")
        sharding = Sharding.of(int(segments.max(initial=0)), len(segments))
        parts = np.split(np.arange(len(rows)), np.flatnonzero(np.diff(sharding.shards(segments))) + 1)
    else:
        parts = np.array_split(np.arange(len(rows)), max(-(-len(rows) // SEGMENTS), 1))
    write = delayed(write_segments, pure=False)
    tasks = [write(export, rows[part], segments[part], sharding) for part in parts if len(part)]
    (done,) = dask.compute(tasks)
    info, described = level.segment_info(export.kind, sharding), level.described
    if described:
        done.append(export.put([("props/info", dump(level.property_info()))]))
    return info, len(rows), done


def write_segments(export: Export, rows: IntArray, segments: IntArray, sharding: Sharding | None) -> Written:
    """Task: write some segments, into one shard or a file for each."""
    level = export.level
    if export.kind == "mesh":
        names = [f"{segment}:0" for segment in segments.tolist()]
        fragments = [(f"{name}:0", data) for name, data in zip(names, level.meshes(rows), strict=True)]
        return export.put([*fragments, *((name, dump({"fragments": [f"{name}:0"]})) for name in names)])
    found = level.skeletons(rows)
    if sharding is None:
        return export.put([(str(segment), data) for segment, data in zip(segments.tolist(), found, strict=True)])
    return export.put([_shard("", sharding, segments, *_joined(found))])


# ---- annotations


@dataclass(frozen=True, eq=False)
class Plan:
    """How annotations are spread over levels.

    Parameters
    ----------
    lower
        Corner of all levels.
    grids
        By level, the coarsest first; one task joins the cells of a shard.
    ends
        (L,) random numbers up to which annotations belong to each level; see `precomputed.thresholds`.
    """

    lower: Floats
    grids: tuple[Grid, ...]
    ends: Floats


def _export_annotations(export: Export) -> tuple[dict[str, Any], int, list[Written]]:
    level, kind = export.level, export.kind
    parts, count = level.parts(kind, ROWS)
    lower, upper = level.bounds
    grids = nested_grids(lower, upper, count / export.limit)
    counting = delayed(count_cells, pure=False)
    (counted,) = dask.compute([counting(export, part, lower, grids) for part in parts])
    totals = [_totals([cells[number] for cells, _ in counted]) for number in range(len(grids))]
    ends = thresholds([counts for _, counts in totals], export.limit)
    kept = int(np.searchsorted(ends, 1 - 1e-9)) + 1
    ends = np.append(ends[: kept - 1], 1.0)
    spread = [
        replace(grid, limit=export.limit, sharding=Sharding.of(int(codes.max(initial=0)), len(codes), 16, 16))
        for grid, (codes, _) in zip(grids[:kept], totals, strict=False)
    ]
    plan = Plan(lower, tuple(spread), ends)
    spreading, gather, index = (delayed(task, pure=False) for task in (spread_annotations, gather_cells, write_index))
    total = sum(number for _, number in counted)
    by_id = Sharding.of(level.largest_id(kind), total, 256, 256)
    with Scratch(export.target, SCRATCH, new_write_id()) as scratch:
        (runs,) = dask.compute([spreading(export, scratch, part, number, plan) for number, part in enumerate(parts)])
        groups: dict[tuple[int, int], list[str]] = {}
        for key in sorted(key for keys in runs for key in keys):
            number, shard, _ = map(int, key.split("/"))
            groups.setdefault((number, shard), []).append(key)
        tasks = [gather(export, scratch, spread[number], keys) for (number, _), keys in groups.items()]
        tasks += [index(export, folder, by_id, shard) for folder, shard in level.index_shards(kind, by_id)]
        (done,) = dask.compute(tasks)
    delete_below(connect(export.target), SCRATCH)  # also what a killed export left
    shown = spread if export.sharded else [replace(grid, sharding=None) for grid in spread]
    return level.annotation_info(kind, (lower, upper), shown, by_id), total, done


def nested_grids(lower: Floats, upper: Floats, cells: float) -> tuple[Grid, ...]:
    """Levels of a spatial index, each with cells of half the edges; the finest has about as many as requested.

    Cells are as close to cubes as possible: short axes are halved later.
    """
    extent = upper - lower
    short = np.floor(np.log2(extent.max() / extent) + 0.5).astype(np.int64)
    depth = int(np.ceil(np.log2(max(cells, 1)) / len(extent))) + 4
    found: list[Grid] = []
    for number in range(depth + 1):
        shape = 2 ** np.maximum(number - short, 0)
        if np.log2(shape).sum() <= MOST_BITS:
            found.append(Grid(f"spatial{number}", tuple(shape.tolist()), extent / shape, 0))
    return tuple(found)


def count_cells(
    export: Export, part: IntArray, lower: Floats, grids: Sequence[Grid]
) -> tuple[list[tuple[IntArray, IntArray]], int]:
    """Task: count, by level, the annotations in each cell that has any, and all of them."""
    found, positions, owners = export.level.annotations(export.kind, part)
    counts = []
    for grid in grids:
        *_, codes = _crossed(grid, grid.cells(positions, lower), owners)
        counts.append(np.unique(codes, return_counts=True))
    return counts, len(found)


def _totals(parts: Sequence[tuple[IntArray, IntArray]]) -> tuple[IntArray, IntArray]:
    none = np.empty(0, np.int64)
    codes, at = np.unique(np.concatenate([none, *(codes for codes, _ in parts)]), return_inverse=True)
    weights = np.concatenate([none, *(counts for _, counts in parts)])
    return codes, np.bincount(at.reshape(-1), weights=weights, minlength=len(codes)).astype(np.int64)


def _crossed(grid: Grid, cells: IntArray, owners: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """(m,) annotations, ascending, with (m, D) the cells in which each has a vertex, and the numbers of these.

    Parameters
    ----------
    cells, owners
        (n, D) cell and (n,) annotation of each vertex.
    """
    codes = grid.morton(cells)
    order = np.lexsort((codes, owners))
    first = (np.diff(owners[order], prepend=-1) != 0) | (np.diff(codes[order], prepend=-1) != 0)
    kept = order[first]
    return owners[kept], cells[kept], codes[kept]


def spread_annotations(export: Export, scratch: Scratch, part: IntArray, run: int, plan: Plan) -> list[str]:
    """Task: put annotations, by level and shard, into scratch; return the names of what was put."""
    found, positions, owners = export.level.annotations(export.kind, part)
    of_each = np.searchsorted(plan.ends, uniform(found.ids), "right")
    written: dict[str, bytes] = {}
    for number, grid in enumerate(plan.grids):
        mine = of_each[owners] == number
        rows, cells, codes = _crossed(grid, grid.cells(positions[mine], plan.lower), owners[mine])
        assert grid.sharding is not None
        shards = grid.sharding.shards(codes)
        for shard in np.unique(shards).tolist():
            here = shards == shard
            written[f"{number}/{shard}/{run}"] = _packed(found.take(rows[here]), codes[here], cells[here])
    scratch.put(written)
    return list(written)


def _packed(found: Annotations, codes: IntArray, cells: IntArray) -> bytes:
    out = io.BytesIO()
    np.savez(out, words=found.words, counts=np.diff(found.offsets), ids=found.ids, codes=codes, cells=cells)
    return out.getvalue()


def gather_cells(export: Export, scratch: Scratch, grid: Grid, names: Sequence[str]) -> Written:
    """Task: join the cells of a shard from scratch, and write them."""
    read = [np.load(io.BytesIO(bytes(data))) for data in scratch.get(names)]
    words, counts, ids, codes, cells = (
        np.concatenate([part[name] for part in read]) for name in ("words", "counts", "ids", "codes", "cells")
    )
    found = Annotations(words, np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), ids)
    order = np.lexsort((uniform(ids + 1), codes))
    found, codes, cells = found.take(order), codes[order], cells[order]
    bounds = np.flatnonzero(np.diff(codes, prepend=-1, append=-1))
    parts = [found.take(np.arange(start, stop)).cell() for start, stop in pairwise(bounds.tolist())]
    keys_of_cells, first = codes[bounds[:-1]], cells[bounds[:-1]]
    assert grid.sharding is not None
    if not export.sharded:
        keys = [f"{grid.key}/{cell_key(cell)}" for cell in first.tolist()]
        return export.put(list(zip(keys, parts, strict=True)))
    return export.put([_shard(grid.key, grid.sharding, keys_of_cells, *_joined(parts))])


def _joined(parts: Sequence[bytes]) -> tuple[bytes, IntArray]:
    return b"".join(parts), np.fromiter(map(len, parts), np.int64, len(parts))


def _shard(folder: str, sharding: Sharding, keys: IntArray, data: bytes, sizes: IntArray) -> tuple[str, bytes]:
    """Key and bytes of a shard of some keys, ascending."""
    name = sharding.name(int(sharding.shards(keys[:1])[0]))
    return f"{folder}/{name}" if folder else name, sharding.encode(keys, data, sizes)


def write_index(export: Export, folder: str, sharding: Sharding, shard: int) -> Written:
    """Task: write the annotations of a shard one by one, as in ``by_id``, or by object."""
    found = export.level.numbered(export.kind, sharding, shard)
    if not len(found):
        return 0, 0
    related = export.kind == "lines" and export.level.whole_paths
    found_of = found.singles(related=related) if folder == "by_id" else found.cells()
    return export.put([_shard(folder, sharding, found.ids, *found_of)])
