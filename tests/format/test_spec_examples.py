"""The byte examples of the specification, and errors for damaged copies of them."""

import struct

import google_crc32c
import numcodecs
import numpy as np
import pytest

from zarr_vectors_lazy.errors import FormatError, UnsupportedVersionError
from zarr_vectors_lazy.format.base import Found, parse_chunk_keys
from zarr_vectors_lazy.format.codecs import Pipeline, decode_single_vlen
from zarr_vectors_lazy.format.manifests import decode_fragments, decode_manifests
from zarr_vectors_lazy.format.registry import generation_of
from zarr_vectors_lazy.format.v09.arrays import GridLayout, Shards
from zarr_vectors_lazy.format.v09.generation import parse_offsets
from zarr_vectors_lazy.format.vectors import decode_links, decode_rows
from zarr_vectors_lazy.model.arrays import LinkCoding

CELL = bytes.fromhex("0100000010000000 0000803f 00000040 00004040 00008040".replace(" ", ""))
FRAGMENTS = bytes.fromhex(
    "4746565a 0100 0000 04000000 02000000 0500000000000000"
    "0000000000000000 0200000000000000 0200000000000000 0200000000000000"
    "00000000 02000000 02000000 0000000000000000 0300000000000000".replace(" ", "")
)
MANIFEST = bytes.fromhex(
    "03000000"
    "0000000000000000 ffffffffffffffff 00 0300000000000000"
    "0100000000000000 0000000000000000 01 0200000000000000 0400000000000000"
    "0100000000000000 0100000000000000 02 02000000 0000000000000000 0200000000000000".replace(" ", "")
)


ENCODERS = {
    "zstd": numcodecs.Zstd(),
    "blosc": numcodecs.Blosc("zstd", 5, numcodecs.Blosc.BITSHUFFLE),
    "gzip": numcodecs.GZip(),
}


def test_plain_cell():
    vertices = decode_rows(decode_single_vlen(CELL), np.dtype("<f4"), (2,))
    assert vertices.tolist() == [[1, 2], [3, 4]]
    assert Pipeline(()).head_nbytes(CELL[:8]) == len(CELL)


