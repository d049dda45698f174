"""What is done to a store in place: consolidated metadata, counts, what it keeps."""

import warnings
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from zarr_vectors_lazy.errors import FormatError, StoreError, ZVWarning
from zarr_vectors_lazy.format.base import COMPLETE, Children, Found, Generation, Node
from zarr_vectors_lazy.format.registry import dump, with_counts, with_total, without_counts
from zarr_vectors_lazy.read.level import LevelData
from zarr_vectors_lazy.read.metadata import DOC, MetaTree
from zarr_vectors_lazy.read.rows import read_row_counts
from zarr_vectors_lazy.read.store import OpenStore, open_tree, reopen
from zarr_vectors_lazy.requests import Get, ListSizes, Put
from zarr_vectors_lazy.storage.fetch import connect, fetch
from zarr_vectors_lazy.storage.spec import StoreSpec
from zarr_vectors_lazy.types import Json

# Consolidated metadata: every node of a store in its root (Zarr's inline form).

LARGE_NBYTES = 20_000_000
GROUP: Json = {"zarr_format": 3, "node_type": "group", "attributes": {}}


def write_consolidated(spec: StoreSpec) -> int:
    """Write the metadata of all nodes into the root, in one put; return how many there are.

    Groups that have no metadata of their own (spec 0.7, 3.1) are named too, without which Zarr does not open the store.

    Raises
    ------
    FormatError
        If it is no store, or the root changed meanwhile; nothing is written then.
    StoreError
        If the store cannot be listed or written.
    """
    tree = MetaTree(spec)
    root = tree.read_root()
    if not tree.backend.listable:
        raise StoreError(
            "a store that cannot be listed cannot be consolidated: do it where the files are", where=tree.url
        )
    reopen(tree).refuse_deferred()
    nodes = read_nodes(tree)
    data = dump(with_nodes(root.doc, nodes))
    if len(data) > LARGE_NBYTES:
        warnings.warn(
            f"the root of {tree.url} now has {len(data) / 1e6:.0f} MB, all of which is read at every open; "
            "consolidated=False ignores it",
            ZVWarning,
            stacklevel=4,
        )
    backend = connect(spec)
    (now,) = fetch(backend, [Get(DOC)])
    if now is None or bytes(now) != tree.raw(""):
        raise FormatError("the root changed while its nodes were read; nothing was written", where=tree.url)
    fetch(backend, [Put(DOC, data)])
    return len(nodes)


def with_consolidated(spec: StoreSpec) -> Json | None:
    """Root of a store as it would be with consolidated metadata, which nothing is written for.

    None where it has some, or cannot have any: where it lies cannot be listed, or levels are still written.
    """
    tree = MetaTree(spec)
    root = tree.read_root()
    if root.doc.get("consolidated_metadata") is not None or not tree.backend.listable:
        return None
    try:
        reopen(tree).refuse_deferred()
    except FormatError:
        return None
    return with_nodes(root.doc, read_nodes(tree))


def with_nodes(root: Json, nodes: Mapping[str, Json]) -> Json:
    """Root that carries the documents of all nodes, by path."""
    inline = {"kind": "inline", "must_understand": False, "metadata": nodes, COMPLETE: {"complete": True}}
    return {**root, "consolidated_metadata": inline}


def read_nodes(tree: MetaTree) -> dict[str, Json]:
    """Documents by path, a group before what is in it; all nodes of a depth at once."""
    found: dict[str, Json] = {}
    folders = [""]
    while folders:
        tree.load([Children(folder) for folder in folders])
        paths = [f"{folder}/{name}" if folder else name for folder in folders for name in tree.children(folder) or ()]
        tree.load([Node(path) for path in paths])
        nodes = {path: tree.node(path) for path in paths}
        found.update((path, _bare(node.doc)) for path, node in nodes.items() if node is not None)
        folders = [path for path, node in nodes.items() if node is None or node.doc.get("node_type") == "group"]
    for path in list(found):
        parts = path.split("/")
        for depth in range(1, len(parts)):
            found.setdefault("/".join(parts[:depth]), GROUP)
    return dict(sorted(found.items()))


def renew_consolidated(spec: StoreSpec) -> None:
    """Write the consolidated metadata of a changed store again, where its root has some now.

    Raises
    ------
    FormatError, StoreError
        As `write_consolidated`.
    """
    if MetaTree(spec).read_root().doc.get("consolidated_metadata") is not None:
        write_consolidated(spec)


