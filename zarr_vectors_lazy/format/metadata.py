"""Nodes of a store's tree, and the meaning of their attributes."""

import json
import math
import operator
import re
from typing import Any

import numpy as np

from zarr_vectors_lazy.errors import FormatError, counted
from zarr_vectors_lazy.format.base import (
    LEVEL,
    MAX_AXES,
    MAX_DIMENSIONS,
    MAX_ITEM_NBYTES,
    MAX_PIECES,
    MAX_ROWS,
    Found,
    check_array,
)
from zarr_vectors_lazy.format.codecs import check_foreign, parse_pipeline
from zarr_vectors_lazy.format.vectors import LOGICAL_DTYPE, is_time
from zarr_vectors_lazy.model.arrays import CellArray, DenseArray, Dictionary, integers_with_missing
from zarr_vectors_lazy.model.levels import ChunkTable, LevelMeta, StoreMeta, tiles
from zarr_vectors_lazy.types import Array, Buffer, ChunkCoords, Floats, Json

# The contents of any array's ``zarr.json``, with the place in every error.

KEYS: Json = {"name": "default", "configuration": {"separator": "/"}}
"""How stored chunks are named in almost all stores."""
VLEN_TYPES = ("variable_length_bytes", "bytes")
ATTRIBUTES = {"attribute", "fragment_attribute", "link_attribute"}
MAX_INDEX = 2**62  # the difference of two of these is still int64
_DTYPE = re.compile(r"[<>=|]?[A-Za-z][A-Za-z0-9]*(\[[A-Za-z0-9]+\])?")  # dtypes without fields or subarrays


def parse_json(raw: Buffer, where: str) -> Json:
    """Object of a ``zarr.json``; if a key occurs twice, the last one counts.

    Raises
    ------
    FormatError
        If it is not JSON, nested too deeply, or not an object.
    """
    try:
        doc = json.loads(bytes(raw))
    except ValueError as error:
        raise FormatError(f"zarr.json is not JSON: {error}", where=where) from error
    except RecursionError as error:
        raise FormatError("zarr.json is nested too deeply", where=where) from error
    if not isinstance(doc, dict):
        raise FormatError(f"zarr.json must contain an object, found {type(doc).__name__}", where=where)
    return doc


def check_rank(array: CellArray, *ranks: int) -> CellArray:
    """Return the array if its chunks have the expected number of components, or one of several numbers.

    Raises
    ------
    FormatError
        If they do not.
    """
    found = array.chunks.coords.shape[1]
    if found not in ranks:
        expected = " or ".join(map(str, ranks))
        raise FormatError(f"chunks have {found} components, expected {expected}", where=array.spec.path)
    return array


def chunk_table(coords: ChunkCoords, where: str) -> ChunkTable:
    """Table of (n, K) chunks; raises FormatError, with the place, if one occurs twice or they spread absurdly."""
    try:
        return ChunkTable(coords)
    except FormatError as error:
        raise FormatError(error.message, where=where) from error


