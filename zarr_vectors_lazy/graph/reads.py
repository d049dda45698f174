"""The layer that reads: per-cell keys that share fetching tasks.

A task that fetches one cell waits one round trip; as many are in flight as there are threads. So a task fetches many
cells concurrently, and which ones is decided when Dask culls the graph and the wanted keys are known.
"""

import hashlib
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from dask.highlevelgraph import HighLevelGraph, Layer, MaterializedLayer
from dask.utils import parse_bytes

from zarr_vectors_lazy.access.level import Source
from zarr_vectors_lazy.access.read import read_batch
from zarr_vectors_lazy.access.wanted import Role, Wanted
from zarr_vectors_lazy.graph.layers import GraphNode, Key, List, Task, TaskRef, UnfusedTask, WantedLayer, culled_before
from zarr_vectors_lazy.graph.slots import task_slots
from zarr_vectors_lazy.model.arrays import CellSpec, Places
from zarr_vectors_lazy.plan.batches import cut_batches
from zarr_vectors_lazy.settings import setting
from zarr_vectors_lazy.types import BoolArray, ChunkCoords, IntArray, Raw


@dataclass(frozen=True, kw_only=True, eq=False)
class Member:
    """One array of a set of reads.

    Parameters
    ----------
    spec
        How its cells are read.
    present
        (n,) whether the chunk has a cell.
    nbytes
        Estimated stored bytes of a cell.
    head
        Whether the head of a cell is enough.
    places
        (n,) of the cells, where some share objects.
    role
        As in `access.read.Wanted`.
    """

    spec: CellSpec
    present: BoolArray
    nbytes: float
    head: bool = False
    places: Places | None = None
    role: Role = ""


class Reads:
    """The cells of some chunks of one level, of any of its arrays; members join as they are asked for.

    Vertices and attributes of the same chunks belong to the same reads, so that what is computed together is fetched
    together, whichever collection came first.
    """

    def __init__(self, name: str, source: Source, coords: ChunkCoords) -> None:
        self.name = name
        self.source = source
        self.coords = coords
        self.members: dict[str, Member] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return _receive, (self.name, self.source, self.coords, dict(self.members))


_lock = threading.Lock()
_known: WeakValueDictionary[str, Reads] = WeakValueDictionary()


def shared_reads(name: str, source: Source, coords: ChunkCoords) -> Reads:
    """Return the one `Reads` of that name in this process; a name stands for one source and set of chunks."""
    with _lock:
        found = _known.get(name)
        if found is None:
            found = _known[name] = Reads(name, source, _compact(coords))
        return found


def _receive(name: str, source: Source, coords: ChunkCoords, members: dict[str, Member]) -> Reads:
    reads = shared_reads(name, source, coords)
    reads.members.update(members)
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

    def batches(self) -> Iterator[list[tuple[int, str]]]:
        """Each batch as its cells, ``(chunk, member)``."""
        for start, stop in pairwise(self.bounds.tolist()):
            members = (self.names[member] for member in self.members[start:stop].tolist())
            yield list(zip(self.chunks[start:stop].tolist(), members, strict=True))


