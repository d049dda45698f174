"""A store's objects over HTTP, for viewers: byte ranges, folders, consolidated metadata, behind a token in the path.

The server is waitress: slow clients cost no thread, and are given up after a while. Objects may be read by pages of
other sites, which viewers are; what `extra` answers may not. Each of `views` is seen below a path of its own.
"""

import hmac
import logging
import math
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

from zarr_vectors_lazy.errors import SelectionError, ZVError
from zarr_vectors_lazy.format.registry import dump
from zarr_vectors_lazy.read.metadata import DOC
from zarr_vectors_lazy.storage.spec import StoreSpec
from zarr_vectors_lazy.web.answers import (
    Answer,
    Bucket,
    Environ,
    Folder,
    Objects,
    is_folder,
    is_key,
    of_bytes,
    of_folder,
    refusal,
)
from zarr_vectors_lazy.web.raw import Raw
from zarr_vectors_lazy.write.consolidate import with_consolidated

EXPOSED = "Accept-Ranges, Content-Length, Content-Range, ETag"
PIECE = 2**18
MADE_S = 2.0  # seconds for which consolidated metadata that nobody stored are those of the store
LOCAL_NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})
Start: TypeAlias = Callable[[str, list[tuple[str, str]]], Any]


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
    views
        What is served besides the objects as they are, and as they would be if they were raw, by first part of a path.
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
        """Whether a page of another site asks, or one that calls this server by a name which is not its own."""
        host, origin = environ.get("HTTP_HOST", ""), environ.get("HTTP_ORIGIN")
        name, _, port = host.rpartition(":")
        named = not self.hosts or host in self.hosts or (name in self.hosts and port.isdecimal())
        return not named or origin not in {None, f"{environ['wsgi.url_scheme']}://{host}"}

    def _consolidated(self) -> bytes | None:
        """Root with consolidated metadata that are made for it, or None; made anew at most each `MADE_S`."""
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
        # Views read files by themselves; a folder looks where links lead when it is asked.
        leads_out = (
            objects is not self.objects and isinstance(self.objects, Folder) and self.objects.inside(below) is None
        )
        if leads_out or not is_key(path):
            return refusal(HTTPStatus.NOT_FOUND, "no such object")
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
    extra, views
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
        views: Mapping[str, Objects] | None = None,
    ) -> None:
        try:
            import waitress  # noqa: PLC0415  optional
        except ImportError as error:
            raise SelectionError("a server needs waitress: pip install 'zarr-vectors-lazy[cli]'") from error
        shown = f"[{host}]" if ":" in host else host
        hosts = LOCAL_NAMES | {shown} if shown in LOCAL_NAMES else frozenset()
        token = "" if public else secrets.token_urlsafe(12)
        app = StoreApp(spec, token, extra, hosts, views or {})
        limits = {"threads": 8, "channel_timeout": 30, "cleanup_interval": 5, "max_request_body_size": 2**16}
        # A client of ours has some hundred requests in flight, and keeps its connections: at waitress's limit of 100
        # it would wait for its own to be given up.
        limits |= {"connection_limit": 1000, "asyncore_use_poll": True}
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # that requests wait their turn is nobody's news
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            listener = socket.create_server((host, port), family=family, backlog=128)
        except (OSError, OverflowError) as error:
            reason = f"cannot listen on port {port} of {host}: {error}; port 0 picks a free one"
            raise SelectionError(reason) from error
        self._server: Any = waitress.create_server(app, sockets=[listener], ident=None, **limits)
        self.url = f"http://{shown}:{listener.getsockname()[1]}/{token}".rstrip("/")

    def serve_forever(self) -> None:
        """Answer until the process is interrupted, or `close` is called from another thread."""
        self._server.run()
        self._server.task_dispatcher.shutdown()

    def close(self) -> None:
        """Stop; what is answered just now may be cut off."""
        with suppress(OSError):  # an answer has woken the loop just now, which has ended
            self._server.trigger.pull_trigger(self._end)

    def _end(self) -> None:
        # On the thread that serves: nothing waits for the sockets meanwhile, and without any its loop ends.
        self._server.close()
        for channel in list(self._server.active_channels.values()):
            channel.close()
