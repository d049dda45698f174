"""Levels as common files, read back with the libraries that people use for them."""

import errno
import gzip
import zipfile
from pathlib import Path

import dask
import nibabel.streamlines
import numpy as np
import pandas as pd
import pytest
import trx.trx_file_memmap
from pyarrow import parquet

import zarr_vectors_lazy as zvl
from zarr_vectors_lazy.errors import FileError, SelectionError
from zarr_vectors_lazy.files import formats
from zarr_vectors_lazy.files.outgoing import Outgoing

BOX = ([84, 100, 78], [92, 112, 88])


@pytest.fixture
def tracts_level(tracts):
    return zvl.open_zv(tracts)[0]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_tables_have_the_rows(tracts_level, tmp_path, suffix):
    box, path = tracts_level.sel(bbox=BOX), tmp_path / f"rows{suffix}"
    assert box.to_file(path, overwrite=True)["vertices"] == 244
    frame = pd.read_csv(path) if suffix == ".csv" else pd.read_parquet(path)
    assert np.array_equal(frame[["x", "y", "z"]].to_numpy(np.float32), box.vertices.compute())
    assert np.array_equal(frame["tangent_2"].to_numpy(np.float32), box.attributes["tangent"][:, 2].compute())
    nothing = tracts_level.sel(x=slice(0, 1))
    assert nothing.to_file(path, overwrite=True)["vertices"] == 0
    again = pd.read_csv(path) if suffix == ".csv" else pd.read_parquet(path)
    assert list(again) == list(frame)


