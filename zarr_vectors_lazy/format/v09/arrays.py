"""Chunk-grid arrays of format 0.9: what they hold, which cells they have, and where (spec 0.9, 4.1 to 4.3 and 6)."""

import hashlib
import math
from dataclasses import dataclass, replace

import numpy as np

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.base import (
    MAX_DIGITS,
    MAX_DIMENSIONS,
    MAX_PIECES,
    MAX_ROW_VALUES,
    Found,
    MetaSteps,
    parse_chunk_keys,
)
from zarr_vectors_lazy.format.codecs import (
    HEAD_NBYTES,
    Pipeline,
    check_foreign,
    decode_single_vlen,
    fetch_ranges,
    parse_pipeline,
    part,
)
from zarr_vectors_lazy.format.metadata import (
    VLEN_TYPES,
    chunk_table,
    parse_chunk_shape,
    parse_codecs,
    parse_dictionary,
    parse_dtype,
    parse_integers,
    parse_named,
    parse_stored_dtype,
    stated_row_shape,
)
from zarr_vectors_lazy.model.arrays import UNTOLD, CellArray, CellSpec, Layout, Places
from zarr_vectors_lazy.model.levels import LevelMeta, dotted
from zarr_vectors_lazy.requests import Get, ListSizes, Steps
from zarr_vectors_lazy.types import Blob, BoolArray, Buffer, ChunkCoords, IntArray, Json, Raw

# Where the cells of a 0.9 chunk-grid array are (spec 0.9, 4.1 to 4.3).

ABSENT = np.uint64(2**64 - 1)
MAX_CELL_NBYTES = 2**33  # the format states sizes in 32 bits; this leaves room for codecs
MAX_OFFSET = 2**62


