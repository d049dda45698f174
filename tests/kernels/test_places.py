"""Places of rows, and the task that stores each."""

import numpy as np
import pytest

from zarr_vectors_lazy.kernels.routing import UNKNOWN, RowOwners, chunk_of_places, pack_places, row_of_places
from zarr_vectors_lazy.kernels.rows import row_numbers

SIZES = np.array([2_000, 0, 3_000, 1, 4_000, 999])


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_homes_hold_every_row_once(count, apart):
    numbers = np.concatenate([row_numbers(block, size) for block, size in enumerate(SIZES.tolist())])
    row_owners = RowOwners(count, apart)
    rows = row_owners.names(numbers, np.cumsum(SIZES) - SIZES)
    assert apart or np.array_equal(rows, np.arange(10_000))
    of = row_owners.of(rows)
    assert apart or np.bincount(of).max() < 12_000 / count
    for owner in range(count):
        mine = np.random.default_rng(0).permutation(rows[of == owner])
        assert np.array_equal(row_owners.look_up(mine, mine * 2, mine[::-1], SIZES), mine[::-1] * 2)


@pytest.mark.parametrize(("apart", "row"), [(False, 5), (True, 1), (True, 2**39)])
def test_rows_that_are_nowhere(apart, row):
    one = np.array([0])
    assert RowOwners(1, apart).look_up(one, one, np.array([row]), np.array([1, 9])).tolist() == [UNKNOWN]
    assert RowOwners(1, apart).look_up(one[:0], one[:0], one, np.array([1])).tolist() == [UNKNOWN]


def test_places_sort_by_chunk_then_row():
    chunks, rows = np.array([0, 0, 1, 2**30]), np.array([0, 2**31, 0, 2**32 - 1])
    places = pack_places(chunks, rows)
    assert (np.diff(places) > 0).all()
    assert np.array_equal(chunk_of_places(places), chunks)
    assert np.array_equal(row_of_places(places), rows)
