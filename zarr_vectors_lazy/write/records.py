"""Blocks of an input as records by chunk, kept until the task that writes the chunk fetches them."""

import shutil
import threading
import uuid
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np

from zarr_vectors_lazy.errors import SelectionError, StoreError
from zarr_vectors_lazy.kernels.records import Records, attribute_field, pack, record_dtype, row_numbers
from zarr_vectors_lazy.kernels.routing import Routed, extent, route, stored
from zarr_vectors_lazy.kernels.rows import INTERVAL, intervals_of, join_intervals
from zarr_vectors_lazy.model.arrays import missing_integer
from zarr_vectors_lazy.model.writing import Grid
from zarr_vectors_lazy.read.layers import check_worker
from zarr_vectors_lazy.settings import temporary_folder
from zarr_vectors_lazy.types import ChunkCoords, Floats, IntArray, Vertices
from zarr_vectors_lazy.write.job import Column

# Blocks of a Dask input as records by chunk, and what all of them together say before the first byte is put.

CODES = np.dtype("<i4")  # of the categories of one block
MAX_CELLS = 2**62


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Block:
    """Rows of one input block, checked.

    Parameters
    ----------
    positions, dtype
        (n, D) as given, and the dtype in which they are stored.
    attributes
        Rows aligned with ``positions``; text as codes of the block's own categories.
    owners
        (n,) object id of each row, or for paths the number of its path in the block; None where there are no objects.
    paths
        Paths in the block.
    ids
        (paths,) object id of each; None: as they come.
    along
        (n,) place of each row along all paths, where rows do not come path by path; ``owners`` are object ids then.
    left
        Rows of the input that no path goes through: they are not among these.
    """

    positions: Vertices
    dtype: np.dtype[Any]
    attributes: Mapping[str, Column] = field(default_factory=dict)
    owners: IntArray | None = None
    paths: int = 0
    ids: IntArray | None = None
    along: IntArray | None = None
    left: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BlockStatistics:
    """What was seen of some input blocks: small, so that one can gather all of them.

    Parameters
    ----------
    coords, counts
        (C, D) chunks in lexicographic order, and the rows of each.
    lo, hi
        (D,) corners of the positions as stored.
    exact
        The same as given: storing them may round them outward.
    owners
        Distinct object ids, ascending; of paths the ids given, in their order.
    runs
        (R, 3) intervals of consecutive places along all paths and the object of each, where rows come with places.
    paths, rows
        Paths and rows by block.
    categories
        Categories of text by attribute and block.
    missing
        Attributes of text and whole numbers of which a value is missing.
    taken
        Attributes of whole numbers of which one is `missing_integer`.
    left
        Rows that no path goes through.
    """

    coords: ChunkCoords
    counts: IntArray
    lo: Floats
    hi: Floats
    exact: tuple[Floats, Floats]
    owners: IntArray
    runs: IntArray
    paths: Mapping[int, int]
    rows: Mapping[int, int]
    categories: Mapping[str, Mapping[int, np.ndarray[Any, Any]]]
    missing: frozenset[str]
    taken: frozenset[str]
    left: int = 0


Reader: TypeAlias = Callable[..., Block | None]
"""Checks the arrays of one input block; None where there is nothing in it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BlockReader:
    """How input blocks become records.

    Parameters
    ----------
    read
        Makes a `Block` of what Dask computed.
    name
        Of the argument that holds the positions, for errors.
    chunk_shape
        (D,) edge lengths.
    dtype
        Of the records, that of the first block; others must have the same.
    """

    read: Reader
    name: str
    chunk_shape: Floats
    dtype: np.dtype[np.void]


@dataclass(frozen=True, slots=True, eq=False)
class Taken:
    """Records of one input block in the order of ``routed``, and its tally."""

    records: Records
    routed: Routed
    tally: BlockStatistics


def layout(block: Block) -> np.dtype[np.void]:
    """Dtype of a block's records."""
    attributes = {
        name: (
            CODES if is_coded(column) else column.values.dtype.newbyteorder("<"),
            column.values.shape[1:],
        )
        for name, column in block.attributes.items()
    }
    positions = (block.dtype.newbyteorder("<"), block.positions.shape[1])
    return record_dtype(
        positions, attributes, owned=block.owners is not None and block.along is None, tracked=block.along is not None
    )


