"""Credentials that expire, buckets in other regions, requester-pays buckets, and credentials of the environment."""

import base64
import json
import os
import re
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

import zarr_vectors_lazy as zvl
from tests.bounds import HANGS_S
from tests.services.hosts import ACCOUNT
from tests.services.object_server import Answer, object_server
from tests.services.test_anonymous import only_signed
from zarr_vectors_lazy.errors import StoreError
from zarr_vectors_lazy.storage.fetch import connect, fetch
from zarr_vectors_lazy.storage.requests import Get, ListDir
from zarr_vectors_lazy.storage.resolve import resolve

pytestmark = pytest.mark.emulator
both = pytest.mark.parametrize("backend", ["obstore", "fsspec"])
ENDPOINT = {"obstore": "endpoint", "fsspec": "endpoint_url"}
KEYS = {
    "obstore": {"access_key_id": "AKID", "secret_access_key": "secret-text", "session_token": "token-text"},
    "fsspec": {"key": "AKID", "secret": "secret-text", "token": "token-text"},
}
REGION = re.compile(r"Credential=(\w+)/\d+/([\w-]+)/s3")


def opened(server, backend, url="s3://bucket/p", **options):
    return connect(resolve(url, backend=backend, storage_options={ENDPOINT[backend]: server.url, **options}))


def read(backend):
    (data,) = fetch(backend, [Get("x")])
    return bytes(data)


def scope(asked):
    """Return (key id, region) that a request is signed with."""
    return REGION.search(asked.headers.get("authorization", "Credential=none/0/none/s3")).groups()


def expired(_asked):
    return Answer(400, "ExpiredToken", message="The provided token has expired.")


@both
def test_expired_credentials_are_an_error_that_says_so(backend):
    with object_server(expired) as server, pytest.raises(StoreError, match="credentials have expired: renew") as caught:
        read(opened(server, backend, **KEYS[backend]))
    assert "secret-text" not in str(caught.value)
    assert "token-text" not in str(caught.value)


@both
def test_credentials_that_expire_in_mid_run(backend):
    accepted = [True]
    with object_server(lambda asked: None if accepted[0] else expired(asked)) as server:
        server.store["bucket/p/x"] = b"data"
        there = opened(server, backend, **KEYS[backend])
        assert read(there) == b"data"
        accepted[0] = False
        with pytest.raises(StoreError, match="expired"):
            read(there)
        with pytest.raises(StoreError, match="expired"):
            fetch(there, [ListDir("", required=False)])


class Provider:
    """Gives key AKID1, AKID2, ... each for a moment, as a session of short life does."""

    given = 0

    def __call__(self):
        Provider.given += 1
        soon = datetime.now(UTC) + timedelta(seconds=1)
        return {"access_key_id": f"AKID{Provider.given}", "secret_access_key": "s", "token": "t", "expires_at": soon}


def test_obstore_renews_by_its_provider():
    with object_server(lambda asked: expired(asked) if scope(asked)[0] == "AKID1" and asked_before else None) as server:
        server.store["bucket/p/x"] = b"data"
        asked_before = []
        there = opened(server, "obstore", credential_provider=Provider())
        assert read(there) == b"data"
        asked_before.append(True)
        time.sleep(0.2)  # obstore asks its provider ten times a second at most
        assert read(there) == b"data"
    assert Provider.given >= 2


def elsewhere(asked):
    if asked.signed and scope(asked)[1] == "eu-west-1":
        return None
    headers = {"x-amz-bucket-region": "eu-west-1"}
    return Answer(301, "PermanentRedirect", headers, message="The bucket is in this region: eu-west-1")


def malformed(asked):
    if scope(asked)[1] == "eu-west-1":
        return None
    code = "<Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region>"
    message = "The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-west-1'"
    return Answer(400, text=f"<Error>{code}<Message>{message}</Message></Error>")


@both
@pytest.mark.parametrize("rule", [elsewhere, malformed])
def test_a_bucket_in_another_region_is_found(backend, rule):
    with object_server(rule) as server:
        server.store["bucket/p/x"] = b"data"
        there = opened(server, backend, **KEYS[backend])
        assert [bytes(data) for data in fetch(there, [Get("x")] * 6)] == [b"data"] * 6
        assert fetch(there, [ListDir("")]) == [("x",)]
        del server.asked[:]
        assert read(there) == b"data"
        assert len(server.asked) == 1


def test_the_endpoint_of_a_profile_is_asked_for_the_region(monkeypatch, tmp_path):
    with object_server(elsewhere) as server:
        server.store["bucket/p/x"] = b"data"
        keys = "aws_access_key_id = AKID\naws_secret_access_key = secret\n"
        (tmp_path / "config").write_text(f"[profile lab]\n{keys}endpoint_url = {server.url}\n")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        assert read(connect(resolve("s3://bucket/p", backend="obstore", profile="lab"))) == b"data"


def test_a_redirect_that_leads_nowhere_is_an_error():
    with (
        object_server(lambda _: Answer(301, "PermanentRedirect")) as server,
        pytest.raises(StoreError, match="redirect"),
    ):
        read(opened(server, "obstore", **KEYS["obstore"]))


@pytest.mark.parametrize(
    ("backend", "option"), [("obstore", {"request_payer": True}), ("fsspec", {"requester_pays": True})]
)
def test_the_requester_pays(backend, option):
    def payed(asked):
        return (
            None if asked.headers.get("x-amz-request-payer") == "requester" and asked.signed else Answer(403, "Denied")
        )

    with object_server(payed) as server:
        server.store["bucket/p/x"] = b"data"
        there = opened(server, backend, **KEYS[backend], **option)
        assert read(there) == b"data"
        assert fetch(there, [ListDir("")]) == [("x",)]
        with pytest.raises(StoreError, match=r"403|Denied|Forbidden"):
            read(opened(server, backend, **KEYS[backend]))


