"""Changes to a store in place: consolidated metadata, counts, a new vertex attribute; and an inventory."""

import json
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import dask.array as da
import numpy as np
from dask.delayed import delayed

from zarr_vectors_lazy.errors import FormatError, SelectionError, StoreError, ZVWarning, counted
from zarr_vectors_lazy.format.base import COMPLETE, Found, Generation
from zarr_vectors_lazy.format.registry import CURRENT
from zarr_vectors_lazy.format.v09 import documents
from zarr_vectors_lazy.format.vectors import (
    MISSING,
    code_dtype,
    encode_categories,
    encode_rows,
    is_number,
    is_time,
    parse_text,
    taken,
)
from zarr_vectors_lazy.kernels.bins import Rule, check_rule
from zarr_vectors_lazy.model.arrays import Dictionary, integers_with_missing, missing_integer
from zarr_vectors_lazy.model.levels import dotted
from zarr_vectors_lazy.model.writing import ArrayDraft, Cells, Encoding, Grid
from zarr_vectors_lazy.plan.blocks import shards_of
from zarr_vectors_lazy.read.layers import chunk_runs
from zarr_vectors_lazy.read.level import LevelData
from zarr_vectors_lazy.read.metadata import DOC, MetaTree
from zarr_vectors_lazy.read.rows import read_row_counts
from zarr_vectors_lazy.read.store import ChainData, OpenStore, open_tree, reopen
from zarr_vectors_lazy.read.view import LevelView
from zarr_vectors_lazy.requests import Get, ListSizes, Put
from zarr_vectors_lazy.storage.fetch import connect, fetch
from zarr_vectors_lazy.storage.spec import StoreSpec
from zarr_vectors_lazy.types import ChunkCoords, IntArray, Json
from zarr_vectors_lazy.write.part import encode_cells
from zarr_vectors_lazy.write.session import is_one_of, new_write_id

# Consolidated metadata: every node of a store in its root (Zarr's inline form).

LARGE_NBYTES = 20_000_000
GROUP: Json = {"zarr_format": 3, "node_type": "group", "attributes": {}}


def write_consolidated(spec: StoreSpec) -> int:
    """Write the metadata of all nodes into the root, in one put; return how many there are.

    Groups that have no metadata of their own (spec 0.7, 3.1) are included, because Zarr needs them to open the store.

    Raises
    ------
    FormatError
        If it is not a store, or if the root changed meanwhile; then nothing is written.
    StoreError
        If the store cannot be listed or written to.
    """
    tree = MetaTree(spec)
    root = tree.read_root()
    if not tree.backend.listable:
        raise StoreError(
            "a store that cannot be listed cannot be consolidated: do it on the machine that has the files",
            where=tree.url,
        )
    reopen(tree).refuse_deferred()
    nodes = read_nodes(tree)
    data = documents.dump(with_nodes(root.doc, nodes))
    if len(data) > LARGE_NBYTES:
        warnings.warn(
            f"the root of {tree.url} now has {len(data) / 1e6:.0f} MB, all of which is read at every open; "
            "consolidated=False ignores it",
            ZVWarning,
            stacklevel=4,
        )
    _put_root(tree, data, "its nodes were read")
    return len(nodes)


def _put_root(tree: MetaTree, data: bytes, meanwhile: str) -> None:
    if not is_one_of(tree.backend, DOC, tree.raw("")):
        raise FormatError(f"the root changed while {meanwhile}; nothing was written", where=tree.url)
    fetch(tree.backend, [Put(DOC, data)])


def with_consolidated(spec: StoreSpec) -> Json | None:
    """Root of a store with consolidated metadata made for it; nothing is written.

    None if it already has some, or cannot have any: if the store cannot be listed, or levels are still being written.
    """
    tree = MetaTree(spec)
    root = tree.read_root()
    if root.consolidated or not tree.backend.listable:
        return None
    try:
        reopen(tree).refuse_deferred()
    except FormatError:
        return None
    return with_nodes(root.doc, read_nodes(tree))


