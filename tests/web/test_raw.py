"""``/raw/`` of a served store: the store with codecs and shards undone, to the byte, for any reader."""

import itertools
import json
import shutil
from types import SimpleNamespace

import numcodecs
import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from tests.copy.test_shard import assert_same, given
from tests.web.served import asked, running, serving
from zarr_vectors_lazy.storage.resolve import resolve
from zarr_vectors_lazy.web import server as web
from zarr_vectors_lazy.web.server import Server

pytestmark = pytest.mark.emulator
VARIETY = [
    "points-gzip",
    "points-sharded-blosc",
    "paths-sharded",
    "mesh-quads",
    "skeleton-0.7",
    "packed-octree-0.7",
    "zeros-0.7",
    "n093-additive-points",
    "n094-dense-manifests",
]


def same_objects(a, b):
    """Whether attributes of objects and groups are the same."""
    for level, other in zip(zvl.open_zv(a), zvl.open_zv(b), strict=True):
        assert level.attribute_names == other.attribute_names
        assert level.objects.ids.tolist() == other.objects.ids.tolist()
        assert level.objects.attributes.identical(other.objects.attributes)
        groups, others = level.objects.groups, other.objects.groups
        assert {key: of.tolist() for key, of in groups.items()} == {key: of.tolist() for key, of in others.items()}


@pytest.mark.parametrize("name", VARIETY)
def test_the_raw_tree_is_the_store(variety, name):
    where = variety(name)
    with serving(where) as server:
        raw = f"{server.url}/raw"
        assert_same(given(raw), given(where))
        same_objects(raw, where)


@pytest.mark.parametrize("name", ["tracts-0.9", "surface-0.9", "cloud-0.7"])
def test_golden_stores_are_the_raw_tree(goldens, name):
    with serving(goldens[name].path) as server:
        assert_same(given(f"{server.url}/raw"), given(goldens[name].path))


def folded(path, chunk_shape=10):
    """A store of all kinds of arrays, in shards of blosc with checksums."""
    points = np.random.default_rng(0).uniform(-20, 20, (600, 3))
    zvl.write_points(
        path,
        points,
        chunk_shape=chunk_shape,
        vertex_attributes={"r": np.arange(600.0), "c": np.arange(600) % 7},
        object_ids=np.arange(600) // 50 + 10**9,
        object_attributes={"n": np.arange(12)},
        groups={"a": [10**9, 10**9 + 3]},
        compressor="blosc",
        shard_shape=3,
    )
    return path


def test_every_cell_to_the_byte(tmp_path):
    where = folded(tmp_path / "f.zv")
    level = zvl.open_zv(where)[0]
    with serving(where) as server:
        doc = json.loads(asked(server, "/raw/0/vertices/zarr.json")[1])
        assert doc["codecs"] == [{"name": "vlen-bytes", "configuration": {}}]
        assert doc["chunk_grid"]["configuration"]["chunk_shape"] == [1, 1, 1]
        origin = doc["attributes"]["chunk_grid_origin"]
        listed = {tuple(map(int, key.split("."))) for key in doc["attributes"]["nonempty_chunks"]}
        assert listed == set(level.chunk_keys)
        rows = {key: part["vertices"] for key, part in level.iter_chunks()}
        for index in itertools.product(*map(range, doc["shape"])):
            chunk = tuple(np.add(index, origin).tolist())
            key = "/raw/0/vertices/c/" + "/".join(map(str, index))
            status, body, _ = asked(server, key)
            if chunk not in listed:
                assert status == 404
                continue
            assert status == 200
            assert np.frombuffer(body, "<u4", 2).tolist() == [1, len(body) - 8]
            assert body[8:] == rows[chunk].astype("<f8").tobytes()
        key = "/raw/0/vertices/c/" + "/".join(map(str, np.subtract(level.chunk_keys[0], origin)))
        _, body, headers = asked(server, key)
        head = asked(server, key, method="HEAD")
        assert (head[0], head[1], head[2]["Content-Length"]) == (200, b"", str(len(body)))
        parts = [asked(server, key, Range=f"bytes={at}-{at + 99}") for at in range(0, len(body), 100)]
        assert {status for status, *_ in parts} == {206}
        assert b"".join(part for _, part, _ in parts) == body
        assert asked(server, key, **{"If-None-Match": headers["ETag"]})[0] == 304
        for absent in ("9/9/9", "0/0", "0/0/0/0", "-1/0/0", "00/0/0", f"{'9' * 18}/0/0"):
            assert asked(server, f"/raw/0/vertices/c/{absent}")[0] == 404


