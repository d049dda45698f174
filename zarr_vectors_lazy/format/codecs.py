"""Byte codecs of cells, decoded directly for speed (spec 0.9, 4.1 and 4.3)."""

import importlib
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numcodecs.blosc
import numcodecs.zstd

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.types import Buffer, Json

try:  # zarr brings it; without it such cells are read through zarr
    crc32c_value: Callable[[bytes], int] | None = importlib.import_module("google_crc32c").value
except ImportError:
    crc32c_value = None

HEAD_NBYTES = 32
BLOSC_HEADER_NBYTES = 16
MAX_RATIO = 2**15  # zstd's densest block says 128 KiB in 4 bytes; a header that promises more is damaged
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
DIRECT = {"zstd", "blosc", "gzip"} | ({"crc32c"} if crc32c_value else set())


def _zstd(raw: Buffer) -> Buffer:
    _check_ratio(_zstd_content_size(bytes(memoryview(raw)[:HEAD_NBYTES])) or 0, raw)
    return numcodecs.zstd.decompress(raw)  # type: ignore[no-any-return]


def _blosc(raw: Buffer) -> Buffer:
    # blosc believes its header: of a shorter buffer it reads past the end.
    if len(raw) < BLOSC_HEADER_NBYTES:
        raise ValueError(f"its header alone has {BLOSC_HEADER_NBYTES}")
    nbytes, _, stored = struct.unpack_from("<III", raw, 4)
    if stored != len(raw):
        raise ValueError(f"its header states {stored}")
    _check_ratio(nbytes, raw)
    return numcodecs.blosc.decompress(raw)  # type: ignore[no-any-return]


def _check_ratio(nbytes: int, raw: Buffer) -> None:
    if nbytes > MAX_RATIO * len(raw):
        raise ValueError(f"its header promises {nbytes}, more than can be in it")


def _gzip(raw: Buffer) -> Buffer:
    stream = zlib.decompressobj(wbits=31)
    data = stream.decompress(raw) + stream.flush()
    if not stream.eof or stream.unused_data:
        raise ValueError("the gzip stream is truncated or followed by other bytes")
    return data


def _check_crc32c(raw: Buffer) -> Buffer:
    if len(raw) < 4:
        raise ValueError(f"{len(raw)} bytes leave no room for a checksum")
    view = memoryview(raw)
    (stored,) = struct.unpack("<I", view[-4:])
    found = crc32c_value(bytes(view[:-4])) if crc32c_value else None
    if found != stored:
        raise ValueError(f"crc32c is {found:#010x}, stored {stored:#010x}")
    return view[:-4]


_DECODERS: dict[str, Callable[[Buffer], Buffer]] = {
    "zstd": _zstd,
    "blosc": _blosc,
    "gzip": _gzip,
    "crc32c": _check_crc32c,
}


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Bytes-to-bytes codecs behind ``vlen-bytes``, in the order in which a writer applies them."""

    names: tuple[str, ...]

    def decode(self, raw: Buffer) -> Buffer:
        """Undo the codecs.

        Raises
        ------
        FormatError
            If a codec refuses the bytes.
        """
        for name in reversed(self.names):
            try:
                raw = _DECODERS[name](raw)
            except (RuntimeError, ValueError, MemoryError, zlib.error) as error:
                raise FormatError(f"{name} cannot decode {len(raw)} bytes: {error}") from error
        return raw

    def head_nbytes(self, raw: Buffer) -> int | None:
        """Decoded size, from the first bytes of an encoded cell; None where they do not tell."""
        outer = list(self.names)
        while outer and outer[-1] == "crc32c":  # it follows what it checks
            outer.pop()
        head = bytes(memoryview(raw)[:HEAD_NBYTES])
        if not outer:
            return 8 + struct.unpack_from("<I", head, 4)[0] if len(head) >= 8 else None
        if len(outer) > 1:
            return None
        if outer[0] == "blosc" and len(head) >= BLOSC_HEADER_NBYTES:
            return int(struct.unpack_from("<I", head, 4)[0])
        if outer[0] == "zstd":
            return _zstd_content_size(head)
        return None


def _zstd_content_size(head: bytes) -> int | None:
    """Frame content size of a zstd frame (RFC 8878, 3.1.1.1), where the frame states it."""
    if len(head) < 6 or not head.startswith(ZSTD_MAGIC):
        return None
    flags = head[4]
    single = bool(flags & 0x20)
    at = 5 + (0 if single else 1) + (0, 1, 2, 4)[flags & 3]
    size = (1 if single else 0, 2, 4, 8)[flags >> 6]
    if size == 0 or len(head) < at + size:
        return None
    value = int.from_bytes(head[at : at + size], "little")
    return value + 256 if size == 2 else value


def parse_pipeline(codecs: Sequence[Json], serializer: str) -> Pipeline | None:
    """Direct pipeline for a list of Zarr v3 codecs, or None where only zarr can decode it.

    Parameters
    ----------
    codecs
        The ``codecs`` member of an array's ``zarr.json``.
    serializer
        Name that the array-to-bytes codec must have: ``vlen-bytes`` or ``bytes``.
    """
    names = [str(codec.get("name")) for codec in codecs]
    if not names or names[0] != serializer or not set(names[1:]) <= DIRECT:
        return None
    if serializer == "bytes" and (codecs[0].get("configuration") or {}).get("endian", "little") != "little":
        return None
    return Pipeline(tuple(names[1:]))


def decode_single_vlen(data: Buffer) -> memoryview:
    """Payload of a ``vlen-bytes`` buffer that holds one element (spec 0.9, 4.3).

    Raises
    ------
    FormatError
        If the buffer does not hold exactly one element of the stated size.
    """
    view = memoryview(data)
    if len(view) < 8:
        raise FormatError(f"{len(view)} bytes are no cell: its header alone has 8")
    count, nbytes = struct.unpack_from("<II", view)
    if count != 1:
        raise FormatError(f"a cell states {count} elements, expected 1")
    if len(view) != 8 + nbytes:
        raise FormatError(f"a cell states {nbytes} bytes and holds {len(view) - 8}: truncated or overlong")
    return view[8:]
