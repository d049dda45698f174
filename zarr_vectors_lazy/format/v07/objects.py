"""Object index, object attributes and groups (spec 0.7, 4.7 and 4.8)."""

import numpy as np

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.base import Children, Found, MetaSteps, Node
from zarr_vectors_lazy.format.nodes import parse_dense, parse_integers
from zarr_vectors_lazy.format.v07.links import parse_stored
from zarr_vectors_lazy.format.v07.stored import LostColumn, RaggedBlob
from zarr_vectors_lazy.model.arrays import DenseArray
from zarr_vectors_lazy.model.objects import GroupIndex, ObjectIndex

LAYOUT = "vlen_manifests_v1"
OBJECT = np.dtype(object)


def find_index(level: int, rank: int) -> MetaSteps[ObjectIndex | None]:
    """Read where a level's manifests are.

    Raises
    ------
    FormatError
        If the layout is unknown or an array of it is missing.
    """
    path = f"{level}/object_index"
    group, manifests = yield [Node(path), Node(f"{path}/manifests")]
    if group is None:
        return None
    if group.attributes.get("num_objects") is None:  # a placeholder, as the writer leaves it where it got no object
        (data,) = yield [Node(f"{path}/data")]
        if manifests is None and data is None:
            return None
    layout, declared = group.attributes.get("layout"), group.attributes.get("sid_ndim", rank)
    if layout not in (None, LAYOUT):
        raise FormatError(f"object index layout must be {LAYOUT!r} or none, found {layout!r}", where=path)
    if declared != rank:
        raise FormatError(f"manifests have {declared!r} chunk components, the vertices {rank}", where=path)
    count = _count(group, "num_objects")
    if not count:
        return ObjectIndex(count=0, rank=rank, manifests=None, ids=None, digest=group.digest)
    if layout is None:
        rows = _ragged(path, "manifests", count)
        return ObjectIndex(count=count, rank=rank, manifests=rows, ids=None, digest=group.digest, blank_is_lost=True)
    if manifests is None:
        raise FormatError(f"the index states {count} objects and has no manifests", where=path)
    rows = parse_dense(manifests, "manifests")
    if not rows.dtype.hasobject or rows.shape != (count,):
        raise FormatError(f"manifests {rows.shape} of {rows.dtype} for {count} objects", where=rows.path)
    digest = group.digest + manifests.digest
    return ObjectIndex(count=count, rank=rank, manifests=rows, ids=None, digest=digest, blank_is_lost=True)


def find_object_attributes(level: int) -> MetaSteps[dict[str, DenseArray]]:
    """Per-object arrays by name, sorted; rows of dropped objects are at the fill value."""
    (index,) = yield [Node(f"{level}/object_index")]
    arrays = yield from _find_dense(level, "object_attributes")
    count = None if index is None or "num_objects" not in index.attributes else _count(index, "num_objects")
    for array in arrays.values():
        if count is not None and array.shape[0] != count:
            raise FormatError(f"{array.shape[0]} rows for {count} objects", where=array.path)
    return arrays


def find_group_attributes(level: int) -> MetaSteps[dict[str, DenseArray]]:
    """Per-group arrays by name, sorted."""
    return (yield from _find_dense(level, "group_attributes"))


def find_groups(level: int) -> MetaSteps[GroupIndex | None]:
    """Where a level's groups are; None where there are none."""
    path = f"{level}/groups"
    (node,) = yield [Node(path)]
    if node is None or node.attributes.get("num_groups") is None:
        return None
    count = _count(node, "num_groups")
    return GroupIndex(members=_ragged(path, "groups", count), count=count, names=(), ranges={})


def _find_dense(level: int, family: str) -> MetaSteps[dict[str, DenseArray]]:
    (names,) = yield [Children(f"{level}/{family}")]
    nodes = yield [Node(f"{level}/{family}/{name}") for name in names]
    for name, node in zip(names, nodes, strict=True):
        if node is None:
            raise FormatError("a column without metadata", where=f"{level}/{family}/{name}")
    return {name: _dense(node, name) for name, node in zip(names, nodes, strict=True)}


def _dense(node: Found, name: str) -> DenseArray:
    if node.attributes.get("dtype") == "object":
        rows = parse_integers(node.attributes.get("shape"), "shape", node.path)
        lost = LostColumn(path=node.path)
        dtype = np.dtype(np.float64)
        return DenseArray(path=node.path, name=name, shape=rows, dtype=dtype, chunk_rows=max(rows[0], 1), stored=lost)
    mask = f"{node.path}/present_mask" if node.attributes.get("has_present_mask") else None
    return parse_stored(node, f"{node.path}/data", name, mask)


def _ragged(path: str, name: str, count: int) -> DenseArray:
    stored = RaggedBlob(path=path, count=count)
    return DenseArray(path=path, name=name, shape=(count,), dtype=OBJECT, chunk_rows=max(count, 1), stored=stored)


def _count(node: Found, name: str) -> int:
    (count,) = parse_integers([node.attributes.get(name)], name, node.path)
    if count < 0:
        raise FormatError(f"{name} must not be negative, found {count}", where=node.path)
    return count
