"""How wanted cells are cut into batches, each fetched by one task."""

import bisect

import numpy as np

from zarr_vectors_lazy.types import Floats, IntArray


def cut_batches(nbytes: Floats, *, slots: int, cells: int, budget: float) -> IntArray:
    """Bounds of the batches of some cells, in order.

    Parameters
    ----------
    nbytes
        (m,) estimated stored bytes of each cell.
    slots
        Tasks that can run at once: each has work, where there is enough.
    cells, budget
        Cells and bytes of a batch, at most; at least one cell.

    Returns
    -------
    (batches + 1,) int64: batch b has cells ``bounds[b]:bounds[b + 1]``.
    """
    m = len(nbytes)
    if not m:
        return np.zeros(1, np.int64)
    count = max(1, min(cells, -(-m // slots)))
    count = -(-m // -(-m // count))  # even runs
    ends = np.cumsum(nbytes)
    if float(ends[-1]) <= budget:
        return np.append(np.arange(0, m, count), m).astype(np.int64)
    bounds, before = [0], 0.0
    while bounds[-1] < m:
        start = bounds[-1]
        full = bisect.bisect_right(ends, before + budget, start, min(start + count, m))
        bounds.append(max(full, start + 1))
        before = float(ends[bounds[-1] - 1])
    return np.asarray(bounds, np.int64)
