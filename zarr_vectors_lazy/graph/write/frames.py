"""Records that travel between the tasks of a write on a cluster: by Dask's p2p shuffle."""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import getitem
from typing import TYPE_CHECKING, Any

import dask.dataframe as dd
import numpy as np
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph

from zarr_vectors_lazy.access.machine import check_worker
from zarr_vectors_lazy.access.write.exchange import Exchange, Mail, Work
from zarr_vectors_lazy.access.write.linked import write_rows
from zarr_vectors_lazy.access.write.part import PartRecord, Plan, sorted_rows
from zarr_vectors_lazy.access.write.session import WriteSession
from zarr_vectors_lazy.graph.layers import Key, List, Task, TaskRef
from zarr_vectors_lazy.graph.write.shuffled import UNIT, add_takes, frame_of, shuffled_rows
from zarr_vectors_lazy.graph.write.spilled import Blocks, Tasks, Writing
from zarr_vectors_lazy.kernels.places import Homes
from zarr_vectors_lazy.kernels.records import from_words

if TYPE_CHECKING:
    from zarr_vectors_lazy.access.write.spill import SpillFolder

TO = "to"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrameStep:
    """One of the tasks that receive and send data frames.

    Parameters
    ----------
    work
        What it does.
    takes
        What it receives.
    """

    work: Work
    takes: Sequence[Exchange] = ()


class FrameCarrier:
    """Records travel by Dask's shuffle, as data frames of integers.

    Parameters
    ----------
    writing, blocks
        What is written.
    shards, bounds
        As for `shuffled_write`.
    """

    def __init__(self, writing: Writing, blocks: Blocks, shards: tuple[int, ...] | None, bounds: Any) -> None:
        self.writing = writing
        self.blocks = blocks
        self.folder: SpillFolder | None = None
        self.tasks: Tasks = {}
        self._shards = shards
        self._bounds = bounds
        self._frames: dict[str, list[Key]] = {}
        self._received: dict[str, list[Key]] = {}

    def add_rows(self) -> list[Key]:
        """Tasks that make data frames."""
        frames, tallies = add_takes(self.tasks, self.writing, self.blocks, self._shards, self._bounds)
        self._frames[UNIT] = frames
        return tallies

    def add_part(self, part: int, sends: Sequence[Exchange], *args: Any) -> Key:
        """Task that has the rows of a partition."""
        if UNIT not in self._received:
            shuffled = shuffled_rows(self.writing, self._delayed(UNIT))
            self._received[UNIT] = self._over(shuffled)
        rows = TaskRef(self._received[UNIT][part])
        key, brief, begun = (self.writing.key(*name) for name in (("part", part), ("brief",), ("begin",)))
        return self.add_step(
            key, write_framed_rows, rows, TaskRef(brief), TaskRef(begun), *args, number=part, sends=sends
        )

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
        step = FrameStep(work=work, takes=tuple(takes))
        self.tasks[done] = Task(done, run_framed, step, received, *args)
        for at, exchange in enumerate(sends):
            frame = (f"{key[0]}-{exchange.name}", *key[1:])
            self.tasks[frame] = Task(frame, getitem, TaskRef(done), at)
            self._frames.setdefault(exchange.name, []).append(frame)
        self.tasks[key] = Task(key, getitem, TaskRef(done), len(sends))
        return key

    def close(self, exchange: Exchange) -> None:
        """Add the shuffle; its divisions say where each record goes."""
        meta = frame_of(np.empty(0, exchange.dtype), np.empty(0, np.int64), TO)
        frames = dd.from_delayed(self._delayed(exchange.name), meta=meta, verify_meta=False)
        divisions = tuple(range(exchange.receivers + 1))
        shuffled = frames.set_index(TO, divisions=divisions, shuffle_method="p2p").optimize(fuse=False)
        self._received[exchange.name] = self._over(shuffled)

    def received(self, exchange: Exchange, keys: Sequence[Key]) -> Sequence[Key]:
        """None: Dask deletes what all have received."""
        return []

    def graph(self, key: Key) -> HighLevelGraph:
        """The last tasks over all shuffles."""
        return HighLevelGraph.from_collections(key, self.tasks, dependencies=list(self.blocks.collections))

    def _delayed(self, name: str) -> list[Delayed]:
        """Frames that were sent, each with the graph of all tasks up to now."""
        layer = self.writing.key(f"send-{name}")
        graph = HighLevelGraph.from_collections(layer, dict(self.tasks), dependencies=list(self.blocks.collections))
        return [Delayed(frame, graph, layer=layer) for frame in self._frames[name]]

    def _over(self, shuffled: Any) -> list[Key]:
        # One layer of all tasks: the layers of several data frames, that name each other's tasks, would have no order.
        self.tasks.update(shuffled.__dask_graph__())
        keys: list[Key] = shuffled.__dask_keys__()
        return keys


def run_framed(step: FrameStep, frames: Sequence[Any], *args: Any) -> tuple[Any, ...]:
    """Work on what was received; the frames to be sent, and the work's result last."""
    check_worker(wanted=True)
    received = [
        from_words(frame.to_numpy(np.int64), exchange.dtype) for frame, exchange in zip(frames, step.takes, strict=True)
    ]
    mail, result = step.work(*received, *args)
    return (*(frame_of(each.records, each.to, TO) for each in mail), result)


def write_framed_rows(
    frame: Any, plan: Plan, begun: WriteSession, homes: Homes, width: int
) -> tuple[tuple[Mail, ...], PartRecord]:
    """`write_rows` of a part whose rows are in a data frame."""
    rows = sorted_rows(frame.drop(columns=UNIT).to_numpy(np.int64), plan.dtype)
    return write_rows(rows, plan, begun, homes, width)
