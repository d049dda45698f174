"""Version found -> generation: the only version test of the package; and the generation that is written."""

import re

from zarr_vectors_lazy.errors import FormatError, UnsupportedCapabilityError, UnsupportedVersionError, listed
from zarr_vectors_lazy.format.base import Found, Generation
from zarr_vectors_lazy.format.v07.generation import Generation07
from zarr_vectors_lazy.format.v09.generation import Generation09
from zarr_vectors_lazy.format.v09.writing import Writing09

# Version found -> generation: the only version test of the package.

ALL: tuple[Generation, ...] = (Generation09(), Generation07())
_VERSION = re.compile(r"([0-9]{1,9})\.([0-9]{1,9})(?:\.|$)")
_BY_VERSION: dict[tuple[int, int], Generation] = {(0, 9): ALL[0], (0, 7): ALL[1]}


def generation_of(root: Found, *, where: str) -> Generation:
    """Pick the generation that a root's metadata names (spec 0.9, 1; spec 0.7, 1).

    Raises
    ------
    FormatError
        If the node is not the root of a finished Zarr Vectors store.
    UnsupportedVersionError
        If its version cannot be read here.
    UnsupportedCapabilityError
        If it requires a capability that is not implemented for its generation.
    """
    doc, attributes = root.doc, root.attributes
    if doc.get("zarr_format") != 3 or doc.get("node_type") != "group":
        found = f"zarr_format {doc.get('zarr_format')!r}, node_type {doc.get('node_type')!r}"
        raise FormatError(f"a Zarr Vectors store is a Zarr v3 group; found {found}", where=where)
    if root.unfinished:
        raise FormatError("unfinished write: the store was never completed, or is still being written", where=where)
    block = attributes.get("zarr_vectors")
    if not isinstance(block, dict):
        if "zarr_vectors_level" in attributes:
            raise FormatError("this is only a level of a Zarr Vectors store; open the folder above it", where=where)
        kind = "an OME-Zarr group" if {"ome", "multiscales"} & set(attributes) else "a plain Zarr group"
        raise FormatError(
            f"not a Zarr Vectors store but {kind}: its attributes have no 'zarr_vectors'; found {listed(attributes)}",
            where=where,
        )
    version = block.get("zv_version", block.get("format_version"))
    if not isinstance(version, str):
        raise FormatError(f"zarr_vectors.zv_version must be text like '0.9.2', found {version!r}", where=where)
    parts = _VERSION.match(version)
    if parts is None:
        raise FormatError(f"zarr_vectors.zv_version must be text like '0.9.2', found {version!r}", where=where)
    generation = _BY_VERSION.get((int(parts[1]), int(parts[2])))
    if generation is None:
        known = ", ".join(f"{major}.{minor}.x" for major, minor in sorted(_BY_VERSION))
        raise UnsupportedVersionError(f"format version {version} cannot be read, only {known}", where=where)
    _check_required(block.get("required_capabilities", []), generation, where)
    return generation


def _check_required(required: object, generation: Generation, where: str) -> None:
    if not isinstance(required, list) or not all(isinstance(token, str) for token in required):
        raise FormatError(f"required_capabilities must be a list of names, found {required!r}", where=where)
    unknown = sorted(set(required) - generation.capabilities)
    if unknown:
        known = ", ".join(sorted(generation.capabilities)) or "none"
        raise UnsupportedCapabilityError(
            f"the store requires {listed(unknown)}, which is not supported here; supported: {known}", where=where
        )


# The generation in which stores are written; code above uses `CURRENT`, and the documents of `format.v09`.
#
# How a level is written: tasks turn payloads into puts with `cell_puts`, and leave a `LevelRecord` each; when all are
# done, `level_puts` makes the metadata of the joined record. Payloads are made by `encode_rows`, `encode_tiling`,
# `encode_fragments` and, for links, `place_links`. Nothing here touches a store.

CURRENT = Writing09()
