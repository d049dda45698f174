"""Conversions of a level give the same on a cluster as with threads."""

import dask
import numpy as np
import pytest
import xarray as xr

from zarr_vectors_lazy.xarray_engine import ZarrVectorsEntrypoint

pytestmark = pytest.mark.distributed
NAME = "tracts-0.9"


@pytest.fixture
def level(open_at):
    return open_at(NAME)[0]


def test_on_a_cluster(level, results, on_scheduler, goldens):
    expected = {key.removeprefix("L0/"): value for key, value in results(NAME).items() if key.startswith("L0/")}
    with on_scheduler("distributed"):
        (computed,) = dask.compute(level)
        kept = level.persist()
        frame = level.to_dask_dataframe(["arc_length"])
        table, longest = frame.compute(), frame["arc_length"].max().compute()
        chunks = [rows["vertices"] for _, rows in level.iter_chunks(prefetch=2)]
        delayed = dask.compute(*level.to_delayed())
        dataset = level.to_xarray()
        density = dataset.zv.bin(5.0).compute()
        opened = xr.open_dataset(goldens[NAME].path, engine=ZarrVectorsEntrypoint, chunks={})
        rows = opened["vertices"].values
        again = kept.vertices.compute()
    for found in (computed.vertices, again, np.concatenate(chunks), rows, table[["x", "y", "z"]].to_numpy()):
        assert np.array_equal(found, expected["vertices"])
    assert np.array_equal(np.concatenate([value["vertices"] for value in delayed]), expected["vertices"])
    assert np.array_equal(computed.edges, expected["edges"])
    assert np.array_equal(table["arc_length"].to_numpy(), expected["attr/arc_length"])
    assert longest == expected["attr/arc_length"].max()
    assert int(density.sum()) == len(rows)
    assert np.array_equal(density.values, dataset.zv.bin(5.0).values)
