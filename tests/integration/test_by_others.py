"""Stores of other writers, newer than 0.9.2 or not quite conforming: read correctly or refused, never silently wrong.

``data/0.9-by-others/README.md`` says what is in each.
"""

import importlib
import json
import pickle
import re
import shutil
import sys
import warnings
import zipfile

import dask
import numpy as np
import pytest
import zarr
from zarr.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

import zarr_vectors_lazy as zvl
from tests.conftest import DATA
from tests.format.encode import fragment_index
from zarr_vectors_lazy.errors import (
    CorruptChunkError,
    FormatError,
    NotFoundError,
    SelectionError,
    UnsupportedCapabilityError,
    UnsupportedVersionError,
    ZVWarning,
)
from zarr_vectors_lazy.format.codecs import _decoder
from zarr_vectors_lazy.storage.requests import counting

STORES = DATA / "0.9-by-others" / "stores"
NAMES = sorted(path.name.removesuffix(".zarrvectors.zip") for path in STORES.glob("*.zip"))
UNREAD = {
    "n093-required-unknown": UnsupportedCapabilityError,
    "n010-dual-write": UnsupportedVersionError,
    "n010-dual-write-no-multiscales": UnsupportedVersionError,
    "n100-structural": UnsupportedVersionError,
}
DTYPES = {
    "f4": "float32",
    "f8": "float64",
    "i4": "int32",
    "i8": "int64",
    "u2": "uint16",
    "u1": "uint8",
    "bool": "bool",
    "vec_f4": ("float32", 3),
    "vec_f8": ("float64", 2),
}


@pytest.fixture(autouse=True)
def one_thread():
    with dask.config.set(scheduler="sync"):
        yield


def packed(name):
    """The objects of a store, in memory."""
    buffer = default_buffer_prototype().buffer
    with zipfile.ZipFile(STORES / f"{name}.zarrvectors.zip") as files:
        return MemoryStore({key: buffer.from_bytes(files.read(key)) for key in files.namelist()})


def unpacked(name, folder):
    with zipfile.ZipFile(STORES / f"{name}.zarrvectors.zip") as files:
        files.extractall(folder / name)
    return folder / name


def open_store(name, **options):
    return zvl.open_zv(packed(name), **options)


def expected_of(name):
    with np.load(STORES / f"{name}.expected.npz") as arrays:
        return dict(arrays)


def by_place(positions):
    return np.lexsort(positions.T[::-1])


def ends_of(positions, edges):
    """Edges as the places of their ends, the lesser first, sorted."""
    pairs = np.asarray(positions)[np.asarray(edges)].reshape(len(edges), 2, -1)
    first, second = pairs[:, 0], pairs[:, 1]
    swap = np.array([tuple(p) > tuple(q) for p, q in zip(first, second, strict=True)], bool)
    pairs = np.where(swap[:, None, None], pairs[:, ::-1], pairs)
    return pairs[by_place(pairs.reshape(len(pairs), -1))]


def corners_of(positions, faces):
    """Faces as the places of their corners, the least first, sorted."""
    corners = np.asarray(positions)[np.asarray(faces)]
    least = [min(range(corners.shape[1]), key=lambda j, face=face: tuple(face[j])) for face in corners]
    turned = np.stack([np.roll(face, -at, 0) for face, at in zip(corners, least, strict=True)])
    return turned[by_place(turned.reshape(len(turned), -1))]


def same(found, right, what):
    found, right = np.asarray(found), np.asarray(right)
    assert found.shape == right.shape, what
    assert found.dtype.kind == right.dtype.kind, what
    assert np.array_equal(found, right, equal_nan=found.dtype.kind == "f"), what


def check_rows(level, want, boxes):
    positions = level.vertices.compute()
    order = by_place(positions)
    same(positions[order], want["positions"], "positions")
    assert level.vertex_count in (None, len(positions))
    assert level.compute_chunk_sizes().vertex_count == len(positions)
    for key in (key for key in want if key.startswith("attr/")):
        name = key.removeprefix("attr/")
        assert name in level.attribute_names
        same(level.attributes[name].compute()[order], want[key], key)
    for number, box in enumerate(boxes):
        if f"bbox{number}/positions" in want:
            found = level.sel(bbox=box).vertices.compute()
            same(found[by_place(found)], want[f"bbox{number}/positions"], f"box {number}")


def check_joined(level, want):
    for key, make in (("edges", ends_of), ("faces", corners_of)):
        if key in want:
            same(make(level.vertices.compute(), getattr(level, key).compute()), want[key], key)
    if "edge_count" in want:
        assert len(level.edges.compute()) == int(want["edge_count"])
    for key in (key for key in want if re.fullmatch("object[0-9]+/faces", key)):
        part = level.sel(objects=[int(key.removeprefix("object").split("/")[0])])
        same(corners_of(part.vertices.compute(), part.faces.compute()), want[key], key)


