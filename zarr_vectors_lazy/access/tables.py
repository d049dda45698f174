"""What tasks run to turn a table of links, whose records name their chunks, into rows of a level (spec 0.7, 4.5)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from zarr_vectors_lazy.access.level import Source
from zarr_vectors_lazy.access.objects import read_dense
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.kernels.rows import Kept
from zarr_vectors_lazy.model.arrays import DenseArray
from zarr_vectors_lazy.model.chunks import ChunkTable, dotted
from zarr_vectors_lazy.types import BoolArray, ChunkCoords, IntArray

Parents = Mapping[int, tuple[IntArray, IntArray, IntArray]]
"""By chunk: rows of it that have a stored parent, the parents' rows in the view, -1 where they are not in it, and the
records of the table that say so."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """A table of links and the chunks that its records may lead to.

    Parameters
    ----------
    source
        The level.
    records
        (R, L, K + 1) int64.
    here
        (n, K) chunks of the view, ascending.
    there
        (m, K) chunks of the level of endpoints 1.., where that is another one.
    whole
        Whether all chunks of the level are in the view.
    """

    source: Source
    records: DenseArray
    here: ChunkCoords
    there: ChunkCoords | None
    whole: bool


def table_rows(
    table: Table, here: IntArray, there: IntArray | None, kept: Mapping[int, Kept]
) -> tuple[IntArray, BoolArray, IntArray]:
    """Rows of the endpoints of all records, which have all of them selected, and how many they are.

    Parameters
    ----------
    here, there
        (n + 1,) row numbers of the chunks of the view, and of those of the other level.
    kept
        Selected rows by chunk of the view, where not all are.

    Raises
    ------
    FormatError
        If a record names a chunk or a row that is not there.
    """
    records = read_dense(table.source, table.records)
    columns = []
    for end in range(records.shape[1]):
        if end and table.there is not None and there is not None:
            columns.append(_number(table, records[:, end], table.there, there, {}, whole=True)[1])
        else:
            columns.append(_number(table, records[:, end], table.here, here, kept, whole=table.whole)[1])
    rows = np.stack(columns, axis=1)
    return rows, np.asarray((rows >= 0).all(axis=1)), np.asarray([len(rows)], np.int64)


def table_parents(table: Table, starts: IntArray, kept: Mapping[int, Kept]) -> Parents:
    """Records of a skeleton, (child, parent), by the chunk of the child; parameters and errors as `table_rows`."""
    records = read_dense(table.source, table.records)
    chunk, _ = _number(table, records[:, 0], table.here, starts, kept, whole=table.whole)
    _, parents = _number(table, records[:, 1], table.here, starts, kept, whole=table.whole)
    order = np.argsort(chunk, kind="stable")
    order = order[chunk[order] >= 0]
    named, firsts = np.unique(chunk[order], return_index=True)
    parts = zip(named.tolist(), np.split(order, firsts[1:]), strict=True) if len(named) else ()
    return {number: (records[part, 0, -1], parents[part], part) for number, part in parts}


def table_values(
    source: Source, values: DenseArray, dtype: np.dtype[Any], resolved: tuple[IntArray, BoolArray, IntArray]
) -> np.ndarray[Any, Any]:
    """Values of a table's records whose ends are all selected."""
    return read_dense(source, values).astype(dtype, copy=False)[resolved[1]]


def _number(
    table: Table,
    named: IntArray,
    coords: ChunkCoords,
    starts: IntArray,
    kept: Mapping[int, Kept],
    *,
    whole: bool,
) -> tuple[IntArray, IntArray]:
    """Chunk and row in the view of one endpoint of each record; -1 where it is not in the view."""
    chunk = ChunkTable(coords).find(named[:, :-1])
    rows = named[:, -1]
    if whole and (chunk < 0).any():
        raise _dangling(table, f"names chunk {dotted(named[chunk < 0][0, :-1])!r}, which the level does not have")
    totals = np.append(np.diff(starts), 0)  # the last for chunk -1
    for number, choice in kept.items():
        totals[number] = choice.total
    wrong = (chunk >= 0) & ((rows < 0) | (rows >= totals[chunk]))
    if wrong.any():
        at = int(np.argmax(wrong))
        where = f"row {int(rows[at])} of chunk {dotted(named[at, :-1])!r}, which has {int(totals[chunk[at]])}"
        raise _dangling(table, f"names {where}")
    out = np.where(chunk >= 0, starts[chunk] + rows, -1)
    order = np.argsort(chunk, kind="stable")
    bounds = np.searchsorted(
        chunk[order], np.asarray([[number, number + 1] for number in kept], np.int64).reshape(-1, 2)
    )
    for (number, choice), (first, last) in zip(kept.items(), bounds.tolist(), strict=True):
        part = order[first:last]
        at_rows = choice.renumber(rows[part])
        out[part] = np.where(at_rows >= 0, at_rows + starts[number], -1)
    return chunk, out


def _dangling(table: Table, reason: str) -> FormatError:
    return FormatError(f"a link of {table.records.path!r} {reason}", where=table.source.spec.url)
