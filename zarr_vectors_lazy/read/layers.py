"""Layers that make a task only when its key is needed, and the blocks of chunks on which tasks work."""

import hashlib
import math
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import dask.array as da
import numpy as np
from dask._task_spec import Dict, GraphNode, List, Task, TaskRef
from dask.core import flatten
from dask.highlevelgraph import HighLevelGraph, Layer, MaterializedLayer

from zarr_vectors_lazy.model.arrays import CellArray, CellSpec, Places
from zarr_vectors_lazy.plan.blocks import UpTo, cut_batches, cut_units
from zarr_vectors_lazy.read.cells import Requested, Role, read_batch
from zarr_vectors_lazy.read.level import Source
from zarr_vectors_lazy.read.rows import Block
from zarr_vectors_lazy.settings import block_nbytes, nbytes_setting, setting, task_slots
from zarr_vectors_lazy.types import Array, BoolArray, ChunkCoords, IntArray, Raw

if TYPE_CHECKING:
    from zarr_vectors_lazy.read.view import LevelView

# Layers that make a task only when its key is needed.
#
# The only place that imports Dask's task classes, which have no public name.

__all__ = ["Dict", "GraphNode", "List", "Task", "TaskRef"]

Key = Any
FAN_IN = 16  # most results that one task joins


Needs = Mapping[str, BoolArray]
"""Keys that tasks need: for each first part of the key, a mask over the second, which numbers blocks or chunks."""


class OfBlock:
    """An argument of a block's task that differs between blocks."""

    __slots__ = ()

    def of(self, block: int) -> Any:
        """Argument of one block's task."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Each(OfBlock):
    """The key of the same block of another layer."""

    layer: str

    def of(self, block: int) -> TaskRef:
        """Reference to it."""
        return TaskRef((self.layer, block))


@dataclass(frozen=True, slots=True, eq=False)
class Per(OfBlock):
    """A value of its own for each block."""

    values: Sequence[Any]

    def of(self, block: int) -> Any:
        """That value."""
        return self.values[block]


@dataclass(frozen=True, slots=True, eq=False)
class Of(OfBlock):
    """What a function returns for each block."""

    function: Callable[[int], Any]

    def of(self, block: int) -> Any:
        """What it returns for that block."""
        return self.function(block)


@dataclass(frozen=True, slots=True, eq=False)
class BlockTasks:
    """Recipe of the tasks of one layer, which run one function on the inputs of a block; small, can be pickled.

    Parameters
    ----------
    function
        A module-level function.
    inputs
        Its arguments: an `OfBlock` differs between blocks, anything else is passed unchanged. Or a
        function that returns all of them for a block.
    needs
        Returns what the tasks of some blocks, a mask, need, without making them; None if only the tasks show it.
    kind
        Class of the tasks.
    """

    function: Callable[..., Any]
    inputs: tuple[Any, ...] | Callable[[int], Iterable[Any]]
    needs: Callable[[BoolArray], Needs | None] | None = None
    kind: type[Task] = Task

    def task(self, key: Key, block: int) -> GraphNode:
        """Task of one block."""
        if callable(self.inputs):
            return self.kind(key, self.function, *self.inputs(block))
        each = (given.of(block) if isinstance(given, OfBlock) else given for given in self.inputs)
        return self.kind(key, self.function, *each)


class RequestedLayer(Layer):
    """A layer that knows its keys without making tasks."""

    name: str
    _made: tuple[int, dict[Key, GraphNode]] | None = None

    @property
    def has_legacy_tasks(self) -> bool:
        """False: all tasks are of Dask's task classes."""
        return False

    def wanted(self, keys: Collection[Key]) -> dict[Key, GraphNode]:
        """Tasks that produce the keys of this layer among ``keys``."""
        raise NotImplementedError

    def is_materialized(self) -> bool:
        """False."""
        return False

    def cull(self, keys: set[Key], all_hlg_keys: Collection[Key]) -> tuple[Layer, Mapping[Key, set[Key]]]:
        """Make the tasks of the needed keys, and no others."""
        layer = Culled(self.wanted(keys), annotations=self.annotations)
        needed = {key: set(task.dependencies) for key, task in layer.tasks.items()}
        if needed:
            needed[next(iter(needed))].add(layer.ticket)
        return layer, needed

    @property
    def _all(self) -> dict[Key, GraphNode]:
        if self._made is None or self._made[0] != self._version():
            self._made = self._version(), self.wanted(self.get_output_keys())
        return self._made[1]

    def _version(self) -> int:
        """Changes when the set of keys does."""
        return 0

    def __getitem__(self, key: Key) -> GraphNode:
        return self._all[key]

    def __iter__(self) -> Iterator[Key]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)


