"""The tasks that check the cells of some chunks; each cell is read once for all checks."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np

from zarr_vectors_lazy.errors import CorruptChunkError, FormatError, counted
from zarr_vectors_lazy.format.vectors import decode_rows, missing_codes
from zarr_vectors_lazy.kernels.trees import follow_fragments
from zarr_vectors_lazy.model.arrays import CellSpec, LinkCoding
from zarr_vectors_lazy.model.levels import Check, Finding, Severity, dotted
from zarr_vectors_lazy.model.objects import Fragments
from zarr_vectors_lazy.plan.selection import Placement
from zarr_vectors_lazy.read.cells import Requested, read_batch, read_fragments, read_links, read_payload, read_vertices
from zarr_vectors_lazy.read.level import Source
from zarr_vectors_lazy.types import Array, BBox, Floats, IntArray, Raw, Vertices

Kind: TypeAlias = Literal["vertices", "fragments", "owners", "attribute", "links", "link_fragments", "link_attribute"]
Remarks: TypeAlias = Iterator[tuple[Check, Severity, str]]
"""For each finding: the check, its severity, and the message."""
UNKNOWN = -1
GROUPED = "fragment_link_groups is stated"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CellCheck:
    """How the cells of one array are checked.

    Parameters
    ----------
    member
        Name in the batch.
    kind
        What they hold.
    spec
        How they are read.
    coding
        Coding of link records.
    of
        For fragments and attributes of links: the member that has the records.
    loose
        Whether text has a width of its own in each cell.
    """

    member: str
    kind: Kind
    spec: CellSpec
    coding: LinkCoding | None = None
    of: str = ""
    loose: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LevelCheck:
    """The checks of a level's cells, shared by its tasks.

    Parameters
    ----------
    source
        The level.
    cells
        Its arrays, the vertices first, the fragments second, links before what belongs to them.
    placement
        Where the vertices of a chunk must lie.
    bounds
        Bounds that the store states.
    tiles
        Whether the metadata say that fragments partition the rows.
    counted
        Whether the vertices of objects are counted in the store, so that the rows of each fragment are needed.
    grouped
        Whether the metadata say that groups of links follow the fragments of vertices.
    """

    source: Source
    cells: tuple[CellCheck, ...]
    placement: Placement
    bounds: BBox
    tiles: bool
    counted: bool = False
    grouped: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Summary:
    """What is known about some chunks after their cells were checked.

    Parameters
    ----------
    rows, fragments
        By chunk number; -1 if they could not be read.
    links
        By member and chunk number: records, and for each slot the largest row that they name, or -1.
    owners
        By chunk number, the object id that is stored for each fragment.
    sizes
        By chunk number, the rows of each fragment, if they are needed.
    strays
        By chunk number, if rows may lie outside their chunk: how many do, and how far.
    findings
        The findings.
    """

    rows: dict[int, int] = field(default_factory=dict)
    fragments: dict[int, int] = field(default_factory=dict)
    links: dict[tuple[str, int], tuple[int, tuple[int, ...]]] = field(default_factory=dict)
    owners: dict[int, IntArray] = field(default_factory=dict)
    sizes: dict[int, IntArray] = field(default_factory=dict)
    strays: dict[int, tuple[int, float]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def check_chunks(check: LevelCheck, wanted: Sequence[Requested], counts: Mapping[int, int]) -> Summary:
    """Read the cells of some chunks and check them.

    Parameters
    ----------
    wanted
        What the batch reads for each member.
    counts
        Rows by chunk number that the metadata promise, if they do.
    """
    raws = read_batch(check.source, wanted)
    coords = {row: tuple(coord) for want in wanted for row, coord in zip(want.rows, want.coords.tolist(), strict=True)}
    summary = Summary()
    for chunk in sorted(coords):
        _Chunk(check, chunk, coords[chunk], summary).run(raws, counts.get(chunk))
    return summary


class _Chunk:
    """The checks of one chunk."""

    def __init__(self, check: LevelCheck, chunk: int, coord: tuple[int, ...], summary: Summary) -> None:
        self.check, self.chunk, self.coord, self.summary = check, chunk, coord, summary
        self.rows = UNKNOWN
        self.index: Fragments | None = None
        self.links: dict[str, IntArray] = {}

    def run(self, raws: Mapping[tuple[str, int], Raw], count: int | None) -> None:
        for cell in self.check.cells:
            if (cell.member, self.chunk) not in raws:
                if cell.kind == "link_fragments" and self.check.grouped and self._records(cell.of) > 0:
                    self._add("links", "error", cell, f"{GROUPED}, but the links of the chunk have no groups")
                continue
            raw = raws[cell.member, self.chunk]
            try:
                for kind, severity, message in self._found(cell, raw, count):
                    self._add(kind, severity, cell, message)
            except CorruptChunkError as error:
                self._add(_CHECKS[cell.kind] if raw is not None else "structure", "error", cell, error.reason)
            except FormatError as error:
                self._add(_CHECKS[cell.kind], "error", cell, error.message)

    def _add(self, kind: Check, severity: Severity, cell: CellCheck, message: str) -> None:
        where = f"{cell.spec.path} chunk {dotted(self.coord)}"
        self.summary.findings.append(Finding(kind, severity, where, message))

    def _found(self, cell: CellCheck, raw: Raw, count: int | None) -> Remarks:
        source, coord = self.check.source, self.coord
        match cell.kind:
            case "vertices":
                yield from self._vertices(read_vertices(source, cell.spec, coord, raw, None), count)
            case "fragments":
                yield from self._fragments(read_fragments(source, cell.spec, coord, raw))
            case "owners":
                payload = read_payload(source, cell.spec, coord, raw)
                yield from self._owners(decode_rows(payload, cell.spec.dtype, ()))
            case "attribute":
                yield from self._attribute(cell, raw, self.rows, "vertices", "counts")
            case "links":
                assert cell.coding is not None
                self._links(cell, read_links(source, cell.spec, coord, raw, cell.coding))
            case "link_fragments":
                yield from self._link_fragments(cell, read_fragments(source, cell.spec, coord, raw))
            case "link_attribute":
                yield from self._attribute(cell, raw, self._records(cell.of), "links", "links")

    def _vertices(self, vertices: Vertices, count: int | None) -> Remarks:
        self.rows = self.summary.rows[self.chunk] = len(vertices)
        if count is not None and count != len(vertices):
            yield "counts", "error", f"{counted(self.rows, 'row')}, but the stored counts say {count}: run zvl.index"
        if not len(vertices):
            yield "structure", "warning", "a chunk without vertices is listed"
        if bad := int((~np.isfinite(vertices)).any(axis=1).sum()):
            yield "structure", "error", f"{counted(bad, 'vertex')} not finite"
        placement, coord = self.check.placement, np.asarray(self.coord, np.int64)
        outside = int(placement.outside(vertices, coord).sum())
        if outside:
            yield "structure", "error", f"{counted(outside, 'vertex')} outside the chunk, so that boxes would miss them"
        elif placement.strays and placement.known:
            self.summary.strays[self.chunk] = placement.reach(vertices, coord)
        lo, hi = self.check.bounds
        beyond = int(((vertices < lo - _slack(lo)) | (vertices > hi + _slack(hi))).any(axis=1).sum())
        if beyond:
            yield "structure", "warning", f"{counted(beyond, 'vertex')} outside the bounds of the store"

    def _fragments(self, index: Fragments) -> Remarks:
        self.index = index
        self.summary.fragments[self.chunk] = len(index)
        if self.check.counted:
            self.summary.sizes[self.chunk] = index.counts
        if self.rows == UNKNOWN:
            return
        index.check(self.rows)
        named = index.rows(np.arange(len(index)))
        if self.check.tiles and not (np.array_equal(named, np.arange(self.rows)) and not index.explicit.any()):
            yield "fragments", "error", "fragments_tile is stated, but the fragments do not partition the rows"
        lost = self.rows - len(np.unique(named))
        if lost:
            yield "fragments", "warning", f"{lost} of {counted(self.rows, 'row')} belong to no fragment"

    def _owners(self, owners: Array) -> Remarks:
        total = self.summary.fragments.get(self.chunk, UNKNOWN)
        if total not in (UNKNOWN, len(owners)):
            yield "fragments", "error", f"{len(owners)} object ids for {counted(total, 'fragment')}"
        else:
            self.summary.owners[self.chunk] = owners.astype(np.int64)

    def _links(self, cell: CellCheck, records: IntArray) -> None:
        slots, rows = records[:, 0], records[:, 1]
        width = records.shape[2]
        tops = tuple(int(rows[slots == slot].max(initial=UNKNOWN)) for slot in range(width))
        self.summary.links[cell.member, self.chunk] = len(records), tops
        self.links[cell.member] = rows
        if len(records) and rows.min() < 0:
            raise FormatError(f"a record names row {int(rows.min())}")

    def _link_fragments(self, cell: CellCheck, groups: Fragments) -> Remarks:
        records = self._records(cell.of)
        if records == UNKNOWN:
            return
        groups.check(records)
        rows = self.links[cell.of]
        if self.check.grouped and self.index is not None and int(rows.max(initial=UNKNOWN)) < self.rows:
            why = follow_fragments(groups, rows, self.index, self.rows)
            if why:
                yield "links", "error", f"{GROUPED}, but {why}"

    def _records(self, member: str) -> int:
        return self.summary.links.get((member, self.chunk), (UNKNOWN, ()))[0]

    def _attribute(self, cell: CellCheck, raw: Raw, rows: int, of: str, kind: Check) -> Remarks:
        payload = read_payload(self.check.source, cell.spec, self.coord, raw)
        dtype = np.dtype("<U1") if cell.loose else cell.spec.dtype
        values = decode_rows(payload, dtype, () if cell.loose else cell.spec.row_shape or ())
        if rows == UNKNOWN:
            return
        open_width = cell.loose or cell.spec.row_shape is None
        if len(values) != rows and not (open_width and rows and len(values) and len(values) % rows == 0):
            yield kind, "error", f"{counted(len(values), 'row')} of values for {rows} {of}"
        elif cell.spec.dictionary is not None:
            missing_codes(values, cell.spec.dictionary)


_CHECKS: dict[str, Check] = {
    "vertices": "structure",
    "fragments": "fragments",
    "owners": "fragments",
    "attribute": "counts",
    "links": "links",
    "link_fragments": "links",
    "link_attribute": "links",
}


def _slack(corner: Floats) -> Array:
    """Tolerance: float32 positions may lie a rounding error outside bounds stated in float64."""
    return np.abs(corner) * np.finfo(np.float32).eps