def with_nodes(root: Json, nodes: Mapping[str, Json]) -> Json:
    """Root that contains the documents of all nodes, by path."""
    inline = {"kind": "inline", "must_understand": False, "metadata": nodes, COMPLETE: {"complete": True}}
    return {**root, "consolidated_metadata": inline}


def read_nodes(tree: MetaTree) -> dict[str, Json]:
    """Documents of all nodes but the root, by path, each group before its contents."""
    found: dict[str, Json] = {node.path: node.bare for node in tree.below([""]) if node.path}
    for path in list(found):
        parts = path.split("/")
        for depth in range(1, len(parts)):
            found.setdefault("/".join(parts[:depth]), GROUP)
    return dict(sorted(found.items()))


def renew_consolidated(spec: StoreSpec) -> None:
    """Rewrite the consolidated metadata of a changed store, if its root has any.

    Raises
    ------
    FormatError, StoreError
        As for `write_consolidated`.
    """
    if MetaTree(spec).read_root().consolidated:
        write_consolidated(spec)


def drop_consolidated(spec: StoreSpec) -> None:
    """Remove consolidated metadata, if there are any, from the root in one put, because they are about to become stale.

    Raises
    ------
    FormatError
        If the root changed meanwhile.
    """
    tree = MetaTree(spec)
    root = tree.read_root()
    if root.consolidated:
        _put_root(tree, documents.dump(root.bare), "it was read")


# Counts of vertices by chunk, added to a store that lacks them.


def open_to_change(spec: StoreSpec) -> OpenStore:
    """Open a store to change its documents: as they are, whatever consolidated metadata say.

    Raises
    ------
    FormatError
        If its generation can only be read.
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
    """Record the rows of each chunk in every level; return the number of vertices of each.

    For each level this costs what reading the counts costs, and a put. The root's consolidated metadata, if any, are
    rewritten at the end.

    Raises
    ------
    FormatError
        If the store can only be read, or if a document changed meanwhile; that level is left as it was.
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
    tree.take(replace(node, doc=documents.without_counts(node.doc)))  # existing counts may be wrong
    counts = read_row_counts(data, None)
    total = int(counts.sum())
    parent = tree.existing(level)
    if data.meta.stated_count not in (None, total) and not data.meta.edges_lost:  # 0 shows that it was rechunked
        put_unchanged(tree, parent, documents.with_total(parent.doc, total))
    put_unchanged(tree, node, documents.with_counts(node.doc, data.vertices.chunks.order, counts))
    return total


def put_unchanged(tree: MetaTree, node: Found, doc: bytes) -> None:
    """Put a new document of a node, if the one from which it was made is still there; nothing if both are equal.

    Raises
    ------
    FormatError
        If it changed meanwhile; then nothing is written.
    """
    key = f"{node.path}/{DOC}" if node.path else DOC
    before = tree.raw(node.path)
    if before == doc:
        return
    if not is_one_of(tree.backend, key, before):
        raise FormatError("it changed while it was read; it was left as it is", where=f"{tree.url}/{key}")
    fetch(tree.backend, [Put(key, doc)])