@both
def test_azure_credentials_of_the_environment(backend, monkeypatch):
    key = base64.b64encode(b"secret of the account").decode()
    with object_server(only_signed) as server:
        server.store["account/cont/p/x"] = b"data"
        text = f"AccountName=account;AccountKey={key};BlobEndpoint={server.url}/account"
        monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", text)
        assert read(connect(resolve("abfs://cont/p", backend=backend))) == b"data"


def test_obstore_takes_azures_own_variables(monkeypatch):
    with object_server(only_signed) as server:
        server.store["account/cont/p/x"] = b"data"
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", base64.b64encode(b"secret").decode())
        monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", f"{server.url}/account")
        monkeypatch.setenv("AZURE_ALLOW_HTTP", "true")
        assert read(connect(resolve("az://cont/p", backend="obstore", allow_http=True))) == b"data"


@both
def test_a_public_container_of_azurite(backend, azure_host):
    azure_host.put("p", {"x": b"data"}, container="public")
    azure_host.put("p", {"x": b"data"})
    to = {
        "obstore": {"account_name": ACCOUNT, "endpoint": azure_host.endpoint},
        "fsspec": {"connection_string": f"AccountName={ACCOUNT};BlobEndpoint={azure_host.endpoint}"},
    }[backend]
    assert read(connect(resolve(f"az://{ACCOUNT}/public/p", backend=backend, **to))) == b"data"
    with pytest.raises(StoreError, match="sent unsigned"):
        read(connect(resolve(f"az://{ACCOUNT}/loopback/p", backend=backend, **to)))


CHILD = """
import sys
from zarr_vectors_lazy.errors import StoreError
from zarr_vectors_lazy.storage.fetch import connect
from zarr_vectors_lazy.storage.fetch import fetch
from zarr_vectors_lazy.storage.requests import Get
from zarr_vectors_lazy.storage.resolve import resolve

there = connect(resolve("az://account/cont/p", backend="fsspec", account_host=sys.argv[1]))
try:
    print(bytes(fetch(there, [Get("x")])[0]))
except StoreError as error:
    print(error)
"""


@pytest.mark.parametrize(("answers", "said"), [(True, "b'data'"), (False, "sent unsigned")])
def test_adlfs_and_the_metadata_of_the_instance(answers, said, tmp_path):
    token = {"access_token": "t", "expires_in": "3600", "expires_on": "4070908800", "token_type": "Bearer"}
    token |= {"resource": "https://storage.azure.com"}
    metadata = Answer(200, "", {"Content-Type": "application/json"}, text=json.dumps(token))
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")  # which a process reads as it starts
    with object_server(only_signed, authority=authority) as server, object_server(lambda _: metadata) as instance:
        server.store["cont/p/x"] = b"data"
        host = instance.url if answers else "http://127.0.0.1:9"
        environment = {"SSL_CERT_FILE": str(tmp_path / "ca.pem"), "AZURE_POD_IDENTITY_AUTHORITY_HOST": host}
        command = [sys.executable, "-c", CHILD, server.url.partition("://")[2]]
        environment = {**os.environ, **environment}
        done = subprocess.run(command, env=environment, timeout=HANGS_S, check=True, capture_output=True, text=True)
        assert said in done.stdout
        assert [asked.signed for asked in server.asked] == ([False, True] if answers else [False])
        assert bool(instance.asked) == answers


@both
def test_google_credentials_of_the_environment(backend, monkeypatch, tmp_path):
    token = {"access_token": "granted", "expires_in": 3600, "token_type": "Bearer"}

    def rule(asked):
        if asked.path.endswith("token"):
            return Answer(200, "", {"Content-Type": "application/json"}, text=json.dumps(token))
        return None if asked.headers.get("authorization", "").startswith("Bearer ") else Answer(403, "AccessDenied")

    with object_server(rule) as server:
        server.store["bucket/p/x"] = server.store["download/storage/v1/b/bucket/o/p/x"] = b"data"
        account = {
            "type": "service_account",
            "project_id": "p",
            "private_key_id": "1",
            "private_key": private_key(),
            "client_email": "someone@p.iam.gserviceaccount.com",
            "client_id": "1",
            "token_uri": f"{server.url}/token",
        }
        (tmp_path / "account.json").write_text(json.dumps(account))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "account.json"))
        options = {"obstore": {"base_url": server.url}, "fsspec": {"endpoint_url": server.url}}[backend]
        assert read(connect(resolve("gs://bucket/p", backend=backend, **options))) == b"data"


def private_key():
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()


@pytest.mark.parametrize("options", [{"conditional_put": "disabled"}, {"retry_config": {"max_retries": 0}}])
def test_a_server_without_conditional_puts(options):
    """The user says so, or it answers 501 (obstore asks again until `retry-timeout`); then looks come before puts."""

    def refuse(asked):
        conditional = asked.method == "PUT" and {"if-match", "if-none-match"} & set(asked.headers)
        return Answer(501, "NotImplemented") if conditional else None

    with object_server(refuse) as server:
        there = {"storage_options": {"endpoint": server.url, **KEYS["obstore"], **options}, "backend": "obstore"}
        for n in (5, 9):
            zvl.write_points("s3://bucket/p", np.arange(2.0 * n).reshape(n, 2), chunk_shape=4, mode="w", **there)
            assert zvl.open_zv("s3://bucket/p", **there)[0].vertex_count == n
        with pytest.raises(StoreError, match="is here already"):
            zvl.write_points("s3://bucket/p", np.zeros((1, 2)), chunk_shape=4, **there)
        refused = [asked for asked in server.asked if refuse(asked)]
        assert len(refused) == ("retry_config" in options)