def test_npz_has_all_arrays(tracts_level, tmp_path):
    tracts_level.to_file(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as arrays:
        names = {"attribute:arc_length", "attribute:index", "attribute:tangent", "offsets", "object_ids", "vertices"}
        assert names <= set(arrays)
        vertices, offsets = dask.compute(*tracts_level.objects.ragged())
        assert np.array_equal(arrays["vertices"], vertices)
        assert np.array_equal(arrays["offsets"], offsets)
    box = tracts_level.sel(bbox=BOX)
    box.to_file(tmp_path / "b.npz")
    with np.load(tmp_path / "b.npz") as arrays:
        assert np.array_equal(arrays["edges"], box.edges.compute())
        assert np.array_equal(arrays["vertices"], box.vertices.compute())


def test_swc_puts_parents_first(neuron, tmp_path):
    level = zvl.open_zv(neuron)[0]
    level.to_file(tmp_path / "a.swc")
    table = np.loadtxt(tmp_path / "a.swc")
    assert np.array_equal(table[:, 0], np.arange(1, len(table) + 1))
    assert (table[:, 6] < table[:, 0]).all()
    vertices, edges = level.vertices.compute(), level.edges.compute()
    children = table[table[:, 6] > 0]
    found = np.hstack([children[:, 2:5], table[children[:, 6].astype(int) - 1, 2:5]]).astype(np.float32)
    expected = np.hstack([vertices[edges[:, 0]], vertices[edges[:, 1]]])
    assert np.array_equal(found[np.lexsort(found.T)], expected[np.lexsort(expected.T)])
    assert np.array_equal(np.sort(table[:, 5].astype(np.float32)), np.sort(level.attributes["radius"].compute()))


@pytest.mark.filterwarnings("ignore:unit of the store. none")
@pytest.mark.parametrize("suffix", [".trk", ".tck", ".trx"])
def test_streamlines_are_the_objects(tracts_level, tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    whole = tracts_level.sel(bbox=BOX, whole_objects=True).sel(objects=None)
    ids = whole.objects.ids
    some = tracts_level.sel(objects=ids.tolist())
    some.to_file(path)
    if suffix == ".trx":
        loaded = trx.trx_file_memmap.load(str(path))
        lines = [np.array(line) for line in loaded.streamlines]
        loaded.close()
    else:
        lines = list(nibabel.streamlines.load(path).streamlines)
    assert len(lines) == len(ids)
    for line, object_id in zip(lines, ids.tolist(), strict=True):
        np.testing.assert_allclose(line, tracts_level.objects[object_id].compute(), rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore:unit of the store. none")
def test_what_does_not_fit_is_refused_and_leaves_nothing(tracts_level, cloud, tmp_path):
    for level, name, message in [
        (tracts_level.sel(bbox=BOX), "a.trk", "whole"),
        (zvl.open_zv(cloud)[0], "a.trk", "the store is of point_cloud"),
        (zvl.open_zv(cloud)[0], "a.swc", r"SWC holds .*, but the store is of point_cloud"),
        (tracts_level, "a.las", "LAS holds point_cloud"),
        (tracts_level, "a.xyz", r"no format '\.xyz'"),
    ]:
        with pytest.raises(SelectionError, match=message):
            level.to_file(tmp_path / name)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(FileError, match=r"folder\.csv cannot be written as CSV"):
        tracts_level.to_file(tmp_path / "folder.csv", overwrite=True)


def test_row_groups_have_many_chunks(tmp_path):
    positions = np.random.default_rng(0).random((2000, 3)).astype("f4") * 8
    zvl.write_points(tmp_path / "x", positions, chunk_shape=(1.0, 1.0, 1.0))
    level = zvl.open_zv(tmp_path / "x")[0]
    level.to_file(tmp_path / "x.parquet")
    found = parquet.ParquetFile(tmp_path / "x.parquet")
    assert level.chunk_count > 400
    assert found.num_row_groups == -(-level.chunk_count // 256)
    columns = found.read().to_pandas()[["x", "y", "z"]].to_numpy()
    assert np.array_equal(columns, level.vertices.compute())


def test_a_suffix_as_the_format_says_tabs_and_gzip(tracts_level, tmp_path):
    level = tracts_level.sel(objects=[0, 1])
    for name, expected in ("tsv", b"x\ty\tz"), ("csv", b"x,y,z"), (".CSV.GZ", b"x,y,z"):
        level.to_file(tmp_path / name, format=name, attributes=[])
        found = (tmp_path / name).read_bytes()
        assert (gzip.decompress(found) if name == ".CSV.GZ" else found).startswith(expected)
    for name in ("csv", "CSV"):
        level.to_file(tmp_path / "b.csv.gz", format=name, attributes=[], overwrite=True)
        assert gzip.decompress((tmp_path / "b.csv.gz").read_bytes()).startswith(b"x,y,z")
    level.to_file(tmp_path / "a.gz", format="csv", attributes=[])
    assert (tmp_path / "a.gz").read_bytes().startswith(b"x,y,z")


def test_objects_that_own_no_vertex_are_left_out(cloud, tmp_path):
    level = zvl.open_zv(cloud)[1]
    owners = level.to_dask_dataframe().compute()["object_id"].unique()
    done = level.to_file(tmp_path / "a.npz")
    zvl.ingest(tmp_path / "a.npz", tmp_path / "a.zv")
    found = zvl.open_zv(tmp_path / "a.zv")[0].objects
    assert found.ids.tolist() == sorted(owners)
    assert ("objects that share all their vertices" in done["left_out"]) == (len(owners) < len(level.objects.ids))


@pytest.mark.parametrize("suffix", ["csv", "parquet", "npz", "h5ad", "las", "ply", "vtk", "vtp", "glb", "graphml"])
def test_attributes_take_no_other_place_whatever_they_are_called(tmp_path, suffix):
    names = ["x", "X", "Y", "z", "object_id", "id", "name", "spatial", "scales", "vertex", "position", "a b"]
    values = {name: np.arange(6) + number * 10 for number, name in enumerate(names)}
    positions, owners = np.arange(18.0).reshape(6, 3), [3, 3, 3, 8, 8, 8]
    zvl.write_points(tmp_path / "a.zv", positions, chunk_shape=100, vertex_attributes=values, object_ids=owners)
    left = zvl.open_zv(tmp_path / "a.zv")[0].to_file(tmp_path / f"a.{suffix}")["left_out"]
    assert left == (["object ids"] if suffix == "las" else [])
    zvl.ingest(tmp_path / f"a.{suffix}", tmp_path / "b.zv", chunk_shape=100)
    level = zvl.open_zv(tmp_path / "b.zv")[0]
    order = np.argsort(level.vertices.compute()[:, 0])
    np.testing.assert_array_equal(level.vertices.compute()[order], positions)
    found = [level.attributes[name].compute()[order].tolist() for name in level.attribute_names]
    assert [name for name, array in values.items() if array.tolist() not in found] == []
    if suffix not in ("las", "glb"):
        assert level.to_dask_dataframe().compute().sort_values(level.store.axes[0])["object_id"].tolist() == owners


ID = 720575940631797753


@pytest.fixture
def lacking(tmp_path):
    """Streamlines of which an object and a group lack a whole number; others have the number that stands for it."""
    zvl.write_polylines(
        tmp_path / "whole.zv",
        [np.eye(3), np.eye(3) + 1, np.eye(3) + 2],
        chunk_shape=3,
        geometry_type="streamline",
        units="mm",
        object_attributes={"id": pd.array([ID, None, 3], dtype="Int64"), "n": pd.array([1, None, 3], dtype="Int8")}
        | {"full": np.array([255, 0, 1], "u1")},
        groups={"a": [0], "b": [1, 2]},
        group_attributes={"root": pd.array([None, ID], dtype="Int64"), "red": np.array([255, 0], "u1")},
    )
    return zvl.open_zv(tmp_path / "whole.zv")[0]


def missing_of(level):
    """Values of objects and groups as a file's writer is told them, None where one is missing."""
    out = Outgoing(level=level)
    return {name: np.ma.asarray(values).tolist() for name, values in (out.exact_objects | out.exact_groups).items()}


def test_what_objects_and_groups_lack_is_no_number(lacking, tmp_path):
    expected = {"full": [255, 0, 1], "id": [ID, None, 3], "n": [1, None, 3], "red": [255, 0], "root": [None, ID]}
    assert missing_of(lacking) == expected
    zvl.rechunk(tmp_path / "whole.zv", tmp_path / "copy.zv", chunk_shape=5)
    lacking.save(tmp_path / "saved.zv")
    assert lacking.to_file(tmp_path / "a.npz")["left_out"] == []
    zvl.ingest(tmp_path / "a.npz", tmp_path / "npz.zv")
    for name in ("copy", "saved", "npz"):
        assert missing_of(zvl.open_zv(tmp_path / f"{name}.zv")[0]) == expected, name
    lacking.to_file(tmp_path / "a.geoparquet")
    assert parquet.read_table(tmp_path / "a.geoparquet")["id"].to_pylist() == [ID, None, 3]
    too_large = "(some values are missing, and floats cannot hold the others)"
    assert lacking.to_file(tmp_path / "a.trx")["left_out"] == [
        f"object attribute id {too_large}",
        f"group attribute root {too_large}",
    ]
    zvl.ingest(tmp_path / "a.trx", tmp_path / "trx.zv")
    found = zvl.open_zv(tmp_path / "trx.zv")[0].objects
    np.testing.assert_array_equal(found.attributes["n"], [1, np.nan, 3])
    assert found.groups.attributes["red"].values.tolist() == [255, 0]


def test_groups_of_trx_that_lack_a_whole_number(lacking, tmp_path):
    lacking.to_file(tmp_path / "a.trx")
    with zipfile.ZipFile(tmp_path / "a.trx", "a") as file:
        file.writestr("dpg/b/cell.int64", np.array([ID]).tobytes())
        file.writestr("dpg/b/mean.float32", np.array([0.5], np.float32).tobytes())
    zvl.ingest(tmp_path / "a.trx", tmp_path / "trx.zv")
    assert missing_of(zvl.open_zv(tmp_path / "trx.zv")[0])["cell"] == [None, ID]
    assert zvl.open_zv(tmp_path / "trx.zv")[0].objects.groups.attributes["mean"].dtype == np.float32


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".geoparquet", ".vtk", ".graphml", ".ply", ".las"])
def test_complex_numbers_are_said_to_be_left_out(tmp_path, suffix):
    values = {"c": [1 + 2j, 3, 4], "n": [1, 2, 3]}
    zvl.write_points(tmp_path / "a.zv", np.eye(3), chunk_shape=3, vertex_attributes=values)
    done = zvl.open_zv(tmp_path / "a.zv")[0].to_file(tmp_path / f"a{suffix}")
    assert [text.split()[1] for text in done["left_out"]] == ["c"]
    zvl.ingest(tmp_path / f"a{suffix}", tmp_path / "b.zv")
    assert "n" in zvl.open_zv(tmp_path / "b.zv")[0].attribute_names


def test_a_folder_that_is_read_only_is_named(tracts, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system", str(tmp_path / "out.csv"))

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    monkeypatch.setattr(formats, "_function", lambda *_: refuse)
    with pytest.raises(FileError, match=r"out.csv cannot be written as CSV: .*Read-only file system"):
        zvl.open_zv(tracts)[2].to_file(tmp_path / "out.csv")
