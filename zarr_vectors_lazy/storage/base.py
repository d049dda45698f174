"""What every backend is: an open connection to one store."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, TypeAlias

from zarr_vectors_lazy.errors import StoreError
from zarr_vectors_lazy.storage.requests import Get, Put, Request
from zarr_vectors_lazy.storage.secrets import without_secrets
from zarr_vectors_lazy.storage.spec import StoreSpec

Result: TypeAlias = Any
"""Buffer or None (Get), names or None (ListDir), sizes (ListSizes)."""


class Backend(ABC):
    """An open connection to one store, kept for the life of the process.

    Parameters
    ----------
    spec
        What it was opened from.
    """

    listable: bool = True
    """Whether the store can list at all (plain HTTP cannot)."""

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
        reason = without_secrets(" ".join(str(error).split()), self.spec.options) or type(error).__name__
        return StoreError(f"{describe(request)} failed: {reason[:600]}{hint}", where=self.url)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}>"


def describe(request: Request) -> str:
    """Text for errors: ``reading 'a/b'`` or ``listing 'a'``."""
    if isinstance(request, Put):
        return f"writing {request.key!r}"
    return f"reading {request.key!r}" if isinstance(request, Get) else f"listing {request.prefix!r}"
