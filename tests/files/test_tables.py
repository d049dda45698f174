"""CSV, Parquet, GeoParquet and NumPy archives, read and written back, value by value."""

import gzip
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

import zarr_vectors_lazy as zvl
from zarr_vectors_lazy.errors import FileError, NotFoundError, SelectionError
from zarr_vectors_lazy.files import loaded

TABLES = [".csv", ".csv.gz", ".tsv", ".parquet", ".geoparquet", ".CSV"]
BIG = 720575940631797753


@pytest.fixture
def level(tmp_path):
    """Points with objects and attributes of several dtypes."""
    zvl.write_points(
        tmp_path / "a.zv",
        np.array([[0.1, 0, 0], [1, 2.5, 3], [7, 8, 9], [7.25, 1e-7, 3]]),
        chunk_shape=5,
        object_ids=[7, 7, 40, BIG],
        object_attributes={"volume": np.array([1.5, 2, 3])},
        vertex_attributes={
            "segment": np.array([BIG, 2, 3, 4]),
            "weight": np.array([0.1, 0.2, np.nan, 1], np.float32),
            "whole": np.array([1.0, 2, 3, 4]),
            "kind": np.array(['a,"b"', "", " c", "NA"]),
            "flag": np.array([True, False, True, True]),
        },
        units="um",
    )
    return zvl.open_zv(tmp_path / "a.zv")[0]


def rows(level):
    """Values of the rows of a level by column, ordered by position."""
    order = np.lexsort(level.vertices.compute().T)
    values = {"vertices": level.vertices} | dict(level.attributes)
    return {name: array.compute()[order] for name, array in values.items()}


@pytest.mark.parametrize("suffix", TABLES)
def test_tables_come_back(level, tmp_path, suffix):
    done = level.to_file(tmp_path / f"b{suffix}")
    assert "object attribute volume" in done["left_out"]
    zvl.ingest(tmp_path / f"b{suffix}", tmp_path / "b.zv", chunk_shape=5)
    found = zvl.open_zv(tmp_path / "b.zv")[0]
    assert found.objects.ids.tolist() == [7, 40, BIG]
    expected, again = rows(level), rows(found)
    assert expected.keys() == again.keys()
    for name, values in expected.items():
        assert values.dtype.kind == again[name].dtype.kind, name
        np.testing.assert_array_equal(again[name].astype(values.dtype), values, err_msg=name)


def test_a_plane_and_axes_in_another_order(tmp_path):
    (tmp_path / "a.csv").write_text("Y,X,v\n1,2,0\n3,4,5\n")
    zvl.ingest(tmp_path / "a.csv", tmp_path / "a.zv", chunk_shape=5)
    found = zvl.open_zv(tmp_path / "a.zv")[0]
    assert (found.store.axes, rows(found)["vertices"].tolist()) == (("x", "y"), [[2, 1], [4, 3]])
    zvl.ingest(tmp_path / "a.csv", tmp_path / "b.zv", chunk_shape=5, axes=["Y", "v"], columns=[], unit="m")
    other = zvl.open_zv(tmp_path / "b.zv")
    assert (other.axes, other.units, other[0].attribute_names) == (("Y", "v"), ("m", "m"), ())
    zvl.write_points(tmp_path / "c.zv", [[3.0, 2, 1, 9]], chunk_shape=5, axes=("t", "z", "y", "x"))
    zvl.open_zv(tmp_path / "c.zv")[0].to_file(tmp_path / "c.csv")
    assert (tmp_path / "c.csv").read_text() == "x,y,z,t\n9.0,1.0,2.0,3.0\n"
    zvl.open_zv(tmp_path / "c.zv")[0].to_file(tmp_path / "c.csv", world=False, overwrite=True)
    assert (tmp_path / "c.csv").read_text() == "t,z,y,x\n3.0,2.0,1.0,9.0\n"


