"""How records travel between the tasks of a write: the rules, and through files of one machine."""

from collections.abc import Sequence
from typing import Any, Protocol

from dask.highlevelgraph import HighLevelGraph

from zarr_vectors_lazy.access.write.exchange import Exchange, FileStep, Work, drop, run_step
from zarr_vectors_lazy.access.write.spill import SpillFolder
from zarr_vectors_lazy.access.write.trees import spill_nodes
from zarr_vectors_lazy.graph.layers import Key, List, Task, TaskRef
from zarr_vectors_lazy.graph.write.spilled import Blocks, Tasks, Writing, add_spills
from zarr_vectors_lazy.kernels.places import Homes


class Carrier(Protocol):
    """Adds the tasks of a write that send and receive records.

    Senders of an exchange are added before it is closed, receivers after.

    Parameters
    ----------
    tasks
        Added already; others may be added by hand.
    folder
        Of the files; None where there are none.
    """

    tasks: Tasks
    folder: SpillFolder | None
    hashed: bool
    """Whether rows go to parts by a hash of their chunk, not as the plan says."""

    def add_rows(self, nodes: Exchange | None = None, homes: Homes | None = None) -> list[Key]:
        """Add the tasks that take input blocks of rows, and send ``nodes`` home; keys of their tallies."""

    def add_part(
        self, part: int, work: Work, *args: Any, takes: Sequence[Exchange] = (), sends: Sequence[Exchange] = ()
    ) -> Key:
        """Add the task that writes a part of the rows, which are received first; key of its record."""

    def add_step(
        self,
        key: Key,
        work: Work,
        *args: Any,
        number: int,
        takes: Sequence[Exchange] = (),
        sends: Sequence[Exchange] = (),
    ) -> Key:
        """Add a task that receives and sends as ``number`` among its like; key of its result."""

    def close(self, exchange: Exchange, after: Sequence[Key] = ()) -> None:
        """All tasks that send are there; nothing need be received before the tasks ``after`` have run."""

    def close_rows(self, after: Sequence[Key] = ()) -> None:
        """`close` of the rows of parts."""

    def received(self, exchange: Exchange, keys: Sequence[Key]) -> Sequence[Key]:
        """All tasks that receive are there; keys of tasks that must run before the last one."""

    def graph(self, key: Key) -> HighLevelGraph:
        """All of it, with the task ``key`` last."""


class FileCarrier:
    """Records travel through files.

    Parameters
    ----------
    writing, blocks
        What is written.
    folder
        Of the files.
    """

    hashed = False

    def __init__(self, writing: Writing, blocks: Blocks, folder: SpillFolder) -> None:
        self.writing = writing
        self.blocks = blocks
        self.folder: SpillFolder | None = folder
        self.tasks: Tasks = {}
        self._files = folder
        self._senders: dict[str, list[Key]] = {}

    def add_rows(self, nodes: Exchange | None = None, homes: Homes | None = None) -> list[Key]:
        """Tasks that keep records in files."""
        if nodes is None:
            return add_spills(self.tasks, self.writing, self.blocks, self._files)
        args = (self.writing.intake, self._files, homes)
        return [
            self.add_step(
                self.writing.key("spill", number),
                spill_nodes,
                *args,
                number,
                *map(TaskRef, keys),
                number=number,
                sends=[nodes],
            )
            for number, keys in enumerate(self.blocks.keys)
        ]

    def add_part(
        self, part: int, work: Work, *args: Any, takes: Sequence[Exchange] = (), sends: Sequence[Exchange] = ()
    ) -> Key:
        """Task that reads rows from files."""
        key, brief, begun = (self.writing.key(*name) for name in (("part", part), ("brief",), ("begin",)))
        return self._add(
            key,
            (TaskRef(brief), TaskRef(begun), *args),
            work=work,
            number=part,
            takes=takes,
            sends=sends,
            has_rows=True,
        )

    def add_step(
        self,
        key: Key,
        work: Work,
        *args: Any,
        number: int,
        takes: Sequence[Exchange] = (),
        sends: Sequence[Exchange] = (),
    ) -> Key:
        """Task that waits until all have sent."""
        return self._add(key, args, work=work, number=number, takes=takes, sends=sends, has_rows=False)

    def _add(
        self,
        key: Key,
        args: Sequence[Any],
        *,
        work: Work,
        number: int,
        takes: Sequence[Exchange],
        sends: Sequence[Exchange],
        has_rows: bool,
    ) -> Key:
        step = FileStep(
            folder=self._files,
            work=work,
            number=number,
            takes=tuple((exchange, len(self._senders[exchange.name])) for exchange in takes),
            sends=tuple(sends),
            has_rows=has_rows,
        )
        ready = List(*(TaskRef(self._sent(exchange)) for exchange in takes))
        self.tasks[key] = Task(key, run_step, step, ready, *args)
        for exchange in sends:
            self._senders.setdefault(exchange.name, []).append(key)
        return key

    def close_rows(self, after: Sequence[Key] = ()) -> None:
        """Nothing: parts read rows when they run."""

    def close(self, exchange: Exchange, after: Sequence[Key] = ()) -> None:
        """One task that all receivers wait for, instead of each for each sender."""
        key = self._sent(exchange)
        self.tasks[key] = Task(key, _nothing, *map(TaskRef, self._senders[exchange.name]))

    def received(self, exchange: Exchange, keys: Sequence[Key]) -> Sequence[Key]:
        """A task that deletes the files."""
        key = self.writing.key(f"drop-{exchange.name}")
        senders = len(self._senders[exchange.name])
        self.tasks[key] = Task(key, drop, self._files, exchange, senders, *map(TaskRef, keys))
        return [key]

    def graph(self, key: Key) -> HighLevelGraph:
        """One layer over the input."""
        return HighLevelGraph.from_collections(key, self.tasks, dependencies=list(self.blocks.collections))

    def _sent(self, exchange: Exchange) -> Key:
        return self.writing.key(f"sent-{exchange.name}")


def _nothing(*_: object) -> None:
    return None
