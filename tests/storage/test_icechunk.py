"""Writing into an icechunk session: cells are taken only by arrays that are there, keys only if they are Zarr's."""

import json
import pickle
from dataclasses import replace

import dask
import dask.array as da
import icechunk
import numpy as np
import pytest
from zarr.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

import zarr_vectors_lazy as zvl
from zarr_vectors_lazy.errors import FormatError, StoreError
from zarr_vectors_lazy.progress import computing
from zarr_vectors_lazy.requests import Get, ListDir, Put
from zarr_vectors_lazy.storage.fetch import connect, fetch
from zarr_vectors_lazy.storage.io import run
from zarr_vectors_lazy.storage.requests import counting
from zarr_vectors_lazy.storage.resolve import resolve

RANDOM = np.random.default_rng(4)
POINTS = RANDOM.uniform(-3, 3, (200, 2)).astype("f4")
LINES = [np.cumsum(RANDOM.normal(size=(20, 2)), axis=0) for _ in range(12)]
EDGES = RANDOM.integers(0, 200, (150, 2))


@pytest.fixture
def repository(tmp_path):
    icechunk.set_logs_filter("error")
    return icechunk.Repository.create(icechunk.local_filesystem_storage(str(tmp_path)))


@pytest.fixture
def session(repository):
    return repository.writable_session("main")


def objects(store):
    async def read():
        prototype = default_buffer_prototype()
        return {key: (await store.get(key, prototype)).to_bytes() async for key in store.list()}

    found = {key: json.loads(data) if key.endswith(".json") else data for key, data in run(read()).items()}
    found["zarr.json"]["attributes"].get("ome", {}).pop("name", None)  # that of the store object
    return found


def write_points(path, **more):
    values = {"n": np.arange(200), "t": np.array(list("ab"))[np.arange(200) % 2]}
    owners = {"object_ids": np.arange(200) % 7, "object_attributes": {"w": np.arange(7.0)}, "groups": {"a": [0, 2]}}
    zvl.write_points(path, POINTS, chunk_shape=2, bin_shape=1, vertex_attributes=values, **owners, **more)


def write_lazily(path):
    blocks = {"n": da.arange(200, chunks=50)}
    zvl.write_points(path, da.from_array(POINTS, chunks=(50, 2)), chunk_shape=2, vertex_attributes=blocks)


def write_graph(path):
    zvl.write_graph(path, POINTS, EDGES, chunk_shape=2, bin_shape=1, link_attributes={"e": np.arange(150)})


def write_mesh(path):
    faces = RANDOM.permutation(200)[:150].reshape(-1, 3)
    zvl.write_mesh(path, POINTS, np.sort(faces, axis=0), chunk_shape=3)


def build(path):
    zvl.write_polylines(path, iter([LINES]), chunk_shape=4, bin_shape=1)
    zvl.build_pyramid(path, factors=[(2, 1), (2, 2)])


def rebuild(path):
    build(path)
    zvl.build_pyramid(path, factors=[(4, 1)], overwrite=True)


def change(path):
    write_points(path)
    level = zvl.open_zv(path)[0]
    level.write_attribute("twice", level.vertices * 2)
    zvl.index(path)
    zvl.consolidate(path)


def rechunk(path):
    write_graph(source := MemoryStore())
    zvl.rechunk(source, path, chunk_shape=3)


WRITES = {
    "points": write_points,
    "sharded": lambda path: write_points(path, shard_shape=2),
    "dask": write_lazily,
    "lines": lambda path: zvl.write_lines(path, POINTS.reshape(-1, 2, 2), chunk_shape=2),
    "polylines": lambda path: zvl.write_polylines(path, LINES, chunk_shape=4),
    "graph": write_graph,
    "pyramid": rebuild,
    "changes": change,
    "rechunk": rechunk,
}


@pytest.mark.parametrize("name", WRITES)
def test_the_same_objects_as_anywhere_else(name, repository, session):
    other = MemoryStore()
    for path in (session.store, other):
        WRITES[name](path)
    assert objects(session.store) == objects(other)
    session.commit("written")
    committed = repository.readonly_session("main").store
    assert zvl.validate(committed).ok
    assert objects(committed) == objects(other)


def test_a_mesh_and_a_migrated_store(session, goldens):
    write_mesh(session.store)
    assert zvl.validate(session.store).ok
    zvl.migrate(goldens["tracts-0.7"].path, session.store, mode="w")
    migrated, old = zvl.open_zv(session.store), zvl.open_zv(goldens["tracts-0.7"].path)
    assert migrated.levels == old.levels
    assert np.array_equal(np.sort(migrated[0].vertices.compute(), 0), np.sort(old[0].vertices.compute(), 0))


def failing_at(monkeypatch, store, part):
    """Let the puts of keys with ``part`` in them fail from now on."""
    backend = connect(resolve(store))
    put = type(backend)._put

    async def refuse(self, request):
        if part in request.key:
            raise OSError("no more")
        return await put(self, request)

    monkeypatch.setattr(type(backend), "_put", refuse)


