"""Coarser levels of a store, built from finer ones: the public functions and their graph."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import dask
import numpy as np
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph

from zarr_vectors_lazy.errors import SelectionError, ZVWarning, counted
from zarr_vectors_lazy.format.registry import CURRENT
from zarr_vectors_lazy.kernels.bins import Rule
from zarr_vectors_lazy.keywords import suggesting
from zarr_vectors_lazy.model.writing import CrossStorage
from zarr_vectors_lazy.plan.blocks import cut_parts
from zarr_vectors_lazy.progress import computing
from zarr_vectors_lazy.pyramid.coarsen import (
    FarStep,
    bridge_part,
    coarsen_part,
    far_part,
    gathered,
    remap_part,
    row_threshold,
)
from zarr_vectors_lazy.pyramid.finer import find_emptied, with_emptied, written_links
from zarr_vectors_lazy.pyramid.planning import UNKNOWN_ROWS, PlannedLevel, prepare
from zarr_vectors_lazy.pyramid.session import (
    METHOD,
    STRATEGY,
    LevelPlan,
    PyramidOptions,
    Session,
    begin_build,
    finish_build,
    index_shard,
    publish_levels,
    write_object_tables,
)
from zarr_vectors_lazy.pyramid.step import Part
from zarr_vectors_lazy.read.layers import GraphNode, Key, List, Task, TaskRef, UnfusedTask
from zarr_vectors_lazy.read.store import open_tree
from zarr_vectors_lazy.settings import task_slots
from zarr_vectors_lazy.storage.resolve import resolve
from zarr_vectors_lazy.storage.spec import StoreSpec
from zarr_vectors_lazy.types import Json, StorePath

# A build that has not run yet, and what it will do.


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a build will do, before it starts. These are upper limits, because chunks may turn out to be empty.

    Parameters
    ----------
    levels
        The levels to be built.
    chunks
        Their chunks.
    tasks
        Tasks in the graph.
    reads, writes
        Requests that read and write cells, not counting metadata.
    nbytes
        Decoded bytes of the rows of the source level; None if the number of rows is not known.
    """

    levels: tuple[int, ...]
    chunks: int
    tasks: int
    reads: int
    writes: int
    nbytes: int | None

    @property
    def requests(self) -> int:
        """Requests of both kinds."""
        return self.reads + self.writes

    def __str__(self) -> str:
        nbytes = "unknown" if self.nbytes is None else f"{self.nbytes:,}"
        rows = [
            ("levels", ", ".join(map(str, self.levels))),
            ("chunks", f"{self.chunks:,}"),
            ("tasks", f"{self.tasks:,}"),
            ("requests", f"{self.requests:,} ({counted(self.reads, 'read')}, {counted(self.writes, 'write')})"),
            ("bytes", nbytes),
        ]
        return "\n".join(f"{name:<9} {value}" for name, value in rows)

    __repr__ = __str__


class DelayedPyramid(Delayed):
    """A build that `compute` runs; ``figures`` describes what it will do."""

    __slots__ = ("figures",)

    def __init__(self, key: Key, graph: HighLevelGraph, figures: Figures) -> None:
        super().__init__(key, graph, layer=None)  # type: ignore[no-untyped-call]
        object.__setattr__(self, "figures", figures)

    def __reduce__(self) -> tuple[Any, ...]:
        return DelayedPyramid, (self.key, self.dask, self.figures)


def figures_of(levels: Sequence[PlannedLevel], tasks: int, parts: int) -> Figures:
    """Count what the tasks of some levels will do; ``parts`` of them make chunks, and note which."""
    reads, writes = 0, parts
    for planned in levels:
        step, fine, coarse = planned.step, planned.fine, len(planned.coords)
        specs = [step.vertices, step.fragments, step.weights, *(item.column.spec for item in step.attributes)]
        specs += [step.fragments] if step.emptied else []
        reads += sum(spec.layout.requests(fine) for spec in specs if spec is not None)
        links = {"none": 0, "implicit": 1, "explicit": 2}[step.cross_level_storage]
        writes += coarse * len(planned.arrays) + links * len(fine)
    counts = levels[0].counts if levels else None
    nbytes = None if counts is None else int(counts.sum()) * levels[0].row_nbytes
    return Figures(
        levels=tuple(planned.step.level for planned in levels),
        chunks=sum(len(planned.coords) for planned in levels),
        tasks=tasks,
        reads=reads,
        writes=writes,
        nbytes=nbytes,
    )


