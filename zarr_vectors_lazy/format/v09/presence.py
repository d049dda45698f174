"""Which cells there are where metadata do not list them yet: levels that are still being written (spec next, 7)."""

import hashlib
from dataclasses import replace

import numpy as np

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.base import Found, MetaSteps
from zarr_vectors_lazy.format.nodes import parse_integers
from zarr_vectors_lazy.format.v09.arrays import parse_layout
from zarr_vectors_lazy.format.v09.layout import ABSENT, GridLayout, decode_index
from zarr_vectors_lazy.model.chunks import dotted
from zarr_vectors_lazy.model.levels import LevelMeta
from zarr_vectors_lazy.requests import Get, ListSizes
from zarr_vectors_lazy.types import IntArray

LISTED = "nonempty_chunks"
SMALL_NBYTES = 128  # an object of no more may hold an empty cell, which counts as absent


def with_presence(node: Found | None, level: LevelMeta) -> MetaSteps[Found | None]:
    """Node of an array of cells, with the list that the end of a write will give it, where that is deferred.

    Raises
    ------
    FormatError
        If the store cannot be listed, or an object is none of the array's.
    """
    if node is None or not level.deferred or LISTED in node.attributes or node.doc.get("node_type") != "array":
        return node
    shape = parse_integers(node.doc.get("shape"), "shape", node.path)
    origin = parse_integers(node.attributes.get("chunk_grid_origin", [0] * len(shape)), "origin", node.path)
    layout = parse_layout(node, origin)
    (sizes,) = yield [ListSizes(node.path)]
    if sizes is None or layout.pipeline is None:
        text = f"level {level.index} is still being written: its presence is deferred, and this store cannot be listed"
        raise FormatError(text, where=node.path)
    prefix = layout.object_key(np.empty(0, np.int64))
    keys = sorted(key for key in sizes if key.startswith(prefix) and sizes[key])
    indices = np.asarray([_index(key, prefix, layout, len(shape)) for key in keys], np.int64).reshape(-1, len(shape))
    if layout.shards is not None:
        cells, nbytes, gets = yield from _cells_of_shards(layout, keys, indices)
    else:
        cells, gets = indices, [Get(key) for key in keys]
        nbytes = np.asarray([sizes[key] for key in keys], np.int64)
    small = np.flatnonzero(nbytes <= SMALL_NBYTES)
    raws = yield [gets[at] for at in small.tolist()]
    empty = [at for at, raw in zip(small.tolist(), raws, strict=True) if raw is None or not len(layout.decode(raw))]
    coords = np.delete(cells, empty, axis=0) + np.asarray(origin, np.int64)
    listed = sorted(map(dotted, coords.tolist()))
    doc = {**node.doc, "attributes": {**node.attributes, LISTED: listed}}
    digest = hashlib.blake2b(" ".join(listed).encode(), digest_size=16).hexdigest()
    return replace(node, doc=doc, digest=node.digest + digest)


def _index(key: str, prefix: str, layout: GridLayout, rank: int) -> list[int]:
    parts = key.removeprefix(prefix).split(layout.separator)
    if len(parts) != rank or not all(part.isdecimal() for part in parts):
        raise FormatError(f"object {key!r} is no cell of an array of rank {rank}", where=layout.path)
    return [int(part) for part in parts]


def _cells_of_shards(
    layout: GridLayout, keys: list[str], shards: IntArray
) -> MetaSteps[tuple[IntArray, IntArray, list[Get]]]:
    """Index, stored size and place of every cell of some shards, by their indexes."""
    assert layout.shards is not None
    n, shape = layout.shards.index_nbytes, np.asarray(layout.shards.shape, np.int64)
    raws = yield [Get(key, -n) if layout.shards.index_at_end else Get(key, 0, n) for key in keys]
    cells, nbytes, gets = [np.empty((0, len(shape)), np.int64)], [np.empty(0, np.int64)], []
    for key, shard, raw in zip(keys, shards, raws, strict=True):
        if raw is None:
            continue
        index = decode_index(raw, layout.shards)
        stored = np.flatnonzero(index[:, 0] != ABSENT)
        cells.append(shard * shape + np.stack(np.unravel_index(stored, layout.shards.shape), axis=1))
        nbytes.append(index[stored, 1].astype(np.int64))
        gets += [Get(key, int(start), int(start + size)) for start, size in index[stored].tolist()]
    return np.concatenate(cells), np.concatenate(nbytes), gets
