"""Forked and spawned workers, the distributed scheduler, and the end of the interpreter."""

import multiprocessing
import pickle
import subprocess
import sys

import distributed
import pytest

from tests.bounds import HANGS_S
from tests.storage.conftest import KINDS
from zarr_vectors_lazy.errors import StoreError
from zarr_vectors_lazy.storage.fetch import connect, fetch
from zarr_vectors_lazy.storage.requests import Get
from zarr_vectors_lazy.storage.resolve import resolve

KEY = "zarr.json"
# One of each way of reading: in the calling thread, on threads, on the loop, by the user's own object.
few_kinds = pytest.mark.parametrize("kind", ["local", "obstore-s3", "fsspec-s3", "zarr"])


def read(spec):
    return bytes(fetch(connect(spec), [Get(KEY)])[0])


@few_kinds
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process(spec):
    expected = read(spec)  # the parent has its loop, threads and connections already
    with multiprocessing.get_context("fork").Pool(1) as pool:
        answer = pool.apply_async(read, [spec])
        if spec.backend == "obstore":  # its Rust runtime does not survive a fork
            with pytest.raises(StoreError, match="spawn"):
                answer.get(timeout=HANGS_S)
        else:
            assert answer.get(timeout=HANGS_S) == expected
    assert read(spec) == expected


def test_a_spawned_process(folder, s3_store, memory_store):
    specs = [resolve(folder), resolve(memory_store)]
    for name in ("obstore", "fsspec"):
        url, options = s3_store.options(name, "dir/store")
        specs.append(resolve(url, backend=name, **options))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map_async(read, specs).get(timeout=HANGS_S) == [read(spec) for spec in specs]


@pytest.fixture(scope="module")
def client():
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=":0") as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.mark.distributed
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "memory"])  # a worker's memory:// is its own
def test_distributed(spec, client):
    results = client.gather([client.submit(read, spec, pure=False) for _ in range(8)])
    assert results == [b'{"zarr_format": 3}'] * 8


AT_EXIT = """
import atexit, pickle, sys, threading
from zarr_vectors_lazy.errors import StoreError
from zarr_vectors_lazy.storage.fetch import connect
from zarr_vectors_lazy.storage.fetch import fetch
from zarr_vectors_lazy.storage.requests import Get
from zarr_vectors_lazy.storage.resolve import resolve
backend = connect(pickle.loads(sys.stdin.buffer.read()))
fetch(backend, [Get("zarr.json")] * 4)
def forever():
    while True:
        fetch(backend, [Get("zarr.json")] * 4)
threading.Thread(target=forever, daemon=True).start()
atexit.register(lambda: print(bytes(fetch(backend, [Get("zarr.json")])[0]).decode()))
"""


@pytest.mark.parametrize("kind", ["obstore-s3", "fsspec-s3"])
def test_at_the_end_of_the_interpreter(spec):
    answer = subprocess.run(
        [sys.executable, "-c", AT_EXIT], input=pickle.dumps(spec), capture_output=True, timeout=HANGS_S, check=False
    )
    assert answer.stdout.decode().strip() == '{"zarr_format": 3}', answer.stderr.decode()
    assert answer.returncode == 0
    assert not answer.stderr, answer.stderr.decode()  # no complaint of unclosed connections


AZURE = """
from zarr_vectors_lazy.storage.fetch import connect
from zarr_vectors_lazy.storage.resolve import resolve
account = "AccountName=devstoreaccount1;AccountKey=a2V5;BlobEndpoint=http://127.0.0.1:9/devstoreaccount1"
connect(resolve("az://cont/a", backend="fsspec", connection_string=f"DefaultEndpointsProtocol=http;{account}"))
"""


def test_azure_at_the_end_of_the_interpreter():
    answer = subprocess.run([sys.executable, "-c", AZURE], capture_output=True, text=True, timeout=HANGS_S, check=False)
    assert (answer.returncode, answer.stderr) == (0, "")
