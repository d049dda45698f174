import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.format.encode import thorough
from zarr_vectors_lazy.plan.blocks import cut_batches


@thorough
@given(st.lists(st.integers(0, 30), max_size=40), st.integers(1, 9), st.integers(1, 12), st.integers(1, 90))
def test_batches_keep_their_bounds(sizes, slots, cells, budget):
    bounds = cut_batches(np.array(sizes, np.float64), slots=slots, cells=cells, budget=budget).tolist()
    assert (bounds[0], bounds[-1]) == (0, len(sizes))
    batches = [sizes[a:b] for a, b in itertools.pairwise(bounds)]
    assert all(batches)
    assert all(len(batch) <= cells for batch in batches)
    assert all(sum(batch) <= budget or len(batch) == 1 for batch in batches)
    assert sum(sizes) > budget or len(batches) >= min(slots, -(-len(sizes) // cells), len(sizes)) - 1


@pytest.mark.parametrize(
    ("sizes", "slots", "cells", "budget", "bounds"),
    [
        ([], 4, 8, 100, [0]),
        ([1] * 10, 1, 100, 100, [0, 10]),
        ([1] * 10, 4, 100, 100, [0, 3, 6, 9, 10]),
        ([1] * 10, 1, 4, 100, [0, 4, 8, 10]),
        ([1] * 9, 1, 4, 100, [0, 3, 6, 9]),
        ([40] * 5, 1, 100, 80, [0, 2, 4, 5]),
        ([10, 200, 10, 10], 1, 100, 80, [0, 1, 2, 4]),
        ([1] * 3, 100, 100, 100, [0, 1, 2, 3]),
    ],
)
def test_bounds(sizes, slots, cells, budget, bounds):
    found = cut_batches(np.array(sizes, np.float64), slots=slots, cells=cells, budget=budget)
    assert (found.dtype, found.tolist()) == (np.int64, bounds)
