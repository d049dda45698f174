"""Writers, and tools that change a store in place, on every service that can be written to."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from tests.bounds import HANGS_S
from tests.services.catalogue import SERVICES
from tests.services.fixtures import params
from zarr_vectors_lazy.errors import StoreError
from zarr_vectors_lazy.format.registry import CURRENT
from zarr_vectors_lazy.model.writing import Cells, Encoding, Grid
from zarr_vectors_lazy.requests import Get, Put
from zarr_vectors_lazy.storage.fetch import connect, fetch
from zarr_vectors_lazy.storage.resolve import resolve
from zarr_vectors_lazy.write import session

POINTS = np.random.default_rng(0).uniform(-2, 2, (40, 2))
PATHS = [POINTS[:25], POINTS[25:]]
ONE_EACH = {(service.host, service.backend): service for service in SERVICES if service.writable}.values()
on_each = pytest.mark.parametrize("writable", params(ONE_EACH), indirect=True)


def test_points_then_polylines(writable):
    ids = np.arange(len(POINTS)) % 3
    values = {"n": np.arange(len(POINTS))}
    zvl.write_points(writable.path, POINTS, chunk_shape=2, object_ids=ids, vertex_attributes=values, **writable.options)
    level = writable.open()[0]
    assert np.array_equal(level.vertices.compute(), POINTS[level.attributes["n"].compute()])
    found = level.objects[2].compute()
    assert sorted(map(tuple, found)) == sorted(map(tuple, POINTS[ids == 2]))
    with pytest.raises(StoreError, match="a Zarr Vectors store is here already"):
        zvl.write_polylines(writable.path, PATHS, chunk_shape=2, **writable.options)
    zvl.write_polylines(writable.path, PATHS, chunk_shape=2, mode="w", **writable.options)
    assert [np.array_equal(writable.open()[0].objects[i].compute(), PATHS[i]) for i in range(2)] == [True, True]
    assert not any("vertex_attributes" in key for key in writable.objects())


@on_each
def test_pyramid_and_upkeep(writable):
    edges = np.stack([np.arange(39), np.arange(1, 40)], axis=1)
    zvl.write_graph(writable.path, POINTS, edges, chunk_shape=2, bin_shape=1, **writable.options)
    zvl.build_pyramid(writable.path, factors=[(2, 1)], **writable.options)
    level = writable.open()[0]
    level.write_attribute("x", level.vertices[:, 0])
    zvl.index(writable.path, **writable.options)
    zvl.consolidate(writable.path, **writable.options)
    store = writable.open(consolidated=True)
    assert store.levels == [0, 1]
    assert np.array_equal(store[0].attributes["x"].compute(), store[0].vertices.compute()[:, 0])
    assert len(store[0].edges.compute()) == 39
    assert zvl.validate(writable.path, **writable.options).ok
    assert not any(key.startswith("_") for key in writable.objects())


@on_each
def test_bytes(writable):
    backend = connect(resolve(writable.path, **writable.options))
    cells = Cells(
        path="a", coords=np.arange(5)[:, None], payloads=[b"x\r", b"x\r\n", b"\n", b"\r\n--==0==\r", bytes(9)]
    )
    plain = Encoding(compressor=None, checksum=False)
    puts = CURRENT.cell_puts(0, cells, Grid(origin=(0,), shape=(5,)), plain)
    puts = [replace(put, data=payload) for put, payload in zip(puts, cells.payloads, strict=True)]
    assert fetch(backend, puts) == [True] * 5
    found = fetch(backend, [Get(put.key) for put in puts])
    assert [bytes(data) for data in found] == cells.payloads


def test_create_only(writable):
    documents = [b'{"zarr_format":3,"node_type":"group","attributes":{"n":%d}}' % i for i in range(2)]
    backend = connect(resolve(writable.path, **writable.options))
    assert fetch(backend, [Put("zarr.json", documents[0], create=True)]) == [True]
    assert fetch(backend, [Put("zarr.json", documents[1], create=True)]) == [False]
    assert json.loads(bytes(fetch(backend, [Get("zarr.json")])[0]))["attributes"] == {"n": 0}
    if backend.swaps:
        third = documents[0].replace(b"0}", b"3}")
        swaps = [Put("zarr.json", third, match=old) for old in (documents[1], documents[0], documents[0])]
        assert [fetch(backend, [swap])[0] for swap in swaps] == [False, True, True]  # the last finds it there
        assert fetch(backend, [Put("zarr.json", documents[1], match=documents[0])]) == [False]


@on_each
def test_two_writers_at_once(writable, monkeypatch):
    """Both look before either has put its root: one wins, and the other touches nothing."""
    both, looked = threading.Barrier(2), session._refuse_others

    def look_and_wait(*arguments):
        looked(*arguments)
        both.wait(HANGS_S)

    path, options = writable.path, writable.options
    monkeypatch.setattr(session, "_refuse_others", look_and_wait)

    def write(n):
        try:
            return zvl.write_points(path, POINTS[:n], chunk_shape=4, **options)["vertex_count"]
        except StoreError as error:
            return error.message

    with ThreadPoolExecutor(2) as threads:
        outcomes = list(threads.map(write, [3, 5]))
    (won,) = (outcome for outcome in outcomes if outcome in (3, 5))
    (lost,) = (outcome for outcome in outcomes if outcome != won)
    assert "this one is given up" in lost  # reported at the start, or when the other has replaced the store
    assert sorted(map(tuple, writable.open()[0].vertices.compute())) == sorted(map(tuple, POINTS[:won]))


@on_each
def test_overtaken(writable, monkeypatch):
    """A write is held before its first cells until another one, with mode="w", has finished: it changes nothing."""
    path, options, put = writable.path, writable.options, session.WriteSession.put
    reached, released, lock = threading.Event(), threading.Event(), threading.Lock()

    def hold(self, puts):
        with lock:
            first = not reached.is_set()
            reached.set()
        if first:
            assert released.wait(HANGS_S)
        put(self, puts)

    monkeypatch.setattr(session.WriteSession, "put", hold)
    with ThreadPoolExecutor(1) as thread:
        late = thread.submit(zvl.write_points, path, POINTS[:3], chunk_shape=4, mode="w", **options)
        assert reached.wait(HANGS_S)
        zvl.write_points(path, POINTS[3:9], chunk_shape=4, mode="w", **options)
        before = writable.objects()
        released.set()
        assert "another write took this place meanwhile" in str(late.exception())
    after = writable.objects()
    assert {key: after[key] for key in before} == before
    assert all("/c/" in key for key in after.keys() - before.keys())  # of chunks that the other does not have, unlisted
    assert np.array_equal(np.sort(writable.open()[0].vertices.compute(), 0), np.sort(POINTS[3:9], 0))
