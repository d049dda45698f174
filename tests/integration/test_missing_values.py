"""Missing values and 64-bit integers, written and read back."""

import importlib
import json
from functools import partial

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import zarr_vectors_lazy as zvl
from tests.integration.generations import Copy
from zarr_vectors_lazy.errors import FormatError, NotFoundError, SelectionError

ID = 720575940631797753
X = np.arange(4.0)
TIMES = np.array(["2026-01-01", "NaT", "2026-03-01T12:00:00.000000001", "1960-01-01"], "M8[ns]")
FRAME = pd.DataFrame(
    {
        "x": X,
        "y": X,
        "root": pd.array([ID, None, ID + 1, 3], dtype="Int64"),
        "large": pd.array([2**64 - 2, None, 1, 2], dtype="UInt64"),
        "small": pd.array([1, 2, None, 4], dtype="Int8"),
        "arrow": pd.array([ID, None, ID + 1, 3], dtype="int64[pyarrow]"),
        "full": pd.array([ID, ID + 1, 3, 4], dtype="Int64"),
        "flag": pd.array([True, None, False, True], dtype="boolean"),
        "time": TIMES,
        "text": ["a", None, "", "b"],
    }
)
INTEGERS = ["root", "large", "small", "arrow", "full"]


def frame_of(path):
    return zvl.open_zv(path)[0].to_dask_dataframe().compute().sort_values("x").reset_index(drop=True)


@pytest.fixture(params=["pandas", "dask"])
def written(request, tmp_path):
    table = dd.from_pandas(FRAME, npartitions=2) if request.param == "dask" else FRAME
    zvl.write_points(tmp_path / "x", table, chunk_shape=2)
    return tmp_path / "x"


def test_a_frame_has_what_a_frame_gave(written):
    found = frame_of(written)
    for name in INTEGERS:
        assert found[name].tolist() == FRAME[name].tolist(), name
    assert found["root"].dtype == found["arrow"].dtype == pd.Int64Dtype()
    assert [str(found[name].dtype) for name in ("large", "small", "full", "flag")] == [
        "UInt64",
        "Int8",
        "int64",
        "boolean",
    ]
    assert found["flag"].tolist() == FRAME["flag"].tolist()
    assert found["time"].dtype == TIMES.dtype
    assert found["time"].equals(FRAME["time"])
    assert found["text"].isna().tolist() == [False, True, False, False]
    assert found["text"].astype(object)[2] == ""


def test_frames_go_through_parquet(written, tmp_path):
    zvl.open_zv(written)[0].to_dask_dataframe().compute().to_parquet(tmp_path / "p")
    found = pd.read_parquet(tmp_path / "p").sort_values("x")
    for name in [*INTEGERS, "flag"]:
        assert found[name].tolist() == FRAME[name].tolist(), name
    assert found["time"].equals(FRAME["time"])


def test_plain_arrays_are_exact_or_refused(written):
    level = zvl.open_zv(written)[0]
    x = level.vertices.compute()[:, 0]
    small, flag, full, time = (
        level.attributes[name].compute()[np.argsort(x)] for name in ("small", "flag", "full", "time")
    )
    np.testing.assert_array_equal(small, [1, 2, np.nan, 4])
    np.testing.assert_array_equal(flag, [1, np.nan, 0, 1])
    np.testing.assert_array_equal(full, [ID, ID + 1, 3, 4])
    np.testing.assert_array_equal(time, TIMES)
    for name in ("root", "large", "arrow"):
        assert level.attributes[name].dtype == np.float64
        with pytest.raises(FormatError, match=r"float64 .* level\.codes\['" + name + r"'\].* level\.categories"):
            level.attributes[name].compute()
        codes = level.codes[name].compute()[np.argsort(x)]
        least = np.iinfo(codes.dtype).min if codes.dtype.kind == "i" else np.iinfo(codes.dtype).max
        np.testing.assert_array_equal(codes, FRAME[name].to_numpy(codes.dtype, na_value=least))
    assert set(level.codes) == {"root", "large", "small", "arrow", "flag", "text"}
    assert set(level.categories) == {"flag", "text"}
    with pytest.raises(NotFoundError, match="attribute 'root' has no categories: its codes are the values"):
        level.categories["root"]
    with pytest.raises(NotFoundError, match="'full'"):
        level.codes["full"]


