"""What tasks run to write the cells of a level, and the step that makes it a level when all are written."""

import hashlib
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from zarr_vectors_lazy.access.write.session import WriteSession
from zarr_vectors_lazy.format.writing import CURRENT, encode_rows, with_notes
from zarr_vectors_lazy.kernels.routing import corners
from zarr_vectors_lazy.model.writing import Cells, Encoding, Grid, LevelDraft, LevelRecord, Notes, merge_records
from zarr_vectors_lazy.requests import Put
from zarr_vectors_lazy.storage.connect import connect
from zarr_vectors_lazy.storage.fetch import fetch
from zarr_vectors_lazy.storage.spec import StoreSpec
from zarr_vectors_lazy.types import ChunkCoords, Vertices

VERTICES = "vertices"


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelWriter:
    """Writes one level: small and picklable, so that tasks carry it.

    Each task calls `write` with the cells of one or some chunks for all arrays, and returns the record; `finish`
    makes the level's metadata from all records. Without it there is no level: the store's root, which makes it a
    store, is put by `access.write.session`.

    Parameters
    ----------
    spec
        The store.
    level
        Index of the level.
    grid
        Chunk grid of all its arrays.
    encoding
        How cells are stored. With shards, one call of `write` must have all chunks of each shard that it touches.
    session
        The write that the level is part of, once that has begun: it replaces no object of another one.
    """

    spec: StoreSpec
    level: int
    grid: Grid
    encoding: Encoding
    session: WriteSession | None = None

    def under(self, session: WriteSession) -> Self:
        """Return the same for tasks of a write that has begun."""
        return replace(self, session=session)

    def _put(self, puts: Sequence[Put]) -> None:
        if self.session is None:
            fetch(connect(self.spec), puts)
        else:
            self.session.put(puts)

    def write(self, coords: ChunkCoords, vertices: Sequence[Vertices], cells: Iterable[Cells] = ()) -> LevelRecord:
        """Encode and put cells, all puts concurrently; return what was written.

        Parameters
        ----------
        coords
            (n, K) chunks; none without rows.
        vertices
            (N, D) positions of each chunk, in the dtype of the draft.
        cells
            Payloads of the other arrays.

        Raises
        ------
        StoreError
            If a put fails, or another write has taken the place.
        SelectionError
            If a cell is 4 GiB or larger.
        """
        positions = Cells(path=VERTICES, coords=coords, payloads=[encode_rows(rows) for rows in vertices])
        puts: list[Put] = []
        written: dict[str, ChunkCoords] = {}
        content: dict[str, int] = {}
        for array in (positions, *cells):
            if not len(array.coords):
                continue
            made = CURRENT.cell_puts(self.level, array, self.grid, self.encoding)
            written[array.path] = array.coords
            content[array.path] = sum(content_of(put, checked=self.encoding.checksum) for put in made) % 2**64
            puts += made
        self._put(puts)
        far = np.full(coords.shape[1], np.inf)  # without vertices: links alone
        extents = [corners(rows) for rows in vertices] or [(far, -far)]
        return LevelRecord(
            cells=written,
            coords=coords,
            counts=np.fromiter(map(len, vertices), np.int64, len(vertices)),
            lo=np.stack([lo for lo, _ in extents]).min(axis=0),
            hi=np.stack([hi for _, hi in extents]).max(axis=0),
            content=content,
        )

    def finish(
        self,
        draft: LevelDraft,
        records: Sequence[LevelRecord],
        puts: Sequence[Put] = (),
        notes: Notes | None = None,
    ) -> LevelRecord:
        """Put the metadata of the level's arrays and ``puts`` (objects, groups), then the level's own node.

        Parameters
        ----------
        notes
            What these documents have besides, where the store is a copy.

        Returns
        -------
        All records joined.

        Raises
        ------
        StoreError
            If a put fails, or another write has taken the place.
        """
        joined = merge_records(records)
        made = [*puts, *CURRENT.level_puts(draft, joined, self.grid, self.encoding, beside=puts)]
        *arrays, node = made if notes is None else (with_notes(put, notes) for put in made)
        self._put(arrays)
        self._put([node])
        return joined


def content_of(put: Put, *, checked: bool) -> int:
    """Number that changes with a stored object."""
    sum_of_bytes = struct.unpack("<I", put.data[-4:])[0] if checked else zlib.crc32(put.data)
    digest = hashlib.blake2b(f"{put.key}:{sum_of_bytes}:{len(put.data)}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")
