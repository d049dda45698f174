"""zarr-vectors-tools 0.3.0 builds pyramids on what we write, merges it and exports it; we read what it makes.

``pytest -m reference tests/reference/test_tools.py``; the tools are in an environment of their own, made on first use.
"""

import shutil
import subprocess

import dask
import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from benchmarks.environment import CACHE, clean_environment, reference_python

pytestmark = pytest.mark.reference
TOOLS = "zarr-vectors-tools==0.3.0"
WRITE = {"chunk_shape": 50.0, "bounds": ([0, 0, 0], [200, 200, 200])}
N = 400


@pytest.fixture(autouse=True)
def one_thread():
    with dask.config.set(scheduler="sync"):
        yield


@pytest.fixture(scope="module")
def tools():
    """Run a command of the tools; if it fails, the test fails."""
    python = reference_python(CACHE / "tools", TOOLS)

    def run(*command):
        words = [python, "-m", "zarr_vectors_tools", *command]
        done = subprocess.run(words, check=False, text=True, capture_output=True, env=clean_environment())
        assert not done.returncode, done.stdout + done.stderr

    return run


def cloud():
    return np.random.default_rng(0).uniform(0, 200, (N, 3)).astype("f4")


def walk(n, seed):
    steps = np.random.default_rng(seed).normal(0, 6, (n, 3))
    return np.clip(np.cumsum(steps, axis=0) + 100, 0, 200).astype("f4")


def points(path):
    zvl.write_points(path, cloud(), vertex_attributes={"h": np.arange(N, dtype="f4")}, **WRITE)


def owned(path):
    known = np.array([5, 900, 2**40])
    zvl.write_points(path, cloud(), object_ids=known[np.arange(N) % 3], **WRITE)


def streamlines(path):
    fa = [np.ones(60, "f4") for _ in range(6)]
    lines = [walk(60, seed) for seed in range(6)]
    zvl.write_polylines(path, lines, vertex_attributes={"fa": fa}, geometry_type="streamline", **WRITE)


def skeleton(path):
    edges = np.stack([np.arange(1, 120), np.arange(119)], axis=1)
    edges = edges[edges[:, 0] != 60]
    zvl.write_graph(path, walk(120, 7), edges, kind="skeleton", object_ids=np.arange(120) // 60, **WRITE)


def graph(path):
    zvl.write_graph(path, cloud(), np.random.default_rng(1).integers(0, N, (300, 2)), **WRITE)


def mesh(path):
    zvl.write_mesh(path, cloud(), np.arange(N - N % 3).reshape(-1, 3), object_ids=np.zeros(N, int), **WRITE)


@pytest.mark.parametrize("write", [points, owned, streamlines, skeleton, graph, mesh])
def test_pyramids_of_the_tools(tmp_path, tools, write):
    path = tmp_path / "store.zarr"
    write(path)
    before = zvl.open_zv(path)[0].objects.ids
    tools("pyramid", path, "--coarsen", "2,4", "--sparsity", "1,1")
    store = zvl.open_zv(path)
    assert store.levels == [0, 1, 2]
    for level in store:
        assert 0 < len(level.vertices.compute()) <= N
        assert len(level.objects.ids) == len(before)
        lo, hi = np.array([20.0, 0, 0]), np.array([110.0, 200, 150])
        rows = level.vertices.compute()
        inside = ((rows >= lo) & (rows <= hi)).all(axis=1)
        assert len(level.sel(bbox=(lo, hi)).vertices.compute()) == inside.sum()
    report = zvl.validate(path)
    assert report.ok, report


@pytest.mark.parametrize("write", [owned, streamlines])
def test_stores_that_the_tools_merge(tmp_path, tools, write):
    write(tmp_path / "a.zarr")
    write(tmp_path / "b.zarr")
    before = zvl.open_zv(tmp_path / "a.zarr")[0]
    rows, objects = len(before.vertices.compute()), len(before.objects.ids)
    tools("merge", tmp_path / "a.zarr", tmp_path / "b.zarr")
    zvl.index(tmp_path / "a.zarr")  # our counts are outdated, and reading says so
    after = zvl.open_zv(tmp_path / "a.zarr")[0]
    assert len(after.vertices.compute()) == 2 * rows
    assert len(after.objects.ids) == 2 * objects


@pytest.mark.parametrize(("write", "name"), [(points, "x.csv"), (skeleton, "x.swc"), (mesh, "x.obj")])
def test_files_that_the_tools_export(tmp_path, tools, write, name):
    write(tmp_path / "store.zarr")
    tools("convert", tmp_path / "store.zarr", tmp_path / name)
    made = [path for path in tmp_path.rglob("*") if path.suffix == f".{name.split('.')[1]}"]
    assert made
    assert all(path.stat().st_size for path in made if path.is_file())
    shutil.rmtree(tmp_path / "store.zarr")
