"""Public buckets just work on every cloud, and the instance's metadata is asked only after a refusal."""

import base64
import json
import time
from dataclasses import dataclass

import pytest
from google.oauth2.credentials import Credentials

from tests.services.object_server import Answer, object_server
from zarr_vectors_lazy.errors import StoreError
from zarr_vectors_lazy.storage.fetch import connect, fetch
from zarr_vectors_lazy.storage.requests import Get, ListDir
from zarr_vectors_lazy.storage.resolve import resolve

pytestmark = pytest.mark.emulator
KEY = base64.b64encode(b"secret of the account").decode()


def only_unsigned(asked):
    return Answer(403, "AccessDenied") if asked.signed else None


def only_signed(asked):
    return None if asked.signed else Answer(403, "AccessDenied")


@dataclass(frozen=True)
class Way:
    """A cloud through a backend: where its server finds ``x``, options to reach it, credentials in options."""

    url: str
    backend: str
    key: str
    to: object
    keys: dict
    public: str
    instance: bool = True


def google(url):
    return {"base_url": url}


WAYS = {
    "s3-obstore": Way(
        "s3://bucket/p",
        "obstore",
        "bucket/p/x",
        lambda url: {"endpoint": url},
        {"access_key_id": "AKID", "secret_access_key": "secret"},
        "skip_signature=True",
    ),
    "s3-fsspec": Way(
        "s3://bucket/p",
        "fsspec",
        "bucket/p/x",
        lambda url: {"endpoint_url": url},
        {"key": "AKID", "secret": "secret"},
        "anon=True",
    ),
    "gs-obstore": Way(
        "gs://bucket/p", "obstore", "bucket/p/x", google, {"bearer_token": "secret"}, "skip_signature=True"
    ),
    "gs-fsspec": Way(
        "gs://bucket/p",
        "fsspec",
        "download/storage/v1/b/bucket/o/p/x",
        lambda url: {"endpoint_url": url},
        {"token": Credentials("secret")},
        "token='anon'",
    ),
    "az-obstore": Way(
        "az://account/cont/p",
        "obstore",
        "account/cont/p/x",
        lambda url: {"endpoint": f"{url}/account"},
        {"account_key": KEY},
        "skip_signature=True",
    ),
    "az-fsspec": Way(
        "az://account/cont/p",
        "fsspec",
        "account/cont/p/x",
        lambda url: {"connection_string": f"AccountName=account;BlobEndpoint={url}/account"},
        {"connection_string": f"AccountName=account;AccountKey={KEY};BlobEndpoint=URL/account"},
        "anon=True",
        instance=False,  # a connection string without a key keeps adlfs from looking
    ),
}


@pytest.fixture(params=list(WAYS))
def way(request):
    return WAYS[request.param]


@pytest.fixture
def serve(request):
    """Run a server that answers by a rule, with the object ``x``."""
    running = []

    def begin(rule, way):
        context = object_server(rule)
        server = context.__enter__()
        running.append(context)
        server.store[way.key] = b"data"
        return server

    yield begin
    for context in running:
        context.__exit__(None, None, None)


def opened(way, server, **options):
    options = {
        key: value.replace("URL", server.url) if isinstance(value, str) else value for key, value in options.items()
    }
    return connect(resolve(way.url, backend=way.backend, storage_options={**way.to(server.url), **options}))


def test_a_public_bucket_just_works(way, serve):
    server = serve(only_unsigned, way)
    assert bytes(fetch(opened(way, server), [Get("x")])[0]) == b"data"
    assert len(server.asked) == 1


def test_a_refused_unsigned_request_says_so(way, serve):
    server = serve(only_signed, way)
    begin = time.monotonic()
    with pytest.raises(StoreError, match=r"reading 'x' failed.*sent unsigned"):
        fetch(opened(way, server), [Get("x")])
    assert fetch(opened(way, server), [ListDir("", required=False)]) == [None]
    assert time.monotonic() - begin < 20


def test_refused_credentials_say_how_to_go_without(way, serve):
    server = serve(only_unsigned, way)
    with pytest.raises(StoreError) as caught:
        fetch(opened(way, server, **way.keys), [Get("x")])
    assert f"credentials were refused ({way.public}" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert KEY not in str(caught.value)


@pytest.fixture
def metadata(machine):
    """Give the paths that the instance's metadata were asked for, which hold credentials of every cloud."""
    aws = {"Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": "AKID", "SecretAccessKey": "secret", "Token": "t"}
    aws |= {"LastUpdated": "2026-01-01T00:00:00Z", "Expiration": "2099-01-01T00:00:00Z"}
    token = {"access_token": "token", "expires_in": 3600, "token_type": "Bearer"}
    token |= {"expires_on": "4070908800", "resource": "https://storage.azure.com", "not_before": "0"}
    account = {"email": "someone@example.org", "scopes": ["a"], "aliases": ["default"]}

    def answer(asked):
        path = asked.path.rstrip("/")
        google = {"Metadata-Flavor": "Google", "Content-Type": "application/json"}
        if path.endswith("api/token"):
            return Answer(200, text="token")
        if path.endswith("security-credentials"):
            return Answer(200, text="role")
        if "security-credentials" in path:
            return Answer(200, text=json.dumps(aws))
        if path.endswith("token"):
            return Answer(200, "", google, text=json.dumps(token))
        return Answer(200, "", google, text=json.dumps(account if "service-accounts" in path else {}))

    return machine(answer).asked


def test_metadata_is_asked_only_after_a_refusal(way, serve, metadata):
    server = serve(only_unsigned, way)
    fetch(opened(way, server), [Get("x")])
    assert metadata == []
    if not way.instance:
        return
    server = serve(only_signed, way)
    begin = time.monotonic()
    assert [bytes(data) for data in fetch(opened(way, server), [Get("x")] * 5)] == [b"data"] * 5
    assert time.monotonic() - begin < 20
    assert metadata
    assert not server.asked[0].signed
