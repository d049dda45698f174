"""The writers on every service that takes objects."""

import json

import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from zarr_vectors_lazy.errors import StoreError
from zarr_vectors_lazy.requests import Get, Put
from zarr_vectors_lazy.storage.connect import connect
from zarr_vectors_lazy.storage.fetch import fetch
from zarr_vectors_lazy.storage.resolve import resolve

POINTS = np.random.default_rng(0).uniform(-2, 2, (40, 2))
PATHS = [POINTS[:25], POINTS[25:]]


def test_points_then_polylines(writable):
    if writable.service.host == "icechunk_session":  # takes a chunk only after its array, whose document comes last
        with pytest.raises(StoreError, match="writing '0/"):
            zvl.write_points(writable.path, POINTS, chunk_shape=2)
        return
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


def test_create_only(writable):
    ignored = writable.service.host == "google"  # its emulator looks at no ifGenerationMatch, which gcsfs sends
    documents = [b'{"zarr_format":3,"node_type":"group","attributes":{"n":%d}}' % i for i in range(2)]
    backend = connect(resolve(writable.path, **writable.options))
    assert fetch(backend, [Put("zarr.json", documents[0], create=True)]) == [True]
    assert fetch(backend, [Put("zarr.json", documents[1], create=True)]) == [ignored]
    if not ignored:
        assert json.loads(bytes(fetch(backend, [Get("zarr.json")])[0]))["attributes"] == {"n": 0}
