"""Streamlines in TRK, TCK and TRX, in RAS millimetres, and the space of the image to which they belong.

The space of a tractogram is the store's ``crs``, as other converters write it: ``input_space``, ``affine`` (16
numbers, voxel centres to RAS millimetres), with ``dimensions``, ``voxel_sizes`` and ``voxel_order``.
"""

import contextlib
import json
import re
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from itertools import count, pairwise
from pathlib import Path
from typing import IO, Any

import numpy as np

from zarr_vectors_lazy.errors import FileError, SelectionError, ZVWarning, counted
from zarr_vectors_lazy.files.loaded import BLOCK_NBYTES, Loaded, LoadOptions, library
from zarr_vectors_lazy.files.meshes import header_of
from zarr_vectors_lazy.files.outgoing import Outgoing, Paths, Values
from zarr_vectors_lazy.model.objects import ragged_arange

UNIT = "millimeter"
BLOCK_ROWS = 500_000
TRK_VOXELS = 32_000  # along an axis: int16 of TRK, from the lowest to the highest vertex
TRK_VALUES = 10  # most named values of a point, and of a streamline
TRK_NAME = 20
MEMBER = re.compile(r"(.+?)(?:\.(\d+))?\.(u?int(?:8|16|32|64)|float(?:16|32|64)|bool|bit)")  # longest name in TRX


def load_trk(path: Path, asked: LoadOptions) -> Iterator[Loaded]:
    """Read TrackVis streamlines in blocks, with what is stored for each point and each streamline."""
    library("nibabel")
    trk = library("nibabel.streamlines.trk", "nibabel")
    header = trk.TrkFile.load(str(path), lazy_load=True).header
    crs = _space(space_of(asked.reference) if asked.reference else _trk_space(header))
    with library("nibabel.openers", "nibabel").Opener(str(path)) as file:
        raw = file.read(trk.TrkFile.HEADER_SIZE)  # because loading changes the number if there are none
    kind = trk.header_2_dtype.newbyteorder(header["endianness"])
    if len(raw) < kind.itemsize:
        raise FileError(f"its header is only {len(raw)} of {kind.itemsize} bytes")
    expected = int(np.frombuffer(raw, kind)["nb_streamlines"][0])
    scalars, properties = int(header["nb_scalars_per_point"]), int(header["nb_properties_per_streamline"])
    if min(expected, scalars, properties) < 0:
        raise FileError(f"its header states {expected} streamlines, {scalars} scalars and {properties} properties")
    columns = [
        _columns(trk.decode_value_from_name, header[f"{word}_name"], count, rest)
        for word, count, rest in (("scalar", scalars, "scalars"), ("property", properties, "properties"))
    ]
    affine = trk.get_affine_trackvis_to_rasmm(header)
    apply = library("nibabel.affines", "nibabel").apply_affine
    found = 0
    for lengths, points, values in _trk_records(path, header, 3 + scalars, properties, expected):
        found += len(lengths)
        yield _streamlines(
            np.asarray(apply(affine, points[:, :3]), np.float32),
            np.cumsum([0, *lengths]),
            crs=crs,
            attributes={name: _narrow(points[:, 3:][:, part]) for name, part in columns[0].items()},
            object_attributes={name: _narrow(values[:, part]) for name, part in columns[1].items()},
        )
    if not found:
        yield _streamlines(np.empty((0, 3), np.float32), np.zeros(1, np.int64), crs=crs)
    if expected and found != expected:
        raise FileError(f"its header states {counted(expected, 'streamline')}, but there are {found}")


def _columns(decode: Any, names: Iterable[bytes], count: int, rest: str) -> dict[str, slice]:
    """Columns of values by name; those that the header does not name are named by number."""
    found: dict[str, slice] = {}
    at = 0
    for field in names if count else ():
        name, width = decode(field)
        if width and at + width <= count:
            found[name or f"{rest}_{len(found)}"] = slice(at, at + width)
            at += width
    return found if at == count else {**found, rest: slice(at, count)}


