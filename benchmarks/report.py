"""Results as a markdown table and as JSON."""

import json
import statistics
from collections.abc import Iterable
from dataclasses import asdict
from itertools import groupby
from typing import Any

from benchmarks.bench_read import BASE, Row, side

COLUMNS = (
    "s: median (min-max)",
    "of {base}",
    "CPU s",
    "requests",
    "own count",
    "MB sent",
    "peak MB",
    "grown MB",
    "runs",
)
HEADER = f"| reader | {' | '.join(COLUMNS)} |\n| --- |{' --- |' * len(COLUMNS)}"


def markdown(rows: Iterable[Row], about: dict[str, Any]) -> str:
    """A table for each cell, after the description of the machine."""
    parts = [f"- {name}: {value}" for name, value in about.items()]
    for (dataset, place, work), cell in groupby(rows, lambda row: (row.dataset, row.place, row.work)):
        parts += ["", table(list(cell), f"{dataset}, {place}, {'8-chunk box' if work == 'box' else 'full read'}")]
    return "\n".join(parts)


def table(rows: list[Row], title: str) -> str:
    """Table of one cell: median times and memory, and the requests that the server counted or the files opened."""
    base = BASE[rows[0].work]
    reference = next((median(row, "seconds") for row in rows if row.reader == base), None)
    lines = [f"### {title}: {rows[0].chunks} chunks needed", "", HEADER.format(base=base.removeprefix("reference "))]
    return "\n".join(lines + [line(row, reference) for row in rows])


def line(row: Row, reference: float | None) -> str:
    """One reader's line."""
    if row.failure or not row.samples:
        return f"| {row.reader} | failed: {row.failure.replace('|', '/')} |" + " |" * (len(COLUMNS) - 1)
    seconds = [sample["seconds"] for sample in row.samples]
    middle = statistics.median(seconds)
    cells = [
        row.reader,
        f"{middle:.3f} ({min(seconds):.3f}-{max(seconds):.3f})",
        f"{middle / reference:.2f}" if reference else "",
        f"{median(row, 'cpu_seconds'):.2f}",
        requests(row),
        span(sample["own_requests"] for sample in row.samples),
        span(round((sample["server"] or {}).get("nbytes", 0) / 1e6, 1) or None for sample in row.samples),
        f"{median(row, 'peak_mb'):.0f}",
        f"{median(row, 'grown_mb'):.0f}",
        str(len(seconds)),
    ]
    return f"| {' | '.join(cells)} |"


def requests(row: Row) -> str:
    """Requests by kind that the server counted, or files opened."""
    servers = [sample["server"] for sample in row.samples if sample["server"]]
    if not servers:
        return "" if row.opened is None else f"{row.opened} files"
    total = span(server["requests"] for server in servers)
    others = {kind: n for kind, n in servers[-1]["methods"].items() if kind != "GET"}
    named = ", ".join(f"{n} {kind}" for kind, n in others.items())
    return f"{total} ({named})" if named else total


def span(values: Iterable[float | None]) -> str:
    """One number if all are equal, otherwise the least and the greatest."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return ""
    return f"{known[0]}" if known[0] == known[-1] else f"{known[0]}-{known[-1]}"


def median(row: Row, name: str) -> float | None:
    """Median over the rounds; ``None`` if nothing was measured."""
    values = [sample[name] for sample in row.samples]
    return statistics.median(values) if values else None


def versions(rows: Iterable[Row]) -> dict[str, str]:
    """Versions on either side."""
    found = {}
    for row in rows:
        for sample in row.samples[:1]:
            found[f"versions, {side(row)}"] = ", ".join(
                f"{name} {number}" for name, number in sample["versions"].items()
            )
    return found


def as_json(rows: Iterable[Row], about: dict[str, Any]) -> str:
    """Everything measured."""
    return json.dumps({"about": about, "rows": [asdict(row) for row in rows]}, indent=1)
