"""Addresses are used in full: what follows the bucket is part of the key, or the URL is refused; nothing is cut off."""

import os

import dask
import pytest

import zarr_vectors_lazy as zvl
from tests.services.catalogue import SERVICES, Place
from tests.services.fixtures import params
from zarr_vectors_lazy.errors import FormatError, StoreError
from zarr_vectors_lazy.storage.fetch import connect, delete_below, fetch
from zarr_vectors_lazy.storage.requests import Get, ListDir, ListSizes, Put
from zarr_vectors_lazy.storage.resolve import resolve

ODD = ["a b", "a+b", "a%b", "a%23b", "a#1", "a?b=1", "a?b", "~a", "a~b", "a*b", "é語", "a\\b", "a&b=c,d", "[a]", "a'b"]
BY_URL = [service for service in SERVICES if service.writable and service.backend != "zarr"]


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("service", params(BY_URL))
def test_an_odd_name_is_letters_of_the_key(service, host_of, name):
    if service.host == "azure" and "\\" in name:
        with pytest.raises(StoreError, match="the one that you mean"):
            resolve(f"az://account/container/{name}")
        return
    host = host_of(service)
    if service.name == "file":  # as users type it
        place = resolve(f"file://{host.root}/{service.name}/{name}")
    else:
        at = Place(service, host, "PREFIX")
        options = dict(at.options)
        address = str(at.path).replace("PREFIX", f"{service.name}/{name}")
        place = resolve(address, **options)
    backend = connect(place)
    fetch(backend, [Put(f"x {name}/zarr.json", b"1"), Put("b", b"2")])
    assert [bytes(data) for data in fetch(backend, [Get(f"x {name}/zarr.json"), Get("b")])] == [b"1", b"2"]
    assert fetch(backend, [ListDir(""), ListSizes("")]) == [("b", f"x {name}"), {"b": 1, f"x {name}/zarr.json": 1}]
    assert set(host.objects(f"{service.name}/{name}")) == {"b", f"x {name}/zarr.json"}
    assert delete_below(backend) == 2
    assert host.objects(f"{service.name}/{name}") == {}


@pytest.mark.emulator
@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("backend", ["obstore", "fsspec"])
def test_odd_names_of_keys_on_a_web_server(http_host, backend, name):
    http_host.put("odd", {f"x {name}/zarr.json": b"1"})
    assert (
        bytes(fetch(connect(resolve(f"{http_host.url}/odd", backend=backend)), [Get(f"x {name}/zarr.json")])[0]) == b"1"
    )


@pytest.mark.emulator
@pytest.mark.parametrize("backend", ["obstore", "fsspec"])
def test_a_web_address_has_escapes_and_a_query_that_goes_with_each_request(http_host, backend):
    http_host.put("s p/a#b", {"k": b"1"})
    url = f"{http_host.url}/s%20p/a%23b?sv=1&sig=SECRET%2Bx"
    spec = resolve(url, backend=backend)
    assert bytes(fetch(connect(spec), [Get("k")])[0]) == b"1"
    assert http_host.asked[-1].query == {"sv": "1", "sig": "SECRET+x"}
    other = resolve(url.replace("SECRET", "OTHER"), backend=backend)
    assert spec.url == other.url == url.partition("?")[0]
    assert spec != other
    assert spec.__dask_tokenize__() != other.__dask_tokenize__()
    assert "SECRET" not in f"{spec}{spec.__dask_tokenize__()}{spec.options}"
    with pytest.raises(FormatError) as caught:
        zvl.open_zv(f"{http_host.url}/nowhere/x?token=SECRET", backend=backend)
    assert "SECRET" not in f"{caught.value}{caught.value!r}"
    with dask.config.set({"zarr_vectors_lazy.retries": 0}), pytest.raises(StoreError) as caught:
        zvl.open_zv("http://127.0.0.1:9/nowhere/x?token=SECRET", backend=backend)
    assert "SECRET" not in f"{caught.value}{caught.value!r}"


@pytest.mark.emulator
@pytest.mark.parametrize("backend", ["obstore", "fsspec"])
def test_a_signature_in_an_azure_url_signs(azure_host, backend):
    from azure.storage.blob import ContainerSasPermissions, generate_container_sas  # noqa: PLC0415  slow to import

    from tests.services.hosts import ACCOUNT, ACCOUNT_KEY  # noqa: PLC0415

    sas = generate_container_sas(
        ACCOUNT,
        azure_host.container,
        account_key=ACCOUNT_KEY,
        permission=ContainerSasPermissions(read=True, list=True, write=True, create=True),
        expiry="2099-01-01T00:00:00Z",
    )
    text = f"AccountName={ACCOUNT};BlobEndpoint={azure_host.endpoint}"
    options = {"endpoint": azure_host.endpoint} if backend == "obstore" else {"connection_string": text}
    spec = resolve(f"az://{ACCOUNT}/{azure_host.container}/sas a?{sas}", backend=backend, **options)
    signature = sas.partition("sig=")[2].partition("&")[0]
    assert signature not in f"{spec}{spec.__dask_tokenize__()}{spec.options}"
    assert spec.url == f"az://{ACCOUNT}/{azure_host.container}/sas a"
    fetch(connect(spec), [Put("k", b"1")])
    assert [fetch(connect(spec), [ListDir("")])[0], bytes(fetch(connect(spec), [Get("k")])[0])] == [("k",), b"1"]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3:/bucket/p", "s3://"),
        ("gs:/bucket/p", "gs://"),
        ("az:/account/c/p", "az://"),
        ("https:/host/p", "https://"),
        ("file:/data/p", "file:///"),
        ("s3://AKIAX:SECRETX@bucket/p", "user"),
        ("s3://SECRETX@bucket/p", "user"),
        ("gs://u:SECRETX@bucket/p", "user"),
        ("s3://bucket/p?X-Amz-Signature=SECRETX", "signature"),
        ("s3://bucket/p?a=1&x-amz-security-token=SECRETX", "signature"),
        ("gs://bucket/p?X-Goog-Signature=SECRETX", "signature"),
        ("https://u:SECRETX@host/p", "user"),
        ("https://host/p#SECRETX", "fragment"),
        ("az://u:SECRETX@account/c/p", "user"),
    ],
)
@pytest.mark.parametrize("backend", [None, "fsspec"])
def test_what_would_be_cut_or_shown_is_refused(url, said, backend):
    with pytest.raises(StoreError, match=said) as caught:
        resolve(url, backend=backend)
    assert "SECRETX" not in f"{caught.value}{caught.value!r}{caught.value.where}"


def test_tilde_is_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    zvl.write_points("~/mine.zarrvectors", [[0.0, 0, 0]], chunk_shape=5)
    assert os.listdir(tmp_path) == ["mine.zarrvectors"]
    assert zvl.open_zv("~/mine.zarrvectors")[0].vertex_count == 1


@pytest.mark.parametrize("base", ["memory://lab/", "file://", ""])
def test_names_that_differ_after_a_sign_are_two_stores(base, tmp_path):
    base = base if base.startswith("memory") else f"{base}{tmp_path}/"
    for sign in ("#", "?", "%23", " "):
        zvl.write_points(f"{base}run{sign}1", [[0.0, 0, 0]], chunk_shape=5, mode="w")
        zvl.write_points(f"{base}run{sign}2", [[0.0, 0, 0]] * 2, chunk_shape=5, mode="w")
        assert zvl.open_zv(f"{base}run{sign}1")[0].vertex_count == 1
