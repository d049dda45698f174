"""Objects as paths through the rows of chunks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zarr_vectors_lazy.model.objects import Fragments, Manifests, ragged_arange
from zarr_vectors_lazy.types import BoolArray, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Paths:
    """Vertices of some objects, one object after another, each in path order.

    Parameters
    ----------
    owners
        (M,) number of the object among those asked for.
    chunks
        (M,) number of the chunk among those given.
    rows
        (M,) row in that chunk's cell.
    begins
        (M,) whether a path begins here, or resumes after entries that were left out.
    entries
        (M,) number of the manifest entry among those of all these objects.
    """

    owners: IntArray
    chunks: IntArray
    rows: IntArray
    begins: BoolArray
    entries: IntArray

    def gather(self, values: Sequence[np.ndarray[Any, Any]], empty: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return per-chunk rows in path order; (M, ...)."""
        out = np.empty((len(self.rows), *empty.shape[1:]), empty.dtype)
        for chunk, of_chunk in enumerate(values):
            here = self.chunks == chunk
            out[here] = of_chunk[self.rows[here]]
        return out


def trace(manifests: Manifests, chunk_of_entry: IntArray, fragments: Sequence[Fragments]) -> Paths:
    """Rows of the vertices of objects.

    Parameters
    ----------
    manifests
        Their manifests.
    chunk_of_entry
        (E,) for each manifest entry the number of its chunk in ``fragments``; -1 leaves it out.
    fragments
        Fragment indexes of the chunks.

    Raises
    ------
    FormatError
        If a manifest names a fragment that a chunk does not have.
    """
    counts = np.zeros(len(chunk_of_entry), np.int64)
    parts: list[tuple[IntArray, IntArray]] = []
    order = np.argsort(chunk_of_entry, kind="stable")
    bounds = np.searchsorted(chunk_of_entry[order], np.arange(len(fragments) + 1))
    for chunk, index in enumerate(fragments):
        entries = order[bounds[chunk] : bounds[chunk + 1]]
        named = manifests.fragments[entries]
        parts.append((entries, index.rows(named)))
        counts[entries] = index.counts[named]
    starts = np.cumsum(counts) - counts
    total = int(counts.sum())
    rows = np.empty(total, np.int64)
    for entries, of_chunk in parts:
        rows[np.repeat(starts[entries], counts[entries]) + ragged_arange(counts[entries])] = of_chunk
    runs = np.repeat(manifests.owners + np.cumsum(chunk_of_entry < 0), counts)
    begins = np.diff(runs, prepend=-1) != 0
    return Paths(
        owners=np.repeat(manifests.owners, counts),
        chunks=np.repeat(chunk_of_entry, counts),
        rows=rows,
        begins=begins,
        entries=np.repeat(np.arange(len(counts), dtype=np.int64), counts),
    )
