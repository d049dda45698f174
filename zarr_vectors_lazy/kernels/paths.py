"""Objects as paths through the rows of fragments."""

import numpy as np

from zarr_vectors_lazy.model.objects import Fragments
from zarr_vectors_lazy.types import IntArray


def fragment_ends(fragments: Fragments, table: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Rows of each fragment, and what a table says of the first and of the last of them; -1 for one without rows.

    Parameters
    ----------
    table
        (N,) what stands for each row.
    """
    counts = fragments.counts
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


def fragment_edges(fragments: Fragments, table: IntArray, times: IntArray | None) -> tuple[IntArray, IntArray]:
    """Edges between consecutive rows of fragments.

    Parameters
    ----------
    table
        (N,) what stands for each row, -1 for one that is left out.
    times
        (F,) how often the edges of each fragment are to be there; None for once.

    Returns
    -------
    (E, 2) int64, without those of which an end is left out, and (E,) the fragment of each, ascending.
    """
    named = np.arange(len(fragments)) if times is None else np.repeat(np.arange(len(fragments)), times)
    counts = fragments.counts[named]
    named, counts = named[counts > 1], counts[counts > 1]
    rows = table[fragments.rows(named)]
    inner = np.ones(len(rows), np.bool_)
    inner[np.cumsum(counts) - counts] = False
    at = np.flatnonzero(inner)
    edges = np.stack([rows[at - 1], rows[at]], axis=1)
    owners = np.repeat(named, counts - 1)
    whole = (edges >= 0).all(axis=1)
    return (edges, owners) if whole.all() else (edges[whole], owners[whole])
