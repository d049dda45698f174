"""Functions on whole stores, given by path."""

from collections.abc import Mapping
from typing import Any

from zarr_vectors_lazy.access.consolidate import write_consolidated
from zarr_vectors_lazy.access.index import write_counts
from zarr_vectors_lazy.storage.resolve import resolve


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
