"""What the finer level provides: rows, links and owners of the chunks below coarse chunks."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import pairwise
from typing import Any

import numpy as np

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.registry import CURRENT
from zarr_vectors_lazy.kernels.rows import kept_ids
from zarr_vectors_lazy.kernels.trees import implied_parents
from zarr_vectors_lazy.model.arrays import CellSpec, LinkCoding
from zarr_vectors_lazy.model.levels import ChunkTable, distinct_chunks
from zarr_vectors_lazy.model.objects import FragmentRun, Manifests, ObjectIndex, ranges
from zarr_vectors_lazy.model.writing import ArrayDraft, ChunkKey, ChunkRecord
from zarr_vectors_lazy.pyramid.step import Begun, EndCells, EndSegment, LevelBuild, Part, Thinning
from zarr_vectors_lazy.read.cells import Requested, read_batch, read_fragment_run, read_link_run, read_row_run
from zarr_vectors_lazy.read.objects import read_ids, read_manifests
from zarr_vectors_lazy.read.paths import read_lengths
from zarr_vectors_lazy.read.rows import column_run
from zarr_vectors_lazy.settings import Recent
from zarr_vectors_lazy.types import BoolArray, ChunkCoords, IntArray, Raw, Vertices

# The rows of the finer chunks of coarse chunks, fetched in one go, one chunk after another.

VERTICES, FRAGMENTS, WEIGHTS = "vertices", "fragments", "weights"


@dataclass(frozen=True, slots=True, eq=False)
class FineRows:
    """Rows of the finer chunks of some coarse chunks, one finer chunk after another.

    Parameters
    ----------
    chunks
        (f, K) the finer chunks, grouped by coarse chunk, in lexicographic order within each.
    bounds
        (g + 1,) the finer chunks of coarse chunk i are ``bounds[i]:bounds[i + 1]``.
    starts
        (f + 1,) rows of finer chunk i are ``starts[i]:starts[i + 1]``.
    positions
        (N, D).
    weights
        (N,) how many vertices of level 0 each stands for; None for one.
    values
        (N, ...) attributes by name.
    fragments
        Fragments of the finer chunks, if there are any.
    """

    chunks: ChunkCoords
    bounds: IntArray
    starts: IntArray
    positions: Vertices
    weights: IntArray | None
    values: dict[str, np.ndarray[Any, Any]]
    fragments: FragmentRun | None

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def coarse(self) -> IntArray:
        """(f,) coarse chunk of each finer one."""
        return np.repeat(np.arange(len(self.bounds) - 1), np.diff(self.bounds))

    @property
    def coarse_of_rows(self) -> IntArray:
        """(N,) coarse chunk of each row."""
        return np.repeat(np.arange(len(self.bounds) - 1), np.diff(self.starts[self.bounds]))


def fetch_part(step: LevelBuild, part: Part) -> Mapping[tuple[str, int], Raw]:
    """Encoded cells of everything that `decode_rows` needs, all concurrently."""
    everything = np.arange(len(part.fine))
    wanted = [_wanted(VERTICES, step.vertices, part, everything)]
    if step.fragments is not None:
        wanted.append(_wanted(FRAGMENTS, step.fragments, part, everything))
    if step.weights is not None:
        wanted.append(_wanted(WEIGHTS, step.weights, part, everything))
    for item in step.attributes:
        if item.column.spec is not None:
            missing = part.missing.get(item.name)
            rows = everything if missing is None else np.flatnonzero(~missing)
            wanted.append(_wanted(f"attribute:{item.name}", item.column.spec, part, rows))
    return read_batch(step.source, wanted)


def _wanted(member: str, spec: CellSpec, part: Part, rows: IntArray) -> Requested:
    return Requested(member, spec, tuple(rows.tolist()), part.fine[rows])


def decode_rows(step: LevelBuild, part: Part, raws: Mapping[tuple[str, int], Raw]) -> FineRows:
    """Decode the rows of the finer chunks of a part.

    Raises
    ------
    CorruptChunkError
        If a cell is missing or undecodable, an attribute has another number of rows, or fragments name rows that do
        not exist.
    """
    source, chunks, everything = step.source, part.fine, range(len(part.fine))
    shape = step.vertices.row_shape
    assert shape is not None
    positions, starts = read_row_run(source, step.vertices, chunks, [raws[VERTICES, i] for i in everything], shape)
    weights, fragments, values = None, None, {}
    if step.weights is not None:
        cells, counts = [raws[WEIGHTS, i] for i in everything], np.diff(starts)
        weights = read_row_run(source, step.weights, chunks, cells, (), counts)[0].astype(np.int64, copy=False)
    if step.fragments is not None:
        fragments = read_fragment_run(source, step.fragments, chunks, [raws[FRAGMENTS, i] for i in everything], starts)
    for item in step.attributes:
        missing, member = part.missing.get(item.name), f"attribute:{item.name}"
        present = (np.ones(len(chunks), np.bool_) if missing is None else ~missing).tolist()
        listed = [raws[member, i] for i, there in enumerate(present) if there and (member, i) in raws]
        values[item.name] = column_run(item.column, chunks, starts, present, listed)
    return FineRows(
        chunks=chunks,
        bounds=part.bounds,
        starts=starts,
        positions=positions,
        weights=weights,
        values=values,
        fragments=fragments,
    )


# Edges and faces of the finer level that concern some chunks, with the chunks and rows of their ends.

INSIDE = "links/0/"


@dataclass(frozen=True, slots=True, eq=False)
class Ends:
    """Edges or faces.

    Parameters
    ----------
    chunks
        (m, K) the chunks of their ends, in lexicographic order.
    at
        (M, L) number of the chunk of each end.
    rows
        (M, L) row in that chunk.
    """

    chunks: ChunkCoords
    at: IntArray
    rows: IntArray

    def take(self, which: IntArray | BoolArray) -> "Ends":
        """Some of them."""
        return Ends(self.chunks, self.at[which], self.rows[which])


def read_ends(cells: EndCells, step: LevelBuild, segments: Sequence[EndSegment]) -> Ends:
    """Their records, by coding, segment, cell and record.

    Raises
    ------
    CorruptChunkError
        If a cell is missing or undecodable.
    """
    at, rows = [np.empty((0, step.width), np.int64)], [np.empty((0, step.width), np.int64)]
    for ends, slots, found, counts in _runs(cells, step, segments):
        base = np.repeat(np.arange(len(ends)) * step.width, counts)
        at.append(ends.reshape(-1)[base[:, None] + slots])
        rows.append(found)
    return Ends(cells.chunks, np.concatenate(at), np.concatenate(rows))


def rows_of_ends(cells: EndCells, step: LevelBuild, segments: Sequence[EndSegment], fine: FineRows) -> IntArray:
    """(M, L) number of each end among the rows of some finer chunks, -1 if it lies elsewhere; as `read`.

    Raises
    ------
    CorruptChunkError
        If a cell is missing or undecodable.
    FormatError
        If an end names a row that its chunk does not have.
    """
    table = ChunkTable(fine.chunks)
    at = table.find(cells.chunks)
    slot = np.where(at >= 0, table.order[at], -1)
    first = np.where(slot >= 0, fine.starts[:-1][slot], -1)
    sizes = np.where(slot >= 0, np.diff(fine.starts)[slot], np.iinfo(np.int64).max)
    numbers = [np.empty((0, step.width), np.int64)]
    for ends, slots, rows, counts in _runs(cells, step, segments):
        if len(slots) == 1:  # the ends of all records of a cell lie in the same chunks
            of = ends[:, slots[0]]
            begin, most = np.repeat(first[of], counts, axis=0), np.repeat(sizes[of], counts, axis=0)
        else:
            base = np.repeat(np.arange(len(ends)) * step.width, counts)
            of = ends.reshape(-1)[base[:, None] + slots]
            begin, most = first[of], sizes[of]
        wrong = rows.view(np.uint64) >= most.view(np.uint64)  # negative numbers count as large
        if wrong.any():
            raise misplaced(step, int(rows[wrong][0]))
        inside = (slot >= 0).all()
        numbers.append(np.add(begin, rows, out=begin) if inside else np.where(begin >= 0, begin + rows, -1))
    return np.concatenate(numbers)


def _runs(
    cells: EndCells, step: LevelBuild, segments: Sequence[EndSegment]
) -> Iterator[tuple[IntArray, IntArray, IntArray, IntArray]]:
    """For segments of one coding, (n, L) the chunks of the cells' ends, and the records of these cells."""
    coords, bounds = cells.chunks[cells.ends[:, 0]], np.searchsorted(cells.which, np.arange(len(segments) + 1)).tolist()
    wanted = {
        i: Requested(str(i), segments[i].spec, tuple(range(last - first)), coords[first:last])
        for i, (first, last) in enumerate(pairwise(bounds))
        if last > first
    }
    raws = read_batch(step.source, list(wanted.values()))
    alike: dict[LinkCoding, list[int]] = {}
    for i in wanted:
        alike.setdefault(segments[i].coding, []).append(i)
    for coding, some in alike.items():
        ends = np.concatenate([cells.ends[bounds[i] : bounds[i + 1]] for i in some])
        mine = [wanted[i] for i in some]
        arrays = [(each.spec, each.coords, [raws[each.member, row] for row in each.rows]) for each in mine]
        yield ends, *read_link_run(step.source, arrays, coding)


