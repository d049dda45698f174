"""Records on their way between the tasks of a write, as sorted runs in objects of a scratch place."""

import contextlib
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, TypeAlias

import numpy as np

from zarr_vectors_lazy.errors import StoreError, ZVError
from zarr_vectors_lazy.kernels.routing import stable_order
from zarr_vectors_lazy.kernels.rows import Records
from zarr_vectors_lazy.requests import Get, Put
from zarr_vectors_lazy.settings import setting, temporary_folder
from zarr_vectors_lazy.storage.fetch import connect, delete_below, fetch
from zarr_vectors_lazy.storage.resolve import resolve
from zarr_vectors_lazy.storage.spec import StoreSpec
from zarr_vectors_lazy.types import IntArray
from zarr_vectors_lazy.write.session import SCRATCH

# A task that sends puts its records, sorted by receiver, and a table of where each run ends. Once all have sent,
# one task joins the tables to an index by receiver. A receiver looks up its runs in the index, and then gets them. So a
# graph is the same on every scheduler, no task holds more than its own records, and one that runs again puts the same.

INDEX = "index"
AT_ONCE = 256  # objects that a task requests at once
RUN = np.dtype([("sender", "<i8"), ("start", "<i8"), ("stop", "<i8")])
_closed: set[str] = set()  # scratch places whose write has failed, while tasks of this process may still run


@dataclass(frozen=True, slots=True)
class Scratch:
    """Where the records of one write wait; small.

    Parameters
    ----------
    spec
        Where they are: in the store itself, below `SCRATCH`, where no reader looks; in the place that the setting
        ``scratch``
        names, or, for a store that deletes nothing (a zip file), a folder below Dask's ``temporary-directory``.
    folder
        Folder for all writes of the same store.
    write_id
        Id of this write.
    """

    spec: StoreSpec
    folder: str
    write_id: str

    @classmethod
    def of(cls, store: StoreSpec, write_id: str) -> Self:
        """Choose where the records of a write of ``store`` wait."""
        place = str(setting("scratch") or "")
        if not place and connect(store).deletes:
            return cls(store, SCRATCH, write_id)
        name = hashlib.blake2b(store.url.encode(), digest_size=8).hexdigest()
        return cls(resolve(place or temporary_folder()), f"zarr-vectors-lazy-{name}", write_id)

    @property
    def prefix(self) -> str:
        """Prefix of the keys of this write."""
        return f"{self.folder}/{self.write_id}"

    def put(self, objects: Mapping[str, bytes | memoryview]) -> None:
        """Put objects by name, replacing what an earlier run of the same task has put."""
        puts = [Put(f"{self.prefix}/{name}", data, unread=True) for name, data in objects.items()]
        fetch(connect(self.spec), puts)
        if self.prefix in _closed:
            self.remove()

    def get(self, ranges: Sequence[tuple[str, int, int] | str]) -> Iterator[Any]:
        """Bytes of objects, or of ranges of them, in order.

        Raises
        ------
        StoreError
            If one is missing or too short.
        """
        backend = connect(self.spec)
        for at in range(0, len(ranges), AT_ONCE):
            asked = [(each, None, None) if isinstance(each, str) else each for each in ranges[at : at + AT_ONCE]]
            requests = [Get(f"{self.prefix}/{name}", start, stop) for name, start, stop in asked]
            for (name, start, stop), found in zip(asked, fetch(backend, requests), strict=True):
                if found is None or (start is not None and len(found) != (stop or 0) - start):
                    raise StoreError(
                        f"{self.prefix}/{name} is {'gone' if found is None else 'short'}: another write took this "
                        "place meanwhile, or this one was over already; this one is given up",
                        where=self.spec.url,
                    )
                yield found

    def remove(self) -> None:
        """Delete everything that waits."""
        delete_below(connect(self.spec), self.prefix)

    def remove_others(self) -> None:
        """Delete what killed writes of the same store left in places outside the store."""
        if self.folder != SCRATCH:
            delete_below(connect(self.spec), self.folder, spare=f"{self.prefix}/")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            _closed.add(self.prefix)
            with contextlib.suppress(StoreError):  # the original error is raised anyway
                self.remove()


