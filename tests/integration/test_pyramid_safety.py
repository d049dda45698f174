"""What a build leaves if it is interrupted, repeated, replaced, or read while it runs."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import dask
import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from tests.integration.cut import Killed, killed_after
from tests.integration.processes import ROOT
from tests.integration.pyramids import files
from zarr_vectors_lazy.errors import NotFoundError, StoreError, ZVError
from zarr_vectors_lazy.requests import Put
from zarr_vectors_lazy.storage.fetch import connect
from zarr_vectors_lazy.storage.requests import counting
from zarr_vectors_lazy.storage.resolve import resolve

FACTORS = [(2, 1), (2, 2)]


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Level 0 of a cloud, of paths and of skeletons, and the same with a pyramid."""
    folder = tmp_path_factory.mktemp("sources")
    random = np.random.default_rng(3)
    points = (random.random((600, 2)) * 40).astype("f4")
    zvl.write_points(
        folder / "cloud", points, chunk_shape=10.0, bin_shape=2.5, vertex_attributes={"w": random.random(600)}
    )
    lines = [np.cumsum(random.normal(size=(20, 2)), axis=0).astype("f4") for _ in range(10)]
    zvl.write_polylines(folder / "lines", lines, chunk_shape=4.0, bin_shape=1.0, object_attributes={"n": np.arange(10)})
    edges = np.array([[i, i - 1] for i in range(1, 150) if i % 30])
    walk = np.concatenate([np.cumsum(random.normal(size=(30, 2)), axis=0) for _ in range(5)]).astype("f4")
    zvl.write_graph(
        folder / "trees", walk, edges, kind="skeleton", chunk_shape=4.0, bin_shape=1.0, object_ids=np.arange(150) // 30
    )
    for name in ("cloud", "lines", "trees"):
        shutil.copytree(folder / name, folder / f"{name}-built")
        with dask.config.set(scheduler="sync"):
            zvl.build_pyramid(folder / f"{name}-built", factors=FACTORS)
    return folder


def level_bytes(path):
    """What each level that can be opened holds, or that reading it fails."""
    found = {}
    store = zvl.open_zv(path)
    for level in store:
        members = [level.vertices, *level.attributes.values()]
        if "point_cloud" not in store.geometry_types:
            members.append(level.edges)
        try:
            found[level.index] = [values.tolist() for values in dask.compute(*members)]
        except ZVError:
            found[level.index] = "error"
    return found


def check_kill(sources, name, path, writes):
    """Kill a build after some writes; what is left must open, and the same call must finish it."""
    shutil.copytree(sources / name, path)
    complete = files(sources / f"{name}-built")
    truth = level_bytes(sources / f"{name}-built")
    with dask.config.set(scheduler="sync"):
        with killed_after(resolve(path), writes), pytest.raises(Killed):
            zvl.build_pyramid(path, factors=FACTORS)
        left = level_bytes(path)
        assert set(left) >= {0}
        assert all(left[index] == truth[index] for index in left)
        zvl.build_pyramid(path, factors=FACTORS)
    assert {key: data for key, data in files(path).items() if "/." not in key} == complete


def count_writes(sources, name, path):
    shutil.copytree(sources / name, path)
    with dask.config.set(scheduler="sync"), killed_after(resolve(path), 10**9) as left:
        zvl.build_pyramid(path, factors=FACTORS)
    return 10**9 - left[0]


@pytest.mark.parametrize("name", ["cloud", "lines", "trees"])
def test_a_killed_build_is_finished_by_the_same_call(tmp_path, sources, name):
    total = count_writes(sources, name, tmp_path / "whole")
    for i, share in enumerate((0.3, 0.7, 0.97)):
        check_kill(sources, name, tmp_path / f"s{i}", int(total * share))


@pytest.mark.stress
@pytest.mark.parametrize("name", ["cloud", "lines", "trees"])
def test_killed_at_fifty_moments(tmp_path, sources, name):
    total = count_writes(sources, name, tmp_path / "whole")
    for i, writes in enumerate(np.random.default_rng(0).choice(total, 50, replace=False).tolist()):
        check_kill(sources, name, tmp_path / f"s{i}", writes)


def test_finished_chunks_are_not_written_again(tmp_path, sources):
    path = tmp_path / "s"
    shutil.copytree(sources / "cloud", path)
    with dask.config.set(scheduler="sync"):
        with killed_after(resolve(path), 60), pytest.raises(Killed), dask.config.set({"zarr_vectors_lazy.workers": 8}):
            zvl.build_pyramid(path, factors=FACTORS)
        finished = [
            (int(key.split("/")[1]), record["chunk"])
            for key, data in files(path).items()
            if "/cells/" in key
            for record in json.loads(data)
        ]
        assert finished
        written = []
        backend = connect(resolve(path))
        answer = type(backend)._answer

        def noted(self, request):
            if isinstance(request, Put):
                written.append(request.key)
            return answer(self, request)

        type(backend)._answer = noted
        try:
            zvl.build_pyramid(path, factors=FACTORS)
        finally:
            type(backend)._answer = answer
    store = zvl.open_zv(path)
    for level, chunk in finished:
        index = np.array(chunk) - store[level]._view.data.vertices.spec.layout.origin
        assert not [key for key in written if key.endswith(f"/c/{'/'.join(map(str, index))}") and f"{level}/v" in key]
    assert [key for key in written if "/vertices/c/" in key]