class Culled(MaterializedLayer):
    """Tasks made a moment ago, in which a layer below may still replace references.

    Dask culls a graph from its results to its sources. Only at the end is it known which cells share a fetching task;
    that task then takes the place of the cells that were requested, which saves a task for each of them. The
    ticket travels with the needed keys and leads to the tasks.
    """

    def __init__(self, mapping: dict[Key, GraphNode], annotations: Any = None) -> None:
        super().__init__(mapping, annotations=annotations)
        self.tasks = mapping
        self.ticket: Key = (TICKET, id(self))
        _open[self.ticket] = self


TICKET = "zv-ticket"
_open: WeakValueDictionary[Key, Culled] = WeakValueDictionary()


def culled_before(keys: Collection[Key]) -> list[Culled]:
    """Layers whose tickets are among the needed keys."""
    tickets = (key for key in keys if type(key) is tuple and key[0] == TICKET)
    return [layer for ticket in tickets if (layer := _open.get(ticket)) is not None]


class RecipeLayer(RequestedLayer):
    """One task for each block, made by a recipe.

    Parameters
    ----------
    name
        First part of the keys.
    recipe
        Makes the tasks.
    blocks
        Number of blocks.
    trailing
        Further array axes, with one block each: keys are ``(name, block, 0, ...)``.
    """

    def __init__(self, name: str, recipe: BlockTasks, blocks: int, trailing: int = 0) -> None:
        super().__init__()
        self.name = name
        self.recipe = recipe
        self.blocks = blocks
        self.trailing = trailing

    def get_output_keys(self) -> set[Key]:
        """All keys."""
        zeros = (0,) * self.trailing
        return {(self.name, block, *zeros) for block in range(self.blocks)}

    def wanted(self, keys: Collection[Key]) -> dict[Key, GraphNode]:
        """Tasks of the needed blocks."""
        return {key: self.recipe.task(key, key[1]) for key in keys if type(key) is tuple and key[0] == self.name}

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (RecipeLayer, self.name, self.recipe, self.blocks, self.trailing, self.annotations)


def _rebuild(cls: Callable[..., RequestedLayer], *args: Any) -> RequestedLayer:
    layer = cls(*args[:-1])
    layer.annotations = args[-1]
    return layer


def layer_over(name: str, layer: Layer, *below: HighLevelGraph) -> HighLevelGraph:
    """Graph of a layer over others."""
    merged = HighLevelGraph.merge(*below)
    return HighLevelGraph({**merged.layers, name: layer}, {**merged.dependencies, name: set(merged.layers)})


def blocks_over(
    name: str, recipe: BlockTasks, blocks: int, *below: HighLevelGraph, trailing: int = 0
) -> HighLevelGraph:
    """Graph of a task for each block over others; see `RecipeLayer`."""
    return layer_over(name, RecipeLayer(name, recipe, blocks, trailing), *below)


def tasks_over(name: str, tasks: dict[Key, Any], *below: HighLevelGraph) -> HighLevelGraph:
    """Graph of existing tasks over others."""
    return layer_over(name, MaterializedLayer(tasks), *below)


def task_over(name: str, task: GraphNode, *below: HighLevelGraph) -> HighLevelGraph:
    """Graph of one task over others; its key is ``(name,)``."""
    return tasks_over(name, {task.key: task}, *below)


