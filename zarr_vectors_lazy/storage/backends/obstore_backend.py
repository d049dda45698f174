"""Buckets and HTTP servers through obstore: blocking requests on threads (see `storage.io`)."""

import contextlib
import os
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from zarr_vectors_lazy.errors import StoreError
from zarr_vectors_lazy.storage import io, retry
from zarr_vectors_lazy.storage.backends import obstore_stores as stores
from zarr_vectors_lazy.storage.base import Result, check_size, plain
from zarr_vectors_lazy.storage.credentials import ENDPOINT_OPTIONS, SignedBackend, Verdict, Way, aws_config
from zarr_vectors_lazy.storage.options import bare
from zarr_vectors_lazy.storage.requests import Delete, Get, ListDir, ListSizes, Put, Request, Size, record
from zarr_vectors_lazy.storage.spec import StoreSpec
from zarr_vectors_lazy.storage.url import parse

_runtime_of: int | None = None
_ELSEWHERE = -1

ONE_PUT_NBYTES = 16 * 1024**2
PAGE = 1000  # names in one answer of S3 and Google's listing
_NO_CONDITIONS = re.compile(r"\b501 Not Implemented")
_NO_FILE = re.compile(r"Not a directory|Is a directory")
_NOT_PARTIAL = re.compile(r"NotPartial|non-partial response")
_BEYOND_END = re.compile(r"StartTooLarge|Wanted range starting at|416 Range Not Satisfiable|InvalidRange")


