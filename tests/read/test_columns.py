"""How chunks are cut into the blocks of vertices and attributes."""

import dask
import numpy as np

import zarr_vectors_lazy as zvl


def test_blocks_of_a_selection_hold_no_more_than_is_known_of_their_chunks(tmp_path):
    """Chunks of 1000 rows beside many of 1: what chunks have on average says nothing of them."""
    x = np.concatenate([np.repeat(np.arange(10), 1000), np.arange(10, 500)]) + 0.5
    positions = np.stack([x, x * 0], axis=1).astype("f4")
    zvl.write_points(tmp_path / "points", positions, chunk_shape=1.0, vertex_attributes={"intensity": x})
    with dask.config.set({"array.chunk-size": "16 kB"}):
        level = zvl.open_zv(tmp_path / "points", chunks="auto")[0]
        parts = [level, level.sel(x=slice(0.2, 300.2)), level.sel(where=lambda intensity: intensity > 0)]
        blocks = [dask.compute(*part.vertices.to_delayed().reshape(-1)) for part in parts]
    assert [sum(map(len, of_part)) for of_part in blocks] == [10_490, 10_290, 10_490]
    for of_part in blocks:
        assert max(map(len, of_part)) == 2000  # of 8 bytes
        assert len(of_part) == 6


def test_rows_of_a_block_of_one_chunk_are_chosen_by_one_task_without_parts(tmp_path):
    """Dask walks through the parts of a task each time that it runs one."""
    x = np.arange(100) + 0.5
    zvl.write_points(tmp_path / "points", np.stack([x, x * 0], axis=1), chunk_shape=10.0, vertex_attributes={"at": x})
    level = zvl.open_zv(tmp_path / "points")[0].sel(x=slice(13, 57), where={"at": (20, None)})
    (vertices,) = dask.optimize(level.vertices)
    tasks = {key: task for key, task in dict(vertices.dask).items() if str(key[0]).startswith("zv-choose")}
    assert len(tasks) == 5
    assert {task.func.__name__ for task in tasks.values()} == {"choose_alone"}
    assert vertices.compute()[:, 0].tolist() == x[20:57].tolist()
    assert level.vertices.persist(scheduler="sync").compute().tolist() == vertices.compute().tolist()
