"""Rules about the project itself, each with a test that enforces it."""

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
import tomllib
import zlib
from pathlib import Path

import pytest

import zarr_vectors_lazy

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "zarr_vectors_lazy"
DOCUMENTED_ZARR = {f"zarr.{name}" for name in ("abc", "api", "buffer", "codecs", "errors", "storage", "testing")}


def test_every_module_imports_without_a_warning():
    found = [info.name for info in pkgutil.walk_packages(zarr_vectors_lazy.__path__, "zarr_vectors_lazy.")]
    assert found
    for name in found:
        importlib.import_module(name)


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_only_documented_modules_of_zarr_are_imported():
    used = {name for path in PACKAGE.rglob("*.py") for name in imported(path) if name.split(".")[0] == "zarr"}
    assert {name for name in used if ".".join(name.split(".")[:2]) not in DOCUMENTED_ZARR | {"zarr"}} == set()


def test_all_extra_is_the_union_of_the_others():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    (everything,) = extras.pop("all")
    for heavy in ("neurons", "spatialdata", "napari"):  # see pyproject.toml
        del extras[heavy]
    assert everything == f"{project['name']}[{','.join(extras)}]"


def test_every_minimum_version_says_why():
    text = (ROOT / "pyproject.toml").read_text()
    lines = text[text.index("dependencies = [") : text.index("[dependency-groups]")].splitlines()
    silent = [line for line in lines if ">=" in line and "#" not in line]
    assert silent == []


def test_makefile_and_script_know_the_same_words():
    words = (ROOT / "Makefile").read_text().split(".PHONY:")[1].split()
    script = (ROOT / "dev.py").read_text()
    listed = script[script.index("WORDS = (") :].split("(", 1)[1].split(")")[0]
    assert words == re.findall(r"\w+", listed)


@pytest.mark.parametrize("number", ["3.11", "3.12", "3.13"])
def test_lock_is_of_exact_versions_and_of_no_index(number):
    header, *lines = (ROOT / "lock" / f"{number}.txt").read_text().splitlines()
    assert header.startswith("#")
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[\w.+!]+", line)] == []
    tools = {"dask", "hatchling", "mypy", "numpy", "pip", "pytest", "ruff", "zarr"}
    assert tools <= {line.split("==")[0] for line in lines}


def test_public_names_are_those_of_the_contract():
    names = """
        ZVLevel ZVStore build_pyramid coarsen_level consolidate cors errors example index ingest migrate
        open_store open_zv read_graph read_lines read_mesh read_points read_polylines
        rechunk recompress shard suggest_chunk_shape testing validate write_graph write_lines
        write_mesh write_points write_polylines
    """
    assert sorted(zarr_vectors_lazy.__all__) == names.split()


def test_the_wheel_stays_small_and_has_what_it_needs():
    package = Path(zarr_vectors_lazy.__file__).parent
    files = [path for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert sum(len(zlib.compress(path.read_bytes())) for path in files) < 1_600_000
    assert {"py.typed", "tracts.tar.zst", "page.html"} <= {path.name for path in files}


def test_one_version_is_told_everywhere():
    version = zarr_vectors_lazy.__version__
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"`{version}`" in (ROOT / "docs" / "contributors" / "release.md").read_text()
    assert f"\n## {version}" in (ROOT / "CHANGELOG.md").read_text()


def test_it_imports_and_reads_without_optional_packages():
    hidden = [
        "obstore",
        "s3fs",
        "gcsfs",
        "adlfs",
        "distributed",
        "pyarrow",
        "matplotlib",
        "nibabel",
        "laspy",
        "networkx",
        "awkward",
    ]
    code = f"import sys; sys.modules.update(dict.fromkeys({hidden}))\n"
    code += "import zarr_vectors_lazy as zvl; print(len(zvl.open_zv(zvl.example('cloud'))[0].vertices.compute()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "4946", done.stderr
