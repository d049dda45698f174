from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.format.encode import thorough
from zarr_vectors_lazy.kernels.bins import Groups, aggregate, group_by, summed_weights, sums, weighted_means

rows = st.lists(st.tuples(st.integers(0, 5), st.integers(-3, 3), st.integers(1, 9)), min_size=1, max_size=30)


def made(drawn, ordered=False):
    keys, values, weights = (np.array(column) for column in zip(*(sorted(drawn) if ordered else drawn), strict=True))
    groups, found = group_by(keys, 6)
    if ordered:  # as of paths, whose groups are runs
        groups = Groups(groups.labels, groups.count, np.flatnonzero(np.diff(groups.labels, prepend=-1)))
    return groups, found, keys, values, weights


@pytest.mark.parametrize("bound", [6, 10**12])
@thorough
@given(rows)
def test_rows_with_equal_keys(bound, drawn):
    keys = np.array([key for key, *_ in drawn])
    groups, found = group_by(keys, bound)
    assert found.tolist() == sorted(set(keys.tolist()))
    assert found[groups.labels].tolist() == keys.tolist()
    assert groups.sizes.tolist() == [Counter(keys.tolist())[key] for key in found.tolist()]
    assert keys[groups.order].tolist() == sorted(keys.tolist())
    assert (np.diff(groups.order)[np.diff(keys[groups.order]) == 0] > 0).all()


@pytest.mark.parametrize("ordered", [False, True])
@thorough
@given(rows)
def test_every_rule_against_one_group_at_a_time(ordered, drawn):
    groups, found, keys, values, weights = made(drawn, ordered)
    for i, key in enumerate(found.tolist()):
        mine, w = values[keys == key], weights[keys == key]
        total = Counter()
        for value, weight in zip(mine.tolist(), w.tolist(), strict=True):
            total[value] += weight
        best = next(value for value in mine.tolist() if total[value] == max(total.values()))
        mean = Fraction(int((mine * w).sum()), int(w.sum()))
        assert aggregate(groups, values, weights, "mode")[i] == best
        assert aggregate(groups, values, weights, "min")[i] == mine.min()
        assert aggregate(groups, values, weights, "max")[i] == mine.max()
        assert aggregate(groups, values, weights, "sum")[i] == mine.sum()
        assert aggregate(groups, values, weights, "first")[i] == mine[0]
        assert aggregate(groups, values, weights, "mean")[i] == round(mean)
        assert aggregate(groups, values.astype("f8"), weights, "mean")[i] == pytest.approx(float(mean), rel=1e-15)
        assert sums(groups, weights)[i] == summed_weights(groups, weights)[i] == w.sum()


def test_vectors_are_joined_column_by_column():
    groups = Groups(np.array([0, 1, 0]), 2)
    values = np.array([[1, 5], [2, 6], [3, 5]], "u1")
    assert aggregate(groups, values, None, "mean").tolist() == [[2, 5], [2, 6]]
    assert aggregate(groups, values, None, "mode").tolist() == [[1, 5], [2, 6]]
    assert aggregate(groups, values, None, "max").dtype == np.uint8
    assert aggregate(groups, values, None, "sum").dtype == np.uint64


def test_a_tie_goes_to_the_row_that_is_picked():
    groups, values = Groups(np.array([0, 0, 0, 0, 1, 1]), 2), np.array([7, 9, 7, 9, 1, 2])
    assert aggregate(groups, values, None, "mode", np.array([5, 1, 3, 2, 9, 8], "u8")).tolist() == [9, 2]
    assert aggregate(groups, values, None, "mode", np.array([5, 4, 3, 4, 8, 9], "u8")).tolist() == [7, 1]
    assert aggregate(groups, values, np.array([1, 1, 2, 1, 1, 1]), "mode", np.arange(6, 0, -1).astype("u8"))[0] == 7
    assert aggregate(groups, values, None, "mode", np.zeros(6, "u8")).tolist() == [7, 1]


@pytest.mark.parametrize("dtype", ["i8", "u8"])
def test_means_of_whole_numbers_of_64_bits(dtype):
    far = 2**63 - 5 if dtype == "i8" else 2**64 - 5
    groups, values = Groups(np.array([0, 0, 0, 1, 1]), 2), np.array([far, far + 1, far + 4, 1, 2], dtype)
    assert aggregate(groups, values, None, "mean").tolist() == [far + 2, 2]
    assert aggregate(groups, values, np.array([1, 5, 1, 3, 1]), "mean").tolist() == [far + 1, 1]
    apart = aggregate(Groups(np.zeros(2, np.int64), 1), np.array([0, far], dtype), None, "mean")
    assert apart.dtype == dtype
    assert abs(int(apart[0]) - far // 2) <= 2**10


def test_text_has_a_mode_and_a_first():
    groups = Groups(np.array([0, 0, 0, 1]), 2)
    values = np.array(["b", "a", "a", ""])
    assert aggregate(groups, values, np.array([3, 1, 1, 1]), "mode").tolist() == ["b", ""]
    assert aggregate(groups, values, None, "mode").tolist() == ["a", ""]
    assert aggregate(groups, values, None, "first").tolist() == ["b", ""]


def test_sums_run_in_the_order_of_the_rows():
    values = np.array([1e16, 1.0, -1e16, 1.0])
    groups = Groups(np.zeros(4, np.int64), 1)
    assert sums(groups, values)[0] == ((1e16 + 1.0) - 1e16 + 1.0)


def test_means_of_many_large_values_are_exact():
    values = np.random.default_rng(0).random(10_000) + 1e7
    exact = Fraction(sum(map(Fraction, values.tolist())), len(values))
    found = weighted_means(Groups(np.zeros(len(values), np.int64), 1), values, None)[0]
    assert abs(Fraction(found) - exact) <= Fraction(np.spacing(1e7))
    infinite = weighted_means(Groups(np.zeros(2, np.int64), 1), np.array([np.inf, 1.0]), None)
    assert infinite.tolist() == [np.inf]
