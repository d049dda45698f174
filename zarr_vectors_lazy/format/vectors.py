"""Payloads of vertices, attributes and links, and dictionaries of categories."""

import math
import struct
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from zarr_vectors_lazy.errors import FormatError, SelectionError
from zarr_vectors_lazy.format.base import check_array
from zarr_vectors_lazy.model.arrays import Dictionary, LinkCoding, float64_holds, integers_with_missing, missing_integer
from zarr_vectors_lazy.types import Array, BoolArray, Buffer, IntArray, Json

# Payloads of vertices, attributes and links (spec 0.9, 5.1, 6 and 7.2).

LOGICAL_DTYPE = "logical_dtype"
"""Attribute of arrays: the dtype of times that are stored as int64; other readers see integers."""

ONE_GROUP = struct.pack("<qq", 1, 0)  # the header as writers write it
LARGE_NBYTES, PAGE_NBYTES = 2**22, 2**12  # NumPy asks for large pages for arrays of so many bytes; a small page
MAX_TABLE_WIDTH = 5  # most endpoints whose permutations are all tabled


def decode_rows(payload: Buffer, dtype: np.dtype[Any], row_shape: tuple[int, ...]) -> Array:
    """Decode a flat buffer of rows, C order; (N, *row_shape), read-only, shares ``payload``.

    Raises
    ------
    FormatError
        If the buffer is not a whole number of rows.
    """
    nbytes = dtype.itemsize * math.prod(row_shape)
    if nbytes == 0 or len(payload) % nbytes:
        raise FormatError(f"{len(payload)} bytes are not a whole number of rows of {nbytes} bytes")
    return np.frombuffer(payload, dtype).reshape(-1, *row_shape)


def join_payloads(payloads: Sequence[Buffer]) -> Buffer:
    """Join payloads; large ones in an array, for which NumPy asks for large pages: to touch small ones costs more."""
    if len(payloads) == 1:
        return payloads[0]
    if sum(map(len, payloads)) < max(LARGE_NBYTES, PAGE_NBYTES * len(payloads)):
        return b"".join(payloads)
    return np.concatenate([np.frombuffer(payload, np.uint8) for payload in payloads if len(payload)]).data.toreadonly()


def is_number(dtype: np.dtype[Any]) -> bool:
    """Whether values of a dtype are stored as they are: bool, integers, float16 to float64, complex64 and 128."""
    return dtype.kind in "biufc" and dtype.itemsize <= (16 if dtype.kind == "c" else 8)


def is_time(dtype: np.dtype[Any]) -> bool:
    """Whether values of a dtype are times with a unit, which are stored as int64 with `LOGICAL_DTYPE`."""
    return dtype.kind in "mM" and np.datetime_data(dtype)[0] != "generic"


def encode_rows(values: Array) -> memoryview:
    """Encode rows as a flat little-endian buffer, C order; it shares the memory of ``values`` if possible."""
    flat = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    return flat.reshape(-1).view(np.uint8).data


def decode_categories(codes: Array, dictionary: Dictionary) -> Array:
    """Values of dictionary codes; missing ones are ``""`` or NaN (spec 0.9, 6).

    Raises
    ------
    FormatError
        If a code has no category, or codes are not integers.
    """
    missing = missing_codes(codes, dictionary)
    dtype = dictionary.dtype
    check_array(codes.size * dtype.itemsize, f"values of {codes.size} dictionary codes")
    if dictionary.plain:
        values = codes.astype(dtype)
    elif not len(dictionary.categories):
        return np.full(codes.shape, "" if dtype.kind == "U" else np.nan, dtype)
    else:
        values = dictionary.categories.astype(dtype)[np.where(missing, 0, codes)]
    if missing.any():
        values[missing] = "" if dtype.kind == "U" else np.nan
    return values


def missing_codes(codes: Array, dictionary: Dictionary) -> BoolArray:
    """Mask of the codes that mean missing; raises FormatError like `decode_categories`."""
    if codes.dtype.kind not in "iub":
        raise FormatError(f"dictionary codes must be integers, found dtype {codes.dtype}")
    missing = np.zeros(codes.shape, np.bool_) if dictionary.fill is None else np.asarray(codes == dictionary.fill)
    if dictionary.plain:
        return missing
    wrong = ~missing & ((codes < 0) | (codes >= len(dictionary.categories)))
    if wrong.any():
        raise FormatError(f"code {codes[wrong].flat[0]} has no category, there are only {len(dictionary.categories)}")
    return missing


