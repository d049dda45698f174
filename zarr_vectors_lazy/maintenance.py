"""Functions on whole stores, given by path: consolidate, index, shard, migrate, rechunk."""

import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from inspect import signature
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import dask
import numpy as np

from zarr_vectors_lazy.copy.levels import copy_store
from zarr_vectors_lazy.copy.recompress import shard_store
from zarr_vectors_lazy.copy.save import save_level
from zarr_vectors_lazy.errors import NotFoundError, SelectionError, ZVWarning, listed
from zarr_vectors_lazy.keywords import suggesting
from zarr_vectors_lazy.model.writing import Compressor, Encoding
from zarr_vectors_lazy.plan.blocks import LevelScale, next_scale
from zarr_vectors_lazy.progress import finish
from zarr_vectors_lazy.pyramid.build import build_pyramid
from zarr_vectors_lazy.pyramid.session import METHOD, PyramidOptions
from zarr_vectors_lazy.read.store import open_tree
from zarr_vectors_lazy.storage.resolve import resolve
from zarr_vectors_lazy.store import open_zv
from zarr_vectors_lazy.types import Floats, IntArray, Json, Lengths, StorePath
from zarr_vectors_lazy.write.arguments import parse_bins, parse_shape
from zarr_vectors_lazy.write.in_place import open_to_change, write_consolidated, write_counts
from zarr_vectors_lazy.write.session import Mode, check_place, left_out, resolve_apart

if TYPE_CHECKING:
    from zarr_vectors_lazy.level import ZVLevel
    from zarr_vectors_lazy.store import ZVStore

# Functions on whole stores, given by path.


@suggesting
def consolidate(
    path: StorePath,
    *,
    backend: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    **backend_kwargs: Any,
) -> None:
    """Write the metadata of all nodes of a store into its root (Zarr v3's inline form), so that one request opens it.

    This reads every node, and replaces the root in a single put, so that other readers see either the old root or the
    new one. Repeat it after adding a level or an attribute. A root of more than 20 MB causes a warning.

    Parameters
    ----------
    path
        URL or path, ``os.PathLike``, or a ``zarr.abc.store.Store``.
    backend, storage_options, **backend_kwargs
        As for `open_zv`.

    Raises
    ------
    FormatError
        If there is no complete Zarr Vectors store of a known generation, or if the root changed in the meantime.
    StoreError
        If the store cannot be reached, listed or written to.

    Examples
    --------
    >>> path = zvl.example("cloud", "cloud.zarrvectors")
    >>> zvl.consolidate(path)
    >>> with zvl.testing.counting() as counts:
    ...     _ = zvl.open_zv(path)
    >>> counts.requests
    1
    """
    write_consolidated(resolve(path, backend=backend, storage_options=storage_options, **backend_kwargs))


@suggesting
def index(
    path: StorePath,
    *,
    backend: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    **backend_kwargs: Any,
) -> dict[int, int]:
    """Count the vertices of every chunk of a store and record the counts in it, so that chunk sizes are always known.

    This is for stores from other writers; those that this package writes already have the counts. It reads the heads of
    cells, or only a listing if cells are uncompressed, and adds one attribute to the ``vertices`` array of each level,
    in one put. A wrong ``vertex_count`` of a level is corrected, and consolidated metadata are updated if there are
    any. Other readers are not affected.

    Parameters
    ----------
    path
        URL or path, ``os.PathLike``, or a ``zarr.abc.store.Store``.
    backend, storage_options, **backend_kwargs
        As for `open_zv`.

    Returns
    -------
    dict
        The number of vertices by level.

    Raises
    ------
    FormatError
        If there is no store, if it is of format 0.7 (`migrate` it first), or if its metadata changed in the meantime.
    CorruptChunkError
        If a listed chunk is missing or cannot be decoded.
    StoreError
        If the store cannot be reached or written to.

    Examples
    --------
    >>> zvl.index(zvl.example("cloud", "cloud.zarrvectors"))
    {0: 4946, 1: 364, 2: 150}
    """
    return write_counts(resolve(path, backend=backend, storage_options=storage_options, **backend_kwargs))


