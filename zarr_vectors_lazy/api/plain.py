"""A store as the plain zarr group that it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import zarr

from zarr_vectors_lazy.access.store import open_tree
from zarr_vectors_lazy.access.upkeep.index import open_to_change
from zarr_vectors_lazy.api.keywords import suggesting
from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.storage.adapter import zarr_store
from zarr_vectors_lazy.storage.resolve import resolve


@dataclass(frozen=True, slots=True)
class PlainStore:
    """A Zarr Vectors store, checked to be one, as zarr sees it.

    Parameters
    ----------
    url
        Where it is, without secrets.
    zarr_group
        Its root.
    """

    url: str
    zarr_group: zarr.Group


@suggesting
def open_store(
    path: Any,
    *,
    mode: Literal["r", "r+"] = "r",
    backend: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    **backend_kwargs: Any,
) -> PlainStore:
    """Open a store for who wants its arrays as zarr gives them; reads metadata only.

    Parameters
    ----------
    path
        URL or path, ``os.PathLike``, or a ``zarr.abc.store.Store``.
    mode
        ``"r"``: what is opened here cannot be written through. ``"r+"``: it can, with all that zarr does; of a zarr
        store object, as far as that is writable.
    backend, storage_options, **backend_kwargs
        As for `open_zv`.

    Returns
    -------
    PlainStore
        Its ``zarr_group`` is the root, a ``zarr.Group``.

    Raises
    ------
    SelectionError
        If the mode is another one.
    FormatError, StoreError
        As for `open_zv`; with ``"r+"`` also for a store of format 0.7, and for one that cannot be written to.

    Examples
    --------
    >>> root = zvl.open_store("tracts.zarrvectors", mode="r+")
    >>> zarr.consolidate_metadata(root.zarr_group.store)  # an open is one request now

    Notes
    -----
    Whoever changes cells or documents so answers for what our readers are told elsewhere (``nonempty_chunks``, counts).
    """
    if mode not in {"r", "r+"}:
        raise SelectionError(
            f"mode must be 'r' or 'r+', found {mode!r}; new stores are made by the functions that write"
        )
    spec = resolve(path, backend=backend, storage_options=storage_options, **backend_kwargs)
    opened = open_tree(spec, None) if mode == "r" else open_to_change(spec)
    group = zarr.open_group(zarr_store(spec, writable=mode == "r+"), mode=mode, zarr_format=3)
    return PlainStore(opened.tree.url, group)
