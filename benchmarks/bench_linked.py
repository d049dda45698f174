"""Linked geometry: this package against the reference, with 30 ms latency, as data grow, and against tractogram files.

``python -m benchmarks.bench_linked`` prints all tables; ``--only disk s3 growth anchors large`` some of them. Stores of
the first two are written by the reference, the others by this package. Every measurement is a process of its own that
takes the best of some calls after a first one; readers take turns, and a ratio is that of the bests.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.case import WARM_NBYTES, peak_rss, reset_peak, warm_memory
from benchmarks.environment import CACHE, ROOT, clean_environment, reference_python
from benchmarks.s3_server import running

EDGE, BIN, SIDE = 100.0, 25.0, 8  # edges of a chunk and of a bin, and chunks along an axis at scale 1
BOX = ((100.0,) * 3, (250.0,) * 3)
STEPS, NODES = 50, 600  # vertices of a streamline, of a skeleton
Data = dict[str, Any]

TABLE = {  # by task: the store, and the largest share of the reference's time that it may take
    "read_polylines": ("lines", 0.5),
    "ragged": ("lines", 0.6),
    "edges": ("lines", 0.5),
    "100 objects": ("lines", 0.7),
    "one object": ("lines", 0.5),
    "box": ("lines", 0.3),
    "read_graph": ("graph", 0.3),
    "read_graph, skeletons": ("skeletons", 0.5),
    "read_mesh": ("mesh", 0.12),
    "read_mesh, small chunks": ("surface", 0.5),
    "read_points": ("points", 1.0),
}
BEHIND = ("read_polylines", "read_graph", "read_graph, skeletons", "read_mesh")
GROWTH = {
    "lines": ("edges", "ragged", "read_polylines"),
    "graph": ("edges", "read_graph"),
    "skeletons": ("edges", "read_graph"),
    "mesh": ("faces", "read_mesh"),
}


def make(kind: str, scale: int = 1) -> Data:
    """Arrays of a store, scale^3 times as many in scale^3 times as many chunks."""
    random, side, times = np.random.default_rng(0), SIDE * EDGE * scale, scale**3
    if kind == "lines":
        starts = random.random((20_000 * times, 1, 3)) * side
        walks = starts + np.cumsum(random.normal(0, 4, (20_000 * times, STEPS, 3)), axis=1)
        return {"paths": np.clip(walks, 0, side - 0.1).astype("f4")}
    if kind == "points":
        return {"positions": random.random((1_000_000 * times, 3), dtype="f4") * np.float32(side)}
    if kind == "graph":
        positions = random.random((300_000 * times, 3), dtype="f4") * np.float32(side)
        positions = positions[np.lexsort(np.floor(positions / 20).astype(int).T)]
        every = np.arange(len(positions))
        edges = np.concatenate([np.stack([every[:-step], every[step:]], axis=1) for step in (1, 7)])
        return {"positions": positions, "edges": edges}
    if kind == "skeletons":
        return _skeletons(random, 500 * times, side)
    if kind == "surface":
        u, v = np.meshgrid(np.arange(300), np.arange(300), indexing="ij")
        return {"positions": np.stack([u, v, 10 * np.sin(u / 9)], axis=-1), "chunk": 6.0}
    # As many layers of a surface as make the chunks grow with the vertices.
    u, v = np.meshgrid(*[np.linspace(0, side - 1, 700 * scale)] * 2, indexing="ij")
    heights = [400 + 800 * layer + 100 * np.sin(u / 50) * np.cos(v / 70) for layer in range(scale)]
    return {"positions": np.stack([np.stack([u, v, height], axis=-1) for height in heights])}


def _skeletons(random: np.random.Generator, trees: int, side: float) -> Data:
    parents = np.maximum(np.arange(NODES)[:, None] - random.integers(1, 4, (NODES, trees)), 0)
    steps, places = random.normal(0, 3, (NODES, trees, 3)), np.empty((NODES, trees, 3))
    places[0] = random.random((trees, 3)) * side
    every = np.arange(trees)
    for node in range(1, NODES):
        places[node] = places[parents[node], every] + steps[node]
    first = NODES * every
    edges = np.stack([np.arange(1, NODES)[:, None] + first, parents[1:] + first], axis=-1)
    return {
        "positions": np.clip(places, 0, side - 0.1).transpose(1, 0, 2).reshape(-1, 3).astype("f4"),
        "edges": edges.transpose(1, 0, 2).reshape(-1, 2),
        "ids": np.repeat(every, NODES),
    }


def _surface(data: Data) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    grid = np.atleast_3d(data["positions"])
    grid = grid[None] if grid.ndim == 3 else grid
    layers, side = grid.shape[:2]
    at = np.arange(layers * side * side).reshape(layers, side, side)
    a, b, c, d = at[:, :-1, :-1].ravel(), at[:, 1:, :-1].ravel(), at[:, :-1, 1:].ravel(), at[:, 1:, 1:].ravel()
    return grid.reshape(-1, 3).astype("f4"), np.concatenate([np.stack([a, b, c], axis=1), np.stack([b, d, c], axis=1)])


def write(kind: str, path: str, data: Data, package: str) -> None:
    """Write a store with one of the packages."""
    options: dict[str, Any] = {"chunk_shape": (data.get("chunk", EDGE),) * 3}
    options |= {} if "chunk" in data else {"bin_shape": (BIN,) * 3}
    if package == "reference":
        from zarr_vectors.types.graphs import write_graph  # noqa: PLC0415  in its own environment only
        from zarr_vectors.types.meshes import write_mesh  # noqa: PLC0415
        from zarr_vectors.types.points import write_points  # noqa: PLC0415
        from zarr_vectors.types.polylines import write_polylines  # noqa: PLC0415
    else:
        from zarr_vectors_lazy import write_graph, write_mesh, write_points, write_polylines  # noqa: PLC0415

        options |= {"compressor": None, "checksum": False}
    if kind == "lines":
        write_polylines(path, list(data["paths"]), geometry_type="streamline", **options)
    elif kind == "points":
        write_points(path, data["positions"], **options)
    elif kind == "graph":
        write_graph(path, data["positions"], data["edges"], **options)
    elif kind == "skeletons":
        write_graph(path, data["positions"], data["edges"], kind="skeleton", object_ids=data["ids"], **options)
    else:
        write_mesh(path, *_surface(data), **options)


def ours(work: str, url: str, chunks: Any = None) -> Callable[[], int]:
    """What this package does; the call returns a number that identifies the result."""
    import dask  # noqa: PLC0415  the reference's environment has no such package

    import zarr_vectors_lazy as zvl  # noqa: PLC0415

    def level() -> Any:
        return zvl.open_zv(url, chunks=chunks)[0]

    calls: dict[str, Callable[[], Any]] = {
        "read_polylines": lambda: zvl.read_polylines(url)["vertex_count"],
        "ragged": lambda: len(dask.compute(*level().objects.ragged())[0]),
        "edges": lambda: len(level().edges.compute()),
        "faces": lambda: len(level().faces.compute()),
        "vertices": lambda: len(level().vertices.compute()),
        "100 objects": lambda: zvl.read_polylines(url, object_ids=list(range(100, 200)))["vertex_count"],
        "one object": lambda: len(level().objects[0].compute()),
        "box": lambda: zvl.read_polylines(url, bbox=BOX)["vertex_count"],
        "read_graph": lambda: zvl.read_graph(url)["edge_count"],
        "read_mesh": lambda: zvl.read_mesh(url)["face_count"],
        "read_points": lambda: zvl.read_points(url)["vertex_count"],
    }
    return calls[work.partition(",")[0]]


def reference(work: str, url: str, _: Any = None) -> Callable[[], int]:
    """The same with the reference, or its nearest equivalent."""
    from zarr_vectors.types.graphs import read_graph  # noqa: PLC0415  in its own environment only
    from zarr_vectors.types.meshes import read_mesh  # noqa: PLC0415
    from zarr_vectors.types.points import read_points  # noqa: PLC0415
    from zarr_vectors.types.polylines import read_polylines  # noqa: PLC0415

    box = tuple(np.asarray(corner) for corner in BOX)
    calls: dict[str, Callable[[], Any]] = {
        "100 objects": lambda: read_polylines(url, object_ids=list(range(100, 200)))["vertex_count"],
        "one object": lambda: read_polylines(url, object_ids=[0])["vertex_count"],
        "box": lambda: read_polylines(url, bbox=box)["vertex_count"],
        "read_graph": lambda: read_graph(url)["edge_count"],
        "read_mesh": lambda: read_mesh(url)["face_count"],
        "read_points": lambda: read_points(url)["vertex_count"],
    }
    return calls.get(work.partition(",")[0], lambda: read_polylines(url)["vertex_count"])


def tractogram(work: str, url: str, _: Any = None) -> Callable[[], int]:
    """Load a file of streamlines as its users do."""
    if work == "trx":
        from trx.trx_file_memmap import load  # noqa: PLC0415  not everywhere

        def of_trx() -> int:
            found = load(url)
            vertices = len(np.array(found.streamlines._data))
            found.close()
            return vertices

        return of_trx
    import nibabel  # noqa: PLC0415

    return lambda: len(nibabel.streamlines.load(url).streamlines.get_data())


READERS = {"ours": ours, "reference": reference, "tractogram": tractogram}


def measure(job: Data) -> Data:
    """Best seconds, best CPU seconds, peak memory and requests of several calls after a first one."""
    if job.get("write"):
        write(job["kind"], job["url"], make(job["kind"], job["scale"]), job["write"])
        return {}
    call = READERS[job["reader"]](job["work"], job["url"], job.get("chunks"))
    warm_memory(WARM_NBYTES)
    result, seconds, cpu = call(), [], []
    before = reset_peak()
    requests = _requests(job)
    for _ in range(job["calls"]):
        used, start = time.process_time(), time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - start)
        cpu.append(time.process_time() - used)
    asked = (_requests(job) - requests) / job["calls"]
    grown = (peak_rss() - before) / 1e6
    return {"seconds": min(seconds), "cpu": min(cpu), "result": int(result), "requests": asked, "grown_mb": grown}


def _requests(job: Data) -> int:
    if job["reader"] != "ours":
        return 0
    from zarr_vectors_lazy.storage.requests import snapshot  # noqa: PLC0415

    return snapshot().requests


def apart(python: Path, job: Data, **env: str) -> Data:
    """Measure in a separate process."""
    done = subprocess.run(
        [python, "-m", "benchmarks.bench_linked", "--job", json.dumps(job)],
        cwd=ROOT,
        env=clean_environment(PYTHONPATH=str(ROOT), **env),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{job} failed:\n{done.stderr[-2000:]}")
    found: Data = json.loads(done.stdout.splitlines()[-1])
    return found


class Bench:
    """What all tables need: the Python interpreters, where stores are, and the number of repetitions."""

    def __init__(self, folder: Path, peer: Path, rounds: int) -> None:
        self.folder, self.rounds = folder, rounds
        self.pythons = {"ours": Path(sys.executable), "reference": peer, "tractogram": Path(sys.executable)}

    def store(self, kind: str, *, scale: int = 1, by: str = "reference") -> str:
        """Write a store once."""
        path = self.folder / f"{kind}-{scale}-{by}.zarrvectors"
        if not path.exists():
            unfinished = path.with_suffix(".unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            self.folder.mkdir(parents=True, exist_ok=True)
            apart(self.pythons[by], {"write": by, "kind": kind, "scale": scale, "url": str(unfinished)})
            unfinished.rename(path)
        return str(path)

    def best(self, jobs: dict[str, Data], **env: str) -> dict[str, Data]:
        """Best of each job's rounds; jobs take turns."""
        found: dict[str, list[Data]] = {name: [] for name in jobs}
        for _ in range(self.rounds):
            for name, job in jobs.items():
                found[name].append(apart(self.pythons[job["reader"]], {"calls": 3, **job}, **env))
        return {
            name: {key: min(sample[key] for sample in samples) for key in samples[0]} for name, samples in found.items()
        }


