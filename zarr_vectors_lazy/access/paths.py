"""What tasks run to follow objects through chunks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zarr_vectors_lazy.access.level import Source
from zarr_vectors_lazy.access.links import Span, spans_of
from zarr_vectors_lazy.access.objects import read_manifests
from zarr_vectors_lazy.access.read import read_fragments, read_vertices
from zarr_vectors_lazy.errors import CorruptChunkError, FormatError
from zarr_vectors_lazy.kernels.edges import consecutive
from zarr_vectors_lazy.kernels.paths import Paths, trace
from zarr_vectors_lazy.kernels.rows import Kept
from zarr_vectors_lazy.model.arrays import CellSpec
from zarr_vectors_lazy.model.chunks import ChunkTable, dotted
from zarr_vectors_lazy.model.objects import ObjectIndex
from zarr_vectors_lazy.types import ChunkCoords, IntArray, Raw, Vertices


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PathBlock:
    """Some objects and the chunks that they touch.

    Parameters
    ----------
    source, index
        The level and where its manifests are.
    fragments, vertices
        How cells are read.
    objects
        (o,) manifest rows of the objects, or a range of them.
    chunks
        (c,) numbers of the chunks among those of the view.
    coords
        (c, K) their coordinates.
    whole
        Whether all chunks of the level are in the view.
    """

    source: Source
    index: ObjectIndex
    fragments: CellSpec
    vertices: CellSpec
    objects: IntArray | range
    chunks: IntArray
    coords: ChunkCoords
    whole: bool


def trace_paths(block: PathBlock, raws: Sequence[Raw]) -> Paths:
    """Rows of the objects of a block, in path order; chunks are numbered within the block."""
    objects = np.asarray(block.objects, np.int64)
    manifests = read_manifests(block.source, block.index, objects)
    table = ChunkTable(block.coords)
    at = table.find(manifests.chunks)
    if block.whole and (at < 0).any():
        coord = manifests.chunks[at < 0][0].tolist()
        raise FormatError(f"a manifest names chunk {coord}, the level does not list it", where=block.source.spec.url)
    chunk = np.where(at >= 0, table.order[at], -1) if len(table) else at
    indexes = [
        read_fragments(block.source, block.fragments, tuple(coord), raw)
        for coord, raw in zip(block.coords.tolist(), raws, strict=True)
    ]
    try:
        return trace(manifests, chunk, indexes)
    except FormatError as error:
        raise FormatError(
            f"manifests of level {block.source.level}: {error.message}", where=block.source.spec.url
        ) from error


def path_edges(
    block: PathBlock, paths: Paths, starts: IntArray | Sequence[Span | None], kept: Sequence[Kept | None]
) -> IntArray:
    """(E, 2) edges between consecutive vertices of each object, as rows of the view."""
    return consecutive(_rows_of_view(block, paths, starts, kept), paths.begins)


def path_rows(
    block: PathBlock, paths: Paths, starts: IntArray | Sequence[Span | None], kept: Sequence[Kept | None]
) -> tuple[IntArray, IntArray, IntArray]:
    """Selected vertices of the objects, in path order.

    Returns
    -------
    (M,) rows of the view, (M,) the manifest entry of each, numbered within the block, and (o,) how many vertices each
    object has.
    """
    rows = _rows_of_view(block, paths, starts, kept)
    selected = rows >= 0
    counts = np.bincount(paths.owners[selected], minlength=len(block.objects))
    return rows[selected], paths.entries[selected], counts.astype(np.int64)


def _rows_of_view(
    block: PathBlock, paths: Paths, starts: IntArray | Sequence[Span | None], kept: Sequence[Kept | None]
) -> IntArray:
    """(M,) row of the view of each vertex, -1 where it is not selected."""
    spans = spans_of(starts, block.chunks.tolist())
    rows = np.empty(len(paths.rows), np.int64)
    for chunk, (span, choice) in enumerate(zip(spans, kept, strict=True)):
        here = paths.chunks == chunk
        assert span is not None
        total = span[1] - span[0] if choice is None else choice.total
        _check_rows(block, chunk, paths.rows[here], total)
        at = paths.rows[here] if choice is None else choice.renumber(paths.rows[here])
        rows[here] = np.where(at >= 0, at + span[0], -1)
    return rows


def path_vertices(
    block: PathBlock, paths: Paths, raws: Sequence[Raw], kept: Sequence[Kept | None]
) -> tuple[Vertices, IntArray]:
    """Positions of the selected vertices of the objects, in path order, and how many each object has; (M, D), (o,)."""
    coords = [tuple(coord) for coord in block.coords.tolist()]
    values = [
        read_vertices(block.source, block.vertices, coord, raw, None) for coord, raw in zip(coords, raws, strict=True)
    ]
    selected = np.ones(len(paths.rows), np.bool_)
    for chunk, choice in enumerate(kept):
        here = paths.chunks == chunk
        _check_rows(block, chunk, paths.rows[here], len(values[chunk]))
        if choice is not None:
            selected[here] = choice.renumber(paths.rows[here]) >= 0
    shape = block.vertices.row_shape or ()
    found = paths.gather(values, np.empty((0, *shape), block.vertices.dtype))
    counts = np.bincount(paths.owners[selected], minlength=len(block.objects))
    return found[selected], counts.astype(np.int64)


def _check_rows(block: PathBlock, chunk: int, rows: IntArray, total: int) -> None:
    """Raise if fragments name rows that their chunk does not have."""
    if len(rows) and int(rows.max()) >= total:
        raise CorruptChunkError(
            f"fragments name row {int(rows.max())}, the chunk has {total} (by its stored count, if the store has any: "
            "then run zvl.index)",
            level=block.source.level,
            array=block.fragments.path,
            chunk=dotted(block.coords[chunk].tolist()),
            url=block.source.spec.url,
        )


def offsets_of(counts: Sequence[IntArray]) -> IntArray:
    """Task: (O + 1,) offsets of all objects, from the vertex counts of all blocks."""
    return np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int64)
