"""The nodes of a store's tree, each read once, when it is requested."""

import hashlib
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, TypeAlias, TypeVar
from urllib.parse import unquote

from zarr_vectors_lazy.errors import NOTHING, FormatError, StoreError, listed, meant
from zarr_vectors_lazy.format.base import Children, Found, MetaSteps, Node, is_name
from zarr_vectors_lazy.format.metadata import parse_json
from zarr_vectors_lazy.requests import Get, ListDir, ListSizes, Request, converse, together
from zarr_vectors_lazy.storage.base import Backend
from zarr_vectors_lazy.storage.fetch import connect, fetch
from zarr_vectors_lazy.storage.spec import StoreSpec
from zarr_vectors_lazy.types import Json

T = TypeVar("T")
Wanted: TypeAlias = Node | Children | Get | ListSizes
DOC = "zarr.json"
_NO_NODE = re.compile(r"zarr\.json|zarr\.[0-9a-f]{32}\.partial|\..*|Thumbs\.db|desktop\.ini", re.DOTALL)
"""Documents, those that a killed zarr left half written, and files of file managers."""
SHIPPED_NBYTES = 64 * 1024  # larger documents are read again when a pickled tree arrives
SHIPPED_NAMES = 4096  # so are longer listings


class MetaTree:
    """The metadata of one store.

    Parameters
    ----------
    spec
        The store.
    """

    def __init__(self, spec: StoreSpec) -> None:
        self.spec = spec
        self.complete = False
        self._raw: dict[str, bytes | None] = {}
        self._found: dict[str, Found | None] = {}
        self._names: dict[str, tuple[str, ...]] = {}
        self._lock = threading.RLock()

    def __getstate__(self) -> Json:
        small = {path: raw for path, raw in self._raw.items() if raw is None or len(raw) <= SHIPPED_NBYTES}
        names = {path: below for path, below in self._names.items() if self.complete or len(below) <= SHIPPED_NAMES}
        return {"spec": self.spec, "complete": self.complete, "_raw": small, "_names": names}

    def __setstate__(self, state: Json) -> None:
        self.__dict__.update(state, _found={}, _lock=threading.RLock())

    @property
    def backend(self) -> Backend:
        """The open connection of this process."""
        return connect(self.spec)

    @property
    def url(self) -> str:
        """The store's URL, for errors."""
        return self.spec.url

    def read_root(self) -> Found:
        """Read the root; raises FormatError if there is none."""
        (raw,) = fetch(self.backend, [Get(DOC)])
        if raw is None:
            raise self._not_there()
        if not len(raw):
            raise FormatError("unfinished write: the root is empty", where=self.url)
        self._raw[""] = bytes(raw)
        return self.existing("")

    def use_consolidated(self, root: Found, *, wanted: bool | None, trusted: Callable[[Json], bool]) -> None:
        """Take the whole tree from the root's consolidated metadata, if it has any.

        Parameters
        ----------
        wanted
            None: use them if they exist and are trusted; False: ignore them; True: insist on them.
        trusted
            Whether they name every node of the store.

        Raises
        ------
        FormatError
            If they are required but missing or incomplete.
        """
        inline = root.doc.get("consolidated_metadata")
        entries = inline.get("metadata") if isinstance(inline, dict) else None
        if wanted is False or not isinstance(inline, dict) or not isinstance(entries, dict):
            if wanted:
                raise FormatError("the root has no consolidated metadata", where=self.url)
            return
        if trusted(inline):
            self._take_consolidated(entries, root.digest)
        elif wanted:
            raise FormatError(
                "the root's consolidated metadata leave out nodes of this format; zvl.consolidate writes complete ones",
                where=self.url,
            )

    def raw(self, path: str) -> bytes | None:
        """Bytes of a node's document, as they were read."""
        return self._raw.get(path)

    def take(self, node: Found, raw: bytes | None = None) -> None:
        """Set a node and its bytes, whatever the store has."""
        self._found[node.path] = node
        if raw is not None:
            self._raw[node.path] = raw

    @property
    def known(self) -> set[str]:
        """Paths of the nodes in the consolidated metadata."""
        return set(self._names) if self.complete else set()

    def check_consolidated(self, paths: Sequence[str]) -> None:
        """Drop consolidated metadata that lack existing nodes, because they are older than the store."""
        missing = [path for path in paths if path not in self._names]
        if any(raw is not None for raw in self._fetch([Get(f"{path}/{DOC}") for path in missing])):
            self.complete = False
            self._found, self._names = {"": self._found[""]}, {}

    def node(self, path: str) -> Found | None:
        """Return one node; None if it does not exist."""
        self.load([Node(path)])
        return self._found[path]

    def existing(self, path: str) -> Found:
        """Return one node that is known to exist."""
        found = self.node(path)
        assert found is not None
        return found

    def children(self, path: str, *, required: bool = True) -> tuple[str, ...] | None:
        """Names of the nodes below a path; None if the store cannot list and that is not required."""
        if path not in self._names and not required:
            if not self.backend.listable:
                return None
            (names,) = fetch(self.backend, [ListDir(path, required=False)])
            if names is None:
                return None
            self._names[path] = self._nodes(names)
        self.load([Children(path)])
        return self._names[path]

    def below(self, paths: Sequence[str], *, required: bool = True) -> Iterator[Found]:
        """Nodes and all that is below them, each group before its contents; the nodes of a depth are read together."""
        while paths:
            self.load([Node(path) for path in paths])
            nodes = {path: self.node(path) for path in paths}
            yield from (node for node in nodes.values() if node is not None)
            folders = [path for path, node in nodes.items() if node is None or node.doc.get("node_type") != "array"]
            self.load([Children(folder) for folder in folders if required])
            names = [(folder, name) for folder in folders for name in self.children(folder, required=required) or ()]
            paths = [f"{folder}/{name}" if folder else name for folder, name in names]

    def run(self, steps: MetaSteps[T]) -> T:
        """Run a generation's conversation about metadata."""
        try:
            with self._lock:
                return converse(steps, self._answers)
        except FormatError as error:
            if self.url in str(error):
                raise
            raise type(error)(error.message, where=self._at(error.where)) from error

    def anticipate(self, conversations: Sequence[MetaSteps[Any]]) -> None:
        """Read what several conversations will request; each round of all of them is one concurrent fetch.

        What is wrong with one of them is left to its `run`.
        """
        with self._lock, suppress(FormatError):
            converse(together([_tolerant(steps) for steps in conversations]), self._answers)

    def _answers(self, wanted: Sequence[Wanted]) -> list[Any]:
        self.load(wanted)
        asked: list[Request] = [w for w in wanted if isinstance(w, Get | ListSizes)]
        if any(isinstance(w, ListSizes) for w in asked) and not self.backend.listable:
            asked = [w for w in asked if not isinstance(w, ListSizes)]
        given = dict(zip(asked, self._fetch(asked), strict=True)) if asked else {}
        return [given.get(w) if isinstance(w, Get | ListSizes) else self._known(w) for w in wanted]

    def _known(self, wanted: Node | Children) -> Any:
        return self._found[wanted.path] if isinstance(wanted, Node) else self._names[wanted.path]

    def load(self, wanted: Sequence[Wanted]) -> None:
        """Read needed nodes and names that are not yet known, in one concurrent fetch."""
        with self._lock:
            missing: dict[Node | Children, Request] = {}
            for want in wanted:
                if isinstance(want, Node) and want.path not in self._found and want.path not in self._raw:
                    missing[want] = Get(f"{want.path}/{DOC}" if want.path else DOC)
                elif isinstance(want, Children) and want.path not in self._names:
                    missing[want] = ListDir(want.path)
            if self.complete:  # what they do not name does not exist
                known = self._names
                missing = {w: ask for w, ask in missing.items() if isinstance(w, Node) and w.path in known}
            for want, answer in zip(missing, self._fetch(list(missing.values())), strict=True):
                if isinstance(want, Node):
                    self._raw[want.path] = None if answer is None else bytes(answer)
                else:
                    self._names[want.path] = self._nodes(answer)
            for want in wanted:
                if isinstance(want, Children):
                    self._names.setdefault(want.path, ())
                elif isinstance(want, Node) and want.path not in self._found:
                    self._found[want.path] = self._parse(want.path, self._raw.get(want.path))

    def listed(self, folder: str) -> tuple[str, ...] | None:
        """Names in a folder from a listing, whatever consolidated metadata say; None if there is no listing."""
        if not self.complete and folder in self._names:
            return self._names[folder]
        (names,) = fetch(self.backend, [ListDir(folder, required=False)]) if self.backend.listable else (None,)
        found = None if names is None else self._nodes(names)
        if found is not None and not self.complete:
            self._names[folder] = found
        return found

    def prefetch(self, paths: Sequence[str], *, folder: str | None = None) -> None:
        """Fetch nodes, and the names in a folder if it can be listed; they are parsed only when requested."""
        if self.complete:
            return
        wanted = [path for path in paths if path not in self._raw and path not in self._found]
        requests: list[Request] = [Get(f"{path}/{DOC}") for path in wanted]
        listing = folder is not None and folder not in self._names and self.backend.listable
        if listing and folder is not None:
            requests.append(ListDir(folder, required=False))
        answers = self._fetch(requests)
        for path, raw in zip(wanted, answers, strict=False):
            self._raw[path] = None if raw is None else bytes(raw)
        if listing and folder is not None and answers[-1] is not None:
            self._names[folder] = self._nodes(answers[-1])

    def _fetch(self, requests: list[Request]) -> list[Any]:
        folders = [request.prefix for request in requests if isinstance(request, ListDir) and request.required]
        try:
            if folders and not self.backend.listable:
                return self._fetch_pages(requests)
            return fetch(self.backend, requests)
        except StoreError as error:
            if self.backend.listable and not (folders and self._refuses_to_list(folders[0])):
                raise
            hint = "the store cannot be listed, so only consolidated metadata can show what is in it (zvl.consolidate)"
            raise StoreError(f"{error.message}; {hint}", where=self.url) from error

    def _fetch_pages(self, requests: list[Request]) -> list[Any]:
        """Answers of a web server, which may show pages of links for its folders."""
        pages = [Get(asked.prefix) if isinstance(asked, ListDir) else asked for asked in requests]
        return [
            self._linked(asked.prefix, answer) if isinstance(asked, ListDir) else answer
            for asked, answer in zip(requests, fetch(self.backend, pages), strict=True)
        ]

    def _linked(self, folder: str, page: Any) -> tuple[str, ...]:
        """Names that the page of a folder links to; none if the page of its parent does not link to it."""
        names = linked_names(page)
        above, _, name = folder.rpartition("/")
        if not names and name:
            beside = linked_names(fetch(self.backend, [Get(above)])[0])
            names = () if beside and name not in beside else None
        if names is None:
            raise StoreError("this server does not show what is in its folders", where=self._at(folder))
        return names

    def _refuses_to_list(self, folder: str) -> bool:
        (names,) = fetch(self.backend, [ListDir(folder, required=False)])
        return names is None

    def _parse(self, path: str, raw: bytes | None) -> Found | None:
        if raw is None:
            return None
        doc = parse_json(raw, self._at(path))
        return Found(path, doc, hashlib.blake2b(raw, digest_size=16).hexdigest())

    def _take_consolidated(self, entries: Json, digest: str) -> None:
        names: dict[str, set[str]] = {"": set()}
        for entry, doc in entries.items():
            if not isinstance(doc, dict):
                raise FormatError(f"consolidated metadata of {entry!r} must be an object", where=self.url)
            path = entry.strip("/")
            self._found[path] = Found(path, doc, f"{digest}:{path}")
            names.setdefault(path, set())
            parts = path.split("/")
            if path and not all(map(is_name, parts)):
                raise FormatError(
                    f"consolidated metadata have a node {entry!r}, which would lie outside the store", where=self.url
                )
            for depth, name in enumerate(parts):
                names.setdefault("/".join(parts[:depth]), set()).add(name)
        self._names = {path: tuple(sorted(below)) for path, below in names.items()}
        self.complete = True

    def _at(self, path: str) -> str:
        return f"{self.url}/{path}" if path else self.url

    def _not_there(self) -> FormatError:
        (names,) = fetch(self.backend, [ListDir("", required=False)])
        if not names:
            return FormatError(
                f"{NOTHING}: a Zarr Vectors store has a zarr.json at its root{_nearby(self.url)}", where=self.url
            )
        inside = [name for name in names[:100] if (Path(self.url) / name / DOC).is_file()]  # in a folder on disk
        found = f"stores may be in it: {listed(inside)}" if inside else f"found {listed(names)}"
        return FormatError(f"no zarr.json at the root; {found}", where=self.url)

    def _nodes(self, names: tuple[str, ...]) -> tuple[str, ...]:
        found = tuple(name for name in names if not _NO_NODE.fullmatch(name))
        if not all(map(is_name, found)):
            name = next(name for name in found if not is_name(name))
            raise FormatError(f"a listing has a node {name!r}, which would lie outside the store", where=self.url)
        return found


