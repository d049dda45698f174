"""Objects as paths through chunks, and which objects pass through the rows of a view."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from operator import getitem
from typing import Any

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from zarr_vectors_lazy.errors import FormatError, SelectionError, counted
from zarr_vectors_lazy.kernels.rows import Kept, fragment_edges, fragment_ends, row_table
from zarr_vectors_lazy.model.arrays import CellSpec
from zarr_vectors_lazy.model.levels import ChunkTable, distinct_chunks
from zarr_vectors_lazy.model.objects import MAX_ROWS, FragmentRun, Manifests, ObjectIndex, check_fragments, ranges
from zarr_vectors_lazy.plan.selection import Selection
from zarr_vectors_lazy.read.cells import (
    Requested,
    error_context,
    read_batch,
    read_fragment_run,
    read_fragments,
    read_row_run,
)
from zarr_vectors_lazy.read.columns import (
    ColumnCells,
    choice_graph,
    cut,
    fragment_spec,
    number_view,
    objects_of_chunks,
    refuse_unlisted,
    vertices_array,
)
from zarr_vectors_lazy.read.layers import (
    INTEGER,
    NAN,
    Blocks,
    BlockTasks,
    Each,
    Key,
    List,
    Of,
    Per,
    Task,
    TaskRef,
    UnfusedTask,
    array_over,
    blocks_of,
    blocks_over,
    cells_of,
    chunk_runs,
    cut_evenly,
    cut_runs,
    empty_array,
    make_array,
    read_graph,
    requested_of,
    task_over,
    tasks_over,
)
from zarr_vectors_lazy.read.level import LevelData, Source
from zarr_vectors_lazy.read.objects import read_ids, read_manifests
from zarr_vectors_lazy.read.rows import Block, Column, column_run
from zarr_vectors_lazy.read.view import FRAGMENTS, VERTICES, LevelView, Named
from zarr_vectors_lazy.settings import block_nbytes
from zarr_vectors_lazy.types import Array, BoolArray, ChunkCoords, IntArray, Raw

# The tasks that find out, for each row of a block, which object passes through it, and where along the object.

TRACK = 3  # columns of a track: row of the block, object id, place along all objects
APART = -(2**62)  # from the places of objects that are complete


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """Manifest entries that name fragments of one chunk.

    Parameters
    ----------
    fragments
        (E,) fragment of the chunk.
    owners
        (E,) id of the object.
    along
        (E,) place of the first vertex among those of all objects, one object after another; negative if the object
        does not have the required vertices.
    """

    fragments: IntArray
    owners: IntArray
    along: IntArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tracker:
    """Finds the objects of some chunks.

    Parameters
    ----------
    source, index
        The level and its manifests.
    coords
        (n, K) the chunks.
    whole
        Whether these are all chunks of the level.
    objects
        Ids of the relevant objects; None for all.
    ends
        Whether each object must have two vertices; places along others are negative.
    """

    source: Source
    index: ObjectIndex
    coords: ChunkCoords
    whole: bool
    objects: IntArray | None = None
    ends: bool = False


def read_lengths(source: Source, spec: CellSpec, wanted: Sequence[Requested]) -> list[IntArray]:
    """Rows of each fragment of some chunks, an array for each chunk."""
    raws = read_batch(source, wanted)
    return [
        read_fragments(source, spec, coord, raws[want.member, row]).counts.astype(np.int64)
        for want in wanted
        for row, coord in zip(want.rows, want.coords.tolist(), strict=True)
    ]


def find_tracks(
    tracker: Tracker, lengths: Sequence[Sequence[IntArray]] | None, elsewhere: CellSpec | None = None
) -> list[Track]:
    """Manifest entries by chunk.

    Parameters
    ----------
    lengths
        From `read_lengths`, for all chunks; None if places along objects do not matter and are all 0.
    elsewhere
        How fragment indexes of other chunks are read, if fragments that paths visit there may have no rows.

    Raises
    ------
    FormatError
        If manifests name a chunk or a fragment that does not exist.
    """
    manifests = read_manifests(tracker.source, tracker.index)
    ids = read_ids(tracker.source, tracker.index)[manifests.owners]
    table = ChunkTable(tracker.coords)
    at = table.find(manifests.chunks)
    if tracker.whole:
        refuse_unlisted(tracker.source.spec.url, manifests.chunks, at)
    mine = at >= 0 if tracker.objects is None else (at >= 0) & np.isin(ids, tracker.objects)
    chunk = np.where(mine, table.order[at], -1) if len(table) else at
    along = np.zeros(len(at), np.int64)
    if lengths is not None:
        along = _along(tracker, manifests, chunk, [of for run in lengths for of in run], elsewhere)
    order = np.argsort(chunk, kind="stable")
    bounds = np.searchsorted(chunk[order], np.arange(len(tracker.coords) + 1))
    runs = [order[start:stop] for start, stop in pairwise(bounds.tolist())]
    return [Track(manifests.fragments[run], ids[run], along[run]) for run in runs]


def _along(
    tracker: Tracker, manifests: Manifests, chunk: IntArray, lengths: Sequence[IntArray], elsewhere: CellSpec | None
) -> IntArray:
    """(E,) place of the first vertex of each manifest entry; entries whose ``chunk`` (E,) is negative are left out."""
    sizes = np.asarray([len(of_chunk) for of_chunk in lengths], np.int64)
    named = chunk >= 0
    with manifests_of(tracker.source):
        check_fragments(manifests.fragments, sizes[chunk], manifests.chunks, named)
    first = np.cumsum(sizes) - sizes
    every = np.concatenate([np.empty(0, np.int64), *lengths])
    counts = np.ones(len(chunk), np.int64)  # what is left out separates what is before it from what is after it
    counts[named] = every[first[chunk[named]] + manifests.fragments[named]]
    if elsewhere is not None:
        entries = np.flatnonzero(named & (counts > 0))
        gaps = np.flatnonzero((np.diff(entries) > 1) & (np.diff(manifests.owners[entries]) == 0))
        between = ranges(entries[gaps] + 1, np.diff(entries)[gaps] - 1)
        between = between[~named[between]]
        counts[between] = _have_rows(tracker.source, elsewhere, manifests, between)
    along = np.cumsum(counts) - counts
    if tracker.ends:
        owners = manifests.owners
        along[np.bincount(owners, weights=counts, minlength=len(manifests))[owners] != 2] += APART
    return along


def track_block(
    source: Source,
    spec: CellSpec,
    block: Block,
    tracks: Sequence[Track],
    raws: Sequence[Raw],
    kept: Sequence[Kept | None],
) -> IntArray:
    """(M, 3) visits of objects to selected rows of a block: the row, the object's id, the place along all objects.

    Parameters
    ----------
    block
        Its chunks; more than one only if counts are promised, or rows are chosen in all.
    raws
        Encoded fragment indexes.
    kept
        Chosen rows of each chunk; empty if all are selected.
    """
    parts = [np.empty((0, TRACK), np.int64)]
    start = 0
    chosen = kept or (None,) * len(tracks)
    for (coord, count), track, raw, choice in zip(block, tracks, raws, chosen, strict=True):
        index = read_fragments(source, spec, coord, raw)
        total = count if choice is None else choice.total
        with error_context(source, spec, coord):
            if total is not None:
                index.check(total)
            rows = index.rows(track.fragments)
        lengths = index.counts[track.fragments]
        first = np.cumsum(lengths) - lengths
        along = np.arange(len(rows)) + np.repeat(track.along - first, lengths)
        owners = np.repeat(track.owners, lengths)
        if choice is not None:
            rows = choice.renumber(rows)
        selected = rows >= 0
        parts.append(np.stack([rows[selected] + start, owners[selected], along[selected]], axis=1))
        start += (count or 0) if choice is None else len(choice)
    return np.concatenate(parts)


def taken_rows(tracks: IntArray, rows: int) -> IntArray:
    """Rows of a block that objects visit; raises FormatError if the block does not have that many."""
    found: IntArray = tracks[:, 0]
    if len(found) and int(found.max()) >= rows:
        raise FormatError(f"fragments refer to row {int(found.max())}, but the chunk has {rows}")
    return found


def owners_of(tracks: IntArray, rows: int) -> IntArray:
    """(rows,) id of the object of each row of a block.

    Raises
    ------
    SelectionError
        If a row belongs to several objects, or to none.
    """
    at = taken_rows(tracks, rows)
    counts = np.bincount(at, minlength=rows)
    if (counts > 1).any():
        raise SelectionError(
            f"{counted(int((counts > 1).sum()), 'vertex')} of several objects, which cannot be written"
        )
    if (counts == 0).any():
        raise SelectionError(f"{counted(int((counts == 0).sum()), 'vertex')} of no object, although others have one")
    owners = np.empty(rows, np.int64)
    owners[at] = tracks[:, 1]
    return owners


def least_owners(tracks: IntArray, rows: int | Array) -> IntArray:
    """(N,) smallest id of an object that passes through each row of a block; -1 if there is none.

    Parameters
    ----------
    rows
        The number of rows, or their positions.
    """
    none = np.iinfo(np.int64).max
    owners = np.full(rows if isinstance(rows, int) else len(rows), none)
    np.minimum.at(owners, tracks[:, 0], tracks[:, 1])
    owners[owners == none] = -1
    return owners


# Which objects pass through the rows of a view, block by block.


def _picked(found: str, bounds: IntArray, block: int) -> tuple[Any, ...]:
    """Inputs of a task that picks, of what one task found for all chunks, the part of a block."""
    return TaskRef((found,)), slice(*bounds[block : block + 2].tolist())


def tracks_array(view: LevelView, *, along: bool, ends: bool = False) -> da.Array:
    """(M, 3) int64: row of the block, id of an object that passes through it, and place along all objects.

    Blocks are those of `vertices_array`, their sizes unknown.

    Parameters
    ----------
    along
        Whether places matter: then all fragment indexes are read once more beforehand. Otherwise they are 0. Places are
        consecutive if no vertex between them is left out.
    ends
        Whether each object must have two vertices; places along others are negative.
    """
    index = view.data.object_index
    assert index is not None
    if not len(view):
        return empty_array((TRACK,), np.dtype(np.int64))
    spec = fragment_spec(view)
    token = tokenize(view.token, view.data.fragments.digest, along, ends)
    tracker = Tracker(
        source=view.source,
        index=index,
        coords=view.reads.coords.astype(np.int64),
        whole=view.rows is None,
        objects=view.selection.objects,
        ends=ends,
    )
    graphs, lengths = _lengths(view, spec, token) if along else ([], None)
    blocks, reads = cut(view)
    found, of_blocks = f"zv-tracks-of-level-{token}", tokenize(token, blocks.bounds)
    picked, name = f"zv-tracks-of-blocks-{of_blocks}", f"zv-tracks-{of_blocks}"
    elsewhere = _elsewhere(view.data, spec)
    whole = task_over(found, Task((found,), find_tracks, tracker, lengths, elsewhere), *graphs)
    picks = BlockTasks(getitem, partial(_picked, found, blocks.bounds), kind=UnfusedTask)
    parts = blocks_over(picked, picks, len(blocks), whole)
    cells = Of(partial(blocks.cells, FRAGMENTS))
    recipe = BlockTasks(track_block, (view.source, spec, Of(blocks.described), Each(picked), cells, Of(blocks.kept)))
    return array_over(name, recipe, [NAN] * len(blocks), (TRACK,), np.dtype(np.int64), parts, *reads)


def _lengths(view: LevelView, spec: CellSpec, token: str) -> tuple[list[HighLevelGraph], List]:
    """Read apart from all other cells of the chunks, which would wait in memory until every length is known."""
    arrays = [(FRAGMENTS, view.data.fragments)]
    name = f"zv-lengths-{token}"
    wanted = requested_of(view, arrays, chunk_runs(view, arrays))
    tasks = {
        (name, run): Task((name, run), read_lengths, view.source, spec, tuple(of_run))
        for run, of_run in enumerate(wanted)
    }
    return [tasks_over(name, tasks)], List(*map(TaskRef, tasks))


def _owner_inputs(tracks: str, vertices: str, sizes: tuple[float, ...], block: int) -> tuple[Any, ...]:
    """Inputs of the task that finds the object of each row of a block."""
    size = sizes[block]
    return TaskRef((tracks, block, 0)), TaskRef((vertices, block, 0)) if np.isnan(size) else int(size)


def owners_array(view: LevelView) -> da.Array:
    """(N,) int64: id of the object of each row, the smallest if several share it, -1 if there is none.

    Blocks are those of `vertices_array`. Computing it reads manifests and the fragment indexes of its
    chunks; positions only if chunk sizes are unknown.
    """
    tracks, vertices = tracks_array(view, along=False), vertices_array(view)
    if not len(view):
        return empty_array((), np.dtype(np.int64))
    sizes = vertices.chunks[0]
    name = f"zv-owners-{tokenize(tracks.name, vertices.name)}"
    recipe = BlockTasks(least_owners, partial(_owner_inputs, tracks.name, vertices.name, sizes))
    graphs = [tracks.dask, *([vertices.dask] if any(np.isnan(size) for size in sizes) else [])]
    return array_over(name, recipe, sizes, (), np.dtype(np.int64), *graphs)


# The tasks that follow objects through chunks: each run of chunks is read once, for all objects that pass through
# it.
#
# A manifest lists, in the order of an object's path, the fragments that it passes through: its entries. One task sorts
# the entries of all objects by run of chunks, one per run reads the rows that they name, and one per block of objects
# puts them back into path order.

Values = list[Array]
SLAB = 2**17  # rows that are put in order at a time


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Router:
    """Objects, and the chunks through which they pass.

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
        """Manifests of the objects, and (E,) the chunk of each entry, -1 if the view does not have it."""
        manifests = read_manifests(self.source, self.index, np.asarray(self.objects, np.int64))
        at = ChunkTable(self.coords).find(manifests.chunks)
        if self.whole:
            refuse_unlisted(self.source.spec.url, manifests.chunks, at)
        return manifests, at


