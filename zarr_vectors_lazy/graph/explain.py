"""What a computation would fetch, from its culled graph, before anything is fetched."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
from dask.array.optimization import optimize
from dask.core import flatten
from dask.highlevelgraph import HighLevelGraph

from zarr_vectors_lazy.access.read import read_batch
from zarr_vectors_lazy.access.tables import Table
from zarr_vectors_lazy.access.wanted import Wanted
from zarr_vectors_lazy.format.codecs import HEAD_NBYTES
from zarr_vectors_lazy.graph.layers import GraphNode, Task
from zarr_vectors_lazy.graph.view import LevelView
from zarr_vectors_lazy.types import IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What computing some members would fetch.

    Parameters
    ----------
    members
        What would be computed.
    chunks, chunks_total
        Chunks of the selection that it may touch, out of those of the level.
    requests
        Requests for cells; at least that many where cells lie in shards.
    nbytes
        Stored bytes where sizes are known beforehand (uncompressed cells of known counts), else None.
    tasks
        Tasks that run, after Dask's own fusion.
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
        """Stored bytes, None where unknown."""
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
        return "\n".join(f"{name:<9} {value}" for name, value in self._rows())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr><th style='text-align:left'>{name}</th><td>{value}</td></tr>" for name, value in self._rows()
        )
        return f"<table>{cells}</table>"


def explain(view: LevelView, members: Sequence[str], arrays: Sequence[da.Array]) -> Explanation:
    """Explain the computation of arrays of a view."""
    graph = HighLevelGraph.merge(*(array.__dask_graph__() for array in arrays))
    keys = list(flatten([array.__dask_keys__() for array in arrays]))
    culled = graph.cull(keys).to_dict()
    wants = [
        want for task in culled.values() if isinstance(task, Task) and task.func is read_batch for want in task.args[1]
    ]
    tables = [arg.records.stored for task in culled.values() for arg in _arguments(task) if isinstance(arg, Table)]
    known = [None] * len(tables) + [_nbytes(view, want) for want in wants]
    return Explanation(
        members=tuple(members),
        chunks=len({tuple(coord) for want in wants for coord in np.asarray(want.coords).tolist()}),
        chunks_total=len(view.data.vertices.chunks),
        requests=sum(want.spec.layout.requests(want.coords, want.places, head=want.head) for want in wants)
        + sum(table.requests for table in tables if table is not None),
        nbytes=None if None in known else sum(n for n in known if n is not None),
        tasks=len(optimize(graph, keys)),
        blocks=sum(int(np.prod(array.numblocks)) for array in arrays),
    )


def _arguments(task: GraphNode) -> tuple[Any, ...]:
    return task.args if isinstance(task, Task) else ()


def _nbytes(view: LevelView, want: Wanted) -> int | None:
    array = view.data.vertices
    if want.spec is not array.spec or want.spec.layout.plain_keys(want.coords[:1]) is None:
        return None
    rows = _rows(view, want)
    if rows is None:
        return None
    row = want.spec.dtype.itemsize * int(np.prod(want.spec.row_shape or ()))
    nbytes = rows * row + 8
    return int((np.minimum(nbytes, HEAD_NBYTES) if want.head else nbytes).sum())


def _rows(view: LevelView, want: Wanted) -> IntArray | None:
    """(n,) rows of the chunks of some cells, before any selection."""
    array = view.data.vertices
    if array.counts is not None:
        return array.counts[array.chunks.find(want.coords)]
    if view.sizes is None or view.filters.any():
        return None
    at = view.table.find(want.coords)
    return view.sizes[at] if (at >= 0).all() else None
