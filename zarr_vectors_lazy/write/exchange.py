"""Graphs that write a store from blocks that Dask computes, and how their tasks send records to each other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph

from zarr_vectors_lazy.kernels.routing import PLACE, RowOwners
from zarr_vectors_lazy.kernels.rows import attribute_field
from zarr_vectors_lazy.read.layers import GraphNode, Key, List, Task, TaskRef, task_tree
from zarr_vectors_lazy.types import IntArray
from zarr_vectors_lazy.write.links import (
    EDGE,
    RANK,
    LinkBlockReader,
    Valued,
    finish_linked,
    hold_edges,
    join_parents,
    join_values,
    merge_link_statistics,
    name_edges,
    node_dtype,
    plan_links,
    rank_trees,
    resolve_ends,
    take_edges,
    take_links,
    take_nodes,
    tree_dtype,
    with_gaps,
    write_link_part,
    write_rows,
    write_tree_rows,
)
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

# Each block is routed to chunks, each chunk is put by one task, and the root last. The input is computed once, and
# nothing is put in the place of a store before all of the input was seen.

Tasks = dict[Key, GraphNode]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Writing:
    """What is written, and how.

    Parameters
    ----------
    reader, finalise, summarise
        The functions that tasks run on a block, on what all blocks say, and at the end.
    paths
        Whether rows form paths.
    parts
        Number of tasks that write chunks.
    write_id
        Id of this write.
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
        For each block, the keys of its parts.
    collections
        The collections whose graphs hold them.
    """

    keys: Sequence[tuple[Key, ...]]
    collections: Sequence[Any]


def optimized(*collections: Any) -> list[Any]:
    """Optimize the graphs of collections: plain ones together, expressions each by its own method."""
    if any(hasattr(each, "expr") for each in collections):
        return [each.optimize() for each in collections]
    # Not dask.optimize, which takes one after another: cells that several need would be fetched for each.
    graph = HighLevelGraph.merge(*(each.__dask_graph__() for each in collections))
    graph = collections[0].__dask_optimize__(graph, [each.__dask_keys__() for each in collections])
    rebuilt = [each.__dask_postpersist__() for each in collections]
    return [rebuild(graph, *rest) for rebuild, rest in rebuilt]


class RecordExchange:
    """Adds the tasks of a write, which send records to each other through its scratch place.

    Senders of an exchange are added before it is closed, and receivers afterwards.

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
        """Add a task; return its key."""
        key = self.writing.key(name)
        self.tasks[key] = Task(key, work, *args)
        return key

    def add_checked(self, name: str, work: Callable[..., Any], *args: Any) -> Key:
        """Add a task that may refuse the write; return its key."""
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
        """Add a task that receives and sends as ``number`` of its kind; return the key of its result."""
        taken = tuple(self._relays[exchange.name].to_receiver(number) for exchange in takes)
        step = Step(scratch=self.scratch, work=work, number=number, takes=taken, sends=tuple(sends))
        ready = List(*(TaskRef(self._index(exchange)) for exchange in taken))
        self.tasks[key] = Task(key, run_step, step, ready, *args)
        for exchange in sends:
            self._senders.setdefault(exchange.name, []).append(key)
        return key

    def add_rows(self, nodes: Exchange | None = None, row_owners: RowOwners | None = None) -> list[Key]:
        """Add the tasks that take blocks of rows, and send ``nodes`` to their owners; return their statistics' keys."""
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
        """Join statistics, plan, and begin once the tasks ``checked`` have run too."""
        writing = self.writing
        statistics = TaskRef(self.add_joins("statistics", seen, merge_statistics, writing.paths))
        plan = self.add_checked("plan", make_plan, writing.finalise, writing.reader.dtype, writing.parts, statistics)
        part_plan = self.add("part-plan", without_tables, TaskRef(plan))
        begun = self.add_checked("begin", begin, TaskRef(part_plan), self.scratch, *map(TaskRef, checked))
        self._close(self.rows, index_rows, TaskRef(part_plan), TaskRef(begun))

    def add_part(
        self, part: int, work: Work, *args: Any, takes: Sequence[Exchange] = (), sends: Sequence[Exchange] = ()
    ) -> Key:
        """Add the task that receives and writes a part of the rows; return the key of its record."""
        key, part_plan, begun = (self.writing.key(*name) for name in (("part", part), ("part-plan",), ("begin",)))
        more = (TaskRef(part_plan), TaskRef(begun), *args)
        return self.add_step(key, work, *more, number=part, takes=[self.rows, *takes], sends=sends)

    def add_joins(self, name: str, keys: Sequence[Key], join: Callable[..., Any], *args: Any) -> Key:
        """Join results of tasks in a tree; return the key of the result."""
        tasks, last = task_tree(str(self.writing.key(name)), keys, join, *args)
        self.tasks |= tasks
        return last

    def close(self, *exchanges: Exchange) -> None:
        """Close an exchange once all its senders are added: one more task puts an index, for which receivers wait."""
        for exchange in exchanges:
            sent = self.add_joins(f"sent-{exchange.name}", self._senders[exchange.name], _nothing)
            self._close(exchange, index_runs, TaskRef(sent))

    def _close(self, exchange: Exchange, index: Callable[..., None], *ready: TaskRef) -> None:
        relays = Relays.of(exchange, len(self._senders[exchange.name]))
        self._relays[exchange.name] = relays
        several = relays.groups > 1
        groups = range(relays.groups)
        names = [f"{INDEX}-{group}" if several else INDEX for group in groups]
        for group in groups:
            key = self._index(exchange, *([group] if several else []))
            self.tasks[key] = Task(key, index, self.scratch, exchange, relays.group(group), names[group], *ready)
        for span in range(relays.spans if several else 0):
            joined = []
            for group in groups:
                key = self.writing.key(f"join-{exchange.name}", group, span)
                indexed = TaskRef(self._index(exchange, group))
                self.tasks[key] = Task(key, relays.join, self.scratch, group, span, indexed)
                joined.append(TaskRef(key))
            key = self._index(relays.to(span))
            self.tasks[key] = Task(key, index_runs, self.scratch, relays.to(span), groups, INDEX, List(*joined))

    def _index(self, exchange: Exchange, *group: int) -> Key:
        return self.writing.key(f"index-{exchange.name}", *group)

    def finish(self, work: Callable[..., Any], *args: Any) -> Delayed:
        """Add the last task, and return the whole graph."""
        key = self.add("finish", work, *args)
        graph = HighLevelGraph.from_collections(key, self.tasks, dependencies=list(self.blocks.collections))
        return Delayed(key, graph, layer=key)


