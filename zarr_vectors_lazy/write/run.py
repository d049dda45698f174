"""From checked arguments to a written store, and what the writers return."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import dask
import numpy as np

from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.model.writing import LevelRecord, StoreDraft
from zarr_vectors_lazy.plan.blocks import bins_along
from zarr_vectors_lazy.storage.resolve import resolve
from zarr_vectors_lazy.types import Floats, IntArray
from zarr_vectors_lazy.write import arguments as args
from zarr_vectors_lazy.write.job import Column, Kind, ObjectTable, Prepared, Values, WriteJob
from zarr_vectors_lazy.write.part import THREADS, Summary, write_store
from zarr_vectors_lazy.write.session import Mode, check_mode, copied_headers

UNSEEN_BINS = 8  # of a chunk along an axis, for viewers, where no positions are in memory that tell how many are of use
CONVENTIONS = {
    "points": "implicit_sequential",
    "paths": "implicit_sequential",
    "objects": "explicit",
    "trees": "implicit_sequential_with_branches",
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WriteOptions:
    """What all writers take, as given."""

    chunk_shape: Any
    bin_shape: Any
    bounds: Any
    axes: Any
    units: Any
    crs: Any
    dtype: Any
    aggregate: Any
    headers: Any
    compressor: Any
    checksum: bool
    shard_shape: Any
    profile: Any
    mode: Mode
    compute: bool
    progress: bool
    backend: str | None
    storage_options: Mapping[str, Any] | None
    backend_kwargs: Mapping[str, Any]

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> "WriteOptions":
        """Pick them from a writer's arguments."""
        return cls(**{field.name: arguments[field.name] for field in fields(cls)})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tables:
    """What is given for all objects at once, in memory.

    Parameters
    ----------
    ids
        (O,) of paths, in the order of the input, or of the runs of statistics; None: as the blocks say.
    attributes, groups, group_attributes
        As the writers take them.
    """

    ids: Any = None
    attributes: Mapping[str, Any] | None = None
    groups: Mapping[Any, Any] | None = None
    group_attributes: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> "Tables":
        """Pick them from a writer's arguments; ids are those of objects that it makes itself."""
        names = {"attributes": "object_attributes", "groups": "groups", "group_attributes": "group_attributes"}
        return cls(**{name: arguments[given] for name, given in names.items()})

    def refuse(self) -> None:
        """Raise SelectionError if there are any: for rows without objects."""
        args.refuse_tables(self.attributes, self.groups, self.group_attributes)

    def objects(self, rows: IntArray, ids: IntArray | None = None) -> ObjectTable:
        """Objects from the id of each row, or from the number of each row's object and the id of each number.

        Raises
        ------
        SelectionError
            If ids are there twice, attributes have another number of rows, or a group names what is not there.
        """
        if ids is None:
            known, owners = np.unique(rows, return_inverse=True)
            order = np.arange(len(known))
        else:
            order = np.argsort(ids, kind="stable")
            known = ids[order]
            if len(known) > 1 and (known[1:] == known[:-1]).any():
                raise SelectionError(f"object_ids has {int(known[1:][known[1:] == known[:-1]][0])} twice")
            rank = np.empty(len(ids), np.int64)
            rank[order] = np.arange(len(ids))
            owners = rank[rows]
        members, names = args.parse_groups(self.groups, known)
        dense = args.parse_dense(self.attributes, len(known), "object_attributes", known if ids is None else ids)
        return ObjectTable(
            owners=owners.reshape(-1),
            ids=known.astype(np.int64),
            attributes={name: values[order] for name, values in dense.items()},
            groups=members,
            group_names=names,
            group_attributes=args.parse_dense(
                self.group_attributes, len(members), "group_attributes", range(len(members)) if names is None else names
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shape:
    """The geometry of a job.

    Parameters
    ----------
    geometry
        As the format names it.
    kind
        How rows make fragments.
    name
        Of the argument that holds the positions, for errors.
    """

    geometry: str
    kind: Kind
    name: str = "positions"


def make_job(
    path: Any,
    positions: Any,
    shape: Shape,
    options: WriteOptions,
    *,
    columns: Mapping[str, Column],
    objects: ObjectTable | None = None,
    links: IntArray | None = None,
    link_values: Mapping[str, Values] | None = None,
    bounds: tuple[Floats, Floats] | None = None,
) -> WriteJob:
    """Check what all writers take, and join it with what one of them was given.

    Parameters
    ----------
    bounds
        Of the store; None: those of the options, or of the positions.

    Raises
    ------
    SelectionError
        If an argument is wrong.
    StoreError
        If the path or a backend option is.
    """
    check_mode(options.mode)
    array, dtype = args.parse_positions(positions, options.dtype, shape.name)
    ndim = array.shape[1]
    chunk_shape = args.parse_shape(options.chunk_shape, ndim, "chunk_shape")
    bin_shape = args.parse_bins(options.bin_shape, chunk_shape)
    bounds = bounds or args.parse_bounds(options.bounds, array, dtype, chunk_shape, name=shape.name, threads=THREADS)
    if options.profile is not None and options.bin_shape is None:
        bin_shape = chunk_shape / (bins_along(array, chunk_shape) if len(array) else UNSEEN_BINS)
    if shape.kind == "points":
        args.check_bin_count(bin_shape, chunk_shape)
    axes, units = args.parse_axes(options.axes, options.units, ndim)
    args.check_json(options.crs, "crs")
    values, fills = args.fill_numbers(link_values or {})
    spec = resolve(
        path, backend=options.backend, storage_options=options.storage_options, **dict(options.backend_kwargs)
    )
    store = StoreDraft(
        chunk_shape=chunk_shape,
        bin_shape=bin_shape,
        bounds=bounds,
        geometry_types=(shape.geometry,),
        links_convention=CONVENTIONS[shape.kind],
        axes=axes,
        units=units,
        crs=options.crs,
        bins_apart=shape.kind != "points",
        name=spec.url.rpartition("/")[2],
    )
    return WriteJob(
        spec=spec,
        mode=options.mode,
        store=store,
        encoding=args.parse_encoding(options.compressor, options.checksum, options.shard_shape, ndim, options.profile),
        kind=shape.kind,
        positions=array,
        dtype=dtype,
        attributes=dict(columns),
        objects=objects,
        links=links,
        link_values=values,
        link_fills=fills,
        aggregate=args.parse_rules(options.aggregate, columns),
        copied=copied_headers(args.parse_headers(options.headers), spec),
        progress=options.progress,
    )


def run_job(job: WriteJob, summarise: Summary, options: WriteOptions) -> Any:
    """Write, and return the summary; with ``compute=False`` a Delayed that does."""
    write = partial(write_store, job, summarise)
    return write() if options.compute else dask.delayed(write, pure=False, name="write_store")()


# What writers return, with the keys of the reference package.


def of_points(prepared: Prepared, record: LevelRecord) -> dict[str, Any]:
    """Summary of `write_points`."""
    store, objects = prepared.job.store, prepared.job.objects
    return {
        "vertex_count": record.vertex_count,
        "chunk_count": len(record.coords),
        "object_count": 0 if objects is None else len(objects.ids),
        "group_count": 0 if objects is None else len(objects.groups),
        "bins_per_chunk": tuple(np.rint(store.chunk_shape / store.bin_shape).astype(int).tolist()),
    }


def of_lines(prepared: Prepared, record: LevelRecord) -> dict[str, Any]:
    """Summary of `write_lines`."""
    lines = 0 if prepared.job.objects is None else len(prepared.job.objects.ids)
    return {"line_count": lines, "chunk_count": len(record.coords), "cross_chunk_count": sum(_links(prepared))}


def of_polylines(prepared: Prepared, record: LevelRecord) -> dict[str, Any]:
    """Summary of `write_polylines`."""
    objects = prepared.job.objects
    return {
        "polyline_count": 0 if objects is None else len(objects.ids),
        "vertex_count": record.vertex_count,
        "chunk_count": len(record.coords),
        "cross_chunk_link_count": sum(_links(prepared)),
        "group_count": 0 if objects is None else len(objects.groups),
    }


def of_graph(prepared: Prepared, record: LevelRecord) -> dict[str, Any]:
    """Summary of `write_graph`."""
    job = prepared.job
    within, across = _links(prepared)
    return {
        "node_count": record.vertex_count,
        "edge_count": prepared.given_links,
        "chunk_count": len(record.coords),
        "intra_edge_count": within,
        "cross_edge_count": across,
        "object_count": 0 if job.objects is None else len(job.objects.ids),
        "kind": job.store.geometry_types[0],
    }


def of_mesh(prepared: Prepared, record: LevelRecord) -> dict[str, Any]:
    """Summary of `write_mesh`."""
    within, across = _links(prepared)
    return {
        "vertex_count": record.vertex_count,
        "face_count": within + across,
        "chunk_count": len(record.coords),
        "intra_face_count": within,
        "cross_face_count": across,
        "encoding": "raw",
    }


def _links(prepared: Prepared) -> tuple[int, int]:
    """Stored records inside chunks, and across."""
    return prepared.link_counts or (0, 0)
