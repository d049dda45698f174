"""Levels in Neuroglancer: what the viewer is told to draw."""

import neuroglancer
import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from zarr_vectors_lazy.convert import neuroglancer as converted
from zarr_vectors_lazy.errors import SelectionError

pytestmark = pytest.mark.emulator  # the viewer is a server


@pytest.fixture
def stopped():
    yield
    neuroglancer.stop()


@pytest.mark.usefixtures("stopped")
def test_lines_and_points_are_annotations(tracts, cloud):
    level = zvl.open_zv(tracts)[0].sel(bbox=([84, 100, 78], [92, 112, 88]))
    state = level.view().state.to_json()
    (layer,) = state["layers"]
    vertices, edges = level.vertices.compute().astype(float), level.edges.compute()
    found = [[line["pointA"], line["pointB"]] for line in layer["annotations"]]
    assert np.array_equal(found, vertices[edges])
    assert state["layout"] == "3d"
    assert np.allclose(state["position"], (vertices.min(axis=0) + vertices.max(axis=0)) / 2)
    points = zvl.open_zv(cloud)[1]
    (layer,) = points.view().state.to_json()["layers"]
    assert [mark["type"] for mark in layer["annotations"]] == ["point"] * 130


@pytest.mark.usefixtures("stopped")
def test_too_many_are_refused(cloud, monkeypatch):
    monkeypatch.setattr(converted, "MOST_SHAPES", 100)
    with pytest.raises(SelectionError, match="4,946 shapes are too many"):
        zvl.open_zv(cloud)[0].view()


def test_units_are_those_that_neuroglancer_knows():
    space = converted.coordinate_space(neuroglancer, ["x", "y", "t"], ["micrometres", "furlong", None])
    assert space.to_json() == {"x": [1e-6, "m"], "y": [1, ""], "t": [1, ""]}


@pytest.mark.usefixtures("stopped")
def test_the_viewer_shows_world_coordinates(tmp_path):
    affine = [[-2, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]]
    crs = {"input_space": "voxmm", "affine": affine}
    zvl.write_points(tmp_path / "p.zv", [[30.0, 20, 10]], chunk_shape=50, axes=("z", "y", "x"), crs=crs)
    state = zvl.open_zv(tmp_path / "p.zv")[0].view().state.to_json()
    assert state["layers"][0]["annotations"][0]["point"] == [81, -107, -43]
    assert state["dimensions"] == {"x": [0.001, "m"], "y": [0.001, "m"], "z": [0.001, "m"]}
