"""Images of rows counted on a grid, as Dask arrays."""

from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.core import flatten
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.graph.array import make_array
from zarr_vectors_lazy.graph.layers import GraphNode, Key, List, RecipeLayer, Task, TaskRef, layer_over
from zarr_vectors_lazy.kernels.grid import Binned, Grid, bin_rows, dense_grid, merge_binned

MERGED = 16  # parts that one task adds up


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BinRecipe:
    """Makes the tasks that bin rows, one a block."""

    grid: Grid
    vertices: tuple[Key, ...]
    values: tuple[Key, ...] | None

    def task(self, key: Key, block: int) -> GraphNode:
        """Task of one block."""
        values = None if self.values is None else TaskRef(self.values[block])
        return Task(key, bin_rows, self.grid, TaskRef(self.vertices[block]), values)


def binned_array(vertices: da.Array, values: da.Array | None, grid: Grid, *, strict: str = "") -> da.Array:
    """Counts of rows on a grid, or means of their values; one block.

    Parameters
    ----------
    vertices, values
        (N, D) and (N,), blocks aligned along the rows.
    strict
        What is to be said in the error where a row lies outside the grid; empty to leave such rows out.
    """
    arrays = [vertices] if values is None else [vertices, values]
    keys = [tuple(flatten(array.__dask_keys__())) for array in arrays]
    name = f"zv-bins-{tokenize(*(array.name for array in arrays), grid.columns, grid.lower, grid.upper, grid.edges)}"
    recipe = BinRecipe(grid=grid, vertices=keys[0], values=keys[1] if values is not None else None)
    below = HighLevelGraph.merge(*(array.__dask_graph__() for array in arrays))
    graph = layer_over(f"{name}-parts", RecipeLayer(f"{name}-parts", recipe, len(keys[0])), [below])
    last = (name, *(0,) * len(grid.shape))
    tasks, root = _tree(f"{name}-sums", [(f"{name}-parts", block) for block in range(len(keys[0]))])
    tasks[last] = Task(last, _finish, grid, TaskRef(root), values is not None, strict)
    graph = layer_over(name, MaterializedLayer(tasks), [graph])
    dtype = np.dtype(np.int64 if values is None else np.float64)
    return make_array(graph, name, [grid.shape[0]], grid.shape[1:], dtype)


def _tree(name: str, keys: list[Key]) -> tuple[dict[Key, GraphNode], Key]:
    """Tasks that merge the values of keys, a few at a time, and the key of the last."""
    tasks: dict[Key, GraphNode] = {}
    depth = 0
    while depth == 0 or len(keys) > 1:
        groups = [keys[start : start + MERGED] for start in range(0, len(keys), MERGED)]
        keys = [(name, depth, number) for number in range(len(groups))]
        for key, group in zip(keys, groups, strict=True):
            tasks[key] = Task(key, merge_binned, List(*map(TaskRef, group)))
        depth += 1
    return tasks, keys[0]


def _finish(grid: Grid, binned: Binned, mean: bool, strict: str) -> np.ndarray[Any, Any]:
    if strict and binned.outside:
        raise FormatError(f"{binned.outside} vertices lie outside {strict}")
    return dense_grid(grid, binned, mean=mean)
