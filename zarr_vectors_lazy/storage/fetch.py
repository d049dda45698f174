"""Bytes and names of many objects at once: the door through which everything above reads."""

from collections.abc import Sequence

from zarr_vectors_lazy.storage.arrays import zarr_array, zarr_cells
from zarr_vectors_lazy.storage.base import Backend, Result
from zarr_vectors_lazy.storage.loop import run
from zarr_vectors_lazy.storage.requests import Request

__all__ = ["fetch", "run", "zarr_array", "zarr_cells"]


def fetch(backend: Backend, requests: Sequence[Request]) -> list[Result]:
    """Answer all requests concurrently, while the calling thread waits.

    Parameters
    ----------
    backend
        An open connection.
    requests
        At most ``max-requests`` of them are in flight per process at any time, whatever the number of callers.

    Returns
    -------
    In the order of ``requests``. `Get`: a read-only buffer, or ``None`` where there is no such object. `ListDir`:
    sorted names, ``()`` where there is nothing, ``None`` where listing was refused and was not required. `ListSizes`:
    ``{key: nbytes}``.

    Raises
    ------
    StoreError
        If anything else happened to any of them; the rest is cancelled.
    """
    return backend.fetch(requests) if requests else []
