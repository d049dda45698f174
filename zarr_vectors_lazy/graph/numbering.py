"""Row numbers of chunks: what edges, faces and links are counted in."""

from dataclasses import dataclass
from typing import Any

import dask
import numpy as np
from dask.base import tokenize
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph

from zarr_vectors_lazy.access.links import number_rows, span_table, spans_of
from zarr_vectors_lazy.access.read import count_rows
from zarr_vectors_lazy.access.sizes import read_row_counts
from zarr_vectors_lazy.graph.choose import choice_graph
from zarr_vectors_lazy.graph.layers import BlockTasks, List, RecipeLayer, Task, TaskRef, task_over
from zarr_vectors_lazy.graph.runs import Runs, cut_runs
from zarr_vectors_lazy.graph.view import HEADS, LevelView, Named
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

    def of(self, chunks: IntArray) -> Any:
        """First row and number of rows, (..., 2), of some chunks, (0, -1) for chunk -1; or a task that does."""
        if self.starts is None:
            return Task(None, spans_of, TaskRef((self.name,)), chunks)
        starts = self.starts
        sizes = np.diff(starts) if self.stops is None else self.stops - starts[:-1]
        return span_table(starts, sizes, chunks)

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
    apart, filtered, counts = np.flatnonzero(~view.filters), np.flatnonzero(view.filters), view.stored_counts
    graphs: list[HighLevelGraph] = []
    known: list[Any] = [] if counts is None else [counts[apart]]
    if counts is None:
        runs = cut_runs(view, apart)
        counted = _counted(view, runs)
        graphs.append(counted.graph)
        known = [TaskRef((counted.name, run)) for run in range(len(runs))]
    chosen = choice_graph(view)
    kept = [] if chosen is None else [TaskRef((chosen.name, chunk)) for chunk in filtered.tolist()]
    graphs += [] if chosen is None else [chosen.graph]
    task = Task((name,), number_rows, len(view), apart, List(*known), filtered, List(*kept))
    return RowNumbers(name, None), task_over(name, task, *graphs)


def _counted(view: LevelView, runs: Runs) -> Named:
    """Layer of the rows of each chunk of some runs, from the heads of their cells."""
    view.member(HEADS, view.data.vertices, head=True)
    name = f"zv-count-{tokenize(view.token, runs.bounds)}"
    inputs = (view.source, view.data.vertices.spec, runs.coords(), runs.cells(HEADS))
    layer = RecipeLayer(name, BlockTasks(count_rows, inputs), len(runs))
    return Named(name, view.graph(layer, view.read_graph()))


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
