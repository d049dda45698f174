"""Chunk-grid and dense arrays from their ``zarr.json`` (spec 0.9, 4.1, 6 and 8)."""

import math
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
MAX_SHARD_CELLS = 2**28  # an index of 4 GiB
MAX_INDEX = 2**62  # differences of two such are still int64


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
    if doc.get("data_type") not in VLEN_TYPES:
        raise FormatError(f"data_type must be {VLEN_TYPES[0]!r}, found {doc.get('data_type')!r}", where=node.path)
    shape = _ints(doc.get("shape"), "shape", node.path)
    origin = _ints(attributes.get("chunk_grid_origin", [0] * len(shape)), "chunk_grid_origin", node.path)
    if len(origin) != len(shape):
        raise FormatError(f"chunk_grid_origin {origin} for an array of rank {len(shape)}", where=node.path)
    listed = attributes.get("nonempty_chunks")
    if not isinstance(listed, list):
        raise FormatError(f"'nonempty_chunks' must list the chunks there are, found {listed!r}", where=node.path)
    coords = parse_chunk_keys(listed, len(shape), where=node.path)
    try:
        chunks = ChunkTable(coords)
    except FormatError as error:
        raise FormatError(error.message, where=node.path) from error
    at = chunks.coords - np.asarray(origin, np.int64)
    if len(at) and ((at < 0) | (at >= np.asarray(shape))).any():
        bad = chunks.coords[((at < 0) | (at >= np.asarray(shape))).any(axis=1)][0].tolist()
        raise FormatError(f"chunk {bad} lies outside the array's grid of {shape} from {origin}", where=node.path)
    spec = CellSpec(
        path=node.path,
        dtype=parse_dtype(attributes.get("dtype", default_dtype), node.path),
        row_shape=_row_shape(attributes, node.path) if row_shape is None else row_shape,
        layout=parse_layout(node, origin),
        dictionary=_dictionary(attributes, node.path),
    )
    counts = _stamped_counts(attributes, chunks.order, node.path)
    return CellArray(spec=spec, chunks=chunks, counts=counts, digest=node.digest, attributes=attributes)


def check_rank(array: CellArray, rank: int) -> CellArray:
    """Return the array if its chunks have that many components.

    Raises
    ------
    FormatError
        If not.
    """
    found = array.chunks.coords.shape[1]
    if found != rank:
        raise FormatError(f"chunks have {found} components, expected {rank}", where=array.spec.path)
    return array


def parse_layout(node: Found, origin: tuple[int, ...]) -> GridLayout:
    """Where cells are and how they are encoded; a pipeline that is not ours is left to zarr.

    Raises
    ------
    FormatError
        If the metadata are not those of a Zarr v3 array, or shards are absurdly large.
    """
    doc = node.doc
    chunk_shape = _chunk_shape(node, len(origin))
    encoding = _named(doc.get("chunk_key_encoding"), "chunk_key_encoding", node.path)
    separator = encoding["configuration"].get("separator", "/")
    codecs = _codecs(doc.get("codecs"), node.path)
    plain = encoding["name"] == "default" and not doc.get("storage_transformers") and separator in ("/", ".")
    pipeline: Pipeline | None = None
    shards: Shards | None = None
    if plain and [codec["name"] for codec in codecs] == ["sharding_indexed"]:
        configuration = codecs[0]["configuration"]
        shards = _parse_shards(configuration, chunk_shape, node.path)
        pipeline = parse_pipeline(_codecs(configuration.get("codecs"), node.path), "vlen-bytes") if shards else None
    elif plain and all(edge == 1 for edge in chunk_shape):
        pipeline = parse_pipeline(codecs, "vlen-bytes")
    return GridLayout(path=node.path, origin=origin, separator=separator, pipeline=pipeline, shards=shards)


