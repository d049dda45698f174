"""What the tasks of one level share, and the cells and journal that they write."""

import functools
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.kernels.bins import BinGrid, Rule, aggregated_dtype, every
from zarr_vectors_lazy.model.arrays import CellSpec, LinkCoding
from zarr_vectors_lazy.model.levels import ChunkTable, dotted
from zarr_vectors_lazy.model.objects import ObjectIndex
from zarr_vectors_lazy.model.writing import (
    LINKED,
    ArrayDraft,
    CellRecord,
    Cells,
    ChunkKey,
    ChunkRecord,
    CrossStorage,
    Encoding,
    Grid,
    Kind,
)
from zarr_vectors_lazy.plan.blocks import LevelScale, coarse_chunks
from zarr_vectors_lazy.read.level import Source
from zarr_vectors_lazy.read.rows import Column
from zarr_vectors_lazy.requests import Get, Put
from zarr_vectors_lazy.storage.base import Backend
from zarr_vectors_lazy.storage.fetch import connect, fetch
from zarr_vectors_lazy.types import BoolArray, Buffer, ChunkCoords, IntArray
from zarr_vectors_lazy.write.part import encode_cells

# What the tasks of one level share, and what each of them is told.


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Aggregated:
    """A vertex attribute, and how its values are combined.

    Parameters
    ----------
    name
        Its name.
    column
        How the finer level's values are read; codes stay codes.
    rule
        How values are combined.
    fill
        The integer that stands for a missing value, if there is one.
    """

    name: str
    column: Column
    rule: Rule
    fill: int | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the combined values."""
        return aggregated_dtype(self.column.dtype, self.rule)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Thinning:
    """Which objects or vertices of the finer level are kept.

    Parameters
    ----------
    sparsity_seed
        Seed of the hash.
    keep
        Fraction of the objects of ``base`` that is kept, or of the finer level's vertices if there are no objects.
    base, index
        The level that fractions refer to, and its objects.
    """

    sparsity_seed: int
    keep: float
    base: Source
    index: ObjectIndex | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EndSegment:
    """Link records of the finer level with the same relative offsets.

    Parameters
    ----------
    spec, coding
        How cells are read.
    offsets
        (L - 1, K) chunk offsets of endpoints 1.. relative to endpoint 0.
    """

    spec: CellSpec
    coding: LinkCoding
    offsets: IntArray


@dataclass(frozen=True, slots=True, eq=False)
class EndCells:
    """Cells of links, grouped by segment.

    Parameters
    ----------
    chunks
        (m, K) the chunks of all their ends, in lexicographic order.
    which
        (n,) segment of each cell, ascending.
    ends
        (n, L) numbers of the chunks of its ends, that of the cell first.
    """

    chunks: ChunkCoords
    which: IntArray
    ends: IntArray

    def take(self, cells: IntArray | BoolArray) -> "EndCells":
        """Some of them."""
        which, ends = self.which[cells], self.ends[cells]
        used, number = np.unique(ends, return_inverse=True)
        return EndCells(self.chunks[used], which, number.reshape(ends.shape))

    def parted(self, parts: IntArray) -> tuple["EndCells", "EndCells"]:
        """The cells whose ends are all in one part, and the others; (m,) part of each chunk, -1 for none."""
        found = parts[self.ends]
        inside = every((found == found[:, :1]) & (found[:, :1] >= 0))
        return self.take(inside), self.take(~inside)

    def without(self, chunks: BoolArray) -> "EndCells":
        """Cells without those that name some chunks, given as (m,) booleans."""
        return self.take(every(~chunks[self.ends]))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LevelBuild:
    """How one level is made from the one below.

    Parameters
    ----------
    source
        The finer level.
    level
        The coarser one.
    kind
        How vertices are merged.
    vertices, fragments
        How the finer level's cells are read; fragments only if there are objects or trees.
    attributes
        Attributes to combine.
    weight, weights
        Name of the attribute that counts vertices, and how the finer level's is read; None if each vertex is one.
    index
        Objects of the finer level.
    thinning
        Which objects or vertices are dropped, or None.
    segments
        Link records of the finer level, for graphs and meshes.
    width, directed
        Number of ends of a link, and whether their order matters.
    min_vertices
        Least number of vertices that a path keeps.
    emptied
        Whether paths may name fragments without vertices, which edits leave behind: `Begun.emptied`.
    scale
        (D,) finer chunks of a coarser one along each axis.
    at
        Chunks and bins of the coarser level.
    root_bins
        (D,) level-0 bins of a chunk if fragments are to be these bins, otherwise None.
    cross_level_storage
        Which links between levels are stored.
    fine_grid, grid
        Grids of the arrays written on the two levels.
    encoding
        How cells are stored.
    owners
        Ids of the objects of the coarser level's fragments, if there are objects.
    """

    source: Source
    level: int
    kind: Kind
    vertices: CellSpec
    fragments: CellSpec | None
    attributes: tuple[Aggregated, ...]
    weight: str
    weights: CellSpec | None
    index: ObjectIndex | None
    thinning: Thinning | None
    segments: tuple[EndSegment, ...]
    width: int
    directed: bool
    min_vertices: int
    emptied: bool
    scale: IntArray
    at: LevelScale
    root_bins: IntArray | None
    cross_level_storage: CrossStorage
    fine_grid: Grid
    grid: Grid
    encoding: Encoding
    owners: ArrayDraft | None = None

    @property
    def linked(self) -> bool:
        """Whether edges or faces are carried over."""
        return self.kind in LINKED

    @property
    def rank(self) -> int:
        """Components of a chunk coordinate."""
        return len(self.grid.origin)

    def bin_grid(self, chunks: ChunkCoords) -> BinGrid:
        """Bins of some coarse chunks."""
        at = self.at
        return BinGrid(chunks[:, -len(at.bins) :], at.bins, at.bin_shape, at.chunk_shape)

    def parent(self, fine: ChunkCoords) -> ChunkCoords:
        """(n, K) coarse chunk of each finer one."""
        return coarse_chunks(fine, self.scale)

    def anchors(self, chunks: ChunkCoords) -> ChunkCoords:
        """(n, K) the finer chunk at the lower corner of each coarse one."""
        lead = chunks.shape[1] - len(self.scale)
        return np.concatenate([chunks[:, :lead], chunks[:, lead:] * self.scale], axis=1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """Coarse chunks that one task makes.

    Parameters
    ----------
    chunks
        (g, K) their coordinates.
    fine
        (f, K) the finer chunks below them, grouped by coarse chunk, in lexicographic order within each.
    bounds
        (g + 1,) finer chunks of coarse chunk i are ``bounds[i]:bounds[i + 1]``.
    missing
        Attributes of which some of the finer chunks have no cell, and (f,) which chunks.
    cells
        Cells of links that may concern these chunks; None if only the build that wrote them knows.
    """

    chunks: ChunkCoords
    fine: ChunkCoords
    bounds: IntArray
    missing: dict[str, BoolArray]
    cells: EndCells | None = None

    def __len__(self) -> int:
        return len(self.chunks)

    def key(self, i: int) -> ChunkKey:
        """Coordinates of its coarse chunk ``i``."""
        return tuple(self.chunks[i].tolist())

    @property
    def keys(self) -> list[ChunkKey]:
        """Coordinates of all of its chunks."""
        return [*map(tuple, self.chunks.tolist())]

    def number(self, fine: ChunkCoords, cuts: Sequence[int]) -> IntArray:
        """(n,) which of its parts, coarse chunks ``cuts[i]:cuts[i + 1]``, each finer chunk is in; -1 for none."""
        of_fine = np.repeat(np.arange(len(cuts) - 1), np.diff(self.bounds[list(cuts)]))
        table = ChunkTable(self.fine)
        at = table.find(fine)
        return np.asarray(np.where(at >= 0, of_fine[table.order[at]], -1))

    def below(self, i: int) -> range:
        """Finer chunks of one of its coarse chunks."""
        return range(int(self.bounds[i]), int(self.bounds[i + 1]))


# Payloads put as cells, and the journal that says which coarse chunks are finished.


@dataclass(frozen=True, slots=True)
class Begun:
    """A build that is allowed to write.

    Parameters
    ----------
    build
        Its name, for what processes keep while it runs.
    resumed
        Whether an earlier run may have finished chunks.
    emptied
        Chunk and number of the fragments of the finer level that have no vertices, if paths may name some.
    """

    build: str
    resumed: bool
    emptied: tuple[ChunkKey, ...] = ()


JOURNAL = "_building"
FLUSHED_NBYTES = 16 * 2**20  # encoded bytes that a task collects before it puts them


@dataclass(frozen=True, slots=True, eq=False)
class Payload:
    """The content of a cell.

    Parameters
    ----------
    level, path, chunk
        The cell's level, the array's path below it, and its chunk.
    count
        Vertices or records in it.
    data
        Not encoded.
    """

    level: int
    path: str
    chunk: ChunkKey
    count: int
    data: Buffer


def encode(
    step: LevelBuild, payloads: Sequence[Payload], finer: Grid | None = None
) -> tuple[list[Put], tuple[CellRecord, ...]]:
    """Puts of cells, and what the journal records about them; ``finer`` is the grid of a level below the coarse one."""
    puts, records = [], []
    for payload in payloads:
        grid = step.grid if payload.level == step.level else finer or step.fine_grid
        cells = Cells(path=payload.path, coords=np.asarray([payload.chunk], np.int64), payloads=[payload.data])
        made, content = encode_cells(payload.level, cells, grid, step.encoding)
        puts += made
        records.append(CellRecord(payload.level, payload.path, payload.chunk, payload.count, content))
    return puts, tuple(records)


Made: TypeAlias = Iterable[tuple[ChunkRecord, Sequence[Put]]]
"""Records of chunks, and the puts of each."""


def write_once(step: LevelBuild, stage: str, chunks: Sequence[ChunkKey], begun: Begun, made: Made) -> list[ChunkRecord]:
    """Put the cells of a task's chunks as they are made, then the records of all of them; return these.

    Nothing is made if an earlier run left the records, and no records are put if nothing is made.
    """
    backend = connect(step.source.spec)
    key = f"{JOURNAL}/{step.level}/{stage}/{dotted(chunks[0])}"  # the first chunk identifies the task
    if begun.resumed and (found := read_records(backend, key, chunks)):
        return found
    records: list[ChunkRecord] = []
    puts: list[Put] = []
    nbytes = 0
    for record, of_chunk in made:
        records.append(record)
        puts += of_chunk
        nbytes += sum(len(put.data) for put in of_chunk)
        if nbytes > FLUSHED_NBYTES:
            fetch(backend, puts)
            puts, nbytes = [], 0
    fetch(backend, puts)
    if records:
        plain = [record.to_json() for record in records]
        fetch(backend, [Put(key, json.dumps(plain, separators=(",", ":")).encode())])
    return records


def written_once(stage: str) -> Callable[[Callable[..., Made]], Callable[..., list[ChunkRecord]]]:
    """Turn a function that makes a part's chunks, of a level and a build, into a task that writes by `write_once`."""

    def task_of(make: Callable[..., Made]) -> Callable[..., list[ChunkRecord]]:
        @functools.wraps(make)
        def task(step: LevelBuild, part: Part, begun: Begun, *args: Any) -> list[ChunkRecord]:
            return write_once(step, stage, part.keys, begun, make(step, part, begun, *args))

        return task

    return task_of


def read_records(backend: Backend, key: str, chunks: Sequence[ChunkKey]) -> list[ChunkRecord]:
    """Read the records that an earlier run left of a finished task's chunks; none if it was not finished.

    Another version of this package may have divided chunks differently between tasks: then there are none either.

    Raises
    ------
    FormatError
        If they cannot be read.
    """
    (raw,) = fetch(backend, [Get(key)])
    try:
        found = [] if raw is None else [ChunkRecord.from_json(record) for record in json.loads(bytes(raw))]
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(f"the journal entry {key!r} is damaged: {error}", where=backend.url) from error
    return found if [record.chunk for record in found] == list(chunks) else []
