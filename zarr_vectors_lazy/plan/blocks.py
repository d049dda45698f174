"""How chunks are shaped, cut into Dask blocks and batches, and dealt to tasks."""

import bisect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.model.levels import ChunkTable
from zarr_vectors_lazy.model.writing import Encoding, Grid
from zarr_vectors_lazy.plan.levels import coarse_chunks
from zarr_vectors_lazy.types import ChunkCoords, Floats, IntArray, Vertices

# How wanted cells are cut into batches, each fetched by one task.


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


# How chunks are cut into Dask blocks.


@dataclass(frozen=True, slots=True)
class UpTo:
    """Blocks of neighbouring chunks, bounded by bytes of their positions and by number."""

    nbytes: float
    chunks: int


Chunking: TypeAlias = int | str | UpTo | None
"""None (also given as {}): a block a chunk; "auto": up to Dask's ``array.chunk-size``; an int: so many chunks."""


def check_chunking(chunks: object) -> Chunking:
    """Return ``chunks`` if it is a way to cut blocks.

    Raises
    ------
    SelectionError
        If it is not.
    """
    if chunks is None or (isinstance(chunks, Mapping) and not chunks):  # {}: as xarray calls a block a chunk
        return None
    if isinstance(chunks, str) and chunks == "auto":
        return chunks
    if isinstance(chunks, int | np.integer) and not isinstance(chunks, bool) and chunks > 0:
        return int(chunks)
    raise SelectionError(f"chunks must be None, 'auto' or a number of Zarr Vectors chunks a block, found {chunks!r}")


def cut_blocks(n: int, chunking: Chunking, sizes: npt.NDArray[Any] | float, target: int) -> IntArray:
    """Bounds of the blocks of ``n`` chunks.

    Parameters
    ----------
    n
        Number of chunks, in order.
    chunking
        How to cut.
    sizes
        Bytes of each chunk, (n,), or of any.
    target
        Bytes of a block for ``"auto"``, at most; at least one chunk.

    Returns
    -------
    (blocks + 1,) int64: block b has chunks ``bounds[b]:bounds[b + 1]``.
    """
    if isinstance(chunking, UpTo):
        nbytes = np.broadcast_to(np.asarray(sizes, np.float64), (n,))
        return cut_batches(nbytes, slots=1, cells=chunking.chunks, budget=chunking.nbytes)
    if chunking == "auto":
        ends = np.cumsum(np.broadcast_to(np.asarray(sizes, np.float64), (n,))).tolist()
        bounds = [0]
        while bounds[-1] < n:
            start = bounds[-1]
            full = bisect.bisect_right(ends, (ends[start - 1] if start else 0.0) + target)
            bounds.append(max(full, start + 1))  # a chunk that is larger is a block of its own
        return np.asarray(bounds, np.int64)
    step = chunking if isinstance(chunking, int) else 1
    return np.append(np.arange(0, n, step), n).astype(np.int64)


# Which finer chunks a coarse chunk is made of, and which coarse chunks one task makes.

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


# Chunks spread over the tasks that write them.


def spread_chunks(coords: ChunkCoords, counts: IntArray, grid: Grid, encoding: Encoding, parts: int) -> IntArray:
    """(C,) part that writes each chunk: about equal rows, all chunks of a shard in one, neighbours together."""
    units = np.arange(len(coords))
    if encoding.shard_shape is not None and len(coords):
        shards = shard_of(coords, grid.origin, encoding.shard_shape)
        units = np.unique(shards, axis=0, return_inverse=True)[1].reshape(-1)
    rows = np.bincount(units, counts, minlength=1)
    middle = np.cumsum(rows) - rows / 2
    of_unit = np.minimum(middle / max(rows.sum(), 1) * parts, parts - 1).astype(np.int64)
    found: IntArray = of_unit[units]
    return found


def shard_of(coords: ChunkCoords, origin: tuple[int, ...], shard_shape: tuple[int, ...]) -> IntArray:
    """(C, K) shard of each chunk."""
    found: IntArray = (coords - np.asarray(origin, np.int64)) // np.asarray(shard_shape, np.int64)
    return found


