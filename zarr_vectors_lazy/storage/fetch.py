"""Bytes and names of many objects at once: the door through which everything above reads and writes."""

from collections.abc import Callable, Collection, Sequence

from zarr_vectors_lazy.storage.arrays import zarr_array, zarr_cells
from zarr_vectors_lazy.storage.base import Backend, Result
from zarr_vectors_lazy.storage.loop import run
from zarr_vectors_lazy.storage.requests import Delete, ListSizes, Request

ROUND = 256  # requests that delete, at once
__all__ = ["delete_below", "fetch", "run", "zarr_array", "zarr_cells"]


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
    ``{key: nbytes}``. `Put`: whether it was written, False only for ``create``. `Delete`: ``None``.

    Raises
    ------
    StoreError
        If anything else happened to any of them; the rest is cancelled.
    """
    return backend.fetch(requests) if requests else []


def delete_below(
    backend: Backend,
    prefix: str = "",
    *,
    keep: Collection[str] = (),
    before_each: Callable[[], None] = lambda: None,
) -> int:
    """Delete every object below a prefix; return how many there were.

    Parameters
    ----------
    prefix
        Folder, ``""`` for the whole store.
    keep
        Keys to leave.
    before_each
        Called before each round of requests; it raises where no more is to be deleted.

    Raises
    ------
    StoreError
        If the store cannot be listed, or a deletion fails.
    """
    (sizes,) = fetch(backend, [ListSizes(prefix)])
    keys = [key for key in sizes if key not in keep]
    step = backend.deletes_at_once
    deletes = [Delete(tuple(keys[i : i + step])) for i in range(0, len(keys), step)]
    for i in range(0, len(deletes), ROUND):
        before_each()
        fetch(backend, deletes[i : i + ROUND])
    backend.tidy(keys)
    return len(keys)
