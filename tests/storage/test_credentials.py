"""Public buckets just work: whether to sign is decided before the first request, without the network."""

import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.servers import file_server
from zarr_vectors_lazy.errors import StoreError
from zarr_vectors_lazy.storage.credentials import aws_config
from zarr_vectors_lazy.storage.fetch import connect, fetch
from zarr_vectors_lazy.storage.requests import Get, ListDir
from zarr_vectors_lazy.storage.resolve import resolve

ENDPOINT = {"obstore": "endpoint", "fsspec": "endpoint_url"}
both = pytest.mark.parametrize("backend", ["obstore", "fsspec"])


def only_unsigned(_path, headers):
    return 403 if "Authorization" in headers else None


def only_signed(_path, headers):
    return None if "Authorization" in headers else 403


@pytest.fixture
def bucket(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x").write_bytes(b"data")
    return tmp_path


def opened(url, backend, **options):
    return connect(resolve("s3://b", backend=backend, **{ENDPOINT[backend]: url}, **options))


@both
def test_without_credentials_requests_go_unsigned(bucket, backend):
    with file_server(bucket, status=only_unsigned, headers={"ETag": '"1"'}) as (url, seen):
        assert bytes(fetch(opened(url, backend), [Get("x")])[0]) == b"data"
    assert len(seen.requests) == 1


@both
def test_a_refused_unsigned_request_says_why(bucket, backend):
    with file_server(bucket, status=only_signed) as (url, _):
        with pytest.raises(StoreError, match="sent unsigned"):
            fetch(opened(url, backend), [Get("x")])
        assert fetch(opened(url, backend), [ListDir("", required=False)]) == [None]


@both
def test_credentials_of_the_environment_sign(bucket, backend, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with file_server(bucket, status=only_signed, headers={"ETag": '"1"'}) as (url, _):
        assert bytes(fetch(opened(url, backend), [Get("x")])[0]) == b"data"


@both
def test_credentials_of_a_profile_sign(bucket, backend, monkeypatch, tmp_path):
    (tmp_path / "credentials").write_text("[lab]\naws_access_key_id = AKID\naws_secret_access_key = secret\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "lab")
    with file_server(bucket, status=only_signed, headers={"ETag": '"1"'}) as (url, _):
        assert bytes(fetch(opened(url, backend), [Get("x")])[0]) == b"data"


@both
def test_a_profile_that_does_not_exist_is_named(backend, monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    with pytest.raises(StoreError, match="no-such-profile"):
        opened("http://127.0.0.1:9", backend)


def test_plain_profiles_are_read_without_botocore(monkeypatch, tmp_path):
    (tmp_path / "config").write_text("[profile lab]\nregion = eu-west-1\n")
    (tmp_path / "credentials").write_text("[lab]\naws_access_key_id = AKID\naws_secret_access_key = secret\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setitem(sys.modules, "botocore.exceptions", None)
    assert aws_config().provider() is None
    monkeypatch.setenv("AWS_PROFILE", "lab")
    assert aws_config().provider()()["access_key_id"] == "AKID"
    assert aws_config().settings(()) == ({"region": "eu-west-1"}, {})


@both
def test_refused_credentials_say_how_to_go_without(bucket, backend):
    keys = {"obstore": {"access_key_id": "A", "secret_access_key": "B"}, "fsspec": {"key": "A", "secret": "B"}}
    hint = {"obstore": "skip_signature=True", "fsspec": "anon=True"}[backend]
    with file_server(bucket, status=only_unsigned) as (url, _), pytest.raises(StoreError, match=hint):
        fetch(opened(url, backend, **keys[backend]), [Get("x")])


class Metadata(BaseHTTPRequestHandler):
    """An instance's metadata address."""

    asked: list[str] = []  # noqa: RUF012

    def log_message(self, *_):
        pass

    def do_PUT(self):
        self._say("token")

    def do_GET(self):
        self.asked.append(self.path)
        if self.path.rstrip("/").endswith("security-credentials"):
            self._say("role")
        else:
            self._say(
                '{"Code": "Success", "Type": "AWS-HMAC", "LastUpdated": "2026-01-01T00:00:00Z", "AccessKeyId": "AKID",'
                ' "SecretAccessKey": "secret", "Token": "t", "Expiration": "2099-01-01T00:00:00Z"}'
            )

    def _say(self, text):
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


@pytest.fixture
def metadata(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Metadata.asked.clear()
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", url)  # object_store's name
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", url)  # botocore's
    yield Metadata.asked
    server.shutdown()
    server.server_close()


@both
def test_metadata_is_asked_only_after_a_refusal(bucket, backend, metadata):
    with file_server(bucket, status=only_unsigned, headers={"ETag": '"1"'}) as (url, _):
        fetch(opened(url, backend), [Get("x")])
    assert metadata == []
    with file_server(bucket, status=only_signed, headers={"ETag": '"1"'}) as (url, _):
        assert [bytes(data) for data in fetch(opened(url, backend), [Get("x")] * 5)] == [b"data"] * 5
    assert metadata


@both
def test_nobody_at_the_metadata_address_is_found_out_soon(bucket, backend, monkeypatch):
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9")
    with file_server(bucket, status=only_signed) as (url, _), pytest.raises(StoreError, match="reading 'x'"):
        fetch(opened(url, backend), [Get("x")])


def test_client_options_of_the_environment_reach_obstore(bucket, monkeypatch):
    with file_server(bucket) as (url, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        monkeypatch.setenv("AWS_USER_AGENT", "somebody")
        assert bytes(fetch(connect(resolve("s3://b", backend="obstore")), [Get("x")])[0]) == b"data"