# The graph that builds levels: tasks that make chunks, chained on chunks, and one that publishes.

MERGED = 64  # most lists of records that one task joins
LINKED = 4  # most parts whose chunks one task links


def pyramid_graph(session: Session, levels: Sequence[PlannedLevel], plans: Sequence[LevelPlan]) -> DelayedPyramid:
    """Graph of a build; its single key returns the summary."""
    name = f"zv-pyramid-{session.options.build}"
    if session.published:
        specs = [plan.spec for plan in plans if plan.arrays]
        graph = HighLevelGraph.from_collections(name, {name: UnfusedTask(name, finish_build, session, specs)}, [])
        return DelayedPyramid(name, graph, figures_of([], 1, 0))
    begin = f"{name}-begin"
    tasks: dict[Key, GraphNode] = {begin: UnfusedTask(begin, begin_build, session)}
    made: list[LevelTasks] = []
    for planned in levels:
        level = LevelTasks(tasks, f"{name}-{planned.step.level}", begin, planned, made[::-1], session.slots)
        level.add()
        made.append(level)
        for delta in filter(session.reaches, range(2, len(made) + 1)):
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
    """List of what tasks return."""
    return List(*map(TaskRef, keys))


@dataclass(eq=False)
class LevelTasks:
    """Tasks of one level.

    Parameters
    ----------
    tasks
        The graph to which they are added.
    name
        First part of their keys.
    begin
        The task that begins the build.
    planned
        The level.
    finer
        Tasks of the finer levels that are built in the same graph, the next one first.
    slots
        Tasks that can run at once.
    """

    tasks: dict[Key, GraphNode]
    name: str
    begin: Key
    planned: PlannedLevel
    finer: "Sequence[LevelTasks]"
    slots: int
    chunks: list[Key] = field(default_factory=list)  # the task that makes each chunk
    parts: dict[Key, Part] = field(default_factory=dict)  # what each of these tasks is told
    records: list[Key] = field(default_factory=list)  # tasks that return all records
    cuts: list[int] = field(default_factory=list)  # where the chunks of each part begin
    tables: Key | None = None  # the task that writes the tables of objects, after which the next level may begin

    @property
    def below(self) -> "LevelTasks | None":
        """Tasks of the next finer level."""
        return self.finer[0] if self.finer else None

    def add(self) -> None:
        """Add all tasks of the level."""
        shared = f"{self.name}-step"
        self.tasks[shared] = UnfusedTask(shared, same, self.planned.step)
        threshold, below = self._threshold(), self.below
        # Paths, and owners on the finer level, depend on its manifests.
        after = None if below is None or below.tables is None else TaskRef(below.tables)
        parts, links = self._parts(), self._links_below()
        if self.planned.step.emptied:
            self._find_emptied(parts)
        for i, part in enumerate(parts):
            key = (self.name, i)
            needs = self._needs(part)
            self.tasks[key] = Task(
                key, coarsen_part, self.step, part, TaskRef(self.begin), threshold, needs, links, after
            )
            self.chunks += [key] * len(part)
            self.parts[key] = part
        first = self._merged(self.name, list(dict.fromkeys(self.chunks)))
        self.records = [*first, *self._links(first, links)]
        self.tables = self._tables(first)

    def add_far(self, delta: int) -> None:
        """Add the tasks that write links across ``delta`` levels, after those across fewer."""
        step, base = self.planned.step, self.finer[delta - 2].planned.step
        scale = step.at.ratio * base.scale // base.at.ratio
        far = FarStep(step=step, level=base.source.level, grid=base.fine_grid, scale=scale, last=step.scale)
        name = f"{self.name}-far{delta}"
        keys: list[Key] = []
        for i, (key, part) in enumerate(self.parts.items()):
            chunks = part.fine
            for level in self.finer[: delta - 1]:
                chunks = level.planned.chunks_below(chunks)
            lower = self._keys_below(part)  # the tasks that write links across one level less, to the next finer one
            if delta > 2:
                lower = [(f"{self.finer[0].name}-far{delta - 1}", number) for _, number in lower]
            needs = references([key]), references(lower)
            self.tasks[name, i] = Task((name, i), far_part, far, part.keys, chunks, TaskRef(self.begin), *needs)
            keys.append((name, i))
        self.records += self._merged(name, keys)

    def _keys_below(self, part: Part) -> list[Key]:
        """Tasks that make the finer chunks of a part."""
        below = self.finer[0]
        return list(dict.fromkeys(below.chunks[i] for i in below.planned.table.find(part.fine).tolist()))

    @property
    def step(self) -> TaskRef:
        """What the tasks share."""
        return TaskRef(f"{self.name}-step")

    def _parts(self) -> list[Part]:
        planned = self.planned
        rows = float(np.mean(planned.counts)) if planned.counts is not None else UNKNOWN_ROWS
        self.cuts = cut_parts(planned.bounds, rows * planned.row_nbytes, self.slots).tolist()
        return [part_of(planned, first, last) for first, last in pairwise(self.cuts)]

    def _find_emptied(self, parts: Sequence[Part]) -> None:
        """Let the tasks of this level begin when it is known which fragments of the finer one have no vertices."""
        name, begin, keys = f"{self.name}-emptied", TaskRef(self.begin), []
        for i, part in enumerate(parts):
            self.tasks[name, i] = Task((name, i), find_emptied, self.step, part.fine, begin)
            keys.append((name, i))
        self.begin = f"{self.name}-begin"
        self.tasks[self.begin] = Task(self.begin, with_emptied, begin, references(self._merged(name, keys)))

    def _needs(self, part: Part) -> List | tuple[()]:
        """References to these tasks; none if the finer level exists."""
        return references(self._keys_below(part)) if self.finer else ()

    def _links_below(self) -> TaskRef | None:
        """The task that lists the links of the finer level to carry over, if it is made in the same graph."""
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

    def _links(self, records: list[Key], links: TaskRef | None) -> list[Key]:
        """Add the tasks that link vertices of different parts, after all chunks of the level are made."""
        begun, made, keys = TaskRef(self.begin), references(records), []
        step, parts = self.planned.step, len(self.cuts) - 1
        if not step.linked and step.kind != "paths":
            return []
        each = max(1, min(LINKED, parts // self.slots))
        for i, first in enumerate(range(0, parts, each)):
            cuts = self.cuts[first : first + each + 1]
            part, inner = part_of(self.planned, cuts[0], cuts[-1]), [cut - cuts[0] for cut in cuts]
            key: Key = (f"{self.name}-links", i)
            if step.linked:
                task = Task(key, remap_part, self.step, part, begun, inner, links, self._needs(part), made)
            else:
                task = Task(key, bridge_part, self.step, part, begun, made)
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
        """Join lists of records, so that no task waits for too many."""
        found: list[Key] = []
        for i in range(0, len(keys), MERGED):
            key = (f"{name}-records", i // MERGED)
            self.tasks[key] = Task(key, gathered, references(keys[i : i + MERGED]))
            found.append(key)
        return found


def part_of(planned: PlannedLevel, first: int, last: int) -> Part:
    """What the task of the coarse chunks ``first`` to ``last`` - 1 is told."""
    fine = planned.order[planned.bounds[first] : planned.bounds[last]]
    return Part(
        chunks=planned.coords[first:last].copy(),
        fine=planned.fine[fine],
        bounds=planned.bounds[first : last + 1] - planned.bounds[first],
        missing={name: mask[fine] for name, mask in planned.missing.items() if mask[fine].any()},
        cells=None if planned.links is None else planned.links.incident(planned.fine[fine]),
    )


# Coarser levels of a store, built from finer ones.

SMALL = 100  # vertices below which a level is hardly useful


@suggesting
def build_pyramid(
    path: StorePath,
    *,
    factors: Sequence[Any],
    chunk_scale_factors: Any = None,
    method: Literal["aggregate"] = METHOD,
    sparsity_strategy: Literal["hash"] = STRATEGY,
    sparsity_seed: int = 0,
    cross_level_depth: int = 1,
    cross_level_storage: CrossStorage = "explicit",
    aggregate: Mapping[str, Rule | None] | None = None,
    min_vertices: int = 2,
    overwrite: bool = False,
    resume: bool = True,
    compute: bool = True,
    progress: bool = False,
    backend: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    **backend_kwargs: Any,
) -> Json | DelayedPyramid:
    """Build levels 1, 2, ... of a store, each from the one before, with the active Dask scheduler.

    Parameters
    ----------
    path
        URL or path, ``os.PathLike``, or a ``zarr.abc.store.Store``.
    factors
        For each level a pair (coarsening, sparsity), or a number, which means (number, 1). Bins are ``coarsening``
        times as large as those of the level before, along all axes or by axis. One in ``sparsity`` of the objects of
        level 0 is kept, or of the vertices of the level before if there are no objects.
    chunk_scale_factors
        The size of chunks relative to those of the level before: for each level a whole number, or one for each axis,
        such that bins tile chunks; or one number for all levels, where 1 keeps the chunks. With None, chunks grow as
        bins do, so that they have equally many bins on each level. If the fullest chunk would then hold more than 4
        times as much as the fullest of level 0, and more than Dask's ``array.chunk-size``, the smallest scale that
        tiles is used instead.
    method
        ``"aggregate"``: weighted means of the vertices in a bin, for each object separately.
    sparsity_strategy, sparsity_seed
        How to choose the objects to keep: ``"hash"``, by a hash of seed and id.
    cross_level_depth
        The number of levels that links span: 0 for no links, N, or -1 for all levels.
    cross_level_storage
        ``"none"``, ``"implicit"`` (from finer to coarser) or ``"explicit"`` (both ways).
    aggregate
        How to combine the values of attributes, by name: ``"mean"``, ``"min"``, ``"max"``, ``"sum"``, ``"mode"``,
        ``"first"``, or None to leave an attribute out. For other attributes, the rule that the attribute states applies
        (the ``aggregate=`` that the writer was given); without one, the mean for floats and the mode, the most frequent
        value, for everything else. A tie goes to the value of the vertex picked by a hash of (level, chunk, row). Means
        of integers are rounded.
    min_vertices
        The least number of vertices that a path keeps, if it has that many; 2 or more.
    overwrite
        Replace existing levels, or discard another unfinished build.
    resume
        Continue an interrupted build that had the same parameters.
    compute
        False to return a `dask.delayed.Delayed` whose ``figures`` describe what it will do.
    progress
        Show a bar.
    backend, storage_options, **backend_kwargs
        As for `open_zv`.

    Returns
    -------
    A summary: ``levels_created``, ``level_specs``, ``method``, ``cross_level_depth``, ``cross_level_storage``, and
    ``left_out``, which names the contents of the source level that coarse levels do not have, such as
    ``"link_attributes/weight"``. A level with fewer than 100 vertices causes a `ZVWarning`.

    Raises
    ------
    SelectionError
        If an argument is wrong, or bins do not tile chunks.
    StoreError
        If the levels already exist, if the store cannot be written to, or if it is of format 0.7: migrate it first.
    FormatError
        If there is no complete Zarr Vectors store.

    Examples
    --------
    >>> points = np.random.default_rng(0).uniform(0, 100, (5000, 3))
    >>> _ = zvl.write_points("points.zarrvectors", points, chunk_shape=50, bin_shape=5)
    >>> zvl.build_pyramid("points.zarrvectors", factors=[2, 2])["levels_created"]
    2
    >>> [level.vertex_count for level in zvl.open_zv("points.zarrvectors")]
    [5000, 987, 125]
    """
    options = PyramidOptions(
        factors=factors,
        chunk_scale_factors=chunk_scale_factors,
        method=method,
        sparsity_strategy=sparsity_strategy,
        sparsity_seed=sparsity_seed,
        cross_level_depth=cross_level_depth,
        cross_level_storage=cross_level_storage,
        aggregate=aggregate or {},
        min_vertices=min_vertices,
        overwrite=overwrite,
        resume=resume,
    )
    spec = resolve(path, backend=backend, storage_options=storage_options, **backend_kwargs)
    return run(options, spec, compute=compute, progress=progress)


@suggesting
def coarsen_level(
    path: StorePath,
    source_level: int,
    target_level: int,
    coarsen_factor: Any = 1.0,
    sparsity_factor: float = 1.0,
    *,
    chunk_scale_factor: Any = None,
    method: Literal["aggregate"] = METHOD,
    sparsity_strategy: Literal["hash"] = STRATEGY,
    sparsity_seed: int = 0,
    cross_level_storage: CrossStorage = "none",
    aggregate: Mapping[str, Rule | None] | None = None,
    min_vertices: int = 2,
    overwrite: bool = False,
    resume: bool = True,
    compute: bool = True,
    progress: bool = False,
    backend: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    **backend_kwargs: Any,
) -> Json | DelayedPyramid:
    """Build one level from a finer one; other levels stay as they are.

    Parameters
    ----------
    path
        URL or path, ``os.PathLike``, or a ``zarr.abc.store.Store``.
    source_level, target_level
        An existing level, and a greater index.
    coarsen_factor, sparsity_factor, chunk_scale_factor
        Like one entry of the ``factors`` and ``chunk_scale_factors`` of `build_pyramid`.
    cross_level_storage
        Links between the two levels: ``"none"``, ``"implicit"`` or ``"explicit"``.
    method, sparsity_strategy, sparsity_seed, aggregate, min_vertices, overwrite, resume, compute, progress
        As for `build_pyramid`.
    backend, storage_options, **backend_kwargs
        As for `open_zv`.

    Returns
    -------
    The summary that `build_pyramid` returns, for one level.

    Raises
    ------
    SelectionError, StoreError, FormatError
        As for `build_pyramid`.
    NotFoundError
        If the source level does not exist.

    Examples
    --------
    >>> points = np.random.default_rng(0).uniform(0, 100, (5000, 3))
    >>> _ = zvl.write_points("points.zarrvectors", points, chunk_shape=50, bin_shape=5)
    >>> _ = zvl.coarsen_level("points.zarrvectors", 0, 1, (10, 10, 10))
    >>> zvl.open_zv("points.zarrvectors")[1].vertex_count
    8
    """
    options = PyramidOptions(
        factors=[(coarsen_factor, sparsity_factor)],
        chunk_scale_factors=[chunk_scale_factor],
        method=method,
        sparsity_strategy=sparsity_strategy,
        sparsity_seed=sparsity_seed,
        cross_level_storage=cross_level_storage,
        aggregate=aggregate or {},
        min_vertices=min_vertices,
        overwrite=overwrite,
        resume=resume,
        source=source_level,
        target=target_level,
    )
    if target_level <= source_level:
        raise SelectionError(f"target_level must be greater than source_level {source_level}, found {target_level!r}")
    spec = resolve(path, backend=backend, storage_options=storage_options, **backend_kwargs)
    return run(options, spec, compute=compute, progress=progress)


def run(options: PyramidOptions, spec: StoreSpec, *, compute: bool, progress: bool) -> Json | DelayedPyramid:
    """Build levels of a store, or make a Delayed that does."""
    delayed = pyramid_graph(*prepare(open_tree(spec, consolidated=False), options, task_slots()))
    if not compute:
        return delayed
    with computing("building levels", shown=progress):
        (summary,) = dask.compute(delayed)
    found: Json = summary
    for made in found["level_specs"]:
        if made.get("vertex_count", SMALL) < SMALL:
            warnings.warn(
                f"level {made['level']} has {counted(made['vertex_count'], 'vertex')}: bins of "
                f"{made['bin_shape']} are large for these data; coarsen less, or begin with smaller bins "
                "(bin_shape of level 0)",
                ZVWarning,
                stacklevel=4,
            )
    return found