def _nothing(_sent: object) -> None:
    """Returns None: shows that tasks have run, without passing on their results."""


def rows_write(exchange: RecordExchange) -> Delayed:
    """Write rows without links."""
    exchange.add_plan(exchange.add_rows())
    parts = [exchange.add_part(part, write_sent) for part in range(exchange.writing.parts)]
    plan, begun = (TaskRef(exchange.writing.key(name)) for name in ("plan", "begin"))
    return exchange.finish(
        finish_write, plan, begun, exchange.writing.summarise, List(*map(TaskRef, parts)), exchange.scratch
    )


# Rows with links: first rows, then links, which name rows of all blocks.


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trees:
    """How the nodes of skeletons are put in order.

    Parameters
    ----------
    ndim
        Axes of a chunk.
    groups
        Number of tasks that each have all nodes of some objects.
    firsts
        (B,) rows before each block, if edges count rows and the sizes of blocks are known; otherwise None.
    valued, keys
        Records with the values of some edges, if these come separately, and the keys of their blocks.
    """

    ndim: int
    groups: int
    firsts: IntArray | None
    valued: Valued | None = None
    keys: Sequence[tuple[Key, ...]] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Linking:
    """Which links are written, and how.

    Parameters
    ----------
    reader
        How tasks read a block.
    keys
        For each input block of links, the keys of its parts.
    parts
        Number of tasks that write links.
    trees
        For skeletons, how their nodes are put in order; otherwise None.
    """

    reader: LinkBlockReader
    keys: Sequence[tuple[Key, ...]]
    parts: int
    trees: Trees | None = None

    @property
    def dtype(self) -> np.dtype[np.void]:
        """Dtype of links with their values."""
        apart = None if self.trees is None else self.trees.valued
        return self.reader.dtype if apart is None else apart.links

    def ends(self, slot: int) -> Exchange:
        """Links on their way to the owner of an end."""
        return Exchange(name=f"ends-{slot}", dtype=self.dtype, receivers=self.reader.row_owners.count)

    @property
    def valued(self) -> bool:
        """Whether links have attributes."""
        return any(name.startswith(attribute_field("")) for name in self.dtype.names or ())

    @property
    def complete(self) -> Exchange:
        """Links with known ends, on their way to the part that writes them."""
        return Exchange(name="links", dtype=self.dtype, receivers=self.parts)

    @property
    def places(self) -> list[Exchange]:
        """Places on their way to the owners of their rows, for each end of links."""
        width = self.reader.dtype["ends"].shape[0]
        return [
            Exchange(name=f"places-{slot}", dtype=PLACE, receivers=self.reader.row_owners.count)
            for slot in range(width)
        ]


