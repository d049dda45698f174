"""Links, edges and faces of a view as Dask arrays."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import permutations
from operator import call, getitem
from typing import Any

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.core import flatten
from dask.highlevelgraph import HighLevelGraph

from zarr_vectors_lazy.errors import CorruptChunkError, FormatError, NotFoundError
from zarr_vectors_lazy.model.arrays import CellArray, CellSpec, LinkFamily, LinkValues
from zarr_vectors_lazy.model.levels import ChunkTable, dotted
from zarr_vectors_lazy.model.objects import ranges
from zarr_vectors_lazy.read.cells import link_row_shape
from zarr_vectors_lazy.read.columns import Choice, RowNumbers, choice_graph, fragment_spec, number_view
from zarr_vectors_lazy.read.layers import (
    INTEGER,
    NAN,
    Blocks,
    BlockTasks,
    Dict,
    Each,
    List,
    Member,
    Per,
    Reads,
    Task,
    TaskRef,
    array_over,
    blocks_of,
    blocks_over,
    cells_of,
    cut_evenly,
    empty_array,
    read_graph,
    shared_reads,
    task_over,
)
from zarr_vectors_lazy.read.level import Source
from zarr_vectors_lazy.read.objects import read_dense
from zarr_vectors_lazy.read.paths import path_edges_array
from zarr_vectors_lazy.read.records import (
    LinkCells,
    Table,
    TreeRun,
    ValueCells,
    link_values,
    missing_values,
    resolve_links,
    sort_records,
    table_parents,
    table_rows,
    table_values,
    tree_edges,
    tree_values,
    values_of_edges,
)
from zarr_vectors_lazy.read.rows import nullable
from zarr_vectors_lazy.read.view import FRAGMENTS, LevelView
from zarr_vectors_lazy.settings import block_nbytes
from zarr_vectors_lazy.types import BoolArray, ChunkCoords, IntArray

# Link records of a view as Dask arrays, blocks of many cells.

TREE = "implicit_sequential_with_branches"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CellList:
    """The link cells of a view, in canonical order.

    Parameters
    ----------
    segments
        (B,) segment of each cell.
    sources
        (B,) its chunk among the view's; -1 if the view does not have it.
    coords
        (B, K) its chunk.
    ends
        (B, L) for each slot its chunk among those of the level on which it lies; -1 if there is none.
    """

    segments: IntArray
    sources: IntArray
    coords: ChunkCoords
    ends: IntArray

    def __len__(self) -> int:
        return len(self.segments)


def list_cells(view: LevelView, family: LinkFamily, other: LevelView | None = None, *, cut: bool = False) -> CellList:
    """Cells of a family whose records may be selected.

    Parameters
    ----------
    other
        The whole level of the other endpoints, if that is another one.
    cut
        Include cells with one selected and one unselected end.
    """
    rank = view.table.coords.shape[1]
    segments, sources, places, ends = [], [], [], []
    for number, segment in enumerate(family.segments):
        coords = segment.array.chunks.coords[segment.listed]
        source = view.table.find(coords)
        offsets = np.concatenate([np.zeros((1, rank), np.int64), segment.offsets])
        anchor = coords if other is None else _anchor(coords, view, other)
        if other is not None and family.same_key:
            anchor = coords
        table = view.table if other is None else other.table
        slots = [source, *(table.find(anchor + offset) for offset in offsets[1:])]
        end = np.stack(slots, axis=1)
        selected = _selected(view, end, other is None, cut)
        segments.append(np.full(int(selected.sum()), number))
        sources.append(source[selected])
        places.append(coords[selected])
        ends.append(end[selected])
    empty = np.empty(0, np.int64)
    return CellList(
        segments=np.concatenate([empty, *segments]),
        sources=np.concatenate([empty, *sources]),
        coords=np.concatenate([np.empty((0, rank), np.int64), *places]),
        ends=np.concatenate([np.empty((0, family.width), np.int64), *ends]),
    )


@dataclass(frozen=True, eq=False)
class Reaches:
    """What joins chunks of a view, by chunk.

    Parameters
    ----------
    ends
        (B, L) chunks that are joined, -1 for those outside the view; link cells come first.
    order, bounds
        Numbers of what joins chunk i, with others or itself: ``order[bounds[i]:bounds[i + 1]]``, ascending.
    cells
        The link cells.
    """

    ends: IntArray
    order: IntArray
    bounds: IntArray
    cells: CellList | None = None

    @classmethod
    def of(cls, ends: IntArray, chunks: int, cells: CellList | None = None) -> "Reaches":
        """Sort (B, L) ends by chunk."""
        chunk = ends.reshape(-1)
        order = np.argsort(chunk, kind="stable")
        chunk, order = chunk[order], order // ends.shape[1]
        first = (np.diff(chunk, prepend=-2) != 0) | (np.diff(order, prepend=-1) != 0)  # a cell that has a chunk twice
        return cls(ends, order[first], np.searchsorted(chunk[first], np.arange(chunks + 1)), cells)

    def near(self, chunks: IntArray) -> IntArray:
        """Numbers of what joins some chunks, with each other or with others; ascending."""
        if len(chunks) == 1:
            return self.order[self.bounds[chunks[0]] : self.bounds[chunks[0] + 1]]
        first = self.bounds[chunks]
        return np.unique(self.order[ranges(first, self.bounds[chunks + 1] - first)])

    @cached_property
    def _neighbours(self) -> tuple[IntArray, IntArray]:
        """Chunks that are joined with each chunk, and itself, ascending, and (n + 1,) where those of each begin."""
        count = len(self.bounds) - 1
        pairs = [np.arange(count) * (count + 1)]
        for one, other in permutations(self.ends.T, 2):
            both = (one >= 0) & (other >= 0)
            pairs.append(np.unique(one[both] * count + other[both]))
        first, second = np.divmod(np.unique(np.concatenate(pairs)), max(count, 1))
        return second, np.searchsorted(first, np.arange(count + 1))

    def around(self, chunks: IntArray) -> IntArray:
        """Some chunks and those that are joined with them, ascending."""
        found, bounds = self._neighbours
        if len(chunks) == 1:
            return found[bounds[chunks[0]] : bounds[chunks[0] + 1]]
        return np.unique(found[ranges(bounds[chunks], bounds[chunks + 1] - bounds[chunks])])


def check_sources(view: LevelView, family: LinkFamily, cells: CellList) -> None:
    """Raise CorruptChunkError if a level has links of a chunk without vertices."""
    lost = np.flatnonzero(cells.sources < 0)
    if view.rows is None and len(lost):
        coord = dotted(cells.coords[lost[0]])
        reason = f"links refer to rows of chunk {coord}, which has no vertices"
        path = family.segments[int(cells.segments[lost[0]])].array.spec.path
        raise CorruptChunkError(reason, level=view.data.meta.index, array=path, chunk=coord, url=view.data.tree.url)


def _selected(view: LevelView, ends: IntArray, within: bool, cut: bool) -> BoolArray:
    """(B,) which cells may have selected records; all of them if the level is whole."""
    if view.rows is None:
        return np.ones(len(ends), np.bool_)
    if not within:
        return ends[:, 0] >= 0
    return np.asarray((ends >= 0).any(axis=1) if cut else (ends >= 0).all(axis=1))


def _anchor(coords: ChunkCoords, view: LevelView, other: LevelView) -> ChunkCoords:
    """Chunk of another level in which a chunk lies (spec 0.9, 7.4)."""
    root = view.data.store.chunk_shape
    here, there = (np.rint(v.data.meta.chunk_shape / root).astype(np.int64) for v in (view, other))
    spatial = coords[:, coords.shape[1] - len(root) :] * here // there
    return np.concatenate([coords[:, : coords.shape[1] - len(root)], spatial], axis=1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LinkRuns:
    """The link cells of a view cut into runs of neighbours, and the inputs of a run's task.

    Parameters
    ----------
    family
        The records.
    cells
        All cells.
    bounds
        (r + 1,) run k has the cells ``bounds[k]:bounds[k + 1]``.
    reads
        The reads that fetch them.
    apart
        Whether they are numbered there as in ``cells``, so that no batch has cells of distant runs; otherwise by chunk.
    """

    family: LinkFamily
    cells: CellList
    bounds: IntArray
    reads: Reads
    apart: bool

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def of(self, run: int) -> LinkCells:
        """Cells of a run."""
        return link_cells(self.family, self.cells, slice(int(self.bounds[run]), int(self.bounds[run + 1])))

    def raws(self, run: int, group: str, present: BoolArray | None = None) -> List:
        """References to the encoded cells of a run, in parts: of the records, or of arrays that belong to them."""
        cells = np.arange(self.bounds[run], self.bounds[run + 1])
        cells = cells if present is None else cells[present[cells]]
        if self.apart:
            return List(*([cells_of(self.reads.name, group, cells)] if len(cells) else []))
        return cells_by_chunk(self.family, self.cells, cells, group, {True: (self.reads.name, self.cells.sources)})


def cells_by_chunk(
    family: LinkFamily, cells: CellList, numbers: IntArray, group: str, read: Mapping[bool, tuple[str, IntArray]]
) -> List:
    """References to encoded link cells in parts, each of one segment.

    Parameters
    ----------
    numbers
        Which cells.
    group
        First part of the names of the members to read.
    read
        For cells in chunks of the view, and for others: name of their reads, and each cell's chunk among theirs.
    """
    inside, segments = cells.sources[numbers] >= 0, cells.segments[numbers]
    parts = np.split(numbers, np.flatnonzero((np.diff(segments) != 0) | np.diff(inside)) + 1) if len(numbers) else []
    found = []
    for part in parts:
        reads, chunks = read[bool(cells.sources[part[0]] >= 0)]
        found.append(cells_of(reads, f"{group}:{family.segments[int(cells.segments[part[0]])].name}", chunks[part]))
    return List(*found)


def link_cells(family: LinkFamily, cells: CellList, taken: slice | IntArray) -> LinkCells:
    """What tasks are told about some cells."""
    return LinkCells(
        specs=tuple(segment.array.spec for segment in family.segments),
        codings=tuple(segment.coding for segment in family.segments),
        segments=cells.segments[taken],
        coords=cells.coords[taken],
        ends=cells.ends[taken],
    )


def cut_cells(view: LevelView, family: LinkFamily, cells: CellList) -> IntArray:
    """Bounds of the blocks of link cells: as many as for chunks, or up to ``array.chunk-size`` each.

    Most of it is assumed to lie inside chunks, because only its bytes show how much a cell has.
    """
    inside = np.asarray([not segment.offsets.any() for segment in family.segments], np.bool_)
    weights = np.where(inside[cells.segments], 16.0, 1.0)
    blocks = len(view.bounds) - 1
    if view.chunking == "auto":
        total = family.stated or 2 * view.estimated_rows * len(view.data.vertices.chunks)
        share = min(1.0, len(view) / len(view.data.vertices.chunks))
        blocks = max(1, math.ceil(total * share * family.width * INTEGER.itemsize / block_nbytes()))
    return cut_evenly(weights, blocks)


def _link_runs(view: LevelView, family: LinkFamily, cells: CellList, other: LevelView | None) -> LinkRuns:
    """Cut link cells into runs and arrange for them to be fetched."""
    tree = view.data.store.links_convention == TREE and other is None
    reads = view.reads
    if not tree:  # the edges of a skeleton are requested by chunk, and no cell is read twice
        digests = [segment.array.digest for segment in family.segments]
        token = tokenize(view.reads.name, family.delta, digests, cells.segments, cells.coords, other and other.token)
        reads = shared_reads(f"zv-read-links-{token}", view.source, cells.coords)
    runs = LinkRuns(family=family, cells=cells, bounds=cut_cells(view, family, cells), reads=reads, apart=not tree)
    add_cells(view, family, cells, f"links:{family.delta}", None, apart=None if tree else reads)
    return runs


def add_cells(
    view: LevelView,
    family: LinkFamily,
    cells: CellList,
    group: str,
    values: Mapping[str, CellArray] | None,
    *,
    apart: Reads | None = None,
    halo: Reads | None = None,
) -> BoolArray:
    """Arrange for link cells, or what belongs to them, to be fetched as members of a group; (m,) which cells exist.

    Parameters
    ----------
    values
        Arrays by segment; None for the records.
    apart
        Reads in which cells have the numbers that they have in ``cells``; None for those of the view, by chunk.
    halo
        Reads of the chunks outside the view.
    """
    names, found = [], np.zeros(len(cells), np.bool_)
    for number, segment in enumerate(family.segments):
        array, mine = segment.array if values is None else values.get(segment.name), cells.segments == number
        if array is None or not mine.any():
            continue
        name = f"{group}:{segment.name}"
        at = np.full(len(cells), -1, np.int64)
        at[mine] = array.chunks.find(cells.coords[mine])
        found |= at >= 0
        if apart is None:
            view.member(name, array)
        else:
            places = None if array.places is None else array.places.take(at)
            nbytes = view.estimated_nbytes(array)
            apart.members[name] = Member(spec=array.spec, present=at >= 0, nbytes=nbytes, places=places)
            names.append(name)
        if halo is not None:
            here = array.chunks.find(halo.coords) >= 0
            halo.members.setdefault(name, Member(spec=array.spec, present=here, nbytes=4096.0))
    if apart is not None:
        apart.groups[group] = tuple(names)
    return found


def _link_inputs(
    source: Source,
    runs: LinkRuns,
    here: RowNumbers,
    there: RowNumbers | None,
    choice: Choice | None,
    table: Table | None,
    block: int,
) -> tuple[Any, ...]:
    """Inputs of the task that resolves a run's cells; the last task is that of the table, if there is one."""
    if block == len(runs):
        return table_rows, table, here.all(), None if there is None else there.all(), kept_of(choice)
    cells = runs.of(block)
    first = _first_slot(cells.ends) if there is not None else np.True_
    mine = np.where(first, cells.ends, -1)
    others = None if there is None else there.of(np.where(first, -1, cells.ends))
    raws = runs.raws(block, f"links:{runs.family.delta}")
    return resolve_links, source, cells, raws, here.of(mine), others, kept_of(choice, np.unique(mine[mine >= 0]))


