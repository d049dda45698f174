"""Cells of format 0.7: blobs, their places, and arrays of them (spec 0.7, 3)."""

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.base import LIMITS, Children, Found, MetaSteps, Node, parse_chunk_keys
from zarr_vectors_lazy.format.codecs import Pipeline, check_foreign, fetch_ranges, parse_pipeline, part
from zarr_vectors_lazy.format.metadata import (
    chunk_table,
    parse_chunk_shape,
    parse_codecs,
    parse_dictionary,
    parse_dtype,
    parse_integers,
    parse_json,
    parse_named,
    stated_row_shape,
)
from zarr_vectors_lazy.model.arrays import UNTOLD, CellArray, CellSpec, Layout, Pack, Places, absent_value
from zarr_vectors_lazy.model.levels import dotted
from zarr_vectors_lazy.requests import Elements, Get, Request, Steps
from zarr_vectors_lazy.types import Array, Blob, Buffer, ChunkCoords, IntArray, Json, Raw

# Blobs: one-dimensional arrays of bytes that each hold one byte string (spec 0.7, 3.1).

KEY = "c/0"
MAX_NBYTES = 2**33  # largest size of a blob, as of a cell in 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobMeta:
    """The contents of a blob's ``zarr.json``.

    Parameters
    ----------
    nbytes
        Size of the blob.
    stored
        Decoded size, at least ``nbytes``.
    codecs
        Bytes-to-bytes codecs; None if only zarr can decode it.
    key
        Key of its single object, below the array's path.
    fill
        Value of bytes that were never stored.
    """

    nbytes: int
    stored: int
    codecs: tuple[str, ...] | None
    key: str
    fill: object


def parse_blob(node: Found) -> BlobMeta:
    """Read the metadata of a blob.

    Raises
    ------
    FormatError
        If they are not those of a one-dimensional array of bytes in one chunk.
    """
    doc = node.doc
    shape = parse_integers(doc.get("shape"), "shape", node.path)
    if doc.get("node_type") != "array" or doc.get("data_type") != "uint8" or len(shape) != 1 or shape[0] < 0:
        kind = f"{doc.get('node_type')!r} of {doc.get('data_type')!r} and shape {list(shape)}"
        raise FormatError(f"a blob is a one-dimensional array of uint8, found {kind}", where=node.path)
    (stored,) = parse_chunk_shape(node, 1)
    if stored < shape[0]:
        raise FormatError(f"a blob of {shape[0]} bytes lies in chunks of {stored}, expected one chunk", where=node.path)
    if stored > MAX_NBYTES:
        raise FormatError(f"a blob of {stored} bytes is larger than any writer makes it", where=node.path)
    encoding = parse_named(doc.get("chunk_key_encoding"), "chunk_key_encoding", node.path)
    separator = str(encoding["configuration"].get("separator", "/" if encoding["name"] == "default" else "."))
    if separator not in ("/", "."):
        raise FormatError(f"the separator of chunk keys must be '/' or '.', found {separator!r}", where=node.path)
    codecs = parse_codecs(doc.get("codecs"), node.path)
    pipeline = None if doc.get("storage_transformers") else parse_pipeline(codecs, "bytes")
    if pipeline is None:
        check_foreign(codecs, node.path)
        if not codecs or codecs[0]["name"].startswith("vlen"):
            raise FormatError(f"codecs {codecs!r} cannot give an array of uint8", where=node.path)
    return BlobMeta(
        nbytes=shape[0],
        stored=stored,
        codecs=None if pipeline is None else pipeline.names,
        key=f"c{separator}0" if encoding["name"] == "default" else "0",
        fill=doc.get("fill_value"),
    )


def parse_raw(raw: Buffer, path: str) -> BlobMeta:
    """Read the metadata of a blob from the bytes of its ``zarr.json``; errors as for `parse_blob`."""
    return parse_blob(Found(path, parse_json(raw, path), ""))


