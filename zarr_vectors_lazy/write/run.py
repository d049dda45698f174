"""From checked arguments to a written store, in memory or out of core, and what the writers return."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import dask
import dask.array as da
import numpy as np
from dask.delayed import Delayed
from dask.utils import parse_bytes

from zarr_vectors_lazy.errors import SelectionError, counted
from zarr_vectors_lazy.format.vectors import MISSING, code_dtype, taken
from zarr_vectors_lazy.kernels.routing import PLACE, RowOwners
from zarr_vectors_lazy.kernels.rows import link_dtype
from zarr_vectors_lazy.model.arrays import Dictionary, integers_with_missing
from zarr_vectors_lazy.model.writing import LevelRecord, StoreDraft
from zarr_vectors_lazy.plan.blocks import bins_along
from zarr_vectors_lazy.progress import computing
from zarr_vectors_lazy.settings import setting
from zarr_vectors_lazy.storage.resolve import resolve
from zarr_vectors_lazy.types import Floats, IntArray
from zarr_vectors_lazy.write import arguments as args
from zarr_vectors_lazy.write.exchange import (
    Blocks,
    Linking,
    RecordExchange,
    Trees,
    Writing,
    linked_write,
    optimized,
    rows_write,
    tree_write,
)
from zarr_vectors_lazy.write.job import Column, Kind, ObjectTable, Prepared, Values, WriteJob, check_cells
from zarr_vectors_lazy.write.links import (
    LinkBlock,
    LinkBlockReader,
    LinkReader,
    Valued,
    link_fills,
    link_layout,
    tree_dtype,
)
from zarr_vectors_lazy.write.part import THREADS, Summary, write_store
from zarr_vectors_lazy.write.records import Block, BlockReader, BlockStatistics, Reader, is_coded, layout
from zarr_vectors_lazy.write.scratch import Scratch
from zarr_vectors_lazy.write.session import Copied, Mode, check_mode, check_place, copied_headers

UNSEEN_BINS = 8  # chunk shape in bins along an axis, for viewers, if there are no positions in memory to choose bins by
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
    bounds: Any = None
    axes: Any
    units: Any
    crs: Any
    dtype: Any = None
    aggregate: Any = None
    headers: Any = None
    compressor: Any
    checksum: bool
    shard_shape: Any
    profile: Any = None
    mode: Mode = "w-"
    compute: bool
    progress: bool = False
    backend: str | None = None
    storage_options: Mapping[str, Any] | None = None
    backend_kwargs: Mapping[str, Any]

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> "WriteOptions":
        """Pick them from a writer's arguments."""
        return cls(**{field.name: arguments[field.name] for field in fields(cls)})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tables:
    """What is given about all objects together, in memory.

    Parameters
    ----------
    ids
        (O,) ids of paths, in the order of the input, or of the runs of statistics; None to take those of the blocks.
    attributes, groups, group_attributes
        As the writers take them.
    """

    ids: Any = None
    attributes: Mapping[str, Any] | None = None
    groups: Mapping[Any, Any] | None = None
    group_attributes: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> "Tables":
        """Pick them from a writer's arguments; ids are those of objects that the writer itself defines."""
        names = {"attributes": "object_attributes", "groups": "groups", "group_attributes": "group_attributes"}
        return cls(**{name: arguments[given] for name, given in names.items()})

    def refuse(self) -> None:
        """Raise SelectionError if there are any, for rows without objects."""
        args.refuse_tables(self.attributes, self.groups, self.group_attributes)

    def objects(self, rows: IntArray, ids: IntArray | None = None) -> ObjectTable:
        """Objects from the id of each row, or from the number of each row's object and the id of each number.

        Raises
        ------
        SelectionError
            If ids occur twice, attributes have the wrong number of rows, or a group names an object that does not
            exist.
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
        Its name in the format.
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
    """Check what all writers take, and combine it with the arguments of one of them.

    Parameters
    ----------
    bounds
        Bounds of the store; None for those of the options, or of the positions.

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


# What writers return, by the keys of the reference package.


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


MOST_GUESSED = 1024  # most tasks that exchange records; each has runs of every other


