#!/usr/bin/env python3
"""One word for each chore: set up what it needs, then run it.

``python3 dev.py --help`` lists the words. This needs Python 3.11 or newer and what ``pip`` is configured to reach, and
nothing else: environments are made next to this file (``.venv*``), with the versions in ``lock/``, and again when
``pyproject.toml`` or the lock changes.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent
GOLDEN = ROOT / "tests" / "data" / "0.9-by-zarr-vectors-0.9.2"
LOCKED = ("3.11", "3.12", "3.13")
SMOKED = ("none", "obstore", "cloud", "all", "minimum")
PARALLEL = ("-n", "2", "--dist", "loadfile")  # servers and clusters are shared by the tests of a file
AZURITE = "azurite@3.35.0"  # for the tests
SAMPLED = ("laspy", "meshio", "navis", "nibabel", "plyfile", "trimesh", "trx-python")  # they ship sample files
WHEELS = ("navis",)  # their source archives, which pip does not unpack
FUZZED = tuple(f"tests/faults/test_fuzz_{what}.py" for what in ("decoders", "files", "metadata"))
DEVELOPED = ("--group", f"{ROOT / 'pyproject.toml'}:dev", "--editable", f"{ROOT}[all]")
SOURCES = ("zarr_vectors_lazy", "tests", "benchmarks", "dev.py")


def run(*command: object, cwd: Path = ROOT) -> None:
    """Run a command in the folder of this file; if it fails, exit with its exit code."""
    print("+", *command, flush=True)
    code = subprocess.run([str(part) for part in command], cwd=cwd, check=False).returncode
    if code:
        sys.exit(code)


class Python(NamedTuple):
    """An interpreter: its path, "3.13", its full version; and whether the lock is ignored."""

    path: str
    number: str
    version: str
    newest: bool = False

    @property
    def lock(self) -> Path:
        """The exact versions with which this Python is developed."""
        return ROOT / "lock" / f"{self.number}.txt"

    def constraints(self) -> list[object]:
        """Options of ``pip install``; a package that the lock does not name is installed in its newest version."""
        if self.newest or not self.lock.exists():
            return []
        return ["--constraint", self.lock, "--build-constraint", self.lock]


def find_python(name: str, newest: bool = False) -> Python | None:
    """Interpreter for a path or a name like python3.13: on the PATH, or one of pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    number = re.fullmatch(r"python(3\.\d+)", name)
    installed = sorted(pyenv.glob(f"{number[1]}.*/bin/python")) if number else []
    for path in (shutil.which(name), *map(str, installed)):
        try:
            said = quiet([path, "-c", "import sys; print(*sys.version_info[:2], sep='.'); print(sys.version)"])
        except (RuntimeError, OSError):  # a shim of pyenv for a version that is not selected
            continue
        return Python(path, said.splitlines()[0], said, newest)
    return None


def make_venv(python: Python, where: Path, constraints: list[object]) -> Path:
    """Make an environment whose pip supports dependency groups and build constraints (25.3); return its Python."""
    quiet([python.path, "-m", "venv", "--clear", where])
    inside = where / ("Scripts" if os.name == "nt" else "bin") / "python"
    quiet([inside, "-m", "pip", "install", "--quiet", "--upgrade", "pip>=25.3", *constraints[:2]])
    return inside


def quiet(command: list[object], cwd: Path = ROOT) -> str:
    """Output of a command; if it fails, its output is shown with the error."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        check=False,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))} failed ({done.returncode}):\n{done.stdout}")
    return done.stdout


def environment(name: str, python: Python, *wanted: str) -> Path:
    """Python of ``.venv<name>``, which has this checkout (editable) and what ``wanted`` tells pip to install."""
    name += "-newest" if python.newest else ""
    name += "" if python.path == sys.executable else f"-{python.number}"
    where = ROOT / f".venv{name}"
    stamp = where / "installed"
    constraints = python.constraints()
    wants = python.lock.read_text() if constraints else time.strftime("the newest of %Y-%m-%d" if python.newest else "")
    content = [(ROOT / "pyproject.toml").read_text(), wants, python.version, *wanted]
    state = hashlib.sha256("\n".join(content).encode()).hexdigest()
    inside = where / ("Scripts" if os.name == "nt" else "bin") / "python"
    if stamp.exists() and stamp.read_text() == state:
        return inside
    print(f"+ setting up {where.name} with Python {python.number} (a minute or two)", flush=True)
    make_venv(python, where, constraints)
    run(inside, "-m", "pip", "install", "--quiet", *constraints, *wanted)
    freely = (
        pinned(quiet([inside, "-m", "pip", "freeze", "--exclude-editable"])) - pinned(wants) if constraints else set()
    )
    if freely:
        print(f"lock/{python.lock.name} lacks {', '.join(sorted(freely))}, installed as newest: python3 dev.py lock")
    stamp.write_text(state)
    return inside


def pinned(lines: str) -> set[str]:
    """Packages in lines of Name==1.2, with names as an index spells them."""
    return {spelled(line.split("==")[0]) for line in lines.splitlines() if "==" in line}


def spelled(name: str) -> str:
    """A package's name as an index spells it."""
    return re.sub("[-_.]+", "-", name).lower()