def fetch_blobs(paths: Sequence[str], *, headed: bool) -> Steps[list[Raw]]:
    """Fetch blobs and their metadata, all at once.

    Parameters
    ----------
    headed
        Whether blobs begin with a header: then none is all zeros.

    Returns
    -------
    For each path, a `Blob`, None if there is no such object, or an error that concerns it alone.
    """
    answers = yield [Get(f"{path}/{name}") for path in paths for name in ("zarr.json", KEY)]
    out: list[Raw] = [None] * len(paths)
    metas: dict[int, BlobMeta] = {}
    for at, path in enumerate(paths):
        if answers[2 * at] is not None:
            try:
                metas[at] = parse_raw(answers[2 * at], path)
            except FormatError as error:
                out[at] = error
    bodies = {at: answers[2 * at + 1] for at in metas}
    elsewhere = {at: Get(f"{paths[at]}/{meta.key}") for at, meta in metas.items() if meta.key != KEY and meta.nbytes}
    if elsewhere:
        bodies.update(zip(elsewhere, (yield list[Request | Elements](elsewhere.values())), strict=True))
    foreign = {at: Elements(paths[at]) for at, meta in metas.items() if meta.codecs is None and bodies[at] is not None}
    decoded = dict(zip(foreign, (yield list[Request | Elements](foreign.values())), strict=True)) if foreign else {}
    for at, meta in metas.items():
        out[at] = decoded[at] if isinstance(decoded.get(at), Exception) else _blob(meta, bodies, decoded, at, headed)
    return out


def _blob(meta: BlobMeta, bodies: dict[int, Buffer], decoded: dict[int, Buffer], at: int, headed: bool) -> Raw:
    if not meta.nbytes:
        return Blob(0, 0, (), b"")
    if at in decoded:
        return Blob(meta.nbytes, meta.nbytes, (), decoded[at])
    if bodies[at] is None:
        return absent_blob(meta, headed=headed)
    return Blob(meta.nbytes, meta.stored, meta.codecs or (), bodies[at])


def absent_blob(meta: BlobMeta, *, headed: bool) -> Raw:
    """A blob without an object: all zeros, or None if it must have one (spec 0.7, 3.1)."""
    if headed or meta.codecs == () or meta.fill != 0:  # zarr leaves out zeros, but the bulk writer does not
        return None
    if meta.nbytes > LIMITS.cell_nbytes:
        return FormatError(f"{meta.nbytes} zeros, none of which is stored: too many to be plausible")
    return Blob(meta.nbytes, meta.nbytes, (), bytes(meta.nbytes))


def fetch_sizes(paths: Sequence[str]) -> Steps[list[Raw]]:
    """Fetch only the metadata of blobs; a `Blob` without a body for each."""
    answers = yield [Get(f"{path}/zarr.json") for path in paths]
    return [None if raw is None else _size(raw, path) for raw, path in zip(answers, paths, strict=True)]


def _size(raw: Buffer, path: str) -> Raw:
    try:
        meta = parse_raw(raw, path)
    except FormatError as error:
        return error
    return Blob(meta.nbytes, meta.stored, (), None)


def decode_blob(blob: Blob) -> Buffer:
    """Payload of a blob.

    Raises
    ------
    FormatError
        If a codec refuses the bytes, or their number contradicts the metadata.
    """
    assert blob.body is not None
    data = Pipeline(blob.codecs).decode(blob.body)
    if len(data) != blob.stored:
        raise FormatError(f"{len(data)} bytes, but its metadata state {blob.stored}: it is truncated or too long")
    return data if blob.stored == blob.nbytes else np.frombuffer(data, np.uint8)[: blob.nbytes].data


