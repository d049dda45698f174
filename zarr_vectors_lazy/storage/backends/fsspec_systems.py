"""fsspec's file systems, made from our descriptions: known options, known failures, unsigned where nobody signs."""

import inspect
import sys
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeAlias

import fsspec
from fsspec.asyn import AsyncFileSystem

from zarr_vectors_lazy.errors import StoreError, listed
from zarr_vectors_lazy.settings import setting
from zarr_vectors_lazy.storage import ambient
from zarr_vectors_lazy.storage.location import AZURE, CLOUD, local_path, parse, scheme_of
from zarr_vectors_lazy.storage.secrets import clean_url, without_secrets
from zarr_vectors_lazy.storage.spec import StoreSpec

EXTRAS = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", **dict.fromkeys(AZURE, "adlfs")}
System: TypeAlias = Any
"""A class of file systems; fsspec ships no types."""
_GENERAL = {"use_listings_cache", "listings_expiry_time", "max_paths", "skip_instance_cache"}
_OURS = {"self", "args", "kwargs", "asynchronous", "loop", "storage_options", "ssh_kwargs"}
_AIOHTTP = {"allow_redirects", "auth", "cookies", "headers", "max_redirects", "proxy", "proxy_auth", "ssl", "timeout"}
_CREDENTIALS = {
    "s3": {"key", "secret", "token", "anon", "username", "password", "session", "profile"},
    "gs": {"token"},
}
_RAISED = {  # what the file systems' own libraries raise, beside Python's own errors
    "aiohttp": "ClientError",
    "azure.core.exceptions": "AzureError",
    "botocore.exceptions": "BotoCoreError",
    "gcsfs.retry": "HttpError",
    "google.auth.exceptions": "GoogleAuthError",
    "paramiko": "SSHException",
}


def canonical(url: str, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Canonical text of a URL that fsspec serves, and the options with what the URL said beside."""
    scheme = scheme_of(url)
    if "::" in url:
        raise StoreError("chained URLs are not served; pass a zarr store object instead", where=clean_url(url))
    cls = system_class(scheme or "file")
    if scheme in {"", "file", "local"}:
        return f"file://{local_path(url if scheme != 'local' else url[8:])}", dict(options)
    if scheme in CLOUD:
        place = parse(url, options)
        known = "connection_string" in options or not place.account
        return place.url, dict(options) if known else {"account_name": place.account, **options}
    said = {name: value for name, value in _said(cls, url).items() if name in {"host", "port", "username", "password"}}
    return clean_url(url).rstrip("/") or url, {**said, **options}


def _said(cls: System, url: str) -> dict[str, Any]:
    """Return the options that a URL itself gives (user, password, port)."""
    said: dict[str, Any] = cls._get_kwargs_from_urls(url)  # how fsspec's own url_to_fs reads them
    return said


@cache
def system_class(scheme: str) -> System:
    """Class that serves a scheme; not known or not installed is a StoreError."""
    try:
        return fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        package = EXTRAS.get(scheme)
        reason = f"{package}; pip install 'zarr_vectors_lazy[cloud]'" if package else str(error)
        raise StoreError(f"fsspec's driver for {scheme}:// is not installed: {reason}") from error
    except ValueError as error:
        raise StoreError(f"no backend knows the scheme {scheme}://") from error


def check_options(scheme: str, options: Mapping[str, Any]) -> None:
    """Raise a StoreError that names the first option that the file system does not know."""
    cls = system_class(scheme)
    known, open_ended = _known(cls)
    if scheme in {"http", "https"}:
        known, open_ended = known | _AIOHTTP, False
    if scheme in {"s3", "gs", "gcs", "memory", "file", *AZURE}:
        open_ended = False  # they swallow what they do not know
    for name in options:
        if name not in known and not open_ended:
            raise StoreError(f"fsspec's {scheme}:// knows no option {name!r}; there is {listed(sorted(known))}")


def _known(cls: System) -> tuple[set[str], bool]:
    names, open_ended = set(_GENERAL), False
    for base in cls.__mro__:
        if "__init__" in vars(base) and base.__module__.partition(".")[0] != "builtins":
            parameters = inspect.signature(base.__init__).parameters.values()
            names |= {parameter.name for parameter in parameters}
            if base is cls:
                open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    return names - _OURS, open_ended


def make(spec: StoreSpec, *, signed: bool = False) -> tuple[Any, bool]:
    """Return the file system, and whether it sends unsigned requests because no credentials were found.

    Parameters
    ----------
    spec
        Its URL and options.
    signed
        Ask for credentials wherever the file system looks, the instance's metadata included.
    """
    scheme = scheme_of(spec.url)
    cls = system_class(scheme)
    options = spec.options.plain()
    asynchronous = issubclass(cls, AsyncFileSystem) and bool(cls.async_impl)
    unsigned = not signed and _unsigned(scheme, options)
    if unsigned:
        options |= {"anon": True} if scheme == "s3" else {"token": "anon"}
    if scheme == "s3":  # botocore's own limit of 10 connections would be ours
        wide = {"max_pool_connections": int(setting("max-requests"))}
        options["config_kwargs"] = {**wide, **options.get("config_kwargs", {})}
    if asynchronous:
        options |= {"asynchronous": True, "skip_instance_cache": True}
    try:
        return cls(**{"use_listings_cache": False, **options}), unsigned
    except failures() as error:
        reason = without_secrets(" ".join(str(error).split()), spec.options.plain()) or type(error).__name__
        raise StoreError(f"fsspec refuses the options or the URL: {reason}", where=spec.url) from None


def _unsigned(scheme: str, options: Mapping[str, Any]) -> bool:
    if scheme == "s3":
        client = {"aws_access_key_id", "aws_secret_access_key"} & set(options.get("client_kwargs") or {})
        given = client or _CREDENTIALS["s3"] & set(options) or ambient.in_aws_environment()
        return not given and ambient.aws_profile() is None
    if scheme == "gs":
        return not (_CREDENTIALS["gs"] & set(options) or ambient.in_google_environment())
    return False  # adlfs is unsigned by itself where nothing is given


def failures() -> tuple[type[BaseException], ...]:
    """Return what a file system is known to raise, as far as its libraries are loaded."""
    own = [getattr(sys.modules[name], cls) for name, cls in _RAISED.items() if name in sys.modules]
    return (OSError, ValueError, RuntimeError, KeyError, TypeError, EOFError, NotImplementedError, *own)


def refused(error: BaseException) -> bool:
    """Whether the server said 401 or 403."""
    # aiohttp's, Azure's and gcsfs's; aiohttp's own `code` warns when it is looked at.
    names = ("status", "status_code", *(["code"] if type(error).__name__ == "HttpError" else []))
    return isinstance(error, PermissionError) or any(str(getattr(error, name, "")) in {"401", "403"} for name in names)