def test_filters_find_what_is_missing_and_what_is_not(written):
    level = zvl.open_zv(written)[0]
    for where, rows in (
        ({"root": ID}, [0]),
        ({"root": (ID, None)}, [0, 2]),
        ({"root": [None, 3]}, [1, 3]),
        ({"large": 2**64 - 2}, [0]),
        ({"large": (2, None)}, [0, 3]),
        ({"small": None}, [2]),
        ({"flag": None}, [1]),
        ({"flag": True}, [0, 3]),
        ({"flag": False}, [2]),
        ({"time": None}, [1]),
        ({"time": ("2026-01-01", None)}, [0, 2]),
        ({"text": None}, [1]),
        ({"text": ""}, [2]),
    ):
        assert sorted(level.sel(where=where).vertices.compute()[:, 0].tolist()) == rows, where


def test_dask_writes_what_memory_writes(tmp_path):
    zvl.write_points(tmp_path / "a", FRAME, chunk_shape=2)
    zvl.write_points(tmp_path / "b", dd.from_pandas(FRAME, npartitions=3), chunk_shape=2)
    cells = [
        {
            file.relative_to(tmp_path / name): file.read_bytes()
            for file in (tmp_path / name).rglob("c/**/*")
            if file.is_file()
        }
        for name in "ab"
    ]
    assert cells[0] == cells[1]
    assert cells[0]


GIVEN = {
    "arrow": pa.array([ID, None, ID + 1, 2]),
    "chunked": pa.chunked_array([[ID, None], [ID + 1, 2]]),
    "masked": np.ma.masked_equal([ID, 7, ID + 1, 2], 7),
    "objects": [ID, None, ID + 1, 2],
    "categories": pd.Categorical.from_codes([0, -1, 1, 2], [ID, ID + 1, 2]),
    "nullable categories": pd.Categorical.from_codes([0, -1, 1, 2], pd.array([ID, ID + 1, 2], dtype="UInt64")),
    "index": pd.Index([ID, None, ID + 1, 2], dtype="Int64"),
}


@pytest.mark.parametrize("kind", GIVEN)
def test_columns_of_every_kind(tmp_path, kind):
    zvl.write_points(tmp_path / "x", np.stack([X, X], axis=1), chunk_shape=2, vertex_attributes={"a": GIVEN[kind]})
    assert frame_of(tmp_path / "x")["a"].tolist() == [ID, pd.NA, ID + 1, 2]
    level = zvl.open_zv(tmp_path / "x")[0]
    assert level.write_attribute("b", GIVEN[kind]) == 2
    assert frame_of(tmp_path / "x")["b"].tolist() == [ID, pd.NA, ID + 1, 2]


def test_columns_that_pandas_keeps_as_arrow(tmp_path):
    frame = pd.DataFrame({"x": X, "y": X, "text": ["a", None, "", "b"], "root": pd.array([ID, None, 1, 2], "Int64")})
    frame["on"] = pd.array([True, None, False, True], "boolean")
    frame["at"] = pd.to_datetime(["2020-01-01", None, "2021-01-01", None])
    zvl.write_points(tmp_path / "x", frame.convert_dtypes(dtype_backend="pyarrow"), chunk_shape=2)
    found = zvl.open_zv(tmp_path / "x")[0].to_dask_dataframe().compute().sort_values("x")
    for name in ("text", "root", "on", "at"):
        wanted = [None if pd.isna(value) else value for value in frame[name]]
        assert [None if pd.isna(value) else value for value in found[name]] == wanted, name


def test_columns_of_polars(tmp_path):
    pl = importlib.import_module("polars")
    given = {
        "n": pl.Series([ID, None, ID + 1, 2]),
        "flag": pl.Series([True, None, False, True]),
        "text": pl.Series(["a", None, "", "b"]),
        "real": pl.Series([1.5, None, 2.5, 3.5]),
        "time": pl.Series([None, "2026-01-01", None, "2026-01-03"]).str.to_datetime(),
        "kind": pl.Series(["a", None, "a", "b"], dtype=pl.Categorical),
        "pair": pl.Series([[1, 2], [3, 4], [5, 6], [7, 8]], dtype=pl.Array(pl.Int16, 2)),
    }
    zvl.write_points(tmp_path / "x", np.stack([X, X], axis=1), chunk_shape=2, vertex_attributes=given)
    found = frame_of(tmp_path / "x")
    assert found["n"].tolist() == [ID, pd.NA, ID + 1, 2]
    assert found["flag"].tolist() == [True, pd.NA, False, True]
    assert found["text"].astype(object).fillna("-").tolist() == ["a", "-", "", "b"]
    assert found["real"].isna().tolist() == [False, True, False, False]
    assert found["time"].isna().tolist() == [True, False, True, False]
    assert found["kind"].astype(object).fillna("-").tolist() == ["a", "-", "a", "b"]
    assert found["pair_1"].tolist() == [2, 4, 6, 8]


