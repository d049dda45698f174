"""Writes the stores and what a reader must give of them: ``python make.py``, with zarr-vectors 0.2.0 installed."""

import inspect
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

HERE = Path(__file__).parent
sys.path.append(str(HERE.with_name("0.9-variety")))

import byhand  # noqa: E402
import joined  # noqa: E402
import written  # noqa: E402
from expect import save  # noqa: E402


def main(wanted):
    """Write the wanted stores, or all of them."""
    target = HERE / "stores"
    target.mkdir(exist_ok=True)
    for module in (written, joined, byhand):
        for name, function in inspect.getmembers(module, inspect.isfunction):
            label = f"{name.removeprefix('store_').replace('_', '-')}-0.7"
            if not name.startswith("store_") or (wanted and label not in wanted):
                continue
            work = Path(tempfile.mkdtemp())
            try:
                kind, levels = function(work / "store")
                save(work / "store", label, kind, levels, target)
            finally:
                shutil.rmtree(work)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(sys.argv[1:])
