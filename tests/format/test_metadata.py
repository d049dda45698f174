import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.format.encode import outcome, thorough
from tests.format.v09.nodes import changed, dataset, found, level_doc, places, root_doc
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.metadata import parse_level, parse_root
from zarr_vectors_lazy.model.levels import LevelMeta, StoreMeta

JUNK = [
    None,
    True,
    -1,
    0,
    3,
    1.5,
    10**400,
    "",
    "x",
    [],
    [[]],
    ["x"],
    [-1, 0],
    [1, 2],
    {},
    [None],
    [{}],
    [{"path": "1"}],
]
FULL = root_doc(base_bin_shape=[5, 10.25], coordinate_offset=[1, 2], links_convention="explicit", crs={"epsg": 1})


def root(doc, children=None):
    return parse_root(found(doc, ""), children)


def with_datasets(*datasets, **block):
    return changed(root_doc(**block), ("attributes", "multiscales", 0, "datasets"), list(datasets))


def bins(meta):
    return {level: shape.tolist() for level, shape in meta.bins.items()}


def test_what_a_root_says():
    meta = root(FULL, ("0", "1", "parametric", "2"))
    assert (meta.version, meta.axes, meta.ndim) == ("0.9.2", ("y", "x"), 2)
    assert meta.units == ("micrometer", None)
    assert meta.chunk_shape.tolist() == [10, 20.5]
    assert meta.bin_shape.tolist() == [5, 10.25]
    assert [corner.tolist() for corner in meta.bounds] == [[-5, 0], [99.5, 40]]
    assert (meta.geometry_types, meta.links_convention) == (("point_cloud",), "explicit")
    assert (meta.level_names, meta.crs) == ((0, 1, 2), {"epsg": 1})
    assert meta.coordinate_offset.tolist() == [1, 2]
    assert {array.dtype for array in (meta.chunk_shape, meta.bin_shape, *meta.bounds)} == {np.dtype("f8")}


def test_defaults_of_a_root():
    meta = root(root_doc())
    assert meta.bin_shape.tolist() == meta.chunk_shape.tolist()
    assert (meta.links_convention, meta.crs, meta.coordinate_offset) == ("implicit_sequential", None, None)
    assert root(root_doc(geometry_types=[])).geometry_types == ()


@pytest.mark.parametrize("field", ["zv_version", "chunk_shape", "bounds", "geometry_types"])
@pytest.mark.parametrize("value", [..., None, 3, "x", {}, [3], [[1, 2], [3]], [None, None]])
def test_a_required_field_that_is_missing_or_mistyped_is_named(field, value):
    if field == "zv_version" and value == "x":
        value = ["0.9.2"]
    with pytest.raises(FormatError, match=field):
        root(changed(root_doc(), ("attributes", "zarr_vectors", field), value))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("chunk_shape", [1, 0]),
        ("chunk_shape", [1, -2.0]),
        ("chunk_shape", [1, float("nan")]),
        ("chunk_shape", [1, float("inf")]),
        ("chunk_shape", [1, True]),
        ("chunk_shape", [1, 2, 3]),
        ("chunk_shape", [1, 10**400]),
        ("base_bin_shape", [0, 1]),
        ("base_bin_shape", [1]),
        ("base_bin_shape", "5"),
        ("bounds", [[0, 0]]),
        ("bounds", [[0, 0], [1, "1"]]),
        ("bounds", [[0, 0], [1, 1], [2, 2]]),
        ("geometry_types", ["mesh", 3]),
        ("geometry_types", "mesh"),
        ("coordinate_offset", [1]),
        ("coordinate_offset", 0),
    ],
)
def test_impossible_values_are_named(field, value):
    with pytest.raises(FormatError, match=field):
        root(root_doc(**{field: value}))


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ((), ..., "multiscales"),
        ((), [], "multiscales"),
        ((), {"axes": []}, "multiscales"),
        ((), ["x"], "multiscales"),
        ((0, "axes"), ..., "axes"),
        ((0, "axes"), [], "axes"),
        ((0, "axes"), ["x", "y"], "axes"),
        ((0, "axes", 1, "name"), ..., "axes"),
        ((0, "datasets"), 5, "datasets"),
        ((0, "datasets"), ["0"], "datasets"),
        ((0, "datasets", 0, "coordinateTransformations"), 5, "coordinateTransformations"),
        ((0, "datasets", 0, "coordinateTransformations"), [5], "coordinateTransformations"),
        ((0, "datasets", 0, "coordinateTransformations", 0, "scale"), ..., "scale"),
        ((0, "datasets", 1, "coordinateTransformations", 1, "translation"), [1], "translation"),
        ((0, "datasets", 1, "coordinateTransformations", 1, "translation"), ["1", "2"], "translation"),
    ],
)
def test_multiscales_that_are_none(path, value, named):
    doc = changed(root_doc(), ("attributes", "multiscales", *path), value)
    if named == "scale":  # level 0 has a translation, which is checked first
        doc = changed(doc, ("attributes", "multiscales", 0, "datasets", 0, "coordinateTransformations", 1))
    with pytest.raises(FormatError, match=named):
        root(doc)


def test_too_few_numbers_are_noticed():
    with pytest.raises(FormatError, match="chunk_shape must be 3 numbers"):
        root(changed(root_doc(), ("attributes", "multiscales", 0, "axes"), [{"name": name} for name in "abc"]))


