"""Whether a level still is what it was opened as: a store may be replaced while a level of it is held.

The node of a level that is written here tells its content, a digest of all that was written of it. Whoever reads the
level asks for the node again with the first requests after a pause: once a computation, at the cost of no round trip.
What is in use without a pause is asked for each `LONGEST`, and a file as soon as it is another. Levels of others tell
nothing, and cost nothing.
"""

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, TypeVar

from zarr_vectors_lazy.access.level import Source
from zarr_vectors_lazy.access.metadata import DOC
from zarr_vectors_lazy.access.talk import converse
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.base import Found
from zarr_vectors_lazy.format.nodes import parse_json
from zarr_vectors_lazy.model.levels import content_of
from zarr_vectors_lazy.requests import Get, Steps
from zarr_vectors_lazy.storage.connect import connect

T = TypeVar("T")
PAUSE = 2.0  # seconds without a read, after which another computation may have begun
LONGEST = 60.0  # seconds
KEPT = 4096  # levels

_lock = threading.Lock()
_seen: OrderedDict[Any, tuple[float, float, Hashable]] = OrderedDict()  # when each was looked at, and read; its stamp


def opened(sources: Iterable[Source]) -> None:
    """Note that the nodes of levels were read just now."""
    now = time.monotonic()
    stamped = [(source, _stamp(source)) for source in sources]
    with _lock:
        for source, stamp in stamped:
            _note(source, now, now, stamp)


def replaced() -> None:
    """Look at every level again before more of it is read: this process has changed a store."""
    with _lock:
        _seen.clear()


def read_level(source: Source, steps: Sequence[Steps[T]]) -> list[T]:
    """Run conversations about what a level stores, see `converse`; where it is due, one about its node with them.

    Raises
    ------
    FormatError
        If the level is another than was opened.
    StoreError
        If a request fails.
    """
    backend = connect(source.spec)
    if not source.content:
        return converse(backend, steps)
    look = [_look(source)] if _is_due(source) else []
    try:
        found: list[Any] = converse(backend, [*look, *steps])
    except BaseException:
        if look:
            with _lock:
                _seen.pop(_key(source), None)
        raise
    with _lock:
        if (key := _key(source)) in _seen:
            looked, _, stamp = _seen[key]
            _note(source, looked, time.monotonic(), stamp)
    return found[len(look) :]


def _is_due(source: Source) -> bool:
    """Whether the node is to be read; whoever is told so does it, and others need not."""
    now, stamp = time.monotonic(), _stamp(source)
    with _lock:
        looked, read, before = _seen.get(_key(source), (-math.inf, -math.inf, None))
        due = now - read > PAUSE or now - looked > LONGEST or stamp != before
        _note(source, now if due else looked, now, stamp)
    return due


def _stamp(source: Source) -> Hashable:
    return connect(source.spec).stamp(_node(source))


def _node(source: Source) -> str:
    return f"{source.level}/{DOC}"


def _note(source: Source, looked: float, read: float, stamp: Hashable) -> None:
    _seen[_key(source)] = looked, read, stamp
    _seen.move_to_end(_key(source))
    if len(_seen) > KEPT:
        _seen.popitem(last=False)


def _key(source: Source) -> Any:
    carried = source.spec.carried  # an object of the user, which is not to be kept here
    return source.spec if carried is None else carried.token, source.level, source.content


def _look(source: Source) -> Steps[Any]:
    (raw,) = yield [Get(_node(source))]
    where = f"{source.spec.url}/{source.level}"
    if raw is None:
        text = "the level is gone since it was opened, or is being replaced: open the store again"
        raise FormatError(text, where=where)
    if content_of(Found("", parse_json(bytes(raw), where), "").attributes) != source.content:
        raise FormatError(
            "the level was replaced since it was opened, and has other data now: open the store again (if that does "
            "not help, consolidated metadata are older than the level: zvl.consolidate)",
            where=where,
        )
