"""Rows of chunks: which are chosen, their values, and the blocks that they form."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np

from zarr_vectors_lazy.errors import CorruptChunkError, FormatError, SelectionError, counted
from zarr_vectors_lazy.format.base import check_array
from zarr_vectors_lazy.kernels.rows import Kept, kept_of_mask
from zarr_vectors_lazy.model.arrays import CellArray, CellSpec, float64_holds
from zarr_vectors_lazy.model.levels import ChunkTable, dotted
from zarr_vectors_lazy.model.objects import ObjectIndex
from zarr_vectors_lazy.plan.selection import Area, Condition, Picks, Placement
from zarr_vectors_lazy.read.cells import (
    count_cells,
    error_context,
    read_attribute,
    read_categories,
    read_fragments,
    read_row_count,
    read_row_run,
    read_text,
    read_vertices,
    refuse_floats,
)
from zarr_vectors_lazy.read.level import LevelData, Source
from zarr_vectors_lazy.read.objects import read_ids, read_manifests, rows_of_ids
from zarr_vectors_lazy.requests import ListSizes
from zarr_vectors_lazy.storage.fetch import fetch
from zarr_vectors_lazy.types import Array, BoolArray, ChunkCoords, IntArray, Raw, Vertices

# The tasks that choose rows: masks of boxes, objects and conditions.


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chooser:
    """How rows of the chunks of one selection are chosen; shared by its tasks.

    Parameters
    ----------
    source
        The level.
    vertices, fragments
        How their cells are read; fragments only if rows are chosen by object.
    regions
        Boxes in which rows must lie.
    conditions
        Conditions on attributes.
    placement
        Where the vertices of a chunk must lie.
    """

    source: Source
    vertices: CellSpec
    fragments: CellSpec | None
    regions: tuple[Area, ...]
    conditions: tuple[Condition, ...]
    placement: Placement

    def of(self, coord: tuple[int, ...]) -> "Chooser":
        """Chooser for one chunk, without what it picks in others."""
        if not any(isinstance(condition.test, Picks) for condition in self.conditions):
            return self
        own = (
            replace(condition, test=condition.test.of(coord)) if isinstance(condition.test, Picks) else condition
            for condition in self.conditions
        )
        return replace(self, conditions=tuple(own))


Owned = Mapping[tuple[int, ...], IntArray]
"""Fragments of the selected objects, by chunk coordinate."""


def choose_rows(
    chooser: Chooser,
    coord: tuple[int, ...],
    count: int | None,
    vertices: Raw,
    head: Raw,
    fragments: Raw,
    owned: Owned | None,
    values: Sequence[Array],
    masked: bool,
) -> Kept:
    """Choose the rows of one chunk that meet a selection.

    Parameters
    ----------
    count
        Rows that the metadata promise, or None.
    vertices, fragments
        Encoded cells; vertices only if a box cuts the chunk, fragments only if objects matter.
    head
        Head of the positions' cell, if the count is neither promised nor known from vertices or values.
    owned
        Fragments of the selected objects, or None if objects do not matter.
    values
        Attribute values of the chunk, in the order of the names of the conditions.
    masked
        Whether the box cuts this chunk.
    """
    if masked and chooser.regions:
        positions = read_vertices(chooser.source, chooser.vertices, coord, vertices, count)
        check_placement(chooser.source, chooser.vertices, coord, positions, chooser.placement)
        mask = np.logical_and.reduce([region.rows(positions) for region in chooser.regions])
    elif count is None and len(values):
        mask = np.ones(len(values[0]), np.bool_)
    elif count is None:
        mask = np.ones(read_row_count(chooser.source, chooser.vertices, coord, head), np.bool_)
    else:
        mask = np.ones(count, np.bool_)
    count = len(mask)
    if owned is not None and chooser.fragments is not None:
        index = read_fragments(chooser.source, chooser.fragments, coord, fragments)
        mine = np.zeros(count, np.bool_)
        named = owned.get(coord)
        if named is not None:
            with error_context(chooser.source, chooser.fragments, coord):
                index.check(count)
                mine[index.rows(named)] = True
        mask &= mine
    at = iter(values)
    for condition in chooser.conditions:
        mask &= _condition_mask(condition, [next(at) for _ in condition.names], count)
    return kept_of_mask(mask)


def choose_alone(*args: Any) -> list[Kept]:
    """Task of a block of one chunk: its chosen rows (see `choose_rows`), in a list as of several chunks."""
    return [choose_rows(*args)]


def check_placement(
    source: Source, spec: CellSpec, coord: tuple[int, ...], vertices: Vertices, placement: Placement
) -> None:
    """Raise FormatError if a vertex lies outside its chunk, because boxes could not be answered from the grid."""
    if placement.outside(vertices, np.asarray(coord, np.int64)).any():
        raise FormatError(
            f"chunk {dotted(coord)!r} of {spec.path!r} holds vertices that lie outside it for chunk shape "
            f"{placement.chunk_shape.tolist()}: boxes cannot be answered from this grid",
            where=source.spec.url,
        )


def find_hits(
    source: Source, fragments: CellSpec, coord: tuple[int, ...], raw: Raw, kept: Kept | None
) -> tuple[tuple[int, ...], IntArray]:
    """Fragments of a chunk that have a selected row (or any row if ``kept`` is None), with the chunk's coordinate."""
    index = read_fragments(source, fragments, coord, raw)
    every = np.arange(len(index))
    if kept is None or kept.rows is None:
        return coord, every[index.counts > 0]
    index.check(kept.total)
    selected = kept.renumber(index.rows(every)) >= 0
    return coord, np.unique(np.repeat(every, index.counts)[selected])


