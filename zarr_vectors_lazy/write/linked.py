"""Links and trees out of core, as Dask graphs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from dask.delayed import Delayed

from zarr_vectors_lazy.kernels.records import attribute_field
from zarr_vectors_lazy.kernels.routing import PLACE
from zarr_vectors_lazy.read.layers import Key, List, Task, TaskRef
from zarr_vectors_lazy.types import IntArray
from zarr_vectors_lazy.write.exchange import RecordExchange, Writing, add_joins, add_plan
from zarr_vectors_lazy.write.links import (
    EDGE,
    RANK,
    Exchange,
    LinkBlockReader,
    Valued,
    Work,
    finish_linked,
    hold_edges,
    join_parents,
    join_values,
    merge_link_tallies,
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
    intake
        What tasks run on a block.
    keys
        Of each input block of links those of its parts.
    parts
        Tasks that write links.
    trees
        Of skeletons, how their nodes are put in order; None: of what has no order.
    """

    intake: LinkBlockReader
    keys: Sequence[tuple[Key, ...]]
    parts: int
    trees: Trees | None = None

    @property
    def dtype(self) -> np.dtype[np.void]:
        """Of links with their values."""
        apart = None if self.trees is None else self.trees.valued
        return self.intake.dtype if apart is None else apart.links

    def ends(self, slot: int) -> Exchange:
        """Links on their way to the home of an end."""
        return Exchange(name=f"ends-{slot}", dtype=self.dtype, receivers=self.intake.homes.count)

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
        """Places on their way to the homes of their rows, for each end of links."""
        width = self.intake.dtype["ends"].shape[0]
        return [
            Exchange(name=f"places-{slot}", dtype=PLACE, receivers=self.intake.homes.count) for slot in range(width)
        ]


def linked_write(writing: Writing, linking: Linking, carrier: RecordExchange) -> Delayed:
    """Write rows and links."""
    places = linking.places
    tallies = carrier.add_rows()
    taken = _add_takes(writing, linking, carrier)
    add_plan(carrier.tasks, writing, tallies, [add_link_plan(writing, linking, carrier, taken)])
    homes = linking.intake.homes
    carrier.close_rows()
    parts = [carrier.add_part(part, write_rows, homes, sends=places[:1]) for part in range(writing.parts)]
    carrier.close(places[0])
    carrier.close(linking.ends(0), after=parts)
    last = add_rounds(writing, linking, carrier, first=0)
    return add_links(writing, linking, carrier, parts, last=last, plan=writing.key("link-plan"))


def _add_takes(writing: Writing, linking: Linking, carrier: RecordExchange) -> list[Key]:
    return [
        carrier.add_step(
            writing.key("take-links", number),
            take_links,
            linking.intake,
            number,
            *map(TaskRef, keys),
            number=number,
            sends=[linking.ends(0)],
        )
        for number, keys in enumerate(linking.keys)
    ]


def add_link_plan(writing: Writing, linking: Linking, carrier: RecordExchange, taken: Sequence[Key]) -> Key:
    """Plan the links when all were tallied; key of the plan."""
    key, brief = writing.key("link-plan"), TaskRef(writing.key("brief"))
    tally = TaskRef(add_joins(carrier.tasks, writing, "link-tally", taken, merge_link_tallies))
    carrier.tasks[key] = Task(key, plan_links, brief, tally, linking.intake, linking.parts, linking.implied)
    return key


def add_rounds(writing: Writing, linking: Linking, carrier: RecordExchange, *, first: int) -> list[Key]:
    """Resolve the ends of all links from slot ``first`` on; keys of tasks that must run before the last one."""
    slots = range(first, len(linking.places))
    return [key for slot in slots for key in _add_round(writing, linking, carrier, slot)]


def _add_round(writing: Writing, linking: Linking, carrier: RecordExchange, slot: int) -> list[Key]:
    places, homes = linking.places, linking.intake.homes
    last = slot + 1 == len(places)
    sends = [linking.complete] if last else [linking.ends(slot + 1), places[slot + 1]]
    takes = [places[slot], linking.ends(slot)]
    args = (TaskRef(writing.key("link-plan")), slot, homes)
    keys = [
        carrier.add_step(
            writing.key(f"resolve-{slot}", home), resolve_ends, *args, number=home, takes=takes, sends=sends
        )
        for home in range(homes.count)
    ]
    for exchange in sends:
        carrier.close(exchange)
    return [key for exchange in takes for key in carrier.received(exchange, keys)]


def add_links(
    writing: Writing, linking: Linking, carrier: RecordExchange, parts: Sequence[Key], *, last: Sequence[Key], plan: Key
) -> Delayed:
    """Write links whose ends are known, as a plan says, then the end of the write, after the tasks ``last``."""
    whole, link_plan, begun = TaskRef(writing.key("plan")), TaskRef(plan), TaskRef(writing.key("begin"))
    links = [
        carrier.add_step(
            writing.key("links", part), write_link_part, link_plan, begun, number=part, takes=[linking.complete]
        )
        for part in range(linking.parts)
    ]
    key = writing.key("finish")
    records = [List(*map(TaskRef, keys)) for keys in (parts, links)]
    args = (whole, link_plan, begun, writing.summarise, *records, carrier.folder)
    carrier.tasks[key] = Task(key, finish_linked, *args, *map(TaskRef, last))
    return Delayed(key, carrier.graph(key), layer=key)


