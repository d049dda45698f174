"""Files on disk, read in the calling thread: each costs less than handing it to another thread."""

import itertools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from zarr_vectors_lazy.storage.base import Backend, Result
from zarr_vectors_lazy.storage.counters import record
from zarr_vectors_lazy.storage.requests import Get, ListDir, ListSizes, Request

Room: TypeAlias = npt.NDArray[np.uint8]
_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0)


class LocalBackend(Backend):
    """A folder."""

    def fetch(self, requests: Sequence[Request]) -> list[Result]:  # noqa: D102  inherited
        whole = [request for request in requests if isinstance(request, Get) and request.start is None]
        if len(whole) < 2 or not hasattr(os, "readv"):  # Windows has none
            return [self._answer(request) for request in requests]
        pool = Pool(self._size(request.key) for request in whole)
        return [
            self._answer(request, pool.take())
            if isinstance(request, Get) and request.start is None
            else self._answer(request)
            for request in requests
        ]

    def _size(self, key: str) -> int:
        try:
            return os.stat(self._path(key)).st_size
        except OSError:  # reading it says what is wrong
            return 0

    async def fetch_one(self, request: Request) -> Result:  # noqa: D102  inherited
        return self._answer(request)

    def _answer(self, request: Request, room: Room | None = None) -> Result:
        try:
            match request:
                case Get():
                    return self._read(request, room)
                case ListDir(prefix):
                    return self._names(prefix)
                case ListSizes(prefix):
                    return self._sizes(prefix)
        except OSError as error:
            raise self.failure(request, error) from error

    def _path(self, key: str) -> str:
        return f"{self.url}/{key}" if key else self.url

    def _read(self, request: Get, room: Room | None) -> bytes | Room | None:
        try:
            file = os.open(self._path(request.key), _FLAGS)  # a quarter faster than a file object
            try:
                data = _read_into(file, room) if room is not None else _read_range(file, request.start, request.stop)
            finally:
                os.close(file)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            data = None
        record("get" if request.start is None else "range", request.key, 0 if data is None else len(data))
        return data

    def _names(self, prefix: str) -> tuple[str, ...]:
        try:
            names = tuple(sorted(os.listdir(self._path(prefix))))
        except (FileNotFoundError, NotADirectoryError):
            names = ()
        record("list", prefix, 0)
        return names

    def _sizes(self, prefix: str) -> dict[str, int]:
        root = Path(self.url)
        sizes = {
            (file := Path(folder, name)).relative_to(root).as_posix(): file.stat().st_size
            for folder, _, names in os.walk(root / prefix, onerror=_raise_unless_missing, followlinks=True)
            for name in names
        }
        record("list", prefix, 0)
        return sizes


class Pool:
    """Room for several files in one piece of memory, which the kernel gives in large pages.

    Page faults of one buffer a file cost several times the reading itself. The memory is freed when nothing of it is
    used any more.

    Parameters
    ----------
    sizes
        Bytes of each file.
    """

    def __init__(self, sizes: Iterable[int]) -> None:
        ends = list(itertools.accumulate(sizes, initial=0))
        self._spans = itertools.pairwise(ends)
        self._memory = np.empty(ends[-1], np.uint8)

    def take(self) -> Room:
        """Room for the next file."""
        start, stop = next(self._spans)
        return self._memory[start:stop]


def _read_into(file: int, room: Room) -> bytes | Room:
    """Fill ``room``, or read anew where the file is not as large as it was a moment ago."""
    if not len(room) or os.readv(file, [room.data]) < len(room) or os.read(file, 1):
        os.lseek(file, 0, os.SEEK_SET)
        return _read_range(file, None, None)
    return room


def _read_range(file: int, start: int | None, stop: int | None) -> bytes:
    size = os.fstat(file).st_size
    begin = 0 if start is None else max(0, size + start) if start < 0 else min(start, size)
    end = size if stop is None else min(stop, size)
    if begin:
        os.lseek(file, begin, os.SEEK_SET)
    parts = []
    while begin < end or not size:  # a folder says so when it is read
        part = os.read(file, end - begin)
        if not part:
            break
        parts.append(part)
        begin += len(part)
    if begin < end:
        raise OSError(f"the file ended at byte {begin} of {size}")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _raise_unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error
