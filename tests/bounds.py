"""Bounds on what a block may take."""

import tracemalloc
from contextlib import contextmanager


@contextmanager
def at_most(nbytes):
    """Fail if NumPy and Python take more memory than that meanwhile."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] <= nbytes
    finally:
        tracemalloc.stop()
