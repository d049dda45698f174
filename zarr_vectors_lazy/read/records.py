"""Link records as rows of a level, many cells at a time."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

import numpy as np

from zarr_vectors_lazy.errors import CorruptChunkError, FormatError
from zarr_vectors_lazy.kernels.rows import Chosen, Kept, joined, row_table
from zarr_vectors_lazy.kernels.trees import crossing, implied_parents
from zarr_vectors_lazy.model.arrays import CellSpec, DenseArray, LinkCoding
from zarr_vectors_lazy.model.levels import ChunkTable, dotted
from zarr_vectors_lazy.model.objects import FragmentRun
from zarr_vectors_lazy.read.cells import read_fragment_run, read_link_run, read_row_run
from zarr_vectors_lazy.read.level import Source
from zarr_vectors_lazy.read.objects import read_dense
from zarr_vectors_lazy.types import Array, BoolArray, ChunkCoords, IntArray, Raw

# The tasks that turn a table of links, whose records name their chunks, into rows of a level (spec 0.7, 4.5).

Parents = Mapping[int, tuple[IntArray, IntArray, IntArray]]
"""By chunk: rows of it that have a stored parent, the parents' rows in the view, -1 where they are not in it, and the
records of the table that say so."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """A table of links and the chunks that its records may lead to.

    Parameters
    ----------
    source
        The level.
    records
        (R, L, K + 1) int64.
    here
        (n, K) chunks of the view, ascending.
    there
        (m, K) chunks of the level of the other endpoints, if that is another one.
    whole
        Whether all chunks of the level are in the view.
    """

    source: Source
    records: DenseArray
    here: ChunkCoords
    there: ChunkCoords | None
    whole: bool


def table_rows(
    table: Table, here: IntArray, there: IntArray | None, kept: Mapping[int, Kept]
) -> tuple[IntArray, BoolArray, IntArray]:
    """Rows of the records whose ends are all selected, which records these are, and how many there are.

    Parameters
    ----------
    here, there
        (n + 1,) row numbers of the chunks of the view, and of those of the other level.
    kept
        Selected rows by chunk of the view, if not all are.

    Raises
    ------
    FormatError
        If a record names a chunk or a row that does not exist.
    """
    records = read_dense(table.source, table.records)
    columns = []
    for end in range(records.shape[1]):
        if end and table.there is not None and there is not None:
            columns.append(_number(table, records[:, end], table.there, there, {}, whole=True)[1])
        else:
            columns.append(_number(table, records[:, end], table.here, here, kept, whole=table.whole)[1])
    rows = np.stack(columns, axis=1)
    valid = np.asarray((rows >= 0).all(axis=1))
    return rows[valid], valid, np.asarray([len(rows)], np.int64)


def table_parents(table: Table, starts: IntArray, kept: Mapping[int, Kept]) -> Parents:
    """Records of a skeleton, (child, parent), by the chunk of the child; parameters and errors as for `table_rows`."""
    records = read_dense(table.source, table.records)
    chunk, _ = _number(table, records[:, 0], table.here, starts, kept, whole=table.whole)
    _, parents = _number(table, records[:, 1], table.here, starts, kept, whole=table.whole)
    order = np.argsort(chunk, kind="stable")
    order = order[chunk[order] >= 0]
    named, firsts = np.unique(chunk[order], return_index=True)
    parts = zip(named.tolist(), np.split(order, firsts[1:]), strict=True) if len(named) else ()
    return {number: (records[part, 0, -1], parents[part], part) for number, part in parts}


def table_values(
    source: Source, values: DenseArray, dtype: np.dtype[Any], resolved: tuple[IntArray, BoolArray, IntArray]
) -> Array:
    """Values of a table's records whose ends are all selected."""
    return read_dense(source, values).astype(dtype, copy=False)[resolved[1]]


def _number(
    table: Table, named: IntArray, coords: ChunkCoords, starts: IntArray, kept: Mapping[int, Kept], *, whole: bool
) -> tuple[IntArray, IntArray]:
    """Chunk and row in the view of one endpoint of each record; -1 if it is not in the view."""
    chunk, chosen = ChunkTable(coords).find(named[:, :-1]), Chosen(kept)
    rows = named[:, -1]
    if whole:
        check_listed(table.source, table.records, named[:, :-1], chunk)
    totals = chosen.totals(chunk, np.append(np.diff(starts), 0)[chunk])  # the last is for chunk -1
    wrong = (chunk >= 0) & ((rows < 0) | (rows >= totals))
    if wrong.any():
        at = int(np.argmax(wrong))
        where = f"row {int(rows[at])} of chunk {dotted(named[at, :-1])!r}, which has {int(totals[at])}"
        raise _dangling_record(table.source, table.records, f"refers to {where}")
    rows = chosen.renumber(chosen.places(chunk), rows)
    return chunk, np.where((chunk >= 0) & (rows >= 0), starts[chunk] + rows, -1)


