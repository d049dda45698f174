"""Options of backends: translated from the other's names, and sorted into the arguments of obstore's constructors."""

import json
import os
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from zarr_vectors_lazy.errors import StoreError, listed, meant
from zarr_vectors_lazy.storage.io import idle_width
from zarr_vectors_lazy.storage.retry import CONNECT_S, FIRST_PAUSE_S, LONGEST_PAUSE_S, RetryPolicy
from zarr_vectors_lazy.storage.spec import connection, is_secret

# Options by the other backend's names: obstore understands what xarray users type for fsspec, and vice versa.
#
# A backend's own names are left alone. What both have is renamed; what only states a default is dropped; and what
# the backend cannot do is refused, naming the option that does it, if there is one.

Options: TypeAlias = dict[str, Any]
Rule: TypeAlias = Callable[[Any], Mapping[str, Any]]
"""From a value to options of the other backend; none if the value states a default."""


def _to(name: str) -> Rule:
    return lambda value: {name: value}


def _nothing(value: Any) -> Options:
    return {}


def _refused(instead: str) -> Rule:
    def refuse(value: Any) -> Options:
        raise StoreError(instead)

    return refuse


def _within(outer: str, name: str) -> Rule:
    return lambda value: {outer: {name: value}}


def _s3_client_kwargs(value: Any) -> Options:
    names = {
        "region_name": "region",
        "endpoint_url": "endpoint",
        "aws_access_key_id": "access_key_id",
        "aws_secret_access_key": "secret_access_key",
        "aws_session_token": "session_token",
    }
    return _renamed("client_kwargs", value, {old: _to(new) for old, new in names.items()} | {
        "verify": _verify,
        "use_ssl": _nothing,
    })  # fmt: skip


def _verify(value: Any) -> Options:
    if isinstance(value, str):
        return {"client_options": {"root_certificate": Path(value).read_text()}}
    return {} if value else {"client_options": {"allow_invalid_certificates": True}}


def _s3_config_kwargs(value: Any) -> Options:
    return _renamed(
        "config_kwargs",
        value,
        {
            "s3": _addressing,
            "signature_version": _nothing,
            "connect_timeout": _within("client_options", "connect_timeout"),
            "read_timeout": _within("client_options", "read_timeout"),
            "region_name": _to("region"),
            "max_pool_connections": _nothing,  # the number is our setting "max-requests"
            "retries": _refused("give retry_config={'max_retries': ...}, or the setting 'retries'"),
            "proxies": _refused("give client_options={'proxy_url': ...}"),
        },
    )


def _addressing(value: Any) -> Options:
    style = value.get("addressing_style") if isinstance(value, Mapping) else None
    return {} if style in {None, "auto"} else {"virtual_hosted_style_request": style == "virtual"}


def _google_token(value: Any) -> Options:
    if isinstance(value, Mapping):
        return {"service_account_key": json.dumps(dict(value))}
    if value == "anon":
        return {"skip_signature": True}
    if value in {None, "google_default", "cloud", "cache"}:
        return {}
    if isinstance(value, str) and value != "browser":
        return {"application_credentials": value}
    raise StoreError("give credential_provider=, or service_account_path=")


def _client_options(value: Any) -> Options:
    return _renamed(
        "client_options",
        value,
        {
            "allow_http": _nothing,  # an endpoint implies it
            "connect_timeout": _within("config_kwargs", "connect_timeout"),
            "read_timeout": _within("config_kwargs", "read_timeout"),
            "timeout": _within("config_kwargs", "read_timeout"),
            "allow_invalid_certificates": lambda given: {"client_kwargs": {"verify": not given}},
        },
    )