def full(python: Python) -> Path:
    """Python of the developers' environment: every extra, every tool."""
    return environment("", python, *DEVELOPED)


def azurite(inside: Path) -> None:
    """Install Microsoft's emulator of Azure's blobs into .node, with the Node.js that the environment brings."""
    stamp = ROOT / ".node" / "installed"
    if stamp.exists() and stamp.read_text() == AZURITE:
        return
    print(f"+ installing {AZURITE} into .node (half a minute)", flush=True)
    flags = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-save", "--loglevel=error"]
    quiet([inside.with_name("npm"), "install", "--prefix", stamp.parent, *flags, AZURITE])
    stamp.write_text(AZURITE)


def setup(python: Python, rest: list[str]) -> None:
    """Make the environment .venv with every extra and tool."""
    azurite(full(python))


def lock(python: Python, rest: list[str]) -> None:
    """Write what pyproject.toml needs into lock/; `lock numpy` updates one package, `lock --newest` all."""
    for number in LOCKED:
        found = find_python(f"python{number}", python.newest)
        if found is None:
            print(f"lock/{number}.txt stays as it is: no python{number} here")
            continue
        with tempfile.TemporaryDirectory() as temp:
            report, held = Path(temp, "report.json"), Path(temp, "held.txt")
            old = found.lock.read_text().splitlines(keepends=True) if found.constraints() else []
            held.write_text("".join(line for line in old if not pinned(line) & set(map(spelled, rest))))
            inside = make_venv(found, Path(temp, "venv"), [])
            resolve = ("-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", report)
            run(inside, *resolve, "--constraint", held, "pip", "hatchling", "hatch-fancy-pypi-readme", *DEVELOPED)
            chosen = [each["metadata"] for each in json.loads(report.read_text())["install"]]
        lines = sorted(f"{spelled(each['name'])}=={each['version']}\n" for each in chosen)
        kept = [line for line in lines if not line.startswith("zarr-vectors-lazy==")]
        found.lock.parent.mkdir(exist_ok=True)
        found.lock.write_text("".join(["# Written by `python3 dev.py lock`.\n", *kept]))
        print(f"lock/{number}.txt names {len(kept)} packages")


def test(python: Python, rest: list[str]) -> None:
    """Tests without emulators, clusters and the reference package (a minute, offline)."""
    quick = "not browser and not emulator and not distributed and not reference and not network and not stress"
    run(full(python), "-m", "pytest", *PARALLEL, "-m", quick, *rest)


def lint(python: Python, rest: list[str]) -> None:
    """Ruff (check and format) and the import contracts."""
    inside = full(python)
    run(inside, "-m", "ruff", "check", *SOURCES)
    run(inside, "-m", "ruff", "format", "--check", *SOURCES)
    run(inside.with_name("lint-imports"))


def types(python: Python, rest: list[str]) -> None:
    """Mypy, strict."""
    run(full(python), "-m", "mypy")


def check(python: Python, rest: list[str]) -> None:
    """Lint, types and every test, including those with emulators and clusters: what CI runs."""
    lint(python, [])
    types(python, [])
    inside = full(python)
    azurite(inside)
    run(inside, "-m", "pytest", *PARALLEL, *rest)


def browser(python: Python, rest: list[str]) -> None:
    """The page of `zvl view` and Neuroglancer in Chromium, which must be on the PATH; not part of check."""
    run(full(python), "-m", "pytest", "-m", "browser", *rest)


