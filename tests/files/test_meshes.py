"""STL, OFF and GLB, read and written, compared with trimesh's files where trimesh keeps everything."""

import json

import numpy as np
import pytest
import trimesh

import zarr_vectors_lazy as zvl
from tests.files.rounds import assert_same, back, in_order, loaded, vertex_rows
from zarr_vectors_lazy.errors import FileError, SelectionError

ASCII = """solid first
 facet normal 0 0 1
  outer loop
   vertex 0 0 0
   vertex 1 0 0
   vertex 0 1 0
  endloop
 endfacet
 facet normal 0 0 1
  outer loop
   vertex 1 0 0
   vertex 1 1 0
   vertex 0 1 0
  endloop
 endfacet
endsolid first
solid second
 FACET NORMAL 1 0 0
  OUTER LOOP
   VERTEX 0 0 0
   VERTEX 0 1 0
   VERTEX 0 0 1.5e0
  ENDLOOP
 ENDFACET
endsolid
"""


def sphere():
    found = trimesh.creation.icosphere(1)
    return trimesh.Trimesh(found.vertices, found.faces, process=False)


@pytest.fixture
def scene(tmp_path):
    """Two nodes that draw one mesh, one of them turned and moved."""
    mesh, generator = sphere(), np.random.default_rng(0)
    mesh.visual.vertex_colors = generator.integers(0, 255, (len(mesh.vertices), 4), dtype=np.uint8)
    mesh.vertex_attributes["_fa"] = np.arange(len(mesh.vertices), dtype=np.float32)
    turn = trimesh.transformations.rotation_matrix(0.3, [1, 2, 3])
    turn[:3, 3] = [10, 0, 0]
    found = trimesh.Scene()
    found.add_geometry(mesh, node_name="turned", transform=turn)
    found.add_geometry(mesh, node_name="plain")
    found.export(tmp_path / "a.glb")
    return tmp_path / "a.glb"


@pytest.mark.parametrize("suffix", [".stl", ".off"])
def test_files_of_trimesh(tmp_path, suffix):
    sphere().export(tmp_path / f"a{suffix}")
    one, other, done = back(tmp_path / f"a{suffix}", tmp_path / f"b{suffix}", tmp_path)
    assert one.positions.shape == (42, 3)
    assert one.faces.shape == (80, 3)
    assert_same(one, other)
    assert done["left_out"] == []
    again = trimesh.load(tmp_path / f"b{suffix}")
    assert again.is_watertight
    assert again.volume == pytest.approx(sphere().volume, rel=1e-5)


def test_solids_of_text_are_objects_of_their_names(tmp_path):
    (tmp_path / "a.stl").write_text(ASCII)
    found = loaded(tmp_path / "a.stl")
    assert found.positions.tolist()[:4] == [[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]]
    assert found.faces.tolist() == [[0, 1, 2], [1, 3, 2], [4, 5, 6]]
    assert found.object_ids.tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert found.object_attributes["name"].tolist() == ["first", "second"]
    assert found.link_attributes["normal"].tolist() == [[0, 0, 1], [0, 0, 1], [1, 0, 0]]
    zvl.ingest(tmp_path / "a.stl", tmp_path / "a.zarrvectors")
    assert zvl.open_zv(tmp_path / "a.zarrvectors")[0].objects.attributes["name"].values.tolist() == ["first", "second"]


def test_stl_holds_triangles_in_single_precision(tmp_path):
    place, square = tmp_path / "a.zarrvectors", np.array([[0, 0, 0], [1.1, 0, 0], [1.1, 1, 0], [0, 1, 0]])
    zvl.write_mesh(place, square, [[0, 1, 2, 3]], chunk_shape=9)
    level = zvl.open_zv(place)[0]
    with pytest.raises(SelectionError, match=r"STL holds triangles.*--triangulate"):
        level.to_file(tmp_path / "a.stl")
    done = level.to_file(tmp_path / "a.stl", triangulate=True)
    assert done["left_out"] == ["digits of positions beyond single precision"]
    assert loaded(tmp_path / "a.stl").link_attributes["normal"].tolist() == [[0, 0, 1]] * 2


def test_off_with_all_that_it_has(tmp_path):
    text = "CNOFF # a comment\n4 2 0\n" + "".join(
        f"{x} {y} 0  0 0 1  {x}.5 {y}.25 0 1\n" for x in (0, 1) for y in (0, 1)
    )
    (tmp_path / "a.off").write_text(text + "3 0 1 2 255 0 0\n3 1 3 2 0 255 0\n")
    one, other, done = back(tmp_path / "a.off", tmp_path / "b.off", tmp_path)
    assert sorted(one.attributes) == ["alpha", "blue", "green", "nx", "ny", "nz", "red"]
    assert one.link_attributes["red"].tolist() == [255, 0]
    assert_same(one, other)
    assert done["left_out"] == []
    (tmp_path / "c.off").write_text("OFF 4 2 0\n0 0 0\n1 0 0\n1 1 0\n0 1 0\n3 0 1 2\n4 0 1 2 3\n")
    with pytest.raises(FileError, match="--triangulate"):
        loaded(tmp_path / "c.off")
    assert loaded(tmp_path / "c.off", triangulate=True).faces.tolist() == [[0, 1, 2], [0, 1, 2], [0, 2, 3]]


