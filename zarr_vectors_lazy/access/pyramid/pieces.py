"""Tables of pieces: which fragment of a coarse chunk is of which object; the journal keeps them."""

from collections.abc import Sequence

import numpy as np

from zarr_vectors_lazy.access.pyramid.cells import JOURNAL
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.writing import CURRENT
from zarr_vectors_lazy.model.chunks import dotted
from zarr_vectors_lazy.model.pyramid import ChunkKey, Pieces
from zarr_vectors_lazy.requests import Get, Put
from zarr_vectors_lazy.storage.base import Backend
from zarr_vectors_lazy.storage.fetch import fetch
from zarr_vectors_lazy.types import IntArray

OWNER, FRAGMENT, FIRST, LAST, START, STOP = range(6)
"""Columns: object, fragment, first and last place on the finer level, rows of the chunk."""
COLUMNS = 6


def pieces_key(level: int, chunk: ChunkKey) -> str:
    """Key of a chunk's table."""
    return f"{JOURNAL}/{level}/pieces/{dotted(chunk)}"


def pieces_put(level: int, chunk: ChunkKey, pieces: Pieces, objects: int) -> tuple[Put, tuple[int, ...]]:
    """Put of a chunk's table, and (shards + 1,) where the objects of each shard end in it."""
    assert pieces.owners is not None
    number = np.arange(len(pieces.owners))
    zero = np.zeros_like(number)
    columns = (
        pieces.owners,
        number,
        zero if pieces.first is None else pieces.first,
        zero if pieces.last is None else pieces.last,
        pieces.starts[:-1],
        pieces.starts[1:],
    )
    table = np.stack(columns, axis=1)[pieces.owners >= 0].astype("<i8")
    ends = np.minimum(np.arange(0, objects + CURRENT.shard_rows, CURRENT.shard_rows), objects)
    bounds = np.searchsorted(table[:, OWNER], ends)
    return Put(pieces_key(level, chunk), table.tobytes()), tuple(bounds.tolist())


def read_pieces(
    backend: Backend, level: int, chunks: Sequence[ChunkKey], spans: Sequence[tuple[int, int]] | None = None
) -> list[IntArray]:
    """Tables (F, 6) of some chunks, or rows [start, stop) of each.

    Raises
    ------
    FormatError
        If a table is not there.
    """
    keys = [pieces_key(level, chunk) for chunk in chunks]
    row = 8 * COLUMNS
    gets = (
        [Get(key) for key in keys]
        if spans is None
        else [Get(key, start * row, stop * row) for key, (start, stop) in zip(keys, spans, strict=True)]
    )
    found = []
    for key, raw in zip(keys, fetch(backend, gets), strict=True):
        if raw is None or len(raw) % row:
            raise FormatError(f"the journal has no table {key!r}; build again with overwrite=True", where=backend.url)
        found.append(np.frombuffer(raw, "<i8").astype(np.int64).reshape(-1, COLUMNS))
    return found