def verdict(found: float, most: float) -> str:
    """Whether the result is good enough, as a cell of a table."""
    return "passes" if found <= most else "FAILS"


def row(*cells: Any) -> str:
    """Line of a table."""
    return "| " + " | ".join(f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in cells) + " |"


def beside(bench: Bench, works: tuple[str, ...], *, delay_ms: float | None = None) -> str:
    """The reference's readers and ours, on disk or in a bucket."""
    head = "| work | this package, s | CPU s | requests | reference, s | ratio | limit | result |"
    lines = [head, "| --- " * 8 + "|"]
    for work in works:
        kind, most = TABLE[work]
        with ExitStack() as stack:
            url, env = bench.store(kind), {}
            if delay_ms is not None:
                server = stack.enter_context(running(Path(url).parent, delay_ms=delay_ms))
                url, env, most = server.url(Path(url).name), server.client_env(), 0.5
            jobs = {reader: {"reader": reader, "work": work, "url": url} for reader in ("ours", "reference")}
            found = bench.best(jobs, **env)
        mine, theirs = found["ours"], found["reference"]
        ratio = mine["seconds"] / theirs["seconds"]
        requests, passes = int(mine["requests"]), verdict(ratio, most)
        lines.append(row(work, mine["seconds"], mine["cpu"], requests, theirs["seconds"], ratio, most, passes))
    return "\n".join(lines)