@pytest.mark.parametrize("codec", ["zstd", "blosc", "gzip"])
def test_compressed_cell_and_its_head(codec):
    raw, pipeline = bytes(ENCODERS[codec].encode(CELL)), Pipeline((codec,))
    assert bytes(pipeline.decode(raw)) == CELL
    assert pipeline.head_nbytes(raw[:32]) == (None if codec == "gzip" else len(CELL))
    for cut in (0, 1, len(raw) // 2, len(raw) - 1):
        with pytest.raises(FormatError):
            decode_single_vlen(pipeline.decode(raw[:cut]))


def test_blosc_bytes_of_the_format():
    raw = bytes.fromhex("02019604 18000000 18000000 28000000".replace(" ", "")) + CELL
    assert bytes(Pipeline(("blosc",)).decode(raw)) == CELL
    assert Pipeline(("blosc",)).head_nbytes(raw[:32]) == 24


@pytest.mark.parametrize("bad", [CELL[:-1], CELL + b"x", b"\2" + CELL[1:], CELL[:7]])
def test_a_cell_of_another_length_is_an_error(bad):
    with pytest.raises(FormatError):
        decode_single_vlen(bad)


def test_fragment_index():
    index = decode_fragments(FRAGMENTS)
    assert [index.rows(np.array([f])).tolist() for f in range(4)] == [[0, 1], [0, 3], [2, 3], []]
    assert index.rows(np.array([2, 1])).tolist() == [2, 3, 0, 3]
    index.check(4)
    with pytest.raises(FormatError, match="row 3"):
        index.check(3)
    with pytest.raises(FormatError, match="fragment 4"):
        index.rows(np.array([4]))
    assert len(decode_fragments(FRAGMENTS[:8] + bytes(8))) == 0


@pytest.mark.parametrize("cut", range(len(FRAGMENTS)))
def test_a_truncated_fragment_index_is_an_error(cut):
    with pytest.raises(FormatError):
        decode_fragments(FRAGMENTS[:cut])


def test_a_fragment_index_that_claims_a_billion_is_refused():
    with pytest.raises(FormatError):
        decode_fragments(FRAGMENTS[:8] + struct.pack("<II", 10**9, 10**9) + bytes(8))


def test_manifests_of_every_mode():
    found = decode_manifests([MANIFEST, b"", b"\0\0\0\0"], 2)
    assert found.offsets.tolist() == [0, 7, 7, 7]
    assert found.chunks.tolist() == [[0, -1], *[[1, 0]] * 4, *[[1, 1]] * 2]
    assert found.fragments.tolist() == [3, 2, 3, 4, 5, 0, 2]


@pytest.mark.parametrize("cut", range(1, len(MANIFEST)))
def test_a_truncated_manifest_is_an_error(cut):
    with pytest.raises(FormatError):
        decode_manifests([MANIFEST[:cut]], 2)


def test_a_manifest_that_claims_a_trillion_is_refused():
    blob = struct.pack("<Iqq", 1, 0, 0) + b"\1" + struct.pack("<qq", 0, 10**12)
    with pytest.raises(FormatError):
        decode_manifests([blob], 2)


def test_link_blob_with_a_permutation():
    blob = struct.pack("<5q", 1, 0, 1, 7, 4)
    coding = LinkCoding(width=2, dtype=np.dtype("<i8"), grouped=True, permuted=True)
    records = decode_links(blob, coding)
    assert records.tolist() == [[[1, 0], [4, 7]]]  # the swapped ends, back in the order given
    for bad in (blob[:-1], struct.pack("<5q", 2, 0, 1, 7, 4), struct.pack("<5q", 1, 0, 2, 7, 4)):
        with pytest.raises(FormatError):
            decode_links(bad, coding)


def drive(steps, objects):
    """Answer a layout's requests from a dictionary."""
    answers = None
    while True:
        try:
            wanted = next(steps) if answers is None else steps.send(answers)
        except StopIteration as stop:
            return stop.value
        answers = []
        for get in wanted:
            data = objects.get(get.key)
            answers.append(None if data is None else data[get.start : get.stop])


def test_shard_of_the_format():
    index = struct.pack("<8Q", 0, 16, 2**64 - 1, 2**64 - 1, 16, 24, 2**64 - 1, 2**64 - 1)
    cells = (b"a" * 16, CELL)
    shard = b"".join(cells) + index + struct.pack("<I", google_crc32c.value(index))
    shards = Shards(shape=(2, 2), index_at_end=True, index_crc=True)
    layout = GridLayout(path="v", origin=(0, 0), separator="/", pipeline=Pipeline(()), shards=shards)
    whole = drive(layout.fetch(np.array([[0, 0], [1, 0], [0, 1]])), {"v/c/0/0": shard})
    assert [None if raw is None else bytes(raw) for raw in whole] == [*cells, None]
    (one,) = drive(layout.fetch(np.array([[1, 0]])), {"v/c/0/0": shard})  # by its range
    assert bytes(one) == CELL
    (broken,) = drive(layout.fetch(np.array([[1, 0]])), {"v/c/0/0": shard[:-1] + b"x"})
    assert isinstance(broken, FormatError)
    assert drive(layout.fetch(np.array([[1, 0]])), {}) == [None]


@pytest.mark.parametrize(
    "bad", [["1.2"], ["1.2.3.4"], ["1..2"], ["1.2.x"], ["1.2.3", ""], ["--1.2.3"], ["1.-.3"], [1], ["1.2.3\n4.5.6"]]
)
def test_malformed_chunk_keys_are_named(bad):
    with pytest.raises(FormatError):
        parse_chunk_keys(bad, 3, where="0/vertices")


def test_link_offsets():
    assert parse_offsets("0.0.+1_0.+1.0", 3, 3, "").tolist() == [[0, 0, 1], [0, 1, 0]]
    assert parse_offsets("self", 1, 3, "").shape == (0, 3)
    for bad in ("0.0", "0.0.+1_0.0.0", "a.b.c", ""):
        with pytest.raises(FormatError):
            parse_offsets(bad, 2, 3, "")


def root(**attributes) -> Found:
    return Found("", {"zarr_format": 3, "node_type": "group", "attributes": attributes}, "")


@pytest.mark.parametrize("version", ["0.6.0", "0.8.1", "0.10.0", "1.0.0"])
def test_other_versions_are_named(version):
    with pytest.raises(UnsupportedVersionError, match=version):
        generation_of(root(zarr_vectors={"zv_version": version}), where="u")


@pytest.mark.parametrize(
    ("node", "said"),
    [
        (root(), "plain Zarr group"),
        (root(multiscales=[]), "OME-Zarr"),
        (root(zarr_vectors={}), "zv_version"),
        (root(zarr_vectors={"zv_version": "nine"}), "nine"),
        (root(zarr_vectors_lazy={"state": "writing"}), "unfinished write"),
        (Found("", {"zarr_format": 2}, ""), "zarr_format 2"),
    ],
)
def test_what_is_no_store_says_so(node, said):
    with pytest.raises(FormatError, match=said):
        generation_of(node, where="u")
