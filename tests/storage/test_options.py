import pickle

import aiohttp
import pytest

from zarr_vectors_lazy.errors import StoreError
from zarr_vectors_lazy.storage.options import for_fsspec, for_obstore
from zarr_vectors_lazy.storage.resolve import resolve

XARRAY = {"anon": True, "key": "A", "secret": "B", "endpoint_url": "http://h:1", "client_kwargs": {"region_name": "r"}}


@pytest.mark.parametrize(
    ("scheme", "given", "expected"),
    [
        (
            "s3",
            XARRAY,
            {
                "skip_signature": True,
                "access_key_id": "A",
                "secret_access_key": "B",
                "endpoint": "http://h:1",
                "region": "r",
            },
        ),
        ("s3", {"client_kwargs": {"endpoint_url": "u"}, "endpoint": "own"}, {"endpoint": "own"}),
        ("s3", {"token": "t", "requester_pays": True}, {"token": "t", "request_payer": True}),
        ("s3", {"config_kwargs": {"s3": {"addressing_style": "virtual"}}}, {"virtual_hosted_style_request": True}),
        ("s3", {"client_kwargs": {"verify": False}}, {"client_options": {"allow_invalid_certificates": True}}),
        ("gcs", {"token": "anon", "project": "p"}, {"skip_signature": True}),
        ("gs", {"token": "/k.json"}, {"application_credentials": "/k.json"}),
        ("abfs", {"sas_token": "?sv=1", "account_name": "a"}, {"sas_key": "sv=1", "account_name": "a"}),
        ("az", {"connection_string": "AccountName=a;AccountKey=k=="}, {"account_name": "a", "account_key": "k=="}),
        ("https", {"headers": {"A": "b"}}, {"client_options": {"default_headers": {"A": "b"}}}),
    ],
)
def test_for_obstore(scheme, given, expected):
    assert for_obstore(scheme, given) == expected


@pytest.mark.parametrize(
    ("scheme", "given", "expected"),
    [
        (
            "s3",
            {
                "aws_access_key_id": "A",
                "secret_access_key": "B",
                "region": "r",
                "endpoint": "http://h",
                "allow_http": True,
            },
            {"key": "A", "secret": "B", "client_kwargs": {"region_name": "r"}, "endpoint_url": "http://h"},
        ),
        ("s3", {"skip_signature": True, "client_options": {"allow_http": True}}, {"anon": True}),
        ("gs", {"skip_signature": True}, {"token": "anon"}),
        ("gs", {"service_account_key": '{"a": 1}'}, {"token": {"a": 1}}),
        (
            "az",
            {"sas_key": "sv=1", "azure_storage_account_name": "x"},
            {"sas_token": "sv=1", "azure_storage_account_name": "x"},
        ),
    ],
)
def test_for_fsspec(scheme, given, expected):
    assert for_fsspec(scheme, given) == expected


@pytest.mark.parametrize(
    ("url", "backend", "given", "said"),
    [
        ("s3://b", "obstore", {"session": object()}, "'session'.*credential_provider"),
        ("s3://b", "obstore", {"client_kwargs": {"colour": 1}}, "'client_kwargs'.*'colour'.*region_name"),
        ("s3://b", "obstore", {"client_kwargs": 3}, "client_kwargs must be a mapping"),
        ("s3://b", "obstore", {"config_kwargs": {"proxies": {}}}, "proxy_url"),
        ("s3://b", "fsspec", {"credential_provider": print}, "session="),
        ("gs://b", "fsspec", {"bearer_token": "x"}, "token="),
        ("gs://b", "fsspec", {"service_account_key": "no json"}, "service_account_key"),
        ("az://a/b", "fsspec", {"endpoint": "http://h"}, "connection_string"),
        ("https://h/p", "obstore", {"auth": ("a", "b")}, "Authorization"),
    ],
)
def test_what_cannot_be_names_what_does_it(url, backend, given, said):
    with pytest.raises(StoreError, match=said):
        resolve(url, backend=backend, storage_options=given)


@pytest.mark.emulator
@pytest.mark.parametrize("backend", ["obstore", "fsspec"])
@pytest.mark.parametrize("names", ["obstore", "fsspec"])
@pytest.mark.parametrize("loose", [True, False])
def test_either_names_reach_the_bucket(s3, backend, names, loose):
    from zarr_vectors_lazy.storage.fetch import connect, fetch  # noqa: PLC0415
    from zarr_vectors_lazy.storage.requests import Get  # noqa: PLC0415

    s3.put({"k": b"data"}, "translated")
    url, options = s3.options(names, "translated")
    given = options if loose else {"storage_options": options}
    assert bytes(fetch(connect(resolve(url, backend=backend, **given)), [Get("k")])[0]) == b"data"


@pytest.mark.filterwarnings("ignore:BasicAuth is deprecated")
def test_named_tuples_pass_unharmed():
    spec = resolve("https://h/p", backend="fsspec", auth=aiohttp.BasicAuth("me", "SECRETX"))
    assert type(pickle.loads(pickle.dumps(spec)).options["auth"]) is aiohttp.BasicAuth
    assert "SECRETX" not in repr(spec)
