import itertools
import json
import pickle
import struct

import google_crc32c
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, ZstdCodec, numcodecs
from zarr.storage import MemoryStore

from tests.format.encode import cell, damaged, drive, modest, outcome, unhex
from tests.format.v09.nodes import array_doc, changed, found
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.codecs import HEAD_NBYTES
from zarr_vectors_lazy.format.v09.arrays import parse_cells
from zarr_vectors_lazy.requests import Get
from zarr_vectors_lazy.storage.fetch import connect
from zarr_vectors_lazy.storage.resolve import resolve
from zarr_vectors_lazy.storage.zarr import zarr_cells

pytestmark = pytest.mark.filterwarnings(
    "ignore::zarr.errors.UnstableSpecificationWarning", "ignore:Numcodecs codecs are not in the Zarr version 3"
)
SHAPE, ORIGIN = (5, 6), (-2, 3)
INDICES = [(i, j) for i, j in itertools.product(range(5), range(6)) if (i + j) % 3]
COORDS = np.array(INDICES) + ORIGIN
FIRST = cell(bytes(range(8)))
SECOND = cell(bytes(range(16)))
OURS = {
    "none": [],
    "zstd": [ZstdCodec(level=0)],
    "zstd-checksum": [ZstdCodec(level=3, checksum=True)],
    "blosc": [BloscCodec(cname="zstd", clevel=5, shuffle="bitshuffle", typesize=4)],
    "gzip": [GzipCodec(level=5)],
    "crc32c": [Crc32cCodec()],
    "zstd+crc32c": [ZstdCodec(level=0), Crc32cCodec()],
    "crc32c+zstd": [Crc32cCodec(), ZstdCodec(level=0)],
}
THEIRS = {
    "zlib": lambda: [numcodecs.Zlib(level=1)],
    "lz4": lambda: [numcodecs.LZ4()],
    "shuffle+zstd": lambda: [numcodecs.Shuffle(elementsize=4), ZstdCodec()],
}


def payload(i, j):
    return np.arange(i * 40 + j + 1, dtype="<f4").tobytes()


def write(codecs, *, shards=None, location="end", separator="/"):
    """An array written by zarr, in a dict; and the store."""
    objects = {}
    store = MemoryStore(objects)
    sharding = None if shards is None else {"shape": shards, "index_location": location}
    array = zarr.create_array(
        store,
        name="0/cells",
        shape=SHAPE,
        chunks=(1, 1),
        shards=sharding,
        dtype="variable_length_bytes",
        compressors=codecs or None,
        chunk_key_encoding={"name": "default", "separator": separator},
        attributes={
            "dtype": "float32",
            "chunk_grid_origin": list(ORIGIN),
            "nonempty_chunks": sorted(f"{a}.{b}" for a, b in COORDS.tolist()),
        },
    )
    for i, j in INDICES:
        array[i : i + 1, j : j + 1] = np.array([[payload(i, j)]], dtype=object)
    data = {key: value.to_bytes() for key, value in objects.items()}
    return data, store, parse_cells(found(json.loads(data["0/cells/zarr.json"])))


def through_zarr(store, array, coords):
    indices = array.spec.layout.zarr_indices(coords)
    return zarr_cells(connect(resolve(store)), "0/cells", indices)


def directly(data, array, coords):
    raws, _ = drive(array.spec.layout.fetch(coords), data)
    return [bytes(array.spec.layout.decode(raw)) for raw in raws]


@pytest.mark.parametrize("codecs", OURS.values(), ids=OURS)
@pytest.mark.parametrize(
    ("shards", "location"),
    [(None, "end"), ((2, 3), "end"), ((2, 3), "start"), ((5, 6), "end"), ((3, 4), "start")],
    ids=["", "end", "start", "whole", "overhang"],
)
def test_the_direct_path_gives_what_zarr_gives(codecs, shards, location):
    data, store, array = write(codecs, shards=shards, location=location)
    layout = array.spec.layout
    assert layout.direct
    assert (layout.shards is None) == (shards is None)
    coords = np.random.default_rng(0).permutation(COORDS)
    expected = [payload(i, j) for i, j in (coords - ORIGIN).tolist()]
    assert through_zarr(store, array, coords) == expected
    assert directly(data, array, coords) == expected
    for start, stop in [(0, 1), (3, 5), (0, 0)]:
        assert directly(data, array, coords[start:stop]) == expected[start:stop]
    heads, _ = drive(layout.fetch_heads(coords), data)
    sizes = [layout.head_nbytes(head) for head in heads]
    assert all(size in (None, len(cell)) for size, cell in zip(sizes, expected, strict=True))


