"""Runs of neighbouring chunks whose cells, of several arrays, one task reads: for whatever goes through a level."""

from collections.abc import Iterator, Sequence

import numpy as np
from dask.utils import parse_bytes

from zarr_vectors_lazy.access.limits import block_nbytes
from zarr_vectors_lazy.access.wanted import Wanted
from zarr_vectors_lazy.graph.view import LevelView
from zarr_vectors_lazy.model.arrays import CellArray
from zarr_vectors_lazy.plan.blocks import UpTo
from zarr_vectors_lazy.settings import setting
from zarr_vectors_lazy.types import IntArray

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


def wanted_of(view: LevelView, arrays: Arrays, runs: Sequence[IntArray]) -> Iterator[list[Wanted]]:
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
                    Wanted(
                        member=member,
                        spec=array.spec,
                        rows=tuple(here.tolist()),
                        coords=coords[here],
                        places=places,
                    )
                )
        yield wanted
