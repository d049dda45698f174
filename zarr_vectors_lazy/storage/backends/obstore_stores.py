"""obstore's own stores, made from our descriptions; the only module that imports obstore."""

import os
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from dask.sizeof import sizeof

from zarr_vectors_lazy.errors import StoreError, listed, meant
from zarr_vectors_lazy.storage import credentials
from zarr_vectors_lazy.storage.credentials import Way
from zarr_vectors_lazy.storage.io import idle_width
from zarr_vectors_lazy.storage.retry import CONNECT_S, FIRST_PAUSE_S, INSTANCE_S, LONGEST_PAUSE_S, Patience
from zarr_vectors_lazy.storage.spec import StoreSpec
from zarr_vectors_lazy.storage.url import (
    AZURE,
    CLOUD,
    QUERY,
    is_secret,
    local_path,
    parse,
    scheme_of,
    with_query,
    without_secrets,
)

# Options for obstore: sorted into its constructors' arguments, wrong ones refused before Rust sees them.

IDLE_S = 10.0  # after which a connection that nobody uses is closed
CLIENT = frozenset(
    {
        "allow_http",
        "allow_invalid_certificates",
        "connect_timeout",
        "default_content_type",
        "default_headers",
        "http1_only",
        "http2_keep_alive_interval",
        "http2_keep_alive_timeout",
        "http2_keep_alive_while_idle",
        "http2_only",
        "pool_idle_timeout",
        "pool_max_idle_per_host",
        "proxy_url",
        "proxy_ca_certificate",
        "proxy_excludes",
        "root_certificate",
        "randomize_addresses",
        "read_timeout",
        "timeout",
        "user_agent",
    }
)
RETRY = frozenset({"backoff", "max_retries", "retry_timeout"})
BACKOFF = frozenset({"init_backoff", "max_backoff", "base"})
_DURATIONS = {name for name in CLIENT | RETRY | BACKOFF if "timeout" in name or name.endswith("_backoff")}
_VENDORS = ("aws_", "google_", "azure_")
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
        elif _bare(name) in CLIENT:  # as configuration it would be a Rust panic
            nested["client_options"][_bare(name)] = value
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
    silence = timedelta(seconds=Patience.of_settings().silence_s)
    idle = {"pool_max_idle_per_host": str(idle_width()), "pool_idle_timeout": timedelta(seconds=IDLE_S)}
    limits = {"connect_timeout": timedelta(seconds=CONNECT_S), "read_timeout": silence, "timeout": timedelta(hours=6)}
    return limits | idle


def _retries() -> dict[str, Any]:
    patience = Patience.of_settings()
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
    return {_bare(name) for name in (*options, *_mapping("config", options))}


def _bare(name: str) -> str:
    name = name.lower()
    return next((name[len(vendor) :] for vendor in _VENDORS if name.startswith(vendor)), name)


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


# obstore's own stores, made from our descriptions; the only module that imports obstore.

WAS_THERE = "obstore" in sys.modules  # somebody imported it before us, and may have used it
try:
    from obstore import Bytes, exceptions, store
except ImportError as error:
    raise StoreError(
        "the backend 'obstore' is not installed; pip install 'zarr_vectors_lazy[obstore]', or choose backend='fsspec'"
    ) from error

# Python sees 72 bytes of any of them: without this a cluster takes a batch for empty when it places and spills tasks.
sizeof.register(Bytes)(len)

FAILURES = (exceptions.BaseError, OSError, ValueError, TypeError, RuntimeError)
_REFUSED = re.compile(r"status code: 40[13]\b")
NotSupportedError = exceptions.NotSupportedError
AlreadyExistsError = exceptions.AlreadyExistsError
PreconditionError = exceptions.PreconditionError
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
    "key",
    "token",
    "sas",
    "client_id",
    "secret",
    "credential",
    "msi",
    "object_id",
    "signature",
    "emulator",
    "use_azure_cli",
)
_KNOWN = {
    "s3": _CREDENTIALS["s3"] | {"region", "endpoint", "request_payer", "virtual_hosted_style_request"},
    "gs": _CREDENTIALS["gs"] | {"base_url"},
    "az": {
        "account_name",
        "account_key",
        "sas_key",
        "token",
        "endpoint",
        "use_emulator",
        "skip_signature",
        "client_id",
    },
}
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
    # An account is stated, as another process may have another one in its environment.
    return place.url, {"account_name": place.account, **options} if place.account else options


