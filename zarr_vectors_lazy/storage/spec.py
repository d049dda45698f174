"""Where a store is: a small description of its URL, options and objects, which shows no secret."""

import hashlib
import os
import re
import threading
import uuid
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal, TypeAlias

from zarr.abc.store import Store
from zarr.storage import MemoryStore

from zarr_vectors_lazy.errors import StoreError

# What may be shown of options and URLs: secrets never reach a repr, a token, an error or a log.

HIDDEN = "***"
QUERY = "url_query"
"""Option that holds the query of an ``http(s)://`` URL."""

# Chosen so that a new option of a backend is more likely to be hidden than shown.
_SECRET = re.compile(
    r"key|secret|token|passw|pwd|credential|sas|auth|header|cookie|private|cert|account_json|signature|user|session"
    r"|passphrase|proxy|query"
)
_SIGNED = re.compile(r"(?i)((?:x-amz-|x-goog-|\b)(?:signature|credential|security-token|sig|se|sv)=)[^&\s\"']+")
_HARMLESS = frozenset(
    {"skip_signature", "aws_skip_signature", "google_skip_signature", "azure_skip_signature", "proxy_excludes"}
)
_HARMLESS_PARTS = ("accountname", "blobendpoint", "endpointsuffix", "defaultendpointsprotocol", "usedevelopmentstorage")


def is_secret(name: str) -> bool:
    """Whether the value of option ``name`` could be a secret."""
    name = name.lower()
    return name not in _HARMLESS and _SECRET.search(name) is not None


def shown(name: str, value: object) -> object:
    """``value`` of option ``name`` without its secrets."""
    if name.lower() == "connection_string" and isinstance(value, str):
        parts = (part for part in value.split(";") if part.partition("=")[0].strip().lower() in _HARMLESS_PARTS)
        return ";".join([*parts, HIDDEN])
    if is_secret(name):
        return HIDDEN
    if isinstance(value, Mapping):
        return {key: shown(str(key), item) for key, item in value.items()}
    return clean_url(value) if isinstance(value, str) and "://" in value else value


def clean_url(url: str) -> str:
    """``url`` without user, password, query and fragment, for display only."""
    scheme, separator, rest = url.partition("://") if "://" in url else ("", "", url)
    rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    authority, slash, path = rest.partition("/")
    # abfs://container@account.dfs...: what comes before the @ is a container, not a user.
    if separator and not scheme.lower().startswith("abfs"):
        authority = authority.rpartition("@")[2]
    return f"{scheme}{separator}{authority}{slash}{path}"


def fingerprint(value: object) -> str:
    """Return a digest that distinguishes secrets without revealing them."""
    return hashlib.sha256(str(value).encode()).hexdigest()[:16]


def without_secrets(text: str, options: Mapping[str, Any]) -> str:
    """``text`` of a foreign error, with every secret value of ``options`` removed."""
    if options.get(QUERY):
        text = re.sub(r"(https?://[^\s?'\"]+)\?[^\s'\")]*", rf"\1?{HIDDEN}", text)
    for name, value in options.items():
        if isinstance(value, Mapping):
            text = without_secrets(text, value)
        elif isinstance(value, str) and len(value) > 3 and is_secret(name):
            text = text.replace(value, HIDDEN)
    return _SIGNED.sub(r"\1***", text)


# URLs taken apart, and put into the canonical form by which a store is known.
#
# There is one grammar, ``scheme://authority/key``, and nothing is cut off. ``%``, ``?``, ``#`` and spaces are part of
# the key; only ``http(s)://`` has URL escapes and a query, and Azure a query that holds a signature.

