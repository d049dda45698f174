"""A progress bar of rich or tqdm, whichever is installed."""

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from zarr_vectors_lazy.errors import SelectionError

Advance = Callable[[int], None]


@contextmanager
def progress_bar(label: str, total: int, *, shown: bool) -> Iterator[Advance]:
    """Give a function that moves the bar by so many of ``total`` steps; without ``shown`` it does nothing.

    Raises
    ------
    SelectionError
        If neither rich nor tqdm is installed.
    """
    if not shown:
        yield lambda _: None
        return
    try:
        rich = importlib.import_module("rich.progress")
    except ImportError:
        with _tqdm(label, total) as advance:
            yield advance
        return
    with rich.Progress() as bar:
        task = bar.add_task(label, total=total)
        yield lambda steps: bar.advance(task, steps)


@contextmanager
def _tqdm(label: str, total: int) -> Iterator[Advance]:
    try:
        tqdm = importlib.import_module("tqdm").tqdm
    except ImportError as error:
        raise SelectionError("progress=True needs rich or tqdm: pip install 'zarr_vectors_lazy[cli]'") from error
    with tqdm(desc=label, total=total) as bar:
        yield bar.update
