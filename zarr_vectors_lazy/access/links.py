"""What tasks run to turn link records into rows of a level."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zarr_vectors_lazy.access.level import Source
from zarr_vectors_lazy.access.read import placed, read_attribute, read_fragments, read_links
from zarr_vectors_lazy.access.tables import Parents
from zarr_vectors_lazy.errors import CorruptChunkError, FormatError
from zarr_vectors_lazy.kernels.edges import crossing, implied_parents
from zarr_vectors_lazy.kernels.rows import Kept
from zarr_vectors_lazy.model.arrays import CellSpec
from zarr_vectors_lazy.model.chunks import dotted
from zarr_vectors_lazy.model.links import LinkCoding
from zarr_vectors_lazy.model.objects import Fragments
from zarr_vectors_lazy.types import BoolArray, IntArray, Raw

GARBLED = "zarr-vectors 0.2.0 garbled the links of objects that interleave (spec 0.7, 9.1)"
Span = tuple[int, int]
"""First row of a chunk among the level's rows, and the first of the next chunk."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LinkCell:
    """One cell of link records.

    Parameters
    ----------
    spec, coding
        How it is read.
    coord
        Its chunk.
    ends
        For each slot the number of its chunk among those of the level, -1 where the level has no such chunk.
    """

    spec: CellSpec
    coding: LinkCoding
    coord: tuple[int, ...]
    ends: tuple[int, ...]


def number_rows(counts: Sequence[int | Kept]) -> IntArray:
    """(n + 1,) int64: rows of chunk i are ``[i]:[i + 1]`` of the level's rows."""
    sizes = np.fromiter((count if isinstance(count, int) else len(count) for count in counts), np.int64, len(counts))
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def resolve_links(
    source: Source,
    cell: LinkCell,
    raw: Raw,
    spans: Sequence[Span | None],
    kept: Sequence[Kept | None],
) -> tuple[IntArray, BoolArray]:
    """Rows of the endpoints of a cell's records, and which records have all of them selected.

    Parameters
    ----------
    spans
        For each slot the span of its chunk; None where the level has no such chunk.
    kept
        For each slot the selected rows of its chunk; None for all.

    Returns
    -------
    (M, L) int64 rows and (M,) bool.

    Raises
    ------
    CorruptChunkError
        If a record names a chunk or a row that is not there.
    """
    records = read_links(source, cell.spec, cell.coord, raw, cell.coding)
    slots, rows = records[:, 0], records[:, 1]
    out = np.empty(rows.shape, np.int64)
    valid = np.ones(rows.shape, np.bool_)
    for slot, (span, choice) in enumerate(zip(spans, kept, strict=True)):
        here = slots == slot
        named = rows[here]
        if not len(named):
            continue
        if span is None:
            raise _dangling(source, cell, "names a chunk that the level does not list")
        total = span[1] - span[0] if choice is None else choice.total
        if named.min() < 0 or named.max() >= total:
            raise _dangling(source, cell, f"names row {int(named.max())} of a chunk that has {total}")
        at = named if choice is None else choice.renumber(named)
        out[here] = at + span[0]
        valid[here] = at >= 0
    return out, np.asarray(valid.all(axis=1))


def _dangling(source: Source, cell: LinkCell, reason: str) -> CorruptChunkError:
    return CorruptChunkError(
        f"a link {reason}", level=source.level, array=cell.spec.path, chunk=dotted(cell.coord), url=source.spec.url
    )


def spans_of(starts: IntArray | Sequence[Span | None], ends: Sequence[int]) -> list[Span | None]:
    """Spans of chunks: looked up in row numbers that the graph computed, or known beforehand."""
    if not isinstance(starts, np.ndarray):
        return list(starts)
    return [None if end < 0 else (int(starts[end]), int(starts[end + 1])) for end in ends]


def link_rows(
    source: Source,
    cell: LinkCell,
    raw: Raw,
    here: IntArray | Sequence[Span | None],
    there: IntArray | Sequence[Span | None] | None,
    kept: Sequence[Kept | None],
) -> tuple[IntArray, BoolArray]:
    """Records of one cell as rows; endpoints 1.. lie on this level, or on another one where ``there`` numbers it."""
    if there is None:
        spans = spans_of(here, cell.ends)
    else:
        spans = [*spans_of(here, cell.ends[:1])[:1], *spans_of(there, (-1, *cell.ends[1:]))[1:]]
    return resolve_links(source, cell, raw, spans, kept)


def selected_links(resolved: tuple[IntArray, BoolArray]) -> IntArray:
    """(m, L) rows of the records whose ends are all selected."""
    rows, valid = resolved
    return rows if valid.all() else rows[valid]


