"""Golden stores on every backend, under every scheduler."""

from contextlib import contextmanager
from functools import cache

import dask
import fsspec
import pytest
from distributed import Client, LocalCluster
from zarr.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

import zarr_vectors_lazy as zvl
from tests.integration.collect import Whole, collect, compute_apart
from tests.integration.generations import GOLDEN, copy_of


@pytest.fixture(scope="session", params=GOLDEN)
def golden(request, goldens):
    """Each golden store of the generations that this suite tests."""
    return goldens[request.param]


@pytest.fixture
def tamper(goldens, tmp_path):
    """Return a copy of a golden store that the test may change."""
    return lambda name: copy_of(goldens[name], tmp_path)


@pytest.fixture(scope="session")
def place(goldens, request):
    """Return ``(path, options)`` of a golden store on a backend; each is copied there once."""

    @cache
    def bring(name, backend):
        folder = goldens[name].path
        if backend == "local":
            return folder, {}
        if backend.endswith("-s3"):
            server = uploaded(name)
            kind = {"obstore-s3": "obstore", "s3fs-s3": "fsspec"}[backend]
            url, options = server.options(kind, f"golden/{name}")
            return url, {"backend": kind, "storage_options": options}
        objects = {f.relative_to(folder).as_posix(): f.read_bytes() for f in folder.rglob("*") if f.is_file()}
        if backend == "memory":
            fs = fsspec.filesystem("memory")
            for key, data in objects.items():
                fs.pipe_file(f"/integration/{name}/{key}", data)
            return f"memory://integration/{name}", {}
        buffer = default_buffer_prototype().buffer
        return MemoryStore({key: buffer.from_bytes(data) for key, data in objects.items()}), {}

    @cache
    def uploaded(name):
        server = request.getfixturevalue("s3")
        server.upload(goldens[name].path, f"golden/{name}")
        return server

    return bring


@pytest.fixture(scope="session")
def open_at(place):
    """Open a golden store on a backend."""

    def open_it(name, backend="local", **options):
        path, where = place(name, backend)
        return zvl.open_zv(path, **where, **options)

    return open_it


@pytest.fixture(scope="session")
def client():
    """Two single-threaded worker processes; not the default client, so that other tests keep using threads."""
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture(scope="session")
def on_scheduler(request):
    """Return a context in which Dask computes on ``"threads"``, ``"sync"`` or ``"distributed"``."""

    @contextmanager
    def context(name):
        if name == "distributed":
            with request.getfixturevalue("client").as_current():
                yield
        else:
            with dask.config.set(scheduler=name):
                yield

    return context


@pytest.fixture(scope="session")
def results(open_at):
    """Expected arrays of a golden store by name, each computed separately from local disk with threads."""

    @cache
    def of(name):
        with dask.config.set(scheduler="threads"):
            return compute_apart(collect(open_at(name), name))

    return of


@pytest.fixture(scope="session")
def whole(results, open_at):
    """Return a complete, computed level of a golden store, for brute force."""

    @cache
    def of(name, level):
        return Whole.of(open_at(name)[level], results(name), level)

    return of