@suggesting
def shard(
    path: StorePath,
    *,
    shard_shape: int | Sequence[int] | None,
    compute: bool = True,
    progress: bool = False,
    backend: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    **backend_kwargs: Any,
) -> Any:
    """Combine the cells of every array of a store into shards, in place: fewer objects, the same bytes.

    Cells are not decoded, and keep their compressor and checksum. The shards of an array are written next to its cells,
    under other keys; a single put of its metadata then switches to them, and only then are the old objects deleted.
    Whenever this stops, every array has all its cells, in the old form or the new one, and it can be run again. Anyone
    who has the store open must open it again, because reading a deleted object is an error. Consolidated metadata are
    removed at the beginning and written again at the end.

    Parameters
    ----------
    path
        URL or path, ``os.PathLike``, or a ``zarr.abc.store.Store``.
    shard_shape
        The number of chunks along each axis that share an object: one for all axes, or one for each. None to store each
        cell as an object.
    compute
        False to return a Delayed that does the work.
    progress
        Show a bar.
    backend, storage_options, **backend_kwargs
        As for `open_zv`.

    Returns
    -------
    dict
        For each array that was changed, the number of objects that its cells are in now.

    Raises
    ------
    SelectionError
        If ``shard_shape`` is not a valid shape.
    FormatError
        If there is no store, if it is of format 0.7 (`migrate` it first), or if its metadata changed in the meantime.
    CorruptChunkError
        If a listed cell is missing; its array then stays as it was.
    StoreError
        If the store cannot be reached, listed or written to.

    Examples
    --------
    >>> path = zvl.example("cloud", "cloud.zarrvectors")
    >>> zvl.shard(path, shard_shape=4)["0/vertices"]  # objects now
    6
    """
    shape = _shard_shape(shard_shape)
    spec = resolve(path, backend=backend, storage_options=storage_options, **backend_kwargs)
    return finish(shard_store(open_to_change(spec), shape), "shard", compute=compute, shown=progress)


def _shard_shape(value: Any) -> tuple[int, ...] | None:
    if value is None:
        return None
    shape = tuple(np.atleast_1d(np.asarray(value)).tolist())
    if not shape or not all(isinstance(edge, int) and not isinstance(edge, bool) and edge >= 1 for edge in shape):
        raise SelectionError(f"shard_shape= must be whole numbers, 1 or more; found {value!r}")
    return shape


# Convert a store of the old format to a new store of the current one.


@suggesting
def migrate(
    src: StorePath,
    dst: StorePath,
    *,
    leave_out: Collection[str] = (),
    compressor: Compressor = "zstd",
    checksum: bool = True,
    mode: Mode = "w-",
    compute: bool = True,
    progress: bool = False,
    backend: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    dst_options: Mapping[str, Any] | None = None,
    **backend_kwargs: Any,
) -> Any:
    """Convert a store of format 0.7 to a new one of format 0.9; the old one is left as it is.

    The new store has every level with its positions, fragments, attributes, links and links between levels, the
    objects, the groups and their attributes, the headers, and all metadata that do not describe the layout. Rows keep
    their order and objects their ids. The link records within levels of polylines and lines, which the old writer
    garbled, are left out: the objects contain the same information.

    Parameters
    ----------
    src, dst
        URL or path, ``os.PathLike``, or a ``zarr.abc.store.Store``; there must be no store at ``dst``.
    leave_out
        Names of attributes to leave out, and ``"parametric"`` to leave out parametric objects.
    compressor, checksum
        How the cells of the new store are stored; as for `write_points`.
    mode
        ``"w-"`` to fail if something already exists at ``dst``; ``"w"`` to replace a store.
    compute
        False to return a Delayed that does the work.
    progress
        Show a bar.
    backend, storage_options, **backend_kwargs
        As for `open_zv`, of ``src``, and of ``dst`` where ``dst_options`` is None.
    dst_options
        Options of ``dst`` alone, ``backend`` among them.

    Returns
    -------
    dict
        The number of vertices by level.

    Raises
    ------
    FormatError
        If ``src`` is not a store, or has something that cannot be converted; the message names it.
    SelectionError
        If ``src`` is already of format 0.9, if ``src`` and ``dst`` are the same place, or if an argument is malformed.
    StoreError
        If a store cannot be reached, or if something already exists at ``dst``.

    Warns
    -----
    ZVWarning
        If there are groups or arrays that this package does not know; they are not copied.

    Examples
    --------
    >>> zvl.migrate("old.zarrvectors", "new.zarrvectors")  # doctest: +SKIP
    {0: 4115, 1: 148, 2: 44}
    """
    options = {"backend": backend, "storage_options": storage_options, **backend_kwargs}
    source, target = resolve_apart(src, dst, mode, dst_options, **options)
    opened = open_tree(source, None)
    if opened.generation.changeable:
        raise SelectionError(
            f"{source.url} already has format {opened.meta.version}: there is nothing to migrate; rechunk makes copies"
        )
    lost = {path for data in opened.levels.values() for path in left_out(data, opened.levels, links=True, objects=True)}
    if lost := lost - set(leave_out):
        warnings.warn(f"not copied: {listed(sorted(lost))}", ZVWarning, stacklevel=2)
    encoding = Encoding(compressor=compressor, checksum=checksum)
    job = copy_store(opened, target, encoding, mode, frozenset(leave_out))
    return finish(job, "migrate", compute=compute, shown=progress)


