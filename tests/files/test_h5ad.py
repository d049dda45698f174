"""Cells of AnnData files, read and written back."""

import importlib

import h5py
import numpy as np
import pandas as pd
import pytest

import zarr_vectors_lazy as zvl
from zarr_vectors_lazy.errors import FileError, NotFoundError

BIG = 720575940631797753


@pytest.fixture
def cells(tmp_path):
    """A file as AnnData writes it, of a store with values of many kinds, and genes put beside."""
    frame = pd.DataFrame(
        {
            "x": np.arange(4.0),
            "y": np.arange(4.0),
            "root": pd.array([BIG, None, 5, BIG + 1], dtype="Int64"),
            "kind": ["a", None, "", "a"],
            "depth": np.array([0.5, np.nan, 2, 3], np.float32),
            "good": [True, False, True, True],
        }
    )
    zvl.write_points(tmp_path / "a.zv", frame, chunk_shape=2)
    done = zvl.open_zv(tmp_path / "a.zv")[0].to_file(tmp_path / "a.h5ad")
    assert (done["left_out"], done["format"]) == ([], "h5ad")
    with h5py.File(tmp_path / "a.h5ad", "r+") as file:
        del file["var"]["_index"]
        file["var"].create_dataset("_index", data=np.array(["Sst", "Pvalb"], object), dtype=h5py.string_dtype())
        sparse = file.create_group("X")
        sparse.attrs["encoding-type"] = "csr_matrix"
        for name, values in (("data", [1.5, 2, 3]), ("indices", [1, 0, 1]), ("indptr", [0, 1, 1, 3, 3])):
            sparse.create_dataset(name, data=values)
        file["obsm"].create_dataset("X_pca", data=np.zeros((4, 50)))
    return tmp_path / "a.h5ad", frame


def test_cells_come_back(cells, tmp_path):
    path, frame = cells
    done = zvl.ingest(path, tmp_path / "b.zv", chunk_shape=5)
    assert done["left_out"] == ["obsm X_pca", "obs_names", "X"]
    found = zvl.open_zv(tmp_path / "b.zv")[0].to_dask_dataframe().compute().sort_values("x", ignore_index=True)
    for name, values in frame.items():
        assert found[name].isna().tolist() == values.isna().tolist(), name
        assert found[name].dropna().tolist() == values.dropna().tolist(), name


def test_genes_and_names_on_request(cells, tmp_path):
    path, _ = cells
    zvl.ingest(
        path, tmp_path / "b.zv", chunk_shape=5, columns=["Pvalb", "obs_names", "X_pca"], axes=["depth_", "x"][:0]
    )
    level = zvl.open_zv(tmp_path / "b.zv")[0]
    order = np.argsort(level.vertices.compute()[:, 0])
    assert level.attributes["Pvalb"].compute()[order].tolist() == [1.5, 0, 3, 0]
    assert level.attributes["obs_names"].compute()[order].tolist() == ["0", "1", "2", "3"]
    assert level.attributes["X_pca"].shape == (4, 50)
    with pytest.raises(NotFoundError, match="no column 'Gad1'; there is"):
        zvl.ingest(path, tmp_path / "c.zv", chunk_shape=5, columns=["Gad1"])


def test_files_that_are_none(cells, tmp_path):
    path, _ = cells
    raw = path.read_bytes()
    (tmp_path / "b.h5ad").write_bytes(raw[:1000])
    with h5py.File(tmp_path / "c.h5ad", "w") as file:
        file["a"] = 1
    with h5py.File(path, "r+") as file:
        del file["obsm"]["spatial"]
    for name, message in (("b", "b.h5ad cannot be read"), ("c", "no 'obs'"), ("a", "expected positions in obsm")):
        with pytest.raises(FileError, match=message):
            zvl.ingest(tmp_path / f"{name}.h5ad", tmp_path / "b.zv", chunk_shape=5)


@pytest.mark.filterwarnings("ignore")
def test_anndata_reads_what_is_written(cells):
    path, frame = cells
    with h5py.File(path, "r+") as file:
        del file["X"], file["obsm/X_pca"]
    found = importlib.import_module("anndata").read_h5ad(path)
    assert found.obsm["spatial"].tolist() == frame[["x", "y"]].to_numpy().tolist()
    for name in ("root", "kind", "depth", "good"):
        assert found.obs[name].isna().tolist() == frame[name].isna().tolist(), name
        assert found.obs[name].dropna().tolist() == frame[name].dropna().tolist(), name
    assert found.obs["kind"].cat.categories.tolist() == ["", "a"]


def test_missing_text_is_no_category(tmp_path):
    frame = pd.DataFrame({"x": [0.0, 1, 2], "y": 0.0, "kind": ["b", None, "a"]})
    zvl.write_points(tmp_path / "a.zv", frame, chunk_shape=5)
    zvl.open_zv(tmp_path / "a.zv")[0].to_file(tmp_path / "a.h5ad")
    with h5py.File(tmp_path / "a.h5ad") as file:
        assert [name.decode() for name in file["obs/kind/categories"]] == ["a", "b"]
        assert file["obs/kind/codes"][:].tolist() == [1, -1, 0]
