"""Limits that users set with ``dask.config`` under ``zarr_vectors_lazy``, some of Dask's own; and a bounded cache."""

import sys
import tempfile
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

import dask.config
import dask.system
from dask.utils import parse_bytes

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

DEFAULTS: dict[str, int | str] = {
    "max-requests": 256,  # requests in flight per process
    "retries": 10,  # times that a request is repeated after a failure that may be temporary
    "retry-timeout": "30 s",  # after which it is not repeated
    "read-timeout": "30 s",  # without a byte, after which an attempt is given up
    "batch-chunks": 256,  # cells that one task fetches, at most
    "batch-bytes": "64 MiB",  # stored bytes that one task fetches, at most (estimated)
    "write-bytes": "16 MiB",  # bytes of rows that one task of a write out of core holds (estimated)
    "scratch": "",  # folder or URL where records of a write out of core wait; empty: in the store
    "max-cell-bytes": "256 MiB",  # decoded size up to which a cell is accepted however few bytes are stored
    "max-array-bytes": "4 GiB",  # largest array over objects, of missing values or of decoded text
    "max-metadata-bytes": "1 GiB",  # largest decoded document (zarr.json) that is accepted
    "workers": 0,  # task slots to spread batches over; 0: ask Dask
}

dask.config.update_defaults({"zarr_vectors_lazy": dict(DEFAULTS)})


def setting(name: str) -> Any:
    """Value of ``zarr_vectors_lazy.<name>`` in this process's Dask configuration."""
    return dask.config.get(f"zarr_vectors_lazy.{name}", DEFAULTS[name])


def nbytes_setting(name: str) -> int:
    """Number of bytes that ``zarr_vectors_lazy.<name>`` states."""
    return _parsed(setting(name))


def block_nbytes() -> int:
    """Bytes of a block of a Dask array: Dask's setting ``array.chunk-size``."""
    return _parsed(dask.config.get("array.chunk-size"))


@cache
def _parsed(value: int | str) -> int:
    return int(parse_bytes(value))


def temporary_folder() -> Path:
    """Name of a new folder below Dask's ``temporary-directory``; the folder is not made."""
    base = dask.config.get("temporary-directory", None) or tempfile.gettempdir()
    return Path(base) / f"zarr-vectors-lazy-{uuid.uuid4().hex}"


def task_slots() -> int:
    """Task slots of the scheduler that would run a graph now.

    ``zarr_vectors_lazy.workers`` if it is set, otherwise the threads of an active ``distributed.Client``'s cluster,
    otherwise Dask's ``num_workers`` or the number of cores.
    """
    fixed = int(setting("workers"))
    if fixed > 0:
        return fixed
    client = _client()
    if client is not None:
        # What the client last heard. Asking the scheduler would deadlock while a graph is being pickled, and there
        # is no public name for it.
        threads = (getattr(client, "_scheduler_identity", None) or {}).get("total_threads", 0)
        if threads:
            return int(threads)
    scheduler = dask.config.get("scheduler", None)
    if scheduler in ("sync", "synchronous", "single-threaded"):
        return 1
    return int(dask.config.get("num_workers", None) or dask.system.CPU_COUNT)


def _client() -> Any:
    default_client = getattr(sys.modules.get("distributed"), "default_client", None)
    if default_client is None:  # not imported, or just being imported by another thread
        return None
    try:
        return default_client()
    except ValueError:  # there is none
        return None


class Recent(Generic[K, V]):
    """A cache of the values used last, up to a limit. Threads may share one.

    Parameters
    ----------
    most
        How much is kept; the last value stays, however large it is.
    size
        The size of a value; by default 1.
    """

    def __init__(self, most: int, size: Callable[[V], int] = lambda _value: 1) -> None:
        self._most, self._size, self._total = most, size, 0
        self._values: OrderedDict[K, V] = OrderedDict()
        self.lock = threading.RLock()

    def get(self, key: K) -> V | None:
        """Value of a key, which then counts as used last; None if there is none."""
        with self.lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: K, value: V) -> V:
        """Keep a value, and let those go that were used longest ago; return it."""
        with self.lock:
            self.drop(key)
            self._values[key] = value
            self._total += self._size(value)
            while self._total > self._most and len(self._values) > 1:
                self.drop(next(iter(self._values)))
        return value

    def make(self, key: K, work: Callable[[], V]) -> V:
        """Value of a key; if there is none, one thread makes it, and others wait for it."""
        with self.lock:
            found = self.get(key)
            return self.put(key, work()) if found is None else found

    def drop(self, key: K) -> None:
        """Let go of a value, if there is one."""
        with self.lock:
            if key in self._values:
                self._total -= self._size(self._values.pop(key))

    def clear(self, which: Callable[[K], bool] = lambda _key: True) -> None:
        """Let go of the values of some keys, of all by default."""
        with self.lock:
            for key in filter(which, [*self._values]):
                self.drop(key)
