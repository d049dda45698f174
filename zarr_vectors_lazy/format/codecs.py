"""Codecs of cells, for reading and for writing."""

import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import google_crc32c
import numcodecs.blosc
import numcodecs.vlen
import numcodecs.zstd
import numpy as np

from zarr_vectors_lazy.errors import FormatError, SelectionError, optional
from zarr_vectors_lazy.format.base import LIMITS
from zarr_vectors_lazy.model.arrays import CellArray, Layout, LinkCoding, LinkFamily, LinkSegment, Places
from zarr_vectors_lazy.model.writing import Encoding
from zarr_vectors_lazy.requests import Get, Steps
from zarr_vectors_lazy.types import Array, Blob, Buffer, ChunkCoords, IntArray, Json, Raw

# Byte codecs of cells, decoded directly for speed (spec 0.9, 4.1 and 4.3).

HEAD_NBYTES = 32
BLOSC_HEADER_NBYTES = 16
MAX_RATIO = 2**15  # zstd's densest block states 128 KiB in 4 bytes; a header that promises more is damaged
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
ZSTD_BLOCK_NBYTES = 2**17
COMPRESSORS = {"zstd", "blosc", "gzip", "zlib", "bz2", "lzma", "lz4", "snappy", "brotli"}
DIRECT = {"zstd", "blosc", "gzip", "crc32c"}
_VLEN = numcodecs.vlen.VLenBytes()


def _zstd(raw: Buffer, limit: int) -> Buffer:
    _check_size(_zstd_nbytes(raw), raw, limit)
    return numcodecs.zstd.decompress(raw)  # type: ignore[no-any-return]


def _blosc(raw: Buffer, limit: int) -> Buffer:
    _check_size(_blosc_nbytes(raw), raw, limit)
    return numcodecs.blosc.decompress(raw)  # type: ignore[no-any-return]


def _blosc_nbytes(raw: Buffer) -> int:
    # blosc believes its header, and reads past the end of a shorter buffer
    if len(raw) < BLOSC_HEADER_NBYTES:
        raise ValueError(f"a header alone takes {BLOSC_HEADER_NBYTES}")
    nbytes, _, stored = struct.unpack_from("<III", raw, 4)
    if stored != len(raw):
        raise ValueError(f"its header states {stored}")
    return int(nbytes)


def _check_size(nbytes: int, raw: Buffer, limit: int) -> None:
    if nbytes > MAX_RATIO * len(raw):
        raise ValueError(f"its header promises {nbytes}, more than so few bytes can hold")
    if nbytes > limit:
        raise ValueError(f"they expand to {nbytes}, {_MORE.format(limit)}")


_MORE = "more than the {} that are allowed for a cell of that size (setting zarr_vectors_lazy.max-cell-bytes)"


def _gzip(raw: Buffer, limit: int) -> Buffer:
    stream = zlib.decompressobj(wbits=31)
    data = stream.decompress(raw, limit)
    if stream.unconsumed_tail:
        raise ValueError(f"they expand to {_MORE.format(limit)}")
    if not stream.eof or stream.unused_data:
        raise ValueError("the gzip stream is truncated or followed by other bytes")
    return data


def _check_crc32c(raw: Buffer, _limit: int) -> Buffer:
    if len(raw) < 4:
        raise ValueError(f"{len(raw)} bytes leave no room for a checksum")
    view = memoryview(raw)
    (stored,) = struct.unpack("<I", view[-4:])
    found = google_crc32c.value(bytes(view[:-4]))
    if found != stored:
        raise ValueError(f"their checksum is {found:#010x}, stored {stored:#010x}")
    return view[:-4]


