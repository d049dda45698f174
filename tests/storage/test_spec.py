import logging
import os
import pickle
import subprocess
import sys

import obstore.store
import pytest
from dask.base import tokenize
from zarr.storage import FsspecStore, LocalStore, MemoryStore, ObjectStore

from tests.servers import file_server
from zarr_vectors_lazy.errors import StoreError
from zarr_vectors_lazy.storage.fetch import connect, fetch
from zarr_vectors_lazy.storage.requests import Get
from zarr_vectors_lazy.storage.resolve import resolve
from zarr_vectors_lazy.storage.spec import StoreSpec

SECRET = "sEcReT-0123456789"
SECRETIVE = {
    "obstore": {"access_key_id": "AKIDSECRET", "secret_access_key": SECRET, "session_token": SECRET},
    "fsspec": {"key": "AKIDSECRET", "secret": SECRET, "token": SECRET, "client_kwargs": {"aws_session_token": SECRET}},
}
IN_ANOTHER_PROCESS = """
import pickle, sys
from dask.base import tokenize
print(*[tokenize(spec) for spec in pickle.loads(sys.stdin.buffer.read())])
"""


def test_copies_in_another_process_have_the_same_tokens(folder, s3_store, http, memory_store):
    specs = [
        resolve(folder),
        resolve(folder, backend="obstore"),
        resolve(http),
        resolve("memory://x"),
        resolve(memory_store),
        resolve("s3://b", credential_provider=provider),
        *[
            resolve(url, backend=name, **options)
            for name in SECRETIVE
            for url, options in [s3_store.options(name, "x")]
        ],
    ]
    command = [sys.executable, "-c", IN_ANOTHER_PROCESS]
    path = os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])  # for the provider
    answer = subprocess.run(
        command, input=pickle.dumps(specs), capture_output=True, check=True, env={**os.environ, "PYTHONPATH": path}
    )
    tokens = answer.stdout.decode().split()
    assert tokens == [tokenize(spec) for spec in specs]
    assert len(set(tokens)) == len(specs)


def test_copies_are_equal_and_share_a_connection(spec):
    copy = pickle.loads(pickle.dumps(spec))
    assert copy == spec
    assert hash(copy) == hash(spec)
    assert connect(copy) is connect(spec)


def test_an_object_of_the_users_is_itself_and_no_other(memory_store):
    assert resolve(memory_store) == resolve(memory_store)
    assert resolve(memory_store).instance is memory_store
    assert tokenize(resolve(memory_store)) == tokenize(resolve(memory_store))
    assert tokenize(resolve(MemoryStore())) != tokenize(resolve(MemoryStore()))


@pytest.mark.parametrize("backend", ["obstore", "fsspec"])
def test_secrets_are_seen_nowhere(backend, tmp_path, caplog):
    caplog.set_level(logging.DEBUG, logger="zarr_vectors_lazy")
    with file_server(tmp_path, status=403) as (url, _):
        endpoint = {"obstore": "endpoint", "fsspec": "endpoint_url"}[backend]
        spec = resolve("s3://bucket/p", backend=backend, **{endpoint: url}, **SECRETIVE[backend])
        with pytest.raises(StoreError, match="reads a public bucket") as caught:
            fetch(connect(spec), [Get("x")])
    token = repr(spec.__dask_tokenize__())
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("zarr_vectors_lazy")]
    for text in (repr(spec), str(spec.options), f"{spec.options}", token, str(caught.value), spec.url, *ours):
        assert SECRET not in text
        assert "AKIDSECRET" not in text
    other = resolve("s3://bucket/p", backend=backend, **{endpoint: url})
    assert connect(spec) is not connect(other)
    assert pickle.loads(pickle.dumps(spec)).options.plain() == spec.options.plain()


def test_requests_are_logged(backend, caplog):
    caplog.set_level(logging.DEBUG, logger="zarr_vectors_lazy.storage")
    fetch(backend, [Get("zarr.json")])
    assert "get zarr.json: 18 bytes" in caplog.text


def test_secrets_in_a_url_become_options():
    spec = resolve("ftp://someone:pass-word@127.0.0.1:2121/data/", backend="fsspec")
    assert spec.url == "ftp://127.0.0.1:2121/data"
    assert spec.options["password"] == "pass-word"
    assert "pass-word" not in repr(spec)
    with pytest.raises(StoreError) as caught:
        resolve("https://someone:pass-word@host/data?sig=abcdef")
    assert "pass-word" not in str(caught.value)
    assert "abcdef" not in str(caught.value)


def test_zarr_stores_that_can_be_described_are(tmp_path, folder, s3_store):
    assert resolve(LocalStore(folder)) == resolve(folder)
    url, options = s3_store.fsspec("dir/store")
    spec = resolve(FsspecStore.from_url(url, storage_options=options))
    assert spec == resolve(url, backend="fsspec", **options)
    url, options = s3_store.obstore("dir/store")
    spec = resolve(ObjectStore(obstore.store.S3Store("loopback", prefix="dir/store", **options)))
    assert (spec.backend, spec.url) == ("obstore", url)
    assert bytes(fetch(connect(spec), [Get("zarr.json")])[0]) == b'{"zarr_format": 3}'
    assert resolve(ObjectStore(obstore.store.LocalStore(folder))) == resolve(folder)


def test_a_provider_of_credentials_travels_and_stays_itself():
    spec = resolve("s3://b/p", backend="obstore", credential_provider=provider)
    copy = pickle.loads(pickle.dumps(spec))
    assert copy == spec
    assert tokenize(copy) == tokenize(spec)
    assert copy.options["credential_provider"] is provider


def provider():
    return {"access_key_id": "A", "secret_access_key": SECRET, "token": None, "expires_at": None}


def test_description_is_immutable():
    spec = StoreSpec("local", "/x")
    with pytest.raises(AttributeError):
        spec.url = "/y"
    with pytest.raises(TypeError):
        spec.options["a"] = 1