def drop_consolidated(spec: StoreSpec) -> None:
    """Take the consolidated metadata out of the root, in one put, where there are some: what they say will change.

    Raises
    ------
    FormatError
        If the root changed meanwhile.
    """
    tree = MetaTree(spec)
    root = tree.read_root()
    if root.doc.get("consolidated_metadata") is None:
        return
    data = dump(_bare(root.doc))
    backend = connect(spec)
    (now,) = fetch(backend, [Get(DOC)])
    if now is None or bytes(now) != tree.raw(""):
        raise FormatError("the root changed while it was read; nothing was written", where=tree.url)
    fetch(backend, [Put(DOC, data)])


def _bare(doc: Json) -> dict[str, Any]:
    return {name: value for name, value in doc.items() if name != "consolidated_metadata"}


# Counts of vertices by chunk, stamped into a store that lacks them.


def open_to_change(spec: StoreSpec) -> OpenStore:
    """Open a store whose documents will be changed: as they are, whatever consolidated metadata say.

    Raises
    ------
    FormatError
        If it is of a generation that is only read.
    """
    opened = open_tree(spec, False)
    if not opened.generation.changeable:
        raise FormatError(
            f"stores of format {opened.meta.version} are read-only here: zvl.migrate makes a new store of one",
            where=opened.tree.url,
        )
    opened.refuse_deferred()
    return opened


def write_counts(spec: StoreSpec) -> dict[int, int]:
    """Stamp the rows of each chunk into every level; return the vertices of each.

    A level costs what reading the counts costs, and a put. The root's consolidated metadata, where there are some, are
    written again at the end.

    Raises
    ------
    FormatError
        If the store is only read, or a document changed meanwhile; that level is left as it was.
    CorruptChunkError
        If a listed chunk is missing or undecodable.
    StoreError
        If the store cannot be read or written.
    """
    opened = open_to_change(spec)
    totals = {level: _stamp_level(data) for level, data in sorted(opened.levels.items())}
    renew_consolidated(spec)
    return totals


def _stamp_level(data: LevelData) -> int:
    tree = data.tree
    level, vertices = data.generation.level_nodes(data.meta.index)
    node = tree.node(vertices)
    if node is None:
        raise FormatError("a level has no vertices", where=data.url)
    tree.take(replace(node, doc=without_counts(node.doc)))  # those that are there may be wrong
    counts = read_row_counts(data, None)
    total = int(counts.sum())
    parent = tree.node(level)
    assert parent is not None
    if data.meta.stated_count not in (None, total) and not data.meta.edges_lost:  # 0 tells that it was rechunked
        put_unchanged(tree, parent, with_total(parent.doc, total))
    put_unchanged(tree, node, with_counts(node.doc, data.vertices.chunks.order, counts))
    return total


def put_unchanged(tree: MetaTree, node: Found, doc: bytes) -> None:
    """Put a new document of a node, if the one that it was made from is still there; nothing where it is the same.

    Raises
    ------
    FormatError
        If it changed meanwhile; nothing is written then.
    """
    key = f"{node.path}/{DOC}" if node.path else DOC
    before = tree.raw(node.path)
    if before == doc:
        return
    (now,) = fetch(tree.backend, [Get(key)])
    if now is None or bytes(now) != before:
        raise FormatError("it changed while it was read; it was left as it is", where=f"{tree.url}/{key}")
    fetch(tree.backend, [Put(key, doc)])


# What a store keeps: objects and bytes by family of arrays, from one listing.


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Objects of one family of arrays.

    Parameters
    ----------
    level
        Level, None for what lies outside levels.
    family
        Path of the arrays in the level, such as ``"vertices"`` or ``"links/0/0.0.+1"``; ``""`` for its own document.
    objects, documents
        Objects, and how many of them are metadata.
    nbytes
        Stored bytes.
    """

    level: int | None
    family: str
    objects: int
    documents: int
    nbytes: int


def read_inventory(tree: MetaTree, generation: Generation) -> tuple[Kept, ...]:
    """Objects and bytes by level and family: what belongs to no level first, then by level and name.

    Raises
    ------
    StoreError
        If the store cannot be listed.
    """
    if not tree.backend.listable:
        raise StoreError("the store cannot be listed: count its objects where they are", where=tree.url)
    (sizes,) = fetch(tree.backend, [ListSizes("")])
    totals: defaultdict[tuple[int | None, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    for key, nbytes in sizes.items():
        total = totals[generation.family(key)]
        total[0] += 1
        total[1] += key.rpartition("/")[2] == DOC
        total[2] += nbytes
    found = sorted(totals.items(), key=lambda item: (-1 if item[0][0] is None else item[0][0], item[0][1]))
    return tuple(
        Kept(level=level, family=family, objects=objects, documents=documents, nbytes=nbytes)
        for (level, family), (objects, documents, nbytes) in found
    )
