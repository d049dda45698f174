"""Levels as Dask data frames: a partition a block, a column an axis or an attribute, only the columns that are used."""

from collections.abc import Collection
from typing import Any

from zarr_vectors_lazy.convert.frame_columns import frame_columns
from zarr_vectors_lazy.graph.view import LevelView


def dataframe(view: LevelView, attributes: Collection[str] | None) -> Any:
    """Dask data frame of a view; see `frame_columns`.

    Raises
    ------
    ImportError
        If ``dask.dataframe`` is not installed.
    """
    try:
        from zarr_vectors_lazy.convert.frame_expression import level_frame  # noqa: PLC0415  optional
    except ImportError as error:
        raise ImportError(f"data frames need: pip install 'zarr-vectors-lazy[dataframe]' ({error})") from error
    return level_frame(view, frame_columns(view, attributes))
