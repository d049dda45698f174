"""What is answered over HTTP: objects of a store, whole or in part, and lists of what is in its folders."""

import hashlib
import html
import mimetypes
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeAlias
from urllib.parse import quote

from zarr_vectors_lazy.format.metadata import parse_json
from zarr_vectors_lazy.read.metadata import DOC
from zarr_vectors_lazy.storage.fetch import connect
from zarr_vectors_lazy.storage.requests import Get, ListDir, Size
from zarr_vectors_lazy.storage.spec import StoreSpec

RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})$")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\\]")
CELLS = re.compile(r"(.+)/c(?:/[0-9]+)*")
TEXT = "text/plain; charset=utf-8"
Environ: TypeAlias = Mapping[str, Any]


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


def is_key(path: str) -> bool:
    """Whether a path, with a slash behind where it is a folder, can only be something below a store's root."""
    parts = path.removesuffix("/").split("/")
    return not path or not any(part in {"", ".", ".."} or _CONTROL.search(part) for part in parts)


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
        file = self.inside(key)
        try:
            if file is None or not file.is_file():
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
        path = self.inside(folder)
        if path is None:
            return None
        try:
            return sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in path.iterdir())
        except (OSError, ValueError):
            return None

    def inside(self, key: str) -> Path | None:
        """File or folder of a key; None where links lead out of the root or in circles, and for absurd names."""
        try:
            path = (self.root / key).resolve()
            circular = any(part.is_symlink() for part in (path, *path.parents))  # what Python 3.13 leaves of a circle
        except (OSError, ValueError, RuntimeError):  # links in a circle, until Python 3.13
            return None
        return path if path.is_relative_to(self.root) and not circular else None


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
        backend = connect(self.spec)
        if environ["REQUEST_METHOD"] == "HEAD" and backend.listable:  # web servers may not know the size
            (size,) = backend.fetch([Size(key)])
            if size is None:
                return refusal(HTTPStatus.NOT_FOUND, "no such object")
            return in_part(environ, size, "", kind_of(key), {})
        (data,) = backend.fetch([Get(key)])
        if data is None:
            return refusal(HTTPStatus.NOT_FOUND, "no such object")
        return of_bytes(bytes(data), key, environ)

    def names(self, folder: str) -> list[str] | None:  # noqa: D102  inherited
        if is_in_array(self.spec, folder):  # cells, of which a name does not tell whether it is a folder
            return None
        (names,) = connect(self.spec).fetch([ListDir(folder.strip("/"), required=False)])
        return [name if name == DOC or name.startswith(".") else f"{name}/" for name in names or ()] or None


def is_in_array(spec: StoreSpec, folder: str) -> bool:
    """Whether what is in a folder are stored pieces of an array."""
    found = CELLS.fullmatch(folder.rstrip("/"))
    (raw,) = connect(spec).fetch([Get(f"{found[1]}/{DOC}")]) if found else (None,)
    return raw is not None and parse_json(raw, folder).get("node_type") == "array"


def is_folder(objects: Objects, path: str) -> bool:
    """Whether there is such a folder; no look is taken for what may be a piece of an array, which viewers ask for."""
    maybe = path.rpartition("/")[2] != DOC and not CELLS.fullmatch(path)
    return maybe and bool(objects.names(path))


def of_folder(objects: Objects, folder: str) -> Answer:
    """Answer with a page of links to what is in a folder."""
    names = objects.names(folder)
    if names is None:
        return refusal(HTTPStatus.NOT_FOUND, "no such folder")
    links = "\n".join(f'<li><a href="./{quote(name, safe="/+")}">{html.escape(name)}</a></li>' for name in names)
    page = f"<!DOCTYPE html><title>{html.escape(folder or '/')}</title>\n<ul>\n{links}\n</ul>\n"
    return Answer(HTTPStatus.OK, page.encode(), "text/html; charset=utf-8")


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