# Where the cells of an array are: each its own blob, or part of a packed one (spec 0.7, 3.1 and 3.4).


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobLayout(Layout):
    """Cells of one array, one for each chunk.

    Parameters
    ----------
    path
        Path of the group that holds them.
    headed
        Whether cells begin with a header: then none is all zeros.
    """

    path: str
    headed: bool

    def requests(self, coords: ChunkCoords, places: Places | None = None, *, head: bool = False) -> int:
        """Two requests per cell, one of which gives its size; for packed cells, at most one each per object."""
        if places is None:
            return len(coords) * (1 if head else 2)
        alone = int((places.pack < 0).sum())
        if head:
            return alone
        plain = np.asarray([pack.codecs == () for pack in places.packs], np.bool_)
        packed = places.pack[places.pack >= 0]
        return 2 * alone + int(plain[packed].sum()) + len(np.unique(packed[~plain[packed]]))

    def fetch(self, coords: ChunkCoords, places: Places | None = None) -> Steps[list[Raw]]:
        """Encoded bytes of the cells; None if there is no object."""
        out: list[Raw] = [None] * len(coords)
        alone = self._alone(len(coords), places)
        blobs = yield from fetch_blobs(self._paths(coords, alone), headed=self.headed)
        for at, blob in zip(alone, blobs, strict=True):
            out[at] = blob
        if places is not None:
            yield from self._fetch_packed(places, out)
        return out

    def fetch_heads(self, coords: ChunkCoords, places: Places | None = None) -> Steps[list[Raw]]:
        """Sizes of the cells."""
        out: list[Raw] = [None] * len(coords)
        if places is not None:
            sizes = (places.stops - places.starts).tolist()
            out = [Blob(size, size, (), None) for size in sizes]
        alone = self._alone(len(coords), places)
        blobs = yield from fetch_sizes(self._paths(coords, alone))
        for at, blob in zip(alone, blobs, strict=True):
            out[at] = blob
        return out

    def decode(self, raw: Buffer | Blob) -> Buffer:
        """Payload of an encoded cell."""
        return decode_blob(raw) if isinstance(raw, Blob) else raw

    def head_nbytes(self, raw: Buffer | Blob) -> int | None:
        """Payload size of a cell."""
        return raw.nbytes if isinstance(raw, Blob) else len(raw)

    @staticmethod
    def _alone(n: int, places: Places | None) -> list[int]:
        return list(range(n)) if places is None else np.flatnonzero(places.pack < 0).tolist()

    def _paths(self, coords: ChunkCoords, rows: list[int]) -> list[str]:
        return [f"{self.path}/{dotted(coord)}" for coord in np.asarray(coords)[rows].tolist()]

    def _fetch_packed(self, places: Places, out: list[Raw]) -> Steps[None]:
        """Byte ranges of plain packs; other packs whole."""
        cells: dict[int, list[int]] = {}
        for at in np.flatnonzero(places.pack >= 0).tolist():
            cells.setdefault(int(places.pack[at]), []).append(at)
        starts, stops = places.starts.tolist(), places.stops.tolist()
        ranges = [
            (at, f"{pack.path}/{pack.key}", starts[at], stops[at])
            for number, pack in enumerate(places.packs)
            for at in cells.get(number, [])
            if pack.codecs == () and stops[at] > starts[at]
        ]
        yield from fetch_ranges(ranges, out)
        for at, _, start, stop in ranges:
            raw = out[at]
            out[at] = raw if raw is None or isinstance(raw, Exception) else Blob(stop - start, stop - start, (), raw)  # type: ignore[arg-type]
        whole = [number for number, pack in enumerate(places.packs) if pack.codecs != () and number in cells]
        asked: list[Request | Elements] = []
        for number in whole:
            pack = places.packs[number]
            asked.append(Get(f"{pack.path}/{pack.key}") if pack.codecs is not None else Elements(pack.path))
        answers = (yield asked) if asked else []
        for number, raw in zip(whole, answers, strict=True):
            decoded = self._decode_pack(places.packs[number], raw)
            for at in cells[number]:
                size = stops[at] - starts[at]
                failed = decoded is None or isinstance(decoded, Exception)
                out[at] = decoded if failed else Blob(size, size, (), part(decoded, starts[at], stops[at]))  # type: ignore[arg-type]
        for members in cells.values():
            for at in members:
                if starts[at] == stops[at]:
                    out[at] = Blob(0, 0, (), b"")

    def _decode_pack(self, pack: Pack, raw: Raw) -> Raw:
        if raw is None and pack.stored > LIMITS.cell_nbytes:
            return FormatError(f"{pack.stored} zeros, none of which is stored: too many to be plausible")
        if raw is None:
            return None if self.headed else bytes(pack.stored)
        if isinstance(raw, Exception) or pack.codecs is None:
            return raw
        try:
            return decode_blob(Blob(pack.stored, pack.stored, pack.codecs, raw))  # type: ignore[arg-type]
        except FormatError as error:
            return error


# Arrays of cells: groups whose children are named by chunk (spec 0.7, 3.1, 3.2 and 3.4).

_PACK = re.compile(r"__shard_[0-9]{6,}")