def task_tree(name: str, keys: Sequence[Key], join: Callable[..., Any], *args: Any) -> tuple[dict[Key, GraphNode], Key]:
    """Tasks that join the results of others, a few at a time; and the key of the last."""
    tasks: dict[Key, GraphNode] = {}
    depth = 0
    while depth == 0 or len(keys) > 1:
        groups = [keys[start : start + FAN_IN] for start in range(0, len(keys), FAN_IN)]
        keys = [(name, depth, number) for number in range(len(groups))]
        for key, group in zip(keys, groups, strict=True):
            tasks[key] = Task(key, join, List(*map(TaskRef, group)), *args)
        depth += 1
    return tasks, keys[0]


class UnfusedTask(Task):
    """A task that Dask does not fuse.

    On a cluster keys outlive a computation, and a key that is fused in one but not in another contradicts itself there.
    """

    __slots__ = ()

    @property
    def block_fusion(self) -> bool:
        """True."""
        return True


# The layer that reads: per-cell keys that share fetching tasks.
#
# A task that fetches one cell waits one round trip, and only as many are in flight as there are threads. So a task
# fetches many cells concurrently; which ones is decided when Dask culls the graph and the needed keys are known.

Batch = dict[str, IntArray]
"""Chunks by member."""
Fetched = dict[tuple[str, int], Raw]
"""The result of a batch, by member and chunk."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Member:
    """One array of a set of reads.

    Parameters
    ----------
    spec
        How its cells are read.
    present
        (n,) whether each chunk has a cell.
    nbytes
        Estimated stored bytes of a cell.
    head
        Whether the head of a cell is enough.
    places
        (n,) places of the cells, if some share objects.
    role
        As in `Requested`.
    """

    spec: CellSpec
    present: BoolArray
    nbytes: float
    head: bool = False
    places: Places | None = None
    role: Role = ""


class Reads:
    """The cells of some chunks of one level, from any of its arrays; members are added as they are requested.

    Vertices and attributes of the same chunks belong to the same reads, so that what is computed together is fetched
    together, whichever collection came first.
    """

    def __init__(self, name: str, source: Source, coords: ChunkCoords) -> None:
        self.name = name
        self.source = source
        self.coords = coords
        self.members: dict[str, Member] = {}
        self.groups: dict[str, tuple[str, ...]] = {}  # members of which each chunk has a cell in exactly one

    def __reduce__(self) -> tuple[Any, ...]:
        return _receive, (self.name, self.source, self.coords, dict(self.members), dict(self.groups))


_lock = threading.Lock()
_known: WeakValueDictionary[str, Reads] = WeakValueDictionary()


def shared_reads(name: str, source: Source, coords: ChunkCoords) -> Reads:
    """Return the `Reads` of that name in this process; a name stands for one source and set of chunks."""
    with _lock:
        found = _known.get(name)
        if found is None:
            found = _known[name] = Reads(name, source, _compact(coords))
        return found


def _receive(
    name: str, source: Source, coords: ChunkCoords, members: dict[str, Member], groups: dict[str, tuple[str, ...]]
) -> Reads:
    reads = shared_reads(name, source, coords)
    reads.members.update(members)
    reads.groups.update(groups)
    return reads


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cut:
    """Cells to fetch, in the order of their chunks, then members, cut into batches.

    Parameters
    ----------
    names
        The members.
    chunks, members
        (m,) chunk of each cell, and its member among ``names``.
    bounds
        (batches + 1,) batch b has cells ``bounds[b]:bounds[b + 1]``.
    """

    names: tuple[str, ...]
    chunks: IntArray
    members: IntArray
    bounds: IntArray

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def batches(self) -> Iterator[Batch]:
        """Each batch as its chunks by member."""
        for start, stop in pairwise(self.bounds.tolist()):
            chunks, members = self.chunks[start:stop], self.members[start:stop]
            yield {self.names[member]: chunks[members == member] for member in np.unique(members).tolist()}

    def batch_of(self, member: str, n: int) -> IntArray:
        """(n,) number of the batch that has a chunk's cell of a member; -1 if none has."""
        found = np.full(n, -1)
        if member in self.names:
            mine = np.flatnonzero(self.members == self.names.index(member))
            found[self.chunks[mine]] = np.searchsorted(self.bounds, mine, "right") - 1
        return found


