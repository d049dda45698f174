"""Layers that make a task only when its key is wanted.

The one place that imports Dask's task classes, which have no public name.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable
from weakref import WeakValueDictionary

from dask._task_spec import Dict, GraphNode, List, Task, TaskRef
from dask.highlevelgraph import HighLevelGraph, Layer, MaterializedLayer

from zarr_vectors_lazy.types import BoolArray

__all__ = [
    "BlockTasks",
    "CountedRecipe",
    "Dict",
    "Each",
    "Every",
    "GraphNode",
    "Key",
    "List",
    "Needs",
    "OfBlock",
    "Per",
    "Recipe",
    "RecipeLayer",
    "Task",
    "TaskRef",
    "UnfusedTask",
    "WantedLayer",
    "culled_before",
    "layer_over",
    "task_over",
]

Key = Any


class Recipe(Protocol):
    """Makes the tasks of one array, a small picklable description."""

    def task(self, key: Key, block: int) -> GraphNode:
        """Task of one block."""


Needs = Mapping[str, BoolArray]
"""Keys that tasks need: by first part of the key a mask over the second, which numbers blocks or chunks."""


@runtime_checkable
class CountedRecipe(Recipe, Protocol):
    """A recipe that tells what its tasks need without making them."""

    def needs(self, blocks: BoolArray) -> Needs | None:
        """What the tasks of some blocks, a mask, need; None where only the tasks themselves tell."""


class OfBlock(Protocol):
    """What the task of a block is given, that of another block something else."""

    def of(self, block: int) -> Any:
        """Argument of one block's task."""


@dataclass(frozen=True, slots=True)
class Each:
    """The key of the same block of another layer."""

    layer: str

    def of(self, block: int) -> TaskRef:
        """Reference to it."""
        return TaskRef((self.layer, block))


@dataclass(frozen=True, slots=True, eq=False)
class Per:
    """A value of its own for each block."""

    values: Sequence[Any]

    def of(self, block: int) -> Any:
        """That value."""
        return self.values[block]


@dataclass(frozen=True, slots=True, eq=False)
class Every:
    """Several of them, as one list."""

    parts: tuple[Any, ...]

    def of(self, block: int) -> List:
        """List of what each gives."""
        return List(*(part.of(block) for part in self.parts))


@dataclass(frozen=True, slots=True, eq=False)
class BlockTasks:
    """Recipe of tasks that run one function on the inputs of a block.

    Parameters
    ----------
    function
        A module's function.
    inputs
        Its arguments: what has ``of`` (see `OfBlock`) is asked for each block, anything else is given as it is.
    """

    function: Callable[..., Any]
    inputs: tuple[Any, ...]

    def task(self, key: Key, block: int) -> GraphNode:
        """Task of one block."""
        return Task(key, self.function, *(given.of(block) if hasattr(given, "of") else given for given in self.inputs))


class WantedLayer(Layer):
    """A layer that knows its keys without making tasks."""

    name: str
    _made: tuple[int, dict[Key, GraphNode]] | None = None

    @property
    def has_legacy_tasks(self) -> bool:
        """False: all tasks are of Dask's task classes."""
        return False

    def wanted(self, keys: Collection[Key]) -> dict[Key, GraphNode]:
        """Tasks that give the keys of this layer among ``keys``."""
        raise NotImplementedError

    def is_materialized(self) -> bool:
        """False."""
        return False

    def cull(self, keys: set[Key], all_hlg_keys: Collection[Key]) -> tuple[Layer, Mapping[Key, set[Key]]]:
        """Make the tasks of the keys that are wanted, and no others."""
        layer = Culled(self.wanted(keys), annotations=self.annotations)
        needed = {key: set(task.dependencies) for key, task in layer.tasks.items()}
        if needed:
            needed[next(iter(needed))].add(layer.ticket)
        return layer, needed

    @property
    def _all(self) -> dict[Key, GraphNode]:
        if self._made is None or self._made[0] != self._version():
            self._made = self._version(), self.wanted(self.get_output_keys())
        return self._made[1]

    def _version(self) -> int:
        """Changes when the set of keys does."""
        return 0

    def __getitem__(self, key: Key) -> GraphNode:
        return self._all[key]

    def __iter__(self) -> Iterator[Key]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)


class Culled(MaterializedLayer):
    """Tasks made a moment ago, in which a layer below may still replace references.

    Dask culls a graph from its results to its sources. What fetches knows only at the end which cells share a task;
    it then puts that task in the place of the cells that were asked for, which saves a task for each of them. The
    ticket travels with the wanted keys and leads to the tasks.
    """

    def __init__(self, mapping: dict[Key, GraphNode], annotations: Any = None) -> None:
        super().__init__(mapping, annotations=annotations)
        self.tasks = mapping
        self.ticket: Key = (TICKET, id(self))
        _open[self.ticket] = self


TICKET = "zv-ticket"
_open: WeakValueDictionary[Key, Culled] = WeakValueDictionary()


def culled_before(keys: Collection[Key]) -> list[Culled]:
    """Layers whose tickets are among wanted keys."""
    tickets = (key for key in keys if type(key) is tuple and key[0] == TICKET)
    return [layer for ticket in tickets if (layer := _open.get(ticket)) is not None]


class RecipeLayer(WantedLayer):
    """One task a block, made by a recipe.

    Parameters
    ----------
    name
        First part of the keys.
    recipe
        Makes the tasks.
    blocks
        Number of blocks.
    trailing
        Further array axes, of one block each: keys are ``(name, block, 0, ...)``.
    """

    def __init__(self, name: str, recipe: Recipe, blocks: int, trailing: int = 0) -> None:
        super().__init__()
        self.name = name
        self.recipe = recipe
        self.blocks = blocks
        self.trailing = trailing

    def get_output_keys(self) -> set[Key]:
        """All keys."""
        zeros = (0,) * self.trailing
        return {(self.name, block, *zeros) for block in range(self.blocks)}

    def wanted(self, keys: Collection[Key]) -> dict[Key, GraphNode]:
        """Tasks of the wanted blocks."""
        return {key: self.recipe.task(key, key[1]) for key in keys if type(key) is tuple and key[0] == self.name}

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (RecipeLayer, self.name, self.recipe, self.blocks, self.trailing, self.annotations)


def _rebuild(cls: type[RecipeLayer], *args: Any) -> RecipeLayer:
    layer = cls(*args[:-1])
    layer.annotations = args[-1]
    return layer


def layer_over(name: str, layer: Layer, dependencies: Iterable[HighLevelGraph]) -> HighLevelGraph:
    """Graph of a layer over others."""
    merged = HighLevelGraph.merge(*dependencies)
    return HighLevelGraph({**merged.layers, name: layer}, {**merged.dependencies, name: set(merged.layers)})


def task_over(name: str, task: GraphNode, *dependencies: HighLevelGraph) -> HighLevelGraph:
    """Graph of one task over others; its key is ``(name,)``."""
    return layer_over(name, MaterializedLayer({task.key: task}), dependencies)


class UnfusedTask(Task):
    """A task that Dask leaves alone.

    On a cluster keys outlive a computation; a key that is fused in one and not in another contradicts itself there.
    """

    __slots__ = ()

    @property
    def block_fusion(self) -> bool:
        """True."""
        return True
