"""Requests of an open at 1, 5 and 10 levels of 10 attributes: few without consolidated metadata, one with them."""

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from zarr_vectors_lazy.storage.requests import counting

DOC = Path(__file__).parents[2] / "docs" / "operations" / "consolidate.md"


@pytest.fixture(scope="module")
def one_level(tmp_path_factory):
    path = tmp_path_factory.mktemp("open") / "points"
    positions = np.random.default_rng(0).random((500, 3), dtype=np.float32) * 100
    attributes = {f"a{i}": np.arange(500, dtype=np.float32) for i in range(10)}
    zvl.write_points(path, positions, chunk_shape=(50, 50, 50), vertex_attributes=attributes)
    return path


@pytest.fixture
def levels(one_level, tmp_path):
    """Make a store of so many levels, each like the first."""

    def make(count):
        path = tmp_path / f"levels-{count}"
        shutil.copytree(one_level, path)
        root = json.loads((path / "zarr.json").read_text())
        scales, nodes = root["attributes"]["multiscales"][0]["datasets"], root["attributes"]["ome"]["nodes"]
        for index in range(1, count):
            shutil.copytree(path / "0", path / str(index))
            doc = json.loads((path / "0" / "zarr.json").read_text())
            doc["attributes"]["zarr_vectors_level"] |= {"level": index, "parent_level": index - 1}
            (path / str(index) / "zarr.json").write_text(json.dumps(doc))
            scale = copy.deepcopy(scales[0]) | {"path": str(index)}
            scale["coordinateTransformations"][0]["scale"] = [2.0**index] * 3
            scales.append(scale)
            nodes.append({"type": "zv:level", "name": str(index)})
        (path / "zarr.json").write_text(json.dumps(root))
        return path

    return make


def requests(path, consolidated):
    """Return (requests of the open, with every attribute of every level named, in one round or more)."""
    with counting() as counts:
        store = zvl.open_zv(path, consolidated=consolidated)
        opened = counts.requests
        for level in store:
            assert len(level.attributes) == 10
            assert all(array.dtype == np.float32 for array in level.attributes.values())
        assert not [key for key in counts.keys if "/c/" in key]
        return opened, counts.requests


@pytest.mark.parametrize(("count", "opened", "named"), [(1, 4, 15), (5, 12, 67), (10, 22, 132)])
def test_open_requests(levels, count, opened, named):
    path = levels(count)
    assert requests(path, False) == (opened, named)
    zvl.consolidate(path)
    assert requests(path, None) == (1, 1)
    assert requests(path, False) == (opened, named)
    assert f"| {count} | {opened} | {named} | 1 |" in DOC.read_text()


def test_a_level_added_since_is_noticed(levels):
    path, larger = levels(1), levels(2)
    zvl.consolidate(path)
    stale = json.loads((path / "zarr.json").read_text())["consolidated_metadata"]
    root = json.loads((larger / "zarr.json").read_text())
    (larger / "zarr.json").write_text(json.dumps({**root, "consolidated_metadata": stale}))
    with counting() as counts:
        store = zvl.open_zv(larger)
    assert store.levels == [0, 1]
    assert counts.requests > 1
    assert len(store[1].attributes) == 10
    assert zvl.open_zv(larger, consolidated=False).levels == [0, 1]