_OBSTORE: dict[str, dict[str, Rule]] = {
    "s3": {
        "key": _to("access_key_id"),
        "secret": _to("secret_access_key"),
        "username": _to("access_key_id"),
        "password": _to("secret_access_key"),
        "anon": _to("skip_signature"),
        "endpoint_url": _to("endpoint"),
        "requester_pays": _to("request_payer"),
        "client_kwargs": _s3_client_kwargs,
        "config_kwargs": _s3_config_kwargs,
        "use_ssl": _nothing,
        "session": _refused("give credential_provider=, or profile="),
    },
    "gs": {
        "token": _google_token,
        "endpoint_url": _to("base_url"),
        "project": _nothing,  # for making buckets
        "access": _nothing,
        "requester_pays": lambda value: {"client_options": {"default_headers": {"x-goog-user-project": value}}},
    },
    "az": {
        "anon": _to("skip_signature"),
        "sas_token": lambda value: {"sas_key": str(value).lstrip("?")},
        "account_host": lambda value: {"endpoint": f"https://{value}"},
        "connection_string": connection,
        "credential": _refused("give credential_provider=, or client_id=, client_secret= and tenant_id="),
    },
    "http": {
        "headers": _within("client_options", "default_headers"),
        "client_kwargs": _refused("give client_options={'default_headers': ..., 'timeout': ...}"),
        "proxy": _within("client_options", "proxy_url"),
        "auth": _refused("give client_options={'default_headers': {'Authorization': ...}}"),
        "ssl": _refused("give client_options={'root_certificate': ...}"),
    },
}
_FSSPEC: dict[str, dict[str, Rule]] = {
    "s3": {
        "access_key_id": _to("key"),
        "secret_access_key": _to("secret"),
        "session_token": _to("token"),
        "skip_signature": _to("anon"),
        "endpoint": _to("endpoint_url"),
        "region": _within("client_kwargs", "region_name"),
        "default_region": _within("client_kwargs", "region_name"),
        "request_payer": _to("requester_pays"),
        "virtual_hosted_style_request": lambda value: {
            "config_kwargs": {"s3": {"addressing_style": "virtual" if str(value).lower() == "true" else "path"}}
        },
        "allow_http": _nothing,
        "client_options": _client_options,
        "retry_config": _refused("give the setting 'retries'"),
        "credential_provider": _refused("give session="),
    },
    "gs": {
        "skip_signature": lambda value: {"token": "anon"} if value else {},
        "service_account": _to("token"),
        "service_account_path": _to("token"),
        "application_credentials": _to("token"),
        "service_account_key": lambda value: {"token": json.loads(value)},
        "base_url": _to("endpoint_url"),
        "bearer_token": _refused("give token=google.oauth2.credentials.Credentials(...)"),
        "credential_provider": _refused("give token="),
        "allow_http": _nothing,
        "retry_config": _refused("give the setting 'retries'"),
    },
    "az": {
        "skip_signature": _to("anon"),
        "sas_key": _to("sas_token"),
        "access_key": _to("account_key"),
        "use_emulator": _refused("give connection_string= of the emulator"),
        "endpoint": _refused("give connection_string= with BlobEndpoint=..."),
        "credential_provider": _refused("give credential="),
        "allow_http": _nothing,
        "retry_config": _refused("give the setting 'retries'"),
    },
    "http": {
        "client_options": _refused("give headers=, client_kwargs={'timeout': ...}, ssl=, proxy="),
        "default_headers": _to("headers"),
        "proxy_url": _to("proxy"),
        "allow_http": _nothing,
        "root_certificate": _refused("give ssl=ssl.create_default_context(cadata=...)"),
        "retry_config": _refused("give the setting 'retries'"),
    },
}
_FAMILY = {"gcs": "gs", "s3a": "s3", "https": "http", "azure": "az", "abfs": "az", "abfss": "az", "adl": "az"}
_VENDORS = ("aws_", "google_", "azure_storage_", "azure_")


def for_obstore(scheme: str, options: Mapping[str, Any]) -> Options:
    """Options by obstore's names.

    Raises
    ------
    StoreError
        For options that obstore has no equivalent of; the message names the one to use.
    """
    return _translated("obstore", _OBSTORE.get(_FAMILY.get(scheme, scheme), {}), options, str)


def for_fsspec(scheme: str, options: Mapping[str, Any]) -> Options:
    """Options by the names of fsspec's file system for the scheme; raises as `for_obstore`."""
    return _translated("fsspec", _FSSPEC.get(_FAMILY.get(scheme, scheme), {}), options, bare)


def _translated(
    backend: str, rules: Mapping[str, Rule], options: Mapping[str, Any], name_of: Callable[[str], str]
) -> Options:
    own = {name: value for name, value in options.items() if name_of(name) not in rules}
    others = {name: value for name, value in options.items() if name_of(name) in rules}
    found: Options = {}
    for name, value in others.items():
        try:
            _merge(found, rules[name_of(name)](value))
        except StoreError as error:
            raise StoreError(f"the backend {backend!r} takes no option {name!r}: {error.message}") from None
        except OSError as error:
            raise StoreError(f"option {name!r} names a file that cannot be read: {error}") from None
        except (ValueError, TypeError, AttributeError) as error:
            raise StoreError(f"option {name!r} has a wrong value: {type(error).__name__}") from None
    _merge(found, own)  # the backend's own names take precedence
    return found


