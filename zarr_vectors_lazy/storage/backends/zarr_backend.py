"""Any store object of the user's, awaited on our loop."""

import asyncio
from collections.abc import Sequence
from typing import cast
from zipfile import BadZipFile

from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.buffer import default_buffer_prototype
from zarr.storage import StorePath

from zarr_vectors_lazy.storage.base import Backend, Result
from zarr_vectors_lazy.storage.counters import record
from zarr_vectors_lazy.storage.loop import Slot, gather, lock, run
from zarr_vectors_lazy.storage.ranges import check_length
from zarr_vectors_lazy.storage.requests import Delete, Get, ListDir, ListSizes, Put, Request
from zarr_vectors_lazy.storage.spec import StoreSpec

# A store object of somebody else's raises what its maker chose; these are what stores and their codecs are known to.
FAILURES = (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, NotImplementedError, BadZipFile)


class ZarrBackend(Backend):
    """A ``zarr.abc.store.Store`` given by the user: in memory, icechunk, a wrapper."""

    def __init__(self, spec: StoreSpec) -> None:
        super().__init__(spec)
        self._store = cast("Store", spec.instance)
        self._opening = asyncio.Lock()
        self._opened = False
        self.listable = self._store.supports_listing
        self.failures: tuple[type[BaseException], ...] = FAILURES

    def fetch(self, requests: Sequence[Request]) -> list[Result]:  # noqa: D102  inherited
        return run(gather(self.fetch_one, requests))

    async def fetch_one(self, request: Request) -> Result:  # noqa: D102  inherited
        self.check_writable(request)
        async with Slot():
            try:
                await self._open()
                return await self._answer(request)
            except self.failures as error:
                raise self.failure(request, error) from error

    async def _open(self) -> None:
        """Open a store object that is not open yet, as a new ZipStore."""
        async with self._opening:
            if not self._opened:
                await StorePath.open(self._store, "")
                self._opened = True

    async def _answer(self, request: Request) -> Result:
        match request:
            case Get():
                return await self._get(request)
            case ListDir():
                return await self._names(request)
            case ListSizes(prefix):
                return await self._sizes(prefix)
            case Put():
                return await (self._create(request) if request.create else self._put(request))
            case Delete(keys):
                for key in keys:
                    await self._delete(key)
                return None

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
            # MemoryStore (zarr 3.1.6) gives a wrong part where the suffix is longer than the object.
            return await self._read(Get(request.key))
        return None if data is None else check_length(data, start, stop)

    async def _read(self, request: Get) -> bytes | None:
        buffer = await self._store.get(request.key, default_buffer_prototype(), byte_request(request))
        data = None if buffer is None else buffer.to_bytes()
        record("get" if request.start is None else "range", request.key, len(data or b""))
        return data

    async def _put(self, request: Put) -> bool:
        await self._store.set(request.key, default_buffer_prototype().buffer.from_bytes(bytes(request.data)))
        record("put", request.key, 0)
        return True

    async def _create(self, request: Put) -> bool:
        data = default_buffer_prototype().buffer.from_bytes(bytes(request.data))
        async with lock():  # zarr does not say who was first, and two store objects may be one store
            if await self._store.exists(request.key):
                return False
            await self._store.set_if_not_exists(request.key, data)
            record("put", request.key, 0)
            now = await self._store.get(request.key, default_buffer_prototype())
        return now is not None and now.to_bytes() == request.data

    async def _delete(self, key: str) -> None:
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

    async def _sizes(self, prefix: str) -> dict[str, int]:
        keys = await self._keys(prefix)
        record("list", prefix, 0)
        return dict(zip(keys, await gather(self._store.getsize, keys), strict=True))

    async def _keys(self, prefix: str) -> list[str]:
        return [key async for key in self._store.list_prefix(f"{prefix}/" if prefix else "")]


def byte_request(request: Get) -> ByteRequest | None:
    """Zarr's form of the range of ``request``."""
    if request.start is None:
        return None
    if request.stop is None:
        return SuffixByteRequest(-request.start) if request.start < 0 else OffsetByteRequest(request.start)
    return RangeByteRequest(request.start, request.stop)
