"""The writers as users call them: with the levels of a profile, if one is requested."""

import functools
import inspect
import math
from collections.abc import Callable
from typing import Any, ParamSpec

from zarr_vectors_lazy.pyramid.build import build_pyramid
from zarr_vectors_lazy.read.store import open_tree
from zarr_vectors_lazy.storage.resolve import resolve
from zarr_vectors_lazy.storage.spec import StoreSpec
from zarr_vectors_lazy.write import writers

P = ParamSpec("P")
LEAST_VERTICES = 100  # approximate vertices of the coarsest level: fewer show nothing
SHRINKING = 4  # about how many times fewer vertices a level has than the one before


def with_levels(writer: Callable[P, Any]) -> Callable[P, Any]:
    """Wrap a writer so that it builds the levels of its profile after level 0."""
    signature = inspect.signature(writer)

    @functools.wraps(writer)
    def written(*args: P.args, **kwargs: P.kwargs) -> Any:
        done = writer(*args, **kwargs)
        if kwargs.get("profile") is None:
            return done
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        given = bound.arguments
        if not given["compute"]:
            return done
        options = {name: given[name] for name in ("backend", "storage_options")} | given["backend_kwargs"]
        count = _levels(resolve(given["path"], **options))
        built = None
        if count:
            factors, progress = [2] * count, given["progress"]
            built = build_pyramid(given["path"], factors=factors, chunk_scale_factors=2, progress=progress, **options)
        return {**done, "pyramid": built}

    return written


def _levels(spec: StoreSpec) -> int:
    """How many levels to build above level 0: the coarsest has a chunk or two along each axis."""
    vertices = open_tree(spec, None).levels[0].vertices
    coords, counts = vertices.chunks.coords, vertices.counts
    if counts is None or not len(coords):
        return 0
    span = int((coords.max(axis=0) - coords.min(axis=0)).max()) + 1
    most = math.log(max(1.0, counts.sum() / LEAST_VERTICES), SHRINKING)
    return min(math.ceil(math.log2(span)), math.floor(most))


write_points = with_levels(writers.write_points)
write_lines = with_levels(writers.write_lines)
write_polylines = with_levels(writers.write_polylines)
write_graph = with_levels(writers.write_graph)
write_mesh = with_levels(writers.write_mesh)
