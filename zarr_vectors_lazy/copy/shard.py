"""Cells of an array put together into shards, in place."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from dask.delayed import delayed

from zarr_vectors_lazy.errors import CorruptChunkError, SelectionError
from zarr_vectors_lazy.format.base import Found
from zarr_vectors_lazy.format.registry import (
    GridLayout,
    Resharding,
    is_cell_array,
    pack_puts,
    plan_resharding,
    stale_prefix,
)
from zarr_vectors_lazy.model.levels import dotted
from zarr_vectors_lazy.read.level import drive
from zarr_vectors_lazy.read.metadata import MetaTree
from zarr_vectors_lazy.read.store import OpenStore
from zarr_vectors_lazy.requests import Delete, ListSizes
from zarr_vectors_lazy.settings import setting
from zarr_vectors_lazy.storage.fetch import connect, fetch
from zarr_vectors_lazy.storage.spec import StoreSpec
from zarr_vectors_lazy.types import Buffer, ChunkCoords
from zarr_vectors_lazy.write.consolidate import drop_consolidated, put_unchanged, read_nodes, write_consolidated

# What tasks run to put the cells of an array together into shards, in place.
#
# The new objects have other keys than the old ones. An array changes from these to those in one put, that of its
# document; before it the old objects are whole, after it the new ones are. So a reader, and a store that is left at
# any moment, has the one or the other.


@dataclass(frozen=True, slots=True, eq=False)
class Sharded:
    """What became of an array: its path, and in how many objects its cells are now and were before."""

    path: str
    objects: int
    before: int


def pack_cells(spec: StoreSpec, change: Resharding, coords: ChunkCoords) -> int:
    """Write the new objects of some cells; return how many.

    Raises
    ------
    CorruptChunkError
        If a listed cell is not there.
    """
    backend = connect(spec)
    (raws,) = drive(backend, [change.array.spec.layout.fetch(coords)])
    found: list[Buffer] = []
    for coord, raw in zip(coords.tolist(), raws, strict=True):
        if raw is None or isinstance(raw, Exception):
            reason = "it is listed and there is no such object" if raw is None else str(raw)
            raise CorruptChunkError(reason, array=change.layout.path, chunk=dotted(coord), url=spec.url)
        found.append(raw)  # type: ignore[arg-type]
    puts = pack_puts(change.layout, coords, found)
    fetch(backend, puts)
    return len(puts)


def change_array(spec: StoreSpec, node: Found, raw: bytes, change: Resharding, packed: Sequence[int]) -> Sharded:
    """Put the document that tells of the new objects, then delete the old ones.

    Parameters
    ----------
    node, raw
        The document that the new one was made from.
    packed
        How many objects each task wrote: they are all there.
    """
    tree = MetaTree(spec)
    tree.take(node, raw)
    put_unchanged(tree, node, change.doc)
    backend = connect(spec)
    old = sorted(change.array.spec.layout.object_keys(change.array.chunks.coords) or ())
    step = backend.deletes_at_once
    fetch(backend, [Delete(tuple(old[at : at + step])) for at in range(0, len(old), step)])
    return Sharded(change.layout.path, sum(packed), len(old))


def delete_left_over(spec: StoreSpec, path: str, prefix: str) -> int:
    """Delete what an earlier run that was stopped left beside an array; return how many objects."""
    backend = connect(spec)
    (sizes,) = fetch(backend, [ListSizes(path)])
    keys = [key for key in sizes if key.startswith(prefix)]
    step = backend.deletes_at_once
    fetch(backend, [Delete(tuple(keys[at : at + step])) for at in range(0, len(keys), step)])
    return len(keys)


# Putting cells into shards as a Dask graph: a task packs some shards, one for each array changes it over.


def shard_store(opened: OpenStore, shard_shape: tuple[int, ...] | None) -> Any:
    """Delayed objects by array, of those that are not as wanted already.

    Parameters
    ----------
    shard_shape
        Chunks along each axis, one number for all or one for each; None: an object a cell.

    Raises
    ------
    SelectionError
        If the shape has another number of axes than an array.
    """
    tree, spec = opened.tree, opened.tree.spec
    root = tree.node("")
    consolidated = root is not None and root.doc.get("consolidated_metadata") is not None
    start = delayed(drop_consolidated, pure=False)(spec) if consolidated else None
    pack, change_over, clear = (delayed(f, pure=False) for f in (_pack, change_array, delete_left_over))
    done = []
    for path, doc in read_nodes(tree).items():
        if not is_cell_array(doc):
            continue
        node = tree.node(path)
        assert node is not None
        change = plan_resharding(node, shape_of_shards(shard_shape, len(doc["shape"]), opened.meta.ndim, path))
        if change is None:
            done.append(clear(spec, path, stale_prefix(node)))
            continue
        plan = shared(change)
        packed = [pack(spec, plan, coords, start) for coords in shard_runs(change.array.chunks.coords, change.layout)]
        done.append(change_over(spec, shared(node), tree.raw(path), plan, packed))
    return delayed(_finish, pure=False)(spec, consolidated, done)


def shared(value: Any) -> Any:
    """Delayed value that tasks name and do not hold; Dask does not look into it, which took most of a copy's time."""
    return delayed(value, traverse=False, pure=False)


def _pack(spec: StoreSpec, change: Resharding, coords: ChunkCoords, _started: object) -> int:
    return pack_cells(spec, change, coords)


def _finish(spec: StoreSpec, consolidated: bool, done: list[Sharded | int]) -> dict[str, int]:
    if consolidated:
        write_consolidated(spec)
    return {change.path: change.objects for change in done if isinstance(change, Sharded)}


def shape_of_shards(wanted: tuple[int, ...] | None, rank: int, ndim: int, path: str) -> tuple[int, ...] | None:
    """Cells of a shard along each axis of an array, from one number for all, or one for each axis of positions."""
    if wanted is None:
        return None
    if len(wanted) == 1:
        return wanted * rank
    if len(wanted) == ndim < rank:  # the first axis of chunks is that of an attribute
        return (1, *wanted)
    if len(wanted) != rank:
        raise SelectionError(f"shard_shape= has {len(wanted)} numbers, array {path!r} has {rank} axes of chunks")
    return wanted


def shard_runs(coords: ChunkCoords, layout: GridLayout) -> Iterator[ChunkCoords]:
    """Coordinates of the cells of each task: whole shards of the layout, about as many cells as a batch has."""
    if not len(coords):
        return
    shape = np.ones(coords.shape[1], np.int64) if layout.shards is None else np.asarray(layout.shards.shape)
    shard = np.unique(layout.zarr_indices(coords) // shape, axis=0, return_inverse=True)[1].reshape(-1)
    order = np.argsort(shard, kind="stable")
    ends = np.flatnonzero(np.diff(shard[order], append=-1)) + 1
    start, size = 0, int(setting("batch-chunks"))
    for at, end in enumerate(ends.tolist()):
        if at + 1 == len(ends) or int(ends[at + 1]) - start > size:
            yield coords[np.sort(order[start:end])]
            start = end