@contextmanager
def manifests_of(source: Source) -> Iterator[None]:
    """Add to errors about manifests where these are."""
    try:
        yield
    except FormatError as error:
        raise FormatError(f"manifests of level {source.level}: {error.message}", where=source.spec.url) from error


@dataclass(frozen=True, slots=True, eq=False)
class Visits:
    """Entries that lie in one run of chunks, in path order.

    Parameters
    ----------
    chunks, fragments
        (E,) chunk, numbered within the run, and fragment of each.
    entries
        (E,) number of each entry among those of all objects.
    owners
        (E,) object of each entry, numbered within its block.
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


def route_run(router: Router) -> Visits:
    """Entries of the only run of chunks."""
    return route_paths(router)[0]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PathReader:
    """What is read about the vertices of objects; shared by tasks.

    Parameters
    ----------
    source
        The level.
    fragments, vertices
        How cells are read.
    positions
        Whether to read positions.
    columns
        Attributes to read.
    """

    source: Source
    fragments: CellSpec
    vertices: CellSpec
    positions: bool = False
    columns: tuple[Column, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """The rows that some entries name.

    Parameters
    ----------
    entries, owners
        (E,) as in `Visits`.
    first, counts
        (E,) entry k names the values ``first[k]:first[k] + counts[k]``.
    values
        Positions, rows of the view and attributes, as requested.
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
    """Read the part of each block's objects that lies in one run of chunks.

    Parameters
    ----------
    coords, counts
        (c, K) the chunks, and (c,) rows that the metadata promise for each, or None.
    fragments, vertices
        Encoded cells; no vertices if neither positions nor numbers of rows are needed.
    attributes
        For each column: which chunks have a cell, and these cells, encoded.
    numbers
        (c, 2) first row in the view, and number of rows, of each chunk, if rows of the view are requested; or None.
    kept
        Chosen rows of each chunk with unselected rows; empty if all rows of all chunks are selected.

    Raises
    ------
    FormatError
        If an entry names a fragment that its chunk does not have, or a fragment names such a row.
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
    with manifests_of(reader.source):
        named = index.at(visits.chunks, visits.fragments)
    lengths = index.fragments.counts[named]
    if (total := float(lengths.sum(dtype=np.float64))) > MAX_ROWS:
        text = f"{len(named)} entries of manifests refer to {total:.0f} rows, more than {len(coords)} chunks have"
        raise FormatError(text, where=reader.source.spec.url)
    if len(visits.cuts) == 2 and not kept and not len(index.fragments.listed):
        # One block has all of it, and its values are put in order there, once.
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
    """Where each chunk's rows begin among those of a run, counting all rows."""
    totals = numbers[:, 1].copy()
    for chunk, choice in enumerate(kept):
        if choice is not None:
            totals[chunk] = choice.total
    return np.concatenate([[0], np.cumsum(totals)]).astype(np.int64)


