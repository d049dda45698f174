"""The rows of the finer chunks of coarse chunks, fetched in one go, one chunk after another."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from zarr_vectors_lazy.access.attributes import column_run
from zarr_vectors_lazy.access.pyramid.step import Part, Step
from zarr_vectors_lazy.access.read import read_batch, read_fragment_run, read_row_run
from zarr_vectors_lazy.access.wanted import Wanted
from zarr_vectors_lazy.model.arrays import CellSpec
from zarr_vectors_lazy.model.objects import FragmentRun
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
    source, chunks, everything = step.source, part.fine, range(len(part.fine))
    shape = step.vertices.row_shape
    assert shape is not None
    positions, starts = read_row_run(source, step.vertices, chunks, [raws[VERTICES, i] for i in everything], shape)
    weights, fragments, values = None, None, {}
    if step.weights is not None:
        cells, counts = [raws[WEIGHTS, i] for i in everything], np.diff(starts)
        weights = read_row_run(source, step.weights, chunks, cells, (), counts)[0].astype(np.int64, copy=False)
    if step.fragments is not None:
        fragments = read_fragment_run(source, step.fragments, chunks, [raws[FRAGMENTS, i] for i in everything], starts)
    for item in step.attributes:
        missing, member = part.missing.get(item.name), f"attribute:{item.name}"
        present = (np.ones(len(chunks), np.bool_) if missing is None else ~missing).tolist()
        listed = [raws[member, i] for i, there in enumerate(present) if there and (member, i) in raws]
        values[item.name] = column_run(item.column, chunks, starts, present, listed)
    return FineRows(
        chunks=chunks,
        bounds=part.bounds,
        starts=starts,
        positions=positions,
        weights=weights,
        values=values,
        fragments=fragments,
    )