class ReadLayer(RequestedLayer):
    """Keys ``(cell_name(name, member), chunk)``: a cell's encoded bytes, picked from the batch that fetched it.

    Keys ``(cell_name(name, member), start, stop)`` give a list of them, for blocks of several chunks, and keys
    ``(cell_name(name, member), packed_chunks(chunks))`` one for chunks in any order. A group of members may stand in
    place of a member: the cells of whichever has one.

    Parameters
    ----------
    reads
        What can be read.
    slots
        Task slots over which batches are spread; determined when the tasks are made, or when the graph is sent to a
        scheduler.
    """

    def __init__(self, reads: Reads, slots: int | None = None) -> None:
        super().__init__()
        self.reads = reads
        self.name = reads.name
        self.slots = slots

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (ReadLayer, self.reads, self.slots or task_slots(), self.annotations)

    def get_output_keys(self) -> set[Key]:
        """All keys of single cells."""
        members = self.reads.members.items()
        return {
            (cell_name(self.name, name), i) for name, member in members for i in np.flatnonzero(member.present).tolist()
        }

    def _version(self) -> int:
        return len(self.reads.members)

    def wanted(self, keys: Collection[Key]) -> dict[Key, GraphNode]:
        """Batches that fetch the needed keys, and a task that picks each."""
        batches, picks = self._plan(keys)
        return batches | picks

    def cull(self, keys: set[Key], all_hlg_keys: Collection[Key]) -> tuple[Layer, Mapping[Key, set[Key]]]:
        """Batches that fetch the needed keys; picking from them becomes part of the tasks that requested them."""
        batches, picks = self._plan(keys)
        placed: set[Key] = set()
        for layer in culled_before(keys):
            for key, task in layer.tasks.items():
                mine = task.dependencies & picks.keys()
                if mine:
                    layer.tasks[key] = task.substitute(picks)
                    placed |= mine
        tasks = batches | {key: task for key, task in picks.items() if key not in placed}
        needed: dict[Key, set[Key]] = {key: set(task.dependencies) for key, task in tasks.items()}
        return MaterializedLayer(tasks, annotations=self.annotations), needed | {key: set() for key in placed}

    def cut(self, asked: Mapping[str, BoolArray]) -> "Cut":
        """Batches of the requested cells.

        Parameters
        ----------
        asked
            By member, (n,) chunks of which a cell is requested.
        """
        members = self.reads.members
        names = sorted(asked)
        # A whole cell that is fetched anyway contains its head.
        spared = {name: asked[whole] for name in names if (whole := self._whole(name)) != name and whole in asked}
        fetched = np.stack([asked[name] & ~spared[name] if name in spared else asked[name] for name in names], axis=1)
        chunks, member = np.nonzero(fetched)
        bounds = cut_batches(
            np.array([members[name].nbytes for name in names])[member],
            slots=self.slots or task_slots(),
            cells=int(setting("batch-chunks")),
            budget=float(nbytes_setting("batch-bytes")),
        )
        return Cut(names=tuple(names), chunks=chunks, members=member, bounds=bounds)

    def _plan(self, keys: Collection[Key]) -> tuple[dict[Key, GraphNode], dict[Key, Any]]:
        names: dict[str, tuple[str, ...]] = {cell_name(self.name, name): (name,) for name in self.reads.members}
        names |= {cell_name(self.name, group): members for group, members in self.reads.groups.items()}
        mine = [(key, names[key[0]]) for key in keys if type(key) is tuple and key[0] in names]
        if not mine:
            return {}, {}
        every = {member for _, members in mine for member in members}
        asked = {member: np.zeros(len(self.reads.coords), np.bool_) for member in every}
        for key, members in mine:
            for member in members:
                asked[member][_chunks(key)] = True
        for member in every:
            asked[member] &= self.reads.members[member].present
        cut = self.cut(asked)
        batches = [self._batch(batch) for batch in cut.batches()]
        refs = [TaskRef(batch.key) for batch in batches]
        numbers = {members: self._numbers(cut, members) for members in {members for _, members in mine}}
        picks: dict[Key, Any] = {}
        for key, wanted in mine:
            members, of_chunk = numbers[wanted]
            if len(key) == 2 and not isinstance(key[1], str):
                picks[key] = Task(key, pick, refs[of_chunk[key[1]]], members, key[1])
            else:
                sources = [refs[number] for number in np.unique(of_chunk[_chunks(key)]).tolist()]
                picks[key] = Task(key, pick_run, List(*sources), members, *key[1:])
        return {batch.key: batch for batch in batches}, picks

    def _batch(self, batch: Batch) -> GraphNode:
        """Task that fetches a batch, named by what it fetches."""
        digest = hashlib.blake2b(digest_size=12)
        for member, chunks in batch.items():
            digest.update(f"{member} {len(chunks)} ".encode() + chunks.astype("<i8").tobytes())
        members, coords = self.reads.members, self.reads.coords
        wants = tuple(wanted_cells(member, members[member], coords, chunks) for member, chunks in batch.items())
        return UnfusedTask((f"{self.name}-batch", digest.hexdigest()), read_batch, self.reads.source, wants)

    def _numbers(self, cut: Cut, members: tuple[str, ...]) -> tuple[tuple[str, ...], IntArray]:
        """Members of which one has a chunk's cell, and (n,) the batch that has it."""
        every = tuple(dict.fromkeys([*members, *map(self._whole, members)]))
        found = np.full(len(self.reads.coords), -1)
        for member in every:
            found = np.where(found < 0, cut.batch_of(member, len(found)), found)
        return every, found

    def _whole(self, member: str) -> str:
        head = self.reads.members[member]
        if not head.head:
            return member
        whole = (
            name for name, other in self.reads.members.items() if other.spec.path == head.spec.path and not other.head
        )
        return next(whole, member)


