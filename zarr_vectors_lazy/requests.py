"""What can be asked of a store, and how pure code asks for it.

Code that knows a layout but does no I/O is written as a generator: it yields a list of requests that may be made at
once, receives their answers in the same order, and returns its result.
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
        Half-open byte range; ``start`` negative with no ``stop``: the last ``-start`` bytes.
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
        False: the answer is None where the store cannot list or refuses to.
    """

    prefix: str
    required: bool = True


@dataclass(frozen=True, slots=True)
class ListSizes:
    """Sizes in bytes of all objects under a prefix, by key."""

    prefix: str


@dataclass(frozen=True, slots=True)
class Size:
    """The size of one object in bytes, None where there is no such object; its bytes are not read.

    Parameters
    ----------
    key
        Object key relative to the store.
    """

    key: str


@dataclass(frozen=True, slots=True)
class Put:
    """Write one object, in place of what was there; readers see the old one or the new one whole.

    Parameters
    ----------
    key
        Object key relative to the store.
    data
        Its bytes.
    create
        Write only where there is no such object; the answer is then whether it was written. Exact where the backend has
        such a put (files, S3, Google, Azure, SFTP), else a look and a put.
    unread
        No reader asks for the object before a later put says that it is there: a new one need not appear all at once,
        which saves files a rename each. With ``create`` it may find itself, where the answer to it was lost.
    match
        Write only in place of an object with these bytes; the answer is then whether ``data`` is there now. For
        backends that say `swaps`.
    array
        Of a cell: a document of its array that lacks only what is known at the end. A store that takes no cell of an
        array which is not there (icechunk) is given it first; all others ignore it.
    """

    key: str
    data: bytes | memoryview
    create: bool = False
    unread: bool = False
    match: bytes | None = None
    array: bytes | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete objects; those that are not there already are no error.

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
    """Result of a conversation; ``answer`` gives the answers to what it asks for at once."""
    try:
        asked = next(steps)
        while True:
            asked = steps.send(answer(asked))
    except StopIteration as stop:
        result: T = stop.value
        return result


def together(steps: Sequence[Generator[Sequence[Any], list[Any], T]]) -> Generator[list[Any], list[Any], list[T]]:
    """Several conversations as one: what all of them ask next is asked at once."""
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
