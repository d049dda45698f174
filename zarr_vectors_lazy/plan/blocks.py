"""How chunks are shaped, also on coarser levels, cut into Dask blocks and batches, and distributed to tasks."""

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.model.levels import ChunkTable
from zarr_vectors_lazy.model.writing import Encoding, Grid
from zarr_vectors_lazy.types import ChunkCoords, Floats, IntArray, Vertices

LARGEST_SCALE = 4096
CLOSE = 1e-9  # relative: quotients of edges this close to a fraction are taken for it


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LevelScale:
    """Grid of one level.

    Parameters
    ----------
    level
        Its index.
    bin_shape, chunk_shape
        (D,) edge lengths.
    ratio
        (D,) chunk edges in units of the root's.
    fold
        (D,) bin edges in units of level 0's.
    keep
        Fraction of level 0's objects, or of the finer level's vertices, that is kept.
    """

    level: int
    bin_shape: Floats
    chunk_shape: Floats
    ratio: IntArray
    fold: Floats
    keep: float

    @property
    def bins(self) -> IntArray:
        """(D,) bins of a chunk along each axis; at least one."""
        return np.maximum(np.rint(self.chunk_shape / self.bin_shape), 1).astype(np.int64)


def next_scale(fine: LevelScale, level: int, factor: tuple[Any, Any], chunk_scale: Any) -> LevelScale:
    """Grid of the level that is made from ``fine``.

    Parameters
    ----------
    factor
        (coarsening, sparsity), both at least 1; the coarsening one number or one for each axis.
    chunk_scale
        Chunk edges in units of those of ``fine``, a whole number or one for each axis; None for the smallest that
        tiles.

    Raises
    ------
    SelectionError
        If a factor is not a number of at least 1, or if bins do not tile chunks.
    """
    ndim = len(fine.bin_shape)
    coarsen = _factors(factor[0], ndim, "the coarsening factor")
    sparsity = float(_factors(factor[1], 1, "the sparsity factor")[0])
    bin_shape = fine.bin_shape * coarsen
    least = [_least(chunk, edge) for chunk, edge in zip(fine.chunk_shape, bin_shape, strict=True)]
    if chunk_scale is None:
        scale = _found(least, bin_shape, fine)
    else:
        scale = _scales(chunk_scale, ndim)
        if (scale % (needed := _found(least, bin_shape, fine))).any():
            raise SelectionError(
                f"level {level}: chunks {scale.tolist()} times those of level {fine.level} do not divide into bins of "
                f"{bin_shape.tolist()}; the smallest chunk scale that works: {needed.tolist()}"
            )
    return LevelScale(
        level=level,
        bin_shape=bin_shape,
        chunk_shape=fine.chunk_shape * scale,
        ratio=fine.ratio * scale,
        fold=fine.fold * coarsen,
        keep=fine.keep / sparsity,
    )


def grown(fine: LevelScale, least: LevelScale) -> LevelScale:
    """The level at the chunk scale that gives a chunk as many bins as on ``fine``, or about as many.

    Parameters
    ----------
    least
        The level at the smallest scale that tiles; the largest whole multiple of that scale is chosen that is not more
        than the coarsening, so that sparsity alone never makes chunks grow.
    """
    scale = least.ratio // fine.ratio
    coarsening = least.fold / fine.fold
    times = np.maximum(np.floor(coarsening / scale * (1 + CLOSE)), 1).astype(np.int64)
    return replace(least, chunk_shape=least.chunk_shape * times, ratio=least.ratio * times)


def _factors(value: Any, length: int, name: str) -> Floats:
    try:
        found = np.broadcast_to(np.asarray(value, np.float64), (length,))
    except (TypeError, ValueError) as error:
        raise SelectionError(f"{name} must be a number of at least 1, found {value!r}") from error
    if not (np.isfinite(found) & (found >= 1)).all():
        raise SelectionError(f"{name} must be at least 1, found {value!r}")
    return found


def _scales(value: Any, ndim: int) -> IntArray:
    found = _factors(value, ndim, "a chunk scale")
    if (found != np.rint(found)).any():
        raise SelectionError(f"a chunk scale must be a whole number, or {ndim} of them, found {value!r}")
    return found.astype(np.int64)


def _least(chunk: float, edge: float) -> int | None:
    """Smallest scale at which a chunk is a whole number of bins; None if there is none of modest size."""
    ratio = Fraction(chunk / edge).limit_denominator(LARGEST_SCALE)
    return ratio.denominator if abs(float(ratio) - chunk / edge) <= CLOSE * (chunk / edge) else None