@dataclass(frozen=True, eq=False)
class LinkIndex:
    """Cells of links of a level.

    Parameters
    ----------
    segments
        How they are read.
    cells
        All cells.
    """

    segments: tuple[EndSegment, ...]
    cells: EndCells

    @classmethod
    def of(cls, segments: Sequence[EndSegment], tables: Sequence[ChunkTable], width: int, rank: int) -> "LinkIndex":
        """Index of segments, and of the chunks of their cells."""
        which = np.repeat(np.arange(len(segments)), [len(table) for table in tables])
        zero, none = np.zeros((1, rank), np.int64), np.empty((0, rank), np.int64)
        offsets = (
            np.stack([np.concatenate([zero, found.offsets]) for found in segments]) if len(segments) else zero[None]
        )
        coords = np.concatenate([none, *(table.coords for table in tables)])
        table, number = distinct_chunks((coords[:, None] + offsets[which]).reshape(-1, rank))
        return cls(tuple(segments), EndCells(table.coords, which, number.reshape(-1, width)))

    @cached_property
    def _by_chunk(self) -> tuple[ChunkTable, IntArray, IntArray]:
        """Chunks, (m + 1,) where the cells that have an end in each begin, and these cells."""
        ends, chunks = self.cells.ends.reshape(-1), self.cells.chunks
        starts = np.concatenate([[0], np.cumsum(np.bincount(ends, minlength=len(chunks)))])
        return ChunkTable(chunks), starts, np.argsort(ends, kind="stable") // max(self.cells.ends.shape[1], 1)

    def incident(self, chunks: ChunkCoords) -> EndCells:
        """Cells that may name a vertex of some chunks."""
        table, starts, cells = self._by_chunk
        at = table.find(chunks)
        at = at[at >= 0]
        return self.cells.take(np.unique(cells[ranges(starts[at], starts[at + 1] - starts[at])]))


