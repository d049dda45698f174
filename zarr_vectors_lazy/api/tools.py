"""Functions on whole stores, given by path."""

from collections.abc import Mapping, Sequence
from typing import Any

import dask
import numpy as np

from zarr_vectors_lazy.access.upkeep.consolidate import write_consolidated
from zarr_vectors_lazy.access.upkeep.index import open_to_change, write_counts
from zarr_vectors_lazy.api.keywords import suggesting
from zarr_vectors_lazy.api.progress import computing
from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.graph.shard import shard_store
from zarr_vectors_lazy.storage.resolve import resolve


@suggesting
def consolidate(
    path: Any,
    *,
    backend: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    **backend_kwargs: Any,
) -> None:
    """Write the metadata of all nodes of a store into its root (Zarr v3's inline form), so that one request opens it.

    Reads every node, and writes the root in one put: who opens the store meanwhile sees the old root or the new one.
    Do it again when a level or an attribute is added. A root over 20 MB is warned of.

    Parameters
    ----------
    path
        URL or path, ``os.PathLike``, or a ``zarr.abc.store.Store``.
    backend, storage_options, **backend_kwargs
        As for `open_zv`.

    Raises
    ------
    FormatError
        If there is no finished Zarr Vectors store of a known generation, or the root changed meanwhile.
    StoreError
        If it cannot be reached, listed or written.
    """
    write_consolidated(resolve(path, backend=backend, storage_options=storage_options, **backend_kwargs))


@suggesting
def index(
    path: Any,
    *,
    backend: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    **backend_kwargs: Any,
) -> dict[int, int]:
    """Count the vertices of every chunk of a store and stamp the counts into it, so that every open knows chunk sizes.

    For stores that somebody else wrote; ours have them. It reads the heads of cells, or a listing where cells are
    uncompressed, and adds one attribute to the ``vertices`` array of each level, in one put; a wrong ``vertex_count``
    of a level is set right. Consolidated metadata are written again, where there are some. Other readers mind none of
    it.

    Parameters
    ----------
    path
        URL or path, ``os.PathLike``, or a ``zarr.abc.store.Store``.
    backend, storage_options, **backend_kwargs
        As for `open_zv`.

    Returns
    -------
    dict
        Vertices by level.

    Raises
    ------
    FormatError
        If there is no store, it is of format 0.7 (`migrate` it first), or a document changed meanwhile.
    CorruptChunkError
        If a listed chunk is missing or undecodable.
    StoreError
        If it cannot be reached or written.
    """
    return write_counts(resolve(path, backend=backend, storage_options=storage_options, **backend_kwargs))


@suggesting
def shard(
    path: Any,
    *,
    shard_shape: int | Sequence[int] | None,
    compute: bool = True,
    progress: bool = False,
    backend: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    **backend_kwargs: Any,
) -> Any:
    """Put the cells of every array of a store together into shards, in place: fewer objects, the same bytes.

    Cells are not decoded, and keep their compressor and checksum. An array's shards are written beside its cells, under
    other keys; one put of its document changes it over; only then are the old objects deleted. Whenever it stops, every
    array has all of its cells, in the old form or in the new one, and it can be run again. Who has the store open
    meanwhile opens it anew: a read of a deleted object is an error. Consolidated metadata are taken away first and
    written again at the end.

    Parameters
    ----------
    path
        URL or path, ``os.PathLike``, or a ``zarr.abc.store.Store``.
    shard_shape
        Chunks along each axis that share an object: one number for all, or one for each. None: each cell an object.
    compute
        False: return a Delayed that does it.
    progress
        Show a bar.
    backend, storage_options, **backend_kwargs
        As for `open_zv`.

    Returns
    -------
    dict
        By array that was changed: how many objects its cells are in now.

    Raises
    ------
    SelectionError
        If the shape is none.
    FormatError
        If there is no store, it is of format 0.7 (`migrate` it first), or a document changed meanwhile.
    CorruptChunkError
        If a listed cell is missing; its array stays as it was.
    StoreError
        If it cannot be reached, listed or written.
    """
    shape = _shard_shape(shard_shape)
    spec = resolve(path, backend=backend, storage_options=storage_options, **backend_kwargs)
    job = shard_store(open_to_change(spec), shape)
    if not compute:
        return job
    with computing("shard", shown=progress):
        return dask.compute(job)[0]


def _shard_shape(value: Any) -> tuple[int, ...] | None:
    if value is None:
        return None
    shape = tuple(np.atleast_1d(np.asarray(value)).tolist())
    if not shape or not all(isinstance(edge, int) and not isinstance(edge, bool) and edge >= 1 for edge in shape):
        raise SelectionError(f"shard_shape= must be whole numbers from 1, found {value!r}")
    return shape
