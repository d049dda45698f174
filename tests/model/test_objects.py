import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.format.encode import thorough
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.model.objects import Fragments, Manifests, concatenate_manifests, ragged_arange

entry = st.tuples(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), st.integers(0, 99))
lists = st.lists(st.lists(entry, max_size=4), max_size=6)


def build(objects):
    flat = [item for of_object in objects for item in of_object]
    offsets = np.cumsum([0, *map(len, objects)])
    chunks = np.array([chunk for chunk, _ in flat], np.int64).reshape(-1, 2)
    return Manifests(offsets, chunks, np.array([fragment for _, fragment in flat], np.int64))


def unpacked(manifests):
    items = [(tuple(c), f) for c, f in zip(manifests.chunks.tolist(), manifests.fragments.tolist(), strict=True)]
    ends = manifests.offsets.tolist()
    return [items[ends[i] : ends[i + 1]] for i in range(len(manifests))]


@thorough
@given(st.lists(st.integers(0, 6), max_size=12))
def test_ragged_arange(counts):
    found = ragged_arange(np.array(counts, np.int64))
    assert found.dtype == np.int64
    assert found.tolist() == [i for count in counts for i in range(count)]


@thorough
@given(lists, st.data())
def test_manifests_of_some_objects(objects, data):
    rows = data.draw(st.lists(st.integers(0, len(objects) - 1))) if objects else []
    manifests = build(objects)
    assert unpacked(manifests.take(np.array(rows, np.int64))) == [objects[row] for row in rows]
    assert manifests.owners.tolist() == [i for i, of_object in enumerate(objects) for _ in of_object]


@thorough
@given(st.lists(lists, max_size=4))
def test_manifests_one_part_after_another(parts):
    joined = concatenate_manifests([build(part) for part in parts], 2)
    assert unpacked(joined) == [of_object for part in parts for of_object in part]
    assert joined.chunks.shape[1] == 2
    assert joined.offsets.dtype == joined.fragments.dtype == np.int64


def fragments(first, counts, explicit, listed):
    return Fragments(
        np.array(first, np.int64), np.array(counts, np.int64), np.array(explicit, np.bool_), np.array(listed, np.int64)
    )


def test_rows_of_ranges_and_lists():
    index = fragments([4, 0, 2, 7], [2, 2, 1, 0], [False, True, True, False], [9, 8, 7])
    assert len(index) == 4
    assert index.rows(np.array([1, 0, 2, 3, 1])).tolist() == [9, 8, 4, 5, 7, 9, 8]
    assert index.rows(np.empty(0, np.int64)).tolist() == []


def test_rows_beyond_the_list_are_those_of_ranges():
    # A range that starts behind the end of the list: positions in it must not be looked up.
    index = fragments([100, 0], [3, 1], [False, True], [5])
    assert index.rows(np.array([0, 1])).tolist() == [100, 101, 102, 5]


@pytest.mark.parametrize(("asked", "named"), [([4], 4), ([-1], -1), ([0, 9, 1], 9), ([-3, 3], -3)])
def test_a_fragment_that_is_not_there_is_named(asked, named):
    index = fragments([0] * 4, [1] * 4, [False] * 4, [])
    with pytest.raises(FormatError, match=f"fragment {named}: the chunk has 4"):
        index.rows(np.array(asked))


@pytest.mark.parametrize(
    ("index", "rows"),
    [
        (fragments([], [], [], []), 0),
        (fragments([0, 3], [3, 2], [False, False], []), 5),
        (fragments([0], [2], [True], [4, 0]), 5),
        (fragments([50], [0], [False], []), 0),
    ],
)
def test_check_of_good_fragments(index, rows):
    index.check(rows)
    if rows:
        with pytest.raises(FormatError, match=f"refer to row {rows - 1}, but the chunk has {rows - 1}"):
            index.check(rows - 1)
