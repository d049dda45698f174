"""Intervals of consecutive places, compared with a loop over the places."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from zarr_vectors_lazy.kernels.rows import ids_of_intervals, intervals_of, join_intervals


def by_hand(places):
    """Intervals of {place: owner}, place by place."""
    found = []
    for place in sorted(places):
        if found and found[-1][1:] == [place, places[place]]:
            found[-1][1] = place + 1
        else:
            found.append([place, place + 1, places[place]])
    return found


@settings(max_examples=40)
@given(st.dictionaries(st.integers(0, 30), st.integers(0, 2)), st.integers(1, 4), st.randoms())
def test_intervals_of_parts_join_to_those_of_all(places, parts, random):
    order = list(places)
    random.shuffle(order)
    split = [np.asarray(order[part::parts], np.int64) for part in range(parts)]
    each = [intervals_of(part, np.asarray([places[i] for i in part.tolist()], np.int64)) for part in split]
    assert join_intervals(np.concatenate(each)).tolist() == by_hand(places)


def test_ids():
    assert ids_of_intervals(np.asarray([7, 7, 3, 9, 9, 9]), 20).tolist() == [7, 21, 3, 9, 22, 23]
    assert ids_of_intervals(np.empty(0, np.int64), 20).tolist() == []
