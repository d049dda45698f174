"""Row numbers of chunks: what edges, faces and links are counted in."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dask
import numpy as np
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph

from zarr_vectors_lazy.access.links import number_rows
from zarr_vectors_lazy.access.sizes import read_row_counts
from zarr_vectors_lazy.graph.choose import choice_graph, counts_graph
from zarr_vectors_lazy.graph.layers import List, Task, TaskRef, task_over
from zarr_vectors_lazy.graph.view import LevelView
from zarr_vectors_lazy.kernels.records import first_row_numbers
from zarr_vectors_lazy.types import IntArray


@dataclass(frozen=True, slots=True, eq=False)
class RowNumbers:
    """Where each chunk's selected rows begin among those of a view.

    Parameters
    ----------
    name
        Key of the task that computes them.
    starts
        (n + 1,) int64 where sizes are known beforehand, else None.
    stops
        (n,) where each chunk's rows end; None where the next one's begin.
    """

    name: str
    starts: IntArray | None
    stops: IntArray | None = None

    def argument(self, ends: Sequence[int]) -> Any:
        """What a task is given: known spans of the chunks that it needs, or the row numbers of all chunks."""
        if self.starts is None:
            return TaskRef((self.name,))
        starts = self.starts
        stops = starts[1:] if self.stops is None else self.stops
        return tuple(None if end < 0 else (int(starts[end]), int(stops[end])) for end in ends)

    def all(self) -> Any:
        """What a task is given that needs the row numbers of all chunks."""
        return TaskRef((self.name,)) if self.starts is None else self.starts


def number_view(view: LevelView) -> tuple[RowNumbers, HighLevelGraph]:
    """Row numbers of a view, and the graph that computes them; empty where they are known."""
    name, sizes = f"zv-rows-{view.token}", view.sizes
    if view.apart is not None:
        starts = first_row_numbers(len(view) + 1)
        return RowNumbers(name, starts, starts[:-1] + view.apart), HighLevelGraph({}, {})
    if sizes is not None:
        return RowNumbers(name, np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)), HighLevelGraph({}, {})
    counts, chosen = counts_graph(view), choice_graph(view)
    refs = [
        TaskRef((chosen.name if chosen is not None and view.filters[i] else counts.name, i)) for i in range(len(view))
    ]
    task = Task((name,), number_rows, List(*refs))
    return RowNumbers(name, None), task_over(name, task, counts.graph, *([] if chosen is None else [chosen.graph]))


def row_sizes(view: LevelView) -> Delayed:
    """Selected rows of each chunk of a view, (n,) int64, computed from what choosing them needs."""
    rows, graph = number_view(view)
    name = f"zv-sizes-{view.token}"
    task = Task((name,), np.diff, rows.starts if rows.starts is not None else TaskRef((rows.name,)))
    return Delayed((name,), task_over(name, task, graph), layer=name)


def sized(view: LevelView) -> LevelView:
    """Return a view with known sizes; reads as little as the store allows where they are not known."""
    if view.sizes is not None:
        return view.with_sizes(view.sizes)
    if not view.filters.any():
        return view.with_sizes(read_row_counts(view.data, view.rows))
    return view.with_sizes(np.asarray(dask.compute(row_sizes(view))[0]))
