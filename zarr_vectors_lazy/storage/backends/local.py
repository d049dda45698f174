"""Files on disk, read in the calling thread, because each costs less than handing it to another thread."""

import contextlib
import os
import secrets
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any

from zarr_vectors_lazy.storage.base import Backend, Result
from zarr_vectors_lazy.storage.requests import Delete, Get, ListDir, ListSizes, Put, Request, Size, record
from zarr_vectors_lazy.types import Buffer

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0)
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


class LocalBackend(Backend):
    """A folder."""

    creates = True
    swaps = True

    def fetch(self, requests: Sequence[Request]) -> list[Result]:  # noqa: D102  inherited
        return [self._answer(request) for request in requests]

    async def fetch_one(self, request: Request) -> Result:  # noqa: D102  inherited
        return self._answer(request)

    def _answer(self, request: Request) -> Result:
        try:
            return self._get(request) if isinstance(request, Get) else self.answer(request)  # of which there are most
        except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
            raise self.failure(request, error) from error

    def stamp(self, key: str) -> Hashable:  # noqa: D102  inherited
        try:
            found = os.stat(self._path(key))
        except (OSError, ValueError):
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def tidy(self, keys: Sequence[str]) -> None:  # noqa: D102  inherited
        if keys:
            with contextlib.suppress(OSError):  # folders that are not empty stay
                os.rmdir(self.url)

    def _path(self, key: str) -> str:
        return f"{self.url}/{key}" if key else self.url

    def _get(self, request: Get) -> bytes | None:
        try:
            file = os.open(self._path(request.key), _FLAGS)  # a quarter faster than a file object
            try:
                data = _read_range(file, request.start, request.stop)
            finally:
                os.close(file)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            data = None
        record("get" if request.start is None else "range", request.key, len(data or b""))
        return data

    def _put(self, request: Put) -> bool:
        self.check_writable(request)
        if request.match is not None:
            return self._swap(request, request.match)
        path = self._path(request.key)
        written = request.unread and _write_new(path, request.data)
        if not written and not (request.unread and request.create):
            written = _write_whole(path, request)
        record("put", request.key, 0)
        return written

    def _swap(self, request: Put, old: bytes) -> bool:
        with _locked(self.url):
            now = self._get(Get(request.key))
            return now == request.data or (now == old and self._put(Put(request.key, request.data)))

    def _delete(self, request: Delete) -> None:
        self.check_writable(request)
        keys = request.keys
        for key in keys:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                os.unlink(self._path(key))
        folders: set[str] = set()
        for key in keys:
            while (key := key.rpartition("/")[0]) and key not in folders:
                folders.add(key)
        for folder in sorted(folders, key=lambda name: name.count("/"), reverse=True):
            with contextlib.suppress(OSError):  # folders that are not empty stay
                os.rmdir(self._path(folder))
        record("delete", keys[0] if keys else "", 0)

    def _size(self, request: Size) -> int | None:
        record("head", request.key, 0)
        path = self._path(request.key)
        return os.stat(path).st_size if os.path.isfile(path) else None

    def _names(self, request: ListDir) -> tuple[str, ...]:
        try:
            names = tuple(sorted(os.listdir(self._path(request.prefix))))
        except (FileNotFoundError, NotADirectoryError):
            names = ()
        record("list", request.prefix, 0)
        return names

    def _sizes(self, request: ListSizes) -> dict[str, int]:
        root, sizes = Path(self.url), {}
        for folder, _, names in os.walk(root / request.prefix, onerror=_raise_unless_missing, followlinks=True):
            below = Path(folder).relative_to(root).as_posix()
            for name in names:
                sizes[name if below == "." else f"{below}/{name}"] = os.stat(os.path.join(folder, name)).st_size
        record("list", request.prefix, 0)
        return sizes


def _read_range(file: int, start: int | None, stop: int | None) -> bytes:
    size = os.fstat(file).st_size
    if start is None and stop is None and size and len(data := os.read(file, size)) == size:
        return data  # with thousands of small files, every step for each of them counts
    begin = 0 if start is None else max(0, size + start) if start < 0 else min(start, size)
    end = size if stop is None else min(stop, size)
    os.lseek(file, begin, os.SEEK_SET)
    parts = []
    while begin < end or not size:  # a folder reports itself when it is read
        part = os.read(file, end - begin)
        if not part:
            break
        parts.append(part)
        begin += len(part)
    if begin < end:
        raise OSError(f"the file ended at byte {begin} of {size}")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _write_whole(path: str, request: Put) -> bool:
    """Write next to the place, then move there; returns whether it was written."""
    folder, _, name = path.rpartition("/")
    part = f"{folder}/.{name}.{secrets.token_hex(8)}"
    try:
        _write_in_folder(part, request.data)
        return _create(part, path) if request.create else _replace(part, path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise


def _write_new(path: str, data: Buffer) -> bool:
    """Write in place something that does not exist; returns whether it did not.

    An interrupted write leaves a part, which the next writer finds and replaces whole: so a task that runs twice at
    the same time, as schedulers allow, leaves no part if one of the two has finished.
    """
    try:
        _write_in_folder(path, data)
    except FileExistsError:
        return False
    return True


def _write_in_folder(path: str, data: Buffer) -> None:
    try:
        _write_file(path, data)
    except FileNotFoundError:
        os.makedirs(path.rpartition("/")[0], exist_ok=True)
        _write_file(path, data)


def _write_file(path: str, data: Buffer) -> None:
    file = os.open(path, _WRITE, 0o666)  # as in `_get`
    try:
        view = memoryview(data).cast("B")
        while len(view):
            view = view[os.write(file, view) :]
    finally:
        os.close(file)


def _replace(part: str, path: str) -> bool:
    os.replace(part, path)  # a reader sees either the old file or the new one
    return True


def _create(part: str, path: str) -> bool:
    try:
        os.link(part, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without links
        return _create_open(part, path)
    finally:
        Path(part).unlink(missing_ok=True)
    return True


@contextlib.contextmanager
def _locked(folder: str) -> Iterator[None]:
    """Hold the lock of a folder, which ends with the process; no lock if the system or the file system has none."""
    if fcntl is None:
        yield
        return
    file = os.open(folder, _FLAGS)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _create_open(part: str, path: str) -> bool:
    data = Path(part).read_bytes()
    try:
        _write_file(path, data)
    except FileExistsError:
        return False
    return True


def _raise_unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error
