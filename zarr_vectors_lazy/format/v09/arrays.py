"""Chunk-grid arrays from their ``zarr.json`` (spec 0.9, 4.1 and 6)."""

import math

import numpy as np

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.base import Found
from zarr_vectors_lazy.format.codecs import Pipeline, check_foreign, parse_pipeline
from zarr_vectors_lazy.format.keys import parse_chunk_keys
from zarr_vectors_lazy.format.limits import MAX_DIMENSIONS, MAX_PIECES, MAX_ROW_VALUES
from zarr_vectors_lazy.format.nodes import (
    VLEN_TYPES,
    chunk_table,
    parse_chunk_shape,
    parse_codecs,
    parse_dictionary,
    parse_dtype,
    parse_integers,
    parse_named,
    parse_stored_dtype,
)
from zarr_vectors_lazy.format.v09.layout import GridLayout, Shards
from zarr_vectors_lazy.model.arrays import UNTOLD, CellArray, CellSpec
from zarr_vectors_lazy.types import IntArray, Json

OUR_KEY = "zarr_vectors_lazy"
MAX_SHARD_CELLS = 2**28  # an index of 4 GiB


def parse_cells(node: Found, *, default_dtype: str = "float32", row_shape: tuple[int, ...] | None = None) -> CellArray:
    """A chunk-grid array (spec 0.9, 4).

    Parameters
    ----------
    node
        The array's node.
    default_dtype
        Where the attributes give none; empty: then only bytes are known.
    row_shape
        Overrides what the attributes say.

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
        raise FormatError(f"'nonempty_chunks' must list the chunks there are, found {listed!r}", where=node.path)
    coords = parse_chunk_keys(listed, len(shape), where=node.path)
    chunks = chunk_table(coords, node.path)
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
    """Where cells are and how they are encoded; a pipeline that is not ours is left to zarr.

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
    """Shards of so many cells along each axis; None where their index is none that is read here."""
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
    """Row shape, None where a scalar stamp may be a lie (spec 0.9, 14 no. 3)."""
    channels = attributes.get("channel_names")
    if attributes.get("row_shape"):
        shape = parse_integers(attributes["row_shape"], "row_shape", where)
        if any(edge < 1 for edge in shape) or len(shape) > MAX_DIMENSIONS or math.prod(shape) > MAX_ROW_VALUES:
            raise FormatError(f"row_shape must be positive, and no absurd one, found {list(shape)}", where=where)
        return shape
    if isinstance(channels, list) and channels:
        return (len(channels),)
    return () if attributes.get("encoding") == "dictionary" else None


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
