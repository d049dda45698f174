"""A store's objects over HTTP, for viewers: byte ranges, folders, consolidated metadata, behind a token in the path.

The server is waitress: slow clients cost no thread, and are given up after a while. Objects may be read by pages of
other sites, which viewers are; what `extra` answers may not.
"""

import hashlib
import hmac
import html
import mimetypes
import re
import secrets
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeAlias
from urllib.parse import quote

from zarr_vectors_lazy.access.metadata import DOC
from zarr_vectors_lazy.access.upkeep.consolidate import with_consolidated
from zarr_vectors_lazy.errors import SelectionError, ZVError
from zarr_vectors_lazy.storage.connect import connect
from zarr_vectors_lazy.storage.requests import Get, ListDir
from zarr_vectors_lazy.storage.spec import StoreSpec

RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})$")
EXPOSED = "Accept-Ranges, Content-Length, Content-Range, ETag"
TEXT = "text/plain; charset=utf-8"
PIECE = 2**18
LOCAL_NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})
Environ: TypeAlias = Mapping[str, Any]
Start: TypeAlias = Callable[[str, list[tuple[str, str]]], Any]


@dataclass(frozen=True)
class Answer:
    """What is answered.

    Parameters
    ----------
    status
        HTTP's.
    body
        Bytes, or an open file, from which ``nbytes`` are sent, where it stands.
    kind
        Content type.
    headers
        Further ones.
    nbytes
        Length of the body where it is a file.
    """

    status: HTTPStatus
    body: bytes | BinaryIO = b""
    kind: str = TEXT
    headers: dict[str, str] = field(default_factory=dict)
    nbytes: int = -1


def refusal(status: HTTPStatus, reason: str) -> Answer:
    """Answer with a reason in one line."""
    return Answer(status, f"{reason}\n".encode())


class Objects(Protocol):
    """Where objects are read from."""

    def get(self, key: str, environ: Environ) -> Answer:
        """Answer a GET or HEAD of an object."""

    def names(self, folder: str) -> list[str] | None:
        """Names in a folder, folders with a slash behind; None where there is no such folder."""


