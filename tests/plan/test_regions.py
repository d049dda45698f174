import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.format.encode import thorough
from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.model.world import World
from zarr_vectors_lazy.plan.selection import Placement, Region, parse_region, rows_in_box

floats = st.floats(width=32, allow_nan=False) | st.sampled_from([0.1, np.float32(0.1), np.inf, -np.inf])


@thorough
@given(st.lists(st.lists(floats, min_size=2, max_size=2), max_size=20), st.data())
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_rows_in_a_box_are_compared_in_float64(dtype, points, data):
    vertices = np.array(points, dtype).reshape(-1, 2)
    ends = floats | st.sampled_from(vertices.astype("f8").ravel().tolist() or [0.0])
    lo, hi = (np.array(data.draw(st.lists(ends, min_size=2, max_size=2)), "f8") for _ in "lh")
    expected = [all(lo[d] <= float(p[d]) <= hi[d] for d in range(2)) for p in vertices]
    assert rows_in_box(vertices, (lo, hi)).tolist() == expected


def test_a_float32_is_not_the_float64_of_the_same_text():
    vertices = np.array([[0.1]], "f4")
    assert not rows_in_box(vertices, (np.array([0.0]), np.array([0.1])))[0]
    assert rows_in_box(vertices, (np.array([0.1]), np.array([1.0])))[0]
    assert rows_in_box(vertices, (np.array([float(np.float32(0.1))]),) * 2)[0]


def test_vertices_that_are_not_numbers_are_in_no_bounded_box():
    vertices = np.array([[np.nan, 0.0]])
    assert not rows_in_box(vertices, (np.array([-1.0, -np.inf]), np.array([np.inf, np.inf])))[0]
    assert rows_in_box(vertices, (np.array([-np.inf, -1.0]), np.array([np.inf, 1.0])))[0]


@thorough
@given(st.lists(st.lists(floats, min_size=2, max_size=2), max_size=20), st.data())
def test_several_boxes_are_their_union(points, data):
    vertices = np.array(points, "f8").reshape(-1, 2)
    if len(vertices) and data.draw(st.booleans()):
        vertices[0, 0] = np.nan
    ends = floats | st.sampled_from(vertices[1:].ravel().tolist() or [0.0])
    lo, hi = (
        np.array(data.draw(st.lists(st.lists(ends, min_size=2, max_size=2), max_size=4)), "f8").reshape(-1, 2)
        for _ in "lh"
    )
    boxes = min(len(lo), len(hi))
    lo, hi = lo[:boxes], hi[:boxes]
    masks = [rows_in_box(vertices, (lo[box], hi[box])) for box in range(boxes)]
    assert (
        Region(lo, hi).rows(vertices).tolist() == np.logical_or.reduce([np.zeros(len(vertices), bool), *masks]).tolist()
    )


AXES = ("x", "y", "z")
UNIT = ([0, 0, 0], [1, 1, 1])


def corners(region):
    assert region.is_box
    return [corner.tolist() for corner in region.bounds]


@pytest.mark.parametrize("make", [tuple, list, np.array, iter, lambda box: map(tuple, box)])
def test_a_box_may_be_any_pair(make):
    region = parse_region(make([[0, -1, 2], [1.5, 1, 3]]), {}, AXES)
    assert corners(region) == [[0, -1, 2], [1.5, 1, 3]]
    assert region.lo.dtype == region.hi.dtype == np.float64


def test_a_box_is_a_copy():
    lo, hi = np.zeros(3), np.ones(3)
    parse_region((lo, hi), {"x": slice(0.5, 0.75)}, AXES)
    assert (lo[0], hi[0]) == (0, 1)


def test_several_boxes():
    region = parse_region([UNIT, ([5, 5, 5], [6, 7, 8])], {"y": slice(0.5, 6)}, AXES)
    assert region.lo.tolist() == [[0, 0.5, 0], [5, 5, 5]]
    assert region.hi.tolist() == [[1, 1, 1], [6, 6, 8]]
    assert not parse_region(np.empty((0, 2, 3)), {}, AXES).rows(np.zeros((2, 3))).any()