def _nearby(url: str) -> str:
    """End of a message about a place on disk without a store: it is a file, or something similar is next to it."""
    path = Path(url)
    if "://" in url or not path.parent.is_dir() or not os.access(path.parent, os.R_OK):
        return ""
    if path.name == "zarr.json":
        return f"; open the folder {str(path.parent)!r}"
    if path.is_file():
        return "; this is a file: zvl ingest (zvl.ingest) turns files of many formats into a store"
    return meant(path.name, set(os.listdir(path.parent)) - {path.name})


class _Links(HTMLParser):
    """Collects the links of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if tag == "a" and name == "href" and value]


def linked_names(page: Any) -> tuple[str, ...] | None:
    """Names in a folder, from the page of links that web servers show for it; None if it is not such a page."""
    if page is None or not bytes(page[:512]).lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return None
    links = _Links()
    links.feed(bytes(page).decode("utf-8", "replace"))
    names = [unquote(link.partition("?")[0].partition("#")[0].removeprefix("./").rstrip("/")) for link in links.found]
    return tuple(sorted({name for name in names if name and "/" not in name and name != ".."})) or None


def _tolerant(steps: MetaSteps[Any]) -> MetaSteps[None]:
    """Conversation that simply ends where another would fail."""
    with suppress(FormatError):
        yield from steps