def _sums(values: Array, lengths: IntArray) -> IntArray:
    """Sums of neighbouring values, given how many belong to each."""
    before = np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
    ends = np.cumsum(lengths)
    sums: IntArray = before[ends] - before[ends - lengths]
    return sums


@dataclass(frozen=True, slots=True, eq=False)
class Joined:
    """Objects of a block, one after another, each in path order.

    Parameters
    ----------
    values
        Values of all rows.
    lengths
        (E,) how many rows each entry of the objects names.
    counts
        (o,) rows of each object.
    """

    values: Values
    lengths: IntArray
    counts: IntArray


def join_paths(pieces: Sequence[Piece], objects: int) -> Joined:
    """Put the pieces from runs of chunks, of a given number of objects, back into the order of their paths."""
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
    """Task: (M,) whether the rows of an entry begin at a row."""
    ends = np.cumsum(joined.lengths)
    begins = np.zeros(int(ends[-1]) if len(ends) else 0, np.bool_)
    begins[(ends - joined.lengths)[joined.lengths > 0]] = True
    return begins


def _gathered(values: Values, first: IntArray, ends: IntArray, lengths: IntArray) -> Values:
    """Rows that entries name, one after another, some at a time: the row numbers of all would not fit in a cache."""
    total = int(ends[-1]) if len(ends) else 0
    out = [np.empty((total, *of_all.shape[1:]), of_all.dtype) for of_all in values]
    cuts = np.unique([0, *np.searchsorted(ends, np.arange(SLAB, total, SLAB)).tolist(), len(ends)])
    for start, stop in pairwise(cuts.tolist()):
        rows, at = ranges(first[start:stop], lengths[start:stop]), int(ends[start] - lengths[start])
        for of_all, into in zip(values, out, strict=True):
            # none is out of range, so that no buffer is needed
            np.take(of_all, rows, axis=0, out=into[at : at + len(rows)], mode="clip")
    return out