def wanted_cells(name: str, member: Member, coords: ChunkCoords, chunks: IntArray) -> Requested:
    """Cells of some chunks, by their numbers among ``coords``, as `read_batch` fetches them."""
    return Requested(
        member=name,
        spec=member.spec,
        rows=tuple(chunks.tolist()),
        coords=coords[chunks],
        head=member.head,
        places=None if member.places is None else member.places.take(chunks),
        role=member.role,
    )


def pick(batch: Fetched, members: Sequence[str], chunk: int) -> Raw:
    """One cell's bytes from a batch, of whichever of some members has it."""
    return next(batch[member, chunk] for member in members if (member, chunk) in batch)


def pick_run(batches: Sequence[Fetched], members: Sequence[str], *chunks: Any) -> list[Raw]:
    """Bytes of the cells of several chunks, as a key names them, from the batches that have them."""
    found = batches[0] if len(batches) == 1 else {at: raw for batch in batches for at, raw in batch.items()}
    wanted = range(*chunks) if len(chunks) == 2 else _unpacked(chunks[0]).tolist()
    if len(members) == 1:
        return [found[members[0], chunk] for chunk in wanted]
    known = set(members)
    cells = {chunk: raw for (member, chunk), raw in found.items() if member in known}
    return [cells[chunk] for chunk in wanted]


def packed_chunks(chunks: IntArray) -> str:
    """Chunks as part of a key, which holds text and numbers."""
    return chunks.astype("<i4").tobytes().decode("latin-1")


def _unpacked(chunks: str) -> IntArray:
    return np.frombuffer(chunks.encode("latin-1"), "<i4").astype(np.int64)


