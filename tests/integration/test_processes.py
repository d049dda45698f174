"""Stores, selections and arrays in other processes: pickles, tokens, graphs, secrets, event loops, folders that are
read-only."""

import asyncio
import json
import logging
import os
import pickle
import stat

import cloudpickle
import dask
import dask.array as da
import numpy as np
import pytest
from dask.base import tokenize

import zarr_vectors_lazy as zvl
from tests.integration.collect import boxes_of, same_bytes
from tests.integration.generations import CELLS, GOLDEN, write_grid_store
from tests.integration.processes import run_python
from zarr_vectors_lazy.errors import ZVError
from zarr_vectors_lazy.storage.requests import counting

STORE_NBYTES = 64 * 1024
GRAPH_NBYTES = 200_000


def parts_of(store, name):
    """A store, and what is made of it, by name."""
    level = store[0]
    box = level.sel(bbox=boxes_of(name, 0)[0])
    narrow = box.sel(objects=level.objects.ids[:2]).sel(where={level.attribute_names[0]: (0, None)})
    return {
        "store": store,
        "level": level,
        "box": box,
        "narrow": narrow,
        "vertices": level.vertices,
        "attribute": box.attributes[level.attribute_names[0]],
        "edges": box.edges,
        "faces": level.faces,
        "object": level.objects[int(level.objects.ids[0])],
        "links": store[0].links(level.deltas[0]),
    }


def computed(parts):
    """Bytes of each part: of a level its vertices."""
    out = {}
    for key, part in parts.items():
        level = part[0] if key == "store" else part
        array = level.vertices if isinstance(level, zvl.ZVLevel) else part
        out[key] = array.compute().tobytes()
    return out


ELSEWHERE = """
import pickle, sys
from tests.integration.test_processes import computed
with open(sys.argv[1], "rb") as file:
    of_stores = pickle.load(file)
with open(sys.argv[1], "wb") as file:
    pickle.dump([computed(parts) for parts in of_stores], file)
"""


def assert_same_elsewhere(of_stores, file):
    file.write_bytes(cloudpickle.dumps(of_stores))
    run_python(ELSEWHERE, str(file))
    assert pickle.loads(file.read_bytes()) == [computed(parts) for parts in of_stores]


def test_pickles_compute_in_a_fresh_process(open_at, tmp_path):
    of_stores = [parts_of(open_at(name), name) for name in GOLDEN]
    of_stores.append(parts_of(open_at("tracts-0.9", "zarr"), "tracts-0.9"))
    assert_same_elsewhere(of_stores, tmp_path / "parts")


@pytest.mark.emulator
def test_pickles_of_a_bucket_compute_in_a_fresh_process(open_at, tmp_path):
    of_stores = []
    for backend in ("obstore-s3", "s3fs-s3"):
        parts = parts_of(open_at("tracts-0.9", backend), "tracts-0.9")
        of_stores.append({key: parts[key] for key in ("store", "narrow", "edges")})
    assert_same_elsewhere(of_stores, tmp_path / "parts")


def test_pickles_here(golden, open_at):
    parts = parts_of(open_at(golden.name), golden.name)
    again = pickle.loads(pickle.dumps({key: part for key, part in parts.items() if key != "narrow"}))
    assert computed(again) == {key: value for key, value in computed(parts).items() if key != "narrow"}
    assert again["store"].levels == parts["store"].levels
    assert [*again["level"].attributes] == [*parts["level"].attributes]  # which are told from here on
    assert repr(again["level"]) == repr(parts["level"])
    assert {key: tokenize(part) for key, part in again.items()} == {key: tokenize(parts[key]) for key in again}


def test_pickles_of_what_is_no_collection(open_at):
    level = open_at("tracts-0.9")[0]
    vertices, offsets = pickle.loads(pickle.dumps(level.objects.ragged()))
    assert len(vertices.compute()) == offsets.compute()[-1]
    for part in (level.attributes, level.objects, level.polylines, level.link_attributes, level.explain()):
        assert repr(pickle.loads(pickle.dumps(part)))


TOKENS = """
import json, sys
import zarr_vectors_lazy as zvl
from tests.integration.test_processes import tokens
print(json.dumps({name: tokens(zvl.open_zv(path), name) for name, path in map(str.split, sys.stdin)}))
"""


def tokens(store, name):
    parts = parts_of(store, name)
    named = {f"{key}.name": part.name for key, part in parts.items() if isinstance(part, da.Array)}
    return {key: tokenize(part) for key, part in parts.items()} | named


def test_tokens_and_keys_are_the_same_in_every_process(goldens, open_at):
    here = {name: tokens(open_at(name), name) for name in GOLDEN}
    stores = "\n".join(f"{name} {goldens[name].path}" for name in GOLDEN)
    assert json.loads(run_python(TOKENS, stdin=stores, PYTHONHASHSEED="17")) == here
    for of_store in here.values():
        assert len({of_store[key] for key in ("store", "level", "box", "narrow")}) == 4
    names = {of_store["vertices.name"] for of_store in here.values()}
    assert len(names) == len(GOLDEN)


