"""Whether a store obeys its format, and what is wrong with it if not."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import dask
from dask.base import tokenize
from dask.delayed import Delayed, delayed

from zarr_vectors_lazy.check.chunk import GROUPED, CellCheck, Kind, LevelCheck, check_chunks
from zarr_vectors_lazy.check.level import (
    FamilyCheck,
    WholeCheck,
    check_additive,
    check_consolidated,
    check_level,
    check_root,
    check_stray,
    counts_vertices,
    join_summaries,
    vertices_or_finding,
)
from zarr_vectors_lazy.display import html_table, text_table
from zarr_vectors_lazy.errors import FormatError, in_line
from zarr_vectors_lazy.keywords import suggesting
from zarr_vectors_lazy.model.arrays import CellArray, DenseArray, LinkFamily
from zarr_vectors_lazy.model.levels import CHECKS, Check, Finding, Severity, dotted
from zarr_vectors_lazy.plan.selection import Selection
from zarr_vectors_lazy.progress import finish
from zarr_vectors_lazy.read.cells import Requested, is_scalar
from zarr_vectors_lazy.read.columns import PATHS
from zarr_vectors_lazy.read.layers import List, Task, TaskRef, chunk_runs, requested_of, task_over, tasks_over
from zarr_vectors_lazy.read.level import LevelData
from zarr_vectors_lazy.read.links import list_cells
from zarr_vectors_lazy.read.store import open_tree
from zarr_vectors_lazy.read.view import LevelView
from zarr_vectors_lazy.storage.resolve import resolve
from zarr_vectors_lazy.storage.spec import StoreSpec
from zarr_vectors_lazy.types import StorePath

# Checks of a store as a Dask graph: each chunk is read once, by one task, for all checks.

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class LevelPlan:
    """What the tasks of a level check, and what its metadata alone show.

    Parameters
    ----------
    view
        The level, whole.
    cells
        Its arrays of cells, and how they are checked.
    whole
        The checks once its chunks are known.
    findings
        What was found already.
    """

    view: LevelView
    cells: tuple[tuple[CellCheck, CellArray], ...]
    whole: WholeCheck
    findings: list[Finding]


class _Planner:
    """Checks the metadata of a level; what cannot be parsed is a finding, and is not checked further."""

    def __init__(self, view: LevelView, others: Mapping[int, LevelView]) -> None:
        self.view, self.data, self.others = view, view.data, others
        self.vertices = view.data.vertices
        self.findings: list[Finding] = []
        self.cells: list[tuple[CellCheck, CellArray]] = []

    def plan(self) -> LevelPlan:
        data = self.data
        level = str(data.meta.index)
        self._chunk_dims()
        self._add(self.vertices, "vertices", "vertices")
        fragments = self._attempt("structure", level, lambda: data.fragments)
        if fragments is not None:
            self._add(fragments, "fragments", "fragments")
            self._compare(fragments, "error")
        owners = self._attempt("metadata", f"{level}/fragment_attributes", lambda: data.fragment_owners)
        if owners is not None:
            self._add(owners, "owners", "owners")
        for name in self._attempt("metadata", level, lambda: data.attribute_names) or ():
            self._attribute(name)
        families = [self._family(delta) for delta in self._attempt("metadata", level, lambda: data.deltas) or ()]
        objects = self._attempt("metadata", f"{level}/object_index", lambda: data.object_index)
        groups = self._attempt("metadata", f"{level}/groups", lambda: data.group_index)
        dense = self._attempt("metadata", f"{level}/object_attributes", lambda: _object_arrays(data)) or {}
        group_dense = self._attempt("metadata", f"{level}/group_attributes", lambda: data.group_attributes) or {}
        whole = WholeCheck(
            source=data.source,
            coords=self.vertices.chunks.coords,
            stated=data.meta.stated_count,
            sure=data.meta.count_is_sure and self.vertices.counts is not None,
            families=tuple(family for family in families if family is not None),
            objects=objects,
            groups=groups,
            dense=tuple(dense.values()),
            group_dense=tuple(group_dense.values()),
            tables={index: other.table.coords for index, other in self.others.items()},
        )
        return LevelPlan(self.view, tuple(self.cells), whole, self.findings)

    def _add(self, array: CellArray, member: str, kind: Kind, **how: Any) -> None:
        """Have the cells of an array checked."""
        self.cells.append((CellCheck(**{"spec": array.spec, **how}, member=member, kind=kind), array))

    def _chunk_dims(self) -> None:
        """Compare the names of the chunks' axes, which readers may ignore, with the axes."""
        block, axes = self.data.meta.attributes.get("zarr_vectors_level"), list(self.data.store.axes)
        dims = block.get("chunk_dims") if isinstance(block, dict) else None
        rank = self.vertices.chunks.rank
        named = isinstance(dims, list) and len(dims) == rank and dims[rank - len(axes) :] == axes
        if dims is not None and not (named and (rank == len(axes) or dims[0] not in axes)):
            text = (
                f"chunk_dims are {dims!r}; chunks are read as {'[..., ' if rank > len(axes) else '['}{', '.join(axes)}]"
            )
            self.findings.append(Finding("metadata", "warning", str(self.data.meta.index), text))

    def _attempt(self, check: Check, where: str, make: Callable[[], T]) -> T | None:
        try:
            return make()
        except FormatError as error:
            self.findings.append(Finding(check, "error", where, error.message))
            return None

    def _compare(self, array: CellArray, missing: Severity | None) -> None:
        """Compare the chunks of an array with those of the vertices."""
        here, there = self.vertices.chunks, array.chunks
        for severity, coords, of, text in (
            (missing, here.coords, there, "chunks have vertices but no cell here"),
            ("error", there.coords, here, "cells are listed for chunks without vertices"),
        ):
            lost = coords[of.find(coords) < 0]
            if len(lost) and severity is not None:
                message = f"{len(lost)} {text}, such as {dotted(lost[0])}"
                self.findings.append(Finding("structure", severity, array.spec.path, message))

    def _attribute(self, name: str) -> None:
        if self.data.cuts_chunks(name):
            return
        where = f"{self.data.meta.index}/vertex_attributes/{name}"
        array = self._attempt("metadata", where, lambda: self.data.attribute(name))
        if array is None:
            return
        geometries = set(self.data.store.geometry_types)
        spec = array.spec
        if spec.dictionary is None and "categories" in array.attributes:
            text = "categories are stated without an encoding, so values are returned as stored"
            self.findings.append(Finding("metadata", "warning", where, text))
        if spec.row_shape is None and is_scalar(self.data, array):
            spec = replace(spec, row_shape=())  # as readers see it
        loose = spec.dtype.kind == "U" and spec.dictionary is None and bool(PATHS & geometries)
        self._add(array, f"attribute:{name}", "attribute", spec=spec, loose=loose)
        self._compare(array, "warning")

    def _family(self, delta: int) -> FamilyCheck | None:
        data, level = self.data, self.data.meta.index
        path = f"{level}/links/{delta:+d}" if delta else f"{level}/links/0"
        family = self._attempt("metadata", path, lambda: data.links(delta))
        if family is None:
            return None
        if delta and level + delta not in self.others:
            text = "links lead to a level that does not exist, and are ignored"
            self.findings.append(Finding("structure", "warning", path, text))
            return None
        members = tuple(f"links:{delta}:{segment.name}" for segment in family.segments)
        for member, segment in zip(members, family.segments, strict=True):
            self._add(segment.array, member, "links", coding=segment.coding)
            self._compare(segment.array, None)
        if delta == 0:
            self._link_fragments(family, members)
            self._link_attributes(family, dict(zip((s.name for s in family.segments), members, strict=True)))
        cells = list_cells(self.view, family, self.others[level + delta] if delta else None)
        return FamilyCheck(
            path=path,
            other=level + delta if delta else None,
            stated=family.stated,
            members=members,
            cells=cells,
            table=None if family.table is None else family.table.records,
        )

    def _link_fragments(self, family: LinkFamily, members: tuple[str, ...]) -> None:
        data = self.data
        array = self._attempt("metadata", f"{data.meta.index}/link_fragments", lambda: data.link_fragments)
        inside = [at for at, segment in enumerate(family.segments) if not segment.offsets.any()]
        if array is not None and inside:
            self._add(array, "link_fragments", "link_fragments", of=members[inside[0]])
        elif inside and data.meta.link_groups:
            text = f"{GROUPED}, but links have no groups"
            self.findings.append(Finding("links", "error", f"{data.meta.index}/link_fragments", text))

    def _link_attributes(self, family: LinkFamily, members: Mapping[str, str]) -> None:
        data, level = self.data, self.data.meta.index
        for name in self._attempt("metadata", f"{level}/link_attributes", lambda: data.link_attribute_names) or ():
            where = f"{level}/link_attributes/{name}"
            values = self._attempt("metadata", where, partial(data.link_attribute, family, name))
            for segment, array in (values.cells if values is not None else {}).items():
                self._add(array, f"link_attribute:{name}:{segment}", "link_attribute", of=members[segment])


