"""PLY, read and written, as text and in both byte orders, compared with plyfile's files."""

import numpy as np
import plyfile
import pytest

import zarr_vectors_lazy as zvl
from tests.files.rounds import assert_same, back, loaded
from zarr_vectors_lazy.errors import FileError

HEAD = (
    "ply\nformat ascii 1.0\ncomment by hand\nelement vertex 4\nproperty float x\nproperty float y\nproperty float z\n"
)
FOUR = "0 0 0\n1 0 0\n1 1 0\n0 1 0\n"
STYLES = [(True, "="), (False, "<"), (False, ">")]


def lists(rows, dtype):
    found = np.empty(len(rows), object)
    found[:] = [np.array(row, dtype) for row in rows]
    return found


def parts(mixed):
    """Vertices with properties in no order, faces with lists around theirs."""
    generator = np.random.default_rng(0)
    vertices = np.empty(5, [("red", "u1"), ("z", "f8"), ("x", "f4"), ("q", "i4"), ("y", "f4")])
    for name in vertices.dtype.names:
        vertices[name] = generator.uniform(0, 200, 5)
    faces = np.empty(3, [("texcoord", "O"), ("vertex_index", "O")])
    faces["texcoord"] = lists([[0, 1, 2], [3, 4, 5], [6, 7, 8]], "f4")
    faces["vertex_index"] = lists([[0, 1, 2], [2, 3, 4], [1, 2, 3, 4] if mixed else [1, 2, 3]], "i4")
    types = {"vertex_index": "u4", "texcoord": "f4"}
    lengths = {"vertex_index": "u1", "texcoord": "i4"}
    return vertices, [
        plyfile.PlyElement.describe(vertices, "vertex"),
        plyfile.PlyElement.describe(faces, "face", val_types=types, len_types=lengths),
    ]


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize(("text", "order"), STYLES)
def test_properties_are_found_by_name(tmp_path, text, order, mixed):
    vertices, elements = parts(mixed)
    plyfile.PlyData(elements, text=text, byte_order=order, comments=["hello"]).write(tmp_path / "a.ply")
    found = loaded(tmp_path / "a.ply", triangulate=mixed)
    np.testing.assert_array_equal(found.positions, np.column_stack([vertices[axis] for axis in "xyz"]))
    for name in ("red", "q"):
        np.testing.assert_array_equal(found.attributes[name], vertices[name])
        assert found.attributes[name].dtype == vertices[name].dtype
    assert found.faces.tolist() == [[0, 1, 2], [2, 3, 4], [1, 2, 3], *([[1, 3, 4]] if mixed else [])]
    assert found.link_attributes["texcoord"][:3].tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert found.header["ply"] == {"comment": ["hello"]}
    assert found.means == {"red"}
    if mixed:
        with pytest.raises(FileError, match="--triangulate"):
            loaded(tmp_path / "a.ply")
    else:
        one, other, done = back(tmp_path / "a.ply", tmp_path / "b.ply", tmp_path)
        assert_same(one, other)
        assert done["left_out"] == []


@pytest.mark.parametrize("before", ["property list uchar float texcoord", "property float quality"])
def test_the_list_of_corners_may_stand_anywhere(tmp_path, before):
    more = "2 0 1" if "list" in before else "0.5"
    body = f"element face 2\n{before}\nproperty list uchar int vertex_indices\nend_header\n{FOUR}"
    (tmp_path / "a.ply").write_text(f"{HEAD}{body}{more} 3 0 1 2\n{more} 3 0 2 3\n")
    found = loaded(tmp_path / "a.ply")
    assert found.faces.tolist() == [[0, 1, 2], [0, 2, 3]]
    assert list(found.link_attributes) == [before.split()[-1]]


def test_edges_and_their_values_come_back(tmp_path):
    edge = "element edge 2\nproperty int vertex1\nproperty int vertex2\nproperty double weight\nend_header\n"
    (tmp_path / "a.ply").write_text(HEAD + edge + FOUR + "0 1 .5\n2 3 .25\n")
    one, other, done = back(tmp_path / "a.ply", tmp_path / "b.ply", tmp_path)
    assert one.kind == "graph"
    assert one.link_attributes["weight"].tolist() == [0.5, 0.25]
    assert_same(one, other)
    assert done["left_out"] == []


