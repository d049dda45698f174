"""Putting cells into shards as a Dask graph: a task packs some shards, one for each array changes it over."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from dask.delayed import delayed

from zarr_vectors_lazy.access.store import OpenStore
from zarr_vectors_lazy.access.upkeep.consolidate import drop_consolidated, read_nodes, write_consolidated
from zarr_vectors_lazy.access.upkeep.shard import Sharded, change_array, delete_left_over, pack_cells
from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.format.writing import GridLayout, Resharding, is_cell_array, plan_resharding, stale_prefix
from zarr_vectors_lazy.settings import setting
from zarr_vectors_lazy.storage.spec import StoreSpec
from zarr_vectors_lazy.types import ChunkCoords


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
        packed = [pack(spec, change, coords, start) for coords in shard_runs(change.array.chunks.coords, change.layout)]
        done.append(change_over(spec, node, tree.raw(path), change, packed))
    return delayed(_finish, pure=False)(spec, consolidated, done)


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
