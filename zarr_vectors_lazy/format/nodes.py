"""What any array's ``zarr.json`` says, read with the place in every error."""

import json
import math
import operator
import re
from typing import Any

import numpy as np

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.base import Children, Found, MetaSteps, Node
from zarr_vectors_lazy.format.codecs import check_foreign
from zarr_vectors_lazy.format.limits import MAX_DIMENSIONS, MAX_ITEM_NBYTES, MAX_PIECES, MAX_ROWS, check_array
from zarr_vectors_lazy.format.vectors import LOGICAL_DTYPE, is_time
from zarr_vectors_lazy.model.arrays import CellArray, DenseArray, Dictionary, integers_with_missing
from zarr_vectors_lazy.model.chunks import ChunkTable
from zarr_vectors_lazy.types import Buffer, ChunkCoords, Json

VLEN_TYPES = ("variable_length_bytes", "bytes")
ATTRIBUTES = {"attribute", "fragment_attribute", "link_attribute"}
MAX_INDEX = 2**62  # differences of two such are still int64
_DTYPE = re.compile(r"[<>=|]?[A-Za-z][A-Za-z0-9]*(\[[A-Za-z0-9]+\])?")  # none of several fields or of subarrays


def parse_json(raw: Buffer, where: str) -> Json:
    """Object of a ``zarr.json``; of keys that are there twice the last counts.

    Raises
    ------
    FormatError
        If it is no JSON, nested too deeply, or no object.
    """
    try:
        doc = json.loads(bytes(raw))
    except ValueError as error:
        raise FormatError(f"zarr.json is no JSON: {error}", where=where) from error
    except RecursionError as error:
        raise FormatError("zarr.json is nested too deeply", where=where) from error
    if not isinstance(doc, dict):
        raise FormatError(f"zarr.json must hold an object, found {type(doc).__name__}", where=where)
    return doc


def check_rank(array: CellArray, *ranks: int) -> CellArray:
    """Return the array if its chunks have that many components, or one of several numbers.

    Raises
    ------
    FormatError
        If not.
    """
    found = array.chunks.coords.shape[1]
    if found not in ranks:
        expected = " or ".join(map(str, ranks))
        raise FormatError(f"chunks have {found} components, expected {expected}", where=array.spec.path)
    return array


def chunk_table(coords: ChunkCoords, where: str) -> ChunkTable:
    """Table of (n, K) chunks; raises FormatError, with the place, if one is there twice or they spread absurdly."""
    try:
        return ChunkTable(coords)
    except FormatError as error:
        raise FormatError(error.message, where=where) from error


def find_headers() -> MetaSteps[dict[str, Json]]:
    """Opaque headers by format name (spec 0.9, 9; spec 0.7, 6)."""
    (names,) = yield [Children("headers")]
    nodes = yield [Node(f"headers/{name}") for name in names]
    return {name: node.attributes for name, node in zip(names, nodes, strict=True) if node is not None}


