"""Levels as Dask data frames."""

import zipfile

import numpy as np
import pandas as pd
import pytest

import zarr_vectors_lazy as zvl
from tests.conftest import DATA
from zarr_vectors_lazy.errors import NotFoundError
from zarr_vectors_lazy.storage.requests import counting


@pytest.fixture
def level(tracts):
    return zvl.open_zv(tracts)[0]


def arrays_read(counts):
    return {key.split("/c/")[0] for key in counts.keys}


def test_columns_are_axes_and_attributes(level):
    frame = level.to_dask_dataframe().compute()
    assert list(frame) == ["x", "y", "z", "arc_length", "index", "tangent_0", "tangent_1", "tangent_2", "object_id"]
    assert np.array_equal(frame[["x", "y", "z"]].to_numpy(), level.vertices.compute())
    assert np.array_equal(frame["tangent_1"].to_numpy(), level.attributes["tangent"][:, 1].compute())
    assert frame["index"].dtype == np.int32


@pytest.mark.parametrize(
    ("use", "expected"),
    [
        (lambda frame: frame["arc_length"].mean(), {"0/vertex_attributes/arc_length"}),
        (lambda frame: frame[["x", "tangent_2"]].max(), {"0/vertices", "0/vertex_attributes/tangent"}),
        (
            lambda frame: frame[frame.arc_length > 5].groupby("index").arc_length.sum(),
            {"0/vertex_attributes/arc_length", "0/vertex_attributes/index"},
        ),
        (lambda frame: frame.y.head(3, compute=False), {"0/vertices"}),
    ],
    ids=["one", "two", "filter", "head"],
)
def test_a_column_that_is_not_used_is_not_fetched(level, use, expected):
    result = use(level.to_dask_dataframe())
    with counting() as counts:
        result.compute()
    assert arrays_read(counts) == expected
    chunks = 1 if "head" in repr(result.expr).lower() else level.chunk_count
    assert counts.requests == chunks * len(expected)


def test_known_sizes_give_divisions_and_lengths_without_reading(level):
    frame = level.compute_chunk_sizes().to_dask_dataframe()
    assert frame.known_divisions
    with counting() as counts:
        assert len(frame) == 5261
    assert not counts.requests
    with counting() as counts:
        part = frame["x"].loc[100:110].compute()
    assert counts.requests == 1
    assert np.array_equal(part.to_numpy(), level.vertices.compute()[100:111, 0])
    assert list(part.index) == list(range(100, 111))


def test_unknown_sizes_are_counted_from_positions_alone(level):
    frame = level.to_dask_dataframe()
    with counting() as counts:
        assert len(frame) == 5261
    assert arrays_read(counts) == {"0/vertices"}


def test_partitions_read_their_own_chunks(level):
    frame = level.to_dask_dataframe(attributes=[])
    with counting() as counts:
        found = frame.partitions[[1, 4]].compute()
    assert counts.requests == 2
    blocks = [level.vertices.blocks[number].compute() for number in (1, 4)]
    assert np.array_equal(found.to_numpy(), np.concatenate(blocks))


def test_frame_of_a_box_has_its_rows(level):
    box = level.sel(bbox=([84, 100, 78], [92, 112, 88]))
    frame = box.to_dask_dataframe(["arc_length"]).compute()
    assert np.array_equal(frame["arc_length"].to_numpy(), box.attributes["arc_length"].compute())
    nothing = level.sel(x=slice(0, 1)).to_dask_dataframe().compute()
    assert (len(nothing), list(nothing)[:3]) == (0, ["x", "y", "z"])


@pytest.mark.parametrize("name", ["0.9-variety/stores/points-attributes", "0.7-variety/stores/points-attributes-0.7"])
def test_dictionaries_are_categoricals(name, tmp_path):
    with zipfile.ZipFile(DATA / f"{name}.zarrvectors.zip") as files:
        files.extractall(tmp_path)
    level = zvl.open_zv(tmp_path)[0]
    frame = level.to_dask_dataframe().compute()
    assert level.categories
    for attribute, categories in level.categories.items():
        column, values = frame[attribute], level.attributes[attribute].compute()
        missing = "" if values.dtype.kind == "U" else np.nan
        assert isinstance(column.dtype, pd.CategoricalDtype)
        assert list(column.cat.categories) == list(categories)
        np.testing.assert_array_equal(column.astype(object).fillna(missing).to_numpy().astype(values.dtype), values)


