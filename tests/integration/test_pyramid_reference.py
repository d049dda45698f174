"""``method="reference"`` against levels that the reference package wrote, and what it reads of ours."""

import shutil

import dask
import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from tests.integration.pyramids import files
from zarr_vectors_lazy.errors import SelectionError

BUILDS = {
    "cloud-0.9": {"factors": [(2, 1), (2, 1)]},
    "neuron-0.9": {"factors": [(2, 1), (2, 1)]},
    "tracts-0.9": {
        "factors": [(2, 1), (2, 2)],
        "sparsity_seed": 7,
        "sparsity_strategy": "random",
        "cross_level_depth": 2,
    },
}


def by_position(rows):
    return rows[np.lexsort(rows.reshape(len(rows), -1).T[::-1])]


@pytest.mark.parametrize("name", BUILDS)
def test_levels_are_those_of_the_reference(goldens, tmp_path, name):
    path, expected = shutil.copytree(goldens[name].path, tmp_path / "s"), goldens[name].expected
    old = zvl.open_zv(path)
    counts = [level.vertex_count for level in old]
    families = [level.deltas for level in old]
    zvl.build_pyramid(path, method="reference", overwrite=True, **BUILDS[name])
    store = zvl.open_zv(path)
    assert [level.vertex_count for level in store] == counts
    assert [level.deltas for level in store] == families
    for level in list(store)[1:]:
        key = f"L{level.index}/"
        positions = level.vertices.compute()
        assert positions.dtype == np.float32
        assert np.allclose(by_position(positions), expected[key + "positions"], rtol=1e-6, atol=0)
        flat, offsets = dask.compute(*level.objects.ragged())
        ids = expected[key + "objects/ids"]
        wanted = expected[key + "objects/offsets"]
        present = np.diff(wanted) > 0
        assert level.objects.ids.tolist() == ids[present].tolist()
        assert np.diff(offsets).tolist() == np.diff(wanted)[present].tolist()
        assert np.allclose(flat, expected[key + "objects/vertices"], rtol=1e-6, atol=0)
        for attribute, values in level.objects.attributes.items():
            assert np.array_equal(values.values, expected[f"{key}object_attr/{attribute}"], equal_nan=True)
        for delta in level.deltas:
            if delta < 0 or level.index + delta in store.levels:
                check_links(store, level.index, delta, expected)
        assert not level.attribute_names
    for delta in store[0].deltas:
        if delta > 0:
            check_links(store, 0, delta, expected)
    assert zvl.validate(path).ok


def check_links(store, index, delta, expected):
    if delta == 0:
        return
    wanted = expected[f"L{index}/crosslevel/{delta:+d}"]
    links = store[index].links(delta).compute()
    here, there = store[index].vertices.compute(), store[index + delta].vertices.compute()
    found = np.stack([here[links[:, 0]], there[links[:, 1]]], axis=1)
    assert len(found) == len(wanted)
    assert np.allclose(by_position(found), wanted, rtol=1e-6, atol=0)


def test_points_without_objects_are_one_object(tmp_path):
    random = np.random.default_rng(0)
    points = (random.random((500, 2)) * 40 - 20).astype("f4")
    zvl.write_points(tmp_path / "s", points, chunk_shape=10.0, bin_shape=2.5)
    zvl.build_pyramid(tmp_path / "s", factors=[(2, 4), (3, 1)], method="reference")
    store = zvl.open_zv(tmp_path / "s")
    bins = np.floor(points.astype("f8") / 5)
    assert store[1].vertex_count == len(np.unique(bins, axis=0))
    links = store[0].links(1).compute()
    assert len(links) == 500
    whole = store[0].vertices.compute()
    for row, position in enumerate(store[1].vertices.compute()):
        mine = whole[links[links[:, 1] == row, 0]]
        assert np.allclose(mine.astype("f8").mean(axis=0), position, rtol=1e-6)
    down = store[2].links(-1).compute()
    assert sorted(map(tuple, down[:, ::-1].tolist())) == sorted(map(tuple, store[1].links(1).compute().tolist()))


def test_the_hash_keeps_objects_of_finer_levels(tmp_path):
    lines = [np.cumsum(np.ones((9, 2)) * i, axis=0).astype("f4") for i in range(1, 13)]
    zvl.write_polylines(tmp_path / "s", lines, chunk_shape=10.0, bin_shape=2.5)
    zvl.build_pyramid(tmp_path / "s", factors=[(1, 2), (1, 2)], method="reference")
    present = [set(level.objects.ids.tolist()) for level in zvl.open_zv(tmp_path / "s")]
    assert [len(ids) for ids in present] == [12, 6, 3]
    assert present[2] < present[1] < present[0]


def test_the_bytes_depend_on_nothing_else(tmp_path, goldens):
    found = []
    for scheduler in ("sync", "threads"):
        (tmp_path / scheduler).mkdir()
        path = shutil.copytree(goldens["tracts-0.9"].path, tmp_path / scheduler / "s")
        with dask.config.set(scheduler=scheduler):
            zvl.build_pyramid(path, method="reference", overwrite=True, **BUILDS["tracts-0.9"])
        found.append(files(path))
    assert found[0] == found[1]


def test_attributes_are_not_carried(tmp_path, goldens):
    path = shutil.copytree(goldens["cloud-0.9"].path, tmp_path / "s")
    with pytest.raises(SelectionError, match="carries no vertex attributes"):
        zvl.build_pyramid(path, factors=[(2, 1)], method="reference", aggregate={"type": "mode"}, overwrite=True)
