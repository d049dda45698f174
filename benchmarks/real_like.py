"""Realistic inputs of any size: copies of the golden stores' level 0, side by side.

A cloud of synapses, skeletons of neurons, a mesh of a cortex, streamlines of diffusion imaging; where they are from
says ``tests/data/0.9-by-zarr-vectors-0.9.2/README.md``. Each copy is a chunk. Coordinates that are whole numbers stay
so; others are moved by a ten-thousandth of a chunk at random, which renews the bits that sums of floats lose.
"""

import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import zarr_vectors_lazy as zvl
from benchmarks.environment import ROOT

GOLDENS = ROOT / "tests" / "data" / "0.9-by-zarr-vectors-0.9.2"
Write = Callable[..., Any]
"""Writes the data to a path; compressor, checksum and mode are keywords."""


def _unpacked(name: str, folder: Path) -> Path:
    with zipfile.ZipFile(GOLDENS / f"{name}-0.9.zarrvectors.zip") as packed:
        packed.extractall(folder / name)
    return folder / name


def tile(positions: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Copies of positions, side by side in a cube.

    Returns
    -------
    (copies * n, D) positions, (copies * n,) the copy of each, and the edge of a copy's chunk.
    """
    copies, random = max(1, rows // len(positions)), np.random.default_rng(0)
    low = np.floor(positions.min(axis=0))
    edge = float(np.ceil((positions.max(axis=0) - low).max()) + 2)
    side = int(np.ceil(copies ** (1 / positions.shape[1])))
    places = np.stack(np.unravel_index(np.arange(copies), (side,) * positions.shape[1]), axis=1)
    moved = (positions - low + 1)[None] + places[:, None] * edge
    jitter = random.uniform(-edge / 1e4, edge / 1e4, moved.shape) * (positions != np.round(positions))
    tiled = (moved + jitter).astype(positions.dtype).reshape(-1, positions.shape[1])
    return tiled, np.repeat(np.arange(copies), len(positions)), edge


def _repeated(values: dict[str, np.ndarray], copies: int) -> dict[str, np.ndarray]:
    return {name: np.concatenate([array] * copies) for name, array in values.items()}


def synapses(rows: int, folder: Path) -> Write:
    """Return a writer of about ``rows`` points with attributes; golden stores are unpacked to ``folder``."""
    path = _unpacked("cloud", folder)
    names = list(zvl.open_zv(path)[0].attribute_names)
    found = zvl.read_points(path, attribute_names=names)
    positions, copies, edge = tile(found["positions"], rows)
    values = _repeated(found["vertex_attributes"], copies[-1] + 1)
    return partial(_call, zvl.write_points, positions, chunk_shape=edge, vertex_attributes=values)


def streamlines(rows: int, folder: Path) -> Write:
    """Return a writer of paths with attributes."""
    found = zvl.read_polylines(_unpacked("tracts", folder))
    positions, copies, edge = tile(np.concatenate([piece for line in found["polylines"] for piece in line]), rows)
    count = int(copies[-1]) + 1
    offsets = np.concatenate([[0], np.cumsum([sum(map(len, line)) for line in found["polylines"]] * count)])
    values = _repeated(found["vertex_attributes"], count)
    return partial(_call, zvl.write_polylines, (positions, offsets), chunk_shape=edge, vertex_attributes=values)


def skeletons(rows: int, folder: Path) -> Write:
    """Return a writer of a graph with attributes, with an object for each copy."""
    path = _unpacked("neuron", folder)
    found = zvl.read_graph(path, attribute_names=list(zvl.open_zv(path)[0].attribute_names))
    positions, copies, edge = tile(found["positions"], rows)
    edges = _linked(found["edges"], len(found["positions"]), copies[-1] + 1)
    values = _repeated(found["vertex_attributes"], copies[-1] + 1)
    options = {"chunk_shape": edge, "vertex_attributes": values, "object_ids": copies, "kind": "graph"}
    return partial(_call, zvl.write_graph, positions, edges, **options)


def mesh(rows: int, folder: Path) -> Write:
    """Return a writer of triangles with attributes, two for each vertex."""
    path = _unpacked("surface", folder)
    found = zvl.read_mesh(path, attribute_names=list(zvl.open_zv(path)[0].attribute_names))
    positions, copies, edge = tile(found["vertices"], rows)
    faces = _linked(found["faces"], len(found["vertices"]), copies[-1] + 1)
    values = _repeated(found["vertex_attributes"], copies[-1] + 1)
    return partial(_call, zvl.write_mesh, positions, faces, chunk_shape=edge, vertex_attributes=values)


def _linked(links: np.ndarray, rows: int, copies: int) -> np.ndarray:
    return (links[None] + np.arange(copies)[:, None, None] * rows).reshape(-1, links.shape[1])


def _call(write: Write, *given: Any, **options: Any) -> Any:
    *arrays, path = given
    return write(path, *arrays, **options)


WRITERS = {"synapses": synapses, "streamlines": streamlines, "skeletons": skeletons, "mesh": mesh}
