"""Everything that fsspec serves: asynchronous file systems on our loop, the others on threads."""

import asyncio
import atexit
import contextlib
import os
import re
import secrets
import threading
import weakref
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from zarr_vectors_lazy.errors import StoreError
from zarr_vectors_lazy.storage import credentials, io, retry
from zarr_vectors_lazy.storage.backends import fsspec_systems as systems
from zarr_vectors_lazy.storage.backends.fsspec_systems import SHARED, ClientPool, swap
from zarr_vectors_lazy.storage.base import Result, check_length, check_size, of_range, plain
from zarr_vectors_lazy.storage.credentials import SignedBackend, Verdict, Way
from zarr_vectors_lazy.storage.io import gather_async, post, run, slot
from zarr_vectors_lazy.storage.requests import Delete, Get, ListDir, ListSizes, Put, Request, Size, record
from zarr_vectors_lazy.storage.retry import RetryPolicy, retrying
from zarr_vectors_lazy.storage.spec import AZURE, CLOUD, QUERY, StoreSpec, without_secrets

PERSISTENT = {"s3", "http", "https"}
SSH = {"sftp", "ssh"}
MISSING = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
PAGE = 1000  # keys in one request that deletes
PIECE = 2**20
_BEYOND_END = re.compile(r"not satisfiable|InvalidRange|\b416\b", re.IGNORECASE)

_ODD: tuple[type[BaseException], ...] = (AttributeError,)  # botocore's, for a credential_process that prints a list


class Blocking:
    """A blocking file system, under the names of the awaited ones.

    Parameters
    ----------
    system
        The file system.
    """

    def __init__(self, system: Any) -> None:
        self.system = system

    def __getattr__(self, name: str) -> Any:
        call = getattr(self.system, name.removeprefix("_"))

        async def asked(*args: Any, **kwargs: Any) -> Any:
            return call(*args, **kwargs)

        return asked