def offsets_of(counts: Sequence[IntArray]) -> IntArray:
    """Task: (O + 1,) offsets of all objects, from the vertex counts of all blocks."""
    return np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class RunOfPaths:
    """Fragments of a run of chunks, and the row in the view of each of its rows (-1 if not selected).

    Without a table, fragments are ranges of rows of the view.
    """

    index: FragmentRun
    table: IntArray | None


Ends = tuple[IntArray, IntArray, IntArray, IntArray]
"""Bounds of the fragments of each chunk of a run, and of each fragment its `kernels.rows.fragment_ends`."""


def read_fragments_of_paths(
    reader: PathReader, coords: ChunkCoords, fragments: Sequence[Raw], numbers: IntArray, kept: Sequence[Kept | None]
) -> RunOfPaths:
    """Fragments of a run of chunks; parameters as for `read_paths`."""
    starts = _starts(numbers, kept)
    index = read_fragment_run(reader.source, reader.fragments, coords, fragments, starts)
    if len(index.fragments.listed) or kept:
        return RunOfPaths(index, row_table(starts, numbers[:, 0], kept))
    of_chunks = np.repeat(numbers[:, 0] - starts[:-1], np.diff(index.bounds))
    return RunOfPaths(replace(index, fragments=replace(index.fragments, first=index.fragments.first + of_chunks)), None)


