"""Points in LAS and LAZ, and reference systems as stores keep them: ``{"name": ..., "epsg": ..., "wkt": ...}``."""

import logging
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from zarr_vectors_lazy.errors import FileError, NotFoundError, SelectionError, counted
from zarr_vectors_lazy.files.loaded import Loaded, LoadOptions, library
from zarr_vectors_lazy.files.meshes import header_of
from zarr_vectors_lazy.files.outgoing import Outgoing, Values
from zarr_vectors_lazy.plan.selection import column_names
from zarr_vectors_lazy.types import Vertices
from zarr_vectors_lazy.write.datasets import crs_of

logging.getLogger("laspy").addHandler(logging.NullHandler())  # the library logs what it also raises
POINTS = 250_000  # points in a block
FORMATS = (0, 1, 2, 3, 6, 7, 8)  # those without waveforms; the first of equally good ones is taken
MAGNITUDES = frozenset({"intensity", "red", "green", "blue", "nir"})


def units_of(system: Any) -> tuple[str | None, ...] | None:
    """Units of the axes x, y, z; the third has the first's unit if only a plane's are stated, as lengths."""
    units = [axis.unit_name for axis in system.axis_info[:3]]
    if len(units) < 2 or not all(units):
        return None
    up = units[2] if len(units) > 2 else None if system.is_geographic else units[0]
    return units[0], units[1], up


def system_of(crs: Any) -> Any:
    """Reference system of pyproj that a store states as WKT or EPSG code; None if it states none."""
    pyproj = library("pyproj")
    stated = crs if isinstance(crs, Mapping) else {"wkt": crs} if isinstance(crs, str) else {}
    for key, make in (("wkt", pyproj.CRS.from_wkt), ("epsg", pyproj.CRS.from_epsg)):
        if stated.get(key):
            try:
                return make(stated[key])
            except pyproj.exceptions.CRSError:
                continue
    return None


def load_las(path: Path, asked: LoadOptions) -> Iterator[Loaded]:
    """Read LAS or LAZ in blocks: scaled coordinates in float64, and every other dimension of the point format."""
    laspy = library("laspy")
    _check_counts(path)
    with laspy.open(path) as reader:
        header = reader.header
        names = [name for name in header.point_format.dimension_names if name not in ("X", "Y", "Z")]
        for name in asked.columns or ():
            if name not in names:
                raise NotFoundError.among("dimension", name, names)
        names = list(names if asked.columns is None else asked.columns)
        system, left = _system(header)
        found = 0
        for points in reader.chunk_iterator(POINTS):
            found += len(points)
            yield Loaded(
                kind="points",
                positions=np.column_stack([np.asarray(points[axis], np.float64) for axis in "xyz"]),
                unit=None if system is None else units_of(system),
                crs=None if system is None else crs_of(system),
                attributes={name: np.array(points[name]) for name in names},
                header={"las": _said(header)},
                means=MAGNITUDES.intersection(names),
                left_out=left,
            )
        if found != header.point_count:
            raise FileError(f"its header states {counted(header.point_count, 'point')}, but there are {found}")


load_laz = load_las


def _said(header: Any) -> dict[str, Any]:
    """What a file says about itself other than points and layout, and how it rounds coordinates."""
    made = header.creation_date
    said = {"system_identifier": str(header.system_identifier), "generating_software": str(header.generating_software)}
    found: dict[str, Any] = {name: text for name, text in said.items() if text}
    found |= {"point_format": header.point_format.id, "file_source_id": header.file_source_id}
    found["creation_date"] = None if made is None else made.isoformat()
    return found | {"scales": np.asarray(header.scales).tolist(), "offsets": np.asarray(header.offsets).tolist()}


