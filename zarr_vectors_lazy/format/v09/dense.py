"""Object index, groups and dense arrays as puts of whole documents and chunks (spec 0.9, 8)."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from zarr_vectors_lazy.format.encoding import LITTLE, byte_codecs, encode_bytes, encode_vlen
from zarr_vectors_lazy.format.manifests import encode_manifests
from zarr_vectors_lazy.format.v09.arrays import OUR_KEY
from zarr_vectors_lazy.format.v09.documents import DOC, VLEN, WRITING, array_document, group_document
from zarr_vectors_lazy.model.objects import Manifests
from zarr_vectors_lazy.model.writing import Encoding
from zarr_vectors_lazy.requests import Put
from zarr_vectors_lazy.types import IntArray, Json

MANIFEST_ROWS = 16384
DENSE_ROWS = 65536
Bytes: TypeAlias = np.ndarray[tuple[int], np.dtype[np.uint8]]
DENSE = {"object_attributes": "object_attribute", "group_attributes": "groupings_attribute"}


def object_index(level: int, ids: IntArray | None, manifests: Manifests, rank: int, encoding: Encoding) -> list[Put]:
    """The object index of a level.

    Parameters
    ----------
    ids
        (O,) ids, ascending, of the manifests; None where ids are row numbers.
    manifests
        Of all objects; those without entries are absent.
    rank
        Components of a chunk coordinate, K.
    """
    rows = len(manifests)
    present = int((np.diff(manifests.offsets) > 0).sum())
    parts = [np.arange(i, min(i + MANIFEST_ROWS, rows), dtype=np.int64) for i in range(0, rows, MANIFEST_ROWS)]
    cells = [manifest_shard(level, i, manifests.take(part), rows, encoding) for i, part in enumerate(parts)]
    content = [put_digest(put) for put in cells]
    return [*object_documents(level, ids, (rows, present), content, rank=rank, encoding=encoding), *cells]


def object_documents(
    level: int,
    ids: IntArray | None,
    count: tuple[int, int],
    content: Sequence[str],
    *,
    rank: int,
    encoding: Encoding,
) -> list[Put]:
    """The object index of a level but its manifests, which `manifest_shard` makes.

    Parameters
    ----------
    count
        Objects, and how many of them are present.
    content
        `put_digest` of each shard, in order.
    """
    path = f"{level}/object_index"
    rows, present = count
    attributes: Json = {
        "zv_array": "object_index",
        "num_objects": rows,
        "num_present": present,
        "sid_ndim": rank,
        "layout": "vlen_manifests_v1" if ids is None else "vlen_manifests_v2",
    }
    if ids is not None:
        attributes["object_ids_sorted"] = bool((np.diff(ids) > 0).all())
    found = _vlen_array(f"{path}/manifests", rows, [], encoding, {})
    if ids is not None:
        found += dense_array(f"{path}/object_ids", ids, encoding, {}, fill=0, chunk_rows=MANIFEST_ROWS)
    # Of what is in no document, so that a cache can tell two indexes apart.
    digest = hashlib.blake2b("".join([*content, *map(put_digest, found)]).encode(), digest_size=8)
    attributes[OUR_KEY] = {"content": digest.hexdigest()}
    return [Put(f"{path}/{DOC}", group_document(attributes)), *found]


def manifest_shard(level: int, shard: int, manifests: Manifests, rows: int, encoding: Encoding) -> Put:
    """Manifests of the objects of one stored chunk, `MANIFEST_ROWS` of all the ``rows``."""
    data, offsets = encode_manifests(manifests)
    chunk = max(1, min(MANIFEST_ROWS, rows))
    path = f"{level}/object_index/manifests"
    (unfinished,) = _vlen_array(path, rows, [], encoding, WRITING)
    return replace(_vlen_cell(path, shard, (data, offsets), chunk, encoding), array=bytes(unfinished.data))


def put_digest(put: Put) -> str:
    """Text that changes with a put's bytes."""
    return hashlib.blake2b(put.data, digest_size=8).hexdigest()


def groups(level: int, members: Sequence[IntArray], names: Sequence[str] | None, encoding: Encoding) -> list[Put]:
    """Groups of object ids, by group number."""
    sizes = np.fromiter(map(len, members), np.int64, len(members))
    data = np.concatenate([np.empty(0, np.int64), *members]).astype("<i8").view(np.uint8)
    offsets = np.concatenate([[0], 8 * np.cumsum(sizes)]).astype(np.int64)
    attributes: Json = {"zv_array": "groups", "num_groups": len(members)}
    if names is not None:
        attributes["group_names"] = list(names)
    parts = range(0, len(members), MANIFEST_ROWS)
    cells = [(data, offsets[start : start + MANIFEST_ROWS + 1]) for start in parts]
    return _vlen_array(f"{level}/groups", len(members), cells, encoding, attributes)