AZURE = frozenset({"az", "azure", "abfs", "abfss", "adl"})
BUCKETS = frozenset({"s3", "s3a", "gs", "gcs"}) | AZURE
CLOUD = BUCKETS | {"http", "https"}
_KNOWN = CLOUD | {"file", "ftp", "hdfs", "memory", "sftp", "ssh"}
_ACCOUNT_OPTIONS = ("account_name", "azure_storage_account_name")
_ACCOUNT_VARIABLES = ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT")
_SIGNATURE = re.compile(r"[?&](x-amz-|x-goog-|signature=|sig=|awsaccesskeyid=|googleaccessid=)", re.IGNORECASE)
_ONE_SLASH = re.compile(r"([a-z][a-z0-9+.-]*):/(?!/)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Location:
    """A URL's parts: ``scheme://bucket/path``, for Azure also the account."""

    scheme: str
    bucket: str
    path: str
    account: str = ""
    query: str = ""
    """Sent with each request and never shown."""

    @property
    def url(self) -> str:
        """Canonical text, without secrets or trailing slash."""
        parts = [part for part in (self.account, self.bucket, self.path) if part]
        return f"{self.scheme}://{'/'.join(parts)}"


def scheme_of(path: str) -> str:
    """Scheme of a URL, ``""`` for a path."""
    scheme, separator, _ = path.partition("://")
    return scheme.lower() if separator and scheme and "/" not in scheme and "\\" not in scheme else ""


def check_slashes(path: str) -> None:
    """Raise StoreError for a URL that lacks a slash, which would otherwise be a folder called ``s3:``."""
    found = _ONE_SLASH.match(path)
    if found and found[1].lower() in _KNOWN:
        slashes = "///" if found[1].lower() == "file" else "//"
        raise StoreError(f"{clean_url(path)!r} has one slash after its scheme; expected {found[1]}:{slashes}...")


def local_path(path: str) -> str:
    """Absolute path of a bare path, in which ``~`` is home, or of a ``file://`` URL, which is taken literally."""
    if scheme_of(path) != "file":
        return os.path.abspath(os.path.expanduser(path))  # not resolve(): links stay as they are named
    host, _, _ = (rest := path[len("file://") :]).partition("/")
    if host not in {"", "localhost"} or not rest.startswith(f"{host}/"):
        raise StoreError(f"a file URL begins with file:///, without a host such as {host!r}")
    path = rest[len(host) :]
    return os.path.abspath(path[1:] if re.match(r"/[A-Za-z]:", path) and os.name == "nt" else path)


def overlap(url: str, other: str) -> bool:
    """Whether two places are the same, or one lies inside the other; links on disk are followed."""
    one, two = (_followed(text) + "/" for text in (url, other))
    return one.startswith(two) or two.startswith(one)


def _followed(url: str) -> str:
    return os.path.realpath(local_path(url)) if scheme_of(url) in {"", "file"} else url


def parse(url: str, options: Mapping[str, Any]) -> Location:
    """Parts of a cloud URL; the account of an Azure URL from the options, the environment or the URL.

    Raises
    ------
    StoreError
        For a URL without bucket, container or host, or with secrets that belong in options.
    """
    scheme, _, rest = url.partition("://")
    scheme = {"s3a": "s3", "gcs": "gs"}.get(scheme.lower(), scheme.lower())
    if scheme in {"http", "https"}:
        return _parse_http(url, scheme, rest)
    if scheme in AZURE:
        return _parse_azure(url, scheme, rest, options)
    bucket, _, path = rest.partition("/")
    if not bucket:
        raise StoreError(f"no bucket in {clean_url(url)!r}; expected {scheme}://bucket/path")
    if "@" in bucket or ":" in bucket or _SIGNATURE.search(url):
        raise StoreError(
            f"a {scheme}:// URL cannot have a user or a signature; pass options, or a URL that is signed "
            "for a whole folder as https://...?...",
            where=clean_url(url),
        )
    return Location(scheme, bucket, path.strip("/"))


def with_query(place: Location, options: Mapping[str, Any], signature: str) -> dict[str, Any]:
    """Options together with the query of a URL: Azure's signature as the backend's option, any other as `QUERY`."""
    if not place.query:
        return dict(options)
    return {QUERY if place.scheme in {"http", "https"} else signature: place.query, **options}


def _parse_http(url: str, scheme: str, rest: str) -> Location:
    address, _, query = rest.partition("?")
    host, _, path = address.partition("/")
    if not host:
        raise StoreError(f"no host in {clean_url(url)!r}; expected {scheme}://host/path")
    if "#" in rest or "@" in host:
        raise StoreError(
            "a store is many objects, so its URL cannot have a user or a fragment ('#' in a name is %23); give "
            "credentials as options (default_headers, sas_key, ...)",
            where=clean_url(url),
        )
    return Location(scheme, host, path.strip("/"), query=query)


def _parse_azure(url: str, scheme: str, rest: str, options: Mapping[str, Any]) -> Location:
    address, _, query = rest.partition("?")
    if "sig=" not in query:
        address, query = rest, ""
    segment, _, path = address.partition("/")
    container, at, host = segment.rpartition("@")
    if "\\" in path:
        raise StoreError(f"Azure reads the \\ in {clean_url(url)!r} as a /; write the one that you mean")
    if ":" in segment or (at and scheme in {"az", "azure"}):
        raise StoreError(f"an {scheme}:// URL cannot have a user; give credentials as options", where=clean_url(url))
    path = path.strip("/")
    if at:
        return Location("az", container, path, host.partition(".")[0], query)
    known = _given_account(options)
    first, _, below = path.partition("/")
    if scheme in {"az", "azure"} and (segment == known if known else first):
        account, container, path = segment, first, below
    else:
        account, container = known, segment
    if not container:
        raise StoreError(f"no container in {clean_url(url)!r}; expected az://account/container/path")
    return Location("az" if account else "abfs", container, path, account, query)


_CONNECTION = {
    "accountname": "account_name",
    "accountkey": "account_key",
    "sharedaccesssignature": "sas_key",
    "blobendpoint": "endpoint",
}


def connection(text: object) -> dict[str, str]:
    """The contents of an Azure connection string, by obstore's names."""
    parts = {part.partition("=")[0].strip().lower(): part.partition("=")[2] for part in str(text).split(";")}
    return {_CONNECTION[name]: value for name, value in parts.items() if name in _CONNECTION and value}


def _given_account(options: Mapping[str, Any]) -> str:
    for name in _ACCOUNT_OPTIONS:
        if options.get(name):
            return str(options[name])
    said = connection(options.get("connection_string") or os.environ.get("AZURE_STORAGE_CONNECTION_STRING", ""))
    if "account_name" in said:
        return said["account_name"]
    if options.get("use_emulator") or options.get("azure_storage_use_emulator"):
        return "devstoreaccount1"
    return next((os.environ[name] for name in _ACCOUNT_VARIABLES if os.environ.get(name)), "")


# The process in whose memory a store is; others have copies at best.

STAYS = (
    "a writable icechunk session cannot leave its process: compute with threads, dask.config.set(scheduler='threads'), "
    "or read from repo.readonly_session()"
)
LOST = (
    "the store is in the memory of another process, where nothing would arrive; compute with threads, "
    "dask.config.set(scheduler='threads')"
)
_names: dict[int, str] = {}


def this_process() -> str:
    """Name of this process; a forked child has a different one."""
    return _names.get(os.getpid()) or _names.setdefault(os.getpid(), uuid.uuid4().hex)


def home_of(store: object) -> str:
    """Name of this process if what is written to a store object exists only here, otherwise empty."""
    alone = isinstance(store, MemoryStore) or (is_icechunk(store) and not getattr(store, "read_only", True))
    return this_process() if alone else ""


def is_icechunk(store: object) -> bool:
    """Whether a store object is icechunk's, which need not be installed."""
    kinds = type(store).__mro__
    return any(kind.__name__ == "IcechunkStore" and kind.__module__.startswith("icechunk") for kind in kinds)


def check_leaves(value: Any) -> None:
    """Raise StoreError if an object is the store of a session that cannot be pickled."""
    if is_icechunk(value):
        try:
            value.__getstate__()
        except ValueError as error:  # icechunk's own message says to fork, which would lose what is written
            raise StoreError(STAYS) from error


# Live objects that the description of a store carries: the same object has the same token in every process.

_lock = threading.RLock()  # a garbage collection inside it may run `_forget`
_tokens: dict[int, tuple[Callable[[], Any], str]] = {}  # by id: a reference to the object, and its token
_by_token: "weakref.WeakValueDictionary[str, Carried]" = weakref.WeakValueDictionary()


class Carried:
    """An object and its token; equal to its copies in this and other processes.

    Parameters
    ----------
    value
        The object; it must pickle if the description is to reach another process.
    token
        A uuid, given when the object is first seen.
    """

    __slots__ = ("__weakref__", "memo", "token", "value")

    def __init__(self, value: object, token: str) -> None:
        self.value: Any = value
        self.token = token
        self.memo: dict[str, Any] = {}  # what this process keeps with it; not pickled

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Carried) and self.token == other.token

    def __hash__(self) -> int:
        return hash(self.token)

    def __repr__(self) -> str:
        return f"<{type(self.value).__name__}>"

    def __reduce__(self) -> tuple[Any, ...]:
        check_leaves(self.value)
        return _arrived, (self.value, self.token)


