"""Meshes in STL and OFF, brain surfaces, and faces with any number of corners."""

import gzip
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from zarr_vectors_lazy.errors import FileError, SelectionError, counted
from zarr_vectors_lazy.files.loaded import NAME, Loaded, LoadOptions, library
from zarr_vectors_lazy.files.outgoing import Outgoing
from zarr_vectors_lazy.format.vectors import is_number
from zarr_vectors_lazy.model.objects import ragged_arange
from zarr_vectors_lazy.plan.selection import column_names
from zarr_vectors_lazy.types import IntArray

# Faces with any number of corners, as files have them; colours, names and numbers as in all mesh formats.

Array = np.ndarray[Any, Any]
COLOURS = ("color", "colour", "colors", "colours", "rgb", "rgba", "RGB", "RGBA", "Colors")
CUTS = "triangulate=True (--triangulate) cuts them into triangles"
CHANNELS = ("red", "green", "blue", "alpha")
NORMALS = ("normal", "normals", "Normals")
NORMAL_PARTS = ("nx", "ny", "nz")
NAMES = ("name", "names", "label")


@dataclass(slots=True, eq=False)
class Polygons:
    """Faces, one after another.

    Parameters
    ----------
    counts
        (F,) number of corners of each.
    corners
        (T,) the rows of the corners.
    values
        (F,) or (F, C) by name.
    """

    counts: IntArray
    corners: IntArray
    values: dict[str, Array] = field(default_factory=dict)

    def table(self, rows: int, *, triangulate: bool) -> tuple[IntArray, dict[str, Array]]:
        """(F, W) faces and their values; if ``triangulate``, larger faces become fans of triangles.

        Raises
        ------
        FileError
            If a face has fewer than three corners or one that does not exist, or if sizes differ.
        """
        if not len(self.counts):
            return np.empty((0, 3), np.int64), {}
        least, most = int(self.counts.min()), int(self.counts.max())
        if least < 3:
            raise FileError(
                f"face {int(np.argmin(self.counts)) + 1} has {counted(least, 'corner')}, but a face needs at least 3"
            )
        check_rows(self.corners, rows, "faces")
        if not triangulate or most == 3:
            if least != most:
                raise FileError(
                    f"faces of {least} to {most} corners, but all faces of a store have the same number: {CUTS}"
                )
            return self.corners.reshape(-1, most), self.values
        fans = self.counts - 2
        face = np.repeat(np.arange(len(fans)), fans)
        first, step = (np.cumsum(self.counts) - self.counts)[face], ragged_arange(fans)
        triangles = self.corners[np.column_stack([first, first + step + 1, first + step + 2])]
        return triangles, {name: values[face] for name, values in self.values.items()}


def check_rows(found: IntArray, rows: int, what: str) -> None:
    """Raise FileError if some rows do not exist."""
    if found.size and (int(found.min()) < 0 or int(found.max()) >= rows):
        wrong = int(found.min()) if found.min() < 0 else int(found.max())
        raise FileError(f"{what} refer to vertex {wrong} (counted from 0), but there are {rows}")


def strips(counts: IntArray, corners: IntArray) -> IntArray:
    """(F, 3) triangles of strips, every other one reversed; those with a repeated corner are dropped."""
    fans = np.maximum(counts - 2, 0)
    first = np.repeat(np.cumsum(counts) - counts, fans) + ragged_arange(fans)
    triangles = corners[first[:, None] + np.arange(3)]
    odd = ragged_arange(fans) % 2 == 1
    triangles[odd] = triangles[odd][:, [1, 0, 2]]
    same = (triangles == np.roll(triangles, 1, axis=1)).any(axis=1)
    return np.asarray(triangles[~same], np.int64)


