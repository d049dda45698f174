"""A write from its first put to its last, and what a copy gets in addition to rows."""

import itertools
import json
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from zarr_vectors_lazy.errors import FormatError, SelectionError, StoreError, UnsupportedVersionError, listed
from zarr_vectors_lazy.format.base import Found, Node, format_delta
from zarr_vectors_lazy.format.recode import stored_keys
from zarr_vectors_lazy.format.registry import CURRENT, generation_of
from zarr_vectors_lazy.format.v09.documents import ANY, dump, group_document, kept
from zarr_vectors_lazy.model.levels import StoreMeta
from zarr_vectors_lazy.model.writing import Notes
from zarr_vectors_lazy.read.level import LevelData, replaced
from zarr_vectors_lazy.read.metadata import DOC, MetaTree
from zarr_vectors_lazy.requests import Get, ListDir, Put
from zarr_vectors_lazy.storage.base import Backend
from zarr_vectors_lazy.storage.fetch import connect, delete_below, fetch
from zarr_vectors_lazy.storage.resolve import resolve
from zarr_vectors_lazy.storage.spec import StoreSpec, overlap
from zarr_vectors_lazy.types import Json, StorePath

# A write from its first put to its last: no reader sees a half-written store, and of two at once one gives up.
#
# The root says which write has the place. The other puts of a write replace nothing, if the backend has such puts.
# So a write that comes late, to a place that another has taken, meets the other's objects and reads in the root
# that it has lost. The other meets what came late before it put the same itself, and replaces it.

Mode: TypeAlias = Literal["w-", "w"]
MODES = ("w-", "w")
UNFINISHED = "an unfinished write"
SCRATCH = "_scratch"  # folder of what waits for the tasks of a write, each write in a folder named after its id
_PART = re.compile(r"\.zarr\.json\.[0-9a-f]{16}|zarr\.json#[0-9]+")  # length of a first put that was killed


@dataclass(frozen=True, slots=True)
class WriteSession:
    """A write that has begun: the root says "writing" until `commit`.

    Parameters
    ----------
    spec
        The store.
    marker
        The root's bytes during the write, different for every write.
    start
        A new id each time the write begins with nothing of its own there; empty if it continues.
    """

    spec: StoreSpec
    marker: bytes
    start: str = field(default="", compare=False)

    def check_start(self, starts: Iterable[str]) -> None:
        """Raise StoreError if what was put since some ``starts`` has been deleted.

        A task that is run again after the end of the write, because its worker was lost, would find a store to replace:
        its own.
        """
        if self.start and any(start != self.start for start in starts):
            raise StoreError("a lost task started this write again after its end; write again", where=self.spec.url)

    def put(self, puts: Sequence[Put]) -> None:
        """Put objects of the write concurrently, none in place of another write's; puts may be repeated.

        Raises
        ------
        StoreError
            If another write has taken the place, or a put fails.
        """
        backend = connect(self.spec)
        if not backend.creates:
            self.check()
            fetch(backend, puts)
            return
        # The look costs no time here, and a write that meets no objects learns of the other by it.
        root, *made = fetch(
            backend, [Get(DOC), *(Put(put.key, put.data, create=True, unread=True, array=put.array) for put in puts)]
        )
        if root is None or bytes(root) != self.marker:
            raise _lost(self.spec.url)
        met = [put for put, new in zip(puts, made, strict=True) if not new]
        if met:  # a task that ran twice, or was killed in a put, or another write
            there = fetch(backend, [Get(put.key) for put in met])
            self.check()
            fetch(backend, [put for put, old in zip(met, there, strict=True) if old is None or bytes(old) != put.data])

    def check(self) -> None:
        """Raise StoreError if another write has taken the place."""
        if not is_one_of(connect(self.spec), DOC, self.marker):
            raise _lost(self.spec.url)

    def commit(self, root: Put) -> None:
        """Put the real root, the last put of a write.

        Raises
        ------
        StoreError
            If another write has taken the place, or the put fails.
        """
        _swap(connect(self.spec), root, self.marker)
        replaced()


