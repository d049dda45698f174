"""What tasks run to carry link records: decoded, and placed as the written format places them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from zarr_vectors_lazy.access.level import Source
from zarr_vectors_lazy.access.objects import read_dense
from zarr_vectors_lazy.access.read import read_links, read_payload
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.writing import encode_rows, encode_tiling, place_links
from zarr_vectors_lazy.model.arrays import CellSpec, DenseArray
from zarr_vectors_lazy.model.chunks import ChunkTable
from zarr_vectors_lazy.model.links import LinkCoding
from zarr_vectors_lazy.types import Buffer, ChunkCoords, IntArray, Raw


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CarriedFamily:
    """A link family.

    Parameters
    ----------
    delta
        Level of endpoints 1.. minus this level.
    member, spec, coding
        The cells of records inside chunks, or that lead to the chunk of the same coordinate; None for none.
    values
        Member, how it is read, by attribute.
    scale
        (here, there) (K,) edges of a chunk of this and of the other level in chunks of the root.
    """

    delta: int
    member: str
    spec: CellSpec | None
    coding: LinkCoding | None
    values: dict[str, tuple[str, CellSpec]] = field(default_factory=dict)
    scale: tuple[IntArray, IntArray] | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LinkPart:
    """The records of one segment that begin in one chunk.

    Parameters
    ----------
    segment
        Its name.
    payload
        As stored.
    count
        Records.
    values
        Payloads of attributes, aligned.
    """

    segment: str
    payload: Buffer
    count: int
    values: dict[str, Buffer]

    def fragments(self) -> bytes:
        """Their fragment index: one range."""
        return encode_tiling(np.asarray([self.count], np.int64))


TablePart: TypeAlias = dict[int, list[LinkPart]] | dict[int, IntArray]
"""By chunk: records inside the level, placed; or records to another level, (R, L, K + 1)."""


def place_table(
    source: Source,
    table: DenseArray,
    coords: ChunkCoords,
    values: Mapping[str, DenseArray],
    runs: Sequence[IntArray],
) -> list[dict[int, list[LinkPart]]]:
    """Place the records of a table inside a level; for each run of chunks those that begin there."""
    records = read_dense(source, table)
    chunks = ChunkTable(coords).find(records[:, :, :-1].reshape(-1, coords.shape[1])).reshape(records.shape[:2])
    if (chunks < 0).any():
        raise FormatError("a link leads to a chunk that is not there", where=f"{source.spec.url}/{table.path}")
    read = {name: read_dense(source, array) for name, array in values.items()}
    cells = place_links(chunks, records[:, :, -1], np.asarray(coords, np.int64))
    found: dict[int, list[LinkPart]] = {}
    for cell, (segment, chunk) in enumerate(zip(cells.segments, cells.sources.tolist(), strict=True)):
        members = cells.members(cell)
        part = LinkPart(
            segment=segment,
            payload=cells.payload(cell),
            count=len(members),
            values={name: encode_rows(column[members]) for name, column in read.items()},
        )
        found.setdefault(chunk, []).append(part)
    return [{chunk: found[chunk] for chunk in run.tolist() if chunk in found} for run in runs]


def split_table(
    source: Source, table: DenseArray, coords: ChunkCoords, runs: Sequence[IntArray]
) -> list[dict[int, IntArray]]:
    """Cut the records of a table to another level; for each run of chunks those whose first end lies there."""
    records = read_dense(source, table)
    chunk = ChunkTable(coords).find(records[:, 0, :-1])
    if (chunk < 0).any():
        raise FormatError("a link begins in a chunk that is not there", where=f"{source.spec.url}/{table.path}")
    order = np.argsort(chunk, kind="stable")
    named, firsts = np.unique(chunk[order], return_index=True)
    parts = dict(zip(named.tolist(), np.split(records[order], firsts[1:]), strict=True)) if len(named) else {}
    return [{number: parts[number] for number in run.tolist() if number in parts} for run in runs]


def link_parts(
    source: Source,
    family: CarriedFamily,
    chunk: int,
    coord: tuple[int, ...],
    raws: Mapping[tuple[str, int], Raw],
    table: TablePart | None,
) -> list[LinkPart]:
    """Records of a family that begin in a chunk."""
    own: IntArray | None = None
    if family.spec is not None and family.coding is not None and (family.member, chunk) in raws:
        own = read_links(source, family.spec, coord, raws[family.member, chunk], family.coding)[:, 1]
        own = own if len(own) else None
    if family.delta == 0:
        placed: Any = {} if table is None else table
        return _within(source, family, chunk, coord, raws, own, placed.get(chunk, []))
    return _across(family, coord, own, None if table is None else table.get(chunk))  # type: ignore[arg-type]


def _within(
    source: Source,
    family: CarriedFamily,
    chunk: int,
    coord: tuple[int, ...],
    raws: Mapping[tuple[str, int], Raw],
    own: IntArray | None,
    placed: list[LinkPart],
) -> list[LinkPart]:
    if own is None:
        return placed
    cells = place_links(np.zeros_like(own), own, np.asarray([coord], np.int64))
    values: dict[str, Buffer] = {}
    for name, (member, spec) in family.values.items():
        if (member, chunk) in raws:
            values[name] = read_payload(source, spec, coord, raws[member, chunk])
    part = LinkPart(segment=cells.segments[0], payload=cells.payload(0), count=len(own), values=values)
    if any(other.segment == part.segment for other in placed):
        raise FormatError(f"records inside chunk {coord} are stored twice over", where=source.spec.url)
    return [part, *placed]


def _across(
    family: CarriedFamily, coord: tuple[int, ...], own: IntArray | None, table: IntArray | None
) -> list[LinkPart]:
    assert family.scale is not None
    here = np.asarray(coord, np.int64)
    ends, rows = [], []
    if own is not None:
        ends.append(np.broadcast_to(here, (len(own), len(here))))
        rows.append(own)
    if table is not None:
        ends.append(table[:, 1, :-1])
        rows.append(table[:, :, -1])
    if not rows:
        return []
    other, at = np.unique(np.concatenate(ends), axis=0, return_inverse=True)
    chunks = np.stack([np.zeros(len(at), np.int64), at.reshape(-1)], axis=1)
    anchor = here * family.scale[0] // family.scale[1]
    cells = place_links(
        chunks,
        np.concatenate(rows),
        here[None],
        directed=True,
        delta=family.delta,
        other=other,
        anchors=anchor[None],
    )
    return [
        LinkPart(segment=segment, payload=cells.payload(cell), count=len(cells.members(cell)), values={})
        for cell, segment in enumerate(cells.segments)
    ]
