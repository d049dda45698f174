"""obstore's own stores, made from our descriptions; the only module that imports obstore."""

import re
import sys
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from dask.sizeof import sizeof

from zarr_vectors_lazy.errors import StoreError, meant
from zarr_vectors_lazy.storage import credentials
from zarr_vectors_lazy.storage.credentials import Way
from zarr_vectors_lazy.storage.options import arguments, bare, bare_names, check_url, with_patience
from zarr_vectors_lazy.storage.retry import INSTANCE_S
from zarr_vectors_lazy.storage.spec import StoreSpec
from zarr_vectors_lazy.storage.url import AZURE, CLOUD, QUERY, local_path, parse, scheme_of, with_query, without_secrets

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
