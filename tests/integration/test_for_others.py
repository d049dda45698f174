"""What is written for programs of others: declared attributes, ids as segments, and what skeletons are."""

import json

import dask
import numpy as np
import pytest
import zarr

import zarr_vectors_lazy as zvl
from tests.reference.decode import rows

WRITE = {"chunk_shape": 20.0, "bounds": ([0, 0, 0], [100, 100, 100])}


@pytest.fixture(autouse=True)
def one_thread():
    with dask.config.set(scheduler="sync"):
        yield


def attributes(path):
    return json.loads((path / "zarr.json").read_text())["attributes"]


def column(path):
    """Values of a column, of all its cells."""
    array = zarr.open_array(path, mode="r")
    return np.concatenate(list(rows(array).values())) if "nonempty_chunks" in array.attrs else array[:]


def cloud(n, seed=0):
    return np.random.default_rng(seed).uniform(0, 100, (n, 3)).astype("f4")


def write(path, ids, **more):
    zvl.write_points(path, cloud(len(ids)), object_ids=ids, **more, **WRITE)


def test_attributes_are_declared(tmp_path):
    values = {"height": np.zeros(50, "f8"), "rgb": np.zeros((50, 3), "u1"), "kind": ["a"] * 50}
    zvl.write_points(tmp_path / "a", cloud(50), vertex_attributes=values, **WRITE)
    specs = attributes(tmp_path / "a")["zarr_vectors"]["attribute_specs"]
    assert specs == {"vertex": {"height": {"dtype": "float64"}, "rgb": {"dtype": "uint8"}, "kind": {"dtype": "uint8"}}}
    zvl.rechunk(tmp_path / "a", tmp_path / "b", chunk_shape=50)
    assert attributes(tmp_path / "b")["zarr_vectors"]["attribute_specs"] == specs
    zvl.write_points(tmp_path / "c", cloud(50), **WRITE)
    assert "attribute_specs" not in attributes(tmp_path / "c")["zarr_vectors"]


def test_ids_that_are_rows_need_no_column_of_objects(tmp_path):
    write(tmp_path, np.arange(60) % 4)
    assert set(column(tmp_path / "0/fragment_attributes/segment_id")) == {0, 1, 2, 3}
    assert not (tmp_path / "0/object_attributes").exists()


def test_other_ids_are_told_of_fragments_and_objects(tmp_path):
    known = np.array([5, 900, 2**40])
    write(tmp_path, known[np.arange(60) % 3], object_attributes={"size": [1.0, 2.0, 3.0]})
    zvl.build_pyramid(tmp_path, factors=[(2, 1)])
    for level in ("0", "1"):
        assert set(column(tmp_path / level / "fragment_attributes/segment_id")) <= set(known.tolist())
        assert attributes(tmp_path / level / "fragment_attributes/segment_id")["dtype"] == "uint64"
        assert attributes(tmp_path / level / "object_attributes/segment_id")["dtype"] == "uint64"
    assert column(tmp_path / "0/object_attributes/segment_id")[:3].tolist() == known.tolist()
    store = zvl.open_zv(tmp_path)
    for level in store:  # who reads them here has `ids`
        assert list(level.objects.attributes) == ["size"]
        assert level.objects.ids.tolist() == known.tolist()
    assert zvl.validate(tmp_path).ok


def test_copies_tell_ids_once(tmp_path):
    known = np.array([5, 900, 2**40])
    write(tmp_path / "a", known[np.arange(60) % 3])
    zvl.rechunk(tmp_path / "a", tmp_path / "b", chunk_shape=50)
    zvl.open_zv(tmp_path / "a")[0].sel(objects=[5, 900]).save(tmp_path / "c")
    for name, ids in (("b", known), ("c", known[:2])):
        level = zvl.open_zv(tmp_path / name)[0]
        assert level.objects.ids.tolist() == ids.tolist()
        assert list(level.objects.attributes) == []
        assert (tmp_path / name / "0/object_attributes/segment_id").exists()