def check_objects(level, want):
    for key in (key for key in want if key.startswith("object_attr/")):
        same(level.objects.attributes[key.removeprefix("object_attr/")].values, want[key], key)
    if "objects/slots" in want:
        same(level.objects.slots, want["objects/slots"], "slots")
    if "objects/ids" in want:
        ids, offsets = want["objects/ids"], want["objects/offsets"]
        same(np.sort(level.objects.ids), np.sort(ids), "ids")
        flat, starts = dask.compute(*level.objects.ragged())
        at = {object_id: row for row, object_id in enumerate(level.objects.ids.tolist())}
        for row, object_id in enumerate(ids.tolist()):
            right = want["objects/vertices"][offsets[row] : offsets[row + 1]]
            same(level.objects[object_id].compute(), right, object_id)
            same(flat[starts[at[object_id]] : starts[at[object_id] + 1]], right, object_id)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_read_is_right(name):
    if "draco" in name:
        importlib.import_module("DracoPy")
    if name in UNREAD:
        with pytest.raises(UNREAD[name]):
            open_store(name)
        return
    store = open_store(name, **({"attribute_dtypes": DTYPES} if "dtypeless" in name else {}))
    expected = expected_of(name)
    boxes, number = [], 0
    while f"bbox{number}/lo" in expected:
        boxes.append((expected[f"bbox{number}/lo"], expected[f"bbox{number}/hi"]))
        number += 1
    with warnings.catch_warnings():
        if "deferred" in name:
            warnings.simplefilter("ignore", ZVWarning)
        levels = list(store)
    for level in levels:
        prefix = f"L{level.index}/"
        want = {key.removeprefix(prefix): value for key, value in expected.items() if key.startswith(prefix)}
        want |= {key.removeprefix("complete/"): value for key, value in want.items() if key.startswith("complete/")}
        if "positions" in want:
            check_rows(level, want, boxes)
        check_joined(level, want)
        check_objects(level, want)


def test_an_unknown_requirement_stops_everything(tmp_path):
    path = unpacked("n093-required-unknown", tmp_path)
    for refused in (zvl.read_points, zvl.index, zvl.consolidate):
        with pytest.raises(UnsupportedCapabilityError, match="'teleportation', which is not supported here; supported"):
            refused(path)
    with pytest.raises(UnsupportedCapabilityError):
        zvl.rechunk(path, tmp_path / "other", chunk_shape=50)
    report = zvl.validate(path)
    assert not report.ok
    assert "teleportation" in report.errors[0].message


def test_rows_outside_their_chunk_are_found_and_told():
    store = open_store("t030-points-coarse")
    for level in (store[1], store[2]):
        positions = level.vertices.compute()
        blocks = np.repeat(np.arange(level.chunk_count), level.compute_chunk_sizes().vertices.chunks[0])
        lo, hi = level.chunk_bounds[blocks].transpose(1, 0, 2)
        assert ((positions >= lo) & (positions <= hi)).all()
        for row in positions:
            found = level.sel(bbox=(row, row)).vertices.compute()
            same(found, positions[(positions == row).all(axis=1)], row)
        assert level.vertex_count is None
    plain = store[0].chunk_bounds
    assert np.array_equal(plain[:, 1] - plain[:, 0], np.broadcast_to(store[0].chunk_shape, plain[:, 0].shape))
    report = zvl.validate(packed("t030-points-coarse"))
    assert report.ok
    assert any("outside their chunk, as in coarse levels of zarr-vectors-tools" in f.message for f in report.warnings)


MEMBERS = ("edges", "ids", "object")


def read(level, member):
    """Compute one of the members that objects and links give."""
    if member == "ids":
        return level.objects.ids
    arrays = {"edges": lambda: level.edges, "links": level.links, "object": lambda: level.objects[0]}
    return arrays[member]().compute()


RECHUNKED = [name for name in NAMES if name.startswith("q092-rechunk")]


@pytest.mark.parametrize("name", RECHUNKED)
def test_rechunked_stores_give_no_paths(name):
    level = open_store(name)[0]
    for member in MEMBERS:
        with pytest.raises(FormatError, match=r"rechunked by zarr-vectors|lost by rechunking"):
            read(level, member)
    stated = zvl.open_zv(packed(name))[0]._view.data.meta.attributes["zarr_vectors_level"].get("chunk_attribute_name")
    if stated is not None and "categorical" not in name:
        assert stated not in level.attribute_names
        with pytest.raises(FormatError, match=f"binned by '{stated}', but the limits of the bins were not stored"):
            level.attributes[stated]
        with pytest.raises(FormatError, match="limits of the bins were not stored"):
            level.sel(where={stated: (0, 1)}).vertices.compute()


def test_the_number_of_a_bin_is_an_attribute():
    level = open_store("q092-rechunk-group")[0]
    assert level.attribute_names == ("group",)
    sizes = level.compute_chunk_sizes().vertices.chunks[0]
    bins = np.repeat([key[0] for key in level.chunk_keys], sizes)
    same(level.attributes["group"].compute(), bins, "group")
    part = level.sel(where={"group": 1})
    assert part.attributes["group"].compute().tolist() == [1] * int((bins == 1).sum())


