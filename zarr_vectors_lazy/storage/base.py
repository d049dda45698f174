"""What every backend is: an open connection to one store."""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from typing import Any, NoReturn, TypeAlias

from zarr_vectors_lazy.errors import StoreError
from zarr_vectors_lazy.storage.home import LOST, this_process
from zarr_vectors_lazy.storage.refusals import reason
from zarr_vectors_lazy.storage.requests import Delete, Get, Put, Request
from zarr_vectors_lazy.storage.secrets import without_secrets
from zarr_vectors_lazy.storage.spec import StoreSpec

Result: TypeAlias = Any
"""Buffer or None (Get), names or None (ListDir), sizes (ListSizes), whether it was written (Put)."""


class Backend(ABC):
    """An open connection to one store, kept for the life of the process.

    Parameters
    ----------
    spec
        What it was opened from.
    """

    listable: bool = True
    """Whether the store can list at all (plain HTTP cannot)."""
    creates: bool = False
    """Whether a create-only put is exact among all processes, and one request."""
    swaps: bool = False
    """Whether a put can be made to depend on what is there (`Put.match`)."""
    deletes_at_once: int = 1
    """Keys of one `Delete` that cost one request."""

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

    def failure(self, request: Request, error: BaseException, hint: str = "") -> StoreError:
        """Return the error to raise ``from error``: what failed, where, and why, without secrets."""
        text = without_secrets(reason(error), self.spec.options) or type(error).__name__
        return StoreError(f"{describe(request)} failed: {text[:600]}{hint}", where=self.url)

    def fail(self, request: Request, error: BaseException, hint: str = "") -> NoReturn:
        """Raise the `failure` from what a client raised; an error of ours as it is."""
        if isinstance(error, StoreError):
            raise error
        raise self.failure(request, error, hint) from error

    @property
    def told_unsigned(self) -> bool:
        """Whether an option says not to sign."""
        names = ("skip_signature", "aws_skip_signature", "google_skip_signature", "azure_skip_signature", "anon")
        return any(str(self.spec.options.get(name)).lower() == "true" for name in names)

    def stamp(self, key: str) -> Hashable:
        """What is another when an object is, where that costs no request; else None."""
        return None

    def tidy(self, keys: Sequence[str]) -> None:  # noqa: B027  most stores have nothing to do
        """Remove the folders of deleted objects that are empty now, where the store has folders and leaves them."""

    def check_writable(self, request: Request) -> None:
        """Refuse what would write to a store that is read-only.

        Raises
        ------
        StoreError
            If it is, and ``request`` would.
        """
        away = self.spec.home and self.spec.home != this_process()
        reason = LOST if away else self._read_only()
        if reason and isinstance(request, Put | Delete):
            raise StoreError(f"{describe(request)} refused: {reason}", where=self.url)

    def _read_only(self) -> str:
        """Why nothing can be written; empty where it can."""
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
    return f"reading {request.key!r}" if isinstance(request, Get) else f"listing {request.prefix!r}"
