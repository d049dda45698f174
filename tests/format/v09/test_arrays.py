import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.format.encode import outcome, thorough
from tests.format.v09.nodes import array_doc, changed, dense_doc, found, group_doc, places
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.metadata import parse_dense, parse_dtype
from zarr_vectors_lazy.format.v09.arrays import parse_cells
from zarr_vectors_lazy.model.arrays import CellArray, DenseArray

JUNK = [None, True, -1, 0, 3, 1.5, 10**30, "", "x", [], [[]], ["x"], [-1], {}, {"name": 1}, {"name": "x"}, [None]]
ATTRIBUTES = {
    "dtype": "uint8",
    "chunk_grid_origin": [-1, 0],
    "row_shape": [3],
    "encoding": "dictionary",
    "categories": ["a", "b"],
    "_FillValue": 255,
    "zarr_vectors_lazy": {"vertex_counts": [3, 4]},
}
FULL = array_doc(shards=(2, 3), codecs=("vlen-bytes", "zstd"), **ATTRIBUTES)


def test_what_a_chunk_grid_array_says():
    array = parse_cells(found(FULL))
    assert array.chunks.coords.tolist() == [[0, 0], [1, 2]]
    assert (array.spec.path, array.spec.dtype, array.spec.row_shape) == ("0/cells", np.uint8, (3,))
    assert array.spec.layout.origin == (-1, 0)
    assert array.spec.layout.zarr_indices(array.chunks.coords).tolist() == [[1, 0], [2, 2]]
    assert array.spec.dictionary.categories.tolist() == ["a", "b"]
    assert array.spec.dictionary.fill == 255
    assert array.counts.tolist() == [3, 4]
    assert array.digest == "digest of 0/cells"


def test_defaults():
    array = parse_cells(found(array_doc()))
    assert (array.spec.dtype, array.spec.row_shape) == (np.float32, None)
    assert (array.spec.dictionary, array.counts, array.spec.layout.origin) == (None, None, (0, 0))
    other = parse_cells(found(array_doc(row_shape=[9])), default_dtype="int64", row_shape=())
    assert (other.spec.dtype, other.spec.row_shape) == (np.int64, ())


def test_counts_follow_the_chunks_when_these_are_sorted():
    keys = ["-1.0", "-2.0", "10.0", "2.0"]  # in the order of strings, as writers list them
    ours = {"zarr_vectors_lazy": {"vertex_counts": [1, 2, 10, 20]}}
    array = parse_cells(found(array_doc((20, 1), keys, chunk_grid_origin=[-5, 0], **ours)))
    assert array.chunks.coords[:, 0].tolist() == [-2, -1, 2, 10]
    assert array.counts.tolist() == [2, 1, 20, 10]


def test_no_chunks():
    array = parse_cells(found(array_doc(keys=[])))
    assert array.chunks.coords.shape == (0, 2)


@pytest.mark.parametrize("keys", [["4.0"], ["0.6"], ["-1.0"], ["0.0", "3.5", "3.6"]])
def test_a_chunk_outside_the_grid(keys):
    with pytest.raises(FormatError, match=r"outside the array's grid of \(4, 6\) from \(0, 0\)") as caught:
        parse_cells(found(array_doc(keys=keys)))
    assert caught.value.where == "0/cells"
    assert keys[-1].replace(".", ", ") in caught.value.message


def test_corners_of_the_grid_are_inside():
    corners = [".".join(map(str, c)) for c in itertools.product((-3, 0), (7, 12))]
    array = parse_cells(found(array_doc(keys=corners, chunk_grid_origin=[-3, 7])))
    assert array.spec.layout.zarr_indices(array.chunks.coords).tolist() == [[0, 0], [0, 5], [3, 0], [3, 5]]