def test_tokens_tell_selections_apart(open_at):
    level = open_at("tracts-0.9")[0]
    (lo, hi), other = boxes_of("tracts-0.9", 0)[0], boxes_of("tracts-0.9", 0)[1]
    parts = [
        level,
        open_at("tracts-0.9")[1],
        level.sel(bbox=(lo, hi)),
        level.sel(bbox=other),
        level.sel(bbox=(lo, np.nextafter(hi, np.inf))),
        level.sel(bbox=(lo, hi), whole_objects=True),
        level.sel(objects=[1]),
        level.sel(objects=[1, 2]),
        level.sel(where={"index": (0, 5)}),
        level.sel(where={"index": (0, 6)}),
        level.sel(where=lambda index: index > 2),
        level.sel(where=lambda index: index > 3),
        level.sel(where={"index": [0, 5]}),
        level.sel(where={"index": [0, 6]}),
        level.sel(where={"index": None}),
        level.within((lo + hi) / 2, 3),
        level.within(np.nextafter((lo + hi) / 2, np.inf), 3),
        level.sample(2000, 0),
        level.sample(2000, 1),
    ]
    assert len({tokenize(part) for part in parts}) == len(parts)
    assert len({part.vertices.name for part in parts}) == len(parts)
    assert level.sel(bbox=(lo, hi)).vertices.name == level.sel(bbox=(lo, hi)).vertices.name


def test_a_changed_store_has_other_tokens(tamper):
    copy = tamper("tracts-0.9")
    before = zvl.open_zv(copy.path)
    names = before[0].vertices.name, tokenize(before)
    copy.stamp(copy.counts())
    copy.edit(lambda doc: doc["attributes"].update(user_metadata={"version": 2}))
    after = zvl.open_zv(copy.path)
    assert (after[0].vertices.name, tokenize(after)) != names
    assert after[0].vertices.name != names[0]
    assert tokenize(after) != names[1]


def test_a_pickled_store_is_small(golden, open_at):
    store = open_at(golden.name)
    assert len(pickle.dumps(store)) < STORE_NBYTES
    for level in store:
        assert len(pickle.dumps(level)) < STORE_NBYTES


@pytest.fixture(scope="module")
def grids(tmp_path_factory):
    """Two stores, metadata alone, of 1000 and of 10648 chunks."""
    root = tmp_path_factory.mktemp("grids")
    return {extent: write_grid_store(root / f"{extent:03d}.zarr", extent) for extent in (10, 22)}


BOX = ((31.0, 31.0, 31.0), (59.0, 59.0, 59.0))  # 27 chunks of 10


def test_graphs_know_nothing_of_the_chunks_that_are_not_selected(grids):
    sizes, tasks = {}, {}
    for extent, path in grids.items():
        with counting() as counts:
            level = zvl.open_zv(path)[0]
            part = level.sel(bbox=BOX)
            assert (level.chunk_count, part.chunk_count) == (extent**3, 27)
            explained = part.explain()
        assert not [key for key in counts.keys if "/c/" in key]
        sizes[extent] = len(cloudpickle.dumps(part.vertices))
        graph = dict(part.vertices.__dask_graph__())
        tasks[extent] = (explained.tasks, len(graph))
        assert len(cloudpickle.dumps(dask.optimize(part.vertices)[0])) < GRAPH_NBYTES
        assert len(graph) < 27 * 6
    small, large = sizes.values()
    assert large < GRAPH_NBYTES
    assert abs(large - small) < small // 20
    assert tasks[10] == tasks[22]


def test_a_pickled_store_of_many_chunks_is_small(grids):
    for path in grids.values():
        assert len(pickle.dumps(zvl.open_zv(path))) < STORE_NBYTES
        assert len(pickle.dumps(zvl.open_zv(path)[0].sel(bbox=BOX))) < STORE_NBYTES