def test_whole_numbers_of_64_bits_are_exact_or_refused(tmp_path):
    (tmp_path / "a.csv").write_text(f"x,y,id,u\n0,0,{BIG},{2**64 - 2}\n1,1,-5,1\n")
    zvl.ingest(tmp_path / "a.csv", tmp_path / "a.zv", chunk_shape=5)
    found = rows(zvl.open_zv(tmp_path / "a.zv")[0])
    assert (found["id"].tolist(), found["u"].tolist()) == ([BIG, -5], [2**64 - 2, 1])
    for values in (f"{BIG}\n1,1,0.5", f"{2**64 - 2}\n1,1,-1", f"{2**64}\n1,1,1"):
        (tmp_path / "b.csv").write_text(f"x,y,id\n0,0,{values}\n")
        with pytest.raises(FileError, match=r"b\.csv: a column holds \d+ and"):
            zvl.ingest(tmp_path / "b.csv", tmp_path / "b.zv", chunk_shape=5)
    (tmp_path / "c.csv").write_text(f"x,y\n{2**53 + 1},0\n")
    with pytest.raises(FileError, match=r"beyond 2\*\*53"):
        zvl.ingest(tmp_path / "c.csv", tmp_path / "c.zv", chunk_shape=5)


def test_text_of_hexadecimal_digits_stays_text(tmp_path):
    (tmp_path / "a.csv").write_text("x,y,at\n0,0,0x10\n1,1,0XfF\n")
    zvl.ingest(tmp_path / "a.csv", tmp_path / "a.zv", chunk_shape=5)
    assert rows(zvl.open_zv(tmp_path / "a.zv")[0])["at"].tolist() == ["0x10", "0XfF"]