@pytest.mark.parametrize("keys", [["0.0", "0.0"], ["1.2", "0.0", "1.02"], ["0.0", "0.-0"]])
def test_a_chunk_that_is_listed_twice(keys):
    with pytest.raises(FormatError, match="listed twice") as caught:
        parse_cells(found(array_doc(keys=keys)))
    assert caught.value.where == "0/cells"


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (("node_type",), "group", "node_type"),
        (("node_type",), ..., "node_type"),
        (("data_type",), "float32", "data_type"),
        (("data_type",), ..., "data_type"),
        (("shape",), ..., "shape"),
        (("shape",), "4", "shape"),
        (("shape",), [4, 6.0], "shape"),
        (("shape",), [10**30, 6], "shape"),
        (("shape",), [4, 6, 2], "chunk_grid_origin"),
        (("chunk_grid",), ..., "chunk_grid"),
        (("chunk_grid",), [2, 3], "chunk_grid"),
        (("chunk_grid", "configuration"), ..., "chunk_grid"),
        (("chunk_grid", "configuration", "chunk_shape"), [2], "chunk_grid"),
        (("chunk_grid", "configuration", "chunk_shape"), [0, 3], "chunk_grid"),
        (("chunk_grid", "configuration", "chunk_shape"), [2, -3], "chunk_grid"),
        (("chunk_grid", "configuration", "chunk_shape"), [2, None], "chunk_grid"),
        (("chunk_grid", "configuration", "chunk_shape"), [10**9, 10**9], "chunk_grid"),
        (("chunk_grid", "configuration", "chunk_shape"), [2**62, 2**62], "chunk_grid"),
        (("chunk_key_encoding",), ..., "chunk_key_encoding"),
        (("chunk_key_encoding",), 3, "chunk_key_encoding"),
        (("chunk_key_encoding", "name"), ..., "chunk_key_encoding"),
        (("codecs",), ..., "codecs"),
        (("codecs",), {"name": "vlen-bytes"}, "codecs"),
        (("codecs",), [3], "codecs"),
        (("codecs", 0, "name"), ..., "codecs"),
        (("codecs", 0, "configuration"), [1], "codecs"),
        (("codecs", 0, "configuration", "codecs"), ..., "codecs"),
        (("codecs", 0, "configuration", "codecs", 1, "name"), 5, "codecs"),
        (("codecs", 0, "configuration", "index_codecs"), 5, "codecs"),
        (("attributes", "chunk_grid_origin"), [0], "chunk_grid_origin"),
        (("attributes", "chunk_grid_origin"), [0, "0"], "chunk_grid_origin"),
        (("attributes", "chunk_grid_origin"), [0, 2**63], "chunk_grid_origin"),
        (("attributes", "nonempty_chunks"), ..., "nonempty_chunks"),
        (("attributes", "nonempty_chunks"), "0.0", "nonempty_chunks"),
        (("attributes", "nonempty_chunks"), {"0.0": 1}, "nonempty_chunks"),
        (("attributes", "nonempty_chunks"), [0], "chunk keys"),
        (("attributes", "nonempty_chunks"), ["0"], "chunk keys"),
        (("attributes",), ..., "nonempty_chunks"),
        (("attributes", "dtype"), None, "dtype"),
        (("attributes", "dtype"), "object", "dtype"),
        (("attributes", "row_shape"), 3, "row_shape"),
        (("attributes", "row_shape"), [-1], "row_shape"),
        (("attributes", "row_shape"), [0, 2], "row_shape"),
        (("attributes", "categories"), ..., "categories"),
        (("attributes", "categories"), "ab", "categories"),
        (("attributes", "categories"), ["a", 1], "categories"),
        (("attributes", "categories"), [1, True], "categories"),
        (("attributes", "categories"), ["a", None], "categories"),
        (("attributes", "categories"), [["a"], ["b", "c"]], "categories"),
        (("attributes", "categories"), [10**40], "categories"),
        (("attributes", "_FillValue"), "x", "_FillValue"),
        (("attributes", "_FillValue"), 1.5, "_FillValue"),
        (("attributes", "zarr_vectors_lazy", "vertex_counts"), [3], "vertex_counts has 1 counts for 2 chunks"),
        (("attributes", "zarr_vectors_lazy", "vertex_counts"), [3, -1], "vertex_counts"),
        (("attributes", "zarr_vectors_lazy", "vertex_counts"), ["a", "b"], "vertex_counts"),
        (("attributes", "zarr_vectors_lazy", "vertex_counts"), [10**30, 1], "vertex_counts"),
        (("attributes", "zarr_vectors_lazy", "vertex_counts"), [[1, 2], 1], "vertex_counts"),
    ],
)
def test_a_bad_field_is_named(path, value, named):
    with pytest.raises(FormatError, match=named) as caught:
        parse_cells(found(changed(FULL, path, value)))
    assert caught.value.where == "0/cells"


@thorough
@given(st.sampled_from(list(places(FULL))), st.sampled_from([..., *JUNK]))
def test_any_field_may_be_anything(path, value):
    assert isinstance(outcome(parse_cells, found(changed(FULL, path, value))), CellArray | FormatError)


