"""What the rows of finer chunks became: the journal keeps it until links are written."""

from collections.abc import Sequence

import numpy as np

from zarr_vectors_lazy.access.pyramid.cells import JOURNAL
from zarr_vectors_lazy.access.pyramid.step import Step
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.model.chunks import dotted
from zarr_vectors_lazy.model.pyramid import ChunkKey
from zarr_vectors_lazy.requests import Get, Put
from zarr_vectors_lazy.storage.base import Backend
from zarr_vectors_lazy.storage.fetch import fetch
from zarr_vectors_lazy.types import ChunkCoords, IntArray


def map_key(level: int, chunk: ChunkKey) -> str:
    """Key of what the rows of a finer chunk became."""
    return f"{JOURNAL}/{level}/maps/{dotted(chunk)}"


def map_puts(step: Step, chunks: Sequence[ChunkKey], starts: IntArray, became: IntArray) -> list[Put]:
    """Puts that note what each finer row became; (N,) coarse rows, -1 for none."""
    bounds = starts.tolist()
    return [
        Put(map_key(step.level, chunk), became[lo:hi].astype("<i8").tobytes())
        for chunk, lo, hi in zip(chunks, bounds[:-1], bounds[1:], strict=True)
    ]


def read_maps(backend: Backend, step: Step, chunks: ChunkCoords) -> dict[ChunkKey, IntArray]:
    """Coarse row of each row of some finer chunks.

    Raises
    ------
    FormatError
        If there is none of a chunk: links lead to one that is not there.
    """
    keys = [tuple(chunk) for chunk in np.unique(chunks, axis=0).tolist()]
    raws = fetch(backend, [Get(map_key(step.level, key)) for key in keys])
    for key, raw in zip(keys, raws, strict=True):
        if raw is None:
            raise FormatError(
                f"a link of level {step.source.level} leads to chunk {dotted(key)!r}, which the level does not list",
                where=backend.url,
            )
    return {key: np.frombuffer(raw, "<i8").astype(np.int64) for key, raw in zip(keys, raws, strict=True)}
