"""Copies keep values as stored: missing is not empty, no integer is rounded, categories keep their order."""

import json
import pickle

import cloudpickle
import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from zarr_vectors_lazy.errors import FormatError

A = 720575940631797753  # float64 holds neither it nor its neighbours
SIZES = np.array(["low", "mid", "high"])  # not in alphabetical order


def edit(path, array, change):
    file = path / "0" / array / "zarr.json"
    doc = json.loads(file.read_text())
    change(doc["attributes"])
    file.write_text(json.dumps(doc))


def hole(attributes):
    """A chunk that has no values."""
    attributes["nonempty_chunks"].pop()
    attributes["zarr_vectors_lazy"] = {}


def values(rows):
    """Attributes of as many rows, and what is to be said of their arrays."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 3, rows)
    big = np.ma.MaskedArray(A + rng.integers(0, 100, rows), rng.random(rows) < 0.3)
    attributes = {
        "text": np.where(rng.random(rows) < 0.4, None, np.array(["a", "b", ""], object)[codes]),
        "size": SIZES[codes],
        "ids": np.where(rng.random(rows) < 0.3, None, np.array(["a", "b", "c"], object)[codes]),
        "seen": np.array(["no", "yes"])[codes % 2],
        "big": big,
        "small": rng.integers(0, 9, rows, dtype="u1"),
        "flag": rng.random(rows) < 0.5,
        "pairs": rng.integers(0, 9, (rows, 2), dtype="i2"),
        "when": np.datetime64("2026-01-01", "s") + rng.integers(0, 100, rows),
    }

    def change(path):
        def unsorted(said):
            said.update(categories=SIZES.tolist(), ordered=True)  # now "high" is called "low", and so on

        edit(path, "vertex_attributes/size", unsorted)
        edit(path, "vertex_attributes/ids", lambda said: said.update(categories=[A, A + 1, A + 2]))
        edit(path, "vertex_attributes/small", lambda said: said.update(_FillValue=7))
        for name in ("seen", "flag", "pairs"):
            edit(path, f"vertex_attributes/{name}", hole)

    return attributes, change


def points(path, rows=80):
    attributes, change = values(rows)
    positions = np.random.default_rng(1).uniform(0, 40, (rows, 3))
    zvl.write_points(path, positions, chunk_shape=20, bin_shape=10, vertex_attributes=attributes)
    change(path)


def owned(path, rows=80):
    attributes, change = values(rows)
    positions = np.random.default_rng(1).uniform(0, 40, (rows, 3))
    zvl.write_points(path, positions, chunk_shape=20, vertex_attributes=attributes, object_ids=np.arange(rows) // 7)
    change(path)


def lines(path, rows=80):
    attributes, change = values(rows)
    parts = np.split(np.random.default_rng(1).uniform(0, 40, (rows, 3)), 8)
    split = {name: list(np.ma.reshape(of, (8, 10, *of.shape[1:]))) for name, of in attributes.items()}
    zvl.write_polylines(path, parts, chunk_shape=20, vertex_attributes=split)
    change(path)


def graph(path, rows=80):
    attributes, change = values(rows)
    positions = np.random.default_rng(1).uniform(0, 40, (rows, 3))
    edges = np.stack([np.arange(rows - 1), np.arange(1, rows)], axis=1)
    zvl.write_graph(path, positions, edges, chunk_shape=20, vertex_attributes=attributes)
    change(path)


def tree(path, rows=80):
    attributes, change = values(rows)
    positions = np.random.default_rng(1).uniform(0, 40, (rows, 3))
    edges = np.stack([np.arange(1, rows), np.arange(rows - 1) // 2], axis=1)
    zvl.write_graph(path, positions, edges, chunk_shape=20, vertex_attributes=attributes, kind="skeleton")
    change(path)


def rows_of(path, **selection):
    """Values of all rows, those missing as None, by position."""
    level = zvl.open_zv(path)[0]
    part = level.sel(**selection) if selection else level
    frame = part.to_dask_dataframe().compute()
    found = {}
    for name in ("text", "size", "ids", "seen", "big", "small", "flag", "pairs_0", "pairs_1", "when"):
        column = frame[name]
        found[name] = [None if gone else value for gone, value in zip(column.isna(), column.tolist(), strict=True)]
    found["seen"] = [value or None for value in found["seen"]]  # chunks without codes, which have no code for missing
    keys = map(tuple, part.vertices.compute().tolist())
    return {key: {name: found[name][row] for name in found} for row, key in enumerate(keys)}


@pytest.fixture(params=[points, owned, lines, graph, tree], ids=lambda make: make.__name__)
def source(request, tmp_path):
    request.param(tmp_path / "source.zv")
    return tmp_path / "source.zv"


def test_values_are_those_of_the_source(source, tmp_path):
    known = rows_of(source)
    missing = {name for row in known.values() for name, value in row.items() if value is None}
    assert missing == {"text", "ids", "seen", "big", "small", "flag", "pairs_0", "pairs_1"}
    assert {row["text"] for row in known.values()} == {"a", "b", "", None}
    old = zvl.open_zv(source)[0]
    zvl.rechunk(source, tmp_path / "a", chunk_shape=15)
    old.save(tmp_path / "b", shard_shape=2)
    zvl.rechunk(tmp_path / "a", tmp_path / "c", chunk_shape=40)
    for name in "abc":
        assert rows_of(tmp_path / name) == known, name
        new = zvl.open_zv(tmp_path / name)[0]
        assert new.categories["size"].tolist() == SIZES.tolist()
        assert new.categories["ids"].tolist() == [A, A + 1, A + 2]
        for attribute in ("text", "size", "ids", "big", "small", "pairs"):
            assert new.codes[attribute].dtype == old.codes[attribute].dtype
        doc = json.loads((tmp_path / name / "0/vertex_attributes/size/zarr.json").read_text())
        assert doc["attributes"]["ordered"] is True
        assert zvl.validate(tmp_path / name).ok


def test_values_of_a_selection(source, tmp_path):
    selection = {"x": (5, 30), "where": {"size": ["low", "mid"]}}
    known = rows_of(source, **selection)
    assert 0 < len(known) < 80
    zvl.open_zv(source)[0].sel(**selection).save(tmp_path / "part", chunk_shape=15)
    assert rows_of(tmp_path / "part") == known
    found = zvl.open_zv(tmp_path / "part")[0].sel(where={"ids": A + 1})
    assert len(found.vertices.compute()) == sum(row["ids"] == A + 1 for row in known.values())


def test_values_travel_to_other_processes(tmp_path):
    points(tmp_path / "source.zv")
    job = zvl.rechunk(tmp_path / "source.zv", tmp_path / "new", chunk_shape=15, compute=False)
    pickle.loads(cloudpickle.dumps(job)).compute(scheduler="sync")
    assert rows_of(tmp_path / "new") == rows_of(tmp_path / "source.zv")


def test_a_code_without_a_category_is_no_value(tmp_path):
    points(tmp_path / "source.zv")
    edit(tmp_path / "source.zv", "vertex_attributes/size", lambda said: said.update(categories=["low", "mid"]))
    with pytest.raises(FormatError, match="code 2 has no category, there are only 2"):
        zvl.rechunk(tmp_path / "source.zv", tmp_path / "new", chunk_shape=15)


def test_codes_of_objects_and_groups_keep_their_categories(tmp_path):
    codes = np.array([1, 0, -1, 1], "i1")
    tables = {"groups": {"one": [2, 5], "none": [], "two": [9]}, "group_attributes": {"kind": codes[:3]}}
    zvl.write_points(
        tmp_path / "source.zv",
        np.arange(24.0).reshape(8, 3),
        chunk_shape=50,
        object_ids=np.repeat([2, 5, 9, 11], 2),
        object_attributes={"kind": codes},
        **tables,
    )
    coding = {"encoding": "dictionary", "categories": ["b", "a"], "ordered": True, "_FillValue": -1, "unit": "1"}
    for family in ("object_attributes", "group_attributes"):
        edit(tmp_path / "source.zv", f"{family}/kind", lambda said: said.update(coding))
    zvl.open_zv(tmp_path / "source.zv")[0].sel(objects=[9, 2]).save(tmp_path / "new")
    for family in ("object_attributes", "group_attributes"):
        doc = json.loads((tmp_path / "new" / "0" / family / "kind" / "zarr.json").read_text())
        assert {name: doc["attributes"][name] for name in coding} == coding
    level = zvl.open_zv(tmp_path / "new")[0]
    assert level.objects.attributes["kind"].values.tolist() == [1, -1]
    assert level.objects.groups.attributes["kind"].values.tolist() == [1, 0, -1]
    assert list(level.objects.groups.names) == ["one", "none", "two"]
    assert level.objects.groups["one"].tolist() == [2]


def test_groups_of_one_name_stay_apart(tmp_path):
    zvl.write_points(
        tmp_path / "source.zv",
        np.arange(6.0).reshape(2, 3),
        chunk_shape=50,
        object_ids=[0, 1],
        groups={"a": [0], "b": [1]},
    )
    edit(tmp_path / "source.zv", "groups", lambda said: said.update(group_names=["a", "a"]))
    zvl.rechunk(tmp_path / "source.zv", tmp_path / "new", chunk_shape=20)
    groups = zvl.open_zv(tmp_path / "new")[0].objects.groups
    assert [groups[number].tolist() for number in (0, 1)] == [[0], [1]]
    assert list(groups.names) == ["a", "a"]