@thorough
@given(st.sampled_from(list(places(dense_doc()))), st.sampled_from([..., *JUNK]))
def test_any_field_of_a_dense_array_may_be_anything(path, value):
    doc = dense_doc()
    assert isinstance(outcome(parse_dense, found(changed(doc, path, value)), "a"), DenseArray | FormatError)


@pytest.mark.parametrize(
    "doc",
    [
        array_doc(codecs=("vlen-bytes", "numcodecs.zlib")),
        array_doc(codecs=("bytes",)),
        array_doc(shards=(2, 3), codecs=("vlen-bytes", "numcodecs.lz4")),
        changed(array_doc(), ("chunk_grid", "configuration", "chunk_shape"), [2, 2]),
        changed(array_doc(), ("chunk_key_encoding", "name"), "v2"),
        changed(array_doc(), ("chunk_key_encoding", "configuration", "separator"), "-"),
        changed(array_doc(), ("storage_transformers",), [{"name": "x"}]),
        changed(FULL, ("codecs", 0, "configuration", "chunk_shape"), [2, 1]),
        changed(FULL, ("codecs", 0, "configuration", "index_location"), "middle"),
        changed(FULL, ("codecs", 0, "configuration", "index_codecs", 0, "configuration", "endian"), "big"),
        changed(FULL, ("codecs", 0, "configuration", "index_codecs", 1, "name"), "zstd"),
        changed(FULL, ("codecs", 0, "configuration", "codecs", 0, "name"), "sharding_indexed"),
        changed(FULL, ("codecs",), [FULL["codecs"][0], {"name": "zstd"}]),
    ],
)
def test_arrays_that_only_zarr_can_read(doc):
    assert not parse_cells(found(doc)).spec.layout.direct


def test_codecs_given_by_their_name_alone():
    doc = changed(array_doc(), ("codecs",), ["vlen-bytes", "zstd"])
    assert parse_cells(found(doc)).spec.layout.pipeline.names == ("zstd",)


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, None),
        ({"row_shape": []}, None),  # the statement that may be false (spec 0.9, 14 no. 3)
        ({"row_shape": [3]}, (3,)),
        ({"row_shape": [2, 4]}, (2, 4)),
        ({"row_shape": [], "channel_names": ["r", "g", "b"]}, (3,)),
        ({"row_shape": [2], "channel_names": ["r", "g", "b"]}, (2,)),
        ({"channel_names": None}, None),
        ({"encoding": "dictionary", "categories": ["a"], "row_shape": []}, ()),
    ],
)
def test_row_shapes(attributes, expected):
    assert parse_cells(found(array_doc(**attributes))).spec.row_shape == expected


@pytest.mark.parametrize("name", ["bool", "int8", "uint64", "float16", "float32", "<f8", ">f8", "<U7", "S3"])
def test_dtypes_are_little_endian(name):
    assert parse_dtype(name, "here") == np.dtype(name).newbyteorder("<")


@pytest.mark.parametrize(
    "value", [None, "", "O", "object", "U", "S0", "nonsense", "(2,", 3, True, [], {}, ["f4"], "f4;"]
)
def test_what_is_no_dtype(value):
    with pytest.raises(FormatError, match="dtype"):
        parse_dtype(value, "here")


def test_what_a_dense_array_says():
    array = parse_dense(found(dense_doc((5, 3), (2, 3), "uint16"), "0/object_attributes/a"), "a")
    assert (array.path, array.name, array.shape) == ("0/object_attributes/a", "a", (5, 3))
    assert (array.dtype, array.chunk_rows, array.fill) == (np.uint16, 2, 0)


@pytest.mark.parametrize(
    ("data_type", "attributes", "dtype"),
    [
        ("variable_length_bytes", {}, object),
        ("string", {}, object),
        ("string", {"dtype": "<U4"}, object),
        ({"name": "fixed_length_utf32", "configuration": {"length_bytes": 16}}, {"dtype": "<U4"}, "<U4"),
        ({"name": "fixed_length_utf32", "configuration": {"length_bytes": 16}}, {}, object),
        ("float64", {"dtype": "int8"}, "f8"),
        ("bool", {}, "?"),
    ],
)
def test_dtypes_of_dense_arrays(data_type, attributes, dtype):
    doc = dense_doc(data_type=data_type, **attributes)
    assert parse_dense(found(doc), "a").dtype == np.dtype(dtype)


@pytest.mark.parametrize("node", [None, found(group_doc({})), found(dense_doc((), ()))])
def test_what_is_no_dense_array(node):
    with pytest.raises(FormatError, match="expected"):
        parse_dense(node, "a")
