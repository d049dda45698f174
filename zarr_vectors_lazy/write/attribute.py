"""A new vertex attribute beside the data of a level."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import dask.array as da
import numpy as np
from dask.delayed import delayed

from zarr_vectors_lazy.errors import SelectionError, StoreError
from zarr_vectors_lazy.format.base import Found
from zarr_vectors_lazy.format.registry import (
    CURRENT,
    MISSING,
    array_form,
    cells_document,
    code_dtype,
    encode_categories,
    encode_rows,
    group_document,
    is_number,
    is_time,
    marked_cells,
    parse_text,
    taken,
    with_spec,
)
from zarr_vectors_lazy.kernels.bins import Rule, check_rule
from zarr_vectors_lazy.model.arrays import Dictionary, integers_with_missing, missing_integer
from zarr_vectors_lazy.model.levels import dotted
from zarr_vectors_lazy.model.writing import ArrayDraft, Cells, Encoding, Grid
from zarr_vectors_lazy.read.layers import chunk_runs
from zarr_vectors_lazy.read.metadata import DOC, MetaTree
from zarr_vectors_lazy.read.rows import read_row_counts
from zarr_vectors_lazy.read.store import ChainData
from zarr_vectors_lazy.read.view import LevelView
from zarr_vectors_lazy.requests import Get, Put
from zarr_vectors_lazy.storage.fetch import connect, fetch
from zarr_vectors_lazy.storage.spec import StoreSpec
from zarr_vectors_lazy.types import ChunkCoords, IntArray, Json
from zarr_vectors_lazy.write.consolidate import open_to_change, put_unchanged, renew_consolidated
from zarr_vectors_lazy.write.part import content_of
from zarr_vectors_lazy.write.session import new_write_id

# What tasks run to write a new vertex attribute beside the data of a level.
#
# Its document comes first, and says only that the attribute is being written: readers take it for one that is not
# there, also where the write was interrupted.

Values: TypeAlias = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAttribute:
    """An attribute to be written; small, travels in tasks.

    Parameters
    ----------
    spec, level
        Where.
    name
        Of it.
    dtype, row_shape
        Of a row; text is stored as codes.
    grid, encoding
        As the level's vertices have them.
    rule
        How values are joined on coarser levels, where that is said.
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
    """Chunks of which a task wrote values, and a number that changes with what it wrote."""

    coords: ChunkCoords
    content: int


def begin_attribute(new: NewAttribute, write_id: str) -> bytes:
    """Put the document that says "writing", in place of that of an interrupted write; return it.

    Raises
    ------
    SelectionError
        If there is such an attribute by now.
    """
    marker = marked_cells(new.grid, new.encoding, write_id)
    backend = connect(new.spec)
    group, found = fetch(backend, [Get(f"{_folder(new)}/{DOC}"), Get(_key(new))])
    if found is not None and not Found(new.name, json.loads(bytes(found)), "").unfinished:
        raise SelectionError(f"the level already has an attribute {new.name!r}")
    if group is None:
        fetch(backend, [Put(f"{_folder(new)}/{DOC}", group_document())])
    fetch(backend, [Put(_key(new), marker)])
    return marker


@dataclass(frozen=True, slots=True, eq=False)
class Distinct:
    """Values of a block that go through a dictionary; whether some are missing, and the number for that is there."""

    categories: Values
    missing: bool
    taken: bool = False


def find_categories(values: Values) -> Distinct:
    """Distinct texts, or truth values, of a block, sorted; of whole numbers none.

    Raises
    ------
    SelectionError
        If a value is neither text nor missing, or means missing and is there.
    """
    if not isinstance(values, np.ma.MaskedArray) and values.dtype.kind in "iu":
        return Distinct(values[:0], False, bool((values == missing_integer(values.dtype)).any()))
    if values.dtype.kind in "iu":
        missing = np.ma.getmaskarray(values)
        there = np.asarray(values.data)[~missing]
        return Distinct(there[:0], bool(missing.any()), bool((there == missing_integer(values.dtype)).any()))
    codes, dictionary = encode_categories(values)
    return Distinct(dictionary.categories, bool((codes == MISSING).any()) if dictionary.fill is not None else False)


def join_categories(parts: Sequence[Distinct], dtype: np.dtype[Any]) -> Dictionary | None:
    """Dictionary of all blocks; None of whole numbers none of which is missing.

    Raises
    ------
    SelectionError
        If whole numbers are missing, and one is that which would say so.
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
        What `begin_attribute` gave, so that it comes first.

    Raises
    ------
    SelectionError
        If a block has another number of rows than its chunk, or another shape or dtype than it was said to have.
    """
    payloads = []
    for coord, count, block in zip(coords, counts.tolist(), blocks, strict=True):
        values = np.asanyarray(block)
        if values.shape != (count, *new.row_shape):
            raise SelectionError(
                f"values of {new.name!r} for chunk {dotted(coord)} have shape {values.shape}; it has {count} vertices"
            )
        payloads.append(
            encode_rows(np.asarray(_stored(values, dictionary).astype(_dtype(new, dictionary), copy=False)))
        )
    filled = np.flatnonzero(counts > 0)
    if not len(filled):
        return Written(coords[:0], 0)
    cells = Cells(path=_draft(new, dictionary).path, coords=coords[filled], payloads=[payloads[i] for i in filled])
    puts = CURRENT.cell_puts(new.level, cells, new.grid, new.encoding)
    fetch(connect(new.spec), puts)
    content = sum(content_of(put, checked=new.encoding.checksum) for put in puts) % 2**64
    return Written(coords[filled], content)


