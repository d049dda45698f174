"""Arrays of cells, one per chunk, dense arrays, and families of links."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from zarr_vectors_lazy.model.levels import ChunkTable, by_key
from zarr_vectors_lazy.requests import Steps
from zarr_vectors_lazy.types import Array, Blob, Buffer, ChunkCoords, IntArray, Json, Raw

# Arrays of cells, one for each chunk, and dense arrays.

UNTOLD = np.dtype("V1")
"""Dtype of cells whose array states none."""


class Layout(Protocol):
    """Where the cells of one array are, and how each is encoded; one implementation for each generation."""

    __slots__ = ()

    @property
    def direct(self) -> bool:
        """Whether `fetch` and `decode` know the codecs; otherwise the array is read through zarr."""
        return True

    def fetch(self, coords: ChunkCoords, places: "Places | None" = None) -> Steps[list[Raw]]:
        """Encoded bytes of (n, K) cells; None if the object does not exist."""

    def fetch_heads(self, coords: ChunkCoords, places: "Places | None" = None) -> Steps[list[Raw]]:
        """Enough of each cell for `head_nbytes`."""

    def decode(self, raw: Buffer | Blob) -> Buffer:
        """Payload of an encoded cell; raises FormatError."""

    def head_nbytes(self, raw: Buffer | Blob) -> int | None:
        """Size in bytes of the payload, from the head of a cell; None if the head does not show it."""

    def plain_keys(self, coords: ChunkCoords) -> list[str] | None:
        """Object keys of cells that are stored uncompressed, one per object; None if they are not."""
        return None

    def object_keys(self, coords: ChunkCoords) -> set[str] | None:
        """Keys of the objects that store cells, if metadata list the cells; None if a listing does."""
        return None

    def plain_nbytes(self, stored: int) -> int:
        """Payload size of an uncompressed cell with a given number of stored bytes."""
        return stored

    def zarr_indices(self, coords: ChunkCoords) -> IntArray:
        """Non-negative (n, K) indices of the cells in their zarr array, if they are in a single one."""
        return coords

    def requests(self, coords: ChunkCoords, places: "Places | None" = None, *, head: bool = False) -> int:
        """How many requests `fetch` or `fetch_heads` makes for (n, K) cells."""


@dataclass(frozen=True, slots=True, eq=False)
class Pack:
    """An object that holds several cells (spec 0.7, 3.4).

    Parameters
    ----------
    path
        Path of its array.
    key
        Key of its single object, below the path.
    stored
        Decoded size.
    codecs
        Bytes-to-bytes codecs; None if only zarr can decode it.
    """

    path: str
    key: str
    stored: int
    codecs: tuple[str, ...] | None


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Where cells that share objects are; only the places of the cells that it reads travel in a task.

    Parameters
    ----------
    packs
        The objects.
    pack
        (n,) the object of each cell, -1 for a cell with its own object.
    starts, stops
        (n,) bytes [start, stop) of the decoded object.
    """

    packs: tuple[Pack, ...]
    pack: IntArray
    starts: IntArray
    stops: IntArray

    def take(self, rows: IntArray) -> "Places":
        """Places of some cells."""
        pack = self.pack[rows]
        used, at = np.unique(pack[pack >= 0], return_inverse=True)
        renumbered = np.full(len(pack), -1, np.int64)
        renumbered[pack >= 0] = at
        return Places(tuple(self.packs[i] for i in used.tolist()), renumbered, self.starts[rows], self.stops[rows])


