"""``xr.open_dataset`` and ``xr.open_datatree`` in xarray's own way."""

import importlib.metadata
import pickle
import shutil
import tomllib
import zipfile
from pathlib import Path

import dask
import numpy as np
import pytest
import xarray as xr
import zarr.storage

import zarr_vectors_lazy as zvl
from tests.conftest import DATA
from zarr_vectors_lazy.errors import FormatError, NotFoundError
from zarr_vectors_lazy.storage.requests import counting
from zarr_vectors_lazy.xarray_engine import ZarrVectorsEntrypoint as ENGINE

ROOT = Path(__file__).parents[2]
STORES = ["tracts-0.9", "cloud-0.7", "cloud-0.9", "neuron-0.9", "surface-0.9", "tracts-0.7"]


@pytest.fixture(params=STORES)
def path(request, goldens):
    return goldens[request.param].path


def data_keys(counts):
    return [key for key in counts.keys if "/c/" in key]


def test_opening_reads_no_data(path, tmp_path):
    copy = tmp_path / path.name
    shutil.copytree(path, copy)  # of which nothing is known yet
    with counting() as counts:
        dataset = xr.open_dataset(copy, engine=ENGINE, level=0, chunks=None)
        tree = xr.open_datatree(copy, engine=ENGINE)
        repr(dataset), repr(tree), dataset.nbytes
    attributes = zvl.open_zv(path)[0].attribute_names
    # Two heads tell what a vector that is stamped as a scalar is, where writers do that.
    assert len(data_keys(counts)) <= (0 if "cloud" in path.name else 4 * len(attributes))
    assert all(not variable._in_memory for name, variable in dataset.variables.items() if name != "axis") or (
        "object_id" in dataset.coords
    )


def test_without_dask_it_reads_what_is_indexed(tracts):
    level = zvl.open_zv(tracts)[0]
    vertices = level.vertices.compute()
    dataset = xr.open_dataset(tracts, engine=ENGINE, chunks=None)
    assert dataset["vertices"].chunks is None
    assert len(dataset["vertices"][0].values) == 3  # sizes of chunks, once
    with counting() as counts:
        assert np.array_equal(dataset["vertices"][100:120].values, vertices[100:120])
    assert counts.requests == 1
    own = np.cumsum(level.compute_chunk_sizes().vertices.chunks[0])
    with counting() as counts:
        rows = np.array([own[8] + 1, 3, own[4], 4])
        assert np.array_equal(dataset["vertices"][rows].values, vertices[rows])
    assert counts.requests == 3
    points = {"vertex": xr.DataArray([7, 1, 5000], dims="p"), "axis": xr.DataArray([0, 2, 1], dims="p")}
    assert np.array_equal(dataset["vertices"].isel(points).values, vertices[[7, 1, 5000], [0, 2, 1]])
    assert np.array_equal(dataset["vertices"][::-7, [2, 0]].values, vertices[::-7][:, [2, 0]])
    assert dataset["vertices"][-1, 1].values == vertices[-1, 1]
    assert dataset["vertices"][5:5].shape == (0, 3)
    assert np.array_equal(dataset["length"][::-2].values, level.objects.attributes["length"].values[::-2])
    assert dataset["length"][3].values == level.objects.attributes["length"].values[3]
    assert np.array_equal(pickle.loads(pickle.dumps(dataset))["vertices"].values, vertices)


def test_whole_array_needs_no_sizes(tracts):
    dataset = xr.open_dataset(tracts, engine=ENGINE, chunks=None)
    with counting() as counts:
        assert len(dataset["arc_length"].values) == 5261
    assert counts.requests == zvl.open_zv(tracts)[0].chunk_count


