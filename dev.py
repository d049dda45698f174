#!/usr/bin/env python3
"""One word per habit: set up what the habit needs, then run it.

``python3 dev.py --help`` lists the words. Needs Python 3.11 or newer and what ``pip`` is configured to reach, nothing
else: environments are made beside this file (``.venv*``) and made again when ``pyproject.toml`` changes.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent
GOLDEN = ROOT / "tests" / "data" / "0.9-by-zarr-vectors-0.9.2"
SMOKED = ("none", "obstore", "cloud", "all", "minimum")
PARALLEL = ("-n", "2", "--dist", "loadfile")  # servers and clusters are shared by the tests of a file
AZURITE = "azurite@3.35.0"  # for the tests
FUZZED = ("tests/faults/test_fuzz_decoders.py", "tests/faults/test_fuzz_metadata.py")
SOURCES = ("zarr_vectors_lazy", "tests", "benchmarks", "dev.py")


def run(*command: object, cwd: Path = ROOT) -> None:
    """Run a command where this file is; its failure ends the habit with its exit code."""
    print("+", *command, flush=True)
    code = subprocess.run([str(part) for part in command], cwd=cwd, check=False).returncode
    if code:
        sys.exit(code)


def make_venv(python: str, where: Path) -> Path:
    """Make an environment with a pip that knows dependency groups (25.1); return its Python."""
    quiet([python, "-m", "venv", "--clear", where])
    inside = where / ("Scripts" if os.name == "nt" else "bin") / "python"
    quiet([inside, "-m", "pip", "install", "--quiet", "--upgrade", "pip>=25.1"])
    return inside


def quiet(command: list[object], cwd: Path = ROOT) -> str:
    """Output of a command; where it fails, its output is shown with the error."""
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


def environment(name: str, python: str, *wanted: str) -> Path:
    """Python of ``.venv<name>``, which holds this checkout (editable) and what ``wanted`` tells pip to install."""
    version = quiet([python, "-c", "import sys; print(*sys.version_info[:2], sep='.'); print(sys.version)"])
    number = version.splitlines()[0]
    if tuple(map(int, number.split("."))) < (3, 11):
        sys.exit(f"{python} is Python {number}; this needs 3.11 or newer: python3 dev.py WORD --python python3.12")
    own = "" if python == sys.executable else f"-{number}"
    where = ROOT / f".venv{name}{own}"
    stamp = where / "installed"
    content = (ROOT / "pyproject.toml").read_bytes() + version.encode() + " ".join(wanted).encode()
    state = hashlib.sha256(content).hexdigest()
    inside = where / ("Scripts" if os.name == "nt" else "bin") / "python"
    if stamp.exists() and stamp.read_text() == state:
        return inside
    print(f"+ setting up {where.name} with Python {number} (a minute or two)", flush=True)
    make_venv(python, where)
    run(inside, "-m", "pip", "install", "--quiet", *wanted)
    stamp.write_text(state)
    return inside


def full(python: str) -> Path:
    """Python of the developer's environment: every extra, every tool."""
    return environment("", python, "--group", f"{ROOT / 'pyproject.toml'}:dev", "--editable", f"{ROOT}[all]")


def azurite(inside: Path) -> None:
    """Install Microsoft's emulator of Azure's blobs into .node, with the Node.js that the environment brings."""
    stamp = ROOT / ".node" / "installed"
    if stamp.exists() and stamp.read_text() == AZURITE:
        return
    print(f"+ installing {AZURITE} into .node (half a minute)", flush=True)
    flags = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-save", "--loglevel=error"]
    quiet([inside.with_name("npm"), "install", "--prefix", stamp.parent, *flags, AZURITE])
    stamp.write_text(AZURITE)


def setup(python: str, rest: list[str]) -> None:
    """Make the environment .venv with every extra and tool."""
    azurite(full(python))


def test(python: str, rest: list[str]) -> None:
    """Tests without emulators, clusters and the reference package (a minute, offline)."""
    quick = "not browser and not emulator and not distributed and not reference and not network and not stress"
    run(full(python), "-m", "pytest", *PARALLEL, "-m", quick, *rest)


def lint(python: str, rest: list[str]) -> None:
    """Ruff (check and format) and the import contracts."""
    inside = full(python)
    run(inside, "-m", "ruff", "check", *SOURCES)
    run(inside, "-m", "ruff", "format", "--check", *SOURCES)
    run(inside.with_name("lint-imports"))


