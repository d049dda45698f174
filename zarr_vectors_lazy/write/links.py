"""Links and trees over rows that no single task holds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np

from zarr_vectors_lazy.errors import SelectionError, StoreError
from zarr_vectors_lazy.format.v09.writing import MAX_PERMUTED, place_links
from zarr_vectors_lazy.format.vectors import taken
from zarr_vectors_lazy.kernels.routing import (
    PLACE,
    UNKNOWN,
    Routed,
    RowOwners,
    chunk_of_places,
    pack_places,
    row_of_places,
)
from zarr_vectors_lazy.kernels.rows import (
    GAP,
    Records,
    attribute_field,
    block_of,
    hash_ids,
    in_order,
    link_dtype,
    pack,
    rename_rows,
    row_in_block,
    row_numbers,
)
from zarr_vectors_lazy.kernels.trees import depth_first
from zarr_vectors_lazy.model.arrays import missing_integer
from zarr_vectors_lazy.model.writing import LevelRecord, merge_records
from zarr_vectors_lazy.plan.blocks import spread_chunks
from zarr_vectors_lazy.types import IntArray
from zarr_vectors_lazy.write.job import Prepared
from zarr_vectors_lazy.write.part import (
    Part,
    PartRecord,
    Plan,
    Summary,
    batches_of,
    commit_write,
    empty_record,
    whole_of,
    write_arranged,
    write_links,
)
from zarr_vectors_lazy.write.records import BlockReader, BlockStatistics, Taken, described, take_block
from zarr_vectors_lazy.write.scratch import RecordBatch, Runs, Scratch
from zarr_vectors_lazy.write.session import WriteSession

# The tasks that write links over rows that no single task holds: ends are resolved to places, then links are placed.
#
# A link names rows of the whole input. It travels to the owner of its first end, which knows where that row is stored,
# then to the owner of the next, and finally to the part of the chunk in which the format stores it.

NO_ROW = (-1, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LinkBlock:
    """Links of one input block, checked.

    Parameters
    ----------
    links
        (n, L) rows of all positions.
    values
        Rows aligned with ``links``; masked if they are integers that may be missing.
    """

    links: IntArray
    values: Mapping[str, np.ndarray[Any, Any]]


LinkReader: TypeAlias = Callable[..., LinkBlock]
"""Checks the arrays of one input block."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LinkBlockReader:
    """How input blocks of links become records.

    Parameters
    ----------
    read
        Makes a `LinkBlock` of what Dask computed.
    name
        Name of the argument that holds the links, for errors.
    dtype
        Dtype of the records, from the first block; others must have the same.
    row_owners
        Which tasks know where rows are stored.
    counted
        Whether links name rows counted over all blocks, rather than a block and a row in it.
    fills
        The integer that stands for missing values, by attribute that may have them.
    """

    read: LinkReader
    name: str
    dtype: np.dtype[np.void]
    row_owners: RowOwners
    counted: bool = True
    fills: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkStatistics:
    """What was seen of some input blocks of links.

    Parameters
    ----------
    count
        Number of links.
    highest
        Highest row that a link names, and the block and row of that link.
    missing
        Attributes with missing values.
    """

    count: int
    highest: tuple[int, int, int] = NO_ROW
    missing: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LinkPlan:
    """What is known once every input block was seen.

    Parameters
    ----------
    plan
        Plan of the rows, without tables.
    parts
        (C,) part that writes the links of each chunk.
    count
        Number of links that were given.
    implied
        Whether the order of rows implies some of them; the parts of the rows then count the stored ones.
    gaps
        Whether some have no values: 64-bit integers are then stored with one that stands for missing values, shorter
        ones and booleans as float64 with NaN.
    missing
        Attributes with missing values.
    """

    plan: Plan
    parts: IntArray
    count: int
    implied: bool = False
    gaps: bool = False
    missing: frozenset[str] = frozenset()

    def value_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """Dtype in which values of ``dtype`` are stored."""
        return np.dtype(np.float64) if self.gaps and dtype.kind not in "fc" and dtype.itemsize < 8 else dtype

    @property
    def fills(self) -> dict[str, int]:
        """The integer that stands for missing values, by attribute that has them."""
        dtypes = {name: values.dtype for name, values in self.plan.job.link_values.items()}
        lacking = self.missing | {name for name, dtype in dtypes.items() if self.gaps and is_long(dtype)}
        return {name: missing_integer(dtypes[name]) for name in dtypes if name in lacking}