class ObstoreBackend(SignedBackend):
    """A bucket, a container, a web server or a folder, opened with obstore."""

    def __init__(self, spec: StoreSpec) -> None:
        super().__init__(spec)
        self._region: str | None = None  # that of the bucket, where the one given was wrong
        self._changing = threading.Lock()
        self._way = stores.make(spec)
        self.deletes_at_once = PAGE
        self.creates = self.listable

    def fetch(self, requests: Sequence[Request]) -> list[Result]:  # noqa: D102  inherited
        return io.gather(self._answer, requests, self.url)

    async def fetch_one(self, request: Request) -> Result:  # noqa: D102  inherited
        return await io.on_thread(self._answer, request)

    def _answer(self, request: Request) -> Result:
        _check_fork(self.url)
        self.check_writable(request)
        return io.finished(self._signed(request))

    def _verdict(self, error: BaseException) -> Verdict:
        text = stores.first_line(error)
        if self._scheme == "s3" and is_elsewhere(text):
            return "elsewhere"
        return "expired" if retry.has_expired(text) else "refused" if stores.is_refused(error) else ""

    def _dispatch(self, store: stores.ObjectStore, request: Request) -> Result:
        match request:
            case Get():
                return self._get(store, request)
            case ListDir():
                return self._names(store, request)
            case ListSizes(prefix):
                return self._sizes(store, prefix)
            case Size(key):
                return self._size(store, key)
            case Put():
                return self._put(store, request)
            case Delete(keys):
                return self._delete(store, keys)

    def _put(self, store: stores.ObjectStore, request: Put) -> bool:
        if request.match is not None:
            return self._swap(store, request, request.match)
        # One request below a size that any connection sends before it times out; the parts of larger ones are retried.
        large = len(request.data) > ONE_PUT_NBYTES
        create = request.create and not (large and request.unread)  # parts know no condition
        options = {"use_multipart": large and not create}
        try:
            store.put(request.key, request.data, mode="create" if create else "overwrite", **options)
        except (stores.AlreadyExistsError, stores.PreconditionError):
            if not create:
                raise
            return False
        except stores.FAILURES as error:
            if not (create and self._knows_no_conditions(error)):
                raise
            if not request.unread and self._get(store, Get(request.key)) is not None:
                return False
            store.put(request.key, request.data, **options)
        record("put", request.key, 0)
        return True

    def _knows_no_conditions(self, error: BaseException) -> bool:
        """Whether a put failed because it had a condition; then no other put has one."""
        refused = isinstance(error, stores.NotSupportedError | NotImplementedError) or _NO_CONDITIONS.search(str(error))
        if refused:
            self.creates = self.swaps = False
        return bool(refused)

    def _swap(self, store: stores.ObjectStore, request: Put, old: bytes) -> bool:
        answer = store.get(request.key)
        now = bytes(answer.bytes())
        record("get", request.key, len(now))
        if now != old:
            return now == request.data
        seen = {name: answer.meta[name] for name in ("e_tag", "version") if answer.meta[name] is not None}
        try:
            store.put(request.key, request.data, mode=seen)
        except (stores.PreconditionError, stores.AlreadyExistsError):
            now = bytes(store.get(request.key).bytes())  # it may have been sent again, after a lost answer
        except stores.FAILURES as error:
            if not self._knows_no_conditions(error):
                raise
            store.put(request.key, request.data)
            now = bytes(request.data)
        else:
            now = bytes(request.data)
        record("put", request.key, 0)
        return now == request.data

    def _delete(self, store: stores.ObjectStore, keys: Sequence[str]) -> None:
        try:
            store.delete(list(keys))
        except FileNotFoundError:  # the rest may not have been deleted
            for key in keys:
                with contextlib.suppress(FileNotFoundError):
                    store.delete(key)
        record("delete", keys[0], 0)

    def _get(self, store: stores.ObjectStore, request: Get) -> Result:
        try:
            data = self._whole(store, request.key) if request.start is None else self._range(store, request)
        except FileNotFoundError as error:
            if retry.NO_BUCKET.search(str(error)):
                raise
            data = None
        except stores.FAILURES as error:
            if self._scheme != "file" or not _NO_FILE.search(str(error)):
                raise
            data = None
        record("get" if request.start is None else "range", request.key, 0 if data is None else len(data))
        return data

    def _whole(self, store: stores.ObjectStore, key: str) -> Result:
        answer = store.get(key)
        check_size(answer.meta["size"], key)
        data = answer.bytes()
        start, stop = answer.range
        if len(data) != stop - start:
            raise OSError(f"{len(data)} bytes arrived, but {stop - start} were announced")
        return plain(data, answer.attributes.get("Content-Encoding"), key)

    def _range(self, store: stores.ObjectStore, request: Get) -> Result:
        start, stop = request.start or 0, request.stop
        if stop == start:
            return b""
        wanted = {"suffix": -start} if start < 0 else {"offset": start} if stop is None else (start, stop)
        try:
            return _part(store, request.key, wanted)
        except stores.NotSupportedError:  # Azure knows no suffixes, simple web servers no ranges
            return self._range_of_whole(store, request.key, start, stop)
        except stores.FAILURES as error:
            if _NOT_PARTIAL.search(str(error)):
                return self._range_of_whole(store, request.key, start, stop)
            if not _BEYOND_END.search(str(error)):
                raise
            return b""

    def _range_of_whole(self, store: stores.ObjectStore, key: str, start: int, stop: int | None) -> Result:
        if start >= 0 or self._scheme not in {"az", "abfs"}:
            return self._whole(store, key)[start:stop]
        size = self._size(store, key)
        return _part(store, key, (max(0, size + start), size)) if size else b""

    def _size(self, store: stores.ObjectStore, key: str) -> int | None:
        record("head", key, 0)
        try:
            size: int = store.head(key)["size"]
        except FileNotFoundError as error:
            if retry.NO_BUCKET.search(str(error)):
                raise
            return None
        return size

    def _names(self, store: stores.ObjectStore, request: ListDir) -> tuple[str, ...] | None:
        if not self.listable and not request.required:
            return None
        self.must_list(request.prefix)
        try:
            found = store.list_with_delimiter(request.prefix or None)
        except FileNotFoundError as error:
            if retry.NO_BUCKET.search(str(error)):
                raise
            found = {"common_prefixes": [], "objects": []}
        paths = [*found["common_prefixes"], *(entry["path"] for entry in found["objects"])]
        record("list", request.prefix, 0)
        for _ in range(len(paths) // PAGE):
            record("list", request.prefix, 0)
        return tuple(sorted({path.rpartition("/")[2] for path in paths} - {""}))

    def _sizes(self, store: stores.ObjectStore, prefix: str) -> dict[str, int]:
        self.must_list(prefix)
        sizes: dict[str, int] = {}
        for page in store.list(prefix or None, chunk_size=PAGE):
            record("list", prefix, 0)
            sizes.update((entry["path"], entry["size"]) for entry in page)
        return sizes

    async def _send(self, way: Way, request: Request) -> Result | BaseException:
        try:
            return self._dispatch(way.client, request)
        except stores.FAILURES as error:
            return error
        except BaseException as error:
            if stores.is_panic(error):
                return error
            raise

    async def _renewed(self, old: Way) -> Way:
        with self._changing:
            if self._way is old:
                self._way = stores.make(self.spec, self._region)
            return self._way

    async def _moved(self, old: Way, error: BaseException) -> Way | None:
        with self._changing:
            if self._way is old and self._region is None:
                bucket = parse(self.spec.url, self.spec.options).bucket
                self._region = region_of(bucket, stores.first_line(error), self.spec.options)
                if self._region is not None:
                    self._way, self._instance = stores.make(self.spec, self._region), None
            return None if self._way is old else self._way

    async def _of_the_machine(self, request: Request) -> Way | None:
        with self._changing:
            if self._instance is None:
                probe = stores.with_metadata(self.spec, self._region, probe=True)
                if _signs(lambda: probe.head(getattr(request, "key", None) or "zarr.json")):
                    self._instance = Way(stores.with_metadata(self.spec, self._region, probe=False), unsigned=False)
            return self._instance


def _part(store: stores.ObjectStore, key: str, wanted: Any) -> bytes:
    """Read the range that an answer announces; a body that goes on is an OSError (obstore would read on and on)."""
    answer = store.get(key, options={"range": wanted})
    start, stop = answer.range
    data: bytes = next(iter(answer.stream(min_chunk_size=stop - start + 1)), b"")
    if len(data) != stop - start:
        raise OSError(f"{len(data)} bytes or more arrived, but {stop - start} were announced")
    return data


def _check_fork(url: str) -> None:
    # obstore's runtime has threads that a forked child lacks: a request there would wait for ever.
    global _runtime_of  # noqa: PLW0603  the process in which the runtime was started, which the first request does
    if _runtime_of is None:
        _runtime_of = _ELSEWHERE if stores.WAS_THERE and _is_copy_of_parent() else os.getpid()
    if _runtime_of != os.getpid():
        raise StoreError(
            "obstore cannot be used in a process that was forked from one that had read with it; start processes with "
            "'spawn' or 'forkserver' (PyTorch: multiprocessing_context='spawn'), or choose backend='fsspec'",
            where=url,
        )


def _is_copy_of_parent() -> bool:
    """Whether this process was forked from one in which somebody else's code had started the runtime (on Linux)."""
    parent = f"/proc/{os.getppid()}"
    try:
        same = Path("/proc/self/cmdline").read_bytes() == Path(parent, "cmdline").read_bytes()
        return same and any("tokio" in name.read_text() for name in Path(parent).glob("task/*/comm"))
    except OSError:  # not there, or not ours to see
        return False


def _remember_threads() -> None:
    # Before a fork: the runtime may have been started by the user's own calls of obstore.
    global _runtime_of  # noqa: PLW0603  see `_check_fork`
    tasks = Path("/proc/self/task")
    if _runtime_of is None and tasks.is_dir():
        names = [name for name in tasks.glob("*/comm") if name.exists()]
        if any("tokio" in name.read_text() for name in names):
            _runtime_of = os.getpid()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_remember_threads)


