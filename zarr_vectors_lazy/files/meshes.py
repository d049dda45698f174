"""Meshes in STL and OFF."""

import re
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from zarr_vectors_lazy.errors import FileError
from zarr_vectors_lazy.files.loaded import NAME, Asked, Loaded
from zarr_vectors_lazy.files.outgoing import Outgoing
from zarr_vectors_lazy.files.polygons import (
    CHANNELS,
    NORMAL_PARTS,
    Polygons,
    colours_of,
    header_of,
    leave_rest,
    normals_of,
    single,
    texts,
    triangles_of,
)
from zarr_vectors_lazy.types import IntArray

Array = np.ndarray[Any, Any]
FACET = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
BEGIN = 84  # of the facets: a header of 80 bytes, and how many there are
WORDS = {b"facet", b"normal", b"outer", b"loop", b"vertex", b"endloop", b"endfacet"}
SOLID = re.compile(rb"^[ \t]*solid\b[ \t]*([^\r\n]*)", re.MULTILINE | re.IGNORECASE)
OFF = re.compile(r"(ST)?(C)?(N)?(4)?(n)?OFF\b")


def load_stl(path: Path, asked: Asked) -> Loaded:
    """Read STL, binary or text: corners that are the same are one vertex; solids of text are objects."""
    data = path.read_bytes()
    count = int.from_bytes(data[80:BEGIN], "little")
    if len(data) >= BEGIN and BEGIN + count * FACET.itemsize == len(data):
        facets = np.frombuffer(data, FACET, count, BEGIN)
        title = data[:80].rstrip(b"\0 ").decode("latin-1")
        values = {"normal": facets["normal"].astype(np.float32), "attribute": facets["attribute"].astype(np.uint16)}
        positions, faces = _welded(facets["corners"].astype(np.float32), np.zeros(count, np.int64))
        return Loaded(
            kind="mesh",
            positions=positions,
            faces=faces,
            link_attributes=values,
            header={"stl": {"header": title}} if title else {},
        )
    if not data[:512].lstrip().lower().startswith(b"solid"):
        raise FileError(
            "this is no STL: neither text that begins with 'solid', nor as long as its number of facets says"
        )
    return _solids(data)


def _solids(data: bytes) -> Loaded:
    """Solids of text."""
    begins = list(SOLID.finditer(data))
    numbers, owners = [], []
    for number, (one, last) in enumerate(zip(begins, [*(m.start() for m in begins[1:]), len(data)], strict=True)):
        words = re.split(rb"(?i)\bendsolid\b", data[one.end() : last])[0].lower().split()
        facets = [word for word in words if word not in WORDS]
        count = words.count(b"facet")
        if len(facets) != 12 * count or words.count(b"vertex") != 3 * count:
            raise FileError(f"solid {number + 1} has {count} facets, but {len(facets)} numbers: 12 are wanted for each")
        numbers.append(np.array(facets, np.float64).reshape(-1, 4, 3))
        owners.append(np.full(count, number))
    facets_of = np.concatenate(numbers)
    solid = np.concatenate(owners)
    positions, faces = _welded(facets_of[:, 1:], solid)
    names = [one[1].strip().decode("utf-8", "replace") for one in begins]
    used = np.unique(solid)
    owner = np.zeros(len(positions), np.int64)
    owner[faces.reshape(-1)] = np.repeat(np.searchsorted(used, solid), 3)
    return Loaded(
        kind="mesh",
        positions=positions,
        faces=faces,
        link_attributes={"normal": facets_of[:, 0]},
        object_ids=owner if len(used) > 1 else None,
        local_ids=True,
        object_attributes={NAME: np.array([names[one] for one in used], object)} if any(names) else {},
    )


def _welded(corners: Array, owners: IntArray) -> tuple[Array, IntArray]:
    """(N, 3) positions that differ, in the order in which they come, and (F, 3) faces, of (F, 3, 3) corners.

    Corners of two owners stay two.
    """
    flat = corners.reshape(-1, 3) + corners.dtype.type(0)  # -0 and 0 are one place
    keyed = np.column_stack([flat.view(f"u{flat.itemsize}"), np.repeat(owners, 3).astype(np.uint64)])
    _, first, inverse = np.unique(keyed, axis=0, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))
    return flat[np.sort(first)], rank[inverse.reshape(-1)].reshape(-1, 3)


def save_stl(out: Outgoing, path: Path) -> int:
    """Write binary STL: triangles with their normals, and the attribute of two bytes that each has."""
    faces, values = triangles_of(out, "STL")
    facets = np.zeros(len(faces), FACET)
    facets["corners"] = single(out, out.positions, "positions")[faces]
    normals = values.get("normal")
    if normals is None or normals.shape[1:] != (3,) or normals.dtype.kind != "f":
        a, b, c = np.moveaxis(out.positions[faces].astype(np.float64), 1, 0)
        normals = np.cross(b - a, c - a)
        length = np.linalg.norm(normals, axis=1, keepdims=True)
        normals = np.divide(normals, length, out=np.zeros_like(normals), where=length > 0)
    facets["normal"] = normals
    own = values.get("attribute")
    fits = own is not None and own.ndim == 1 and own.dtype.kind in "iu" and not ((own < 0) | (own > 65535)).any()
    if own is not None and fits:
        facets["attribute"] = own
    out.leave(*(f"link attribute {name}" for name in values if name != "normal" and not (name == "attribute" and fits)))
    title = str(header_of(out, "stl").get("header", "zarr-vectors-lazy"))
    title = title if not title.lower().startswith("solid") else f"_{title}"  # that is how text begins
    with path.open("wb") as file:
        file.write(title.encode("latin-1", "replace")[:80].ljust(80, b"\0") + len(faces).to_bytes(4, "little"))
        file.write(facets.tobytes())
    return len(out.positions)