def guarded(scratch: Scratch, work: Callable[..., Any], *args: Any) -> Any:
    """Task: ``work``, after all senders have run; if the write is refused, everything waiting is deleted."""
    try:
        return work(*args)
    except ZVError:
        scratch.remove()
        raise


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """Records of one dtype on their way.

    Parameters
    ----------
    name
        Distinguishes it from others of the same write.
    dtype
        Dtype of the records, packed, a whole number of 8-byte words.
    receivers
        Number of tasks that receive records.
    """

    name: str
    dtype: np.dtype[np.void]
    receivers: int


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """Records in runs, and (n, K + 1) numbers: K of each run, and the end of its records."""

    records: Records
    table: IntArray

    def runs(self, _receivers: int) -> "Runs":
        """The runs themselves."""
        return self


@dataclass(frozen=True, slots=True, eq=False)
class RecordBatch:
    """Records, and the (n,) number of the receiver of each."""

    records: Records
    to: IntArray

    def runs(self, receivers: int) -> Runs:
        """A run for each receiver that gets any."""
        counts = np.bincount(self.to, minlength=receivers)
        some = np.flatnonzero(counts)
        table = np.stack([some, np.cumsum(counts)[some]], axis=1).astype(np.int64)
        records = self.records if len(some) == 1 else self.records.take(stable_order(self.to, receivers))
        return Runs(records, table)


Work: TypeAlias = Callable[..., tuple[tuple[RecordBatch | Runs, ...], Any]]
"""The work of a task: from what it received, and other arguments, what it sends on each exchange, and a result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One of the tasks that send and receive.

    Parameters
    ----------
    scratch
        Where records wait.
    work
        The work that it does.
    number
        Its number among senders and among receivers.
    takes, sends
        What it receives and sends.
    """

    scratch: Scratch
    work: Work
    number: int
    takes: Sequence[Exchange] = ()
    sends: Sequence[Exchange] = ()


def run_step(step: Step, _ready: object, *args: Any) -> Any:
    """Task: receive, work and send; return the work's result."""
    received = [receive(step.scratch, exchange, step.number) for exchange in step.takes]
    batches, result = step.work(*received, *args)
    for exchange, batch in zip(step.sends, batches, strict=True):
        send(step.scratch, exchange, step.number, batch.runs(exchange.receivers))
    return result


def send(scratch: Scratch, exchange: Exchange, sender: int, sent: Runs) -> None:
    """Put what one task sends."""
    objects: dict[str, bytes | memoryview] = {f"{exchange.name}/{sender}.runs": sent.table.tobytes()}
    if len(sent.records):
        objects[f"{exchange.name}/{sender}"] = np.ascontiguousarray(sent.records).view(np.uint8).data
    scratch.put(objects)


def index_runs(
    scratch: Scratch,
    exchange: Exchange,
    senders: Sequence[int],
    name: str = INDEX,
    _sent: object = None,
    *,
    receivers_of: Callable[[IntArray], IntArray] = lambda numbers: numbers[:, 0],
    width: int = 1,
) -> None:
    """Task: put an index of what tasks have sent: for each receiver its runs, in the order of the senders.

    Parameters
    ----------
    name
        Of the index.
    receivers_of
        Gives (n,) the receiver of the (n, width) numbers of runs.
    """
    receivers, found = [np.empty(0, np.int64)], [np.empty(0, RUN)]
    tables = scratch.get([f"{exchange.name}/{sender}.runs" for sender in senders])
    for sender, raw in zip(senders, tables, strict=True):
        table = np.frombuffer(raw, np.int64).reshape(-1, width + 1)
        to = receivers_of(table[:, :-1])
        last = np.flatnonzero(np.diff(to, append=-1))
        runs = np.empty(len(last), RUN)
        runs["sender"], runs["stop"] = sender, table[last, -1]
        runs["start"] = np.concatenate([[0], runs["stop"]])[:-1]
        receivers.append(to[last])
        found.append(runs)
    to, runs = np.concatenate(receivers), np.concatenate(found)
    order = np.argsort(to, kind="stable")
    bounds = np.searchsorted(to[order], np.arange(exchange.receivers + 1)).astype(np.int64)
    scratch.put({f"{exchange.name}/{name}": bounds.tobytes() + runs[order].tobytes()})