def test_all_arrays_are_raw(tmp_path):
    where = folded(tmp_path / "f.zv")
    with serving(where) as server:
        root = json.loads(asked(server, "/raw/zarr.json")[1])
        nodes = root["consolidated_metadata"]["metadata"]
        arrays = {path: doc for path, doc in nodes.items() if doc["node_type"] == "array"}
        assert {len(doc["codecs"]) for doc in arrays.values()} == {1}
        assert root["attributes"]["zarr_vectors"]["attribute_specs"]["vertex"].keys() == {"r", "c"}
        for path, doc in nodes.items():
            assert json.loads(asked(server, f"/raw/{path}/zarr.json")[1]) == doc
        body = asked(server, "/raw/0/object_index/manifests/c/0")[1]
        assert np.frombuffer(body, "<u4", 1)[0] == 12
        ids = np.frombuffer(asked(server, "/raw/0/object_index/object_ids/c/0")[1], "<i8")
        assert ids[:12].tolist() == list(range(10**9, 10**9 + 12))
        assert b"zarr.json" in asked(server, "/raw/0/vertex_attributes/c/")[1]
        assert asked(server, "/raw/0/vertex_attributes/c/c/")[0] == 404
        assert asked(server, "/raw/0/")[1] == asked(server, "/0/")[1]
        status, _, headers = asked(server, "/raw")
        assert (status, headers["Location"]) == (308, "raw/")
        assert asked(server, "/raw/nothing/zarr.json")[0] == 404
        assert asked(server, "/raw/0/zarr.json")[0] == 200


def test_a_root_that_names_no_attributes_does(variety):
    where = variety("points-attributes")
    with serving(where) as server:
        root = json.loads(asked(server, "/raw/zarr.json")[1])
    specs = root["attributes"]["zarr_vectors"]["attribute_specs"]["vertex"]
    assert specs.keys() == set(zvl.open_zv(where)[0].attribute_names)


@pytest.mark.filterwarnings("ignore:Numcodecs codecs")
def test_codecs_that_only_zarr_knows(tmp_path):
    where = folded(tmp_path / "f.zv")
    zvl.shard(where, shard_shape=None)
    expected = given(where)
    for path, first in (("0/vertices", "vlen-bytes"), ("0/object_index/object_ids", "bytes")):
        doc = json.loads((where / path / "zarr.json").read_text())
        with serving(where) as server:
            for key in [file.relative_to(where).as_posix() for file in (where / path).rglob("*") if file.is_file()]:
                if not key.endswith("zarr.json"):
                    packed = numcodecs.Zlib().encode(
                        asked(server, f"/raw/{key.replace('c.', 'c/', 1).replace('.', '/')}")[1]
                    )
                    (where / key).write_bytes(packed)
        assert doc["codecs"][0]["name"] == first
        doc["codecs"] = [doc["codecs"][0], {"name": "numcodecs.zlib", "configuration": {"level": 1}}]
        (where / path / "zarr.json").write_text(json.dumps(doc))
    assert_same(given(where), expected)
    with serving(where) as server:
        raw = f"{server.url}/raw"
        assert_same(given(raw), expected)
        assert json.loads(asked(server, "/raw/0/vertices/zarr.json")[1])["codecs"] == [
            {"name": "vlen-bytes", "configuration": {}}
        ]


def test_a_damaged_cell_is_no_raw_cell(tmp_path):
    where = tmp_path / "f.zv"
    zvl.write_points(where, np.random.default_rng(0).uniform(0, 5, (100, 3)), chunk_shape=5)
    cell = where / "0/vertices/c/0/0/0"
    cell.write_bytes(cell.read_bytes()[:-1] + b"x")
    with serving(where) as server:
        status, body, _ = asked(server, "/raw/0/vertices/c/0/0/0")
        assert status == 502
        assert b"crc32c" in body
        cell.unlink()
        status, body, _ = asked(server, "/raw/0/vertices/c/0/0/0")
        assert status == 502
        assert b"it is listed" in body


def test_what_was_replaced_is_served_anew(tmp_path, monkeypatch):
    where = folded(tmp_path / "f.zv")
    clock = itertools.count(step=10)
    monkeypatch.setattr(web, "time", SimpleNamespace(monotonic=clock.__next__))
    with serving(where) as server:
        before = asked(server, "/raw/0/vertices/c/1/1/1")[1]
        zvl.shard(where, shard_shape=None)
        assert asked(server, "/raw/0/vertices/c/1/1/1")[1] == before
        shutil.rmtree(where / "0")
        assert asked(server, "/raw/0/vertices/c/1/1/1")[0] == 404


@pytest.mark.parametrize("backend", ["obstore", "fsspec"])
def test_a_store_in_a_bucket(s3, tmp_path, backend):
    where = folded(tmp_path / "f.zv", 20)
    s3.upload(where, f"raw-{backend}")
    url, options = s3.options(backend, f"raw-{backend}")
    with running(Server(resolve(url, backend=backend, storage_options=options))) as server:
        assert_same(given(f"{server.url}/raw"), given(where))
        assert asked(server, "/raw/0/vertex_attributes/c/c/")[0] == 404
        assert b"zarr.json" in asked(server, "/raw/0/vertex_attributes/c/")[1]
