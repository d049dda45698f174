"""A store whose writer is killed, or paused, at a chosen put."""

import threading
from contextlib import contextmanager

from tests.bounds import HANGS_S
from zarr_vectors_lazy.requests import Delete, Put
from zarr_vectors_lazy.storage.fetch import connect


class Killed(BaseException):
    """The process has died; nothing catches this."""


@contextmanager
def one_by_one(spec, before):
    """Answer what is asked of a store one after another; ``before`` is called with each put and deletion."""
    backend = connect(spec)
    fetch = type(backend).fetch

    def answered(self, requests):
        return [one(self, request) for request in requests]

    def one(self, request):
        if self is backend and isinstance(request, Put | Delete):
            before(request)
        return fetch(self, [request])[0]

    type(backend).fetch = answered
    try:
        yield
    finally:
        type(backend).fetch = fetch


@contextmanager
def killed_after(spec, writes, error=Killed):
    """Let only that many objects be written or deleted in a store."""
    left = [writes]

    def count(request):
        if not left[0]:
            raise error(f"no {type(request).__name__} of {request}"[:60])
        left[0] -= 1

    with one_by_one(spec, count):
        yield left


@contextmanager
def held(spec, is_it):
    """Pause the first put or deletion that ``is_it`` until ``released`` is set; ``reached`` is set at the pause."""
    reached, released, lock = threading.Event(), threading.Event(), threading.Lock()

    def wait(request):
        with lock:
            mine = not reached.is_set() and is_it(request)
            if mine:
                reached.set()
        if mine:
            assert released.wait(HANGS_S)

    with one_by_one(spec, wait):
        yield reached, released
