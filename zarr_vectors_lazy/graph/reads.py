"""The layer that reads: per-cell keys that share fetching tasks.

A task that fetches one cell waits one round trip; as many are in flight as there are threads. So a task fetches many
cells concurrently, and which ones is decided when Dask culls the graph and the wanted keys are known.
"""

import hashlib
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from dask.highlevelgraph import HighLevelGraph
from dask.utils import parse_bytes

from zarr_vectors_lazy.access.level import Source
from zarr_vectors_lazy.access.read import Wanted, read_batch
from zarr_vectors_lazy.graph.layers import GraphNode, Key, List, Task, TaskRef, WantedLayer
from zarr_vectors_lazy.graph.slots import task_slots
from zarr_vectors_lazy.model.arrays import CellSpec
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
    """

    spec: CellSpec
    present: BoolArray
    nbytes: float
    head: bool = False


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


class ReadLayer(WantedLayer):
    """Keys ``(name, member, chunk)``: a cell's encoded bytes, picked from the batch that fetched it.

    Keys ``(name, member, start, stop)`` give a list of them, for blocks of several chunks.

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
        return {(self.name, name, i) for name, member in members for i in np.flatnonzero(member.present).tolist()}

    def _version(self) -> int:
        return len(self.reads.members)

    def wanted(self, keys: Collection[Key]) -> dict[Key, GraphNode]:
        """Picking tasks of the wanted keys and the batches that they pick from."""
        mine = [key for key in keys if type(key) is tuple and key[0] == self.name]
        asked = {(chunk, key[1]) for key in mine for chunk in self._chunks(key)}
        # A whole cell that is fetched anyway has its head in it.
        instead = {cell: (cell[0], self._whole(cell[1])) for cell in asked if self.reads.members[cell[1]].head}
        instead = {cell: whole for cell, whole in instead.items() if whole != cell and whole in asked}
        tasks: dict[Key, GraphNode] = {}
        batch_of: dict[tuple[int, str], Key] = {}
        for batch in self._batches(sorted(asked.difference(instead))):
            digest = hashlib.blake2b(repr(batch).encode(), digest_size=12).hexdigest()
            batch_key = (f"{self.name}-batch", digest)
            tasks[batch_key] = Task(batch_key, read_batch, self.reads.source, self._wants(batch))
            batch_of.update(dict.fromkeys(batch, batch_key))
        made = Task if self.slots is None else UnfusedTask
        for key in mine:
            cells = [instead.get((chunk, key[1]), (chunk, key[1])) for chunk in self._chunks(key)]
            batches = dict.fromkeys(batch_of[cell] for cell in cells)
            if len(key) == 3:
                chunk, member = cells[0]
                tasks[key] = made(key, pick, TaskRef(*batches), member, chunk)
            else:
                tasks[key] = made(key, pick_run, List(*map(TaskRef, batches)), key[1], key[2], key[3])
        return tasks

    def _chunks(self, key: Key) -> range:
        return range(key[2], key[2] + 1 if len(key) == 3 else key[3])

    def _whole(self, member: str) -> str:
        head = self.reads.members[member]
        if not head.head:
            return member
        whole = (name for name, other in self.reads.members.items() if other.spec is head.spec and not other.head)
        return next(whole, member)

    def _batches(self, cells: list[tuple[int, str]]) -> list[list[tuple[int, str]]]:
        """Cut wanted cells, in chunk order, into runs bounded by count, by bytes and by the work there is."""
        if not cells:
            return []
        share = -(-len(cells) // (self.slots or task_slots()))
        count = max(1, min(int(setting("batch-chunks")), share))
        count = -(-len(cells) // -(-len(cells) // count))  # even runs
        budget = parse_bytes(setting("batch-bytes"))
        members = self.reads.members
        runs: list[list[tuple[int, str]]] = [[]]
        nbytes = 0.0
        for cell in cells:
            size = members[cell[1]].nbytes
            if runs[-1] and (len(runs[-1]) >= count or nbytes + size > budget):
                runs.append([])
                nbytes = 0.0
            runs[-1].append(cell)
            nbytes += size
        return runs

    def _wants(self, batch: list[tuple[int, str]]) -> tuple[Wanted, ...]:
        rows: dict[str, list[int]] = {}
        for chunk, member in batch:
            rows.setdefault(member, []).append(chunk)
        return tuple(
            Wanted(
                member=name,
                spec=self.reads.members[name].spec,
                rows=tuple(chunks),
                coords=self.reads.coords[chunks],
                head=self.reads.members[name].head,
            )
            for name, chunks in rows.items()
        )


def _rebuild(reads: Reads, slots: int, annotations: Any) -> ReadLayer:
    layer = ReadLayer(reads, slots)
    layer.annotations = annotations
    return layer


def pick(batch: dict[tuple[str, int], Raw], member: str, chunk: int) -> Raw:
    """One cell's bytes out of a batch."""
    return batch[member, chunk]


def pick_run(batches: Sequence[dict[tuple[str, int], Raw]], member: str, start: int, stop: int) -> list[Raw]:
    """Bytes of neighbouring cells out of the batches that have them."""
    found = {chunk: raw for batch in batches for (name, chunk), raw in batch.items() if name == member}
    return [found[chunk] for chunk in range(start, stop)]


class UnfusedTask(Task):
    """A task that Dask leaves alone.

    On a cluster keys outlive a computation; a key that is fused in one and not in another contradicts itself there.
    """

    __slots__ = ()

    @property
    def block_fusion(self) -> bool:
        """True."""
        return True


def _compact(coords: ChunkCoords) -> IntArray:
    """Return the same coordinates in the smallest signed integers that hold them."""
    top = int(np.abs(coords).max(initial=0))
    dtype = next(t for t in (np.int8, np.int16, np.int32, np.int64) if top <= np.iinfo(t).max)
    return coords.astype(dtype)


def read_graph(reads: Reads) -> HighLevelGraph:
    """Graph of reads alone."""
    return HighLevelGraph({reads.name: ReadLayer(reads)}, {reads.name: set()})