def carried(value: object) -> Carried:
    """``value`` with its token, which is always the same."""
    with _lock:
        reach, token = _tokens.get(id(value), (_nothing, ""))
        if reach() is not value:
            token = uuid.uuid4().hex
        return _by_token.get(token) or _remember(Carried(value, token))


def _arrived(value: object, token: str) -> Carried:
    """Unpickle: return the copy that this process already has, or this one."""
    with _lock:
        return _by_token.get(token) or _remember(Carried(value, token))


def _remember(item: Carried) -> Carried:
    key = id(item.value)
    _tokens[key] = (_reach(item.value, key), item.token)
    _by_token[item.token] = item
    return item


def _reach(value: object, key: int) -> Callable[[], Any]:
    try:
        return weakref.ref(value, lambda gone: _forget(key, gone))
    except TypeError:  # no weak references to this class: it stays, because its id must stay its own
        return lambda: value


def _forget(key: int, gone: Callable[[], Any]) -> None:
    with _lock:
        if _tokens.get(key, (_nothing, ""))[0] is gone:
            del _tokens[key]


def _nothing() -> None:
    return None


# Options of a backend: an immutable mapping that hashes, pickles, has a token, and shows no secret.

Value: TypeAlias = Any
_PLAIN = (str, bytes, int, float, bool, type(None), timedelta)


