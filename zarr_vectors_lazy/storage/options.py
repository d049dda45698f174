"""Options of a backend: an immutable mapping that hashes, pickles, has a token, and shows no secret."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, TypeAlias

from zarr_vectors_lazy.storage.carried import Carried, carried
from zarr_vectors_lazy.storage.secrets import HIDDEN, QUERY, fingerprint, shown

Value: TypeAlias = Any
_PLAIN = (str, bytes, int, float, bool, type(None), timedelta)


class Options(Mapping[str, Any]):
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
        return isinstance(other, Options) and self._items == other._items

    def __hash__(self) -> int:
        return hash(tuple(self._items))

    def __repr__(self) -> str:
        return f"Options({', '.join(f'{name}={self.shown(name)!r}' for name in self)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Options._thawed, (self._items,)

    @classmethod
    def _thawed(cls, items: dict[str, Any]) -> "Options":
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
        return {name: value.plain() if isinstance(value, Options) else value for name, value in self.items()}


def _frozen(value: object) -> Value:
    if isinstance(value, Mapping):
        return value if isinstance(value, Options) else Options(value)
    if isinstance(value, list | tuple) and type(value) in {list, tuple}:  # not named tuples, as aiohttp.BasicAuth
        return tuple(_frozen(item) for item in value)
    return value if isinstance(value, (*_PLAIN, Carried)) else carried(value)


def _token(name: str, value: object) -> Value:
    if isinstance(value, Options):
        return value.token()
    if name == QUERY:  # it may say which of several stores is meant
        return fingerprint(value)
    if isinstance(value, Carried):
        return HIDDEN
    value = shown(name, value)
    return value if isinstance(value, str) else repr(value)
