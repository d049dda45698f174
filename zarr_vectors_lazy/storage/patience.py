"""How long requests that fail are made again: the same limits for every backend."""

import asyncio
import itertools
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from dask.utils import parse_timedelta

from zarr_vectors_lazy.settings import setting

T = TypeVar("T")

CONNECT_S = 5.0
INSTANCE_S = 4.0  # in which a machine's metadata address answers, or has no credentials
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0


@dataclass(frozen=True, slots=True)
class Patience:
    """Limits as the settings are now.

    Parameters
    ----------
    retries
        How often a request is made again.
    total_s
        Seconds after which it is not made again.
    silence_s
        Seconds without a byte after which an attempt is given up.
    """

    retries: int
    total_s: float
    silence_s: float

    @classmethod
    def of_settings(cls) -> "Patience":
        """Read the settings ``retries``, ``retry-timeout`` and ``read-timeout``."""
        total, silence = (float(parse_timedelta(setting(name))) for name in ("retry-timeout", "read-timeout"))
        return cls(int(setting("retries")), total, silence)


async def persist(
    attempt: Callable[[], Awaitable[T]],
    patience: Patience,
    failures: tuple[type[BaseException], ...],
    pause_after: Callable[[BaseException], float | None],
) -> T:
    """Await an attempt; after a failure that may pass another one, with growing pauses between them.

    Parameters
    ----------
    failures
        What an attempt may raise.
    pause_after
        Seconds to wait at least after a failure; None where it would only fail again.

    Raises
    ------
    BaseException
        The last failure, when patience is over.
    """
    begin = time.monotonic()
    for number in itertools.count():
        try:
            return await attempt()
        except failures as error:
            least = pause_after(error)
            if least is None or number >= patience.retries:
                raise
            pause = max(least, min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**number) * random.uniform(0.5, 1))
            if time.monotonic() - begin + pause > patience.total_s:
                raise
        await asyncio.sleep(pause)
    raise AssertionError("the loop has no end")
