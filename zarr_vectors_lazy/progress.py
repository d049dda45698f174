"""Bars that show how far a computation is: one line of text on standard error, in terminals and in Jupyter alike."""

import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import dask
from dask.callbacks import Callback
from dask.utils import format_bytes

from zarr_vectors_lazy.errors import StoreError, in_line
from zarr_vectors_lazy.storage.requests import counting

Advance = Callable[[int], None]
EVERY = 0.1  # least seconds between two drawings
WIDTH = 24  # width of the bar itself, in characters


class Bar:
    """A line that shows the share done, the rate, and the time left; threads may share it.

    If standard error is neither a terminal nor Jupyter's, but for instance a file, only the last state is written.

    Parameters
    ----------
    label
        What is done.
    total
        Number of steps; may grow.
    fleeting
        Whether the line disappears at the end.
    """

    def __init__(self, label: str, total: int = 0, *, fleeting: bool = False) -> None:
        self.total = total
        self._label = in_line(label)
        self._done = 0
        self._rate = ""
        self._fleeting = fleeting
        self._begun = time.monotonic()
        self._drawn = 0.0
        self._written = 0
        self._lock = threading.Lock()
        self._live = is_live()

    def advance(self, steps: int) -> None:
        """Add a number of finished steps."""
        self.show(self._done + steps)

    def show(self, done: int, rate: str = "") -> None:
        """Set how many steps are done, and the rate if it is not in steps."""
        with self._lock:
            self._done, self._rate = done, rate
            if self._live and time.monotonic() - self._drawn >= EVERY:
                self._draw()

    def close(self) -> None:
        """Draw for the last time, or wipe a fleeting bar."""
        with self._lock:
            if not self._fleeting:
                self._draw()
                print(file=sys.stderr, flush=True)
            elif self._written:
                self._write("")

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        took = max(self._drawn - self._begun, 1e-9)
        done = min(self._done, self.total)
        share = done / max(self.total, 1)
        marks = "#" * int(share * WIDTH)
        rate = self._rate or f"{self._done / took:,.3g}/s"
        end = f"{clock(took * (1 - share) / share)} left" if 0 < share < 1 else clock(took)
        self._write(f"{self._label}: {share:4.0%} [{marks:.<{WIDTH}}] {done:,} of {self.total:,}, {rate}, {end}")

    def _write(self, line: str) -> None:
        line = line[: shutil.get_terminal_size().columns - 1]
        print(f"\r{line:<{self._written}}", end="" if line else "\r", file=sys.stderr, flush=True)
        self._written = len(line)


def is_live() -> bool:
    """Whether a line on standard error can be overwritten, as on a terminal and in Jupyter."""
    return sys.stderr.isatty() or type(sys.stderr).__module__.partition(".")[0] == "ipykernel"


def clock(seconds: float) -> str:
    """Time as minutes and seconds, with hours if there are any."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextmanager
def progress_bar(label: str, total: int, *, shown: bool) -> Iterator[Advance]:
    """Yield a function that advances the bar by a number of steps; without ``shown`` it does nothing."""
    if not shown:
        yield lambda _: None
        return
    bar = Bar(label, total)
    try:
        yield bar.advance
    finally:
        bar.close()


@contextmanager
def computing(label: str, *, shown: bool) -> Iterator[None]:
    """Context of a computation, whose tasks a bar counts if ``shown``.

    Raises
    ------
    StoreError
        If the workers of a cluster cannot reach this kind of store; distributed would raise a TypeError.
    """
    try:
        with task_bar(Bar(label)) if shown else nullcontext():
            yield
    except TypeError as error:
        reason = _store_error(error)
        if reason is None:
            raise
        raise StoreError(reason.message, where=reason.where) from error


def finish(job: Any, label: str, *, compute: bool, shown: bool) -> Any:
    """Result of a job, computed with a bar if ``shown``; without ``compute``, the job itself."""
    if not compute:
        return job
    with computing(label, shown=shown):
        return dask.compute(job)[0]


def _store_error(error: BaseException | None) -> StoreError | None:
    """The error of ours that an error was raised from, if any."""
    while error is not None and not isinstance(error, StoreError):
        error = error.__cause__ or error.__context__
    return error


@contextmanager
def task_bar(bar: Bar) -> Iterator[None]:
    """Count the tasks of all computations inside on one bar, for local schedulers; a cluster has its dashboard."""

    def start(_graph: Any, state: Mapping[str, Any]) -> None:
        bar.total += len(state["waiting"]) + len(state["ready"])

    try:
        with Callback(start_state=start, posttask=lambda *_: bar.advance(1)):
            yield
    finally:
        bar.close()


@contextmanager
def request_bar(bar: Bar) -> Iterator[None]:
    """Count the requests of all computations inside on one bar, and their bytes; its total is the number expected."""
    begun = time.monotonic()

    def show(*_: Any) -> None:
        bar.show(counts.requests, f"{format_bytes(int(counts.bytes / max(time.monotonic() - begun, 1e-9)))}/s")

    try:
        with counting() as counts, Callback(posttask=show):
            yield
    finally:
        bar.close()
