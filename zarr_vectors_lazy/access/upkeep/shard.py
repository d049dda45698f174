"""What tasks run to put the cells of an array together into shards, in place.

The new objects have other keys than the old ones. An array changes from these to those in one put, that of its
document; before it the old objects are whole, after it the new ones are. So a reader, and a store that is left at any
moment, has the one or the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from zarr_vectors_lazy.access.metadata import MetaTree
from zarr_vectors_lazy.access.talk import converse
from zarr_vectors_lazy.access.upkeep.index import put_unchanged
from zarr_vectors_lazy.errors import CorruptChunkError
from zarr_vectors_lazy.format.base import Found
from zarr_vectors_lazy.format.writing import Resharding, pack_puts
from zarr_vectors_lazy.model.chunks import dotted
from zarr_vectors_lazy.requests import Delete, ListSizes
from zarr_vectors_lazy.storage.connect import connect
from zarr_vectors_lazy.storage.fetch import fetch
from zarr_vectors_lazy.storage.spec import StoreSpec
from zarr_vectors_lazy.types import Buffer, ChunkCoords


@dataclass(frozen=True, slots=True, eq=False)
class Sharded:
    """What became of an array: its path, and in how many objects its cells are now and were before."""

    path: str
    objects: int
    before: int


def pack_cells(spec: StoreSpec, change: Resharding, coords: ChunkCoords) -> int:
    """Write the new objects of some cells; return how many.

    Raises
    ------
    CorruptChunkError
        If a listed cell is not there.
    """
    backend = connect(spec)
    (raws,) = converse(backend, [change.array.spec.layout.fetch(coords)])
    found: list[Buffer] = []
    for coord, raw in zip(coords.tolist(), raws, strict=True):
        if raw is None or isinstance(raw, Exception):
            reason = "it is listed and there is no such object" if raw is None else str(raw)
            raise CorruptChunkError(reason, array=change.layout.path, chunk=dotted(coord), url=spec.url)
        found.append(raw)  # type: ignore[arg-type]
    puts = pack_puts(change.layout, coords, found)
    fetch(backend, puts)
    return len(puts)


def change_array(spec: StoreSpec, node: Found, raw: bytes, change: Resharding, packed: Sequence[int]) -> Sharded:
    """Put the document that tells of the new objects, then delete the old ones.

    Parameters
    ----------
    node, raw
        The document that the new one was made from.
    packed
        How many objects each task wrote: they are all there.
    """
    tree = MetaTree(spec)
    tree.take(node, raw)
    put_unchanged(tree, node, change.doc)
    backend = connect(spec)
    old = sorted(change.array.spec.layout.object_keys(change.array.chunks.coords) or ())
    step = backend.deletes_at_once
    fetch(backend, [Delete(tuple(old[at : at + step])) for at in range(0, len(old), step)])
    return Sharded(change.layout.path, sum(packed), len(old))


def delete_left_over(spec: StoreSpec, path: str, prefix: str) -> int:
    """Delete what an earlier run that was stopped left beside an array; return how many objects."""
    backend = connect(spec)
    (sizes,) = fetch(backend, [ListSizes(path)])
    keys = [key for key in sizes if key.startswith(prefix)]
    step = backend.deletes_at_once
    fetch(backend, [Delete(tuple(keys[at : at + step])) for at in range(0, len(keys), step)])
    return len(keys)
