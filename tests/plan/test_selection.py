import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.format.encode import modest
from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.plan.conditions import Between
from zarr_vectors_lazy.plan.selection import Condition, Selection, parse_box

AXES = ("x", "y", "z")
UNIT = ([0, 0, 0], [1, 1, 1])


def corners(box):
    return [corner.tolist() for corner in box]


@pytest.mark.parametrize("make", [tuple, list, np.array, iter, lambda box: map(tuple, box)])
def test_a_box_may_be_any_pair(make):
    box = parse_box(make([[0, -1, 2], [1.5, 1, 3]]), {}, AXES)
    assert corners(box) == [[0, -1, 2], [1.5, 1, 3]]
    assert box[0].dtype == box[1].dtype == np.float64


def test_a_box_is_a_copy():
    lo, hi = np.zeros(3), np.ones(3)
    parse_box((lo, hi), {"x": slice(0.5, 0.75)}, AXES)
    assert (lo[0], hi[0]) == (0, 1)


def test_no_box():
    assert parse_box(None, {}, AXES) is None


@pytest.mark.parametrize(
    ("slices", "lo", "hi"),
    [
        ({"y": slice(1, 2)}, [-np.inf, 1, -np.inf], [np.inf, 2, np.inf]),
        ({"x": slice(None, 2), "z": slice(-1, None)}, [-np.inf, -np.inf, -1], [2, np.inf, np.inf]),
        ({"x": slice(None)}, [-np.inf] * 3, [np.inf] * 3),
        ({"x": slice(np.float32(0.5), np.int8(3))}, [0.5, -np.inf, -np.inf], [3, np.inf, np.inf]),
        ({"x": slice(2, 2)}, [2, -np.inf, -np.inf], [2, np.inf, np.inf]),
    ],
)
def test_slices_by_axis(slices, lo, hi):
    assert corners(parse_box(None, slices, AXES)) == [lo, hi]


def test_a_box_and_slices_intersect():
    assert corners(parse_box(UNIT, {"y": slice(0.5, 9)}, AXES)) == [[0, 0.5, 0], [1, 1, 1]]
    lo, hi = parse_box(UNIT, {"y": slice(5, 9)}, AXES)  # nothing
    assert lo[1] > hi[1]


@pytest.mark.parametrize(
    ("bbox", "match"),
    [
        (3, "3 numbers each"),
        ("ab", "3 numbers each"),
        ((UNIT[0],), "3 numbers each"),
        ((*UNIT, UNIT[0]), "3 numbers each"),
        (([0, 0], [1, 1]), r"shapes \(2,\) and \(2,\)"),
        (([0, 0, 0], [1, 1]), "shapes"),
        (([[0, 0, 0]], [[1, 1, 1]]), "shapes"),
        ((0, 1), "shapes"),
        (([0, 0, "a"], [1, 1, 1]), "3 numbers each"),
        (([0, 0, None], [1, 1, 1]), "NaN"),
        (([0, 0, {}], [1, 1, 1]), "3 numbers each"),
        (([0, 0, 10**400], [1, 1, 1]), "3 numbers each"),
        (([0, 0, np.nan], [1, 1, 1]), "NaN"),
        (([0, 0, 0], [1, np.nan, 1]), "NaN"),
        (([0, 2, 0], [1, 1, 1]), r"lo > hi on axis 1: lo \[0.0, 2.0, 0.0\]"),
    ],
)
def test_a_bad_box_says_what_is_wrong(bbox, match):
    with pytest.raises(SelectionError, match=match):
        parse_box(bbox, {}, AXES)


@pytest.mark.parametrize(
    ("slices", "match"),
    [
        ({"t": slice(0, 1)}, "no axis 't'; the axes are 'x', 'y', 'z'"),
        ({"x": 3}, r"x= must be slice\(lo, hi\), found 3"),
        ({"x": (0, 1)}, "must be slice"),
        ({"x": slice(0, 1, 2)}, "must be slice"),
        ({"x": slice("a", 1)}, "of numbers"),
        ({"x": slice(0, [1])}, "of numbers"),
        ({"x": slice(0, 10**400)}, "of numbers"),
        ({"x": slice(np.nan, 1)}, "NaN"),
        ({"x": slice(2, 1)}, "lower end above"),
    ],
)
def test_a_bad_slice_says_what_is_wrong(slices, match):
    with pytest.raises(SelectionError, match=match):
        parse_box(None, slices, AXES)


boxes = st.lists(st.tuples(*[st.tuples(st.integers(-9, 9), st.integers(-9, 9)).map(sorted)] * 2), max_size=4)


@modest
@given(boxes)
def test_boxes_intersect(parts):
    selection = Selection()
    for part in parts:
        selection = selection.with_box(tuple(np.array(corner, float) for corner in zip(*part, strict=True)))
    if not parts:
        assert selection.box is None
        return
    for d in range(2):
        assert selection.box[0][d] == max(part[d][0] for part in parts)
        assert selection.box[1][d] == min(part[d][1] for part in parts)


def test_objects_intersect_and_are_sorted():
    once = Selection().with_objects(np.array([5, 3, 3, 9]))
    assert once.objects.tolist() == [3, 5, 9]
    assert once.with_objects(np.array([9, 4, 3])).objects.tolist() == [3, 9]
    assert once.with_objects(np.array([], np.int64)).objects.tolist() == []
    assert Selection().objects is None


def test_selections_keep_the_rest():
    condition = Condition(("a",), Between(0, 1))
    selection = Selection(conditions=(condition,)).with_box((np.zeros(2), np.ones(2))).with_objects(np.array([1]))
    assert selection.conditions == (condition,)
    assert selection.box is not None
    assert selection.token() != Selection(conditions=(condition,)).token()
