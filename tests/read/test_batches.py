"""How wanted cells are cut into batches, and that tasks pick from them."""

import pickle

import dask
import dask.array as da
import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from zarr_vectors_lazy.read.cells import read_batch
from zarr_vectors_lazy.read.layers import Task


@pytest.fixture
def level(goldens):
    return zvl.open_zv(goldens["cloud-0.9"].path)[0]


def batches(*arrays: da.Array) -> list[Task]:
    graph = dask.highlevelgraph.HighLevelGraph.merge(*(array.dask for array in arrays))
    keys = list(dask.core.flatten([array.__dask_keys__() for array in arrays]))
    tasks = graph.cull(keys).to_dict().values()
    return [task for task in tasks if isinstance(task, Task) and task.func is read_batch]


def cells(tasks: list[Task]) -> list[tuple[str, int]]:
    return sorted((want.member, row) for task in tasks for want in task.args[1] for row in want.rows)


def test_batches_hold_every_wanted_cell_once(level):
    found = cells(batches(level.vertices))
    assert found == [("vertices", chunk) for chunk in range(level.chunk_count)]


@pytest.mark.parametrize(("workers", "most"), [(1, 26), (2, 13), (5, 6), (50, 1)])
def test_batches_are_spread_over_the_workers(level, workers, most):
    with dask.config.set({"zarr_vectors_lazy.workers": workers}):
        sizes = [len(want.rows) for task in batches(level.vertices) for want in task.args[1]]
    assert max(sizes) == most
    assert sum(sizes) == 26


def test_batches_are_bounded_by_count_and_bytes(level):
    with dask.config.set({"zarr_vectors_lazy.workers": 1, "zarr_vectors_lazy.batch-chunks": 4}):
        assert max(len(task.args[1][0].rows) for task in batches(level.vertices)) == 4
    with dask.config.set({"zarr_vectors_lazy.workers": 1, "zarr_vectors_lazy.batch-bytes": "5 kB"}):
        assert len(batches(level.vertices)) > 5


def test_vertices_and_attributes_share_batches(level):
    with dask.config.set({"zarr_vectors_lazy.workers": 2}):
        together = batches(level.vertices, level.attributes["confidence"])
    assert len(together) == 2
    assert {want.member for want in together[0].args[1]} == {"vertices", "attribute:confidence"}


def test_a_head_is_not_read_where_the_cell_is(level):
    def heads(*arrays: da.Array) -> int:
        return sum(member == "heads" for member, _ in cells(batches(*arrays)))

    links, other = level.links(1), level.store[1].chunk_count
    assert heads(links) == level.chunk_count + other
    assert heads(links, level.vertices) == other


def test_a_slice_wants_only_its_cells(level):
    assert cells(batches(level.vertices.blocks[3:5])) == [("vertices", 3), ("vertices", 4)]


def test_a_block_is_one_task_and_picks_from_its_batch(level):
    vertices = level.vertices
    optimised = dask.array.optimization.optimize(vertices.dask, list(dask.core.flatten(vertices.__dask_keys__())))
    assert len(optimised) == level.chunk_count + len(batches(vertices))


def test_unculled_graphs_compute_too(level):
    assert np.array_equal(level.vertices.compute(optimize_graph=False), level.vertices.compute())


def test_graphs_pickle_small_and_keep_their_keys(level):
    box = level.sel(bbox=level.bounds).vertices
    raw = pickle.dumps(box)
    assert len(raw) < 60_000
    copy = pickle.loads(raw)
    assert copy.name == box.name
    assert np.array_equal(copy.compute(), box.compute())