def _signs(head: Callable[[], Any]) -> bool:
    try:
        head()
    except FileNotFoundError:
        return True
    except stores.FAILURES as error:
        return stores.is_refused(error)  # credentials there are; what they may do, the next request finds out
    return True


# The region that a bucket of S3 is in, which its server tells to those who ask in another one.

HEADER = "x-amz-bucket-region"
TIMEOUT_S = 5.0
_MOVED = re.compile(r"redirect without LOCATION|PermanentRedirect|AuthorizationHeaderMalformed|IllegalLocation")
_EXPECTING = re.compile(r"expecting '([a-z0-9-]+)'")


def is_elsewhere(text: str) -> bool:
    """Whether an error says that the bucket is in another region."""
    return _MOVED.search(text) is not None


def region_of(bucket: str, text: str, options: Mapping[str, Any]) -> str | None:
    """Region of ``bucket`` as the error's text or, asked once more and unsigned, the server tells it; else None."""
    told = _EXPECTING.search(text)
    if told:
        return told[1]
    url = f"{_endpoint(options).rstrip('/')}/{bucket}"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=TIMEOUT_S) as answer:
            found: str | None = answer.headers.get(HEADER)
    except urllib.error.HTTPError as error:  # refused, or moved: the header is there all the same
        with error:
            found = error.headers.get(HEADER)
    except OSError:
        return None  # the first error is the one to tell
    return found


def _endpoint(options: Mapping[str, Any]) -> str:
    named = {**(options.get("config") or {}), **options}
    given = next((str(url) for name, url in named.items() if bare(name) in ENDPOINT_OPTIONS and url), None)
    return given or aws_config(options.get("profile")).endpoint or "https://s3.amazonaws.com"