# The inventory of a store: objects and bytes by family of arrays, from one listing.


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Objects of one family of arrays.

    Parameters
    ----------
    level
        The level; None for what lies outside levels.
    family
        Path of the arrays in the level, such as ``"vertices"`` or ``"links/0/0.0.+1"``; ``""`` for its own document.
    objects, documents
        Number of objects, and how many of them are metadata.
    nbytes
        Stored bytes.
    """

    level: int | None
    family: str
    objects: int
    documents: int
    nbytes: int


def read_inventory(tree: MetaTree, generation: Generation) -> tuple[Kept, ...]:
    """Objects and bytes by level and family: first what belongs to no level, then by level and name.

    Raises
    ------
    StoreError
        If the store cannot be listed.
    """
    if not tree.backend.listable:
        raise StoreError("the store cannot be listed: count its objects on the machine that has them", where=tree.url)
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


# The tasks that add a new vertex attribute to the data of a level.
#
# Its document comes first, and says only that the attribute is being written: readers take the attribute for
# absent, also if the write is interrupted.

Values: TypeAlias = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAttribute:
    """A new attribute; small, travels in tasks.

    Parameters
    ----------
    spec, level
        The store and the level.
    name
        Its name.
    dtype, row_shape
        Dtype and shape of a row; text is stored as codes.
    grid, encoding
        Those of the level's vertices.
    rule
        How values are combined on coarser levels, if stated.
    beside
        Names of the other attributes.
    """

    spec: StoreSpec
    level: int
    name: str
    dtype: np.dtype[Any]
    row_shape: tuple[int, ...]
    grid: Grid
    encoding: Encoding
    rule: Rule | None = None
    beside: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Written:
    """Chunks whose values a task wrote, and a number that changes with what it wrote."""

    coords: ChunkCoords
    content: int


def begin_attribute(new: NewAttribute, write_id: str) -> bytes:
    """Put the document that says "writing", replacing that of an interrupted write; return it.

    Raises
    ------
    SelectionError
        If the attribute exists by now.
    """
    marker = documents.marked_cells(new.grid, new.encoding, write_id)
    backend = connect(new.spec)
    group, found = fetch(backend, [Get(f"{_folder(new)}/{DOC}"), Get(_key(new))])
    if found is not None and not Found(new.name, json.loads(bytes(found)), "").unfinished:
        raise SelectionError(f"the level already has an attribute {new.name!r}")
    if group is None:
        fetch(backend, [Put(f"{_folder(new)}/{DOC}", documents.group_document())])
    fetch(backend, [Put(_key(new), marker)])
    return marker


@dataclass(frozen=True, slots=True, eq=False)
class Distinct:
    """Values of a block that need a dictionary; whether some are missing, and whether missing's integer occurs."""

    categories: Values
    missing: bool
    taken: bool = False


def find_categories(values: Values) -> Distinct:
    """Distinct texts, or booleans, of a block, sorted; none for integers.

    Raises
    ------
    SelectionError
        If a value is neither text nor missing, or equals the text for missing.
    """
    if values.dtype.kind in "iu":
        missing = np.ma.getmaskarray(values)
        there = np.ma.getdata(values)[~missing]
        return Distinct(there[:0], bool(missing.any()), bool((there == missing_integer(values.dtype)).any()))
    codes, dictionary = encode_categories(values)
    return Distinct(dictionary.categories, bool((codes == MISSING).any()) if dictionary.fill is not None else False)


def join_categories(parts: Sequence[Distinct], dtype: np.dtype[Any]) -> Dictionary | None:
    """Dictionary of all blocks; None for integers without missing values.

    Raises
    ------
    SelectionError
        If integers are missing, but the one that would stand for them occurs as a value.
    """
    missing = any(part.missing for part in parts)
    if dtype.kind in "iu":
        if missing and any(part.taken for part in parts):
            raise SelectionError(f"values: {taken(dtype)}")
        return integers_with_missing(dtype) if missing else None
    empty = np.empty(0, np.bool_ if dtype.kind == "b" else "<U1")
    categories = np.unique(np.concatenate([empty, *(part.categories for part in parts)]))
    return Dictionary(categories=categories, fill=MISSING if missing else None)


