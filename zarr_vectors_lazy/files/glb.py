"""Binary glTF 2.0 (GLB): what its scene draws, as vertices with attributes, faces or lines; each node is an object."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from zarr_vectors_lazy.errors import FileError, counted, listed
from zarr_vectors_lazy.files import meshes
from zarr_vectors_lazy.files.loaded import NAME, Loaded, LoadOptions
from zarr_vectors_lazy.files.meshes import Array
from zarr_vectors_lazy.files.outgoing import Outgoing
from zarr_vectors_lazy.types import IntArray

TYPES = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
CODES = {np.dtype(text): code for code, text in TYPES.items()}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
VECTORS = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4"}
POINTS, LINES, LOOP, STRIP, TRIANGLES, TRIANGLE_STRIP, FAN = range(7)
UNREAD = {"KHR_draco_mesh_compression", "EXT_meshopt_compression", "KHR_meshopt_compression"}
TEXTURE = ("s", "t")
OTHERS = ("materials", "animations", "skins", "cameras")
JSON, BIN = 0x4E4F534A, 0x004E4942
INDICES = "indices"


@dataclass(slots=True, eq=False)
class Drawn:
    """What one node draws.

    Parameters
    ----------
    name
        Name of the node, or else of its mesh.
    positions, attributes
        Positions and attributes of its vertices.
    links
        Faces, lines or points, of width 3, 2 or 1: rows of its vertices.
    """

    name: str
    positions: list[Array] = field(default_factory=list)
    attributes: list[dict[str, Array]] = field(default_factory=list)
    links: dict[int, list[IntArray]] = field(default_factory=dict)


class _Scene:
    """A file: its JSON, and its bytes."""

    def __init__(self, data: bytes) -> None:
        if data[:4] != b"glTF" or len(data) < 20 or int.from_bytes(data[4:8], "little") != 2:
            raise FileError("this is not a GLB file of glTF 2.0")
        length, kind = np.frombuffer(data, "<u4", 2, 12).tolist()
        if kind != JSON or 20 + length > len(data):
            raise FileError("the first part of the file is not JSON, or is cut off")
        self.tree: dict[str, Any] = json.loads(data[20 : 20 + length])
        at = 20 + length
        size, kind = np.frombuffer(data, "<u4", 2, at).tolist() if at + 8 <= len(data) else (0, BIN)
        self._bytes = data[at + 8 : at + 8 + size] if kind == BIN else b""
        unread = UNREAD & set(self.tree.get("extensionsRequired", ()))
        if unread:
            raise FileError(f"its meshes are packed by {listed(sorted(unread))}, which cannot be read")

    def accessor(self, number: int) -> Array:
        """(count, C) values of an accessor, as stored."""
        one = self.tree["accessors"][number]
        dtype, width = np.dtype(TYPES[one["componentType"]]), WIDTHS[one["type"]]
        count = int(one["count"])
        if count < 0 or count * width > max(len(self._bytes), 1) * 64:
            raise FileError(f"accessor {number} has {count} values, but too few bytes for them")
        values = np.zeros((count, width), dtype)
        if "bufferView" in one:
            values = self._view(one["bufferView"], one.get("byteOffset", 0), dtype, (count, width))
        if "sparse" in one:
            sparse = one["sparse"]
            index, put, some = sparse["indices"], sparse["values"], int(sparse["count"])
            rows = self._view(
                index["bufferView"], index.get("byteOffset", 0), np.dtype(TYPES[index["componentType"]]), (some, 1)
            )
            values = values.copy()
            values[rows[:, 0]] = self._view(put["bufferView"], put.get("byteOffset", 0), dtype, (some, width))
        return values.astype(dtype.newbyteorder("="))

    def _view(self, number: int, offset: int, dtype: np.dtype[Any], shape: tuple[int, int]) -> Array:
        view = self.tree["bufferViews"][number]
        begin, row = int(view.get("byteOffset", 0)) + int(offset), shape[1] * dtype.itemsize
        step = int(view.get("byteStride", row))
        if view.get("buffer", 0) != 0 or "uri" in self.tree["buffers"][0]:
            raise FileError("its numbers are in another file")
        if not shape[0]:
            return np.empty(shape, dtype)
        if begin < 0 or step < row or begin + step * (shape[0] - 1) + row > len(self._bytes):
            raise FileError(f"a view of {shape[0]} rows is longer than the file")
        raw = np.frombuffer(self._bytes, np.uint8, step * (shape[0] - 1) + row, begin)
        rows = np.lib.stride_tricks.as_strided(raw, (shape[0], row), (step, 1))
        return np.ascontiguousarray(rows).view(dtype)

    def nodes(self) -> Iterator[tuple[str, Any, Array]]:
        """Name, mesh and matrix of each node that draws a mesh."""
        nodes, scenes = self.tree.get("nodes", []), self.tree.get("scenes", [])
        children = {child for node in nodes for child in node.get("children", ())}
        roots = (
            scenes[self.tree.get("scene", 0)].get("nodes", ()) if scenes else sorted({*range(len(nodes))} - children)
        )
        front = [(int(number), np.eye(4)) for number in roots][::-1]
        seen: set[int] = set()
        while front:
            number, above = front.pop()
            if number in seen:
                raise FileError(f"node {number} is below two others, or below itself")
            seen.add(number)
            node = nodes[number]
            matrix = above @ _matrix(node)
            if "mesh" in node:
                mesh = self.tree["meshes"][node["mesh"]]
                yield str(node.get("name") or mesh.get("name") or ""), mesh, matrix
            front += [(int(child), matrix) for child in reversed(node.get("children", ()))]
        if not nodes:
            yield from ((str(mesh.get("name", "")), mesh, np.eye(4)) for mesh in self.tree.get("meshes", ()))


def _matrix(node: Mapping[str, Any]) -> Array:
    """(4, 4) matrix of a node, which may be given in parts."""
    if "matrix" in node:
        return np.array(node["matrix"], np.float64).reshape(4, 4).T
    matrix = np.eye(4)
    x, y, z, w = node.get("rotation", (0, 0, 0, 1))
    matrix[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    matrix[:3, :3] *= np.array(node.get("scale", (1, 1, 1)), np.float64)
    matrix[:3, 3] = node.get("translation", (0, 0, 0))
    return matrix


def load_glb(path: Path, asked: LoadOptions) -> Loaded:
    """Read GLB: a mesh if it draws triangles, else a graph if it draws lines, else points; each node is an object."""
    scene = _Scene(path.read_bytes())
    left = [what for what in OTHERS if scene.tree.get(what)]
    drawn = [_drawn(scene, *node) for node in scene.nodes()]
    drawn = [one for one in drawn if one.positions]
    if not drawn:
        raise FileError("it draws nothing")
    drawn_widths = {width for one in drawn for width in one.links}
    width = max(drawn_widths)
    left += [what for size, what in ((2, "lines"), (1, "points")) if size < width and size in drawn_widths]
    parts = [part for one in drawn for part in one.attributes]
    every = dict.fromkeys(name for part in parts for name in part)
    names = [name for name in every if all(name in part for part in parts)]
    left += [f"attribute {name} of some parts" for name in every if name not in names]
    attributes = {name: np.concatenate([part[name] for part in parts]) for name in names}
    rows = [sum(map(len, one.positions)) for one in drawn]
    begins = zip(drawn, accumulate(rows, initial=0), strict=False)
    joined = np.concatenate([part + begin for one, begin in begins for part in one.links.get(width, ())])
    return Loaded(
        kind={3: "mesh", 2: "graph", 1: "points"}[width],  # type: ignore[arg-type]
        positions=np.concatenate([part for one in drawn for part in one.positions]),
        faces=joined if width == 3 else None,
        edges=joined if width == 2 else None,
        attributes=attributes,
        object_ids=np.repeat(np.arange(len(drawn)), rows) if len(drawn) > 1 else None,
        local_ids=True,
        object_attributes={NAME: np.array([one.name for one in drawn], object)} if any(d.name for d in drawn) else {},
        means=frozenset(name for name in attributes if name in meshes.CHANNELS),
        left_out=tuple(left),
    )


def _drawn(scene: _Scene, name: str, mesh: Mapping[str, Any], matrix: Array) -> Drawn:
    """What a node draws, in the place where it draws it."""
    found, rows = Drawn(name), 0
    for part in mesh["primitives"]:
        values = {key: scene.accessor(number) for key, number in part["attributes"].items()}
        if "POSITION" not in values:
            continue
        positions = values.pop("POSITION")
        if positions.shape[1] != 3:
            raise FileError("positions of other than three numbers")
        index = scene.accessor(part["indices"])[:, 0] if "indices" in part else np.arange(len(positions))
        meshes.check_rows(index, len(positions), "indices")
        links = _links(part.get("mode", TRIANGLES), index.astype(np.int64))
        found.links.setdefault(links.shape[1], []).append(links + rows)
        rows += len(positions)
        moved = not np.array_equal(matrix, np.eye(4))
        normal = values.get("NORMAL")
        if moved:
            positions = positions @ matrix[:3, :3].T + matrix[:3, 3]
        if moved and normal is not None:
            turned = normal @ np.linalg.inv(matrix[:3, :3])
            values["NORMAL"] = turned / np.maximum(np.linalg.norm(turned, axis=1, keepdims=True), 1e-300)
        found.positions.append(positions)
        found.attributes.append(_attributes(values, len(positions)))
    return found


def _links(mode: int, index: IntArray) -> IntArray:
    """Triangles, lines or points from indices."""
    if mode == TRIANGLES:
        return index[: len(index) // 3 * 3].reshape(-1, 3)
    if mode == TRIANGLE_STRIP:
        return meshes.strips(np.array([len(index)]), index)
    if mode == FAN:
        return np.column_stack([np.full(max(len(index) - 2, 0), index[0] if len(index) else 0), index[1:-1], index[2:]])
    if mode == LINES:
        return index[: len(index) // 2 * 2].reshape(-1, 2)
    if mode in (LOOP, STRIP):
        ends = np.append(index, index[:1]) if mode == LOOP else index
        return np.column_stack([ends[:-1], ends[1:]])
    if mode == POINTS:
        return index[:, None]
    raise FileError(f"a mode {mode!r} that glTF does not know")


def _attributes(values: Mapping[str, Array], rows: int) -> dict[str, Array]:
    """Vertex attributes, by the names that all mesh formats have in common."""
    found: dict[str, Array] = {}
    for key, table in values.items():
        if len(table) != rows:
            raise FileError(f"{key} has {counted(len(table), 'row')} for {counted(rows, 'vertex')}")
        names = {"NORMAL": meshes.NORMAL_PARTS, "TEXCOORD_0": TEXTURE, "COLOR_0": meshes.CHANNELS}.get(key)
        if names:
            found |= dict(zip(names, table.T, strict=False))
        else:
            name = key.removeprefix("_") if key.startswith("_") else key.lower()
            found[name or key] = table[:, 0] if table.shape[1] == 1 else table
    return found


def save_glb(out: Outgoing, path: Path) -> int:
    """Write GLB: triangles, lines or points, with colours, normals and other numbers; each object is a node."""
    width = 3 if out.faces is not None else 2 if out.edges is not None else 1
    links = meshes.triangles_of(out, "GLB")[0] if width == 3 else out.edges if out.edges is not None else None
    out.leave(*(f"link attribute {name}" for name in out.link_attributes))
    out.leave(*(f"object attribute {name}" for name in out.object_attributes if name != NAME))
    columns = {"POSITION": meshes.single(out, out.positions, "positions"), **_keyed(out)}
    tree: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": "zarr-vectors-lazy"}, "scene": 0, "scenes": [{"nodes": []}],
        "nodes": [], "meshes": [], "accessors": [], "bufferViews": [], "buffers": [{"byteLength": 0}],
    }  # fmt: skip
    parts: list[bytes] = []
    for name, rows, index in _objects(out, links):
        accessors = {key: _put(tree, parts, values[rows], key) for key, values in columns.items()}
        primitive: dict[str, Any] = {"attributes": accessors, "mode": {3: TRIANGLES, 2: LINES, 1: POINTS}[width]}
        if index is not None:
            primitive["indices"] = _put(tree, parts, index.reshape(-1, 1).astype(np.uint32), INDICES)
        named = {"name": name} if name else {}
        tree["scenes"][0]["nodes"].append(len(tree["nodes"]))
        tree["nodes"].append({"mesh": len(tree["meshes"]), **named})
        tree["meshes"].append({"primitives": [primitive], **named})
    raw = b"".join(parts)
    text = json.dumps(tree).encode()
    text += b" " * (-len(text) % 4)
    with path.open("wb") as file:
        sizes = [2, 28 + len(text) + len(raw), len(text), JSON]
        file.write(b"glTF" + np.array(sizes, "<u4").tobytes() + text + np.array([len(raw), BIN], "<u4").tobytes() + raw)
    return len(out.positions)


def _keyed(out: Outgoing) -> dict[str, Array]:
    """(N, C) attributes in glTF's types, by glTF's names; reports what cannot be kept."""
    found: dict[str, Array] = {}
    colours, coloured = meshes.colour_values(out.attributes)
    if colours is not None and (colours.dtype in (np.uint8, np.uint16) or colours.dtype.kind == "f"):
        found["COLOR_0"] = colours if colours.dtype.kind == "u" else meshes.single(out, colours, "colours")
    else:
        coloured = set()
    normals, turned = meshes.normals_of(out.attributes)
    if normals is not None:
        found["NORMAL"] = meshes.single(out, normals, "normals")
    texture = set(TEXTURE) if all(name in out.attributes for name in TEXTURE) else set()
    if texture:
        found["TEXCOORD_0"] = meshes.single(out, np.column_stack([out.attributes[name] for name in TEXTURE]), "s, t")
    special = coloured | turned | texture
    rest = {name: values for name, values in out.attributes.items() if name not in special}
    wide = {name: values for name, values in rest.items() if values.ndim == 2 and values.shape[1] in VECTORS}
    flat = meshes.flat_columns({name: values for name, values in rest.items() if name not in wide})
    written = set(special)
    for name, values in {**wide, **{name: values[:, None] for name, values in flat.items()}}.items():
        held = _held(out, name, values)
        if held is not None:
            found[f"_{name}"] = held
            written |= {name, *(one for one in rest if name.startswith(f"{one}_"))}
    meshes.leave_rest(out, written)
    return found


def _held(out: Outgoing, name: str, values: Array) -> Array | None:
    """Values in a type that glTF has; None if no type holds them."""
    if values.dtype.kind == "f":
        return meshes.single(out, values, f"attribute {name}")
    if values.dtype.kind == "b":
        return values.astype(np.uint8)
    if values.dtype.kind not in "iu":
        return None
    if values.dtype.itemsize < 4:
        return values
    # Application-specific attributes may not have 32 bits (glTF 2.0, 3.7.2.1).
    found = meshes.fitted(values, np.uint16, np.int16)
    exact = found is None and int(values.min()) >= -(2**24) and int(values.max()) <= 2**24
    return values.astype(np.float32) if exact else found


def _objects(out: Outgoing, links: IntArray | None) -> Iterator[tuple[str, IntArray, IntArray | None]]:
    """Name of each object, its rows, and its links by number; a single object if links join objects."""
    count, owners = len(out.positions), out.vertex_object_ids
    apart = owners is not None and (links is None or (owners[links] == owners[links[:, :1]]).all())
    if owners is None or not apart or (len(out.object_ids) < 2 and NAME not in out.object_attributes):
        out.leave(*(["object ids"] if owners is not None and not apart else []))
        owners = np.zeros(count, np.int64)
        names = {0: ""}
    else:
        names = dict(zip(out.object_ids.tolist(), meshes.object_names(out), strict=True))
    order = np.argsort(owners, kind="stable")
    number = np.empty(count, np.int64)
    number[order] = np.arange(count)
    by = None if links is None else np.argsort(owners[links[:, 0]], kind="stable")
    for one in np.unique(owners).tolist():
        first, last = np.searchsorted(owners[order], [one, one + 1])
        index = None
        if links is not None and by is not None:
            begin, end = np.searchsorted(owners[links[by, 0]], [one, one + 1])
            index = number[links[by[begin:end]]] - first
        yield names.get(one, ""), order[first:last], index


def _put(tree: dict[str, Any], parts: list[bytes], values: Array, key: str) -> int:
    """Add an accessor with its own view, and return its number. Rows of vertices are padded to whole words."""
    vertices, size = key != INDICES, values.shape[1] * values.dtype.itemsize
    raw = np.zeros((len(values), size + -size % 4 if vertices else size), np.uint8)
    plain = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<")))
    raw[:, :size] = plain.view(np.uint8).reshape(len(values), size)
    buffer = tree["buffers"][0]
    stride = {"byteStride": raw.shape[1], "target": 34962} if vertices else {"target": 34963}
    tree["bufferViews"].append({"buffer": 0, "byteOffset": buffer["byteLength"], "byteLength": raw.size, **stride})
    parts.append(raw.tobytes() + b"\0" * (-raw.size % 4))
    buffer["byteLength"] += len(parts[-1])
    accessor: dict[str, Any] = {"bufferView": len(tree["bufferViews"]) - 1, "componentType": CODES[plain.dtype]}
    accessor |= {"count": len(values), "type": VECTORS[values.shape[1]]}
    normalized = {"normalized": True} if key == "COLOR_0" and values.dtype.kind == "u" else {}
    bounds = {"min": values.min(0).tolist(), "max": values.max(0).tolist()} if key == "POSITION" else {}
    tree["accessors"].append({**accessor, **normalized, **bounds})
    return len(tree["accessors"]) - 1