def test_vectors_and_paths(tmp_path):
    vector = np.ma.masked_equal([[1, 2], [3, 4], [7, 6], [7, 8]], 7)
    zvl.write_points(tmp_path / "x", np.stack([X, X], axis=1), chunk_shape=2, vertex_attributes={"v": vector})
    assert frame_of(tmp_path / "x")["v_0"].tolist() == [1, 3, pd.NA, pd.NA]
    paths = [np.zeros((2, 2)), np.ones((2, 2))]
    values = {"a": [pd.array([ID, None], dtype="Int64"), np.array([1, 2])]}
    zvl.write_polylines(tmp_path / "y", paths, chunk_shape=2, vertex_attributes=values)
    assert zvl.open_zv(tmp_path / "y")[0].to_dask_dataframe().compute()["a"].tolist() == [ID, pd.NA, 1, 2]


def test_attributes_of_dask_are_written_beside_the_data(tmp_path):
    zvl.write_points(tmp_path / "x", np.stack([X, X], axis=1), chunk_shape=2)
    level = zvl.open_zv(tmp_path / "x")[0]
    masked = da.ma.masked_equal(da.from_array(np.array([ID, ID + 1, 5, ID + 2]), chunks=1), 5)
    level.write_attribute("a", masked)
    level.write_attribute("none_missing", da.ma.masked_equal(da.arange(4, chunks=2), 9))
    level.write_attribute("flag", [True, None, False, True])
    level.write_attribute("time", pd.Series(TIMES))
    level.write_attribute("real", np.ma.masked_equal([1.0, 2.0, 3.0, 4.0], 2.0))
    found = frame_of(tmp_path / "x")
    assert found["a"].tolist() == [ID, ID + 1, pd.NA, ID + 2]
    assert found["none_missing"].dtype == np.int64
    assert found["flag"].tolist() == [True, pd.NA, False, True]
    assert found["time"].tolist()[0] == pd.Timestamp("2026-01-01")
    assert found["real"].isna().tolist() == [False, True, False, False]
    with pytest.raises(SelectionError, match=r"int64 stores as -9223372036854775808, .* wider dtype"):
        level.write_attribute("taken", np.ma.masked_equal([-(2**63), 2, 3, 4], 3))
    with pytest.raises(SelectionError, match="int8 stores as -128"), dask.config.set(scheduler="sync"):
        level.write_attribute("split", da.ma.masked_equal(da.from_array(np.array([-128, 2, 3, 4], "i1"), chunks=2), 3))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (pd.array([-128, None, 1, 2], dtype="Int8"), "int8 stores as -128.*wider dtype"),
        (pd.array([255, None, 1, 2], dtype="UInt8"), "uint8 stores as 255"),
        (np.ma.masked_equal([[True, False]] * 4, False), "one value per row"),
        (pd.Series(pd.to_datetime(["2026-01-01"] * 4)).dt.tz_localize("UTC"), "zone UTC"),
        (pa.array([1, 2, 3, 4], pa.timestamp("s", tz="UTC")), "zone UTC"),
        (pa.array([[1], [1, 2], [], [3]]), "Arrow type list"),
        (pa.array([[1, 2], None, [3, 4], [5, 6]], pa.list_(pa.int8(), 2)), "lists, and some are missing"),
        ([1, None, "a", 2], "found 1 of type int"),
        (np.zeros(4, "M8"), "dtype datetime64; only"),
    ],
)
def test_what_cannot_be_told_apart_is_refused(tmp_path, values, words):
    with pytest.raises(SelectionError, match=words):
        zvl.write_points(tmp_path / "x", np.stack([X, X], axis=1), chunk_shape=2, vertex_attributes={"a": values})


