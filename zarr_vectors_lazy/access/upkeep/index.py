"""Counts of vertices by chunk, stamped into a store that lacks them."""

from dataclasses import replace

from zarr_vectors_lazy.access.level import LevelData
from zarr_vectors_lazy.access.metadata import DOC, MetaTree
from zarr_vectors_lazy.access.sizes import read_row_counts
from zarr_vectors_lazy.access.store import OpenStore, open_tree
from zarr_vectors_lazy.access.upkeep.consolidate import renew_consolidated
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.base import Found
from zarr_vectors_lazy.format.writing import with_counts, with_total, without_counts
from zarr_vectors_lazy.requests import Get, Put
from zarr_vectors_lazy.storage.fetch import fetch
from zarr_vectors_lazy.storage.spec import StoreSpec


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
            f"stores of format {opened.meta.version} are read-only here: zvl.migrate it to a new store first",
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