def test_two_objects_of_a_fragment_are_not_told_apart():
    """Nothing else tells that a level was rechunked where its rows were counted since."""
    store = packed("q092-rechunk-attribute-categorical")
    edit(store, "0", lambda attributes: attributes["zarr_vectors_level"].update(vertex_count=351))
    level = zvl.open_zv(store)[0]
    for member in MEMBERS:
        with pytest.raises(FormatError, match=r"share fragment 0 of chunk .* lost by rechunking"):
            read(level, member)


def test_objects_may_share_fragments_of_a_level_that_says_so():
    store = packed("q092-rechunk-attribute-categorical")
    said = {"vertex_count": 351, "shared_fragments": True}
    edit(store, "0", lambda attributes: attributes["zarr_vectors_level"].update(said))
    level = zvl.open_zv(store)[0]
    sizes = [len(level.objects[i].compute()) for i in level.objects.ids]
    assert sum(sizes) == len(level.objects.ragged()[0].compute()) > 351


def test_a_fragment_that_was_emptied_does_not_part_a_path(tmp_path):
    """``remove_fragment`` of zarr-vectors leaves it in the manifest, here in a chunk outside the box."""
    path = tmp_path / "edited.zarrvectors"
    to_and_fro = np.array([[1, 1], [9, 1], [11, 1], [9, 2], [1, 2]], "f4")
    zvl.write_polylines(path, [to_and_fro, np.array([[12, 5], [13, 5]], "f4")], chunk_shape=10)
    root = zarr.open_group(path, mode="r+")
    array = root["0/vertex_fragments"]
    cell = np.empty((1, 1), object)
    cell[0, 0] = fragment_index([(0, 0), (1, 2)])
    array[1:2, 0:1] = cell
    with counting() as counts:  # where none can be empty, other chunks are not asked
        zvl.open_zv(path)[0].sel(bbox=([0, 0], [9.5, 9.5])).edges.compute()
    assert [key for key in counts.keys if "vertex_fragments/c/" in key] == ["0/vertex_fragments/c/0/0"]
    block = root["0"].attrs["zarr_vectors_level"]
    root["0"].attrs["zarr_vectors_level"] = {key: block[key] for key in block if key != "fragments_tile"}
    level = zvl.open_zv(path)[0]
    joined = level.objects[0].compute()
    assert joined.tolist() == [[1, 1], [9, 1], [9, 2], [1, 2]]
    box = level.sel(bbox=([0, 0], [9.5, 9.5]))
    same(ends_of(box.vertices.compute(), box.edges.compute()), ends_of(joined, [[0, 1], [1, 2], [2, 3]]), "edges")
    box.save(tmp_path / "saved.zarrvectors")
    same(zvl.open_zv(tmp_path / "saved.zarrvectors")[0].objects[0].compute(), joined, "saved")


def test_fragments_that_are_the_objects_are_refused(tmp_path):
    path = tmp_path / "identity.zarrvectors"
    zvl.write_polylines(path, [np.array([[1, 1], [2, 2]], "f4"), np.array([[3, 3], [4, 4]], "f4")], chunk_shape=10)
    shutil.rmtree(path / "0" / "object_index")
    assert len(zvl.open_zv(path)[0].objects) == 0
    root = json.loads((path / "zarr.json").read_text())
    root["attributes"]["zarr_vectors"]["object_index_convention"] = "identity"
    (path / "zarr.json").write_text(json.dumps(root))
    level = zvl.open_zv(path)[0]
    assert len(level.vertices.compute()) == 4
    for ask in (lambda: level.objects.ids, lambda: level.edges, lambda: zvl.read_polylines(path)):
        with pytest.raises(FormatError, match="the root states 'identity'"):
            ask()


def test_links_without_vertices():
    level = open_store("q092-links-without-vertices")[0]
    for member in ("edges", "links"):
        with pytest.raises(CorruptChunkError, match=r"links refer to rows of chunk 0\.0\.0, which has no vertices"):
            read(level, member)
    assert not zvl.validate(packed("q092-links-without-vertices")).ok


def test_groups_of_links_that_do_not_follow_fragments_are_found():
    assert not zvl.validate(packed("n093-fragment-link-groups")).findings
    (error,) = zvl.validate(packed("n093-fragment-link-groups-false-claim")).findings
    assert error.message == "fragment_link_groups is stated, but 27 records do not lie in the fragment of their group"
    store = packed("n093-fragment-link-groups")
    edit(store, "0/link_fragments", lambda attributes: attributes["nonempty_chunks"].remove("1.1.1"))
    assert any("links of the chunk have no groups" in str(error) for error in zvl.validate(store).errors)
    del store._store_dict["0/link_fragments/zarr.json"]
    assert any("stated, but links have no groups" in str(error) for error in zvl.validate(store).errors)


def many_in_a_chunk():
    """A mesh of 300 objects in four chunks that states that links follow fragments, which they do not."""
    rng, n, each = np.random.default_rng(13), 300, 8
    corners = rng.uniform(0, 20, (n, 1, 3)) * [1, 1, 0.4] + rng.uniform(0, 1, (n, each, 3))
    faces = rng.permuted(np.tile(np.arange(each), (n, 12, 1)), axis=2)[..., :3] + np.arange(n)[:, None, None] * each
    store, owners = MemoryStore(), np.repeat(np.arange(n), each)
    faces = rng.permutation(faces.reshape(-1, 3))
    zvl.write_mesh(store, corners.reshape(-1, 3), faces, object_ids=owners, chunk_shape=(10, 10, 10))
    edit(store, "0", lambda attributes: attributes["zarr_vectors_level"].update(fragment_link_groups=True))
    return store