# The pyramid of a store as arguments of `build_pyramid`, derived from what its levels state.

CLOSE = 1e-9


def stated_pyramid(
    store: "ZVStore", chunk_shape: Floats, bin_shape: Floats, given: Mapping[str, Any]
) -> dict[str, Any]:
    """Arguments of `build_pyramid` that rebuild a store's coarse levels on a level 0 with other chunks.

    Levels keep their bins, and their chunks grow as in the store, or more if bins would not tile them otherwise.

    Parameters
    ----------
    chunk_shape, bin_shape
        (D,) edge lengths of the new level 0.
    given
        Arguments that replace those derived from the store.

    Returns
    -------
    dict
        Empty if there is nothing to build: only level 0, and no factors given.

    Raises
    ------
    SelectionError
        If the store does not state one of them, if one is wrong, or if such levels do not fit these chunks and bins.
    NotFoundError
        If ``aggregate`` names an attribute that the store does not have.
    """
    of_options = {field.name for field in fields(PyramidOptions)}
    known = of_options & signature(build_pyramid).parameters.keys() - {"overwrite", "resume"}
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
            _check_method(levels[1:])
        found |= {**_links(levels), **_rules(levels), **given}
    request = PyramidOptions(**found)
    for name in found.get("aggregate") or {}:
        if name not in levels[0].attribute_names:
            raise NotFoundError.among("attribute", name, levels[0].attribute_names)
    told = len(levels) > 1 and "factors" not in given
    growth = [_growth(*pair) for pair in pairwise(levels)] if told else [None] * len(request.factors)
    found["chunk_scale_factors"] = _scales(request, chunk_shape, bin_shape, growth)
    return found


def _ours(level: "ZVLevel") -> Json:
    found: Json = level._view.data.meta.block.get("zarr_vectors_lazy") or {}
    return found


def _check_method(coarse: Sequence["ZVLevel"]) -> None:
    stated = {str(level._view.data.meta.block.get("coarsening_method")) for level in coarse}
    if stated == {METHOD}:
        return
    raise SelectionError(
        f"levels {[level.index for level in coarse]} were made by {listed(sorted(stated))}, which build_pyramid does "
        "not do; choose its own with pyramid={'method': 'aggregate'}"
    )


def _factors(levels: Sequence["ZVLevel"], bin_shape: Floats) -> list[tuple[Any, float]]:
    """(coarsening, sparsity) of each coarse level."""
    indices = [level.index for level in levels]
    if indices != list(range(len(levels))):
        raise SelectionError(f"levels are {indices}, not consecutive; pass pyramid={{'factors': [...]}}")
    bins = [bin_shape, *(level.bin_shape for level in levels[1:])]
    found = []
    for level, (fine, edges), finer in zip(levels[1:], pairwise(bins), levels, strict=False):
        coarsening = edges / fine
        if (coarsening < 1 - CLOSE).any():
            raise SelectionError(
                f"level {level.index} has bins of {edges.tolist()}, smaller than those of {fine.tolist()} below it; "
                "choose a smaller bin_shape, or pass pyramid={'factors': [...]}"
            )
        found.append((_plain(np.maximum(coarsening, 1)), _sparsity(level, finer)))
    return found


