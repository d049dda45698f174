"""Vertices and what joins them: NumPy archives, PLY, Wavefront OBJ."""

from pathlib import Path
from typing import Any

import dask
import numpy as np

from zarr_vectors_lazy.api.level import ZVLevel
from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.integrations.formats.optional import library


def save_npz(level: ZVLevel, path: Path) -> int:
    """Write a compressed NumPy archive: ``vertices``, ``edges`` or ``faces``, and ``attribute:NAME``."""
    (found,) = dask.compute(level)
    arrays = {"vertices": found.vertices} | {f"attribute:{name}": values for name, values in found.attributes.items()}
    arrays |= {name: values for name in ("edges", "faces") if (values := getattr(found, name)) is not None}
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)
    return len(found.vertices)


def save_ply(level: ZVLevel, path: Path) -> int:
    """Write binary PLY: vertices with their attributes as properties, edges or faces."""
    plyfile = library("plyfile")
    (found,) = dask.compute(level)
    vertices = structured(in_space(found.vertices, "PLY"), found.attributes)
    elements = [plyfile.PlyElement.describe(vertices, "vertex")]
    if found.faces is not None:
        faces = np.empty(len(found.faces), [("vertex_indices", np.int32, (found.faces.shape[1],))])
        faces["vertex_indices"] = found.faces
        elements.append(plyfile.PlyElement.describe(faces, "face"))
    if found.edges is not None:
        edges = np.empty(len(found.edges), [("vertex1", np.int32), ("vertex2", np.int32)])
        edges["vertex1"], edges["vertex2"] = found.edges.T
        elements.append(plyfile.PlyElement.describe(edges, "edge"))
    with path.open("wb") as file:
        plyfile.PlyData(elements).write(file)
    return len(vertices)


def structured(vertices: np.ndarray[Any, Any], attributes: Any) -> np.ndarray[Any, Any]:
    """Structured rows of PLY's types: ``x``, ``y``, ``z``, then attributes; 64-bit integers that fit become 32-bit."""
    columns = dict(zip("xyz", vertices.T, strict=True))
    for name, values in attributes.items():
        if values.dtype.kind == "U":
            raise SelectionError(f"PLY holds numbers, attribute {name!r} is text")
        parts = values.reshape(len(values), int(np.prod(values.shape[1:])))
        names = [name] if values.ndim == 1 else [f"{name}_{part}" for part in range(parts.shape[1])]
        columns |= dict(zip(names, parts.T, strict=True))
    plain = {name: _narrow(name, values) for name, values in columns.items()}
    rows = np.empty(len(vertices), [(name, values.dtype) for name, values in plain.items()])
    for name, values in plain.items():
        rows[name] = values
    return rows


def _narrow(name: str, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if values.dtype.kind == "b":
        return values.astype(np.uint8)
    if values.dtype.kind not in "iu" or values.dtype.itemsize < 8:
        return values.astype(np.float32) if values.dtype == np.float16 else values
    narrow = np.int32 if values.dtype.kind == "i" else np.uint32
    if len(values) and (values.max() > np.iinfo(narrow).max or values.min() < np.iinfo(narrow).min):
        raise SelectionError(f"PLY holds integers of 32 bits, those of {name!r} are larger")
    return values.astype(narrow)


def save_obj(level: ZVLevel, path: Path) -> int:
    """Write Wavefront OBJ: vertices, faces or lines; attributes have no place in it."""
    (found,) = dask.compute(level)
    vertices = in_space(found.vertices, "OBJ")
    joins = [(word, rows) for word, rows in (("f", found.faces), ("l", found.edges)) if rows is not None]
    with path.open("w", encoding="ascii") as file:
        np.savetxt(file, vertices, fmt="v %.9g %.9g %.9g")
        for word, rows in joins:
            np.savetxt(file, rows + 1, fmt=" ".join([word, *["%d"] * rows.shape[1]]))
    return len(vertices)


def in_space(vertices: np.ndarray[Any, Any], format_name: str) -> np.ndarray[Any, Any]:
    """(N, 3) positions; a plane lies at z = 0.

    Raises
    ------
    SelectionError
        If there are more axes than three.
    """
    if vertices.shape[1] > 3:
        raise SelectionError(f"{format_name} has three axes, the store {vertices.shape[1]}")
    return np.pad(vertices, ((0, 0), (0, 3 - vertices.shape[1])))
