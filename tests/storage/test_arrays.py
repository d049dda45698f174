import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec
from zarr.storage import LocalStore, MemoryStore

from zarr_vectors_lazy.errors import FormatError
from zarr_vectors_lazy.storage.fetch import connect, zarr_array, zarr_cells
from zarr_vectors_lazy.storage.requests import counting
from zarr_vectors_lazy.storage.resolve import resolve

pytestmark = pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")
SHAPE = (4, 6)
ALL = np.array([(i, j) for j in range(6) for i in range(4)])


def cell(i, j):
    return b"" if (i + j) % 3 == 0 else bytes([i, j, 0]) * (1 + 50 * i)


def write(store, name, shards, compressors):
    array = zarr.create_array(
        store,
        name=name,
        shape=SHAPE,
        chunks=(1, 1),
        shards=shards,
        dtype="variable_length_bytes",
        compressors=compressors,
    )
    for i, j in ALL:
        if cell(i, j):
            array[i : i + 1, j : j + 1] = np.array([[cell(int(i), int(j))]], dtype=object)


@pytest.mark.parametrize("codec", [None, ZstdCodec(), GzipCodec(), BloscCodec()], ids=lambda c: type(c).__name__)
@pytest.mark.parametrize("shards", [None, (2, 3)])
@pytest.mark.parametrize("kind", ["local", "zarr", "obstore"])
def test_cells_of_every_codec(tmp_path, kind, shards, codec):
    store = MemoryStore() if kind == "zarr" else LocalStore(tmp_path)
    write(store, "0/cells", shards, codec)
    spec = resolve(store) if kind != "obstore" else resolve(tmp_path, backend="obstore")
    with counting() as counts:
        assert zarr_cells(connect(spec), "0/cells", ALL) == [cell(int(i), int(j)) for i, j in ALL]
    assert counts.requests <= 1 + (24 if shards is None else 2 * 4 + 24)
    assert zarr_cells(connect(spec), "0/cells", ALL[[7, 3]]) == [cell(*map(int, ALL[k])) for k in (7, 3)]
    assert zarr_cells(connect(spec), "0/cells", ALL[:0]) == []


def test_rows_of_a_dense_array(backend_of_dense):
    backend, data = backend_of_dense
    assert np.array_equal(zarr_array(backend, "d", 3, 9), data[3:9])


def test_an_array_written_anew_is_opened_anew(backend_of_dense, tmp_path):
    """The handle of the old one has its dtype and chunks."""
    backend, _ = backend_of_dense
    zarr_array(backend, "d", 0, 1, version="old")
    data = np.arange(20, dtype="int16").reshape(10, 2)
    zarr.create_array(LocalStore(tmp_path), name="d", data=data, chunks=(3, 1), overwrite=True)
    assert np.array_equal(zarr_array(backend, "d", 0, 9, version="new"), data[:9])
    with counting() as counts:
        zarr_array(backend, "d", 0, 3, version="new")
    assert not [key for key in counts.keys if key.endswith("zarr.json")]


@pytest.fixture
def backend_of_dense(tmp_path):
    data = np.arange(36, dtype="float32").reshape(12, 3)
    zarr.create_array(LocalStore(tmp_path), name="d", data=data, chunks=(5, 2))
    return connect(resolve(tmp_path)), data


def test_what_zarr_cannot_decode_is_a_format_error(tmp_path):
    store = LocalStore(tmp_path)
    write(store, "cells", None, ZstdCodec())
    (tmp_path / "cells" / "c" / "1" / "1").write_bytes(b"rubbish")
    with pytest.raises(FormatError, match="cells") as caught:
        zarr_cells(connect(resolve(tmp_path)), "cells", ALL)
    assert [tuple(ALL[row]) for row in caught.value.rows] == [(1, 1)]
    with pytest.raises(FormatError, match="nothing"):
        zarr_cells(connect(resolve(tmp_path)), "nothing", ALL)