def make(spec: StoreSpec, region: str | None = None) -> Way:
    """Return the store as options, environment and profile files say now; unsigned where they have no credentials.

    Parameters
    ----------
    spec
        Its URL and options.
    region
        In place of what options, environment and profile files say.

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
        Configuration that goes over that of the options.
    client
        Client options below those of the options.
    timeout
        Of one request.
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
    given = (given if scheme == "file" else with_patience(given, scheme)) | overrides
    if config:
        kept = {name: value for name, value in given.get("config", {}).items() if _last(name) not in config}
        given["config"] = {**kept, **config}
        if "endpoint" in config:
            _check_url("endpoint", str(config["endpoint"]))
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


def _last(name: str) -> str:
    return name.removeprefix("aws_").removeprefix("azure_storage_").removeprefix("azure_")


def _some_options(scheme: str, error: BaseException, spec: StoreSpec) -> str:
    if not isinstance(error, exceptions.UnknownConfigurationKeyError):
        return ""
    known = sorted(_KNOWN.get(scheme, ()))
    wrong = next((name for name in spec.options if f"'{name}'" in str(error)), "")
    return f"; there is, among others, {', '.join(known)}{meant(wrong, known)}"


def takes(name: str) -> bool:
    """Whether obstore's store of some cloud takes a configuration of this name."""
    clouds: tuple[Any, ...] = (store.S3Store, store.GCSStore, store.AzureStore)
    for cloud in clouds:
        try:
            cloud("any", config={name: ""})
        except exceptions.UnknownConfigurationKeyError:
            continue
        except FAILURES:  # it knows the name, and not this value
            pass
        return True
    return False


def _construct(spec: StoreSpec, scheme: str, given: dict[str, Any]) -> ObjectStore:
    if scheme == "file":
        if given:
            raise StoreError(f"a local folder takes no options; got {', '.join(spec.options)}", where=spec.url)
        return store.LocalStore(prefix=local_path(spec.url), automatic_cleanup=True)
    if scheme in {"http", "https"}:
        if scheme == "http":  # who types http:// means it
            given["client_options"] = {"allow_http": True, **given.get("client_options", {})}
        query = spec.options.get(QUERY)
        return store.HTTPStore(f"{spec.url}?{query}" if query else spec.url, **given)
    place = parse(spec.url, spec.options)
    if scheme == "az":
        config = {name: value for name, value in given.get("config", {}).items() if not name.endswith("account_name")}
        given["config"] = {"account_name": place.account, **config}
    return getattr(store, _CLASSES[scheme])(place.bucket, prefix=place.path or None, **given)


def first_line(error: BaseException) -> str:
    """Obstore's message without the Rust structures below it."""
    return " ".join(str(error).partition("Debug source:")[0].split())


def is_refused(error: BaseException) -> bool:
    """Whether the server said 401 or 403; of a listing, only the text tells."""
    refused = (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)
    return isinstance(error, refused) or _REFUSED.search(first_line(error)) is not None


def is_panic(error: BaseException) -> bool:
    """Whether it is a Rust panic, whose class cannot be imported."""
    return type(error).__name__ == "PanicException"


def _given(scheme: str, names: set[str]) -> bool:
    """Whether options say how to sign, or not to."""
    if scheme in _CREDENTIALS:
        return bool(names & _CREDENTIALS[scheme])
    return scheme in AZURE and any(word in name for name in names for word in _AZURE_WORDS)


def _unsigned(scheme: str, names: set[str]) -> bool:
    match scheme:
        case "s3":  # a profile that options name goes before the keys of the environment
            return not (_given(scheme, names) or ("profile" not in names and credentials.in_aws_environment()))
        case "gs":
            return not (_given(scheme, names) or credentials.in_google_environment())
    return not (_given(scheme, names) or credentials.in_azure_environment())


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
