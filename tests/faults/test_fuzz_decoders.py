"""Every decoder on random or slightly wrong bytes: a value or our error, in bounded memory and time.

``FUZZ`` says how many examples of each; without it a few, always the same.
"""

import gzip
import json
import struct
from functools import partial

import google_crc32c
import numcodecs.blosc
import numcodecs.zstd
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bounds import at_most, within
from tests.faults.mutate import fuzzed, nearly
from tests.format.encode import cell, fragment_index, manifest
from tests.format.v07.nodes import ZSTD, blob, read
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format import manifests
from zarr_vectors_lazy.format.base import LIMITS, parse_chunk_keys
from zarr_vectors_lazy.format.codecs import Pipeline, decode_single_vlen
from zarr_vectors_lazy.format.manifests import decode_fragments, decode_manifests
from zarr_vectors_lazy.format.metadata import parse_json
from zarr_vectors_lazy.format.v07.cells import BlobLayout, DenseBlob, RaggedBlob, decode_blob, fetch_blobs
from zarr_vectors_lazy.format.v09.arrays import GridLayout, Shards
from zarr_vectors_lazy.format.vectors import decode_categories, decode_links, decode_rows
from zarr_vectors_lazy.kernels.trees import implied_parents
from zarr_vectors_lazy.model import objects
from zarr_vectors_lazy.model.arrays import Dictionary, LinkCoding, Pack, Places
from zarr_vectors_lazy.model.levels import ChunkTable
from zarr_vectors_lazy.types import Blob

MIB = 2**20
PAYLOAD = np.arange(30, dtype="<f4").tobytes()
CODERS = {
    "zstd": numcodecs.zstd.compress,
    "blosc": partial(numcodecs.blosc.compress, cname=b"lz4", clevel=5),
    "gzip": gzip.compress,
    "crc32c": lambda raw: raw + struct.pack("<I", google_crc32c.value(raw)),
}
NAMES = st.lists(st.sampled_from(sorted(CODERS)), max_size=3).map(tuple)
FRAGMENTS = [[], [(0, 3), (3, 4)], [(0, 2), [1, 5, 2], (2, 0)], [(i, 1) for i in range(70)], [[3, 1], [0]]]
MANIFESTS = [[], [((0, -1), 3)], [((1, 0), range(2, 5)), ((1, 1), [0, 2])], [((k, 0), k) for k in range(9)]]


@pytest.fixture(autouse=True)
def tight(monkeypatch):
    """Limits that leave room for what is tried here, so that memory can be seen to be bounded."""
    monkeypatch.setattr(LIMITS, "cell_nbytes", MIB)
    monkeypatch.setattr(LIMITS, "array_nbytes", MIB)
    monkeypatch.setattr(manifests, "MAX_ENTRIES", 2**16)
    monkeypatch.setattr(objects, "MAX_ROWS", 2**16)


def outcome(decode):
    """What it gives; None for our error. Anything else fails."""
    with within(20, decode), at_most(64 * MIB):
        try:
            return decode()
        except FormatError:
            return None


def encoded(payload, names):
    for name in names:
        payload = CODERS[name](payload)
    return payload


@fuzzed
@given(st.data())
def test_codecs(data):
    names = data.draw(NAMES)
    raw = data.draw(nearly([encoded(cell(PAYLOAD), names), encoded(cell(bytes(3 * MIB)), names)]))
    outcome(lambda: decode_single_vlen(Pipeline(names).decode(raw)))
    outcome(lambda: Pipeline(names).check_expansion(raw))
    outcome(lambda: Pipeline(names).head_nbytes(raw[:32]))


@fuzzed
@given(nearly(map(fragment_index, FRAGMENTS)), st.integers(0, 100))
def test_fragments(raw, n_rows):
    index = outcome(lambda: decode_fragments(raw))
    if index is None:
        return
    outcome(lambda: index.rows(np.arange(len(index))))
    if outcome(lambda: index.check(n_rows) or True):
        outcome(lambda: implied_parents(index, n_rows))


@fuzzed
@given(st.lists(nearly(map(manifest, MANIFESTS)), max_size=4), st.integers(1, 4))
def test_manifests(blobs, rank):
    outcome(lambda: decode_manifests(blobs, rank))
    outcome(lambda: decode_manifests(blobs, 2))


@fuzzed
@given(nearly([PAYLOAD]), st.sampled_from(["f4", "i8", "u1", "<U3", "?", "c16"]), st.integers(1, 5))
def test_rows(raw, dtype, width):
    codes = outcome(lambda: decode_rows(raw, np.dtype(dtype), (width,)))
    outcome(lambda: decode_rows(raw, np.dtype(dtype), ()))
    if codes is not None:
        outcome(lambda: decode_categories(codes, Dictionary(categories=np.asarray(["a", "b" * 1000]), fill=-1)))
        outcome(lambda: decode_categories(codes, Dictionary(categories=np.asarray([1, 2]))))


