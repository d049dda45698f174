"""Cells to stored bytes: the writing half of `format.codecs` (spec 0.9, 4.1 and 4.3)."""

import struct
from collections.abc import Sequence

import google_crc32c
import numcodecs.blosc
import numcodecs.zstd
import numpy as np

from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.model.writing import Encoding
from zarr_vectors_lazy.types import Buffer, IntArray, Json

MAX_PAYLOAD_NBYTES = 2**32 - 1
ABSENT = 2**64 - 1
ZSTD_LEVEL = 0  # the reference's, zstd's own default
BLOSC = {"cname": "zstd", "clevel": 5, "shuffle": "bitshuffle", "typesize": 4, "blocksize": 0}
LITTLE: Json = {"name": "bytes", "configuration": {"endian": "little"}}
CRC: Json = {"name": "crc32c"}


def byte_codecs(encoding: Encoding) -> list[Json]:
    """Bytes-to-bytes codecs as an array's metadata name them, the checksum last."""
    found: list[Json] = []
    if encoding.compressor == "zstd":
        found.append({"name": "zstd", "configuration": {"level": ZSTD_LEVEL, "checksum": False}})
    elif encoding.compressor == "blosc":
        found.append({"name": "blosc", "configuration": dict(BLOSC)})
    return [*found, dict(CRC)] if encoding.checksum else found


def encode_bytes(data: Buffer, encoding: Encoding) -> bytes:
    """Apply the bytes-to-bytes codecs."""
    if encoding.compressor == "zstd":
        data = numcodecs.zstd.compress(data, ZSTD_LEVEL)
    elif encoding.compressor == "blosc":
        data = numcodecs.blosc.compress(data, b"zstd", 5, shuffle=numcodecs.blosc.BITSHUFFLE, typesize=4)
    out = bytes(data)
    return out + struct.pack("<I", google_crc32c.value(out)) if encoding.checksum else out


def encode_cell(payload: Buffer, encoding: Encoding) -> bytes:
    """Stored bytes of a cell that holds ``payload`` (spec 0.9, 4.3).

    Raises
    ------
    SelectionError
        If it has 4 GiB or more, which the format cannot state.
    """
    nbytes = memoryview(payload).nbytes
    if nbytes > MAX_PAYLOAD_NBYTES:
        raise SelectionError(f"a cell of {nbytes} bytes: the format ends at 4 GiB; choose a smaller chunk_shape")
    return encode_bytes(b"".join([struct.pack("<II", 1, nbytes), payload]), encoding)


def encode_vlen(data: np.ndarray[tuple[int], np.dtype[np.uint8]], offsets: IntArray) -> bytes:
    """``vlen-bytes`` buffer of many elements (spec 0.9, 8): ``u32 n``, then for each ``u32 len`` and its bytes.

    Parameters
    ----------
    data
        The elements, one after another.
    offsets
        (n + 1,) element i is ``data[offsets[i]:offsets[i + 1]]``.
    """
    n = len(offsets) - 1
    sizes = np.diff(offsets).astype("<u4")
    out = np.empty(4 + 4 * n + int(offsets[-1] - offsets[0]), np.uint8)
    heads = 4 + 4 * np.arange(n) + offsets[:-1] - offsets[0]
    insert(out, heads, sizes.view(np.uint8).reshape(n, 4), data[offsets[0] : offsets[-1]], first=4)
    out[:4] = np.asarray([n], "<u4").view(np.uint8)
    return out.tobytes()


def insert(
    out: np.ndarray[tuple[int], np.dtype[np.uint8]],
    at: IntArray,
    heads: np.ndarray[tuple[int, int], np.dtype[np.uint8]],
    body: np.ndarray[tuple[int], np.dtype[np.uint8]],
    *,
    first: int = 0,
) -> None:
    """Write ``heads`` (n, w) at bytes ``at`` of ``out``, and ``body`` in the bytes left over from ``first`` on."""
    places = at[:, None] + np.arange(heads.shape[1])
    free = np.ones(len(out), np.bool_)
    free[places] = False
    free[:first] = False
    out[free] = body
    out[places] = heads


def shard_codecs(encoding: Encoding, rank: int, inner: list[Json]) -> list[Json]:
    """Codecs of a sharded array whose cells have the codecs ``inner``."""
    configuration = {
        "chunk_shape": [1] * rank,
        "codecs": inner,
        "index_codecs": [LITTLE, dict(CRC)],
        "index_location": "end",
    }
    return [{"name": "sharding_indexed", "configuration": configuration}]


def encode_shard(cells: Sequence[bytes], at: IntArray, total: int) -> bytes:
    """Stored bytes of a shard (spec 0.9, 4.3): cells, index, crc32c of the index.

    Parameters
    ----------
    cells
        Encoded.
    at
        Position of each in the shard, in C order.
    total
        Cells that the shard has room for.
    """
    sizes = np.fromiter(map(len, cells), np.uint64, len(cells))
    index = np.full((total, 2), ABSENT, "<u8")
    index[at, 0] = np.cumsum(sizes) - sizes
    index[at, 1] = sizes
    raw = index.tobytes()
    return b"".join([*cells, raw, struct.pack("<I", google_crc32c.value(raw))])
