"""Wavefront OBJ: vertices with colours, faces and lines with texture coordinates and normals, objects and groups."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from zarr_vectors_lazy.errors import FileError, counted
from zarr_vectors_lazy.files import meshes
from zarr_vectors_lazy.files.loaded import NAME, Loaded, LoadOptions
from zarr_vectors_lazy.files.meshes import Array
from zarr_vectors_lazy.files.outgoing import Outgoing
from zarr_vectors_lazy.types import IntArray

TEXTURE = ("s", "t", "r")
CORNER = {"vt": ("texcoord", TEXTURE), "vn": ("normal", meshes.NORMAL_PARTS)}
"""Values that corners refer to: a link attribute if a vertex has several, a vertex attribute if it has one."""
BOM = b"\xef\xbb\xbf"
LABELS = {b"o": "object", b"g": "group", b"usemtl": "material", b"s": "smoothing"}
SHIFT = 1  # numbering begins at one
VERTEX, FACE, LINE = range(3)  # what a mark counts


@dataclass(slots=True, eq=False)
class Statements:
    """The contents of a file's lines.

    Parameters
    ----------
    numbers
        Words of the lines ``v``, ``vt``, ``vn``.
    faces, lines
        Words of the lines ``f`` and ``l``, with relative numbers made absolute.
    marks
        By word of `LABELS`: where each label begins, counted in vertices, faces and lines, and the label.
    comments, libraries, others
        Comments before the first statement, material files, and words of statements that are left out.
    """

    numbers: dict[str, list[list[bytes]]] = field(default_factory=lambda: {"v": [], "vt": [], "vn": []})
    faces: list[list[bytes]] = field(default_factory=list)
    lines: list[list[bytes]] = field(default_factory=list)
    marks: dict[bytes, list[tuple[int, int, int, str]]] = field(default_factory=lambda: {word: [] for word in LABELS})
    comments: list[str] = field(default_factory=list)
    libraries: list[str] = field(default_factory=list)
    others: dict[str, None] = field(default_factory=dict)

    @classmethod
    def read(cls, data: bytes) -> "Statements":
        """Sort the lines of a file by their first words."""
        found = cls()
        for line in data.removeprefix(BOM).replace(b"\\\r\n", b" ").replace(b"\\\n", b" ").splitlines():
            word, *rest = line.partition(b"#")[0].split() or [b""]
            match word:
                case b"v" | b"vt" | b"vn":
                    found.numbers[word.decode()].append(rest)
                case b"f" | b"fo":
                    found.faces.append(found.absolute(rest))
                case b"l":
                    found.lines.append(found.absolute(rest))
                case b"":
                    found._comment(line)
                case _:
                    found._other(word, b" ".join(rest).decode("utf-8", "replace"))
        return found

    def absolute(self, corners: list[bytes]) -> list[bytes]:
        """Corners with relative numbers, counted back from here, made absolute."""
        if not any(b"-" in corner for corner in corners):
            return corners
        counts = [len(rows) for rows in self.numbers.values()]
        return [
            b"/".join(
                b"%d" % (int(part) + count + SHIFT) if part.startswith(b"-") else part
                for part, count in zip(corner.split(b"/"), counts, strict=False)
            )
            for corner in corners
        ]

    def _comment(self, line: bytes) -> None:
        if line.strip() and not self.numbers["v"] and len(self.comments) < 100:
            self.comments.append(line.strip().lstrip(b"#").strip().decode("utf-8", "replace"))

    def _other(self, word: bytes, rest: str) -> None:
        if word in LABELS:
            at = (len(self.numbers["v"]), len(self.faces), len(self.lines))
            self.marks[word].append((*at, rest))
        elif word == b"mtllib":
            self.libraries.append(rest)
        elif word != b"p":  # points are vertices
            self.others[word.decode("utf-8", "replace")[:20]] = None


def load_obj(path: Path, asked: LoadOptions) -> Loaded:
    """Read Wavefront OBJ: a mesh if there are faces, otherwise a graph if there are lines, otherwise points."""
    found = Statements.read(path.read_bytes())
    positions, attributes, left = _vertices(found.numbers["v"])
    left += [f"statement {word}" for word in found.others]
    header: dict[str, Any] = {"comment": found.comments, "mtllib": found.libraries}
    given: dict[str, Any] = {"kind": "points"}
    if found.faces:
        given, per_vertex = _mesh(found, len(positions), asked, header, left)
        attributes |= per_vertex
        left += ["lines (l)"] if found.lines else []
    elif found.lines:
        edges = [pair for line in found.lines for pair in pairwise(line)]
        ends = _corners(list(chain(*edges)), 0).reshape(-1, 2) - SHIFT
        meshes.check_rows(ends, len(positions), "lines")
        counts = np.array([max(len(line) - 1, 0) for line in found.lines])
        given = {"kind": "graph", "edges": ends}
        given |= _objects(found, ends.reshape(-1), counts * 2, len(positions), header=header, kind=LINE)
    else:
        none = np.empty(0, np.int64)
        given |= _objects(found, none, none, len(positions), header=header, kind=VERTEX)
        if found.numbers["vn"] and len(found.numbers["vn"]) == len(positions):
            attributes |= dict(zip(meshes.NORMAL_PARTS, _table("vn", found.numbers["vn"], (3,)).T, strict=True))
    return Loaded(
        **given,
        positions=positions,
        attributes=attributes,
        header={"obj": {key: value for key, value in header.items() if value}},
        left_out=tuple(left),
    )


def _table(word: str, rows: Sequence[list[bytes]], widths: Sequence[int]) -> Array:
    """(N, W) numbers of statements; shorter rows are filled with NaN."""
    counts = np.array([len(row) for row in rows])
    wrong = np.flatnonzero(~np.isin(counts, widths))
    if len(wrong):
        said = " ".join(map(repr, widths[:-1])) + (" or " if widths[:-1] else "") + str(widths[-1])
        raise FileError(f"{word!r} number {wrong[0] + 1} has {counted(counts[wrong[0]], 'number')}, expected {said}")
    width = int(counts.max())
    table = np.full((len(rows), width), np.nan)
    table[np.arange(width) < counts[:, None]] = np.array(list(chain(*rows)), np.float64)
    return table


def _vertices(rows: Sequence[list[bytes]]) -> tuple[Array, dict[str, Array], list[str]]:
    """Positions, and colours of rows with six or seven numbers; weights of rows with four are left out."""
    if not rows:
        return np.empty((0, 3)), {}, []
    table = _table("v", rows, (3, 4, 6, 7))
    colours = table[:, 3:] if table.shape[1] > 4 else table[:, :0]
    left = ["weights of vertices"] if table.shape[1] == 4 else []
    return table[:, :3], dict(zip(meshes.CHANNELS, colours.T, strict=False)), left


def _corners(words: Sequence[bytes], part: int) -> IntArray:
    """The number that each corner has between two of its slashes; 0 if it has none."""
    if part or any(b"/" in word for word in words):
        words = [[*word.split(b"/"), b"", b""][part] or b"0" for word in words]
    return np.array(words, np.int64)


def _mesh(
    found: Statements, rows: int, asked: LoadOptions, header: dict[str, Any], left: list[str]
) -> tuple[dict[str, Any], dict[str, Array]]:
    """Faces with their objects and attributes, and vertex attributes that corners refer to."""
    words = list(chain(*found.faces))
    counts, corners = np.array([len(face) for face in found.faces]), _corners(words, 0) - SHIFT
    meshes.check_rows(corners, rows, "faces")
    polygons = meshes.Polygons(counts, corners)
    per_vertex: dict[str, Array] = {}
    for part, word in enumerate(CORNER, 1):
        name, names = CORNER[word]
        if found.numbers[word]:
            table = _table(word, found.numbers[word], (1, 2, 3) if part == 1 else (3,))
            index = _corners(words, part) - SHIFT
            meshes.check_rows(index[index >= 0], len(table), f"corners: {word}")
            values = np.where((index >= 0)[:, None], table[index], np.nan)
            one = _of_vertices(corners, values, rows)
            if one is not None:
                per_vertex |= dict(zip(names, one.T, strict=False))
            elif counts.min() == counts.max() and not asked.triangulate:
                polygons.values[name] = values.reshape(len(counts), -1)
            else:
                left.append(f"{word} of vertices that have several")
    objects = _objects(found, corners, counts, rows, header=header, kind=FACE)
    polygons.values |= objects.pop("link_attributes", {})
    faces, of_faces = polygons.table(rows, triangulate=asked.triangulate)
    return {"kind": "mesh", "faces": faces, "link_attributes": of_faces, **objects}, per_vertex


def _of_vertices(corners: IntArray, values: Array, rows: int) -> Array | None:
    """(rows, C) values if all corners of a vertex agree; otherwise None."""
    found = np.full((rows, values.shape[1]), np.nan)
    found[corners] = values
    again = found[corners]
    return found if ((again == values) | (np.isnan(again) & np.isnan(values))).all() else None


def _objects(
    found: Statements, corners: IntArray, counts: IntArray, rows: int, *, header: dict[str, Any], kind: int
) -> dict[str, Any]:
    """Objects from the statements ``o``, otherwise ``g``; other labels become face attributes, by number.

    Parameters
    ----------
    corners, counts
        Rows of the corners or ends, and their number for each face or line.
    header
        Receives the names of labels that are kept by number.
    kind
        `FACE` or `LINE`.
    """
    given: dict[str, Any] = {}
    values: dict[str, Array] = {}
    by = b"o" if found.marks[b"o"] else b"g"
    for word, what in LABELS.items():
        marks = found.marks[word]
        names = list(dict.fromkeys(name for *_, name in marks))
        if not names:
            continue
        codes = np.array([names.index(name) for *_, name in marks])
        of_face = _labels(marks, codes, kind, len(counts))
        owners = _labels(marks, codes, VERTEX, rows)
        told = word == b"o" and len(np.unique(owners)) == len(names) and (owners >= 0).all()
        if not told:  # an object may have no vertices except those of its faces
            owners[corners] = np.repeat(of_face, counts)
        apart = told or (owners[corners] == np.repeat(of_face, counts)).all()
        if word == by and apart:
            used = np.unique(owners)
            labels = np.array([names[code] if code >= 0 else "" for code in used], object)
            given = {"object_attributes": {NAME: labels}}
            given |= {"object_ids": np.searchsorted(used, owners), "local_ids": True} if len(used) > 1 else {}
        elif kind == FACE and not (len(names) == 1 and (of_face == 0).all()):
            values[what] = of_face.astype(np.int32)
            header[what] = names
    return {**given, "link_attributes": values} if values else given


def _labels(marks: Sequence[tuple[int, int, int, str]], codes: IntArray, kind: int, count: int) -> IntArray:
    """(count,) label of each vertex, face or line; -1 before the first."""
    begins = np.array([mark[kind] for mark in marks])
    at = np.searchsorted(begins, np.arange(count), side="right") - 1
    return np.where(at >= 0, codes[at], -1)


def save_obj(out: Outgoing, path: Path) -> int:
    """Write Wavefront OBJ: vertices with colours, faces or lines with what OBJ can hold, objects by name."""
    count = len(out.positions)
    owners = np.zeros(count, np.int64) if out.vertex_object_ids is None else out.vertex_object_ids
    order = np.argsort(owners, kind="stable")
    number = np.empty(count, np.int64)
    number[order] = np.arange(SHIFT, count + SHIFT)
    colours, written = meshes.colours_of(out.attributes)
    columns = [column[order] for column in (out.positions, colours) if column is not None]
    vertices = [f"v {row}" for row in meshes.texts(columns)]
    out.leave(*(f"object attribute {name}" for name in out.object_attributes if name != NAME))
    head, links, of = _head(out), [], np.empty(0, np.int64)
    faces, values = meshes.triangles_of(out, "OBJ") if out.triangulate else (out.faces, out.link_attributes)
    if faces is not None:
        numbers, rows, more = _stated(out, faces, number, order, values)
        written |= more
        by, labels = _labelled(out, owners[faces[:, 0]], values)
        links = [f"{label}f {row}" for label, row in zip(labels, _strokes(numbers, by), strict=True)]
        of = owners[faces[by, 0]]
        head += rows
    elif out.edges is not None:
        by = np.argsort(owners[out.edges[:, 0]], kind="stable")
        links, of = [f"l {row}" for row in meshes.texts([number[out.edges[by]]])], owners[out.edges[by, 0]]
        out.leave(*(f"link attribute {name}" for name in values))
    meshes.leave_rest(out, written)
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in head)
        for name, first, last in _parts(out, owners):
            file.write(f"o {name}\n" if name else "")
            for rows, ids in ((vertices, owners[order]), (links, of)):
                start, stop = np.searchsorted(ids, [first, last])
                file.writelines(f"{row}\n" for row in rows[start:stop])
    return count


def _head(out: Outgoing) -> list[str]:
    """Comments and material files, as the store keeps them."""
    said = meshes.header_of(out, "obj")
    return [f"# {line}" for line in said.get("comment", ())] + [f"mtllib {name}" for name in said.get("mtllib", ())]


def _parts(out: Outgoing, owners: IntArray) -> list[tuple[str, int, int]]:
    """Name of each object, its id and the next."""
    ids = np.unique(owners).tolist()
    if len(ids) < 2 and NAME not in out.object_attributes:
        return [("", one, one + 1) for one in ids]
    names = dict(zip(out.object_ids.tolist(), meshes.object_names(out), strict=True))
    return [(" ".join(names.get(one, "").split()), one, one + 1) for one in ids]


def _stated(
    out: Outgoing, faces: IntArray, number: IntArray, order: IntArray, values: Mapping[str, Array]
) -> tuple[list[IntArray | None], list[str], set[str]]:
    """Indices of vertices, texture coordinates and normals of each corner; their lines, and attributes written."""
    numbers: list[IntArray | None] = [number[faces]]
    lines: list[str] = []
    written: set[str] = set()
    for word, (name, names) in CORNER.items():
        width = 2 if word == "vt" else 3
        there = [name for name in names[:width] if name in out.attributes and out.attributes[name].ndim == 1]
        table, used = meshes.normals_of(out.attributes) if word == "vn" else (None, set[str]())
        if word == "vt" and len(there) == width:
            table, used = np.column_stack([out.attributes[name] for name in there]), set(there)
        at = None if table is None else number[faces]
        rows = None if table is None else table[order]
        if table is None and name in values and values[name].shape[1:] == (width * faces.shape[1],):
            rows = values[name].reshape(-1, width)
            at = np.arange(SHIFT, faces.size + SHIFT).reshape(faces.shape)
        elif name in values:
            out.leave(f"link attribute {name}")
        numbers.append(at)
        lines += [] if rows is None else [f"{word} {row}" for row in meshes.texts([np.nan_to_num(rows)])]
        written |= used
    return numbers, lines, written


def _strokes(numbers: Sequence[IntArray | None], by: IntArray) -> list[str]:
    """Corners of faces in OBJ's notation: ``1``, ``1/1``, ``1//1``, ``1/1/1``."""
    vertex, texture, normal = [None if part is None else part[by] for part in numbers]
    assert vertex is not None
    parts = [part for part in (vertex, texture, normal) if part is not None]
    form = "/".join("" if part is None else "%d" for part in (vertex, texture, normal)).rstrip("/")
    flat = np.stack(parts, axis=2).reshape(-1, len(parts)).tolist() if len(vertex) else []
    corners = [form % tuple(corner) for corner in flat]
    width = vertex.shape[1]
    return [" ".join(corners[at : at + width]) for at in range(0, len(corners), width)]


def _labelled(out: Outgoing, owners: IntArray, values: Mapping[str, Array]) -> tuple[IntArray, list[str]]:
    """Order of faces by object and label, and before each face the statements of labels that begin with it."""
    said = meshes.header_of(out, "obj")
    known = {what: values[what] for what in LABELS.values() if what in values and isinstance(said.get(what), list)}
    words = {what: word.decode() for word, what in LABELS.items()}
    labels = {what: (words[what], v) for what, v in known.items() if len(said[what]) > v.max(initial=-1)}
    out.leave(*(f"link attribute {name}" for name in values if name not in (*labels, "texcoord", "normal")))
    by = np.lexsort([*(codes for _, codes in labels.values()), owners])
    lines = [""] * len(by)
    for what, (word, codes) in labels.items():
        ordered = codes[by]
        for at in np.flatnonzero(np.diff(ordered, prepend=-1)).tolist():
            lines[at] += f"{word} {said[what][ordered[at]]}\n"
    return by, lines
