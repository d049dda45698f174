"""A store as a zarr store, and elements of zarr arrays through zarr itself."""

import zlib
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from zarr.abc.buffer import Buffer, BufferPrototype
from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.api.asynchronous import open_array

from zarr_vectors_lazy.errors import FormatError, StoreError
from zarr_vectors_lazy.storage.base import Backend, Result
from zarr_vectors_lazy.storage.io import gather_async, run
from zarr_vectors_lazy.storage.requests import Delete, Get, ListDir, ListSizes, Put, Request

# A backend as a zarr store: what zarr reads through it is counted, limited and fails like everything else.


class BackendStore(Store):
    """Used only on our loop, unless `_ask` is overridden.

    Parameters
    ----------
    backend
        The backend that answers.
    check
        Called with what was read, except metadata.
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


# Elements of zarr arrays through zarr itself: slower than `fetch`, but right for every codec that zarr can decode.

Array: TypeAlias = Any
"""zarr's AsyncArray, which none of its documented modules has."""
Check: TypeAlias = Callable[[bytes], None]
"""Raises FormatError for bytes that must not be decoded."""
# What zarr and its codecs raise on bytes that make no sense; OSError is zstd's and gzip's too.
_UNDECODABLE = (
    ValueError,
    TypeError,
    RuntimeError,
    LookupError,
    EOFError,
    OSError,
    AssertionError,
    ArithmeticError,
    NotImplementedError,
    MemoryError,  # a garbage count requests more than exists
    zlib.error,
)


def zarr_cells(backend: Backend, path: str, indices: npt.NDArray[np.integer]) -> list[bytes]:
    """Elements of a variable-length-bytes array (Zarr v3), read concurrently.

    Parameters
    ----------
    backend
        An open connection.
    path
        The array's path in the store.
    indices
        ``(n, K)`` indices of the elements.

    Returns
    -------
    ``n`` byte strings in the order of ``indices``; ``b""`` for elements that were never stored.

    Raises
    ------
    StoreError
        If the bytes could not be read.
    FormatError
        If zarr could not decode them; its attribute ``rows`` lists the rows of ``indices`` concerned, none of
        them if the array's metadata is to blame.
    """
    wanted = np.asarray(indices)
    return run(_cells(backend, path, wanted)) if len(wanted) else []


def zarr_array(
    backend: Backend, path: str, start: int, stop: int | None, check: Check | None = None, *, version: str = ""
) -> npt.NDArray[Any]:
    """Rows ``[start, stop)`` of a dense array, to its end if ``stop`` is None; errors as for `zarr_cells`.

    ``check`` is called with the bytes of every object before zarr decodes them. ``version`` changes when the array's
    metadata do: an array that was opened for another version is opened again.
    """
    return run(_rows(backend, path, start, stop, check, version=version))


async def _cells(backend: Backend, path: str, indices: npt.NDArray[np.integer]) -> list[bytes]:
    array = await _opened(backend, path)
    # One read for each stored object, so that a shard's index is not read again for each element.
    _, group = np.unique(indices // np.asarray(array.shards or array.chunks), axis=0, return_inverse=True)
    order = np.argsort(group.ravel(), kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(group.ravel()[order])) + 1)
    cells: list[bytes] = [b""] * len(indices)

    async def read(rows: npt.NDArray[np.integer]) -> None:
        try:
            if len(rows) == 1:
                found = await array.getitem(tuple(slice(int(i), int(i) + 1) for i in indices[rows[0]]))
            else:
                found = await array.get_coordinate_selection(tuple(indices[rows].T))
        except StoreError:
            raise
        except _UNDECODABLE as error:
            raise _undecodable(backend, path, error, rows) from error
        for row, cell in zip(rows, np.asarray(found, dtype=object).ravel(), strict=True):
            cells[row] = cell if isinstance(cell, bytes) else bytes(cell)

    await gather_async(read, groups)
    return cells


async def _rows(
    backend: Backend, path: str, start: int, stop: int | None, check: Check | None, *, version: str
) -> npt.NDArray[Any]:
    array = await _opened(backend, path, check, version)
    try:
        found = np.asarray(await array.getitem(slice(start, stop)))
    except StoreError:
        raise
    except _UNDECODABLE as error:
        raise _undecodable(backend, path, error, np.arange(start, stop or start)) from error
    return found.astype(object) if found.dtype.kind == "T" else found


async def _opened(backend: Backend, path: str, check: Check | None = None, version: str = "") -> Array:
    found, array = backend.opened.get(path, (None, None))
    if found != version:
        try:
            array = await open_array(store=BackendStore(backend, check), path=path, mode="r", zarr_format=3)
        except StoreError:
            raise
        except _UNDECODABLE as error:
            raise _undecodable(backend, path, error, np.arange(0)) from error
        backend.opened[path] = (version, array)
    return array


def _undecodable(backend: Backend, path: str, error: Exception, rows: npt.NDArray[np.integer]) -> FormatError:
    reason = " ".join(str(error).split())[:300]
    failure = FormatError(f"zarr cannot decode array {path!r}: {type(error).__name__}: {reason}", where=backend.url)
    failure.__dict__["rows"] = rows.tolist()
    return failure
