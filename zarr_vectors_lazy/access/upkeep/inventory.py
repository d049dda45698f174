"""What a store keeps: objects and bytes by family of arrays, from one listing."""

from collections import defaultdict
from dataclasses import dataclass

from zarr_vectors_lazy.access.metadata import DOC, MetaTree
from zarr_vectors_lazy.errors import StoreError
from zarr_vectors_lazy.format.base import Generation
from zarr_vectors_lazy.requests import ListSizes
from zarr_vectors_lazy.storage.fetch import fetch


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Objects of one family of arrays.

    Parameters
    ----------
    level
        Level, None for what lies outside levels.
    family
        Path of the arrays in the level, such as ``"vertices"`` or ``"links/0/0.0.+1"``; ``""`` for its own document.
    objects, documents
        Objects, and how many of them are metadata.
    nbytes
        Stored bytes.
    """

    level: int | None
    family: str
    objects: int
    documents: int
    nbytes: int


def read_inventory(tree: MetaTree, generation: Generation) -> tuple[Kept, ...]:
    """Objects and bytes by level and family: what belongs to no level first, then by level and name.

    Raises
    ------
    StoreError
        If the store cannot be listed.
    """
    if not tree.backend.listable:
        raise StoreError("the store cannot be listed: count its objects where they are", where=tree.url)
    (sizes,) = fetch(tree.backend, [ListSizes("")])
    totals: defaultdict[tuple[int | None, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    for key, nbytes in sizes.items():
        total = totals[generation.family(key)]
        total[0] += 1
        total[1] += key.rpartition("/")[2] == DOC
        total[2] += nbytes
    found = sorted(totals.items(), key=lambda item: (-1 if item[0][0] is None else item[0][0], item[0][1]))
    return tuple(
        Kept(level=level, family=family, objects=objects, documents=documents, nbytes=nbytes)
        for (level, family), (objects, documents, nbytes) in found
    )
