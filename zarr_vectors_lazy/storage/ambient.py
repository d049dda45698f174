"""Whether this process has credentials that nobody gave as options; found without asking the network."""

import configparser
import importlib
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from zarr_vectors_lazy.errors import StoreError

_AWS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SKIP_SIGNATURE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
)
_GOOGLE = (
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_SERVICE_ACCOUNT",
    "GOOGLE_SERVICE_ACCOUNT_PATH",
    "GOOGLE_SERVICE_ACCOUNT_KEY",
    "GOOGLE_BEARER_TOKEN",
    "GOOGLE_SKIP_SIGNATURE",
)
_AZURE_WORDS = ("KEY", "TOKEN", "SAS", "CLIENT_ID", "CLIENT_SECRET", "SKIP_SIGNATURE", "USE_AZURE_CLI")
_RENEWED_AFTER = timedelta(minutes=5)

Provider = Callable[[], dict[str, Any]]


def in_aws_environment() -> bool:
    """Whether variables name keys, a container's or a web identity's credentials, or say not to sign."""
    return _any_set(_AWS)


def in_google_environment() -> bool:
    """Whether variables or the file of ``gcloud auth application-default login`` give credentials."""
    config = os.environ.get("CLOUDSDK_CONFIG")
    folder = Path(config) if config else Path("~/.config/gcloud").expanduser()
    return _any_set(_GOOGLE) or (folder / "application_default_credentials.json").is_file()


def in_azure_environment() -> bool:
    """Whether variables give a key, a token, a client or a managed identity, or say not to sign.

    A connection string is told by `azure_connection`.
    """
    names = (name for name, value in os.environ.items() if value and name.startswith("AZURE_"))
    managed = _any_set(("IDENTITY_ENDPOINT", "MSI_ENDPOINT"))
    return managed or any(word in name for name in names for word in _AZURE_WORDS)


def azure_connection() -> dict[str, str]:
    """Return what the variable AZURE_STORAGE_CONNECTION_STRING says, in obstore's names; nothing without a key."""
    return connection(os.environ.get("AZURE_STORAGE_CONNECTION_STRING", ""))


def connection(text: str) -> dict[str, str]:
    """Key or signature, and endpoint, of an Azure connection string; nothing where it has neither key nor signature."""
    said = {part.partition("=")[0].strip().lower(): part.partition("=")[2] for part in text.split(";")}
    names = {"accountkey": "account_key", "sharedaccesssignature": "sas_key", "blobendpoint": "endpoint"}
    found = {name: said[key] for key, name in names.items() if said.get(key)}
    return found if {"account_key", "sas_key"} & set(found) else {}


def metadata_allowed(scheme: str) -> bool:
    """Whether the instance's metadata address may be asked at all."""
    disabled = {"s3": "AWS_EC2_METADATA_DISABLED", "gs": "NO_GCE_CHECK"}.get(scheme, "")
    return os.environ.get(disabled, "").lower() not in {"true", "1"}


def aws_profile() -> tuple[Provider, str | None] | None:
    """Credentials from profile files: a provider, and the profile's region; None where they hold none.

    Notes
    -----
    Read by botocore where it is installed (roles, SSO, processes), else the plain keys are read here. The instance
    metadata, last in botocore's chain, is left out.
    """
    if not (os.environ.get("AWS_PROFILE") or any(path.is_file() for path in _profile_files())):
        return None  # botocore would take a third of a second to say so
    try:
        exceptions = importlib.import_module("botocore.exceptions")  # optional, and slow to import
        sessions = importlib.import_module("botocore.session")
    except ImportError:
        return _plain_profile()
    session = sessions.Session()
    try:
        chain = session.get_component("credential_provider")
        chain.remove("iam-role")
        credentials = chain.load_credentials()
        region = session.get_config_variable("region")
    except exceptions.BotoCoreError as error:
        raise StoreError(f"AWS profile files: {error}") from error
    if credentials is None:
        return None

    def provide() -> dict[str, Any]:
        frozen = credentials.get_frozen_credentials()  # renews them where they expire
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + _RENEWED_AFTER,
        }

    return provide, region


def _profile_files() -> list[Path]:
    paths = {"AWS_CONFIG_FILE": "~/.aws/config", "AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials"}
    return [Path(os.environ.get(name, path)).expanduser() for name, path in paths.items()]


def _plain_profile() -> tuple[Provider, str | None] | None:
    files = configparser.ConfigParser(interpolation=None)
    try:
        files.read(_profile_files())
    except configparser.Error:
        raise StoreError("an AWS profile file cannot be parsed") from None  # its text quotes the line
    profile = os.environ.get("AWS_PROFILE", "default")
    found: Mapping[str, str] = {}
    for section in (f"profile {profile}", profile):
        found = {**found, **(files[section] if files.has_section(section) else {})}
    if "aws_access_key_id" not in found or "aws_secret_access_key" not in found:
        return None
    credentials = {
        "access_key_id": found["aws_access_key_id"],
        "secret_access_key": found["aws_secret_access_key"],
        "token": found.get("aws_session_token"),
        "expires_at": None,
    }
    return (lambda: credentials), found.get("region")


def _any_set(names: tuple[str, ...]) -> bool:
    return any(os.environ.get(name) for name in names)
