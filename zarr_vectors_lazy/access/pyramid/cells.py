"""Payloads put as cells, and the journal that tells which coarse chunks are finished."""

import hashlib
import json
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.writing import CURRENT
from zarr_vectors_lazy.model.chunks import dotted
from zarr_vectors_lazy.model.pyramid import CellRecord, ChunkKey, ChunkRecord
from zarr_vectors_lazy.model.writing import Cells, Encoding, Grid
from zarr_vectors_lazy.requests import Get, Put
from zarr_vectors_lazy.storage.base import Backend
from zarr_vectors_lazy.storage.fetch import fetch
from zarr_vectors_lazy.types import Buffer

JOURNAL = "_building"
FLUSHED_NBYTES = 16 * 2**20  # encoded bytes that a task holds before it puts them


@dataclass(frozen=True, slots=True, eq=False)
class Payload:
    """What a cell is to hold.

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


def encode(payload: Payload, grid: Grid, encoding: Encoding) -> tuple[Put, CellRecord]:
    """Put of a cell, and what the journal tells of it."""
    cells = Cells(path=payload.path, coords=np.asarray([payload.chunk], np.int64), payloads=[payload.data])
    (put,) = CURRENT.cell_puts(payload.level, cells, grid, encoding)
    content = cell_content(put, encoding)
    return put, CellRecord(payload.level, payload.path, payload.chunk, payload.count, content)


def cell_content(put: Put, encoding: Encoding) -> int:
    """Number that changes with a stored cell."""
    check = struct.unpack("<I", put.data[-4:])[0] if encoding.checksum else zlib.crc32(put.data)
    digest = hashlib.blake2b(f"{put.key}:{check}:{len(put.data)}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def record_key(level: int, stage: str, chunk: ChunkKey) -> str:
    """Key of a finished chunk's record."""
    return f"{JOURNAL}/{level}/{stage}/{dotted(chunk)}"


class Outbox:
    """Puts of some chunks, made when they are large enough; a chunk's record follows its cells.

    Parameters
    ----------
    backend
        An open connection.
    level, stage
        Under which records are kept.
    """

    def __init__(self, backend: Backend, level: int, stage: str) -> None:
        self._backend = backend
        self._level, self._stage = level, stage
        self._puts: list[Put] = []
        self._records: list[Put] = []
        self._nbytes = 0

    def add(self, puts: Sequence[Put], record: ChunkRecord) -> None:
        """Queue a finished chunk."""
        self._puts += puts
        data = json.dumps(record.to_json(), separators=(",", ":")).encode()
        self._records.append(Put(record_key(self._level, self._stage, record.chunk), data))
        self._nbytes += sum(len(put.data) for put in puts)
        if self._nbytes > FLUSHED_NBYTES:
            self.flush()

    def put(self, put: Put) -> None:
        """Queue a cell that belongs to the record that was last."""
        self._puts.append(put)
        self._nbytes += len(put.data)

    def flush(self) -> None:
        """Put what is queued: first all cells, then the records."""
        fetch(self._backend, self._puts)
        fetch(self._backend, self._records)
        self._puts, self._records, self._nbytes = [], [], 0


def read_records(backend: Backend, level: int, stage: str, chunks: Sequence[ChunkKey]) -> list[ChunkRecord | None]:
    """Records of chunks that an earlier run finished; None for the others.

    Raises
    ------
    FormatError
        If a record is not readable.
    """
    keys = [record_key(level, stage, chunk) for chunk in chunks]
    found: list[ChunkRecord | None] = []
    for key, raw in zip(keys, fetch(backend, [Get(key) for key in keys]), strict=True):
        try:
            found.append(None if raw is None else ChunkRecord.from_json(json.loads(bytes(raw))))
        except (ValueError, KeyError, TypeError) as error:
            raise FormatError(f"the journal entry {key!r} is damaged: {error}", where=backend.url) from error
    return found
