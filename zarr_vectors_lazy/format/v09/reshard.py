"""Cells of an array put together into other objects, their bytes as they are (spec 0.9, 4.1 and 4.3).

The new objects have keys that no old one has: `c.0.0` beside `c/0/0`. So they can be written while the old ones are
read, and one put of the array's document changes from these to those.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.base import Found
from zarr_vectors_lazy.format.encoding import encode_shard, shard_codecs
from zarr_vectors_lazy.format.nodes import parse_codecs
from zarr_vectors_lazy.format.v09.arrays import parse_cells, parse_layout
from zarr_vectors_lazy.format.v09.documents import dump
from zarr_vectors_lazy.format.v09.layout import GridLayout
from zarr_vectors_lazy.model.arrays import CellArray
from zarr_vectors_lazy.model.writing import Encoding, Grid
from zarr_vectors_lazy.requests import Put
from zarr_vectors_lazy.types import Buffer, ChunkCoords, Json

OTHER = {"/": ".", ".": "/"}


@dataclass(frozen=True, slots=True, eq=False)
class Resharding:
    """An array as it is and as it will be.

    Parameters
    ----------
    array
        As it is.
    layout
        Of its cells as they will be.
    doc
        The document that says so.
    """

    array: CellArray
    layout: GridLayout
    doc: bytes


def is_cell_array(doc: Json) -> bool:
    """Whether a document is that of an array of cells."""
    attributes = doc.get("attributes")
    return doc.get("node_type") == "array" and isinstance(attributes, dict) and "nonempty_chunks" in attributes


def stale_prefix(node: Found) -> str:
    """Beginning of the keys that cells of an array would have in its other form, and do not have."""
    layout = parse_cells(node).spec.layout
    assert isinstance(layout, GridLayout)
    return f"{node.path}/c{OTHER[layout.separator]}"


def plan_resharding(node: Found, shard_shape: tuple[int, ...] | None) -> Resharding | None:
    """How the cells of an array come into shards of that shape, or each into an object; None where they are there.

    Raises
    ------
    FormatError
        If its cells cannot be told apart without decoding them.
    """
    array = parse_cells(node)
    layout = array.spec.layout
    assert isinstance(layout, GridLayout)
    codecs = parse_codecs(node.doc.get("codecs"), node.path)
    inner = codecs
    if [codec["name"] for codec in codecs] == ["sharding_indexed"]:
        if layout.shards is None:
            raise FormatError("its shards are none that can be cut without decoding them", where=node.path)
        inner = parse_codecs(codecs[0]["configuration"].get("codecs"), node.path)
    if (None if layout.shards is None else layout.shards.shape) == shard_shape:
        return None
    rank = len(layout.origin)
    doc = {
        **node.doc,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(shard_shape or (1,) * rank)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": OTHER[layout.separator]}},
        "codecs": inner if shard_shape is None else shard_codecs(Encoding(), rank, inner),
    }
    return Resharding(array, parse_layout(Found(node.path, doc, ""), layout.origin), dump(doc))


def pack_puts(layout: GridLayout, coords: ChunkCoords, raws: Sequence[Buffer]) -> list[Put]:
    """Objects that hold encoded cells; with shards, all cells of each shard must be among them."""
    if layout.shards is None:
        keys = map(layout.object_key, layout.zarr_indices(coords))
        return [Put(key, bytes(raw)) for key, raw in zip(keys, raws, strict=True)]
    shape = np.asarray(layout.shards.shape, np.int64)
    indices = layout.zarr_indices(coords)
    at = np.ravel_multi_index(tuple((indices % shape).T), layout.shards.shape)
    shards, member = np.unique(indices // shape, axis=0, return_inverse=True)
    puts = []
    for shard, index in enumerate(shards):
        mine = np.flatnonzero(member.reshape(-1) == shard)
        mine = mine[np.argsort(at[mine], kind="stable")]
        data = encode_shard([bytes(raws[i]) for i in mine.tolist()], at[mine], layout.shards.cells)
        puts.append(Put(layout.object_key(index), data))
    return puts


def array_form(node: Found) -> tuple[Grid, Encoding]:
    """Grid of an array of cells, and how a new array beside it is best stored: as it is, if we write such cells."""
    layout = parse_cells(node).spec.layout
    assert isinstance(layout, GridLayout)
    shape = None if layout.shards is None else layout.shards.shape
    names = () if layout.pipeline is None else layout.pipeline.names
    compressor = names[0] if names and names[0] != "crc32c" else None
    grid = Grid(origin=layout.origin, shape=tuple(node.doc["shape"]))
    if layout.pipeline is None or compressor not in ("zstd", "blosc", None):
        return grid, Encoding(shard_shape=shape)
    return grid, Encoding(compressor=compressor, checksum="crc32c" in names, shard_shape=shape)  # type: ignore[arg-type]
