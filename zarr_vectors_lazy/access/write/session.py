"""A write from its first put to its last: no reader sees a half-written store, and of two at once one gives up.

The root says which write has the place. What a write puts besides replaces nothing, where the backend has such a put.
So whoever comes late, to a place that another write has taken, meets what that has put and reads in the root that it
has lost. The other meets what came late before it had put the same itself, and replaces it.
"""

import json
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from zarr_vectors_lazy.access import fresh
from zarr_vectors_lazy.access.metadata import DOC
from zarr_vectors_lazy.errors import FormatError, SelectionError, StoreError, UnsupportedVersionError, listed
from zarr_vectors_lazy.format.base import Found
from zarr_vectors_lazy.format.registry import generation_of
from zarr_vectors_lazy.format.writing import CURRENT
from zarr_vectors_lazy.requests import Get, ListDir, Put
from zarr_vectors_lazy.storage.base import Backend
from zarr_vectors_lazy.storage.connect import connect
from zarr_vectors_lazy.storage.fetch import delete_below, fetch
from zarr_vectors_lazy.storage.location import overlap
from zarr_vectors_lazy.storage.spec import StoreSpec
from zarr_vectors_lazy.types import Buffer

Mode: TypeAlias = Literal["w-", "w"]
MODES = ("w-", "w")
UNFINISHED = "an unfinished write"
_PART = re.compile(r"\.zarr\.json\.[0-9a-f]{16}|zarr\.json#[0-9]+")  # of a first put that was killed


@dataclass(frozen=True, slots=True)
class WriteSession:
    """A write that has begun: the root says "writing" until `commit`.

    Parameters
    ----------
    spec
        The store.
    marker
        The root's bytes meanwhile, not those of any other write.
    start
        Another for each time that the write began with nothing of its own there; empty where it goes on.
    """

    spec: StoreSpec
    marker: bytes
    start: str = field(default="", compare=False)

    def check_start(self, starts: Iterable[str]) -> None:
        """Raise StoreError if what was put since some ``starts`` was deleted again.

        A task that is run again after the end of the write, as its worker was lost, finds a store to be replaced: its
        own.
        """
        if self.start and any(start != self.start for start in starts):
            raise StoreError("a lost task began this write anew after its end; write again", where=self.spec.url)

    def put(self, puts: Sequence[Put]) -> None:
        """Put objects of the write, concurrently, none in place of another write's; again, if it has put them already.

        Raises
        ------
        StoreError
            If another write has taken the place, or a put fails.
        """
        backend = connect(self.spec)
        if not backend.creates:
            self.check()
            fetch(backend, puts)
            return
        # The look costs no time here; whoever meets nothing hears of the other by it.
        root, *made = fetch(
            backend, [Get(DOC), *(Put(put.key, put.data, create=True, unread=True, array=put.array) for put in puts)]
        )
        self._check_is(root)
        met = [put for put, new in zip(puts, made, strict=True) if not new]
        if met:  # a task that ran twice, or was killed in a put, or another write
            there = fetch(backend, [Get(put.key) for put in met])
            self.check()
            fetch(backend, [put for put, old in zip(met, there, strict=True) if old is None or bytes(old) != put.data])

    def check(self) -> None:
        """Raise StoreError if another write has taken the place."""
        (now,) = fetch(connect(self.spec), [Get(DOC)])
        self._check_is(now)

    def _check_is(self, now: Buffer | None) -> None:
        if now is None or bytes(now) != self.marker:
            raise _lost(self.spec.url)

    def commit(self, root: Put) -> None:
        """Put the real root, the last put of a write.

        Raises
        ------
        StoreError
            If another write has taken the place, or the put fails.
        """
        _swap(connect(self.spec), root, self.marker)
        fresh.replaced()


def check_mode(mode: object) -> None:
    """Raise SelectionError if ``mode`` is none of ``"w-"`` and ``"w"``."""
    if mode not in MODES:
        raise SelectionError(f"mode must be 'w-' (refuse what is there) or 'w' (replace a store), found {mode!r}")


def new_write_id() -> str:
    """What tells one write from every other."""
    return secrets.token_hex(8)


def check_place(spec: StoreSpec, mode: Mode) -> None:
    """Raise StoreError where `begin_write` would, without a put."""
    backend = connect(spec)
    root, names = fetch(backend, [Get(DOC), ListDir("", required=False)])
    if root is None:
        _refuse_others(backend, names or ())
    else:
        _check_replaced(backend, bytes(root), names or (), mode)


