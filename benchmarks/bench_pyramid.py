"""Building two coarser levels: this package with one thread, two threads and clusters, against the reference.

``python -m benchmarks.bench_pyramid`` prints the table; ``--linked`` that of every geometry over the same positions,
``--growth`` the same with an eighth of the vertices in an eighth of the chunks too. Every measurement is a process
of its own (clusters have more, of one thread each), on a copy of a store that is made before the clock starts;
builders take turns.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.case import WARM_NBYTES, new_folder, peak_rss, reset_peak, warm_memory
from benchmarks.environment import CACHE, ROOT, clean_environment, reference_python
from benchmarks.s3_server import running

SIDE, CHUNK, BIN = 8, 100.0, 25.0  # chunks along each axis, and edges
FULL = 2000  # vertices of a chunk, on average, of every geometry
FACTORS = [(2, 1), (2, 1)]
STEPS = 50  # vertices of a polyline
BUILDERS = {
    "reference": "",
    "ours, 1 worker": "sync 1",
    "ours, 2 threads": "threads 2",
    "ours, cluster of 1": "cluster 1",
    "ours, cluster of 2": "cluster 2",
}
"""What each runs on, nothing for the reference."""
KEPT = "ours, 1 worker, chunks kept"
"""One worker too, and chunks do not grow with their bins."""
WALKED = ("walked points", "polylines", "skeletons", "graph", "mesh")
"""Geometries over the same positions, those of random walks."""
MOST = {"polylines": 2.0, "skeletons": 5.0, "graph": 5.0, "mesh": 5.0}
"""Times of points alone that each may take."""


def ensure(work: str, rows: int, folder: Path, side: int | None = None) -> Path:
    """Make the store once: uniform points with an attribute, or a geometry over random walks."""
    import zarr_vectors_lazy as zvl  # noqa: PLC0415  the reference's environment has no such package

    side = side or SIDE
    path = folder / f"{work.replace(' ', '-')}-{rows}-{side}.zarrvectors"
    if path.exists():
        return path
    random, unfinished = np.random.default_rng(0), folder / f"unfinished-{path.name}"
    shutil.rmtree(unfinished, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {"chunk_shape": CHUNK, "bin_shape": BIN, "compressor": None, "checksum": False}
    if work == "points":
        positions = random.random((rows, 3), dtype=np.float32) * np.float32(side * CHUNK)
        values = {"intensity": random.random(rows, dtype=np.float32)}
        zvl.write_points(unfinished, positions, vertex_attributes=values, **options)
    else:
        starts = random.random((rows // STEPS, 1, 3)) * side * CHUNK
        walks = starts + np.cumsum(random.normal(0, 8, (rows // STEPS, STEPS, 3)), axis=1)
        positions = np.clip(walks, 0, side * CHUNK - 0.1).astype("f4").reshape(-1, 3)
        _write_walks(work, unfinished, positions, options)
    unfinished.rename(path)
    return path


def _write_walks(work: str, path: Path, positions: Any, options: dict[str, Any]) -> None:
    """Write random walks of `STEPS` vertices as one geometry."""
    import zarr_vectors_lazy as zvl  # noqa: PLC0415

    row = np.arange(len(positions))
    step = row % STEPS

    def onward(*ahead: int) -> Any:
        """Rows, and rows that are so many steps ahead in the same walk."""
        first = row[step + max(ahead) < STEPS]
        return np.stack([first, *(first + n for n in ahead)], axis=1)

    if work == "walked points":
        zvl.write_points(path, positions, **options)
    elif work == "polylines":
        zvl.write_polylines(path, (positions, np.arange(0, len(positions) + 1, STEPS)), **options)
    elif work == "skeletons":
        parents = row - np.minimum(np.random.default_rng(1).integers(1, 4, len(row)), step)
        edges = np.stack([row, parents], axis=1)[step > 0]
        zvl.write_graph(path, positions, edges, kind="skeleton", object_ids=row // STEPS, **options)
    elif work == "graph":
        zvl.write_graph(path, positions, np.concatenate([onward(1), onward(7)]), **options)
    else:
        zvl.write_mesh(path, positions, np.concatenate([onward(1, 2), onward(3, 1)]), **options)


def measure(job: dict[str, Any]) -> dict[str, float]:
    """Build once; seconds, CPU seconds of all processes, greatest memory of a process, requests.

    A first build, of a few points on disk, imports what is imported late; memory is warm, as `warm_memory` says. The
    processes of a cluster live on from the first build to the one that is measured.
    """
    out, workers, url = Path(job["out"]), job["workers"], None
    for name in ("warm", "store"):  # before the server reads what it serves
        shutil.copytree(job[name], out / name)
    with ExitStack() as stack:
        if job["delay_ms"] is not None:
            server = stack.enter_context(running(out, delay_ms=job["delay_ms"], writable=True))
            os.environ |= server.client_env()
            url = server.url("store")
        client = _scheduler(stack, workers) if workers else None
        for name in ("warm", "store"):
            warm_memory(WARM_NBYTES)
            if client:
                client.run(warm_memory, WARM_NBYTES // 2)
            path = url if url and name == "store" else str(out / name)
            measured = _ours(path, client, job["scale"]) if workers else _reference(path)
        if url:
            measured["requests"] = server.counts()["requests"]
    return measured


def _reference(path: str) -> dict[str, float]:
    from zarr_vectors.multiresolution.coarsen import build_pyramid  # noqa: PLC0415  in its own environment only

    reset_peak()
    cpu, start = time.process_time(), time.perf_counter()
    build_pyramid(path, factors=FACTORS)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_mb": peak_rss() / 1e6, "requests": float("nan")}


def _scheduler(stack: ExitStack, workers: str) -> Any:
    """Let Dask use this thread, several threads, or a cluster of single-threaded processes, and return its client."""
    import dask  # noqa: PLC0415  the reference's environment has no such package
    from distributed import Client, LocalCluster  # noqa: PLC0415

    kind, _, number = workers.partition(" ")
    if kind != "cluster":
        stack.enter_context(dask.config.set(scheduler=kind, num_workers=int(number)))
        return None
    dask.config.set({"distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": 10**9})  # docs/reading/cluster.md
    options = {"n_workers": int(number), "threads_per_worker": 1, "dashboard_address": None}
    return stack.enter_context(Client(stack.enter_context(LocalCluster(**options))))


def _ours(path: str, client: Any, scale: int | None) -> dict[str, float]:
    import zarr_vectors_lazy as zvl  # noqa: PLC0415  as above
    from zarr_vectors_lazy.storage.requests import snapshot  # noqa: PLC0415

    if client:
        client.run(reset_peak)
    reset_peak()
    before = _requests(client, snapshot)
    cpu, start = _cpu(client), time.perf_counter()
    zvl.build_pyramid(path, factors=FACTORS, chunk_scale_factors=scale)
    seconds, cpu_seconds = time.perf_counter() - start, _cpu(client) - cpu
    peaks = [peak_rss(), *(client.run(peak_rss).values() if client else ())]
    requests = _requests(client, snapshot) - before
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_mb": max(peaks) / 1e6, "requests": requests}


def _cpu(client: Any) -> float:
    """CPU seconds of this process and the processes of the cluster."""
    return time.process_time() + (sum(client.run(time.process_time).values()) if client else 0.0)


def _requests(client: Any, snapshot: Any) -> int:
    here = snapshot().requests
    return here + sum(counts.requests for counts in client.run(snapshot).values()) if client else here


def run(
    works: list[tuple[str, int, int]],
    *,
    rounds: int,
    folder: Path,
    pythons: dict[str, Path],
    delay_ms: float | None = None,
) -> list[dict[str, Any]]:
    """Measure every combination; the builders take turns.

    Parameters
    ----------
    works
        Kind of store, number of vertices, and chunks along each axis, of each.
    delay_ms
        Of an S3 server that holds the store; None: on disk.
    pythons
        The Python that runs each builder.
    """
    rows = []
    for work, size, side in works:
        warm, store = ensure(work, 2000, folder, 2), ensure(work, size, folder, side)
        samples: dict[str, list[dict[str, float]]] = {name: [] for name in pythons}
        for _ in range(rounds):
            for name, python in pythons.items():
                places = {"warm": str(warm), "store": str(store), "out": str(new_folder(folder))}
                built = {"workers": BUILDERS.get(name, "sync 1"), "scale": 1 if name == KEPT else None}
                job = {**built, "delay_ms": delay_ms, **places}
                samples[name].append(_apart(python, job))
        rows += [{"work": work, "rows": size, "builder": name, "samples": found} for name, found in samples.items()]
    return rows


def _apart(python: Path, job: dict[str, Any]) -> dict[str, float]:
    done = subprocess.run(
        [python, "-m", "benchmarks.bench_pyramid", "--job", json.dumps(job)],
        cwd=ROOT,
        env=clean_environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{job} failed:\n{done.stderr[-2000:]}")
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def table(rows: list[dict[str, Any]]) -> str:
    """Medians; how many times faster than the reference, without it than one worker (best), and more, as the heads say.

    "Times as long as points" compares best times; the eighth is an eighth of the vertices in an eighth of the chunks.
    """
    lines = [
        "| work | vertices | builder | median s | min s | CPU s | peak MB | requests | times faster | "
        "times as long as points | times the CPU of an eighth |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    base: dict[tuple[str, int], float] = {}
    points: dict[tuple[str, int], float] = {}
    cpu = {(row["work"], row["builder"], row["rows"]): min(s["cpu_seconds"] for s in row["samples"]) for row in rows}
    for row in rows:
        median = {name: statistics.median(s[name] for s in row["samples"]) for name in row["samples"][0]}
        best, of = min(s["seconds"] for s in row["samples"]), (row["builder"], row["rows"])
        alike = any(other["builder"] == "reference" for other in rows)
        if row["builder"] == ("reference" if alike else "ours, 1 worker"):
            base[row["work"], row["rows"]] = median["seconds"] if alike else best
        slowest = base.get((row["work"], row["rows"]))
        times = "" if slowest is None else f"{slowest / (median['seconds'] if alike else best):.2f}"
        if row["work"] == "walked points":
            points[of] = best
        eighth = cpu.get((row["work"], row["builder"], row["rows"] // 8))
        grown = "" if eighth is None else f"{cpu[row['work'], row['builder'], row['rows']] / eighth:.1f}"
        alone = f"{best / points[of]:.1f}" if of in points else ""
        requests = "" if np.isnan(median["requests"]) else f"{median['requests']:.0f}"
        lines.append(
            f"| {row['work']} | {row['rows']} | {row['builder']} | {median['seconds']:.2f} | "
            f"{best:.2f} | {median['cpu_seconds']:.2f} | {median['peak_mb']:.0f} | {requests} | {times} | {alone} | "
            f"{grown} |"
        )
    return "\n".join(lines)


def linked_works(sizes: list[int], side: int = 0, *, growth: bool = False) -> list[tuple[str, int, int]]:
    """Every geometry over the same positions, with that many vertices and with an eighth of them."""
    works = []
    for size in sizes:
        along = side or max(2, int((size / FULL) ** (1 / 3) + 1e-9))
        both = [(size // 8, max(1, along // 2)), (size, along)] if growth else [(size, along)]
        works += [(work, *of) for of in both for work in WALKED]
    return works


def verdicts(rows: list[dict[str, Any]]) -> str:
    """What was measured for these rows, its limit, and whether it passes: best seconds, for growth CPU seconds."""
    best = {(row["work"], row["rows"], row["builder"]): row["samples"] for row in rows}
    of = {key: min(s["seconds"] for s in samples) for key, samples in best.items()}
    cpu = {key: min(s["cpu_seconds"] for s in samples) for key, samples in best.items()}
    one, alone, two, threads = "ours, 1 worker", "ours, cluster of 1", "ours, cluster of 2", "ours, 2 threads"
    measured: list[tuple[str, float, float, bool]] = []  # what, measured, limit, whether more is better
    for (work, size, builder), seconds in of.items():
        name, of_one = f"{work}, {size} vertices", of.get((work, size, one))
        if builder == one and (points := of.get(("walked points", size, one))) and work in MOST:
            measured.append((f"{name}: times as long as points alone", seconds / points, MOST[work], False))
        if builder == one and (eighth := cpu.get((work, size // 8, one))):
            measured.append((f"{name}: times the CPU of an eighth", cpu[work, size, one] / eighth, 10, False))
        if of_one and builder == "reference" and work == "polylines":
            measured.append((f"{name}: times faster than the reference", seconds / of_one, 8, True))
        if work != "points":
            continue
        if builder == two and (of_alone := of.get((work, size, alone))):
            measured.append((f"{name}: two workers, times faster than one", of_alone / seconds, 1.5, True))
        if builder == threads and of_one:
            measured.append((f"{name}: two threads, times faster than one", of_one / seconds, 1.0, True))
        if builder == KEPT and of_one:
            measured.append((f"{name}: grown chunks, times faster than kept", seconds / of_one, 1.3, True))
    lines = ["| what | measured | limit | result |", "| --- | --- | --- | --- |"]
    for name, value, limit, more in measured:
        fine = value >= limit if more else value <= limit
        lines.append(f"| {name} | {value:.2f} | {'>=' if more else '<='} {limit:g} | {'passes' if fine else 'FAILS'} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Measure, and print the table and each limit beside what was measured; with ``--job``, one measurement as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_pyramid", description=__doc__)
    parser.add_argument("--job", help="measure this in this process (JSON)")
    parser.add_argument("--points", type=int, nargs="*", default=[1_000_000, 10_000_000])
    parser.add_argument("--polylines", type=int, nargs="*", default=[1_000_000], help="numbers of vertices, 50 a line")
    parser.add_argument("--linked", type=int, nargs="*", default=[], help="numbers of vertices of every geometry")
    parser.add_argument("--growth", action="store_true", help="with --linked: an eighth in an eighth of the chunks too")
    parser.add_argument("--side", type=int, default=0, help="chunks along each axis, of 100; 8 of points and polylines")
    parser.add_argument("--builders", nargs="*", default=None, choices=[*BUILDERS, KEPT])
    parser.add_argument("--delay-ms", type=float, help="build in a bucket whose server answers so late, not on disk")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-reference", action="store_true")
    parser.add_argument("--reference-python", type=Path, help="an environment that has the reference package")
    parser.add_argument("--folder", type=Path, default=CACHE / "pyramid")
    args = parser.parse_args(arguments)
    if args.job:
        print(json.dumps(measure(json.loads(args.job))))
        return
    builders = args.builders or [*BUILDERS, *([] if args.linked else [KEPT])]
    pythons = {name: Path(sys.executable) for name in builders if name != "reference"}
    if not args.no_reference and "reference" in builders:
        pythons = {"reference": args.reference_python or reference_python()} | pythons
    works = linked_works(args.linked, args.side, growth=args.growth)
    if not args.linked:
        works += [("points", size, args.side or SIDE) for size in args.points]
        works += [("polylines", size, args.side or SIDE) for size in args.polylines]
    rows = run(works, rounds=args.rounds, folder=args.folder.resolve(), pythons=pythons, delay_ms=args.delay_ms)
    print(table(rows))
    print(f"\n{verdicts(rows)}")


if __name__ == "__main__":
    main()
