"""Layers that choose and count the rows of chunks."""

from dataclasses import dataclass

import numpy as np

from zarr_vectors_lazy.access.level import Source
from zarr_vectors_lazy.access.rows import Chooser, choose_rows, find_hits, find_owned
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.graph.layers import GraphNode, Key, List, Needs, RecipeLayer, Task, TaskRef, task_over
from zarr_vectors_lazy.graph.reads import cell_name
from zarr_vectors_lazy.graph.values import tested_graph
from zarr_vectors_lazy.graph.view import FRAGMENTS, HEADS, VERTICES, LevelView, Named
from zarr_vectors_lazy.model.arrays import CellSpec
from zarr_vectors_lazy.types import BoolArray, ChunkCoords, IntArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChoiceRecipe:
    """Makes the tasks that choose rows, one a chunk."""

    chooser: Chooser
    reads: str
    coords: ChunkCoords
    counts: IntArray | None
    masked: BoolArray
    owned: str | None
    values: tuple[str, ...]

    def task(self, key: Key, block: int) -> GraphNode:
        """Task of one chunk."""
        count = None if self.counts is None else int(self.counts[block])
        masked, coord = bool(self.masked[block]), tuple(self.coords[block].tolist())
        vertices = TaskRef((cell_name(self.reads, VERTICES), block)) if masked else None
        head = (
            TaskRef((cell_name(self.reads, HEADS), block)) if count is None and not masked and not self.values else None
        )
        fragments = None if self.owned is None else TaskRef((cell_name(self.reads, FRAGMENTS), block))
        return Task(
            key,
            choose_rows,
            self.chooser.of(coord),
            coord,
            count,
            vertices,
            head,
            fragments,
            None if self.owned is None else TaskRef((self.owned,)),
            List(*(TaskRef((name, block)) for name in self.values)),
            masked,
        )

    def needs(self, blocks: BoolArray) -> Needs | None:
        """Cells where a box cuts, heads where nothing else tells the number of rows, values for conditions."""
        if self.owned is not None:
            return None
        counted = self.counts is not None or bool(self.values)
        cells, heads = cell_name(self.reads, VERTICES), cell_name(self.reads, HEADS)
        values = dict.fromkeys(self.values, blocks)
        return {cells: blocks & self.masked, heads: blocks & (~self.masked & (not counted)), **values}


def choice_graph(view: LevelView) -> Named | None:
    """Layer of the chosen rows of each chunk (`kernels.rows.Kept`); None where every row is selected."""
    if not view.filters.any():
        return None
    selection = view.selection
    view.vertex_member()
    view.member(HEADS, view.data.vertices, head=True)
    graphs = [view.read_graph()]
    fragments: CellSpec | None = None
    owned: str | None = None
    if view.by_object:
        fragments = fragment_spec(view)
        owner = _owned_graph(view)
        owned = owner.name
        graphs.append(owner.graph)
    values = []
    for condition in selection.conditions:
        for name in condition.names:
            layer = tested_graph(view, name, condition)
            values.append(layer.name)
            graphs.append(layer.graph)
    recipe = ChoiceRecipe(
        chooser=Chooser(
            source=view.source,
            vertices=view.data.vertices.spec,
            fragments=fragments,
            regions=selection.regions,
            conditions=selection.conditions,
            placement=view.data.placement,
        ),
        reads=view.reads.name,
        coords=view.reads.coords,
        counts=view.stored_counts,
        masked=~view.inside if selection.regions else np.zeros(len(view), np.bool_),
        owned=owned,
        values=tuple(values),
    )
    name = f"zv-choose-{view.token}"
    return Named(name, view.graph(RecipeLayer(name, recipe, len(view)), *graphs))


def fragment_spec(view: LevelView) -> CellSpec:
    """Fragment indexes of the view's chunks, which must all be there (spec 0.9, 5.2)."""
    member = view.fragment_member()
    if not member.present.all():
        coord = view.table.coords[~member.present][0].tolist()
        text = f"chunk {coord} has vertices and no fragment index is listed for it"
        raise FormatError(text + view.data.state, where=view.data.url)
    return member.spec


def _owned_graph(view: LevelView) -> Named:
    """One task: the fragments of the selected objects, by chunk."""
    index = view.data.object_index
    assert index is not None
    graphs = [view.read_graph()]
    per_view = []
    for touched in view.touched:
        layer = _hits_graph(touched)
        graphs.append(layer.graph)
        per_view.append(List(*(TaskRef((layer.name, chunk)) for chunk in range(len(touched)))))
    name = f"zv-owned-{view.token}"
    task = Task((name,), find_owned, view.source, index, view.selection.objects, List(*per_view))
    return Named(name, task_over(name, task, *graphs))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HitRecipe:
    """Makes the tasks that find fragments with a selected row, one a chunk."""

    source: Source
    fragments: CellSpec
    reads: str
    coords: ChunkCoords
    choice: str | None
    filters: BoolArray

    def task(self, key: Key, block: int) -> GraphNode:
        """Task of one chunk."""
        kept = TaskRef((self.choice, block)) if self.choice is not None and self.filters[block] else None
        coord = tuple(self.coords[block].tolist())
        return Task(
            key, find_hits, self.source, self.fragments, coord, TaskRef((cell_name(self.reads, FRAGMENTS), block)), kept
        )


def _hits_graph(touched: LevelView) -> Named:
    """Layer of the fragments that have a row in a view, by chunk."""
    fragments = fragment_spec(touched)
    choice = choice_graph(touched)
    recipe = HitRecipe(
        source=touched.source,
        fragments=fragments,
        reads=touched.reads.name,
        coords=touched.reads.coords,
        choice=None if choice is None else choice.name,
        filters=touched.filters,
    )
    name = f"zv-hit-{touched.token}"
    graphs = [touched.read_graph(), *([] if choice is None else [choice.graph])]
    return Named(name, touched.graph(RecipeLayer(name, recipe, len(touched)), *graphs))
