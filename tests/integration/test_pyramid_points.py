"""Pyramids of point clouds: exact means, links, boxes, sparsity, and what the reference reads."""

import math
from types import SimpleNamespace

import dask
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from zarr.storage import MemoryStore

import zarr_vectors_lazy as zvl
from tests.format.encode import modest
from tests.integration.pyramids import by_bin, computed, traced, units_apart
from zarr_vectors_lazy.errors import NotFoundError, SelectionError, StoreError, ZVWarning
from zarr_vectors_lazy.kernels.bins import Groups
from zarr_vectors_lazy.kernels.rows import hash_rows
from zarr_vectors_lazy.pyramid.coarsen import TIES, joined_values
from zarr_vectors_lazy.pyramid.step import Aggregated
from zarr_vectors_lazy.storage.requests import counting

RANDOM = np.random.default_rng(6)


def cloud(path, n=3000, ndim=3, dtype="f4", offset=0.0, **options):
    positions = (RANDOM.random((n, ndim)) * 80 - 35 + offset).astype(dtype)
    attributes = {
        "intensity": RANDOM.random(n).astype("f4"),
        "kind": RANDOM.integers(0, 4, n).astype("u1"),
        "name": np.array(["soma", "axon", "dendrite"])[RANDOM.integers(0, 3, n)],
        "colour": RANDOM.integers(0, 256, (n, 3)).astype("u1"),
    }
    options = {"chunk_shape": 20.0, "bin_shape": 5.0, "vertex_attributes": attributes} | options
    zvl.write_points(path, positions, **options)
    return zvl.open_zv(path)


def check_means(store, index, dtype):
    """Compare a level with level 0, bin by bin."""
    zero, level = computed(store, 0), computed(store, index)
    members = by_bin(zero.positions, store[index].bin_shape)
    assert len(level.bins) == len(members)
    intensity, mean = store[0].attributes["intensity"].compute(), store[index].attributes["intensity"].compute()
    exact, exact_mean = [], []
    for key, count in zip(level.bins.tolist(), level.counts.tolist(), strict=True):
        rows = members[tuple(key)]
        assert count == len(rows)
        exact.append([math.fsum(column) / count for column in zero.positions[rows].astype("f8").T])
        exact_mean.append(math.fsum(intensity[rows].astype("f8")) / count)
    assert units_apart(level.positions, exact, dtype).max() <= 2
    assert units_apart(mean, exact_mean, "f4").max() <= 2 * index


def check_links(store, fine, coarse):
    links = traced(store, fine, coarse)
    below, above = computed(store, fine), computed(store, coarse)
    assert sorted(links[:, 0].tolist()) == list(range(len(below.positions)))
    assert np.array_equal(
        np.floor(below.positions[links[:, 0]].astype("f8") / store[coarse].bin_shape), above.bins[links[:, 1]]
    )
    assert np.array_equal(np.bincount(links[:, 1], below.counts[links[:, 0]]), above.counts)


CASES = {
    "plain": {},
    "far": {"dtype": "f8", "offset": 1e7, "ndim": 2},
    "planes": {"ndim": 4, "n": 200},
    "raw": {"compressor": None, "checksum": False},
    "sharded": {"shard_shape": 2, "compressor": "blosc"},
}


@pytest.mark.parametrize("case", CASES)
def test_levels_are_exact_means_of_level_0(tmp_path, case):
    options = CASES[case]
    store = cloud(tmp_path / "s", **options)
    before = store[0].vertices.compute()
    summary = zvl.build_pyramid(tmp_path / "s", factors=[2, (2, 1), 2], chunk_scale_factors=[1, None, 2])
    store = zvl.open_zv(tmp_path / "s")
    assert (store.levels, summary["levels_created"]) == ([0, 1, 2, 3], 3)
    assert np.array_equal(store[0].vertices.compute(), before)
    assert [level.chunk_shape[0] for level in store] == [20, 20, 40, 80]
    for index in (1, 2, 3):
        assert store[index].vertices.dtype == options.get("dtype", "f4")
        assert [spec["vertex_count"] for spec in summary["level_specs"]][index - 1] == store[index].vertex_count
        check_means(store, index, store[index].vertices.dtype)
        check_links(store, index - 1, index)
    report = zvl.validate(tmp_path / "s")
    assert report.ok, report


