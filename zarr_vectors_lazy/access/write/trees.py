"""What tasks run to write skeletons whose nodes no task has all of: trees by object, then chunks in depth-first order.

A node travels to its home, where the edge to its parent meets it; then to the task that has all nodes of its object and
finds their order; then to the part that writes its chunk. There it is seen which edges the order implies; the others go
the way of all links, their first end resolved already.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from zarr_vectors_lazy.access.write.exchange import Mail
from zarr_vectors_lazy.access.write.intake import Intake, Taken, Tally, take_block
from zarr_vectors_lazy.access.write.linked import (
    LinkIntake,
    LinkPlan,
    LinkTally,
    link_records,
    no_mail,
    places_of_part,
)
from zarr_vectors_lazy.access.write.part import Part, PartRecord, Plan, write_arranged
from zarr_vectors_lazy.access.write.session import WriteSession
from zarr_vectors_lazy.access.write.spill import SpillFolder, flat
from zarr_vectors_lazy.access.write.whole import empty_record
from zarr_vectors_lazy.errors import SelectionError, StoreError
from zarr_vectors_lazy.kernels import arrange
from zarr_vectors_lazy.kernels.arrange import Arranged
from zarr_vectors_lazy.kernels.hashing import hash_ids
from zarr_vectors_lazy.kernels.places import PLACE, Homes
from zarr_vectors_lazy.kernels.records import (
    GAP,
    Records,
    attribute_field,
    block_of,
    in_order,
    link_dtype,
    pack,
    rename_rows,
    row_in_block,
)
from zarr_vectors_lazy.kernels.routing import mixed
from zarr_vectors_lazy.kernels.trees import depth_first
from zarr_vectors_lazy.plan.spread import shard_of
from zarr_vectors_lazy.types import IntArray

NONE = -1
ATTRIBUTE = attribute_field("")
EDGE = link_dtype(2, {})
RANK = np.dtype([("number", "<i8"), ("along", "<i8"), ("parent", "<i8"), ("edge", "<i8")])


def node_dtype(ndim: int) -> np.dtype[np.void]:
    """Dtype of a node on its way home: number, object, chunk."""
    return np.dtype([("number", "<i8"), ("owner", "<i8"), ("chunk", "<i8", (ndim,))])


def tree_dtype(ndim: int) -> np.dtype[np.void]:
    """Dtype of a node that knows its parent and the number of the edge to it; both `NONE` for roots."""
    return np.dtype([*node_dtype(ndim).descr, ("parent", "<i8"), ("edge", "<i8")])


def nodes_of(taken: Taken, homes: Homes) -> Mail:
    """Nodes of an input block, for their homes."""
    records, routed = taken.records, taken.routed
    columns = {
        "number": records["number"],
        "owner": records["owner"],
        "chunk": np.repeat(routed.coords, routed.counts, axis=0),
    }
    return Mail(pack(node_dtype(routed.coords.shape[1]), columns, len(records)), homes.of(records["number"]))


def spill_nodes(
    intake: Intake, folder: SpillFolder, homes: Homes, number: int, *parts: Any
) -> tuple[tuple[Mail], Tally]:
    """Keep the rows of an input block in a file, send its nodes home."""
    taken = take_block(intake, number, *parts)
    folder.write(number, taken.records, taken.routed.coords, taken.routed.bounds)
    return (nodes_of(taken, homes),), taken.tally


def take_edges(
    intake: LinkIntake, firsts: IntArray | None, valued: bool, number: int, *parts: Any
) -> tuple[tuple[Mail, ...], LinkTally]:
    """Send edges to the homes of their children; and again, if ``valued``, as links that are stored.

    Parameters
    ----------
    firsts
        (B,) rows before each block, where the edges count rows from block to block.
    """
    records, tally = link_records(intake, number, *parts)
    return _edge_mail(intake, records, firsts, valued), tally


def hold_edges(intake: LinkIntake, receivers: int, number: int, *parts: Any) -> tuple[tuple[Mail], LinkTally]:
    """Keep edges until it is known how many rows each block has."""
    records, tally = link_records(intake, number, *parts)
    return (Mail(records, np.full(len(records), number % receivers)),), tally


def name_edges(records: Records, plan: LinkPlan, intake: LinkIntake, valued: bool) -> tuple[tuple[Mail, ...], None]:
    """`take_edges` of edges that were kept."""
    return _edge_mail(intake, records, plan.plan.firsts, valued), None


def _edge_mail(intake: LinkIntake, records: Records, firsts: IntArray | None, valued: bool) -> tuple[Mail, ...]:
    if firsts is not None:
        records = records.copy()
        records["ends"] = rename_rows(records["ends"], firsts)
    to = intake.homes.of(records["ends"][:, 0])
    edges = pack(EDGE, {"number": records["number"], "ends": records["ends"]}, len(records))
    return (Mail(edges, to), Mail(records, to)) if valued else (Mail(edges, to),)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Valued:
    """Stored records that have the values of some edges.

    Parameters
    ----------
    intake
        How input blocks of them become records.
    links
        Dtype of edges with their values.
    """

    intake: LinkIntake
    links: np.dtype[np.void]


def join_values(
    nodes: Records, edges: Records, values: Records, plan: LinkPlan, groups: int, valued: Valued
) -> tuple[tuple[Mail, Mail], int]:
    """`join_parents`, and edges with their values for the homes of their children; how many have none."""
    mail, _ = join_parents(nodes, edges, plan, groups)
    values = in_order(values)
    home = in_order(nodes)["number"]
    record = np.full(len(home) + 1, NONE, np.int64)  # the last for what is not there
    record[_find(home, values["ends"][:, 0])] = np.arange(len(values))
    found = record[_find(home, edges["ends"][:, 0])]
    names = [name for name in values.dtype.names or () if name.startswith(ATTRIBUTE)] if len(values) else []
    columns: dict[str, Any] = {name: values[name][found] for name in names}
    columns |= {"number": edges["number"], "ends": edges["ends"], GAP: found == NONE}
    links = pack(valued.links, columns, len(edges))
    to = valued.intake.homes.of(edges["ends"][:, 0])
    return (*mail, Mail(links, to)), int((found == NONE).sum())


def with_gaps(plan: LinkPlan, gaps: Sequence[int]) -> LinkPlan:
    """The plan, when it is known how many edges have no values."""
    return replace(plan, gaps=sum(gaps) > 0)


def _find(numbers: IntArray, wanted: IntArray) -> IntArray:
    """Positions in ascending numbers, the last one plus one for those that are not there."""
    at = np.searchsorted(numbers, wanted)
    there = at < len(numbers)
    there[there] = numbers[at[there]] == wanted[there]
    return np.where(there, at, len(numbers))


def join_parents(nodes: Records, edges: Records, plan: LinkPlan, groups: int) -> tuple[tuple[Mail], None]:
    """Tell nodes their parents; they go on to the tasks that have all nodes of their objects.

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
        raise StoreError(f"row {row} was lost on its way; the write is unfinished", where=plan.plan.job.spec.url)
    named, counts = np.unique(at, return_counts=True)
    if (counts > 1).any():
        vertex = int(counted(nodes["number"][named[counts > 1][:1]], plan.plan)[0])
        raise SelectionError(
            f"the edges of a skeleton are [child, parent], one for each child; vertex {vertex} has "
            f"{int(counts.max())} parents"
        )
    parents, numbers = (np.full(len(nodes), NONE, np.int64) for _ in range(2))
    parents[at], numbers[at] = edges["ends"][:, 1], edges["number"]
    columns = {name: nodes[name] for name in nodes.dtype.names or ()} | {"parent": parents, "edge": numbers}
    trees = pack(tree_dtype(nodes.dtype["chunk"].shape[0]), columns, len(nodes))
    return (Mail(trees, (hash_ids(0, nodes["owner"]) % np.uint64(groups)).astype(np.int64)),), None


