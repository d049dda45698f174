"""Manifest blobs, the same bytes in every generation (spec 0.9, 8; spec 0.7, 4.7)."""

from collections.abc import Sequence

import numpy as np

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.encoding import insert
from zarr_vectors_lazy.model.objects import Manifests, ragged_arange
from zarr_vectors_lazy.types import BoolArray, IntArray

RANGE, LISTED = 1, 2
MAX_ENTRIES = 2**24  # that ranges may stand for: levels have fewer fragments, and memory has an end


def decode_manifests(blobs: Sequence[bytes], rank: int) -> Manifests:
    """Decode the manifests of many objects at once.

    Parameters
    ----------
    blobs
        One blob an object; empty, or stating no blocks, for an absent object.
    rank
        Components of a chunk coordinate, K.

    Raises
    ------
    FormatError
        If a blob is not exactly the blocks that it states.
    """
    sizes = np.fromiter(map(len, blobs), np.int64, len(blobs))
    data = np.frombuffer(b"".join(blobs), np.uint8)
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
        if not data[at + 8 * rank].any():  # mode 0 throughout, what writers emit
            return _gather(data, at, blocks, rank)
    return _walk(data, begin, sizes, blocks, rank)


def _gather(data: np.ndarray[tuple[int], np.dtype[np.uint8]], at: IntArray, blocks: IntArray, rank: int) -> Manifests:
    size = 8 * rank + 9
    rows = np.lib.stride_tricks.sliding_window_view(data, size)[at] if len(at) else np.empty((0, size), np.uint8)
    chunks = np.ascontiguousarray(rows[:, : 8 * rank]).view("<i8").reshape(-1, rank).astype(np.int64)
    fragments = np.ascontiguousarray(rows[:, 8 * rank + 1 :]).view("<i8").reshape(-1).astype(np.int64)
    return Manifests(_offsets(blocks), chunks, fragments)


def _walk(
    data: np.ndarray[tuple[int], np.dtype[np.uint8]], begin: IntArray, sizes: IntArray, blocks: IntArray, rank: int
) -> Manifests:
    """Every mode: the k-th block of all objects at once, k = 0, 1, ..."""
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
        raise FormatError("a manifest has bytes behind its last block")
    if not found:
        return Manifests(
            _offsets(np.zeros(len(blocks), np.int64)), np.empty((0, rank), np.int64), np.empty(0, np.int64)
        )
    owner, chunks, mode, first, count, body = (np.concatenate(parts) for parts in zip(*found, strict=True))
    if int(count[mode == RANGE].sum()) > MAX_ENTRIES:
        raise FormatError(
            f"manifests state ranges of {int(count[mode == RANGE].sum())} fragments: no level has so many"
        )
    order = np.argsort(owner, kind="stable")
    block, inner = np.repeat(order, count[order]), ragged_arange(count[order])
    fragments = first[block] + inner
    listed = mode[block] == LISTED
    fragments[listed] = _integers(data, (body[block] + 4 + 8 * inner)[listed], "<i8")
    return Manifests(_offsets(np.bincount(owner[block], minlength=len(blocks))), chunks[block], fragments)


def _extent(
    data: np.ndarray[tuple[int], np.dtype[np.uint8]],
    body: IntArray,
    mode: IntArray,
    end: IntArray,
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
        raise FormatError(f"a manifest block states {int(count.max())} fragments: no chunk has so many")
    return first, count


def _integers(data: np.ndarray[tuple[int], np.dtype[np.uint8]], at: IntArray, dtype: str) -> IntArray:
    """Little-endian integers at byte positions, unaligned."""
    if at.size == 0:
        return np.empty(at.shape, np.int64)
    size = np.dtype(dtype).itemsize
    return (
        np.ascontiguousarray(data[at.reshape(-1, 1) + np.arange(size)]).view(dtype).reshape(at.shape).astype(np.int64)
    )


def _inside(at: IntArray, end: IntArray) -> BoolArray:
    if np.any(at > end):
        raise FormatError("a manifest ends inside a block")
    return at <= end


def _offsets(counts: IntArray) -> IntArray:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def encode_manifests(manifests: Manifests) -> tuple[np.ndarray[tuple[int], np.dtype[np.uint8]], IntArray]:
    """Encode the manifests of many objects at once, every block in mode 0.

    Returns
    -------
    data, offsets
        uint8 bytes of all blobs, and (O + 1,) where each begins; an object without entries has four bytes (absent).
    """
    counts, rank = np.diff(manifests.offsets), manifests.chunks.shape[1]
    entries, size = len(manifests.fragments), 8 * rank + 9
    blocks = np.zeros((entries, size), np.uint8)
    blocks[:, : 8 * rank] = np.ascontiguousarray(manifests.chunks, "<i8").view(np.uint8).reshape(entries, 8 * rank)
    blocks[:, 8 * rank + 1 :] = np.ascontiguousarray(manifests.fragments, "<i8").view(np.uint8).reshape(entries, 8)
    offsets = 4 * np.arange(len(counts) + 1) + size * (manifests.offsets - manifests.offsets[0])
    out = np.empty(int(offsets[-1]), np.uint8)
    insert(out, offsets[:-1], counts.astype("<u4").view(np.uint8).reshape(-1, 4), blocks.reshape(-1))
    return out, offsets
