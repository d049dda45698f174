"""A store written from blocks that Dask computes: rows alone, and how tasks of any such write send records."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph

from zarr_vectors_lazy.kernels.routing import RowOwners
from zarr_vectors_lazy.read.layers import Key, List, Task, TaskRef
from zarr_vectors_lazy.write.links import take_nodes
from zarr_vectors_lazy.write.part import (
    Finalise,
    Summary,
    begin,
    finish_write,
    index_rows,
    make_plan,
    without_tables,
    write_sent,
)
from zarr_vectors_lazy.write.records import BlockReader, merge_statistics, take_rows
from zarr_vectors_lazy.write.scratch import INDEX, Exchange, Relays, Scratch, Step, Work, guarded, index_runs, run_step
from zarr_vectors_lazy.write.session import new_write_id

# Each block is routed to chunks and each chunk put by one task, the root last. The input is computed once, and nothing
# is put in the place of a store before all of it was seen.

FAN_IN = 16
Tasks = dict[Key, Task]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Writing:
    """What is written and how.

    Parameters
    ----------
    reader, finalise, summarise
        What tasks run on a block, on all that blocks say, and at the end.
    paths
        Whether rows make paths.
    parts
        Tasks that write chunks.
    write_id
        Of this write and no other.
    """

    reader: BlockReader
    finalise: Finalise
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


class RecordExchange:
    """Adds the tasks of a write, which send each other records through its scratch place.

    Senders of an exchange are added before it is closed, receivers after.

    Parameters
    ----------
    writing, blocks
        What is written.
    scratch
        Where records wait.
    """

    def __init__(self, writing: Writing, blocks: Blocks, scratch: Scratch) -> None:
        self.writing = writing
        self.blocks = blocks
        self.scratch = scratch
        self.tasks: Tasks = {}
        self.rows = Exchange(name="rows", dtype=writing.reader.dtype, receivers=writing.parts)
        self._senders: dict[str, list[Key]] = {}
        self._relays: dict[str, Relays] = {}

    def add(self, name: str, work: Callable[..., Any], *args: Any) -> Key:
        """Add a task; its key."""
        key = self.writing.key(name)
        self.tasks[key] = Task(key, work, *args)
        return key

    def add_checked(self, name: str, work: Callable[..., Any], *args: Any) -> Key:
        """Add a task that may refuse the write; its key."""
        return self.add(name, guarded, self.scratch, work, *args)

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
        taken = tuple(self._relays[exchange.name].to_receiver(number) for exchange in takes)
        step = Step(scratch=self.scratch, work=work, number=number, takes=taken, sends=tuple(sends))
        ready = List(*(TaskRef(self._index(exchange)) for exchange in taken))
        self.tasks[key] = Task(key, run_step, step, ready, *args)
        for exchange in sends:
            self._senders.setdefault(exchange.name, []).append(key)
        return key

    def add_rows(self, nodes: Exchange | None = None, row_owners: RowOwners | None = None) -> list[Key]:
        """Add the tasks that take blocks of rows, and send ``nodes`` to their owners; keys of their statistics."""
        work, more = (take_rows, ()) if nodes is None else (take_nodes, (row_owners,))
        sends = [self.rows] if nodes is None else [self.rows, nodes]
        return [
            self.add_step(
                self.writing.key("rows", number),
                work,
                self.writing.reader,
                *more,
                number,
                *map(TaskRef, keys),
                number=number,
                sends=sends,
            )
            for number, keys in enumerate(self.blocks.keys)
        ]

    def add_plan(self, seen: Sequence[Key], checked: Sequence[Key] = ()) -> None:
        """Join statistics, plan, and begin when the tasks ``checked`` have run too."""
        writing = self.writing
        statistics = TaskRef(self.add_joins("statistics", seen, merge_statistics, writing.paths))
        plan = self.add_checked("plan", make_plan, writing.finalise, writing.reader.dtype, writing.parts, statistics)
        part_plan = self.add("part-plan", without_tables, TaskRef(plan))
        self.add_checked("begin", begin, TaskRef(part_plan), self.scratch, *map(TaskRef, checked))
        self._close(self.rows, index_rows, TaskRef(part_plan))

    def add_part(
        self, part: int, work: Work, *args: Any, takes: Sequence[Exchange] = (), sends: Sequence[Exchange] = ()
    ) -> Key:
        """Add the task that writes a part of the rows, which are received first; key of its record."""
        key, part_plan, begun = (self.writing.key(*name) for name in (("part", part), ("part-plan",), ("begin",)))
        more = (TaskRef(part_plan), TaskRef(begun), *args)
        return self.add_step(key, work, *more, number=part, takes=[self.rows, *takes], sends=sends)

    def add_joins(self, name: str, keys: Sequence[Key], join: Callable[..., Any], *args: Any) -> Key:
        """Join what tasks gave by a tree; key of the result."""
        depth = 0
        while len(keys) > 1 or depth == 0:
            joined = []
            for at in range(0, len(keys), FAN_IN):
                key = self.writing.key(name, depth, at)
                self.tasks[key] = Task(key, join, List(*map(TaskRef, keys[at : at + FAN_IN])), *args)
                joined.append(key)
            keys, depth = joined, depth + 1
        return keys[0]

    def close(self, *exchanges: Exchange) -> None:
        """All tasks that send are there: one more puts an index, which receivers wait for."""
        for exchange in exchanges:
            sent = self.add_joins(f"sent-{exchange.name}", self._senders[exchange.name], _nothing)
            self._close(exchange, index_sent, TaskRef(sent))

    def _close(self, exchange: Exchange, index: Callable[..., None], ready: TaskRef) -> None:
        relays = Relays.of(exchange, len(self._senders[exchange.name]))
        self._relays[exchange.name] = relays
        several = relays.groups > 1
        groups = range(relays.groups)
        names = [f"{INDEX}-{group}" if several else INDEX for group in groups]
        for group in groups:
            key = self._index(exchange, *([group] if several else []))
            self.tasks[key] = Task(key, index, self.scratch, exchange, relays.group(group), names[group], ready)
        for span in range(relays.spans if several else 0):
            joined = []
            for group in groups:
                key = self.writing.key(f"join-{exchange.name}", group, span)
                indexed = TaskRef(self._index(exchange, group))
                self.tasks[key] = Task(key, relays.join, self.scratch, group, span, indexed)
                joined.append(TaskRef(key))
            key = self._index(relays.to(span))
            self.tasks[key] = Task(key, index_sent, self.scratch, relays.to(span), groups, INDEX, List(*joined))

    def _index(self, exchange: Exchange, *group: int) -> Key:
        return self.writing.key(f"index-{exchange.name}", *group)

    def finish(self, work: Callable[..., Any], *args: Any) -> Delayed:
        """Add the last task; all of it."""
        key = self.add("finish", work, *args)
        graph = HighLevelGraph.from_collections(key, self.tasks, dependencies=list(self.blocks.collections))
        return Delayed(key, graph, layer=key)


def _nothing(_sent: object) -> None:
    """None: that tasks have run, without what they gave."""


def index_sent(scratch: Scratch, exchange: Exchange, senders: Sequence[int], name: str, _sent: object) -> None:
    """Task: put an index of what was sent."""
    index_runs(scratch, exchange, senders, name=name)


def rows_write(exchange: RecordExchange) -> Delayed:
    """Write rows alone."""
    exchange.add_plan(exchange.add_rows())
    parts = [exchange.add_part(part, write_sent) for part in range(exchange.writing.parts)]
    plan, begun = (TaskRef(exchange.writing.key(name)) for name in ("plan", "begin"))
    return exchange.finish(
        finish_write, plan, begun, exchange.writing.summarise, List(*map(TaskRef, parts)), exchange.scratch
    )