@modest
@given(
    st.lists(st.tuples(st.integers(-40, 40), st.integers(-40, 40)), min_size=1, max_size=40),
    st.sampled_from([1, 2, 3, 1.5]),
    st.sampled_from([1, 2, 4]),
)
def test_any_points(drawn, first, second):
    path = MemoryStore()
    intensity = {"intensity": np.arange(len(drawn), dtype="f4")}
    zvl.write_points(path, np.array(drawn, "f4"), chunk_shape=12.0, bin_shape=4.0, vertex_attributes=intensity)
    zvl.build_pyramid(path, factors=[(first, 1), (second, 1)])
    store = zvl.open_zv(path)
    for index in (1, 2):
        check_means(store, index, "f4")
        check_links(store, index - 1, index)


def test_attributes_are_joined_as_asked(tmp_path):
    store = cloud(tmp_path / "s")
    rules = {"intensity": "max", "kind": "first", "colour": "mean", "name": None}
    zvl.build_pyramid(tmp_path / "s", factors=[(4, 1), (2, 1)], aggregate=rules)
    store = zvl.open_zv(tmp_path / "s")
    assert store[1].attribute_names == ("colour", "count", "intensity", "kind")
    for index in (1, 2):
        links = store[0].links(1).compute()
        if index == 2:
            above = dict(store[1].links(1).compute().tolist())
            links = np.array([[row, above[parent]] for row, parent in links.tolist()])
        for row in range(store[index].vertex_count):
            rows = links[links[:, 1] == row, 0]
            assert (
                store[0].attributes["intensity"].compute()[rows].max()
                == store[index].attributes["intensity"].compute()[row]
            )
            break
    assert store[2].attributes["colour"].compute().dtype == np.uint8


def test_default_rules(tmp_path):
    store = cloud(tmp_path / "s", n=500)
    zvl.build_pyramid(tmp_path / "s", factors=[(4, 1)])
    store = zvl.open_zv(tmp_path / "s")
    links = store[0].links(1).compute()
    chunks, counts = store[0].chunk_keys, store[0].vertices.chunks[0]
    chosen = hash_rows(TIES, 0, np.array(chunks), np.array(counts))
    for name in ("name", "kind"):
        before, after = store[0].attributes[name].compute(), store[1].attributes[name].compute()
        for row in range(len(after)):
            rows = links[links[:, 1] == row, 0]
            values, numbers = np.unique(before[rows], return_counts=True)
            most = rows[np.isin(before[rows], values[numbers == numbers.max()])]
            assert after[row] == before[most[chosen[most].argmin()]]


def test_ties_favour_no_value(tmp_path):
    n = 20_000
    positions, values = RANDOM.random((n, 2)) * 100, RANDOM.integers(0, 1000, n).astype("u2")
    zvl.write_points(tmp_path / "s", positions, chunk_shape=25.0, bin_shape=1.0, vertex_attributes={"value": values})
    zvl.build_pyramid(tmp_path / "s", factors=[2, 2, 2])
    for level in list(zvl.open_zv(tmp_path / "s"))[1:]:
        found, count = level.attributes["value"].compute(), level.attributes["count"].compute()
        assert np.isin(found, values).all()
        assert abs(np.average(found, weights=count) - values.mean()) < 5 * values.std() / np.sqrt(len(found))


