"""What the rows of finer chunks became: the journal keeps it where links lead there from elsewhere."""

from collections.abc import Iterator

import numpy as np

from zarr_vectors_lazy.access.pyramid.cells import JOURNAL
from zarr_vectors_lazy.access.pyramid.join import Joined
from zarr_vectors_lazy.access.pyramid.read import FineRows
from zarr_vectors_lazy.access.pyramid.step import Step
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.model.chunks import ChunkTable, dotted
from zarr_vectors_lazy.model.pyramid import ChunkKey
from zarr_vectors_lazy.requests import Get, Put
from zarr_vectors_lazy.storage.base import Backend
from zarr_vectors_lazy.storage.fetch import fetch
from zarr_vectors_lazy.types import ChunkCoords, IntArray


def map_key(level: int, chunk: ChunkKey) -> str:
    """Key of what the rows of a finer chunk became."""
    return f"{JOURNAL}/{level}/maps/{dotted(chunk)}"


def map_puts(step: Step, fine: FineRows, joined: Joined, named: ChunkCoords) -> Iterator[tuple[int, Put]]:
    """Puts that note the coarse row of each row of the finer chunks that are named, -1 for none; and whose they are."""
    became = np.full(len(fine), -1, np.int64)
    rows, labels = joined.became
    became[rows] = labels - joined.rows[fine.coarse_of_rows[rows]]
    wanted = np.zeros(len(fine.chunks), np.bool_)
    at = ChunkTable(named).find(fine.chunks) if len(named) else np.full(len(fine.chunks), -1)
    wanted[at >= 0] = True
    coarse = fine.coarse
    for i in np.flatnonzero(wanted).tolist():
        data = became[fine.starts[i] : fine.starts[i + 1]].astype("<i8").tobytes()
        yield int(coarse[i]), Put(map_key(step.level, tuple(fine.chunks[i].tolist())), data)


def read_maps(backend: Backend, step: Step, chunks: ChunkCoords) -> list[IntArray]:
    """Coarse row of each row of some finer chunks.

    Raises
    ------
    FormatError
        If there is none of a chunk: links lead to one that is not there.
    """
    keys = list(map(tuple, chunks.tolist()))
    raws = fetch(backend, [Get(map_key(step.level, key)) for key in keys])
    for key, raw in zip(keys, raws, strict=True):
        if raw is None:
            raise FormatError(
                f"a link of level {step.source.level} leads to chunk {dotted(key)!r}, which the level does not list",
                where=backend.url,
            )
    return [np.frombuffer(raw, "<i8").astype(np.int64) for raw in raws]
