"""A build that has not run, and what it will do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph

from zarr_vectors_lazy.access.pyramid.planning import PlannedLevel
from zarr_vectors_lazy.graph.layers import Key


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a build will do, before anything is done; at most that much, as chunks may turn out to be empty.

    Parameters
    ----------
    levels
        Levels that it makes.
    chunks
        Chunks of these.
    tasks
        Tasks of the graph.
    reads, writes
        Requests for cells and for puts; metadata aside.
    nbytes
        Bytes of the rows of the level that is there, to be decoded; None where their number is not known.
    """

    levels: tuple[int, ...]
    chunks: int
    tasks: int
    reads: int
    writes: int
    nbytes: int | None

    @property
    def requests(self) -> int:
        """Requests of both kinds."""
        return self.reads + self.writes

    def __str__(self) -> str:
        nbytes = "unknown" if self.nbytes is None else f"{self.nbytes:,}"
        rows = [
            ("levels", ", ".join(map(str, self.levels))),
            ("chunks", f"{self.chunks:,}"),
            ("tasks", f"{self.tasks:,}"),
            ("requests", f"{self.requests:,} ({self.reads:,} reads, {self.writes:,} writes)"),
            ("bytes", nbytes),
        ]
        return "\n".join(f"{name:<9} {value}" for name, value in rows)

    __repr__ = __str__


class DelayedPyramid(Delayed):
    """A build that `compute` runs; ``figures`` tells what it will do."""

    __slots__ = ("figures",)

    def __init__(self, key: Key, graph: HighLevelGraph, figures: Figures) -> None:
        super().__init__(key, graph, layer=None)  # type: ignore[no-untyped-call]
        object.__setattr__(self, "figures", figures)

    def __reduce__(self) -> tuple[Any, ...]:
        return DelayedPyramid, (self.key, self.dask, self.figures)


def figures_of(levels: Sequence[PlannedLevel], tasks: int, parts: int) -> Figures:
    """Count what the tasks of some levels do; ``parts`` of them make chunks, and note which."""
    reads, writes = 0, parts
    for planned in levels:
        step, fine, coarse = planned.step, planned.fine, len(planned.coords)
        specs = [step.vertices, step.fragments, step.weights, *(item.column.spec for item in step.attributes)]
        reads += sum(spec.layout.requests(fine) for spec in specs if spec is not None)
        links = {"none": 0, "implicit": 1, "explicit": 2}[step.cross]
        writes += coarse * len(planned.arrays) + links * len(fine)
    counts = levels[0].counts if levels else None
    nbytes = None if counts is None else int(counts.sum()) * levels[0].row_nbytes
    return Figures(
        levels=tuple(planned.step.level for planned in levels),
        chunks=sum(len(planned.coords) for planned in levels),
        tasks=tasks,
        reads=reads,
        writes=writes,
        nbytes=nbytes,
    )
