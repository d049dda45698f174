"""What is written for other programs: declared attributes, ids as segments, and the layout of skeletons."""

import json

import dask
import dask.array as da
import numpy as np
import pytest
import zarr

import zarr_vectors_lazy as zvl
from tests.reference.decode import rows

WRITE = {"chunk_shape": 20.0, "bounds": ([0, 0, 0], [100, 100, 100])}
LARGE = {**WRITE, "chunk_shape": 40.0}


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
    assert not (tmp_path / "0/object_attributes/segment_id").exists()


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
    ids = np.arange(17000) * 2  # so many manifests that the column takes fewer requests
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


def shapes(path, ids):
    """The same paths and cloud as stores of every kind of object, with these ids."""
    n, rows, owners = len(ids), 30 * len(ids), np.repeat(ids, 30)
    steps = np.random.default_rng(3).normal(0, 6, (n, 30, 3))
    walks = np.clip(np.cumsum(steps, axis=1) + 50, 0, 100).astype("f4")
    flat, number = walks.reshape(-1, 3), np.arange(rows)
    edges = np.stack([number[1:], number[:-1]], axis=1)[number[1:] % 30 > 0]
    zvl.write_points(path / "points", cloud(rows), object_ids=owners, **LARGE)
    zvl.write_polylines(path / "paths", list(walks), object_ids=ids, **LARGE)
    zvl.write_graph(path / "graph", flat, edges, object_ids=owners, **LARGE)
    zvl.write_graph(path / "skeleton", flat, edges, kind="skeleton", object_ids=owners, **LARGE)
    zvl.write_mesh(path / "mesh", cloud(rows), number.reshape(-1, 3), object_ids=owners, **LARGE)
    return ["points", "paths", "graph", "skeleton", "mesh"]


def check_counts(path):
    """Every level says how many vertices its objects have, and readers of ours do not see it."""
    store = zvl.open_zv(path)
    for level in store:
        counts = {i: len(level.objects[i].compute()) for i in level.objects}
        stored = column(path / f"{level.index}/object_attributes/vertex_count")
        node = attributes(path / f"{level.index}/object_attributes/vertex_count")
        assert (stored.dtype, node["dtype"]) == (np.dtype("u4"), "uint32")
        assert stored.tolist() == [counts.get(i, 0) for i in level.objects.slots.tolist()]
        assert "vertex_count" not in level.objects.attributes
        assert "object_attributes" in attributes(path / str(level.index))["zarr_vectors_level"]["arrays_present"]
    assert not zvl.validate(path).findings
    return store


def test_vertices_of_objects_are_counted_on_every_level(tmp_path):
    ids = np.array([5, 6, 900, 2**40])
    for name in shapes(tmp_path, ids):
        zvl.build_pyramid(tmp_path / name, factors=[(2, 1), (2, 2)])
        store = check_counts(tmp_path / name)
        assert store.levels == [0, 1, 2]
        zvl.rechunk(tmp_path / name, tmp_path / f"{name}-rechunked", chunk_shape=80, pyramid=True)
        check_counts(tmp_path / f"{name}-rechunked")
        store[0].sel(objects=ids[1:3]).save(tmp_path / f"{name}-some")
        check_counts(tmp_path / f"{name}-some")
        if name in ("points", "graph"):
            store[0].sel(x=slice(20, 70)).save(tmp_path / f"{name}-cut")
            check_counts(tmp_path / f"{name}-cut")


def test_vertices_are_counted_out_of_core(tmp_path):
    points, ids = cloud(200), np.arange(200) % 7
    write(tmp_path / "a", ids)
    zvl.write_points(tmp_path / "b", da.from_array(points, 50), object_ids=da.from_array(ids, 50), **WRITE)
    assert column(tmp_path / "b/0/object_attributes/vertex_count").tolist() == np.bincount(ids).tolist()


def test_a_count_that_others_wrote_is_made_anew(tmp_path):
    """As tools write it on ingest; it stays an attribute, and is right where the objects of a level are fewer rows."""
    counts = np.array([75, 75, 75, 9], "u4")
    write(tmp_path / "a", np.arange(300) % 4, object_attributes={"vertex_count": counts, "w": [1.0, 2, 3, 4]})
    (said,) = zvl.validate(tmp_path / "a").warnings
    assert said.message.endswith("such as 9 of object 3, not 75")
    zvl.build_pyramid(tmp_path / "a", factors=[(4, 1)])
    zvl.rechunk(tmp_path / "a", tmp_path / "b", chunk_shape=40, pyramid=True)
    zvl.open_zv(tmp_path / "a")[0].sel(objects=[1, 3], x=slice(0, 50)).save(tmp_path / "c")
    for path, levels in (("a", [1]), ("b", [0, 1]), ("c", [0])):
        for index in levels:
            level = zvl.open_zv(tmp_path / path)[index]
            stored = level.objects.attributes["vertex_count"].values
            assert stored.dtype == np.dtype("u4")
            assert stored.tolist() == [len(level.objects[i].compute()) for i in level.objects.slots.tolist()]
    assert not zvl.validate(tmp_path / "b").findings


def test_counts_that_are_wrong_are_found(tmp_path):
    write(tmp_path, np.array([5, 900, 2**40])[np.arange(60) % 3])
    for name, said in (("vertex_count", 7), ("segment_id", 6)):
        zarr.open_array(tmp_path / f"0/object_attributes/{name}", mode="r+")[1] = said
        assert any(f"{name} of 1 object " in error.message for error in zvl.validate(tmp_path).errors)
    assert len(zvl.open_zv(tmp_path)[0].objects[900].compute()) == 20


def test_a_measure_called_vertex_count_is_the_users(tmp_path):
    write(tmp_path / "a", np.arange(60) % 4, object_attributes={"vertex_count": [0.5, 1.5, 2.5, 3.5]})
    zvl.rechunk(tmp_path / "a", tmp_path / "b", chunk_shape=50)
    for name in "ab":
        values = zvl.open_zv(tmp_path / name)[0].objects.attributes["vertex_count"].values
        assert values.tolist() == [0.5, 1.5, 2.5, 3.5]
        assert not zvl.validate(tmp_path / name).findings
