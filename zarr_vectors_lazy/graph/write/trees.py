"""Skeletons written from blocks that Dask computes: before rows are written, trees are put in order."""

from collections.abc import Sequence

from dask.delayed import Delayed

from zarr_vectors_lazy.access.write.exchange import Exchange, Work
from zarr_vectors_lazy.access.write.linked import take_links
from zarr_vectors_lazy.access.write.trees import (
    EDGE,
    RANK,
    hold_edges,
    join_parents,
    join_values,
    name_edges,
    node_dtype,
    rank_trees,
    take_edges,
    tree_dtype,
    with_gaps,
    write_tree_rows,
)
from zarr_vectors_lazy.graph.layers import Key, List, Task, TaskRef
from zarr_vectors_lazy.graph.write.carrier import Carrier
from zarr_vectors_lazy.graph.write.linked import Linking, Trees, add_link_plan, add_links, add_rounds
from zarr_vectors_lazy.graph.write.spilled import Writing, add_plan


def tree_write(writing: Writing, linking: Linking, trees: Trees, carrier: Carrier) -> Delayed:
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


def _add_values(writing: Writing, trees: Trees, carrier: Carrier) -> list[Exchange]:
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
    writing: Writing, linking: Linking, trees: Trees, carrier: Carrier, sends: Sequence[Exchange]
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
    writing: Writing, linking: Linking, trees: Trees, carrier: Carrier, takes: Sequence[Exchange]
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
