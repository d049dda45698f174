"""``python killed.py FOLDER COUNT SEED KIND``: writes, from ``memory`` or from ``dask``, that are killed at a random
moment, each into a folder of its own.

Every child is forked before any thread is started, so that a kill costs no start of an interpreter.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import dask
import dask.array as da
import numpy as np

import zarr_vectors_lazy as zvl

ROWS = {"old": 60, "new": 2000}


def write(path, what, mode, kind="memory"):
    random_ = np.random.default_rng(ROWS[what])
    positions = random_.uniform(0, 10, (ROWS[what], 2))
    numbers = np.arange(ROWS[what])
    if kind == "dask":
        positions, numbers = da.from_array(positions, chunks=(300, 2)), da.from_array(numbers, chunks=300)
    with dask.config.set({"zarr_vectors_lazy.write-bytes": "8 kB"}):
        zvl.write_points(path, positions, chunk_shape=1, vertex_attributes={"n": numbers}, mode=mode)


def in_child(work):
    pid = os.fork()
    if not pid:
        work()
        os._exit(0)
    return pid


def main(folder, count, seed, kind):
    random.seed(seed)
    begun = time.monotonic()
    assert os.waitpid(in_child(lambda: write(folder / "timed", "new", "w-", kind)), 0)[1] == 0
    whole_s = time.monotonic() - begun
    for i in range(count):
        path, before = folder / str(i), random.random() < 0.5
        if before:
            assert os.waitpid(in_child(lambda path=path: write(path, "old", "w-")), 0)[1] == 0
        pid = in_child(lambda path=path, before=before: write(path, "new", "w" if before else "w-", kind))
        time.sleep(random.uniform(0, 1.1 * whole_s))
        os.kill(pid, signal.SIGKILL)
        done = os.waitpid(pid, 0)[1] == 0
        sys.stdout.write(json.dumps({"path": str(path), "before": before, "done": done}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
