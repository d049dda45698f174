"""World coordinates of stores, and boxes in them, against masks over all rows."""

import itertools
import json
import pickle

import dask.array as da
import numpy as np
import pytest

import zarr_vectors_lazy as zvl

OBLIQUE = np.array([[1.2, 0.3, 0, -90], [-0.2, 0.9, 0.4, -126], [0.1, -0.5, 2.0, -72], [0, 0, 0, 1]])
TRACKVIS = {"input_space": "VoxMM", "affine": OBLIQUE.ravel().tolist()}


def cloud(path, axes, *, crs=None, offset=None, units=None, n=1500):
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


WORLDS = {
    "offset": {"axes": ("z", "y", "x"), "offset": [1e6, -3.0, 0.1]},
    "oblique": {"axes": ("x", "y", "z"), "crs": TRACKVIS},
    "turned": {"axes": ("t", "Z", "Y", "X"), "crs": TRACKVIS, "offset": [0.0, 5, 6, 7]},
    "plain": {"axes": ("x", "y", "z")},
}


@pytest.mark.parametrize("kind", WORLDS)
def test_boxes_in_world_coordinates_are_exact(tmp_path, kind):
    store = cloud(tmp_path / "a.zv", **WORLDS[kind])
    level = store[0]
    vertices = level.vertices.compute()
    world = store.to_world(vertices)
    rng = np.random.default_rng(3)
    for corners in rng.integers(0, len(world), (4, 2)):
        lo, hi = np.sort(world[corners], axis=0)  # faces are on vertices
        part = level.sel(bbox=(lo, hi), world=True)
        inside = ((world >= lo) & (world <= hi)).all(axis=1)
        np.testing.assert_array_equal(part.vertices.compute(), vertices[inside])
        by_axis = {name: slice(a, b) for name, a, b in zip("xyz", lo, hi, strict=True)}
        np.testing.assert_array_equal(level.sel(world=True, **by_axis).vertices.compute(), vertices[inside])
        assert part.sel(x=(lo[0], None), world=True).compute_chunk_sizes().vertex_count == inside.sum()
    small = level.sel(bbox=(world[0], world[0]), world=True)
    assert small.chunk_count < level.chunk_count / 8
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(small)).vertices.compute(), vertices[:1])
    half = level.sel(x=slice(None, np.median(world[:, 0])), world=True)  # the other axes are open
    assert len(half.vertices.compute()) == (world[:, 0] <= np.median(world[:, 0])).sum()


def test_world_boxes_choose_whole_objects(tmp_path):
    lines = [np.array([[0, 0, 0], [30, 0, 0], [30, 30, 0]]) + 5.0 * k for k in range(8)]
    zvl.write_polylines(tmp_path / "l.zv", lines, chunk_shape=20, crs=TRACKVIS)
    store = zvl.open_zv(tmp_path / "l.zv")
    at = store.to_world(lines[3][1])
    part = store[0].sel(bbox=(at, at), world=True, whole_objects=True)
    np.testing.assert_array_equal(part.vertices.compute(), store[0].sel(objects=3).vertices.compute())


def test_world_needs_a_box(tmp_path):
    level = cloud(tmp_path / "a.zv", ("z", "y", "x"), n=50)[0]
    with pytest.raises(zvl.errors.SelectionError, match="world=True needs a box"):
        level.sel(world=True)
    with pytest.raises(zvl.errors.SelectionError, match=r"for some axes alone: x=slice\(lo, hi\)"):
        level.sel(bbox=(0, 10), world=True)
    with pytest.raises(zvl.errors.SelectionError, match=r"for some axes alone: z=slice\(lo, hi\)"):
        level.sel(bbox=([0, 0], [10, 10]))


def test_a_world_box_of_a_space_that_is_not_known_is_a_warning(tmp_path):
    level = cloud(tmp_path / "a.zv", ("x", "y", "z"), crs={"input_space": "vox"}, n=50)[0]
    with pytest.warns(zvl.errors.ZVWarning, match="'vox'"):
        part = level.sel(x=(0, 10), world=True)
    np.testing.assert_array_equal(part.vertices.compute(), level.sel(x=(0, 10)).vertices.compute())


def test_several_boxes_are_their_union(tmp_path):
    level = cloud(tmp_path / "a.zv", ("x", "y", "z"))[0]
    vertices = level.vertices.compute()
    boxes = np.array(
        [[[0, 0, 0], [5, 5, 5]], [[3, 3, 3], [9, 9, 9]], [[50, 50, 50], [60, 60, 60]], [[900] * 3, [901] * 3]]
    )
    inside = ((vertices[:, None] >= boxes[:, 0]) & (vertices[:, None] <= boxes[:, 1])).all(axis=2).any(axis=1)
    part = level.sel(bbox=boxes)
    np.testing.assert_array_equal(part.vertices.compute(), vertices[inside])
    near = {(0, 0, 0), *itertools.product((2, 3), repeat=3)}
    assert set(part.chunk_keys) == near & set(level.chunk_keys)
    np.testing.assert_array_equal(
        level.sel(bbox=[tuple(box) for box in boxes.tolist()]).vertices.compute(), vertices[inside]
    )
    np.testing.assert_array_equal(
        part.sel(z=slice(0, 4)).vertices.compute(), vertices[inside & (vertices[:, 2] >= 0) & (vertices[:, 2] <= 4)]
    )
    np.testing.assert_array_equal(zvl.read_points(tmp_path / "a.zv", bbox=boxes)["positions"], vertices[inside])
    assert part.bounds[0].tolist() == np.maximum(level.bounds[0], 0).tolist()
    assert level.sel(bbox=np.empty((0, 2, 3))).vertices.compute().shape == (0, 3)
    assert level.sel(bbox=[boxes[3]]).chunk_count == 0
    dataset = level.to_xarray()
    np.testing.assert_array_equal(dataset.zv.sel(bbox=boxes).vertices.values, vertices[inside])
    with pytest.raises(zvl.errors.SelectionError, match="one box, found 4"):
        dataset.zv.bin(5, bbox=boxes)


def test_several_boxes_choose_whole_objects_of_polylines(tmp_path):
    lines = [np.array([[0, 0, 0], [30, 0, 0], [30, 30, 0]]) + 5.0 * k for k in range(8)]
    zvl.write_polylines(tmp_path / "l.zv", lines, chunk_shape=20)
    boxes = [(lines[2][0], lines[2][0]), (lines[6][2] - 1, lines[6][2] + 1)]
    found = zvl.read_polylines(tmp_path / "l.zv", bbox=boxes)
    assert found["object_ids"] == [2, 6]
    np.testing.assert_array_equal(np.concatenate(found["polylines"][1]), lines[6])
