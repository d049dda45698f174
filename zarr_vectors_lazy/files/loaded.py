"""The contents of a file: `Loaded` of one, or several joined, in memory or, if they are large, in a scratch folder."""

import json
import pickle
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import dask
import dask.array as da
import numpy as np

from zarr_vectors_lazy.errors import SelectionError, counted, listed, optional
from zarr_vectors_lazy.model.arrays import float64_holds
from zarr_vectors_lazy.types import BoolArray, IntArray

Kind = Literal["points", "polylines", "streamlines", "skeleton", "graph", "mesh"]
Array = Any
"""NumPy's, or Dask's once joined blocks do not fit into memory."""
BLOCK_NBYTES = 16 * 1024**2
MEMORY_NBYTES = 64 * 1024**2  # up to which the blocks of all files are joined in memory
FILES = "files"  # what files say about themselves, by name, if they differ
MAX_HEADERS = 1000  # most files whose headers are kept
NAME = "name"  # object attribute that holds the name of each of several files


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Loaded:
    """Contents of a file, or a block of them.

    Parameters
    ----------
    kind
        The kind of geometry.
    positions
        (N, D).
    axes
        Names of the columns of positions; None for x, y, z, w.
    unit, crs
        Unit and reference system of the positions; a unit for all axes, or one for each.
    attributes
        (N,) or (N, C) vertex attributes by name. Text is an array of objects, with None where it is missing; integers
        with missing values are a masked array.
    edges, faces
        (M, 2), for a skeleton ``[child, parent]``, and (F, W): rows of this block's positions.
    offsets
        (O + 1,) first row of each polyline or streamline.
    link_attributes
        (M,) or (F,), or with several columns, by name: values of edges or faces.
    object_ids
        (N,) object of each vertex; for polylines and streamlines (O,) id of each; None if the file does not say.
    local_ids
        Whether ``object_ids`` count from 0 within the file; otherwise other files may refer to the same objects.
    object_attributes
        (O,) or (O, C) by name, in ascending order of the ids; for polylines and streamlines in their order.
    groups
        Object ids by name; for polylines and streamlines without ids, their numbers from 0 on.
    group_attributes
        (G,) or (G, C) by name, in the order of the groups.
    header
        What else the file says about itself, by format, as JSON.
    means
        Names of attributes that are magnitudes, so that coarser levels have their mean.
    left_out
        What a store cannot hold.
    """

    kind: Kind
    positions: Array
    axes: tuple[str, ...] | None = None
    unit: str | tuple[str | None, ...] | None = None
    crs: Any = None
    attributes: Mapping[str, Array] = field(default_factory=dict)
    edges: Array = None
    faces: Array = None
    offsets: Array = None
    link_attributes: Mapping[str, Array] = field(default_factory=dict)
    object_ids: Array = None
    local_ids: bool = False
    object_attributes: Mapping[str, Any] = field(default_factory=dict)
    groups: Mapping[str, IntArray] = field(default_factory=dict)
    group_attributes: Mapping[str, Any] = field(default_factory=dict)
    header: Mapping[str, Any] = field(default_factory=dict)
    means: frozenset[str] = frozenset()
    left_out: tuple[str, ...] = ()

    @property
    def links(self) -> Array:
        """Edges or faces, whichever exist."""
        return self.edges if self.faces is None else self.faces


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """How a file is to be read, beyond what it says itself.

    Parameters
    ----------
    axes, columns
        Names of the columns of a table that hold positions, and of the attributes to read.
    object_ids
        Name of the column with the object of each row.
    reference
        Image or tractogram that defines the space of streamlines.
    triangulate
        Whether faces with different numbers of corners, or more than three, become triangles.
    """

    axes: tuple[str, ...] | None = None
    columns: tuple[str, ...] | None = None
    object_ids: str | None = None
    reference: Path | None = None
    triangulate: bool = False


def library(name: str, package: str = "", *, extra: str = "formats") -> Any:
    """Import a library of an extra; raises ImportError that says how to install it."""
    return optional(name, f"this needs {package or name.partition('.')[0]}", extra)


def with_missing(values: np.ndarray[Any, Any], missing: BoolArray) -> np.ndarray[Any, Any]:
    """Values, some of which are missing, as attributes of `Loaded` have them; unchanged if none is missing."""
    if not missing.any():
        return values
    if values.dtype.kind in "iub":
        return np.ma.MaskedArray(values, missing)
    values = values.astype(object if values.dtype.kind in "UT" else values.dtype)
    values[missing] = None if values.dtype == object else "NaT" if values.dtype.kind in "mM" else np.nan
    return values