def triangles_of(out: Outgoing, what: str) -> tuple[IntArray, dict[str, Array]]:
    """(F, 3) faces of a level and their values, for a format that only has triangles.

    Raises
    ------
    SelectionError
        If faces have more corners and may not be cut.
    """
    faces = out.faces if out.faces is not None else np.empty((0, 3), np.int64)
    if faces.shape[1] > 3 and not out.triangulate:
        raise SelectionError(f"{what} holds triangles, but the store has faces of {faces.shape[1]} corners: {CUTS}")
    found = Polygons(np.full(len(faces), faces.shape[1]), faces.reshape(-1), out.link_attributes)
    return (faces, out.link_attributes) if faces.shape[1] == 3 else found.table(len(out.positions), triangulate=True)


def colour_values(attributes: Mapping[str, Array]) -> tuple[Array | None, set[str]]:
    """(N, 3) or (N, 4) colours as they are, and the names of their attributes; None if there are no colours.

    They are an attribute called color or rgb, or else red, green, blue and perhaps alpha.
    """
    vectors = [name for name in COLOURS if name in attributes and attributes[name].shape[1:] in ((3,), (4,))]
    parts = [name for name in CHANNELS if name in attributes and attributes[name].ndim == 1]
    if vectors:
        values, names = attributes[vectors[0]], vectors[:1]
    elif parts[:3] == list(CHANNELS[:3]):
        values, names = np.column_stack([attributes[name] for name in parts]), parts
    else:
        return None, set()
    return (values, set(names)) if values.dtype.kind in "iuf" else (None, set())


def colours_of(attributes: Mapping[str, Array]) -> tuple[Array | None, set[str]]:
    """`colour_values` from 0 to 1, in float64."""
    values, names = colour_values(attributes)
    if values is None or values.dtype.kind == "f":
        return values, names
    return values / np.iinfo(values.dtype).max, names


def normals_of(attributes: Mapping[str, Array]) -> tuple[Array | None, set[str]]:
    """(N, 3) normals, and the names of their attributes."""
    for name in NORMALS:
        if name in attributes and attributes[name].shape[1:] == (3,) and attributes[name].dtype.kind == "f":
            return attributes[name], {name}
    if all(name in attributes and attributes[name].ndim == 1 for name in NORMAL_PARTS):
        return np.column_stack([attributes[name] for name in NORMAL_PARTS]), set(NORMAL_PARTS)
    return None, set()


def leave_rest(out: Outgoing, written: set[str]) -> None:
    """Report the vertex attributes that were not written as left out."""
    out.leave(*(f"attribute {name}" for name in out.attribute_names if name not in written))


def object_names(out: Outgoing) -> list[str]:
    """Name of each object: its attribute ``name``, otherwise its id; ids replaced by names are reported as left out."""
    found = next((out.object_attributes[name] for name in NAMES if name in out.object_attributes), None)
    if found is None or found.dtype.kind not in "UTO":
        found = np.full(len(out.object_ids), "")
    if any(found.tolist()) and not np.array_equal(out.object_ids, np.arange(len(found))):
        out.leave("object ids")
    return [str(name) or str(number) for name, number in zip(found.tolist(), out.object_ids.tolist(), strict=True)]


def texts(columns: Sequence[Array]) -> list[str]:
    """Lines of numbers, as short as is exact, separated by blanks; (N,) or (N, C) columns."""
    parts = [column[:, None] if column.ndim == 1 else column for column in columns]
    written = [_text(part) for part in parts if part.shape[1]]
    return [" ".join(row) for row in zip(*(column for part in written for column in part), strict=True)]


def _text(values: Array) -> list[list[str]]:
    """Columns of a table, as text."""
    if values.dtype.kind == "f" and values.dtype.itemsize < 8:  # only NumPy knows the shortest text of single precision
        return [_short(column) for column in values.astype("U32").T]
    if values.dtype.kind == "b":
        values = values.astype(np.uint8)
    return [_short([repr(value) for value in column]) for column in values.T.tolist()]


def _short(column: Any) -> list[str]:
    return [text.removesuffix(".0") for text in column]


