"""fsspec's file systems: made from our descriptions, lent to threads, and extended by conditional puts."""

import asyncio
import importlib
import inspect
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeAlias
from urllib.parse import quote, unquote

import fsspec
from fsspec.asyn import AsyncFileSystem

from zarr_vectors_lazy.errors import StoreError, listed, meant
from zarr_vectors_lazy.storage import credentials
from zarr_vectors_lazy.storage.base import check_size, plain
from zarr_vectors_lazy.storage.credentials import Way
from zarr_vectors_lazy.storage.io import event_loop, request_width
from zarr_vectors_lazy.storage.retry import CONNECT_S, INSTANCE_S, RetryPolicy
from zarr_vectors_lazy.storage.spec import (
    AZURE,
    CLOUD,
    QUERY,
    StoreSpec,
    clean_url,
    local_path,
    parse,
    scheme_of,
    with_query,
    without_secrets,
)
from zarr_vectors_lazy.types import Buffer

# File systems that only one thread may use at a time: a few connections, each lent to one request.

CONNECTIONS = 4  # an SSH server begins to refuse at 10 that have not logged in yet
SHARED = frozenset({"file", "local", "memory"})


class ClientPool:
    """Connections of one kind; paramiko's, if shared by threads, wait forever for answers that others took.

    Parameters
    ----------
    make
        Opens another one.
    first
        One that is already open.
    """

    def __init__(self, make: Callable[[], Any], first: object) -> None:
        self._make = make
        self._idle = [first]
        self._free = threading.BoundedSemaphore(CONNECTIONS)

    @contextmanager
    def lend(self) -> Iterator[Any]:
        """Lend one that nobody else has; after a failure it is closed."""
        with self._free:
            try:
                system = self._idle.pop()
            except IndexError:
                system = self._make()
            try:
                yield system
            except (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError):
                self._idle.append(system)
                raise
            except BaseException:
                _close(system)
                raise
            else:
                self._idle.append(system)

    def close(self) -> None:
        """Close those that are not lent."""
        while self._idle:
            _close(self._idle.pop())


def _close(system: Any) -> None:
    client = getattr(system, "client", None)  # paramiko's, whose threads would go on forever
    if client is not None and hasattr(client, "close"):
        client.close()


# fsspec's file systems, made from our descriptions: known options, known failures, unsigned without credentials.

_STAND_IN = "zarr-vectors-lazy"
EXTRAS = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "http": "aiohttp", "https": "aiohttp"}
EXTRAS |= dict.fromkeys(AZURE, "adlfs")
System: TypeAlias = Any
"""A class of file systems; fsspec ships no types."""
_GENERAL = {"use_listings_cache", "listings_expiry_time", "max_paths", "skip_instance_cache"}
_OURS = {"self", "args", "kwargs", "asynchronous", "loop", "storage_options", "ssh_kwargs"}
_AIOHTTP = {"allow_redirects", "auth", "cookies", "headers", "max_redirects", "proxy", "proxy_auth", "ssl", "timeout"}
_CREDENTIALS = {
    "s3": {"key", "secret", "token", "anon", "username", "password", "session", "profile"},
    "gs": {"token"},
    "az": {"account_key", "sas_token", "credential", "client_id", "client_secret", "anon"},
}
_PASSING = {408, 425, 429, 500, 502, 503, 504}
_CUT = {  # failed or broken connections, by the classes of aiohttp, botocore and Python
    "ClientConnectionError",
    "ClientPayloadError",
    "ConnectionError",
    "HTTPClientError",
    "IncompleteReadError",
    "TimeoutError",
}
_RAISED = {  # what the file systems' own libraries raise, in addition to Python's errors
    "aiohttp": "ClientError",
    "azure.core.exceptions": "AzureError",
    "botocore.exceptions": "BotoCoreError",
    "gcsfs.retry": "HttpError",
    "google.auth.exceptions": "GoogleAuthError",
    "paramiko": "SSHException",
}


