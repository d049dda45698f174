import itertools
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.format.encode import damaged, lehmer, link_blob, modest, outcome, refused, thorough, unhex
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.vectors import (
    decode_categories,
    decode_links,
    decode_rows,
)
from zarr_vectors_lazy.model.arrays import Dictionary, LinkCoding


def coding(width, *, dtype="<i8", grouped=True, permuted=False, backwards=False):
    return LinkCoding(width=width, dtype=np.dtype(dtype), grouped=grouped, permuted=permuted, reversed=backwards)


def test_vertices_share_the_payload_and_are_read_only():
    payload = np.arange(6, dtype="<f8").tobytes()
    found = decode_rows(payload, np.dtype("<f8"), (3,))
    assert found.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert not found.flags.writeable
    assert np.shares_memory(found, np.frombuffer(payload, np.uint8))


@pytest.mark.parametrize("dtype", ["<f4", "<f8", "<i8", "<u2", "|i1", "|b1", "<f2", "<U5"])
@pytest.mark.parametrize("row_shape", [(), (1,), (3,), (2, 2)])
def test_rows_of_every_dtype(dtype, row_shape):
    values = np.arange(4 * int(np.prod(row_shape))).reshape(4, *row_shape).astype(dtype)
    found = decode_rows(values.tobytes(), np.dtype(dtype), row_shape)
    assert found.dtype == dtype
    assert np.array_equal(found, values)


@modest
@given(st.integers(0, 100), st.integers(1, 4))
def test_a_part_of_a_row_is_a_format_error(nbytes, ndim):
    if nbytes % (4 * ndim):
        with pytest.raises(FormatError, match=f"{nbytes} bytes are not a whole number of rows of {4 * ndim} bytes"):
            decode_rows(bytes(nbytes), np.dtype("<f4"), (ndim,))
    else:
        assert decode_rows(bytes(nbytes), np.dtype("<f4"), (ndim,)).shape == (nbytes // (4 * ndim), ndim)


def test_rows_of_no_bytes():
    with pytest.raises(FormatError):
        decode_rows(b"abc", np.dtype("<f4"), (0,))


TEXT = np.array(["", "ab", "c"])


def test_categories_without_missing():
    found = decode_categories(np.array([2, 1, 1, 0], "u1"), Dictionary(categories=TEXT))
    assert found.tolist() == ["c", "ab", "ab", ""]


@pytest.mark.parametrize(
    ("categories", "dtype", "missing"),
    [(TEXT, "<U2", ""), ([10, 20, 30], "f8", None), ([0.5, 1.5, 2.5], "f8", None), ([False, True], "f8", None)],
)
@pytest.mark.parametrize(("codes", "fill"), [("i1", -1), ("u1", 255), ("i8", 99)])
def test_missing_categories_are_empty_text_or_nan(categories, dtype, missing, codes, fill):
    values = np.asarray(categories)
    dictionary = Dictionary(categories=values, fill=fill)
    found = decode_categories(np.array([1, fill, 0], codes), dictionary)
    assert found.dtype == dictionary.dtype == np.dtype(dtype)
    assert (found[0], found[2]) == (values[1], values[0])
    assert found[1] == missing if missing is not None else np.isnan(found[1])


def test_integers_stay_integers_where_nothing_may_be_missing():
    assert Dictionary(categories=np.array([1, 2])).dtype == np.int64
    assert decode_categories(np.array([1], "u1"), Dictionary(categories=np.array([1, 2]))).dtype == np.int64


@pytest.mark.parametrize(("codes", "fill"), [([3], None), ([255], None), ([0, 200], 255), ([255], 3)])
def test_a_code_without_category(codes, fill):
    with pytest.raises(FormatError, match=f"code {codes[-1]} has no category, there are only 3"):
        decode_categories(np.array(codes, "u1"), Dictionary(categories=TEXT, fill=fill))


def test_a_negative_code_without_category():
    with pytest.raises(FormatError, match="code -1"):
        decode_categories(np.array([0, -1], "i2"), Dictionary(categories=TEXT))


@pytest.mark.parametrize("dtype", ["<f4", "<f8", "<U1", "<M8[s]"])
def test_codes_that_are_no_integers(dtype):
    with pytest.raises(FormatError, match="integers"):
        decode_categories(np.zeros(2, dtype), Dictionary(categories=TEXT))


def test_no_categories():
    nothing = Dictionary(categories=np.empty(0, "<U1"), fill=0)
    assert decode_categories(np.zeros(3, "u1"), nothing).tolist() == [""] * 3
    assert decode_categories(np.zeros(0, "u1"), Dictionary(categories=np.empty(0, "<U1"))).tolist() == []
    with pytest.raises(FormatError):
        decode_categories(np.ones(1, "u1"), nothing)


def test_links_example_of_the_specification():
    blob = unhex("0100000000000000 0000000000000000 0100000000000000 0700000000000000 0400000000000000")
    assert link_blob([[(1, 7, 4)]], 3) == blob
    # Stored (chunk 0, row 7), (chunk at the offset, row 4); given the other way round.
    assert decode_links(blob, coding(2, permuted=True)).tolist() == [[[1, 0], [4, 7]]]


def test_links_within_a_chunk_are_flat():
    rows = np.array([[3, 1, 4], [1, 5, 9]])
    found = decode_links(rows.tobytes(), coding(3, grouped=False))
    assert found[:, 1].tolist() == rows.tolist()
    assert found[:, 0].tolist() == [[0, 1, 2]] * 2


@pytest.mark.parametrize("dtype", ["<i8", "<u8", "<i4", "<u4", "<i2", "|u1"])
def test_links_of_every_integer_dtype(dtype):
    rows = np.array([[3, 1], [0, 5]], dtype)
    found = decode_links(rows.tobytes(), coding(2, dtype=dtype, grouped=False))
    assert found.dtype == np.int64
    assert found[:, 1].tolist() == rows.tolist()


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("backwards", [False, True])
def test_every_permutation_comes_back(width, backwards):
    given_rows = [10 * k for k in range(width)]
    records, codes = [], []
    for sigma in itertools.permutations(range(width)):
        codes.append(lehmer(sigma))
        records.append((codes[-1], *(given_rows[s] for s in sigma)))  # stored[k] = input[sigma[k]]
    assert codes == list(range(len(codes)))
    found = decode_links(link_blob([records], 1 + width), coding(width, permuted=True, backwards=backwards))
    step = -1 if backwards else 1
    assert found[:, 1].tolist() == [given_rows[::step]] * len(records)
    for sigma, slots in zip(itertools.permutations(range(width)), found[:, 0].tolist(), strict=True):
        assert [sigma[slot] for slot in slots] == list(range(width))[::step]


def test_polygons_of_more_than_twenty_corners():
    sigma = [1, 0, *range(2, 30)]
    assert lehmer(sigma[10:]) == 0
    stored = [0, *range(30)]
    found = decode_links(link_blob([[stored]], 31), coding(30, permuted=True))
    assert found[0, 1].tolist() == list(range(30))


@pytest.mark.parametrize(("width", "code"), [(1, 1), (2, 2), (2, -1), (3, 6), (4, 24), (2, 2**62), (4, -(2**63))])
def test_a_permutation_that_is_none(width, code):
    with pytest.raises(FormatError, match=f"permutation code {code} "):
        decode_links(link_blob([[(0,) * (1 + width), (code,) + (0,) * width]], 1 + width), coding(width, permuted=True))


@modest
@given(st.lists(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 99), st.integers(0, 99)), max_size=4), max_size=4))
def test_groups_are_joined(groups):
    found = decode_links(link_blob(groups, 3), coding(2, permuted=True))
    expected = [[a, b] if code == 0 else [b, a] for group in groups for code, a, b in group]
    assert found[:, 1].tolist() == expected
    assert found.shape == (len(expected), 2, 2)


