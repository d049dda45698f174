"""Limits on the memory and time of a block of code."""

import signal
import time
import tracemalloc
from contextlib import contextmanager

import pytest

HANGS_S = 120  # what takes longer never ends: a busy machine is slow to start a process, or to run a thread


def comes_true(condition):
    """Whether a condition is met within `HANGS_S`."""
    end = time.monotonic() + HANGS_S
    while not (met := condition()) and time.monotonic() < end:
        time.sleep(0.01)
    return met


@contextmanager
def at_most(nbytes, what=""):
    """Fail if NumPy and Python allocate more memory than that in the block."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] <= nbytes, what
    finally:
        tracemalloc.stop()


@contextmanager
def within(seconds, what):
    """Fail if the block takes longer, so that an endless wait does not stop the suite."""

    def end(*_):
        pytest.fail(f"no end after {seconds} s: {what}")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
