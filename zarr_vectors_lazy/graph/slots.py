"""How many tasks can run at once: what batches are spread over."""

import sys

import dask.config
import dask.system

from zarr_vectors_lazy.settings import setting


def task_slots() -> int:
    """Task slots of the scheduler that would run a graph now.

    ``zarr_vectors_lazy.workers`` where it is set; else the threads of the cluster of an active ``distributed.Client``;
    else Dask's ``num_workers`` or the number of cores.
    """
    fixed = int(setting("workers"))
    if fixed > 0:
        return fixed
    distributed = sys.modules.get("distributed")
    if distributed is not None:
        try:
            client = distributed.get_client()
        except ValueError:  # there is none
            client = None
        if client is not None:
            return max(1, _threads(client.scheduler_info(n_workers=-1)))
    scheduler = dask.config.get("scheduler", None)
    if scheduler in ("sync", "synchronous", "single-threaded"):
        return 1
    return int(dask.config.get("num_workers", None) or dask.system.CPU_COUNT)


def _threads(info: dict) -> int:  # type: ignore[type-arg]
    workers = info.get("workers") or {}
    return sum(int(worker.get("nthreads", 1)) for worker in workers.values())
