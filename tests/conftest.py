"""Golden stores, unpacked once per session, and an environment in which no client looks for credentials."""

import json
import os
import shutil
import threading
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import dask.threaded
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers

from tests.bounds import HANGS_S
from tests.services.fixtures import *  # noqa: F403  the services, for tests of every folder
from zarr_vectors_lazy.read import level as freshness  # not the fixture

DATA = Path(__file__).parent / "data"
STORES = {path.name.removesuffix(".zarrvectors.zip"): path for path in sorted(DATA.glob("*/*.zarrvectors.zip"))}
AMBIENT = ("AWS_", "AZURE_", "GOOGLE_", "GCS_", "GCE_", "GCSFS_", "ZARR_VECTORS_")
NOBODY = "127.0.0.1:9"  # the discard port, where connections are refused at once

# Set before any client is made, and inherited by the workers of a LocalCluster.
for name in [name for name in os.environ if name.startswith(AMBIENT)]:
    del os.environ[name]
os.environ |= {
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_METADATA_ENDPOINT": f"http://{NOBODY}",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "GCE_METADATA_HOST": NOBODY,
    "GCE_METADATA_IP": NOBODY,
    "NO_GCE_CHECK": "true",
    "AZURE_MSI_ENDPOINT": f"http://{NOBODY}",
    "AZURE_POD_IDENTITY_AUTHORITY_HOST": f"http://{NOBODY}",
    "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # it asks for a bucket's type over gRPC, which no emulator has
    "CLOUDSDK_CONFIG": os.devnull,
    "MPLBACKEND": "agg",
}

# Thousands of small files are made and deleted: thirty times faster in memory, if there is such a folder.
MEMORY = Path("/dev/shm")
if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > 2**31:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


# Property tests try the same examples in every run, however slow the machine is. Hypothesis would also try numbers and
# texts from the source of whatever modules of ours are loaded, which depends on the tests that ran before.
settings.register_profile(
    "same", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("same")
providers._get_local_constants = providers.Constants

# On a loaded machine there are pauses, and requests would not be the same in every run.
freshness.PAUSE = freshness.LONGEST = 1e9


@pytest.fixture(autouse=True)
def finished_threads():
    """A failed computation leaves other tasks running on Dask's threads, whose requests the next test would count."""
    yield
    if (pool := dask.threaded.default_pool) is not None:
        everyone = threading.Barrier(pool._max_workers)
        for met in [pool.submit(everyone.wait, HANGS_S) for _ in range(pool._max_workers)]:
            met.result()


@dataclass(frozen=True)
class Golden:
    """A store written by a released writer, and what a reader must return (``data/*/README.md``)."""

    name: str
    path: Path
    expected: dict[str, np.ndarray]
    meta: dict[str, Any]


def unpack(name: str, where: Path) -> Golden:
    packed = STORES[name]
    path = where / f"{name}.zarrvectors"
    with zipfile.ZipFile(packed) as files:
        files.extractall(path)
    with np.load(packed.with_name(f"{name}.expected.npz")) as arrays:
        expected = dict(arrays)
    meta = json.loads(packed.with_name(f"{name}.expected.json").read_text())
    return Golden(name=name, path=path, expected=expected, meta=meta)


@pytest.fixture(scope="session")
def goldens(tmp_path_factory) -> dict[str, Golden]:
    """Every golden store by name, such as ``tracts-0.9``."""
    where = tmp_path_factory.mktemp("golden")
    return {name: unpack(name, where) for name in STORES}


@pytest.fixture(scope="session", params=list(STORES))
def golden(request, goldens) -> Golden:
    """Each golden store in turn."""
    return goldens[request.param]


@pytest.fixture(scope="session")
def tracts(goldens) -> Path:
    return goldens["tracts-0.9"].path


@pytest.fixture(scope="session")
def neuron(goldens) -> Path:
    return goldens["neuron-0.9"].path


@pytest.fixture(scope="session")
def surface(goldens) -> Path:
    return goldens["surface-0.9"].path


@pytest.fixture(scope="session")
def cloud(goldens) -> Path:
    return goldens["cloud-0.9"].path


@pytest.fixture(scope="session")
def variety(tmp_path_factory):
    """Return the path of a store of the varieties, or of other writers, by name."""
    where = tmp_path_factory.mktemp("variety")

    @cache
    def unpacked(name):
        (packed,) = DATA.glob(f"*/stores/{name}.zarrvectors.zip")
        with zipfile.ZipFile(packed) as files:
            files.extractall(where / name)
        return where / name

    return unpacked
