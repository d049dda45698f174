"""What goes from a store into a copy of some of its levels besides rows: metadata, headers; and what does not go."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from zarr_vectors_lazy.access.level import LevelData
from zarr_vectors_lazy.access.metadata import DOC, MetaTree
from zarr_vectors_lazy.access.write.session import WriteSession
from zarr_vectors_lazy.format.base import Found, Node
from zarr_vectors_lazy.format.recode import stored_keys
from zarr_vectors_lazy.format.writing import ANY, CURRENT, dump, group_document, kept
from zarr_vectors_lazy.model.levels import StoreMeta
from zarr_vectors_lazy.model.writing import Notes
from zarr_vectors_lazy.requests import Get, Put
from zarr_vectors_lazy.storage.connect import connect
from zarr_vectors_lazy.storage.fetch import fetch
from zarr_vectors_lazy.storage.spec import StoreSpec
from zarr_vectors_lazy.types import Json

HEADERS = "headers"
BATCH = 64  # objects that are in memory at once
ROWS = ("vertices", "vertex_fragments", "vertex_attributes")
LINKS = ("links", "link_fragments", "link_attributes", "cross_chunk_links", "cross_chunk_link_attributes")
OBJECTS = ("object_index", "object_attributes", "groups", "group_attributes")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Copied:
    """What a copy has of its source besides rows; travels to the task that ends the write.

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

    @property
    def is_store(self) -> bool:
        """Whether what is copied is a store, and not the headers of files."""
        return bool(self.notes.root)

    def put(self, session: WriteSession) -> None:
        """Put the headers: groups and arrays, bytes as they are.

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
    """Put objects of an array, whose document is ``array``, as they are; return how many there are, and their bytes."""
    backend, objects, nbytes = connect(source), 0, 0
    while part := list(itertools.islice(keys, BATCH)):
        found = zip(part, fetch(backend, [Get(key) for key in part]), strict=True)
        puts = [Put(key, bytes(data), array=array) for key, data in found if data is not None]
        session.put(puts)
        objects, nbytes = objects + len(puts), nbytes + sum(len(put.data) for put in puts)
    return objects, nbytes


def copied_headers(headers: Mapping[str, Json], target: StoreSpec) -> Copied | None:
    """What a new store has of the files that it is of: their headers by name; None where there are none."""
    group = {"zarr_format": 3, "node_type": "group"}
    documents = {f"{HEADERS}/{name}": {**group, "attributes": dict(of)} for name, of in headers.items()}
    return Copied(notes=Notes(), source=target, documents=documents) if documents else None


def read_copied(tree: MetaTree, store: StoreMeta, levels: Mapping[int, LevelData]) -> Copied:
    """Read what a copy of a store has of it whose levels, by their new index, are ``levels``."""
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
    documents = dict(_below(tree, [HEADERS]))
    for path, doc in documents.items():  # before anything is written
        stored_keys(path, doc, "an array of headers")
    return Copied(notes=Notes(root=store.attributes, nodes=nodes), source=tree.spec, documents=documents)


def _paths(data: LevelData) -> list[str]:
    """Nodes of a level that a copy has too, below it."""
    by = data.chunk_attribute
    found = ["", *ROWS, *OBJECTS, "links", "link_attributes"]
    found += [f"vertex_attributes/{name}" for name in data.attribute_names if by is None or by[0] != name]
    found += [f"object_attributes/{name}" for name in data.object_attributes]
    found += [f"group_attributes/{name}" for name in data.group_attributes]
    found += [f"links/{delta:+d}" if delta else "links/0" for delta in data.deltas]
    for name in data.link_attribute_names if data.deltas else ():
        found += [f"link_attributes/{name}", f"link_attributes/{name}/0"]
    return found


def _said_of_links(data: LevelData) -> Iterator[tuple[str, Json]]:
    """What the arrays of a link attribute say; a copy has others, cut by other offsets."""
    family = data.links(0) if 0 in data.deltas and data.link_attribute_names else None
    if family is None:
        return
    for name in data.link_attribute_names:
        path, arrays = f"link_attributes/{name}/0", data.link_attribute(family, name).cells
        if arrays:
            yield path, kept(path, next(iter(arrays.values())).attributes)


def _below(tree: MetaTree, paths: Sequence[str]) -> Iterator[tuple[str, Json]]:
    """Documents of nodes and of all below them, by path."""
    while paths:
        tree.load([Node(path) for path in paths])
        found: list[Found] = [node for path in paths if (node := tree.node(path)) is not None]
        for node in found:
            yield node.path, {name: value for name, value in node.doc.items() if name != "consolidated_metadata"}
        arrays = {node.path for node in found if node.doc.get("node_type") == "array"}
        folders = [path for path in paths if path not in arrays]
        paths = [f"{path}/{name}" for path in folders for name in tree.children(path, required=False) or ()]


def left_out(data: LevelData, levels: Iterable[int], *, links: bool, objects: bool) -> list[str]:
    """Paths of what a store has, a copy of a level of it does not have, and is not made anew.

    Parameters
    ----------
    levels
        Those that the copy has, or whose like it has.
    links, objects
        Whether it has the links inside the level, and its objects.
    """
    tree, level = data.tree, data.meta.index
    there = {str(index) for index in levels} | {HEADERS, DOC}
    found = {name for name in tree.children("", required=False) or () if name not in there}
    known = {*ROWS, *LINKS, *(OBJECTS if objects else ()), "fragment_attributes"}
    found |= {f"{level}/{name}" for name in tree.children(str(level), required=False) or () if name not in known}
    owners = tree.children(f"{level}/fragment_attributes", required=False) or ()
    found |= {f"{level}/fragment_attributes/{name}" for name in owners if name not in CURRENT.owner_names}
    if not links and 0 in data.deltas:
        found |= {f"{level}/link_attributes/{name}" for name in data.link_attribute_names}
    return sorted(found)
