"""Labelled input: tables by the names of their columns, columns by their index."""

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import xarray as xr

import zarr_vectors_lazy as zvl
from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.write.arguments import by_labels

IDS = [2, 5, 9]
POINTS = np.arange(9.0).reshape(3, 3)
FRAME = pd.DataFrame({"k": [5, 6], "Z": [3.0, 30], "Y": [2.0, 20], "X": [1.0, 10]}, index=["p", "q"])


class Exchanged:
    """A table that speaks ``__dataframe__`` alone."""

    def __init__(self, table):
        self.table = table

    def __dataframe__(self, **options):
        return self.table.__dataframe__(**options)


class Streamed:
    """A table that speaks Arrow's stream alone."""

    def __init__(self, table):
        self.table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self.table.__arrow_c_stream__(requested_schema)


def polars(table):
    return pytest.importorskip("polars").from_arrow(table)


def polars_lazy(table):
    return polars(table).lazy()


TABLES = {
    "pandas": lambda table: table.to_pandas(),
    "dask": lambda table: dd.from_pandas(table.to_pandas(), npartitions=1),
    "pyarrow": lambda table: table,
    "batch": lambda table: table.to_batches()[0],
    "stream": Streamed,
    "exchange": Exchanged,
    "polars": polars,
    "polars, lazily": polars_lazy,
}


@pytest.mark.parametrize("kind", TABLES)
def test_columns_named_as_axes_are_positions_whatever_their_order(tmp_path, kind):
    table = pa.Table.from_pandas(FRAME, preserve_index=False)
    zvl.write_points(tmp_path / "x", TABLES[kind](table), chunk_shape=50)
    store = zvl.open_zv(tmp_path / "x")
    assert tuple(store.axes) == ("x", "y", "z")
    assert store[0].vertices.compute().tolist() == [[1, 2, 3], [10, 20, 30]]
    assert store[0].attribute_names == ("k",)
    assert store[0].attributes["k"].compute().tolist() == [5, 6]


@pytest.mark.parametrize("kind", ["pandas", "pyarrow", "polars"])
def test_graphs_and_meshes_take_tables_of_positions(tmp_path, kind):
    given = TABLES[kind](pa.Table.from_pandas(FRAME[["Z", "Y", "X"]], preserve_index=False))
    zvl.write_graph(tmp_path / "x", given, edges=[[0, 1]], chunk_shape=50)
    assert zvl.open_zv(tmp_path / "x")[0].vertices.compute().tolist() == [[1, 2, 3], [10, 20, 30]]
    with pytest.raises(SelectionError, match="'k' in addition to 'X', 'Y', 'Z'"):
        zvl.write_graph(tmp_path / "y", FRAME, edges=[[0, 1]], chunk_shape=50)


def test_a_capital_beside_the_axis_is_an_attribute(tmp_path):
    zvl.write_points(tmp_path / "x", pd.DataFrame({"X": [7], "y": [2.0], "x": [1.0]}), chunk_shape=50)
    level = zvl.open_zv(tmp_path / "x")[0]
    assert level.vertices.compute().tolist() == [[1, 2]]
    assert level.attribute_names == ("X",)


def of_objects(tmp_path, values):
    zvl.write_points(tmp_path / "o", POINTS, chunk_shape=50, mode="w", object_ids=IDS, object_attributes=values)
    found = zvl.open_zv(tmp_path / "o")[0].objects.attributes["n"]
    return [int(found.sel(object=i)) for i in IDS]


@pytest.mark.parametrize(
    "values",
    [
        pd.Series({9: 90, 2: 20, 5: 50}),
        pd.Series([20, 50, 90]),
        pd.Series([20, 50, 90], index=[0, 1, 2]),
        pd.Series({9: 90, 2: 20, 5: 50}, dtype="Int64"),
        xr.DataArray([90, 20, 50], dims="object", coords={"object": [9, 2, 5]}),
        xr.DataArray([20, 50, 90], dims="object"),
        pa.array([20, 50, 90]),
        [20, 50, 90],
    ],
)
def test_columns_of_objects_go_by_their_index(tmp_path, values):
    assert of_objects(tmp_path, {"n": values}) == [20, 50, 90]


def test_tables_of_objects_go_by_their_index_or_their_ids(tmp_path):
    by_id = pd.DataFrame({"object_id": [9, 2, 5], "n": [90, 20, 50]})
    for table in (
        by_id.set_index("object_id"),
        by_id,
        pa.Table.from_pandas(by_id),
        polars(pa.Table.from_pandas(by_id)),
        pa.table({"n": [20, 50, 90]}),
        xr.Dataset({"n": ("object", [90, 20, 50])}, coords={"object": [9, 2, 5]}),
    ):
        assert of_objects(tmp_path, table) == [20, 50, 90]
    with pytest.raises(SelectionError, match="lacks the object ids 5"):
        of_objects(tmp_path, by_id.assign(object_id=[9, 2, 7]))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (pd.Series({9: 90, 2: 20}), r"object_attributes\['n'\] is labelled, but lacks the object ids 5"),
        (pd.Series({9: 90, 2: 20, 5: 50, 7: 70}), "labelled with 7, which are not among the object ids"),
        (pd.Series([1, 2, 3], index=[2, 2, 5]), "its index has 2 more than once"),
        (pd.Series({"a": 1, "b": 2, "c": 3}), "labelled by <U1, but object ids are int64"),
    ],
)
def test_labels_that_are_no_ids(tmp_path, values, words):
    with pytest.raises(SelectionError, match=words):
        of_objects(tmp_path, {"n": values})


