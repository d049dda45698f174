"""Errors for what is not a store, or unfinished, or of another version; unfinished pyramids open."""

import json
import pickle

import pytest
import zarr

import zarr_vectors_lazy as zvl
from tests.integration.collect import same_bytes
from zarr_vectors_lazy.errors import FormatError, NotFoundError, StoreError, UnsupportedVersionError


def block_of(doc):
    return doc["attributes"]["zarr_vectors"]


@pytest.mark.parametrize("version", ["0.10.0", "1.0.0", "0.8.1", "0.1", "2.3.4"])
def test_other_versions(tamper, version):
    copy = tamper("cloud-0.9")
    copy.edit(lambda doc: block_of(doc).update(zv_version=version))
    with pytest.raises(UnsupportedVersionError, match=version.replace(".", r"\.")) as caught:
        zvl.open_zv(copy.path)
    assert "0.9" in str(caught.value)
    assert str(copy.path) in str(caught.value)


@pytest.mark.parametrize("version", ["0.9.0", "0.9.1", "0.9.2", "0.9.77"])
def test_versions_of_this_generation(tamper, version):
    copy = tamper("cloud-0.9")
    copy.edit(lambda doc: (block_of(doc).update(zv_version=version), doc["attributes"].pop("ome")))
    store = zvl.open_zv(copy.path)
    assert store.format_version == version
    assert store.levels == [0, 1, 2]


@pytest.mark.parametrize("version", [None, 9, "new", "", "0", ["0.9.2"]])
def test_versions_that_are_none(tamper, version):
    copy = tamper("cloud-0.9")
    copy.edit(lambda doc: block_of(doc).update(zv_version=version))
    with pytest.raises(FormatError, match="zv_version"):
        zvl.open_zv(copy.path)


def plain_group(path):
    zarr.create_group(path, attributes={"colour": "blue"})
    return "plain Zarr.*colour"


def plain_array(path):
    zarr.create_array(path, shape=(3,), dtype="i4")
    return "array"


def ome_zarr(path):
    zarr.create_group(path, attributes={"ome": {"version": "0.5", "multiscales": [{"datasets": []}]}})
    return "OME-Zarr"


def old_ome_zarr(path):
    zarr.create_group(path, attributes={"multiscales": [{"version": "0.4"}]})
    return "OME-Zarr"


def zarr_v2(path):
    zarr.create_group(path, zarr_format=2)
    return r"zarr\.json"


def broken_json(path):
    path.mkdir()
    (path / "zarr.json").write_text('{"zarr_format": 3, "attributes": {')
    return "JSON"


def another_json(path):
    path.mkdir()
    (path / "zarr.json").write_text("[1, 2]")
    return "object"


def no_text(path):
    path.mkdir()
    (path / "zarr.json").write_bytes(bytes(range(128, 256)))
    return "JSON"


def nothing(path):
    assert not path.exists()
    return "nothing is here"


def an_empty_folder(path):
    path.mkdir()
    return "nothing is here"


def other_files(path):
    path.mkdir()
    (path / "photo.jpg").write_bytes(b"jpg")
    return r"photo\.jpg"


NO_STORES = [
    plain_group,
    plain_array,
    ome_zarr,
    old_ome_zarr,
    zarr_v2,
    broken_json,
    another_json,
    no_text,
    nothing,
    an_empty_folder,
    other_files,
]


@pytest.mark.parametrize("make", NO_STORES, ids=lambda make: make.__name__)
def test_no_store(tmp_path, make):
    path = tmp_path / "thing.zarr"
    match = make(path)
    with pytest.raises(FormatError, match=match) as caught:
        zvl.open_zv(path)
    assert str(path) in str(caught.value)
    assert not isinstance(caught.value, StoreError)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_an_unfinished_write(tamper):
    copy = tamper("cloud-0.9")
    copy.edit(lambda doc: doc["attributes"].update(zarr_vectors_lazy={"state": "writing"}))
    with pytest.raises(FormatError, match="unfinished"):
        zvl.open_zv(copy.path)
    copy.edit(lambda doc: doc["attributes"].update(zarr_vectors_lazy={"state": "complete"}))
    assert zvl.open_zv(copy.path).levels == [0, 1, 2]


def drop(key):
    return lambda doc: block_of(doc).pop(key)


ROOTS = {
    "no chunk shape": (drop("chunk_shape"), "chunk_shape"),
    "no bounds": (drop("bounds"), "bounds"),
    "two bounds of three axes": (lambda doc: block_of(doc).update(bounds=[[0, 0], [1, 1]]), "bounds"),
    "negative chunks": (lambda doc: block_of(doc).update(chunk_shape=[1, -1, 1]), "chunk_shape"),
    "text for chunks": (lambda doc: block_of(doc).update(chunk_shape="10"), "chunk_shape"),
    "no multiscales": (lambda doc: doc["attributes"].pop("multiscales"), "multiscales"),
    "no axes": (lambda doc: doc["attributes"]["multiscales"][0].pop("axes"), "axes"),
    "text for geometry": (lambda doc: block_of(doc).update(geometry_types="mesh"), "geometry_types"),
}


@pytest.mark.parametrize(("change", "match"), ROOTS.values(), ids=ROOTS)
def test_roots_that_contradict_the_format(tamper, change, match):
    copy = tamper("cloud-0.9")
    copy.edit(change)
    with pytest.raises(FormatError, match=match) as caught:
        zvl.open_zv(copy.path)
    assert str(copy.path) in str(caught.value)


