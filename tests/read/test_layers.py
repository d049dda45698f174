import gc
import pickle
from dataclasses import dataclass

import dask
import numpy as np
import pytest
from dask._task_spec import fuse_linear_task_spec
from dask.highlevelgraph import HighLevelGraph

from zarr_vectors_lazy.read.layers import RecipeLayer, Task, TaskRef, UnfusedTask, culled_before, layer_over, task_over

made = []


@dataclass(frozen=True)
class Numbers:
    """Block b is ``factor * b``; remembers which tasks were made."""

    factor: int

    def task(self, key, block):
        made.append(block)
        return Task(key, np.multiply, self.factor, block)


@dataclass(frozen=True)
class Sums:
    """Block b is ``base[b] + base[b + 1]``."""

    base: str

    def task(self, key, block):
        return Task(key, np.add, TaskRef((self.base, block)), TaskRef((self.base, block + 1)))


@pytest.fixture(autouse=True)
def forget():
    made.clear()


def test_a_layer_knows_its_keys_without_making_tasks():
    layer = RecipeLayer("a", Numbers(3), 10**5)
    assert not layer.is_materialized()
    assert not layer.has_legacy_tasks
    assert len(layer.get_output_keys()) == 10**5
    assert made == []


def test_culling_makes_the_wanted_tasks_and_no_others():
    layer = RecipeLayer("a", Numbers(3), 10**5)
    graph = HighLevelGraph({"a": layer}, {"a": set()}).cull({("a", 7), ("a", 99_999)})
    assert sorted(made) == [7, 99_999]
    assert sorted(graph.to_dict()) == [("a", 7), ("a", 99_999)]
    assert dask.get(graph.to_dict(), ("a", 7)) == 21


def test_culling_goes_through_layers():
    layers = {"a": RecipeLayer("a", Numbers(3), 1000), "s": RecipeLayer("s", Sums("a"), 999)}
    graph = HighLevelGraph(layers, {"a": set(), "s": {"a"}})
    culled = graph.cull({("s", 10), ("s", 11)}).to_dict()
    assert sorted(culled) == [("a", 10), ("a", 11), ("a", 12), ("s", 10), ("s", 11)]
    assert sorted(made) == [10, 11, 12]
    assert dask.get(culled, [("s", 10), ("s", 11)]) == (63, 69)


def test_graphs_that_are_not_culled_have_every_task():
    layers = {"a": RecipeLayer("a", Numbers(3), 6), "s": RecipeLayer("s", Sums("a"), 5)}
    graph = HighLevelGraph(layers, {"a": set(), "s": {"a"}})
    assert len(layers["a"]) == 6
    assert set(layers["a"]) == layers["a"].get_output_keys()
    assert dask.get(graph.to_dict(), [("s", i) for i in range(5)]) == (3, 9, 15, 21, 27)
    assert sorted(made) == list(range(6))  # once each


def test_keys_of_arrays_with_more_axes():
    layer = RecipeLayer("a", Numbers(3), 2, trailing=2)
    assert layer.get_output_keys() == {("a", 0, 0, 0), ("a", 1, 0, 0)}
    assert dask.get(dict(layer.wanted([("a", 1, 0, 0)])), ("a", 1, 0, 0)) == 3


def test_keys_of_others_are_passed_over():
    assert RecipeLayer("a", Numbers(3), 2).wanted(["a", ("b", 0), 3, ("a", 1)]).keys() == {("a", 1)}


def test_layers_pickle_as_their_recipe():
    layer = RecipeLayer("a", Numbers(3), 10**5, trailing=1)
    layer.annotations = {"priority": 3}
    raw = pickle.dumps(layer)
    assert len(raw) < 1000
    copy = pickle.loads(raw)
    assert (copy.name, copy.recipe, copy.blocks, copy.trailing) == ("a", Numbers(3), 10**5, 1)
    assert copy.annotations == {"priority": 3}
    assert made == []


def test_annotations_reach_the_tasks():
    layer = RecipeLayer("a", Numbers(3), 3)
    layer.annotations = {"retries": 2}
    culled, _ = layer.cull({("a", 1)}, set())
    assert culled.annotations == {"retries": 2}


def test_a_culled_layer_is_found_by_its_ticket_while_it_lives():
    layer, needed = RecipeLayer("s", Sums("a"), 9).cull({("s", 1), ("s", 2)}, set())
    wanted = set().union(*needed.values())
    assert wanted == {("a", 1), ("a", 2), ("a", 3), layer.ticket}
    assert culled_before(wanted) == [layer]
    assert culled_before({("a", 1), "zv-ticket", ("zv-ticket", -1)}) == []
    ticket = layer.ticket
    del layer
    gc.collect()
    assert culled_before({ticket}) == []


def test_culling_for_nothing():
    layer, needed = RecipeLayer("s", Sums("a"), 9).cull(set(), set())
    assert (len(layer), needed) == (0, {})


def test_one_task_over_others():
    below = task_over("a", Task(("a",), np.add, 1, 2))
    graph = task_over("sum", Task(("sum",), np.add, TaskRef(("a",)), 4), below)
    assert dask.get(graph, ("sum",)) == 7
    assert graph.dependencies == {"a": set(), "sum": {"a"}}
    named = layer_over("s", RecipeLayer("s", Sums("a"), 2), graph)
    assert named.dependencies["s"] == {"a", "sum"}


def test_dask_fuses_tasks_but_not_those_that_are_shared():
    def chain(kind):
        first = kind(("a", 0), np.add, 1, 2)
        return {("a", 0): first, "end": Task("end", np.negative, TaskRef(("a", 0)))}

    assert ("a", 0) not in _computed_apart(chain(Task))
    assert ("a", 0) in _computed_apart(chain(UnfusedTask))


def _computed_apart(tasks):
    return {key for key, task in fuse_linear_task_spec(tasks, {"end"}).items() if isinstance(task, Task)}