def test_an_attribute_that_is_not_there_is_named(level):
    with pytest.raises(NotFoundError, match=r"no attribute 'weight'; there is 'arc_length'"):
        level.to_dask_dataframe(["weight"])


def test_object_ids_of_vertices(tmp_path):
    rng = np.random.default_rng(0)
    points, owners = rng.uniform(0, 10, (200, 2)), rng.integers(5, 9, 200)
    zvl.write_points(tmp_path / "x", points, chunk_shape=4, object_ids=owners, vertex_attributes={"own": owners})
    level = zvl.open_zv(tmp_path / "x")[0]
    for part in (level, level.sel(x=slice(2, 7)), level.sel(objects=[6]), level.sel(where={"own": [5, 8]})):
        for sized in (part, part.compute_chunk_sizes()):
            frame = sized.to_dask_dataframe().compute()
            assert frame["object_id"].dtype == np.int64
            assert len(frame)
            assert frame["object_id"].tolist() == frame["own"].tolist()
    frame = level.to_dask_dataframe()
    with counting() as counts:
        frame[["x", "own"]].compute()
    assert arrays_read(counts) == {"0/vertices", "0/vertex_attributes/own"}
    with counting() as counts:
        assert set(frame["object_id"].compute()) == {5, 6, 7, 8}
    assert not any(name.startswith("0/vertices") for name in arrays_read(counts))
    assert list(level.to_dask_dataframe(["object_id"])) == ["x", "y", "object_id"]
    assert list(level.to_dask_dataframe([])) == ["x", "y"]
    assert len(level.sel(x=slice(90, 99)).to_dask_dataframe().compute()["object_id"]) == 0


def test_shared_vertices_have_the_least_id_and_free_ones_none(tmp_path):
    with zipfile.ZipFile(DATA / "0.9-variety/stores/pyramid-paths.zarrvectors.zip") as files:
        files.extractall(tmp_path)
    level = zvl.open_zv(tmp_path)[2]  # objects of coarse levels share vertices
    found = level.to_dask_dataframe().compute()["object_id"].to_numpy()
    expected = np.full(len(found), -1)
    vertices = level.vertices.compute()
    rows = {tuple(row): at for at, row in enumerate(vertices.tolist())}
    for i in reversed(level.objects.ids.tolist()):
        for row in level.objects[i].compute().tolist():
            expected[rows[tuple(row)]] = i
    assert len(rows) == len(vertices)
    assert found.tolist() == expected.tolist()


def test_names_do_not_collide(tmp_path):
    values = {
        "rgb": np.array([[1, 2], [3, 4]]),
        "rgb_0": np.array([90, 91]),
        "x": np.array([190, 191]),
        "object_id": np.array([7, 8]),
    }
    options = {"chunk_shape": 99, "vertex_attributes": values}
    zvl.write_points(tmp_path / "x", np.arange(4.0).reshape(2, 2), **options)
    frame = zvl.open_zv(tmp_path / "x")[0].to_dask_dataframe().compute()
    assert list(frame) == ["x", "y", "object_id", "rgb_0_", "rgb_1", "rgb_0", "x_attribute"]
    assert frame["object_id"].tolist() == [7, 8]
    assert frame["rgb_0_"].tolist() == [1, 3]
    assert frame["rgb_0"].tolist() == [90, 91]
    zvl.write_points(tmp_path / "y", np.arange(4.0).reshape(2, 2), object_ids=[1, 0], **options)
    level = zvl.open_zv(tmp_path / "y")[0]
    frame = level.to_dask_dataframe().compute()
    assert frame["object_id_attribute"].tolist() == [8, 7]  # rows are in the order of objects
    assert frame["object_id"].tolist() == [0, 1]
    assert list(level.to_dask_dataframe(["rgb"])) == ["x", "y", "rgb_0_", "rgb_1"]  # whatever else is asked for
