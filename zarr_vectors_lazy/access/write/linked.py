"""What tasks run to write links of rows that no task has all of: ends are resolved to places, then links are placed.

A link names rows of the whole input. It travels to the home of its first end, which knows where that row is stored,
then to the home of the next, and at last to the part of the chunk in which the format stores it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from zarr_vectors_lazy.access.write.exchange import Mail
from zarr_vectors_lazy.access.write.intake import described
from zarr_vectors_lazy.access.write.job import Prepared
from zarr_vectors_lazy.access.write.part import (
    Part,
    PartRecord,
    Plan,
    Summary,
    Whole,
    commit_write,
    write_arranged,
)
from zarr_vectors_lazy.access.write.session import WriteSession
from zarr_vectors_lazy.access.write.spill import SpillFolder, flat
from zarr_vectors_lazy.access.write.whole import batches_of, empty_record, write_links
from zarr_vectors_lazy.errors import SelectionError, StoreError
from zarr_vectors_lazy.format.writing import MAX_PERMUTED, place_links
from zarr_vectors_lazy.kernels.places import PLACE, UNKNOWN, Homes, chunk_of_places, pack_places, row_of_places
from zarr_vectors_lazy.kernels.records import GAP, Records, attribute_field, in_order, link_dtype, pack, row_numbers
from zarr_vectors_lazy.kernels.routing import Routed
from zarr_vectors_lazy.model.writing import LevelRecord, merge_records
from zarr_vectors_lazy.plan.spread import spread_chunks
from zarr_vectors_lazy.types import IntArray

NO_ROW = (-1, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LinkBlock:
    """Links of one input block, checked.

    Parameters
    ----------
    links
        (n, L) rows of all positions.
    values
        Rows aligned with ``links``.
    """

    links: IntArray
    values: Mapping[str, np.ndarray[Any, Any]]


LinkReader: TypeAlias = Callable[..., LinkBlock]
"""Checks the arrays of one input block."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LinkIntake:
    """How input blocks of links become records.

    Parameters
    ----------
    read
        Makes a `LinkBlock` of what Dask computed.
    name
        Of the argument that holds the links, for errors.
    dtype
        Of the records, that of the first block; others must have the same.
    homes
        Which tasks know where rows are stored.
    counted
        Whether links name rows counted from block to block, and not a block and a row in it.
    """

    read: LinkReader
    name: str
    dtype: np.dtype[np.void]
    homes: Homes
    counted: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkTally:
    """What was seen of some input blocks of links.

    Parameters
    ----------
    count
        Links.
    highest
        Highest row that one names, and the block and the row in it that do.
    """

    count: int
    highest: tuple[int, int, int] = NO_ROW


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LinkPlan:
    """What is known once every input block was seen.

    Parameters
    ----------
    plan
        Of the rows, without tables.
    parts
        (C,) part that writes the links of each chunk.
    count
        Links that were given.
    implied
        Whether some of them are implied by the order of rows: the parts of the rows then tell how many are stored.
    gaps
        Whether some have no values: those of whole numbers are then stored as float64, NaN where there are none.
    """

    plan: Plan
    parts: IntArray
    count: int
    implied: bool = False
    gaps: bool = False

    def value_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """Dtype in which values of ``dtype`` are stored."""
        return np.dtype(np.float64) if self.gaps and dtype.kind not in "fc" else dtype


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LinkRecord:
    """What one part of the links wrote: cells, stored records inside chunks and across; ``start`` as `PartRecord`."""

    record: LevelRecord
    within: int
    across: int
    start: str | None = None


def link_layout(block: LinkBlock) -> np.dtype[np.void]:
    """Dtype of a block's records."""
    return link_dtype(
        block.links.shape[1], {name: (values.dtype, values.shape[1:]) for name, values in block.values.items()}
    )


def take_links(intake: LinkIntake, number: int, *parts: Any) -> tuple[tuple[Mail], LinkTally]:
    """`link_records` of an input block, for the homes of their first ends."""
    records, tally = link_records(intake, number, *parts)
    return (Mail(records, intake.homes.of(records["ends"][:, 0])),), tally


