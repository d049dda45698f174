"""Faces of any number of corners, as files have them; colours, names and numbers as all formats of meshes have them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zarr_vectors_lazy.errors import FileError, SelectionError
from zarr_vectors_lazy.files.outgoing import Outgoing
from zarr_vectors_lazy.model.objects import ragged_arange
from zarr_vectors_lazy.plan.names import column_names
from zarr_vectors_lazy.types import IntArray

Array = np.ndarray[Any, Any]
COLOURS = ("color", "colour", "colors", "colours", "rgb", "rgba", "RGB", "RGBA", "Colors")
CHANNELS = ("red", "green", "blue", "alpha")
NORMALS = ("normal", "normals", "Normals")
NORMAL_PARTS = ("nx", "ny", "nz")
NAMES = ("name", "names", "label")


@dataclass(slots=True, eq=False)
class Polygons:
    """Faces one after another.

    Parameters
    ----------
    counts
        (F,) corners of each.
    corners
        (T,) their rows.
    values
        (F,) or (F, C) by name.
    """

    counts: IntArray
    corners: IntArray
    values: dict[str, Array] = field(default_factory=dict)

    def table(self, rows: int, *, triangulate: bool) -> tuple[IntArray, dict[str, Array]]:
        """(F, W) faces and their values; fans of triangles where there are larger faces and ``triangulate``.

        Raises
        ------
        FileError
            If a face has fewer than three corners, or one that is no row; or they are of several sizes.
        """
        if not len(self.counts):
            return np.empty((0, 3), np.int64), {}
        least, most = int(self.counts.min()), int(self.counts.max())
        if least < 3:
            raise FileError(f"face {int(np.argmin(self.counts)) + 1} has {least} corners; three are the least")
        check_rows(self.corners, rows, "faces")
        if not triangulate or most == 3:
            if least != most:
                raise FileError(
                    f"faces of {least} to {most} corners; a store holds faces of one number: triangulate=True "
                    "(--triangulate) makes triangles of them"
                )
            return self.corners.reshape(-1, most), self.values
        fans = self.counts - 2
        face = np.repeat(np.arange(len(fans)), fans)
        first, step = (np.cumsum(self.counts) - self.counts)[face], ragged_arange(fans)
        triangles = self.corners[np.column_stack([first, first + step + 1, first + step + 2])]
        return triangles, {name: values[face] for name, values in self.values.items()}


def check_rows(found: IntArray, rows: int, what: str) -> None:
    """Raise FileError if there are no such rows."""
    if found.size and (int(found.min()) < 0 or int(found.max()) >= rows):
        wrong = int(found.min()) if found.min() < 0 else int(found.max())
        raise FileError(f"{what} name vertex {wrong} (from 0 on); there are {rows}")


def strips(counts: IntArray, corners: IntArray) -> IntArray:
    """(F, 3) triangles of strips, each other one turned; those that have a corner twice are none."""
    fans = np.maximum(counts - 2, 0)
    first = np.repeat(np.cumsum(counts) - counts, fans) + ragged_arange(fans)
    triangles = corners[first[:, None] + np.arange(3)]
    odd = ragged_arange(fans) % 2 == 1
    triangles[odd] = triangles[odd][:, [1, 0, 2]]
    same = (triangles == np.roll(triangles, 1, axis=1)).any(axis=1)
    return np.asarray(triangles[~same], np.int64)


def triangles_of(out: Outgoing, what: str) -> tuple[IntArray, dict[str, Array]]:
    """(F, 3) faces of a level and their values, for a format of triangles.

    Raises
    ------
    SelectionError
        If faces have more corners, and may not become triangles.
    """
    faces = out.faces if out.faces is not None else np.empty((0, 3), np.int64)
    if faces.shape[1] > 3 and not out.triangulate:
        raise SelectionError(
            f"{what} holds triangles, the store faces of {faces.shape[1]} corners: triangulate=True (--triangulate) "
            "makes triangles of them"
        )
    width = faces.shape[1]
    found = Polygons(np.full(len(faces), width), faces.reshape(-1), out.link_attributes)
    return (faces, out.link_attributes) if width == 3 else found.table(len(out.positions), triangulate=True)


def colour_values(attributes: Mapping[str, Array]) -> tuple[Array | None, set[str]]:
    """(N, 3) or (N, 4) numbers that are colours, as they are, and the names of their attributes; None: no colours.

    They are an attribute called color or rgb, or red, green, blue and, where there is one, alpha.
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
    """(N, 3) normals, and the names of the attributes that they are."""
    for name in NORMALS:
        if name in attributes and attributes[name].shape[1:] == (3,) and attributes[name].dtype.kind == "f":
            return attributes[name], {name}
    if all(name in attributes and attributes[name].ndim == 1 for name in NORMAL_PARTS):
        return np.column_stack([attributes[name] for name in NORMAL_PARTS]), set(NORMAL_PARTS)
    return None, set()


def leave_rest(out: Outgoing, written: set[str]) -> None:
    """Say which vertex attributes were not written."""
    out.leave(*(f"attribute {name}" for name in out.attribute_names if name not in written))


def object_names(out: Outgoing) -> list[str]:
    """Name of each object: its attribute ``name``, else its id."""
    found = next((out.object_attributes[name] for name in NAMES if name in out.object_attributes), None)
    if found is None or found.dtype.kind not in "UTO":
        found = np.full(len(out.object_ids), "")
    return [str(name) or str(number) for name, number in zip(found.tolist(), out.object_ids.tolist(), strict=True)]


def texts(columns: Sequence[Array]) -> list[str]:
    """Lines of the shortest numbers that say the same, separated by blanks; (N,) or (N, C) columns."""
    parts = [column[:, None] if column.ndim == 1 else column for column in columns]
    written = [_text(part) for part in parts if part.shape[1]]
    return [" ".join(row) for row in zip(*(column for part in written for column in part), strict=True)]


def _text(values: Array) -> list[list[str]]:
    """Columns of a table, as text."""
    if values.dtype.kind == "f" and values.dtype.itemsize < 8:
        return [
            _short(column) for column in values.astype("U32").T
        ]  # of single precision only NumPy knows the shortest
    if values.dtype.kind == "b":
        values = values.astype(np.uint8)
    return [_short([repr(value) for value in column]) for column in values.T.tolist()]


def _short(column: Any) -> list[str]:
    return [text.removesuffix(".0") for text in column]


def header_of(out: Outgoing, name: str) -> dict[str, Any]:
    """What a file of the format said of itself, where the store keeps it."""
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


def single(out: Outgoing, values: Array, what: str) -> Array:
    """Values in single precision; says where digits are left out."""
    found = values.astype(np.float32)
    if values.dtype.itemsize > 4 and not np.array_equal(found, values, equal_nan=values.dtype.kind == "f"):
        out.leave(f"digits of {what} beyond single precision")
    return found
