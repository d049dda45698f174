"""Link families, their attributes, and where records are stored (spec 0.9, 7)."""

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from math import factorial

import numpy as np

from zarr_vectors_lazy.errors import FormatError, SelectionError
from zarr_vectors_lazy.format.base import Children, Found, MetaSteps, Node
from zarr_vectors_lazy.format.keys import format_delta, format_deltas, parse_deltas
from zarr_vectors_lazy.format.metadata import MAX_INDEX, check_rank
from zarr_vectors_lazy.format.v09.arrays import parse_cells, with_presence
from zarr_vectors_lazy.model.arrays import CellArray, LinkCoding, LinkFamily, LinkSegment, LinkValues
from zarr_vectors_lazy.model.levels import LevelMeta, StoreMeta
from zarr_vectors_lazy.requests import together
from zarr_vectors_lazy.types import BoolArray, ChunkCoords, IntArray

# Link families and their attributes (spec 0.9, 7).

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


# Where link records are stored (spec 0.9, 7.2 to 7.4).

MAX_PERMUTED = 20
"""Ends whose permutations an int64 numbers."""


@dataclass(frozen=True, slots=True, eq=False)
class PlacedLinks:
    """Link records cut into cells, those of one source chunk one after another.

    Parameters
    ----------
    segments
        Name of each cell's segment, e.g. ``"0.0.+1"``.
    sources
        (cells,) number of the chunk of stored endpoint 0, ascending.
    bounds
        (cells + 1,) records of cell i are ``bounds[i]:bounds[i + 1]``.
    records
        (M, columns) int64 as stored: permutation, where there is one, and rows.
    order
        (M,) which of the records given each is; attributes are taken by it.
    headed
        (cells,) whether the payload begins with a header of groups.
    permuted
        (cells,) whether the first column is the permutation.
    """

    segments: Sequence[str]
    sources: IntArray
    bounds: IntArray
    records: IntArray
    order: IntArray
    headed: BoolArray
    permuted: BoolArray

    @property
    def counts(self) -> tuple[int, int]:
        """Records inside chunks, and across."""
        counts = np.diff(self.bounds)
        return int(counts[~self.headed].sum()), int(counts[self.headed].sum())

    def payload(self, cell: int) -> bytes:
        """Payload of one cell."""
        rows = self.records[self.bounds[cell] : self.bounds[cell + 1], 0 if self.permuted[cell] else 1 :]
        head = struct.pack("<qq", 1, 0) if self.headed[cell] else b""
        return head + np.ascontiguousarray(rows, "<i8").tobytes()

    def members(self, cell: int) -> IntArray:
        """Which of the records given are in a cell, in stored order."""
        return self.order[self.bounds[cell] : self.bounds[cell + 1]]


def place_links(
    chunks: IntArray,
    rows: IntArray,
    coords: ChunkCoords,
    *,
    directed: bool = False,
    delta: int = 0,
    other: ChunkCoords | None = None,
    anchors: ChunkCoords | None = None,
) -> PlacedLinks:
    """Cut link records into the cells in which a canonical family stores them.

    Parameters
    ----------
    chunks
        (M, L) number in ``coords`` of the chunk of each endpoint; with ``other``, that of endpoints 1.. in it.
    rows
        (M, L) rows in these chunks.
    coords
        (C, K) chunks of this level, in lexicographic order.
    directed
        Whether endpoints keep the order given; others are sorted, and a permutation restores them.
    delta
        Level of endpoints 1.. minus this one.
    other, anchors
        For ``delta != 0``: (C', K) chunks of the other level, and (C, K) where each chunk of this level lies there.
    """
    width, rank = chunks.shape[1], coords.shape[1]
    inside = np.full(len(chunks), delta == 0)
    for column in chunks.T[1:] if delta == 0 else ():
        inside &= column == chunks[:, 0]
    codes = np.zeros(len(chunks), np.int64)
    if delta == 0 and not directed and width > 1:
        chunks, rows, codes = _canonical(chunks, rows, inside)
    group, first = _group(chunks, max(len(coords), 0 if other is None else len(other)))
    order = np.argsort(
        group.astype(np.uint16) if len(first) <= 2**16 else group, kind="stable"
    )  # the first: radix sort
    bounds = np.concatenate([[0], np.cumsum(np.bincount(group, minlength=len(first)))]).astype(np.int64)
    ends = chunks[first]
    base = coords if anchors is None else anchors
    offsets = (coords if other is None else other)[ends[:, 1:]] - base[ends[:, :1]]
    within = ~offsets.any(axis=(1, 2)) if width > 1 else np.ones(len(first), np.bool_)
    headed = ~within if delta == 0 else np.ones(len(first), np.bool_)
    return PlacedLinks(
        segments=_names(offsets, rank),
        sources=ends[:, 0],
        bounds=bounds,
        records=np.concatenate([codes[:, None], rows], axis=1)[order],
        order=order,
        headed=np.asarray(headed),
        permuted=np.asarray(headed & (delta == 0) & (not directed)),
    )


