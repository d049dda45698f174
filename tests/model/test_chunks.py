import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.format.encode import thorough
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.model.levels import ChunkTable, dotted

reach = st.integers(-5, 5) | st.integers(-(2**19), 2**19)


def coordinates(rank):
    return st.tuples(*[reach] * rank)


@thorough
@given(st.integers(1, 3), st.data())
def test_find_is_a_dict(rank, data):
    coords = data.draw(st.lists(coordinates(rank), unique=True, max_size=25))
    table = ChunkTable(np.array(coords, np.int64).reshape(-1, rank))
    assert list(map(tuple, table.coords.tolist())) == sorted(coords)
    assert [coords[i] for i in table.order] == sorted(coords)
    assert (len(table), table.rank) == (len(coords), rank)
    rows = {coord: row for row, coord in enumerate(sorted(coords))}
    near = st.sampled_from(coords) if coords else st.nothing()
    shifted = near.map(lambda c: (*c[:-1], c[-1] + 1))
    asked = data.draw(st.lists(near | shifted | coordinates(rank) | st.tuples(*[st.integers(-(2**62), 2**62)] * rank)))
    found = table.find(np.array(asked, np.int64).reshape(-1, rank))
    assert found.dtype == np.int64
    assert found.tolist() == [rows.get(coord, -1) for coord in asked] == [table.row(coord) for coord in asked]


def test_a_full_grid_ends_at_its_faces():
    grid = list(itertools.product(range(-1, 2), range(4), range(2)))
    table = ChunkTable(np.array(grid))
    around = list(itertools.product(range(-3, 4), range(-2, 6), range(-2, 4)))
    assert table.find(np.array(around)).tolist() == [grid.index(c) if c in grid else -1 for c in around]


@thorough
@given(st.lists(coordinates(2), unique=True, min_size=1, max_size=20), st.data())
def test_a_coordinate_given_twice_is_refused(coords, data):
    repeat = data.draw(st.sampled_from(coords))
    at = data.draw(st.integers(0, len(coords)))
    with pytest.raises(FormatError, match=f"chunk '{dotted(repeat)}' is listed twice"):
        ChunkTable(np.array([*coords[:at], repeat, *coords[at:]]))


def test_coordinates_as_wide_as_keys_may_be():
    coords = np.array([[10**18 - 1], [-(10**18) + 1], [0]])
    table = ChunkTable(coords)
    assert table.find(coords).tolist() == [2, 0, 1]


def test_an_absurd_grid_is_refused():
    with pytest.raises(FormatError, match="absurd grid"):
        ChunkTable(np.array([[0, 0, 0], [10**9, 10**9, 10**9]]))


@pytest.mark.parametrize("rank", [1, 4])
def test_an_empty_table_finds_nothing(rank):
    table = ChunkTable(np.empty((0, rank), np.int64))
    assert table.find(np.zeros((3, rank), np.int64)).tolist() == [-1] * 3
    assert table.find(np.empty((0, rank), np.int64)).shape == (0,)


def test_some_rows_of_a_table():
    table = ChunkTable(np.array([[3], [1], [2], [0]]))
    assert table.take(np.array([2, 0])).coords.tolist() == [[0], [2]]


def test_tables_pickle_as_their_coordinates():
    table = ChunkTable(np.array([[3, 1], [-1, 5]]))
    copy = pickle.loads(pickle.dumps(table))
    assert copy.coords.tolist() == table.coords.tolist() == [[-1, 5], [3, 1]]
    assert copy.find(np.array([[3, 1], [0, 0]])).tolist() == [1, -1]


def test_the_given_coordinates_are_not_changed():
    given_coords = np.array([[3], [1]])
    ChunkTable(given_coords)
    assert given_coords.tolist() == [[3], [1]]


@pytest.mark.parametrize(("coord", "text"), [((3, 0, -1), "3.0.-1"), ([7], "7"), (np.array([1, 2], np.int8), "1.2")])
def test_coordinates_as_the_format_writes_them(coord, text):
    assert dotted(coord) == text
