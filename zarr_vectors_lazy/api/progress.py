"""A bar that shows how far a Dask computation is, on the local schedulers; a cluster has its dashboard."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

from dask.callbacks import Callback

from zarr_vectors_lazy.access.progress import progress_bar
from zarr_vectors_lazy.errors import StoreError


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