TablesOf = Tables | Callable[[BlockStatistics], Tables]
"""Tables, or a function that makes them once all blocks were seen."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Source:
    """Blocks that Dask computes, and how they are read.

    Parameters
    ----------
    blocks
        Keys of the blocks.
    read
        Makes a `Block` of one.
    sample
        A block without rows, or the first one; all have its dtypes.
    nbytes
        Of all, NaN where it is not known.
    """

    blocks: Blocks
    read: Reader
    sample: Block
    nbytes: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LinkSource:
    """Links in blocks that Dask computes, and how they are read.

    Parameters
    ----------
    keys
        Of the parts of each block.
    read
        Makes a `LinkBlock` of one.
    name
        Of the argument that holds them, for errors.
    sample
        A block without links; all have its dtypes.
    nbytes
        Of all, NaN where it is not known.
    apart
        Whether links name a block and a row in it, rather than rows counted over all blocks.
    sizes
        (B,) rows of each block of rows, if they are known.
    values
        Links with the values of some of these, if values do not come with them.
    """

    keys: Sequence[tuple[Any, ...]]
    read: LinkReader
    name: str
    sample: LinkBlock
    nbytes: float
    apart: bool = False
    sizes: IntArray | None = None
    values: "LinkSource | None" = None


def make_linking(source: Source, links: LinkSource, job: WriteJob) -> Linking:
    """How links are written: as many owners of rows as places and links need, and as many parts as links need."""
    rows = source.nbytes / layout(source.sample).itemsize
    blocks = max(len(source.blocks.keys), len(links.keys))
    trees = job.kind == "trees"
    count = max(tasks_for(nbytes, blocks) for nbytes in (rows * PLACE.itemsize, links.nbytes))  # either may be NaN
    row_owners = RowOwners(count, links.apart or trees)
    reader = _link_reader(links, row_owners)
    ndim = job.positions.shape[1]
    return Linking(
        reader=reader,
        keys=links.keys,
        parts=tasks_for(links.nbytes, blocks),
        trees=make_trees(links, ndim, row_owners, tasks_for(rows * tree_dtype(ndim).itemsize, blocks))
        if trees
        else None,
    )


def make_trees(links: LinkSource, ndim: int, row_owners: RowOwners, groups: int) -> Trees:
    """How nodes are put in order."""
    firsts = None if links.apart or links.sizes is None else np.cumsum(links.sizes) - links.sizes
    if links.values is None:
        return Trees(ndim=ndim, groups=groups, firsts=firsts)
    values = links.values.sample.values
    columns = {name: (array.dtype, array.shape[1:]) for name, array in values.items()}
    valued = Valued(reader=_link_reader(links.values, row_owners), links=link_dtype(2, columns, gaps=True))
    return Trees(ndim=ndim, groups=groups, firsts=firsts, valued=valued, keys=links.values.keys)


def _link_reader(links: LinkSource, row_owners: RowOwners) -> LinkBlockReader:
    dtype = link_layout(links.sample)
    fills = link_fills(links.sample.values)
    return LinkBlockReader(
        read=links.read, name=links.name, dtype=dtype, row_owners=row_owners, counted=not links.apart, fills=fills
    )


def tasks_for(nbytes: float, blocks: int) -> int:
    """Number of tasks for so many bytes; if that is not known, for the number of blocks."""
    return min(blocks, MOST_GUESSED) if np.isnan(nbytes) else int(nbytes // part_nbytes()) + 1


def write_source(
    path: Any,
    source: Source,
    shape: Shape,
    options: WriteOptions,
    tables: TablesOf,
    *,
    summarise: Summary,
    links: LinkSource | None = None,
    copied: Copied | None = None,
) -> Any:
    """Write, and return the summary; with ``compute=False`` a Delayed that does.

    Parameters
    ----------
    links
        Links between the rows, if the geometry has any; ``source.blocks`` has their graphs.
    copied
        What the store gets, in addition to rows, from one that it is a copy of.

    Raises
    ------
    SelectionError, StoreError
        As for the writers.
    """
    job = template(path, source.sample, shape, options)
    job = replace(job, copied=copied or job.copied)
    if links is not None:
        values = (links if links.values is None else links.values).sample.values
        plain = {name: np.asarray(array) for name, array in values.items()}
        job = replace(job, links=links.sample.links, link_values=plain)
    check_place(job.spec, job.mode)
    blocks = len(source.blocks.keys)
    writing = Writing(
        reader=make_reader(job, shape, source.sample, source.read),
        finalise=partial(finalise, job, shape, options.bounds, tables),
        summarise=summarise,
        paths=shape.kind == "paths",
        parts=blocks if np.isnan(source.nbytes) else int(source.nbytes // part_nbytes()) + 1,
    )
    scratch = Scratch.of(job.spec, writing.write_id)
    exchange = RecordExchange(writing, source.blocks, scratch)
    delayed = rows_write(exchange) if links is None else _linked(exchange, make_linking(source, links, job))
    if not options.compute:
        return delayed
    with scratch, computing("writing", shown=options.progress):
        return dask.compute(delayed)[0]


def _linked(exchange: RecordExchange, linking: Linking) -> Delayed:
    if linking.trees is None:
        return linked_write(linking, exchange)
    return tree_write(linking, linking.trees, exchange)


def make_reader(job: WriteJob, shape: Shape, sample: Block, read: Reader) -> BlockReader:
    """How the blocks of a job are read."""
    return BlockReader(read=read, name=shape.name, chunk_shape=job.store.chunk_shape, dtype=layout(sample))


def part_nbytes() -> int:
    """Bytes of rows that a task writes."""
    return max(1, int(parse_bytes(setting("write-bytes"))))


def template(path: Any, sample: Block, shape: Shape, options: WriteOptions) -> WriteJob:
    """Job without rows; checks all arguments that do not depend on them."""
    ndim = sample.positions.shape[1]
    none = (np.zeros(ndim), np.zeros(ndim)) if options.bounds is None else None
    columns = {name: replace(column, values=column.values[:0]) for name, column in sample.attributes.items()}
    stated = replace(options, dtype=sample.dtype)
    return make_job(path, sample.positions[:0], shape, stated, columns=columns, bounds=none)


def finalise(
    job: WriteJob, shape: Shape, bounds: Any, tables: TablesOf, statistics: BlockStatistics
) -> tuple[WriteJob, IntArray | None]:
    """Complete a job without rows from what all blocks say; also returns object ids of paths, None if they are numbers.

    Raises
    ------
    SelectionError
        If bounds leave rows out, if objects and their tables do not match, or if a cell has 4 GiB or more.
    """
    tables = tables(statistics) if callable(tables) else tables
    edges = job.store.chunk_shape
    corners = args.bounds_of_store(bounds, (statistics.lo, statistics.hi), statistics.exact, edges, name=shape.name)
    attributes = {name: _with_categories(name, column, statistics) for name, column in job.attributes.items()}
    paths = job.kind == "paths"
    ids = _path_ids(tables, statistics) if paths else None
    done = replace(
        job,
        store=replace(job.store, bounds=corners),
        attributes=attributes,
        objects=None if job.kind == "points" else _objects(tables, statistics, ids, paths=paths),
        left=statistics.left,
    )
    check_cells(done, statistics.coords, statistics.counts)
    return done, ids


def _with_categories(name: str, column: Column, statistics: BlockStatistics) -> Column:
    if not is_coded(column):
        dtype = column.values.dtype
        if column.whole or name not in statistics.missing:
            return column
        if name in statistics.taken:
            raise SelectionError(f"vertex_attributes[{name!r}]: {taken(dtype)}")
        return Column(column.values, integers_with_missing(dtype))
    known = np.unique(np.concatenate([own for _, own in sorted(statistics.categories[name].items())]))
    missing = name in statistics.missing
    values = np.empty(0, code_dtype(len(known), missing=missing))
    return Column(values, Dictionary(categories=known, fill=MISSING) if missing else Dictionary(categories=known))


def _path_ids(tables: Tables, statistics: BlockStatistics) -> IntArray | None:
    paths = _count_paths(statistics)
    if len(statistics.owners) not in (0, paths):
        raise SelectionError(
            f"object_ids must come with all blocks or with none: {len(statistics.owners)} for {paths} paths"
        )
    if len(statistics.owners):
        return statistics.owners
    return None if tables.ids is None else args.parse_ids(tables.ids, paths)


def _count_paths(statistics: BlockStatistics) -> int:
    return sum(statistics.paths.values()) + len(statistics.runs)


def _objects(tables: Tables, statistics: BlockStatistics, ids: IntArray | None, *, paths: bool) -> ObjectTable:
    if paths:
        return tables.objects(np.empty(0, np.int64), args.parse_path_ids(ids, _count_paths(statistics)))
    return tables.objects(statistics.owners)


def is_lazy(*values: Any) -> bool:
    """Whether any argument, or any value of a mapping among them, is a Dask collection."""
    inner = [item for value in values for item in (value.values() if isinstance(value, Mapping) else [value])]
    return any(dask.is_dask_collection(item) for item in inner)


def array_source(arrays: Mapping[str, Any], read: Callable[..., Block]) -> Source:
    """Blocks of Dask arrays with the same blocks along their first axis.

    Parameters
    ----------
    arrays
        By name of the argument; each is a part of every block, in this order, and gets the blocks of the first.

    Raises
    ------
    SelectionError
        If one is not a Dask array, or has other blocks of unknown sizes.
    """
    return source_of(optimized(*aligned(arrays)), read)


def source_of(computed: Sequence[Any], read: Callable[..., Block]) -> Source:
    """Blocks of optimized arrays with the same blocks."""
    sample = read(*empty_rows(computed))
    nbytes = float(layout(sample).itemsize * computed[0].shape[0])
    return Source(blocks=Blocks(block_keys(computed), computed), read=read, sample=sample, nbytes=nbytes)


def block_keys(computed: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Keys of the parts of each block of arrays with the same blocks."""
    return [
        tuple((array.name, block, *(0,) * (array.ndim - 1)) for array in computed)
        for block in range(computed[0].numblocks[0])
    ]