@dataclass(frozen=True, slots=True, kw_only=True)
class Shards:
    """The ``sharding_indexed`` codec of an array.

    Parameters
    ----------
    shape
        (K,) inner cells of a shard along each axis.
    index_at_end
        Where the shard's index lies.
    index_crc
        Whether the index ends with a crc32c.
    """

    shape: tuple[int, ...]
    index_at_end: bool
    index_crc: bool

    @property
    def cells(self) -> int:
        """Number of inner cells of a shard."""
        return int(np.prod(self.shape))

    @property
    def index_nbytes(self) -> int:
        """Stored size of the index."""
        return 16 * self.cells + (4 if self.index_crc else 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class GridLayout(Layout):
    """Cells of one rank-K array, one for each chunk.

    Parameters
    ----------
    path
        Path of the array.
    origin
        (K,) chunk coordinate of the cell with index 0.
    separator
        Separator between the components of a key.
    pipeline
        Direct decoder, or None if the array is read through zarr.
    shards
        Sharding, or None.
    """

    path: str
    origin: tuple[int, ...]
    separator: str
    pipeline: Pipeline | None
    shards: Shards | None

    @property
    def direct(self) -> bool:
        """Whether we decode the codecs ourselves."""
        return self.pipeline is not None

    def zarr_indices(self, coords: ChunkCoords) -> IntArray:
        """(n, K) indices of the cells in the zarr array."""
        return np.asarray(coords, np.int64) - np.asarray(self.origin, np.int64)

    def requests(self, coords: ChunkCoords, places: Places | None = None, *, head: bool = False) -> int:
        """Requests that `fetch` makes; with shards, at least an index and one range for each shard."""
        if self.shards is None or not self.direct or not len(coords):
            return len(coords)
        shards = self.zarr_indices(coords) // np.asarray(self.shards.shape)
        shards -= shards.min(axis=0)
        flat = np.ravel_multi_index(tuple(shards.T), tuple((shards.max(axis=0) + 1).tolist()))
        _, wanted = np.unique(flat, return_counts=True)
        return int(np.where(_whole(wanted, self.shards), 1, 2).sum())

    def fetch(self, coords: ChunkCoords, places: Places | None = None) -> Steps[list[Raw]]:
        """Encoded bytes of the cells; None if there is no object."""
        if self.shards is not None:
            return (yield from self._fetch_shards(coords))
        return (yield list(self._gets(self.zarr_indices(coords))))

    def fetch_heads(self, coords: ChunkCoords, places: Places | None = None) -> Steps[list[Raw]]:
        """First bytes of the cells."""
        if self.shards is not None:
            return (yield from self._fetch_shards(coords))
        return (yield [Get(get.key, 0, HEAD_NBYTES) for get in self._gets(self.zarr_indices(coords))])

    def decode(self, raw: Buffer | Blob) -> Buffer:
        """Payload of an encoded cell."""
        assert self.pipeline is not None
        assert not isinstance(raw, Blob)
        return decode_single_vlen(self.pipeline.decode(raw))

    def head_nbytes(self, raw: Buffer | Blob) -> int | None:
        """Payload size, from the head of a cell."""
        if self.pipeline is None or isinstance(raw, Blob):
            return None
        total = self.pipeline.head_nbytes(raw)
        return None if total is None else total - 8

    def plain_keys(self, coords: ChunkCoords) -> list[str] | None:
        """Object keys of cells that are stored uncompressed, one per object; None if they are not."""
        if self.shards is not None or self.pipeline is None or self.pipeline.names:
            return None
        return [get.key for get in self._gets(self.zarr_indices(coords))]

    def object_key(self, index: IntArray) -> str:
        """Key of the object at an index, which holds a cell or a shard."""
        return f"{self.path}/c{self.separator}" + self.separator.join(map(str, index.tolist()))

    def object_keys(self, coords: ChunkCoords) -> set[str] | None:
        """Keys of the objects that store cells: cells, or shards of them."""
        indices = self.zarr_indices(coords)
        if self.shards is not None:
            indices = np.unique(indices // np.asarray(self.shards.shape), axis=0)
        return {get.key for get in self._gets(indices)}

    def plain_nbytes(self, stored: int) -> int:
        """Payload size of an uncompressed cell with a given number of stored bytes."""
        return stored - 8

    def _gets(self, indices: IntArray) -> list[Get]:
        prefix = f"{self.path}/c{self.separator}"
        return [Get(prefix + self.separator.join(map(str, index))) for index in indices.tolist()]

    def _fetch_shards(self, coords: ChunkCoords) -> Steps[list[Raw]]:
        assert self.shards is not None
        shape = np.asarray(self.shards.shape, np.int64)
        indices = self.zarr_indices(coords)
        shard_of, cell = indices // shape, np.ravel_multi_index(tuple((indices % shape).T), self.shards.shape)
        shards, member = np.unique(shard_of, axis=0, return_inverse=True)
        member = member.reshape(-1)
        gets = self._gets(shards)
        whole = _whole(np.bincount(member, minlength=len(shards)), self.shards)
        n = self.shards.index_nbytes
        head = [
            Get(get.key) if all_of else Get(get.key, -n) if self.shards.index_at_end else Get(get.key, 0, n)
            for get, all_of in zip(gets, whole, strict=True)
        ]
        firsts = yield list(head)
        out: list[Raw] = [None] * len(coords)
        later: list[tuple[int, str, int, int]] = []
        for shard, raw in enumerate(firsts):
            if raw is None:
                continue
            members = np.flatnonzero(member == shard).tolist()
            try:
                index = decode_index(raw, self.shards)
            except FormatError as error:
                for at in members:
                    out[at] = error
                continue
            for at in members:
                start, nbytes = index[cell[at]]
                if start == ABSENT:
                    continue
                start, stop = int(start), int(start) + int(nbytes)
                if start > MAX_OFFSET or stop - start > MAX_CELL_NBYTES:
                    out[at] = FormatError(f"the index of shard {head[shard].key!r} refers to bytes {start} to {stop}")
                elif not whole[shard]:
                    later.append((at, head[shard].key, start, stop))
                elif stop > len(raw):
                    out[at] = FormatError(
                        f"shard {head[shard].key!r} has {len(raw)} bytes, but its index refers to byte {stop}"
                    )
                else:
                    out[at] = part(raw, start, stop)
        yield from fetch_ranges(later, out)
        return out


def _whole(wanted: IntArray, shards: Shards) -> BoolArray:
    """Whether so many cells of a shard are needed that a single request for all of it moves the least."""
    return wanted * 2 >= shards.cells


def decode_index(raw: Buffer, shards: Shards) -> np.ndarray[tuple[int, int], np.dtype[np.uint64]]:
    """First byte and size of each cell of a shard, from its index; (cells, 2)."""
    n = shards.index_nbytes
    if len(raw) < n:
        raise FormatError(f"{len(raw)} bytes are too few for a shard index of {n}")
    view = memoryview(raw)[len(raw) - n :] if shards.index_at_end else memoryview(raw)[:n]
    if shards.index_crc:
        view = memoryview(Pipeline(("crc32c",)).decode(view))
    return np.frombuffer(view, "<u8").reshape(-1, 2)


# Chunk-grid arrays from their ``zarr.json`` (spec 0.9, 4.1 and 6).

OUR_KEY = "zarr_vectors_lazy"
MAX_SHARD_CELLS = 2**28  # an index of 4 GiB


def parse_cells(
    node: Found,
    *,
    default_dtype: str = "float32",
    row_shape: tuple[int, ...] | None = None,
    beside: CellArray | None = None,
) -> CellArray:
    """A chunk-grid array (spec 0.9, 4).

    Parameters
    ----------
    node
        The array's node.
    default_dtype
        Dtype if the attributes state none; empty if then only bytes are known.
    row_shape
        Overrides what the attributes state.
    beside
        An array that often lists the same chunks: then they are not parsed again.

    Raises
    ------
    FormatError
        If the metadata are not those of a chunk-grid array.
    """
    doc, attributes = node.doc, node.attributes
    if doc.get("node_type") != "array":
        raise FormatError(f"expected an array, found node_type {doc.get('node_type')!r}", where=node.path)
    if doc.get("data_type") not in VLEN_TYPES:
        raise FormatError(f"data_type must be {VLEN_TYPES[0]!r}, found {doc.get('data_type')!r}", where=node.path)
    shape = parse_integers(doc.get("shape"), "shape", node.path)
    origin = parse_integers(attributes.get("chunk_grid_origin", [0] * len(shape)), "chunk_grid_origin", node.path)
    if len(origin) != len(shape):
        raise FormatError(f"chunk_grid_origin {origin} for an array of rank {len(shape)}", where=node.path)
    listed = attributes.get("nonempty_chunks")
    if not isinstance(listed, list):
        raise FormatError(f"'nonempty_chunks' must list the chunks that exist, found {listed!r}", where=node.path)
    if beside is not None and len(shape) == beside.chunks.rank and listed == beside.attributes.get("nonempty_chunks"):
        chunks = beside.chunks
    else:
        chunks = chunk_table(parse_chunk_keys(listed, len(shape), where=node.path), node.path)
    at = chunks.coords - np.asarray(origin, np.int64)
    if len(at) and ((at < 0) | (at >= np.asarray(shape))).any():
        bad = chunks.coords[((at < 0) | (at >= np.asarray(shape))).any(axis=1)][0].tolist()
        raise FormatError(f"chunk {bad} lies outside the array's grid of {shape} from {origin}", where=node.path)
    stated = attributes.get("dtype", default_dtype)
    dtype = parse_stored_dtype(attributes, parse_dtype(stated, node.path), node.path) if stated != "" else UNTOLD
    spec = CellSpec(
        path=node.path,
        dtype=dtype,
        row_shape=_row_shape(attributes, node.path) if row_shape is None else row_shape,
        layout=parse_layout(node, origin),
        dictionary=parse_dictionary(attributes, dtype, node.path),
    )
    counts = _stamped_counts(attributes, chunks.order, node.path)
    return CellArray(spec=spec, chunks=chunks, counts=counts, digest=node.digest, attributes=attributes)


def parse_layout(node: Found, origin: tuple[int, ...]) -> GridLayout:
    """Where cells are and how they are encoded; unknown pipelines are left to zarr.

    Raises
    ------
    FormatError
        If the metadata are not those of a Zarr v3 array, or shards are absurdly large.
    """
    doc = node.doc
    chunk_shape = parse_chunk_shape(node, len(origin))
    encoding = parse_named(doc.get("chunk_key_encoding"), "chunk_key_encoding", node.path)
    separator = encoding["configuration"].get("separator", "/")
    codecs = parse_codecs(doc.get("codecs"), node.path)
    plain = encoding["name"] == "default" and not doc.get("storage_transformers") and separator in ("/", ".")
    pipeline: Pipeline | None = None
    shards: Shards | None = None
    if plain and [codec["name"] for codec in codecs] == ["sharding_indexed"]:
        configuration = codecs[0]["configuration"]
        shards = parse_shards(configuration, chunk_shape, node.path)
        inner = parse_codecs(configuration.get("codecs"), node.path)
        pipeline = parse_pipeline(inner, "vlen-bytes") if shards else None
        codecs = [*codecs, *inner]
    elif plain and all(edge == 1 for edge in chunk_shape):
        pipeline = parse_pipeline(codecs, "vlen-bytes")
    if pipeline is None:
        check_foreign(codecs, node.path)
        if math.prod(chunk_shape) > MAX_PIECES:
            raise FormatError(f"chunk_grid {list(chunk_shape)} makes chunks of absurd size", where=node.path)
    return GridLayout(path=node.path, origin=origin, separator=separator, pipeline=pipeline, shards=shards)


def parse_shards(configuration: Json, shard_shape: tuple[int, ...], where: str) -> Shards | None:
    """Shards with a number of cells along each axis; None if we cannot read their index."""
    if math.prod(shard_shape) > MAX_SHARD_CELLS:
        raise FormatError(f"chunk_grid {list(shard_shape)} makes shards of absurd size", where=where)
    index = parse_codecs(configuration.get("index_codecs"), where)
    known = [codec["name"] for codec in index] in (["bytes"], ["bytes", "crc32c"])
    if not known or index[0]["configuration"].get("endian", "little") != "little":
        return None
    location = configuration.get("index_location", "end")
    if configuration.get("chunk_shape") != [1] * len(shard_shape) or location not in ("start", "end"):
        return None
    return Shards(shape=shard_shape, index_at_end=location == "end", index_crc=len(index) == 2)


def _row_shape(attributes: Json, where: str) -> tuple[int, ...] | None:
    """Row shape, None if a scalar stamp may be wrong (spec 0.9, 14 no. 3)."""
    if attributes.get("row_shape"):
        shape = parse_integers(attributes["row_shape"], "row_shape", where)
        if any(edge < 1 for edge in shape) or len(shape) > MAX_DIMENSIONS or math.prod(shape) > MAX_ROW_VALUES:
            raise FormatError(f"row_shape must be positive and not absurdly large, found {list(shape)}", where=where)
        return shape
    return stated_row_shape(attributes)


def _stamped_counts(attributes: Json, order: IntArray, where: str) -> IntArray | None:
    ours = attributes.get(OUR_KEY)
    counts = ours.get("vertex_counts") if isinstance(ours, dict) else None
    if counts is None:
        return None
    try:
        array = np.asarray(counts, np.int64)
    except (TypeError, ValueError, OverflowError) as error:
        raise FormatError("zarr_vectors_lazy.vertex_counts must be whole numbers", where=where) from error
    if array.shape != order.shape or (array < 0).any():
        raise FormatError(
            f"zarr_vectors_lazy.vertex_counts has {array.size} counts for {order.size} chunks; run zvl.index",
            where=where,
        )
    return array[order]


# Which cells exist if metadata do not list them yet: levels that are still being written (spec next, 7).

LISTED = "nonempty_chunks"
SMALL_NBYTES = 128  # an object of this size may hold an empty cell, which counts as absent


def with_presence(node: Found | None, level: LevelMeta) -> MetaSteps[Found | None]:
    """Node of an array of cells, with the list that the end of a write will add, if that is deferred.

    Raises
    ------
    FormatError
        If the store cannot be listed, or an object does not belong to the array.
    """
    if node is None or not level.deferred or LISTED in node.attributes or node.doc.get("node_type") != "array":
        return node
    shape = parse_integers(node.doc.get("shape"), "shape", node.path)
    origin = parse_integers(node.attributes.get("chunk_grid_origin", [0] * len(shape)), "origin", node.path)
    layout = parse_layout(node, origin)
    (sizes,) = yield [ListSizes(node.path)]
    if sizes is None or layout.pipeline is None:
        text = f"level {level.index} is still being written, its chunks are not listed, nor can the store be"
        raise FormatError(text, where=node.path)
    prefix = layout.object_key(np.empty(0, np.int64))
    found = {key: key.removeprefix(prefix).split(layout.separator) for key in sizes if key.startswith(prefix)}
    # What is not named by numbers is not a cell of Zarr, such as files that it renames once they are complete.
    keys = sorted(key for key, parts in found.items() if sizes[key] and all(map(str.isdecimal, parts)))
    wrong = next(
        (key for key in keys if len(found[key]) != len(shape) or len(max(found[key], key=len)) > MAX_DIGITS), None
    )
    if wrong is not None:
        raise FormatError(f"object {wrong!r} is not a cell of an array of rank {len(shape)}", where=layout.path)
    indices = np.asarray([list(map(int, found[key])) for key in keys], np.int64).reshape(-1, len(shape))
    if layout.shards is not None:
        cells, nbytes, gets = yield from _cells_of_shards(layout, keys, indices)
    else:
        cells, gets = indices, [Get(key) for key in keys]
        nbytes = np.asarray([sizes[key] for key in keys], np.int64)
    small = np.flatnonzero(nbytes <= SMALL_NBYTES)
    raws = yield [gets[at] for at in small.tolist()]
    empty = [at for at, raw in zip(small.tolist(), raws, strict=True) if raw is None or not len(layout.decode(raw))]
    coords = np.delete(cells, empty, axis=0) + np.asarray(origin, np.int64)
    listed = sorted(map(dotted, coords.tolist()))
    doc = {**node.doc, "attributes": {**node.attributes, LISTED: listed}}
    digest = hashlib.blake2b(" ".join(listed).encode(), digest_size=16).hexdigest()
    return replace(node, doc=doc, digest=node.digest + digest)


def _cells_of_shards(
    layout: GridLayout, keys: list[str], shards: IntArray
) -> MetaSteps[tuple[IntArray, IntArray, list[Get]]]:
    """Index, stored size and place of every cell of some shards, from their indexes."""
    assert layout.shards is not None
    n, shape = layout.shards.index_nbytes, np.asarray(layout.shards.shape, np.int64)
    raws = yield [Get(key, -n) if layout.shards.index_at_end else Get(key, 0, n) for key in keys]
    cells, nbytes, gets = [np.empty((0, len(shape)), np.int64)], [np.empty(0, np.int64)], []
    for key, shard, raw in zip(keys, shards, raws, strict=True):
        if raw is None:
            continue
        index = decode_index(raw, layout.shards)
        stored = np.flatnonzero(index[:, 0] != ABSENT)
        cells.append(shard * shape + np.stack(np.unravel_index(stored, layout.shards.shape), axis=1))
        nbytes.append(index[stored, 1].astype(np.int64))
        gets += [Get(key, int(start), int(start + size)) for start, size in index[stored].tolist()]
    return np.concatenate(cells), np.concatenate(nbytes), gets
