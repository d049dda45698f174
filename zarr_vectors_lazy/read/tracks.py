"""Which objects go through the rows of a view, block by block."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from operator import getitem
from typing import Any

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from zarr_vectors_lazy.errors import FormatError, SelectionError
from zarr_vectors_lazy.kernels.rows import Kept
from zarr_vectors_lazy.model.arrays import CellSpec
from zarr_vectors_lazy.model.levels import ChunkTable
from zarr_vectors_lazy.model.objects import Manifests, ObjectIndex
from zarr_vectors_lazy.read.batches import NAN, array_over, chunk_runs, empty_array, requested_of
from zarr_vectors_lazy.read.cells import Requested, error_context, read_batch, read_fragments
from zarr_vectors_lazy.read.choose import fragment_spec
from zarr_vectors_lazy.read.columns import cut, refuse_unlisted, vertices_array
from zarr_vectors_lazy.read.layers import (
    BlockTasks,
    Each,
    List,
    Of,
    Task,
    TaskRef,
    UnfusedTask,
    blocks_over,
    task_over,
    tasks_over,
)
from zarr_vectors_lazy.read.level import Source
from zarr_vectors_lazy.read.objects import read_ids, read_manifests
from zarr_vectors_lazy.read.rows import Block
from zarr_vectors_lazy.read.view import FRAGMENTS, LevelView
from zarr_vectors_lazy.types import ChunkCoords, IntArray, Raw

# What tasks run to tell of each row of a block which object goes through it, and where along the object that is.

TRACK = 3  # columns of a track: row of the block, object id, place along all objects
APART = -(2**62)  # from the places of objects that are as they must be


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
        (E,) place of the first vertex among those of all objects, one object after another; negative where the object
        has not the vertices that it must have.
    """

    fragments: IntArray
    owners: IntArray
    along: IntArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tracker:
    """Where the objects of some chunks are found.

    Parameters
    ----------
    source, index
        The level and its manifests.
    coords
        (n, K) the chunks.
    whole
        Whether these are all chunks of the level.
    objects
        Ids of those that matter; None for all.
    ends
        Whether each object must have two vertices: places along others are negative.
    """

    source: Source
    index: ObjectIndex
    coords: ChunkCoords
    whole: bool
    objects: IntArray | None = None
    ends: bool = False


def read_lengths(source: Source, spec: CellSpec, wanted: Sequence[Requested]) -> list[IntArray]:
    """Rows of each fragment of some chunks, an array a chunk."""
    raws = read_batch(source, wanted)
    return [
        read_fragments(source, spec, coord, raws[want.member, row]).counts.astype(np.int64)
        for want in wanted
        for row, coord in zip(want.rows, want.coords.tolist(), strict=True)
    ]


