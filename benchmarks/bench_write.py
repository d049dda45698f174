"""Writing points, polylines and a mesh from .npy files: this package against the reference.

``python -m benchmarks.bench_write`` prints the table. Every measurement is a process of its own, the two writers take
turns, the input is memory-mapped and in the page cache, and both write 512 chunks with the same compressor, this
package also with checksums.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.case import new_folder, peak_rss, reset_peak, status_bytes
from benchmarks.environment import CACHE, ROOT, clean_environment, reference_python

EXTENT, CHUNK = 1000.0, 125.0
WORKS = ("points", "polylines", "mesh")
WRITERS = {"reference": {}, "ours": {"checksum": False}, "ours, checksums": {"checksum": True}}
STEPS = 100  # vertices of a polyline
FUNCTIONS = {
    "points": ("zarr_vectors.types.points", "write_points"),
    "polylines": ("zarr_vectors.types.polylines", "write_polylines"),
    "mesh": ("zarr_vectors.types.meshes", "write_mesh"),
}


def ensure(work: str, rows: int, folder: Path) -> list[Path]:
    """Make the input once: positions, and the corners of faces."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{work}-{rows}.npy", folder / f"{work}-{rows}-faces.npy"][: 2 if work == "mesh" else 1]
    random = np.random.default_rng(0)
    if not paths[0].exists():
        np.save(paths[0], _positions(work, rows, random))
        if work == "mesh":
            side = int(rows**0.5)
            corner = np.arange(side * side).reshape(side, side)
            square = [
                corner[:-1, :-1],
                corner[1:, :-1],
                corner[1:, 1:],
                corner[:-1, :-1],
                corner[1:, 1:],
                corner[:-1, 1:],
            ]
            np.save(paths[1], np.stack(square, axis=-1).reshape(-1, 3))
    return paths


def _positions(work: str, rows: int, random: np.random.Generator) -> np.ndarray:
    if work == "points":
        return random.uniform(0, EXTENT, (rows, 3)).astype("f4")
    if work == "polylines":
        starts = random.uniform(0, EXTENT, (rows // STEPS, 1, 3))
        walks = starts + np.cumsum(random.normal(0, 2, (rows // STEPS, STEPS, 3)), axis=1)
        return np.clip(walks, 0, EXTENT - 1e-3).reshape(-1, 3).astype("f4")
    side = int(rows**0.5)
    u, v = np.meshgrid(*(np.linspace(0, EXTENT - 1e-3, side),) * 2, indexing="ij")
    height = EXTENT / 2 * (1 + 0.9 * np.sin(u / 150) * np.cos(v / 150))
    return np.stack([u, v, height], axis=-1).reshape(-1, 3).astype("f4")


def measure(job: dict[str, Any]) -> dict[str, float]:
    """Write once, in this process; seconds, CPU seconds and growth of memory."""
    work, options = job["work"], dict(job["options"])
    module, name = FUNCTIONS[work] if job["writer"] == "reference" else ("zarr_vectors_lazy", FUNCTIONS[work][1])
    write = getattr(import_module(module), name)
    arrays = [np.load(path, mmap_mode="r") for path in job["input"]]
    _warm(write, Path(job["out"]).with_name("warm"), work)
    given = [np.split(arrays[0], len(arrays[0]) // STEPS)] if work == "polylines" else arrays
    for array in arrays:
        array.sum()
    before = reset_peak()
    private = status_bytes("RssAnon")
    cpu, start = time.process_time(), time.perf_counter()
    write(job["out"], *given, chunk_shape=(CHUNK,) * 3, compressor=job["compressor"], **options)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "grown_mb": (peak_rss() - before) / 1e6,
        "private_mb": private / 1e6,
    }


def _warm(write: Any, out: Path, work: str) -> None:
    """Write a few rows, so that late imports are done."""
    few = np.array([[1.0, 1, 1], [2, 1, 1], [1, 2, 1]])
    given = {"points": [few], "polylines": [[few]], "mesh": [few, np.array([[0, 1, 2]])]}[work]
    write(str(out), *given, chunk_shape=(CHUNK,) * 3)


def run(
    works: list[str],
    sizes: list[int],
    compressors: list[str | None],
    *,
    rounds: int,
    folder: Path,
    writers: dict[str, Path],
) -> list[dict[str, Any]]:
    """Measure every combination; the writers take turns.

    Parameters
    ----------
    writers
        The Python that runs each.
    """
    rows = []
    for work, size, compressor in product(works, sizes, compressors):
        paths = [str(path) for path in ensure(work, size, folder)]
        case = {"work": work, "rows": size, "compressor": compressor}
        samples: dict[str, list[dict[str, float]]] = {name: [] for name in writers}
        for _ in range(rounds):
            for name, python in writers.items():
                places = {"input": paths, "out": str(new_folder(folder) / "store")}
                job = case | places | {"writer": name.split(",")[0], "options": WRITERS[name]}
                samples[name].append(_apart(python, job))
        rows += [case | {"writer": name, "samples": found} for name, found in samples.items()]
    return rows


def _apart(python: Path, job: dict[str, Any]) -> dict[str, float]:
    done = subprocess.run(
        [python, "-m", "benchmarks.bench_write", "--job", json.dumps(job)],
        cwd=ROOT,
        env=clean_environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{job['writer']} failed on {job['work']}:\n{done.stderr[-2000:]}")
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def table(rows: list[dict[str, Any]]) -> str:
    """Medians, and how many times faster than the reference."""
    lines = [
        "| work | rows | compressor | writer | median s | min s | CPU s | grown MB | times faster |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    base: dict[tuple[Any, ...], float] = {}
    for row in rows:
        key = (row["work"], row["rows"], row["compressor"])
        median = {name: statistics.median(s[name] for s in row["samples"]) for name in row["samples"][0]}
        base.setdefault(key, median["seconds"])
        lines.append(
            f"| {row['work']} | {row['rows']} | {row['compressor']} | {row['writer']} | {median['seconds']:.2f} | "
            f"{min(s['seconds'] for s in row['samples']):.2f} | {median['cpu_seconds']:.2f} | "
            f"{median['grown_mb']:.0f} | {base[key] / median['seconds']:.1f} |"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Measure, and print the table; with ``--job``, one measurement as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_write", description=__doc__)
    parser.add_argument("--job", help="measure this in this process (JSON)")
    parser.add_argument("--work", nargs="+", choices=WORKS, default=list(WORKS))
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000], help="10^7 of points alone")
    parser.add_argument("--compressor", nargs="+", choices=["none", "zstd"], default=["none", "zstd"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--no-reference", action="store_true")
    parser.add_argument("--reference-python", type=Path, help="an environment that has the reference package")
    parser.add_argument("--folder", type=Path, default=CACHE / "write")
    args = parser.parse_args(arguments)
    if args.job:
        print(json.dumps(measure(json.loads(args.job))))
        return
    writers = {name: Path(sys.executable) for name in WRITERS if name != "reference"}
    if not args.no_reference:
        writers = {"reference": args.reference_python or reference_python()} | writers
    compressors = [None if name == "none" else name for name in args.compressor]
    rows: list[dict[str, Any]] = []
    for work in args.work:
        sizes = args.rows if work == "points" else args.rows[:1]
        rows += run([work], sizes, compressors, rounds=args.rounds, folder=args.folder, writers=writers)
    print(table(rows))


if __name__ == "__main__":
    main()
