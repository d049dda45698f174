"""The pool that blocking requests run on."""

import asyncio
import threading

import dask
import pytest

from tests.bounds import HANGS_S
from zarr_vectors_lazy.storage import io


@pytest.fixture
def width():
    """Three threads, of a pool of this test's own."""
    with dask.config.set({"zarr_vectors_lazy.max-requests": 3}):
        io._pools.clear()
        yield 3


def together(n):
    """Wait until n calls of this run at once; it fails after a while."""
    barrier = threading.Barrier(n)

    def call(item):
        barrier.wait(timeout=HANGS_S)
        return item * 10

    return call


@pytest.mark.usefixtures("width")
def test_as_many_run_at_once_as_the_pool_is_wide():
    assert io.gather(together(3), range(6)) == [0, 10, 20, 30, 40, 50]
    with pytest.raises(threading.BrokenBarrierError):
        io.gather(lambda _: threading.Barrier(1).wait() or threading.Barrier(4).wait(timeout=0.1), range(4))


@pytest.mark.usefixtures("width")
def test_the_first_failure_is_raised_and_what_has_not_begun_is_left():
    begun = []

    def call(item):
        begun.append(item)
        raise OSError(f"number {item}")

    with pytest.raises(OSError, match="number"):
        io.gather(call, range(100))
    io.current_pool().shutdown()
    assert len(begun) <= 3


@pytest.mark.usefixtures("width")
def test_fewer_threads_than_wanted_do_the_work(monkeypatch):
    start, started = threading.Thread.start, []

    def one(thread):
        if started:
            raise RuntimeError("can't start new thread")
        started.append(start(thread))

    monkeypatch.setattr(threading.Thread, "start", one)
    assert io.gather(lambda item: -item, range(5)) == [0, -1, -2, -3, -4]


@pytest.mark.usefixtures("width")
@pytest.mark.parametrize("how", ["closed", "no thread"])
def test_without_threads_the_caller_does_the_work(monkeypatch, how):
    def none(_):
        raise RuntimeError("can't start new thread")

    if how == "closed":
        io.current_pool().shutdown()
    else:
        monkeypatch.setattr(threading.Thread, "start", none)
    me = threading.get_ident()
    assert io.gather(lambda _: threading.get_ident(), range(5)) == [me] * 5


def test_a_pool_that_is_replaced_ends_what_it_has():
    release = threading.Event()
    with dask.config.set({"zarr_vectors_lazy.max-requests": 2}):
        old = io.current_pool()
        old.submit(release.wait)
    with dask.config.set({"zarr_vectors_lazy.max-requests": 3}):
        assert io.current_pool() is not old
    with pytest.raises(RuntimeError, match="shutdown"):
        old.submit(release.wait)
    release.set()
    old.shutdown()


def test_a_coroutine_waits_for_a_thread():
    async def ask():
        return await asyncio.gather(*(io.on_thread(call, item) for item in (1, 2)), return_exceptions=True)

    def call(item):
        if item == 2:
            raise OSError("two")
        return item

    one, two = asyncio.run(ask())
    assert one == 1
    assert str(two) == "two"
