"""VTK: legacy files (PolyData, unstructured grids) as text and binary, and XML PolyData (VTP)."""

import base64
import lzma
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, unquote
from xml.etree import ElementTree as ET
from xml.sax.saxutils import quoteattr

import numpy as np
from numcodecs.lz4 import decompress as lz4_decompress

from zarr_vectors_lazy.errors import FileError
from zarr_vectors_lazy.files.loaded import Loaded, LoadOptions
from zarr_vectors_lazy.files.meshes import CHANNELS, Array, Polygons, check_rows, leave_rest, strips, triangles_of
from zarr_vectors_lazy.files.outgoing import Outgoing
from zarr_vectors_lazy.format.vectors import is_number
from zarr_vectors_lazy.model.objects import ragged_arange
from zarr_vectors_lazy.plan.selection import OBJECT_ID, column_names
from zarr_vectors_lazy.types import IntArray

LEGACY = {
    "bit": "b1", "char": "i1", "signed_char": "i1", "unsigned_char": "u1", "short": "i2", "unsigned_short": "u2",
    "int": "i4", "unsigned_int": "u4", "long": "i8", "unsigned_long": "u8", "float": "f4", "double": "f8",
    "vtkidtype": "i4", "vtktypeint64": "i8", "vtktypeuint64": "u8",
}  # fmt: skip
WRITTEN = {
    "i1": "char", "u1": "unsigned_char", "i2": "short", "u2": "unsigned_short", "i4": "int", "u4": "unsigned_int",
    "i8": "vtktypeint64", "u8": "vtktypeuint64", "f4": "float", "f8": "double",
}  # fmt: skip
XML = {f"{kind}{8 * size}": f"{kind[0].lower()}{size}" for kind in ("Int", "UInt") for size in (1, 2, 4, 8)} | {
    "Float32": "f4", "Float64": "f8",
}  # fmt: skip
XML_NAMES = {code: name for name, code in XML.items()}
VERTS, LINES, POLYS, STRIPS = "VERTICES", "LINES", "POLYGONS", "TRIANGLE_STRIPS"
TYPES = {VERTS: 2, LINES: 4, POLYS: 7, STRIPS: 6}  # as those of unstructured grids
PARTS = {"Verts": VERTS, "Lines": LINES, "Polys": POLYS, "Strips": STRIPS}  # in the order of the values of cells
IS_LINE, IS_STRIP, IS_FACE, PIXEL = (3, 4), 6, (5, 7, 8, 9), 8
VECTORS = {"VECTORS": 3, "NORMALS": 3, "TENSORS": 9, "TENSORS6": 6, "GLOBAL_IDS": 1, "PEDIGREE_IDS": 1, "EDGE_FLAGS": 1}
METADATA = re.compile(rb"^METADATA\r?\n(?:[^\r\n]+\r?\n)*\r?\n?", re.MULTILINE)
TEXT = re.compile(rb"^\S+ +(\d{1,9}) +(\d{1,9}) +string[ \t]*\r?\n", re.MULTILINE)  # the head of an array of a field


@dataclass(slots=True, eq=False)
class Cells:
    """Cells one after another, and values.

    Parameters
    ----------
    types, counts, corners
        (C,) kinds, (C,) number of corners of each, and the rows of all corners.
    positions
        (N, 3) points.
    points, rows
        Values of points, and of cells, by name.
    left
        What is left out.
    """

    positions: Array = field(default_factory=lambda: np.empty((0, 3)))
    types: list[IntArray] = field(default_factory=list)
    counts: list[IntArray] = field(default_factory=list)
    corners: list[IntArray] = field(default_factory=list)
    points: dict[str, Array] = field(default_factory=dict)
    rows: dict[str, Array] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)

    def add(self, kind: str, counts: IntArray, corners: IntArray) -> None:
        """Add cells of one kind."""
        self.types.append(np.full(len(counts), TYPES[kind]))
        self.counts.append(counts.astype(np.int64))
        self.corners.append(corners.astype(np.int64))

    def in_order(self) -> None:
        """Order the kinds of cells as their values are ordered, whatever their order in the file."""
        ranks = {kind: rank for rank, kind in enumerate(TYPES.values())}
        by = sorted(range(len(self.types)), key=lambda at: ranks.get(int(self.types[at][:1].sum()), 0))
        for parts in (self.types, self.counts, self.corners):
            parts[:] = [parts[at] for at in by]


