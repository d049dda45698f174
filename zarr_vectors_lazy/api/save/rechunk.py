"""A store with other chunks."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import dask

from zarr_vectors_lazy.access.write.session import Mode, check_apart, check_mode, check_place
from zarr_vectors_lazy.api.keywords import suggesting
from zarr_vectors_lazy.api.pyramid import build_pyramid
from zarr_vectors_lazy.api.save.level import save_level
from zarr_vectors_lazy.api.save.pyramid import stated_pyramid
from zarr_vectors_lazy.api.store import open_zv
from zarr_vectors_lazy.api.write.args import parse_bins, parse_shape
from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.model.writing import Compressor
from zarr_vectors_lazy.storage.resolve import resolve

if TYPE_CHECKING:
    from zarr_vectors_lazy.api.level import ZVLevel


@suggesting
def rechunk(
    src: Any,
    dst: Any,
    *,
    chunk_shape: Any,
    bin_shape: Any = None,
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

    All that `ZVLevel.save` carries, out of core as it does. Coarser levels are not carried, nor links
    between levels: with ``pyramid`` they are made anew from the new level 0, else the summary names them.

    Parameters
    ----------
    src, dst
        URL or path, ``os.PathLike``, or a ``zarr.abc.store.Store``.
    chunk_shape, bin_shape
        (D,) edges of a chunk and of a bin, or one number for all.
    level
        Which level becomes level 0.
    pyramid
        True: build the coarser levels, too, with the bins, sparsity, method, rules and links that those of ``src``
        state; ``bin_shape`` is theirs then by default. Arguments of `build_pyramid`, such as ``{"factors": [(2, 1)]}``:
        the same, but for these.
    compressor, checksum, shard_shape, mode, compute, progress
        As for `write_points`.
    backend, storage_options, **backend_kwargs
        As for `open_zv`, of ``src``, and of ``dst`` where ``dst_options`` is None.
    dst_options
        Options of ``dst`` alone, ``backend`` among them.

    Returns
    -------
    dict
        What `ZVLevel.save` returns, ``left_out`` in it, ``levels_left_out``: the levels of ``src`` that were not
        carried, and ``pyramid``: what `build_pyramid` returns, where it was run.

    Raises
    ------
    SelectionError
        If ``src`` and ``dst`` are one place, ``pyramid`` cannot be told from ``src``, goes with another level than 0 or
        with ``compute=False``, or as `ZVLevel.save` and `build_pyramid`.
    FormatError, NotFoundError, StoreError
        As for `open_zv` and `ZVLevel.save`.
    """
    check_mode(mode)
    options = {"backend": backend, "storage_options": storage_options, **backend_kwargs}
    target = options if dst_options is None else dict(dst_options)
    check_apart(resolve(src, **options), resolve(dst, **target))
    arguments = {
        "chunk_shape": chunk_shape,
        "bin_shape": bin_shape,
        "compressor": compressor,
        "checksum": checksum,
        "shard_shape": shard_shape,
        "mode": mode,
        "compute": compute,
        "progress": progress,
        **target,
    }
    store = open_zv(src, **options)
    store._opened.refuse_additive("rechunk")
    left = [index for index in store.levels if index != level]
    if pyramid is not False:
        return _with_pyramid(store[level], dst, {} if pyramid is True else pyramid, arguments, target)
    done = save_level(store[level], dst, arguments)
    return naming(done, left) if compute else dask.delayed(naming, pure=False, name="rechunk")(done, left)


def naming(summary: Mapping[str, Any], left: list[int]) -> dict[str, Any]:
    """Return a writer's summary, and the levels that were not carried."""
    return {**summary, "levels_left_out": left}


def _with_pyramid(
    level: "ZVLevel", dst: Any, given: Any, arguments: dict[str, Any], target: Mapping[str, Any]
) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise SelectionError(f"pyramid must be True, False or arguments of build_pyramid, found {given!r}")
    if level.index:
        raise SelectionError(f"pyramid= builds on level 0: the vertices of level {level.index} are means already")
    chunks = parse_shape(arguments["chunk_shape"], level.store.ndim, "chunk_shape")
    stated = level.bin_shape if len(level.store) > 1 else None
    bins = parse_bins(stated if arguments["bin_shape"] is None else arguments["bin_shape"], chunks)
    build = stated_pyramid(level.store, chunks, bins, given)
    if not arguments["compute"]:
        raise SelectionError(
            f"pyramid= does not go with compute=False; leave it out, say bin_shape={bins.tolist()}, and call "
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
    """Let an error say how to go on."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"if its level 0 was written to the end, this builds the others: {_call(dst, build)}")
        raise


def _call(dst: Any, build: Mapping[str, Any]) -> str:
    return f"zvl.build_pyramid({str(dst)!r}, {', '.join(f'{name}={value!r}' for name, value in build.items())})"
