"""A write out of core gives the same bytes as one from memory, whatever the scheduler."""

import os
import shutil
import signal
import sys
import time

import dask
import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from tests.integration.out_of_core import (
    CHUNK,
    SMALL,
    assert_same_files,
    cluster,
    files_of,
    lazily,
    points,
    write_examples,
    write_expected,
    write_trees,
)
from tests.integration.out_of_core import trees as skeletons
from zarr_vectors_lazy.errors import SelectionError, StoreError
from zarr_vectors_lazy.write import scratch

NAMES = {"points", "paths", "part", "mesh", "trees"}


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("memory")
    write_expected(folder)
    assert {path.name for path in folder.iterdir()} == NAMES
    return folder


@pytest.mark.parametrize("scheduler", ["sync", "threads", "processes"])
def test_schedulers_of_one_machine(tmp_path, expected, scheduler):
    with dask.config.set(scheduler=scheduler, num_workers=2, temporary_directory=str(tmp_path / "temporary")):
        write_examples(tmp_path)
    assert not (tmp_path / "temporary").exists()
    for name in NAMES:
        assert_same_files(tmp_path / name, expected / name)


def write_later(folder):
    """A Delayed of points, and one of skeletons."""
    given, trees = lazily(points()), lazily(skeletons(), 200)
    with dask.config.set(SMALL):
        return [
            zvl.write_points(
                folder / "points",
                given.pop("positions"),
                chunk_shape=CHUNK,
                shard_shape=2,
                compute=False,
                **given,
            ),
            write_trees(folder / "trees", trees, shard_shape=2, compute=False),
        ]


@pytest.mark.distributed
@pytest.mark.parametrize("workers", [1, 2])
def test_clusters(tmp_path, expected, workers):
    local = write_later(tmp_path / "local")
    with cluster(workers):
        write_examples(tmp_path)
        dask.compute(local)
        made_there = write_later(tmp_path / "there")
    with dask.config.set(scheduler="sync"):
        dask.compute(made_there)
    for name in NAMES:
        assert_same_files(tmp_path / name, expected / name)
    for folder in ("local", "there"):
        for name in ("points", "trees"):
            assert_same_files(tmp_path / folder / name, expected / name)


def slow(block):
    time.sleep(0.1)
    return block


@pytest.mark.stress
@pytest.mark.distributed
def test_a_cluster_that_loses_a_worker_writes_the_same(tmp_path, expected):
    given = lazily(skeletons(), 40)
    given["positions"] = given["positions"].map_blocks(slow, dtype="f4", meta=np.empty((0, 0), "f4"))
    with dask.config.set(SMALL):
        made = write_trees(tmp_path / "trees", given, shard_shape=2, compute=False)
    with cluster(2) as client:
        for delay_s in (0.3, 0.8, 1.3):
            shutil.rmtree(tmp_path / "trees", ignore_errors=True)
            workers = client.run(os.getpid).values()
            written = client.compute(made)
            time.sleep(delay_s)
            if not written.done():  # later the result may be lost, and the finished store blocks another run
                os.kill(min(workers), signal.SIGKILL)
            written.result(timeout=120)
            assert_same_files(tmp_path / "trees", expected / "trees")
            written.release()
            client.wait_for_workers(2)


def test_a_write_out_of_core_needs_no_data_frames(tmp_path, expected, monkeypatch):
    for name in ("pandas", "pyarrow", "dask.dataframe"):
        monkeypatch.setitem(sys.modules, name, None)
    dask.compute(write_later(tmp_path), scheduler="sync")
    for name in ("points", "trees"):
        assert_same_files(tmp_path / name, expected / name)


def test_many_senders_and_receivers_are_joined_on_the_way(tmp_path, expected, monkeypatch):
    monkeypatch.setattr(scratch, "MOST_RUNS", 3)
    made = write_later(tmp_path)
    names = {str(key[0]) for each in made for key in dict(each.__dask_graph__()) if isinstance(key, tuple)}
    joined = {name.removeprefix("zv-join-").rpartition("-")[0] for name in names if name.startswith("zv-join-")}
    assert joined >= {"rows", "nodes", "parents", "ranks", "places-1", "ends-1"}
    dask.compute(made, scheduler="sync")
    for name in ("points", "trees"):
        assert_same_files(tmp_path / name, expected / name)


@pytest.mark.parametrize("place", ["in the store", "elsewhere"])
def test_nothing_stays_of_what_waited(tmp_path, expected, place):
    """Of a write that ends, is refused when all input was seen, or was killed before: by the next one."""
    x, elsewhere, given = tmp_path / "points", tmp_path / "elsewhere", lazily(points())
    options = {"chunk_shape": CHUNK, "shard_shape": 2, "object_ids": given["object_ids"]}
    options["vertex_attributes"] = given["vertex_attributes"]
    settings = {**SMALL, "scheduler": "sync"} | (
        {"zarr_vectors_lazy.scratch": str(elsewhere)} if "else" in place else {}
    )
    with dask.config.set(settings):
        later = zvl.write_points(x, given["positions"], compute=False, **options)
        tasks = dict(later.__dask_graph__())
        dask.get(tasks, [key for key in tasks if str(key).startswith("('zv-rows")])
        left = files_of(elsewhere if "else" in place else x)
        assert left
        assert all("/rows/" in name for name in left)
        with pytest.raises(SelectionError, match="bounds leave data out"):
            zvl.write_points(x, given["positions"], bounds=([-1] * 3, [1] * 3), **options)
        assert files_of(elsewhere if "else" in place else x) == left
        zvl.write_points(x, given["positions"], **options)
        assert files_of(elsewhere) == {}
        assert_same_files(x, expected / "points")
        with pytest.raises(StoreError, match="a Zarr Vectors store is here already"):
            later.compute()
        assert_same_files(x, expected / "points")
        assert files_of(elsewhere) == {}
