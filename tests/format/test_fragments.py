import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.format.encode import damaged, fragment_index, modest, outcome, refused, thorough, unhex
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.manifests import decode_fragments, decode_ranges
from zarr_vectors_lazy.model.objects import Fragments, join_fragments

EXAMPLE = """4746565a 0100 0000 04000000 02000000 05 00000000000000
    0000000000000000 0200000000000000 0200000000000000 0200000000000000
    00000000 02000000 02000000 0000000000000000 0300000000000000"""

ranges = st.tuples(st.integers(0, 30), st.integers(0, 8))
listed = st.lists(st.integers(0, 40), max_size=6)
fragment_lists = st.lists(ranges | listed, max_size=150)


def rows_of(fragment):
    return list(range(fragment[0], sum(fragment))) if isinstance(fragment, tuple) else fragment


def decoded(index):
    return [index.rows(np.array([f])).tolist() for f in range(len(index))]


def test_example_of_the_specification():
    assert decoded(decode_fragments(unhex(EXAMPLE))) == [[0, 1], [0, 3], [2, 3], []]
    assert fragment_index([(0, 2), [0, 3], (2, 2), []]) == unhex(EXAMPLE)


@thorough
@given(fragment_lists)
def test_round_trip(fragments):
    assert decoded(decode_fragments(fragment_index(fragments))) == [rows_of(f) for f in fragments]


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 63, 64, 65, 128, 1000])
@pytest.mark.parametrize("kind", [(3, 2), [5, 1]], ids=["ranges", "explicit"])
def test_bitmap_is_padded_to_eight_bytes(count, kind):
    assert decoded(decode_fragments(fragment_index([kind] * count))) == [rows_of(kind)] * count


@modest
@given(fragment_lists.filter(bool), st.data())
def test_rows_of_some_fragments_stand_in_the_order_asked(fragments, data):
    index = decode_fragments(memoryview(fragment_index(fragments)))
    asked = data.draw(st.lists(st.integers(0, len(fragments) - 1), max_size=20))
    expected = [row for f in asked for row in rows_of(fragments[f])]
    assert index.rows(np.array(asked, np.int64)).tolist() == expected


@modest
@given(fragment_lists, st.integers(0, 45))
def test_check_refuses_rows_beyond_the_cell(fragments, n_rows):
    index = decode_fragments(fragment_index(fragments))
    if all(row < n_rows for f in fragments for row in rows_of(f)):
        index.check(n_rows)
    else:
        with pytest.raises(FormatError, match=f"the chunk has {n_rows}"):
            index.check(n_rows)


def test_check_refuses_negative_rows():
    index = decode_fragments(fragment_index([[2, -1]]))
    with pytest.raises(FormatError, match="row -1"):
        index.check(10)


def test_check_of_a_range_of_nothing_beyond_the_end():
    decode_fragments(fragment_index([(99, 0)])).check(0)


@pytest.mark.parametrize("asked", [[-1], [2], [0, 5]])
def test_a_fragment_that_is_not_there(asked):
    with pytest.raises(FormatError, match="the chunk has 2"):
        decode_fragments(fragment_index([(0, 1), [3]])).rows(np.array(asked))


@thorough
@given(fragment_lists, st.data())
def test_damage_is_a_format_error_or_another_index(fragments, data):
    index = outcome(decode_fragments, damaged(fragment_index(fragments), data, st))
    assert isinstance(index, Fragments | FormatError)
    if isinstance(index, Fragments):
        checked = outcome(index.check, 10_000)
        assert isinstance(checked, FormatError) or all(max(rows, default=0) < 10_000 for rows in decoded(index))


@thorough
@given(st.binary(max_size=200))
def test_garbage_is_a_format_error(raw):
    with pytest.raises(FormatError):
        decode_fragments(raw)
    with pytest.raises(FormatError):
        decode_fragments(unhex("4746565a 0100 0000 09000000 03000000") + raw[:7] + b"\x80" * 9)


