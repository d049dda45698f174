"""Fragments of chunks, and manifests of objects."""

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.codecs import anywhere
from zarr_vectors_lazy.format.vectors import join_payloads
from zarr_vectors_lazy.model.objects import FragmentRun, Fragments, Manifests, ragged_arange
from zarr_vectors_lazy.types import Buffer, IntArray

# Fragment index blobs, the same bytes in every generation (spec 0.9, 5.2; spec 0.7, 4.2).

MAGIC = 0x5A564647
HEADER_NBYTES = 16
_HEADER = struct.Struct("<IHHII")
MAX_ROW = 2**62  # the sum of two of these is still int64


def decode_fragments(payload: Buffer) -> Fragments:
    """Decode a fragment index.

    Raises
    ------
    FormatError
        If the bytes are not exactly one index.
    """
    view = memoryview(payload)
    if len(view) < HEADER_NBYTES:
        raise FormatError(f"{len(view)} bytes are too few for a fragment index: its header alone takes {HEADER_NBYTES}")
    magic, version, _, total, n_ranges = _HEADER.unpack_from(view)
    if magic != MAGIC or version != 1:
        raise FormatError(f"a fragment index starts with {MAGIC:#x} version 1, found {magic:#x} version {version}")
    if total == 0:
        _expect(len(view) == HEADER_NBYTES and n_ranges == 0, view, "no fragments")
        empty = np.empty(0, np.int64)
        return Fragments(empty, empty, np.empty(0, np.bool_), empty)
    bitmap_nbytes = -(-total // 64) * 8
    at_ranges = HEADER_NBYTES + bitmap_nbytes
    at_offsets = at_ranges + 16 * n_ranges
    at_listed = at_offsets + 4 * (total - n_ranges + 1)
    _expect(n_ranges <= total and len(view) >= at_listed, view, f"{total} fragments, {n_ranges} of them ranges")
    bits = np.frombuffer(view, np.uint8, bitmap_nbytes, HEADER_NBYTES)
    is_range = np.unpackbits(bits, bitorder="little", count=total).astype(np.bool_)
    ranges = np.frombuffer(view, "<i8", 2 * n_ranges, at_ranges).reshape(-1, 2)
    offsets = np.frombuffer(view, "<u4", total - n_ranges + 1, at_offsets).astype(np.int64)
    _expect(int(is_range.sum()) == n_ranges, view, f"{n_ranges} ranges, but its bitmap has {int(is_range.sum())}")
    _expect(len(view) == at_listed + 8 * int(offsets[-1]), view, f"{int(offsets[-1])} listed rows")
    lengths = np.diff(offsets)
    _expect(offsets[0] == 0 and bool((lengths >= 0).all()), view, "row offsets that do not ascend from 0")
    _expect(bool(((ranges >= 0) & (ranges < MAX_ROW)).all()), view, "a range of rows that cannot exist")
    first, counts = np.empty(total, np.int64), np.empty(total, np.int64)
    first[is_range], counts[is_range] = ranges[:, 0], ranges[:, 1]
    first[~is_range], counts[~is_range] = offsets[:-1], lengths
    listed = np.frombuffer(view, "<i8", int(offsets[-1]), at_listed).astype(np.int64)
    return Fragments(first, counts, ~is_range, listed)


def decode_ranges(payloads: Sequence[Buffer], starts: IntArray) -> FragmentRun | None:
    """Decode the fragment indexes of several chunks whose fragments are all ranges, as in most stores.

    Parameters
    ----------
    starts
        (c + 1,) where the rows of each chunk begin.

    Returns
    -------
    The run; None if `decode_fragments` has to find out, for each, what is in it or what is wrong with it.
    """
    sizes, parts = np.empty(len(payloads), np.int64), []
    for chunk, payload in enumerate(payloads):
        view = memoryview(payload)
        if len(view) < HEADER_NBYTES:
            return None
        magic, version, _, total, n_ranges = _HEADER.unpack_from(view)
        body = HEADER_NBYTES + -(-total // 64) * 8
        end = body + 16 * total
        # After the ranges of a chunk come the offsets of its listed fragments: a single one for none.
        plain = total and total == n_ranges and len(view) == end + 4 and not any(view[end:])
        if magic != MAGIC or version != 1 or not (plain or (total == n_ranges == 0 and len(view) == HEADER_NBYTES)):
            return None
        if int.from_bytes(view[HEADER_NBYTES:body], "little") & ((1 << total) - 1) != (1 << total) - 1:
            return None
        sizes[chunk] = total
        parts.append(view[body:end] if total else b"")
    ranges = np.frombuffer(join_payloads(parts), "<i8").reshape(-1, 2)
    if bool((ranges.view(np.uint64) >= MAX_ROW).any()):  # negative numbers count as large
        return None
    first, counts = ranges[:, 0] + np.repeat(starts[:-1], sizes), ranges[:, 1].copy()
    bounds, ends = np.zeros(len(sizes) + 1, np.int64), np.zeros(len(first) + 1, np.int64)
    np.cumsum(sizes, out=bounds[1:])
    np.cumsum(counts, out=ends[1:])
    tiles = bool((first == ends[:-1]).all() and (ends[bounds] == starts).all())
    fragments = Fragments(first, counts, np.zeros(len(first), np.bool_), np.empty(0, np.int64))
    return FragmentRun(fragments, bounds, starts, tiles)


def _expect(condition: bool, view: memoryview, stated: str) -> None:
    if not condition:
        raise FormatError(f"a fragment index of {len(view)} bytes states {stated}: the two contradict each other")


def encode_fragments(fragments: Fragments) -> bytes:
    """Encode a fragment index; the inverse of `decode_fragments`."""
    total = len(fragments)
    ranges = ~fragments.explicit
    header = struct.pack("<IHHII", MAGIC, 1, 0, total, int(ranges.sum()))
    if not total:
        return header
    bitmap = np.zeros(-(-total // 64) * 8, np.uint8)
    packed = np.packbits(ranges, bitorder="little")
    bitmap[: len(packed)] = packed
    spans = np.stack([fragments.first[ranges], fragments.counts[ranges]], axis=1).astype("<i8")
    counts = fragments.counts[~ranges]
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype("<u4")
    at = np.repeat(fragments.first[~ranges], counts) + ragged_arange(counts)
    listed = fragments.listed[at].astype("<i8")
    return b"".join([header, bitmap.tobytes(), spans.tobytes(), offsets.tobytes(), listed.tobytes()])


def encode_tiling(counts: IntArray) -> bytes:
    """Encode fragments with given numbers of rows that, in order, partition the rows of a chunk: only ranges."""
    total = len(counts)
    header = struct.pack("<IHHII", MAGIC, 1, 0, total, total)
    if not total:
        return header
    bitmap = ((1 << total) - 1).to_bytes(-(-total // 64) * 8, "little")
    spans = np.empty((total, 2), "<i8")
    spans[:, 1] = counts
    spans[:, 0] = np.cumsum(spans[:, 1]) - spans[:, 1]
    return b"".join([header, bitmap, spans.tobytes(), bytes(4)])


# Manifest blobs, the same bytes in every generation (spec 0.9, 8; spec 0.7, 4.7).

RANGE, LISTED = 1, 2
MAX_ENTRIES = 2**24  # most fragments for which ranges may stand: levels have fewer, and memory is finite


def decode_manifests(blobs: Sequence[bytes], rank: int) -> Manifests:
    """Decode the manifests of many objects at once.

    Parameters
    ----------
    blobs
        One blob for each object; empty, or stating no blocks, for an absent object.
    rank
        Components of a chunk coordinate, K.

    Raises
    ------
    FormatError
        If a blob is not exactly the blocks that it states.
    """
    sizes = np.fromiter(map(len, blobs), np.int64, len(blobs))
    data = np.frombuffer(join_payloads(blobs), np.uint8)
    begin = np.cumsum(sizes) - sizes
    if bool(((sizes > 0) & (sizes < 4)).any()):
        raise FormatError(f"a manifest of {int(sizes[(sizes > 0) & (sizes < 4)][0])} bytes has no block count")
    blocks = np.zeros(len(blobs), np.int64)
    blocks[sizes > 0] = _integers(data, begin[sizes > 0], "<u4")
    if np.any(blocks * (8 * rank + 5) > sizes):
        raise FormatError(f"a manifest states {int(blocks.max())} blocks in {int(sizes[blocks.argmax()])} bytes")
    single = 8 * rank + 9
    if np.array_equal(sizes[sizes > 0], 4 + blocks[sizes > 0] * single):
        at = np.repeat(begin + 4, blocks) + ragged_arange(blocks) * single
        if not data[at + 8 * rank].any():  # mode 0 throughout, which is what writers emit
            return _gather(data, at, blocks, rank)
    return _walk(data, begin, sizes, blocks, rank)


def _block(rank: int) -> np.dtype[Any]:
    """A block in mode 0."""
    return np.dtype([("chunk", "<i8", (rank,)), ("mode", "u1"), ("fragment", "<i8")])


def _gather(data: np.ndarray[tuple[int], np.dtype[np.uint8]], at: IntArray, blocks: IntArray, rank: int) -> Manifests:
    fields = anywhere(data, f"V{_block(rank).itemsize}")[at].view(_block(rank))
    return Manifests(_offsets(blocks), fields["chunk"].astype(np.int64), fields["fragment"].astype(np.int64))


def _walk(
    data: np.ndarray[tuple[int], np.dtype[np.uint8]], begin: IntArray, sizes: IntArray, blocks: IntArray, rank: int
) -> Manifests:
    """For every mode: the k-th block of all objects at once, k = 0, 1, ..."""
    at, end = begin + 4, begin + sizes
    found: list[tuple[IntArray, ...]] = []  # for each block: object, chunk, mode, first fragment, fragments, position
    for step in range(int(blocks.max(initial=0))):
        live = np.flatnonzero(blocks > step)
        head = at[live]
        _inside(head + 8 * rank + 5, end[live])
        coords = _integers(data, head[:, None] + 8 * np.arange(rank), "<i8").reshape(-1, rank)
        mode = data[head + 8 * rank].astype(np.int64)
        body = head + 8 * rank + 1
        if mode.max() > LISTED:
            raise FormatError(f"a manifest block has mode {int(mode.max())}, expected 0, 1 or 2")
        first, count = _extent(data, body, mode, end[live])
        at[live] = body + np.select([mode == 0, mode == RANGE], [8, 16], 4 + 8 * count)
        _inside(at[live], end[live])
        found.append((live, coords, mode, first, count, body))
    if not np.array_equal(at[sizes > 0], end[sizes > 0]):
        raise FormatError("a manifest has bytes after its last block")
    if not found:
        return Manifests(
            _offsets(np.zeros(len(blocks), np.int64)), np.empty((0, rank), np.int64), np.empty(0, np.int64)
        )
    owner, chunks, mode, first, count, body = (np.concatenate(parts) for parts in zip(*found, strict=True))
    if int(count[mode == RANGE].sum()) > MAX_ENTRIES:
        raise FormatError(
            f"manifests state ranges of {int(count[mode == RANGE].sum())} fragments: no level has that many"
        )
    order = np.argsort(owner, kind="stable")
    block, inner = np.repeat(order, count[order]), ragged_arange(count[order])
    fragments = first[block] + inner
    listed = mode[block] == LISTED
    fragments[listed] = _integers(data, (body[block] + 4 + 8 * inner)[listed], "<i8")
    return Manifests(_offsets(np.bincount(owner[block], minlength=len(blocks))), chunks[block], fragments)


def _extent(
    data: np.ndarray[tuple[int], np.dtype[np.uint8]], body: IntArray, mode: IntArray, end: IntArray
) -> tuple[IntArray, IntArray]:
    """First fragment and number of fragments of each block."""
    first, count = np.zeros(len(body), np.int64), np.ones(len(body), np.int64)
    _inside(body + np.select([mode == 0, mode == RANGE], [8, 16], 4), end)
    first[mode != LISTED] = _integers(data, body[mode != LISTED], "<i8")
    count[mode == RANGE] = _integers(data, body[mode == RANGE] + 8, "<i8")
    count[mode == LISTED] = _integers(data, body[mode == LISTED], "<u4")
    if count.min(initial=0) < 0 or bool((count[mode == LISTED] * 8 > (end - body)[mode == LISTED]).any()):
        raise FormatError(f"a manifest block states {int(count.max())} fragments")
    if count.max(initial=0) > MAX_ENTRIES:
        raise FormatError(f"a manifest block states {int(count.max())} fragments: no chunk has that many")
    return first, count


def _integers(data: np.ndarray[tuple[int], np.dtype[np.uint8]], at: IntArray, dtype: str) -> IntArray:
    """Little-endian integers at byte positions, unaligned."""
    return anywhere(data, dtype)[at].astype(np.int64)


def _inside(at: IntArray, end: IntArray) -> None:
    if np.any(at > end):
        raise FormatError("a manifest ends inside a block")


def _offsets(counts: IntArray) -> IntArray:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def encode_manifests(manifests: Manifests) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """Encode the manifests of many objects at once, every block in mode 0.

    Returns
    -------
    uint8 bytes of all blobs, each preceded by its size, as in `format.codecs.encode_vlen`; an object without entries
    has four bytes (absent).
    """
    block, first = _block(manifests.chunks.shape[1]), manifests.offsets - manifests.offsets[0]
    counts, size = np.diff(first), block.itemsize
    heads = np.stack([4 + size * counts, counts], axis=1).astype("<u4")
    width = 8
    offsets = width * np.arange(len(counts) + 1) + size * first
    blocks = np.zeros(len(manifests.fragments), block)
    blocks["chunk"], blocks["fragment"] = manifests.chunks, manifests.fragments
    out = np.empty(int(offsets[-1]), np.uint8)
    at = np.repeat(offsets[:-1] + width - size * first[:-1], counts) + size * np.arange(len(blocks))
    for places, items in ((at, blocks.view(f"V{size}")), (offsets[:-1], heads.view(f"V{width}")[:, 0])):
        anywhere(out, items.dtype.str)[places] = items
    return out
