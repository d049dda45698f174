"""Functions on whole stores, given by path."""

from collections.abc import Mapping
from typing import Any

from zarr_vectors_lazy.access.consolidate import write_consolidated
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
