"""What must work in an environment with some of the extras: ``python tests/smoke.py EXTRA FOLDER-OF-GOLDEN-STORES``.

`dev.py extras` runs it with the package installed from a wheel; nothing here uses the network.
"""

import importlib.util
import json
import subprocess
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path

import dask
import numpy as np
import xarray as xr

import zarr_vectors_lazy as zvl

CLOUD = {"s3fs", "gcsfs", "adlfs"}
FILES = {"awkward", "laspy", "networkx", "nibabel"}
INSTALLED = {  # of the optional packages
    "none": set(),
    "obstore": {"obstore"},
    "cloud": CLOUD,
    "all": {"obstore", *CLOUD, "distributed", "pyarrow", "typer", "rich", "matplotlib", *FILES, "neuroglancer"},
}
INSTALLED["minimum"] = INSTALLED["all"]
URL = "s3://a-bucket/store.zarrvectors"
NOBODY = "http://127.0.0.1:9"
CLIENTS = {  # of each package, with what leads to a server that does not exist
    "obstore": {
        "backend": "obstore",
        "endpoint": NOBODY,
        "access_key_id": "a",
        "secret_access_key": "b",
        "client_options": {"allow_http": True},
    },
    "s3fs": {"backend": "fsspec", "endpoint_url": NOBODY, "key": "a", "secret": "b"},
}


def refusal(**options):
    """Message with which opening a cloud URL is refused, or ""."""
    try:
        zvl.open_zv(URL, **options)
    except zvl.errors.StoreError as error:
        return str(error)
    return ""


def read(folder):
    """Read a golden store whole and by a box, and compare."""
    meta = json.loads((folder / "tracts-0.9.expected.json").read_text())
    with tempfile.TemporaryDirectory() as temp:
        with zipfile.ZipFile(folder / "tracts-0.9.zarrvectors.zip") as packed:
            packed.extractall(temp)
        store = zvl.open_zv(temp)
        for level, wanted in zip(store, meta["levels"], strict=True):
            assert level.vertices.compute().shape == (wanted["vertex_count"], 3)
            assert level.edges.compute().shape == (wanted["edges"], 2)
            for box in wanted["bbox"]:
                inside = level.sel(bbox=(box["lo"], box["hi"])).vertices.compute()
                assert len(inside) == box["count"]
        lengths = store[0].attributes["arc_length"].compute()
        assert lengths.dtype == np.float32
        assert store.levels == [0, 1, 2]


def read_elsewhere(folder, command):
    """Open through xarray's entry point, and run the script."""
    with tempfile.TemporaryDirectory(suffix=".zarrvectors") as temp:
        with zipfile.ZipFile(folder / "tracts-0.9.zarrvectors.zip") as packed:
            packed.extractall(temp)
        assert xr.open_dataset(temp).sizes["vertex"] == 5261
        assert list(xr.open_datatree(temp, engine="zarr_vectors").children) == ["0", "1", "2"]
        script = Path(sys.executable).with_name("zvl")
        done = subprocess.run([script, "info", temp, "--json"], capture_output=True, text=True, check=False)
        if command:
            assert json.loads(done.stdout)["levels"][0]["vertices"] == 5261, done.stderr
        else:
            assert "pip install" in done.stderr, done.stderr


def make(present):
    """Write a small store and its pyramid, open it through xarray's engine; what is not installed is named."""
    positions = np.random.default_rng(0).random((600, 3), np.float32) * 100
    with tempfile.TemporaryDirectory() as temp:
        made = f"{temp}/made.zarrvectors"
        zvl.write_polylines(made, [positions[:300], positions[300:]], chunk_shape=50, bin_shape=10)
        zvl.build_pyramid(made, factors=[(2, 1)])
        assert zvl.validate(made).ok
        fine, coarse = (xr.open_dataset(made, engine="zarr_vectors", level=i).load() for i in (0, 1))
        assert sorted(map(tuple, fine["vertices"].values)) == sorted(map(tuple, positions))
        assert 0 < coarse.sizes["vertex"] < 600
        level = zvl.open_zv(made)[0]
        calls = {"pyarrow": level.to_dask_dataframe, "matplotlib": level.plot, "awkward": level.objects.to_awkward}
        for package, call in calls.items():
            said = missing(call)
            assert ("pip install 'zarr-vectors-lazy[" in said) == (package not in present), (package, said)


def missing(call):
    """Message of the ImportError that a call raises, or ""."""
    try:
        call()
    except ImportError as error:
        return str(error)
    return ""


def main(extra, folder):
    """Check what is installed, what is refused and how, and that a local store reads."""
    present = {package for package in INSTALLED["all"] if importlib.util.find_spec(package)}
    assert present == INSTALLED[extra], f"installed: {present}"
    if extra == "none":
        assert "pip install" in refusal(), refusal()
    if "obstore" not in present:
        assert "pip install" in refusal(backend="obstore"), refusal(backend="obstore")
    if "s3fs" not in present:
        assert "pip install" in refusal(backend="fsspec"), refusal(backend="fsspec")
    for package in CLIENTS.keys() & present:
        with dask.config.set({"zarr_vectors_lazy.retries": 0}):
            said = refusal(**CLIENTS[package])
        assert said, package
        assert "refuses" not in said, said
    read(Path(folder))
    read_elsewhere(Path(folder), "typer" in present)
    make(present)
    print("ok; with", ", ".join(sorted(present)) or "no optional package")


if __name__ == "__main__":
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", "'.*' deprecated - use", DeprecationWarning)
    main(*sys.argv[1:])
