"""A description of a store as a zarr store of its own, for who works with zarr beside us."""

import asyncio
from functools import partial
from typing import Any

from zarr.abc.store import Store
from zarr.storage import LocalStore

from zarr_vectors_lazy.storage.base import Backend, Result
from zarr_vectors_lazy.storage.connect import connect
from zarr_vectors_lazy.storage.requests import Put, Request
from zarr_vectors_lazy.storage.spec import StoreSpec
from zarr_vectors_lazy.storage.view import BackendStore

DOC = "zarr.json"


def zarr_store(spec: StoreSpec, *, writable: bool = False) -> Store:
    """Zarr store that reaches what we reach: the user's own object, a folder, or our connection.

    Raises
    ------
    StoreError
        If it is to be writable and is not.
    """
    if writable:
        connect(spec).check_writable(Put(DOC, b""))
    if spec.instance is not None:
        return spec.instance
    if spec.backend == "local":
        return LocalStore(spec.url, read_only=not writable)
    return ConnectedStore(spec, read_only=not writable)


class ConnectedStore(BackendStore):
    """Our connection on any event loop: each request waits on a thread.

    Parameters
    ----------
    spec
        The store.
    read_only
        Whether it refuses to write.
    """

    def __init__(self, spec: StoreSpec, *, read_only: bool = True) -> None:
        super().__init__(connect(spec), read_only=read_only)
        self._spec = spec

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(ConnectedStore, read_only=self.read_only), (self._spec,)

    def with_read_only(self, read_only: bool = False) -> "ConnectedStore":  # noqa: D102  inherited
        return ConnectedStore(self._spec, read_only=read_only)

    async def _ask(self, request: Request) -> Result:
        return (await asyncio.to_thread(_fetch, self._backend, request))[0]


def _fetch(backend: Backend, request: Request) -> list[Result]:
    return backend.fetch([request])
