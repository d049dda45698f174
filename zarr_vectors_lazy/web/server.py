"""A store's objects over HTTP, for viewers: byte ranges, folders, consolidated metadata, behind a token in the path.

The server is waitress: slow clients cost no thread, and are given up after a while. Pages of other sites, such as
viewers, may read objects, but not what `extra` answers. Each of `views` appears below a path of its own.
"""

import hashlib
import hmac
import html
import logging
import math
import mimetypes
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeAlias
from urllib.parse import quote

import numpy as np

from zarr_vectors_lazy.copy.recompress import corrupt, piece_nbytes, plain_root, read_pieces
from zarr_vectors_lazy.errors import SelectionError, ZVError, optional
from zarr_vectors_lazy.format.base import Found
from zarr_vectors_lazy.format.metadata import parse_json
from zarr_vectors_lazy.format.recode import StoredArray, parse_stored, plain_document
from zarr_vectors_lazy.format.v09.documents import dump
from zarr_vectors_lazy.read.metadata import DOC
from zarr_vectors_lazy.storage.fetch import connect
from zarr_vectors_lazy.storage.requests import Get, ListDir, Size
from zarr_vectors_lazy.storage.spec import StoreSpec
from zarr_vectors_lazy.write.in_place import with_consolidated

# The answers: objects of a store, whole or in part, and lists of the contents of its folders.

RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})$")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\\]")
CELLS = re.compile(r"(.+)/c(?:/[0-9]+)*")
TEXT = "text/plain; charset=utf-8"
Environ: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class Answer:
    """An HTTP answer.

    Parameters
    ----------
    status
        HTTP status.
    body
        Bytes, or an open file, from whose position ``nbytes`` are sent.
    kind
        Content type.
    headers
        Additional headers.
    nbytes
        Length of the body if it is a file.
    """

    status: HTTPStatus
    body: bytes | BinaryIO = b""
    kind: str = TEXT
    headers: dict[str, str] = field(default_factory=dict)
    nbytes: int = -1


def refusal(status: HTTPStatus, reason: str) -> Answer:
    """Answer with a reason in one line."""
    return Answer(status, f"{reason}\n".encode())


def _absent() -> Answer:
    return refusal(HTTPStatus.NOT_FOUND, "no such object")


class Objects(Protocol):
    """Where objects are read from."""

    def get(self, key: str, environ: Environ) -> Answer:
        """Answer a GET or HEAD of an object."""

    def names(self, folder: str) -> list[str] | None:
        """Names in a folder, folders with a trailing slash; None if there is no such folder."""


def is_key(path: str) -> bool:
    """Whether a path (of a folder if it ends in a slash) can only be something below a store's root."""
    parts = path.removesuffix("/").split("/")
    return not path or not any(part in {"", ".", ".."} or _CONTROL.search(part) for part in parts)


