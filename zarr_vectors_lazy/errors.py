"""What can go wrong, grouped by what the caller would do about it.

    ZVError
    ├── NotFoundError   (also KeyError)      name something that exists
    ├── SelectionError  (also ValueError)    fix the arguments
    ├── FormatError     (also ValueError)    the bytes contradict the format
    │   ├── FileError       (a SelectionError too)  give another file
    │   ├── UnsupportedVersionError          install another version
    │   ├── UnsupportedCapabilityError       install another version that can read such stores
    │   └── CorruptChunkError                a listed chunk is missing, truncated or undecodable
    └── StoreError      (also OSError)       retry, or check URL, options, credentials

A `ZVWarning` reports something that was done, but may not be what was meant.
"""

import difflib
import importlib
from collections.abc import Iterable, Sized
from typing import Any, Self

SHOWN, LONGEST = 20, 2000  # names in a list, characters of a message
MANY = {"vertex": "vertices", "axis": "axes", "box": "boxes", "entry": "entries"}
NOTHING = "nothing is here"  # where a store was expected
NO_STORE = (
    NOTHING,
    "no zarr.json at the root",
    "this is only a level",
    "not a Zarr Vectors store",
)  # but something else


class ZVError(Exception):
    """Base of every error that this package raises on purpose.

    Parameters
    ----------
    message
        What was given or found, and what was expected.
    where
        The URL, array or chunk concerned; appended to the message.
    """

    __str__ = Exception.__str__  # KeyError would print the message in quotes

    def __init__(self, message: str, *, where: str = "") -> None:
        at = where.replace("\n", "\\n")
        message = _one_line(message)
        super().__init__(printable(f"{message} (at {at})" if where else message))
        self.message = message
        self.where = where

    def __reduce__(self) -> tuple[Any, ...]:
        # OSError and KeyError rebuild from args alone: keep the attributes across processes.
        return _rebuild, (type(self), self.args, self.__dict__.copy())


def _rebuild(cls: type[ZVError], args: tuple[Any, ...], state: dict[str, Any]) -> ZVError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class NotFoundError(ZVError, KeyError):
    """A level, attribute, object or group that does not exist."""

    @classmethod
    def among(cls, kind: str, asked: object, known: Iterable[object], *, where: str = "") -> Self:
        """Name what was requested, list what exists (the first 20), and suggest what is spelt similarly."""
        return cls(f"no {kind} {asked!r}; there is {listed(known)}{meant(asked, known)}", where=where)


class SelectionError(ZVError, ValueError):
    """A malformed box or a wrong argument."""


class FormatError(ZVError, ValueError):
    """Something that is not a Zarr Vectors store, or metadata or bytes that contradict the format."""


class FileError(FormatError, SelectionError):
    """A file to ingest that is damaged, empty or of another format; the message begins with its name."""


class UnsupportedVersionError(FormatError):
    """A Zarr Vectors store of a generation that this package does not read."""


class UnsupportedCapabilityError(FormatError):
    """A store that requires a capability of its readers that this package does not have."""


class CorruptChunkError(FormatError):
    """A listed chunk that is missing, truncated or cannot be decoded.

    Parameters
    ----------
    reason
        What is wrong with it.
    level, array, chunk, url
        The level's index, the array's path, the chunk's dotted coordinate (``"3.0.-1"``) and the store's URL.
    """

    def __init__(
        self, reason: str, *, level: int | None = None, array: str = "", chunk: str = "", url: str = ""
    ) -> None:
        super().__init__(f"level {level}, array {array!r}, chunk {chunk!r}: {reason}", where=url)
        self.reason = reason
        self.level = level
        self.array = array
        self.chunk = chunk
        self.url = url


class StoreError(ZVError, OSError):
    """Bytes that cannot be reached, because of the backend, options, credentials or the network."""


class ZVWarning(UserWarning):
    """The category of every warning that this package issues on purpose."""


def printable(text: str) -> str:
    r"""Show control characters as ``\x1b``, so that a name in a store cannot move the cursor or colour the terminal."""
    return text if text.isprintable() else "".join(map(_shown, text))


def in_line(text: str) -> str:
    r"""Show line breaks too, as ``\n``, so that a name with a line break stays on one line."""
    return printable(text).replace("\n", "\\n")


def _one_line(message: str) -> str:
    """Join the lines that the repr of a table or an array has, and leave out the middle of a very long one."""
    line = " ".join(part.strip() for part in message.split("\n"))
    return line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} ... {line[-LONGEST // 2 :]}"


def _shown(letter: str) -> str:
    plain = letter.isprintable() or letter == "\n"
    return letter if plain else letter.encode("unicode_escape").decode()


def listed(known: Iterable[object]) -> str:
    """Return a text that lists the first 20 of ``known``, and says how many more there are."""
    items = known if isinstance(known, Sized) else list(known)
    total = len(items)
    shown = [repr(item) for item, _ in zip(items, range(SHOWN), strict=False)]
    more = f", ... ({total - SHOWN} more)" if total > SHOWN else ""
    return f"{', '.join(shown)}{more}" if shown else "none"


def counted(number: int, one: str) -> str:
    """``1 chunk``, ``2,000 chunks``, ``2 vertices``."""
    return f"{number:,} {one if number == 1 else MANY.get(one, f'{one}s')}"


def near(asked: object, known: Iterable[object], *, cutoff: float = 0.6) -> list[str]:
    """Names among ``known`` that begin or end with what was typed, otherwise the three that are spelt most like it."""
    if not isinstance(asked, str) or not asked:
        return []
    names = {name.lower(): name for name in known if isinstance(name, str)}
    wanted = asked.lower()
    begun = wanted if len(wanted) > 2 else f"{wanted}_"
    holding = [name for name in names if name == wanted or name.endswith(f"_{wanted}") or name.startswith(begun)]
    return [names[name] for name in (holding or difflib.get_close_matches(wanted, names, 3, cutoff))]


def meant(asked: object, known: Iterable[object]) -> str:
    """End of a message about an unknown name: what it may be meant for, or nothing."""
    names = near(asked, known)
    return f"; did you mean {' or '.join(map(repr, names))}?" if names else ""


def optional(name: str, needs: str, extra: str, kind: type[Exception] = ImportError) -> Any:
    """Import a module of an extra; if it is not installed, raise an error that says how to install it.

    Parameters
    ----------
    needs
        What needs it, and is told: ``"plot() needs Matplotlib"``.
    extra, kind
        Of this package; and of the error.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise kind(f"{needs}: pip install 'zarr-vectors-lazy[{extra}]' ({error})") from error
