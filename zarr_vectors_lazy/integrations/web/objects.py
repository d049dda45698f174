"""Objects of a local store over HTTP: byte ranges, and headers that let pages of other sites read them."""

import mimetypes
import re
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

RANGE = re.compile(r"bytes=(\d*)-(\d*)$")
EXPOSED = "Accept-Ranges, Content-Length, Content-Range, ETag"


class Handler(BaseHTTPRequestHandler):
    """Answers GET, HEAD and OPTIONS; nothing outside the folder is reached, nothing is written."""

    protocol_version = "HTTP/1.1"
    server: "Server"

    def do_GET(self) -> None:
        """Answer with an object, or the range of it that is asked for."""
        path = urlsplit(self.path).path
        if not self.server.answer(self, path):
            self._object(unquote(path))

    do_HEAD = do_GET

    def do_OPTIONS(self) -> None:
        """Tell a browser that it may ask."""
        self.reply(HTTPStatus.NO_CONTENT, b"", "text/plain")

    def _object(self, path: str) -> None:
        file = self.server.file(path)
        if file is None:
            self.reply(HTTPStatus.NOT_FOUND, b"no such object\n", "text/plain")
            return
        size = file.stat().st_size
        span = byte_range(self.headers.get("Range"), size)
        kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        if span is None:
            headers = {"Content-Range": f"bytes */{size}"}
            self.reply(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, b"", kind, headers)
            return
        start, stop = span
        with file.open("rb") as opened:
            opened.seek(start)
            body = opened.read(stop - start)
        if stop - start == size:
            self.reply(HTTPStatus.OK, body, kind)
        else:
            self.reply(HTTPStatus.PARTIAL_CONTENT, body, kind, {"Content-Range": f"bytes {start}-{stop - 1}/{size}"})

    def reply(self, status: HTTPStatus, body: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        """Send an answer; of a HEAD request its headers."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("Access-Control-Allow-Methods", "GET, HEAD, OPTIONS")
        self.send_header("Access-Control-Allow-Headers", "*")
        self.send_header("Access-Control-Expose-Headers", EXPOSED)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the standard library's name
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """Serves the files of a folder.

    Parameters
    ----------
    folder
        What is served; None: nothing but what `answer` gives.
    host, port
        Where it listens; port 0 takes a free one.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, folder: Path | None, *, host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__((host, port), Handler)
        self.folder = None if folder is None else folder.resolve()
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self.server_port}"

    def file(self, path: str) -> Path | None:
        """Return the file of a URL's path; None where there is none in the folder."""
        if self.folder is None or "\0" in path:
            return None
        file = (self.folder / path.lstrip("/")).resolve()
        return file if file.is_relative_to(self.folder) and file.is_file() else None

    def answer(self, handler: Handler, path: str) -> bool:
        """Answer what is no object of the store; False where it is one."""
        return False


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Bytes [start, stop) that a ``Range`` header asks for; all without one, None where there are no such bytes.

    Several ranges, and units that are no bytes, are answered with everything, as RFC 9110 allows.
    """
    match = RANGE.match(header or "")
    if match is None or match.groups() == ("", ""):
        return 0, size
    first, last = match.groups()
    if not first:
        return (max(size - int(last), 0), size) if int(last) and size else None
    start, stop = int(first), min(int(last) + 1 if last else size, size)
    return (start, stop) if start < stop else None