def _object_arrays(data: LevelData) -> dict[str, DenseArray]:
    """Arrays of objects, including those that repeat what manifests say."""
    return data.object_attributes | {name: array for name, array in data.object_arrays.items() if array.repeats}


def level_findings(plans: Mapping[int, LevelPlan]) -> list[Delayed]:
    """One Delayed list of findings for each level."""
    summaries = {index: _summary(plan) for index, plan in plans.items()}
    finish = delayed(check_level, pure=True)
    return [finish(plan.whole, {i: summaries[i] for i in _needed(plan, index)}) for index, plan in plans.items()]


def _summary(plan: LevelPlan) -> Delayed:
    """Join what the tasks of a level's chunks find."""
    data = plan.view.data
    shared = LevelCheck(
        source=data.source,
        cells=tuple(cell for cell, _ in plan.cells),
        placement=data.placement,
        bounds=data.store.bounds,
        tiles=data.meta.fragments_tile,
        counted=any(map(counts_vertices, plan.whole.dense)),
        grouped=data.meta.link_groups,
    )
    batches = list(_batches(plan))
    # Not `delayed` for each: that would look into every number of every batch.
    token = tokenize(plan.view.token, shared, [array.digest for _, array in plan.cells], len(batches))
    name, joined = f"zv-check-{token}", f"zv-checked-{token}"
    tasks = {(name, run): Task((name, run), check_chunks, shared, *batch) for run, batch in enumerate(batches)}
    join = Task((joined,), join_summaries, List(*map(TaskRef, tasks)))
    graph = task_over(joined, join, tasks_over(name, tasks))
    return Delayed((joined,), graph, layer=joined)


