"""Links and trees out of core, as Dask graphs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from dask.delayed import Delayed

from zarr_vectors_lazy.kernels.routing import PLACE
from zarr_vectors_lazy.kernels.rows import attribute_field
from zarr_vectors_lazy.read.layers import Key, List, TaskRef
from zarr_vectors_lazy.types import IntArray
from zarr_vectors_lazy.write.exchange import RecordExchange
from zarr_vectors_lazy.write.links import (
    EDGE,
    RANK,
    LinkBlockReader,
    Valued,
    finish_linked,
    hold_edges,
    join_parents,
    join_values,
    merge_link_statistics,
    name_edges,
    node_dtype,
    plan_links,
    rank_trees,
    resolve_ends,
    take_edges,
    take_links,
    tree_dtype,
    with_gaps,
    write_link_part,
    write_rows,
    write_tree_rows,
)
from zarr_vectors_lazy.write.scratch import Exchange, Work

# A store with links written from blocks that Dask computes: rows first, then links, which name rows of all blocks.


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trees:
    """How the nodes of skeletons are put in order.

    Parameters
    ----------
    ndim
        Axes of a chunk.
    groups
        Tasks that have all nodes of some objects each.
    firsts
        (B,) rows before each block, where edges count rows and the sizes of blocks are known; else None.
    valued, keys
        Records that have the values of some edges, where these come apart, and the keys of their blocks.
    """

    ndim: int
    groups: int
    firsts: IntArray | None
    valued: Valued | None = None
    keys: Sequence[tuple[Key, ...]] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Linking:
    """What links are written and how.

    Parameters
    ----------
    reader
        What tasks run on a block.
    keys
        Of each input block of links those of its parts.
    parts
        Tasks that write links.
    trees
        Of skeletons, how their nodes are put in order; None: of what has no order.
    """

    reader: LinkBlockReader
    keys: Sequence[tuple[Key, ...]]
    parts: int
    trees: Trees | None = None

    @property
    def dtype(self) -> np.dtype[np.void]:
        """Of links with their values."""
        apart = None if self.trees is None else self.trees.valued
        return self.reader.dtype if apart is None else apart.links

    def ends(self, slot: int) -> Exchange:
        """Links on their way to the owner of an end."""
        return Exchange(name=f"ends-{slot}", dtype=self.dtype, receivers=self.reader.row_owners.count)

    @property
    def valued(self) -> bool:
        """Whether links have attributes."""
        return any(name.startswith(attribute_field("")) for name in self.dtype.names or ())

    @property
    def implied(self) -> bool:
        """Whether the order of rows implies some links, which are then not stored."""
        return self.trees is not None and not self.valued

    @property
    def complete(self) -> Exchange:
        """Links whose ends are known, on their way to the part that writes them."""
        return Exchange(name="links", dtype=self.dtype, receivers=self.parts)

    @property
    def places(self) -> list[Exchange]:
        """Places on their way to the owners of their rows, for each end of links."""
        width = self.reader.dtype["ends"].shape[0]
        return [
            Exchange(name=f"places-{slot}", dtype=PLACE, receivers=self.reader.row_owners.count)
            for slot in range(width)
        ]


def linked_write(linking: Linking, exchange: RecordExchange) -> Delayed:
    """Write rows and links."""
    places, writing = linking.places, exchange.writing
    seen = exchange.add_rows()
    taken = _add_takes("take-links", linking.reader, linking.keys, linking.ends(0), exchange)
    exchange.add_plan(seen, [add_link_plan(linking, exchange, taken)])
    row_owners = linking.reader.row_owners
    parts = [exchange.add_part(part, write_rows, row_owners, sends=places[:1]) for part in range(writing.parts)]
    exchange.close(places[0], linking.ends(0))
    add_rounds(linking, exchange, first=0)
    return add_links(linking, exchange, parts, plan=writing.key("link-plan"))


def _add_takes(
    name: str, reader: LinkBlockReader, blocks: Sequence[tuple[Key, ...]], to: Exchange, exchange: RecordExchange
) -> list[Key]:
    """Send links to the owners of their first ends; keys of their statistics."""
    return [
        exchange.add_step(
            exchange.writing.key(name, number),
            take_links,
            reader,
            number,
            *map(TaskRef, keys),
            number=number,
            sends=[to],
        )
        for number, keys in enumerate(blocks)
    ]


def add_link_plan(linking: Linking, exchange: RecordExchange, taken: Sequence[Key]) -> Key:
    """Plan the links when all were seen; key of the plan."""
    part_plan = TaskRef(exchange.writing.key("part-plan"))
    statistics = TaskRef(exchange.add_joins("link-statistics", taken, merge_link_statistics))
    return exchange.add_checked(
        "link-plan", plan_links, part_plan, statistics, linking.reader, linking.parts, linking.implied
    )


def add_rounds(linking: Linking, exchange: RecordExchange, *, first: int) -> None:
    """Resolve the ends of all links from slot ``first`` on."""
    places, row_owners, writing = linking.places, linking.reader.row_owners, exchange.writing
    for slot in range(first, len(places)):
        last = slot + 1 == len(places)
        sends = [linking.complete] if last else [linking.ends(slot + 1), places[slot + 1]]
        takes = [places[slot], linking.ends(slot)]
        args = (TaskRef(writing.key("link-plan")), slot, row_owners)
        for owner in range(row_owners.count):
            key = writing.key(f"resolve-{slot}", owner)
            exchange.add_step(key, resolve_ends, *args, number=owner, takes=takes, sends=sends)
        exchange.close(*sends)


def add_links(linking: Linking, exchange: RecordExchange, parts: Sequence[Key], *, plan: Key) -> Delayed:
    """Write links whose ends are known, as a plan says, then the end of the write."""
    writing = exchange.writing
    whole, link_plan, begun = TaskRef(writing.key("plan")), TaskRef(plan), TaskRef(writing.key("begin"))
    links = [
        exchange.add_step(
            writing.key("links", part), write_link_part, link_plan, begun, number=part, takes=[linking.complete]
        )
        for part in range(linking.parts)
    ]
    records = [List(*map(TaskRef, keys)) for keys in (parts, links)]
    return exchange.finish(finish_linked, whole, link_plan, begun, writing.summarise, *records, exchange.scratch)


# Skeletons written from blocks that Dask computes: before rows are written, trees are put in order.


def tree_write(linking: Linking, trees: Trees, exchange: RecordExchange) -> Delayed:
    """Write nodes and edges of skeletons."""
    row_owners, places, writing = linking.reader.row_owners, linking.places, exchange.writing
    nodes = Exchange(name="nodes", dtype=node_dtype(trees.ndim), receivers=row_owners.count)
    parents = Exchange(name="parents", dtype=EDGE, receivers=row_owners.count)
    seen = exchange.add_rows(nodes, row_owners)
    sends = [parents, linking.ends(0)] if linking.valued and trees.valued is None else [parents]
    _add_edges(linking, trees, exchange, sends)
    takes = [nodes, parents, *_add_values(trees, exchange)]
    exchange.close(*takes)
    ranked, ranks = _add_ranks(linking, trees, exchange, takes)
    plan = writing.key("link-plan" if trees.valued is None else "full-link-plan")  # may still refuse the write
    exchange.add_plan(seen, [plan, *ranked])
    asked = places[:1] if linking.valued else [places[1], linking.ends(1)]
    parts = [
        exchange.add_part(part, write_tree_rows, row_owners, linking.valued, takes=[ranks], sends=asked)
        for part in range(writing.parts)
    ]
    exchange.close(asked[0], linking.ends(0 if linking.valued else 1))
    add_rounds(linking, exchange, first=not linking.valued)
    return add_links(linking, exchange, parts, plan=plan)


def _add_values(trees: Trees, exchange: RecordExchange) -> list[Exchange]:
    """Send the values of edges to their owners, where they come apart from the edges."""
    if trees.valued is None:
        return []
    reader = trees.valued.reader
    values = Exchange(name="values", dtype=reader.dtype, receivers=reader.row_owners.count)
    _add_takes("take-values", reader, trees.keys, values, exchange)
    return [values]


def _add_edges(linking: Linking, trees: Trees, exchange: RecordExchange, sends: Sequence[Exchange]) -> None:
    """Send edges to their owners, when it is known which block has the rows that they name."""
    writing, valued = exchange.writing, len(sends) > 1
    waits = linking.reader.counted and trees.firsts is None
    held = Exchange(name="edges", dtype=linking.reader.dtype, receivers=linking.parts)
    work, args = (hold_edges, (held.receivers,)) if waits else (take_edges, (trees.firsts, valued))
    taken = [
        exchange.add_step(
            writing.key("take-links", number),
            work,
            linking.reader,
            *args,
            number,
            *map(TaskRef, keys),
            number=number,
            sends=[held] if waits else sends,
        )
        for number, keys in enumerate(linking.keys)
    ]
    more = (TaskRef(add_link_plan(linking, exchange, taken)), linking.reader, valued)
    if not waits:
        return
    exchange.close(held)
    for number in range(held.receivers):
        key = writing.key("name-links", number)
        exchange.add_step(key, name_edges, *more, number=number, takes=[held], sends=sends)


def _add_ranks(
    linking: Linking, trees: Trees, exchange: RecordExchange, takes: Sequence[Exchange]
) -> tuple[list[Key], Exchange]:
    """Join nodes and parents, then put trees in order; keys of the tasks that do, and what they send."""
    writing = exchange.writing
    whole = Exchange(name="trees", dtype=tree_dtype(trees.ndim), receivers=trees.groups)
    ranks = Exchange(name="ranks", dtype=RANK, receivers=writing.parts)
    plan = TaskRef(writing.key("link-plan"))
    work: Work = join_parents if trees.valued is None else join_values
    more = [] if trees.valued is None else [trees.valued]
    sends = [whole] if trees.valued is None else [whole, linking.ends(0)]
    joined = [
        exchange.add_step(
            writing.key("parents", owner), work, plan, trees.groups, *more, number=owner, takes=takes, sends=sends
        )
        for owner in range(linking.reader.row_owners.count)
    ]
    exchange.close(whole)
    if trees.valued is not None:
        exchange.add_checked("full-link-plan", with_gaps, plan, List(*map(TaskRef, joined)))
    ranked = [
        exchange.add_step(writing.key("ranks", group), rank_trees, plan, number=group, takes=[whole], sends=[ranks])
        for group in range(trees.groups)
    ]
    exchange.close(ranks)
    return ranked, ranks
