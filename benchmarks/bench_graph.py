"""CPU time of opening a store whose metadata lists 10^6 chunks, and of building graphs on it.

``python -m benchmarks.bench_graph`` prints the table alone. The store has cells for the 27 chunks of its box only, so
that the box can be computed too.
"""

import argparse
import json
import pickle
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.environment import CACHE, ROOT, clean_environment
from benchmarks.handmade import EDGE, write_store

ROWS = 10  # vertices in each of the 27 chunks that have a cell
STEPS = ("open", "cut 27 chunks", "open + cut", "compute the box", "build level.vertices", "explain the level")
SECONDS = ("parse JSON alone", *STEPS)


def ensure(side: int, folder: Path) -> Path:
    """Return the store of ``side`` ** 3 chunks; its middle 3 x 3 x 3 chunks have cells."""
    path = folder / f"listed-{side**3}-chunks.zarrvectors"
    if not path.exists():
        middle = range(side // 2 - 1, side // 2 + 2)
        random = np.random.default_rng(0)
        cells = {
            (i, j, k): ((np.array([i, j, k]) + 0.01 + 0.98 * random.random((ROWS, 3))) * EDGE).astype("<f4").tobytes()
            for i in middle
            for j in middle
            for k in middle
        }
        write_store(path, side, cells, vertex_count=ROWS * len(cells), listed=True)
    return path


def measure(path: Path, side: int) -> dict[str, float]:
    """CPU seconds for each step, and sizes of the graphs, in a fresh process after imports."""
    import dask  # noqa: PLC0415 - the driving process needs none of these

    import zarr_vectors_lazy as zvl  # noqa: PLC0415

    with suppress(ImportError):
        import_module("distributed")  # which ``compute()`` imports if it is installed
    found: dict[str, float] = {}

    def timed(name: str, step: Callable[[], Any]) -> Any:
        start = time.process_time()
        result = step()
        found[name] = time.process_time() - start
        return result

    lo, hi = (side // 2 - 0.9) * EDGE, (side // 2 + 1.9) * EDGE
    level = timed("open", lambda: zvl.open_zv(path)[0])
    box = timed("cut 27 chunks", lambda: level.sel(bbox=((lo,) * 3, (hi,) * 3)).vertices)
    found["open + cut"] = found["open"] + found["cut 27 chunks"]
    found["box: blocks"] = box.npartitions
    found["box: pickled bytes"] = len(pickle.dumps(box))
    found["box: tasks, optimised"] = len(dict(dask.optimize(box)[0].__dask_graph__()))
    rows = timed("compute the box", box.compute)
    found["box: rows"] = len(rows)
    whole = timed("build level.vertices", lambda: level.vertices)
    found["whole: blocks"] = whole.npartitions
    found["whole: pickled bytes"] = len(pickle.dumps(whole))
    explained = timed("explain the level", level.explain)
    found["whole: requests, explained"] = explained.requests
    found["peak MiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    texts = [(path / name / "zarr.json").read_bytes() for name in (".", "0", "0/vertices")]
    timed("parse JSON alone", lambda: [json.loads(text) for text in texts])
    return found


def run(*, rounds: int = 3, side: int = 100, folder: Path = CACHE / "graph") -> dict[str, list[float]]:
    """Measure in fresh processes."""
    path = ensure(side, folder)
    samples = []
    for _ in range(rounds):
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.bench_graph", "--measure", str(path), "--side", str(side)],
            env=clean_environment(),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        samples.append(json.loads(done.stdout))
    return {name: [sample[name] for sample in samples] for name in samples[0]} | {"chunks": [float(side**3)]}


def table(found: dict[str, list[float]]) -> str:
    """CPU seconds and sizes as a table."""
    lines = [f"### Graphs on a store of {found['chunks'][0]:,.0f} chunks", "", "| step | CPU s: median (min-max) |"]
    lines += ["| --- | --- |"]
    for name in SECONDS:
        seconds = found[name]
        lines.append(f"| {name} | {statistics.median(seconds):.3f} ({min(seconds):.3f}-{max(seconds):.3f}) |")
    lines += ["", "| graph | |", "| --- | --- |"]
    lines += [f"| {name} | {found[name][0]:,.0f} |" for name in found if ": " in name or name == "peak MiB"]
    return "\n".join(lines)


def main() -> None:
    """Measure, or be the process that is measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_graph", description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=100, help="chunks along each of three axes (default: 100)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure, args.side)))
    else:
        print(table(run(rounds=args.rounds, side=args.side)))


if __name__ == "__main__":
    main()