def _first_slot(ends: IntArray) -> BoolArray:
    return np.broadcast_to(np.arange(ends.shape[1]) == 0, ends.shape)


@dataclass(frozen=True, slots=True, eq=False)
class Resolved:
    """A layer of resolved link cells: keys ``(name, block)``, see `read.records.Resolved`."""

    name: str
    runs: LinkRuns
    graph: HighLevelGraph
    tabled: bool

    def __len__(self) -> int:
        return len(self.runs) + self.tabled


def kept_of(choice: Choice | None, chunks: IntArray | None = None) -> Dict:
    """References to the chosen rows of chunks with unselected rows, by chunk; for some chunks, or all."""
    if choice is None:
        return Dict({})
    every = np.flatnonzero(choice.filters) if chunks is None else chunks[choice.filters[chunks]]
    return Dict(dict(zip(every.tolist(), choice.each(every), strict=True)))


def table_of(view: LevelView, family: LinkFamily, other: LevelView | None = None) -> Table | None:
    """The records of a family that name their chunks; None if there are none, or no chunk is selected."""
    if family.table is None or not len(view):
        return None
    return Table(
        source=view.source,
        records=family.table.records,
        here=view.reads.coords,
        there=None if other is None else other.reads.coords,
        whole=view.rows is None,
    )