@pytest.mark.parametrize("name", ["lines", "trees"])
def test_an_entry_of_some_chunks_of_a_task_is_not_taken_for_all_of_them(tmp_path, sources, name):
    path, cut = tmp_path / "s", 0
    shutil.copytree(sources / name, path)
    with dask.config.set({"scheduler": "sync", "zarr_vectors_lazy.workers": 1}):
        with (
            killed_after(resolve(path), int(0.6 * count_writes(sources, name, tmp_path / "whole"))),
            pytest.raises(Killed),
        ):
            zvl.build_pyramid(path, factors=FACTORS)
        for entry in path.glob("_building/*/cells/*"):
            records = json.loads(entry.read_text())
            cut += len(records) > 1
            entry.write_text(json.dumps(records[:1]))
        zvl.build_pyramid(path, factors=FACTORS)
    assert cut
    assert level_bytes(path) == level_bytes(sources / f"{name}-built")


def test_a_real_process_that_is_killed(tmp_path, sources):
    path = tmp_path / "s"
    shutil.copytree(sources / "lines", path)
    code = "import sys, zarr_vectors_lazy as zvl; zvl.build_pyramid(sys.argv[1], factors=[(2, 1), (2, 2)])"
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], cwd=ROOT, env={**os.environ})
    while process.poll() is None and not (path / "_building" / "1" / "cells").exists():
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert level_bytes(path)[0] == level_bytes(sources / "lines")[0]
    zvl.build_pyramid(path, factors=FACTORS, overwrite=zvl.open_zv(path).levels != [0])
    assert level_bytes(path) == level_bytes(sources / "lines-built")


def test_a_failed_put_is_an_error_and_can_be_mended(tmp_path, sources):
    path = tmp_path / "s"
    shutil.copytree(sources / "trees", path)
    with killed_after(resolve(path), 40, StoreError), pytest.raises(StoreError, match="no Put of"):
        zvl.build_pyramid(path, factors=FACTORS)
    assert zvl.open_zv(path).levels == [0]
    zvl.build_pyramid(path, factors=FACTORS)
    assert level_bytes(path) == level_bytes(sources / "trees-built")


def test_levels_that_are_there_are_not_touched_unless_asked(tmp_path, sources):
    path = tmp_path / "s"
    shutil.copytree(sources / "cloud-built", path)
    before = files(path)
    with pytest.raises(StoreError, match="levels 1, 2 already exist; overwrite=True replaces what is there"):
        zvl.build_pyramid(path, factors=[(4, 1)])
    with pytest.raises(StoreError, match="level 2 already exists"):
        zvl.coarsen_level(path, 0, 2)
    with pytest.raises(NotFoundError, match="no attribute 'speling'"):  # first, because overwriting would not repair it
        zvl.build_pyramid(path, factors=[(4, 1)], aggregate={"speling": "mean"})
    assert files(path) == before


def test_another_build_is_not_taken_over(tmp_path, sources):
    path = tmp_path / "s"
    shutil.copytree(sources / "cloud", path)
    with dask.config.set(scheduler="sync"):
        with killed_after(resolve(path), 30), pytest.raises(Killed):
            zvl.build_pyramid(path, factors=FACTORS)
        others = {"factors": [(2, 1)]}, {"factors": FACTORS, "sparsity_seed": 1}, {"factors": FACTORS, "resume": False}
        for arguments in others:
            with pytest.raises(StoreError, match=r"levels \[1, 2\] are being built"):
                zvl.build_pyramid(path, **arguments)
        zvl.build_pyramid(path, factors=[(4, 1)], overwrite=True)
    assert zvl.open_zv(path).levels == [0, 1]
    assert not (path / "_building").exists()
    assert not (path / "2").exists()


@pytest.mark.parametrize("writes", [1, 3, 6, 20, 60, 10**9])
def test_a_rebuild_never_mixes_old_and_new(tmp_path, sources, writes):
    path = tmp_path / "s"
    shutil.copytree(sources / "cloud-built", path)
    before = level_bytes(path)
    old = zvl.open_zv(path)
    _ = [level.vertices for level in old], [level.chunk_keys for level in old]
    with dask.config.set(scheduler="sync"):
        try:
            with killed_after(resolve(path), writes):
                zvl.build_pyramid(path, factors=[(4, 1), (1, 1)], overwrite=True)
        except Killed:
            pass
        left = level_bytes(path)
        for level in list(old)[1:]:
            try:
                found = level.vertices.compute()
            except ZVError:
                continue
            assert found.tolist() == before[level.index][0]
        zvl.build_pyramid(path, factors=[(4, 1), (1, 1)], overwrite=True)
    after = level_bytes(path)
    assert all(left[index] in (before.get(index), after.get(index), "error") for index in left)
    assert after[1] != before[1]
    for level in list(old)[1:]:
        with pytest.raises(ZVError):
            level.vertices.compute()


