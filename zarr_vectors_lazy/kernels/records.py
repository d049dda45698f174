"""Rows as records of one packed dtype, and numbers that look random."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from zarr_vectors_lazy.types import ChunkCoords, IntArray

# Rows as records of one packed dtype: what travels from an input block to the task that writes their chunk.

Records: TypeAlias = np.ndarray[Any, np.dtype[np.void]]
WORD = 8
BLOCK_BITS = 40  # a row number is the number of its input block, then its row in it: ascending as the input is
GAP = "gap"  # field of a link that says that it has no values
FIELDS = ("number", "owner", "along", "positions")


def attribute_field(name: str) -> str:
    """Name of the field of an attribute, which is none of `FIELDS`."""
    return f"attribute:{name}"


def record_dtype(
    positions: tuple[np.dtype[Any], int],
    attributes: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]],
    *,
    owned: bool,
    tracked: bool = False,
) -> np.dtype[np.void]:
    """Packed dtype of a row, a whole number of 8-byte words.

    Parameters
    ----------
    positions
        Stored dtype and number of axes.
    attributes
        Dtype and row shape by name.
    owned
        Whether rows belong to objects.
    tracked
        Whether rows come with their place along all objects.
    """
    fields: list[tuple[Any, ...]] = [("number", "<i8")]
    if owned:
        fields.append(("owner", "<i8"))
    if tracked:
        fields.append(("along", "<i8"))
    fields.append(("positions", positions[0], (positions[1],)))
    return _filled([*fields, *_attribute_fields(attributes)])


def link_dtype(
    width: int, attributes: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]], *, gaps: bool = False
) -> np.dtype[np.void]:
    """Packed dtype of a link of ``width`` ends, a whole number of 8-byte words; with `GAP` where values may miss."""
    gap = [(GAP, "?")] if gaps else []
    return _filled([("number", "<i8"), ("ends", "<i8", (width,)), *_attribute_fields(attributes), *gap])


def rename_rows(rows: IntArray, firsts: IntArray) -> IntArray:
    """Numbers of rows that are counted from block to block; ``firsts`` (B,) rows before each block."""
    block = np.searchsorted(firsts, rows, side="right") - 1
    found: IntArray = (block << BLOCK_BITS) + rows - firsts[block]
    return found


def _attribute_fields(attributes: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]) -> list[tuple[Any, ...]]:
    return [(attribute_field(name), dtype.newbyteorder("<"), shape) for name, (dtype, shape) in attributes.items()]


def _filled(fields: list[tuple[Any, ...]]) -> np.dtype[np.void]:
    free = -np.dtype(fields).itemsize % WORD
    return np.dtype([*fields, ("filling", "u1", (free,))] if free else fields)


def pack(dtype: np.dtype[np.void], columns: Mapping[str, np.ndarray[Any, Any]], rows: int) -> Records:
    """(rows,) records of columns by field."""
    out: Records = np.zeros(rows, dtype)
    for name, values in columns.items():
        out[name] = values
    return out


def row_numbers(block: int, rows: int) -> IntArray:
    """(rows,) numbers of the rows of an input block."""
    return (np.int64(block) << BLOCK_BITS) + np.arange(rows, dtype=np.int64)


def first_row_numbers(blocks: int) -> IntArray:
    """(blocks,) number of the first row of each input block."""
    found: IntArray = np.arange(blocks, dtype=np.int64) << BLOCK_BITS
    return found


def row_in_block(numbers: IntArray) -> IntArray:
    """Row in its input block of each row number."""
    found: IntArray = numbers & ((1 << BLOCK_BITS) - 1)
    return found


def block_of(numbers: IntArray) -> IntArray:
    """Input block of each row number."""
    found: IntArray = numbers >> BLOCK_BITS
    return found


def in_order(records: Records) -> Records:
    """Return the records by their number."""
    return records.take(np.argsort(records["number"], kind="stable"))


# Numbers that look random and depend on nothing but their key.

Hashes = npt.NDArray[np.uint64]
_MASK = 2**64 - 1


def hash_ids(seed: int, ids: IntArray) -> Hashes:
    """(n,) 64-bit hash of (seed, id)."""
    return _mix(np.uint64(_mix_one(seed)) ^ ids.astype(np.int64).view(np.uint64))


def hash_rows(seed: int, level: int, chunks: ChunkCoords, counts: IntArray) -> Hashes:
    """(N,) 64-bit hashes of (seed, level, chunk, row) of all rows of some chunks, one chunk after another.

    Parameters
    ----------
    chunks, counts
        (n, K) chunks, and rows of each.
    """
    state = np.full(len(chunks), _mix_one(seed) ^ (level & _MASK), np.uint64)
    for part in np.asarray(chunks, np.int64).view(np.uint64).T:
        state = _mix(state) ^ part
    rows = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return _mix(np.repeat(_mix(state), counts) ^ rows.astype(np.uint64))


def kept_ids(seed: int, ids: IntArray, keep: int) -> "npt.NDArray[np.bool_]":
    """(n,) whether an id is among the ``keep`` of smallest hash; ties by id."""
    order = np.lexsort((ids, hash_ids(seed, ids)))
    mask = np.zeros(len(ids), np.bool_)
    mask[order[:keep]] = True
    return mask


def _mix_one(value: int) -> int:
    return int(_mix(np.asarray([value & _MASK], np.uint64))[0])


def _mix(values: Hashes) -> Hashes:
    """Finalizer of splitmix64 (Steele, Lea, Flood 2014)."""
    with np.errstate(over="ignore"):
        values = values + np.uint64(0x9E3779B97F4A7C15)
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
