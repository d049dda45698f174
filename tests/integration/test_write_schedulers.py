"""A write out of core gives the same bytes as one from memory, whatever the scheduler."""

import importlib.util

import dask
import pytest

import zarr_vectors_lazy as zvl
from tests.integration.out_of_core import (
    CHUNK,
    assert_same_files,
    cluster,
    lazily,
    points,
    write_examples,
    write_expected,
)
from zarr_vectors_lazy.errors import StoreError

NAMES = {"points", "paths", "part", "mesh", "trees"}


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("memory")
    write_expected(folder)
    assert {path.name for path in folder.iterdir()} == NAMES
    return folder


@pytest.mark.parametrize("scheduler", ["sync", "threads", "processes"])
def test_schedulers_of_one_machine(tmp_path, expected, scheduler):
    with dask.config.set(scheduler=scheduler, num_workers=2, temporary_directory=str(tmp_path / "temporary")):
        write_examples(tmp_path)
    assert list((tmp_path / "temporary").iterdir()) == []
    for name in NAMES:
        assert_same_files(tmp_path / name, expected / name)


@pytest.mark.distributed
@pytest.mark.parametrize("workers", [1, 2])
def test_clusters(tmp_path, expected, monkeypatch, workers):
    given = lazily(points())
    local = zvl.write_points(tmp_path / "local", given["positions"], chunk_shape=CHUNK, compute=False)
    with cluster(workers):
        write_examples(tmp_path)
        if workers == 1:
            with pytest.raises(StoreError, match=r"made without a distributed Client.*computed elsewhere"):
                local.compute()
            shuffled = zvl.write_points(tmp_path / "shuffled", given["positions"], chunk_shape=CHUNK, compute=False)
            monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pyarrow" else name)
            with pytest.raises(StoreError, match=r"pyarrow.*pip install 'zarr-vectors-lazy\[dataframe\]'"):
                zvl.write_points(tmp_path / "x", given["positions"], chunk_shape=CHUNK, checksum=False)
    for name in NAMES:
        assert_same_files(tmp_path / name, expected / name)
    assert not (tmp_path / "local").exists()
    if workers == 1:
        with dask.config.set(scheduler="sync"), pytest.raises(StoreError, match="made with a distributed Client"):
            shuffled.compute()