def growth(bench: Bench) -> str:
    """CPU seconds for 8 times the data in 8 times the chunks, and for one path against all vertices of its store."""
    lines = ["| store | work | CPU s | CPU s of 8 times the data | ratio | limit | result |", "| --- " * 7 + "|"]
    for kind, works in GROWTH.items():
        urls = {scale: bench.store(kind, scale=scale, by="ours") for scale in (1, 2)}
        for work in works:
            jobs = {
                str(scale): {"reader": "ours", "work": work, "url": url, "chunks": "auto"}
                for scale, url in urls.items()
            }
            found = bench.best(jobs)
            small, large = found["1"]["cpu"], found["2"]["cpu"]
            lines.append(row(kind, work, small, large, large / small, 10, verdict(large / small, 10)))
    for edge in (40.0, 8.0):
        url = _path(bench, edge)
        jobs = {
            work: {"reader": "ours", "work": work, "url": url, "chunks": "auto"} for work in ("vertices", "one object")
        }
        found = bench.best(jobs)
        base, path = found["vertices"]["cpu"], found["one object"]["cpu"]
        chunks = len(list(Path(url).glob("0/vertices/c/*/*/*")))
        name, times = f"one path of 10^6 in {chunks} chunks", path / base
        lines.append(row(name, "vertices, path", base, path, times, 3, verdict(times, 3)))
    return "\n".join(lines)


