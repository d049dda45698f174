"""Skeletons as SWC, streamlines as TRK, TCK and TRX."""

from pathlib import Path
from typing import Any

import dask
import numpy as np

from zarr_vectors_lazy.api.level import ZVLevel
from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.integrations.formats.geometry import in_space
from zarr_vectors_lazy.integrations.formats.optional import library
from zarr_vectors_lazy.types import IntArray

KINDS = ("type", "label", "compartment")  # attributes that SWC's structure identifier is taken from


def save_swc(level: ZVLevel, path: Path) -> int:
    """Write SWC: ``id type x y z radius parent``, parents before their children, -1 for roots."""
    (found,) = dask.compute(level)
    if "skeleton" not in level.store.geometry_types or found.edges is None:
        raise SelectionError(f"SWC holds skeletons, the store {', '.join(level.store.geometry_types)}")
    vertices = in_space(found.vertices, "SWC")
    parents = parents_of(found.edges, len(vertices))
    order = np.argsort(depths(parents), kind="stable")
    number = np.empty(len(order), np.int64)
    number[order] = np.arange(1, len(order) + 1)
    kind = next((found.attributes[name] for name in KINDS if name in found.attributes), np.zeros(len(order), np.int64))
    radius = found.attributes.get("radius", np.ones(len(order)))
    parent = np.where(parents >= 0, number[parents], -1)
    table = np.column_stack([number, kind, vertices, radius, parent])[order]
    with path.open("w", encoding="ascii") as file:
        file.write("# id type x y z radius parent\n")
        np.savetxt(file, table, fmt="%d %d %.9g %.9g %.9g %.9g %d")
    return len(vertices)


def parents_of(edges: IntArray, count: int) -> IntArray:
    """(N,) parent of each vertex, -1 for roots, of [child, parent] edges.

    Raises
    ------
    SelectionError
        If a vertex has two parents.
    """
    parents = np.full(count, -1, np.int64)
    parents[edges[:, 0]] = edges[:, 1]
    if len(np.unique(edges[:, 0])) != len(edges):
        raise SelectionError("SWC holds trees, here a vertex has two parents")
    return parents


def depths(parents: IntArray) -> IntArray:
    """(N,) ancestors of each vertex, by following twice as far each time.

    Raises
    ------
    SelectionError
        If there is a cycle.
    """
    depth = (parents >= 0).astype(np.int64)
    ahead = parents.copy()
    for _ in range(max(len(parents), 2).bit_length() + 1):
        going = ahead >= 0
        if not going.any():
            return depth
        depth[going] += depth[ahead[going]]
        ahead[going] = ahead[ahead[going]]
    raise SelectionError("SWC holds trees, here vertices are joined to a cycle")


def streamlines(level: ZVLevel) -> tuple[Any, IntArray]:
    """Vertices of all objects one after another, (M, 3) float32, and their (o + 1,) offsets.

    Raises
    ------
    SelectionError
        If a box cuts objects: a streamline is written whole or not at all.
    """
    if not len(level.objects):
        raise SelectionError("there are no streamlines in what is selected")
    if level._view.selection.box is not None or level._view.selection.conditions:
        raise SelectionError("streamlines are written whole: use --whole-objects with a box, and no --where")
    vertices, offsets = dask.compute(*level.objects.ragged())
    return in_space(vertices, "a tractogram").astype(np.float32), offsets


def save_streamlines(level: ZVLevel, path: Path) -> int:
    """Write TrackVis or MRtrix streamlines; coordinates are taken as RAS millimetres."""
    library("nibabel")
    tracts = library("nibabel.streamlines", "nibabel")
    vertices, offsets = streamlines(level)
    lines = np.split(vertices, offsets[1:-1])
    tractogram = tracts.Tractogram(lines, affine_to_rasmm=np.eye(4))
    file = tracts.TckFile(tractogram) if path.suffix == ".tck" else tracts.TrkFile(tractogram)
    file.save(str(path))
    return len(vertices)


def save_trx(level: ZVLevel, path: Path) -> int:
    """Write TRX; coordinates are taken as RAS millimetres."""
    trx_file_memmap = library("trx.trx_file_memmap", "trx-python")
    vertices, offsets = streamlines(level)
    trx = trx_file_memmap.TrxFile(nb_vertices=len(vertices), nb_streamlines=len(offsets) - 1)
    trx.streamlines._data = vertices
    trx.streamlines._offsets = offsets[:-1].astype(np.uint32)
    trx.streamlines._lengths = np.diff(offsets).astype(np.uint32)
    trx_file_memmap.save(trx, str(path))
    trx.close()
    return len(vertices)