class StorageOptions(Mapping[str, Any]):
    """Options by the backend's own names; nested mappings are options too.

    Parameters
    ----------
    values
        Anything picklable; what is neither plain data nor a container of plain data (a credential provider, a session)
        is carried as an object that keeps its identity when pickled.
    """

    __slots__ = ("_items",)

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        self._items: dict[str, Any] = {str(key): _frozen(value) for key, value in sorted((values or {}).items())}

    def __getitem__(self, name: str) -> Value:
        value = self._items[name]
        return value.value if isinstance(value, Carried) else value

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StorageOptions) and self._items == other._items

    def __hash__(self) -> int:
        return hash(tuple(self._items))

    def __repr__(self) -> str:
        return f"Options({', '.join(f'{name}={self.shown(name)!r}' for name in self)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return StorageOptions._thawed, (self._items,)

    @classmethod
    def _thawed(cls, items: dict[str, Any]) -> "StorageOptions":
        options = cls()
        options._items = items
        return options

    def shown(self, name: str) -> Value:
        """Value of option ``name`` without secrets."""
        return shown(name, self[name])

    def token(self) -> tuple[tuple[str, Any], ...]:
        """Return what distinguishes these options from others, the same in every process, without secrets.

        Credentials do not change what is stored, so secrets are left out, not hashed.
        """
        return tuple((name, _token(name, value)) for name, value in self._items.items())

    def plain(self) -> dict[str, Any]:
        """Return the options as a dictionary of dictionaries, for the backend's constructor."""
        return {name: value.plain() if isinstance(value, StorageOptions) else value for name, value in self.items()}


def _frozen(value: object) -> Value:
    if isinstance(value, Mapping):
        return value if isinstance(value, StorageOptions) else StorageOptions(value)
    if isinstance(value, list | tuple) and type(value) in {list, tuple}:  # not a named tuple (aiohttp.BasicAuth)
        return tuple(_frozen(item) for item in value)
    return value if isinstance(value, (*_PLAIN, Carried)) else carried(value)


def _token(name: str, value: object) -> Value:
    if isinstance(value, StorageOptions):
        return value.token()
    if name == QUERY:  # it may say which of several stores is meant
        return fingerprint(value)
    if isinstance(value, Carried):
        return HIDDEN
    value = shown(name, value)
    return value if isinstance(value, str) else repr(value)


# A small description of a store, which travels in tasks instead of an open connection.

BackendName: TypeAlias = Literal["local", "obstore", "fsspec", "zarr"]


@dataclass(frozen=True, slots=True, repr=False)
class StoreSpec:
    """Where a store is and how to reach it: frozen, hashable, picklable, without secrets in repr and token.

    Parameters
    ----------
    backend
        What reads it.
    url
        Canonical text: an absolute path for ``"local"``, otherwise a URL without secrets or trailing slash.
    options
        Options by the backend's own names.
    carried
        The user's store object, for backend ``"zarr"`` alone.
    read_only
        Whether it was given as a read-only store object.
    home
        The only process that sees what is written, if it is in memory; empty if all processes do.
    """

    backend: BackendName
    url: str
    options: StorageOptions = field(default_factory=StorageOptions)
    carried: Carried | None = None
    read_only: bool = False
    home: str = ""

    @classmethod
    def of_instance(cls, store: Store) -> "StoreSpec":
        """Describe a store object on its own."""
        item = carried(store)
        return cls("zarr", f"{type(store).__name__.lower()}://{item.token[:8]}", carried=item, home=home_of(store))

    @property
    def instance(self) -> Store | None:
        """The user's store object, for backend ``"zarr"`` alone."""
        return None if self.carried is None else self.carried.value

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        token = "" if self.carried is None else self.carried.token
        return ("zarr_vectors_lazy.StoreSpec", self.backend, self.url, self.options.token(), token)

    def __repr__(self) -> str:
        options = "".join(f", {name}={self.options.shown(name)!r}" for name in self.options)
        return f"StoreSpec({self.backend}, {self.url!r}{options})"
