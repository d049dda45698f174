"""Edges and faces of a coarse level: those of the finer one, between the vertices that its vertices became.

Those inside a part are written by its own task, which has all that they need; those across by a second task, which
asks the journal what vertices of other parts became. Which chunk stores one depends on its ends alone, so that all its
copies meet there and become one.
"""

from collections.abc import Sequence

import numpy as np

from zarr_vectors_lazy.access.pyramid.cells import Outbox, read_records, record_key
from zarr_vectors_lazy.access.pyramid.ends import EndCells, LinkIndex, last_of_each_child, misplaced
from zarr_vectors_lazy.access.pyramid.make import link_payloads
from zarr_vectors_lazy.access.pyramid.maps import read_maps
from zarr_vectors_lazy.access.pyramid.step import Part, Step
from zarr_vectors_lazy.access.pyramid.tasks import LINKS, Begun, alive_part, put_links
from zarr_vectors_lazy.kernels.clusters import every
from zarr_vectors_lazy.model.chunks import ChunkTable, distinct_chunks
from zarr_vectors_lazy.model.pyramid import ChunkRecord
from zarr_vectors_lazy.storage.connect import connect
from zarr_vectors_lazy.types import BoolArray, ChunkCoords, IntArray


def remap_part(
    step: Step,
    part: Part,
    begun: Begun,
    links: LinkIndex | None,
    below: Sequence[Sequence[ChunkRecord]],
    after: object = None,
) -> list[ChunkRecord]:
    """Task: write the edges or faces that some coarse chunks store and that lead out of their part.

    Parameters
    ----------
    links, below
        The links of the finer level, and records of the tasks that wrote its chunks, where these are made in the same
        graph.
    after
        The tasks that made the chunks of this level.
    """
    backend = connect(step.source.spec)
    journal = record_key(step.level, LINKS, part.key(0))
    found = read_records(backend, journal) if begun.resumed else {}
    keys = [part.key(i) for i in range(len(part))]
    work = alive_part(part, below)
    cells = EndCells.of(step, work, links)
    across = cells.parted(ChunkTable(work.fine))[1]
    if not step.directed:  # stored with the lowest of their chunks, and parts are cut from these in ascending order
        across = across.without(_before(step.parent(cells.chunks), part.chunks[:1]))
    if all(key in found for key in keys) or not len(across.named()):
        return list(found.values())
    ends = across.read(step)
    if step.kind == "tree":
        ends = last_of_each_child(ends)
    coords, starts, became = _coarse_ends(step, ends.chunks, ends.at, ends.rows)
    owners = ChunkTable(part.chunks).find(coords).tolist()
    payloads = link_payloads(step, coords, starts, became, owners, len(part))
    return put_links(step, Outbox(backend, journal, found), dict(zip(keys, payloads, strict=True)), found)


def _before(chunks: ChunkCoords, first: ChunkCoords) -> BoolArray:
    """(n,) which chunks come before one."""
    number = distinct_chunks(np.concatenate([first, chunks]))[1]
    return np.asarray(number[1:] < number[0])


def _coarse_ends(
    step: Step, chunks: ChunkCoords, at: IntArray, rows: IntArray
) -> tuple[ChunkCoords, IntArray, IntArray]:
    """Coarse chunks, the numbers of their rows, and (M, L) rows that ends became; what was dropped is left out."""
    used = np.zeros(len(chunks), np.bool_)
    used[at.reshape(-1)] = True
    maps = read_maps(connect(step.source.spec), step, chunks[used])
    sizes = np.zeros(len(chunks), np.int64)
    sizes[used] = [len(found) for found in maps]
    wrong = (rows < 0) | (rows >= sizes[at])
    if wrong.any():
        raise misplaced(step, int(rows[wrong][0]))
    became = np.concatenate([np.empty(0, np.int64), *maps])
    row = became[(np.cumsum(sizes) - sizes)[at] + rows]
    table, number = distinct_chunks(step.parent(chunks))
    most = np.zeros(len(table), np.int64)
    np.maximum.at(most, number[used], [int(found.max(initial=-1)) + 1 for found in maps])
    starts = np.concatenate([[0], np.cumsum(most)])
    kept = every(row >= 0)
    return table.coords, starts, starts[number[at[kept]]] + row[kept]
