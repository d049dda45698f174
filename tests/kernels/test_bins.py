import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.format.encode import thorough
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.kernels.bins import BinGrid, bins_of, place_in_bins, root_slots

edges = st.sampled_from([1.0, 0.1, 3.0, 1e-3, 7.3, 1e5])


def grid(chunk, shape, edge):
    chunk, shape, edge = np.array(chunk), np.array(shape), np.array(edge)
    return BinGrid(chunk[None], shape, edge, edge * shape)


def zeros(rows):
    return np.zeros(len(rows), np.int64)


@thorough
@given(
    st.lists(st.integers(-5, 5), min_size=2, max_size=2),
    st.lists(st.integers(1, 4), min_size=2, max_size=2),
    st.lists(edges, min_size=2, max_size=2),
    st.data(),
)
def test_bins_in_c_order_and_inside_the_chunk(chunk, shape, edge, data):
    one = grid(chunk, shape, edge)
    fractions = data.draw(st.lists(st.lists(st.floats(0, 1), min_size=2, max_size=2), max_size=20))
    points = (np.array(fractions).reshape(-1, 2) + chunk) * one.chunk_edge
    expected = [
        int(
            np.ravel_multi_index(
                np.clip(np.floor(p / one.edge) - one.chunks[0] * one.shape, 0, one.shape - 1).astype(int), one.shape
            )
        )
        for p in points
    ]
    assert bins_of(points, zeros(points), one).tolist() == expected
    both = BinGrid(np.array([chunk, np.array(chunk) + 1]), one.shape, one.edge, one.chunk_edge)
    found = bins_of(np.concatenate([points, points + one.chunk_edge]), np.repeat([0, 1], len(points)), both)
    assert (found // one.cells).tolist() == [0] * len(points) + [1] * len(points)
    assert found[: len(points)].tolist() == expected


def test_a_coordinate_that_is_no_number_is_an_error():
    with pytest.raises(FormatError, match="not a number"):
        bins_of(np.array([[np.nan, 0]]), np.zeros(1, int), grid([0, 0], [1, 1], [1.0, 1.0]))


@thorough
@given(st.integers(-1000, 1000), st.integers(1, 8), edges, st.sampled_from(["f4", "f8"]), st.data())
def test_means_are_placed_where_readers_look_for_them(chunk, shape, edge, dtype, data):
    one = grid([chunk], [shape], [edge])
    bins = np.array(data.draw(st.lists(st.integers(0, shape - 1), min_size=1, max_size=8)))
    at = np.array(data.draw(st.lists(st.floats(0, 1), min_size=len(bins), max_size=len(bins))))
    means = ((chunk * shape + bins + at) * edge)[:, None]
    placed = place_in_bins(means, bins, one, np.dtype(dtype))
    assert placed.dtype == dtype
    assert (np.floor(placed.astype("f8") / one.chunk_edge) == chunk).all()
    assert (
        abs(placed - means) <= 4 * np.spacing(np.abs(means).astype(dtype)) + 4 * np.spacing(dtype and abs(means))
    ).all()


def test_slots_of_level_0():
    one = grid([-1], [1], [10.0])
    assert root_slots(np.array([[-10.0], [-7.5], [-0.1]]), np.zeros(3, int), one, np.array([4])).tolist() == [0, 1, 3]


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_more_means_than_bins_are_placed_as_each_alone(dtype):
    some = BinGrid(np.array([[-2, 0], [3, 1]]), np.array([2, 3]), np.array([0.1, 7.3]), np.array([0.2, 21.9]))
    bins = np.arange(48) % 12
    which, local = np.divmod(bins, 6)
    inner = np.stack(np.divmod(local, 3), axis=1) + np.repeat([0, 0.5, 0.999999999, 1], 12)[:, None]
    means = (some.chunks[which] * some.shape + inner) * some.edge
    alone = [place_in_bins(means[i : i + 1], bins[i : i + 1], some, np.dtype(dtype)) for i in range(len(bins))]
    assert np.array_equal(place_in_bins(means, bins, some, np.dtype(dtype)), np.concatenate(alone))