def find_owned(
    source: Source,
    index: ObjectIndex,
    ids: IntArray | None,
    hits: Sequence[Sequence[Sequence[tuple[tuple[int, ...], IntArray]]]],
) -> Owned:
    """Fragments of the selected objects by chunk.

    Parameters
    ----------
    ids
        Objects; None for those of the hits.
    hits
        For each box that objects must touch, the fragments hit, by block and chunk.
    """
    rows = np.arange(index.count) if ids is None else rows_of_ids(read_ids(source, index), ids)
    manifests = read_manifests(source, index, None if ids is None else rows)
    for of_box in hits:
        keep = np.flatnonzero(
            _touching(
                manifests.chunks, manifests.fragments, manifests.owners, len(manifests), [*chain.from_iterable(of_box)]
            )
        )
        manifests = manifests.take(keep)
    if not len(manifests.fragments):
        return {}
    order = np.lexsort(manifests.chunks.T[::-1])
    coords = manifests.chunks[order]
    starts = np.flatnonzero(np.append(True, (coords[1:] != coords[:-1]).any(axis=1)))
    parts = np.split(manifests.fragments[order], starts[1:])
    return {tuple(coords[at].tolist()): np.unique(part) for at, part in zip(starts.tolist(), parts, strict=True)}


def _touching(
    chunks: IntArray, fragments: IntArray, owners: IntArray, n: int, hits: Sequence[tuple[tuple[int, ...], IntArray]]
) -> BoolArray:
    """(n,) whether an object has a fragment that was hit."""
    touching = np.zeros(n, np.bool_)
    hits = [hit for hit in hits if len(hit[1])]
    if not hits or not len(chunks):
        return touching
    table = ChunkTable(np.asarray([coord for coord, _ in hits], np.int64))
    wide = max(int(fragments.max()), *(int(named.max()) for _, named in hits)) + 1
    slots = np.concatenate([table.find(np.asarray([coord]))[0] * wide + named for coord, named in hits])
    at = table.find(chunks)
    touching[owners[(at >= 0) & np.isin(at * wide + fragments, slots)]] = True
    return touching


def _condition_mask(condition: Condition, values: list[Array], count: int) -> BoolArray:
    if isinstance(condition.test, Picks):
        return condition.test(count)
    mask = np.asarray(condition.test(*values))
    if mask.shape != (count,) or mask.dtype != np.bool_:
        raise SelectionError(
            f"where= must give a mask of {counted(count, 'boolean')}, one for each vertex; it gave "
            f"{mask.dtype} of shape {mask.shape}"
        )
    return mask


# The tasks that read attribute values of one chunk.


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Column:
    """How one attribute is read; shared by its tasks.

    Parameters
    ----------
    source
        The level.
    spec
        How cells are read; None for the attribute by which chunks are cut.
    vertices
        How the cells of the positions are read, which show how many rows a chunk without values has.
    row_shape
        Shape of one row.
    dtype
        Dtype of the returned values.
    decode
        Whether dictionary codes become values.
    constants
        Values by first chunk component, for the attribute by which chunks are cut.
    fill
        The code in chunks without values; None for NaN.
    loose
        Whether the width of text varies between cells (spec 0.9, 14 no. 14), so that only their rows show it.
    checked
        Whether cells must have a row for each vertex, because their dtype was not stated by the store.
    """

    source: Source
    spec: CellSpec | None
    vertices: CellSpec
    row_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    decode: bool
    constants: Array | None = None
    fill: int | None = None
    loose: bool = False
    checked: bool = False

    @property
    def sized(self) -> bool:
        """Whether a cell is read with the number of rows of its chunk."""
        return self.loose or self.checked


