"""Object index, object attributes and groups (spec 0.9, 8)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.base import Children, Found, MetaSteps, Node
from zarr_vectors_lazy.format.keys import MAX_DIGITS
from zarr_vectors_lazy.format.nodes import MAX_INDEX, parse_dense
from zarr_vectors_lazy.model.arrays import DenseArray
from zarr_vectors_lazy.model.levels import LevelMeta
from zarr_vectors_lazy.model.objects import GroupIndex, ObjectIndex

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
