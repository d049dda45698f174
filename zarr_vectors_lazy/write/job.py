"""The checked arguments of a writer, and what follows from them before the first byte is put."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, TypeAlias

import numpy as np

from zarr_vectors_lazy.errors import SelectionError
from zarr_vectors_lazy.format.codecs import MAX_PAYLOAD_NBYTES
from zarr_vectors_lazy.format.registry import CURRENT
from zarr_vectors_lazy.format.v09.writing import PlacedLinks, place_links
from zarr_vectors_lazy.kernels import routing
from zarr_vectors_lazy.kernels.bins import Rule
from zarr_vectors_lazy.kernels.routing import Arranged, FragmentTable, Routed, bins_in_chunk, route, stored, take
from zarr_vectors_lazy.kernels.trees import depth_first
from zarr_vectors_lazy.model.arrays import Dictionary
from zarr_vectors_lazy.model.writing import ArrayDraft, Encoding, Grid, StoreDraft
from zarr_vectors_lazy.storage.spec import StoreSpec
from zarr_vectors_lazy.types import BoolArray, ChunkCoords, IntArray, Vertices
from zarr_vectors_lazy.write.session import Copied, Mode

Values: TypeAlias = np.ndarray[Any, Any]
Kind: TypeAlias = Literal["points", "objects", "paths", "trees"]


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """Values of an attribute as they are stored: numbers, or codes of a dictionary.

    Parameters
    ----------
    values
        Rows.
    dictionary
        What the codes stand for.
    whole
        Whether the dictionary is that of the whole store, rather than of one block of its input.
    """

    values: Values
    dictionary: Dictionary | None = None
    whole: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ObjectTable:
    """Objects of a level.

    Parameters
    ----------
    owners
        (N,) number of the object of each row.
    ids
        (O,) id of each object, ascending.
    attributes
        Rows aligned with ``ids``.
    groups, group_names
        Ids of the members by group number, and the groups' names, if they have any.
    group_attributes
        Rows aligned with ``groups``.
    """

    owners: IntArray
    ids: IntArray
    attributes: dict[str, Values] = field(default_factory=dict)
    groups: tuple[IntArray, ...] = ()
    group_names: tuple[str, ...] | None = None
    group_attributes: dict[str, Values] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class WriteJob:
    """A store to be written from arrays in memory or memory-mapped.

    Parameters
    ----------
    spec, mode, store, encoding
        The place, what may be overwritten, the root, and how cells are stored.
    kind
        How rows make fragments: bins, objects, runs of paths, depth-first trees.
    positions, dtype
        (N, D), finite, and the dtype in which they are stored.
    attributes
        Rows aligned with ``positions``.
    objects
        None if there are none.
    links
        (M, L) rows of ``positions``; for trees (M, 2) child and parent; None if the geometry has none.
    link_values
        Rows aligned with ``links``.
    link_fills
        The integer that stands for missing values, for those that may have them.
    aggregate
        How values of some attributes are combined on coarser levels, which is stored with them.
    progress
        Whether to show a bar.
    copied
        What it gets, in addition to rows, from a store that it is a copy of.
    left
        Number of input rows that no path contains.
    owners
        How the objects of fragments are stored, if ``objects`` does not know all of them.
    """

    spec: StoreSpec
    mode: Mode
    store: StoreDraft
    encoding: Encoding
    kind: Kind
    positions: Vertices
    dtype: np.dtype[Any]
    attributes: dict[str, Column] = field(default_factory=dict)
    objects: ObjectTable | None = None
    links: IntArray | None = None
    link_values: dict[str, Values] = field(default_factory=dict)
    link_fills: dict[str, int] = field(default_factory=dict)
    aggregate: dict[str, Rule | None] = field(default_factory=dict)
    progress: bool = False
    copied: Copied | None = None
    left: int = 0
    owners: tuple[ArrayDraft, ...] | None = None

    @property
    def fragment_owners(self) -> tuple[ArrayDraft, ...]:
        """Arrays with the object ids of fragments."""
        if self.owners is not None or self.objects is None:
            return self.owners or ()
        found = CURRENT.fragment_owners(self.objects.attributes)
        more = CURRENT.fragment_rows(self.objects.ids) if self.kind == "trees" else ()
        return (found, *(draft for draft in more if draft.path != found.path))

    @property
    def grid(self) -> Grid:
        """The chunk grid."""
        return Grid.of_bounds(*self.store.bounds, self.store.chunk_shape)

    @property
    def row_nbytes(self) -> int:
        """Stored bytes of a row, without compression."""
        sizes = [column.values.dtype.itemsize * column.values[:1].size for column in self.attributes.values()]
        return int(self.dtype.itemsize * self.positions.shape[1] + sum(sizes))


def check_cells(job: WriteJob, coords: ChunkCoords, counts: IntArray) -> None:
    """Raise SelectionError if a chunk has more rows than the format can store, before anything is put.

    Parameters
    ----------
    coords, counts
        Chunks, and rows of each.
    """
    if not len(counts):
        return
    widths = {"vertices": job.dtype.itemsize * job.positions.shape[1]}
    for name, column in job.attributes.items():
        widths[name] = column.values.dtype.itemsize * int(np.prod(column.values.shape[1:]))
    widest, most = max(widths, key=widths.__getitem__), int(np.argmax(counts))
    nbytes = int(counts[most]) * widths[widest]
    if nbytes > MAX_PAYLOAD_NBYTES:
        raise SelectionError(
            f"chunk {coords[most].tolist()} has {counts[most]} rows, {nbytes} bytes of {widest}: the format ends at "
            "4 GiB; choose a smaller chunk_shape"
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prepared:
    """Rows by chunk, fragments and cells of links of a job; nothing has been put yet.

    Parameters
    ----------
    job, routed
        What to write, and the rows of each chunk.
    chunks
        Rows and fragments of each chunk; None if there are no objects, or if the rows are not here.
    fragments
        Fragments in the order of their objects' manifests; None if there are none, or if they are not here.
    placed, link_rows
        Cells of links, and which of the job's links they hold; None for all, or for others.
    given_links, counted
        Number of given links; and stored records inside chunks and across, if ``placed`` is not here.
    """

    job: WriteJob
    routed: Routed
    chunks: list[Arranged] | None = None
    fragments: FragmentTable | None = None
    placed: PlacedLinks | None = None
    link_rows: IntArray | None = None
    given_links: int = 0
    counted: tuple[int, int] | None = None

    def arranged(self, chunk: int) -> Arranged:
        """Rows and fragments of a chunk."""
        if self.chunks is not None:
            return self.chunks[chunk]
        rows = self.routed.rows(chunk)
        ratio = np.rint(self.job.store.chunk_shape / self.job.store.bin_shape).astype(np.int64)
        if (ratio == 1).all():
            return Arranged(rows, np.asarray([len(rows)], np.int64))
        positions = stored(take(self.job.positions, rows), self.job.dtype)
        bins = bins_in_chunk(positions, self.routed.coords[chunk], self.job.store.bin_shape, ratio)
        return routing.arrange_bins(rows, bins, int(np.prod(ratio)))

    @property
    def link_counts(self) -> tuple[int, int] | None:
        """Stored records inside chunks, and across; None if there is no family of links."""
        return self.counted if self.placed is None else self.placed.counts


def prepare(job: WriteJob, threads: int) -> Prepared:
    """Sort the rows of a job on several threads, cut them into fragments, and place its links."""
    routed = route_rows(job, threads)
    if job.objects is None:
        return Prepared(job=job, routed=routed)
    parents = parents_of(job) if job.kind == "trees" else None
    chunks = arrange(job, routed, None if parents is None else (depth_first(parents), np.asarray(parents < 0)))
    fragments = in_manifest_order(job, routing.fragment_table(chunks))
    prepared = Prepared(job=job, routed=routed, chunks=chunks, fragments=fragments)
    if job.kind == "paths":
        return replace(prepared, placed=bridges(routed, fragments))
    if job.links is None:
        return prepared
    rows = None if parents is None else recorded_links(job, parents, chunks)
    links = job.links if rows is None else job.links[rows]
    places = routing.places_of(routed, chunks)
    placed = place_links(places.chunks[links], places.rows[links], routed.coords)
    return replace(prepared, placed=placed, link_rows=rows, given_links=len(job.links))


def route_rows(job: WriteJob, threads: int) -> Routed:
    """Sort the rows of a job by chunk."""
    grid = job.grid
    origin, shape = np.asarray(grid.origin, np.int64), np.asarray(grid.shape, np.int64)
    return route(job.positions, job.dtype, job.store.chunk_shape, origin, shape, threads=threads)


def arrange(
    job: WriteJob, routed: Routed, order: tuple[IntArray, BoolArray] | None = None, numbers: IntArray | None = None
) -> list[Arranged]:
    """Cut the rows of each chunk into fragments of objects.

    Parameters
    ----------
    order
        For trees: (N,) place of each row in depth-first order, and whether it is a root.
    numbers
        For paths: (N,) numbers by which rows are consecutive; None for the rows themselves.
    """
    assert job.objects is not None
    make = partial(routing.arrange_objects, owners=job.objects.owners)
    if job.kind == "paths":
        make = partial(routing.arrange_runs, owners=job.objects.owners, numbers=numbers)
    elif order is not None:
        make = partial(routing.arrange_trees, owners=job.objects.owners, position=order[0], roots=order[1])
    return [make(routed.rows(chunk)) for chunk in range(len(routed))]


def parents_of(job: WriteJob) -> IntArray:
    """(N,) parent of each row of trees, -1 for roots."""
    parents = np.full(len(job.positions), -1, np.int64)
    if job.links is not None:
        parents[job.links[:, 0]] = job.links[:, 1]
    return parents


def in_manifest_order(job: WriteJob, table: FragmentTable) -> FragmentTable:
    """Fragments in the order of their objects' manifests."""
    along = table.rows if job.kind == "paths" else table.chunks
    return table.take(np.lexsort((table.fragments, along, table.owners)))


def recorded_links(job: WriteJob, parents: IntArray, chunks: Sequence[Arranged]) -> IntArray | None:
    """Which edges of trees have a record, because the order of rows does not imply them; None for all."""
    if job.links is None or job.link_values:
        return None  # the values of an edge need its record
    implied = np.full(len(parents), -1, np.int64)
    for part in chunks:
        inner = np.ones(len(part.rows), np.bool_)
        inner[np.cumsum(part.counts) - part.counts] = False
        at = np.flatnonzero(inner)
        implied[part.rows[at]] = part.rows[at - 1]
    child, parent = job.links.T
    return np.flatnonzero(implied[child] != parent)


def bridges(routed: Routed, table: FragmentTable) -> PlacedLinks | None:
    """Records from the last row of each fragment of a path to the first of the next (spec 0.9, 10)."""
    at = np.flatnonzero(table.owners[:-1] == table.owners[1:])
    if not len(at):
        return None
    chunks = np.stack([table.chunks[at], table.chunks[at + 1]], axis=1)
    rows = np.stack([table.starts[at] + table.counts[at] - 1, table.starts[at + 1]], axis=1)
    return place_links(chunks, rows, routed.coords)
