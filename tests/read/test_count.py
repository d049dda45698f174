import dask
import numpy as np
import pytest
from dask.array.optimization import optimize
from dask.core import flatten
from dask.highlevelgraph import HighLevelGraph

import zarr_vectors_lazy as zvl
from tests.integration.generations import write_grid_store
from zarr_vectors_lazy.read.explain import count_arrays, count_layers, count_tasks

MEMBERS = (("vertices",), ("attributes",), ("vertices", "attributes"))


def graph_of(arrays):
    return HighLevelGraph.merge(*(array.__dask_graph__() for array in arrays))


def selections(level):
    """The level, a box of it, and conditions on both where there is a number to set one on."""
    lo, hi = level.bounds
    parts = [level, level.sel(bbox=(lo, lo + 0.4 * (hi - lo)))]
    for name in level.attribute_names:
        if level.attributes[name].ndim == 1 and level.attributes[name].dtype.kind != "U":
            return parts + [part.sel(where={name: (0, 1)}) for part in parts]
    return parts


def summary(count):
    cells = {}
    for of in count.fetched:
        key = (of.spec.path, of.head)
        coords, requests = cells.get(key, ([], 0))
        cells[key] = (sorted([*coords, *of.coords.tolist()]), requests + of.requests)
    return cells, sum(count.tables), count.tasks


@pytest.mark.parametrize("chunks", [None, 3, "auto"])
def test_layers_tell_what_their_tasks_do(golden, chunks):
    for level in zvl.open_zv(golden.path, chunks=chunks):
        for part in selections(level):
            for members in MEMBERS:
                arrays = [array for member in members for array in part._member(member)]
                if arrays and part.chunk_count:
                    told = count_layers(graph_of(arrays), arrays)
                    assert summary(told) == summary(count_tasks(graph_of(arrays), arrays))


def test_where_layers_do_not_tell_tasks_are_made(goldens):
    part = zvl.open_zv(goldens["tracts-0.9"].path)[0].sel(x=slice(84, 92))
    arrays = [part.vertices, part.edges]
    assert count_layers(graph_of(arrays), arrays) is None
    assert summary(count_arrays(arrays)) == summary(count_tasks(graph_of(arrays), arrays))


def test_blocks_and_batches_are_what_dask_is_given(goldens):
    level = zvl.open_zv(goldens["tracts-0.9"].path)[0].sel(x=slice(84, 92))
    with dask.config.set({"zarr_vectors_lazy.workers": 3}):
        given = optimize(level.vertices.__dask_graph__(), list(flatten(level.vertices.__dask_keys__())))
        assert level.explain().tasks == len(given)


def test_explaining_many_chunks_makes_no_task(tmp_path, monkeypatch):
    level = zvl.open_zv(write_grid_store(tmp_path / "grid.zarr", 30))[0]
    monkeypatch.setattr("zarr_vectors_lazy.read.layers.BlockTasks.task", None)
    monkeypatch.setattr("zarr_vectors_lazy.read.layers.UnfusedTask", None)
    explained = level.explain()
    assert (explained.chunks, explained.requests, explained.blocks) == (30**3,) * 3
    with pytest.raises(TypeError):
        level.vertices.__dask_graph__().cull(set(flatten(level.vertices.__dask_keys__())))


def test_choosing_rows_takes_a_task_a_block(tmp_path):
    random = np.random.default_rng(3)
    corners = np.stack(np.meshgrid(*[np.arange(10)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    positions = (corners.repeat(3, axis=0) + random.random((3000, 3))).astype("f4")
    values = {"weight": random.random(3000), "size": random.random(3000)}
    options = {"chunk_shape": 1.0, "compressor": None, "object_ids": np.arange(3000) % 7}
    zvl.write_points(tmp_path / "s", positions, vertex_attributes=values, **options)
    level = zvl.open_zv(tmp_path / "s", chunks="auto")[0]
    expected = ((values["weight"] < 0.5) & (values["size"] < 0.5)).sum()
    where = {"weight": (0, 0.5), "size": (0, 0.5)}
    box = {"x": slice(0.5, 9.5)}
    parts = [level.sel(where=where), level.sel(**box, where=where)]
    for part in [*parts, level.sel(objects=[1, 3]), level.sel(**box, whole_objects=True)]:
        for array in (part.vertices, part.attributes["weight"]):
            keys = list(flatten(array.__dask_keys__()))
            assert len(optimize(array.__dask_graph__(), keys)) <= 80  # of 1,000 chunks
    assert len(level.sel(where=where).vertices.compute(scheduler="sync")) == expected
