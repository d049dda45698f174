"""Edges and faces of the finer level that concern some chunks, by the chunks and rows of their ends."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from zarr_vectors_lazy.access.pyramid.read import FineRows
from zarr_vectors_lazy.access.pyramid.step import EndSegment, Part, Step
from zarr_vectors_lazy.access.read import read_batch, read_link_run, read_payloads
from zarr_vectors_lazy.access.wanted import Wanted
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.vectors import decode_link_run
from zarr_vectors_lazy.format.writing import CURRENT
from zarr_vectors_lazy.kernels.edges import implied_parents
from zarr_vectors_lazy.model.chunks import ChunkTable, distinct_chunks
from zarr_vectors_lazy.model.links import LinkCoding
from zarr_vectors_lazy.model.pyramid import ChunkRecord
from zarr_vectors_lazy.model.writing import ArrayDraft
from zarr_vectors_lazy.types import BoolArray, ChunkCoords, IntArray, Raw

INSIDE = "links/0/"


@dataclass(frozen=True, slots=True, eq=False)
class LinkIndex:
    """Cells of links that a level has.

    Parameters
    ----------
    segments
        How they are read.
    tables
        Chunks of the cells of each.
    """

    segments: tuple[EndSegment, ...]
    tables: tuple[ChunkTable, ...]

    def incident(self, chunks: ChunkCoords) -> tuple[ChunkCoords, ...]:
        """For each segment the cells that may name a vertex of some chunks, in lexicographic order."""
        return tuple(
            _incident(segment.offsets, table, chunks) for segment, table in zip(self.segments, self.tables, strict=True)
        )


def _incident(offsets: IntArray, table: ChunkTable, chunks: ChunkCoords) -> ChunkCoords:
    ends = np.concatenate([np.zeros((1, chunks.shape[1]), np.int64), offsets])
    named = np.zeros(len(table) + 1, np.bool_)
    named[table.find((chunks[None] - ends[:, None]).reshape(-1, chunks.shape[1]))] = True  # the last: no such cell
    return table.coords[named[:-1]]


def written_links(step: Step, records: Sequence[Sequence[ChunkRecord]]) -> LinkIndex:
    """Task: cells of links of the finer level, where the same build wrote it."""
    chunks: dict[str, list[tuple[int, ...]]] = {}
    for group in records:
        for record in group:
            for cell in record.cells:
                if cell.level == step.source.level and cell.path.startswith(INSIDE):
                    chunks.setdefault(cell.path, []).append(cell.chunk)
    paths = sorted(chunks)
    return LinkIndex(
        tuple(_written(step, path) for path in paths),
        tuple(ChunkTable(np.asarray(chunks[path], np.int64)) for path in paths),
    )


def _written(step: Step, path: str) -> EndSegment:
    draft = ArrayDraft(path=path, attributes={"dtype": "int64", "row_shape": []})
    offsets = CURRENT.offsets(path.removeprefix(INSIDE), step.width, step.rank)
    across = bool(offsets.any())
    coding = LinkCoding(width=step.width, dtype=np.dtype("<i8"), grouped=across, permuted=across and not step.directed)
    spec = CURRENT.cell_spec(step.source.level, draft, step.fine_grid, step.encoding)
    return EndSegment(spec=spec, coding=coding, offsets=offsets)


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


@dataclass(frozen=True, slots=True, eq=False)
class EndCells:
    """Cells of links that may name a vertex of some chunks, those of a segment one after another.

    Parameters
    ----------
    segments
        How they are read.
    coords
        For each segment (n, K) its cells.
    chunks
        (m, K) the chunks of all their ends.
    ends
        For each segment (n, L) the numbers of these.
    """

    segments: tuple[EndSegment, ...]
    coords: tuple[ChunkCoords, ...]
    chunks: ChunkCoords
    ends: tuple[IntArray, ...]

    @classmethod
    def of(cls, step: Step, part: Part, links: LinkIndex | None) -> "EndCells":
        """Cells that concern a part; ``links`` are those of the finer level where the same build wrote it."""
        segments, coords = step.segments, part.cells
        if links is not None:
            segments, coords = links.segments, links.incident(part.fine)
        zero = np.zeros((1, step.rank), np.int64)
        ends = [
            (cells[:, None] + np.concatenate([zero, segment.offsets])).reshape(-1, step.rank)
            for segment, cells in zip(segments, coords, strict=True)
        ]
        table, number = distinct_chunks(np.concatenate([np.empty((0, step.rank), np.int64), *ends]))
        bounds = np.cumsum([len(found) for found in ends])
        numbers = np.split(number, bounds[:-1]) if ends else []
        return cls(segments, coords, table.coords, tuple(found.reshape(-1, step.width) for found in numbers))

    def parted(self, table: ChunkTable) -> tuple["EndCells", "EndCells"]:
        """The cells all of whose chunks are in a table, and the others."""
        inside = table.find(self.chunks) >= 0
        masks = [np.asarray(inside[ends].all(axis=1)) for ends in self.ends]
        return self._take(masks), self._take([~mask for mask in masks])

    def without(self, chunks: BoolArray) -> "EndCells":
        """Those that name none of some of the chunks; (m,) which."""
        return self._take([~np.asarray(chunks[ends].any(axis=1)) for ends in self.ends])

    def _take(self, masks: Sequence[BoolArray]) -> "EndCells":
        coords = tuple(cells[mask] for cells, mask in zip(self.coords, masks, strict=True))
        ends = tuple(found[mask] for found, mask in zip(self.ends, masks, strict=True))
        return EndCells(self.segments, coords, self.chunks, ends)

    def named(self) -> ChunkCoords:
        """Chunks in which a record may have an end."""
        used = np.zeros(len(self.chunks), np.bool_)
        for ends in self.ends:
            used[ends.reshape(-1)] = True
        found: ChunkCoords = self.chunks[used]
        return found

    def read(self, step: Step) -> Ends:
        """Their records, by coding, segment, cell and record.

        Raises
        ------
        CorruptChunkError
            If a cell is missing or undecodable.
        """
        wanted = [
            Wanted(str(i), segment.spec, tuple(range(len(cells))), cells)
            for i, (segment, cells) in enumerate(zip(self.segments, self.coords, strict=True))
        ]
        raws = read_batch(step.source, wanted)
        at, rows = [np.empty((0, step.width), np.int64)], [np.empty((0, step.width), np.int64)]
        for coding in dict.fromkeys(segment.coding for segment in self.segments):
            alike = [i for i, segment in enumerate(self.segments) if segment.coding == coding]
            slots, found, counts = self._records(step, coding, alike, raws)
            ends = np.concatenate([self.ends[i] for i in alike])
            base = np.repeat(np.arange(len(ends)) * step.width, counts)
            at.append(ends.reshape(-1)[base[:, None] + slots])
            rows.append(found)
        return Ends(self.chunks, np.concatenate(at), np.concatenate(rows))

    def _records(
        self, step: Step, coding: LinkCoding, alike: Sequence[int], raws: Mapping[tuple[str, int], Raw]
    ) -> tuple[IntArray, IntArray, IntArray]:
        """Records of the cells of segments of one coding, see `format.vectors.decode_link_run`."""
        cells = [
            (self.segments[i].spec, self.coords[i], [raws[str(i), row] for row in range(len(self.coords[i]))])
            for i in alike
        ]
        payloads = [payload for spec, at, mine in cells for payload in read_payloads(step.source, spec, at, mine)]
        try:
            return decode_link_run(payloads, coding)
        except FormatError:
            for spec, at, mine in cells:
                read_link_run(step.source, spec, at, mine, coding)  # says which cell it is
            raise


def rows_of_ends(step: Step, fine: FineRows, ends: Ends) -> IntArray:
    """(M, L) number of each end among the rows of some finer chunks, -1 where it lies in another.

    Raises
    ------
    FormatError
        If one names a row that its chunk does not have.
    """
    table = ChunkTable(fine.chunks)
    found = table.find(ends.chunks)
    slot = np.where(found >= 0, table.order[found], -1)
    sizes = np.where(slot >= 0, np.diff(fine.starts)[slot], np.iinfo(np.int64).max)
    wrong = (ends.rows < 0) | (ends.rows >= sizes[ends.at])
    if wrong.any():
        raise misplaced(step, int(ends.rows[wrong][0]))
    first = np.where(slot >= 0, fine.starts[:-1][slot], -1)[ends.at]
    if (slot >= 0).all():
        first += ends.rows
        return first
    return np.where(first >= 0, first + ends.rows, -1)


def misplaced(step: Step, row: int) -> FormatError:
    """What is wrong with a link to a row that is not there."""
    return FormatError(
        f"a link of level {step.source.level} names row {row} of a chunk that has fewer", where=step.source.spec.url
    )


def tree_edges(fine: FineRows, stored: IntArray) -> tuple[IntArray, BoolArray]:
    """Edges [child, parent] of trees: stored ones, of a child the last, and of other rows those that fragments imply.

    Parameters
    ----------
    stored
        (M, 2) rows, -1 where they lie in other chunks.

    Returns
    -------
    (E, 2) edges between the rows, and (N,) which rows have no parent.
    """
    assert fine.fragments is not None
    parent = implied_parents(fine.fragments.fragments, len(fine))
    mine = stored[stored[:, 0] >= 0]
    parent[mine[:, 0]] = np.where(mine[:, 1] >= 0, mine[:, 1], -2)  # of several records the last is assigned last
    child = np.flatnonzero(parent >= 0)
    return np.stack([child, parent[child]], axis=1), np.asarray(parent == -1)


def last_of_each_child(ends: Ends) -> Ends:
    """A vertex has one parent: the one that the last record of it names."""
    child = ends.at[:, 0] * (int(ends.rows.max(initial=0)) + 1) + ends.rows[:, 0]
    _, last = np.unique(child[::-1], return_index=True)
    return ends.take(np.sort(len(child) - 1 - last))