def test_dask_refuses_a_number_that_means_missing_elsewhere(tmp_path):
    table = pd.DataFrame({"x": X, "y": X, "a": pd.array([-128, 1, None, 2], dtype="Int8")})
    with pytest.raises(SelectionError, match="int8 stores as -128"):
        zvl.write_points(tmp_path / "x", dd.from_pandas(table, npartitions=2), chunk_shape=2)


def test_objects_have_no_text_that_is_missing(tmp_path):
    points = {"positions": np.stack([X, X], axis=1), "chunk_shape": 2, "object_ids": [0, 1, 2, 3]}
    with pytest.raises(SelectionError, match="cannot distinguish from empty text"):
        zvl.write_points(tmp_path / "x", **points, object_attributes={"name": ["a", None, "", "b"]})
    with pytest.raises(SelectionError, match="some of its booleans are missing"):
        zvl.write_points(tmp_path / "x", **points, object_attributes={"name": [True, None, True, True]})
    zvl.write_points(tmp_path / "x", **points, object_attributes={"root": pd.array([ID, None, 1, 2], dtype="Int64")})
    found = zvl.open_zv(tmp_path / "x")[0].objects.attributes["root"].compute()
    assert found.values.tolist() == [ID, np.iinfo("i8").min, 1, 2]  # as of absent rows


def test_positions_that_float64_does_not_hold_are_refused(tmp_path):
    with pytest.raises(SelectionError, match=r"beyond 2\*\*53"):
        zvl.write_points(tmp_path / "x", np.array([[2**53 + 1, 0], [0, 0]]), chunk_shape=2**52)
    with pytest.raises(SelectionError, match=r"column 'x' .* beyond 2\*\*53"):  # beside floats, too
        zvl.write_points(tmp_path / "x", pd.DataFrame({"x": [2**60, 0], "y": [0.5, 0]}), chunk_shape=2**52)
    zvl.write_points(tmp_path / "x", np.array([[2**53, 0], [0, 0]]), chunk_shape=2**52)
    with pytest.raises(SelectionError, match=r"beyond 2\*\*53"):
        zvl.write_points(tmp_path / "y", da.from_array(np.array([[2**53 + 1, 0]]), chunks=-1), chunk_shape=2**52)


def test_a_chunk_without_values_makes_no_float_of_ids(tmp_path):
    zvl.write_points(tmp_path / "x", np.stack([X, X], axis=1), chunk_shape=2, vertex_attributes={"a": [ID, 1, 2, 3]})
    copy = Copy(tmp_path / "x")
    cells = copy.read("0/vertex_attributes/a")["attributes"]["nonempty_chunks"]
    copy.edit(lambda doc: doc["attributes"].update(nonempty_chunks=cells[:1]), "0/vertex_attributes/a")
    level = zvl.open_zv(tmp_path / "x")[0]
    with pytest.raises(FormatError, match="float64"):
        level.attributes["a"].compute()
    assert level.codes["a"].compute().tolist() == [ID, 1, np.iinfo("i8").min, np.iinfo("i8").min]
    assert frame_of(tmp_path / "x")["a"].tolist() == [ID, 1, pd.NA, pd.NA]
    assert level.sel(where={"a": ID}).vertices.compute().tolist() == [[0, 0]]
    assert len(level.sel(where={"a": None}).vertices.compute()) == 2


def test_categories_of_64_bits_are_refused_only_where_some_are_missing(tmp_path):
    table = pd.DataFrame({"x": X, "y": X, "a": ["u", "v", None, "u"]})
    zvl.write_points(tmp_path / "x", table, chunk_shape=2)
    Copy(tmp_path / "x").edit(lambda doc: doc["attributes"].update(categories=[ID, ID + 1]), "0/vertex_attributes/a")
    level = zvl.open_zv(tmp_path / "x")[0]
    assert level.sel(x=slice(0, 1)).attributes["a"].compute().tolist() == [ID, ID + 1]
    with pytest.raises(FormatError, match=r"level\.categories\['a'\]"):
        level.attributes["a"].compute()
    assert [len(level.sel(where={"a": where}).vertices.compute()) for where in (ID + 1, (ID, None), None)] == [1, 3, 1]


