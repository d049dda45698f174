"""What a process keeps in memory for reuse."""

import pytest

from zarr_vectors_lazy.settings import Recent


def test_what_was_used_last_is_kept():
    kept = Recent(2)
    for key in "ab":
        kept.put(key, key.upper())
    assert kept.get("a") == "A"
    kept.put("c", "C")
    assert [kept.get(key) for key in "abc"] == ["A", None, "C"]


def test_the_sizes_of_all_are_limited_but_not_that_of_the_last():
    kept = Recent(10, len)
    kept.put("a", "123456")
    kept.put("a", "1234")
    kept.put("b", "123456")
    assert kept.get("a") == "1234"
    kept.put("c", "x" * 99)
    assert [kept.get(key) for key in "abc"] == [None, None, "x" * 99]
    kept.put("d", "1234")
    assert [kept.get(key) for key in "cd"] == [None, "1234"]


def test_a_value_is_made_once():
    kept = Recent(2)
    assert kept.make("a", lambda: 1) == 1
    assert kept.make("a", lambda: pytest.fail("made again")) == 1
    kept.clear(lambda key: key == "a")
    assert kept.make("a", lambda: 2) == 2
