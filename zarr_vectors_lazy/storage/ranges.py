"""Whether an answer is what was asked for, and no more than is let in: not every client looks."""

import re
import zlib
from functools import cache

from dask.utils import parse_bytes

from zarr_vectors_lazy.errors import StoreError
from zarr_vectors_lazy.settings import setting
from zarr_vectors_lazy.types import Buffer

_TOLD = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


def of_range(data: bytes, told: str | None, start: int, stop: int | None) -> bytes:
    """Bytes [start, stop) of an object, from an answer.

    Parameters
    ----------
    data
        The answer's body.
    told
        Its header ``Content-Range``; None where it brought the whole object.
    start, stop
        As in `Get`: a negative start counts from the end.

    Raises
    ------
    OSError
        If it is another range, or the body has another length than the header says.
    """
    if told is None:
        return data[start:stop]
    found = _TOLD.fullmatch(told.strip())
    if found is None:
        raise OSError(f"a range was asked for and {told!r} was answered")
    first, last, total = int(found[1]), int(found[2]), None if found[3] == "*" else int(found[3])
    if start < 0:
        right = total is None or (first == max(total + start, 0) and last == total - 1)
    else:
        end = total if stop is None else stop if total is None else min(stop, total)
        right = first == start and last + 1 == (last + 1 if end is None else end)
    if not right or len(data) != last - first + 1:
        wanted = f"{start}:{'' if stop is None else stop}"
        raise OSError(f"bytes {wanted} were asked for, {len(data)} came that are said to be {told!r}")
    return data


def check_length(data: bytes, start: int, stop: int | None) -> bytes:
    """Return an answer about which nothing else is known; more bytes than were asked for are an OSError."""
    most = -start if start < 0 else None if stop is None else stop - start
    if most is not None and len(data) > most:
        raise OSError(f"{most} bytes were asked for, {len(data)} came")
    return data


def most_bytes(key: str) -> tuple[int, str]:
    """Bytes that an object may have, decoded, and the setting that says so."""
    name = "max-metadata-bytes" if key.endswith("zarr.json") else "max-array-bytes"
    most = _nbytes(setting(name))
    return (most if key.endswith("zarr.json") else max(most, _nbytes(setting("max-cell-bytes")))), name


@cache
def _nbytes(value: int | str) -> int:
    return int(parse_bytes(value))


def check_size(nbytes: int, key: str) -> None:
    """Raise StoreError if an object is larger than is let in."""
    most, name = most_bytes(key)
    if nbytes > most:
        raise StoreError(
            f"{key!r} has {nbytes} bytes or more, which the setting zarr_vectors_lazy.{name} ({most}) does not let in"
        )


def plain(data: Buffer, encoding: str | None, key: str) -> Buffer:
    """Body of an answer as it was before the server encoded it for the way (``Content-Encoding``).

    Raises
    ------
    StoreError
        If it is damaged, grows past what is let in, or has an encoding that is not known here.
    """
    if not encoding or encoding == "identity":
        return data
    if encoding not in {"gzip", "x-gzip", "deflate"}:
        raise StoreError(f"{key!r} comes with the content encoding {encoding!r}; backend='fsspec' may read it")
    most, _ = most_bytes(key)
    try:
        found = zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(data, most + 1)
    except zlib.error as error:
        raise StoreError(
            f"{key!r} is not in the content encoding {encoding!r} that it is said to have: {error}"
        ) from error
    check_size(len(found), key)
    return found
