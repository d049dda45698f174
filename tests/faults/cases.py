"""Random faults during random reads: what is chosen, what is read, and which outcomes are allowed."""

import random
import zipfile
from collections import Counter
from dataclasses import dataclass, field

import dask
import numpy as np
from zarr.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

import zarr_vectors_lazy as zvl
from tests.bounds import within
from tests.conftest import DATA
from tests.faults.server import Rule
from zarr_vectors_lazy.errors import ZVError
from zarr_vectors_lazy.read import objects
from zarr_vectors_lazy.testing import Fault, FaultyStore

SUFFIX = ".zarrvectors.zip"
STORES = (
    "tracts-0.9",
    "neuron-0.9",
    "points-sharded",
    "points-zstd-checksum",
    "points-objects",
    "points-by-text",
    "mesh-objects",
    "paths-sharded",
    "pyramid-by-int",
    "graph-self-contained",
    "skeleton-sharded",
    "cloud-0.7",
    "paths-attributes-0.7",
    "paths-2d-0.7",
    "skeleton-2d-0.7",
    "mesh-quads-0.7",
    "points-objects-0.7",
    "packed-snake-0.7",
    "packed-mesh-0.7",
)


def every_small_store():
    """Names of the stores of which many can be read in a second."""
    paths = [path for path in DATA.rglob(f"*{SUFFIX}") if path.stat().st_size < SMALL_NBYTES]
    return tuple(sorted(path.name.removesuffix(SUFFIX) for path in paths))


def unpacked(folder, names=STORES):
    """Folders of stores by name, unpacked below ``folder``."""
    found = {path.name.removesuffix(SUFFIX): path for path in DATA.rglob(f"*{SUFFIX}")}
    for name in names:
        with zipfile.ZipFile(found[name]) as files:
            files.extractall(folder / name)
    return {name: folder / name for name in names}


def contents(folder):
    """Objects of a store by key."""
    return {f.relative_to(folder).as_posix(): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


HOWS = ("object", "obstore-s3", "fsspec-s3", "obstore-http", "fsspec-http")
OF_OBJECTS = ("slow", "error", "denied", "missing", "empty", "truncated", "flipped", "garbage", "shifted", "whole")
OF_SERVERS = ("slow", "500", "503", "429", "reset", "reset in body", "truncated", "silent", "stalled", "missing",
              "denied", "short", "empty", "flipped", "garbage", "whole", "other range")  # fmt: skip
UNSEEN = {"flipped", "garbage"}  # without a checksum no reader can detect another float
LIMIT_S = 60
SMALL_NBYTES = 60_000  # packed
IMPATIENT = {
    "zarr_vectors_lazy.retries": 2,
    "zarr_vectors_lazy.retry-timeout": "0.5 s",
    "zarr_vectors_lazy.read-timeout": "0.3 s",
    "scheduler": "threads",
}


def _rows(level):
    out = [level.vertices]
    return out + [level.attributes[name] for name in level.attribute_names]


READS = {
    "vertices": lambda level, case: [level.vertices],
    "rows": lambda level, case: _rows(level),
    "attribute": lambda level, case: [level.attributes[case.pick(level.attribute_names)]],
    "codes": lambda level, case: [level.codes[case.pick(level.attribute_names)]],
    "box": lambda level, case: [level.sel(bbox=case.box(level)).vertices],
    "box rows": lambda level, case: _rows(level.sel(bbox=case.box(level))),
    "box edges": lambda level, case: [level.sel(bbox=case.box(level)).edges],
    "whole objects": lambda level, case: [level.sel(bbox=case.box(level), whole_objects=True).vertices],
    "edges": lambda level, case: [level.edges],
    "faces": lambda level, case: [level.faces],
    "links": lambda level, case: [level.links(case.pick(level.deltas))],
    "link attributes": lambda level, case: list(level.link_attributes.values()),
    "object": lambda level, case: [level.objects[case.pick(level.objects.ids)]],
    "objects": lambda level, case: [level.objects.ids, *level.objects.ragged()],
    "of objects": lambda level, case: [level.sel(objects=level.objects.ids[:3]).vertices],
    "object attributes": lambda level, case: [v.data for v in level.objects.attributes.data_vars.values()],
    "sizes": lambda level, case: [level.compute_chunk_sizes().vertices],
}


@dataclass(frozen=True)
class Case:
    """One read under some faults."""

    store: str
    how: str
    level: int
    read: str
    place: tuple
    faults: tuple
    late: bool
    """Whether faults begin after the store was opened."""

    def pick(self, among):
        if not len(among):
            raise ZVError("nothing to choose from")
        return among[int(self.place[0] * len(among))]

    def box(self, level):
        lo, hi = (np.asarray(corner, float) for corner in level.bounds)
        edge = (hi - lo) * (0.1 + 0.6 * self.place[1])
        at = lo + (hi - lo - edge) * self.place[0]
        return at, at + edge

    def run(self, store):
        """What the read gives, computed."""
        members = READS[self.read](store[self.level], self)
        if not members:
            raise ZVError("nothing to read")
        return [np.asarray(part) for part in dask.compute(*members)]


@dataclass
class Tally:
    """Outcomes by kind of fault."""

    outcomes: dict = field(default_factory=dict)
    cases: int = 0

    def add(self, happened, outcome):
        self.cases += 1
        for kind, times in happened.items():
            self.outcomes.setdefault(kind, Counter())[outcome] += times

    @property
    def faults(self):
        return sum(counts.total() for counts in self.outcomes.values())

    def __str__(self):
        names = sorted({name for counts in self.outcomes.values() for name in counts})
        rows = [["fault", "times", *names]]
        rows += [[k, str(c.total()), *(str(c[name]) for name in names)] for k, c in sorted(self.outcomes.items())]
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:], f"{self.cases} reads"])


