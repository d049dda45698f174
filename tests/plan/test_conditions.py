import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.plan.selection import missing_in, parse_test

ID = 720575940631797753
LARGE = np.array([ID - 1, ID, ID + 1, ID + 246, -ID, 0])


def rows(column, wanted, fill=None):
    column = np.asarray(column)
    return np.flatnonzero(parse_test("a", wanted, column.dtype, fill)(column)).tolist()


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ((None, None), [0, 1, 2, 3]),
        ((2, None), [1, 2, 3]),
        ((None, 2), [0, 1]),
        (slice(2, 3), [1, 2]),
        (slice(None, 3), [0, 1, 2]),
        ((1.5, 3.5), [1, 2]),
        ((-np.inf, np.inf), [0, 1, 2, 3]),
        ((-(2**70), 2**70), [0, 1, 2, 3]),
        ([1, 4], [0, 3]),
        ([1, 2, 3], [0, 1, 2]),
        ({4}, [3]),
        (frozenset({4, 9}), [3]),
        (np.array([1, 4]), [0, 3]),
        (np.array([1.0, 4.5, np.inf]), [0]),
        (range(2, 4), [1, 2]),
        ({2: "a"}.keys(), [1]),
        (pa.array([2, None]), [1]),
        ([], []),
        (2, [1]),
        (np.uint8(2), [1]),
        (np.array(2), [1]),
        (2.0, [1]),
        (2.5, []),
        (2**70, []),
        (True, [0]),
        (None, []),
        ([None, 2], [1]),
    ],
)
def test_of_whole_numbers(wanted, expected):
    assert rows([1, 2, 3, 4], wanted) == expected
    assert rows(np.array([1, 2, 3, 4], "u8"), wanted) == expected
    assert rows(np.array([1, 2, 3, 4], "i1"), wanted) == expected


def test_of_whole_numbers_that_no_float_holds():
    assert rows(LARGE, ID) == [1]
    assert rows(LARGE, (ID, ID)) == [1]
    assert rows(LARGE, [ID, ID + 246]) == [1, 3]
    assert rows(LARGE, np.array([ID, 5], "u8")) == [1]
    assert rows(LARGE, (np.int64(ID), None)) == [1, 2, 3]
    assert rows(LARGE.astype("u8"), (ID + 1, 2**64 - 1)) == [2, 3, 4]
    assert rows(np.array([2**53, 2**53 + 1]), (None, float(2**53))) == [0]


def test_of_text_by_code_points():
    text = ["L4", "Sst", "L5 PT", "", "lamp5", "é"]
    assert rows(text, "L4") == [0]
    assert rows(text, ["L4", "Sst", "none"]) == [0, 1]
    assert rows(text, ("L4", "M")) == [0, 2]
    assert rows(text, ("a", None)) == [4, 5]
    assert rows(text, "") == rows(text, None) == rows(text, ("", "")) == [3]
    assert rows(text, []) == []


def test_of_fractions_and_truth_values():
    values = np.array([0.1, np.nan, 0.5, np.inf], "f4")
    assert rows(values, None) == [1]
    assert rows(values, (None, None)) == [0, 2, 3]
    assert rows(values, (0.2, None)) == [2, 3]
    assert rows(values, 0.1) == rows(values, np.float32(0.1)) == rows(values, [0.1, 1e300]) == [0]
    assert rows(values, [None, 0.5]) == [1, 2]
    assert rows(values, np.inf) == [3]
    assert rows([True, False], True) == rows([True, False], 1) == rows([True, False], [True]) == [0]
    assert rows([True, False], (False, False)) == [1]
    assert rows([1 + 1j, 2], 1 + 1j) == [0]


def test_of_times():
    times = np.array(["2026-01-01", "NaT", "2026-03-01"], "M8[ns]")
    assert rows(times, (np.datetime64("2026-01-01"), np.datetime64("2026-02-01"))) == [0]
    assert rows(times, ["2026-03-01"]) == rows(times, times[2:]) == [2]
    assert rows(times, None) == [1]
    fine = np.array(["2026-01-01T00:00:00.000000001"], "M8[ns]")
    assert rows(fine, pd.Timestamp(fine[0])) == rows(fine, fine[0]) == [0]
    assert rows(np.array([1, 2], "m8[s]"), pd.Timedelta(2, "s")) == [1]
    for wanted in (5, 5.0, (1, 2), pd.Timestamp("2026-01-01", tz="UTC")):
        with pytest.raises(SelectionError, match="cannot be compared"):
            rows(times, wanted)


def test_a_stored_integer_may_say_that_a_value_is_missing():
    fill = np.iinfo("i8").min
    values = np.array([fill, ID, 3])
    assert rows(values, None, fill) == [0]
    assert rows(values, (None, 5), fill) == [2]
    assert rows(values, (None, None), fill) == [1, 2]
    assert rows(values, [ID, None], fill) == [0, 1]
    assert rows(values, [ID], fill) == [1]


def test_of_vectors_all_values_lie_in_the_range():
    vectors = np.array([[1, 2], [1, 5]])
    assert rows(vectors, (1, 3)) == [0]
    assert rows(np.empty((0, 3)), (1, 3)) == []
    with pytest.raises(SelectionError, match="each vertex has 2 values"):
        rows(vectors, 1)


@pytest.mark.parametrize(
    ("column", "wanted", "words"),
    [
        ([1], (1,), "range"),
        ([1], (1, 2, 3), "use a list to match several"),
        ([1], (3, 1), "lo > hi"),
        (["a"], ("b", "a"), "lo > hi"),
        ([1], slice(1, 2, 3), "step"),
        ([1], ("a", 2), "int64 cannot be compared with 'a'"),
        ([1.0], [1, "a"], "float64 cannot be compared with 'a'"),
        (["a"], 1, "text cannot be compared with 1"),
        (["a"], [b"a"], "text cannot be compared"),
        ([True], "yes", "bool cannot be compared"),
        ([1], (np.nan, 2), "NaN.*None"),
        ([1.0], np.nan, "NaN"),
        ([1.0], np.array([1, np.nan]), "NaN"),
        ([1], np.zeros((2, 2)), "one dimension"),
        ([1], {"lo": 1}, "range"),
        ([1], 1j, "cannot be compared"),
        ([1], object(), "cannot be compared"),
        (np.array(["2026"], "M8[s]"), "soon", "cannot be compared with 'soon'"),
    ],
)
def test_what_is_no_value_of_the_attribute(column, wanted, words):
    with pytest.raises(SelectionError, match=words):
        rows(column, wanted)


def test_a_long_list_does_not_fill_the_message():
    with pytest.raises(SelectionError) as caught:
        rows(["a"], list(range(10**5)))
    assert len(str(caught.value)) < 400


whole = st.integers(-(2**63), 2**63 - 1)


@given(st.lists(whole, min_size=1), st.lists(whole, max_size=5), whole, whole)
def test_against_python(values, some, a, b):
    lo, hi = min(a, b), max(a, b)
    column = np.array(values, np.int64)
    assert rows(column, some + values[:1]) == [i for i, v in enumerate(values) if v in {*some, values[0]}]
    assert rows(column, (lo, hi)) == [i for i, v in enumerate(values) if lo <= v <= hi]


def test_what_is_missing():
    assert missing_in(np.array([1, 2])).tolist() == [False, False]
    assert missing_in(np.array([1, 2]), 2).tolist() == [False, True]