def cell_name(reads: str, member: str) -> str:
    """First part of the keys of a member's cells; ``reads`` is the name of the reads."""
    return f"zv-{member}-{reads.rpartition('-')[2]}"


def _chunks(key: Key) -> Any:
    """Index of the chunks that a key names."""
    if len(key) == 3:
        return slice(key[1], key[2])
    return _unpacked(key[1]) if isinstance(key[1], str) else slice(key[1], key[1] + 1)


def _compact(coords: ChunkCoords) -> IntArray:
    """Return the same coordinates in the smallest signed integers that hold them."""
    top = int(np.abs(coords).max(initial=0))
    dtype = next(t for t in (np.int8, np.int16, np.int32, np.int64) if top <= np.iinfo(t).max)
    return coords.astype(dtype)


def read_graph(reads: Reads) -> HighLevelGraph:
    """Graph of reads alone."""
    return HighLevelGraph({reads.name: ReadLayer(reads)}, {reads.name: set()})


# Dask arrays from graphs, in the classic mode of Dask and in the expression mode (``array.query-planning``).
#
# Expressions do not cull layers: the graph is made at once, for the selected chunks only. Dask itself cannot compute an
# expression with unknown chunk sizes (2026.8 rechunks it into one block first), so ours joins its blocks itself.

NAN = float("nan")
INTEGER = np.dtype(np.int64)

if getattr(da, "ARRAY_EXPR_ENABLED", False):  # modules that can be imported only in Dask's expression mode
    from dask._collections import new_collection
    from dask.array._array_expr._expr import ArrayExpr
    from dask.array._array_expr._io import FromGraph

    class Rows(FromGraph):
        """Blocks of rows, perhaps of unknown sizes."""

        def finalize_compute(self) -> ArrayExpr:
            """Return the expression of the computed array."""
            unknown = any(math.isnan(size) for size in self.chunks[0])
            return JoinedRows(self) if unknown else super().finalize_compute()  # type: ignore[no-untyped-call]

    class JoinedRows(ArrayExpr):
        """All blocks of `Rows` as one."""

        _parameters = ["array"]  # noqa: RUF012  as Dask declares it

        @cached_property
        def _meta(self) -> Any:
            return self.array._meta

        @cached_property
        def chunks(self) -> tuple[tuple[float, ...], ...]:
            """One block of unknown size."""
            return ((math.nan,), *self.array.chunks[1:])

        def _layer(self) -> dict[Key, Task]:
            key = (self._name, *(0,) * len(self.chunks))
            return {key: Task(key, np.concatenate, List(*map(TaskRef, flatten(self.array.__dask_keys__()))))}

    def expression_array(
        graph: HighLevelGraph, name: str, chunks: tuple[tuple[float, ...], ...], meta: Array
    ) -> da.Array:
        """Array over the tasks of the selected chunks."""
        keys: list[Any] = [(name, block, *(0,) * (len(chunks) - 1)) for block in range(len(chunks[0]))]
        tasks = dict(graph.cull(set(keys)).to_dict())
        array: da.Array = new_collection(Rows(tasks, meta, chunks, keys, name))  # type: ignore[no-untyped-call]
        return array


def make_array(
    graph: HighLevelGraph,
    name: str,
    sizes: Sequence[float],
    row_shape: tuple[int, ...],
    dtype: np.dtype[Any],
    *,
    masked: bool = False,
) -> da.Array:
    """Array whose blocks are the keys ``(name, block, 0, ...)``.

    Parameters
    ----------
    graph
        Holds the layer ``name``.
    sizes
        Rows of each block, NaN if unknown.
    row_shape, dtype
        Of one row.
    masked
        Whether blocks may be masked arrays.
    """
    chunks = (tuple(sizes), *((edge,) for edge in row_shape))
    meta = np.empty((0,) * len(chunks), dtype)
    meta = np.ma.MaskedArray(meta) if masked else meta
    if getattr(da, "ARRAY_EXPR_ENABLED", False):
        return expression_array(graph, name, chunks, meta)
    return da.Array(graph, name, chunks, dtype=dtype, meta=meta)


