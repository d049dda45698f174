"""What a computation would fetch, before anything is fetched."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from itertools import pairwise

import dask.array as da
import numpy as np
from dask.core import flatten
from dask.highlevelgraph import HighLevelGraph, Layer

from zarr_vectors_lazy.display import pairs_html
from zarr_vectors_lazy.errors import in_line
from zarr_vectors_lazy.format.codecs import HEAD_NBYTES
from zarr_vectors_lazy.model.arrays import CellSpec
from zarr_vectors_lazy.read.cells import read_batch
from zarr_vectors_lazy.read.layers import Cut, ReadLayer, RecipeLayer, Task, cell_name
from zarr_vectors_lazy.read.records import Table
from zarr_vectors_lazy.read.view import LevelView
from zarr_vectors_lazy.types import BoolArray, ChunkCoords, IntArray

# Which cells a graph fetches and how many tasks it has, from its layers or else from their tasks.


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fetched:
    """Cells of one array that are fetched.

    Parameters
    ----------
    spec
        How they are read.
    coords
        (n, K) their chunks.
    head
        Whether the head of each is enough.
    requests
        Requests that fetch them.
    """

    spec: CellSpec
    coords: ChunkCoords
    head: bool
    requests: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Count:
    """The contents of a graph.

    Parameters
    ----------
    fetched
        Cells that it fetches.
    tables
        Requests of each table of links that it reads.
    tasks
        Number of tasks, culled and not fused.
    """

    fetched: Sequence[Fetched]
    tables: Sequence[int] = ()
    tasks: int


def count_arrays(arrays: Sequence[da.Array]) -> Count:
    """Count what computing arrays takes."""
    graph = HighLevelGraph.merge(*(array.__dask_graph__() for array in arrays))
    return count_layers(graph, arrays) or count_tasks(graph, arrays)


def count_tasks(graph: HighLevelGraph, arrays: Sequence[da.Array]) -> Count:
    """Count in the culled graph."""
    tasks = graph.cull(set(flatten([array.__dask_keys__() for array in arrays]))).to_dict()
    made = [task for task in tasks.values() if isinstance(task, Task)]
    wants = [want for task in made if task.func is read_batch for want in task.args[1]]
    fetched = [
        Fetched(
            spec=want.spec,
            coords=np.asarray(want.coords),
            head=want.head,
            requests=want.spec.layout.requests(want.coords, want.places, head=want.head),
        )
        for want in wants
    ]
    tables = [arg.records.stored for task in made for arg in task.args if isinstance(arg, Table)]
    requests = [0 if table is None else table.requests for table in tables]
    return Count(fetched=fetched, tables=requests, tasks=len(tasks))


def count_layers(graph: HighLevelGraph, arrays: Sequence[da.Array]) -> Count | None:
    """Count without making a task; None if one of the layers cannot say what its tasks need."""
    wanted = {array.name: np.ones(array.numblocks[0], np.bool_) for array in arrays}
    fetched: list[Fetched] = []
    tasks = 0
    for layer in _from_results(graph):
        if isinstance(layer, ReadLayer):
            cells, batches = _count_reads(layer, wanted)
            fetched += cells
            tasks += batches
        elif isinstance(layer, RecipeLayer) and (needs_of := getattr(layer.recipe, "needs", None)) is not None:
            blocks = wanted.get(layer.name)
            needs = {} if blocks is None else needs_of(blocks)
            if needs is None:
                return None
            for name, mask in needs.items():
                if mask.any():
                    wanted[name] = wanted[name] | mask if name in wanted else mask
            tasks += 0 if blocks is None else int(blocks.sum())
        else:
            return None
    return Count(fetched=fetched, tasks=tasks)


def _from_results(graph: HighLevelGraph) -> Iterator[Layer]:
    names = tuple(TopologicalSorter(graph.dependencies).static_order())
    return (graph.layers[name] for name in reversed(names))


def _count_reads(layer: ReadLayer, wanted: Mapping[str, BoolArray]) -> tuple[list[Fetched], int]:
    """Cells that are fetched, by member, and the number of batches."""
    keys = {member: cell_name(layer.name, member) for member in layer.reads.members}
    asked = {member: wanted[key] for member, key in keys.items() if key in wanted}
    if not asked:
        return [], 0
    cut = layer.cut(asked)
    return [_fetched(layer, cut, number) for number in range(len(cut.names))], len(cut)


def _fetched(layer: ReadLayer, cut: Cut, number: int) -> Fetched:
    """Cells of one of the members, and the requests of all batches for them."""
    member = layer.reads.members[cut.names[number]]
    cells = np.flatnonzero(cut.members == number)
    chunks = cut.chunks[cells]
    coords, requests = layer.reads.coords[chunks], member.spec.layout.requests
    total = 0
    for start, stop in pairwise(np.unique(np.searchsorted(cells, cut.bounds)).tolist()):
        places = None if member.places is None else member.places.take(chunks[start:stop])
        total += requests(coords[start:stop], places, head=member.head)
    return Fetched(spec=member.spec, coords=coords, head=member.head, requests=total)


# What a computation would fetch, before anything is fetched.


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What computing some members would fetch.

    Parameters
    ----------
    members
        What would be computed.
    chunks, chunks_total
        Chunks that the computation may touch, and chunks of the level.
    requests
        Requests for cells; at least that many if cells lie in shards.
    nbytes
        Stored bytes if sizes are known beforehand (uncompressed cells of known counts), otherwise None.
    tasks
        Tasks of its graph: one for each block, those that blocks share, and one for each batch of requests. Tasks
        that Dask then fuses, because they follow each other, are counted separately.
    blocks
        Blocks of the arrays.
    """

    members: tuple[str, ...]
    chunks: int
    chunks_total: int
    requests: int
    nbytes: int | None
    tasks: int
    blocks: int

    @property
    def bytes(self) -> int | None:
        """Stored bytes, None if unknown."""
        return self.nbytes

    def _rows(self) -> list[tuple[str, str]]:
        nbytes = "unknown" if self.nbytes is None else f"{self.nbytes:,}"
        return [
            ("members", ", ".join(self.members)),
            ("chunks", f"{self.chunks:,} of {self.chunks_total:,}"),
            ("requests", f"{self.requests:,}"),
            ("bytes", nbytes),
            ("tasks", f"{self.tasks:,}"),
            ("blocks", f"{self.blocks:,}"),
        ]

    def __str__(self) -> str:
        return "\n".join(f"{name:<9} {in_line(value)}" for name, value in self._rows())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return pairs_html(self._rows())


