"""What is encoded decodes to the same values; other tests check the decoders against the specification."""

import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.format.encode import drive, entries, fragment_index, lehmer, manifest, modest
from zarr_vectors_lazy.errors import FormatError, SelectionError
from zarr_vectors_lazy.format import codecs as encoding_module
from zarr_vectors_lazy.format.base import Found
from zarr_vectors_lazy.format.codecs import (
    byte_codecs,
    decode_single_vlen,
    encode_cell,
    encode_vlen,
    parse_pipeline,
    split_vlen,
)
from zarr_vectors_lazy.format.manifests import (
    decode_fragments,
    decode_manifests,
    encode_fragments,
    encode_manifests,
    encode_tiling,
)
from zarr_vectors_lazy.format.registry import CURRENT
from zarr_vectors_lazy.format.v09.arrays import parse_cells
from zarr_vectors_lazy.format.v09.writing import lehmer_codes
from zarr_vectors_lazy.format.vectors import decode_categories, decode_rows, encode_categories, encode_rows
from zarr_vectors_lazy.model.objects import Fragments, Manifests
from zarr_vectors_lazy.model.writing import Cells, Encoding, Grid, LevelDraft, LevelRecord

ENCODINGS = [Encoding(compressor=c, checksum=k) for c in ("zstd", "blosc", None) for k in (True, False)]
payloads = st.binary(max_size=200)


@pytest.mark.parametrize("encoding", ENCODINGS, ids=str)
@modest
@given(payload=payloads)
def test_cell(encoding, payload):
    pipeline = parse_pipeline([{"name": "vlen-bytes"}, *byte_codecs(encoding)], "vlen-bytes")
    stored = encode_cell(payload, encoding)
    assert bytes(decode_single_vlen(pipeline.decode(stored))) == payload
    assert pipeline.head_nbytes(stored) == len(payload) + 8


@pytest.mark.parametrize("compressor", ["zstd", "blosc", None])
def test_every_flipped_bit_is_seen(compressor):
    encoding = Encoding(compressor=compressor)
    pipeline = parse_pipeline([{"name": "vlen-bytes"}, *byte_codecs(encoding)], "vlen-bytes")
    stored = encode_cell(b"some words " * 3, encoding)
    for bit in range(8 * len(stored)):
        flipped = bytearray(stored)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatError, match="crc32c"):
            pipeline.decode(bytes(flipped))


def test_a_cell_of_4_gib_is_refused(monkeypatch):
    monkeypatch.setattr(encoding_module, "MAX_PAYLOAD_NBYTES", 10)
    with pytest.raises(SelectionError, match="a cell of 11 bytes: the format allows less than 4 GiB"):
        encode_cell(b"x" * 11, Encoding())


fragments = st.lists(
    st.one_of(st.tuples(st.integers(0, 9), st.integers(0, 9)), st.lists(st.integers(0, 99), max_size=4)), max_size=70
)


@modest
@given(given_=fragments)
def test_fragments(given_):
    raw = fragment_index(given_)
    assert encode_fragments(decode_fragments(raw)) == raw


def test_explicit_fragments_out_of_order():
    mixed = Fragments(np.array([2, 0]), np.array([2, 2]), np.array([True, True]), np.array([5, 6, 7, 8]))
    found = decode_fragments(encode_fragments(mixed))
    assert [found.rows(np.array([f])).tolist() for f in (0, 1)] == [[7, 8], [5, 6]]


@pytest.mark.parametrize("counts", [[], [3], [0, 2, 0, 4]])
def test_tiling(counts):
    starts = np.cumsum([0, *counts])[:-1]
    assert encode_tiling(np.array(counts, np.int64)) == fragment_index(list(zip(starts.tolist(), counts, strict=True)))


def to_manifests(objects, rank):
    listed = [entries(blocks) for blocks in objects]
    flat = [entry for blocks in listed for entry in blocks]
    return Manifests(
        np.cumsum([0, *map(len, listed)]),
        np.array([chunk for chunk, _ in flat], np.int64).reshape(-1, rank),
        np.array([f for _, f in flat], np.int64),
    )


@pytest.mark.parametrize("rank", [2, 3, 4])
@modest
@given(data=st.data())
def test_manifests(rank, data):
    block = st.tuples(st.tuples(*[st.integers(-5, 5)] * rank), st.integers(0, 9))
    objects = data.draw(st.lists(st.lists(block, max_size=5), max_size=6))
    blobs, parts = encode_manifests(to_manifests(objects, rank)).tobytes(), [manifest(blocks) for blocks in objects]
    assert blobs == b"".join(struct.pack("<I", len(part)) + part for part in parts)
    assert len(decode_manifests(parts, rank)) == len(objects)