def canonical(url: str, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Canonical text of a URL that fsspec serves, and the options with what else the URL said."""
    scheme = scheme_of(url)
    if "::" in url:
        raise StoreError("chained URLs are not supported; pass a zarr store object instead", where=clean_url(url))
    cls = system_class(scheme or "file")
    if scheme in {"", "file", "local"}:
        return f"file://{local_path(url if scheme != 'local' else url[8:])}", dict(options)
    if scheme in CLOUD:
        place = parse(url, options)
        text = options.get("connection_string")
        if text and place.query:  # adlfs uses nothing else with it
            signed = {**options, "connection_string": f"{text.rstrip(';')};SharedAccessSignature={place.query}"}
            return place.url, signed
        options = with_query(place, options, "sas_token")
        return place.url, options if text or not place.account else {"account_name": place.account, **options}
    told = cls._get_kwargs_from_urls(url)  # as fsspec's own url_to_fs reads them
    said = {name: value for name, value in told.items() if name in {"host", "port", "username", "password"}}
    authority, slash, path = url.partition("://")[2].partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}".rstrip("/"), {**said, **options}


@cache
def system_class(scheme: str) -> System:
    """Class that serves a scheme; raises StoreError if it is not known or not installed."""
    try:
        return fsspec.get_filesystem_class("az" if scheme == "azure" else scheme)  # adlfs does not know azure://
    except ImportError as error:
        package = EXTRAS.get(scheme)
        reason = f"{package}; pip install 'zarr_vectors_lazy[cloud]'" if package else str(error)
        raise StoreError(f"fsspec's driver for {scheme}:// is not installed: {reason}") from error
    except ValueError as error:
        raise StoreError(f"no backend supports the scheme {scheme}://") from error


def root_of(spec: StoreSpec, system: System) -> str:
    """Path of the store in its file system."""
    if scheme_of(spec.url) in AZURE:  # adlfs would take the account for the container
        place = parse(spec.url, spec.options)
        return "/".join(part for part in (place.bucket, place.path) if part)
    scheme, _, rest = spec.url.partition("://")
    if scheme == "file":
        return local_path(spec.url)
    authority, slash, path = rest.partition("/")
    if scheme in {"http", "https"} or not path:
        return str(system._strip_protocol(spec.url))
    # Some file systems cut a path at "?" and "#", which are part of it.
    return str(system._strip_protocol(f"{scheme}://{authority}{slash}{_STAND_IN}")).replace(_STAND_IN, path)


def walks(system: System) -> bool:
    """Whether fsspec's own walk lists the file system, which takes folders that it may not list for empty."""
    if isinstance(system, AsyncFileSystem):
        return type(system)._find is AsyncFileSystem._find
    return type(system).find is fsspec.AbstractFileSystem.find


def check_options(scheme: str, options: Mapping[str, Any]) -> None:
    """Raise a StoreError that names the first option that the file system does not know."""
    cls = system_class(scheme)
    known, open_ended = _known(cls)
    if scheme in {"http", "https"}:
        known, open_ended = known | _AIOHTTP | {QUERY}, False
    if scheme == "s3":
        known = known | {"profile"}  # of the session that s3fs makes with unknown options
    if scheme in {"s3", "gs", "gcs", "memory", "file", *AZURE}:
        open_ended = False  # they swallow unknown options
    for name in options:
        if name not in known and not open_ended:
            raise StoreError(
                f"fsspec's {scheme}:// has no option {name!r}; there is {listed(sorted(known))}{meant(name, known)}"
            )


def option_names(scheme: str) -> set[str]:
    """Names of options that the file system of a scheme declares."""
    return _known(system_class(scheme))[0]


def _known(cls: System) -> tuple[set[str], bool]:
    names, open_ended = set(_GENERAL), False
    for base in cls.__mro__:
        if "__init__" in vars(base) and base.__module__.partition(".")[0] != "builtins":
            parameters = inspect.signature(base.__init__).parameters.values()
            names |= {parameter.name for parameter in parameters}
            if base is cls:
                open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    return names - _OURS, open_ended


async def azure_instance() -> Any:
    """Return the credential of this machine, or None if Azure's metadata address gives none soon.

    adlfs by itself would try five more ways, which takes minutes if nobody answers.
    """
    identity = importlib.import_module("azure.identity.aio")  # adlfs needs it
    credential = identity.ManagedIdentityCredential(retry_total=0)
    try:
        await asyncio.wait_for(credential.get_token("https://storage.azure.com/.default"), INSTANCE_S)
    except failures():
        await credential.close()
        return None
    return credential


async def of_the_machine(spec: StoreSpec) -> Way | None:
    """Return the file system that signs with the credentials of this machine; None without any."""
    scheme = scheme_of(spec.url)
    if scheme in AZURE:
        credential = await azure_instance()
        return None if credential is None else make(spec, signed=True, credential=credential)
    if scheme != "gs":
        return make(spec, signed=True)
    try:  # gcsfs asks while it is made, and blocks meanwhile
        way = await asyncio.wait_for(asyncio.to_thread(make, spec, signed=True), INSTANCE_S)
    except TimeoutError:
        return None
    return None if way.unsigned else way


def make(spec: StoreSpec, *, signed: bool = False, **found: Any) -> Way:
    """Return the file system for options, environment and profile files as they are now; unsigned without credentials.

    Parameters
    ----------
    spec
        Its URL and options.
    signed
        Look for credentials wherever the file system does, including the instance's metadata.
    found
        Options in addition to those of ``spec``.
    """
    scheme = scheme_of(spec.url)
    cls = system_class(scheme)
    options = spec.options.plain() | found
    options.pop(QUERY, None)
    seen = credentials.seen(scheme)
    asynchronous = issubclass(cls, AsyncFileSystem) and bool(cls.async_impl)
    unsigned = not signed and _unsigned(scheme, options)
    if unsigned:
        options |= {"token": "anon"} if scheme == "gs" else {"anon": True}
    options = _bounded(scheme, options)
    if asynchronous:
        options |= {"asynchronous": True, "skip_instance_cache": True}
        cls = _on_our_loop(cls) if scheme in AZURE else cls
    elif scheme not in SHARED:
        options |= {"skip_instance_cache": True}
    if scheme not in {"sftp", "ssh"}:  # they keep no listings, and pass unknown options on to paramiko
        options = {"use_listings_cache": False, **options}
    try:
        system = cls(**options)
    except failures() as error:
        reason = without_secrets(" ".join(str(error).split()), spec.options.plain()) or type(error).__name__
        raise StoreError(f"fsspec refuses the options or the URL: {reason}", where=spec.url) from None
    if scheme == "gs" and signed:  # without credentials, it goes on unsigned
        unsigned = getattr(system.credentials, "credentials", None) is None
    if scheme == "s3":
        system.retries = 1  # see `retrying`: its own retries times botocore's and ours would hold us for hours
    return Way(system, unsigned, seen, ambient=not _CREDENTIALS.get(scheme, set()) & set(spec.options))


@cache
def _on_our_loop(cls: System) -> System:
    """adlfs, which asks for its loop while it is made."""
    return type(cls)(cls.__name__, (cls,), {"loop": property(lambda system: event_loop())})


async def connections(system: System) -> list[Any]:
    """Detach and return a file system's open connections, with a ``close()`` to await: it would close on no loop.

    Its own finalizers, which may also keep it forever (adlfs), are detached.
    """
    set_session = getattr(system, "set_session", None) or getattr(system, "_set_session", None)  # gcsfs's
    opened = [await set_session()] if set_session is not None else []
    opened += [found for name in ("service_client", "credential") if (found := getattr(system, name, None)) is not None]
    for reference in weakref.getweakrefs(system):
        if isinstance(reference.__callback__, weakref.finalize):
            reference.__callback__.detach()
    return [one for one in opened if hasattr(one, "close")]


@cache
def _service_models() -> Any:
    """Botocore's descriptions of services, which each session would otherwise read and keep."""
    return importlib.import_module("botocore.session").Session().get_component("data_loader")


def _bounded(scheme: str, options: dict[str, Any]) -> dict[str, Any]:
    """Options with our limits of time and size, unless they state others."""
    if scheme == "s3":
        return _for_s3(options)
    if scheme == "gs":
        ours = {"response_class": bounded_response(), "auto_decompress": False}
        options["session_kwargs"] = {**(options.get("session_kwargs") or {}), **ours}
    if scheme in {"http", "https"}:
        ours = {"timeout": _http_timeout(), **options.get("client_kwargs", {})}
        # aiohttp itself takes a truncated encoded answer for a complete one
        options["client_kwargs"] = {**ours, "auto_decompress": False}
    return options


def _for_s3(options: dict[str, Any]) -> dict[str, Any]:
    profile, verify = options.pop("profile", None), (options.get("client_kwargs") or {}).get("verify")
    bundle = credentials.aws_config(profile).bundle if verify is None and not options.get("session") else verify
    if isinstance(bundle, str):
        credentials.certificates(bundle)  # aiobotocore's own error does not name the file
    session = options.get("session") or _s3_session(profile)
    return {**options, "session": session, "config_kwargs": {**_s3_config(), **options.get("config_kwargs", {})}}


def _s3_session(profile: str | None) -> Any:
    session = importlib.import_module("aiobotocore.session").AioSession(profile=profile)
    session.register_component("data_loader", _service_models())
    return session


def _s3_config() -> dict[str, Any]:
    """How botocore connects: as many connections as our own limit, and one attempt for each of ours."""
    return {
        "max_pool_connections": request_width(),
        "connect_timeout": CONNECT_S,
        "read_timeout": RetryPolicy.of_settings().silence_s,
        "retries": {"mode": "standard", "total_max_attempts": 1},
    }


async def joined(pieces: AsyncIterator[bytes], key: str) -> bytes:
    """Body of an answer; one that is too large, or never ends, is not read further."""
    parts, nbytes = [], 0
    async for part in pieces:
        nbytes += len(part)
        check_size(nbytes, key)
        parts.append(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


@cache
def bounded_response() -> Any:
    """Answer of aiohttp with a limit on what is read of it, for file systems that read it themselves."""
    answers = importlib.import_module("aiohttp").ClientResponse

    async def read(answer: Any) -> bytes:
        if answer._body is None:
            try:
                name = unquote(answer.url.path).rpartition("/")[2]
                body = await joined(answer.content.iter_any(), name)
                encoding = None if answer.status == 206 else answer.headers.get("Content-Encoding")
                answer._body = bytes(plain(body, encoding, name))
            except BaseException:
                answer.close()
                raise
        return bytes(await answers.read(answer))

    return type("BoundedResponse", (answers,), {"read": read})


def check_azure(key: str) -> Callable[[Any], None]:
    """Return a check that Azure's package calls with each answer before its body; unlimited bodies are refused.

    The package unpacks encoded bodies, which would then grow without limit.
    """

    def check(answer: Any) -> None:
        found = answer.http_response
        if found.status_code not in {200, 206}:
            return
        nbytes, encoding = found.headers.get("Content-Length"), found.headers.get("Content-Encoding", "identity")
        if nbytes is None or encoding != "identity":
            found.internal_response.close()
            if nbytes is None:
                raise StoreError(f"{key!r} comes without its length")
            raise StoreError(f"{key!r} comes with the content encoding {encoding!r}, which backend='obstore' can read")
        check_size(int(nbytes), key)

    return check


def _http_timeout() -> Any:
    aiohttp = importlib.import_module("aiohttp")  # fsspec's own file system for HTTP needs it
    return aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=RetryPolicy.of_settings().silence_s)


def _unsigned(scheme: str, options: Mapping[str, Any]) -> bool:
    if scheme == "s3":
        client = {"aws_access_key_id", "aws_secret_access_key"} & set(options.get("client_kwargs") or {})
        given = client or _CREDENTIALS["s3"] & set(options) or credentials.in_aws_environment()
        if given or {"session", "profile"} & set(options):
            return False
        return credentials.aws_config().provider() is None
    if scheme == "gs":
        return not (_CREDENTIALS["gs"] & set(options) or credentials.in_google_environment())
    if scheme in AZURE:  # without anon, adlfs would begin with the command line and the metadata of Azure
        keyed: object = credentials.azure_connection(options.get("connection_string") or "")
        return not (
            keyed
            or _CREDENTIALS["az"] & set(options)
            or credentials.in_azure_environment()
            or credentials.azure_connection()
        )
    return False


def may_find_credentials(spec: StoreSpec) -> bool:
    """Whether the file system would look for the instance's credentials if it were asked to sign."""
    # adlfs uses nothing but a connection string.
    return not (scheme_of(spec.url) in AZURE and "connection_string" in spec.options)


def put_options(scheme: str, data: Buffer, *, create: bool) -> dict[str, Any]:
    """Keywords of the cloud's own ``_pipe_file``."""
    if scheme in AZURE:
        return {"overwrite": not create}
    options: dict[str, Any] = {"mode": "create"} if create else {}
    if scheme == "gs" and data[-1:] == b"\r":
        # gcsfs (2026.10) ends a body with "\n--boundary", and servers may take "\r\n" for what precedes a boundary.
        options["chunksize"] = len(data)  # the body is then sent by itself
    return options


def create_over_ssh(system: Any, path: str, data: bytes) -> bool:
    """Write a file if there is none; returns whether there was none, as the server said when it made it."""
    try:
        file = system.ftp.open(path, "wx")
    except OSError:  # the protocol has no word for "it exists"
        if system.exists(path):
            return False
        raise
    with file:
        file.write(data)
    return True


def failures() -> tuple[type[BaseException], ...]:
    """Return what a file system is known to raise, as far as its libraries are loaded."""
    own = [getattr(sys.modules[name], cls) for name, cls in _RAISED.items() if name in sys.modules]
    return (OSError, ValueError, RuntimeError, KeyError, TypeError, EOFError, NotImplementedError, *own)


def refused(error: BaseException) -> bool:
    """Whether the server said 401 or 403."""
    # aiohttp's, Azure's and gcsfs's; aiohttp's own `code` warns when it is accessed.
    names = ("status", "status_code", *(["code"] if type(error).__name__ == "HttpError" else []))
    if isinstance(error, OSError) and str(error).startswith("Forbidden: "):  # gcsfs's 403
        return True
    return isinstance(error, PermissionError) or any(str(getattr(error, name, "")) in {"401", "403"} for name in names)


def pause_after_failure(error: BaseException) -> float | None:
    """Seconds after which a request may be repeated, as the server said; None if it would only fail again."""
    cause = error.__cause__ or error  # s3fs translates botocore's
    answer = getattr(cause, "response", None)
    meta = answer.get("ResponseMetadata", {}) if isinstance(answer, dict) else {}
    status = meta.get("HTTPStatusCode", getattr(cause, "status", None))
    if status is not None:
        told = dict(meta.get("HTTPHeaders") or getattr(cause, "headers", None) or {})
        after = next((value for name, value in told.items() if name.lower() == "retry-after"), "")
        return (float(after) if after.isdecimal() else 0.0) if status in _PASSING else None
    names = {base.__name__ for kind in (type(error), type(cause)) for base in kind.__mro__}
    return 0.0 if names & _CUT else None


# Puts that replace exactly what was seen, with the clients of fsspec's clouds, because fsspec has no mode for it.


async def swap(system: Any, scheme: str, path: str, old: bytes, new: bytes) -> bool:
    """Put ``new`` in place of ``old``; returns whether ``new`` is there now.

    Raises
    ------
    Whatever the client raises, except for a condition that was not met.
    """
    read, put = (_read_azure, _put_azure) if scheme in AZURE else (_read_s3, _put_s3) if scheme == "s3" else _GOOGLE
    now, version = await read(system, path)
    if now == old:
        if await put(system, path, new, version):
            return True
        now, _ = await read(system, path)  # it may have been sent again, after a lost answer
    return now == new


async def _read_s3(system: Any, path: str) -> tuple[bytes, str]:
    bucket, key, _ = system.split_path(path)
    answer = await system._call_s3("get_object", Bucket=bucket, Key=key)
    async with answer["Body"] as body:
        return await body.read(), answer["ETag"]


async def _put_s3(system: Any, path: str, new: bytes, version: str) -> bool:
    bucket, key, _ = system.split_path(path)
    try:
        await system._call_s3("put_object", Bucket=bucket, Key=key, Body=new, IfMatch=version)
    except OSError as error:
        if "PreconditionFailed" not in f"{error} {error.__cause__}":
            raise
        return False
    return True


async def _read_google(system: Any, path: str) -> tuple[bytes, str]:
    bucket, key, _ = system.split_path(path)
    told = await system._call("GET", "b/{}/o/{}", bucket, key, json_out=True)
    return await system._cat_file(path), told["generation"]


async def _put_google(system: Any, path: str, new: bytes, version: str) -> bool:
    bucket, key, _ = system.split_path(path)
    where = f"{system._location}/upload/storage/v1/b/{quote(bucket)}/o"
    how = {"uploadType": "media", "name": key, "ifGenerationMatch": version}
    try:
        await system._call("POST", where, data=new, headers={"Content-Type": "application/octet-stream"}, **how)
    except FileExistsError:  # gcsfs's 412
        return False
    return True


async def _read_azure(system: Any, path: str) -> tuple[bytes, str]:
    container, blob, _ = system.split_path(path)
    async with system.service_client.get_blob_client(container, blob) as client:
        stream = await client.download_blob()
        return await stream.readall(), stream.properties.etag


async def _put_azure(system: Any, path: str, new: bytes, version: str) -> bool:
    core = importlib.import_module("azure.core")
    container, blob, _ = system.split_path(path)
    condition = {"etag": version, "match_condition": core.MatchConditions.IfNotModified}
    async with system.service_client.get_blob_client(container, blob) as client:
        try:
            await client.upload_blob(new, overwrite=True, **condition)
        except core.exceptions.ResourceModifiedError:
            return False
    return True


_GOOGLE = (_read_google, _put_google)