class FsspecBackend(SignedBackend):
    """A place that an fsspec file system reaches."""

    def __init__(self, spec: StoreSpec) -> None:
        super().__init__(spec)
        self._asynchronous = systems.system_class(self._scheme).async_impl
        self._changing = asyncio.Lock()
        self._creating = threading.Lock()
        self.deletes_at_once = PAGE if self._scheme == "s3" else 1
        self.creates = self._scheme in {*CLOUD, *SSH, "memory"}
        if self._asynchronous:
            way = self._way = run(self._connected())
        else:
            way = systems.make(spec)
            self._lend: Callable[[], contextlib.AbstractContextManager[Any]]
            self._lend = partial(contextlib.nullcontext, way.client)
            if self._scheme not in SHARED:
                lender = ClientPool(lambda: systems.make(spec).client, way.client)
                self._lend = lender.lend
                weakref.finalize(self, lender.close).atexit = False
        self._root = systems.root_of(spec, way.client)

    async def _connected(self, *, anew: bool = False) -> Way:
        # One client for all stores with the same options. It is made on the loop on which it will live, with its
        # session, before many requests would each make one.
        limits = RetryPolicy.of_settings(), io.request_width()
        key = self._scheme, self.spec.options, credentials.seen(self._scheme), limits
        if not anew and (there := _clients.get(key)) is not None:
            return there
        _clients[key] = way = await self._opened(systems.make(self.spec))
        return way

    async def _opened(self, way: Way) -> Way:
        try:
            opened = await systems.connections(way.client)
        except (*systems.failures(), *_ODD) as error:
            reason = without_secrets(" ".join(str(error).split()), self.spec.options) or type(error).__name__
            raise StoreError(f"no connection: {reason}", where=self.url) from error
        if opened:
            weakref.finalize(way.client, _close, opened, os.getpid())
            _register_end()
        return way

    def fetch(self, requests: Sequence[Request]) -> list[Result]:  # noqa: D102  inherited
        if self._asynchronous:
            return run(gather_async(self.fetch_one, requests), self.url)
        return io.gather(self._answer, requests, self.url)

    async def fetch_one(self, request: Request) -> Result:  # noqa: D102  inherited
        self.check_writable(request)
        if not self._asynchronous:
            return await io.on_thread(self._answer, request)
        async with slot():
            return await self._signed(request)

    async def _send(self, way: Way, request: Request) -> Result | BaseException:
        try:
            return await self._patiently(way.client, request)
        except systems.failures() as error:
            return error

    async def _renewed(self, old: Way) -> Way:
        async with self._changing:
            if self._way is old:
                self._way = await self._connected(anew=True)
            return self._way

    def _verdict(self, error: BaseException) -> Verdict:
        expired = retry.has_expired(f"{error} {error.__cause__}")
        return "expired" if expired else "refused" if systems.refused(error) else ""

    async def _patiently(self, fs: Any, request: Request) -> Result:
        # Google's and Azure's file systems do this themselves. A creation whose answer was lost would meet its own
        # object.
        alone = isinstance(request, Put) and request.create and not request.unread
        if self._scheme not in PERSISTENT or alone:
            return await self.answer(request, fs)
        policy = RetryPolicy.of_settings()
        return await retrying(lambda: self.answer(request, fs), policy, systems.failures(), systems.pause_after_failure)

    async def _put(self, fs: Any, request: Put) -> bool:
        if isinstance(fs, Blocking):
            return self._put_blocking(fs.system, request)
        key, data, create = request.key, request.data, request.create
        if request.match is not None:
            done = await swap(fs, self._scheme, self._path(key), request.match, bytes(data))
            record("get", key, len(request.match))
            record("put", key, 0)
            return done
        try:
            await fs._pipe_file(self._path(key), bytes(data), **systems.put_options(self._scheme, data, create=create))
        except FileExistsError:
            if not create:
                raise
            return False
        record("put", key, 0)
        return True

    async def _delete(self, fs: Any, request: Delete) -> None:
        paths = [self._path(key) for key in request.keys]
        if self._scheme == "s3":
            await fs._bulk_delete(paths)
            record("delete", request.keys[0], 0)
            return
        for key, path in zip(request.keys, paths, strict=True):
            with contextlib.suppress(FileNotFoundError):
                await fs._rm_file(path)
            record("delete", key, 0)

    async def _get(self, fs: Any, request: Get) -> bytes | None:
        try:
            data = await (self._get_http(fs, request) if self._scheme in {"http", "https"} else self._cat(fs, request))
        except MISSING as error:
            self._check_bucket(error)
            data = None
        record("get" if request.start is None else "range", request.key, len(data or b""))
        return data

    async def _cat(self, fs: Any, request: Get) -> bytes:
        start, stop = request.start, request.stop
        if start is None:
            return await self._read(fs, request.key, None, None)
        if start == stop:
            return b""
        if start < 0 and self._scheme in AZURE:  # Azure has no suffix ranges
            stop = await self._size(fs, Size(request.key))
            if stop is None:
                raise FileNotFoundError(request.key)
            start = max(0, stop + start)
        try:
            data = check_length(await self._read(fs, request.key, start, stop), start, stop)
        except MISSING:
            raise
        except systems.failures() as error:
            if not _BEYOND_END.search(str(error)):
                raise
            return b""
        return data

    async def _read(self, fs: Any, key: str, start: int | None, stop: int | None) -> bytes:
        if self._scheme == "s3":
            return await self._get_s3(fs, Get(key, start, stop))
        if self._scheme in AZURE:
            return await self._get_azure(fs, Get(key, start, stop))
        return bytes(await fs._cat_file(self._path(key), start=start, end=stop))

    async def _get_http(self, fs: Any, request: Get) -> bytes:
        # fsspec's own read takes any answer for the requested range, even if the server sent the whole object.
        start, stop = request.start, request.stop
        if start is not None and start == stop:
            return b""
        session = await fs.set_session()
        options = dict(fs.kwargs)
        wanted = {"Accept-Encoding": "gzip, deflate"}
        if start is not None:
            wanted = {"Range": f"bytes={_limits(start, stop)}", "Accept-Encoding": "identity"}
        options["headers"] = {**options.get("headers", {}), **wanted}
        async with session.get(fs.encode_url(self._web_address(request.key)), **options) as answer:
            if answer.status in {404, 410}:
                raise FileNotFoundError(request.key)
            if answer.status == 416 and start is not None:
                return b""
            answer.raise_for_status()
            if answer.status not in {200, 203, 206}:  # an answer without the object, whose body would be taken for it
                raise StoreError(
                    f"reading {request.key!r} failed: the server answered {answer.status} without an object"
                )
            data = await systems.joined(answer.content.iter_any(), request.key)
            told = answer.headers.get("Content-Range") if answer.status == 206 else None
            if told is None:
                data = bytes(plain(data, answer.headers.get("Content-Encoding"), request.key))
        return data if start is None else of_range(data, told, start, stop)

    async def _get_s3(self, fs: Any, request: Get) -> bytes:
        # Nor does s3fs, whose own read also begins with a HEAD, or reads the whole object for a range.
        start, stop = request.start, request.stop
        bucket, key, version = fs.split_path(self._path(request.key))
        asked = {"Bucket": bucket, "Key": key, **({"VersionId": version} if version else {})}
        if start is not None:
            asked["Range"] = f"bytes={_limits(start, stop)}"
        answer = await fs._call_s3("get_object", **asked)
        check_size(answer.get("ContentLength") or 0, key)
        async with answer["Body"]:  # which older releases of aiobotocore do not return
            data = await systems.joined(answer["Body"].iter_chunks(PIECE), key)
        if start is None:
            return bytes(plain(data, answer.get("ContentEncoding"), key))
        return of_range(data, answer.get("ContentRange"), start, stop)

    async def _get_azure(self, fs: Any, request: Get) -> bytes:
        # adlfs itself reads and unpacks whatever comes.
        start, stop = request.start, request.stop
        container, blob, version = fs.split_path(self._path(request.key))
        wanted = {"offset": start, "length": None if stop is None else stop - (start or 0), "version_id": version}
        async with fs.service_client.get_blob_client(container=container, blob=blob) as client:
            try:
                found = await client.download_blob(
                    **wanted, raw_response_hook=systems.check_azure(request.key), **fs._timeout_kwargs
                )
            except systems.failures() as error:
                if type(error).__name__ != "ResourceNotFoundError":
                    raise
                raise FileNotFoundError(request.key) from error
            check_size(found.size, request.key)
            data: bytes = await found.readall()
        return data

    def _check_bucket(self, error: BaseException) -> None:
        if retry.NO_BUCKET.search(f"{error} {error.__cause__}"):
            raise StoreError(f"no such bucket: {error}", where=self.url) from error

    async def _size(self, fs: Any, request: Size) -> int | None:
        record("head", request.key, 0)
        try:
            found = await fs._info(self._path(request.key))
        except MISSING as error:
            self._check_bucket(error)
            return None
        return int(found["size"]) if found["type"] == "file" and found["size"] is not None else None

    async def _names(self, fs: Any, request: ListDir) -> tuple[str, ...] | None:
        found: tuple[str, ...] | None = None
        if self.listable or request.required:
            self.must_list(request.prefix)
            path = self._path(request.prefix)
            try:
                found = self._children(path, await fs._ls(path, detail=True))
            except MISSING as error:
                self._check_bucket(error)
                found = ()
        record("list", request.prefix, 0)
        return found

    async def _sizes(self, fs: Any, request: ListSizes) -> dict[str, int]:
        self.must_list(request.prefix)
        found = await self._below(fs, self._path(request.prefix))
        record("list", request.prefix, 0)
        skipped = len(self._root.strip("/")) + 1 if self._root.strip("/") else 0
        return {name.strip("/")[skipped:]: int(entry["size"]) for name, entry in found.items()}

    async def _below(self, fs: Any, path: str) -> dict[str, dict[str, Any]]:
        """All objects below a folder, by name."""
        if not systems.walks(fs.system if isinstance(fs, Blocking) else fs):
            try:
                found: dict[str, dict[str, Any]] = await fs._find(path, detail=True)
            except MISSING as error:
                self._check_bucket(error)
                found = {}
            return found
        found, folders = {}, [path]
        while folders:
            folder = folders.pop()
            with contextlib.suppress(*MISSING):
                for entry in await fs._ls(folder, detail=True):
                    name = entry["name"].rstrip("/")
                    if entry["type"] != "directory":
                        found[name] = entry
                    elif name.strip("/") != folder.strip("/"):
                        folders.append(name)
        return dict(sorted(found.items()))

    def _answer(self, request: Request) -> Result:
        """Answer from a blocking file system, on a thread."""
        self.check_writable(request)
        try:
            with self._lend() as system:
                return io.finished(self.answer(request, Blocking(system)))
        except systems.failures() as error:
            return self.fail(request, error)

    def tidy(self, keys: Sequence[str]) -> None:  # noqa: D102  inherited
        if self._asynchronous:  # buckets have no folders
            return
        folders = {folder for key in keys for folder in PurePosixPath(key).parents} - {PurePosixPath()}
        for folder in sorted(folders, key=lambda path: len(path.parts), reverse=True):
            # folders that are not empty stay
            with contextlib.suppress(OSError, NotImplementedError), self._lend() as system:
                system.rmdir(self._path(str(folder)))

    def _put_blocking(self, system: Any, request: Put) -> bool:
        path = self._path(request.key)
        _make_folders(system, path.rpartition("/")[0])
        if request.create:
            if not self._create(system, path, bytes(request.data)):
                return False
        elif self._scheme in SSH:
            folder, _, name = path.rpartition("/")
            part = f"{folder}/.{name}.{secrets.token_hex(8)}"
            system.pipe_file(part, bytes(request.data))
            system.mv(part, path)  # a reader sees either the old one or the new one, complete
        else:
            system.pipe_file(path, bytes(request.data))
        record("put", request.key, 0)
        return True

    def _create(self, system: Any, path: str, data: bytes) -> bool:
        if self._scheme in SSH:
            return systems.create_over_ssh(system, path, data)
        with self._creating:  # a look and a put: at least no other thread can come between
            if system.exists(path):  # not every file system has a mode for it
                return False
            try:
                system.pipe_file(path, data, mode="create")
            except FileExistsError:
                return False
        return True

    def _path(self, key: str) -> str:
        return f"{self._root.rstrip('/')}/{key}" if key else self._root

    def _web_address(self, key: str) -> str:
        query = self.spec.options.get(QUERY)
        return f"{self._path(quote(key, safe='/+'))}{f'?{query}' if query else ''}"

    def _children(self, path: str, entries: Sequence[dict[str, Any]]) -> tuple[str, ...]:
        names = (entry["name"].rstrip("/") for entry in entries)
        return tuple(sorted({name.rpartition("/")[2] for name in names if name.strip("/") != path.strip("/")} - {""}))

    async def _of_the_machine(self, request: Request) -> Way | None:
        if not systems.may_find_credentials(self.spec):
            return None
        async with self._changing:
            if self._instance is None:
                way = await systems.of_the_machine(self.spec)
                self._instance = None if way is None else await self._opened(way)
            return self._instance


def _limits(start: int, stop: int | None) -> str:
    return f"{start}" if start < 0 else f"{start}-{'' if stop is None else stop - 1}"


def _close(opened: Sequence[Any], pid: int) -> None:
    """Close what nobody will use any more, on its own loop."""

    async def close() -> None:
        for one in opened:
            await one.close()

    if os.getpid() == pid:
        closing = post(close())
        if _ending:
            with contextlib.suppress(TimeoutError):
                closing.result(1)


_clients: "weakref.WeakValueDictionary[tuple[Any, ...], Way]" = weakref.WeakValueDictionary()
_ending: list[bool] = []


def _forked() -> None:
    _clients.clear()  # they live on the parent's loop


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


@cache
def _register_end() -> None:
    # Registered after weakref's own handler, so that it runs before that closes what is left.
    atexit.register(_ending.append, True)


def _make_folders(system: Any, folder: str) -> None:
    """Make a folder and its parents, even while others make them too."""
    for _ in range(folder.count("/")):
        try:
            system.makedirs(folder, exist_ok=True)
        except OSError:  # paramiko has no FileExistsError: one may have been made since the look
            continue
        return
    system.makedirs(folder, exist_ok=True)
