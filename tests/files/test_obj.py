"""Wavefront OBJ, read and written."""

import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from tests.files.rounds import assert_same, back, link_rows, loaded, vertex_rows
from zarr_vectors_lazy.errors import FileError, SelectionError

CUBE = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nv 0 0 1\nv 1 0 1\n"
FULL = (
    "# made by hand\nmtllib a.mtl\n"
    "o left part\nv 0 0 0 1 0 0\nv 1 0 0 0 1 0\nv 0 1 0 0 0 1\nv 1 1 0 1 1 1\n"
    "vt 0 0\nvt 1 0\nvt 0 1\nvt 1 1\nvn 0 0 1\nvn 0 0 1\n"
    "usemtl red\ns 1\nf 1/1/1 2/2/1 \\\n 3/3/2\nf 2/2/1 4/4/2 3/3/1\n"
    "o right\nv 9 0 0 0 0 0\nv 10 0 0 .5 .5 .5\nv 9 1 0 .25 0 0\nusemtl blue\nf -3/-4/-1 -2/-3/-1 -1/-2/-1\n"
)


def write(folder, text, name="a.obj"):
    (folder / name).write_text(text)
    return folder / name


def corners(path):
    found = loaded(path)
    return found.positions[found.faces].tolist()


def test_numbers_count_back_from_where_they_stand(tmp_path):
    path = write(tmp_path, "v 0 0 0\nv 1 0 0\nv 0 1 0\nf -3 -2 -1\nv 10 0 0\nv 11 0 0\nv 10 1 0\nf -3 -2 -1\n")
    assert corners(path) == [[[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[10, 0, 0], [11, 0, 0], [10, 1, 0]]]


def test_all_that_it_has_a_place_for_comes_back(tmp_path):
    one, other, done = back(write(tmp_path, FULL), tmp_path / "b.obj", tmp_path)
    assert done["left_out"] == []
    assert sorted(one.attributes) == ["blue", "green", "nx", "ny", "nz", "red", "s", "t"]
    assert one.object_attributes["name"].tolist() == ["left part", "right"]
    assert other.object_attributes["name"].tolist() == ["left part", "right"]
    np.testing.assert_array_equal(vertex_rows(one, owners=True), vertex_rows(other, owners=True))
    np.testing.assert_array_equal(link_rows(one), link_rows(other))


def test_colours_of_six_and_seven_numbers(tmp_path):
    six = loaded(write(tmp_path, "v 0 0 0 1 .5 0\nv 1 0 0 0 1 0\n"))
    assert six.attributes["red"].tolist() == [1, 0]
    assert six.attributes["green"].tolist() == [0.5, 1]
    seven = loaded(write(tmp_path, "v 0 0 0 1 .5 0 .25\nv 1 0 0 0 1 0 1\n"))
    assert seven.attributes["alpha"].tolist() == [0.25, 1]
    four = loaded(write(tmp_path, "v 0 0 0 1\nv 1 0 0 1\n"))
    assert four.left_out == ("weights of vertices",)


def test_values_of_corners_that_differ_are_of_faces(tmp_path):
    path = write(tmp_path, CUBE + "vt 0 0\nvt 1 0\nvt 0 1\nvt 1 1\nf 1/1 2/2 3/3\nf 1/4 3/3 4/1\n")
    one, other, done = back(path, tmp_path / "b.obj", tmp_path)
    assert one.link_attributes["texcoord"].tolist() == [[0, 0, 1, 0, 0, 1], [1, 1, 0, 1, 0, 0]]
    assert done["left_out"] == []
    assert_same(one, other)


def test_lines_are_edges_and_points_points(tmp_path):
    found = loaded(write(tmp_path, CUBE + "l 1 2 3\nl 4 -1\n"))
    assert found.kind == "graph"
    assert found.edges.tolist() == [[0, 1], [1, 2], [3, 5]]
    one, other, _ = back(tmp_path / "a.obj", tmp_path / "b.obj", tmp_path)
    assert_same(one, other)
    assert loaded(write(tmp_path, CUBE + "p 1 2 3\n")).kind == "points"


def test_groups_that_share_vertices_are_numbers_of_faces(tmp_path):
    found = loaded(write(tmp_path, CUBE + "g a\nf 1 2 3\ng b\nf 1 3 4\ng a\nf 1 2 5\n"))
    assert found.object_ids is None
    assert found.link_attributes["group"].tolist() == [0, 1, 0]
    assert found.header["obj"]["group"] == ["a", "b"]


def test_faces_that_join_objects_leave_vertices_to_theirs(tmp_path):
    place = tmp_path / "a.zarrvectors"
    zvl.write_mesh(place, np.eye(3), [[0, 1, 2]], chunk_shape=9, object_ids=[4, 4, 7])
    zvl.open_zv(place)[0].to_file(tmp_path / "a.obj")
    found = loaded(tmp_path / "a.obj")
    assert sorted(found.object_ids.tolist()) == [0, 0, 1]
    assert found.object_attributes["name"].tolist() == ["4", "7"]


def test_objects_of_several_files_keep_their_names(tmp_path):
    write(tmp_path, "o a\nv 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\no b\nv 5 0 0\nv 6 0 0\nv 5 1 0\nf 4 5 6\n", "n0.obj")
    write(tmp_path, "\ufeff# with a mark of its encoding\nv 0 0 9\nv 1 0 9\nv 0 1 9\nf 1 2 3\n", "n1.obj")
    done = zvl.ingest(tmp_path / "n*.obj", tmp_path / "a.zarrvectors")
    objects = zvl.open_zv(tmp_path / "a.zarrvectors")[0].objects
    assert done["left_out"] == []
    assert objects.attributes["name"].values.tolist() == ["a", "b", "n1.obj"]
    assert objects.groups["n0.obj"].tolist() == [0, 1]


def test_faces_of_several_sizes_become_triangles_or_are_refused(tmp_path):
    path = write(tmp_path, CUBE + "f 1 2 3\nf 1 2 3 4\n")
    with pytest.raises(FileError, match=r"a\.obj: faces of 3 to 4 corners.*--triangulate"):
        zvl.ingest(path, tmp_path / "a.zarrvectors")
    zvl.ingest(path, tmp_path / "a.zarrvectors", triangulate=True)
    assert len(zvl.open_zv(tmp_path / "a.zarrvectors")[0].faces.compute()) == 3
    quads = write(tmp_path, CUBE + "f 1 2 3 4\n")
    one, other, _ = back(quads, tmp_path / "b.obj", tmp_path)
    assert_same(one, other)
    level = zvl.open_zv(tmp_path / "there.zarrvectors")[0]
    level.to_file(tmp_path / "c.obj", triangulate=True)
    assert loaded(tmp_path / "c.obj").faces.shape == (2, 3)


def test_digits_are_kept(tmp_path):
    for dtype, text in ((np.float64, "1234567.123456789"), (np.float32, "0.1")):
        positions = np.array([[float(text), 0, 0], [1234568.5, 0, 0], [1234567, 1, 1e-7]], dtype)
        zvl.write_mesh(tmp_path / "a.zarrvectors", positions, [[0, 1, 2]], chunk_shape=1e5, mode="w")
        zvl.open_zv(tmp_path / "a.zarrvectors")[0].to_file(tmp_path / "a.obj", overwrite=True)
        assert f"v {text} 0 0" in (tmp_path / "a.obj").read_text().splitlines()
        assert np.array_equal(
            np.sort(loaded(tmp_path / "a.obj").positions.astype(dtype), axis=None), np.sort(positions, axis=None)
        )


def test_each_of_several_files_is_an_object_of_its_name(tmp_path):
    for number in range(3):
        write(tmp_path, f"v {number} 0 0\nv 1 {number} 0\nv 1 1 {number}\nf 1 2 3\n", f"n{number}.obj")
    zvl.ingest(tmp_path / "n*.obj", tmp_path / "a.zarrvectors")
    level = zvl.open_zv(tmp_path / "a.zarrvectors")[0]
    assert level.objects.attributes["name"].values.tolist() == ["n0.obj", "n1.obj", "n2.obj"]
    level.to_file(tmp_path / "all.obj")
    names = [line[2:] for line in (tmp_path / "all.obj").read_text().splitlines() if line.startswith("o ")]
    assert names == ["n0.obj", "n1.obj", "n2.obj"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("v 0 0\nv 1 0\n", "'v' number 1 has 2 numbers"),
        ("v 0 0 0\nf 1 2 3\n", "faces refer to vertex 2"),
        ("v 0 0 0\nf 1 0 1\n", "faces refer to vertex -1"),
        ("v 0 0 0\nv 1 1 1\nf 1 2\n", "face 1 has 2 corners"),
        ("v 0 0 zero\n", "zero"),
        ("v 0 0 0\nv 1 0 0\nv 1 1 0\nvt 0 0\nf 1/7 2/1 3/1\n", "corners: vt refer"),
        ("v 0 0 0\nf a b c\n", "cannot be read as OBJ"),
        ("", "no vertices"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, message):
    with pytest.raises(SelectionError, match=message):
        zvl.ingest(write(tmp_path, text), tmp_path / "a.zarrvectors")
    assert not (tmp_path / "a.zarrvectors").exists()


def test_objects_of_points_come_back(tmp_path):
    (tmp_path / "a.obj").write_text("o one\nv 0 0 0\nv 1 0 0\no two\nv 5 5 5\n")
    zvl.ingest(tmp_path / "a.obj", tmp_path / "a.zv", chunk_shape=50)
    level = zvl.open_zv(tmp_path / "a.zv")[0]
    assert level.objects.attributes["name"].values.tolist() == ["one", "two"]
    assert {number: len(rows.compute()) for number, rows in level.objects.items()} == {0: 2, 1: 1}
    level.to_file(tmp_path / "b.obj")
    assert (tmp_path / "b.obj").read_text() == (tmp_path / "a.obj").read_text()
