"""Files of the field into stores and out of them: ``ingest``, and what `ZVLevel.to_file` does."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import numpy as np

from zarr_vectors_lazy.api.keywords import suggesting
from zarr_vectors_lazy.api.shapes import suggest_bin_shape, suggest_chunk_shape
from zarr_vectors_lazy.api.write.args import parse_shape, storable_names
from zarr_vectors_lazy.api.write.linked import write_graph, write_mesh
from zarr_vectors_lazy.api.write.writers import write_points, write_polylines
from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.files.formats import format_of, found_files, load, save
from zarr_vectors_lazy.files.loaded import Asked, Joined, Loaded
from zarr_vectors_lazy.files.outgoing import Outgoing

if TYPE_CHECKING:
    from zarr_vectors_lazy.api.level import ZVLevel


@suggesting
def ingest(
    files: Any,
    url: Any,
    *,
    format: str | None = None,  # noqa: A002  as NumPy's and pandas' own
    chunk_shape: Any = None,
    bin_shape: Any = None,
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
    """Write files of the field as a new store.

    Several files become one store, and each an object that keeps its name as the object attribute ``name``; of
    streamlines, and of files that tell objects themselves, each becomes a group of that name. Files are read one after
    another, and what exceeds 64 MiB waits on disk: memory does not follow them.

    Parameters
    ----------
    files
        A path, a folder, a pattern such as ``"neurons/*.swc"``, or several of these.
    url
        URL or path of the new store.
    format
        Name or suffix of the format; None: as the suffix of each file says.
    chunk_shape, bin_shape
        (D,) edge lengths, or one for all axes; None: suggested.
    axes
        Of tables the columns that are positions; else the names of the axes. None: x, y, z, w, in capitals too.
    unit
        Of the positions, where the file does not tell it.
    columns
        Of tables and point clouds the attributes wanted; None: all.
    object_ids
        Of tables the column that says the object of each row; None: ``object_id``, where it is there.
    like, reference
        A tractogram, or an image, that says the space of streamlines.
    triangulate
        Make triangles of faces that have several numbers of corners, or more than three.
    overwrite
        Replace what is at ``url``, if it is a Zarr Vectors store.
    backend, storage_options, **backend_kwargs
        As `open_zv`.

    Returns
    -------
    dict
        What the writer of the geometry returns, with ``kind``, ``vertex_count``, ``files`` and ``left_out``: what the
        files hold that the store has no place for; ``renamed``: names that a store cannot have, and those instead.

    Raises
    ------
    SelectionError
        If there is no such file or format, files are of several kinds, or an argument is wrong.
    FileError
        If a file is damaged, empty, or not what its suffix says.
    StoreError
        If something is at ``url`` that may not be replaced, or a request fails.
    """
    asked = Asked(
        axes=None if axes is None else tuple(axes),
        columns=None if columns is None else tuple(columns),
        object_ids=object_ids,
        reference=None if like is None and reference is None else Path(like or reference).expanduser(),
        triangulate=triangulate,
    )
    paths = found_files(files, format)
    with Joined(several=len(paths) > 1) as joined:
        for path in paths:
            joined.add(load(path, format, asked), path.name)
        loaded = joined.result()
        options = {"chunk_shape": chunk_shape, "bin_shape": bin_shape, "axes": axes, "unit": unit}
        place = {"backend": backend, "storage_options": storage_options, **backend_kwargs}
        try:
            done = write_loaded(loaded, url, **options, mode="w" if overwrite else "w-", **place)
        except SelectionError as error:  # of what the files hold, most of them
            error.add_note(f"of {paths[0]}" + (f" and {len(paths) - 1} more files" if len(paths) > 1 else ""))
            raise
    return {**done, "files": [str(path) for path in paths], "left_out": list(loaded.left_out)}


def write_loaded(
    loaded: Loaded,
    url: Any,
    *,
    chunk_shape: Any = None,
    bin_shape: Any = None,
    axes: Sequence[str] | None = None,
    unit: str | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Write what files hold as a store; parameters as for `ingest`."""
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
    """Contents whose names a store can have, and the names that those had that are others now."""
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
    """What `write_polylines` takes them as: whole, or an iterator of blocks."""
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
    starts[-1] = len(loaded.offsets) - 1  # paths without vertices at the end too
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
    path: Any,
    *,
    format: str | None = None,  # noqa: A002
    attributes: Sequence[str] | None = None,
    world: bool = True,
    triangulate: bool = False,
    like: Any = None,
    reference: Any = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write a level or a selection to a file; parameters as for `ZVLevel.to_file`."""
    target = Path(path).expanduser()
    one = format_of(target, format, "writes")
    if not target.parent.is_dir():
        raise SelectionError(f"no folder {str(target.parent)!r}")
    if target.exists() and not overwrite:
        raise SelectionError(f"{str(target)!r} is there: overwrite=True (--overwrite) replaces it")
    out = Outgoing(
        level=level,
        names=attributes,
        world=world,
        unit=one.unit,
        triangulate=triangulate,
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
