import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.format.encode import modest
from zarr_vectors_lazy.plan.selection import Between, Condition, Region, Selection

boxes = st.lists(st.tuples(*[st.tuples(st.integers(-9, 9), st.integers(-9, 9)).map(sorted)] * 2), max_size=4)


@modest
@given(boxes)
def test_boxes_intersect(parts):
    selection = Selection()
    for part in parts:
        box = tuple(np.array(corner, float) for corner in zip(*part, strict=True))
        selection = selection.with_region(Region.of(box))
    if not parts:
        assert selection.box is None
        return
    for d in range(2):
        assert selection.box[0][d] == max(part[d][0] for part in parts)
        assert selection.box[1][d] == min(part[d][1] for part in parts)


def test_objects_intersect_and_are_sorted():
    once = Selection().with_objects(np.array([5, 3, 3, 9]))
    assert once.objects.tolist() == [3, 5, 9]
    assert once.with_objects(np.array([9, 4, 3])).objects.tolist() == [3, 9]
    assert once.with_objects(np.array([], np.int64)).objects.tolist() == []
    assert Selection().objects is None


def test_selections_keep_the_rest():
    condition = Condition(("a",), Between(0, 1))
    selection = (
        Selection(conditions=(condition,)).with_region(Region.of((np.zeros(2), np.ones(2)))).with_objects(np.array([1]))
    )
    assert selection.conditions == (condition,)
    assert selection.box is not None
    assert selection.token() != Selection(conditions=(condition,)).token()
