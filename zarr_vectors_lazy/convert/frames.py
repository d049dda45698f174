"""Columns of data frames, and ragged arrays as awkward arrays."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import dask
import numpy as np

from zarr_vectors_lazy.errors import NotFoundError, optional
from zarr_vectors_lazy.format.vectors import missing_codes
from zarr_vectors_lazy.model.arrays import Dictionary
from zarr_vectors_lazy.plan.selection import OBJECT_ID, column_names
from zarr_vectors_lazy.read.columns import attribute_array, coding_of, column_of, has_holes, vertices_array
from zarr_vectors_lazy.read.paths import owners_array
from zarr_vectors_lazy.read.view import LevelView
from zarr_vectors_lazy.types import IntArray, Vertices

# Columns of the data frames of a level, and the pandas frame of one block.

OWNERS = "/object_id"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrameColumn:
    """One column of a level's data frame.

    Parameters
    ----------
    name
        Name of the column.
    attribute
        Its vertex attribute; None for a coordinate, and for the object of each vertex.
    part
        Column of the array; None if the array has only one.
    dtype
        Stored dtype; that of the codes if there are categories.
    categories
        Categories of a dictionary-encoded attribute.
    """

    name: str
    attribute: str | None
    part: int | None
    dtype: np.dtype[Any]
    categories: Dictionary | None = None

    @property
    def source(self) -> str | None:
        """Name of its attribute; None for positions, and for objects a name that no attribute has."""
        return OWNERS if self.attribute is None and self.part is None else self.attribute

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return ("FrameColumn", self.name, self.attribute, self.part, str(self.dtype))


def frame_columns(
    view: LevelView, attributes: Collection[str] | None, *, taken: Collection[str] | None = None
) -> list[FrameColumn]:
    """Columns by axis name, then of attributes named by `column_names`, then ``object_id`` if there are objects.

    Dictionary-encoded attributes are categories.

    Parameters
    ----------
    attributes
        Names of the attributes to include, among them possibly ``object_id``; None for all, and this.
    taken
        Names that no attribute may have; None for those of the axes, and ``object_id`` if there are objects.

    Raises
    ------
    NotFoundError
        If there is no such attribute.
    """
    attributes = [attributes] if isinstance(attributes, str) else attributes
    axes, known = view.data.store.axes, _Known(view)
    objects = (OBJECT_ID,) if view.data.object_index is not None else ()
    asked = bool(objects) and (attributes is None or OBJECT_ID in attributes)
    wanted = list(view.data.attribute_names if attributes is None else attributes)
    wanted = [name for name in wanted if name not in objects or name in known]
    for name in wanted:
        if name not in known:
            raise NotFoundError.among("attribute", name, view.data.attribute_names, where=view.data.url)
    parts = {name: _attribute_column(view, name) for name in wanted}
    widths = {name: int(np.prod(shape)) if shape else None for name, (shape, _) in parts.items()}
    names = column_names(widths, (*axes, *objects) if taken is None else taken, known)
    dtype = view.data.vertices.spec.dtype
    found = [FrameColumn(name=axis, attribute=None, part=d, dtype=dtype) for d, axis in enumerate(axes)]
    for name in wanted:
        column = parts[name][1]
        if widths[name] is None:
            found.append(replace(column, name=names[name][0]))
        else:
            found += [replace(column, name=label, part=part) for part, label in enumerate(names[name])]
    if asked:
        found.append(FrameColumn(name=OBJECT_ID, attribute=None, part=None, dtype=np.dtype(np.int64)))
    return found


@dataclass(frozen=True)
class _Known:
    """Names of a level's attributes; only those that are requested are looked up."""

    view: LevelView

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.view.data.has_attribute(name)


def _attribute_column(view: LevelView, name: str) -> tuple[tuple[int, ...], FrameColumn]:
    """Shape of a row of an attribute, and its column without name and part."""
    column, array = column_of(view, name)
    dictionary = coding_of(view, name)
    if dictionary is not None and dictionary.fill is None and array is not None and has_holes(view, array):
        dictionary = None
    if dictionary is not None:
        column, _ = column_of(view, name, decode=False)
    found = FrameColumn(name=name, attribute=name, part=None, dtype=column.dtype, categories=dictionary)
    return column.row_shape, found


def source_arrays(view: LevelView, columns: Sequence[FrameColumn]) -> dict[str | None, Any]:
    """Dask arrays from which columns are made, by `FrameColumn.source`. No others are read."""
    return {column.source: _array(view, column) for column in {column.source: column for column in columns}.values()}


def _array(view: LevelView, column: FrameColumn) -> Any:
    if column.attribute is not None:
        return attribute_array(view, column.attribute, decode=column.categories is None)
    return owners_array(view) if column.part is None else vertices_array(view)


def read_frame(columns: Sequence[FrameColumn], view: LevelView) -> tuple[Any, Any]:
    """Pandas frame of the selected rows of a view, and their positions."""
    arrays = source_arrays(view, columns)
    blocks = dict(zip(arrays, dask.compute(*arrays.values()), strict=True))
    return make_frame(columns, None, *blocks.values()), blocks[None]


def make_frame(columns: Sequence[FrameColumn], start: int | None, *blocks: np.ndarray[Any, Any]) -> Any:
    """Pandas frame of one block.

    Parameters
    ----------
    columns
        Its columns.
    start
        First number of its index; None for 0.
    *blocks
        Values, in the order in which the columns name their attributes; without columns, anything as long as the frame.
    """
    import pandas as pd  # noqa: PLC0415  optional

    values = dict(zip(dict.fromkeys(column.source for column in columns), blocks, strict=bool(columns)))
    length = len(blocks[0]) if blocks else 0
    index = pd.RangeIndex(start or 0, (start or 0) + length)
    series = {column.name: _series(column, values[column.source]) for column in columns}
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


# Ragged arrays as awkward arrays.


def to_awkward(vertices: Vertices, offsets: IntArray, attributes: Mapping[str, np.ndarray[Any, Any]]) -> Any:
    """Awkward array of objects: of their vertices, or of records of vertices and attributes.

    Parameters
    ----------
    vertices
        (M, D).
    offsets
        (O + 1,).
    attributes
        (M,) or (M, C) by name.

    Raises
    ------
    ImportError
        If awkward is not installed.
    """
    awkward = optional("awkward", "to_awkward() needs awkward", "formats")
    inner = awkward.from_numpy(np.asarray(vertices), regulararray=True)
    if attributes:
        columns = {
            name: awkward.from_numpy(np.asarray(values), regulararray=True) for name, values in attributes.items()
        }
        inner = awkward.zip({"vertices": inner, **columns}, depth_limit=1)
    return awkward.Array(awkward.contents.ListOffsetArray(awkward.index.Index64(offsets), inner.layout))
