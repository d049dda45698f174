"""The graph that builds levels: tasks that make chunks, chained on chunks, and one that publishes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from operator import itemgetter
from typing import Any

import numpy as np
from dask.highlevelgraph import HighLevelGraph

from zarr_vectors_lazy.access.pyramid.bridges import bridge_part
from zarr_vectors_lazy.access.pyramid.ends import written_links
from zarr_vectors_lazy.access.pyramid.far import FarStep, far_part
from zarr_vectors_lazy.access.pyramid.objects import index_shard, write_object_tables
from zarr_vectors_lazy.access.pyramid.planning import UNKNOWN_ROWS, PlannedLevel
from zarr_vectors_lazy.access.pyramid.publish import LevelPlan, publish_levels
from zarr_vectors_lazy.access.pyramid.remap import remap_part
from zarr_vectors_lazy.access.pyramid.session import Session, begin_build, finish_build
from zarr_vectors_lazy.access.pyramid.shared import Reach, shared_level
from zarr_vectors_lazy.access.pyramid.step import Part
from zarr_vectors_lazy.access.pyramid.tasks import coarsen_part, gathered
from zarr_vectors_lazy.access.pyramid.thin import row_threshold
from zarr_vectors_lazy.format.writing import CURRENT
from zarr_vectors_lazy.graph.layers import GraphNode, Key, List, Task, TaskRef, UnfusedTask
from zarr_vectors_lazy.graph.pyramid_figures import DelayedPyramid, figures_of
from zarr_vectors_lazy.plan.parts import cut_parts
from zarr_vectors_lazy.types import IntArray

MERGED = 64  # lists of records that one task joins


def pyramid_graph(session: Session, levels: Sequence[PlannedLevel], plans: Sequence[LevelPlan]) -> DelayedPyramid:
    """Graph of a build; its one key gives the summary."""
    name = f"zv-pyramid-{session.build}"
    if session.published:
        specs = [plan.spec for plan in plans if plan.arrays]
        graph = HighLevelGraph.from_collections(name, {name: UnfusedTask(name, finish_build, session, specs)}, [])
        return DelayedPyramid(name, graph, figures_of([], 1, 0))
    begin = f"{name}-begin"
    tasks: dict[Key, GraphNode] = {begin: UnfusedTask(begin, begin_build, session)}
    made: list[LevelTasks] = []
    for planned in levels:
        of = SharedTasks if planned.step.kind == "shared" else LevelTasks
        level = of(tasks, f"{name}-{planned.step.level}", begin, planned, made[-1] if made else None)
        level.slots = session.slots
        level.reaches = [delta for delta in range(1, len(made) + 2) if session.reaches(delta)]
        level.add()
        made.append(level)
        for delta in level.reaches[1:]:
            level.add_far(delta)
    records = references(key for level in made for key in level.records)
    tables = references(level.tables for level in made if level.tables is not None)
    tasks[name] = UnfusedTask(name, publish_levels, session, tuple(plans), records, tables)
    graph = HighLevelGraph.from_collections(name, tasks, dependencies=[])
    parts = sum(len(level.parts) for level in made)
    return DelayedPyramid(name, graph, figures_of(levels, len(tasks), parts))


def same(value: Any) -> Any:
    """Task: a value that several tasks share."""
    return value


def references(keys: Any) -> List:
    """List of what tasks give."""
    return List(*map(TaskRef, keys))


@dataclass(eq=False)
class LevelTasks:
    """Tasks of one level.

    Parameters
    ----------
    tasks
        The graph, to which they are added.
    name
        First part of their keys.
    begin
        The task that begins the build.
    planned
        The level.
    below
        Tasks of the finer level, where it is built in the same graph.
    """

    tasks: dict[Key, GraphNode]
    name: str
    begin: Key
    planned: PlannedLevel
    below: "LevelTasks | None"
    chunks: list[Key] = field(default_factory=list)  # the task that makes each chunk
    parts: dict[Key, Part] = field(default_factory=dict)  # what each of these is told
    records: list[Key] = field(default_factory=list)  # tasks that give all records
    slots: int = 1  # tasks that can run at once
    reaches: list[int] = field(default_factory=list)  # levels across which links are stored
    tables: Key | None = None  # the task that writes what is told of objects, after which a next level may begin

    def add(self) -> None:
        """Add all of them."""
        shared = f"{self.name}-step"
        self.tasks[shared] = UnfusedTask(shared, same, self.planned.step)
        threshold = self._threshold()
        parts, links = self._parts(), self._links_below()
        for i, part in enumerate(parts):
            key = (self.name, i)
            needs = self._needs(part)
            self.tasks[key] = Task(
                key, coarsen_part, self.step, part, TaskRef(self.begin), threshold, needs, links, self._after()
            )
            self.chunks += [key] * len(part)
            self.parts[key] = part
        first = self._merged(self.name, list(dict.fromkeys(self.chunks)))
        self.records = [*first, *self._links(parts, first, links)]
        self.tables = self._tables(first)

    def add_far(self, delta: int) -> None:
        """Add the tasks that write links across ``delta`` levels, after those across fewer."""
        assert self.below is not None
        finest = self._finest(delta)
        base, step = finest.planned.step, self.planned.step
        far = FarStep(
            step=step,
            level=base.source.level,
            grid=base.fine_grid,
            scale=self._scale_to(finest),
            last=step.scale,
        )
        name = f"{self.name}-far{delta}"
        keys: list[Key] = []
        for i, (key, part) in enumerate(self.parts.items()):
            chunks, at = part.fine, self.below
            for _ in range(delta - 1):
                chunks = at.planned.chunks_below(chunks)
                at = at.below if at.below is not None else at
            lower = dict.fromkeys(self.below.far_key(delta - 1, k) for k in self._keys_below(part))
            self.tasks[name, i] = Task(
                (name, i),
                far_part,
                far,
                [part.key(j) for j in range(len(part))],
                chunks,
                TaskRef(self.begin),
                references([key]),
                references(lower),
            )
            keys.append((name, i))
        self.records += self._merged(name, keys)

    def _scale_to(self, finest: "LevelTasks") -> IntArray:
        """(D,) chunks of the level below ``finest`` that a chunk of this one has along each axis."""
        return self.planned.scale.ratio * finest.planned.step.scale // finest.planned.scale.ratio

    def _finest(self, delta: int) -> "LevelTasks":
        """Tasks of the first level above the one that ``delta`` levels lead down to."""
        finest = self
        for _ in range(delta - 1):
            assert finest.below is not None
            finest = finest.below
        return finest

    def far_key(self, delta: int, key: Key) -> Key:
        """The task that writes links across ``delta`` levels of the chunks that the task ``key`` makes."""
        return key if delta == 1 else (f"{self.name}-far{delta}", key[1])

    def _keys_below(self, part: Part) -> list[Key]:
        assert self.below is not None
        return list(dict.fromkeys(self.below.chunks[i] for i in self.below.planned.table.find(part.fine).tolist()))

    @property
    def step(self) -> TaskRef:
        """What they share."""
        return TaskRef(f"{self.name}-step")

    def _parts(self) -> list[Part]:
        planned = self.planned
        rows = float(np.mean(planned.counts)) if planned.counts is not None else UNKNOWN_ROWS
        cuts = cut_parts(planned.bounds, rows * planned.row_nbytes, self.slots).tolist()
        return [part_of(planned, first, last) for first, last in pairwise(cuts)]

    def _needs(self, part: Part) -> List | tuple[()]:
        """Tasks that make the finer chunks of a part."""
        if self.below is None:
            return ()
        return references(self._keys_below(part))

    def _after(self) -> TaskRef | None:
        """Paths and owners of the finer level are told by its manifests."""
        return TaskRef(self.below.tables) if self.below is not None and self.below.tables is not None else None

    def _links_below(self) -> TaskRef | None:
        """The task that tells which links of the finer level are to be carried, where it is made in the same graph."""
        if self.below is None or not self.planned.step.linked:
            return None
        key = f"{self.name}-below"
        self.tasks[key] = Task(key, written_links, self.step, references(self.below.records))
        return TaskRef(key)

    def _threshold(self) -> TaskRef | None:
        thinning = self.planned.step.thinning
        if thinning is None or thinning.index is not None:
            return None
        key, planned = f"{self.name}-threshold", self.planned
        coords = planned.fine if self.below is None else planned.fine[:0]
        needs = references(() if self.below is None else self.below.records)
        self.tasks[key] = Task(
            key, row_threshold, self.step, thinning, coords, planned.counts, needs, TaskRef(self.begin)
        )
        return TaskRef(key)

    def _links(self, parts: Sequence[Part], records: list[Key], links: TaskRef | None) -> list[Key]:
        """Add the tasks that link vertices of different chunks, once all chunks of the level are made."""
        begun, made, keys = TaskRef(self.begin), references(records), []
        for i, part in enumerate(parts):
            key: Key = (f"{self.name}-links", i)
            if self.planned.step.linked:
                task = Task(key, remap_part, self.step, part, begun, links, self._needs(part), made)
            elif self.planned.step.kind == "paths":
                task = Task(key, bridge_part, self.step, part, begun, made)
            else:
                return []
            self.tasks[key] = task
            keys.append(key)
        return self._merged(f"{self.name}-links", keys)

    def _tables(self, records: list[Key]) -> Key | None:
        index, tables = self.planned.step.index, self.planned.tables
        if tables is None or index is None:
            return None
        shards: list[Key] = []
        for shard in range(-(-index.count // CURRENT.shard_rows)):
            key = (f"{self.name}-manifests", shard)
            self.tasks[key] = Task(key, index_shard, self.step, shard, references(records))
            shards.append(key)
        last = f"{self.name}-objects"
        self.tasks[last] = UnfusedTask(last, write_object_tables, self.step, tables, references(shards))
        return last

    def _merged(self, name: str, keys: list[Key]) -> list[Key]:
        """Join lists of records, so that no task has too many to wait for."""
        found: list[Key] = []
        for i in range(0, len(keys), MERGED):
            key = (f"{name}-records", i // MERGED)
            self.tasks[key] = Task(key, gathered, references(keys[i : i + MERGED]))
            found.append(key)
        return found


class SharedTasks(LevelTasks):
    """Tasks of a level that is made as a whole."""

    def add(self) -> None:
        """Add all of them."""
        self.tasks[self.step.key] = UnfusedTask(self.step.key, same, self.planned.step)
        key, records, shards = f"{self.name}-level", f"{self.name}-records", f"{self.name}-shards"
        below = references(() if self.below is None else self.below.records)
        reaches = []
        for delta in self.reaches if self.planned.step.cross != "none" else []:
            finest = self._finest(delta)
            step = finest.planned.step
            reaches.append(Reach(level=step.source.level, grid=step.fine_grid, scale=self._scale_to(finest)))
        coords, begin = self.planned.fine, TaskRef(self.begin)
        self.tasks[key] = Task(key, shared_level, self.step, coords, begin, below, tuple(reaches), self._after())
        self.tasks[records] = UnfusedTask(records, itemgetter(0), TaskRef(key))
        self.records = [records]
        if self.planned.tables is not None:
            self.tasks[shards] = UnfusedTask(shards, itemgetter(1), TaskRef(key))
            self.tables = f"{self.name}-objects"
            self.tasks[self.tables] = UnfusedTask(
                self.tables, write_object_tables, self.step, self.planned.tables, TaskRef(shards)
            )

    def add_far(self, delta: int) -> None:
        """Nothing: they are written with the level."""


def part_of(planned: PlannedLevel, first: int, last: int) -> Part:
    """What the task of the coarse chunks ``first`` to ``last`` - 1 is told."""
    fine = planned.order[planned.bounds[first] : planned.bounds[last]]
    return Part(
        chunks=planned.coords[first:last].copy(),
        fine=planned.fine[fine],
        bounds=planned.bounds[first : last + 1] - planned.bounds[first],
        missing={name: mask[fine] for name, mask in planned.missing.items() if mask[fine].any()},
        cells=() if planned.links is None else planned.links.incident(planned.fine[fine]),
    )
