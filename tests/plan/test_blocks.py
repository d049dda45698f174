import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.format.encode import thorough
from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.plan.blocks import check_chunking, cut_blocks


@thorough
@given(st.lists(st.integers(0, 30), max_size=40), st.integers(1, 60))
def test_auto_fills_blocks_up_to_the_target(sizes, target):
    bounds = cut_blocks(len(sizes), "auto", np.array(sizes), target).tolist()
    assert (bounds[0], bounds[-1]) == (0, len(sizes))
    blocks = [sizes[a:b] for a, b in itertools.pairwise(bounds)]
    assert all(blocks)
    assert all(sum(block) <= target or len(block) == 1 for block in blocks)
    followers = [sizes[b] for b in bounds[1:-1]]
    assert all(sum(block) + after > target for block, after in zip(blocks, followers, strict=False))


@pytest.mark.parametrize(
    ("n", "size", "target", "bounds"),
    [
        (0, 8.0, 100, [0]),
        (1, 8.0, 1, [0, 1]),
        (7, 10.0, 30, [0, 3, 6, 7]),
        (4, 100.0, 30, [0, 1, 2, 3, 4]),
        (3, 0.0, 30, [0, 3]),
        (3, 5.0, 0, [0, 1, 2, 3]),
    ],
)
def test_auto_of_chunks_of_one_size(n, size, target, bounds):
    assert cut_blocks(n, "auto", size, target).tolist() == bounds


@pytest.mark.parametrize(
    ("n", "chunking", "bounds"),
    [
        (3, None, [0, 1, 2, 3]),
        (0, None, [0]),
        (7, 3, [0, 3, 6, 7]),
        (6, 3, [0, 3, 6]),
        (2, 100, [0, 2]),
        (0, 5, [0]),
    ],
)
def test_blocks_of_so_many_chunks(n, chunking, bounds):
    found = cut_blocks(n, chunking, np.full(n, 10**9), 1)
    assert found.dtype == np.int64
    assert found.tolist() == bounds


@pytest.mark.parametrize("chunks", [None, "auto", 1, 100])
def test_ways_to_cut(chunks):
    assert check_chunking(chunks) == chunks


@pytest.mark.parametrize("chunks", [0, -1, True, 1.5, "none", "", (1,), {"x": 1}])
def test_what_is_no_way_to_cut(chunks):
    with pytest.raises(SelectionError, match="chunks must be None, 'auto' or a number"):
        check_chunking(chunks)
