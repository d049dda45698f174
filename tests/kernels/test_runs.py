from itertools import groupby, pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.format.encode import thorough
from zarr_vectors_lazy.kernels.bins import cut_runs

pieces = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8), max_size=5)


@thorough
@given(pieces, st.integers(1, 4))
def test_runs_of_pieces(paths, least):
    bins = np.array([b for path in paths for b in path], np.int64)
    of = np.array([i for i, path in enumerate(paths) for _ in path], np.int64)
    starts = np.cumsum([0, *map(len, paths)])
    groups = cut_runs(bins, starts, np.full(len(paths), least))
    assert len(groups.labels) == len(bins)
    for i, path in enumerate(paths):
        mine = groups.labels[of == i]
        natural = [len(list(run)) for _, run in groupby(path)]
        found = [len(list(run)) for _, run in groupby(mine.tolist())]
        assert len(found) == max(len(natural), min(least, len(path)))
        if len(natural) >= least:
            assert found == natural
        inside = [b != a for a, b in pairwise(path)]  # a new bin always begins a run
        assert all(new != old for new, old, cut in zip(mine[1:], mine, inside, strict=False) if cut)
    assert groups.labels.tolist() == sorted(groups.labels.tolist())


def test_a_path_in_one_bin_keeps_both_ends():
    assert cut_runs(np.zeros(5, np.int64), np.array([0, 5]), np.array([2])).labels.tolist() == [0, 0, 0, 0, 1]
    assert cut_runs(np.zeros(1, np.int64), np.array([0, 1]), np.array([2])).labels.tolist() == [0]
