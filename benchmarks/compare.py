"""This package compared with another checkout of it: CPU time of every kind of work, by public names alone.

``python -m benchmarks.compare OLD_CHECKOUT`` prints a table in about ten minutes; ``--only write`` the lines that begin
so. Stores are made once, by this checkout, where temporary files go (``TMPDIR``). Each measurement is a process of its
own: one call, then the CPU time of the next ones, on average. The checkouts take turns, and the best round counts.
"""

import argparse
import gc
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import dask.array as da
import numpy as np

import zarr_vectors_lazy as zvl

ROOT = Path(__file__).resolve().parent.parent
LEAST, MOST = 0.15, 10  # CPU seconds, and calls, that a measurement takes
GRID = {"chunk_shape": (100,) * 3, "bin_shape": (25,) * 3}
BOX = ((100.0,) * 3, (450.0,) * 3)
TREES = GRID | {"kind": "skeleton"}
WORKS = """
open = [level('points').chunk_count for _ in range(20)]
vertices, auto = level('points', chunks='auto').vertices.compute()
attributes = da.compute(*level('points').attributes.values())
box = level('points').sel(bbox=BOX).vertices.compute()
within = level('points').within(kept('points')[:200], 9.0).vertices.compute()
edges, paths = level('lines').edges.compute()
edges, box of a graph = level('graph').sel(bbox=BOX).edges.compute()
faces = level('mesh').faces.compute()
ragged = da.compute(*level('lines').objects.ragged())
objects, one = level('lines').objects[7].compute()
read_points = zvl.read_points('points', attribute_names='all')
read_polylines = zvl.read_polylines('lines')
read_graph, skeletons = zvl.read_graph('trees')
read_mesh = zvl.read_mesh('mesh')
read 0.7, paths = zvl.read_polylines('tracts-0.7')
to_file, Parquet = level('points').to_file(out / 'points.parquet')
write_points = zvl.write_points(out / 's', kept('points'), vertex_attributes={'depth': kept('points')[:, 2]}, **GRID)
write_polylines = zvl.write_polylines(out / 's', list(kept('lines')), **GRID)
write_graph = zvl.write_graph(out / 's', kept('points'), kept('edges'), **GRID)
write_mesh = zvl.write_mesh(out / 's', kept('mesh'), kept('faces'), **GRID)
write from Dask, graph = zvl.write_graph(out / 's', lazy('points'), lazy('edges'), **GRID)
write from Dask, trees = zvl.write_graph(out / 's', lazy('points'), lazy('parents'), object_ids=lazy('ids'), **TREES)
write from Dask, mesh = zvl.write_mesh(out / 's', lazy('mesh'), lazy('faces'), **GRID)
save, box of points = level('points').sel(bbox=BOX).save(out / 's')
migrate = zvl.migrate('tracts-0.7', out / 's')
shard = zvl.shard(out / 'points', shard_shape=4)
build_pyramid, points = zvl.build_pyramid(out / 'points', factors=[2, 2])
build_pyramid, lines = zvl.build_pyramid(out / 'lines', factors=[2, 2])
build_pyramid, skeletons = zvl.build_pyramid(out / 'trees', factors=[2, 2])
build_pyramid, mesh = zvl.build_pyramid(out / 'mesh', factors=[2, 2])
"""


def kept(name):
    return np.load(f"{name}.npy")


