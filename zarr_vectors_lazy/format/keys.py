"""Names in a store's tree: dotted chunk coordinates, as lists of 10^6 of them come, and deltas (spec 0.9, 4.2, 7.1)."""

import re
from collections.abc import Iterable, Sequence

import numpy as np

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.types import ChunkCoords

DOT, NEWLINE, MINUS, ZERO = b".\n-0"
MAX_DIGITS = 18
_DELTA = re.compile(r"0|[+-][1-9][0-9]{0,8}")


def parse_chunk_keys(keys: Sequence[str], rank: int, *, where: str = "") -> ChunkCoords:
    """Coordinates of dotted keys.

    Parameters
    ----------
    keys
        ``"-1.0.12"`` and the like.
    rank
        Components that each must have, K.
    where
        Named by errors.

    Returns
    -------
    (n, K) int64, in the order given.

    Raises
    ------
    FormatError
        If a key is no dotted coordinate of that rank.
    """
    if not keys:
        return np.empty((0, rank), np.int64)
    try:
        raw = np.frombuffer(("\n".join(keys) + "\n").encode("ascii"), np.uint8)
    except (TypeError, UnicodeEncodeError) as error:
        raise FormatError("chunk keys must be text like '-1.0.12'", where=where) from error
    digit = raw - np.uint8(ZERO)  # wraps for what is no digit
    minus = raw == MINUS
    separator = (raw == DOT) | (raw == NEWLINE)
    ends = np.flatnonzero(separator)
    lines = np.flatnonzero(raw == NEWLINE)
    starts = np.concatenate([[0], ends[:-1] + 1])
    negative = minus[starts]
    length = ends - starts - negative
    well_formed = (
        len(lines) == len(keys)
        and len(ends) == len(keys) * rank
        and np.array_equal(ends[rank - 1 :: rank], lines)
        and bool(((digit < 10) | minus | separator).all())
        and int(minus.sum()) == int(negative.sum())
        and bool(((length > 0) & (length <= MAX_DIGITS)).all())
    )
    if not well_formed:
        raise FormatError(
            f"chunk keys must be {rank} dotted integers each; {_first_bad(keys, rank)!r} is not", where=where
        )
    values = np.zeros(len(ends), np.int64)
    first = starts + negative
    for k in range(int(length.max())):
        more = length > k
        values = np.where(more, values * 10 + digit[np.minimum(first + k, len(raw) - 1)], values)
    return np.where(negative, -values, values).reshape(-1, rank)


def _first_bad(keys: Sequence[str], rank: int) -> str:
    for key in keys:
        parts = str(key).split(".")
        digits = [part.removeprefix("-") for part in parts]
        if len(parts) != rank or not all(part.isdecimal() and len(part) <= MAX_DIGITS for part in digits):
            return str(key)
    return str(keys[0])


def is_name(name: str) -> bool:
    """Whether a node may be called so: not what would lead out of the store on some file system."""
    return name not in {"", ".", ".."} and not any(char in name for char in "/\\\0")


def format_delta(delta: int) -> str:
    """Return a delta as a path segment: ``0``, ``+1``, ``-1``."""
    return "0" if delta == 0 else f"{delta:+d}"


def parse_deltas(names: Iterable[str]) -> set[int]:
    """Deltas among the names below a folder of link families."""
    return {int(name) for name in names if _DELTA.fullmatch(name)}


def format_chunk_keys(coords: ChunkCoords) -> list[str]:
    """Dotted keys of (n, K) chunks, in their order."""
    return [".".join(map(str, coord)) for coord in coords.tolist()]


def format_deltas(coords: ChunkCoords) -> list[str]:
    """Chunk offsets as segments name them: ``"0.0.+1"``."""
    return [".".join(map(format_delta, coord)) for coord in coords.tolist()]
