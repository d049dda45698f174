"""Files on disk, read in the calling thread: each costs less than handing it to another thread."""

import os
from collections.abc import Sequence
from pathlib import Path

from zarr_vectors_lazy.storage.base import Backend, Result
from zarr_vectors_lazy.storage.counters import record
from zarr_vectors_lazy.storage.requests import Get, ListDir, ListSizes, Request


class LocalBackend(Backend):
    """A folder."""

    def fetch(self, requests: Sequence[Request]) -> list[Result]:  # noqa: D102  inherited
        return [self._answer(request) for request in requests]

    async def fetch_one(self, request: Request) -> Result:  # noqa: D102  inherited
        return self._answer(request)

    def _answer(self, request: Request) -> Result:
        try:
            match request:
                case Get():
                    return self._read(request)
                case ListDir(prefix):
                    return self._names(prefix)
                case ListSizes(prefix):
                    return self._sizes(prefix)
        except OSError as error:
            raise self.failure(request, error) from error

    def _path(self, key: str) -> str:
        return f"{self.url}/{key}" if key else self.url

    def _read(self, request: Get) -> bytes | None:
        try:
            # Unbuffered: a buffered file costs a second stat and a copy for each of many small files.
            with open(self._path(request.key), "rb", buffering=0) as file:
                data = _read_range(file.fileno(), request.start, request.stop)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            data = None
        record("get" if request.start is None else "range", request.key, len(data or b""))
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
            for folder, _, names in os.walk(root / prefix, onerror=_raise_unless_missing)
            for name in names
        }
        record("list", prefix, 0)
        return sizes


def _read_range(file: int, start: int | None, stop: int | None) -> bytes:
    size = os.fstat(file).st_size
    begin = 0 if start is None else max(0, size + start) if start < 0 else min(start, size)
    end = size if stop is None else min(stop, size)
    parts = []
    while begin < end:
        part = os.pread(file, end - begin, begin)
        if not part:
            raise OSError(f"the file ended at byte {begin} of {size}")
        parts.append(part)
        begin += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _raise_unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error
