"""Points in data frames of pandas and Dask."""

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest

import zarr_vectors_lazy as zvl
from zarr_vectors_lazy.errors import NotFoundError, SelectionError

N = 12
TABLE = pd.DataFrame(
    {
        "id": np.arange(N) % 3,
        "z": np.linspace(0, 9, N),
        "x": np.linspace(9, 0, N),
        "text": ["a", None] * 6,
        "kind": pd.Categorical(["u", "v", None] * 4),
        "code": pd.Categorical([5, 7] * 6),
        "whole": pd.array(range(N), dtype="Int32"),
        "real": pd.array([1.5, None] * 6, dtype="Float32"),
        "flag": pd.array([True, False] * 6, dtype="boolean"),
    },
    index=np.zeros(N, int),
)
VALUES = {
    "text": np.array(["a", None] * 6, object),
    "kind": np.array(["u", "v", None] * 4, object),
    "code": np.array([5, 7] * 6),
    "whole": np.arange(N, dtype="i4"),
    "real": np.array([1.5, np.nan] * 6, "f4"),
    "flag": np.array([True, False] * 6),
}


def made(path):
    read = zvl.read_points(path, attribute_names="all")
    return {"positions": read["positions"], **read["vertex_attributes"]}, zvl.open_zv(path)


@pytest.mark.parametrize("lazy", [False, True], ids=["pandas", "dask"])
def test_columns_are_axes_objects_and_attributes(tmp_path, lazy):
    table = dd.from_pandas(TABLE, npartitions=1, sort=False) if lazy else TABLE
    options = {"chunk_shape": 4, "groups": {"first": [0]}}
    zvl.write_points(tmp_path / "x", table, object_ids="id", **options)
    zvl.write_points(
        tmp_path / "y",
        TABLE[["x", "z"]].to_numpy(),
        axes=("x", "z"),
        object_ids=TABLE["id"].to_numpy(),
        vertex_attributes=VALUES,
        **options,
    )
    (found, store), (expected, other) = made(tmp_path / "x"), made(tmp_path / "y")
    assert store.axes == other.axes == ("x", "z")
    assert store[0].objects.ids.tolist() == [0, 1, 2]
    assert set(found) == set(expected)
    for name, values in expected.items():
        assert found[name].dtype == values.dtype
        np.testing.assert_array_equal(found[name], values)


def test_attributes_beside_a_pandas_frame(tmp_path):
    frame = TABLE[["x", "z", "whole"]]
    zvl.write_points(
        tmp_path / "x", frame, chunk_shape=4, object_ids=TABLE["id"], vertex_attributes={"more": TABLE["code"]}
    )
    level = zvl.open_zv(tmp_path / "x")[0]
    assert level.attribute_names == ("more", "whole")
    assert level.attributes["more"].dtype == np.int64
    assert len(level.objects) == 3
    with pytest.raises(SelectionError, match="vertex_attributes 'whole' are columns of the data frame too"):
        zvl.write_points(tmp_path / "y", frame, chunk_shape=4, vertex_attributes={"whole": TABLE["code"]})


def test_refused(tmp_path):
    lazy = dd.from_pandas(TABLE.reset_index(drop=True), npartitions=2)
    twice = pd.DataFrame(np.zeros((3, 3)), columns=["x", "y", "y"])
    gaps = TABLE.assign(x=pd.array([1, None] * 6, dtype="Int32"))
    for table, options, error, words in (
        (twice, {}, SelectionError, "columns 'y' occur more than once"),
        (dd.from_pandas(twice, npartitions=1), {}, SelectionError, "more than once"),
        (gaps, {}, SelectionError, "column 'x' has masked values"),
        (TABLE, {"object_ids": "cell"}, NotFoundError, "no column 'cell'"),
        (TABLE, {"axes": ("x", "q")}, NotFoundError, "no column 'q'"),
        (TABLE[["x"]], {}, SelectionError, "no axes among the columns 'x'"),
        (TABLE.rename(columns={"text": "a/b"}), {}, SelectionError, "columns: a name must be"),
        (lazy, {"object_ids": da.arange(N)}, SelectionError, "must name a column of the Dask data frame, found Array"),
        (lazy, {"vertex_attributes": {"a": da.arange(N)}}, SelectionError, "are the other columns"),
    ):
        with pytest.raises(error, match=words):
            zvl.write_points(tmp_path / "x", table, chunk_shape=4, **options)
    assert not (tmp_path / "x").exists()
