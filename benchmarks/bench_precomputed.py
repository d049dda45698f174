"""CPU time and requests for what a viewer requests from ``/precomputed/``, key by key.

``python -m benchmarks.bench_precomputed`` writes its stores to memory (``/dev/shm``) where there is such. With
``--draw`` Neuroglancer draws 10^6 points and 10^5 streamlines of 30 vertices in headless Chromium instead.
"""

import argparse
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

import zarr_vectors_lazy as zvl
from zarr_vectors_lazy.convert.precomputed_level import PrecomputedLevel
from zarr_vectors_lazy.read import direct
from zarr_vectors_lazy.testing import counting
from zarr_vectors_lazy.web.neuroglancer import FOLDER, Precomputed, viewer_state
from zarr_vectors_lazy.web.server import Answer, Environ, Server

KEYS = 150  # of each kind, about
ASKED = 0.5  # CPU milliseconds that 2,000 rows of a cell may take besides I/O, and any cell
Array = np.ndarray
Keys = Callable[[PrecomputedLevel], Sequence[str]]


def write(folder: Path, points: int, paths: int, objects: int) -> dict[str, Path]:
    """Write points of 2,000 rows a chunk with one attribute, streamlines of 50 vertices; skeletons, a graph, meshes."""
    random = np.random.default_rng(0)
    positions = random.uniform(0, 100, (points, 3)).astype("f4")
    edge = 100 / max(round((points / 2000) ** (1 / 3)), 1)
    depth = {"depth": positions[:, 2].copy()}
    found = {name: folder / f"{name}.zv" for name in ("points", "paths", "trees", "graph", "meshes")}
    zvl.write_points(found["points"], positions, chunk_shape=edge, vertex_attributes=depth)
    walks = random.uniform(20, 80, (paths, 1, 3)) + random.normal(0, 0.5, (paths, 50, 3)).cumsum(axis=1)
    lines = list(walks.astype("f4"))
    zvl.write_polylines(found["paths"], lines, chunk_shape=12.5, geometry_type="streamline")
    parents = np.stack([np.arange(1, 3000), np.arange(2999) - np.arange(2999) % 50 // 49 * 20], axis=1)
    vertices, edges, ids = _many(random, random.normal(0, 0.3, (3000, 3)).cumsum(axis=0), parents, objects)
    kept = {"object_ids": ids, "chunk_shape": 25}
    zvl.write_graph(found["trees"], vertices, edges, kind="skeleton", **kept)
    zvl.write_graph(found["graph"], vertices, edges, **kept)
    u, v = np.meshgrid(np.linspace(0, np.pi, 50), np.linspace(0, 2 * np.pi, 60), indexing="ij")
    ball = 12 * np.stack([np.sin(u) * np.cos(v), np.sin(u) * np.sin(v), np.cos(u)], axis=-1).reshape(-1, 3)
    corner = (np.arange(49)[:, None] * 60 + np.arange(59)).reshape(-1)
    faces = np.stack([corner, corner + 60, corner + 61, corner, corner + 61, corner + 1], axis=1).reshape(-1, 3)
    vertices, faces, ids = _many(random, ball, faces, objects)
    zvl.write_mesh(found["meshes"], vertices, faces, object_ids=ids, chunk_shape=25)
    return found


def _many(random: np.random.Generator, shape: Array, joins: Array, objects: int) -> tuple[Array, Array, Array]:
    """Vertices, edges or faces, and object ids of a shape that is repeated at many places."""
    places = random.uniform(20, 80, (objects, 1, 3))
    each = np.arange(objects)
    vertices = (shape + places).reshape(-1, 3).astype("f4")
    return vertices, (joins + each[:, None, None] * len(shape)).reshape(-1, joins.shape[1]), each.repeat(len(shape))


def cells(kind: str) -> Keys:
    """Keys of some cells."""

    def found(level: PrecomputedLevel) -> list[str]:
        coords = level.cells[0].table.coords
        every = coords[:: max(len(coords) // KEYS, 1)]
        return [f"{kind}/cells/{'_'.join(map(str, cell))}" for cell in every.tolist()]

    return found


def segments(key: str) -> Keys:
    """Keys of some segments: ``key`` with their number in place of the braces."""

    def found(level: PrecomputedLevel) -> list[str]:
        every = level.segments[1]
        return [key.format(segment) for segment in every[:: max(len(every) // KEYS, 1)].tolist()]

    return found


def measure(path: Path, keys: Keys, rounds: int) -> dict[str, float]:
    """CPU milliseconds for a key (first, best, and best without fetching), rows, requests and bytes."""
    view = zvl.open_zv(path)[0]._view
    level = PrecomputedLevel(view)
    wanted = keys(level)
    start = time.process_time()
    level.get(wanted[0])
    first = time.process_time() - start
    with counting() as counts:
        found = [level.get(key) or b"" for key in wanted]
    each, fetching = [], []
    for _ in range(rounds):
        level, again = (PrecomputedLevel(view) for _ in range(2))  # cells cached by earlier rounds cost nothing
        level.get(wanted[0]), again.get(wanted[0])
        start = time.process_time()
        for key in wanted:
            level.get(key)
        each.append((time.process_time() - start) / len(wanted))
        fetching.append(_fetching(again, wanted) / len(wanted))
    return {
        "keys": len(wanted),
        "rows": sum(_rows(level, key, body) for key, body in zip(wanted, found, strict=True)) / len(wanted),
        "bytes": sum(map(len, found)) / len(wanted),
        "requests": counts.requests / len(wanted),
        "first_ms": first * 1e3,
        "cpu_ms": min(each) * 1e3,
        "rest_ms": (min(each) - min(fetching)) * 1e3,
    }


def _rows(level: PrecomputedLevel, key: str, body: bytes) -> int:
    """Number of points or edges in a cell, or of vertices of paths; 0 for other keys."""
    if "/cells/" not in key:
        return 0
    count = int.from_bytes(body[:8], "little")
    return (len(body) - 8 - 12 * count) // 12 if key.startswith("lines") and level.whole_paths else count


def _fetching(level: PrecomputedLevel, keys: Sequence[str]) -> float:
    """CPU seconds that fetching the cells takes, while keys are answered."""
    spent, read = 0.0, direct.read_batch

    def timed(*args: object) -> object:
        nonlocal spent
        start = time.process_time()
        found = read(*args)  # type: ignore[arg-type]
        spent += time.process_time() - start
        return found

    direct.read_batch = timed  # type: ignore[assignment]
    try:
        for key in keys:
            level.get(key)
    finally:
        direct.read_batch = read
    return spent


def run(
    folder: Path, points: int = 200_000, paths: int = 20_000, objects: int = 40, rounds: int = 5
) -> dict[str, dict[str, float]]:
    """Measure every kind of key."""
    found = write(folder, points, paths, objects)
    wanted = {
        "cell of points": ("points", cells("points")),
        "cell of lines": ("paths", cells("lines")),
        "cell of edges, graph": ("graph", cells("lines")),
        "cell of edges, skeletons": ("trees", cells("lines")),
        "skeleton of a streamline": ("paths", segments("skeletons/{}")),
        "skeleton with branches": ("trees", segments("skeletons/{}")),
        "skeleton of a graph": ("graph", segments("skeletons/{}")),
        "mesh": ("meshes", segments("mesh/{}:0:0")),
    }
    return {name: measure(found[store], keys, rounds) for name, (store, keys) in wanted.items()}


def draw(folder: Path, points: int = 10**6, paths: int = 10**5) -> list[tuple[str, int, int, float, float]]:
    """What is drawn, the requests, bytes and seconds until then, and the CPU seconds that answering took."""
    import neuroglancer  # noqa: PLC0415  optional

    from tests.web.test_neuroglancer import screenshot  # noqa: PLC0415  it needs a browser

    random, rows = np.random.default_rng(0), []
    positions = random.normal(50, 12, (points, 3)).astype("f4")
    zvl.write_points(folder / "points", positions, chunk_shape=10)
    walks = random.uniform(20, 80, (paths, 1, 3)) + random.normal(0, 1, (paths, 30, 3)).cumsum(axis=1)
    zvl.write_polylines(folder / "lines", list(walks.astype("f4")), chunk_shape=15, geometry_type="streamline")
    neuroglancer.set_server_bind_address("127.0.0.1", 0)
    for kind in ("points", "lines"):
        level = PrecomputedLevel(zvl.open_zv(folder / kind)[0]._view)
        asked: list[tuple[int, float]] = []

        class Counted(Precomputed):
            def get(self, key: str, environ: Environ) -> Answer:
                start = time.thread_time()
                answer = super().get(key, environ)
                asked.append((len(answer.body), time.thread_time() - start))  # noqa: B023
                return answer

        server = Server(level.view.source.spec, public=True, views={FOLDER: Counted({0: level})})
        threading.Thread(target=server.serve_forever, daemon=True).start()
        state = viewer_state(level, server.url)
        layer = next(layer for layer in state["layers"] if layer["name"].startswith(kind))
        viewer = neuroglancer.Viewer()
        viewer.set_state({**state, "layers": [layer]})
        start = time.perf_counter()
        picture = screenshot(viewer, folder / f"browser-{kind}", patience=600)
        seconds = time.perf_counter() - start
        server.close()
        Path(tempfile.gettempdir(), f"zvl-{kind}.png").write_bytes(picture)
        sizes, cpu = zip(*asked, strict=True)
        rows.append((kind, len(asked), sum(sizes), seconds, sum(cpu)))
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_precomputed", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--draw", action="store_true", help="let Neuroglancer draw what is large")
    given = parser.parse_args(arguments)
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        if given.draw:
            print("| drawn | requests | bytes | seconds | of which answers, CPU |\n| --- | --: | --: | --: | --: |")
            for kind, requests, nbytes, seconds, cpu in draw(Path(folder)):
                print(f"| {kind} | {requests} | {nbytes:,} | {seconds:.0f} | {cpu:.2f} |")
            return
        found = run(Path(folder), rounds=given.rounds)
    print("| key | rows | bytes | requests | first, CPU | each, CPU | besides I/O | limit |")
    print("| --- " + "| --: " * 7 + "|")
    for name, row in found.items():
        times = " | ".join(f"{row[key]:.2f} ms" for key in ("first_ms", "cpu_ms", "rest_ms"))
        asked = f"{ASKED * max(1, row['rows'] / 2000):.2f} ms" if row["rows"] else ""
        rows = f"{row['rows']:,.0f}" if row["rows"] else ""
        print(f"| {name} | {rows} | {row['bytes']:,.0f} | {row['requests']:.1f} | {times} | {asked} |")


if __name__ == "__main__":
    main()