def _canonical(chunks: IntArray, rows: IntArray, inside: BoolArray) -> tuple[IntArray, IntArray, IntArray]:
    """Endpoints sorted by (chunk, row), and the code of the permutation; records inside a chunk stay as given."""
    width, codes, across = chunks.shape[1], np.zeros(len(chunks), np.int64), np.flatnonzero(~inside)
    if not len(across):
        return chunks, rows, codes
    if width > MAX_PERMUTED:
        raise SelectionError(
            f"{len(across)} links of {width} ends lie in several chunks; the format has no order for more than "
            f"{MAX_PERMUTED} ends: choose a larger chunk_shape"
        )
    chunks, rows = chunks.copy(), rows.copy()
    if width == 2:  # their one permutation has the code 1
        turned = across[chunks[across, 0] > chunks[across, 1]]
        codes[turned] = 1
        for ends in (chunks, rows):
            ends[turned] = ends[turned, ::-1]
        return chunks, rows, codes
    sigma = np.lexsort((rows[across], chunks[across]), axis=1)
    codes[across] = lehmer_codes(sigma)
    for ends in (chunks, rows):
        ends[across] = np.take_along_axis(ends[across], sigma, 1)
    return chunks, rows, codes


def lehmer_codes(sigma: IntArray) -> IntArray:
    """(M,) codes of (M, L) permutations (spec 0.9, 7.2)."""
    width = sigma.shape[1]
    codes = np.zeros(len(sigma), np.int64)
    for i in range(width - 1):
        digit = (sigma[:, i + 1 :] < sigma[:, i : i + 1]).sum(axis=1)
        codes += digit * factorial(width - 1 - i)
    return codes


def _group(chunks: IntArray, total: int) -> tuple[IntArray, IntArray]:
    """Number of the combination of chunks of each record, lexicographic, and the first record of each."""
    total = max(total, 1)
    group, count = _ranked(chunks[:, 0].astype(np.int64), total)
    for column in chunks.T[1:]:
        group, count = _ranked(group * total + column, count * total)
    first = np.empty(count, np.int64)
    first[group[::-1]] = np.arange(len(group))[::-1]  # of several the last to be assigned is the first
    return group, first


def _ranked(values: IntArray, bound: int) -> tuple[IntArray, int]:
    """Rank of each of some numbers below ``bound`` among the different ones, and how many these are."""
    if bound <= 4 * len(values) + 1024:
        there = np.bincount(values, minlength=bound) > 0
        return (np.cumsum(there) - 1)[values], int(there.sum())
    found, rank = np.unique(values, return_inverse=True)
    return rank.reshape(-1), len(found)


def _names(offsets: IntArray, rank: int) -> list[str]:
    each = offsets.shape[1]
    if not each:
        return [SELF] * len(offsets)
    parts = format_deltas(offsets.reshape(-1, rank))
    return ["_".join(parts[i : i + each]) for i in range(0, len(parts), each)]