def decodes_exactly(codes: Array, dictionary: Dictionary) -> bool:
    """Whether `decode_categories` can express, for integers, both their values and which are missing."""
    if dictionary.fill is None or dictionary.categories.dtype.kind not in "iu":
        return True
    if dictionary.plain:
        return float64_holds(codes[codes != dictionary.fill])
    return dictionary.dtype.kind == "f" or not (codes == dictionary.fill).any()


def decode_links(payload: Buffer, coding: LinkCoding) -> IntArray:
    """Decode the records of one cell, with the order of endpoints restored (spec 0.9, 7.2).

    Returns
    -------
    (M, 2, L) int64: for each record and endpoint the slot (0 = the cell's chunk, k = the chunk at the segment's k-th
    offset) and the row in that chunk.

    Raises
    ------
    FormatError
        If the payload is not a whole number of records, or its groups or permutations are impossible.
    """
    slots, rows, _ = decode_link_run([payload], coding)
    return np.stack([np.broadcast_to(slots, rows.shape), rows], axis=1)


def decode_link_run(payloads: Sequence[Buffer], coding: LinkCoding) -> tuple[IntArray, IntArray, IntArray]:
    """Decode the records of several cells, one after another, like `decode_links`.

    Returns
    -------
    slots, rows, counts
        (M, L), or (1, L) if they are the same for all records; (M, L); and (cells,) records of each.
    """
    columns = coding.width + coding.permuted
    nbytes = columns * coding.dtype.itemsize
    if coding.grouped:
        payloads = [_ungroup(payload, nbytes) for payload in payloads]
    counts = np.empty(len(payloads), np.int64)
    for cell, size in enumerate(map(len, payloads)):
        counts[cell], rest = divmod(size, nbytes)
        if rest:
            raise FormatError(f"{size} bytes are not a whole number of rows of {nbytes} bytes")
    rows = decode_rows(join_payloads(payloads), coding.dtype, (columns,)).astype(np.int64, copy=False)
    slots, found = np.arange(coding.width)[None], rows
    if coding.permuted:
        slots = _slots(rows[:, 0], coding.width)
        found = rows.reshape(-1).take(np.arange(1, columns * len(rows), columns)[:, None] + slots)
    if coding.reversed:
        slots, found = slots[:, ::-1], found[:, ::-1]
    return slots, found, counts


def _ungroup(payload: Buffer, record_nbytes: int) -> Buffer:
    """Check and strip the header ``i64 G | i64 byte_offset[G]`` of a self-describing blob."""
    view = memoryview(payload)
    if view[:16] == ONE_GROUP and (len(view) - 16) % record_nbytes == 0:
        return view[16:]
    count = int(np.frombuffer(view[:8], "<i8")[0]) if len(view) >= 8 else -1
    if count < 0 or len(view) < 8 * (1 + count):
        raise FormatError(f"a link blob of {len(view)} bytes states {count} groups")
    data = view[8 * (1 + count) :]
    ends = np.append(np.frombuffer(view, "<i8", count, 8), len(data))
    sizes = np.diff(ends)
    if (count == 0 and len(data)) or (count and ends[0] != 0) or (sizes < 0).any() or (sizes % record_nbytes).any():
        raise FormatError(f"a link blob of {len(view)} bytes has group offsets {ends[:5].tolist()}")
    return data


def _slots(codes: IntArray, width: int) -> IntArray:
    """(M, width) slot of each endpoint, from Lehmer codes (spec 0.9, 7.2)."""
    wrong = codes.view(np.uint64) >= math.factorial(width)  # negative numbers count as large
    if wrong.any():
        raise FormatError(f"permutation code {int(codes[wrong][0])} for {width} endpoints")
    if width <= MAX_TABLE_WIDTH:
        return _table(width).take(codes, axis=0)
    return _from_codes(codes, width)


@cache
def _table(width: int) -> IntArray:
    return _from_codes(np.arange(math.factorial(width)), width)


