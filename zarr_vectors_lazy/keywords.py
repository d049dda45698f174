"""Names that people type: keywords that are misspelt are told before anything is reached; keys are completed."""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ParamSpec, TypeVar

from zarr_vectors_lazy.errors import meant, near
from zarr_vectors_lazy.storage.resolve import is_option

P = ParamSpec("P")
R = TypeVar("R")
K = TypeVar("K")
V_co = TypeVar("V_co", covariant=True)
NEARER = 0.7  # than names of attributes: what is not near goes on to a backend, which has names of its own


def suggesting(function: Callable[P, R]) -> Callable[P, R]:
    """Function that raises TypeError for an unknown keyword that is near the name of a parameter, and names that."""
    parameters = inspect.signature(function).parameters.values()
    names = [each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
    known, open_ended = frozenset(names), any(each.kind is each.VAR_KEYWORD for each in parameters)

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in sorted(kwargs.keys() - known):
            if not open_ended or (is_near(name, names) and not is_option(name)):
                raise TypeError(f"{function.__name__}() takes no argument {name!r}{meant(name, names)}")
        return function(*args, **kwargs)

    return checked


def is_near(name: str, names: Iterable[str]) -> bool:
    """Whether a keyword is spelt nearly as a parameter is, so that it is hardly meant for anything else."""
    return bool(near(name, names, cutoff=NEARER))


class Named(Mapping[K, V_co]):
    """Mapping whose keys IPython and Jupyter offer on Tab."""

    def _ipython_key_completions_(self) -> list[Any]:
        return list(self)
