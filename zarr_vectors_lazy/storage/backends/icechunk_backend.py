"""An icechunk session, which takes Zarr's own keys only, and cells only of arrays that are there."""

import importlib
import re
import shutil
import weakref
from collections.abc import Sequence

from zarr_vectors_lazy.errors import StoreError
from zarr_vectors_lazy.settings import temporary_folder
from zarr_vectors_lazy.storage.backends.local import LocalBackend
from zarr_vectors_lazy.storage.backends.zarr_backend import FAILURES, ZarrBackend
from zarr_vectors_lazy.storage.base import Result
from zarr_vectors_lazy.storage.counters import record
from zarr_vectors_lazy.storage.requests import Delete, Get, ListDir, ListSizes, Put, Request
from zarr_vectors_lazy.storage.spec import StoreSpec

DOC = "zarr.json"
ASIDE = "_"
OTHER_CELL = "; icechunk knows cells by 'c/' alone: give shard_shape= as you write, as zvl.shard needs other keys"
_OTHER_CELL = re.compile(r"/c\.[0-9.]+$")
_CELL = re.compile(r"(.+)/c(?:/[0-9]+)*")


class IcechunkBackend(ZarrBackend):
    """An ``IcechunkStore``; what is written is in the user's session, for others once that is committed.

    Folders whose names begin with an underscore are no part of a Zarr hierarchy (the journal of a pyramid's build).
    They are kept in files of this machine, as long as the store object is: an uncommitted session lives no longer.
    """

    def __init__(self, spec: StoreSpec) -> None:
        super().__init__(spec)
        self.failures = (*FAILURES, importlib.import_module("icechunk").IcechunkError)
        folder = temporary_folder()
        self._aside = LocalBackend(StoreSpec("local", str(folder)))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)

    def fetch(self, requests: Sequence[Request]) -> list[Result]:  # noqa: D102  inherited
        # Documents first: a cell may come with that of its array.
        made = iter(super().fetch([request for request in requests if _is_document(request)]))
        rest = iter(super().fetch([request for request in requests if not _is_document(request)]))
        return [next(made if _is_document(request) else rest) for request in requests]

    def failure(self, request: Request, error: BaseException, hint: str = "") -> StoreError:  # noqa: D102  inherited
        other = isinstance(request, Put) and _OTHER_CELL.search(request.key)
        return super().failure(request, error, OTHER_CELL if other else hint)

    async def _answer(self, request: Request) -> Result:
        if _is_aside(request):
            return await self._aside.fetch_one(request)
        if isinstance(request, ListDir | ListSizes) and not request.prefix:
            own, beside = await super()._answer(request), await self._aside.fetch_one(request)
            return tuple(sorted({*own, *beside})) if isinstance(request, ListDir) else {**own, **beside}
        return await super()._answer(request)

    async def _get(self, request: Get) -> bytes | None:
        try:
            return await super()._get(request)
        except self.failures:
            if await self._has_array(request.key):
                raise
            record("get" if request.start is None else "range", request.key, 0)
            return None

    async def _put(self, request: Put) -> bool:
        try:
            return await super()._put(request)
        except self.failures:
            if request.array is None:
                raise
        # Other cells of the array may have the same in mind: whoever comes first makes it.
        await self._create(Put(_document_of(request.key), request.array, create=True))
        return await super()._put(request)

    async def _delete(self, key: str) -> None:
        try:
            await super()._delete(key)
        except self.failures:
            if await self._store.exists(key):
                raise
            record("delete", key, 0)  # it went with its array, or with a group above

    async def _has_array(self, key: str) -> bool:
        """Whether the array of a cell is there; True for what is no cell."""
        return not _CELL.fullmatch(key) or await self._store.exists(_document_of(key))

    async def _keys(self, prefix: str) -> list[str]:
        # Icechunk lists only below nodes that it has.
        if prefix and await self._store.exists(f"{prefix}/{DOC}"):
            return await super()._keys(prefix)
        return [key for key in await super()._keys("") if not prefix or key.startswith(f"{prefix}/")]


def _is_document(request: Request) -> bool:
    return isinstance(request, Put) and request.key.endswith(DOC)


def _is_aside(request: Request) -> bool:
    match request:
        case Get(key) | Put(key):
            return key.startswith(ASIDE)
        case ListDir(prefix) | ListSizes(prefix):
            return prefix.startswith(ASIDE)
        case Delete(keys):  # those of one request lie together
            return all(key.startswith(ASIDE) for key in keys)


def _document_of(key: str) -> str:
    """Key of the document of a cell's array."""
    cell = _CELL.fullmatch(key)
    return f"{cell[1]}/{DOC}" if cell else key
