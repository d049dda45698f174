"""World coordinates of stores, and boxes in them, against masks over all rows."""

import json
import pickle

import dask.array as da
import numpy as np
import pytest

import zarr_vectors_lazy as zvl

OBLIQUE = np.array([[1.2, 0.3, 0, -90], [-0.2, 0.9, 0.4, -126], [0.1, -0.5, 2.0, -72], [0, 0, 0, 1]])
TRACKVIS = {"input_space": "VoxMM", "affine": OBLIQUE.ravel().tolist()}


def cloud(path, axes, *, crs=None, offset=None, units=None, n=4000):
    positions = np.random.default_rng(0).uniform(-30, 70, (n, len(axes)))
    zvl.write_points(path, positions, chunk_shape=20, bin_shape=5, axes=axes, crs=crs, units=units)
    if offset is not None:
        doc = json.loads((path / "zarr.json").read_text())
        doc["attributes"]["zarr_vectors"]["coordinate_offset"] = offset
        (path / "zarr.json").write_text(json.dumps(doc))
    return zvl.open_zv(path)


def test_positions_to_world_and_back(tmp_path):
    store = cloud(tmp_path / "a.zv", ("z", "y", "x"), offset=[300.0, 200, 100], units=("nm", "um", "mm"))
    vertices = store[0].vertices
    right = vertices.compute()[:, ::-1] + [100, 200, 300]
    lazy = store.to_world(vertices)
    assert isinstance(lazy, da.Array)
    assert lazy.dtype == np.float64
    np.testing.assert_array_equal(lazy.compute(), right)
    np.testing.assert_array_equal(store.to_world(vertices.compute()), right)
    np.testing.assert_allclose(store.from_world(right), vertices.compute(), rtol=0, atol=1e-12)
    assert store.world_units == ("mm", "um", "nm")
    assert pickle.loads(pickle.dumps(store)).world_units == store.world_units


def test_a_store_of_two_axes_has_two_columns(tmp_path):
    store = cloud(tmp_path / "a.zv", ("y", "x"), n=50)
    assert store.to_world(store[0].vertices).shape == (50, 2)
    assert store.to_world([[1, 2]]).tolist() == [[2, 1]]


def test_a_space_that_is_not_known_is_a_warning(tmp_path):
    store = cloud(tmp_path / "a.zv", ("x", "y", "z"), crs={"input_space": "lpsmm"}, n=50)
    with pytest.warns(zvl.errors.ZVWarning, match="'lpsmm'"):
        assert store.to_world([[1, 2, 3]]).tolist() == [[1, 2, 3]]
    with pytest.warns(zvl.errors.ZVWarning, match="'lpsmm'"):
        assert store.from_world([[1, 2, 3]]).tolist() == [[1, 2, 3]]
