"""A level that is open while its store is replaced returns its own values or an error, never those of the new store."""

import json
import pickle
import shutil
import time
from types import SimpleNamespace

import dask
import dask.array as da
import fsspec
import numpy as np
import pytest
from zarr.storage import MemoryStore

import zarr_vectors_lazy as zvl
from tests.integration.generations import copy_of
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.read import level as fresh
from zarr_vectors_lazy.testing import counting

REPLACED = "replaced after it was opened.*open the store again"


def points(seed=0, n=200):
    return np.random.default_rng(seed).uniform(-3, 3, (n, 2))


def write(path, seed=0, **options):
    """Write a store; of every seed chunks, counts and dtypes are the same, and values differ."""
    positions = points()
    values = np.random.default_rng(seed).uniform(0, 1, len(positions))
    ids = np.arange(len(positions)) % 3
    given = {"vertex_attributes": {"n": values}, "object_ids": ids, "object_attributes": {"w": values[:3]}}
    zvl.write_points(path, positions, chunk_shape=3, mode="w", **given, **options)


def content(path, level=0):
    return json.loads((path / str(level) / "zarr.json").read_text())["attributes"]["zarr_vectors_lazy"]["content"]


@pytest.fixture
def later(monkeypatch):
    """Every read follows a pause."""
    monkeypatch.setattr(fresh, "PAUSE", -1.0)


@pytest.fixture
def elsewhere(monkeypatch):
    """Writes happen in another process, of which this one is not notified."""
    monkeypatch.setattr(fresh, "replaced", lambda: None)


@pytest.fixture(
    params=[
        "local",
        "memory",
        "zarr",
        pytest.param("obstore-s3", marks=pytest.mark.emulator),
        pytest.param("fsspec-s3", marks=pytest.mark.emulator),
    ]
)
def place(request, tmp_path):
    name, _, where = request.param.partition("-")
    if where:
        url, options = request.getfixturevalue("s3").options(name, f"held/{name}")
        return url, {"backend": name, "storage_options": options}
    return {"local": tmp_path / "x", "memory": f"memory:/{tmp_path}/x", "zarr": MemoryStore()}[name], {}


def test_replaced_by_other_data(place, elsewhere, monkeypatch):
    path, options = place
    write(path, **options)
    level = zvl.open_zv(path, **options)[0]
    parts = {
        "vertices": level.vertices,
        "attribute": level.attributes["n"],
        "box": level.sel(x=slice(0, 2)).vertices,
        "travelled": pickle.loads(pickle.dumps(level)).vertices,
        "objects": level.objects.attributes["w"],
    }
    before = {name: np.asarray(part.compute()) for name, part in parts.items()}
    write(path, **options)
    monkeypatch.setattr(fresh, "PAUSE", -1.0)
    for name, part in parts.items():
        np.testing.assert_array_equal(part.compute(), before[name], err_msg=name)
    write(path, 1, **options)
    for part in [*parts.values(), *parts.values()]:
        with pytest.raises(FormatError, match=REPLACED):
            part.compute()
    again = zvl.open_zv(path, **options)[0]
    assert again.attributes["n"].name != level.attributes["n"].name
    assert not np.array_equal(again.attributes["n"].compute(), before["attribute"])


def test_a_write_of_this_process_is_known_at_once(tmp_path):
    write(tmp_path)
    values = zvl.open_zv(tmp_path)[0].attributes["n"]
    values.compute()
    write(tmp_path, 1)
    with pytest.raises(FormatError, match=REPLACED):
        values.compute()


def test_files_of_another_store_are_known_at_once(tmp_path):
    write(tmp_path / "x")
    write(tmp_path / "y", 1)
    values = zvl.open_zv(tmp_path / "x")[0].attributes["n"]
    values.compute()
    shutil.rmtree(tmp_path / "x")
    shutil.copytree(tmp_path / "y", tmp_path / "x")
    with pytest.raises(FormatError, match=REPLACED):
        values.compute()