_DECODERS: dict[str, Callable[[Buffer, int], Buffer]] = {
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
            If a codec refuses the bytes, or they expand to more than their number allows (see `LIMITS`).
        """
        if not self.names:
            return raw
        limit = LIMITS.of_cell(len(raw))
        for name in reversed(self.names):
            try:
                raw = _DECODERS[name](raw, limit)
            except (RuntimeError, ValueError, MemoryError, zlib.error) as error:
                raise FormatError(f"{name} cannot decode {len(raw)} bytes: {error}") from error
        return raw

    def check_expansion(self, raw: Buffer) -> None:
        """Raise FormatError if bytes that another decoder is about to decode expand too far; looks only at headers."""
        names = list(self.names)
        while names and names[-1] == "crc32c":  # a checksum follows what it checks
            names.pop()
            raw = memoryview(raw)[:-4]
        outer = names[-1] if names else ""
        nbytes = {"zstd": _zstd_nbytes, "blosc": _blosc_nbytes}.get(outer)
        try:
            if nbytes is not None:
                _check_size(nbytes(raw), raw, min(LIMITS.of_cell(len(raw)), LIMITS.array_nbytes))
        except ValueError as error:
            raise FormatError(f"{outer} cannot decode {len(raw)} bytes: {error}") from error

    def head_nbytes(self, raw: Buffer) -> int | None:
        """Decoded size, from the first bytes of an encoded cell; None if they do not show it."""
        outer = list(self.names)
        while outer and outer[-1] == "crc32c":  # a checksum follows what it checks
            outer.pop()
        head = bytes(memoryview(raw)[:HEAD_NBYTES])
        if not outer:
            count, nbytes = struct.unpack_from("<II", head) if len(head) >= 8 else (0, 0)
            return 8 + nbytes if count == 1 else None
        if len(outer) > 1:
            return None
        if outer[0] == "blosc" and len(head) >= BLOSC_HEADER_NBYTES:
            return int(struct.unpack_from("<I", head, 4)[0])
        if outer[0] == "zstd":
            return _zstd_content_size(head)
        return None


def _zstd_nbytes(raw: Buffer) -> int:
    """Size to which zstd frames expand: as the first states it, or at most, from their blocks (RFC 8878, 3.1.1)."""
    stated = _zstd_content_size(bytes(memoryview(raw)[:HEAD_NBYTES]))
    if stated is not None:
        return stated
    view, at, total = memoryview(raw), 0, 0
    while len(view) - at >= 6 and bytes(view[at : at + 4]) == ZSTD_MAGIC:
        flags = view[at + 4]
        single = flags >> 5 & 1
        at += 5 + (1 - single) + (0, 1, 2, 4)[flags & 3] + (single, 2, 4, 8)[flags >> 6]
        last = False
        while not last:
            header = int.from_bytes(view[at : at + 3], "little")
            last, kind, size = bool(header & 1) or at + 3 >= len(view), header >> 1 & 3, header >> 3
            total += size if kind < 2 else ZSTD_BLOCK_NBYTES
            at += 3 + (1 if kind == 1 else size)
        at += 4 * (flags >> 2 & 1)
    return total


def _zstd_content_size(head: bytes) -> int | None:
    """Frame content size of a zstd frame (RFC 8878, 3.1.1.1), if the frame states it."""
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
    """Direct pipeline for a list of Zarr v3 codecs, or None if only zarr can decode it.

    Parameters
    ----------
    codecs
        The ``codecs`` member of an array's ``zarr.json``.
    serializer
        Required name of the array-to-bytes codec: ``vlen-bytes`` or ``bytes``.
    """
    names = [str(codec.get("name")) for codec in codecs]
    if not names or names[0] != serializer or not set(names[1:]) <= DIRECT:
        return None
    if serializer == "bytes" and (codecs[0].get("configuration") or {}).get("endian", "little") != "little":
        return None
    return Pipeline(tuple(names[1:]))


def check_foreign(codecs: Sequence[Json], where: str) -> None:
    """Raise FormatError if bytes that zarr decodes are compressed twice: a few could expand to terabytes."""
    names = [str(codec.get("name")) for codec in codecs]
    if sum(name.rpartition(".")[2] in COMPRESSORS for name in names) > 1:
        raise FormatError(f"codecs {names} compress more than once, which is not supported", where=where)


def decode_single_vlen(data: Buffer) -> memoryview:
    """Payload of a ``vlen-bytes`` buffer that holds one element (spec 0.9, 4.3).

    Raises
    ------
    FormatError
        If the buffer does not hold exactly one element of the stated size.
    """
    view = memoryview(data)
    if len(view) < 8:
        raise FormatError(f"{len(view)} bytes are too few for a cell: its header alone takes 8")
    count, nbytes = struct.unpack_from("<II", view)
    if count != 1:
        raise FormatError(f"a cell states {count} elements, expected 1")
    if len(view) != 8 + nbytes:
        raise FormatError(f"a cell states {nbytes} bytes but holds {len(view) - 8}: it is truncated or too long")
    return view[8:]


def split_vlen(data: Buffer, count: int) -> list[bytes]:
    """Elements of a ``vlen-bytes`` buffer, the inverse of `encode_vlen`; like zarr, it ignores bytes after the last.

    Raises
    ------
    FormatError
        If the buffer states another number of elements than ``count``, or ends before the last of them.
    """
    stated = struct.unpack_from("<I", data)[0] if len(data) >= 4 else 0
    if stated != count:
        raise FormatError(f"{len(data)} bytes state {stated} elements, expected {count}")
    try:
        return _VLEN.decode(data).tolist()  # type: ignore[no-any-return]
    except ValueError as error:
        raise FormatError(f"vlen-bytes cannot decode {len(data)} bytes: {error}") from error


# Cells to stored bytes: the writing half of `format.codecs` (spec 0.9, 4.1 and 4.3).

MAX_PAYLOAD_NBYTES = 2**32 - 1
ABSENT = 2**64 - 1
ZSTD_LEVEL = 0  # the reference's level, zstd's default
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
        If it has 4 GiB or more, which the format cannot express.
    """
    nbytes = memoryview(payload).nbytes
    if nbytes > MAX_PAYLOAD_NBYTES:
        raise SelectionError(
            f"a cell of {nbytes} bytes: the format allows less than 4 GiB; choose a smaller chunk_shape"
        )
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
    free = np.ones(len(out), np.uint8)
    free[:4] = 0
    anywhere(free, "<u4")[heads] = 0
    out[free.view(np.bool_)] = data[offsets[0] : offsets[-1]]
    anywhere(out, "<u4")[heads] = sizes
    out[:4] = np.asarray([n], "<u4").view(np.uint8)
    return out.tobytes()


def anywhere(data: np.ndarray[tuple[int], np.dtype[np.uint8]], dtype: str) -> Array:
    """Items that begin at each byte of some bytes, aligned or not; they share the memory."""
    item = np.dtype(dtype)
    return np.ndarray((max(0, len(data) - item.itemsize + 1),), item, data, strides=(1,))


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
        Encoded cells.
    at
        Position of each in the shard, in C order.
    total
        Number of cells for which the shard has room.
    """
    sizes = np.fromiter(map(len, cells), np.uint64, len(cells))
    index = np.full((total, 2), ABSENT, "<u8")
    index[at, 0] = np.cumsum(sizes) - sizes
    index[at, 1] = sizes
    raw = index.tobytes()
    return b"".join([*cells, raw, struct.pack("<I", google_crc32c.value(raw))])


# Parts of objects that hold several cells.

GAP_NBYTES = 64 * 1024  # largest gap that costs less to read than another request


def fetch_ranges(wanted: list[tuple[int, str, int, int]], out: list[Raw]) -> Steps[None]:
    """Fetch byte ranges into ``out``; neighbours of one object share a request."""
    runs: list[tuple[str, int, int, list[tuple[int, int, int]]]] = []
    for at, key, start, stop in sorted(wanted, key=lambda item: item[1:]):
        if runs and runs[-1][0] == key and start - runs[-1][2] <= GAP_NBYTES:
            _, first, end, members = runs[-1]
            members.append((at, start, stop))
            runs[-1] = (key, first, max(end, stop), members)
        else:
            runs.append((key, start, stop, [(at, start, stop)]))
    if not runs:
        return
    answers = yield [Get(key, start, stop) for key, start, stop, _ in runs]
    for raw, (key, first, _, members) in zip(answers, runs, strict=True):
        for at, start, stop in members:
            if raw is None or len(raw) < stop - first:
                out[at] = FormatError(f"object {key!r} ends before byte {stop}, to which its index refers")
            else:
                out[at] = part(raw, start - first, stop - first)


def part(raw: Buffer, start: int, stop: int) -> Buffer:
    """Bytes [start, stop) of a buffer, not copied."""
    found: Any = np.frombuffer(raw, np.uint8)[start:stop]  # unlike a memoryview, it can be pickled
    return found  # type: ignore[no-any-return]


# Cells of meshes that are Draco streams (spec 0.9, 5.3; spec 0.7, 7.6): positions and the faces inside the chunk.
#
# Draco reorders vertices, but the writers keep the old order in everything else, so attributes of such
# vertices, and faces that cross chunks, cannot be matched.

CORNERS = 3
LOST = "vertices are encoded with Draco, which changes their order: "


@dataclass(frozen=True, slots=True, eq=False)
class DracoLayout(Layout):
    """Cells of Draco streams, of which one part is returned.

    Parameters
    ----------
    inner
        Where the streams are.
    part
        Positions, or corners of the faces.
    dtype
        Dtype in which it is returned.
    """

    inner: Layout
    part: Literal["points", "faces"]
    dtype: np.dtype[Any]

    def fetch(self, coords: ChunkCoords, places: Places | None = None) -> Steps[list[Raw]]:
        """Encoded streams."""
        return self.inner.fetch(coords, places)

    fetch_heads = fetch  # only the whole stream shows how many rows there are

    def decode(self, raw: Buffer | Blob) -> Buffer:
        """Rows of the part that is returned."""
        mesh = _decode_draco(bytes(self.inner.decode(raw)))
        found = getattr(mesh, self.part, None)
        rows = np.empty((0, CORNERS)) if found is None else np.asarray(found)
        return rows.astype(self.dtype).tobytes()

    def head_nbytes(self, raw: Buffer | Blob) -> int | None:
        """Size of the rows; None if it is not a stream."""
        try:
            return len(self.decode(raw))
        except FormatError:
            return None

    def object_keys(self, coords: ChunkCoords) -> set[str] | None:
        """Keys of the objects that store cells."""
        return self.inner.object_keys(coords)

    def requests(self, coords: ChunkCoords, places: Places | None = None, *, head: bool = False) -> int:
        """Those of whole cells."""
        return self.inner.requests(coords, places)


def _decode_draco(stream: bytes) -> Any:
    """Mesh, or point cloud, of a stream."""
    module = _decoder()
    errors = tuple(getattr(module, name) for name in ERRORS if hasattr(module, name))
    try:
        return module.decode(stream)
    except (*errors, ValueError, RuntimeError) as error:
        raise FormatError(f"{len(stream)} bytes are not a Draco stream: {error}") from error


ERRORS = ("FileTypeException", "EncodingFailedException")


@lru_cache(maxsize=1)
def _decoder() -> Any:
    return optional("DracoPy", "vertices are encoded as 'draco'; to read them", "draco", FormatError)


def draco_vertices(array: CellArray) -> CellArray:
    """Positions whose cells are Draco streams.

    Raises
    ------
    FormatError
        If DracoPy is not installed, if there are not three axes, or if the codecs are unknown here.
    """
    try:
        _decoder()
    except FormatError as error:
        raise FormatError(error.message, where=array.spec.path) from error
    if array.spec.row_shape != (CORNERS,) or not array.spec.layout.direct:
        raise FormatError("encoding 'draco' needs three axes, and codecs that are known here", where=array.spec.path)
    layout = DracoLayout(array.spec.layout, "points", array.spec.dtype)
    return replace(array, spec=replace(array.spec, layout=layout), counts=None)


def is_draco(array: CellArray) -> bool:
    """Whether an array's cells are Draco streams."""
    return isinstance(array.spec.layout, DracoLayout)


def draco_links(vertices: CellArray, family: LinkFamily | None) -> LinkFamily:
    """The links of a level whose vertices are Draco streams: the faces in the streams.

    Raises
    ------
    FormatError
        If others are stored as well.
    """
    layout = vertices.spec.layout
    assert isinstance(layout, DracoLayout)
    beside = () if family is None else family.segments
    if (family is not None and family.table is not None) or any(len(segment.array.chunks) for segment in beside):
        raise FormatError(LOST + "faces that cross chunks still refer to the old order", where=vertices.spec.path)
    number = np.dtype(np.int64)
    spec = replace(vertices.spec, dtype=number, row_shape=(), layout=DracoLayout(layout.inner, "faces", number))
    segment = LinkSegment(
        array=replace(vertices, spec=spec, counts=None),
        name="faces",
        offsets=np.zeros((CORNERS - 1, vertices.chunks.rank), np.int64),
        coding=LinkCoding(width=CORNERS, dtype=number, grouped=False, permuted=False),
    )
    return LinkFamily(delta=0, width=CORNERS, directed=False, segments=(segment,))
