"""Errors state the cause, without XML or hints that were already followed; the size of answers is limited."""

import contextlib
import gzip
import pickle
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import BaseRequestHandler, ThreadingTCPServer

import dask
import distributed  # noqa: F401  pickles causes too, from when it is imported
import pytest
import trustme

from tests.services.object_server import Answer, object_server
from tests.services.test_anonymous import WAYS
from zarr_vectors_lazy.errors import StoreError, ZVWarning
from zarr_vectors_lazy.storage import io
from zarr_vectors_lazy.storage.fetch import connect, fetch
from zarr_vectors_lazy.storage.requests import Get, ListSizes
from zarr_vectors_lazy.storage.resolve import resolve

pytestmark = pytest.mark.emulator
both = pytest.mark.parametrize("backend", ["obstore", "fsspec"])
KEYS = {"obstore": {"access_key_id": "A", "secret_access_key": "B"}, "fsspec": {"key": "A", "secret": "B"}}
END = {"obstore": "endpoint", "fsspec": "endpoint_url"}


@pytest.fixture(autouse=True)
def once():
    with dask.config.set({"zarr_vectors_lazy.retries": 0}):
        yield


def failure(url, backend, **options):
    with pytest.raises(StoreError) as caught:
        fetch(connect(resolve(url, backend=backend, **options)), [Get("x")])
    assert caught.value.__cause__ is not caught.value
    arrived = pickle.loads(pickle.dumps(caught.value))
    assert str(arrived) == str(caught.value)
    assert "<" not in str(arrived)
    return str(arrived)


@both
def test_why_nothing_was_reached(backend, https_host, http_host):
    assert "the connection is refused" in failure("http://127.0.0.1:9/p", backend)
    assert "the host is not known" in failure("http://no-such-host.invalid/p", backend)
    assert "the certificate is not signed by an authority" in failure(f"{https_host.url}/p", backend)
    assert "closed the connection without an answer" in failure(f"{https_host.url.replace('https', 'http')}/p", backend)
    assert "speaks http, not https" in failure(f"{http_host.url.replace('http', 'https')}/p", backend)
    proxy = {
        "obstore": {"client_options": {"proxy_url": "http://127.0.0.1:9"}},
        "fsspec": {"proxy": "http://127.0.0.1:9"},
    }
    assert "refused" in failure("http://example.invalid/p", backend, **proxy[backend])


EXPIRED = {
    "ExpiredTokenException": "The security token included in the request is expired",
    "RequestExpired": "Request has expired.",
    "ExpiredToken": "The provided token has expired.",
}


@both
@pytest.mark.parametrize("code", list(EXPIRED))
def test_expiry_in_other_words(backend, code):
    with object_server(lambda _: Answer(403, code, message=EXPIRED[code])) as server:
        text = failure("s3://b/p", backend, **{END[backend]: server.url}, **KEYS[backend])
    assert "the credentials have expired: renew" in text


@both
def test_a_bucket_that_is_not_there_is_said_first(backend):
    with object_server(lambda _: Answer(404, "NoSuchBucket", message="The specified bucket does not exist")) as server:
        text = failure("s3://b/p", backend, **{END[backend]: server.url}, **KEYS[backend])
        with pytest.raises(StoreError, match="no such bucket"):  # nor is it an empty one
            fetch(connect(resolve("s3://b/p", backend=backend, **{END[backend]: server.url})), [ListSizes("")])
    assert "no such bucket" in text[:60]
    assert "skip_signature" not in text
    assert "anon" not in text


@both
def test_no_hint_that_was_followed(backend):
    public = {"obstore": {"skip_signature": True}, "fsspec": {"anon": True}}[backend]
    with object_server(lambda _: Answer(403, "AccessDenied")) as server:
        text = failure("s3://b/p", backend, **{END[backend]: server.url}, **public)
    assert "sent unsigned, as" in text
    assert "reads a public bucket" not in text


@both
@pytest.mark.parametrize("status", [204, 300, 302, 304, 307])
def test_an_answer_without_an_object_is_no_empty_object(backend, status):
    with object_server(lambda _: Answer(status)) as server:
        failure(f"{server.url}/p", backend)


@both
@pytest.mark.parametrize("page", ["<p>teapot</p>", "<!DOCTYPE html><html>", "<ListBucketResult xmlns='x'>", "<br/>"])
def test_no_page_is_shown(backend, page):
    with object_server(lambda _: Answer(418, text=page)) as server:
        assert "418" in failure(f"{server.url}/p", backend)


