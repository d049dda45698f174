"""Link families and their attributes (spec 0.9, 7)."""

import re

import numpy as np

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.base import Children, Found, MetaSteps, Node
from zarr_vectors_lazy.format.keys import format_delta, parse_deltas
from zarr_vectors_lazy.format.nodes import MAX_INDEX, check_rank
from zarr_vectors_lazy.format.v09.arrays import parse_cells
from zarr_vectors_lazy.format.v09.presence import with_presence
from zarr_vectors_lazy.model.arrays import CellArray
from zarr_vectors_lazy.model.levels import LevelMeta, StoreMeta
from zarr_vectors_lazy.model.links import LinkCoding, LinkFamily, LinkSegment, LinkValues
from zarr_vectors_lazy.requests import together
from zarr_vectors_lazy.types import IntArray

SELF = "self"
MAX_WIDTH = 64
_SEGMENT = re.compile(r"self|[-+0-9][-+0-9._]*")


def find_deltas(level: int) -> MetaSteps[tuple[int, ...]]:
    """Deltas of a level's families, ascending (spec 0.9, 7.1)."""
    (names,) = yield [Children(f"{level}/links")]
    return tuple(sorted(parse_deltas(names)))


def find_family(level: LevelMeta, store: StoreMeta, delta: int) -> MetaSteps[LinkFamily | None]:
    """Read a family's policy and its segments; None where there is no usable one (spec 0.9, 7.1)."""
    path = f"{level.index}/links/{format_delta(delta)}"
    group, names = yield [Node(path), Children(path)]
    if group is None and names:
        raise FormatError("a family of links has segments and no zarr.json of its own", where=path)
    if group is None or "link_width" not in group.attributes or "sid_ndim" not in group.attributes:
        return None
    width, rank = _small(group, "link_width"), _small(group, "sid_ndim")
    if rank not in (store.ndim, store.ndim + 1):
        raise FormatError(f"sid_ndim is {rank}, a store of {store.ndim} axes has no such chunks", where=group.path)
    directed, duplicate = bool(group.attributes.get("directed", False)), group.attributes.get("store") == "duplicate"
    nodes = yield [Node(f"{path}/{name}") for name in sorted(names)]
    if level.deferred:
        nodes = yield from together([with_presence(node, level) for node in nodes])
    segments = []
    for name, node in zip(sorted(names), nodes, strict=True):
        if node is None and _SEGMENT.fullmatch(name):
            raise FormatError("it is listed and has no zarr.json", where=f"{path}/{name}")
        if node is None or node.doc.get("node_type") != "array":
            continue
        offsets = parse_offsets(name, width, rank, node.path)
        if duplicate and not _leads(offsets):
            continue  # a copy: the one led by its lowest chunk is kept
        intra = not offsets.any()
        permuted = not intra and delta == 0 and (duplicate or not directed)
        array = check_rank(parse_cells(node, default_dtype="int64", row_shape=()), rank)
        coding = LinkCoding(
            width=width,
            dtype=array.spec.dtype,
            grouped=not intra or delta != 0,
            permuted=bool(node.attributes.get("has_perm", permuted)),
            reversed=directed and not intra and delta == 0 and "skeleton" in store.geometry_types,
        )
        if array.spec.dtype.kind not in "iu":
            raise FormatError(f"links must be integers, found dtype {array.spec.dtype}", where=node.path)
        segments.append(
            LinkSegment(array=array, name=name, offsets=offsets, listed=_string_order(array), coding=coding)
        )
    stated = group.attributes.get("num_links")
    return LinkFamily(
        delta=delta,
        width=width,
        directed=directed,
        segments=tuple(segments),
        stated=stated if isinstance(stated, int) else None,
    )


def find_attribute_names(level: int, delta: int) -> MetaSteps[tuple[str, ...]]:
    """Names of the attributes of a family, sorted (spec 0.9, 7.5)."""
    (names,) = yield [Children(f"{level}/link_attributes")]
    if not names:
        return ()
    families = yield [Node(f"{level}/link_attributes/{name}/{format_delta(delta)}") for name in names]
    return tuple(sorted(name for name, family in zip(names, families, strict=True) if family is not None))


def find_attribute(level: LevelMeta, family: LinkFamily, name: str) -> MetaSteps[LinkValues]:
    """Cells of an attribute by segment name; segments without values are left out (spec 0.9, 7.5)."""
    path = f"{level.index}/link_attributes/{name}/{format_delta(family.delta)}"
    nodes = yield [Node(f"{path}/{segment.name}") for segment in family.segments]
    if level.deferred:
        nodes = yield from together([with_presence(node, level) for node in nodes])
    found = zip(family.segments, nodes, strict=True)
    return LinkValues(cells={segment.name: parse_cells(node) for segment, node in found if node is not None})


def parse_offsets(segment: str, width: int, rank: int, where: str) -> IntArray:
    """(width - 1, rank) chunk offsets that a segment's name states (spec 0.9, 7.1).

    Raises
    ------
    FormatError
        If the name has another number of offsets or components.
    """
    if segment == SELF and width == 1:
        return np.empty((0, rank), np.int64)
    try:
        offsets = [[int(part) for part in offset.split(".")] for offset in segment.split("_")]
    except ValueError as error:
        raise FormatError(f"{segment!r} states no chunk offsets", where=where) from error
    if len(offsets) != width - 1 or any(len(offset) != rank for offset in offsets):
        raise FormatError(f"{segment!r} must state {width - 1} offsets of {rank} components", where=where)
    if any(abs(part) > MAX_INDEX for offset in offsets for part in offset):
        raise FormatError(f"{segment!r} states absurd offsets", where=where)
    return np.asarray(offsets, np.int64).reshape(width - 1, rank)


def _leads(offsets: IntArray) -> bool:
    """Whether endpoint 0 lies in the lowest chunk of the record."""
    first = [next((int(part) for part in offset if part), 0) for offset in offsets]
    return all(part >= 0 for part in first)


def _string_order(array: CellArray) -> IntArray:
    """Rows of the table in the string order of their dotted keys (spec 0.9, 7.6)."""
    keys = [".".join(map(str, coord)) for coord in array.chunks.coords.tolist()]
    return np.asarray(sorted(range(len(keys)), key=keys.__getitem__), np.int64)


def _small(group: Found, name: str) -> int:
    value = group.attributes[name]
    if not isinstance(value, int) or not 1 <= value <= MAX_WIDTH:
        raise FormatError(f"{name} must be a number from 1 to {MAX_WIDTH}, found {value!r}", where=group.path)
    return value
