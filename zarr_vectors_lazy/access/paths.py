"""What tasks run to follow objects through chunks: each run of chunks is read once, for all objects that go through it.

A manifest lists, in the order of an object's path, the fragments that it goes through: its entries. One task sorts the
entries of all objects by run of chunks, one a run reads the rows that they name, one a block of objects puts them back
into path order.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from zarr_vectors_lazy.access.attributes import Column, column_run
from zarr_vectors_lazy.access.level import Source
from zarr_vectors_lazy.access.objects import read_manifests
from zarr_vectors_lazy.access.read import read_fragment_run, read_row_run
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.kernels.paths import fragment_edges, fragment_ends
from zarr_vectors_lazy.kernels.rows import Kept, row_table
from zarr_vectors_lazy.model.arrays import CellSpec
from zarr_vectors_lazy.model.chunks import ChunkTable
from zarr_vectors_lazy.model.objects import MAX_ROWS, FragmentRun, Manifests, ObjectIndex, ranges
from zarr_vectors_lazy.types import BoolArray, ChunkCoords, IntArray, Raw

Values = list[np.ndarray[Any, Any]]
SLAB = 2**17  # rows that are put in order at a time


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Router:
    """Objects and the chunks that they go through.

    Parameters
    ----------
    source, index
        The level and where its manifests are.
    objects
        (o,) manifest rows, or a range of them.
    cuts
        (b + 1,) block k has the objects ``cuts[k]:cuts[k + 1]``.
    coords
        (c, K) the chunks, ascending.
    bounds
        (r + 1,) run k has the chunks ``bounds[k]:bounds[k + 1]``.
    whole
        Whether all chunks of the level are in the view.
    """

    source: Source
    index: ObjectIndex
    objects: IntArray | range
    cuts: IntArray
    coords: ChunkCoords
    bounds: IntArray
    whole: bool

    def read(self) -> tuple[Manifests, IntArray]:
        """Manifests of the objects, and (E,) the chunk of each entry, -1 where that is none of them."""
        manifests = read_manifests(self.source, self.index, np.asarray(self.objects, np.int64))
        at = ChunkTable(self.coords).find(manifests.chunks)
        if self.whole:
            refuse_unlisted(self.source, manifests, at)
        return manifests, at

    def failure(self, error: FormatError) -> FormatError:
        """Say of an error of what manifests name where they are."""
        return FormatError(f"manifests of level {self.source.level}: {error.message}", where=self.source.spec.url)


def refuse_unlisted(source: Source, manifests: Manifests, at: IntArray) -> None:
    """Raise FormatError if an entry lies in no chunk of the level, -1 in ``at`` (E,)."""
    if (at < 0).any():
        coord = manifests.chunks[at < 0][0].tolist()
        raise FormatError(f"a manifest names chunk {coord}, the level does not list it", where=source.spec.url)


@dataclass(frozen=True, slots=True, eq=False)
class Visits:
    """Entries that lie in one run of chunks, in path order.

    Parameters
    ----------
    chunks, fragments
        (E,) chunk, numbered within the run, and fragment of each.
    entries
        (E,) its number among those of all objects.
    owners
        (E,) its object, numbered within its block.
    cuts
        (b + 1,) those of the objects of block k are ``cuts[k]:cuts[k + 1]``.
    """

    chunks: IntArray
    fragments: IntArray
    entries: IntArray
    owners: IntArray
    cuts: IntArray


def route_paths(router: Router) -> list[Visits]:
    """Entries by run of chunks."""
    manifests, at = router.read()
    owners = manifests.owners
    cuts = manifests.offsets[router.cuts]  # in entries
    if len(router.cuts) > 2:
        owners = owners - np.repeat(router.cuts[:-1], np.diff(cuts))
    entries = np.arange(len(at))
    if len(router.bounds) > 2 or (at < 0).any():
        run = np.searchsorted(router.bounds, at, "right") - 1
        entries = np.argsort(run, kind="stable")[int((at < 0).sum()) :]
        ends = np.searchsorted(run[entries], np.arange(len(router.bounds)))
    else:
        ends = np.asarray([0, len(at)], np.int64)
    found = []
    for first, (start, stop) in zip(router.bounds.tolist(), pairwise(ends.tolist()), strict=False):
        mine = entries[start:stop]
        of_blocks = np.searchsorted(mine, cuts)
        found.append(Visits(at[mine] - first, manifests.fragments[mine], mine, owners[mine], of_blocks))
    return found


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PathReader:
    """What is read of the vertices that objects go through; shared by tasks.

    Parameters
    ----------
    source
        The level.
    fragments, vertices
        How cells are read.
    positions
        Whether positions are wanted.
    columns
        Attributes that are wanted.
    """

    source: Source
    fragments: CellSpec
    vertices: CellSpec
    positions: bool = False
    columns: tuple[Column, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """What some entries name.

    Parameters
    ----------
    entries, owners
        (E,) as of `Visits`.
    first, counts
        (E,) entry k names the values ``first[k]:first[k] + counts[k]``.
    values
        Positions, rows of the view, attributes, as far as wanted.
    """

    entries: IntArray
    owners: IntArray
    first: IntArray
    counts: IntArray
    values: Values


def read_paths(
    reader: PathReader,
    coords: ChunkCoords,
    counts: IntArray | None,
    visits: Visits,
    fragments: Sequence[Raw],
    vertices: Sequence[Raw],
    attributes: Sequence[tuple[Sequence[bool], Sequence[Raw]]],
    numbers: IntArray | None,
    kept: Sequence[Kept | None],
) -> list[Piece]:
    """What the objects of each block name in one run of chunks.

    Parameters
    ----------
    coords, counts
        (c, K) the chunks, and (c,) rows that the metadata promise for each, or None.
    fragments, vertices
        Encoded cells; of vertices none where neither positions are wanted nor the number of rows.
    attributes
        For each column: which chunks have a cell, and these cells, encoded.
    numbers
        (c, 2) first row in the view, and rows, of each chunk, where rows of the view are wanted; or None.
    kept
        Chosen rows of each chunk, where not all are; empty where all are of all.

    Raises
    ------
    FormatError
        If an entry names a fragment that its chunk does not have, or that a row.
    """
    values: Values = []
    if len(vertices):
        shape = reader.vertices.row_shape or ()
        positions, starts = read_row_run(reader.source, reader.vertices, coords, vertices, shape, counts)
        values += [positions] if reader.positions else []
    elif counts is not None:
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    else:
        assert numbers is not None
        starts = _starts(numbers, kept)
    index = read_fragment_run(reader.source, reader.fragments, coords, fragments, starts)
    table = row_table(starts, None if numbers is None else numbers[:, 0], kept)
    values += [] if numbers is None or table is None else [table]
    for column, (present, raws) in zip(reader.columns, attributes, strict=True):
        values.append(column_run(column, coords, starts, present, raws))
    try:
        named = index.at(visits.chunks, visits.fragments)
    except FormatError as error:
        raise FormatError(
            f"manifests of level {reader.source.level}: {error.message}", where=reader.source.spec.url
        ) from error
    lengths = index.fragments.counts[named]
    if (total := float(lengths.sum(dtype=np.float64))) > MAX_ROWS:
        text = f"{len(named)} entries of manifests name {total:.0f} rows of {len(coords)} chunks: they have not so many"
        raise FormatError(text, where=reader.source.spec.url)
    if len(visits.cuts) == 2 and not kept and not len(index.fragments.listed):
        # One block has all of it: values are put in order once, there.
        return [Piece(visits.entries, visits.owners, index.fragments.first[named], lengths, values)]
    rows = index.fragments.rows(named)
    if table is not None and kept:
        selected = table[rows] >= 0
        lengths = _sums(selected, lengths)
        rows = rows[selected]
    ends = np.concatenate([[0], np.cumsum(lengths)])
    return [
        Piece(
            visits.entries[start:stop],
            visits.owners[start:stop],
            ends[start:stop] - ends[start],
            lengths[start:stop],
            [np.take(of_all, rows[ends[start] : ends[stop]], axis=0) for of_all in values],
        )
        for start, stop in pairwise(visits.cuts.tolist())
    ]


def _starts(numbers: IntArray, kept: Sequence[Kept | None]) -> IntArray:
    """Where each chunk's rows begin among those of a run, all of them counted."""
    totals = numbers[:, 1].copy()
    for chunk, choice in enumerate(kept):
        if choice is not None:
            totals[chunk] = choice.total
    return np.concatenate([[0], np.cumsum(totals)]).astype(np.int64)