class ReadLayer(WantedLayer):
    """Keys ``(cell_name(name, member), chunk)``: a cell's encoded bytes, picked from the batch that fetched it.

    Keys ``(cell_name(name, member), start, stop)`` give a list of them, for blocks of several chunks.

    Parameters
    ----------
    reads
        What can be read.
    slots
        Task slots to spread batches over; asked for when the tasks are made, or when the graph leaves for a scheduler.
    """

    def __init__(self, reads: Reads, slots: int | None = None) -> None:
        super().__init__()
        self.reads = reads
        self.name = reads.name
        self.slots = slots

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.reads, self.slots or task_slots(), self.annotations)

    def get_output_keys(self) -> set[Key]:
        """All keys of single cells."""
        members = self.reads.members.items()
        return {
            (cell_name(self.name, name), i) for name, member in members for i in np.flatnonzero(member.present).tolist()
        }

    def _version(self) -> int:
        return len(self.reads.members)

    def wanted(self, keys: Collection[Key]) -> dict[Key, GraphNode]:
        """Batches that fetch the wanted keys, and a task that picks each."""
        batches, picks = self._plan(keys)
        return batches | picks

    def cull(self, keys: set[Key], all_hlg_keys: Collection[Key]) -> tuple[Layer, Mapping[Key, set[Key]]]:
        """Batches that fetch the wanted keys; picking from them becomes part of the tasks that asked."""
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
        """Batches of the cells that are asked for.

        Parameters
        ----------
        asked
            By member, (n,) chunks of which a cell is asked for.
        """
        members = self.reads.members
        names = sorted(asked)
        # A whole cell that is fetched anyway has its head in it.
        spared = {name: asked[whole] for name in names if (whole := self._whole(name)) != name and whole in asked}
        fetched = np.stack([asked[name] & ~spared.get(name, False) for name in names], axis=1)
        chunks, member = np.nonzero(fetched)
        bounds = cut_batches(
            np.array([members[name].nbytes for name in names])[member],
            slots=self.slots or task_slots(),
            cells=int(setting("batch-chunks")),
            budget=float(parse_bytes(setting("batch-bytes"))),
        )
        return Cut(names=tuple(names), chunks=chunks, members=member, bounds=bounds)

    def _plan(self, keys: Collection[Key]) -> tuple[dict[Key, GraphNode], dict[Key, Any]]:
        names = {cell_name(self.name, name): name for name in self.reads.members}
        mine = [(key, names[key[0]]) for key in keys if type(key) is tuple and key[0] in names]
        if not mine:
            return {}, {}
        asked: dict[str, BoolArray] = {}
        for key, member in mine:
            chunks = _chunks(key)
            asked.setdefault(member, np.zeros(len(self.reads.coords), np.bool_))[chunks.start : chunks.stop] = True
        batches: dict[Key, GraphNode] = {}
        batch_of: dict[tuple[int, str], Key] = {}
        for batch in self.cut(asked).batches():
            digest = hashlib.blake2b(repr(batch).encode(), digest_size=12).hexdigest()
            batch_key = (f"{self.name}-batch", digest)
            batches[batch_key] = UnfusedTask(batch_key, read_batch, self.reads.source, self._wants(batch))
            batch_of.update(dict.fromkeys(batch, batch_key))
        whole = {member: self._whole(member) for member in asked}
        picks: dict[Key, Any] = {}
        for key, wanted in mine:
            cells = [(chunk, wanted if (chunk, wanted) in batch_of else whole[wanted]) for chunk in _chunks(key)]
            sources = [TaskRef(batch) for batch in dict.fromkeys(batch_of[cell] for cell in cells)]
            if len(key) == 2:
                chunk, member = cells[0]
                picks[key] = Task(key, pick, sources[0], member, chunk)
            else:
                picks[key] = Task(key, pick_run, List(*sources), cells)
        return batches, picks

    def _whole(self, member: str) -> str:
        head = self.reads.members[member]
        if not head.head:
            return member
        whole = (
            name for name, other in self.reads.members.items() if other.spec.path == head.spec.path and not other.head
        )
        return next(whole, member)

    def _wants(self, batch: list[tuple[int, str]]) -> tuple[Wanted, ...]:
        rows: dict[str, list[int]] = {}
        for chunk, member in batch:
            rows.setdefault(member, []).append(chunk)
        return tuple(_want(name, self.reads.members[name], self.reads.coords, chunks) for name, chunks in rows.items())


def _want(name: str, member: Member, coords: ChunkCoords, chunks: list[int]) -> Wanted:
    return Wanted(
        member=name,
        spec=member.spec,
        rows=tuple(chunks),
        coords=coords[chunks],
        head=member.head,
        places=None if member.places is None else member.places.take(np.asarray(chunks)),
        role=member.role,
    )


def _rebuild(reads: Reads, slots: int, annotations: Any) -> ReadLayer:
    layer = ReadLayer(reads, slots)
    layer.annotations = annotations
    return layer


def pick(batch: dict[tuple[str, int], Raw], member: str, chunk: int) -> Raw:
    """One cell's bytes out of a batch."""
    return batch[member, chunk]


def pick_run(batches: Sequence[dict[tuple[str, int], Raw]], cells: Sequence[tuple[int, str]]) -> list[Raw]:
    """Bytes of several cells out of the batches that have them."""
    found = {cell: raw for batch in batches for cell, raw in batch.items()}
    return [found[member, chunk] for chunk, member in cells]


def cell_name(reads: str, member: str) -> str:
    """First part of the keys of a member's cells; ``reads`` is the name of the reads."""
    return f"zv-{member}-{reads.rpartition('-')[2]}"


def _chunks(key: Key) -> range:
    return range(key[1], key[1] + 1 if len(key) == 2 else key[2])


def _compact(coords: ChunkCoords) -> IntArray:
    """Return the same coordinates in the smallest signed integers that hold them."""
    top = int(np.abs(coords).max(initial=0))
    dtype = next(t for t in (np.int8, np.int16, np.int32, np.int64) if top <= np.iinfo(t).max)
    return coords.astype(dtype)


def read_graph(reads: Reads) -> HighLevelGraph:
    """Graph of reads alone."""
    return HighLevelGraph({reads.name: ReadLayer(reads)}, {reads.name: set()})
