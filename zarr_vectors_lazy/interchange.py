"""Files of other formats into stores and out of them, and chunk shapes that suit them."""

import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import numcodecs.zstd
import numpy as np
import numpy.typing as npt
from dask.utils import parse_bytes

from zarr_vectors_lazy.errors import SelectionError, StoreError, counted
from zarr_vectors_lazy.files.formats import check_has_space, format_of, found_files, load, names_of, save
from zarr_vectors_lazy.files.loaded import Joined, Loaded, LoadOptions
from zarr_vectors_lazy.files.outgoing import Outgoing
from zarr_vectors_lazy.keywords import suggesting
from zarr_vectors_lazy.plan.blocks import bins_along, even_edge, filled_edge
from zarr_vectors_lazy.types import FilePath, Floats, Lengths, StorePath, Vertices
from zarr_vectors_lazy.write.arguments import parse_shape, storable_names
from zarr_vectors_lazy.write.writers import write_graph, write_mesh, write_points, write_polylines

if TYPE_CHECKING:
    from zarr_vectors_lazy.level import ZVLevel

# A chunk shape that makes chunks neither tiny nor huge.

SAMPLE = 500_000  # vertices in the sample
MOST_CHUNKS = 2.0**56  # chunks from the origin, so that numbers of their bins, 64 along each axis, fit into int64
PARTS = 8  # parts of the sample that are compressed
EVEN_RATIO = 0.8  # ratio of compressed to raw bytes if there are no positions to compress


@suggesting
def suggest_chunk_shape(
    data: Any,
    *,
    least: int | str = "100 kB",
    dtype: npt.DTypeLike = np.float32,
    aspect: Sequence[float] | None = None,
    bin_shape: Lengths | None = None,
) -> tuple[float, ...]:
    """Suggest a chunk shape whose chunks of positions have at least 100 kB when compressed.

    With smaller chunks, reads spend most of their time on requests; with larger ones, small boxes read much more than
    they need.

    Parameters
    ----------
    data
        (N, D) positions, NumPy or Dask; or ``((lo, hi), count)`` for a number of vertices spread evenly over a box.
    least
        The least number of stored bytes that a chunk should have.
    dtype
        Dtype of the stored positions.
    aspect
        (D,) relative edge lengths; by default a chunk is a cube.
    bin_shape
        (D,) edge lengths of a bin, or one for all axes; those of the chunk are then multiples of them.

    Returns
    -------
    tuple of float
        (D,) edge lengths, round numbers unless ``bin_shape`` prevents it. Nine out of ten vertices lie in chunks of at
        least that many bytes; if there are too few vertices for that, nearly all of them lie in one chunk.

    Raises
    ------
    SelectionError
        If an argument is malformed.

    Examples
    --------
    >>> points = np.random.default_rng(0).uniform(0, 1000, (300_000, 3))
    >>> zvl.suggest_chunk_shape(points)
    (500.0, 500.0, 500.0)
    >>> zvl.suggest_chunk_shape((([0, 0, 0], [1000, 1000, 1000]), 300_000))
    (400.0, 400.0, 400.0)
    """
    even = isinstance(data, tuple) and len(data) == 2 and isinstance(data[1], int | np.integer)
    ndim = len(data[0][0]) if even else _rows(data)[1]
    ratios = np.ones(ndim) if aspect is None else parse_shape(aspect, ndim, "aspect")
    row = np.dtype(dtype).itemsize * ndim
    try:
        target = parse_bytes(least)
    except (TypeError, ValueError):
        target = 0
    if target < 1:
        raise SelectionError(f"least must be a number of bytes, such as 100_000 or '100 kB'; found {least!r}")
    if even:
        (lo, hi), count = data
        corners = np.asarray(lo, np.float64), np.asarray(hi, np.float64)
        if not (corners[0] <= corners[1]).all() or count < 1:
            raise SelectionError(f"expected ((lo, hi), count) with lo <= hi and a count, found {data!r}")
        edge = even_edge(*corners, float(count), ratios, target / (row * EVEN_RATIO))
    else:
        sample, total = _sample(data)
        share = len(sample) / total
        with np.errstate(over="ignore"):  # they only show how well such positions compress
            stored = sample.astype(dtype)
        edge = filled_edge(sample, ratios, share * target / (row * _ratio(stored, row, target)))
    shape = edge * ratios
    if bin_shape is not None:
        bins = parse_shape(bin_shape, ndim, "bin_shape")
        shape = np.ceil(shape / bins - 1e-9) * bins
    return tuple(shape.tolist())