def parse_dense(node: Found | None, name: str) -> DenseArray:
    """A dense array of per-object or per-group rows (spec 0.9, 8).

    Raises
    ------
    FormatError
        If there is no such array, or its metadata are not those of one.
    """
    if node is None or node.doc.get("node_type") != "array":
        raise FormatError(f"expected an array {name!r}", where=node.path if node else name)
    shape = _ints(node.doc.get("shape"), "shape", node.path)
    if not shape:
        raise FormatError(f"expected rows, found an array {name!r} of shape {shape}", where=node.path)
    rows = _chunk_shape(node, len(shape))[0]
    data_type = node.doc.get("data_type")
    dtype = np.dtype(object) if data_type in VLEN_TYPES else _dense_dtype(node, data_type)
    return DenseArray(
        path=node.path, name=name, shape=shape, dtype=dtype, chunk_rows=rows, fill=node.doc.get("fill_value")
    )


def parse_dtype(value: Any, where: str) -> np.dtype[Any]:
    """Little-endian dtype of a dtype string.

    Raises
    ------
    FormatError
        If NumPy has no such dtype, or it holds objects.
    """
    try:
        dtype = np.dtype(value if isinstance(value, str) else "")
    except (TypeError, ValueError, SyntaxError) as error:
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


def _named(value: Any, what: str, where: str) -> Json:
    """Name and configuration of a codec, a chunk grid or a key encoding; a bare name has no configuration."""
    if isinstance(value, str):
        value = {"name": value}
    if isinstance(value, dict) and isinstance(value.get("name"), str):
        configuration = value.get("configuration") or {}
        if isinstance(configuration, dict):
            return {"name": value["name"], "configuration": configuration}
    raise FormatError(f"{what} must have a name and a configuration, found {value!r}", where=where)


def _codecs(value: Any, where: str) -> list[Json]:
    if not isinstance(value, list):
        raise FormatError(f"codecs must be a list, found {value!r}", where=where)
    return [_named(codec, "codecs", where) for codec in value]


def _chunk_shape(node: Found, rank: int) -> tuple[int, ...]:
    grid = _named(node.doc.get("chunk_grid"), "chunk_grid", node.path)
    shape = _ints(grid["configuration"].get("chunk_shape"), "chunk_grid", node.path)
    if len(shape) != rank or any(edge < 1 for edge in shape):
        raise FormatError(f"chunk_grid {list(shape)} for an array of rank {rank}", where=node.path)
    return shape


def _parse_shards(configuration: Json, shard_shape: tuple[int, ...], where: str) -> Shards | None:
    if math.prod(shard_shape) > MAX_SHARD_CELLS:
        raise FormatError(f"chunk_grid {list(shard_shape)} makes shards of absurd size", where=where)
    index = _codecs(configuration.get("index_codecs"), where)
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
        shape = _ints(attributes["row_shape"], "row_shape", where)
        if any(edge < 1 for edge in shape):
            raise FormatError(f"row_shape must be positive, found {list(shape)}", where=where)
        return shape
    if isinstance(channels, list) and channels:
        return (len(channels),)
    return () if attributes.get("encoding") == "dictionary" else None


def _dictionary(attributes: Json, where: str) -> Dictionary | None:
    if attributes.get("encoding") != "dictionary":
        return None
    fill = attributes.get("_FillValue")
    values = parse_values(attributes.get("categories"), "categories", where)
    return Dictionary(categories=values, fill=None if fill is None else _ints([fill], "_FillValue", where)[0])


def parse_values(value: Any, name: str, where: str) -> np.ndarray[Any, Any]:
    """(n,) array of a JSON list of texts, or of numbers, or of truth values.

    Raises
    ------
    FormatError
        If it is none of these.
    """
    if not isinstance(value, list):
        raise FormatError(f"{name} must be a list, found {value!r}", where=where)
    kinds = ((str,), (bool,), (int, float))
    if not any(all(type(v) in kind for v in value) for kind in kinds):
        raise FormatError(f"{name} must be all text or all numbers, found {value[:5]!r}", where=where)
    values = np.asarray(value) if value else np.empty(0, "<U1")
    if values.dtype.hasobject:
        raise FormatError(f"{name} must fit in 64 bits, found {value[:5]!r}", where=where)
    return values


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
        numbers = tuple(map(operator.index, value))
    except TypeError as error:
        raise FormatError(f"{name} must be whole numbers, found {value!r}", where=where) from error
    if any(abs(number) > MAX_INDEX for number in numbers):
        raise FormatError(f"{name} must be numbers up to 2**62, found {value!r}", where=where)
    return numbers
