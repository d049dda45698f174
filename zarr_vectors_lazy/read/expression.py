"""Arrays for Dask's expression mode (``array.query-planning``); imported in that mode alone.

Expressions do not cull layers: the graph is made at once, of the selected chunks only. Dask itself cannot compute an
expression whose chunk sizes are unknown (2026.8 rechunks it into one block first), so ours joins its blocks itself.
"""

import math
from functools import cached_property
from typing import Any

import dask.array as da
import numpy as np
from dask._collections import new_collection
from dask.array._array_expr._expr import ArrayExpr
from dask.array._array_expr._io import FromGraph
from dask.core import flatten
from dask.highlevelgraph import HighLevelGraph

from zarr_vectors_lazy.read.layers import Key, List, Task, TaskRef


class Rows(FromGraph):
    """Blocks of rows, their sizes perhaps unknown."""

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
    graph: HighLevelGraph, name: str, chunks: tuple[tuple[float, ...], ...], meta: np.ndarray[Any, Any]
) -> da.Array:
    """Array over the tasks of the selected chunks."""
    keys: list[Any] = [(name, block, *(0,) * (len(chunks) - 1)) for block in range(len(chunks[0]))]
    tasks = dict(graph.cull(set(keys)).to_dict())
    array: da.Array = new_collection(Rows(tasks, meta, chunks, keys, name))  # type: ignore[no-untyped-call]
    return array