def incident(step: LevelBuild, part: Part, links: LinkIndex | None) -> tuple[Sequence[EndSegment], EndCells]:
    """Segments of the finer level, and the cells that concern a part; ``links`` if the same build wrote them."""
    if links is not None:
        return links.segments, links.incident(part.fine)
    assert part.cells is not None
    return step.segments, part.cells


def written_links(step: LevelBuild, records: Sequence[Sequence[ChunkRecord]]) -> LinkIndex:
    """Task: cells of links of the finer level, if the same build wrote it."""
    chunks: dict[str, list[tuple[int, ...]]] = {}
    for group in records:
        for record in group:
            for cell in record.cells:
                if cell.level == step.source.level and cell.path.startswith(INSIDE):
                    chunks.setdefault(cell.path, []).append(cell.chunk)
    paths = sorted(chunks)
    tables = [ChunkTable(np.asarray(chunks[path], np.int64)) for path in paths]
    return LinkIndex.of([_written(step, path) for path in paths], tables, step.width, step.rank)


def _written(step: LevelBuild, path: str) -> EndSegment:
    draft = ArrayDraft(path=path, attributes={"dtype": "int64", "row_shape": []})
    offsets = CURRENT.offsets(path.removeprefix(INSIDE), step.width, step.rank)
    across = bool(offsets.any())
    coding = LinkCoding(width=step.width, dtype=np.dtype("<i8"), grouped=across, permuted=across and not step.directed)
    spec = CURRENT.cell_spec(step.source.level, draft, step.fine_grid, step.encoding)
    return EndSegment(spec=spec, coding=coding, offsets=offsets)


def misplaced(step: LevelBuild, row: int) -> FormatError:
    """Describe what is wrong with a link to a row that does not exist."""
    return FormatError(
        f"a link of level {step.source.level} names row {row} of a chunk that has fewer", where=step.source.spec.url
    )


