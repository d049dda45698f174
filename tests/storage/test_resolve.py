import os
import pathlib
import subprocess
import sys

import pytest
from zarr.storage import MemoryStore

from zarr_vectors_lazy.errors import StoreError
from zarr_vectors_lazy.storage.resolve import resolve


@pytest.mark.parametrize(
    ("url", "options", "expected"),
    [
        ("data/x", {}, ("local", os.path.abspath("data/x"))),
        ("/data/x/", {}, ("local", "/data/x")),
        ("~/x", {}, ("local", os.path.expanduser("~/x"))),
        (pathlib.Path("/data/x"), {}, ("local", "/data/x")),
        ("file:///data/a%20b#1?c", {}, ("local", "/data/a%20b#1?c")),
        ("s3://b/p/", {}, ("obstore", "s3://b/p")),
        ("gs://b/p", {}, ("obstore", "gs://b/p")),
        ("gcs://b/p", {}, ("obstore", "gs://b/p")),
        ("http://127.0.0.1:1/p/", {}, ("obstore", "http://127.0.0.1:1/p")),
        ("https://host/p", {}, ("obstore", "https://host/p")),
        ("az://acct/cont/p/q", {}, ("obstore", "az://acct/cont/p/q")),
        ("azure://acct/cont/p", {}, ("obstore", "az://acct/cont/p")),
        ("az://cont/p", {"account_name": "acct"}, ("obstore", "az://acct/cont/p")),
        ("az://acct/cont/p", {"account_name": "acct"}, ("obstore", "az://acct/cont/p")),
        ("abfs://cont/p", {"account_name": "acct"}, ("obstore", "az://acct/cont/p")),
        ("abfs://cont@acct.dfs.core.windows.net/p", {}, ("obstore", "az://acct/cont/p")),
        ("az://cont/p", {"use_emulator": True}, ("obstore", "az://devstoreaccount1/cont/p")),
        ("memory://x/y", {}, ("fsspec", "memory://x/y")),
        ("s3://b/p", {"backend": "fsspec", "anon": True}, ("fsspec", "s3://b/p")),
        ("/data", {"backend": "fsspec"}, ("fsspec", "file:///data")),
        ("s3://b", {"allow_http": True, "timeout": 5, "max_retries": 1}, ("obstore", "s3://b")),
        ("s3://b", {"storage_options": {"region": "x"}, "skip_signature": True}, ("obstore", "s3://b")),
    ],
    ids=str,
)
def test_choice(url, options, expected):
    spec = resolve(url, **options)
    assert (spec.backend, spec.url) == expected


@pytest.mark.parametrize(
    ("url", "options", "named"),
    [
        ("x", {"backend": "bogus"}, "'bogus'.*'obstore', 'fsspec', 'local'"),
        ("x", {"colour": 1}, "colour"),
        ("s3://b", {"colour": 1}, "colour.*region"),
        ("s3://b", {"backend": "fsspec", "colour": 1}, "colour.*anon"),
        ("gs://b", {"backend": "fsspec", "colour": 1}, "colour.*access"),
        ("https://h/p", {"colour": 1}, "colour"),
        ("https://h/p", {"backend": "fsspec", "colour": 1}, "colour.*headers"),
        ("memory://h/p", {"colour": 1}, "colour"),
        ("s3://b", {"client_options": {"colour": 1}}, "colour.*allow_http"),
        ("s3://b", {"client_options": 3}, "client_options.*mapping"),
        ("s3://b", {"retry_config": {"colour": 1}}, "colour.*max_retries"),
        ("s3://b", {"endpoint": "not a url"}, "endpoint.*not a url"),
        ("s3://b", {"region": ["x"]}, "region"),
        ("s3://b", {"timeout": "soon"}, "soon"),
        ("s3://b", {"access_key_id": "x"}, "SecretAccessKey"),
        ("s3://", {}, "no bucket"),
        ("az://", {"account_name": "a"}, "no container"),
        ("abfs://cont/p", {}, "(?i)account"),
        ("http://", {}, "no host"),
        ("file://host/p", {}, "host"),
        ("s3://b", {"backend": "local"}, "local.*s3://"),
        ("memory://x", {"backend": "obstore"}, "obstore.*memory://"),
        ("nosuch://x", {}, "nosuch"),
        ("simplecache::s3://b/p", {"backend": "fsspec"}, "chained"),
        (3, {}, "int"),
        ("", {}, "''"),
        (MemoryStore(), {"backend": "obstore"}, "'backend'"),
        (MemoryStore(), {"region": "x"}, "'region'"),
    ],
    ids=lambda value: "store" if isinstance(value, MemoryStore) else str(value),
)
def test_what_cannot_be_is_named(url, options, named):
    with pytest.raises(StoreError, match=named):
        resolve(url, **options)


def test_the_environment_chooses_and_the_keyword_overrules_it(monkeypatch):
    monkeypatch.setenv("ZARR_VECTORS_BACKEND", "fsspec")
    assert resolve("s3://b").backend == "fsspec"
    assert resolve("s3://b", backend="obstore").backend == "obstore"
    monkeypatch.setenv("ZARR_VECTORS_BACKEND", "bogus")
    with pytest.raises(StoreError, match="ZARR_VECTORS_BACKEND 'bogus'"):
        resolve("s3://b")


def test_account_of_the_environment(monkeypatch):
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "acct")
    spec = resolve("az://cont/p")
    assert spec.url == "az://acct/cont/p"
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "other")  # as on a worker
    assert resolve(spec.url, storage_options=spec.options) == spec


WITHOUT = """
import sys
from importlib import util
for name in {missing!r}:
    sys.modules[name] = None
found = util.find_spec
util.find_spec = lambda name, *rest: None if name in {missing!r} else found(name, *rest)
from zarr_vectors_lazy.errors import StoreError
from zarr_vectors_lazy.storage.resolve import resolve
for backend in (None, "obstore", "fsspec"):
    try:
        print(resolve("s3://b", backend=backend).backend)
    except StoreError as error:
        print(error)
"""
INSTALL = {name: f"pip install 'zarr_vectors_lazy[{name}]'" for name in ("obstore", "cloud")}


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        (["obstore"], ["fsspec", INSTALL["obstore"], "fsspec"]),
        (["obstore", "s3fs"], [INSTALL["obstore"], INSTALL["obstore"], INSTALL["cloud"]]),
    ],
    ids=str,
)
def test_packages_that_are_not_installed(missing, said):
    command = [sys.executable, "-c", WITHOUT.format(missing=missing)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) == len(said)
    for line, part in zip(lines, said, strict=True):
        assert part in line
