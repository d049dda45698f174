"""Whether a task runs where its graph was made for: one machine, or a cluster."""

import sys

from zarr_vectors_lazy.errors import StoreError


def check_worker(*, wanted: bool) -> None:
    """Raise StoreError if the task runs on a worker of ``distributed`` and is not to, or the other way round."""
    if _on_worker() is not wanted:
        made, needed = ("with", "Dask's shuffle") if wanted else ("without", "files of one machine")
        raise StoreError(
            f"this write was made {made} a distributed Client, through {needed}, and is computed elsewhere: "
            "make it (compute=False) under the scheduler that shall compute it"
        )


def _on_worker() -> bool:
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return False
    try:
        distributed.get_worker()
    except ValueError:  # there is none
        return False
    return True
