"""Checks of a store as a Dask graph: each chunk is read once, by one task, for all checks."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from dask.base import tokenize
from dask.delayed import Delayed, delayed
from dask.highlevelgraph import MaterializedLayer

from zarr_vectors_lazy.access.check.chunk import GROUPED, CellCheck, LevelCheck, check_chunks
from zarr_vectors_lazy.access.check.level import FamilyCheck, WholeCheck, check_level, counts_vertices, join_summaries
from zarr_vectors_lazy.access.level import LevelData
from zarr_vectors_lazy.access.wanted import Wanted
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.graph.batches import chunk_runs, wanted_of
from zarr_vectors_lazy.graph.layers import List, Task, TaskRef, layer_over, task_over
from zarr_vectors_lazy.graph.links import list_cells
from zarr_vectors_lazy.graph.values import PATHS
from zarr_vectors_lazy.graph.view import LevelView
from zarr_vectors_lazy.model.arrays import CellArray, DenseArray
from zarr_vectors_lazy.model.chunks import dotted
from zarr_vectors_lazy.model.findings import Check, Finding, Severity
from zarr_vectors_lazy.model.links import LinkFamily

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class LevelPlan:
    """What the tasks of a level check, and what its metadata alone tell.

    Parameters
    ----------
    view
        The level, whole.
    cells
        Its arrays of cells and how they are checked.
    whole
        What is checked when its chunks are known.
    findings
        Found already.
    """

    view: LevelView
    cells: tuple[tuple[CellCheck, CellArray], ...]
    whole: WholeCheck
    findings: list[Finding]


def plan_level(view: LevelView, others: Mapping[int, LevelView]) -> LevelPlan:
    """Look at the metadata of a level; what cannot be parsed is a finding and is not checked further.

    Raises
    ------
    FormatError
        If there are no vertices that could be read.
    """
    return _Planner(view, others).plan()


class _Planner:
    def __init__(self, view: LevelView, others: Mapping[int, LevelView]) -> None:
        self.view, self.data, self.others = view, view.data, others
        self.vertices = view.data.vertices
        self.findings: list[Finding] = []
        self.cells: list[tuple[CellCheck, CellArray]] = []

    def plan(self) -> LevelPlan:
        data = self.data
        level = str(data.meta.index)
        self._add(CellCheck(member="vertices", kind="vertices", spec=self.vertices.spec), self.vertices)
        fragments = self._attempt("structure", level, lambda: data.fragments)
        if fragments is not None:
            self._add(CellCheck(member="fragments", kind="fragments", spec=fragments.spec), fragments)
            self._compare(fragments, "error", "error")
        owners = self._attempt("metadata", f"{level}/fragment_attributes", lambda: data.fragment_owners)
        if owners is not None:
            self._add(CellCheck(member="owners", kind="owners", spec=owners.spec), owners)
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

    def _add(self, check: CellCheck, array: CellArray) -> None:
        self.cells.append((check, array))

    def _attempt(self, check: Check, where: str, make: Callable[[], T]) -> T | None:
        try:
            return make()
        except FormatError as error:
            self.findings.append(Finding(check, "error", where, error.message))
            return None

    def _compare(self, array: CellArray, missing: Severity | None, extra: Severity) -> None:
        """Hold the chunks of an array against those of the vertices."""
        here, there = self.vertices.chunks, array.chunks
        for severity, coords, of, text in (
            (missing, here.coords, there, "chunks have vertices and no cell here"),
            (extra, there.coords, here, "cells are listed for chunks without vertices"),
        ):
            lost = coords[of.find(coords) < 0]
            if len(lost) and severity is not None:
                message = f"{len(lost)} {text}, such as {dotted(lost[0])}"
                self.findings.append(Finding("structure", severity, array.spec.path, message))

    def _attribute(self, name: str) -> None:
        by = self.data.chunk_attribute
        if by is not None and by[0] == name:
            return
        where = f"{self.data.meta.index}/vertex_attributes/{name}"
        array = self._attempt("metadata", where, lambda: self.data.attribute(name))
        if array is None:
            return
        geometries = set(self.data.store.geometry_types)
        spec = array.spec
        if spec.dictionary is None and "categories" in array.attributes:
            text = "categories are stated without encoding: values are given as they are stored"
            self.findings.append(Finding("metadata", "warning", where, text))
        if spec.row_shape is None and geometries == {"point_cloud"}:
            spec = replace(spec, row_shape=())  # as it is read
        loose = spec.dtype.kind == "U" and spec.dictionary is None and bool(PATHS & geometries)
        self._add(CellCheck(member=f"attribute:{name}", kind="attribute", spec=spec, loose=loose), array)
        self._compare(array, "warning", "error")

    def _family(self, delta: int) -> FamilyCheck | None:
        data, level = self.data, self.data.meta.index
        path = f"{level}/links/{delta:+d}" if delta else f"{level}/links/0"
        family = self._attempt("metadata", path, lambda: data.links(delta))
        if family is None:
            return None
        if delta and level + delta not in self.others:
            text = "links lead to a level that is not there, and are ignored"
            self.findings.append(Finding("structure", "warning", path, text))
            return None
        members = tuple(f"links:{delta}:{segment.name}" for segment in family.segments)
        for member, segment in zip(members, family.segments, strict=True):
            check = CellCheck(member=member, kind="links", spec=segment.array.spec, coding=segment.coding)
            self._add(check, segment.array)
            self._compare(segment.array, None, "error")
        if delta == 0:
            self._link_fragments(family, members)
            self._link_attributes(family, dict(zip((s.name for s in family.segments), members, strict=True)))
        cells = list_cells(self.view, family, self.others[level + delta] if delta else None)
        return FamilyCheck(
            path=path,
            other=level + delta if delta else None,
            stated=family.stated,
            members=members,
            segments=cells.segments,
            sources=cells.sources,
            ends=cells.ends,
            table=None if family.table is None else family.table.records,
        )

    def _link_fragments(self, family: LinkFamily, members: tuple[str, ...]) -> None:
        data = self.data
        array = self._attempt("metadata", f"{data.meta.index}/link_fragments", lambda: data.link_fragments)
        inside = [at for at, segment in enumerate(family.segments) if not segment.offsets.any()]
        if array is not None and inside:
            check = CellCheck(member="link_fragments", kind="link_fragments", spec=array.spec, of=members[inside[0]])
            self._add(check, array)
        elif inside and data.meta.link_groups:
            text = f"{GROUPED}, and links have no groups"
            self.findings.append(Finding("links", "error", f"{data.meta.index}/link_fragments", text))

    def _link_attributes(self, family: LinkFamily, members: Mapping[str, str]) -> None:
        data, level = self.data, self.data.meta.index
        for name in self._attempt("metadata", f"{level}/link_attributes", lambda: data.link_attribute_names) or ():
            where = f"{level}/link_attributes/{name}"
            values = self._attempt("metadata", where, partial(data.link_attribute, family, name))
            for segment, array in (values.cells if values is not None else {}).items():
                member = f"link_attribute:{name}:{segment}"
                check = CellCheck(member=member, kind="link_attribute", spec=array.spec, of=members[segment])
                self._add(check, array)


def _object_arrays(data: LevelData) -> dict[str, DenseArray]:
    """Arrays of objects, also those that repeat for others what manifests tell."""
    return data.object_attributes | {name: array for name, array in data.object_arrays.items() if array.repeats}


def level_findings(plans: Mapping[int, LevelPlan]) -> list[Delayed]:
    """One Delayed list of findings a level."""
    summaries = {index: _summary(plan) for index, plan in plans.items()}
    finish = delayed(check_level, pure=True)
    return [finish(plan.whole, {i: summaries[i] for i in _needed(plan, index)}) for index, plan in plans.items()]


def _summary(plan: LevelPlan) -> Delayed:
    """What the tasks of a level's chunks find, joined."""
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
    # Not `delayed` for each: it would look into every number of every batch.
    token = tokenize(plan.view.token, shared, [array.digest for _, array in plan.cells], len(batches))
    name, joined = f"zv-check-{token}", f"zv-checked-{token}"
    tasks = {(name, run): Task((name, run), check_chunks, shared, *batch) for run, batch in enumerate(batches)}
    join = Task((joined,), join_summaries, List(*map(TaskRef, tasks)))
    graph = task_over(joined, join, layer_over(name, MaterializedLayer(tasks), ()))
    return Delayed((joined,), graph, layer=joined)


def _needed(plan: LevelPlan, index: int) -> set[int]:
    return {index, *(family.other for family in plan.whole.families if family.other is not None)}


def _batches(plan: LevelPlan) -> Iterator[tuple[list[Wanted], dict[int, int]]]:
    """What each task reads, and the rows that the metadata promise of its chunks."""
    arrays = [(check.member, array) for check, array in plan.cells]
    runs = chunk_runs(plan.view, arrays)
    counts = plan.view.data.vertices.counts
    for chunks, wanted in zip(runs, wanted_of(plan.view, arrays, runs), strict=True):
        yield wanted, {} if counts is None else dict(zip(chunks.tolist(), counts[chunks].tolist(), strict=True))