def link_records(intake: LinkIntake, number: int, *parts: Any) -> tuple[Records, LinkTally]:
    """Records of an input block, and its tally.

    Raises
    ------
    SelectionError
        If the block's arrays do not go together, or with the first block's.
    """
    block = intake.read(*parts)
    if link_layout(block) != intake.dtype:
        raise SelectionError(
            f"block {number} has {described(link_layout(block), 'ends', intake.name)}, the first block "
            f"{described(intake.dtype, 'ends', intake.name)}; give all blocks one dtype"
        )
    rows = len(block.links)
    columns = {attribute_field(name): values for name, values in block.values.items()}
    records = pack(intake.dtype, {"number": row_numbers(number, rows), "ends": block.links, **columns}, rows)
    highest = NO_ROW
    if rows:
        at = int(np.argmax(block.links))
        highest = (int(block.links.flat[at]), number, at // block.links.shape[1])
    return records, LinkTally(count=rows, highest=highest)


def merge_link_tallies(tallies: Sequence[LinkTally]) -> LinkTally:
    """All that several tallies say; there must be one at least."""
    return LinkTally(
        count=sum(tally.count for tally in tallies),
        highest=max((tally.highest for tally in tallies), key=lambda found: (found[0], -found[1])),
    )


def plan_links(plan: Plan, tally: LinkTally, intake: LinkIntake, parts: int, implied: bool) -> LinkPlan:
    """Plan the links, when every input block was seen.

    Raises
    ------
    SelectionError
        If one names a row that is not there, or they have more ends than the format can put in order and there are
        several chunks: whether they cross chunks is known too late, when the old store is gone.
    """
    width, chunks = intake.dtype["ends"].shape[0], len(plan.coords)
    if tally.count and width > MAX_PERMUTED and chunks > 1:
        raise SelectionError(
            f"out of core, {intake.name} of more than {MAX_PERMUTED} ends go into a store of one chunk; these have "
            f"{width}, and there are {chunks} chunks: choose a larger chunk_shape"
        )
    rows, (row, block, at) = int(plan.counts.sum()), tally.highest
    if row >= rows and intake.counted:
        raise SelectionError(f"{intake.name} name row {row}, at row {at} of block {block}; there are {rows}")
    spread = spread_chunks(plan.coords, plan.counts, plan.job.grid, plan.job.encoding, parts)
    return LinkPlan(plan=plan, parts=spread, count=tally.count, implied=implied)


def write_rows(records: Records, plan: Plan, begun: WriteSession, homes: Homes) -> tuple[tuple[Mail], PartRecord]:
    """Write the chunks of a part; tell the homes of its rows where they are stored."""
    if not len(records):
        return (no_mail(PLACE),), PartRecord(empty_record(plan.coords.shape[1]), None)
    part = Part(plan, in_order(records))
    done = write_arranged(plan, part, begun)
    places = places_of_part(plan, part, homes)
    return (Mail(places, homes.of(places["row"])),), done


def no_mail(dtype: np.dtype[np.void]) -> Mail:
    """Nothing to send."""
    return Mail(np.empty(0, dtype), np.empty(0, np.int64))


def places_of_part(plan: Plan, part: Part, homes: Homes) -> Records:
    """Places of the rows of a part, chunk by chunk as they are stored."""
    grid = plan.job.grid
    chunks = np.searchsorted(flat(plan.coords, grid), flat(part.routed.coords, grid))
    arranged = [part.arranged(chunk) for chunk in range(len(chunks))]
    counts = part.routed.counts
    numbers = part.numbers[np.concatenate([chunk.rows for chunk in arranged])]
    rows = np.arange(len(numbers)) - np.repeat(np.cumsum(counts) - counts, counts)
    columns = {
        "row": homes.names(numbers, plan.firsts),
        "place": pack_places(np.repeat(chunks, counts), rows),
    }
    return pack(PLACE, columns, len(numbers))


def resolve_ends(
    places: Records, links: Records, plan: LinkPlan, slot: int, homes: Homes
) -> tuple[tuple[Mail, ...], None]:
    """Replace end ``slot`` of links by its place; they go on to the home of the next, after the last to a part.

    Places are sent on too, to the same home: none waits in memory until it is asked again.

    Raises
    ------
    StoreError
        If a row is not there: it was lost on its way.
    """
    links = links.copy()
    ends = links["ends"]
    sizes = np.diff(plan.plan.firsts, append=plan.plan.counts.sum())
    found = homes.look_up(places["row"], places["place"], ends[:, slot], sizes)
    if (found == UNKNOWN).any():
        row = int(ends[found == UNKNOWN, slot][0])
        raise StoreError(f"row {row} was lost on its way; the write is unfinished", where=plan.plan.job.spec.url)
    ends[:, slot] = found
    if slot + 1 < ends.shape[1]:
        return (Mail(links, homes.of(ends[:, slot + 1])), Mail(places, homes.of(places["row"]))), None
    return (Mail(links, plan.parts[chunk_of_places(ends).min(axis=1)]),), None


class LinkPart(Prepared):
    """Links whose records lie in some chunks, in the order of the input."""

    def __init__(self, of_links: LinkPlan, links: Records) -> None:
        plan, ends = of_links.plan, links["ends"]
        values = {name: _stored_values(of_links, links, name) for name in plan.job.link_values}
        self.job = replace(plan.job, links=ends, link_values=values)
        self.routed = Routed(plan.coords, np.empty(0, np.int64), np.empty(0, np.uint32))
        self._arranged = None
        self.placed = place_links(chunk_of_places(ends), row_of_places(ends), plan.coords)

    @property
    def link_rows(self) -> None:
        """None: all links are stored."""
        return


def _stored_values(plan: LinkPlan, links: Records, name: str) -> np.ndarray[Any, Any]:
    values: np.ndarray[Any, Any] = links[attribute_field(name)]
    if not plan.gaps:
        return values
    out = values.astype(plan.value_dtype(values.dtype))
    out[links[GAP]] = np.nan
    return out


def write_link_part(links: Records, plan: LinkPlan, begun: WriteSession) -> tuple[tuple[()], LinkRecord]:
    """Encode and put the cells of the links of a part."""
    of_rows = plan.plan
    nothing = empty_record(of_rows.coords.shape[1])
    if not len(links):
        return (), LinkRecord(record=nothing, within=0, across=0)
    part = LinkPart(plan, in_order(links))
    assert part.placed is not None
    chunks, first = np.unique(part.placed.sources, return_index=True)
    nbytes = np.diff(part.placed.bounds[first], append=len(links)) * links.dtype.itemsize
    written = [
        write_links(part, of_rows.writer(begun), chunks[at])
        for at in batches_of(part.job, of_rows.coords[chunks], nbytes)
    ]
    within, across = part.placed.counts
    return (), LinkRecord(record=merge_records([nothing, *written]), within=within, across=across, start=begun.start)


class LinkedWhole(Whole):
    """All fragments of a store whose rows and links are written."""

    def __init__(
        self, plan: Plan, parts: Sequence[PartRecord], of_links: LinkPlan, links: Sequence[LinkRecord]
    ) -> None:
        super().__init__(plan, parts)
        values = {
            name: values.astype(of_links.value_dtype(values.dtype)) for name, values in self.job.link_values.items()
        }
        self.job = replace(self.job, link_values=values)
        self._given = of_links.count
        self._counts = (sum(part.within for part in links), sum(part.across for part in links))

    def _place(self) -> None:
        return None

    @property
    def given_links(self) -> int:
        """Links that were given."""
        return self._given

    @property
    def link_counts(self) -> tuple[int, int]:
        """Stored records inside chunks, and across."""
        return self._counts


def finish_linked(
    plan: Plan,
    links: LinkPlan,
    session: WriteSession,
    summarise: Summary,
    parts: Sequence[PartRecord],
    link_parts: Sequence[LinkRecord],
    folder: SpillFolder | None,
    *_dropped: object,
) -> dict[str, Any]:
    """Put objects and metadata, the root last; return ``summarise`` of it all.

    Raises
    ------
    StoreError
        If links were lost, a put fails, another write took the place, or this one began anew.
    """
    starts = [*(part.start for part in parts), *(part.start for part in link_parts)]
    session.check_start(start for start in starts if start is not None)
    whole = LinkedWhole(plan, parts, links, link_parts)
    if sum(whole.link_counts) != (sum(part.links for part in parts) if links.implied else links.count):
        raise StoreError("links were lost or doubled on their way; the write is unfinished", where=plan.job.spec.url)
    records = [part.record for part in parts] + [part.record for part in link_parts]
    return commit_write(plan, session, summarise, whole, records, folder)
