"""Names that people type: keywords that are misspelt are told before anything is reached; keys are completed."""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from zarr_vectors_lazy.errors import meant, near
from zarr_vectors_lazy.storage.resolve import is_option

P = ParamSpec("P")
R = TypeVar("R")
K = TypeVar("K")
V_co = TypeVar("V_co", covariant=True)
ALSO = {  # what other libraries, or the parts of a level, call it, and is spelt like nothing here
    "attrs": "vertex_attributes",
    "bins": "bin_shape",
    "columns": "attributes",
    "edge_attributes": "link_attributes",
    "exist_ok": "mode",
    "face_attributes": "link_attributes",
    "mode": "overwrite",
    "names": "attribute_names",
    "overwrite": "mode",
    "spacing": "chunk_shape",
}
MANY = 1000  # keys of a mapping that are looked through
NEARER = 0.7  # than names of attributes: what is not near goes on to a backend, which has names of its own


def suggesting(function: Callable[P, R]) -> Callable[P, R]:
    """Function that raises TypeError for an unknown keyword that is near the name of a parameter, and names that."""
    parameters = inspect.signature(function).parameters.values()
    names = [each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
    known, open_ended = frozenset(names), any(each.kind is each.VAR_KEYWORD for each in parameters)

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in sorted(kwargs.keys() - known):
            other = ALSO.get(name) if ALSO.get(name) in known else None
            if not open_ended or ((other or is_near(name, names)) and not is_option(name)):
                hint = f"; did you mean {other!r}?" if other else meant(name, names)
                raise TypeError(f"{function.__name__}() takes no argument {name!r}{hint}")
        return function(*args, **kwargs)

    return checked


def is_near(name: str, names: Iterable[str]) -> bool:
    """Whether a keyword is spelt nearly as a parameter is, so that it is hardly meant for anything else."""
    return bool(near(name, names, cutoff=NEARER))


class Suggesting:
    """Object whose unknown attributes are told with what they may be meant for."""

    if not TYPE_CHECKING:  # a type checker would take every name for one of Any

        def __getattr__(self, name: str) -> Any:
            kind = type(self)
            if name.startswith("_") or hasattr(kind, name):  # a property that failed: its own error
                return object.__getattribute__(self, name)
            public = [each for each in dir(kind) if not each.startswith("_")]
            hint = self._elsewhere(name) or meant(name, public)
            raise AttributeError(f"{kind.__name__!r} object has no attribute {name!r}{hint}", name=name)

    def _elsewhere(self, name: str) -> str:
        """End of the message, where the name is one of something else."""
        return ""


class Named(Suggesting, Mapping[K, V_co]):
    """Mapping whose keys IPython and Jupyter offer on Tab."""

    def _elsewhere(self, name: str) -> str:
        keys = {key for key, _ in zip(self, range(MANY), strict=False)}
        return f"; did you mean [{name!r}]?" if name in keys else ""

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _ipython_key_completions_(self) -> list[Any]:
        return list(self)
