"""The Dask expression of a level's data frame; imported only if dask.dataframe is installed.

Its graph is made once Dask knows which columns and partitions are needed, so that their reads share batches, as for
arrays. Dask's own ``from_map`` gives each partition a task that would fetch alone.
"""

import functools
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import dask.dataframe as dd
import numpy as np
from dask._collections import new_collection
from dask.core import flatten
from dask.dataframe.dask_expr._expr import Lengths, Literal, PartitionsFiltered, Projection, determine_column_projection
from dask.dataframe.dask_expr._reductions import Len
from dask.dataframe.dask_expr.io.io import IO
from dask.highlevelgraph import HighLevelGraph

from zarr_vectors_lazy.convert.frames import FrameColumn, make_frame, source_arrays
from zarr_vectors_lazy.read.columns import vertices_array
from zarr_vectors_lazy.read.layers import GraphNode, Key, Task, TaskRef
from zarr_vectors_lazy.read.view import LevelView


class FrameSource:
    """What the expression reads: a view, and all columns that it could return."""

    def __init__(self, view: LevelView, columns: Sequence[FrameColumn]) -> None:
        self.view = view
        self.columns = {column.name: column for column in columns}

    def __reduce__(self) -> tuple[Any, ...]:
        return FrameSource, (self.view, tuple(self.columns.values()))

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return ("FrameSource", self.view.token, self.view.chunking, tuple(self.columns.values()))

    @functools.cached_property
    def sizes(self) -> tuple[int, ...] | None:
        """Rows of each partition, if they are known."""
        if self.view.sizes is None:
            return None
        return tuple(int(size) for size in vertices_array(self.view).chunks[0])


class LevelFrame(PartitionsFiltered, IO):
    """Rows of a level as a frame."""

    _parameters = ["source", "columns", "_partitions"]  # noqa: RUF012  as Dask declares it
    _defaults = {"_partitions": None}  # noqa: RUF012  as Dask declares it

    @property
    def _chosen(self) -> list[FrameColumn]:
        return [self.source.columns[name] for name in self.columns]

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list(self.operand("columns"))  # type: ignore[no-untyped-call]

    @functools.cached_property
    def _meta(self) -> Any:
        arrays = source_arrays(self.source.view, self._chosen)
        empty = [np.empty((0, *array.shape[1:]), array.dtype) for array in arrays.values()]
        return make_frame(self._chosen, None, *empty)

    def _divisions(self) -> tuple[int | None, ...]:
        sizes: tuple[int, ...] | None = self.source.sizes
        if sizes is None or not all(sizes):  # divisions would repeat
            return (None,) * (int(vertices_array(self.source.view).numblocks[0]) + 1)
        *starts, end = accumulate(sizes, initial=0)
        return (*starts, end - 1)

    def _layer(self) -> dict[Key, GraphNode]:
        chosen, parts = self._chosen, list(self._partitions)
        arrays = source_arrays(self.source.view, chosen) or {None: vertices_array(self.source.view)}
        blocks = [list(flatten(array.__dask_keys__())) for array in arrays.values()]
        wanted = {keys[part] for keys in blocks for part in parts}
        whole = HighLevelGraph.merge(*(array.__dask_graph__() for array in arrays.values()))
        tasks: dict[Key, GraphNode] = dict(whole.cull(wanted).to_dict())
        starts = None if self.source.sizes is None else list(accumulate(self.source.sizes, initial=0))
        for number, part in enumerate(parts):
            key, start = (self._name, number), None if starts is None else starts[part]
            tasks[key] = Task(key, make_frame, chosen, start, *(TaskRef(keys[part]) for keys in blocks))
        return tasks

    def _lengths(self) -> tuple[int, ...] | None:
        sizes = self.source.sizes
        return None if sizes is None else tuple(sizes[part] for part in self._partitions)

    def _simplify_up(self, parent: Any, dependents: Any) -> Any:
        lengths = self._lengths()
        if lengths is not None and isinstance(parent, Lengths):
            return Literal(lengths)
        if isinstance(parent, Len):
            if lengths is not None:
                return Literal(sum(lengths))
            return Len(self.substitute_parameters({"columns": []})) if self.columns else None
        if isinstance(parent, Projection):
            used = determine_column_projection(self, parent, dependents)
            used = used if isinstance(used, list) else [used]
            kept = [name for name in self.columns if name in used]
            if len(kept) == len(self.columns):
                return None
            narrow: Any = self.substitute_parameters({"columns": kept})
            asked = parent.operand("columns")
            return narrow if asked == kept else narrow[asked]
        return None


def level_frame(view: LevelView, columns: Sequence[FrameColumn]) -> dd.DataFrame:
    """Dask data frame of a view."""
    source = FrameSource(view, columns)
    frame: dd.DataFrame = new_collection(LevelFrame(source, list(source.columns)))  # type: ignore[no-untyped-call]
    return frame
