"""Whether cells of one chunk that were fetched together have as many rows as each other."""

import math
from collections.abc import Sequence

from zarr_vectors_lazy.access.wanted import Wanted
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.model.arrays import CellSpec
from zarr_vectors_lazy.types import Raw


def check_rows(wanted: Sequence[Wanted], out: dict[tuple[str, int], Raw]) -> None:
    """Put an error in the place of each cell of values that cannot belong to the positions fetched with it.

    Only the sizes that cells state are looked at; where they do not tell, the tasks that decode find out, if they know
    how many rows there are.
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
                text = f"{nbytes} bytes of {spec.dtype} cannot be the values of the chunk's {count} vertices"
                out[want.member, chunk] = FormatError(text)


def _unit(spec: CellSpec) -> int:
    return 4 if spec.dtype.kind == "U" else spec.dtype.itemsize  # texts are as wide as their chunk's longest


def _nbytes(spec: CellSpec, raw: Raw) -> int | None:
    if raw is None or isinstance(raw, Exception) or not spec.layout.direct:
        return None
    return spec.layout.head_nbytes(raw)
