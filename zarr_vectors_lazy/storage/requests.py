"""The requests that `fetch` answers, and counts of those made."""

import logging
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from zarr_vectors_lazy.requests import Delete, Get, ListDir, ListSizes, Put, Request, Size

# The requests that `fetch` answers; they are defined below this layer, where pure code can make them.

__all__ = ["Delete", "Get", "ListDir", "ListSizes", "Put", "Request", "Size"]


# Counts of requests made and bytes received by this process, to compare with what was planned.

logger = logging.getLogger("zarr_vectors_lazy.storage")


@dataclass(slots=True)
class Counts:
    """Requests by kind (``"get"``, ``"range"``, ``"list"``, ``"put"``, ...), their keys in order, bytes received."""

    by_kind: Counter[str] = field(default_factory=Counter)
    bytes: int = 0
    keys: list[str] = field(default_factory=list)

    @property
    def requests(self) -> int:
        """Requests of all kinds."""
        return self.by_kind.total()


_lock = threading.Lock()
_total = Counts()
_watching: list[Counts] = []


def record(kind: str, key: str, nbytes: int) -> None:
    """Count one request that was answered (even if with "there is none")."""
    with _lock:
        _total.by_kind[kind] += 1
        _total.bytes += nbytes
        for counts in _watching:
            counts.by_kind[kind] += 1
            counts.bytes += nbytes
            counts.keys.append(key)
    if logger.isEnabledFor(logging.DEBUG):
        logger.debug("%s %s: %d bytes", kind, key, nbytes)


def snapshot() -> Counts:
    """Return the counts since the process began or `reset`; a copy, without keys."""
    with _lock:
        return Counts(_total.by_kind.copy(), _total.bytes)


def reset() -> None:
    """Start counting from zero."""
    with _lock:
        _total.by_kind.clear()
        _total.bytes = 0


@contextmanager
def counting() -> Iterator[Counts]:
    """Count what all threads of this process request inside the block."""
    counts = Counts()
    with _lock:
        _watching.append(counts)
    try:
        yield counts
    finally:
        with _lock:
            _watching[:] = [other for other in _watching if other is not counts]
