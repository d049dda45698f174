"""Bounds of a store that is written: as given, or the corners of the positions."""

from typing import Any

import numpy as np

from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.kernels.routing import extent
from zarr_vectors_lazy.types import Floats, Vertices

MAX_INDEX = 2**62


def parse_bounds(
    bounds: Any, positions: Vertices, dtype: np.dtype[Any], chunk_shape: Floats, *, name: str, threads: int
) -> tuple[Floats, Floats]:
    """(lo, hi) of the store: as given, or those of the positions.

    Raises
    ------
    SelectionError
        If a position is NaN or infinite, lies outside, or the grid of chunks is absurd.
    """
    lo, hi, bad = extent(positions, dtype, threads)
    if bad >= 0:
        raise SelectionError(
            f"{name} must be finite as {dtype.name}; row {bad} is {np.asarray(positions[bad]).tolist()}"
        )
    exact = extent(positions, positions.dtype)[:2] if bounds is not None and len(positions) else (lo, hi)
    return settle_bounds(bounds, (lo, hi), exact, chunk_shape, name=name)


def settle_bounds(
    bounds: Any, stored: tuple[Floats, Floats], exact: tuple[Floats, Floats], chunk_shape: Floats, *, name: str
) -> tuple[Floats, Floats]:
    """(lo, hi) of the store: as given, or the corners of the positions.

    Parameters
    ----------
    stored, exact
        Corners of the positions as stored and as given, inf and -inf where there are none: storing them may round them
        outward.

    Raises
    ------
    SelectionError
        As `parse_bounds`, but for NaN and infinite positions.
    """
    lo, hi = stored
    if bounds is not None:
        lo, hi = _given_bounds(bounds, lo, hi, exact)
    elif (lo > hi).any():
        raise SelectionError(f"there are no {name}: give bounds=(lo, hi)")
    edges = np.abs(np.stack([lo, hi]) / chunk_shape)
    if not (edges < MAX_INDEX).all() or np.prod((hi - lo) / chunk_shape + 2) > MAX_INDEX:
        raise SelectionError(f"chunk_shape {chunk_shape.tolist()} is absurdly small for {lo.tolist()} to {hi.tolist()}")
    return lo, hi


def _given_bounds(bounds: Any, lo: Floats, hi: Floats, exact: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
    ndim = len(lo)
    try:
        given = np.asarray(bounds, np.float64)
    except (TypeError, ValueError) as error:
        raise SelectionError(f"bounds must be (lo, hi), {ndim} numbers each; found {bounds!r}") from error
    if given.shape != (2, ndim) or not np.isfinite(given).all() or (given[0] > given[1]).any():
        raise SelectionError(f"bounds must be (lo, hi), {ndim} finite numbers each, lo <= hi; found {bounds!r}")
    outside = (exact[0] < given[0]) | (exact[1] > given[1])
    if outside.any():
        axis = int(np.argmax(outside))
        raise SelectionError(
            f"bounds leave data out: on axis {axis} it goes from {exact[0][axis]:g} to {exact[1][axis]:g}, "
            f"the bounds from {given[0][axis]:g} to {given[1][axis]:g}"
        )
    return np.minimum(given[0], lo), np.maximum(given[1], hi)
