"""Skeletons in SWC."""

from pathlib import Path

import numpy as np

from zarr_vectors_lazy.errors import FileError, SelectionError
from zarr_vectors_lazy.files.loaded import Asked, Loaded
from zarr_vectors_lazy.files.outgoing import Outgoing
from zarr_vectors_lazy.types import IntArray

KINDS = ("type", "label", "compartment")  # attributes that SWC's structure identifier is taken from


def load_swc(path: Path, asked: Asked) -> Loaded:
    """Read SWC: one skeleton, with ``type`` and ``radius``."""
    table = np.loadtxt(path, ndmin=2, usecols=range(7))
    ids, parents = table[:, 0].astype(np.int64), table[:, 6].astype(np.int64)
    order = np.argsort(ids)
    children = np.flatnonzero(parents >= 0)
    at = np.minimum(np.searchsorted(ids[order], parents[children]), len(ids) - 1)
    rows = order[at]
    if len(np.unique(ids)) != len(ids) or (ids[rows] != parents[children]).any():
        raise FileError("an id is there twice, or a parent is not there")
    return Loaded(
        kind="skeleton",
        positions=table[:, 2:5].astype(np.float32),
        attributes={"type": table[:, 1].astype(np.int32), "radius": table[:, 5].astype(np.float32)},
        edges=np.column_stack([children, rows]),
    )


def save_swc(out: Outgoing, path: Path) -> int:
    """Write SWC: ``id type x y z radius parent``, parents before their children, -1 for roots."""
    vertices, edges, attributes = out.positions, out.edges, out.attributes
    assert edges is not None
    parents = parents_of(edges, len(vertices))
    order = np.argsort(depths(parents), kind="stable")
    number = np.empty(len(order), np.int64)
    number[order] = np.arange(1, len(order) + 1)
    kind = next((attributes[name] for name in KINDS if name in attributes), np.zeros(len(order), np.int64))
    radius = attributes.get("radius", np.ones(len(order)))
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
