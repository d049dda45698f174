"""Object index, attributes, groups and links of format 0.7 (spec 0.7, 4.3 to 4.8)."""

from typing import Any

import numpy as np

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.base import Children, Found, MetaSteps, Node
from zarr_vectors_lazy.format.keys import format_delta, parse_deltas
from zarr_vectors_lazy.format.metadata import parse_dense, parse_dtype, parse_integers
from zarr_vectors_lazy.format.v07.cells import DenseBlob, LostColumn, RaggedBlob, find_cells
from zarr_vectors_lazy.model.arrays import (
    CellArray,
    DenseArray,
    LinkCoding,
    LinkFamily,
    LinkSegment,
    LinkTable,
    LinkValues,
)
from zarr_vectors_lazy.model.objects import GroupIndex, ObjectIndex

# Link families and their attributes (spec 0.7, 4.3 to 4.6).

WITHIN, ACROSS = "links", "cross_chunk_links"
VALUES_WITHIN, VALUES_ACROSS = "link_attributes", "cross_chunk_link_attributes"
INSIDE = "same chunk"
MAX_WIDTH = 64
INTEGER = np.dtype("<i8")


def find_deltas(level: int) -> MetaSteps[tuple[int, ...]]:
    """Deltas of the families that have records, ascending."""
    within, across = yield [Children(f"{level}/{WITHIN}"), Children(f"{level}/{ACROSS}")]
    cells, tables = sorted(parse_deltas(within)), sorted(parse_deltas(across))
    listed = yield [Children(f"{level}/{WITHIN}/{format_delta(delta)}") for delta in cells]
    nodes = yield [Node(f"{level}/{ACROSS}/{format_delta(delta)}") for delta in tables]
    found = {delta for delta, names in zip(cells, listed, strict=True) if names}
    found |= {delta for delta, node in zip(tables, nodes, strict=True) if node is not None and _records(node)}
    return tuple(sorted(found))


def find_family(level: int, ranks: tuple[int, ...], delta: int) -> MetaSteps[LinkFamily | None]:
    """Read where a family's records are; None where there are none.

    Records inside chunks come first, by chunk; those that name their chunks follow, in the order in which they were
    written.
    """
    paths = [f"{level}/{kind}/{format_delta(delta)}" for kind in (WITHIN, ACROSS)]
    within, across = yield list(map(Node, paths))
    cells = yield from find_cells(paths[0], ranks, dtype="int64", row_shape=(), headed=delta != 0)
    table = None if across is None or not _records(across) else _table(across, ranks)
    if cells is not None and not len(cells.chunks):
        cells = None
    if cells is None and table is None:
        return None
    widths = {_width(node) for node, used in ((within, cells), (across, table)) if used is not None}
    if len(widths) != 1 or 0 in widths:
        raise FormatError(f"link_width is {sorted(widths)} for records of one family", where=paths[0])
    (width,) = widths
    segments = () if cells is None else (_segment(cells, width, delta),)
    return LinkFamily(
        delta=delta, width=width, directed=True, segments=segments, table=table, same_key=True, parted=True
    )


def find_attribute_names(level: int, delta: int) -> MetaSteps[tuple[str, ...]]:
    """Names of the attributes of a family, sorted."""
    folders = [f"{level}/{kind}" for kind in (VALUES_WITHIN, VALUES_ACROSS)]
    listed = yield list(map(Children, folders))
    paths = [(name, f"{folder}/{name}") for folder, names in zip(folders, listed, strict=True) for name in names]
    deltas = yield [Children(path) for _, path in paths]
    return tuple(sorted({name for (name, _), below in zip(paths, deltas, strict=True) if delta in parse_deltas(below)}))


def find_attribute(level: int, ranks: tuple[int, ...], family: LinkFamily, name: str) -> MetaSteps[LinkValues]:
    """Values of a family's links; of links that name their chunks the writer kept none (spec 0.7, 9.3)."""
    delta = format_delta(family.delta)
    cells = yield from find_cells(f"{level}/{VALUES_WITHIN}/{name}/{delta}", ranks)
    path = f"{level}/{VALUES_ACROSS}/{name}/{delta}"
    (node,) = yield [Node(path)]
    table = None if node is None or family.table is None else parse_stored(node, f"{path}/data", name)
    if table is not None and family.table is not None and table.shape[0] != family.table.records.shape[0]:
        raise FormatError(f"{table.shape[0]} values for {family.table.records.shape[0]} links", where=path)
    return LinkValues(cells={} if cells is None else {INSIDE: cells}, table=table)


def parse_stored(node: Found, path: str, name: str, mask: str | None = None) -> DenseArray:
    """Dense rows of the dtype and shape that a group states (spec 0.7, 4.8).

    Raises
    ------
    FormatError
        If it does not state them.
    """
    shape = parse_integers(node.attributes.get("shape"), "shape", node.path)
    if not shape or min(shape) < 0:
        raise FormatError(f"expected rows, found shape {list(shape)}", where=node.path)
    dtype = parse_dtype(node.attributes.get("dtype"), node.path)
    stored = DenseBlob(path=path, dtype=dtype, shape=shape, mask=mask)
    return DenseArray(path=node.path, name=name, shape=shape, dtype=dtype, chunk_rows=max(shape[0], 1), stored=stored)


def _segment(cells: CellArray, width: int, delta: int) -> LinkSegment:
    if cells.spec.dtype.kind not in "iu":
        raise FormatError(f"links must be integers, found dtype {cells.spec.dtype}", where=cells.spec.path)
    return LinkSegment(
        array=cells,
        name=INSIDE,
        offsets=np.zeros((width - 1, cells.chunks.rank), np.int64),
        listed=np.arange(len(cells.chunks)),
        coding=LinkCoding(width=width, dtype=cells.spec.dtype, grouped=delta != 0, permuted=False),
    )


def _table(node: Found, ranks: tuple[int, ...]) -> LinkTable:
    rank = _number(node, "sid_ndim")
    if rank not in ranks:
        raise FormatError(f"sid_ndim is {rank}, chunks have {' or '.join(map(str, ranks))} components", where=node.path)
    shape = (_records(node), _width(node), rank + 1)
    path = f"{node.path}/data"
    # Records of zeros would lead from a chunk to itself: those are not kept here.
    stored = DenseBlob(path=path, dtype=INTEGER, shape=shape, never_zeros=shape[1] > 1)
    records = DenseArray(path=path, name=ACROSS, shape=shape, dtype=INTEGER, chunk_rows=shape[0], stored=stored)
    return LinkTable(records=records, digest=node.digest)


def _records(node: Found) -> int:
    """Records; 0 for a placeholder, which does not say."""
    return 0 if node.attributes.get("num_links") is None else _number(node, "num_links")


def _width(node: Found | None) -> int:
    return 0 if node is None else _number(node, "link_width", 1, MAX_WIDTH)


def _number(node: Found, name: str, least: int = 0, most: int = 2**40) -> int:
    value: Any = node.attributes.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise FormatError(f"{name} must be a number from {least} to {most}, found {value!r}", where=node.path)
    return value


# Object index, object attributes and groups (spec 0.7, 4.7 and 4.8).

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
    count = _counted(group, "num_objects")
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
    count = None if index is None or "num_objects" not in index.attributes else _counted(index, "num_objects")
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
    count = _counted(node, "num_groups")
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


def _counted(node: Found, name: str) -> int:
    (count,) = parse_integers([node.attributes.get(name)], name, node.path)
    if count < 0:
        raise FormatError(f"{name} must not be negative, found {count}", where=node.path)
    return count
