"""Whether a store is what its format says, and what is wrong with it if not."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dask

from zarr_vectors_lazy.access.check.consolidated import check_consolidated
from zarr_vectors_lazy.access.check.root import check_additive, check_root, check_stray, vertices_or_finding
from zarr_vectors_lazy.access.store import open_tree
from zarr_vectors_lazy.api.keywords import suggesting
from zarr_vectors_lazy.api.progress import computing
from zarr_vectors_lazy.api.show.table import html_table, text_table
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.graph.validate import level_findings, plan_level
from zarr_vectors_lazy.graph.view import LevelView
from zarr_vectors_lazy.model.findings import CHECKS, Check, Finding
from zarr_vectors_lazy.plan.selection import Selection
from zarr_vectors_lazy.storage.resolve import resolve
from zarr_vectors_lazy.storage.spec import StoreSpec

SHOWN = 50


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """What was found; prints as a table and a list.

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
        """Findings that are legal and likely not meant."""
        return tuple(finding for finding in self.findings if finding.severity == "warning")

    def _table(self) -> list[list[str]]:
        return [[check, *(str(self._count(check, severity)) for severity in ("error", "warning"))] for check in CHECKS]

    def _count(self, check: Check, severity: str) -> int:
        return sum(finding.check == check and finding.severity == severity for finding in self.findings)

    def __repr__(self) -> str:
        more = len(self.findings) - SHOWN
        lines = [
            f"<Report on {self.url}: {'ok' if self.ok else 'not ok'}>",
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
    path: Any,
    *,
    compute: bool = True,
    progress: bool = False,
    backend: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    **backend_kwargs: Any,
) -> Any:
    """Check a whole store: its structure, metadata, counts, fragments, links and manifests.

    Every chunk is read once, by one task, on whatever Dask scheduler is active; memory holds some chunks a task and a
    few numbers for each chunk of the store.

    Parameters
    ----------
    path
        URL or path, ``os.PathLike``, or a ``zarr.abc.store.Store``.
    compute
        False: return a Delayed of the report.
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
        If the store cannot be reached. What contradicts the format is a finding, also that there is no store.
    """
    spec = resolve(path, backend=backend, storage_options=storage_options, **backend_kwargs)
    known, parts = _plan(spec)
    report = dask.delayed(_report, pure=True)(spec.url, tuple(known), parts)
    if not compute:
        return report
    with computing("validate", shown=progress):
        return dask.compute(report)[0]


def _plan(spec: StoreSpec) -> tuple[list[Finding], list[Any]]:
    """Findings of metadata alone, and the tasks of the rest."""
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
    plans = {index: plan_level(view, views) for index, view in views.items()}
    for plan in plans.values():
        known += plan.findings
        known += check_stray(plan.view.data, [array for _, array in plan.cells])
    return known, level_findings(plans)


def _report(url: str, known: tuple[Finding, ...], parts: list[list[Finding]]) -> Report:
    found = [*known, *(finding for part in parts for finding in part)]
    found.sort(key=lambda f: (f.severity != "error", CHECKS.index(f.check), f.where))
    return Report(url, tuple(found))
