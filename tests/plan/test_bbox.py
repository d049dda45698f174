import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.format.encode import thorough
from zarr_vectors_lazy.plan.selection import Placement, chunks_in_box

EDGES = [0.1, 1 / 3, 1e-3, 0.3, 0.7, 1.0, 2.5, 10.0, 100.0, 2.0**-20, 12345.678]


def neighbours(value):
    """A number, and those next to it in both precisions: where rounding decides."""
    single = np.float32(value)
    return [value, math.nextafter(value, math.inf), math.nextafter(value, -math.inf), float(single)] + [
        float(np.nextafter(single, np.float32(end))) for end in (np.inf, -np.inf)
    ]


@st.composite
def cases(draw):
    """Chunk shape, bin shape, box and points, on and next to borders of chunks and faces of the box."""
    ndim = draw(st.integers(2, 4))
    shape = [draw(st.sampled_from(EDGES)) for _ in range(ndim)]
    folds = [draw(st.sampled_from([1, 1, 2, 3, 10])) for _ in range(ndim)]

    def position(d):
        border = draw(st.integers(-12, 12)) * shape[d]
        inner = st.floats(-12, 12, allow_nan=False).map(lambda x: x * shape[d])
        return draw(st.sampled_from(neighbours(border)) | inner)

    def corner():
        return np.array([position(d) for d in range(ndim)])

    a, b = corner(), corner()
    lo, hi = np.minimum(a, b), np.maximum(a, b)
    for d in range(ndim):
        if draw(st.integers(0, 5)) == 0:
            lo[d] = -np.inf
        if draw(st.integers(0, 5)) == 0:
            hi[d] = np.inf
    points = []
    for _ in range(draw(st.integers(1, 6))):
        point = corner()
        for d in range(ndim):
            face = draw(st.sampled_from([None, lo[d], hi[d]]))
            if face is not None and np.isfinite(face):
                point[d] = draw(st.sampled_from(neighbours(float(face))))
        points.append(point)
    return np.array(shape), np.array(shape) / folds, (lo, hi), np.array(points)


def both_rules(points, shape, bins):
    """Chunk of each point as writers place it: by the chunk's edge, or by the bin's (spec 0.9, 4.2 and 5.1)."""
    return np.floor(points / shape), np.floor(np.floor(points / bins) / np.rint(shape / bins))


@thorough
@given(cases(), st.booleans())
def test_boxes_are_exact(case, extra_axis):
    shape, bins, (lo, hi), points = case
    in_box = ((points >= lo) & (points <= hi)).all(axis=1)
    for coords in both_rules(points, shape, bins):
        keys = coords.astype(np.int64)
        if extra_axis:  # the attribute by which chunks are cut comes first and does not matter
            keys = np.concatenate([np.arange(len(keys))[:, None], keys], axis=1)
        touched, inside = chunks_in_box(keys, shape, bins, (lo, hi))
        assert touched[in_box].all()  # no point of the box lies in an excluded chunk
        assert in_box[inside].all()  # all points of an inside chunk are in the box
        assert not (inside & ~touched).any()


@st.composite
def borders(draw):
    edge = draw(st.sampled_from(EDGES))
    return edge, draw(st.integers(-50, 50))


@thorough
@given(borders())
@example((0.1, 3))
@example((1 / 3, 3))
@example((1e-3, 7))
def test_a_face_on_a_lower_border_leaves_the_chunk_below_out(case):
    edge, chunk = case
    face = chunk * edge
    while math.floor(face / edge) < chunk:
        face = math.nextafter(face, math.inf)
    while math.floor(math.nextafter(face, -math.inf) / edge) == chunk:
        face = math.nextafter(face, -math.inf)  # now the lowest position of the chunk
    shape = np.array([edge, 1.0])
    around = np.array([[chunk - 1, 0], [chunk, 0], [chunk + 1, 0]])
    point = np.array([face, 0.5])
    touched, inside = chunks_in_box(around, shape, shape, (point, point))
    assert touched.tolist() == [False, True, False]
    assert not inside.any()
    touched, _ = chunks_in_box(around, shape, shape, (np.array([face, 0.0]), np.array([np.inf, 1.0])))
    assert touched.tolist() == [False, True, True]
    below = np.array([math.nextafter(face, -math.inf), 0.5])
    touched, _ = chunks_in_box(around, shape, shape, (point - 100 * edge, below))
    assert touched.tolist() == [True, False, False]