@pytest.mark.parametrize("claim", ["", "-false-claim", None])
def test_faces_of_objects_are_the_same_whatever_is_claimed_of_their_groups(claim):
    store = many_in_a_chunk() if claim is None else packed(f"n093-fragment-link-groups{claim}")
    level = zvl.open_zv(store)[0]
    assert level._view.data.meta.link_groups
    positions, faces = (np.asarray(part.compute()) for part in (level.vertices, level.faces))
    place = {position.tobytes(): row for row, position in enumerate(positions)}
    assert len(place) == len(positions)
    ids = level.objects.ids.tolist()
    for chosen in ([ids[0]], [ids[-1]], ids[1::3], ids):
        part = level.sel(objects=chosen)
        rows = np.array([place[position.tobytes()] for position in part.vertices.compute()])
        expected = np.full(len(positions), -1)
        expected[rows] = np.arange(len(rows))
        expected = expected[faces]
        with counting() as counts:
            found = part.faces.compute()
        same(found, expected[(expected >= 0).all(axis=1)], chosen)
        assert len(found)
        keys = [key for key in counts.keys if "/c/" in key]
        assert len(set(keys)) == len(keys)
        assert not any("link_fragments" in key for key in counts.keys)
    mesh = level.meshes[ids[-1]]
    same(mesh.faces.compute(), level.sel(objects=ids[-1]).faces.compute(), ids[-1])


@pytest.mark.parametrize(
    ("stated", "shown"), [(100, 100), (1, None), (0, None), (-1, None), ("3", None), (7.5, None), (True, None)]
)
def test_a_stated_count_is_no_size(stated, shown):
    store, positions = MemoryStore(), np.random.default_rng(0).uniform(0, 30, (50, 3))
    zvl.write_points(store, positions, chunk_shape=10)
    edit(store, "0", lambda attributes: attributes["zarr_vectors_level"].update(vertex_count=stated))
    edit(store, "0/vertices", lambda attributes: attributes.pop("zarr_vectors_lazy"))
    level = zvl.open_zv(store)[0]
    assert level.vertex_count == shown
    assert len(level.vertices.compute()) == 50
    assert level.compute_chunk_sizes().vertex_count == 50
    (warning,) = zvl.validate(store).findings
    assert warning.message == f"vertex_count states {stated!r}, but its chunks have 50"


def test_a_level_that_lists_no_chunk_has_no_vertices_whatever_it_states():
    store = packed("n093-additive-points")
    right = sum(len(zvl.open_zv(store)[level].own.vertices.compute()) for level in (1, 2))
    for array in ("vertices", "vertex_fragments", "vertex_attributes/a"):
        if f"0/{array}/zarr.json" in store._store_dict:
            edit(store, f"0/{array}", lambda attributes: attributes.update(nonempty_chunks=[]))
    opened = zvl.open_zv(store)
    assert opened[0].own.vertex_count == 0
    assert opened[0].vertex_count in (None, right)
    assert len(opened[0].vertices.compute()) == right


def test_tools_that_refuse_levels_that_refine_others_name_the_way_out(tmp_path):
    path = unpacked("n093-additive-polylines", tmp_path)
    with pytest.raises(
        FormatError, match=r"rechunk would break levels \[0, 1\].*open_zv\(...\)\[0\].save\(...\), which is complete"
    ):
        zvl.rechunk(path, tmp_path / "new", chunk_shape=50)
    whole = zvl.open_zv(path)[0]
    whole.save(tmp_path / "whole")
    zvl.rechunk(tmp_path / "whole", tmp_path / "new", chunk_shape=50)
    found = zvl.open_zv(tmp_path / "new")[0].vertices.compute()
    positions = whole.vertices.compute()
    same(found[by_place(found)], positions[by_place(positions)], "positions")


@pytest.mark.parametrize("stated", [{}, {"dtype": "<U1", "shape": [6]}])
def test_text_of_objects_without_a_fixed_width(stated):
    store = packed("q092-object-attributes-no-index")
    names = zarr.open_group(store)["0/object_attributes"].create_array("name", shape=(6,), chunks=(4,), dtype=str)
    names[:] = np.array(["a", "", "bé", "four", "c", "d"], object)
    names.attrs.update(stated)
    values = zvl.open_zv(store)[0].objects.attributes["name"].values
    assert values.dtype.kind == "U"
    assert values.tolist() == ["a", "", "bé", "four", "c", "d"]


def test_vectors_of_a_point_cloud_that_state_no_width():
    store = packed("q092-dtypeless-attributes")
    edit(store, "0/vertex_attributes/vec_f4", lambda attributes: attributes.update(dtype="float32"))
    level = zvl.open_zv(store)[0]
    want = expected_of("q092-dtypeless-attributes")["L0/attr/vec_f4"]
    same(level.attributes["vec_f4"].compute()[by_place(level.vertices.compute())], want, "vec_f4")
    assert not [f for f in zvl.validate(store).errors if "vec_f4" in f.where]


