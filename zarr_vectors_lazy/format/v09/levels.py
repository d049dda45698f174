"""What levels say beyond their fields: how they were chunked, and of each other (spec next, 4, 14 and 16)."""

from collections.abc import Mapping
from dataclasses import replace

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.model.levels import LevelMeta, StoreMeta
from zarr_vectors_lazy.types import Floats, Json

PLACED = frozenset({"none", "manual", "aggregate", "mesh_cluster"})
"""Methods that place every row by its position; others but ``per_object`` may keep the chunks of their parent."""
REPLACE, ADD = "replace", "add"


LOST = "the store was rechunked by zarr-vectors, which dropped its links and the order of its vertices"
UNSAID = ("spatial", "object_id")
"""First chunk axes whose bins would be taken for something else: one for all, and ranges of ids."""
PRESENCE, DEFERRED = "zarr_vectors_presence", "deferred"


def read_further(meta: LevelMeta, store: StoreMeta) -> LevelMeta:
    """A level, told whether it is still being written, and what a first chunk axis is that is none of space.

    Spec next, 7 and 16.
    """
    block = _block(meta)
    if DEFERRED in (meta.attributes.get(PRESENCE), block.get(PRESENCE)):
        meta = replace(meta, deferred=True)
    dims, by = block.get("chunk_dims"), meta.chunk_attribute
    if not isinstance(dims, list) or len(dims) != store.ndim + 1 or not isinstance(dims[0], str):
        return meta
    lost = "" if by is None or (dims[0] == by[0] and by[1].dtype.kind in "iubU") else by[0]
    known = None if lost else by
    kinds = set(store.geometry_types) - {"point_cloud"} if known is None or not meta.vertex_count else set()
    return replace(
        meta,
        chunk_attribute=known,
        chunk_bins=dims[0] if by is None and dims[0] not in UNSAID else "",
        chunk_lost=lost,
        edges_lost=LOST if kinds else "",
        objects_lost=LOST if kinds - {"graph", "mesh"} else "",
    )


def relate_levels(levels: Mapping[int, LevelMeta], store: StoreMeta) -> dict[int, LevelMeta]:
    """Levels, each told what its metadata and those of the others say together.

    Raises
    ------
    FormatError
        If a level refines one that is not there, or otherwise than the format knows.
    """
    return {
        index: replace(
            meta,
            strays=_strays(index, levels, store),
            chain=_chain(index, levels),
            vertex_count=None if _loose(meta) else meta.vertex_count,  # which counts bins, not rows
        )
        for index, meta in levels.items()
    }


def _block(meta: LevelMeta) -> Json:
    block: Json = meta.attributes["zarr_vectors_level"]
    return block


def _loose(meta: LevelMeta) -> bool:
    """Whether zarr-vectors-tools 0.3.0 filed each bin's mean in the chunks of its source vertices."""
    block = _block(meta)
    return meta.index > 0 and block.get("coarsening_method") == "per_object" and not block.get("shared_fragments")


def _strays(index: int, levels: Mapping[int, LevelMeta], store: StoreMeta) -> tuple[Floats, ...] | None:
    """Bins by which rows of a level may lie outside their chunk: its own, or those of levels whose chunks it kept."""
    while index in levels:
        meta, block = levels[index], _block(levels[index])
        if _loose(meta):
            return (meta.bin_shape,) if index in store.bins else None
        parent = block.get("parent_level")
        placed = block.get("coarsening_method", "none") in PLACED or block.get("shared_fragments")
        if placed or not isinstance(parent, int) or not 0 <= parent < index:
            break
        index = parent
    return ()


def _chain(index: int, levels: Mapping[int, LevelMeta]) -> tuple[int, ...]:
    """Levels whose content makes up that of a level, it first."""
    chain = [index]
    while True:
        refinement = _block(levels[chain[-1]]).get("refinement", REPLACE)
        if refinement not in (REPLACE, ADD):
            text = f"refinement must be {REPLACE!r} or {ADD!r}, found {refinement!r}"
            raise FormatError(text, where=str(chain[-1]))
        if refinement == REPLACE:
            return tuple(chain) if len(chain) > 1 else ()
        if chain[-1] + 1 not in levels:
            text = f"level {chain[-1]} refines level {chain[-1] + 1}, which is not there"
            raise FormatError(text, where=str(chain[-1]))
        chain.append(chain[-1] + 1)