@dataclass(frozen=True, slots=True, kw_only=True)
class Dictionary:
    """What the stored integers of an attribute stand for.

    Parameters
    ----------
    categories
        (n,) values of the codes 0, 1, ...: ``<U..`` or numbers; empty if ``plain``.
    fill
        Code that means missing, or None.
    plain
        Whether the codes are the values themselves: integers that may be missing.
    """

    categories: Array
    fill: int | None = None
    plain: bool = False

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of decoded values; float64 for integers that may be missing, if it holds all of them exactly."""
        dtype: np.dtype[Any] = self.categories.dtype
        if self.fill is None or dtype.kind not in "iub" or not float64_holds(self.categories):
            return dtype
        return np.dtype(np.float64)


def is_coded(dictionary: Dictionary | None) -> bool:
    """Whether stored integers stand for categories."""
    return dictionary is not None and not dictionary.plain


def integers_with_missing(dtype: np.dtype[Any], fill: int | None = None) -> Dictionary:
    """How integers with missing values are stored: `missing_integer`, or another one, stands for them."""
    fill = missing_integer(dtype) if fill is None else fill
    return Dictionary(categories=np.empty(0, dtype.newbyteorder("=")), fill=fill, plain=True)


def missing_integer(dtype: np.dtype[Any]) -> int:
    """The integer that stands for missing values: the smallest of signed, the largest of unsigned types."""
    info = np.iinfo(dtype)
    return int(info.min if dtype.kind == "i" else info.max)


def absent_value(dtype: np.dtype[Any]) -> Any:
    """What absent rows of objects are filled with (spec 0.9, 8): NaN, `missing_integer`, False, ``""``."""
    if dtype.kind in "iu":
        return missing_integer(dtype)
    return dtype.type(np.nan) if dtype.kind in "fc" else False if dtype.kind == "b" else ""


def float64_holds(values: Array) -> bool:
    """Whether float64 holds all of some numbers exactly."""
    if values.dtype.kind not in "iu" or values.dtype.itemsize < 8 or not values.size:
        return True
    large = values[(values > 2**53) | (values < -(2**53))]
    floats = large.astype(np.float64)
    if (
        floats >= float(2 ** (63 if large.dtype.kind == "i" else 64))
    ).any():  # rounded up to a number that it does not hold
        return False
    return bool((floats.astype(large.dtype) == large).all())


@dataclass(frozen=True, slots=True, kw_only=True)
class CellSpec:
    """How the cells of one array are read; small, travels in tasks.

    Parameters
    ----------
    path
        Path of the array in the store.
    dtype
        Dtype of the payload.
    row_shape
        Shape of one row; None if only the bytes show it.
    layout
        Where and how the cells are stored.
    dictionary
        Categories, for dictionary-encoded attributes.
    """

    path: str
    dtype: np.dtype[Any]
    row_shape: tuple[int, ...] | None
    layout: Layout
    dictionary: Dictionary | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class CellArray:
    """An array of cells, one for each chunk.

    Parameters
    ----------
    spec
        How a cell is read.
    chunks
        The chunks whose cells the store declares present.
    counts
        (n,) rows of each cell in the order of ``chunks``, or None if the metadata do not state them.
    digest
        Changes when the array's metadata change.
    attributes
        The array's own attributes.
    places
        Places of the cells in the order of ``chunks``, if some share objects.
    told
        Whether the dtype was not stated by the array, but by the root or the user.
    """

    spec: CellSpec
    chunks: ChunkTable
    counts: IntArray | None = None
    digest: str = ""
    attributes: Json = field(default_factory=dict)
    places: Places | None = None
    told: bool = False


_NUMBERS = {"NaN": np.nan, "Infinity": np.inf, "-Infinity": -np.inf}  # in the form of Zarr's metadata


class Stored(Protocol):
    """An array that is not one of Zarr's, and how its objects form it."""

    @property
    def requests(self) -> int:
        """How many requests `read` makes."""

    def read(self) -> Steps[Array]:
        """The whole array; raises FormatError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseArray:
    """An ordinary array with a row for each object or group.

    Parameters
    ----------
    path, name
        Where it is, and what it holds.
    shape, dtype
        Shape and dtype of the whole array.
    chunk_rows
        Rows that a stored chunk holds.
    fill
        Value of absent rows.
    stored
        How to read it if it is not a Zarr array.
    codecs
        Names of its bytes-to-bytes codecs, in the order in which a writer applies them.
    digest
        Changes when its metadata change.
    attributes
        The array's own attributes.
    present
        Number of stored rows; the rest of ``shape`` has the fill value. None for all.
    repeats
        What our writers repeat in it for other readers, ``"ids"`` or ``"vertices"``; empty for an attribute.
    direct
        Whether its stored chunks are ``vlen-bytes`` buffers at ``c/0``, ``c/1``, ..., behind known codecs.
    """

    path: str
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunk_rows: int
    fill: Any = None
    stored: Stored | None = None
    codecs: tuple[str, ...] = ()
    digest: str = ""
    attributes: Json = field(default_factory=dict)
    present: int | None = None
    repeats: str = ""
    direct: bool = False

    def fit(self, rows: int) -> "DenseArray":
        """Array with a given number of rows: further stored rows are residue, and missing ones have the fill value."""
        stored = self.shape[0] if self.present is None else self.present
        if rows == self.shape[0] == stored:
            return self
        return replace(self, shape=(rows, *self.shape[1:]), present=None if stored >= rows else stored)

    @property
    def missing(self) -> Any:
        """Value of absent rows, of the array's dtype."""
        if self.dtype.hasobject or self.dtype.kind == "U":
            return str(self.fill or "")
        return np.zeros((), self.dtype) if self.fill is None else np.asarray(_NUMBERS.get(self.fill, self.fill))