def test_object_attributes_without_an_index():
    level = open_store("q092-object-attributes-no-index")[0]
    assert level.objects.slots.tolist() == list(range(6))
    assert len(level.objects.ids) == 0
    assert dict(level.objects) == {}


def test_cells_of_another_width():
    store = open_store("t030-merge-attributes")
    with pytest.raises(CorruptChunkError, match="tangent"):
        store[0].attributes["tangent"].compute()
    assert not zvl.validate(packed("t030-merge-attributes")).ok


@pytest.mark.parametrize("name", ["n094-dense-manifests"])
def test_dense_manifests_are_checked(name):
    store = packed(name)
    edit(store, "0/object_index", lambda attributes: attributes.update(num_objects=3000))
    with pytest.raises(FormatError, match="num_objects is 3000, but the index has 40 rows"):
        read(zvl.open_zv(store)[0], "ids")
    store = packed(name)
    edit(store, "0/object_index/manifest_blocks", lambda attributes: None, shape=[3, 4])
    with pytest.raises(CorruptChunkError, match="a span refers to blocks that do not exist: there are 3"):
        read(zvl.open_zv(store)[0], "ids")


def test_attributes_without_a_dtype():
    level = open_store("q092-dtypeless-attributes")[0]
    assert set(DTYPES) < set(level.attribute_names)
    for name, nbytes in (("i4", 4), ("f8", 8), ("vec_f4", 12), ("u1", 1)):
        with pytest.raises(FormatError, match=rf"'{name}' states no dtype; its cells have {nbytes} bytes per row."):
            level.attributes[name]
    for wrong, match in (("float64", "4 bytes per row, which is not float64"), (("int16", 3), "not 3 of int16")):
        with pytest.raises(FormatError, match=match):
            open_store("q092-dtypeless-attributes", attribute_dtypes={"i4": wrong})[0].attributes["i4"]
    pairs = open_store("q092-dtypeless-attributes", attribute_dtypes={"f8": "float32"})[0].attributes["f8"]
    assert pairs.shape[1] == 2
    with pytest.raises(SelectionError, match="attribute 'row' states dtype int32, but attribute_dtypes= says float32"):
        open_store("q092-dtypeless-attributes", attribute_dtypes={"row": "float32"})[0].attributes["row"]
    assert not zvl.validate(packed("q092-dtypeless-attributes")).ok


def test_attributes_of_links_without_a_dtype():
    store, rng = MemoryStore(), np.random.default_rng(1)
    edges, values = np.stack([np.arange(19), np.arange(1, 20)], axis=1), {"len": np.arange(19, dtype=np.int32)}
    zvl.write_graph(store, rng.uniform(0, 30, (20, 3)), edges, chunk_shape=15, link_attributes=values)
    assert zvl.open_zv(store)[0].link_attributes["len"].dtype == np.int32
    for key in [
        key for key in store._store_dict if key.startswith("0/link_attributes/len/0/") and key.endswith(".json")
    ]:
        edit(store, key.removesuffix("/zarr.json"), lambda attributes: attributes.pop("dtype", None))
    level = zvl.open_zv(store)[0]
    assert len(level.edges.compute()) == 19
    for attributes in (level.link_attributes, level.edge_attributes):
        with pytest.raises(FormatError, match=r"it states no dtype.*: add 'dtype' to its attributes"):
            attributes["len"]
    assert not zvl.validate(store).ok


@pytest.mark.parametrize("given", [None, "text", ("float32", 0), "<U3", "f4,i4", 7])
def test_dtypes_that_are_none(given):
    with pytest.raises(SelectionError, match="attribute_dtypes="):
        open_store("n0917-later-patch", attribute_dtypes={"a": given})
    with pytest.raises(SelectionError, match="attribute_dtypes="):
        open_store("n0917-later-patch", attribute_dtypes=["a"])


def test_the_root_may_say_what_the_array_does_not():
    store = packed("q092-dtypeless-attributes")
    specs = {"vertex": {"i4": {"dtype": "int32"}, "vec_f4": {"dtype": "float32"}, "u2": {"dtype": "float64"}}}
    edit(store, "", lambda attributes: attributes["zarr_vectors"].update(attribute_specs=specs))
    level = zvl.open_zv(store)[0]
    want = expected_of("q092-dtypeless-attributes")
    order = by_place(level.vertices.compute())
    for name in ("i4", "vec_f4"):
        same(level.attributes[name].compute()[order], want[f"L0/attr/{name}"], name)
    with pytest.raises(FormatError, match="'u2' states no dtype"):
        level.attributes["u2"]


@pytest.mark.parametrize("stated", ["no dtype", 5, "float64"])
def test_the_user_is_asked_where_the_root_says_what_cannot_be(stated):
    store = packed("q092-dtypeless-attributes")
    specs = {"vertex": {"i4": {"dtype": stated}}}
    edit(store, "", lambda attributes: attributes["zarr_vectors"].update(attribute_specs=specs))
    with pytest.raises(FormatError, match=r"not known to NumPy|states no dtype"):
        zvl.open_zv(store)[0].attributes["i4"]
    assert zvl.open_zv(store, attribute_dtypes={"i4": "int32"})[0].attributes["i4"].compute().dtype == np.int32


