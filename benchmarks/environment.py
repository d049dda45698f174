"""Where benchmarks store files, the reference package's environment, and what a result states about its machine."""

import os
import platform
import subprocess
import sys
import venv
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / "benchmarks" / ".cache"
REFERENCE = "zarr-vectors==0.9.2"
SHARED = ("zarr", "numpy", "numcodecs", "dask", "obstore")  # the same versions for both packages
UNSET = ("PYTHONPATH", "PYTHONHOME", "ZARR_VECTORS_BACKEND")


def reference_python(folder: Path = CACHE / "reference", package: str = REFERENCE) -> Path:
    """Python of the environment in which the reference package, or another, is installed; made on first use.

    It gets the versions of zarr, numpy, dask and obstore that this environment has: what differs is the reader.
    """
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    pins = [f"{name}=={version(name)}" for name in SHARED]
    wanted, stamp = "\n".join([package, *pins]), folder / "installed.txt"
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    print(f"setting up {folder} (once): {package}", file=sys.stderr)
    venv.create(folder, with_pip=True, clear=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", package, *pins], check=True, env=clean_environment())
    stamp.write_text(wanted)
    return python


def clean_environment(**more: str) -> dict[str, str]:
    """Environment of this process, without what would change the package or backend that a measurement uses."""
    kept = {name: value for name, value in os.environ.items() if name not in UNSET and not name.startswith("AWS_")}
    return kept | {"AWS_EC2_METADATA_DISABLED": "true", "AWS_METADATA_ENDPOINT": "http://127.0.0.1:9"} | more


def versions(*names: str) -> dict[str, str]:
    """Versions of this Python and of the installed ones among ``names``."""
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, str | int | float]:
    """What times depend on and a table should state."""
    return {
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load at start": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else 0.0,
        "commit": commit(),
    }


def cpu_model() -> str:
    """Name of the processor, as Linux states it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def commit() -> str:
    """Commit that was measured, with a plus sign if the package has uncommitted changes."""
    asked = ["git", "describe", "--always", "--dirty=+", "--abbrev=10", "--exclude=*"]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()
