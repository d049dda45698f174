"""Objects and bytes of stores by family, what they cost, and chunk shapes that make fewer of them."""

import re

import dask.array as da
import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from zarr_vectors_lazy.errors import SelectionError, StoreError
from zarr_vectors_lazy.interchange import suggest_bin_shape
from zarr_vectors_lazy.storage.requests import counting


@pytest.mark.parametrize("name", ["tracts-0.9", "tracts-0.7", "neuron-0.7"])
def test_every_object_and_byte_is_counted_once(goldens, name):
    files = [path for path in goldens[name].path.rglob("*") if path.is_file()]
    store = zvl.open_zv(goldens[name].path)
    with counting() as counts:
        cost = store.cost()
    assert counts.by_kind == {"list": 1}
    assert cost.objects == len(files)
    assert cost.nbytes == sum(path.stat().st_size for path in files)
    assert sum(row.documents for row in cost.rows) == sum(path.name == "zarr.json" for path in files)


@pytest.mark.parametrize(
    ("name", "families"),
    [
        ("tracts-0.9", {"vertices", "vertex_attributes/tangent", "links/0/0.0.+1", "links/+1/0.0.0", "object_index"}),
        ("tracts-0.7", {"vertices", "vertex_attributes/tangent", "cross_chunk_links/0", "links/+1", "object_index"}),
    ],
)
def test_families(goldens, name, families):
    path = goldens[name].path
    rows = {row.family: row for row in zvl.open_zv(path).cost().level(0).rows}
    assert families <= set(rows)
    for family in families:
        files = [file for file in (path / "0" / family).rglob("*") if file.is_file()]
        assert (rows[family].objects, rows[family].nbytes) == (len(files), sum(f.stat().st_size for f in files))


def test_prices(goldens):
    cost = zvl.open_zv(goldens["cloud-0.9"].path).cost(storage=1e9, put=1000, get=2000, transfer=1e9)
    assert cost.month == cost.nbytes
    assert cost.write == cost.objects
    assert cost.read == 2 * cost.objects + cost.nbytes
    free = zvl.open_zv(goldens["cloud-0.9"].path).cost(storage=0, put=0, get=0, transfer=0)
    assert (free.month, free.write, free.read) == (0, 0, 0)
    with pytest.raises(SelectionError, match="put= must be a price"):
        zvl.open_zv(goldens["cloud-0.9"].path).cost(put=-1)


def test_prints_as_a_table(goldens):
    cost = zvl.open_zv(goldens["cloud-0.9"].path).cost()
    title, sums, prices, rates, _, head, *rows = repr(cost).splitlines()
    assert "cloud-0.9" in title
    assert sums.startswith("434 objects (69 of them metadata), 392.4 kB, 904 B an object")
    assert prices == "0.00000902 USD a month, 0.00217 USD to write once, 0.000209 USD to read once"
    assert "0.023 USD a GB-month" in rates
    assert head.split()[:3] == ["level", "family", "objects"]
    assert sum(int(re.search(r" ([\d,]+) +[\d.]+ k?B ", row)[1]) for row in rows) == cost.objects
    assert len(rows) == len({(row.level, row.family.partition("/")[0]) for row in cost.rows})
    assert max(map(len, (sums, prices, rates, head, *rows))) <= 80
    assert cost._repr_html_().count("<tr>") == len(rows) + 1
    assert "12 EUR" in repr(zvl.open_zv(goldens["cloud-0.9"].path).cost(storage=12, currency="EUR"))


def test_what_cannot_be_listed_is_an_error(goldens, monkeypatch):
    store = zvl.open_zv(goldens["cloud-0.9"].path)
    monkeypatch.setattr(type(store._opened.tree.backend), "listable", False)
    with pytest.raises(StoreError, match="cannot be listed"):
        store.cost()