def check_mode(mode: object) -> None:
    """Raise SelectionError if ``mode`` is neither ``"w-"`` nor ``"w"``."""
    if mode not in MODES:
        raise SelectionError(
            f"mode must be 'w-' (write only if nothing is there) or 'w' (replace a store), found {mode!r}"
        )


def new_write_id() -> str:
    """A name that distinguishes this write from every other."""
    return secrets.token_hex(8)


def check_place(spec: StoreSpec, mode: Mode) -> None:
    """Raise StoreError if `begin_write` would, without a put."""
    backend = connect(spec)
    root, names = fetch(backend, [Get(DOC), ListDir("", required=False)])
    if root is None:
        _refuse_others(backend, names or ())
    else:
        _check_replaced(backend, bytes(root), names or (), mode)


def resolve_apart(
    src: StorePath, dst: StorePath, mode: Mode, dst_options: Mapping[str, Any] | None, **options: Any
) -> tuple[StoreSpec, StoreSpec]:
    """Source and target of a copy; raises SelectionError if the mode is wrong, or as for `check_apart`."""
    check_mode(mode)
    source, target = resolve(src, **options), resolve(dst, **(options if dst_options is None else dst_options))
    check_apart(source, target)
    return source, target


def check_apart(source: StoreSpec, target: StoreSpec) -> None:
    """Raise SelectionError if a store would be written over, or into, the one that it is made from."""
    if overlap(source.url, target.url):
        raise SelectionError(
            f"a store cannot be written over itself: {source.url} and {target.url} are one place, or one lies in the "
            "other"
        )


def _check_replaced(backend: Backend, root: bytes, names: tuple[str, ...], mode: Mode) -> None:
    if not root:  # left by a first put that was cut off, where files appear before their bytes
        _refuse_others(backend, names)
    what = _describe(root, backend.url)
    if mode == "w-":
        raise StoreError(f"{what} is here already; mode='w' replaces it", where=backend.url)


def begin_write(spec: StoreSpec, mode: Mode, write_id: str = "") -> WriteSession:
    """Put a root that says "writing", and delete the old store (``mode="w"``), and what other writes left.

    With a ``write_id`` (`new_write_id`), a write that has already begun continues: a task may run twice.

    Raises
    ------
    StoreError
        If something may not be replaced: a store (``"w-"``), or anything that is not a Zarr Vectors store (both).
    """
    backend = connect(spec)
    write_id = write_id or new_write_id()
    marker = CURRENT.marker(write_id)
    session, own = WriteSession(spec, bytes(marker.data)), f"{SCRATCH}/{write_id}/"
    root, names = fetch(backend, [Get(DOC), ListDir("", required=False)])
    if root is None:
        _refuse_others(backend, names or ())
        (made,) = fetch(backend, [Put(DOC, marker.data, create=True)])
        if not made:
            _check_won(backend, session)
            return session
        if SCRATCH in (names or ()):
            delete_below(backend, SCRATCH, spare=own, before_each=session.check)
        return replace(session, start=new_write_id())
    if bytes(root) == session.marker:
        return session
    clearing = CURRENT.marker(write_id, clearing=True)  # a second run must know whether everything was deleted
    if bytes(root) != clearing.data:
        _check_replaced(backend, bytes(root), names or (), mode)
        _swap(backend, clearing, bytes(root))
    replaced()
    delete_below(backend, keep={DOC}, spare=own, before_each=WriteSession(spec, bytes(clearing.data)).check)
    _swap(backend, marker, bytes(clearing.data))
    return replace(session, start=new_write_id())