def tree_edges(fine: FineRows, stored: IntArray) -> tuple[IntArray, BoolArray]:
    """Edges [child, parent] of trees: stored ones (for a child the last one), and otherwise those that fragments imply.

    Parameters
    ----------
    stored
        (M, 2) rows, -1 if they lie in other chunks.

    Returns
    -------
    (E, 2) edges between the rows, and (N,) which rows have no parent.
    """
    assert fine.fragments is not None
    parent = implied_parents(fine.fragments.fragments, len(fine), tiles=fine.fragments.tiles)
    mine = stored[stored[:, 0] >= 0]
    parent[mine[:, 0]] = np.where(mine[:, 1] >= 0, mine[:, 1], -2)  # the last of several records is assigned last
    child = np.flatnonzero(parent >= 0)
    return np.stack([child, parent[child]], axis=1), np.asarray(parent == -1)


def last_of_each_child(ends: Ends) -> Ends:
    """A vertex has one parent: that in the last record of it."""
    child = ends.at[:, 0] * (int(ends.rows.max(initial=0)) + 1) + ends.rows[:, 0]
    _, last = np.unique(child[::-1], return_index=True)
    return ends.take(np.sort(len(child) - 1 - last))


# The object of each fragment of a level, and which objects are kept; worked out once per process.

KEPT = 4  # levels of which a process keeps the owners

_owners: Recent[tuple[Any, ...], "Owners"] = Recent(KEPT)
_masks: Recent[tuple[Any, ...], BoolArray] = Recent(4 * KEPT)


@dataclass(frozen=True, slots=True, eq=False)
class Owned:
    """Manifest entries that name fragments of some chunks.

    Parameters
    ----------
    objects
        (E,) manifest row.
    ordinals
        (E,) place in the object's manifest.
    slots
        (E,) number of the chunk among those requested.
    fragments
        (E,) fragment of that chunk.
    """

    objects: IntArray
    ordinals: IntArray
    slots: IntArray
    fragments: IntArray

    def take(self, rows: IntArray | BoolArray) -> "Owned":
        """Some entries."""
        return Owned(self.objects[rows], self.ordinals[rows], self.slots[rows], self.fragments[rows])


@dataclass(frozen=True, slots=True, eq=False)
class Owners:
    """All manifest entries of a level, by chunk.

    Parameters
    ----------
    table
        Chunks that manifests name.
    parents
        Coarse chunks in which these lie.
    starts
        (p + 1,) entries of coarse chunk i are ``starts[i]:starts[i + 1]``.
    entries
        (E,) manifest entries by coarse chunk, then by object and place; entries are numbered by object and place.
    owners, fragments, chunk_of
        (E,) object, fragment, and number in ``table`` of the chunk, of each entry.
    offsets
        (O + 1,) entries of object o are ``offsets[o]:offsets[o + 1]``.
    visits
        (O,) how often each object enters a coarse chunk.
    """

    table: ChunkTable
    parents: ChunkTable
    starts: IntArray
    entries: IntArray
    owners: IntArray
    fragments: IntArray
    chunk_of: IntArray
    offsets: IntArray
    visits: IntArray

    def of_chunks(self, chunks: ChunkCoords, coarse: ChunkCoords) -> Owned:
        """Entries of some chunks, by the coarse chunk above them, then by object and place."""
        at, parents = self.table.find(chunks), self.parents.find(coarse)
        slot_of = np.full(len(self.table), -1, np.int64)
        slot_of[at[at >= 0]] = np.flatnonzero(at >= 0)
        entries = [self.entries[self.starts[i] : self.starts[i + 1]] for i in parents[parents >= 0].tolist()]
        found = np.concatenate([np.empty(0, np.int64), *entries])
        slots = slot_of.take(self.chunk_of.take(found))
        if slots.min(initial=0) < 0:
            there = np.flatnonzero(slots >= 0)
            found, slots = found[there], slots[there]
        objects = self.owners.take(found)
        return Owned(objects, found - self.offsets.take(objects), slots, self.fragments.take(found))


def read_owners(step: LevelBuild, begun: Begun) -> Owners:
    """Manifest entries of the finer level by chunk; kept by this process while the build runs."""
    assert step.index is not None
    return _owners.make((step.source, begun.build), partial(_sorted, step, step.index, begun.emptied))


