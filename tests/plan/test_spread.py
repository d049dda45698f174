import numpy as np

from zarr_vectors_lazy.model.writing import Encoding, Grid
from zarr_vectors_lazy.plan.blocks import cut_units, spread_chunks

GRID = Grid(origin=(-3, -3), shape=(8, 8))
COORDS = np.stack(np.meshgrid(np.arange(-3, 5), np.arange(-3, 5), indexing="ij"), axis=-1).reshape(-1, 2)


def test_parts_have_about_equal_rows_and_neighbours_stay_together():
    counts = np.random.default_rng(0).integers(1, 100, len(COORDS))
    parts = spread_chunks(COORDS, counts, GRID, Encoding(), 5)
    rows = np.bincount(parts, counts, minlength=5)
    assert (np.diff(parts) >= 0).all()
    assert abs(rows - counts.sum() / 5).max() <= counts.max()


def test_a_shard_is_in_one_part():
    counts = np.random.default_rng(0).integers(1, 100, len(COORDS))
    parts = spread_chunks(COORDS, counts, GRID, Encoding(shard_shape=(3, 2)), 7)
    shards = (COORDS - GRID.origin) // (3, 2)
    assert len(np.unique(np.column_stack([shards, parts]), axis=0)) == len(np.unique(shards, axis=0)) == 12
    assert len(np.unique(parts)) > 1


def test_no_chunks_and_more_parts_than_chunks():
    assert len(spread_chunks(COORDS[:0], np.empty(0, np.int64), GRID, Encoding(), 3)) == 0
    assert set(spread_chunks(COORDS[:2], np.array([1, 9]), GRID, Encoding(shard_shape=(1, 1)), 9)) <= set(range(9))


def test_runs_end_between_units_and_stay_below_the_budget_unless_one_unit_has_more():
    units = np.array([2, 0, 2, 1, 0, 3])
    assert [run.tolist() for run in cut_units(units, 1, 3)] == [[1, 4, 3], [0, 2, 5]]
    assert [run.tolist() for run in cut_units(units, np.array([1, 9, 1, 1, 1, 1]), 3)] == [[1, 4], [3, 0, 2], [5]]
    assert [run.tolist() for run in cut_units(np.arange(5), 1, 2)] == [[0, 1], [2, 3], [4]]
    assert cut_units(np.arange(3), 1, 99)[0].tolist() == [0, 1, 2]
    assert cut_units(units[:0], 1, 3) == []
