import numpy as np
import pytest

from tests.format.encode import cell
from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.format.codecs import Pipeline
from zarr_vectors_lazy.format.v09.arrays import GridLayout
from zarr_vectors_lazy.model.arrays import CellSpec
from zarr_vectors_lazy.read.cells import Requested, check_rows

LAYOUT = GridLayout(path="a", origin=(0,), separator="/", pipeline=Pipeline(()), shards=None)
CHUNKS = (4, 5)


def wanted(member, role, dtype, row_shape, *, head=False):
    spec = CellSpec(path=f"0/{member}", dtype=np.dtype(dtype), row_shape=row_shape, layout=LAYOUT)
    return Requested(member, spec, CHUNKS, np.asarray([[4], [5]]), head=head, role=role)


def checked(values, nbytes, *, head=False):
    """The value cells of two chunks of 3 and 2 vertices, the first of ``nbytes`` bytes, as they are after the check."""
    out = {("vertices", 4): cell(bytes(36)), ("vertices", 5): cell(bytes(24))}
    out |= {("values", 4): cell(bytes(nbytes)), ("values", 5): None}
    check_rows([values, wanted("vertices", "rows", "f4", (3,), head=head)], out)
    assert out["values", 5] is None
    return out["values", 4]


@pytest.mark.parametrize(
    ("dtype", "row_shape", "right", "wrong"),
    [
        ("f8", (), [24], [0, 8, 16, 25, 48]),
        ("f8", (2,), [48], [24, 96]),
        ("f4", None, [12, 24, 36], [0, 4, 8, 16]),
        ("<U3", None, [12, 48, 36], [0, 16, 13]),
    ],
)
def test_values_have_as_many_rows_as_vertices(dtype, row_shape, right, wrong):
    values = wanted("values", "values", dtype, row_shape)
    for nbytes in right:
        assert checked(values, nbytes) == cell(bytes(nbytes))
    for nbytes in wrong:
        error = checked(values, nbytes)
        assert isinstance(error, FormatError)
        assert "the chunk's 3 vertices" in str(error)


def test_where_sizes_do_not_tell_nothing_is_said():
    values = wanted("values", "values", "f8", ())
    out = {("vertices", 4): None, ("vertices", 5): b"short", ("values", 4): cell(b"1"), ("values", 5): cell(b"1")}
    before = dict(out)
    check_rows([values, wanted("vertices", "rows", "f4", (3,))], out)
    check_rows([values], out)
    check_rows([wanted("values", "", "f8", ()), wanted("vertices", "rows", "f4", (3,))], out)
    assert out == before
    assert checked(values, 8, head=True) == cell(bytes(8))
