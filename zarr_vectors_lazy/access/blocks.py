"""What tasks run to give the rows of one Dask block: of a chunk, or of several neighbours."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zarr_vectors_lazy.access.attributes import Column, column_values
from zarr_vectors_lazy.access.level import Source
from zarr_vectors_lazy.access.read import placed, read_row_run, read_vertices
from zarr_vectors_lazy.kernels.rows import Kept
from zarr_vectors_lazy.model.arrays import CellSpec
from zarr_vectors_lazy.types import ChunkCoords, Raw, Vertices

_ALL: tuple[None, ...] = (None,)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Block:
    """Neighbouring chunks.

    Parameters
    ----------
    coords
        (c, K) their coordinates.
    counts
        Rows that the metadata promise for each, or None.
    """

    coords: ChunkCoords
    counts: tuple[int, ...] | None

    def __iter__(self) -> Iterator[tuple[tuple[int, ...], int | None]]:
        return zip(map(tuple, self.coords.tolist()), self.counts or (None,) * len(self.coords), strict=True)


def vertex_block(
    source: Source, spec: CellSpec, block: Block, raws: Raw | Sequence[Raw], kept: Sequence[Kept | None]
) -> Vertices:
    """Selected positions of the chunks of a block; (n, D).

    Parameters
    ----------
    raws
        Encoded cell of the one chunk, or those of several.
    kept
        Chosen rows of each chunk; empty where all are selected.
    """
    if not kept and len(block.coords) > 1:
        counts = None if block.counts is None else np.asarray(block.counts, np.int64)
        return read_row_run(source, spec, block.coords, _listed(raws), spec.row_shape or (), counts)[0]
    return _joined(
        [
            _taken(read_vertices(source, spec, coord, raw, count), choice, source, spec, coord)
            for (coord, count), raw, choice in zip(block, _listed(raws), kept or _ALL * len(block.coords), strict=True)
        ]
    )


def value_block(
    column: Column,
    block: Block,
    present: Sequence[bool],
    raws: Raw | Sequence[Raw],
    heads: Sequence[Raw],
    kept: Sequence[Kept | None],
) -> np.ndarray[Any, Any]:
    """Values of an attribute for the selected rows of the chunks of a block.

    Parameters
    ----------
    present
        Whether each chunk has a cell of values.
    raws
        Encoded cells; None where there is none.
    heads
        Heads of the positions' cells, where the number of rows is needed and not promised; empty for none.
    kept
        Chosen rows of each chunk; empty where all are selected.
    """
    all_of = _ALL * len(block.coords)
    return _joined(
        [
            _taken(column_values(column, coord, count, listed, raw, head), choice, column.source, column.spec, coord)
            for (coord, count), listed, raw, head, choice in zip(
                block, present, _listed(raws), heads or all_of, kept or all_of, strict=True
            )
        ]
    )


def _listed(raws: Raw | Sequence[Raw]) -> Sequence[Raw]:
    return raws if isinstance(raws, list) else [raws]  # type: ignore[list-item]


def _taken(
    values: np.ndarray[Any, Any], kept: Kept | None, source: Source, spec: CellSpec | None, coord: tuple[int, ...]
) -> np.ndarray[Any, Any]:
    if kept is None:
        return values
    if spec is None:
        return kept.take(values)
    with placed(source, spec, coord):
        return kept.take(values)


def _joined(parts: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
