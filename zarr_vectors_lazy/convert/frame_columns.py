"""Columns of the data frames of a level, and the pandas frame of one block."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import dask
import numpy as np

from zarr_vectors_lazy.errors import NotFoundError
from zarr_vectors_lazy.format.vectors import missing_codes
from zarr_vectors_lazy.graph.columns import attribute_array, vertices_array
from zarr_vectors_lazy.graph.values import coding_of, column_of, has_holes
from zarr_vectors_lazy.graph.view import LevelView
from zarr_vectors_lazy.model.arrays import CellArray, Dictionary


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrameColumn:
    """One column of a level's data frame.

    Parameters
    ----------
    name
        Of the column.
    attribute
        The vertex attribute that it is of; None for a coordinate.
    part
        Column of the array, None where the array has one.
    dtype
        Stored dtype; of codes where there are categories.
    categories
        Of dictionary-encoded attributes.
    """

    name: str
    attribute: str | None
    part: int | None
    dtype: np.dtype[Any]
    categories: Dictionary | None = None

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return ("FrameColumn", self.name, self.attribute, self.part, str(self.dtype))


def frame_columns(view: LevelView, attributes: Collection[str] | None) -> list[FrameColumn]:
    """Columns by axis name, then of attributes: ``name``, or ``name_0``, ``name_1``, ... where a vertex has several.

    An attribute of the name of an axis gets ``_attribute`` behind its own. Dictionary-encoded attributes are
    categories.

    Raises
    ------
    NotFoundError
        If there is no such attribute.
    """
    axes = view.data.store.axes
    found = [
        FrameColumn(name=axis, attribute=None, part=d, dtype=view.data.vertices.spec.dtype)
        for d, axis in enumerate(axes)
    ]
    for name in view.data.attribute_names if attributes is None else attributes:
        if not view.data.has_attribute(name):
            raise NotFoundError.among("attribute", name, view.data.attribute_names, where=view.data.url)
        found += _attribute_columns(view, name, f"{name}_attribute" if name in axes else name)
    return found


def _attribute_columns(view: LevelView, name: str, label: str) -> Iterator[FrameColumn]:
    column, array = column_of(view, name)
    dictionary = coding_of(view, name)
    if dictionary is not None and not _codes_tell(view, array, dictionary):
        dictionary = None
    if dictionary is not None:
        column, _ = column_of(view, name, decode=False)
    if not column.row_shape:
        yield FrameColumn(name=label, attribute=name, part=None, dtype=column.dtype, categories=dictionary)
    for part in range(int(np.prod(column.row_shape)) if column.row_shape else 0):
        yield FrameColumn(name=f"{label}_{part}", attribute=name, part=part, dtype=column.dtype, categories=dictionary)


def _codes_tell(view: LevelView, array: CellArray | None, dictionary: Dictionary) -> bool:
    """Whether codes are there, or can say that they are not, for every row."""
    return dictionary.fill is not None or array is None or not has_holes(view, array)


def source_arrays(view: LevelView, columns: Sequence[FrameColumn]) -> dict[str | None, Any]:
    """Dask arrays that columns are made of, by attribute; None for the positions. No others are read."""
    coded = {column.attribute: column.categories is not None for column in columns}
    return {
        name: vertices_array(view) if name is None else attribute_array(view, name, decode=not codes)
        for name, codes in coded.items()
    }


def read_frame(columns: Sequence[FrameColumn], view: LevelView, number: int) -> tuple[Any, Any]:
    """Pandas frame of the selected rows of one chunk, and their positions."""
    arrays = source_arrays(view.chunk(number), columns)
    blocks = dict(zip(arrays, dask.compute(*arrays.values()), strict=True))
    return make_frame(columns, None, None, *blocks.values()), blocks[None]


def make_frame(
    columns: Sequence[FrameColumn], start: int | None, rows: int | None, *blocks: np.ndarray[Any, Any]
) -> Any:
    """Pandas frame of one block.

    Parameters
    ----------
    columns
        What it has.
    start
        First number of its index; None: it begins at 0.
    rows
        Its length where there are no columns.
    *blocks
        Values, in the order in which the columns name their attributes.
    """
    import pandas as pd  # noqa: PLC0415  optional

    names = list(dict.fromkeys(column.attribute for column in columns))
    values = dict(zip(names, blocks, strict=True))
    length = len(blocks[0]) if blocks else rows or 0
    index = pd.RangeIndex(start or 0, (start or 0) + length)
    series = {column.name: _series(column, values[column.attribute]) for column in columns}
    return pd.DataFrame(series, index=index, columns=[column.name for column in columns])


def _series(column: FrameColumn, values: np.ndarray[Any, Any]) -> Any:
    import pandas as pd  # noqa: PLC0415  optional

    width = int(np.prod(values.shape[1:]))
    flat = values if column.part is None else values.reshape(len(values), width)[:, column.part]
    dictionary = column.categories
    if dictionary is None:
        return pd.array(flat, dtype="str") if flat.dtype.kind == "U" else flat
    missing = missing_codes(flat, dictionary)
    if dictionary.plain:
        return pd.arrays.IntegerArray(np.where(missing, flat.dtype.type(0), flat), missing)
    codes = np.where(missing, -1, flat.astype(np.int64))
    categories = dictionary.categories
    if categories.dtype.kind == "b":
        values = categories[np.where(missing, 0, codes)] if len(categories) else np.zeros(len(codes), np.bool_)
        return pd.arrays.BooleanArray(values, missing) if dictionary.fill is not None else values
    known = pd.Index(categories, dtype="str") if categories.dtype.kind == "U" else pd.Index(categories)
    return pd.Categorical.from_codes(codes, known)