@thorough
@given(st.lists(st.lists(st.tuples(st.integers(0, 5), *[st.integers(0, 9)] * 3), max_size=3), max_size=3), st.data())
def test_damaged_links_are_a_format_error_or_other_links(groups, data):
    found = outcome(decode_links, damaged(link_blob(groups, 4), data, st), coding(3, permuted=True))
    assert isinstance(found, FormatError) or found.shape[1:] == (2, 3)


@thorough
@given(st.binary(max_size=64), st.booleans(), st.booleans(), st.integers(1, 4))
def test_garbage_links_are_a_format_error_or_links(raw, grouped, permuted, width):
    found = outcome(decode_links, raw, coding(width, grouped=grouped, permuted=permuted))
    assert isinstance(found, FormatError) or found.shape[1:] == (2, width)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        bytes(7),
        struct.pack("<q", -1),
        struct.pack("<q", 2**63 - 1) + bytes(64),
        struct.pack("<q", 10**9) + bytes(64),
        struct.pack("<q", 0) + bytes(16),
        struct.pack("<qq", 1, 8) + bytes(16),
        struct.pack("<qqq", 2, 0, 8) + bytes(16),  # a group ends inside a record
        struct.pack("<qqq", 2, 0, 32) + bytes(16),
        struct.pack("<qqqq", 3, 0, 16, 0) + bytes(32),
        struct.pack("<qqq", 2, 0, -(2**63)) + bytes(16),
        struct.pack("<qq", 1, 0) + bytes(15),
    ],
)
def test_groups_that_contradict_the_bytes(raw):
    refused(decode_links, raw, coding(2))
