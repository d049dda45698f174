"""A bar that shows how far a Dask computation is, on the local schedulers; a cluster has its dashboard."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from dask.callbacks import Callback

from zarr_vectors_lazy.access.progress import progress_bar


@contextmanager
def computing(label: str, *, shown: bool) -> Iterator[None]:
    """Context in which a bar counts the tasks of a computation; without ``shown`` there is none.

    Raises
    ------
    SelectionError
        If neither rich nor tqdm is installed.
    """
    if not shown:
        yield
        return
    advance: list[Callable[[int], None]] = []
    with ExitStack() as stack:

        def start(_graph: Any, state: Mapping[str, Any]) -> None:
            total = len(state["waiting"]) + len(state["ready"])
            advance.append(stack.enter_context(progress_bar(label, total, shown=True)))

        def done(*_: Any) -> None:
            advance[-1](1)

        with Callback(start_state=start, posttask=done):
            yield