def test_the_user_and_the_root_agree():
    store = packed("q092-dtypeless-attributes")
    specs = {"vertex": {"i4": {"dtype": "int16"}}}
    edit(store, "", lambda attributes: attributes["zarr_vectors"].update(attribute_specs=specs))
    with pytest.raises(SelectionError, match="root say that 'i4' is int16, but attribute_dtypes= says int32"):
        zvl.open_zv(store, attribute_dtypes={"i4": "int32"})[0].attributes["i4"]
    assert zvl.open_zv(store, attribute_dtypes={"i4": ("int16", 2)})[0].attributes["i4"].compute().shape[1] == 2
    with pytest.raises(FormatError, match="4 bytes per row, which is not 3 of int16"):
        zvl.open_zv(store, attribute_dtypes={"i4": ("int16", 3)})[0].attributes["i4"]


@pytest.mark.parametrize("name", ["q092-rechunk-group", "n093-fragment-link-groups"])
def test_names_of_chunk_axes_in_another_order(name):
    store = packed(name)
    right = zvl.open_zv(packed(name))[0].vertices.compute()
    dims = ["z", "y", "x", "group"] if "rechunk" in name else ["z", "y", "x"]
    edit(store, "0", lambda attributes: attributes["zarr_vectors_level"].update(chunk_dims=dims))
    level = zvl.open_zv(store)[0]
    assert not {"x", "y", "z"} & set(level.attribute_names)
    same(level.vertices.compute(), right, name)
    low, high = right.min(axis=0), np.median(right, axis=0)
    inside = right[((right >= low) & (right <= high)).all(axis=1)]
    same(level.sel(bbox=(low, high)).vertices.compute(), inside, name)
    assert any("chunk_dims are ['z', 'y', 'x'" in str(found) for found in zvl.validate(store).findings)
    assert not any("chunk_dims" in str(found) for found in zvl.validate(packed(name)).findings)


def test_a_cell_of_another_size_is_found():
    store = packed("q092-dtypeless-attributes")
    keys = sorted(key for key in store._store_dict if key.startswith("0/vertex_attributes/i4/c/"))
    for number, match in ((0, r"chunk '0\.0\.0': .* bytes for each vertex of its chunk"), (-1, "rows")):
        broken = packed("q092-dtypeless-attributes")
        broken._store_dict[keys[number]] = store._store_dict[keys[1]]
        with pytest.raises(CorruptChunkError, match=match):
            zvl.open_zv(broken, attribute_dtypes=DTYPES)[0].attributes["i4"].compute()


def test_what_the_user_said_travels():
    level = pickle.loads(pickle.dumps(open_store("q092-dtypeless-attributes", attribute_dtypes=DTYPES)))[0]
    assert level.attributes["i8"].compute().dtype == np.int64


def test_objects_of_a_level_without_chunks_are_refused(tmp_path):
    zvl.write_polylines(tmp_path, [np.ones((3, 3)), np.zeros((2, 3))], chunk_shape=10, checksum=False)
    for path in (tmp_path / "0").glob("**/zarr.json"):
        doc = json.loads(path.read_bytes())
        if "nonempty_chunks" in doc["attributes"]:
            doc["attributes"] |= {"nonempty_chunks": [], "zarr_vectors_lazy": {}}
            path.write_text(json.dumps(doc))
    level = zvl.open_zv(tmp_path)[0]
    for read in (lambda: level.objects[0], level.objects.ragged):
        with pytest.raises(FormatError, match="a manifest names chunk"):
            read()


def test_rows_in_segment_id_are_not_taken_for_ids(tmp_path):
    path, want = unpacked("t030-streamline-rdp", tmp_path), expected_of("t030-streamline-rdp")
    stored = zarr.open_array(path / "0/object_index/object_ids", mode="r+")
    ids = np.array([1, 2, 3, 900_000, 2**40, 2**52 + 7, *(2**53 + np.arange(stored.shape[0] - 6))])
    stored[:] = ids
    level, offsets = zvl.open_zv(path)[0], want["L0/objects/offsets"]
    same(level.objects.ids, ids, "ids")
    for row, number in enumerate(ids.tolist()):
        rows = want["L0/objects/vertices"][slice(*offsets[row : row + 2])]
        same(level.objects[number].compute(), rows, number)
        found = level.sel(objects=[number]).vertices.compute()
        same(found[by_place(found)], rows[by_place(rows)], number)
    with pytest.raises(NotFoundError, match="no object 0"):
        level.objects[0].compute()
    assert zvl.validate(path).ok


@pytest.mark.parametrize(("name", "said"), [
    ("q092-vlen-residue-v1", "3 rows past num_objects (9)"),
    ("n094-dense-stale-layout", "layout states 'vlen_manifests_v1'"),
    ("n094-dense-manifests", None),
])  # fmt: skip
def test_what_is_passed_over_of_an_object_index_is_a_warning(name, said):
    report = zvl.validate(packed(name))
    assert report.ok
    found = [finding.message for finding in report.warnings if finding.check == "manifests"]
    assert len(found) == (said is not None)
    assert said is None or said in found[0]


