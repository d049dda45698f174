"""The one event loop of this process on which everything asynchronous runs, in a thread of ours."""

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import wait
from typing import TYPE_CHECKING, Any, TypeVar

from zarr_vectors_lazy.storage.threads import SILENCE_S, request_width, warn_of_silence

if TYPE_CHECKING:
    from concurrent.futures import Future

T = TypeVar("T")

_lock = threading.RLock()  # a garbage collection inside it may close a connection
_loops: dict[int, asyncio.AbstractEventLoop] = {}  # by process id: a forked child has no thread that runs ours
_locks: dict[int, asyncio.Lock] = {}  # likewise
_waiting: deque[asyncio.Future[None]] = deque()
_in_flight = 0


def _forked() -> None:
    global _lock, _in_flight  # noqa: PLW0603  the child begins with nothing in flight and nobody holding the lock
    _lock = threading.RLock()
    _in_flight = 0
    _waiting.clear()
    _loops.clear()
    _locks.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def event_loop() -> asyncio.AbstractEventLoop:
    """Return the loop of this process; it is started on first use."""
    with _lock:
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


async def gather(call: Callable[[Any], Coroutine[Any, Any, T]], items: Sequence[Any]) -> list[T]:
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
