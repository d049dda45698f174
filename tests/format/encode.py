"""The format's bytes written with ``struct`` alone, one value at a time, and helpers of property tests."""

import struct
import tracemalloc
from math import factorial

import pytest
from hypothesis import settings

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.requests import Get

modest = settings(max_examples=30)
thorough = settings(max_examples=100)


def unhex(text):
    return bytes.fromhex("".join(text.split()))


def cell(payload):
    return struct.pack("<II", 1, len(payload)) + payload


def fragment_index(fragments):
    """Bytes of fragments given as ``(start, count)`` tuples (ranges) or lists of rows."""
    total, ranges = len(fragments), [f for f in fragments if isinstance(f, tuple)]
    out = struct.pack("<IHHII", 0x5A564647, 1, 0, total, len(ranges))
    if not total:
        return out
    bitmap = bytearray(-(-total // 64) * 8)
    for f, fragment in enumerate(fragments):
        bitmap[f // 8] |= isinstance(fragment, tuple) << (f % 8)
    out += bytes(bitmap) + b"".join(struct.pack("<qq", *fragment) for fragment in ranges)
    offsets, rows = [0], []
    for fragment in fragments:
        if isinstance(fragment, list):
            rows += fragment
            offsets.append(len(rows))
    return out + struct.pack(f"<{len(offsets)}I", *offsets) + struct.pack(f"<{len(rows)}q", *rows)


def manifest(blocks):
    """Bytes of blocks ``(chunk, fragments)``: an int is mode 0, a range mode 1, a list mode 2."""
    out = struct.pack("<I", len(blocks))
    for chunk, fragments in blocks:
        out += struct.pack(f"<{len(chunk)}q", *chunk)
        match fragments:
            case int():
                out += struct.pack("<Bq", 0, fragments)
            case range():
                out += struct.pack("<Bqq", 1, fragments.start, len(fragments))
            case list():
                out += struct.pack(f"<BI{len(fragments)}q", 2, len(fragments), *fragments)
    return out


def entries(blocks):
    """The (chunk, fragment) pairs that blocks stand for."""
    return [(chunk, f) for chunk, named in blocks for f in ([named] if isinstance(named, int) else named)]


def lehmer(sigma):
    """Code of a permutation (spec 0.9, 7.2)."""
    unused, code = sorted(sigma), 0
    for i, value in enumerate(sigma):
        code += unused.index(value) * factorial(len(sigma) - 1 - i)
        unused.remove(value)
    return code


def link_blob(groups, columns, code="q"):
    """A self-describing blob of groups of records."""
    parts = [b"".join(struct.pack(f"<{columns}{code}", *record) for record in group) for group in groups]
    starts = [sum(map(len, parts[:k])) for k in range(len(parts))]
    return struct.pack(f"<{1 + len(parts)}q", len(parts), *starts) + b"".join(parts)


def answer(objects, request):
    """Answer of a dict, as a store, to a `Get`."""
    assert isinstance(request, Get)
    data = objects.get(request.key)
    if data is None or request.start is None:
        return data
    return data[request.start :] if request.stop is None else data[request.start : request.stop]


def drive(steps, objects):
    """Answer a layout's requests from a dict; return its result and the rounds of requests."""
    rounds = []
    answers = None
    while True:
        try:
            asked = next(steps) if answers is None else steps.send(answers)
        except StopIteration as stop:
            return stop.value, rounds
        rounds.append(list(asked))
        answers = [answer(objects, request) for request in asked]


def outcome(decode, *args):
    """What ``decode`` returns, or the FormatError that it raises; other exceptions are not caught."""
    try:
        return decode(*args)
    except FormatError as error:
        return error


def refused(decode, *args, match=None, limit=2**20):
    """Check that bytes are refused before memory is allocated for what they claim."""
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match=match):
            decode(*args)
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


def damaged(blob, data, draw):
    """``blob`` cut short, with bytes changed or with bytes added."""
    kind = data.draw(draw.sampled_from(["cut", "change", "add"]))
    if kind == "cut":
        return blob[: data.draw(draw.integers(0, max(len(blob) - 1, 0)))]
    if kind == "add":
        return blob + data.draw(draw.binary(min_size=1, max_size=9))
    out = bytearray(blob)
    at = data.draw(draw.lists(draw.integers(0, len(blob) - 1), min_size=1, max_size=4))
    for position in at:
        out[position] = data.draw(draw.sampled_from([0, 1, 2, 5, 0x7F, 0x80, 0xFF]))
    return bytes(out)