def test_an_upper_face_on_a_border_touches_the_chunk_above():
    coords = np.array([[0, 0], [1, 0], [2, 0]])
    shape = np.array([10.0, 10.0])
    touched, inside = chunks_in_box(coords, shape, shape, (np.array([0.0, -20.0]), np.array([20.0, 20.0])))
    assert touched.tolist() == [True, True, True]
    assert inside.tolist() == [False, True, False]


def test_where_the_two_rules_round_apart_both_chunks_count():
    # 0.3 / 0.3 is 1, floor(0.3 / 0.1) is 2: the third bin of chunk 0.
    coords = np.array([[0], [1]])
    point = np.array([0.3])
    touched, _ = chunks_in_box(coords, np.array([0.3]), np.array([0.1]), (point, point))
    assert touched.tolist() == [True, True]
    touched, _ = chunks_in_box(coords, np.array([0.3]), np.array([0.3]), (point, point))
    assert touched.tolist() == [False, True]


@pytest.mark.parametrize("edge", [0.5, 3.0])
def test_the_whole_of_space(edge):
    coords = np.array([[-(10**12), 0], [0, 0], [10**12, 5]])
    everything = (np.full(2, -np.inf), np.full(2, np.inf))
    touched, inside = chunks_in_box(coords, np.full(2, edge), np.full(2, edge), everything)
    assert touched.all()
    assert inside.all()


def test_a_box_that_is_none_touches_nothing():
    coords = np.array([[0, 0], [1, 1]])
    empty = (np.array([0.5, 3.0]), np.array([0.5, 0.0]))
    touched, inside = chunks_in_box(coords, np.ones(2), np.ones(2), empty)
    assert not touched.any()
    assert not inside.any()


def test_no_chunks():
    touched, inside = chunks_in_box(np.empty((0, 2), np.int64), np.ones(2), np.ones(2), (np.zeros(2), np.ones(2)))
    assert touched.shape == inside.shape == (0,)


def test_bins_that_reach_out_of_chunks_widen_them():
    """Each bin's rows are filed in any chunk that the bin meets, at any place of the bin (spec next, 14.2)."""
    chunk, edge = np.array([100.0, 100.0]), np.array([40.0, 30.0])
    placement = Placement(chunk_shape=chunk, bin_shape=chunk, strays=(edge,))
    coords = np.array([[x, y] for x in range(-3, 4) for y in range(-3, 4)])
    random = np.random.default_rng(1)
    source = random.uniform(-300, 300, (2000, 2))
    home = np.floor(source / chunk).astype(np.int64)
    means = ((np.floor(source / edge) + random.uniform(0, 1, source.shape)) * edge).astype(np.float32)
    assert (np.floor(means / chunk) != home).any()
    for at, mean in zip(home, means, strict=True):
        touched, inside = placement.meets(coords, (mean, mean))
        assert touched[(coords == at).all(axis=1)].all()
        assert not inside.any()
        assert not placement.outside(mean[None], at).any()
    assert placement.outside(np.array([[141.0, 50.0]]), np.array([0, 0])).all()
    everything = (np.full(2, -1e4), np.full(2, 1e4))
    assert placement.meets(coords, everything)[1].all()


def test_bins_that_nest_reach_out_by_a_rounding_only():
    edge = np.array([0.1, 0.1])
    placement = Placement(chunk_shape=3 * edge, bin_shape=3 * edge, strays=(edge,))
    bounds = placement.bounds(np.array([[0, 0], [7, -2]]))
    plain = Placement(chunk_shape=3 * edge, bin_shape=3 * edge).bounds(np.array([[0, 0], [7, -2]]))
    assert np.abs(bounds - plain).max() < 1e-6
    assert ((bounds[:, 0] <= plain[:, 0]) & (bounds[:, 1] >= plain[:, 1])).all()