class Folder:
    """Objects that are files on this machine.

    Parameters
    ----------
    root
        Folder of the store; nothing outside it can be reached.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()

    def get(self, key: str, environ: Environ) -> Answer:  # noqa: D102  inherited
        file = self.inside(key)
        try:
            if file is None or not file.is_file():
                return _absent()
            found = file.stat()
            etag = f'"{found.st_mtime_ns:x}-{found.st_size:x}"'
            headers = {"ETag": etag, "Last-Modified": formatdate(found.st_mtime, usegmt=True)}
            answer = in_part(environ, found.st_size, etag, kind_of(key), headers)
            if environ["REQUEST_METHOD"] == "HEAD" or answer.nbytes < 0:
                return answer
            opened = file.open("rb")
        except PermissionError:
            return refusal(HTTPStatus.FORBIDDEN, "the file may not be read")
        except (OSError, ValueError):  # a name that no file can have
            return _absent()
        opened.seek(_start_of(answer))
        return Answer(answer.status, opened, answer.kind, answer.headers, answer.nbytes)

    def names(self, folder: str) -> list[str] | None:  # noqa: D102  inherited
        path = self.inside(folder)
        if path is None:
            return None
        try:
            return sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in path.iterdir())
        except (OSError, ValueError):
            return None

    def inside(self, key: str) -> Path | None:
        """File or folder of a key; None if links lead out of the root or in circles, and for absurd names."""
        try:
            path = (self.root / key).resolve()
            circular = any(part.is_symlink() for part in (path, *path.parents))  # how Python 3.13 leaves a circle
        except (OSError, ValueError, RuntimeError):  # links in a circle, before Python 3.13
            return None
        return path if path.is_relative_to(self.root) and not circular else None


class Bucket:
    """Objects that one of our backends reads.

    Parameters
    ----------
    spec
        The store.
    """

    def __init__(self, spec: StoreSpec) -> None:
        self.spec = spec

    def get(self, key: str, environ: Environ) -> Answer:  # noqa: D102  inherited
        if not key:
            return _absent()
        backend = connect(self.spec)
        if environ["REQUEST_METHOD"] == "HEAD" and backend.listable:  # web servers may not state the size
            (size,) = backend.fetch([Size(key)])
            if size is None:
                return _absent()
            return in_part(environ, size, "", kind_of(key), {})
        (data,) = backend.fetch([Get(key)])
        if data is None:
            return _absent()
        return of_bytes(bytes(data), key, environ)

    def names(self, folder: str) -> list[str] | None:  # noqa: D102  inherited
        if is_in_array(self.spec, folder):  # cells, whose names do not tell whether they are folders
            return None
        (names,) = connect(self.spec).fetch([ListDir(folder.strip("/"), required=False)])
        return [name if name == DOC or name.startswith(".") else f"{name}/" for name in names or ()] or None


def is_in_array(spec: StoreSpec, folder: str) -> bool:
    """Whether the contents of a folder are stored pieces of an array."""
    found = CELLS.fullmatch(folder.rstrip("/"))
    (raw,) = connect(spec).fetch([Get(f"{found[1]}/{DOC}")]) if found else (None,)
    return raw is not None and parse_json(raw, folder).get("node_type") == "array"


def is_folder(objects: Objects, path: str) -> bool:
    """Whether a folder exists; pieces of arrays, which viewers request, are not looked up."""
    maybe = path.rpartition("/")[2] != DOC and not CELLS.fullmatch(path)
    return maybe and bool(objects.names(path))


def of_folder(objects: Objects, folder: str) -> Answer:
    """Answer with a page of links to the contents of a folder."""
    names = objects.names(folder)
    if names is None:
        return refusal(HTTPStatus.NOT_FOUND, "no such folder")
    links = "\n".join(f'<li><a href="./{quote(name, safe="/+")}">{html.escape(name)}</a></li>' for name in names)
    page = f"<!DOCTYPE html><title>{html.escape(folder or '/')}</title>\n<ul>\n{links}\n</ul>\n"
    return Answer(HTTPStatus.OK, page.encode(), "text/html; charset=utf-8")


def of_bytes(data: bytes, key: str, environ: Environ) -> Answer:
    """Answer with an object that is in memory, or the part that was requested."""
    etag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    answer = in_part(environ, len(data), etag, kind_of(key), {"ETag": etag})
    if answer.nbytes < 0:
        return answer
    start = _start_of(answer)
    return Answer(answer.status, data[start : start + answer.nbytes], answer.kind, answer.headers)


def in_part(environ: Environ, size: int, etag: str, kind: str, headers: dict[str, str]) -> Answer:
    """Answer without a body yet: status and headers for an object of ``size`` bytes, and how many of them are sent.

    A client that already has it, as its ETag shows, is told so.
    """
    if etag and environ.get("HTTP_IF_NONE_MATCH") == etag:
        return Answer(HTTPStatus.NOT_MODIFIED, headers=headers)
    span = byte_range(environ.get("HTTP_RANGE") if environ.get("HTTP_IF_RANGE") in {None, etag} else None, size)
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
    """Bytes [start, stop) that a ``Range`` header requests; all without one, None if there are no such bytes.

    Several ranges, units other than bytes, and absurd numbers are answered with everything, as RFC 9110
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


# ``/raw/``: the same tree with codecs and shards undone, for viewers that read raw cells.

FRESH_S = 2.0  # for how long metadata are assumed unchanged; pieces are read anew each time
PIECE = re.compile(r"(.+)/c((?:/(?:0|[1-9][0-9]{0,17}))+)")


