"""Every service that can hold a store, and each way to reach it: one table for the suite and the docs."""

import json
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import zarr_vectors_lazy as zvl
from tests.servers import ACCESS, SECRET
from tests.services.hosts import ACCOUNT, ACCOUNT_KEY

BUCKET = "loopback"
_BOTH = ("obstore", "fsspec")


@dataclass(frozen=True)
class Service:
    """A kind of URL, or of store object, and the backend that reads it.

    Parameters
    ----------
    name
        Short, as in test ids.
    shown
        The URL's form, or what the store object is.
    backend
        ``backend=`` of `open_zv`, and what `ZVStore.backend` must say; ``"zarr"`` for objects.
    host
        Name in `fixtures.HOSTS` of what keeps the objects.
    address
        Gives ``(path, options)`` of a prefix on the host.
    writable, listable
        Whether it takes objects, and whether it tells which there are.
    secrets
        What no text of ours may show.
    """

    name: str
    shown: str
    backend: str
    host: str
    address: Callable[[Any, str], tuple[Any, dict[str, Any]]]
    writable: bool = True
    listable: bool = True
    secrets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Place:
    """A prefix of a service: its address, and its objects, without our backends."""

    service: Service
    host: Any = field(repr=False)
    prefix: str

    @property
    def path(self):
        """What `open_zv` takes first."""
        return self.service.address(self.host, self.prefix)[0]

    @property
    def options(self):
        """What `open_zv` and the writers take as keywords."""
        storage_options = self.service.address(self.host, self.prefix)[1]
        options = {"storage_options": storage_options} if storage_options else {}
        return options | ({"backend": self.service.backend} if self.service.backend in _BOTH else {})

    def put(self, objects):
        """Put objects by key, without our backends."""
        self.host.put(self.prefix, objects)

    def objects(self):
        """Read all objects by key, without our backends."""
        return self.host.objects(self.prefix)

    def open(self, **more):
        return zvl.open_zv(self.path, **self.options, **more)


def _azure(form, backend):
    def address(host, prefix):
        url = form.format(account=ACCOUNT, container=BUCKET, path=prefix)
        if backend == "fsspec":
            return url, {"connection_string": host.connection_string}
        return url, {"account_name": ACCOUNT, "account_key": ACCOUNT_KEY, "endpoint": host.endpoint}

    return address


def _google_xml(scheme):
    def address(host, prefix):
        key = {"gcs_base_url": host.url, "disable_oauth": True, "client_email": "", "private_key": ""}
        text = json.dumps({**key, "private_key_id": ""})
        return f"{scheme}://{BUCKET}/{prefix}", {"service_account_key": text, "allow_http": True}

    return address


def _google_json(scheme):
    return lambda host, prefix: (f"{scheme}://{BUCKET}/{prefix}", {"endpoint_url": host.url, "token": "anon"})


def _https(backend):
    def address(host, prefix):
        text = host.certificate.decode()
        tls = {"root_certificate": text} if backend == "obstore" else {"ssl": ssl.create_default_context(cadata=text)}
        return f"{host.url}/{prefix}", tls

    return address


AZURE = {
    "az-account": "az://{account}/{container}/{path}",
    "azure-account": "azure://{account}/{container}/{path}",
    "az": "az://{container}/{path}",
    "abfs": "abfs://{container}/{path}",
    "abfs-host": "abfs://{container}@{account}.dfs.core.windows.net/{path}",
}
_S3_SECRETS = (ACCESS, SECRET)
SERVICES = [
    Service("local", "path", "local", "folder", lambda host, prefix: (host.root / prefix, {})),
    Service("file", "file:///path", "local", "folder", lambda host, prefix: ((host.root / prefix).as_uri(), {})),
    *(
        Service(
            f"s3-{backend}",
            "s3://bucket/path",
            backend,
            "s3",
            lambda host, prefix, backend=backend: host.options(backend, prefix),
            secrets=_S3_SECRETS,
        )
        for backend in _BOTH
    ),
    *(
        Service(f"{scheme}-obstore", f"{scheme}://bucket/path", "obstore", "google_xml", _google_xml(scheme))
        for scheme in ("gs", "gcs")
    ),
    *(
        Service(f"{scheme}-fsspec", f"{scheme}://bucket/path", "fsspec", "google", _google_json(scheme))
        for scheme in ("gs", "gcs")
    ),
    *(
        Service(
            f"{name}-{backend}",
            form.format(account="account", container="container", path="path"),
            backend,
            "azure",
            _azure(form, backend),
            secrets=(ACCOUNT_KEY,),
        )
        for name, form in AZURE.items()
        for backend in _BOTH
    ),
    *(
        Service(
            f"http-{backend}",
            "http://host/path",
            backend,
            "http",
            lambda host, prefix: (f"{host.url}/{prefix}", {}),
            writable=False,
            listable=False,
        )
        for backend in _BOTH
    ),
    *(
        Service(
            f"https-{backend}", "https://host/path", backend, "https", _https(backend), writable=False, listable=False
        )
        for backend in _BOTH
    ),
    Service(
        "sftp",
        "sftp://host/path",
        "fsspec",
        "sftp",
        lambda host, prefix: (
            f"sftp://127.0.0.1:{host.port}/{prefix}",
            {"username": host.user, "password": host.password},
        ),
        secrets=("loopback-password-0123456789",),
    ),
    Service("memory", "memory://path", "fsspec", "memory", lambda host, prefix: (f"memory:/{host.root}/{prefix}", {})),
    Service(
        "memorystore", "zarr.storage.MemoryStore", "zarr", "zarr_memory", lambda host, prefix: (host.store(prefix), {})
    ),
    Service("icechunk", "IcechunkStore", "zarr", "icechunk", lambda host, prefix: (host.committed(prefix), {}), False),
    Service(
        "icechunk-session",
        "IcechunkStore of a writable session",
        "zarr",
        "icechunk_session",
        lambda host, prefix: (host.session(prefix).store, {}),
    ),
]
