"""``python -m benchmarks.bench_groups``: what link groups that follow fragments could save for one object's faces.

The proposed ``fragment_link_groups`` says which records of a chunk are an object's: groups, one a fragment. For meshes
of many objects in one chunk this measures the faces of one object, in CPU time, and how much of it finds its records
among all of the chunk, which is all that groups could save: cells are one compressed object each, so fetching and
decoding them stays, and the groups are a cell more. Docs (reading/formats.md) have the numbers.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import dask
import numpy as np

import zarr_vectors_lazy as zvl
from zarr_vectors_lazy.read import links, records

EACH = 200  # faces of an object


def write_meshes(path, objects):
    """Objects of 102 vertices and `EACH` faces, all in one chunk."""
    rng, n = np.random.default_rng(13), 102
    vertices = rng.uniform(0, 9, (objects, 1, 3)) + rng.uniform(0, 1, (objects, n, 3))
    faces = rng.integers(0, n, (objects, EACH, 1)) + np.array([0, 1, 2])
    faces = faces % n + n * np.arange(objects)[:, None, None]
    owners = np.repeat(np.arange(objects), n)
    zvl.write_mesh(
        path, vertices.reshape(-1, 3).astype(np.float32), faces.reshape(-1, 3), object_ids=owners, chunk_shape=10
    )


def measure(path, objects, rounds):
    """Least CPU milliseconds for an object's faces: in all, for resolving its records, and for decoding them."""
    spent = {"resolve": 0.0, "decode": 0.0}

    def timed(name, function):
        def run(*args, **kwargs):
            begun = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                spent[name] += 1e3 * (time.process_time() - begun)

        return run

    found = []
    resolve, decode = timed("resolve", records.resolve_links), timed("decode", records.read_records)
    with (
        mock.patch.object(links, "resolve_links", resolve),
        mock.patch.object(records, "read_records", decode),
        dask.config.set(scheduler="sync"),
    ):
        for number in range(rounds):
            spent.update(resolve=0.0, decode=0.0)
            begun = time.process_time()
            faces = zvl.open_zv(path)[0].sel(objects=number * objects // rounds).faces.compute()
            assert len(faces) == EACH
            found.append((1e3 * (time.process_time() - begun), spent["resolve"] - spent["decode"]))
    return {"all_ms": min(total for total, _ in found), "find_ms": min(search for _, search in found)}


def run(folder, sizes, rounds):
    """Results of `measure` by number of objects in the chunk."""
    found = {}
    for objects in sizes:
        path = Path(folder) / f"{objects}.zarrvectors"
        write_meshes(path, objects)
        found[objects] = measure(path, objects, rounds)
    return found


def main(arguments=None):
    """Print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_groups", description=__doc__)
    parser.add_argument("--objects", type=int, nargs="+", default=[100, 1000, 10000], help="objects in the chunk")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        found = run(folder, args.objects, args.rounds)
    print("objects in the chunk   faces of one: CPU ms   of it to find its records: CPU ms")
    for objects, row in found.items():
        print(f"{objects:20,d}   {row['all_ms']:20.1f}   {row['find_ms']:35.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
