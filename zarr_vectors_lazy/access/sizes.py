"""How many rows chunks have, read as cheaply as the store allows."""

import math
from dataclasses import replace

import numpy as np

from zarr_vectors_lazy.access.level import LevelData
from zarr_vectors_lazy.access.read import read_batch, read_row_count
from zarr_vectors_lazy.access.wanted import Wanted
from zarr_vectors_lazy.errors import CorruptChunkError
from zarr_vectors_lazy.model.arrays import CellArray
from zarr_vectors_lazy.model.chunks import dotted
from zarr_vectors_lazy.requests import ListSizes
from zarr_vectors_lazy.storage.fetch import fetch
from zarr_vectors_lazy.types import IntArray

LISTING_SHARE = 20  # a listing tells of 1000 objects a request: worth it for one chunk in so many


def read_row_counts(data: LevelData, rows: IntArray | None) -> IntArray:
    """Rows of chunks of a level, before any selection.

    Sizes come from one listing where cells are plain and enough of them are asked for, else from the head of each
    cell; all concurrently.

    Parameters
    ----------
    rows
        Rows of the level's chunk table, or None for all.

    Returns
    -------
    (n,) int64.

    Raises
    ------
    CorruptChunkError
        If a listed chunk is missing or undecodable.
    """
    array = data.vertices
    at = np.arange(len(array.chunks)) if rows is None else rows
    if array.counts is not None:
        return array.counts[at]
    coords = array.chunks.coords[at]
    spec, layout = array.spec, array.spec.layout
    names = layout.plain_keys(coords)
    if names is not None and data.tree.backend.listable and len(at) * LISTING_SHARE >= len(array.chunks):
        (sizes,) = fetch(data.tree.backend, [ListSizes(spec.path)])
        counts = [_rows(data, sizes.get(name), coord) for name, coord in zip(names, coords, strict=True)]
        return np.asarray(counts, np.int64)
    places = None if array.places is None else array.places.take(at)
    wanted = Wanted(member="", spec=spec, rows=tuple(range(len(at))), coords=coords, head=True, places=places)
    raws = read_batch(data.source, [wanted])
    counts = [read_row_count(data.source, spec, coord, raws["", i]) for i, coord in enumerate(coords.tolist())]
    return np.asarray(counts, np.int64)


def _rows(data: LevelData, nbytes: int | None, coord: IntArray) -> int:
    spec = data.vertices.spec
    row = spec.dtype.itemsize * math.prod(spec.row_shape or ())
    payload = None if nbytes is None else spec.layout.plain_nbytes(nbytes)
    if payload is None or payload < 0 or payload % row:
        reason = "it is listed and there is no such object" if nbytes is None else f"{nbytes} bytes are no cell of rows"
        raise CorruptChunkError(reason, level=data.meta.index, array=spec.path, chunk=dotted(coord), url=data.tree.url)
    return payload // row


def read_text_width(data: LevelData, array: CellArray, row_shape: tuple[int, ...]) -> int:
    """Characters of the widest text of an attribute whose cells have widths of their own (spec 0.9, 14 no. 14)."""
    coords = array.chunks.coords
    at = data.vertices.chunks.find(coords)
    rows = read_row_counts(data, at) * int(np.prod(row_shape, dtype=np.int64))
    wanted = Wanted("", array.spec, tuple(range(len(coords))), coords, head=True, places=array.places)
    raws = read_batch(data.source, [wanted])
    plain = replace(array.spec, dtype=np.dtype("<U1"), row_shape=())
    counts = [read_row_count(data.source, plain, coord, raws["", i]) for i, coord in enumerate(coords.tolist())]
    return max((count // n for count, n in zip(counts, rows.tolist(), strict=True) if n), default=1)
