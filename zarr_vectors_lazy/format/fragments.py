"""Fragment index blobs, the same bytes in every generation (spec 0.9, 5.2; spec 0.7, 4.2)."""

import struct
from collections.abc import Sequence

import numpy as np

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.model.objects import FragmentRun, Fragments, ragged_arange
from zarr_vectors_lazy.types import Buffer, IntArray

MAGIC = 0x5A564647
HEADER_NBYTES = 16
_HEADER = struct.Struct("<IHHII")
MAX_ROW = 2**62  # sums of two such are still int64


def decode_fragments(payload: Buffer) -> Fragments:
    """Decode a fragment index.

    Raises
    ------
    FormatError
        If the bytes are not exactly one index.
    """
    view = memoryview(payload)
    if len(view) < HEADER_NBYTES:
        raise FormatError(f"{len(view)} bytes are no fragment index: its header alone has {HEADER_NBYTES}")
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
    _expect(int(is_range.sum()) == n_ranges, view, f"{n_ranges} ranges, its bitmap {int(is_range.sum())}")
    _expect(len(view) == at_listed + 8 * int(offsets[-1]), view, f"{int(offsets[-1])} listed rows")
    lengths = np.diff(offsets)
    _expect(offsets[0] == 0 and bool((lengths >= 0).all()), view, "row offsets that do not ascend from 0")
    _expect(bool(((ranges >= 0) & (ranges < MAX_ROW)).all()), view, "a range of impossible rows")
    first, counts = np.empty(total, np.int64), np.empty(total, np.int64)
    first[is_range], counts[is_range] = ranges[:, 0], ranges[:, 1]
    first[~is_range], counts[~is_range] = offsets[:-1], lengths
    listed = np.frombuffer(view, "<i8", int(offsets[-1]), at_listed).astype(np.int64)
    return Fragments(first, counts, ~is_range, listed)


def decode_ranges(payloads: Sequence[Buffer], starts: IntArray) -> FragmentRun | None:
    """Decode the fragment indexes of several chunks whose fragments are all ranges, as most are.

    Parameters
    ----------
    starts
        (c + 1,) where the rows of each chunk begin.

    Returns
    -------
    The run; None where `decode_fragments` of each has to tell what is in it, or what is wrong with it.
    """
    sizes, parts = np.empty(len(payloads), np.int64), []
    for chunk, payload in enumerate(payloads):
        view = memoryview(payload)
        if len(view) < HEADER_NBYTES:
            return None
        magic, version, _, total, n_ranges = _HEADER.unpack_from(view)
        body = HEADER_NBYTES + -(-total // 64) * 8
        end = body + 16 * total
        # Behind the ranges of a chunk are the offsets of its listed fragments: one of none.
        plain = total and total == n_ranges and len(view) == end + 4 and not any(view[end:])
        if magic != MAGIC or version != 1 or not (plain or (total == n_ranges == 0 and len(view) == HEADER_NBYTES)):
            return None
        if int.from_bytes(view[HEADER_NBYTES:body], "little") & ((1 << total) - 1) != (1 << total) - 1:
            return None
        sizes[chunk] = total
        parts.append(view[body:end] if total else b"")
    ranges = np.frombuffer(b"".join(parts), "<i8").reshape(-1, 2)
    if bool(((ranges < 0) | (ranges >= MAX_ROW)).any()):
        return None
    first = ranges[:, 0] + np.repeat(starts[:-1], sizes)
    bounds = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    none = np.empty(0, np.int64)
    return FragmentRun(Fragments(first, ranges[:, 1].copy(), np.zeros(len(first), np.bool_), none), bounds, starts)


def _expect(condition: bool, view: memoryview, stated: str) -> None:
    if not condition:
        raise FormatError(f"a fragment index of {len(view)} bytes states {stated}: they contradict each other")


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
    """Encode fragments of so many rows each that, in order, partition the rows of a chunk: ranges alone."""
    total = len(counts)
    header = struct.pack("<IHHII", MAGIC, 1, 0, total, total)
    if not total:
        return header
    bitmap = ((1 << total) - 1).to_bytes(-(-total // 64) * 8, "little")
    spans = np.empty((total, 2), "<i8")
    spans[:, 1] = counts
    spans[:, 0] = np.cumsum(spans[:, 1]) - spans[:, 1]
    return b"".join([header, bitmap, spans.tobytes(), bytes(4)])