def stress(python: Python, rest: list[str]) -> None:
    """Long tests: 10,000 faults, 5,000 inputs for each decoder and format (or FAULTS, FUZZ, SEED)."""
    os.environ.setdefault("FUZZ", "5000")
    os.environ.setdefault("FAULTS", "10000")
    inside = full(python)
    run(inside, "-m", "pytest", "-m", "stress", "--capture=tee-sys", *rest)
    run(inside, "-m", "pytest", *FUZZED, *rest)


def samples(python: Python, rest: list[str]) -> None:
    """Fetch the source archives of other libraries, and read and write every file in them that we can read."""
    inside = full(python)
    with tempfile.TemporaryDirectory() as temp:
        for name in SAMPLED:
            whole = [] if name in WHEELS else ["--no-binary", name]
            quiet([inside, "-m", "pip", "download", "--quiet", "--no-deps", *whole, "--dest", temp, name])
        for path in list(Path(temp).iterdir()):
            shutil.unpack_archive(path, temp, "zip" if path.suffix == ".whl" else None)
        os.environ["SAMPLES"] = temp
        run(inside, "-m", "pytest", "-rs", "tests/files/test_samples.py", *rest)


def neighbours(python: Python, rest: list[str]) -> None:
    """Tests of conversions to other libraries and napari, in an environment with the heavy ones too."""
    old = "setuptools<81"  # the last for pkg_resources, which SpatialData's xarray-schema imports
    heavy = ("--group", f"{ROOT / 'pyproject.toml'}:test", "--editable", f"{ROOT}[all,neurons,spatialdata,napari]", old)
    tests = ("tests/files/test_neighbours.py", "tests/test_napari.py")
    quiet = ("-p", "no:napari", "-W", "ignore:`json_encoders` is deprecated")  # napari's plugin, and its pydantic
    run(environment("-neighbours", python, *heavy), "-m", "pytest", "-rs", *quiet, *tests, *rest)


def bench(python: Python, rest: list[str]) -> None:
    """Benchmarks, compared with the reference package (about 12 minutes)."""
    run(full(python), "-m", "benchmarks", *rest)


def docs(python: Python, rest: list[str]) -> None:
    """Build the documentation into site/; a warning is an error."""
    os.environ.setdefault("NO_MKDOCS_2_WARNING", "1")  # the theme's notice of its successor
    run(full(python), "-m", "mkdocs", "build", "--strict", "--quiet", *rest)


def demo(python: Python, rest: list[str]) -> None:
    """Show the main job on real tractography: levels, a coarse level, a box, requests, and a picture."""
    inside = environment("-demo", python, "--editable", f"{ROOT}[obstore,plot]")
    run(inside, "-m", "zarr_vectors_lazy.demo", *rest)