def mean_of(level):
    with dask.config.set(scheduler="sync"):
        return float(level.attributes["n"].mean().compute())


WAYS_OUT = {"level": lambda store: store[0], "box": lambda store: store[0].sel(x=slice(-3, 3)), "store": lambda s: s}


def level_of(held):
    return held[0] if isinstance(held, zvl.ZVStore) else held


@pytest.mark.parametrize("consolidated", [False, True])
@pytest.mark.parametrize("held", list(WAYS_OUT))
def test_pickled_before_and_read_after(tmp_path, consolidated, held):
    write(tmp_path)
    if consolidated:
        zvl.consolidate(tmp_path)
    packed = pickle.dumps(WAYS_OUT[held](zvl.open_zv(tmp_path)))
    write(tmp_path, 1)
    again = pickle.dumps(pickle.loads(packed))  # as from one worker to another
    for one in (packed, again):
        with pytest.raises(FormatError, match=REPLACED):
            mean_of(level_of(pickle.loads(one)))


def run_mean(packed):
    return mean_of(level_of(pickle.loads(packed)))


@pytest.mark.distributed
@pytest.mark.parametrize("consolidated", [False, True])
def test_sent_to_workers_before_and_read_after(tmp_path, consolidated, client):
    write(tmp_path)
    if consolidated:
        zvl.consolidate(tmp_path)
    store = zvl.open_zv(tmp_path)
    right = mean_of(store[0])
    packed = {name: pickle.dumps(out(store)) for name, out in WAYS_OUT.items()}
    for one in packed.values():
        assert list(client.run(run_mean, one).values()) == [right, right]
    (there,) = client.scatter([store[0]], broadcast=True)
    write(tmp_path, 1)
    for one in packed.values():
        with pytest.raises(FormatError, match=REPLACED):
            client.run(run_mean, one)
    with pytest.raises(FormatError, match=REPLACED):
        client.submit(mean_of, there, pure=False).result()
    with client.as_current(), pytest.raises(FormatError, match=REPLACED):
        store[0].attributes["n"].mean().compute()


def test_gone(tmp_path, later):
    write(tmp_path / "x")
    level = zvl.open_zv(tmp_path / "x")[0]
    shutil.rmtree(tmp_path / "x" / "0")
    with pytest.raises(FormatError, match="deleted after it was opened"):
        level.vertices.compute()


def looks(counts):
    return [key for key in counts.keys if key.endswith("zarr.json")]


