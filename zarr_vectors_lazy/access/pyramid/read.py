"""The rows of the finer chunks of coarse chunks, fetched in one go."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from zarr_vectors_lazy.access.attributes import column_values
from zarr_vectors_lazy.access.pyramid.step import Part, Step
from zarr_vectors_lazy.access.read import read_attribute, read_batch, read_fragments, read_vertices
from zarr_vectors_lazy.access.wanted import Wanted
from zarr_vectors_lazy.model.arrays import CellSpec
from zarr_vectors_lazy.model.objects import Fragments
from zarr_vectors_lazy.model.pyramid import ChunkKey
from zarr_vectors_lazy.types import IntArray, Raw, Vertices

VERTICES, FRAGMENTS, WEIGHTS = "vertices", "fragments", "weights"


@dataclass(frozen=True, slots=True, eq=False)
class FineRows:
    """Rows of the finer chunks of one coarse chunk, one chunk after another.

    Parameters
    ----------
    chunks
        The finer chunks, in lexicographic order.
    starts
        (f + 1,) rows of chunk i are ``starts[i]:starts[i + 1]``.
    positions
        (N, D).
    weights
        (N,) vertices of level 0 that each stands for; None: one.
    values
        (N, ...) attributes by name.
    fragments
        Fragment indexes of the chunks, where there are any.
    """

    chunks: tuple[ChunkKey, ...]
    starts: IntArray
    positions: Vertices
    weights: IntArray | None
    values: dict[str, np.ndarray[Any, Any]]
    fragments: tuple[Fragments, ...]

    def __len__(self) -> int:
        return len(self.positions)


def fetch_part(step: Step, part: Part) -> Mapping[tuple[str, int], Raw]:
    """Encoded cells of all that `decode_rows` needs, all concurrently."""
    everything = np.arange(len(part.fine))
    wanted = [_wanted(VERTICES, step.vertices, part, everything)]
    if step.fragments is not None:
        wanted.append(_wanted(FRAGMENTS, step.fragments, part, everything))
    if step.weights is not None:
        wanted.append(_wanted(WEIGHTS, step.weights, part, everything))
    for item in step.attributes:
        if item.column.spec is not None:
            missing = part.missing.get(item.name)
            rows = everything if missing is None else np.flatnonzero(~missing)
            wanted.append(_wanted(f"attribute:{item.name}", item.column.spec, part, rows))
    return read_batch(step.source, wanted)


def _wanted(member: str, spec: CellSpec, part: Part, rows: IntArray) -> Wanted:
    return Wanted(member, spec, tuple(rows.tolist()), part.fine[rows])


def decode_rows(step: Step, part: Part, chunk: int, raws: Mapping[tuple[str, int], Raw]) -> FineRows:
    """Decode the rows of the finer chunks of one coarse chunk.

    Raises
    ------
    CorruptChunkError
        If a cell is missing or undecodable, or an attribute has another number of rows.
    """
    source, below = step.source, part.below(chunk)
    keys = tuple(tuple(coord) for coord in part.fine[below.start : below.stop].tolist())
    positions = [
        read_vertices(source, step.vertices, key, raws[VERTICES, i], None) for i, key in zip(below, keys, strict=True)
    ]
    counts = [len(found) for found in positions]
    weights = None
    if step.weights is not None:
        spec = step.weights
        weights = [
            read_attribute(source, spec, key, raws[WEIGHTS, i], (), count)
            for i, key, count in zip(below, keys, counts, strict=True)
        ]
    values = {}
    for item in step.attributes:
        missing, member = part.missing.get(item.name), f"attribute:{item.name}"
        values[item.name] = _joined(
            [
                column_values(item.column, key, n, missing is None or not missing[i], raws.get((member, i)), None)
                for i, key, n in zip(below, keys, counts, strict=True)
            ]
        )
    fragments: tuple[Fragments, ...] = ()
    if step.fragments is not None:
        spec = step.fragments
        fragments = tuple(
            read_fragments(source, spec, key, raws[FRAGMENTS, i]) for i, key in zip(below, keys, strict=True)
        )
    return FineRows(
        chunks=keys,
        starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        positions=_joined(positions),
        weights=None if weights is None else _joined(weights).astype(np.int64, copy=False),
        values=values,
        fragments=fragments,
    )


def _joined(parts: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