class Folder:
    """Objects that are files of this machine.

    Parameters
    ----------
    root
        Folder of the store; nothing outside is reached.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def get(self, key: str, environ: Environ) -> Answer:  # noqa: D102  inherited
        try:
            file = (self.root / key).resolve()
            if not file.is_relative_to(self.root) or not file.is_file():
                return refusal(HTTPStatus.NOT_FOUND, "no such object")
            found = file.stat()
            etag = f'"{found.st_mtime_ns:x}-{found.st_size:x}"'
            headers = {"ETag": etag, "Last-Modified": formatdate(found.st_mtime, usegmt=True)}
            if environ.get("HTTP_IF_NONE_MATCH") == etag:
                return Answer(HTTPStatus.NOT_MODIFIED, headers=headers)
            answer = in_part(environ, found.st_size, etag, kind_of(key), headers)
            if environ["REQUEST_METHOD"] == "HEAD" or answer.nbytes < 0:
                return answer
            opened = file.open("rb")
        except PermissionError:
            return refusal(HTTPStatus.FORBIDDEN, "the file may not be read")
        except (OSError, ValueError):  # a name that no file can have
            return refusal(HTTPStatus.NOT_FOUND, "no such object")
        opened.seek(_start_of(answer))
        return Answer(answer.status, opened, answer.kind, answer.headers, answer.nbytes)

    def names(self, folder: str) -> list[str] | None:  # noqa: D102  inherited
        try:
            path = (self.root / folder).resolve()
            if not path.is_relative_to(self.root):
                return None
            return sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in path.iterdir())
        except (OSError, ValueError):
            return None


class Bucket:
    """Objects that a backend of ours reads.

    Parameters
    ----------
    spec
        The store.
    """

    def __init__(self, spec: StoreSpec) -> None:
        self.spec = spec

    def get(self, key: str, environ: Environ) -> Answer:  # noqa: D102  inherited
        if not key:
            return refusal(HTTPStatus.NOT_FOUND, "no such object")
        (data,) = connect(self.spec).fetch([Get(key)])
        if data is None:
            return refusal(HTTPStatus.NOT_FOUND, "no such object")
        return of_bytes(bytes(data), key, environ)

    def names(self, folder: str) -> list[str] | None:  # noqa: D102  inherited
        if "c" in folder.split("/"):  # cells, of which a name does not tell whether it is a folder
            return None
        (names,) = connect(self.spec).fetch([ListDir(folder.strip("/"), required=False)])
        return [name if name == DOC or name.startswith(".") else f"{name}/" for name in names or ()] or None


def of_bytes(data: bytes, key: str, environ: Environ) -> Answer:
    """Answer with an object that is in memory, or the part of it that is asked for."""
    etag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    if environ.get("HTTP_IF_NONE_MATCH") == etag:
        return Answer(HTTPStatus.NOT_MODIFIED, headers={"ETag": etag})
    answer = in_part(environ, len(data), etag, kind_of(key), {"ETag": etag})
    if answer.nbytes < 0:
        return answer
    start = _start_of(answer)
    return Answer(answer.status, data[start : start + answer.nbytes], answer.kind, answer.headers)


def in_part(environ: Environ, size: int, etag: str, kind: str, headers: dict[str, str]) -> Answer:
    """Answer without a body yet: status and headers of an object of ``size`` bytes, and how many of them are sent."""
    header = environ.get("HTTP_RANGE")
    if environ.get("HTTP_IF_RANGE") not in {None, etag}:
        header = None
    span = byte_range(header, size)
    if span is None:
        status = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
        return Answer(status, b"", kind, {**headers, "Content-Range": f"bytes */{size}"})
    start, stop = span
    if stop - start == size:
        return Answer(HTTPStatus.OK, b"", kind, headers, size)
    part = {**headers, "Content-Range": f"bytes {start}-{stop - 1}/{size}"}
    return Answer(HTTPStatus.PARTIAL_CONTENT, b"", kind, part, stop - start)


def _start_of(answer: Answer) -> int:
    said = answer.headers.get("Content-Range", "bytes 0-")
    return int(said.partition(" ")[2].partition("-")[0])


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Bytes [start, stop) that a ``Range`` header asks for; all without one, None where there are no such bytes.

    Several ranges, units that are no bytes, and numbers that no object has are answered with everything, as RFC 9110
    allows.
    """
    match = RANGE.match(header or "")
    if match is None or match.groups() == ("", ""):
        return 0, size
    first, last = match.groups()
    if not first:
        return (max(size - int(last), 0), size) if int(last) and size else None
    start, stop = int(first), min(int(last) + 1 if last else size, size)
    return (start, stop) if start < stop else None


def kind_of(key: str) -> str:
    """Content type of an object."""
    return mimetypes.guess_type(key)[0] or "application/octet-stream"


