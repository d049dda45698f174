"""Records as data frames of integers, and where Dask's p2p shuffle sends the rows of a store."""

from typing import Any

import dask.dataframe as dd
import numpy as np
import pandas as pd
from dask.delayed import Delayed

from zarr_vectors_lazy.access.write.intake import Taken, corners_of
from zarr_vectors_lazy.graph.layers import List, Task, TaskRef
from zarr_vectors_lazy.graph.write.spilled import Blocks, Tasks, Writing
from zarr_vectors_lazy.kernels.records import words
from zarr_vectors_lazy.kernels.routing import mixed
from zarr_vectors_lazy.model.writing import Grid
from zarr_vectors_lazy.plan.spread import shard_of
from zarr_vectors_lazy.types import Floats, IntArray

UNIT = "unit"
Shards = tuple[tuple[int, ...], tuple[int, ...]]
"""Origin of the chunk grid, and chunks of a shard along each axis."""


def shuffled_rows(frames: list[Delayed], dtype: np.dtype[np.void], parts: int) -> Any:
    """Frames of records as a data frame, a partition for each part of the write; units go where others of them go."""
    meta = frame_of(np.empty(0, dtype), np.empty(0, np.int64))
    routed = dd.from_delayed(frames, meta=meta, verify_meta=False)
    return routed.shuffle(on=UNIT, npartitions=parts, shuffle_method="p2p").optimize(fuse=False)


def add_grid(tasks: Tasks, writing: Writing, blocks: Blocks, shards: tuple[int, ...], bounds: Any) -> Any:
    """Add a first pass for the corner of the data, from which shards are counted; a reference to `Shards`."""
    corners = []
    for number, keys in enumerate(blocks.keys):
        key = writing.key("corner", number)
        tasks[key] = Task(key, corners_of, writing.intake, number, *map(TaskRef, keys))
        corners.append(TaskRef(key))
    key = writing.key("origin")
    lower = None if bounds is None else np.asarray(bounds[0], np.float64)
    tasks[key] = Task(key, grid_of, List(*corners), lower, writing.intake.chunk_shape, shards)
    return TaskRef(key)


def grid_of(
    corners: list[tuple[Floats, Floats]], lower: Floats | None, chunk_shape: Floats, shards: tuple[int, ...]
) -> Shards:
    """Grid of shards that holds all corners, and ``lower``."""
    lows = [corner[0] for corner in corners]
    lo = np.min(lows if lower is None else [lower, *lows], axis=0)
    if np.isinf(lo).any():  # no rows at all
        return (0,) * len(shards), shards
    return Grid.of_bounds(lo, lo, chunk_shape).origin, shards


def units_of(taken: Taken, shards: Shards | None) -> IntArray:
    """(n,) what decides where each row of an input block goes: its chunk, or its shard."""
    units = taken.routed.coords
    if shards is not None:
        units = shard_of(units, *shards)
    return np.repeat(mixed(units), taken.routed.counts)


def frame_of(records: Any, units: Any, name: str = UNIT) -> Any:
    """Data frame of records as integers, and what decides where each goes."""
    columns = words(records)
    frame = pd.DataFrame(columns, columns=[f"w{i}" for i in range(columns.shape[1])])
    frame[name] = units
    return frame
