import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zarr_vectors_lazy.plan import selection
from zarr_vectors_lazy.plan.selection import Boxes, nearest_rows


def chunked(points, edge):
    """Points by chunk, the boxes of these, and what reads some of them and notes how many."""
    coords, chunk = np.unique(np.floor(points / edge).astype(int), axis=0, return_inverse=True)
    chunk = chunk.reshape(-1)
    order = np.argsort(chunk, kind="stable")
    counts = np.bincount(chunk, minlength=len(coords))
    bounds = np.stack([coords * edge, (coords + 1) * edge], axis=1).astype(float)
    seen = []

    def read(boxes):
        seen.extend(boxes.tolist())
        rows = np.concatenate([order[chunk[order] == box] for box in boxes.tolist()])
        return rows, points[rows], counts[boxes]

    return Boxes.of_chunks(bounds, counts, known=True), read, seen


def brute(points, targets, k):
    between = np.linalg.norm(targets[:, None] - points, axis=2)
    order = np.argsort(between, axis=1, kind="stable")[:, :k]
    rows, distances = np.full((len(targets), k), -1), np.full((len(targets), k), np.inf)
    rows[:, : order.shape[1]] = order
    distances[:, : order.shape[1]] = np.take_along_axis(between, order, axis=1)
    return rows, distances


@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 6), st.sampled_from([0.5, 2.0, 50.0]))
def test_against_brute_force(seed, count, k, edge):
    rng = np.random.default_rng(seed)
    points = np.round(rng.uniform(-5, 5, (count, 2)), 0 if seed % 2 else 3)  # with ties
    targets = np.round(rng.uniform(-9, 9, (7, 2)), 0 if seed % 2 else 3)
    boxes, read, _ = chunked(points, edge)
    rows, distances = nearest_rows(targets, k, boxes, read)
    expected, far = brute(points, targets, k)
    np.testing.assert_allclose(distances, far, rtol=1e-12)
    assert rows.tolist() == expected.tolist()


def test_boxes_far_away_are_not_read():
    points = np.random.default_rng(0).uniform(0, 100, (10_000, 3))
    boxes, read, seen = chunked(points, 10)
    rows, _ = nearest_rows(np.full((1, 3), 50.0), 3, boxes, read)
    assert rows.tolist() == brute(points, np.full((1, 3), 50.0), 3)[0].tolist()
    assert len(set(seen)) == len(seen) <= 27


@pytest.mark.parametrize("pairs", [1, 50])
def test_in_small_steps(monkeypatch, pairs):
    monkeypatch.setattr(selection, "MOST_PAIRS", pairs)
    points, targets = np.random.default_rng(0).uniform(0, 9, (2, 60, 2))
    boxes, read, _ = chunked(points, 3)
    assert nearest_rows(targets, 2, boxes, read)[0].tolist() == brute(points, targets, 2)[0].tolist()


def test_of_nothing():
    none = Boxes.joined([], 2)
    rows, distances = nearest_rows(np.zeros((2, 2)), 3, none, lambda boxes: None)
    assert (rows == -1).all()
    assert (distances == np.inf).all()
    assert len(Boxes.of_points(np.empty((0, 2)))) == 1
    rows, _ = nearest_rows(np.zeros((2, 2)), 1, Boxes.of_points(np.empty((0, 2))), lambda boxes: None)
    assert (rows == -1).all()