@pytest.mark.parametrize("limit", [0, loaded.MEMORY_NBYTES])
def test_types_do_not_follow_the_rows_that_are_read_first(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(loaded, "MEMORY_NBYTES", limit)
    monkeypatch.setattr(loaded, "BLOCK_NBYTES", 1)
    monkeypatch.setattr("zarr_vectors_lazy.files.tables.BLOCK_NBYTES", 4000)
    values = [*map(str, range(500)), "0.5", "", "NaN"]
    lines = [f"{at},{at % 7},{value},t{at % 3}" for at, value in enumerate(values)]
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress("\n".join(["x,y,v,t", *lines]).encode()))
    zvl.ingest(tmp_path / "a.csv.gz", tmp_path / "a.zv", chunk_shape=100)
    level = zvl.open_zv(tmp_path / "a.zv")[0]
    order = np.argsort(level.vertices.compute()[:, 0])
    found = level.attributes["v"].compute()[order]
    assert found[:501].tolist() == [*range(500), 0.5]
    assert np.isnan(found[501:]).all()
    assert level.attributes["t"].compute()[order].tolist() == [f"t{at % 3}" for at in range(503)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("x,y,z\n", "no vertices"),
        ("x,y,z\n1,2,three\n", "column 'z' is of string, expected numbers: 'three'"),
        ("x,y,z\n1,2\n", "Expected 3 columns"),
        ("x,y,x\n1,2,3\n", "more than once"),
        ("x,y\n1,\n", "'y' has no value in some rows"),
        ("x,y\n1,inf\n", "not finite"),
        ("x,y,object_id\n1,1,\n", "'object_id' gives the object of each row"),
        ("x,y,object_id\n1,1,0.5\n", "'object_id' gives the object of each row"),
        ("y,z\n1,2\n", "expected columns x, y, ..."),
    ],
)
def test_what_is_no_table_of_points_is_named(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(FileError, match=message) as found:
        zvl.ingest(tmp_path / "a.csv", tmp_path / "a.zv", chunk_shape=5)
    assert "a.csv" in str(found.value)
    assert not (tmp_path / "a.zv").exists()


@pytest.mark.parametrize("separator", ["\t", ";"])
def test_a_line_of_names_without_commas_tells_what_separates(tmp_path, separator):
    lines = ["X,Y,name", '1,2,"a b"', "", "4,5,c"]
    (tmp_path / "a.csv").write_text("\n".join(lines).replace(",", separator))
    zvl.ingest(tmp_path / "a.csv", tmp_path / "a.zv", chunk_shape=50)
    found = rows(zvl.open_zv(tmp_path / "a.zv")[0])
    assert (found["vertices"].tolist(), found["name"].tolist()) == ([[1, 2], [4, 5]], ["a b", "c"])


def test_columns_asked_for_that_are_more_than_attributes(tmp_path):
    pd.DataFrame({"x": [1.0, 2], "y": 0.0, "cell": [7, 9], "v": 1}).to_csv(tmp_path / "a.csv", index=False)
    asked = {"chunk_shape": 5, "object_ids": "cell", "columns": ["x", "cell", "v"]}
    zvl.ingest(tmp_path / "a.csv", tmp_path / "a.zv", **asked)
    level = zvl.open_zv(tmp_path / "a.zv")[0]
    assert level.attribute_names == ("v",)
    assert level.objects.ids.tolist() == [7, 9]


def test_a_column_that_is_not_there(tmp_path):
    (tmp_path / "a.csv").write_text("x,y,v\n1,2,3\n")
    for options in ({"columns": ["w"]}, {"object_ids": "w"}):
        with pytest.raises(NotFoundError, match="no column 'w'; there is"):
            zvl.ingest(tmp_path / "a.csv", tmp_path / "a.zv", chunk_shape=5, **options)
    with pytest.raises(SelectionError, match="expected columns 'a', 'b'"):
        zvl.ingest(tmp_path / "a.csv", tmp_path / "a.zv", chunk_shape=5, axes=["a", "b"])


@pytest.mark.parametrize("suffix", [*TABLES, ".npz"])
def test_what_is_missing_stays_missing(tmp_path, suffix):
    frame = pd.DataFrame(
        {
            "x": np.arange(4.0),
            "y": np.arange(4.0),
            "root": pd.array([BIG, None, 5, BIG + 1], dtype="Int64"),
            "flag": pd.array([True, None, False, True], dtype="boolean"),
            "gene": ["a", None, "", "NA"],
            "when": np.array(["2020-01-01", "NaT", "2021-05-06T07:08:09.123456789", "2022-01-01"], "M8[ns]"),
        }
    )
    zvl.write_points(tmp_path / "a.zv", frame, chunk_shape=2)
    level = zvl.open_zv(tmp_path / "a.zv")[0]
    assert level.to_file(tmp_path / f"a{suffix}")["left_out"] == []
    zvl.ingest(tmp_path / f"a{suffix}", tmp_path / "b.zv", chunk_shape=5)
    found = zvl.open_zv(tmp_path / "b.zv")[0].to_dask_dataframe().compute().sort_values("x", ignore_index=True)
    for name, values in frame.items():
        again = found[name]
        assert again.isna().tolist() == values.isna().tolist(), name
        assert again.dropna().tolist() == values.dropna().tolist(), name


def test_times_of_parquet(tmp_path):
    times = pd.to_datetime(["2020-01-01T00:00", None, "2021-07-01T12:00"])
    lengths = pd.to_timedelta([1, None, 3], unit="s")
    frame = pd.DataFrame({"x": np.arange(3.0), "y": 0.0, "length": lengths, "utc": times.tz_localize("UTC")})
    frame["berlin"] = frame["utc"].dt.tz_convert("Europe/Berlin")
    frame.to_parquet(tmp_path / "a.parquet")
    done = zvl.ingest(tmp_path / "a.parquet", tmp_path / "a.zv", chunk_shape=5)
    assert done["left_out"] == ["zone Europe/Berlin of column berlin (times are in UTC)"]
    found = zvl.open_zv(tmp_path / "a.zv")[0].to_dask_dataframe().compute()
    assert found["length"].tolist() == lengths.tolist()
    assert found["utc"].tolist() == found["berlin"].tolist() == times.tolist()
    done = zvl.open_zv(tmp_path / "a.zv")[0].to_file(tmp_path / "a.csv")
    assert done["left_out"] == ["unit of times length (us)"]


def test_missing_values_in_formats_without(tmp_path):
    ids = pd.array([BIG, None], dtype="Int64")
    small = pd.array([7, None], dtype="Int64")
    zvl.write_points(tmp_path / "a.zv", np.eye(3)[:2], chunk_shape=5, vertex_attributes={"id": ids, "n": small})
    done = zvl.open_zv(tmp_path / "a.zv")[0].to_file(tmp_path / "a.las")
    assert done["left_out"] == ["attribute id (some values are missing, and floats cannot hold the others)"]


def test_names_that_a_store_cannot_have(tmp_path):
    (tmp_path / "a.csv").write_text("x,y,a/b,a_b,.x,__z\n1,2,3,4,5,6\n")
    done = zvl.ingest(tmp_path / "a.csv", tmp_path / "a.zv", chunk_shape=5)
    assert done["renamed"] == {"a/b": "a_b_", ".x": "_x", "__z": "_z"}
    found = zvl.open_zv(tmp_path / "a.zv")[0].attributes
    assert {name: values.compute().item() for name, values in found.items()} == {"_x": 5, "_z": 6, "a_b": 4, "a_b_": 3}


def test_parquet_types(tmp_path):
    table = pa.table(
        {
            "x": pa.array([0, 1], pa.float32()),
            "y": pa.array([0, 1], pa.float32()),
            "rgb": pa.array([[1, 2, 3], [4, 5, 6]], pa.list_(pa.uint8(), 3)),
            "name": pa.array(["a", None]).dictionary_encode(),
            "view": pa.array(["", None], pa.string_view()),
            "deep": pa.array([{"a": 1}, {"a": 2}]),
            "list": pa.array([[0.5, 1], [2, 3]]),  # as pandas writes them
            "ragged": pa.array([[1], [2, 3]]),
            "few": pa.array([[1, 2], None]),
        }
    )
    pa.parquet.write_table(table, tmp_path / "a.parquet")
    done = zvl.ingest(tmp_path / "a.parquet", tmp_path / "a.zv", chunk_shape=5)
    found = rows(zvl.open_zv(tmp_path / "a.zv")[0])
    assert [text.partition(" of ")[0] for text in done["left_out"]] == ["column deep", "column ragged", "column few"]
    assert found["list"].tolist() == [[0.5, 1], [2, 3]]
    assert (found["vertices"].dtype, found["rgb"].tolist()) == (np.float32, [[1, 2, 3], [4, 5, 6]])
    assert (found["name"].tolist(), found["view"].tolist()) == (["a", ""], ["", ""])


def test_geoparquet_of_points_and_lines(tmp_path):
    crs = {"name": "WGS 84 / UTM zone 18N", "epsg": 32618, "wkt": None}
    lines = [np.array([[0, 0, 0], [1, 1, 1.0], [2, 0, 0]]), np.array([[5, 5, 5.0], [6, 6, 6]])]
    zvl.write_polylines(
        tmp_path / "a.zv", lines, chunk_shape=3, geometry_type="polyline", crs=crs, units="metre", object_ids=[4, 9],
        object_attributes={"name": np.array(["main", "side"]), "lanes": np.array([2, 1])},
    )  # fmt: skip
    zvl.open_zv(tmp_path / "a.zv")[0].to_file(tmp_path / "a.geoparquet")
    about = json.loads(pa.parquet.read_schema(tmp_path / "a.geoparquet").metadata[b"geo"])
    assert about["columns"]["geometry"]["geometry_types"] == ["LineString Z"]
    assert about["columns"]["geometry"]["crs"]["id"]["code"] == 32618
    zvl.ingest(tmp_path / "a.geoparquet", tmp_path / "b.zv", chunk_shape=3)
    found = zvl.open_zv(tmp_path / "b.zv")
    assert (found.crs["epsg"], found.units) == (32618, ("metre",) * 3)
    assert found[0].objects.ids.tolist() == [4, 9]
    assert found[0].objects.attributes["name"].values.tolist() == ["main", "side"]
    assert found[0].objects[9].compute().tolist() == lines[1].tolist()
    table = pa.table({"geometry": pa.array([b"\x01\x03\0\0\0" + bytes(4)] * 2)})
    schema = pa.parquet.read_schema(tmp_path / "a.geoparquet")
    pa.parquet.write_table(table.replace_schema_metadata(schema.metadata), tmp_path / "c.parquet")
    with pytest.raises(FileError, match=r"c\.parquet: points or lines of two or three axes are read"):
        zvl.ingest(tmp_path / "c.parquet", tmp_path / "c.zv", chunk_shape=3)


def test_npz_has_all_that_a_level_has(tmp_path):
    zvl.write_graph(
        tmp_path / "a.zv",
        np.array([[0, 0, 0], [1, 1, 1], [7, 7, 7], [8, 8, 8.0]]),
        [[1, 0], [3, 2]],
        kind="skeleton",
        chunk_shape=5,
        object_ids=[3, 3, BIG, BIG],
        object_attributes={"name": np.array(["a", "b"])},
        groups={"g": [BIG]},
        group_attributes={"n": np.array([5])},
        vertex_attributes={"rgb": np.arange(12).reshape(4, 3).astype(np.uint8), "text": np.array(["a", "b", "", "c"])},
        units="nm",
        crs={"space": "atlas"},
    )
    done = zvl.open_zv(tmp_path / "a.zv")[0].to_file(tmp_path / "a.npz")
    assert done["left_out"] == []
    zvl.ingest(tmp_path / "a.npz", tmp_path / "b.zv", chunk_shape=5)
    found = zvl.open_zv(tmp_path / "b.zv")
    assert (found.geometry_types, found.units, found.crs) == (("skeleton",), ("nm",) * 3, {"space": "atlas"})
    for name, values in rows(zvl.open_zv(tmp_path / "a.zv")[0]).items():
        np.testing.assert_array_equal(rows(found[0])[name], values)
    assert found[0].objects.attributes["name"].values.tolist() == ["a", "b"]
    assert found[0].objects.groups["g"].tolist() == [BIG]
    assert found[0].objects.groups.attributes["n"].values.tolist() == [5]
    assert len(found[0].edges.compute()) == 2


def test_arrays_of_a_row_for_each_vertex_are_attributes(tmp_path):
    np.savez(
        tmp_path / "a.npz", vertices=np.eye(3), fa=np.arange(3.0), kind_of=np.array(list("abc")), other=np.arange(5)
    )
    done = zvl.ingest(tmp_path / "a.npz", tmp_path / "a.zv", chunk_shape=50)
    assert done["left_out"] == ["array other"]
    found = rows(zvl.open_zv(tmp_path / "a.zv")[0])
    assert (found["fa"].tolist(), found["kind_of"].tolist()) == ([0, 1, 2], ["a", "b", "c"])


@pytest.mark.parametrize(
    "arrays",
    [
        {"points": np.eye(3)},
        {"vertices": np.arange(3)},
        {"vertices": np.array([["a", "b"]])},
        {"vertices": np.array([[0.0, np.nan]])},
        {"vertices": np.eye(3), "edges": np.array([[0, 9]])},
        {"vertices": np.eye(3), "attribute:a": np.arange(5)},
        {"vertices": np.eye(3), "attribute:a": np.array([{}, {}, {}], object)},
        {"vertices": np.eye(3), "offsets": np.array([0, 9])},
        {"vertices": np.eye(3), "missing:attribute:a": np.zeros(3, bool)},
    ],
)
def test_archives_of_other_things_are_named(tmp_path, arrays):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(SelectionError, match=r"a\.npz"):
        zvl.ingest(tmp_path / "a.npz", tmp_path / "a.zv", chunk_shape=5)
    assert not (tmp_path / "a.zv").exists()


def test_pandas_reads_what_is_written(level, tmp_path):
    level.to_file(tmp_path / "a.csv")
    frame = pd.read_csv(tmp_path / "a.csv", keep_default_na=False)
    assert sorted(frame["kind"]) == ["", " c", "NA", 'a,"b"']
    assert sorted(frame["object_id"]) == [7, 7, 40, BIG]


@pytest.mark.parametrize(
    "text",
    [
        "x;y;size;note\n1,5;2,0;1,25e3;3,4\n-4,0;,5;;a",
        '# made by a, b\n# 2026\nx,y,size,note\n1.5,2,1250,"3,4"\n-4,.5,,a\n',
        '# x,y,size,note\n1.5,2,1250,"3,4"\n-4,.5,,a\n',
        "x|y|size|note\n1.5|2|1250|3,4\n-4|.5||a\n",
        "x;y;size;note\n1.5;2;1250;3,4\n-4;.5;;a\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_flavours_of_csv(tmp_path, text, encoding):
    """Decimal commas between semicolons, comments, bars, names after #, and what spreadsheets save as Unicode."""
    (tmp_path / "a.csv").write_bytes(text.encode(encoding))
    zvl.ingest(tmp_path / "a.csv", tmp_path / "a.zv", chunk_shape=50)
    frame = zvl.open_zv(tmp_path / "a.zv")[0].to_dask_dataframe().compute().sort_values("x", ascending=False)
    assert frame[["x", "y"]].to_numpy().tolist() == [[1.5, 2], [-4, 0.5]]
    assert frame["size"].fillna(-1).tolist() == [1250, -1]
    assert frame["note"].tolist() == ["3,4", "a"]


def test_a_point_among_decimal_commas_is_no_number(tmp_path):
    (tmp_path / "a.csv").write_text("x;y;v\n1,5;2,5;3\n4,5;5,5;1.234,5\n")
    zvl.ingest(tmp_path / "a.csv", tmp_path / "a.zv", chunk_shape=50)
    assert sorted(zvl.open_zv(tmp_path / "a.zv")[0].attributes["v"].compute()) == ["1.234,5", "3"]
