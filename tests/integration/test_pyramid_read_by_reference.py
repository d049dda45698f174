"""The reference package reads every level that is built here, whole and by object, and its validator passes."""

import shutil

import numpy as np
import pytest
from zarr_vectors.types.graphs import read_graph
from zarr_vectors.types.meshes import read_mesh
from zarr_vectors.types.points import read_points
from zarr_vectors.types.polylines import read_polylines
from zarr_vectors.validate import validate

import zarr_vectors_lazy as zvl

BUILDS = {
    "cloud-0.9": {"factors": [(2, 1), (2, 2)]},
    "neuron-0.9": {"factors": [(2, 1), (2, 2)]},
    "surface-0.9": {"factors": [(1, 1), (2, 1)]},
    "tracts-0.9": {"factors": [(2, 1), (2, 2)], "cross_level_depth": 2},
}


@pytest.fixture(scope="module")
def built(goldens, tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    for name, arguments in BUILDS.items():
        shutil.copytree(goldens[name].path, folder / name)
        zvl.build_pyramid(folder / name, overwrite=True, **arguments)
    return folder


def sorted_rows(rows):
    return rows[np.lexsort(rows.T[::-1])]


@pytest.mark.parametrize("name", BUILDS)
def test_its_validator_passes(built, name):
    report = validate(str(built / name), level=5)
    assert report.ok
    assert not report.errors


def test_points(built):
    for level in zvl.open_zv(built / "cloud-0.9"):
        whole = read_points(str(built / "cloud-0.9"), level=level.index)["positions"]
        assert np.array_equal(sorted_rows(whole), sorted_rows(level.vertices.compute()))
        for number in level.objects.ids.tolist():
            found = read_points(str(built / "cloud-0.9"), level=level.index, object_ids=[number])["positions"]
            assert np.array_equal(found, level.objects[number].compute())


def test_paths(built):
    path = str(built / "tracts-0.9")
    for level in zvl.open_zv(path):
        ids = level.objects.ids.tolist()
        found = read_polylines(path, level=level.index, object_ids=ids)
        assert found["object_ids"] == ids
        for number, pieces in zip(ids, found["polylines"], strict=True):
            assert np.array_equal(np.concatenate(pieces), level.objects[number].compute())


def test_skeletons_and_meshes(built):
    for level in zvl.open_zv(built / "neuron-0.9"):
        found = read_graph(str(built / "neuron-0.9"), level=level.index)
        assert np.array_equal(found["positions"], level.vertices.compute())
        assert np.array_equal(sorted_rows(found["edges"]), sorted_rows(level.edges.compute()))
    for level in zvl.open_zv(built / "surface-0.9"):
        found = read_mesh(str(built / "surface-0.9"), level=level.index)
        assert np.array_equal(found["vertices"], level.vertices.compute())
        assert np.array_equal(sorted_rows(found["faces"]), sorted_rows(level.faces.compute()))


def test_boxes_of_levels_with_bins_and_the_chunks_of_level_0(tmp_path):
    random = np.random.default_rng(1)
    points = (random.random((2000, 3)) * 100).astype("f4")
    zvl.write_points(tmp_path / "s", points, chunk_shape=50.0, bin_shape=10.0)
    zvl.build_pyramid(tmp_path / "s", factors=[(5, 1)], chunk_scale_factors=1)
    level = zvl.open_zv(tmp_path / "s")[1]
    for lo, hi in ([10] * 3, [45] * 3), ([0] * 3, [60] * 3), ([0] * 3, [100] * 3):
        found = read_points(str(tmp_path / "s"), level=1, bbox=(lo, hi))["positions"]
        assert np.array_equal(sorted_rows(found), sorted_rows(level.sel((lo, hi)).vertices.compute()))