def header_of(out: Outgoing, name: str) -> dict[str, Any]:
    """What a file of this format said about itself, if the store keeps it."""
    found = out.level.store.headers.get(name, {})
    return dict(found) if isinstance(found, Mapping) else {}


def flat_columns(attributes: Mapping[str, Array], taken: Sequence[str] = ()) -> dict[str, Array]:
    """(N,) columns by the names of `column_names`."""
    widths = {name: int(np.prod(v.shape[1:])) if v.ndim > 1 else None for name, v in attributes.items()}
    found: dict[str, Array] = {}
    for name, labels in column_names(widths, taken).items():
        parts = attributes[name].reshape(len(attributes[name]), len(labels)).T
        found |= dict(zip(labels, parts, strict=True))
    return found


def fitted(values: Array, *dtypes: Any) -> Array | None:
    """Integers in the first of some types that holds them all; None if none does."""
    least, most = (int(values.min()), int(values.max())) if values.size else (0, 0)
    held = (dtype for dtype in dtypes if np.iinfo(dtype).min <= least and most <= np.iinfo(dtype).max)
    return next((values.astype(dtype) for dtype in held), None)


def single(out: Outgoing, values: Array, what: str) -> Array:
    """Values in single precision; reports lost digits as left out."""
    found = values.astype(np.float32)
    if values.dtype.itemsize > 4 and not np.array_equal(found, values, equal_nan=values.dtype.kind == "f"):
        out.leave(f"digits of {what} beyond single precision")
    return found


# Meshes in STL and OFF.

FACET = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
BEGIN = 84  # bytes before the facets: a header of 80, and their number
WORDS = {b"facet", b"normal", b"outer", b"loop", b"vertex", b"endloop", b"endfacet"}
SOLID = re.compile(rb"^[ \t]*solid\b[ \t]*([^\r\n]*)", re.MULTILINE | re.IGNORECASE)
OFF = re.compile(r"(ST)?(C)?(N)?(4)?(n)?OFF\b")


def load_stl(path: Path, asked: LoadOptions) -> Loaded:
    """Read STL, binary or text: equal corners become one vertex; solids of a text file become objects."""
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
        reason = "it does not begin with 'solid', and its length does not fit its number of facets"
        raise FileError(f"this is not an STL file: {reason}")
    return _solids(data)


def _solids(data: bytes) -> Loaded:
    """Solids of a text file."""
    begins = list(SOLID.finditer(data))
    numbers, owners = [], []
    for number, (one, last) in enumerate(zip(begins, [*(m.start() for m in begins[1:]), len(data)], strict=True)):
        words = re.split(rb"(?i)\bendsolid\b", data[one.end() : last])[0].lower().split()
        facets = [word for word in words if word not in WORDS]
        count = words.count(b"facet")
        if len(facets) != 12 * count or words.count(b"vertex") != 3 * count:
            raise FileError(f"solid {number + 1} has {count} facets, but {len(facets)} numbers, expected 12 for each")
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
    """(N, 3) distinct positions, in order of appearance, and (F, 3) faces, from (F, 3, 3) corners.

    Equal corners of different owners stay separate.
    """
    flat = corners.reshape(-1, 3) + corners.dtype.type(0)  # -0 and 0 are the same place
    keyed = np.column_stack([flat.view(f"u{flat.itemsize}"), np.repeat(owners, 3).astype(np.uint64)])
    _, first, inverse = np.unique(keyed, axis=0, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))
    return flat[np.sort(first)], rank[inverse.reshape(-1)].reshape(-1, 3)


def save_stl(out: Outgoing, path: Path) -> int:
    """Write binary STL: triangles with their normals and two-byte attribute."""
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
    title = title if not title.lower().startswith("solid") else f"_{title}"  # text STL begins with this
    with path.open("wb") as file:
        file.write(title.encode("latin-1", "replace")[:80].ljust(80, b"\0") + len(faces).to_bytes(4, "little"))
        file.write(facets.tobytes())
    return len(out.positions)