def parse_dense(node: Found | None, name: str) -> DenseArray:
    """A dense array with a row for each object or group (spec 0.9, 8).

    Raises
    ------
    FormatError
        If there is no such array, or its metadata do not describe one.
    """
    if node is None or node.doc.get("node_type") != "array":
        raise FormatError(f"expected an array {name!r}", where=node.path if node else name)
    shape = parse_integers(node.doc.get("shape"), "shape", node.path)
    if not shape or min(shape) < 0 or len(shape) > MAX_DIMENSIONS:
        raise FormatError(f"expected rows, found an array {name!r} of shape {shape}", where=node.path)
    pieces = parse_chunk_shape(node, len(shape))
    rows = pieces[0]
    if shape[0] > MAX_ROWS or math.prod(-(-n // piece) for n, piece in zip(shape, pieces, strict=True)) > MAX_PIECES:
        raise FormatError(f"array {name!r} has an absurd shape, {shape} in chunks of {pieces}", where=node.path)
    data_type = node.doc.get("data_type")
    dtype = np.dtype(object) if data_type in VLEN_TYPES else _dense_dtype(node, data_type)
    check_array(math.prod(pieces) * dtype.itemsize, f"a stored chunk of {name!r}", node.path)
    codecs = parse_codecs(node.doc.get("codecs"), node.path)
    check_foreign(codecs, node.path)
    plain = node.doc.get("chunk_key_encoding") == KEYS and not node.doc.get("storage_transformers")
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
        direct=plain and len(shape) == 1 and parse_pipeline(codecs, "vlen-bytes") is not None,
    )


def parse_dtype(value: Any, where: str) -> np.dtype[Any]:
    """Little-endian dtype of a dtype string.

    Raises
    ------
    FormatError
        If NumPy has no such dtype, or if it is not one of numbers, text or booleans of a sane size.
    """
    try:
        dtype = np.dtype(value if isinstance(value, str) and _DTYPE.fullmatch(value) else "")
    except (TypeError, ValueError, SyntaxError) as error:
        raise FormatError(f"dtype {value!r} is not known to NumPy", where=where) from error
    if dtype.hasobject or dtype.itemsize == 0 or dtype.kind == "V" or dtype.itemsize > MAX_ITEM_NBYTES:
        raise FormatError(f"dtype {value!r} has no fixed size, or an absurd one", where=where)
    return np.dtype(dtype.newbyteorder("<"))


def parse_stored_dtype(attributes: Json, dtype: np.dtype[Any], where: str) -> np.dtype[Any]:
    """Dtype of values stored as ``dtype``: times are stored as integers, with a note."""
    named = attributes.get(LOGICAL_DTYPE)
    if named is None:
        return dtype
    times = parse_dtype(named, where)
    if not is_time(times) or dtype != np.dtype("<i8"):
        raise FormatError(f"{LOGICAL_DTYPE} must be a dtype of times, stored as int64; found {named!r}", where=where)
    return times


def _dense_dtype(node: Found, data_type: Any) -> np.dtype[Any]:
    if data_type == "string":
        return np.dtype(object)
    declared = node.attributes.get("dtype")
    if isinstance(data_type, dict) or data_type == "fixed_length_utf32":
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
    """What stored integers of ``dtype`` stand for (spec 0.9, 6; spec 0.7, 4.6); None if they are the values.

    ``_FillValue`` with plain integers, as in Zarr and CF, is the number for missing values.

    Raises
    ------
    FormatError
        If they are encoded differently.
    """
    encoding = attributes.get("encoding")
    if encoding not in (None, "raw", "dictionary") and attributes.get("zv_array") in ATTRIBUTES:
        raise FormatError(f"encoding {encoding!r} cannot be read, only 'raw' and 'dictionary' can", where=where)
    fill = attributes.get("_FillValue")
    if encoding != "dictionary":
        if type(fill) is not int or dtype.kind not in "iu" or not np.iinfo(dtype).min <= fill <= np.iinfo(dtype).max:
            return None
        return integers_with_missing(dtype, fill)
    values = parse_values(attributes.get("categories"), "categories", where)
    return Dictionary(categories=values, fill=None if fill is None else parse_integers([fill], "_FillValue", where)[0])


def stated_row_shape(attributes: Json) -> tuple[int, ...] | None:
    """Row shape, if attributes state it: of channels, and of dictionary codes (spec 0.9, 6; spec 0.7, 4.6)."""
    channels = attributes.get("channel_names")
    if isinstance(channels, list) and channels:
        return (len(channels),)
    return () if attributes.get("encoding") == "dictionary" else None


def parse_values(value: Any, name: str, where: str) -> Array:
    """(n,) array from a JSON list of text, numbers or booleans.

    Raises
    ------
    FormatError
        If it is anything else.
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
    # NumPy turns integers among floats, and integers that no dtype holds together, into floats.
    pairs = zip(value, values.tolist(), strict=True) if values.dtype.kind == "f" else ()
    rounded = any(type(given) is int and given != found for given, found in pairs)
    if values.dtype.hasobject or rounded:
        raise FormatError(f"{name} must fit in 64 bits, found {value[:5]!r}", where=where)
    return values


def parse_integers(value: Any, name: str, where: str) -> tuple[int, ...]:
    """Integers of a JSON list, none larger than 2**62."""
    if not isinstance(value, list):
        raise FormatError(f"{name} must be whole numbers, found {value!r}", where=where)
    try:
        numbers = tuple(map(operator.index, value))
    except TypeError as error:
        raise FormatError(f"{name} must be whole numbers, found {value!r}", where=where) from error
    if any(abs(number) > MAX_INDEX for number in numbers):
        raise FormatError(f"{name} must be numbers up to 2**62, found {value!r}", where=where)
    return numbers


# Root and level metadata, nearly the same in all generations (spec 0.9, 3; spec 0.7, 2).


def parse_root(root: Found, children: tuple[str, ...] | None) -> StoreMeta:
    """Parse the root's attributes (spec 0.9, 3.1 and 3.2).

    Raises
    ------
    FormatError
        If a required field is missing or contradicts another.
    """
    block = root.attributes["zarr_vectors"]
    version = block.get("zv_version")
    if not isinstance(version, str):
        raise FormatError(f"zarr_vectors.zv_version must be text like '0.9.2', found {version!r}", where=root.path)
    multiscale = _multiscale(root)
    axes = multiscale.get("axes")
    if not isinstance(axes, list) or not all(isinstance(axis, dict) and "name" in axis for axis in axes) or not axes:
        raise FormatError(f"multiscales[0].axes must be a list of named axes, found {axes!r}", where=root.path)
    ndim = len(axes)
    if ndim > MAX_AXES:
        raise FormatError(
            f"multiscales[0] has {counted(ndim, 'axis')}; at most {MAX_AXES} are supported", where=root.path
        )
    chunk_shape = numbers(block.get("chunk_shape"), ndim, "zarr_vectors.chunk_shape", root.path, positive=True)
    declared_bin = block.get("base_bin_shape")
    bin_shape = (
        chunk_shape if declared_bin is None else numbers(declared_bin, ndim, "base_bin_shape", root.path, positive=True)
    )
    bounds = block.get("bounds")
    if not isinstance(bounds, list) or len(bounds) != 2:
        raise FormatError(f"zarr_vectors.bounds must be [lo, hi], found {bounds!r}", where=root.path)
    lo, hi = (numbers(corner, ndim, "zarr_vectors.bounds", root.path) for corner in bounds)
    geometries = block.get("geometry_types")
    if not isinstance(geometries, list) or not all(isinstance(name, str) for name in geometries):
        raise FormatError(f"zarr_vectors.geometry_types must be a list of names, found {geometries!r}", where=root.path)
    bins = _bins(multiscale, ndim, bin_shape, root.path, declared=declared_bin is not None)
    bin_shape = bins.get(0, bin_shape)
    names = {int(name) for name in (children or ()) if LEVEL.fullmatch(name)}
    offset = block.get("coordinate_offset")
    return StoreMeta(
        version=version,
        axes=tuple(str(axis["name"]) for axis in axes),
        units=tuple(axis.get("unit") for axis in axes),
        chunk_shape=chunk_shape,
        bin_shape=bin_shape,
        bounds=(lo, hi),
        geometry_types=tuple(geometries),
        links_convention=block.get("links_convention") or "implicit_sequential",
        level_names=tuple(sorted(names | set(bins))),
        bins=bins,
        crs=block.get("crs"),
        coordinate_offset=None if offset is None else numbers(offset, ndim, "coordinate_offset", root.path),
        attributes=root.attributes,
    )


def parse_level(node: Found, store: StoreMeta, level: int) -> LevelMeta:
    """Parse a level's attributes (spec 0.9, 3.4).

    Raises
    ------
    FormatError
        If the node is not a level, or contradicts the root.
    """
    block = node.attributes.get("zarr_vectors_level")
    if not isinstance(block, dict):
        raise FormatError("a level's attributes must have 'zarr_vectors_level'", where=node.path)
    if block.get("level", level) != level:
        raise FormatError(f"group {level} states that it is level {block.get('level')!r}", where=node.path)
    chunk_shape = store.chunk_shape
    if block.get("chunk_shape") is not None:
        chunk_shape = numbers(block["chunk_shape"], store.ndim, "chunk_shape", node.path, positive=True)
    bin_shape = store.bins.get(level)
    if bin_shape is None:
        bin_shape = _legacy_bin(block, store, node.path)
    count = block.get("vertex_count")
    if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= MAX_INDEX:
        count = None  # only shown, never used for reading (spec next, 15); validate reports what is stated
    return LevelMeta(
        index=level,
        chunk_shape=chunk_shape,
        bin_shape=bin_shape,
        vertex_count=count,
        chunk_attribute=_chunk_attribute(block, node.path),
        fragments_tile=bool(block.get("fragments_tile", False)),
        link_groups=bool(block.get("fragment_link_groups", False)),
        attributes=node.attributes,
    )


def numbers(value: Any, length: int, name: str, where: str, *, positive: bool = False) -> Floats:
    """(length,) float64 of a JSON list, checked."""
    good = isinstance(value, list) and len(value) == length
    if not good or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in value):
        raise FormatError(f"{name} must be {counted(length, 'number')}, found {value!r}", where=where)
    try:
        array = np.asarray(value, np.float64)
    except OverflowError as error:
        raise FormatError(f"{name} must fit in 64 bits, found {value!r}", where=where) from error
    if np.isnan(array).any():
        raise FormatError(f"{name} must be numbers, found {value!r}", where=where)
    if positive and not (np.isfinite(array) & (array > 0)).all():
        raise FormatError(f"{name} must be positive, found {value!r}", where=where)
    return array


def _multiscale(root: Found) -> Json:
    multiscales = root.attributes.get("multiscales")
    if not isinstance(multiscales, list) or not multiscales or not isinstance(multiscales[0], dict):
        raise FormatError(f"the root needs a 'multiscales' list, found {multiscales!r}", where=root.path)
    return multiscales[0]


def _bins(multiscale: Json, ndim: int, base: Floats, where: str, *, declared: bool) -> dict[int, Floats]:
    """Bin shape by level: twice the translation, or scale times the base bin (spec 0.9, 3.2)."""
    bins: dict[int, Floats] = {}
    for dataset in _objects(multiscale.get("datasets"), "datasets", where):
        path = str(dataset.get("path", ""))
        if not LEVEL.fullmatch(path):
            continue
        listed = _objects(dataset.get("coordinateTransformations"), "coordinateTransformations", where)
        transforms = {str(transform.get("type")): transform for transform in listed}
        if "translation" in transforms:
            shape = 2 * numbers(transforms["translation"].get("translation"), ndim, "translation", where)
        elif "scale" in transforms:
            shape = base * numbers(transforms["scale"].get("scale"), ndim, "scale", where)
        else:
            shape = base
        bins[int(path)] = shape if (shape > 0).all() else base
    # If they tile chunks, level 0 states the bins of rows that are not sorted by them, as we write them.
    if 0 in bins and (declared or not tiles(bins[0], base)):
        bins[0] = base
    return bins


def _objects(value: Any, name: str, where: str) -> list[Json]:
    found = [] if value is None else value
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise FormatError(f"multiscales[0].{name} must be a list of objects, found {value!r}", where=where)
    return found


def _legacy_bin(block: Json, store: StoreMeta, where: str) -> Floats:
    if block.get("bin_shape") is not None:
        return numbers(block["bin_shape"], store.ndim, "bin_shape", where, positive=True)
    if block.get("bin_ratio") is not None:
        return store.bin_shape * numbers(block["bin_ratio"], store.ndim, "bin_ratio", where, positive=True)
    return store.bin_shape


def _chunk_attribute(block: Json, where: str) -> tuple[str, Array] | None:
    name, values = block.get("chunk_attribute_name"), block.get("chunk_attribute_values")
    if name is None and values is None:
        return None
    if not isinstance(name, str) or values is None:
        raise FormatError(f"chunk_attribute_name {name!r} needs chunk_attribute_values, found {values!r}", where=where)
    return name, parse_values(values, "chunk_attribute_values", where)