def ends_of(run: RunOfPaths) -> Ends:
    """The part of a run's fragments that shows how they follow one another: all that the lookup needs."""
    return (run.index.bounds, *fragment_ends(run.index.fragments, run.table))


@dataclass(frozen=True, slots=True, eq=False)
class NamedFragments:
    """What manifests say about the fragments of a run of chunks.

    Parameters
    ----------
    times
        (F,) how many objects' paths pass through each, or None if it is always one.
    joins
        (J, 2) edges that leave a fragment of the run for the next one of the object's path.
    sources
        (J,) the fragments that they leave, ascending.
    """

    times: IntArray | None
    joins: IntArray
    sources: IntArray


def name_fragments(router: Router, runs: Sequence[Ends], elsewhere: CellSpec | None = None) -> list[NamedFragments]:
    """Look up in the manifests which fragments follow each other.

    Only the manifests are complete. Stored records of edges between chunks say the same only if their writer wrote all
    of them, and are a cell for each pair of neighbouring chunks, whereas manifests are one object for thousands of
    paths.
    """
    return follow_fragments(router.source, *router.read(), router.bounds, runs, elsewhere)


def follow_fragments(
    source: Source,
    manifests: Manifests,
    at: IntArray,
    chunks: IntArray,
    runs: Sequence[Ends],
    elsewhere: CellSpec | None = None,
) -> list[NamedFragments]:
    """The same for given manifests, (E,) the chunk of each entry, -1 for none, and (r + 1,) the runs' chunks.

    If ``elsewhere`` says how, fragment indexes of other chunks are read where an edge depends on whether what is named
    between its two vertices has rows.
    """
    sizes = np.concatenate([np.diff(of_run[0]) for of_run in runs])
    bounds = np.concatenate([[0], np.cumsum(sizes)])
    counts, first, last = (np.concatenate([of_run[part] for of_run in runs]) for part in (1, 2, 3))
    here = at >= 0
    with manifests_of(source):
        check_fragments(manifests.fragments, np.append(sizes, 0)[at], manifests.chunks, here)
    fragment = bounds[at[here]] + manifests.fragments[here]
    times = np.bincount(fragment, minlength=len(counts))
    visited = counts[fragment] > 0  # a fragment without rows separates nothing
    fragment, entries = fragment[visited], np.flatnonzero(here)[visited]
    # An entry in a chunk outside the view separates what is before it from what is after it.
    apart = ~here
    if elsewhere is not None and apart.any():
        unsure = (last[fragment[:-1]] >= 0) & (first[fragment[1:]] >= 0)
        unsure &= manifests.owners[entries[1:]] == manifests.owners[entries[:-1]]
        between = ranges(entries[:-1][unsure] + 1, np.diff(entries)[unsure] - 1)
        between = between[apart[between]]
        apart[between] = _have_rows(source, elsewhere, manifests, between)
    paths = (manifests.owners + np.cumsum(apart))[entries]
    follows = np.flatnonzero(paths[1:] == paths[:-1])
    left = fragment[follows]
    joins = np.stack([last[left], first[fragment[follows + 1]]], axis=1)
    joined = (joins >= 0).all(axis=1)
    joins, left = joins[joined], left[joined]
    order = np.argsort(left, kind="stable")
    joins, left = joins[order], left[order]
    of_runs = bounds[chunks]
    cuts = np.searchsorted(left, of_runs)
    once = bool((times == 1).all())
    return [
        NamedFragments(
            None if once else times[start:stop], joins[first_join:last_join], left[first_join:last_join] - start
        )
        for (start, stop), (first_join, last_join) in zip(
            pairwise(of_runs.tolist()), pairwise(cuts.tolist()), strict=True
        )
    ]


def _elsewhere(data: LevelData, spec: CellSpec) -> CellSpec | None:
    """How fragment indexes outside a view are read, if paths may visit fragments without rows there.

    A writer that empties a fragment no longer states that fragments tile their chunks.
    """
    return None if data.meta.fragments_tile else spec


