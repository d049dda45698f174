"""Chunks of a view read immediately by the functions of its tasks, without a graph: for servers, one key per request.

Only the rows that a selection chooses are taken from its graph.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import dask
import numpy as np
from dask.base import tokenize
from dask.delayed import Delayed

from zarr_vectors_lazy.kernels.rows import row_table
from zarr_vectors_lazy.model.arrays import CellSpec, LinkFamily
from zarr_vectors_lazy.model.objects import FragmentRun, ranges
from zarr_vectors_lazy.read.cells import Requested, decode_payloads, read_batch, read_fragment_run, read_row_run
from zarr_vectors_lazy.read.columns import ColumnCells, choice_graph, fragment_spec, refuse_unlisted
from zarr_vectors_lazy.read.layers import List, Task, task_over, wanted_cells
from zarr_vectors_lazy.read.level import Source
from zarr_vectors_lazy.read.links import PATHS, TREE, Reaches, check_edges, check_sources, link_cells, list_cells
from zarr_vectors_lazy.read.objects import read_dense, rows_of_ids
from zarr_vectors_lazy.read.paths import RunOfPaths, ends_of, follow_fragments, manifests_of, path_edges
from zarr_vectors_lazy.read.records import (
    LinkCells,
    Table,
    TreeRun,
    check_listed,
    dangling_link,
    resolve_links,
    runs_of,
    table_parents,
    table_rows,
    tree_edges,
)
from zarr_vectors_lazy.read.rows import column_run
from zarr_vectors_lazy.read.view import FRAGMENTS, VERTICES, LevelView
from zarr_vectors_lazy.settings import Recent
from zarr_vectors_lazy.types import Array, BoolArray, IntArray, Payload, Raw

Joins: TypeAlias = Literal["", "edges", "faces"]
Raws: TypeAlias = dict[tuple[str, int], Raw]
KEPT = 2**25  # bytes of cells that a reader keeps


@dataclass(frozen=True, slots=True, eq=False)
class ChunkRows:
    """All rows of some chunks, one chunk after another.

    Parameters
    ----------
    source
        The level.
    vertices, values
        (N, D) positions as stored, and (N,) or (N, C) values of each requested attribute.
    starts
        (c + 1,) those of chunk k are ``starts[k]:starts[k + 1]``.
    joins
        (E, W) rows of edges or faces, in canonical order.
    selected
        (N,) which rows the view has; None for all.
    fragments
        Fragments of the chunks, if they were requested.
    """

    source: Source
    vertices: Array
    values: list[Array]
    starts: IntArray
    joins: IntArray
    selected: BoolArray | None
    fragments: FragmentRun | None

    def take(self, mask: BoolArray | None) -> "ChunkRows":
        """Only some rows, and what joins them."""
        if mask is None:
            return self
        number = np.concatenate([[0], np.cumsum(mask)]).astype(np.int64)
        joins = self.joins[mask[self.joins].all(axis=1)]
        values = [each[mask] for each in self.values]
        return ChunkRows(
            self.source, self.vertices[mask], values, number[self.starts], number[joins], None, self.fragments
        )

    def rows_of(self, chunks: IntArray, fragments: IntArray) -> tuple[IntArray, IntArray]:
        """Rows of (e,) entries of manifests, one after another, and (e,) their numbers.

        Parameters
        ----------
        chunks, fragments
            Position of each entry's chunk, and its fragment.

        Raises
        ------
        FormatError
            If an entry names a fragment that its chunk does not have.
        """
        run = self.fragments
        assert run is not None
        with manifests_of(self.source):
            named = run.at(chunks, fragments)
            return run.fragments.rows(named), run.fragments.counts[named]


def _spans(starts: IntArray) -> IntArray:
    """(c + 1, 2) first row and number of rows of each of some chunks, followed by those of chunk -1, which has none."""
    out = np.empty((len(starts), 2), np.int64)
    out[:, 0] = starts
    np.subtract(starts[1:], starts[:-1], out=out[:-1, 1])
    out[-1] = 0, -1
    return out


def _within(rows: IntArray, starts: IntArray, chunks: IntArray) -> BoolArray:
    """(n,) whether rows belong to some chunks, where chunk c has ``starts[c]:starts[c + 1]``."""
    if len(chunks) == 1:
        (chunk,) = chunks
        return np.asarray((rows >= starts[chunk]) & (rows < starts[chunk + 1]))
    among = np.zeros(len(starts) - 1, np.bool_)
    among[chunks] = True
    return np.repeat(among, np.diff(starts))[rows]


class ChunkReader:
    """Reads chunks of a view.

    It keeps metadata and manifests and, if edges, faces or fragments are needed, the cells read last.

    Parameters
    ----------
    view
        What is read.
    joins
        Whether edges or faces are needed as well.
    """

    def __init__(self, view: LevelView, joins: Joins = "") -> None:
        self.view = view
        self.joins = joins
        self._kept: Recent[tuple[str, int], Payload] = Recent(KEPT, len)  # neighbours need them again
        if joins:
            check_edges(view)
        view.vertex_member()

    @cached_property
    def _fragments(self) -> CellSpec:
        return fragment_spec(self.view)

    @cached_property
    def _follows(self) -> Literal["", "tree", "path"]:
        """Whether edges follow from fragments, and how."""
        store = self.view.data.store
        if self.joins != "edges":
            return ""
        tree = store.links_convention == TREE
        return "tree" if tree else "path" if PATHS & set(store.geometry_types) else ""

    @cached_property
    def _family(self) -> LinkFamily | None:
        """The records from which edges or faces come; None if there are none."""
        if not self.joins or self._follows == "path":
            return None
        found = self.view.data.links(0)
        if self._follows == "tree":
            return found or LinkFamily(delta=0, width=2, directed=False, segments=())
        fits = found is not None and (found.width > 2 if self.joins == "faces" else found.width == 2)
        return found if fits else None

    @cached_property
    def width(self) -> int:
        """Ends of what joins rows."""
        return 2 if self.joins != "faces" else 3 if self._family is None else self._family.width

    @cached_property
    def _entries(self) -> IntArray:
        """(E,) chunk of each entry of the manifests; -1 if the view does not have it."""
        view = self.view
        at = view.table.find(view.manifests.chunks)
        if view.rows is None:
            refuse_unlisted(view.source.spec.url, view.manifests.chunks, at)
        return at

    @cached_property
    def _objects(self) -> tuple[IntArray, IntArray]:
        """(E,) manifest rows by chunk of their entries, and (n + 1,) where those of each chunk begin."""
        order, at = np.argsort(self._entries, kind="stable"), self._entries
        return self.view.manifests.owners[order], np.searchsorted(at[order], np.arange(len(self.view) + 1))

    @cached_property
    def reaches(self) -> Reaches:
        """Which chunks are joined."""
        view, family = self.view, self._family
        if self._follows == "path" and view.data.object_index is not None:
            at = self._entries
            ends = np.stack([at[:-1], at[1:]], axis=1)[np.diff(view.manifests.owners) == 0]
            return Reaches.of(np.unique(ends[ends[:, 0] != ends[:, 1]], axis=0), len(view))
        if family is None:
            return Reaches.of(np.empty((0, self.width), np.int64), len(view))
        cells = list_cells(view, family, cut=True)
        check_sources(view, family, cells)
        ends = cells.ends
        if family.table is not None:
            named = read_dense(view.source, family.table.records)[:, :, :-1]
            named, shape = named.reshape(-1, named.shape[2]), named.shape[:2]
            of_table = view.table.find(named)
            if view.rows is None:
                check_listed(view.source, family.table.records, named, of_table)
            ends = np.concatenate([ends, np.unique(of_table.reshape(shape), axis=0)])
        return Reaches.of(ends, len(view), cells)

    @cached_property
    def _link_cells(self) -> LinkCells | None:
        """All link cells, as tasks are told about them."""
        cells = None if self._family is None else self.reaches.cells
        return None if cells is None or self._family is None else link_cells(self._family, cells, slice(None))

    def read(
        self,
        chunks: IntArray,
        columns: Sequence[ColumnCells] = (),
        *,
        own: IntArray | None = None,
        fragments: bool = False,
    ) -> ChunkRows:
        """Read chunks.

        Parameters
        ----------
        chunks
            (c,) their numbers among those of the view, ascending.
        columns
            Attributes that are wanted.
        own
            The chunks for which edges and faces that begin there are needed; None for all.
        fragments
            Whether fragments are needed.

        Raises
        ------
        CorruptChunkError
            If a cell cannot be read.
        FormatError
            If cells, or cells and metadata, contradict each other.
        """
        view, coords = self.view, self.view.table.coords[chunks]
        own = chunks if own is None else own
        near, linked = self._near(chunks, own)
        indexed = chunks if fragments or self._follows == "path" else own if self._follows else chunks[:0]
        raws = self._fetch(chunks, indexed, columns, near)
        spec, stored = view.data.vertices.spec, view.stored_counts
        counts = None if stored is None else stored[chunks]
        cells = [raws[VERTICES, chunk] for chunk in chunks.tolist()]
        vertices, starts = read_row_run(view.source, spec, coords, cells, spec.row_shape or (), counts)
        values = [self._values(each, chunks, starts, raws) for each in columns]
        run = self._run(indexed, chunks, starts, raws) if fragments or self._follows == "path" else None
        joins = np.empty((0, self.width), np.int64)
        if self._follows == "tree":
            at = np.searchsorted(chunks, own)
            parts = np.split(at, np.flatnonzero(np.diff(at) != 1) + 1) if len(at) > 1 else [at][: len(at)]
            edges = [self._tree_edges(part, chunks, starts, near, linked, raws) for part in parts]
            joins = edges[0] if len(edges) == 1 else np.concatenate([joins, *edges])
        else:
            if self._follows == "path" and run is not None:
                joins = self._path_edges(run, chunks)
            elif self._family is not None:
                joins = self._links(self._family, chunks, starts, near, linked, raws)
            if len(own) < len(chunks) and len(joins):
                mine = _within(joins[:, 0], starts, np.searchsorted(chunks, own))
                joins = joins if mine.all() else joins.compress(mine, axis=0)
        return ChunkRows(view.source, vertices, values, starts, joins, self._selected(chunks, starts), run)

    def _near(self, chunks: IntArray, own: IntArray) -> tuple[IntArray, LinkCells | None]:
        """Link cells to be read, ascending: those whose ends are all in some chunks, or for trees some of them.

        Returns
        -------
        Their numbers, and what tasks are told about them; ends are positions among the chunks, -1 for others.

        Raises
        ------
        CorruptChunkError
            If one refers to a chunk that the level does not list.
        """
        view, cells = self.view, self._link_cells
        if cells is None:
            return chunks[:0], None
        near = self.reaches.near(own)
        near = near[near < len(cells.ends)]
        ends = cells.ends[near]
        if self._follows != "tree" and view.rows is None and (ends < 0).any():
            lost = np.argmax((ends < 0).any(axis=1))
            raise dangling_link(view.source, cells, int(near[lost]))
        at = np.minimum(np.searchsorted(chunks, ends), len(chunks) - 1)
        ends = np.where(chunks[at] == ends, at, -1)
        if self._follows != "tree" and (ends < 0).any():
            inside = (ends >= 0).all(axis=1)
            near, ends = near[inside], ends[inside]
        return near, cells.take(near, ends)

    def _fetch(self, chunks: IntArray, indexed: IntArray, columns: Sequence[ColumnCells], near: IntArray) -> Raws:
        """Every cell that is needed and not kept, concurrently; by member and chunk, those of links by number."""
        reads, coords = self.view.reads, self.view.table.coords
        members = [(VERTICES, chunks), *((each.member, chunks[each.present[chunks]]) for each in columns)]
        if len(indexed):
            members.append((FRAGMENTS, indexed))
            _ = self._fragments
        out: Raws = {}
        *left, near = self._unkept([*members, ("links", near)], out)
        members = [(name, here) for (name, _), here in zip(members, left, strict=True)]
        wanted = [wanted_cells(name, reads.members[name], coords, here) for name, here in members if len(here)]
        if len(near) and self._family is not None and self._link_cells is not None:
            cells = self._link_cells
            for number, first, last in runs_of(cells.segments[near]):
                mine, array = near[first:last], self._family.segments[number].array
                coords = cells.coords[mine]
                places = None if array.places is None else array.places.take(array.chunks.find(coords))
                wanted.append(Requested("links", array.spec, tuple(mine.tolist()), coords, places=places))
        # even for nothing: this checks whether the level is still the same
        found = read_batch(self.view.source, wanted)
        out.update(self._keep(wanted, found) if self.joins or len(indexed) else found)
        return out

    def _unkept(self, wanted: Sequence[tuple[str, IntArray]], out: Raws) -> list[IntArray]:
        """Numbers of the cells of each member that are not kept; the others are put into ``out``."""
        left: list[list[int]] = []
        for member, numbers in wanted:
            left.append([])
            for number in numbers.tolist():
                if (kept := self._kept.get((member, number))) is None:
                    left[-1].append(number)
                else:
                    out[member, number] = kept
        return [np.asarray(each, np.int64) for each in left]

    def _keep(self, wanted: Sequence[Requested], found: Raws) -> Raws:
        """Decode cells that were just read, and keep them; raises like `read_payloads`."""
        out: dict[tuple[str, int], Payload] = {}
        for want in wanted:
            keys = [(want.member, row) for row in want.rows]
            payloads = decode_payloads(self.view.source, want.spec, want.coords, [found[key] for key in keys])
            out.update(zip(keys, map(Payload, payloads), strict=True))
        for key, payload in out.items():
            self._kept.put(key, payload)
        return out  # type: ignore[return-value]

    def _values(self, given: ColumnCells, chunks: IntArray, starts: IntArray, raws: Raws) -> Array:
        here = given.present[chunks]
        cells = [raws[given.member, chunk] for chunk in chunks[here].tolist()]
        return column_run(given.column, self.view.table.coords[chunks], starts, here.tolist(), cells)

    def _run(self, indexed: IntArray, chunks: IntArray, starts: IntArray, raws: Raws) -> FragmentRun:
        cells = [raws[FRAGMENTS, chunk] for chunk in indexed.tolist()]
        return read_fragment_run(self.view.source, self._fragments, self.view.table.coords[chunks], cells, starts)

    def _table(self, family: LinkFamily, chunks: IntArray) -> Table | None:
        if family.table is None:
            return None
        records = family.table.records
        return Table(
            source=self.view.source, records=records, here=self.view.table.coords[chunks], there=None, whole=False
        )

    def _links(
        self,
        family: LinkFamily,
        chunks: IntArray,
        starts: IntArray,
        near: IntArray,
        cells: LinkCells | None,
        raws: Raws,
    ) -> IntArray:
        source, parts = self.view.source, [np.empty((0, family.width), np.int64)]
        if len(near) and cells is not None:
            spans = _spans(starts).take(cells.ends, axis=0)
            found = [raws["links", cell] for cell in near.tolist()]
            parts.append(resolve_links(source, cells, [found], spans, None, {})[0])
        table = self._table(family, chunks)
        parts += [] if table is None else [table_rows(table, starts, None, {})[0]]
        return parts[1] if len(parts) == 2 else np.concatenate(parts)

    def _tree_edges(
        self, part: IntArray, chunks: IntArray, starts: IntArray, near: IntArray, of_cells: LinkCells | None, raws: Raws
    ) -> IntArray:
        """Edges of neighbouring chunks, by their positions."""
        view, family, cells = self.view, self._family, self.reaches.cells
        assert family is not None
        assert cells is not None
        assert of_cells is not None
        elsewhere = of_cells.ends < 0
        elsewhere = elsewhere & (cells.ends[near] >= 0) if elsewhere.any() else elsewhere
        run = TreeRun(
            first=int(part[0]),
            coords=view.table.coords[chunks[part]],
            fragments=self._fragments,
            cells=of_cells,
            whole=view.rows is None and not elsewhere.any(),
            parted=family.parted,
        )
        table, spans = self._table(family, chunks), _spans(starts)
        parents = None if table is None else table_parents(table, starts, {})
        fragments = [raws[FRAGMENTS, chunk] for chunk in chunks[part].tolist()]
        of_ends = spans.take(of_cells.ends, axis=0)
        links = [raws["links", cell] for cell in near.tolist()]
        return tree_edges(view.source, run, fragments, [links], spans[part], of_ends, {}, parents).edges

    def _path_edges(self, run: FragmentRun, chunks: IntArray) -> IntArray:
        view = self.view
        if view.data.object_index is None:
            return np.empty((0, 2), np.int64)
        owners, bounds = self._objects
        touched = np.unique(owners[ranges(bounds[chunks], bounds[chunks + 1] - bounds[chunks])])
        manifests = view.manifests.take(touched)
        at = rows_of_ids(chunks, view.table.find(manifests.chunks))
        paths = RunOfPaths(run, np.arange(run.starts[-1]))
        every = np.asarray([0, len(chunks)], np.int64)
        (named,) = follow_fragments(view.source, manifests, at, every, [ends_of(paths)])
        (edges,) = path_edges(paths, named, every)
        return edges

    def _selected(self, chunks: IntArray, starts: IntArray) -> BoolArray | None:
        """(N,) which rows the view has, from its graph; None for all."""
        if not self.view.filters[chunks].any():
            return None
        part = self.view.take(chunks).with_chunking(None)
        choice, graphs = choice_graph(part)
        assert choice is not None
        name = f"zv-chosen-{tokenize(part.token)}"
        task = Task((name,), list, List(*choice.each(np.arange(len(part)))))
        (kept,) = dask.compute(Delayed((name,), task_over(name, task, *graphs), layer=name), scheduler="sync")
        table = row_table(starts, None, kept)
        return None if table is None else table >= 0