def write_values(
    new: NewAttribute,
    coords: ChunkCoords,
    counts: IntArray,
    blocks: Sequence[Values],
    dictionary: Dictionary | None,
    begun: bytes,
) -> Written:
    """Write the values of some chunks.

    Parameters
    ----------
    counts
        (n,) vertices of each chunk.
    blocks
        Values of each.
    begun
        The result of `begin_attribute`, so that it comes first.

    Raises
    ------
    SelectionError
        If a block does not have as many rows as its chunk, or not the announced shape and dtype.
    """
    payloads = []
    for coord, count, block in zip(coords, counts.tolist(), blocks, strict=True):
        values = np.asanyarray(block)
        if values.shape != (count, *new.row_shape):
            raise SelectionError(
                f"values of {new.name!r} for chunk {dotted(coord)} have shape {values.shape}; "
                f"it has {counted(count, 'vertex')}"
            )
        payloads.append(
            encode_rows(np.asarray(_stored(values, dictionary).astype(_dtype(new, dictionary), copy=False)))
        )
    filled = np.flatnonzero(counts > 0)
    if not len(filled):
        return Written(coords[:0], 0)
    cells = Cells(path=_draft(new, dictionary).path, coords=coords[filled], payloads=[payloads[i] for i in filled])
    puts, content = encode_cells(new.level, cells, new.grid, new.encoding)
    fetch(connect(new.spec), puts)
    return Written(coords[filled], content)


def finish_attribute(new: NewAttribute, written: Sequence[Written], dictionary: Dictionary | None, begun: bytes) -> int:
    """Put the document that makes the attribute visible; return the number of chunks that have values.

    Before that, the root names an attribute of level 0, if it names the others; afterwards its consolidated metadata,
    if any, are rewritten.

    Parameters
    ----------
    begun
        What `begin_attribute` gave.

    Raises
    ------
    StoreError
        If another write of the attribute has begun meanwhile, or if a put fails.
    FormatError
        If the root changed meanwhile.
    """
    draft = _draft(new, dictionary)
    rank = len(new.grid.origin)
    coords = np.concatenate([np.empty((0, rank), np.int64), *(part.coords for part in written)])
    content = sum(part.content for part in written) % 2**64
    doc = documents.cells_document(draft, new.grid, coords, new.encoding, {"content": f"{content:016x}"})
    backend = connect(new.spec)
    if not is_one_of(backend, _key(new), begun):
        raise StoreError(
            f"another write of the attribute {new.name!r} began meanwhile; this one is given up", where=backend.url
        )
    if new.level == 0:  # a declaration, not proof of presence: first, so that a write that fails here is run again
        tree = MetaTree(new.spec)
        root = tree.read_root()
        told = documents.with_spec(root.doc, draft, new.beside)
        if told is not None:
            put_unchanged(tree, root, told)
    fetch(backend, [Put(_key(new), doc)])
    renew_consolidated(new.spec)
    return len(coords)


def _folder(new: NewAttribute) -> str:
    return f"{new.level}/{_draft(new, None).path.rpartition('/')[0]}"


def _key(new: NewAttribute) -> str:
    return f"{_folder(new)}/{new.name}/{DOC}"


def _draft(new: NewAttribute, dictionary: Dictionary | None) -> ArrayDraft:
    ours: Json | None = None if new.rule is None else {"aggregate": new.rule}
    return CURRENT.attribute(new.name, _dtype(new, dictionary), new.row_shape, dictionary=dictionary, ours=ours)


def _dtype(new: NewAttribute, dictionary: Dictionary | None) -> np.dtype[Any]:
    if dictionary is None or dictionary.plain:
        return new.dtype
    return code_dtype(len(dictionary.categories), missing=dictionary.fill is not None)


def _stored(values: Values, dictionary: Dictionary | None) -> Values:
    """Values of a block as they are stored: with codes, or the integer for missing."""
    if dictionary is None:
        return np.asarray(values.filled(np.nan) if isinstance(values, np.ma.MaskedArray) else values)
    if dictionary.plain:
        return np.asarray(np.ma.filled(values, dictionary.fill))
    if isinstance(values, np.ma.MaskedArray):
        known, missing = np.asarray(values.data), np.ma.getmaskarray(values)
    else:
        known, missing = parse_text(values)
    codes = np.searchsorted(dictionary.categories, known)
    return np.where(missing, 0 if dictionary.fill is None else dictionary.fill, codes)


