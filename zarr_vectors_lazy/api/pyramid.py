"""Coarser levels of a store, built from finer ones."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import dask
import numpy as np

from zarr_vectors_lazy.access.pyramid.prepare import Request, prepare
from zarr_vectors_lazy.access.store import open_tree
from zarr_vectors_lazy.api.keywords import suggesting
from zarr_vectors_lazy.api.progress import computing
from zarr_vectors_lazy.errors import SelectionError, ZVWarning
from zarr_vectors_lazy.graph.pyramid import pyramid_graph
from zarr_vectors_lazy.graph.pyramid_figures import DelayedPyramid
from zarr_vectors_lazy.graph.slots import task_slots
from zarr_vectors_lazy.kernels.groups import Rule
from zarr_vectors_lazy.model.pyramid import CrossStorage
from zarr_vectors_lazy.plan.pyramid import factor_pairs, scale_list
from zarr_vectors_lazy.storage.resolve import resolve
from zarr_vectors_lazy.types import Json

METHODS = ("aggregate", "reference")
STRATEGIES = ("hash", "random")
SMALL = 100  # vertices: a level of fewer is hardly of use


@suggesting
def build_pyramid(
    path: Any,
    *,
    factors: Sequence[Any],
    chunk_scale_factors: Any = None,
    method: Literal["aggregate", "reference"] = "aggregate",
    sparsity_strategy: Literal["hash", "random"] = "hash",
    sparsity_seed: int = 0,
    cross_level_depth: int = 1,
    cross_level_storage: CrossStorage = "explicit",
    aggregate: Mapping[str, Rule | None] | None = None,
    min_vertices: int = 2,
    overwrite: bool = False,
    resume: bool = True,
    compute: bool = True,
    progress: bool = False,
    backend: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    **backend_kwargs: Any,
) -> Json | DelayedPyramid:
    """Build levels 1, 2, ... of a store, each from the one before, on whatever Dask scheduler is active.

    Parameters
    ----------
    path
        URL or path, ``os.PathLike``, or a ``zarr.abc.store.Store``.
    factors
        For each level a pair (coarsening, sparsity), or a number for (number, 1). Bins are ``coarsening`` times as
        large as those of the level before, along all axes or by axis; of the objects of level 0, or of the vertices of
        the level before where there are no objects, one in ``sparsity`` is kept.
    chunk_scale_factors
        Chunks of each level in units of those of the level before: for each level a whole number, or one for each axis,
        at which bins tile chunks; or one number for all levels: 1 keeps the chunks. None: a chunk grows by its level's
        coarsening, so that it has as many bins on each level, but not where the fullest would hold more than 4 times
        what level 0's fullest holds and more than Dask's ``array.chunk-size``: then the least scale that tiles. With
        ``method="reference"`` None keeps the chunks, as the reference does.
    method
        ``"aggregate"``: weighted means of what lies in a bin, object by object; ``"reference"``: what the reference
        package's ``per_object`` gives.
    sparsity_strategy, sparsity_seed
        Which objects are kept: by a hash of seed and id, or (``method="reference"``) by NumPy's generator.
    cross_level_depth
        Levels that links reach across: 0 for none, N, or -1 for all.
    cross_level_storage
        ``"none"``, ``"implicit"`` (from finer to coarser) or ``"explicit"`` (both ways).
    aggregate
        How an attribute's values are joined, by name: ``"mean"``, ``"min"``, ``"max"``, ``"sum"``, ``"mode"``,
        ``"first"``, or None to leave it out. Others: as the attribute states (what writers were given as
        ``aggregate=``), else the mean of real numbers and the mode of the rest, the most frequent value; a tie goes to
        the value of the vertex that a hash of (level, chunk, row) picks. Means of whole numbers are rounded.
    min_vertices
        Vertices that a path keeps at least, if it has so many; at least 2.
    overwrite
        Replace levels that are there, or give up another unfinished build.
    resume
        Go on where an interrupted build with the same parameters ended.
    compute
        False: return a `dask.delayed.Delayed` whose ``figures`` tell what it will do.
    progress
        Show a bar.
    backend, storage_options, **backend_kwargs
        As for `open_zv`.

    Returns
    -------
    A summary: ``levels_created``, ``level_specs``, ``method``, ``cross_level_depth``, ``cross_level_storage``, and
    ``left_out``: what of the level that is there coarse levels do not have, such as ``"link_attributes/weight"``. A
    level of fewer than 100 vertices is a `ZVWarning`.

    Raises
    ------
    SelectionError
        If an argument is wrong, or bins do not tile chunks.
    StoreError
        If levels are there already, the store cannot be written, or it is of format 0.7: migrate it first.
    FormatError
        If there is no finished Zarr Vectors store.
    """
    request = whole_request(
        factors=factors,
        chunk_scale_factors=chunk_scale_factors,
        method=method,
        sparsity_strategy=sparsity_strategy,
        sparsity_seed=sparsity_seed,
        cross_level_depth=cross_level_depth,
        cross_level_storage=cross_level_storage,
        aggregate=aggregate,
        min_vertices=min_vertices,
        overwrite=overwrite,
        resume=resume,
    )
    spec = resolve(path, backend=backend, storage_options=storage_options, **backend_kwargs)
    delayed = pyramid_graph(*prepare(open_tree(spec, consolidated=False), request, task_slots()))
    return run(delayed, progress=progress) if compute else delayed


def whole_request(
    *,
    factors: Sequence[Any],
    chunk_scale_factors: Any = None,
    method: str = "aggregate",
    sparsity_strategy: str = "hash",
    sparsity_seed: int = 0,
    cross_level_depth: int = 1,
    cross_level_storage: CrossStorage = "explicit",
    aggregate: Mapping[str, Rule | None] | None = None,
    min_vertices: int = 2,
    overwrite: bool = False,
    resume: bool = True,
) -> Request:
    """Check the arguments of `build_pyramid`; raises SelectionError if one is wrong."""
    pairs = factor_pairs(factors)
    scales = scale_list(chunk_scale_factors, len(pairs))
    _check_choices(method, sparsity_strategy, cross_level_storage)
    _check_numbers(sparsity_seed, cross_level_depth, min_vertices)
    return Request(
        source=0,
        levels=tuple(range(1, len(pairs) + 1)),
        factors=pairs,
        scales=scales,
        whole=True,
        method=method,
        strategy=sparsity_strategy,
        seed=int(sparsity_seed),
        depth=int(cross_level_depth),
        storage=cross_level_storage,
        aggregate=dict(aggregate or {}),
        min_vertices=min_vertices,
        overwrite=overwrite,
        resume=resume,
    )


@suggesting
def coarsen_level(
    path: Any,
    source_level: int,
    target_level: int,
    coarsen_factor: Any = 1.0,
    sparsity_factor: float = 1.0,
    *,
    chunk_scale_factor: Any = None,
    method: Literal["aggregate", "reference"] = "aggregate",
    sparsity_strategy: Literal["hash", "random"] = "hash",
    sparsity_seed: int = 0,
    cross_level_storage: CrossStorage = "none",
    aggregate: Mapping[str, Rule | None] | None = None,
    min_vertices: int = 2,
    overwrite: bool = False,
    resume: bool = True,
    compute: bool = True,
    progress: bool = False,
    backend: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    **backend_kwargs: Any,
) -> Json | DelayedPyramid:
    """Build one level from a finer one; levels besides it stay as they are.

    Parameters
    ----------
    path
        URL or path, ``os.PathLike``, or a ``zarr.abc.store.Store``.
    source_level, target_level
        A level that is there, and a greater index.
    coarsen_factor, sparsity_factor, chunk_scale_factor
        As one entry of the ``factors`` and ``chunk_scale_factors`` of `build_pyramid`.
    cross_level_storage
        Links between the two levels: ``"none"``, ``"implicit"`` or ``"explicit"``.
    method, sparsity_strategy, sparsity_seed, aggregate, min_vertices, overwrite, resume, compute, progress
        As for `build_pyramid`.
    backend, storage_options, **backend_kwargs
        As for `open_zv`.

    Returns
    -------
    The summary that `build_pyramid` gives, of one level.

    Raises
    ------
    SelectionError, StoreError, FormatError
        As `build_pyramid`.
    NotFoundError
        If there is no such source level.
    """
    _check_choices(method, sparsity_strategy, cross_level_storage)
    _check_numbers(sparsity_seed, 1, min_vertices)
    if target_level <= source_level:
        raise SelectionError(f"target_level must be greater than source_level {source_level}, found {target_level!r}")
    request = Request(
        source=source_level,
        levels=(target_level,),
        factors=[(coarsen_factor, sparsity_factor)],
        scales=[chunk_scale_factor],
        whole=False,
        method=method,
        strategy=sparsity_strategy,
        seed=int(sparsity_seed),
        depth=1,
        storage=cross_level_storage,
        aggregate=dict(aggregate or {}),
        min_vertices=min_vertices,
        overwrite=overwrite,
        resume=resume,
    )
    spec = resolve(path, backend=backend, storage_options=storage_options, **backend_kwargs)
    delayed = pyramid_graph(*prepare(open_tree(spec, consolidated=False), request, task_slots()))
    return run(delayed, progress=progress) if compute else delayed


def run(delayed: DelayedPyramid, *, progress: bool) -> Json:
    """Compute a build, with a bar if that is asked for."""
    with computing("building levels", shown=progress):
        (summary,) = dask.compute(delayed)
    found: Json = summary
    for spec in found["level_specs"]:
        if spec.get("vertex_count", SMALL) < SMALL:
            warnings.warn(
                f"level {spec['level']} has {spec['vertex_count']} vertices: bins of {spec['bin_shape']} are large for "
                "these data; coarsen less, or begin with smaller bins (bin_shape of level 0)",
                ZVWarning,
                stacklevel=4,
            )
    return found


def _check_choices(method: str, strategy: str, storage: str) -> None:
    """Raise SelectionError for a wrong name."""
    if method not in METHODS:
        raise SelectionError(f"method must be one of {METHODS}, found {method!r}")
    if strategy not in STRATEGIES or (strategy == "random" and method != "reference"):
        raise SelectionError(
            f"sparsity_strategy must be 'hash', or 'random' with method='reference'; found {strategy!r}"
        )
    if storage not in get_args(CrossStorage):
        raise SelectionError(f"cross_level_storage must be one of {get_args(CrossStorage)}, found {storage!r}")


def _check_numbers(seed: Any, depth: Any, min_vertices: Any) -> None:
    """Raise SelectionError for a wrong number."""
    if not isinstance(depth, int | np.integer) or isinstance(depth, bool) or depth < -1:
        raise SelectionError(f"cross_level_depth must be a whole number of at least -1, found {depth!r}")
    if not isinstance(min_vertices, int) or min_vertices < 2:
        raise SelectionError(f"min_vertices must be a whole number of at least 2, found {min_vertices!r}")
    if not isinstance(seed, int | np.integer):
        raise SelectionError(f"sparsity_seed must be a whole number, found {seed!r}")
