"""Joins code that knows a layout to a store that answers."""

from collections.abc import Sequence
from typing import Any, TypeVar

from zarr_vectors_lazy.access.limits import adopt_limits
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.requests import Elements, Request, Steps
from zarr_vectors_lazy.storage.base import Backend
from zarr_vectors_lazy.storage.fetch import fetch, zarr_array

T = TypeVar("T")


def converse(backend: Backend, steps: Sequence[Steps[T]]) -> list[T]:
    """Run several conversations at once, each round of all of them in one concurrent fetch.

    Returns
    -------
    The results, in the order of ``steps``.

    Raises
    ------
    StoreError
        If a request fails.
    """
    adopt_limits()
    results: dict[int, T] = {}
    asked = {i: request for i, step in enumerate(steps) if (request := _advance(i, step, None, results)) is not None}
    while asked:
        answers = iter(_answers(backend, [request for requests in asked.values() for request in requests]))
        given = {i: [next(answers) for _ in requests] for i, requests in asked.items()}
        asked = {i: request for i, got in given.items() if (request := _advance(i, steps[i], got, results)) is not None}
    return [results[i] for i in range(len(steps))]


def _answers(backend: Backend, requests: list[Request | Elements]) -> list[Any]:
    plain = iter(fetch(backend, [request for request in requests if not isinstance(request, Elements)]))
    return [_elements(backend, request) if isinstance(request, Elements) else next(plain) for request in requests]


def _elements(backend: Backend, request: Elements) -> Any:
    try:
        return zarr_array(backend, request.path, 0, None)
    except FormatError as error:
        return error


def _advance(
    i: int, steps: Steps[T], answers: list[Any] | None, results: dict[int, T]
) -> list[Request | Elements] | None:
    try:
        return steps.send(answers) if answers is not None else next(steps)
    except StopIteration as stop:
        results[i] = stop.value
        return None