# Skeletons written from blocks that Dask computes: before rows are written, trees are put in order.


def tree_write(writing: Writing, linking: Linking, trees: Trees, carrier: RecordExchange) -> Delayed:
    """Write nodes and edges of skeletons."""
    homes, places = linking.intake.homes, linking.places
    nodes = Exchange(name="nodes", dtype=node_dtype(trees.ndim), receivers=homes.count)
    parents = Exchange(name="parents", dtype=EDGE, receivers=homes.count)
    tallies = carrier.add_rows(nodes, homes)
    sends = [parents, linking.ends(0)] if linking.valued and trees.valued is None else [parents]
    last = _add_edges(writing, linking, trees, carrier, sends)
    takes = [nodes, parents, *_add_values(writing, trees, carrier)]
    for exchange in takes:
        carrier.close(exchange)
    ranked, ranks, more = _add_ranks(writing, linking, trees, carrier, takes)
    add_plan(carrier.tasks, writing, tallies, [writing.key("link-plan"), *ranked])
    carrier.close_rows(after=ranked)
    asked = places[:1] if linking.valued else [places[1], linking.ends(1)]
    parts = [
        carrier.add_part(part, write_tree_rows, homes, linking.valued, takes=[ranks], sends=asked)
        for part in range(writing.parts)
    ]
    carrier.close(asked[0])
    carrier.close(linking.ends(0 if linking.valued else 1), after=parts)
    last += [*more, *carrier.received(ranks, parts), *add_rounds(writing, linking, carrier, first=not linking.valued)]
    plan = writing.key("link-plan" if trees.valued is None else "full-link-plan")
    return add_links(writing, linking, carrier, parts, last=last, plan=plan)


def _add_values(writing: Writing, trees: Trees, carrier: RecordExchange) -> list[Exchange]:
    """Send the values of edges home, where they come apart from the edges."""
    if trees.valued is None:
        return []
    intake = trees.valued.intake
    values = Exchange(name="values", dtype=intake.dtype, receivers=intake.homes.count)
    for number, keys in enumerate(trees.keys):
        key, refs = writing.key("take-values", number), map(TaskRef, keys)
        carrier.add_step(key, take_links, intake, number, *refs, number=number, sends=[values])
    return [values]


def _add_edges(
    writing: Writing, linking: Linking, trees: Trees, carrier: RecordExchange, sends: Sequence[Exchange]
) -> list[Key]:
    """Send edges home, when it is known which block has the rows that they name."""
    valued = len(sends) > 1
    waits = linking.intake.counted and trees.firsts is None
    held = Exchange(name="edges", dtype=linking.intake.dtype, receivers=linking.parts)
    work, args = (hold_edges, (held.receivers,)) if waits else (take_edges, (trees.firsts, valued))
    taken = [
        carrier.add_step(
            writing.key("take-links", number),
            work,
            linking.intake,
            *args,
            number,
            *map(TaskRef, keys),
            number=number,
            sends=[held] if waits else sends,
        )
        for number, keys in enumerate(linking.keys)
    ]
    plan = TaskRef(add_link_plan(writing, linking, carrier, taken))
    if not waits:
        return []
    carrier.close(held)
    keys = [
        carrier.add_step(
            writing.key("name-links", number),
            name_edges,
            plan,
            linking.intake,
            valued,
            number=number,
            takes=[held],
            sends=sends,
        )
        for number in range(held.receivers)
    ]
    return list(carrier.received(held, keys))


def _add_ranks(
    writing: Writing, linking: Linking, trees: Trees, carrier: RecordExchange, takes: Sequence[Exchange]
) -> tuple[list[Key], Exchange, list[Key]]:
    """Join nodes and parents, then put trees in order; keys of the tasks that do, what they send, and what must run."""
    whole = Exchange(name="trees", dtype=tree_dtype(trees.ndim), receivers=trees.groups)
    ranks = Exchange(name="ranks", dtype=RANK, receivers=writing.parts, to_rows=True)
    plan = TaskRef(writing.key("link-plan"))
    work: Work = join_parents if trees.valued is None else join_values
    more = [] if trees.valued is None else [trees.valued]
    sends = [whole] if trees.valued is None else [whole, linking.ends(0)]
    joined = [
        carrier.add_step(
            writing.key("parents", home), work, plan, trees.groups, *more, number=home, takes=takes, sends=sends
        )
        for home in range(linking.intake.homes.count)
    ]
    carrier.close(whole)
    if trees.valued is not None:
        key = writing.key("full-link-plan")
        carrier.tasks[key] = Task(key, with_gaps, plan, List(*map(TaskRef, joined)))
    ranked = [
        carrier.add_step(
            writing.key("ranks", group), rank_trees, plan, carrier.hashed, number=group, takes=[whole], sends=[ranks]
        )
        for group in range(trees.groups)
    ]
    carrier.close(ranks)
    last = [key for exchange in takes for key in carrier.received(exchange, joined)]
    return ranked, ranks, last + list(carrier.received(whole, ranked))