@pytest.mark.parametrize("part", ["0/vertices/c/", "0/vertices/zarr.json", "0/zarr.json"])
def test_an_unfinished_write_says_so_and_can_be_replaced(session, repository, part):
    with pytest.MonkeyPatch.context() as patch:
        failing_at(patch, session.store, part)
        with pytest.raises(StoreError, match="no more"):
            write_points(session.store)
    session.commit("by mistake")
    with pytest.raises(FormatError, match="unfinished write"):
        zvl.open_zv(repository.readonly_session("main").store)
    again = repository.writable_session("main")
    with pytest.raises(StoreError, match="an unfinished write is here already"):
        write_points(again.store)
    write_points(again.store, mode="w")
    write_points(whole := MemoryStore())
    assert objects(again.store) == objects(whole)


def test_an_attribute_that_is_not_finished_is_not_there(session):
    write_points(session.store)
    before = objects(session.store)
    with pytest.MonkeyPatch.context() as patch:
        failing_at(patch, session.store, "vertex_attributes/new/c/")
        with pytest.raises(StoreError, match="no more"):
            zvl.open_zv(session.store)[0].write_attribute("new", np.arange(200))
    assert {key for key in objects(session.store) if key not in before}
    level = zvl.open_zv(session.store)[0]
    assert sorted(level.attribute_names) == ["n", "t"]
    level.write_attribute("new", np.arange(200))
    assert zvl.open_zv(session.store)[0].attributes["new"].compute().tolist() == list(range(200))


def test_an_interrupted_build_goes_on_with_its_store_object_and_begins_anew_with_another(session, repository):
    store, whole, factors = session.store, MemoryStore(), [(2, 1), (2, 2)]
    build(whole)
    zvl.write_polylines(store, LINES, chunk_shape=4, bin_shape=1)
    for _ in range(2):
        with pytest.MonkeyPatch.context() as patch, dask.config.set(scheduler="sync"):
            failing_at(patch, store, "2/vertices/c/")
            with pytest.raises(StoreError, match="no more"):
                zvl.build_pyramid(store, factors=factors)
        assert zvl.open_zv(store).levels == [0]
        assert fetch(connect(resolve(store)), [ListDir("_building")]) == [("1", "2")]
    session.commit("half of it")
    again = repository.writable_session("main").store
    zvl.build_pyramid(again, factors=factors)
    assert objects(again) == objects(whole)


def test_what_is_missing_is_none_or_an_error(session):
    backend = connect(resolve(session.store))
    assert fetch(backend, [Get("0/v/c/0"), Get("0/v/zarr.json"), Get("_a/b")]) == [None, None, None]
    with pytest.raises(StoreError, match="writing '0/v/c/0' failed"):
        fetch(backend, [Put("0/v/c/0", b"x")])
    write_points(session.store)
    before = objects(session.store)
    with pytest.raises(StoreError, match="pass shard_shape= when you write"):
        zvl.shard(session.store, shard_shape=2)
    assert {key: doc for key, doc in objects(session.store).items() if key in before} == before
    assert zvl.open_zv(session.store)[0].vertex_count == 200


def test_a_session_stays_in_its_process(session, repository):
    with pytest.raises(StoreError, match="cannot leave its process: compute with threads"):
        pickle.dumps(resolve(session.store))
    fork = repository.writable_session("main").fork()
    pickle.dumps(resolve(fork.store))
    with pytest.raises(StoreError, match="in the memory of another process"):
        fetch(connect(replace(resolve(fork.store), home="elsewhere")), [Put("zarr.json", b"{}")])
    write_points(fork.store)  # in its own process it can be written, and merged by its maker
    assert zvl.open_zv(fork.store)[0].vertex_count == 200


def test_two_sessions_cannot_both_commit_a_write_of_one_place(repository):
    one, other = (repository.writable_session("main") for _ in range(2))
    for session in (one, other):
        write_points(session.store)
    one.commit("first")
    with pytest.raises(icechunk.ConflictError):
        other.commit("second")
    assert zvl.open_zv(repository.readonly_session("main").store)[0].vertex_count == 200


def test_a_document_more_is_put_for_each_array_and_none_elsewhere(session):
    puts = []
    for store in (session.store, MemoryStore()):
        with counting() as counts:
            write_points(store)
        puts.append(counts.by_kind["put"])
    arrays = {key.partition("/c/")[0] for key in objects(session.store) if "/c/" in key}
    with_cells_first = {array for array in arrays if array.split("/")[1].startswith(("vert", "fragment"))}
    assert puts[0] - puts[1] == len(with_cells_first) == 5


def as_distributed_does(spec):
    try:
        pickle.dumps(spec)
    except StoreError as error:
        raise TypeError("Could not serialize object") from error


def test_a_cluster_is_told_of_in_our_words(session):
    with pytest.raises(StoreError, match="cannot leave its process") as caught, computing("writing", shown=False):
        as_distributed_does(resolve(session.store))
    assert isinstance(caught.value.__cause__, TypeError)
    with pytest.raises(TypeError, match="another"), computing("writing", shown=False):
        raise TypeError("another")