def take_block(intake: BlockReader, number: int, *parts: Any) -> Taken:
    """Records of an input block by chunk.

    Raises
    ------
    SelectionError
        If a position is NaN or infinite, or the block's arrays do not go together or with the first block's.
    """
    block = _read(intake, number, parts)
    if block is None:
        return _nothing(intake, number)
    if layout(block) != intake.dtype:
        raise SelectionError(
            f"block {number} has {described(layout(block), 'positions')}, the first block "
            f"{described(intake.dtype, 'positions')}; give all blocks the same attributes, each of one dtype"
        )
    lo, hi = _corners(intake, block, number)
    if not len(block.positions):
        return _nothing(intake, number)
    first, last = np.floor(lo / intake.chunk_shape), np.floor(hi / intake.chunk_shape)
    if not (np.abs([first, last]) < MAX_CELLS).all() or np.prod(last - first + 1) > MAX_CELLS:
        raise SelectionError(
            f"chunk_shape {intake.chunk_shape.tolist()} is absurdly small for {lo.tolist()} to {hi.tolist()}"
        )
    origin = first.astype(np.int64)
    routed = route(block.positions, block.dtype, intake.chunk_shape, origin, last.astype(np.int64) - origin + 1)
    records = _records(intake, block, number).take(routed.order)  # ten times faster than by index
    return Taken(records, routed, _statistics(block, number, routed, (lo, hi)))


def _nothing(intake: BlockReader, number: int) -> Taken:
    ndim = intake.dtype["positions"].shape[0]
    none = np.empty((0, ndim), np.int64)
    far = np.full(ndim, np.inf)
    tally = BlockStatistics(
        coords=none,
        counts=np.empty(0, np.int64),
        lo=far,
        hi=-far,
        exact=(far, -far),
        owners=np.empty(0, np.int64),
        runs=np.empty((0, INTERVAL), np.int64),
        paths={number: 0},
        rows={number: 0},
        categories={},
        missing=frozenset(),
        taken=frozenset(),
    )
    routed = Routed(none, np.zeros(1, np.int64), np.empty(0, np.uint32))
    return Taken(np.empty(0, intake.dtype), routed, tally)


def described(records: np.dtype[np.void], first: str, name: str = "") -> str:
    """What records have, as a user gave it: the field ``first``, called ``name``, and attributes."""
    fields = [first, *(each for each in records.names or () if each.startswith(attribute_field("")))]
    names = [name or first, *(each.removeprefix(attribute_field("")) for each in fields[1:])]
    dtypes = (records[each] for each in fields)
    return ", ".join(
        f"{each} {dtype.base.name}" + (f" {dtype.shape}" if dtype.shape else "")
        for each, dtype in zip(names, dtypes, strict=True)
    )


def _read(intake: BlockReader, number: int, parts: tuple[Any, ...]) -> Block | None:
    try:
        return intake.read(*parts)
    except SelectionError as error:
        raise SelectionError(f"block {number}: {error.message}") from error


def corners_of(intake: BlockReader, number: int, *parts: Any) -> tuple[Floats, Floats]:
    """Corners of an input block's positions as stored; raises SelectionError if one is not finite."""
    block = _read(intake, number, parts)
    if block is None:
        far = np.full(intake.dtype["positions"].shape[0], np.inf)
        return far, -far
    return _corners(intake, block, number)


def _corners(intake: BlockReader, block: Block, number: int) -> tuple[Floats, Floats]:
    lo, hi, bad = extent(block.positions, block.dtype)
    if bad >= 0:
        raise SelectionError(
            f"{intake.name} must be finite as {block.dtype.name}; row {bad} of block {number} is "
            f"{np.asarray(block.positions[bad]).tolist()}"
        )
    return lo, hi


def _records(intake: BlockReader, block: Block, number: int) -> Records:
    rows = len(block.positions)
    columns: dict[str, np.ndarray[Any, Any]] = {
        "number": row_numbers(number, rows),
        "positions": stored(block.positions, block.dtype),
    }
    if block.along is not None:
        columns["along"] = block.along
    elif block.owners is not None:
        columns["owner"] = block.owners
    columns |= {attribute_field(name): column.values for name, column in block.attributes.items()}
    return pack(intake.dtype, columns, rows)


