"""How records travel between the tasks of a write: the rules, and through files of one machine."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph

from zarr_vectors_lazy.kernels.routing import RowOwners
from zarr_vectors_lazy.read.layers import Key, List, Task, TaskRef
from zarr_vectors_lazy.write.links import Exchange, FileStep, Work, drop, run_step, spill_nodes
from zarr_vectors_lazy.write.part import (
    Finalise,
    Summary,
    begin,
    finish_write,
    make_plan,
    without_tables,
    write_spilled,
)
from zarr_vectors_lazy.write.records import BlockReader, SpillFolder, merge_tallies, spill_block
from zarr_vectors_lazy.write.session import new_write_id

# A store written from blocks that Dask computes: each block routed to chunks, each chunk put by one task, root last.
#
# Under local schedulers rows wait in files of this machine, sorted by chunk. Under a cluster they travel by Dask's
# own shuffle, p2p. Either way the input is computed once, and nothing is put before all of it was seen.

FAN_IN = 16
Tasks = dict[Key, Task]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Writing:
    """What is written and how.

    Parameters
    ----------
    intake, settle, summarise
        What tasks run on a block, on all that blocks say, and at the end.
    paths
        Whether rows make paths.
    parts
        Tasks that write chunks.
    write_id
        Of this write and no other.
    """

    intake: BlockReader
    settle: Finalise
    summarise: Summary
    paths: bool
    parts: int
    write_id: str = field(default_factory=new_write_id)

    def key(self, name: str, *index: int) -> Key:
        """Key of a task of this write."""
        named = f"zv-{name}-{self.write_id}"
        return (named, *index) if index else named


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """Input blocks of Dask collections.

    Parameters
    ----------
    keys
        Of each block those of its parts.
    collections
        Whose graphs hold them.
    """

    keys: Sequence[tuple[Key, ...]]
    collections: Sequence[Any]


def optimized(*collections: Any) -> list[Any]:
    """Collections of one kind with their graphs optimized: plain ones together, expressions each by its method."""
    if any(hasattr(each, "expr") for each in collections):
        return [each.optimize() for each in collections]
    # Not dask.optimize, which takes one after another: cells that several need would be fetched for each of them.
    graph = HighLevelGraph.merge(*(each.__dask_graph__() for each in collections))
    graph = collections[0].__dask_optimize__(graph, [each.__dask_keys__() for each in collections])
    rebuilt = [each.__dask_postpersist__() for each in collections]
    return [rebuild(graph, *rest) for rebuild, rest in rebuilt]


def spilled_write(writing: Writing, blocks: Blocks, folder: SpillFolder) -> Delayed:
    """Write through files; for schedulers of one machine."""
    tasks: Tasks = {}
    add_plan(tasks, writing, add_spills(tasks, writing, blocks, folder))
    brief, begun = writing.key("brief"), writing.key("begin")
    parts = []
    for part in range(writing.parts):
        key = writing.key("part", part)
        tasks[key] = Task(key, write_spilled, TaskRef(brief), folder, part, TaskRef(begun))
        parts.append(key)
    key = writing.key("finish")
    tasks[key] = finish_task(writing, parts, folder)
    graph = HighLevelGraph.from_collections(key, tasks, dependencies=list(blocks.collections))
    return Delayed(key, graph, layer=key)


def add_spills(tasks: Tasks, writing: Writing, blocks: Blocks, folder: SpillFolder) -> list[Key]:
    """Keep input blocks in files; keys of their tallies."""
    tallies = []
    for number, keys in enumerate(blocks.keys):
        key = writing.key("spill", number)
        tasks[key] = Task(key, spill_block, writing.intake, folder, number, *map(TaskRef, keys))
        tallies.append(key)
    return tallies


def add_joins(
    tasks: Tasks, writing: Writing, name: str, keys: Sequence[Key], join: Callable[..., Any], *args: Any
) -> Key:
    """Join what tasks gave by a tree; key of the result."""
    depth = 0
    while len(keys) > 1 or depth == 0:
        joined = []
        for at in range(0, len(keys), FAN_IN):
            key = writing.key(name, depth, at)
            tasks[key] = Task(key, join, List(*map(TaskRef, keys[at : at + FAN_IN])), *args)
            joined.append(key)
        keys, depth = joined, depth + 1
    return keys[0]


def add_plan(tasks: Tasks, writing: Writing, tallies: Sequence[Key], checked: Sequence[Key] = ()) -> None:
    """Join tallies, plan, begin when the tasks ``checked`` have run too."""
    tally = add_joins(tasks, writing, "tally", tallies, merge_tallies, writing.paths)
    plan, brief, begun = (writing.key(name) for name in ("plan", "brief", "begin"))
    settled = (writing.settle, writing.intake.dtype, writing.parts)
    tasks[plan] = Task(plan, make_plan, *settled, TaskRef(tally))
    tasks[brief] = Task(brief, without_tables, TaskRef(plan))
    tasks[begun] = Task(begun, begin, TaskRef(brief), writing.write_id, *map(TaskRef, checked))


def finish_task(writing: Writing, parts: Sequence[Key], folder: SpillFolder | None) -> Task:
    """Return the last task."""
    plan, begun = TaskRef(writing.key("plan")), TaskRef(writing.key("begin"))
    args = (plan, begun, writing.summarise, List(*map(TaskRef, parts)), folder)
    return Task(writing.key("finish"), finish_write, *args)


# How records travel between the tasks of a write: the rules, and through files of one machine.


class RecordExchange(Protocol):
    """Adds the tasks of a write that send and receive records.

    Senders of an exchange are added before it is closed, receivers after.

    Parameters
    ----------
    tasks
        Added already; others may be added by hand.
    folder
        Of the files; None where there are none.
    """

    tasks: Tasks
    folder: SpillFolder | None
    hashed: bool
    """Whether rows go to parts by a hash of their chunk, not as the plan says."""

    def add_rows(self, nodes: Exchange | None = None, homes: RowOwners | None = None) -> list[Key]:
        """Add the tasks that take input blocks of rows, and send ``nodes`` home; keys of their tallies."""

    def add_part(
        self, part: int, work: Work, *args: Any, takes: Sequence[Exchange] = (), sends: Sequence[Exchange] = ()
    ) -> Key:
        """Add the task that writes a part of the rows, which are received first; key of its record."""

    def add_step(
        self,
        key: Key,
        work: Work,
        *args: Any,
        number: int,
        takes: Sequence[Exchange] = (),
        sends: Sequence[Exchange] = (),
    ) -> Key:
        """Add a task that receives and sends as ``number`` among its like; key of its result."""

    def close(self, exchange: Exchange, after: Sequence[Key] = ()) -> None:
        """All tasks that send are there; nothing need be received before the tasks ``after`` have run."""

    def close_rows(self, after: Sequence[Key] = ()) -> None:
        """`close` of the rows of parts."""

    def received(self, exchange: Exchange, keys: Sequence[Key]) -> Sequence[Key]:
        """All tasks that receive are there; keys of tasks that must run before the last one."""

    def graph(self, key: Key) -> HighLevelGraph:
        """All of it, with the task ``key`` last."""


class FileExchange:
    """Records travel through files.

    Parameters
    ----------
    writing, blocks
        What is written.
    folder
        Of the files.
    """

    hashed = False

    def __init__(self, writing: Writing, blocks: Blocks, folder: SpillFolder) -> None:
        self.writing = writing
        self.blocks = blocks
        self.folder: SpillFolder | None = folder
        self.tasks: Tasks = {}
        self._files = folder
        self._senders: dict[str, list[Key]] = {}

    def add_rows(self, nodes: Exchange | None = None, homes: RowOwners | None = None) -> list[Key]:
        """Tasks that keep records in files."""
        if nodes is None:
            return add_spills(self.tasks, self.writing, self.blocks, self._files)
        args = (self.writing.intake, self._files, homes)
        return [
            self.add_step(
                self.writing.key("spill", number),
                spill_nodes,
                *args,
                number,
                *map(TaskRef, keys),
                number=number,
                sends=[nodes],
            )
            for number, keys in enumerate(self.blocks.keys)
        ]

    def add_part(
        self, part: int, work: Work, *args: Any, takes: Sequence[Exchange] = (), sends: Sequence[Exchange] = ()
    ) -> Key:
        """Task that reads rows from files."""
        key, brief, begun = (self.writing.key(*name) for name in (("part", part), ("brief",), ("begin",)))
        return self._add(
            key,
            (TaskRef(brief), TaskRef(begun), *args),
            work=work,
            number=part,
            takes=takes,
            sends=sends,
            has_rows=True,
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
        """Task that waits until all have sent."""
        return self._add(key, args, work=work, number=number, takes=takes, sends=sends, has_rows=False)

    def _add(
        self,
        key: Key,
        args: Sequence[Any],
        *,
        work: Work,
        number: int,
        takes: Sequence[Exchange],
        sends: Sequence[Exchange],
        has_rows: bool,
    ) -> Key:
        step = FileStep(
            folder=self._files,
            work=work,
            number=number,
            takes=tuple((exchange, len(self._senders[exchange.name])) for exchange in takes),
            sends=tuple(sends),
            has_rows=has_rows,
        )
        ready = List(*(TaskRef(self._sent(exchange)) for exchange in takes))
        self.tasks[key] = Task(key, run_step, step, ready, *args)
        for exchange in sends:
            self._senders.setdefault(exchange.name, []).append(key)
        return key

    def close_rows(self, after: Sequence[Key] = ()) -> None:
        """Nothing: parts read rows when they run."""

    def close(self, exchange: Exchange, after: Sequence[Key] = ()) -> None:
        """One task that all receivers wait for, instead of each for each sender."""
        key = self._sent(exchange)
        self.tasks[key] = Task(key, _nothing, *map(TaskRef, self._senders[exchange.name]))

    def received(self, exchange: Exchange, keys: Sequence[Key]) -> Sequence[Key]:
        """A task that deletes the files."""
        key = self.writing.key(f"drop-{exchange.name}")
        senders = len(self._senders[exchange.name])
        self.tasks[key] = Task(key, drop, self._files, exchange, senders, *map(TaskRef, keys))
        return [key]

    def graph(self, key: Key) -> HighLevelGraph:
        """One layer over the input."""
        return HighLevelGraph.from_collections(key, self.tasks, dependencies=list(self.blocks.collections))

    def _sent(self, exchange: Exchange) -> Key:
        return self.writing.key(f"sent-{exchange.name}")


def _nothing(*_: object) -> None:
    return None