class Joined:
    """Joins blocks of one or several files; a context whose scratch folder is deleted at its end.

    Up to 64 MiB are joined in memory. More are written to a folder, in Dask's ``temporary-directory`` or the
    system's, and become Dask arrays that read it block by block.

    Parameters
    ----------
    several
        Whether there are several files, each of which becomes an object, or a group of its objects, with its name.
    """

    def __init__(self, *, several: bool) -> None:
        self._several = several
        self._first: Loaded | None = None
        self._held: list[Loaded] = []
        self._rest: list[Loaded] = []  # parts of the blocks in the folder that are not rows or links
        self._files: list[dict[str, _Stored]] = []
        self._folder: Path | None = None
        self._nbytes = self._rows = self._objects = 0

    def __enter__(self) -> "Joined":
        return self

    def __exit__(self, *_: object) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, blocks: Iterable[Loaded], name: str) -> None:
        """Add the blocks of a file; raises SelectionError if their kind differs from those before."""
        first = self._objects
        for number, block in enumerate(blocks):
            if self._first is None or not len(self._first.positions):
                self._first = block
            _check_alike(self._first, block, name)
            self._held.append(self._numbered(block, first, name, begins=number == 0))
            self._rows += len(block.positions)
            self._nbytes += _block_nbytes(block)
            if self._nbytes > (BLOCK_NBYTES if self._files else MEMORY_NBYTES):
                self._spill()
        if self._several and self._objects == first and block.offsets is None:
            self._objects += 1

    def _numbered(self, block: Loaded, first: int, name: str, *, begins: bool) -> Loaded:
        """Renumber the rows and objects of a block, counting from the first file."""
        changed: dict[str, Any] = {"groups": dict(block.groups)}
        if self._several and begins:
            changed["header"] = {kind: {FILES: {name: said}} for kind, said in block.header.items()}
        for links in ("edges", "faces"):
            if (values := getattr(block, links)) is not None:
                changed[links] = np.asarray(values, np.int64) + self._rows
        ids = block.object_ids
        if block.offsets is not None and ids is None:
            count = len(block.offsets) - 1
            ids = np.arange(self._objects, self._objects + count)
            self._objects += count
            changed["groups"] = {group: np.asarray(members) + first for group, members in block.groups.items()}
        if self._several and ids is None:
            ids = np.full(len(block.positions), first)
            label = NAME if NAME not in block.object_attributes else f"file_{NAME}"
            if begins:
                changed["object_attributes"] = {**block.object_attributes, label: np.array([name], object)}
        elif self._several:
            if block.local_ids:
                ids = ids + self._objects
                count = int(ids.max(initial=first - 1)) + 1 - first
                self._objects += count
                names = {NAME: np.full(count, name, object)} | dict(block.object_attributes)
                changed["object_attributes"] = names
            changed["groups"][name] = np.unique(ids)
        return replace(block, object_ids=ids, **changed)

    def _spill(self) -> None:
        """Write the rows and links in memory to the folder, as blocks."""
        held, run, nbytes = self._held, [], 0
        self._held, self._nbytes = [], 0
        held.reverse()
        while held:
            run.append(held.pop())
            nbytes += _block_nbytes(run[-1])
            if nbytes > BLOCK_NBYTES or not held:
                self._write(concatenated(run))
                run, nbytes = [], 0

    def _write(self, block: Loaded) -> None:
        """Write a block to the folder, one file for each array."""
        where = dask.config.get("temporary-directory", None)
        self._folder = self._folder or Path(tempfile.mkdtemp(prefix="zvl-ingest-", dir=where))
        written = {}
        for number, (key, values) in enumerate(_arrays(block).items()):
            path = self._folder / f"{len(self._files)}-{number}.pickle"
            with path.open("wb") as file:
                pickle.dump(values, file, protocol=5)
            like = values[:0].copy()  # a view would keep the whole arrays alive
            written[key] = _Stored(path, like, len(values), float64_holds(values), _says_nothing(values))
        self._files.append(written)
        self._rest.append(_with_arrays(block, {key: stored.like for key, stored in written.items()}))

    def result(self) -> Loaded:
        """Everything joined; raises SelectionError if there is nothing."""
        if self._first is None:
            raise SelectionError("these files are empty")
        if not self._files:
            return concatenated(self._held)
        if self._held:
            self._spill()
        per_path = ("offsets", "object_ids") if "offsets" in self._files[0] else ()
        arrays = {
            key: _lazy(key, [block[key] for block in self._files if key in block], whole=key in per_path)
            for key in dict.fromkeys(key for block in self._files for key in block)
        }
        return _with_arrays(concatenated(self._rest), arrays)


