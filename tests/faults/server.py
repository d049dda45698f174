"""A folder as an S3 bucket and over plain HTTP, from a server that fails on demand."""

import asyncio
import socket
import struct
import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field

from benchmarks.s3_server import BUCKET, Bucket, Connection, Counts, Response, error, head
from tests.bounds import HANGS_S

SLOW_S = 0.05
CODES = {403: "AccessDenied", 429: "TooManyRequests", 503: "SlowDown"}
TRANSIENT = ("slow", "500", "503", "503 after", "429", "reset", "reset in body", "truncated")
LASTING = ("missing", "denied", "short", "empty", "flipped", "garbage", "whole", "other range")
SILENT = ("silent", "stalled")  # only a timeout ends them


@dataclass
class Rule:
    """What happens to requests for some keys.

    Parameters
    ----------
    kind
        One of the above. ``"503 after"`` says when to come back; ``"truncated"``: fewer bytes than the length says;
        ``"short"``: fewer bytes and a length that fits; ``"whole"``: 200 with everything to a request for a range;
        ``"other range"``: 206 with another range, and says so; ``"silent"``: no answer; ``"stalled"``: half of one.
    key
        Part of the keys that it happens to.
    times
        So many times, then never again; None: always.
    at
        Where it cuts or flips, as a part of the length.
    """

    kind: str
    key: str = ""
    times: int | None = None
    at: float = 0.5


@dataclass
class FaultServer:
    """A running server, whose `rules` may be changed at any time."""

    bucket: Bucket
    rules: list = field(default_factory=list)
    happened: Counter = field(default_factory=Counter)
    keys: list = field(default_factory=list)
    port: int = 0
    open: set = field(default_factory=set)  # transports

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.port}"

    def at(self, how, prefix):
        """``(url, options)`` of what lies under ``prefix``, for ``"obstore-s3"``, ``"fsspec-http"`` and the like."""
        backend, _, kind = how.partition("-")
        if kind == "http":
            return f"{self.endpoint}/{BUCKET}/{prefix}", {"backend": backend}
        options = {
            "obstore": {"endpoint": self.endpoint, "region": "us-east-1", "skip_signature": True},
            "fsspec": {"endpoint_url": self.endpoint, "anon": True},
        }[backend]
        return f"s3://{BUCKET}/{prefix}", {"backend": backend, "storage_options": options}

    def next_rule(self, key):
        self.keys.append(key)
        for rule in self.rules:
            if rule.key in key and rule.times != 0:
                rule.times = None if rule.times is None else rule.times - 1
                self.happened[rule.kind] += 1
                return rule
        return None


class FaultyConnection(Connection):
    """One connection, on which the correct answers are sent as the rules change them."""

    def __init__(self, server):
        super().__init__(server.bucket, 0, Counts())
        self.server = server
        self.rule = None

    def connection_made(self, transport):
        super().connection_made(transport)
        self.server.open.add(transport)

    def connection_lost(self, exc):
        self.server.open.discard(self.transport)

    def route(self, method, bucket, key, query, headers):
        self.rule = rule = self.server.next_rule(key or "?")
        if rule is None:
            return super().route(method, bucket, key, query, headers)
        refused = {
            "500": error(500, "InternalError", key),
            "503": refusal(503, "Service Unavailable"),
            "503 after": refusal(503, "Service Unavailable", "Retry-After: 1\r\n"),
            "429": refusal(429, "Too Many Requests"),
            "missing": error(404, "NoSuchKey", key),
            "denied": refusal(403, "Forbidden"),
        }.get(rule.kind)
        if refused is not None:
            return refused
        if rule.kind == "whole" and key:
            return self.bucket.get(key, None)
        if rule.kind == "other range" and key:
            return self.other_range(key, headers)
        return changed(rule, super().route(method, bucket, key, query, headers))

    def other_range(self, key, headers):
        right = super().route("GET", BUCKET, key, "", headers)
        body = self.bucket.objects[key]
        if right.status != 206 or len(body) < 2:
            return right
        size = min(len(right.body), len(body) - 1)
        start = 1 if body.startswith(right.body) else 0
        extra = f"Content-Range: bytes {start}-{start + size - 1}/{len(body)}\r\n"
        return Response(206, self.bucket._head(206, key, size, extra), body[start : start + size])

    def send(self, response, method):
        rule, self.rule = self.rule, None
        kind = "" if rule is None else rule.kind
        if self.transport.is_closing() or kind == "silent":
            return
        if kind == "slow":
            self.loop.call_later(SLOW_S, super().send, response, method)
        elif kind in {"reset", "reset in body", "truncated", "stalled"} and method != "HEAD":
            if kind != "reset":
                self.transport.write(response.head + response.body[: int(rule.at * len(response.body))])
            if kind == "truncated":
                self.transport.close()
            elif kind != "stalled":
                self.loop.call_later(0.005, self.hang_up)
        else:
            super().send(response, method)

    def hang_up(self):
        plug = self.transport.get_extra_info("socket")
        if plug is not None and not self.transport.is_closing():
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()


def refusal(status, reason, extra=""):
    body = f"<Error><Code>{CODES[status]}</Code><Message>{reason}</Message></Error>".encode()
    line = f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n"
    return Response(status, f"{line}{extra}\r\n".encode(), body)


def changed(rule, response):
    """Other bytes, and headers that fit them."""
    body, at = response.body, int(rule.at * len(response.body))
    match rule.kind:
        case "empty":
            body = b""
        case "short":
            body = body[:at]
        case "garbage":
            body = bytes((7 * i + int(rule.at * 251)) % 256 for i in range(len(body)))
        case "flipped" if body:
            body = body[:at] + bytes([body[at] ^ 1 << int(rule.at * 997) % 8]) + body[at + 1 :]
    if len(body) == len(response.body):
        return Response(response.status, response.head, body)
    kept = [
        line
        for line in response.head.decode().split("\r\n")[1:-2]
        if not line.startswith(("Content-Length", "Content-Range", "Content-Type"))
    ]
    extra = "".join(f"{line}\r\n" for line in kept if not line.startswith(("x-amz", "Server")))
    if response.status == 206:
        whole = response.head.decode().partition("Content-Range: bytes ")[2].split("\r\n")[0]
        first, total = int(whole.partition("-")[0]), whole.partition("/")[2]
        extra += f"Content-Range: bytes {first}-{first + max(len(body), 1) - 1}/{total}\r\n"
    return Response(response.status, head(response.status, len(body), "application/octet-stream", extra), body)


@contextmanager
def fault_server(folder):
    """Run a server of a folder on a thread of its own."""
    server = FaultServer(Bucket(folder))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def listen():
        return await loop.create_server(lambda: FaultyConnection(server), "127.0.0.1", 0, backlog=512)

    async def close():
        listening.close()
        for transport in list(server.open):
            transport.abort()
        while server.open:
            await asyncio.sleep(0.001)

    listening = asyncio.run_coroutine_threadsafe(listen(), loop).result()
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(close(), loop).result(HANGS_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(HANGS_S)
        loop.close()
