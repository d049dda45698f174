"""Which objects go through the rows of a view, block by block."""

from dataclasses import dataclass
from operator import getitem

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer

from zarr_vectors_lazy.access.level import Source
from zarr_vectors_lazy.access.tracks import TRACK, Tracker, find_tracks, least_owners, read_lengths, track_block
from zarr_vectors_lazy.graph.array import NAN, empty_array, make_array
from zarr_vectors_lazy.graph.batches import chunk_runs, wanted_of
from zarr_vectors_lazy.graph.choose import fragment_spec
from zarr_vectors_lazy.graph.columns import Blocks, cut, vertices_array
from zarr_vectors_lazy.graph.layers import (
    GraphNode,
    Key,
    List,
    RecipeLayer,
    Task,
    TaskRef,
    UnfusedTask,
    layer_over,
    task_over,
)
from zarr_vectors_lazy.graph.view import FRAGMENTS, LevelView
from zarr_vectors_lazy.model.arrays import CellSpec
from zarr_vectors_lazy.types import IntArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PickRecipe:
    """Makes the tasks that pick what one task found for the chunks of a block."""

    found: str
    bounds: IntArray

    def task(self, key: Key, block: int) -> GraphNode:
        """Task of one block."""
        return UnfusedTask(key, getitem, TaskRef((self.found,)), slice(*self.bounds[block : block + 2].tolist()))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrackRecipe:
    """Makes the tasks that give the tracks of a block."""

    source: Source
    spec: CellSpec
    blocks: Blocks
    tracks: str

    def task(self, key: Key, block: int) -> GraphNode:
        """Task of one block."""
        cells = self.blocks.cells(FRAGMENTS, block)
        return Task(
            key,
            track_block,
            self.source,
            self.spec,
            self.blocks.described(block),
            TaskRef((self.tracks, block)),
            cells if len(self.blocks.chunks(block)) > 1 else List(cells),
            self.blocks.kept(block),
        )


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
    parts = view.graph(RecipeLayer(picked, PickRecipe(found=found, bounds=blocks.bounds), len(blocks)), whole)
    recipe = TrackRecipe(source=view.source, spec=spec, blocks=blocks, tracks=picked)
    graph = view.graph(RecipeLayer(name, recipe, len(blocks), 1), parts, *reads)
    return make_array(graph, name, [NAN] * len(blocks), (TRACK,), np.dtype(np.int64))


def _lengths(view: LevelView, spec: CellSpec, token: str) -> tuple[list[HighLevelGraph], List]:
    """Read apart from all other cells of the chunks: those would wait in memory until every length is known."""
    arrays = [(FRAGMENTS, view.data.fragments)]
    name = f"zv-lengths-{token}"
    wanted = wanted_of(view, arrays, chunk_runs(view, arrays))
    tasks = {
        (name, run): Task((name, run), read_lengths, view.source, spec, tuple(of_run))
        for run, of_run in enumerate(wanted)
    }
    return [layer_over(name, MaterializedLayer(tasks), ())], List(*map(TaskRef, tasks))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OwnerRecipe:
    """Makes the tasks that tell the object of each row of a block."""

    tracks: str
    vertices: str
    sizes: tuple[float, ...]

    def task(self, key: Key, block: int) -> GraphNode:
        """Task of one block."""
        size = self.sizes[block]
        rows = TaskRef((self.vertices, block, 0)) if np.isnan(size) else int(size)
        return Task(key, least_owners, TaskRef((self.tracks, block, 0)), rows)


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
    recipe = OwnerRecipe(tracks=tracks.name, vertices=vertices.name, sizes=sizes)
    graphs = [tracks.dask, *([vertices.dask] if any(np.isnan(size) for size in sizes) else [])]
    return make_array(view.graph(RecipeLayer(name, recipe, len(sizes)), *graphs), name, sizes, (), np.dtype(np.int64))
