"""FORMAT-0.7, 4.3 to 4.8: links, object index, dense columns, groups."""

import struct

import numpy as np
import pytest

from tests.format.encode import unhex
from tests.format.v07.nodes import GENERATION, LEVEL, STORE, ZSTD, ask, blob, blob_doc, dense_doc, group_doc, read
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.manifests import decode_fragments, decode_manifests
from zarr_vectors_lazy.format.v07.cells import DenseBlob, LostColumn, RaggedBlob
from zarr_vectors_lazy.format.v07.generation import INSIDE
from zarr_vectors_lazy.format.vectors import decode_links
from zarr_vectors_lazy.model.arrays import absent_value

WITHIN = {"0/links/0": group_doc({"dtype": "int64", "link_width": 2}), "0/links/0/1.2": blob_doc(32)}
ACROSS = {"0/cross_chunk_links/0": group_doc({"num_links": 3, "link_width": 2, "sid_ndim": 2})}


def family(docs, delta=0):
    return ask(GENERATION.links(LEVEL, STORE, delta), docs)


def test_deltas_are_those_with_records():
    docs = {
        "0/links/+1": group_doc({"link_width": 2}),
        "0/links/-1/0.0": blob_doc(8),
        "0/links/0": group_doc({}),
        "0/cross_chunk_links/0": group_doc({"num_links": 2}),
        "0/cross_chunk_links/+2": group_doc({"level_delta": 2}),
        "0/cross_chunk_links/-3": group_doc({"num_links": 0}),
        "0/links/other": group_doc({}),
    }
    assert ask(GENERATION.deltas(LEVEL), docs) == (-1, 0)


def test_links_inside_chunks_and_across():
    both = family(WITHIN | ACROSS)
    (segment,) = both.segments
    assert (both.width, both.delta, both.same_key) == (2, 0, True)
    assert segment.array.chunks.coords.tolist() == [[1, 2]]
    assert segment.offsets.tolist() == [[0, 0]]
    assert not segment.coding.grouped
    assert not segment.coding.permuted
    assert both.table.records.shape == (3, 2, 3)
    assert family(WITHIN).table is None
    assert family(ACROSS).segments == ()
    assert family({}) is None


def test_links_to_another_level_have_a_header():
    docs = {"0/links/+1": group_doc({"link_width": 2}), "0/links/+1/0.0": blob_doc(32)}
    (segment,) = family(docs, 1).segments
    assert segment.coding.grouped
    assert segment.array.spec.layout.headed
    payload = struct.pack("<2q4q", 1, 0, 5, 6, 7, 8)
    assert decode_links(payload, segment.coding)[:, 1].tolist() == [[5, 6], [7, 8]]


@pytest.mark.parametrize(
    ("docs", "match"),
    [
        (WITHIN | {"0/links/0": group_doc({"dtype": "int64"})}, "link_width"),
        (WITHIN | {"0/links/0": group_doc({"link_width": 0})}, "link_width"),
        ({"0/links/0/1.2": blob_doc(32)}, "link_width"),
        (WITHIN | {"0/links/0": group_doc({"link_width": 3})} | ACROSS, "one family"),
        (WITHIN | {"0/links/0": group_doc({"link_width": 2, "dtype": "float32"})}, "integers"),
        ({"0/cross_chunk_links/0": group_doc({"num_links": 3, "link_width": 2, "sid_ndim": 5})}, "sid_ndim is 5"),
        ({"0/cross_chunk_links/0": group_doc({"num_links": -3, "link_width": 2, "sid_ndim": 2})}, "num_links"),
        ({"0/cross_chunk_links/0": group_doc({"num_links": 3, "sid_ndim": 2})}, "link_width"),
    ],
)
def test_families_that_make_no_sense(docs, match):
    with pytest.raises(FormatError, match=match):
        family(docs)


def test_the_example_of_a_record():
    """FORMAT-0.7, 4.5: one edge in three axes is 64 bytes."""
    record = struct.pack("<8q", 1, -2, 3, 40, 1, -1, 3, 7)
    stored = DenseBlob(path="a", dtype=np.dtype("<i8"), shape=(1, 2, 4))
    values, rounds = read(stored.read(), blob("a", record))
    assert values.tolist() == [[[1, -2, 3, 40], [1, -1, 3, 7]]]
    assert sum(map(len, rounds)) == stored.requests == 2


@pytest.mark.parametrize(("width", "damage"), [(1, False), (2, True), (3, True)])
def test_a_table_without_an_object(width, damage):
    """Zarr leaves zeros out, but a record across chunks is never all zeros: both ends would lie in one chunk."""
    docs = {"0/cross_chunk_links/0": group_doc({"num_links": 1, "link_width": width, "sid_ndim": 2})}
    stored = family(docs).table.records.stored
    objects = blob(stored.path, bytes(24 * width), ZSTD, left_out=True)
    if damage:
        with pytest.raises(FormatError, match="object is missing"):
            read(stored.read(), objects)
    else:
        assert read(stored.read(), objects)[0].tolist() == [[[0, 0, 0]]]