def find_tracks(tracker: Tracker, lengths: Sequence[Sequence[IntArray]] | None) -> list[Track]:
    """Manifest entries by chunk.

    Parameters
    ----------
    lengths
        Of `read_lengths`, those of all chunks; None where places along objects do not matter: all are 0.

    Raises
    ------
    FormatError
        If manifests name a chunk or a fragment that is not there.
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
        along = _along(tracker, manifests, chunk, [of for run in lengths for of in run])
    order = np.argsort(chunk, kind="stable")
    bounds = np.searchsorted(chunk[order], np.arange(len(tracker.coords) + 1))
    runs = [order[start:stop] for start, stop in pairwise(bounds.tolist())]
    return [Track(manifests.fragments[run], ids[run], along[run]) for run in runs]


def _along(tracker: Tracker, manifests: Manifests, chunk: IntArray, lengths: Sequence[IntArray]) -> IntArray:
    """(E,) place of the first vertex of each manifest entry; those whose ``chunk`` (E,) is negative are left out."""
    sizes = np.asarray([len(of_chunk) for of_chunk in lengths], np.int64)
    named = chunk >= 0
    wrong = np.flatnonzero(named & ((manifests.fragments < 0) | (manifests.fragments >= sizes[chunk])))
    if len(wrong):
        entry = int(wrong[0])
        raise FormatError(
            f"fragment {manifests.fragments[entry]} of chunk {manifests.chunks[entry].tolist()} is named, the chunk "
            f"has {sizes[chunk[entry]]}",
            where=tracker.source.spec.url,
        )
    first = np.cumsum(sizes) - sizes
    every = np.concatenate([np.empty(0, np.int64), *lengths])
    counts = np.ones(len(chunk), np.int64)  # what is left out parts what is before it from what is after it
    counts[named] = every[first[chunk[named]] + manifests.fragments[named]]
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
        Its chunks; more than one only where counts are promised or all are chosen from.
    raws
        Encoded fragment indexes.
    kept
        Chosen rows of each chunk; empty where all are selected.
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
    """Rows of a block that objects visit; raises FormatError if it has not so many."""
    found: IntArray = tracks[:, 0]
    if len(found) and int(found.max()) >= rows:
        raise FormatError(f"fragments name row {int(found.max())}, the chunk has {rows}")
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
        raise SelectionError(f"{int((counts > 1).sum())} vertices belong to several objects, which a writer cannot say")
    if (counts == 0).any():
        raise SelectionError(f"{int((counts == 0).sum())} vertices belong to no object; others do")
    owners = np.empty(rows, np.int64)
    owners[at] = tracks[:, 1]
    return owners


def least_owners(tracks: IntArray, rows: int | np.ndarray[Any, Any]) -> IntArray:
    """(N,) least id of an object that goes through each row of a block; -1 where none does.

    Parameters
    ----------
    rows
        How many there are, or their positions.
    """
    none = np.iinfo(np.int64).max
    owners = np.full(rows if isinstance(rows, int) else len(rows), none)
    np.minimum.at(owners, tracks[:, 0], tracks[:, 1])
    owners[owners == none] = -1
    return owners


# Which objects go through the rows of a view, block by block.


def _picked(found: str, bounds: IntArray, block: int) -> tuple[Any, ...]:
    """What a task is given that picks of what one task found for all chunks that of a block."""
    return TaskRef((found,)), slice(*bounds[block : block + 2].tolist())


def tracks_array(view: LevelView, *, along: bool, ends: bool = False) -> da.Array:
    """(M, 3) int64: row of the block, id of an object that goes through it, and place along all objects.

    Blocks are those of `vertices_array`, their sizes unknown.

    Parameters
    ----------
    along
        Whether places matter: all fragment indexes are then read beforehand, once more. Else they are 0. Places follow
        one another where no vertex between them is left out.
    ends
        Whether each object must have two vertices: places along others are negative.
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
    whole = task_over(found, Task((found,), find_tracks, tracker, lengths), *graphs)
    picks = BlockTasks(getitem, partial(_picked, found, blocks.bounds), kind=UnfusedTask)
    parts = blocks_over(picked, picks, len(blocks), whole)
    cells = Of(partial(blocks.cells, FRAGMENTS))
    recipe = BlockTasks(track_block, (view.source, spec, Of(blocks.described), Each(picked), cells, Of(blocks.kept)))
    return array_over(name, recipe, [NAN] * len(blocks), (TRACK,), np.dtype(np.int64), parts, *reads)


def _lengths(view: LevelView, spec: CellSpec, token: str) -> tuple[list[HighLevelGraph], List]:
    """Read apart from all other cells of the chunks: those would wait in memory until every length is known."""
    arrays = [(FRAGMENTS, view.data.fragments)]
    name = f"zv-lengths-{token}"
    wanted = requested_of(view, arrays, chunk_runs(view, arrays))
    tasks = {
        (name, run): Task((name, run), read_lengths, view.source, spec, tuple(of_run))
        for run, of_run in enumerate(wanted)
    }
    return [tasks_over(name, tasks)], List(*map(TaskRef, tasks))


def _owner_inputs(tracks: str, vertices: str, sizes: tuple[float, ...], block: int) -> tuple[Any, ...]:
    """What the task is given that tells the object of each row of a block."""
    size = sizes[block]
    return TaskRef((tracks, block, 0)), TaskRef((vertices, block, 0)) if np.isnan(size) else int(size)


def owners_array(view: LevelView) -> da.Array:
    """(N,) int64: id of the object of each row, the least where several share it, -1 where there is none.

    Blocks are those of `vertices_array`. Manifests are read when it is computed, and fragment indexes of its
    chunks; positions only where chunk sizes are unknown.
    """
    tracks, vertices = tracks_array(view, along=False), vertices_array(view)
    if not len(view):
        return empty_array((), np.dtype(np.int64))
    sizes = vertices.chunks[0]
    name = f"zv-owners-{tokenize(tracks.name, vertices.name)}"
    recipe = BlockTasks(least_owners, partial(_owner_inputs, tracks.name, vertices.name, sizes))
    graphs = [tracks.dask, *([vertices.dask] if any(np.isnan(size) for size in sizes) else [])]
    return array_over(name, recipe, sizes, (), np.dtype(np.int64), *graphs)
