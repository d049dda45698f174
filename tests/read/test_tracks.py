"""Rows of a block and the objects that go through them."""

import numpy as np
import pytest

from zarr_vectors_lazy.errors import FormatError, SelectionError
from zarr_vectors_lazy.read.paths import owners_of, taken_rows


def test_owners_in_the_order_of_rows():
    tracks = np.asarray([[2, 70, 0], [0, 5, 1], [1, 5, 2]])
    assert owners_of(tracks, 3).tolist() == [5, 5, 70]


@pytest.mark.parametrize(
    ("rows", "count", "error", "message"),
    [
        ([0, 0, 1], 2, SelectionError, "1 vertex of several objects"),
        ([0, 2], 3, SelectionError, "1 vertex of no object"),
        ([0, 3], 3, FormatError, "row 3, but the chunk has 3"),
    ],
)
def test_rows_that_have_not_one_object(rows, count, error, message):
    tracks = np.asarray([[row, 9, 0] for row in rows])
    with pytest.raises(error, match=message):
        owners_of(tracks, count)


def test_no_tracks():
    assert taken_rows(np.empty((0, 3), np.int64), 4).tolist() == []
