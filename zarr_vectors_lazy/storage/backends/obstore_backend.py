"""Buckets and HTTP servers through obstore: blocking requests on threads (see `storage.threads`)."""

import contextlib
import os
import re
import threading
from collections.abc import Callable, Sequence
from typing import Any

from zarr_vectors_lazy.errors import StoreError
from zarr_vectors_lazy.storage import ambient, refusals, threads
from zarr_vectors_lazy.storage.backends import obstore_stores as stores
from zarr_vectors_lazy.storage.backends.s3_region import is_elsewhere, region_of
from zarr_vectors_lazy.storage.base import Backend, Result
from zarr_vectors_lazy.storage.counters import record
from zarr_vectors_lazy.storage.location import BUCKETS, parse, scheme_of
from zarr_vectors_lazy.storage.requests import Delete, Get, ListDir, ListSizes, Put, Request
from zarr_vectors_lazy.storage.spec import StoreSpec

_runtime_of: int | None = None

ONE_PUT_NBYTES = 16 * 1024**2
PAGE = 1000  # names in one answer of S3 and Google's listing
_NO_BUCKET = re.compile(r"NoSuchBucket|ContainerNotFound|bucket does not exist|container does not exist")
_NO_CONDITIONS = re.compile(r"\b501 Not Implemented")
_NO_FILE = re.compile(r"Not a directory|Is a directory")
_NOT_PARTIAL = re.compile(r"NotPartial|non-partial response")
_BEYOND_END = re.compile(r"StartTooLarge|Wanted range starting at|416 Range Not Satisfiable|InvalidRange")


