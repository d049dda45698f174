"""How records travel between the tasks of a write on a cluster: by Dask's p2p shuffle."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import getitem
from typing import TYPE_CHECKING, Any

import dask.dataframe as dd
import numpy as np
import pandas as pd
from dask.core import reverse_dict
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer

from zarr_vectors_lazy.kernels.records import Records, from_words, in_order, words
from zarr_vectors_lazy.kernels.routing import RowOwners, mixed
from zarr_vectors_lazy.model.writing import Grid
from zarr_vectors_lazy.plan.blocks import shard_of
from zarr_vectors_lazy.read.layers import Key, List, Task, TaskRef, check_worker
from zarr_vectors_lazy.types import Floats, IntArray
from zarr_vectors_lazy.write.exchange import Blocks, Tasks, Writing, add_plan, finish_task
from zarr_vectors_lazy.write.links import Exchange, LinkBatch, Work, nodes_of
from zarr_vectors_lazy.write.part import PartRecord, Plan, write_part
from zarr_vectors_lazy.write.records import BlockReader, BlockStatistics, Taken, corners_of, take_block
from zarr_vectors_lazy.write.session import WriteSession

if TYPE_CHECKING:
    from zarr_vectors_lazy.write.records import SpillFolder

# Records as data frames of integers, and where Dask's p2p shuffle sends the rows of a store.

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


# Records that travel between the tasks of a write on a cluster: by Dask's p2p shuffle.

TO = "to"
WORDS = r"^w\d+$"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrameStep:
    """One of the tasks that receive and send data frames.

    Parameters
    ----------
    work
        What it does.
    takes, sends
        What it receives and sends.
    """

    work: Work
    takes: Sequence[Exchange] = ()
    sends: Sequence[Exchange] = ()


def shuffled_write(writing: Writing, blocks: Blocks, shards: tuple[int, ...] | None, bounds: Any) -> Delayed:
    """Write rows alone.

    Parameters
    ----------
    shards
        Chunks of a shard along each axis; None where each chunk is an object.
    bounds
        That the store shall have; None: those of the data.
    """
    carrier = ShuffleExchange(writing, blocks, shards, bounds)
    add_plan(carrier.tasks, writing, carrier.add_rows())
    carrier.close_rows()
    parts = [carrier.add_part(part, write_sent_rows) for part in range(writing.parts)]
    key = writing.key("finish")
    carrier.tasks[key] = finish_task(writing, parts, None)
    return Delayed(key, carrier.graph(key), layer=key)


class ShuffleExchange:
    """Records travel by Dask's shuffle, as data frames of integers.

    Parameters
    ----------
    writing, blocks
        What is written.
    shards, bounds
        As for `shuffled_write`.
    """

    hashed = True

    def __init__(self, writing: Writing, blocks: Blocks, shards: tuple[int, ...] | None, bounds: Any) -> None:
        self.writing = writing
        self.blocks = blocks
        self.folder: SpillFolder | None = None
        self.tasks: Tasks = {}
        self._shards = shards
        self._bounds = bounds
        self._frames: dict[str, list[Key]] = {}
        self._received: dict[str, list[Key]] = {}
        self._sending: set[str] = set()

    def add_rows(self, nodes: Exchange | None = None, homes: RowOwners | None = None) -> list[Key]:
        """Tasks that make data frames."""
        grid = None
        if self._shards is not None:
            grid = add_grid(self.tasks, self.writing, self.blocks, self._shards, self._bounds)
        return [
            self.add_step(
                self.writing.key("take", number),
                take_framed,
                self.writing.intake,
                grid,
                homes,
                number,
                *map(TaskRef, keys),
                number=number,
                sends=[self._rows, *([] if nodes is None else [nodes])],
            )
            for number, keys in enumerate(self.blocks.keys)
        ]

    @property
    def _rows(self) -> Exchange:
        return Exchange(name="rows", dtype=self.writing.intake.dtype, receivers=self.writing.parts, to_rows=True)

    def add_part(
        self, part: int, work: Work, *args: Any, takes: Sequence[Exchange] = (), sends: Sequence[Exchange] = ()
    ) -> Key:
        """Task that has the rows of a partition."""
        key, brief, begun = (self.writing.key(*name) for name in (("part", part), ("brief",), ("begin",)))
        more = (TaskRef(brief), TaskRef(begun), *args)
        return self.add_step(key, work, *more, number=part, takes=[self._rows, *takes], sends=sends)

    def add_step(
        self,
        key: Key,
        work: Work,
        *args: Any,
        number: int,
        takes: Sequence[Exchange] = (),
        sends: Sequence[Exchange] = (),
    ) -> Key:
        """Task of a partition of each exchange; one more for each frame that it sends."""
        done = (f"{key[0]}-done", *key[1:])
        received = List(*(TaskRef(self._received[exchange.name][number]) for exchange in takes))
        step = FrameStep(work=work, takes=tuple(takes), sends=tuple(sends))
        self.tasks[done] = Task(done, run_framed, step, received, *args)
        for at, exchange in enumerate(sends):
            frame = (f"{key[0]}-{exchange.name}", *key[1:])
            self.tasks[frame] = Task(frame, getitem, TaskRef(done), at)
            self._frames.setdefault(exchange.name, []).append(frame)
        self.tasks[key] = Task(key, getitem, TaskRef(done), len(sends))
        return key

    def close_rows(self, after: Sequence[Key] = ()) -> None:
        """Add the shuffle of rows."""
        self.close(self._rows, after)

    def close(self, exchange: Exchange, after: Sequence[Key] = ()) -> None:
        """Add the shuffle; its divisions, or a hash, say where each record goes.

        What a shuffle gives, Dask fetches as soon as all was sent, and it is in memory from then on. So one more
        sender, of nothing, waits for the tasks ``after``.
        """
        if after:
            gate = self.writing.key(f"gate-{exchange.name}")
            self.tasks[gate] = Task(gate, no_frame, exchange, *map(TaskRef, after))
            self._frames[exchange.name].append(gate)
        layer = self.writing.key(f"send-{exchange.name}")
        graph = HighLevelGraph.from_collections(layer, dict(self.tasks), dependencies=list(self.blocks.collections))
        frames = [Delayed(frame, graph, layer=layer) for frame in self._frames[exchange.name]]
        make = shuffled_rows if exchange.to_rows else divided
        shuffled = make(frames, exchange.dtype, exchange.receivers)
        # One layer of all tasks: the layers of several data frames, that name each other's tasks, would have no order.
        made = shuffled.__dask_graph__()
        self._sending |= sending(made, self._frames[exchange.name])
        self.tasks.update(made)
        self._received[exchange.name] = shuffled.__dask_keys__()

    def received(self, exchange: Exchange, keys: Sequence[Key]) -> Sequence[Key]:
        """None: Dask deletes what all have received."""
        return []

    def graph(self, key: Key) -> HighLevelGraph:
        """The last tasks over all shuffles."""
        layer = MaterializedLayer(self.tasks, annotations={"priority": partial(priority, frozenset(self._sending))})
        return HighLevelGraph.from_collections(key, layer, dependencies=list(self.blocks.collections))


def sending(tasks: Mapping[Key, Any], frames: Sequence[Key]) -> set[str]:
    """First parts of the keys of tasks from frames to Dask's shuffle."""
    names, ahead = {str(frame[0]) for frame in frames if isinstance(frame, tuple)}, list(frames)
    dependents = reverse_dict({key: task.dependencies for key, task in tasks.items()})
    while ahead:
        for key in dependents.get(ahead.pop(), ()):
            if isinstance(key, tuple) and key[0] not in names:  # the barrier, which all of them meet, is none
                names.add(key[0])
                ahead.append(key)
    return names