def _needed(plan: LevelPlan, index: int) -> set[int]:
    return {index, *(family.other for family in plan.whole.families if family.other is not None)}


def _batches(plan: LevelPlan) -> Iterator[tuple[list[Requested], dict[int, int]]]:
    """What each task reads, and the rows that the metadata promise for its chunks."""
    arrays = [(check.member, array) for check, array in plan.cells]
    runs = chunk_runs(plan.view, arrays)
    counts = plan.view.data.vertices.counts
    for chunks, wanted in zip(runs, requested_of(plan.view, arrays, runs), strict=True):
        yield wanted, {} if counts is None else dict(zip(chunks.tolist(), counts[chunks].tolist(), strict=True))


# Whether a store obeys its format, and what is wrong with it if not.

SHOWN = 50


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """What was found; printing it shows a table and a list.

    Parameters
    ----------
    url
        The store.
    findings
        Errors first, then by check and place.
    """

    url: str
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether there are no errors."""
        return not self.errors

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Findings that contradict the format."""
        return tuple(finding for finding in self.findings if finding.severity == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """Findings that are legal but probably not intended."""
        return tuple(finding for finding in self.findings if finding.severity == "warning")

    def _table(self) -> list[list[str]]:
        return [[check, *(str(self._count(check, severity)) for severity in ("error", "warning"))] for check in CHECKS]

    def _count(self, check: Check, severity: str) -> int:
        return sum(finding.check == check and finding.severity == severity for finding in self.findings)

    def __repr__(self) -> str:
        more = len(self.findings) - SHOWN
        lines = [
            f"<Report on {in_line(self.url)}: {'ok' if self.ok else 'not ok'}>",
            text_table(("check", "errors", "warnings"), self._table()),
            *map(str, self.findings[:SHOWN]),
            *([f"... and {more} more"] if more > 0 else []),
        ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        head = ("severity", "check", "where", "message")
        rows = [(f.severity, f.check, f.where, f.message) for f in self.findings[:SHOWN]]
        title = f"Report on {self.url}: {'ok' if self.ok else 'not ok'}"
        summary = html_table(title, ("check", "errors", "warnings"), self._table())
        return summary + (html_table("Findings", head, rows, left=4) if rows else "")


@suggesting
def validate(
    path: StorePath,
    *,
    compute: bool = True,
    progress: bool = False,
    backend: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    **backend_kwargs: Any,
) -> Any:
    """Check a whole store: its structure, metadata, counts, fragments, links and manifests.

    Every chunk is read once, by one task, on the active Dask scheduler; memory holds a few chunks for each task and a
    few numbers for each chunk of the store.

    Parameters
    ----------
    path
        URL or path, ``os.PathLike``, or a ``zarr.abc.store.Store``.
    compute
        False to return a Delayed of the report.
    progress
        Show a bar.
    backend, storage_options, **backend_kwargs
        As for `open_zv`.

    Returns
    -------
    Report
        ``ok``, ``errors``, ``warnings``: each finding has a check, a severity, a place and a message.

    Raises
    ------
    StoreError
        If the store cannot be reached. Whatever contradicts the format is a finding, even that there is no store.

    Examples
    --------
    >>> report = zvl.validate(zvl.example("surface"))
    >>> report.ok, report.findings
    (True, ())
    """
    spec = resolve(path, backend=backend, storage_options=storage_options, **backend_kwargs)
    known, parts = _plan(spec)
    report = dask.delayed(_report, pure=True)(spec.url, tuple(known), parts)
    return finish(report, "validate", compute=compute, shown=progress)


def _plan(spec: StoreSpec) -> tuple[list[Finding], list[Any]]:
    """Findings from metadata alone, and the tasks for the rest."""
    try:
        opened = open_tree(spec, False)
    except FormatError as error:
        return [Finding("structure", "error", "", error.message)], []
    known = [*check_root(opened), *check_additive(opened), *check_consolidated(opened)]
    views = {}
    for index, data in sorted(opened.levels.items()):
        vertices = vertices_or_finding(data)
        if isinstance(vertices, Finding):
            known.append(vertices)
        else:
            views[index] = LevelView(data, Selection(), None)
    plans = {index: _Planner(view, views).plan() for index, view in views.items()}
    for plan in plans.values():
        known += plan.findings
        known += check_stray(plan.view.data, [array for _, array in plan.cells])
    return known, level_findings(plans)


def _report(url: str, known: tuple[Finding, ...], parts: list[list[Finding]]) -> Report:
    found = [*known, *(finding for part in parts for finding in part)]
    found.sort(key=lambda f: (f.severity != "error", CHECKS.index(f.check), f.where))
    return Report(url, tuple(found))
