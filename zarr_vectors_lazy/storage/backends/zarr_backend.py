"""The user's own store objects, and icechunk's sessions."""

import asyncio
import importlib
import re
import shutil
import weakref
from collections.abc import Sequence
from typing import cast
from zipfile import BadZipFile

from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.buffer import default_buffer_prototype
from zarr.storage import StorePath

from zarr_vectors_lazy.errors import StoreError
from zarr_vectors_lazy.settings import temporary_folder
from zarr_vectors_lazy.storage.backends.local import LocalBackend
from zarr_vectors_lazy.storage.base import Backend, Result, check_length
from zarr_vectors_lazy.storage.io import creating, gather_async, run, slot
from zarr_vectors_lazy.storage.requests import Delete, Get, ListDir, ListSizes, Put, Request, Size, record
from zarr_vectors_lazy.storage.spec import StoreSpec

# The user's own store object, awaited on our loop.

# A foreign store object raises whatever its author chose; these are what stores and their codecs are known to raise.
FAILURES = (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, NotImplementedError, BadZipFile)


class ZarrBackend(Backend):
    """A ``zarr.abc.store.Store`` given by the user: in memory, icechunk, a wrapper."""

    def __init__(self, spec: StoreSpec) -> None:
        super().__init__(spec)
        self._store = cast("Store", spec.instance)
        self._opening = asyncio.Lock()
        self._opened = False
        self.listable = self._store.supports_listing
        self.deletes = self._store.supports_deletes
        self.failures: tuple[type[BaseException], ...] = FAILURES

    def fetch(self, requests: Sequence[Request]) -> list[Result]:  # noqa: D102  inherited
        return run(gather_async(self.fetch_one, requests))

    async def fetch_one(self, request: Request) -> Result:  # noqa: D102  inherited
        self.check_writable(request)
        async with slot():
            try:
                await self._open()
                return await self._answer(request)
            except self.failures as error:
                raise self.failure(request, error) from error

    async def _open(self) -> None:
        """Open a store object that is not open yet, such as a new ZipStore."""
        async with self._opening:
            if not self._opened:
                await StorePath.open(self._store, "")
                self._opened = True

    async def _answer(self, request: Request) -> Result:
        return await self.answer(request)

    async def _size(self, request: Size) -> int | None:
        record("head", request.key, 0)
        return await self._store.getsize(request.key) if await self._store.exists(request.key) else None

    async def _get(self, request: Get) -> bytes | None:
        start, stop = request.start, request.stop
        if start is None:
            return await self._read(request)
        if start == stop:
            return b""
        try:
            data = await self._read(request)
        except ValueError:  # IcechunkStore (2.3) refuses a range that ends past the object
            whole = await self._read(Get(request.key))
            return None if whole is None else whole[start:stop]
        if data is not None and 0 < len(data) < -start:
            # MemoryStore (zarr 3.1.6) returns a wrong part if the suffix is longer than the object.
            return await self._read(Get(request.key))
        return None if data is None else check_length(data, start, stop)

    async def _read(self, request: Get) -> bytes | None:
        buffer = await self._store.get(request.key, default_buffer_prototype(), byte_request(request))
        data = None if buffer is None else buffer.to_bytes()
        record("get" if request.start is None else "range", request.key, len(data or b""))
        return data

    async def _put(self, request: Put) -> bool:
        return await (self._create(request) if request.create else self._replace(request))

    async def _replace(self, request: Put) -> bool:
        await self._store.set(request.key, default_buffer_prototype().buffer.from_bytes(bytes(request.data)))
        record("put", request.key, 0)
        return True

    async def _create(self, request: Put) -> bool:
        data = default_buffer_prototype().buffer.from_bytes(bytes(request.data))
        async with creating():  # zarr does not say who was first, and two store objects may be the same store
            if await self._store.exists(request.key):
                return False
            await self._store.set_if_not_exists(request.key, data)
            record("put", request.key, 0)
            now = await self._store.get(request.key, default_buffer_prototype())
        return now is not None and now.to_bytes() == request.data

    async def _delete(self, request: Delete) -> None:
        for key in request.keys:
            await self._remove(key)

    async def _remove(self, key: str) -> None:
        await self._store.delete(key)
        record("delete", key, 0)

    def _read_only(self) -> str:
        return "the zarr store object is read-only" if self._store.read_only else ""

    async def _names(self, request: ListDir) -> tuple[str, ...] | None:
        if not self.listable and not request.required:
            return None
        names = {name.strip("/") async for name in self._store.list_dir(request.prefix)}
        record("list", request.prefix, 0)
        return tuple(sorted(names - {""}))

    async def _sizes(self, request: ListSizes) -> dict[str, int]:
        keys = await self._keys(request.prefix)
        record("list", request.prefix, 0)
        return dict(zip(keys, await gather_async(self._store.getsize, keys), strict=True))

    async def _keys(self, prefix: str) -> list[str]:
        return [key async for key in self._store.list_prefix(f"{prefix}/" if prefix else "")]