def test_a_rule_is_kept_with_an_attribute(tmp_path):
    n = 2000
    values = RANDOM.integers(0, 60_000, n).astype("u2")
    attributes = {"grey": values, "class": RANDOM.integers(0, 3, n), "near": RANDOM.random(n), "gone": values}
    rules = {"grey": "mean", "near": "min", "gone": None}
    options = {"chunk_shape": 25.0, "bin_shape": 5.0, "aggregate": rules}
    zvl.write_points(tmp_path / "s", RANDOM.random((n, 2)) * 100, vertex_attributes=attributes, **options)
    zvl.open_zv(tmp_path / "s")[0].write_attribute("depth", values, aggregate="max")
    zvl.rechunk(tmp_path / "s", tmp_path / "copy", chunk_shape=50, bin_shape=5)
    for name in ("s", "copy"):
        summary = zvl.build_pyramid(tmp_path / name, factors=[2, 2])
        assert summary["left_out"] == ["vertex_attributes/gone"]
        store = zvl.open_zv(tmp_path / name)
        assert store[2].attribute_names == ("class", "count", "depth", "grey", "near")
        above, up = store[2], store[1].links(1).compute()[store[0].links(1).compute()[:, 1], 1]
        assert above.attributes["grey"].dtype == np.uint16
        assert above.attributes["depth"].compute()[5] == store[0].attributes["depth"].compute()[up == 5].max()
        assert above.attributes["near"].compute()[5] == store[0].attributes["near"].compute()[up == 5].min()
        mean = store[0].attributes["grey"].compute()[up == 5].mean()
        assert abs(float(above.attributes["grey"].compute()[5]) - mean) <= 1
    zvl.build_pyramid(tmp_path / "s", factors=[4], aggregate={"grey": "max", "gone": "first"}, overwrite=True)
    level = zvl.open_zv(tmp_path / "s")[1]
    assert "gone" in level.attribute_names
    assert level.attributes["grey"].compute().max() == values.max()
    for wrong in {"grey": "median"}, {"none": "mean"}, "mean":
        with pytest.raises(SelectionError, match="aggregate"):
            zvl.write_points(
                tmp_path / "t", np.zeros((n, 2)), vertex_attributes=attributes, **options | {"aggregate": wrong}
            )


def test_what_stands_for_a_missing_number_enters_no_mean():
    groups, column = Groups(np.array([0, 0, 1, 1]), 2), SimpleNamespace(dtype=np.dtype("i2"))
    for rule, expected in {"mean": [3, -9], "max": [4, -9], "sum": [6, -9]}.items():
        item = Aggregated(name="a", column=column, rule=rule, fill=-9)
        assert joined_values(groups, np.array([2, 4, -9, -9], "i2"), None, item, None).tolist() == expected
    item = Aggregated(name="a", column=column, rule="mean", fill=-9)
    assert joined_values(groups, np.array([2, -9, 5, 7], "i2"), np.array([1, 9, 1, 3]), item, None).tolist() == [2, 6]


def test_integers_with_missing_values_are_combined(tmp_path):
    positions = np.array([[1, 1], [2, 2], [6, 6], [11, 11], [12, 12]], "f4")
    ages = np.ma.MaskedArray(np.array([10, 30, 7, 200, 9], "u1"), [False, False, False, True, True])
    attributes, form = {"age": ages}, {"chunk_shape": 20, "bin_shape": 5}
    zvl.write_points(tmp_path / "s", positions, vertex_attributes=attributes, aggregate={"age": "mean"}, **form)
    for rule, expected in {None: [20, 7, None], "max": [30, 7, None], "min": [10, 7, None]}.items():
        rules = {} if rule is None else {"aggregate": {"age": rule}}
        zvl.build_pyramid(tmp_path / "s", factors=[1], overwrite=True, **rules)
        found = zvl.open_zv(tmp_path / "s")[1].to_arrow().column("age").to_pylist()
        assert found == expected
    for build in (
        lambda: zvl.build_pyramid(tmp_path / "s", factors=[1], overwrite=True, aggregate={"age": "sum"}),
        lambda: zvl.write_points(
            tmp_path / "t", positions, vertex_attributes=attributes, aggregate={"age": "sum"}, **form
        ),
    ):
        with pytest.raises(SelectionError, match="'sum', but sums of uint8 may equal the number"):
            build()


def test_small_levels_are_told(tmp_path):
    cloud(tmp_path / "s")
    with pytest.warns(ZVWarning, match="level 2 has 2[0-9] vertices"):
        zvl.build_pyramid(tmp_path / "s", factors=[2, 4])


def test_data_that_have_a_count(tmp_path):
    cloud(tmp_path / "s", n=200, vertex_attributes={"count": np.arange(200), "intensity": np.zeros(200, "f4")})
    zvl.build_pyramid(tmp_path / "s", factors=[(4, 1), (2, 1)])
    store = zvl.open_zv(tmp_path / "s")
    assert store[2].attribute_names == ("count", "intensity", "zv_count")
    assert store[2].attributes["zv_count"].compute().sum() == 200


def test_boxes_are_exact_at_every_level(tmp_path):
    cloud(tmp_path / "s")
    zvl.build_pyramid(tmp_path / "s", factors=[(2, 1), (2, 1), (2, 1)])
    store = zvl.open_zv(tmp_path / "s")
    for level in store:
        whole = level.vertices.compute()
        for lo, hi in ([-35, -20, 0], [-20, 20, 45]), ([-20, -20, -20], [0, 0, 0]), (whole[0], whole[0]):
            expected = whole[((whole >= np.float32(lo)) & (whole <= np.float32(hi))).all(axis=1)]
            assert np.array_equal(level.sel((lo, hi)).vertices.compute(), expected)