def _have_rows(source: Source, spec: CellSpec, manifests: Manifests, entries: IntArray) -> BoolArray:
    """Whether the fragments that some entries name have rows, from the fragment indexes of their chunks."""
    if not len(entries):
        return np.empty(0, np.bool_)
    table, of = distinct_chunks(manifests.chunks[entries])
    lengths = read_lengths(source, spec, [Requested(FRAGMENTS, spec, tuple(range(len(table))), table.coords)])
    sizes, named = np.asarray([len(of_chunk) for of_chunk in lengths], np.int64), manifests.fragments[entries]
    with manifests_of(source):
        check_fragments(named, sizes[of], manifests.chunks[entries])
    found: BoolArray = np.concatenate(lengths)[(np.cumsum(sizes) - sizes)[of] + named] > 0
    return found


def path_edges(run: RunOfPaths, named: NamedFragments, blocks: IntArray) -> list[IntArray]:
    """(E, 2) edges of paths, as rows of the view, by the block in which each begins.

    Parameters
    ----------
    blocks
        (b + 1,) block k has the chunks ``blocks[k]:blocks[k + 1]`` of the run.
    """
    edges, counts = fragment_edges(run.index.fragments, run.table, named.times)
    ends = np.concatenate([[0], np.cumsum(counts)])
    # After those of the fragment, whatever the blocks are.
    edges = np.insert(edges, ends[named.sources + 1], named.joins, axis=0)
    of_blocks = run.index.bounds[blocks]
    cuts = ends[of_blocks] + np.searchsorted(named.sources, of_blocks)
    return [edges[start:stop] for start, stop in pairwise(cuts.tolist())]


# Objects of a view as Dask arrays: the rows of their paths, and their edges.

Shape = tuple[tuple[int, ...], np.dtype[Any]]
BEGINS: Shape = ((), np.dtype(np.bool_))


@dataclass(frozen=True, slots=True, eq=False)
class PathArrays:
    """The rows of objects, one object after another, each in path order.

    Parameters
    ----------
    offsets
        (o + 1,) object k has the rows ``offsets[k]:offsets[k + 1]``.
    begins
        (M,) whether an object's part of a fragment begins here.
    vertices, rows
        (M, D) positions, and (M,) rows of the view, if requested.
    attributes
        (M,) or (M, C) by name.
    """

    offsets: da.Array
    begins: da.Array
    vertices: da.Array | None
    rows: da.Array | None
    attributes: dict[str, da.Array]

    @property
    def positions(self) -> da.Array:
        """The vertices, which were requested."""
        assert self.vertices is not None
        return self.vertices


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Wish:
    """What is requested about the rows of objects: positions, rows of the view, attributes."""

    positions: bool
    rows: bool
    cells: dict[str, ColumnCells]

    def shapes(self, view: LevelView) -> list[Shape]:
        """Shape and dtype of one row of each, in this order."""
        spec = view.data.vertices.spec
        found: list[Shape] = [(spec.row_shape or (), spec.dtype)] if self.positions else []
        found += [((), INTEGER)] if self.rows else []
        return found + [(cells.column.row_shape, cells.column.dtype) for cells in self.cells.values()]


def path_arrays(
    view: LevelView,
    objects: IntArray,
    *,
    positions: bool = True,
    rows: bool = False,
    attributes: Sequence[str] = (),
    whole: bool = False,
) -> PathArrays:
    """Selected rows of objects; every cell is read once, whatever the number of blocks.

    Parameters
    ----------
    objects
        (o,) manifest rows, in the order to return.
    positions, rows, attributes
        What to return.
    whole
        Whether all objects should form one block, whatever their size.
    """
    view = view if rows else _of_objects(view, objects)
    cells = {name: ColumnCells.of(view, name) for name in attributes}
    wish = Wish(positions=positions, rows=rows, cells=cells)
    shapes = wish.shapes(view)
    chunks, entries = _visited(view, objects)
    if not len(chunks):
        arrays = [empty_array(*shape) for shape in (*shapes, BEGINS)]
        return _named(wish, arrays, da.zeros(len(objects) + 1, dtype=np.int64, chunks=-1))
    runs = cut_runs(view, chunks)
    cuts = np.asarray([0, len(objects)], np.int64) if whole else _cut_objects(view, entries, shapes)
    token = tokenize(view.token, view.data.fragments.digest, objects, cuts, positions, rows, list(attributes))
    read = _read(view, wish, runs, _router(view, objects, cuts, runs), token)
    return _joined(read, wish, shapes, sizes=np.diff(cuts), runs=len(runs), token=token)