def suggest_bin_shape(data: Any, chunk_shape: Any) -> tuple[float, ...]:
    """Suggest bins that suit a pyramid over chunks of the given shape; `zvl.ingest` uses them.

    Along each axis a chunk has a power of two of them, from 8 to 64: the smallest number for which an occupied bin has
    at most 4 vertices. A chunk gets at most 8 bins for each of its vertices, because each bin of a chunk of points is
    a fragment and costs bytes: about half a byte of its index if 2 in 3 bins are empty, so that 8 bins for each vertex
    make a store that has only positions a fifth larger.

    Parameters
    ----------
    data
        (N, D) positions, NumPy or Dask.
    chunk_shape
        (D,) edge lengths of a chunk, or one for all axes.

    Returns
    -------
    tuple of float
        (D,) edge lengths.

    Raises
    ------
    SelectionError
        If an argument is malformed.
    """
    ndim = _rows(data)[1]
    chunk = parse_shape(chunk_shape, ndim, "chunk_shape")
    found = _of_some_chunks(data, chunk)
    if not (np.abs(found / chunk) < MOST_CHUNKS).all():
        raise SelectionError(
            f"chunk_shape {chunk.tolist()} is absurdly small for positions up to {np.abs(found).max()}"
        )
    return tuple((chunk / bins_along(found, chunk)).tolist())


