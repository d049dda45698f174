"""Buckets and HTTP servers through obstore: blocking requests on threads (`storage.io`); alone imports obstore."""

import contextlib
import os
import re
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from dask.sizeof import sizeof

from zarr_vectors_lazy.errors import StoreError, meant
from zarr_vectors_lazy.storage import credentials, io, retry
from zarr_vectors_lazy.storage.base import Result, check_size, plain
from zarr_vectors_lazy.storage.credentials import ENDPOINT_OPTIONS, SignedBackend, Verdict, Way, aws_config
from zarr_vectors_lazy.storage.options import arguments, bare, bare_names, check_url, with_retries
from zarr_vectors_lazy.storage.requests import Delete, Get, ListDir, ListSizes, Put, Request, Size, record
from zarr_vectors_lazy.storage.retry import INSTANCE_S
from zarr_vectors_lazy.storage.spec import (
    AZURE,
    CLOUD,
    QUERY,
    StoreSpec,
    local_path,
    parse,
    scheme_of,
    with_query,
    without_secrets,
)

WAS_THERE = "obstore" in sys.modules  # somebody imported it before us, and may have used it
try:
    from obstore import Bytes, exceptions
    from obstore import store as clouds
except ImportError as error:
    raise StoreError(
        "the backend 'obstore' is not installed; pip install 'zarr_vectors_lazy[obstore]', or choose backend='fsspec'"
    ) from error

# Python sees 72 bytes of each: without this a cluster takes a batch for empty when it places and spills tasks.
sizeof.register(Bytes)(len)

FAILURES = (exceptions.BaseError, OSError, ValueError, TypeError, RuntimeError)
_REFUSED = re.compile(r"status code: 40[13]\b")
ObjectStore = Any  # obstore's classes have no common type

SCHEMES = CLOUD | {"", "file"}
_CREDENTIALS = {
    "s3": {
        "access_key_id", "secret_access_key", "session_token", "token", "skip_signature", "credential_provider",
        "container_credentials_relative_uri", "container_credentials_full_uri", "web_identity_token_file",
        "metadata_endpoint", "imdsv1_fallback",
    },
    "gs": {
        "service_account", "service_account_path", "service_account_key", "application_credentials", "bearer_token",
        "credential_provider", "skip_signature",
    },
}  # fmt: skip
_AZURE_WORDS = (
    "key", "token", "sas", "client_id", "secret", "credential", "msi", "object_id", "signature", "emulator",
    "use_azure_cli",
)  # fmt: skip
_KNOWN = {
    "s3": _CREDENTIALS["s3"] | {"region", "endpoint", "request_payer", "virtual_hosted_style_request"},
    "gs": _CREDENTIALS["gs"] | {"base_url"},
    "az": {
        "account_name", "account_key", "sas_key", "token", "endpoint", "use_emulator", "skip_signature", "client_id",
    },
}  # fmt: skip
_CLASSES = {"s3": "S3Store", "gs": "GCSStore", "az": "AzureStore", "abfs": "AzureStore"}


