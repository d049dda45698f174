"""What icechunk's sessions allow; icechunk itself need not be installed."""

from typing import Any

from zarr_vectors_lazy.errors import StoreError

STAYS = (
    "a writable icechunk session stays in its process: compute under threads, dask.config.set(scheduler='threads'), or "
    "read from repo.readonly_session()"
)
LOST = (
    "it is a copy of an icechunk fork in another process, and what is written to it would be lost; compute under "
    "threads, dask.config.set(scheduler='threads')"
)


def is_icechunk(store: object) -> bool:
    """Whether a store object is icechunk's."""
    kinds = type(store).__mro__
    return any(kind.__name__ == "IcechunkStore" and kind.__module__.startswith("icechunk") for kind in kinds)


def check_leaves(value: Any) -> None:
    """Raise StoreError if an object is the store of a session that does not pickle."""
    if is_icechunk(value):
        try:
            value.__getstate__()
        except ValueError as error:  # icechunk's own says to fork, which would lose what is written
            raise StoreError(STAYS) from error
