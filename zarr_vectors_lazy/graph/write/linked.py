"""A store with links written from blocks that Dask computes: rows first, then links, which name rows of all blocks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from dask.delayed import Delayed

from zarr_vectors_lazy.access.write.exchange import Exchange
from zarr_vectors_lazy.access.write.linked import (
    LinkIntake,
    finish_linked,
    merge_link_tallies,
    plan_links,
    resolve_ends,
    take_links,
    write_link_part,
    write_rows,
)
from zarr_vectors_lazy.access.write.trees import Valued
from zarr_vectors_lazy.graph.layers import Key, List, Task, TaskRef
from zarr_vectors_lazy.graph.write.carrier import Carrier
from zarr_vectors_lazy.graph.write.spilled import Writing, add_joins, add_plan
from zarr_vectors_lazy.kernels.places import PLACE
from zarr_vectors_lazy.kernels.records import attribute_field
from zarr_vectors_lazy.types import IntArray


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

    intake: LinkIntake
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


def linked_write(writing: Writing, linking: Linking, carrier: Carrier) -> Delayed:
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


def _add_takes(writing: Writing, linking: Linking, carrier: Carrier) -> list[Key]:
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


def add_link_plan(writing: Writing, linking: Linking, carrier: Carrier, taken: Sequence[Key]) -> Key:
    """Plan the links when all were tallied; key of the plan."""
    key, brief = writing.key("link-plan"), TaskRef(writing.key("brief"))
    tally = TaskRef(add_joins(carrier.tasks, writing, "link-tally", taken, merge_link_tallies))
    carrier.tasks[key] = Task(key, plan_links, brief, tally, linking.intake, linking.parts, linking.implied)
    return key


def add_rounds(writing: Writing, linking: Linking, carrier: Carrier, *, first: int) -> list[Key]:
    """Resolve the ends of all links from slot ``first`` on; keys of tasks that must run before the last one."""
    slots = range(first, len(linking.places))
    return [key for slot in slots for key in _add_round(writing, linking, carrier, slot)]


def _add_round(writing: Writing, linking: Linking, carrier: Carrier, slot: int) -> list[Key]:
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
    writing: Writing, linking: Linking, carrier: Carrier, parts: Sequence[Key], *, last: Sequence[Key], plan: Key
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
