"""File systems that only one thread at a time may use: a few connections, each lent to one request."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

CONNECTIONS = 4  # an SSH server begins to refuse at 10 that have not logged in yet
SHARED = frozenset({"file", "local", "memory"})


class Lender:
    """Connections of one kind; paramiko's, shared by threads, wait for ever for answers that others took.

    Parameters
    ----------
    make
        Opens another one.
    first
        One that is open.
    """

    def __init__(self, make: Callable[[], Any], first: object) -> None:
        self._make = make
        self._idle = [first]
        self._free = threading.BoundedSemaphore(CONNECTIONS)

    @contextmanager
    def lend(self) -> Iterator[Any]:
        """Give one that nobody else has; after a failure it is not used again."""
        with self._free:
            try:
                system = self._idle.pop()
            except IndexError:
                system = self._make()
            try:
                yield system
            except (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError):
                self._idle.append(system)
                raise
            else:
                self._idle.append(system)