@pytest.mark.parametrize("codecs", THEIRS.values(), ids=THEIRS)
@pytest.mark.parametrize("shards", [None, (2, 3)], ids=["", "2x3"])
def test_what_only_zarr_can_decode_is_left_to_it(codecs, shards):
    _, store, array = write(codecs(), shards=shards)
    layout = array.spec.layout
    assert not layout.direct
    assert layout.head_nbytes(bytes(40)) is None
    assert layout.plain_keys(COORDS) is None
    assert through_zarr(store, array, COORDS) == [payload(i, j) for i, j in INDICES]


@pytest.mark.parametrize("separator", ["/", "."])
def test_keys_of_both_separators(separator):
    data, _, array = write([], separator=separator)
    assert directly(data, array, COORDS) == [payload(i, j) for i, j in INDICES]
    assert array.spec.layout.plain_keys(COORDS[:1]) == [f"0/cells/c{separator}0{separator}1"]


@pytest.mark.parametrize("shards", [None, (2, 3)], ids=["", "2x3"])
def test_a_cell_that_is_not_there_is_none(shards):
    data, _, array = write([], shards=shards)
    empty = np.array([[0, 0]]) + ORIGIN
    for coords in (empty, np.concatenate([COORDS, empty])):
        raws, _ = drive(array.spec.layout.fetch(coords), data)
        assert raws[-1] is None
        assert all(raw is not None for raw in raws[:-1])
    raws, _ = drive(array.spec.layout.fetch(COORDS), {})
    assert raws == [None] * len(COORDS)


@pytest.mark.parametrize("name", ["none", "zstd", "blosc", "gzip"])
def test_heads_are_small_ranges(name):
    data, _, array = write(OURS[name])
    heads, rounds = drive(array.spec.layout.fetch_heads(COORDS), data)
    assert [(get.start, get.stop) for get in rounds[0]] == [(0, HEAD_NBYTES)] * len(COORDS)
    sizes = [array.spec.layout.head_nbytes(head) for head in heads]
    assert sizes == [None if name == "gzip" else len(payload(i, j)) for i, j in INDICES]


def test_plain_cells_are_sized_by_their_objects():
    data, _, array = write([])
    layout = array.spec.layout
    keys = layout.plain_keys(COORDS)
    assert [layout.plain_nbytes(len(data[key])) for key in keys] == [len(payload(i, j)) for i, j in INDICES]
    assert write([ZstdCodec()])[2].spec.layout.plain_keys(COORDS) is None
    assert write([], shards=(2, 3))[2].spec.layout.plain_keys(COORDS) is None


@pytest.mark.parametrize("shards", [None, (2, 3), (3, 4)], ids=["", "2x3", "3x4"])
@pytest.mark.parametrize("location", ["start", "end"])
def test_requests_are_counted_beforehand(shards, location):
    data, _, array = write([], shards=shards, location=location)
    layout = array.spec.layout
    for count in (1, 2, 7, len(COORDS)):
        _, rounds = drive(layout.fetch(COORDS[:count]), data)
        assert sum(map(len, rounds)) == layout.requests(COORDS[:count])


def test_few_cells_of_a_shard_are_ranges_and_most_are_all_of_it():
    data, _, array = write([], shards=(5, 6))
    layout = array.spec.layout
    n = 16 * 30 + 4
    _, rounds = drive(layout.fetch(COORDS[:2]), data)
    assert rounds[0] == [Get("0/cells/c/0/0", -n)]
    assert len(rounds[1]) == 1  # neighbours in one range
    _, rounds = drive(layout.fetch(COORDS), data)
    assert rounds == [[Get("0/cells/c/0/0")]]


def test_cells_far_apart_in_a_shard_are_separate_ranges():
    sizes = [100, 200_000, 100]
    index, at, body = [], 0, b""
    for size in sizes:
        raw = cell(bytes(size))
        index.append((at, len(raw)))
        body, at = body + raw, at + len(raw)
    shard = body + shard_index(index + [(2**64 - 1,) * 2] * 13)
    array = parse_cells(found(array_doc((4, 4), ["0.0", "0.2"], shards=(4, 4)), "a"))
    raws, rounds = drive(array.spec.layout.fetch(np.array([[0, 2], [0, 0]])), {"a/c/0/0": shard})
    assert [len(raw) for raw in raws] == [108, 108]
    assert len(rounds[1]) == 2


def shard_index(entries):
    index = b"".join(struct.pack("<QQ", *entry) for entry in entries)
    return index + struct.pack("<I", google_crc32c.value(index))