def test_every_truncation_of_the_example():
    for cut in range(84):
        with pytest.raises(FormatError):
            decode_fragments(unhex(EXAMPLE)[:cut])


def header(total, n_ranges, magic=0x5A564647, version=1):
    return struct.pack("<IHHII", magic, version, 0, total, n_ranges)


@pytest.mark.parametrize(
    "raw",
    [
        header(10**9, 0) + bytes(4),
        header(10**9, 10**9) + bytes(4),
        header(2**32 - 1, 2**32 - 1),
        header(1, 2**32 - 1) + bytes(64),
        header(0, 0) + b"\0",
        header(0, 3),
        header(1, 1, magic=0) + bytes(28),
        header(1, 1, version=2) + bytes(28),
        header(1, 1) + bytes(8) + struct.pack("<qqI", 0, 1, 0),  # the bitmap has no range
        header(1, 0) + b"\1" + bytes(7) + bytes(8),  # the bitmap has one
        header(1, 0) + bytes(8) + struct.pack("<II", 0, 2**32 - 1),  # rows that are not there
        header(1, 0) + bytes(8) + struct.pack("<IIq", 1, 1, 0),  # first offset is not 0
        header(2, 0) + bytes(8) + struct.pack("<IIIq", 0, 2, 1, 0),  # offsets descend
        header(1, 1) + b"\1" + bytes(7) + struct.pack("<qqI", -1, 1, 0),
        header(1, 1) + b"\1" + bytes(7) + struct.pack("<qqI", 0, -1, 0),
        header(1, 1) + b"\1" + bytes(7) + struct.pack("<qqI", 2**63 - 1, 2, 0),  # the end overflows
        header(1, 1) + b"\1" + bytes(7) + struct.pack("<qqI", 2**63 - 3, 2**63 - 3, 0),
    ],
)
def test_contradictions_are_refused_before_memory_is_taken(raw):
    refused(decode_fragments, raw)


def test_a_range_of_10_to_the_12_rows_fails_the_check_without_memory():
    index = decode_fragments(fragment_index([(0, 10**12), (5, 1)]))
    refused(index.check, 1000, match="row 999999999999")


@thorough
@given(st.lists(st.lists(ranges, max_size=80) | fragment_lists, min_size=1, max_size=4), st.data())
def test_several_chunks_are_numbered_through(chunks, data):
    sizes = data.draw(st.lists(st.integers(0, 50), min_size=len(chunks), max_size=len(chunks)))
    starts = np.cumsum([0, *sizes])
    blobs = [fragment_index(fragments) for fragments in chunks]
    plain = decode_ranges(blobs, starts)
    joined = join_fragments([decode_fragments(blob) for blob in blobs], starts)
    assert (plain is not None) == all(isinstance(f, tuple) for fragments in chunks for f in fragments)
    for run in (joined, *([] if plain is None else [plain])):
        assert run.bounds.tolist() == np.cumsum([0, *map(len, chunks)]).tolist()
        expected = [
            [row + start for row in rows_of(f)]
            for fragments, start in zip(chunks, starts.tolist(), strict=False)
            for f in fragments
        ]
        assert decoded(run.fragments) == expected
        beyond = any(
            row >= size for fragments, size in zip(chunks, sizes, strict=True) for f in fragments for row in rows_of(f)
        )
        assert (run.outside() is not None) == beyond


@thorough
@given(st.lists(ranges, max_size=80), st.data())
def test_damage_is_left_to_who_names_it(fragments, data):
    blob = damaged(fragment_index(fragments), data, st)
    run = decode_ranges([blob], np.array([0, 9]))
    if run is not None:
        index = decode_fragments(blob)
        assert not index.explicit.any()
        assert (run.fragments.first.tolist(), run.fragments.counts.tolist()) == (
            index.first.tolist(),
            index.counts.tolist(),
        )
