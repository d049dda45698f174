"""Credentials: found in the environment, and chosen for each request."""

import configparser
import importlib
import json
import os
import shlex
import ssl
import subprocess
import time
from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

from zarr_vectors_lazy.errors import StoreError, listed
from zarr_vectors_lazy.storage import retry
from zarr_vectors_lazy.storage.base import Backend, Result
from zarr_vectors_lazy.storage.requests import Get, ListDir, ListSizes, Request, Size, record
from zarr_vectors_lazy.storage.spec import BUCKETS, StoreSpec, connection, scheme_of

# Credentials that were not given as options but found in environment and profile files, without the network.

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
_PROCESS_S = 60
_BOTOCORE_KNOWS = {"role_arn", "sso_session", "sso_start_url", "web_identity_token_file", "login_session"}
_PROXIES = tuple(f"{kind}_PROXY" for kind in ("HTTP", "HTTPS", "ALL", "NO"))
_PREFIXES = {
    "s3": ("AWS_",),
    "gs": ("GOOGLE_", "CLOUDSDK_", "GCS", "STORAGE_EMULATOR_HOST"),
    **dict.fromkeys(("az", "abfs", "abfss", "adl"), ("AZURE_", "IDENTITY_", "MSI_")),
    **dict.fromkeys(("http", "https"), ()),
}

ENDPOINT_OPTIONS = frozenset({"endpoint", "endpoint_url", "endpoint_url_s3"})
"""Options that say where requests go, without the vendor's prefix."""
Provider = Callable[[], dict[str, Any]]


def in_aws_environment() -> bool:
    """Whether variables name keys, or credentials of a container or a web identity, or say not to sign."""
    return _any_set(_AWS)


def in_google_environment() -> bool:
    """Whether variables, or the file of ``gcloud auth application-default login``, give credentials."""
    return _any_set(_GOOGLE) or _google_file().is_file()


def in_azure_environment() -> bool:
    """Whether variables give a key, a token, a client or a managed identity, or say not to sign.

    Connection strings are handled by `azure_connection`.
    """
    names = (name for name, value in os.environ.items() if value and name.startswith("AZURE_"))
    managed = _any_set(("IDENTITY_ENDPOINT", "MSI_ENDPOINT"))
    return managed or any(word in name for name in names for word in _AZURE_WORDS)


def azure_connection(text: str | None = None) -> dict[str, str]:
    """Return the contents of a connection string, by default AZURE_STORAGE_CONNECTION_STRING; empty without a key."""
    found = connection(os.environ.get("AZURE_STORAGE_CONNECTION_STRING", "") if text is None else text)
    found.pop("account_name", None)  # the account of the URL is stated anyway
    return found if {"account_key", "sas_key"} & set(found) else {}


def metadata_allowed(scheme: str) -> bool:
    """Whether the instance's metadata address may be asked at all."""
    disabled = {"s3": "AWS_EC2_METADATA_DISABLED", "gs": "NO_GCE_CHECK"}.get(scheme, "")
    return os.environ.get(disabled, "").lower() not in {"true", "1"}


def seen(scheme: str) -> Hashable:
    """Return what environment and profile files now say about a cloud; this changes when a key is set or renewed."""
    if scheme not in _PREFIXES:
        return None
    prefixes = (*_PREFIXES[scheme], *_PROXIES, *map(str.lower, _PROXIES))
    variables = tuple((name, value) for name, value in sorted(os.environ.items()) if name.startswith(prefixes))
    files = _profile_files() if scheme == "s3" else [_google_file()] if scheme == "gs" else []
    return variables, tuple(map(_changed_at, files))


def _changed_at(file: Path) -> tuple[int, int]:
    try:
        found = file.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