def path_edges_array(view: LevelView) -> da.Array:
    """Edges between consecutive vertices of each object; (E, 2) int64, in the block of their first vertex.

    Inside fragments they follow from the fragments, between them from the manifests (`name_fragments`).
    """
    if view.data.object_index is None or not len(view):
        return empty_array((2,), INTEGER)
    # Not only the selected objects: others may pass through the same rows if objects share fragments.
    objects = np.arange(len(view.manifests)) if view.rows is None else objects_of_chunks(view)
    if not len(objects):
        return empty_array((2,), INTEGER)
    reader = PathReader(source=view.source, fragments=fragment_spec(view), vertices=view.data.vertices.spec)
    rows, row_graph = number_view(view)
    choice, chosen = choice_graph(view)
    cuts = np.searchsorted(view.bounds, cut_runs(view, np.arange(len(view))).bounds)
    runs = blocks_of(view, np.unique(view.bounds[cuts]), choice=choice)  # of whole blocks
    token = tokenize(view.token, view.data.fragments.digest, view.bounds)
    read, named, name = f"zv-path-fragments-{token}", f"zv-path-named-{token}", f"zv-path-edges-{token}"
    spans = Of(partial(runs.spans, rows))
    inputs = (reader, Of(runs.coords_of), Of(partial(runs.cells, FRAGMENTS)), spans, Of(runs.kept))
    graphs = [read_graph(view.reads), row_graph, *chosen]
    graph = blocks_over(read, BlockTasks(read_fragments_of_paths, inputs), len(runs), *graphs)
    ends = f"{read}-ends"
    graph = blocks_over(ends, BlockTasks(ends_of, (Each(read),)), len(runs), graph)
    every = List(*(TaskRef((ends, run)) for run in range(len(runs))))
    router = _router(view, objects, np.asarray([0, len(objects)], np.int64), runs)
    graph = task_over(
        named, Task((named,), name_fragments, router, every, _elsewhere(view.data, reader.fragments)), graph
    )
    picks = BlockTasks(getitem, (TaskRef((named,)), Per(range(len(runs)))))
    graph = blocks_over(f"{named}-runs", picks, len(runs), graph)
    first = np.searchsorted(view.bounds, runs.bounds)
    inner = [view.bounds[start : stop + 1] - view.bounds[start] for start, stop in pairwise(first.tolist())]
    edges = BlockTasks(path_edges, (Each(read), Each(f"{named}-runs"), Per(inner)))
    graph = blocks_over(f"{name}-runs", edges, len(runs), graph)
    run_of = np.repeat(np.arange(len(runs)), np.diff(first))
    places = [(int(run), block - int(first[run])) for block, run in enumerate(run_of)]
    refs = Per([TaskRef((f"{name}-runs", run)) for run, _ in places])
    picks = BlockTasks(getitem, (refs, Per([at for _, at in places])))
    return array_over(name, picks, [NAN] * len(places), (2,), INTEGER, graph)


def _of_objects(view: LevelView, objects: IntArray) -> LevelView:
    """Return a view of the same chunks with all rows if only objects were selected, and all of these are given.

    The rows of objects are selected with them.
    """
    selection = view.selection
    ids = selection.objects
    if ids is None or view.touched or selection.regions or selection.conditions:
        return view
    if not np.isin(view.object_ids[objects], ids).all():
        return view
    return view.narrowed(np.ones(len(view), np.bool_), selection=Selection())


def _visited(view: LevelView, objects: IntArray) -> tuple[IntArray, IntArray]:
    """Chunks of the view through which objects pass, ascending, and (o,) how often each object enters one."""
    if not len(objects) or (not len(view) and view.rows is not None):  # manifests may name chunks that the level lacks
        return np.empty(0, np.int64), np.zeros(len(objects), np.int64)
    manifests = view.manifests_of(objects)
    at = view.table.find(manifests.chunks)
    if view.rows is None:
        refuse_unlisted(view.source.spec.url, manifests.chunks, at)
    return np.flatnonzero(np.bincount(at[at >= 0], minlength=len(view))), np.diff(manifests.offsets)


def _cut_objects(view: LevelView, entries: IntArray, shapes: Sequence[Shape]) -> IntArray:
    """Bounds of the blocks of objects: up to ``array.chunk-size`` each, or as many as the chunks have."""
    if isinstance(view.chunking, int):
        blocks = len(view.bounds) - 1
    else:
        row = sum(dtype.itemsize * int(np.prod(shape, dtype=np.int64)) for shape, dtype in shapes) or 8
        share = float(entries.sum()) / max(len(view.manifests.fragments) if view.has_manifests else entries.sum(), 1)
        rows = view.estimated_rows * len(view.data.vertices.chunks) * min(share, 1.0)
        blocks = max(1, int(np.ceil(rows * row / block_nbytes())))
    return cut_evenly(entries + 1, min(blocks, len(entries)))