def resolve(view: LevelView, family: LinkFamily, other: LevelView | None = None) -> Resolved | None:
    """Layer of the resolved cells of a family, and of its table; None if nothing is selected."""
    cells, table = list_cells(view, family, other), table_of(view, family, other)
    if not len(cells) and table is None:
        return None
    check_sources(view, family, cells)
    runs = _link_runs(view, family, cells, other)
    here, here_graph = number_view(view)
    there, there_graph = (None, None) if other is None else number_view(other)
    choice, chosen = choice_graph(view)
    recipe = BlockTasks(call, partial(_link_inputs, view.source, runs, here, there, choice, table))
    digests = [*(segment.array.digest for segment in family.segments), family.table.digest if family.table else None]
    name = f"zv-resolve-{tokenize(view.token, family.delta, digests, other and other.token, runs.bounds)}"
    parts = (read_graph(runs.reads), here_graph, there_graph, *chosen)
    graphs = [graph for graph in parts if graph is not None]
    graph = blocks_over(name, recipe, len(runs) + (table is not None), *graphs)
    return Resolved(name, runs, graph, table is not None)


def links_array(view: LevelView, family: LinkFamily | None, other: LevelView | None = None) -> da.Array:
    """Records of a family as rows; (L, W) int64, in canonical order."""
    width = 2 if family is None else family.width
    resolved = None if family is None else resolve(view, family, other)
    if resolved is None:
        return empty_array((width,), INTEGER)
    name = resolved.name.replace("resolve", "links")
    recipe = BlockTasks(getitem, (Each(resolved.name), 0))
    return array_over(name, recipe, [NAN] * len(resolved), (width,), INTEGER, resolved.graph)