def empty_rows(computed: Sequence[Any]) -> list[Any]:
    """Return arrays without rows, masked if values may be missing."""
    empty = [(np.empty((0, *array.shape[1:]), array.dtype), array) for array in computed]
    return [np.ma.asarray(none) if isinstance(array._meta, np.ma.MaskedArray) else none for none, array in empty]


def aligned(arrays: Mapping[str, Any]) -> list[Any]:
    """Arrays rechunked like the first one; raises SelectionError like `array_source`."""
    rows = next(iter(arrays))
    _check_array(rows, arrays[rows], rows)
    return [_aligned(name, array, arrays[rows], rows) for name, array in arrays.items()]


def _check_array(name: str, array: Any, rows: str) -> None:
    if not (isinstance(array, da.Array) and array.ndim):
        raise SelectionError(
            f"{name} must be a Dask array, found {type(array).__name__}: if one argument is a Dask collection, all "
            f"that belong to {rows} must be; dask.array.from_array turns an array in memory into one"
        )
    if any(np.isnan(edge) for edge in array.shape[1:]):
        raise SelectionError(f"{name} must have rows of known shape, found {array.shape}")


def _aligned(name: str, array: Any, like: Any, rows: str) -> Any:
    _check_array(name, array, rows)
    if array.chunks[0] != like.chunks[0]:
        unknown = np.isnan([*array.chunks[0], *like.chunks[0]]).any()
        if unknown and array.numblocks[0] != like.numblocks[0]:
            raise SelectionError(
                f"{name} has {counted(array.numblocks[0], 'block')} and {rows} {like.numblocks[0]}, of unknown sizes: "
                "they must be cut alike"
            )
        if not unknown and array.shape[0] != like.shape[0]:
            raise SelectionError(
                f"{name} must have {counted(like.shape[0], 'row')} like {rows}, found {array.shape[0]}"
            )
        if not unknown:
            array = array.rechunk({0: like.chunks[0]})
    whole = all(len(edges) == 1 for edges in array.chunks[1:])
    return array if whole else array.rechunk(dict.fromkeys(range(1, array.ndim), -1))