def types(python: str, rest: list[str]) -> None:
    """Mypy, strict."""
    run(full(python), "-m", "mypy")


def check(python: str, rest: list[str]) -> None:
    """Lint, types and every test, those with emulators and clusters too: what CI runs."""
    lint(python, [])
    types(python, [])
    inside = full(python)
    azurite(inside)
    run(inside, "-m", "pytest", *PARALLEL, *rest)


def browser(python: str, rest: list[str]) -> None:
    """Tests of the page of `zvl view` in Chromium, which must be on the PATH; not part of check."""
    run(full(python), "-m", "pytest", "-m", "browser", *rest)


def stress(python: str, rest: list[str]) -> None:
    """What takes long: 10,000 faults, 5,000 random inputs for each decoder (FAULTS, FUZZ and SEED say otherwise)."""
    os.environ.setdefault("FUZZ", "5000")
    os.environ.setdefault("FAULTS", "10000")
    inside = full(python)
    run(inside, "-m", "pytest", "-m", "stress", "--capture=tee-sys", *rest)
    run(inside, "-m", "pytest", *FUZZED, *rest)


def bench(python: str, rest: list[str]) -> None:
    """Benchmarks beside the reference package (about 12 minutes)."""
    run(full(python), "-m", "benchmarks", *rest)


def docs(python: str, rest: list[str]) -> None:
    """Build the documentation into site/; a warning is an error."""
    os.environ.setdefault("NO_MKDOCS_2_WARNING", "1")  # the theme's notice of its successor
    run(full(python), "-m", "mkdocs", "build", "--strict", "--quiet", *rest)


def demo(python: str, rest: list[str]) -> None:
    """Show the main job on real tractography: levels, a coarse level, a box, requests, and a picture."""
    inside = environment("-demo", python, "--editable", f"{ROOT}[obstore,plot]")
    run(inside, "-m", "zarr_vectors_lazy.demo", *rest)


def extras(python: str, rest: list[str]) -> None:
    """Install with no extra, [obstore], [cloud], [all] and the minimum versions, each apart, and smoke-test it."""
    with tempfile.TemporaryDirectory() as temp, ThreadPoolExecutor(2) as pool:
        builder = make_venv(python, Path(temp, "build"))
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


def smoke(python: str, temp: Path, wheel: Path, name: str) -> str:
    """Install the wheel with one extra in a fresh environment, and run the smoke test in it."""
    start = time.perf_counter()
    inside = make_venv(python, temp / name)
    pins = minimum_versions() if name == "minimum" else []
    chosen = {"none": "", "minimum": "[obstore]"}.get(name, f"[{name}]")
    quiet([inside, "-m", "pip", "install", "--quiet", f"{wheel}{chosen}", *pins])
    said = quiet([inside, ROOT / "tests" / "smoke.py", name, GOLDEN], cwd=temp)
    return f"{said.strip()} ({time.perf_counter() - start:.0f} s)"


def minimum_versions() -> list[str]:
    """Core dependencies and obstore, each pinned to the least version that pyproject.toml allows."""
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    start = lines.index("dependencies = [")
    wanted = lines[start : lines.index("cloud = [")]
    found = (re.match(r'\s+"([\w\[\]-]+)>=([\d.]+)"', line) for line in wanted)
    return [f"{match[1]}=={match[2]}" for match in found if match]


HABITS = {word.__name__: word for word in (setup, test, lint, types, check, browser, stress, bench, docs, demo, extras)}


def main() -> None:
    """Run the habit that the command line names; what follows it goes to the tool."""
    listed = "\n".join(f"  {name:8}{(habit.__doc__ or '').splitlines()[0]}" for name, habit in HABITS.items())
    parser = argparse.ArgumentParser(
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"words:\n{listed}\n\nWhat follows is passed on, as in: python3 dev.py test -k box",
    )
    parser.add_argument("word", choices=HABITS, metavar="word")
    parser.add_argument("--python", default=sys.executable, help="run under another Python: --python python3.13")
    given, rest = parser.parse_known_args()
    python = shutil.which(given.python)
    if python is None:
        sys.exit(f"no Python called {given.python!r} on the PATH")
    HABITS[given.word](python, rest)


if __name__ == "__main__":
    main()
