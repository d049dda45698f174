"""The reference reads what we write, finds it valid, and returns equal values, as we do."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest
from numpy.dtypes import StringDType

import zarr_vectors_lazy as zvl
from tests.integration.written import ENCODINGS, GEOMETRIES, check_reference, read_points, reference, rows
from zarr_vectors_lazy.errors import SelectionError

DTYPES = ["f4", "f8"]
AXES = [2, 3, 4]
EVERY = list(itertools.product(GEOMETRIES, DTYPES, AXES, ENCODINGS))
# Every geometry with every encoding, with every dtype, and in every number of axes.
COVER = [
    (geometry, DTYPES[(i + k // 3) % 2], AXES[(i + k) % 3], encoding)
    for i, geometry in enumerate(GEOMETRIES)
    for k, encoding in enumerate(ENCODINGS)
]


@pytest.mark.parametrize(("geometry", "dtype", "ndim", "encoding"), COVER)
def test_both_packages_read_it_back(tmp_path, geometry, dtype, ndim, encoding):
    path = tmp_path / "store.zarrvectors"
    GEOMETRIES[geometry](path, dtype, ndim, **ENCODINGS[encoding])
    check_reference(path)


@pytest.mark.stress
@pytest.mark.parametrize(("geometry", "dtype", "ndim", "encoding"), [case for case in EVERY if case not in COVER])
def test_every_combination(tmp_path, geometry, dtype, ndim, encoding):
    path = tmp_path / "store.zarrvectors"
    GEOMETRIES[geometry](path, dtype, ndim, **ENCODINGS[encoding])
    check_reference(path)


def test_the_cover_has_all_of_each():
    for at, values in ((1, DTYPES), (2, AXES), (3, ENCODINGS)):
        for geometry in GEOMETRIES:
            assert {case[at] for case in COVER if case[0] == geometry} == set(values)


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", ">f4", "c8", "?"])
def test_attributes_of_every_dtype(tmp_path, dtype):
    values = {"one": np.arange(5).astype(dtype), "many": np.arange(10).reshape(5, 2).astype(dtype)}
    zvl.write_points(
        tmp_path / "x",
        np.arange(10.0).reshape(5, 2),
        chunk_shape=4,
        vertex_attributes=values,
        object_ids=np.arange(5),
        object_attributes=values,
    )
    level = zvl.open_zv(tmp_path / "x")[0]
    for name, given in values.items():
        found = level.attributes[name].compute()
        assert np.array_equal(found, given)
        assert found.dtype == np.dtype(dtype).newbyteorder("<")
        assert np.array_equal(level.objects.attributes[name].values, given)


def test_text(tmp_path):
    names = np.array(["long enough", None, "", "ünïcode"], object)
    zvl.write_points(
        tmp_path / "x", np.zeros((4, 2)), chunk_shape=1, vertex_attributes={"n": names, "t": names.astype(str)}
    )
    level = zvl.open_zv(tmp_path / "x")[0]
    assert level.attributes["n"].compute().tolist() == ["long enough", "", "", "ünïcode"]
    assert level.codes["n"].compute().tolist()[1] == -1
    assert level.attributes["t"].compute().tolist() == ["long enough", "None", "", "ünïcode"]


@pytest.mark.parametrize(
    "texts",
    [
        np.array(["a", np.nan, "bb"], object),
        np.array(["a", None, "bb"], StringDType(na_object=None)),
        pd.Series(["a", None, "bb"], dtype="string"),
        pd.Categorical(["a", None, "bb"]),
        ["a", None, "bb"],
    ],
    ids=["NaN", "StringDType", "pandas", "categories", "list"],
)
def test_text_that_is_missing(tmp_path, texts):
    values = {"n": texts}
    zvl.write_points(
        tmp_path / "x",
        np.arange(6.0).reshape(3, 2),
        chunk_shape=1,
        vertex_attributes=values,
        object_ids=[0, 1, 2],
    )
    check_reference(tmp_path / "x")
    level = zvl.open_zv(tmp_path / "x")[0]
    assert level.attributes["n"].compute().tolist() == ["a", "", "bb"]
    assert level.codes["n"].compute().tolist() == [0, -1, 1]
    with pytest.raises(SelectionError, match="cannot distinguish from empty text"):  # of objects there are no codes
        zvl.write_points(
            tmp_path / "y", np.zeros((3, 2)), chunk_shape=1, object_ids=[0, 1, 2], object_attributes=values
        )


def test_faces_of_many_corners(tmp_path):
    zvl.write_mesh(tmp_path / "x", np.zeros((70, 2)), [np.arange(64)], chunk_shape=1)
    assert zvl.read_mesh(tmp_path / "x")["faces"].tolist() == [list(range(64))]
    spread = np.random.default_rng(0).permutation(20)[None]
    zvl.write_mesh(tmp_path / "y", np.arange(40.0).reshape(20, 2), spread, chunk_shape=1)
    assert zvl.read_mesh(tmp_path / "y")["faces"].tolist() == spread.tolist()


@pytest.mark.parametrize("kind", ["graph", "mesh", "paths"])
def test_bins_mislead_no_box_of_the_reference(tmp_path, kind):
    points = np.random.default_rng(0).uniform(-9, 9, (200, 3))
    links = np.random.default_rng(1).integers(0, 200, (50, 3))
    options = {"chunk_shape": 6, "bin_shape": 2}
    match kind:
        case "graph":
            zvl.write_graph(tmp_path / "x", points, links[:, :2], **options)
        case "mesh":
            zvl.write_mesh(tmp_path / "x", points, links, **options)
        case _:
            zvl.write_polylines(tmp_path / "x", (points, [0, 90, 200]), **options)
    lo, hi = np.array([-3.0, -4, -5]), np.array([4.0, 5, 6])
    inside = points[((points >= lo) & (points <= hi)).all(axis=1)]
    assert rows(reference(read_points, tmp_path / "x", bbox=(lo, hi))["positions"]) == rows(inside)
    assert zvl.open_zv(tmp_path / "x").bin_shape.tolist() == [2, 2, 2]


def test_flat_text_of_paths(tmp_path):
    texts = np.array(["a", None, "b"], object)
    zvl.write_polylines(tmp_path / "x", (np.zeros((3, 2)), [0, 1, 3]), chunk_shape=1, vertex_attributes={"t": texts})
    assert zvl.read_polylines(tmp_path / "x")["vertex_attributes"]["t"].tolist() == ["a", "", "b"]


def test_an_empty_path_does_not_change_the_dtype_of_attributes(tmp_path):
    zvl.write_polylines(
        tmp_path / "x", [np.empty((0, 2)), np.zeros((2, 2))], chunk_shape=1, vertex_attributes={"a": [[], [1, 2]]}
    )
    assert zvl.open_zv(tmp_path / "x")[0].attributes["a"].dtype == np.int64


def test_attributes_may_be_called_as_dimensions_are(tmp_path):
    zvl.write_points(
        tmp_path / "x",
        np.zeros((1, 2)),
        chunk_shape=1,
        object_ids=[7],
        object_attributes={"object": [3]},
        groups={0: [7]},
        group_attributes={"group": [4]},
    )
    objects = zvl.open_zv(tmp_path / "x")[0].objects
    for dataset, name, value, at in (
        (objects.attributes, "object", 3, 7),
        (objects.groups.attributes, "group", 4, 0),
    ):
        assert dataset[f"{name}_attribute"].values.tolist() == [value]
        assert dataset[name].values.tolist() == [at]


def test_what_a_store_tells(tmp_path):
    zvl.write_points(
        tmp_path / "x.zv",
        np.array([[1.0, 2, 3], [4, 5, 6]], "f4"),
        chunk_shape=(2, 3, 4),
        bin_shape=1,
        bounds=([-1, 0, 0], [9, 9, 9]),
        axes=("a", "b", "c"),
        units=("um", None, "mm"),
        crs={"epsg": 4326},
    )
    store = zvl.open_zv(tmp_path / "x.zv")
    assert store.format_version == "0.9.2"
    assert (store.axes, store.units, store.crs) == (("a", "b", "c"), ("um", None, "mm"), {"epsg": 4326})
    assert [corner.tolist() for corner in store.bounds] == [[-1, 0, 0], [9, 9, 9]]
    assert (store.chunk_shape.tolist(), store.bin_shape.tolist()) == ([2, 3, 4], [1, 1, 1])
    assert store[0].vertices.chunks[0] == (1, 1)
    assert store.attrs["ome"]["name"] == "x.zv"


def test_the_same_input_gives_the_same_bytes(tmp_path):
    positions = np.random.default_rng(0).uniform(0, 9, (500, 2))
    for name in "ab":
        zvl.write_points(tmp_path / name, positions, chunk_shape=1, object_ids=np.arange(500) % 9)
    files = [
        {p.relative_to(tmp_path / name): p.read_bytes() for p in (tmp_path / name).rglob("*") if p.is_file()}
        for name in "ab"
    ]
    roots = [json.loads(part.pop(next(p for p in part if str(p) == "zarr.json"))) for part in files]
    assert files[0] == files[1]
    roots[0]["attributes"]["ome"]["name"] = "b"
    assert roots[0] == roots[1]


def test_rewritten_values_are_read_anew(tmp_path):
    positions = np.zeros((3, 2))
    for value in (1, 2):
        zvl.write_points(
            tmp_path / "x",
            positions,
            chunk_shape=1,
            vertex_attributes={"v": np.full(3, value)},
            object_ids=[value, 2, 3],
            mode="w",
        )
        level = zvl.open_zv(tmp_path / "x")[0]
        assert level.attributes["v"].compute().tolist() == [value] * 3
        assert level.objects.ids.tolist() == sorted({value, 2, 3})
        keys = level.attributes["v"].name, level.vertices.name
    zvl.write_points(tmp_path / "x", positions, chunk_shape=1, vertex_attributes={"v": np.full(3, 3)}, mode="w")
    other = zvl.open_zv(tmp_path / "x")[0]
    assert other.attributes["v"].name != keys[0]


def test_nothing_at_all(tmp_path):
    bounds = ([0, 0], [1, 1])
    calls = {
        "points": lambda path: zvl.write_points(path, np.empty((0, 2)), chunk_shape=1, bounds=bounds),
        "lines": lambda path: zvl.write_lines(path, np.empty((0, 2, 2)), chunk_shape=1, bounds=bounds),
        "graph": lambda path: zvl.write_graph(path, np.empty((0, 2)), [], chunk_shape=1, bounds=bounds),
        "objects": lambda path: zvl.write_points(
            path, np.empty((0, 2)), chunk_shape=1, bounds=bounds, object_ids=[], vertex_attributes={"t": []}
        ),
        "node": lambda path: zvl.write_graph(path, [[0.5, 0.5]], [], chunk_shape=1),
        "mesh": lambda path: zvl.write_mesh(path, [[0.5, 0.5]], np.empty((0, 3), int), chunk_shape=1),
        "paths": lambda path: zvl.write_polylines(path, [np.empty((0, 2)), [[0.5, 0.5]]], chunk_shape=1),
    }
    for name, write in calls.items():
        write(tmp_path / name)
        check_reference(tmp_path / name)
        level = zvl.open_zv(tmp_path / name)[0]
        assert len(level.vertices.compute()) == (name in {"node", "mesh", "paths"})
        assert len(level.edges.compute()) == 0


def test_delayed(tmp_path):
    later = zvl.write_points(tmp_path / "x", np.zeros((3, 2)), chunk_shape=1, compute=False)
    assert not (tmp_path / "x").exists()
    assert later.compute()["vertex_count"] == 3
    assert zvl.open_zv(tmp_path / "x")[0].vertex_count == 3


def test_progress(tmp_path, capsys):
    zvl.write_points(tmp_path / "x", np.zeros((3, 2)), chunk_shape=1, progress=True)
    assert "writing" in capsys.readouterr().err