@fuzzed
@given(
    nearly([struct.pack("<5q", 1, 0, 1, 4, 7), struct.pack("<9q", 2, 0, 16, 0, 3, 1, 2, 3, 4)]),
    st.integers(1, 64),
    st.sampled_from(["<i8", "<i4", "u1"]),
    st.booleans(),
    st.booleans(),
)
def test_links(raw, width, dtype, grouped, permuted):
    for narrow in (width, 2):
        coding = LinkCoding(width=narrow, dtype=np.dtype(dtype), grouped=grouped, permuted=permuted)
        outcome(lambda: decode_links(raw, coding))  # noqa: B023


def shard(cells, *, at_end, crc):
    """Bytes of a shard of four cells."""
    body = b"".join(cells)
    starts = np.cumsum([0, *map(len, cells)])[:-1] + (0 if at_end else 64 + 4 * crc)
    index = np.stack([starts, [len(c) for c in cells]], 1).astype("<u8").tobytes()
    index = CODERS["crc32c"](index) if crc else index
    return body + index if at_end else index + body


@fuzzed
@given(st.data(), st.booleans(), st.booleans())
def test_shards(data, at_end, crc):
    shards = Shards(shape=(2, 2), index_at_end=at_end, index_crc=crc)
    layout = GridLayout(path="a", origin=(0, 0), separator="/", pipeline=Pipeline(("zstd",)), shards=shards)
    cells = [CODERS["zstd"](cell(PAYLOAD[: 4 * n])) for n in (3, 6, 9, 30)]
    raw = data.draw(nearly([shard(cells, at_end=at_end, crc=crc)]))
    for coords in ([[0, 0]], [[0, 0], [1, 0], [1, 1]]):
        found = outcome(lambda: read(layout.fetch(np.asarray(coords)), {"a/c/0/0": raw})[0])  # noqa: B023
        for one in found or []:
            if one is not None and not isinstance(one, Exception):
                outcome(lambda: layout.decode(one))  # noqa: B023


@fuzzed
@given(st.data(), st.sampled_from([(), (ZSTD,)]))
def test_blobs(data, codecs):
    stored = blob("a/0.0", PAYLOAD, *codecs)
    stored = {key: data.draw(nearly([raw])) if data.draw(st.booleans()) else raw for key, raw in stored.items()}
    for steps in (fetch_blobs(["a/0.0"], headed=False), BlobLayout(path="a", headed=True).fetch(np.asarray([[0, 0]]))):
        found = outcome(lambda: read(steps, {"a/0.0/elements": b"", **stored})[0])  # noqa: B023
        for one in found or []:
            if isinstance(one, Blob) and one.body is not None:
                outcome(lambda: decode_blob(one))  # noqa: B023


@fuzzed
@given(st.data())
def test_packs(data):
    raw = data.draw(nearly([CODERS["zstd"](PAYLOAD)]))
    bounds = st.integers(0, 120)
    start, stop = sorted((data.draw(bounds), data.draw(bounds)))
    places = Places((Pack("p", "c/0", 120, ("zstd",)),), *(np.asarray([n], np.int64) for n in (0, start, stop)))
    outcome(lambda: read(BlobLayout(path="a", headed=False).fetch(np.asarray([[0, 0]]), places), {"p/c/0": raw})[0])


@fuzzed
@given(st.data(), st.integers(0, 2**40))
def test_stored_arrays(data, count):
    offsets = np.asarray([0, 8, 8], "<i8").tobytes()
    stored = blob("g/data", PAYLOAD) | blob("g/offsets", offsets)
    stored = {key: data.draw(nearly([raw])) if data.draw(st.booleans()) else raw for key, raw in stored.items()}
    stored["g/data/elements"] = stored["g/offsets/elements"] = b""
    for n in (3, count):
        outcome(lambda: read(RaggedBlob(path="g", count=n).read(), stored))  # noqa: B023
        outcome(lambda: read(DenseBlob(path="g/data", dtype=np.dtype("f4"), shape=(n, 10)).read(), stored))  # noqa: B023


@fuzzed
@given(st.lists(st.one_of(st.text(max_size=30), st.from_regex(r"-?[0-9]{1,19}(\.-?[0-9]{1,19}){0,3}")), max_size=6))
def test_chunk_keys(keys):
    for rank in (1, 2, 3):
        coords = outcome(lambda: parse_chunk_keys(keys, rank))  # noqa: B023
        if coords is not None:
            outcome(lambda: ChunkTable(coords))  # noqa: B023


@fuzzed
@given(nearly([json.dumps({"a": [1, {"b": None}], "c": "text"}).encode(), b"[" * 5000, b'{"a":' * 3000, b"1" * 9000]))
def test_json(raw):
    outcome(lambda: parse_json(raw, "a"))
