"""Edges and faces of the finer level that concern some chunks, by the chunks and rows of their ends."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zarr_vectors_lazy.access.pyramid.step import EndSegment, Part, Step
from zarr_vectors_lazy.access.read import read_batch, read_links
from zarr_vectors_lazy.access.wanted import Wanted
from zarr_vectors_lazy.format.writing import CURRENT
from zarr_vectors_lazy.kernels.edges import implied_parents
from zarr_vectors_lazy.model.chunks import ChunkTable
from zarr_vectors_lazy.model.links import LinkCoding
from zarr_vectors_lazy.model.objects import Fragments
from zarr_vectors_lazy.model.pyramid import ChunkRecord
from zarr_vectors_lazy.model.writing import ArrayDraft
from zarr_vectors_lazy.types import ChunkCoords, IntArray

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
    ends = [np.zeros((1, chunks.shape[1]), np.int64), offsets]
    at = [table.find(chunks - offset) for offset in np.concatenate(ends)]
    rows = np.unique(np.concatenate(at))
    return table.coords[rows[rows >= 0]]


def written_links(step: Step, records: Sequence[Sequence[ChunkRecord]]) -> LinkIndex:
    """Cells of links of the finer level, where the same build wrote it."""
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
        (M, L, K) chunk of each end.
    rows
        (M, L) row in that chunk.
    """

    chunks: IntArray
    rows: IntArray

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, which: IntArray) -> "Ends":
        """Some of them."""
        return Ends(self.chunks[which], self.rows[which])


def read_ends(step: Step, part: Part, links: Sequence[Sequence[ChunkRecord]]) -> Ends:
    """Stored links with an end in the finer chunks of a part: by segment, cell and record.

    Raises
    ------
    CorruptChunkError
        If a cell is missing or undecodable.
    """
    segments, cells = step.segments, part.cells
    if links:
        index = written_links(step, links)
        segments, cells = index.segments, index.incident(part.fine)
    wanted = [
        Wanted(str(i), segment.spec, tuple(range(len(coords))), coords)
        for i, (segment, coords) in enumerate(zip(segments, cells, strict=True))
    ]
    raws = read_batch(step.source, wanted)
    chunks = [np.empty((0, step.width, step.rank), np.int64)]
    rows = [np.empty((0, step.width), np.int64)]
    for i, (segment, coords) in enumerate(zip(segments, cells, strict=True)):
        offsets = np.concatenate([np.zeros((1, step.rank), np.int64), segment.offsets])
        for row, coord in enumerate(coords.tolist()):
            records = read_links(step.source, segment.spec, coord, raws[str(i), row], segment.coding)
            chunks.append(offsets[records[:, 0]] + np.asarray(coord))
            rows.append(records[:, 1])
    return Ends(np.concatenate(chunks), np.concatenate(rows))


def with_implied(fine: ChunkCoords, ends: Ends, fragments: Sequence[Fragments], counts: Sequence[int]) -> Ends:
    """Edges [child, parent] of trees: stored ones, and of the other vertices the ones that fragments imply.

    Parameters
    ----------
    fine
        (f, K) chunks.
    fragments, counts
        Of each of them.
    """
    table, stored = ChunkTable(fine), _last_of_each_child(ends)
    at = table.find(stored.chunks[:, 0])
    of_chunk = np.where(at >= 0, table.order[at], -1)
    chunks, rows = [stored.chunks], [stored.rows]
    for i, (index, count) in enumerate(zip(fragments, counts, strict=True)):
        parent = implied_parents(index, count)
        parent[stored.rows[of_chunk == i, 0]] = -1
        child = np.flatnonzero(parent >= 0)
        rows.append(np.stack([child, parent[child]], axis=1))
        chunks.append(np.broadcast_to(fine[i], (len(child), 2, fine.shape[1])))
    return Ends(np.concatenate(chunks), np.concatenate(rows))


def _last_of_each_child(ends: Ends) -> Ends:
    """A vertex has one parent: the one that the last record of it names."""
    child = np.concatenate([ends.chunks[:, 0], ends.rows[:, :1]], axis=1)[::-1]
    _, last = np.unique(child, axis=0, return_index=True)
    return ends.take(np.sort(len(ends) - 1 - last))
