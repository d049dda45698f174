"""PLY: vertices, faces and edges with properties of any name, as text and in both binary orders."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from zarr_vectors_lazy.errors import FileError, listed
from zarr_vectors_lazy.files import meshes
from zarr_vectors_lazy.files.loaded import Loaded, LoadOptions
from zarr_vectors_lazy.files.meshes import Array
from zarr_vectors_lazy.files.outgoing import Outgoing
from zarr_vectors_lazy.plan.selection import OBJECT_ID
from zarr_vectors_lazy.types import IntArray

TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8", "int64": "i8", "uint64": "u8",
}  # fmt: skip
NAMES = {code: name for name, code in reversed(TYPES.items())}  # the first of each is written
ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">"}
CORNERS = ("vertex_indices", "vertex_index")
ENDS = (("vertex1", "vertex2"), ("vertex_1", "vertex_2"), ("source", "target"))
MAGNITUDES = (*meshes.CHANNELS, "intensity")  # also after a prefix, as in diffuse_red


@dataclass(frozen=True, slots=True)
class Property:
    """A property: its name, the type of its values, and for a list the type of its length."""

    name: str
    dtype: str
    length: str | None


@dataclass(frozen=True, slots=True)
class Element:
    """An element: its name, its count, and its properties."""

    name: str
    count: int
    properties: list[Property] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class Lists:
    """Values of a list property: the number in each row, and all of them."""

    counts: IntArray
    values: Array

    @property
    def plain(self) -> Array | None:
        """(N, C) values if all rows have as many; otherwise None."""
        width = int(self.counts[0]) if len(self.counts) else 0
        return self.values.reshape(-1, width) if width and (self.counts == width).all() else None


Columns = dict[str, Array | Lists]


def load_ply(path: Path, asked: LoadOptions) -> Loaded:
    """Read PLY: a mesh if there are faces, otherwise a graph if there are edges, otherwise points."""
    data = path.read_bytes()
    style, elements, said, start = _header(data)
    body = _Body(data[start:].split(), 0, "") if style == "ascii" else _Body(data, start, ORDERS[style])
    found = {element.name: _columns(body, element) for element in elements}
    if body.left:
        raise FileError(f"there are {body.left} after the last element")
    left: list[str] = []
    vertices = found.pop("vertex", {})
    attributes = _plain(vertices, "vertex", left)
    axes = tuple(axis for axis in "xyz" if axis in attributes)
    if axes not in (("x", "y"), ("x", "y", "z")):
        raise FileError(f"expected an element vertex with x, y and z; found {listed([*vertices, *found])}")
    positions = np.column_stack([attributes.pop(axis) for axis in axes])
    given: dict[str, Any] = _faces(found, len(positions), asked, left) or _edges(found, len(positions), left)
    left += [f"element {one.name}" for one in elements if one.name in found and one.count]
    return Loaded(
        **{"kind": "points", **given},
        positions=positions,
        axes=axes,
        object_ids=attributes.pop(OBJECT_ID, None),
        attributes=attributes,
        header={"ply": said} if said else {},
        means=frozenset(name for name in attributes if name.rpartition("_")[2] in MAGNITUDES),
        left_out=tuple(left),
    )


def _header(data: bytes) -> tuple[str, list[Element], dict[str, list[str]], int]:
    """Style, elements, comments, and where the data begin."""
    begin = re.match(rb"ply[ \t]*(\r\n|\n|\r)", data)
    end = begin and re.compile(rb"end_header[ \t]*" + begin[1]).search(data)
    if begin is None or end is None:
        raise FileError("this is not a PLY file, which begins with 'ply' and has a line 'end_header'")
    style, elements = "", list[Element]()
    said: dict[str, list[str]] = {}
    for line in data[begin.end() : end.start()].decode("utf-8", "replace").split(begin[1].decode()):
        word, _, rest = line.strip().partition(" ")
        parts = rest.split()
        if word == "format" and parts:
            style = parts[0]
        elif word in ("comment", "obj_info"):
            said.setdefault(word, []).append(rest)
        elif word == "element" and len(parts) == 2 and parts[1].isdecimal() and len(parts[1]) < 19:
            elements.append(Element(parts[0], int(parts[1])))
        elif word == "property" and elements:
            elements[-1].properties.append(_property(parts, elements[-1]))
        elif word:
            raise FileError(f"the header has a line that PLY does not know: {line[:80]!r}")
    if style != "ascii" and style not in ORDERS:
        raise FileError(f"format {style!r} is not one of 'ascii', {', '.join(map(repr, ORDERS))}")
    return style, elements, said, end.end()


def _property(parts: Sequence[str], element: Element) -> Property:
    *types, name = parts or [""]
    is_list = types[:1] == ["list"]
    known = [TYPES.get(text, "") for text in types[is_list:]]
    if len(known) != 1 + is_list or not all(known) or name in [one.name for one in element.properties]:
        raise FileError(f"a property that is unknown or repeated: {' '.join(parts)[:80]!r}")
    if is_list and known[0][0] == "f":
        raise FileError(f"the length of list {name!r} is not a whole number")
    return Property(name, known[-1], known[0] if is_list else None)


class _Body:
    """Numbers one after another, as text or with fixed sizes.

    Parameters
    ----------
    raw
        Words, or bytes.
    at
        Where the first number begins, in words or bytes.
    order
        ``"<"`` or ``">"``; ``""`` for text.
    """

    def __init__(self, raw: list[bytes] | bytes, at: int, order: str) -> None:
        self._raw = raw
        self.at = at
        self._order = order

    def decoded(self, raw: Any, dtype: str) -> Array:
        """Convert words or bytes to numbers."""
        if self._order:
            return np.frombuffer(raw, self._order + dtype).astype(dtype)
        return np.array(raw, np.dtype(dtype))

    @property
    def left(self) -> str:
        """What was not read; trailing blanks do not count."""
        rest = self._raw[self.at :]
        blank = isinstance(rest, bytes) and not rest.strip()
        return "" if blank or not rest else f"{len(rest)} {'bytes' if self._order else 'words'}"

    def _size(self, dtype: str) -> int:
        return int(dtype[1]) if self._order else 1

    def row(self, element: Element, at: int) -> tuple[list[tuple[int, int]], int]:
        """Where the values of each property of a row begin and end, and where the row does."""
        spans = []
        for one in element.properties:
            count = 1
            if one.length is not None:
                end = at + self._size(one.length)
                count = int(self.decoded(self._part(at, end), one.length)[0])
                at = end
                if not 0 <= count <= len(self._raw):
                    raise FileError(f"a list {one.name!r} of {count} values")
            spans.append((at, at + count * self._size(one.dtype)))
            at = spans[-1][1]
        return spans, at

    def _part(self, first: int, last: int) -> Any:
        if last > len(self._raw):
            raise EOFError
        return self._raw[first:last]

    def alike(self, element: Element) -> Columns | None:
        """Values of each property if all rows are as long as the first; moves past them. Otherwise None."""
        spans, end = self.row(element, self.at)
        width, rows = end - self.at, element.count
        if rows * width > len(self._raw) - self.at:
            return None
        found: Columns = {}
        for one, (first, last) in zip(element.properties, spans, strict=True):
            values = self._table(first, last, width, rows, one.dtype)
            if one.length is None:
                found[one.name] = values[:, 0]
                continue
            lengths = self._table(first - self._size(one.length), first, width, rows, one.length)[:, 0]
            if (lengths != values.shape[1]).any():
                return None
            found[one.name] = Lists(lengths.astype(np.int64), values.reshape(-1))
        self.at += rows * width
        return found

    def _table(self, first: int, last: int, width: int, rows: int, dtype: str) -> Array:
        """(rows, n) values, from their place in the first row."""
        if self._order:
            block = np.frombuffer(self._raw, np.uint8, rows * width, self.at).reshape(rows, width)  # type: ignore[arg-type]
            part = np.ascontiguousarray(block[:, first - self.at : last - self.at])
            return part.view(self._order + dtype).astype(dtype)
        end = self.at + rows * width
        columns = [self.decoded(self._raw[at:end:width], dtype) for at in range(first, last)]
        return np.column_stack(columns) if columns else np.empty((rows, 0), dtype)

    def ragged(self, element: Element) -> Columns:
        """Values of each property, row by row."""
        at, rows = self.at, []
        for _ in range(element.count):
            row, at = self.row(element, at)
            self._part(at, at)  # no row ends beyond the end of the file
            rows.append(row)
        found: Columns = {}
        for k, one in enumerate(element.properties):
            parts: Any = [self._raw[first:last] for first, last in (row[k] for row in rows)]
            values = self.decoded(b"".join(parts) if self._order else list(chain(*parts)), one.dtype)
            counts = np.array(list(map(len, parts)), np.int64) // self._size(one.dtype)
            found[one.name] = values if one.length is None else Lists(counts, values)
        self.at = at
        return found


def _columns(body: _Body, element: Element) -> Columns:
    """Values of each property of an element."""
    if not element.count:
        return {one.name: np.empty(0, one.dtype) for one in element.properties if one.length is None}
    try:
        found = body.alike(element)
        return body.ragged(element) if found is None else found
    except EOFError:
        raise FileError(f"it ends among the {element.count} of element {element.name!r}") from None
    except (ValueError, OverflowError) as error:
        raise FileError(f"element {element.name!r}: {error}") from error


def _plain(columns: Columns, element: str, left: list[str]) -> dict[str, Array]:
    """Properties as attributes, including lists with the same number of values in each row; others are left out."""
    found = {}
    for name, values in columns.items():
        plain = values if isinstance(values, np.ndarray) else values.plain
        if plain is None:
            left.append(f"{element} property {name}")
        else:
            found[name] = plain
    return found


def _faces(found: dict[str, Columns], rows: int, asked: LoadOptions, left: list[str]) -> dict[str, Any]:
    """Faces, also from strips, and their attributes; nothing if there are none."""
    strip = next((v for v in found.pop("tristrips", {}).values() if isinstance(v, Lists)), None)
    columns = found.pop("face", {})
    name = next((name for name in CORNERS if isinstance(columns.get(name), Lists)), None)
    if name is None:
        if any(len(v) if isinstance(v, np.ndarray) else len(v.counts) for v in columns.values()):
            raise FileError(f"faces have no list {' or '.join(CORNERS)}, but {listed(columns)}")
        polygons = meshes.Polygons(np.empty(0, np.int64), np.empty(0, np.int64))
    else:
        corners = columns.pop(name)
        assert isinstance(corners, Lists)
        polygons = meshes.Polygons(corners.counts, corners.values.astype(np.int64), _plain(columns, "face", left))
    if strip is not None and not len(polygons.counts):
        triangles = _strip_faces(strip)
        polygons = meshes.Polygons(np.full(len(triangles), 3), triangles.reshape(-1))
    elif strip is not None:
        left.append("element tristrips")
    faces, values = polygons.table(rows, triangulate=asked.triangulate)
    return {"kind": "mesh", "faces": faces, "link_attributes": values} if len(faces) else {}


def _strip_faces(strip: Lists) -> IntArray:
    """Triangles of strips; -1 begins another."""
    corners = strip.values.astype(np.int64)
    run = np.repeat(np.arange(len(strip.counts)), strip.counts) + np.cumsum(corners < 0)
    _, counts = np.unique(run[corners >= 0], return_counts=True)
    return meshes.strips(counts, corners[corners >= 0])


def _edges(found: dict[str, Columns], rows: int, left: list[str]) -> dict[str, Any]:
    """Edges and their attributes; nothing if there are none."""
    columns = found.get("edge", {})
    ends = next((pair for pair in ENDS if all(isinstance(columns.get(end), np.ndarray) for end in pair)), None)
    if ends is None:
        return {}
    del found["edge"]
    values = _plain(columns, "edge", left)
    edges = np.column_stack([values.pop(end) for end in ends]).astype(np.int64)
    meshes.check_rows(edges, rows, "edges")
    return {"kind": "graph", "edges": edges, "link_attributes": values} if len(edges) else {}


Table = list[tuple[str, Array, bool]]
"""Properties: name, values, and whether they are a list."""


def save_ply(out: Outgoing, path: Path) -> int:
    """Write binary PLY: vertices, faces or edges, with their attributes as properties."""
    owners = out.vertex_object_ids if len(out.object_ids) > 1 else None
    columns = dict(zip("xyz", out.positions.T, strict=True)) | ({} if owners is None else {OBJECT_ID: owners})
    elements: dict[str, Table] = {"vertex": _table(out, columns, out.attributes, "attribute")}
    if out.faces is not None:
        faces, values = meshes.triangles_of(out, "PLY") if out.triangulate else (out.faces, out.link_attributes)
        elements["face"] = _table(out, {}, values, "link attribute", lists={CORNERS[0]: faces.astype(np.int32)})
    elif out.edges is not None:
        edges = dict(zip(ENDS[0], out.edges.astype(np.int32).T, strict=True))
        elements["edge"] = _table(out, edges, out.link_attributes, "link attribute")
    said = [f"{word} {line}" for word, lines in meshes.header_of(out, "ply").items() for line in lines]
    head = ["ply", "format binary_little_endian 1.0", *said]
    for name, table in elements.items():
        head += [f"element {name} {len(table[0][1])}", *map(_described, table)]
    with path.open("wb") as file:
        file.write("\n".join([*head, "end_header", ""]).encode())
        for table in elements.values():
            file.write(_packed(table))
    return len(out.positions)


def _table(
    out: Outgoing,
    columns: Mapping[str, Array],
    attributes: Mapping[str, Array],
    what: str,
    lists: Mapping[str, Array] | None = None,
) -> Table:
    """Properties of an element; if it has lists, vectors become lists too. What PLY cannot hold is left out."""
    own, rest = (
        {name: held for name, values in part.items() if (held := _held(values)) is not None}
        for part in (columns, attributes)
    )
    out.leave(*(["object ids"] if OBJECT_ID in columns and OBJECT_ID not in own else []))
    out.leave(*(f"{what} {name}" for name in attributes if name not in rest))
    rest = {"_".join(name.split()): values for name, values in rest.items()}
    vectors = {name: values for name, values in rest.items() if lists is not None and values.ndim == 2}
    flat = meshes.flat_columns({name: values for name, values in rest.items() if name not in vectors}, tuple(own))
    return [
        *((name, values, True) for name, values in {**(lists or {}), **vectors}.items()),
        *((name, values, False) for name, values in {**own, **flat}.items()),
    ]


def _held(values: Array) -> Array | None:
    """Values in a PLY type that holds them all; None if there is none, as for text."""
    kind, size = values.dtype.kind, values.dtype.itemsize
    if kind == "b":
        return values.astype(np.uint8)
    if kind == "f":
        return values.astype(np.float32 if size < 4 else np.float64 if size > 8 else values.dtype)
    if kind not in "iu":
        return None
    return values if size < 8 else meshes.fitted(values, np.int32, np.uint32)


def _described(one: tuple[str, Array, bool]) -> str:
    name, values, is_list = one
    length = f"list {'uchar' if values.shape[-1] < 256 else 'int'} " if is_list else ""
    return f"property {length}{NAMES[values.dtype.str[1:]]} {name}"


def _packed(table: Table) -> bytes:
    """Rows of an element."""
    fields: list[Any] = []
    for k, (_, values, is_list) in enumerate(table):
        if is_list:
            fields.append((f"{k}n", "u1" if values.shape[1] < 256 else "<i4"))
        fields.append((str(k), values.dtype.newbyteorder("<"), values.shape[1:]))
    rows = np.empty(len(table[0][1]), fields)
    for k, (_, values, is_list) in enumerate(table):
        rows[str(k)] = values
        if is_list:
            rows[f"{k}n"] = values.shape[1]
    return rows.tobytes()
