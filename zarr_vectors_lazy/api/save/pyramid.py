"""The pyramid of a store as arguments of `build_pyramid`, told from what its levels state."""

from collections.abc import Mapping, Sequence
from inspect import signature
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from zarr_vectors_lazy.access.pyramid.prepare import Request
from zarr_vectors_lazy.api.pyramid import whole_request
from zarr_vectors_lazy.errors import NotFoundError, SelectionError, listed
from zarr_vectors_lazy.plan.pyramid import LevelScale, next_scale
from zarr_vectors_lazy.types import Floats, IntArray, Json

if TYPE_CHECKING:
    from zarr_vectors_lazy.api.level import ZVLevel
    from zarr_vectors_lazy.api.store import ZVStore

METHODS = {"aggregate": "aggregate", "per_object": "reference"}  # by the name that levels state
CLOSE = 1e-9


def stated_pyramid(
    store: "ZVStore", chunk_shape: Floats, bin_shape: Floats, given: Mapping[str, Any]
) -> dict[str, Any]:
    """Arguments of `build_pyramid` that make a store's coarse levels anew from a level 0 with other chunks.

    Levels keep their bins, and their chunks grow as they do in the store, further where bins would not tile them.

    Parameters
    ----------
    chunk_shape, bin_shape
        (D,) edges of the new level 0.
    given
        Arguments that are not to be told from the store.

    Returns
    -------
    dict
        Empty where there is nothing to build: level 0 alone, and no factors given.

    Raises
    ------
    SelectionError
        If the store does not tell one of them, one is wrong, or there are no such levels over these chunks and bins.
    NotFoundError
        If ``aggregate`` names an attribute that the store does not have.
    """
    known = set(signature(whole_request).parameters) - {"overwrite", "resume"}
    if not known.issuperset(given):
        raise SelectionError(f"pyramid has {listed(sorted(set(given) - known))}; it takes {listed(sorted(known))}")
    levels = list(store)
    if len(levels) < 2 and "factors" not in given:
        return {}
    found = dict(given)
    if len(levels) > 1:
        if "factors" not in given:
            found["factors"] = _factors(levels, bin_shape)
        if "method" not in given:
            found["method"] = _method(levels[1:])
        found |= {**_links(levels), **_rules(levels), **given}
    request = whole_request(**found)
    for name in found.get("aggregate") or {}:
        if name not in levels[0].attribute_names:
            raise NotFoundError.among("attribute", name, levels[0].attribute_names)
    told = len(levels) > 1 and "factors" not in given
    growth = [_growth(*pair) for pair in pairwise(levels)] if told else [None] * len(request.factors)
    found["chunk_scale_factors"] = _scales(request, chunk_shape, bin_shape, growth)
    return found


def _block(level: "ZVLevel") -> Json:
    found: Json = level._view.data.meta.attributes.get("zarr_vectors_level", {})
    return found


def _ours(level: "ZVLevel") -> Json:
    found: Json = _block(level).get("zarr_vectors_lazy") or {}
    return found


def _method(coarse: Sequence["ZVLevel"]) -> str:
    stated = {str(_block(level).get("coarsening_method")) for level in coarse}
    if len(stated) == 1 and stated.issubset(METHODS):
        return METHODS[stated.pop()]
    raise SelectionError(
        f"levels {[level.index for level in coarse]} were made by {listed(sorted(stated))}, which build_pyramid does "
        "not do; choose with pyramid={'method': 'aggregate'}"
    )


def _factors(levels: Sequence["ZVLevel"], bin_shape: Floats) -> list[tuple[Any, float]]:
    """(coarsening, sparsity) of each coarse level."""
    indices = [level.index for level in levels]
    if indices != list(range(len(levels))):
        raise SelectionError(f"levels are {indices}, not one after another; say pyramid={{'factors': [...]}}")
    bins = [bin_shape, *(level.bin_shape for level in levels[1:])]
    found = []
    for level, (fine, edges), finer in zip(levels[1:], pairwise(bins), levels, strict=False):
        coarsening = edges / fine
        if (coarsening < 1 - CLOSE).any():
            raise SelectionError(
                f"level {level.index} has bins of {edges.tolist()}, smaller than those of {fine.tolist()} below it; "
                "choose a smaller bin_shape, or say pyramid={'factors': [...]}"
            )
        found.append((_plain(np.maximum(coarsening, 1)), _sparsity(level, finer)))
    return found


def _sparsity(level: "ZVLevel", finer: "ZVLevel") -> float:
    keep, before = (float(_block(of).get("object_sparsity") or 1) for of in (level, finer))
    if keep != 1 and "weight" not in _ours(level):  # then it may be relative to either level
        raise SelectionError(
            f"level {level.index} states an object_sparsity of {keep}, and not of what and by which seed; say "
            "pyramid={'factors': [...]}, and sparsity_strategy and sparsity_seed where they matter"
        )
    return float(_plain(np.asarray([before / keep])))


def _links(levels: Sequence["ZVLevel"]) -> dict[str, Any]:
    deltas = {delta for level in levels for delta in level.deltas if delta}
    storage = "explicit" if min(deltas, default=0) < 0 else "implicit" if deltas else "none"
    return {"cross_level_storage": storage, "cross_level_depth": max(map(abs, deltas), default=0)}


def _rules(levels: Sequence["ZVLevel"]) -> dict[str, Any]:
    """How attributes were joined and objects chosen, as far as it is not as by default."""
    first = _ours(levels[1])
    if "weight" not in first:  # made by the reference's method, or by somebody else
        return {}
    seeds = [rule["seed"] for level in levels if (rule := _ours(level).get("sparsity"))]
    gone = set(levels[0].attribute_names) - set(levels[1].attribute_names)
    found = {"aggregate": dict.fromkeys(sorted(gone)) | first.get("aggregate", {})}
    found |= {"sparsity_seed": seeds[0]} if seeds else {}
    return found | ({"min_vertices": first["min_vertices"]} if "min_vertices" in first else {})


def _growth(fine: "ZVLevel", level: "ZVLevel") -> IntArray:
    return np.maximum(np.rint(level.chunk_shape / fine.chunk_shape), 1).astype(np.int64)


def _scales(request: Request, chunk_shape: Floats, bin_shape: Floats, growth: Sequence[IntArray | None]) -> list[Any]:
    """Chunk scale of each level: as given, else the least that tiles and holds the growth."""
    must_tile = request.method != "reference"
    ones = np.ones(len(chunk_shape), np.int64)
    at = LevelScale(
        level=0, bin_shape=bin_shape, chunk_shape=chunk_shape, ratio=ones, fold=bin_shape / bin_shape, keep=1.0
    )
    scales = []
    for level, (factor, grown, scale) in enumerate(zip(request.factors, growth, request.scales, strict=True), start=1):
        least = next_scale(at, level, factor, scale, must_tile=must_tile)
        if scale is not None or grown is None:
            scales.append(scale)
            at = least
        else:
            scales.append(_plain(np.lcm(least.ratio // at.ratio, grown)))
            at = next_scale(at, level, factor, scales[-1], must_tile=must_tile)
    return scales


def _plain(values: Any) -> Any:
    """Numbers by axis as Python's; one where all are the same, whole ones as int."""
    numbers = [int(value) if value == int(value) else float(value) for value in np.round(values, 9).tolist()]
    return numbers[0] if len(set(numbers)) == 1 else tuple(numbers)
