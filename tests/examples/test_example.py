"""The stores that the package ships."""

from pathlib import Path

import dask
import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from zarr_vectors_lazy import examples
from zarr_vectors_lazy.errors import NotFoundError, SelectionError, StoreError


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(examples, "_cache", lambda: tmp_path / "cache")
    return tmp_path / "cache"


@pytest.mark.parametrize("name", zvl.example())
def test_each_is_whole_and_small(name, cache):
    path = zvl.example(name)
    assert path.is_relative_to(cache)
    assert zvl.validate(path).findings == ()
    store = zvl.open_zv(path)
    assert len(store) > 1
    assert len(store[0].vertices.compute()) == store[0].vertex_count
    packed = Path(examples.__file__).with_name(f"{name}.tar.zst")
    assert packed.stat().st_size < 140_000


def test_streamlines_are_those_of_the_golden_store(tmp_path, tracts):
    ours, theirs = (zvl.open_zv(path)[0] for path in (zvl.example("tracts", tmp_path / "t"), tracts))
    for one, other in zip(dask.compute(*ours.objects.ragged()), dask.compute(*theirs.objects.ragged()), strict=True):
        np.testing.assert_array_equal(one, other)
    assert ours.objects.groups.names == theirs.objects.groups.names


def test_a_copy_in_the_cache_is_made_once_and_anew_where_it_was_changed(cache):
    path = zvl.example("cloud")
    before = (path / "zarr.json").stat()
    assert zvl.example("cloud") == path
    after = (path / "zarr.json").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)  # a read may set the atime
    (path / "zarr.json").write_text("{}")
    assert zvl.open_zv(zvl.example("cloud"))[0].vertex_count == 4946
    assert [each for each in path.parent.iterdir() if each != path] == []


def test_a_path_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert zvl.example("cloud", "empty") == Path("empty")
    assert zvl.example("cloud", Path("empty")) == Path("empty"), "the very store is there already"
    with pytest.raises(StoreError, match="something else is there: give another path"):
        zvl.example("tracts", "empty")
    with pytest.raises(StoreError, match=r"cannot be copied: .*at empty/zarr.json"):
        zvl.example("tracts", "empty/zarr.json/deeper/store")
    zvl.build_pyramid("empty", factors=[2], overwrite=True)
    with pytest.raises(StoreError, match="something else"):
        zvl.example("cloud", "empty")


def test_what_cannot_be_meant(cache):
    with pytest.raises(NotFoundError, match="did you mean 'tracts'"):
        zvl.example("tract")
    with pytest.raises(SelectionError, match="on disk"):
        zvl.example("tracts", "s3://bucket/tracts.zarrvectors")
    with pytest.raises(SelectionError, match="name the example"):
        zvl.example(path="here")
    cache.write_text("a file where the folder would be")
    with pytest.raises(StoreError, match="give path="):
        zvl.example("tracts")