def load_off(path: Path, asked: Asked) -> Loaded:
    """Read OFF: vertices with colours, normals and texture coordinates, faces with colours."""
    lines = [line.partition("#")[0] for line in path.read_bytes().decode("utf-8-sig", "replace").splitlines()]
    rows = [row for line in lines if (row := line.split())]
    kind = OFF.fullmatch(rows[0][0]) if rows else None
    if kind is None:
        raise FileError("this is no OFF: its first word is OFF, COFF, NOFF, CNOFF or STOFF")
    first = rows[0][1:]
    if kind[4] or kind[5] or first[:1] == ["BINARY"]:
        raise FileError("OFF of other than three axes, and binary OFF, are not read")
    counts, *rest = [first, *rows[1:]] if first else rows[1:] or [[]]
    if len(counts) < 2 or not all(word.isdecimal() for word in counts[:2]):
        raise FileError(f"the numbers of vertices and faces are wanted, found {' '.join(counts)[:40]!r}")
    vertices, faces = int(counts[0]), int(counts[1])
    if len(rest) < vertices + faces:
        raise FileError(f"{vertices} vertices and {faces} faces are wanted, there are {len(rest)} lines")
    positions, attributes = _off_vertices(rest[:vertices], kind)
    left: list[str] = ["lines after the last face"] if len(rest) > vertices + faces else []
    polygons = _off_faces(rest[vertices : vertices + faces], left)
    table, values = polygons.table(len(positions), triangulate=asked.triangulate)
    return Loaded(
        kind="mesh" if faces else "points",
        positions=positions,
        faces=table if faces else None,
        attributes=attributes,
        link_attributes=values,
        means=frozenset(name for name in attributes if name in CHANNELS),
        left_out=tuple(left),
    )


def _off_vertices(rows: list[list[str]], kind: re.Match[str]) -> tuple[Array, dict[str, Array]]:
    """Positions, then normals, colours and texture coordinates, as the first word says."""
    widths = {len(row) for row in rows}
    before, after = 3 + 3 * bool(kind[3]), 2 * bool(kind[1])
    more = max(widths, default=3) - before - after
    if len(widths) > 1 or more not in ((3, 4) if kind[2] else (0, 3, 4)):
        raise FileError(f"vertices of {sorted(widths)} numbers, as {kind[0]} they have other")
    if not rows:
        return np.empty((0, 3)), {}
    columns = list(zip(*rows, strict=True))
    table = [np.array(column, np.float64) for column in columns]
    attributes = dict(zip(NORMAL_PARTS, table[3:before], strict=False))
    attributes |= _channels(columns[before : before + more])
    attributes |= dict(zip("st", table[before + more :], strict=False))
    return np.column_stack(table[:3]), attributes


def _channels(columns: Any) -> dict[str, Array]:
    """Colours by channel: whole numbers of one byte, or numbers from 0 to 1."""
    whole = all(word.isdecimal() and len(word) < 4 and int(word) < 256 for column in columns for word in column)
    dtype = np.uint8 if whole else np.float64
    return {name: np.array(column, np.float64).astype(dtype) for name, column in zip(CHANNELS, columns, strict=False)}


def _off_faces(rows: list[list[str]], left: list[str]) -> Polygons:
    """Faces, and their colours where each has one of three or four numbers."""
    counts = np.array([row[0] for row in rows], np.int64)
    if (counts < 0).any() or any(len(row) <= count for row, count in zip(rows, counts.tolist(), strict=True)):
        raise FileError("a face has fewer corners than it says")
    corners = [row[1 : count + 1] for row, count in zip(rows, counts.tolist(), strict=True)]
    colours = [row[count + 1 :] for row, count in zip(rows, counts.tolist(), strict=True)]
    widths = {len(colour) for colour in colours}
    found = Polygons(counts, np.array(list(chain(*corners)), np.int64))
    if widths in ({3}, {4}):
        found.values |= _channels(list(zip(*colours, strict=True)))
    elif widths - {0}:
        left.append("colours that some faces have, or that are numbers of a map")
    return found


def save_off(out: Outgoing, path: Path) -> int:
    """Write OFF: vertices with colours and normals, faces with colours."""
    faces, values = triangles_of(out, "OFF") if out.triangulate else (out.faces, out.link_attributes)
    faces = np.empty((0, 3), np.int64) if faces is None else faces
    normals, turned = normals_of(out.attributes)
    colours, coloured = _off_colours(out.attributes)
    of_faces, painted = _off_colours(values)
    leave_rest(out, turned | coloured)
    out.leave(*(f"link attribute {name}" for name in values if name not in painted))
    columns = [out.positions, *(part for part in (normals, colours) if part is not None)]
    corners = np.column_stack([np.full(len(faces), faces.shape[1]), faces])
    with path.open("w", encoding="ascii") as file:
        kind = f"{'C' if colours is not None else ''}{'N' if normals is not None else ''}OFF"
        file.write(f"{kind}\n{len(out.positions)} {len(faces)} 0\n")
        file.writelines(f"{row}\n" for row in texts(columns))
        file.writelines(f"{row}\n" for row in texts([corners, *([] if of_faces is None else [of_faces])]))
    return len(out.positions)


def _off_colours(attributes: Any) -> tuple[Array | None, set[str]]:
    """Colours as whole numbers of one byte where they are that, else from 0 to 1."""
    colours, names = colours_of(attributes)
    bytes_ = colours is not None and all(attributes[name].dtype == np.uint8 for name in names)
    return (np.rint(colours * 255).astype(np.uint8) if colours is not None and bytes_ else colours), names
