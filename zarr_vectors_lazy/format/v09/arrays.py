"""Chunk-grid and dense arrays from their ``zarr.json`` (spec 0.9, 4.1, 6 and 8)."""

import operator
from typing import Any

import numpy as np

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.base import Found
from zarr_vectors_lazy.format.codecs import Pipeline, parse_pipeline
from zarr_vectors_lazy.format.v09.keys import parse_chunk_keys
from zarr_vectors_lazy.format.v09.layout import GridLayout, Shards
from zarr_vectors_lazy.model.arrays import CellArray, CellSpec, DenseArray, Dictionary
from zarr_vectors_lazy.model.chunks import ChunkTable
from zarr_vectors_lazy.types import IntArray, Json

VLEN_TYPES = ("variable_length_bytes", "bytes")
OUR_KEY = "zarr_vectors_lazy"


def parse_cells(node: Found, *, default_dtype: str = "float32", row_shape: tuple[int, ...] | None = None) -> CellArray:
    """A chunk-grid array (spec 0.9, 4).

    Parameters
    ----------
    node
        The array's node.
    default_dtype
        Where the attributes give none.
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
    shape = _ints(doc.get("shape"), "shape", node.path)
    origin = _ints(attributes.get("chunk_grid_origin", [0] * len(shape)), "chunk_grid_origin", node.path)
    if len(origin) != len(shape):
        raise FormatError(f"chunk_grid_origin {origin} for an array of rank {len(shape)}", where=node.path)
    listed = attributes.get("nonempty_chunks")
    if not isinstance(listed, list):
        raise FormatError(f"'nonempty_chunks' must list the chunks there are, found {listed!r}", where=node.path)
    chunks = ChunkTable(parse_chunk_keys(listed, len(shape), where=node.path))
    at = chunks.coords - np.asarray(origin, np.int64)
    if len(at) and ((at < 0) | (at >= np.asarray(shape))).any():
        bad = chunks.coords[((at < 0) | (at >= np.asarray(shape))).any(axis=1)][0].tolist()
        raise FormatError(f"chunk {bad} lies outside the array's grid of {shape} from {origin}", where=node.path)
    spec = CellSpec(
        path=node.path,
        dtype=parse_dtype(attributes.get("dtype", default_dtype), node.path),
        row_shape=_row_shape(attributes) if row_shape is None else row_shape,
        layout=parse_layout(node, origin),
        dictionary=_dictionary(attributes, node.path),
    )
    counts = _stamped_counts(attributes, chunks.order, node.path)
    return CellArray(spec=spec, chunks=chunks, counts=counts, digest=node.digest, attributes=attributes)


def parse_layout(node: Found, origin: tuple[int, ...]) -> GridLayout:
    """Where cells are and how they are encoded; a pipeline that is not ours is left to zarr."""
    doc = node.doc
    grid = (doc.get("chunk_grid") or {}).get("configuration") or {}
    chunk_shape = _ints(grid.get("chunk_shape"), "chunk_grid", node.path)
    encoding = doc.get("chunk_key_encoding") or {}
    separator = (encoding.get("configuration") or {}).get("separator", "/")
    codecs = doc.get("codecs") or []
    plain = (
        encoding.get("name") == "default"
        and doc.get("data_type") in VLEN_TYPES
        and not doc.get("storage_transformers")
        and separator in ("/", ".")
    )
    pipeline: Pipeline | None = None
    shards: Shards | None = None
    if plain and len(codecs) == 1 and codecs[0].get("name") == "sharding_indexed":
        shards = _parse_shards(codecs[0].get("configuration") or {}, chunk_shape)
        pipeline = parse_pipeline(codecs[0]["configuration"].get("codecs") or [], "vlen-bytes") if shards else None
    elif plain and all(edge == 1 for edge in chunk_shape):
        pipeline = parse_pipeline(codecs, "vlen-bytes")
    return GridLayout(path=node.path, origin=origin, separator=separator, pipeline=pipeline, shards=shards)


def parse_dense(node: Found | None, name: str) -> DenseArray:
    """A dense array of per-object or per-group rows (spec 0.9, 8).

    Raises
    ------
    FormatError
        If there is no such array.
    """
    if node is None or node.doc.get("node_type") != "array":
        raise FormatError(f"expected an array {name!r}", where=node.path if node else name)
    shape = _ints(node.doc.get("shape"), "shape", node.path)
    grid = ((node.doc.get("chunk_grid") or {}).get("configuration") or {}).get("chunk_shape")
    rows = _ints(grid, "chunk_grid", node.path)[0] if shape else 1
    data_type = node.doc.get("data_type")
    dtype = np.dtype(object) if data_type in VLEN_TYPES else _dense_dtype(node, data_type)
    return DenseArray(
        path=node.path, name=name, shape=shape, dtype=dtype, chunk_rows=max(rows, 1), fill=node.doc.get("fill_value")
    )


def parse_dtype(value: Any, where: str) -> np.dtype[Any]:
    """Little-endian dtype of a dtype string.

    Raises
    ------
    FormatError
        If NumPy has no such dtype, or it holds objects.
    """
    try:
        dtype = np.dtype(value)
    except (TypeError, ValueError) as error:
        raise FormatError(f"dtype {value!r} is none that NumPy knows", where=where) from error
    if dtype.hasobject or dtype.itemsize == 0:
        raise FormatError(f"dtype {value!r} has no fixed size", where=where)
    little: np.dtype[Any] = dtype.newbyteorder("<")
    return little


def _dense_dtype(node: Found, data_type: Any) -> np.dtype[Any]:
    declared = node.attributes.get("dtype")
    if isinstance(data_type, dict) or (isinstance(data_type, str) and data_type in ("string", "fixed_length_utf32")):
        return parse_dtype(declared, node.path) if isinstance(declared, str) else np.dtype(object)
    return parse_dtype(data_type, node.path)


def _parse_shards(configuration: Json, shard_shape: tuple[int, ...]) -> Shards | None:
    inner = configuration.get("chunk_shape")
    index = [codec.get("name") for codec in configuration.get("index_codecs") or []]
    known = index in (["bytes"], ["bytes", "crc32c"])
    if not known or not isinstance(inner, list) or any(edge != 1 for edge in inner) or len(inner) != len(shard_shape):
        return None
    location = configuration.get("index_location", "end")
    if location not in ("start", "end"):
        return None
    return Shards(shape=shard_shape, index_at_end=location == "end", index_crc="crc32c" in index)


def _row_shape(attributes: Json) -> tuple[int, ...] | None:
    """Row shape, None where a scalar stamp may be a lie (spec 0.9, 14 no. 3)."""
    channels = attributes.get("channel_names")
    if attributes.get("row_shape"):
        return tuple(int(edge) for edge in attributes["row_shape"])
    if isinstance(channels, list) and channels:
        return (len(channels),)
    return () if attributes.get("encoding") == "dictionary" else None


def _dictionary(attributes: Json, where: str) -> Dictionary | None:
    if attributes.get("encoding") != "dictionary":
        return None
    categories = attributes.get("categories")
    if not isinstance(categories, list):
        raise FormatError(f"a dictionary-encoded attribute needs 'categories', found {categories!r}", where=where)
    values = np.asarray(categories) if categories else np.empty(0, "<U1")
    if values.dtype.hasobject or values.ndim != 1:
        raise FormatError(f"categories must be all text or all numbers, found {categories[:5]!r}", where=where)
    fill = attributes.get("_FillValue")
    return Dictionary(categories=values, fill=None if fill is None else int(fill))


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


def _ints(value: Any, name: str, where: str) -> tuple[int, ...]:
    if not isinstance(value, list):
        raise FormatError(f"{name} must be whole numbers, found {value!r}", where=where)
    try:
        return tuple(map(operator.index, value))
    except TypeError as error:
        raise FormatError(f"{name} must be whole numbers, found {value!r}", where=where) from error