def test_the_reference_reads_the_integers(written):
    reference = importlib.import_module("zarr_vectors.types.points")
    found = reference.read_points(str(written), attribute_names=["root", "time", "small"])["vertex_attributes"]
    assert sorted(np.asarray(found["root"]).tolist()) == [-(2**63), 3, ID, ID + 1]
    assert np.asarray(found["time"]).dtype == np.int64


@pytest.mark.parametrize("kind", ["graph", "skeleton"])
def test_links_whose_values_were_never_stored_are_masked_if_no_float_holds_them(tmp_path, kind):
    points = np.stack([np.arange(6.0) * 2, np.zeros(6)], axis=1)
    edges = [[1, 0], [2, 1], [3, 2], [4, 3], [5, 4]]
    values = {"wide": ID + np.arange(5), "narrow": np.arange(5, dtype="i4")}
    zvl.write_graph(tmp_path / "x", points, edges=edges, kind=kind, chunk_shape=4, link_attributes=values)
    whole = zvl.open_zv(tmp_path / "x")[0].link_attributes["wide"].compute()
    copy = Copy(tmp_path / "x")
    for name in values:
        for document in (tmp_path / "x/0/link_attributes" / name).rglob("zarr.json"):
            node = document.parent.relative_to(tmp_path / "x").as_posix()
            if copy.read(node)["node_type"] == "array" and len(copy.read(node)["attributes"]["nonempty_chunks"]) > 1:
                copy.edit(lambda doc: doc["attributes"]["nonempty_chunks"].pop(), node)
    level = zvl.open_zv(tmp_path / "x")[0]
    wide, narrow = (level.link_attributes[name].compute() for name in ("wide", "narrow"))
    assert np.ma.is_masked(wide)
    assert np.ma.getmaskarray(wide).tolist() == np.isnan(narrow).tolist()
    assert wide.compressed().tolist() == whole[~np.ma.getmaskarray(wide)].tolist()
    of_edges = level.edge_attributes["wide"].compute()
    assert set(of_edges.compressed().tolist()) <= set((ID + np.arange(5)).tolist())
    level.save(tmp_path / "y")
    found = zvl.open_zv(tmp_path / "y")[0]
    copied = found.edge_attributes["wide"].compute()
    assert sorted(copied.compressed().tolist()) == sorted(of_edges.compressed().tolist())
    assert [str(found.edge_attributes[name].dtype) for name in values] == ["int64", "float64"]


LINKED = {
    "wide": np.ma.masked_equal([ID, 7, ID + 1, 2], 7),
    "large": np.ma.masked_equal(np.array([2**64 - 2, 7, 2**63, 2], "u8"), 7),
    "short": np.ma.masked_equal(np.array([1, 7, 3, 4], "i2"), 7),
    "pair": np.ma.array([[ID, 1], [2, 3], [4, ID + 1], [5, 6]], mask=[[0, 1], [0, 0], [0, 0], [1, 1]]),
}


def write_linked(path, kind, as_given, values):
    points = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [9, 9, 9], [9, 9, 8]])
    given = {"chunk_shape": 4, "link_attributes": {name: as_given(value) for name, value in values.items()}}
    if kind == "mesh":
        zvl.write_mesh(
            path, as_given(points), as_given(np.array([[0, 1, 2], [1, 2, 3], [2, 3, 4], [0, 3, 4]])), **given
        )
    else:
        zvl.write_graph(
            path, as_given(points), as_given(np.array([[1, 0], [2, 1], [3, 2], [4, 3]])), kind=kind, **given
        )