def receive(scratch: Scratch, exchange: Exchange, receiver: int) -> Records:
    """Return what all tasks sent to one receiver, in the order of the senders.

    Raises
    ------
    StoreError
        If it is missing.
    """
    return received(scratch, exchange, receiver, receiver + 1).records


def received(scratch: Scratch, exchange: Exchange, first: int, last: int, *, name: str = INDEX) -> Runs:
    """What tasks sent to the receivers ``first`` to ``last - 1``, by the index ``name``, one run for each."""
    index, head = f"{exchange.name}/{name}", 8 * (exchange.receivers + 1)
    (raw,) = scratch.get([(index, 8 * first, 8 * last + 8)])
    bounds = np.frombuffer(raw, np.int64)
    begin, end = bounds[[0, -1]].tolist()
    if begin == end:
        return Runs(np.empty(0, exchange.dtype), np.empty((0, 2), np.int64))
    (raw,) = scratch.get([(index, head + begin * RUN.itemsize, head + end * RUN.itemsize)])
    runs, size = np.frombuffer(raw, RUN), exchange.dtype.itemsize
    ends = np.concatenate([[0], np.cumsum(runs["stop"] - runs["start"])])
    wanted = [(f"{exchange.name}/{sender}", start * size, stop * size) for sender, start, stop in runs.tolist()]
    if len(wanted) == 1:  # a copy of many records costs as much as reading them
        found = np.frombuffer(next(scratch.get(wanted)), exchange.dtype)
    else:
        found = np.empty(int(ends[-1]), exchange.dtype)
        into, at = found.view(np.uint8), 0
        for part in scratch.get(wanted):
            into[at : at + len(part)] = np.frombuffer(part, np.uint8)
            at += len(part)
    stops = ends[bounds - begin]
    some = np.flatnonzero(np.diff(stops))
    return Runs(found, np.stack([first + some, stops[some + 1]], axis=1).astype(np.int64))


# If many tasks send to many others, runs are short, and there are as many requests as senders times receivers. Then,
# between them, a task for each group of senders and of receivers joins the runs between the two in one object.
# Everything
# is then put twice, but there are only as many requests as receivers times twice the root of the senders, and no large
# index.

MOST_RUNS = 2**20


@dataclass(frozen=True, slots=True)
class Relays:
    """How the records of an exchange are joined on their way; with a single group, they are not.

    Parameters
    ----------
    exchange, senders
        The exchange, and its number of senders.
    groups
        Number of groups of senders.
    """

    exchange: Exchange
    senders: int
    groups: int

    @classmethod
    def of(cls, exchange: Exchange, senders: int) -> Self:
        """As many groups as keep requests few."""
        direct = senders * exchange.receivers <= MOST_RUNS
        return cls(exchange, senders, 1 if direct else math.isqrt(senders - 1) + 1)

    def group(self, number: int) -> range:
        """Senders of a group."""
        size = -(-self.senders // self.groups)
        return range(number * size, min((number + 1) * size, self.senders))

    @property
    def spans(self) -> int:
        """Groups of receivers, as many as groups of senders, so that a task holds what a receiver holds."""
        return 1 if self.groups == 1 else -(-self.exchange.receivers // self.groups)

    def to(self, span: int) -> Exchange:
        """What the receivers of a group take; its senders are the groups of senders."""
        if self.groups == 1:
            return self.exchange
        return replace(self.exchange, name=f"{self.exchange.name}/to-{span}")

    def to_receiver(self, number: int) -> Exchange:
        """What a receiver takes."""
        return self.to(number // self.groups if self.groups > 1 else 0)

    def join(self, scratch: Scratch, group: int, span: int, _indexed: object = None) -> None:
        """Task: join what a group of senders sends to a group of receivers."""
        first = span * self.groups
        last = min(first + self.groups, self.exchange.receivers)
        send(scratch, self.to(span), group, received(scratch, self.exchange, first, last, name=f"{INDEX}-{group}"))