def _sums(values: np.ndarray[Any, Any], lengths: IntArray) -> IntArray:
    """Sums of neighbouring values, so many of each."""
    before = np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
    ends = np.cumsum(lengths)
    sums: IntArray = before[ends] - before[ends - lengths]
    return sums


def piece_of(pieces: Sequence[Piece], block: int) -> Piece:
    """Task: one block's piece."""
    return pieces[block]


@dataclass(frozen=True, slots=True, eq=False)
class Joined:
    """Objects of a block, one after another, each in path order.

    Parameters
    ----------
    values
        Of all rows.
    lengths
        (E,) how many rows each entry of the objects names.
    counts
        (o,) rows of each object.
    """

    values: Values
    lengths: IntArray
    counts: IntArray


def join_paths(pieces: Sequence[Piece], objects: int) -> Joined:
    """Put what runs of chunks gave, for so many objects, back into the order of their paths."""
    entries, owners, lengths = (
        np.concatenate([getattr(piece, name) for piece in pieces]) for name in ("entries", "owners", "counts")
    )
    sizes = [len(piece.values[0]) if piece.values else 0 for piece in pieces]
    before = np.cumsum([0, *sizes[:-1]])
    first = np.concatenate([piece.first + start for piece, start in zip(pieces, before.tolist(), strict=True)])
    values = [
        of_pieces[0] if len(pieces) == 1 else np.concatenate(of_pieces)
        for of_pieces in zip(*(piece.values for piece in pieces), strict=True)
    ]
    if len(pieces) > 1:
        order = np.argsort(entries, kind="stable")
        owners, lengths, first = owners[order], lengths[order], first[order]
    ends = np.cumsum(lengths)
    if not np.array_equal(first, ends - lengths) or sum(sizes) != (ends[-1] if len(ends) else 0):
        values = _gathered(values, first, ends, lengths)
    counts = np.bincount(owners, weights=lengths, minlength=objects).astype(np.int64)
    return Joined(values, lengths, counts)