def value_cells(
    family: LinkFamily, values: Mapping[str, CellArray], cells: CellList, taken: slice | IntArray, **about: Any
) -> ValueCells:
    """What tasks are told about the values of some link cells; ``about`` has fields of `ValueCells`."""
    specs = tuple(values[s.name].spec if s.name in values else None for s in family.segments)
    about["present"] = about["present"][taken]  # our own keywords
    return ValueCells(specs=specs, segments=cells.segments[taken], coords=cells.coords[taken], **about)


def _value_inputs(
    source: Source, runs: LinkRuns, resolved: str, group: str, values: LinkValues, about: dict[str, Any], block: int
) -> tuple[Any, ...]:
    """Inputs of the task that reads a run's values; the last task is that of the table, if there is one."""
    found = TaskRef((resolved, block))
    if block == len(runs) and values.table is not None:
        return table_values, source, values.table, about["dtype"], found
    if block == len(runs):
        return missing_values, about["row_shape"], about["dtype"], found
    taken = slice(int(runs.bounds[block]), int(runs.bounds[block + 1]))
    cells = value_cells(runs.family, values.cells, runs.cells, taken, **about)
    return link_values, source, cells, runs.raws(block, group, about["present"]), found


def value_dtype(family: LinkFamily, values: LinkValues, *, exact: bool = False) -> np.dtype[Any]:
    """Dtype of a link attribute; float64 for integers that it can surely hold, if some are missing.

    ``exact``: unless they are stored with an integer that marks missing ones.
    """
    dtypes = [array.spec.dtype for array in values.cells.values()] + ([values.table.dtype] if values.table else [])
    dtype = dtypes[0] if dtypes else np.dtype(np.float64)
    return with_missing(dtype) if _incomplete(family, values) and not (exact and values.fill is not None) else dtype