def test_many_chunks_share_few_tasks(grids):
    level = zvl.open_zv(grids[22])[0]
    assert level.vertices.numblocks[0] == 22**3
    with dask.config.set({"zarr_vectors_lazy.workers": 8}):
        explained = level.explain()
    assert explained.requests == 22**3
    assert explained.tasks <= 22**3 + 22**3 // 64
    assert zvl.open_zv(grids[22], chunks=500)[0].vertices.numblocks[0] == -(-(22**3) // 500)


def test_parts_of_many_chunks(grids):
    level = zvl.open_zv(grids[22])[0]
    assert level.sel(x=slice(0, 5)).chunk_count == 22**2
    assert level.sel(bbox=BOX).chunk_keys == [(i, j, k) for i in (3, 4, 5) for j in (3, 4, 5) for k in (3, 4, 5)]
    assert level.chunk_keys[:23] == [*((0, 0, k) for k in range(22)), (0, 1, 0)]


SECRETS = {
    "obstore": {"access_key_id": "AKIAHIDDENHIDDEN", "secret_access_key": "hidden/secret+0123456789"},
    "fsspec": {"key": "AKIAHIDDENHIDDEN", "secret": "hidden/secret+0123456789"},
}


@pytest.mark.emulator
@pytest.mark.parametrize("backend", ["obstore", "fsspec"])
def test_secrets_never_show(s3, place, backend, caplog):
    caplog.set_level(logging.DEBUG)
    place("tracts-0.9", {"obstore": "obstore-s3", "fsspec": "s3fs-s3"}[backend])
    url, options = s3.options(backend, "golden/tracts-0.9")
    secret = SECRETS[backend]
    shown = []
    store = zvl.open_zv(url, backend=backend, storage_options=options | secret)
    level = store[0]
    part = level.sel(bbox=boxes_of("tracts-0.9", 0)[0])
    shown += [repr(store), store._repr_html_(), repr(level), repr(part), str(part.explain()), store.url]
    shown += [repr(store._opened.tree.spec), tokenize(store), tokenize(part), part.vertices.name, repr(part.vertices)]
    shown += [repr(key) for key in part.vertices.__dask_graph__()]
    shown += [repr(task) for task in dict(part.vertices.__dask_graph__()).values()]
    assert len(part.vertices.compute())
    for ask in (
        lambda: store[17],
        lambda: zvl.open_zv(f"{url}-gone", backend=backend, storage_options=options | secret),
        lambda: zvl.open_zv("s3://no-such-bucket/x", backend=backend, storage_options=options | secret),
        lambda: zvl.open_zv(url, backend=backend, storage_options=options | secret, colour="blue"),
    ):
        with pytest.raises(ZVError) as caught:
            ask()
        shown += [str(caught.value), repr(caught.value), repr(vars(caught.value))]
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("zarr_vectors_lazy")]
    assert ours
    hidden = [value for key, value in secret.items() if "secret" in key]
    assert hidden
    for text in [*shown, *ours]:
        assert not any(value in text for value in hidden), text


@pytest.mark.emulator
def test_a_url_with_a_password_is_shown_without(tmp_path):
    with pytest.raises(ZVError) as caught:
        zvl.open_zv("http://user:hidden-password@127.0.0.1:9/store.zarr", client_options={"allow_http": True})
    assert "hidden-password" not in str(caught.value) + repr(vars(caught.value))


def test_a_folder_that_cannot_be_written(tamper, results):
    copy = tamper("tracts-0.9")
    for cells in copy.path.rglob(CELLS):
        copy.own(f"{cells.relative_to(copy.path)}/0")
    before = snapshot(copy.path)
    folders = [copy.path, *(path for path in copy.path.rglob("*") if path.is_dir())]
    for path in folders:
        path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        level = zvl.open_zv(copy.path)[0].compute_chunk_sizes()
        found = level.vertices.compute()
        assert len(level.edges.compute()) == len(results("tracts-0.9")["L0/edges"])
    finally:
        for path in folders:
            path.chmod(stat.S_IRWXU)
    assert same_bytes(found, results("tracts-0.9")["L0/vertices"])
    assert snapshot(copy.path) == before


def snapshot(folder):
    """Every file with its size and time of change: nothing may write, whoever runs this."""
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("backend", ["local", "memory", "zarr"])
def test_a_running_event_loop(open_at, results, backend):
    async def main():
        level = open_at("tracts-0.9", backend)[0]
        assert level.compute_chunk_sizes().vertex_count == level.vertex_count
        return level.vertices.compute(), level.edges.compute(), level.objects[3].compute()

    vertices, edges, path = asyncio.run(main())
    expected = results("tracts-0.9")
    assert same_bytes(vertices, expected["L0/vertices"])
    assert same_bytes(edges, expected["L0/edges"])
    start, stop = expected["L0/objects/offsets"][3:5]
    assert same_bytes(path, expected["L0/objects/vertices"][start:stop])


@pytest.mark.emulator
@pytest.mark.parametrize("backend", ["obstore-s3", "s3fs-s3"])
def test_a_running_event_loop_and_a_bucket(open_at, results, backend):
    async def main():
        part = open_at("tracts-0.9", backend)[0].sel(bbox=boxes_of("tracts-0.9", 0)[0])
        return part.vertices.compute(), part.edges.compute()

    vertices, edges = asyncio.run(main())
    assert same_bytes(vertices, results("tracts-0.9")["L0/bbox0/vertices"])
    assert same_bytes(edges, results("tracts-0.9")["L0/bbox0/edges"])


def test_an_environment_variable_chooses_the_backend(goldens, monkeypatch):
    path = goldens["tracts-0.9"].path
    assert zvl.open_zv(path).backend == "local"
    assert zvl.open_zv(path.as_uri()).backend == "local"
    assert zvl.open_zv(os.fspath(path), backend="fsspec").backend == "fsspec"
    monkeypatch.setenv("ZARR_VECTORS_BACKEND", "obstore")
    assert zvl.open_zv(path).backend == "obstore"
    assert zvl.open_zv(path, backend="local").backend == "local"
    assert len(zvl.open_zv(path)[1].vertices.compute()) == 141