def _swap(backend: Backend, new: Put, old: bytes) -> None:
    """Put a root in place of another; raise StoreError if that is gone, as far as the backend can tell."""
    if backend.swaps:
        (done,) = fetch(backend, [replace(new, match=old)])
        if not done:
            raise _lost(backend.url)
    else:
        if not is_one_of(backend, DOC, old, bytes(new.data)):
            raise _lost(backend.url)
        fetch(backend, [new])


def is_one_of(backend: Backend, key: str, *known: bytes | None) -> bool:
    """Whether an object has one of some contents now."""
    (now,) = fetch(backend, [Get(key)])
    return now is not None and bytes(now) in known


def _lost(url: str) -> StoreError:
    return StoreError("another write took this place meanwhile; this one is given up", where=url)


def _refuse_others(backend: Backend, names: tuple[str, ...]) -> None:
    # A root that was not there a moment ago belongs to another write: the create-only put will meet it.
    others = [name for name in names if name not in (DOC, SCRATCH) and not _PART.fullmatch(name)]
    if others:
        raise StoreError(
            f"something that is not a Zarr Vectors store is here, which is never replaced: {listed(others)}",
            where=backend.url,
        )


def _check_won(backend: Backend, session: WriteSession) -> None:
    # A put that was repeated after a lost answer finds its own object.
    if not is_one_of(backend, DOC, session.marker):
        raise StoreError("another write began here at the same time; this one is given up", where=backend.url)


def _describe(raw: bytes, url: str) -> str:
    """Describe a root that may be replaced; raises StoreError if it may not."""
    if not raw:
        return UNFINISHED
    try:
        doc = json.loads(raw)
    except ValueError as error:
        raise StoreError(f"a {DOC} that is not JSON is here, which is never replaced", where=url) from error
    root = Found("", doc if isinstance(doc, dict) else {}, "")
    if root.unfinished:
        return UNFINISHED
    try:
        generation_of(root, where=url)
    except UnsupportedVersionError:
        return "a Zarr Vectors store of another version"
    except FormatError as error:
        raise StoreError(
            f"something that is not a Zarr Vectors store is here, which is never replaced: {error.message}", where=url
        ) from error
    return "a Zarr Vectors store"


# What a copy of some levels of a store gets in addition to rows: metadata, headers; and what it does not get.

HEADERS = "headers"
BATCH = 64  # bytes of objects in memory at once
ROWS = ("vertices", "vertex_fragments", "vertex_attributes")
LINKS = ("links", "link_fragments", "link_attributes", "cross_chunk_links", "cross_chunk_link_attributes")
OBJECTS = ("object_index", "object_attributes", "groups", "group_attributes")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Copied:
    """What a copy gets from its source in addition to rows; travels to the task that ends the write.

    Parameters
    ----------
    notes
        Metadata.
    source
        The store.
    documents
        Nodes below ``headers``, by path.
    """

    notes: Notes
    source: StoreSpec
    documents: Mapping[str, Json] = field(default_factory=dict)

    def put(self, session: WriteSession) -> None:
        """Put the headers: groups and arrays, with their bytes unchanged.

        Raises
        ------
        StoreError
            If an object cannot be read or put.
        FormatError
            If an array has absurdly many objects.
        """
        docs = {path: dump(doc) for path, doc in self.documents.items()}
        if docs:
            docs.setdefault(HEADERS, group_document())
        session.put([Put(f"{path}/{DOC}", data) for path, data in docs.items()])
        for path, doc in self.documents.items():
            copy_objects(self.source, stored_keys(path, doc, "an array of headers"), docs[path], session)


def copy_objects(source: StoreSpec, keys: Iterator[str], array: bytes, session: WriteSession) -> tuple[int, int]:
    """Put the objects of an array, whose document is ``array``, unchanged; return their number and bytes."""
    backend, objects, nbytes = connect(source), 0, 0
    while part := list(itertools.islice(keys, BATCH)):
        found = zip(part, fetch(backend, [Get(key) for key in part]), strict=True)
        puts = [Put(key, bytes(data), array=array) for key, data in found if data is not None]
        session.put(puts)
        objects, nbytes = objects + len(puts), nbytes + sum(len(put.data) for put in puts)
    return objects, nbytes