def column_values(
    column: Column, coord: tuple[int, ...], count: int | None, listed: bool, raw: Raw, head: Raw
) -> Array:
    """Values of all rows of one chunk; (N, *row_shape).

    Parameters
    ----------
    count
        Rows that the metadata promise, or None.
    listed
        Whether the chunk has a cell; if not, all values are missing, or are the chunk's constant.
    raw
        The encoded cell.
    head
        Head of the positions' cell, where the number of rows is needed and not promised.
    """
    if column.spec is None or not listed or column.sized:
        n = count if count is not None else read_row_count(column.source, column.vertices, coord, head)
        if column.spec is None or not listed:
            return _absent(column, coord, n)
        if column.loose:
            values = read_text(column.source, column.spec, coord, raw, (n, *column.row_shape))
            return values.astype(np.promote_types(values.dtype, column.dtype), copy=False)
        count = n
    values = read_attribute(column.source, column.spec, coord, raw, column.row_shape, count)
    if column.decode and column.spec.dictionary is not None:
        values = read_categories(column.source, column.spec, coord, values)
    if column.dtype.kind == "f" and not float64_holds(values):
        refuse_floats(column.source, column.spec)
    return values.astype(column.dtype, copy=False)


def _absent(column: Column, coord: tuple[int, ...], n: int) -> Array:
    if column.constants is not None:
        return np.full(n, column.constants[coord[0]], column.dtype)
    with error_context(column.source, column.spec or column.vertices, coord):
        check_array(n * math.prod(column.row_shape) * column.dtype.itemsize, f"{counted(n, 'missing value')}")
    shape = (n, *column.row_shape)
    if column.fill is not None:
        return np.full(shape, column.fill, column.dtype)
    return np.full(shape, missing_value(column.dtype), nullable(column.dtype))