class Raw:
    """Objects of a store as they would be if it had been written raw, with one object for each piece.

    Parameters
    ----------
    spec
        The store.
    stored
        Its objects as they are, which are served if they cannot be decoded.
    """

    def __init__(self, spec: StoreSpec, stored: Objects) -> None:
        self.spec, self.stored = spec, stored
        self._array = lru_cache(4096)(self._read_array)
        self._root = lru_cache(1)(lambda _period: dump(plain_root(spec)))

    def get(self, key: str, environ: Environ) -> Answer:
        """Answer a GET or HEAD of an object."""
        if key == DOC:
            return of_bytes(self._root(_period()), key, environ)
        if key.endswith(f"/{DOC}"):
            node = self._node(key.removesuffix(f"/{DOC}"))
            return _absent() if node is None else of_bytes(dump(plain_document(node)), key, environ)
        found = PIECE.fullmatch(key)
        array = self._array(found[1], _period()) if found else None
        if found is None or array is None:
            return self.stored.get(key, environ)
        index = np.asarray(found[2].split("/")[1:], np.int64)
        if len(index) != len(array.shape) or (index >= array.grid).any():
            return _absent()
        if environ["REQUEST_METHOD"] == "HEAD" and (size := piece_nbytes(self.spec, array, index)) is not None:
            return in_part(environ, size, "", kind_of(key), {})  # no ETag: it would need all bytes
        ((piece, _),) = read_pieces(self.spec, array, index[None])
        if piece is None and array.lists(index):
            raise corrupt(self.spec, array, index, "it is listed, but there is no such object")
        piece = array.filler() if piece is None else piece
        return _absent() if piece is None else of_bytes(bytes(piece), key, environ)

    def names(self, folder: str) -> list[str] | None:
        """Names in a folder; None for folders of pieces, which nobody lists."""
        return None if is_in_array(self.spec, folder) else self.stored.names(folder)

    def _node(self, path: str) -> Found | None:
        (raw,) = connect(self.spec).fetch([Get(f"{path}/{DOC}")])
        return None if raw is None else Found(path, parse_json(raw, f"{self.spec.url}/{path}"), "")

    def _read_array(self, path: str, _period: int) -> StoredArray | None:
        node = self._node(path)
        return None if node is None or node.doc.get("node_type") != "array" else parse_stored(node)


def _period() -> int:
    return int(time.monotonic() / FRESH_S)


# The server itself.

SENT = 2**18  # bytes of a file read at once
MADE_S = 2.0  # seconds for which consolidated metadata that we made are reused
LOCAL_NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})
Start: TypeAlias = Callable[[str, list[tuple[str, str]]], Any]