def array_over(
    name: str,
    recipe: BlockTasks,
    sizes: Sequence[float],
    row_shape: tuple[int, ...],
    dtype: np.dtype[Any],
    *below: HighLevelGraph,
    masked: bool = False,
) -> da.Array:
    """Array whose blocks a recipe makes, over other graphs; see `make_array`."""
    graph = blocks_over(name, recipe, len(sizes), *below, trailing=len(row_shape))
    return make_array(graph, name, sizes, row_shape, dtype, masked=masked)


def empty_array(row_shape: tuple[int, ...], dtype: np.dtype[Any]) -> da.Array:
    """Array without rows."""
    array: da.Array = da.from_array(np.empty((0, *row_shape), dtype), chunks=-1)
    return array


# Runs of neighbouring chunks whose cells, of several arrays, one task reads: for whatever passes through a level.

Arrays = Sequence[tuple[str, CellArray]]
"""Members and their arrays."""


def chunk_runs(view: "LevelView", arrays: Arrays, shards: IntArray | None = None) -> list[IntArray]:
    """Cut the chunks of a level into runs, each in ascending order, limited in cells and bytes.

    Parameters
    ----------
    shards
        (n,) shard to which each chunk will be written; chunks of a shard stay together.
    """
    per_chunk = sum(view.estimated_nbytes(array) for _, array in arrays)
    budget = int(nbytes_setting("batch-bytes") // max(per_chunk, 1.0))
    size = max(1, min(int(setting("batch-chunks")) // max(len(arrays), 1), budget))
    return [np.sort(run) for run in cut_units(np.arange(len(view)) if shards is None else shards, 1, size)]


def batched(view: "LevelView", times: float = 1) -> "LevelView":
    """View whose blocks have as many chunks as one batch fetches of arrays some times as wide as positions."""
    nbytes = min(nbytes_setting("batch-bytes"), block_nbytes()) / times
    return view.with_chunking(UpTo(nbytes, int(setting("batch-chunks"))))


def requested_of(view: "LevelView", arrays: Arrays, runs: Sequence[IntArray]) -> Iterator[list[Requested]]:
    """What each run reads."""
    coords = view.table.coords
    at = [array.chunks.find(coords) for _, array in arrays]
    for chunks in runs:
        wanted = []
        for (member, array), rows in zip(arrays, at, strict=True):
            here = chunks[rows[chunks] >= 0]
            if len(here):
                wanted.append(Requested.of(member, array, rows[here], here))
        yield wanted


# Runs of chunks, each the work of one task, and the inputs of such a task.

RUN_BATCHES = 16  # most batches of cells of an array for one task, unless something else cuts runs


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Blocks:
    """Chunks of a view cut into blocks, each the work of one task, and the inputs of such a task.

    Parameters
    ----------
    reads
        Name of the reads.
    coords, counts
        (n, K) coordinates and (n,) promised rows of all chunks of the view; None where nothing promises them.
    bounds
        (b + 1,) block k has the chunks ``bounds[k]:bounds[k + 1]``.
    choice
        How rows are chosen, as a `read.columns.Choice`; None if all are selected.
    chunks
        (c,) the chunks, in the order of the work, if these are not all of the view's.
    """

    reads: str
    coords: ChunkCoords
    counts: IntArray | None
    bounds: IntArray
    choice: Any = None
    chunks: IntArray | None = None

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def of(self, block: int) -> IntArray:
        """Chunks of a block."""
        first, last = int(self.bounds[block]), int(self.bounds[block + 1])
        return np.arange(first, last) if self.chunks is None else self.chunks[first:last]

    def coords_of(self, block: int) -> IntArray:
        """(c, K) coordinates of a block's chunks."""
        return self.coords[self.of(block)].astype(np.int64)

    def counts_of(self, block: int) -> IntArray | None:
        """(c,) promised rows of a block's chunks."""
        return None if self.counts is None else self.counts[self.of(block)]

    def described(self, block: int) -> Block:
        """How a task is told about a block of neighbours."""
        part = slice(int(self.bounds[block]), int(self.bounds[block + 1]))
        counts = None if self.counts is None else tuple(self.counts[part].tolist())
        return Block(coords=self.coords[part], counts=counts)

    def kept(self, block: int) -> Any:
        """References to the chosen rows of a block's chunks; none if all rows are selected."""
        return () if self.choice is None else self.choice.run(self.of(block))

    def cells(self, member: str, block: int) -> TaskRef:
        """References to the encoded cells of a block's chunks, as a list; of a member, or a group of them."""
        return cells_of(self.reads, member, self.of(block))

    def cell(self, member: str, block: int) -> TaskRef:
        """The same, but for one chunk just its cell."""
        first, last = int(self.bounds[block]), int(self.bounds[block + 1])
        return TaskRef((cell_name(self.reads, member), *((first,) if last - first == 1 else (first, last))))

    def spans(self, rows: Any, block: int) -> Any:
        """(c, 2) first row and number of rows of a block's chunks; ``rows`` is a `read.columns.RowNumbers`."""
        return rows.of(self.of(block))

    def needs(self, blocks: BoolArray) -> tuple[BoolArray, Needs]:
        """(n,) chunks of some blocks, and what choosing their rows needs."""
        chunks = np.repeat(blocks, np.diff(self.bounds))
        return chunks, {} if self.choice is None else self.choice.needs(chunks)

    def rows(self, sizes: IntArray | None) -> list[float]:
        """Rows of each block, NaN if unknown."""
        return [NAN] * len(self) if sizes is None else np.add.reduceat(sizes, self.bounds[:-1]).tolist()


def blocks_of(
    view: "LevelView", bounds: IntArray | None = None, chunks: IntArray | None = None, choice: Any = None
) -> Blocks:
    """Blocks of a view, or others of its chunks."""
    return Blocks(
        reads=view.reads.name,
        coords=view.reads.coords,
        counts=view.stored_counts,
        bounds=view.bounds if bounds is None else bounds,
        choice=choice,
        chunks=chunks,
    )


def cells_of(reads: str, member: str, chunks: IntArray) -> TaskRef:
    """Reference to the encoded cells of chunks, a list; of a member, or a group of them."""
    name = cell_name(reads, member)
    if len(chunks) and int(chunks[-1]) - int(chunks[0]) + 1 == len(chunks) and bool((np.diff(chunks) == 1).all()):
        return TaskRef((name, int(chunks[0]), int(chunks[-1]) + 1))
    return TaskRef((name, packed_chunks(chunks)))


def cut_runs(view: "LevelView", chunks: IntArray, choice: Any = None) -> Blocks:
    """Cut chunks into runs that a few batches fetch, without knowing how their rows will be used."""
    counts = view.stored_counts
    nbytes = np.full(len(chunks), view.vertex_member().nbytes)
    if counts is not None:
        nbytes = counts[chunks] * view.row_nbytes
    cells, budget = RUN_BATCHES * int(setting("batch-chunks")), max(nbytes_setting("batch-bytes"), block_nbytes())
    return blocks_of(view, cut_batches(nbytes, slots=1, cells=cells, budget=float(budget)), chunks, choice)


def cut_evenly(weights: Sequence[float] | Array, blocks: int) -> IntArray:
    """Bounds of a number of blocks of neighbours, with about the same weight; fewer if there are not so many."""
    weight = np.asarray(weights, np.float64)
    n = len(weight)
    if blocks >= n or not n:
        return np.arange(n + 1, dtype=np.int64)
    ends = np.cumsum(weight)
    cuts = np.searchsorted(ends, ends[-1] * np.arange(1, blocks) / blocks, "left") + 1
    return np.unique(np.concatenate([[0], np.minimum(cuts, n), [n]])).astype(np.int64)
