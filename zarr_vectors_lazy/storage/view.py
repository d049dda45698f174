"""A backend as a zarr store: what zarr reads through it is counted, limited and fails like everything else."""

from collections.abc import AsyncIterator, Callable, Iterable

from zarr.abc.buffer import Buffer, BufferPrototype
from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest

from zarr_vectors_lazy.storage.base import Backend, Result
from zarr_vectors_lazy.storage.requests import Delete, Get, ListDir, ListSizes, Put, Request


class BackendStore(Store):
    """Used on our loop alone, unless `_ask` goes another way.

    Parameters
    ----------
    backend
        Who answers.
    check
        Given what was read, but for metadata.
    read_only
        Whether it refuses to write.
    """

    def __init__(
        self, backend: Backend, check: Callable[[bytes], None] | None = None, *, read_only: bool = True
    ) -> None:
        super().__init__(read_only=read_only)
        self._backend = backend
        self._check = check

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BackendStore) and other._backend is self._backend

    __hash__ = Store.__hash__

    supports_writes = True
    supports_deletes = True
    supports_listing = True

    async def _ask(self, request: Request) -> Result:
        return await self._backend.fetch_one(request)

    async def get(  # noqa: D102  inherited
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        data = await self._ask(_request(key, byte_range))
        if data is None:
            return None
        raw = bytes(data)
        if self._check is not None and not key.endswith("zarr.json"):
            self._check(raw)
        return prototype.buffer.from_bytes(raw)

    async def get_partial_values(  # noqa: D102  inherited
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    async def exists(self, key: str) -> bool:  # noqa: D102  inherited
        return await self._ask(Get(key)) is not None

    async def list(self) -> AsyncIterator[str]:  # noqa: D102  inherited
        async for key in self.list_prefix(""):
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:  # noqa: D102  inherited
        for key in await self._ask(ListSizes(prefix.strip("/"))):
            yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:  # noqa: D102  inherited
        for name in await self._ask(ListDir(prefix.strip("/"))):
            yield name

    async def set(self, key: str, value: Buffer) -> None:  # noqa: D102  inherited
        self._check_writable()
        await self._ask(Put(key, value.to_bytes()))

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:  # noqa: D102  inherited
        self._check_writable()
        await self._ask(Put(key, value.to_bytes(), create=True))

    async def delete(self, key: str) -> None:  # noqa: D102  inherited
        self._check_writable()
        await self._ask(Delete((key,)))


def _request(key: str, byte_range: ByteRequest | None) -> Get:
    match byte_range:
        case None:
            return Get(key)
        case RangeByteRequest(start, end):
            return Get(key, start, end)
        case SuffixByteRequest(suffix):
            return Get(key, -suffix)
        case OffsetByteRequest(offset):
            return Get(key, offset)