# A new vertex attribute as a Dask graph, each chunk written by one task.

TEXT = "UTO"  # kinds of dtypes whose values need a dictionary


def add_attribute(view: LevelView, name: str, values: Any, rule: Rule | None = None) -> Any:
    """Delayed number of the chunks of a level that got values of a new attribute.

    Raises
    ------
    SelectionError
        If the level is a selection or already has the attribute, or if the values are not aligned with its vertices, or
        cannot be combined by the rule.
    FormatError
        If the store can only be read.
    """
    opened = open_to_change(view.data.tree.spec)
    if isinstance(view.data, ChainData):
        raise SelectionError("the level refines others: write the attribute to what it stores itself, level.own")
    data = opened.levels[view.data.meta.index]
    if view.rows is not None or view.filters.any():
        raise SelectionError(
            "an attribute can only be written to a complete level, not to a selection; save the selection first"
        )
    if name in data.attribute_names:
        raise SelectionError(f"the level already has an attribute {name!r}")
    coords = data.vertices.chunks.coords
    counts = view.sizes if view.sizes is not None else read_row_counts(data, None)
    array = _aligned(values, counts)
    masked = isinstance(array._meta, np.ma.MaskedArray) and array.dtype.kind in "iub"
    text = array.dtype.kind in TEXT or (masked and array.dtype.kind == "b")
    if not (text and array.ndim == 1) and not is_number(array.dtype) and not is_time(array.dtype):
        raise SelectionError(f"values must be numbers, booleans, times or one text each, found {array.dtype}")
    if rule is not None:
        check_rule(rule, array.dtype, "aggregate", coded=text, fill=masked)
    grid, encoding = documents.array_form(data.tree.existing(data.vertices.spec.path))
    new = NewAttribute(
        spec=opened.tree.spec,
        level=data.meta.index,
        name=name,
        dtype=array.dtype,
        row_shape=array.shape[1:],
        grid=grid,
        encoding=encoding,
        rule=rule,
        beside=data.attribute_names,
    )
    blocks = array.to_delayed().reshape(-1).tolist() if len(counts) else []
    dictionary = None
    if text or masked:
        find = delayed(find_categories, pure=True)
        dictionary = delayed(join_categories, pure=True)([find(block) for block in blocks], array.dtype)
    begun = delayed(begin_attribute, pure=False)(new, new_write_id())
    write = delayed(write_values, pure=False)
    written = [
        write(new, coords[run], counts[run], [blocks[i] for i in run.tolist()], dictionary, begun)
        for run in chunk_runs(view, [("values", data.vertices)], shards_of(coords, grid, encoding))
    ]
    return delayed(finish_attribute, pure=False)(new, written, dictionary, begun)


def _aligned(values: Any, counts: IntArray) -> da.Array:
    """Values with one block for each chunk."""
    array = values if isinstance(values, da.Array) else da.from_array(np.asanyarray(values), chunks=-1)
    if array.ndim not in (1, 2):
        raise SelectionError(f"values must be (N,) or (N, C), found {counted(array.ndim, 'dimension')}")
    if any(np.isnan(size) for size in array.chunks[0]):
        if array.numblocks[0] != len(counts):
            raise SelectionError(
                f"values of unknown chunk sizes must have a block for each of the {len(counts)} chunks, found "
                f"{array.numblocks[0]}; use level.compute_chunk_sizes()"
            )
        whole: da.Array = array if array.ndim == 1 else array.rechunk({1: -1})
        return whole
    if array.shape[0] != counts.sum():
        raise SelectionError(
            f"values have {counted(array.shape[0], 'row')}, but the level has {counted(int(counts.sum()), 'vertex')}"
        )
    if not len(counts):
        return array
    chunks = (tuple(counts.tolist()), *((edge,) for edge in array.shape[1:]))
    cut: da.Array = array.rechunk(chunks)
    return cut
