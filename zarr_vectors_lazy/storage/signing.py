"""Which credentials a request is sent with: decided for each request, remembered for each kind of request.

Unsigned where nobody gave credentials. What is refused so is sent again with those of the machine (the instance's
metadata), and where these are refused too, the first refusal stands. What was refused looks at the environment anew: a
key that was set or renewed meanwhile is used, without opening the store again.
"""

import time
from collections.abc import Callable, Generator, Hashable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from zarr_vectors_lazy.storage.requests import Get, ListDir, ListSizes, Request

FORGOTTEN_S = 60.0  # after which an instance that gave nothing, or nothing of use, is asked again
Verdict: TypeAlias = Literal["refused", "expired", "elsewhere", ""]


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Way:
    """A client, and what it signs with.

    Parameters
    ----------
    client
        Sends requests.
    unsigned
        Whether they carry no credentials, as none were found.
    seen
        What environment and profile files said when it was made.
    ambient
        Whether its credentials are from there, and so may be others next time.
    """

    client: Any
    unsigned: bool
    seen: Hashable = None
    ambient: bool = False


@dataclass(frozen=True, slots=True)
class Send:
    """Send the request; the answer is its result, or the error that it failed with."""

    way: Way


@dataclass(frozen=True, slots=True)
class Renew:
    """Make a client as the environment is now, unless another thread did; the answer is the way."""

    old: Way


@dataclass(frozen=True, slots=True)
class Instance:
    """Look for the machine's own credentials; the answer is a way, or None."""


@dataclass(frozen=True, slots=True)
class Move:
    """Look for the bucket's region; the answer is a way, or None."""

    old: Way
    error: BaseException


@dataclass(frozen=True, slots=True)
class Refused:
    """What a request failed with in the end."""

    error: BaseException
    verdict: Verdict
    unsigned: bool


Step: TypeAlias = Send | Renew | Instance | Move
Steps: TypeAlias = Generator[Step, Any, Any]


@dataclass(slots=True)
class Signing:
    """State of a connection.

    Parameters
    ----------
    way
        The client in use.
    verdict
        What an error says about the credentials.
    seen
        What environment and profile files say now.
    instance
        The client that signs with the machine's own credentials.
    """

    way: Way
    verdict: Callable[[BaseException], Verdict]
    seen: Callable[[], Hashable]
    instance: Way | None = None
    _signed_first: set[str] = field(default_factory=set)
    _useless: dict[str, float] = field(default_factory=dict)
    _doubtful: Way | None = None

    def answer(self, request: Request) -> Steps:
        """Steps to the result of a request, or to a `Refused`; a driver carries them out, on threads or on a loop."""
        kind = _kind(request)
        way = self._first(kind)
        if way is self._doubtful:
            way = yield Renew(way)
        refused: Refused | None = None
        while True:
            outcome = yield Send(way)
            if not isinstance(outcome, BaseException):
                if way is self.instance and refused is not None:
                    self._signed_first.add(kind)
                return outcome
            verdict = self.verdict(outcome)
            if way is self.instance and verdict != "elsewhere":
                self._set_useless(kind)
                if refused is not None:
                    return refused
                way = self.way  # the machine's credentials were good once
                continue
            refused = Refused(outcome, verdict, way.unsigned)
            found = yield from self._other(way, kind, refused)
            if found is None:
                return refused
            way = found

    def _other(self, way: Way, kind: str, refused: Refused) -> Steps:
        """Find another way for what failed, or None."""
        if refused.verdict == "elsewhere":
            return (yield Move(way, refused.error))
        if not refused.verdict:
            return None
        if self.seen() != way.seen:
            return (yield Renew(way))
        if not way.unsigned:
            self._doubtful = way if way.ambient else None
            return None
        if refused.verdict == "expired" or self._is_useless(kind):
            return None
        found = yield Instance()
        if found is None:
            self._set_useless(kind)
        return found

    def _first(self, kind: str) -> Way:
        return self.instance if kind in self._signed_first and self.instance is not None else self.way

    def _set_useless(self, kind: str) -> None:
        self._signed_first.discard(kind)
        self._useless.setdefault(kind, time.monotonic())

    def _is_useless(self, kind: str) -> bool:
        since = self._useless.get(kind)
        if since is not None and time.monotonic() - since < FORGOTTEN_S:
            return True
        self._useless.pop(kind, None)
        return False


def _kind(request: Request) -> str:
    return "read" if isinstance(request, Get) else "list" if isinstance(request, ListDir | ListSizes) else "write"
