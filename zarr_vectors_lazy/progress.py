"""Bars that show how far a computation is."""

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

from dask.callbacks import Callback

from zarr_vectors_lazy.errors import SelectionError, StoreError

# A progress bar of rich or tqdm, whichever is installed.

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


# A bar that shows how far a Dask computation is, on the local schedulers; a cluster has its dashboard.


@contextmanager
def computing(label: str, *, shown: bool) -> Iterator[None]:
    """Context of a computation, in which a bar counts its tasks; without ``shown`` there is none.

    Raises
    ------
    SelectionError
        If neither rich nor tqdm is installed.
    StoreError
        If the store is of a kind that does not reach the workers of a cluster, in place of distributed's TypeError.
    """
    try:
        with _bar(label) if shown else nullcontext():
            yield
    except TypeError as error:
        reason = _store_error(error)
        if reason is None:
            raise
        raise StoreError(reason.message, where=reason.where) from error


def _store_error(error: BaseException | None) -> StoreError | None:
    """What an error was raised from, where that is ours."""
    while error is not None and not isinstance(error, StoreError):
        error = error.__cause__ or error.__context__
    return error


@contextmanager
def _bar(label: str) -> Iterator[None]:
    advance: list[Callable[[int], None]] = []
    with ExitStack() as stack:

        def start(_graph: Any, state: Mapping[str, Any]) -> None:
            total = len(state["waiting"]) + len(state["ready"])
            advance.append(stack.enter_context(progress_bar(label, total, shown=True)))

        def done(*_: Any) -> None:
            advance[-1](1)

        with Callback(start_state=start, posttask=done):
            yield
