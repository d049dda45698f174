"""A chunk shape that makes chunks neither tiny nor huge."""

import math
from collections.abc import Sequence
from typing import Any

import dask
import numcodecs.zstd
import numpy as np
import numpy.typing as npt
from dask.utils import parse_bytes

from zarr_vectors_lazy.api.write.args import parse_shape
from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.plan.shapes import bins_along, even_edge, filled_edge
from zarr_vectors_lazy.types import Floats, Vertices

SAMPLE = 500_000  # vertices that are looked at
MOST_CHUNKS = 2.0**56  # from the origin: numbers of their bins, 64 along each, are still int64
PARTS = 8  # of the sample that are compressed
EVEN_RATIO = 0.8  # of compressed to raw bytes where no positions tell it


def suggest_chunk_shape(
    data: Any,
    *,
    least: int | str = "100 kB",
    dtype: npt.DTypeLike = np.float32,
    aspect: Sequence[float] | None = None,
    bin_shape: Sequence[float] | None = None,
) -> tuple[float, ...]:
    """Suggest a chunk shape whose chunks of positions have at least 100 kB, compressed.

    Smaller objects cost a request each and little else; larger ones make small boxes read much that they do not need.

    Parameters
    ----------
    data
        (N, D) positions, NumPy or Dask; or ``((lo, hi), count)``: so many vertices spread evenly over a box.
    least
        Stored bytes that a chunk should have.
    dtype
        Of stored positions.
    aspect
        (D,) edges relative to one another; by default a chunk is a cube.
    bin_shape
        (D,) edges of a bin; those of a chunk are then whole multiples.

    Returns
    -------
    tuple of float
        (D,) edges, round numbers unless ``bin_shape`` makes them otherwise. Nine vertices of ten lie in chunks of that
        size; where there are too few for that, nearly all lie in one chunk.

    Raises
    ------
    SelectionError
        If an argument has another form.
    """
    even = isinstance(data, tuple) and len(data) == 2 and isinstance(data[1], int | np.integer)
    ndim = len(data[0][0]) if even else _rows(data)[1]
    ratios = _edges(aspect, ndim, "aspect")
    row = np.dtype(dtype).itemsize * ndim
    target = parse_bytes(least)
    if even:
        (lo, hi), count = data
        corners = np.asarray(lo, np.float64), np.asarray(hi, np.float64)
        if not (corners[0] <= corners[1]).all() or count < 1:
            raise SelectionError(f"expected ((lo, hi), count) with lo <= hi and a count, found {data!r}")
        edge = even_edge(*corners, float(count), ratios, target / (row * EVEN_RATIO))
    else:
        sample, total = _sample(data)
        share = len(sample) / total
        with np.errstate(over="ignore"):  # only how well they compress is asked of them
            stored = sample.astype(dtype)
        edge = filled_edge(sample, ratios, share * target / (row * _ratio(stored, row, target)))
    shape = edge * ratios
    if bin_shape is not None:
        bins = _edges(bin_shape, ndim, "bin_shape")
        shape = np.ceil(shape / bins - 1e-9) * bins
    return tuple(shape.tolist())


def suggest_bin_shape(data: Any, chunk_shape: Any) -> tuple[float, ...]:
    """Suggest bins with which a pyramid over chunks of that shape is of use; `zvl.ingest` takes them.

    A power of two of them makes a chunk along each axis, 8 to 64: the least with at most 4 vertices an occupied bin,
    and no more bins than 8 times the vertices of a chunk, as each bin of a chunk of points is a fragment and costs
    bytes: about half a byte of its index where 2 bins of 3 are empty, so that 8 bins a vertex make a store of positions
    alone a fifth larger.

    Parameters
    ----------
    data
        (N, D) positions, NumPy or Dask.
    chunk_shape
        (D,) edges of a chunk, or one for all axes.

    Returns
    -------
    tuple of float
        (D,) edges.

    Raises
    ------
    SelectionError
        If an argument has another form.
    """
    ndim = _rows(data)[1]
    chunk = parse_shape(chunk_shape, ndim, "chunk_shape")
    found = _of_some_chunks(data, chunk)
    if not (np.abs(found / chunk) < MOST_CHUNKS).all():
        raise SelectionError(
            f"chunk_shape {chunk.tolist()} is absurdly small for positions up to {np.abs(found).max()}"
        )
    return tuple((chunk / bins_along(found, chunk)).tolist())


def _of_some_chunks(data: Any, chunk_shape: Floats) -> Vertices:
    """All vertices of so many chunks, evenly chosen, as have about `SAMPLE` of them."""
    sample, total = _sample(data)
    if len(sample) == total:
        return sample
    chunks = np.unique(np.floor(sample / chunk_shape), axis=0)
    chosen = chunks[np.linspace(0, len(chunks) - 1, max(1, len(chunks) * SAMPLE // total)).astype(int)]
    blocks = data.to_delayed().reshape(-1) if dask.is_dask_collection(data) else [data]
    return np.concatenate(dask.compute(*(dask.delayed(_within)(block, chunk_shape, chosen) for block in blocks)))


def _within(positions: Vertices, chunk_shape: Floats, chosen: Floats) -> Vertices:
    """Vertices of some chunks."""
    both = np.concatenate([chosen, np.floor(positions / chunk_shape)])
    number = np.unique(both, axis=0, return_inverse=True)[1].reshape(-1)
    return positions[np.isin(number[len(chosen) :], number[: len(chosen)])]


def _rows(data: Any) -> tuple[int, int]:
    shape = getattr(data, "shape", None) or np.shape(data)
    if len(shape) != 2 or math.isnan(shape[0]) or shape[0] < 1:
        raise SelectionError(f"expected (N, D) positions of known number, or ((lo, hi), count), found shape {shape}")
    return int(shape[0]), int(shape[1])


def _edges(value: Sequence[float] | None, ndim: int, name: str) -> Floats:
    edges = np.ones(ndim) if value is None else np.asarray(value, np.float64)
    if edges.shape != (ndim,) or not (np.isfinite(edges) & (edges > 0)).all():
        raise SelectionError(f"{name}= must be {ndim} positive numbers, found {value!r}")
    return edges


def _sample(data: Any) -> tuple[Vertices, int]:
    total = _rows(data)[0]
    (sample,) = dask.compute(data[:: max(1, -(-total // SAMPLE))])
    found = np.asarray(sample)
    if not np.isfinite(found).all():
        raise SelectionError("positions must be finite")
    return found, total


def _ratio(sample: Vertices, row: int, target: int) -> float:
    """Compressed to raw bytes, of parts of the sample whose vertices lie near one another."""
    near = sample[np.lexsort(sample.T[::-1])]
    rows = max(1, target // row)
    parts = [near[at : at + rows].tobytes() for at in np.linspace(0, max(0, len(near) - rows), PARTS).astype(int)]
    return float(sum(len(numcodecs.zstd.compress(part, 3)) for part in parts) / sum(map(len, parts)))