def dense_attribute(
    level: int,
    family: str,
    name: str,
    values: np.ndarray[Any, Any],
    encoding: Encoding,
    *,
    more: Json | None = None,
) -> list[Put]:
    """One attribute of objects or groups; ``family`` is ``"object_attributes"`` or ``"group_attributes"``."""
    attributes: Json = {
        **(more or {}),
        "zv_array": DENSE[family],
        "name": name,
        "dtype": dtype_name(values.dtype),
        "shape": list(values.shape),
    }
    if family == "object_attributes":
        attributes["fill_sentinel_meaning"] = "absent"
    return dense_array(f"{level}/{family}/{name}", values, encoding, attributes, fill=fill_value(values.dtype))


def dense_array(
    path: str,
    values: np.ndarray[Any, Any],
    encoding: Encoding,
    attributes: Json,
    *,
    fill: Any,
    chunk_rows: int = DENSE_ROWS,
) -> list[Put]:
    """An ordinary array, cut along its rows."""
    values = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    chunk_shape = (max(1, min(chunk_rows, len(values))), *values.shape[1:])
    codecs = [LITTLE, *byte_codecs(encoding)]
    doc = array_document(
        values.shape, data_type(values.dtype), chunk_shape, codecs, fill=json_fill(fill), attributes=attributes
    )
    found = [Put(f"{path}/{DOC}", doc)]
    tail = "/0" * (values.ndim - 1)
    for chunk, start in enumerate(range(0, len(values), chunk_shape[0])):
        part = values[start : start + chunk_shape[0]]
        if len(part) < chunk_shape[0]:  # stored chunks are whole
            whole = np.full(chunk_shape, fill, values.dtype)
            whole[: len(part)] = part
            part = whole
        found.append(Put(f"{path}/c/{chunk}{tail}", encode_bytes(part.tobytes(), encoding)))
    return found


def _vlen_array(
    path: str, rows: int, cells: Sequence[tuple[Bytes, IntArray]], encoding: Encoding, attributes: Json
) -> list[Put]:
    """One-dimensional array of bytes; each cell is its elements and their offsets."""
    chunk = max(1, min(MANIFEST_ROWS, rows))
    codecs = [VLEN, *byte_codecs(encoding)]
    doc = array_document([rows], "variable_length_bytes", [chunk], codecs, fill="", attributes=attributes)
    found = [Put(f"{path}/{DOC}", doc)]
    return [*found, *(_vlen_cell(path, i, cell, chunk, encoding) for i, cell in enumerate(cells))]


def _vlen_cell(path: str, i: int, cell: tuple[Bytes, IntArray], chunk: int, encoding: Encoding) -> Put:
    data, offsets = cell
    whole = np.pad(offsets, (0, chunk + 1 - len(offsets)), mode="edge")  # stored chunks are whole
    return Put(f"{path}/c/{i}", encode_bytes(encode_vlen(data, whole), encoding))


def dtype_name(dtype: np.dtype[Any]) -> str:
    """Dtype as attributes name it."""
    if dtype.kind in "mM":
        return "int64"
    return str(dtype.newbyteorder("=")) if dtype.kind != "U" else dtype.newbyteorder("<").str


def data_type(dtype: np.dtype[Any]) -> Any:
    """Dtype as ``zarr.json`` names it."""
    if dtype.kind == "U":
        return {"name": "fixed_length_utf32", "configuration": {"length_bytes": dtype.itemsize}}
    return dtype.name


def fill_value(dtype: np.dtype[Any]) -> Any:
    """Value of absent rows (spec 0.9, 8)."""
    match dtype.kind:
        case "f" | "c":
            return dtype.type(np.nan)
        case "i":
            return np.iinfo(dtype).min
        case "u":
            return np.iinfo(dtype).max
        case "b":
            return False
    return ""


def json_fill(value: Any) -> Any:
    """Fill value as ``zarr.json`` writes it."""
    if isinstance(value, np.complexfloating):
        return [json_fill(value.real), json_fill(value.imag)]
    if isinstance(value, float | np.floating):
        return "NaN" if np.isnan(value) else float(value)
    return value
