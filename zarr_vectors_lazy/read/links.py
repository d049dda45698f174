"""Link records of a view as Dask arrays, and the row numbers that they count in."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import dask
import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph

from zarr_vectors_lazy.errors import CorruptChunkError
from zarr_vectors_lazy.kernels.records import first_row_numbers
from zarr_vectors_lazy.model.arrays import CellArray, LinkFamily, LinkValues
from zarr_vectors_lazy.model.levels import dotted
from zarr_vectors_lazy.model.objects import ranges
from zarr_vectors_lazy.read.batches import NAN, array_over, cells_of, cut_evenly, cut_runs, empty_array
from zarr_vectors_lazy.read.cells import count_rows, link_row_shape
from zarr_vectors_lazy.read.choose import Choice, choice_graph
from zarr_vectors_lazy.read.layers import (
    BlockTasks,
    Dict,
    Each,
    GraphNode,
    Key,
    List,
    Member,
    Of,
    Reads,
    Task,
    TaskRef,
    blocks_over,
    read_graph,
    shared_reads,
    task_over,
)
from zarr_vectors_lazy.read.level import Source, block_nbytes
from zarr_vectors_lazy.read.records import (
    LinkCells,
    Table,
    ValueCells,
    link_values,
    missing_values,
    number_rows,
    resolve_links,
    selected_links,
    span_table,
    spans_of,
    table_rows,
    table_values,
)
from zarr_vectors_lazy.read.rows import nullable, read_row_counts
from zarr_vectors_lazy.read.view import HEADS, LevelView
from zarr_vectors_lazy.types import BoolArray, ChunkCoords, IntArray

# Row numbers of chunks: what edges, faces and links are counted in.


@dataclass(frozen=True, slots=True, eq=False)
class RowNumbers:
    """Where each chunk's selected rows begin among those of a view.

    Parameters
    ----------
    name
        Key of the task that computes them.
    starts
        (n + 1,) int64 where sizes are known beforehand, else None.
    stops
        (n,) where each chunk's rows end; None where the next one's begin.
    """

    name: str
    starts: IntArray | None
    stops: IntArray | None = None

    def of(self, chunks: IntArray) -> Any:
        """First row and number of rows, (..., 2), of some chunks, (0, -1) for chunk -1; or a task that does."""
        if self.starts is None:
            return Task(None, spans_of, TaskRef((self.name,)), chunks)
        starts = self.starts
        sizes = np.diff(starts) if self.stops is None else self.stops - starts[:-1]
        return span_table(starts, sizes, chunks)

    def all(self) -> Any:
        """What a task is given that needs the row numbers of all chunks."""
        return TaskRef((self.name,)) if self.starts is None else self.starts


def number_view(view: LevelView) -> tuple[RowNumbers, HighLevelGraph]:
    """Row numbers of a view, and the graph that computes them; empty where they are known."""
    name, sizes = f"zv-rows-{view.token}", view.sizes
    if view.apart is not None:
        starts = first_row_numbers(len(view) + 1)
        return RowNumbers(name, starts, starts[:-1] + view.apart), HighLevelGraph({}, {})
    if sizes is not None:
        return RowNumbers(name, np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)), HighLevelGraph({}, {})
    apart, filtered, counts = np.flatnonzero(~view.filters), np.flatnonzero(view.filters), view.stored_counts
    graphs: list[HighLevelGraph] = []
    known: list[Any] = [] if counts is None else [counts[apart]]
    if counts is None:
        runs = cut_runs(view, apart)
        view.member(HEADS, view.data.vertices, head=True)
        counted = f"zv-count-{tokenize(view.token, runs.bounds)}"
        inputs = (view.source, view.data.vertices.spec, Of(runs.coords_of), Of(partial(runs.cells, HEADS)))
        graphs.append(blocks_over(counted, BlockTasks(count_rows, inputs), len(runs), read_graph(view.reads)))
        known = [TaskRef((counted, run)) for run in range(len(runs))]
    choice, chosen = choice_graph(view)
    kept = [] if choice is None else choice.each(filtered)
    graphs += chosen
    task = Task((name,), number_rows, len(view), apart, List(*known), filtered, List(*kept))
    return RowNumbers(name, None), task_over(name, task, *graphs)


def row_sizes(view: LevelView) -> Delayed:
    """Selected rows of each chunk of a view, (n,) int64, computed from what choosing them needs."""
    rows, graph = number_view(view)
    name = f"zv-sizes-{view.token}"
    task = Task((name,), np.diff, rows.starts if rows.starts is not None else TaskRef((rows.name,)))
    return Delayed((name,), task_over(name, task, graph), layer=name)


def sized(view: LevelView) -> LevelView:
    """Return a view with known sizes; reads as little as the store allows where they are not known."""
    if view.sizes is not None:
        return view.with_sizes(view.sizes)
    if not view.filters.any():
        return view.with_sizes(read_row_counts(view.data, view.rows))
    return view.with_sizes(np.asarray(dask.compute(row_sizes(view))[0]))


# Link records of a view as Dask arrays, blocks of many cells.

INTEGER = np.dtype(np.int64)
TREE = "implicit_sequential_with_branches"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CellList:
    """The link cells of a view, in canonical order.

    Parameters
    ----------
    segments
        (B,) segment of each cell.
    sources
        (B,) its chunk among the view's; -1 where it is none of them.
    coords
        (B, K) its chunk.
    ends
        (B, L) for each slot its chunk among those of the level that it lies on; -1 where there is none.
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
        The level of endpoints 1.., whole, where that is another one.
    cut
        Also cells of which some end is selected and another is not.
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


