"""Pyramids over stores of every kind that the reference writes."""

import zipfile

import dask
import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from tests.conftest import DATA
from zarr_vectors_lazy.errors import FormatError

STORES = {path.name.removesuffix(".zarrvectors.zip"): path for path in sorted(DATA.glob("0.9-variety/stores/*.zip"))}
SAMPLE = ["fragments-explicit", "graph-by-text", "manifest-modes", "mesh-quads", "object-index-v1", "paths-text-widths",
          "points-by-int", "points-sharded-zstd-objects", "skeleton-streaming"]  # fmt: skip


LEFT_OUT = {"attribute-of-some-chunks": {"n": None}}  # whole numbers of which some chunks have none: refused


def build(name, path):
    with zipfile.ZipFile(STORES[name]) as files:
        files.extractall(path)
    with dask.config.set(scheduler="sync"):
        zvl.build_pyramid(
            path, factors=[(2, 1), (2, 2)], overwrite=True, cross_level_depth=-1, aggregate=LEFT_OUT.get(name)
        )
        store = zvl.open_zv(path)
        assert store.levels == [0, 1, 2]
        assert zvl.validate(path).ok
        weight = next(w for w in ("zv_count", "count") if w in store[1].attribute_names)
        counts = store[1].attributes[weight].compute()
        # A vertex of several objects counts for each of them.
        assert counts.sum() >= len(np.unique(store[0].links(1).compute()[:, 0]))
        assert len(counts) == store[1].vertex_count


def test_an_attribute_that_cannot_say_missing_is_refused(tmp_path):
    with zipfile.ZipFile(STORES["attribute-of-some-chunks"]) as files:
        files.extractall(tmp_path)
    with pytest.raises(FormatError, match=r"leave it out with aggregate=\{'n': None\}"):
        zvl.build_pyramid(tmp_path, factors=[(2, 1)])
    assert zvl.open_zv(tmp_path).levels == [0]


@pytest.mark.parametrize("name", SAMPLE)
def test_some_stores(tmp_path, name):
    build(name, tmp_path / "s")


@pytest.mark.stress
@pytest.mark.parametrize("name", sorted(set(STORES) - set(SAMPLE)))
def test_all_stores(tmp_path, name):
    build(name, tmp_path / "s")
