"""Nearest rows, rows within a radius, and random rows, against brute force."""

import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.storage.requests import counting

POINTS = np.random.default_rng(0).uniform(0, 100, (3000, 3)).astype("f4")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("near") / "x.zv"
    zvl.write_points(path, POINTS, chunk_shape=20, vertex_attributes={"i": np.arange(3000)})
    return path


@pytest.fixture(params=["whole", "box", "where"])
def level(request, path):
    level = zvl.open_zv(path)[0]
    return {"whole": level, "box": level.sel(x=slice(20.5, 70)), "where": level.sel(where={"i": (500, 2000)})}[
        request.param
    ]


def cells(counts):
    return {key for key in counts.keys if "/vertices/c/" in key}


def test_the_nearest_rows(level):
    vertices = level.vertices.compute().astype("f8")
    targets = np.random.default_rng(1).uniform(-30, 130, (15, 3))
    between = np.linalg.norm(targets[:, None] - vertices, axis=2)
    for k in (1, 5):
        rows, distances = level.nearest(targets, k)
        order = np.argsort(between, axis=1, kind="stable")[:, :k]
        assert rows.tolist() == order.tolist()
        np.testing.assert_allclose(distances, np.take_along_axis(between, order, axis=1), rtol=1e-12)
    rows, distances = level.nearest(targets[0])
    assert rows.shape == distances.shape == (1, 1)


def test_the_nearest_reads_few_chunks(path):
    level = zvl.open_zv(path)[0]
    with counting() as counts:
        level.nearest([50, 50, 50])
    assert len(cells(counts)) <= 8  # of 125


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_tables_of_points_go_by_the_names_of_their_columns(tmp_path, library):
    zvl.write_points(tmp_path / "x", np.array([[3.0, 2, 1], [1, 2, 3]]), chunk_shape=5, axes=("z", "y", "x"))
    store = zvl.open_zv(tmp_path / "x")
    make = pytest.importorskip(library)
    table = {"pandas": "DataFrame", "polars": "DataFrame", "pyarrow": "table"}[library]
    points = getattr(make, table)({"X": [1.0], "Y": [2.0], "Z": [3.0]})
    rows, distances = store[0].nearest(points)
    assert store[0].vertices.compute()[rows[0, 0]].tolist() == [3, 2, 1]
    assert distances.tolist() == [[0]]
    assert store[0].within(points, 0.1).vertices.compute().tolist() == [[3, 2, 1]]
    assert store.to_world(points).tolist() == [[1, 2, 3]]
    assert store.from_world(points).tolist() == [[3, 2, 1]]
    with pytest.raises(SelectionError, match="must have columns 'z', 'y', 'x', found 'a', 'b', 'c'"):
        store[0].nearest(getattr(make, table)({"a": [1.0], "b": [2.0], "c": [3.0]}))


def test_fewer_than_asked_for(path):
    few = zvl.open_zv(path)[0].sel(where={"i": [3, 4]})
    rows, distances = few.nearest([[0, 0, 0]], 4)
    assert sorted(rows[0, :2].tolist()) == [0, 1]
    assert rows[0, 2:].tolist() == [-1, -1]
    assert np.isinf(distances[0, 2:]).all()
    assert few.sel(x=slice(-9, -8)).nearest([0, 0, 0])[0].tolist() == [[-1]]


def test_what_is_within_a_distance(level):
    targets = np.random.default_rng(2).uniform(0, 100, (4, 3))
    vertices, ids = level.vertices.compute().astype("f8"), level.attributes["i"].compute()
    mask = (np.linalg.norm(targets[:, None] - vertices, axis=2) <= 12).any(axis=0)
    part = level.within(targets, 12)
    assert part.attributes["i"].compute().tolist() == ids[mask].tolist()
    assert part.chunk_count < level.chunk_count
    again = part.sel(x=slice(0, 50)).within(targets[:2], 20)
    both = mask & (vertices[:, 0] <= 50) & (np.linalg.norm(targets[:2, None] - vertices, axis=2) <= 20).any(axis=0)
    assert again.attributes["i"].compute().tolist() == ids[both].tolist()
    assert len(level.within(np.empty((0, 3)), 5).vertices.compute()) == 0
    assert len(level.within([-500, 0, 0], 5).vertices.compute()) == 0
    assert vertices[0].tolist() in level.within(vertices[0], 0).vertices.compute().tolist()


def test_random_rows(level):
    ids = level.attributes["i"].compute()
    part = level.sample(100, seed=7)
    assert part.vertex_count == 100
    found = part.attributes["i"].compute()
    assert len(set(found.tolist())) == 100
    assert set(found.tolist()) <= set(ids.tolist())
    assert np.array_equal(part.vertices.compute(), POINTS[found])
    assert level.sample(100, seed=7).attributes["i"].compute().tolist() == found.tolist()
    assert level.sample(100, seed=8).attributes["i"].compute().tolist() != found.tolist()
    assert level.sample(10**6).vertex_count == len(ids)
    assert level.sample(0).vertices.compute().shape == (0, 3)
    expected = [i for i in found.tolist() if POINTS[i, 1] <= 40]
    assert part.sel(y=slice(None, 40)).attributes["i"].compute().tolist() == expected
    fewer = part.sample(10).attributes["i"].compute().tolist()
    assert len(fewer) == 10
    assert set(fewer) <= set(found.tolist())


def test_each_row_is_as_likely(path):
    level = zvl.open_zv(path)[0]
    hits = np.zeros(3000)
    for seed in range(40):
        hits[level.sample(300, seed).attributes["i"].compute()] += 1
    assert hits.sum() == 40 * 300
    assert hits.max() <= 14  # 4 on average
    assert 20 < (hits == 0).sum() < 80  # 3000 * 0.9**40 = 44


def test_objects_of_what_is_picked(tracts):
    level = zvl.open_zv(tracts)[0]
    for part in (level.sample(50), level.within(level.vertices.compute()[10], 3)):
        kept = {tuple(row) for row in part.vertices.compute().tolist()}
        ids = part.objects.ids.tolist()
        assert 0 < len(ids) < len(level.objects.ids)
        assert {tuple(row) for i in ids for row in part.objects[i].compute().tolist()} == kept


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda level: level.nearest([1, 2]), r"\(n, 3\) finite numbers"),
        (lambda level: level.nearest([[1, 2, np.nan]]), "finite"),
        (lambda level: level.nearest("here"), r"\(n, 3\) numbers"),
        (lambda level: level.nearest([1, 2, 3], 0), "k must be"),
        (lambda level: level.nearest([1, 2, 3], 1.5), "k must be"),
        (lambda level: level.within([1, 2, 3], -1), "radius must be"),
        (lambda level: level.within([1, 2, 3], np.nan), "radius must be"),
        (lambda level: level.within([1, 2, 3], "far"), "radius must be"),
        (lambda level: level.sample(-1), "n must be"),
        (lambda level: level.sample(2.5), "n must be"),
        (lambda level: level.sample(2, seed=None), "seed must be"),
    ],
)
def test_wrong_arguments_are_named(path, call, words):
    with pytest.raises(SelectionError, match=words):
        call(zvl.open_zv(path)[0])