def find_cells(
    path: str,
    ranks: Sequence[int],
    *,
    dtype: str | None = None,
    row_shape: tuple[int, ...] | None = None,
    headed: bool = False,
) -> MetaSteps[CellArray | None]:
    """An array of cells; None if neither its group nor any chunk exists.

    The list of chunks takes one listing; for a packed array, the metadata of its packs too.

    Parameters
    ----------
    ranks
        Components that a chunk's coordinate may have.
    dtype
        Dtype if the group states none; None if that is an error.
    row_shape
        Overrides what the group states.
    headed
        Whether cells begin with a header.

    Raises
    ------
    FormatError
        If a child is not a chunk, or the group does not say what cells hold.
    """
    group, names = yield [Node(path), Children(path)]
    if group is None and not names:
        return None
    if group is not None and group.doc.get("node_type") != "group":
        raise FormatError(f"expected a group of chunks, found node_type {group.doc.get('node_type')!r}", where=path)
    attributes: Json = {} if group is None else group.attributes
    packs = [name for name in names if _PACK.fullmatch(name)]
    nodes = yield [Node(f"{path}/{name}") for name in packs]
    index, digests = _packed(nodes, packs, path)
    keys = [name for name in names if not _PACK.fullmatch(name)]
    both = index.keys() & set(keys)
    if both:
        raise FormatError(f"chunk {min(both)!r} is stored twice, packed and on its own", where=path)
    keys += index
    rank = keys[0].count(".") + 1 if keys else min(ranks)
    if rank not in ranks:
        wanted = " or ".join(map(str, sorted(set(ranks))))
        raise FormatError(f"{keys[0]!r} is not the name of a chunk, expected {wanted} dotted integers", where=path)
    chunks = chunk_table(parse_chunk_keys(keys, rank, where=path), path)
    stored = _dtype(attributes, dtype, path)
    spec = CellSpec(
        path=path,
        dtype=stored,
        row_shape=stated_row_shape(attributes) if row_shape is None else row_shape,
        layout=BlobLayout(path=path, headed=headed),
        dictionary=parse_dictionary(attributes, stored, path),
    )
    listing = hashlib.blake2b("\n".join(sorted(keys)).encode(), digest_size=16).hexdigest()
    return CellArray(
        spec=spec,
        chunks=chunks,
        digest="".join([listing, *digests, "" if group is None else group.digest]),
        attributes=attributes,
        places=_places(nodes, index, keys, chunks.order) if index else None,
    )


def _dtype(attributes: Json, default: str | None, path: str) -> np.dtype[Any]:
    """Return the stated dtype; that of bytes if the lazy writer of zarr-vectors 0.2.0 left none."""
    declared = attributes.get("dtype", default)
    return UNTOLD if declared is None else parse_dtype(declared, path)


def _packed(
    nodes: Sequence[Found | None], packs: Sequence[str], path: str
) -> tuple[dict[str, tuple[int, int, int]], list[str]]:
    """(pack, start, stop) by chunk key, and the packs' digests."""
    index: dict[str, tuple[int, int, int]] = {}
    for number, (node, name) in enumerate(zip(nodes, packs, strict=True)):
        where = f"{path}/{name}"
        table = None if node is None else node.attributes.get("shard_index")
        if not isinstance(table, dict):
            raise FormatError(f"'shard_index' must map chunks to [offset, nbytes], found {table!r}", where=where)
        for key, extent in table.items():
            found = parse_integers(extent if isinstance(extent, list) else [], "shard_index", where)
            start, nbytes = found if len(found) == 2 else (-1, 0)
            if start < 0 or nbytes < 0 or key in index:
                raise FormatError(f"'shard_index' places chunk {key!r} at {extent!r}, or twice", where=where)
            index[key] = (number, start, start + nbytes)
    return index, [node.digest for node in nodes if node is not None]


def _places(nodes: Sequence[Found], index: dict[str, tuple[int, int, int]], keys: Sequence[str], order: Any) -> Places:
    metas = [parse_blob(node) for node in nodes]
    packs = tuple(Pack(node.path, meta.key, meta.stored, meta.codecs) for node, meta in zip(nodes, metas, strict=True))
    table = np.asarray([index.get(key, (-1, 0, 0)) for key in keys], np.int64).reshape(-1, 3)[order]
    sizes = np.asarray([meta.nbytes for meta in metas], np.int64)
    beyond = (table[:, 0] >= 0) & (table[:, 2] > sizes[table[:, 0]])
    if beyond.any():
        number = int(table[beyond][0, 0])
        raise FormatError(f"'shard_index' refers to bytes past the {sizes[number]} stored", where=packs[number].path)
    return Places(packs, table[:, 0], table[:, 1], table[:, 2])