def begins_of(joined: Joined, _: int) -> BoolArray:
    """Task: (M,) whether what an entry names begins at a row."""
    ends = np.cumsum(joined.lengths)
    begins = np.zeros(int(ends[-1]) if len(ends) else 0, np.bool_)
    begins[(ends - joined.lengths)[joined.lengths > 0]] = True
    return begins


def _gathered(values: Values, first: IntArray, ends: IntArray, lengths: IntArray) -> Values:
    """Rows that entries name, one after another, some at a time: row numbers of all would not fit in a cache."""
    total = int(ends[-1]) if len(ends) else 0
    out = [np.empty((total, *of_all.shape[1:]), of_all.dtype) for of_all in values]
    cuts = np.unique([0, *np.searchsorted(ends, np.arange(SLAB, total, SLAB)).tolist(), len(ends)])
    for start, stop in pairwise(cuts.tolist()):
        rows, at = ranges(first[start:stop], lengths[start:stop]), int(ends[start] - lengths[start])
        for of_all, into in zip(values, out, strict=True):
            np.take(of_all, rows, axis=0, out=into[at : at + len(rows)], mode="clip")  # none is outside: no buffer
    return out


def offsets_of(counts: Sequence[IntArray]) -> IntArray:
    """Task: (O + 1,) offsets of all objects, from the vertex counts of all blocks."""
    return np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class RunOfPaths:
    """Fragments of a run of chunks, and the row in the view of each of its rows (-1: not selected).

    Without a table fragments are ranges of rows of the view.
    """

    index: FragmentRun
    table: IntArray | None


Ends = tuple[IntArray, IntArray, IntArray, IntArray]
"""Bounds of the fragments of each chunk of a run, and of each fragment its `kernels.paths.fragment_ends`."""


