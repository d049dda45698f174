"""A level in parts: delayed values of its blocks, and its chunks one after another."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any

import dask
import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.core import flatten
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph

from zarr_vectors_lazy.graph.columns import attribute_array, vertices_array
from zarr_vectors_lazy.graph.layers import GraphNode, Key, RecipeLayer, Task, TaskRef, layer_over
from zarr_vectors_lazy.graph.view import LevelView

Part = dict[str, Any]


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


def iterate_chunks(
    view: LevelView, prefetch: int, read: Callable[[LevelView, int], Any] | None = None
) -> Iterator[tuple[tuple[int, ...], Any]]:
    """Chunks in order, with their rows, or what ``read`` makes of one; at most ``prefetch`` are read ahead."""
    make = read or read_chunk
    keys = (tuple(coord.tolist()) for coord in view.table.coords)
    if not prefetch:
        yield from ((key, make(view, number)) for number, key in enumerate(keys))
        return
    ahead: deque[Future[Any]] = deque()
    with ThreadPoolExecutor(prefetch, "zarr-vectors-prefetch") as threads:
        numbers = iter(range(len(view)))

        def start() -> None:
            number = next(numbers, None)
            if number is not None:  # the context says which client or scheduler is active
                ahead.append(threads.submit(copy_context().run, make, view, number))

        try:
            for _ in range(prefetch):
                start()
            for key in keys:
                part = ahead.popleft().result()
                start()
                yield key, part
        finally:
            for future in ahead:
                future.cancel()


def read_chunk(view: LevelView, number: int) -> Part:
    """Selected rows of one chunk."""
    one = view.chunk(number)
    names = view.data.attribute_names
    arrays = dask.compute(vertices_array(one), *(attribute_array(one, name) for name in names))
    return joined_part(names, *map(np.asarray, arrays))