def test_suggested_chunks_are_filled():
    rng = np.random.default_rng(0)
    for positions in (rng.uniform(-500, 500, (400_000, 3)), rng.normal(0, 50, (400_000, 2))):
        shape = zvl.suggest_chunk_shape(positions.astype("f4"))
        assert len(set(shape)) == 1
        _, rows = np.unique(np.floor(positions / shape), axis=0, return_counts=True)
        nbytes = rows * positions.shape[1] * 4
        assert rows[nbytes > 100_000].sum() > 0.9 * len(positions)
        assert np.median(nbytes) < 3_000_000


def test_suggestions_follow_what_they_are_told():
    rng = np.random.default_rng(0)
    positions = rng.uniform(0, 1000, (300_000, 3)).astype("f4")
    shape = zvl.suggest_chunk_shape(positions)
    assert zvl.suggest_chunk_shape(da.from_array(positions, chunks=50_000)) == shape
    assert zvl.suggest_chunk_shape(positions, least="10 kB") < shape
    of_bins = zvl.suggest_chunk_shape(positions, bin_shape=(7, 7, 7))
    assert all(edge % 7 == 0 for edge in of_bins)
    assert zvl.suggest_chunk_shape(positions, bin_shape=7) == of_bins
    x, y, z = zvl.suggest_chunk_shape(positions, aspect=(1, 1, 0.1))
    assert x == y == 10 * z
    (edge, _, _) = zvl.suggest_chunk_shape((([0, 0, 0], [1000, 1000, 1000]), 300_000))
    assert shape[0] / 2 <= edge <= shape[0] * 2
    flat = zvl.suggest_chunk_shape((([0, 0, 5], [1000, 1000, 5]), 300_000))
    assert flat[0] < 1000
    assert zvl.suggest_chunk_shape(positions[:10])[0] >= 1000  # too few: one chunk
    assert zvl.suggest_chunk_shape(positions[:1]) == (1, 1, 1)


@pytest.mark.parametrize(
    "arguments",
    [
        {"data": np.zeros(3)},
        {"data": np.zeros((0, 3))},
        {"data": np.full((5, 3), np.nan)},
        {"data": (([1, 1], [0, 0]), 10)},
        {"data": (([0, 0], [1, 1]), 0)},
        {"data": np.zeros((5, 3)), "aspect": (1, 2)},
        {"data": np.zeros((5, 3)), "bin_shape": (1, 1, -1)},
    ],
)
def test_bad_arguments_are_errors(arguments):
    with pytest.raises(SelectionError):
        zvl.suggest_chunk_shape(**arguments)


def test_bins_that_make_levels_of_use():
    random = np.random.default_rng(0)
    positions = random.random((200_000, 3)) * 100
    for chunk, along in (50, 32), (25, 16), (100, 64):
        bins = suggest_bin_shape(positions, chunk)
        assert bins == (chunk / along,) * 3
        rows = np.unique(np.floor(positions / bins), axis=0)
        assert along == 8 or len(positions) <= 4 * len(rows)
    assert suggest_bin_shape(positions[:, :2], 50) == (50 / 64,) * 2
    assert suggest_bin_shape(positions[:500], 100) == (100 / 8,) * 3
    assert suggest_bin_shape(positions[:40], (100, 100, 50)) == (25, 25, 12.5)  # 8 bins a vertex, at most
    assert suggest_bin_shape(positions[:1], 100) == (50,) * 3
    survey = positions * (1, 1, 0.1) + (4e5, 4e6, 0)  # far from the origin, where float32 has steps of 0.25
    assert suggest_bin_shape(survey, 50) == (50 / 64,) * 3
    with pytest.raises(
        SelectionError, match=r"chunk_shape \[50.0, 50.0\] is absurdly small for positions up to 1e\+300"
    ):
        suggest_bin_shape(np.array([[0, 0], [1e300, 1]]), 50)


def test_bins_of_many_vertices_are_told_by_some_chunks(monkeypatch):
    positions = np.random.default_rng(0).random((200_000, 3)) * 100
    whole = suggest_bin_shape(positions, 25)
    monkeypatch.setattr("zarr_vectors_lazy.interchange.SAMPLE", 20_000)
    assert suggest_bin_shape(positions, 25) == whole
    assert suggest_bin_shape(da.from_array(positions, chunks=(60_000, 3)), 25) == whole