def check_listed(source: Source, records: DenseArray, named: ChunkCoords, at: IntArray) -> None:
    """Raise FormatError if a chunk that records name, (R, K), does not exist, given as -1 in ``at`` (R,)."""
    if (at < 0).any():
        reason = f"refers to chunk {dotted(named[at < 0][0].tolist())!r}, which the level does not have"
        raise _dangling_record(source, records, reason)


def _dangling_record(source: Source, records: DenseArray, reason: str) -> FormatError:
    return FormatError(f"a link of {records.path!r} {reason}", where=source.spec.url)


# The tasks that turn link records into rows of a level, many cells at a time.

UNLISTED = "refers to a chunk that the level does not list"
GARBLED = "zarr-vectors 0.2.0 garbled the links of objects that interleave (spec 0.7, 9.1)"
Resolved = tuple[IntArray, BoolArray, IntArray]
"""(S, L) rows of the records of which all ends are selected, (M,) which records these are, and records of each cell."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LinkCells:
    """Cells of link records, grouped by segment.

    Parameters
    ----------
    specs, codings
        How the cells of each segment are read.
    segments
        (m,) segment of each cell.
    coords
        (m, K) its chunk.
    ends
        (m, L) for each slot the number of its chunk among those of the level, -1 if the level has no such chunk.
    """

    specs: tuple[CellSpec, ...]
    codings: tuple[LinkCoding, ...]
    segments: IntArray
    coords: ChunkCoords
    ends: IntArray

    def take(self, rows: IntArray, ends: IntArray | None = None) -> "LinkCells":
        """Some of them, with other ``ends`` if these are given."""
        ends = self.ends[rows] if ends is None else ends
        return LinkCells(
            specs=self.specs, codings=self.codings, segments=self.segments[rows], coords=self.coords[rows], ends=ends
        )

    def runs(self) -> Iterator[tuple[int, int, int]]:
        """Segment, first cell and end of the cells of each segment."""
        return runs_of(self.segments)


def runs_of(segments: IntArray) -> Iterator[tuple[int, int, int]]:
    """Segment, first cell and end of each run of cells of one segment."""
    bounds = np.flatnonzero(segments[1:] != segments[:-1]) + 1
    for start, stop in pairwise([0, *bounds.tolist(), len(segments)] if len(segments) else []):
        yield int(segments[start]), start, stop


@dataclass(frozen=True, slots=True, eq=False)
class Records:
    """Link records of several cells, one cell after another.

    Parameters
    ----------
    rows
        (M, L) rows in the chunks of their endpoints.
    counts
        (m,) records of each cell.
    slots
        For runs of cells: their number, and the slot of the cell at which each endpoint lies:
        (M', L), or (1, L) if that is the same for all of them.
    """

    rows: IntArray
    counts: IntArray
    slots: Sequence[tuple[int, IntArray]]

    @property
    def cells(self) -> IntArray:
        """(M,) cell of each record."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    def parts(self, of_slots: IntArray) -> Iterator[tuple[slice, IntArray]]:
        """Rows, with (M', L, ...) what belongs to their endpoints, from what (m, L, ...) belongs to the slots of cells.

        If that is the same for all endpoints, as for one chunk with a mesh of many objects, it is (...).
        """
        cell = row = 0
        for cells, slots in self.slots:
            values, counts = of_slots[cell : cell + cells], self.counts[cell : cell + cells]
            first, row = row, row + int(counts.sum() if cells > 1 else counts[0])
            cell += cells
            if (values == values[0, 0]).all():
                found = values[0, 0]
            elif len(slots) == 1:
                found = np.repeat(values[:, slots[0]], counts, axis=0)
            else:
                at = np.repeat(np.arange(cells) * values.shape[1], counts)
                found = values.reshape(-1, *values.shape[2:]).take(at[:, None] + slots, axis=0)
            yield slice(first, row), found

    def each(self, of_slots: IntArray) -> IntArray:
        """(M, L, ...) what belongs to each endpoint, from what (m, L, ...) belongs to the slots of cells."""
        out = np.empty((*self.rows.shape, *of_slots.shape[2:]), np.int64)
        for rows, values in self.parts(of_slots):
            out[rows] = values
        return out


def number_rows(total: int, apart: IntArray, counts: Sequence[IntArray], chosen: IntArray, kept: Sequence[Kept]) -> Any:
    """(n + 1,) int64: the rows of chunk i are ``[i]:[i + 1]`` of the level's rows.

    Parameters
    ----------
    total
        Number of chunks, n.
    apart, counts
        Chunks whose rows are all selected, and their numbers of rows.
    chosen, kept
        The other chunks, and their chosen rows.
    """
    sizes = np.zeros(total, np.int64)
    sizes[apart] = np.concatenate([np.empty(0, np.int64), *counts])
    sizes[chosen] = np.fromiter(map(len, kept), np.int64, len(kept))
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def span_table(starts: IntArray, sizes: IntArray, chunks: IntArray) -> IntArray:
    """First row and number of rows, (..., 2), of chunks; (0, -1) for chunk -1."""
    out = np.empty((*chunks.shape, 2), np.int64)
    out[..., 0], out[..., 1] = starts[chunks], sizes[chunks]
    out[chunks < 0] = 0, -1
    return out


def spans_of(starts: IntArray, chunks: IntArray) -> IntArray:
    """Task: the same, from the row numbers of all chunks."""
    return span_table(starts, np.append(np.diff(starts), -1), chunks)


def read_records(source: Source, cells: LinkCells, parts: Sequence[Sequence[Raw]]) -> Records:
    """Records of cells, given as encoded ``parts``."""
    raws = parts[0] if len(parts) == 1 else [raw for part in parts for raw in part]
    rows, counts, slots = [], [], []
    for coding, runs in groupby(cells.runs(), lambda run: cells.codings[run[0]]):
        arrays = [(cells.specs[segment], cells.coords[start:stop], raws[start:stop]) for segment, start, stop in runs]
        slot, found, records = read_link_run(source, arrays, coding)
        rows.append(found)
        counts.append(records)
        slots.append((len(records), slot))
    if not rows:
        none = np.empty((0, cells.ends.shape[1]), np.int64)
        return Records(none, none[:, 0], [])
    return Records(rows[0] if len(rows) == 1 else np.concatenate(rows), np.concatenate(counts), slots)


def resolve_links(
    source: Source,
    cells: LinkCells,
    raws: Sequence[Sequence[Raw]],
    here: IntArray,
    there: IntArray | None,
    kept: Mapping[int, Kept],
) -> Resolved:
    """Records of cells as rows; records with an unselected end are left out.

    Parameters
    ----------
    raws
        The encoded cells, in parts.
    here, there
        (m, L, 2) first row and number of rows of the chunk of each slot; the other slots lie on another level if there
        is ``there``.
    kept
        Selected rows by number of a chunk of this level, if not all are.

    Raises
    ------
    CorruptChunkError
        If a record names a chunk or a row that does not exist.
    """
    records = read_records(source, cells, raws)
    mine, spans = cells.ends, here
    if there is not None:
        mine = np.where(np.arange(mine.shape[1]) == 0, mine, -1)  # no rows are chosen on the other level
        spans = np.concatenate([here[:, :1], there[:, 1:]], axis=1)
    totals = Chosen(kept).totals(mine, spans[..., 1]) if kept else spans[..., 1]
    rows = records.rows
    found = rows if kept else np.empty_like(rows)
    about = np.stack([spans[..., 0], np.maximum(totals, 0)], axis=-1) if kept else np.maximum(spans, 0)
    for part, each in records.parts(about):
        named = rows[part].view(np.uint64)  # -1 counts as large there
        if (named >= each[..., 1].astype(np.uint64)).any():
            wrong = rows.view(np.uint64) >= records.each(np.maximum(totals, 0)).view(np.uint64)
            raise _misplaced(source, cells, records, totals, wrong)
        if not kept:
            np.add(rows[part], each[..., 0], out=found[part])
    if not kept:
        return found, np.ones(len(rows), np.bool_), records.counts
    starts = records.each(spans[..., 0])
    # One object has few of a chunk's records, so only those whose first end is selected are examined further.
    chosen = Chosen(kept)
    places = records.each(chosen.places(mine))
    near = np.flatnonzero(chosen.renumber(places[:, 0], rows[:, 0]) >= 0)
    rows = chosen.renumber(places[near], rows[near])
    whole = (rows >= 0).all(axis=1)
    near, rows = near[whole], rows[whole]
    valid = np.zeros(len(places), np.bool_)
    valid[near] = True
    return rows + starts[near], valid, records.counts


def _misplaced(
    source: Source, cells: LinkCells, records: Records, totals: IntArray, wrong: BoolArray
) -> CorruptChunkError:
    """Describe the first record that names a row that does not exist."""
    at, column = np.argwhere(wrong)[0].tolist()
    cell = int(records.cells[at])
    slots = records.each(np.broadcast_to(np.arange(cells.ends.shape[1]), cells.ends.shape))
    slot = int(slots[at, column])
    if totals[cell, slot] < 0:
        return dangling_link(source, cells, cell)
    named = records.rows[(slots == slot) & (records.cells == cell)[:, None]]
    return dangling_link(
        source, cells, cell, f"refers to row {int(named.max())} of a chunk that has {int(totals[cell, slot])}"
    )


def dangling_link(source: Source, cells: LinkCells, cell: int, reason: str = UNLISTED) -> CorruptChunkError:
    """Describe a wrong record of a cell."""
    path, coord = cells.specs[int(cells.segments[cell])].path, cells.coords[cell].tolist()
    return CorruptChunkError(
        f"a link {reason}", level=source.level, array=path, chunk=dotted(coord), url=source.spec.url
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ValueCells:
    """Cells of the values of link records, one for each cell of records.

    Parameters
    ----------
    specs
        How those of each segment are read; None if it has none.
    segments, coords
        (m,) segment and (m, K) chunk of each.
    present
        (m,) whether the cell exists.
    row_shape, dtype
        Shape and dtype of a value.
    fill
        The stored integer that stands for a missing value.
    """

    specs: tuple[CellSpec | None, ...]
    segments: IntArray
    coords: ChunkCoords
    present: BoolArray
    row_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fill: int | None = None


def read_link_values(source: Source, cells: ValueCells, parts: Sequence[Sequence[Raw]], counts: IntArray) -> Array:
    """Values of all records of some cells; (M, *row_shape), NaN or masked if missing.

    Parameters
    ----------
    parts
        The encoded cells that are present, in parts.
    counts
        (m,) records of each cell.

    Raises
    ------
    FormatError
        If a cell does not have a value for each record.
    """
    shape = (int(counts.sum()), *cells.row_shape)
    whole = cells.fill is None and cells.present.all()
    out = np.empty(shape, cells.dtype) if whole else blank(shape, cells.dtype)
    segments, coords, wanted = cells.segments[cells.present], cells.coords[cells.present], counts[cells.present]
    raws, found = [raw for part in parts for raw in part], []
    bounds = [0, *(np.flatnonzero(np.diff(segments)) + 1).tolist(), len(segments)]
    for start, stop in pairwise(bounds if len(segments) else []):
        spec = cells.specs[int(segments[start])]
        assert spec is not None
        values, starts = read_row_run(source, spec, coords[start:stop], raws[start:stop], cells.row_shape)
        wrong = np.flatnonzero(np.diff(starts) != wanted[start:stop])
        if len(wrong):
            at = start + int(wrong[0])
            raise FormatError(
                f"chunk {dotted(coords[at].tolist())!r} of {spec.path!r} has {int(np.diff(starts)[wrong[0]])} values "
                f"for {int(wanted[at])} links",
                where=source.spec.url,
            )
        found.append(values if cells.fill is not None else values.astype(cells.dtype, copy=False))
    if found:
        stored = np.concatenate(found)
        there = np.repeat(cells.present, counts)
        if cells.fill is not None:
            there = there.reshape(-1, *[1] * len(cells.row_shape)) & np.ones(shape, np.bool_)
            there[there] = stored.reshape(-1) != cells.fill
            stored = stored[stored != cells.fill]
        out[there] = stored
    return out


def missing_values(row_shape: tuple[int, ...], dtype: np.dtype[Any], resolved: Resolved) -> Array:
    """Values of records without any, aligned with the rows of `resolve_links`."""
    return blank((int(resolved[1].sum()), *row_shape), dtype)


def blank(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Values that are all missing: NaN, or masked if float64 might not hold others."""
    if dtype.kind in "iu":
        masked: Any = np.ma  # typed from NumPy 2.5 on alone
        found: Array = masked.masked_all(shape, dtype)
        return found
    return np.full(shape, np.nan, dtype)


def link_values(source: Source, cells: ValueCells, raws: Sequence[Sequence[Raw]], resolved: Resolved) -> Array:
    """Values of records, aligned with the rows of `resolve_links`."""
    _, valid, counts = resolved
    return read_link_values(source, cells, raws, counts)[valid]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TreeRun:
    """Neighbouring chunks of a skeleton.

    Parameters
    ----------
    first
        Number of the first chunk among those of the level.
    coords
        (c, K) the chunks.
    fragments
        How their fragment indexes are read.
    cells
        The cells that may hold records of their vertices: own cells, then others', each in canonical order by segment.
    whole
        Whether the whole level is read, so that every end must exist.
    parted
        Whether records inside a chunk stay inside a fragment, and each vertex has one parent.
    """

    first: int
    coords: ChunkCoords
    fragments: CellSpec
    cells: LinkCells
    whole: bool
    parted: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """Edges of some chunks of a skeleton.

    Parameters
    ----------
    edges
        (E, 2) [child, parent] rows of the view, by child.
    records
        (E,) the record of each edge, among those of the run's cells, followed by those of the table; -1 for none.
    counts
        (m,) records of each cell.
    """

    edges: IntArray
    records: IntArray
    counts: IntArray


def tree_edges(
    source: Source,
    tree: TreeRun,
    raw_fragments: Sequence[Raw],
    raws: Sequence[Sequence[Raw]],
    spans: IntArray,
    ends: IntArray,
    kept: Mapping[int, Kept],
    tabled: Parents | None = None,
) -> Tree:
    """Parents of the vertices of some chunks (spec 0.9, 10, "Skeleton"; spec 0.7, 7.5).

    Parameters
    ----------
    raws
        Encoded link cells in the order of ``tree.cells``, in parts.
    spans, ends
        (c, 2) first row and number of rows of each chunk, and (m, L, 2) of the chunk of each cell's slots.
    kept
        Selected rows by chunk number, if not all are.
    tabled
        Parents that a table states.
    """
    chosen, last = Chosen(kept), tree.first + len(tree.coords)
    starts = np.zeros(len(spans) + 1, np.int64)
    sizes = chosen.totals(np.arange(tree.first, last), spans[:, 1]) if kept else spans[:, 1]
    sizes.cumsum(out=starts[1:])
    index = read_fragment_run(source, tree.fragments, tree.coords, raw_fragments, starts)
    table, parent = _implied(index, spans, [kept.get(chunk) for chunk in range(tree.first, last)] if kept else [])
    record = np.full(len(table), -1, np.int64)
    records = read_records(source, tree.cells, raws)
    of_slots = np.concatenate([tree.cells.ends[..., None], ends], axis=-1)
    if kept:
        of_slots[..., 2] = chosen.totals(tree.cells.ends, ends[..., 1])
    each = records.each(of_slots)
    mine = np.flatnonzero((each[:, 0, 0] >= tree.first) & (each[:, 0, 0] < last))
    rows, each = records.rows[mine], each[mine]
    chunks, firsts, sizes = each[..., 0], each[..., 1], each[..., 2]
    wrong = (rows < 0) | (rows >= sizes if tree.whole else (rows >= sizes) & (chunks >= 0))  # of chunk -1 it is -1
    if wrong.any():
        at = int(np.argmax(wrong.any(axis=1)))
        raise _no_row(source, tree, int(records.cells[mine[at]]), rows[at], chunks[at])
    children, inner = starts[chunks[:, 0] - tree.first] + rows[:, 0], rows[:, 1]
    inner = chosen.renumber(records.each(chosen.places(tree.cells.ends))[mine, 1], inner) if kept else inner
    parents = inner + firsts[:, 1]
    parent[children] = parents if tree.whole else np.where((inner >= 0) & (chunks[:, 1] >= 0), parents, -1)
    record[children] = mine
    others = [np.empty(0, np.int64)]
    for chunk in range(tree.first, last):
        if tabled is not None and chunk in tabled:
            of_chunk, stored, numbers = tabled[chunk]
            others.append(starts[chunk - tree.first] + of_chunk)
            parent[others[-1]], record[others[-1]] = stored, len(records.rows) + numbers
    if tree.parted:
        inside = np.flatnonzero(chunks[:, 0] == chunks[:, 1])
        apart = crossing(
            index.fragments, len(table), children[inside], children[inside] + rows[inside, 1] - rows[inside, 0]
        )
        if apart.any():
            cell = int(records.cells[mine[inside[np.argmax(apart)]]])
            raise dangling_link(source, tree.cells, cell, f"joins two objects of a chunk: {GARBLED}")
        _check_single(source, tree, starts, np.concatenate([children, *others]))
    found = np.flatnonzero((parent >= 0) & (table >= 0) if kept else parent >= 0)
    edges = np.empty((len(found), 2), np.int64)
    table.take(found, out=edges[:, 0]), parent.take(found, out=edges[:, 1])
    return Tree(edges, record.take(found), records.counts)


def _implied(index: FragmentRun, spans: IntArray, kept: Sequence[Kept | None]) -> tuple[IntArray, IntArray]:
    """Row in the view of each row of some chunks, and of the parent that its fragment implies; (N,), -1 for none."""
    if not kept and len(spans) == 1:
        first, count = spans[0].tolist()
        return np.arange(first, first + count), implied_parents(index.fragments, count, tiles=index.tiles, first=first)
    parents = implied_parents(index.fragments, int(index.starts[-1]), tiles=index.tiles)
    table = row_table(index.starts, spans[:, 0], kept)
    assert table is not None
    return table, np.where(parents >= 0, table[parents], -1)


def _no_row(source: Source, tree: TreeRun, cell: int, rows: IntArray, chunks: IntArray) -> CorruptChunkError:
    """Describe a record of rows that do not exist."""
    unlisted = (chunks < 0).any() and tree.whole
    reason = UNLISTED if unlisted else f"refers to row {int(rows.max())} of a shorter chunk"
    return dangling_link(source, tree.cells, cell, reason)


def _check_single(source: Source, tree: TreeRun, starts: IntArray, children: IntArray) -> None:
    """Raise an error if two records give a vertex a parent."""
    twice = np.flatnonzero(np.bincount(children, minlength=1) > 1)
    if len(twice):
        chunk = int(np.searchsorted(starts, twice[0], "right")) - 1
        raise CorruptChunkError(
            f"links give row {int(twice[0] - starts[chunk])} two parents: {GARBLED}",
            level=source.level,
            array=tree.fragments.path,
            chunk=dotted(tree.coords[chunk].tolist()),
            url=source.spec.url,
        )


def tree_values(
    source: Source, cells: ValueCells, raws: Sequence[Sequence[Raw]], table: Array | None, tree: Tree
) -> Array:
    """Values of the records that give edges of a skeleton, aligned with them; NaN if an edge is implied.

    Parameters
    ----------
    raws
        The encoded cells of values that are present, in parts.
    table
        Values of the records of the table, if there are any.
    """
    parts = [read_link_values(source, cells, raws, tree.counts)]
    parts += [] if table is None else [table.astype(cells.dtype, copy=False)]
    values = joined(parts)
    out = blank((len(tree.edges), *cells.row_shape), cells.dtype)
    stored = (tree.records >= 0) & (tree.records < len(values))
    out[stored] = values[tree.records[stored]]
    return out


def sort_records(links: Sequence[IntArray], values: Sequence[Array], dtype: np.dtype[Any]) -> tuple[IntArray, Array]:
    """Task: records sorted by their two ends, the smaller first, with their values; the first of equal ones is kept."""
    ends, first = np.unique(np.sort(np.concatenate(links), axis=1), axis=0, return_index=True)
    return ends, joined(values).astype(dtype, copy=False)[first]


def values_of_edges(edges: IntArray, records: tuple[IntArray, Array]) -> Array:
    """Task: values of the records (from `sort_records`) that join the same rows as edges; NaN if there are none."""
    ends, values = records
    out = blank((len(edges), *values.shape[1:]), values.dtype)
    if not len(ends) or not len(edges):
        return out
    wide = int(max(ends.max(), edges.max())) + 1
    known, wanted = ends @ [wide, 1], np.sort(edges, axis=1) @ [wide, 1]
    at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    here = known[at] == wanted
    out[here] = values[at[here]]
    return out
