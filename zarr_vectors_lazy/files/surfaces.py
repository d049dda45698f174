"""Surfaces of brains: GIfTI and FreeSurfer's own files, by way of nibabel; millimetres."""

import gzip
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from zarr_vectors_lazy.errors import FileError
from zarr_vectors_lazy.files.loaded import Asked, Loaded, library
from zarr_vectors_lazy.files.outgoing import Outgoing
from zarr_vectors_lazy.files.polygons import check_rows, header_of, leave_rest, single, triangles_of
from zarr_vectors_lazy.format.writing import is_number

Array = np.ndarray[Any, Any]
POINTS, TRIANGLES, LABEL, NONE = (
    "NIFTI_INTENT_POINTSET",
    "NIFTI_INTENT_TRIANGLE",
    "NIFTI_INTENT_LABEL",
    "NIFTI_INTENT_NONE",
)
DIMENSIONALITY = re.compile(rb"""Dimensionality\s*=\s*["'](\d+)""")
MAX_NDIM = 6
TRIANGULAR = b"\xff\xff\xfe"  # how a FreeSurfer surface of triangles begins
INFO = {"head": np.int64, "valid": str, "filename": str, "volume": np.int64} | dict.fromkeys(
    ("voxelsize", "xras", "yras", "zras", "cras"), np.float64
)
"""What FreeSurfer says of the volume of a surface, and its types."""


def load_gifti(path: Path, asked: Asked) -> Loaded:
    """Read GIfTI: the surface, and every array that has a row for each of its vertices."""
    gifti = library("nibabel.gifti", "nibabel")
    data = path.read_bytes()
    data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    if any(int(found[1]) > MAX_NDIM for found in DIMENSIONALITY.finditer(data)):
        raise FileError(f"an array of more than {MAX_NDIM} dimensions")  # which nibabel counts one by one
    image = gifti.GiftiImage.from_filename(str(path))  # not of the bytes: some name a file beside it
    points = image.get_arrays_from_intent(POINTS)
    triangles = image.get_arrays_from_intent(TRIANGLES)
    if not points:
        raise FileError("it holds values but no surface: an array of NIFTI_INTENT_POINTSET is wanted")
    positions = np.asarray(points[0].data)
    if positions.ndim != 2 or positions.shape[1] != 3:
        raise FileError(f"its points have the shape {positions.shape}, (N, 3) is wanted")
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
        name = _unused(_name(one, intent), attributes)
        if one.data is None or one.data.ndim > 2 or len(one.data) != len(positions):
            left.append(f"array {name}, whose rows are not the vertices")
        else:
            attributes[name], intents[name] = np.asarray(one.data), intent
    header = {
        "meta": dict(image.meta),
        "points": _described(points[0]),
        "triangles": _described(triangles[0]) if triangles else {},
        "intents": intents,
        "labels": [[label.key, label.label, *_rgba(label)] for label in image.labeltable.labels],
    }
    return Loaded(
        kind="points" if faces is None else "mesh",
        positions=positions,
        unit="millimeter",
        faces=faces,
        attributes=attributes,
        header={"gifti": {key: value for key, value in header.items() if value}},
        left_out=tuple(left),
    )


def _name(one: Any, intent: str) -> str:
    """Name of an array, else what it is meant to be; without what a store's names may not have."""
    name = str(one.meta.get("Name") or intent.removeprefix("NIFTI_INTENT_").lower())
    return "".join("_" if letter in "/\\" or ord(letter) < 32 else letter for letter in name).strip(" .") or "values"


def _unused(name: str, used: Mapping[str, Any]) -> str:
    return next(text for k in range(len(used) + 2) if (text := f"{name}_{k}" if k else name) not in used)


def _described(one: Any) -> dict[str, Any]:
    """What an array says of itself, and of its space."""
    space = one.coordsys
    return {
        "meta": dict(one.meta),
        "dataspace": int(space.dataspace),
        "xformspace": int(space.xformspace),
        "xform": np.asarray(space.xform, np.float64).tolist(),
    }


def _rgba(label: Any) -> list[float]:
    return [float(part) for part in label.rgba if part is not None]


def save_gifti(out: Outgoing, path: Path) -> int:
    """Write GIfTI: the surface, and an array for each attribute of its vertices; text as labels."""
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
    """Values in a type that GIfTI has; None where none holds them."""
    if not is_number(values.dtype):
        return None
    if values.dtype.kind == "f":
        return single(out, values, f"attribute {name}")
    if values.dtype.kind == "b" or values.dtype == np.uint8:
        return values.astype(np.uint8)
    bounds = np.iinfo(np.int32)
    fits = not values.size or (values.min() >= bounds.min and values.max() <= bounds.max)
    return values.astype(np.int32) if fits else None


def _array(gifti: Any, values: Array, intent: str, said: Mapping[str, Any]) -> Any:
    space = None
    if "xform" in said:
        space = gifti.GiftiCoordSystem(said["dataspace"], said["xformspace"], np.array(said["xform"]))
    name = {"uint8": "NIFTI_TYPE_UINT8", "int32": "NIFTI_TYPE_INT32", "float32": "NIFTI_TYPE_FLOAT32"}[
        str(values.dtype)
    ]
    meta = gifti.GiftiMetaData(said.get("meta", {}))
    return gifti.GiftiDataArray(values, intent=intent, datatype=name, coordsys=space, meta=meta)


def load_freesurfer(path: Path, asked: Asked) -> Loaded:
    """Read a surface of FreeSurfer, in its own coordinates (surface RAS); what it says of its volume is its header."""
    surfaces = library("nibabel.freesurfer", "nibabel")
    data = path.read_bytes()
    begin = data.find(b"\n", data.find(b"\n") + 1) + 1
    if data[:3] == TRIANGULAR and 12 * int(np.frombuffer(data, ">u4", 2, begin).sum(dtype=np.uint64)) > len(data):
        raise FileError("it has fewer vertices and triangles than it says")  # nibabel would take memory for them
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is nothing said of the volume
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
    """Write a surface of FreeSurfer: triangles in single precision."""
    surfaces = library("nibabel.freesurfer", "nibabel")
    faces, values = triangles_of(out, "FreeSurfer")
    out.leave(*(f"link attribute {name}" for name in values))
    said = header_of(out, "freesurfer")
    volume = said.get("volume_info", {})
    info = {
        key: np.asarray(volume[key], dtype) if dtype is not str else volume[key]
        for key, dtype in INFO.items()
        if key in volume
    }
    positions = single(out, out.positions, "positions")
    stamp = str(said.get("stamp") or "zarr-vectors-lazy")
    surfaces.write_geometry(
        str(path), positions, faces, create_stamp=stamp, volume_info=info if len(info) == len(INFO) else None
    )
    return len(positions)