@dataclass
class StoreApp:
    """WSGI application: a store's objects, and what ``extra`` answers.

    Parameters
    ----------
    spec
        The store.
    token
        First part of each path; empty: none is needed.
    extra
        Asked first, with the path behind the token; None where it does not answer. Other sites' pages get nothing then.
    hosts
        Names by which the server may be called then; empty: any.
    """

    spec: StoreSpec
    token: str = ""
    extra: Callable[[str], Answer | None] | None = None
    hosts: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        local = self.spec.backend == "local"
        self.objects: Objects = Folder(Path(self.spec.url)) if local else Bucket(self.spec)

    def __call__(self, environ: Environ, start: Start) -> Iterable[bytes]:
        """Answer a request."""
        try:
            answer, shared = self._answered(environ)
        except ZVError as error:
            answer, shared = refusal(HTTPStatus.BAD_GATEWAY, str(error)), True
        headers = {
            "Content-Type": answer.kind,
            "Cache-Control": "no-cache",
            **(SHARED if shared else {}),
            **answer.headers,
        }
        body = answer.body
        headers["Content-Length"] = str(len(body) if isinstance(body, bytes) and answer.nbytes < 0 else answer.nbytes)
        start(f"{answer.status.value} {answer.status.phrase}", list(headers.items()))
        if environ["REQUEST_METHOD"] == "HEAD":
            return []
        return [body] if isinstance(body, bytes) else environ["wsgi.file_wrapper"](body, PIECE)

    def _answered(self, environ: Environ) -> tuple[Answer, bool]:
        """Return an answer, and whether pages of other sites may read it."""
        path = environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace").lstrip("/")
        if self.token:
            first, slash, path = path.partition("/")
            if not hmac.compare_digest(first.encode(), self.token.encode()):
                return refusal(HTTPStatus.NOT_FOUND, "nothing is here: the address begins with a token"), False
            if not slash:
                return Answer(HTTPStatus.PERMANENT_REDIRECT, headers={"Location": f"/{self.token}/"}), True
        if environ["REQUEST_METHOD"] == "OPTIONS":
            return Answer(HTTPStatus.NO_CONTENT, headers={"Access-Control-Allow-Private-Network": "true"}), True
        if environ["REQUEST_METHOD"] not in {"GET", "HEAD"}:
            return Answer(HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": "GET, HEAD, OPTIONS"}), True
        if self.extra is not None:
            if self._is_foreign(environ):
                own: Answer | None = refusal(HTTPStatus.FORBIDDEN, "this is for pages of this server alone")
            else:
                own = self.extra(path)
            if own is not None:
                return own, False
        return self._object(path, environ), True

    def _is_foreign(self, environ: Environ) -> bool:
        """Whether a page of another site asks, or one that calls this server by a name which is not its own."""
        host, origin = environ.get("HTTP_HOST", ""), environ.get("HTTP_ORIGIN")
        named = not self.hosts or host.rpartition(":")[0] in self.hosts or host in self.hosts
        return not named or origin not in {None, f"{environ['wsgi.url_scheme']}://{host}"}

    def _object(self, path: str, environ: Environ) -> Answer:
        if path == DOC:
            document = with_consolidated(self.spec)
            if document is not None:
                return of_bytes(document, DOC, environ)
        if path and not path.endswith("/"):
            return self.objects.get(path, environ)
        names = self.objects.names(path)
        if names is None:
            return refusal(HTTPStatus.NOT_FOUND, "no such folder")
        links = "\n".join(f'<li><a href="./{quote(name, safe="/+")}">{html.escape(name)}</a></li>' for name in names)
        page = f"<!DOCTYPE html><title>{html.escape(path or '/')}</title>\n<ul>\n{links}\n</ul>\n"
        return Answer(HTTPStatus.OK, page.encode(), "text/html; charset=utf-8")


SHARED = {
    "Accept-Ranges": "bytes",
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
    "Access-Control-Allow-Headers": "*",
    "Access-Control-Expose-Headers": EXPOSED,
}


class Server:
    """Serves a store until it is closed.

    Parameters
    ----------
    spec
        The store.
    host, port
        Where it listens; port 0 takes a free one.
    public
        Answer without a token in the path.
    extra
        As for `StoreApp`.

    Raises
    ------
    SelectionError
        If nobody may listen there, or waitress is not installed.
    """

    def __init__(
        self,
        spec: StoreSpec,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        public: bool = False,
        extra: Callable[[str], Answer | None] | None = None,
    ) -> None:
        try:
            import waitress  # noqa: PLC0415  optional
        except ImportError as error:
            raise SelectionError("a server needs waitress: pip install 'zarr-vectors-lazy[cli]'") from error
        shown = f"[{host}]" if ":" in host else host
        hosts = LOCAL_NAMES | {shown} if shown in LOCAL_NAMES else frozenset()
        token = "" if public else secrets.token_urlsafe(12)
        app = StoreApp(spec, token, extra, hosts)
        limits = {"threads": 8, "channel_timeout": 30, "cleanup_interval": 5, "max_request_body_size": 2**16}
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            listener = socket.create_server((host, port), family=family, backlog=128)
        except (OSError, OverflowError) as error:
            reason = f"nobody can listen on port {port} of {host}: {error}; port 0 takes a free one"
            raise SelectionError(reason) from error
        self._server: Any = waitress.create_server(app, sockets=[listener], ident=None, **limits)
        self.url = f"http://{shown}:{listener.getsockname()[1]}/{token}".rstrip("/")

    def serve_forever(self) -> None:
        """Answer until the process is interrupted, or `close` is called from another thread."""
        self._server.run()
        self._server.task_dispatcher.shutdown()

    def close(self) -> None:
        """Stop; what is answered just now may be cut off."""
        self._server.trigger.pull_trigger(self._end)

    def _end(self) -> None:
        # On the thread that serves: nothing waits for the sockets meanwhile, and without any its loop ends.
        self._server.close()
        for channel in list(self._server.active_channels.values()):
            channel.close()