def load_off(path: Path, asked: LoadOptions) -> Loaded:
    """Read OFF: vertices with colours, normals and texture coordinates, faces with colours."""
    lines = [line.partition("#")[0] for line in path.read_bytes().decode("utf-8-sig", "replace").splitlines()]
    rows = [row for line in lines if (row := line.split())]
    kind = OFF.fullmatch(rows[0][0]) if rows else None
    if kind is None:
        raise FileError("this is not an OFF file: its first word must be OFF, COFF, NOFF, CNOFF or STOFF")
    first = rows[0][1:]
    if kind[4] or kind[5] or first[:1] == ["BINARY"]:
        raise FileError("OFF with other than three axes, and binary OFF, cannot be read")
    counts, *rest = [first, *rows[1:]] if first else rows[1:] or [[]]
    if len(counts) < 2 or not all(word.isdecimal() for word in counts[:2]):
        raise FileError(f"expected the numbers of vertices and faces, found {' '.join(counts)[:40]!r}")
    vertices, faces = int(counts[0]), int(counts[1])
    if len(rest) < vertices + faces:
        raise FileError(
            f"expected {counted(vertices, 'vertex')} and {counted(faces, 'face')}, found {counted(len(rest), 'line')}"
        )
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
    """Positions, then normals, colours and texture coordinates, as the first word announces."""
    widths = {len(row) for row in rows}
    before, after = 3 + 3 * bool(kind[3]), 2 * bool(kind[1])
    more = max(widths, default=3) - before - after
    if len(widths) > 1 or more not in ((3, 4) if kind[2] else (0, 3, 4)):
        raise FileError(f"vertices have {sorted(widths)} numbers, which is wrong for {kind[0]}")
    if not rows:
        return np.empty((0, 3)), {}
    columns = list(zip(*rows, strict=True))
    table = [np.array(column, np.float64) for column in columns]
    attributes = dict(zip(NORMAL_PARTS, table[3:before], strict=False))
    attributes |= _channels(columns[before : before + more])
    attributes |= dict(zip("st", table[before + more :], strict=False))
    return np.column_stack(table[:3]), attributes


def _channels(columns: Any) -> dict[str, Array]:
    """Colours by channel: one-byte integers, or numbers from 0 to 1."""
    whole = all(word.isdecimal() and len(word) < 4 and int(word) < 256 for column in columns for word in column)
    dtype = np.uint8 if whole else np.float64
    return {name: np.array(column, np.float64).astype(dtype) for name, column in zip(CHANNELS, columns, strict=False)}


def _off_faces(rows: list[list[str]], left: list[str]) -> Polygons:
    """Faces, and their colours if each has three or four numbers."""
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
        left.append("colours that only some faces have, or that index a colour map")
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
    """Colours as one-byte integers if they are that, otherwise from 0 to 1."""
    colours, names = colours_of(attributes)
    bytes_ = colours is not None and all(attributes[name].dtype == np.uint8 for name in names)
    return (np.rint(colours * 255).astype(np.uint8) if colours is not None and bytes_ else colours), names


# Brain surfaces: GIfTI and FreeSurfer's own files, read with nibabel; millimetres.

POINTS, TRIANGLES, LABEL, NONE = (f"NIFTI_INTENT_{what}" for what in ("POINTSET", "TRIANGLE", "LABEL", "NONE"))
DIMENSIONALITY = re.compile(rb"""Dimensionality\s*=\s*["'](\d+)""")
MAX_NDIM = 6
TRIANGULAR = b"\xff\xff\xfe"  # how a FreeSurfer surface with triangles begins
INFO = {"head": np.int64, "valid": str, "filename": str, "volume": np.int64} | dict.fromkeys(
    ("voxelsize", "xras", "yras", "zras", "cras"), np.float64
)
"""What FreeSurfer says about the volume of a surface, with types."""