def test_values_of_links():
    values = group_doc({"dtype": "float32"})
    docs = WITHIN | ACROSS | {"0/link_attributes/w/0": values, "0/link_attributes/w/0/1.2": blob_doc(8)}
    assert ask(GENERATION.link_attribute_names(LEVEL, 0), docs) == ("w",)
    assert ask(GENERATION.link_attribute_names(LEVEL, 1), docs) == ()
    found = ask(GENERATION.link_attribute(LEVEL, family(docs), "w"), docs)
    assert list(found.cells) == [INSIDE]
    assert found.table is None
    path = "0/cross_chunk_link_attributes/w/0"
    docs |= {path: group_doc({"dtype": "float32", "shape": [3]})}
    assert ask(GENERATION.link_attribute(LEVEL, family(docs), "w"), docs).table.shape == (3,)
    docs |= {path: group_doc({"dtype": "float32", "shape": [4]})}
    with pytest.raises(FormatError, match="4 values for 3 links"):
        ask(GENERATION.link_attribute(LEVEL, family(docs), "w"), docs)


def test_the_examples_of_fragments():
    """FORMAT-0.7, 4.2."""
    one = decode_fragments(
        unhex("4746565a 0100 0000 01000000 01000000 01 00000000000000 0000000000000000 0300000000000000 00000000")
    )
    assert one.rows(np.asarray([0])).tolist() == [0, 1, 2]
    two = (
        struct.pack("<IHHII", 0x5A564647, 1, 0, 2, 1) + bytes([1, *bytes(7)]) + struct.pack("<qqIIqq", 0, 3, 0, 2, 4, 1)
    )
    assert len(two) == 64
    index = decode_fragments(two)
    assert [index.rows(np.asarray([f])).tolist() for f in (0, 1)] == [[0, 1, 2], [4, 1]]


def test_the_example_of_a_manifest():
    """FORMAT-0.7, 4.7: chunk (-1, 2, 0), fragment 5, is 37 bytes; no blocks are four."""
    raw = struct.pack("<I3qBq", 1, -1, 2, 0, 0, 5)
    assert len(raw) == 37
    manifests = decode_manifests([raw, bytes(4)], 3)
    assert (manifests.chunks.tolist(), manifests.fragments.tolist()) == ([[-1, 2, 0]], [5])
    assert manifests.offsets.tolist() == [0, 1, 1]


INDEX = {
    "0/object_index": group_doc({"num_objects": 5, "sid_ndim": 2, "layout": "vlen_manifests_v1"}),
    "0/object_index/manifests": dense_doc((5,), (3,), "variable_length_bytes"),
}
OLD = {"0/object_index": group_doc({"num_objects": 2, "sid_ndim": 2})}


def index_of(docs):
    array = ask(GENERATION.vertices(LEVEL, STORE), {"0/vertices": group_doc({}), "0/vertices/1.2": blob_doc(8)})
    return ask(GENERATION.objects(LEVEL, array), docs)


def test_object_indexes():
    index = index_of(INDEX)
    assert (index.count, index.ids, index.manifests.chunk_rows, index.blank_is_lost) == (5, None, 3, True)
    assert index_of({}) is None
    assert index_of({"0/object_index": group_doc({"num_objects": 0, "sid_ndim": 2})}).manifests is None
    assert index_of({"0/object_index": group_doc({"zv_array": "object_index"})}) is None  # it got no object
    stored = index_of(OLD).manifests.stored
    blobs = blob("0/object_index/data", b"firstsecond") | blob("0/object_index/offsets", struct.pack("<2q", 0, 5))
    values, rounds = read(stored.read(), blobs)
    assert values.tolist() == [b"first", b"second"]
    assert sum(map(len, rounds)) == stored.requests


@pytest.mark.parametrize(
    ("docs", "match"),
    [
        (INDEX | {"0/object_index": group_doc({"num_objects": 5, "layout": "v2"})}, "layout"),
        (INDEX | {"0/object_index": group_doc({"num_objects": 5, "sid_ndim": 3, "layout": "vlen_manifests_v1"})}, "3"),
        (INDEX | {"0/object_index": group_doc({"num_objects": 6, "layout": "vlen_manifests_v1"})}, "6 objects"),
        (INDEX | {"0/object_index": group_doc({})}, "num_objects"),
        ({"0/object_index": group_doc({}), "0/object_index/data": blob_doc(4)}, "num_objects"),
        (INDEX | {"0/object_index": group_doc({"num_objects": -1, "layout": "vlen_manifests_v1"})}, "negative"),
        (INDEX | {"0/object_index/manifests": dense_doc((5,), (3,), "uint8")}, "manifests"),
        ({"0/object_index": INDEX["0/object_index"]}, "no manifests"),
    ],
)
def test_object_indexes_that_make_no_sense(docs, match):
    with pytest.raises(FormatError, match=match):
        index_of(docs)