def _of_some_chunks(data: Any, chunk_shape: Floats) -> Vertices:
    """All vertices of some evenly chosen chunks, about `SAMPLE` in all."""
    sample, total = _sample(data)
    if len(sample) == total:
        return sample
    chunks = np.unique(np.floor(sample / chunk_shape), axis=0)
    chosen = chunks[np.linspace(0, len(chunks) - 1, max(1, len(chunks) * SAMPLE // total)).astype(int)]
    blocks = data.to_delayed().reshape(-1) if dask.is_dask_collection(data) else [data]
    return np.concatenate(dask.compute(*(dask.delayed(_within)(block, chunk_shape, chosen) for block in blocks)))


def _within(positions: Vertices, chunk_shape: Floats, chosen: Floats) -> Vertices:
    """Vertices of some chunks."""
    both = np.concatenate([chosen, np.floor(positions / chunk_shape)])
    number = np.unique(both, axis=0, return_inverse=True)[1].reshape(-1)
    return positions[np.isin(number[len(chosen) :], number[: len(chosen)])]


def _rows(data: Any) -> tuple[int, int]:
    shape = getattr(data, "shape", None) or np.shape(data)
    if len(shape) != 2 or math.isnan(shape[0]) or shape[0] < 1:
        found = f"shape {shape}" if shape else type(data).__name__
        raise SelectionError(f"expected (N, D) positions of known number, or ((lo, hi), count), found {found}")
    return int(shape[0]), int(shape[1])


def _sample(data: Any) -> tuple[Vertices, int]:
    total = _rows(data)[0]
    (sample,) = dask.compute(data[:: max(1, -(-total // SAMPLE))])
    found = np.asarray(sample)
    if not np.isfinite(found).all():
        raise SelectionError("positions must be finite")
    return found, total


def _ratio(sample: Vertices, row: int, target: int) -> float:
    """Ratio of compressed to raw bytes, over parts of the sample whose vertices lie close together."""
    near = sample[np.lexsort(sample.T[::-1])]
    rows = max(1, target // row)
    parts = [near[at : at + rows].tobytes() for at in np.linspace(0, max(0, len(near) - rows), PARTS).astype(int)]
    return float(sum(len(numcodecs.zstd.compress(part, 3)) for part in parts) / sum(map(len, parts)))


# Files into stores and out of them: ``ingest``, and what `ZVLevel.to_file` does.


@suggesting
def ingest(
    files: Any,
    url: StorePath,
    *,
    format: str | None = None,  # noqa: A002  as NumPy's and pandas' own
    chunk_shape: Lengths | None = None,
    bin_shape: Lengths | None = None,
    axes: Sequence[str] | None = None,
    unit: str | None = None,
    columns: Sequence[str] | None = None,
    object_ids: str | None = None,
    like: Any = None,
    reference: Any = None,
    triangulate: bool = False,
    overwrite: bool = False,
    backend: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    **backend_kwargs: Any,
) -> dict[str, Any]:
    r"""Write one or more files, in any of the supported formats, as a new store.

    Several files become one store. Each file becomes an object, with the file's name as the object attribute ``name``;
    files of streamlines, and files that define objects themselves, become groups of that name instead. Files are read
    one after another, and data beyond 64 MiB wait on disk, so that memory does not grow with the files.

    Parameters
    ----------
    files
        A path, a folder, a pattern such as ``"neurons/*.swc"``, or several of these.
    url
        URL or path of the new store.
    format
        Name or suffix of the format; None to use the suffix of each file.
    chunk_shape, bin_shape
        (D,) edge lengths, or one for all axes; None for suggested ones.
    axes
        For tables, the columns that hold positions, as a list or as ``"lon,lat"``; for other files, the names of the
        axes. None for x, y, z, w, in lower or upper case.
    unit
        Unit of the positions, if the file does not state it.
    columns
        For tables and point clouds, the attributes to include; None for all.
    object_ids
        For tables, the column with the object of each row; None for ``object_id``, if there is such a column.
    like, reference
        A tractogram, or an image, that defines the space of streamlines.
    triangulate
        Cut faces into triangles if they have more than three corners, or different numbers of corners.
    overwrite
        Replace an existing Zarr Vectors store at ``url``.
    backend, storage_options, **backend_kwargs
        As for `open_zv`.

    Returns
    -------
    dict
        What the geometry's writer returns, with ``kind``, ``vertex_count`` and ``files``; ``left_out``, which names
        what the store cannot hold; and ``renamed``, names that a store cannot have and what they were replaced by.

    Raises
    ------
    SelectionError
        If a file does not exist, if the format is unknown, if the files are of different kinds, or if an argument is
        wrong.
    FileError
        If a file is damaged, empty, or not what its suffix says.
    StoreError
        If something at ``url`` may not be replaced, or if a request fails.

    Examples
    --------
    >>> with open("points.csv", "w") as file:
    ...     _ = file.write("x,y,z,mass\n1,2,3,0.5\n4,5,6,0.7\n")
    >>> done = zvl.ingest("points.csv", "points.zarrvectors", unit="mm")
    >>> done["vertex_count"], zvl.open_zv("points.zarrvectors")[0].attribute_names
    (2, ('mass',))
    """
    axes = re.split(r"\s*,\s*", axes) if isinstance(axes, str) and "," in axes else axes
    if not isinstance(axes, Iterable | None):
        raise SelectionError(f"axes must be names of columns, found {axes!r}")
    columns = re.split(r"\s*,\s*", columns) if isinstance(columns, str) else columns
    asked = LoadOptions(
        axes=None if axes is None else tuple(map(str, axes)),
        columns=None if columns is None else tuple(columns),
        object_ids=object_ids,
        reference=None if like is None and reference is None else Path(like or reference).expanduser(),
        triangulate=triangulate,
    )
    paths = found_files(files, format)
    with Joined(several=len(paths) > 1) as joined:
        for path, name in zip(paths, names_of(paths), strict=True):
            joined.add(load(path, format, asked), name)
        loaded = joined.result()
        options: dict[str, Any] = {"chunk_shape": chunk_shape, "bin_shape": bin_shape, "axes": axes, "unit": unit}
        place: dict[str, Any] = {"backend": backend, "storage_options": {**(storage_options or {}), **backend_kwargs}}
        try:
            done = write_loaded(loaded, url, **options, mode="w" if overwrite else "w-", **place)
        except SelectionError as error:  # names of what most of the files hold
            error.add_note(
                f"of {paths[0]}" + (f" and {counted(len(paths) - 1, 'more file')}" if len(paths) > 1 else "")
            )
            raise
        except StoreError as error:
            if "mode='w'" not in error.message:
                raise
            raise StoreError(error.message.replace("mode='w'", "overwrite=True"), where=error.where) from error
    return {**done, "files": [str(path) for path in paths], "left_out": list(loaded.left_out)}


def write_loaded(
    loaded: Loaded,
    url: StorePath,
    *,
    chunk_shape: Lengths | None = None,
    bin_shape: Lengths | None = None,
    axes: Sequence[str] | None = None,
    unit: str | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Write the contents of files as a store; parameters as for `ingest`."""
    loaded, renamed = _storable(loaded)
    count, ndim = loaded.positions.shape
    given: dict[str, Any] = {"axes": axes or loaded.axes, "units": unit or loaded.unit, "crs": loaded.crs, **options}
    given["headers"] = dict(loaded.header) or None
    if not count:
        if loaded.offsets is None:
            raise SelectionError("there are no vertices in the file")
        given |= {"bounds": (np.zeros(ndim), np.zeros(ndim)), "dtype": loaded.positions.dtype}
    if chunk_shape is None:
        bins = None if bin_shape is None else parse_shape(bin_shape, ndim, "bin_shape").tolist()
        chunk_shape = suggest_chunk_shape(loaded.positions, bin_shape=bins) if count else 1.0
    if bin_shape is None and count:
        bin_shape = suggest_bin_shape(loaded.positions, chunk_shape)
    given |= {"chunk_shape": chunk_shape, "bin_shape": bin_shape}
    given["aggregate"] = {name: "mean" for name in sorted(loaded.means) if name in loaded.attributes}
    if loaded.object_ids is not None or loaded.links is not None:
        tables = {"object_attributes": loaded.object_attributes, "groups": loaded.groups or None}
        given |= {**tables, "group_attributes": loaded.group_attributes or None}
    return {"kind": loaded.kind, "vertex_count": count, **_write(loaded, url, given), "renamed": renamed}


def _storable(loaded: Loaded) -> tuple[Loaded, dict[str, str]]:
    """Contents with names that a store can have, and the names that were changed for this."""
    changed: dict[str, Any] = {}
    renamed: dict[str, str] = {}
    for part in ("attributes", "link_attributes", "object_attributes", "group_attributes"):
        tables = getattr(loaded, part)
        names = storable_names(tables)
        changed[part] = {names[name]: values for name, values in tables.items()}
        renamed |= {name: text for name, text in names.items() if text != name}
    means = frozenset(renamed.get(name, name) for name in loaded.means)
    return replace(loaded, means=means, **changed), renamed


def _write(loaded: Loaded, url: Any, given: dict[str, Any]) -> dict[str, Any]:
    done: dict[str, Any]
    positions = loaded.positions
    if loaded.offsets is not None:
        kind = "streamline" if loaded.kind == "streamlines" else "polyline"
        return dict(write_polylines(url, geometry_type=kind, **_paths(loaded), **given))  # type: ignore[arg-type]
    given |= {"vertex_attributes": loaded.attributes, "object_ids": loaded.object_ids}
    links = loaded.link_attributes or None
    match loaded.kind:
        case "points":
            done = write_points(url, positions, **given)
        case "mesh":
            done = write_mesh(url, positions, loaded.faces, link_attributes=links, **given)
        case _:
            kind = "skeleton" if loaded.kind == "skeleton" else "graph"
            done = write_graph(url, positions, loaded.edges, kind=kind, link_attributes=links, **given)  # type: ignore[arg-type]
    return done


def _paths(loaded: Loaded) -> dict[str, Any]:
    """Paths as `write_polylines` takes them: all at once, or an iterator of blocks."""
    if not dask.is_dask_collection(loaded.positions):
        attributes = dict(loaded.attributes) or None
        return {
            "polylines": (loaded.positions, loaded.offsets),
            "vertex_attributes": attributes,
            "object_ids": loaded.object_ids,
        }
    return {"polylines": _blocks(loaded), "object_ids": loaded.object_ids}


def _blocks(loaded: Loaded) -> Iterator[dict[str, Any]]:
    """Blocks of paths, each of whole ones."""
    starts = np.searchsorted(loaded.offsets, np.cumsum([0, *loaded.positions.chunks[0]]))
    starts[-1] = len(loaded.offsets) - 1  # include paths without vertices at the end
    for number, (start, stop) in enumerate(pairwise(starts)):
        parts = [array.blocks[number] for array in (loaded.positions, *loaded.attributes.values())]
        positions, *values = dask.compute(*parts)
        offsets = loaded.offsets[start : stop + 1] - loaded.offsets[start]
        yield {
            "polylines": (positions, offsets),
            "vertex_attributes": dict(zip(loaded.attributes, values, strict=True)),
        }


def write_file(
    level: "ZVLevel",
    path: FilePath,
    format: str | None,  # noqa: A002
    attributes: Sequence[str] | None,
    *,
    like: Any,
    reference: Any,
    overwrite: bool,
    **options: Any,
) -> dict[str, Any]:
    """Write a level or a selection to a file; parameters as for `ZVLevel.to_file`."""
    if not isinstance(path, str | os.PathLike):
        raise SelectionError(f"path must be the path of a file, found {type(path).__name__}")
    target = Path(path).expanduser()
    if "://" in str(path):
        raise SelectionError(f"a file is written to disk, found a URL: {str(path)!r}")
    one = format_of(target, format, "writes")
    if not target.parent.is_dir():
        raise SelectionError(f"no folder {str(target.parent)!r}")
    if target.exists() and not overwrite:
        raise SelectionError(f"{str(target)!r} already exists: overwrite=True (--overwrite) replaces it")
    if like is not None or reference is not None:
        check_has_space(one)
    out = Outgoing(
        level=level,
        names=attributes,
        unit=one.unit,
        **options,
        like=None if like is None else Path(like).expanduser(),
        reference=None if reference is None else Path(reference).expanduser(),
    )
    count = save(out, target, one, format)
    return {
        "path": str(target),
        "format": one.name,
        "level": level.index,
        "vertices": count,
        "bytes": target.stat().st_size,
        "left_out": out.left_out,
    }