def _sparsity(level: "ZVLevel", finer: "ZVLevel") -> float:
    keep, before = (float(of._view.data.meta.block.get("object_sparsity") or 1) for of in (level, finer))
    if keep != 1 and "weight" not in _ours(level):  # it may then be relative to either level
        raise SelectionError(
            f"level {level.index} states an object_sparsity of {keep}, but not how objects were chosen; pass "
            "pyramid={'factors': [...]}, with sparsity_strategy and sparsity_seed if they matter"
        )
    return float(_plain(np.asarray([before / keep])))


def _links(levels: Sequence["ZVLevel"]) -> dict[str, Any]:
    deltas = {delta for level in levels for delta in level.deltas if delta}
    storage = "explicit" if min(deltas, default=0) < 0 else "implicit" if deltas else "none"
    return {"cross_level_storage": storage, "cross_level_depth": max(map(abs, deltas), default=0)}


def _rules(levels: Sequence["ZVLevel"]) -> dict[str, Any]:
    """How attributes were combined and objects chosen, where that differs from the default."""
    first = _ours(levels[1])
    if "weight" not in first:  # built by the reference, or by other software
        return {}
    seeds = [rule["seed"] for level in levels if (rule := _ours(level).get("sparsity"))]
    gone = set(levels[0].attribute_names) - set(levels[1].attribute_names)
    found = {"aggregate": dict.fromkeys(sorted(gone)) | first.get("aggregate", {})}
    found |= {"sparsity_seed": seeds[0]} if seeds else {}
    return found | ({"min_vertices": first["min_vertices"]} if "min_vertices" in first else {})


def _growth(fine: "ZVLevel", level: "ZVLevel") -> IntArray:
    return np.maximum(np.rint(level.chunk_shape / fine.chunk_shape), 1).astype(np.int64)