@pytest.mark.parametrize("name", ["n093-deferred-unsharded", "n093-deferred-sharded"])
def test_a_level_that_is_being_written(name, tmp_path):
    path = unpacked(name, tmp_path)
    store = zvl.open_zv(path)
    with pytest.warns(ZVWarning, match=r"level 0 .* is still being written") as warned:
        (level,) = store
    assert warned[0].filename == __file__
    same(store[0].vertices.compute(), level.vertices.compute(), "said once")
    for tool in (zvl.index, zvl.consolidate, lambda path: zvl.shard(path, shard_shape=2)):
        with pytest.raises(FormatError, match=r"levels \[0\] are still being written"):
            tool(path)
    report = zvl.validate(path)
    assert report.ok
    assert any("still being written" in finding.message for finding in report.warnings)
    for cell in (path / "0" / "vertex_attributes").rglob("c"):
        shutil.rmtree(cell)
    with pytest.warns(ZVWarning):
        level = zvl.open_zv(path)[0]
    with pytest.raises(FormatError, match=r"no values of .* is still being written"):
        level.attributes["a"]


def test_files_that_are_no_cells_of_a_level_that_is_being_written(tmp_path):
    path = unpacked("n093-deferred-unsharded", tmp_path)
    right = expected_of("n093-deferred-unsharded")["L0/positions"]
    for name in ("c/0/0/1.5f3a.partial", "c/note.txt", "c/0/.lock"):
        (path / "0/vertices" / name).parent.mkdir(parents=True, exist_ok=True)
        (path / "0/vertices" / name).write_bytes(b"a part")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ZVWarning)
        assert len(zvl.open_zv(path)[0].vertices.compute()) == len(right)
        for name in ("c/7", "c/0/0/" + "9" * 40):
            (path / "0/vertices" / name).write_bytes(b"a part")
            with pytest.raises(FormatError, match="is not a cell of an array of rank 3"):
                zvl.open_zv(path)[0].vertices.compute()
            (path / "0/vertices" / name).unlink()


def test_one_list_of_a_level_that_is_being_written(tmp_path):
    """The rebuild writes one list after another: what is listed is the truth."""
    path = unpacked("n093-deferred-unsharded", tmp_path)
    with pytest.warns(ZVWarning):
        level = zvl.open_zv(path)[0]
    keys, rows = level.chunk_keys, level.vertices.compute()
    node = path / "0" / "vertices" / "zarr.json"
    doc = json.loads(node.read_text())
    doc["attributes"]["nonempty_chunks"] = sorted(".".join(map(str, key)) for key in keys)
    node.write_text(json.dumps(doc))
    with pytest.warns(ZVWarning):
        again = zvl.open_zv(path)[0]
    same(again.vertices.compute(), rows, "rows")
    assert len(again.edges.compute()) == len(level.edges.compute())


def replaced(group, name, values):
    """Write an array of a group anew, as long as its values are, with the attributes and chunks that it had."""
    old = group[name]
    attributes, chunks = dict(old.attrs), old.chunks
    del group[name]
    made = group.create_array(name, shape=values.shape, dtype=values.dtype, chunks=chunks, attributes=attributes)
    made[:] = values


def test_a_dense_index_that_was_patched():
    """Spans out of order, blocks that no span names, rows past the end with no id."""
    store = packed("n094-dense-manifests")
    group = zarr.open_group(store, mode="r+")["0/object_index"]
    spans, blocks = group["manifest_spans"][:], group["manifest_blocks"][:]
    order = np.random.default_rng(0).permutation(len(spans))
    counts = spans[order, 1]
    starts = 7 + np.concatenate([[0], np.cumsum(counts + 2)[:-1]])
    moved = np.full((int(starts[-1] + counts[-1]) + 5, blocks.shape[1]), 99, np.int64)
    for row, start, count in zip(order, starts, counts, strict=True):
        moved[start : start + count] = blocks[spans[row, 0] : spans[row, 0] + count]
        spans[row, 0] = start if count else -7
    spans = np.concatenate([spans, np.full((5, 2), 3)])
    replaced(group, "manifest_spans", spans)
    replaced(group, "manifest_blocks", moved)
    replaced(group, "object_ids", np.concatenate([group["object_ids"][:], np.full(5, -1)]))
    level, want = zvl.open_zv(store)[0], expected_of("n094-dense-manifests")
    check_objects(level, {key.removeprefix("L0/"): value for key, value in want.items() if key.startswith("L0/")})
    assert zvl.validate(store).ok


def test_rows_past_the_committed_ones_of_either_layout():
    store = packed("n093-additive-polylines")
    edit(store, "2", lambda attributes: None)
    full = zvl.open_zv(store)[2].objects
    edit(store, "2/object_index", lambda attributes: attributes.update(num_objects=12))
    level = zvl.open_zv(store)[2]
    assert level.objects.slots.tolist() == full.slots[:12].tolist()
    assert level.objects.ids.tolist() == [i for i in full.ids if i in full.slots[:12]]
    assert {len(values) for values in level.objects.attributes.values()} == {12}


