"""Levels as Dask data frames."""

import zipfile

import numpy as np
import pandas as pd
import pytest

import zarr_vectors_lazy as zvl
from tests.conftest import DATA
from zarr_vectors_lazy.errors import NotFoundError
from zarr_vectors_lazy.storage.counters import counting


@pytest.fixture
def level(tracts):
    return zvl.open_zv(tracts)[0]


def arrays_read(counts):
    return {key.split("/c/")[0] for key in counts.keys}


def test_columns_are_axes_and_attributes(level):
    frame = level.to_dask_dataframe().compute()
    assert list(frame) == ["x", "y", "z", "arc_length", "index", "tangent_0", "tangent_1", "tangent_2"]
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
