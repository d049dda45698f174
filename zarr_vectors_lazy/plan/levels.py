"""Bins and chunks of the levels of a pyramid, and whether bins tile chunks."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.types import ChunkCoords, Floats, IntArray

LARGEST_SCALE = 4096
CLOSE = 1e-9  # relative: quotients of edges this near to a fraction are meant to be it


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
        Chunk edges in units of those of ``fine``, a whole number or one for each axis; None: the least that tiles.

    Raises
    ------
    SelectionError
        If a factor is no number of at least 1, or bins do not tile chunks.
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
                f"level {level}: chunks {scale.tolist()} times those of level {fine.level} are not tiled by bins of "
                f"{bin_shape.tolist()}; the least chunk scale that is: {needed.tolist()}"
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
    """The level at the chunk scale at which a chunk has as many bins as on ``fine``, or about as many.

    Parameters
    ----------
    least
        The level at the least scale that tiles; of whole multiples of that scale the greatest is chosen that is no more
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
        raise SelectionError(f"a chunk scale must be a whole number or {ndim}, found {value!r}")
    return found.astype(np.int64)


def _least(chunk: float, edge: float) -> int | None:
    """Least scale at which a whole number of bins makes a chunk; None where there is none of modest size."""
    ratio = Fraction(chunk / edge).limit_denominator(LARGEST_SCALE)
    return ratio.denominator if abs(float(ratio) - chunk / edge) <= CLOSE * (chunk / edge) else None


def _found(least: list[int | None] | None, bin_shape: Floats, fine: LevelScale) -> IntArray:
    assert least is not None
    if None in least:
        raise SelectionError(
            f"no chunk scale up to {LARGEST_SCALE} makes chunks of {fine.chunk_shape.tolist()} that bins of "
            f"{bin_shape.tolist()} tile; choose another coarsening factor"
        )
    return np.asarray(least, np.int64)


def coarse_chunks(fine: ChunkCoords, scale: IntArray) -> ChunkCoords:
    """(n, K) coarse chunk of each fine chunk; leading components that are no axes are kept."""
    lead = fine.shape[1] - len(scale)
    return np.concatenate([fine[:, :lead], fine[:, lead:] // scale], axis=1)


def factor_pairs(factors: Any) -> list[tuple[Any, Any]]:
    """Pairs of (coarsening, sparsity); a number stands for (number, 1).

    Raises
    ------
    SelectionError
        If there are none, or one is neither.
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
    """Chunk scale of each level, None where it is to be found; a number is that of all.

    Raises
    ------
    SelectionError
        If there is not one for each level.
    """
    if scales is None or _is_number(scales):
        return [scales] * levels
    if isinstance(scales, str) or not isinstance(scales, Sequence | np.ndarray) or len(scales) != levels:
        raise SelectionError(
            f"chunk_scale_factors must be None, a whole number, or one entry for each of the {levels} levels; found "
            f"{scales!r}"
        )
    return list(scales)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)
