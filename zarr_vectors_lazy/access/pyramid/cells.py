"""Payloads put as cells, and the journal that tells which coarse chunks are finished."""

import hashlib
import json
import struct
import zlib
from collections.abc import Mapping, Sequence
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


def record_key(level: int, stage: str, first: ChunkKey) -> str:
    """Key of the records of a task's finished chunks; the task is known by the first of its chunks."""
    return f"{JOURNAL}/{level}/{stage}/{dotted(first)}"


class Outbox:
    """Puts of some chunks, made when they are large enough; what is told of finished chunks follows their cells.

    Parameters
    ----------
    backend
        An open connection.
    key
        Under which records are kept, see `record_key`.
    found
        Records of chunks that were finished before.
    """

    def __init__(self, backend: Backend, key: str, found: Mapping[ChunkKey, ChunkRecord]) -> None:
        self._backend = backend
        self._key = key
        self._records = list(found.values())
        self._puts: list[Put] = []
        self._nbytes = 0
        self._noted = len(self._records)

    def add(self, puts: Sequence[Put], record: ChunkRecord) -> None:
        """Queue a finished chunk."""
        self._puts += puts
        self._records.append(record)
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
        if len(self._records) > self._noted:
            plain = [record.to_json() for record in self._records]
            fetch(self._backend, [Put(self._key, json.dumps(plain, separators=(",", ":")).encode())])
        self._puts, self._nbytes, self._noted = [], 0, len(self._records)


def read_records(backend: Backend, key: str) -> dict[ChunkKey, ChunkRecord]:
    """Records of the chunks that an earlier run of a task finished.

    Raises
    ------
    FormatError
        If they are not readable.
    """
    (raw,) = fetch(backend, [Get(key)])
    if raw is None:
        return {}
    try:
        found = [ChunkRecord.from_json(record) for record in json.loads(bytes(raw))]
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(f"the journal entry {key!r} is damaged: {error}", where=backend.url) from error
    return {record.chunk: record for record in found}