def _scales(
    request: PyramidOptions, chunk_shape: Floats, bin_shape: Floats, growth: Sequence[IntArray | None]
) -> list[Any]:
    """Chunk scale of each level: as given, otherwise the smallest that tiles and keeps the growth."""
    ones = np.ones(len(chunk_shape), np.int64)
    at = LevelScale(
        level=0, bin_shape=bin_shape, chunk_shape=chunk_shape, ratio=ones, fold=bin_shape / bin_shape, keep=1.0
    )
    scales = []
    for level, (factor, grown, scale) in enumerate(
        zip(request.factors, growth, request.chunk_scale_factors, strict=True), 1
    ):
        least = next_scale(at, level, factor, scale)
        if scale is not None or grown is None:
            scales.append(scale)
            at = least
        else:
            scales.append(_plain(np.lcm(least.ratio // at.ratio, grown)))
            at = next_scale(at, level, factor, scales[-1])
    return scales


def _plain(values: Any) -> Any:
    """Numbers by axis as Python numbers: a single one if all are the same, whole ones as int."""
    numbers = [int(value) if value == int(value) else float(value) for value in np.round(values, 9).tolist()]
    return numbers[0] if len(set(numbers)) == 1 else tuple(numbers)


# A store with other chunks.


@suggesting
def rechunk(
    src: StorePath,
    dst: StorePath,
    *,
    chunk_shape: Lengths,
    bin_shape: Lengths | None = None,
    level: int = 0,
    pyramid: bool | Mapping[str, Any] = False,
    compressor: Compressor = "zstd",
    checksum: bool = True,
    shard_shape: Any = None,
    mode: Mode = "w-",
    compute: bool = True,
    progress: bool = False,
    backend: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    dst_options: Mapping[str, Any] | None = None,
    **backend_kwargs: Any,
) -> Any:
    """Write a level of a store, of either format, as a new store with other chunks and bins.

    This copies what `ZVLevel.save` copies, out of core. Coarser levels and links between levels are not copied: with
    ``pyramid`` they are rebuilt from the new level 0, and otherwise the summary names them.

    Parameters
    ----------
    src, dst
        URL or path, ``os.PathLike``, or a ``zarr.abc.store.Store``.
    chunk_shape, bin_shape
        (D,) edge lengths of a chunk and of a bin, or one number for all axes.
    level
        The level that becomes level 0.
    pyramid
        True to build the coarser levels too, with the bins, sparsity, method, rules and links that those of ``src``
        state; ``bin_shape`` is then the source's by default. A mapping of arguments of `build_pyramid`, such as
        ``{"factors": [(2, 1)]}``, to replace some of these.
    compressor, checksum, shard_shape, mode, compute, progress
        As for `write_points`.
    backend, storage_options, **backend_kwargs
        As for `open_zv`, of ``src``, and of ``dst`` where ``dst_options`` is None.
    dst_options
        Options of ``dst`` alone, ``backend`` among them.

    Returns
    -------
    dict
        What `ZVLevel.save` returns, including ``left_out``; ``levels_left_out``, the levels of ``src`` that were not
        copied; and ``pyramid``, what `build_pyramid` returned if it was run.

    Raises
    ------
    SelectionError
        If ``src`` and ``dst`` are the same place; if the arguments of ``pyramid`` cannot be derived from ``src``; if
        ``pyramid`` is used with a level other than 0 or with ``compute=False``; or as for `ZVLevel.save` and
        `build_pyramid`.
    FormatError, NotFoundError, StoreError
        As for `open_zv` and `ZVLevel.save`.

    Examples
    --------
    >>> done = zvl.rechunk(zvl.example("cloud"), "coarser.zarrvectors", chunk_shape=6000)
    >>> done["chunk_count"], done["levels_left_out"]
    (11, [1, 2])
    """
    options = {"backend": backend, "storage_options": storage_options, **backend_kwargs}
    target = options if dst_options is None else dict(dst_options)
    resolve_apart(src, dst, mode, dst_options, **options)
    shapes = {"chunk_shape": chunk_shape, "bin_shape": bin_shape, "shard_shape": shard_shape}
    how = {"compressor": compressor, "checksum": checksum, "mode": mode, "compute": compute, "progress": progress}
    arguments = {**shapes, **how, **target}
    store = open_zv(src, **options)
    store._opened.refuse_additive("rechunk")
    left = [index for index in store.levels if index != level]
    if pyramid is not False:
        return _with_pyramid(store[level], dst, {} if pyramid is True else pyramid, arguments, target)
    done = save_level(store[level], dst, arguments)
    return naming(done, left) if compute else dask.delayed(naming, pure=False, name="rechunk")(done, left)


def naming(summary: Mapping[str, Any], left: list[int]) -> dict[str, Any]:
    """Add the levels that were not copied to a writer's summary."""
    return {**summary, "levels_left_out": left}


def _with_pyramid(
    level: "ZVLevel", dst: Any, given: Any, arguments: dict[str, Any], target: Mapping[str, Any]
) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise SelectionError(f"pyramid must be True, False or arguments of build_pyramid, found {given!r}")
    if level.index:
        raise SelectionError(f"pyramid= builds on level 0: the vertices of level {level.index} are already means")
    chunks = parse_shape(arguments["chunk_shape"], level.store.ndim, "chunk_shape")
    stated = level.bin_shape if len(level.store) > 1 else None
    try:
        bins = parse_bins(stated if arguments["bin_shape"] is None else arguments["bin_shape"], chunks)
    except SelectionError as error:
        if arguments["bin_shape"] is None:
            error.add_note("bins are those of the source, whose levels pyramid= builds; bin_shape= gives others")
        raise
    build = stated_pyramid(level.store, chunks, bins, given)
    if not arguments["compute"]:
        raise SelectionError(
            f"pyramid= cannot be combined with compute=False; leave it out, pass bin_shape={bins.tolist()}, and call "
            f"{_call(dst, build)} when level 0 is written"
        )
    with _telling(dst, build):
        check_place(resolve(dst, **target), arguments["mode"])
    done = save_level(level, dst, {**arguments, "bin_shape": bins}, level.store.levels if build else ())
    if not build:
        return naming(done, [])
    with _telling(dst, build):
        built = build_pyramid(dst, progress=arguments["progress"], **build, **target)
    return {**naming(done, []), "pyramid": built}


@contextmanager
def _telling(dst: Any, build: Mapping[str, Any]) -> Iterator[None]:
    """Add to an error how to continue."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"if level 0 was written completely, this builds the others: {_call(dst, build)}")
        raise


def _call(dst: Any, build: Mapping[str, Any]) -> str:
    return f"zvl.build_pyramid({str(dst)!r}, {', '.join(f'{name}={value!r}' for name, value in build.items())})"
