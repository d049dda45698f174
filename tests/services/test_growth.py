"""Many stores, many keys, few files: what a process holds does not grow with what it opened."""

import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.emulator
OPENS = """
import gc, os, sys, time, warnings
import psutil
import zarr_vectors_lazy as zvl
from zarr_vectors_lazy.testing import counting

url, backend, stores, passes, keys = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5] == "keys"
me = psutil.Process()
name = {"obstore": "access_key_id", "fsspec": "key"}.get(backend, "")

def options(i):
    if backend == "local" or not url.startswith("http"):
        return {}
    end = {"obstore": "endpoint", "fsspec": "endpoint_url"}[backend]
    secret = {"obstore": "secret_access_key", "fsspec": "secret"}[backend]
    region = {"region": "us-east-1"} if backend == "obstore" else {"client_kwargs": {"region_name": "us-east-1"}}
    return {end: url, name: f"AKIA{i if keys else 0}", secret: "secret", **region}

where = "s3://loopback/growth" if url.startswith("http") else url
for _ in range(passes):
    for i in range(stores):
        zvl.open_zv(f"{where}/{0 if keys else i}", backend=backend, storage_options=options(i))[0].vertices.compute()
    gc.collect()
    time.sleep(0.3)
    print(me.memory_info().rss, me.num_fds(), me.num_threads(), flush=True)
"""


def passes(*arguments):
    done = subprocess.run(
        [sys.executable, "-c", OPENS, *map(str, arguments)], capture_output=True, text=True, check=True
    )
    return [tuple(map(int, line.split())) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def many(s3, tmp_path_factory):
    import zarr_vectors_lazy as zvl  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("growth")
    for i in range(40):
        zvl.write_points(folder / str(i), [[1.0, 2, 3], [11, 2, 3]], chunk_shape=10)
    s3.upload(folder, "growth")
    return folder


@pytest.mark.parametrize("backend", ["obstore", "fsspec", "local"])
def test_opening_stores_again_and_again_takes_no_more(many, s3, backend):
    within_a_tenth(passes(many if backend == "local" else s3.url, backend, 40, 4, "one"))


@pytest.mark.stress
@pytest.mark.parametrize("backend", ["obstore", "fsspec", "local"])
def test_a_thousand_opens_of_two_hundred_stores(many, s3, backend):
    folder = many.parent / "growth-200"
    for i in range(0 if folder.exists() else 200):
        shutil.copytree(many / "0", folder / str(i))
    s3.upload(folder, "growth")
    within_a_tenth(passes(folder if backend == "local" else s3.url, backend, 200, 5, "one"))


def within_a_tenth(passes):
    first, *_, last = passes
    for name, before, after in zip(("bytes", "files", "threads"), first, last, strict=True):
        print(f"{name}: {before:,} after the first pass, {after:,} after the last")
    assert last[0] < 1.1 * first[0]
    assert last[1] <= first[1] + 4
    assert last[2] <= first[2] + 4


@pytest.mark.parametrize("backend", ["obstore", "fsspec"])
def test_each_store_with_a_key_of_its_own(many, s3, backend):
    first, second = passes(s3.url, backend, 60, 2, "keys")
    assert first[0] < 700e6
    assert second[0] < first[0] + 60e6


FEW_FILES = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
import zarr_vectors_lazy as zvl
for i in range(4):
    print(len(zvl.open_zv(sys.argv[1], backend=sys.argv[2])[0].vertices.compute()))
import psutil
print(psutil.Process().num_fds())
open("/dev/null").close()
"""


@pytest.mark.parametrize("backend", ["obstore", "fsspec"])
def test_a_process_that_may_open_few_files(http_host, tmp_path, backend):
    import numpy as np  # noqa: PLC0415

    import zarr_vectors_lazy as zvl  # noqa: PLC0415
    from tests.services.fixtures import objects_in  # noqa: PLC0415

    zvl.write_points(tmp_path / "a", np.indices((10, 10, 10)).reshape(3, -1).T + 0.5, chunk_shape=1)
    zvl.consolidate(tmp_path / "a")
    http_host.put("few", objects_in(tmp_path / "a"))
    command = [sys.executable, "-c", FEW_FILES, f"{http_host.url}/few", backend]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    *rows, files = map(int, done.stdout.split())
    assert rows == [1000] * 4
    assert files < 200
