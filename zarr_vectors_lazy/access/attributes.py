"""What tasks run to give attribute values of one chunk."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zarr_vectors_lazy.access.level import Source
from zarr_vectors_lazy.access.read import (
    placed,
    read_attribute,
    read_categories,
    read_row_count,
    read_row_run,
    read_text,
    refuse_floats,
)
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.limits import check_array
from zarr_vectors_lazy.model.arrays import CellSpec, float64_holds
from zarr_vectors_lazy.types import ChunkCoords, IntArray, Raw


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Column:
    """How one attribute is read; shared by its tasks.

    Parameters
    ----------
    source
        The level.
    spec
        How cells are read; None for the attribute that chunks are cut by.
    vertices
        How the cells of the positions are read: they tell how many rows a chunk without values has.
    row_shape
        Shape of one row.
    dtype
        Of the values given.
    decode
        Whether dictionary codes become values.
    constants
        Values by first chunk component, for the attribute that chunks are cut by.
    fill
        Of codes: that of chunks without values; None: they have NaN.
    loose
        Whether cells have text of widths of their own (spec 0.9, 14 no. 14): only their rows tell.
    checked
        Whether cells must have as many rows as their chunk has vertices, because their dtype is not the store's word.
    """

    source: Source
    spec: CellSpec | None
    vertices: CellSpec
    row_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    decode: bool
    constants: np.ndarray[Any, Any] | None = None
    fill: int | None = None
    loose: bool = False
    checked: bool = False

    @property
    def sized(self) -> bool:
        """Whether a cell is read with the number of rows of its chunk."""
        return self.loose or self.checked


def column_values(
    column: Column, coord: tuple[int, ...], count: int | None, listed: bool, raw: Raw, head: Raw
) -> np.ndarray[Any, Any]:
    """Values of all rows of one chunk; (N, *row_shape).

    Parameters
    ----------
    count
        Rows that the metadata promise, or None.
    listed
        Whether the chunk has a cell; if not, every value is missing, or all are the chunk's constant.
    raw
        The encoded cell.
    head
        Head of the positions' cell, where the number of rows is needed and not promised.
    """
    if column.spec is None or not listed or column.sized:
        n = count if count is not None else read_row_count(column.source, column.vertices, coord, head)
        if column.spec is None or not listed:
            return _absent(column, coord, n)
        if column.loose:
            values = read_text(column.source, column.spec, coord, raw, (n, *column.row_shape))
            return values.astype(np.promote_types(values.dtype, column.dtype), copy=False)
        count = n
    values = read_attribute(column.source, column.spec, coord, raw, column.row_shape, count)
    if column.decode and column.spec.dictionary is not None:
        values = read_categories(column.source, column.spec, coord, values)
    if column.dtype.kind == "f" and not float64_holds(values):
        refuse_floats(column.source, column.spec)
    return values.astype(column.dtype, copy=False)


def _absent(column: Column, coord: tuple[int, ...], n: int) -> np.ndarray[Any, Any]:
    if column.constants is not None:
        return np.full(n, column.constants[coord[0]], column.dtype)
    with placed(column.source, column.spec or column.vertices, coord):
        check_array(n * math.prod(column.row_shape) * column.dtype.itemsize, f"{n} missing values")
    shape = (n, *column.row_shape)
    if column.fill is not None:
        return np.full(shape, column.fill, column.dtype)
    return np.full(shape, missing_value(column.dtype), nullable(column.dtype))


def column_run(
    column: Column, coords: ChunkCoords, starts: IntArray, present: Sequence[bool], raws: Sequence[Raw]
) -> np.ndarray[Any, Any]:
    """Values of all rows of several chunks, one after another; (N, *row_shape).

    Parameters
    ----------
    coords, starts
        (c, K) the chunks, and (c + 1,) where each one's rows begin.
    present, raws
        Which chunks have a cell, and these cells, encoded.
    """
    counts = np.diff(starts)
    spec = column.spec
    plain = spec is not None and spec.dtype == column.dtype and spec.dictionary is None and not column.loose
    if spec is not None and plain and all(present):
        try:
            values, _ = read_row_run(column.source, spec, coords, raws, column.row_shape, counts)
        except FormatError:  # what follows says of which chunk, and why
            pass
        else:
            return values
    cells = iter(raws)
    parts = [
        column_values(column, tuple(coord), count, listed, next(cells) if listed else None, None)
        for coord, count, listed in zip(coords.tolist(), counts.tolist(), present, strict=True)
    ]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def nullable(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Dtype that also holds missing values."""
    return np.dtype(np.float64) if dtype.kind in "iub" else dtype


def missing_value(dtype: np.dtype[Any]) -> Any:
    """What is missing from an array of a `nullable` dtype: NaN, NaT or ``""``."""
    return "" if dtype.kind == "U" else np.array("NaT", dtype)[()] if dtype.kind in "mM" else np.nan
