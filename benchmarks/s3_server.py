"""An S3-like HTTP server for benchmarks: one folder as a bucket, a fixed delay per request, requests counted.

It implements as much of S3 as is needed: GET (with ``Range``), HEAD, ListObjectsV2, where it is writable PUT of whole
objects and DELETE of one or many, errors as S3's XML. Signed and unsigned requests are answered alike. Objects are held
in memory and a response is one ``write``, so that what a client measures is its own work and the delay. Delays of
requests on different connections overlap; bandwidth is not limited.

    python -m benchmarks.s3_server FOLDER --delay-ms 30 --port 9100

``GET /_control/counts`` answers the counts as JSON, ``GET /_control/reset`` does too and zeroes them; neither is
counted or delayed.
"""

import argparse
import asyncio
import bisect
import functools
import json
import os
import re
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape, unescape

BUCKET = "bench"
MODIFIED = "Wed, 01 Jan 2025 00:00:00 GMT"
REASONS = {
    200: "OK",
    204: "No Content",
    206: "Partial Content",
    404: "Not Found",
    405: "Method Not Allowed",
    412: "Precondition Failed",
    416: "Invalid Range",
    500: "Error",
}
XML = '<?xml version="1.0" encoding="UTF-8"?>\n'


@dataclass
class Counts:
    """Counts of what clients requested since the last reset."""

    methods: dict[str, int] = field(default_factory=dict)  # GET, HEAD, LIST, and any other by its name
    nbytes: int = 0  # bytes of bodies sent
    ranged: int = 0  # GETs answered with a part
    missing: int = 0  # answers 404
    failed: int = 0  # answers 500: bugs of this server, which would count as time of the client
    now: int = 0  # requests in flight
    most: int = 0  # the most requests that were in flight at once

    def arrived(self, method: str) -> None:
        """Count one request."""
        self.methods[method] = self.methods.get(method, 0) + 1
        self.now += 1
        self.most = max(self.most, self.now)

    def answered(self, status: int, nbytes: int) -> None:
        """Count its response."""
        self.now -= 1
        self.nbytes += nbytes
        self.ranged += status == 206
        self.missing += status == 404
        self.failed += status == 500

    def reset(self) -> None:
        """Reset all counts except that of requests in flight."""
        self.__dict__.update(vars(Counts(now=self.now, most=self.now)))

    def as_json(self) -> bytes:
        """Answer of the control URL."""
        return json.dumps({"requests": sum(self.methods.values()), **vars(self)}).encode()


@dataclass(frozen=True)
class Response:
    """What goes back."""

    status: int
    head: bytes
    body: bytes = b""


def head(status: int, length: int, kind: str = "application/xml", extra: str = "") -> bytes:
    """Status line and headers of a response."""
    return (
        f"HTTP/1.1 {status} {REASONS[status]}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n"
        f"x-amz-request-id: 0\r\nServer: bench\r\n{extra}\r\n"
    ).encode()


def error(status: int, code: str, key: str) -> Response:
    """An error in S3's XML."""
    body = f"{XML}<Error><Code>{code}</Code><Message>{code}</Message><Key>{escape(key)}</Key></Error>".encode()
    return Response(status, head(status, len(body)), body)


