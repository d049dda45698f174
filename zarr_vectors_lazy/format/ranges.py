"""Parts of objects that hold several cells."""

from typing import Any

import numpy as np

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.requests import Get, Steps
from zarr_vectors_lazy.types import Buffer, Raw

GAP_NBYTES = 64 * 1024  # a gap that costs less to read than another request


def fetch_ranges(wanted: list[tuple[int, str, int, int]], out: list[Raw]) -> Steps[None]:
    """Fetch byte ranges into ``out``, neighbours of one object in one request."""
    runs: list[tuple[str, int, int, list[tuple[int, int, int]]]] = []
    for at, key, start, stop in sorted(wanted, key=lambda item: item[1:]):
        if runs and runs[-1][0] == key and start - runs[-1][2] <= GAP_NBYTES:
            _, first, end, members = runs[-1]
            members.append((at, start, stop))
            runs[-1] = (key, first, max(end, stop), members)
        else:
            runs.append((key, start, stop, [(at, start, stop)]))
    if not runs:
        return
    answers = yield [Get(key, start, stop) for key, start, stop, _ in runs]
    for raw, (key, first, _, members) in zip(answers, runs, strict=True):
        for at, start, stop in members:
            if raw is None or len(raw) < stop - first:
                out[at] = FormatError(f"object {key!r} ends before byte {stop} that its index names")
            else:
                out[at] = part(raw, start - first, stop - first)


def part(raw: Buffer, start: int, stop: int) -> Buffer:
    """Bytes [start, stop) of a buffer, not copied."""
    found: Any = np.frombuffer(raw, np.uint8)[start:stop]  # unlike a memoryview it pickles
    return found  # type: ignore[no-any-return]
