"""A level as one Dask collection: what ``dask.compute(level)`` and ``persist`` give."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import dask.array as da
from dask.base import DaskMethodsMixin
from dask.highlevelgraph import HighLevelGraph
from dask.threaded import get

Arrays = Sequence[da.Array]


class ArraysMixin(DaskMethodsMixin):
    """Dask's protocol for what is made of several Dask arrays."""

    def _parts(self) -> dict[str, Any]:
        """Members by name: Dask arrays, mappings of them, None."""
        raise NotImplementedError

    def _rebuild(self) -> Callable[[list[Any]], Any]:
        return Rebuild(self._parts())

    def __dask_graph__(self) -> HighLevelGraph | None:
        arrays = leaves(self._parts())
        return HighLevelGraph.merge(*(array.__dask_graph__() for array in arrays)) if arrays else None

    def __dask_keys__(self) -> list[Any]:
        return [array.__dask_keys__() for array in leaves(self._parts())]

    def __dask_layers__(self) -> tuple[str, ...]:
        return tuple(name for array in leaves(self._parts()) for name in array.__dask_layers__())

    def __dask_postcompute__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        made = [array.__dask_postcompute__() for array in leaves(self._parts())]
        return finish_computed, (self._rebuild(), made)

    def __dask_postpersist__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        made = [array.__dask_postpersist__() for array in leaves(self._parts())]
        return finish_persisted, (self._rebuild(), made)

    # The very one of arrays: what is computed beside an array is optimised with it, and shares its reads.
    __dask_optimize__ = da.Array.__dict__["__dask_optimize__"]
    __dask_scheduler__ = staticmethod(get)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LevelArrays(ArraysMixin):
    """The rows of a level and what joins them: NumPy arrays where computed, Dask arrays where persisted.

    Parameters
    ----------
    index
        Number of the level.
    vertices
        (N, D).
    attributes
        (N,) or (N, C) by name.
    edges
        (E, 2) rows; None for point clouds and meshes.
    faces
        (F, W) rows; None but for meshes.
    """

    index: int
    vertices: Any
    attributes: Mapping[str, Any]
    edges: Any = None
    faces: Any = None

    def _parts(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


class Rebuild:
    """Puts arrays in the places of others, as `LevelArrays`."""

    def __init__(self, parts: Mapping[str, Any]) -> None:
        self.index = parts["index"]
        self.names = tuple(parts["attributes"])
        self.others = tuple(name for name in ("edges", "faces") if parts[name] is not None)

    def __call__(self, arrays: Sequence[Any]) -> LevelArrays:
        """Make it of the arrays in the order of `leaves`."""
        vertices, *rest = arrays
        attributes = dict(zip(self.names, rest, strict=False))
        others = dict(zip(self.others, rest[len(self.names) :], strict=True))
        return LevelArrays(index=self.index, vertices=vertices, attributes=attributes, **others)


def leaves(parts: Mapping[str, Any]) -> list[da.Array]:
    """Arrays of a level in a fixed order: vertices, attributes, edges, faces."""
    joins = [parts[name] for name in ("edges", "faces") if parts[name] is not None]
    return [
        array for array in (parts["vertices"], *parts["attributes"].values(), *joins) if isinstance(array, da.Array)
    ]


def finish_computed(results: Sequence[Any], rebuild: Rebuild, made: Sequence[Any]) -> LevelArrays:
    """Arrays out of their blocks."""
    return rebuild([finish(blocks, *rest) for blocks, (finish, rest) in zip(results, made, strict=True)])


def finish_persisted(
    graph: Mapping[Any, Any], rebuild: Rebuild, made: Sequence[Any], *, rename: Mapping[str, str] | None = None
) -> LevelArrays:
    """Dask arrays over a graph of results."""
    renamed = {} if rename is None else {"rename": rename}
    return rebuild([finish(graph, *rest, **renamed) for finish, rest in made])