def _from_codes(codes: IntArray, width: int) -> IntArray:
    sigma = np.empty((len(codes), width), np.int64)
    unused = np.tile(np.arange(width), (len(codes), 1))
    digits, rest = np.empty_like(sigma), codes
    for base in range(1, width + 1):
        rest, digits[:, width - base] = np.divmod(rest, base)
    for i, digit in enumerate(digits.T):
        sigma[:, i] = np.take_along_axis(unused, digit[:, None], 1)[:, 0]
        keep = np.arange(unused.shape[1]) != digit[:, None]
        unused = unused[keep].reshape(len(codes), width - 1 - i)
    return np.argsort(sigma, axis=1)  # stored[k] = given[sigma[k]]: the given endpoint number sigma[k] lies at slot k


# Text and other categories to codes: the writing half of `format.vectors.decode_categories` (spec 0.9, 6).

MISSING = -1


def encode_categories(values: Array) -> tuple[Array, Dictionary]:
    """Codes of values, and their categories, sorted.

    Parameters
    ----------
    values
        (N,) text, in which None and NaN are missing if the dtype is object; or a masked array of anything.

    Returns
    -------
    codes
        (N,) in the smallest unsigned dtype, or a signed one if values are missing.

    Raises
    ------
    SelectionError
        If a value is neither text nor missing.
    """
    if isinstance(values, np.ma.MaskedArray):
        values, missing = np.asarray(values.data), np.ma.getmaskarray(values)
    else:
        values, missing = parse_text(values)
    categories, inverse = np.unique(values[~missing], return_inverse=True)
    if missing.any():
        codes = np.full(values.shape, MISSING, code_dtype(len(categories), missing=True))
        codes[~missing] = inverse
        return codes, Dictionary(categories=categories, fill=MISSING)
    return inverse.astype(code_dtype(len(categories), missing=False)), Dictionary(categories=categories)


def encode_integers(values: np.ma.MaskedArray[Any, Any]) -> tuple[Array, Dictionary | None]:
    """Integers with `missing_integer` in place of masked ones, and that number; None if none is masked.

    Raises
    ------
    SelectionError
        If that number also occurs as a value.
    """
    missing, stored = np.ma.getmaskarray(values), np.asarray(values.data)
    if not missing.any():
        return stored, None
    fill = missing_integer(stored.dtype)
    if (stored[~missing] == fill).any():
        raise SelectionError(taken(stored.dtype))
    return np.where(missing, stored.dtype.type(fill), stored), integers_with_missing(stored.dtype)


def taken(dtype: np.dtype[Any]) -> str:
    """What is wrong with integers if some are missing, but the number for missing also occurs as a value."""
    return (
        f"it has missing values, which {dtype.name} stores as {missing_integer(dtype)}, but it also has that number: "
        "choose a wider dtype"
    )


def parse_text(values: Array) -> tuple[Array, BoolArray]:
    """Text as ``<U..``, ``""`` where missing; and the mask of missing values.

    Raises
    ------
    SelectionError
        If a value is neither text nor missing.
    """
    if values.dtype.kind == "U":
        return values, np.zeros(values.shape, np.bool_)
    items = values.astype(object).reshape(-1)
    missing = np.asarray(items == None, np.bool_)  # noqa: E711  elementwise
    if set(map(type, items)) - {str, type(None)}:
        missing = np.asarray([_is_missing(value) for value in items], np.bool_)
        wrong = next((value for value in items[~missing] if not isinstance(value, str)), None)
        if wrong is not None:
            kind = type(wrong).__name__
            raise SelectionError(f"values must be numbers of one dtype or all text, found {wrong!r} of type {kind}")
    text = np.where(missing, "", items).astype(np.str_)
    return text.reshape(values.shape), missing.reshape(values.shape)


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def code_dtype(categories: int, *, missing: bool) -> np.dtype[Any]:
    """Smallest dtype for the codes of a number of categories."""
    if missing:
        return next(np.dtype(f"i{size}") for size in (1, 2, 4, 8) if categories <= 2 ** (8 * size - 1))
    return next(np.dtype(f"u{size}") for size in (1, 2, 4, 8) if categories <= 2 ** (8 * size))


def dictionary_attributes(dictionary: Dictionary) -> Json:
    """Attributes of an array of codes, as `format.metadata.parse_dictionary` reads them."""
    if dictionary.plain:
        return {"_FillValue": dictionary.fill}
    found: Json = {"encoding": "dictionary", "categories": dictionary.categories.tolist(), "ordered": False}
    return found if dictionary.fill is None else {**found, "_FillValue": dictionary.fill}
