"""Runs of chunks that one task each works on, and what such a task is given."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from dask.utils import parse_bytes

from zarr_vectors_lazy.access.limits import block_nbytes
from zarr_vectors_lazy.graph.layers import List, TaskRef
from zarr_vectors_lazy.graph.reads import cell_name, packed_chunks
from zarr_vectors_lazy.graph.view import LevelView
from zarr_vectors_lazy.plan.batches import cut_batches
from zarr_vectors_lazy.settings import setting
from zarr_vectors_lazy.types import IntArray

RUN_BATCHES = 16  # batches of cells of an array that one task works on, where nothing else cuts runs


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """Some chunks of a view, cut into runs.

    Parameters
    ----------
    view
        The view.
    chunks
        (c,) numbers of the chunks, in the order in which they are worked on.
    bounds
        (r + 1,) run k has ``chunks[bounds[k]:bounds[k + 1]]``.
    """

    view: LevelView
    chunks: IntArray
    bounds: IntArray

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def __iter__(self) -> Iterator[IntArray]:
        return (self.of(run) for run in range(len(self)))

    def of(self, run: int) -> IntArray:
        """Chunks of a run."""
        return self.chunks[self.bounds[run] : self.bounds[run + 1]]

    def coords(self) -> "Given":
        """(c, K) coordinates of a run's chunks."""
        return Given(self, _coords)

    def counts(self, counts: IntArray | None) -> "Given":
        """(c,) promised rows of a run's chunks; None where nothing promises them."""
        return Given(self, _taken, counts)

    def cells(self, member: str) -> "Given":
        """Encoded cells of a run's chunks, a list."""
        return Given(self, _cells, member)

    def kept(self, choice: str | None) -> "Given":
        """Chosen rows of a run's chunks, None where all are; empty where they are of all."""
        return Given(self, _kept, choice)

    def spans(self, rows: Any) -> "Given":
        """(c, 2) first row and number of rows of a run's chunks; ``rows`` as `graph.numbering.RowNumbers`."""
        return Given(self, _spans, rows)


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """Input of the tasks of runs, see `graph.layers.OfBlock`."""

    runs: Runs
    make: Any
    argument: Any = None

    def of(self, block: int) -> Any:
        """What the task of one run is given."""
        return self.make(self.runs.view, self.runs.of(block), self.argument)


def _coords(view: LevelView, chunks: IntArray, _: None) -> Any:
    return view.reads.coords[chunks].astype(np.int64)


def _taken(view: LevelView, chunks: IntArray, counts: IntArray | None) -> Any:
    return None if counts is None else counts[chunks]


def _cells(view: LevelView, chunks: IntArray, member: str) -> Any:
    return cells_of(view.reads.name, member, chunks)


def _kept(view: LevelView, chunks: IntArray, choice: str | None) -> Any:
    if choice is None or not view.filters[chunks].any():
        return ()
    return List(*(TaskRef((choice, chunk)) if view.filters[chunk] else None for chunk in chunks.tolist()))


def _spans(view: LevelView, chunks: IntArray, rows: Any) -> Any:
    return rows.of(chunks)


def cells_of(reads: str, member: str, chunks: IntArray) -> TaskRef:
    """Reference to the encoded cells of chunks, a list; of a member, or a group of them."""
    name = cell_name(reads, member)
    if len(chunks) and int(chunks[-1]) - int(chunks[0]) + 1 == len(chunks) and bool((np.diff(chunks) == 1).all()):
        return TaskRef((name, int(chunks[0]), int(chunks[-1]) + 1))
    return TaskRef((name, packed_chunks(chunks)))


def cut_runs(view: LevelView, chunks: IntArray) -> Runs:
    """Cut chunks into runs of what a few batches fetch: nothing is known of what their rows will be used for."""
    counts = view.stored_counts
    nbytes = np.full(len(chunks), view.vertex_member().nbytes)
    if counts is not None:
        nbytes = counts[chunks] * view.row_nbytes
    cells, budget = RUN_BATCHES * int(setting("batch-chunks")), max(parse_bytes(setting("batch-bytes")), block_nbytes())
    return Runs(view, chunks, cut_batches(nbytes, slots=1, cells=cells, budget=float(budget)))


def cut_evenly(weights: Sequence[float] | np.ndarray[Any, Any], blocks: int) -> IntArray:
    """Bounds of so many blocks of neighbours, of about the same weight; fewer where there are not so many."""
    weight = np.asarray(weights, np.float64)
    n = len(weight)
    if blocks >= n or not n:
        return np.arange(n + 1, dtype=np.int64)
    ends = np.cumsum(weight)
    cuts = np.searchsorted(ends, ends[-1] * np.arange(1, blocks) / blocks, "left") + 1
    return np.unique(np.concatenate([[0], np.minimum(cuts, n), [n]])).astype(np.int64)
