"""A write from its first put to its last: no reader sees a half-written store."""

import json
import re
import secrets
from dataclasses import dataclass
from typing import Literal, TypeAlias

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

Mode: TypeAlias = Literal["w-", "w"]
MODES = ("w-", "w")
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
    """

    spec: StoreSpec
    marker: bytes

    def commit(self, root: Put) -> None:
        """Put the real root, the last put of a write.

        Raises
        ------
        StoreError
            If somebody else has begun to write here meanwhile, or the put fails.
        """
        backend = connect(self.spec)
        (now,) = fetch(backend, [Get(DOC)])
        if now is None or bytes(now) != self.marker:
            raise StoreError("another write took this place meanwhile; this one is given up", where=self.spec.url)
        fetch(backend, [root])


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
        _check_replaced(bytes(root), mode, spec.url)


def check_apart(source: StoreSpec, target: StoreSpec) -> None:
    """Raise SelectionError if a store would be written over the one that it is made from, or into it."""
    if overlap(source.url, target.url):
        raise SelectionError(
            f"a store is written from another place: {source.url} and {target.url} are one place, or one lies in the "
            "other"
        )


def _check_replaced(root: bytes, mode: Mode, url: str) -> None:
    what = _describe(root, url)
    if mode == "w-":
        raise StoreError(f"{what} is here already; mode='w' replaces it", where=url)


def begin_write(spec: StoreSpec, mode: Mode, write_id: str = "") -> WriteSession:
    """Put a root that says "writing", and delete the store that was there (``mode="w"``).

    With a ``write_id`` (`new_write_id`) a write that has begun already goes on: a task may run twice.

    Raises
    ------
    StoreError
        If something is there that may not be replaced: a store (``"w-"``), or what is no Zarr Vectors store (both).
    """
    backend = connect(spec)
    marker = CURRENT.marker(write_id or new_write_id())
    session = WriteSession(spec, bytes(marker.data))
    root, names = fetch(backend, [Get(DOC), ListDir("", required=False)])
    if root is None:
        _refuse_others(backend, names or ())
        (made,) = fetch(backend, [Put(DOC, marker.data, create=True)])
        if not made:
            _check_won(backend, session)
        return session
    if bytes(root) == session.marker:
        return session
    _check_replaced(bytes(root), mode, spec.url)
    fetch(backend, [marker])
    delete_below(backend, keep={DOC})
    return session


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
    try:
        doc = json.loads(raw)
    except ValueError as error:
        raise StoreError(f"a {DOC} that is no JSON is here, which is never replaced", where=url) from error
    root = Found("", doc if isinstance(doc, dict) else {}, "")
    if root.unfinished:
        return "an unfinished write"
    try:
        generation_of(root, where=url)
    except UnsupportedVersionError:
        return "a Zarr Vectors store of another version"
    except FormatError as error:
        raise StoreError(
            f"something that is no Zarr Vectors store is here, which is never replaced: {error.message}", where=url
        ) from error
    return "a Zarr Vectors store"
