"""URLs taken apart, and put into the one text by which a store is known."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from zarr_vectors_lazy.errors import StoreError
from zarr_vectors_lazy.storage.secrets import clean_url

AZURE = frozenset({"az", "azure", "abfs", "abfss", "adl"})
BUCKETS = frozenset({"s3", "s3a", "gs", "gcs"}) | AZURE
CLOUD = BUCKETS | {"http", "https"}
_ACCOUNT_OPTIONS = ("account_name", "azure_storage_account_name")
_ACCOUNT_VARIABLES = ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT")


@dataclass(frozen=True, slots=True)
class Location:
    """A URL's parts: ``scheme://bucket/path``, for Azure also the account."""

    scheme: str
    bucket: str
    path: str
    account: str = ""

    @property
    def url(self) -> str:
        """Canonical text, without secrets and trailing slash."""
        parts = [part for part in (self.account, self.bucket, self.path) if part]
        return f"{self.scheme}://{'/'.join(parts)}"


def scheme_of(path: str) -> str:
    """Scheme of a URL, ``""`` for a path."""
    scheme, separator, _ = path.partition("://")
    return scheme.lower() if separator and scheme and "/" not in scheme and "\\" not in scheme else ""


def local_path(path: str) -> str:
    """Absolute path of a bare path or a ``file://`` URL."""
    if scheme_of(path) == "file":
        parts = urlsplit(path)
        if parts.netloc not in {"", "localhost"}:
            raise StoreError(f"a file URL begins with file:///, without a host such as {parts.netloc!r}")
        path = url2pathname(parts.path)
    return os.path.abspath(path)  # not resolve(): links stay as they are named


def overlap(url: str, other: str) -> bool:
    """Whether two places are one, or one lies in the other; links on disk are followed."""
    one, two = (_followed(text) + "/" for text in (url, other))
    return one.startswith(two) or two.startswith(one)


def _followed(url: str) -> str:
    return os.path.realpath(local_path(url)) if scheme_of(url) in {"", "file"} else url


def parse(url: str, options: Mapping[str, Any]) -> Location:
    """Parts of a cloud URL; the account of an Azure URL from the options, the environment or the URL (API 1)."""
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    if scheme in {"http", "https"}:
        return _parse_http(url)
    if scheme in AZURE:
        return _parse_azure(url, options)
    # Not parts.path: a bucket's keys may hold "?" and "#".
    bucket, _, path = url.partition("://")[2].partition("/")
    if not bucket:
        raise StoreError(f"no bucket in {clean_url(url)!r}; expected {scheme}://bucket/path")
    return Location({"s3a": "s3", "gcs": "gs"}.get(scheme, scheme), bucket, path.strip("/"))


def _parse_http(url: str) -> Location:
    parts = urlsplit(url)
    if not parts.hostname:
        raise StoreError(f"no host in {clean_url(url)!r}; expected {parts.scheme}://host/path")
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise StoreError(
            "a store is many objects, so its URL takes no user, query or fragment; give credentials as options "
            "(default_headers, sas_key, ...)",
            where=clean_url(url),
        )
    return Location(parts.scheme, parts.netloc, parts.path.strip("/"))


def _parse_azure(url: str, options: Mapping[str, Any]) -> Location:
    parts = urlsplit(url)
    first, _, path = unquote(parts.path).strip("/").partition("/")
    container, at, host = parts.netloc.rpartition("@")
    if at:
        return Location("az", container, "/".join(part for part in (first, path) if part), host.partition(".")[0])
    known = _given_account(options)
    segment = parts.netloc
    if parts.scheme in {"az", "azure"} and (segment == known if known else first):
        account, container = segment, first
    else:
        account, container, path = known, segment, "/".join(part for part in (first, path) if part)
    if not container:
        raise StoreError(f"no container in {clean_url(url)!r}; expected az://account/container/path")
    return Location("az" if account else "abfs", container, path, account)


def _given_account(options: Mapping[str, Any]) -> str:
    for name in _ACCOUNT_OPTIONS:
        if options.get(name):
            return str(options[name])
    text = options.get("connection_string") or os.environ.get("AZURE_STORAGE_CONNECTION_STRING", "")
    for part in str(text).split(";"):
        if part.lower().startswith("accountname="):
            return part.partition("=")[2]
    if options.get("use_emulator") or options.get("azure_storage_use_emulator"):
        return "devstoreaccount1"
    return next((os.environ[name] for name in _ACCOUNT_VARIABLES if os.environ.get(name)), "")
