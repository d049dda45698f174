import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.format.encode import fragment_index, thorough
from zarr_vectors_lazy.format.manifests import decode_fragments, decode_ranges
from zarr_vectors_lazy.kernels.trees import crossing, implied_parents


@st.composite
def partitions(draw):
    """Some of the rows of a chunk cut into fragments, ranges and explicit ones, and the number of rows."""
    n_rows = draw(st.integers(0, 30))
    rows = draw(st.permutations(range(n_rows)))
    fragments, at = [], 0
    for size in draw(st.lists(st.integers(0, 6), max_size=8)):
        part = list(rows[at : at + size])
        at += len(part)
        if part and part == list(range(part[0], part[0] + len(part))):
            fragments.append((part[0], len(part)))
        else:
            fragments.append(part or draw(st.sampled_from([[], (0, 0), (5, 0)])))
    return fragments, n_rows


def test_pairs_that_leave_a_fragment():
    fragments = decode_fragments(fragment_index([(0, 3), [5, 3], (4, 1)]))
    first, second = np.asarray([[0, 2], [2, 3], [5, 3], [4, 4], [6, 6], [6, 0]]).T
    assert crossing(fragments, 7, first, second).tolist() == [False, True, False, False, False, True]


def rows_of(fragment):
    return list(range(fragment[0], sum(fragment))) if isinstance(fragment, tuple) else fragment


@thorough
@given(partitions())
def test_parents_are_predecessors_in_read_order(case):
    fragments, n_rows = case
    expected = [-1] * n_rows
    for fragment in fragments:
        rows = rows_of(fragment)
        for row, parent in zip(rows[1:], rows, strict=False):
            expected[row] = parent
    parents = implied_parents(decode_fragments(fragment_index(fragments)), n_rows)
    assert parents.dtype == np.int64
    assert parents.tolist() == expected
    run = decode_ranges([fragment_index(fragments)], np.array([0, n_rows]))
    if run is not None:
        *ends, last = np.cumsum([0, *(count for _, count in fragments)]).tolist()
        assert run.tiles == (last == n_rows and [first for first, _ in fragments] == ends)  # empty ones, too
        assert implied_parents(run.fragments, n_rows, tiles=run.tiles).tolist() == expected


def test_empty_fragments_begin_nothing():
    index = decode_fragments(fragment_index([(0, 0), (0, 2), [], (2, 1), (3, 0)]))
    assert implied_parents(index, 4).tolist() == [-1, 0, -1, -1]
