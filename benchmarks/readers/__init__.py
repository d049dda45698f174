"""The readers that are compared: each is a function of a `Job`, in a module that imports only what it needs."""

from dataclasses import dataclass, field

READERS = {
    "ours": "benchmarks.readers.ours:read",
    "reference read_points": "benchmarks.readers.reference:read_points",
    "reference select": "benchmarks.readers.reference:select",
    "reference select, positions only": "benchmarks.readers.reference:select_positions",
    "reference open_zv": "benchmarks.readers.reference:open_lazily",
    "raw fetch": "benchmarks.readers.raw:fetch",
    "raw files": "benchmarks.readers.raw:read_files",
}


@dataclass(frozen=True)
class Job:
    """One measurement."""

    reader: str
    url: str  # of the store: a path, or s3://
    folder: str  # the same store on local disk
    box: list[list[float]] | None = None
    metadata: list[str] = field(default_factory=list)  # for the raw fetch: objects that opening needs
    cells: list[str] = field(default_factory=list)  # and those that reading needs, relative to the store
    in_flight: int = 128  # requests of the raw fetch at once
    count_opens: bool = False  # count the files opened; costs time
    warm_memory: bool = True  # touch memory before the clock starts
    preload: list[str] = field(default_factory=list)  # modules to import before the clock starts