def test_paths_and_groups_go_by_labels(tmp_path):
    paths = [POINTS[:2], POINTS[1:]]
    options = {
        "object_ids": [8, 3],
        "object_attributes": {"n": pd.Series({3: 30, 8: 80})},
        "groups": {"b": [8], "a": [3]},
        "group_attributes": {"g": pd.Series({"a": 1, "b": 2})},
    }
    zvl.write_polylines(tmp_path / "x", paths, chunk_shape=50, **options)
    objects = zvl.open_zv(tmp_path / "x")[0].objects
    assert [int(objects.attributes["n"].sel(object=i)) for i in (3, 8)] == [30, 80]
    assert objects.groups.attributes["g"].values.tolist() == [2, 1]


def test_columns_of_vertices_go_by_the_index_of_the_frame(tmp_path):
    beside = {"m": pd.Series({"q": 60, "p": 50}), "o": pd.Series([1, 2])}
    owners = pd.Series({"q": 7, "p": 3})
    zvl.write_points(tmp_path / "x", FRAME, chunk_shape=50, vertex_attributes=beside, object_ids=owners)
    level = zvl.open_zv(tmp_path / "x")[0]
    assert level.attributes["m"].compute().tolist() == [50, 60]
    assert level.attributes["o"].compute().tolist() == [1, 2]
    assert level.objects[7].compute().tolist() == [[10, 20, 30]]
    with pytest.raises(SelectionError, match="lacks the frame's index 'q'"):
        zvl.write_points(tmp_path / "y", FRAME, chunk_shape=50, vertex_attributes={"m": pd.Series({"p": 1, "r": 2})})
    with pytest.raises(SelectionError, match="lacks the row labels 0, 1, 2"):
        zvl.write_points(
            tmp_path / "y", POINTS, chunk_shape=50, vertex_attributes={"m": pd.Series([1, 2, 3], index=[5, 6, 7])}
        )
    zvl.write_graph(
        tmp_path / "z", FRAME[["X", "Y"]], edges=[[0, 1]], chunk_shape=50, vertex_attributes=FRAME[["k"]][::-1]
    )
    assert zvl.open_zv(tmp_path / "z")[0].attributes["k"].compute().tolist() == [5, 6]


def test_ids_of_vertices_and_added_attributes_go_by_their_index(tmp_path):
    ids, text = pd.Series([30, 10, 20], index=[2, 0, 1]), pd.Series(["c", "a", "b"], index=[2, 0, 1])
    rows = np.arange(9.0).reshape(3, 3)
    zvl.write_points(tmp_path / "x", rows, chunk_shape=50, object_ids=ids)
    zvl.open_zv(tmp_path / "x")[0].write_attribute("text", text)
    found = zvl.open_zv(tmp_path / "x")[0].to_dask_dataframe().compute()
    assert found["object_id"].tolist() == [10, 20, 30]
    assert found["text"].tolist() == ["a", "b", "c"]
    named = pd.DataFrame(rows, columns=["x", "y", "z"], index=[70, 50, 60])
    zvl.write_graph(
        tmp_path / "g", named, [[0, 1]], chunk_shape=50, object_ids=pd.Series([1, 2, 1], index=[50, 60, 70])
    )
    assert zvl.open_zv(tmp_path / "g")[0].to_dask_dataframe().compute()["object_id"].tolist() == [1, 1, 2]
    zvl.write_polylines(tmp_path / "l", [rows, rows + 9], chunk_shape=50, object_ids=pd.Series([5, 9], index=[1, 0]))
    assert zvl.open_zv(tmp_path / "l")[0].objects[9].compute().tolist() == rows.tolist()
    for given in (ids.set_axis([2, 0, 5]), ids.set_axis([2, 0, 0])):
        with pytest.raises(SelectionError, match=r"row labels 1|0 more than once"):
            zvl.write_points(tmp_path / "y", rows, chunk_shape=50, object_ids=given)


def test_labels_of_many_kinds():
    rng = np.random.default_rng(0)
    for labels in (
        rng.permutation(1000) + 5,
        rng.permutation(1000).astype(str),
        pd.date_range("2026", periods=9)[::-1],
    ):
        values = pd.Series(np.arange(len(labels)), index=labels)
        order = rng.permutation(len(labels))
        assert by_labels(values.iloc[order], labels, "a", "ids").tolist() == list(range(len(labels)))
