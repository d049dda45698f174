import pytest

from zarr_vectors_lazy.plan.selection import column_names

TAKEN = ("x", "y", "z", "object_id")


@pytest.mark.parametrize(
    ("widths", "expected"),
    [
        ({"a": None, "v": 2}, {"a": ["a"], "v": ["v_0", "v_1"]}),
        ({"rgb": 2, "rgb_0": None}, {"rgb": ["rgb_0_", "rgb_1"], "rgb_0": ["rgb_0"]}),
        ({"rgb_0": None, "rgb": 2}, {"rgb": ["rgb_0_", "rgb_1"], "rgb_0": ["rgb_0"]}),
        ({"x": None, "object_id": None}, {"x": ["x_attribute"], "object_id": ["object_id_attribute"]}),
        ({"x": None, "x_attribute": None}, {"x": ["x_attribute_"], "x_attribute": ["x_attribute"]}),
        ({"x": 2}, {"x": ["x_0", "x_1"]}),
        ({"a": 1, "a_0": 1}, {"a": ["a_0_"], "a_0": ["a_0_0"]}),
        ({"a": 1, "a_0": None, "a_0_": None}, {"a": ["a_0__"], "a_0": ["a_0"], "a_0_": ["a_0_"]}),
        ({}, {}),
    ],
)
def test_own_names_stay_and_made_up_ones_give_way(widths, expected):
    assert {name: list(names) for name, names in column_names(widths, TAKEN).items()} == expected


def test_what_is_not_asked_for_keeps_its_name_too():
    assert column_names({"rgb": 2}, TAKEN, known=("rgb", "rgb_0")) == {"rgb": ("rgb_0_", "rgb_1")}
