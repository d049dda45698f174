"""Dask arrays out of graphs, in the classic and in the expression mode of Dask."""

from collections.abc import Sequence
from typing import Any

import dask.array as da
import numpy as np
from dask.highlevelgraph import HighLevelGraph

NAN = float("nan")


def make_array(
    graph: HighLevelGraph,
    name: str,
    sizes: Sequence[float],
    row_shape: tuple[int, ...],
    dtype: np.dtype[Any],
    *,
    masked: bool = False,
) -> da.Array:
    """Array whose blocks are the keys ``(name, block, 0, ...)``.

    Parameters
    ----------
    graph
        Holds the layer ``name``.
    sizes
        Rows of each block, NaN where unknown.
    row_shape, dtype
        Of one row.
    masked
        Whether blocks may be masked arrays.
    """
    chunks = (tuple(sizes), *((edge,) for edge in row_shape))
    meta = np.empty((0,) * len(chunks), dtype)
    meta = np.ma.MaskedArray(meta) if masked else meta
    if getattr(da, "ARRAY_EXPR_ENABLED", False):
        from zarr_vectors_lazy.graph.expression import expression_array  # noqa: PLC0415  fails in the other mode

        return expression_array(graph, name, chunks, meta)
    return da.Array(graph, name, chunks, dtype=dtype, meta=meta)


def empty_array(row_shape: tuple[int, ...], dtype: np.dtype[Any]) -> da.Array:
    """Array without rows."""
    array: da.Array = da.from_array(np.empty((0, *row_shape), dtype), chunks=-1)
    return array
