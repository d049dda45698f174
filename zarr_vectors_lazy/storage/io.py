"""Where requests wait: threads for blocking clients, one event loop for the others."""

import _thread
import asyncio
import atexit
import itertools
import os
import threading
import warnings
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future, wait
from functools import partial
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from zarr_vectors_lazy.errors import ZVWarning
from zarr_vectors_lazy.settings import setting
from zarr_vectors_lazy.storage.retry import RetryPolicy

# Blocking requests on threads: the pool's size is the number of requests in flight.
#
# Measured with obstore, 512 objects of 23 KB behind 30 ms, 128 in flight: 0.17 s and 0.12 s of CPU here, 0.26 s and
# 0.27 s of CPU as coroutines on an event loop.

resource: Any
try:
    import resource
except ImportError:  # Windows
    resource = None

RESERVED = 64  # open files that are left to everything else
SILENCE_S = 8.0

T = TypeVar("T")


class Pool:
    """Threads that run what is submitted, started as there is work for them.

    Not `threading.Thread`s, nor an executor, which has those: each start of one waits for the new thread to answer, and
    256 of them take 60 to 250 ms, of these 6 ms.

    Parameters
    ----------
    width
        Threads at most.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._changed = threading.Condition(threading.Lock())
        self._started = 0
        self._load = 0  # what was submitted and is not done
        self._closed = False

    def submit(self, work: Callable[[], None]) -> None:
        """Run ``work``, which raises nothing, on one of the threads.

        Raises
        ------
        RuntimeError
            If the pool is closed, or the system gives not even one thread.
        """
        with self._changed:
            if self._closed:
                raise RuntimeError("the pool is closed")
            if self._load >= self._started and self._started < self._width:
                self._start()
            self._load += 1
            self._queue.put(work)

    def close(self) -> None:
        """Take no more work; the threads end once they have done what they have."""
        with self._changed:
            self._closed = True
            for _ in range(self._started):
                self._queue.put(None)

    def wait(self) -> None:
        """Wait until all work is done."""
        with self._changed:
            self._changed.wait_for(lambda: not self._load)

    def _start(self) -> None:
        try:
            _thread.start_new_thread(self._serve, ())
        except RuntimeError:
            if not self._started:  # fewer do it, too
                raise
        else:
            self._started += 1

    def _serve(self) -> None:
        while (work := self._queue.get()) is not None:
            work()
            del work
            with self._changed:
                self._load -= 1
                if not self._load:
                    self._changed.notify_all()


_lock = threading.Lock()
_pools: dict[int, Pool] = {}  # one, by its width


def _forked() -> None:
    global _lock  # noqa: PLW0603  the child has none of the threads, and a lock that one of them may have held
    _lock = threading.Lock()
    _pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


@atexit.register
def _finish() -> None:
    # The interpreter ends such threads wherever they are, which a client's native code need not survive.
    for pool in list(_pools.values()):
        pool.close()
        pool.wait()


def current_pool() -> Pool:
    """Return the pool of this process, as wide as ``max-requests`` says now."""
    width = request_width()
    with _lock:
        if width not in _pools:
            for old in _pools.values():
                old.close()
            _pools.clear()
            _pools[width] = Pool(width)
        return _pools[width]


def gather(call: Callable[[Any], T], items: Sequence[Any], where: str = "") -> list[T]:
    """Results of ``call`` for all items, in order; the first failure is raised and cancels what has not begun.

    Where none is there for a while, a warning says what is waited for, and ``where``.
    """
    job = _Job(call, items)
    try:
        pool = current_pool()
        for _ in range(min(len(items), request_width())):
            pool.submit(job.work)
    except RuntimeError:  # the interpreter is shutting down, or the pool was just replaced: here, one after another
        job.work()
    return job.wait(where)


async def on_thread(call: Callable[[Any], T], item: Any) -> T:
    """Result of ``call`` for one item, awaited on an event loop."""
    future: Future[T] = Future()
    current_pool().submit(partial(_relay, future, call, item))
    return await asyncio.wrap_future(future)


def _relay(future: "Future[T]", call: Callable[[Any], T], item: Any) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(call(item))
    except BaseException as error:  # noqa: BLE001  relayed whole to the coroutine that waits
        future.set_exception(error)


def request_width() -> int:
    """Requests in flight, at most: the setting, and a third of the files that may be open (of 256 on macOS)."""
    width = max(1, int(setting("max-requests")))
    return width if resource is None else min(width, max(4, (_open_files() - RESERVED) // 3))


def idle_width() -> int:
    """Connections that one client keeps for the next requests: several clients have them at a time."""
    width = request_width()
    return width if resource is None else min(width, max(2, (_open_files() - RESERVED) // 16))


def kept_clients(most: int) -> int:
    """Clients with connections of their own that are kept: those, and the requests in flight, fit in the open files."""
    if resource is None:
        return most
    return max(2, min(most, (_open_files() - RESERVED - request_width()) // idle_width() - 2))


def _open_files() -> int:
    soft: int = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 2**20 if soft < 0 else soft  # RLIM_INFINITY


def warn_of_silence(where: str) -> None:
    """Say that nothing has come yet, and what is done about it."""
    patience = RetryPolicy.of_settings()
    warnings.warn(
        f"no answer from {where} for {SILENCE_S:g} s; what fails is tried again, for up to {patience.total_s:g} s "
        "(settings zarr_vectors_lazy.retries, retry-timeout, read-timeout)",
        ZVWarning,
        stacklevel=2,
    )


class _Job(Generic[T]):
    """Items of one call, which the threads draw from; cheaper than a future each."""

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
            self._error = error  # an interrupt of the waiting thread ends the work, too
            raise
        if self._error is not None:
            raise self._error
        return self._results


# The one event loop of this process on which everything asynchronous runs, in a thread of ours.

_loop_lock = threading.RLock()  # a garbage collection inside it may close a connection
_loops: dict[int, asyncio.AbstractEventLoop] = {}  # by process id: a forked child has no thread that runs ours
_locks: dict[int, asyncio.Lock] = {}  # likewise
_waiting: deque[asyncio.Future[None]] = deque()
_in_flight = 0


def _loop_forked() -> None:
    global _loop_lock, _in_flight  # noqa: PLW0603  the child begins with nothing in flight and nobody holding the lock
    _loop_lock = threading.RLock()
    _in_flight = 0
    _waiting.clear()
    _loops.clear()
    _locks.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_loop_forked)


def event_loop() -> asyncio.AbstractEventLoop:
    """Return the loop of this process; it is started on first use."""
    with _loop_lock:
        loop = _loops.get(os.getpid())
        if loop is None:
            loop = _loops[os.getpid()] = asyncio.new_event_loop()
            # A daemon: the end of the interpreter does not wait for an answer from the network.
            threading.Thread(target=loop.run_forever, name="zarr-vectors-lazy-loop", daemon=True).start()
        return loop


def lock() -> asyncio.Lock:
    """Return the lock of our loop, for what only one coroutine at a time may do."""
    return _locks.setdefault(os.getpid(), asyncio.Lock())


def run(coroutine: Coroutine[Any, Any, T], where: str = "") -> T:
    """Run ``coroutine`` on our loop while the calling thread waits; return its result.

    Where that takes a while, a warning says what is waited for at ``where``.

    Notes
    -----
    It may be called where another event loop runs (Jupyter), never from a coroutine on our own loop.
    """
    future = asyncio.run_coroutine_threadsafe(coroutine, event_loop())
    try:
        if where and not wait([future], SILENCE_S).done:
            warn_of_silence(where)
        return future.result()
    except BaseException:
        future.cancel()  # an interrupt of the waiting thread ends the work, too
        raise


def post(coroutine: Coroutine[Any, Any, None]) -> "Future[None]":
    """Run ``coroutine`` on our loop without waiting for it; called from anywhere, a garbage collection included."""
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


class Slot:
    """One of the ``max-requests`` requests in flight: ``async with Slot(): ...`` on our loop."""

    async def __aenter__(self) -> None:
        global _in_flight  # noqa: PLW0603  touched by the loop's thread only
        while _in_flight >= request_width():
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            _waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    _wake()  # the turn was given to us: pass it on
                raise
        _in_flight += 1

    async def __aexit__(self, *_: object) -> None:
        global _in_flight  # noqa: PLW0603  touched by the loop's thread only
        _in_flight -= 1
        _wake()


def _wake() -> None:
    while _waiting:
        turn = _waiting.popleft()
        if not turn.done():
            turn.set_result(None)
            return
