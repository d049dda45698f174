"""Runs of neighbouring chunks that one task each works on, and Dask arrays of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
from dask.highlevelgraph import HighLevelGraph
from dask.utils import parse_bytes

from zarr_vectors_lazy.model.arrays import CellArray
from zarr_vectors_lazy.plan.blocks import UpTo, cut_batches
from zarr_vectors_lazy.read.cells import Requested
from zarr_vectors_lazy.read.layers import TaskRef, cell_name, packed_chunks
from zarr_vectors_lazy.read.level import block_nbytes
from zarr_vectors_lazy.read.view import LevelView
from zarr_vectors_lazy.settings import setting
from zarr_vectors_lazy.types import IntArray

# Dask arrays out of graphs, in the classic and in the expression mode of Dask.

NAN = float("nan")


def make_array(
    graph: HighLevelGraph,
    name: str,
    sizes: Sequence[float],
    row_shape: tuple[int, ...],
    dtype: np.dtype[Any],
    *,
    masked: bool = False,
) -> da.Array:
    """Array whose blocks are the keys ``(name, block, 0, ...)``.

    Parameters
    ----------
    graph
        Holds the layer ``name``.
    sizes
        Rows of each block, NaN where unknown.
    row_shape, dtype
        Of one row.
    masked
        Whether blocks may be masked arrays.
    """
    chunks = (tuple(sizes), *((edge,) for edge in row_shape))
    meta = np.empty((0,) * len(chunks), dtype)
    meta = np.ma.MaskedArray(meta) if masked else meta
    if getattr(da, "ARRAY_EXPR_ENABLED", False):
        from zarr_vectors_lazy.read.expression import expression_array  # noqa: PLC0415  fails in the other mode

        return expression_array(graph, name, chunks, meta)
    return da.Array(graph, name, chunks, dtype=dtype, meta=meta)


def empty_array(row_shape: tuple[int, ...], dtype: np.dtype[Any]) -> da.Array:
    """Array without rows."""
    array: da.Array = da.from_array(np.empty((0, *row_shape), dtype), chunks=-1)
    return array


# Runs of neighbouring chunks whose cells, of several arrays, one task reads: for whatever goes through a level.

Arrays = Sequence[tuple[str, CellArray]]
"""Members and their arrays."""


def chunk_runs(view: LevelView, arrays: Arrays, shard_of: IntArray | None = None) -> list[IntArray]:
    """Cut the chunks of a level into runs, each in ascending order, bounded by cells and by bytes.

    Parameters
    ----------
    shard_of
        (n,) shard that each chunk will be written to; those of one stay together.
    """
    per_chunk = sum(view.estimated_nbytes(array) for _, array in arrays)
    budget = int(parse_bytes(setting("batch-bytes")) // max(per_chunk, 1.0))
    size = max(1, min(int(setting("batch-chunks")) // max(len(arrays), 1), budget))
    if shard_of is None:
        return [np.arange(start, min(start + size, len(view))) for start in range(0, len(view), size)]
    order = np.argsort(shard_of, kind="stable")
    ends = np.flatnonzero(np.diff(shard_of[order], append=-1)) + 1
    runs, start = [], 0
    for at, end in enumerate(ends.tolist()):
        if at + 1 == len(ends) or int(ends[at + 1]) - start > size:
            runs.append(np.sort(order[start:end]))
            start = end
    return runs


def batched(view: LevelView) -> LevelView:
    """View whose blocks have as many chunks as one batch fetches of one array."""
    nbytes = min(parse_bytes(setting("batch-bytes")), block_nbytes())
    return view.with_chunking(UpTo(nbytes, int(setting("batch-chunks"))))


def requested_of(view: LevelView, arrays: Arrays, runs: Sequence[IntArray]) -> Iterator[list[Requested]]:
    """What each run reads."""
    coords = view.table.coords
    at = [array.chunks.find(coords) for _, array in arrays]
    for chunks in runs:
        wanted = []
        for (member, array), rows in zip(arrays, at, strict=True):
            here = chunks[rows[chunks] >= 0]
            if len(here):
                places = None if array.places is None else array.places.take(rows[here])
                wanted.append(
                    Requested(
                        member=member,
                        spec=array.spec,
                        rows=tuple(here.tolist()),
                        coords=coords[here],
                        places=places,
                    )
                )
        yield wanted


# Runs of chunks that one task each works on, and what such a task is given.

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

    def kept(self, choice: Any) -> "Given":
        """Chosen rows of a run's chunks; ``choice`` as `read.choose.Choice`, None where all are selected."""
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


def _kept(view: LevelView, chunks: IntArray, choice: Any) -> Any:
    return () if choice is None else choice.run(chunks)


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
