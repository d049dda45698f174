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
from zarr_vectors_lazy.read.layers import Needs, Recipe, TaskRef, blocks_over, cell_name, packed_chunks
from zarr_vectors_lazy.read.level import block_nbytes
from zarr_vectors_lazy.read.rows import Block
from zarr_vectors_lazy.read.view import LevelView
from zarr_vectors_lazy.settings import setting
from zarr_vectors_lazy.types import BoolArray, ChunkCoords, IntArray

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


def array_over(
    name: str,
    recipe: Recipe,
    sizes: Sequence[float],
    row_shape: tuple[int, ...],
    dtype: np.dtype[Any],
    *below: HighLevelGraph,
    masked: bool = False,
) -> da.Array:
    """Array of which a recipe makes the blocks, over other graphs; see `make_array`."""
    graph = blocks_over(name, recipe, len(sizes), *below, trailing=len(row_shape))
    return make_array(graph, name, sizes, row_shape, dtype, masked=masked)


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


def batched(view: LevelView, times: float = 1) -> LevelView:
    """View whose blocks have as many chunks as one batch fetches of arrays so many times as wide as positions."""
    nbytes = min(parse_bytes(setting("batch-bytes")), block_nbytes()) / times
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Blocks:
    """Chunks of a view cut into blocks that one task each works on, and what such a task is given.

    Parameters
    ----------
    reads
        Name of the reads.
    coords, counts
        (n, K) coordinates and (n,) promised rows of all chunks of the view; None where nothing promises them.
    bounds
        (b + 1,) block k has the chunks ``bounds[k]:bounds[k + 1]``.
    choice
        How rows are chosen, as `read.choose.Choice`; None where all are selected.
    chunks
        (c,) the chunks, in the order in which they are worked on, where these are not all of the view's.
    """

    reads: str
    coords: ChunkCoords
    counts: IntArray | None
    bounds: IntArray
    choice: Any = None
    chunks: IntArray | None = None

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def of(self, block: int) -> IntArray:
        """Chunks of a block."""
        first, last = int(self.bounds[block]), int(self.bounds[block + 1])
        return np.arange(first, last) if self.chunks is None else self.chunks[first:last]

    def coords_of(self, block: int) -> IntArray:
        """(c, K) coordinates of a block's chunks."""
        return self.coords[self.of(block)].astype(np.int64)

    def counts_of(self, block: int) -> IntArray | None:
        """(c,) promised rows of a block's chunks."""
        return None if self.counts is None else self.counts[self.of(block)]

    def described(self, block: int) -> Block:
        """What a task is told of a block of neighbours."""
        part = slice(int(self.bounds[block]), int(self.bounds[block + 1]))
        counts = None if self.counts is None else tuple(self.counts[part].tolist())
        return Block(coords=self.coords[part], counts=counts)

    def kept(self, block: int) -> Any:
        """References to the chosen rows of a block's chunks; none where all rows are selected."""
        return () if self.choice is None else self.choice.run(self.of(block))

    def cells(self, member: str, block: int) -> TaskRef:
        """Reference to the encoded cells of a block's chunks, a list; of a member, or a group of them."""
        return cells_of(self.reads, member, self.of(block))

    def cell(self, member: str, block: int) -> TaskRef:
        """The same; of one chunk its cell alone."""
        first, last = int(self.bounds[block]), int(self.bounds[block + 1])
        return TaskRef((cell_name(self.reads, member), *((first,) if last - first == 1 else (first, last))))

    def spans(self, rows: Any, block: int) -> Any:
        """(c, 2) first row and number of rows of a block's chunks; ``rows`` as `read.links.RowNumbers`."""
        return rows.of(self.of(block))

    def needs(self, blocks: BoolArray) -> tuple[BoolArray, Needs]:
        """(n,) chunks of some blocks, and what choosing their rows needs."""
        chunks = np.repeat(blocks, np.diff(self.bounds))
        return chunks, {} if self.choice is None else self.choice.needs(chunks)

    def rows(self, sizes: IntArray | None) -> list[float]:
        """Rows of each block, NaN where unknown."""
        return [NAN] * len(self) if sizes is None else np.add.reduceat(sizes, self.bounds[:-1]).tolist()


def blocks_of(
    view: LevelView, bounds: IntArray | None = None, chunks: IntArray | None = None, choice: Any = None
) -> Blocks:
    """Blocks of a view, or others of its chunks."""
    return Blocks(
        reads=view.reads.name,
        coords=view.reads.coords,
        counts=view.stored_counts,
        bounds=view.bounds if bounds is None else bounds,
        choice=choice,
        chunks=chunks,
    )


def cells_of(reads: str, member: str, chunks: IntArray) -> TaskRef:
    """Reference to the encoded cells of chunks, a list; of a member, or a group of them."""
    name = cell_name(reads, member)
    if len(chunks) and int(chunks[-1]) - int(chunks[0]) + 1 == len(chunks) and bool((np.diff(chunks) == 1).all()):
        return TaskRef((name, int(chunks[0]), int(chunks[-1]) + 1))
    return TaskRef((name, packed_chunks(chunks)))


def cut_runs(view: LevelView, chunks: IntArray, choice: Any = None) -> Blocks:
    """Cut chunks into runs of what a few batches fetch: nothing is known of what their rows will be used for."""
    counts = view.stored_counts
    nbytes = np.full(len(chunks), view.vertex_member().nbytes)
    if counts is not None:
        nbytes = counts[chunks] * view.row_nbytes
    cells, budget = RUN_BATCHES * int(setting("batch-chunks")), max(parse_bytes(setting("batch-bytes")), block_nbytes())
    return blocks_of(view, cut_batches(nbytes, slots=1, cells=cells, budget=float(budget)), chunks, choice)


def cut_evenly(weights: Sequence[float] | np.ndarray[Any, Any], blocks: int) -> IntArray:
    """Bounds of so many blocks of neighbours, of about the same weight; fewer where there are not so many."""
    weight = np.asarray(weights, np.float64)
    n = len(weight)
    if blocks >= n or not n:
        return np.arange(n + 1, dtype=np.int64)
    ends = np.cumsum(weight)
    cuts = np.searchsorted(ends, ends[-1] * np.arange(1, blocks) / blocks, "left") + 1
    return np.unique(np.concatenate([[0], np.minimum(cuts, n), [n]])).astype(np.int64)