def load_gifti(path: Path, asked: LoadOptions) -> Loaded:
    """Read GIfTI: the surface, and every array with a row for each of its vertices."""
    gifti = library("nibabel.gifti", "nibabel")
    data = path.read_bytes()
    data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    if any(int(found[1]) > MAX_NDIM for found in DIMENSIONALITY.finditer(data)):
        raise FileError(f"an array of more than {MAX_NDIM} dimensions")  # which nibabel would count one by one
    image = gifti.GiftiImage.from_filename(str(path))  # not for the bytes: some arrays name a separate file
    points = image.get_arrays_from_intent(POINTS)
    triangles = image.get_arrays_from_intent(TRIANGLES)
    if not points:
        raise FileError("it holds values but no surface: expected an array of NIFTI_INTENT_POINTSET")
    positions = np.asarray(points[0].data)
    if positions.ndim != 2 or positions.shape[1] != 3:
        raise FileError(f"its points have the shape {positions.shape}, expected (N, 3)")
    faces = np.asarray(triangles[0].data).reshape(-1, 3).astype(np.int64) if triangles else None
    if faces is not None:
        check_rows(faces, len(positions), "triangles")
    attributes: dict[str, Array] = {}
    intents: dict[str, str] = {}
    left = [f"another array of {what}" for what, arrays in (("points", points), ("triangles", triangles)) if arrays[1:]]
    names = library("nibabel.nifti1", "nibabel").intent_codes
    for one in image.darrays:
        intent = names.niistring[one.intent]
        if intent in (POINTS, TRIANGLES):
            continue
        name = _name(one, intent, attributes)
        if one.data is None or one.data.ndim > 2 or len(one.data) != len(positions):
            left.append(f"array {name}, whose rows are not the vertices")
        else:
            attributes[name], intents[name] = np.asarray(one.data), intent
    table = image.labeltable.labels
    colours = [[float(part) for part in one.rgba if part is not None] for one in table]
    # labels may lack text
    labels = [[one.key, getattr(one, "label", ""), *rgba] for one, rgba in zip(table, colours, strict=True)]
    header: dict[str, Any] = {"meta": dict(image.meta), "points": _described(points[0])}
    header |= {"triangles": _described(triangles[0]) if triangles else {}, "intents": intents, "labels": labels}
    return Loaded(
        kind="points" if faces is None else "mesh",
        positions=positions,
        unit="millimeter",
        faces=faces,
        attributes=attributes,
        header={"gifti": {key: value for key, value in header.items() if value}},
        left_out=tuple(left),
    )


def _name(one: Any, intent: str, used: Mapping[str, Any]) -> str:
    """Name of an array, otherwise its intent; changed if a store cannot have it, or already has it."""
    name = str(one.meta.get("Name") or intent.removeprefix("NIFTI_INTENT_").lower())
    plain = "".join("_" if letter in "/\\" or ord(letter) < 32 else letter for letter in name).strip(" .") or "values"
    return next(text for k in range(len(used) + 2) if (text := f"{plain}_{k}" if k else plain) not in used)


def _described(one: Any) -> dict[str, Any]:
    """What an array says about itself and its space."""
    space = one.coordsys
    spaces = {"dataspace": int(space.dataspace), "xformspace": int(space.xformspace)}
    return {"meta": dict(one.meta), **spaces, "xform": np.asarray(space.xform, np.float64).tolist()}


