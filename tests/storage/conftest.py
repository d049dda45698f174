"""One small store on every backend."""

import fsspec
import pytest
from zarr.abc.store import Store
from zarr.buffer import default_buffer_prototype
from zarr.storage import MemoryStore, WrapperStore

from tests.servers import file_server, keep_off_the_network
from zarr_vectors_lazy.storage.fetch import connect
from zarr_vectors_lazy.storage.resolve import resolve

keep_off_the_network()

OBJECTS = {
    "zarr.json": b'{"zarr_format": 3}',
    "0/a/c/0/0": bytes(range(256)),
    "0/a/c/0/1": b"",
    "0/a/zarr.json": b"{}",
    "0/b c/zarr.json": b"blank",
    **{f"many/{i:04d}": f"{i}".encode() for i in range(1203)},
}
KINDS = [
    "local",
    "obstore-file",
    "fsspec-file",
    "obstore-s3",
    "fsspec-s3",
    "memory",
    "obstore-http",
    "fsspec-http",
    "zarr",
    "wrapper",
]
UNLISTABLE = {"obstore-http", "fsspec-http"}


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("store")
    for key, data in OBJECTS.items():
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


@pytest.fixture(scope="session")
def s3_store(s3):
    s3.put(OBJECTS, "dir/store")
    return s3


@pytest.fixture(scope="session")
def http(folder):
    with file_server(folder.parent) as (url, _):
        yield f"{url}/{folder.name}"


@pytest.fixture(scope="session")
def memory_url():
    fs = fsspec.filesystem("memory")
    for key, data in OBJECTS.items():
        fs.pipe_file(f"/storage-tests/{key}", data)
    return "memory://storage-tests"


@pytest.fixture(scope="session")
def memory_store():
    prototype = default_buffer_prototype()
    return MemoryStore({key: prototype.buffer.from_bytes(data) for key, data in OBJECTS.items()})


class Wrapped(WrapperStore[Store]):
    """A store object of the user that cannot be described."""


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def spec(kind, request):
    get = request.getfixturevalue
    name, _, where = kind.partition("-")
    if where == "s3":
        url, options = get("s3_store").options(name, "dir/store")
        return resolve(url, backend=name, storage_options=options)
    if where:
        return resolve(get({"file": "folder", "http": "http"}[where]), backend=name)
    if kind == "wrapper":
        return resolve(Wrapped(get("memory_store")))
    return resolve(get({"local": "folder", "memory": "memory_url", "zarr": "memory_store"}[kind]))


@pytest.fixture
def backend(spec):
    return connect(spec)
