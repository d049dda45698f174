"""Where the cells of a 0.9 chunk-grid array are (spec 0.9, 4.1 to 4.3)."""

from dataclasses import dataclass

import numpy as np

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.codecs import HEAD_NBYTES, Pipeline, decode_single_vlen
from zarr_vectors_lazy.format.ranges import fetch_ranges, part
from zarr_vectors_lazy.model.arrays import Places
from zarr_vectors_lazy.requests import Get, Steps
from zarr_vectors_lazy.types import Blob, BoolArray, Buffer, ChunkCoords, IntArray, Raw

ABSENT = np.uint64(2**64 - 1)
MAX_CELL_NBYTES = 2**33  # the format states sizes in 32 bits; leaves room for codecs
MAX_OFFSET = 2**62


@dataclass(frozen=True, slots=True, kw_only=True)
class Shards:
    """The ``sharding_indexed`` codec of an array.

    Parameters
    ----------
    shape
        (K,) inner cells of a shard.
    index_at_end
        Where the shard's index lies.
    index_crc
        Whether the index ends with a crc32c.
    """

    shape: tuple[int, ...]
    index_at_end: bool
    index_crc: bool

    @property
    def cells(self) -> int:
        """Inner cells of a shard."""
        return int(np.prod(self.shape))

    @property
    def index_nbytes(self) -> int:
        """Stored size of the index."""
        return 16 * self.cells + (4 if self.index_crc else 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class GridLayout:
    """Cells of one rank-K array, one a chunk.

    Parameters
    ----------
    path
        Path of the array.
    origin
        (K,) chunk coordinate of the cell with index 0.
    separator
        Between the components of a key.
    pipeline
        Direct decoder, or None where the array is read through zarr.
    shards
        Sharding, or None.
    """

    path: str
    origin: tuple[int, ...]
    separator: str
    pipeline: Pipeline | None
    shards: Shards | None

    @property
    def direct(self) -> bool:
        """Whether the codecs are ours to decode."""
        return self.pipeline is not None

    def zarr_indices(self, coords: ChunkCoords) -> IntArray:
        """(n, K) indices of the cells in the zarr array."""
        return np.asarray(coords, np.int64) - np.asarray(self.origin, np.int64)

    def requests(self, coords: ChunkCoords, places: Places | None = None, *, head: bool = False) -> int:
        """Requests that `fetch` makes; with shards: an index and one range each shard, at least."""
        if self.shards is None or not self.direct or not len(coords):
            return len(coords)
        shards = self.zarr_indices(coords) // np.asarray(self.shards.shape)
        shards -= shards.min(axis=0)
        flat = np.ravel_multi_index(tuple(shards.T), tuple((shards.max(axis=0) + 1).tolist()))
        _, wanted = np.unique(flat, return_counts=True)
        return int(np.where(_whole(wanted, self.shards), 1, 2).sum())

    def request_count_is_exact(self) -> bool:
        """Whether every cell is one object."""
        return self.shards is None and self.direct

    def fetch(self, coords: ChunkCoords, places: Places | None = None) -> Steps[list[Raw]]:
        """Encoded bytes of the cells; None where there is no object."""
        if self.shards is not None:
            return (yield from self._fetch_shards(coords))
        return (yield list(self._gets(self.zarr_indices(coords))))

    def fetch_heads(self, coords: ChunkCoords, places: Places | None = None) -> Steps[list[Raw]]:
        """First bytes of the cells."""
        if self.shards is not None:
            return (yield from self._fetch_shards(coords))
        return (yield [Get(get.key, 0, HEAD_NBYTES) for get in self._gets(self.zarr_indices(coords))])

    def decode(self, raw: Buffer | Blob) -> Buffer:
        """Payload of an encoded cell."""
        assert self.pipeline is not None
        assert not isinstance(raw, Blob)
        return decode_single_vlen(self.pipeline.decode(raw))

    def head_nbytes(self, raw: Buffer | Blob) -> int | None:
        """Payload size that the head of a cell tells."""
        if self.pipeline is None or isinstance(raw, Blob):
            return None
        total = self.pipeline.head_nbytes(raw)
        return None if total is None else total - 8

    def plain_keys(self, coords: ChunkCoords) -> list[str] | None:
        """Object keys of cells that are stored uncompressed, one an object; None where they are not."""
        if self.shards is not None or self.pipeline is None or self.pipeline.names:
            return None
        return [get.key for get in self._gets(self.zarr_indices(coords))]

    def object_key(self, index: IntArray) -> str:
        """Key of the object at an index: of a cell, or of a shard."""
        return f"{self.path}/c{self.separator}" + self.separator.join(map(str, index.tolist()))

    def object_keys(self, coords: ChunkCoords) -> set[str] | None:
        """Keys of the objects in which cells are stored: cells, or shards of them."""
        indices = self.zarr_indices(coords)
        if self.shards is not None:
            indices = np.unique(indices // np.asarray(self.shards.shape), axis=0)
        return {get.key for get in self._gets(indices)}

    def plain_nbytes(self, stored: int) -> int:
        """Payload size of an uncompressed cell of so many stored bytes."""
        return stored - 8

    def _gets(self, indices: IntArray) -> list[Get]:
        prefix = f"{self.path}/c{self.separator}"
        return [Get(prefix + self.separator.join(map(str, index))) for index in indices.tolist()]

    def _fetch_shards(self, coords: ChunkCoords) -> Steps[list[Raw]]:
        assert self.shards is not None
        shape = np.asarray(self.shards.shape, np.int64)
        indices = self.zarr_indices(coords)
        shard_of, cell = indices // shape, np.ravel_multi_index(tuple((indices % shape).T), self.shards.shape)
        shards, member = np.unique(shard_of, axis=0, return_inverse=True)
        member = member.reshape(-1)
        gets = self._gets(shards)
        whole = _whole(np.bincount(member, minlength=len(shards)), self.shards)
        n = self.shards.index_nbytes
        head = [
            Get(get.key) if all_of else Get(get.key, -n) if self.shards.index_at_end else Get(get.key, 0, n)
            for get, all_of in zip(gets, whole, strict=True)
        ]
        firsts = yield list(head)
        out: list[Raw] = [None] * len(coords)
        later: list[tuple[int, str, int, int]] = []
        for shard, raw in enumerate(firsts):
            if raw is None:
                continue
            members = np.flatnonzero(member == shard).tolist()
            try:
                index = decode_index(raw, self.shards)
            except FormatError as error:
                for at in members:
                    out[at] = error
                continue
            for at in members:
                start, nbytes = index[cell[at]]
                if start == ABSENT:
                    continue
                start, stop = int(start), int(start) + int(nbytes)
                if start > MAX_OFFSET or stop - start > MAX_CELL_NBYTES:
                    out[at] = FormatError(f"the index of shard {head[shard].key!r} names bytes {start} to {stop}")
                elif not whole[shard]:
                    later.append((at, head[shard].key, start, stop))
                elif stop > len(raw):
                    out[at] = FormatError(
                        f"shard {head[shard].key!r} has {len(raw)} bytes, its index names byte {stop}"
                    )
                else:
                    out[at] = part(raw, start, stop)
        yield from fetch_ranges(later, out)
        return out


def _whole(wanted: IntArray, shards: Shards) -> BoolArray:
    """Whether so many cells are wanted of a shard that one request for all of it moves least."""
    return wanted * 2 >= shards.cells


def decode_index(raw: Buffer, shards: Shards) -> np.ndarray[tuple[int, int], np.dtype[np.uint64]]:
    """First byte and size of each cell of a shard, from its index; (cells, 2)."""
    n = shards.index_nbytes
    if len(raw) < n:
        raise FormatError(f"{len(raw)} bytes are too few for a shard index of {n}")
    view = memoryview(raw)[len(raw) - n :] if shards.index_at_end else memoryview(raw)[:n]
    if shards.index_crc:
        view = memoryview(Pipeline(("crc32c",)).decode(view))
    return np.frombuffer(view, "<u8").reshape(-1, 2)
