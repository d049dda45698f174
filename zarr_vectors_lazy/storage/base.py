"""The interface of a backend, and checks of its answers."""

import gzip
import io
import re
import zlib
from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from typing import Any, NoReturn, TypeAlias

from zarr_vectors_lazy.errors import StoreError
from zarr_vectors_lazy.settings import nbytes_setting
from zarr_vectors_lazy.storage.requests import Delete, Get, ListDir, ListSizes, Put, Request, Size
from zarr_vectors_lazy.storage.retry import reason, travelling
from zarr_vectors_lazy.storage.spec import LOST, StoreSpec, this_process, without_secrets
from zarr_vectors_lazy.types import Buffer

Result: TypeAlias = Any
"""Buffer or None (Get), names or None (ListDir), sizes (ListSizes), size or None (Size), whether it was put (Put)."""


_METHODS = {Get: "_get", ListDir: "_names", ListSizes: "_sizes", Size: "_size", Put: "_put", Delete: "_delete"}


class Backend(ABC):
    """An open connection to one store, kept for the life of the process.

    Parameters
    ----------
    spec
        The description from which it was opened.
    """

    listable: bool = True
    """Whether the store can list at all (plain HTTP cannot)."""
    deletes: bool = True
    """Whether objects can be deleted."""
    creates: bool = False
    """Whether a create-only put is exact among all processes, in one request."""
    swaps: bool = False
    """Whether a put can depend on what is there (`Put.match`)."""
    deletes_at_once: int = 1
    """How many keys of one `Delete` cost one request."""

    def __init__(self, spec: StoreSpec) -> None:
        self.spec = spec
        self.opened: dict[str, Any] = {}  # arrays opened through zarr, by path

    @property
    def url(self) -> str:
        """Canonical text without secrets."""
        return self.spec.url

    @abstractmethod
    def fetch(self, requests: Sequence[Request]) -> list[Result]:
        """Answer all requests, in order, while the calling thread waits."""

    @abstractmethod
    async def fetch_one(self, request: Request) -> Result:
        """Answer one request from a coroutine on our loop."""

    def answer(self, request: Request, *client: Any) -> Any:
        """Answer by the backend's own method for this kind of request; awaited where that is."""
        return getattr(self, _METHODS[type(request)])(*client, request)

    def failure(self, request: Request, error: BaseException, hint: str = "") -> StoreError:
        """Return the error to raise ``from error``: what failed, where, and why, without secrets."""
        text = without_secrets(reason(error), self.spec.options) or type(error).__name__
        if isinstance(error, NotADirectoryError):  # its text names one of our scratch files
            text = "there is a file where a folder should be"
        return StoreError(f"{describe(request)} failed: {text[:600]}{hint}", where=self.url)

    def fail(self, request: Request, error: BaseException, hint: str = "") -> NoReturn:
        """Raise the `failure` for what a client raised; our own errors are raised unchanged."""
        if isinstance(error, StoreError):
            raise error
        raise self.failure(request, error, hint) from travelling(error)

    @property
    def told_unsigned(self) -> bool:
        """Whether an option says not to sign requests."""
        names = ("skip_signature", "aws_skip_signature", "google_skip_signature", "azure_skip_signature", "anon")
        return any(str(self.spec.options.get(name)).lower() == "true" for name in names)

    def stamp(self, key: str) -> Hashable:
        """Something that changes when an object does, if that costs no request; otherwise None."""
        return None

    def tidy(self, keys: Sequence[str]) -> None:  # noqa: B027  most stores have nothing to do
        """Remove folders that are empty after a deletion, if the store has folders and leaves them."""

    def check_writable(self, request: Request) -> None:
        """Refuse requests that would write to a read-only store.

        Raises
        ------
        StoreError
            If the store is read-only and ``request`` would write to it.
        """
        if not isinstance(request, Put | Delete):
            return
        away = self.spec.home and self.spec.home != this_process()
        reason = LOST if away else self._read_only()
        if reason:
            raise StoreError(f"{describe(request)} refused: {reason}", where=self.url)

    def _read_only(self) -> str:
        """Why nothing can be written; empty if it can."""
        if self.spec.read_only:
            return "the zarr store object is read-only"
        return "" if self.listable else "plain HTTP is read-only"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}>"