@pytest.mark.parametrize("storage", ["none", "implicit", "explicit"])
@pytest.mark.parametrize("depth", [0, 1])
def test_which_links_are_stored(tmp_path, storage, depth):
    cloud(tmp_path / "s", n=300)
    zvl.build_pyramid(tmp_path / "s", factors=[(4, 1), (2, 1)], cross_level_storage=storage, cross_level_depth=depth)
    store = zvl.open_zv(tmp_path / "s")
    up, down = depth and storage != "none", depth and storage == "explicit"
    assert [level.deltas for level in store] == [(1,) * up, (-1,) * down + (1,) * up, (-1,) * down]
    block = store.attrs["zarr_vectors"]
    assert (block["cross_level_depth"], block["cross_level_storage"]) == (depth, storage)
    assert ("multiscale_links" in block["format_capabilities"]) == bool(up)


@pytest.mark.parametrize(("depth", "reach"), [(2, 2), (-1, 3), (3, 3)])
def test_links_across_levels(tmp_path, depth, reach):
    cloud(tmp_path / "s", n=400, ndim=2)
    zvl.build_pyramid(tmp_path / "s", factors=[(2, 1), (4, 1), (2, 1)], cross_level_depth=depth)
    store = zvl.open_zv(tmp_path / "s")
    for fine in range(4):
        assert store[fine].deltas == tuple(d for d in range(-3, 4) if d and abs(d) <= reach and 0 <= fine + d <= 3)
        for coarse in range(fine + 1, min(fine + reach, 3) + 1):
            check_links(store, fine, coarse)
    assert zvl.validate(tmp_path / "s").ok


def test_vertices_are_dropped_by_their_hash(tmp_path):
    cloud(tmp_path / "s", n=1001)
    zvl.build_pyramid(tmp_path / "s", factors=[(1, 4), (2, 2)], sparsity_seed=3)
    store = zvl.open_zv(tmp_path / "s")
    first, second = computed(store, 1), computed(store, 2)
    assert first.counts.sum() == len(store[0].links(1).compute()) == 250
    kept = store[1].links(1).compute()[:, 0]
    assert len(kept) == round(len(first.counts) / 2)
    assert second.counts.sum() == first.counts[kept].sum()
    sparsity = store[2]._view.data.meta.attributes["zarr_vectors_level"]
    assert sparsity["object_sparsity"] == 0.125
    assert sparsity["zarr_vectors_lazy"]["sparsity"] == {
        "strategy": "hash",
        "seed": 3,
        "of": "vertices",
        "nested": False,
    }


def test_one_level_at_a_time_is_the_same(tmp_path):
    for name in ("a", "b"):
        rng = np.random.default_rng(1)
        positions = rng.random((500, 3)).astype("f4") * 60
        zvl.write_points(tmp_path / name, positions, chunk_shape=20.0, bin_shape=5.0)
    zvl.build_pyramid(tmp_path / "a", factors=[(2, 1), (2, 1)])
    zvl.coarsen_level(tmp_path / "b", 0, 1, 2, cross_level_storage="explicit")
    zvl.coarsen_level(tmp_path / "b", 1, 2, 2, cross_level_storage="explicit")
    a, b = zvl.open_zv(tmp_path / "a"), zvl.open_zv(tmp_path / "b")
    assert a.levels == b.levels == [0, 1, 2]
    for one, other in zip(a, b, strict=True):
        assert np.array_equal(one.vertices.compute(), other.vertices.compute())
        assert one.deltas == other.deltas
        assert np.array_equal(one.bin_shape, other.bin_shape)
    assert np.array_equal(a[2].attributes["count"].compute(), b[2].attributes["count"].compute())


