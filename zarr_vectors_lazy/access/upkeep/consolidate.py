"""Consolidated metadata: every node of a store in its root (Zarr's inline form)."""

import warnings
from collections.abc import Mapping
from typing import Any

from zarr_vectors_lazy.access.metadata import DOC, MetaTree
from zarr_vectors_lazy.access.store import reopen
from zarr_vectors_lazy.errors import FormatError, StoreError, ZVWarning
from zarr_vectors_lazy.format.base import COMPLETE, Children, Node
from zarr_vectors_lazy.format.writing import dump
from zarr_vectors_lazy.requests import Get, Put
from zarr_vectors_lazy.storage.connect import connect
from zarr_vectors_lazy.storage.fetch import fetch
from zarr_vectors_lazy.storage.spec import StoreSpec
from zarr_vectors_lazy.types import Json

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
        raise StoreError("what cannot be listed cannot be consolidated: do it where the files are", where=tree.url)
    reopen(tree).refuse_deferred()
    nodes = read_nodes(tree)
    data = dump(with_nodes(root.doc, nodes))
    if len(data) > LARGE_NBYTES:
        warnings.warn(
            f"the root of {tree.url} now has {len(data) / 1e6:.0f} MB, which every open reads whole; "
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