def counted(numbers: IntArray, plan: Plan) -> IntArray:
    """Rows as they are counted from block to block."""
    found: IntArray = plan.firsts[block_of(numbers)] + row_in_block(numbers)
    return found


def rank_trees(trees: Records, plan: LinkPlan, hashed: bool) -> tuple[tuple[Mail], None]:
    """Find the depth-first order of the nodes of some objects; they go to the parts that write their chunks.

    Parameters
    ----------
    hashed
        Whether rows go to parts by a hash of their chunk, not as the plan says.

    Raises
    ------
    SelectionError
        If an edge joins two objects, or following parents does not end.
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
    return (Mail(ranks, _parts(plan.plan, trees["chunk"], hashed)),), None


def joins_objects(child: int, parent: int) -> str:
    """What is wrong with an edge between objects."""
    return f"the edges of a skeleton lie inside objects; the edge from vertex {child} to {parent} joins two"


def _parts(plan: Plan, coords: IntArray, hashed: bool) -> IntArray:
    grid, shards = plan.job.grid, plan.job.encoding.shard_shape
    if hashed:
        return mixed(coords if shards is None else shard_of(coords, grid.origin, shards))
    return plan.parts[np.searchsorted(flat(plan.coords, grid), flat(coords, grid))]


class TreePart(Part):
    """All nodes of some chunks, with their places in depth-first order."""

    def __init__(self, plan: Plan, records: Records, ranks: Records) -> None:
        self.ranks = ranks
        super().__init__(plan, records)

    def _maker(self) -> Any:
        assert self.job.objects is not None
        roots = self.ranks["parent"] == NONE
        return partial(arrange.arrange_trees, owners=self.job.objects.owners, position=self.ranks["along"], roots=roots)

    def arranged_chunks(self) -> Sequence[Arranged]:
        """Rows and fragments of each chunk."""
        return self._arranged or []


def write_tree_rows(
    rows: Records, ranks: Records, plan: Plan, begun: WriteSession, homes: Homes, valued: bool
) -> tuple[tuple[Mail, ...], PartRecord]:
    """Write the chunks of a part; tell the homes of its nodes where they are stored.

    If links are ``valued``, all are stored, and both of their ends are asked for. Else the edges that the order does
    not imply are sent on from here.

    Raises
    ------
    StoreError
        If a node was lost on its way.
    """
    if not len(rows):
        nothing = PartRecord(empty_record(plan.coords.shape[1]), None)
        return (no_mail(PLACE),) if valued else (no_mail(PLACE), no_mail(EDGE)), nothing
    rows, ranks = in_order(rows), in_order(ranks)
    if not np.array_equal(rows["number"], ranks["number"]):
        raise StoreError("nodes were lost on their way; the write is unfinished", where=plan.job.spec.url)
    part = TreePart(plan, rows, ranks)
    done = write_arranged(plan, part, begun)
    places = places_of_part(plan, part, homes)
    mail = Mail(places, homes.of(places["row"]))
    if valued:
        return (mail,), done
    edges = _stored_edges(part, places)
    return (mail, Mail(edges, homes.of(edges["ends"][:, 1]))), replace(done, links=len(edges))


def _stored_edges(part: TreePart, places: Records) -> Records:
    """Edges whose parent is not the row before in the fragment: the place of the child, and the parent's number."""
    chunks = part.arranged_chunks()
    order = np.concatenate([chunk.rows for chunk in chunks])
    counts = np.concatenate([chunk.counts for chunk in chunks])
    implied = np.roll(part.ranks["number"][order], 1)
    implied[np.cumsum(counts) - counts] = NONE
    parents = part.ranks["parent"][order]
    at = np.flatnonzero(parents != implied)
    columns = {"number": part.ranks["edge"][order[at]], "ends": np.stack([places["place"][at], parents[at]], axis=1)}
    return pack(EDGE, columns, len(at))
