"""Counts added to stores of other writers: known at every open, and nothing else changes."""

import json

import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from tests.integration.generations import Copy, copy_of
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.storage.requests import counting
from zarr_vectors_lazy.write import in_place

NAMES = ["cloud-0.9", "tracts-0.9"]


@pytest.fixture
def tamper(goldens, tmp_path):
    return lambda name: copy_of(goldens[name], tmp_path)


def sizes(level):
    return [len(block) for block in (b.compute(scheduler="sync") for b in level.vertices.blocks)]


@pytest.mark.parametrize("name", NAMES)
def test_sizes_are_known_at_every_open(tamper, name):
    copy = tamper(name)
    before = {file: file.read_bytes() for file in copy.path.rglob("zarr.json")}
    assert np.isnan(zvl.open_zv(copy.path)[0].vertices.shape[0])
    with counting() as counts:
        totals = zvl.index(copy.path)
    store = zvl.open_zv(copy.path)
    assert counts.by_kind["put"] == len(store.levels)
    for level in store:
        assert level.vertices.chunks[0] == tuple(sizes(level))
        assert totals[level.index] == level.vertex_count == level.vertices.shape[0]
    changed = {file.relative_to(copy.path).as_posix() for file in before if file.read_bytes() != before[file]}
    assert changed == {f"{level}/vertices/zarr.json" for level in store.levels}
    for file in changed:
        was, now = json.loads(before[copy.path / file]), copy.read(file.removesuffix("/zarr.json"))
        assert list(now["attributes"].pop("zarr_vectors_lazy")) == ["vertex_counts"]
        assert now == was


def test_again_writes_nothing(tamper):
    copy = tamper("cloud-0.9")
    first = zvl.index(copy.path)
    with counting() as counts:
        assert zvl.index(copy.path) == first
    assert counts.by_kind["put"] == 0


def test_wrong_counts_and_totals_are_set_right(tamper):
    copy = tamper("cloud-0.9")
    counts = copy.counts()
    copy.stamp([*counts[:-1], counts[-1] + 1])
    with pytest.raises(FormatError, match=r"zvl\.index"):
        zvl.open_zv(copy.path)[0].vertices.compute()
    copy.edit(lambda doc: doc["attributes"]["zarr_vectors_level"].update(vertex_count=7), "0")
    zvl.index(copy.path)
    level = zvl.open_zv(copy.path)[0]
    assert level.vertex_count == sum(counts) == len(level.vertices.compute())


def test_what_our_stamp_says_besides_is_kept(tamper):
    copy = tamper("cloud-0.9")
    copy.edit(lambda doc: doc["attributes"].update(zarr_vectors_lazy={"content": "ab"}), "0/vertices")
    zvl.index(copy.path)
    stamp = copy.read("0/vertices")["attributes"]["zarr_vectors_lazy"]
    assert stamp == {"content": "ab", "vertex_counts": copy.counts()}


def test_consolidated_metadata_follow(tamper):
    copy = tamper("cloud-0.9")
    zvl.consolidate(copy.path)
    zvl.index(copy.path)
    with counting() as counts:
        store = zvl.open_zv(copy.path, consolidated=True)
        assert store[0].vertices.shape[0] == store[0].vertex_count
    assert counts.keys == ["zarr.json"]


def test_a_store_that_changes_meanwhile_is_left_alone(tamper, monkeypatch):
    copy = tamper("cloud-0.9")
    real = in_place.read_row_counts

    def change(data, rows):
        copy.edit(lambda doc: doc["attributes"].update(touched=True), f"{data.meta.index}/vertices")
        return real(data, rows)

    monkeypatch.setattr(in_place, "read_row_counts", change)
    with pytest.raises(FormatError, match="changed while"):
        zvl.index(copy.path)
    attributes = copy.read("0/vertices")["attributes"]
    assert attributes["touched"]
    assert "zarr_vectors_lazy" not in attributes


def test_the_old_format_is_to_be_migrated_first(goldens):
    with pytest.raises(FormatError, match=r"0\.7\.0 are read-only here: zvl\.migrate"):
        zvl.index(goldens["cloud-0.7"].path)


@pytest.mark.parametrize("name", ["points-zstd-checksum", "points-sharded"])
def test_compressed_and_sharded(variety, tmp_path, name):
    golden = type("Golden", (), {"path": variety(name)})
    copy = Copy.of(golden, tmp_path)
    zvl.index(copy.path)
    level = zvl.open_zv(copy.path)[0]
    assert level.vertices.chunks[0] == tuple(sizes(level))
