"""SWC, read and written."""

import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from tests.files.rounds import assert_same, back, loaded
from zarr_vectors_lazy.errors import FileError, SelectionError, ZVWarning
from zarr_vectors_lazy.files.graphs import parents_of

BIG = 720575940631797753
TEXT = (
    f"# SCALE 1 1 1\n# a caf\u00e9\n{BIG} 1 16777217 0.1 0 1.5 -1\n9 3 0 0 0 1 5\n5 3 1 0 0 .25 {BIG}\n7 2 5 5 5 1 -1\n"
)


def write(folder, text, name="a.swc"):
    (folder / name).write_bytes(text.encode("latin-1"))
    return folder / name


def test_rows_in_any_order_ids_of_64_bits_several_roots_and_comments(tmp_path):
    found = loaded(write(tmp_path, TEXT))
    assert found.positions.dtype == np.float64
    assert found.positions[0].tolist() == [16777217, 0.1, 0]
    assert found.attributes["id"].tolist() == [BIG, 9, 5, 7]
    assert found.edges.tolist() == [[1, 2], [2, 0]]
    assert found.header["swc"]["comment"] == ["SCALE 1 1 1", "a caf\u00e9"]
    one, other, done = back(tmp_path / "a.swc", tmp_path / "b.swc", tmp_path)
    assert_same(one, other)
    assert done["left_out"] == []
    table = [line.split() for line in (tmp_path / "b.swc").read_text("latin-1").splitlines() if line[0] != "#"]
    ids = [row[0] for row in table]
    assert all(row[6] == "-1" or ids.index(row[6]) < ids.index(row[0]) for row in table)


def test_a_root_of_parent_zero_is_a_warning(tmp_path):
    path = write(tmp_path, "1 1 0 0 0 1 0\n2 3 1 0 0 1 1\n")
    with pytest.warns(ZVWarning, match="1 root with the parent 0"):
        found = loaded(path)
    assert found.edges.tolist() == [[1, 0]]
    of_zero = loaded(write(tmp_path, "0 1 0 0 0 1 -1\n1 3 1 0 0 1 0\n"))
    assert of_zero.edges.tolist() == [[1, 0]]


def test_commas_whole_floats_and_more_columns(tmp_path):
    found = loaded(write(tmp_path, "1.0, 1.0, 0.5, 0, 0, 1, -1.0, 77\n2.0, 3.0, 1, 0, 0, 1, 1.0, 78\n"))
    assert found.attributes["id"].tolist() == [1, 2]
    assert found.left_out == ("1 column beyond the seventh",)


def test_graphs_without_cycles_and_paths_are_trees(tmp_path):
    positions = np.arange(15.0).reshape(5, 3)
    place = tmp_path / "a.zarrvectors"
    zvl.write_graph(place, positions, [[0, 1], [0, 2], [2, 3]], chunk_shape=50)
    zvl.open_zv(place)[0].to_file(tmp_path / "a.swc")
    found = loaded(tmp_path / "a.swc")
    pairs = {tuple(sorted(pair)) for pair in found.positions[found.edges][:, :, 0].tolist()}
    assert pairs == {(0, 3), (0, 6), (6, 9)}
    zvl.write_polylines(place, [positions[:2], positions[2:]], chunk_shape=50, mode="w")
    zvl.open_zv(place)[0].to_file(tmp_path / "b.swc")
    assert len(loaded(tmp_path / "b.swc").edges) == 3
    table = [line.split() for line in (tmp_path / "b.swc").read_text().splitlines() if line[0] != "#"]
    assert [float(row[2]) for row in table if row[6] == "-1"] == [0, 6], "a path begins at its root"


def test_what_is_no_tree_is_refused(tmp_path):
    place = tmp_path / "a.zarrvectors"
    triangle, at = [[0, 1], [1, 2], [2, 0]], np.eye(3)
    zvl.write_graph(place, at, triangle, chunk_shape=50)
    with pytest.raises(SelectionError, match="cycle"):
        zvl.open_zv(place)[0].to_file(tmp_path / "a.swc")
    zvl.write_mesh(place, at, [[0, 1, 2]], chunk_shape=50, mode="w")
    with pytest.raises(SelectionError, match=r"SWC holds .*, but the store is of mesh"):
        zvl.open_zv(place)[0].to_file(tmp_path / "a.swc")
    assert not (tmp_path / "a.swc").exists()
    assert parents_of(np.array([[0, 1], [2, 1]]), 3).tolist() == [1, -1, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 0 0 0 0 1 -1\n2 0 1 0 0 1 7\n", "the parent 7 of id 2 does not exist"),
        ("1 0 0 0 0 1 -1\n1 0 1 0 0 1 -1\n", "id 1 occurs twice"),
        ("1 0 0 0\n", "row 1 has 4 numbers"),
        ("1 0 0 zero 0 1 -1\n", "column 'y'"),
        ("1.5 0 0 0 0 1 -1\n", "column 'id'"),
        ("1 0 0 0 0 1 2\n2 0 1 0 0 1 1\n", "cycle"),
        ("# nothing\n", "no vertices"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, message):
    with pytest.raises(SelectionError, match=message):
        zvl.ingest(write(tmp_path, text), tmp_path / "a.zarrvectors")
    assert not (tmp_path / "a.zarrvectors").exists()


def test_errors_name_the_file(tmp_path):
    with pytest.raises(FileError, match=r"a\.swc: "):
        loaded(write(tmp_path, "1 0 0 0\n"))
    with pytest.raises(FileError, match=r"a\.swc: .*cycle"):
        loaded(write(tmp_path, "1 1 0 0 0 1 2\n2 1 0 0 0 1 1\n"))


def test_comments_of_several_files_are_kept_by_name(tmp_path):
    for number, comment in enumerate(["same", "same", "other"]):
        write(tmp_path, f"# {comment}\n1 1 {number} 0 0 1 -1\n2 3 1 1 0 1 1\n", f"n{number}.swc")
    place = tmp_path / "a.zarrvectors"
    zvl.ingest([tmp_path / "n0.swc", tmp_path / "n1.swc"], place)
    assert zvl.open_zv(place).headers == {"swc": {"comment": ["same"]}}
    zvl.ingest(tmp_path / "n*.swc", place, overwrite=True)
    assert zvl.open_zv(place).headers["swc"]["files"]["n2.swc"] == {"comment": ["other"]}
    assert zvl.open_zv(place)[0].objects.attributes["name"].values.tolist() == ["n0.swc", "n1.swc", "n2.swc"]
    zvl.rechunk(place, tmp_path / "b.zarrvectors", chunk_shape=5)
    assert zvl.open_zv(tmp_path / "b.zarrvectors").headers == zvl.open_zv(place).headers
