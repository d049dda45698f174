"""Vertices and what joins them: PLY, Wavefront OBJ."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from zarr_vectors_lazy.errors import FileError, SelectionError
from zarr_vectors_lazy.files.loaded import Asked, Kind, Loaded, library
from zarr_vectors_lazy.files.outgoing import Outgoing


def load_ply(path: Path, asked: Asked) -> Loaded:
    """Read PLY: a mesh where there are faces, a graph where there are edges, else points."""
    plyfile = library("plyfile")
    found = plyfile.PlyData.read(path)
    vertices = found["vertex"]
    positions = np.column_stack([vertices[axis] for axis in "xyz"])
    names = [one.name for one in vertices.properties if one.name not in ("x", "y", "z")]
    attributes = {name: np.asarray(vertices[name]) for name in names}
    sizes = {element.name: element.count for element in found.elements}
    kind: Kind = "points"
    faces = edges = None
    if sizes.get("face"):
        kind, faces = "mesh", same_width(list(found["face"].data[found["face"].properties[0].name]))
    elif sizes.get("edge"):
        kind, edges = "graph", np.column_stack([found["edge"]["vertex1"], found["edge"]["vertex2"]])
    return Loaded(kind=kind, positions=positions, attributes=attributes, faces=faces, edges=edges)


def load_obj(path: Path, asked: Asked) -> Loaded:
    """Read the vertices, faces and lines of Wavefront OBJ; textures, normals and groups are left out."""
    rows: dict[str, list[list[str]]] = {"v": [], "f": [], "l": []}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        word, *rest = line.split("#")[0].split() or [""]
        if word in rows:
            rows[word].append(rest)
    positions = np.array([row[:3] for row in rows["v"]], np.float64).reshape(-1, 3)
    faces = [[int(corner.split("/")[0]) for corner in row] for row in rows["f"]]
    lines = [[int(end.split("/")[0]) for end in row] for row in rows["l"]]
    if faces:
        return Loaded(kind="mesh", positions=positions, faces=_from_one(same_width(faces), len(positions)))
    if lines:
        edges = np.array([pair for line in lines for pair in pairwise(line)]).reshape(-1, 2)
        return Loaded(kind="graph", positions=positions, edges=_from_one(edges, len(positions)))
    return Loaded(kind="points", positions=positions)


def same_width(faces: list[Any]) -> np.ndarray[Any, Any]:
    """(F, W) faces; raises SelectionError where they have different numbers of corners."""
    widths = {len(face) for face in faces}
    if len(widths) > 1:
        raise FileError(f"faces of {sorted(widths)} corners; a store holds faces of one kind")
    return np.array([list(face) for face in faces], np.int64)


def _from_one(rows: np.ndarray[Any, Any], count: int) -> np.ndarray[Any, Any]:
    """Rows from OBJ's numbers, which begin at one, and count from the end where negative."""
    return np.where(rows < 0, rows + count, rows - 1)


def save_ply(out: Outgoing, path: Path) -> int:
    """Write binary PLY: vertices with their attributes as properties, edges or faces."""
    plyfile = library("plyfile")
    vertices = structured(out.positions, out.attributes)
    elements = [plyfile.PlyElement.describe(vertices, "vertex")]
    if out.faces is not None:
        faces = np.empty(len(out.faces), [("vertex_indices", np.int32, (out.faces.shape[1],))])
        faces["vertex_indices"] = out.faces
        elements.append(plyfile.PlyElement.describe(faces, "face"))
    if out.edges is not None:
        edges = np.empty(len(out.edges), [("vertex1", np.int32), ("vertex2", np.int32)])
        edges["vertex1"], edges["vertex2"] = out.edges.T
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


def save_obj(out: Outgoing, path: Path) -> int:
    """Write Wavefront OBJ: vertices, faces or lines; attributes have no place in it."""
    vertices = out.positions
    joins = [(word, rows) for word, rows in (("f", out.faces), ("l", out.edges)) if rows is not None]
    with path.open("w", encoding="ascii") as file:
        np.savetxt(file, vertices, fmt="v %.9g %.9g %.9g")
        for word, rows in joins:
            np.savetxt(file, rows + 1, fmt=" ".join([word, *["%d"] * rows.shape[1]]))
    return len(vertices)
