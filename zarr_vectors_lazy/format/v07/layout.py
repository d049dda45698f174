"""Where the cells of an array are: each a blob of its own, or part of a packed one (spec 0.7, 3.1 and 3.4)."""

from dataclasses import dataclass

import numpy as np

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.limits import LIMITS
from zarr_vectors_lazy.format.ranges import fetch_ranges, part
from zarr_vectors_lazy.format.v07.blobs import decode_blob, fetch_blobs, fetch_sizes
from zarr_vectors_lazy.model.arrays import Pack, Places
from zarr_vectors_lazy.model.chunks import dotted
from zarr_vectors_lazy.requests import Elements, Get, Request, Steps
from zarr_vectors_lazy.types import Blob, Buffer, ChunkCoords, IntArray, Raw


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobLayout:
    """Cells of one array, one a chunk.

    Parameters
    ----------
    path
        Path of the group that holds them.
    headed
        Whether cells begin with a header: then none is all zeros.
    """

    path: str
    headed: bool

    @property
    def direct(self) -> bool:
        """True: what is not decoded here is asked of zarr cell by cell."""
        return True

    def zarr_indices(self, coords: ChunkCoords) -> IntArray:
        """The coordinates: no zarr array holds the cells of all chunks."""
        return np.asarray(coords, np.int64)

    def requests(self, coords: ChunkCoords, places: Places | None = None, *, head: bool = False) -> int:
        """Two requests a cell, of which one tells its size; packed cells, one an object at most for each."""
        if places is None:
            return len(coords) * (1 if head else 2)
        alone = int((places.pack < 0).sum())
        if head:
            return alone
        plain = np.asarray([pack.codecs == () for pack in places.packs], np.bool_)
        packed = places.pack[places.pack >= 0]
        return 2 * alone + int(plain[packed].sum()) + len(np.unique(packed[~plain[packed]]))

    def request_count_is_exact(self) -> bool:
        """Whether every cell costs what `requests` says: neighbours in a pack share a request."""
        return True

    def fetch(self, coords: ChunkCoords, places: Places | None = None) -> Steps[list[Raw]]:
        """Encoded bytes of the cells; None where there is no object."""
        out: list[Raw] = [None] * len(coords)
        alone = self._alone(len(coords), places)
        blobs = yield from fetch_blobs(self._paths(coords, alone), headed=self.headed)
        for at, blob in zip(alone, blobs, strict=True):
            out[at] = blob
        if places is not None:
            yield from self._fetch_packed(places, out)
        return out

    def fetch_heads(self, coords: ChunkCoords, places: Places | None = None) -> Steps[list[Raw]]:
        """Sizes of the cells."""
        out: list[Raw] = [None] * len(coords)
        if places is not None:
            sizes = (places.stops - places.starts).tolist()
            out = [Blob(size, size, (), None) for size in sizes]
        alone = self._alone(len(coords), places)
        blobs = yield from fetch_sizes(self._paths(coords, alone))
        for at, blob in zip(alone, blobs, strict=True):
            out[at] = blob
        return out

    def decode(self, raw: Buffer | Blob) -> Buffer:
        """Payload of an encoded cell."""
        return decode_blob(raw) if isinstance(raw, Blob) else raw

    def head_nbytes(self, raw: Buffer | Blob) -> int | None:
        """Payload size of a cell."""
        return raw.nbytes if isinstance(raw, Blob) else len(raw)

    def plain_keys(self, coords: ChunkCoords) -> list[str] | None:
        """None: only its own metadata tell how a cell is stored."""
        return None

    def object_keys(self, coords: ChunkCoords) -> set[str] | None:
        """None: a chunk is there because it is stored."""
        return None

    def plain_nbytes(self, stored: int) -> int:
        """The same."""
        return stored

    @staticmethod
    def _alone(n: int, places: Places | None) -> list[int]:
        return list(range(n)) if places is None else np.flatnonzero(places.pack < 0).tolist()

    def _paths(self, coords: ChunkCoords, rows: list[int]) -> list[str]:
        return [f"{self.path}/{dotted(coord)}" for coord in np.asarray(coords)[rows].tolist()]

    def _fetch_packed(self, places: Places, out: list[Raw]) -> Steps[None]:
        """Byte ranges of plain packs, other packs whole."""
        cells: dict[int, list[int]] = {}
        for at in np.flatnonzero(places.pack >= 0).tolist():
            cells.setdefault(int(places.pack[at]), []).append(at)
        starts, stops = places.starts.tolist(), places.stops.tolist()
        ranges = [
            (at, f"{pack.path}/{pack.key}", starts[at], stops[at])
            for number, pack in enumerate(places.packs)
            for at in cells.get(number, [])
            if pack.codecs == () and stops[at] > starts[at]
        ]
        yield from fetch_ranges(ranges, out)
        for at, _, start, stop in ranges:
            raw = out[at]
            out[at] = raw if raw is None or isinstance(raw, Exception) else Blob(stop - start, stop - start, (), raw)  # type: ignore[arg-type]
        whole = [number for number, pack in enumerate(places.packs) if pack.codecs != () and number in cells]
        asked: list[Request | Elements] = []
        for number in whole:
            pack = places.packs[number]
            asked.append(Get(f"{pack.path}/{pack.key}") if pack.codecs is not None else Elements(pack.path))
        answers = (yield asked) if asked else []
        for number, raw in zip(whole, answers, strict=True):
            decoded = self._decode_pack(places.packs[number], raw)
            for at in cells[number]:
                size = stops[at] - starts[at]
                failed = decoded is None or isinstance(decoded, Exception)
                out[at] = decoded if failed else Blob(size, size, (), part(decoded, starts[at], stops[at]))  # type: ignore[arg-type]
        for members in cells.values():
            for at in members:
                if starts[at] == stops[at]:
                    out[at] = Blob(0, 0, (), b"")

    def _decode_pack(self, pack: Pack, raw: Raw) -> Raw:
        if raw is None and pack.stored > LIMITS.cell_nbytes:
            return FormatError(f"{pack.stored} zeros of which nothing is stored: too many to believe")
        if raw is None:
            return None if self.headed else bytes(pack.stored)
        if isinstance(raw, Exception) or pack.codecs is None:
            return raw
        try:
            return decode_blob(Blob(pack.stored, pack.stored, pack.codecs, raw))  # type: ignore[arg-type]
        except FormatError as error:
            return error