@both
@pytest.mark.parametrize(
    ("words", "given"), [("has expired", ("127.0.0.1", -3)), ("is for another host", ("example.org", 3))]
)
def test_certificates_that_do_not_fit(backend, words, given, monkeypatch, tmp_path):
    authority, (name, days) = trustme.CA(), given
    until = datetime.now(UTC) + timedelta(days=days)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    with object_server(authority=authority, names=[name], not_after=until) as server:
        said = failure("s3://b/p", backend, storage_options={END[backend]: server.url, **KEYS[backend]})
    assert f"the certificate {words}" in said


@both
@pytest.mark.parametrize("text", [None, "no certificate"])
def test_certificates_that_are_none_are_named(backend, text, monkeypatch, tmp_path):
    bundle = tmp_path / "ca.pem"
    if text is not None:
        bundle.write_text(text)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    with pytest.raises(StoreError, match=r"ca\.pem.*cannot be read"):
        fetch(connect(resolve("s3://b/p", backend=backend, **{END[backend]: "https://127.0.0.1:9"})), [Get("x")])


OK = b"HTTP/1.1 200 OK\r\n"
MALFORMED = {
    "is not HTTP": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "header of the answer is malformed": OK + b"no colon here\r\n\r\n",
    "headers of the answer are too large": OK + b"X: " + b"y" * 10**6 + b"\r\n\r\n",
    "ended early": OK + b"Last-Modified: Wed, 01 Jan 2025 00:00:00 GMT\r\nContent-Length: 50\r\n\r\nx",
}


class Raw(BaseRequestHandler):
    """Says what it was given to say."""

    def handle(self):
        self.request.recv(2**16)
        with contextlib.suppress(OSError):
            self.request.sendall(self.server.said)


@both
@pytest.mark.parametrize("words", list(MALFORMED))
def test_what_is_wrong_with_an_answer_is_said(backend, words):
    with ThreadingTCPServer(("127.0.0.1", 0), Raw) as server:
        server.said = MALFORMED[words]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        text = failure(f"http://127.0.0.1:{server.server_address[1]}/p", backend)
        server.shutdown()
    assert words in text


@both
def test_a_range_longer_than_it_is_said_to_be_is_not_read_on(backend):
    announced = {"Content-Range": "bytes 0-9/100", "Content-Length": str(2**40), "Connection": "close"}
    announced["Last-Modified"] = "Wed, 01 Jan 2025 00:00:00 GMT"
    begin = b"HTTP/1.1 206 Partial Content\r\n" + "".join(f"{n}: {v}\r\n" for n, v in announced.items()).encode()
    limits = {"zarr_vectors_lazy.max-array-bytes": "1 MiB", "zarr_vectors_lazy.max-cell-bytes": "1 MiB"}
    with ThreadingTCPServer(("127.0.0.1", 0), Raw) as server, dask.config.set(limits):
        server.said = begin + b"\r\n" + bytes(2**24)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        there = connect(resolve(f"http://127.0.0.1:{server.server_address[1]}/p", backend=backend))
        with pytest.raises(StoreError, match=r"arrived, but 10 were announced|max-array-bytes"):
            fetch(there, [Get("x", 0, 10)])
        server.shutdown()