def test_chunks_grow_with_bins(tmp_path):
    points = RANDOM.random((20_000, 3)) * 64
    zvl.write_points(tmp_path / "s", points, chunk_shape=8.0, bin_shape=1.0)
    zvl.build_pyramid(tmp_path / "s", factors=[2, 2, (1, 4)])
    store = zvl.open_zv(tmp_path / "s")
    assert [level.chunk_count for level in store] == [512, 64, 8, 8]
    assert [level.chunk_shape[0] for level in store] == [8, 16, 32, 32]
    zvl.write_points(tmp_path / "t", points, chunk_shape=8.0, bin_shape=1.0)
    for level in (1, 2):
        zvl.coarsen_level(tmp_path / "t", level - 1, level, 2)
        assert zvl.open_zv(tmp_path / "t")[level].chunk_shape[0] == 8 * 2**level


def test_chunks_do_not_grow_beyond_a_block(tmp_path):
    random, corners = np.random.default_rng(0), np.stack(np.meshgrid(*[[0, 8]] * 3), axis=-1).reshape(-1, 1, 3)
    points = (corners + random.random((8, 100, 3)) * 8).reshape(-1, 3)
    for nbytes, bins, expected in ("128 MiB", 0.25, 16), ("1 kiB", 0.25, 8), ("1 kiB", 8 / 7, 16), ("1 kiB", 4, 16):
        path = tmp_path / f"{nbytes}-{bins}"
        zvl.write_points(path, points, chunk_shape=8.0, bin_shape=bins)
        with dask.config.set({"array.chunk-size": nbytes}):
            zvl.build_pyramid(path, factors=[2])  # 100 vertices a chunk, so 800 in one twice as long, or one a bin
        assert zvl.open_zv(path)[1].chunk_shape[0] == expected
    with dask.config.set({"array.chunk-size": "128 MiB"}), pytest.raises(StoreError, match="is there"):
        zvl.build_pyramid(path, factors=[2])


def test_figures_tell_what_a_build_will_do(tmp_path):
    cloud(tmp_path / "s")
    with counting() as counts:
        delayed = zvl.build_pyramid(tmp_path / "s", factors=[(2, 1), (2, 1)], compute=False)
    assert counts.by_kind["put"] == 0
    figures = delayed.figures
    assert str(figures).splitlines()[0] == "levels    1, 2"
    assert figures.tasks == len(dict(delayed.__dask_graph__()))
    with counting() as counts:
        summary = delayed.compute()
    assert summary["levels_created"] == 2
    metadata = 60
    assert figures.writes <= counts.by_kind["put"] <= figures.writes + metadata
    assert figures.reads <= counts.by_kind["get"] + counts.by_kind["range"] <= figures.reads + metadata
    assert zvl.open_zv(tmp_path / "s").levels == [0, 1, 2]


def test_what_is_refused(tmp_path):
    path = tmp_path / "s"
    cloud(path, n=100)
    wrong = [
        ({"factors": [(2, 1)], "chunk_scale_factors": [1, 1]}, r"for each level \(1\)"),
        ({"factors": [(3, 1)], "chunk_scale_factors": [1]}, r"the smallest chunk scale that works: \[3, 3, 3\]"),
        ({"factors": [(2, 1)], "method": "best"}, "method must be"),
        ({"factors": [(2, 1)], "sparsity_strategy": "random"}, "sparsity_strategy"),
        ({"factors": [(2, 1)], "cross_level_storage": "all"}, "cross_level_storage"),
        ({"factors": [(2, 1)], "cross_level_depth": -2}, "cross_level_depth"),
        ({"factors": [(2, 1)], "min_vertices": 1}, "min_vertices"),
        ({"factors": [(2, 1)], "aggregate": {"kind": "median"}}, "must be one of"),
        ({"factors": [(2, 1)], "aggregate": {"name": "mean"}}, "are not numbers"),
    ]
    for arguments, message in wrong:
        with pytest.raises(SelectionError, match=message):
            zvl.build_pyramid(path, **arguments)
    with pytest.raises(NotFoundError, match="no attribute 'none'"):
        zvl.build_pyramid(path, factors=[(2, 1)], aggregate={"none": "max"})
    with pytest.raises(NotFoundError, match="no level 3"):
        zvl.coarsen_level(path, 3, 4)
    with pytest.raises(SelectionError, match="greater than source_level"):
        zvl.coarsen_level(path, 0, 0)
    assert zvl.open_zv(path).levels == [0]
    assert not (path / "_building").exists()


def test_format_07_is_not_written(goldens):
    with pytest.raises(StoreError, match="migrate it first"):
        zvl.build_pyramid(goldens["cloud-0.7"].path, factors=[(2, 1)])