def finish_attribute(new: NewAttribute, written: Sequence[Written], dictionary: Dictionary | None, begun: bytes) -> int:
    """Put the document that makes the attribute visible; return how many chunks have values.

    Before, the root names one of level 0, if it names the others; after, its consolidated metadata, where it has some,
    are written again.

    Parameters
    ----------
    begun
        What `begin_attribute` gave.

    Raises
    ------
    StoreError
        If another write of the attribute has begun meanwhile, or a put fails.
    FormatError
        If the root changed meanwhile.
    """
    draft = _draft(new, dictionary)
    rank = len(new.grid.origin)
    coords = np.concatenate([np.empty((0, rank), np.int64), *(part.coords for part in written)])
    content = sum(part.content for part in written) % 2**64
    doc = cells_document(draft, new.grid, coords, new.encoding, {"content": f"{content:016x}"})
    backend = connect(new.spec)
    (now,) = fetch(backend, [Get(_key(new))])
    if now is None or bytes(now) != begun:
        raise StoreError(
            f"another write of the attribute {new.name!r} began meanwhile; this one is given up", where=backend.url
        )
    if new.level == 0:  # a declaration, not proof of presence: first, so that a write that fails here is run again
        tree = MetaTree(new.spec)
        root = tree.read_root()
        told = with_spec(root.doc, draft, new.beside)
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
    """Values of a block as they are stored: with codes, or what stands for missing."""
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

TEXT = "UTO"  # kinds of dtypes whose values go through a dictionary


def add_attribute(view: LevelView, name: str, values: Any, rule: Rule | None = None) -> Any:
    """Delayed number of the chunks of a level that were given values of a new attribute.

    Raises
    ------
    SelectionError
        If the level is a selection, has such an attribute, or the values are not aligned with its vertices, or cannot
        be joined by the rule.
    FormatError
        If the store is only read.
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
    node, root = data.tree.node(data.vertices.spec.path), opened.tree.node("")
    assert node is not None
    assert root is not None
    coords = data.vertices.chunks.coords
    counts = view.sizes if view.sizes is not None else read_row_counts(data, None)
    array = _aligned(values, counts)
    masked = isinstance(array._meta, np.ma.MaskedArray) and array.dtype.kind in "iub"
    text = array.dtype.kind in TEXT or (masked and array.dtype.kind == "b")
    if not (text and array.ndim == 1) and not is_number(array.dtype) and not is_time(array.dtype):
        raise SelectionError(f"values must be numbers, truth values, times or one text each, found {array.dtype}")
    if rule is not None:
        check_rule(rule, array.dtype, "aggregate", coded=text or masked)
    grid, encoding = array_form(node)
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
    shard = None
    if encoding.shard_shape is not None and len(coords):
        index = (coords - np.asarray(grid.origin)) // np.asarray(encoding.shard_shape)
        shard = np.unique(index, axis=0, return_inverse=True)[1].reshape(-1)
    begun = delayed(begin_attribute, pure=False)(new, new_write_id())
    write = delayed(write_values, pure=False)
    written = [
        write(new, coords[run], counts[run], [blocks[i] for i in run.tolist()], dictionary, begun)
        for run in chunk_runs(view, [("values", data.vertices)], shard)
    ]
    return delayed(finish_attribute, pure=False)(new, written, dictionary, begun)


def _aligned(values: Any, counts: IntArray) -> da.Array:
    """Values with a block a chunk."""
    array = values if isinstance(values, da.Array) else da.from_array(np.asanyarray(values), chunks=-1)
    if array.ndim not in (1, 2):
        raise SelectionError(f"values must be (N,) or (N, C), found {array.ndim} dimensions")
    if any(np.isnan(size) for size in array.chunks[0]):
        if array.numblocks[0] != len(counts):
            raise SelectionError(
                f"values of unknown chunk sizes must have a block for each of the {len(counts)} chunks, found "
                f"{array.numblocks[0]}; use level.compute_chunk_sizes()"
            )
        whole: da.Array = array if array.ndim == 1 else array.rechunk({1: -1})
        return whole
    if array.shape[0] != counts.sum():
        raise SelectionError(f"values have {array.shape[0]} rows, but the level has {int(counts.sum())} vertices")
    if not len(counts):
        return array
    chunks = (tuple(counts.tolist()), *((edge,) for edge in array.shape[1:]))
    cut: da.Array = array.rechunk(chunks)
    return cut