@dataclass(frozen=True, slots=True, eq=False)
class _Stored:
    """An array in the folder: its file, an empty part of it, its length, and whether float64 holds it or all is NaN."""

    path: Path
    like: Any
    rows: int
    floats: bool
    blank: bool


def _has_ids(block: Loaded) -> bool:
    """Whether it has object ids of vertices that other files may have too."""
    return block.object_ids is not None and block.offsets is None and not block.local_ids


def _check_alike(first: Loaded, block: Loaded, name: str) -> None:
    facts = [
        ("holds", first.kind, block.kind),
        ("has axes", first.axes, block.axes),
        ("has columns", first.positions.shape[1], block.positions.shape[1]),
        ("is in", first.unit, block.unit),
        ("has", *("object ids" if _has_ids(each) else "no object ids" for each in (first, block))),
    ]
    if len(block.positions):  # an empty tractogram says nothing about attributes
        facts.append(("has attributes", sorted(first.attributes), sorted(block.attributes)))
        facts.append(("has link attributes", sorted(first.link_attributes), sorted(block.link_attributes)))
    for what, one, other in facts:
        if one != other:
            raise SelectionError(f"{name} {what} {other}, the files before it {one}: a store holds files of one kind")


def _arrays(block: Loaded) -> dict[str, Array]:
    """Arrays of rows and links by where they are; for offsets, their lengths."""
    found = {key: getattr(block, key) for key in ("positions", "object_ids", "edges", "faces")}
    found["offsets"] = None if block.offsets is None else np.diff(block.offsets)
    for part in ("attributes", "link_attributes"):
        found |= {f"{part}/{name}": values for name, values in getattr(block, part).items()}
    return {key: values for key, values in found.items() if values is not None}


def _with_arrays(block: Loaded, arrays: Mapping[str, Array]) -> Loaded:
    """Replace the arrays of a block."""
    changed: dict[str, Any] = {"attributes": {}, "link_attributes": {}}
    for key, values in arrays.items():
        part, slash, name = key.partition("/")
        if slash:
            changed[part][name] = values
        else:
            changed[key] = values
    if "offsets" in arrays:
        changed["offsets"] = np.concatenate([[0], np.cumsum(np.asarray(arrays["offsets"]))]).astype(np.int64)
    return replace(block, **changed)


def concatenated(blocks: Sequence[Loaded]) -> Loaded:
    """Join blocks whose rows and objects are already counted from the first."""
    parts = [_arrays(block) for block in blocks]
    keys = dict.fromkeys(key for part in parts for key in part)  # blocks without rows may lack some
    arrays = {key: _stacked(key, [part[key] for part in parts if key in part]) for key in keys}
    names = dict.fromkeys(name for block in blocks for name in block.groups)
    members = {name: [np.asarray(b.groups[name], np.int64) for b in blocks if name in b.groups] for name in names}
    tables = [block.object_attributes for block in blocks if block.object_attributes]
    shared = [name for name in tables[0] if all(name in table for table in tables)] if tables else []
    left = [f"object attribute {name}" for table in tables for name in table if name not in shared]
    left += [text for block in blocks for text in block.left_out]
    crs = {json.dumps(block.crs, sort_keys=True): block.crs for block in blocks}
    header, more = _headers([block.header for block in blocks])
    grouped = [block.group_attributes for block in blocks if block.group_attributes]
    return replace(
        _with_arrays(blocks[0], arrays),
        crs=blocks[0].crs if len(crs) == 1 else None,
        header=header,
        object_attributes={name: _stacked(name, [table[name] for table in tables]) for name in shared},
        groups={name: np.unique(np.concatenate(parts)) for name, parts in members.items()},
        group_attributes=grouped[0] if len(grouped) == 1 and len(names) == len(blocks[0].groups) else {},
        means=frozenset().union(*(block.means for block in blocks)),
        left_out=tuple(dict.fromkeys([*left, *more, *(["reference systems that differ"] if len(crs) > 1 else [])])),
    )