def save_gifti(out: Outgoing, path: Path) -> int:
    """Write GIfTI: the surface, and an array for each vertex attribute; text becomes labels."""
    gifti = library("nibabel.gifti", "nibabel")
    said = header_of(out, "gifti")
    image = gifti.GiftiImage(meta=gifti.GiftiMetaData(said.get("meta", {})))
    arrays = [(single(out, out.positions, "positions"), POINTS, "points")]
    if out.faces is not None:
        faces, of_faces = triangles_of(out, "GIfTI")
        arrays.append((faces.astype(np.int32), TRIANGLES, "triangles"))
        out.leave(*(f"link attribute {name}" for name in of_faces))
    for values, intent, what in arrays:
        image.add_gifti_data_array(_array(gifti, values, intent, said.get(what, {})))
    written = set()
    intents, labels = said.get("intents", {}), said.get("labels", [])
    for name, values in out.attributes.items():
        intent = intents.get(name, NONE)
        held = _held(out, name, values)
        if held is None and values.dtype.kind in "UTO" and not labels:
            texts, codes = np.unique(values.astype(str), return_inverse=True)
            labels, held, intent = [[k, text] for k, text in enumerate(texts.tolist())], codes.astype(np.int32), LABEL
        if held is not None:
            image.add_gifti_data_array(_array(gifti, held, intent, {"meta": {"Name": name}}))
            written.add(name)
    for key, text, *colour in labels:
        label = gifti.GiftiLabel(key, *(colour or (1.0, 1.0, 1.0, 1.0)))
        label.label = text
        image.labeltable.labels.append(label)
    leave_rest(out, written)
    path.write_bytes(image.to_bytes())
    return len(out.positions)


def _held(out: Outgoing, name: str, values: Array) -> Array | None:
    """Values in a type that GIfTI has; None if no type holds them."""
    if not is_number(values.dtype):
        return None
    if values.dtype.kind == "f":
        return single(out, values, f"attribute {name}")
    if values.dtype.kind == "b" or values.dtype == np.uint8:
        return values.astype(np.uint8)
    return fitted(values, np.int32)


def _array(gifti: Any, values: Array, intent: str, said: Mapping[str, Any]) -> Any:
    space = None
    if "xform" in said:
        space = gifti.GiftiCoordSystem(said["dataspace"], said["xformspace"], np.array(said["xform"]))
    kind, meta = f"NIFTI_TYPE_{values.dtype.name.upper()}", gifti.GiftiMetaData(said.get("meta", {}))
    return gifti.GiftiDataArray(values, intent=intent, datatype=kind, coordsys=space, meta=meta)


def load_freesurfer(path: Path, asked: LoadOptions) -> Loaded:
    """Read a FreeSurfer surface, in its own coordinates (surface RAS); what it says about its volume is its header."""
    surfaces = library("nibabel.freesurfer", "nibabel")
    data = path.read_bytes()
    begin = data.find(b"\n", data.find(b"\n") + 1) + 1
    if data[:3] == TRIANGULAR and 12 * int(np.frombuffer(data, ">u4", 2, begin).sum(dtype=np.uint64)) > len(data):
        raise FileError("it has fewer vertices and triangles than it states")  # nibabel would allocate memory for them
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nibabel warns if nothing is said about the volume
        positions, faces, info, stamp = surfaces.read_geometry(str(path), read_metadata=True, read_stamp=True)
    check_rows(faces, len(positions), "triangles")
    said = {key: np.asarray(value).tolist() for key, value in dict(info or {}).items()}
    return Loaded(
        kind="mesh",
        positions=positions.astype(np.float32),
        unit="millimeter",
        faces=faces.astype(np.int64),
        header={"freesurfer": {"stamp": str(stamp), "volume_info": said}},
    )


def save_freesurfer(out: Outgoing, path: Path) -> int:
    """Write a FreeSurfer surface: triangles in single precision."""
    surfaces = library("nibabel.freesurfer", "nibabel")
    faces, values = triangles_of(out, "FreeSurfer")
    out.leave(*(f"link attribute {name}" for name in values))
    said = header_of(out, "freesurfer")
    volume = said.get("volume_info", {})
    info: Any = {key: np.asarray(volume[key], of) for key, of in INFO.items() if key in volume}
    info = info if len(info) == len(INFO) else None
    positions, stamp = single(out, out.positions, "positions"), str(said.get("stamp") or "zarr-vectors-lazy")
    surfaces.write_geometry(str(path), positions, faces, create_stamp=stamp, volume_info=info)
    return len(positions)