def test_the_number_of_present_objects_of_more_rows_than_are_committed():
    store = packed("q092-vlen-residue-v1")
    edit(store, "0/object_index", lambda attributes: attributes.update(num_present=12))
    assert len(zvl.open_zv(store)[0].objects.ids) == 9


@pytest.mark.parametrize(("rows", "message"), [(12, "states 6 manifests of 12"), (4, "6 manifests, and others have 4")])
def test_a_missing_chunk_of_manifests_where_some_objects_are_absent(rows, message):
    store = packed("q092-vlen-residue-v1")
    path = "0/object_index/manifests"
    blobs = zarr.open_array(store, path=path, mode="r")[:]
    blobs[::2] = [bytes(4)] * 6
    grid = {"name": "regular", "configuration": {"chunk_shape": [rows]}}
    edit(store, path, lambda _: None, chunk_grid=grid)
    zarr.open_array(store, path=path, mode="r+")[:] = blobs
    edit(store, "0/object_index", lambda attributes: attributes.update(num_objects=12, num_present=6))
    assert zvl.open_zv(store)[0].objects.ids.tolist() == [1, 3, 5, 7, 9, 11]
    del store._store_dict[f"{path}/c/{8 // rows}"]
    for read in (lambda level: level.objects.ids, lambda level: level.objects.ragged(), lambda level: level.edges):
        with pytest.raises(CorruptChunkError, match=message) as caught:
            read(zvl.open_zv(MemoryStore(dict(store._store_dict)))[0])  # of which nothing is kept
        assert caught.value.chunk == str(8 // rows)


def test_manifests_of_chunks_that_are_not_there_are_no_empty_selection():
    level = open_store("n094-dense-manifests")[0]
    lost, box = level.objects.ids[0], (level.vertices.compute().min(axis=0), [30, 30, 30])
    store = packed("n094-dense-manifests")
    group = zarr.open_group(store, mode="r+")
    start, count = group["0/object_index/manifest_spans"][int(np.flatnonzero(level.objects.slots == lost)[0])]
    group["0/object_index/manifest_blocks"][start : start + count, 0] = -7
    level = zvl.open_zv(store)[0]
    for wrong in (
        lambda: level.sel(objects=[lost]),
        lambda: level.sel(bbox=box).objects.ids,
        lambda: level.objects[lost],
    ):
        with pytest.raises(FormatError, match=r"a manifest names chunk .*, which the level does not list"):
            wrong()
    assert len(level.sel(objects=level.objects.ids[1:3]).vertices.compute())


def test_attributes_shorter_than_the_objects():
    store = packed("n094-dense-manifests")
    group = zarr.open_group(store, mode="r+")["0/object_attributes"]
    whole = group["w"][:]
    replaced(group, "w", whole[:25])
    values = zvl.open_zv(store)[0].objects.attributes["w"].values
    assert len(values) == len(whole)
    assert np.array_equal(values[:25], whole[:25], equal_nan=True)
    assert len(set(values[25:].tolist())) == 1 or np.isnan(values[25:]).all()


def test_rows_that_are_missing_are_at_the_fill_value():
    store = packed("q092-vlen-residue-v1")
    names = zvl.open_zv(store)[0].objects.attributes
    assert all(len(names[name]) == 9 for name in names)


def edit(store, node, change, **members):
    """Change the attributes, and members, of a node of a store in memory."""
    key = f"{node}/zarr.json" if node else "zarr.json"
    doc = json.loads(store._store_dict[key].to_bytes())
    change(doc["attributes"])
    store._store_dict[key] = default_buffer_prototype().buffer.from_bytes(json.dumps(doc | members).encode())


def test_draco_meshes(monkeypatch):
    importlib.import_module("DracoPy")
    level = open_store("q092-draco-mesh")[0]
    assert level.attribute_names == ("q",)
    with pytest.raises(FormatError, match="Draco, which changes their order: values of 'q'"):
        level.attributes["q"]
    assert level.compute_chunk_sizes().vertex_count == len(level.vertices.compute())
    with pytest.raises(FormatError, match="faces that cross chunks still refer to the old order"):
        open_store("q092-draco-crossing-faces")[0].faces  # noqa: B018
    _decoder.cache_clear()
    monkeypatch.setitem(sys.modules, "DracoPy", None)
    with pytest.raises(FormatError, match=r"pip install 'zarr-vectors-lazy\[draco\]'"):
        open_store("q092-draco-mesh")[0].vertices  # noqa: B018
    _decoder.cache_clear()


def test_units_and_descriptions_reach_xarray():
    store = packed("n093-informational")
    level = zvl.open_zv(store)[0]
    told = {
        name: {key: value for key, value in level._view.data.attribute(name).attributes.items() if key in TOLD}
        for name in level.attribute_names
    }
    assert any(told.values())
    dataset = level.to_xarray()
    for name, said in told.items():
        assert dataset[name].attrs == {TOLD[key]: value for key, value in said.items()}


TOLD = {"unit": "units", "description": "description"}
