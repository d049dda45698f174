"""Object index, object attributes and groups (spec 0.9, 8)."""

from typing import Any

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.base import Children, MetaSteps, Node
from zarr_vectors_lazy.format.keys import MAX_DIGITS
from zarr_vectors_lazy.format.nodes import MAX_INDEX, parse_dense
from zarr_vectors_lazy.model.arrays import DenseArray
from zarr_vectors_lazy.model.objects import GroupIndex, ObjectIndex

LAYOUTS = ("vlen_manifests_v1", "vlen_manifests_v2")


def find_index(level: int, rank: int) -> MetaSteps[ObjectIndex | None]:
    """Read where a level's manifests are (spec 0.9, 8).

    Raises
    ------
    FormatError
        If the layout is unknown or an array of it is missing.
    """
    path = f"{level}/object_index"
    group, manifests, ids = yield [Node(path), Node(f"{path}/manifests"), Node(f"{path}/object_ids")]
    if group is None:
        if manifests is not None or ids is not None:
            raise FormatError("an object index has arrays and no zarr.json of its own", where=path)
        return None
    layout = group.attributes.get("layout", LAYOUTS[0])
    if layout not in LAYOUTS:
        raise FormatError(f"object index layout must be one of {LAYOUTS}, found {layout!r}", where=path)
    declared = group.attributes.get("sid_ndim", rank)
    if declared != rank:
        raise FormatError(f"manifests have {declared!r} chunk components, the vertices {rank}", where=path)
    count, present = group.attributes.get("num_objects"), group.attributes.get("num_present")
    if manifests is None:
        if count:
            raise FormatError(f"the index states {count} objects and has no manifests", where=path)
        return ObjectIndex(count=0, rank=rank, manifests=None, ids=None, digest=group.digest)
    rows = parse_dense(manifests, "manifests")
    if not rows.dtype.hasobject:
        raise FormatError(f"manifests must be bytes, found dtype {rows.dtype}", where=rows.path)
    if layout == LAYOUTS[1] and ids is None:
        raise FormatError(f"layout {layout!r} needs the array 'object_ids'", where=path)
    id_rows = parse_dense(ids, "object_ids") if layout == LAYOUTS[1] else None
    if id_rows is not None and (id_rows.shape != rows.shape or id_rows.dtype.kind not in "iu"):
        raise FormatError(f"object_ids {id_rows.shape} of {id_rows.dtype} for manifests {rows.shape}", where=path)
    return ObjectIndex(
        count=rows.shape[0],
        rank=rank,
        manifests=rows,
        ids=id_rows,
        present=present if isinstance(present, int) else None,
        digest=group.digest + manifests.digest + (ids.digest if ids else ""),
    )


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
