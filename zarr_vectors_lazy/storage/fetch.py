"""Bytes and names of many objects at once: everything above reads and writes through this module."""

import asyncio
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Sequence
from functools import partial
from typing import Any, TypeAlias

from zarr.abc.store import Store
from zarr.storage import LocalStore

from zarr_vectors_lazy.storage.backends.fsspec_backend import FsspecBackend
from zarr_vectors_lazy.storage.backends.local import LocalBackend
from zarr_vectors_lazy.storage.backends.zarr_backend import IcechunkBackend, ZarrBackend
from zarr_vectors_lazy.storage.base import Backend, Result
from zarr_vectors_lazy.storage.credentials import seen
from zarr_vectors_lazy.storage.io import kept_clients
from zarr_vectors_lazy.storage.requests import Delete, ListSizes, Put, Request
from zarr_vectors_lazy.storage.spec import StoreSpec, is_icechunk, scheme_of
from zarr_vectors_lazy.storage.zarr import BackendStore, zarr_array, zarr_cells

ROUND = 256  # requests that delete, at the same time
__all__ = ["delete", "delete_below", "fetch", "zarr_array", "zarr_cells"]


def fetch(backend: Backend, requests: Sequence[Request]) -> list[Result]:
    """Answer all requests concurrently, while the calling thread waits.

    Parameters
    ----------
    backend
        An open connection.
    requests
        At most ``max-requests`` of them are in flight per process at any time, whatever the number of callers.

    Returns
    -------
    In the order of ``requests``. `Get`: a read-only buffer, or ``None`` if there is no such object. `Size`: bytes of
    an object, or ``None``. `ListDir`: sorted names, ``()`` if there is nothing, ``None`` if listing was refused
    and was not required. `ListSizes`: ``{key: nbytes}``. `Put`: whether it was written, False only for ``create``.
    `Delete`: ``None``.

    Raises
    ------
    StoreError
        If anything else happened to any of them; the others are cancelled.
    """
    return backend.fetch(requests) if requests else []


def delete_below(
    backend: Backend,
    prefix: str = "",
    *,
    keep: Collection[str] = (),
    spare: str | None = None,
    before_each: Callable[[], None] = lambda: None,
) -> int:
    """Delete every object below a prefix; return how many there were.

    Parameters
    ----------
    prefix
        Folder, ``""`` for the whole store.
    keep
        Keys to keep.
    spare
        Prefix of keys to keep, too.
    before_each
        Called before each round of requests; it raises if nothing more may be deleted.

    Raises
    ------
    StoreError
        If the store cannot be listed, or a deletion fails.
    """
    (sizes,) = fetch(backend, [ListSizes(prefix)])
    keys = [key for key in sizes if key not in keep and not (spare and key.startswith(spare))]
    delete(backend, keys, before_each)
    backend.tidy(keys)
    return len(keys)


def delete(backend: Backend, keys: Sequence[str], before_each: Callable[[], None] = lambda: None) -> None:
    """Delete objects, as many per request as the store takes; see `delete_below`."""
    step = backend.deletes_at_once
    deletes = [Delete(tuple(keys[i : i + step])) for i in range(0, len(keys), step)]
    for i in range(0, len(deletes), ROUND):
        before_each()
        fetch(backend, deletes[i : i + ROUND])


# Open connections of this process, one for each description.

KEPT = 32
_BACKENDS: dict[str, type[Backend]] = {"local": LocalBackend, "fsspec": FsspecBackend, "zarr": ZarrBackend}

_lock = threading.Lock()
_Key: TypeAlias = tuple[StoreSpec, Hashable]  # with what environment and profile files say, which may change
_open: OrderedDict[_Key, Backend] = OrderedDict()
_opening: dict[_Key, threading.Lock] = {}
_inherited: list[Backend] = []  # the parent's, in a forked child: closing them would cut the parent's connections


def _forked() -> None:
    global _lock  # noqa: PLW0603  a thread that the child does not have may have held it
    _lock = threading.Lock()
    _inherited.extend(_open.values())
    _open.clear()
    _opening.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def connect(spec: StoreSpec) -> Backend:
    """Return the open connection to ``spec``, made on first use in this process; recent ones are kept.

    Raises
    ------
    StoreError
        If the backend is not installed here, or refuses the URL or the options.
    """
    if spec.carried is not None:
        # Kept with the object itself, so that it is forgotten with it.
        backend: Backend = spec.carried.memo.get("backend") or spec.carried.memo.setdefault("backend", _opened(spec))
        return backend
    key = spec, seen(scheme_of(spec.url)) if spec.backend != "local" else None
    with _lock:
        found = _open.get(key)
        if found is not None:
            _open.move_to_end(key)
            return found
        turn = _opening.setdefault(key, threading.Lock())
    with turn:  # not under the common lock: reading credentials may take long, and others need not wait for it
        with _lock:
            found = _open.get(key)
        made = found or _opened(spec)
        with _lock:
            _open[key] = made
            _opening.pop(key, None)
            _forget_oldest()
        return made


def _forget_oldest() -> None:
    alone = [key for key in _open if key[0].backend == "obstore"]  # each has its own client
    for key in alone[: max(0, len(alone) - kept_clients(KEPT))]:
        del _open[key]
    if len(_open) > KEPT:
        _open.popitem(last=False)


def _opened(spec: StoreSpec) -> Backend:
    if spec.backend == "obstore":
        from zarr_vectors_lazy.storage.backends.obstore_backend import ObstoreBackend  # noqa: PLC0415  optional

        return ObstoreBackend(spec)
    if spec.backend == "zarr" and is_icechunk(spec.instance):
        return IcechunkBackend(spec)
    return _BACKENDS[spec.backend](spec)


# A description of a store as a zarr store, for users who work with zarr as well.

DOC = "zarr.json"


def zarr_store(spec: StoreSpec, *, writable: bool = False) -> Store:
    """Zarr store for the same place: the user's own object, a folder, or our connection.

    Raises
    ------
    StoreError
        If it should be writable but is not.
    """
    if writable:
        connect(spec).check_writable(Put(DOC, b""))
    if spec.instance is not None:
        return spec.instance
    if spec.backend == "local":
        return LocalStore(spec.url, read_only=not writable)
    return ConnectedStore(spec, read_only=not writable)


class ConnectedStore(BackendStore):
    """Our connection, usable on any event loop: each request waits on a thread.

    Parameters
    ----------
    spec
        The store.
    read_only
        Whether it refuses to write.
    """

    def __init__(self, spec: StoreSpec, *, read_only: bool = True) -> None:
        super().__init__(connect(spec), read_only=read_only)
        self._spec = spec

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(ConnectedStore, read_only=self.read_only), (self._spec,)

    def with_read_only(self, read_only: bool = False) -> "ConnectedStore":
        return ConnectedStore(self._spec, read_only=read_only)

    async def _ask(self, request: Request) -> Result:
        return (await asyncio.to_thread(self._backend.fetch, [request]))[0]
