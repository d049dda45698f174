"""Chunk edges that fill chunks with enough vertices."""

import math

import numpy as np

from zarr_vectors_lazy.types import Floats, IntArray, Vertices

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
