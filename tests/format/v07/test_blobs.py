"""FORMAT-0.7, 3.1: one blob an array, and what a missing object means."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.format.encode import modest, thorough
from tests.format.v07.nodes import ZSTD, blob, blob_doc, found, read
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.v07.cells import MAX_NBYTES, decode_blob, fetch_blobs, fetch_sizes, parse_blob
from zarr_vectors_lazy.types import Blob

FLETCHER = {"name": "numcodecs.fletcher32", "configuration": {}}


def fetch(objects, *, headed=False):
    (one,), rounds = read(fetch_blobs(["a"], headed=headed), objects)
    return one, rounds


@modest
@given(payload=st.binary(min_size=1, max_size=99), zipped=st.booleans(), headed=st.booleans())
def test_payloads(payload, zipped, headed):
    one, rounds = fetch(blob("a", payload, *([ZSTD] if zipped else [])), headed=headed)
    assert bytes(decode_blob(one)) == payload
    assert rounds == [["a/zarr.json", "a/c/0"]]


@pytest.mark.parametrize("codecs", [[], [ZSTD]])
@pytest.mark.parametrize("headed", [True, False])
def test_an_empty_blob_has_no_object(codecs, headed):
    one, _ = fetch(blob("a", b"", *codecs, left_out=True), headed=headed)
    assert bytes(decode_blob(one)) == b""


@pytest.mark.parametrize(
    ("codecs", "headed", "zeros"), [([ZSTD], False, True), ([ZSTD], True, False), ([], False, False), ([], True, False)]
)
def test_a_missing_object_is_zeros_only_where_zarr_leaves_them_out(codecs, headed, zeros):
    one, _ = fetch(blob("a", bytes(7), *codecs, left_out=True), headed=headed)
    assert (bytes(decode_blob(one)) == bytes(7)) if zeros else one is None


def test_another_fill_value_is_no_zeros():
    assert fetch(blob("a", bytes(7), ZSTD, left_out=True, fill_value=1))[0] is None


def test_neither_metadata_nor_object():
    assert fetch({})[0] is None
    assert fetch({"a/c/0": b"bytes"})[0] is None


@pytest.mark.parametrize(
    ("encoding", "key"),
    [
        ({"name": "default", "configuration": {"separator": "."}}, "c.0"),
        ({"name": "default"}, "c/0"),
        ("default", "c/0"),
        ({"name": "v2", "configuration": {"separator": "."}}, "0"),
    ],
)
def test_other_keys(encoding, key):
    one, rounds = fetch(blob("a", b"bytes", key=key, chunk_key_encoding=encoding))
    assert bytes(decode_blob(one)) == b"bytes"
    assert rounds[1:] == ([] if key == "c/0" else [[f"a/{key}"]])


def test_codecs_that_only_zarr_decodes_are_asked_of_it():
    objects = blob("a", b"xxxxxx", FLETCHER) | {"a/elements": b"result"}
    one, rounds = fetch(objects)
    assert bytes(decode_blob(one)) == b"result"
    assert len(rounds) == 2
    assert fetch(blob("a", b"xxxxxx", FLETCHER, left_out=True), headed=True) == (None, [["a/zarr.json", "a/c/0"]])


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("change", [lambda raw: raw[:-1], lambda raw: raw + b"x", lambda raw: b""])
def test_other_sizes_are_an_error(zipped, change):
    objects = blob("a", b"the payload", *([ZSTD] if zipped else []))
    objects["a/c/0"] = change(objects["a/c/0"])
    one, _ = fetch(objects)
    with pytest.raises(FormatError):
        decode_blob(one)


def test_filling_behind_the_payload_is_dropped():
    grid = {"name": "regular", "configuration": {"chunk_shape": [9]}}
    objects = blob("a", b"bytes", chunk_grid=grid) | {"a/c/0": b"bytes" + bytes(4)}
    assert bytes(decode_blob(fetch(objects)[0])) == b"bytes"


BAD = {
    "shape": [[], [1, 2], [-1], None, [2.5], [True, 1]],
    "data_type": ["int8", "float32", None],
    "node_type": ["group", None],
    "chunk_grid": [None, {"name": "regular", "configuration": {"chunk_shape": [2]}}],
    "chunk_key_encoding": [None, 5],
    "codecs": [None, "bytes", [5]],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_what_is_no_blob(name, value):
    with pytest.raises(FormatError) as caught:
        parse_blob(found(blob_doc(5) | {name: value}, "0/vertices/1.2"))
    assert "0/vertices/1.2" in str(caught.value)


def test_an_absurd_size_takes_no_memory():
    with pytest.raises(FormatError, match="larger"):
        parse_blob(found(blob_doc(MAX_NBYTES + 1, ZSTD)))


@pytest.mark.parametrize("raw", [b"", b"{", b"[1]", b"\xff\xfe", b'{"shape": 3}'])
def test_broken_metadata_are_an_error_of_that_blob_alone(raw):
    objects = blob("good", b"bytes") | {"bad/zarr.json": raw, "bad/c/0": b"bytes"}
    (bad, good), _ = read(fetch_blobs(["bad", "good"], headed=False), objects)
    assert isinstance(bad, FormatError)
    assert bytes(decode_blob(good)) == b"bytes"
    (size,), _ = read(fetch_sizes(["bad"]), objects)
    assert isinstance(size, FormatError)


def test_sizes_cost_a_request_each():
    objects = blob("a", b"bytes") | blob("b", bytes(300), ZSTD)
    sizes, rounds = read(fetch_sizes(["a", "b", "c"]), objects)
    assert [None if size is None else size.nbytes for size in sizes] == [5, 300, None]
    assert rounds == [["a/zarr.json", "b/zarr.json", "c/zarr.json"]]


@thorough
@given(st.binary(max_size=60), st.sampled_from([(), ("zstd",), ("gzip",), ("blosc",), ("crc32c",)]), st.integers(0, 99))
def test_any_bytes_are_a_payload_or_an_error(raw, codecs, nbytes):
    try:
        data = decode_blob(Blob(nbytes, nbytes, codecs, raw))
    except FormatError:
        return
    assert len(data) == nbytes


@thorough
@given(
    doc=st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda x: st.lists(x, max_size=3), max_leaves=5)
)
def test_any_metadata_are_a_blob_or_an_error(doc):
    for name in blob_doc(5):
        raw = json.dumps(blob_doc(5) | {name: doc}).encode()
        (one,), _ = read(fetch_sizes(["a"]), {"a/zarr.json": raw})
        assert isinstance(one, FormatError) or one.nbytes >= 0
