"""CPU time and requests of what a viewer asks of ``/precomputed/``, key by key.

``python -m benchmarks.bench_precomputed`` writes its stores to memory (``/dev/shm``) where there is such.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

import zarr_vectors_lazy as zvl
from zarr_vectors_lazy.convert.precomputed_level import PrecomputedLevel
from zarr_vectors_lazy.testing import counting

KEYS = 150  # of each kind, about
Keys = Callable[[PrecomputedLevel], Sequence[str]]


def write(folder: Path, points: int, paths: int) -> tuple[Path, Path]:
    """Write points of 2,000 rows a chunk with one attribute, and streamlines of 50 vertices."""
    random = np.random.default_rng(0)
    positions = random.uniform(0, 100, (points, 3)).astype("f4")
    edge = 100 / max(round((points / 2000) ** (1 / 3)), 1)
    depth = {"depth": positions[:, 2].copy()}
    zvl.write_points(folder / "points.zv", positions, chunk_shape=edge, vertex_attributes=depth)
    walks = random.uniform(20, 80, (paths, 1, 3)) + random.normal(0, 0.5, (paths, 50, 3)).cumsum(axis=1)
    lines = list(walks.astype("f4"))
    zvl.write_polylines(folder / "paths.zv", lines, chunk_shape=12.5, geometry_type="streamline")
    return folder / "points.zv", folder / "paths.zv"


def cells(kind: str) -> Keys:
    """Keys of some cells."""

    def found(level: PrecomputedLevel) -> list[str]:
        coords = level.cells[0].table.coords
        every = coords[:: max(len(coords) // KEYS, 1)]
        return [f"{kind}/cells/{'_'.join(map(str, cell))}" for cell in every.tolist()]

    return found


def skeletons(level: PrecomputedLevel) -> list[str]:
    """Keys of some skeletons."""
    segments = level.segments[1]
    return [f"skeletons/{segment}" for segment in segments[:: max(len(segments) // KEYS, 1)].tolist()]


def measure(path: Path, keys: Keys, rounds: int) -> dict[str, float]:
    """CPU milliseconds of a key, the first one and the median round's, of reading alone, and requests and bytes."""
    level = PrecomputedLevel(zvl.open_zv(path)[0]._view)
    wanted = keys(level)
    start = time.process_time()
    level.get(wanted[0])
    first = time.process_time() - start
    with counting() as counts:
        nbytes = sum(len(level.get(key) or b"") for key in wanted)
    each, fetching = [], []
    for _ in range(rounds):
        start = time.process_time()
        for key in wanted:
            level.get(key)
        each.append((time.process_time() - start) / len(wanted))
        fetching.append(_fetching(level, wanted) / len(wanted))
    return {
        "keys": len(wanted),
        "bytes": nbytes / len(wanted),
        "requests": counts.requests / len(wanted),
        "first_ms": first * 1e3,
        "cpu_ms": float(np.median(each)) * 1e3,
        "read_ms": float(np.median(fetching)) * 1e3,
    }


def _fetching(level: PrecomputedLevel, keys: Sequence[str]) -> float:
    """CPU seconds that fetching the cells takes, while keys are answered."""
    spent, raws = 0.0, level._raws

    def timed(*args: object) -> object:
        nonlocal spent
        start = time.process_time()
        found = raws(*args)  # type: ignore[arg-type]
        spent += time.process_time() - start
        return found

    level._raws = timed  # type: ignore[method-assign,assignment]
    try:
        for key in keys:
            level.get(key)
    finally:
        del level._raws  # type: ignore[method-assign]
    return spent


def run(folder: Path, points: int = 200_000, paths: int = 20_000, rounds: int = 5) -> dict[str, dict[str, float]]:
    """Measure every kind of key."""
    cloud, lines = write(folder, points, paths)
    return {
        "cell of points": measure(cloud, cells("points"), rounds),
        "cell of lines": measure(lines, cells("lines"), rounds),
        "skeleton": measure(lines, skeletons, rounds),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_precomputed", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args(arguments)
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        found = run(Path(folder), rounds=given.rounds)
    print("| key | bytes | requests | first, CPU | each, CPU | of which I/O |\n| --- | --: | --: | --: | --: | --: |")
    for name, row in found.items():
        times = " | ".join(f"{row[key]:.2f} ms" for key in ("first_ms", "cpu_ms", "read_ms"))
        print(f"| {name} | {row['bytes']:,.0f} | {row['requests']:.1f} | {times} |")


if __name__ == "__main__":
    main()
