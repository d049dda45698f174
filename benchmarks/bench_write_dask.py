"""``python -m benchmarks.bench_write_dask``: memory and time of writes out of core, each case in a separate process.

The case ``dask-disk`` is Dask's own disk shuffle of as many rows of 32 bytes, without a write: what a write is compared
with. The ``-graph`` cases write a lattice, three edges a point, that run along the axes; the ``-skeleton`` cases trees
of 10,000 of its points each.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from distributed import Client

import zarr_vectors_lazy as zvl
from benchmarks.case import peak_rss
from benchmarks.environment import ROOT, versions

CASES = ("threads", "cluster", "dask-disk", "threads-graph", "cluster-graph", "threads-skeleton", "cluster-skeleton")
BLOCK = 1_000_000
SIDE = 8
PARTS = 120
TREE = 10_000
WORKERS = 2


def main() -> None:
    """Run all cases, or the one that the parent process names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_write_dask", description=__doc__)
    parser.add_argument("--points", type=float, default=5e7)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--folder", type=Path, default=None, help="of stores and temporary files")
    parser.add_argument("--run", choices=CASES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        print(json.dumps(run(args.run, int(args.points), args.folder)))
        return
    print("| case | points | most memory of a process, MiB | seconds | CPU s of the first process |")
    print("| --- | --- | --- | --- | --- |")
    for case in args.cases:
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            options = ["--run", case, "--points", str(args.points), "--folder", folder]
            command = [sys.executable, "-m", "benchmarks.bench_write_dask", *options]
            done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        print(
            f"| {case} | {args.points:.0e} | {found['mib']:.0f} | {found['seconds']:.0f} | {found['cpu']:.0f} |",
            flush=True,
        )
    print(versions("dask", "distributed", "numpy", "pandas", "pyarrow"), f"load {os.getloadavg()[0]:.1f}")


def run(case: str, points: int, folder: Path) -> dict[str, float]:
    """Measure one case in this process."""
    start, cpu = time.perf_counter(), time.process_time()
    made = {"graph": write_lattice, "skeleton": write_skeletons}.get(case.rpartition("-")[2], write)
    if case.startswith("cluster"):
        peak = on_cluster(made, points, folder)
    else:
        with dask.config.set(scheduler="threads", num_workers=WORKERS, temporary_directory=str(folder)):
            rows = made(points, folder) if case.startswith("threads") else shuffle(points)
        assert rows == points
        peak = peak_rss()
    return {"mib": peak / 2**20, "seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu}


def write(points: int, folder: Path, block: int = BLOCK, side: int = SIDE) -> int:
    """Write generated points with two attributes; return how many."""
    random = da.random.default_rng(0)
    positions = random.random((points, 3), chunks=(block, 3), dtype="f4")
    attributes = {
        "intensity": random.random(points, chunks=block, dtype="f4"),
        "kind": random.integers(0, 100, points, chunks=block, dtype="i4"),
    }
    done = zvl.write_points(folder / "store", positions, chunk_shape=1 / side, vertex_attributes=attributes)
    rows: int = done["vertex_count"]
    return rows


def write_lattice(points: int, folder: Path, block: int = BLOCK, side: int = SIDE) -> int:
    """Write a lattice with three edges a point; return how many points."""
    edge = round(points ** (1 / 3)) + 1
    positions = rows_of(da.arange(points, chunks=block), lattice_points, 3, "f4", edge)
    edges = rows_of(da.arange(3 * points, chunks=block), lattice_edges, 2, "i8", edge, points)
    done = zvl.write_graph(folder / "store", positions, edges, chunk_shape=1 / side)
    assert done["edge_count"] == 3 * points
    rows: int = done["node_count"]
    return rows


def write_skeletons(points: int, folder: Path, block: int = BLOCK, side: int = SIDE) -> int:
    """Write trees of a lattice's points; return how many points."""
    numbers = da.arange(points, chunks=block)
    positions = rows_of(numbers, lattice_points, 3, "f4", round(points ** (1 / 3)) + 1)
    edges = rows_of(numbers, tree_edges, 2, "i8")
    done = zvl.write_graph(
        folder / "store", positions, edges, kind="skeleton", object_ids=numbers // TREE, chunk_shape=1 / side
    )
    assert done["edge_count"] == points - -(-points // TREE)
    rows: int = done["node_count"]
    return rows


def rows_of(numbers: da.Array, make: Callable[..., np.ndarray], width: int, dtype: str, *args: int) -> da.Array:
    """Rows made from their numbers; some numbers may give no row."""
    made = numbers.map_blocks(make, *args, dtype=dtype, new_axis=1, meta=np.empty((0, width), dtype))
    sizes = numbers.chunks[0] if make is not tree_edges else (np.nan,) * numbers.numblocks[0]
    return da.Array(made.dask, made.name, (sizes, (width,)), dtype=dtype)


def tree_edges(numbers: np.ndarray) -> np.ndarray:
    """Edges from each point to the one before, every tenth to the fifth before; the first point of a tree has none."""
    children = numbers[numbers % TREE != 0]
    back = np.where((children % 10 == 9) & (children % TREE > 5), 5, 1)
    return np.stack([children, children - back], axis=1)


def lattice_points(numbers: np.ndarray, edge: int) -> np.ndarray:
    """Positions in the unit cube."""
    return (np.stack(np.unravel_index(numbers, (edge,) * 3), axis=1) / edge).astype("f4")


def lattice_edges(numbers: np.ndarray, edge: int, points: int) -> np.ndarray:
    """Edges from each point to the next along each axis, and from the last to the first."""
    rows, axis = numbers // 3, numbers % 3
    return np.stack([rows, (rows + edge**axis) % points], axis=1)


def on_cluster(made: Callable[[int, Path], int], points: int, folder: Path) -> int:
    """Write with two single-threaded processes; return the peak memory of the larger."""
    options = {"n_workers": WORKERS, "threads_per_worker": 1, "dashboard_address": ":0"}
    with Client(**options, local_directory=str(folder)) as client:
        assert made(points, folder) == points
        return max(client.run(peak_rss).values())


def shuffle(points: int) -> int:
    """Rows that came out of Dask's disk shuffle."""
    frame = dd.from_map(random_rows, range(points // BLOCK), meta=random_rows(0).iloc[:0])
    shuffled = frame.shuffle(on="part", npartitions=PARTS, shuffle_method="disk")
    return sum(dask.compute(*(dask.delayed(len)(part) for part in shuffled.to_delayed())))


def random_rows(block: int) -> pd.DataFrame:
    """Four numbers for each row, like the records of the write above, and the partition of each."""
    random = np.random.default_rng(block)
    frame = pd.DataFrame(random.integers(0, 2**60, (BLOCK, 4)), columns=list("abcd"))
    frame["part"] = random.integers(0, PARTS, BLOCK)
    return frame


@pytest.mark.parametrize("made", [write_lattice, write_skeletons])
def bench_write_links_from_dask(tmp_path, benchmark, made):
    rows = benchmark.pedantic(made, args=(20_000, tmp_path, 5_000, 2), rounds=1)
    assert rows == 20_000


def bench_write_from_dask(tmp_path, benchmark):
    rows = benchmark.pedantic(write, args=(20_000, tmp_path, 5_000, 2), rounds=1)
    assert rows == 20_000


if __name__ == "__main__":
    main()
