"""Object index, object attributes and groups, read and written (spec 0.9, 8)."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.base import Children, Found, MetaSteps, Node
from zarr_vectors_lazy.format.codecs import LITTLE, byte_codecs, encode_bytes, encode_vlen
from zarr_vectors_lazy.format.keys import MAX_DIGITS
from zarr_vectors_lazy.format.manifests import encode_manifests
from zarr_vectors_lazy.format.metadata import MAX_INDEX, parse_dense
from zarr_vectors_lazy.format.v09.arrays import OUR_KEY
from zarr_vectors_lazy.format.v09.documents import DOC, VLEN, WRITING, array_document, group_document
from zarr_vectors_lazy.model.arrays import DenseArray
from zarr_vectors_lazy.model.levels import LevelMeta
from zarr_vectors_lazy.model.objects import GroupIndex, Manifests, ObjectIndex
from zarr_vectors_lazy.model.writing import Encoding
from zarr_vectors_lazy.requests import Put
from zarr_vectors_lazy.types import IntArray, Json

# Object index, object attributes and groups (spec 0.9, 8).

LAYOUTS = ("vlen_manifests_v1", "vlen_manifests_v2")
DENSE = "dense_manifests_v1"


def find_index(level: LevelMeta, rank: int) -> MetaSteps[ObjectIndex | None]:
    """Read where a level's manifests are (spec 0.9, 8; spec next, 5 and 6).

    Raises
    ------
    FormatError
        If the layout is unknown or an array of it is missing.
    """
    path = f"{level.index}/object_index"
    group, manifests, ids = yield [Node(path), Node(f"{path}/manifests"), Node(f"{path}/object_ids")]
    if group is None:
        if manifests is not None or ids is not None:
            raise FormatError("an object index has arrays and no zarr.json of its own", where=path)
        return None
    layout = group.attributes.get("layout", LAYOUTS[0])
    if layout not in (*LAYOUTS, DENSE):
        raise FormatError(f"object index layout must be one of {(*LAYOUTS, DENSE)}, found {layout!r}", where=path)
    declared = group.attributes.get("sid_ndim", rank)
    if declared != rank:
        raise FormatError(f"manifests have {declared!r} chunk components, the vertices {rank}", where=path)
    nodes: list[Found | None] = [None, None]
    if layout == DENSE or manifests is None:  # a dense index may say that it is another: its arrays are the truth
        nodes = yield [Node(f"{path}/manifest_spans"), Node(f"{path}/manifest_blocks")]
    count, present = group.attributes.get("num_objects"), group.attributes.get("num_present")
    if nodes[0] is None and manifests is None and layout != DENSE:
        if count:
            raise FormatError(f"the index states {count} objects and has no manifests", where=path)
        return ObjectIndex(count=0, rank=rank, manifests=None, ids=None, digest=group.digest)
    dense = nodes[0] is not None or layout == DENSE
    rows = _spans(nodes, rank) if dense else {"manifests": _vlen(manifests)}
    first = next(iter(rows.values()))
    total = _committed(count, first.shape[0], path)
    if layout == LAYOUTS[1] and ids is None and not dense:
        raise FormatError(f"layout {layout!r} needs the array 'object_ids'", where=path)
    id_rows = parse_dense(ids, "object_ids") if ids is not None and (dense or layout == LAYOUTS[1]) else None
    if id_rows is not None and (id_rows.shape[0] < total or len(id_rows.shape) != 1 or id_rows.dtype.kind not in "iu"):
        raise FormatError(f"object_ids {id_rows.shape} of {id_rows.dtype} for {total} objects", where=path)
    digests = [node.digest for node in (manifests, *nodes, ids) if node is not None]
    return ObjectIndex(
        count=total,
        rank=rank,
        manifests=None if dense else replace(first, shape=(total,)),
        spans=replace(first, shape=(total, 2)) if dense else None,
        blocks=rows.get("blocks"),
        ids=None if id_rows is None else replace(id_rows, shape=(total,)),
        present=present if isinstance(present, int) else None,
        digest=group.digest + "".join(digests),
        exclusive=rank > len(level.chunk_shape),
        lost=level.objects_lost,
        remarks=_remarks(first.shape[0], total, layout if dense else DENSE),
    )


def _remarks(rows: int, total: int, layout: str) -> tuple[str, ...]:
    """What is odd about an index and harms no reader of ours; ``layout`` is what a dense one states."""
    found = []
    if rows > total:
        text = f"{rows - total} rows past num_objects {total}, of a killed append or reserved: they are no objects"
        found.append(text)
    if layout != DENSE:
        found.append(f"the index is dense and its layout states {layout!r}: readers that trust it find no objects")
    return tuple(found)


def _vlen(node: Found | None) -> DenseArray:
    rows = parse_dense(node, "manifests")
    if not rows.dtype.hasobject or len(rows.shape) != 1:
        raise FormatError(f"manifests must be bytes, found {rows.shape} of {rows.dtype}", where=rows.path)
    return rows


def _spans(nodes: Sequence[Found | None], rank: int) -> dict[str, DenseArray]:
    spans, blocks = parse_dense(nodes[0], "manifest_spans"), parse_dense(nodes[1], "manifest_blocks")
    for array, width in ((spans, 2), (blocks, rank + 1)):
        if array.dtype.kind not in "iu" or array.shape[1:] != (width,):
            text = f"{array.name} must be whole numbers, {width} a row, found {array.shape} of {array.dtype}"
            raise FormatError(text, where=array.path)
    return {"spans": spans, "blocks": blocks}


def _committed(count: Any, rows: int, where: str) -> int:
    """Rows that are objects: those past ``num_objects`` are what a killed append left, or reserved."""
    if count is None:
        return rows
    if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= rows:
        raise FormatError(f"num_objects is {count!r}, the index has {rows} rows", where=where)
    return count


def find_dense(level: int, family: str) -> MetaSteps[dict[str, DenseArray]]:
    """Dense arrays below ``<level>/<family>``, by name, sorted."""
    (names,) = yield [Children(f"{level}/{family}")]
    nodes = yield [Node(f"{level}/{family}/{name}") for name in names]
    found = zip(names, nodes, strict=True)
    return {name: parse_dense(node, name) for name, node in found if node and node.doc.get("node_type") == "array"}


def find_groups(level: int) -> MetaSteps[GroupIndex | None]:
    """Where a level's groups are; None where there are none (spec 0.9, 8)."""
    (node,) = yield [Node(f"{level}/groups")]
    if node is None:
        return None
    members = parse_dense(node, "groups")
    names = node.attributes.get("group_names") or []
    ranges = node.attributes.get("group_ranges") or {}
    if not isinstance(names, list) or not isinstance(ranges, dict):
        raise FormatError(f"group_names must be a list, group_ranges an object; found {names!r}", where=node.path)
    return GroupIndex(
        members=members,
        count=members.shape[0],
        names=tuple(str(name) for name in names),
        ranges={_group(group, node.path): _range(bounds, node.path) for group, bounds in ranges.items()},
    )


def _group(name: str, where: str) -> int:
    if not name.isdecimal() or len(name) > MAX_DIGITS:
        raise FormatError(f"group_ranges names the group {name!r}, expected its number", where=where)
    return int(name)


def _range(bounds: Any, where: str) -> tuple[int, int]:
    if not isinstance(bounds, list) or len(bounds) != 2 or not all(isinstance(b, int) for b in bounds):
        raise FormatError(f"a group range must be [start, stop], found {bounds!r}", where=where)
    if not -MAX_INDEX <= bounds[0] <= bounds[1] <= MAX_INDEX:
        raise FormatError(f"a group range must ascend, found {bounds!r}", where=where)
    return bounds[0], bounds[1]


# Object index, groups and dense arrays as puts of whole documents and chunks (spec 0.9, 8).

MANIFEST_ROWS = 16384
DENSE_ROWS = 65536
Bytes: TypeAlias = np.ndarray[tuple[int], np.dtype[np.uint8]]
KINDS = {"object_attributes": "object_attribute", "group_attributes": "groupings_attribute"}


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
        "zv_array": KINDS[family],
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