def test_nothing_of_an_old_pyramid_is_left(tmp_path, sources):
    path = tmp_path / "s"
    shutil.copytree(sources / "cloud-built", path)
    zvl.build_pyramid(path, factors=[(4, 1)], overwrite=True, cross_level_storage="none")
    store = zvl.open_zv(path)
    assert (store.levels, store[0].deltas, store[1].deltas) == ([0, 1], (), ())
    assert {key.split("/")[0] for key in files(path)} == {"0", "1", "zarr.json"}
    assert not [key for key in files(path) if "/links/" in key]
    shutil.copytree(sources / "cloud", tmp_path / "fresh")
    zvl.build_pyramid(tmp_path / "fresh", factors=[(4, 1)], cross_level_storage="none")
    assert level_bytes(path) == level_bytes(tmp_path / "fresh")
    assert zvl.validate(path).ok


def test_another_pyramid_in_the_same_process(tmp_path, sources):
    """What a process keeps of the levels of one build is not taken for those of another."""
    shutil.copytree(sources / "lines-built", tmp_path / "s")
    shutil.copytree(sources / "lines", tmp_path / "fresh")
    for path in (tmp_path / "s", tmp_path / "fresh"):
        zvl.build_pyramid(path, factors=[(1, 1), (4, 1)], overwrite=True)
    assert level_bytes(tmp_path / "s") == level_bytes(tmp_path / "fresh")
    assert zvl.validate(tmp_path / "s").ok


def test_consolidated_metadata_are_renewed(tmp_path, sources):
    path = tmp_path / "s"
    shutil.copytree(sources / "cloud", path)
    zvl.consolidate(path)
    zvl.build_pyramid(path, factors=FACTORS)
    with counting() as counts:
        store = zvl.open_zv(path, consolidated=True)
    assert counts.requests == 1
    assert store.levels == [0, 1, 2]
    assert level_bytes(path) == level_bytes(sources / "cloud-built")


def test_only_links_are_added_to_level_0(tmp_path, sources):
    for name in ("cloud", "lines", "trees"):
        before, after = files(sources / name), files(sources / f"{name}-built")
        assert all(after[key] == data for key, data in before.items() if key != "zarr.json")
        new = {key for key in after if key.startswith("0/")} - set(before)
        assert new
        assert all(key == "0/links/zarr.json" or key.startswith("0/links/+1/") for key in new)


def check_kill_in_bucket(sources, s3, backend, prefix, writes):
    """Kill a build in a bucket after some writes; what is left must open, and the same call must finish it."""
    s3.upload(sources / "lines", prefix)
    url, options = s3.options(backend, prefix)
    where = {"backend": backend, "storage_options": options}
    with dask.config.set(scheduler="sync"):
        with killed_after(resolve(url, **where), writes), pytest.raises(Killed):
            zvl.build_pyramid(url, factors=FACTORS, **where)
        left = zvl.open_zv(url, **where).levels
        assert left == list(range(len(left)))
        zvl.build_pyramid(url, factors=FACTORS, **where)
    store, built = zvl.open_zv(url, **where), zvl.open_zv(sources / "lines-built")
    assert store.levels == [0, 1, 2]
    for one, other in zip(store, built, strict=True):
        assert np.array_equal(one.vertices.compute(), other.vertices.compute())
        assert np.array_equal(one.edges.compute(), other.edges.compute())
    assert not s3.native().list(f"{prefix}/_building").collect()
    return left


@pytest.mark.emulator
@pytest.mark.parametrize("backend", ["obstore", "fsspec"])
def test_a_build_in_a_bucket_is_killed_and_finished(sources, s3, backend):
    assert check_kill_in_bucket(sources, s3, backend, f"killed-{backend}", 100) == [0]


@pytest.mark.stress
@pytest.mark.emulator
@pytest.mark.parametrize("backend", ["obstore", "fsspec"])
def test_killed_at_fifty_moments_in_a_bucket(sources, s3, backend):
    s3.upload(sources / "lines", f"whole-{backend}")
    url, options = s3.options(backend, f"whole-{backend}")
    where = {"backend": backend, "storage_options": options}
    with dask.config.set(scheduler="sync"), killed_after(resolve(url, **where), 10**9) as left:
        zvl.build_pyramid(url, factors=FACTORS, **where)
    moments = np.random.default_rng(1).choice(10**9 - left[0], 50, replace=False).tolist()
    for i, writes in enumerate(moments):
        check_kill_in_bucket(sources, s3, backend, f"killed-{backend}-{i}", writes)
