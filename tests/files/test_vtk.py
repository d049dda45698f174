"""Legacy VTK and VTP, read and written, compared with files that VTK 9.7 wrote."""

import zipfile

import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from tests.conftest import DATA
from tests.files.rounds import assert_same, back, loaded
from zarr_vectors_lazy.errors import FileError

SAMPLES = DATA / "files/vtk.zip"
HEAD = "# vtk DataFile Version 3.0\ntitle\nASCII\nDATASET POLYDATA\n"
POINTS = "POINTS 4 float\n0 0 0\n1 0 0\n1 1 0\n0 1 0\n"


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """The same lines, and the same polygons and strip, written by VTK in each of its ways."""
    folder = tmp_path_factory.mktemp("vtk")
    with zipfile.ZipFile(SAMPLES) as files:
        files.extractall(folder)
    return folder


def test_lines_are_the_same_however_they_are_written(samples):
    measure = loaded(samples / "lines-v51-b.vtk")
    assert measure.kind == "polylines"
    assert measure.offsets.tolist() == [0, 4, 8, 12]
    assert measure.attributes["fa value"].tolist() == [0, 1, 2, 3, 7, 6, 5, 4, 8, 9, 10, 11]
    assert measure.object_attributes["big"].tolist() == [2**40, 2**40 + 1, 2**40 + 2]
    for path in sorted(samples.glob("lines*")):
        found = loaded(path)
        np.testing.assert_allclose(found.positions, measure.positions, rtol=1e-5, err_msg=path.name)
        assert found.offsets.tolist() == measure.offsets.tolist()
        assert found.attributes["RGB"].tolist() == measure.attributes["RGB"].tolist()
        assert {name: values.dtype for name, values in found.attributes.items()} == {
            name: values.dtype for name, values in measure.attributes.items()
        }
        assert found.object_attributes["big"].tolist() == measure.object_attributes["big"].tolist()