def is_long(dtype: np.dtype[Any]) -> bool:
    """Whether it holds integers that float64 may not represent."""
    return dtype.kind in "iu" and dtype.itemsize == 8


def link_fills(values: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, int]:
    """The integer that stands for missing values, by attribute that may have them."""
    return {name: missing_integer(v.dtype) for name, v in values.items() if isinstance(v, np.ma.MaskedArray)}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LinkRecord:
    """What a part of the links wrote: cells, stored records inside chunks and across; ``start``: see `PartRecord`."""

    record: LevelRecord
    within: int
    across: int
    start: str | None = None


def link_layout(block: LinkBlock) -> np.dtype[np.void]:
    """Dtype of a block's records."""
    return link_dtype(
        block.links.shape[1], {name: (values.dtype, values.shape[1:]) for name, values in block.values.items()}
    )


def take_links(reader: LinkBlockReader, number: int, *parts: Any) -> tuple[tuple[RecordBatch], LinkStatistics]:
    """Send the `link_records` of an input block to the owners of their first ends."""
    records, statistics = link_records(reader, number, *parts)
    return (RecordBatch(records, reader.row_owners.of(records["ends"][:, 0])),), statistics


def link_records(reader: LinkBlockReader, number: int, *parts: Any) -> tuple[Records, LinkStatistics]:
    """Records of an input block, and its statistics.

    Raises
    ------
    SelectionError
        If the block's arrays do not match each other or those of the first block.
    """
    block = reader.read(*parts)
    if link_layout(block) != reader.dtype:
        raise SelectionError(
            f"block {number} has {described(link_layout(block), 'ends', reader.name)}, the first block "
            f"{described(reader.dtype, 'ends', reader.name)}; give all blocks one dtype"
        )
    rows = len(block.links)
    columns = {attribute_field(n): _filled(n, values, reader.fills.get(n)) for n, values in block.values.items()}
    records = pack(reader.dtype, {"number": row_numbers(number, rows), "ends": block.links, **columns}, rows)
    highest = NO_ROW
    if rows:
        at = int(np.argmax(block.links))
        highest = (int(block.links.flat[at]), number, at // block.links.shape[1])
    missing = frozenset(name for name, values in block.values.items() if np.ma.is_masked(values))
    return records, LinkStatistics(count=rows, highest=highest, missing=missing)


def _filled(name: str, values: np.ndarray[Any, Any], fill: int | None) -> np.ndarray[Any, Any]:
    """Values as they are stored; raises SelectionError if some are missing and no integer is left to stand for them."""
    missing = np.ma.getmaskarray(values)
    if fill is None and missing.any():
        raise SelectionError(
            f"link_attributes[{name!r}] has missing values, but its meta is not masked: build it from masked arrays"
        )
    plain = np.asarray(np.ma.getdata(values))
    if fill is not None and (plain[~missing] == fill).any():
        raise SelectionError(f"link_attributes[{name!r}]: {taken(plain.dtype)}")
    return np.where(missing, plain.dtype.type(fill or 0), plain) if missing.any() else plain


def merge_link_statistics(several: Sequence[LinkStatistics]) -> LinkStatistics:
    """Join several statistics; at least one."""
    return LinkStatistics(
        count=sum(each.count for each in several),
        highest=max((each.highest for each in several), key=lambda found: (found[0], -found[1])),
        missing=frozenset().union(*(each.missing for each in several)),
    )


def plan_links(plan: Plan, statistics: LinkStatistics, reader: LinkBlockReader, parts: int, implied: bool) -> LinkPlan:
    """Plan the links, once every input block was seen.

    Raises
    ------
    SelectionError
        If a link names a row that does not exist, or if links have more ends than the format can put in order and there
        are several chunks, because it is only known after the old store is gone whether they cross chunks.
    """
    width, chunks = reader.dtype["ends"].shape[0], len(plan.coords)
    if statistics.count and width > MAX_PERMUTED and chunks > 1:
        raise SelectionError(
            f"out of core, {reader.name} with more than {MAX_PERMUTED} ends need a store of one chunk; these have "
            f"{width}, and there are {chunks} chunks: choose a larger chunk_shape"
        )
    rows, (row, block, at) = int(plan.counts.sum()), statistics.highest
    if row >= rows and reader.counted:
        raise SelectionError(
            f"{reader.name} name row {row}, at row {at} of block {block}; there are {rows}, counted from 0"
        )
    spread = spread_chunks(plan.coords, plan.counts, plan.job.grid, plan.job.encoding, parts)
    return LinkPlan(plan=plan, parts=spread, count=statistics.count, implied=implied, missing=statistics.missing)


def write_rows(
    records: Records, plan: Plan, begun: WriteSession, row_owners: RowOwners
) -> tuple[tuple[RecordBatch], PartRecord]:
    """Write the chunks of a part, and send the places of its rows to their owners."""
    if not len(records):
        return (no_links(PLACE),), PartRecord(empty_record(plan.coords.shape[1]), None)
    part = Part.of(plan, in_order(records))
    done = write_arranged(plan, part, begun)
    places = places_of_part(plan, part, row_owners)
    return (RecordBatch(places, row_owners.of(places["row"])),), done


def no_links(dtype: np.dtype[np.void]) -> RecordBatch:
    """Nothing to send."""
    return RecordBatch(np.empty(0, dtype), np.empty(0, np.int64))


def places_of_part(plan: Plan, part: Part, row_owners: RowOwners) -> Records:
    """Places of the rows of a part, chunk by chunk in stored order."""
    chunks, counts = plan.find(part.prepared.routed.coords), part.prepared.routed.counts
    numbers = part.numbers[np.concatenate([chunk.rows for chunk in part.prepared.chunks or ()])]
    rows = np.arange(len(numbers)) - np.repeat(np.cumsum(counts) - counts, counts)
    columns = {"row": row_owners.names(numbers, plan.firsts), "place": pack_places(np.repeat(chunks, counts), rows)}
    return pack(PLACE, columns, len(numbers))


def resolve_ends(
    places: Records, links: Records, plan: LinkPlan, slot: int, row_owners: RowOwners
) -> tuple[tuple[RecordBatch, ...], None]:
    """Replace end ``slot`` of links by its place; send them to the owner of the next end, or after the last to a part.

    Places are sent on to the same owner again, so that none waits in memory until it is needed.

    Raises
    ------
    StoreError
        If a row was lost on its way.
    """
    links = links.copy()
    ends = links["ends"]
    sizes = np.diff(plan.plan.firsts, append=plan.plan.counts.sum())
    found = row_owners.look_up(places["row"], places["place"], ends[:, slot], sizes)
    if (found == UNKNOWN).any():
        row = int(ends[found == UNKNOWN, slot][0])
        raise StoreError(f"row {row} was lost on the way; the write is unfinished", where=plan.plan.job.spec.url)
    ends[:, slot] = found
    if slot + 1 < ends.shape[1]:
        return (
            RecordBatch(links, row_owners.of(ends[:, slot + 1])),
            RecordBatch(places, row_owners.of(places["row"])),
        ), None
    return (RecordBatch(links, plan.parts[chunk_of_places(ends).min(axis=1)]),), None


def _link_part(of_links: LinkPlan, links: Records) -> Prepared:
    """Links whose records lie in some chunks, in the order of the input."""
    plan, ends = of_links.plan, links["ends"]
    values = {name: _stored_values(of_links, links, name) for name in plan.job.link_values}
    return Prepared(
        job=replace(plan.job, links=ends, link_values=values),
        routed=Routed(plan.coords, np.empty(0, np.int64), np.empty(0, np.uint32)),
        placed=place_links(chunk_of_places(ends), row_of_places(ends), plan.coords),
    )


def _stored_values(plan: LinkPlan, links: Records, name: str) -> np.ndarray[Any, Any]:
    values: np.ndarray[Any, Any] = links[attribute_field(name)]
    if not plan.gaps:
        return values
    out = values.astype(plan.value_dtype(values.dtype))
    out[links[GAP]] = plan.fills.get(name, np.nan)
    return out


def write_link_part(links: Records, plan: LinkPlan, begun: WriteSession) -> tuple[tuple[()], LinkRecord]:
    """Encode and put the cells of the links of a part."""
    of_rows = plan.plan
    nothing = empty_record(of_rows.coords.shape[1])
    if not len(links):
        return (), LinkRecord(record=nothing, within=0, across=0)
    part = _link_part(plan, in_order(links))
    assert part.placed is not None
    chunks, first = np.unique(part.placed.sources, return_index=True)
    nbytes = np.diff(part.placed.bounds[first], append=len(links)) * links.dtype.itemsize
    written = [
        write_links(part, of_rows.writer(begun), chunks[at])
        for at in batches_of(part.job, of_rows.coords[chunks], nbytes)
    ]
    within, across = part.placed.counts
    return (), LinkRecord(record=merge_records([nothing, *written]), within=within, across=across, start=begun.start)


def finish_linked(
    plan: Plan,
    links: LinkPlan,
    session: WriteSession,
    summarise: Summary,
    parts: Sequence[PartRecord],
    link_parts: Sequence[LinkRecord],
    scratch: Scratch,
) -> dict[str, Any]:
    """Put objects and metadata, the root last; return ``summarise`` of everything.

    Raises
    ------
    StoreError
        If links were lost, a put fails, another write took the place, or this one started again.
    """
    starts = [*(part.start for part in parts), *(part.start for part in link_parts)]
    session.check_start(start for start in starts if start is not None)
    dtypes = {name: links.value_dtype(values.dtype) for name, values in plan.job.link_values.items()}
    values = {name: values.astype(dtypes[name]) for name, values in plan.job.link_values.items()}
    job = replace(plan.job, link_values=values, link_fills=links.fills)
    counted = sum(part.within for part in link_parts), sum(part.across for part in link_parts)
    whole = replace(whole_of(plan, parts), job=job, given_links=links.count, counted=counted)
    if sum(counted) != (sum(part.links for part in parts) if links.implied else links.count):
        raise StoreError("links were lost or duplicated on the way; the write is unfinished", where=plan.job.spec.url)
    records = [part.record for part in parts] + [part.record for part in link_parts]
    return commit_write(plan, session, summarise, whole, records, scratch)


# The tasks that write skeletons whose nodes no single task holds: trees by object, then chunks in depth-first order.
#
# A node travels to its owner, where the edge to its parent meets it; then to the task that has all nodes of its object
# and finds their order; then to the part that writes its chunk. That part sees which edges the order implies; the
# others go the way of all links, with their first end already resolved.

NONE = -1
ATTRIBUTE = attribute_field("")
EDGE = link_dtype(2, {})
RANK = np.dtype([("number", "<i8"), ("along", "<i8"), ("parent", "<i8"), ("edge", "<i8")])


def node_dtype(ndim: int) -> np.dtype[np.void]:
    """Dtype of a node on its way to its owner: number, object, chunk."""
    return np.dtype([("number", "<i8"), ("owner", "<i8"), ("chunk", "<i8", (ndim,))])


def tree_dtype(ndim: int) -> np.dtype[np.void]:
    """Dtype of a node with its parent and the number of the edge to it; both `NONE` for roots."""
    return np.dtype([*node_dtype(ndim).descr, ("parent", "<i8"), ("edge", "<i8")])


def nodes_of(taken: Taken, row_owners: RowOwners) -> RecordBatch:
    """Nodes of an input block, for their owners."""
    records, routed = taken.records, taken.routed
    columns = {
        "number": records["number"],
        "owner": records["owner"],
        "chunk": np.repeat(routed.coords, routed.counts, axis=0),
    }
    return RecordBatch(
        pack(node_dtype(routed.coords.shape[1]), columns, len(records)), row_owners.of(records["number"])
    )


def take_nodes(
    reader: BlockReader, row_owners: RowOwners, number: int, *parts: Any
) -> tuple[tuple[Runs, RecordBatch], BlockStatistics]:
    """Send the rows of an input block to the parts that write their chunks, and its nodes to their owners."""
    taken = take_block(reader, number, *parts)
    return (taken.rows, nodes_of(taken, row_owners)), taken.statistics


def take_edges(
    reader: LinkBlockReader, firsts: IntArray | None, valued: bool, number: int, *parts: Any
) -> tuple[tuple[RecordBatch, ...], LinkStatistics]:
    """Send edges to the owners of their children; and, if ``valued``, also as links to store.

    Parameters
    ----------
    firsts
        (B,) rows before each block, if the edges count rows over all blocks.
    """
    records, statistics = link_records(reader, number, *parts)
    return _edge_batches(reader, records, firsts, valued), statistics


def hold_edges(
    reader: LinkBlockReader, receivers: int, number: int, *parts: Any
) -> tuple[tuple[RecordBatch], LinkStatistics]:
    """Keep edges until it is known how many rows each block has."""
    records, statistics = link_records(reader, number, *parts)
    return (RecordBatch(records, np.full(len(records), number % receivers)),), statistics


def name_edges(
    records: Records, plan: LinkPlan, reader: LinkBlockReader, valued: bool
) -> tuple[tuple[RecordBatch, ...], None]:
    """`take_edges` of edges that were kept."""
    return _edge_batches(reader, records, plan.plan.firsts, valued), None


def _edge_batches(
    reader: LinkBlockReader, records: Records, firsts: IntArray | None, valued: bool
) -> tuple[RecordBatch, ...]:
    if firsts is not None:
        records = records.copy()
        records["ends"] = rename_rows(records["ends"], firsts)
    to = reader.row_owners.of(records["ends"][:, 0])
    edges = pack(EDGE, {"number": records["number"], "ends": records["ends"]}, len(records))
    return (RecordBatch(edges, to), RecordBatch(records, to)) if valued else (RecordBatch(edges, to),)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Valued:
    """Stored records with the values of some edges.

    Parameters
    ----------
    reader
        How input blocks of them become records.
    links
        Dtype of edges with their values.
    """

    reader: LinkBlockReader
    links: np.dtype[np.void]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lack:
    """Whether edges lack values; attributes with missing values, and those that contain the integer for missing."""

    gaps: bool
    missing: frozenset[str]
    taken: frozenset[str]


def join_values(
    nodes: Records, edges: Records, values: Records, plan: LinkPlan, groups: int, valued: Valued
) -> tuple[tuple[RecordBatch, RecordBatch], Lack]:
    """`join_parents`, and edges with their values for the owners of their children; returns what lacks values."""
    trees, _ = join_parents(nodes, edges, plan, groups)
    values = in_order(values)
    numbers = in_order(nodes)["number"]
    record = np.full(len(numbers) + 1, NONE, np.int64)  # the last is for what does not exist
    record[_find(numbers, values["ends"][:, 0])] = np.arange(len(values))
    found = record[_find(numbers, edges["ends"][:, 0])]
    names = [name for name in values.dtype.names or () if name.startswith(ATTRIBUTE)] if len(values) else []
    columns: dict[str, Any] = {name: values[name][found] for name in names}
    columns |= {"number": edges["number"], "ends": edges["ends"], GAP: found == NONE}
    links = pack(valued.links, columns, len(edges))
    to = valued.reader.row_owners.of(edges["ends"][:, 0])
    return (*trees, RecordBatch(links, to)), _lack(valued, {name: values[name] for name in names}, found)


def _lack(valued: Valued, columns: Mapping[str, Any], found: IntArray) -> Lack:
    named = {name.removeprefix(ATTRIBUTE): of for name, of in columns.items() if of.dtype.kind in "iu"}
    fills = frozenset(name for name, of in named.items() if (of == missing_integer(of.dtype)).any())
    told = valued.reader.fills.keys()
    return Lack(gaps=bool((found == NONE).any()), missing=fills & told, taken=fills - told)


def with_gaps(plan: LinkPlan, lacks: Sequence[Lack]) -> LinkPlan:
    """The plan, once it is known which edges have no values; raises SelectionError if no integer can stand for them."""
    gaps = any(lack.gaps for lack in lacks)
    missing = frozenset().union(*(lack.missing for lack in lacks))
    found = replace(plan, gaps=gaps, missing=missing)
    for name in sorted(frozenset().union(*(lack.taken for lack in lacks)) & found.fills.keys()):
        raise SelectionError(f"link attribute {name!r}: {taken(plan.plan.job.link_values[name].dtype)}")
    return found


def _find(numbers: IntArray, wanted: IntArray) -> IntArray:
    """Positions in ascending numbers; those that do not exist get the last position plus one."""
    at = np.searchsorted(numbers, wanted)
    there = at < len(numbers)
    there[there] = numbers[at[there]] == wanted[there]
    return np.where(there, at, len(numbers))


def join_parents(nodes: Records, edges: Records, plan: LinkPlan, groups: int) -> tuple[tuple[RecordBatch], None]:
    """Give nodes their parents; send them to the tasks that have all nodes of their objects.

    Raises
    ------
    SelectionError
        If a child has two parents.
    StoreError
        If a node was lost on its way.
    """
    nodes = in_order(nodes)
    children = edges["ends"][:, 0]
    at = _find(nodes["number"], children)
    if (at == len(nodes)).any():
        row = int(counted(children[at == len(nodes)][:1], plan.plan)[0])
        raise StoreError(f"row {row} was lost on the way; the write is unfinished", where=plan.plan.job.spec.url)
    named, counts = np.unique(at, return_counts=True)
    if (counts > 1).any():
        vertex = int(counted(nodes["number"][named[counts > 1][:1]], plan.plan)[0])
        raise SelectionError(several_parents(vertex, int(counts.max())))
    parents, numbers = (np.full(len(nodes), NONE, np.int64) for _ in range(2))
    parents[at], numbers[at] = edges["ends"][:, 1], edges["number"]
    columns = {name: nodes[name] for name in nodes.dtype.names or ()} | {"parent": parents, "edge": numbers}
    trees = pack(tree_dtype(nodes.dtype["chunk"].shape[0]), columns, len(nodes))
    return (RecordBatch(trees, (hash_ids(0, nodes["owner"]) % np.uint64(groups)).astype(np.int64)),), None


def counted(numbers: IntArray, plan: Plan) -> IntArray:
    """Rows as they are counted over all blocks."""
    return np.asarray(plan.firsts[block_of(numbers)] + row_in_block(numbers))


def rank_trees(trees: Records, plan: LinkPlan) -> tuple[tuple[RecordBatch], None]:
    """Find the depth-first order of the nodes of some objects; send them to the parts that write their chunks.

    Raises
    ------
    SelectionError
        If an edge joins two objects, or if edges form a cycle.
    """
    trees = in_order(trees)
    numbers, owners, parents = trees["number"], trees["owner"], trees["parent"]
    inner = np.flatnonzero(parents != NONE)
    above = np.minimum(np.searchsorted(numbers, parents[inner]), max(len(trees) - 1, 0))
    apart = (numbers[above] != parents[inner]) | (owners[above] != owners[inner])
    if apart.any():
        at = inner[apart][0]
        raise SelectionError(joins_objects(*counted(np.stack([numbers[at], parents[at]]), plan.plan).tolist()))
    rows = np.full(len(trees), NONE, np.int64)
    rows[inner] = above
    along = depth_first(rows, counted(numbers, plan.plan))
    ranks = pack(RANK, {"number": numbers, "along": along, "parent": parents, "edge": trees["edge"]}, len(trees))
    return (RecordBatch(ranks, plan.plan.parts_of(trees["chunk"])),), None


def several_parents(child: int, parents: int) -> str:
    """Describe edges that name one child more than once."""
    return f"the edges of a skeleton must be [child, parent], one for each child; vertex {child} has {parents} parents"


def joins_objects(child: int, parent: int) -> str:
    """Describe an edge between objects."""
    return f"the edges of a skeleton must lie within objects; the edge from vertex {child} to {parent} joins two"


def write_tree_rows(
    rows: Records, ranks: Records, plan: Plan, begun: WriteSession, row_owners: RowOwners, valued: bool
) -> tuple[tuple[RecordBatch, ...], PartRecord]:
    """Write the chunks of a part; send the places of its nodes to their owners.

    If links are ``valued``, all are stored, and places are needed for both of their ends. Otherwise the edges that the
    order does not imply are sent on from here.

    Raises
    ------
    StoreError
        If a node was lost on its way.
    """
    if not len(rows):
        nothing = PartRecord(empty_record(plan.coords.shape[1]), None)
        return (no_links(PLACE),) if valued else (no_links(PLACE), no_links(EDGE)), nothing
    rows, ranks = in_order(rows), in_order(ranks)
    if not np.array_equal(rows["number"], ranks["number"]):
        raise StoreError("nodes were lost on the way; the write is unfinished", where=plan.job.spec.url)
    part = Part.of(plan, rows, (ranks["along"], ranks["parent"] == NONE))
    done = write_arranged(plan, part, begun)
    places = places_of_part(plan, part, row_owners)
    told = RecordBatch(places, row_owners.of(places["row"]))
    if valued:
        return (told,), done
    edges = _stored_edges(part, ranks, places)
    return (told, RecordBatch(edges, row_owners.of(edges["ends"][:, 1]))), replace(done, links=len(edges))


def _stored_edges(part: Part, ranks: Records, places: Records) -> Records:
    """Edges whose parent is not the previous row of the fragment: the place of the child, and the parent's number."""
    chunks = part.prepared.chunks or ()
    order = np.concatenate([chunk.rows for chunk in chunks])
    counts = np.concatenate([chunk.counts for chunk in chunks])
    implied = np.roll(ranks["number"][order], 1)
    implied[np.cumsum(counts) - counts] = NONE
    parents = ranks["parent"][order]
    at = np.flatnonzero(parents != implied)
    columns = {"number": ranks["edge"][order[at]], "ends": np.stack([places["place"][at], parents[at]], axis=1)}
    return pack(EDGE, columns, len(at))