def _trk_records(
    path: Path, header: Mapping[str, Any], width: int, properties: int, expected: int
) -> Iterator[tuple[list[int], Values, Values]]:
    """Lengths, (M, width) numbers of points, and (n, properties) numbers of streamlines, in blocks.

    A record is the number of points, their values, and those of the streamline, all four bytes wide.
    """
    order, found = header["endianness"], 0
    with library("nibabel.openers", "nibabel").Opener(str(path)) as file:
        file.seek(header["_offset_data"])
        held = b""
        while not expected or found < expected:
            more = file.read(BLOCK_NBYTES)
            held += more
            words = np.frombuffer(held, f"{order}i4", len(held) // 4)
            counts = memoryview(words.astype(np.int32, copy=False).data)
            starts: list[int] = []
            lengths: list[int] = []
            at = 0
            while at < len(counts) and not (expected and found + len(starts) == expected):
                length = counts[at]
                if length < 0:
                    raise FileError(f"streamline {found + len(starts)} has {counted(length, 'point')}")
                end = at + 1 + length * width + properties
                if end > len(counts):
                    break
                starts.append(at + 1)
                lengths.append(length)
                at = end
            if starts:
                yield lengths, *_records(words.view(f"{order}f4"), starts, lengths, width, properties)
            found += len(starts)
            held = held[4 * at :]
            if not more:
                break
        if held and not expected:
            raise FileError(f"its end is not a streamline: {counted(len(held), 'byte')}")


def _records(
    words: Values, starts: list[int], lengths: list[int], width: int, properties: int
) -> tuple[Values, Values]:
    first, counts = np.asarray(starts), np.asarray(lengths)
    rows = np.repeat(first, counts) + ragged_arange(counts) * width
    tails = first + counts * width
    numbers = words.astype(np.float32, copy=False)
    return numbers[rows[:, None] + np.arange(width)], numbers[tails[:, None] + np.arange(properties)]


def load_tck(path: Path, asked: LoadOptions) -> Iterator[Loaded]:
    """Read MRtrix streamlines in blocks."""
    library("nibabel")
    file = library("nibabel.streamlines", "nibabel").TckFile.load(str(path), lazy_load=True)
    expected = int(file.header.get("count", 0))
    header = {"tck": _tck_header(file.header)}
    crs, found = _space(space_of(asked.reference) if asked.reference else None), 0
    for lines in _batches(file.streamlines):
        found += len(lines)
        yield _streamlines(np.concatenate(lines), np.cumsum([0, *map(len, lines)]), crs=crs, header=header)
    if not found:
        yield _streamlines(np.empty((0, 3), np.float32), np.zeros(1, np.int64), crs=crs, header=header)
    if expected and found != expected:  # the end mark is there, or nibabel would have refused it
        warnings.warn(
            f"{path}: its header says {counted(expected, 'streamline')}, but there are {found}", ZVWarning, stacklevel=2
        )


def _batches(lines: Iterable[Any]) -> Iterator[list[Values]]:
    batch: list[Values] = []
    rows = 0
    for line in lines:
        batch.append(np.asarray(line, np.float32))
        rows += len(line)
        if rows > BLOCK_ROWS:
            yield batch
            batch, rows = [], 0
    if batch:
        yield batch


def _streamlines(positions: Values, offsets: Values, **more: Any) -> Loaded:
    return Loaded(kind="streamlines", positions=positions, offsets=offsets, unit=UNIT, **more)


def _narrow(values: Values) -> Values:
    """(N,) if there is one number in each row."""
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    return values[:, 0] if values.shape[1:] == (1,) else values


def _tck_header(header: Mapping[str, Any]) -> dict[str, str]:
    """Keys of a TCK file's header that describe how it was made, rather than its layout."""
    own = ("magic_number", "datatype", "file", "count", "endianness", "nb_streamlines", "voxel_to_rasmm")
    return {k: str(v) for k, v in header.items() if k not in own and not k.startswith("_")}


def _space(space: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"input_space": "rasmm", "output_space": "RASmm", "units": "mm", **(space or {})}


def _trk_space(header: Mapping[str, Any]) -> dict[str, Any] | None:
    """Space that the header of a TRK file states; None if it states none, as for TCK."""
    if "dimensions" not in header:
        return None
    order = header["voxel_order"]
    order = order.item() if hasattr(order, "item") else order
    return _made_space(header["voxel_to_rasmm"], header["dimensions"], header["voxel_sizes"], order)


def _made_space(affine: Any, dimensions: Any, voxel_sizes: Any = None, voxel_order: Any = None) -> dict[str, Any]:
    matrix = np.asarray(affine, np.float64).reshape(4, 4)
    if voxel_sizes is None:
        voxel_sizes = np.sqrt((matrix[:3, :3] ** 2).sum(axis=0))
    if voxel_order is None:
        voxel_order = "".join(library("nibabel").aff2axcodes(matrix))
    order = voxel_order.decode("latin-1") if isinstance(voxel_order, bytes) else str(voxel_order)
    return {
        "affine": matrix.ravel().tolist(),
        "dimensions": [int(edge) for edge in np.asarray(dimensions).ravel()[:3]],
        "voxel_sizes": np.asarray(voxel_sizes, np.float64).tolist(),
        "voxel_order": order.strip("\0 ").upper(),
    }


def space_of(path: Path) -> dict[str, Any]:
    """Space of a tractogram or an image.

    Raises
    ------
    SelectionError
        If the file cannot be read as either, or defines no space.
    """
    if not path.exists():
        raise SelectionError(f"no file {str(path)!r}")
    name = path.name.lower()
    try:
        if name.endswith((".trk", ".trk.gz")):
            found = _trk_space(library("nibabel.streamlines", "nibabel").TrkFile.load(str(path), lazy_load=True).header)
        elif name.endswith(".trx"):
            found = _trx_space(TrxParts(path).header)
        else:
            image = library("nibabel").load(path)
            found = _made_space(image.affine, image.shape, image.header.get_zooms()[:3])
    except ImportError:
        raise
    except Exception as error:
        raise SelectionError(f"no space of streamlines in {str(path)!r}: {error}") from error
    if found is None:
        raise SelectionError(f"{str(path)!r} does not define a space of streamlines")
    return found


class TrxParts:
    """Members of a TRX file, a zip archive or a folder, and their rows in order.

    Parameters
    ----------
    path
        Path of the archive or the folder.
    """

    def __init__(self, path: Path) -> None:
        self._archive = None if path.is_dir() else zipfile.ZipFile(path)
        self._path = path
        if self._archive is None:
            names = [str(one.relative_to(path).as_posix()) for one in path.rglob("*") if one.is_file()]
        else:
            names = [name for name in self._archive.namelist() if not name.endswith("/")]
        self.names = sorted(names)
        with self.open("header.json") as file:
            self.header = json.load(file)

    def open(self, name: str) -> IO[bytes]:
        """Open a member."""
        if name not in self.names:
            raise FileError(f"it has no {name}")
        if self._archive is None:
            return (self._path / name).open("rb")
        return self._archive.open(name)

    def below(self, folder: str) -> dict[str, str]:
        """Members of a folder, by their names within it."""
        start = f"{folder}/" if folder else ""
        return {name[len(start) :]: name for name in self.names if name.startswith(start)}

    def whole(self, name: str, rows: int | None = None) -> Values:
        """All values of a member."""
        with self.open(name) as file:
            return _shaped(file.read(), name, rows)


def _split(name: str) -> tuple[str, int, np.dtype[Any]]:
    """Name, columns and dtype of a member such as ``dpv/fa.float32`` or ``positions.3.float16``."""
    found = MEMBER.fullmatch(name.rpartition("/")[2])
    if found is None:
        raise FileError(f"member {name!r} does not state a dtype")
    dtype = np.dtype("u1") if found[3] in ("bool", "bit") else np.dtype(found[3]).newbyteorder("<")
    return found[1], int(found[2] or 1), dtype


def _shaped(raw: bytes, name: str, rows: int | None) -> Values:
    _, columns, dtype = _split(name)
    values = np.frombuffer(raw, dtype)
    if columns < 1 or len(values) % columns or (rows is not None and len(values) != rows * columns):
        raise FileError(f"member {name!r} has {len(values)} values of {columns} columns, expected {rows} rows")
    values = values.astype(np.bool_ if name.endswith(("bool", "bit")) else dtype.newbyteorder("="), copy=False)
    return _narrow(values.reshape(-1, columns))


def _trx_space(header: Mapping[str, Any]) -> dict[str, Any]:
    return _made_space(header["VOXEL_TO_RASMM"], header["DIMENSIONS"])


def load_trx(path: Path, asked: LoadOptions) -> Iterator[Loaded]:
    """Read TRX, an archive or a folder: values of vertices, streamlines and groups, and groups."""
    parts = TrxParts(path)
    rows, count = int(parts.header["NB_VERTICES"]), int(parts.header["NB_STREAMLINES"])
    crs = _space(space_of(asked.reference) if asked.reference else _trx_space(parts.header))
    top = [name for name in parts.names if "/" not in name]
    places = [name for name in top if name.startswith("positions.")]
    starts = [name for name in top if name.startswith("offsets.")]
    if not count or not rows or not places or not starts:
        if count or rows:
            raise FileError(
                f"its header states {counted(count, 'streamline')} of {counted(rows, 'vertex')}, but it has {top}"
            )
        yield _streamlines(np.empty((0, 3), np.float32), np.zeros(1, np.int64), crs=crs)
        return
    offsets = parts.whole(starts[0]).astype(np.int64)
    offsets = np.append(offsets, rows) if len(offsets) == count else offsets
    if len(offsets) != count + 1 or offsets[0] != 0 or offsets[-1] != rows or (np.diff(offsets) < 0).any():
        raise FileError(f"its offsets are not those of {counted(count, 'streamline')} of {counted(rows, 'vertex')}")
    per_line = {_split(name)[0]: parts.whole(name, count) for name in parts.below("dps").values()}
    groups, of_groups = _trx_groups(parts, count)
    tables: dict[str, Any] = {"groups": groups, "group_attributes": of_groups}
    left = tuple(f"member {name}" for name in parts.names if not _known(name))
    with contextlib.ExitStack() as stack:
        members = {name: stack.enter_context(parts.open(name)) for name in (places[0], *parts.below("dpv").values())}
        cuts = np.unique(np.searchsorted(offsets, [*range(0, rows, BLOCK_ROWS), rows], side="left"))
        cuts = np.unique([0, *cuts.tolist(), count])
        for start, stop in pairwise(cuts):
            n = int(offsets[stop] - offsets[start])
            values = {name: _taken(file, name, n) for name, file in members.items()}
            positions = values.pop(places[0])
            yield _streamlines(
                positions.astype(np.float64 if positions.dtype == np.float64 else np.float32, copy=False),
                offsets[start : stop + 1] - offsets[start],
                crs=crs,
                attributes={_split(name)[0]: array for name, array in values.items()},
                object_attributes={name: array[start:stop] for name, array in per_line.items()},
                left_out=left,
                **tables,
            )
            tables = {}


def _known(name: str) -> bool:
    top = name.partition("/")[0]
    return top in ("header.json", "dpv", "dps", "dpg", "groups") or name.startswith(("positions.", "offsets."))


def _taken(file: IO[bytes], name: str, rows: int) -> Values:
    """Read the next rows of a member."""
    _, columns, dtype = _split(name)
    return _shaped(file.read(rows * columns * dtype.itemsize), name, rows)


def _trx_groups(parts: TrxParts, count: int) -> tuple[dict[str, Values], dict[str, Values]]:
    """Streamlines of each group, and (G,) or (G, C) values by name; NaN or masked for groups without a value."""
    members = {_split(name)[0]: parts.whole(name) for name in parts.below("groups").values()}
    for name, lines in members.items():
        if len(lines) and (lines.min() < 0 or lines.max() >= count):
            raise FileError(f"group {name!r} has streamline {int(lines.max())}, but there are only {count}")
    found: dict[str, dict[str, Values]] = {}
    for key, name in parts.below("dpg").items():
        group = key.partition("/")[0]
        found.setdefault(_split(name)[0], {})[group] = parts.whole(name).reshape(-1)
    tables = {}
    for name, values in found.items():
        like = next(iter(values.values()))
        lacking = np.array([group not in values for group in members])
        whole = like.dtype.kind in "iu"  # exact where a float is not
        none = np.full(len(like), 0 if whole else np.nan, np.float64 if like.dtype.kind == "b" else like.dtype)
        table = np.stack([np.asarray(values.get(group, none)) for group in members])
        mask = np.broadcast_to(lacking[:, None], table.shape)
        tables[name] = _narrow(np.ma.MaskedArray(table, mask) if whole and lacking.any() else table)
    return {name: np.unique(lines.astype(np.int64)) for name, lines in members.items()}, tables


def save_trk(out: Outgoing, path: Path) -> int:
    """Write TrackVis streamlines: up to ten values for a point and for a streamline, as float32."""
    tracts = library("nibabel.streamlines", "nibabel")
    paths, space = _tracts(out)
    shown = header_space(out, space)
    per_point = _float32(out, paths.attributes, "attribute")
    per_line = _float32(out, out.of_paths(out.object_attributes), "object attribute")
    header = {
        "voxel_to_rasmm": np.asarray(shown["affine"], np.float32).reshape(4, 4),
        "dimensions": np.asarray(shown["dimensions"], np.int16),
        "voxel_sizes": np.asarray(shown["voxel_sizes"], np.float32),
        "voxel_order": shown["voxel_order"].encode("ascii"),
    }
    told = {name: _sequence(values, paths) for name, values in per_point.items()}
    lines = _sequence(paths.vertices.astype(np.float32), paths)
    tractogram = tracts.Tractogram(lines, per_line, told, affine_to_rasmm=np.eye(4))
    tracts.TrkFile(tractogram, header).save(str(path))
    return len(paths.vertices)


def save_tck(out: Outgoing, path: Path) -> int:
    """Write MRtrix streamlines, with headers that nibabel would refuse: keys that repeat, colons in values."""
    paths, stated = _tracts(out)
    out.leave(*(["crs"] if out.crs and not stated.items() <= _space(None).items() else []))
    lengths = np.diff(paths.offsets)
    lines = [f"{key}: {line}" for key, text in _tck_header(header_of(out, "tck")).items() for line in text.split("\n")]
    head = "\n".join(["mrtrix tracks", *lines, "datatype: Float32LE", f"count: {len(lengths)}", "file: . "]).encode()
    start = next(n for n in count(len(head)) if len(head) + len(f"{n}\nEND\n") <= n)
    rows = np.full((len(paths.vertices) + len(lengths) + 1, 3), np.nan, "<f4")  # NaN ends a line, and infinity the file
    rows[np.arange(len(paths.vertices)) + np.repeat(np.arange(len(lengths)), lengths)] = paths.vertices
    rows[-1] = np.inf
    with library("nibabel.openers", "nibabel").Opener(str(path), "wb") as file:
        file.write((head + f"{start}\nEND\n".encode()).ljust(start, b"\0"))
        file.write(rows.data.cast("B"))
    return len(paths.vertices)


def _sequence(rows: Values, paths: Paths) -> Any:
    """Rows of all paths as nibabel's array sequence, without a copy for each path."""
    found = library("nibabel.streamlines.array_sequence", "nibabel").ArraySequence()
    found._data, found._offsets, found._lengths = rows, paths.offsets[:-1], np.diff(paths.offsets)
    return found


def _tracts(out: Outgoing) -> tuple[Paths, Mapping[str, Any]]:
    """Paths, and what the store says about the space of streamlines."""
    if not np.array_equal(out.paths.ids, np.arange(len(out.paths.ids))):
        out.leave("object ids")
    return out.paths, out.crs if isinstance(out.crs, dict) else {}


def _float32(out: Outgoing, values: Mapping[str, Values], what: str) -> dict[str, Values]:
    """Values that TRK can hold, (N, C) float32; the others are reported as left out."""
    found: dict[str, Values] = {}
    for name, array in values.items():
        table = array.reshape(len(array), int(np.prod(array.shape[1:])))
        too_long = len(name.encode("latin-1", "replace")) > TRK_NAME - (2 if table.shape[1] > 1 else 0)
        if array.dtype.kind not in "biuf":
            out.leave(f"{what} {name} (TRK holds numbers)")
        elif array.dtype.kind in "iu" and ((table > 2**24) | (table < -(2**24))).any():
            out.leave(f"{what} {name} (TRK holds whole numbers up to 2**24)")
        elif too_long or not name.isascii():
            out.leave(f"{what} {name} (names in TRK have 20 letters)")
        elif len(found) == TRK_VALUES:
            out.leave(f"{what} {name} (TRK holds {TRK_VALUES})")
        else:
            found[name] = table.astype(np.float32)
    return found


def header_space(out: Outgoing, stated: Mapping[str, Any]) -> dict[str, Any]:
    """Space in which a tractogram is written: that of a given file, else of the store, else one that holds it all."""
    if out.like or out.reference:
        return space_of(out.like or out.reference)  # type: ignore[arg-type]
    vertices = out.paths.vertices
    lo, hi = (vertices.min(axis=0), vertices.max(axis=0)) if len(vertices) else (np.zeros(3), np.zeros(3))
    try:
        affine = np.asarray(stated.get("affine"), np.float64).reshape(4, 4)
        inverse = np.linalg.inv(affine)
    except (TypeError, ValueError, np.linalg.LinAlgError):
        edge = np.ceil((hi - lo).max(initial=0) / TRK_VOXELS)
        affine = np.diag([*np.full(3, max(edge, 1.0)), 1.0])
        affine[:3, 3] = np.floor(lo)
        inverse = np.linalg.inv(affine)
    dimensions = stated.get("dimensions")
    if dimensions is None:
        corners = np.stack(np.meshgrid(*np.stack([lo, hi], axis=1), indexing="ij"), axis=-1).reshape(-1, 3)
        voxels = corners @ inverse[:3, :3].T + inverse[:3, 3]
        dimensions = np.maximum(np.ceil(voxels.max(axis=0)).astype(int) + 1, 1)
    return _made_space(affine, dimensions, stated.get("voxel_sizes"), stated.get("voxel_order"))


def save_trx(out: Outgoing, path: Path) -> int:
    """Write TRX: values of vertices, streamlines and groups in their own dtypes, and groups."""
    paths, stated = _tracts(out)
    space = header_space(out, stated)
    rows, count = len(paths.vertices), len(paths.ids)
    affine = np.asarray(space["affine"]).reshape(4, 4).tolist()
    header = {"DIMENSIONS": space["dimensions"], "VOXEL_TO_RASMM": affine}
    header |= {"NB_VERTICES": rows, "NB_STREAMLINES": count}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("header.json", json.dumps(header))
        if not count:
            return 0
        stored = out.level.vertices.dtype
        _put(archive, "positions", paths.vertices.astype(np.float64 if stored == np.float64 else np.float32))
        _put(archive, "offsets", paths.offsets.astype(np.uint32 if rows < 2**32 else np.uint64))
        of_lines = out.of_paths(out.object_attributes)
        for folder, what, tables in (("dpv", "attribute", paths.attributes), ("dps", "object attribute", of_lines)):
            fitting = _fitting(out, tables, what)
            for name, values in zip(_members(fitting), fitting.values(), strict=True):
                _put(archive, f"{folder}/{name}", values)
        _put_groups(out, archive)
    return rows


def _put_groups(out: Outgoing, archive: zipfile.ZipFile) -> None:
    groups = _members(out.groups)
    for name, ids in zip(groups, out.groups.values(), strict=True):
        _put(archive, f"groups/{name}", np.flatnonzero(np.isin(out.paths.ids, ids)).astype(np.uint32))
    fitting = _fitting(out, out.group_attributes, "group attribute")
    for attribute, values in zip(_members(fitting), fitting.values(), strict=True):
        for name, value in zip(groups, values, strict=True):
            if not np.isnan(value.astype(np.float64)).all():  # a group without a value
                _put(archive, f"dpg/{name}/{attribute}", value.reshape(1, -1))


def _members(names: Iterable[str]) -> list[str]:
    """Distinct names for members: a slash would be a folder, and what follows a dot a number of columns."""
    found: list[str] = []
    for name in names:
        plain = re.sub(r"[./]", "_", name)
        tried = (f"{plain}_{number}" if number else plain for number in count())
        found.append(next(one for one in tried if one not in found))
    return found


def _fitting(out: Outgoing, tables: Mapping[str, Values], what: str) -> dict[str, Values]:
    """Numbers; text is reported as left out."""
    out.leave(*(f"{what} {name} (TRX holds numbers)" for name, v in tables.items() if v.dtype.kind not in "biuf"))
    return {name: values for name, values in tables.items() if values.dtype.kind in "biuf"}


def _put(archive: zipfile.ZipFile, name: str, values: Values) -> None:
    """Add a member whose name states its columns and dtype."""
    if values.dtype.kind == "b":
        values = values.astype(np.uint8)
    columns = f".{values.shape[1]}" if values.ndim > 1 and values.shape[1] > 1 else ""
    plain = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    archive.writestr(f"{name}{columns}.{values.dtype.name}", plain.tobytes())
