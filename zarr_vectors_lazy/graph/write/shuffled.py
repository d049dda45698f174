"""A store written on a cluster: rows travel to the task of their chunk by Dask's p2p shuffle."""

from typing import Any

import dask.dataframe as dd
import numpy as np
import pandas as pd
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph

from zarr_vectors_lazy.access.machine import check_worker
from zarr_vectors_lazy.access.write.intake import Intake, Taken, Tally, corners_of, take_block
from zarr_vectors_lazy.access.write.part import PartRecord, Plan, write_words
from zarr_vectors_lazy.access.write.session import WriteSession
from zarr_vectors_lazy.graph.layers import Key, List, Task, TaskRef
from zarr_vectors_lazy.graph.write.spilled import Blocks, Tasks, Writing, add_plan, finished
from zarr_vectors_lazy.kernels.records import words
from zarr_vectors_lazy.kernels.routing import mixed
from zarr_vectors_lazy.model.writing import Grid
from zarr_vectors_lazy.plan.spread import shard_of
from zarr_vectors_lazy.types import Floats, IntArray

UNIT = "unit"
Shards = tuple[tuple[int, ...], tuple[int, ...]]
"""Origin of the chunk grid, and chunks of a shard along each axis."""


def shuffled_write(writing: Writing, blocks: Blocks, shards: tuple[int, ...] | None, bounds: Any) -> Delayed:
    """Write through Dask's shuffle; for a cluster.

    Parameters
    ----------
    shards
        Chunks of a shard along each axis; None where each chunk is an object.
    bounds
        That the store shall have; None: those of the data.
    """
    tasks: Tasks = {}
    frames, tallies = add_takes(tasks, writing, blocks, shards, bounds)
    layer = writing.key("frames")
    graph = HighLevelGraph.from_collections(layer, tasks, dependencies=list(blocks.collections))
    shuffled = shuffled_rows(
        [Delayed(frame, graph, layer=layer) for frame in frames], writing.intake.dtype, writing.parts
    )
    rest: Tasks = {}
    add_plan(rest, writing, tallies)
    brief, begun = TaskRef(writing.key("brief")), TaskRef(writing.key("begin"))
    parts = []
    for part, rows in enumerate(shuffled.__dask_keys__()):
        key = writing.key("part", part)
        rest[key] = Task(key, write_frame, brief, TaskRef(rows), begun)
        parts.append(key)
    return finished(rest, writing, parts, None, [shuffled, Delayed(tallies[0], graph, layer=layer)])


def add_takes(
    tasks: Tasks, writing: Writing, blocks: Blocks, shards: tuple[int, ...] | None, bounds: Any
) -> tuple[list[Key], list[Key]]:
    """Take input blocks; keys of the frames of their rows and of their tallies."""
    grid = None if shards is None else add_grid(tasks, writing, blocks, shards, bounds)
    frames, tallies = [], []
    for number, keys in enumerate(blocks.keys):
        key, frame, tally = (writing.key(name, number) for name in ("take", "frame", "count"))
        tasks[key] = Task(key, take_frame, writing.intake, grid, number, *map(TaskRef, keys))
        tasks[frame] = Task(frame, _first, TaskRef(key))
        tasks[tally] = Task(tally, _second, TaskRef(key))
        frames.append(frame)
        tallies.append(tally)
    return frames, tallies


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


def take_frame(intake: Intake, shards: Shards | None, number: int, *parts: Any) -> tuple[Any, Tally]:
    """Frame of an input block's records, with what decides where each goes; and the block's tally."""
    check_worker(wanted=True)
    taken = take_block(intake, number, *parts)
    return frame_of(taken.records, units_of(taken, shards)), taken.tally


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


def write_frame(plan: Plan, frame: Any, begun: WriteSession) -> PartRecord:
    """Write the chunks of a part."""
    return write_words(plan, frame.drop(columns=UNIT).to_numpy(np.int64), begun)


def _first(pair: tuple[Any, Tally]) -> Any:
    return pair[0]


def _second(pair: tuple[Any, Tally]) -> Tally:
    return pair[1]