def link_values(
    source: Source,
    spec: CellSpec | None,
    coord: tuple[int, ...],
    raw: Raw,
    row_shape: tuple[int, ...],
    dtype: np.dtype[Any],
    resolved: tuple[IntArray, BoolArray],
) -> np.ndarray[Any, Any]:
    """Values of one cell's records, aligned with `selected_links`; NaN where none were stored (``spec`` None)."""
    _, valid = resolved
    if spec is None:
        return np.full((int(valid.sum()), *row_shape), np.nan, dtype)
    values = read_attribute(source, spec, coord, raw, row_shape, None)
    if len(values) != len(valid):
        raise FormatError(
            f"chunk {dotted(coord)!r} of {spec.path!r} has {len(values)} values for {len(valid)} links",
            where=source.spec.url,
        )
    return values.astype(dtype, copy=False)[valid]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TreeChunk:
    """One chunk of a skeleton.

    Parameters
    ----------
    chunk
        Its number among those of the level.
    coord
        Its coordinate.
    fragments
        How its fragment index is read.
    cells
        The cells that may hold records of its vertices, in canonical order.
    whole
        Whether the whole level is read: then every end must be there.
    parted
        Whether records inside the chunk stay inside a fragment, and each vertex has one parent.
    """

    chunk: int
    coord: tuple[int, ...]
    fragments: CellSpec
    cells: tuple[LinkCell, ...]
    whole: bool
    parted: bool = False


def tree_edges(
    source: Source,
    tree: TreeChunk,
    raw_fragments: Raw,
    spans: dict[int, Span] | IntArray,
    raws: Sequence[Raw],
    kept: dict[int, Kept],
    tabled: Parents | None = None,
) -> IntArray:
    """[child, parent] rows of the vertices of one chunk, by child (spec 0.9, 10, "Skeleton"; spec 0.7, 7.5).

    Parameters
    ----------
    spans
        Spans by chunk number, or the row numbers of all chunks.
    raws
        Encoded link cells, in the order of ``tree.cells``.
    kept
        Selected rows by chunk number, where not all are.
    tabled
        Stored parents that a table names.
    """

    def span(chunk: int) -> Span:
        return (int(spans[chunk]), int(spans[chunk + 1])) if isinstance(spans, np.ndarray) else spans[chunk]

    def total(chunk: int) -> int:
        first, last = span(chunk)
        return kept[chunk].total if chunk in kept else last - first

    def number(chunk: int, rows: IntArray) -> IntArray:
        at = kept[chunk].renumber(rows) if chunk in kept else rows
        return np.where(at >= 0, at + span(chunk)[0], -1)

    here, n_rows = tree.chunk, total(tree.chunk)
    index = read_fragments(source, tree.fragments, tree.coord, raw_fragments)
    with placed(source, tree.fragments, tree.coord):
        index.check(n_rows)
    local = implied_parents(index, n_rows)
    parent = np.full(n_rows, -1, np.int64)
    parent[local >= 0] = number(here, local[local >= 0])
    stored: list[tuple[LinkCell | None, int, IntArray, IntArray]] = []
    for cell, raw in zip(tree.cells, raws, strict=True):
        records = read_links(source, cell.spec, cell.coord, raw, cell.coding)
        ends = np.asarray(cell.ends)
        mine = ends[records[:, 0, 0]] == here
        children, slots, rows = records[mine, 1, 0], records[mine, 0, 1], records[mine, 1, 1]
        for slot, chunk in enumerate(cell.ends):
            of_slot = slots == slot
            if not of_slot.any():
                continue
            if chunk < 0 and tree.whole:
                raise _dangling(source, cell, "names a chunk that the level does not list")
            named = rows[of_slot]
            if children[of_slot].max() >= n_rows or (chunk >= 0 and named.max() >= total(chunk)) or named.min() < 0:
                raise _dangling(source, cell, f"names row {int(max(named.max(), children.max()))} of a shorter chunk")
            stored.append((cell, chunk, children[of_slot], named))
            parent[children[of_slot]] = number(chunk, named) if chunk >= 0 else -1
    if tabled is not None and here in tabled:
        children, parents = tabled[here]
        parent[children] = parents
        stored.append((None, -1, children, parents))
    _check_parted(source, tree, index, n_rows, stored if tree.parted else [])
    child = number(here, np.arange(n_rows))
    found = (parent >= 0) & (child >= 0)
    return np.stack([child[found], parent[found]], axis=1)


def _check_parted(
    source: Source,
    tree: TreeChunk,
    index: Fragments,
    n_rows: int,
    stored: Sequence[tuple[LinkCell | None, int, IntArray, IntArray]],
) -> None:
    """Raise if a record leaves a fragment inside the chunk, or two give a vertex a parent.

    Parameters
    ----------
    stored
        By cell of records and chunk of the parents: rows of children and parents.
    """
    if not stored:
        return
    for cell, chunk, children, parents in stored:
        if cell is not None and chunk == tree.chunk and crossing(index, n_rows, children, parents).any():
            raise _dangling(source, cell, f"joins two objects of a chunk: {GARBLED}")
    rows, counts = np.unique(np.concatenate([children for _, _, children, _ in stored]), return_counts=True)
    if (counts > 1).any():
        raise CorruptChunkError(
            f"links give row {int(rows[counts > 1][0])} two parents: {GARBLED}",
            level=source.level,
            array=tree.fragments.path,
            chunk=dotted(tree.coord),
            url=source.spec.url,
        )
