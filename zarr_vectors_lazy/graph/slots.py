"""How many tasks can run at once: what batches are spread over."""

import sys
from typing import Any

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
    client = _client()
    if client is not None:
        # What the client last heard. Asking the scheduler instead deadlocks while a graph is being pickled, and there
        # is no public name for it.
        threads = (getattr(client, "_scheduler_identity", None) or {}).get("total_threads", 0)
        if threads:
            return int(threads)
    scheduler = dask.config.get("scheduler", None)
    if scheduler in ("sync", "synchronous", "single-threaded"):
        return 1
    return int(dask.config.get("num_workers", None) or dask.system.CPU_COUNT)


def on_cluster() -> bool:
    """Whether a graph computed now runs on a cluster of ``distributed``."""
    return _client() is not None and dask.config.get("scheduler", None) in (None, "dask.distributed", "distributed")


def _client() -> Any:
    distributed = sys.modules.get("distributed")
    if distributed is None or not hasattr(
        distributed, "default_client"
    ):  # not imported, or another thread is just importing it
        return None
    try:
        return distributed.default_client()
    except ValueError:  # there is none
        return None