def priority(sends: frozenset[str], key: Key) -> int:
    """1 for what sends, else 0: what is made is sent before more is made, and does not wait in memory."""
    return int(isinstance(key, tuple) and key[0] in sends)


def no_frame(exchange: Exchange, *_after: object) -> Any:
    """Return a frame of nothing."""
    return frame_of(np.empty(0, exchange.dtype), np.empty(0, np.int64), UNIT if exchange.to_rows else TO)


def divided(frames: list[Delayed], dtype: np.dtype[np.void], receivers: int) -> Any:
    """Frames of records as a data frame, a partition for each receiver."""
    meta = frame_of(np.empty(0, dtype), np.empty(0, np.int64), TO)
    sent = dd.from_delayed(frames, meta=meta, verify_meta=False)
    return sent.set_index(TO, divisions=tuple(range(receivers + 1)), shuffle_method="p2p").optimize(fuse=False)


def run_framed(step: FrameStep, frames: Sequence[Any], *args: Any) -> tuple[Any, ...]:
    """Work on what was received; the frames to be sent, and the work's result last."""
    check_worker(wanted=True)
    received = [
        from_words(frame.filter(regex=WORDS).to_numpy(np.int64), exchange.dtype)
        for frame, exchange in zip(frames, step.takes, strict=True)
    ]
    mail, result = step.work(*received, *args)
    sent = (
        frame_of(each.records, each.to, UNIT if exchange.to_rows else TO)
        for each, exchange in zip(mail, step.sends, strict=True)
    )
    return (*sent, result)


def write_sent_rows(rows: Records, plan: Plan, begun: WriteSession) -> tuple[tuple[()], PartRecord]:
    """Write the chunks of a part."""
    return (), write_part(plan, in_order(rows), begun)


def take_framed(
    intake: BlockReader, shards: Shards | None, homes: RowOwners | None, number: int, *parts: Any
) -> tuple[tuple[LinkBatch, ...], BlockStatistics]:
    """Rows of an input block, for their parts; with ``homes`` its nodes for their homes, too."""
    taken = take_block(intake, number, *parts)
    rows = LinkBatch(taken.records, units_of(taken, shards))
    return (rows,) if homes is None else (rows, nodes_of(taken, homes)), taken.tally
