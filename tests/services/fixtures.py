"""Fixtures for the services; `tests.conftest` makes them available to every test."""

from contextlib import ExitStack
from functools import cache
from uuid import uuid4

import pytest
import trustme

import zarr_vectors_lazy as zvl
from tests.servers import s3_server
from tests.services import hosts
from tests.services.catalogue import SERVICES, Place
from tests.services.object_server import object_server

ON_SERVERS = {"s3", "google_xml", "google", "azure", "http", "https", "sftp"}


def params(services):
    """Parameters of a fixture, one per service; those with a server are marked so."""
    return [
        pytest.param(service, id=service.name, marks=[pytest.mark.emulator] if service.host in ON_SERVERS else [])
        for service in services
    ]


@pytest.fixture(scope="session")
def s3():
    """Return moto's S3, one for the session."""
    with s3_server() as server:
        yield server


@pytest.fixture(scope="session")
def s3_host(s3):
    return hosts.S3(s3)


@pytest.fixture(scope="session")
def azure_host():
    with hosts.azurite() as host:
        yield host


@pytest.fixture(scope="session")
def google_host():
    with hosts.google() as host:
        yield host


@pytest.fixture(scope="session")
def google_xml_host():
    with object_server() as server:
        yield hosts.InBucket(server, "loopback")


@pytest.fixture(scope="session")
def http_host():
    with object_server() as server:
        yield server


@pytest.fixture(scope="session")
def https_host():
    with object_server(authority=trustme.CA()) as server:
        yield server


@pytest.fixture
def machine(monkeypatch):
    """Return a function that runs a metadata service that answers by a rule, where clients look for it."""
    with ExitStack() as running:

        def begin(rule):
            server = running.enter_context(object_server(rule))
            host = server.url.partition("://")[2]
            monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
            monkeypatch.setenv("AWS_METADATA_ENDPOINT", server.url)  # object_store's name
            monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", server.url)  # botocore's
            monkeypatch.setenv("NO_GCE_CHECK", "false")
            for name in ("GCE_METADATA_HOST", "GCE_METADATA_ROOT", "GCE_METADATA_IP"):
                monkeypatch.setenv(name, host)
            # Both are read when it is imported.
            monkeypatch.setattr("google.auth.compute_engine._metadata._GCE_METADATA_HOST", host)
            monkeypatch.setattr("google.auth.compute_engine._metadata._NO_GCE_CHECK", False)
            monkeypatch.setenv("AZURE_MSI_ENDPOINT", f"{server.url}/metadata/identity/oauth2/token")
            monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", server.url)
            return server

        yield begin


@pytest.fixture(scope="session")
def sftp_host(tmp_path_factory):
    with hosts.sftp(tmp_path_factory.mktemp("sftp")) as host:
        yield host


@pytest.fixture(scope="session")
def folder_host(tmp_path_factory):
    return hosts.Folder(tmp_path_factory.mktemp("folder"))


@pytest.fixture(scope="session")
def memory_host():
    return hosts.Memory()


@pytest.fixture(scope="session")
def zarr_memory_host():
    return hosts.ZarrMemory()


@pytest.fixture(scope="session")
def icechunk_host(tmp_path_factory):
    return hosts.Icechunk(tmp_path_factory.mktemp("icechunk"))


@pytest.fixture(scope="session")
def icechunk_session_host(tmp_path_factory):
    return hosts.IcechunkSession(tmp_path_factory.mktemp("icechunk"))


@pytest.fixture(scope="session")
def host_of(request):
    """Return the host of a service, which starts at its first use."""
    return cache(lambda service: request.getfixturevalue(f"{service.host}_host"))


@pytest.fixture(params=params(SERVICES))
def service(request):
    """Each service in turn."""
    return request.param


@pytest.fixture
def fresh(service, host_of):
    """Return an empty `Place` on the service."""
    return Place(service, host_of(service), uuid4().hex)


@pytest.fixture(params=params([service for service in SERVICES if service.writable]))
def writable(request, host_of):
    """Return an empty `Place` on each service that can be written to.

    ``writable.path`` and ``writable.options`` are what `open_zv` and the writers take; ``writable.put(objects)`` and
    ``writable.objects()`` access the objects without our backends.
    """
    return Place(request.param, host_of(request.param), uuid4().hex)


@pytest.fixture(scope="session")
def brought(goldens, host_of):
    """Return the `Place` of a golden store on a service; each is copied to each host once."""
    there = set()

    def bring(service, name):
        at = Place(service, host_of(service), name)
        if (service.host, name) not in there:
            objects = objects_in(goldens[name].path)
            at.put(objects if service.listable else consolidated(objects))
            there.add((service.host, name))
        return at

    return bring


def objects_in(folder):
    """Files of a folder by key."""
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def consolidated(objects):
    """Objects of a store with consolidated metadata, without which what cannot be listed cannot be read whole."""
    host = hosts.ZarrMemory()
    host.put("store", objects)
    zvl.consolidate(host.store("store"))
    return host.objects("store")
