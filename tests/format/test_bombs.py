"""Bytes that would expand without end are refused, and no memory is allocated for them."""

import gzip
import struct

import numcodecs.blosc
import numcodecs.zstd
import pytest

from tests.bounds import at_most
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.base import LIMITS, RATIO
from zarr_vectors_lazy.format.codecs import ZSTD_MAGIC, Pipeline, check_foreign

MIB = 2**20
ZEROS = bytes(4 * MIB)


@pytest.fixture
def strict(monkeypatch):
    """A process whose limit is 1 MiB for each cell."""
    monkeypatch.setattr(LIMITS, "cell_nbytes", MIB)


def rle_frame(blocks, *, header=b"\x00\x58"):
    """A zstd frame that states no size: ``blocks`` times 128 KiB of zeros in 4 bytes each."""
    each = ((2**17) << 3 | 1 << 1).to_bytes(3, "little") + b"\0"
    last = ((2**17) << 3 | 1 << 1 | 1).to_bytes(3, "little") + b"\0"
    return ZSTD_MAGIC + header + each * (blocks - 1) + last


BOMBS = {
    "zstd": (("zstd",), numcodecs.zstd.compress(ZEROS, 3)),
    "zstd without a size": (("zstd",), rle_frame(64)),
    "zstd in pieces": (("zstd",), rle_frame(5) * 12),
    "gzip in gzip": (("gzip", "gzip"), gzip.compress(gzip.compress(ZEROS, 9), 9)),
    "zstd in gzip": (("zstd", "gzip"), gzip.compress(rle_frame(4000), 9)),
    "zstd in zstd": (("zstd", "zstd"), numcodecs.zstd.compress(rle_frame(4000), 9)),
}


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_is_refused(kind):
    names, raw = BOMBS[kind]
    with at_most(4 * MIB), pytest.raises(FormatError, match=r"max-cell-bytes|more than so few bytes can hold"):
        Pipeline(names).decode(raw)


@pytest.mark.parametrize("kind", BOMBS)
def test_the_limit_can_be_raised(kind, monkeypatch):
    monkeypatch.setattr(LIMITS, "cell_nbytes", 2**30)
    names, raw = BOMBS[kind]
    assert len(Pipeline(names).decode(raw)) >= 4 * MIB


@pytest.mark.usefixtures("strict")
def test_what_is_dense_enough_is_no_bomb():
    raw = gzip.compress(ZEROS, 9)
    assert len(raw) * RATIO >= len(ZEROS)
    assert Pipeline(("gzip",)).decode(raw) == ZEROS


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("zstd", ZSTD_MAGIC + b"\xe0" + struct.pack("<Q", 10**10) + b"\1\0\0"),
        ("blosc", bytes([2, 1, 0x96, 4]) + struct.pack("<III", 2**31 - 1, 2**20, 40) + bytes(24)),
    ],
)
def test_a_size_that_bytes_only_claim(name, raw):
    with at_most(MIB), pytest.raises(FormatError, match="more than so few bytes can hold"):
        Pipeline((name,)).decode(raw)
    with pytest.raises(FormatError, match="more than so few bytes can hold"):
        Pipeline((name,)).check_expansion(raw)


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize("kind", ["zstd", "zstd without a size"])
def test_what_zarr_is_about_to_decode_is_checked_by_its_headers(kind):
    names, raw = BOMBS[kind]
    with at_most(MIB), pytest.raises(FormatError, match="max-cell-bytes"):
        Pipeline(names).check_expansion(raw)
    Pipeline((*names, "crc32c")).check_expansion(numcodecs.zstd.compress(b"small"))
    Pipeline(("blosc",)).check_expansion(numcodecs.blosc.compress(bytes(100), b"lz4", 5))


def test_what_zarr_decodes_is_compressed_once():
    def named(*names):
        return [{"name": name} for name in names]

    check_foreign(named("transpose", "bytes", "numcodecs.shuffle", "zstd", "crc32c"), "a")
    for twice in (("bytes", "zstd", "zstd"), ("vlen-bytes", "numcodecs.bz2", "gzip")):
        with pytest.raises(FormatError, match="more than once"):
            check_foreign(named(*twice), "a")