def extras(python: Python, rest: list[str]) -> None:
    """Install with no extra, [obstore], [cloud], [all] and the minimum versions, one by one, and smoke-test each."""
    with tempfile.TemporaryDirectory() as temp, ThreadPoolExecutor(2) as pool:
        builder = make_venv(python, Path(temp, "build"), [])
        quiet([builder, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", temp, ROOT])
        (wheel,) = Path(temp).glob("*.whl")
        running = {name: pool.submit(smoke, python, Path(temp), wheel, name) for name in rest or SMOKED}
        failed = 0
        for name, result in running.items():
            try:
                print(f"{name}: {result.result()}", flush=True)
            except RuntimeError as error:
                failed += 1
                print(f"{name}: FAILED: {error}", flush=True)
    print(f"{len(running) - failed} passed, {failed} failed")
    sys.exit(bool(failed))


def release(python: Python, rest: list[str]) -> None:
    """Build wheel and sdist into dist/, check them, and use each as a new user would, in fresh environments."""
    version = re.search(r'^__version__ = "(.+)"$', (ROOT / "zarr_vectors_lazy" / "__init__.py").read_text(), re.M)[1]
    for name, stated in (
        ("CHANGELOG.md", f"## {version}"),
        ("CITATION.cff", f"version: {version}\n"),
        ("docs/contributors/release.md", f"`{version}`"),
    ):
        if stated not in (ROOT / name).read_text():
            sys.exit(f"{name} does not say {stated.strip()!r}: write down what {version} is")
    dist = ROOT / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    with tempfile.TemporaryDirectory() as temp:
        builder = make_venv(python, Path(temp, "build"), [])
        quiet([builder, "-m", "pip", "install", "--quiet", "build", "twine"])
        print(quiet([builder, "-m", "build", "--outdir", dist, ROOT]).splitlines()[-1])
        built = sorted(dist.iterdir())
        print(quiet([builder, "-m", "twine", "check", "--strict", *built]).strip())
        for path in built:
            inside = make_venv(python, Path(temp, path.name), [])
            quiet([inside, "-m", "pip", "install", "--quiet", f"{path}[cli]"])
            print(f"{path.name}, {path.stat().st_size:,} bytes: {first_use(inside, Path(temp), version)}", flush=True)
    print(f"dist/ is ready to be uploaded: {', '.join(path.name for path in built)}")


def first_use(inside: Path, temp: Path, version: str) -> str:
    """Run what a new user runs, outside the checkout: the command, an example, a read."""
    command, store = inside.with_name("zvl"), temp / f"{inside.parents[1].name}.zarrvectors"
    said = quiet([command, "--version"], cwd=temp).strip()
    if said != f"zvl {version}":
        raise RuntimeError(f"zvl --version says {said!r}")
    quiet([command, "example", "tracts", store], cwd=temp)
    quiet([command, "validate", store], cwd=temp)
    code = (
        f"import zarr_vectors_lazy as zvl; print(len(zvl.open_zv({str(store)!r})[0].vertices.compute()), zvl.__file__)"
    )
    rows, file = quiet([inside, "-c", code], cwd=temp).split()
    told = quiet([inside, "-c", "import importlib.metadata as m; print(m.metadata('zarr-vectors-lazy').get_payload())"])
    if "![" in told or "## Formats and stores" not in told:
        raise RuntimeError("the long description is not README.md without its picture")
    if not Path(file).is_relative_to(temp) or not Path(file).with_name("py.typed").exists():
        raise RuntimeError(f"{file} is not what was installed, or has no py.typed")
    return f"{said}, {int(rows):,} vertices read"


def smoke(python: Python, temp: Path, wheel: Path, name: str) -> str:
    """Install the wheel with one extra in a fresh environment, and run the smoke test in it."""
    start = time.perf_counter()
    inside = make_venv(python, temp / name, [])
    pins = minimum_versions() if name == "minimum" else []
    chosen = {"none": "", "minimum": "[all]"}.get(name, f"[{name}]")
    quiet([inside, "-m", "pip", "install", "--quiet", f"{wheel}{chosen}", *pins])
    said = quiet([inside, ROOT / "tests" / "smoke.py", name, GOLDEN], cwd=temp)
    return f"{said.strip()} ({time.perf_counter() - start:.0f} s)"


def minimum_versions() -> list[str]:
    """What the package and its extra [all] need, each pinned to the lowest version that pyproject.toml allows."""
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    start = lines.index("dependencies = [")
    wanted = lines[start : lines.index("all = [")]
    found = (re.match(r'\s+"([\w\[\]-]+)>=([\d.]+)"', line) for line in wanted)
    return [f"{match[1]}=={match[2]}" for match in found if match]


WORDS = (
    setup,
    lock,
    test,
    lint,
    types,
    check,
    browser,
    stress,
    samples,
    neighbours,
    bench,
    docs,
    demo,
    extras,
    release,
)
HABITS = {word.__name__: word for word in WORDS}


def main() -> None:
    """Run the chore that the command line names; further arguments go to the tool."""
    listed = "\n".join(f"  {name:11}{(habit.__doc__ or '').splitlines()[0]}" for name, habit in HABITS.items())
    parser = argparse.ArgumentParser(
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"words:\n{listed}\n\nWhat follows is passed on, as in: python3 dev.py test -k box",
    )
    parser.add_argument("word", choices=HABITS, metavar="word")
    parser.add_argument("--python", default=sys.executable, help="run under another Python: --python python3.13")
    parser.add_argument("--newest", action="store_true", help="the newest versions of everything, not those of lock/")
    given, rest = parser.parse_known_args()
    python = find_python(given.python, given.newest)
    if python is None:
        sys.exit(f"no Python called {given.python!r} on the PATH or among pyenv's")
    if tuple(map(int, python.number.split("."))) < (3, 11):
        sys.exit(f"{python.path} is Python {python.number}, not 3.11 or newer: python3 dev.py WORD --python python3.12")
    HABITS[given.word](python, rest)


if __name__ == "__main__":
    main()
