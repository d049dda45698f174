"""Blocks of an input as records by chunk, and what they say together before the first byte is put."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.kernels.routing import Routed, extent, route, stored
from zarr_vectors_lazy.kernels.rows import (
    INTERVAL,
    Records,
    attribute_field,
    intervals_of,
    join_intervals,
    pack,
    record_dtype,
    row_numbers,
)
from zarr_vectors_lazy.model.arrays import missing_integer
from zarr_vectors_lazy.model.writing import Grid
from zarr_vectors_lazy.types import ChunkCoords, Floats, IntArray, Vertices
from zarr_vectors_lazy.write.job import Column
from zarr_vectors_lazy.write.scratch import Runs

CODES = np.dtype("<i4")  # dtype of codes for the categories of one block
MAX_CELLS = 2**62


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Block:
    """Rows of one input block, checked.

    Parameters
    ----------
    positions, dtype
        (n, D) positions as given, and the dtype in which they are stored.
    attributes
        Rows aligned with ``positions``; text as codes of the block's own categories.
    owners
        (n,) object id of each row, or for paths the number of its path in the block; None if there are no objects.
    paths
        Number of paths in the block.
    ids
        (paths,) object id of each; None to number them in order.
    along
        (n,) place of each row along all paths, if rows do not come path by path; ``owners`` are then object ids.
    left
        Number of input rows that no path contains, which are not included.
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
    """What was seen of some input blocks; small, so that one task can gather all of them.

    Parameters
    ----------
    coords, counts
        (C, D) chunks in lexicographic order, and the rows of each.
    lo, hi
        (D,) corners of the positions as stored.
    exact
        The same for positions as given, because storing them may round them outward.
    owners
        Distinct object ids, ascending; for paths, the given ids in order.
    runs
        (R, 3) intervals of consecutive places along all paths, with the object of each, if rows come with places.
    paths, rows
        Paths and rows by block.
    categories
        Categories of text by attribute and block.
    missing
        Attributes of text and integers with missing values.
    taken
        Attributes of integers that contain `missing_integer`.
    left
        Number of rows that no path contains.
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
"""Checks the arrays of one input block; None if it is empty."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BlockReader:
    """How input blocks become records.

    Parameters
    ----------
    read
        Makes a `Block` of what Dask computed.
    name
        Name of the argument that holds the positions, for errors.
    chunk_shape
        (D,) edge lengths.
    dtype
        Dtype of the records, from the first block; others must have the same.
    """

    read: Reader
    name: str
    chunk_shape: Floats
    dtype: np.dtype[np.void]


@dataclass(frozen=True, slots=True, eq=False)
class Taken:
    """Records of one input block in the order of ``routed``, and its statistics."""

    records: Records
    routed: Routed
    statistics: BlockStatistics

    @property
    def rows(self) -> Runs:
        """The rows of each chunk, as they are sent."""
        return Runs(self.records, np.concatenate([self.routed.coords, self.routed.bounds[1:, None]], axis=1))


def layout(block: Block) -> np.dtype[np.void]:
    """Dtype of a block's records."""
    attributes = {
        name: (CODES if is_coded(column) else column.values.dtype.newbyteorder("<"), column.values.shape[1:])
        for name, column in block.attributes.items()
    }
    positions = (block.dtype.newbyteorder("<"), block.positions.shape[1])
    return record_dtype(
        positions, attributes, owned=block.owners is not None and block.along is None, tracked=block.along is not None
    )


def take_block(reader: BlockReader, number: int, *parts: Any) -> Taken:
    """Records of an input block by chunk.

    Raises
    ------
    SelectionError
        If a position is NaN or infinite, or if the block's arrays do not match each other or those of the first block.
    """
    block = _read(reader, number, parts)
    if block is None:
        return _nothing(reader, number)
    if layout(block) != reader.dtype:
        raise SelectionError(
            f"block {number} has {described(layout(block), 'positions')}, the first block "
            f"{described(reader.dtype, 'positions')}; give all blocks the same attributes, each of one dtype"
        )
    lo, hi = _corners(reader, block, number)
    if not len(block.positions):
        return _nothing(reader, number)
    first, last = np.floor(lo / reader.chunk_shape), np.floor(hi / reader.chunk_shape)
    if not (np.abs([first, last]) < MAX_CELLS).all() or np.prod(last - first + 1) > MAX_CELLS:
        raise SelectionError(
            f"chunk_shape {reader.chunk_shape.tolist()} is absurdly small for {lo.tolist()} to {hi.tolist()}"
        )
    origin = first.astype(np.int64)
    routed = route(block.positions, block.dtype, reader.chunk_shape, origin, last.astype(np.int64) - origin + 1)
    records = _records(reader, block, number).take(routed.order)  # ten times faster than by index
    return Taken(records, routed, _statistics(block, number, routed, (lo, hi)))