def explain(view: LevelView, members: Sequence[str], arrays: Sequence[da.Array]) -> Explanation:
    """Explain the computation of arrays of a view."""
    count = count_arrays(arrays)
    known = [*(None for _ in count.tables), *(_nbytes(view, cells) for cells in count.fetched)]
    chunks = view.data.vertices.chunks
    touched = np.zeros(len(chunks), np.bool_)
    for cells in count.fetched:
        touched[chunks.find(cells.coords)] = True
    return Explanation(
        members=tuple(members),
        chunks=int(touched.sum()),
        chunks_total=len(chunks),
        requests=sum(cells.requests for cells in count.fetched) + sum(count.tables),
        nbytes=None if None in known else sum(n for n in known if n is not None),
        tasks=count.tasks,
        blocks=sum(int(np.prod(array.numblocks)) for array in arrays),
    )


def _nbytes(view: LevelView, cells: Fetched) -> int | None:
    array = view.data.vertices
    if cells.spec.path != array.spec.path or cells.spec.layout.plain_keys(cells.coords[:1]) is None:
        return None
    rows = _rows(view, cells)
    if rows is None:
        return None
    row = cells.spec.dtype.itemsize * int(np.prod(cells.spec.row_shape or ()))
    nbytes = rows * row + 8
    return int((np.minimum(nbytes, HEAD_NBYTES) if cells.head else nbytes).sum())


def _rows(view: LevelView, cells: Fetched) -> IntArray | None:
    """(n,) rows of the chunks of some cells, before any selection."""
    array = view.data.vertices
    if array.counts is not None:
        return array.counts[array.chunks.find(cells.coords)]
    if view.sizes is None or view.filters.any():
        return None
    at = view.table.find(cells.coords)
    return view.sizes[at] if (at >= 0).all() else None
