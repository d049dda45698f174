"""What tasks run to choose rows: masks of boxes, objects and conditions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from zarr_vectors_lazy.access.level import Source
from zarr_vectors_lazy.access.objects import read_ids, read_manifests, rows_of_ids
from zarr_vectors_lazy.access.read import placed, read_fragments, read_row_count, read_vertices
from zarr_vectors_lazy.errors import FormatError, SelectionError
from zarr_vectors_lazy.kernels.rows import Kept, kept_of_mask
from zarr_vectors_lazy.model.arrays import CellSpec
from zarr_vectors_lazy.model.chunks import ChunkTable, dotted
from zarr_vectors_lazy.model.objects import ObjectIndex
from zarr_vectors_lazy.plan.bbox import Placement
from zarr_vectors_lazy.plan.selection import Area, Condition, Picks
from zarr_vectors_lazy.types import BoolArray, IntArray, Raw, Vertices


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chooser:
    """How rows of the chunks of one selection are chosen; shared by its tasks.

    Parameters
    ----------
    source
        The level.
    vertices, fragments
        How their cells are read; fragments only where rows are chosen by object.
    regions
        Boxes that rows must lie in.
    conditions
        Masks from attributes.
    placement
        Where the vertices of a chunk must lie.
    """

    source: Source
    vertices: CellSpec
    fragments: CellSpec | None
    regions: tuple[Area, ...]
    conditions: tuple[Condition, ...]
    placement: Placement

    def of(self, coord: tuple[int, ...]) -> "Chooser":
        """Chooser of one chunk, without what it picks in others."""
        if not any(isinstance(condition.test, Picks) for condition in self.conditions):
            return self
        own = (
            replace(condition, test=condition.test.of(coord)) if isinstance(condition.test, Picks) else condition
            for condition in self.conditions
        )
        return replace(self, conditions=tuple(own))


Owned = Mapping[tuple[int, ...], IntArray]
"""Fragments of the selected objects, by chunk coordinate."""


def choose_rows(
    chooser: Chooser,
    coord: tuple[int, ...],
    count: int | None,
    vertices: Raw,
    head: Raw,
    fragments: Raw,
    owned: Owned | None,
    values: Sequence[np.ndarray[Any, Any]],
    masked: bool,
) -> Kept:
    """Choose the rows of one chunk that meet a selection.

    Parameters
    ----------
    count
        Rows that the metadata promise, or None.
    vertices, fragments
        Encoded cells; vertices only where a box cuts the chunk, fragments where objects matter.
    head
        Head of the positions' cell, where the count is neither promised nor told by vertices or values.
    owned
        Fragments of the selected objects, or None where objects do not matter.
    values
        Attribute values of the chunk, in the order of the names of the conditions.
    masked
        Whether the box cuts this chunk.
    """
    if masked and chooser.regions:
        positions = read_vertices(chooser.source, chooser.vertices, coord, vertices, count)
        check_placement(chooser.source, chooser.vertices, coord, positions, chooser.placement)
        mask = np.logical_and.reduce([region.rows(positions) for region in chooser.regions])
    elif count is None and len(values):
        mask = np.ones(len(values[0]), np.bool_)
    elif count is None:
        mask = np.ones(read_row_count(chooser.source, chooser.vertices, coord, head), np.bool_)
    else:
        mask = np.ones(count, np.bool_)
    count = len(mask)
    if owned is not None and chooser.fragments is not None:
        index = read_fragments(chooser.source, chooser.fragments, coord, fragments)
        mine = np.zeros(count, np.bool_)
        named = owned.get(coord)
        if named is not None:
            with placed(chooser.source, chooser.fragments, coord):
                index.check(count)
                mine[index.rows(named)] = True
        mask &= mine
    at = iter(values)
    for condition in chooser.conditions:
        mask &= _condition_mask(condition, [next(at) for _ in condition.names], count)
    return kept_of_mask(mask)


def check_placement(
    source: Source, spec: CellSpec, coord: tuple[int, ...], vertices: Vertices, placement: Placement
) -> None:
    """Raise FormatError if a vertex lies outside its chunk: boxes could not be answered from the grid."""
    if placement.outside(vertices, np.asarray(coord, np.int64)).any():
        raise FormatError(
            f"chunk {dotted(coord)!r} of {spec.path!r} holds vertices that lie outside it for chunk shape "
            f"{placement.chunk_shape.tolist()}: boxes cannot be answered from this grid",
            where=source.spec.url,
        )


def find_hits(
    source: Source, fragments: CellSpec, coord: tuple[int, ...], raw: Raw, kept: Kept | None
) -> tuple[tuple[int, ...], IntArray]:
    """Fragments of a chunk that have a selected row (any row where ``kept`` is None), with the chunk's coordinate."""
    index = read_fragments(source, fragments, coord, raw)
    every = np.arange(len(index))
    if kept is None or kept.rows is None:
        return coord, every[index.counts > 0]
    index.check(kept.total)
    selected = kept.renumber(index.rows(every)) >= 0
    return coord, np.unique(np.repeat(every, index.counts)[selected])


def find_owned(
    source: Source,
    index: ObjectIndex,
    ids: IntArray | None,
    hits: Sequence[Sequence[tuple[tuple[int, ...], IntArray]]],
) -> Owned:
    """Fragments of the selected objects by chunk.

    Parameters
    ----------
    ids
        Objects, or None for those that the hits name.
    hits
        For each box that objects must touch: the fragments hit, by chunk.
    """
    rows = np.arange(index.count) if ids is None else rows_of_ids(read_ids(source, index), ids)
    manifests = read_manifests(source, index, None if ids is None else rows)
    for of_box in hits:
        keep = np.flatnonzero(
            _touching(manifests.chunks, manifests.fragments, manifests.owners, len(manifests), of_box)
        )
        manifests = manifests.take(keep)
    if not len(manifests.fragments):
        return {}
    order = np.lexsort(manifests.chunks.T[::-1])
    coords = manifests.chunks[order]
    starts = np.flatnonzero(np.append(True, (coords[1:] != coords[:-1]).any(axis=1)))
    parts = np.split(manifests.fragments[order], starts[1:])
    return {tuple(coords[at].tolist()): np.unique(part) for at, part in zip(starts.tolist(), parts, strict=True)}


def _touching(
    chunks: IntArray, fragments: IntArray, owners: IntArray, n: int, hits: Sequence[tuple[tuple[int, ...], IntArray]]
) -> BoolArray:
    """(n,) whether an object has a fragment that was hit."""
    touching = np.zeros(n, np.bool_)
    hits = [hit for hit in hits if len(hit[1])]
    if not hits or not len(chunks):
        return touching
    table = ChunkTable(np.asarray([coord for coord, _ in hits], np.int64))
    wide = max(int(fragments.max()), *(int(named.max()) for _, named in hits)) + 1
    slots = np.concatenate([table.find(np.asarray([coord]))[0] * wide + named for coord, named in hits])
    at = table.find(chunks)
    touching[owners[(at >= 0) & np.isin(at * wide + fragments, slots)]] = True
    return touching


def _condition_mask(condition: Condition, values: list[np.ndarray[Any, Any]], count: int) -> BoolArray:
    if isinstance(condition.test, Picks):
        return condition.test(count)
    mask = np.asarray(condition.test(*values))
    if mask.shape != (count,) or mask.dtype != np.bool_:
        raise SelectionError(
            f"where= must give a mask of {count} booleans, one a vertex; it gave {mask.dtype} of shape {mask.shape}"
        )
    return mask
