"""Where link records are stored (spec 0.9, 7.2 to 7.4)."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from math import factorial

import numpy as np

from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.format.keys import format_deltas
from zarr_vectors_lazy.format.v09.links import SELF
from zarr_vectors_lazy.types import BoolArray, ChunkCoords, IntArray

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