# Chunk edges that fill chunks with enough vertices.

ROUND = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)
SHARE = 0.9
BINS_ALONG = (1, 2, 4, 8, 16, 32, 64)
FEWEST_BINS = 8  # along a chunk, where there are vertices enough
BIN_ROWS = 4  # vertices of an occupied bin, at most
ROW_BINS = 8  # bins a vertex, at most


def round_edges(top: float) -> list[float]:
    """Round numbers from the least that is not below ``top`` downward, over twelve orders of magnitude."""
    power = math.floor(math.log10(top)) + 1
    edges = [digit * 10.0**exponent for exponent in range(power, power - 13, -1) for digit in reversed(ROUND)]
    first = max(at for at, edge in enumerate(edges) if edge >= top)
    return edges[first:]


def filled_edge(positions: Vertices, aspect: Floats, least_rows: float) -> float:
    """Smallest round edge with which nine vertices of ten lie in chunks of at least so many of them.

    Parameters
    ----------
    positions
        (N, D), at least one.
    aspect
        (D,) edges of a chunk for an edge of 1.
    least_rows
        Vertices that a chunk must have.

    Returns
    -------
    float
        An edge; with all vertices in one chunk or few where there are too few of them.
    """
    scaled = positions.astype(np.float64) / aspect
    span = float(np.ptp(scaled, axis=0).max())
    best, *smaller = round_edges(span if span > 0 else 1.0)
    for edge in smaller:
        rows = _chunk_rows(scaled, edge)
        enough = rows[rows >= least_rows]
        if not len(enough):
            break
        if enough.sum() >= SHARE * len(scaled):
            best = edge
    return best


def bins_along(positions: Vertices, chunk_shape: Floats) -> int:
    """Bins along each axis of a chunk with which coarse levels are of use: a power of two from 8 to 64.

    The least with which an occupied bin has at most `BIN_ROWS` vertices, as long as a chunk has no more than `ROW_BINS`
    bins a vertex: of points each bin is a fragment, empty ones too. Fewer than 8 only where that asks for it.

    Parameters
    ----------
    positions
        (N, D) all vertices of some chunks, at least one.
    chunk_shape
        (D,) edges of a chunk.
    """
    scaled = positions.astype(np.float64) / chunk_shape
    rows = _chunk_rows(scaled, 1.0)
    most = ROW_BINS * float(rows @ rows) / len(scaled)  # by the chunk of a vertex: those at the border may have a few
    found = 1
    for along in BINS_ALONG:
        if along ** scaled.shape[1] > most:
            break
        found = along
        if along >= FEWEST_BINS and len(scaled) <= BIN_ROWS * len(_chunk_rows(scaled, 1 / along)):
            break
    return found


def _chunk_rows(positions: Floats, edge: float) -> IntArray:
    """Vertices of each chunk that has any."""
    coords = np.floor(positions / edge).astype(np.int64)
    coords -= coords.min(axis=0)
    sizes = coords.max(axis=0) + 1
    if float(np.prod(sizes.astype(np.float64))) > 2.0**62:  # far more than there are vertices: outliers
        return np.unique(coords, axis=0, return_counts=True)[1]
    return np.unique(np.ravel_multi_index(tuple(coords.T), tuple(sizes)), return_counts=True)[1]


def even_edge(lo: Floats, hi: Floats, count: float, aspect: Floats, least_rows: float) -> float:
    """Smallest round edge with which chunks have so many vertices, where ``count`` are spread evenly over a box."""
    spans = (hi - lo) / aspect
    wide = spans[spans > 0]
    if not len(wide):
        return 1.0
    edge = (float(np.prod(wide)) * min(least_rows / count, 1.0)) ** (1 / len(wide))
    for _ in wide:  # along an axis that is shorter than the edge a chunk is no longer than the box
        long = wide[wide > edge]
        if len(long):
            edge = float((np.prod(long) * min(least_rows / count, 1.0)) ** (1 / len(long)))
    return round_edges(min(edge, float(wide.max())))[0]