class Bucket:
    """The objects of a folder, in memory."""

    def __init__(self, folder: Path, *, writable: bool = False) -> None:
        self.writable = writable
        files = (path for path in folder.rglob("*") if path.is_file())
        self.objects = {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(files)}
        self.keys = sorted(self.objects)
        self.whole = {key: Response(200, self._head(200, key, len(body)), body) for key, body in self.objects.items()}

    @staticmethod
    def _head(status: int, key: str, length: int, extra: str = "") -> bytes:
        tag = f'ETag: "{abs(hash(key)):016x}"\r\nLast-Modified: {MODIFIED}\r\nAccept-Ranges: bytes\r\n'
        return head(status, length, "application/octet-stream", tag + extra)

    def get(self, key: str, wanted: str | None) -> Response:
        """An object, or its byte range ``wanted``."""
        body = self.objects.get(key)
        if body is None:
            return error(404, "NoSuchKey", key)
        if wanted is None:
            return self.whole[key]
        span = parse_range(wanted, len(body))
        if span is None:
            return error(416, "InvalidRange", key)
        start, stop = span
        extra = f"Content-Range: bytes {start}-{stop - 1}/{len(body)}\r\n"
        return Response(206, self._head(206, key, stop - start, extra), body[start:stop])

    def put(self, key: str, body: bytes) -> Response:
        """Store an object."""
        if key not in self.objects:
            bisect.insort(self.keys, key)
        self.objects[key] = body
        self.whole[key] = Response(200, self._head(200, key, len(body)), body)
        return Response(200, head(200, 0, extra=f'ETag: "{abs(hash(key)):016x}"\r\n'))

    def delete(self, keys: list[str], *, several: bool = False) -> Response:
        """Delete objects; missing ones are not an error."""
        for key in keys:
            if self.objects.pop(key, None) is not None:
                del self.whole[key], self.keys[bisect.bisect_left(self.keys, key)]
        if not several:
            return Response(204, head(204, 0))
        rows = "".join(f"<Deleted><Key>{escape(key)}</Key></Deleted>" for key in keys)
        body = f"{XML}<DeleteResult>{rows}</DeleteResult>".encode()
        return Response(200, head(200, len(body)), body)

    def listing(self, query: dict[str, str]) -> Response:
        """One page of ListObjectsV2."""
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = query.get("continuation-token") or query.get("start-after", "")
        most = min(int(query.get("max-keys", 1000)), 1000)
        quote = urllib.parse.quote if query.get("encoding-type") == "url" else escape
        names, more = self._page(prefix, delimiter, after, most)
        rows = [
            f"<CommonPrefixes><Prefix>{quote(name)}</Prefix></CommonPrefixes>"
            if size is None
            else f"<Contents><Key>{quote(name)}</Key><LastModified>2025-01-01T00:00:00.000Z</LastModified>"
            f'<ETag>"0"</ETag><Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>'
            for name, size in names.items()
        ]
        last = next(reversed(names), "")
        token = f"<NextContinuationToken>{escape(last)}</NextContinuationToken>" if more else ""
        body = (
            f'{XML}<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>{BUCKET}</Name>'
            f"<Prefix>{quote(prefix)}</Prefix><KeyCount>{len(rows)}</KeyCount><MaxKeys>{most}</MaxKeys>"
            f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{''.join(rows)}</ListBucketResult>"
        ).encode()
        return Response(200, head(200, len(body)), body)

    def _page(self, prefix: str, delimiter: str, after: str, most: int) -> tuple[dict[str, int | None], bool]:
        """Up to ``most`` names after ``after`` (folded at the delimiter: size ``None``), and whether there are more."""
        names: dict[str, int | None] = {}
        for key in self.keys[bisect.bisect_left(self.keys, prefix) :]:
            if not key.startswith(prefix):
                break
            rest, cut, _ = key.removeprefix(prefix).partition(delimiter) if delimiter else (key, "", "")
            name = prefix + rest + cut if cut else key
            if name <= after or name in names:
                continue
            if len(names) == most:
                return names, True
            names[name] = None if cut else len(self.objects[key])
        return names, False


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """``(start, stop)`` of ``bytes=a-b``, ``bytes=a-`` or ``bytes=-n``; ``None`` if it lies outside the object."""
    first, _, last = header.removeprefix("bytes=").partition("-")
    start = int(first) if first else max(size - int(last), 0)
    stop = min(int(last) + 1, size) if first and last else size
    return (start, stop) if start < stop else None


