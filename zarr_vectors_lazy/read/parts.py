"""A level in parts, and its rows counted on a grid."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeVar

import dask
import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.core import flatten
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.kernels.bins import Binned, Grid, bin_rows, dense_grid, merge_binned
from zarr_vectors_lazy.read.columns import attribute_array, vertices_array
from zarr_vectors_lazy.read.layers import (
    BlockTasks,
    GraphNode,
    Key,
    List,
    Per,
    Task,
    TaskRef,
    blocks_over,
    make_array,
    tasks_over,
)
from zarr_vectors_lazy.read.view import LevelView

# A level in parts: delayed values of its blocks, and its chunks one after another.

Part = dict[str, Any]
T = TypeVar("T")


def joined_part(names: tuple[str, ...], vertices: Any, *attributes: Any) -> Part:
    """Rows of a block: ``{"vertices": (n, D), "attributes": {name: (n,) or (n, C)}}``."""
    return {"vertices": vertices, "attributes": dict(zip(names, attributes, strict=True))}


def delayed_parts(view: LevelView) -> list[Delayed]:
    """One value a block, see `joined_part`; their graph is shared."""
    names = view.data.attribute_names
    arrays: list[da.Array] = [vertices_array(view), *(attribute_array(view, name) for name in names)]
    if not len(view):
        return []
    name = f"zv-part-{tokenize(*(array.name for array in arrays))}"
    below = HighLevelGraph.merge(*(array.__dask_graph__() for array in arrays))
    refs = tuple(Per([TaskRef(key) for key in flatten(array.__dask_keys__())]) for array in arrays)
    blocks = len(refs[0].values)
    graph = blocks_over(name, BlockTasks(joined_part, (names, *refs)), blocks, below)
    return [Delayed((name, block), graph, layer=name) for block in range(blocks)]


def iterate_chunks(view: LevelView, prefetch: int) -> Iterator[tuple[tuple[int, ...], Part]]:
    """Chunks in order, with their rows; at most ``prefetch`` are read ahead."""
    keys = (tuple(coord.tolist()) for coord in view.table.coords)
    return zip(keys, _ahead(len(view), prefetch, lambda number: read_chunk(view, number)), strict=True)


def iterate_blocks(blocks: LevelView, prefetch: int, read: Callable[[LevelView], T]) -> Iterator[T]:
    """What ``read`` makes of a view's blocks, in order; at most ``prefetch`` are read ahead."""
    bounds = blocks.bounds.tolist()
    return _ahead(len(bounds) - 1, prefetch, lambda block: read(blocks.span(*bounds[block : block + 2])))


def _ahead(count: int, prefetch: int, make: Callable[[int], T]) -> Iterator[T]:
    """What is made of numbers, in order, at most ``prefetch`` of them beforehand."""
    if not prefetch:
        yield from map(make, range(count))
        return
    ahead: deque[Future[T]] = deque()
    with ThreadPoolExecutor(prefetch, "zarr-vectors-prefetch") as threads:
        numbers = iter(range(count))

        def start() -> None:
            number = next(numbers, None)
            if number is not None:  # the context says which client or scheduler is active
                ahead.append(threads.submit(copy_context().run, make, number))

        try:
            for _ in range(prefetch):
                start()
            for _ in range(count):
                part = ahead.popleft().result()
                start()
                yield part
        finally:
            for future in ahead:
                future.cancel()


def read_chunk(view: LevelView, number: int) -> Part:
    """Selected rows of one chunk."""
    one = view.chunk(number)
    names = view.data.attribute_names
    arrays = dask.compute(vertices_array(one), *(attribute_array(one, name) for name in names))
    return joined_part(names, *map(np.asarray, arrays))


# Images of rows counted on a grid, as Dask arrays.

MERGED = 16  # parts that one task adds up


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
    refs = [Per([TaskRef(key) for key in flatten(array.__dask_keys__())]) for array in arrays]
    name = f"zv-bins-{tokenize(*(array.name for array in arrays), grid.columns, grid.lower, grid.upper, grid.edges)}"
    recipe, parts, blocks = BlockTasks(bin_rows, (grid, *refs)), f"{name}-parts", len(refs[0].values)
    graph = blocks_over(parts, recipe, blocks, *(array.dask for array in arrays))
    last = (name, *(0,) * len(grid.shape))
    tasks, root = _tree(f"{name}-sums", [(parts, block) for block in range(blocks)])
    tasks[last] = Task(last, _finish, grid, TaskRef(root), values is not None, strict)
    graph = tasks_over(name, tasks, graph)
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
