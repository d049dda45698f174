"""Names that people type: misspelt keywords are reported before anything is opened, and keys are completed."""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from zarr_vectors_lazy.errors import SelectionError, meant, near
from zarr_vectors_lazy.storage.resolve import is_option

P = ParamSpec("P")
R = TypeVar("R")
K = TypeVar("K")
V_co = TypeVar("V_co", covariant=True)
ALSO = {  # names from other libraries, or of the parts of a level, that are not spelt like anything here
    "attrs": "vertex_attributes",
    "bins": "bin_shape",
    "codec": "compressor",
    "columns": "attributes",
    "compression": "compressor",
    "edge_attributes": "link_attributes",
    "exist_ok": "mode",
    "face_attributes": "link_attributes",
    "mode": "overwrite",
    "names": "attribute_names",
    "overwrite": "mode",
    "spacing": "chunk_shape",
    "where": "attribute_filter",
}
FLAGS = frozenset({"consolidated"})  # parameters that are True, False or None
LISTS = frozenset({"attributes", "columns"})  # parameters that are names, one or several
MANY = 1000  # most keys of a mapping that are searched
NEARER = 0.7  # stricter than for attributes: other keywords are passed to a backend, which has names of its own


def suggesting(function: Callable[P, R]) -> Callable[P, R]:
    """Wrap a function so that a keyword spelt almost like a parameter is a TypeError that suggests it.

    Text for True or False, and what is no list of names where one is expected, are SelectionErrors.
    """
    parameters = inspect.signature(function).parameters.values()
    names = [each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
    known, open_ended = frozenset(names), any(each.kind is each.VAR_KEYWORD for each in parameters)
    flags = frozenset(each.name for each in parameters if isinstance(each.default, bool)) | (FLAGS & known)
    lists = LISTS & known

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in sorted(kwargs.keys() - known):
            other = ALSO.get(name) if ALSO.get(name) in known else None
            option = is_option(name) and f"{name}s" not in known  # object_id= is one of Azure, but not object_ids=
            if not open_ended or ((other or is_near(name, names)) and not option):
                hint = f"; did you mean {other!r}?" if other else meant(name, names)
                raise TypeError(f"{function.__name__}() takes no argument {name!r}{hint}")
        for name in flags & kwargs.keys():
            check_flag(name, kwargs[name])
        for name, value in {**dict(zip(names, args, strict=False)), **kwargs}.items() if lists else ():
            if name in lists and not isinstance(value, Iterable | None):
                raise SelectionError(f"{name} must be names, found {value!r}")
        return function(*args, **kwargs)

    return checked


def check_flag(name: str, value: Any) -> None:
    """Raise SelectionError if it is text: ``"no"`` would count as true."""
    if isinstance(value, str):
        raise SelectionError(f"{name} must be True or False, found {value!r}")


def is_near(name: str, names: Iterable[str]) -> bool:
    """Whether a keyword is spelt so much like a parameter that it is hardly meant for anything else."""
    return bool(near(name, names, cutoff=NEARER))


class Suggesting:
    """Object that suggests, for an unknown attribute, what may be meant."""

    if not TYPE_CHECKING:  # a type checker would take every name for an attribute of type Any

        def __getattr__(self, name: str) -> Any:
            kind = type(self)
            if name.startswith("_") or hasattr(kind, name):  # a property that failed raises its own error
                return object.__getattribute__(self, name)
            public = [each for each in dir(kind) if not each.startswith("_")]
            hint = self._elsewhere(name) or meant(name, public)
            raise AttributeError(f"{kind.__name__!r} object has no attribute {name!r}{hint}", name=name)

    def _elsewhere(self, name: str) -> str:
        """End of the message, if something else has an attribute of this name."""
        return ""


class Named(Suggesting, Mapping[K, V_co]):
    """Mapping whose keys IPython and Jupyter complete on Tab."""

    def _elsewhere(self, name: str) -> str:
        keys = {key for key, _ in zip(self, range(MANY), strict=False)}
        return f"; did you mean [{name!r}]?" if name in keys else ""

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _ipython_key_completions_(self) -> list[Any]:
        return list(self)