def _loaded(cells: Cells, asked: LoadOptions) -> Loaded:
    """A mesh if there are faces, otherwise polylines or a graph if there are lines, otherwise points."""
    empty, positions = [np.empty(0, np.int64)], cells.positions
    types, counts, corners = (np.concatenate(part or empty) for part in (cells.types, cells.counts, cells.corners))
    if len(types) != len(counts):
        raise FileError(f"{len(types)} types of {len(counts)} cells")
    check_rows(corners, len(positions), "cells")
    wrong = [name for name, values in cells.rows.items() if len(values) != len(types)]
    wrong += [name for name, values in cells.points.items() if len(values) != len(positions)]
    if wrong or counts.sum() != len(corners) or (counts < 0).any():
        raise FileError(f"values {wrong} do not have a row for each point or cell" if wrong else "cells are cut off")
    faces, lines = np.isin(types, (*IS_FACE, IS_STRIP)), np.isin(types, IS_LINE)
    kept = faces if faces.any() else lines if lines.any() else np.zeros(len(types), bool)
    left = [*cells.left, *(["lines"] if faces.any() and lines.any() else [])]
    left += ["cells of volume, or curved"] if (~faces & ~lines & ~np.isin(types, (0, 1, 2))).any() else []
    starts = np.cumsum(counts) - counts
    some = counts[kept]
    flat = corners[np.repeat(starts[kept], some) + ragged_arange(some)]
    values = {name: of[kept] for name, of in cells.rows.items()}
    given: dict[str, Any] = {"attributes": cells.points, "left_out": tuple(left), "positions": positions}
    given["means"] = frozenset(name for name in cells.points if name in CHANNELS)
    if not faces.any() and lines.any() and len(flat) == len(positions) == len(np.unique(flat)):
        given |= {"positions": positions[flat], "attributes": {name: of[flat] for name, of in cells.points.items()}}
        ids = values.pop(OBJECT_ID, None)
        offsets = np.append(0, np.cumsum(some))
        return Loaded(kind="polylines", offsets=offsets, object_ids=ids, object_attributes=values, **given)
    given["object_ids"] = cells.points.pop(OBJECT_ID, None)
    if faces.any():
        polygons = _polygons(types[kept], some, flat, values)
        table, values = polygons.table(len(positions), triangulate=asked.triangulate)
        return Loaded(kind="mesh", faces=table, link_attributes=values, **given)
    if lines.any():
        steps = np.maximum(some - 1, 0)
        first = np.repeat(np.cumsum(some) - some, steps) + ragged_arange(steps)
        of_edges = {name: np.repeat(of, steps, axis=0) for name, of in values.items()}
        edges = np.column_stack([flat[first], flat[first + 1]])
        return Loaded(kind="graph", edges=edges, link_attributes=of_edges, **given)
    return Loaded(kind="points", **{**given, "left_out": (*left, *(f"value of cells {name}" for name in cells.rows))})


def _polygons(types: IntArray, counts: IntArray, corners: IntArray, values: dict[str, Array]) -> Polygons:
    """Faces of cells: strips become triangles, and the corners of pixels are put in order."""
    starts = np.cumsum(counts) - counts
    pixel = starts[types == PIXEL]
    corners[pixel + 2], corners[pixel + 3] = corners[pixel + 3], corners[pixel + 2]
    if not (types == IS_STRIP).any():
        return Polygons(counts, corners, values)
    parts, numbers, of = [], [], []
    for at in range(len(types)):
        cell = corners[starts[at] : starts[at] + counts[at]]
        made = strips(counts[at : at + 1], cell) if types[at] == IS_STRIP else cell[None]
        parts.append(made.reshape(-1))
        numbers.append(np.full(len(made), made.shape[1]))
        of.append(np.full(len(made), at))
    face = np.concatenate(of)
    return Polygons(np.concatenate(numbers), np.concatenate(parts), {name: rows[face] for name, rows in values.items()})


