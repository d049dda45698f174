"""The last task of a build: metadata of all that was written, from the records of all tasks."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from zarr_vectors_lazy.access.metadata import DOC
from zarr_vectors_lazy.access.pyramid.session import Session, publish
from zarr_vectors_lazy.format.keys import parse_deltas
from zarr_vectors_lazy.format.writing import CURRENT
from zarr_vectors_lazy.model.pyramid import CellRecord, ChunkRecord
from zarr_vectors_lazy.model.writing import ArrayDraft, Encoding, Grid, LevelDraft, LevelRecord, LinkFamilyDraft
from zarr_vectors_lazy.requests import Get, Put
from zarr_vectors_lazy.storage.connect import connect
from zarr_vectors_lazy.storage.fetch import fetch
from zarr_vectors_lazy.types import Json

VERTICES = "vertices"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LevelPlan:
    """What is told of a level when it is published.

    Parameters
    ----------
    level, ndim
        Its index, and the axes of the store.
    arrays
        Its own arrays of cells; none for the level that was there.
    grid, encoding
        Of all arrays written on it.
    attributes
        Members of ``zarr_vectors_level``.
    directed, width
        Of the links inside the level, where it has any.
    summary
        What the caller is told of the level beside its size.
    """

    level: int
    ndim: int
    arrays: tuple[ArrayDraft, ...]
    grid: Grid
    encoding: Encoding
    attributes: Json = field(default_factory=dict)
    directed: bool = False
    width: int = 2
    summary: Json = field(default_factory=dict)

    @property
    def spec(self) -> Json:
        """What the caller is told of the level, before its size is known."""
        return {"level": self.level, **self.summary}


def publish_levels(
    session: Session, plans: Sequence[LevelPlan], records: Iterable[Sequence[ChunkRecord]], objects: Sequence[int]
) -> Json:
    """Task: make levels of what all tasks wrote; return a summary."""
    by_level: dict[int, list[CellRecord]] = {plan.level: [] for plan in plans}
    for group in records:
        for record in group:
            for cell in record.cells:
                by_level[cell.level].append(cell)
    arrays: list[Put] = []
    nodes: list[Put] = []
    counts: dict[int, int] = {}
    for plan in plans:
        *documents, node = level_puts(plan, by_level[plan.level])
        if plan.arrays:
            nodes.append(node)
            counts[plan.level] = sum(cell.count for cell in by_level[plan.level] if cell.path == VERTICES)
        arrays += documents if plan.arrays else _added(session, plan, documents)
    publish(session, arrays, nodes)
    specs = [{**plan.spec, "vertex_count": counts[plan.level]} for plan in plans if plan.arrays]
    for spec, count in zip(specs, objects, strict=False):
        spec["objects_kept"] = count
    return {"levels_created": len(specs), "level_specs": specs, **session.summary}


def _added(session: Session, plan: LevelPlan, documents: Sequence[Put]) -> list[Put]:
    """Documents of a level that was there, less that of its group of links, if it has one."""
    key = f"{plan.level}/links/{DOC}"
    (raw,) = fetch(connect(session.spec), [Get(key)])
    return [put for put in documents if raw is None or put.key != key]


def level_puts(plan: LevelPlan, cells: Sequence[CellRecord]) -> list[Put]:
    """Metadata of a level and all its arrays; its own node is the last."""
    by_path: dict[str, list[CellRecord]] = {}
    for cell in cells:
        by_path.setdefault(cell.path, []).append(cell)
    rank = len(plan.grid.origin)
    empty = np.empty((0, rank), np.int64)
    coords = {path: np.asarray([cell.chunk for cell in found], np.int64) for path, found in by_path.items()}
    for array in plan.arrays:
        coords.setdefault(array.path, empty)
    content = {path: sum(cell.content for cell in by_path.get(path, ())) % 2**64 for path in coords}
    record = LevelRecord(
        cells=coords,
        coords=coords.get(VERTICES, empty),
        counts=np.asarray([cell.count for cell in by_path.get(VERTICES, ())], np.int64),
        lo=np.full(plan.ndim, np.inf),
        hi=np.full(plan.ndim, -np.inf),
        content=content,
    )
    draft = LevelDraft(
        level=plan.level,
        rank=rank,
        arrays=plan.arrays,
        families=tuple(_families(plan, by_path)),
        attributes=plan.attributes,
    )
    return CURRENT.level_puts(draft, record, plan.grid, plan.encoding)


def _families(plan: LevelPlan, by_path: dict[str, list[CellRecord]]) -> Iterable[LinkFamilyDraft]:
    counts: dict[int, int] = {}
    for path, found in by_path.items():
        if path.startswith("links/"):
            (delta,) = parse_deltas([path.split("/")[1]])
            counts[delta] = counts.get(delta, 0) + sum(cell.count for cell in found)
    for delta, count in sorted(counts.items()):
        inside = delta == 0
        yield LinkFamilyDraft(
            delta=delta, width=plan.width if inside else 2, directed=plan.directed if inside else True, count=count
        )