@pytest.mark.parametrize("scheduler", ["threads", "sync"])
@pytest.mark.parametrize("cells", [1, 5, 256])
def test_dask_chunks_are_batches_of_the_stores(path, scheduler, cells):
    level = zvl.open_zv(path)[0].compute_chunk_sizes()
    with dask.config.set({"zarr_vectors_lazy.batch-chunks": cells}):
        dataset = xr.open_dataset(path, engine=ENGINE, chunks={})
    blocks = -(-level.chunk_count // cells)
    chunks, own = np.cumsum(dataset["vertices"].chunks[0]), np.cumsum(level.vertices.chunks[0])
    assert len(chunks) == blocks
    assert np.isin(chunks, own).all()
    with dask.config.set(scheduler=scheduler):
        assert np.array_equal(dataset["vertices"].values, level.vertices.compute())
        for name in level.attribute_names:
            np.testing.assert_array_equal(dataset[name].values, level.attributes[name].compute())


def test_a_dask_chunk_reads_its_own_cells_at_once(tracts):
    with dask.config.set({"zarr_vectors_lazy.batch-chunks": 4}):
        dataset = xr.open_dataset(tracts, engine=ENGINE, chunks={})
        assert dataset["vertices"].data.numblocks[0] == 4
        with counting() as counts:
            dataset["vertices"].data.blocks[2].compute()
    assert len(data_keys(counts)) == 4


def test_a_part_of_a_dask_chunk_reads_its_own_cells(tracts):
    dataset = xr.open_dataset(tracts, engine=ENGINE, chunks={})
    own = np.cumsum(zvl.open_zv(tracts)[0].compute_chunk_sizes().vertices.chunks[0])
    expected = zvl.open_zv(tracts)[0].vertices.compute()
    for wanted, cells in ((slice(own[3] + 1, own[3] + 2), 1), (slice(own[3] - 1, own[5] + 1), 4)):
        with counting() as counts:
            found = dataset["vertices"].isel(vertex=wanted).values
        assert len(data_keys(counts)) == cells
        assert np.array_equal(found, expected[wanted])


@pytest.mark.parametrize(("chunks", "most"), [("auto", 1), ({"vertex": -1}, 1)])
def test_other_chunks_have_xarrays_meaning(tracts, chunks, most):
    dataset = xr.open_dataset(tracts, engine=ENGINE, chunks=chunks)
    assert len(dataset["vertices"].chunks[0]) <= most
    assert np.array_equal(dataset["vertices"].values, zvl.open_zv(tracts)[0].vertices.compute())


def test_box_of_a_lazy_dataset_reads_only_its_chunks(tracts):
    level = zvl.open_zv(tracts)[0]
    box = ([84, 100, 78], [92, 112, 88])
    expected = level.sel(bbox=box).vertices.compute()
    for chunks in (None, {}):
        dataset = xr.open_dataset(tracts, engine=ENGINE, chunks=chunks)
        dataset.zv.sel(bbox=box)  # sizes, once
        with counting() as counts:
            found = dataset.zv.sel(bbox=box)
        assert counts.requests <= 3
        assert np.array_equal(found["vertices"].values, expected)
        assert int(dataset.zv.bin(1.5, bbox=box).sum()) == len(expected)


def test_a_level_becomes_a_classic_netcdf_file(goldens, tmp_path):
    """Its attributes are numbers, texts and arrays."""
    for name, geometry in (("tracts-0.9", "streamline"), ("surface-0.9", "mesh")):
        dataset = xr.open_dataset(goldens[name].path, engine=ENGINE, chunks=None)
        dataset.to_netcdf(tmp_path / f"{name}.nc", engine="scipy")
        with xr.open_dataset(tmp_path / f"{name}.nc", engine="scipy") as again:
            assert again.sizes == dataset.sizes
            assert np.array_equal(again["x"].values, dataset["x"].values)
            assert again.attrs["geometry_types"] == dataset.attrs["geometry_types"] == geometry


def test_options_choose_what_is_opened(tracts):
    dataset = xr.open_dataset(tracts, engine=ENGINE, level=2, drop_variables=["length", "vertices"], objects=True)
    assert dataset.attrs["level"] == 2
    assert {"length", "vertices"}.isdisjoint(dataset.variables)
    assert dataset.sizes["object_vertex"] == int(dataset["row_size"].sum())
    memory = zarr.storage.LocalStore(tracts, read_only=True)
    assert xr.open_dataset(memory, engine=ENGINE, storage_options={}).sizes["vertex"] == 5261
    assert list(xr.open_groups(tracts, engine=ENGINE)) == ["/", "/0", "/1", "/2"]
    tree = xr.open_datatree(tracts, engine=ENGINE, chunks={}, edges=True)
    assert tree["1"]["edges"].dims == ("edge", "end")
    assert xr.open_dataset(tracts, engine=ENGINE, level=-1).attrs["level"] == 2
    for group in ("-1", "x"):
        with pytest.raises(NotFoundError, match=f"no level {group!r}; levels are numbers"):
            xr.open_dataset(tracts, engine=ENGINE, group=group)
    with pytest.raises(NotFoundError, match="no level -4"):
        xr.open_dataset(tracts, engine=ENGINE, level=-4)
    with pytest.raises(NotFoundError, match="no level 7"):
        xr.open_dataset(tracts, engine=ENGINE, level=7)


def test_a_total_that_is_wrong_is_an_error(tracts, tmp_path):
    copy = tmp_path / "wrong.zarrvectors"
    shutil.copytree(tracts, copy)
    node = copy / "0" / "zarr.json"
    node.write_text(node.read_text().replace("5261", "5262"))
    dataset = xr.open_dataset(copy, engine=ENGINE)
    for read in (lambda: dataset["vertices"].values, lambda: dataset["vertices"][:5].values):
        with pytest.raises(FormatError, match="5,261 vertices stored, but the level states 5262"):
            read()


def test_a_level_that_does_not_state_its_vertices_is_counted(tmp_path):
    with zipfile.ZipFile(DATA / "0.9-variety" / "stores" / "skeleton-streaming.zarrvectors.zip") as packed:
        packed.extractall(tmp_path)
    level = zvl.open_zv(tmp_path)[0]
    assert level.vertex_count is None
    vertices = level.vertices.compute()
    assert np.array_equal(xr.open_dataset(tmp_path, engine=ENGINE)["vertices"].values, vertices)


def test_names_that_can_be_opened():
    can = ENGINE().guess_can_open
    assert can("s3://bucket/a.zarrvectors")
    assert can(Path("a.zv"))
    assert can("a.zv/")
    assert not can("a.zarr")
    assert not can(b"a.zv")


def test_entry_point_leads_to_the_engine():
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["xarray.backends"]
    point = importlib.metadata.EntryPoint("zarr_vectors", points["zarr_vectors"], "xarray.backends")
    assert point.load() is ENGINE