# Link families.


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkCoding:
    """How link records are laid out in a payload.

    Parameters
    ----------
    width
        Endpoints of a record, L.
    dtype
        Stored integer dtype.
    grouped
        Whether the payload is the self-describing blob of groups.
    permuted
        Whether a first column states the order in which the endpoints were given.
    reversed
        Whether endpoints come parent first (cross-chunk records of streaming skeletons).
    """

    width: int
    dtype: np.dtype[Any]
    grouped: bool
    permuted: bool
    reversed: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class LinkSegment:
    """The link records of one family whose endpoints have the same relative chunk offsets.

    Parameters
    ----------
    array
        Its cells, by chunk of the stored endpoint 0.
    name
        The offsets as the format writes them, e.g. ``"0.0.+1"``.
    offsets
        (L - 1, K) chunk offsets of the other endpoints relative to the first.
    coding
        How records are laid out in a payload.
    by_key
        Whether cells are canonically ordered by their dotted keys as text (spec 0.9, 7.6), or as in the table.
    """

    array: CellArray
    name: str
    offsets: IntArray
    coding: LinkCoding
    by_key: bool = True

    @cached_property
    def listed(self) -> IntArray:
        """(n,) rows of ``array.chunks`` in canonical order."""
        if not self.by_key:
            return np.arange(len(self.array.chunks))
        return np.asarray(by_key(self.array.chunks.coords)[1], np.int64)


@dataclass(frozen=True, kw_only=True, eq=False)
class LinkTable:
    """Link records that name the chunk of each endpoint, all in one object (spec 0.7, 4.5).

    Parameters
    ----------
    records
        (R, L, K + 1) int64: K chunk coordinates and a row, for each endpoint.
    digest
        Changes when its metadata change.
    """

    records: DenseArray
    digest: str


@dataclass(frozen=True, kw_only=True, eq=False)
class LinkValues:
    """An attribute of a link family.

    Parameters
    ----------
    cells
        Its cells by segment name; segments without values are left out.
    table
        Values of the family's table, or None if there are none.
    """

    cells: dict[str, CellArray]
    table: DenseArray | None = None

    @property
    def fill(self) -> int | None:
        """The stored integer that stands for a missing value; None if there is none."""
        codings = (array.spec.dictionary for array in self.cells.values())
        return next((coding.fill for coding in codings if coding is not None and coding.plain), None)


@dataclass(frozen=True, kw_only=True, eq=False)
class LinkFamily:
    """All link records from one level to level + delta, without duplicates.

    Parameters
    ----------
    delta
        Level of the other endpoints, minus this level.
    width
        Endpoints of a record, L.
    directed
        Whether the order of endpoints matters to the writer.
    segments
        In canonical order.
    table
        Records that follow those of the segments, or None.
    stated
        Number of records that its metadata state, or None.
    same_key
        Whether a cell's records lead to the chunk with the same coordinate on the other level; otherwise to the one in
        which the cell's chunk lies.
    parted
        Whether records inside a chunk of a skeleton stay inside a fragment, and each vertex has one parent.
    """

    delta: int
    width: int
    directed: bool
    segments: tuple[LinkSegment, ...]
    table: LinkTable | None = None
    stated: int | None = None
    same_key: bool = False
    parted: bool = False