class ObstoreBackend(Backend):
    """A bucket, a container, a web server or a folder, opened with obstore."""

    def __init__(self, spec: StoreSpec) -> None:
        super().__init__(spec)
        self._scheme = scheme_of(spec.url)
        self.listable = self._scheme not in {"http", "https"}
        self._region: str | None = None  # that of the bucket, where the one given was wrong
        self._store, self._unsigned = stores.make(spec)
        self._upgrading = threading.Lock()
        self._asked = False
        self.deletes_at_once = PAGE
        self.creates = self.listable
        self.swaps = self._scheme in BUCKETS

    def fetch(self, requests: Sequence[Request]) -> list[Result]:  # noqa: D102  inherited
        return threads.gather(self._answer, requests)

    async def fetch_one(self, request: Request) -> Result:  # noqa: D102  inherited
        return await threads.on_thread(self._answer, request)

    def _answer(self, request: Request) -> Result:
        _check_fork(self.url)
        self.check_writable(request)
        unsigned, region = self._unsigned, self._region  # as it is sent: another thread may change them meanwhile
        try:
            return self._dispatch(request)
        except stores.FAILURES as error:
            text = stores.first_line(error)
            if self._scheme == "s3" and is_elsewhere(text) and self._moved(region, text):
                return self._answer(request)
            refused = stores.is_refused(error)
            expired = refusals.has_expired(text)
            if not refused and not expired:
                raise self._failed(request, error) from error
            if unsigned and self._upgraded(request):
                return self._answer(request)
            if not expired and isinstance(request, ListDir) and not request.required:
                record("list", request.prefix, 0)
                return None
            raise self._failed(
                request, error, refusals.hint(self._scheme, "obstore", text, unsigned=unsigned)
            ) from error
        except BaseException as error:
            if stores.is_panic(error):
                raise self._failed(request, error) from error
            raise

    def _dispatch(self, request: Request) -> Result:
        match request:
            case Get():
                return self._get(request)
            case ListDir():
                return self._names(request)
            case ListSizes(prefix):
                return self._sizes(prefix)
            case Put():
                return self._put(request)
            case Delete(keys):
                return self._delete(keys)

    def _put(self, request: Put) -> bool:
        if request.match is not None:
            return self._swap(request, request.match)
        # One request below a size that any connection sends before it times out; the parts of larger ones are retried.
        large = len(request.data) > ONE_PUT_NBYTES
        create = request.create and not (large and request.unread)  # parts know no condition
        options = {"use_multipart": large and not create}
        try:
            self._store.put(request.key, request.data, mode="create" if create else "overwrite", **options)
        except (stores.AlreadyExistsError, stores.PreconditionError):
            if not create:
                raise
            return False
        except stores.FAILURES as error:
            if not (create and self._knows_no_conditions(error)):
                raise
            if not request.unread and self._get(Get(request.key)) is not None:
                return False
            self._store.put(request.key, request.data, **options)
        record("put", request.key, 0)
        return True

    def _knows_no_conditions(self, error: BaseException) -> bool:
        """Whether a put failed because it had a condition; then no other put has one."""
        refused = isinstance(error, stores.NotSupportedError | NotImplementedError) or _NO_CONDITIONS.search(str(error))
        if refused:
            self.creates = self.swaps = False
        return bool(refused)

    def _swap(self, request: Put, old: bytes) -> bool:
        answer = self._store.get(request.key)
        now = bytes(answer.bytes())
        record("get", request.key, len(now))
        if now != old:
            return now == request.data
        seen = {name: answer.meta[name] for name in ("e_tag", "version") if answer.meta[name] is not None}
        try:
            self._store.put(request.key, request.data, mode=seen)
        except (stores.PreconditionError, stores.AlreadyExistsError):
            now = bytes(self._store.get(request.key).bytes())  # it may have been sent again, after a lost answer
        except stores.FAILURES as error:
            if not self._knows_no_conditions(error):
                raise
            self._store.put(request.key, request.data)
            now = bytes(request.data)
        else:
            now = bytes(request.data)
        record("put", request.key, 0)
        return now == request.data

    def _delete(self, keys: Sequence[str]) -> None:
        try:
            self._store.delete(list(keys))
        except FileNotFoundError:  # the rest may not have been deleted
            for key in keys:
                with contextlib.suppress(FileNotFoundError):
                    self._store.delete(key)
        record("delete", keys[0], 0)

    def _get(self, request: Get) -> Result:
        try:
            data = self._whole(request.key) if request.start is None else self._range(request)
        except FileNotFoundError as error:
            if _NO_BUCKET.search(str(error)):
                raise
            data = None
        except stores.FAILURES as error:
            if self._scheme != "file" or not _NO_FILE.search(str(error)):
                raise
            data = None
        record("get" if request.start is None else "range", request.key, 0 if data is None else len(data))
        return data

    def _whole(self, key: str) -> Result:
        answer = self._store.get(key)
        data = answer.bytes()
        start, stop = answer.range
        if len(data) != stop - start:
            raise OSError(f"{len(data)} bytes arrived where {stop - start} were announced")
        return data

    def _range(self, request: Get) -> Result:
        start, stop = request.start or 0, request.stop
        if stop == start:
            return b""
        wanted = {"suffix": -start} if start < 0 else {"offset": start} if stop is None else (start, stop)
        try:
            return self._store.get(request.key, options={"range": wanted}).bytes()
        except stores.NotSupportedError:  # Azure knows no suffixes, simple web servers no ranges
            return self._range_of_whole(request.key, start, stop)
        except stores.FAILURES as error:
            if _NOT_PARTIAL.search(str(error)):
                return self._range_of_whole(request.key, start, stop)
            if not _BEYOND_END.search(str(error)):
                raise
            return b""

    def _range_of_whole(self, key: str, start: int, stop: int | None) -> Result:
        if start >= 0 or self._scheme not in {"az", "abfs"}:
            return self._whole(key)[start:stop]
        size = self._store.head(key)["size"]
        record("head", key, 0)
        return self._store.get(key, options={"range": (max(0, size + start), size)}).bytes() if size else b""

    def _names(self, request: ListDir) -> tuple[str, ...] | None:
        if not self.listable:
            if request.required:
                raise StoreError("plain HTTP cannot list what there is", where=f"{self.url}/{request.prefix}")
            return None
        try:
            found = self._store.list_with_delimiter(request.prefix or None)
        except FileNotFoundError as error:
            if _NO_BUCKET.search(str(error)):
                raise
            found = {"common_prefixes": [], "objects": []}
        paths = [*found["common_prefixes"], *(entry["path"] for entry in found["objects"])]
        record("list", request.prefix, 0)
        for _ in range(len(paths) // PAGE):
            record("list", request.prefix, 0)
        return tuple(sorted({path.rpartition("/")[2] for path in paths} - {""}))

    def _sizes(self, prefix: str) -> dict[str, int]:
        if not self.listable:
            raise StoreError("plain HTTP cannot list what there is", where=f"{self.url}/{prefix}")
        sizes: dict[str, int] = {}
        for page in self._store.list(prefix or None, chunk_size=PAGE):
            record("list", prefix, 0)
            sizes.update((entry["path"], entry["size"]) for entry in page)
        return sizes

    def _moved(self, region: str | None, text: str) -> bool:
        """Look for the bucket's region; whether requests go to another one now than the failed one did."""
        with self._upgrading:
            if self._region == region and region is None:
                found = region_of(parse(self.spec.url, self.spec.options).bucket, text, self.spec.options)
                if found is not None:
                    self._store, self._unsigned = stores.make(self.spec, found)
                self._region = found  # last: whoever reads the new region sends to the new store
            return self._region != region

    def _upgraded(self, request: Request) -> bool:
        """Ask the instance's metadata for credentials, once; whether requests are signed now."""
        with self._upgrading:
            if not self._unsigned:
                return True
            if self._asked or not ambient.metadata_allowed(self._scheme):
                return False
            self._asked = True
            probe = stores.with_metadata(self.spec, self._region, probe=True)
            if not _signs(lambda: probe.head(getattr(request, "key", None) or "zarr.json")):
                return False
            self._store, self._unsigned = stores.with_metadata(self.spec, self._region, probe=False), False
            return True

    def _failed(self, request: Request, error: BaseException, hint: str = "") -> StoreError:
        if isinstance(error, StoreError):
            return error
        return self.failure(request, RuntimeError(stores.first_line(error)), hint)


def _check_fork(url: str) -> None:
    # obstore's runtime has threads that a forked child lacks: a request there would wait for ever.
    global _runtime_of  # noqa: PLW0603  the process in which the runtime was started, which the first request does
    if _runtime_of is None:
        _runtime_of = os.getpid()
    elif _runtime_of != os.getpid():
        raise StoreError(
            "obstore cannot be used in a process that was forked from one that had read with it; start processes with "
            "'spawn' or 'forkserver', or choose backend='fsspec'",
            where=url,
        )


def _signs(head: Callable[[], Any]) -> bool:
    try:
        head()
    except FileNotFoundError:
        return True
    except stores.FAILURES as error:
        return stores.is_refused(error)  # credentials there are; what they may do, the next request finds out
    return True
