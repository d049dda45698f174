"""A small description of a store, which travels in tasks instead of an open connection."""

import os
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
from zarr_vectors_lazy.storage.url import HIDDEN, QUERY, fingerprint, shown

# The process in whose memory a store is, which other processes have copies of at best.

STAYS = (
    "a writable icechunk session stays in its process: compute under threads, dask.config.set(scheduler='threads'), or "
    "read from repo.readonly_session()"
)
LOST = (
    "the store is in the memory of another process, where nothing of it would arrive; compute under threads, "
    "dask.config.set(scheduler='threads')"
)
_names: dict[int, str] = {}


def this_process() -> str:
    """Name of this process; a forked child has another one."""
    return _names.get(os.getpid()) or _names.setdefault(os.getpid(), uuid.uuid4().hex)


def home_of(store: object) -> str:
    """Name of this process if what is written to a store object is there alone, else empty."""
    alone = isinstance(store, MemoryStore) or (is_icechunk(store) and not getattr(store, "read_only", True))
    return this_process() if alone else ""


def is_icechunk(store: object) -> bool:
    """Whether a store object is icechunk's, which need not be installed."""
    kinds = type(store).__mro__
    return any(kind.__name__ == "IcechunkStore" and kind.__module__.startswith("icechunk") for kind in kinds)


def check_leaves(value: Any) -> None:
    """Raise StoreError if an object is the store of a session that does not pickle."""
    if is_icechunk(value):
        try:
            value.__getstate__()
        except ValueError as error:  # icechunk's own says to fork, which would lose what is written
            raise StoreError(STAYS) from error


# Live objects that a description of a store carries: the same object keeps the same token in every process.

_lock = threading.RLock()  # a garbage collection inside it may run `_forget`
_tokens: dict[int, tuple[Callable[[], Any], str]] = {}  # by id: how to reach the object, and its token
_by_token: "weakref.WeakValueDictionary[str, Carried]" = weakref.WeakValueDictionary()


class Carried:
    """An object and its token; equal to its own copies in this and other processes.

    Parameters
    ----------
    value
        The object; it must pickle if the description is to reach another process.
    token
        A uuid given on first sight.
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
    """``value`` with its token, the same one whenever it is asked for."""
    with _lock:
        reach, token = _tokens.get(id(value), (_nothing, ""))
        if reach() is not value:
            token = uuid.uuid4().hex
        return _by_token.get(token) or _remember(Carried(value, token))


def _arrived(value: object, token: str) -> Carried:
    """Unpickle: the copy that this process already has, or this one."""
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
    except TypeError:  # no weak references to this class: it stays, as its id must stay its own
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
    """Options in the backend's own names; nested mappings are options too.

    Parameters
    ----------
    values
        Anything picklable; what is neither plain data nor a container of such (a credential provider, a session) is
        carried as an object that stays itself through pickles.
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
        """Return what tells these options from others, the same in every process, without secrets.

        Who asks does not change what is stored: secrets are left out, not hashed.
        """
        return tuple((name, _token(name, value)) for name, value in self._items.items())

    def plain(self) -> dict[str, Any]:
        """Return the options as a dictionary of dictionaries, for the backend's constructor."""
        return {name: value.plain() if isinstance(value, StorageOptions) else value for name, value in self.items()}


def _frozen(value: object) -> Value:
    if isinstance(value, Mapping):
        return value if isinstance(value, StorageOptions) else StorageOptions(value)
    if isinstance(value, list | tuple) and type(value) in {list, tuple}:  # not named tuples, as aiohttp.BasicAuth
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
    """Where a store is and how it is reached: frozen, hashable, picklable, without secrets in repr and token.

    Parameters
    ----------
    backend
        What reads it.
    url
        Canonical text: an absolute path for ``"local"``, else a URL without secrets and trailing slash.
    options
        In the backend's own names.
    carried
        The user's store object, for backend ``"zarr"`` alone.
    read_only
        Whether it was given as a store object that is read-only.
    home
        Process that alone has what is written there, as it is in memory; empty: all have.
    """

    backend: BackendName
    url: str
    options: StorageOptions = field(default_factory=StorageOptions)
    carried: Carried | None = None
    read_only: bool = False
    home: str = ""

    @classmethod
    def of_instance(cls, store: Store) -> "StoreSpec":
        """Describe a store object by itself."""
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
