"""A store as the plain zarr group that it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import zarr

from zarr_vectors_lazy.access.store import open_tree
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


def open_store(
    path: Any,
    *,
    mode: Literal["r"] = "r",
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
        ``"r"``: what is opened here cannot be written through.
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
        As for `open_zv`.
    """
    if mode != "r":
        raise SelectionError(f"mode must be 'r', found {mode!r}: stores are written by the functions that write")
    spec = resolve(path, backend=backend, storage_options=storage_options, **backend_kwargs)
    opened = open_tree(spec, None)
    return PlainStore(opened.tree.url, zarr.open_group(zarr_store(spec), mode="r", zarr_format=3))
