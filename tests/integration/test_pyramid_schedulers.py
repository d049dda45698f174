"""The same bytes on every scheduler, and a worker that dies."""

import os
import shutil
import signal
import time

import dask
import numpy as np
import pytest
from distributed import Client, LocalCluster

import zarr_vectors_lazy as zvl
from tests.integration.pyramids import files

FACTORS = [(2, 1), (2, 2), (2, 1)]
KINDS = ["points", "paths", "trees"]


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    random = np.random.default_rng(5)
    points = (random.random((1000, 3)) * 40).astype("f4")
    zvl.write_points(
        folder / "points", points, chunk_shape=20.0, bin_shape=5.0, vertex_attributes={"w": random.random(1000)}
    )
    lines = [np.cumsum(random.normal(size=(20, 3)), axis=0).astype("f4") for _ in range(20)]
    zvl.write_polylines(folder / "paths", lines, chunk_shape=6.0, bin_shape=1.5, object_attributes={"n": np.arange(20)})
    edges = np.array([[i, i - 1] for i in range(1, 300) if i % 60])
    walks = np.concatenate([np.cumsum(random.normal(size=(60, 3)), axis=0) for _ in range(5)]).astype("f4")
    owners = np.arange(300) // 60
    zvl.write_graph(folder / "trees", walks, edges, kind="skeleton", chunk_shape=6.0, bin_shape=1.5, object_ids=owners)
    return folder


def built(sources, name, path):
    """Files of a pyramid, built in a copy with tasks for eight slots."""
    shutil.copytree(sources / name, path)
    with dask.config.set({"zarr_vectors_lazy.workers": 8}):
        zvl.build_pyramid(path, factors=FACTORS, cross_level_depth=-1)
    found = files(path)
    shutil.rmtree(path)
    return found


@pytest.fixture(scope="module")
def truth(sources, tmp_path_factory):
    with dask.config.set(scheduler="sync"):
        return {name: built(sources, name, tmp_path_factory.mktemp("truth") / name) for name in KINDS}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("threads", [1, 4])
def test_threads(tmp_path, sources, truth, name, threads):
    with dask.config.set(scheduler="threads", num_workers=threads):
        assert built(sources, name, tmp_path / "s") == truth[name]


def test_processes(tmp_path, sources, truth):
    with dask.config.set(scheduler="processes", num_workers=2):
        assert built(sources, "trees", tmp_path / "s") == truth["trees"]


@pytest.mark.parametrize("name", KINDS)
def test_how_many_chunks_a_task_makes_does_not_matter(tmp_path, sources, truth, name):
    shutil.copytree(sources / name, tmp_path / "s")
    with dask.config.set({"zarr_vectors_lazy.workers": 1, "scheduler": "sync"}):
        zvl.build_pyramid(tmp_path / "s", factors=FACTORS, cross_level_depth=-1)
    assert files(tmp_path / "s") == truth[name]


@pytest.mark.distributed
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_a_cluster(tmp_path, sources, truth, workers):
    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster),
    ):
        for name in ("paths", "trees"):
            assert built(sources, name, tmp_path / "s") == truth[name]


@pytest.mark.distributed
def test_a_worker_that_is_killed_costs_a_retry(tmp_path, sources, truth):
    path = tmp_path / "s"
    shutil.copytree(sources / "paths", path)
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
        dask.config.set({"zarr_vectors_lazy.workers": 8}),
    ):
        delayed = zvl.build_pyramid(path, factors=FACTORS, cross_level_depth=-1, compute=False)
        future = client.compute(delayed)
        while not (future.done() or (path / "_building" / "1" / "cells").exists()):
            time.sleep(0.005)
        os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)
        assert future.result()["levels_created"] == 3
    left = files(path)
    assert {key: data for key, data in left.items() if "/." not in key} == truth["paths"]
