"""Points in a data frame, Dask's or pandas': some columns are the axes, one the objects, all others attributes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from zarr_vectors_lazy.access.write.intake import Block
from zarr_vectors_lazy.access.write.job import Values
from zarr_vectors_lazy.api.write import args
from zarr_vectors_lazy.api.write.blocks import read_points
from zarr_vectors_lazy.api.write.out_of_core import Source
from zarr_vectors_lazy.api.write.values import as_array, attribute_values, by_labels, by_name
from zarr_vectors_lazy.errors import NotFoundError, SelectionError, listed
from zarr_vectors_lazy.graph.write.spilled import Blocks, optimized

NAN = float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameColumns:
    """What the columns of a data frame are.

    Parameters
    ----------
    axes, attributes
        Names of columns.
    names
        Of the axes.
    object_ids
        Name of a column, or None where points have no objects.
    """

    axes: tuple[str, ...]
    names: tuple[str, ...]
    attributes: tuple[str, ...]
    object_ids: str | None

    @classmethod
    def of(cls, frame: Any, axes: Sequence[str] | None, object_ids: str | None) -> "FrameColumns":
        """Tell them by the arguments of a writer; without ``axes`` those of x, y, z, w that are there, in that order.

        Capitals X, Y, Z are axes x, y, z, where there are no such columns too.

        Raises
        ------
        NotFoundError
            If a column named is not there.
        SelectionError
            If there are not two of x, y, z, w, a name is there twice, or a column's name is no attribute's.
        """
        columns = list(frame.columns)
        twice = [name for at, name in enumerate(columns) if name in columns[:at]]
        if twice:
            raise SelectionError(f"columns {listed(twice)} are there more than once")
        named, names = (tuple(axes), tuple(axes)) if axes is not None else args.axes_among(columns)
        for name in [*named, *([] if object_ids is None else [object_ids])]:
            if name not in columns:
                raise NotFoundError.among("column", name, columns)
        others = tuple(name for name in columns if name not in named and name != object_ids)
        for name in others:
            args.check_name(name, "columns")
        return cls(axes=named, names=names, attributes=others, object_ids=object_ids)

    def take(self, frame: Any) -> tuple[Values, dict[str, Values], Values | None]:
        """Positions, attributes and object ids of a pandas frame."""
        positions = np.stack([as_array(frame[name], _label(name)) for name in self.axes], axis=1)
        owners = None if self.object_ids is None else as_array(frame[self.object_ids], _label(self.object_ids))
        return positions, {name: attribute_values(frame[name], _label(name)) for name in self.attributes}, owners


def take_frame(
    frame: Any, axes: Sequence[str] | None, attributes: Mapping[str, Any] | None, object_ids: Any
) -> tuple[tuple[str, ...], Values, dict[str, Any], Any]:
    """Axes, positions, attributes and object ids of a pandas frame, with what is given beside it.

    Raises
    ------
    NotFoundError, SelectionError
        As `FrameColumns.of`; or an attribute is given beside a column of its name.
    """
    columns = FrameColumns.of(frame, axes, object_ids if isinstance(object_ids, str) else None)
    positions, found, owners = columns.take(frame)
    labels = getattr(frame, "index", None)
    beside = {
        name: value if labels is None else by_labels(value, labels, f"vertex_attributes[{name!r}]", "frame's index")
        for name, value in by_name(attributes, "vertex_attributes").items()
    }
    both = [name for name in beside if name in found]
    if both:
        raise SelectionError(f"vertex_attributes {listed(both)} are columns of the data frame too")
    if owners is None and labels is not None:
        owners = by_labels(object_ids, labels, "object_ids", "frame's index")
    return columns.names, positions, {**found, **beside}, object_ids if owners is None else owners


def frame_source(frame: Any, columns: FrameColumns, dtype: Any) -> Source:
    """Source of points in a Dask data frame."""
    (computed,) = optimized(frame)
    read = partial(read_frame, columns, dtype)
    keys = [(key,) for key in computed.__dask_keys__()]
    return Source(blocks=Blocks(keys, [computed]), read=read, sample=read(frame._meta), nbytes=NAN)


def read_frame(columns: FrameColumns, dtype: Any, frame: Any) -> Block:
    """Block of points from a pandas frame."""
    positions, attributes, owners = columns.take(frame)
    parts = [*attributes.values(), *([] if owners is None else [owners])]
    return read_points(columns.attributes, dtype, owners is not None, positions, *parts)


def _label(name: str) -> str:
    return f"column {name!r}"
