"""Open connections of this process, one for each description."""

import os
import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import TypeAlias

from zarr_vectors_lazy.storage.backends.fsspec_backend import FsspecBackend
from zarr_vectors_lazy.storage.backends.icechunk_backend import IcechunkBackend
from zarr_vectors_lazy.storage.backends.local import LocalBackend
from zarr_vectors_lazy.storage.backends.zarr_backend import ZarrBackend
from zarr_vectors_lazy.storage.base import Backend
from zarr_vectors_lazy.storage.credentials import seen
from zarr_vectors_lazy.storage.home import is_icechunk
from zarr_vectors_lazy.storage.location import scheme_of
from zarr_vectors_lazy.storage.spec import StoreSpec

KEPT = 32
_BACKENDS: dict[str, type[Backend]] = {"local": LocalBackend, "fsspec": FsspecBackend, "zarr": ZarrBackend}

_lock = threading.Lock()
_Key: TypeAlias = tuple[StoreSpec, Hashable]  # another connection once environment or profile files say something else
_open: OrderedDict[_Key, Backend] = OrderedDict()
_opening: dict[_Key, threading.Lock] = {}
_inherited: list[Backend] = []  # the parent's, in a forked child: to close them would cut the parent's connections


def _forked() -> None:
    global _lock  # noqa: PLW0603  a thread that the child does not have may have held it
    _lock = threading.Lock()
    _inherited.extend(_open.values())
    _open.clear()
    _opening.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def connect(spec: StoreSpec) -> Backend:
    """Return the open connection to ``spec``, made on first use in this process; the last 32 are kept.

    Raises
    ------
    StoreError
        If the backend is not installed here, or refuses the URL or the options.
    """
    if spec.carried is not None:
        # Kept with the object itself, so that it can be forgotten with it.
        backend: Backend = spec.carried.memo.get("backend") or spec.carried.memo.setdefault("backend", _opened(spec))
        return backend
    key = spec, seen(scheme_of(spec.url)) if spec.backend != "local" else None
    with _lock:
        found = _open.get(key)
        if found is not None:
            _open.move_to_end(key)
            return found
        turn = _opening.setdefault(key, threading.Lock())
    with turn:  # not under the one lock: to read credentials may take long, which others need not wait for
        with _lock:
            found = _open.get(key)
        made = found or _opened(spec)
        with _lock:
            _open[key] = made
            _opening.pop(key, None)
            if len(_open) > KEPT:
                _open.popitem(last=False)
        return made


def _opened(spec: StoreSpec) -> Backend:
    if spec.backend == "obstore":
        from zarr_vectors_lazy.storage.backends.obstore_backend import ObstoreBackend  # noqa: PLC0415  optional

        return ObstoreBackend(spec)
    if spec.backend == "zarr" and is_icechunk(spec.instance):
        return IcechunkBackend(spec)
    return _BACKENDS[spec.backend](spec)