def lazy(name):
    return da.from_array(kept(name), chunks=(len(kept(name)) // 6 + 1, -1)[: kept(name).ndim])


def level(name, **options):
    return zvl.open_zv(name, **options)[0]


def make(folder: Path, rows: int) -> None:
    """Arrays and stores of about so many vertices in 512 chunks, and those of format 0.7 that the tests have."""
    random, side, each = np.random.default_rng(0), int(rows**0.5), np.arange(rows)
    children = each[each % 1000 != 0]
    points = random.uniform(0, 799, (rows, 3)).astype("f4")
    points = points[np.lexsort(np.floor(points / 100).T)]
    walks = points[: rows // 50, None] + random.normal(0, 4, (rows // 50, 50, 3)).cumsum(axis=1)
    u, v = np.meshgrid(*[np.linspace(0, 799, side)] * 2, indexing="ij")
    at = np.arange(side * side).reshape(side, side)
    a, b, c, d = (corner.ravel() for corner in (at[:-1, :-1], at[1:, :-1], at[:-1, 1:], at[1:, 1:]))
    arrays = {
        "points": points,
        "lines": walks.clip(0, 799).astype("f4"),
        "edges": np.concatenate([np.stack([each[:-k], each[k:]], axis=1) for k in (1, 7)]),
        "parents": np.stack([children, children - np.where(children % 10 == 9, 5, 1)], axis=1),
        "ids": each // 1000,
        "mesh": np.stack([u, v, 400 + 100 * np.sin(u / 50) * np.cos(v / 70)], axis=-1).reshape(-1, 3).astype("f4"),
        "faces": np.concatenate([np.stack([a, b, c], axis=1), np.stack([b, d, c], axis=1)]),
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    zvl.write_points(folder / "points", points, vertex_attributes={"depth": points[:, 2], "kind": each % 9}, **GRID)
    zvl.write_polylines(folder / "lines", list(arrays["lines"]), **GRID)
    zvl.write_graph(folder / "graph", points, arrays["edges"], **GRID)
    zvl.write_graph(folder / "trees", points, arrays["parents"], object_ids=arrays["ids"], **TREES)
    zvl.write_mesh(folder / "mesh", arrays["mesh"], arrays["faces"], **GRID)
    for packed in (ROOT / "tests/data/0.7-by-zarr-vectors-0.2.0").glob("*.zip"):
        shutil.unpack_archive(packed, folder / packed.name.removesuffix(".zarrvectors.zip"))


def measure(work: str) -> float:
    """CPU seconds of a call, on average of some after a first one; the stores are in this folder."""
    spent = []
    while sum(spent[1:]) < LEAST and len(spent) < MOST:
        with tempfile.TemporaryDirectory(dir=".") as folder:
            out = Path(folder)
            for name in re.findall(r"out / '(\w+)'", work):
                if Path(name).exists():  # it is changed in place
                    shutil.copytree(name, out / name)
            start = time.process_time()
            eval(work, globals() | {"out": out})
            spent.append(time.process_time() - start)
        gc.freeze()  # or some call, early or late, would pass over all that was imported
    return sum(spent[1:]) / len(spent[1:])


def apart(work: str, stores: Path, checkout: Path) -> float:
    """Measure in a process of its own; NaN, and why, if the checkout cannot do it."""
    env = {**os.environ, "PYTHONPATH": str(checkout.resolve()), "DASK_SCHEDULER": "sync", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-P", __file__, "--measure", work]
    done = subprocess.run(command, env=env, cwd=stores, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{checkout}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
    return math.nan if done.returncode else float(done.stdout)


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path, help="another checkout")
    parser.add_argument("--only", nargs="+", default=[""], help="works that begin with one of these")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=300_000, help="vertices of a store (default: 300,000)")
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        make(stores := Path(folder), args.rows)
        print("| work | old, CPU s | new | ratio |", "| --- " * 4 + "|", sep="\n")
        for name, work in (line.split(" = ", 1) for line in WORKS.strip().splitlines()):
            if name.startswith(tuple(args.only)):
                rounds = [[apart(work, stores, side) for side in (args.old, ROOT)] for _ in range(args.rounds)]
                old, new = np.min(rounds, axis=0)
                print(f"| {name} | {old:.4f} | {new:.4f} | {new / old:.2f} |", flush=True)


if __name__ == "__main__":
    print(measure(sys.argv[2])) if sys.argv[1:2] == ["--measure"] else main()
