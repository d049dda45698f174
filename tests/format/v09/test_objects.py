import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.format.encode import modest, outcome
from tests.format.v09.nodes import GENERATION, array_doc, ask, changed, dense_doc, found, group_doc, level_doc, root_doc
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.metadata import parse_level, parse_root
from zarr_vectors_lazy.format.v09.arrays import parse_cells

LEVEL = parse_level(found(level_doc(), "0"), parse_root(found(root_doc(), ""), None), 0)
VERTICES = parse_cells(found(array_doc(), "0/vertices"))
V1 = {
    "0/object_index": group_doc({"num_objects": 5, "sid_ndim": 2, "layout": "vlen_manifests_v1"}),
    "0/object_index/manifests": dense_doc((5,), (3,), "variable_length_bytes"),
}
V2 = changed(V1, ("0/object_index", "attributes", "layout"), "vlen_manifests_v2") | {
    "0/object_index/object_ids": dense_doc((5,), (5,), "int64")
}


def index_of(docs):
    return ask(GENERATION.objects(LEVEL, VERTICES), docs)


def test_ids_are_rows_in_layout_1():
    index = index_of(V1)
    assert (index.count, index.rank, index.ids, index.manifests.chunk_rows) == (5, 2, None, 3)
    without = changed(V1, ("0/object_index", "attributes", "layout"))
    assert index_of(without).ids is None
    assert index_of(V1 | {"0/object_index/object_ids": dense_doc((5,), (5,), "int64")}).ids is None


def test_ids_are_stored_in_layout_2():
    index = index_of(V2)
    assert (index.count, index.ids.path, index.ids.shape) == (5, "0/object_index/object_ids", (5,))
    assert index.digest != index_of(V1).digest


def test_no_objects():
    assert index_of({}) is None
    empty = {"0/object_index": group_doc({"num_objects": 0, "layout": "vlen_manifests_v1"})}
    assert (index_of(empty).count, index_of(empty).manifests) == (0, None)


@pytest.mark.parametrize(
    ("docs", "match"),
    [
        (changed(V1, ("0/object_index", "attributes", "layout"), "vlen_manifests_v3"), "layout"),
        (changed(V1, ("0/object_index", "attributes", "layout"), ["vlen_manifests_v1"]), "layout"),
        (changed(V1, ("0/object_index", "attributes", "sid_ndim"), 3), "3 chunk components, but the vertices 2"),
        (changed(V1, ("0/object_index/manifests",)), "states 5 objects but has no manifests"),
        (changed(V1, ("0/object_index/manifests",), group_doc({})), "manifests"),
        (V1 | {"0/object_index/manifests": dense_doc((), (), "variable_length_bytes")}, "manifests"),
        (V1 | {"0/object_index/manifests": dense_doc((5,), (5,), "int64")}, "manifests must be bytes"),
        (changed(V2, ("0/object_index/object_ids",)), "object_ids"),
        (V2 | {"0/object_index/object_ids": dense_doc((4,), (5,), "int64")}, "object_ids"),
        (V2 | {"0/object_index/object_ids": dense_doc((5,), (5,), "float64")}, "object_ids"),
    ],
)
def test_a_bad_index_is_named(docs, match):
    with pytest.raises(FormatError, match=match) as caught:
        index_of(docs)
    assert caught.value.where.startswith("0/object_index")


@pytest.mark.parametrize(("family", "ask_for"), [("object", "object_attributes"), ("group", "group_attributes")])
def test_dense_arrays_by_name(family, ask_for):
    docs = {f"0/{family}_attributes/{name}": dense_doc((5,)) for name in ("b", "a")}
    docs |= {f"0/{family}_attributes/notes": group_doc({}), f"0/{family}_attributes/": group_doc({})}
    arrays = ask(getattr(GENERATION, ask_for)(LEVEL), docs)
    assert {name: array.name for name, array in arrays.items()} == {"a": "a", "b": "b"}
    assert ask(getattr(GENERATION, ask_for)(LEVEL), {}) == {}


def groups_of(**attributes):
    return ask(GENERATION.groups(LEVEL), {"0/groups": dense_doc((3,), (3,), "variable_length_bytes", **attributes)})


def test_groups():
    groups = groups_of(num_groups=3, group_names=["a", "b"], group_ranges={"1": [4, 9], "2": [0, 0]})
    assert (groups.count, groups.names, groups.ranges) == (3, ("a", "b"), {1: (4, 9), 2: (0, 0)})
    assert (groups_of().names, groups_of().ranges) == ((), {})
    assert ask(GENERATION.groups(LEVEL), {}) is None


@pytest.mark.parametrize(
    "attributes",
    [
        {"group_names": "ab"},
        {"group_names": {"0": "a"}},
        {"group_ranges": [[0, 1]]},
        {"group_ranges": {"0": [1]}},
        {"group_ranges": {"0": [1, 2, 3]}},
        {"group_ranges": {"0": "12"}},
        {"group_ranges": {"0": [1, 2.5]}},
        {"group_ranges": {"a": [1, 2]}},
        {"group_ranges": {"-1": [1, 2]}},
        {"group_ranges": {"": [1, 2]}},
    ],
)
def test_bad_groups_are_named(attributes):
    with pytest.raises(FormatError, match=r"group") as caught:
        groups_of(**attributes)
    assert caught.value.where == "0/groups"


def test_headers():
    docs = {"headers/trk": group_doc({"voxel": [1, 2]}), "headers/swc": group_doc({}), "headers/x/y": group_doc({})}
    assert ask(GENERATION.headers(), docs) == {"trk": {"voxel": [1, 2]}, "swc": {}}
    assert ask(GENERATION.headers(), {}) == {}


@modest
@given(
    st.sampled_from(["layout", "sid_ndim", "num_objects"]),
    st.sampled_from([None, 0, -1, "x", [], {}, 1.5, True, 10**30]),
)
def test_any_index_may_be_anything(name, value):
    index = outcome(index_of, changed(V2, ("0/object_index", "attributes", name), value))
    assert isinstance(index, FormatError) or index.count in (0, 5)
