import asyncio

import pytest
from zarr.abc.store import RangeByteRequest
from zarr.buffer import default_buffer_prototype
from zarr.storage import MemoryStore, WrapperStore

from zarr_vectors_lazy.errors import StoreError
from zarr_vectors_lazy.storage.base import check_length, of_range
from zarr_vectors_lazy.storage.fetch import connect, fetch
from zarr_vectors_lazy.storage.requests import Get
from zarr_vectors_lazy.storage.resolve import resolve
from zarr_vectors_lazy.storage.retry import RetryPolicy, retrying
from zarr_vectors_lazy.testing import Fault, FaultyStore

DATA = bytes(range(100))


@pytest.mark.parametrize(
    ("data", "told", "start", "stop", "expected"),
    [
        (DATA, None, 10, 20, DATA[10:20]),
        (DATA, None, -5, None, DATA[-5:]),
        (DATA[10:20], "bytes 10-19/100", 10, 20, DATA[10:20]),
        (DATA[10:20], "bytes 10-19/*", 10, 20, DATA[10:20]),
        (DATA[90:], "bytes 90-99/100", 90, 120, DATA[90:]),
        (DATA[90:], "bytes 90-99/100", 90, None, DATA[90:]),
        (DATA[95:], "bytes 95-99/100", -5, None, DATA[95:]),
        (DATA, "bytes 0-99/100", -500, None, DATA),
    ],
)
def test_the_range_that_was_asked_for(data, told, start, stop, expected):
    assert of_range(data, told, start, stop) == expected


@pytest.mark.parametrize(
    ("data", "told", "start", "stop"),
    [
        (DATA[11:21], "bytes 11-20/100", 10, 20),
        (DATA[10:15], "bytes 10-14/100", 10, 20),
        (DATA[10:15], "bytes 10-14/*", 10, 20),
        (DATA[10:15], "bytes 10-19/100", 10, 20),
        (DATA[90:95], "bytes 90-94/100", 90, None),
        (DATA[94:99], "bytes 94-98/100", -5, None),
        (DATA[:5], "bytes=0-4", 0, 5),
    ],
)
def test_another_range(data, told, start, stop):
    with pytest.raises(OSError, match="requested"):
        of_range(data, told, start, stop)


def test_more_than_was_asked_for():
    assert check_length(DATA, 0, 100) == check_length(DATA, 5, None) == check_length(DATA, -100, None) == DATA
    for start, stop in ((0, 99), (-99, None)):
        with pytest.raises(OSError, match="99 bytes were requested, but 100 came"):
            check_length(DATA, start, stop)


@pytest.mark.parametrize("get", [Get("a", 10, 20), Get("a", -5)], ids=str)
def test_a_store_object_that_answers_the_whole(get):
    memory = MemoryStore({"a": default_buffer_prototype().buffer.from_bytes(DATA)})
    with pytest.raises(StoreError, match="were requested, but 100 came"):
        fetch(connect(resolve(FaultyStore(memory, [Fault(kind="whole")]))), [get])


class Strict(WrapperStore):
    """Refuses ranges that end past the object, as IcechunkStore does."""

    async def get(self, key, prototype, byte_range=None):
        whole = await super().get(key, prototype)
        if isinstance(byte_range, RangeByteRequest) and whole is not None and byte_range.end > len(whole):
            raise ValueError("out of bounds")
        return await super().get(key, prototype, byte_range)


def test_a_store_object_that_refuses_ranges_past_the_end():
    memory = MemoryStore({"a": default_buffer_prototype().buffer.from_bytes(DATA)})
    gets = [Get("a", 90, 100), Get("a", 90, 120), Get("a", 110, 120), Get("b", 0, 5)]
    assert fetch(connect(resolve(Strict(memory))), gets) == [DATA[90:], DATA[90:], b"", None]


def attempts(policy, *pauses):
    """How many attempts are made where each fails, and the error says how long to wait."""
    waits, made = iter(pauses), []

    async def attempt():
        made.append(1)
        raise OSError

    with pytest.raises(OSError):  # noqa: PT011
        asyncio.run(retrying(attempt, policy, (OSError,), lambda _error: next(waits, None)))
    return len(made)


def test_patience_ends():
    assert attempts(RetryPolicy(5, 60, 1)) == 1
    assert attempts(RetryPolicy(5, 60, 1), 0) == 2
    assert attempts(RetryPolicy(1, 60, 1), 0, 0, 0) == 2
    assert attempts(RetryPolicy(5, 60, 1), 61) == 1  # the server says to wait longer than the limit
    assert attempts(RetryPolicy(5, 0.01, 1), 0) == 1