def byte_request(request: Get) -> ByteRequest | None:
    """Zarr's form of the range of ``request``."""
    if request.start is None:
        return None
    if request.stop is None:
        return SuffixByteRequest(-request.start) if request.start < 0 else OffsetByteRequest(request.start)
    return RangeByteRequest(request.start, request.stop)


# An icechunk session, which takes only Zarr's own keys, and cells only of arrays that exist.

DOC = "zarr.json"
ASIDE = "_"
OTHER_CELL = (
    "; icechunk only takes cells below 'c/': pass shard_shape= when you write, because zvl.shard needs other keys"
)
_OTHER_CELL = re.compile(r"/c\.[0-9.]+$")
_CELL = re.compile(r"(.+)/c(?:/[0-9]+)*")


class IcechunkBackend(ZarrBackend):
    """An ``IcechunkStore``; what is written is in the user's session, and others see it once that is committed.

    Folders whose names begin with an underscore (the journal of a pyramid) are not part of a Zarr hierarchy.
    They are kept in files on this machine, as long as the store object lives: so does an uncommitted session.
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

    async def _replace(self, request: Put) -> bool:
        try:
            return await super()._replace(request)
        except self.failures:
            if request.array is None:
                raise
        # Other cells of the array may try the same: the first one makes it.
        await self._create(Put(_document_of(request.key), request.array, create=True))
        return await super()._replace(request)

    async def _remove(self, key: str) -> None:
        try:
            await super()._remove(key)
        except self.failures:
            if await self._store.exists(key):
                raise
            record("delete", key, 0)  # it went with its array, or with a group above

    async def _has_array(self, key: str) -> bool:
        """Whether the array of a cell exists; True for anything but a cell."""
        return not _CELL.fullmatch(key) or await self._store.exists(_document_of(key))

    async def _keys(self, prefix: str) -> list[str]:
        # Icechunk lists only below existing nodes.
        if prefix and await self._store.exists(f"{prefix}/{DOC}"):
            return await super()._keys(prefix)
        return [key for key in await super()._keys("") if not prefix or key.startswith(f"{prefix}/")]


def _is_document(request: Request) -> bool:
    return isinstance(request, Put) and request.key.endswith(DOC)


def _is_aside(request: Request) -> bool:
    match request:
        case Get(key) | Size(key) | Put(key):
            return key.startswith(ASIDE)
        case ListDir(prefix) | ListSizes(prefix):
            return prefix.startswith(ASIDE)
        case Delete(keys):  # those of one request lie together
            return all(key.startswith(ASIDE) for key in keys)


def _document_of(key: str) -> str:
    """Key of the document of a cell's array."""
    cell = _CELL.fullmatch(key)
    return f"{cell[1]}/{DOC}" if cell else key
