"""Sizes, and CPU seconds of writing and reading on disk, by compressor and checksum.

``python -m benchmarks.bench_compress`` prints the table: random points with attributes, and the streamlines of a golden
store. CPU seconds of this process, the least of some rounds in which the encodings take turns.
"""

import argparse
import itertools
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import numpy as np

import zarr_vectors_lazy as zvl
from benchmarks.environment import ROOT

GOLDEN = ROOT / "tests" / "data" / "0.9-by-zarr-vectors-0.9.2" / "tracts-0.9.zarrvectors.zip"
ENCODINGS = list(itertools.product([None, "zstd", "blosc"], [False, True]))
Write = Callable[..., Any]


def random_points(rows: int) -> Write:
    """Give a writer of uniform float32 points, a float and a small whole number each."""
    random = np.random.default_rng(0)
    positions = random.uniform(0, 1000, (rows, 3)).astype("f4")
    values = {"intensity": random.random(rows, "f4"), "label": random.integers(0, 50, rows, "i4")}
    return lambda path, **how: zvl.write_points(path, positions, chunk_shape=125, vertex_attributes=values, **how)


def streamlines(folder: Path) -> Write:
    """Give a writer of the golden store's streamlines."""
    with zipfile.ZipFile(GOLDEN) as packed:
        packed.extractall(folder)
    store = zvl.open_zv(folder)
    given = dask.compute(*store[0].objects.ragged())
    return lambda path, **how: zvl.write_polylines(path, given, chunk_shape=store.chunk_shape, **how)


def measure(write: Write, rounds: int, folder: Path) -> list[tuple[float, float, float]]:
    """Megabytes, and least CPU seconds of a write and of a whole read, of each encoding."""
    best = np.full((len(ENCODINGS), 3), np.inf)
    for _ in range(rounds):
        for i, (compressor, checksum) in enumerate(ENCODINGS):
            path = folder / f"{compressor}-{checksum}"
            begun = time.process_time()
            write(path, compressor=compressor, checksum=checksum, mode="w")
            written = time.process_time()
            level = zvl.open_zv(path)[0]
            dask.compute(level.vertices, *level.attributes.values())
            read = time.process_time()
            size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file() and file.name != "zarr.json")
            best[i] = np.minimum(best[i], [size / 1e6, written - begun, read - written])
    return [(float(size), float(write_s), float(read_s)) for size, write_s, read_s in best]


def main(arguments: list[str] | None = None) -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_compress", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args(arguments)
    print("| data | compressor | checksum | MB | write CPU s | read CPU s |")
    print("| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        writers = {"random points": random_points(args.rows), "streamlines": streamlines(folder / "golden")}
        for data, write in writers.items():
            measured = measure(write, args.rounds, folder / data.replace(" ", "-"))
            for (compressor, checksum), (size, write_s, read_s) in zip(ENCODINGS, measured, strict=True):
                has = "yes" if checksum else "no"
                print(f"| {data} | {compressor} | {has} | {size:.3f} | {write_s:.2f} | {read_s:.2f} |")


if __name__ == "__main__":
    main()