def _statistics(block: Block, number: int, routed: Routed, corners: tuple[Floats, Floats]) -> BlockStatistics:
    exact = extent(block.positions, block.positions.dtype)[:2] if block.positions.dtype != block.dtype else corners
    owners, runs = _objects(block)
    return BlockStatistics(
        coords=routed.coords,
        counts=routed.counts,
        lo=corners[0],
        hi=corners[1],
        exact=exact,
        owners=owners,
        runs=runs,
        paths={number: block.paths},
        rows={number: len(block.positions)},
        categories={
            name: {number: column.dictionary.categories}
            for name, column in block.attributes.items()
            if column.dictionary is not None and is_coded(column)
        },
        missing=frozenset(
            name
            for name, column in block.attributes.items()
            if column.dictionary is not None and (column.dictionary.plain or (column.values < 0).any())
        ),
        taken=frozenset(name for name, column in block.attributes.items() if _has_fill(column)),
        left=block.left,
    )


def is_coded(column: Column) -> bool:
    """Whether the values are codes of categories, which differ by block."""
    return column.dictionary is not None and not column.dictionary.plain and not column.whole


def _has_fill(column: Column) -> bool:
    """Whether whole numbers none of which is missing hold the one that would say so."""
    dtype = column.values.dtype
    whole = column.dictionary is None and dtype.kind in "iu"
    return whole and bool((column.values == missing_integer(dtype)).any())


def _objects(block: Block) -> tuple[IntArray, IntArray]:
    """Owners and runs as a `BlockStatistics` has them."""
    owners, runs = np.empty(0, np.int64), np.empty((0, INTERVAL), np.int64)
    if block.ids is not None:
        return block.ids, runs
    if block.owners is None or block.paths:
        return owners, runs
    if block.along is not None:
        return owners, intervals_of(block.along, block.owners)
    return np.unique(block.owners), runs


def merge_tallies(tallies: Sequence[BlockStatistics], paths: bool) -> BlockStatistics:
    """All that several tallies say, in their order; there must be one at least."""
    coords, counts = _merge_counts([tally.coords for tally in tallies], [tally.counts for tally in tallies])
    categories: dict[str, dict[int, np.ndarray[Any, Any]]] = {}
    for tally in tallies:
        for name, of_blocks in tally.categories.items():
            categories.setdefault(name, {}).update(of_blocks)
    owners = np.concatenate([tally.owners for tally in tallies])
    return BlockStatistics(
        coords=coords,
        counts=counts,
        lo=np.stack([tally.lo for tally in tallies]).min(axis=0),
        hi=np.stack([tally.hi for tally in tallies]).max(axis=0),
        exact=(
            np.stack([tally.exact[0] for tally in tallies]).min(axis=0),
            np.stack([tally.exact[1] for tally in tallies]).max(axis=0),
        ),
        owners=owners if paths else np.unique(owners),
        runs=join_intervals(np.concatenate([tally.runs for tally in tallies])),
        paths={number: count for tally in tallies for number, count in tally.paths.items()},
        rows={number: count for tally in tallies for number, count in tally.rows.items()},
        categories=categories,
        missing=frozenset().union(*(tally.missing for tally in tallies)),
        taken=frozenset().union(*(tally.taken for tally in tallies)),
        left=sum(tally.left for tally in tallies),
    )


def _merge_counts(coords: Sequence[ChunkCoords], counts: Sequence[IntArray]) -> tuple[ChunkCoords, IntArray]:
    every, rows = np.concatenate(coords), np.concatenate(counts)
    if not len(every):
        return every, rows
    order = np.lexsort(every.T[::-1])
    every, rows = every[order], rows[order]
    starts = np.flatnonzero(np.concatenate([[True], (every[1:] != every[:-1]).any(axis=1)]))
    return every[starts], np.add.reduceat(rows, starts)


# Records of input blocks in files of this machine, by chunk, until the tasks that write chunks fetch them.

RUNS = "runs.npy"
PartOf: TypeAlias = Callable[[ChunkCoords], IntArray]
_lock = threading.Lock()