def _sorted(step: LevelBuild, index: ObjectIndex, emptied: Sequence[ChunkKey]) -> Owners:
    manifests = read_manifests(step.source, index)
    if emptied:
        manifests = _filled(manifests, np.asarray(emptied, np.int64))
    table, chunk = distinct_chunks(manifests.chunks)
    parents, parent = distinct_chunks(step.parent(table.coords))
    small = parent.astype(np.uint16) if len(parents) <= 2**16 else parent  # radix sort
    coarse = small.take(chunk)
    return Owners(
        table=table,
        parents=parents,
        starts=np.concatenate([[0], np.cumsum(np.bincount(coarse, minlength=len(parents)))]).astype(np.int64),
        entries=np.argsort(coarse, kind="stable"),
        owners=manifests.owners,
        fragments=manifests.fragments,
        chunk_of=chunk,
        offsets=manifests.offsets,
        visits=_visits(manifests.offsets, coarse),
    )


def _filled(manifests: Manifests, emptied: IntArray) -> Manifests:
    """Manifests without the fragments that have no vertices: these neither begin nor interrupt a path."""
    named = np.concatenate([manifests.chunks, manifests.fragments[:, None]], axis=1)
    filled = ChunkTable(emptied).find(named) < 0
    before = np.concatenate([[0], np.cumsum(filled)])
    return Manifests(before[manifests.offsets], manifests.chunks[filled], manifests.fragments[filled])


def find_emptied(step: LevelBuild, chunks: ChunkCoords, _begun: Begun) -> list[ChunkKey]:
    """Task: chunk and number of the fragments of some finer chunks that have no vertices."""
    assert step.fragments is not None
    wanted = Requested(FRAGMENTS, step.fragments, tuple(range(len(chunks))), chunks)
    lengths = read_lengths(step.source, step.fragments, [wanted])
    keys = zip(chunks.tolist(), lengths, strict=True)
    return [(*chunk, number) for chunk, of in keys for number in np.flatnonzero(of == 0).tolist()]


def with_emptied(begun: Begun, emptied: Sequence[Sequence[ChunkKey]]) -> Begun:
    """Task: a build that knows which fragments of the finer level have no vertices."""
    return replace(begun, emptied=tuple(sorted(key for some in emptied for key in some)))


def _visits(offsets: IntArray, coarse: np.ndarray[Any, Any]) -> IntArray:
    """(O,) how often each object enters a coarse chunk, given (E,) the coarse chunk of each entry."""
    enters = np.ones(len(coarse), np.bool_)
    np.not_equal(coarse[1:], coarse[:-1], out=enters[1:])
    firsts = offsets[:-1]
    enters[firsts[firsts < offsets[1:]]] = True
    counts = np.concatenate([[0], np.cumsum(enters)]).astype(np.int64, copy=False)
    return np.diff(counts[offsets])


def kept_objects(thinning: Thinning, build: str) -> BoolArray | None:
    """(O,) whether the object of a manifest row is kept; None if all are.

    The number kept is a fraction of the objects of the base level, and the choice depends on their ids alone.
    """
    if thinning.index is None:
        return None
    key = (thinning.base, thinning.sparsity_seed, thinning.keep, build)
    return _masks.make(key, partial(_mask, thinning, thinning.index))


def _mask(thinning: Thinning, index: ObjectIndex) -> BoolArray:
    ids = read_ids(thinning.base, index)
    present = np.flatnonzero(np.diff(read_manifests(thinning.base, index).offsets) > 0)
    mask = np.zeros(len(ids), np.bool_)
    keep = max(1, round(len(present) * thinning.keep))
    mask[present[kept_ids(thinning.sparsity_seed, ids[present], keep)]] = True
    return mask


def owned_by(step: LevelBuild, chunks: ChunkCoords, coarse: ChunkCoords, begun: Begun) -> tuple[Owned, Owned] | None:
    """Entries of all objects in some finer chunks, and of the kept ones; None if the level has no objects.

    Parameters
    ----------
    chunks, coarse
        (f, K) the finer chunks, and (g, K) the coarse ones above them.
    """
    if step.index is None:
        return None
    owned = read_owners(step, begun).of_chunks(chunks, coarse)
    mask = None if step.thinning is None else kept_objects(step.thinning, begun.build)
    return owned, owned if mask is None else owned.take(mask[owned.objects])