@pytest.mark.parametrize(
    ("datasets", "expected"),
    [
        ([dataset("0", [1, 1], [5, 10.25]), dataset("1", [2, 4], [10, 41])], {0: [10, 20.5], 1: [20, 82]}),
        ([dataset("0", [1, 1]), dataset("1", [2, 4])], {0: [10, 20.5], 1: [20, 82]}),
        ([dataset("0"), dataset("1")], {0: [10, 20.5], 1: [10, 20.5]}),
        ([dataset("0", [1, 1], [9, 9])], {0: [10, 20.5]}),  # level 0 has the base bin
        ([dataset("0", [1, 1], [2.5, 10.25])], {0: [5, 20.5]}),  # unless it names one that defines the chunks
        ([dataset("3", [1, 1], [9, 9])], {3: [18, 18]}),
        ([dataset("1", [2, 2], [0, 4])], {1: [10, 20.5]}),
        ([dataset("x"), dataset("-1"), dataset("01"), dataset("1.0"), {}], {}),
    ],
)
def test_bins_of_multiscales(datasets, expected):
    assert bins(root(with_datasets(*datasets))) == expected


def test_bins_count_from_the_base_bin():
    doc = with_datasets(dataset("0"), dataset("1", [2, 4]), base_bin_shape=[5, 10.25])
    assert bins(root(doc)) == {0: [5, 10.25], 1: [10, 41]}


@pytest.mark.parametrize(
    ("children", "levels"),
    [
        (None, (0, 1)),
        ((), (0, 1)),
        (("10", "2"), (0, 1, 2, 10)),
        (("00", "+1", "-1", "1.0", "x", "", "parametric", "headers", "9" * 5000, "\u0663"), (0, 1)),
    ],
)
def test_levels_are_bare_decimal_integers(children, levels):
    assert root(root_doc(), children).level_names == levels


@thorough
@given(st.sampled_from([p for p in places(FULL) if p != ("attributes", "zarr_vectors")]), st.sampled_from([..., *JUNK]))
def test_any_field_of_the_root_may_be_anything(path, value):
    doc = changed(FULL, path, value)
    if isinstance(doc.get("attributes"), dict) and "zarr_vectors" in doc["attributes"]:
        assert isinstance(outcome(root, doc), StoreMeta | FormatError)


def level(doc, index=0, **block):
    return parse_level(found(doc, str(index)), root(root_doc(**block)), index)


def test_what_a_level_says():
    meta = level(level_doc(1, chunk_shape=[20, 41], fragments_tile=True), 1)
    assert (meta.index, meta.vertex_count, meta.fragments_tile, meta.chunk_attribute) == (1, 7, True, None)
    assert meta.chunk_shape.tolist() == [20, 41]
    assert meta.bin_shape.tolist() == [20, 82]


def test_defaults_of_a_level():
    meta = level(level_doc())
    assert meta.chunk_shape.tolist() == [10, 20.5]
    assert not meta.fragments_tile


def test_bins_of_a_level_that_multiscales_do_not_name():
    ours = root_doc(base_bin_shape=[5, 10.25])
    store = root(changed(ours, ("attributes", "multiscales", 0, "datasets"), []))
    shapes = [
        parse_level(found(level_doc(2, **block), "2"), store, 2).bin_shape.tolist()
        for block in ({}, {"bin_shape": [7, 8]}, {"bin_ratio": [2, 3]}, {"bin_shape": [7, 8], "bin_ratio": [2, 3]})
    ]
    assert shapes == [[5, 10.25], [7, 8], [10, 30.75], [7, 8]]


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ((), ..., "zarr_vectors_level"),
        ((), [1], "zarr_vectors_level"),
        (("level",), 1, "level 1"),
        (("level",), "0", "level '0'"),
        (("chunk_shape",), [1], "chunk_shape"),
        (("chunk_shape",), [0, 1], "chunk_shape"),
        (("chunk_shape",), "x", "chunk_shape"),
        (("chunk_attribute_name",), "kind", "chunk_attribute_values"),
        (("chunk_attribute_values",), ["a"], "chunk_attribute_name"),
    ],
)
def test_a_bad_field_of_a_level_is_named(path, value, named):
    with pytest.raises(FormatError, match=named) as caught:
        level(changed(level_doc(), ("attributes", "zarr_vectors_level", *path), value))
    assert caught.value.where == "0"


@pytest.mark.parametrize("values", [[1, 2], ["a", "b"], [False, True]])
def test_levels_chunked_by_an_attribute(values):
    name, found_values = level(level_doc(chunk_attribute_name="kind", chunk_attribute_values=values)).chunk_attribute
    assert (name, found_values.tolist()) == ("kind", values)


@pytest.mark.parametrize("values", ["ab", {"a": 1}, ["a", 1], [None], [["a"], ["b", "c"]], [10**40]])
def test_values_that_no_chunk_axis_has(values):
    with pytest.raises(FormatError, match="chunk_attribute_values"):
        level(level_doc(chunk_attribute_name="kind", chunk_attribute_values=values))


LEVEL = level_doc(2, chunk_shape=[20, 41], bin_shape=[1, 2], chunk_attribute_name="k", chunk_attribute_values=["a"])


@thorough
@given(st.sampled_from(list(places(LEVEL))), st.sampled_from([..., *JUNK]))
def test_any_field_of_a_level_may_be_anything(path, value):
    assert isinstance(outcome(level, changed(LEVEL, path, value), 2), LevelMeta | FormatError)
