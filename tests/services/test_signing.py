"""Requests refused unsigned are tried with the machine's credentials, each separately; renewed keys are used."""

import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import pytest

from tests.bounds import HANGS_S
from tests.services.object_server import Answer, object_server
from tests.services.test_anonymous import WAYS
from zarr_vectors_lazy.errors import StoreError
from zarr_vectors_lazy.storage.backends import fsspec_systems, obstore_backend
from zarr_vectors_lazy.storage.fetch import connect, fetch
from zarr_vectors_lazy.storage.io import run
from zarr_vectors_lazy.storage.requests import Get, ListDir
from zarr_vectors_lazy.storage.resolve import resolve

pytestmark = pytest.mark.emulator
both = pytest.mark.parametrize("backend", ["obstore", "fsspec"])
REFUSED = Answer(403, "AccessDenied")


@pytest.fixture
def metadata(machine, monkeypatch):
    """Run a machine's metadata address that answers everything with a status, or with silence."""

    def set_to(status):
        silence = status == "silence"
        if silence:
            monkeypatch.setenv("AWS_METADATA_SERVICE_TIMEOUT", "1")
            for module in (fsspec_systems, obstore_backend):
                monkeypatch.setattr(module, "INSTANCE_S", 0.5)
        answer = Answer(404 if silence else status, text=json.dumps({}))
        machine(lambda _: time.sleep(3 * silence) or answer)

    return set_to


def is_listing(asked):
    return "list-type" in asked.query or asked.query.get("comp") == "list" or asked.path.rstrip("/").endswith("/o")


CASES = list(product(WAYS, (200, 401, 403, 404, "silence")))


@pytest.mark.parametrize(("name", "status"), CASES)
def test_a_refused_listing_leaves_reads_unsigned(metadata, name, status):
    way = WAYS[name]
    metadata(status)
    with object_server(lambda asked: REFUSED if is_listing(asked) or asked.signed else None) as server:
        server.store[way.key] = b"data"
        there = connect(resolve(way.url, backend=way.backend, storage_options=way.to(server.url)))
        begin = time.monotonic()
        for _ in range(2):
            assert fetch(there, [ListDir("", required=False)]) == [None]
            assert bytes(fetch(there, [Get("x")])[0]) == b"data"
        with pytest.raises(StoreError, match="sent unsigned"):
            fetch(there, [ListDir("")])
        assert time.monotonic() - begin < 25


@pytest.mark.parametrize(("name", "status"), CASES)
def test_a_refused_read_leaves_listings_unsigned(metadata, name, status):
    way = WAYS[name]
    metadata(status)
    with object_server(lambda asked: None if is_listing(asked) and not asked.signed else REFUSED) as server:
        there = connect(resolve(way.url, backend=way.backend, storage_options=way.to(server.url)))
        for _ in range(2):
            with pytest.raises(StoreError, match=r"reading 'x' failed.*sent unsigned"):
                fetch(there, [Get("x")])
        if name.startswith("s3"):  # the server's listings are S3's
            assert fetch(there, [ListDir("")]) == [()]


@pytest.mark.parametrize("status", [200, 401, 403, 404, "silence"])
def test_adlfs_finds_no_credentials_in_refusals_or_silence(metadata, status):
    metadata(status)
    assert run(fsspec_systems.azure_instance()) is None


def test_a_silent_metadata_address_holds_nobody_else(machine, monkeypatch, http_host):
    reached, released = threading.Event(), threading.Event()
    monkeypatch.setattr(fsspec_systems, "INSTANCE_S", HANGS_S)
    machine(lambda _: reached.set() or (released.wait(HANGS_S) and Answer(404)))
    http_host.store["p/x"] = b"data"
    other = connect(resolve(f"{http_host.url}/p", backend="fsspec"))
    way = WAYS["gs-fsspec"]
    with object_server(lambda _: REFUSED) as server, ThreadPoolExecutor(1) as thread:
        there = connect(resolve(way.url, backend=way.backend, storage_options=way.to(server.url)))
        asking = thread.submit(fetch, there, [ListDir("", required=False)])
        assert reached.wait(HANGS_S)
        assert fetch(other, [Get("x")]) == [b"data"]
        assert not asking.done()
        released.set()
        assert asking.result() == [None]


def accepting(keys):
    def rule(asked):
        signed = asked.headers.get("authorization", "")
        return None if any(f"Credential={key}/" in signed for key in keys) else REFUSED

    return rule


