"""A bar that shows how far a computation is, on Dask's local schedulers."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from dask.diagnostics.progress import ProgressBar


def progress_bar(*, wanted: bool, title: str) -> AbstractContextManager[Any]:
    """Context in which Dask's own bar is shown; a cluster has its dashboard."""
    if not wanted:
        return nullcontext()
    print(title)
    bar: AbstractContextManager[Any] = ProgressBar()
    return bar
