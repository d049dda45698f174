"""Fetch the cells of a batch, and decode them, naming the place in every error."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Literal, NoReturn, TypeAlias

import numpy as np

from zarr_vectors_lazy.errors import CorruptChunkError, FormatError, counted
from zarr_vectors_lazy.format.chain import ChainLayout
from zarr_vectors_lazy.format.manifests import decode_fragments, decode_ranges
from zarr_vectors_lazy.format.vectors import (
    decode_categories,
    decode_link_run,
    decode_links,
    decode_rows,
    decodes_exactly,
    join_payloads,
)
from zarr_vectors_lazy.model.arrays import CellArray, CellSpec, LinkCoding, LinkFamily, LinkValues, Places
from zarr_vectors_lazy.model.levels import dotted
from zarr_vectors_lazy.model.objects import FragmentRun, Fragments, join_fragments
from zarr_vectors_lazy.read.level import LevelData, Source, adopt_limits, read_level
from zarr_vectors_lazy.requests import Steps
from zarr_vectors_lazy.storage.base import Backend
from zarr_vectors_lazy.storage.fetch import connect
from zarr_vectors_lazy.storage.zarr import zarr_cells
from zarr_vectors_lazy.types import Array, Blob, Buffer, ChunkCoords, IntArray, Payload, Raw, Vertices

# What a batch fetches.

Role: TypeAlias = Literal["", "rows", "values"]


@dataclass(frozen=True, slots=True)
class Requested:
    """Cells of one array that a batch fetches.

    Parameters
    ----------
    member
        Their name in the batch's answer.
    spec
        How they are read.
    rows
        Their numbers in the batch's answer.
    coords
        (n, K) their chunks.
    head
        Whether the head of each cell is enough.
    places
        Places of the cells, if some share objects.
    role
        Whether they are the rows of their chunks, or values that have as many rows.
    """

    member: str
    spec: CellSpec
    rows: tuple[int, ...]
    coords: ChunkCoords
    head: bool = False
    places: Places | None = None
    role: Role = ""

    @classmethod
    def of(cls, member: str, array: CellArray, at: IntArray, rows: IntArray, *, head: bool = False) -> "Requested":
        """Those of an array with the numbers ``at``, (n,), in the array, which the answer numbers by ``rows``."""
        places = None if array.places is None else array.places.take(at)
        return cls(member, array.spec, tuple(rows.tolist()), array.chunks.coords[at], head, places)

    def steps(self) -> Steps[list[Raw]]:
        """The conversation that fetches them."""
        layout = self.spec.layout
        return (layout.fetch_heads if self.head else layout.fetch)(self.coords, self.places)


# Whether cells of one chunk that were fetched together have the same number of rows.


def check_rows(wanted: Sequence[Requested], out: dict[tuple[str, int], Raw]) -> None:
    """Put an error in place of each cell of values that cannot belong to the positions fetched with it.

    This compares only the sizes that cells state; otherwise the tasks that decode find out, if they know how many rows
    there are.
    """
    values = [want for want in wanted if want.role == "values"]
    rows = next((want for want in wanted if want.role == "rows" and not want.head), None)
    if rows is None or not values:
        return
    row = _unit(rows.spec) * math.prod(rows.spec.row_shape or ())
    counts = {
        chunk: nbytes // row
        for chunk in rows.rows
        if (nbytes := _nbytes(rows.spec, out[rows.member, chunk])) is not None and nbytes % row == 0
    }
    for want in values:
        spec, unit = want.spec, _unit(want.spec)
        exact = spec.row_shape is not None and spec.dtype.kind != "U"
        for chunk in want.rows:
            count, nbytes = counts.get(chunk), _nbytes(spec, out[want.member, chunk])
            if count is None or nbytes is None:
                continue
            each = count * unit * (math.prod(spec.row_shape or ()) if exact else 1)
            if nbytes != each if exact else nbytes % max(each, 1) or bool(nbytes) != bool(each):
                needed = counted(count, "vertex")
                text = f"{counted(nbytes, 'byte')} of {spec.dtype} cannot be the values of the chunk's {needed}"
                out[want.member, chunk] = FormatError(text)


def _unit(spec: CellSpec) -> int:
    return 4 if spec.dtype.kind == "U" else spec.dtype.itemsize  # texts are as wide as the longest in their chunk


def _nbytes(spec: CellSpec, raw: Raw) -> int | None:
    if raw is None or isinstance(raw, Exception) or not spec.layout.direct:
        return None
    return spec.layout.head_nbytes(raw)


# What tasks run: fetch the cells of a batch, and decode a cell, naming the place in every error.


def read_batch(source: Source, wanted: Sequence[Requested]) -> dict[tuple[str, int], Raw]:
    """Fetch cells of one or more arrays, all concurrently; returns encoded bytes by (member, row)."""
    direct = [want for want in wanted if want.spec.layout.direct]
    out: dict[tuple[str, int], Raw] = {}
    for want, raws in zip(direct, read_level(source, [want.steps() for want in direct]), strict=True):
        out.update(((want.member, row), raw) for row, raw in zip(want.rows, raws, strict=True))
    for want in wanted:
        if not want.spec.layout.direct:
            cells = _read_through_zarr(connect(source.spec), want)
            out.update(((want.member, row), raw) for row, raw in zip(want.rows, cells, strict=True))
    check_rows(wanted, out)
    return out


def _read_through_zarr(backend: Backend, want: Requested) -> list[Raw]:
    """Payloads, or for cells that zarr cannot decode their errors, so that a bad cell leaves the others readable."""
    indices = want.spec.layout.zarr_indices(want.coords)
    cells: list[Raw] = [None] * len(indices)
    rest = np.arange(len(indices))
    while len(rest):
        try:
            found = zarr_cells(backend, want.spec.path, indices[rest])
        except FormatError as error:
            blamed = getattr(error, "rows", []) or np.arange(len(rest))  # no row: the metadata are to blame
            for row in rest[blamed].tolist():
                cells[row] = error
            rest = np.delete(rest, blamed)
        else:
            for row, cell in zip(rest.tolist(), found, strict=True):
                cells[row] = cell or None
            break
    return cells


class error_context:
    """Turn a FormatError about bytes into a CorruptChunkError that names the place."""

    __slots__ = ("coord", "source", "spec")

    def __init__(self, source: Source, spec: CellSpec, coord: Sequence[int]) -> None:
        self.source, self.spec, self.coord = source, spec, coord

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, FormatError) and not isinstance(error, CorruptChunkError):
            raise _corrupt(self.source, self.spec, self.coord, error.message) from error


def _corrupt(source: Source, spec: CellSpec, coord: Sequence[int], reason: str) -> CorruptChunkError:
    level, path = source.level, spec.path
    if isinstance(spec.layout, ChainLayout):
        level, path, coord = spec.layout.place(coord)
    return CorruptChunkError(reason, level=level, array=path, chunk=dotted(coord), url=source.spec.url)


def read_payload(source: Source, spec: CellSpec, coord: Sequence[int], raw: Raw) -> Buffer:
    """Payload of a listed cell.

    Raises
    ------
    CorruptChunkError
        If there is no object, or the codecs cannot decode its bytes.
    """
    if raw is None:
        raise _corrupt(source, spec, coord, "it is listed, but there is no such object")
    if isinstance(raw, Exception):
        raise _corrupt(source, spec, coord, str(raw)) from raw
    if isinstance(raw, Payload) or not spec.layout.direct:
        assert not isinstance(raw, Blob)
        return raw
    adopt_limits()
    with error_context(source, spec, coord):
        return spec.layout.decode(raw)


def read_payloads(source: Source, spec: CellSpec, coords: ChunkCoords, raws: Sequence[Raw]) -> list[Buffer]:
    """Payloads of listed cells, (n, K); raises like `read_payload`."""
    if all(isinstance(raw, Payload) for raw in raws):
        return list(raws)  # type: ignore[arg-type]
    adopt_limits()
    return decode_payloads(source, spec, coords, raws)


def decode_payloads(source: Source, spec: CellSpec, coords: ChunkCoords, raws: Sequence[Raw]) -> list[Buffer]:
    """Return the same, with the limits that this process had when it last fetched something."""
    decode, direct, found = spec.layout.decode, spec.layout.direct, []
    for row, raw in enumerate(raws):
        if raw is None or isinstance(raw, Exception) or not direct:
            found.append(read_payload(source, spec, coords[row].tolist(), raw))
            continue
        try:
            found.append(raw if isinstance(raw, Payload) else decode(raw))
        except FormatError as error:
            raise _corrupt(source, spec, coords[row].tolist(), error.message) from error
    return found


def read_row_run(
    source: Source,
    spec: CellSpec,
    coords: ChunkCoords,
    raws: Sequence[Raw],
    row_shape: tuple[int, ...],
    counts: IntArray | None = None,
) -> tuple[Array, IntArray]:
    """Rows of several cells, one after another, and where the rows of each cell begin.

    Parameters
    ----------
    counts
        (n,) rows that the metadata promise, or None.

    Returns
    -------
    (N, *row_shape) read-only, and (n + 1,) int64.
    """
    payloads = read_payloads(source, spec, coords, raws)
    nbytes = spec.dtype.itemsize * math.prod(row_shape)
    ends = list(accumulate(map(len, payloads), initial=0))
    starts, wrong = np.divmod(np.asarray(ends, np.int64), max(nbytes, 1))
    if wrong.any() or not nbytes:
        at = int(np.flatnonzero(wrong)[0]) - 1 if nbytes else 0
        with error_context(source, spec, coords[at].tolist()):
            decode_rows(payloads[at], spec.dtype, row_shape)
    if counts is not None and ((found := starts[1:] - starts[:-1]) != counts).any():
        at = int(np.flatnonzero(found != counts)[0])
        check_count(source, spec, coords[at].tolist(), int(found[at]), int(counts[at]))
    values = decode_rows(join_payloads(payloads), spec.dtype, row_shape)
    return values, starts


def read_vertices(source: Source, spec: CellSpec, coord: Sequence[int], raw: Raw, count: int | None) -> Vertices:
    """Positions of one chunk; (N, D), rows as stored.

    Parameters
    ----------
    count
        Rows that the metadata promise, or None.

    Raises
    ------
    CorruptChunkError
        If the cell is missing or undecodable.
    FormatError
        If the metadata promise another count.
    """
    payload = read_payload(source, spec, coord, raw)
    with error_context(source, spec, coord):
        found = decode_rows(payload, spec.dtype, spec.row_shape or ())
    check_count(source, spec, coord, len(found), count)
    return found


def check_count(source: Source, spec: CellSpec, coord: Sequence[int], found: int, count: int | None) -> None:
    """Raise FormatError if metadata promise another number of rows than was read."""
    if count is not None and found != count:
        raise FormatError(
            f"chunk {dotted(coord)!r} of {spec.path!r} has {counted(found, 'row')}, but its count is {count}: "
            "run zvl.index",
            where=source.spec.url,
        )


def read_row_count(source: Source, spec: CellSpec, coord: Sequence[int], raw: Raw) -> int:
    """Rows of a chunk, from the head of its cell if that states them, otherwise from the whole cell."""
    row = spec.dtype.itemsize * math.prod(spec.row_shape or ())
    if raw is not None and not isinstance(raw, Exception) and spec.layout.direct:
        nbytes = spec.layout.head_nbytes(raw)
        if nbytes is not None and nbytes >= 0 and nbytes % row == 0:
            return nbytes // row
        if isinstance(raw, Blob):
            raise _corrupt(source, spec, coord, f"{nbytes} bytes are not a whole number of rows of {row} bytes")
        (raw,) = read_batch(source, [Requested("cell", spec, (0,), np.asarray([coord], np.int64))]).values()
    payload = read_payload(source, spec, coord, raw)
    with error_context(source, spec, coord):
        return len(decode_rows(payload, spec.dtype, spec.row_shape or ()))


def count_rows(source: Source, spec: CellSpec, coords: ChunkCoords, raws: Sequence[Raw]) -> IntArray:
    """(n,) rows of chunks; see `read_row_count`."""
    counts = [read_row_count(source, spec, coord, raw) for coord, raw in zip(coords.tolist(), raws, strict=True)]
    return np.asarray(counts, np.int64)


def count_cells(source: Source, array: CellArray, at: IntArray) -> IntArray:
    """(n,) rows of the cells with the numbers ``at`` in an array; see `read_row_count`."""
    raws = read_batch(source, [Requested.of("", array, at, np.arange(len(at)), head=True)])
    return count_rows(source, array.spec, array.chunks.coords[at], list(raws.values()))


def read_attribute(
    source: Source, spec: CellSpec, coord: Sequence[int], raw: Raw, row_shape: tuple[int, ...], count: int | None
) -> Array:
    """Stored rows of a vertex attribute of one chunk; codes if it is dictionary-encoded."""
    payload = read_payload(source, spec, coord, raw)
    with error_context(source, spec, coord):
        values = decode_rows(payload, spec.dtype, row_shape)
        if count is not None and len(values) != count:
            raise FormatError(
                f"the attribute has {counted(len(values), 'row')}, but the chunk {counted(count, 'vertex')} "
                "(or its stored count is wrong: run zvl.index)"
            )
    return values


def read_text(source: Source, spec: CellSpec, coord: Sequence[int], raw: Raw, shape: tuple[int, ...]) -> Array:
    """Stored text of one chunk, with the width that follows from its bytes and its number of rows."""
    payload = read_payload(source, spec, coord, raw)
    with error_context(source, spec, coord):
        values = int(np.prod(shape, dtype=np.int64))
        width = len(payload) // (4 * values) if values else 0
        if not width or len(payload) != 4 * values * width:
            raise FormatError(f"{len(payload)} bytes are not the text of {values} values")
        return np.frombuffer(payload, f"<U{width}").reshape(shape)


def read_categories(source: Source, spec: CellSpec, coord: Sequence[int], codes: Array) -> Array:
    """Values of dictionary codes, or of integers some of which are missing.

    Raises
    ------
    FormatError
        If some integers are missing and float64 cannot hold the others.
    """
    assert spec.dictionary is not None
    if codes.dtype.kind in "iu" and not decodes_exactly(codes, spec.dictionary):
        refuse_floats(source, spec)
    with error_context(source, spec, coord):
        return decode_categories(codes, spec.dictionary)


def refuse_floats(source: Source, spec: CellSpec) -> NoReturn:
    """Raise the FormatError for integers that no plain array can hold together with missing ones."""
    name = spec.path.rpartition("/")[2]
    raise FormatError(
        f"{spec.path!r} has integers that float64 cannot hold exactly, and some are missing: a plain array "
        f"would round them. Use a data frame, or level.codes[{name!r}], the stored integers, and for a dictionary "
        f"level.categories[{name!r}]",
        where=source.spec.url,
    )


def read_fragments(source: Source, spec: CellSpec, coord: Sequence[int], raw: Raw) -> Fragments:
    """Fragment index of one chunk."""
    payload = read_payload(source, spec, coord, raw)
    with error_context(source, spec, coord):
        return decode_fragments(payload)


def read_fragment_run(
    source: Source, spec: CellSpec, coords: ChunkCoords, raws: Sequence[Raw], starts: IntArray
) -> FragmentRun:
    """Fragment indexes of several chunks; chunk c has the rows ``starts[c]:starts[c + 1]``.

    Raises
    ------
    CorruptChunkError
        If a cell is missing or undecodable, or names rows that its chunk does not have.
    """
    payloads = read_payloads(source, spec, coords, raws)
    run = decode_ranges(payloads, starts)
    if run is None:
        parts = []
        for coord, payload in zip(coords.tolist(), payloads, strict=True):
            with error_context(source, spec, coord):
                parts.append(decode_fragments(payload))
        run = join_fragments(parts, starts)
    wrong = run.outside()
    if wrong is not None:
        chunk, row = wrong
        raise _corrupt(
            source,
            spec,
            coords[chunk].tolist(),
            f"fragments refer to row {row}, but the chunk has {int(np.diff(starts)[chunk])} "
            "(or its stored count is wrong: run zvl.index)",
        )
    return run


def read_link_run(
    source: Source, arrays: Sequence[tuple[CellSpec, ChunkCoords, Sequence[Raw]]], coding: LinkCoding
) -> tuple[IntArray, IntArray, IntArray]:
    """Records of cells of arrays with one coding; see `format.vectors.decode_link_run`."""
    payloads = [read_payloads(source, spec, coords, raws) for spec, coords, raws in arrays]
    try:
        return decode_link_run([payload for some in payloads for payload in some], coding)
    except FormatError:
        for (spec, coords, _), some in zip(arrays, payloads, strict=True):
            for coord, payload in zip(coords.tolist(), some, strict=True):
                with error_context(source, spec, coord):  # names the bad cell
                    decode_links(payload, coding)
        raise


def read_links(source: Source, spec: CellSpec, coord: Sequence[int], raw: Raw, coding: LinkCoding) -> IntArray:
    """Records of one cell; (M, 2, L), see `format.vectors.decode_links`."""
    payload = read_payload(source, spec, coord, raw)
    with error_context(source, spec, coord):
        return decode_links(payload, coding)


# Widths that the metadata leave open, determined once from the cells.

MORE = 16  # how many times more chunks are tried if those tried so far are empty


def vertex_row_shape(data: LevelData, array: CellArray) -> tuple[int, ...]:
    """Row shape of a vertex attribute (spec 0.9, 6, "Robust width rule"; spec 0.7, 4.6).

    This reads the heads of one cell of it, and of the positions of the same chunk, if the writer is known to state
    vectors as scalars, or to state nothing.
    """
    if array.spec.row_shape is not None:
        return array.spec.row_shape
    return () if is_scalar(data, array) else _once(data, data.vertices, array)


def is_scalar(data: LevelData, array: CellArray) -> bool:
    """Whether the metadata suffice: those of point clouds are right, in 0.7 by the names of channels alone."""
    stated = array.attributes.get("row_shape") is not None or not data.generation.changeable
    return stated and set(data.store.geometry_types) == {"point_cloud"}


def link_row_shape(data: LevelData, family: LinkFamily, values: LinkValues) -> tuple[int, ...]:
    """Row shape of a link attribute: as stated, or as its cells and those of the records show (spec 0.7, 4.6)."""
    if values.table is not None:
        return values.table.shape[1:]
    stated = [array.spec.row_shape for array in values.cells.values()]
    sure = any("row_shape" in array.attributes for array in values.cells.values())
    if not stated or sure or any(stated):
        return next((shape for shape in stated if shape), ())
    for segment in family.segments:
        array = values.cells.get(segment.name)
        if array is not None:
            coding = segment.coding
            width = coding.width + coding.permuted
            records = replace(segment.array, spec=replace(segment.array.spec, row_shape=(width,)))
            return () if coding.grouped else _once(data, records, array)
    return ()


def _once(data: LevelData, rows: CellArray, values: CellArray) -> tuple[int, ...]:
    found = data.row_shapes.get(values.spec.path)
    if found is None:
        found = data.row_shapes[values.spec.path] = _probed(data, rows, values)
    return found


def _probed(data: LevelData, rows: CellArray, values: CellArray) -> tuple[int, ...]:
    shared = np.flatnonzero(rows.chunks.find(values.chunks.coords) >= 0)
    first, asked = 0, 1
    while first < len(shared):
        found = _ratio(data, rows, values, values.chunks.coords[shared[first : first + asked]])
        if found is not None:
            return found
        first, asked = first + asked, asked * MORE
    return ()


def _ratio(data: LevelData, rows: CellArray, values: CellArray, coords: IntArray) -> tuple[int, ...] | None:
    """Values per row in the first chunk that has rows; None if none has."""
    arrays, numbers = (("rows", rows), ("values", values)), np.arange(len(coords))
    wanted = [Requested.of(name, array, array.chunks.find(coords), numbers, head=True) for name, array in arrays]
    raws = read_batch(data.source, wanted)
    for i, coord in enumerate(coords.tolist()):
        n = read_row_count(data.source, rows.spec, coord, raws["rows", i])
        total = read_row_count(data.source, values.spec, coord, raws["values", i])
        if n and (total % n or not total):
            raise FormatError(
                f"{counted(total, 'value')} for {counted(n, 'row')} in chunk {dotted(coord)!r}", where=values.spec.path
            )
        if n:
            return () if total == n else (total // n,)
    return None
