"""Limits that users set with ``dask.config`` under ``zarr_vectors_lazy``."""

import tempfile
import uuid
from pathlib import Path
from typing import Any

import dask.config

DEFAULTS: dict[str, int | str] = {
    "max-requests": 256,  # requests in flight per process
    "retries": 10,  # times that a request is made again after a failure that may pass
    "retry-timeout": "30 s",  # after which it is not made again
    "read-timeout": "30 s",  # without a byte, after which an attempt is given up
    "batch-chunks": 256,  # cells that one task fetches, at most
    "batch-bytes": "64 MiB",  # stored bytes that one task fetches, at most (estimated)
    "write-bytes": "16 MiB",  # of rows that one task of a write out of core has (estimated)
    "scratch": "",  # folder or URL where records of a write out of core wait; empty: in the store
    "max-cell-bytes": "256 MiB",  # decoded size of a cell that is believed however few bytes are stored
    "max-array-bytes": "4 GiB",  # size of an array of objects, of missing values or of decoded texts
    "max-metadata-bytes": "1 GiB",  # decoded size of a document (zarr.json) that is let in
    "workers": 0,  # task slots to spread batches over; 0: ask Dask
}

dask.config.update_defaults({"zarr_vectors_lazy": dict(DEFAULTS)})


def setting(name: str) -> Any:
    """Value of ``zarr_vectors_lazy.<name>`` in this process's Dask configuration."""
    return dask.config.get(f"zarr_vectors_lazy.{name}", DEFAULTS[name])


def temporary_folder() -> Path:
    """Name of a new folder below Dask's ``temporary-directory``; it is not made."""
    base = dask.config.get("temporary-directory", None) or tempfile.gettempdir()
    return Path(base) / f"zarr-vectors-lazy-{uuid.uuid4().hex}"
