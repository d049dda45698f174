"""Random bytes and random structures through the decoders."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.base import parse_chunk_keys
from zarr_vectors_lazy.format.codecs import Pipeline, decode_single_vlen
from zarr_vectors_lazy.format.manifests import decode_fragments, decode_manifests
from zarr_vectors_lazy.format.vectors import decode_links
from zarr_vectors_lazy.model.arrays import LinkCoding
from zarr_vectors_lazy.model.levels import ChunkTable

few = settings(max_examples=150)
coordinate = st.integers(-(2**40), 2**40)
block = st.one_of(
    st.tuples(st.just(0), st.integers(0, 2**40)),
    st.tuples(st.just(1), st.integers(0, 1000), st.integers(0, 9)),
    st.tuples(st.just(2), st.lists(st.integers(0, 1000), max_size=9)),
)
manifest = st.lists(st.tuples(st.tuples(coordinate, coordinate), block), max_size=9)


def encode_manifest(blocks) -> bytes:
    out = struct.pack("<I", len(blocks))
    for coord, (mode, *rest) in blocks:
        out += struct.pack("<qqB", *coord, mode)
        out += (
            struct.pack("<I", len(rest[0])) + struct.pack(f"<{len(rest[0])}q", *rest[0])
            if mode == 2
            else struct.pack(f"<{len(rest)}q", *rest)
        )
    return out


def entries(blocks):
    for coord, (mode, *rest) in blocks:
        named = [rest[0]] if mode == 0 else range(rest[0], rest[0] + rest[1]) if mode == 1 else rest[0]
        yield from ((coord, fragment) for fragment in named)


@few
@given(st.lists(manifest, max_size=6))
def test_manifests_round_trip(objects):
    found = decode_manifests([encode_manifest(blocks) for blocks in objects], 2)
    for row, blocks in enumerate(objects):
        part = slice(found.offsets[row], found.offsets[row + 1])
        got = list(zip(map(tuple, found.chunks[part].tolist()), found.fragments[part].tolist(), strict=True))
        assert got == list(entries(blocks))


def encode_fragments(fragments) -> bytes:
    n = len(fragments)
    ranges = [f for f in fragments if isinstance(f, tuple)]
    header = struct.pack("<IHHII", 0x5A564647, 1, 0, n, len(ranges))
    if not n:
        return header
    bits = sum(1 << i for i, f in enumerate(fragments) if isinstance(f, tuple))
    listed = [f for f in fragments if not isinstance(f, tuple)]
    offsets = np.cumsum([0, *map(len, listed)])
    return (
        header
        + bits.to_bytes(-(-n // 64) * 8, "little")
        + b"".join(struct.pack("<qq", *f) for f in ranges)
        + struct.pack(f"<{len(offsets)}I", *offsets)
        + b"".join(struct.pack(f"<{len(f)}q", *f) for f in listed)
    )


fragment = st.one_of(st.tuples(st.integers(0, 50), st.integers(0, 9)), st.lists(st.integers(0, 50), max_size=9))


@few
@given(st.lists(fragment, max_size=80), st.data())
def test_fragments_round_trip(fragments, data):
    index = decode_fragments(encode_fragments(fragments))
    expected = [list(range(f[0], f[0] + f[1])) if isinstance(f, tuple) else f for f in fragments]
    chosen = data.draw(st.lists(st.integers(0, len(fragments) - 1), max_size=20)) if fragments else []
    assert index.rows(np.array(chosen, np.int64)).tolist() == [row for f in chosen for row in expected[f]]
    assert index.counts.tolist() == [len(rows) for rows in expected]


@few
@given(st.binary(max_size=200), st.sampled_from(["", "zstd", "blosc", "gzip", "crc32c"]))
def test_random_bytes_are_our_error_or_a_value(raw, codec):
    decoders = [
        lambda: decode_single_vlen(Pipeline((codec,) if codec else ()).decode(raw)),
        lambda: decode_fragments(raw),
        lambda: decode_manifests([raw, raw], 3),
        lambda: decode_links(raw, LinkCoding(width=3, dtype=np.dtype("<i8"), grouped=True, permuted=True)),
    ]
    for decode in decoders:
        try:
            decode()
        except FormatError:
            continue


@few
@given(st.integers(2, 4), st.data())
def test_permutations_are_undone(width, data):
    sigma = data.draw(st.permutations(range(width)))
    unused, code = list(range(width)), 0
    for i, digit in enumerate(sigma):
        radix = int(np.prod(range(1, width - i)))
        code += unused.index(digit) * radix
        unused.remove(digit)
    given_rows = data.draw(st.lists(st.integers(0, 99), min_size=width, max_size=width))
    stored = [given_rows[k] for k in sigma]
    blob = struct.pack(f"<{3 + width}q", 1, 0, code, *stored)
    records = decode_links(blob, LinkCoding(width=width, dtype=np.dtype("<i8"), grouped=True, permuted=True))
    assert records[0, 1].tolist() == given_rows
    assert [sigma[slot] for slot in records[0, 0]] == list(range(width))


@few
@given(st.lists(st.tuples(*[st.integers(-1200, 1200)] * 3), unique=True, max_size=60), st.data())
def test_chunk_keys_and_tables(coords, data):
    keys = [".".join(map(str, coord)) for coord in coords]
    parsed = parse_chunk_keys(keys, 3)
    assert parsed.tolist() == [list(coord) for coord in coords]
    table = ChunkTable(parsed)
    assert table.coords.tolist() == sorted(map(list, coords))
    assert parsed[table.order].tolist() == table.coords.tolist()
    asked = data.draw(st.lists(st.tuples(*[st.integers(-1300, 1300)] * 3), max_size=20)) + coords[:5]
    known = {tuple(coord): row for row, coord in enumerate(table.coords.tolist())}
    assert table.find(np.array(asked, np.int64).reshape(-1, 3)).tolist() == [known.get(coord, -1) for coord in asked]
    if coords:
        with pytest.raises(FormatError, match="twice"):
            ChunkTable(np.concatenate([parsed, parsed[:1]]))