def test_boxes_of_the_world_name_its_axes():
    world = World(axes=("t", "Z", "y", "X"), units=(None,) * 4)
    region = parse_region(None, {"x": (0, 1), "Z": (2, 3)}, ("t", "Z", "y", "X"), world)
    assert region.lo.tolist() == [[0, -np.inf, 2]]
    assert region.hi.tolist() == [[1, np.inf, 3]]
    with pytest.raises(SelectionError, match="no axis 't'; the axes of the world are 'x', 'y', 'z'"):
        parse_region(None, {"t": (0, 1)}, ("t", "Z", "y", "X"), world)


def test_no_box():
    assert parse_region(None, {}, AXES) is None


@pytest.mark.parametrize(
    ("slices", "lo", "hi"),
    [
        ({"y": slice(1, 2)}, [-np.inf, 1, -np.inf], [np.inf, 2, np.inf]),
        ({"x": slice(None, 2), "z": slice(-1, None)}, [-np.inf, -np.inf, -1], [2, np.inf, np.inf]),
        ({"x": slice(None)}, [-np.inf] * 3, [np.inf] * 3),
        ({"x": slice(np.float32(0.5), np.int8(3))}, [0.5, -np.inf, -np.inf], [3, np.inf, np.inf]),
        ({"x": (0, None), "y": [1, 2]}, [0, 1, -np.inf], [np.inf, 2, np.inf]),
        ({"x": slice(2, 2)}, [2, -np.inf, -np.inf], [2, np.inf, np.inf]),
    ],
)
def test_slices_by_axis(slices, lo, hi):
    assert corners(parse_region(None, slices, AXES)) == [lo, hi]


def test_a_box_and_slices_intersect():
    assert corners(parse_region(UNIT, {"y": slice(0.5, 9)}, AXES)) == [[0, 0.5, 0], [1, 1, 1]]
    lo, hi = parse_region(UNIT, {"y": slice(5, 9)}, AXES).bounds  # nothing
    assert lo[1] > hi[1]


@pytest.mark.parametrize(
    ("bbox", "match"),
    [
        (3, "3 numbers each"),
        ("ab", "3 numbers each"),
        ((UNIT[0],), "3 numbers each"),
        ((*UNIT, UNIT[0]), "3 numbers each"),
        (([0, 0], [1, 1]), r"found shapes \(2,\), \(2,\); for some axes alone: x=slice\(lo, hi\)"),
        ((0, 1), r"x=slice\(lo, hi\)"),
        (([0, 0, 0], [1, 1]), "shapes"),
        (([0, 0, 0, 0], [1, 1, 1, 1]), r"shapes \(4,\), \(4,\)$"),
        (([[0, 0, 0]], [[1, 1, 1]]), "shapes"),
        ([UNIT, UNIT[0]], "shapes"),
        ([([0, 0], [1, 1])] * 3, "x=slice"),
        ([], r"found \[\]"),
        ([UNIT, ([0, 0, 2], [1, 1, 1])], r"lo > hi on axis 2 of box 1"),
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
        parse_region(bbox, {}, AXES)


@pytest.mark.parametrize(
    ("slices", "match"),
    [
        ({"t": slice(0, 1)}, "no axis 't'; the axes are 'x', 'y', 'z'"),
        ({"x": 3}, r"x= must be slice\(lo, hi\) or \(lo, hi\), found 3"),
        ({"x": (0, 1, 2)}, "must be slice"),
        ({"x": "ab"}, "must be slice"),
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
        parse_region(None, slices, AXES)


@pytest.mark.parametrize("strays", [(), (np.full(3, 30.0),)], ids=["grid", "strays"])
@pytest.mark.parametrize("known", [True, False])
def test_chunks_of_several_boxes_are_those_of_each(strays, known):
    coords = np.stack(np.meshgrid(*[np.arange(-3, 9)] * 3, indexing="ij"), -1).reshape(-1, 3)
    placement = Placement(chunk_shape=np.full(3, 10.0), bin_shape=np.full(3, 5.0), strays=strays, known=known)
    rng = np.random.default_rng(0)
    lo = rng.integers(-5, 10, (60, 3)) * 10.0  # on borders of chunks
    lo[::7, 0] = -np.inf
    hi = lo + rng.integers(0, 5, (60, 3)) * 10.0
    each = [placement.meets(coords, box) for box in zip(lo, hi, strict=True)]
    for found, expected in zip(Region(lo, hi).chunks(coords, placement), zip(*each, strict=True), strict=True):
        assert found.tolist() == np.any(expected, axis=0).tolist()
    touched, inside = Region(lo[:0], hi[:0]).chunks(coords, placement)
    assert not touched.any()
    assert not inside.any()
