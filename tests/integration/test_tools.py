"""Tools that write, on stores that are not folders."""

import zipfile

import numpy as np
import pytest
from zarr.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

import zarr_vectors_lazy as zvl
from tests.conftest import DATA


@pytest.fixture(params=["zarr", pytest.param("obstore", marks=pytest.mark.emulator)])
def bring(request, goldens):
    """Return ``(place, options)`` of a copy of a golden store, or of an empty place."""
    kind = request.param

    def make(name, source=None):
        folder = goldens[source].path if source else None
        found = folder.rglob("*") if folder else ()
        files = {file.relative_to(folder).as_posix(): file.read_bytes() for file in found if file.is_file()}
        if kind == "zarr":
            buffer = default_buffer_prototype().buffer
            return MemoryStore({key: buffer.from_bytes(data) for key, data in files.items()}), {}
        server = request.getfixturevalue("s3")
        server.put(files, f"tools/{kind}/{name}")
        url, options = server.options(kind, f"tools/{kind}/{name}")
        return url, {"backend": kind, "storage_options": options}

    return make


def test_in_place(bring):
    path, options = bring("cloud", "cloud-0.9")
    before = zvl.read_points(path, attribute_names="all", **options)
    assert zvl.index(path, **options)[0] == before["vertex_count"]
    objects = zvl.open_zv(path, **options).cost().objects
    zvl.shard(path, shard_shape=3, **options)
    assert zvl.open_zv(path, **options).cost().objects < objects
    level = zvl.open_zv(path, **options)[0]
    level.write_attribute("double", level.attributes["confidence"] * 2)
    after = zvl.read_points(path, attribute_names="all", **options)
    np.testing.assert_array_equal(after["positions"], before["positions"])
    double = after["vertex_attributes"].pop("double")
    np.testing.assert_array_equal(double, before["vertex_attributes"]["confidence"] * 2)
    np.testing.assert_equal(after["vertex_attributes"], before["vertex_attributes"])
    assert not zvl.validate(path, **options).findings


def test_from_one_to_the_other(variety_07):
    new, other = MemoryStore(), MemoryStore()
    zvl.migrate(variety_07, new)
    assert zvl.validate(new).ok
    zvl.open_zv(new)[0].save(other, chunk_shape=1000.0)
    a, b = (zvl.read_graph(path) for path in (variety_07, other))
    np.testing.assert_array_equal(
        np.unique(a["positions"][a["edges"]].reshape(len(a["edges"]), -1), axis=0),
        np.unique(b["positions"][b["edges"]].reshape(len(b["edges"]), -1), axis=0),
    )


@pytest.fixture
def variety_07(tmp_path):
    (packed,) = DATA.glob("0.7-variety/stores/graph-0.7.zarrvectors.zip")
    with zipfile.ZipFile(packed) as files:
        files.extractall(tmp_path)
    return tmp_path
