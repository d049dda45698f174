"""Elements of zarr arrays through zarr itself: slower than `fetch`, and right for every codec that zarr can decode."""

import zlib
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from zarr.api.asynchronous import open_array

from zarr_vectors_lazy.errors import FormatError, StoreError
from zarr_vectors_lazy.storage.base import Backend
from zarr_vectors_lazy.storage.loop import gather, run
from zarr_vectors_lazy.storage.view import BackendStore

Array: TypeAlias = Any
"""zarr's AsyncArray, which is in none of its documented modules."""
Check: TypeAlias = Callable[[bytes], None]
"""Raises FormatError for bytes that must not be decoded."""
# What zarr and its codecs raise on bytes that they cannot make sense of; OSError is zstd's and gzip's, too.
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
    MemoryError,  # a count that is garbage asks for more than there is
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
        If zarr could not decode them; its attribute ``rows`` lists the rows of ``indices`` that it is about, none of
        them if the array's metadata is to blame.
    """
    wanted = np.asarray(indices)
    return run(_cells(backend, path, wanted)) if len(wanted) else []


def zarr_array(
    backend: Backend, path: str, start: int, stop: int | None, check: Check | None = None, *, version: str = ""
) -> npt.NDArray[Any]:
    """Rows ``[start, stop)`` of a dense array, to its end where ``stop`` is None; errors as `zarr_cells`.

    ``check`` is given the bytes of every object before zarr decodes them. ``version`` changes when the array's metadata
    do: what was opened for another one is opened again.
    """
    return run(_rows(backend, path, start, stop, check, version=version))


async def _cells(backend: Backend, path: str, indices: npt.NDArray[np.integer]) -> list[bytes]:
    array = await _opened(backend, path)
    # One read for each stored object, so that a shard's index is not read once an element.
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

    await gather(read, groups)
    return cells


async def _rows(
    backend: Backend, path: str, start: int, stop: int | None, check: Check | None, *, version: str
) -> npt.NDArray[Any]:
    array = await _opened(backend, path, check, version)
    try:
        return np.asarray(await array.getitem(slice(start, stop)))
    except StoreError:
        raise
    except _UNDECODABLE as error:
        raise _undecodable(backend, path, error, np.arange(start, stop or start)) from error


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
