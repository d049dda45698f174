"""A store written from an iterator: its blocks go to files one after another, then a few threads write the chunks."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from zarr_vectors_lazy.access.progress import progress_bar
from zarr_vectors_lazy.access.write.intake import Intake, merge_tallies
from zarr_vectors_lazy.access.write.part import (
    Settle,
    Summary,
    begin,
    finish_write,
    make_plan,
    without_tables,
    write_spilled,
)
from zarr_vectors_lazy.access.write.session import new_write_id
from zarr_vectors_lazy.access.write.spill import SpillFolder, spill_block
from zarr_vectors_lazy.access.write.whole import THREADS


def write_stream(
    intake: Intake, settle: Settle, summarise: Summary, blocks: Iterable[Any], *, part_nbytes: int, progress: bool
) -> dict[str, Any]:
    """Write a store of paths; return ``summarise`` of what was written.

    Parameters
    ----------
    blocks
        Each is what ``intake.read`` takes.
    part_nbytes
        Of rows that a thread writes at once.

    Raises
    ------
    SelectionError
        If a block is wrong; nothing has been put then.
    StoreError
        If a request fails; the store then says that its write is unfinished.
    """
    with SpillFolder() as folder:
        tallies = [spill_block(intake, folder, number, block) for number, block in enumerate(blocks)]
        tally = merge_tallies(tallies, paths=True)
        parts = int(tally.counts.sum()) * intake.dtype.itemsize // part_nbytes + 1
        plan = make_plan(settle, intake.dtype, parts, tally)
        session = begin(plan, new_write_id())
        brief = without_tables(plan)
        with ThreadPoolExecutor(THREADS) as pool, progress_bar("writing", parts, shown=progress) as advance:
            done = []
            for part in pool.map(partial(write_spilled, brief, folder, begun=session), range(parts)):
                done.append(part)
                advance(1)
        return finish_write(plan, session, summarise, done, folder)