def linked_write(linking: Linking, exchange: RecordExchange) -> Delayed:
    """Write rows and links."""
    places, writing = linking.places, exchange.writing
    seen = exchange.add_rows()
    taken = _add_takes("take-links", linking.reader, linking.keys, linking.ends(0), exchange)
    exchange.add_plan(seen, [add_link_plan(linking, exchange, taken)])
    row_owners = linking.reader.row_owners
    parts = [exchange.add_part(part, write_rows, row_owners, sends=places[:1]) for part in range(writing.parts)]
    exchange.close(places[0], linking.ends(0))
    add_rounds(linking, exchange, first=0)
    return add_links(linking, exchange, parts, plan=writing.key("link-plan"))


def _add_takes(
    name: str, reader: LinkBlockReader, blocks: Sequence[tuple[Key, ...]], to: Exchange, exchange: RecordExchange
) -> list[Key]:
    """Send links to the owners of their first ends; return the keys of their statistics."""
    return [
        exchange.add_step(
            exchange.writing.key(name, number),
            take_links,
            reader,
            number,
            *map(TaskRef, keys),
            number=number,
            sends=[to],
        )
        for number, keys in enumerate(blocks)
    ]


def add_link_plan(linking: Linking, exchange: RecordExchange, taken: Sequence[Key]) -> Key:
    """Plan the links once all were seen; return the key of the plan."""
    part_plan = TaskRef(exchange.writing.key("part-plan"))
    statistics = TaskRef(exchange.add_joins("link-statistics", taken, merge_link_statistics))
    implied = linking.trees is not None and not linking.valued
    return exchange.add_checked("link-plan", plan_links, part_plan, statistics, linking.reader, linking.parts, implied)


def add_rounds(linking: Linking, exchange: RecordExchange, *, first: int) -> None:
    """Resolve the ends of all links from slot ``first`` on."""
    places, row_owners, writing = linking.places, linking.reader.row_owners, exchange.writing
    for slot in range(first, len(places)):
        last = slot + 1 == len(places)
        sends = [linking.complete] if last else [linking.ends(slot + 1), places[slot + 1]]
        takes = [places[slot], linking.ends(slot)]
        args = (TaskRef(writing.key("link-plan")), slot, row_owners)
        for owner in range(row_owners.count):
            key = writing.key(f"resolve-{slot}", owner)
            exchange.add_step(key, resolve_ends, *args, number=owner, takes=takes, sends=sends)
        exchange.close(*sends)


def add_links(linking: Linking, exchange: RecordExchange, parts: Sequence[Key], *, plan: Key) -> Delayed:
    """Write links with known ends, as planned, then finish the write."""
    writing = exchange.writing
    whole, link_plan, begun = TaskRef(writing.key("plan")), TaskRef(plan), TaskRef(writing.key("begin"))
    links = [
        exchange.add_step(
            writing.key("links", part), write_link_part, link_plan, begun, number=part, takes=[linking.complete]
        )
        for part in range(linking.parts)
    ]
    records = [List(*map(TaskRef, keys)) for keys in (parts, links)]
    return exchange.finish(finish_linked, whole, link_plan, begun, writing.summarise, *records, exchange.scratch)


# Skeletons: before rows are written, trees are put in order.


