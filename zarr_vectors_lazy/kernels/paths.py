"""Objects as paths through the rows of fragments."""

import numpy as np

from zarr_vectors_lazy.model.objects import Fragments, ranges
from zarr_vectors_lazy.types import IntArray


def fragment_ends(fragments: Fragments, table: IntArray | None) -> tuple[IntArray, IntArray, IntArray]:
    """Rows of each fragment, and what a table says of the first and of the last of them; -1 for one without rows.

    Parameters
    ----------
    table
        (N,) what stands for each row; None: itself.
    """
    counts = fragments.counts
    if table is None:
        last = fragments.first + counts - 1
        return counts, np.where(counts > 0, fragments.first, -1), np.where(counts > 0, last, -1)
    ends = []
    for step in (np.zeros(len(counts), np.int64), counts - 1):
        at = fragments.first + step
        found = np.full(len(counts), -1, np.int64)
        ranges = (counts > 0) & ~fragments.explicit
        found[ranges] = table[at[ranges]]
        listed = (counts > 0) & fragments.explicit
        found[listed] = table[fragments.listed[at[listed]]]
        ends.append(found)
    return counts, ends[0], ends[1]


def fragment_edges(fragments: Fragments, table: IntArray | None, times: IntArray | None) -> tuple[IntArray, IntArray]:
    """Edges between consecutive rows of fragments.

    Parameters
    ----------
    table
        (N,) what stands for each row, -1 for one that is left out; None: itself, and all fragments are ranges.
    times
        (F,) how often the edges of each fragment are to be there; None for once.

    Returns
    -------
    (E, 2) int64, fragment by fragment, without those of which an end is left out, and (F,) how many each has.
    """
    lengths = np.maximum(fragments.counts - 1, 0)
    if table is None and times is None:
        rows = ranges(fragments.first, lengths)
        edges = np.empty((len(rows), 2), np.int64)
        edges[:, 0] = rows
        np.add(rows, 1, out=edges[:, 1])
        return edges, lengths
    named = np.repeat(np.arange(len(fragments)), 1 if times is None else times)
    named = named[lengths[named] > 0]
    counts, rows = fragments.counts[named], fragments.rows(named)
    rows = rows if table is None else table[rows]
    inner = np.ones(len(rows), np.bool_)
    inner[np.cumsum(counts) - counts] = False
    at = np.flatnonzero(inner)
    edges, owners = np.stack([rows[at - 1], rows[at]], axis=1), np.repeat(named, counts - 1)
    whole = (edges >= 0).all(axis=1)
    return edges[whole], np.bincount(owners[whole], minlength=len(fragments))