@both
def test_proxies_of_the_environment(backend, monkeypatch):
    with object_server() as server:
        server.store["b/p/x"] = b"data"
        options = {END[backend]: server.url, **KEYS[backend]}
        for variable, value in {"HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}.items():
            for name in (variable, variable.lower()):
                monkeypatch.setenv(name, value)
            there = connect(resolve("s3://b/p", backend=backend, storage_options=options))
            if variable == "HTTP_PROXY":
                with pytest.raises(StoreError, match="refused") as caught:
                    fetch(there, [Get("x")])
                assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
            else:
                assert bytes(fetch(there, [Get("x")])[0]) == b"data"


@both
def test_redirects(backend):
    secret = {"Authorization": "Basic c2VjcmV0", "Cookie": "id=1"}
    given = {"obstore": {"client_options": {"default_headers": secret}}, "fsspec": {"headers": secret}}[backend]
    with object_server() as elsewhere, object_server(lambda asked: Answer(302, headers=where)) as server:
        elsewhere.store["p/x"] = b"data"
        where = {"Location": f"{elsewhere.url.replace('127.0.0.1', 'localhost')}/p/x"}
        there = connect(resolve(f"{server.url}/p", backend=backend, storage_options=given))
        assert bytes(fetch(there, [Get("x")])[0]) == b"data"
        assert server.asked[0].headers["authorization"] == secret["Authorization"]
        assert not {"authorization", "cookie"} & set(elsewhere.asked[0].headers)
        where = {"Location": "/p/x"}
        assert "in circles" in failure(f"{server.url}/p", backend)
        where = {"Location": "file:///etc/passwd"}
        assert "root:" not in failure(f"{server.url}/p", backend)


class Odd(BaseHTTPRequestHandler):
    """Answers with encodings of the way, without lengths, without end."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.send_response(200)
        self.send_header("ETag", '"1"')
        self.send_header("Last-Modified", "Wed, 01 Jan 2025 00:00:00 GMT")
        packed = gzip.compress(b"data" * 10 if "small" in self.path else bytes(2**27))
        if "parts" in self.path:
            packed *= 2
        if "cut" in self.path:
            packed = packed[:-9]
        if "gzip" in self.path:
            self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", str(len(packed)))
            self.end_headers()
            self.wfile.write(packed)
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            while True:
                self.wfile.write(b"10000\r\n" + bytes(2**16) + b"\r\n")
        except OSError:
            pass


@pytest.fixture(scope="module")
def odd():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Odd)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@both
def test_answers_are_decoded_and_have_a_bound(backend, odd):
    there = connect(resolve(odd, backend=backend))
    assert bytes(fetch(there, [Get("gzip/small/zarr.json")])[0]) == b"data" * 10
    assert bytes(fetch(there, [Get("gzip/small/parts/zarr.json")])[0]) == b"data" * 20
    with pytest.raises(StoreError, match="content encoding 'gzip' that the server states"):
        fetch(there, [Get("gzip/small/cut/zarr.json")])
    with dask.config.set({"zarr_vectors_lazy.max-metadata-bytes": "1 MiB"}):
        with pytest.raises(StoreError, match="max-metadata-bytes"):
            fetch(there, [Get("gzip/zarr.json")])
        said = "fsspec" if backend == "obstore" else "max-metadata-bytes"
        with pytest.raises(StoreError, match=said):
            fetch(there, [Get("endless/zarr.json")])
    with (
        dask.config.set({"zarr_vectors_lazy.max-array-bytes": "1 MiB", "zarr_vectors_lazy.max-cell-bytes": "2 MiB"}),
        pytest.raises(StoreError, match="max-array-bytes"),
    ):
        fetch(there, [Get("gzip/c/0")])


@pytest.mark.parametrize("name", list(WAYS))
def test_answers_of_clouds_have_a_bound(name, odd):
    way = WAYS[name]
    there = connect(resolve(way.url, backend=way.backend, storage_options=way.to(odd)))
    encoded, length = (
        "max-metadata-bytes",
        "max-metadata-bytes" if way.backend == "fsspec" else "does not state its length",
    )
    if name == "az-fsspec":
        encoded, length = "content encoding 'gzip', which backend='obstore' can read", "without its length"
        with pytest.raises(StoreError, match=encoded):
            fetch(there, [Get("gzip/small/zarr.json")])
    else:
        assert bytes(fetch(there, [Get("gzip/small/zarr.json")])[0]) == b"data" * 10
    with dask.config.set({"zarr_vectors_lazy.max-metadata-bytes": "1 MiB"}):
        for key, said in {"gzip": encoded, "endless": length}.items():
            with pytest.raises(StoreError, match=said):
                fetch(there, [Get(f"{key}/zarr.json")])


@both
def test_silence_is_told_within_ten_seconds(backend, monkeypatch):
    assert io.SILENCE_S < 10
    for module in (io, io):
        monkeypatch.setattr(module, "SILENCE_S", 0.2)
    with object_server(lambda _: time.sleep(1)) as server:
        server.store["p/x"] = b"data"
        there = connect(resolve(f"{server.url}/p", backend=backend))
        with pytest.warns(ZVWarning, match=r"no answer from .* tried again"):
            assert bytes(fetch(there, [Get("x")])[0]) == b"data"