@dataclass(frozen=True)
class AwsConfig:
    """A profile of AWS's configuration files, and the variables that take precedence over it.

    Parameters
    ----------
    profile
        Its name.
    named
        Whether it was named explicitly.
    values
        The contents of the files.
    """

    profile: str
    named: bool
    values: Mapping[str, str]

    def settings(self, given: Collection[str]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Configuration and client options that obstore does not read itself: region, endpoint, certificates.

        Parameters
        ----------
        given
            Names of options, which take precedence over both.
        """
        said: dict[str, Any] = {}
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or self.values.get("region")
        if region and "region" not in given:
            said["region"] = region
        if self.endpoint and not ENDPOINT_OPTIONS & set(given):
            said["endpoint"] = self.endpoint
        client = (
            {} if not self.bundle or "root_certificate" in given else {"root_certificate": certificates(self.bundle)}
        )
        return said, client

    @property
    def bundle(self) -> str | None:
        """File of the trusted certificates."""
        return os.environ.get("AWS_CA_BUNDLE") or self.values.get("ca_bundle")

    @property
    def endpoint(self) -> str | None:
        """Where requests go, if not to AWS."""
        for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"):
            if os.environ.get(name):
                return os.environ[name]
        ignored = os.environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") or self.values.get(
            "ignore_configured_endpoint_urls"
        )
        return (
            None
            if str(ignored).lower() == "true"
            else self.values.get("s3.endpoint_url") or self.values.get("endpoint_url")
        )

    def provider(self) -> Provider | None:
        """Return the provider that obstore asks for credentials; None if the profile has none.

        Keys and processes are read here; roles, single sign-on and the rest by botocore, if it is installed. The
        instance metadata, last in botocore's chain, are left out.

        Raises
        ------
        StoreError
            If the profile does not exist, or what it names fails.
        """
        if {"aws_access_key_id", "aws_secret_access_key"} <= set(self.values):
            found = {
                "access_key_id": self.values["aws_access_key_id"],
                "secret_access_key": self.values["aws_secret_access_key"],
                "token": self.values.get("aws_session_token"),
                "expires_at": None,
            }
            return lambda: found
        if self.values.get("credential_process"):
            return partial(_of_process, self.values["credential_process"], self.profile)
        if not self.values:
            return None
        return self._of_botocore()

    def _of_botocore(self) -> Provider | None:
        try:
            exceptions = importlib.import_module("botocore.exceptions")  # optional, and slow to import
            sessions = importlib.import_module("botocore.session")
        except ImportError as error:
            if not _BOTOCORE_KNOWS & set(self.values):
                return None
            raise StoreError(
                f"AWS profile {self.profile!r} has a role or single sign-on, which needs botocore: pip install botocore"
            ) from error
        session = sessions.Session(profile=self.profile if self.named else None)
        try:
            chain = session.get_component("credential_provider")
            chain.remove("iam-role")
            found = chain.load_credentials()
        except exceptions.BotoCoreError as error:
            raise StoreError(f"AWS profile files: {error}") from error
        if found is None:
            return None

        def provide() -> dict[str, Any]:
            frozen = found.get_frozen_credentials()  # renews them when they expire
            return {
                "access_key_id": frozen.access_key,
                "secret_access_key": frozen.secret_key,
                "token": frozen.token,
                "expires_at": datetime.now(UTC) + _RENEWED_AFTER,
            }

        return provide


def aws_config(profile: str | None = None) -> AwsConfig:
    """Profile ``profile``, or that of ``AWS_PROFILE``, or the default one, which need not exist.

    Raises
    ------
    StoreError
        If a named profile does not exist, or a file cannot be parsed.
    """
    named = profile or os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE")
    name = named or "default"
    files = configparser.ConfigParser(interpolation=None, strict=False, delimiters=("=",))
    try:
        read = files.read(_profile_files())
    except (configparser.Error, UnicodeError):
        raise StoreError("an AWS profile file cannot be parsed") from None  # its text quotes the line
    values: dict[str, str] = {}
    sections = [section for section in (f"profile {name}", name) if files.has_section(section)]
    for section in sections:
        values |= dict(files[section])
    if named and not sections:
        there = [
            section.removeprefix("profile ") for section in files.sections() if not section.startswith("services ")
        ]
        raise StoreError(
            f"there is no AWS profile {name!r}; there is {listed(sorted(set(there)))} in {', '.join(read) or 'no file'}"
        )
    services = f"services {values.get('services', '')}"
    if files.has_section(services):
        for line in files[services].get("s3", "").splitlines():
            key, _, value = line.partition("=")
            values[f"s3.{key.strip()}"] = value.strip()
    elif "services" in values:
        raise StoreError(f"AWS profile {name!r} names services {values['services']!r}, which no profile file defines")
    return AwsConfig(name, bool(named), values)


def _of_process(command: str, profile: str) -> dict[str, Any]:
    """Credentials that a profile's ``credential_process`` prints.

    Raises
    ------
    StoreError
        If it fails, or prints something else.
    """
    what = f"the credential_process of the AWS profile {profile!r}"
    try:
        done = subprocess.run(shlex.split(command), capture_output=True, text=True, timeout=_PROCESS_S, check=True)
        found = json.loads(done.stdout)
        expires = found.get("Expiration") and datetime.fromisoformat(found["Expiration"])
        return {
            "access_key_id": found["AccessKeyId"],
            "secret_access_key": found["SecretAccessKey"],
            "token": found.get("SessionToken"),
            "expires_at": expires.replace(tzinfo=expires.tzinfo or UTC) if expires else None,
        }
    except subprocess.CalledProcessError as error:
        raise StoreError(f"{what} ended with {error.returncode}: {str(error.stderr).strip()[-300:]}") from None
    except subprocess.TimeoutExpired:
        raise StoreError(f"{what} did not end within {_PROCESS_S} s") from None
    except OSError as error:
        raise StoreError(f"{what} cannot be run: {error}") from None
    except (ValueError, KeyError, AttributeError, TypeError):
        raise StoreError(f"{what} did not print JSON with AccessKeyId and SecretAccessKey") from None


def certificates(file: str) -> str:
    """Text of a file of certificates; raises a StoreError that names the file if it has none."""
    try:
        text = Path(file).expanduser().read_text()
        ssl.create_default_context(cadata=text)
    except (OSError, ValueError) as error:
        raise StoreError(
            f"the certificates in {file!r}, which AWS_CA_BUNDLE, a profile's ca_bundle or verify= names, cannot be "
            f"read: {error}"
        ) from None
    return text


def _profile_files() -> list[Path]:
    paths = {"AWS_CONFIG_FILE": "~/.aws/config", "AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials"}
    return [Path(os.environ.get(name, path)).expanduser() for name, path in paths.items()]


def _google_file() -> Path:
    config = os.environ.get("CLOUDSDK_CONFIG")
    folder = Path(config) if config else Path("~/.config/gcloud").expanduser()
    return folder / "application_default_credentials.json"


def _any_set(names: tuple[str, ...]) -> bool:
    return any(os.environ.get(name) for name in names)


# The credentials of each request: decided for each request, remembered for each kind of request.
#
# Requests are unsigned if there are no credentials. A refused one is sent again with the machine's credentials (the
# instance's metadata), and if these are refused too, the first refusal is raised. After a refusal the environment is
# read again, so a key that was set or renewed meanwhile is used without opening the store again.

FORGOTTEN_S = 60.0  # after which an instance that gave no usable credentials is asked again
Verdict: TypeAlias = Literal["refused", "expired", "elsewhere", ""]


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Way:
    """A client, and how it signs.

    Parameters
    ----------
    client
        The client that sends requests.
    unsigned
        Whether requests carry no credentials, because none were found.
    seen
        What environment and profile files said when it was made.
    ambient
        Whether its credentials come from there, so that they may change.
    """

    client: Any
    unsigned: bool
    seen: Hashable = None
    ambient: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """How a request failed."""

    error: BaseException
    verdict: Verdict
    unsigned: bool


class SignedBackend(Backend):
    """A connection that decides for each request how it is signed.

    Parameters
    ----------
    spec
        Its URL and options.
    """

    _way: Way
    """The client in use."""

    def __init__(self, spec: StoreSpec) -> None:
        super().__init__(spec)
        self._scheme = scheme_of(spec.url)
        self.listable = self._scheme not in {"http", "https"}
        self.swaps = self._scheme in BUCKETS
        self._instance: Way | None = None  # signs with the machine's own credentials
        self._signed_first: set[str] = set()
        self._useless: dict[str, float] = {}
        self._doubtful: Way | None = None

    async def _send(self, way: Way, request: Request) -> Result | BaseException:
        """Send a request; return its result, or the error that it failed with."""
        raise NotImplementedError

    def _verdict(self, error: BaseException) -> Verdict:
        """What an error says about the credentials."""
        raise NotImplementedError

    async def _renewed(self, old: Way) -> Way:
        """Make a client for the environment as it is now, unless another thread has done so."""
        raise NotImplementedError

    async def _of_the_machine(self, request: Request) -> Way | None:
        """Ask the machine's metadata for credentials, briefly."""
        raise NotImplementedError

    async def _moved(self, old: Way, error: BaseException) -> Way | None:
        """Look for the bucket's region; return a client for it, if it differs from that of the failed request."""
        return None

    async def _signed(self, request: Request) -> Result:
        """Result of a request, or a StoreError that says how it was signed."""
        kind = _kind(request)
        way = self._instance if kind in self._signed_first and self._instance is not None else self._way
        if way is self._doubtful:
            way = await self._renewed(way)
        refused: Refused | None = None
        while True:
            outcome = await self._send(way, request)
            if not isinstance(outcome, BaseException):
                if way is self._instance and refused is not None:
                    self._signed_first.add(kind)
                return outcome
            verdict = self._verdict(outcome)
            if way is self._instance and verdict != "elsewhere":
                self._set_useless(kind)
                if refused is not None:
                    return self._refuse(request, refused)
                way = self._way  # the machine's credentials were accepted before
                continue
            refused = Refused(outcome, verdict, way.unsigned)
            found = await self._other(way, kind, refused, request)
            if found is None:
                return self._refuse(request, refused)
            way = found

    async def _other(self, way: Way, kind: str, refused: Refused, request: Request) -> Way | None:
        """Find another client for a failed request, or None."""
        if refused.verdict == "elsewhere":
            return await self._moved(way, refused.error)
        if not refused.verdict:
            return None
        if seen(self._scheme) != way.seen:
            return await self._renewed(way)
        if not way.unsigned:
            self._doubtful = way if way.ambient else None
            return None
        if refused.verdict == "expired" or self._is_useless(kind):
            return None
        found = await self._of_the_machine(request) if metadata_allowed(self._scheme) else None
        if found is None:
            self._set_useless(kind)
        return found

    def _refuse(self, request: Request, refused: Refused) -> None:
        """Raise the error of a request; return None for a listing that is not required."""
        if refused.verdict == "refused" and isinstance(request, ListDir) and not request.required:
            record("list", request.prefix, 0)
            return
        text = f"{refused.error} {refused.error.__cause__}".partition("Debug source:")[0]  # not Rust's structures
        hint = ""
        if refused.verdict:
            hint = retry.hint(self._scheme, self.spec.backend, text, unsigned=refused.unsigned, told=self.told_unsigned)
        self.fail(request, refused.error, hint)

    def must_list(self, prefix: str) -> None:
        """Raise a StoreError for a listing if there are none."""
        if not self.listable:
            raise StoreError("plain HTTP cannot list objects", where=f"{self.url}/{prefix}")

    def _set_useless(self, kind: str) -> None:
        self._signed_first.discard(kind)
        self._useless.setdefault(kind, time.monotonic())

    def _is_useless(self, kind: str) -> bool:
        since = self._useless.get(kind)
        if since is not None and time.monotonic() - since < FORGOTTEN_S:
            return True
        self._useless.pop(kind, None)
        return False


def _kind(request: Request) -> str:
    return (
        "read" if isinstance(request, Get | Size) else "list" if isinstance(request, ListDir | ListSizes) else "write"
    )
