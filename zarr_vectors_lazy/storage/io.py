"""Where requests wait: on threads for blocking clients, on one event loop for the others."""

import asyncio
import itertools
import os
import threading
import warnings
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Generic, TypeVar

from zarr_vectors_lazy.errors import ZVWarning
from zarr_vectors_lazy.settings import setting
from zarr_vectors_lazy.storage.retry import RetryPolicy

# Blocking requests on threads: the size of the pool is the number of requests in flight.
#
# Measured with obstore, 512 objects of 23 KB behind 30 ms, 128 in flight: 0.17 s and 0.12 s of CPU on threads, 0.26 s
# and 0.27 s of CPU as coroutines on an event loop.

resource: Any
try:
    import resource
except ImportError:  # Windows
    resource = None

RESERVED = 64  # open files that are left for everything else
SILENCE_S = 4.0

T = TypeVar("T")

_lock = threading.RLock()  # a garbage collection inside it may close a connection
_pools: dict[int, ThreadPoolExecutor] = {}  # the pool, by its width
_loops: list[asyncio.AbstractEventLoop] = []  # the loop, once it is needed
_slots: dict[int, asyncio.Semaphore] = {}  # the semaphore, by its width; used only by the loop's thread
_creating = asyncio.Lock()


def _forked() -> None:
    # The child has none of the threads, and may have locks that they held.
    global _lock, _creating
    _lock, _creating = threading.RLock(), asyncio.Lock()
    for held in (_pools, _loops, _slots):
        held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def current_pool() -> ThreadPoolExecutor:
    """Return the pool of this process, with the width that ``max-requests`` now states."""
    width = request_width()
    with _lock:
        if width not in _pools:
            for old in _pools.values():
                old.shutdown(wait=False)
            _pools.clear()
            _pools[width] = ThreadPoolExecutor(width, "zarr-vectors-lazy")
        return _pools[width]


def gather(call: Callable[[Any], T], items: Sequence[Any], where: str = "") -> list[T]:
    """Results of ``call`` for all items, in order; the first failure is raised, and cancels those not yet begun.

    If there is no result for a while, a warning says what is awaited, and ``where``.
    """
    job = _Job(call, items)
    try:
        pool = current_pool()
        for _ in range(min(len(items), request_width())):
            pool.submit(job.work)
    except RuntimeError:  # the interpreter shuts down, the pool was just replaced, or there are no more threads
        job.work()
    return job.wait(where)


def finished(coroutine: Coroutine[Any, Any, T]) -> T:
    """Result of a coroutine that never waits, so that code shared by threads and the loop can run on a thread."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError("it waits")


async def on_thread(call: Callable[[Any], T], item: Any) -> T:
    """Result of ``call`` for one item, on a thread, awaited on an event loop."""
    return await asyncio.wrap_future(current_pool().submit(call, item))


def request_width() -> int:
    """Most requests in flight: the setting, but at most a third of the files that may be open (256 on macOS)."""
    width = max(1, int(setting("max-requests")))
    return width if resource is None else min(width, max(4, (_open_files() - RESERVED) // 3))


def idle_width() -> int:
    """Connections that one client keeps for later requests; several clients do so at the same time."""
    width = request_width()
    return width if resource is None else min(width, max(2, (_open_files() - RESERVED) // 16))


def kept_clients(most: int) -> int:
    """How many clients with their own connections are kept, so that these and requests fit in the open files."""
    if resource is None:
        return most
    return max(2, min(most, (_open_files() - RESERVED - request_width()) // idle_width() - 2))


def _open_files() -> int:
    soft: int = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 2**20 if soft < 0 else soft  # RLIM_INFINITY


def warn_of_silence(where: str) -> None:
    """Warn that nothing has come yet, and say what is done about it."""
    policy = RetryPolicy.of_settings()
    warnings.warn(
        f"no answer from {where} for {SILENCE_S:g} s (is the address right?); failed requests are tried again, for "
        f"up to {policy.total_s:g} s (settings zarr_vectors_lazy.retries, retry-timeout, read-timeout)",
        ZVWarning,
        stacklevel=2,
    )


class _Job(Generic[T]):
    """Items of one call, from which the threads draw; cheaper than a future for each."""

    def __init__(self, call: Callable[[Any], T], items: Sequence[Any]) -> None:
        self._call = call
        self._items = items
        self._results: list[Any] = [None] * len(items)
        self._next = itertools.count()  # next() is atomic
        self._left = len(items)
        self._error: BaseException | None = None
        self._lock = threading.Lock()
        self._over = threading.Event()

    def work(self) -> None:
        while self._error is None and (index := next(self._next)) < len(self._items):
            try:
                self._results[index] = self._call(self._items[index])
            except BaseException as error:  # noqa: BLE001  relayed whole to the thread that waits
                self._error = error
                self._over.set()
                return
            with self._lock:
                self._left -= 1
                last = self._left == 0
            if last:
                self._over.set()

    def wait(self, where: str) -> list[T]:
        try:
            if not self._over.wait(SILENCE_S) and where and self._left == len(self._items):
                warn_of_silence(where)
            self._over.wait()
        except BaseException as error:
            self._error = error  # an interrupt of the waiting thread also ends the work
            raise
        if self._error is not None:
            raise self._error
        return self._results


# The one event loop of this process, on which everything asynchronous runs, in a thread of ours.


def event_loop() -> asyncio.AbstractEventLoop:
    """Return the loop of this process, which is started on first use."""
    with _lock:
        if not _loops:
            _loops.append(asyncio.new_event_loop())
            # A daemon, so that the interpreter can end without waiting for the network.
            threading.Thread(target=_loops[0].run_forever, name="zarr-vectors-lazy-loop", daemon=True).start()
        return _loops[0]


def creating() -> asyncio.Lock:
    """Return a lock of our loop, for what only one coroutine may do at a time."""
    return _creating


def run(coroutine: Coroutine[Any, Any, T], where: str = "") -> T:
    """Run ``coroutine`` on our loop while the calling thread waits; return its result.

    If that takes a while, a warning says what is awaited at ``where``.

    Notes
    -----
    This may be called where another event loop runs (Jupyter), but never from a coroutine on our own loop.
    """
    future = asyncio.run_coroutine_threadsafe(coroutine, event_loop())
    try:
        if where and not wait([future], SILENCE_S).done:
            warn_of_silence(where)
        return future.result()
    except BaseException:
        future.cancel()  # an interrupt of the waiting thread also ends the work
        raise


def post(coroutine: Coroutine[Any, Any, None]) -> "Future[None]":
    """Run ``coroutine`` on our loop without waiting for it; may be called from anywhere, even a garbage collection."""
    return asyncio.run_coroutine_threadsafe(coroutine, event_loop())


async def gather_async(call: Callable[[Any], Coroutine[Any, Any, T]], items: Sequence[Any]) -> list[T]:
    """Results of ``call`` for all items, concurrently; the first failure cancels the rest."""
    tasks = [asyncio.ensure_future(call(item)) for item in items]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def slot() -> asyncio.Semaphore:
    """Return the semaphore for ``max-requests`` requests in flight: ``async with slot(): ...`` on our loop."""
    width = request_width()
    if width not in _slots:
        _slots.clear()
        _slots[width] = asyncio.Semaphore(width)
    return _slots[width]
