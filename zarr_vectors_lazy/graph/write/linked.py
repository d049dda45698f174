"""A store with links written from blocks that Dask computes: rows first, then links, which name rows of all blocks."""

from collections.abc import Sequence
from dataclasses import dataclass

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
)
from zarr_vectors_lazy.graph.layers import Key, List, Task, TaskRef
from zarr_vectors_lazy.graph.write.carrier import Carrier
from zarr_vectors_lazy.graph.write.spilled import Writing, add_joins, add_plan
from zarr_vectors_lazy.kernels.places import PLACE


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
    """

    intake: LinkIntake
    keys: Sequence[tuple[Key, ...]]
    parts: int

    def ends(self, slot: int) -> Exchange:
        """Links on their way to the home of an end."""
        return Exchange(name=f"ends-{slot}", dtype=self.intake.dtype, receivers=self.intake.homes.count)

    @property
    def complete(self) -> Exchange:
        """Links whose ends are known, on their way to the part that writes them."""
        return Exchange(name="links", dtype=self.intake.dtype, receivers=self.parts)

    @property
    def places(self) -> list[Exchange]:
        """Places on their way to the homes of their rows, for each end apart: none waits in memory for the next."""
        width = self.intake.dtype["ends"].shape[0]
        return [
            Exchange(name=f"places-{slot}", dtype=PLACE, receivers=self.intake.homes.count) for slot in range(width)
        ]


def linked_write(writing: Writing, linking: Linking, carrier: Carrier) -> Delayed:
    """Write rows and links."""
    tallies = carrier.add_rows()
    taken = _add_takes(writing, linking, carrier)
    _add_plans(writing, linking, carrier, tallies, taken)
    places = linking.places
    parts = [carrier.add_part(part, places, linking.intake.homes, len(places)) for part in range(writing.parts)]
    for exchange in (linking.ends(0), *places):
        carrier.close(exchange)
    last = [key for slot in range(len(places)) for key in _add_round(writing, linking, carrier, slot)]
    plan, begun = TaskRef(writing.key("link-plan")), TaskRef(writing.key("begin"))
    written = [
        carrier.add_step(
            writing.key("links", part), write_link_part, plan, begun, number=part, takes=[linking.complete]
        )
        for part in range(linking.parts)
    ]
    return _finished(writing, carrier, parts, written, last)


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


def _add_plans(
    writing: Writing, linking: Linking, carrier: Carrier, tallies: Sequence[Key], taken: Sequence[Key]
) -> None:
    key = writing.key("link-plan")
    tally = add_joins(carrier.tasks, writing, "link-tally", taken, merge_link_tallies)
    add_plan(carrier.tasks, writing, tallies, [key])
    brief = TaskRef(writing.key("brief"))
    carrier.tasks[key] = Task(key, plan_links, brief, TaskRef(tally), linking.intake, linking.parts)


def _add_round(writing: Writing, linking: Linking, carrier: Carrier, slot: int) -> list[Key]:
    """Add the tasks that resolve an end of all links; keys of those that must run before the last one."""
    places, homes = linking.places, linking.intake.homes
    onward = linking.ends(slot + 1) if slot + 1 < len(places) else linking.complete
    takes = [places[slot], linking.ends(slot)]
    plan = TaskRef(writing.key("link-plan"))
    keys = [
        carrier.add_step(
            writing.key(f"resolve-{slot}", home),
            resolve_ends,
            plan,
            slot,
            homes,
            number=home,
            takes=takes,
            sends=[onward],
        )
        for home in range(homes.count)
    ]
    carrier.close(onward)
    return [key for exchange in takes for key in carrier.received(exchange, keys)]


def _finished(
    writing: Writing, carrier: Carrier, parts: Sequence[Key], links: Sequence[Key], last: Sequence[Key]
) -> Delayed:
    key = writing.key("finish")
    plan, link_plan, begun = (TaskRef(writing.key(name)) for name in ("plan", "link-plan", "begin"))
    records = [List(*map(TaskRef, keys)) for keys in (parts, links)]
    args = (plan, link_plan, begun, writing.summarise, *records, carrier.folder)
    carrier.tasks[key] = Task(key, finish_linked, *args, *map(TaskRef, last))
    return Delayed(key, carrier.graph(key), layer=key)