def tree_write(linking: Linking, trees: Trees, exchange: RecordExchange) -> Delayed:
    """Write nodes and edges of skeletons."""
    row_owners, places, writing = linking.reader.row_owners, linking.places, exchange.writing
    nodes = Exchange(name="nodes", dtype=node_dtype(trees.ndim), receivers=row_owners.count)
    parents = Exchange(name="parents", dtype=EDGE, receivers=row_owners.count)
    seen = exchange.add_rows(nodes, row_owners)
    sends = [parents, linking.ends(0)] if linking.valued and trees.valued is None else [parents]
    _add_edges(linking, trees, exchange, sends)
    takes = [nodes, parents, *_add_values(trees, exchange)]
    exchange.close(*takes)
    ranked, ranks = _add_ranks(linking, trees, exchange, takes)
    plan = writing.key("link-plan" if trees.valued is None else "full-link-plan")  # may still refuse the write
    exchange.add_plan(seen, [plan, *ranked])
    asked = places[:1] if linking.valued else [places[1], linking.ends(1)]
    parts = [
        exchange.add_part(part, write_tree_rows, row_owners, linking.valued, takes=[ranks], sends=asked)
        for part in range(writing.parts)
    ]
    exchange.close(asked[0], linking.ends(0 if linking.valued else 1))
    add_rounds(linking, exchange, first=not linking.valued)
    return add_links(linking, exchange, parts, plan=plan)


def _add_values(trees: Trees, exchange: RecordExchange) -> list[Exchange]:
    """Send the values of edges to their owners, if they come separately from the edges."""
    if trees.valued is None:
        return []
    reader = trees.valued.reader
    values = Exchange(name="values", dtype=reader.dtype, receivers=reader.row_owners.count)
    _add_takes("take-values", reader, trees.keys, values, exchange)
    return [values]


def _add_edges(linking: Linking, trees: Trees, exchange: RecordExchange, sends: Sequence[Exchange]) -> None:
    """Send edges to their owners, once it is known which block has the rows that they name."""
    writing, valued = exchange.writing, len(sends) > 1
    waits = linking.reader.counted and trees.firsts is None
    held = Exchange(name="edges", dtype=linking.reader.dtype, receivers=linking.parts)
    work, args = (hold_edges, (held.receivers,)) if waits else (take_edges, (trees.firsts, valued))
    taken = [
        exchange.add_step(
            writing.key("take-links", number),
            work,
            linking.reader,
            *args,
            number,
            *map(TaskRef, keys),
            number=number,
            sends=[held] if waits else sends,
        )
        for number, keys in enumerate(linking.keys)
    ]
    more = (TaskRef(add_link_plan(linking, exchange, taken)), linking.reader, valued)
    if not waits:
        return
    exchange.close(held)
    for number in range(held.receivers):
        key = writing.key("name-links", number)
        exchange.add_step(key, name_edges, *more, number=number, takes=[held], sends=sends)


def _add_ranks(
    linking: Linking, trees: Trees, exchange: RecordExchange, takes: Sequence[Exchange]
) -> tuple[list[Key], Exchange]:
    """Join nodes and parents, then put trees in order; return the keys of these tasks, and what they send."""
    writing = exchange.writing
    whole = Exchange(name="trees", dtype=tree_dtype(trees.ndim), receivers=trees.groups)
    ranks = Exchange(name="ranks", dtype=RANK, receivers=writing.parts)
    plan = TaskRef(writing.key("link-plan"))
    work: Work = join_parents if trees.valued is None else join_values
    more = [] if trees.valued is None else [trees.valued]
    sends = [whole] if trees.valued is None else [whole, linking.ends(0)]
    joined = [
        exchange.add_step(
            writing.key("parents", owner), work, plan, trees.groups, *more, number=owner, takes=takes, sends=sends
        )
        for owner in range(linking.reader.row_owners.count)
    ]
    exchange.close(whole)
    if trees.valued is not None:
        exchange.add_checked("full-link-plan", with_gaps, plan, List(*map(TaskRef, joined)))
    ranked = [
        exchange.add_step(writing.key("ranks", group), rank_trees, plan, number=group, takes=[whole], sends=[ranks])
        for group in range(trees.groups)
    ]
    exchange.close(ranks)
    return ranked, ranks