def test_polygons_and_strips_are_the_same_however_they_are_written(samples):
    for path in sorted(samples.glob("mixed*")):
        with pytest.raises(FileError, match="--triangulate"):
            loaded(path)
        found = loaded(path, triangulate=True)
        assert found.faces.tolist() == [[0, 1, 2], [2, 3, 4], [2, 4, 5], [6, 7, 8], [8, 7, 9], [8, 9, 10]], path.name
        assert found.link_attributes["label"].tolist() == [0, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("suffix", [".vtk", ".vtp"])
def test_what_is_written_comes_back(samples, tmp_path, suffix):
    one, other, done = back(samples / "lines-v51-b.vtk", tmp_path / f"a{suffix}", tmp_path)
    assert np.array_equal(one.positions, other.positions)
    assert np.array_equal(one.offsets, other.offsets)
    for name, values in one.attributes.items():
        assert np.array_equal(other.attributes[name], values)
    assert {n: v.tolist() for n, v in one.object_attributes.items()} == {
        n: v.tolist() for n, v in other.object_attributes.items()
    }
    assert done["left_out"] == []
    one, other, done = back(samples / "mixed-v51-b.vtk", tmp_path / f"b{suffix}", tmp_path, triangulate=True)
    assert_same(one, other)
    assert done["left_out"] == []


@pytest.mark.parametrize("suffix", [".vtk", ".vtp"])
def test_graphs_points_and_objects_come_back(tmp_path, suffix):
    place, at = tmp_path / "a.zarrvectors", np.arange(18.0).reshape(6, 3)
    attributes = {"a b": np.arange(6) - 2**50, "yes": np.arange(6) > 2, "text": list("abcdef"), "v": at}
    zvl.write_graph(
        place, at, [[0, 1], [0, 2]], chunk_shape=99, vertex_attributes=attributes, link_attributes={"w": [0.5, 0.25]}
    )
    done = zvl.open_zv(place)[0].to_file(tmp_path / f"g{suffix}")
    assert done["left_out"] == ["attribute text"]
    found = loaded(tmp_path / f"g{suffix}")
    assert found.kind == "graph"
    assert sorted(found.link_attributes["w"].tolist()) == [0.25, 0.5]
    assert sorted(found.attributes["a b"].tolist()) == sorted(attributes["a b"].tolist())
    one, other, _ = back(tmp_path / f"g{suffix}", tmp_path / f"h{suffix}", tmp_path)
    assert_same(one, other)
    zvl.write_points(place, at, chunk_shape=99, mode="w", object_ids=[3, 3, 3, 5, 5, 5])
    zvl.open_zv(place)[0].to_file(tmp_path / f"p{suffix}")
    found = loaded(tmp_path / f"p{suffix}")
    assert found.kind == "points"
    assert found.object_ids.tolist() == [3, 3, 3, 5, 5, 5]


@pytest.mark.parametrize("suffix", [".vtk", ".vtp"])
def test_paths_that_are_cut_are_lines(tmp_path, suffix):
    zvl.write_polylines(tmp_path / "a.zarrvectors", [np.arange(12.0).reshape(4, 3)], chunk_shape=99)
    zvl.open_zv(tmp_path / "a.zarrvectors")[0].sel(x=slice(0, 7)).to_file(tmp_path / f"a{suffix}")
    found = loaded(tmp_path / f"a{suffix}")
    assert found.positions[found.edges][:, :, 0].tolist() == [[0, 3], [3, 6]]


def test_an_unstructured_grid_of_surfaces(tmp_path):
    cells = "CELLS 3 13\n3 0 1 2\n4 0 1 3 2\n3 0 1 2\nCELL_TYPES 3\n5 8 5\n"
    cells += "CELL_DATA 3\nSCALARS a int\nLOOKUP_TABLE default\n7 8 9\n"
    (tmp_path / "a.vtk").write_text(HEAD.replace("POLYDATA", "UNSTRUCTURED_GRID") + POINTS + cells)
    found = loaded(tmp_path / "a.vtk", triangulate=True)
    assert found.faces.tolist() == [[0, 1, 2], [0, 1, 2], [0, 2, 3], [0, 1, 2]]
    assert found.link_attributes["a"].tolist() == [7, 8, 8, 9]


def test_text_is_left_out(tmp_path):
    head, text = HEAD.encode(), [b"FIELD FieldData 1\nSPACE 1 1 string\n", b"LPS\n"]
    places, corners = np.eye(3), np.array([[3, 0, 1, 2], [3, 2, 1, 0]])
    names = [b"CELL_DATA 2\nFIELD FieldData 2\nname 1 2 string\n", b"\na%20b\n", b"label 1 2 int\n"]
    lines = [b"POINTS 3 float\n", b"1 0 0 0 1 0 0 0 1\n", b"POLYGONS 2 8\n", b"3 0 1 2 3 2 1 0\n"]
    (tmp_path / "text.vtk").write_bytes(b"".join([head, *text, *lines, *names, b"7 8\n"]))
    numbers = [lines[0], places.astype(">f4").tobytes(), b"\n", lines[2], corners.astype(">i4").tobytes(), b"\n"]
    text[1], names[1] = b"\xc3LPS\n", b"\xc0\x80\x64" + b"x" * 100 + b"\n"  # lengths of 0 and, in two bytes, 100
    binary = [head.replace(b"ASCII", b"BINARY"), *text, *numbers, *names, np.array([7, 8], ">i4").tobytes()]
    (tmp_path / "binary.vtk").write_bytes(b"".join(binary))
    zvl.write_mesh(tmp_path / "a.zv", places, corners[:, 1:], link_attributes={"label": [7, 8]}, chunk_shape=5)
    zvl.open_zv(tmp_path / "a.zv")[0].to_file(tmp_path / "a.vtp")
    said = (tmp_path / "a.vtp").read_bytes()
    array = b'<Array type="String" Name="name" format="ascii">0 97 0</Array></CellData>'
    (tmp_path / "a.vtp").write_bytes(said.replace(b"</CellData>", array))
    for name in ("text.vtk", "binary.vtk", "a.vtp"):
        found = loaded(tmp_path / name)
        assert found.left_out == ("values name (text)",), name
        assert sorted(map(sorted, found.faces.tolist())) == [[0, 1, 2], [0, 1, 2]]
        assert sorted(found.link_attributes["label"].tolist()) == [7, 8]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.vtk", "nonsense", "this is not a VTK file"),
        ("a.vtk", HEAD.replace("POLYDATA", "STRUCTURED_POINTS"), "is an image or a grid"),
        ("a.vtk", HEAD + "POINTS 4 float\n0 0 0\n", "expected 12 numbers where the file ends"),
        ("a.vtk", HEAD + POINTS + "POLYGONS 1 4\n3 0 1 9\n", "cells refer to vertex 9"),
        ("a.vtk", HEAD + POINTS + "POLYGONS 2 4\n3 0 1 2\n", "expected 2 cells"),
        ("a.vtk", HEAD + POINTS + "WHAT is this\n", "unknown keyword 'WHAT'"),
        (
            "a.vtk",
            HEAD.replace("ASCII", "BINARY") + "FIELD FieldData 1\na 1 2 string\n\xc1a\n",
            "expected 2 texts where the file ends",
        ),
        (
            "a.vtk",
            HEAD + POINTS + "POINT_DATA 3\nSCALARS a int\nLOOKUP_TABLE default\n1 2 3\n",
            "do not have a row for each point",
        ),
        ("a.vtp", "nonsense", r"a\.vtp cannot be read as VTP"),
        ("a.vtp", '<VTKFile type="ImageData"/>', "is not PolyData"),
        ("a.vtp", '<VTKFile type="PolyData"/>', "it has no Piece"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(FileError, match=message):
        loaded(tmp_path / name)
