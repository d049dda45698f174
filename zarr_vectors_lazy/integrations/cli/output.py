"""What ``zvl`` prints: tables and JSON on standard output, bars on standard error."""

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from dask.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from zarr_vectors_lazy.errors import printable


def console() -> Console:
    """Standard output; plain where it is no terminal, and then as wide as it needs where COLUMNS does not say."""
    wide = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(highlight=False, markup=False, emoji=False, width=10_000 if wide else None)


def print_json(value: Any) -> None:
    """Print a value as JSON, arrays as lists."""
    print(printable(json.dumps(value, indent=2, default=_plain, ensure_ascii=False)))


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)


def print_pairs(pairs: Mapping[str, Any]) -> None:
    """Print names and values, one a line; further lines of a value stand below its first."""
    width = max(map(len, pairs), default=0)
    for name, value in pairs.items():
        print(printable(f"{name:<{width}}  {value}".replace("\n", f"\n{'':{width}}  ")))


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[int]) -> None:
    """Print a table, columns ``right`` aligned to the right; what is too wide goes on below, in the last column."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for number, name in enumerate(head):
        table.add_column(name, justify="right" if number in right else "left", no_wrap=number < len(head) - 1)
    for row in rows:
        table.add_row(*map(printable, row))
    console().print(table)


def bar(*, unit: str) -> Progress:
    """Bar of things done, on standard error; nothing where that is no terminal."""
    shown = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=shown, transient=True, disable=not shown.is_terminal)


@contextmanager
def task_bar() -> Iterator[None]:
    """Bar of the tasks of each Dask computation on a local scheduler."""
    with bar(unit="tasks") as progress, _Tasks(progress):
        yield


class _Tasks(Callback):
    """Tells a bar how many tasks there are and have run."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._progress = progress
        self._current: Any = None

    def _start_state(self, dsk: Any, state: Mapping[str, Any]) -> None:
        total = sum(len(state[part]) for part in ("ready", "waiting", "running", "finished"))
        self._current = self._progress.add_task("computing", total=total)

    def _posttask(self, key: Any, result: Any, dsk: Any, state: Any, worker: Any) -> None:
        self._progress.advance(self._current)

    def _finish(self, dsk: Any, state: Any, failed: bool) -> None:
        self._progress.remove_task(self._current)