def _check_counts(path: Path) -> None:
    """Raise FileError if a file claims more records or chunks than it has bytes for: laspy would believe it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(375)
        if head[:4] != b"LASF" or len(head) < 227:
            raise FileError("this is not a LAS file, which begins with 'LASF', or it is cut off")
        start, records = np.frombuffer(head, "<u4", 2, 96).tolist()
        more = int.from_bytes(head[243:247], "little") if head[25] > 3 else 0
        said = {"records": (records, 54), "extended records": (more, 60)}
        if head[104] & 128:  # compressed: the table of chunks is where the points begin
            file.seek(start)
            at = int.from_bytes(file.read(8), "little", signed=True)
            file.seek(max(at if at >= 0 else size - 8, 0))
            at = at if at >= 0 else int.from_bytes(file.read(8), "little", signed=True)
            file.seek(max(at, 0) + 4)
            said["chunks"] = (int.from_bytes(file.read(4), "little"), 1)
    for what, (count, nbytes) in said.items():
        if count * nbytes > size:
            raise FileError(f"its header states {count} {what}, but the file is too short for them")


def _system(header: Any) -> tuple[Any, tuple[str, ...]]:
    """Reference system of a file, and what is left out because it cannot be understood."""
    pyproj = library("pyproj")
    known = ("LASF_Projection", "LASF_Spec", "laszip encoded", "copc")
    left = [f"record {vlr.user_id} {vlr.record_id}" for vlr in header.vlrs if vlr.user_id not in known]
    try:
        system = header.parse_crs()
    except (pyproj.exceptions.CRSError, ValueError, UnicodeError) as error:
        return None, (*left, f"crs ({error})")
    return system, tuple(left)


def save_las(out: Outgoing, path: Path) -> int:
    """Write LAS, or LAZ if the suffix says so, in the first point format that has most of the attributes.

    The other attributes become extra bytes.
    """
    laspy = library("laspy")
    positions, attributes = np.asarray(out.positions, np.float64), _named(out.attributes)
    own = {number: set(laspy.PointFormat(number).dimension_names) for number in FORMATS}
    said = header_of(out, "las")
    stated = said.get("point_format")
    best = max(FORMATS, key=lambda number: (len(own[number] & attributes.keys()), number == stated, -number))
    header = laspy.LasHeader(point_format=best, version="1.4" if best > 5 else "1.2")
    _say(header, said)
    header.offsets, header.scales = _quanta(out, positions, said)
    system = system_of(out.crs)
    try:
        if system is not None:
            header.add_crs(system)
    except RuntimeError:  # older point formats identify systems only by EPSG code
        system = None
    out.leave(*(["crs"] if out.crs and system is None else []))
    extra = {name: values for name, values in attributes.items() if name not in own[best]}
    extra = {name: values for name, values in extra.items() if _fits_extra(out, name, values)}
    extra = {name: v.astype(np.uint8) if v.dtype.kind == "b" else v for name, v in extra.items()}
    kinds = {
        name: f"{values.shape[1] if values.ndim > 1 else ''}{values.dtype.str[1:]}" for name, values in extra.items()
    }
    header.add_extra_dims([laspy.ExtraBytesParams(name, kind) for name, kind in kinds.items()])
    cloud = laspy.LasData(header)
    for axis, column in zip("xyz", positions.T, strict=True):
        cloud[axis] = column
    for name, values in attributes.items():
        if name in extra:
            cloud[name] = extra[name]
        elif name in own[best]:
            _assign(out, cloud, name, values)
    cloud.write(str(path))
    return len(positions)


save_laz = save_las


def _named(attributes: Mapping[str, Values]) -> dict[str, Values]:
    """Attributes by names that LAS and laspy do not use for positions; float16, which LAS lacks, as float32."""
    names = column_names(dict.fromkeys(attributes), (*"xyz", *"XYZ", "offsets", "scales"))
    half = np.dtype(np.float16)
    return {names[n][0]: v.astype(np.float32) if v.dtype == half else v for n, v in attributes.items()}


def _say(header: Any, said: Mapping[str, Any]) -> None:
    """Write what the original file said about itself."""
    for name in ("system_identifier", "generating_software", "file_source_id"):
        if name in said:
            setattr(header, name, said[name])
    if said.get("creation_date"):
        header.creation_date = date.fromisoformat(said["creation_date"])


def _quanta(out: Outgoing, positions: Vertices, said: Mapping[str, Any]) -> tuple[Vertices, Vertices]:
    """Offsets and scales of axes: those that the header states, or the coarsest power of ten, if they are exact.

    Means of a coarser level are rounded to the header's scales. Otherwise the finest power of ten that fits the range
    is used, and the digits that it loses are reported as left out.
    """
    offsets, scales = np.zeros(3), np.ones(3)
    stated = np.asarray(said.get("offsets", ()), float), np.asarray(said.get("scales", ()), float)
    if [part.shape for part in stated] == [(3,), (3,)] and (stated[1] > 0).all():
        steps = np.round((positions - stated[0]) / stated[1])
        exact = out.level.index > 0 or (steps * stated[1] + stated[0] == positions).all()
        if exact and (np.abs(steps) < 2**31 - 1).all():
            return stated
    for axis, column in enumerate(positions.T):
        if not len(column):
            continue
        low, high = column.min(), column.max()
        offsets[axis] = np.floor(low)
        most = max(high - offsets[axis], 1e-9)
        slack = 4 * np.spacing(max(abs(low), abs(high)))
        fits = [scale for scale in 10.0 ** -np.arange(0, 13) if most / scale < 2**31 - 1]
        if not fits:
            raise SelectionError(f"LAS holds a range of 2**31 steps, but along axis {axis} it is {most}")
        for scale in fits:
            steps = np.round((column - offsets[axis]) / scale)
            scales[axis] = scale
            if (np.abs(steps * scale + offsets[axis] - column) <= slack).all():
                break
        else:
            out.leave(f"digits of {'xyz'[axis]} below {scales[axis]:g}")
    return offsets, scales


def _fits_extra(out: Outgoing, name: str, values: Values) -> bool:
    if values.dtype.kind not in "biuf":
        out.leave(f"attribute {name} (LAS holds numbers)")
    elif values.ndim > 1 and values.shape[1] > 3:
        out.leave(f"attribute {name} (LAS holds three numbers of a name)")
    elif len(name.encode()) > 32:
        out.leave(f"attribute {name} (names in LAS have 32 bytes)")
    else:
        return True
    return False


def _assign(out: Outgoing, cloud: Any, name: str, values: Values) -> None:
    """Put values into a dimension of the point format, if it can hold them unchanged."""
    try:
        cloud[name] = values
        same = values.ndim == 1 and np.array_equal(np.asarray(cloud[name]), values)
    except (OverflowError, ValueError, TypeError):
        same = False
    if not same:
        cloud[name] = np.zeros(len(values), np.uint8)
        out.leave(f"attribute {name} (LAS holds other numbers by this name)")
