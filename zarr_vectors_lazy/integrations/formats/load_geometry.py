"""Points, meshes and graphs from LAS, PLY, Wavefront OBJ and NumPy archives."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from zarr_vectors_lazy.integrations.formats.loaded import Kind, Loaded, wrong
from zarr_vectors_lazy.integrations.formats.optional import library


def load_las(path: Path) -> Loaded:
    """Read LAS or LAZ: scaled coordinates in float64, and every other dimension that is not zero throughout."""
    laspy = library("laspy")
    try:
        cloud = laspy.read(path)
    except laspy.errors.LaspyException as error:
        raise wrong(path, str(error)) from error
    names = [name for name in cloud.point_format.dimension_names if name not in ("X", "Y", "Z")]
    values = {name: np.asarray(cloud[name]) for name in names}
    return Loaded(
        kind="points",
        positions=np.asarray(cloud.xyz),
        attributes={name: array for name, array in values.items() if array.any()},
    )


def load_ply(path: Path) -> Loaded:
    """Read PLY: a mesh where there are faces, a graph where there are edges, else points."""
    plyfile = library("plyfile")
    try:
        found = plyfile.PlyData.read(path)
        vertices = found["vertex"]
        positions = np.column_stack([vertices[axis] for axis in "xyz"])
    except (plyfile.PlyParseError, KeyError, ValueError) as error:
        raise wrong(path, str(error)) from error
    names = [one.name for one in vertices.properties if one.name not in ("x", "y", "z")]
    attributes = {name: np.asarray(vertices[name]) for name in names}
    sizes = {element.name: element.count for element in found.elements}
    kind: Kind = "points"
    joins = None
    if sizes.get("face"):
        kind, joins = "mesh", same_width(path, list(found["face"].data[found["face"].properties[0].name]))
    elif sizes.get("edge"):
        kind, joins = "graph", np.column_stack([found["edge"]["vertex1"], found["edge"]["vertex2"]])
    return Loaded(kind=kind, positions=positions, attributes=attributes, joins=joins)


def load_obj(path: Path) -> Loaded:
    """Read the vertices, faces and lines of Wavefront OBJ; textures, normals and groups are left out."""
    rows: dict[str, list[list[str]]] = {"v": [], "f": [], "l": []}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        word, *rest = line.split("#")[0].split() or [""]
        if word in rows:
            rows[word].append(rest)
    try:
        positions = np.array([row[:3] for row in rows["v"]], np.float64).reshape(-1, 3)
        faces = [[int(corner.split("/")[0]) for corner in row] for row in rows["f"]]
        lines = [[int(end.split("/")[0]) for end in row] for row in rows["l"]]
    except ValueError as error:
        raise wrong(path, str(error)) from error
    if faces:
        return Loaded(kind="mesh", positions=positions, joins=_from_one(same_width(path, faces), len(positions)))
    if lines:
        edges = np.array([pair for line in lines for pair in pairwise(line)]).reshape(-1, 2)
        return Loaded(kind="graph", positions=positions, joins=_from_one(edges, len(positions)))
    return Loaded(kind="points", positions=positions)


def load_npz(path: Path) -> Loaded:
    """Read what `save_npz` writes: ``vertices``, ``edges`` or ``faces``, ``attribute:NAME``."""
    with np.load(path) as arrays:
        found = {name: arrays[name] for name in arrays.files}
    if "vertices" not in found:
        raise wrong(path, f"an array 'vertices' is wanted, found {sorted(found)}")
    kind: Kind = "mesh" if "faces" in found else "graph" if "edges" in found else "points"
    prefix = "attribute:"
    attributes = {name.removeprefix(prefix): values for name, values in found.items() if name.startswith(prefix)}
    joins = found.get("faces", found.get("edges"))
    return Loaded(kind=kind, positions=found["vertices"], attributes=attributes, joins=joins)


def same_width(path: Path, faces: list[Any]) -> np.ndarray[Any, Any]:
    """(F, W) faces; raises SelectionError where they have different numbers of corners."""
    widths = {len(face) for face in faces}
    if len(widths) > 1:
        raise wrong(path, f"faces of {sorted(widths)} corners; a store holds faces of one kind")
    return np.array([list(face) for face in faces], np.int64)


def _from_one(rows: np.ndarray[Any, Any], count: int) -> np.ndarray[Any, Any]:
    """Rows from OBJ's numbers, which begin at one, and count from the end where negative."""
    return np.where(rows < 0, rows + count, rows - 1)