class _Legacy:
    """Words and numbers of a legacy file, one after another."""

    def __init__(self, data: bytes) -> None:
        head = re.match(rb"\s*# vtk DataFile Version (\d+)[^\n]*\n[^\n]*\n\s*(ASCII|BINARY)\s*\n", data, re.IGNORECASE)
        if head is None:
            raise FileError("this is not a VTK file: expected '# vtk DataFile Version', a title, and ASCII or BINARY")
        self.version, self.ascii = int(head[1]), head[2].upper() == b"ASCII"
        self._data, self._at = data, head.end()
        self._words = METADATA.sub(b"", _without_text(data[head.end() :])).split() if self.ascii else []
        self._next = 0

    def word(self) -> str:
        """Next word; "" at the end."""
        if self.ascii:
            self._next += 1
            return self._words[self._next - 1].decode("latin-1") if self._next <= len(self._words) else ""
        found = re.compile(rb"\s*(\S*)").match(self._data, self._at)
        assert found is not None
        self._at = found.end()
        if found[1] == b"METADATA":
            skipped = METADATA.match(self._data, found.start(1))
            self._at = skipped.end() if skipped else self._at
            return self.word()
        return found[1].decode("latin-1")

    def peek(self) -> str:
        """Next word, without consuming it."""
        before = self._at, self._next
        found = self.word()
        self._at, self._next = before
        return found

    def number(self) -> int:
        """Next word, which is a count."""
        text = self.word()
        if not text.isdecimal() or len(text) > 15:
            raise FileError(f"expected a count, found {text[:40]!r}")
        return int(text)

    def values(self, count: int, kind: str) -> Array:
        """The given number of values of a type."""
        if kind.lower() not in LEGACY:
            raise FileError(f"numbers of type {kind[:40]!r} cannot be read")
        dtype = np.dtype(LEGACY[kind.lower()])
        if self.ascii:
            words = self._words[self._next : self._next + count]
            self._next += count
            found = np.array(words, np.float64 if dtype.kind == "f" else np.int64 if dtype != np.uint64 else dtype)
        else:
            begin = self._data.find(b"\n", self._at) + 1
            nbytes = -(-count // 8) if dtype.kind == "b" else count * dtype.itemsize
            raw = self._data[begin : begin + nbytes] if begin else b""
            self._at = begin + nbytes
            if len(raw) < nbytes:
                raise FileError(f"expected {count} numbers where the file ends")
            if dtype.kind == "b":
                return np.unpackbits(np.frombuffer(raw, np.uint8))[:count].astype(bool)
            found = np.frombuffer(raw, dtype.newbyteorder(">"))
        if len(found) < count:
            raise FileError(f"expected {count} numbers where the file ends")
        return found.astype(dtype)

    def skip_text(self, count: int) -> None:
        """Skip the given number of texts, which the words of an ASCII file do not include."""
        if self.ascii:
            return
        self._at = self._data.find(b"\n", self._at) + 1
        for _ in range(count):
            head = self._data[self._at : self._at + 8]
            if not head:
                raise FileError(f"expected {count} texts where the file ends")
            size = {3: 1, 2: 2, 1: 4, 0: 8}[head[0] >> 6]  # bytes of the length, whose first two bits say so
            self._at += size + (int.from_bytes(head[:size]) & (1 << (8 * size - 2)) - 1)


def _without_text(data: bytes) -> bytes:
    """What an ASCII file holds, without the lines of arrays of text, some of which may be empty."""
    kept, at = [], 0
    for found in TEXT.finditer(data):
        kept.append(data[at : found.end()])
        at = found.end()
        for _ in range(int(found[1]) * int(found[2])):
            at = data.find(b"\n", at) + 1 or len(data)
            if at == len(data):
                break
    return b"".join([*kept, data[at:]])


def load_vtk(path: Path, asked: LoadOptions) -> Loaded:
    """Read a legacy VTK file."""
    file, cells = _Legacy(path.read_bytes()), Cells()
    current, rows = cells.rows, 0
    while word := file.word().upper():
        if word in ("POINT_DATA", "CELL_DATA"):
            current, rows = (cells.points if word == "POINT_DATA" else cells.rows), file.number()
        elif word == "FIELD":
            _fields(file, current if rows else {}, cells.left if rows else [])
        elif not _geometry(file, word, cells):
            _one(file, word, rows, current)
    cells.in_order()
    return _loaded(cells, asked)


def _geometry(file: _Legacy, word: str, cells: Cells) -> bool:
    """Read points or cells, if the word announces them."""
    match word:
        case "DATASET":
            kind = file.word().upper()
            if kind not in ("POLYDATA", "UNSTRUCTURED_GRID"):
                raise FileError(f"a VTK file of {kind} is an image or a grid, and has no points, lines or faces")
        case "POINTS":
            count = file.number()
            cells.positions = file.values(count * 3, file.word()).reshape(-1, 3)
        case "VERTICES" | "LINES" | "POLYGONS" | "TRIANGLE_STRIPS":
            cells.add(word, *_cell_lists(file))
        case "CELLS":
            cells.add(VERTS, *_cell_lists(file))
        case "CELL_TYPES":
            cells.types = [file.values(file.number(), "int").astype(np.int64)]
        case _:
            return False
    return True


def _cell_lists(file: _Legacy) -> tuple[IntArray, IntArray]:
    """Corners of cells: the number of each, and all of them."""
    count, size = file.number(), file.number()
    if file.peek().upper() == "OFFSETS":
        file.word()
        offsets = file.values(count, file.word()).astype(np.int64)
        file.word()
        return np.diff(offsets), file.values(size, file.word()).astype(np.int64)
    flat = file.values(size, "int").astype(np.int64)
    if count and size % count == 0 and (flat[:: size // count] == size // count - 1).all():
        return np.full(count, size // count - 1), flat.reshape(count, -1)[:, 1:].reshape(-1)
    starts, at = [], 0
    for _ in range(count):
        starts.append(at)
        if at >= size or flat[at] < 0:
            raise FileError(f"expected {count} cells, found {len(starts) - 1}")
        at += int(flat[at]) + 1
    kept = np.ones(size, bool)
    kept[starts] = False
    if at != size:
        raise FileError(f"cells of {size} numbers end at {at}")
    return flat[starts], flat[kept]


def _fields(file: _Legacy, into: dict[str, Array], left: list[str]) -> None:
    """Arrays of a field; text is left out."""
    file.word()
    for _ in range(file.number()):
        name, width, rows, kind = unquote(file.word()), file.number(), file.number(), file.word()
        if kind.lower() == "string":
            file.skip_text(width * rows)
            left.append(f"values {name} (text)")
        else:
            into[name] = _shaped(file.values(width * rows, kind), width)


def _one(file: _Legacy, word: str, rows: int, into: dict[str, Array]) -> None:
    """An array after a word that says what it means."""
    name = unquote(file.word())
    if word == "SCALARS":
        kind = file.word()
        width = file.number() if file.peek().isdecimal() else 1
        if file.peek().upper() == "LOOKUP_TABLE":
            file.word(), file.word()
        into[name] = _shaped(file.values(width * rows, kind), width)
    elif word == "COLOR_SCALARS":
        width = file.number()
        colours = file.values(width * rows, "float" if file.ascii else "unsigned_char")
        into[name] = _shaped(np.floor(colours * 255 + 0.5).astype(np.uint8) if file.ascii else colours, width)
    elif word == "LOOKUP_TABLE":
        file.values(4 * file.number(), "float" if file.ascii else "unsigned_char")
    elif word == "TEXTURE_COORDINATES":
        width = file.number()
        into[name] = _shaped(file.values(width * rows, file.word()), width)
    elif word in VECTORS:
        into[name] = _shaped(file.values(VECTORS[word] * rows, file.word()), VECTORS[word])
    else:
        raise FileError(f"unknown keyword {word[:40]!r}")


def _shaped(values: Array, width: int) -> Array:
    return values if width == 1 else values.reshape(-1, width)


class _Xml:
    """An XML file: its tree, and the bytes behind it."""

    def __init__(self, data: bytes) -> None:
        begin = data.find(b"<AppendedData")
        self._appended, self._encoded = b"", True
        if begin >= 0:
            inside = data.find(b"_", begin) + 1
            self._encoded = b"base64" in data[begin:inside]
            self._appended = data[inside:]
            data = data[:begin] + b"</VTKFile>"
        self.root = ET.fromstring(data)
        if self.root.tag != "VTKFile" or self.root.get("type") != "PolyData":
            raise FileError(f"XML of {self.root.get('type')!r} is not PolyData")
        self._order: Literal["<", ">"] = ">" if self.root.get("byte_order") == "BigEndian" else "<"
        self._count: np.dtype[Any] = np.dtype(XML[self.root.get("header_type", "UInt32")]).newbyteorder(self._order)
        self._compressor = self.root.get("compressor", "")

    def array(self, node: ET.Element) -> Array:
        """Values of an array, (n,) or (n, C)."""
        if node.get("type") not in XML:
            raise FileError(f"an array of type {node.get('type')!r} cannot be read")
        dtype = np.dtype(XML[str(node.get("type"))])
        if node.get("format", "ascii") == "ascii":
            words = (node.text or "").split()
            found = np.array(words, np.float64 if dtype.kind == "f" else dtype).astype(dtype)
        else:
            raw, encoded = (node.text or "").strip().encode(), True
            if node.get("format") == "appended":
                raw, encoded = self._appended[int(node.get("offset", 0)) :], self._encoded
            raw = self._unpacked(raw, encoded=encoded)
            whole = len(raw) // dtype.itemsize
            found = np.frombuffer(raw, dtype.newbyteorder(self._order), whole).astype(dtype)
        return _shaped(found, int(node.get("NumberOfComponents") or 1))

    def _unpacked(self, raw: bytes, *, encoded: bool) -> bytes:
        """Bytes of an array, behind a header that states their number; in blocks if compressed."""
        size = self._count.itemsize

        def part(first: int, last: int, at: int) -> bytes:
            if not encoded:
                return raw[at + first : at + last]
            return base64.b64decode(raw[at : at + -(-last // 3) * 4] + b"==", validate=False)[first:last]

        if not self._compressor:
            (nbytes,) = np.frombuffer(part(0, size, 0), self._count, 1).tolist()
            found = part(size, size + nbytes, 0)
            if len(found) != nbytes:
                raise FileError(f"an array of {nbytes} bytes is cut off")
            return found
        (blocks,) = np.frombuffer(part(0, size, 0), self._count, 1).tolist()
        if blocks * size > len(raw):
            raise FileError(f"an array of {blocks} blocks is cut off")
        heads = np.frombuffer(part(0, size * (3 + blocks), 0), self._count, 3 + blocks).tolist()
        length, last, *sizes = heads[1:]
        head = size * (3 + blocks)
        at = -(-head // 3) * 4 if encoded else head
        packed, begin, found_parts = part(0, sum(sizes), at), 0, []
        for number, nbytes in enumerate(sizes):
            wanted = last if number == blocks - 1 and last else length
            found_parts.append(self._block(packed[begin : begin + nbytes], wanted))
            begin += nbytes
        return b"".join(found_parts)

    def _block(self, raw: bytes, nbytes: int) -> bytes:
        """A block, uncompressed to the given number of bytes."""
        if self._compressor == "vtkZLibDataCompressor":
            found = zlib.decompressobj().decompress(raw, nbytes + 1)
        elif self._compressor == "vtkLZMADataCompressor":
            found = lzma.LZMADecompressor().decompress(raw, nbytes + 1)
        elif self._compressor == "vtkLZ4DataCompressor" and nbytes < max(len(raw), 1) * 256:
            found = bytes(lz4_decompress(nbytes.to_bytes(4, "little") + raw))
        else:
            raise FileError(f"a block of {nbytes} bytes packed by {self._compressor!r} cannot be read")
        if len(found) != nbytes:
            raise FileError(f"a block of {nbytes} bytes is cut off")
        return found


def load_vtp(path: Path, asked: LoadOptions) -> Loaded:
    """Read XML PolyData, in one piece or several."""
    file, cells = _Xml(path.read_bytes()), Cells()
    positions: list[Array] = []
    rows: dict[str, list[Array]] = {}
    points: dict[str, list[Array]] = {}
    pieces = list(file.root.iter("Piece"))
    for piece in pieces:
        begin = sum(map(len, positions))
        found = piece.find("Points/DataArray")
        count = int(piece.get("NumberOfPoints", 0))
        none = np.empty((0, 3), np.float32)
        positions.append(none if found is None or not count else file.array(found).reshape(-1, 3))
        for tag, kind in PARTS.items():
            lists = {node.get("Name"): file.array(node) for node in piece.iterfind(f"{tag}/DataArray")}
            if int(piece.get(f"NumberOf{tag}", 0)) and {"connectivity", "offsets"} <= set(lists):
                offsets = lists["offsets"].astype(np.int64)
                cells.add(kind, np.diff(offsets, prepend=0), lists["connectivity"].astype(np.int64) + begin)
        for tag, into in (("PointData", points), ("CellData", rows)):
            for node in piece.iterfind(f"{tag}/DataArray"):
                into.setdefault(str(node.get("Name")), []).append(file.array(node))
            cells.left += [f"values {node.get('Name')} (text)" for node in piece.iterfind(f"{tag}/Array")]
    if not pieces:
        raise FileError("it has no Piece element")
    _keep(points, len(pieces), cells.points, cells.left)
    _keep(rows, len(pieces), cells.rows, cells.left)
    cells.positions = np.concatenate(positions)
    return _loaded(cells, asked)


def _keep(found: Mapping[str, list[Array]], pieces: int, into: dict[str, Array], left: list[str]) -> None:
    """Join values that every piece has; name the others as left out."""
    for name, parts in found.items():
        if len(parts) == pieces and len({part.shape[1:] for part in parts}) == 1:
            into[name] = np.concatenate(parts)
        else:
            left.append(f"values {name} of some pieces")


@dataclass(slots=True, eq=False)
class _Going:
    """What is written: points, cells of one kind, and the values of both."""

    positions: Array
    kind: str
    counts: IntArray
    corners: IntArray
    points: dict[str, Array]
    rows: dict[str, Array]


def _with_ids(values: Mapping[str, Array], ids: IntArray) -> dict[str, Array]:
    """Object ids, and values under names that do not clash."""
    names = column_names(dict.fromkeys(values), (OBJECT_ID,))
    return {OBJECT_ID: ids} | {names[name][0]: array for name, array in values.items()}


def _going(out: Outgoing) -> _Going:
    """Faces, whole paths, lines (also of paths that are cut) or points of a level."""
    attributes, count = dict(out.attributes), len(out.positions)
    if out.geometry in ("polyline", "streamline", "line") and not out.cut:
        paths = out.paths
        lengths = np.diff(paths.offsets)
        of = {name: values for name, values in out.object_attributes.items() if len(values) == len(lengths)}
        of = _with_ids(of, paths.ids)
        going = _Going(paths.vertices, LINES, lengths, np.arange(len(paths.vertices)), dict(paths.attributes), of)
    else:
        out.leave(*(f"object attribute {name}" for name in out.object_attributes))
        if out.faces is not None:
            faces, values = triangles_of(out, "VTK") if out.triangulate else (out.faces, out.link_attributes)
            counts = np.full(len(faces), faces.shape[1])
            going = _Going(out.positions, POLYS, counts, faces.reshape(-1), attributes, dict(values))
        elif out.edges is not None:
            values = dict(out.link_attributes)
            going = _Going(out.positions, LINES, np.full(len(out.edges), 2), out.edges.reshape(-1), attributes, values)
        else:
            going = _Going(out.positions, VERTS, np.ones(count, np.int64), np.arange(count), attributes, {})
        if out.vertex_object_ids is not None and len(out.object_ids) > 1:
            going.points = _with_ids(going.points, out.vertex_object_ids)
    leave_rest(out, {name for name, values in out.attributes.items() if is_number(values.dtype)})
    out.leave(*(f"values {name}" for name, values in going.rows.items() if not is_number(values.dtype)))
    for values in (going.points, going.rows):
        for name in list(values):
            if not is_number(values[name].dtype):
                del values[name]
            elif values[name].dtype.kind == "b" or values[name].dtype == np.float16:
                values[name] = values[name].astype(np.uint8 if values[name].dtype.kind == "b" else np.float32)
    return going


def save_vtk(out: Outgoing, path: Path) -> int:
    """Write a legacy VTK file, binary PolyData of version 3."""
    going = _going(out)
    lists = cell_lists(going.corners, going.counts)
    with path.open("wb") as file:
        file.write(b"# vtk DataFile Version 3.0\nwritten by zarr-vectors-lazy\nBINARY\nDATASET POLYDATA\n")
        file.write(f"POINTS {len(going.positions)} {WRITTEN[going.positions.dtype.str[1:]]}\n".encode())
        file.write(_big(going.positions))
        file.write(f"{going.kind} {len(going.counts)} {len(lists)}\n".encode() + _big(lists.astype(np.int32)))
        points, rows = ("POINT", len(going.positions), going.points), ("CELL", len(going.counts), going.rows)
        for word, count, values in (points, rows):
            if values and count:
                file.write(f"{word}_DATA {count}\nFIELD FieldData {len(values)}\n".encode())
            for name, table in values.items() if count else ():
                kind, width = WRITTEN[table.dtype.str[1:]], int(np.prod(table.shape[1:]))
                file.write(f"{quote(name)} {width} {count} {kind}\n".encode() + _big(table))
    return len(going.positions)


def cell_lists(corners: IntArray, counts: IntArray) -> IntArray:
    """VTK's flat list of cells: the number of corners, then the corners, cell after cell."""
    return np.insert(corners, np.cumsum(counts) - counts, counts)


def _big(values: Array) -> bytes:
    return values.astype(values.dtype.newbyteorder(">")).tobytes() + b"\n"


def save_vtp(out: Outgoing, path: Path) -> int:
    """Write XML PolyData, compressed inside the XML."""
    going = _going(out)
    number = {kind: len(going.counts) if kind == going.kind else 0 for kind in PARTS.values()}
    counts = "".join(f' NumberOf{tag}="{number[kind]}"' for tag, kind in PARTS.items())
    cells = {"connectivity": going.corners.astype(np.int64), "offsets": np.cumsum(going.counts, dtype=np.int64)}
    with path.open("w", encoding="utf-8") as file:
        file.write('<?xml version="1.0"?>\n<VTKFile type="PolyData" version="1.0" byte_order="LittleEndian" ')
        file.write('header_type="UInt64" compressor="vtkZLibDataCompressor">\n<PolyData>\n')
        file.write(f'<Piece NumberOfPoints="{len(going.positions)}"{counts}>\n')
        file.writelines(_element("Points", {"Points": going.positions}))
        for tag, kind in PARTS.items():
            file.writelines(_element(tag, cells) if kind == going.kind else ())
        file.writelines(_element("PointData", going.points))
        file.writelines(_element("CellData", going.rows))
        file.write("</Piece>\n</PolyData>\n</VTKFile>\n")
    return len(going.positions)


def _element(tag: str, arrays: Mapping[str, Array]) -> Iterator[str]:
    yield f"<{tag}>\n"
    for name, values in arrays.items():
        kind, width = XML_NAMES[values.dtype.str[1:]], int(np.prod(values.shape[1:]))
        raw = values.astype(values.dtype.newbyteorder("<")).tobytes()
        packed = zlib.compress(raw, 6)
        head = np.array([1, len(raw), 0, len(packed)] if raw else [0, 0, 0], "<u8").tobytes()
        yield f'<DataArray type="{kind}" Name={quoteattr(name)} NumberOfComponents="{width}" format="binary">\n'
        yield base64.b64encode(head).decode() + (base64.b64encode(packed).decode() if raw else "") + "\n</DataArray>\n"
    yield f"</{tag}>\n"