@modest
@given(elements=st.lists(st.binary(max_size=5), max_size=6))
def test_vlen(elements):
    offsets = np.cumsum([0, *map(len, elements)])
    data = np.frombuffer(b"".join(elements), np.uint8)
    expected = struct.pack("<I", len(elements)) + b"".join(struct.pack("<I", len(e)) + e for e in elements)
    assert encode_vlen(data, offsets) == expected
    assert split_vlen(expected, len(elements)) == elements
    with pytest.raises(FormatError, match=rf"state {len(elements)} elements, expected {len(elements) + 1}"):
        split_vlen(expected, len(elements) + 1)
    if elements:
        with pytest.raises(FormatError, match=r"vlen-bytes cannot decode|elements, expected"):
            split_vlen(expected[:-1], len(elements))


def test_codes_of_permutations():
    sigma = np.array([[0, 1, 2], [2, 0, 1], [1, 2, 0], [2, 1, 0]])
    assert lehmer_codes(sigma).tolist() == [lehmer(row) for row in sigma.tolist()]


@pytest.mark.parametrize("dtype", ["bool", "i1", "u2", "i8", ">f4", "f2", "f8", "c8"])
def test_rows(dtype):
    values = np.arange(12).reshape(4, 3).astype(dtype)
    for given_ in (values, values[:, ::-1]):
        raw = encode_rows(given_)
        assert np.array_equal(decode_rows(raw, np.dtype(dtype).newbyteorder("<"), (3,)), given_)


@modest
@given(values=st.lists(st.one_of(st.text(max_size=3).filter(lambda s: "\0" not in s), st.none()), max_size=20))
def test_categories(values):
    codes, dictionary = encode_categories(np.array(values, object))
    assert list(dictionary.categories) == sorted(dictionary.categories)
    assert codes.dtype.kind == ("i" if None in values else "u")
    assert decode_categories(codes, dictionary).tolist() == [value or "" for value in values]


def test_many_categories():
    values = np.array([f"{i:03d}" for i in range(300)])
    codes, dictionary = encode_categories(values)
    assert codes.dtype == np.uint16
    assert decode_categories(codes, dictionary).tolist() == values.tolist()


def test_categories_are_text():
    with pytest.raises(SelectionError, match="all text, found 3 of type int"):
        encode_categories(np.array(["a", 3], object))


coordinates = st.lists(st.tuples(st.integers(-3, 12), st.integers(-3, 3)), unique=True, min_size=1, max_size=12)


@pytest.mark.parametrize("shard_shape", [None, (2, 2), (3, 1)])
@modest
@given(coords=coordinates)
def test_arrays_of_cells(shard_shape, coords):
    encoding = Encoding(shard_shape=shard_shape)
    grid = Grid(origin=(-3, -3), shape=(16, 7))
    table = np.array(coords, np.int64)
    counts = np.arange(len(coords), dtype=np.int64)
    contents = [np.full((n, 2), n, np.float32).tobytes() for n in counts.tolist()]
    puts = CURRENT.cell_puts(0, Cells(path="vertices", coords=table, payloads=contents), grid, encoding)
    record = LevelRecord(
        cells={"vertices": table}, coords=table, counts=counts, lo=np.zeros(2), hi=np.ones(2), content={"vertices": 7}
    )
    draft = LevelDraft(level=0, rank=2, arrays=(CURRENT.vertices(np.dtype("f4")),))
    nodes = {put.key: json.loads(put.data) for put in CURRENT.level_puts(draft, record, grid, encoding)}
    assert list(nodes) == ["0/vertices/zarr.json", "0/zarr.json"]
    listed = nodes["0/vertices/zarr.json"]["attributes"]["nonempty_chunks"]
    assert listed == sorted(listed)
    array = parse_cells(Found("0/vertices", nodes["0/vertices/zarr.json"], ""), row_shape=(2,))
    order = np.lexsort(table.T[::-1])
    assert array.chunks.coords.tolist() == table[order].tolist()
    assert array.counts.tolist() == counts[order].tolist()
    raws, _ = drive(array.spec.layout.fetch(table), {put.key: put.data for put in puts})
    assert [bytes(array.spec.layout.decode(raw)) for raw in raws] == contents


@pytest.mark.parametrize("encoding", ENCODINGS, ids=str)
def test_what_we_encode_does_not_count_as_a_bomb(encoding):
    parse_pipeline([{"name": "vlen-bytes"}, *byte_codecs(encoding)], "vlen-bytes").check_expansion(
        encode_cell(bytes(100_000), encoding)
    )
