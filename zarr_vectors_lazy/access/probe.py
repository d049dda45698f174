"""Widths that the metadata leave open, asked of the cells once."""

from dataclasses import replace

import numpy as np

from zarr_vectors_lazy.access.level import LevelData
from zarr_vectors_lazy.access.read import read_batch, read_row_count
from zarr_vectors_lazy.access.wanted import Wanted
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.model.arrays import CellArray
from zarr_vectors_lazy.model.chunks import dotted
from zarr_vectors_lazy.model.links import LinkFamily, LinkValues
from zarr_vectors_lazy.types import IntArray

MORE = 16  # times as many chunks are asked when those asked so far are empty


def vertex_row_shape(data: LevelData, array: CellArray) -> tuple[int, ...]:
    """Row shape of a vertex attribute (spec 0.9, 6, "Robust width rule"; spec 0.7, 4.6).

    Reads the heads of one cell of it and of the positions of the same chunk where writers are known to state vectors as
    scalars, or to state nothing; point clouds are stated right.
    """
    if array.spec.row_shape is not None:
        return array.spec.row_shape
    if set(data.store.geometry_types) == {"point_cloud"}:
        return ()
    return _once(data, data.vertices, array)


def link_row_shape(data: LevelData, family: LinkFamily, values: LinkValues) -> tuple[int, ...]:
    """Row shape of a link attribute: as stated, else as its cells and those of the records tell (spec 0.7, 4.6)."""
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
    """Values a row in the first of some chunks that has rows; None where none has."""
    at = tuple(range(len(coords)))
    arrays = {"rows": rows, "values": values}
    wanted = [
        Wanted(
            member=name,
            spec=array.spec,
            rows=at,
            coords=coords,
            head=True,
            places=None if array.places is None else array.places.take(array.chunks.find(coords)),
        )
        for name, array in arrays.items()
    ]
    raws = read_batch(data.source, wanted)
    for i, coord in enumerate(coords.tolist()):
        n = read_row_count(data.source, rows.spec, coord, raws["rows", i])
        total = read_row_count(data.source, values.spec, coord, raws["values", i])
        if n and (total % n or not total):
            raise FormatError(f"{total} values for {n} rows in chunk {dotted(coord)!r}", where=values.spec.path)
        if n:
            return () if total == n else (total // n,)
    return None
