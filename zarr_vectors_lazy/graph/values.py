"""How attributes are read, and layers of their values before any selection, for conditions on them."""

from dataclasses import dataclass, replace

import numpy as np
from dask.base import tokenize

from zarr_vectors_lazy.access.attributes import Column, column_values, missing_value, nullable
from zarr_vectors_lazy.access.probe import vertex_row_shape
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.graph.layers import GraphNode, Key, Needs, RecipeLayer, Task, TaskRef
from zarr_vectors_lazy.graph.reads import cell_name
from zarr_vectors_lazy.graph.view import HEADS, LevelView, Named
from zarr_vectors_lazy.model.arrays import CellArray, Dictionary, integers_with_missing
from zarr_vectors_lazy.plan.conditions import Test
from zarr_vectors_lazy.plan.selection import Condition
from zarr_vectors_lazy.types import BoolArray, ChunkCoords, IntArray

PATHS = {"polyline", "streamline"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WholeValueRecipe:
    """Makes the tasks that decode an attribute, one a chunk."""

    column: Column
    reads: str
    member: str
    coords: ChunkCoords
    counts: IntArray | None
    present: BoolArray

    def task(self, key: Key, block: int) -> GraphNode:
        """Task of one chunk."""
        count = None if self.counts is None else int(self.counts[block])
        listed = bool(self.present[block])
        raw = TaskRef((cell_name(self.reads, self.member), block)) if listed else None
        counted = count is not None or (listed and not self.column.sized)
        head = None if counted else TaskRef((cell_name(self.reads, HEADS), block))
        return Task(key, column_values, self.column, tuple(self.coords[block].tolist()), count, listed, raw, head)

    def needs(self, blocks: BoolArray) -> Needs:
        """Every cell that there is, and heads where nothing else tells the number of rows."""
        counted = self.counts is not None
        heads = blocks & ((~self.present | self.column.sized) & (not counted))
        return {cell_name(self.reads, self.member): blocks & self.present, cell_name(self.reads, HEADS): heads}


def column_of(view: LevelView, name: str, *, decode: bool = True) -> tuple[Column, CellArray | None]:
    """How an attribute of the view's level is read, and its cells; None where chunks are cut by it."""
    data = view.data
    by = data.chunk_attribute
    if by is not None and by[0] == name:
        constants = by[1]
        if (data.vertices.chunks.coords[:, 0] < 0).any():  # a bin -1 holds what has no value (spec 0.7, 3.2)
            dtype = nullable(constants.dtype)
            constants = np.append(constants.astype(dtype), missing_value(dtype))
        column = Column(
            source=view.source,
            spec=None,
            vertices=data.vertices.spec,
            row_shape=(),
            dtype=constants.dtype,
            decode=False,
            constants=constants,
        )
        return column, None
    array = data.attribute(name)
    spec = array.spec
    coding = coding_of(view, name)
    decodes = decode and spec.dictionary is not None
    dtype = spec.dictionary.dtype if decodes and spec.dictionary is not None else spec.dtype
    fill = None if decode or coding is None else coding.fill
    if fill is None and has_holes(view, array):
        dtype = nullable(dtype)
    loose = spec.dtype.kind == "U" and spec.dictionary is None and bool(PATHS & set(data.store.geometry_types))
    column = Column(
        source=view.source,
        spec=spec,
        vertices=data.vertices.spec,
        row_shape=spec.row_shape or () if loose else vertex_row_shape(data, array),
        dtype=dtype,
        decode=decode,
        fill=fill,
        loose=loose,
        checked=array.told,
    )
    return column, array


def has_holes(view: LevelView, array: CellArray) -> bool:
    """Whether chunks of the view's level have no values of an attribute.

    Raises
    ------
    FormatError
        If they have none because the level is still being written.
    """
    found = bool((array.chunks.find(view.data.vertices.chunks.coords) < 0).any())
    if found and view.data.meta.deferred:
        text = f"chunks have vertices and no values of {array.spec.path!r}{view.data.state}"
        raise FormatError(text, where=view.data.url)
    return found


def coding_of(view: LevelView, name: str) -> Dictionary | None:
    """What an attribute's stored integers stand for; None where they are values, none of which is missing."""
    by = view.data.chunk_attribute
    if by is not None and by[0] == name:
        return None
    array = view.data.attribute(name)
    spec = array.spec
    if spec.dictionary is None and spec.dtype.kind in "iu" and has_holes(view, array):
        return integers_with_missing(spec.dtype)
    return spec.dictionary


def attribute_member(view: LevelView, array: CellArray | None, name: str, *, sized: bool) -> tuple[str, BoolArray]:
    """Let an attribute be read: name of its cells, and (n,) which chunks have one."""
    member = f"attribute:{name}"
    present = np.zeros(len(view), np.bool_) if array is None else view.member(member, array, role="values").present
    if sized or not present.all():
        view.member(HEADS, view.data.vertices, head=True)
    return member, present


def tested_graph(view: LevelView, name: str, condition: Condition) -> Named:
    """Layer of an attribute's values for every row of the view's chunks, as a condition takes them.

    Its test takes what is stored, which no hole makes floats of; or of a dictionary whether a category passes.
    """
    column, array = column_of(view, name)
    if isinstance(condition.test, Test):
        spec = column.spec
        assert spec is not None
        if spec.dictionary is not None and condition.passes is not None:
            spec = replace(spec, dictionary=replace(spec.dictionary, categories=condition.passes))
            column = replace(column, spec=spec, dtype=np.dtype(np.float64))
        else:
            column = replace(column, dtype=spec.dtype, decode=False)
    member, present = attribute_member(view, array, name, sized=column.sized)
    recipe = WholeValueRecipe(
        column=column,
        reads=view.reads.name,
        member=member,
        coords=view.reads.coords,
        counts=view.stored_counts,
        present=present,
    )
    layer = f"zv-values-{tokenize(view.reads.name, name, condition.passes, array.digest if array else None)}"
    return Named(layer, view.graph(RecipeLayer(layer, recipe, len(view)), view.read_graph()))