def with_missing(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Dtype of a link attribute with missing values; 64-bit integers are masked, and stay exact."""
    return dtype if dtype.kind in "iu" and dtype.itemsize == 8 else nullable(dtype)


def link_attribute_array(
    view: LevelView, family: LinkFamily, values: LinkValues, name: str, *, exact: bool = False
) -> da.Array:
    """Values of a link attribute, aligned with ``links_array(view, family)``; missing ones are NaN, or masked."""
    row_shape, dtype = link_row_shape(view.data, family, values), value_dtype(family, values, exact=exact)
    resolved = resolve(view, family)
    if resolved is None:
        return empty_array(row_shape, dtype)
    group, runs = f"link_attributes:{name}", resolved.runs
    apart = runs.reads if runs.apart else None
    present = add_cells(view, family, runs.cells, group, values.cells, apart=apart)
    about = {"present": present, "row_shape": row_shape, "dtype": dtype, "fill": values.fill}
    recipe = BlockTasks(call, partial(_value_inputs, view.source, runs, resolved.name, group, values, about))
    label = f"zv-link-{name}-{tokenize(resolved.name, name, dtype, [array.digest for array in values.cells.values()])}"
    below = (resolved.graph, read_graph(runs.reads))
    masked = dtype.kind in "iu" and _incomplete(family, values)
    return array_over(label, recipe, [NAN] * len(resolved), row_shape, dtype, *below, masked=masked)


def _incomplete(family: LinkFamily, values: LinkValues) -> bool:
    """Whether some records have no values, or may have none."""
    if values.fill is not None:
        return True
    if family.table is not None and values.table is None:
        return True
    for segment in family.segments:
        array = values.cells.get(segment.name)
        if len(segment.array.chunks) and (array is None or (array.chunks.find(segment.array.chunks.coords) < 0).any()):
            return True
    return False


# Edges and faces of a view.

PATHS = {"line", "polyline", "streamline"}


def edges_array(view: LevelView) -> da.Array:
    """Every edge of the view; (E, 2) int64 rows (spec 0.9, 10)."""
    store = view.data.store
    check_edges(view)
    if store.links_convention == TREE:
        return tree_edges_array(view, view.data.links(0))
    if PATHS & set(store.geometry_types):
        return path_edges_array(view)
    family = view.data.links(0)
    return links_array(view, family if family is not None and family.width == 2 else None)


def faces_array(view: LevelView) -> da.Array:
    """Every face of the view; (F, W) int64 rows, W >= 3."""
    check_edges(view)
    family = view.data.links(0)
    if family is None or family.width < 3:
        return empty_array((3,), INTEGER)
    return links_array(view, family)


def check_edges(view: LevelView) -> None:
    """Raise FormatError if the level does not have usable edges and faces."""
    data = view.data
    if data.meta.edges_lost:
        raise FormatError(data.meta.edges_lost, where=data.url)
    if len(data.store.geometry_types) > 1:
        _ = data.vertices  # refuses a level that keeps each geometry separately


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TreeCells:
    """The link cells of skeletons, by the chunks of a view that may hold children of their records.

    Parameters
    ----------
    view, family, cells
        The records.
    blocks
        The view's chunks, a task for each block of them.
    reaches
        The same by chunk.
    halo, halo_rows
        Name of the reads of the cells that lie in chunks outside the view, and each cell's chunk among theirs.
    """

    view: LevelView
    family: LinkFamily
    cells: CellList
    blocks: Blocks
    reaches: Reaches
    halo: str
    halo_rows: IntArray

    def of(self, first: int, last: int) -> IntArray:
        """Cells of some neighbouring chunks: in canonical order, but for each segment the view's own first."""
        mine = self.reaches.near(np.arange(first, last))
        outside = self.cells.sources[mine] < 0
        return mine[np.lexsort((mine, outside, self.cells.segments[mine]))]

    def raws(self, cells: IntArray, prefix: str, present: BoolArray | None = None) -> List:
        """References to encoded cells in parts, of the records or of what belongs to them."""
        cells = cells if present is None else cells[present[cells]]
        read = {True: (self.view.reads.name, self.cells.sources), False: (self.halo, self.halo_rows)}
        return cells_by_chunk(self.family, self.cells, cells, prefix, read)


def _tree_inputs(
    trees: TreeCells, fragments: CellSpec, rows: RowNumbers, choice: Choice | None, parents: str | None, block: int
) -> tuple[Any, ...]:
    """Inputs of the task that makes the edges of a block of chunks."""
    view, chunks = trees.view, trees.blocks.of(block)
    first, last = int(chunks[0]), int(chunks[-1]) + 1
    mine = trees.of(first, last)
    cells = link_cells(trees.family, trees.cells, mine)
    tree = TreeRun(
        first=first,
        coords=trees.blocks.coords_of(block),
        fragments=fragments,
        cells=cells,
        whole=view.rows is None,
        parted=trees.family.parted,
    )
    ends = np.unique(np.concatenate([chunks, cells.ends[cells.ends >= 0]]))
    raws, kept = trees.raws(mine, "links:0"), kept_of(choice, ends)
    spans = rows.of(chunks), rows.of(cells.ends)
    named = None if parents is None else TaskRef((parents,))
    return view.source, tree, trees.blocks.cells(FRAGMENTS, block), raws, *spans, kept, named


def _tree_value_inputs(
    trees: TreeCells, edges: str, prefix: str, values: LinkValues, about: dict[str, Any], block: int
) -> tuple[Any, ...]:
    """Inputs of the task that reads the values of a block's edges; ``about`` has fields of `ValueCells`."""
    chunks, source = trees.blocks.of(block), trees.view.source
    mine = trees.of(int(chunks[0]), int(chunks[-1]) + 1)
    cells = value_cells(trees.family, values.cells, trees.cells, mine, **about)
    table = None if values.table is None else Task(None, read_dense, source, values.table)
    return source, cells, trees.raws(mine, prefix, about["present"]), table, TaskRef((edges, block))


@dataclass(frozen=True, slots=True, eq=False)
class Trees:
    """A layer of the edges of skeletons: keys ``(name, block)``, see `read.records.Tree`."""

    name: str
    cells: TreeCells
    graph: HighLevelGraph
    halo: Reads

    def __len__(self) -> int:
        return len(self.cells.blocks)


def _trees(view: LevelView, family: LinkFamily) -> Trees:
    fragments = fragment_spec(view)
    cells = list_cells(view, family, cut=True)
    outside = ChunkTable(np.unique(cells.coords[cells.sources < 0], axis=0))
    halo = shared_reads(f"zv-read-halo-{tokenize(view.reads.name, outside.coords)}", view.source, outside.coords)
    add_cells(view, family, cells, "links:0", None, halo=halo)
    rows, row_graph = number_view(view)
    choice, chosen = choice_graph(view)
    digests = [*(segment.array.digest for segment in family.segments), family.table.digest if family.table else None]
    graphs = [read_graph(view.reads), read_graph(halo), row_graph, *chosen]
    table = table_of(view, family)
    parents = None if table is None else f"zv-parents-{tokenize(view.token, digests)}"
    if parents is not None:
        kept = kept_of(choice)
        graphs.append(task_over(parents, Task((parents,), table_parents, table, rows.all(), kept), *graphs))
    trees = TreeCells(
        view=view,
        family=family,
        cells=cells,
        blocks=blocks_of(view),
        reaches=Reaches.of(cells.ends, len(view)),  # by every end, because the child may be any of them
        halo=halo.name,
        halo_rows=outside.find(cells.coords),
    )
    recipe = BlockTasks(tree_edges, partial(_tree_inputs, trees, fragments, rows, choice, parents))
    name = f"zv-trees-{tokenize(view.token, digests, view.bounds)}"
    return Trees(name, trees, blocks_over(name, recipe, len(trees.blocks), *graphs), halo)


def tree_edges_array(view: LevelView, family: LinkFamily | None) -> da.Array:
    """[child, parent] edges of skeletons, by child."""
    family = family or LinkFamily(delta=0, width=2, directed=False, segments=())
    check_sources(view, family, list_cells(view, family, cut=True))
    if not len(view):
        return empty_array((2,), INTEGER)
    trees = _trees(view, family)
    name = trees.name.replace("trees", "edges")
    recipe = BlockTasks(getattr, (Each(trees.name), "edges"))
    return array_over(name, recipe, [NAN] * len(trees), (2,), INTEGER, trees.graph)


def edge_attribute_array(view: LevelView, name: str) -> da.Array:
    """Values of a link attribute, aligned with `edges_array`; NaN or masked for implied edges without any.

    Raises
    ------
    NotFoundError
        If there is no such attribute.
    """
    data, family = view.data, view.data.links(0)
    if family is None or name not in data.link_attribute_names:
        raise NotFoundError.among("link attribute", name, data.link_attribute_names, where=data.url)
    values = data.link_attribute(family, name)
    check_edges(view)
    paths = bool(PATHS & set(data.store.geometry_types))
    if data.store.links_convention != TREE and not paths:
        return link_attribute_array(view, family, values, name)
    row_shape, dtype = link_row_shape(data, family, values), with_missing(value_dtype(family, values))
    if not len(view):
        return empty_array(row_shape, dtype)
    make = _tree_values if data.store.links_convention == TREE else _matched_values
    return make(view, family, name, row_shape, dtype)


def _tree_values(
    view: LevelView, family: LinkFamily, name: str, row_shape: tuple[int, ...], dtype: np.dtype[Any]
) -> da.Array:
    values = view.data.link_attribute(family, name)
    trees = _trees(view, family)
    prefix = f"link_attributes:{name}"
    present = add_cells(view, family, trees.cells.cells, prefix, values.cells, halo=trees.halo)
    about = {"present": present, "row_shape": row_shape, "dtype": dtype, "fill": values.fill}
    recipe = BlockTasks(tree_values, partial(_tree_value_inputs, trees.cells, trees.name, prefix, values, about))
    label = f"zv-edge-{name}-{tokenize(trees.name, name, [array.digest for array in values.cells.values()])}"
    masked = dtype.kind in "iu"
    return array_over(label, recipe, [NAN] * len(trees), row_shape, dtype, trees.graph, masked=masked)


def _matched_values(
    view: LevelView, family: LinkFamily, name: str, row_shape: tuple[int, ...], dtype: np.dtype[Any]
) -> da.Array:
    """Values of the stored records that repeat implied edges: one task looks up the edges of each block among them."""
    values = view.data.link_attribute(family, name)
    edges, links = path_edges_array(view), links_array(view, family)
    stored = link_attribute_array(view, family, values, name)
    label = f"zv-edge-{name}-{tokenize(edges.name, stored.name)}"
    found, blocks = f"{label}-records", edges.numblocks[0]
    below = HighLevelGraph.merge(*(array.__dask_graph__() for array in (edges, links, stored)))
    parts = [List(*map(TaskRef, flatten(array.__dask_keys__()))) for array in (links, stored)]
    graph = task_over(found, Task((found,), sort_records, *parts, dtype), below)
    keys = Per([TaskRef(key) for key in flatten(edges.__dask_keys__())])
    recipe = BlockTasks(values_of_edges, (keys, TaskRef((found,))))
    return array_over(label, recipe, [NAN] * blocks, row_shape, dtype, graph, masked=dtype.kind in "iu")
