"""A description of a store as a zarr store of its own, for who works with zarr beside us."""

import asyncio

from zarr.abc.store import Store
from zarr.storage import LocalStore

from zarr_vectors_lazy.storage.base import Backend, Result
from zarr_vectors_lazy.storage.connect import connect
from zarr_vectors_lazy.storage.requests import Request
from zarr_vectors_lazy.storage.spec import StoreSpec
from zarr_vectors_lazy.storage.view import BackendStore


def zarr_store(spec: StoreSpec) -> Store:
    """Zarr store that reaches what we reach: the user's own object, a folder, or our connection, read-only."""
    if spec.instance is not None:
        return spec.instance
    if spec.backend == "local":
        return LocalStore(spec.url, read_only=True)
    return ConnectedStore(spec)


class ConnectedStore(BackendStore):
    """Our connection on any event loop: each request waits on a thread.

    Parameters
    ----------
    spec
        The store.
    """

    def __init__(self, spec: StoreSpec) -> None:
        super().__init__(connect(spec))
        self._spec = spec

    def __reduce__(self) -> tuple[type["ConnectedStore"], tuple[StoreSpec]]:
        return ConnectedStore, (self._spec,)

    async def _ask(self, request: Request) -> Result:
        return (await asyncio.to_thread(_fetch, self._backend, request))[0]


def _fetch(backend: Backend, request: Request) -> list[Result]:
    return backend.fetch([request])
