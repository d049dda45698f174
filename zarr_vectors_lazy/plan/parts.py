"""Which finer chunks a coarse chunk is made of, and which coarse chunks one task makes."""

import numpy as np

from zarr_vectors_lazy.model.chunks import ChunkTable
from zarr_vectors_lazy.plan.pyramid import coarse_chunks
from zarr_vectors_lazy.types import ChunkCoords, IntArray

PART_NBYTES = 8 * 2**20  # of the finer rows that one task reads
PART_CHUNKS = 64  # finer chunks that one task reads
PARTS_A_SLOT = 4  # tasks for each that can run at once, so that none waits long for the last


def chunks_below(fine: ChunkCoords, scale: IntArray) -> tuple[ChunkCoords, IntArray, IntArray]:
    """Coarse chunks, and the finer chunks of each.

    Parameters
    ----------
    fine
        (f, K) in lexicographic order.
    scale
        (D,) finer chunks of a coarse one along each axis.

    Returns
    -------
    coarse
        (n, K) in lexicographic order.
    order
        (f,) finer chunks by coarse chunk, within one in lexicographic order.
    bounds
        (n + 1,) those of coarse chunk i are ``order[bounds[i]:bounds[i + 1]]``.
    """
    parents = coarse_chunks(fine, scale)
    table = ChunkTable(np.unique(parents, axis=0))
    at = table.find(parents)
    order = np.argsort(at, kind="stable")
    return table.coords, order, np.searchsorted(at[order], np.arange(len(table) + 1))


def cut_parts(bounds: IntArray, nbytes: float, slots: int) -> IntArray:
    """Bounds (p + 1,) of the parts: part i makes the coarse chunks ``[i]:[i + 1]``.

    Parameters
    ----------
    bounds
        (n + 1,) where the finer chunks of each coarse chunk end.
    nbytes
        Bytes that a finer chunk has, about.
    slots
        Tasks that can run at once.
    """
    total = int(bounds[-1])
    most = max(1, min(PART_CHUNKS, int(PART_NBYTES / max(nbytes, 1.0)), -(-total // (PARTS_A_SLOT * slots))))
    cuts = [0]
    for i in range(1, len(bounds)):
        if bounds[i] - bounds[cuts[-1]] > most and i - 1 > cuts[-1]:
            cuts.append(i - 1)
    return np.asarray([*cuts, len(bounds) - 1] if len(bounds) > 1 else [0], np.int64)
