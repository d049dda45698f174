"""Cells packed into shards and unpacked again: the same bytes, fewer objects, and a complete store at every moment."""

import itertools
import shutil
import warnings
from pathlib import Path

import dask
import numpy as np
import pytest
from zarr_vectors.types.points import read_points
from zarr_vectors.validate import validate

import zarr_vectors_lazy as zvl
from tests.integration.generations import Copy
from zarr_vectors_lazy.copy import recompress as tasks
from zarr_vectors_lazy.errors import CorruptChunkError, FormatError, SelectionError, StoreError
from zarr_vectors_lazy.storage.requests import counting


@pytest.fixture
def tamper(goldens, variety, tmp_path):
    def make(name):  # a full copy: deleting through a link would delete from the golden store
        golden = goldens[name].path if name in goldens else variety(name)
        return Copy(Path(shutil.copytree(golden, tmp_path / name)))

    return make


def objects(path):
    return sum(file.is_file() for file in path.rglob("*"))


def given(path):
    """What the levels of a store give."""
    with dask.config.set(scheduler="sync"):
        store = zvl.open_zv(path)
        parts = [
            (
                level.vertices,
                dict(level.attributes),
                level.links(0) if 0 in level.deltas else None,
                *level.objects.ragged(),
            )
            for level in store
        ]
        return dask.compute(parts)[0]


def assert_same(a, b):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_equal(x, y)


def reference_agrees(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = validate(str(path), level=5)
        assert report.ok, report.errors
        return read_points(str(path))["positions"]


@pytest.mark.parametrize("name", ["points-gzip", "points-sharded-blosc", "paths-by-text", "links-triples-duplicate"])
def test_in_and_out(tamper, name):
    path = tamper(name).path
    before, n = given(path), objects(path)
    positions = reference_agrees(path)
    codecs = zvl.open_store(path).zarr_group["0/vertices"].compressors
    for shape in (3, None):
        zvl.shard(path, shard_shape=shape)
        array = zvl.open_store(path).zarr_group["0/vertices"]
        assert array.compressors == codecs
        assert array.shards == (None if shape is None else (3,) * array.ndim)
        assert_same(given(path), before)
        np.testing.assert_array_equal(reference_agrees(path), positions)
        assert not zvl.validate(path).findings
        assert shape is None or name == "points-sharded-blosc" or objects(path) < n


def test_as_it_is_wanted_already(tamper):
    path = tamper("cloud-0.9").path
    changed = zvl.shard(path, shard_shape=2)
    assert changed["0/vertices"] < zvl.open_zv(path)[0].chunk_count
    with counting() as counts:
        assert zvl.shard(path, shard_shape=2) == {}
    assert counts.by_kind["put"] == 0


@pytest.mark.parametrize("moment", range(8))
def test_stopped_at_any_moment_it_is_whole_and_can_be_finished(tamper, monkeypatch, moment):
    path = tamper("cloud-0.9").path
    before = given(path)
    steps = itertools.count()

    def stopping(real):
        def call(*arguments):
            if next(steps) == 7 * moment:
                raise StoreError("stopped")
            return real(*arguments)

        return call

    for name in ("fetch", "delete"):
        monkeypatch.setattr(tasks, name, stopping(getattr(tasks, name)))
    with dask.config.set(scheduler="sync"), pytest.raises(StoreError, match="stopped"):
        zvl.shard(path, shard_shape=2)
    monkeypatch.undo()
    assert_same(given(path), before)
    assert zvl.validate(path).ok
    zvl.shard(path, shard_shape=2)
    assert_same(given(path), before)
    assert not zvl.validate(path).findings  # nothing is left over


def test_consolidated_metadata_follow(tamper):
    path = tamper("cloud-0.9").path
    zvl.consolidate(path)
    before = given(path)
    zvl.shard(path, shard_shape=(2, 2, 2))
    assert zvl.open_zv(path, consolidated=True).levels == [0, 1, 2]
    assert_same(given(path), before)


def test_a_listed_cell_that_is_gone_stops_it(tamper):
    copy = tamper("cloud-0.9")
    copy.remove(copy.key("0/vertices", copy.listed("0/vertices")[0]))
    with pytest.raises(CorruptChunkError, match="no such object"):
        zvl.shard(copy.path, shard_shape=2)
    assert zvl.open_store(copy.path).zarr_group["0/vertices"].shards is None


def test_what_is_refused(goldens, tamper):
    with pytest.raises(FormatError, match=r"zvl\.migrate"):
        zvl.shard(goldens["cloud-0.7"].path, shard_shape=2)
    path = tamper("cloud-0.9").path
    for shape in (0, 1.5, (), (2, 2), (2, 2, 2, 2, 2), "2"):
        with pytest.raises(SelectionError, match="shard_shape"):
            zvl.shard(path, shard_shape=shape)
