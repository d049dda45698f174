"""Many stores, many keys, few files: the memory and files of a process do not grow with what it has opened."""

import json
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

import zarr_vectors_lazy as zvl
from tests.servers import ACCESS
from tests.services.catalogue import SERVICES, Place
from tests.services.fixtures import consolidated, objects_in, params

pytestmark = pytest.mark.emulator
NAMES = ("local", "s3-obstore", "s3-fsspec", "gs-obstore", "gs-fsspec", "az-obstore", "az-fsspec", "http-obstore")
WHERE = [service for service in SERVICES if service.name in {*NAMES, "http-fsspec", "sftp"}]
OPENS = """
import gc, json, sys, threading, time
import psutil
import zarr_vectors_lazy as zvl
from zarr_vectors_lazy.storage.io import gather, request_width

what, stores, passes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
me = psutil.Process()
# The pool starts its threads when they are needed, up to its width: here all of them.
everyone = threading.Barrier(request_width())
gather(lambda _: everyone.wait(), range(request_width()))
for _ in range(passes):
    for i in range(stores):
        path, options = json.loads(what.replace("NUMBER", str(i)))
        assert len(zvl.open_zv(path, **options)[0].vertices.compute()) == 2
    gc.collect()
    time.sleep(0.3)
    print(me.memory_info().rss, me.num_fds(), me.num_threads(), flush=True)
"""


def passes(path, options, stores, times):
    """Bytes, files and threads of a process after each time that it opened and read all stores."""
    command = [sys.executable, "-c", OPENS, json.dumps([str(path), options]), str(stores), str(times)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return [tuple(map(int, line.split())) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def many(host_of, tmp_path_factory):
    """Give the place, with NUMBER in its address, of a number of stores on a service."""
    folder, there = tmp_path_factory.mktemp("growth"), Counter()
    zvl.write_points(folder, [[1.0, 2, 3], [11, 2, 3]], chunk_shape=10)
    objects = consolidated(objects_in(folder))

    def fill(service, stores):
        for i in range(there[service.host], stores):
            Place(service, host_of(service), f"growth/{i}").put(objects)
        there[service.host] = max(there[service.host], stores)
        return Place(service, host_of(service), "growth/NUMBER")

    return fill


@pytest.mark.parametrize("service", params(WHERE))
def test_opening_stores_again_and_again_takes_no_more(many, service):
    place = many(service, 36)  # more than are kept open
    within_a_tenth(passes(place.path, place.options, 36, 3))


@pytest.mark.stress
@pytest.mark.parametrize("service", params(WHERE))
def test_a_thousand_opens_of_two_hundred_stores(many, service):
    place = many(service, 200)
    within_a_tenth(passes(place.path, place.options, 200, 5))


def within_a_tenth(passes):
    first, *_, last = passes
    for name, before, after in zip(("bytes", "files", "threads"), first, last, strict=True):
        print(f"{name}: {before:,} after the first pass, {after:,} after the last")
    assert last[0] < 1.1 * first[0]
    assert last[1] <= max(1.1 * first[1] + 4, 110)  # three for each connection that is kept: some are idle
    assert last[2] <= first[2] + 4


@pytest.mark.parametrize("service", params([service for service in WHERE if service.host == "s3"]))
def test_each_store_with_a_key_of_its_own(many, service):
    place = many(service, 1)
    options = json.loads(json.dumps(place.options).replace(ACCESS, "AKIANUMBER"))
    first, second = passes(place.path.replace("NUMBER", "0"), options, 60, 2)
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
    zvl.write_points(tmp_path / "a", np.indices((10, 10, 10)).reshape(3, -1).T + 0.5, chunk_shape=1)
    zvl.consolidate(tmp_path / "a")
    http_host.put("few", objects_in(tmp_path / "a"))
    command = [sys.executable, "-c", FEW_FILES, f"{http_host.url}/few", backend]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    *rows, files = map(int, done.stdout.split())
    assert rows == [1000] * 4
    assert files < 200


MANY_STORES = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
import zarr_vectors_lazy as zvl
for i in range(20):
    print(len(zvl.open_zv(f"{sys.argv[1]}/{i}", backend=sys.argv[2])[0].vertices.compute()))
open("/dev/null").close()
"""


@pytest.mark.parametrize("backend", ["obstore", "fsspec"])
def test_many_stores_in_a_process_that_may_open_few_files(http_host, tmp_path, backend):
    zvl.write_points(tmp_path / "a", np.indices((5, 5, 5)).reshape(3, -1).T + 0.5, chunk_shape=1)
    zvl.consolidate(tmp_path / "a")
    for i in range(20):
        http_host.put(f"stores/{i}", objects_in(tmp_path / "a"))
    command = [sys.executable, "-c", MANY_STORES, f"{http_host.url}/stores", backend]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["125"] * 20