@dataclass
class StoreApp:
    """WSGI application: a store's objects, and the answers of ``extra``.

    Parameters
    ----------
    spec
        The store.
    token
        First part of each path; empty if none is needed.
    extra
        Asked first, with the path after the token; returns None if it does not answer. Pages of other sites get no
        answers of it.
    hosts
        Host names by which `extra` may be reached; empty for any.
    views
        Further trees of objects, such as raw cells, by first part of a path.
    """

    spec: StoreSpec
    token: str = ""
    extra: Callable[[str], Answer | None] | None = None
    hosts: frozenset[str] = frozenset()
    views: Mapping[str, Objects] = field(default_factory=dict)

    def __post_init__(self) -> None:
        local = self.spec.backend == "local"
        self.objects: Objects = Folder(Path(self.spec.url)) if local else Bucket(self.spec)
        self._making = threading.Lock()
        self._made: tuple[float, bytes | None] = -math.inf, None
        self.views = {"raw": Raw(self.spec, self.objects), **self.views}

    def __call__(self, environ: Environ, start: Start) -> Iterable[bytes]:
        """Answer a request."""
        try:
            answer, shared = self._answered(environ)
        except ZVError as error:
            answer, shared = refusal(HTTPStatus.BAD_GATEWAY, str(error)), True
        headers = {"Content-Type": answer.kind, "Cache-Control": "no-cache"}
        headers |= (SHARED if shared else {}) | answer.headers
        body = answer.body
        headers["Content-Length"] = str(len(body) if isinstance(body, bytes) and answer.nbytes < 0 else answer.nbytes)
        start(f"{answer.status.value} {answer.status.phrase}", list(headers.items()))
        if environ["REQUEST_METHOD"] == "HEAD":
            return []
        return [body] if isinstance(body, bytes) else environ["wsgi.file_wrapper"](body, SENT)

    def _answered(self, environ: Environ) -> tuple[Answer, bool]:
        """Return an answer, and whether pages of other sites may read it."""
        path = environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace").lstrip("/")
        if self.token:
            first, slash, path = path.partition("/")
            if not hmac.compare_digest(first.encode(), self.token.encode()):
                return refusal(HTTPStatus.NOT_FOUND, "nothing is here: the address must begin with the token"), False
            if not slash:
                return Answer(HTTPStatus.PERMANENT_REDIRECT, headers={"Location": f"/{self.token}/"}), True
        if environ["REQUEST_METHOD"] == "OPTIONS":
            return Answer(HTTPStatus.NO_CONTENT, headers={"Access-Control-Allow-Private-Network": "true"}), True
        if environ["REQUEST_METHOD"] not in {"GET", "HEAD"}:
            return Answer(HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": "GET, HEAD, OPTIONS"}), True
        if self.extra is not None:
            if self._is_foreign(environ):
                own: Answer | None = refusal(HTTPStatus.FORBIDDEN, "this is only for pages of this server")
            else:
                own = self.extra(path)
            if own is not None:
                return own, False
        return self._object(path, environ), True

    def _is_foreign(self, environ: Environ) -> bool:
        """Whether the request comes from a page of another site, or uses a host name that is not this server's."""
        host, origin = environ.get("HTTP_HOST", ""), environ.get("HTTP_ORIGIN")
        name, _, port = host.rpartition(":")
        named = not self.hosts or host in self.hosts or (name in self.hosts and port.isdecimal())
        return not named or origin not in {None, f"{environ['wsgi.url_scheme']}://{host}"}

    def _consolidated(self) -> bytes | None:
        """Root with consolidated metadata made for it, or None; remade at most every `MADE_S`."""
        with self._making:
            made, document = self._made
            if time.monotonic() - made > MADE_S:
                found = with_consolidated(self.spec)
                document = None if found is None else dump(found)
                self._made = time.monotonic(), document
            return document

    def _object(self, path: str, environ: Environ) -> Answer:
        if path == DOC:
            document = self._consolidated()
            if document is not None:
                return of_bytes(document, DOC, environ)
        first, slash, below = path.partition("/")
        objects, below = (self.views[first], below) if slash and first in self.views else (self.objects, path)
        # Views read files by themselves; a folder checks where links lead on each request.
        leads_out = (
            objects is not self.objects and isinstance(self.objects, Folder) and self.objects.inside(below) is None
        )
        if leads_out or not is_key(path):
            return _absent()
        if not slash and first in self.views:
            return Answer(HTTPStatus.PERMANENT_REDIRECT, headers={"Location": f"{first}/"})
        path = below
        if not path or path.endswith("/"):
            return of_folder(objects, path)
        answer = objects.get(path, environ)
        if answer.status is HTTPStatus.NOT_FOUND and is_folder(objects, path):
            return Answer(HTTPStatus.PERMANENT_REDIRECT, headers={"Location": f"{quote(path.rpartition('/')[2])}/"})
        return answer


SHARED = {
    "Accept-Ranges": "bytes",
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
    "Access-Control-Allow-Headers": "*",
    "Access-Control-Expose-Headers": "Accept-Ranges, Content-Length, Content-Range, ETag",
}


class Server:
    """Serves a store until it is closed.

    Parameters
    ----------
    spec
        The store.
    host, port
        Where it listens; port 0 picks a free one.
    public
        Answer without a token in the path.
    extra, views
        As for `StoreApp`.

    Raises
    ------
    SelectionError
        If the server may not listen there, or waitress is not installed.
    """

    def __init__(
        self,
        spec: StoreSpec,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        public: bool = False,
        extra: Callable[[str], Answer | None] | None = None,
        views: Mapping[str, Objects] | None = None,
    ) -> None:
        waitress = optional("waitress", "a server needs waitress", "cli", SelectionError)
        shown = f"[{host}]" if ":" in host else host
        hosts = LOCAL_NAMES | {shown} if shown in LOCAL_NAMES else frozenset()
        token = "" if public else secrets.token_urlsafe(12)
        app = StoreApp(spec, token, extra, hosts, views or {})
        limits = {"threads": 8, "channel_timeout": 30, "cleanup_interval": 5, "max_request_body_size": 2**16}
        # Our own client has hundreds of requests in flight, and keeps its connections: with waitress's limit of 100
        # it would wait for its own connections to be given up.
        limits |= {"connection_limit": 1000, "asyncore_use_poll": True}
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # not worth a warning: requests wait their turn
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            listener = socket.create_server((host, port), family=family, backlog=128)
        except (OSError, OverflowError) as error:
            hint = "; port 0 picks a free one" if port else ""
            reason = f"cannot listen on port {port} of {host}: {error}{hint}"
            raise SelectionError(reason) from error
        self._server: Any = waitress.create_server(app, sockets=[listener], ident=None, **limits)
        self.url = f"http://{shown}:{listener.getsockname()[1]}/{token}".rstrip("/")

    def serve_forever(self) -> None:
        """Answer until the process is interrupted, or `close` is called from another thread."""
        self._server.run()
        self._server.task_dispatcher.shutdown()

    def close(self) -> None:
        """Stop; answers in progress may be cut off."""
        with suppress(OSError):  # an answer has just woken the loop, which has ended
            self._server.trigger.pull_trigger(self._end)

    def _end(self) -> None:
        # On the serving thread: nothing else uses the sockets, and without any its loop ends.
        self._server.close()
        for channel in list(self._server.active_channels.values()):
            channel.close()
