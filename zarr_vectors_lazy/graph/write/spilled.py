"""A store written from blocks that Dask computes: each block routed to chunks, each chunk put by one task, root last.

Under local schedulers rows wait in files of this machine, sorted by chunk. Under a cluster they travel by Dask's own
shuffle, p2p. Either way the input is computed once, and nothing is put before all of it was seen.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph

from zarr_vectors_lazy.access.write.intake import Intake, merge_tallies
from zarr_vectors_lazy.access.write.part import (
    Settle,
    Summary,
    begin,
    finish_write,
    make_plan,
    without_tables,
    write_spilled,
)
from zarr_vectors_lazy.access.write.session import new_write_id
from zarr_vectors_lazy.access.write.spill import SpillFolder, spill_block
from zarr_vectors_lazy.graph.layers import Key, List, Task, TaskRef

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

    intake: Intake
    settle: Settle
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
