"""Stores for viewers that read raw cells: how they are stored, their bins and levels."""

import json

import dask.array as da
import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from zarr_vectors_lazy.errors import SelectionError

RNG = np.random.default_rng(5)
POINTS = RNG.uniform(0, 40, (4000, 3)).astype("f4")
EDGES = np.stack([np.arange(3999), np.arange(1, 4000)], axis=1)
SPHERE = RNG.normal(size=(2000, 3))
WRITES = {
    "points": lambda where, **given: zvl.write_points(
        where, POINTS, vertex_attributes={"r": POINTS[:, 0]}, object_ids=np.arange(4000) // 100 + 10**12, **given
    ),
    "points from Dask": lambda where, **given: zvl.write_points(where, da.from_array(POINTS, chunks=1000), **given),
    "lines": lambda where, **given: zvl.write_lines(where, POINTS.reshape(-1, 2, 3), **given),
    "streamlines": lambda where, **given: zvl.write_polylines(where, np.sort(POINTS.reshape(100, 40, 3), 1), **given),
    "graph": lambda where, **given: zvl.write_graph(where, POINTS, EDGES, **given),
    "mesh": lambda where, **given: zvl.write_mesh(where, POINTS, np.sort(RNG.integers(0, 4000, (500, 3))), **given),
}


@pytest.mark.filterwarnings("ignore:.*faces")
@pytest.mark.parametrize("kind", WRITES)
def test_all_cells_are_raw_and_levels_halve(tmp_path, kind):
    where = tmp_path / "v.zv"
    done = WRITES[kind](where, chunk_shape=10, profile="viewer")
    store = zvl.open_zv(where)
    assert done["pyramid"]["levels_created"] == len(store) - 1 == 2
    for level in store:
        assert level.chunk_shape.tolist() == [10 * 2**level.index] * 3
        assert (level.chunk_shape / level.bin_shape).tolist() in ([8] * 3, [4] * 3, [2] * 3)
    for file in where.rglob("zarr.json"):
        doc = json.loads(file.read_text())
        if doc["node_type"] == "array":
            assert [codec["name"] for codec in doc["codecs"]] in (["vlen-bytes"], ["bytes"]), file
    assert zvl.validate(where).ok
    if kind == "points":
        assert {"object_attributes/segment_id", "fragment_attributes/segment_id"} <= {
            file.parent.relative_to(where / "1").as_posix() for file in (where / "1").rglob("zarr.json")
        }
        assert "attribute_specs" in json.loads((where / "zarr.json").read_text())["attributes"]["zarr_vectors"]


def test_bins_that_are_given_stay(tmp_path):
    done = zvl.write_points(tmp_path / "v.zv", POINTS, chunk_shape=10, bin_shape=5, profile="viewer")
    assert done["bins_per_chunk"] == (2, 2, 2)


def test_of_one_chunk_there_is_one_level(tmp_path):
    done = zvl.write_points(tmp_path / "v.zv", POINTS, chunk_shape=100, profile="viewer")
    assert done["pyramid"] is None
    assert len(zvl.open_zv(tmp_path / "v.zv")) == 1


def test_later_level_0_is_written_alone(tmp_path):
    zvl.write_points(tmp_path / "v.zv", POINTS, chunk_shape=10, profile="viewer", compute=False).compute()
    assert len(zvl.open_zv(tmp_path / "v.zv")) == 1


def test_without_a_profile_nothing_is_said_of_it(tmp_path):
    assert "pyramid" not in zvl.write_points(tmp_path / "v.zv", POINTS, chunk_shape=10)


@pytest.mark.parametrize("given", [{"compressor": "blosc"}, {"shard_shape": 2}, {"profile": "view"}])
def test_what_does_not_go_with_it(tmp_path, given):
    with pytest.raises(SelectionError, match="profile"):
        zvl.write_points(tmp_path / "v.zv", POINTS, **{"chunk_shape": 10, "profile": "viewer", **given})
    assert not (tmp_path / "v.zv").exists()