@pytest.mark.parametrize(
    ("offsets", "match"), [((0, 99), "ascend"), ((5, 0), "ascend"), ((-1, 5), "ascend"), ((0,), "offsets for 2")]
)
def test_offsets_that_make_no_sense(offsets, match):
    objects = blob("a/data", b"firstsecond") | blob("a/offsets", struct.pack(f"<{len(offsets)}q", *offsets))
    with pytest.raises(FormatError, match=match):
        read(RaggedBlob(path="a", count=2).read(), objects)


def column(**attributes):
    docs = {"0/object_attributes/c": group_doc({"name": "c", "num_channels": 1} | attributes)}
    return ask(GENERATION.object_attributes(LEVEL), docs)["c"]


def test_dense_columns_and_their_marks():
    array = column(dtype="float32", shape=[3, 2])
    assert (array.shape, array.dtype) == ((3, 2), np.float32)
    payload = np.arange(6, dtype="<f4").tobytes()
    objects = blob("0/object_attributes/c/data", payload) | blob("0/object_attributes/c/present_mask", b"\1\0\1", ZSTD)
    assert read(array.stored.read(), objects)[0].tolist() == [[0, 1], [2, 3], [4, 5]]
    marked = column(dtype="float32", shape=[3, 2], has_present_mask=True).stored
    values, rounds = read(marked.read(), objects)
    assert np.isnan(values[1]).all()
    assert values[[0, 2]].tolist() == [[0, 1], [4, 5]]
    assert sum(map(len, rounds)) == marked.requests


@pytest.mark.parametrize(("dtype", "value"), [("i2", -(2**15)), ("u1", 255), ("f8", np.nan), ("U3", ""), ("?", False)])
def test_values_of_absent_rows(dtype, value):
    np.testing.assert_equal(absent_value(np.dtype(dtype)), value)


@pytest.mark.parametrize(
    ("attributes", "payload", "match"),
    [
        ({"dtype": "float32", "shape": [3]}, bytes(8), "8 bytes, expected 12"),
        (
            {"dtype": "float32", "shape": [2], "has_present_mask": True},
            bytes(8),
            "3 marks of missing values for 2 rows",
        ),
    ],
)
def test_columns_of_other_sizes(attributes, payload, match):
    objects = blob("0/object_attributes/c/data", payload) | blob("0/object_attributes/c/present_mask", bytes(3))
    with pytest.raises(FormatError, match=match):
        read(column(**attributes).stored.read(), objects)


@pytest.mark.parametrize(
    "attributes", [{"dtype": "float32"}, {"shape": [3]}, {"dtype": "no", "shape": [3]}, {"dtype": "f4", "shape": []}]
)
def test_columns_that_make_no_sense(attributes):
    with pytest.raises(FormatError):
        column(**attributes)


def test_columns_that_are_lost_or_missing():
    lost = column(dtype="object", shape=[3])
    assert isinstance(lost.stored, LostColumn)
    assert lost.stored.requests == 0
    with pytest.raises(FormatError, match="memory addresses"):
        read(lost.stored.read(), {})
    with pytest.raises(FormatError, match="object is missing"):
        read(column(dtype="float32", shape=[3]).stored.read(), {})
    with pytest.raises(FormatError, match="has no metadata"):
        ask(GENERATION.object_attributes(LEVEL), {"0/object_attributes/c/data": blob_doc(4)})
    docs = INDEX | {"0/object_attributes/c": group_doc({"dtype": "f4", "shape": [4]})}
    with pytest.raises(FormatError, match="4 rows for 5 objects"):
        ask(GENERATION.object_attributes(LEVEL), docs)


def test_groups():
    assert ask(GENERATION.groups(LEVEL), {}) is None
    groups = ask(GENERATION.groups(LEVEL), {"0/groups": group_doc({"num_groups": 2})})
    assert (groups.count, groups.names, groups.ranges) == (2, (), {})
    objects = blob("0/groups/data", struct.pack("<3q", 4, 2, 9)) | blob("0/groups/offsets", struct.pack("<2q", 0, 16))
    assert [len(one) for one in read(groups.members.stored.read(), objects)[0]] == [16, 8]
    docs = {"0/group_attributes/size": group_doc({"dtype": "int32", "shape": [2]})}
    assert ask(GENERATION.group_attributes(LEVEL), docs)["size"].shape == (2,)
