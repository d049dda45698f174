"""Time to read positions with this package, the reference's eager and lazy readers, and plain requests, in one run.

Every measurement is a process of its own, and the readers of a cell (a store, a place, a full read or a box) take
turns, so that a slow minute of the machine slows all of them. A first, untimed turn warms the page cache, counts the
files that are opened, notes what is imported late, and checks that all readers return the same rows.
"""

import json
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks import datasets
from benchmarks.datasets import Dataset
from benchmarks.environment import ROOT, clean_environment
from benchmarks.readers import Job
from benchmarks.s3_server import Server, running

FULL = ("ours", "reference read_points", "reference open_zv")
BOX = ("ours", "reference select, positions only", "reference select", "reference read_points")
BASE = {"full": "reference read_points", "box": "reference select, positions only"}
TIMEOUT_S = 600


@dataclass(frozen=True)
class Options:
    """What a run measures."""

    stores: tuple[Dataset, ...] = datasets.STANDARD
    folder: Path = datasets.FOLDER  # of the stores
    rounds: int = 5
    delay_ms: float = 30
    places: tuple[str, ...] = ("disk", "s3")
    in_flight: tuple[int, ...] = (64, 128, 256)  # requests of the raw fetch at once; 256 is this package's default
    works: tuple[str, ...] = ("full", "box")
    warm_memory: bool = True  # see `benchmarks.case.warm_memory`
    reference: Path | None = None  # Python that has the reference package; None: leave it out


@dataclass
class Row:
    """Measurements of one reader in one cell."""

    dataset: str
    place: str
    work: str
    reader: str
    chunks: int  # objects that the read needs
    samples: list[dict[str, Any]] = field(default_factory=list)  # of `benchmarks.case.measure`, and the server's counts
    opened: int | None = None  # files, counted in the untimed turn
    imported: list[str] = field(default_factory=list)  # modules that the untimed turn imported while it read
    failure: str = ""


def run(options: Options) -> list[Row]:
    """Measure every cell."""
    rows: list[Row] = []
    with ExitStack() as stack:
        server = None
        if "s3" in options.places:
            server = stack.enter_context(running(options.folder, delay_ms=options.delay_ms))
        for dataset in options.stores:
            for place in options.places:
                for work in options.works:
                    rows += run_cell(dataset, work, server if place == "s3" else None, options)
    return rows


def run_cell(dataset: Dataset, work: str, server: Server | None, options: Options) -> list[Row]:
    """Let the readers of a cell take turns."""
    jobs = plan(dataset, work, server, options)
    place = f"S3, {options.delay_ms:g} ms" if server else "disk"
    rows = [Row(dataset.name, place, work, label, len(job.cells)) for label, job in jobs.items()]
    slow = {"reference open_zv"} if server else set()  # 45 s at 30 ms: once is enough
    for turn in range(options.rounds + 1):
        for row in rows[turn % len(rows) :] + rows[: turn % len(rows)]:
            if row.failure or (row.reader in slow and turn != 1):
                continue
            job = jobs[row.reader]
            print(f"{turn}/{options.rounds} {dataset.name} {place} {work}: {row.reader}", file=sys.stderr, flush=True)
            late = sorted({name for other in rows if side(other) == side(row) for name in other.imported})
            take_turn(row, replace(job, preload=late), server, options, timed=turn > 0)
        if turn == 0:
            check_agreement(rows)
    return rows


def side(row: Row) -> str:
    """Environment in which a reader runs."""
    return "reference" if row.reader.startswith("reference") else "ours"


def plan(dataset: Dataset, work: str, server: Server | None, options: Options) -> dict[str, Job]:
    """Jobs of a cell by the label that they have in the table."""
    folder = options.folder / dataset.name
    metadata, cells = datasets.keys(folder, dataset.box_chunks() if work == "box" else None)
    job = Job(
        reader="ours",
        url=server.url(dataset.name) if server else str(folder),
        folder=str(folder),
        box=[list(corner) for corner in dataset.box] if work == "box" else None,
        warm_memory=options.warm_memory,
    )
    wanted = [name for name in (BOX if work == "box" else FULL) if options.reference or name == "ours"]
    jobs = {name: replace(job, reader=name, cells=cells) for name in wanted}
    raw = replace(job, metadata=metadata, cells=cells)
    if server is None:
        jobs["raw files"] = replace(raw, reader="raw files")
    elif work == "box":
        jobs["raw fetch"] = replace(raw, reader="raw fetch")
    else:
        for in_flight in options.in_flight:
            jobs[f"raw fetch, {in_flight} in flight"] = replace(raw, reader="raw fetch", in_flight=in_flight)
    return jobs


def take_turn(row: Row, job: Job, server: Server | None, options: Options, *, timed: bool) -> None:
    """Measure once, with what the server counted; keep the sample where it was timed."""
    if server:
        server.counts(reset=True)
    try:
        sample = measure(replace(job, count_opens=not timed and server is None), server, options.reference)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as failure:
        row.failure = (str(failure.stderr or "").strip().splitlines() or [str(failure)])[-1]
        return
    sample["server"] = counts = server.counts() if server else None
    if counts and counts["failed"]:
        raise RuntimeError(f"the server failed {counts['failed']} requests: its bug would be timed as the client's")
    if not timed:
        row.opened, row.imported = sample["opened"], sample["imported"]
    row.samples.append(sample)


def measure(job: Job, server: Server | None, reference: Path | None) -> dict[str, Any]:
    """One measurement in a process of its own."""
    python = str(reference) if job.reader.startswith("reference") else sys.executable
    done = subprocess.run(
        [python, "-m", "benchmarks.case"],
        input=json.dumps(asdict(job)),
        env=clean_environment(**(server.client_env() if server else {})),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=TIMEOUT_S,
    )
    return json.loads(done.stdout)


def check_agreement(rows: list[Row]) -> None:
    """Compare what the untimed turn read, and drop its times."""
    answers = {(s["rows"], s["checksum"]) for row in rows for s in row.samples if "checksum" in s}
    if len(answers) > 1:
        told = {row.reader: (s["rows"], s["checksum"]) for row in rows for s in row.samples if "checksum" in s}
        raise RuntimeError(f"readers disagree on {rows[0].dataset}, {rows[0].work}: rows and checksums are {told}")
    for row in rows:
        row.samples = []
