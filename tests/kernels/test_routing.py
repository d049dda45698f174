import tracemalloc

import numpy as np
import pytest

from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.kernels import routing
from zarr_vectors_lazy.kernels.routing import (
    arrange_bins,
    arrange_objects,
    arrange_runs,
    arrange_trees,
    bins_in_chunk,
    extent,
    fragment_table,
    places_of,
    route,
    stable_order,
    take,
)
from zarr_vectors_lazy.kernels.trees import depth_first
from zarr_vectors_lazy.model.writing import Grid


@pytest.fixture(params=[7, 2**18], ids="blocks of {}".format, autouse=True)
def block(request, monkeypatch):
    monkeypatch.setattr(routing, "BLOCK", request.param)


def positions_of(n, ndim=3, dtype="f4", scale=10.0):
    return np.random.default_rng(n).uniform(-scale, scale, (n, ndim)).astype(dtype)


@pytest.mark.parametrize("order", ["C", "F"])
def test_some_rows_are_taken_without_a_copy_of_all(order):
    values = np.asarray(positions_of(1_000_000), order=order)
    rows = np.asarray([5, 999_999, 0])
    tracemalloc.start()
    found = take(values, rows)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.tolist() == [values[row].tolist() for row in rows]
    assert peak < values.nbytes / 12  # allocations of other threads are counted too


@pytest.mark.parametrize(("dtype", "edge"), [("f4", 0.3), ("f8", 0.1), ("f4", 40.0), ("f4", 3e-3)])
@pytest.mark.parametrize("ndim", [2, 3, 4])
def test_rows_by_chunk(dtype, edge, ndim):
    positions = positions_of(200, ndim, dtype, 1.0 if edge < 1 else 10.0)
    shape = np.full(ndim, edge)
    lo, hi, bad = extent(positions, positions.dtype, threads=2)
    assert bad == -1
    assert (lo.tolist(), hi.tolist()) == (positions.min(axis=0).tolist(), positions.max(axis=0).tolist())
    grid = Grid.of_bounds(lo, hi, shape)
    found = route(positions, positions.dtype, shape, np.array(grid.origin), np.array(grid.shape), threads=2)
    expected = {}
    for row, coord in enumerate(np.floor(positions.astype("f8") / shape).astype(int).tolist()):
        expected.setdefault(tuple(coord), []).append(row)
    assert found.coords.tolist() == [list(coord) for coord in sorted(expected)]
    assert [found.rows(i).tolist() for i in range(len(found))] == [expected[coord] for coord in sorted(expected)]
    assert found.chunk_of_row()[found.rows(0)].tolist() == [0] * len(found.rows(0))


def test_rows_go_where_their_stored_value_lies():
    positions = np.array([[np.nextafter(1.0, 0), 0.5]])  # in float32 it is 1
    grid = np.array([0, 0]), np.array([2, 1])
    assert route(positions, np.dtype("f4"), np.ones(2), *grid).coords.tolist() == [[1, 0]]
    assert route(positions, np.dtype("f8"), np.ones(2), *grid).coords.tolist() == [[0, 0]]


@pytest.mark.parametrize("n", [3, 2**16, 2**16 + 1, 2**20])
def test_order_is_stable(n):
    ids = np.random.default_rng(0).integers(0, min(n, 50), 300) * (n // min(n, 50))
    assert stable_order(ids.astype("u4"), n).tolist() == np.argsort(ids, kind="stable").tolist()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_the_first_row_that_is_not_finite(bad):
    positions = positions_of(40, dtype="f8")
    positions[[9, 30], [1, 2]] = bad
    assert extent(positions, np.dtype("f4"))[2] == 9


def test_bins_are_clamped_into_their_chunk():
    # 0.3 / 0.3 is 1, 0.3 / 0.1 is less than 3: by its bin it would belong to the chunk before
    positions = np.array([[0.3, 0.05], [0.55, 0.29]])
    assert np.floor(0.3 / 0.1) == 2
    found = bins_in_chunk(positions, np.array([1, 0]), np.array([0.1, 0.1]), np.array([3, 3]))
    assert found.tolist() == [0, 2 * 3 + 2]


def test_arrangements():
    rows = np.array([1, 2, 5, 6, 7])
    bins = arrange_bins(rows, np.array([2, 0, 2, 3, 0]), 5)
    assert (bins.rows.tolist(), bins.counts.tolist()) == ([2, 7, 1, 5, 6], [2, 0, 2, 1, 0])
    owners = np.array([0, 0, 0, 1, 1, 1, 2, 2])
    runs = arrange_runs(rows, owners)
    assert (runs.counts.tolist(), runs.owners.tolist()) == ([2, 1, 2], [0, 1, 2])
    objects = arrange_objects(rows, np.array([3, 1, 0, 3, 3, 1, 0, 1]))
    assert (objects.rows.tolist(), objects.counts.tolist()) == ([2, 6, 1, 5, 7], [2, 3])
    assert objects.owners.tolist() == [0, 1]
    place = np.array([7, 6, 5, 4, 3, 2, 1, 0])
    trees = arrange_trees(rows, owners, place, np.isin(np.arange(8), [6, 1]))
    assert (trees.rows.tolist(), trees.counts.tolist()) == ([2, 1, 5, 7, 6], [1, 1, 1, 1, 1])


def test_places_and_fragments():
    positions = np.array([[0.5, 0], [1.5, 0], [0.2, 0], [1.1, 0], [0.7, 0]])
    routed = route(positions, np.dtype("f8"), np.ones(2), np.zeros(2, int), np.array([2, 1]))
    owners = np.array([1, 0, 0, 1, 1])
    arranged = [arrange_objects(routed.rows(i), owners) for i in range(2)]
    places = places_of(routed, arranged)
    assert places.chunks.tolist() == [0, 1, 0, 1, 0]
    assert places.rows.tolist() == [1, 0, 0, 1, 2]
    table = fragment_table(arranged).take(np.arange(4)[::-1])
    found = [(getattr(table, name)[::-1].tolist()) for name in ("chunks", "fragments", "owners", "rows")]
    assert found == [[0, 0, 1, 1], [0, 1, 0, 1], [0, 1, 0, 1], [2, 0, 1, 3]]
    assert (table.starts[::-1].tolist(), table.counts[::-1].tolist()) == ([0, 1, 0, 1], [1, 2, 1, 1])


def walked(parents):
    children = {}
    for vertex, parent in enumerate(parents):
        children.setdefault(parent, []).append(vertex)
    out, stack = [], children.get(-1, [])[::-1]
    while stack:
        out.append(stack.pop())
        stack += children.get(out[-1], [])[::-1]
    return out


@pytest.mark.parametrize("seed", range(12))
def test_depth_first(seed):
    random = np.random.default_rng(seed)
    n = int(random.integers(1, 60))
    names = random.permutation(n)
    parents = np.full(n, -1)
    for i in range(1, n):
        parents[names[i]] = names[random.integers(0, i)] if random.random() > 0.1 else -1
    assert np.argsort(depth_first(parents)).tolist() == walked(parents.tolist())


def test_depth_first_of_paths_and_nothing():
    assert depth_first(np.arange(-1, 100_000)).tolist() == list(range(100_001))
    assert depth_first(np.empty(0, int)).tolist() == []


def test_cycles_are_refused():
    with pytest.raises(SelectionError, match="vertex 1 is on a cycle"):
        depth_first(np.array([-1, 2, 3, 1, 0]))
