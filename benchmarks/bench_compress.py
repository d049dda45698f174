"""Bytes, and seconds for writing and reading, by compressor and checksum, on disk and in a bucket.

``python -m benchmarks.bench_compress`` prints the table: 10^6 random points, and as many vertices of synapses,
streamlines, skeletons and a mesh (`benchmarks.real_like`), each in 100 to 200 chunks; written, and read whole, in this
process. Of some rounds, in which the encodings take turns, the least. The bucket is `benchmarks.s3_server`, which
answers 30 ms after it was asked.
"""

import argparse
import itertools
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import numpy as np

import zarr_vectors_lazy as zvl
from benchmarks import real_like
from benchmarks.real_like import Write
from benchmarks.s3_server import running

ENCODINGS = list(itertools.product([None, "zstd", "blosc"], [False, True]))
PLACES = ("disk", "bucket")
KINDS = ("random-points", *real_like.WRITERS)
FIGURES = 5  # bytes, then wall and CPU seconds for a write and a read


def random_points(rows: int) -> Write:
    """Return a writer of uniform float32 points with a float and a small integer each, about 5,000 per chunk."""
    random = np.random.default_rng(0)
    edge = 1000 / max(1, round((rows / 5000) ** (1 / 3)))
    positions = random.uniform(0, 1000, (rows, 3)).astype("f4")
    values = {"intensity": random.random(rows, "f4"), "label": random.integers(0, 50, rows, "i4")}
    return lambda path, **how: zvl.write_points(path, positions, chunk_shape=edge, vertex_attributes=values, **how)


@contextmanager
def place(name: str, folder: Path, delay_ms: float) -> Iterator[Any]:
    """Return a function from a key to the place where it is written."""
    if name == "disk":
        yield folder.joinpath
        return
    (folder / "served").mkdir(parents=True, exist_ok=True)
    before = dict(os.environ)
    with running(folder / "served", delay_ms=delay_ms, writable=True) as server:
        os.environ |= server.client_env()
        try:
            yield server.url
        finally:
            os.environ.clear()
            os.environ |= before


def measure(write: Write, path: Any, compressor: str | None, checksum: bool) -> list[float]:
    """Write and read once."""
    clocks = [(time.perf_counter(), time.process_time())]
    write(path, compressor=compressor, checksum=checksum)
    clocks.append((time.perf_counter(), time.process_time()))
    level = zvl.open_zv(path)[0]
    links = [level.links(0)] if 0 in level.deltas else []
    dask.compute(level.vertices, *level.attributes.values(), *links)
    clocks.append((time.perf_counter(), time.process_time()))
    return [zvl.open_zv(path).cost().nbytes / 1e6, *np.diff(clocks, axis=0).ravel().tolist()]


def table(writers: dict[str, Write], args: argparse.Namespace, folder: Path) -> Iterator[list[str]]:
    """Rows of the table."""
    for data, write in writers.items():
        best = {name: np.full((len(ENCODINGS), FIGURES), np.inf) for name in args.places}
        for name in args.places:
            with place(name, folder, args.delay_ms) as where:
                measure(write, where(f"{data}-warm"), None, False)
                for turn, (i, encoding) in itertools.product(range(args.rounds), enumerate(ENCODINGS)):
                    figures = measure(write, where(f"{data}-{i}-{turn}"), *encoding)
                    best[name][i] = np.minimum(best[name][i], figures)
        for i, (compressor, checksum) in enumerate(ENCODINGS):
            cells = [f"{best[args.places[0]][i][0]:.1f}"]
            for name in args.places:
                _, write_s, write_cpu_s, read_s, read_cpu_s = best[name][i]
                cells += [f"{write_s:.2f} ({write_cpu_s:.2f})", f"{read_s:.2f} ({read_cpu_s:.2f})"]
            yield [data, str(compressor), "yes" if checksum else "no", *cells]


def main(arguments: list[str] | None = None) -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_compress", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="vertices of each kind (10^6)")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each encoding (2)")
    parser.add_argument("--data", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--places", nargs="+", choices=PLACES, default=list(PLACES))
    parser.add_argument("--delay-ms", type=float, default=30, help="between a request and its answer (30)")
    args = parser.parse_args(arguments)
    head = [f"{name}, {work} s (CPU)" for name in args.places for work in ("write", "read")]
    head = ["data", "compressor", "checksum", "MB", *head]
    print(f"| {' | '.join(head)} |\n| {' | '.join(['---'] * len(head))} |")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kinds = {"random-points": lambda rows, _: random_points(rows), **real_like.WRITERS}
        writers = {name: kinds[name](args.rows, folder / "golden") for name in args.data}
        for row in table(writers, args, folder):
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