class SpillFolder:
    """A folder below Dask's ``temporary-directory``, made on first use.

    It goes at the end of a ``with``, or with the object that was made first, not its pickled copies: with the graph
    that names it.
    """

    def __init__(self) -> None:
        self.path = temporary_folder()
        self._gone = weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)

    def remove(self) -> None:
        """Delete the files."""
        shutil.rmtree(self.path, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def __reduce__(self) -> tuple[Any, ...]:
        return _copy, (self.path,)

    def __dask_tokenize__(self) -> tuple[str, str]:
        return ("SpillFolder", str(self.path))

    def write(self, number: int, records: Records, coords: ChunkCoords, bounds: IntArray) -> None:
        """Keep the records of an input block; rows ``bounds[i]:bounds[i + 1]`` are those of chunk ``coords[i]``."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.path / RUNS).unlink(missing_ok=True)  # of a computation that failed
        records.tofile(self.path / f"{number}.rows")
        np.save(self.path / f"{number}.npy", np.concatenate([coords, bounds[1:, None]], axis=1))

    def read(self, part: int, blocks: Sequence[int], part_of: PartOf, dtype: np.dtype[np.void]) -> Records:
        """Records of the chunks of a part, an input block after another, in lexicographic order in each.

        Parameters
        ----------
        blocks
            All input blocks, in their order.
        part_of
            Gives (n,) the part of each of (n, D) chunks.
        """
        runs = self._runs(part, blocks, part_of)
        found = np.empty(int((runs[2] - runs[1]).sum()), dtype)
        raw, at = found.view(np.uint8).data, 0
        for block, of_block in groupby(runs.T.tolist(), itemgetter(0)):
            with (self.path / f"{block}.rows").open("rb") as file:
                for _, start, stop in of_block:
                    file.seek(start * dtype.itemsize)
                    nbytes = (stop - start) * dtype.itemsize
                    if file.readinto(raw[at : at + nbytes]) != nbytes:
                        raise StoreError(f"a temporary file is short: rows {start} to {stop} expected", where=file.name)
                    at += nbytes
        return found

    def _runs(self, part: int, blocks: Sequence[int], part_of: PartOf) -> IntArray:
        """(3, R) block, first row and one past the last row of the runs of rows that a part has."""
        index = self.path / RUNS
        with _lock:
            if not index.exists():
                self._write_runs(index, blocks, part_of)
        found = np.load(index, mmap_mode="r")
        first, last = np.searchsorted(found[0], [part, part + 1])
        return np.array(found[1:, first:last])

    def _write_runs(self, index: Path, blocks: Sequence[int], part_of: PartOf) -> None:
        """Join what the blocks have of each part, so that a part need not look into all of them."""
        found = [np.empty((4, 0), np.int64)]
        for block in blocks:
            known = np.load(self.path / f"{block}.npy")
            parts = part_of(known[:, :-1])
            last = np.flatnonzero(np.diff(parts, append=-1))
            stops = known[last, -1]
            starts = np.concatenate([[0], stops])[:-1]
            found.append(np.stack([parts[last], np.full(len(last), block), starts, stops]))
        runs = np.concatenate(found, axis=1)
        new = index.with_name(f"{uuid.uuid4().hex}.npy")  # other processes may be at it, too
        np.save(new, runs[:, np.argsort(runs[0], kind="stable")])
        new.replace(index)


def _copy(path: Path) -> SpillFolder:
    folder = SpillFolder.__new__(SpillFolder)
    folder.path = path
    return folder


def flat(coords: ChunkCoords, grid: Grid) -> IntArray:
    """(n,) number of chunks in the grid, ascending as they are."""
    local = coords - np.asarray(grid.origin, np.int64)
    if not len(local):
        return np.empty(0, np.int64)
    found: IntArray = np.ravel_multi_index(tuple(local.T), grid.shape)
    return found


def spill_block(intake: BlockReader, folder: SpillFolder, number: int, *parts: Any) -> BlockStatistics:
    """Keep an input block's records in a file.

    Raises
    ------
    SelectionError
        As `take_block`.
    StoreError
        If this is a worker of a cluster, whose machine others cannot see.
    """
    check_worker(wanted=False)
    taken = take_block(intake, number, *parts)
    folder.write(number, taken.records, taken.routed.coords, taken.routed.bounds)
    return taken.tally