def linked_values(path, box=None):
    """Values of each attribute by the places of the ends of its link, None where one is missing."""
    level = zvl.open_zv(path)[0] if box is None else zvl.open_zv(path)[0].sel(box)
    links = level.faces if level.store.geometry_types[0] == "mesh" else level.edges
    of = level.edge_attributes if level.store.geometry_types[0] == "skeleton" else level.link_attributes
    at = [frozenset(map(tuple, corners)) for corners in level.vertices.compute()[links.compute()].tolist()]
    found = {name: np.ma.masked_invalid(of[name].compute()).tolist() for name in of}
    return {name: dict(zip(at, values, strict=True)) for name, values in found.items()}


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("kind", ["graph", "skeleton", "mesh"])
def test_missing_values_of_links(tmp_path, kind, lazy):
    write_linked(tmp_path / "x", kind, partial(da.from_array, chunks=2) if lazy else np.ma.asarray, LINKED)
    found = linked_values(tmp_path / "x")
    assert {name: len(values) for name, values in found.items()} == dict.fromkeys(LINKED, 4)
    for name, given in LINKED.items():
        assert sorted(found[name].values(), key=str) == sorted(given.tolist(), key=str)
    dtypes = {name: zvl.open_zv(tmp_path / "x")[0].link_attributes[name].dtype for name in LINKED}
    assert dtypes == {"wide": "i8", "large": "u8", "short": "f8", "pair": "i8"}
    assert zvl.validate(tmp_path / "x").ok
    level = zvl.open_zv(tmp_path / "x")[0]
    level.save(tmp_path / "saved")
    zvl.rechunk(tmp_path / "x", tmp_path / "cut", chunk_shape=3)
    level.to_file(tmp_path / "x.npz")
    zvl.ingest(tmp_path / "x.npz", tmp_path / "npz", chunk_shape=4)
    for copy in ("saved", "cut", "npz"):
        assert linked_values(tmp_path / copy) == found, copy
    nodes = map(json.loads, (f.read_text() for f in (tmp_path / "saved/0/link_attributes/short/0").rglob("zarr.json")))
    stored = [node["attributes"] for node in nodes if node["node_type"] == "array"]
    assert {(of["dtype"], of["_FillValue"]) for of in stored} == {("int16", -32768)}
    box = ((0, 0, 0), (1, 9, 9))
    level.sel(box).save(tmp_path / "part")
    assert linked_values(tmp_path / "part") == linked_values(tmp_path / "x", box)


@pytest.mark.parametrize("as_given", [np.ma.asarray, partial(da.from_array, chunks=2)])
def test_links_whose_missing_values_nothing_can_stand_for_are_refused(tmp_path, as_given):
    least = np.ma.array([-(2**63), 0, 1, 2], mask=[0, 1, 0, 0])
    with pytest.raises(SelectionError, match=r"link_attributes\['a'\]: .*choose a wider dtype"):
        write_linked(tmp_path / "x", "graph", as_given, {"a": least})
    with pytest.raises(SelectionError, match="booleans, some of which are missing"):
        write_linked(tmp_path / "x", "graph", as_given, {"a": least.astype(bool)})


def test_dask_arrays_that_do_not_say_that_values_are_missing(tmp_path):
    def masked(block):
        return np.ma.masked_equal(block, 2)

    def given(values):
        array = da.from_array(values, chunks=2)
        return array if values.ndim > 1 else array.map_blocks(masked, dtype=values.dtype, meta=np.empty(0, "i8"))

    with pytest.raises(SelectionError, match="build it from masked arrays"):
        write_linked(tmp_path / "x", "graph", given, {"a": np.arange(4)})


@pytest.mark.parametrize(
    ("suffix", "left"),
    [(".vtp", True), (".ply", True), (".graphml", False), (".edgelist", False)],
)
def test_missing_values_of_links_in_files(tmp_path, suffix, left):
    write_linked(tmp_path / "x", "graph", np.ma.asarray, {"wide": LINKED["wide"], "short": LINKED["short"]})
    level = zvl.open_zv(tmp_path / "x")[0]
    done = level.to_file(tmp_path / f"x{suffix}")
    level.to_file(tmp_path / "x.nodes.csv")
    lost = "link attribute wide (some values are missing, and floats cannot hold the others)"
    assert (lost in done["left_out"]) == left
    zvl.ingest(tmp_path / f"x{suffix}", tmp_path / "y", chunk_shape=4)
    found, wanted = linked_values(tmp_path / "y"), linked_values(tmp_path / "x")
    assert found == {name: wanted[name] for name in (["short"] if left else ["wide", "short"])}


def test_truth_values_of_which_blocks_lack_some(tmp_path):
    flags = np.ma.MaskedArray([True, True, False, True, False, True], [0, 0, 0, 1, 0, 0])
    at = da.from_array(np.arange(12.0).reshape(6, 2), chunks=(2, 2))
    zvl.write_points(tmp_path / "x", at, chunk_shape=5, vertex_attributes={"a": da.from_array(flags, chunks=2)})
    found = zvl.open_zv(tmp_path / "x")[0].to_dask_dataframe().compute().sort_values("x")["a"]
    assert found.isna().tolist() == [False] * 3 + [True, False, False]
    assert found.dropna().tolist() == [True, True, False, False, True]
