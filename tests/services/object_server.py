"""A server of objects on loopback that implements as much of S3's and Google's XML as obstore needs, and plain HTTP."""

import hashlib
import re
import ssl
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

RANGE = re.compile(r"bytes=(\d*)-(\d*)$")
PAGE = 1000


@dataclass(frozen=True)
class Asked:
    """One request: its path and headers (by names in lower case)."""

    method: str
    path: str
    query: dict
    headers: dict

    @property
    def signed(self):
        """Whether it has credentials."""
        return "authorization" in self.headers or "sig" in self.query


@dataclass(frozen=True)
class Answer:
    """What a rule of the server answers in place of the object."""

    status: int
    code: str = ""
    headers: dict = field(default_factory=dict)
    message: str = ""
    text: str = ""


@dataclass
class ObjectServer:
    """Objects by ``bucket/key``, and what was asked of them.

    Parameters
    ----------
    rule
        Called with each request; what it returns, if anything, is the answer.
    """

    rule: object = None
    store: dict = field(default_factory=dict)
    asked: list = field(default_factory=list)
    url: str = ""
    certificate: bytes = b""

    def put(self, prefix, objects):
        self.store.update((f"{prefix}/{key}", data) for key, data in objects.items())

    def objects(self, prefix):
        skipped = len(prefix) + 1
        return {key[skipped:]: data for key, data in list(self.store.items()) if key.startswith(f"{prefix}/")}


@contextmanager
def object_server(rule=None, *, authority=None, names=("127.0.0.1", "localhost"), **validity):
    """Run an `ObjectServer`; with TLS where ``authority`` (of trustme) signs its certificate."""
    server = ObjectServer(rule)
    listener = _Listener(("127.0.0.1", 0), type("Handler", (_Handler,), {"objects": server}))
    if authority is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert(*names, **validity).configure_cert(context)
        listener.socket = context.wrap_socket(listener.socket, server_side=True, do_handshake_on_connect=False)
        server.certificate = authority.cert_pem.bytes()
    server.url = f"{'https' if authority else 'http'}://127.0.0.1:{listener.server_port}"
    threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield server
    finally:
        listener.shutdown()
        listener.server_close()


class _Listener(ThreadingHTTPServer):
    request_queue_size = 512
    daemon_threads = True

    def handle_error(self, *_):  # a client that hangs up
        pass


class _Handler(BaseHTTPRequestHandler):
    objects: ObjectServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, *_):
        pass

    def _begin(self):
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(self.command, unquote(parts.path).lstrip("/"), query, headers)
        body = self.rfile.read(int(headers.get("content-length", 0)))
        self.objects.asked.append(asked)
        answer = self.objects.rule(asked) if self.objects.rule else None
        if answer is not None:
            self._refuse(answer)
            return None, b""
        return asked, body

    def do_GET(self):
        asked, _ = self._begin()
        if asked is None:
            return
        if "list-type" in asked.query:
            self._say(200, _listing(self.objects.store, asked), {"Content-Type": "application/xml"})
            return
        data = self.objects.store.get(asked.path)
        if data is None:
            self._refuse(Answer(404, "NoSuchKey"))
            return
        headers = {"ETag": _etag(data), "Last-Modified": "Wed, 01 Jan 2025 00:00:00 GMT", "Accept-Ranges": "bytes"}
        headers["x-goog-generation"] = _generation(data)
        found = RANGE.match(asked.headers.get("range") or asked.headers.get("x-ms-range", ""))
        if not found:
            self._say(200, data, headers)
            return
        first, last = found.groups()
        start = int(first) if first else max(0, len(data) - int(last))
        stop = min(int(last) + 1, len(data)) if first and last else len(data)
        if start >= stop:
            self._refuse(Answer(416, "InvalidRange", {"Content-Range": f"bytes */{len(data)}"}))
            return
        self._say(206, data[start:stop], {**headers, "Content-Range": f"bytes {start}-{stop - 1}/{len(data)}"})

    do_HEAD = do_GET

    def do_PUT(self):
        asked, body = self._begin()
        if asked is None:
            return
        old, condition = self.objects.store.get(asked.path), asked.headers.get("x-goog-if-generation-match")
        new = asked.headers.get("if-none-match") == "*" or condition == "0"
        if (old is not None) if new else condition is not None and (old is None or condition != _generation(old)):
            self._refuse(Answer(412, "PreconditionFailed"))
            return
        self.objects.store[asked.path] = body
        self._say(200, b"", {"ETag": _etag(body)})

    def do_DELETE(self):
        asked, _ = self._begin()
        if asked is None:
            return
        found = self.objects.store.pop(asked.path, None)
        self._refuse(Answer(404, "NoSuchKey")) if found is None else self._say(204, b"", {})

    def do_POST(self):
        asked, body = self._begin()
        if asked is None:
            return
        if "delete" not in asked.query:
            self._refuse(Answer(405, "MethodNotAllowed"))
            return
        keys = re.findall("<Key>(.*?)</Key>", body.decode())
        for key in keys:
            self.objects.store.pop(f"{asked.path.strip('/')}/{key}", None)
        gone = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
        self._say(200, f"<DeleteResult>{gone}</DeleteResult>".encode(), {"Content-Type": "application/xml"})

    def _refuse(self, answer):
        text = (
            answer.text
            or f"<Error><Code>{answer.code}</Code><Message>{escape(answer.message or answer.code)}</Message></Error>"
        )
        self._say(answer.status, text.encode(), {"Content-Type": "application/xml", **answer.headers})

    def _say(self, status, body, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _etag(data):
    return f'"{hashlib.md5(data).hexdigest()}"'


def _generation(data):
    return str(
        int.from_bytes(hashlib.md5(data).digest()[:6], "big")
    )  # Google's counts puts; here it identifies the bytes


def _listing(store, asked):
    bucket = asked.path.strip("/")
    prefix, delimiter = asked.query.get("prefix", ""), asked.query.get("delimiter", "")
    after = asked.query.get("continuation-token") or asked.query.get("start-after", "")
    names = {}  # by what a page is cut at: the entry
    for path, data in list(store.items()):
        key = path.removeprefix(f"{bucket}/")
        if key == path or not key.startswith(prefix):
            continue
        head, cut, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
        name = prefix + head + cut if cut else key
        names[name] = None if cut else data
    page = [name for name in sorted(names) if name > after]
    more, page = len(page) > PAGE, page[:PAGE]
    text = "".join(_entry(name, names[name]) for name in page)
    token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
    return (
        f"<ListBucketResult><Name>{escape(bucket)}</Name><IsTruncated>{str(more).lower()}</IsTruncated>{token}{text}"
        "</ListBucketResult>"
    ).encode()


def _entry(name, data):
    if data is None:
        return f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>"
    return (
        f"<Contents><Key>{escape(name)}</Key><LastModified>2025-01-01T00:00:00.000Z</LastModified>"
        f"<ETag>{escape(_etag(data))}</ETag><Size>{len(data)}</Size></Contents>"
    )