def column_run(
    column: Column, coords: ChunkCoords, starts: IntArray, present: Sequence[bool], raws: Sequence[Raw]
) -> Array:
    """Values of all rows of several chunks, one after another; (N, *row_shape).

    Parameters
    ----------
    coords, starts
        (c, K) the chunks, and (c + 1,) where each one's rows begin.
    present, raws
        Which chunks have a cell, and these cells, encoded.
    """
    counts = np.diff(starts)
    spec = column.spec
    plain = spec is not None and spec.dtype == column.dtype and spec.dictionary is None and not column.loose
    if spec is not None and plain and all(present):
        try:
            values, _ = read_row_run(column.source, spec, coords, raws, column.row_shape, counts)
        except FormatError:  # the error that follows says which chunk, and why
            pass
        else:
            return values
    cells = iter(raws)
    parts = [
        column_values(column, tuple(coord), count, listed, next(cells) if listed else None, None)
        for coord, count, listed in zip(coords.tolist(), counts.tolist(), present, strict=True)
    ]
    if not parts:
        return np.empty((0, *column.row_shape), column.dtype)
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def nullable(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Dtype that can also hold missing values."""
    return np.dtype(np.float64) if dtype.kind in "iub" else dtype


def missing_value(dtype: np.dtype[Any]) -> Any:
    """What stands for a missing value in an array of a `nullable` dtype: NaN, NaT or ``""``."""
    return "" if dtype.kind == "U" else np.array("NaT", dtype)[()] if dtype.kind in "mM" else np.nan


# The tasks that make the rows of one Dask block, from one chunk or several neighbours.

_ALL: tuple[None, ...] = (None,)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Block:
    """Neighbouring chunks.

    Parameters
    ----------
    coords
        (c, K) their coordinates.
    counts
        Rows that the metadata promise for each, or None.
    """

    coords: ChunkCoords
    counts: tuple[int, ...] | None

    def __iter__(self) -> Iterator[tuple[tuple[int, ...], int | None]]:
        return zip(map(tuple, self.coords.tolist()), self.counts or (None,) * len(self.coords), strict=True)


def vertex_block(
    source: Source, spec: CellSpec, block: Block, raws: Raw | Sequence[Raw], kept: Sequence[Kept | None]
) -> Vertices:
    """Selected positions of the chunks of a block; (n, D).

    Parameters
    ----------
    raws
        Encoded cell of the single chunk, or cells of several.
    kept
        Chosen rows of each chunk; empty if all are selected.
    """
    if not kept and len(block.coords) > 1:
        counts = None if block.counts is None else np.asarray(block.counts, np.int64)
        return read_row_run(source, spec, block.coords, _listed(raws), spec.row_shape or (), counts)[0]
    return _joined(
        [
            _taken(read_vertices(source, spec, coord, raw, count), choice, source, spec, coord)
            for (coord, count), raw, choice in zip(block, _listed(raws), kept or _ALL * len(block.coords), strict=True)
        ]
    )


def value_block(
    column: Column,
    block: Block,
    present: Sequence[bool],
    raws: Raw | Sequence[Raw],
    heads: Sequence[Raw],
    kept: Sequence[Kept | None],
) -> Array:
    """Values of an attribute for the selected rows of the chunks of a block.

    Parameters
    ----------
    present
        Whether each chunk has a cell of values.
    raws
        Encoded cells; None if there is none.
    heads
        Heads of the positions' cells, if numbers of rows are needed and not promised; otherwise empty.
    kept
        Chosen rows of each chunk; empty if all are selected.
    """
    all_of = _ALL * len(block.coords)
    return _joined(
        [
            _taken(column_values(column, coord, count, listed, raw, head), choice, column.source, column.spec, coord)
            for (coord, count), listed, raw, head, choice in zip(
                block, present, _listed(raws), heads or all_of, kept or all_of, strict=True
            )
        ]
    )


def _listed(raws: Raw | Sequence[Raw]) -> Sequence[Raw]:
    return raws if isinstance(raws, list) else [raws]  # type: ignore[list-item]


def _taken(values: Array, kept: Kept | None, source: Source, spec: CellSpec | None, coord: tuple[int, ...]) -> Array:
    if kept is None:
        return values
    if spec is None:
        return kept.take(values)
    with error_context(source, spec, coord):
        return kept.take(values)


def _joined(parts: list[Array]) -> Array:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


# How many rows chunks have, read as cheaply as the store allows.

LISTING_SHARE = 20  # a listing gives 1000 objects per request: worth it for one chunk in this many


def read_row_counts(data: LevelData, rows: IntArray | None) -> IntArray:
    """Rows of chunks of a level, before any selection.

    Sizes come from one listing if cells are uncompressed and enough of them are needed, otherwise from the head of each
    cell, all concurrently.

    Parameters
    ----------
    rows
        Rows of the level's chunk table, or None for all.

    Returns
    -------
    (n,) int64.

    Raises
    ------
    CorruptChunkError
        If a listed chunk is missing or undecodable.
    """
    array = data.vertices
    at = np.arange(len(array.chunks)) if rows is None else rows
    if array.counts is not None:
        return array.counts[at]
    spec, coords = array.spec, array.chunks.coords[at]
    names = spec.layout.plain_keys(coords)
    if names is not None and data.tree.backend.listable and len(at) * LISTING_SHARE >= len(array.chunks):
        (sizes,) = fetch(data.tree.backend, [ListSizes(spec.path)])
        counts = [_rows(data, sizes.get(name), coord) for name, coord in zip(names, coords, strict=True)]
        return np.asarray(counts, np.int64)
    return count_cells(data.source, array, at)


def _rows(data: LevelData, nbytes: int | None, coord: IntArray) -> int:
    spec = data.vertices.spec
    row = spec.dtype.itemsize * math.prod(spec.row_shape or ())
    payload = None if nbytes is None else spec.layout.plain_nbytes(nbytes)
    if payload is None or payload < 0 or payload % row:
        reason = (
            "it is listed, but there is no such object"
            if nbytes is None
            else f"{nbytes} bytes are not a whole number of rows"
        )
        raise CorruptChunkError(reason, level=data.meta.index, array=spec.path, chunk=dotted(coord), url=data.tree.url)
    return payload // row


def read_text_width(data: LevelData, array: CellArray, row_shape: tuple[int, ...]) -> int:
    """Characters of the widest text of an attribute whose width varies between cells (spec 0.9, 14 no. 14)."""
    at = data.vertices.chunks.find(array.chunks.coords)
    rows = read_row_counts(data, at) * int(np.prod(row_shape, dtype=np.int64))
    plain = replace(array, spec=replace(array.spec, dtype=np.dtype("<U1"), row_shape=()))
    counts = count_cells(data.source, plain, np.arange(len(at)))
    return int((counts[rows > 0] // rows[rows > 0]).max(initial=0)) if (rows > 0).any() else 1
