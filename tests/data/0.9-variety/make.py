"""Writes the stores and what a reader must give of them: ``python make.py``, with zarr-vectors 0.9.2 installed."""

import inspect
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

import byhand
import graphs
import paths
import points
from expect import save

HERE = Path(__file__).parent


def recipes():
    """Every function named ``store_*``, by the name of its store."""
    for module in (points, paths, graphs, byhand):
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if name.startswith("store_"):
                yield name.removeprefix("store_").replace("_", "-"), function


def main(wanted):
    """Write the wanted stores, or all of them."""
    target = HERE / "stores"
    target.mkdir(exist_ok=True)
    for name, function in recipes():
        if wanted and name not in wanted:
            continue
        work = Path(tempfile.mkdtemp())
        try:
            kind, levels = function(work / "store")
            save(work / "store", name, kind, levels, target)
        finally:
            shutil.rmtree(work)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(sys.argv[1:])
