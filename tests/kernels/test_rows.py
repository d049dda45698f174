import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.format.encode import modest, thorough
from zarr_vectors_lazy.kernels.rows import Chosen, Kept, kept_of_mask
from zarr_vectors_lazy.plan.selection import outside_chunk

masks = st.lists(st.booleans(), max_size=30).map(lambda mask: np.array(mask, np.bool_))


@thorough
@given(masks, st.data())
def test_kept_rows_are_taken_and_renumbered(mask, data):
    kept = kept_of_mask(mask)
    chosen = [row for row, keep in enumerate(mask) if keep]
    assert len(kept) == len(chosen)
    assert kept.total == len(mask)
    assert kept.take(np.arange(len(mask))).tolist() == chosen
    if len(mask):
        rows = data.draw(st.lists(st.lists(st.integers(0, len(mask) - 1), min_size=2, max_size=2), min_size=1))
        expected = [[chosen.index(row) if row in chosen else -1 for row in pair] for pair in rows]
        assert kept.renumber(np.array(rows)).tolist() == expected


@thorough
@given(st.dictionaries(st.integers(0, 6), masks.filter(len), max_size=4), st.data())
def test_rows_of_many_chunks_are_renumbered_at_once(by_chunk, data):
    kept = {chunk: kept_of_mask(mask) for chunk, mask in by_chunk.items()}
    named = [(c, data.draw(st.integers(0, len(by_chunk.get(c, range(9))) - 1))) for c in range(-1, 8) for _ in range(2)]
    chunks, rows = np.array(named).T
    chosen = Chosen(kept)
    found = chosen.renumber(chosen.places(chunks), rows)
    assert found.tolist() == [int(kept[c].renumber(np.array([r]))[0]) if c in kept else r for c, r in named]
    assert chosen.totals(chunks, chunks + 100).tolist() == [kept[c].total if c in kept else c + 100 for c in chunks]


def test_all_rows_need_no_list():
    assert kept_of_mask(np.ones(4, np.bool_)).rows is None
    assert kept_of_mask(np.zeros(0, np.bool_)).rows is None
    values = np.arange(4)
    assert Kept(4, None).take(values) is values
    assert kept_of_mask(np.zeros(4, np.bool_)).renumber(np.arange(4)).tolist() == [-1] * 4


@modest
@given(st.integers(-50, 50), st.sampled_from([0.1, 1 / 3, 1e-3, 1.0, 100.0]), st.floats(0, 0.999))
def test_no_vertex_of_a_chunk_is_outside_it(coord, edge, part):
    for dtype in ("f4", "f8"):
        position = np.array([[(coord + part) * edge]], dtype)
        at = np.floor(position.astype("f8") / edge)
        assert not outside_chunk(position, at[0], np.array([edge]))[0]


@pytest.mark.parametrize(("position", "outside"), [(9.99, True), (10, False), (15, False), (20, False), (20.01, True)])
def test_a_vertex_outside_its_chunk(position, outside):
    vertices = np.array([[5.0, position]])
    assert outside_chunk(vertices, np.array([0.0, 1.0]), np.array([10.0, 10.0]))[0] == outside