def opened(server, backend, **options):
    name = {"obstore": "endpoint", "fsspec": "endpoint_url"}[backend]
    return connect(resolve("s3://bucket/p", backend=backend, storage_options={name: server.url, **options}))


@both
def test_keys_that_are_set_after_a_refusal_are_used(backend, monkeypatch):
    with object_server(accepting(["NEW"])) as server:
        server.store["bucket/p/x"] = b"data"
        there = opened(server, backend)
        with pytest.raises(StoreError, match="sent unsigned"):
            fetch(there, [Get("x")])
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "NEW")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        assert bytes(fetch(there, [Get("x")])[0]) == b"data"


@both
def test_keys_of_the_environment_that_are_renewed_are_used(backend, monkeypatch):
    keys = ["OLD"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "OLD")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with object_server(accepting(keys)) as server:
        server.store["bucket/p/x"] = b"data"
        there = opened(server, backend)
        assert bytes(fetch(there, [Get("x")])[0]) == b"data"
        keys[:] = ["NEW"]
        with pytest.raises(StoreError, match="refused"):
            fetch(there, [Get("x")])
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "NEW")
        assert [bytes(data) for data in fetch(there, [Get("x")] * 20)] == [b"data"] * 20


@both
def test_a_profile_that_is_renewed_is_read_again(backend, monkeypatch, tmp_path):
    keys, file = ["OLD"], tmp_path / "credentials"
    text = "[default]\naws_access_key_id = {}\naws_secret_access_key = secret\naws_session_token = {}\n"
    file.write_text(text.format("OLD", "t"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    with object_server(accepting(keys)) as server:
        server.store["bucket/p/x"] = b"data"
        there = opened(server, backend)
        assert bytes(fetch(there, [Get("x")])[0]) == b"data"
        keys[:] = ["NEWER"]
        file.write_text(text.format("NEWER", "another"))
        assert bytes(fetch(there, [Get("x")])[0]) == b"data"


PROCESS = """
import json, pathlib, sys
here = pathlib.Path(sys.argv[1])
print(json.dumps({"Version": 1, "AccessKeyId": here.read_text(), "SecretAccessKey": "secret"}))
"""


@both
def test_a_credential_process_is_asked_again_after_a_refusal(backend, monkeypatch, tmp_path):
    keys, key, script = ["OLD"], tmp_path / "key", tmp_path / "helper.py"
    key.write_text("OLD")
    script.write_text(PROCESS)
    (tmp_path / "config").write_text(f"[profile lab]\ncredential_process = {sys.executable} {script} {key}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "lab")
    with object_server(accepting(keys)) as server:
        server.store["bucket/p/x"] = b"data"
        there = opened(server, backend)
        assert bytes(fetch(there, [Get("x")])[0]) == b"data"
        keys[:] = ["NEW"]
        key.write_text("NEW")
        with pytest.raises(StoreError):
            fetch(there, [Get("x")])
        assert bytes(fetch(there, [Get("x")])[0]) == b"data"


@both
def test_a_credential_process_that_fails_is_an_error_of_ours(backend, monkeypatch, tmp_path):
    command = f"{sys.executable} -c 'import sys; sys.exit(\"vault is locked\")'"
    (tmp_path / "config").write_text(f"[profile lab]\ncredential_process = {command}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    with object_server() as server, pytest.raises(StoreError, match=r"credential_process|custom-process"):
        fetch(opened(server, backend, profile="lab"), [Get("x")])


KEYS = '"AccessKeyId": "LAB", "SecretAccessKey": "B", "Version": 1'
ODD_PROFILES = {
    "a list": ("credential_process = echo '[1]'", ""),
    "a quote": ("credential_process = echo 'x", ""),
    "no program": ("credential_process = /no/such/helper", "No such file"),
    "half a key": ("aws_access_key_id = LAB", "aws_secret_access_key"),
    "services": ("services = nowhere", "nowhere"),
    "endpoint": ("aws_access_key_id = LAB\naws_secret_access_key = B\nendpoint_url = not a url", "not a url"),
    "no text": ("\xff", ""),
}


@both
@pytest.mark.parametrize("what", list(ODD_PROFILES))
def test_odd_profiles_are_errors_of_ours(backend, what, monkeypatch, tmp_path, capfd):
    line, said = ODD_PROFILES[what]
    end = "" if what == "endpoint" else "endpoint_url = http://127.0.0.1:9\n"
    (tmp_path / "config").write_bytes(f"[profile lab]\nregion = eu-west-3\n{end}{line}\n".encode("latin-1"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    with pytest.raises(StoreError, match=said or None) as caught:
        fetch(connect(resolve("s3://bucket/p", backend=backend, profile="lab")), [Get("x")])
    assert "skip_signature" not in str(caught.value)
    assert "panicked" not in capfd.readouterr().err


@pytest.mark.parametrize("until", ["2040-01-01T00:00:00", "2040-01-01T00:00:00Z"])
def test_a_helper_that_tells_no_time_zone_means_utc(until, monkeypatch, tmp_path):
    (tmp_path / "keys").write_text(f'{{{KEYS}, "Expiration": "{until}"}}')
    (tmp_path / "config").write_text(f"[profile lab]\ncredential_process = cat {tmp_path / 'keys'}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    with object_server(accepting(["LAB"])) as server:
        server.store["bucket/p/x"] = b"data"
        assert bytes(fetch(opened(server, "obstore", profile="lab"), [Get("x")])[0]) == b"data"


PROFILES = {
    "endpoint_url": "[profile lab]\nregion = eu-west-3\nendpoint_url = URL\n",
    "services": "[profile lab]\nregion = eu-west-3\nservices = here\n[services here]\ns3 =\n  endpoint_url = URL\n",
}


@both
@pytest.mark.parametrize("how", list(PROFILES))
@pytest.mark.parametrize("named", ["option", "environment"])
def test_endpoint_region_and_keys_of_a_profile(backend, how, named, monkeypatch, tmp_path):
    with object_server(accepting(["LAB"])) as server:
        server.store["bucket/p/x"] = b"data"
        (tmp_path / "config").write_text(PROFILES[how].replace("URL", server.url))
        (tmp_path / "credentials").write_text("[lab]\naws_access_key_id = LAB\naws_secret_access_key = secret\n")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
        if named == "environment":
            monkeypatch.setenv("AWS_PROFILE", "lab")
        options = {"profile": "lab"} if named == "option" else {}
        assert bytes(fetch(connect(resolve("s3://bucket/p", backend=backend, **options)), [Get("x")])[0]) == b"data"
        assert "eu-west-3" in server.asked[-1].headers["authorization"]


@both
@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_an_endpoint_of_the_environment(backend, variable, monkeypatch):
    with object_server() as server:
        server.store["bucket/p/x"] = b"data"
        monkeypatch.setenv(variable, server.url)
        assert bytes(fetch(connect(resolve("s3://bucket/p", backend=backend)), [Get("x")])[0]) == b"data"


@both
def test_certificates_of_a_bundle(backend, monkeypatch, tmp_path, https_host):
    import trustme  # noqa: PLC0415

    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(trustme.CA().cert_pem.bytes() + https_host.certificate)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    https_host.store["bundled/p/x"] = b"data"
    options = {"obstore": {"endpoint": https_host.url}, "fsspec": {"endpoint_url": https_host.url}}[backend]
    assert bytes(fetch(connect(resolve("s3://bundled/p", backend=backend, **options)), [Get("x")])[0]) == b"data"


WAITING = """
import pathlib, sys, time
here = pathlib.Path(sys.argv[1])
(here / "begun").touch()
for _ in range(10_000):
    if (here / "end").exists():
        break
    time.sleep(0.01)
(here / "ended").touch()
"""


def test_a_slow_helper_holds_nobody_else(monkeypatch, tmp_path):
    (tmp_path / "helper.py").write_text(WAITING)
    (tmp_path / "config").write_text(
        f"[profile slow]\ncredential_process = {sys.executable} {tmp_path}/helper.py {tmp_path}\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    (tmp_path / "x").write_bytes(b"data")
    with object_server() as server, ThreadPoolExecutor(1) as thread:
        asking = thread.submit(lambda: fetch(opened(server, "fsspec", profile="slow"), [Get("x")]))
        while not (asking.done() or (tmp_path / "begun").exists()):
            time.sleep(0.01)
        assert fetch(connect(resolve(tmp_path)), [Get("x")]) == [b"data"]
        assert not (tmp_path / "ended").exists()
        (tmp_path / "end").touch()
        assert isinstance(asking.exception(), StoreError)