def describe(request: Request) -> str:
    """Text for errors: ``reading 'a/b'`` or ``listing 'a'``."""
    if isinstance(request, Put):
        return f"writing {request.key!r}"
    if isinstance(request, Delete):
        more = f" and {len(request.keys) - 1} more" if len(request.keys) > 1 else ""
        return f"deleting {', '.join(map(repr, request.keys[:1]))}{more}"
    return f"reading {request.key!r}" if isinstance(request, Get | Size) else f"listing {request.prefix!r}"


# Checks that an answer is what was requested, and not too large: not every client does that.

_TOLD = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


def of_range(data: bytes, told: str | None, start: int, stop: int | None) -> bytes:
    """Bytes [start, stop) of an object, taken from an answer.

    Parameters
    ----------
    data
        The answer's body.
    told
        Its header ``Content-Range``; None if it holds the whole object.
    start, stop
        As in `Get`: a negative start counts from the end.

    Raises
    ------
    OSError
        If it is another range, or if the body does not have the length that the header states.
    """
    if told is None:
        return data[start:stop]
    found = _TOLD.fullmatch(told.strip())
    if found is None:
        raise OSError(f"a range was requested, but the answer was {told!r}")
    first, last, total = int(found[1]), int(found[2]), None if found[3] == "*" else int(found[3])
    if start < 0:
        right = total is None or (first == max(total + start, 0) and last == total - 1)
    else:
        end = total if stop is None else stop if total is None else min(stop, total)
        right = first == start and last + 1 == (last + 1 if end is None else end)
    if not right or len(data) != last - first + 1:
        wanted = f"{start}:{'' if stop is None else stop}"
        raise OSError(f"bytes {wanted} were requested, but {len(data)} came, said to be {told!r}")
    return data


def check_length(data: bytes, start: int, stop: int | None) -> bytes:
    """Return an answer about which nothing else is known; more bytes than requested are an OSError."""
    most = -start if start < 0 else None if stop is None else stop - start
    if most is not None and len(data) > most:
        raise OSError(f"{most} bytes were requested, but {len(data)} came")
    return data


def most_bytes(key: str) -> tuple[int, str]:
    """The most bytes that an object may have, decoded, and the setting that says so."""
    name = "max-metadata-bytes" if key.endswith("zarr.json") else "max-array-bytes"
    most = nbytes_setting(name)
    return (most if key.endswith("zarr.json") else max(most, nbytes_setting("max-cell-bytes"))), name


def check_size(nbytes: int, key: str) -> None:
    """Raise StoreError if an object is larger than allowed."""
    most, name = most_bytes(key)
    if nbytes > most:
        raise StoreError(
            f"{key!r} has {nbytes} bytes or more, which the setting zarr_vectors_lazy.{name} ({most}) does not allow"
        )


def plain(data: Buffer, encoding: str | None, key: str) -> Buffer:
    """Body of an answer, without the encoding of its transfer (``Content-Encoding``).

    Raises
    ------
    StoreError
        If it is damaged, ends early, grows larger than allowed, or has an unknown encoding.
    """
    if not encoding or encoding.lower() == "identity":
        return data
    if encoding.lower() not in {"gzip", "x-gzip", "deflate"}:
        raise StoreError(f"{key!r} comes with the content encoding {encoding!r}; only gzip and deflate can be read")
    most, _ = most_bytes(key)
    try:
        deflated = encoding.lower() == "deflate"
        found = _inflated(data, most + 1) if deflated else gzip.GzipFile(fileobj=io.BytesIO(data)).read(most + 1)
    except (zlib.error, EOFError, OSError) as error:
        raise StoreError(
            f"{key!r} does not have the content encoding {encoding!r} that the server states: {error}"
        ) from error
    check_size(len(found), key)
    return found


def _inflated(data: Buffer, most: int) -> bytes:
    stream = zlib.decompressobj()
    found = stream.decompress(data, most)
    if not stream.eof and len(found) < most:
        raise EOFError("it ends early")
    return found