def _renamed(outer: str, given: Any, rules: Mapping[str, Rule]) -> Options:
    if given is not None and not isinstance(given, Mapping):
        raise StoreError(f"{outer} must be a mapping, not {type(given).__name__}")
    found: Options = {}
    for name, value in (given or {}).items():
        if name not in rules:
            raise StoreError(f"its {name!r} has no counterpart; there is {', '.join(map(repr, rules))}")
        _merge(found, rules[name](value))
    return found


def _merge(into: Options, more: Mapping[str, Any]) -> None:
    for name, value in more.items():
        if isinstance(value, Mapping) and isinstance(into.get(name), Mapping):
            inner = dict(into[name])
            _merge(inner, value)
            into[name] = inner
        else:
            into[name] = value


def bare(name: str) -> str:
    """Name of an option without the vendor's prefix."""
    name = name.lower()
    return next((name[len(vendor) :] for vendor in _VENDORS if name.startswith(vendor)), name)


# Options of obstore's constructors, without obstore: sorted, and wrong ones refused.

IDLE_S = 10.0  # after which an unused connection is closed
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
        Options as the user gave them: configuration, client options and retry options, nested or not.
    config
        Whether the store has a configuration (HTTP has none).

    Returns
    -------
    ``config``, ``client_options``, ``retry_config`` and ``credential_provider``, unless empty.

    Raises
    ------
    StoreError
        For a name or a kind of value that obstore does not know.
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
    if any(isinstance(value, str) and value.lower().startswith("http://") for value in nested["config"].values()):
        nested["client_options"].setdefault("allow_http", True)  # whoever types http:// means it
    return given | {name: values for name, values in nested.items() if values}


def with_retries(given: dict[str, Any], scheme: str) -> dict[str, Any]:
    """Return the arguments with our limits, if the user set none by option or in the environment."""
    limits = {"client_options": _client_limits() | _client_environment(scheme), "retry_config": _retries()}
    return given | {name: values | given.get(name, {}) for name, values in limits.items()}


def _client_environment(scheme: str) -> dict[str, str]:
    # obstore reads these too, but forgets them once it is given any client option.
    vendor = _VENDOR_OF.get(scheme)
    if vendor is None:
        return {}
    found = {name.lower(): value for name, value in os.environ.items()}
    return {name: found[vendor + name] for name in sorted(CLIENT) if vendor + name in found}


def _client_limits() -> dict[str, Any]:
    # A limit for the whole answer, obstore's default, would end large ones that 256 concurrent requests make slow.
    silence = timedelta(seconds=RetryPolicy.of_settings().silence_s)
    idle = {"pool_max_idle_per_host": str(idle_width()), "pool_idle_timeout": timedelta(seconds=IDLE_S)}
    limits = {"connect_timeout": timedelta(seconds=CONNECT_S), "read_timeout": silence, "timeout": timedelta(hours=6)}
    return limits | idle


def _retries() -> dict[str, Any]:
    policy = RetryPolicy.of_settings()
    backoff = {  # each pause is drawn from between the first and four times the one before
        "init_backoff": timedelta(seconds=FIRST_PAUSE_S),
        "max_backoff": timedelta(seconds=LONGEST_PAUSE_S),
        "base": 4,
    }
    return {"max_retries": policy.retries, "retry_timeout": timedelta(seconds=policy.total_s), "backoff": backoff}


def bare_names(options: Mapping[str, Any]) -> set[str]:
    """Names of the given configuration options, without the vendor's prefix."""
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
            raise StoreError(f"obstore has no {kind} {name!r}; there is {listed(sorted(names))}{meant(name, names)}")
    return {name: _duration(name, value) for name, value in values.items() if value is not None}


def _duration(name: str, value: object) -> object:
    if name in _DURATIONS and isinstance(value, int | float) and not isinstance(value, bool):
        return timedelta(seconds=value)
    return value


def _setting(name: str, value: object) -> str | bool:
    if not isinstance(value, str | bool | int | float):
        raise StoreError(f"option {name!r} of obstore takes text, not {type(value).__name__}")
    if ("endpoint" in name or "url" in name) and isinstance(value, str):
        check_url(name, value)
    return value if isinstance(value, str | bool) else str(value)


def check_url(name: str, value: str) -> None:
    """Refuse a malformed endpoint, which would panic in Rust at the first request."""
    usable = urlsplit(value).scheme in {"http", "https"} and urlsplit(value).netloc and value.isascii()
    if not usable or any(char.isspace() for char in value):
        shown = "***" if is_secret(name) else repr(value)
        raise StoreError(
            f"{name!r} (of options, environment, profiles) is a URL that begins with http:// or https://, not {shown}"
        )