class Bench:
    """The stores, where they are, and what they give when nothing fails."""

    def __init__(self, folder, names=STORES):
        self.server = None
        self.names = names
        self.folder = folder
        self.folders = unpacked(folder, names)
        self.objects = {name: contents(path) for name, path in self.folders.items()}
        for path in self.folders.values():
            zvl.consolidate(path)  # plain HTTP has nothing else
        self._truth = {}

    def draw(self, seed, hows=HOWS):
        """Return the case of a seed."""
        rng = random.Random(seed)
        name, how = rng.choice(self.names), rng.choice(hows)
        kinds = OF_OBJECTS if how == "object" else OF_SERVERS
        level = rng.choice(sorted({key.split("/")[0] for key in self.objects[name] if key[0].isdigit()}))
        return Case(
            store=name,
            how=how,
            level=int(level),
            read=rng.choice(list(READS)),
            place=(rng.random(), rng.random()),
            faults=tuple(self._fault(rng, name, how, rng.choice(kinds)) for _ in range(rng.choice((1, 1, 2, 3)))),
            late=rng.random() < 0.7,
        )

    def _fault(self, rng, name, how, kind):
        keys = [key for key in self.objects[name] if kind != "missing" or is_listed_cell(key, name)]
        if how != "object":  # its metadata are in the root
            keys = [key for key in keys if key == "zarr.json" or not key.endswith("zarr.json") or name.endswith("-0.7")]
        key = rng.choice(keys)
        if kind != "missing" and rng.random() < 0.8:  # of a whole array, or of everything
            parts = key.split("/")
            key = "/".join(parts[: rng.randrange(len(parts))])
        times = rng.choice((1, 1, 2, None))
        return kind, key, times, rng.random()

    def truth(self, case):
        """What the read gives when nothing fails; None where the store has nothing of the kind."""
        key = (case.store, case.level, case.read, case.place)
        try:
            self._truth = {key: case.run(zvl.open_zv(self.folders[case.store]))}
        except ZVError:
            return None
        return self._truth[key]

    def try_case(self, case, tally):
        """Run a case; an outcome that may not be is an AssertionError that names it."""
        truth = self.truth(case)
        if truth is None:
            return
        objects._kept.clear()
        objects._kept_ids.clear()
        found, happened = [], Counter()
        with dask.config.set(IMPATIENT), within(LIMIT_S, case):
            try:
                found = self._read(case, happened)
                outcome = "equal" if same(found, truth) else "unseen"
            except ZVError as error:
                outcome = type(error).__name__
        if outcome == "unseen":
            assert UNSEEN & set(happened), f"{case} gave something else"
            assert not is_checked(case), f"{case} gave something else in spite of its checksums"
        tally.add(happened, outcome)

    def _read(self, case, happened):
        if case.how == "object":
            faults = [Fault(kind=kind, key=key, times=times, at=at) for kind, key, times, at in case.faults]
            buffer = default_buffer_prototype().buffer
            memory = {key: buffer.from_bytes(data) for key, data in self.objects[case.store].items()}
            store = FaultyStore(MemoryStore(memory))
            try:
                store.arm([] if case.late else faults)
                opened = zvl.open_zv(store)
                opened[case.level].vertices  # noqa: B018  its metadata
                store.arm(faults)
                return case.run(opened)
            finally:
                happened.update(kind for kind, _ in store.happened)
        rules = [Rule(kind, f"{case.store}/{key}", times, at) for kind, key, times, at in case.faults]
        url, options = self.server.at(case.how, case.store)
        self.server.happened = happened
        try:
            self.server.rules[:] = [] if case.late else rules
            opened = zvl.open_zv(url, **options)
            self.server.rules[:] = rules
            return case.run(opened)
        finally:
            self.server.rules.clear()


def is_listed_cell(key, name):
    """Whether the object is a cell that metadata list, and that has to be there."""
    family = key.split("/")[1:2]
    if family not in (["vertices"], ["vertex_fragments"], ["vertex_attributes"], ["links"]):
        return False
    return key.endswith("/zarr.json") and key.count("/") > 2 if name.endswith("-0.7") else "/c/" in key


def is_checked(case):
    """Whether checksums cover all that was changed."""
    return case.store == "points-zstd-checksum" and all(
        kind not in UNSEEN or "/vertices/c" in key for kind, key, _, _ in case.faults
    )


def same(found, truth):
    """Whether the dtypes, shapes and bytes are the same."""
    return len(found) == len(truth) and all(
        a.dtype == b.dtype
        and a.shape == b.shape
        and (a.tobytes() == b.tobytes() if a.dtype != object else (a == b).all())
        for a, b in zip(found, truth, strict=True)
    )