def test_a_look_costs_one_request_after_a_pause(tmp_path, monkeypatch):
    write(tmp_path)
    clock = [0.0]
    monkeypatch.setattr(fresh, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(fresh, "PAUSE", 2.0)
    monkeypatch.setattr(fresh, "LONGEST", 60.0)
    with dask.config.set({"zarr_vectors_lazy.batch-chunks": 1}):
        level = zvl.open_zv(tmp_path)[0]
        for pause, looked in [
            (1, 0),
            (3, 1),
            *[(1, 0)] * 60,
            (1, 1),
            (1, 0),
        ]:  # after a pause, and at least once a minute
            clock[0] += pause
            with counting() as counts:
                level.vertices.compute(scheduler="sync")
            assert looks(counts) == ["0/zarr.json"] * looked
            assert counts.requests == level.chunk_count + looked


def test_stores_that_tell_nothing_cost_nothing(golden, tmp_path, later):
    level = zvl.open_zv(copy_of(golden, tmp_path).path)[0]
    with counting() as counts:
        level.vertices.compute()
    assert "0/zarr.json" not in counts.keys


@pytest.mark.parametrize("on_disk", [True, False])
def test_manifests_of_a_store_that_tells_nothing_are_those_of_the_store_that_is_opened(tmp_path, elsewhere, on_disk):
    """Another writer replaced it by data with the same metadata, between two opens of one process."""
    url = tmp_path / "a.zv" if on_disk else f"memory://{tmp_path.name}/a.zv"
    for order in ([0, 1, 2, 3], [3, 1, 0, 2], [2, 0, 3, 1]):
        shutil.rmtree(tmp_path / "a.zv", ignore_errors=True)
        lines = [np.full((3, 2), 1.0 + 3 * i) for i in order]
        zvl.write_polylines(tmp_path / "a.zv", lines, chunk_shape=3, bounds=([0, 0], [12, 12]))
        for node in (tmp_path / "a.zv").rglob("zarr.json"):
            found = json.loads(node.read_text())
            found["attributes"].pop("zarr_vectors_lazy", None)
            found.pop("consolidated_metadata", None)
            node.write_text(json.dumps(found))
        if not on_disk:
            memory = fsspec.filesystem("memory")
            if memory.exists(url):
                memory.rm(url, recursive=True)
            memory.put(str(tmp_path / "a.zv"), url, recursive=True)
        level = zvl.open_zv(url)[0]
        assert [level.objects[i].compute()[0, 0] for i in range(4)] == [line[0, 0] for line in lines]


def test_what_leaves_the_data_alone_leaves_the_level_readable(tmp_path, later):
    write(tmp_path)
    level, stamp = zvl.open_zv(tmp_path)[0], content(tmp_path)
    values = level.attributes["n"].compute()
    level.write_attribute("twice", level.attributes["n"] * 2)
    node = tmp_path / "0" / "zarr.json"
    doc = json.loads(node.read_text())
    doc["attributes"]["mine"] = 1
    node.write_text(json.dumps(doc))
    zvl.index(tmp_path)
    zvl.build_pyramid(tmp_path, factors=[2.0])
    zvl.consolidate(tmp_path)
    np.testing.assert_array_equal(level.attributes["n"].compute(), values)
    zvl.shard(tmp_path, shard_shape=2)
    assert content(tmp_path) == stamp
    np.testing.assert_array_equal(zvl.open_zv(tmp_path)[0].attributes["n"].compute(), values)


def test_levels_of_pyramids_tell_their_content(tmp_path, later):
    write(tmp_path)
    zvl.build_pyramid(tmp_path, factors=[2.0])
    coarse = zvl.open_zv(tmp_path)[1].vertices
    coarse.compute()
    zvl.build_pyramid(tmp_path, factors=[2.0], overwrite=True)  # its cells have other keys
    with pytest.raises(FormatError, match=REPLACED):
        coarse.compute()


def test_content_is_that_of_the_data(tmp_path):
    write(tmp_path / "a")
    for scheduler in ("sync", "threads"):
        with dask.config.set(scheduler=scheduler):
            given = da.from_array(points(), chunks=(60, 2))
            zvl.write_points(tmp_path / scheduler, given, chunk_shape=3)
    zvl.write_points(tmp_path / "memory", points(), chunk_shape=3)
    assert content(tmp_path / "memory") == content(tmp_path / "sync") == content(tmp_path / "threads")
    write(tmp_path / "b", 1)
    assert len({content(tmp_path / name) for name in ("a", "b", "memory")}) == 3
    level = zvl.open_zv(tmp_path / "a")[0]
    level.save(tmp_path / "copy")
    level.sel(x=slice(0, 1)).save(tmp_path / "part")
    assert content(tmp_path / "part") != content(tmp_path / "copy")


@pytest.mark.distributed
def test_workers_look_for_themselves(tmp_path, client):
    write(tmp_path)
    level = zvl.open_zv(tmp_path)[0]
    values, vertices = level.attributes["n"], level.vertices
    client.compute(values).result()
    time.sleep(3)  # more than the pause of workers
    write(tmp_path)
    client.compute(values + 0).result()
    time.sleep(3)
    write(tmp_path, 1)
    with pytest.raises(
        FormatError, match=REPLACED
    ):  # blocks of `values` that the scheduler may still hold: none is read
        client.compute(vertices + 1).result()
