"""Records from many tasks to many others: each task sends what it has to the tasks that need it.

On one machine through files, one a sending task, sorted by receiver; a receiver reads its run of each. What tasks do is
the same where records travel otherwise.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from zarr_vectors_lazy.access.machine import check_worker
from zarr_vectors_lazy.access.write.part import spilled_rows
from zarr_vectors_lazy.access.write.spill import SpillFolder
from zarr_vectors_lazy.errors import StoreError
from zarr_vectors_lazy.kernels.records import Records
from zarr_vectors_lazy.kernels.routing import stable_order
from zarr_vectors_lazy.types import IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """Records of one dtype on their way.

    Parameters
    ----------
    name
        Tells it from others of the same write.
    dtype
        Of the records, packed, a whole number of 8-byte words.
    receivers
        Number of tasks that records go to.
    to_rows
        Whether they go where the rows of their chunk go.
    """

    name: str
    dtype: np.dtype[np.void]
    receivers: int
    to_rows: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Mail:
    """Records, and the (n,) number of the receiver of each."""

    records: Records
    to: IntArray


Work: TypeAlias = Callable[..., tuple[tuple[Mail, ...], Any]]
"""What a task does: of what it received, and other arguments, it makes mail for each exchange, and a result."""


def send(folder: SpillFolder, exchange: Exchange, sender: int, mail: Mail) -> None:
    """Keep what one task sends in a file."""
    folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    order = stable_order(mail.to, exchange.receivers)
    bounds = np.concatenate([[0], np.cumsum(np.bincount(mail.to, minlength=exchange.receivers))]).astype(np.int64)
    with (folder.path / f"{exchange.name}.{sender}").open("wb") as file:
        bounds.tofile(file)
        mail.records.take(order).tofile(file)


def receive(folder: SpillFolder, exchange: Exchange, senders: int, receiver: int) -> Records:
    """Return what all tasks sent to one, in the order of the senders.

    Raises
    ------
    StoreError
        If a file is short.
    """
    parts = [np.empty(0, exchange.dtype)]
    head = 8 * (exchange.receivers + 1)
    for sender in range(senders):
        with (folder.path / f"{exchange.name}.{sender}").open("rb") as file:
            file.seek(8 * receiver)
            start, stop = np.fromfile(file, np.int64, 2).tolist()
            file.seek(head + start * exchange.dtype.itemsize)
            found = np.fromfile(file, exchange.dtype, stop - start)
        if len(found) != stop - start:
            raise StoreError(f"a temporary file is short: {stop - start} records expected, {len(found)} there")
        parts.append(found)
    return np.concatenate(parts)


def drop(folder: SpillFolder, exchange: Exchange, senders: int, *_done: object) -> None:
    """Delete the files of an exchange that all have received."""
    for sender in range(senders):
        (folder.path / f"{exchange.name}.{sender}").unlink(missing_ok=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileStep:
    """One of the tasks that send and receive through files.

    Parameters
    ----------
    folder
        Of the files.
    work
        What it does.
    number
        Its number among senders and among receivers.
    takes
        What it receives, and from how many.
    sends
        What it sends.
    has_rows
        Whether it receives the rows of a part too, before all else; the plan is then its first argument.
    """

    folder: SpillFolder
    work: Work
    number: int
    takes: Sequence[tuple[Exchange, int]] = ()
    sends: Sequence[Exchange] = ()
    has_rows: bool = False


def run_step(step: FileStep, _ready: object, *args: Any) -> Any:
    """Receive, work and send; return the work's result."""
    check_worker(wanted=False)
    received = [receive(step.folder, exchange, senders, step.number) for exchange, senders in step.takes]
    if step.has_rows:
        received.insert(0, spilled_rows(args[0], step.folder, step.number))
    mail, result = step.work(*received, *args)
    for exchange, one in zip(step.sends, mail, strict=True):
        send(step.folder, exchange, step.number, one)
    return result
