import re

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.format.encode import outcome, thorough
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.base import parse_chunk_keys

component = st.integers(-(10**18) + 1, 10**18 - 1)


@pytest.mark.parametrize("rank", [1, 2, 3, 4])
def test_keys_come_back_in_their_order(rank):
    @thorough
    @given(st.lists(st.tuples(*[component] * rank), max_size=20))
    def holds(coords):
        parsed = parse_chunk_keys([".".join(map(str, coord)) for coord in coords], rank)
        assert parsed.dtype == np.int64
        assert parsed.shape == (len(coords), rank)
        assert list(map(tuple, parsed.tolist())) == coords

    holds()


def naive(keys, rank):
    """Coordinates, or None where a key is malformed."""
    if not all(re.fullmatch(rf"-?[0-9]{{1,18}}(\.-?[0-9]{{1,18}}){{{rank - 1}}}", key) for key in keys):
        return None
    return [[int(part) for part in key.split(".")] for key in keys]


@thorough
@given(st.lists(st.text("0123456789.--\n +_e", max_size=9), min_size=1, max_size=3), st.integers(1, 3))
@example(["1.2\n3.4"], 2)
@example(["1\n2", "3"], 1)
@example(["1.2", "3", "4.5.6"], 2)
@example(["1.2.3", "4"], 2)
@example(["1-", "2"], 1)
@example(["1", "-"], 1)
@example(["--1"], 1)
@example(["1."], 2)
@example([".1"], 2)
@example([""], 1)
@example(["1" * 19], 1)
@example(["0", "1" * 18], 1)
def test_malformed_keys_are_a_format_error_that_names_one(keys, rank):
    expected = naive(keys, rank)
    result = outcome(lambda: parse_chunk_keys(keys, rank, where="0/vertices").tolist())
    if expected is None:
        assert isinstance(result, FormatError)
        assert result.where == "0/vertices"
        bad = [key for key in keys if naive([key], rank) is None]
        assert repr(bad[0]) in result.message
    else:
        assert result == expected


@pytest.mark.parametrize(
    "keys", [[1, 2], ["1.2", None], [["1", "2"]], ["\u0661.\u0662"], ["1.2", "½.1"], [{}], ["1.\udc80"]]
)
def test_keys_that_are_no_text_of_digits(keys):
    with pytest.raises(FormatError, match="must be text"):
        parse_chunk_keys(keys, 2)


def test_no_keys():
    assert parse_chunk_keys([], 3).shape == (0, 3)
