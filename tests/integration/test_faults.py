"""Storage that fails, under every scheduler: errors arrive complete, and temporary faults are not noticed."""

import dask
import pytest
from zarr.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

import zarr_vectors_lazy as zvl
from tests.faults.cases import IMPATIENT, contents
from tests.faults.server import Rule, fault_server
from tests.integration.collect import same_bytes
from zarr_vectors_lazy.errors import CorruptChunkError, StoreError
from zarr_vectors_lazy.testing import Fault, FaultyStore

SCHEDULERS = ["threads", "sync", pytest.param("distributed", marks=pytest.mark.distributed)]
NAME = "tracts-0.9"
VERTICES = "0/vertices/c/"


@pytest.fixture(scope="module")
def server(goldens):
    with fault_server(goldens[NAME].path.parent) as running:
        yield running


def faulty(goldens, *faults):
    buffer = default_buffer_prototype().buffer
    memory = {key: buffer.from_bytes(data) for key, data in contents(goldens[NAME].path).items()}
    return FaultyStore(MemoryStore(memory), faults)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("denied", (StoreError, "may not be read")),
        ("error", (StoreError, "connection reset")),
        ("missing", (CorruptChunkError, "there is no such object")),
        ("truncated", (CorruptChunkError, "truncated")),
        ("empty", (CorruptChunkError, "too few for a cell")),
    ],
    ids=str,
)
def test_an_error_arrives_whole(goldens, on_scheduler, scheduler, kind, expected):
    error, match = expected
    level = zvl.open_zv(faulty(goldens, Fault(kind=kind, key=VERTICES)))[0]
    with on_scheduler(scheduler), pytest.raises(error, match=match) as caught:
        level.vertices.compute()
    assert level.store.url in str(caught.value)
    assert "0/vertices" in str(caught.value)


@pytest.mark.emulator
@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("how", ["obstore-s3", "fsspec-s3"])
def test_a_server_that_fails_for_a_while(server, on_scheduler, whole, scheduler, how):
    url, options = server.at(how, f"{NAME}.zarrvectors")
    level = zvl.open_zv(url, **options)[0]
    server.rules[:] = [Rule("503", VERTICES, 2), Rule("reset in body", VERTICES, 2), Rule("truncated", VERTICES, 2)]
    with on_scheduler(scheduler):
        assert same_bytes(level.vertices.compute(), whole(NAME, 0).positions)
    assert not any(rule.times for rule in server.rules)
    server.rules[:] = [Rule("denied", VERTICES)]
    with on_scheduler(scheduler), pytest.raises(StoreError, match=r"skip_signature|anon|unsigned") as caught:
        level.vertices.compute()
    server.rules.clear()
    assert level.store.url in str(caught.value)


@pytest.mark.emulator
@pytest.mark.parametrize("how", ["obstore-s3", "fsspec-s3", "obstore-http", "fsspec-http"])
def test_a_server_that_is_not_there(server, how):
    url, options = server.at(how, "nothing")
    url = url.replace(f":{server.port}", ":9")
    given = {name: str(value).replace(f":{server.port}", ":9") if "endpoint" in name else value
             for name, value in options.get("storage_options", {}).items()}  # fmt: skip
    with dask.config.set(IMPATIENT), pytest.raises(StoreError, match=r"reading 'zarr\.json' failed"):
        zvl.open_zv(url, backend=options["backend"], storage_options=given)