def check_apart(source: StoreSpec, target: StoreSpec) -> None:
    """Raise SelectionError if a store would be written over the one that it is made from, or into it."""
    if overlap(source.url, target.url):
        raise SelectionError(
            f"a store is written from another place: {source.url} and {target.url} are one place, or one lies in the "
            "other"
        )


def _check_replaced(backend: Backend, root: bytes, names: tuple[str, ...], mode: Mode) -> None:
    if not root:  # of a first put that was cut off, where files appear before their bytes
        _refuse_others(backend, names)
    what = _describe(root, backend.url)
    if mode == "w-":
        raise StoreError(f"{what} is here already; mode='w' replaces it", where=backend.url)


def begin_write(spec: StoreSpec, mode: Mode, write_id: str = "") -> WriteSession:
    """Put a root that says "writing", and delete the store that was there (``mode="w"``).

    With a ``write_id`` (`new_write_id`) a write that has begun already goes on: a task may run twice.

    Raises
    ------
    StoreError
        If something is there that may not be replaced: a store (``"w-"``), or what is no Zarr Vectors store (both).
    """
    backend = connect(spec)
    write_id = write_id or new_write_id()
    marker = CURRENT.marker(write_id)
    session = WriteSession(spec, bytes(marker.data))
    root, names = fetch(backend, [Get(DOC), ListDir("", required=False)])
    if root is None:
        _refuse_others(backend, names or ())
        (made,) = fetch(backend, [Put(DOC, marker.data, create=True)])
        if not made:
            _check_won(backend, session)
            return session
        return replace(session, start=new_write_id())
    if bytes(root) == session.marker:
        return session
    clearing = CURRENT.marker(write_id, clearing=True)  # a second run must know whether all was deleted
    if bytes(root) != clearing.data:
        _check_replaced(backend, bytes(root), names or (), mode)
        _swap(backend, clearing, bytes(root))
    fresh.replaced()
    delete_below(backend, keep={DOC}, before_each=WriteSession(spec, bytes(clearing.data)).check)
    _swap(backend, marker, bytes(clearing.data))
    return replace(session, start=new_write_id())


def _swap(backend: Backend, new: Put, old: bytes) -> None:
    """Put a root in place of another; raise StoreError if that is gone, as far as the backend can tell."""
    if backend.swaps:
        (done,) = fetch(backend, [replace(new, match=old)])
        if not done:
            raise _lost(backend.url)
    else:
        (now,) = fetch(backend, [Get(DOC)])
        if now is None or bytes(now) not in (old, new.data):
            raise _lost(backend.url)
        fetch(backend, [new])


def _lost(url: str) -> StoreError:
    return StoreError("another write took this place meanwhile; this one is given up", where=url)


def _refuse_others(backend: Backend, names: tuple[str, ...]) -> None:
    # A root that was not there a moment ago is another write's: the create-only put will meet it.
    others = [name for name in names if name != DOC and not _PART.fullmatch(name)]
    if others:
        raise StoreError(
            f"something that is no Zarr Vectors store is here, which is never replaced: {listed(others)}",
            where=backend.url,
        )


def _check_won(backend: Backend, session: WriteSession) -> None:
    # A put that was repeated after a lost answer finds its own object.
    (now,) = fetch(backend, [Get(DOC)])
    if now is None or bytes(now) != session.marker:
        raise StoreError("another write began here at the same time; this one is given up", where=backend.url)


def _describe(raw: bytes, url: str) -> str:
    """What a root is that may be replaced; raises StoreError if it may not."""
    if not raw:
        return UNFINISHED
    try:
        doc = json.loads(raw)
    except ValueError as error:
        raise StoreError(f"a {DOC} that is no JSON is here, which is never replaced", where=url) from error
    root = Found("", doc if isinstance(doc, dict) else {}, "")
    if root.unfinished:
        return UNFINISHED
    try:
        generation_of(root, where=url)
    except UnsupportedVersionError:
        return "a Zarr Vectors store of another version"
    except FormatError as error:
        raise StoreError(
            f"something that is no Zarr Vectors store is here, which is never replaced: {error.message}", where=url
        ) from error
    return "a Zarr Vectors store"
