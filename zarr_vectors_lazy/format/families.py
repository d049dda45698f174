"""Which family of arrays an object of a store belongs to, by its key (spec 0.9, 2; spec 0.7, 3.3)."""

from collections.abc import Mapping

from zarr_vectors_lazy.format.metadata import LEVEL

NAMED = {
    "vertex_attributes": 2,
    "fragment_attributes": 2,
    "object_attributes": 2,
    "group_attributes": 2,
    "headers": 2,
}
"""Folders whose families have a name each: how many parts of a path make a family."""


def family_of(key: str, depths: Mapping[str, int]) -> tuple[int | None, str]:
    """Level and family of an object; None for what lies outside levels, ``""`` for a node's own document.

    Parameters
    ----------
    key
        Key of the object.
    depths
        Parts of a path, from its folder on, that make a family; 1 for folders that are not named.
    """
    *folders, _ = key.split("/")
    level = int(folders[0]) if folders and LEVEL.fullmatch(folders[0]) else None
    path = folders if level is None else folders[1:]
    return level, "/".join(path[: depths.get(path[0], 1)]) if path else ""
