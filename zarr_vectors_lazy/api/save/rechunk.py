"""A store with other chunks."""

from collections.abc import Mapping
from typing import Any

import dask

from zarr_vectors_lazy.access.write.session import Mode, check_mode
from zarr_vectors_lazy.api.save.level import save_level
from zarr_vectors_lazy.api.store import open_zv
from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.model.writing import Compressor
from zarr_vectors_lazy.storage.resolve import resolve


def rechunk(
    src: Any,
    dst: Any,
    *,
    chunk_shape: Any,
    bin_shape: Any = None,
    level: int = 0,
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

    All that `ZVLevel.save` carries, out of core or in memory as it does. Coarser levels are not carried, nor links
    between levels: `build_pyramid` makes them anew, from the new chunks. The summary names those that were left.

    Parameters
    ----------
    src, dst
        URL or path, ``os.PathLike``, or a ``zarr.abc.store.Store``.
    chunk_shape, bin_shape
        (D,) edges of a chunk and of a bin, or one number for all.
    level
        Which level becomes level 0.
    compressor, checksum, shard_shape, mode, compute, progress
        As for `write_points`.
    backend, storage_options, **backend_kwargs
        As for `open_zv`, of ``src``, and of ``dst`` where ``dst_options`` is None.
    dst_options
        Options of ``dst`` alone, ``backend`` among them.

    Returns
    -------
    dict
        What the writer of the geometry returns, and ``levels_left_out``: the levels of ``src`` that were not carried.

    Raises
    ------
    SelectionError
        If ``src`` and ``dst`` are one place, or as `ZVLevel.save`.
    FormatError, NotFoundError, StoreError
        As for `open_zv` and `ZVLevel.save`.
    """
    check_mode(mode)
    options = {"backend": backend, "storage_options": storage_options, **backend_kwargs}
    target = options if dst_options is None else dict(dst_options)
    if resolve(src, **options).url == resolve(dst, **target).url:
        raise SelectionError(f"src and dst are one place, {src!r}: a store is rechunked into a new one")
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
    left = [index for index in store.levels if index != level]
    done = save_level(store[level], dst, arguments)
    return naming(done, left) if compute else dask.delayed(naming, pure=False, name="rechunk")(done, left)


def naming(summary: Mapping[str, Any], left: list[int]) -> dict[str, Any]:
    """Return a writer's summary, and the levels that were not carried."""
    return {**summary, "levels_left_out": left}
