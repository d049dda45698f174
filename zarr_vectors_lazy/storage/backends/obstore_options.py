"""Options for obstore, without obstore: sorted into its constructors' arguments, wrong ones refused; regions of S3."""

import os
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from zarr_vectors_lazy.errors import StoreError, listed, meant
from zarr_vectors_lazy.storage.io import idle_width
from zarr_vectors_lazy.storage.retry import CONNECT_S, FIRST_PAUSE_S, LONGEST_PAUSE_S, RetryPolicy
from zarr_vectors_lazy.storage.translate import bare
from zarr_vectors_lazy.storage.url import is_secret

IDLE_S = 10.0  # after which a connection that nobody uses is closed
CLIENT = frozenset({
    "allow_http", "allow_invalid_certificates", "connect_timeout", "default_content_type", "default_headers",
    "http1_only", "http2_keep_alive_interval", "http2_keep_alive_timeout", "http2_keep_alive_while_idle", "http2_only",
    "pool_idle_timeout", "pool_max_idle_per_host", "proxy_url", "proxy_ca_certificate", "proxy_excludes",
    "root_certificate", "randomize_addresses", "read_timeout", "timeout", "user_agent",
})  # fmt: skip
RETRY = frozenset({"backoff", "max_retries", "retry_timeout"})
BACKOFF = frozenset({"init_backoff", "max_backoff", "base"})
_DURATIONS = {name for name in CLIENT | RETRY | BACKOFF if "timeout" in name or name.endswith("_backoff")}
_VENDOR_OF = {"s3": "aws_", "gs": "google_", "az": "azure_", "abfs": "azure_"}


def arguments(options: Mapping[str, Any], *, config: bool = True) -> dict[str, Any]:
    """Arguments of an obstore store's constructor.

    Parameters
    ----------
    options
        As the user gave them: configuration, client options and retry options, nested or loose.
    config
        Whether the store has a configuration (HTTP has none).

    Returns
    -------
    Those of ``config``, ``client_options``, ``retry_config``, ``credential_provider`` that are not empty.

    Raises
    ------
    StoreError
        For a name or kind of value that obstore does not know.
    """
    nested = {name: dict(_mapping(name, options)) for name in ("config", "client_options", "retry_config")}
    given: dict[str, Any] = {}
    for name, value in options.items():
        if name in nested:
            continue
        if name == "credential_provider":
            given[name] = value
        elif bare(name) in CLIENT:  # as configuration it would be a Rust panic
            nested["client_options"][bare(name)] = value
        elif name in RETRY:
            nested["retry_config"][name] = value
        else:
            nested["config"][name] = value
    nested["client_options"] = _known("client option", nested["client_options"], CLIENT)
    nested["retry_config"] = _known("retry option", nested["retry_config"], RETRY)
    if "backoff" in nested["retry_config"]:
        nested["retry_config"]["backoff"] = _known(
            "backoff option", _mapping("backoff", nested["retry_config"]), BACKOFF
        )
    nested["config"] = {name: _setting(name, value) for name, value in nested["config"].items() if value is not None}
    if nested["config"] and not config:
        _known("option", nested["config"], CLIENT | RETRY | {"client_options", "retry_config"})
    if any(_is_http(value) for value in nested["config"].values()):
        nested["client_options"].setdefault("allow_http", True)  # who types http:// means it
    return given | {name: values for name, values in nested.items() if values}


def with_patience(given: dict[str, Any], scheme: str) -> dict[str, Any]:
    """Return the arguments with our limits where the user set none, by option or in the environment."""
    limits = {"client_options": _client_limits() | _client_environment(scheme), "retry_config": _retries()}
    return given | {name: values | given.get(name, {}) for name, values in limits.items()}


def _client_environment(scheme: str) -> dict[str, str]:
    # obstore reads these too, and forgets them once it is given any client option.
    vendor = _VENDOR_OF.get(scheme)
    if vendor is None:
        return {}
    found = {name.lower(): value for name, value in os.environ.items()}
    return {name: found[vendor + name] for name in sorted(CLIENT) if vendor + name in found}


def _client_limits() -> dict[str, Any]:
    # A limit for the whole answer, obstore's default, would end large ones that 256 requests at once make slow.
    silence = timedelta(seconds=RetryPolicy.of_settings().silence_s)
    idle = {"pool_max_idle_per_host": str(idle_width()), "pool_idle_timeout": timedelta(seconds=IDLE_S)}
    limits = {"connect_timeout": timedelta(seconds=CONNECT_S), "read_timeout": silence, "timeout": timedelta(hours=6)}
    return limits | idle


def _retries() -> dict[str, Any]:
    patience = RetryPolicy.of_settings()
    backoff = {  # each pause is drawn from all between the first and four times the one before
        "init_backoff": timedelta(seconds=FIRST_PAUSE_S),
        "max_backoff": timedelta(seconds=LONGEST_PAUSE_S),
        "base": 4,
    }
    return {
        "max_retries": patience.retries,
        "retry_timeout": timedelta(seconds=patience.total_s),
        "backoff": backoff,
    }


def bare_names(options: Mapping[str, Any]) -> set[str]:
    """Names of the configuration options given, without the vendor's prefix."""
    return {bare(name) for name in (*options, *_mapping("config", options))}


def _mapping(name: str, options: Mapping[str, Any]) -> Mapping[str, Any]:
    value = options.get(name)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise StoreError(f"option {name!r} of obstore takes a mapping, not {type(value).__name__}")
    return value


def _known(kind: str, values: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    for name in values:
        if name not in names:
            raise StoreError(f"obstore knows no {kind} {name!r}; there is {listed(sorted(names))}{meant(name, names)}")
    return {name: _duration(name, value) for name, value in values.items() if value is not None}


def _duration(name: str, value: object) -> object:
    if name in _DURATIONS and isinstance(value, int | float) and not isinstance(value, bool):
        return timedelta(seconds=value)
    return value


def _setting(name: str, value: object) -> str | bool:
    if not isinstance(value, str | bool | int | float):
        raise StoreError(f"option {name!r} of obstore takes text, not {type(value).__name__}")
    if ("endpoint" in name or "url" in name) and isinstance(value, str):
        _check_url(name, value)
    return value if isinstance(value, str | bool) else str(value)


def _check_url(name: str, value: str) -> None:
    # A malformed endpoint panics in Rust at the first request.
    usable = urlsplit(value).scheme in {"http", "https"} and urlsplit(value).netloc and value.isascii()
    if not usable or any(char.isspace() for char in value):
        shown = "***" if is_secret(name) else repr(value)
        raise StoreError(
            f"{name!r} (of options, environment, profiles) is a URL that begins with http:// or https://, not {shown}"
        )


def _is_http(value: object) -> bool:
    return isinstance(value, str) and value.lower().startswith("http://")


# The region that a bucket of S3 is in, which its server tells to those who ask in another one.

HEADER = "x-amz-bucket-region"
TIMEOUT_S = 5.0
_ELSEWHERE = re.compile(r"redirect without LOCATION|PermanentRedirect|AuthorizationHeaderMalformed|IllegalLocation")
_EXPECTING = re.compile(r"expecting '([a-z0-9-]+)'")
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")


def is_elsewhere(text: str) -> bool:
    """Whether an error says that the bucket is in another region."""
    return _ELSEWHERE.search(text) is not None


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
    given = (options.get(name) for name in ("endpoint", "aws_endpoint", "endpoint_url", "aws_endpoint_url"))
    ambient = (os.environ.get(name) for name in _ENDPOINTS)
    return next((str(url) for url in (*given, *ambient) if url), "https://s3.amazonaws.com")