def _headers(headers: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], list[str]]:
    """Headers of several files by format: one if all are the same, otherwise one a file; and what is left out."""
    found: dict[str, Any] = {}
    for header in headers:
        for kind, said in header.items():
            if FILES in said:
                found.setdefault(kind, {FILES: {}})[FILES].update(said[FILES])
            else:
                found.setdefault(kind, said)
    left = []
    for kind, said in list(found.items()):
        of_files = list(said.get(FILES, {}).values())
        if of_files and all(one == of_files[0] for one in of_files):
            found[kind] = of_files[0]
        elif len(of_files) > MAX_HEADERS:
            del found[kind]
            left.append(f"headers of {counted(len(of_files), 'file')} that differ")
    return found, left


def _stacked(key: str, parts: Sequence[Any]) -> Any:
    if len(parts) == 1:
        return parts[0]
    dtype = _common(key, parts, list(map(_says_nothing, parts)), floats=all(map(float64_holds, parts)))
    parts = [_as_type(part, dtype) for part in parts]
    join = np.ma.concatenate if any(isinstance(part, np.ma.MaskedArray) for part in parts) else np.concatenate
    return join(parts)


def _says_nothing(values: Any) -> bool:
    """Whether values are all NaN, as for a column that is empty in a file: it has any type, with all values missing."""
    return bool(values.dtype.kind == "f" and np.isnan(values).all())


def _as_type(values: Any, dtype: np.dtype[Any]) -> Any:
    """Values as another type that can hold them; if all are NaN, as that type's missing values."""
    if dtype.kind in "fc" or not _says_nothing(values):
        return values.astype(dtype, copy=False)
    if dtype.kind in "iub":
        return np.ma.MaskedArray(np.zeros(values.shape, dtype), mask=True)
    return np.full(values.shape, None if dtype.kind == "O" else np.array("NaT", dtype), dtype)


def _common(key: str, parts: Sequence[Any], blank: Sequence[bool], *, floats: bool) -> np.dtype[Any]:
    """Return a dtype that holds the values of all parts exactly; with ``floats``, float64 is known to do so.

    Parts that are ``blank`` do not count, unless all are.
    """
    name = key.rpartition("/")[2]
    dtypes = {part.dtype for part, nothing in zip(parts, blank, strict=True) if not nothing or all(blank)}
    if len({part.shape[1:] for part in parts}) > 1:
        raise SelectionError(f"{name!r} has rows of several shapes: {listed({part.shape[1:] for part in parts})}")
    text = {dtype.kind in "OUT" for dtype in dtypes}
    found = np.dtype(object) if True in text else np.result_type(*dtypes)
    if len(text) > 1 or (not floats and found.kind == "f" and any(d.kind in "iu" and d.itemsize == 8 for d in dtypes)):
        raise SelectionError(f"{name!r} is of {listed(map(str, dtypes))}, which no single type can hold exactly")
    return found


def _lazy(key: str, blocks: Sequence[_Stored], *, whole: bool) -> Array:
    """Dask array with one block for each file; in memory if there is only one."""
    likes, blank = [block.like for block in blocks], [block.blank for block in blocks]
    dtype = _common(key, likes, blank, floats=all(block.floats for block in blocks))
    masked = any(isinstance(like, np.ma.MaskedArray) for like in likes) or (any(blank) and dtype.kind in "iub")
    if whole:
        return np.concatenate([_unpickled(block.path, dtype, masked=False) for block in blocks])
    read = dask.delayed(partial(_unpickled, masked=masked), pure=True)
    meta = _as_masked(np.empty((0, *likes[0].shape[1:]), dtype), masked=masked)
    return da.concatenate(
        [da.from_delayed(read(one.path, dtype), (one.rows, *meta.shape[1:]), dtype, meta=meta) for one in blocks]
    )


def _unpickled(path: Path, dtype: np.dtype[Any], *, masked: bool) -> Any:
    """Rows of a file that `Joined` wrote to its folder."""
    with path.open("rb") as file:
        return _as_masked(_as_type(pickle.load(file), dtype), masked=masked)


def _as_masked(values: Any, *, masked: bool) -> Any:
    return np.ma.MaskedArray(values) if masked else values


def _block_nbytes(block: Loaded) -> int:
    """Bytes of the rows and links of a block; approximate for text."""
    return sum(int(values.nbytes) * (8 if values.dtype == object else 1) for values in _arrays(block).values())
