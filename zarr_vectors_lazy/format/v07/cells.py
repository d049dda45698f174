"""Arrays of cells: a group whose children are named by chunk (spec 0.7, 3.1, 3.2 and 3.4)."""

import hashlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.base import Children, Found, MetaSteps, Node
from zarr_vectors_lazy.format.keys import parse_chunk_keys
from zarr_vectors_lazy.format.nodes import chunk_table, parse_dictionary, parse_dtype, parse_integers
from zarr_vectors_lazy.format.v07.blobs import parse_blob
from zarr_vectors_lazy.format.v07.layout import BlobLayout
from zarr_vectors_lazy.model.arrays import UNTOLD, CellArray, CellSpec, Pack, Places
from zarr_vectors_lazy.types import Json

_PACK = re.compile(r"__shard_[0-9]{6,}")


def find_cells(
    path: str,
    ranks: Sequence[int],
    *,
    dtype: str | None = None,
    row_shape: tuple[int, ...] | None = None,
    headed: bool = False,
) -> MetaSteps[CellArray | None]:
    """An array of cells; None where there is neither its group nor a chunk.

    The list of chunks is one listing; of a packed array, the metadata of its packs too.

    Parameters
    ----------
    ranks
        Components that a chunk's coordinate may have.
    dtype
        Where the group gives none; None: then it is an error.
    row_shape
        Overrides what the group says.
    headed
        Whether cells begin with a header.

    Raises
    ------
    FormatError
        If a child is no chunk, or the group does not say what cells hold.
    """
    group, names = yield [Node(path), Children(path)]
    if group is None and not names:
        return None
    if group is not None and group.doc.get("node_type") != "group":
        raise FormatError(f"expected a group of chunks, found node_type {group.doc.get('node_type')!r}", where=path)
    attributes: Json = {} if group is None else group.attributes
    packs = [name for name in names if _PACK.fullmatch(name)]
    nodes = yield [Node(f"{path}/{name}") for name in packs]
    index, digests = _packed(nodes, packs, path)
    keys = [name for name in names if not _PACK.fullmatch(name)]
    both = index.keys() & set(keys)
    if both:
        raise FormatError(f"chunk {min(both)!r} is there packed and on its own", where=path)
    keys += index
    rank = keys[0].count(".") + 1 if keys else min(ranks)
    if rank not in ranks:
        wanted = " or ".join(map(str, sorted(set(ranks))))
        raise FormatError(f"{keys[0]!r} is no chunk: its children are named by {wanted} dotted integers", where=path)
    chunks = chunk_table(parse_chunk_keys(keys, rank, where=path), path)
    stored = _dtype(attributes, dtype, path)
    spec = CellSpec(
        path=path,
        dtype=stored,
        row_shape=_row_shape(attributes) if row_shape is None else row_shape,
        layout=BlobLayout(path=path, headed=headed),
        dictionary=parse_dictionary(attributes, stored, path),
    )
    listing = hashlib.blake2b("\n".join(sorted(keys)).encode(), digest_size=16).hexdigest()
    return CellArray(
        spec=spec,
        chunks=chunks,
        digest="".join([listing, *digests, "" if group is None else group.digest]),
        attributes=attributes,
        places=_places(nodes, index, keys, chunks.order) if index else None,
    )


def _dtype(attributes: Json, default: str | None, path: str) -> np.dtype[Any]:
    """Return the stated dtype; that of bytes where the lazy writer of zarr-vectors 0.2.0 left none."""
    declared = attributes.get("dtype", default)
    return UNTOLD if declared is None else parse_dtype(declared, path)


def _row_shape(attributes: Json) -> tuple[int, ...] | None:
    """Row shape where the group states it: of point clouds' vectors, and of dictionary codes (spec 0.7, 4.6)."""
    channels = attributes.get("channel_names")
    if isinstance(channels, list) and channels:
        return (len(channels),)
    return () if attributes.get("encoding") == "dictionary" else None


def _packed(
    nodes: Sequence[Found | None], packs: Sequence[str], path: str
) -> tuple[dict[str, tuple[int, int, int]], list[str]]:
    """(pack, start, stop) by chunk key, and the packs' digests."""
    index: dict[str, tuple[int, int, int]] = {}
    for number, (node, name) in enumerate(zip(nodes, packs, strict=True)):
        where = f"{path}/{name}"
        table = None if node is None else node.attributes.get("shard_index")
        if not isinstance(table, dict):
            raise FormatError(f"'shard_index' must map chunks to [offset, nbytes], found {table!r}", where=where)
        for key, extent in table.items():
            found = parse_integers(extent if isinstance(extent, list) else [], "shard_index", where)
            start, nbytes = found if len(found) == 2 else (-1, 0)
            if start < 0 or nbytes < 0 or key in index:
                raise FormatError(f"'shard_index' places chunk {key!r} at {extent!r}, or twice", where=where)
            index[key] = (number, start, start + nbytes)
    return index, [node.digest for node in nodes if node is not None]


def _places(nodes: Sequence[Found], index: dict[str, tuple[int, int, int]], keys: Sequence[str], order: Any) -> Places:
    metas = [parse_blob(node) for node in nodes]
    packs = tuple(Pack(node.path, meta.key, meta.stored, meta.codecs) for node, meta in zip(nodes, metas, strict=True))
    table = np.asarray([index.get(key, (-1, 0, 0)) for key in keys], np.int64).reshape(-1, 3)[order]
    sizes = np.asarray([meta.nbytes for meta in metas], np.int64)
    beyond = (table[:, 0] >= 0) & (table[:, 2] > sizes[table[:, 0]])
    if beyond.any():
        number = int(table[beyond][0, 0])
        raise FormatError(f"'shard_index' names bytes beyond the {sizes[number]} there are", where=packs[number].path)
    return Places(packs, table[:, 0], table[:, 1], table[:, 2])
