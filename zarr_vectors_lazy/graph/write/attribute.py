"""A new vertex attribute as a Dask graph, each chunk written by one task."""

from typing import Any

import dask.array as da
import numpy as np
from dask.delayed import delayed

from zarr_vectors_lazy.access.chain import ChainData
from zarr_vectors_lazy.access.sizes import read_row_counts
from zarr_vectors_lazy.access.upkeep.index import open_to_change
from zarr_vectors_lazy.access.write.attribute import (
    NewAttribute,
    begin_attribute,
    find_categories,
    finish_attribute,
    join_categories,
    write_values,
)
from zarr_vectors_lazy.access.write.session import new_write_id
from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.format.writing import array_form, is_number, is_time
from zarr_vectors_lazy.graph.batches import chunk_runs
from zarr_vectors_lazy.graph.view import LevelView
from zarr_vectors_lazy.kernels.groups import Rule, check_rule
from zarr_vectors_lazy.types import IntArray

TEXT = "UTO"  # kinds of dtypes whose values go through a dictionary


def add_attribute(view: LevelView, name: str, values: Any, rule: Rule | None = None) -> Any:
    """Delayed number of the chunks of a level that were given values of a new attribute.

    Raises
    ------
    SelectionError
        If the level is a selection, has such an attribute, or the values are not aligned with its vertices, or cannot
        be joined by the rule.
    FormatError
        If the store is only read.
    """
    opened = open_to_change(view.data.tree.spec)
    if isinstance(view.data, ChainData):
        raise SelectionError("the level refines others: an attribute is written to what it stores itself, level.own")
    data = opened.levels[view.data.meta.index]
    if view.rows is not None or view.filters.any():
        raise SelectionError("an attribute is written to a whole level, not to a selection; save the selection first")
    if name in data.attribute_names:
        raise SelectionError(f"the level has an attribute {name!r} already")
    node, root = data.tree.node(data.vertices.spec.path), opened.tree.node("")
    assert node is not None
    assert root is not None
    coords = data.vertices.chunks.coords
    counts = view.sizes if view.sizes is not None else read_row_counts(data, None)
    array = _aligned(values, counts)
    masked = isinstance(array._meta, np.ma.MaskedArray) and array.dtype.kind in "iub"
    text = array.dtype.kind in TEXT or (masked and array.dtype.kind == "b")
    if not (text and array.ndim == 1) and not is_number(array.dtype) and not is_time(array.dtype):
        raise SelectionError(f"values must be numbers, truth values, times or one text each, found {array.dtype}")
    if rule is not None:
        check_rule(rule, array.dtype, "aggregate", coded=text or masked)
    grid, encoding = array_form(node)
    new = NewAttribute(
        spec=opened.tree.spec,
        level=data.meta.index,
        name=name,
        dtype=array.dtype,
        row_shape=array.shape[1:],
        grid=grid,
        encoding=encoding,
        rule=rule,
        beside=data.attribute_names,
    )
    blocks = array.to_delayed().reshape(-1).tolist() if len(counts) else []
    dictionary = None
    if text or masked:
        find = delayed(find_categories, pure=True)
        dictionary = delayed(join_categories, pure=True)([find(block) for block in blocks], array.dtype)
    shard = None
    if encoding.shard_shape is not None and len(coords):
        index = (coords - np.asarray(grid.origin)) // np.asarray(encoding.shard_shape)
        shard = np.unique(index, axis=0, return_inverse=True)[1].reshape(-1)
    begun = delayed(begin_attribute, pure=False)(new, new_write_id())
    write = delayed(write_values, pure=False)
    written = [
        write(new, coords[run], counts[run], [blocks[i] for i in run.tolist()], dictionary, begun)
        for run in chunk_runs(view, [("values", data.vertices)], shard)
    ]
    return delayed(finish_attribute, pure=False)(new, written, dictionary, begun)


def _aligned(values: Any, counts: IntArray) -> da.Array:
    """Values with a block a chunk."""
    array = values if isinstance(values, da.Array) else da.from_array(np.asanyarray(values), chunks=-1)
    if array.ndim not in (1, 2):
        raise SelectionError(f"values must be (N,) or (N, C), found {array.ndim} dimensions")
    if any(np.isnan(size) for size in array.chunks[0]):
        if array.numblocks[0] != len(counts):
            raise SelectionError(
                f"values of unknown chunk sizes must have a block for each of the {len(counts)} chunks, found "
                f"{array.numblocks[0]}; use level.compute_chunk_sizes()"
            )
        whole: da.Array = array if array.ndim == 1 else array.rechunk({1: -1})
        return whole
    if array.shape[0] != counts.sum():
        raise SelectionError(f"values have {array.shape[0]} rows, the level {int(counts.sum())} vertices")
    if not len(counts):
        return array
    chunks = (tuple(counts.tolist()), *((edge,) for edge in array.shape[1:]))
    cut: da.Array = array.rechunk(chunks)
    return cut