def _path(bench: Bench, edge: float) -> str:
    """One path of 10^6 vertices."""
    import zarr_vectors_lazy as zvl  # noqa: PLC0415

    path = bench.folder / f"path-{edge:g}.zarrvectors"
    if not path.exists():
        bench.folder.mkdir(parents=True, exist_ok=True)
        walk = np.cumsum(np.random.default_rng(1).normal(0, 0.5, (1_000_000, 3)), axis=0)
        walk = np.abs((walk + 100) % 400 - 200).astype("f4")  # folded back into a box of 200
        zvl.write_polylines(path, [walk], chunk_shape=(edge,) * 3, compressor=None, checksum=False)
    return str(path)


def anchors(bench: Bench) -> str:
    """Streamlines with 8 x 10^6 vertices, against common tractogram files."""
    import nibabel  # noqa: PLC0415
    from nibabel.streamlines import Tractogram  # noqa: PLC0415

    url = bench.store("lines", scale=2, by="ours")
    files = {name: str(bench.folder / f"lines.{name}") for name in ("tck", "trk", "trx")}
    if not Path(files["trx"]).exists():
        tractogram = Tractogram(list(make("lines", 2)["paths"]), affine_to_rasmm=np.eye(4))
        for name in ("tck", "trk"):
            nibabel.streamlines.save(tractogram, files[name])
        _save_trx(tractogram, files["trx"])
    jobs = {"ragged()": {"reader": "ours", "work": "ragged", "url": url, "chunks": "auto"}}
    jobs |= {name.upper(): {"reader": "tractogram", "work": name, "url": path} for name, path in files.items()}
    found = bench.best(jobs)
    mine = found["ragged()"]["seconds"]
    lines = ["| 160,000 streamlines | s | CPU s | memory, MB | ragged() / file | limit | result |", "| --- " * 7 + "|"]
    most = {"TRK": 1, "TCK": 4}
    for name, of in found.items():
        asked = (most[name], verdict(mine / of["seconds"], most[name])) if name in most else ("", "")
        lines.append(row(name, of["seconds"], of["cpu"], of["grown_mb"], mine / of["seconds"], *asked))
    return "\n".join(lines)


