"""A level in parts: delayed values of its blocks, and its chunks one after another."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, TypeVar

import dask
import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.core import flatten
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph

from zarr_vectors_lazy.graph.batches import batched
from zarr_vectors_lazy.graph.columns import attribute_array, vertices_array
from zarr_vectors_lazy.graph.layers import GraphNode, Key, RecipeLayer, Task, TaskRef, layer_over
from zarr_vectors_lazy.graph.view import LevelView

Part = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JoinRecipe:
    """Makes the tasks that put the arrays of a block together."""

    names: tuple[str, ...]
    keys: tuple[tuple[Key, ...], ...]

    def task(self, key: Key, block: int) -> GraphNode:
        """Task of one block."""
        return Task(key, joined_part, self.names, *(TaskRef(keys[block]) for keys in self.keys))


def joined_part(names: tuple[str, ...], vertices: Any, *attributes: Any) -> Part:
    """Rows of a block: ``{"vertices": (n, D), "attributes": {name: (n,) or (n, C)}}``."""
    return {"vertices": vertices, "attributes": dict(zip(names, attributes, strict=True))}


def delayed_parts(view: LevelView) -> list[Delayed]:
    """One value a block, see `joined_part`; their graph is shared."""
    names = view.data.attribute_names
    arrays: list[da.Array] = [vertices_array(view), *(attribute_array(view, name) for name in names)]
    if not len(view):
        return []
    keys = tuple(tuple(flatten(array.__dask_keys__())) for array in arrays)
    name = f"zv-part-{tokenize(*(array.name for array in arrays))}"
    below = HighLevelGraph.merge(*(array.__dask_graph__() for array in arrays))
    layer = RecipeLayer(name, JoinRecipe(names=names, keys=keys), len(keys[0]))
    graph = layer_over(name, layer, [below])
    return [Delayed((name, block), graph, layer=name) for block in range(len(keys[0]))]


def iterate_chunks(view: LevelView, prefetch: int) -> Iterator[tuple[tuple[int, ...], Part]]:
    """Chunks in order, with their rows; at most ``prefetch`` are read ahead."""
    keys = (tuple(coord.tolist()) for coord in view.table.coords)
    return zip(keys, _ahead(len(view), prefetch, lambda number: read_chunk(view, number)), strict=True)


def iterate_blocks(view: LevelView, prefetch: int, read: Callable[[LevelView], T]) -> Iterator[T]:
    """What ``read`` makes of blocks of many chunks, in order; at most ``prefetch`` are read ahead."""
    blocks = batched(view)
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