@dataclass(frozen=True, slots=True, eq=False)
class Reaches:
    """What joins chunks of a view, by chunk.

    Parameters
    ----------
    ends
        (B, L) chunks that are joined, -1 for those outside the view; those of link cells first.
    order, bounds
        Numbers of what joins chunk i with others: ``order[bounds[i]:bounds[i + 1]]``, ascending.
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
        return cls(ends, order // ends.shape[1], np.searchsorted(chunk[order], np.arange(chunks + 1)), cells)

    def near(self, chunks: IntArray) -> IntArray:
        """Numbers of what joins some chunks, with each other or with others; ascending."""
        first = self.bounds[chunks]
        return np.unique(self.order[ranges(first, self.bounds[chunks + 1] - first)])


def check_sources(view: LevelView, family: LinkFamily, cells: CellList) -> None:
    """Raise CorruptChunkError if a level has links of a chunk that has no vertices."""
    lost = np.flatnonzero(cells.sources < 0)
    if view.rows is None and len(lost):
        coord = dotted(cells.coords[lost[0]])
        reason = f"links name rows of chunk {coord}, which has no vertices"
        path = family.segments[int(cells.segments[lost[0]])].array.spec.path
        raise CorruptChunkError(reason, level=view.data.meta.index, array=path, chunk=coord, url=view.data.tree.url)


def _selected(view: LevelView, ends: IntArray, within: bool, cut: bool) -> BoolArray:
    """(B,) which cells may have selected records; all of them where the level is whole."""
    if view.rows is None:
        return np.ones(len(ends), np.bool_)
    if not within:
        return ends[:, 0] >= 0
    return np.asarray((ends >= 0).any(axis=1) if cut else (ends >= 0).all(axis=1))


def _anchor(coords: ChunkCoords, view: LevelView, other: LevelView) -> ChunkCoords:
    """Chunk of another level below which a chunk lies (spec 0.9, 7.4)."""
    root = view.data.store.chunk_shape
    here, there = (np.rint(v.data.meta.chunk_shape / root).astype(np.int64) for v in (view, other))
    spatial = coords[:, coords.shape[1] - len(root) :] * here // there
    return np.concatenate([coords[:, : coords.shape[1] - len(root)], spatial], axis=1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LinkRuns:
    """The link cells of a view cut into runs of neighbours, and what the task of a run is given.

    Parameters
    ----------
    family
        The records.
    cells
        All of them.
    bounds
        (r + 1,) run k has the cells ``bounds[k]:bounds[k + 1]``.
    reads
        What fetches them.
    apart
        Whether they are numbered there as in ``cells``, so that no batch has cells of distant runs; else by chunk.
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
        """References to the encoded cells of a run, in parts: of the records, or of what belongs to them."""
        cells = np.arange(self.bounds[run], self.bounds[run + 1])
        cells = cells if present is None else cells[present[cells]]
        if self.apart:
            return List(*([cells_of(self.reads.name, group, cells)] if len(cells) else []))
        parts = np.split(cells, np.flatnonzero(np.diff(self.cells.segments[cells])) + 1) if len(cells) else []
        segments = [self.family.segments[int(self.cells.segments[part[0]])].name for part in parts]
        return List(
            *(
                cells_of(self.reads.name, f"{group}:{segment}", self.cells.sources[part])
                for segment, part in zip(segments, parts, strict=True)
            )
        )