def read_fragments_of_paths(
    reader: PathReader,
    coords: ChunkCoords,
    fragments: Sequence[Raw],
    numbers: IntArray,
    kept: Sequence[Kept | None],
) -> RunOfPaths:
    """Fragments of a run of chunks; parameters as of `read_paths`."""
    starts = _starts(numbers, kept)
    index = read_fragment_run(reader.source, reader.fragments, coords, fragments, starts)
    if len(index.fragments.listed) or kept:
        return RunOfPaths(index, row_table(starts, numbers[:, 0], kept))
    of_chunks = np.repeat(numbers[:, 0] - starts[:-1], np.diff(index.bounds))
    return RunOfPaths(replace(index, fragments=replace(index.fragments, first=index.fragments.first + of_chunks)), None)


def ends_of(run: RunOfPaths) -> Ends:
    """What of a run's fragments tells how they follow one another: all that need travel to who looks it up."""
    return (run.index.bounds, *fragment_ends(run.index.fragments, run.table))


@dataclass(frozen=True, slots=True, eq=False)
class Named:
    """What manifests make of the fragments of a run of chunks.

    Parameters
    ----------
    times
        (F,) how many objects' paths go through each, or None where it is one everywhere.
    joins
        (J, 2) edges that leave a fragment of the run for the next one of the object's path.
    sources
        (J,) the fragments that they leave, ascending.
    """

    times: IntArray | None
    joins: IntArray
    sources: IntArray


def name_fragments(router: Router, runs: Sequence[Ends]) -> list[Named]:
    """Look up in the manifests which fragments follow each other.

    The manifests alone tell. Stored records of edges between chunks say the same only where their writer wrote all of
    them, and they are a cell for each pair of neighbouring chunks, manifests one object for thousands of paths.
    """
    manifests, at = router.read()
    sizes = np.concatenate([np.diff(of_run[0]) for of_run in runs])
    bounds = np.concatenate([[0], np.cumsum(sizes)])
    counts, first, last = (np.concatenate([of_run[part] for of_run in runs]) for part in (1, 2, 3))
    wrong = np.flatnonzero((at >= 0) & ((manifests.fragments < 0) | (manifests.fragments >= np.append(sizes, 0)[at])))
    if len(wrong):
        entry = wrong[0]
        text = f"fragment {int(manifests.fragments[entry])} is named, the chunk has {int(sizes[at[entry]])}"
        raise router.failure(FormatError(text))
    # An entry of a chunk that is not in the view parts what is before it from what is after it.
    paths = manifests.owners + np.cumsum(at < 0)
    here = at >= 0
    fragment = bounds[at[here]] + manifests.fragments[here]
    times = np.bincount(fragment, minlength=len(counts))
    visited = counts[fragment] > 0  # a fragment without rows parts nothing
    fragment, paths = fragment[visited], paths[here][visited]
    follows = np.flatnonzero(paths[1:] == paths[:-1])
    source = fragment[follows]
    joins = np.stack([last[source], first[fragment[follows + 1]]], axis=1)
    joined = (joins >= 0).all(axis=1)
    joins, source = joins[joined], source[joined]
    order = np.argsort(source, kind="stable")
    joins, source = joins[order], source[order]
    of_runs = bounds[router.bounds]
    cuts = np.searchsorted(source, of_runs)
    once = bool((times == 1).all())
    return [
        Named(None if once else times[start:stop], joins[first_join:last_join], source[first_join:last_join] - start)
        for (start, stop), (first_join, last_join) in zip(
            pairwise(of_runs.tolist()), pairwise(cuts.tolist()), strict=True
        )
    ]


def path_edges(run: RunOfPaths, named: Named, blocks: IntArray) -> list[IntArray]:
    """(E, 2) edges of paths, as rows of the view, by the block that each begins in.

    Parameters
    ----------
    blocks
        (b + 1,) block k has the chunks ``blocks[k]:blocks[k + 1]`` of the run.
    """
    edges, counts = fragment_edges(run.index.fragments, run.table, named.times)
    ends = np.concatenate([[0], np.cumsum(counts)])
    # Behind those of the fragment, whatever blocks are.
    edges = np.insert(edges, ends[named.sources + 1], named.joins, axis=0)
    of_blocks = run.index.bounds[blocks]
    cuts = ends[of_blocks] + np.searchsorted(named.sources, of_blocks)
    return [edges[start:stop] for start, stop in pairwise(cuts.tolist())]
