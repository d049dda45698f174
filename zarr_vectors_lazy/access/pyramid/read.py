"""The rows of the finer chunks of coarse chunks, fetched in one go, one chunk after another."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from zarr_vectors_lazy.access.attributes import column_values
from zarr_vectors_lazy.access.pyramid.step import Part, Step
from zarr_vectors_lazy.access.read import read_attribute, read_batch, read_fragments, read_vertices
from zarr_vectors_lazy.access.wanted import Wanted
from zarr_vectors_lazy.errors import CorruptChunkError
from zarr_vectors_lazy.model.arrays import CellSpec
from zarr_vectors_lazy.model.chunks import dotted
from zarr_vectors_lazy.model.objects import FragmentRun, join_fragments
from zarr_vectors_lazy.types import ChunkCoords, IntArray, Raw, Vertices

VERTICES, FRAGMENTS, WEIGHTS = "vertices", "fragments", "weights"


@dataclass(frozen=True, slots=True, eq=False)
class FineRows:
    """Rows of the finer chunks of some coarse chunks, one finer chunk after another.

    Parameters
    ----------
    chunks
        (f, K) the finer chunks; those of a coarse chunk follow one another, in lexicographic order.
    bounds
        (g + 1,) those of coarse chunk i are ``bounds[i]:bounds[i + 1]``.
    starts
        (f + 1,) rows of finer chunk i are ``starts[i]:starts[i + 1]``.
    positions
        (N, D).
    weights
        (N,) vertices of level 0 that each stands for; None: one.
    values
        (N, ...) attributes by name.
    fragments
        Of the finer chunks, where there are any.
    """

    chunks: ChunkCoords
    bounds: IntArray
    starts: IntArray
    positions: Vertices
    weights: IntArray | None
    values: dict[str, np.ndarray[Any, Any]]
    fragments: FragmentRun | None

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def coarse(self) -> IntArray:
        """(f,) coarse chunk of each finer one."""
        return np.repeat(np.arange(len(self.bounds) - 1), np.diff(self.bounds))

    @property
    def coarse_of_rows(self) -> IntArray:
        """(N,) coarse chunk of each row."""
        return np.repeat(np.arange(len(self.bounds) - 1), np.diff(self.starts[self.bounds]))


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


def decode_rows(step: Step, part: Part, raws: Mapping[tuple[str, int], Raw]) -> FineRows:
    """Decode the rows of the finer chunks of a part.

    Raises
    ------
    CorruptChunkError
        If a cell is missing or undecodable, an attribute has another number of rows, or fragments name rows that are
        not there.
    """
    source, keys = step.source, list(map(tuple, part.fine.tolist()))
    positions = [read_vertices(source, step.vertices, key, raws[VERTICES, i], None) for i, key in enumerate(keys)]
    counts = [len(found) for found in positions]
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    weights = None
    if step.weights is not None:
        weights = [
            read_attribute(source, step.weights, key, raws[WEIGHTS, i], (), count)
            for i, (key, count) in enumerate(zip(keys, counts, strict=True))
        ]
    values = {}
    for item in step.attributes:
        missing, member = part.missing.get(item.name), f"attribute:{item.name}"
        values[item.name] = _joined(
            [
                column_values(item.column, key, n, missing is None or not missing[i], raws.get((member, i)), None)
                for i, (key, n) in enumerate(zip(keys, counts, strict=True))
            ]
        )
    return FineRows(
        chunks=part.fine,
        bounds=part.bounds,
        starts=starts,
        positions=_joined(positions),
        weights=None if weights is None else _joined(weights).astype(np.int64, copy=False),
        values=values,
        fragments=None if step.fragments is None else read_fragment_index(step, part.fine, raws, starts),
    )


def read_fragment_index(
    step: Step, chunks: ChunkCoords, raws: Mapping[tuple[str, int], Raw], starts: IntArray
) -> FragmentRun:
    """Fragments of some finer chunks, whose rows begin at ``starts``."""
    assert step.fragments is not None
    parts = [
        read_fragments(step.source, step.fragments, chunk, raws[FRAGMENTS, i])
        for i, chunk in enumerate(chunks.tolist())
    ]
    run = join_fragments(parts, starts)
    wrong = run.outside()
    if wrong is not None:
        raise CorruptChunkError(
            f"fragments name row {wrong[1]}, which the chunk does not have",
            level=step.source.level,
            array=step.fragments.path,
            chunk=dotted(chunks[wrong[0]]),
            url=step.source.spec.url,
        )
    return run


def _joined(parts: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