def test_an_attribute_of_that_name_is_the_users(tmp_path):
    said = [7.5, 8.5, 9.5]
    write(tmp_path / "a", np.array([5, 900, 2**40])[np.arange(60) % 3], object_attributes={"segment_id": said})
    assert (tmp_path / "a/0/fragment_attributes/object_id").exists()
    assert not (tmp_path / "a/0/fragment_attributes/segment_id").exists()
    zvl.rechunk(tmp_path / "a", tmp_path / "b", chunk_shape=50)
    for name in "ab":
        assert zvl.open_zv(tmp_path / name)[0].objects.attributes["segment_id"].values.tolist() == said


def test_boxes_read_the_owners_of_their_chunks(tmp_path):
    """Columns of ours narrow the objects of a box; those of others only hint."""
    ids = np.array([5, 900, 2**40])[np.arange(60) % 3]
    write(tmp_path, ids)
    box = ([0, 0, 0], [40, 40, 100])
    inside = (cloud(60) <= box[1]).all(axis=1)
    whole = zvl.open_zv(tmp_path)[0].sel(bbox=box, whole_objects=True)
    assert sorted(whole.objects.ids) == sorted(np.unique(ids[inside]))
    node = tmp_path / "0/fragment_attributes/segment_id/zarr.json"
    doc = json.loads(node.read_text())
    del doc["attributes"]["zarr_vectors_lazy"]
    node.write_text(json.dumps(doc))
    assert zvl.open_zv(tmp_path)[0]._view.data.fragment_owners is None


def test_skeletons_say_that_their_pieces_are_linked(tmp_path):
    points, edges = cloud(20), np.stack([np.arange(1, 20), np.arange(19)], axis=1)
    zvl.write_graph(tmp_path / "a", points, edges, kind="skeleton", object_ids=np.zeros(20, int), **WRITE)
    zvl.write_graph(tmp_path / "b", points, edges, kind="graph", object_ids=np.zeros(20, int), **WRITE)
    assert attributes(tmp_path / "a")["zarr_vectors_tools"] == {"skeleton_layout": "linked_across_chunks"}
    assert "zarr_vectors_tools" not in attributes(tmp_path / "b")
    owners = tmp_path / "a/0/fragment_attributes/object_id"  # which the tools coarsen skeletons by, as rows
    assert attributes(owners)["dtype"] == "uint64"
    assert set(column(owners)) == {0}
    assert column(tmp_path / "a/0/object_attributes/segment_id").tolist() == [0]
    assert list(zvl.open_zv(tmp_path / "a")[0].objects.attributes) == []
    zvl.write_graph(tmp_path / "c", points, edges, kind="skeleton", object_ids=np.full(20, 7), **WRITE)
    assert not (tmp_path / "c/0/fragment_attributes/object_id").exists()
    assert zvl.validate(tmp_path / "a").ok


@pytest.mark.parametrize("said", [-1, -2])
def test_owners_of_others_may_be_nobody_or_several(tmp_path, said):
    """What the reference's index says of fragments that no object names, or several do."""
    ids = np.arange(17000) * 2  # so many manifests that the column is fewer requests
    write(tmp_path, ids)
    old, new = (tmp_path / "0/fragment_attributes" / name for name in ("segment_id", "object_id"))
    old.rename(new)
    node = new / "zarr.json"
    doc = json.loads(node.read_text())
    doc["attributes"] |= {"name": "object_id", "dtype": "int64"}
    node.write_text(json.dumps(doc))
    box = ([0, 0, 0], [19, 19, 19])
    inside = ((cloud(len(ids)) >= box[0]) & (cloud(len(ids)) <= box[1])).all(axis=1)
    cells = zarr.open_array(new, mode="r+")
    whole = np.frombuffer(bytes(cells[0:1, 0:1, 0:1].ravel()[0]), "i8").copy()
    named = whole[0]
    whole[0] = said
    changed = np.empty((1, 1, 1), object)
    changed[0, 0, 0] = whole.tobytes()
    cells[0:1, 0:1, 0:1] = changed
    found = zvl.open_zv(tmp_path)[0].sel(bbox=box).objects.ids
    expected = set(ids[inside].tolist())
    assert set(found.tolist()) == (expected if said == -2 else expected - {int(named)})
