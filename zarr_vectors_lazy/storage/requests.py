"""The three things that are asked of a store: plain values, so that they can be planned, counted and pickled."""

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Get:
    """Bytes of one object.

    Parameters
    ----------
    key
        Path relative to the store's root, without a leading slash.
    start, stop
        Bytes ``[start, stop)``; a negative ``start`` without ``stop``: the last ``-start`` bytes (all, if the object is
        shorter). Both ``None``: the whole object. A range that leaves the object gives the bytes there are, perhaps
        none: whoever asked knows how many there should be.
    """

    key: str
    start: int | None = None
    stop: int | None = None

    def __post_init__(self) -> None:
        if self.start is None:
            assert self.stop is None, "a stop needs a start"
        elif self.stop is None:
            assert self.start < 0, "an open range counts from the end"
        else:
            assert 0 <= self.start <= self.stop, "a range goes forward"


@dataclass(frozen=True, slots=True)
class ListDir:
    """Names of the direct children, objects and folders, of a prefix (``""``: the root).

    Parameters
    ----------
    prefix
        Path relative to the store's root, without slashes at its ends.
    required
        Whether a store that refuses or cannot list is an error; otherwise the result is ``None``.
    """

    prefix: str
    required: bool = True


@dataclass(frozen=True, slots=True)
class ListSizes:
    """Keys (relative to the store's root) and sizes in bytes of all objects under a prefix."""

    prefix: str


Request: TypeAlias = Get | ListDir | ListSizes