def _found(least: list[int | None], bin_shape: Floats, fine: LevelScale) -> IntArray:
    if None in least:
        raise SelectionError(
            f"no chunk scale up to {LARGEST_SCALE} makes chunks of {fine.chunk_shape.tolist()} that bins of "
            f"{bin_shape.tolist()} tile; choose another coarsening factor"
        )
    return np.asarray(least, np.int64)


def coarse_chunks(fine: ChunkCoords, scale: IntArray) -> ChunkCoords:
    """(n, K) coarse chunk of each fine chunk; leading components that are not axes are kept."""
    lead = fine.shape[1] - len(scale)
    return np.concatenate([fine[:, :lead], fine[:, lead:] // scale], axis=1)


def factor_pairs(factors: Any) -> list[tuple[Any, Any]]:
    """Pairs of (coarsening, sparsity); a number stands for (number, 1).

    Raises
    ------
    SelectionError
        If there are none, or if one is neither.
    """
    if not isinstance(factors, Sequence | np.ndarray) or isinstance(factors, str) or not len(factors):
        raise SelectionError(
            f"factors must list a number, or (coarsening, sparsity), for each level to build, found {factors!r}"
        )
    pairs = [(item, 1) if _is_number(item) else item for item in factors]
    for pair in pairs:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise SelectionError(f"each of factors must be a number, or a pair (coarsening, sparsity); found {pair!r}")
    return [(pair[0], pair[1]) for pair in pairs]


def scale_list(scales: Any, levels: int) -> list[Any]:
    """Chunk scale of each level, None if it is to be found; a single number applies to all.

    Raises
    ------
    SelectionError
        If there is not one for each level.
    """
    if scales is None or _is_number(scales):
        return [scales] * levels
    if isinstance(scales, str) or not isinstance(scales, Sequence | np.ndarray) or len(scales) != levels:
        raise SelectionError(
            f"chunk_scale_factors must be None, a whole number, or one entry for each level ({levels}); found "
            f"{scales!r}"
        )
    return list(scales)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


# How needed cells are cut into batches, each fetched by one task.


def cut_batches(nbytes: Floats, *, slots: int, cells: int, budget: float) -> IntArray:
    """Bounds of the batches of some cells, in order.

    Parameters
    ----------
    nbytes
        (m,) estimated stored bytes of each cell.
    slots
        Tasks that can run at once; each gets work, if there is enough.
    cells, budget
        Most cells and bytes of a batch; at least one cell.

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


def cut_units(units: IntArray, weights: npt.NDArray[Any] | float, budget: float) -> list[IntArray]:
    """Numbers of some items, in runs that are not cut within a unit.

    Parameters
    ----------
    units, weights
        (n,) unit of each item, and its weight, or that of all alike.
    budget
        Most weight of a run of several units.
    """
    if not len(units):
        return []
    order = np.argsort(units, kind="stable")
    starts = np.flatnonzero(np.diff(units[order], prepend=-1))
    of_units = np.add.reduceat(np.broadcast_to(np.asarray(weights, np.float64), units.shape)[order], starts)
    bounds = cut_batches(of_units, slots=1, cells=len(starts), budget=budget)
    return np.split(order, starts[bounds[1:-1]])


# How chunks are cut into Dask blocks.


@dataclass(frozen=True, slots=True)
class UpTo:
    """Blocks of neighbouring chunks, limited in number and in bytes of their positions."""

    nbytes: float
    chunks: int


Chunking: TypeAlias = int | str | UpTo | None
"""None (or {}): a block for each chunk; "auto": up to Dask's ``array.chunk-size``; an int: so many chunks."""


def check_chunking(chunks: object) -> Chunking:
    """Return ``chunks`` if it says how to cut blocks.

    Raises
    ------
    SelectionError
        If it is not.
    """
    if chunks is None or (isinstance(chunks, Mapping) and not chunks):  # {}: xarray's word for one block per chunk
        return None
    if isinstance(chunks, str) and chunks == "auto":
        return chunks
    if isinstance(chunks, int | np.integer) and not isinstance(chunks, bool) and chunks > 0:
        return int(chunks)
    raise SelectionError(f"chunks must be None, 'auto' or a number of Zarr Vectors chunks per block, found {chunks!r}")


def cut_blocks(n: int, chunking: Chunking, sizes: npt.NDArray[Any] | float, target: int) -> IntArray:
    """Bounds of the blocks of ``n`` chunks.

    Parameters
    ----------
    n
        Number of chunks, in order.
    chunking
        How to cut.
    sizes
        Bytes of each chunk, (n,), or of all alike.
    target
        Most bytes of a block for ``"auto"``; at least one chunk.

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


# Which finer chunks belong to a coarse chunk, and which coarse chunks one task makes.

PART_NBYTES = 8 * 2**20  # bytes of the finer rows that one task reads
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
        (f,) finer chunks by coarse chunk, in lexicographic order within each.
    bounds
        (n + 1,) the finer chunks of coarse chunk i are ``order[bounds[i]:bounds[i + 1]]``.
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
        Approximate bytes of a finer chunk.
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


# Distributing chunks to the tasks that write them.


def spread_chunks(coords: ChunkCoords, counts: IntArray, grid: Grid, encoding: Encoding, parts: int) -> IntArray:
    """(C,) part that writes each chunk: about equal rows, all chunks of a shard in one part, neighbours together."""
    units = shards_of(coords, grid, encoding)
    rows = np.bincount(units, counts, minlength=1)
    middle = np.cumsum(rows) - rows / 2
    of_unit = np.minimum(middle / max(rows.sum(), 1) * parts, parts - 1).astype(np.int64)
    return np.asarray(of_unit[units])


def shards_of(coords: ChunkCoords, grid: Grid, encoding: Encoding) -> IntArray:
    """(C,) number of the object that has the cell of each chunk: of its shard, or of the cell itself."""
    if encoding.shard_shape is None or not len(coords):
        return np.arange(len(coords))
    index = (coords - np.asarray(grid.origin, np.int64)) // np.asarray(encoding.shard_shape, np.int64)
    return np.unique(index, axis=0, return_inverse=True)[1].reshape(-1)


# Chunk edges that put enough vertices into chunks.

ROUND = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)
SHARE = 0.9
BINS_ALONG = (1, 2, 4, 8, 16, 32, 64)
FEWEST_BINS = 8  # bins along a chunk, if there are enough vertices
BIN_ROWS = 4  # most vertices of an occupied bin
ROW_BINS = 8  # most bins per vertex


def round_edges(top: float) -> list[float]:
    """Round numbers, downward from the smallest that is not below ``top``, over twelve orders of magnitude."""
    power = math.floor(math.log10(top)) + 1
    edges = [digit * 10.0**exponent for exponent in range(power, power - 13, -1) for digit in reversed(ROUND)]
    first = max(at for at, edge in enumerate(edges) if edge >= top)
    return edges[first:]


def filled_edge(positions: Vertices, aspect: Floats, least_rows: float) -> float:
    """Smallest round edge with which nine out of ten vertices lie in chunks with at least a given number of them.

    Parameters
    ----------
    positions
        (N, D), at least one row.
    aspect
        (D,) edges of a chunk for an edge of 1.
    least_rows
        Vertices that a chunk must have.

    Returns
    -------
    float
        An edge; if there are too few vertices, one that puts them all into one or a few chunks.
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
    """Bins along each axis of a chunk that make coarse levels useful: a power of two from 8 to 64.

    The smallest with which an occupied bin has at most `BIN_ROWS` vertices, while a chunk has no more than `ROW_BINS`
    bins per vertex: for points each bin is a fragment, even if empty. Fewer than 8 only if that requires it.

    Parameters
    ----------
    positions
        (N, D) all vertices of some chunks, at least one.
    chunk_shape
        (D,) edges of a chunk.
    """
    scaled = positions.astype(np.float64) / chunk_shape
    rows = _chunk_rows(scaled, 1.0)
    # by the chunk of a vertex, because those at the border may have few
    most = ROW_BINS * float(rows @ rows) / len(scaled)
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
    if float(np.prod(sizes.astype(np.float64))) > 2.0**62:  # far more than vertices: outliers
        return np.unique(coords, axis=0, return_counts=True)[1]
    return np.unique(np.ravel_multi_index(tuple(coords.T), tuple(sizes)), return_counts=True)[1]


def even_edge(lo: Floats, hi: Floats, count: float, aspect: Floats, least_rows: float) -> float:
    """Smallest round edge with which chunks have some number of vertices, if ``count`` are spread over a box."""
    spans = (hi - lo) / aspect
    wide = spans[spans > 0]
    if not len(wide):
        return 1.0
    edge = (float(np.prod(wide)) * min(least_rows / count, 1.0)) ** (1 / len(wide))
    for _ in wide:  # along an axis shorter than the edge, a chunk is no longer than the box
        long = wide[wide > edge]
        if len(long):
            edge = float((np.prod(long) * min(least_rows / count, 1.0)) ** (1 / len(long)))
    return round_edges(min(edge, float(wide.max())))[0]
