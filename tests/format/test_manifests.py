import struct
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.format.encode import damaged, entries, manifest, modest, outcome, refused, thorough, unhex
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.manifests import decode_manifests
from zarr_vectors_lazy.model.objects import Manifests

EXAMPLE = """03000000
    0000000000000000 ffffffffffffffff 00 0300000000000000
    0100000000000000 0000000000000000 01 0200000000000000 0400000000000000
    0100000000000000 0100000000000000 02 02000000 0000000000000000 0200000000000000"""
WORKED = [((0, -1), 3), ((1, 0), range(2, 6)), ((1, 1), [0, 2])]

single = st.integers(0, 2**40)
spans = st.builds(lambda start, n: range(start, start + n), st.integers(0, 2**40), st.integers(0, 5))
lists = st.lists(st.integers(0, 2**40), max_size=5)


def objects(rank, fragments, size=8):
    chunk = st.tuples(*[st.integers(-(2**40), 2**40)] * rank)
    return st.lists(st.lists(st.tuples(chunk, fragments), max_size=6), max_size=size)


def unpacked(manifests):
    chunks, fragments = manifests.chunks.tolist(), manifests.fragments.tolist()
    found = [(tuple(chunk), f) for chunk, f in zip(chunks, fragments, strict=True)]
    return [found[a:b] for a, b in zip(manifests.offsets[:-1], manifests.offsets[1:], strict=True)]


def check(blocks_of, rank, empty=b"\0\0\0\0"):
    blobs = [manifest(blocks) if blocks else empty for blocks in blocks_of]
    found = decode_manifests(blobs, rank)
    assert unpacked(found) == [entries(blocks) for blocks in blocks_of]
    assert found.chunks.shape == (len(found.fragments), rank)
    assert (found.offsets.dtype, found.chunks.dtype, found.fragments.dtype) == (np.int64,) * 3


def test_example_of_the_specification():
    assert manifest(WORKED) == unhex(EXAMPLE)
    (found,) = unpacked(decode_manifests([unhex(EXAMPLE)], 2))
    assert found == [((0, -1), 3), *(((1, 0), f) for f in (2, 3, 4, 5)), ((1, 1), 0), ((1, 1), 2)]


@pytest.mark.parametrize("kinds", [single, spans, lists, single | spans | lists], ids=["0", "1", "2", "mixed"])
def test_round_trip(kinds):
    @modest
    @given(st.data(), st.integers(1, 4), st.sampled_from([b"", b"\0\0\0\0"]))
    def holds(data, rank, empty):
        check(data.draw(objects(rank, kinds)), rank, empty)

    holds()


@pytest.mark.parametrize("blobs", [[], [b""], [bytes(4)], [b"", bytes(4), b""]])
def test_nothing(blobs):
    found = decode_manifests(blobs, 3)
    assert len(found) == len(blobs)
    assert found.chunks.shape == (0, 3)
    assert unpacked(found) == [[] for _ in blobs]


@pytest.mark.parametrize("modes", [[0], [0, 1, 2]], ids=["mode 0", "mixed"])
def test_two_thousand_objects(modes):
    random = Random(0)
    blocks_of = []
    for _ in range(2000):
        blocks = []
        for _ in range(random.randrange(5)):
            start, n = random.randrange(50), random.randrange(50)
            named = (start, range(start, start + n), [start] * n)[random.choice(modes)]
            blocks.append((tuple(random.randrange(-9, 9) for _ in range(3)), named))
        blocks_of.append(blocks)
    check(blocks_of, 3)


def test_blocks_of_no_fragments_yield_nothing():
    check([[((0, 0), range(0)), ((1, 0), []), ((2, 0), 7)], [((5, 5), [])]], 2)


def test_sizes_that_look_like_mode_0():
    # One block of mode 1 and one of mode 2 with half a fragment less are as long as two of mode 0 would be.
    blocks = [((1,), [4]), ((2,), [])]
    assert len(manifest(blocks)) % 17 == len(manifest([((1,), 4), ((2,), 5)])) % 17
    check([blocks, [((3,), 1)], [((1,), range(3))]], 1)


@thorough
@given(objects(2, single | spans | lists, size=4).filter(any), st.data())
def test_damage_is_a_format_error_or_other_manifests(blocks_of, data):
    blobs = [manifest(blocks) for blocks in blocks_of]
    at = data.draw(st.integers(0, len(blobs) - 1))
    blobs[at] = damaged(blobs[at], data, st)
    found = outcome(decode_manifests, blobs, 2)
    assert isinstance(found, FormatError) or len(found) == len(blobs)
    assert isinstance(found, Manifests | FormatError)


@thorough
@given(st.lists(st.binary(max_size=60), max_size=4), st.integers(1, 4))
def test_garbage_is_a_format_error_or_manifests(blobs, rank):
    assert isinstance(outcome(decode_manifests, blobs, rank), Manifests | FormatError)


def test_every_truncation_of_the_example():
    for cut in range(1, len(unhex(EXAMPLE))):
        with pytest.raises(FormatError):
            decode_manifests([manifest(WORKED), unhex(EXAMPLE)[:cut]], 2)


@pytest.mark.parametrize("blob", [unhex(EXAMPLE) + b"\0", manifest([((0, 0), 1)]) + b"\0", bytes(5), b"\1" + bytes(3)])
def test_bytes_behind_the_last_block_or_none_at_all(blob):
    with pytest.raises(FormatError):
        decode_manifests([blob], 2)


def block(body):
    return [struct.pack("<Iqq", 1, 0, 0) + body]


@pytest.mark.parametrize(
    "blobs",
    [
        [struct.pack("<I", 2**32 - 1) + bytes(40)],
        block(struct.pack("<Bqq", 1, 0, 10**12)),
        block(struct.pack("<Bqq", 1, 0, 2**63 - 1)),
        block(struct.pack("<Bqq", 1, 0, -1)),
        block(struct.pack("<BI", 2, 2**32 - 1) + bytes(8)),
        block(struct.pack("<Bq", 3, 0)),
        block(struct.pack("<Bq", 255, 0)),
        [struct.pack("<I", 100) + struct.pack("<qqBqq", 0, 0, 1, 0, 2**26) * 100],
        block(struct.pack("<Bqq", 1, 0, 2**20)) * 100,
    ],
)
def test_absurd_counts_are_refused_before_memory_is_taken(blobs):
    refused(decode_manifests, blobs, 2)


def test_one_bad_manifest_among_many():
    blobs = [manifest([((0, 0), 1)])] * 1500
    blobs[700] = blobs[700][:-1]
    with pytest.raises(FormatError):
        decode_manifests(blobs, 2)
