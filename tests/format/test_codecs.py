import gzip
import struct
import zlib

import google_crc32c
import numcodecs.blosc
import numcodecs.zstd
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.format.encode import cell, damaged, modest, outcome, refused, thorough, unhex
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.codecs import HEAD_NBYTES, Pipeline, decode_single_vlen, parse_pipeline

POINTS = [[1.0, 2.0], [3.0, 4.0]]
PLAIN = unhex("01000000 10000000 0000803f 00000040 00004040 00008040")
EXAMPLES = {
    (): PLAIN,
    ("zstd",): unhex("28b52ffd 20 18 c10000") + PLAIN,
    ("blosc",): unhex("02019604 18000000 18000000 28000000") + PLAIN,
}
ENCODERS = {
    "zstd": lambda raw: numcodecs.zstd.compress(raw, 0),
    "blosc": lambda raw: numcodecs.blosc.compress(raw, b"zstd", 5, 2, 4),
    "gzip": lambda raw: gzip.compress(raw, 5),
    "crc32c": lambda raw: raw + struct.pack("<I", google_crc32c.value(raw)),
}
PIPELINES = [
    (),
    *((name,) for name in ENCODERS),
    ("zstd", "crc32c"),
    ("crc32c", "zstd"),
    ("blosc", "crc32c"),
    ("gzip", "zstd"),
    ("crc32c", "crc32c"),
]
SIZES = [0, 1, 4, 100, 247, 248, 249, 65_000, 70_000, 300_000]
every_pipeline = pytest.mark.parametrize("names", PIPELINES, ids="+".join)


def encode(names, payload):
    raw = cell(payload)
    for name in names:
        raw = ENCODERS[name](raw)
    return raw


def decode(names, raw):
    return bytes(decode_single_vlen(Pipeline(names).decode(raw)))


@pytest.mark.parametrize(("names", "raw"), EXAMPLES.items(), ids=lambda v: "+".join(v) if isinstance(v, tuple) else "")
def test_examples_of_the_specification(names, raw):
    assert np.frombuffer(decode(names, raw), "<f4").reshape(-1, 2).tolist() == POINTS
    assert Pipeline(names).head_nbytes(raw[:HEAD_NBYTES]) == len(PLAIN)


@every_pipeline
def test_round_trip_of_every_pipeline_from_every_kind_of_buffer(names):
    for size in SIZES:
        payload = np.random.default_rng(size).integers(0, 9, size, np.uint8).tobytes()
        raw = encode(names, payload)
        for buffer in (raw, memoryview(raw), np.frombuffer(raw, np.uint8)):
            assert decode(names, buffer) == payload


@every_pipeline
def test_heads_tell_the_size_or_nothing(names):
    told = names in [(), ("zstd",), ("blosc",), ("crc32c",), ("zstd", "crc32c"), ("blosc", "crc32c"), ("crc32c",) * 2]
    for size in SIZES:
        payload = np.random.default_rng(size).integers(0, 9, size, np.uint8).tobytes()
        head = encode(names, payload)[:HEAD_NBYTES]
        assert Pipeline(names).head_nbytes(head) == (size + 8 if told else None)


@pytest.mark.parametrize("names", [(), ("zstd",), ("blosc",)], ids="+".join)
def test_a_head_cut_short_tells_the_size_or_nothing(names):
    for cut in range(HEAD_NBYTES):
        assert Pipeline(names).head_nbytes(encode(names, bytes(1000))[:cut]) in (None, 1008)


@thorough
@given(st.binary(min_size=4, max_size=HEAD_NBYTES))
def test_a_head_that_is_no_zstd_frame_tells_nothing(head):
    assert Pipeline(("zstd",)).head_nbytes(b"\0" + head) is None


def zstd_frame(descriptor, fields, payload):
    """A frame of one raw block."""
    return b"\x28\xb5\x2f\xfd" + bytes([descriptor]) + fields + struct.pack("<I", len(payload) << 3 | 1)[:3] + payload


@pytest.mark.parametrize(
    ("descriptor", "fields", "told"),
    [
        (0x00, b"\x58", False),  # window descriptor, no size: what streaming writers give
        (0x20, bytes([108]), True),
        (0x40, b"\x58" + struct.pack("<H", 0), False),  # 256, which is wrong here: the decoder finds out
        (0x80, b"\x58" + struct.pack("<I", 108), True),
        (0xC0, b"\x58" + struct.pack("<Q", 108), True),
        (0xA0, struct.pack("<I", 108), True),
    ],
)
def test_zstd_frames_of_every_header(descriptor, fields, told):
    frame = zstd_frame(descriptor, fields, cell(b"a" * 100))
    size = Pipeline(("zstd",)).head_nbytes(frame[:HEAD_NBYTES])
    if descriptor == 0x40:
        assert size == 256
        with pytest.raises(FormatError):
            decode(("zstd",), frame)
    else:
        assert size == (108 if told else None)
        assert decode(("zstd",), frame) == b"a" * 100