def copied_headers(headers: Mapping[str, Json], target: StoreSpec) -> Copied | None:
    """Headers that a new store gets from its source files, by name; None if there are none."""
    group = {"zarr_format": 3, "node_type": "group"}
    documents = {f"{HEADERS}/{name}": {**group, "attributes": dict(of)} for name, of in headers.items()}
    return Copied(notes=Notes(), source=target, documents=documents) if documents else None


def read_copied(tree: MetaTree, store: StoreMeta, levels: Mapping[int, LevelData]) -> Copied:
    """Read what a copy of a store gets from it; ``levels`` are its levels, by their new index."""
    places = {
        (level, path): f"{of.meta.index}/{path}".rstrip("/") for level, of in levels.items() for path in _paths(of)
    }
    tree.load([Node(place) for place in places.values()])
    nodes = {}
    for (level, path), place in places.items():
        node = tree.node(place)
        found = kept(path, node.attributes) if node is not None else {}
        if found:
            nodes[f"{level}/{path}".rstrip("/")] = found
    for level, of in levels.items():
        nodes |= {f"{level}/{path}/{ANY}": said for path, said in _said_of_links(of) if said}
    documents = {node.path: node.bare for node in tree.below([HEADERS], required=False)}
    for path, doc in documents.items():  # before anything is written
        stored_keys(path, doc, "an array of headers")
    return Copied(notes=Notes(root=store.attributes, nodes=nodes), source=tree.spec, documents=documents)


def _paths(data: LevelData) -> list[str]:
    """Nodes below a level that a copy also has."""
    found = ["", *ROWS, *OBJECTS, "links", "link_attributes"]
    found += [f"vertex_attributes/{name}" for name in data.stored_names]
    found += [f"object_attributes/{name}" for name in data.object_attributes]
    found += [f"group_attributes/{name}" for name in data.group_attributes]
    found += [f"links/{format_delta(delta)}" for delta in data.deltas]
    for name in data.link_attribute_names if data.deltas else ():
        found += [f"link_attributes/{name}", f"link_attributes/{name}/0"]
    return found


def _said_of_links(data: LevelData) -> Iterator[tuple[str, Json]]:
    """Metadata of the arrays of a link attribute; a copy has other arrays, cut by other offsets."""
    family = data.links(0) if 0 in data.deltas and data.link_attribute_names else None
    if family is None:
        return
    for name in data.link_attribute_names:
        path, arrays = f"link_attributes/{name}/0", data.link_attribute(family, name).cells
        if arrays:
            yield path, kept(path, next(iter(arrays.values())).attributes)


def left_out(data: LevelData, levels: Iterable[int], *, links: bool, objects: bool) -> list[str]:
    """Paths that a store has, but a copy of one of its levels does not have, even rebuilt.

    Parameters
    ----------
    levels
        Levels that the copy has, or has rebuilt.
    links, objects
        Whether it has the links inside the level, and its objects.
    """
    tree, level = data.tree, data.meta.index
    there = {str(index) for index in levels} | {HEADERS, DOC, SCRATCH}
    found = {name for name in tree.children("", required=False) or () if name not in there}
    known = {*ROWS, *LINKS, *(OBJECTS if objects else ()), "fragment_attributes"}
    found |= {f"{level}/{name}" for name in tree.children(str(level), required=False) or () if name not in known}
    owners = tree.children(f"{level}/fragment_attributes", required=False) or ()
    found |= {f"{level}/fragment_attributes/{name}" for name in owners if name not in CURRENT.owner_names}
    if not links and 0 in data.deltas:
        found |= {f"{level}/link_attributes/{name}" for name in data.link_attribute_names}
    return sorted(found)
