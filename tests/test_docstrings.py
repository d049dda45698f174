"""Docstrings of public names: each has an example, which runs, and states shapes if it takes or returns arrays."""

import doctest
import inspect
import re

import numpy as np
import pytest

import zarr_vectors_lazy as zvl

SHAPE = re.compile(r"\((?:[A-Z]\w*|[0-9n])(?: \+ 1)?,")  # (N, D), (O + 1,), (n, k)


def public():
    """Functions and classes of ``__all__``, and methods and properties that the classes themselves define, by name."""
    for name in zvl.__all__:
        value = getattr(zvl, name)
        if not inspect.ismodule(value):
            yield name, value
        if inspect.isclass(value):
            for owner in value.__mro__:
                if owner.__module__.startswith("zarr_vectors_lazy"):
                    yield from ((f"{name}.{each}", member) for each, member in vars(owner).items() if each[0] != "_")


PUBLIC = {name: inspect.unwrap(value) for name, value in public()}
CALLED = {name: value for name, value in PUBLIC.items() if inspect.isfunction(value) or inspect.isclass(value)}


def test_every_name_has_a_docstring_and_what_is_called_an_example():
    assert [name for name, value in PUBLIC.items() if not inspect.getdoc(value)] == []
    assert [name for name, value in CALLED.items() if ">>> " not in inspect.getdoc(value)] == []


def test_arrays_have_shapes():
    arrays = [
        f"ZVLevel.{name}" for name in ("vertices", "edges", "faces", "links", "chunk_bounds", "nearest", "within")
    ]
    arrays += [name for name in CALLED if name.startswith(("read_", "write_"))]
    arrays += ["ZVLevel.sel", "ZVStore.to_world", "ZVStore.from_world", "suggest_chunk_shape", "build_pyramid"]
    assert [name for name in arrays if not SHAPE.search(inspect.getdoc(PUBLIC[name]))] == []


@pytest.mark.parametrize("name", CALLED)
def test_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    finder = doctest.DocTestParser().get_doctest(inspect.getdoc(CALLED[name]), {"zvl": zvl, "np": np}, name, None, 0)
    said = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(finder, out=said.append)
    assert not said, "".join(said)


@pytest.mark.parametrize(
    ("parameters", "kind"),
    [(("path", "url", "src", "dst"), "Path"), (("chunk_shape", "bin_shape"), "Lengths"), (("bbox",), "Box")],
)
def test_paths_boxes_and_lengths_have_types(parameters, kind):
    for name, function in CALLED.items():
        for each in set(parameters) & inspect.signature(function).parameters.keys():
            said = str(inspect.signature(function).parameters[each].annotation)
            assert said != "typing.Any", f"{name}({each}): a {kind} of zarr_vectors_lazy.types"