@every_pipeline
def test_every_truncation_is_a_format_error(names):
    raw = encode(names, b"payload" * 9)
    for cut in range(len(raw)):
        with pytest.raises(FormatError):
            decode(names, raw[:cut])


@every_pipeline
def test_damage_is_a_format_error_or_other_bytes(names):
    @modest
    @given(st.binary(max_size=300), st.data())
    def holds(payload, data):
        raw = damaged(encode(names, payload), data, st)
        assert isinstance(outcome(decode, names, raw), bytes | FormatError)

    holds()


@every_pipeline
def test_garbage_is_a_format_error(names):
    @modest
    @given(st.binary(max_size=40))
    def holds(raw):
        # A random cell header would have to state the random length.
        with pytest.raises(FormatError):
            decode(names, b"\x07" + raw)

    holds()


@pytest.mark.parametrize("names", [("crc32c",), ("zstd", "crc32c")], ids="+".join)
def test_a_checksum_notices_every_flipped_bit(names):
    raw = encode(names, b"abcd" * 5)
    for position in range(len(raw)):
        changed = bytearray(raw)
        changed[position] ^= 4
        with pytest.raises(FormatError, match="crc32c"):
            decode(names, changed)


@pytest.mark.parametrize(
    ("names", "raw"),
    [
        (("zstd",), unhex("28b52ffd e0") + struct.pack("<Q", 2**62) + bytes(30)),
        (("zstd",), unhex("28b52ffd a0") + struct.pack("<I", 2**31) + bytes(30)),
        (("blosc",), unhex("02019604") + struct.pack("<III", 2**31 - 1, 2**20, 40) + bytes(24)),
        (("blosc",), unhex("02019604") + struct.pack("<III", 24, 24, 2**31 - 1) + bytes(24)),
        (("blosc",), unhex("02019604") + struct.pack("<III", 24, 24, 40) + bytes(23)),
        (("blosc",), bytes(15)),
    ],
)
def test_sizes_that_cannot_be_are_refused_before_memory_is_taken(names, raw):
    refused(decode, names, raw, match="cannot decode")


@pytest.mark.parametrize("name", ["zstd", "blosc", "gzip"])
def test_the_densest_cells_that_writers_make_decode(name):
    payload = bytes(4_000_000)
    assert decode((name,), encode((name,), payload)) == payload


def test_gzip_followed_by_other_bytes():
    with pytest.raises(FormatError, match="followed by other bytes"):
        decode(("gzip",), gzip.compress(cell(b"a")) + b"b")


@pytest.mark.parametrize(
    ("raw", "match"),
    [
        (b"", "header"),
        (bytes(7), "header"),
        (bytes(8), "0 elements"),
        (struct.pack("<II", 2, 0), "2 elements"),
        (struct.pack("<II", 1, 1), "states 1 bytes but holds 0"),
        (struct.pack("<II", 1, 0) + b"x", "states 0 bytes but holds 1"),
        (struct.pack("<II", 1, 2**32 - 1) + b"x", "4294967295"),
    ],
)
def test_what_is_no_single_element(raw, match):
    with pytest.raises(FormatError, match=match):
        decode_single_vlen(raw)


def codecs(*names):
    return [{"name": name, "configuration": {}} for name in names]


@pytest.mark.parametrize("names", PIPELINES, ids="+".join)
def test_pipelines_that_are_ours(names):
    assert parse_pipeline(codecs("vlen-bytes", *names), "vlen-bytes") == Pipeline(names)


@pytest.mark.parametrize(
    "names",
    [(), ("bytes",), ("zstd",), ("vlen-utf8",), ("vlen-bytes", "numcodecs.zlib"), ("transpose", "vlen-bytes")],
)
def test_pipelines_that_are_left_to_zarr(names):
    assert parse_pipeline(codecs(*names), "vlen-bytes") is None


def test_gzip_of_a_damaged_checksum():
    raw = bytearray(gzip.compress(cell(b"abc")))
    raw[-6] ^= 1
    with pytest.raises(FormatError, match="gzip") as caught:
        decode(("gzip",), raw)
    assert isinstance(caught.value.__cause__, zlib.error)