def _router(view: LevelView, objects: IntArray, cuts: IntArray, runs: Blocks) -> Router:
    index = view.data.object_index
    assert index is not None
    is_run = len(objects) > 1 and bool((np.diff(objects) == 1).all())
    return Router(
        source=view.source,
        index=index,
        objects=range(int(objects[0]), int(objects[-1]) + 1) if is_run else objects,
        cuts=cuts,
        coords=runs.coords if runs.chunks is None else runs.coords[runs.chunks],
        bounds=runs.bounds,
        whole=view.rows is None,
    )


def _read(view: LevelView, wish: Wish, runs: Blocks, router: Router, token: str) -> Named:
    """Layer of what each run contributes to the blocks of objects."""
    every, name = f"zv-route-{token}", f"zv-path-runs-{token}"
    reader = PathReader(
        source=view.source,
        fragments=fragment_spec(view),
        vertices=view.data.vertices.spec,
        positions=wish.positions,
        columns=tuple(cells.column for cells in wish.cells.values()),
    )
    choice, chosen = choice_graph(view)
    runs = replace(runs, choice=choice)
    graphs = [read_graph(view.reads), *chosen]
    # One run needs no task of its own for its entries, which takes as long as reading one object.
    visits: Any = Task(None, route_run, router)
    if len(runs) > 1:
        picks = BlockTasks(getitem, (TaskRef((every,)), Per(range(len(runs)))))
        graphs.append(
            blocks_over(f"{every}-runs", picks, len(runs), task_over(every, Task((every,), route_paths, router)))
        )
        visits = Each(f"{every}-runs")
    numbers: Any = None
    if wish.rows:
        rows, graph = number_view(view)
        numbers = Of(partial(runs.spans, rows))
        graphs.append(graph)
    view.vertex_member()
    counted = wish.positions or (not wish.rows and view.stored_counts is None)  # the rows of chunks must be known
    inputs = (
        reader,
        Of(runs.coords_of),
        Of(runs.counts_of),
        visits,
        Of(partial(runs.cells, FRAGMENTS)),
        Of(partial(runs.cells, VERTICES)) if counted else (),
        Of(partial(_attribute_cells, runs, [cells[1:] for cells in wish.cells.values()])),
        numbers,
        Of(runs.kept),
    )
    return Named(name, blocks_over(name, BlockTasks(read_paths, inputs), len(runs), *graphs))


def _attribute_cells(runs: Blocks, members: Sequence[tuple[str, BoolArray]], run: int) -> List:
    """For each attribute, which chunks of a run have a cell, and the cells, as `read_paths` takes them."""
    chunks, found = runs.of(run), []
    for member, present in members:
        here = present[chunks]
        found.append(List(here.tolist(), cells_of(runs.reads, member, chunks[here]) if here.any() else []))
    return List(*found)


def _joined(read: Named, wish: Wish, shapes: Sequence[Shape], *, sizes: IntArray, runs: int, token: str) -> PathArrays:
    """Arrays from what runs contribute to the blocks of objects, with ``sizes`` objects each."""
    blocks, joined = len(sizes), f"zv-path-blocks-{token}"
    tasks: dict[Key, Task] = {}
    for block in range(blocks):
        # A separate task picks a run's contribution to a block: otherwise all of it would wait for the last block.
        parts = [
            Task((f"{joined}-parts", run, block), getitem, TaskRef((read.name, run)), block) for run in range(runs)
        ]
        tasks |= {part.key: part for part in parts}
        key = (joined, block)
        tasks[key] = Task(key, join_paths, List(*(TaskRef(part.key) for part in parts)), int(sizes[block]))
    graph = tasks_over(joined, tasks, read.graph)
    arrays = []
    for item, (shape, dtype) in enumerate((*shapes, BEGINS)):
        name = f"zv-path-{item}-{token}"
        get = _value if item < len(shapes) else begins_of
        recipe = BlockTasks(get, (Each(joined), item))
        arrays.append(array_over(name, recipe, [NAN] * blocks, shape, dtype, graph))
    counts, offsets = f"zv-path-counts-{token}", f"zv-path-offsets-{token}"
    graph = blocks_over(counts, BlockTasks(getattr, (Each(joined), "counts")), blocks, graph)  # only they travel
    last_key: Key = (offsets, 0)
    last = Task(last_key, offsets_of, List(*(TaskRef((counts, block)) for block in range(blocks))))
    graph = tasks_over(offsets, {last_key: last}, graph)
    return _named(wish, arrays, make_array(graph, offsets, [int(sizes.sum()) + 1], (), INTEGER))


def _named(wish: Wish, arrays: Sequence[da.Array], offsets: da.Array) -> PathArrays:
    """Name arrays that come in the order of `Wish.shapes`, with `BEGINS` last."""
    left = list(arrays)
    vertices = left.pop(0) if wish.positions else None
    rows = left.pop(0) if wish.rows else None
    return PathArrays(offsets, left[-1], vertices, rows, dict(zip(wish.cells, left, strict=False)))


def _value(joined: Joined, at: int) -> Array:
    return joined.values[at]
