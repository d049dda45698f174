"""Chunks that a box needs, how blocks are cut, and boxes that are refused."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.kernels.rows import Kept
from zarr_vectors_lazy.plan.blocks import check_chunking, cut_blocks
from zarr_vectors_lazy.plan.selection import Region, Selection, chunks_in_box, parse_region, rows_in_box

edges = st.sampled_from([0.1, 1 / 3, 1e-3, 1.0, 12.0, 7.25])


@settings(max_examples=300)
@given(st.integers(2, 4), st.data())
def test_no_vertex_of_a_box_lies_in_a_chunk_left_out(ndim, data):
    shape = np.array(data.draw(st.lists(edges, min_size=ndim, max_size=ndim)))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    on_border = rng.integers(-5, 6, (40, ndim)) * shape
    points = np.concatenate([on_border, (rng.random((60, ndim)) - 0.5) * 10 * shape])
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    points = points.astype(dtype)
    a, b = points[rng.integers(0, 100, 2)].astype(np.float64)
    box = (np.minimum(a, b), np.maximum(a, b))
    chunk = np.floor(points.astype(np.float64) / shape).astype(np.int64)
    coords, member = np.unique(chunk, axis=0, return_inverse=True)
    touched, inside = chunks_in_box(coords, shape, shape, box)
    mask = rows_in_box(points, box)
    assert touched[member.reshape(-1)[mask]].all()
    assert mask[inside[member.reshape(-1)]].all()
    assert not (inside & ~touched).any()


def test_a_face_on_a_chunk_border_leaves_the_chunk_below_out():
    coords = np.array([[0, 0], [1, 0], [2, 0], [3, 0]])
    ten = np.array([10.0, 10.0])
    touched, _ = chunks_in_box(coords, ten, ten, (np.array([10.0, 0.0]), np.array([20.0, 5.0])))
    assert touched.tolist() == [False, True, True, False]  # and the one above belongs to it: both faces are inclusive


def test_boxes_that_do_not_meet_touch_nothing():
    one = (
        Selection()
        .with_region(Region.of((np.zeros(2), np.ones(2))))
        .with_region(Region.of((np.full(2, 2.0), np.full(2, 3.0))))
    )
    assert one.box is not None
    touched, inside = chunks_in_box(np.array([[0, 0], [2, 2]]), np.ones(2), np.ones(2), one.box)
    assert not touched.any()
    assert not inside.any()


@pytest.mark.parametrize(
    "bad", [([1, 2], [0, 3]), ([1], [2]), ([np.nan, 0], [1, 1]), 5, ([0, 0],), ("a", "b"), ([0, 0, 0], [1, 1, 1])]
)
def test_malformed_boxes_are_refused(bad):
    with pytest.raises(SelectionError):
        parse_region(bad, {}, ("x", "y"))


def test_boxes_by_axis():
    lo, hi = parse_region(([0, 0], [9, 9]), {"y": slice(3, None)}, ("x", "y")).bounds
    assert (lo.tolist(), hi.tolist()) == ([0, 3], [9, 9])
    for bad in ({"w": slice(0, 1)}, {"x": 3}, {"x": slice(2, 1)}, {"x": slice(0, 1, 2)}, {"x": slice("a", None)}):
        with pytest.raises(SelectionError):
            parse_region(None, bad, ("x", "y"))


@settings(max_examples=100)
@given(st.lists(st.integers(1, 100), min_size=1, max_size=50), st.sampled_from([None, "auto", 1, 3, 100]))
def test_blocks_have_every_chunk_once(sizes, chunking):
    bounds = cut_blocks(len(sizes), chunking, np.array(sizes), 120)
    assert bounds[0] == 0
    assert bounds[-1] == len(sizes)
    assert (np.diff(bounds) > 0).all()
    if chunking is None:
        assert len(bounds) == len(sizes) + 1
    if chunking == "auto":
        assert max(sum(sizes[a:b]) for a, b in itertools.pairwise(bounds)) <= 120 + 100


@pytest.mark.parametrize("bad", [0, -1, True, 1.5, "big", (3,)])
def test_other_chunkings_are_refused(bad):
    with pytest.raises(SelectionError):
        check_chunking(bad)


def test_kept_rows_are_renumbered():
    kept = Kept(5, np.array([1, 4]))
    assert kept.renumber(np.array([[4, 0], [1, 1]])).tolist() == [[1, -1], [0, 0]]
    assert kept.take(np.arange(5)).tolist() == [1, 4]