def _nothing(reader: BlockReader, number: int) -> Taken:
    ndim = reader.dtype["positions"].shape[0]
    none = np.empty((0, ndim), np.int64)
    far = np.full(ndim, np.inf)
    statistics = BlockStatistics(
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
    return Taken(np.empty(0, reader.dtype), routed, statistics)


def described(records: np.dtype[np.void], first: str, name: str = "") -> str:
    """The content of records, described as a user gave it: the field ``first``, called ``name``, and attributes."""
    fields = [first, *(each for each in records.names or () if each.startswith(attribute_field("")))]
    names = [name or first, *(each.removeprefix(attribute_field("")) for each in fields[1:])]
    dtypes = (records[each] for each in fields)
    return ", ".join(
        f"{each} {dtype.base.name}" + (f" {dtype.shape}" if dtype.shape else "")
        for each, dtype in zip(names, dtypes, strict=True)
    )


def _read(reader: BlockReader, number: int, parts: tuple[Any, ...]) -> Block | None:
    try:
        return reader.read(*parts)
    except SelectionError as error:
        raise SelectionError(f"block {number}: {error.message}") from error


def _corners(reader: BlockReader, block: Block, number: int) -> tuple[Floats, Floats]:
    lo, hi, bad = extent(block.positions, block.dtype)
    if bad >= 0:
        raise SelectionError(
            f"{reader.name} must be finite as {block.dtype.name}; row {bad} of block {number} is "
            f"{np.asarray(block.positions[bad]).tolist()}"
        )
    return lo, hi


def _records(reader: BlockReader, block: Block, number: int) -> Records:
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
    return pack(reader.dtype, columns, rows)


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
    """Whether the values are codes of categories, which differ between blocks."""
    return column.dictionary is not None and not column.dictionary.plain and not column.whole


def _has_fill(column: Column) -> bool:
    """Whether integers without missing values contain the one that would stand for them."""
    dtype = column.values.dtype
    whole = column.dictionary is None and dtype.kind in "iu"
    return whole and bool((column.values == missing_integer(dtype)).any())


def _objects(block: Block) -> tuple[IntArray, IntArray]:
    """Owners and runs, as a `BlockStatistics` has them."""
    owners, runs = np.empty(0, np.int64), np.empty((0, INTERVAL), np.int64)
    if block.ids is not None:
        return block.ids, runs
    if block.owners is None or block.paths:
        return owners, runs
    if block.along is not None:
        return owners, intervals_of(block.along, block.owners)
    return np.unique(block.owners), runs


def merge_statistics(several: Sequence[BlockStatistics], paths: bool) -> BlockStatistics:
    """Join several statistics, in their order; at least one."""
    coords, counts = _merge_counts([each.coords for each in several], [each.counts for each in several])
    categories: dict[str, dict[int, np.ndarray[Any, Any]]] = {}
    for each in several:
        for name, of_blocks in each.categories.items():
            categories.setdefault(name, {}).update(of_blocks)
    owners = np.concatenate([each.owners for each in several])
    return BlockStatistics(
        coords=coords,
        counts=counts,
        lo=np.stack([each.lo for each in several]).min(axis=0),
        hi=np.stack([each.hi for each in several]).max(axis=0),
        exact=(
            np.stack([each.exact[0] for each in several]).min(axis=0),
            np.stack([each.exact[1] for each in several]).max(axis=0),
        ),
        owners=owners if paths else np.unique(owners),
        runs=join_intervals(np.concatenate([each.runs for each in several])),
        paths={number: count for each in several for number, count in each.paths.items()},
        rows={number: count for each in several for number, count in each.rows.items()},
        categories=categories,
        missing=frozenset().union(*(each.missing for each in several)),
        taken=frozenset().union(*(each.taken for each in several)),
        left=sum(each.left for each in several),
    )


def _merge_counts(coords: Sequence[ChunkCoords], counts: Sequence[IntArray]) -> tuple[ChunkCoords, IntArray]:
    every, rows = np.concatenate(coords), np.concatenate(counts)
    if not len(every):
        return every, rows
    order = np.lexsort(every.T[::-1])
    every, rows = every[order], rows[order]
    starts = np.flatnonzero(np.concatenate([[True], (every[1:] != every[:-1]).any(axis=1)]))
    return every[starts], np.add.reduceat(rows, starts)


def flat(coords: ChunkCoords, grid: Grid) -> IntArray:
    """(n,) number of each chunk in the grid, in ascending order."""
    local = coords - np.asarray(grid.origin, np.int64)
    if not len(local):
        return np.empty(0, np.int64)
    return np.asarray(np.ravel_multi_index(tuple(local.T), grid.shape))


def take_rows(reader: BlockReader, number: int, *parts: Any) -> tuple[tuple[Runs], BlockStatistics]:
    """Send the rows of an input block to the parts that write their chunks; raises SelectionError like `take_block`."""
    taken = take_block(reader, number, *parts)
    return (taken.rows,), taken.statistics
