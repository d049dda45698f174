"""A Zarr array with its codecs and shards undone, or replaced: the same pieces, stored differently (Zarr v3).

A piece is what the codecs are applied to: a cell, or the rows of a dense array that are stored together. Nothing here
interprets one, so any array of either generation can be recoded, even an unknown one.
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numcodecs.vlen import VLenBytes

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.base import LIMITS, Found
from zarr_vectors_lazy.format.codecs import (
    DIRECT,
    LITTLE,
    Pipeline,
    byte_codecs,
    decode_single_vlen,
    encode_vlen,
    shard_codecs,
)
from zarr_vectors_lazy.format.metadata import (
    KEYS,
    VLEN_TYPES,
    parse_chunk_shape,
    parse_codecs,
    parse_dense,
    parse_integers,
    parse_named,
)
from zarr_vectors_lazy.format.v09.arrays import GridLayout, parse_cells, parse_shards
from zarr_vectors_lazy.format.v09.documents import VLEN, is_cell_array
from zarr_vectors_lazy.model.arrays import DenseArray
from zarr_vectors_lazy.model.levels import dotted
from zarr_vectors_lazy.model.writing import Encoding
from zarr_vectors_lazy.types import Array, Buffer, ChunkCoords, IntArray, Json

MAX_OBJECTS = 2**20  # most pieces of an array whose metadata do not list them
SERIALIZERS = ("bytes", "vlen-bytes", "vlen-utf8")
VERTEX = "0/vertex_attributes/"
PLAIN = Encoding(compressor=None, checksum=False)
"""No codecs after the one that makes bytes, and no shards."""


@dataclass(frozen=True, slots=True, eq=False)
class StoredArray:
    """How an array is stored.

    Parameters
    ----------
    path, doc
        Where it is, and its document.
    shape, piece
        Shape of the array, and of a piece of it.
    layout
        Where pieces are, and how their codecs are undone; without a pipeline, only zarr can.
    plain
        Codecs of a piece that is not encoded any further.
    """

    path: str
    doc: Json
    shape: tuple[int, ...]
    piece: tuple[int, ...]
    layout: GridLayout
    plain: list[Json]

    @property
    def is_cells(self) -> bool:
        """Whether its document lists its pieces, which are cells of chunks."""
        return is_cell_array(self.doc)

    def chunk(self, index: IntArray) -> list[int]:
        """Chunk of the cell at an index; the index itself if pieces are not cells of chunks."""
        origin = self.doc["attributes"].get("chunk_grid_origin", 0) if self.is_cells else 0
        return (np.asarray(index) + origin).tolist()  # type: ignore[no-any-return]

    def lists(self, index: IntArray) -> bool:
        """Whether the document lists such a cell."""
        return self.is_cells and dotted(self.chunk(index)) in self.doc["attributes"]["nonempty_chunks"]

    @property
    def grid(self) -> tuple[int, ...]:
        """Pieces along each axis."""
        return tuple(-(-edge // piece) for edge, piece in zip(self.shape, self.piece, strict=True))

    def indices(self) -> ChunkCoords:
        """(n, K) indices of the pieces: of listed cells, or of all that may exist, in C order.

        Raises
        ------
        FormatError
            If there are absurdly many, or impossible cells are listed.
        """
        if self.is_cells:
            cells = parse_cells(Found(self.path, self.doc, ""), default_dtype="")
            return cells.spec.layout.zarr_indices(cells.chunks.coords)
        if math.prod(self.grid) > MAX_OBJECTS:
            raise FormatError(f"an array of {math.prod(self.grid)} stored pieces", where=self.path)
        return np.indices(self.grid).reshape(len(self.grid), -1).T

    def decode(self, raw: Buffer) -> Buffer:
        """Undo the codecs of a piece; raises FormatError."""
        assert self.layout.pipeline is not None
        found = self.layout.pipeline.decode(raw)
        if self.is_cells:
            decode_single_vlen(found)
        return found if self.fitted == self.piece else self._cut(found)

    @property
    def fitted(self) -> tuple[int, ...]:
        """A piece without rows beyond the array, if there is only one: stored raw, they would cost much."""
        first, rows = self.piece[0], self.shape[0]
        fits = rows and len(self.plain) == 1 and self.plain[0]["name"] in SERIALIZERS
        return (min(first, rows), *self.piece[1:]) if fits else self.piece

    def _cut(self, piece: Buffer) -> Buffer:
        if self.plain[0]["name"] == "bytes":
            return memoryview(piece)[: len(piece) // self.piece[0] * self.fitted[0]]
        try:
            return self.encode_rows(VLenBytes().decode(piece)[: self.fitted[0]])
        except (ValueError, RuntimeError) as error:
            raise FormatError(f"{len(piece)} bytes are not {self.piece[0]} elements: {error}") from error

    def dense(self) -> DenseArray:
        """The array as one of rows, for zarr to read."""
        return parse_dense(Found(self.path, self.doc, ""), self.path.rpartition("/")[2])

    def encode_rows(self, rows: "Array") -> bytes:
        """Piece of a one-dimensional array, from its values; padded if it is the last."""
        if self.plain[0]["name"] != "bytes":
            lengths = [*map(len, rows), *[0] * (self.fitted[0] - len(rows))]
            offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
            return encode_vlen(np.frombuffer(b"".join(map(bytes, rows)), np.uint8), offsets)
        out = np.full(self.fitted, self.dense().missing, rows.dtype.newbyteorder("<"))
        out[: len(rows)] = rows
        return out.tobytes()

    def filler(self) -> bytes | None:
        """Piece of zeros, if one that is not stored stands for them but another encoding would not allow that.

        A compressed blob of format 0.7 may be left out in this way; an uncompressed one is then missing (spec
        0.7, 3.1).
        """
        blob = len(self.shape) == 1 and self.doc.get("data_type") == "uint8" and not self.doc.get("fill_value")
        names = () if self.layout.pipeline is None else self.layout.pipeline.names
        small = self.fitted[0] <= LIMITS.cell_nbytes
        return bytes(self.fitted[0]) if blob and names and small else None


def parse_stored(node: Found) -> StoredArray | None:
    """How an array is stored; None if only its own codecs can read it.

    Raises
    ------
    FormatError
        If it is not a regular Zarr array.
    """
    doc, path = node.doc, node.path
    shape = parse_integers(doc.get("shape"), "shape", path)
    outer = piece = parse_chunk_shape(node, len(shape))
    keys = parse_named(doc.get("chunk_key_encoding"), "chunk_key_encoding", path)
    separator = keys["configuration"].get("separator", "/")
    if not shape or min(shape) < 0 or keys["name"] != "default" or separator not in ("/", "."):
        return None
    codecs, shards = parse_codecs(doc.get("codecs"), path), None
    strange = bool(doc.get("storage_transformers"))
    if [codec["name"] for codec in codecs] == ["sharding_indexed"]:
        configuration = codecs[0]["configuration"]
        codecs = parse_codecs(configuration.get("codecs"), path)
        piece = parse_integers(configuration.get("chunk_shape"), "chunk_shape", path)
        if len(piece) != len(outer) or any(edge < 1 or of % edge for edge, of in zip(piece, outer, strict=False)):
            raise FormatError(f"shards of {list(outer)} cannot hold pieces of {list(piece)}", where=path)
        ones = {**configuration, "chunk_shape": [1] * len(outer)}
        shards = parse_shards(ones, tuple(of // edge for edge, of in zip(piece, outer, strict=True)), path)
        strange |= shards is None
    plain, pipeline = _plain_codecs(codecs)
    if strange or pipeline is None:
        simple = _codecs_of_values(doc, piece)
        if simple is None:
            return None
        plain, pipeline = simple, None
    layout = GridLayout(path=path, origin=(0,) * len(shape), separator=separator, pipeline=pipeline, shards=shards)
    return StoredArray(path=path, doc=doc, shape=shape, piece=piece, layout=layout, plain=plain)


def _plain_codecs(codecs: list[Json]) -> tuple[list[Json], Pipeline | None]:
    """Codecs that turn a piece into bytes, and how those after them are undone; None if one is unknown here."""
    at = next((i for i, codec in enumerate(codecs) if codec["name"] in SERIALIZERS), None)
    if at is None:
        return [], None
    names = tuple(codec["name"] for codec in codecs[at + 1 :])
    return codecs[: at + 1], Pipeline(names) if set(names) <= DIRECT else None


def _codecs_of_values(doc: Json, piece: tuple[int, ...]) -> list[Json] | None:
    """Codecs for the values of pieces that zarr decodes; None for pieces that are neither cells nor rows."""
    if doc.get("data_type") in VLEN_TYPES:
        return [VLEN] if len(piece) == 1 or math.prod(piece) == 1 else None
    return [LITTLE] if len(piece) == 1 and isinstance(doc.get("data_type"), str) else None


def recoded(array: StoredArray, encoding: Encoding) -> StoredArray:
    """Return the array stored differently; shards are only for cells."""
    codecs = [*array.plain, *byte_codecs(encoding)]
    outer = array.fitted
    if encoding.shard_shape is not None and array.is_cells:
        codecs, outer = shard_codecs(encoding, len(outer), codecs), encoding.shard_shape
    doc = {
        **array.doc,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(outer)}},
        "chunk_key_encoding": KEYS,
        "codecs": codecs,
    }
    doc.pop("storage_transformers", None)
    found = parse_stored(Found(array.path, doc, ""))
    assert found is not None
    return found


def plain_document(node: Found) -> Json:
    """Document of a node in a tree whose codecs and shards are undone; the original if that is impossible."""
    try:
        array = parse_stored(node) if node.doc.get("node_type") == "array" else None
    except FormatError:  # whoever reads it gets the error
        array = None
    return node.doc if array is None else recoded(array, PLAIN).doc


def with_specs(root: Json, nodes: Mapping[str, Json]) -> Json:
    """Root that names the vertex attributes of level 0, for viewers that cannot list, if it does not name any.

    Parameters
    ----------
    nodes
        Documents by path.
    """
    attributes = root.get("attributes")
    block = attributes.get("zarr_vectors") if isinstance(attributes, dict) else None
    if not isinstance(block, dict) or "attribute_specs" in block:
        return root
    found = {path.removeprefix(VERTEX): doc.get("attributes") for path, doc in nodes.items() if path.startswith(VERTEX)}
    specs = {name: {"dtype": of["dtype"]} for name, of in found.items() if isinstance(of, dict) and "dtype" in of}
    if not specs:
        return root
    return {
        **root,
        "attributes": {**root["attributes"], "zarr_vectors": {**block, "attribute_specs": {"vertex": specs}}},
    }


def stored_keys(path: str, doc: Json, what: str = "an array") -> Iterator[str]:
    """Keys of all objects that a Zarr array may have.

    Raises
    ------
    FormatError
        If it has no valid grid, or absurdly many chunks.
    """
    if doc.get("node_type") != "array":
        return iter(())
    try:
        pieces, encoding = doc["chunk_grid"]["configuration"]["chunk_shape"], doc["chunk_key_encoding"]
        counts = [len(range(0, edge, piece)) for edge, piece in zip(doc["shape"], pieces, strict=True)]
        plain = encoding["name"] == "v2"
        separator = str(encoding.get("configuration", {}).get("separator", "." if plain else "/"))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise FormatError(f"{what} has no regular chunk grid", where=path) from error
    if math.prod(counts) > MAX_OBJECTS:
        raise FormatError(f"{what} has {math.prod(counts)} objects", where=path)
    indices = itertools.product(*map(range, counts))
    first = [] if plain else ["c"]
    return (f"{path}/{separator.join([*first, *map(str, index)]) or '0'}" for index in indices)
