"""One measurement in a separate process: reads a job as JSON from standard input and prints the results as JSON.

Imports are done before the clock starts, those too that a reader would do in the middle (the job names them: they are
what an untimed run imported). The clock covers the cold open (a new client, metadata) and the read up to the array in
memory. Checksums are taken after it.
"""

import atexit
import gc
import json
import mmap
import os
import pkgutil
import resource
import shutil
import sys
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np

from benchmarks.environment import versions
from benchmarks.readers import READERS, Job

WARM_NBYTES = 640 << 20  # more than any reader grows by
PAGE_NBYTES = 4096
PACKAGES = ("zarr-vectors-lazy", "zarr-vectors", "zarr", "numpy", "dask", "obstore")


def measure(job: Job) -> dict[str, Any]:
    """Run one job and return its measurements."""
    read = pkgutil.resolve_name(READERS[job.reader])
    for name in job.preload:
        with suppress(ImportError):  # some are not modules
            import_module(name)
    imported = set(sys.modules)
    opened = record_opens(job.folder) if job.count_opens else None
    gc.collect()
    if job.warm_memory:
        warm_memory(WARM_NBYTES)
    before = reset_peak()
    cpu, start = time.process_time(), time.perf_counter()
    result = read(job)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    peak = peak_rss()
    late = sorted(set(sys.modules) - imported)
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak_mb": peak / 1e6,
        "grown_mb": (peak - before) / 1e6,
        "opened": None if opened is None else len(opened),
        "own_requests": import_module("benchmarks.readers.ours").own_requests() if job.reader == "ours" else None,
        "imported": late,
        "versions": versions(*PACKAGES),
        **describe(result),
    }


def warm_memory(nbytes: int) -> None:
    """Touch memory and free it, so that no reader pays for the first use of memory that the machine had not used yet.

    A virtual machine whose host takes free memory back makes that first use a hundred times as expensive, at random.
    """
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    with mmap.mmap(-1, nbytes, **private) as pages:
        if hasattr(mmap, "MADV_HUGEPAGE"):
            pages.madvise(mmap.MADV_HUGEPAGE)  # as NumPy asks for in large arrays
        for start in range(0, nbytes, PAGE_NBYTES):
            pages[start] = 1


def new_folder(parent: Path) -> Path:
    """Make a new folder, which is deleted as the process ends.

    A folder that is deleted between two measurements costs the second: ext4 looks for inodes past all that were deleted
    in the last minutes, one by one, and a build of 3,000 files took four times as long.
    """
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(mkdtemp(dir=parent))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def describe(result: np.ndarray | list[bytes]) -> dict[str, int]:
    """Rows and a checksum that does not depend on their order; of a raw fetch, objects and bytes."""
    if isinstance(result, list):
        return {"objects": len(result), "nbytes": sum(map(len, result))}
    bits = np.ascontiguousarray(result).view(np.uint32)
    return {"rows": len(result), "nbytes": result.nbytes, "checksum": int(bits.sum(dtype=np.uint64))}


def record_opens(folder: str) -> list[str]:
    """List to which every file below ``folder`` is added when Python opens it."""
    opened: list[str] = []

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(args[0], str) and args[0].startswith(folder):
            opened.append(args[0])

    sys.addaudithook(hook)
    return opened


def reset_peak() -> int:
    """Bytes resident now; from here on the peak is counted, if the system allows it (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return status_bytes("VmRSS")
    except OSError:
        return peak_rss()


def peak_rss() -> int:
    """Most bytes resident so far."""
    try:
        return status_bytes("VmHWM")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def status_bytes(name: str) -> int:
    """One of the sizes that Linux reports for this process."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    print(json.dumps(measure(Job(**json.load(sys.stdin)))), flush=True)
    os._exit(0)  # obstore's threads abort a process, now and then, that ends after its asynchronous requests
