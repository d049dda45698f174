import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.format.encode import thorough
from zarr_vectors_lazy.kernels.bins import components, distinct_rows, proper, smallest_first

edges = st.lists(st.lists(st.integers(0, 11), min_size=2, max_size=2), max_size=20)
faces = st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=3), max_size=20)


@thorough
@given(edges)
def test_components(drawn):
    group = list(range(12))
    for a, b in drawn:
        old, new = max(group[a], group[b]), min(group[a], group[b])
        group = [new if g == old else g for g in group]
    assert components(12, np.array(drawn, np.int64).reshape(-1, 2)).tolist() == group


def test_a_long_path_in_any_order():
    n = 5000
    path = np.random.default_rng(0).permutation(n)
    assert not components(n, np.stack([path[:-1], path[1:]], axis=1)).any()


@thorough
@given(faces)
def test_faces(drawn):
    rows = np.array(drawn, np.int64).reshape(-1, 3)
    turned = smallest_first(rows)
    for face, other in zip(drawn, turned.tolist(), strict=True):
        assert other[0] == min(face)
        assert other in [face[i:] + face[:i] for i in range(3)]
    for far in (0, 2**40):
        assert distinct_rows(rows + far).tolist() == [
            [c + far for c in face] for face in sorted(map(list, set(map(tuple, drawn))))
        ]
    assert proper(rows).tolist() == [len(set(face)) == 3 for face in drawn]
