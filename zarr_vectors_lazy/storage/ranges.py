"""Whether an answer to a request for a byte range is that range: not every client looks."""

import re

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