def link_cells(family: LinkFamily, cells: CellList, taken: slice | IntArray) -> LinkCells:
    """What tasks are told of some cells."""
    return LinkCells(
        specs=tuple(segment.array.spec for segment in family.segments),
        codings=tuple(segment.coding for segment in family.segments),
        segments=cells.segments[taken],
        coords=cells.coords[taken],
        ends=cells.ends[taken],
    )


def cut_cells(view: LevelView, family: LinkFamily, cells: CellList) -> IntArray:
    """Bounds of the blocks of link cells: as many as the chunks have, or up to ``array.chunk-size`` each.

    What lies inside chunks is taken to be most of it: how much a cell has, only its bytes tell.
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
    """Cut link cells and let them be fetched."""
    tree = view.data.store.links_convention == TREE and other is None
    reads = view.reads
    if not tree:  # a skeleton's edges are asked for by chunk, and no cell is read twice
        digests = [segment.array.digest for segment in family.segments]
        token = tokenize(view.reads.name, family.delta, digests, cells.segments, cells.coords, other and other.token)
        reads = shared_reads(f"zv-read-links-{token}", view.source, cells.coords)
    runs = LinkRuns(family=family, cells=cells, bounds=cut_cells(view, family, cells), reads=reads, apart=not tree)
    add_cells(view, runs, f"links:{family.delta}", {segment.name: segment.array for segment in family.segments})
    return runs


def add_cells(view: LevelView, runs: LinkRuns, group: str, arrays: Mapping[str, CellArray]) -> BoolArray:
    """Let what belongs to link cells be fetched, as members of a group; (m,) for which of them it is there."""
    names, cells, found = [], runs.cells, np.zeros(len(runs.cells), np.bool_)
    for number, segment in enumerate(runs.family.segments):
        array, mine = arrays.get(segment.name), cells.segments == number
        if array is None or not mine.any():
            continue
        name = f"{group}:{segment.name}"
        at = np.full(len(cells), -1, np.int64)
        at[mine] = array.chunks.find(cells.coords[mine])
        found |= at >= 0
        if not runs.apart:
            view.member(name, array)
            continue
        places = None if array.places is None else array.places.take(at)
        nbytes = view.estimated_nbytes(array)
        runs.reads.members[name] = Member(spec=array.spec, present=at >= 0, nbytes=nbytes, places=places)
        names.append(name)
    if runs.apart:
        runs.reads.groups[group] = tuple(names)
    return found


@dataclass(frozen=True, slots=True, eq=False)
class LinkRecipe:
    """Makes the tasks that resolve link cells: rows, which records are selected, and how many each cell has."""

    source: Source
    runs: LinkRuns
    here: RowNumbers
    there: RowNumbers | None
    choice: Choice | None
    table: Table | None

    def task(self, key: Key, block: int) -> GraphNode:
        """Task of one run; the last one is that of the table, where there is one."""
        if block == len(self.runs):
            there = None if self.there is None else self.there.all()
            return Task(key, table_rows, self.table, self.here.all(), there, kept_of(self.choice))
        cells = self.runs.of(block)
        mine = cells.ends if self.there is None else cells.ends[:, :1]
        chunks = np.unique(mine[mine >= 0])
        there = None if self.there is None else self.there.of(np.where(_first_slot(cells.ends), -1, cells.ends))
        here = self.here.of(cells.ends if self.there is None else np.where(_first_slot(cells.ends), cells.ends, -1))
        kept = kept_of(self.choice, chunks)
        raws = self.runs.raws(block, f"links:{self.runs.family.delta}")
        return Task(key, resolve_links, self.source, cells, raws, here, there, kept)


def _first_slot(ends: IntArray) -> BoolArray:
    return np.broadcast_to(np.arange(ends.shape[1]) == 0, ends.shape)


@dataclass(frozen=True, slots=True, eq=False)
class Resolved:
    """A layer of resolved link cells: keys ``(name, block)``, see `access.links.Resolved`."""

    name: str
    runs: LinkRuns
    graph: HighLevelGraph
    tabled: bool

    def __len__(self) -> int:
        return len(self.runs) + self.tabled


def kept_of(choice: Choice | None, chunks: IntArray | None = None) -> Dict:
    """References to the chosen rows of the chunks of which rows are chosen, by chunk; of some chunks, or of all."""
    if choice is None:
        return Dict({})
    every = np.flatnonzero(choice.filters) if chunks is None else chunks[choice.filters[chunks]]
    return Dict(dict(zip(every.tolist(), choice.each(every), strict=True)))


def table_of(view: LevelView, family: LinkFamily, other: LevelView | None = None) -> Table | None:
    """The records of a family that name their chunks; None where there are none, or no chunk is selected."""
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
    """Layer of the resolved cells of a family, and of its table; None where nothing is selected."""
    cells, table = list_cells(view, family, other), table_of(view, family, other)
    if not len(cells) and table is None:
        return None
    check_sources(view, family, cells)
    runs = _link_runs(view, family, cells, other)
    here, here_graph = number_view(view)
    there, there_graph = (None, None) if other is None else number_view(other)
    choice, chosen = choice_graph(view)
    recipe = LinkRecipe(view.source, runs, here, there, choice, table)
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
    recipe = BlockTasks(selected_links, (Each(resolved.name),))
    return array_over(name, recipe, [NAN] * len(resolved), (width,), INTEGER, resolved.graph)


def value_cells(
    family: LinkFamily, values: Mapping[str, CellArray], cells: CellList, taken: slice | IntArray, **about: Any
) -> ValueCells:
    """What tasks are told of the values of some link cells; ``about`` them: fields of `ValueCells`."""
    specs = tuple(values[s.name].spec if s.name in values else None for s in family.segments)
    about["present"] = about["present"][taken]  # of its own: keywords
    return ValueCells(specs=specs, segments=cells.segments[taken], coords=cells.coords[taken], **about)


@dataclass(frozen=True, slots=True, eq=False)
class LinkValueRecipe:
    """Makes the tasks that give the values of link cells."""

    source: Source
    runs: LinkRuns
    group: str
    values: LinkValues
    present: BoolArray
    row_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    resolved: str

    def task(self, key: Key, block: int) -> GraphNode:
        """Task of one run; the last one is that of the table, where there is one."""
        resolved, runs = TaskRef((self.resolved, block)), self.runs
        if block == len(runs) and self.values.table is not None:
            return Task(key, table_values, self.source, self.values.table, self.dtype, resolved)
        if block == len(runs):
            return Task(key, missing_values, self.row_shape, self.dtype, resolved)
        taken = slice(int(runs.bounds[block]), int(runs.bounds[block + 1]))
        about = {"present": self.present, "row_shape": self.row_shape, "dtype": self.dtype, "fill": self.values.fill}
        cells = value_cells(runs.family, self.values.cells, runs.cells, taken, **about)
        return Task(key, link_values, self.source, cells, runs.raws(block, self.group, self.present), resolved)


def value_dtype(family: LinkFamily, values: LinkValues, *, exact: bool = False) -> np.dtype[Any]:
    """Dtype of a link attribute; float64 for whole numbers that it surely holds, where some are missing.

    ``exact``: not where they are stored beside an integer that says which are missing.
    """
    dtypes = [array.spec.dtype for array in values.cells.values()] + ([values.table.dtype] if values.table else [])
    dtype = dtypes[0] if dtypes else np.dtype(np.float64)
    return with_missing(dtype) if _incomplete(family, values) and not (exact and values.fill is not None) else dtype


def with_missing(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Dtype of a link attribute of which values are missing; whole numbers of 64 bits are masked, and stay exact."""
    return dtype if dtype.kind in "iu" and dtype.itemsize == 8 else nullable(dtype)


def link_attribute_array(
    view: LevelView, family: LinkFamily, values: LinkValues, name: str, *, exact: bool = False
) -> da.Array:
    """Values of a link attribute, aligned with ``links_array(view, family)``; missing ones are NaN, or masked."""
    row_shape, dtype = link_row_shape(view.data, family, values), value_dtype(family, values, exact=exact)
    resolved = resolve(view, family)
    if resolved is None:
        return empty_array(row_shape, dtype)
    group = f"link_attributes:{name}"
    present = add_cells(view, resolved.runs, group, values.cells)
    recipe = LinkValueRecipe(view.source, resolved.runs, group, values, present, row_shape, dtype, resolved.name)
    label = f"zv-link-{name}-{tokenize(resolved.name, name, dtype, [array.digest for array in values.cells.values()])}"
    below = (resolved.graph, read_graph(resolved.runs.reads))
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
