"""Checks of what the root and the levels state, without a chunk read."""

import re
from collections.abc import Iterator

import numpy as np

from zarr_vectors_lazy.access.chain import stored_twice
from zarr_vectors_lazy.access.level import LevelData
from zarr_vectors_lazy.access.store import OpenStore
from zarr_vectors_lazy.errors import FormatError, listed
from zarr_vectors_lazy.model.arrays import CellArray
from zarr_vectors_lazy.model.findings import Check, Finding
from zarr_vectors_lazy.model.levels import StoreMeta
from zarr_vectors_lazy.requests import ListSizes
from zarr_vectors_lazy.storage.fetch import fetch

GEOMETRIES = {"point_cloud", "line", "polyline", "streamline", "graph", "skeleton", "mesh"}
CONVENTIONS = {"implicit_sequential", "explicit", "implicit_sequential_with_branches"}
EXPLICIT = {"graph", "mesh"}
ADDITIVE = "additive_levels"
CELL = re.compile(r"(.+)/c[/.][0-9][0-9/.]*")


def check_root(opened: OpenStore) -> Iterator[Finding]:
    """Findings about the root, and about each level's place in the pyramid."""
    meta = opened.meta
    yield from _root(meta)
    if not opened.levels:
        yield Finding("structure", "error", "", "the store has no levels")
    for level in meta.level_names:
        if level not in opened.levels:
            yield Finding("structure", "warning", str(level), "the root names a level that is not there")
    for data in opened.levels.values():
        if data.meta.deferred:
            text = "the level is still being written: arrays may list no chunks yet"
            yield Finding("metadata", "warning", str(data.meta.index), text)
        if data.meta.index not in meta.bins:
            text = "multiscales of the root does not name the level, and does not tell its bins"
            yield Finding("metadata", "warning", str(data.meta.index), text)
        yield from _level(data, opened)


def check_additive(opened: OpenStore) -> Iterator[Finding]:
    """Findings about levels that refine others (spec next, 4): the ids of their objects are read."""
    adding = sorted(level for level, data in opened.levels.items() if data.meta.chain)
    if not adding:
        return
    for field in ("required_capabilities", "format_capabilities"):
        if ADDITIVE not in (opened.meta.attributes["zarr_vectors"].get(field) or []):
            verb = "requires" if field.startswith("required") else "states"
            text = (
                f"levels {adding} refine others and the root {verb} no {ADDITIVE!r}: readers take a part for the whole"
            )
            yield Finding("metadata", "error", "", text)
    for level in adding:
        try:
            twice = stored_twice(opened.complete[level])
        except FormatError as error:
            yield Finding("manifests", "error", f"{level}/object_index", error.message)
            continue
        if len(twice):
            text = f"objects {listed(twice)} are stored here and on a level that this one refines: all their rows twice"
            yield Finding("manifests", "error", f"{level}/object_index", text)


def _root(meta: StoreMeta) -> Iterator[Finding]:
    lo, hi = meta.bounds
    if not np.isfinite([lo, hi]).all() or (lo > hi).any():
        yield Finding("metadata", "error", "", f"bounds {lo.tolist()} to {hi.tolist()} are no box")
    if meta.ndim < 2:
        yield Finding("metadata", "error", "", f"a store has two axes or more, found {meta.axes}")
    if len(set(meta.axes)) != len(meta.axes):
        yield Finding("metadata", "error", "", f"two axes have one name: {meta.axes}")
    for name in sorted(set(meta.geometry_types) - GEOMETRIES):
        yield Finding("metadata", "warning", "", f"geometry type {name!r} is none that the format names")
    if meta.links_convention not in CONVENTIONS:
        yield Finding("metadata", "error", "", f"links_convention {meta.links_convention!r} is none of the format's")
    elif EXPLICIT & set(meta.geometry_types) and meta.links_convention != "explicit" and len(meta.geometry_types) == 1:
        text = f"a {meta.geometry_types[0]} has explicit links, links_convention states {meta.links_convention!r}"
        yield Finding("metadata", "warning", "", text)


def _level(data: LevelData, opened: OpenStore) -> Iterator[Finding]:
    meta, where = data.meta, str(data.meta.index)
    ratio = meta.chunk_shape / opened.meta.chunk_shape
    if (np.abs(ratio - np.rint(ratio)) > 1e-6).any() or (np.rint(ratio) < 1).any():
        text = f"chunk_shape {meta.chunk_shape.tolist()} is no whole multiple of the root's"
        yield Finding("metadata", "error", where, text)
    if meta.index == 0 and not meta.bins_tile:
        text = f"bins {meta.bin_shape.tolist()} do not divide chunks {meta.chunk_shape.tolist()}"
        yield Finding("metadata", "warning", where, text)
    parent = meta.attributes.get("zarr_vectors_level", {}).get("parent_level")
    if parent is not None and parent not in opened.levels:
        yield Finding("metadata", "warning", where, f"parent_level {parent!r} is no level of the store")


def check_stray(data: LevelData, arrays: list[CellArray]) -> Iterator[Finding]:
    """Warnings about cells that are stored and not listed: readers ignore them (spec 0.9, 4.2).

    One listing of the level, where the store can be listed and lists chunks in metadata.
    """
    keys = {array.spec.path: array.spec.layout.object_keys(array.chunks.coords) for array in arrays}
    if not data.tree.backend.listable or not any(listed is not None for listed in keys.values()):
        return
    (sizes,) = fetch(data.tree.backend, [ListSizes(str(data.meta.index))])
    stored: dict[str, list[str]] = {}
    for key in sizes:
        cell = CELL.fullmatch(key)
        if cell:
            stored.setdefault(cell[1], []).append(key)
    for path, known in keys.items():
        if known is not None:
            stray = sorted(set(stored.get(path, ())).difference(known))
            if stray:
                text = f"{len(stray)} stored cells are not listed, and so not read, such as {stray[0]!r}"
                yield Finding("structure", "warning", path, text)


def vertices_or_finding(data: LevelData) -> CellArray | Finding:
    """Return the vertices of a level, or why they cannot be read."""
    try:
        return data.vertices
    except FormatError as error:
        check: Check = "counts" if "vertex_counts" in error.message else "metadata"
        return Finding(check, "error", f"{data.meta.index}/vertices", error.message)