# Arrays over objects and groups, and tables of links: blobs that are read whole (spec 0.7, 4.5, 4.7 and 4.8).


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseBlob:
    """Rows of numbers or of text with one width (spec 0.7, 4.8), or a table of links (4.5).

    Parameters
    ----------
    path
        Path of the blob.
    dtype, shape
        Dtype and shape of the array.
    mask
        Path of the blob that says which rows exist; None if all do.
    never_zeros
        Whether the bytes cannot all be zero, so that a missing object is damage.
    """

    path: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    mask: str | None = None
    never_zeros: bool = False

    @property
    def requests(self) -> int:
        """Two for each blob: its metadata and its bytes."""
        return 2 if self.mask is None else 4

    def read(self) -> Steps[Array]:
        """The whole array; absent rows have `absent_value`, as in 0.9."""
        paths = [self.path, *([self.mask] if self.mask else [])]
        blobs = yield from fetch_blobs(paths, headed=self.never_zeros)
        payloads = [_decoded(blob, path) for blob, path in zip(blobs, paths, strict=True)]
        nbytes = self.dtype.itemsize * math.prod(self.shape)
        if len(payloads[0]) != nbytes:
            raise FormatError(
                f"{len(payloads[0])} bytes, expected {nbytes}: {self.dtype} of shape {self.shape}", where=self.path
            )
        values = np.frombuffer(payloads[0], self.dtype).reshape(self.shape)
        if self.mask is None:
            return values
        if len(payloads[1]) != self.shape[0]:
            raise FormatError(f"{len(payloads[1])} marks of missing values for {self.shape[0]} rows", where=self.mask)
        absent = np.frombuffer(payloads[1], np.uint8) == 0
        values = values.copy()
        values[absent] = absent_value(self.dtype)
        return values


@dataclass(frozen=True, slots=True, kw_only=True)
class RaggedBlob:
    """Byte strings, one after another, and where each begins (spec 0.7, 4.7 and 4.8).

    Parameters
    ----------
    path
        Path of the group of ``data`` and ``offsets``.
    count
        Number of strings.
    """

    path: str
    count: int

    @property
    def requests(self) -> int:
        """Two for each blob: its metadata and its bytes."""
        return 4 if self.count else 0

    def read(self) -> Steps[Array]:
        """(count,) of bytes."""
        paths = [f"{self.path}/data", f"{self.path}/offsets"]
        if not self.count:
            return np.empty(0, object)
        blobs = yield from fetch_blobs(paths, headed=False)
        data, raw = (_decoded(blob, path) for blob, path in zip(blobs, paths, strict=True))
        if len(raw) != 8 * self.count:
            raise FormatError(f"{len(raw)} bytes of offsets for {self.count} rows", where=paths[1])
        return _split(data, np.append(np.frombuffer(raw, "<i8"), len(data)), paths[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class LostColumn:
    """A column of Python objects, for which the writer stored memory addresses (spec 0.7, 4.8).

    Parameters
    ----------
    path
        Path of its group.
    """

    path: str

    @property
    def requests(self) -> int:
        """None."""
        return 0

    def read(self) -> Steps[Array]:
        """Raise FormatError, because the values do not exist."""
        yield from ()
        raise FormatError(
            "zarr-vectors 0.2.0 wrote memory addresses instead of values, which are lost", where=self.path
        )


def _split(data: Buffer, bounds: IntArray, where: str) -> Array:
    if bounds[0] < 0 or (np.diff(bounds) < 0).any():
        raise FormatError(f"offsets must ascend within {len(data)} bytes, found {bounds[:5].tolist()}", where=where)
    view = memoryview(data)
    out = np.empty(len(bounds) - 1, object)
    out[:] = [bytes(view[start:stop]) for start, stop in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)]
    return out


def _decoded(blob: object, path: str) -> Buffer:
    if isinstance(blob, Blob):
        try:
            return decode_blob(blob)
        except FormatError as error:
            raise FormatError(error.message, where=path) from error
    raise FormatError("its object is missing" if blob is None else str(blob), where=path)