def test_shard_example_of_the_specification():
    # Array shape (2, 1), shards (2, 2): the shard overhangs, its absent cells have indices of ones.
    absent = (2**64 - 1, 2**64 - 1)
    index = unhex("0000000000000000 1000000000000000" + "ff" * 16 + "1000000000000000 1800000000000000" + "ff" * 16)
    assert shard_index([(0, 16), absent, (16, 24), absent])[:64] == index
    shard = FIRST + SECOND + shard_index([(0, 16), absent, (16, 24), absent])
    doc = array_doc((2, 1), ["0.0", "1.0"], shards=(2, 2))
    for coords in ([[0, 0]], [[1, 0]], [[1, 0], [0, 0]], [[0, 0], [1, 0]]):
        layout = parse_cells(found(doc, "a")).spec.layout
        raws, _ = drive(layout.fetch(np.array(coords)), {"a/c/0/0": shard})
        assert [bytes(raw) for raw in raws] == [[FIRST, SECOND][c[0]] for c in coords]
        assert bytes(layout.decode(raws[0])) == [FIRST, SECOND][coords[0][0]][8:]


def test_shard_index_at_the_start_and_without_checksum():
    index = shard_index([(32, 16), (48, 24)])[:-4]
    doc = array_doc((2,), ["0", "1"], shards=(2,))
    doc = changed(doc, ("codecs", 0, "configuration", "index_location"), "start")
    doc = changed(doc, ("codecs", 0, "configuration", "index_codecs", 1))
    layout = parse_cells(found(doc, "a")).spec.layout
    assert (layout.shards.index_at_end, layout.shards.index_crc, layout.shards.index_nbytes) == (False, False, 32)
    raws, _ = drive(layout.fetch(np.array([[1], [0]])), {"a/c/0": index + FIRST + SECOND})
    assert [bytes(raw) for raw in raws] == [SECOND, FIRST]


BAD_SHARDS = {
    "empty": b"",
    "shorter than its index": bytes(20),
    "wrong checksum": FIRST + SECOND + shard_index([(0, 16), (16, 24)])[:-1] + b"\0",
    "past the end": FIRST + SECOND + shard_index([(0, 16), (16, 2**20)]),
    "absurd size": FIRST + SECOND + shard_index([(0, 16), (16, 2**63)]),
    "absurd start": FIRST + SECOND + shard_index([(0, 16), (2**64 - 2, 24)]),
}


@pytest.mark.parametrize("shard", BAD_SHARDS.values(), ids=BAD_SHARDS)
@pytest.mark.parametrize("edge", [2, 9], ids=["whole", "range"])
def test_a_bad_shard_is_an_error_of_its_cells(shard, edge):
    absent = [(2**64 - 1,) * 2] * (edge - 2)
    if edge > 2 and len(shard) > 40:  # the same with more cells, so that ranges are requested
        kept = struct.unpack("<4Q", shard[-36:-4])
        wrong = shard_index([kept[:2], kept[2:]]) != shard[-36:]
        shard = shard[:-36] + shard_index([kept[:2], kept[2:], *absent])
        shard = shard[:-1] + b"\0" if wrong else shard
    doc = array_doc((edge,), ["0", "1"], shards=(edge,))
    layout = parse_cells(found(doc, "a")).spec.layout
    raws, rounds = drive(layout.fetch(np.array([[1]])), {"a/c/0": shard})
    assert isinstance(raws[0], FormatError)
    assert all(get.stop is None or get.stop < 2**34 for asked in rounds for get in asked)


def test_a_bad_cell_of_a_shard_leaves_the_others():
    shard = FIRST + SECOND + shard_index([(0, 16), (16, 2**40)])
    layout = parse_cells(found(array_doc((2,), ["0", "1"], shards=(2,)), "a")).spec.layout
    raws, _ = drive(layout.fetch(np.array([[0], [1]])), {"a/c/0": shard})
    assert bytes(raws[0]) == FIRST
    assert isinstance(raws[1], FormatError)


@modest
@given(st.data())
def test_damaged_shards_are_format_errors_or_other_bytes(data):
    shard = FIRST + SECOND + shard_index([(0, 16), (16, 24), (2**64 - 1,) * 2])
    doc = array_doc((3,), ["0", "1", "2"], shards=(3,))
    if data.draw(st.booleans()):  # without a checksum, damage is found later
        doc, shard = changed(doc, ("codecs", 0, "configuration", "index_codecs", 1)), shard[:-4]
    layout = parse_cells(found(doc, "a")).spec.layout
    asked = np.array(data.draw(st.sampled_from([[[0]], [[2]], [[0], [1], [2]]])))
    raws, _ = drive(layout.fetch(asked), {"a/c/0": damaged(shard, data, st)})
    for raw in raws:
        if raw is not None and not isinstance(raw, FormatError):
            assert isinstance(outcome(layout.decode, raw), memoryview | FormatError)


def test_layouts_and_parts_of_shards_pickle():
    data, _, array = write([ZstdCodec()], shards=(2, 3))
    again = pickle.loads(pickle.dumps(array.spec.layout))
    assert again == array.spec.layout
    raws, _ = drive(again.fetch(COORDS), data)
    assert [bytes(raw) for raw in pickle.loads(pickle.dumps(raws))] == [bytes(raw) for raw in raws]
