"""Live objects that a description of a store carries: the same object keeps the same token in every process."""

import threading
import uuid
import weakref
from collections.abc import Callable
from typing import Any

from zarr_vectors_lazy.storage.home import check_leaves

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
