"""What a computation would fetch, before anything is fetched."""

from collections.abc import Sequence
from dataclasses import dataclass

import dask.array as da
import numpy as np

from zarr_vectors_lazy.format.codecs import HEAD_NBYTES
from zarr_vectors_lazy.graph.count import Fetched, count_arrays
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
        Tasks of its graph: a block each, those that several blocks share, and one for each batch of requests. What
        Dask then joins into one, as it does with some that follow each other, still counts.
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
