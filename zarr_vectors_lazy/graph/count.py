"""Which cells a graph fetches and how many tasks it has: told by its layers, else by the tasks that they make."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from itertools import pairwise
from typing import Any

import dask.array as da
import numpy as np
from dask.core import flatten
from dask.highlevelgraph import HighLevelGraph, Layer

from zarr_vectors_lazy.access.read import read_batch
from zarr_vectors_lazy.access.tables import Table
from zarr_vectors_lazy.graph.layers import CountedRecipe, GraphNode, RecipeLayer, Task
from zarr_vectors_lazy.graph.reads import Cut, ReadLayer, cell_name
from zarr_vectors_lazy.model.arrays import CellSpec
from zarr_vectors_lazy.types import BoolArray, ChunkCoords


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
    """What a graph has.

    Parameters
    ----------
    fetched
        Cells that it fetches.
    tables
        Requests of each table of links that it reads.
    tasks
        Its tasks, culled and not fused.
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
    wants = [
        want for task in tasks.values() if isinstance(task, Task) and task.func is read_batch for want in task.args[1]
    ]
    fetched = [
        Fetched(
            spec=want.spec,
            coords=np.asarray(want.coords),
            head=want.head,
            requests=want.spec.layout.requests(want.coords, want.places, head=want.head),
        )
        for want in wants
    ]
    tables = [arg.records.stored for task in tasks.values() for arg in _arguments(task) if isinstance(arg, Table)]
    requests = [0 if table is None else table.requests for table in tables]
    return Count(fetched=fetched, tables=requests, tasks=len(tasks))


def _arguments(task: GraphNode) -> tuple[Any, ...]:
    return task.args if isinstance(task, Task) else ()


def count_layers(graph: HighLevelGraph, arrays: Sequence[da.Array]) -> Count | None:
    """Count without making a task; None where one of the layers does not tell what its tasks need."""
    wanted = {array.name: np.ones(array.numblocks[0], np.bool_) for array in arrays}
    fetched: list[Fetched] = []
    tasks = 0
    for layer in _from_results(graph):
        if isinstance(layer, ReadLayer):
            cells, batches = _count_reads(layer, wanted)
            fetched += cells
            tasks += batches
        elif isinstance(layer, RecipeLayer) and isinstance(layer.recipe, CountedRecipe):
            blocks = wanted.get(layer.name)
            needs = {} if blocks is None else layer.recipe.needs(blocks)
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