def parse_dense(node: Found | None, name: str) -> DenseArray:
    """A dense array of per-object or per-group rows (spec 0.9, 8).

    Raises
    ------
    FormatError
        If there is no such array, or its metadata are not those of one.
    """
    if node is None or node.doc.get("node_type") != "array":
        raise FormatError(f"expected an array {name!r}", where=node.path if node else name)
    shape = parse_integers(node.doc.get("shape"), "shape", node.path)
    if not shape or min(shape) < 0 or len(shape) > MAX_DIMENSIONS:
        raise FormatError(f"expected rows, found an array {name!r} of shape {shape}", where=node.path)
    pieces = parse_chunk_shape(node, len(shape))
    rows = pieces[0]
    if shape[0] > MAX_ROWS or math.prod(-(-n // piece) for n, piece in zip(shape, pieces, strict=True)) > MAX_PIECES:
        raise FormatError(f"an array {name!r} of absurd shape {shape} in chunks of {pieces}", where=node.path)
    data_type = node.doc.get("data_type")
    dtype = np.dtype(object) if data_type in VLEN_TYPES else _dense_dtype(node, data_type)
    check_array(math.prod(pieces) * dtype.itemsize, f"a stored chunk of {name!r}", node.path)
    codecs = parse_codecs(node.doc.get("codecs"), node.path)
    check_foreign(codecs, node.path)
    return DenseArray(
        path=node.path,
        name=name,
        shape=shape,
        dtype=dtype,
        chunk_rows=rows,
        fill=node.doc.get("fill_value"),
        codecs=tuple(codec["name"] for codec in codecs[1:]),
        digest=node.digest,
        attributes=node.attributes,
    )


def parse_dtype(value: Any, where: str) -> np.dtype[Any]:
    """Little-endian dtype of a dtype string.

    Raises
    ------
    FormatError
        If NumPy has no such dtype, or it is none of numbers, texts or truth values of a sane size.
    """
    try:
        dtype = np.dtype(value if isinstance(value, str) and _DTYPE.fullmatch(value) else "")
    except (TypeError, ValueError, SyntaxError) as error:
        raise FormatError(f"dtype {value!r} is none that NumPy knows", where=where) from error
    if dtype.hasobject or dtype.itemsize == 0 or dtype.kind == "V" or dtype.itemsize > MAX_ITEM_NBYTES:
        raise FormatError(f"dtype {value!r} has no fixed size, or an absurd one", where=where)
    little: np.dtype[Any] = dtype.newbyteorder("<")
    return little


def parse_stored_dtype(attributes: Json, dtype: np.dtype[Any], where: str) -> np.dtype[Any]:
    """Dtype of values whose bytes are those of ``dtype``: times, which we store as integers and note beside them."""
    named = attributes.get(LOGICAL_DTYPE)
    if named is None:
        return dtype
    times = parse_dtype(named, where)
    if not is_time(times) or dtype != np.dtype("<i8"):
        raise FormatError(f"{LOGICAL_DTYPE} must be one of times, stored as int64; found {named!r}", where=where)
    return times


def _dense_dtype(node: Found, data_type: Any) -> np.dtype[Any]:
    declared = node.attributes.get("dtype")
    if isinstance(data_type, dict) or (isinstance(data_type, str) and data_type in ("string", "fixed_length_utf32")):
        return parse_dtype(declared, node.path) if isinstance(declared, str) else np.dtype(object)
    return parse_dtype(data_type, node.path)


def parse_named(value: Any, what: str, where: str) -> Json:
    """Name and configuration of a codec, a chunk grid or a key encoding; a bare name has no configuration."""
    if isinstance(value, str):
        value = {"name": value}
    if isinstance(value, dict) and isinstance(value.get("name"), str):
        configuration = value.get("configuration") or {}
        if isinstance(configuration, dict):
            return {"name": value["name"], "configuration": configuration}
    raise FormatError(f"{what} must have a name and a configuration, found {value!r}", where=where)


def parse_codecs(value: Any, where: str) -> list[Json]:
    """Codecs in the order in which a writer applies them."""
    if not isinstance(value, list):
        raise FormatError(f"codecs must be a list, found {value!r}", where=where)
    return [parse_named(codec, "codecs", where) for codec in value]


def parse_chunk_shape(node: Found, rank: int) -> tuple[int, ...]:
    """Shape of a stored chunk, ``rank`` positive numbers."""
    grid = parse_named(node.doc.get("chunk_grid"), "chunk_grid", node.path)
    shape = parse_integers(grid["configuration"].get("chunk_shape"), "chunk_grid", node.path)
    if len(shape) != rank or any(edge < 1 for edge in shape):
        raise FormatError(f"chunk_grid {list(shape)} for an array of rank {rank}", where=node.path)
    return shape


def parse_dictionary(attributes: Json, dtype: np.dtype[Any], where: str) -> Dictionary | None:
    """What stored integers of ``dtype`` stand for (spec 0.9, 6; spec 0.7, 4.6); None where they are just the values.

    ``_FillValue`` beside plain integers, as of Zarr's and CF's arrays, is the one that says that a value is missing.

    Raises
    ------
    FormatError
        If they are stored otherwise.
    """
    encoding = attributes.get("encoding")
    if encoding not in (None, "raw", "dictionary") and attributes.get("zv_array") in ATTRIBUTES:
        raise FormatError(f"encoding {encoding!r} cannot be read; there is 'raw' and 'dictionary'", where=where)
    fill = attributes.get("_FillValue")
    if encoding != "dictionary":
        if type(fill) is not int or dtype.kind not in "iu" or not np.iinfo(dtype).min <= fill <= np.iinfo(dtype).max:
            return None
        return integers_with_missing(dtype, fill)
    values = parse_values(attributes.get("categories"), "categories", where)
    return Dictionary(categories=values, fill=None if fill is None else parse_integers([fill], "_FillValue", where)[0])


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
    if value and kinds[0][0] is type(value[0]):
        check_array(4 * len(value) * max(map(len, value)), name, where)
    try:
        values = np.asarray(value) if value else np.empty(0, "<U1")
    except OverflowError as error:
        raise FormatError(f"{name} must fit in 64 bits, found {str(value[:5])[:100]}", where=where) from error
    # NumPy makes floats of integers among floats, and of those that no dtype holds together.
    pairs = zip(value, values.tolist(), strict=True) if values.dtype.kind == "f" else ()
    rounded = any(type(given) is int and given != found for given, found in pairs)
    if values.dtype.hasobject or rounded:
        raise FormatError(f"{name} must fit in 64 bits, found {value[:5]!r}", where=where)
    return values


def parse_integers(value: Any, name: str, where: str) -> tuple[int, ...]:
    """Whole numbers of a JSON list, none larger than 2**62."""
    if not isinstance(value, list):
        raise FormatError(f"{name} must be whole numbers, found {value!r}", where=where)
    try:
        numbers = tuple(map(operator.index, value))
    except TypeError as error:
        raise FormatError(f"{name} must be whole numbers, found {value!r}", where=where) from error
    if any(abs(number) > MAX_INDEX for number in numbers):
        raise FormatError(f"{name} must be numbers up to 2**62, found {value!r}", where=where)
    return numbers
