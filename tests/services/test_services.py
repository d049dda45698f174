"""What every service must do, however it is reached; `docs/reference/services.md` has the table of these tests."""

import json
import logging
import pickle
import zipfile

import dask
import numpy as np
import pytest
from dask.base import tokenize

import zarr_vectors_lazy as zvl
from tests.conftest import DATA
from tests.services.catalogue import BUCKET
from tests.services.fixtures import consolidated
from zarr_vectors_lazy.errors import StoreError, ZVError
from zarr_vectors_lazy.storage.fetch import connect, fetch
from zarr_vectors_lazy.storage.requests import Put, counting
from zarr_vectors_lazy.storage.resolve import resolve

NAME = "tracts-0.9"
BOX = ([84, 100, 78], [92, 112, 88])
SMALL = DATA / "0.9-variety" / "stores" / "paths-attributes.zarrvectors.zip"


@pytest.fixture(scope="module")
def truth(goldens):
    """The same store, read from local disk."""
    return zvl.open_zv(goldens[NAME].path)


@pytest.fixture
def there(service, brought):
    return brought(service, NAME)


@pytest.fixture(scope="module")
def small():
    """Objects of a small store, by key, with consolidated metadata."""
    with zipfile.ZipFile(SMALL) as packed:
        return consolidated({name: packed.read(name) for name in packed.namelist() if not name.endswith("/")})


def arrays(level):
    return [level.vertices, *level.attributes.values(), level.edges]


def same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert np.array_equal(one, other)


def test_open(service, there, truth):
    with counting() as counts:
        store = there.open()
    assert (store.backend, store.levels, store.format_version) == (service.backend, truth.levels, truth.format_version)
    assert not [key for key in counts.keys if "/c/" in key]
    assert counts.by_kind["put"] == 0


def test_metadata(there, truth):
    store = there.open()
    for name in ("geometry_types", "axes", "units", "bounds", "chunk_shape", "bin_shape", "headers", "attrs"):
        assert np.array_equal(getattr(store, name), getattr(truth, name)), name
    for level, expected in zip(store, truth, strict=True):
        for name in ("vertex_count", "chunk_keys", "attribute_names", "deltas", "bounds", "bin_shape"):
            assert np.array_equal(getattr(level, name), getattr(expected, name)), name


def test_full_read(there, truth):
    store = there.open()
    for level, expected in zip(store, truth, strict=True):
        same(dask.compute(*arrays(level)), dask.compute(*arrays(expected)))


def test_box(there, truth):
    level = there.open()[0]
    part = level.sel(bbox=BOX)
    rows = truth[0].vertices.compute().astype(float)
    inside = ((rows >= BOX[0]) & (rows <= BOX[1])).all(axis=1)
    with counting() as counts:
        found = part.vertices.compute()
    assert 0 < len(found) < len(rows)
    assert np.array_equal(found, truth[0].vertices.compute()[inside])
    assert len([key for key in counts.keys if "/c/" in key]) == part.chunk_count < level.chunk_count


def test_objects(there, truth):
    level, expected = there.open()[0], truth[0]
    assert np.array_equal(level.objects.ids, expected.objects.ids)
    some = expected.objects.ids[[0, 7]].tolist()
    same(dask.compute(*(level.objects[i] for i in some)), dask.compute(*(expected.objects[i] for i in some)))
    same(dask.compute(*level.objects.ragged()), dask.compute(*expected.objects.ragged()))


def test_read_only(fresh, small):
    fresh.put(small)
    with counting() as counts:
        for level in fresh.open():
            dask.compute(*arrays(level), level.objects.ragged())
    assert counts.by_kind["put"] == 0
    assert fresh.objects() == small


def test_missing(fresh):
    with pytest.raises(ZVError):
        fresh.open()


def test_secrets(service, there, caplog):
    caplog.set_level(logging.DEBUG)
    store = there.open()
    spec = resolve(there.path, **there.options)
    texts = [repr(store), store._repr_html_(), repr(spec), repr(connect(spec)), str(tokenize(spec)), repr(spec.options)]
    texts += [repr(store[0].vertices), str(dict(store[0].vertices.dask)), repr(there.options.get("backend"))]
    if service.secrets:
        user = {"username": "nobody"} if service.host == "sftp" else {}
        options = {**there.options, **user}
        with pytest.raises(StoreError) as caught:
            zvl.open_zv(there.path.replace(BUCKET, "no-such-bucket"), **options)
        texts += [str(caught.value), repr(caught.value)]
    store[0].sel(bbox=BOX).vertices.compute()
    texts += [record.getMessage() for record in caplog.records if record.name.startswith("zarr_vectors_lazy")]
    assert not [text for text in texts for secret in service.secrets if secret in text]


def test_workers(service, there, truth):
    store = there.open()
    if service.name in {"https-fsspec", "icechunk-session"}:  # an SSLContext, and a session that is written to
        with pytest.raises((TypeError, StoreError), match=r"SSLContext|cannot leave its process"):
            pickle.dumps(store[2])
        return
    level = pickle.loads(pickle.dumps(store[2]))
    assert np.array_equal(level.vertices.compute(), truth[2].vertices.compute())


def test_write(writable, small):
    writable.put({key: data for key, data in small.items() if key != "zarr.json"} | {"zarr.json": bare(small)})
    zvl.consolidate(writable.path, **writable.options)
    after = writable.objects()
    assert {key: json.loads(data) if key.endswith(".json") else data for key, data in after.items()} == {
        key: json.loads(data) if key.endswith(".json") else data for key, data in small.items()
    }
    with counting() as counts:
        writable.open(consolidated=True)
    assert counts.requests == 1
    array, cell = next(key for key in small if "/vertices/c/" in key).split("/c/")
    new = {"extra/zarr.json": small[f"{array}/zarr.json"], f"extra/c/{cell}": b"\x00\xff" * 50_000}
    backend = connect(resolve(writable.path, **writable.options))
    fetch(backend, [Put(key, data) for key, data in new.items()])
    assert {key: data for key, data in writable.objects().items() if key not in after} == new


def bare(objects):
    root = json.loads(objects["zarr.json"])
    del root["consolidated_metadata"]
    return json.dumps(root).encode()