def _save_trx(tractogram: Any, path: str) -> None:
    from nibabel import Nifti1Image  # noqa: PLC0415
    from trx.trx_file_memmap import TrxFile, save  # noqa: PLC0415

    streamlines = tractogram.streamlines
    image = Nifti1Image(np.zeros((1, 1, 1), np.int8), np.eye(4))
    trx = TrxFile(
        nb_vertices=len(streamlines.get_data()), nb_streamlines=len(streamlines), init_as=None, reference=image
    )
    trx.streamlines._data[:] = streamlines.get_data()
    trx.streamlines._offsets[:] = streamlines._offsets
    trx.streamlines._lengths[:] = streamlines._lengths
    save(trx, path)


def large(bench: Bench) -> str:
    """10^7 vertices in 10^6 objects: the cost of each step, in a separate process."""
    path = bench.folder / "large.zarrvectors"
    shutil.rmtree(path, ignore_errors=True)
    bench.folder.mkdir(parents=True, exist_ok=True)
    lines = ["| work | s | CPU s | peak MB | requests | result |", "| --- " * 6 + "|"]
    for work in ("write", "edges", "ragged", "one object", "box", "pyramid"):
        of = apart(Path(sys.executable), {"large": work, "url": str(path)})
        lines.append(row(work, of["seconds"], of["cpu"], of["peak_mb"], of["requests"], of["result"]))
    return "\n".join(lines)


def measure_large(work: str, url: str) -> Data:
    """One step on the store of 10^6 streamlines of 10 vertices, once; the result identifies what was read."""
    import zarr_vectors_lazy as zvl  # noqa: PLC0415
    from zarr_vectors_lazy.storage.requests import snapshot  # noqa: PLC0415

    if work == "write":
        random = np.random.default_rng(2)
        starts = random.random((1_000_000, 1, 3), dtype="f4") * 1600
        walks = starts + np.cumsum(random.normal(0, 4, (1_000_000, 10, 3)).astype("f4"), axis=1)
        paths = list(np.clip(walks, 0, 1599.9))
        call: Callable[[], Any] = lambda: zvl.write_polylines(  # noqa: E731
            url, paths, chunk_shape=(EDGE,) * 3, bin_shape=(BIN,) * 3, geometry_type="streamline"
        )["vertex_count"]
    elif work == "pyramid":
        call = lambda: len(zvl.build_pyramid(url, factors=[2, 2]))  # noqa: E731
    else:
        call = ours(work, url, "auto")
    reset_peak()
    requests, cpu, start = snapshot().requests, time.process_time(), time.perf_counter()
    result = call()
    return {
        "seconds": time.perf_counter() - start,
        "cpu": time.process_time() - cpu,
        "peak_mb": peak_rss() / 1e6,
        "requests": snapshot().requests - requests,
        "result": int(result),
    }


def tables_of(
    bench: Bench, works: tuple[str, ...] = tuple(TABLE), delay_ms: float = 30
) -> dict[str, Callable[[], str]]:
    """The function that makes each table."""
    behind = tuple(work for work in works if work in BEHIND or works != tuple(TABLE))
    return {
        "disk": lambda: beside(bench, works),
        "s3": lambda: beside(bench, behind, delay_ms=delay_ms),
        "growth": lambda: growth(bench),
        "anchors": lambda: anchors(bench),
        "large": lambda: large(bench),
    }


def main(arguments: list[str] | None = None) -> None:
    """Print the tables; with ``--job``, one measurement as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_linked", description=__doc__)
    parser.add_argument("--job", help="measure this in this process (JSON)")
    parser.add_argument("--only", nargs="*", choices=["disk", "s3", "growth", "anchors", "large"])
    parser.add_argument("--works", nargs="*", choices=[*TABLE], help="rows of the first two tables")
    parser.add_argument("--delay-ms", type=float, default=30, help="of the S3 server (default: 30)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--reference-python", type=Path, help="an environment that has the reference package")
    parser.add_argument("--folder", type=Path, default=CACHE / "linked")
    args = parser.parse_args(arguments)
    if args.job:
        job = json.loads(args.job)
        print(json.dumps(measure_large(job["large"], job["url"]) if "large" in job else measure(job)), flush=True)
        os._exit(0)  # obstore's threads abort a process, now and then, that ends after its asynchronous requests
    bench = Bench(args.folder.resolve(), args.reference_python or reference_python(), args.rounds)
    tables = tables_of(bench, tuple(args.works or TABLE), args.delay_ms)
    for name in args.only or tables:
        print(f"### {name}\n\n{tables[name]()}\n", flush=True)


if __name__ == "__main__":
    main()