def test_strips_are_triangles(tmp_path):
    strip = "element tristrips 1\nproperty list int int vertex_indices\nend_header\n"
    (tmp_path / "a.ply").write_text(HEAD + strip + FOUR + "8 0 1 2 3 -1 1 2 3\n")
    assert loaded(tmp_path / "a.ply").faces.tolist() == [[0, 1, 2], [2, 1, 3], [1, 2, 3]]


def test_names_do_not_collide_and_what_has_no_place_is_named(tmp_path):
    attributes = {
        "rgb": np.array([[1, 2], [3, 4]]), "rgb_0": [90, 91], "x": [190, 191], "a b": [1.5, 2.5],
        "big": [2**40, 1], "text": ["a", "b"], "yes": [True, False],
    }  # fmt: skip
    zvl.write_points(tmp_path / "a.zarrvectors", np.eye(3)[:2], chunk_shape=9, vertex_attributes=attributes)
    done = zvl.open_zv(tmp_path / "a.zarrvectors")[0].to_file(tmp_path / "a.ply")
    found = plyfile.PlyData.read(tmp_path / "a.ply")["vertex"]
    assert sorted(found["x"].tolist()) == [0, 1]
    for right in ([1, 3], [2, 4], [90, 91], [190, 191], [1.5, 2.5]):
        assert right in [sorted(found[one.name].tolist()) for one in found.properties]
    assert sorted(done["left_out"]) == ["attribute big", "attribute text"]


@pytest.mark.parametrize(
    ("name", "ids", "names"), [("a.ply", [1, 2**61], None), ("a.obj", [5, 7], ["p", ""]), ("a.glb", [5, 7], ["p", "q"])]
)
def test_ids_that_a_file_does_not_hold_are_named(tmp_path, name, ids, names):
    rows = np.arange(12.0).reshape(4, 3)
    about = {"object_ids": ids, "object_attributes": {"name": names} if names else None}
    zvl.write_polylines(tmp_path / "a.zv", [rows, rows + 1], chunk_shape=50, **about)
    assert zvl.open_zv(tmp_path / "a.zv")[0].to_file(tmp_path / name)["left_out"] == ["object ids"]


def test_objects_come_back(tmp_path):
    zvl.write_points(tmp_path / "a.zarrvectors", np.eye(3), chunk_shape=9, object_ids=[7, 7, 40])
    zvl.open_zv(tmp_path / "a.zarrvectors")[0].to_file(tmp_path / "a.ply")
    zvl.ingest(tmp_path / "a.ply", tmp_path / "b.zarrvectors")
    assert zvl.open_zv(tmp_path / "b.zarrvectors")[0].objects.ids.tolist() == [7, 40]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("plain text", "not a PLY file"),
        (HEAD + "end_header\n0 0 0\n1 0\n", "it ends among the 4 of element 'vertex'"),
        (HEAD + "end_header\n" + FOUR + "1 2 3\n", "3 words after the last element"),
        (HEAD + "end_header\n" + FOUR.replace("1 1 0", "1 one 0"), "element 'vertex'.*one"),
        (HEAD.replace("float x", "floating x") + "end_header\n" + FOUR, "a property that is unknown or repeated"),
        (HEAD.replace("float y", "float why") + "end_header\n" + FOUR, "x, y and z"),
        (
            HEAD + "element face 1\nproperty list uchar int corners\nend_header\n" + FOUR + "3 0 1 2\n",
            "no list vertex_indices",
        ),
        (HEAD + "element face 1\nproperty list uchar int vertex_index\nend_header\n" + FOUR + "3 0 1 9\n", "vertex 9"),
        (HEAD.replace("vertex 4", "vertex 999999999999") + "end_header\n" + FOUR, "it ends among"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, message):
    (tmp_path / "a.ply").write_text(text)
    with pytest.raises(FileError, match=rf"a\.ply: .*{message}"):
        loaded(tmp_path / "a.ply")