class Connection(asyncio.Protocol):
    """One keep-alive connection: each request is answered ``delay_s`` after it arrived, in order."""

    def __init__(self, bucket: Bucket, delay_s: float, counts: Counts) -> None:
        self.bucket, self.delay_s, self.counts = bucket, delay_s, counts
        self.loop = asyncio.get_running_loop()
        self.pending = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.pending += data
        while (end := self.pending.find(b"\r\n\r\n")) >= 0:
            request = self.pending[:end].decode("latin-1")
            stop = end + 4 + int(find_header(request.partition("\r\n")[2], "content-length") or 0)
            if len(self.pending) < stop:
                return
            body, self.pending = self.pending[end + 4 : stop], self.pending[stop:]
            self.answer(request, body)

    def answer(self, request: str, body: bytes) -> None:
        """Count one request and schedule its response."""
        line, _, headers = request.partition("\r\n")
        method, target, _ = line.split(" ", 2)
        path, _, query = target.partition("?")
        if path.startswith("/_control/"):
            self.control(path)
            return
        bucket, _, key = path.removeprefix("/").partition("/")
        self.counts.arrived("LIST" if method == "GET" and not key else method)
        try:
            response = self.route(method, bucket, urllib.parse.unquote(key), query, (headers, body))
        except Exception as failure:  # noqa: BLE001 - relayed whole to the client, and counted
            response = error(500, f"{type(failure).__name__}: {failure}", key)
        self.loop.call_later(self.delay_s, self.send, response, method)

    def route(self, method: str, bucket: str, key: str, query: str, rest: tuple[str, bytes]) -> Response:
        """Response to one request."""
        headers, body = rest
        if bucket != BUCKET:
            return error(404, "NoSuchBucket", bucket)
        if self.bucket.writable and method in {"PUT", "POST", "DELETE"}:
            if method == "PUT" and find_header(headers, "if-none-match") and key in self.bucket.objects:
                return error(412, "PreconditionFailed", key)
            return self.change(method, key, query, body)
        if method not in {"GET", "HEAD"}:
            return error(405, "MethodNotAllowed", key)
        if key:
            return self.bucket.get(key, find_header(headers, "range"))
        return self.bucket.listing(dict(urllib.parse.parse_qsl(query)))

    def change(self, method: str, key: str, query: str, body: bytes) -> Response:
        """Response to a request that writes or deletes."""
        if method == "PUT" and key:
            return self.bucket.put(key, body)
        if method == "DELETE" and key:
            return self.bucket.delete([key])
        if method == "POST" and "delete" in query:
            named = re.findall(rb"<Key>(.*?)</Key>", body)
            return self.bucket.delete([unescape(name.decode()) for name in named], several=True)
        return error(405, "MethodNotAllowed", key)

    def send(self, response: Response, method: str) -> None:
        """Write a response whose delay is over."""
        body = b"" if method == "HEAD" else response.body
        self.counts.answered(response.status, len(body))
        self.transport.write(response.head + body)

    def control(self, path: str) -> None:
        """Answer with the current counts, and reset them if requested."""
        body = self.counts.as_json()
        if path == "/_control/reset":
            self.counts.reset()
        self.transport.write(head(200, len(body), "application/json") + body)


def find_header(headers: str, name: str) -> str | None:
    """Value of a header; the case of its name does not matter."""
    lowered = f"\r\n{headers.lower()}\r\n"
    start = lowered.find(f"\r\n{name}:")
    if start < 0:
        return None
    start += len(name) + 3
    return lowered[start : lowered.find("\r\n", start)].strip()


async def serve(folder: Path, *, port: int, delay_s: float, until_stdin_closes: bool, writable: bool) -> None:
    """Serve ``folder`` on loopback, after printing the port."""
    bucket, counts = Bucket(folder, writable=writable), Counts()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        functools.partial(Connection, bucket, delay_s, counts), "127.0.0.1", port, backlog=1024
    )
    print(json.dumps({"port": server.sockets[0].getsockname()[1], "objects": len(bucket.keys)}), flush=True)
    if until_stdin_closes:
        await loop.run_in_executor(None, sys.stdin.read)
    else:
        await server.serve_forever()


@dataclass(frozen=True)
class Server:
    """A running server, for the process that started it."""

    endpoint: str

    def url(self, key: str) -> str:
        """``s3://`` URL of a key or prefix."""
        return f"s3://{BUCKET}/{key}"

    def counts(self, *, reset: bool = False) -> dict[str, int | dict[str, int]]:
        """`Counts` since the last reset, and ``requests``, their total."""
        with urllib.request.urlopen(f"{self.endpoint}/_control/{'reset' if reset else 'counts'}") as answer:
            return json.load(answer)

    def client_env(self) -> dict[str, str]:
        """Environment in which S3 clients use this server and look for credentials nowhere else."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "bench",
            "AWS_SECRET_ACCESS_KEY": "bench",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_METADATA_ENDPOINT": "http://127.0.0.1:9",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }


@contextmanager
def running(folder: Path, *, delay_ms: float = 30, writable: bool = False) -> Iterator[Server]:
    """Serve ``folder`` from a separate process, which ends with the block or with this process."""
    command = [sys.executable, __file__, str(folder), "--delay-ms", str(delay_ms), "--until-stdin-closes"]
    command += ["--writable"] if writable else []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            port = json.loads(process.stdout.readline())["port"]
            yield Server(f"http://127.0.0.1:{port}")
        finally:
            process.stdin.close()


def main() -> None:
    """Run the server until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="served as the bucket " + BUCKET)
    parser.add_argument("--delay-ms", type=float, default=30, help="between a request and its response (default: 30)")
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1 (default: any free one, printed)")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end when standard input ends")
    parser.add_argument("--writable", action="store_true", help="take and delete objects, in memory")
    args = parser.parse_args()
    options = {"until_stdin_closes": args.until_stdin_closes, "writable": args.writable}
    asyncio.run(serve(args.folder, port=args.port, delay_s=args.delay_ms / 1000, **options))


if __name__ == "__main__":
    main()
