import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.format.encode import thorough
from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.plan.blocks import (
    LevelScale,
    chunks_below,
    coarse_chunks,
    cut_parts,
    factor_pairs,
    grown,
    next_scale,
    scale_list,
)


def level0(bin_shape, chunk_shape):
    ones = np.ones(len(bin_shape))
    return LevelScale(
        level=0,
        bin_shape=np.array(bin_shape, float),
        chunk_shape=np.array(chunk_shape, float),
        ratio=ones.astype(int),
        fold=ones,
        keep=1.0,
    )


@pytest.mark.parametrize(
    ("bins", "chunks", "factor", "scale"),
    [
        ([25], [100], 2, [1]),
        ([25], [100], 8, [2]),
        ([100], [100], 2, [2]),
        ([500], [3000], 4, [2]),
        ([10, 5], [30, 30], 2, [2, 1]),
        ([0.1], [0.3], 2, [2]),
        ([2], [6], 1.5, [1]),
        ([2], [8], 1.5, [3]),
    ],
)
def test_the_least_scale_that_tiles(bins, chunks, factor, scale):
    found = next_scale(level0(bins, chunks), 1, (factor, 1), None)
    assert found.ratio.tolist() == scale
    assert np.allclose(found.bins * found.bin_shape, found.chunk_shape)
    for smaller in range(1, scale[0]):
        with pytest.raises(SelectionError, match=r"smallest chunk scale that works: "):
            next_scale(level0(bins, chunks), 1, (factor, 1), [smaller, *scale[1:]])
    assert next_scale(level0(bins, chunks), 1, (factor, 1), 2 * np.array(scale)).ratio.tolist() == [
        2 * s for s in scale
    ]


def test_factors_compound_and_so_does_sparsity():
    first = next_scale(level0([5], [20]), 1, (2, 3), None)
    second = next_scale(first, 2, (2, 2), None)
    assert (second.fold.tolist(), second.keep, second.bin_shape.tolist()) == ([4.0], 1 / 6, [20.0])


@pytest.mark.parametrize("factor", [(0.5, 1), (2, 0.5), (np.nan, 1), ("a", 1), ([2, 2, 2], 1), (2, np.inf)])
def test_wrong_factors(factor):
    with pytest.raises(SelectionError, match="factor must be"):
        next_scale(level0([5, 5], [20, 20]), 1, factor, None)


@pytest.mark.parametrize("scale", [0, 1.5, "x", [1, 1, 1]])
def test_wrong_scales(scale):
    with pytest.raises(SelectionError, match="a chunk scale must be"):
        next_scale(level0([5, 5], [20, 20]), 1, (1, 1), scale)


def test_a_ratio_that_nothing_tiles():
    with pytest.raises(SelectionError, match="choose another coarsening factor"):
        next_scale(level0([1], [1]), 1, (np.pi, 1), None)


@pytest.mark.parametrize("factors", [[], "ab", 2, None, ["2"], [True], [(1,)], [(1, 2, 3)]])
def test_what_is_no_list_of_pairs(factors):
    with pytest.raises(SelectionError, match="factors"):
        factor_pairs(factors)


def test_a_number_is_a_pair_with_no_sparsity():
    assert factor_pairs([2, (2, 4), np.float32(1.5), [(2, 1), 1]]) == [(2, 1), (2, 4), (1.5, 1), ((2, 1), 1)]
    assert scale_list(None, 2) == [None, None]
    assert scale_list(1, 2) == [1, 1]
    assert scale_list([2, None], 2) == [2, None]
    with pytest.raises(SelectionError, match=r"one entry for each level \(2\)"):
        scale_list("ab", 2)


@pytest.mark.parametrize(
    ("bins", "chunks", "factor", "scale"),
    [
        ([5], [20], (2, 1), [2]),
        ([5], [20], (2, 8), [2]),
        ([5], [20], (1, 8), [1]),
        ([5, 5], [20, 20], ((4, 1), 1), [4, 1]),
        ([20], [20], (3, 1), [3]),
        ([2], [6], (1.5, 1), [1]),
        ([2], [8], (1.5, 1), [3]),
        ([2], [8], (7.5, 1), [15]),
        ([0.1], [0.3], (2, 1), [2]),
        ([4], [12], (2.5, 1), [5]),
    ],
)
def test_a_chunk_grows_by_the_coarsening(bins, chunks, factor, scale):
    fine = level0(bins, chunks)
    found = grown(fine, next_scale(fine, 1, factor, None))
    assert found.ratio.tolist() == scale
    assert np.allclose(found.bins * found.bin_shape, found.chunk_shape)


chunks = st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), unique=True, min_size=1, max_size=30)


@thorough
@given(chunks, st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.floats(1, 1e7))
def test_every_finer_chunk_lies_in_one_coarse_chunk(drawn, sx, sy, slots, nbytes):
    fine, scale = np.array(sorted(drawn)), np.array([sx, sy])
    coarse, order, bounds = chunks_below(fine, scale)
    assert coarse.tolist() == sorted(
        {(x // sx, y // sy) for x, y in drawn} and map(list, {(x // sx, y // sy) for x, y in drawn})
    )
    assert sorted(order.tolist()) == list(range(len(fine)))
    for i, chunk in enumerate(coarse.tolist()):
        below = fine[order[bounds[i] : bounds[i + 1]]]
        assert (coarse_chunks(below, scale) == chunk).all()
        assert below.tolist() == sorted(below.tolist())
    cuts = cut_parts(bounds, nbytes, slots)
    assert cuts[0] == 0
    assert cuts[-1] == len(coarse)
    assert (np.diff(cuts) > 0).all()