def canonical(url: str, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Canonical text of a URL that obstore serves, and the options with the account that the URL named."""
    scheme = scheme_of(url)
    if scheme not in SCHEMES:
        raise StoreError(
            f"the backend 'obstore' cannot serve {scheme}:// URLs, only {', '.join(sorted(CLOUD))} and files; "
            "use backend='fsspec'"
        )
    if scheme in {"", "file"}:
        return f"file://{local_path(url)}", dict(options)
    place = parse(url, options)
    options = with_query(place, options, "sas_key")
    # The account is stated, because another process may have a different one in its environment.
    return place.url, {"account_name": place.account, **options} if place.account else options


def make(spec: StoreSpec, region: str | None = None) -> Way:
    """Return the store for options, environment and profile files as they are now; unsigned if none has credentials.

    Parameters
    ----------
    spec
        Its URL and options.
    region
        Region to use instead of what options, environment and profile files say.

    Raises
    ------
    StoreError
        If an option or the URL is wrong, or a profile cannot be used.
    """
    scheme = scheme_of(spec.url)
    names = bare_names(spec.options)
    seen = credentials.seen(scheme)
    config: dict[str, Any] = {"region": region} if region else {}
    aws = credentials.aws_config(spec.options.get("profile")) if scheme == "s3" else None
    client: dict[str, Any] = {}
    if aws is not None:
        said, client = aws.settings(names)
        config = said | config
    if scheme not in _CLASSES or not _unsigned(scheme, names):
        return Way(build(spec, config, client), unsigned=False, seen=seen, ambient=not _given(scheme, names))
    if scheme in AZURE and (said := credentials.azure_connection()):  # object_store does not read it
        found = {name: value for name, value in said.items() if name not in names}
        return Way(build(spec, found), unsigned=False, seen=seen, ambient=True)
    provider = None if aws is None else aws.provider()
    if provider is None:
        return Way(build(spec, {"skip_signature": True, **config}, client), unsigned=True, seen=seen)
    store = build(spec, config, client, credential_provider=provider)
    return Way(store, unsigned=False, seen=seen, ambient=True)


def with_metadata(spec: StoreSpec, region: str | None = None, *, probe: bool) -> ObjectStore:
    """Return the store that signs with the instance's credentials; as a probe, one that gives up within seconds."""
    config = {"region": region} if region else {}
    if not probe:
        return build(spec, config)
    soon = timedelta(seconds=INSTANCE_S)
    return build(spec, config, retry_config={"max_retries": 0, "retry_timeout": soon}, timeout=soon)


def build(
    spec: StoreSpec,
    config: Mapping[str, Any] | None = None,
    client: Mapping[str, Any] | None = None,
    *,
    timeout: timedelta | None = None,
    **overrides: object,
) -> ObjectStore:
    """Construct obstore's store; a wrong option or URL is a StoreError that names it.

    Parameters
    ----------
    spec
        Its URL and options.
    config
        Configuration that takes precedence over that of the options.
    client
        Client options that those of the options take precedence over.
    timeout
        Timeout of one request.
    overrides
        Other arguments of the constructor.
    """
    scheme = scheme_of(spec.url)
    options = spec.options.plain()
    for name in (QUERY, "profile"):
        options.pop(name, None)
    if client:
        options["client_options"] = {**client, **(options.get("client_options") or {})}
    given = arguments(options, config=scheme in _CLASSES)
    given = (given if scheme == "file" else with_retries(given, scheme)) | overrides
    if config:
        kept = {name: value for name, value in given.get("config", {}).items() if bare(name) not in config}
        given["config"] = {**kept, **config}
        if "endpoint" in config:
            check_url("endpoint", str(config["endpoint"]))
        if str(config.get("endpoint", "")).startswith("http://"):
            given["client_options"] = {"allow_http": True, **given.get("client_options", {})}
    if timeout is not None:
        given["client_options"] = {**given.get("client_options", {}), "timeout": timeout, "connect_timeout": timeout}
    try:
        return _construct(spec, scheme, given)
    except (exceptions.BaseError, ValueError, TypeError) as error:
        reason = without_secrets(first_line(error), spec.options.plain())
        names = ", ".join(f"{name}={spec.options.shown(name)!r}" for name in spec.options) or "none"
        text = f"obstore refuses the options or the URL: {reason}; given: {names}{_some_options(scheme, error, spec)}"
        raise StoreError(text, where=spec.url) from None


def _some_options(scheme: str, error: BaseException, spec: StoreSpec) -> str:
    if not isinstance(error, exceptions.UnknownConfigurationKeyError):
        return ""
    known = sorted(_KNOWN.get(scheme, ()))
    wrong = next((name for name in spec.options if f"'{name}'" in str(error)), "")
    return f"; there is, among others, {', '.join(known)}{meant(wrong, known)}"


def takes(name: str) -> bool:
    """Whether obstore's store for some cloud has a configuration option of this name."""
    kinds: tuple[Any, ...] = (clouds.S3Store, clouds.GCSStore, clouds.AzureStore)
    for kind in kinds:
        try:
            kind("any", config={name: ""})
        except exceptions.UnknownConfigurationKeyError:
            continue
        except FAILURES:  # it knows the name, but not this value
            pass
        return True
    return False


def _construct(spec: StoreSpec, scheme: str, given: dict[str, Any]) -> ObjectStore:
    if scheme == "file":
        if given:
            raise StoreError(f"a local folder takes no options; found {', '.join(spec.options)}", where=spec.url)
        return clouds.LocalStore(prefix=local_path(spec.url), automatic_cleanup=True)
    if scheme in {"http", "https"}:
        if scheme == "http":  # whoever types http:// means it
            given["client_options"] = {"allow_http": True, **given.get("client_options", {})}
        query = spec.options.get(QUERY)
        return clouds.HTTPStore(f"{spec.url}?{query}" if query else spec.url, **given)
    place = parse(spec.url, spec.options)
    if scheme == "az":
        config = {name: value for name, value in given.get("config", {}).items() if not name.endswith("account_name")}
        given["config"] = {"account_name": place.account, **config}
    return getattr(clouds, _CLASSES[scheme])(place.bucket, prefix=place.path or None, **given)


def first_line(error: BaseException) -> str:
    """Obstore's message without the Rust structures below it."""
    return " ".join(str(error).partition("Debug source:")[0].split())


def is_refused(error: BaseException) -> bool:
    """Whether the server said 401 or 403; for a listing, only the text shows this."""
    refused = (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)
    return isinstance(error, refused) or _REFUSED.search(first_line(error)) is not None


def _given(scheme: str, names: set[str]) -> bool:
    """Whether options say how to sign, or not to sign."""
    if scheme in _CREDENTIALS:
        return bool(names & _CREDENTIALS[scheme])
    return scheme in AZURE and any(word in name for name in names for word in _AZURE_WORDS)


def _unsigned(scheme: str, names: set[str]) -> bool:
    match scheme:
        case "s3":  # a profile that options name takes precedence over keys in the environment
            return not (_given(scheme, names) or ("profile" not in names and credentials.in_aws_environment()))
        case "gs":
            return not (_given(scheme, names) or credentials.in_google_environment())
    return not (_given(scheme, names) or credentials.in_azure_environment())


# A connection to a store: its requests, and what is done if one is refused.

_runtime_of: int | None = None
_ELSEWHERE = -1

ONE_PUT_NBYTES = 16 * 1024**2
PAGE = 1000  # names in one answer of S3's and Google's listings
_NO_CONDITIONS = re.compile(r"\b501 Not Implemented")
_NO_FILE = re.compile(r"Not a directory|Is a directory")
_NOT_PARTIAL = re.compile(r"NotPartial|non-partial response")
_BEYOND_END = re.compile(r"StartTooLarge|Wanted range starting at|416 Range Not Satisfiable|InvalidRange")


class ObstoreBackend(SignedBackend):
    """A bucket, a container, a web server or a folder, opened with obstore."""

    def __init__(self, spec: StoreSpec) -> None:
        super().__init__(spec)
        self._region: str | None = None  # that of the bucket, if the given one was wrong
        self._changing = threading.Lock()
        self._way = make(spec)
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
        text = first_line(error)
        if self._scheme == "s3" and _MOVED.search(text):
            return "elsewhere"
        return "expired" if retry.has_expired(text) else "refused" if is_refused(error) else ""

    def _put(self, store: ObjectStore, request: Put) -> bool:
        if request.match is not None:
            return self._swap(store, request, request.match)
        # A single request below a size that any connection sends before it times out; parts of larger objects are
        # retried.
        large = len(request.data) > ONE_PUT_NBYTES
        create = request.create and not (large and request.unread)  # parts cannot have a condition
        options = {"use_multipart": large and not create}
        try:
            store.put(request.key, request.data, mode="create" if create else "overwrite", **options)
        except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
            if not create:
                raise
            return False
        except FAILURES as error:
            if not (create and self._knows_no_conditions(error)):
                raise
            if not request.unread and self._get(store, Get(request.key)) is not None:
                return False
            store.put(request.key, request.data, **options)
        record("put", request.key, 0)
        return True

    def _knows_no_conditions(self, error: BaseException) -> bool:
        """Whether a put failed because it had a condition; then no other put has one."""
        refused = isinstance(error, exceptions.NotSupportedError | NotImplementedError) or _NO_CONDITIONS.search(
            str(error)
        )
        if refused:
            self.creates = self.swaps = False
        return bool(refused)

    def _swap(self, store: ObjectStore, request: Put, old: bytes) -> bool:
        answer = store.get(request.key)
        now = bytes(answer.bytes())
        record("get", request.key, len(now))
        if now != old:
            return now == request.data
        seen = {name: answer.meta[name] for name in ("e_tag", "version") if answer.meta[name] is not None}
        try:
            store.put(request.key, request.data, mode=seen)
        except (exceptions.PreconditionError, exceptions.AlreadyExistsError):
            now = bytes(store.get(request.key).bytes())  # it may have been sent again, after a lost answer
        except FAILURES as error:
            if not self._knows_no_conditions(error):
                raise
            store.put(request.key, request.data)
            now = bytes(request.data)
        else:
            now = bytes(request.data)
        record("put", request.key, 0)
        return now == request.data

    def _delete(self, store: ObjectStore, request: Delete) -> None:
        try:
            store.delete(list(request.keys))
        except FileNotFoundError:  # the rest may not have been deleted
            for key in request.keys:
                with contextlib.suppress(FileNotFoundError):
                    store.delete(key)
        record("delete", request.keys[0], 0)

    def _get(self, store: ObjectStore, request: Get) -> Result:
        try:
            data = self._whole(store, request.key) if request.start is None else self._range(store, request)
        except FileNotFoundError as error:
            if retry.NO_BUCKET.search(str(error)):
                raise
            data = None
        except FAILURES as error:
            if self._scheme != "file" or not _NO_FILE.search(str(error)):
                raise
            data = None
        record("get" if request.start is None else "range", request.key, 0 if data is None else len(data))
        return data

    def _whole(self, store: ObjectStore, key: str) -> Result:
        answer = store.get(key)
        check_size(answer.meta["size"], key)
        data = answer.bytes()
        start, stop = answer.range
        if len(data) != stop - start:
            raise OSError(f"{len(data)} bytes arrived, but {stop - start} were announced")
        return plain(data, answer.attributes.get("Content-Encoding"), key)

    def _range(self, store: ObjectStore, request: Get) -> Result:
        start, stop = request.start or 0, request.stop
        if stop == start:
            return b""
        wanted = {"suffix": -start} if start < 0 else {"offset": start} if stop is None else (start, stop)
        try:
            return _part(store, request.key, wanted)
        except exceptions.NotSupportedError:  # Azure has no suffix ranges, and simple web servers have no ranges
            return self._range_of_whole(store, request.key, start, stop)
        except FAILURES as error:
            if _NOT_PARTIAL.search(str(error)):
                return self._range_of_whole(store, request.key, start, stop)
            if not _BEYOND_END.search(str(error)):
                raise
            return b""

    def _range_of_whole(self, store: ObjectStore, key: str, start: int, stop: int | None) -> Result:
        if start >= 0 or self._scheme not in {"az", "abfs"}:
            return self._whole(store, key)[start:stop]
        size = self._size(store, Size(key))
        return _part(store, key, (max(0, size + start), size)) if size else b""

    def _size(self, store: ObjectStore, request: Size) -> int | None:
        record("head", request.key, 0)
        try:
            return int(store.head(request.key)["size"])
        except FileNotFoundError as error:
            if retry.NO_BUCKET.search(str(error)):
                raise
            return None

    def _names(self, store: ObjectStore, request: ListDir) -> tuple[str, ...] | None:
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

    def _sizes(self, store: ObjectStore, request: ListSizes) -> dict[str, int]:
        self.must_list(request.prefix)
        sizes: dict[str, int] = {}
        for page in store.list(request.prefix or None, chunk_size=PAGE):
            record("list", request.prefix, 0)
            sizes.update((entry["path"], entry["size"]) for entry in page)
        return sizes

    async def _send(self, way: Way, request: Request) -> Result | BaseException:
        try:
            return self.answer(request, way.client)
        except FAILURES as error:
            return error
        except BaseException as error:
            if type(error).__name__ == "PanicException":  # a Rust panic, whose class cannot be imported
                return error
            raise

    async def _renewed(self, old: Way) -> Way:
        with self._changing:
            if self._way is old:
                self._way = make(self.spec, self._region)
            return self._way

    async def _moved(self, old: Way, error: BaseException) -> Way | None:
        with self._changing:
            if self._way is old and self._region is None:
                bucket = parse(self.spec.url, self.spec.options).bucket
                self._region = region_of(bucket, first_line(error), self.spec.options)
                if self._region is not None:
                    self._way, self._instance = make(self.spec, self._region), None
            return None if self._way is old else self._way

    async def _of_the_machine(self, request: Request) -> Way | None:
        with self._changing:
            if self._instance is None:
                probe = with_metadata(self.spec, self._region, probe=True)
                if _signs(lambda: probe.head(getattr(request, "key", None) or "zarr.json")):
                    self._instance = Way(with_metadata(self.spec, self._region, probe=False), unsigned=False)
            return self._instance


def _part(store: ObjectStore, key: str, wanted: Any) -> bytes:
    """Read the range that an answer announces; a longer body is an OSError (obstore would read on and on)."""
    answer = store.get(key, options={"range": wanted})
    start, stop = answer.range
    data: bytes = next(iter(answer.stream(min_chunk_size=stop - start + 1)), b"")
    if len(data) != stop - start:
        raise OSError(f"{len(data)} bytes or more arrived, but {stop - start} were announced")
    return data


def _check_fork(url: str) -> None:
    # obstore's runtime has threads that a forked child lacks: a request there would wait forever.
    global _runtime_of  # noqa: PLW0603  the process in which the runtime was started, which the first request does
    if _runtime_of is None:
        _runtime_of = _ELSEWHERE if WAS_THERE and _is_copy_of_parent() else os.getpid()
    if _runtime_of != os.getpid():
        raise StoreError(
            "obstore cannot be used in a process forked from one that has used it; start processes with "
            "'spawn' or 'forkserver' (PyTorch: multiprocessing_context='spawn'), or choose backend='fsspec'",
            where=url,
        )


def _is_copy_of_parent() -> bool:
    """Whether this process was forked from one in which other code had started the runtime (on Linux)."""
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
    except FAILURES as error:
        return is_refused(error)  # credentials exist; the next request shows what they permit
    return True


# The region of an S3 bucket, which its server tells those who ask in another region.

HEADER = "x-amz-bucket-region"
TIMEOUT_S = 5.0
_MOVED = re.compile(r"redirect without LOCATION|PermanentRedirect|AuthorizationHeaderMalformed|IllegalLocation")
_EXPECTING = re.compile(r"expecting '([a-z0-9-]+)'")


def region_of(bucket: str, text: str, options: Mapping[str, Any]) -> str | None:
    """Region of ``bucket`` from the error's text, or from the server, asked once more and unsigned; otherwise None."""
    told = _EXPECTING.search(text)
    if told:
        return told[1]
    url = f"{_endpoint(options).rstrip('/')}/{bucket}"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=TIMEOUT_S) as answer:
            found: str | None = answer.headers.get(HEADER)
    except urllib.error.HTTPError as error:  # refused or moved: the header is there anyway
        with error:
            found = error.headers.get(HEADER)
    except OSError:
        return None  # report the first error
    return found


def _endpoint(options: Mapping[str, Any]) -> str:
    named = {**(options.get("config") or {}), **options}
    given = next((str(url) for name, url in named.items() if bare(name) in ENDPOINT_OPTIONS and url), None)
    return given or aws_config(options.get("profile")).endpoint or "https://s3.amazonaws.com"
