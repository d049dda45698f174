"""The requests that a store can answer, and how pure code makes them.

Code that knows a layout but does no I/O is written as a generator: it yields a list of requests that may be made
concurrently, receives their answers in the same order, and returns its result.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar


@dataclass(frozen=True, slots=True)
class Get:
    """The bytes of one object, or a range of them.

    Parameters
    ----------
    key
        Object key relative to the store.
    start, stop
        Half-open byte range; a negative ``start`` without ``stop`` means the last ``-start`` bytes.
    """

    key: str
    start: int | None = None
    stop: int | None = None


@dataclass(frozen=True, slots=True)
class ListDir:
    """The names of the direct children of a prefix.

    Parameters
    ----------
    prefix
        Folder, ``""`` for the root.
    required
        If False, the answer is None when the store cannot list or refuses to.
    """

    prefix: str
    required: bool = True


@dataclass(frozen=True, slots=True)
class ListSizes:
    """Sizes in bytes of all objects under a prefix, by key."""

    prefix: str


@dataclass(frozen=True, slots=True)
class Size:
    """The size of one object in bytes, or None if there is no such object; its bytes are not read.

    Parameters
    ----------
    key
        Object key relative to the store.
    """

    key: str


@dataclass(frozen=True, slots=True)
class Put:
    """Write one object, replacing what was there; readers see either the old one or the new one, complete.

    Parameters
    ----------
    key
        Object key relative to the store.
    data
        Its bytes.
    create
        Write only if there is no such object; the answer is then whether it was written. Exact if the backend has
        such a put (files, S3, Google, Azure, SFTP), otherwise a look and then a put.
    unread
        No reader requests the object before a later put announces it, so it need not appear all at once, which saves
        a rename for each file. With ``create``, a retry may find the object that the first attempt wrote.
    match
        Write only if the object has these bytes; the answer is then whether ``data`` is there now. For
        backends with `swaps`.
    array
        For a cell: a document of its array, complete except for what is known only at the end. A store that takes no
        cell without its array (icechunk) is given it first; all others ignore it.
    """

    key: str
    data: bytes | memoryview
    create: bool = False
    unread: bool = False
    match: bytes | None = None
    array: bytes | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete objects; it is not an error if some do not exist.

    Parameters
    ----------
    keys
        Object keys relative to the store.
    """

    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Elements:
    """All elements of a one-dimensional array, decoded by zarr; the answer may be a FormatError.

    For codecs that are not decoded here.

    Parameters
    ----------
    path
        Path of the array in the store.
    """

    path: str


Request: TypeAlias = Get | ListDir | ListSizes | Size | Put | Delete
T = TypeVar("T")
Q = TypeVar("Q")
Steps: TypeAlias = Generator[list[Request | Elements], list[Any], T]
"""A layout's conversation with a store; see the module's docstring."""


def converse(steps: Generator[Q, list[Any], T], answer: Callable[[Q], list[Any]]) -> T:
    """Result of a conversation; ``answer`` makes each list of requests."""
    try:
        asked = next(steps)
        while True:
            asked = steps.send(answer(asked))
    except StopIteration as stop:
        result: T = stop.value
        return result


def together(steps: Sequence[Generator[Sequence[Any], list[Any], T]]) -> Generator[list[Any], list[Any], list[T]]:
    """Run several conversations as one: the next requests of all of them are made together."""
    results: dict[int, T] = {}
    answers: dict[int, list[Any] | None] = dict.fromkeys(range(len(steps)))
    while answers:
        asked: dict[int, Sequence[Any]] = {}
        for number, given in answers.items():
            try:
                asked[number] = next(steps[number]) if given is None else steps[number].send(given)
            except StopIteration as stop:
                results[number] = stop.value
        if not asked:
            break
        got = iter((yield [request for requests in asked.values() for request in requests]))
        answers = {number: [next(got) for _ in requests] for number, requests in asked.items()}
    return [results[number] for number in range(len(steps))]