@pytest.mark.parametrize("node", ["1", "1/vertices", "1/object_index/manifests", "1/vertex_fragments"])
def test_broken_json_below_the_root(tamper, node):
    copy = tamper("tracts-0.9")
    copy.put(f"{node}/zarr.json", b"{")
    with pytest.raises(FormatError, match="JSON") as caught:
        zvl.open_zv(copy.path)[1].edges.compute()
    assert f"{copy.path}/{node}" in str(caught.value)


ARRAYS = {
    "no list of chunks": (lambda doc: doc["attributes"].pop("nonempty_chunks"), "nonempty_chunks"),
    "a chunk outside": (lambda doc: doc["attributes"]["nonempty_chunks"].append("900.0.0"), "900"),
    "a chunk of two axes": (lambda doc: doc["attributes"]["nonempty_chunks"].append("1.2"), "1"),
    "a chunk of words": (lambda doc: doc["attributes"]["nonempty_chunks"].append("a.b.c"), "chunk"),
    "an origin of two axes": (lambda doc: doc["attributes"].update(chunk_grid_origin=[0, 0]), "chunk_grid_origin"),
    "no dtype that is known": (lambda doc: doc["attributes"].update(dtype="float31"), "float31"),
    "another encoding": (lambda doc: doc["attributes"].update(encoding="other"), "other"),
    "a group": (lambda doc: doc.update(node_type="group"), "array"),
}


@pytest.mark.parametrize(("change", "match"), ARRAYS.values(), ids=ARRAYS)
def test_vertices_that_contradict_the_format(tamper, change, match):
    copy = tamper("cloud-0.9")
    copy.edit(change, "0/vertices")
    with pytest.raises(FormatError, match=match) as caught:
        zvl.open_zv(copy.path)[0].vertices.compute()
    assert str(copy.path) in str(caught.value)
    assert "0/vertices" in str(caught.value)


def test_a_level_without_vertices(tamper):
    copy = tamper("cloud-0.9")
    copy.remove("1/vertices/zarr.json")
    store = zvl.open_zv(copy.path)
    with pytest.raises(FormatError, match="vertices"):
        store[1].vertices.compute()
    assert len(store[0].vertices.compute()) == store[0].vertex_count


def test_a_level_that_the_root_names_and_that_is_not_there(tamper, results):
    copy = tamper("tracts-0.9")
    (copy.path / "2").rename(copy.path.parent / "gone")
    store = zvl.open_zv(copy.path)
    assert store.levels == [0, 1]
    assert len(store) == 2
    with pytest.raises(NotFoundError, match="0, 1"):
        store[2]
    # Link families to it are ignored too.
    assert store[0].deltas == (0, 1)
    assert store[1].deltas == (-1,)
    with pytest.raises(NotFoundError, match="0, 1"):
        store[0].links(2)
    assert same_bytes(store[0].links(1).compute(), results("tracts-0.9")["L0/links/1"])
    assert store.level_for(1e9).index == 1


def test_a_level_that_the_root_does_not_name(tamper, results):
    copy = tamper("tracts-0.9")
    copy.edit(lambda doc: doc["attributes"]["multiscales"][0]["datasets"].pop())
    store = zvl.open_zv(copy.path)
    assert store.levels == [0, 1, 2]
    assert same_bytes(store[2].vertices.compute(), results("tracts-0.9")["L2/vertices"])


def test_children_that_are_no_levels(tamper):
    copy = tamper("tracts-0.9")
    for name in ("headers", "parametric", "07", "-1", "notes"):
        copy.write({"zarr_format": 3, "node_type": "group", "attributes": {}}, name)
    (copy.path / "README").write_text("not a node")
    assert zvl.open_zv(copy.path).levels == [0, 1, 2]


def test_headers_and_free_metadata(tamper):
    copy = tamper("tracts-0.9")
    copy.write({"zarr_format": 3, "node_type": "group", "attributes": {}}, "headers")
    trk = {"voxel_order": "RAS", "n": 3}
    copy.write({"zarr_format": 3, "node_type": "group", "attributes": trk}, "headers/trk")
    copy.edit(lambda doc: doc["attributes"].update(user_metadata={"subject": 7}))
    copy.edit(lambda doc: block_of(doc).update(crs={"name": "MNI"}, coordinate_offset=[1.0, 2.0, 3.0]))
    store = zvl.open_zv(copy.path)
    assert store.headers == {"trk": trk}
    assert store.attrs["user_metadata"] == {"subject": 7}
    assert store.crs == {"name": "MNI"}
    assert store.coordinate_offset.tolist() == [1, 2, 3]
    assert json.loads(json.dumps(store.attrs)) == copy.read()["attributes"]


OPTIONS = {
    "an unknown backend": ({"backend": "fspec"}, "fspec"),
    "an unknown option": ({"colour": "blue"}, "colour"),
    "an unknown option of storage_options": ({"storage_options": {"colour": "blue"}}, "colour"),
}


@pytest.mark.parametrize(("options", "match"), OPTIONS.values(), ids=OPTIONS)
def test_options_that_no_backend_knows(goldens, options, match):
    with pytest.raises(StoreError, match=match):
        zvl.open_zv(goldens["cloud-0.9"].path, **options)


def test_a_url_that_nobody_serves():
    with pytest.raises(StoreError, match="gopher"):
        zvl.open_zv("gopher://host/store.zarr")