def test_nodes_of_glb_are_objects_where_they_are_drawn(scene, tmp_path):
    found, measure = loaded(scene), trimesh.load_scene(scene, process=False).to_mesh()
    np.testing.assert_allclose(in_order(found.positions), in_order(np.array(measure.vertices)), rtol=0, atol=1e-12)
    assert found.object_attributes["name"].tolist() == ["turned", "plain"]
    assert sorted(found.attributes) == ["alpha", "blue", "fa", "green", "red"]
    assert found.attributes["red"].dtype == np.uint8
    one, other, done = back(scene, tmp_path / "b.glb", tmp_path)
    assert done["left_out"] == ["digits of positions beyond single precision"]
    np.testing.assert_allclose(vertex_rows(one, owners=True), vertex_rows(other, owners=True), rtol=0, atol=1e-6)
    again, third, done = back(tmp_path / "b.glb", tmp_path / "c.glb", tmp_path)
    assert_same(again, third)
    assert done["left_out"] == []
    assert set(trimesh.load_scene(tmp_path / "b.glb").geometry) == {"turned", "plain"}


def test_glb_of_points_and_lines(tmp_path):
    place, positions = tmp_path / "a.zarrvectors", np.random.default_rng(0).random((6, 3)).astype(np.float32)
    attributes = {"id": np.arange(6), "big": np.arange(6) - 2**40, "v": positions, "text": list("abcdef")}
    zvl.write_points(place, positions, chunk_shape=1, vertex_attributes=attributes)
    done = zvl.open_zv(place)[0].to_file(tmp_path / "a.glb")
    found = loaded(tmp_path / "a.glb")
    assert found.kind == "points"
    order = np.argsort(found.attributes["id"])
    assert np.array_equal(found.positions[order], positions)
    assert np.array_equal(found.attributes["v"][order], positions)
    assert done["left_out"] == ["attribute big", "attribute text"]
    zvl.write_graph(place, positions, [[0, 1], [4, 2]], chunk_shape=1, mode="w")
    one, other, _ = back(tmp_path / "a.glb", tmp_path / "b.glb", tmp_path)
    assert_same(one, other)
    zvl.write_graph(place, positions, [[0, 1], [4, 2]], chunk_shape=1, mode="w")
    zvl.open_zv(place)[0].to_file(tmp_path / "g.glb")
    assert loaded(tmp_path / "g.glb").kind == "graph"


def glb(tree, raw=b""):
    text = json.dumps(tree).encode()
    text += b" " * (-len(text) % 4)
    sizes = np.array([2, 28 + len(text) + len(raw), len(text), 0x4E4F534A], "<u4").tobytes()
    return b"glTF" + sizes + text + np.array([len(raw), 0x004E4942], "<u4").tobytes() + raw


LOOP = {"asset": {}, "nodes": [{"children": [1]}, {"children": [0]}], "scenes": [{"nodes": [0]}], "scene": 0}
PACKED = {"asset": {}, "extensionsRequired": ["KHR_draco_mesh_compression"]}
HUGE = {
    "accessors": [{"componentType": 5126, "type": "VEC3", "count": 10**12}],
    "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
}


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.stl", b"nonsense", "this is not an STL"),
        ("a.stl", b"\0" * 80 + b"\x02\0\0\0" + b"\0" * 50, "this is not an STL"),
        ("a.stl", ASCII.replace("1.5e0", "").encode(), "solid 2 has 1 facets, but 11 numbers"),
        ("a.off", b"nonsense", "this is not an OFF"),
        ("a.off", b"OFF\n3 1 0\n0 0 0\n", "expected 3 vertices and 1 face"),
        ("a.off", b"OFF\n2 0 0\n0 0 0\n1 1\n", "vertices have"),
        ("a.off", b"OFF\n3 1 0\n0 0 0\n1 1 1\n0 1 0\n3 0 1\n", "fewer corners than it says"),
        ("a.glb", b"nonsense", "not a GLB"),
        ("a.glb", glb(LOOP), "below itself"),
        ("a.glb", glb(PACKED), "KHR_draco_mesh_compression"),
        ("a.glb", glb(HUGE), "too few bytes for them"),
        ("a.glb", glb({"asset": {}}), "it draws nothing"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(FileError, match=message):
        loaded(tmp_path / name)
