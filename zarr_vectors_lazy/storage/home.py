"""The process in whose memory a store is, which other processes have copies of at best."""

import os
import uuid
from typing import Any

from zarr.storage import MemoryStore

from zarr_vectors_lazy.errors import StoreError

STAYS = (
    "a writable icechunk session stays in its process: compute under threads, dask.config.set(scheduler='threads'), or "
    "read from repo.readonly_session()"
)
LOST = (
    "the store is in the memory of another process, where nothing of it would arrive; compute under threads, "
    "dask.config.set(scheduler='threads')"
)
_names: dict[int, str] = {}


def this_process() -> str:
    """Name of this process; a forked child has another one."""
    return _names.get(os.getpid()) or _names.setdefault(os.getpid(), uuid.uuid4().hex)


def home_of(store: object) -> str:
    """Name of this process if what is written to a store object is there alone, else empty."""
    alone = isinstance(store, MemoryStore) or (is_icechunk(store) and not getattr(store, "read_only", True))
    return this_process() if alone else ""


def is_icechunk(store: object) -> bool:
    """Whether a store object is icechunk's, which need not be installed."""
    kinds = type(store).__mro__
    return any(kind.__name__ == "IcechunkStore" and kind.__module__.startswith("icechunk") for kind in kinds)


def check_leaves(value: Any) -> None:
    """Raise StoreError if an object is the store of a session that does not pickle."""
    if is_icechunk(value):
        try:
            value.__getstate__()
        except ValueError as error:  # icechunk's own says to fork, which would lose what is written
            raise StoreError(STAYS) from error
